//! The tracker's states and translations, packet by packet. What is expected was observed with Debian's Open vSwitch 3.1
//! (`netdev-dummy/receive`) or is said by ovs-fields(7).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use conntrack_support::*;
use datapath::Drop;
use datapath::conntrack::*;
use packet::{Checksum, Frame, FrameBuilder, PacketKey, slot};
use std::time::Duration;

#[test]
fn udp_is_new_until_a_reply() {
    let w = World::new();
    let (a, b) = ((A, 1000), (B, 53));
    assert_eq!(w.state(&CtSpec::default(), &udp(a, b)), NEW);
    assert_eq!(w.ct.connections(), 0);
    for _ in 0..4 {
        assert_eq!(w.state(&commit(), &udp(a, b)), NEW);
    }
    let reply = w.send(&commit(), &udp(b, a));
    assert_eq!(reply.state(), EST_RPL);
    assert!(reply.tracked.hold.is_some());
    assert_eq!(reply.key.get(slot::CT_NW_SRC) as u32, A);
    assert_eq!(reply.key.get(slot::CT_TP_DST), 53);
    assert_eq!(w.state(&commit(), &udp(a, b)), EST);
    assert_eq!(w.ct.connections(), 1);
}

#[test]
fn what_makes_no_sense_is_invalid() {
    let w = World::new();
    assert_eq!(w.state(&commit(), &udp((A, 0), (B, 53))), INV);
    assert_eq!(w.state(&commit(), &udp((A, 53), (B, 0))), INV);
    let bytes = udp((A, 1), (B, 2)).build();
    let spoil = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x55;
        Frame::from_bytes(&bytes)
    };
    for (at, what) in
        [(14 + 10, "IPv4 checksum"), (34 + 6, "UDP checksum"), (34 + 8, "payload"), (34 + 5, "UDP length")]
    {
        assert_eq!(w.send_frame(&commit(), spoil(at)).state(), INV, "{what}");
    }
    // A length that lies is found though somebody vouches for the checksum.
    let mut lying = spoil(34 + 5);
    lying.checksum = Checksum::Valid;
    assert_eq!(w.send_frame(&commit(), lying).state(), INV);
    // A protocol's header that is cut off by the IP length.
    let short = FrameBuilder::ipv4(A, B, 6).payload(&[0; 12]);
    assert_eq!(w.state(&commit(), &short), INV);
    let fragment = udp((A, 1), (B, 2)).set(slot::NW_FRAG, 1);
    assert_eq!(w.state(&commit(), &fragment), INV);
    assert_eq!(w.state(&commit(), &udp((A, 1), (B, 2)).set(slot::NW_FRAG, 3)), INV);
    for (kind, code) in [(0, 0), (8, 1), (40, 0), (17, 0), (14, 0)] {
        assert_eq!(
            w.send_frame(&commit(), icmp(A, B, kind, code, 0x4d_0001, b"")).state(),
            INV,
            "{kind} {code}"
        );
    }
    let arp = FrameBuilder::arp(1, (1, A), (0, B));
    assert_eq!(w.state(&commit(), &arp), INV);
    assert_eq!(w.ct.connections(), 0);
}

#[test]
fn echoes() {
    let w = World::new();
    let send = |src, dst, kind| w.send_frame(&commit(), echo(src, dst, kind, 77));
    assert_eq!(send(A, B, 8).state(), NEW);
    assert_eq!(send(A, B, 8).state(), NEW);
    let reply = send(B, A, 0);
    assert_eq!(reply.state(), EST_RPL);
    assert_eq!((reply.key.get(slot::CT_TP_SRC), reply.key.get(slot::CT_TP_DST)), (8, 0));
    assert_eq!(send(A, B, 8).state(), EST);
    assert_eq!(w.send_frame(&commit(), icmp(A, B, 13, 0, 0x4d_0001, b"")).state(), NEW, "timestamp");
}

#[test]
fn other_protocols_go_by_addresses() {
    let w = World::new();
    let gre = |src, dst| FrameBuilder::ipv4(src, dst, 47).payload(b"\0\0\x08\0abcdefgh");
    assert_eq!(w.state(&commit(), &gre(A, B)), NEW);
    assert_eq!(w.state(&commit(), &gre(B, A)), EST_RPL);
    let sctp = |src, dst, sport: u16, dport: u16| {
        FrameBuilder::ipv4(src, dst, 132)
            .set(slot::TP_SRC, sport.into())
            .set(slot::TP_DST, dport.into())
            .payload(b"abcd")
    };
    assert_eq!(w.state(&commit(), &sctp(A, B, 1, 2)), NEW);
    assert_eq!(w.state(&commit(), &sctp(B, A, 2, 1)), EST_RPL);
    assert_eq!(w.state(&commit(), &sctp(B, A, 2, 3)), NEW);
}

#[test]
fn tcp_from_syn_to_reopening() {
    let w = World::new();
    let (a, b) = ((A, 1), (B, 80));
    let run = |src, dst, flags, seq, ack, payload: &[u8]| {
        w.state(&commit(), &tcp(src, dst, flags, seq, ack).payload(payload))
    };
    assert_eq!(run(a, b, SYN, 100, 0, b""), NEW);
    assert_eq!(run(a, b, SYN, 100, 0, b""), NEW);
    assert_eq!(run(b, a, SYN_ACK, 500, 101, b""), EST_RPL);
    assert_eq!(run(b, a, SYN_ACK, 500, 101, b""), EST_RPL);
    assert_eq!(run(a, b, ACK, 101, 501, b""), EST);
    assert_eq!(run(a, b, PSH_ACK, 101, 501, b"hello"), EST);
    assert_eq!(run(a, b, PSH_ACK, 140_101, 501, b"hello"), INV);
    assert_eq!(run(b, a, RST, 70_000, 0, b""), INV, "a RST must be exact");
    assert_eq!(run(a, b, FIN_ACK, 106, 501, b""), EST);
    assert_eq!(run(b, a, FIN_ACK, 501, 107, b""), EST_RPL);
    assert_eq!(run(a, b, ACK, 107, 502, b""), EST);
    assert_eq!(run(a, b, SYN, 9000, 0, b""), NEW);
    assert_eq!(w.ct.connections(), 1);
}

#[test]
fn tcp_timeouts_follow_the_state() {
    let w = World::new();
    let (a, b) = ((A, 1), (B, 80));
    let run = |src, dst, flags, seq, ack| {
        w.send(&commit(), &tcp(src, dst, flags, seq, ack));
        let all = w.all();
        let tcp = all[0].tcp.unwrap();
        (all[0].timeout_secs, TcpState::merged(tcp.0, tcp.1).name())
    };
    assert_eq!(run(a, b, SYN, 100, 0), (30, "SYN_SENT"));
    assert_eq!(run(b, a, SYN_ACK, 500, 101), (30, "ESTABLISHED"));
    assert_eq!(run(a, b, ACK, 101, 501), (86_400, "ESTABLISHED"));
    assert_eq!(run(a, b, FIN_ACK, 101, 501), (900, "CLOSING"));
    assert_eq!(run(b, a, FIN_ACK, 501, 102), (45, "TIME_WAIT"));
    assert_eq!(run(a, b, ACK, 102, 502), (30, "TIME_WAIT"));
    assert_eq!(run(a, b, SYN, 9000, 0), (30, "SYN_SENT"));
    assert_eq!(run(b, a, RST_ACK, 0, 9001), (30, "TIME_WAIT"));
}

/// In the middle of a connection both directions are picked up, unless that is forbidden; scales are unknown then.
#[test]
fn picking_up_in_the_middle() {
    let (a, b) = ((A, 1), (B, 80));
    let w = World::new();
    assert_eq!(w.state(&commit(), &tcp(a, b, ACK, 100, 1000)), NEW);
    assert_eq!(w.state(&commit(), &tcp(b, a, ACK, 1000, 100)), EST_RPL);
    assert_eq!(w.state(&commit(), &tcp(a, b, PSH_ACK, 100, 1000).payload(b"hello")), EST);
    let strict = World::with(CtConfig { tcp_loose: false, ..CtConfig::default() });
    assert_eq!(strict.state(&commit(), &tcp(a, b, ACK, 100, 1000)), INV);
    assert_eq!(strict.state(&commit(), &tcp(a, b, SYN, 100, 0)), NEW);
}

/// RFC 7323: windows count multiplied if both ends offer to, and not at all if one does not.
#[test]
fn window_scales() {
    let (a, b) = ((A, 1), (B, 80));
    let scale = |n| [3, 3, n, 0];
    for (reply_scale, far_is_good) in [(Some(7), true), (None, false)] {
        let w = World::new();
        w.send(&commit(), &tcp(a, b, SYN, 100, 0).tcp_options(&scale(7)));
        let syn_ack = tcp(b, a, SYN_ACK, 500, 101);
        let syn_ack = reply_scale.map_or(syn_ack.clone(), |n| syn_ack.tcp_options(&scale(n)));
        w.send(&commit(), &syn_ack);
        w.send(&commit(), &tcp(a, b, ACK, 101, 501));
        assert_eq!(w.state(&commit(), &tcp(b, a, ACK, 501, 101)), EST_RPL);
        let far = tcp(a, b, PSH_ACK, 101 + 1_000_000, 501).payload(b"x");
        assert_eq!(w.state(&commit(), &far), if far_is_good { EST } else { INV });
    }
    let unchecked = World::with(CtConfig { tcp_seq_check: false, ..CtConfig::default() });
    unchecked.send(&commit(), &tcp(a, b, SYN, 100, 0));
    unchecked.send(&commit(), &tcp(b, a, SYN_ACK, 500, 101));
    assert_eq!(unchecked.state(&commit(), &tcp(a, b, PSH_ACK, 900_000_000, 501).payload(b"x")), EST);
}

#[test]
fn impossible_flags_are_invalid() {
    let w = World::new();
    for flags in [0, 3, 6, 1, 0x29, SYN_ACK, 0x3f] {
        assert_eq!(w.state(&commit(), &tcp((A, 1), (B, 80), flags, 1, 1)), INV, "{flags:#x}");
    }
    for flags in [RST, ACK, PSH_ACK, FIN_ACK, SYN, RST_ACK] {
        let port = 100 + flags;
        assert_eq!(w.state(&commit(), &tcp((A, port), (B, 80), flags, 1, 1)), NEW, "{flags:#x}");
    }
    assert_eq!(w.ct.stats().invalid, 7);
}

#[test]
fn force_turns_a_connection_round() {
    let w = World::new();
    w.send(&commit(), &udp((A, 5), (B, 6)));
    let force = CtSpec { force: true, ..commit() };
    assert_eq!(w.state(&force, &udp((A, 5), (B, 6))), NEW);
    assert_eq!(w.state(&force, &udp((B, 6), (A, 5))), NEW);
    assert_eq!(w.state(&commit(), &udp((A, 5), (B, 6))), EST_RPL);
    assert_eq!(w.ct.connections(), 1);
}

#[test]
fn marks_and_labels_change_the_class() {
    let w = World::new();
    let spec = CtSpec { mark: Some((7, !0)), label: Some((3 << 70, u128::MAX)), ..commit() };
    let out = w.send(&spec, &udp((A, 5), (B, 6)));
    assert_eq!((out.key.get(slot::CT_MARK), out.key.get(slot::CT_LABEL)), (7, 3 << 70));
    let before = w.send(&commit(), &udp((B, 6), (A, 5)));
    assert_eq!((before.key.get(slot::CT_MARK), before.key.get(slot::CT_LABEL)), (7, 3 << 70));
    let (held, direction) = before.tracked.hold.clone().unwrap();
    let again = CtSpec { mark: Some((0x90, 0xf0)), ..CtSpec::default() };
    let after = w.send(&again, &udp((B, 6), (A, 5)));
    assert_eq!(after.key.get(slot::CT_MARK), 0x97);
    assert_ne!(after.tracked.class, before.tracked.class);
    assert_eq!(after.state(), before.state());
    // What is held sees the new class.
    let mut frame = Frame::from_bytes(&udp((B, 6), (A, 5)).build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    let class = w.ct.track_held(&held, direction, &mut frame, &mut key, &commit(), w.now);
    assert_eq!(class, Some(after.tracked.class));
    // The same mark again is no change; another would be, and is not made on the way.
    let mut hold = |spec| w.ct.track_held(&held, direction, &mut frame, &mut key, spec, w.now);
    assert!(hold(&again).is_some());
    assert_eq!(hold(&CtSpec { mark: Some((1, !0)), ..commit() }), None);
    assert_eq!(held.mark(), 0x97);
}

#[test]
fn zones_are_apart() {
    let w = World::new();
    let zone = |z| CtSpec { zone: Zone(z), ..commit() };
    w.send(&zone(1), &udp((A, 5), (B, 6)));
    assert_eq!(w.state(&zone(1), &udp((B, 6), (A, 5))), EST_RPL);
    assert_eq!(w.state(&zone(2), &udp((B, 6), (A, 5))), NEW);
    assert_eq!(w.ct.stats().zones.into_iter().collect::<Vec<_>>(), [(Zone(1), 1), (Zone(2), 1)]);
    let filter = TupleFilter { src: Some([10, 0, 0, 2].into()), ..TupleFilter::default() };
    assert_eq!(w.ct.flush(Some(Zone(1)), Some(&filter)), 0);
    assert_eq!(w.ct.flush(None, Some(&filter)), 1);
    assert_eq!(w.ct.flush(Some(Zone(1)), None), 1);
    assert_eq!(w.ct.connections(), 0);
    assert_eq!(w.ct.stats().zones.len(), 0);
}

#[test]
fn connections_end_with_their_time() {
    let mut w = World::new();
    w.send(&commit(), &udp((A, 5), (B, 6)));
    w.send(&commit(), &tcp((A, 1), (B, 80), SYN, 1, 0));
    w.pass(Duration::from_secs(29));
    assert_eq!(w.expire(), 0);
    w.pass(Duration::from_secs(3));
    assert_eq!(w.expire(), 1, "the SYN");
    w.send(&commit(), &udp((A, 5), (B, 6)));
    w.pass(Duration::from_secs(59));
    assert_eq!(w.expire(), 0, "the datagram was repeated");
    w.pass(Duration::from_secs(3));
    assert_eq!(w.expire(), 1);
    assert_eq!((w.ct.connections(), w.ct.stats().expired), (0, 2));
    assert!(w.ct.next_expiry().is_none_or(|at| at > w.now));
}

/// A state with a shorter timeout is noticed though the wheel was set to a later time; so is one that nobody swept.
#[test]
fn a_shorter_timeout_counts_at_once() {
    let mut w = World::new();
    let (a, b) = ((A, 1), (B, 80));
    w.send(&commit(), &tcp(a, b, SYN, 100, 0));
    w.send(&commit(), &tcp(b, a, SYN_ACK, 500, 101));
    w.send(&commit(), &tcp(a, b, ACK, 101, 501));
    w.pass(Duration::from_secs(3600));
    assert_eq!(w.expire(), 0);
    w.send(&commit(), &tcp(a, b, RST, 101, 0));
    w.pass(Duration::from_secs(29));
    assert_eq!(w.expire(), 0);
    w.pass(Duration::from_secs(3));
    assert_eq!(w.expire(), 1);
    w.send(&commit(), &udp((A, 5), (B, 6)));
    w.pass(Duration::from_secs(61));
    assert_eq!(w.state(&commit(), &udp((B, 6), (A, 5))), NEW, "no reply to what is over");
}

#[test]
fn a_policy_of_the_zone_sets_the_timeout() {
    let mut config = CtConfig::default();
    let mut short = Timeouts::default();
    assert!(short.set_named("udp_first", 5));
    config.policies.insert(TimeoutPolicyId(1), short);
    config.zone_policies.insert(Zone(9), TimeoutPolicyId(1));
    let mut w = World::with(config);
    w.send(&CtSpec { zone: Zone(9), ..commit() }, &udp((A, 5), (B, 6)));
    w.send(&commit(), &udp((A, 5), (B, 6)));
    w.send(&CtSpec { timeout: Some(TimeoutPolicyId(1)), ..commit() }, &udp((A, 7), (B, 6)));
    w.pass(Duration::from_secs(7));
    assert_eq!(w.expire(), 2);
}

#[test]
fn text_is_that_of_ovs() {
    let w = World::new();
    let spec = CtSpec { zone: Zone(7), mark: Some((5, !0)), label: Some((3, u128::MAX)), ..snat(N) };
    w.send(&spec, &tcp((A, 1000), (B, 53), SYN, 1, 0));
    let line = "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=53),reply=(src=10.0.0.2,dst=192.168.0.1,sport=53,\
                dport=1000),zone=7,mark=5,labels=0x3,protoinfo=(state=SYN_SENT)";
    assert_eq!(w.all()[0].to_string(), line);
    w.ct.flush(None, None);
    w.send_frame(&commit(), echo(A, B, 8, 77));
    let line = "icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=77,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=77,type=0,\
                code=0)";
    assert_eq!(w.all()[0].to_string(), line);
    assert_eq!(format!("{:#}", w.all()[0]), format!("{line},timeout=60"));
    w.ct.flush(None, None);
    w.send(&CtSpec { alg: Some(Alg::Ftp), zone: Zone(3), ..commit() }, &tcp((A, 1), (B, 21), SYN, 1, 0));
    let line = "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=21),reply=(src=10.0.0.2,dst=10.0.0.1,sport=21,dport=1),\
                zone=3,timeout=30,protoinfo=(state=SYN_SENT),helper=ftp";
    assert_eq!(format!("{:#}", w.all()[0]), line);
}

#[test]
fn ct_clear_untracks() {
    let w = World::new();
    let mut out = w.send(&CtSpec { mark: Some((1, 1)), ..commit() }, &udp((A, 5), (B, 6)));
    ConnTracker::clear(&mut out.key);
    let connection_slots = slot::ALL.iter().filter(|s| s.word >= slot::CT_STATE.word);
    assert!(connection_slots.clone().count() >= 11);
    assert!(connection_slots.into_iter().all(|s| out.key.get(*s) == 0));
}

#[test]
fn held_connections_need_no_look_up() {
    let w = World::new();
    let (a, b, n) = ((A, 1), (B, 80), (N, 1));
    w.send(&snat(N), &tcp(a, b, SYN, 100, 0));
    w.send(&bare_nat(), &tcp(b, n, SYN_ACK, 500, 101));
    let out = w.send(&snat(N), &tcp(a, b, ACK, 101, 501));
    let (held, direction) = out.tracked.hold.expect("established");
    let data = tcp(a, b, PSH_ACK, 101, 501).payload(b"hello");
    let hold = |builder: &FrameBuilder| {
        let mut frame = Frame::from_bytes(&builder.build());
        let mut key = PacketKey::extract(&mut frame).unwrap();
        let class = w.ct.track_held(&held, direction, &mut frame, &mut key, &snat(N), w.now);
        (class, key, frame)
    };
    let (class, mut key, frame) = hold(&data);
    assert_eq!(class, Some(out.tracked.class));
    assert_eq!(key.get(slot::NW_SRC) as u32, N);
    check_frame(&frame, &key);
    w.ct.describe(&held, direction, class.unwrap(), &mut key);
    assert_eq!(key.get(slot::CT_STATE) as u32, class.unwrap().state().0);
    assert_eq!(key.get(slot::CT_NW_SRC) as u32, A);
    // What may do more than pass wants the look-up and leaves the frame as it was.
    for odd in [
        tcp(a, b, FIN_ACK, 106, 501),
        tcp(a, b, SYN, 106, 501),
        tcp(a, b, RST, 106, 501),
        tcp(a, b, ACK, 900_000, 501).payload(b"out of window"),
        tcp((A, 2), b, ACK, 106, 501),
        tcp(a, b, ACK, 106, 501).set(slot::NW_FRAG, 1),
    ] {
        let (class, key, frame) = hold(&odd);
        assert_eq!(class, None);
        assert_eq!(frame.bytes(), odd.build());
        assert_eq!(key.get(slot::NW_SRC) as u32, A);
    }
    assert_eq!(w.ct.flush(None, None), 1);
    assert_eq!(hold(&data).0, None, "dead");
}

#[test]
fn a_full_table_does_not_translate_wrongly() {
    let w = World::with(CtConfig { connections_max: 0, ..CtConfig::default() });
    let out = w.send(&snat(N), &udp((A, 1), (B, 2)));
    assert_eq!(out.tracked.drop, Some(Drop::CtFull));
    let out = w.send(&commit(), &udp((A, 1), (B, 2)));
    assert_eq!((out.tracked.drop, out.state()), (None, NEW));
}

/// Passes of held packets: what a cached flow does with `tracked`.
fn hold(w: &World, tracked: &Tracked, builder: &FrameBuilder) -> Option<CtClass> {
    let (held, direction) = tracked.hold.clone().expect("may be held");
    let mut frame = Frame::from_bytes(&builder.build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    w.ct.track_held(&held, direction, &mut frame, &mut key, &commit(), w.now)
}

/// A sender that nobody answers is not looked up again and again, and the answer changes its class.
#[test]
fn one_way_traffic_is_held_until_an_answer() {
    let mut w = World::new();
    let (a, b) = ((A, 1000), (B, 514));
    assert!(w.send(&commit(), &udp(a, b)).tracked.hold.is_none(), "it made the connection");
    let second = w.send(&commit(), &udp(a, b)).tracked;
    assert_eq!(second.state, NEW);
    for _ in 0..10 {
        w.pass(Duration::from_secs(50));
        assert_eq!(w.expire(), 0);
        assert_eq!(hold(&w, &second, &udp(a, b)), Some(second.class));
    }
    assert_eq!(w.state(&commit(), &udp(b, a)), EST_RPL);
    let class = hold(&w, &second, &udp(a, b)).expect("alive");
    assert_eq!(class.state(), EST);
    let tcp_only = w.send(&commit(), &tcp((A, 1), (B, 2), SYN, 1, 0));
    assert!(tcp_only.tracked.hold.is_none());
    assert!(w.send(&commit(), &tcp((A, 1), (B, 2), SYN, 1, 0)).tracked.hold.is_none());
}

/// One end has finished and the other goes on sending.
#[test]
fn half_closed_connections_are_held() {
    let w = World::new();
    let (a, b) = ((A, 1), (B, 80));
    w.send(&commit(), &tcp(a, b, SYN, 100, 0));
    w.send(&commit(), &tcp(b, a, SYN_ACK, 500, 101));
    w.send(&commit(), &tcp(a, b, ACK, 101, 501));
    w.send(&commit(), &tcp(a, b, FIN_ACK, 101, 501));
    let ack = w.send(&commit(), &tcp(b, a, ACK, 501, 102)).tracked;
    let data = tcp(b, a, PSH_ACK, 501, 102).payload(b"more");
    assert_eq!(hold(&w, &ack, &data), Some(ack.class));
    // Before the FIN is acknowledged the acknowledgement moves the state, and is looked up.
    w.send(&commit(), &tcp(b, a, FIN_ACK, 505, 102));
    let late = w.send(&commit(), &tcp(b, a, ACK, 506, 102)).tracked;
    assert!(hold(&w, &late, &tcp(b, a, ACK, 506, 102)).is_some());
    let last = w.send(&commit(), &tcp(a, b, ACK, 102, 505)).tracked;
    assert!(last.hold.is_some());
}

/// A sequence with its states as Debian's Open vSwitch gave them, packet by packet.
#[test]
fn windows_as_debians_switch_judged_them() {
    let w = World::new();
    let (a, b) = ((A, 7), (B, 80));
    // The builder announces the largest window; these ends announce 1000.
    let window = |builder: &FrameBuilder| w.send_frame(&commit(), with_window(builder, 1000)).state();
    let scale = [3, 3, 7, 0];
    let data = |seq, ack| tcp(a, b, PSH_ACK, seq, ack).payload(b"x");
    let steps = [
        ("syn", tcp(a, b, SYN, 100, 0).tcp_options(&scale), NEW),
        ("syn+ack", tcp(b, a, SYN_ACK, 500, 101).tcp_options(&scale), EST_RPL),
        ("ack", tcp(a, b, ACK, 101, 501), EST),
        ("beyond the window of the syn+ack, which is not scaled", data(100_101, 501), INV),
        ("far beyond it", data(400_101, 501), INV),
        ("keepalive", tcp(a, b, ACK, 100, 501), EST),
        ("old acknowledgement", tcp(a, b, ACK, 101, 450), EST),
        ("acknowledging what was not sent", tcp(a, b, ACK, 101, 70_501), INV),
        ("acknowledging much more", tcp(a, b, ACK, 101, 20_000_501), INV),
        ("syn within an established connection", tcp(a, b, SYN, 777_777_777, 0), INV),
        ("rst beside the mark", tcp(b, a, RST, 5000, 0), INV),
        ("rst", tcp(b, a, RST, 501, 0), EST_RPL),
    ];
    for (what, builder, expected) in steps {
        assert_eq!(window(&builder), expected, "{what}");
    }
}

/// What else was tried on Debian's Open vSwitch.
#[test]
fn odd_packets_as_debians_switch_judged_them() {
    let w = World::new();
    let (s, d) = (0x2001_0db8_u128 << 96 | 1, 0x2001_0db8_u128 << 96 | 2);
    let icmp6 = |src, dst, kind| {
        w.send_frame(&commit(), with_icmp_rest(FrameBuilder::icmp6(src, dst, kind, 0), 0x1_0001))
    };
    assert_eq!(icmp6(s, d, 128).state(), NEW);
    assert_eq!(icmp6(d, s, 129).state(), EST_RPL);
    for kind in [133, 135, 136, 137, 131] {
        assert_eq!(icmp6(s, d, kind).state(), INV, "{kind}");
    }
    assert_eq!(
        w.state(&commit(), &FrameBuilder::ipv4(A, B, 2).payload(&[0x16, 0, 0, 0, 0xe0, 0, 0, 1])),
        NEW
    );
    let without_checksum = |len: u8, payload: &[u8]| {
        let header = [0, 1, 0, len, 0, len, 0, 0];
        let udp = FrameBuilder::ipv4(A, B, 17).payload(b"").build();
        let mut bytes = udp[..34].to_vec();
        bytes.extend(header);
        bytes.extend(payload);
        let mut frame = Frame::from_bytes(&bytes);
        frame.bytes_mut()[16..18].copy_from_slice(&((28 + payload.len()) as u16).to_be_bytes());
        PacketKey::extract(&mut frame).unwrap();
        assert!(packet::rewrite::refresh_ipv4_checksum(&mut frame));
        w.send_frame(&commit(), Frame::from_bytes(frame.bytes())).state()
    };
    assert_eq!(without_checksum(7, b"abc"), INV, "shorter than its header");
    assert_eq!(without_checksum(12, b"abc"), INV, "longer than the packet");
    assert_eq!(without_checksum(11, b"abc"), NEW);
    assert_eq!(without_checksum(10, b"abc"), NEW);
    // From an end to itself, by the same port: no reply can be told from the original.
    for _ in 0..3 {
        assert_eq!(w.state(&commit(), &udp((A, 5), (A, 5))), NEW);
    }
}

/// A segment whose window field is `window`.
fn with_window(builder: &FrameBuilder, window: u16) -> Frame {
    let mut frame = Frame::from_bytes(&builder.build());
    PacketKey::extract(&mut frame).unwrap();
    let at = frame.layers.l4 as usize + 14;
    frame.bytes_mut()[at..at + 2].copy_from_slice(&window.to_be_bytes());
    assert!(frame.refresh_transport_checksum());
    Frame::from_bytes(frame.bytes())
}

/// The window of a SYN is not scaled, those that follow are: a repeated segment may lie one of them back, and no more.
#[test]
fn repeated_segments_lie_within_the_largest_window() {
    let w = World::new();
    let (a, b) = ((A, 1), (B, 80));
    let scale = [3, 3, 7, 0];
    let send = |builder: &FrameBuilder, window| w.send_frame(&commit(), with_window(builder, window)).state();
    send(&tcp(a, b, SYN, 100, 0).tcp_options(&scale), 65_535);
    send(&tcp(b, a, SYN_ACK, 500, 101).tcp_options(&scale), 65_535);
    let bulk = vec![0; 50_000];
    let mut seq = 501;
    for _ in 0..6 {
        assert_eq!(send(&tcp(a, b, ACK, 101, seq), 1000), EST);
        assert_eq!(send(&tcp(b, a, PSH_ACK, seq, 101).payload(&bulk), 1000), EST_RPL);
        seq += 50_000;
    }
    let again = |back| send(&tcp(b, a, PSH_ACK, seq - back, 101).payload(b"x"), 1000);
    assert_eq!(again(127_000), EST_RPL);
    assert_eq!(again(129_000), INV);
}

/// Only one end offers to scale: the window that it announced counts as it stands.
#[test]
fn an_offer_to_scale_that_is_not_taken() {
    let w = World::new();
    let (a, b) = ((A, 1), (B, 80));
    w.send(&commit(), &tcp(a, b, SYN, 100, 0).tcp_options(&[3, 3, 7, 0]));
    assert_eq!(w.state(&commit(), &tcp(b, a, SYN_ACK, 500, 101)), EST_RPL);
    let early = tcp(b, a, PSH_ACK, 501, 101).payload(&[0; 1000]);
    assert_eq!(w.state(&commit(), &early), EST_RPL);
    assert_eq!(w.state(&commit(), &early), EST_RPL, "repeated");
}
