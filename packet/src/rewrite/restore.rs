//! Headers put back to what they were before rewrites, for answers to a packet's sender.

use super::{
    Endpoints, Network, network, pop_vlan, push_vlan, set_addresses, set_endpoints, set_slot, transport,
};
use crate::frame::Frame;
use crate::key::{FRAG_LATER, PacketKey, slot};
use crate::wire::*;

/// The identifier of an ICMP or ICMPv6 query or answer, or what stands in its place; 0 in anything else. No key has it.
pub fn icmp_identifier(frame: &Frame) -> u16 {
    match transport(frame) {
        Some((PROTO_ICMP | PROTO_ICMPV6, l4)) => be16_at(frame.bytes(), l4 + 4).unwrap_or_default(),
        _ => 0,
    }
}

/// Writes what the key `was` says of an IP packet's frame over its headers: Ethernet addresses, VLAN tags (but their drop
/// eligible indicator, which keys lack), addresses, TOS, TTL, flow label, ports, ICMP type and code; and `identifier`, if
/// it is ICMP. Checksums are adapted. Relies on the layers, and keeps them true.
///
/// Returns false if the packet is of other protocols than those in the key; the frame may be anything between both then.
pub fn restore(frame: &mut Frame, was: &PacketKey, identifier: u16) -> bool {
    let (src, dst) = match (network(frame), was.dl_type()) {
        (Some((Network::Ipv4, _)), ETHERTYPE_IPV4) => (slot::NW_SRC, slot::NW_DST),
        (Some((Network::Ipv6, _)), ETHERTYPE_IPV6) => (slot::IPV6_SRC, slot::IPV6_DST),
        _ => return false,
    };
    let protocol = transport(frame).map(|(protocol, _)| protocol);
    if protocol.is_some_and(|protocol| was.get(slot::NW_PROTO) != protocol.into()) {
        return false;
    }
    while pop_vlan(frame) {}
    let tags = [(slot::VLAN_TPID_INNER, slot::VLAN_TCI_INNER), (slot::VLAN_TPID, slot::VLAN_TCI)];
    for (tpid, tci) in tags.map(|(tpid, tci)| (was.get(tpid) as u16, was.get(tci) as u16)) {
        if tci != 0 && !push_vlan(frame, tpid, tci) {
            return false;
        }
    }
    let is_icmp = matches!(protocol, Some(PROTO_ICMP | PROTO_ICMPV6));
    let fields = [slot::DL_SRC, slot::DL_DST, slot::NW_TOS, slot::NW_TTL, slot::IPV6_LABEL];
    let kind = is_icmp.then_some([slot::TP_SRC, slot::TP_DST]);
    for slot in fields.into_iter().chain(kind.into_iter().flatten()) {
        // IPv4 has no flow label.
        set_slot(frame, slot, was.get(slot), slot.ones());
    }
    let (src, dst) = (was.get(src), was.get(dst));
    // A later fragment told no ports.
    if was.get(slot::NW_FRAG) as u8 & FRAG_LATER != 0 {
        return set_addresses(frame, src, dst);
    }
    let src_port = if is_icmp { identifier } else { was.get(slot::TP_SRC) as u16 };
    set_endpoints(frame, &Endpoints { src, dst, src_port, dst_port: was.get(slot::TP_DST) as u16 })
}
