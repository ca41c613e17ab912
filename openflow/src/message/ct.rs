//! Requests about tracked connections.

use std::net::IpAddr;

/// What a direction of a connection is to look like; what is not said is not asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtTuple {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Source port of TCP, UDP or SCTP.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// Identifier of an ICMP query.
    pub icmp_id: Option<u16>,
    /// ICMP type.
    pub icmp_type: Option<u8>,
    /// ICMP code.
    pub icmp_code: Option<u8>,
}

/// `NXT_CT_FLUSH`: which connections to forget; without any condition all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtFlush {
    /// IP protocol; 0 for any.
    pub protocol: u8,
    /// Zone; none for every zone, or with a tuple zone 0.
    pub zone: Option<u16>,
    /// The direction that began the connection, before any translation.
    pub original: Option<CtTuple>,
    /// The other direction.
    pub reply: Option<CtTuple>,
}
