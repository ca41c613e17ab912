//! How much is held, and who loses what when it is too much.

use std::time::Duration;

use base::Instant;
use datapath::Drop;
use datapath::fragments::limits::DATAGRAM_FRAGMENTS_MAX;
use datapath::fragments::{Context, FragmentBudget, FragmentLimits, Offered};
use packet::{DpPort, FrameBuilder};

use crate::bench::*;

fn flood(bench: &mut Bench, port: u32, count: u16) {
    let first = cut(&udp(1_500, 0), 1_400).swap_remove(0);
    for id in 0..count {
        let mut bytes = first.clone();
        bytes[18..20].copy_from_slice(&id.to_be_bytes());
        // Forged sources, so that no share of a source helps.
        bytes[26..28].copy_from_slice(&id.to_be_bytes());
        let context = Context { ingress: DpPort(port), ..PLACE };
        assert!(matches!(bench.offer_at(&placed(bytes, 0, true), context), Offered::Held));
    }
}

/// A pod that sends first fragments only takes from its own share.
#[test]
fn a_port_that_floods_loses_its_own_fragments_alone() {
    let mut bench = Bench::lenient();
    let mine = cut(&udp(4_000, 7), 1_400);
    bench.held(&mine[0]);
    bench.held(&mine[1]);
    flood(&mut bench, 2, 10_000);
    let share = bench.table.limits().port.fragments;
    assert_eq!(bench.table.stats().fragments, share + 2);
    assert!(bench.gone.iter().all(|(_, port, why)| (*port, *why) == (DpPort(2), Drop::FragmentLimit)));
    assert_eq!(bench.gone.len(), 10_000 - share);
    bench.whole(&mine[2]);
}

/// Even if so many ports flood that everything is used up: those who hold little keep it.
#[test]
fn when_all_is_used_up_the_fullest_port_gives_way() {
    let mut bench = Bench::lenient();
    let mine = cut(&udp(4_000, 7), 1_400);
    bench.held(&mine[0]);
    for port in 2..20 {
        flood(&mut bench, port, 300);
    }
    bench.held(&mine[1]);
    assert!(bench.gone.iter().all(|(_, port, _)| *port != DpPort(1)));
    assert_eq!(bench.table.stats().fragments, bench.table.limits().total.fragments);
    bench.whole(&mine[2]);
}

/// On a port that many hosts share, one of them is bounded too.
#[test]
fn a_source_that_floods_loses_its_own_fragments_alone() {
    let mut bench = Bench::lenient();
    let other = FrameBuilder::udp4((0x0a00_0099, 1), (B, 2)).payload(&payload(2_000)).build();
    let other = cut(&other, 1_400);
    bench.held(&other[0]);
    for id in 0..1_000 {
        bench.held(&cut(&udp(2_000, id), 1_400)[0]);
    }
    assert_eq!(bench.table.stats().fragments, bench.table.limits().source.fragments + 1);
    bench.whole(&other[1]);
}

#[test]
fn a_datagram_has_so_many_fragments_and_no_more() {
    let mut bench = Bench::lenient();
    bench.table.configure(FragmentLimits { per_datagram: 10, ..*bench.table.limits() });
    for i in 1..=10 {
        bench.held(&piece(7, i * 8, 8, true, 1));
    }
    assert_eq!(bench.dropped(&piece(7, 8 * 11, 8, true, 1)), Drop::FragmentLimit);
    assert_eq!(bench.reasons(), [Drop::FragmentLimit; 10]);
    assert_eq!(bench.dropped(&piece(7, 0, 8, true, 1)), Drop::FragmentLimit);
    // A datagram that is too great for the share of its source by itself.
    let mut bench = Bench::lenient();
    let source = FragmentBudget { bytes: 4_000, ..FragmentBudget::of(100) };
    bench.table.configure(FragmentLimits { source, ..*bench.table.limits() });
    bench.held(&piece(7, 0, 1_000, true, 0x11));
    bench.held(&piece(7, 1_000, 1_000, true, 0x11));
    assert_eq!(bench.dropped(&piece(7, 2_000, 1_000, true, 0x11)), Drop::FragmentLimit);
    assert_eq!(bench.reasons(), [Drop::FragmentLimit; 2]);
    const { assert!(DATAGRAM_FRAGMENTS_MAX * (400 - 20 - 4) >= 65_515) };
}

/// If nobody comes for what is given up, memory is bounded all the same.
#[test]
fn what_is_given_up_is_bounded_too() {
    let mut bench = Bench::lenient();
    let limits = FragmentLimits { min_v4: 0, ..FragmentLimits::of(50) };
    bench.table.configure(limits);
    let (mut dropped, mut held) = (0, 0);
    for id in 0..1_000u16 {
        let (frame, key) = extracted(&cut(&udp(2_000, id), 1_400)[0]);
        match bench.table.offer(frame, &key, PLACE, &mut bench.pool, bench.now) {
            Offered::Held => held += 1,
            Offered::Dropped(_, Drop::FragmentLimit) => dropped += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((held, dropped), (150, 850));
    assert_eq!(bench.table.next_expiry(), Some(Instant::ZERO));
    bench.pass(Duration::ZERO);
    assert_eq!(bench.reasons().len(), 100);
    bench.held(&cut(&udp(2_000, 5_000), 1_400)[0]);
}

#[test]
fn lower_limits_take_effect_at_once() {
    let mut bench = Bench::lenient();
    flood(&mut bench, 2, 200);
    bench.table.configure(FragmentLimits::of(20));
    assert_eq!(bench.table.stats().fragments, 20);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.reasons(), vec![Drop::FragmentLimit; 180]);
}

#[test]
fn what_is_held_can_be_listed() {
    let mut bench = Bench::lenient();
    bench.held(&cut(&udp(4_000, 80), 1_400)[2]);
    bench.held(&cut(&udp(4_000, 80), 1_400)[1]);
    bench.held(&cut(&udp6(4_000), 1_400)[0]);
    let lines: Vec<String> = bench
        .table
        .datagrams()
        .map(|d| {
            let (first, last) = (d.has_first, d.has_last);
            format!("{} {} {} {} {} {first} {last}", d.src, d.dst, d.identification, d.protocol, d.fragments)
        })
        .collect();
    assert_eq!(lines, ["fd00::1 fd00::2 305419896 0 1 true false", "10.0.0.1 10.0.0.2 80 17 2 false true"]);
}
