//! Translations: there and back, clashes, ICMP errors, several passes; every frame checked by etherparse from scratch.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use conntrack_support::*;
use datapath::Drop;
use datapath::conntrack::*;
use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};
use packet::{Frame, FrameBuilder, slot};
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::IpAddr;

const SNAT_NEW: CtState = CtState(0x61);
const SNAT_EST: CtState = CtState(0x62);
const DNAT_RPL: CtState = CtState(0xaa);

#[test]
fn source_translation_and_back() {
    let w = World::new();
    let out = w.send(&snat(N), &udp((A, 1000), (B, 53)));
    assert_eq!((out.state(), out.ends()), (SNAT_NEW, ((N, 1000), (B, 53))));
    assert_eq!(out.key.get(slot::CT_NW_SRC) as u32, A);
    let back = w.send(&bare_nat(), &udp((B, 53), (N, 1000)));
    assert_eq!((back.state(), back.ends()), (DNAT_RPL, ((B, 53), (A, 1000))));
    assert_eq!(w.send(&bare_nat(), &udp((A, 1000), (B, 53))).state(), SNAT_EST);
    // Without `nat` nothing is translated, whatever the connection has.
    let plain = w.send(&CtSpec::default(), &udp((A, 1000), (B, 53)));
    assert_eq!((plain.state(), plain.ends()), (EST, ((A, 1000), (B, 53))));
    // The untranslated reply names no connection.
    assert_eq!(w.state(&bare_nat(), &udp((B, 53), (A, 1000))), NEW);
}

/// As Open vSwitch: the port is kept if it can be, and else replaced by one of the same kind.
#[test]
fn a_port_that_is_taken_is_replaced_by_its_like() {
    let w = World::new();
    for (port, kind) in [(100, 1..=511), (700, 600..=1023), (5000, 1024..=65_535)] {
        let mut seen = HashSet::new();
        for client in 0..50 {
            let out = w.send(&snat(N), &udp((A + client, port), (B, 53)));
            let ((ip, new), _) = out.ends();
            assert!(ip == N && kind.contains(&new) && seen.insert(new), "{new}");
            assert!(client != 0 || new == port);
            let back = w.send(&bare_nat(), &udp((B, 53), (N, new)));
            assert_eq!(back.ends(), ((B, 53), (A + client, port)));
        }
    }
}

/// `nat(src=0.0.0.0)`: nothing is translated until two connections would be told apart by nothing.
#[test]
fn an_all_zero_source_translates_only_clashes() {
    let w = World::new();
    let out = w.send(&snat(0), &udp((A, 1000), (B, 53)));
    assert_eq!((out.state(), out.ends()), (SNAT_NEW, ((A, 1000), (B, 53))));
    // The reply tuple of this one is the same once its destination is translated.
    w.send(&dnat(B, 53), &udp((A, 1000), (N, 53)));
    let ends = w.all().iter().map(|c| c.reply).collect::<HashSet<_>>();
    assert_eq!(ends.len(), 2);
}

#[test]
fn destination_translation_changes_the_source_port_on_a_clash() {
    let w = World::new();
    let service = dnat(N, 8080);
    let out = w.send(&service, &tcp((A, 1000), (B, 80), SYN, 1, 0));
    assert_eq!((out.state(), out.ends()), (CtState(0xa1), ((A, 1000), (N, 8080))));
    let back = w.send(&bare_nat(), &tcp((N, 8080), (A, 1000), SYN_ACK, 9, 2));
    assert_eq!((back.state(), back.ends()), (CtState(0x6a), ((B, 80), (A, 1000))));
    // The same client, past the service, with the same port.
    let direct = w.send(&service, &tcp((A, 1000), (N, 8080), SYN, 1, 0));
    let ((_, port), to) = direct.ends();
    assert_eq!((direct.state(), to), (CtState(0xa1), (N, 8080)));
    assert_ne!(port, 1000);
    let back = w.send(&bare_nat(), &tcp((N, 8080), (A, port), SYN_ACK, 9, 2));
    assert_eq!(back.ends(), ((N, 8080), (A, 1000)));
}

#[test]
fn exhaustion_is_a_counted_drop() {
    let w = World::new();
    let two = nat(NatKind::Src, (N, N), Some((5000, 5001)));
    let results: Vec<_> = (0..4).map(|i| w.send(&two, &udp((A, 1000 + i), (B, 53))).tracked.drop).collect();
    assert_eq!(results, [None, None, Some(Drop::NatExhausted), Some(Drop::NatExhausted)]);
    assert_eq!((w.ct.stats().nat_exhausted, w.ct.connections()), (2, 2));
    // Towards another destination the same ports are free.
    assert_eq!(w.send(&two, &udp((A, 1003), (B, 54))).tracked.drop, None);
    // What is established goes on, and what is given back is used again.
    assert!(w.state(&two, &udp((A, 1000), (B, 53))).has(CtState::SNAT));
    let filter = TupleFilter { src_port: Some(1000), ..TupleFilter::default() };
    assert_eq!(w.ct.flush(None, Some(&filter)), 1);
    assert_eq!(w.send(&two, &udp((A, 1003), (B, 53))).tracked.drop, None);
}

#[test]
fn a_range_of_the_other_family_translates_nothing() {
    let w = World::new();
    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    let nat = NatSpec::new(NatKind::Src, (Some(ip), None), (None, None), PortSelection::Default, false);
    let spec = CtSpec { nat: Some(nat.unwrap()), ..commit() };
    assert_eq!(w.send(&spec, &udp((A, 1), (B, 2))).tracked.drop, Some(Drop::NatExhausted));
}

#[test]
fn echo_identifiers_are_translated() {
    let w = World::new();
    let mut seen = HashSet::new();
    for client in 0..20 {
        let out = w.send_frame(&snat(N), echo(A + client, B, 8, 77));
        let LaxPacketHeaders { net: Some(NetHeaders::Ipv4(ip, _)), transport, .. } =
            LaxPacketHeaders::from_ethernet(out.frame.bytes()).unwrap()
        else {
            panic!("IPv4")
        };
        assert_eq!(ip.source, N.to_be_bytes());
        let Some(TransportHeader::Icmpv4(icmp)) = transport else { panic!("ICMP") };
        let etherparse::Icmpv4Type::EchoRequest(header) = icmp.icmp_type else { panic!("an echo request") };
        assert!(seen.insert(header.id));
        let back = w.send_frame(&bare_nat(), echo(B, N, 0, header.id));
        assert_eq!(back.key.get(slot::NW_DST) as u32, A + client);
        assert_eq!(back.frame.bytes()[34 + 4..34 + 6], 77u16.to_be_bytes());
    }
}

/// A second pass in the same zone finds the connection of a packet that the first has translated, and leaves it alone.
#[test]
fn a_second_pass_in_the_zone_knows_the_packet() {
    let w = World::new();
    let first = w.send(&snat(N), &udp((A, 1000), (B, 53)));
    let second = w.send_again(&CtSpec::default(), first);
    assert_eq!((second.state(), second.ends().0), (SNAT_NEW, (N, 1000)));
    let reply = w.send(&bare_nat(), &udp((B, 53), (N, 1000)));
    let again = w.send_again(&bare_nat(), reply);
    assert_eq!((again.state(), again.ends().1), (DNAT_RPL, (A, 1000)));
    assert!(again.tracked.hold.is_none(), "not by its own tuple");
    assert_eq!(w.ct.connections(), 1);
}

/// Of queries with one identifier behind one address the second has another there, which later passes see and earlier fields do not
/// tell.
#[test]
fn a_second_pass_in_the_zone_knows_a_query_whose_identifier_was_translated() {
    let w = World::new();
    // Behind the type, code and checksum.
    let id = |out: &Sent| u16::from_be_bytes([out.frame.bytes()[38], out.frame.bytes()[39]]);
    let ask = |client, spec: &CtSpec| w.send_frame(spec, echo(client, B, 8, 77));
    let clients = [A, A + 1];
    let seen = clients.map(|client| {
        let first = ask(client, &snat(N));
        let seen = id(&first);
        let second = w.send_again(&CtSpec::default(), first);
        assert_eq!((second.state(), second.ends().0.0, id(&second)), (SNAT_NEW, N, seen));
        let third = w.send_again(&snat(N), second);
        assert_eq!((third.state(), id(&third)), (SNAT_NEW, seen), "not translated once more");
        seen
    });
    assert_ne!(seen[0], seen[1]);
    for (client, seen) in clients.into_iter().zip(seen) {
        let reply = w.send_frame(&bare_nat(), echo(B, N, 0, seen));
        let again = w.send_again(&bare_nat(), reply);
        assert_eq!((again.state(), again.ends().1.0, id(&again)), (DNAT_RPL, client, 77));
        assert_eq!(ask(client, &bare_nat()).state(), SNAT_EST);
    }
    assert_eq!(w.ct.connections(), 2);
}

/// A pod that reaches itself through a service: DNAT in one zone, SNAT in another, and back through both.
#[test]
fn hairpin_through_two_zones() {
    let w = World::new();
    let zone = |zone: u16, spec: CtSpec| CtSpec { zone: Zone(zone), ..spec };
    let (pod, service) = ((A, 4000), (N, 80));
    let out = w.send(&zone(1, dnat(A, 8080)), &tcp(pod, service, SYN, 1, 0));
    let out = w.send_again(&zone(2, snat(B)), out);
    assert_eq!(out.ends(), ((B, 4000), (A, 8080)));
    assert_eq!(out.state(), SNAT_NEW, "bits of another zone do not stay");
    let back = w.send(&zone(2, bare_nat()), &tcp((A, 8080), (B, 4000), SYN_ACK, 9, 2));
    let back = w.send_again(&zone(1, bare_nat()), back);
    assert_eq!((back.ends(), back.state()), ((service, pod), CtState(0x6a)));
}

/// The error's own addresses and those of the packet that it quotes, for each way of translating and both directions.
#[test]
fn icmp_errors_are_related_and_translated() {
    let router = 0x0909_0909;
    let w = World::new();
    w.send(&snat(N), &udp((A, 1000), (B, 53)).payload(b"hello world"));
    // From a router, about the translated datagram; eight bytes of it quoted, and more.
    let translated = udp((N, 1000), (B, 53)).payload(b"hello world").build();
    for quoted in [28, 30, translated.len() - 14] {
        let error = icmp(router, N, 3, 4, 1400, &translated[14..14 + quoted]);
        let out = w.send_frame(&bare_nat(), error);
        assert_eq!(out.state(), CtState(0xac));
        let inner = udp((A, 1000), (B, 53)).payload(b"hello world").build();
        assert_eq!(out.frame.bytes()[42..42 + quoted], inner[14..14 + quoted], "as the client sent it");
        assert_eq!(out.frame.bytes()[38..42], 1400u32.to_be_bytes(), "the next hop's MTU");
        let get = |slot| out.key.get(slot) as u32;
        assert_eq!((get(slot::NW_SRC), get(slot::NW_DST)), (router, A));
        assert_eq!(out.key.get(slot::CT_NW_SRC) as u32, A);
        // Errors make no connections and answer for none.
        assert_eq!((w.ct.connections(), w.all()[0].replied), (1, false));
    }
    // Without `nat` it is related, and stays as it is.
    let error = || icmp(router, N, 3, 3, 0, &translated[14..42]);
    let out = w.send_frame(&commit(), error());
    assert_eq!((out.state(), out.key.get(slot::NW_DST) as u32), (CtState(0x2c), N));
    // About nothing that is known, to an end that the quoted packet is not from, or cut off.
    let unknown = udp((N, 1001), (B, 53)).build();
    for error in [
        icmp(router, N, 3, 3, 0, &unknown[14..42]),
        icmp(router, B, 3, 3, 0, &translated[14..42]),
        icmp(router, N, 3, 3, 0, &translated[14..41]),
        icmp(router, N, 3, 3, 0, &[]),
        icmp(router, N, 3, 3, 0, &error().bytes()[14..]),
    ] {
        assert_eq!(w.send_frame(&bare_nat(), error).state(), INV);
    }
    // From the client, about a reply that it does not want.
    let reply = udp((B, 53), (A, 1000)).payload(b"answer").build();
    let out = w.send_frame(&bare_nat(), icmp(A, B, 3, 3, 0, &reply[14..]));
    assert_eq!(out.state(), CtState(0x64));
    let inner = udp((B, 53), (N, 1000)).payload(b"answer").build();
    assert_eq!(out.frame.bytes()[42..], inner[14..]);
    assert_eq!(out.key.get(slot::NW_SRC) as u32, N);
}

/// A datagram without a checksum has none where it is quoted either.
#[test]
fn quoted_datagrams_without_a_checksum_keep_none() {
    let w = World::new();
    let without = |src| {
        let mut bytes = udp((src, 1000), (B, 53)).build();
        bytes[40..42].fill(0);
        bytes
    };
    w.send_frame(&snat(N), Frame::from_bytes(&without(A)));
    let out = w.send_frame(&bare_nat(), icmp(0x0909_0909, N, 11, 0, 0, &without(N)[14..]));
    assert_eq!(out.state(), CtState(0xac));
    assert_eq!(out.frame.bytes()[42..], without(A)[14..]);
}

/// An error from behind a service seems to come from the service.
#[test]
fn icmp_errors_through_destination_translation() {
    let w = World::new();
    w.send(&dnat(N, 8080), &tcp((A, 1000), (B, 80), SYN, 1, 0));
    let translated = tcp((A, 1000), (N, 8080), SYN, 1, 0).build();
    let out = w.send_frame(&bare_nat(), icmp(0x0909_0909, A, 3, 1, 0, &translated[14..]));
    let inner = tcp((A, 1000), (B, 80), SYN, 1, 0).build();
    assert_eq!(out.frame.bytes()[42..], inner[14..], "with the checksum of TCP");
    let get = |slot| out.key.get(slot) as u32;
    assert_eq!((get(slot::NW_SRC), get(slot::NW_DST)), (B, A));
}

#[test]
fn icmpv6_errors_are_translated() {
    let (a, b, n) = (0x2001_0db8 << 96 | 1, 0x2001_0db8 << 96 | 2, 0x2001_0db8 << 96 | 0x99);
    let w = World::new();
    let ip = Some(IpAddr::from(std::net::Ipv6Addr::from(n)));
    let nat = NatSpec::new(NatKind::Src, (ip, None), (None, None), PortSelection::Default, false).unwrap();
    let spec = CtSpec { nat: Some(nat), ..commit() };
    let datagram = |src| FrameBuilder::udp6((src, 1000), (b, 53)).payload(b"hello").build();
    w.send_frame(&spec, Frame::from_bytes(&datagram(a)));
    let router = 0xfe80 << 112 | 9;
    let too_big = FrameBuilder::icmp6(router, n, 2, 0).payload(&datagram(n)[14..]);
    let out = w.send_frame(&bare_nat(), with_icmp_rest(too_big, 1280));
    assert_eq!(out.state(), CtState(0xac));
    assert_eq!(out.key.get(slot::IPV6_DST), a);
    assert_eq!(out.frame.bytes()[62..], datagram(a)[14..]);
}

/// One packet of each kind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Tcp,
    Udp,
    UdpWithoutChecksum,
    Sctp,
    Echo,
    Gre,
}

fn build(
    kind: Kind,
    is_ipv6: bool,
    src: (u128, u16),
    dst: (u128, u16),
    payload: &[u8],
    answers: bool,
) -> Frame {
    let ip = |protocol| match is_ipv6 {
        true => FrameBuilder::ipv6(src.0, dst.0, protocol),
        false => FrameBuilder::ipv4(src.0 as u32, dst.0 as u32, protocol),
    };
    let ports =
        |b: FrameBuilder| b.set(slot::TP_SRC, src.1.into()).set(slot::TP_DST, dst.1.into()).payload(payload);
    let flags = if answers { SYN_ACK } else { SYN };
    match kind {
        Kind::Tcp => {
            let numbers = if answers { (9, 2 + payload.len() as u32) } else { (1, 0) };
            let tcp = ip(6).set(slot::TCP_FLAGS, flags.into()).tcp_numbers(numbers.0, numbers.1);
            Frame::from_bytes(&ports(tcp).build())
        }
        Kind::Udp => Frame::from_bytes(&ports(ip(17)).build()),
        Kind::UdpWithoutChecksum => {
            let mut bytes = ports(ip(17)).build();
            bytes[34 + 6..34 + 8].fill(0);
            Frame::from_bytes(&bytes)
        }
        Kind::Sctp => Frame::from_bytes(&ports(ip(132)).build()),
        Kind::Gre => Frame::from_bytes(&ip(47).payload(payload).build()),
        Kind::Echo => {
            // The identifier is the port of whoever asked.
            let id = if answers { dst.1 } else { src.1 };
            let kind = match (is_ipv6, answers) {
                (false, false) => 8,
                (false, true) => 0,
                (true, false) => 128,
                (true, true) => 129,
            };
            let echo = match is_ipv6 {
                true => FrameBuilder::icmp6(src.0, dst.0, kind, 0),
                false => FrameBuilder::icmp4(src.0 as u32, dst.0 as u32, kind, 0),
            };
            with_icmp_rest(echo.payload(payload), u32::from(id) << 16 | 1)
        }
    }
}

/// Source and destination of a frame by etherparse: addresses as numbers, ports or the identifier of an echo.
fn ends_of(frame: &Frame) -> ((u128, u16), (u128, u16)) {
    let headers = LaxPacketHeaders::from_ethernet(frame.bytes()).unwrap();
    let (src, dst) = match headers.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            (u32::from_be_bytes(ip.source).into(), u32::from_be_bytes(ip.destination).into())
        }
        NetHeaders::Ipv6(ip, _) => (u128::from_be_bytes(ip.source), u128::from_be_bytes(ip.destination)),
        NetHeaders::Arp(_) => panic!("IP"),
    };
    let (sport, dport) = match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(TransportHeader::Udp(udp)) => (udp.source_port, udp.destination_port),
        Some(_) => {
            let l4 = frame.layers.l4 as usize;
            let id = u16::from_be_bytes([frame.bytes()[l4 + 4], frame.bytes()[l4 + 5]]);
            (id, id)
        }
        None if frame.layers.l4 != u16::MAX => {
            let l4 = frame.layers.l4 as usize;
            let port = |at: usize| u16::from_be_bytes([frame.bytes()[at], frame.bytes()[at + 1]]);
            (port(l4), port(l4 + 2))
        }
        None => (0, 0),
    };
    ((src, sport), (dst, dport))
}

fn kinds() -> impl Strategy<Value = (Kind, bool)> {
    prop_oneof![
        any::<bool>().prop_map(|v6| (Kind::Tcp, v6)),
        any::<bool>().prop_map(|v6| (Kind::Udp, v6)),
        Just((Kind::UdpWithoutChecksum, false)),
        any::<bool>().prop_map(|v6| (Kind::Sctp, v6)),
        any::<bool>().prop_map(|v6| (Kind::Echo, v6)),
        any::<bool>().prop_map(|v6| (Kind::Gre, v6)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// reply(original(x)) == x: what comes back from where a packet was sent to goes to where it came from, whatever is
    /// translated, and no checksum of it is wrong.
    #[test]
    fn a_reply_finds_back(
        (kind, is_ipv6) in kinds(),
        src in any::<(u16, u16)>(),
        dst in any::<(u16, u16)>(),
        base in any::<u16>(),
        range in (any::<u16>(), 0u16..4, proptest::option::of((1u16.., 0u16..2000))),
        is_src in any::<bool>(),
        selection in prop_oneof![
            Just(PortSelection::Default), Just(PortSelection::Hash), Just(PortSelection::Random)
        ],
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        leave_partial in any::<bool>(),
    ) {
        let net = if is_ipv6 { 0x2001_0db8_u128 << 96 } else { 0x0a00_0000 };
        let address = |low: u16| net | u128::from(base) << 8 | u128::from(low);
        let (src, dst) = ((address(src.0), src.1.max(1)), (address(dst.0), dst.1.max(1)));
        let ip = |offset: u16| {
            let number = address(range.0) + u128::from(offset);
            if is_ipv6 { IpAddr::from(number.to_be_bytes()) } else { IpAddr::from((number as u32).to_be_bytes()) }
        };
        let ports = range.2.map(|(first, more)| (first, first.saturating_add(more)));
        let nat = NatSpec::new(
            if is_src { NatKind::Src } else { NatKind::Dst },
            (Some(ip(0)), Some(ip(range.1))),
            (ports.map(|p| p.0), ports.map(|p| p.1)),
            selection,
            false,
        ).unwrap();
        let w = World::new();
        let spec = CtSpec { nat: Some(nat), ..commit() };
        let mut frame = build(kind, is_ipv6, src, dst, &payload, false);
        if leave_partial && matches!(kind, Kind::Tcp | Kind::Udp) {
            let key = packet::PacketKey::extract(&mut frame).unwrap();
            let builder = FrameBuilder::from_key(key).payload(&payload).tcp_numbers(1, 0);
            frame = partial(&builder);
        }
        let out = w.send_frame(&spec, frame);
        prop_assert_eq!(out.tracked.drop, None);
        let (to_src, to_dst) = ends_of(&out.frame);
        let first = address(range.0);
        let translated = if is_src { to_src.0 } else { to_dst.0 };
        prop_assert!((first..=first + u128::from(range.1)).contains(&translated));
        if let Some((min, max)) = ports && !matches!(kind, Kind::Echo | Kind::Gre) {
            let port = if is_src { to_src.1 } else { to_dst.1 };
            prop_assert!((min..=max).contains(&port), "{port} of {min}-{max}");
        }
        let reply = build(kind, is_ipv6, to_dst, to_src, &payload, true);
        let back = w.send_frame(&bare_nat(), reply);
        prop_assert!(back.state().has(CtState::EST | CtState::RPL));
        let ends = ends_of(&back.frame);
        if kind == Kind::Echo {
            prop_assert_eq!((ends.0.0, ends.1), (dst.0, src));
        } else if kind == Kind::Gre {
            prop_assert_eq!((ends.0.0, ends.1.0), (dst.0, src.0));
        } else {
            prop_assert_eq!(ends, (dst, src));
        }
    }

    /// No two live connections of a zone share a tuple, in either direction, however they come and go.
    #[test]
    fn tuples_are_unique(steps in proptest::collection::vec((0u32..4, 0u16..6, 0u32..3, 0u8..6, any::<bool>()), 1..120)) {
        let w = World::new();
        for (client, port, server, what, is_udp) in steps {
            let (src, dst) = ((A + client, 2000 + port), (B + server, 53));
            let builder = if is_udp { udp(src, dst) } else { tcp(src, dst, SYN, 1, 0) };
            let spec = match what {
                0 => commit(),
                1 => snat(N),
                2 => nat(NatKind::Src, (N, N + 1), Some((2000, 2009))),
                3 => dnat(B + 1, 53),
                4 => nat(NatKind::Dst, (B, B + 2), Some((53, 55))),
                _ => {
                    let filter = TupleFilter { src_port: Some(2000 + port), ..TupleFilter::default() };
                    w.ct.flush(None, Some(&filter));
                    continue;
                }
            };
            w.send(&spec, &builder);
            let all = w.all();
            prop_assert_eq!(all.len(), w.ct.connections() as usize);
            let mut tuples = HashSet::new();
            for connection in &all {
                prop_assert!(tuples.insert(connection.original), "{:?}", connection);
                prop_assert!(tuples.insert(connection.reply), "{:?}", connection);
            }
        }
    }
}
