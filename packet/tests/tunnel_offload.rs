//! What a tunnel's sender left to others inside the packet: checksums and segments of the inner frame.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use base::HashSeed;
use etherparse::{SlicedPacket, TransportSlice};
use packet::tunnel::{GeneveMap, TunnelProtocol, TunnelPush, pop, push};
use packet::{Checksum, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, Segments};

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
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
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
