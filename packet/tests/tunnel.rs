//! Tunnel headers as they are pushed: read back by etherparse, against the layouts of the RFCs, and popped again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::net::IpAddr;

use base::HashSeed;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::key::{TUN_CSUM, TUN_DF, TUN_KEY, TUN_METADATA, TUN_OAM};
use packet::tunnel::{
    GENEVE_PORT, GeneveMap, GeneveOption, Inherit, TTL_DEFAULT, TunnelError, TunnelProtocol, TunnelPush,
    inner_mtu, overhead, pop, push,
};
use packet::{Checksum, Frame, FrameBuilder, PacketKey, Segmentation, slot};
use proptest::prelude::*;
use support::tunnel::{V4, V6, any_push, between};
use support::{any_builder, extracted};

const SEED: HashSeed = HashSeed::new(11, 12);
/// The frame after the push of a header that must succeed.
fn pushed(inner: &[u8], header: &TunnelPush) -> Frame {
    let mut frame = extracted(inner);
    push(&mut frame, header, SEED).unwrap();
    frame
}

/// What stands behind the outer UDP or IP header.
fn behind(frame: &[u8], header: &TunnelPush) -> Vec<u8> {
    let network = if header.dst.is_ipv4() { 20 } else { 40 };
    frame[14 + network + if header.protocol.is_udp() { 8 } else { 0 }..].to_vec()
}

fn two_options() -> (GeneveMap, PacketKey) {
    let mut map = GeneveMap::default();
    map.insert(0, GeneveOption { class: 0x0102, kind: 0x80, len: 4 }).unwrap();
    map.insert(5, GeneveOption { class: 0xffff, kind: 3, len: 16 }).unwrap();
    let mut key = PacketKey::default();
    key.set(TUN_METADATA[0], 0xdead_beef);
    key.set(TUN_METADATA[5], 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    key.set(slot::TUN_METADATA_PRESENT, 1 | 1 << 5);
    (map, key)
}

#[test]
fn vxlan_header_is_that_of_the_rfc() {
    let inner = FrameBuilder::udp4((1, 2), (3, 4)).build();
    let mut header = TunnelPush { vni: Some(0x12_3456), ..between(TunnelProtocol::Vxlan, V4) };
    let plain = [&[0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0], &inner[..]].concat();
    assert_eq!(behind(pushed(&inner, &header).bytes(), &header), plain);
    header.gbp = Some((0xabcd, 0xff));
    header.vni = Some(0xff00_0007);
    let policy = [&[0x88, 0x48, 0xab, 0xcd, 0, 0, 7, 0], &inner[..]].concat();
    assert_eq!(
        behind(pushed(&inner, &header).bytes(), &header),
        policy,
        "only the defined flags, 24 bits of VNI"
    );
}

#[test]
fn geneve_header_is_that_of_the_rfc() {
    let inner = FrameBuilder::udp4((1, 2), (3, 4)).build();
    let (map, key) = two_options();
    let mut header = TunnelPush { vni: Some(9), oam: true, ..between(TunnelProtocol::Geneve, V4) };
    let plain = [&[0x00, 0x80, 0x65, 0x58, 0, 0, 9, 0], &inner[..]].concat();
    assert_eq!(behind(pushed(&inner, &header).bytes(), &header), plain);
    header.options = map.encode(&key);
    header.oam = false;
    let mut wanted = vec![0x07, 0x40, 0x65, 0x58, 0, 0, 9, 0];
    wanted.extend([1, 2, 0x80, 1, 0xde, 0xad, 0xbe, 0xef]);
    wanted.extend([0xff, 0xff, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    wanted.extend(&inner);
    assert_eq!(behind(pushed(&inner, &header).bytes(), &header), wanted);
}

#[test]
fn gre_header_is_that_of_the_rfc() {
    let inner = FrameBuilder::udp4((1, 2), (3, 4)).build();
    let mut header = between(TunnelProtocol::Gre, V4);
    let plain = [&[0, 0, 0x65, 0x58], &inner[..]].concat();
    assert_eq!(behind(pushed(&inner, &header).bytes(), &header), plain);
    header.vni = Some(0x1_0000_0002);
    let keyed = [&[0x20, 0, 0x65, 0x58, 0, 0, 0, 2], &inner[..]].concat();
    assert_eq!(behind(pushed(&inner, &header).bytes(), &header), keyed);
    header.csum = true;
    let summed = behind(pushed(&inner, &header).bytes(), &header);
    assert_eq!(summed[..4], [0xa0, 0, 0x65, 0x58]);
    assert_eq!(summed[6..12], [0, 0, 0, 0, 0, 2]);
    assert_eq!(packet::Sum::of(&summed).checksum(), 0);
    assert_ne!(summed[4..6], [0, 0]);
}

#[test]
fn flannel_carries_the_bare_packet_without_padding() {
    let mut inner = FrameBuilder::udp4((1, 2), (3, 4)).vlan(0x8100, 5).build();
    let packet = inner[18..].to_vec();
    inner.resize(60, 0x55);
    let header = between(TunnelProtocol::Flannel, V4);
    assert_eq!(header.dst_port, 8285);
    assert_eq!(behind(pushed(&inner, &header).bytes(), &header), packet);
    let mut frame = extracted(&FrameBuilder::udp6((1, 2), (3, 4)).build());
    assert_eq!(push(&mut frame, &header, SEED), Err(TunnelError::NotIpv4));
    let mut frame = extracted(&FrameBuilder::arp(1, (1, 2), (3, 4)).build());
    assert_eq!(push(&mut frame, &header, SEED), Err(TunnelError::NotIpv4));
}

fn source_port(inner: &[u8], seed: HashSeed) -> u16 {
    let mut frame = extracted(inner);
    push(&mut frame, &between(TunnelProtocol::Vxlan, V4), seed).unwrap();
    u16::from_be_bytes([frame.bytes()[34], frame.bytes()[35]])
}

#[test]
fn source_port_is_that_of_the_flow() {
    let builders = [FrameBuilder::udp4((1, 1000), (2, 53)), FrameBuilder::udp6((1, 1000), (2, 53))];
    for builder in builders {
        let port = source_port(&builder.clone().build(), SEED);
        assert_eq!(source_port(&builder.clone().payload(&[7; 30]).build(), SEED), port);
        assert_ne!(source_port(&builder.clone().set(slot::TP_SRC, 1001).build(), SEED), port);
        assert_ne!(source_port(&builder.clone().build(), HashSeed::new(1, 2)), port);
        let first = builder.clone().set(slot::NW_FRAG, 1).build();
        let later = builder.clone().set(slot::NW_FRAG, 3).payload(&[1; 9]).build();
        assert_eq!(source_port(&first, SEED), source_port(&later, SEED));
    }
    let ports: Vec<u16> =
        (0..500).map(|i| source_port(&FrameBuilder::tcp4((1, i), (2, 80), 2).build(), SEED)).collect();
    assert!(ports.iter().all(|p| *p >= 49_152));
    let distinct: std::collections::HashSet<_> = ports.iter().collect();
    // 500 of 16384: about 7.5 pairs meet by chance.
    assert!(distinct.len() > 470, "{}", distinct.len());
}

#[test]
fn tos_and_ttl_are_given_or_inherited() {
    let read = |inner: &[u8], tos, ttl, ends| {
        let header = TunnelPush { tos, ttl, ..between(TunnelProtocol::Vxlan, ends) };
        let frame = pushed(inner, &header);
        let packet = SlicedPacket::from_ethernet(frame.bytes()).unwrap();
        match packet.net.unwrap() {
            NetSlice::Ipv4(ip) => {
                let h = ip.header();
                (h.dcp().value() << 2 | h.ecn().value(), h.ttl())
            }
            NetSlice::Ipv6(ip) => (ip.header().traffic_class(), ip.header().hop_limit()),
            NetSlice::Arp(_) => panic!("not IP"),
        }
    };
    let v4 = FrameBuilder::udp4((1, 2), (3, 4)).set(slot::NW_TOS, 0xb9).set(slot::NW_TTL, 7).build();
    let v6 = FrameBuilder::udp6((1, 2), (3, 4)).set(slot::NW_TOS, 0xb9).set(slot::NW_TTL, 7).build();
    let arp = FrameBuilder::arp(1, (1, 2), (3, 4)).build();
    for ends in [V4, V6] {
        for inner in [&v4, &v6] {
            assert_eq!(read(inner, Inherit::Inherit, Inherit::Inherit, ends), (0xb9, 7));
            assert_eq!(read(inner, Inherit::Value(0x2b), Inherit::Value(9), ends), (0x29, 9));
        }
        assert_eq!(read(&arp, Inherit::Inherit, Inherit::Inherit, ends), (0, TTL_DEFAULT));
        assert_eq!(read(&arp, Inherit::Value(0x2b), Inherit::Value(9), ends), (0x28, 9));
    }
}

#[test]
fn identification_is_zero_only_where_fragmenting_is_forbidden() {
    let id = |df, number| {
        let inner = FrameBuilder::udp4((1, 2), (3, 4)).identification(number).build();
        let frame = pushed(&inner, &TunnelPush { df, ..between(TunnelProtocol::Gre, V4) });
        u16::from_be_bytes([frame.bytes()[18], frame.bytes()[19]])
    };
    assert_eq!(id(true, 1), 0);
    assert_ne!(id(false, 1), id(false, 2));
}

#[test]
fn frames_that_cannot_be_pushed_stay_as_they_are() {
    let inner = FrameBuilder::udp4((1, 2), (3, 4)).payload(&[1; 1000]).build();
    let header = between(TunnelProtocol::Geneve, V4);
    let refuse = |header: &TunnelPush, change: fn(&mut Frame)| {
        let mut frame = extracted(&inner);
        change(&mut frame);
        let layers = frame.layers;
        let error = push(&mut frame, header, SEED).unwrap_err();
        assert_eq!((frame.bytes(), frame.layers), (&inner[..], layers));
        error
    };
    let fits = inner.len() as u16 + 20 + 8 + 8;
    assert_eq!(refuse(&TunnelPush { mtu: fits - 1, ..header.clone() }, |_| ()), TunnelError::TooBig);
    assert_eq!(pushed(&inner, &TunnelPush { mtu: fits, ..header.clone() }).len(), fits as usize + 14);
    let cut = |frame: &mut Frame| frame.segmentation = Segmentation::UdpL4 { size: 100 };
    assert_eq!(refuse(&header, cut), TunnelError::SuperFrame);
    assert_eq!(refuse(&TunnelPush { src: V6[0], ..header.clone() }, |_| ()), TunnelError::Addresses);
    for options in [&[0u8, 0, 0][..], &[0, 0, 0, 2, 1, 1, 1, 1], &[0; 256]] {
        let header = TunnelPush { options: options.into(), ..header.clone() };
        assert_eq!(refuse(&header, |_| ()), TunnelError::Options, "{options:?}");
    }
}

#[test]
fn what_a_link_leaves_to_the_inner_packet() {
    let frame = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).build());
    let tagged = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).vlan(0x8100, 3).build());
    // The figures that everybody configures: 1450 for VXLAN and Geneve, 1462 for GRE, 1472 for flannel's UDP.
    for (protocol, mtu) in [
        (TunnelProtocol::Vxlan, 1450),
        (TunnelProtocol::Geneve, 1450),
        (TunnelProtocol::Gre, 1462),
        (TunnelProtocol::Flannel, 1472),
    ] {
        let v4 = TunnelPush::new(protocol, V4[0], V4[1]);
        let v6 = TunnelPush::new(protocol, V6[0], V6[1]);
        assert_eq!(inner_mtu(&frame, &v4), mtu, "{protocol:?}");
        assert_eq!(inner_mtu(&frame, &v6), mtu - 20, "{protocol:?}");
        assert_eq!(1500 - overhead(&v4), mtu as usize);
        let tag = if protocol == TunnelProtocol::Flannel { 0 } else { 4 };
        assert_eq!(inner_mtu(&tagged, &v4), mtu - tag, "{protocol:?}");
    }
}

#[test]
fn the_longest_header_fits_the_headroom() {
    let mut map = GeneveMap::default();
    for index in 0..GeneveMap::FIELDS_MAX {
        map.insert(index, GeneveOption { class: 1, kind: index as u8, len: 16 }).unwrap();
    }
    let mut key = PacketKey::default();
    key.set(slot::TUN_METADATA_PRESENT, 0xff);
    let header = TunnelPush { options: map.encode(&key), ..between(TunnelProtocol::Geneve, V6) };
    assert_eq!(header.options.len(), 160);
    let mut frame = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).build());
    let (room, buffer) = (frame.headroom(), frame.buffer_len());
    push(&mut frame, &header, SEED).unwrap();
    assert_eq!(frame.buffer_len(), buffer, "not copied");
    assert_eq!(room - frame.headroom(), 14 + 40 + 8 + 8 + 160);
}

#[test]
fn a_partial_checksum_is_completed_first() {
    let whole = FrameBuilder::tcp4((1, 2), (3, 4), 0x10).payload(b"hello").build();
    let mut partial = extracted(&whole);
    let pseudo = packet::Sum::pseudo_v4(1, 3, 6, 25).folded();
    partial.bytes_mut()[50..52].copy_from_slice(&pseudo.to_be_bytes());
    partial.checksum = Checksum::Partial { start: 34, offset: 16 };
    let header = TunnelPush { csum: true, ..between(TunnelProtocol::Vxlan, V4) };
    push(&mut partial, &header, SEED).unwrap();
    assert_eq!(partial.bytes(), pushed(&whole, &header).bytes());
    assert_eq!((partial.checksum, partial.layers), (Checksum::Unknown, Default::default()));
}

/// The key that a pop must leave, from what was pushed.
fn expected(header: &TunnelPush, map: &GeneveMap, inner_tos: u8) -> PacketKey {
    let mut key = PacketKey::default();
    let mut flags = 0;
    match (header.src, header.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            key.set(slot::TUN_SRC, u32::from(src) as u128);
            key.set(slot::TUN_DST, u32::from(dst) as u128);
            flags |= if header.df { TUN_DF } else { 0 };
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            key.set(slot::TUN_IPV6_SRC, u128::from(src));
            key.set(slot::TUN_IPV6_DST, u128::from(dst));
        }
        _ => panic!("two families"),
    }
    let (Inherit::Value(tos), Inherit::Value(ttl)) = (header.tos, header.ttl) else { panic!("inherited") };
    key.set(slot::TUN_TOS, (tos & 0xfc | inner_tos & 3) as u128);
    key.set(slot::TUN_TTL, ttl as u128);
    flags |= if header.csum { TUN_CSUM } else { 0 };
    let bits = match header.protocol {
        TunnelProtocol::Gre => 32,
        TunnelProtocol::Flannel => 0,
        _ => 24,
    };
    key.set(slot::TUN_ID, (header.vni.unwrap_or(0) & ((1 << bits) - 1)) as u128);
    let has_id = match header.protocol {
        TunnelProtocol::Gre => header.vni.is_some(),
        protocol => protocol != TunnelProtocol::Flannel,
    };
    flags |= if has_id { TUN_KEY } else { 0 };
    if let (TunnelProtocol::Vxlan, Some((id, policy))) = (header.protocol, header.gbp) {
        key.set(slot::TUN_GBP_ID, id as u128);
        key.set(slot::TUN_GBP_FLAGS, policy as u128);
    }
    if header.protocol == TunnelProtocol::Geneve {
        flags |= if header.oam { TUN_OAM } else { 0 };
        let mut rest = &header.options[..];
        for (index, option) in map.iter() {
            let value = &rest[4..4 + option.len as usize];
            let number = value.iter().fold(0u128, |n, b| n << 8 | *b as u128);
            key.set(TUN_METADATA[index], number);
            key.set(slot::TUN_METADATA_PRESENT, key.get(slot::TUN_METADATA_PRESENT) | 1 << index);
            rest = &rest[4 + option.len as usize..];
        }
        assert!(rest.is_empty());
    }
    key.set(slot::TUN_FLAGS, flags as u128);
    key
}

/// Lengths, addresses and checksums of the outer headers, as etherparse reads them.
fn judge(frame: &[u8], header: &TunnelPush, inner_len: usize) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ethernet = packet.link.unwrap().to_header().unwrap().ethernet2().unwrap();
    assert_eq!((ethernet.source, ethernet.destination), (header.eth_src, header.eth_dst));
    let ip_len = frame.len() - 14;
    let transport_sum = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let h = ip.header().to_header();
            assert_eq!(h.header_checksum, h.calc_header_checksum());
            assert_eq!((h.total_len as usize, h.dont_fragment, h.more_fragments), (ip_len, header.df, false));
            assert_eq!(V4, [IpAddr::from(h.source), IpAddr::from(h.destination)]);
            match &packet.transport {
                Some(TransportSlice::Udp(udp)) => {
                    Some(udp.to_header().calc_checksum_ipv4(&h, udp.payload()).unwrap())
                }
                _ => None,
            }
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header().to_header();
            assert_eq!((h.payload_length as usize, h.flow_label.value()), (ip_len - 40, 0));
            assert_eq!(V6, [IpAddr::from(h.source), IpAddr::from(h.destination)]);
            match &packet.transport {
                Some(TransportSlice::Udp(udp)) => {
                    Some(udp.to_header().calc_checksum_ipv6(&h, udp.payload()).unwrap())
                }
                _ => None,
            }
        }
        NetSlice::Arp(_) => panic!("not IP"),
    };
    match packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            let tunnel_len = match header.protocol {
                TunnelProtocol::Vxlan => 8,
                TunnelProtocol::Geneve => 8 + header.options.len(),
                _ => 0,
            };
            assert_eq!(
                (udp.destination_port(), udp.length() as usize),
                (header.dst_port, 8 + tunnel_len + inner_len)
            );
            let wanted = if header.csum { transport_sum.unwrap() } else { 0 };
            assert_eq!(udp.checksum(), wanted);
        }
        _ => assert_eq!(header.protocol, TunnelProtocol::Gre),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_pushed_is_popped((header, map) in any_push(), builder in any_builder()) {
        let inner = builder.build();
        let mut frame = extracted(&inner);
        let l3 = frame.layers.l3 as usize;
        let is_ipv4 = builder.key().dl_type() == 0x0800;
        // The extraction, not the builder: a field of 8 bits may say that the packet is broken.
        let tos = PacketKey::extract(&mut extracted(&inner)).unwrap().get(slot::NW_TOS) as u8;
        let result = push(&mut frame, &header, SEED);
        if header.protocol == TunnelProtocol::Flannel && (!is_ipv4 || l3 > inner.len()) {
            prop_assert_eq!(result, Err(TunnelError::NotIpv4));
            return Ok(());
        }
        prop_assert_eq!(result, Ok(()));
        let is_bare = header.protocol == TunnelProtocol::Flannel;
        judge(frame.bytes(), &header, inner.len() - if is_bare { l3 } else { 0 });
        let mut key = PacketKey::default();
        key.set(slot::TP_DST, 5);
        key.set(slot::CT_MARK, 5);
        pop(&mut frame, header.protocol, &mut key, &map).unwrap();
        prop_assert_eq!(key, expected(&header, &map, tos));
        if is_bare {
            prop_assert_eq!(&frame.bytes()[..14], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
            prop_assert_eq!(&frame.bytes()[14..], &inner[l3..]);
        } else {
            prop_assert_eq!(frame.bytes(), &inner[..]);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_where_a_checksum_covers_it(
        (header, map) in any_push(),
        builder in any_builder(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let header = TunnelPush { csum: true, ..header };
        let mut frame = extracted(&builder.build());
        prop_assume!(push(&mut frame, &header, SEED).is_ok());
        let at = 14 + at.index(frame.len() - 14);
        frame.bytes_mut()[at] ^= 1 << bit;
        let bytes = frame.bytes().to_vec();
        let mut key = PacketKey::default();
        let result = pop(&mut frame, header.protocol, &mut key, &map);
        let udp = 14 + if header.dst.is_ipv4() { 20 } else { 40 };
        // IPv6 has no checksum over its header; a bit in a GRE header may say that there is none, and so may one in the
        // UDP checksum. Another UDP length may have a sum that is right by chance.
        let is_covered = header.protocol != TunnelProtocol::Gre
            && (at >= udp + 8 || (udp..udp + 4).contains(&at) || at < udp && header.dst.is_ipv4());
        if is_covered {
            prop_assert!(result.is_err(), "byte {} bit {}", at, bit);
        }
        if result.is_err() {
            prop_assert_eq!(frame.bytes(), &bytes[..]);
            prop_assert_eq!(key, PacketKey::default());
        }
    }
}

#[test]
fn default_port_of_geneve_is_the_assigned_one() {
    assert_eq!(TunnelPush::new(TunnelProtocol::Geneve, V4[0], V4[1]).dst_port, GENEVE_PORT);
    assert_eq!(TunnelPush::new(TunnelProtocol::Vxlan, V4[0], V4[1]).dst_port, 4789);
    assert!(TunnelPush::new(TunnelProtocol::Vxlan, V6[0], V6[1]).csum);
    assert!(!TunnelPush::new(TunnelProtocol::Gre, V6[0], V6[1]).csum);
}
