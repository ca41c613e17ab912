//! Extraction: the parsing bugs that other switches had, each by name, and random frames against etherparse.

mod support;

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use packet::frame::{FRAME_LEN_MAX, NO_LAYER};
use packet::key::{FRAG_ANY, FRAG_LATER};
use packet::wire::*;
use packet::{DpPort, Frame, FrameBuilder, Malformed, PacketKey, slot};
use proptest::prelude::*;
use support::{any_damaged, capture, extracted, key_of};

const SYN: u16 = 2;

fn tcp4() -> Vec<u8> {
    FrameBuilder::tcp4((0x0a00_0001, 1000), (0x0a00_0002, 80), SYN).build()
}

fn tcp6() -> Vec<u8> {
    FrameBuilder::tcp6((1, 1000), (2, 80), SYN).build()
}

/// The fields of layer 3 and up, which are zero where a header is not believed.
fn upper(key: &PacketKey) -> Vec<u128> {
    let lower = [slot::IN_PORT, slot::DL_SRC, slot::DL_DST, slot::DL_TYPE];
    slot::ALL.iter().filter(|s| !lower.contains(s)).map(|s| key.get(*s)).filter(|v| *v != 0).collect()
}

fn is_l2_only(bytes: &[u8]) -> bool {
    let frame = extracted(bytes);
    upper(&key_of(bytes)).is_empty() && frame.layers.l3 == NO_LAYER && frame.layers.l4 == NO_LAYER
}

#[test]
fn only_frames_without_an_ethernet_header_are_refused() {
    for len in 0..14 {
        assert_eq!(PacketKey::extract(&mut Frame::from_bytes(&vec![0xff; len])), Err(Malformed::TooShort));
    }
    assert!(PacketKey::extract(&mut Frame::from_bytes(&[0xff; 14])).is_ok());
    assert!(PacketKey::extract(&mut Frame::from_bytes(&vec![0xff; FRAME_LEN_MAX])).is_ok());
    let mut long = Frame::from_bytes(&vec![0xff; FRAME_LEN_MAX + 1]);
    assert_eq!(PacketKey::extract(&mut long), Err(Malformed::TooLong));
}

#[test]
fn ingress_port_is_that_of_the_frame() {
    let mut frame = Frame::from_bytes(&tcp4());
    frame.in_port = DpPort(7);
    assert_eq!(PacketKey::extract(&mut frame).unwrap().in_port(), DpPort(7));
}

#[test]
fn layers_of_plain_and_tagged_frames() {
    let layers = |bytes: &[u8]| {
        let layers = extracted(bytes).layers;
        (layers.l2_5, layers.l3, layers.l4, layers.padding)
    };
    assert_eq!(layers(&tcp4()), (NO_LAYER, 14, 34, 0));
    assert_eq!(layers(&tcp6()), (NO_LAYER, 14, 54, 0));
    let tagged =
        FrameBuilder::tcp4((1, 2), (3, 4), SYN).vlan(0x88a8, 5).vlan(0x8100, 6).ipv4_options(&[1; 8]);
    assert_eq!(layers(&tagged.build()), (NO_LAYER, 22, 50, 0));
    let label = FrameBuilder::ethernet(ETHERTYPE_MPLS).set(slot::MPLS_LSE0, 0x100).payload(&[0; 40]);
    assert_eq!(layers(&label.build()), (14, NO_LAYER, NO_LAYER, 0));
    assert_eq!(
        layers(&FrameBuilder::arp(1, (1, 2), (3, 4)).payload(&[0; 18]).build()),
        (NO_LAYER, 14, NO_LAYER, 0)
    );
}

/// CVE-2016-2074: a label stack without a bottom ran over the buffer.
#[test]
fn label_stack_without_bottom() {
    for labels in 0..100u32 {
        let mut bytes = FrameBuilder::ethernet(ETHERTYPE_MPLS).build()[..14].to_vec();
        for label in 0..labels {
            bytes.extend(((label + 1) << 12 | 0x40).to_be_bytes());
        }
        let key = key_of(&bytes);
        let seen: Vec<u128> =
            [slot::MPLS_LSE0, slot::MPLS_LSE1, slot::MPLS_LSE2].map(|s| key.get(s) >> 12).to_vec();
        let wanted: Vec<u128> = (1..=3).map(|n| if n <= labels { n as u128 } else { 0 }).collect();
        assert_eq!(seen, wanted);
        bytes.extend([1, 2, 3]);
        assert_eq!(key_of(&bytes), key, "a piece of a label is none");
    }
}

/// CVE-2016-10377: a total length below the header length ran below zero, and ACLs were passed.
#[test]
fn ipv4_total_length_below_header() {
    for total in 0..40u16 {
        let mut bytes = tcp4();
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        let key = key_of(&bytes);
        assert_eq!(is_l2_only(&bytes), total < 20, "{total}");
        assert_eq!(key.get(slot::TP_DST), 0, "no port from behind the end");
        assert_eq!(key.dl_type(), ETHERTYPE_IPV4);
    }
}

#[test]
fn ipv4_header_that_contradicts_itself() {
    for (at, value) in [(14, 0x44), (14, 0x55), (14, 0x40), (14, 0x4f), (16, 0xff)] {
        let mut bytes = tcp4();
        bytes[at] = value;
        assert!(is_l2_only(&bytes), "{at} {value}");
    }
}

/// CVE-2020-35498: more than 255 bytes of padding made the packet look like no IP at all.
#[test]
fn any_amount_of_padding() {
    for bytes in [tcp4(), tcp6()] {
        let key = key_of(&bytes);
        for padding in [1, 6, 255, 256, 257, 300, 65_000] {
            let mut padded = bytes.clone();
            padded.resize(bytes.len() + padding, 0xa5);
            let frame = extracted(&padded);
            assert_eq!(key_of(&padded), key, "{padding}");
            assert_eq!(frame.layers.padding as usize, padding);
            assert_eq!(frame.packet_end(), bytes.len());
            assert!(frame.verify_transport(), "padding is not covered");
        }
    }
    let mut most = Frame::from_bytes(&[tcp4(), vec![0; FRAME_LEN_MAX - tcp4().len()]].concat());
    PacketKey::extract(&mut most).unwrap();
    assert_eq!(most.packet_end(), tcp4().len());
}

/// An IPv6 payload length was once off by the 40 bytes of the header.
#[test]
fn ipv6_payload_length_counts_what_follows_the_header() {
    let bytes = tcp6();
    for delta in -20i32..=40 {
        let mut changed = bytes.clone();
        changed[18..20].copy_from_slice(&(20 + delta as i16).to_be_bytes());
        let key = key_of(&changed);
        assert_eq!(is_l2_only(&changed), delta > 0, "{delta}");
        assert_eq!(key.get(slot::TP_DST) == 80, delta == 0, "{delta}");
    }
}

/// CVE-2017-9264: a transport header longer than the payload was read beyond the end.
#[test]
fn transport_header_longer_than_payload() {
    for (builder, whole) in [
        (FrameBuilder::tcp4((1, 2), (3, 4), SYN), 20),
        (FrameBuilder::udp4((1, 2), (3, 4)), 8),
        (FrameBuilder::icmp4(1, 2, 8, 1), 8),
        (FrameBuilder::ipv4(1, 2, PROTO_SCTP).set(slot::TP_SRC, 2).set(slot::TP_DST, 4), 12),
    ] {
        let bytes = builder.build();
        for len in 0..=whole {
            let mut cut = bytes[..34 + len].to_vec();
            cut[16..18].copy_from_slice(&(20 + len as u16).to_be_bytes());
            let (key, frame) = (key_of(&cut), extracted(&cut));
            assert_eq!(key.get(slot::TP_SRC) != 0, len == whole, "{len}");
            assert_eq!(frame.layers.l4 != NO_LAYER, len == whole);
            assert_eq!(key.get(slot::NW_SRC), 1, "the addresses are believed");
        }
    }
}

#[test]
fn tcp_options_beyond_the_packet() {
    for words in 0..16u8 {
        let mut bytes = FrameBuilder::tcp4((1, 2), (3, 4), SYN).payload(&[0; 8]).build();
        bytes[46] = words << 4;
        assert_eq!(key_of(&bytes).get(slot::TP_SRC) == 2, (5..=7).contains(&words), "{words}");
    }
}

#[test]
fn neighbour_discovery_options_of_impossible_length() {
    let solicit =
        FrameBuilder::icmp6(1, 2, ND_SOLICIT, 0).set(slot::ND_TARGET, 9).set(slot::ARP_SHA, 0x0200_0000_0007);
    let good = solicit.build();
    assert_eq!(key_of(&good).get(slot::ARP_SHA), 0x0200_0000_0007);
    for units in [0, 2, 255] {
        let mut bytes = good.clone();
        bytes[14 + 40 + 24 + 1] = units;
        let key = key_of(&bytes);
        assert_eq!((key.get(slot::ARP_SHA), key.get(slot::ND_OPTIONS_TYPE)), (0, 0), "{units}");
        assert_eq!(key.get(slot::ND_TARGET), 9, "the target stands before");
    }
    for cut in 1..=8 {
        let mut bytes = good[..good.len() - cut].to_vec();
        bytes[18..20].copy_from_slice(&(32 - cut as u16).to_be_bytes());
        assert_eq!(key_of(&bytes).get(slot::ARP_SHA), 0, "{cut}");
    }
}

#[test]
fn neighbour_discovery_fields_are_of_neighbour_discovery_only() {
    for (kind, code) in [(135, 1), (136, 9), (133, 0), (134, 0), (137, 0), (128, 0)] {
        let mut bytes =
            FrameBuilder::icmp6(1, 2, ND_SOLICIT, 0).set(slot::ND_TARGET, 9).set(slot::ARP_SHA, 7).build();
        (bytes[54], bytes[55]) = (kind, code);
        let key = key_of(&bytes);
        let nd = [slot::ND_TARGET, slot::ARP_SHA, slot::ARP_THA, slot::ND_RESERVED, slot::ND_OPTIONS_TYPE];
        assert!(nd.iter().all(|s| key.get(*s) == 0), "{kind} {code}");
        assert_eq!((key.get(slot::TP_SRC), key.get(slot::TP_DST)), (kind as u128, code as u128));
    }
}

/// Puts extension headers between the IPv6 header and TCP.
fn with_extensions(chain: &[(u8, &[u8])]) -> Vec<u8> {
    let plain = tcp6();
    let mut bytes = plain[..54].to_vec();
    let mut extensions = Vec::new();
    for (index, (_, body)) in chain.iter().enumerate() {
        extensions.push(chain.get(index + 1).map_or(PROTO_TCP, |next| next.0));
        extensions.extend_from_slice(body);
    }
    bytes[20] = chain[0].0;
    bytes[18..20].copy_from_slice(&(20 + extensions.len() as u16).to_be_bytes());
    bytes.extend(extensions);
    bytes.extend(&plain[54..]);
    bytes
}

/// Chains with a routing header, or a fragment header in the middle, were once misread.
#[test]
fn ipv6_extension_chains() {
    let options: &[u8] = &[0, 0, 0, 0, 0, 0, 0];
    let routing: &[u8] = &[2, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    let auth: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let fragment = |offset: u16| -> [u8; 7] {
        let [high, low] = offset.to_be_bytes();
        [0, high, low, 0, 0, 0, 1]
    };
    let (first, atomic, later) = (fragment(1), fragment(0), fragment(8));
    let check = |chain: &[(u8, &[u8])], frag: u8, protocol: u8, port: u128| {
        let bytes = with_extensions(chain);
        let (key, frame) = (key_of(&bytes), extracted(&bytes));
        assert_eq!(key.get(slot::NW_FRAG) as u8, frag, "{chain:?}");
        assert_eq!(key.get(slot::NW_PROTO) as u8, protocol, "{chain:?}");
        assert_eq!(key.get(slot::TP_DST), port, "{chain:?}");
        assert_eq!(frame.layers.l4 as usize, if port == 0 { 0xffff } else { bytes.len() - 20 });
    };
    check(&[(PROTO_HOP_BY_HOP, options)], 0, PROTO_TCP, 80);
    check(
        &[(PROTO_HOP_BY_HOP, options), (PROTO_DESTINATION, options), (PROTO_ROUTING, routing)],
        0,
        PROTO_TCP,
        80,
    );
    check(&[(PROTO_AH, auth), (PROTO_DESTINATION, options)], 0, PROTO_TCP, 80);
    check(&[(PROTO_FRAGMENT, &first)], FRAG_ANY, PROTO_TCP, 80);
    check(&[(PROTO_FRAGMENT, &atomic)], 0, PROTO_TCP, 80);
    check(
        &[(PROTO_DESTINATION, options), (PROTO_FRAGMENT, &first), (PROTO_DESTINATION, options)],
        FRAG_ANY,
        PROTO_TCP,
        80,
    );
    check(
        &[(PROTO_DESTINATION, options), (PROTO_FRAGMENT, &later), (PROTO_DESTINATION, options)],
        3,
        PROTO_FRAGMENT,
        0,
    );
}

#[test]
fn ipv6_extension_header_that_is_cut_off() {
    let whole = with_extensions(&[(PROTO_HOP_BY_HOP, &[0; 7]), (PROTO_ROUTING, &[0; 7])]);
    for len in 0..16u16 {
        let mut bytes = whole[..54 + len as usize].to_vec();
        bytes[18..20].copy_from_slice(&len.to_be_bytes());
        let key = key_of(&bytes);
        assert_eq!(
            (key.get(slot::NW_PROTO), key.get(slot::NW_TTL), key.get(slot::TP_SRC)),
            (0, 0, 0),
            "{len}"
        );
        assert_eq!(key.get(slot::IPV6_SRC), 1, "addresses are believed, as Open vSwitch does");
    }
    let mut long = whole.clone();
    long[55] = 200;
    assert_eq!(key_of(&long).get(slot::NW_PROTO), 0);
}

/// As many headers as a frame can hold: bounded work, no panic, and offsets that do not fit are not noted.
#[test]
fn ipv6_chain_as_long_as_the_frame() {
    for headers in [8000usize, 8185] {
        let chain: Vec<(u8, &[u8])> = vec![(PROTO_DESTINATION, &[0; 7]); headers];
        let bytes = with_extensions(&chain);
        let key = key_of(&bytes);
        assert_eq!(key.get(slot::NW_PROTO) as u8, PROTO_TCP);
        assert_eq!(key.get(slot::TP_DST) != 0, extracted(&bytes).layers.l4 != NO_LAYER);
    }
}

#[test]
fn later_fragments_have_no_transport_header() {
    for frag in [0x2001u16, 0x0001, 0x1fff] {
        let mut bytes = tcp4();
        bytes[20..22].copy_from_slice(&frag.to_be_bytes());
        let key = key_of(&bytes);
        assert_eq!(key.get(slot::NW_FRAG) as u8, FRAG_ANY | FRAG_LATER);
        assert_eq!((key.get(slot::NW_PROTO), key.get(slot::TP_DST), key.get(slot::TCP_FLAGS)), (6, 0, 0));
        assert_eq!(extracted(&bytes).layers.l4, NO_LAYER);
    }
}

/// CVE-2023-1668: IP protocol 0 was taken for "no protocol".
#[test]
fn ip_protocol_zero_is_an_ip_packet() {
    let key = key_of(&FrameBuilder::ipv4(1, 2, 0).payload(&[0; 20]).build());
    assert_eq!((key.get(slot::NW_SRC), key.get(slot::NW_DST), key.get(slot::NW_TTL)), (1, 2, 64));
}

/// Real traffic: every header is found, and every checksum is right.
#[test]
fn kernel_traffic() {
    let frames = capture("mixed");
    let mut seen = [0; 6];
    for bytes in &frames {
        let (frame, key) = (extracted(bytes), key_of(bytes));
        assert!(frame.verify_transport() && frame.verify_ipv4_header());
        let later = key.get(slot::NW_FRAG) as u8 & FRAG_LATER != 0;
        let is_ip = key.dl_type() != ETHERTYPE_ARP;
        assert_eq!(frame.layers.l4 != NO_LAYER, is_ip && !later);
        seen[0] += later as u32;
        seen[1] += (key.get(slot::NW_FRAG) as u8 == FRAG_ANY) as u32;
        seen[2] += (key.get(slot::TCP_FLAGS) != 0) as u32;
        seen[3] += (key.get(slot::ND_TARGET) != 0 && key.get(slot::ND_OPTIONS_TYPE) != 0) as u32;
        seen[4] += !is_ip as u32;
        seen[5] += (key.get(slot::NW_PROTO) == 17) as u32;
    }
    // As counted in tcpdump's listing.
    assert_eq!(seen, [8, 4, 20, 5, 2, 4]);
}

fn u64_of(mac: [u8; 6]) -> u128 {
    mac.iter().fold(0, |sum, byte| sum << 8 | *byte as u128)
}

/// Compares with a frame that etherparse takes for whole.
fn check_strict(key: &PacketKey, packet: &SlicedPacket<'_>) {
    if let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = &packet.link {
        assert_eq!(key.get(slot::DL_DST), u64_of(ethernet.destination()));
        assert_eq!(key.get(slot::DL_SRC), u64_of(ethernet.source()));
    }
    for (ext, tci) in packet.link_exts.iter().zip([slot::VLAN_TCI, slot::VLAN_TCI_INNER]) {
        let LinkExtSlice::Vlan(tag) = ext else { return };
        let seen = key.get(tci) as u16;
        assert_eq!(seen & 0xfff, tag.vlan_identifier().value());
        assert_eq!((seen >> 13) as u8, tag.priority_code_point().value());
    }
    if packet.link_exts.len() > 2 {
        return;
    }
    // etherparse goes by the version in the header whatever the EtherType says; where the two differ we read neither.
    let ip_type = match &packet.net {
        Some(NetSlice::Ipv4(_)) => Some(ETHERTYPE_IPV4),
        Some(NetSlice::Ipv6(_)) => Some(ETHERTYPE_IPV6),
        _ => None,
    };
    if ip_type.is_some_and(|t| t != key.dl_type()) {
        let l3 = [
            slot::NW_SRC,
            slot::NW_DST,
            slot::IPV6_SRC,
            slot::IPV6_DST,
            slot::NW_PROTO,
            slot::TP_SRC,
            slot::TP_DST,
        ];
        assert!(l3.into_iter().all(|s| key.get(s) == 0));
        return;
    }
    match &packet.net {
        Some(NetSlice::Ipv4(ip)) => check_ipv4(key, &ip.header()),
        Some(NetSlice::Ipv6(ip)) => check_ipv6(key, &ip.header()),
        Some(NetSlice::Arp(arp)) => {
            if let Ok(arp) = etherparse::ArpEthIpv4Packet::try_from(arp.to_packet()) {
                assert_eq!(key.get(slot::ARP_SHA), u64_of(arp.sender_mac));
                assert_eq!(key.get(slot::ARP_THA), u64_of(arp.target_mac));
                assert_eq!(key.get(slot::NW_SRC) as u32, u32::from_be_bytes(arp.sender_ipv4));
                assert_eq!(key.get(slot::NW_DST) as u32, u32::from_be_bytes(arp.target_ipv4));
                assert_eq!(key.get(slot::NW_PROTO) as u16, arp.operation.0 * (arp.operation.0 < 256) as u16);
            }
        }
        None => {}
    }
    // An authentication header over IPv4 is not looked through.
    let has_ah = matches!(&packet.net, Some(NetSlice::Ipv4(ip)) if ip.header().protocol().0 == PROTO_AH);
    // A payload length of 0 says that there is nothing, not that there is a jumbogram.
    let is_jumbo = matches!(&packet.net, Some(NetSlice::Ipv6(ip)) if ip.header().payload_length() == 0);
    if !has_ah && !is_jumbo {
        check_transport(key, packet.transport.as_ref());
    }
}

fn check_ipv4(key: &PacketKey, header: &etherparse::Ipv4HeaderSlice<'_>) {
    assert_eq!(key.get(slot::NW_SRC) as u32, u32::from_be_bytes(header.source()));
    assert_eq!(key.get(slot::NW_DST) as u32, u32::from_be_bytes(header.destination()));
    assert_eq!(key.get(slot::NW_PROTO) as u8, header.protocol().0);
    assert_eq!(key.get(slot::NW_TTL) as u8, header.ttl());
    assert_eq!(key.get(slot::NW_TOS) as u8, header.dcp().value() << 2 | header.ecn().value());
    let later = header.fragments_offset().value() != 0;
    let any = later || header.more_fragments();
    let frag = (any as u8 * FRAG_ANY) | (later as u8 * FRAG_LATER);
    assert_eq!(key.get(slot::NW_FRAG) as u8, frag);
}

fn check_ipv6(key: &PacketKey, header: &etherparse::Ipv6HeaderSlice<'_>) {
    assert_eq!(key.get(slot::IPV6_SRC), u128::from_be_bytes(header.source()));
    assert_eq!(key.get(slot::IPV6_DST), u128::from_be_bytes(header.destination()));
    // With a broken chain of extension headers the rest is not believed.
    if key.get(slot::NW_PROTO) != 0 {
        assert_eq!(key.get(slot::IPV6_LABEL) as u32, header.flow_label().value());
        assert_eq!(key.get(slot::NW_TTL) as u8, header.hop_limit());
        assert_eq!(key.get(slot::NW_TOS) as u8, header.traffic_class());
    }
}

fn check_transport(key: &PacketKey, transport: Option<&TransportSlice<'_>>) {
    let (src, dst) = (key.get(slot::TP_SRC) as u16, key.get(slot::TP_DST) as u16);
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!((src, dst), (tcp.source_port(), tcp.destination_port()));
            let flags = key.get(slot::TCP_FLAGS) as u16;
            let seen = [
                tcp.fin(),
                tcp.syn(),
                tcp.rst(),
                tcp.psh(),
                tcp.ack(),
                tcp.urg(),
                tcp.ece(),
                tcp.cwr(),
                tcp.ns(),
            ];
            for (bit, is_set) in seen.into_iter().enumerate() {
                assert_eq!(flags >> bit & 1 != 0, is_set, "flag {bit}");
            }
        }
        Some(TransportSlice::Udp(udp)) => assert_eq!((src, dst), (udp.source_port(), udp.destination_port())),
        Some(TransportSlice::Icmpv4(icmp)) if key.dl_type() == ETHERTYPE_IPV4 => {
            assert_eq!((src, dst), (icmp.type_u8() as u16, icmp.code_u8() as u16));
        }
        Some(TransportSlice::Icmpv6(icmp)) if key.dl_type() == ETHERTYPE_IPV6 => {
            assert_eq!((src, dst), (icmp.type_u8() as u16, icmp.code_u8() as u16));
        }
        _ => {}
    }
}

/// Compares the network header of a frame that is damaged behind it. The lax parser goes by the version in the header, where
/// extraction goes by the EtherType.
fn check_lax(key: &PacketKey, packet: &LaxSlicedPacket<'_>) {
    if packet.link_exts.len() > 2
        || packet.link_exts.iter().any(|e| !matches!(e, etherparse::LaxLinkExtSlice::Vlan(_)))
    {
        return;
    }
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip))
            if key.dl_type() == ETHERTYPE_IPV4
                && !ip.payload().incomplete
                && ip.header().total_len() >= ip.header().slice().len() as u16 =>
        {
            check_ipv4(key, &ip.header());
        }
        Some(LaxNetSlice::Ipv6(ip)) if key.dl_type() == ETHERTYPE_IPV6 && !ip.payload().incomplete => {
            check_ipv6(key, &ip.header());
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn agrees_with_etherparse(bytes in any_damaged()) {
        let key = key_of(&bytes);
        // TPID 0x9100 and MACsec are looked through by etherparse only.
        let foreign = [0x9100u128, 0x88e5];
        prop_assume!(!foreign.contains(&key.get(slot::DL_TYPE)));
        if let Ok(packet) = SlicedPacket::from_ethernet(&bytes) {
            check_strict(&key, &packet);
        }
        if let Ok(packet) = LaxSlicedPacket::from_ethernet(&bytes) {
            check_lax(&key, &packet);
        }
    }

    #[test]
    fn agrees_with_etherparse_on_its_own_frames(
        macs in any::<[[u8; 6]; 2]>(),
        tags in 0u8..3,
        ids in any::<[u16; 4]>(),
        addresses in any::<[[u8; 16]; 2]>(),
        is_ipv6 in any::<bool>(),
        transport in 0u8..4,
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        use etherparse::{PacketBuilder, VlanId};
        let id = |n: u16| VlanId::try_new(n & 0xfff).unwrap();
        let link = PacketBuilder::ethernet2(macs[0], macs[1]);
        let short = |a: [u8; 16]| [a[0], a[1], a[2], a[3]];
        let mut bytes = Vec::new();
        let ip = match (tags, is_ipv6) {
            (0, false) => link.ipv4(short(addresses[0]), short(addresses[1]), 9),
            (0, true) => link.ipv6(addresses[0], addresses[1], 9),
            (1, false) => link.single_vlan(id(ids[0])).ipv4(short(addresses[0]), short(addresses[1]), 9),
            (1, true) => link.single_vlan(id(ids[0])).ipv6(addresses[0], addresses[1], 9),
            (_, false) => link.double_vlan(id(ids[0]), id(ids[1])).ipv4(short(addresses[0]), short(addresses[1]), 9),
            (_, true) => link.double_vlan(id(ids[0]), id(ids[1])).ipv6(addresses[0], addresses[1], 9),
        };
        match transport {
            0 => ip.tcp(ids[2], ids[3], 1, 2).ack(3).psh().write(&mut bytes, &payload).unwrap(),
            1 => ip.udp(ids[2], ids[3]).write(&mut bytes, &payload).unwrap(),
            2 if is_ipv6 => ip.icmpv6_echo_request(ids[2], ids[3]).write(&mut bytes, &payload).unwrap(),
            _ => ip.icmpv4_echo_request(ids[2], ids[3]).write(&mut bytes, &payload).unwrap(),
        }
        let packet = SlicedPacket::from_ethernet(&bytes).unwrap();
        prop_assert!(packet.transport.is_some());
        check_strict(&key_of(&bytes), &packet);
        let frame = extracted(&bytes);
        prop_assert!(frame.verify_ipv4_header());
        prop_assert!(frame.verify_transport());
    }
}
