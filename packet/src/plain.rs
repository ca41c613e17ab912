//! Packets as nearly all are: TCP or UDP right behind an IPv4 header without options, or an IPv6 header without extensions,
//! not fragmented. What is read of them, and their checksums, take a few instructions; all others are for the general
//! functions, which say the same of these.

use crate::checksum::NativeSum;
use crate::frame::{Checksum, Frame, NO_LAYER};
use crate::wire::*;

/// First byte of an IPv4 header without options.
const IPV4_PLAIN: u8 = 0x45;

/// A view of such a packet.
#[derive(Clone, Copy, Debug)]
pub struct PlainPacket<'a> {
    header: PlainHeader<'a>,
    protocol: u8,
    /// From the transport header to the end of the packet.
    transport: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum PlainHeader<'a> {
    Ipv4(&'a [u8; IPV4_LEN]),
    Ipv6(&'a [u8; IPV6_LEN]),
}

impl<'a> PlainPacket<'a> {
    /// The packet of a frame whose layers are known, if it is a plain one.
    #[inline]
    pub fn of(frame: &'a Frame) -> Option<PlainPacket<'a>> {
        let (l3, l4) = (frame.layers.l3, frame.layers.l4);
        if l4 == NO_LAYER {
            return None;
        }
        // From the EtherType on, which lies before the header behind tags and in a SNAP header too.
        let packet = frame.bytes().get(usize::from(l3).checked_sub(2)?..frame.packet_end())?;
        let (ethertype, packet) = packet.split_first_chunk::<2>()?;
        let header_len = usize::from(l4.checked_sub(l3)?);
        match (u16::from_be_bytes(*ethertype), header_len) {
            (ETHERTYPE_IPV4, IPV4_LEN) => {
                let (header, transport) = packet.split_first_chunk::<IPV4_LEN>()?;
                // Neither options nor a fragment, first or later.
                if header[0] != IPV4_PLAIN || u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
                    return None;
                }
                PlainPacket::with(PlainHeader::Ipv4(header), header[9], transport)
            }
            (ETHERTYPE_IPV6, IPV6_LEN) => {
                let (header, transport) = packet.split_first_chunk::<IPV6_LEN>()?;
                PlainPacket::with(PlainHeader::Ipv6(header), header[6], transport)
            }
            _ => None,
        }
    }

    #[inline]
    fn with(header: PlainHeader<'a>, protocol: u8, transport: &'a [u8]) -> Option<PlainPacket<'a>> {
        let header_len = match protocol {
            PROTO_TCP => 20,
            PROTO_UDP => 8,
            _ => return None,
        };
        (transport.len() >= header_len).then_some(PlainPacket { header, protocol, transport })
    }

    /// TCP or UDP.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Transport header and payload.
    #[inline]
    pub fn transport(&self) -> &'a [u8] {
        self.transport
    }

    /// Source and destination as they stand in an IPv4 header, one number.
    #[inline]
    pub fn addresses_v4(&self) -> Option<u64> {
        match self.header {
            PlainHeader::Ipv4(h) => h.last_chunk().map(|b| u64::from_be_bytes(*b)),
            PlainHeader::Ipv6(_) => None,
        }
    }

    /// Source and destination of an IPv6 header.
    #[inline]
    pub fn addresses_v6(&self) -> Option<(u128, u128)> {
        match self.header {
            PlainHeader::Ipv4(_) => None,
            PlainHeader::Ipv6(h) => {
                let (src, dst) = h.last_chunk::<32>()?.split_first_chunk::<16>()?;
                Some((u128::from_be_bytes(*src), u128::from_be_bytes(*dst.first_chunk()?)))
            }
        }
    }

    /// Source port in the high half, destination port in the low.
    #[inline]
    pub fn ports(&self) -> u32 {
        self.transport.first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
    }

    /// Whether the checksum of the header is right, and that of the transport header unless `checksum`, which is the frame's,
    /// spares it.
    #[inline]
    pub fn has_right_checksums(&self, checksum: Checksum) -> bool {
        if let PlainHeader::Ipv4(header) = self.header
            && !NativeSum::of_header(header).is_all_ones()
        {
            return false;
        }
        checksum != Checksum::Unknown || self.has_right_transport()
    }

    #[inline]
    fn has_right_transport(&self) -> bool {
        let mut covered = self.transport;
        if self.protocol == PROTO_UDP {
            let &[_, _, _, _, l0, l1, c0, c1] = match covered.first_chunk::<8>() {
                Some(header) => header,
                None => return false,
            };
            if [c0, c1] == [0; 2] {
                // None was computed, which IPv6 does not permit.
                return matches!(self.header, PlainHeader::Ipv4(_));
            }
            match covered.get(..usize::from(u16::from_be_bytes([l0, l1]))) {
                Some(datagram) => covered = datagram,
                None => return false,
            }
        }
        let addresses = match self.header {
            PlainHeader::Ipv4(h) => h.last_chunk().map(NativeSum::of_addresses_v4),
            PlainHeader::Ipv6(h) => h.last_chunk().map(NativeSum::of_addresses_v6),
        };
        // Protocol and length are numbers of one word and of two; so is what they add up to.
        let number = u32::from(self.protocol) + covered.len() as u32;
        let pseudo = addresses.unwrap_or(NativeSum::ZERO).with_number(number);
        pseudo.with_bytes(covered).is_all_ones()
    }
}

impl Frame {
    /// Whether the IPv4 header checksum and the transport checksum are right, as [`verify_ipv4_header`] and
    /// [`verify_transport`] say each.
    ///
    /// [`verify_ipv4_header`]: Self::verify_ipv4_header
    /// [`verify_transport`]: Self::verify_transport
    #[inline]
    pub fn verify_checksums(&self) -> bool {
        match PlainPacket::of(self) {
            Some(packet) => packet.has_right_checksums(self.checksum),
            None => self.verify_ipv4_header() && self.verify_transport(),
        }
    }
}
