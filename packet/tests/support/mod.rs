//! Shared by the tests of this crate: random frames, a key in the words of ovs-ofctl, captures.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::{Ipv4Addr, Ipv6Addr};

use packet::key::{FRAG_ANY, FRAG_LATER};
use packet::wire::*;
use packet::{Frame, FrameBuilder, PacketKey, Slot, slot};
use proptest::prelude::*;

pub mod tunnel;

/// The key of some bytes.
pub fn key_of(bytes: &[u8]) -> PacketKey {
    PacketKey::extract(&mut Frame::from_bytes(bytes)).expect("has an Ethernet header")
}

/// A frame with its layers noted.
pub fn extracted(bytes: &[u8]) -> Frame {
    let mut frame = Frame::from_bytes(bytes);
    PacketKey::extract(&mut frame).expect("has an Ethernet header");
    frame
}

fn number(key: &PacketKey, slot: Slot) -> u64 {
    key.get(slot) as u64
}

fn mac(key: &PacketKey, slot: Slot) -> String {
    let bytes = number(key, slot).to_be_bytes();
    bytes[2..].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

fn ipv4(key: &PacketKey, slot: Slot) -> String {
    Ipv4Addr::from(number(key, slot) as u32).to_string()
}

fn ipv6(key: &PacketKey, slot: Slot) -> String {
    Ipv6Addr::from(key.get(slot)).to_string()
}

/// The fields of a key as `ovs-ofctl parse-pcap` of Open vSwitch 3.1 prints a flow.
pub fn flow_line(key: &PacketKey) -> String {
    let name = protocol_name(key);
    let mut out: Vec<String> = name.iter().map(|n| n.to_string()).collect();
    out.push("in_port=ANY".into());
    push_tags(key, &mut out);
    out.push(format!("dl_src={}", mac(key, slot::DL_SRC)));
    out.push(format!("dl_dst={}", mac(key, slot::DL_DST)));
    match key.dl_type() {
        ETHERTYPE_IPV4 => {
            out.push(format!("nw_src={}", ipv4(key, slot::NW_SRC)));
            out.push(format!("nw_dst={}", ipv4(key, slot::NW_DST)));
            push_ip(key, name == Some("ip"), &mut out);
        }
        ETHERTYPE_IPV6 => {
            out.push(format!("ipv6_src={}", ipv6(key, slot::IPV6_SRC)));
            out.push(format!("ipv6_dst={}", ipv6(key, slot::IPV6_DST)));
            out.push(format!("ipv6_label=0x{:05x}", number(key, slot::IPV6_LABEL)));
            push_ip(key, name == Some("ipv6"), &mut out);
        }
        ETHERTYPE_ARP | ETHERTYPE_RARP => {
            out.push(format!("arp_spa={}", ipv4(key, slot::NW_SRC)));
            out.push(format!("arp_tpa={}", ipv4(key, slot::NW_DST)));
            out.push(format!("arp_op={}", number(key, slot::NW_PROTO)));
            out.push(format!("arp_sha={}", mac(key, slot::ARP_SHA)));
            out.push(format!("arp_tha={}", mac(key, slot::ARP_THA)));
        }
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => push_labels(key, &mut out),
        other => out.push(format!("dl_type=0x{other:04x}")),
    }
    out.join(",")
}

fn protocol_name(key: &PacketKey) -> Option<&'static str> {
    let protocol = number(key, slot::NW_PROTO) as u8;
    Some(match (key.dl_type(), protocol) {
        (ETHERTYPE_IPV4, PROTO_TCP) => "tcp",
        (ETHERTYPE_IPV4, PROTO_UDP) => "udp",
        (ETHERTYPE_IPV4, PROTO_SCTP) => "sctp",
        (ETHERTYPE_IPV4, PROTO_ICMP) => "icmp",
        (ETHERTYPE_IPV4, _) => "ip",
        (ETHERTYPE_IPV6, PROTO_TCP) => "tcp6",
        (ETHERTYPE_IPV6, PROTO_UDP) => "udp6",
        (ETHERTYPE_IPV6, PROTO_SCTP) => "sctp6",
        (ETHERTYPE_IPV6, PROTO_ICMPV6) => "icmp6",
        (ETHERTYPE_IPV6, _) => "ipv6",
        (ETHERTYPE_ARP, _) => "arp",
        (ETHERTYPE_RARP, _) => "rarp",
        (ETHERTYPE_MPLS, _) => "mpls",
        (ETHERTYPE_MPLS_UPSTREAM, _) => "mplsm",
        _ => return None,
    })
}

fn push_tags(key: &PacketKey, out: &mut Vec<String>) {
    for (slot, suffix) in [(slot::VLAN_TCI, ""), (slot::VLAN_TCI_INNER, "1")] {
        let tci = number(key, slot);
        if tci == 0 {
            out.push(format!("vlan_tci{suffix}=0x0000"));
            return;
        }
        out.push(format!("dl_vlan{suffix}={}", tci & 0xfff));
        out.push(format!("dl_vlan_pcp{suffix}={}", tci >> 13));
    }
}

fn push_ip(key: &PacketKey, show_protocol: bool, out: &mut Vec<String>) {
    let protocol = number(key, slot::NW_PROTO) as u8;
    if show_protocol {
        out.push(format!("nw_proto={protocol}"));
    }
    let tos = number(key, slot::NW_TOS);
    out.push(format!("nw_tos={}", tos & 0xfc));
    out.push(format!("nw_ecn={}", tos & 3));
    out.push(format!("nw_ttl={}", number(key, slot::NW_TTL)));
    let frag = number(key, slot::NW_FRAG) as u8;
    out.push(format!("nw_frag={}", ["no", "first", "?", "later"][frag as usize]));
    if frag & FRAG_LATER != 0 {
        return;
    }
    let (src, dst) = (number(key, slot::TP_SRC), number(key, slot::TP_DST));
    match (key.dl_type(), protocol) {
        (_, PROTO_TCP) => out.push(format!("tp_src={src},tp_dst={dst},tcp_flags={}", tcp_flags(key))),
        (_, PROTO_UDP | PROTO_SCTP) => out.push(format!("tp_src={src},tp_dst={dst}")),
        (ETHERTYPE_IPV4, PROTO_ICMP) | (ETHERTYPE_IPV6, PROTO_ICMPV6) => {
            out.push(format!("icmp_type={src},icmp_code={dst}"));
            if protocol == PROTO_ICMPV6 && (src == 135 || src == 136) && dst == 0 {
                out.push(format!("nd_target={}", ipv6(key, slot::ND_TARGET)));
                out.push(format!("nd_sll={}", mac(key, slot::ARP_SHA)));
                out.push(format!("nd_tll={}", mac(key, slot::ARP_THA)));
            }
        }
        _ => {}
    }
}

fn tcp_flags(key: &PacketKey) -> String {
    const NAMES: [&str; 12] =
        ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
    let flags = number(key, slot::TCP_FLAGS);
    let set: Vec<&str> =
        NAMES.iter().enumerate().filter(|(i, _)| flags >> i & 1 != 0).map(|(_, n)| *n).collect();
    if set.is_empty() { "0".into() } else { set.join("|") }
}

fn push_labels(key: &PacketKey, out: &mut Vec<String>) {
    let lse = number(key, slot::MPLS_LSE0);
    let (label, tc, ttl, bos) = (lse >> 12, lse >> 9 & 7, lse & 0xff, lse >> 8 & 1);
    out.push(format!("mpls_label={label},mpls_tc={tc},mpls_ttl={ttl},mpls_bos={bos}"));
    if bos == 0 {
        let second = number(key, slot::MPLS_LSE1);
        out.push(format!("mpls_lse1={second}"));
        if second >> 8 & 1 == 0 {
            out.push(format!("mpls_lse2={}", number(key, slot::MPLS_LSE2)));
        }
    }
}

/// TCP or UDP without tags and options.
pub fn plain_builder(is_v4: bool, is_tcp: bool, payload: &[u8]) -> FrameBuilder {
    match (is_v4, is_tcp) {
        (true, true) => FrameBuilder::tcp4((0x0a4d_0002, 40_000), (0x0a4d_0001, 5_001), 0x18),
        (false, true) => FrameBuilder::tcp6((7, 40_000), (9, 5_001), 0x18),
        (true, false) => FrameBuilder::udp4((0x0a4d_0002, 40_000), (0x0a4d_0001, 53)),
        (false, false) => FrameBuilder::udp6((7, 40_000), (9, 53)),
    }
    .payload(payload)
}

/// A frame of one of the kinds that are parsed, with random fields.
pub fn any_builder() -> impl Strategy<Value = FrameBuilder> {
    let kinds = prop_oneof![
        any_ip().prop_flat_map(any_transport),
        any_arp(),
        any_mpls(),
        (0x600u16..).prop_filter("a tag has fields", |t| !is_vlan(*t)).prop_map(FrameBuilder::ethernet),
        Just(FrameBuilder::ethernet(packet::key::DL_TYPE_NONE)),
    ];
    let tags = prop::collection::vec((prop::sample::select(vec![0x8100u16, 0x88a8]), any::<u16>()), 0..=2);
    let options = prop::collection::vec(any::<u8>(), 0..=40);
    let payload = prop::collection::vec(any::<u8>(), 0..100);
    (kinds, tags, any::<[u64; 2]>(), options.clone(), options, payload).prop_map(
        |(builder, tags, macs, ip_options, tcp_options, payload)| {
            let mut builder = builder
                .macs(macs[0], macs[1])
                .payload(&payload)
                .ipv4_options(&ip_options)
                .tcp_options(&tcp_options);
            for (tpid, tci) in tags {
                builder = builder.vlan(tpid, tci);
            }
            builder
        },
    )
}

fn any_ip() -> impl Strategy<Value = (FrameBuilder, u8)> {
    let protocols = vec![PROTO_TCP, PROTO_UDP, PROTO_SCTP, PROTO_ICMP, PROTO_ICMPV6, 47];
    let frags = vec![0, 0, 0, FRAG_ANY, FRAG_ANY | FRAG_LATER];
    let selects = (prop::sample::select(protocols), prop::sample::select(frags));
    (any::<bool>(), selects, any::<[u128; 2]>(), any::<[u8; 2]>(), 0u32..1 << 20).prop_map(
        |(is_ipv6, (protocol, frag), addresses, [tos, ttl], label)| {
            let builder = if is_ipv6 {
                // In a later fragment the fragment header is where the chain ends.
                let protocol = match protocol {
                    _ if frag & FRAG_LATER != 0 => PROTO_FRAGMENT,
                    PROTO_ICMP => PROTO_ICMPV6,
                    other => other,
                };
                FrameBuilder::ipv6(addresses[0], addresses[1], protocol).set(slot::IPV6_LABEL, label as u128)
            } else {
                let protocol = if protocol == PROTO_ICMPV6 { PROTO_ICMP } else { protocol };
                FrameBuilder::ipv4(addresses[0] as u32, addresses[1] as u32, protocol)
            };
            let protocol = builder.key().get(slot::NW_PROTO) as u8;
            let builder = builder
                .set(slot::NW_TOS, tos as u128)
                .set(slot::NW_TTL, ttl as u128)
                .set(slot::NW_FRAG, frag as u128);
            (builder, if frag & FRAG_LATER != 0 { 0 } else { protocol })
        },
    )
}

fn any_transport((builder, protocol): (FrameBuilder, u8)) -> impl Strategy<Value = FrameBuilder> {
    let nd = (prop::sample::select(vec![128u8, 133, 135, 136]), prop::sample::select(vec![0u8, 0, 0, 1]));
    (any::<[u16; 3]>(), nd, any::<u128>(), any::<u32>(), any::<[u64; 2]>(), 0u8..4).prop_map(
        move |(ports, (kind, code), target, reserved, macs, options)| {
            let builder = builder.clone();
            match protocol {
                PROTO_TCP => with_ports(builder, ports).set(slot::TCP_FLAGS, (ports[2] & 0xfff) as u128),
                PROTO_UDP | PROTO_SCTP => with_ports(builder, ports),
                PROTO_ICMP => with_ports(builder, [ports[0] & 0xff, ports[1] & 0xff, 0]),
                PROTO_ICMPV6 => {
                    let builder = with_ports(builder, [kind as u16, code as u16, 0]);
                    if kind < 135 || code != 0 {
                        return builder;
                    }
                    let (sll, tll) = (macs[0] << 16 >> 16 | 1, macs[1] << 16 >> 16 | 1);
                    builder
                        .set(slot::ND_TARGET, target)
                        .set(slot::ND_RESERVED, reserved as u128)
                        .set(slot::ARP_SHA, if options & 1 != 0 { sll as u128 } else { 0 })
                        .set(slot::ARP_THA, if options & 2 != 0 { tll as u128 } else { 0 })
                        .set(slot::ND_OPTIONS_TYPE, [0, 1, 2, 1 + (ports[0] & 1) as u128][options as usize])
                }
                _ => builder,
            }
        },
    )
}

fn with_ports(builder: FrameBuilder, ports: [u16; 3]) -> FrameBuilder {
    builder.set(slot::TP_SRC, ports[0] as u128).set(slot::TP_DST, ports[1] as u128)
}

fn any_arp() -> impl Strategy<Value = FrameBuilder> {
    (any::<u8>(), any::<[u64; 2]>(), any::<[u32; 2]>(), any::<bool>()).prop_map(|(op, macs, ips, is_rarp)| {
        let ethertype = if is_rarp { ETHERTYPE_RARP } else { ETHERTYPE_ARP };
        FrameBuilder::arp(op, (macs[0], ips[0]), (macs[1], ips[1])).set(slot::DL_TYPE, ethertype as u128)
    })
}

fn any_mpls() -> impl Strategy<Value = FrameBuilder> {
    (prop::collection::vec(any::<u32>(), 1..=3), any::<bool>()).prop_map(|(labels, is_upstream)| {
        let ethertype = if is_upstream { ETHERTYPE_MPLS_UPSTREAM } else { ETHERTYPE_MPLS };
        let mut builder = FrameBuilder::ethernet(ethertype);
        let last = labels.len() - 1;
        let slots = [slot::MPLS_LSE0, slot::MPLS_LSE1, slot::MPLS_LSE2];
        for (index, (label, slot)) in labels.iter().zip(slots).enumerate() {
            let lse = if index == last { label | MPLS_BOS } else { label & !MPLS_BOS };
            builder = builder.set(slot, lse as u128);
        }
        builder
    })
}

/// Frames from the builder, changed in a few places and cut or lengthened.
pub fn any_damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (any_builder(), changes, prop::option::of(any::<prop::sample::Index>()), 0usize..400).prop_map(
        |(builder, changes, cut, padding)| {
            let mut bytes = builder.build();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            match cut {
                Some(at) => bytes.truncate(at.index(bytes.len()).max(14)),
                None if padding > 200 => bytes.resize(bytes.len() + padding, 0xa5),
                None => {}
            }
            bytes
        },
    )
}

/// The frames of a capture in `tests/captures`.
pub fn capture(name: &str) -> Vec<Vec<u8>> {
    use pcap_parser::traits::PcapReaderIterator;
    use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError};
    let path = format!("{}/../tests/captures/{name}.pcap", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::File::open(&path).expect(&path);
    let mut reader = LegacyPcapReader::new(1 << 18, file).expect("a pcap file");
    let mut frames = Vec::new();
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                if let PcapBlockOwned::Legacy(block) = block {
                    frames.push(block.data.to_vec());
                }
                reader.consume(offset);
            }
            Err(PcapError::Incomplete(_)) => reader.refill().expect("readable"),
            Err(end) => {
                assert!(matches!(end, PcapError::Eof), "{path}: {end}");
                return frames;
            }
        }
    }
}
