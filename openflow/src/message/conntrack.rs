//! Connections, as controllers name them.

use std::net::IpAddr;

/// `NXT_CT_FLUSH`: forgets connections. Without any property all are meant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CtFlush {
    /// The zone; `None` for all.
    pub zone: Option<u16>,
    /// IP protocol; 0 for any.
    pub protocol: u8,
    /// What the original direction's packets have.
    pub original: CtTuple,
    /// What the replies have.
    pub reply: CtTuple,
}

/// Part of a connection's tuple. Clients write zeros for what they do not mean, so zero reads as `None`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CtTuple {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address, of the same family.
    pub dst: Option<IpAddr>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// Identifier of ICMP and ICMPv6 queries.
    pub icmp_id: Option<u16>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code.
    pub icmp_code: Option<u8>,
}

impl CtTuple {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == CtTuple::default()
    }
}
