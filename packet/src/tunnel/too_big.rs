//! The answer to the sender of a packet that does not fit a tunnel (RFC 1191, RFC 8201).

use crate::checksum::Sum;
use crate::frame::Frame;
use crate::pool::FramePool;
use crate::rewrite::{Network, network};
use crate::wire::*;

/// Length of the ICMP and ICMPv6 messages built here, without the packet that they quote.
const ICMP_LEN: usize = 8;
/// Longest ICMP answer, in bytes with its IPv4 header (RFC 1812 section 4.3.2.3).
const IPV4_ANSWER_MAX: usize = 576;
/// Longest ICMPv6 answer, and the MTU that every IPv6 link has (RFC 4443 section 2.4 c, RFC 8200 section 5).
const IPV6_MTU_MIN: u16 = 1280;
/// TTL and hop limit of answers.
const TTL: u8 = 64;
/// TOS of ICMP errors: internetwork control (RFC 1812 section 4.3.2.5).
const TOS_CONTROL: u8 = 0xc0;

/// A frame that tells the sender of the packet in `frame` that packets longer than `mtu` bytes, their IP header counted,
/// do not get through: ICMP "fragmentation needed" (RFC 1191 section 4) or ICMPv6 "packet too big" (RFC 4443 section 3.2,
/// for an MTU of at least 1280). To be sent back where `frame` came from: both pairs of addresses are swapped, so that it
/// comes from the packet's destination; VLAN tags are kept. Layers are not noted.
///
/// IPv4 packets are answered with or without Don't Fragment, since nobody on the way here fragments them: their sender
/// then does. The caller limits the rate (RFC 4443 section 2.4 f).
///
/// `None` if there must be no answer: to an ICMP error, to a later fragment (the first one is answered), to a multicast or
/// broadcast frame or packet, to a source that is not one host (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e); nor is there
/// one to what is not IP or broken, or to a packet that is not longer than `mtu`. Relies on the layers of `frame`.
pub fn too_big(frame: &Frame, mtu: u16, pool: &mut FramePool) -> Option<Frame> {
    let (network, l3) = network(frame)?;
    let bytes = frame.bytes();
    let packet = bytes.get(l3..frame.packet_end())?;
    let (l2, _) = bytes.split_at_checked(l3)?;
    let (&[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5], tags) = l2.split_first_chunk()?;
    if (d0 | s0) & 1 != 0 {
        return None;
    }
    let mut headers = Headers { bytes: [0; IPV6_LEN + ICMP_LEN], len: 0 };
    let quoted = match network {
        Network::Ipv4 => answer_ipv4(packet, mtu, &mut headers)?,
        Network::Ipv6 => answer_ipv6(packet, mtu.max(IPV6_MTU_MIN), &mut headers)?,
        Network::Arp => return None,
    };
    let mut answer = pool.take();
    let parts =
        [&[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5], tags, headers.bytes.get(..headers.len)?, quoted];
    for part in parts {
        // A pool's buffers hold far more than the longest answer.
        if answer.append(part).is_err() {
            pool.give(answer);
            return None;
        }
    }
    Some(answer)
}

/// IP and ICMP header of an answer.
struct Headers {
    bytes: [u8; IPV6_LEN + ICMP_LEN],
    len: usize,
}

impl Headers {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        put_at(&mut self.bytes, self.len, value);
        self.len += N;
    }
}

/// Writes the headers; gives what the answer quotes.
fn answer_ipv4<'a>(packet: &'a [u8], mtu: u16, out: &mut Headers) -> Option<&'a [u8]> {
    let fixed = packet.first_chunk::<IPV4_LEN>()?;
    let &[first, _, _, _, _, _, f0, f1, _, protocol, _, _, ref addresses @ ..] = fixed;
    let &[s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let header_len = (first & 15) as usize * 4;
    let payload = packet.get(header_len..)?;
    let is_later = u16::from_be_bytes([f0, f1]) & 0x1fff != 0;
    let is_error = protocol == PROTO_ICMP && payload.first().is_none_or(|kind| is_icmp_error(*kind));
    if is_later || is_error || !is_host([s0, s1, s2, s3]) || !is_host([d0, d1, d2, d3]) {
        return None;
    }
    if packet.len() <= mtu as usize {
        return None;
    }
    let quoted = packet.get(..packet.len().min(IPV4_ANSWER_MAX - IPV4_LEN - ICMP_LEN))?;
    out.put([0x45, TOS_CONTROL]);
    out.put(((IPV4_LEN + ICMP_LEN + quoted.len()) as u16).to_be_bytes());
    // Not fragmented, so an identification of 0 (RFC 6864 section 4.1).
    out.put([0, 0, 0x40, 0, TTL, PROTO_ICMP, 0, 0]);
    out.put([d0, d1, d2, d3, s0, s1, s2, s3]);
    let checksum = Sum::of(out.bytes.get(..IPV4_LEN)?).checksum();
    put_at(&mut out.bytes, 10, checksum.to_be_bytes());
    // Type 3, code 4, checksum, two unused bytes.
    out.put([3, 4, 0, 0, 0, 0]);
    out.put(mtu.to_be_bytes());
    let checksum = Sum::of(out.bytes.get(IPV4_LEN..IPV4_LEN + ICMP_LEN)?).with_bytes(quoted).checksum();
    put_at(&mut out.bytes, IPV4_LEN + 2, checksum.to_be_bytes());
    Some(quoted)
}

/// Writes the headers; gives what the answer quotes.
fn answer_ipv6<'a>(packet: &'a [u8], mtu: u16, out: &mut Headers) -> Option<&'a [u8]> {
    let (fixed, payload) = packet.split_first_chunk::<IPV6_LEN>()?;
    let &[_, _, _, _, _, _, next, _, ref addresses @ ..] = fixed;
    let (&src, dst) = addresses.split_first_chunk::<16>()?;
    let &dst = dst.first_chunk::<16>()?;
    let chain = crate::extract::Extensions::walk(next, payload)?;
    let is_later = chain.frag & crate::key::FRAG_LATER != 0;
    // RFC 4443 section 2.1: types below 128 are errors; redirects are not answered either.
    let is_error =
        chain.protocol == PROTO_ICMPV6 && chain.rest.first().is_none_or(|kind| *kind < 128 || *kind == 137);
    let is_multicast = |address: [u8; 16]| address.first() == Some(&0xff);
    let is_nobody = |address: [u8; 16]| u128::from_be_bytes(address) <= 1;
    if is_later || is_error || is_multicast(src) || is_multicast(dst) || is_nobody(src) || is_nobody(dst) {
        return None;
    }
    if packet.len() <= mtu as usize {
        return None;
    }
    let quoted = packet.get(..packet.len().min(IPV6_MTU_MIN as usize - IPV6_LEN - ICMP_LEN))?;
    let len = (ICMP_LEN + quoted.len()) as u16;
    out.put([0x60, 0, 0, 0]);
    out.put(len.to_be_bytes());
    out.put([PROTO_ICMPV6, TTL]);
    out.put(dst);
    out.put(src);
    // Type 2, code 0, checksum.
    out.put([2, 0, 0, 0]);
    out.put((mtu as u32).to_be_bytes());
    let checksum =
        Sum::of(out.bytes.get(8..)?).with(PROTO_ICMPV6 as u16).with(len).with_bytes(quoted).checksum();
    put_at(&mut out.bytes, IPV6_LEN + 2, checksum.to_be_bytes());
    Some(quoted)
}

/// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122 section 3.2.2).
const fn is_icmp_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// Whether an IPv4 address is neither of this network, loopback, multicast, nor reserved or broadcast.
const fn is_host([first, ..]: [u8; 4]) -> bool {
    !matches!(first, 0 | 127 | 224..)
}
