//! Congestion marks at both ends of a tunnel (RFC 6040, normal mode).

/// The bits of a TOS or traffic class that carry congestion marks.
pub(super) const ECN_MASK: u8 = 3;

/// Not-ECT: the endpoints do not understand marks.
const NOT_ECT: u8 = 0;
/// ECT(1).
const ECT_1: u8 = 1;
/// ECT(0).
const ECT_0: u8 = 2;
/// Congestion experienced.
const CE: u8 = 3;

/// Outer ECN bits for an inner packet's: the same (section 4.1).
pub const fn encapsulated(inner: u8) -> u8 {
    inner & ECN_MASK
}

/// ECN bits of the packet that leaves the tunnel, or `None` if it must be dropped (section 4.2, figure 4).
pub const fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figure 4 of RFC 6040, row by row.
    #[test]
    fn every_pair_leaves_as_the_rfc_says() {
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, leaving) in rows {
            for (outer, leaving) in outer.into_iter().zip(leaving) {
                assert_eq!(decapsulated(inner, outer), leaving, "inner {inner:02b} outer {outer:02b}");
                assert_eq!(decapsulated(0xb8 | inner, 0x28 | outer), leaving, "the DSCP does not count");
            }
            assert_eq!(encapsulated(0xfc | inner), inner);
        }
    }
}
