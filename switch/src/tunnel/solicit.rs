//! Questions for neighbours: ARP requests (RFC 826) and neighbour solicitations (RFC 4861 section 4.3).

use crate::mac::MacAddr;
use packet::{FrameBuilder, slot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST: u64 = 0xffff_ffff_ffff;
const ARP_REQUEST: u8 = 1;
const SOLICITATION: u8 = 135;
/// Type of the option that carries the asker's own Ethernet address, which is also its length in units of 8 bytes.
const OPTION_SOURCE: u8 = 1;

/// A frame that asks who has `target`, from an address pair of the host. `None` if the addresses are of two families.
pub fn question(mac: MacAddr, source: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => Some(arp_request(mac, source, target)),
        (IpAddr::V6(source), IpAddr::V6(target)) => Some(solicitation(mac, source, target)),
        _ => None,
    }
}

fn arp_request(mac: MacAddr, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ends = ((mac.0, source.to_bits()), (0, target.to_bits()));
    FrameBuilder::arp(ARP_REQUEST, ends.0, ends.1).macs(mac.0, BROADCAST).build()
}

fn solicitation(mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    // To the group that every host with such an address is in (RFC 4291 section 2.7.1).
    let group = 0xff02_0000_0000_0000_0000_0001_ff00_0000_u128 | target.to_bits() & 0xff_ffff;
    let group_mac = 0x3333_0000_0000 | group as u64 & 0xffff_ffff;
    FrameBuilder::icmp6(source.to_bits(), group, SOLICITATION, 0)
        .macs(mac.0, group_mac)
        .set(slot::ND_TARGET, target.to_bits())
        .set(slot::ARP_SHA, mac.0.into())
        .set(slot::ND_OPTIONS_TYPE, OPTION_SOURCE.into())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    const MAC: MacAddr = MacAddr(0x0200_0000_0007);

    #[test]
    fn arp_asks_everybody() {
        let frame = question(MAC, [10, 0, 0, 1].into(), [10, 0, 0, 2].into()).unwrap();
        // RFC 826, field by field.
        let expected = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 7, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
            &[2, 0, 0, 0, 0, 7, 10, 0, 0, 1],
            &[0; 6],
            &[10, 0, 0, 2],
        ]
        .concat();
        assert_eq!(frame.get(..expected.len()), Some(&expected[..]));
        assert_eq!(question(MAC, [10, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()), None);
    }

    #[test]
    fn neighbour_discovery_asks_the_group_of_the_target() {
        let (source, target) = ("fd00::1".parse().unwrap(), "fd00::12:3456".parse::<Ipv6Addr>().unwrap());
        let frame = question(MAC, source, target.into()).unwrap();
        assert_eq!(frame.get(..6), Some(&[0x33, 0x33, 0xff, 0x12, 0x34, 0x56][..]));
        let parsed = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = &parsed.net else { panic!("{parsed:?}") };
        assert_eq!(ip.header().destination_addr(), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!((ip.header().source_addr(), ip.header().hop_limit()), (source_v6(source), 255));
        let Some(TransportSlice::Icmpv6(icmp)) = &parsed.transport else { panic!("{parsed:?}") };
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (135, 0));
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        let body = icmp.slice();
        assert_eq!(body.get(8..24), Some(&target.octets()[..]));
        assert_eq!(body.get(24..32), Some(&[1, 1, 2, 0, 0, 0, 0, 7][..]));
    }

    fn source_v6(address: IpAddr) -> Ipv6Addr {
        match address {
            IpAddr::V6(a) => a,
            IpAddr::V4(_) => panic!("{address}"),
        }
    }
}
