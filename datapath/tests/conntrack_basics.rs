//! The tracker's states and translations, packet by packet. What is expected was observed with Debian's Open vSwitch 3.1
//! (`netdev-dummy/receive`) or is said by ovs-fields(7).

use base::{HashSeed, Instant};
use datapath::conntrack::*;
use packet::{DpPort, Frame, FrameBuilder, PacketKey, slot};
use std::net::{IpAddr, Ipv4Addr};

const A: u32 = 0x0a00_0001;
const B: u32 = 0x0a00_0002;
const N: u32 = 0xc0a8_0001;
const NOW: Instant = Instant::from_secs(1000);

const NEW: CtState = CtState(0x21);
const EST: CtState = CtState(0x22);
const EST_RPL: CtState = CtState(0x2a);
const INV: CtState = CtState(0x30);

struct World {
    ct: ConnTracker,
    now: Instant,
}

struct Out {
    tracked: Tracked,
    key: PacketKey,
    frame: Frame,
}

impl World {
    fn new() -> World {
        World { ct: ConnTracker::new(HashSeed::new(1, 2), CtConfig::default()), now: NOW }
    }

    fn send(&self, spec: &CtSpec, builder: &FrameBuilder) -> Out {
        let mut frame = Frame::from_bytes(&builder.build());
        let mut key = PacketKey::extract(&mut frame).unwrap();
        let tracked = self.ct.track(&mut frame, &mut key, spec, DpPort(1), self.now);
        assert!(frame.verify_ipv4_header() && recheck(&frame), "checksums");
        Out { tracked, key, frame }
    }

    fn state(&self, spec: &CtSpec, builder: &FrameBuilder) -> CtState {
        self.send(spec, builder).tracked.state
    }
}

/// The transport checksum from scratch, whatever the frame says that is known of it.
fn recheck(frame: &Frame) -> bool {
    let mut copy = Frame::from_bytes(frame.bytes());
    PacketKey::extract(&mut copy).unwrap();
    copy.verify_transport()
}

fn commit() -> CtSpec {
    CtSpec { commit: true, ..CtSpec::default() }
}

fn nat(kind: NatKind, ip: u32, ports: Option<(u16, u16)>) -> CtSpec {
    let ip = Some(IpAddr::from(Ipv4Addr::from(ip)));
    let ports = (ports.map(|p| p.0), ports.map(|p| p.1));
    let nat = NatSpec::new(kind, (ip, None), ports, PortSelection::Default, false).unwrap();
    CtSpec { commit: true, nat: Some(nat), ..CtSpec::default() }
}

fn bare_nat() -> CtSpec {
    CtSpec { nat: Some(NatSpec::apply()), ..CtSpec::default() }
}

fn udp(src: u32, dst: u32, sport: u16, dport: u16) -> FrameBuilder {
    FrameBuilder::udp4((src, sport), (dst, dport)).payload(b"x")
}

fn tcp(src: u32, dst: u32, ports: (u16, u16), flags: u16, seq: u32, ack: u32) -> FrameBuilder {
    FrameBuilder::tcp4((src, ports.0), (dst, ports.1), flags).tcp_numbers(seq, ack)
}

const S: u16 = 2;
const SA: u16 = 0x12;
const ACK: u16 = 0x10;
const PA: u16 = 0x18;
const FA: u16 = 0x11;
const R: u16 = 4;
const RA: u16 = 0x14;

#[test]
fn udp_is_new_until_a_reply() {
    let w = World::new();
    assert_eq!(w.state(&CtSpec::default(), &udp(A, B, 1000, 53)), NEW);
    assert_eq!(w.ct.connections(), 0);
    for _ in 0..4 {
        assert_eq!(w.state(&commit(), &udp(A, B, 1000, 53)), NEW);
    }
    let reply = w.send(&commit(), &udp(B, A, 53, 1000));
    assert_eq!(reply.tracked.state, EST_RPL);
    assert!(reply.tracked.hold.is_some());
    assert_eq!(reply.key.get(slot::CT_NW_SRC) as u32, A);
    assert_eq!(reply.key.get(slot::CT_TP_DST), 53);
    assert_eq!(w.state(&commit(), &udp(A, B, 1000, 53)), EST);
    assert_eq!(w.ct.connections(), 1);
    assert_eq!(w.state(&commit(), &udp(A, B, 0, 53)), INV);
}

#[test]
fn tcp_from_syn_to_reopening() {
    let w = World::new();
    let (a, b) = ((1, 80), (80, 1));
    assert_eq!(w.state(&commit(), &tcp(A, B, a, S, 100, 0)), NEW);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, S, 100, 0)), NEW);
    assert_eq!(w.state(&commit(), &tcp(B, A, b, SA, 500, 101)), EST_RPL);
    assert_eq!(w.state(&commit(), &tcp(B, A, b, SA, 500, 101)), EST_RPL);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, ACK, 101, 501)), EST);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, PA, 101, 501).payload(b"hello")), EST);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, PA, 140_101, 501).payload(b"hello")), INV);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, FA, 106, 501)), EST);
    assert_eq!(w.state(&commit(), &tcp(B, A, b, FA, 501, 107)), EST_RPL);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, ACK, 107, 502)), EST);
    assert_eq!(w.state(&commit(), &tcp(A, B, a, S, 9000, 0)), NEW);
    assert_eq!(w.ct.connections(), 1);
}

#[test]
fn source_translation_and_back() {
    let w = World::new();
    let snat = nat(NatKind::Src, N, None);
    let out = w.send(&snat, &udp(A, B, 1000, 53));
    assert_eq!(out.tracked.state, CtState(0x61));
    assert_eq!(out.key.get(slot::NW_SRC) as u32, N);
    assert_eq!(out.key.get(slot::CT_NW_SRC) as u32, A);
    let back = w.send(&bare_nat(), &udp(B, N, 53, 1000));
    assert_eq!(back.tracked.state, CtState(0xaa));
    assert_eq!(back.key.get(slot::NW_DST) as u32, A);
    let again = w.send(&snat, &udp(A, B, 1000, 53));
    assert_eq!(again.tracked.state, CtState(0x62));
    // Another source with the same port: the port is changed.
    let clash = w.send(&snat, &udp(A + 8, B, 1000, 53));
    assert_eq!(clash.key.get(slot::NW_SRC) as u32, N);
    assert_ne!(clash.key.get(slot::TP_SRC), 1000);
    // Without `nat` nothing is translated.
    assert_eq!(w.send(&CtSpec::default(), &udp(A, B, 1000, 53)).key.get(slot::NW_SRC) as u32, A);
    let _ = again.frame;
}

#[test]
fn held_connections_need_no_look_up() {
    let w = World::new();
    let snat = nat(NatKind::Src, N, None);
    w.send(&snat, &tcp(A, B, (1, 80), S, 100, 0));
    w.send(&bare_nat(), &tcp(B, N, (80, 1), SA, 500, 101));
    let out = w.send(&snat, &tcp(A, B, (1, 80), ACK, 101, 501));
    let (held, direction) = out.tracked.hold.expect("established");
    let data = tcp(A, B, (1, 80), PA, 101, 501).payload(b"hello");
    let mut frame = Frame::from_bytes(&data.build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    let class = w.ct.track_held(&held, direction, &mut frame, &mut key, &snat, w.now);
    assert_eq!(class, Some(out.tracked.class));
    assert_eq!(key.get(slot::NW_SRC) as u32, N);
    assert!(recheck(&frame) && frame.verify_ipv4_header());
    w.ct.describe(&held, direction, class.unwrap(), &mut key);
    assert_eq!(key.get(slot::CT_STATE) as u32, class.unwrap().state().0);
    // A FIN wants the look-up, and so does everything once the connection is dead.
    let mut fin = Frame::from_bytes(&tcp(A, B, (1, 80), FA, 106, 501).build());
    let mut key = PacketKey::extract(&mut fin).unwrap();
    assert_eq!(w.ct.track_held(&held, direction, &mut fin, &mut key, &snat, w.now), None);
    assert_eq!(w.ct.flush(None, None), 1);
    let mut frame = Frame::from_bytes(&data.build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    assert_eq!(w.ct.track_held(&held, direction, &mut frame, &mut key, &snat, w.now), None);
}

#[test]
fn impossible_flags_are_invalid() {
    let w = World::new();
    for flags in [0, 3, 6, 1, 0x29, SA, 0x3f] {
        assert_eq!(w.state(&commit(), &tcp(A, B, (1, 80), flags, 1, 1)), INV, "{flags:#x}");
    }
    for flags in [R, ACK, PA, FA, S, RA] {
        let port = 100 + flags;
        assert_eq!(w.state(&commit(), &tcp(A, B, (port, 80), flags, 1, 1)), NEW, "{flags:#x}");
    }
    assert_eq!(w.ct.stats().invalid, 7);
}

#[test]
fn force_turns_a_connection_round() {
    let w = World::new();
    w.send(&commit(), &udp(A, B, 5, 6));
    let force = CtSpec { force: true, ..commit() };
    assert_eq!(w.state(&force, &udp(B, A, 6, 5)), NEW);
    assert_eq!(w.state(&commit(), &udp(A, B, 5, 6)), EST_RPL);
    assert_eq!(w.ct.connections(), 1);
}
