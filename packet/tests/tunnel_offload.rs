//! What a tunnel's sender left to others inside the packet: checksums and segments of the inner frame.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use base::HashSeed;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::tunnel::{GeneveMap, TunnelError, TunnelProtocol, TunnelPush, pop, push, push_uncut};
use packet::{Checksum, Cuts, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, Segments, Sum};
use std::net::IpAddr;

const SEED: HashSeed = HashSeed::new(1, 2);
/// Ethernet and IPv4 in front of TCP.
const L4: usize = 34;

fn tcp(payload: &[u8]) -> Frame {
    let built = FrameBuilder::tcp4((0x0a00_0001, 1234), (0x0a00_0002, 80), 0x18).payload(payload).build();
    let mut frame = Frame::from_bytes(&built);
    PacketKey::extract(&mut frame).unwrap();
    frame
}

/// The sum of the pseudo header (RFC 9293 section 3.1) of a TCP packet in a frame, as a sender leaves it in the field.
fn pseudo_sum(frame: &[u8]) -> u16 {
    let words = frame[26..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum = words.sum::<u32>() + 6 + (frame.len() - L4) as u32;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

fn undo(frame: &mut Frame, at: usize) {
    let sum = pseudo_sum(&frame.bytes()[at..]);
    frame.bytes_mut()[at + L4 + 16..at + L4 + 18].copy_from_slice(&sum.to_be_bytes());
}

fn assert_tcp_checksum(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("{packet:?}") };
    let header = tcp.to_header();
    assert_eq!(header.calc_checksum_ipv4(&ip.header().to_header(), tcp.payload()), Ok(tcp.checksum()));
}

/// A kernel's VXLAN device hands its whole super-packet over a veth pair: the announcement is of the inner TCP packet.
#[test]
fn segments_inside_a_tunnel_are_cut_when_it_has_been_left() {
    let payload: Vec<u8> = (0..4_500u32).map(|i| i as u8).collect();
    for protocol in [TunnelProtocol::Vxlan, TunnelProtocol::Geneve, TunnelProtocol::Gre] {
        let mut frame = tcp(&payload);
        let whole = frame.len();
        let ends = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let header = TunnelPush { mtu: 65_535, ..TunnelPush::new(protocol, ends[0], ends[1]) };
        push(&mut frame, &header, SEED).unwrap();
        let inner = frame.len() - whole;
        undo(&mut frame, inner);
        frame.checksum = Checksum::Partial { start: (inner + L4) as u16, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size: 1_000, ecn: false };
        let mut key = PacketKey::extract(&mut frame).unwrap();
        frame.validate_offload().unwrap();
        assert_eq!(frame.segmentation, Segmentation::None, "the outer packet is not to be cut");
        pop(&mut frame, protocol, &mut key, &GeneveMap::default()).unwrap();
        key.extract_headers(&mut frame).unwrap();
        frame.validate_offload().unwrap();
        assert_eq!(frame.segmentation, Segmentation::TcpV4 { size: 1_000, ecn: false }, "{protocol:?}");
        assert_eq!(frame.checksum, Checksum::Partial { start: L4 as u16, offset: 16 });
        let mut pool = FramePool::new(8);
        let mut segments = Segments::new(frame).unwrap();
        let mut got = Vec::new();
        while let Some(segment) = segments.next_segment(&mut pool) {
            assert_tcp_checksum(segment.bytes());
            got.extend_from_slice(&segment.bytes()[L4 + 20..]);
        }
        assert_eq!(got, payload, "{protocol:?}");
    }
}

#[test]
fn announcements_that_point_before_the_payload_are_lies() {
    let mut frame = tcp(&[0; 3_000]);
    frame.checksum = Checksum::Partial { start: 20, offset: 16 };
    frame.segmentation = Segmentation::TcpV4 { size: 1_000, ecn: false };
    assert!(frame.validate_offload().is_err());
}

/// A super-frame of `size` bytes a segment, over IPv4 or IPv6.
fn super_frame(payload: &[u8], size: u16, is_ipv6: bool) -> Frame {
    let builder = match is_ipv6 {
        false => FrameBuilder::tcp4((0x0a00_0001, 1234), (0x0a00_0002, 80), 0x99),
        true => FrameBuilder::tcp6((1, 1234), (2, 80), 0x99),
    };
    let mut frame = Frame::from_bytes(&builder.payload(payload).build());
    PacketKey::extract(&mut frame).unwrap();
    frame.checksum = Checksum::Partial { start: frame.layers.l4, offset: 16 };
    frame.segmentation = match is_ipv6 {
        false => Segmentation::TcpV4 { size, ecn: true },
        true => Segmentation::TcpV6 { size, ecn: true },
    };
    frame
}

/// What a port that cuts a super-frame in a tunnel sends behind the outer UDP header is what comes of segments that are pushed
/// one by one; the outer headers say the same of addresses, ports, TOS and TTL, and whether there is a checksum.
#[test]
fn cutting_after_the_push_sends_what_cutting_before_sends() {
    let payload: Vec<u8> = (0..9_001u32).map(|i| (i * 7) as u8).collect();
    let v4 = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let v6 = ["2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    for protocol in [TunnelProtocol::Vxlan, TunnelProtocol::Geneve, TunnelProtocol::Flannel] {
        for ([src, dst], csum, is_ipv6) in
            [(v4, false, false), (v4, true, false), (v6, true, true), (v4, true, true)]
        {
            if protocol == TunnelProtocol::Flannel && is_ipv6 {
                continue;
            }
            let header = TunnelPush { csum, vni: Some(5), ..TunnelPush::new(protocol, src, dst) };
            let mut pool = FramePool::new(8);
            let mut segments = Segments::new(super_frame(&payload, 1_001, is_ipv6)).unwrap();
            let mut expected = Vec::new();
            while let Some(mut segment) = segments.next_segment(&mut pool) {
                push(&mut segment, &header, SEED).unwrap();
                expected.push(segment.bytes().to_vec());
            }
            assert_eq!(expected.len(), 9);
            let outer_len = 14 + if dst.is_ipv4() { 20 } else { 40 };

            let mut frame = super_frame(&payload, 1_001, is_ipv6);
            push_uncut(&mut frame, &header, SEED).unwrap();
            assert_eq!(frame.bytes()[..outer_len + 6], expected[0][..outer_len + 6]);
            let has_checksum = |packet: &[u8]| packet[outer_len + 6..outer_len + 8] != [0, 0];
            assert_eq!((has_checksum(frame.bytes()), has_checksum(&expected[0])), (csum, csum));
            let mut cuts = Cuts::of(&frame).unwrap();
            assert_eq!((cuts.remaining(), cuts.segment_len()), (9, expected[0].len()));
            let mut headers = vec![0; cuts.header_len()];
            let mut got = Vec::new();
            while let Some(payload) = cuts.next_segment(frame.bytes(), &mut headers) {
                got.push([&headers[outer_len + 8..], &frame.bytes()[payload]].concat());
            }
            let expected: Vec<&[u8]> = expected.iter().map(|packet| &packet[outer_len + 8..]).collect();
            assert_eq!(got, expected, "{protocol:?} {dst} {is_ipv6}");
            assert_eq!(cuts.remaining(), 0);
        }
    }
}

#[test]
fn what_cannot_be_pushed_uncut_stays_as_it_is() {
    let ends = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let header = TunnelPush::new(TunnelProtocol::Vxlan, ends[0], ends[1]);
    // The first segment's packet has 20 + 8 + 8 + 54 bytes of headers, 1500 in all.
    let mut fits = super_frame(&[1; 3_000], 1_410, false);
    push_uncut(&mut fits, &header, SEED).unwrap();
    for (frame, error) in [
        (super_frame(&[1; 3_000], 1_411, false), TunnelError::TooBig),
        (tcp(&[1; 100]), TunnelError::SuperFrame),
    ] {
        let mut pushed = FramePool::new(1).copy_of(&frame);
        assert_eq!(push_uncut(&mut pushed, &header, SEED), Err(error));
        assert_eq!(pushed.bytes(), frame.bytes());
        assert_eq!((pushed.segmentation, pushed.layers), (frame.segmentation, frame.layers));
    }
}

/// What a kernel hands over that puts `inner`, a super-frame with the sum of the pseudo header in its field, into a tunnel of its
/// own. Also the length of what is in front of it.
fn in_own_tunnel(mut inner: Frame, header: &TunnelPush) -> (Frame, usize) {
    let (len, l4, segmentation) = (inner.len(), inner.layers.l4, inner.segmentation);
    inner.checksum = Checksum::Unknown;
    inner.segmentation = Segmentation::None;
    push(&mut inner, header, SEED).unwrap();
    let front = inner.len() - len;
    let outer_l4 = 14 + if header.dst.is_ipv4() { 20 } else { 40 };
    // The kernel leaves the sum of the pseudo header of UDP, and nothing in the field of GRE.
    match header.protocol {
        TunnelProtocol::Gre if header.csum => inner.bytes_mut()[outer_l4 + 4..outer_l4 + 6].fill(0),
        TunnelProtocol::Gre => {}
        _ if header.csum => inner.bytes_mut()[outer_l4 + 6..outer_l4 + 8].fill(0x5a),
        _ => {}
    }
    inner.checksum = Checksum::Partial { start: front as u16 + l4, offset: 16 };
    inner.segmentation = segmentation;
    PacketKey::extract(&mut inner).unwrap();
    (inner, front)
}

fn with_pseudo_sum(mut frame: Frame) -> Frame {
    let len = frame.len() - usize::from(frame.layers.l4);
    let pseudo = match frame.layers.l4 {
        34 => Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 6, len as u16),
        _ => Sum::pseudo_v6(1, 2, 6, len as u32),
    };
    let at = usize::from(frame.layers.l4) + 16;
    frame.bytes_mut()[at..at + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
    frame
}

/// Lengths and checksums of the network header; UDP's and TCP's too. Gives addresses, the IPv4 identification and the payload.
fn checked(frame: &[u8]) -> (Option<u16>, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (header, ip) = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.total_len), frame.len() - 14);
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            (etherparse::IpHeaders::Ipv4(header.clone(), Default::default()), Some(header.identification))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(usize::from(header.payload_length), frame.len() - 54);
            (etherparse::IpHeaders::Ipv6(header, Default::default()), None)
        }
        other => panic!("{other:?}"),
    };
    let payload = match &packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
            let right = match &header {
                etherparse::IpHeaders::Ipv4(ip, _) => udp.to_header().calc_checksum_ipv4(ip, udp.payload()),
                etherparse::IpHeaders::Ipv6(ip, _) => udp.to_header().calc_checksum_ipv6(ip, udp.payload()),
            };
            assert!(udp.checksum() == 0 || Ok(udp.checksum()) == right);
            udp.payload().to_vec()
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let right = match &header {
                etherparse::IpHeaders::Ipv4(ip, _) => tcp.to_header().calc_checksum_ipv4(ip, tcp.payload()),
                etherparse::IpHeaders::Ipv6(ip, _) => tcp.to_header().calc_checksum_ipv6(ip, tcp.payload()),
            };
            assert_eq!(Ok(tcp.checksum()), right);
            tcp.payload().to_vec()
        }
        _ => frame[14 + header.header_len()..].to_vec(),
    };
    (ip, payload)
}

/// For ports whose kernel or device cannot: the sender's own tunnel, cut inside, every header right in each packet.
#[test]
fn a_senders_own_tunnel_is_cut_inside() {
    let payload: Vec<u8> = (0..4_501u32).map(|i| (i * 13) as u8).collect();
    let v4: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let v6: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    for protocol in [TunnelProtocol::Vxlan, TunnelProtocol::Geneve, TunnelProtocol::Gre] {
        for ([src, dst], csum, is_ipv6) in
            [(v4, false, false), (v4, true, false), (v6, true, false), (v6, false, true), (v4, true, true)]
        {
            let new = TunnelPush::new(protocol, src, dst);
            let header = TunnelPush { csum, vni: Some(5), mtu: 65_535, df: false, ..new };
            let (mut frame, front) =
                in_own_tunnel(with_pseudo_sum(super_frame(&payload, 1_000, is_ipv6)), &header);
            let sent = frame.bytes().to_vec();
            frame.validate_offload().unwrap();
            let mut segments = Segments::new(frame).unwrap();
            assert_eq!(segments.remaining(), 5);
            let (mut pool, mut got, mut n) = (FramePool::new(8), Vec::new(), 0);
            while let Some(segment) = segments.next_segment(&mut pool) {
                assert_eq!(segment.segmentation, Segmentation::None);
                assert_eq!(segment.inner_segmentation, Segmentation::None);
                let bytes = segment.bytes();
                let (identification, outer) = checked(bytes);
                if let Some(identification) = identification {
                    assert_eq!(identification, u16::from_be_bytes([sent[18], sent[19]]).wrapping_add(n));
                }
                let outer_l4 = 14 + if dst.is_ipv4() { 20 } else { 40 };
                match protocol {
                    TunnelProtocol::Gre => {
                        let sum = Sum::of(&outer).folded();
                        assert!(!csum || sum == 0xffff, "{sum:x}");
                        assert_eq!(outer[0] & 0x80 != 0, csum);
                    }
                    _ => assert_eq!(bytes[outer_l4 + 6..outer_l4 + 8] != [0, 0], csum),
                }
                // Behind it the tunnel's own header is repeated.
                let tunnel_at = outer_l4 + 8;
                assert_eq!(bytes[tunnel_at..front], sent[tunnel_at..front]);
                got.extend(checked(&bytes[front..]).1);
                n += 1;
            }
            assert_eq!(
                (got == payload, n),
                (true, 5),
                "{protocol:?} {dst} csum {csum} IPv6 inside {is_ipv6}"
            );
        }
    }
}

#[test]
fn what_is_not_inside_a_tunnel_is_not_cut() {
    let ends: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
    let header = TunnelPush { mtu: 65_535, ..TunnelPush::new(TunnelProtocol::Vxlan, ends[0], ends[1]) };
    let cut = |size, change: fn(&mut Frame)| {
        let inner = with_pseudo_sum(super_frame(&[1; 3_000], 1_000, false));
        let (mut frame, _) = in_own_tunnel(inner, &header);
        frame.segmentation = Segmentation::TcpV4 { size, ecn: false };
        frame.validate_offload().unwrap();
        change(&mut frame);
        Segments::new(frame).map(|segments| segments.remaining()).ok()
    };
    assert_eq!(cut(1_000, |_| ()), Some(3));
    assert_eq!(cut(0, |_| ()), None);
    assert_eq!(cut(1, |_| ()), None, "too many");
    // The inner header, behind 50 bytes of Ethernet, IPv4, UDP and VXLAN and the inner Ethernet header: version, length,
    // fragment, protocol.
    assert_eq!(cut(1_000, |f| f.bytes_mut()[64] = 0x46), None);
    assert_eq!(cut(1_000, |f| f.bytes_mut()[67] ^= 1), None);
    assert_eq!(cut(1_000, |f| f.bytes_mut()[70] |= 0x20), None);
    assert_eq!(cut(1_000, |f| f.bytes_mut()[73] = 17), None);
    // The outer one is a fragment.
    assert_eq!(cut(1_000, |f| f.bytes_mut()[20] |= 0x20), None);
    assert_eq!(cut(1_000, |f| f.checksum = Checksum::Partial { start: 84, offset: 6 }), None);
    assert_eq!(cut(1_000, |f| f.inner_segmentation = Segmentation::TcpV6 { size: 1_000, ecn: false }), None);
    assert_eq!(cut(1_000, |f| f.layers = packet::Layers::default()), None);
}
