//! Numbers of the protocols that are parsed here (IANA), and the few reads of big-endian fields.

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of RARP.
pub const ETHERTYPE_RARP: u16 = 0x8035;
/// TPID of a customer VLAN tag (IEEE 802.1Q).
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// TPID of a service VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_VLAN_SERVICE: u16 = 0x88a8;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an Ethernet frame inside a tunnel (RFC 1701: transparent Ethernet bridging).
pub const ETHERTYPE_ETHERNET: u16 = 0x6558;
/// EtherType of MPLS with a downstream-assigned label.
pub const ETHERTYPE_MPLS: u16 = 0x8847;
/// EtherType of MPLS with an upstream-assigned label.
pub const ETHERTYPE_MPLS_UPSTREAM: u16 = 0x8848;
/// Lowest EtherType; smaller numbers are IEEE 802.3 lengths.
pub const ETHERTYPE_MIN: u16 = 0x0600;

/// IPv6 hop-by-hop options.
pub const PROTO_HOP_BY_HOP: u8 = 0;
/// ICMP for IPv4.
pub const PROTO_ICMP: u8 = 1;
/// IGMP.
pub const PROTO_IGMP: u8 = 2;
/// TCP.
pub const PROTO_TCP: u8 = 6;
/// UDP.
pub const PROTO_UDP: u8 = 17;
/// GRE.
pub const PROTO_GRE: u8 = 47;
/// IPv6 routing header.
pub const PROTO_ROUTING: u8 = 43;
/// IPv6 fragment header.
pub const PROTO_FRAGMENT: u8 = 44;
/// Authentication header (RFC 4302).
pub const PROTO_AH: u8 = 51;
/// ICMPv6.
pub const PROTO_ICMPV6: u8 = 58;
/// IPv6 "no next header".
pub const PROTO_NONE: u8 = 59;
/// IPv6 destination options.
pub const PROTO_DESTINATION: u8 = 60;
/// SCTP.
pub const PROTO_SCTP: u8 = 132;

/// ICMPv6 type of a neighbour solicitation (RFC 4861 section 4.3).
pub const ND_SOLICIT: u8 = 135;
/// ICMPv6 type of a neighbour advertisement (RFC 4861 section 4.4).
pub const ND_ADVERT: u8 = 136;
/// ND option: source link-layer address.
pub const ND_OPTION_SOURCE: u8 = 1;
/// ND option: target link-layer address.
pub const ND_OPTION_TARGET: u8 = 2;

/// Length of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
/// Length of a VLAN tag.
pub const VLAN_LEN: usize = 4;
/// Length of an MPLS label stack entry.
pub const MPLS_LEN: usize = 4;
/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Length of an IPv6 header without extensions.
pub const IPV6_LEN: usize = 40;
/// The bottom-of-stack bit of a label stack entry.
pub const MPLS_BOS: u32 = 0x100;

/// Whether an EtherType announces a VLAN tag.
#[inline]
pub const fn is_vlan(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_VLAN_SERVICE
}

/// Whether an EtherType announces a label stack.
#[inline]
pub const fn is_mpls(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_MPLS || ethertype == ETHERTYPE_MPLS_UPSTREAM
}

/// The 16 bits at `at`, if they are there.
#[inline]
pub(crate) fn be16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// The 32 bits at `at`, if they are there.
#[inline]
pub(crate) fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Overwrites `N` bytes at `at`; false if they are not there.
#[inline]
pub(crate) fn put_at<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> bool {
    match bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<N>()) {
        Some(place) => {
            *place = value;
            true
        }
        None => false,
    }
}
