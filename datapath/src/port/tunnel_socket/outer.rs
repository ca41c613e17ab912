//! The outer headers of a tunnel's packet, as far as a socket needs them: read from a frame, and put in front of one.

use packet::{Frame, Sum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const PROTO_UDP: u8 = 17;
const PROTO_GRE: u8 = 47;
/// Don't Fragment in the word of flags and offset (RFC 791).
const DONT_FRAGMENT: u16 = 0x4000;

/// What the outer headers of a frame say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::port) struct Outer {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub ttl: u8,
    /// Don't Fragment; always over IPv6, which has no bit for it but where only the source can fragment.
    pub df: bool,
    /// Whether a UDP header over IPv4 has a checksum; true for all else.
    pub is_checked: bool,
    /// Ports; 0 for GRE.
    pub src_port: u16,
    pub dst_port: u16,
    /// Where the payload is in the frame: behind the UDP header, or from the GRE header on.
    pub payload: (u32, u32),
}

impl Outer {
    pub fn payload(&self) -> Range<usize> {
        self.payload.0 as usize..self.payload.1 as usize
    }

    /// Reads the headers of a frame without VLAN tags. None if they are not those of a whole UDP or GRE packet.
    pub fn read(bytes: &[u8]) -> Option<Outer> {
        let (ethernet, packet) = bytes.split_first_chunk::<ETHERNET_LEN>()?;
        let (mut outer, protocol, start, end) = match [ethernet[12], ethernet[13]] {
            ETHERTYPE_IPV4 => read_ipv4(packet)?,
            ETHERTYPE_IPV6 => read_ipv6(packet)?,
            _ => return None,
        };
        let transport = packet.get(start..end)?;
        let header_len = match protocol {
            PROTO_UDP => {
                let [s0, s1, d0, d1, _, _, c0, c1] = *transport.first_chunk::<UDP_LEN>()?;
                outer.is_checked = [c0, c1] != [0, 0] || outer.dst.is_ipv6();
                (outer.src_port, outer.dst_port) =
                    (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
                UDP_LEN
            }
            PROTO_GRE => 0,
            _ => return None,
        };
        let place = |at: usize| u32::try_from(ETHERNET_LEN + at).ok();
        outer.payload = (place(start + header_len)?, place(end)?);
        Some(outer)
    }
}

fn read_ipv4(packet: &[u8]) -> Option<(Outer, u8, usize, usize)> {
    let header = packet.first_chunk::<IPV4_LEN>()?;
    let [version, tos, l0, l1, _, _, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_len = usize::from(version & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([l0, l1]));
    if version >> 4 != 4 || header_len < IPV4_LEN || total_len < header_len {
        return None;
    }
    let outer = Outer {
        src: Ipv4Addr::new(s0, s1, s2, s3).into(),
        dst: Ipv4Addr::new(d0, d1, d2, d3).into(),
        tos,
        ttl,
        df: u16::from_be_bytes([f0, f1]) & DONT_FRAGMENT != 0,
        is_checked: true,
        src_port: 0,
        dst_port: 0,
        payload: (0, 0),
    };
    Some((outer, protocol, header_len, total_len))
}

fn read_ipv6(packet: &[u8]) -> Option<(Outer, u8, usize, usize)> {
    let (fixed, rest) = packet.split_first_chunk::<8>()?;
    let (src, rest) = rest.split_first_chunk::<16>()?;
    let dst = rest.first_chunk::<16>()?;
    let [v0, v1, _, _, l0, l1, next_header, hop_limit] = *fixed;
    if v0 >> 4 != 6 {
        return None;
    }
    let outer = Outer {
        src: Ipv6Addr::from(*src).into(),
        dst: Ipv6Addr::from(*dst).into(),
        tos: v0 << 4 | v1 >> 4,
        ttl: hop_limit,
        df: true,
        is_checked: true,
        src_port: 0,
        dst_port: 0,
        payload: (0, 0),
    };
    let end = IPV6_LEN + usize::from(u16::from_be_bytes([l0, l1]));
    Some((outer, next_header, IPV6_LEN, end))
}

/// Where a raw IPv4 socket's packet ends its header; none if it has no whole one.
pub(super) fn ipv4_header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let len = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && len >= IPV4_LEN && len <= packet.len()).then_some(len)
}

/// Puts Ethernet (with addresses of zero), IP and, if there are ports, UDP headers in front of a payload. The UDP checksum
/// is left out: the kernel has verified it. `outer.payload`, `outer.df` and
/// `outer.is_checked` are not looked at. False if the frame would be
/// too long, or the addresses are of two families.
pub(in crate::port) fn prepend(frame: &mut Frame, outer: &Outer, is_udp: bool) -> bool {
    let udp_len = if is_udp { UDP_LEN } else { 0 };
    let Ok(transport_len) = u16::try_from(udp_len + frame.len()) else { return false };
    let mut headers = [0; ETHERNET_LEN + IPV6_LEN + UDP_LEN];
    let protocol = if is_udp { PROTO_UDP } else { PROTO_GRE };
    let ip_len = match (outer.src, outer.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let Some(total_len) = transport_len.checked_add(IPV4_LEN as u16) else { return false };
            let mut header = [0; IPV4_LEN];
            let [l0, l1] = total_len.to_be_bytes();
            let fixed = [0x45, outer.tos, l0, l1, 0, 0, 0, 0, outer.ttl, protocol, 0, 0];
            put(&mut header, 0, &fixed);
            put(&mut header, 12, &src.octets());
            put(&mut header, 16, &dst.octets());
            let checksum = Sum::of(&header).checksum().to_be_bytes();
            put(&mut header, 10, &checksum);
            put(&mut headers, 12, &ETHERTYPE_IPV4);
            put(&mut headers, ETHERNET_LEN, &header);
            IPV4_LEN
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let [l0, l1] = transport_len.to_be_bytes();
            let fixed = [0x60 | outer.tos >> 4, outer.tos << 4, 0, 0, l0, l1, protocol, outer.ttl];
            put(&mut headers, 12, &ETHERTYPE_IPV6);
            put(&mut headers, ETHERNET_LEN, &fixed);
            put(&mut headers, ETHERNET_LEN + 8, &src.octets());
            put(&mut headers, ETHERNET_LEN + 24, &dst.octets());
            IPV6_LEN
        }
        _ => return false,
    };
    if is_udp {
        put(&mut headers, ETHERNET_LEN + ip_len, &outer.src_port.to_be_bytes());
        put(&mut headers, ETHERNET_LEN + ip_len + 2, &outer.dst_port.to_be_bytes());
        put(&mut headers, ETHERNET_LEN + ip_len + 4, &transport_len.to_be_bytes());
    }
    let Ok(room) = frame.push_front(ETHERNET_LEN + ip_len + udp_len) else { return false };
    room.iter_mut().zip(headers).for_each(|(to, from)| *to = from);
    true
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{FrameBuilder, PacketKey, slot};

    #[test]
    fn reads_what_was_built_and_nothing_else() {
        let v4 = FrameBuilder::udp4((0x0a00_0001, 50_000), (0x0a00_0002, 4_789))
            .set(slot::NW_TOS, 0xb8)
            .set(slot::NW_TTL, 9)
            .payload(b"vxlan")
            .build();
        let outer = Outer::read(&v4).unwrap();
        assert_eq!((outer.src, outer.dst), ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()));
        assert_eq!((outer.tos, outer.ttl, outer.src_port, outer.dst_port), (0xb8, 9, 50_000, 4_789));
        assert_eq!(v4[outer.payload()], *b"vxlan");
        let v6 = FrameBuilder::ipv6(1, 2, 47).set(slot::NW_TOS, 0x29).payload(b"gre").build();
        let outer = Outer::read(&v6).unwrap();
        assert_eq!((outer.dst, outer.tos, &v6[outer.payload()]), ("::2".parse().unwrap(), 0x29, &b"gre"[..]));
        for bad in [
            FrameBuilder::tcp4((1, 1), (2, 2), 2).build(),
            FrameBuilder::arp(1, (1, 1), (2, 2)).build(),
            FrameBuilder::udp4((1, 1), (2, 2)).vlan(0x8100, 1).build(),
        ] {
            assert_eq!(Outer::read(&bad), None);
        }
        for len in 0..v4.len() {
            assert_eq!(Outer::read(&v4[..len]), None, "{len} bytes");
        }
        for len in 0..v6.len() {
            assert_eq!(Outer::read(&v6[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn what_is_put_in_front_is_read_again_by_us_and_by_extraction() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            for is_udp in [true, false] {
                let ports = if is_udp { (50_000, 6_081) } else { (0, 0) };
                let outer = Outer {
                    src: src.parse().unwrap(),
                    dst: dst.parse().unwrap(),
                    tos: 0xb9,
                    ttl: 63,
                    df: true,
                    is_checked: true,
                    src_port: ports.0,
                    dst_port: ports.1,
                    payload: (0, 0),
                };
                let mut frame = Frame::from_bytes(b"payload");
                assert!(prepend(&mut frame, &outer, is_udp));
                let read = Outer::read(frame.bytes()).unwrap();
                assert_eq!(frame.bytes()[read.payload()], *b"payload");
                let df = outer.src.is_ipv6();
                let is_checked = df || !is_udp;
                assert_eq!(read, Outer { payload: read.payload, df, is_checked, ..outer });
                let key = PacketKey::extract(&mut frame).unwrap();
                assert_eq!(key.get(slot::NW_PROTO), if is_udp { 17 } else { 47 });
                assert_eq!((key.get(slot::NW_TOS), key.get(slot::NW_TTL)), (0xb9, 63));
                assert_eq!(key.get(slot::TP_DST), ports.1.into());
                if outer.src.is_ipv4() {
                    assert_eq!(Sum::of(&frame.bytes()[14..34]).checksum(), 0);
                }
            }
        }
    }

    #[test]
    fn too_much_is_refused() {
        let outer = |src: &str, dst: &str| Outer {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            tos: 0,
            ttl: 1,
            df: false,
            is_checked: true,
            src_port: 1,
            dst_port: 2,
            payload: (0, 0),
        };
        let long = |len: usize| Frame::from_bytes(&vec![0; len]);
        let v4 = outer("10.0.0.1", "10.0.0.2");
        assert!(prepend(&mut long(65_507), &v4, true) && !prepend(&mut long(65_508), &v4, true));
        let v6 = outer("::1", "::2");
        assert!(prepend(&mut long(65_527), &v6, true) && !prepend(&mut long(65_528), &v6, true));
        assert!(!prepend(&mut long(1), &outer("::1", "10.0.0.2"), true));
    }
}
