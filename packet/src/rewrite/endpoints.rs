//! Rewrites for address translation: both ends of a packet at once, so that each checksum is adapted once, and of the
//! packet that an ICMP error quotes.

use super::{Network, change_sctp, is_partial_at, is_routed, mend_icmp_zero, network, transport};
use crate::checksum::Delta;
use crate::frame::Frame;
use crate::wire::*;

/// The ends of a packet: addresses as numbers (an IPv4 address in the low 32 bits), and ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoints {
    /// Source address.
    pub src: u128,
    /// Destination address.
    pub dst: u128,
    /// Source port of TCP, UDP and SCTP; identifier of an ICMP or ICMPv6 query or answer.
    pub src_port: u16,
    /// Destination port of TCP, UDP and SCTP.
    pub dst_port: u16,
}

/// A packet quoted by an ICMP error: where its headers begin, in bytes from the first byte of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Its network header, of the same family as the frame's.
    pub l3: usize,
    /// Its transport header, of which eight bytes may be all there is.
    pub l4: usize,
    /// Its IP protocol.
    pub protocol: u8,
}

/// Which checksums a change is covered by.
#[derive(Clone, Copy)]
struct Change {
    addresses: Delta,
    ports: Delta,
}

/// No change: `x` and its complement add up to zero.
const NOTHING: Delta = Delta::of_u16(0, 0);

/// Writes both addresses of the IP packet, and both ports or the ICMP identifier if it has them, and adapts the checksums.
/// Returns false, and changes nothing, if there is no IP packet.
pub fn set_endpoints(frame: &mut Frame, new: &Endpoints) -> bool {
    match transport(frame) {
        Some((PROTO_SCTP, l4)) => set_sctp(frame, l4, new).is_some(),
        Some((protocol, l4)) => set_with_transport(frame, (protocol, l4), new).is_some(),
        None => set_addresses(frame, new.src, new.dst),
    }
}

/// Writes both addresses of the IP packet and adapts the checksums. Returns false, and changes nothing, if there is none.
pub fn set_addresses(frame: &mut Frame, src: u128, dst: u128) -> bool {
    let Some(addresses) = write_addresses(frame, src, dst) else { return false };
    if let Some((protocol, l4)) = transport(frame) {
        adapt(frame, (protocol, l4), Change { addresses, ports: NOTHING });
    }
    true
}

fn set_with_transport(frame: &mut Frame, (protocol, l4): (u8, usize), new: &Endpoints) -> Option<()> {
    let addresses = write_addresses(frame, new.src, new.dst)?;
    let ports = match protocol {
        PROTO_TCP | PROTO_UDP => write_ports(frame.bytes_mut(), l4, new),
        _ => write_identifier(frame.bytes_mut(), l4, new.src_port),
    };
    adapt(frame, (protocol, l4), Change { addresses, ports: ports.unwrap_or(NOTHING) });
    Some(())
}

fn set_sctp(frame: &mut Frame, l4: usize, new: &Endpoints) -> Option<()> {
    write_addresses(frame, new.src, new.dst)?;
    let old = be32_at(frame.bytes(), l4)?;
    if old != u32::from(new.src_port) << 16 | u32::from(new.dst_port) {
        // The CRC32c covers no pseudo header, but the ports.
        change_sctp(frame, l4, |frame| write_ports(frame.bytes_mut(), l4, new).map(|_| ()))?;
    }
    Some(())
}

/// Writes the addresses, with the checksum of an IPv4 header; by how much a pseudo header's sum changes.
fn write_addresses(frame: &mut Frame, src: u128, dst: u128) -> Option<Delta> {
    match network(frame)? {
        (Network::Ipv4, l3) => write_ipv4(frame.bytes_mut(), l3, src as u32, dst as u32),
        (Network::Ipv6, l3) => {
            // Behind a routing header the checksum covers another destination (RFC 8200 section 8.1).
            let routed = frame.layers.l4 as usize != l3 + IPV6_LEN && is_routed(frame);
            let (src, dst) = write_ipv6(frame.bytes_mut(), l3, src, dst)?;
            Some(if routed { src } else { src.and(dst) })
        }
        (Network::Arp, _) => None,
    }
}

fn write_ipv4(bytes: &mut [u8], l3: usize, src: u32, dst: u32) -> Option<Delta> {
    let header = bytes.get_mut(l3..)?.first_chunk_mut::<IPV4_LEN>()?;
    let old_src = be32_at(header, 12)?;
    let old_dst = be32_at(header, 16)?;
    let delta = Delta::of_u32(old_src, src).and(Delta::of_u32(old_dst, dst));
    let checksum = delta.applied(be16_at(header, 10)?);
    put_at(header, 10, checksum.to_be_bytes());
    put_at(header, 12, src.to_be_bytes());
    put_at(header, 16, dst.to_be_bytes());
    Some(delta)
}

/// The changes of source and destination.
fn write_ipv6(bytes: &mut [u8], l3: usize, src: u128, dst: u128) -> Option<(Delta, Delta)> {
    let header = bytes.get_mut(l3..)?.first_chunk_mut::<IPV6_LEN>()?;
    let old = |header: &[u8; IPV6_LEN], at: usize| header.get(at..)?.first_chunk().copied();
    let (old_src, old_dst) = (old(header, 8)?, old(header, 24)?);
    put_at(header, 8, src.to_be_bytes());
    put_at(header, 24, dst.to_be_bytes());
    let delta = |old: [u8; 16], new: u128| Delta::of_u128(u128::from_be_bytes(old), new);
    Some((delta(old_src, src), delta(old_dst, dst)))
}

fn write_ports(bytes: &mut [u8], l4: usize, new: &Endpoints) -> Option<Delta> {
    let old = be32_at(bytes, l4)?;
    let new = u32::from(new.src_port) << 16 | u32::from(new.dst_port);
    put_at(bytes, l4, new.to_be_bytes());
    Some(Delta::of_u32(old, new))
}

fn write_identifier(bytes: &mut [u8], l4: usize, identifier: u16) -> Option<Delta> {
    let old = be16_at(bytes, l4 + 4)?;
    put_at(bytes, l4 + 4, identifier.to_be_bytes());
    Some(Delta::of_u16(old, identifier))
}

/// Place of the checksum in a transport header, and whether it covers a pseudo header.
const fn checksum_place(protocol: u8) -> Option<(usize, bool)> {
    match protocol {
        PROTO_TCP => Some((16, true)),
        PROTO_UDP => Some((6, true)),
        PROTO_ICMPV6 => Some((2, true)),
        PROTO_ICMP => Some((2, false)),
        _ => None,
    }
}

fn adapt(frame: &mut Frame, (protocol, l4): (u8, usize), change: Change) {
    let Some((offset, has_pseudo)) = checksum_place(protocol) else { return };
    let partial = is_partial_at(frame, l4);
    let bytes = frame.bytes_mut();
    let Some(old) = be16_at(bytes, l4 + offset) else { return };
    let addresses = if has_pseudo { change.addresses } else { NOTHING };
    let new = if partial {
        // Whoever completes the checksum adds the header; the field holds the pseudo header alone.
        if has_pseudo { addresses.applied_to_sum(old) } else { old }
    } else if protocol == PROTO_UDP {
        addresses.and(change.ports).applied_to_udp(old)
    } else {
        addresses.and(change.ports).applied(old)
    };
    put_at(bytes, l4 + offset, new.to_be_bytes());
    if protocol == PROTO_ICMP && !partial {
        mend_icmp_zero(frame, l4);
    }
}

/// Writes both ends of the packet that an ICMP error quotes, with those of its checksums that are quoted, and computes the
/// error's checksum anew. The CRC32c of SCTP stays: it covers bytes that are not there. Returns false, and changes nothing,
/// if the headers do not lie in the frame.
pub fn set_quoted_endpoints(frame: &mut Frame, quoted: Quoted, new: &Endpoints) -> bool {
    let Some((network, _)) = network(frame) else { return false };
    let end = frame.packet_end();
    let Some(bytes) = frame.bytes_mut().get_mut(..end) else { return false };
    if write_quoted(bytes, network, quoted, new).is_none() {
        return false;
    }
    frame.refresh_transport_checksum();
    true
}

fn write_quoted(bytes: &mut [u8], network: Network, quoted: Quoted, new: &Endpoints) -> Option<()> {
    let Quoted { l3, l4, protocol } = quoted;
    let has_ports = matches!(protocol, PROTO_TCP | PROTO_UDP | PROTO_SCTP | PROTO_ICMP | PROTO_ICMPV6);
    if has_ports {
        bytes.get(l4..)?.first_chunk::<8>()?;
    }
    let addresses = match network {
        Network::Ipv4 => write_ipv4(bytes, l3, new.src as u32, new.dst as u32)?,
        Network::Ipv6 => write_ipv6(bytes, l3, new.src, new.dst).map(|(src, dst)| src.and(dst))?,
        Network::Arp => return None,
    };
    let ports = match protocol {
        PROTO_TCP | PROTO_UDP | PROTO_SCTP => write_ports(bytes, l4, new)?,
        PROTO_ICMP | PROTO_ICMPV6 => write_identifier(bytes, l4, new.src_port)?,
        _ => return Some(()),
    };
    if let Some((offset, has_pseudo)) = checksum_place(protocol)
        && let Some(old) = be16_at(bytes, l4 + offset)
    {
        let delta = if has_pseudo { addresses.and(ports) } else { ports };
        let new = if protocol == PROTO_UDP { delta.applied_to_udp(old) } else { delta.applied(old) };
        put_at(bytes, l4 + offset, new.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::FrameBuilder;
    use crate::frame::Checksum;
    use crate::key::{PacketKey, Slot, slot};
    use crate::rewrite::set_slot;

    fn frame(builder: &FrameBuilder, partial: bool) -> Frame {
        let mut frame = Frame::from_bytes(&builder.build());
        PacketKey::extract(&mut frame).expect("a frame");
        if partial {
            let offset = if builder.key().get(slot::NW_PROTO) == 6 { 16 } else { 6 };
            frame.checksum = Checksum::Partial { start: frame.layers.l4, offset };
        }
        frame
    }

    /// An ICMP message of zeros has checksum 0xffff, whatever it was changed from; one that was wrong stays wrong.
    #[test]
    fn icmp_of_zeros() {
        // Without what is known of the frame, which would spare the sum.
        let is_right = |frame: &Frame| {
            let mut copy = Frame::from_bytes(frame.bytes());
            PacketKey::extract(&mut copy).is_ok() && copy.verify_transport()
        };
        let ends = |identifier| Endpoints { src: 1, dst: 9, src_port: identifier, dst_port: 0 };
        let with_identifier = |identifier: u16, damage: u8| {
            let mut frame = frame(&FrameBuilder::icmp4(1, 2, 0, 0).payload(&[0; 4]), false);
            let l4 = frame.layers.l4 as usize;
            put_at(frame.bytes_mut(), l4 + 4, identifier.to_be_bytes());
            frame.refresh_transport_checksum();
            put_at(frame.bytes_mut(), l4 + 9, [damage]);
            frame
        };
        for identifier in [0, 5, 0xffff] {
            for damage in [0, 1] {
                let mut frame = with_identifier(identifier, damage);
                assert!(set_endpoints(&mut frame, &ends(0)));
                assert_eq!(is_right(&frame), damage == 0, "from {identifier}, damage {damage}");
            }
        }
        let mut frame = frame(&FrameBuilder::icmp4(1, 2, 8, 0).payload(&[0; 4]), false);
        let l4 = frame.layers.l4 as usize;
        put_at(frame.bytes_mut(), l4 + 4, [0; 2]);
        frame.refresh_transport_checksum();
        assert!(set_slot(&mut frame, slot::TP_SRC, 0, 0xffff));
        assert_eq!(frame.bytes().get(l4..l4 + 4), Some(&[0, 0, 0xff, 0xff][..]));
        assert!(is_right(&frame));
    }

    /// Both ends at once give the same bytes as field by field.
    #[test]
    fn as_field_by_field() {
        let (a, b) = (0x2001_0db8_u128 << 96 | 0xffff_fffe, 0x2001_0db8_u128 << 96);
        let sctp = |b: FrameBuilder| b.set(slot::TP_SRC, 7).set(slot::TP_DST, 0xffff);
        let builders = [
            FrameBuilder::tcp4((1, 2), (u32::MAX, 4), 2),
            FrameBuilder::udp4((1, 2), (3, 4)).vlan(0x8100, 5).ipv4_options(&[1; 8]),
            sctp(FrameBuilder::ipv4(1, 2, 132)),
            FrameBuilder::ipv4(1, 2, 47),
            FrameBuilder::tcp6((a, 2), (b, 4), 2),
            FrameBuilder::udp6((a, 2), (b, 4)),
            sctp(FrameBuilder::ipv6(a, b, 132)),
        ];
        for builder in builders.iter().map(|b| b.clone().payload(b"odd")) {
            let is_ipv6 = builder.key().dl_type() == ETHERTYPE_IPV6;
            let protocol = builder.key().get(slot::NW_PROTO) as u8;
            for partial in [false, true] {
                if partial && protocol != PROTO_TCP && protocol != PROTO_UDP {
                    continue;
                }
                let new = Endpoints { src: 0x0a00_0001, dst: 0xffff_0000, src_port: 0xfffe, dst_port: 1 };
                let (mut at_once, mut one_by_one) = (frame(&builder, partial), frame(&builder, partial));
                assert!(set_endpoints(&mut at_once, &new));
                let fields: [(Slot, u128); 4] = [
                    (if is_ipv6 { slot::IPV6_SRC } else { slot::NW_SRC }, new.src),
                    (if is_ipv6 { slot::IPV6_DST } else { slot::NW_DST }, new.dst),
                    (slot::TP_SRC, new.src_port.into()),
                    (slot::TP_DST, new.dst_port.into()),
                ];
                for (slot, value) in fields {
                    set_slot(&mut one_by_one, slot, value, u128::MAX);
                }
                assert_eq!(at_once.bytes(), one_by_one.bytes(), "{builder:?} partial: {partial}");
                assert!(partial || at_once.verify_transport());
            }
        }
    }

    #[test]
    fn what_cannot_be_written_stays() {
        let new = Endpoints { src: 1, dst: 2, src_port: 3, dst_port: 4 };
        let mut arp = frame(&FrameBuilder::arp(1, (1, 2), (3, 4)), false);
        let before = arp.bytes().to_vec();
        assert!(!set_endpoints(&mut arp, &new) && !set_addresses(&mut arp, 1, 2));
        assert_eq!(arp.bytes(), before);
        let mut error = frame(&FrameBuilder::icmp4(1, 2, 3, 3).payload(&[0x45; 27]), false);
        let before = error.bytes().to_vec();
        for (l3, l4) in [(42, 62), (42, 63), (42, 1000), (usize::MAX - 50, 42)] {
            let quoted = Quoted { l3, l4, protocol: 17 };
            assert!(!set_quoted_endpoints(&mut error, quoted, &new), "{l3} {l4}");
            assert_eq!(error.bytes(), before);
        }
    }
}
