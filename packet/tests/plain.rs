//! The short ways for plain packets say and do what the general functions do, and those say what RFC 1071 does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::rewrite::{Endpoints, EndsRewrite, Network, set_endpoints};
use packet::{Checksum, Frame, FrameBuilder, PlainPacket, slot};
use proptest::prelude::*;
use support::{any_builder, any_damaged, extracted, plain_builder};

const ADDRESSES: [u128; 6] = [0, 0x0a00_0001, 0xffff_ffff, 0xffff_0000, 0x2001_0db8 << 96 | 7, u128::MAX];

/// By the definition, word by word: whether the words and `start` add up to zero modulo 0xffff, and are not all zero.
fn adds_up(bytes: &[u8], start: u64) -> bool {
    let words = bytes.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(c.get(1).copied().unwrap_or(0)));
    let sum: u64 = start + words.sum::<u64>();
    sum != 0 && sum.is_multiple_of(0xffff)
}

/// Whether the checksums of an untagged frame without options are right, from offsets alone.
fn is_right(bytes: &[u8], is_v4: bool, is_tcp: bool) -> bool {
    let (addresses, l4) = if is_v4 { (26..34, 34) } else { (22..54, 54) };
    if is_v4 && !adds_up(&bytes[14..34], 0) {
        return false;
    }
    let mut covered = &bytes[l4..];
    if !is_tcp {
        if covered[6..8] == [0, 0] {
            return is_v4;
        }
        let len = usize::from(u16::from_be_bytes([covered[4], covered[5]]));
        match covered.get(..len) {
            Some(datagram) => covered = datagram,
            None => return false,
        }
    }
    let pseudo = [&bytes[addresses], &[0, if is_tcp { 6 } else { 17 }], covered].concat();
    adds_up(&pseudo, covered.len() as u64)
}

/// What etherparse computes for the transport checksum, and what stands there.
fn by_etherparse(bytes: &[u8]) -> (u16, u16) {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let ends = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            assert_eq!(h.header_checksum(), h.to_header().calc_header_checksum());
            (h.source().to_vec(), h.destination().to_vec())
        }
        NetSlice::Ipv6(ip) => (ip.header().source().to_vec(), ip.header().destination().to_vec()),
        NetSlice::Arp(_) => panic!("no ARP here"),
    };
    let v4 = |a: &[u8]| <[u8; 4]>::try_from(a).unwrap();
    let v6 = |a: &[u8]| <[u8; 16]>::try_from(a).unwrap();
    let is_v4 = ends.0.len() == 4;
    match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let computed = if is_v4 {
                tcp.calc_checksum_ipv4(v4(&ends.0), v4(&ends.1))
            } else {
                tcp.calc_checksum_ipv6(v6(&ends.0), v6(&ends.1))
            };
            (computed.unwrap(), tcp.checksum())
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let computed = if is_v4 {
                header.calc_checksum_ipv4_raw(v4(&ends.0), v4(&ends.1), udp.payload())
            } else {
                header.calc_checksum_ipv6_raw(v6(&ends.0), v6(&ends.1), udp.payload())
            };
            (computed.unwrap(), udp.checksum())
        }
        _ => panic!("TCP or UDP"),
    }
}

fn checksum() -> impl Strategy<Value = Checksum> {
    prop_oneof![
        2 => Just(Checksum::Unknown),
        1 => Just(Checksum::Valid),
        1 => (0..80u16, 0..20u16).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
    ]
}

fn say_the_same(frame: &Frame) -> Result<(), TestCaseError> {
    let general = frame.verify_ipv4_header() && frame.verify_transport();
    prop_assert_eq!(frame.verify_checksums(), general);
    Ok(())
}

#[test]
fn every_length_is_judged_right() {
    for (is_v4, is_tcp) in [(true, true), (true, false), (false, true), (false, false)] {
        for len in 0..300usize {
            let payload: Vec<u8> = (0..len).map(|i| (i * 89 + len) as u8 | 0x81).collect();
            let frame = extracted(&plain_builder(is_v4, is_tcp, &payload).build());
            assert!(PlainPacket::of(&frame).is_some());
            assert!(frame.verify_checksums(), "{is_v4} {is_tcp} {len}");
            let (computed, stands) = by_etherparse(frame.bytes());
            assert_eq!(computed, stands);
            let last = frame.len() - 1;
            let mut bytes = frame.bytes().to_vec();
            bytes[last] ^= 0x10;
            assert!(!extracted(&bytes).verify_checksums(), "{is_v4} {is_tcp} {len}");
        }
    }
}

#[test]
fn only_plain_packets_have_a_view() {
    let frames = [
        FrameBuilder::ipv4(1, 2, 132).set(slot::TP_SRC, 1),
        FrameBuilder::icmp4(1, 2, 8, 0),
        plain_builder(true, true, b"x").ipv4_options(&[1; 4]),
        FrameBuilder::arp(1, (1, 2), (3, 4)),
    ];
    for frame in frames {
        assert!(PlainPacket::of(&extracted(&frame.build())).is_none());
    }
    let mut fragment = plain_builder(true, false, &[7; 30]).build();
    fragment[20] |= 0x20;
    assert!(PlainPacket::of(&extracted(&fragment)).is_none());
    let tagged = extracted(&plain_builder(true, true, b"x").vlan(0x8100, 5).build());
    let packet = PlainPacket::of(&tagged).unwrap();
    assert_eq!(packet.addresses_v4(), Some(0x0a4d_0002_0a4d_0001));
    assert_eq!((packet.ports(), packet.protocol()), (40_000 << 16 | 5_001, 6));
    assert_eq!(packet.addresses_v6(), None);
    let v6 = extracted(&plain_builder(false, false, b"x").build());
    assert_eq!(PlainPacket::of(&v6).unwrap().addresses_v6(), Some((7, 9)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damage_is_judged_by_definition(
        is_v4: bool,
        is_tcp: bool,
        payload in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        xor: u8,
    ) {
        let mut bytes = plain_builder(is_v4, is_tcp, &payload).build();
        // Not what makes it another kind of packet: type, version, lengths, fragment bits, protocol.
        let keep: &[usize] = if is_v4 { &[12, 13, 14, 16, 17, 20, 21, 23] } else { &[12, 13, 14, 18, 19, 20] };
        let at = at.index(bytes.len());
        if !keep.contains(&at) {
            bytes[at] ^= xor;
        }
        let frame = extracted(&bytes);
        // A data offset beyond the packet leaves no transport header to check.
        if PlainPacket::of(&frame).is_some() {
            prop_assert_eq!(frame.verify_checksums(), is_right(&bytes, is_v4, is_tcp));
        }
        say_the_same(&frame)?;
    }

    #[test]
    fn as_the_general_functions_say(builder in any_builder(), checksum in checksum(), padding in 0..9usize) {
        let mut bytes = builder.build();
        bytes.resize(bytes.len() + padding, 0x5a);
        let mut frame = extracted(&bytes);
        frame.checksum = checksum;
        say_the_same(&frame)?;
    }

    #[test]
    fn damaged_as_the_general_functions_say(bytes in any_damaged(), checksum in checksum()) {
        if bytes.len() >= 14 {
            let mut frame = extracted(&bytes);
            frame.checksum = checksum;
            say_the_same(&frame)?;
        }
    }

    /// Ends written from what was worked out before are those that the general function writes, whatever the packet.
    #[test]
    fn ends_as_the_general_function_writes_them(
        bytes in prop_oneof![
            any_builder().prop_map(|b| b.build()),
            (any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(v4, tcp, payload)| plain_builder(v4, tcp, &payload).build()),
        ],
        new_src in prop_oneof![any::<u128>(), prop::sample::select(ADDRESSES.to_vec())],
        new_dst in prop_oneof![any::<u128>(), prop::sample::select(ADDRESSES.to_vec())],
        new_ports in any::<[u16; 2]>(),
        kept in 0..4u8,
        no_checksum: bool,
        partial: bool,
    ) {
        let mut bytes = bytes;
        let frame = extracted(&bytes);
        let Some(packet) = PlainPacket::of(&frame) else {
            // Another kind of packet stays as it is, or is written as the other function does.
            let ends = Endpoints { src: 1, dst: 2, src_port: 3, dst_port: 4 };
            let wrong = EndsRewrite::new(Network::Ipv4, 17, &ends, &ends).unwrap();
            let mut frame = frame;
            if frame.layers.l4 == u16::MAX {
                prop_assert!(!wrong.apply(&mut frame));
                prop_assert_eq!(frame.bytes(), &bytes[..]);
            }
            return Ok(());
        };
        let (network, old) = match (packet.addresses_v4(), packet.addresses_v6()) {
            (Some(v4), _) => (Network::Ipv4, ((v4 >> 32).into(), (v4 as u32).into())),
            (_, Some(v6)) => (Network::Ipv6, v6),
            _ => panic!("has addresses"),
        };
        let protocol = packet.protocol();
        let old = Endpoints {
            src: old.0,
            dst: old.1,
            src_port: (packet.ports() >> 16) as u16,
            dst_port: packet.ports() as u16,
        };
        let cut = |a: u128| if network == Network::Ipv4 { a & 0xffff_ffff } else { a };
        let new = Endpoints {
            src: if kept & 1 == 0 { cut(new_src) } else { old.src },
            dst: if kept & 2 == 0 { cut(new_dst) } else { old.dst },
            src_port: if kept & 1 == 0 { new_ports[0] } else { old.src_port },
            dst_port: if kept & 2 == 0 { new_ports[1] } else { old.dst_port },
        };
        let l4 = usize::from(frame.layers.l4);
        if no_checksum && protocol == 17 {
            bytes[l4 + 6..l4 + 8].fill(0);
        }
        let mut worked_out = extracted(&bytes);
        if partial {
            let offset = if protocol == 6 { 16 } else { 6 };
            worked_out.checksum = Checksum::Partial { start: l4 as u16, offset };
        }
        let mut general = extracted(&bytes);
        general.checksum = worked_out.checksum;
        let rewrite = EndsRewrite::new(network, protocol, &old, &new).unwrap();
        prop_assert!(rewrite.apply(&mut worked_out));
        prop_assert!(set_endpoints(&mut general, &new));
        prop_assert_eq!(worked_out.bytes(), general.bytes());
        prop_assert_eq!(worked_out.checksum, general.checksum);
        // Of the other protocol it is none of its business.
        let other = EndsRewrite::new(network, 23 - protocol, &old, &new).unwrap();
        let before = worked_out.bytes().to_vec();
        prop_assert!(!other.apply(&mut worked_out));
        prop_assert_eq!(worked_out.bytes(), &before[..]);
    }
}

#[test]
fn no_rewrite_for_other_protocols() {
    let ends = Endpoints { src: 1, dst: 2, src_port: 3, dst_port: 4 };
    for protocol in [1, 47, 58, 132] {
        assert_eq!(EndsRewrite::new(Network::Ipv4, protocol, &ends, &ends), None);
    }
    assert_eq!(EndsRewrite::new(Network::Arp, 6, &ends, &ends), None);
}
