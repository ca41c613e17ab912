//! What is held goes from one worker's table to another's with the side that it came by.

use std::time::Duration;

use datapath::Drop;
use datapath::fragments::{Context, FragmentBudget, FragmentLimits, Side};
use packet::DpPort;

use crate::bench::*;

const SIDE: Side = Side { port: DpPort(1), number: 0 };
const OTHER: Side = Side { port: DpPort(1), number: 1 };

fn from(side: Side) -> Bench {
    let mut bench = Bench::lenient();
    bench.table.receive_from(Some(side));
    bench
}

#[test]
fn a_datagram_becomes_whole_where_its_side_went() {
    let [first, second] = [udp(4_000, 7), udp(4_000, 8)];
    let (came, stays) = (cut(&first, 1_400), cut(&second, 1_400));
    let (mut here, mut there) = (from(SIDE), Bench::lenient());
    here.held(&came[2]);
    here.held(&came[0]);
    here.table.receive_from(Some(OTHER));
    here.held(&stays[0]);
    let moved = here.table.release(SIDE);
    assert!(!moved.is_empty());
    assert_eq!((here.table.stats().datagrams, here.table.stats().fragments), (1, 1));
    there.table.adopt(moved);
    assert_eq!((there.table.stats().datagrams, there.table.stats().fragments), (1, 2));
    assert_eq!(fragments_of(there.whole(&came[1])), came);
    assert_eq!(there.table.stats().bytes, 0);
    // Nothing more comes by that side, and what came by the other one is still waited for.
    assert!(here.table.release(SIDE).is_empty());
    here.held(&stays[1]);
    assert_eq!(fragments_of(here.whole(&stays[2])), stays);
    assert_eq!((here.table.stats().bytes, here.reasons(), there.reasons()), (0, vec![], vec![]));
    // What came by no side belongs to none.
    here.table.receive_from(None);
    here.held(&came[0]);
    assert!(here.table.release(SIDE).is_empty() && here.table.release(OTHER).is_empty());
}

#[test]
fn what_was_refused_stays_refused_and_what_nobody_completes_times_out() {
    let (mut here, mut there) = (from(SIDE), Bench::lenient());
    here.held(&piece(1, 0, 64, true, 1));
    assert_eq!(here.dropped(&piece(1, 32, 64, true, 2)), Drop::FragmentOverlap);
    here.reasons();
    here.held(&piece(2, 0, 64, true, 1));
    there.pass(Duration::from_secs(5));
    there.held(&piece(3, 0, 64, true, 1));
    there.table.adopt(here.table.release(SIDE));
    assert_eq!(there.dropped(&piece(1, 64, 64, false, 1)), Drop::FragmentOverlap);
    // Ages are by arrival, so the time-out is at most one longer; both go then.
    there.pass(there.table.limits().timeout);
    assert_eq!(there.reasons(), [Drop::FragmentTimeout; 2]);
    assert_eq!((there.table.stats().datagrams, there.table.stats().bytes), (0, 0));
}

#[test]
fn limits_hold_for_what_comes_from_another_worker() {
    let all = FragmentLimits { min_v4: 0, ..FragmentLimits::default() };
    let two = FragmentBudget { fragments: 2, ..all.total };
    let mut here = from(SIDE);
    for id in 0..4 {
        here.held(&piece(id, 0, 64, true, 1));
    }
    let mut there = Bench::new(FragmentLimits { total: two, port: two, source: two, ..all });
    there.table.adopt(here.table.release(SIDE));
    there.pass(Duration::ZERO);
    assert_eq!((there.table.stats().fragments, there.reasons()), (2, vec![Drop::FragmentLimit; 2]));
    // The oldest ones have gone.
    assert!(matches!(there.offer(&piece(3, 64, 64, false, 1)), datapath::fragments::Offered::Whole(_)));
    there.held(&piece(0, 64, 64, false, 1));
}

/// Its flow may have gone to another side before: what came here stays, and every fragment ends in one way.
#[test]
fn a_datagram_that_is_here_too_is_not_mixed_up() {
    let (mut here, mut there) = (from(SIDE), Bench::lenient());
    here.held(&piece(1, 0, 64, true, 1));
    there.held(&piece(1, 64, 64, true, 1));
    let elsewhere = Context { zone: 9, ..PLACE };
    assert!(matches!(
        here.offer_at(&piece(1, 0, 64, true, 1), elsewhere),
        datapath::fragments::Offered::Held
    ));
    there.table.adopt(here.table.release(SIDE));
    there.pass(Duration::ZERO);
    assert_eq!((there.table.stats().datagrams, there.reasons()), (2, vec![Drop::FragmentTimeout]));
}
