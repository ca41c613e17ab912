//! Which bits of a key a look-up in one subtable depends on.
//!
//! A rule that is not met is shown not to match by one bit that differs. Taking the bits in a fixed order, each rule has a
//! first such bit; the furthest of these, over all rules of a subtable, and all bits before it prove that none matches. The
//! order is that of the headers; fields of the same header that are no addresses or ports count as one bit, so that a mask
//! never shows half of a field that OpenFlow cannot match by halves.

use super::packed::PackedMask;
use super::shards::Node;
use super::subtable::Subtable;
use crate::key::{FlowKey, Mask, PIPELINE_WORD, PipelineKey, Words};
use base::HashSeed;
use packet::key::{Slot, slot};

/// A step of the search.
enum Step {
    /// All bits at once.
    Fields(&'static [Slot]),
    /// Bit by bit, most significant first.
    Prefix(Slot),
}

/// Whole words, for what is not part of the frame's bytes.
const fn words<const N: usize>(first: u8) -> [Slot; N] {
    let mut slots = [Slot::at(first, 0, 64); N];
    let mut i = 0;
    while i < N {
        slots[i] = Slot::at(first + i as u8, 0, 64);
        i += 1;
    }
    slots
}

/// Marks, tunnel and connection of the frame: the last words of its half of the key.
const FRAME_STATE: &[Slot] =
    &words::<{ (PIPELINE_WORD - slot::PKT_MARK.word) as usize }>(slot::PKT_MARK.word);
const PIPELINE: &[Slot] = &words::<{ PipelineKey::WORDS }>(PIPELINE_WORD);

const STEPS: &[Step] = &[
    Step::Fields(&[slot::IN_PORT, slot::RECIRC_ID]),
    Step::Fields(FRAME_STATE),
    Step::Fields(PIPELINE),
    Step::Fields(&[
        slot::DL_TYPE,
        slot::DL_DST,
        slot::DL_SRC,
        slot::VLAN_TCI,
        slot::VLAN_TPID,
        slot::VLAN_TCI_INNER,
        slot::VLAN_TPID_INNER,
        slot::MPLS_LSE0,
        slot::MPLS_LSE1,
        slot::MPLS_LSE2,
    ]),
    Step::Prefix(slot::NW_SRC),
    Step::Prefix(slot::NW_DST),
    Step::Prefix(slot::IPV6_SRC),
    Step::Prefix(slot::IPV6_DST),
    Step::Fields(&[
        slot::NW_FRAG,
        slot::NW_PROTO,
        slot::NW_TOS,
        slot::NW_TTL,
        slot::IPV6_LABEL,
        slot::ARP_SHA,
        slot::ARP_THA,
    ]),
    Step::Prefix(slot::ND_TARGET),
    Step::Prefix(slot::TP_SRC),
    Step::Prefix(slot::TP_DST),
    Step::Fields(&[slot::TCP_FLAGS, slot::ND_OPTIONS_TYPE, slot::ND_RESERVED]),
];

const IPPROTO_ICMP: u128 = 1;
const IPPROTO_ICMPV6: u128 = 58;

/// Length of a proof: a step, and in a [`Step::Prefix`] the number of bits.
type Depth = (usize, u32);

/// The bits of a field by word; the second is none but for fields of 128 bits.
fn words_of(field: Slot) -> [(u8, u64); 2] {
    match field.width {
        128 => [(field.word, u64::MAX), (field.word + 1, u64::MAX)],
        _ => [(field.word, (field.ones() as u64) << field.shift), (field.word, 0)],
    }
}

/// Bits of one word of a mask that belong to one step.
struct Probe {
    step: usize,
    /// Which word of the mask.
    position: usize,
    bits: u64,
    /// In prefixes: what to add to the number of leading zeros of a difference to get the number of bits it takes.
    offset: Option<u32>,
}

impl Probe {
    /// Whether a rule with `value` is excluded by these bits, and how many it takes.
    fn depth(&self, difference: u64) -> Option<Depth> {
        let difference = difference & self.bits;
        let bits = self.offset.map_or(0, |offset| difference.leading_zeros().wrapping_add(offset));
        (difference != 0).then_some((self.step, bits))
    }
}

/// The words of a mask in the order of the steps.
fn probes(mask: &PackedMask, whole_ports: bool) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut add = |step: usize, (word, bits): (u8, u64), offset: Option<u32>| {
        if let Ok(position) = mask.words().binary_search_by_key(&word, |w| w.index) {
            let bits = bits & mask.bits(word);
            if bits != 0 {
                probes.push(Probe { step, position, bits, offset });
            }
        }
    };
    for (i, step) in STEPS.iter().enumerate() {
        match step {
            Step::Fields(slots) => slots.iter().flat_map(|s| words_of(*s)).for_each(|w| add(i, w, None)),
            Step::Prefix(field) if is_port(*field) && whole_ports => add(i, words_of(*field)[0], None),
            Step::Prefix(field) => {
                let [first, second] = words_of(*field);
                // Counted from the field's first bit, and one more to have the differing bit itself.
                add(i, first, Some(1u32.wrapping_sub(first.1.leading_zeros())));
                add(i, second, Some(65));
            }
        }
    }
    probes
}

fn is_port(field: Slot) -> bool {
    field == slot::TP_SRC || field == slot::TP_DST
}

/// Adds to `seen` those bits of `mask` that come before `depth`.
fn add_until(mask: &Mask<FlowKey>, depth: Depth, seen: &mut Mask<FlowKey>) {
    for (i, step) in STEPS.iter().enumerate().take(depth.0 + 1) {
        match step {
            Step::Fields(slots) => slots.iter().for_each(|s| seen.add(*s, mask.slot(*s))),
            Step::Prefix(field) => {
                // No number of bits: all of them.
                let all = i != depth.0 || depth.1 == 0;
                let hidden = if all { 0 } else { field.width as u32 - depth.1 };
                let bits = field.ones() & u128::MAX.checked_shl(hidden).unwrap_or(0);
                seen.add(*field, mask.slot(*field) & bits);
            }
        }
    }
}

/// The node that `key` matches. Adds the bits that this depends on to `seen`.
pub(super) fn find<'a, V: Clone>(
    subtable: &'a Subtable<V>,
    seed: &HashSeed,
    key: &FlowKey,
    seen: &mut Mask<FlowKey>,
) -> Option<&'a Node<V>> {
    if let Some(node) = subtable.find(seed, key) {
        subtable.mask().add_to(seen);
        return Some(node);
    }
    // An ICMP type stands where ports stand, and unlike a port it is matched whole or not at all.
    let whole_ports = [IPPROTO_ICMP, IPPROTO_ICMPV6].contains(&key.slot(slot::NW_PROTO));
    let mask = subtable.mask();
    let probes = probes(mask, whole_ports);
    let ours = mask.values(key);
    let depth = subtable.nodes().filter_map(|node| {
        let differs = |p: &Probe| p.depth(ours.get(p.position)? ^ node.values.get(p.position)?);
        probes.iter().find_map(differs)
    });
    if let Some(depth) = depth.max() {
        add_until(&mask.expand(), depth, seen);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bit that no step covers would make a mask too narrow.
    #[test]
    fn steps_cover_every_field_once() {
        let mut covered = Mask::<FlowKey>::empty();
        for step in STEPS {
            let slots = match step {
                Step::Fields(slots) => *slots,
                Step::Prefix(slot) => std::slice::from_ref(slot),
            };
            for s in slots {
                assert_eq!(covered.slot(*s), 0, "{s:?} twice");
                covered.add_all(*s);
            }
        }
        for s in slot::ALL {
            assert_eq!(covered.slot(*s), s.ones(), "{s:?} not covered");
        }
        for i in PIPELINE_WORD as usize..FlowKey::LEN {
            assert_eq!(covered.0.word(i), u64::MAX, "pipeline word {i} not covered");
        }
    }
}
