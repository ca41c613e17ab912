//! Translation of both ends for packets that all have the same ones, as those of one direction of a connection: what is to be
//! written and by how much checksums change is worked out once.

use super::{Endpoints, Network, is_partial_at};
use crate::checksum::Delta;
use crate::frame::{Frame, NO_LAYER};
use crate::wire::*;

/// What is written over both ends of TCP or UDP packets that have certain ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndsRewrite {
    /// Source and destination as in the header; those of IPv4 are the first eight bytes.
    addresses: [u8; 32],
    ports: [u8; 4],
    /// Change of the sum of the pseudo header, and of the IPv4 header, folded.
    address_delta: u16,
    /// The same with the ports: change of the sum that the transport checksum covers.
    delta: u16,
    ethertype: u16,
    protocol: u8,
}

impl EndsRewrite {
    /// Of packets that have the ends `old`, which are to get `new`. `None` for protocols other than TCP and UDP.
    pub fn new(network: Network, protocol: u8, old: &Endpoints, new: &Endpoints) -> Option<EndsRewrite> {
        if !matches!(protocol, PROTO_TCP | PROTO_UDP) {
            return None;
        }
        let mut addresses = [0; 32];
        let ethertype = match network {
            Network::Ipv4 => {
                put_at(&mut addresses, 0, (new.src as u32).to_be_bytes());
                put_at(&mut addresses, 4, (new.dst as u32).to_be_bytes());
                ETHERTYPE_IPV4
            }
            Network::Ipv6 => {
                put_at(&mut addresses, 0, new.src.to_be_bytes());
                put_at(&mut addresses, 16, new.dst.to_be_bytes());
                ETHERTYPE_IPV6
            }
            Network::Arp => return None,
        };
        let change = |old: u128, new: u128| match network {
            Network::Ipv4 => Delta::of_u32(old as u32, new as u32),
            _ => Delta::of_u128(old, new),
        };
        let address_delta = change(old.src, new.src).and(change(old.dst, new.dst));
        let ports = |ends: &Endpoints| u32::from(ends.src_port) << 16 | u32::from(ends.dst_port);
        Some(EndsRewrite {
            addresses,
            ports: ports(new).to_be_bytes(),
            address_delta: address_delta.folded(),
            delta: address_delta.and(Delta::of_u32(ports(old), ports(new))).folded(),
            ethertype,
            protocol,
        })
    }

    /// Does to a packet that has the old ends what [`set_endpoints`](super::set_endpoints) does with the new ones. Returns
    /// false, and changes nothing, if that has to be asked: the packet is of another kind, or has IPv6 extension headers.
    #[inline]
    pub fn apply(&self, frame: &mut Frame) -> bool {
        self.write(frame).is_some()
    }

    #[inline]
    fn write(&self, frame: &mut Frame) -> Option<()> {
        let (l3, l4) = (frame.layers.l3, frame.layers.l4);
        if l4 == NO_LAYER {
            return None;
        }
        let partial = is_partial_at(frame, usize::from(l4));
        let packet = frame.bytes_mut().get_mut(usize::from(l3).checked_sub(2)?..)?;
        let (ethertype, packet) = packet.split_first_chunk_mut::<2>()?;
        if u16::from_be_bytes(*ethertype) != self.ethertype {
            return None;
        }
        let header_len = usize::from(l4.checked_sub(l3)?);
        let (header, transport) = packet.split_at_mut_checked(header_len)?;
        let checksum_at = if self.protocol == PROTO_TCP { 16 } else { 6 };
        let (ports, rest) = transport.split_first_chunk_mut::<4>()?;
        let checksum = rest.get_mut(checksum_at - 4..)?.first_chunk_mut::<2>()?;
        self.write_header(header)?;
        *ports = self.ports;
        let old = u16::from_be_bytes(*checksum);
        let new = if partial {
            // Whoever completes the checksum adds the header; the field holds the pseudo header alone.
            Delta::from_folded(self.address_delta).applied_to_sum(old)
        } else if self.protocol == PROTO_UDP {
            Delta::from_folded(self.delta).applied_to_udp(old)
        } else {
            Delta::from_folded(self.delta).applied(old)
        };
        *checksum = new.to_be_bytes();
        Some(())
    }

    #[inline]
    fn write_header(&self, header: &mut [u8]) -> Option<()> {
        if self.ethertype == ETHERTYPE_IPV4 {
            let header = header.first_chunk_mut::<IPV4_LEN>()?;
            let [.., protocol, c0, c1, _, _, _, _, _, _, _, _] = header;
            if *protocol != self.protocol {
                return None;
            }
            let checksum = u16::from_be_bytes([*c0, *c1]);
            [*c0, *c1] = Delta::from_folded(self.address_delta).applied(checksum).to_be_bytes();
            *header.last_chunk_mut::<8>()? = *self.addresses.first_chunk()?;
        } else {
            // No longer: behind a routing header the checksum covers another destination (RFC 8200 section 8.1).
            let header: &mut [u8; IPV6_LEN] = header.try_into().ok()?;
            let [_, _, _, _, _, _, protocol, ..] = header;
            if *protocol != self.protocol {
                return None;
            }
            *header.last_chunk_mut::<32>()? = self.addresses;
        }
        Some(())
    }
}
