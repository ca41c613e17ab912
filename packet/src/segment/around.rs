//! Headers around a super-frame that its sender put into a tunnel: where the inner packet begins, and what makes the outer
//! headers each segment's own. As the sender's kernel sends them, which does the same where its device cannot: IPv4
//! identifications count up, a UDP or GRE checksum is computed if the sender wants one.
//!
//! Which tunnel it is does not matter, as what is between the outer transport header and the inner packet is repeated.

use super::{Place, finish_ipv4};
use crate::checksum::Sum;
use crate::frame::{Checksum, Frame};
use crate::rewrite::{Network, extensions, is_fragment, network, put_checksum};
use crate::tunnel::{GRE_CHECKSUM, GRE_SEQUENCE};
use crate::wire::*;

/// Length of a UDP header, and of one of GRE with a checksum.
const UDP_LEN: usize = 8;

/// The outer headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    is_ipv4: bool,
    l3: usize,
    l4: usize,
    carrier: Carrier,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Carrier {
    Udp {
        has_checksum: bool,
    },
    Gre {
        has_checksum: bool,
    },
    /// IP in IP.
    Ip,
}

impl Around {
    /// Of a frame whose layers are the outer packet's, in front of the inner packet at `inner`. `None` if there are none, or
    /// such as cannot be repeated.
    pub fn of(frame: &Frame, inner: usize) -> Option<Around> {
        let (network, l3) = network(frame)?;
        let bytes = frame.bytes();
        let (protocol, l4) = match network {
            Network::Ipv4 => (*bytes.get(l3 + 9)?, l3 + (bytes.get(l3)? & 15) as usize * 4),
            Network::Ipv6 => {
                let chain = extensions(frame, l3).filter(|chain| !chain.routed)?;
                (chain.protocol, bytes.len() - chain.rest.len())
            }
            Network::Arp => return None,
        };
        let carrier = match protocol {
            PROTO_UDP => Carrier::Udp { has_checksum: be16_at(bytes, l4 + 6)? != 0 },
            PROTO_GRE => {
                let flags = be16_at(bytes, l4)?;
                if flags & GRE_SEQUENCE != 0 {
                    return None;
                }
                Carrier::Gre { has_checksum: flags & GRE_CHECKSUM != 0 }
            }
            _ => Carrier::Ip,
        };
        let header_len = match carrier {
            Carrier::Udp { .. } | Carrier::Gre { has_checksum: true } => UDP_LEN,
            Carrier::Gre { .. } => 4,
            Carrier::Ip => 0,
        };
        let is_sound = !is_fragment(frame) && l4 >= l3 + IPV4_LEN && l4 + header_len <= inner;
        is_sound.then_some(Around { is_ipv4: network == Network::Ipv4, l3, l4, carrier })
    }

    /// Longest segment that the length fields of these headers can tell, in bytes from the first byte of the frame.
    pub fn segment_max(&self) -> usize {
        self.l3 + u16::MAX as usize
    }

    /// Makes the headers of a segment its own, whose inner packet is finished.
    pub fn finish(&self, segment: &mut [u8], place: Place) -> Option<()> {
        let end = segment.len();
        if self.is_ipv4 {
            finish_ipv4(segment, self.l3, end, place)?;
        } else {
            put_at(segment, self.l3 + 4, ((end - self.l3 - IPV6_LEN) as u16).to_be_bytes());
        }
        let addresses = if self.is_ipv4 { self.l3 + 12..self.l3 + 20 } else { self.l3 + 8..self.l3 + 40 };
        match self.carrier {
            Carrier::Udp { has_checksum } => {
                let len = (end - self.l4) as u16;
                put_at(segment, self.l4 + 4, len.to_be_bytes());
                if has_checksum {
                    put_at(segment, self.l4 + 6, [0; 2]);
                    let pseudo = Sum::of(segment.get(addresses)?).with(PROTO_UDP as u16).with(len);
                    let checksum = pseudo.with_bytes(segment.get(self.l4..)?).checksum();
                    put_checksum(segment, self.l4 + 6, PROTO_UDP, checksum);
                }
            }
            Carrier::Gre { has_checksum: true } => {
                put_at(segment, self.l4 + 4, [0; 2]);
                let checksum = Sum::of(segment.get(self.l4..)?).checksum();
                put_at(segment, self.l4 + 4, checksum.to_be_bytes());
            }
            Carrier::Gre { has_checksum: false } | Carrier::Ip => {}
        }
        Some(())
    }
}

/// Where the inner packet begins, whose transport header of `protocol` the partial checksum is of: there is the header in front
/// of that which says so, of a packet that ends where the outer one does. An IPv6 packet with extension headers is not found.
pub(super) fn find_inner(frame: &Frame, protocol: u8) -> Option<usize> {
    let Checksum::Partial { start, offset } = frame.checksum else { return None };
    let (l4, end, bytes) = (start as usize, frame.packet_end(), frame.bytes());
    if offset as usize != super::checksum_at(protocol) {
        return None;
    }
    let is_ipv4 = |at: usize| {
        let Some(&[first, _, l0, l1, _, _, f0, f1, _, carried, ..]) =
            bytes.get(at..).and_then(|header| header.first_chunk::<IPV4_LEN>())
        else {
            return false;
        };
        let (len, fragment) = (u16::from_be_bytes([l0, l1]), u16::from_be_bytes([f0, f1]) & 0x3fff);
        first == 0x40 | ((l4 - at) / 4) as u8
            && at + len as usize == end
            && fragment == 0
            && carried == protocol
    };
    let is_ipv6 = |at: usize| {
        let Some(&[first, _, _, _, l0, l1, next, ..]) =
            bytes.get(at..).and_then(|header| header.first_chunk::<IPV6_LEN>())
        else {
            return false;
        };
        first >> 4 == 6 && l4 + u16::from_be_bytes([l0, l1]) as usize == end && next == protocol
    };
    let ipv4 = (5..=15usize).filter_map(|words| l4.checked_sub(words * 4)).find(|at| is_ipv4(*at));
    ipv4.or_else(|| l4.checked_sub(IPV6_LEN).filter(|at| is_ipv6(*at)))
}
