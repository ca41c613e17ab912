//! Limits and who pays for them; ports until the last one; many threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use base::{HashSeed, Instant};
use conntrack_support::*;
use datapath::Drop;
use datapath::conntrack::*;
use packet::{DpPort, Frame, PacketKey, slot};
use std::collections::HashSet;
use std::time::Duration;

fn config(connections_max: u32, embryonic_port_max: u32) -> CtConfig {
    CtConfig { connections_max, embryonic_port_max, ..CtConfig::default() }
}

/// An established connection of client `n`.
fn establish(w: &World, n: u32) {
    let (a, b) = ((A + (n << 8), 1000), (B, 80));
    w.send(&commit(), &tcp(a, b, SYN, 100, 0));
    w.send(&commit(), &tcp(b, a, SYN_ACK, 500, 101));
    w.send(&commit(), &tcp(a, b, ACK, 101, 501));
}

fn is_established(w: &World, n: u32) -> bool {
    let (a, b) = ((A + (n << 8), 1000), (B, 80));
    w.state(&CtSpec::default(), &tcp(a, b, ACK, 101, 501)) == EST
}

/// A pod floods; another opens connections and has its answers; whoever was established stays so.
#[test]
fn a_flood_from_one_port_costs_the_others_nothing() {
    let mut w = World::with(config(1000, 400));
    w.port = DpPort(1);
    (0..300).for_each(|n| establish(&w, n));
    w.port = DpPort(2);
    for n in 0..20_000u32 {
        w.send(&commit(), &tcp((0x0b00_0000 + n, 1), (B, 80), SYN, 1, 0));
        assert!(w.ct.connections() <= 1000);
    }
    assert_eq!(w.ct.connections(), 700, "its share is full, and no more");
    // New ones of the first port, with time for the flood between the packets.
    w.port = DpPort(1);
    for n in 300..500 {
        let (a, b) = ((A + (n << 8), 1000), (B, 80));
        w.send(&commit(), &tcp(a, b, SYN, 100, 0));
        w.port = DpPort(2);
        for m in 0..50 {
            w.send(&commit(), &tcp((0x0c00_0000 + n * 50 + m, 1), (B, 80), SYN, 1, 0));
        }
        w.port = DpPort(1);
        assert_eq!(w.state(&commit(), &tcp(b, a, SYN_ACK, 500, 101)), EST_RPL, "{n}");
        w.send(&commit(), &tcp(a, b, ACK, 101, 501));
    }
    assert!((0..500).all(|n| is_established(&w, n)));
    assert_eq!(w.ct.stats().full, 0);
}

/// When the table is nearly full, whoever has most unanswered connections makes room, not whoever has few.
#[test]
fn a_nearly_full_table_is_cleared_where_most_is_unanswered() {
    let mut w = World::with(config(1000, 1000));
    w.port = DpPort(2);
    for n in 0..3000 {
        w.send(&commit(), &udp((0x0b00_0000 + n, 1), (B, 80)));
    }
    let full = w.ct.connections();
    assert!((900..1000).contains(&full), "{full}");
    // Those of another port are all answered in the end, though the flood goes on between question and answer.
    for n in 0..400 {
        let (a, b) = ((A + (n << 8), 1000), (B, 53));
        w.port = DpPort(1);
        w.send(&commit(), &udp(a, b));
        w.port = DpPort(2);
        (0..20).for_each(|m| {
            w.send(&commit(), &udp((0x0c00_0000 + n * 20 + m, 1), (B, 80)));
        });
        w.port = DpPort(1);
        assert_eq!(w.state(&commit(), &udp(b, a)), EST_RPL, "{n}");
    }
    assert_eq!(w.ct.stats().full, 0);
    assert!(w.ct.connections() < 1000);
}

/// With the table full of established connections new ones are refused, and nobody loses one.
#[test]
fn established_connections_never_give_way() {
    let w = World::with(config(100, 100));
    (0..100).for_each(|n| establish(&w, n));
    for n in 100..200 {
        establish(&w, n);
    }
    assert!((0..100).all(|n| is_established(&w, n)));
    assert_eq!(w.ct.connections(), 100);
    assert!(w.ct.stats().full >= 100);
    let out = w.send(&snat(N), &udp((A, 9), (B, 9)));
    assert_eq!(out.tracked.drop, Some(Drop::CtFull));
}

#[test]
fn a_zone_has_its_own_limit() {
    let mut limits = CtConfig { zone_limit_default: 5, ..CtConfig::default() };
    limits.zone_limits.insert(Zone(3), 2);
    limits.zone_limits.insert(Zone(4), 0);
    let w = World::with(limits);
    let in_zone = |zone, client| {
        let spec = CtSpec { zone: Zone(zone), ..commit() };
        let (a, b) = ((A + client, 1), (B, 2));
        w.send(&spec, &udp(a, b));
        w.state(&spec, &udp(b, a)) == EST_RPL
    };
    assert_eq!((0..20).filter(|c| in_zone(1, *c)).count(), 5);
    assert_eq!((0..20).filter(|c| in_zone(3, *c)).count(), 2);
    assert_eq!((0..20).filter(|c| in_zone(4, *c)).count(), 20);
    assert_eq!(w.ct.zone_connections(Zone(3)), 2);
    // Unanswered ones of another zone do not help.
    w.send(&CtSpec { zone: Zone(4), ..commit() }, &udp((A + 99, 1), (B, 2)));
    let others = w.ct.zone_connections(Zone(4));
    let full = w.ct.stats().full;
    in_zone(3, 30);
    assert_eq!((w.ct.zone_connections(Zone(4)), w.ct.zone_connections(Zone(3))), (others, 2));
    assert!(w.ct.stats().full > full);
    // Unanswered ones of the zone give way to new ones of the same port, not to those of another.
    w.ct.flush(Some(Zone(3)), None);
    let mut w = w;
    let spec = CtSpec { zone: Zone(3), ..commit() };
    for client in 0..10 {
        w.send(&spec, &udp((A + client, 1), (B, 2)));
    }
    assert_eq!(w.ct.zone_connections(Zone(3)), 2);
    assert_eq!(w.state(&spec, &udp((B, 2), (A + 9, 1))), EST_RPL, "the newest is there");
    w.port = DpPort(7);
    let full = w.ct.stats().full;
    w.send(&spec, &udp((A + 50, 1), (B, 2)));
    assert_eq!(w.ct.stats().full, full + 1);
    assert_eq!(w.ct.zone_connections(Zone(3)), 2);
}

#[test]
fn a_lower_limit_ends_nothing() {
    let w = World::new();
    (0..50).for_each(|n| establish(&w, n));
    w.ct.configure(config(10, 10));
    establish(&w, 60);
    assert_eq!(w.ct.connections(), 50);
    assert!((0..50).all(|n| is_established(&w, n)));
}

/// Translation fills a range to the last port: every connection gets one until none is left, and none costs more than a
/// bounded number of tries.
#[test]
fn a_port_range_fills_to_the_last() {
    let w = World::new();
    let (first, last) = (33_000u16, 49_383u16);
    let spec = nat(NatKind::Src, (N, N), Some((first, last)));
    let mut seen = HashSet::new();
    for n in 0..u32::from(last - first) + 1 {
        let out = w.send(&spec, &udp((0x0b00_0000 + n, 40_000), (B, 53)));
        assert_eq!(out.tracked.drop, None, "after {n}");
        let ((_, port), _) = out.ends();
        assert!((first..=last).contains(&port) && seen.insert(port));
    }
    let over = |n: u32| w.send(&spec, &udp((0x0c00_0000 + n, 40_000), (B, 53))).tracked.drop;
    assert!((0..20).all(|n| over(n) == Some(Drop::NatExhausted)));
    // Given back in any order, found again at once.
    for n in [0u32, 9_000, 16_383] {
        let address = (0x0b00_0000 + n).to_be_bytes();
        let filter = TupleFilter { src: Some(address.into()), ..TupleFilter::default() };
        assert_eq!(w.ct.flush(None, Some(&filter)), 1);
        assert_eq!(over(100 + n), None);
        assert_eq!(over(200), Some(Drop::NatExhausted));
    }
}

/// Ports that were kept, and so taken past the map of their destination, are found taken once, and found free again.
#[test]
fn ports_taken_before_there_was_a_map() {
    let w = World::new();
    let (first, last) = (20_000u16, 20_999u16);
    let spec = nat(NatKind::Src, (N, N), Some((first, last)));
    let ask = |n: u32, port| w.send(&spec, &udp((0x0b00_0000 + n, port), (B, 53))).tracked.drop;
    for port in first..=last {
        assert_eq!(ask(u32::from(port), port), None);
    }
    for n in 0..20 {
        assert_eq!(ask(n, 5), Some(Drop::NatExhausted));
    }
    for round in 0..50u32 {
        let gone = u32::from(first) + round * 17;
        let src = Some((0x0b00_0000 + gone).to_be_bytes().into());
        assert_eq!(w.ct.flush(None, Some(&TupleFilter { src, ..TupleFilter::default() })), 1);
        assert_eq!(ask(100_000 + round, 5), None, "after {round}");
        assert_eq!(ask(200_000, 5), Some(Drop::NatExhausted));
    }
}

/// Connections that come and go on several threads: counts agree afterwards, and no tuple was given twice.
#[test]
fn threads_share_a_tracker() {
    let ct = ConnTracker::new(HashSeed::new(5, 6), config(100_000, 100_000));
    let spec = nat(NatKind::Src, (N, N + 1), Some((2000, 4000)));
    let now = Instant::from_secs(1000);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (ct, spec) = (&ct, &spec);
            scope.spawn(move || {
                let pass = |spec: &CtSpec, builder: packet::FrameBuilder, now| {
                    let mut frame = Frame::from_bytes(&builder.build());
                    let mut key = PacketKey::extract(&mut frame).unwrap();
                    let tracked = ct.track(&mut frame, &mut key, spec, DpPort(thread % 2), now);
                    (tracked, key)
                };
                for n in 0..2000u32 {
                    // Half of the clients are shared by all threads.
                    let client = if n % 2 == 0 { A + n } else { A + n + (thread << 16) };
                    let now = now + Duration::from_millis(u64::from(n));
                    let (tracked, key) = pass(spec, udp((client, 2500), (B, 53)), now);
                    if tracked.drop.is_none() {
                        let source = (key.get(slot::NW_SRC) as u32, key.get(slot::TP_SRC) as u16);
                        let (back, key) = pass(&bare_nat(), udp((B, 53), source), now);
                        if back.state.has(CtState::RPL) && n % 2 != 0 {
                            assert_eq!(key.get(slot::NW_DST) as u32, client);
                        }
                    }
                    if n % 16 == 0 {
                        let port = Some(2500);
                        let src = Some((A + n).to_be_bytes().into());
                        ct.flush(None, Some(&TupleFilter { src, src_port: port, ..TupleFilter::default() }));
                        ct.expire(now);
                    }
                }
            });
        }
    });
    let mut tuples = HashSet::new();
    let (mut count, mut cursor) = (0, Some(DumpCursor::default()));
    while let Some(from) = cursor {
        let (part, next) = ct.dump(None, from, now + Duration::from_secs(2));
        for connection in part {
            count += 1;
            assert!(tuples.insert(connection.original) && tuples.insert(connection.reply));
        }
        cursor = next;
    }
    assert_eq!(count, ct.connections());
    assert!(count > 1000);
    assert_eq!(ct.flush(None, None), count as usize);
    assert_eq!((ct.connections(), ct.stats().zones.len()), (0, 0));
}
