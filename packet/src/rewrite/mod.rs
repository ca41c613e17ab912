//! Changes of header fields in place, with every checksum that covers them kept right incrementally.
//!
//! [`set_slot`] is the one entry for fields: a field is named by the slot that [`PacketKey::extract`] put it in, so an
//! action "set this field" needs no table of its own. Tags and labels are pushed and popped in [`tags`].
//!
//! A checksum that was wrong stays wrong by the same amount: nothing here hides corruption. A partial checksum
//! ([`Checksum::Partial`]) stays partial. Fields that only say how the rest is to be read (EtherType, IP protocol,
//! fragment bits, TCP flags) are not written here.
//!
//! [`PacketKey::extract`]: crate::PacketKey::extract

mod endpoints;
mod ends;
mod fields;
mod restore;
pub mod tags;

use crate::checksum::{Delta, udp_checksum};
use crate::crc32c;
use crate::extract::Extensions;
use crate::frame::{Checksum, Frame, NO_LAYER};
use crate::key::{Slot, slot};
use crate::wire::*;

pub use endpoints::{Endpoints, Quoted, set_addresses, set_endpoints, set_quoted_endpoints};
pub use ends::EndsRewrite;
pub use restore::{icmp_identifier, restore};
pub use tags::{pop_mpls, pop_vlan, push_mpls, push_vlan};

/// Writes the bits of `mask` of a field. `value` and `mask` are right-aligned in the width of the slot, as in a key.
/// Relies on `frame.layers`, which [`PacketKey::extract`](crate::PacketKey::extract) filled and every function here keeps true.
///
/// Returns false, and changes nothing, if the frame has no such field or the field cannot be written. Of a VLAN TCI the
/// VID and the priority are written, never bit 12, which in a key says that the tag is there.
pub fn set_slot(frame: &mut Frame, slot: Slot, value: u128, mask: u128) -> bool {
    let write = fields::Write { value, mask: mask & slot.ones() };
    let done = match slot {
        slot::DL_DST => write.mac(frame, 0, Cover::Nothing),
        slot::DL_SRC => write.mac(frame, 6, Cover::Nothing),
        slot::VLAN_TPID | slot::VLAN_TCI | slot::VLAN_TPID_INNER | slot::VLAN_TCI_INNER => {
            write.tag(frame, slot)
        }
        slot::MPLS_LSE0 => write.label(frame, 0),
        slot::MPLS_LSE1 => write.label(frame, 1),
        slot::MPLS_LSE2 => write.label(frame, 2),
        slot::NW_SRC => write.ipv4_address(frame, fields::End::Source),
        slot::NW_DST => write.ipv4_address(frame, fields::End::Destination),
        slot::IPV6_SRC => write.ipv6_address(frame, fields::End::Source),
        slot::IPV6_DST => write.ipv6_address(frame, fields::End::Destination),
        slot::NW_TOS => write.tos(frame),
        slot::NW_TTL => write.ttl(frame),
        slot::IPV6_LABEL => write.flow_label(frame),
        slot::NW_PROTO => write.arp_operation(frame),
        slot::ARP_SHA => write.hardware_address(frame, fields::End::Source),
        slot::ARP_THA => write.hardware_address(frame, fields::End::Destination),
        slot::TP_SRC => write.port(frame, fields::End::Source),
        slot::TP_DST => write.port(frame, fields::End::Destination),
        slot::ND_TARGET => write.nd_target(frame),
        slot::ND_RESERVED => write.nd_reserved(frame),
        slot::ND_OPTIONS_TYPE => write.nd_options_type(frame),
        _ => None,
    };
    done.is_some()
}

/// What stands at [`Layers::l3`](crate::Layers::l3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// ARP or RARP for IPv4 over Ethernet.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The network header of a frame and where it begins, in bytes from the first byte of the frame.
#[inline]
pub fn network(frame: &Frame) -> Option<(Network, usize)> {
    if frame.layers.l3 == NO_LAYER {
        return None;
    }
    let at = frame.layers.l3 as usize;
    // The two bytes before are its EtherType, behind tags and in a SNAP header too.
    match be16_at(frame.bytes(), at.checked_sub(2)?)? {
        ETHERTYPE_IPV4 => Some((Network::Ipv4, at)),
        ETHERTYPE_IPV6 => Some((Network::Ipv6, at)),
        ETHERTYPE_ARP | ETHERTYPE_RARP => Some((Network::Arp, at)),
        _ => None,
    }
}

/// The IP protocol of the transport header and where the header begins. `None` if there is none: another protocol than
/// those of [`Layers::l4`](crate::Layers::l4), a header cut off, or a later fragment.
#[inline]
pub fn transport(frame: &Frame) -> Option<(u8, usize)> {
    if frame.layers.l4 == NO_LAYER {
        return None;
    }
    let l4 = frame.layers.l4 as usize;
    let bytes = frame.bytes();
    let (network, l3) = network(frame)?;
    let protocol = match network {
        Network::Ipv4 => *bytes.get(l3 + 9)?,
        Network::Ipv6 => {
            let next = *bytes.get(l3 + 6)?;
            if l4 == l3 + IPV6_LEN { next } else { extensions(frame, l3)?.protocol }
        }
        Network::Arp => return None,
    };
    Some((protocol, l4))
}

/// Which transport checksum covers a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    /// None.
    Nothing,
    /// That of TCP, UDP and ICMPv6, through the pseudo header.
    PseudoHeader,
    /// That of the transport header that the field is in.
    Transport,
}

/// Adapts the transport checksum to a change that it covers.
pub(crate) fn adapt_transport(frame: &mut Frame, delta: Delta, cover: Cover) {
    if cover == Cover::Nothing {
        return;
    }
    let Some((protocol, l4)) = transport(frame) else { return };
    let offset = match (protocol, cover) {
        (PROTO_TCP, _) => 16,
        (PROTO_UDP, _) => 6,
        (PROTO_ICMPV6, _) | (PROTO_ICMP, Cover::Transport) => 2,
        _ => return,
    };
    let partial = is_partial_at(frame, l4);
    if partial && cover == Cover::Transport {
        // Whoever completes the checksum adds these bytes; the field does not hold them yet.
        return;
    }
    let bytes = frame.bytes_mut();
    let Some(old) = be16_at(bytes, l4 + offset) else { return };
    let new = match (partial, protocol) {
        (true, _) => delta.applied_to_sum(old),
        (false, PROTO_UDP) => delta.applied_to_udp(old),
        (false, _) => delta.applied(old),
    };
    put_at(bytes, l4 + offset, new.to_be_bytes());
    if protocol == PROTO_ICMP {
        mend_icmp_zero(frame, l4);
    }
}

/// Puts an adapted ICMP checksum right that covers nothing but zeros, such as that of an echo reply with identifier 0. No
/// pseudo header is in it, so its sum alone can be 0, which equation 3 of RFC 1624 takes for 0xffff.
#[inline]
pub(crate) fn mend_icmp_zero(frame: &mut Frame, l4: usize) {
    let end = frame.packet_end();
    let Some(message) = frame.bytes().get(l4..end) else { return };
    if message.get(2..4) == Some(&[0, 0]) && message.iter().all(|b| *b == 0) && !is_fragment(frame) {
        put_at(frame.bytes_mut(), l4 + 2, [0xff; 2]);
    }
}

/// Whether the checksum of the transport header at `l4` is still to be completed.
#[inline]
pub(crate) fn is_partial_at(frame: &Frame, l4: usize) -> bool {
    matches!(frame.checksum, Checksum::Partial { start, .. } if start as usize == l4)
}

/// Changes an SCTP packet through `change` and its CRC32c with it. A fragment keeps its checksum, since the bytes
/// that it covers are not all there.
pub(crate) fn change_sctp(
    frame: &mut Frame,
    l4: usize,
    change: impl FnOnce(&mut Frame) -> Option<()>,
) -> Option<()> {
    let end = frame.packet_end();
    if is_partial_at(frame, l4) || is_fragment(frame) {
        return change(frame);
    }
    let before = crc32c::sctp(frame.bytes().get(l4..end)?);
    change(frame)?;
    let after = crc32c::sctp(frame.bytes().get(l4..end)?);
    let field = frame.bytes_mut().get_mut(l4 + 8..)?.first_chunk_mut::<4>()?;
    *field = (u32::from_le_bytes(*field) ^ before ^ after).to_le_bytes();
    Some(())
}

/// Whether the packet is a fragment, first or later.
pub(crate) fn is_fragment(frame: &Frame) -> bool {
    match network(frame) {
        Some((Network::Ipv4, l3)) => be16_at(frame.bytes(), l3 + 6).is_some_and(|f| f & 0x3fff != 0),
        Some((Network::Ipv6, l3)) => extensions(frame, l3).is_some_and(|chain| chain.frag != 0),
        _ => false,
    }
}

/// Whether a routing header names the destination that the transport checksum covers, instead of the IPv6 header.
pub(crate) fn is_routed(frame: &Frame) -> bool {
    match network(frame) {
        Some((Network::Ipv6, l3)) => extensions(frame, l3).is_some_and(|chain| chain.routed),
        _ => false,
    }
}

/// The extension headers of the IPv6 packet at `l3`.
#[inline]
pub(crate) fn extensions(frame: &Frame, l3: usize) -> Option<Extensions<'_>> {
    let bytes = frame.bytes();
    Extensions::walk(*bytes.get(l3 + 6)?, bytes.get(l3 + IPV6_LEN..)?)
}

/// Recomputes the header checksum of an IPv4 packet, options included. False if there is no IPv4 header.
pub fn refresh_ipv4_checksum(frame: &mut Frame) -> bool {
    let Some((Network::Ipv4, l3)) = network(frame) else { return false };
    let header_len = frame.bytes().get(l3).map_or(0, |b| (b & 15) as usize * 4);
    let Some(header) = frame.bytes_mut().get_mut(l3..l3 + header_len) else { return false };
    put_at(header, 10, [0; 2]);
    let checksum = crate::Sum::of(header).checksum();
    put_at(header, 10, checksum.to_be_bytes())
}

/// Sets a UDP checksum as computed, never as 0.
pub(crate) fn put_checksum(bytes: &mut [u8], at: usize, protocol: u8, checksum: u16) -> bool {
    let checksum = if protocol == PROTO_UDP { udp_checksum(checksum) } else { checksum };
    put_at(bytes, at, checksum.to_be_bytes())
}
