//! What senders leave to others: partial checksums and segmentation. Checked at the door, completed where a port cannot.
//!
//! The announcement comes from the other side of a port (a virtio-net header) and may lie. [`Frame::validate_offload`] lets
//! pass only what agrees with the headers that extraction found, so everything behind it can rely on it. Cutting is in
//! `segment`.

use crate::checksum::Sum;
use crate::crc32c;
use crate::extract::Malformed;
use crate::frame::{Checksum, Frame, Segmentation};
use crate::rewrite::{Network, is_fragment, is_routed, network, put_checksum, transport};
use crate::wire::*;

/// Most segments that a frame may be cut into: 64 KiB in pieces of a bit less than the least TCP segment size in use (48).
pub const SEGMENTS_MAX: usize = 2048;

/// TCP payload beyond which a frame is taken for several segments: the most that standard Ethernet carries.
const SEGMENT_MAX: usize = 1460;
/// Length of segments where the sender's is not known: what every IPv6 path carries (1280 bytes, RFC 8200 section 5).
const SEGMENT_ANYWHERE: u16 = 1220;

/// Place of the checksum field in a transport header.
pub(crate) const fn checksum_offset(protocol: u8) -> Option<u16> {
    match protocol {
        PROTO_TCP => Some(16),
        PROTO_UDP => Some(6),
        PROTO_SCTP => Some(8),
        PROTO_ICMP | PROTO_ICMPV6 => Some(2),
        _ => None,
    }
}

impl Frame {
    /// Checks a fresh frame's partial checksum and segmentation against its headers; to be called after extraction. What is
    /// true but useless is put right: padding behind a partial checksum is cut off, segmentation that would give one segment
    /// is dropped, and a partial checksum of something inside the packet (a tunnel that the sender made) is completed. If
    /// segments are to be cut inside, that is kept for when the tunnel has been left ([`FrameState::inner_segmentation`]).
    ///
    /// [`FrameState::inner_segmentation`]: crate::frame::FrameState::inner_segmentation
    ///
    /// # Errors
    /// [`Malformed::Checksum`] or [`Malformed::Segmentation`] if the announcement does not fit the headers; the frame must
    /// then be dropped.
    #[inline]
    pub fn validate_offload(&mut self) -> Result<(), Malformed> {
        if !matches!(self.checksum, Checksum::Partial { .. }) && self.segmentation == Segmentation::None {
            return Ok(());
        }
        self.validate_partial()?;
        self.validate_segmentation()
    }

    /// Finds out whether the sender of a frame left its checksum to others before putting it into a tunnel, as a kernel on the
    /// same machine does: the outer packet's way, a socket, does not tell. The sign is a TCP or UDP checksum field that holds
    /// the sum of the pseudo header. Should that be the right checksum by chance, completing it gives the same again, so no
    /// good frame is harmed. A TCP packet longer than any Ethernet carries is then one to be cut, by a length that fits
    /// everywhere. To be called after extraction.
    #[inline]
    pub fn recognise_offload(&mut self) {
        if self.checksum != Checksum::Unknown || is_fragment(self) || is_routed(self) {
            return;
        }
        let (Some((protocol @ (PROTO_TCP | PROTO_UDP), l4)), Some((network, l3))) =
            (transport(self), network(self))
        else {
            return;
        };
        let (Some(offset), Ok(start)) = (checksum_offset(protocol), u16::try_from(l4)) else { return };
        let len = self.packet_end().saturating_sub(l4);
        let pseudo = !self.pseudo_sum(l3, protocol, len).checksum();
        if pseudo == 0 || be16_at(self.bytes(), l4 + offset as usize) != Some(pseudo) {
            return;
        }
        self.checksum = Checksum::Partial { start, offset };
        let header_len = transport_header_len(self.bytes(), protocol, l4).unwrap_or(len);
        if protocol != PROTO_TCP || len <= header_len + SEGMENT_MAX {
            return;
        }
        // CWR is the high bit of the flags (RFC 9293 section 3.1).
        let ecn = self.bytes().get(l4 + 13).is_some_and(|flags| flags & 0x80 != 0);
        self.segmentation = match network {
            Network::Ipv4 => Segmentation::TcpV4 { size: SEGMENT_ANYWHERE, ecn },
            _ => Segmentation::TcpV6 { size: SEGMENT_ANYWHERE, ecn },
        };
    }

    fn validate_partial(&mut self) -> Result<(), Malformed> {
        let Checksum::Partial { start, offset } = self.checksum else { return Ok(()) };
        self.trim_padding();
        let field_len = if offset == 8 { 4 } else { 2 };
        if start as usize + offset as usize + field_len > self.len() {
            return Err(Malformed::Checksum);
        }
        match transport(self) {
            Some((protocol, l4)) if l4 == start as usize => {
                if checksum_offset(protocol) != Some(offset) || is_fragment(self) {
                    return Err(Malformed::Checksum);
                }
                Ok(())
            }
            outer => {
                let headers_end = outer.map(|(_, l4)| l4 + 8).or_else(|| network_end(self));
                if headers_end.is_none_or(|end| (start as usize) < end) {
                    return Err(Malformed::Checksum);
                }
                if self.segmentation != Segmentation::None {
                    self.inner_segmentation = std::mem::take(&mut self.segmentation);
                    return Ok(());
                }
                self.complete_checksum();
                self.checksum = Checksum::Unknown;
                Ok(())
            }
        }
    }

    fn validate_segmentation(&mut self) -> Result<(), Malformed> {
        let (wanted, size) = match self.segmentation {
            Segmentation::None => return Ok(()),
            Segmentation::TcpV4 { size, .. } => ((PROTO_TCP, Some(Network::Ipv4)), size as usize),
            Segmentation::TcpV6 { size, .. } => ((PROTO_TCP, Some(Network::Ipv6)), size as usize),
            Segmentation::UdpL4 { size } => ((PROTO_UDP, None), size as usize),
        };
        let (Some((protocol, l4)), Some((network, _)), Checksum::Partial { .. }) =
            (transport(self), network(self), self.checksum)
        else {
            return Err(Malformed::Segmentation);
        };
        if protocol != wanted.0 || wanted.1.is_some_and(|n| n != network) || size == 0 {
            return Err(Malformed::Segmentation);
        }
        let header_len = transport_header_len(self.bytes(), protocol, l4).ok_or(Malformed::Segmentation)?;
        let payload_len = self.len().checked_sub(l4 + header_len).ok_or(Malformed::Segmentation)?;
        if payload_len <= size {
            self.segmentation = Segmentation::None;
        } else if payload_len.div_ceil(size) > SEGMENTS_MAX {
            return Err(Malformed::Segmentation);
        }
        Ok(())
    }

    /// Whether the frame stands for several: it is to be cut, be it inside a tunnel that its sender made, before its checksum can be
    /// complete.
    #[inline]
    pub fn is_super_frame(&self) -> bool {
        self.segmentation != Segmentation::None || self.inner_segmentation != Segmentation::None
    }

    /// Completes a partial checksum in place. A frame that has none is left alone.
    ///
    /// A checksum field at offset 8 is taken for the CRC32c of SCTP, the only protocol that has it there.
    pub fn complete_checksum(&mut self) {
        let Checksum::Partial { start, offset } = self.checksum else { return };
        let end = self.packet_end();
        let Some(covered) = self.bytes_mut().get_mut(start as usize..end) else { return };
        let offset = offset as usize;
        if offset == 8 {
            let crc = crc32c::sctp(covered);
            put_at(covered, offset, crc.to_le_bytes());
        } else {
            let checksum = Sum::of(covered).checksum();
            let protocol = if offset == 6 { PROTO_UDP } else { PROTO_TCP };
            put_checksum(covered, offset, protocol, checksum);
        }
        self.checksum = Checksum::Valid;
    }

    /// Whether the transport checksum is right, or there is none to check: a fragment, a protocol without one, UDP over
    /// IPv4 without one, IPv6 with a routing header that names further stops (the checksum then covers the last one). What the sender or the kernel vouched for, or is still partial, is believed.
    pub fn verify_transport(&self) -> bool {
        if self.checksum != Checksum::Unknown || is_fragment(self) || is_routed(self) {
            return true;
        }
        let (Some((protocol, l4)), Some((network, l3))) = (transport(self), network(self)) else {
            return true;
        };
        let end = self.packet_end();
        let Some(packet) = self.bytes().get(l4..end) else { return false };
        match protocol {
            PROTO_SCTP => packet.get(8..12).is_some_and(|f| f == crc32c::sctp(packet).to_le_bytes()),
            PROTO_ICMP => Sum::of(packet).checksum() == 0,
            PROTO_UDP if be16_at(packet, 6) == Some(0) => network == Network::Ipv4,
            PROTO_UDP => {
                let len = be16_at(packet, 4).map_or(0, usize::from);
                packet
                    .get(..len)
                    .is_some_and(|p| self.pseudo_sum(l3, protocol, len).with_bytes(p).checksum() == 0)
            }
            _ => self.pseudo_sum(l3, protocol, packet.len()).with_bytes(packet).checksum() == 0,
        }
    }

    /// Whether the IPv4 header checksum is right; true if there is no IPv4 header.
    pub fn verify_ipv4_header(&self) -> bool {
        let Some((Network::Ipv4, l3)) = network(self) else { return true };
        let header_len = self.bytes().get(l3).map_or(0, |b| (b & 15) as usize * 4);
        self.bytes().get(l3..l3 + header_len).is_some_and(|header| Sum::of(header).checksum() == 0)
    }

    /// Computes the transport checksum anew over the whole packet. False if there is none to compute (see
    /// [`verify_transport`](Self::verify_transport)); UDP without a checksum gets one.
    pub fn refresh_transport_checksum(&mut self) -> bool {
        let (Some((protocol, l4)), Some((_, l3))) = (transport(self), network(self)) else { return false };
        let Some(offset) = checksum_offset(protocol).filter(|_| !is_fragment(self) && !is_routed(self))
        else {
            return false;
        };
        let (at, end) = (l4 + offset as usize, self.packet_end());
        self.checksum = Checksum::Valid;
        if protocol == PROTO_SCTP {
            let Some(crc) = self.bytes().get(l4..end).map(crc32c::sctp) else { return false };
            return put_at(self.bytes_mut(), at, crc.to_le_bytes());
        }
        put_at(self.bytes_mut(), at, [0; 2]);
        let Some(packet) = self.bytes().get(l4..end) else { return false };
        let checksum = match protocol {
            PROTO_ICMP => Sum::of(packet).checksum(),
            _ => self.pseudo_sum(l3, protocol, packet.len()).with_bytes(packet).checksum(),
        };
        put_checksum(self.bytes_mut(), at, protocol, checksum)
    }

    /// Sum of the pseudo header of the packet at `l3`, for a transport header and payload of `len` bytes.
    pub(crate) fn pseudo_sum(&self, l3: usize, protocol: u8, len: usize) -> Sum {
        let addresses = match network(self) {
            Some((Network::Ipv4, _)) => self.bytes().get(l3 + 12..l3 + 20),
            Some((Network::Ipv6, _)) => self.bytes().get(l3 + 8..l3 + 40),
            _ => None,
        };
        Sum::of(addresses.unwrap_or_default()).with(protocol as u16).with_u32(len as u32)
    }
}

/// Length of a TCP header with its options, or of a UDP header; `None` if it is impossible.
pub(crate) fn transport_header_len(bytes: &[u8], protocol: u8, l4: usize) -> Option<usize> {
    match protocol {
        PROTO_TCP => {
            let len = (bytes.get(l4 + 12)? >> 4) as usize * 4;
            (len >= 20 && l4 + len <= bytes.len()).then_some(len)
        }
        PROTO_UDP => Some(8),
        _ => None,
    }
}

/// Where the payload of a packet begins that has no transport header known here; `None` if that is not known for sure.
fn network_end(frame: &Frame) -> Option<usize> {
    let bytes = frame.bytes();
    match network(frame)? {
        (Network::Ipv4, l3) => {
            bytes.get(l3).map(|b| l3 + (b & 15) as usize * 4).filter(|_| !is_fragment(frame))
        }
        (Network::Ipv6, l3) => {
            let rest = bytes.get(l3 + IPV6_LEN..)?;
            let chain = crate::extract::Extensions::walk(*bytes.get(l3 + 6)?, rest)?;
            (chain.frag == 0).then_some(bytes.len() - chain.rest.len())
        }
        (Network::Arp, _) => None,
    }
}
