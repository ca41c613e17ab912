//! What bounds a worker: room of the cache, budget of flow set-up, idle time. And that nothing counted is lost to them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use datapath::cache::{CACHE_EVICT_IDLE, CACHE_FLOWS_DEFAULT, CACHE_IDLE_MAX};
use datapath::{
    CacheLimits, Command, Credit, Domain, DpAction, Drop, DumpCursor, MissLimits, RxQueue, SlowPath,
    WorkerConfig,
};
use packet::{DpPort, slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use world::*;

/// Everything goes to `port`, one flow for each 5-tuple; all flows credit `tally`.
fn everything_to(port: u32, tally: &Arc<Tally>) -> Fake {
    let tally = tally.clone();
    Fake::new(&[slot::NW_SRC, slot::NW_DST, slot::TP_SRC, slot::TP_DST], move |_| Answer {
        credits: vec![tally.clone() as Arc<dyn Credit>],
        ..Answer::new(vec![output(port)])
    })
}

fn numbered(n: u32) -> Vec<u8> {
    let [a, b, c, d] = n.to_be_bytes();
    Udp { src: [a, b, c, d], dst: [d, c, b, a], ..Udp::default() }.bytes()
}

fn small_cache(flows: u32, flows_per_port: u32) -> WorkerConfig {
    let cache = CacheLimits { flows, flows_per_port, ..CacheLimits::default() };
    let misses = MissLimits { rate: 1_000_000, burst: 1_000_000 };
    WorkerConfig { cache, misses, ..WorkerConfig::default() }
}

fn flows_of(w: &mut World, port: u32) -> usize {
    let (mut n, mut from) = (0, Some(DumpCursor::default()));
    while let Some(cursor) = from {
        let part = w.ask(|reply| Command::DumpFlows { from: cursor, reply });
        n += part.flows.iter().filter(|f| f.key.in_port() == DpPort(port)).count();
        from = part.next;
    }
    n
}

#[test]
fn a_flooding_port_keeps_to_its_share_and_evicts_only_its_own() {
    let tally = Arc::new(Tally::default());
    let mut w = World::with_config(everything_to(3, &tally), 3, small_cache(400, 150));
    for n in 0..60 {
        w.send(2, &numbered(n));
    }
    let before = w.counts();
    for n in 0..5_000 {
        w.send(1, &numbered(n));
        w.now += Duration::from_micros(10);
    }
    assert_eq!(flows_of(&mut w, 1), 150);
    assert_eq!(flows_of(&mut w, 2), 60);
    assert_eq!(w.worker.stats().cache.evicted.get(), 5_000 - 150);
    assert_eq!(w.worker.stats().cache.flows.get(), 210);
    for n in 0..60 {
        w.send(2, &numbered(n));
    }
    assert_eq!(w.counts().hits, before.hits + 60, "the other port's flows are all still there");
    assert_eq!(w.sink(3).count(), 5_120, "nobody lost a frame");
    w.command(Command::Fold { done: None });
    assert_eq!((tally.packets(), tally.bytes()), (5_120, 5_120 * 60));
    w.check_conservation();
}

/// A port may use what others leave, but what is guaranteed to the others is there when they come.
#[test]
fn the_guaranteed_part_is_there_for_late_comers() {
    let tally = Arc::new(Tally::default());
    // Four ports and the portless share: half of 1,000 divided by five is 100 guaranteed to each.
    let mut w = World::with_config(everything_to(4, &tally), 4, small_cache(1_000, 10_000));
    for n in 0..3_000 {
        w.send(1, &numbered(n));
    }
    assert_eq!(flows_of(&mut w, 1), 600);
    for port in [2, 3] {
        for n in 0..300 {
            w.send(port, &numbered(n));
        }
        assert_eq!(flows_of(&mut w, port), 100);
    }
    assert_eq!(flows_of(&mut w, 1), 600);
}

#[test]
fn flows_in_use_are_not_evicted_and_new_ones_go_uncached() {
    let tally = Arc::new(Tally::default());
    let mut w = World::with_config(everything_to(2, &tally), 2, small_cache(1_000, 20));
    for round in 0..3 {
        for n in 0..20 {
            w.send(1, &numbered(n));
        }
        w.now += Duration::from_millis(100 * round);
    }
    for n in 100..200 {
        w.send(1, &numbered(n));
    }
    assert_eq!(w.counts().uncached, 100);
    assert_eq!(w.worker.stats().cache.evicted.get(), 0);
    w.now += CACHE_EVICT_IDLE;
    w.send(1, &numbered(100));
    assert_eq!((w.counts().uncached, w.worker.stats().cache.evicted.get()), (100, 1));
    assert_eq!(w.sink(2).count(), 161);
    w.command(Command::Fold { done: None });
    assert_eq!(tally.packets(), 161);
}

#[test]
fn a_cache_without_room_forwards_all_the_same() {
    let tally = Arc::new(Tally::default());
    let mut w = World::with_config(everything_to(2, &tally), 2, small_cache(0, 0));
    for _ in 0..10 {
        w.send(1, &numbered(1));
    }
    assert_eq!((w.counts().uncached, w.counts().misses, w.sink(2).count()), (10, 10, 10));
    assert_eq!((tally.packets(), tally.bytes()), (10, 600));
    assert_eq!(w.worker.stats().cache.flows.get(), 0);
}

/// The upcall storm: port 1 sends nothing but new flows as fast as it is read, ports 2 and 3 talk to each other, and
/// port 1 has one flow from before.
#[test]
fn a_flood_of_new_flows_costs_nobody_else_a_frame() {
    let fake = Fake::new(&[slot::NW_SRC, slot::NW_DST, slot::TP_SRC, slot::TP_DST], |key| {
        Answer::new(vec![output(match key.in_port().0 {
            1 => 4,
            2 => 3,
            _ => 2,
        })])
    });
    let mut config = small_cache(CACHE_FLOWS_DEFAULT, 32_768);
    config.misses = MissLimits { rate: 1_000, burst: 100 };
    let mut w = World::with_config(fake, 4, config);
    let old = Udp { sport: 7, ..Udp::default() }.bytes();
    w.send(1, &old);
    let steps = 5_000u32;
    for n in 0..steps {
        // One batch is 32: 31 new flows and one frame of the old one.
        (0..31).for_each(|i| w.wire(1).push(&numbered(0x0b00_0000 + n * 31 + i)));
        w.wire(1).push(&old);
        // Ports 2 and 3 start new flows all the time, within their own budget.
        w.wire(2).push(&numbered(n / 2));
        w.wire(3).push(&numbered(n / 2));
        w.settle();
        w.now += Duration::from_millis(1);
    }
    assert_eq!((w.sink(2).count(), w.sink(3).count()), (steps as usize, steps as usize));
    let old_frames = w.sink(4).take().into_iter().filter(|f| *f == old).count();
    assert_eq!(old_frames, steps as usize + 1, "established traffic of the flooding port passes too");
    let dropped = w.drops(1, Drop::MissCredit);
    let granted = u64::from(steps) * 31 - dropped;
    // Five seconds at 1,000 a second and the burst.
    assert!((5_000..=5_150).contains(&granted), "{granted}");
    assert_eq!(w.drops(2, Drop::MissCredit) + w.drops(3, Drop::MissCredit), 0);
    w.check_conservation();
}

/// Ports 1 and 2 send to each other, and so do 3 and 4.
fn pairs() -> World {
    let fake = Fake::new(&[], |key| Answer::new(vec![output(((key.in_port().0 - 1) ^ 1) + 1)]));
    World::new(fake, 4)
}

/// A frame of a port that says little waits neither for a whole batch of one that says much to be received nor for it to be sent.
#[test]
fn quiet_ports_go_before_busy_ones_whose_batches_are_short_meanwhile() {
    let mut w = pairs();
    let step = |w: &mut World| {
        let before = w.sink(2).count();
        let _ = w.step();
        w.sink(2).count() - before
    };
    (0..5_000).for_each(|n| w.wire(1).push(&numbered(n)));
    assert_eq!((step(&mut w), step(&mut w)), (32, 32));
    // Whichever would be first by turn.
    for n in 0..4 {
        let (sink, left) = (w.sink(4).clone(), Arc::new(AtomicUsize::new(0)));
        w.wire(1).on_receive({
            let left = left.clone();
            move || left.store(sink.count(), Relaxed)
        });
        w.wire(3).push(&numbered(n));
        assert_eq!(step(&mut w), 8);
        assert_eq!(left.load(Relaxed), n as usize + 1, "sent before the busy port was asked");
    }
    let short = (0..1_000).take_while(|_| step(&mut w) == 8).count();
    assert!((32..128).contains(&short), "{short} short batches after the last quiet frame");
    assert_eq!(step(&mut w), 32);
    w.settle();
    assert_eq!(w.sink(2).count(), 5_000);
    w.check_conservation();
}

/// Acknowledgements go to the busy port itself, which has more of full batches.
#[test]
fn answers_to_a_busy_port_do_not_shorten_its_batches() {
    let mut w = pairs();
    // One of two receiving sides of the port; the other has nothing.
    let queue = RxQueue::new(1, Box::new(Wire::default()));
    w.command(Command::AddRx { port: DpPort(1), queue, done: None });
    (0..320).for_each(|n| w.wire(1).push(&numbered(n)));
    for n in 1..=10 {
        w.wire(2).push(&numbered(n));
        let _ = w.step();
        assert_eq!((w.sink(2).count(), w.sink(1).count()), (32 * n as usize, n as usize));
    }
}

/// However many ports are quiet, a busy one has its turn in each round, and the other way round.
#[test]
fn nobody_is_left_out() {
    let mut w = pairs();
    // Otherwise who comes to the first of a flow owes that.
    (1..=4).for_each(|port| w.send(port, &numbered(0)));
    for n in 0..200 {
        (0..40).for_each(|i| w.wire(1).push(&numbered(n * 40 + i)));
        (0..40).for_each(|i| w.wire(4).push(&numbered(n * 40 + i)));
        (0..15).for_each(|i| w.wire(2).push(&numbered(i)));
        w.wire(3).push(&numbered(n));
        let counts = |w: &World| [1, 2, 3, 4].map(|port| w.sink(port).count());
        let before = counts(&w);
        let _ = w.step();
        let after = counts(&w);
        assert!(before.iter().zip(after).all(|(before, after)| after > *before), "{before:?} {after:?}");
    }
}

/// A changed configuration, even one with another profile, does not cost established flows their frames, however many
/// there are.
#[test]
fn a_change_of_configuration_needs_no_credit_for_established_flows() {
    let config = WorkerConfig { misses: MissLimits { rate: 1, burst: 500 }, ..WorkerConfig::default() };
    let tally = Arc::new(Tally::default());
    let mut w = World::with_config(everything_to(2, &tally), 2, config);
    (0..500).for_each(|n| w.send(1, &numbered(n)));
    w.publish(|fake| {
        fake.profile = w_profile();
        fake.translate = Box::new(|_| Answer::new(vec![output(2)]));
    });
    (0..500).for_each(|n| w.send(1, &numbered(n)));
    assert_eq!((w.drops(1, Drop::MissCredit), w.sink(2).count()), (0, 1_000));
    w.publish(|fake| fake.translate = Box::new(|_| Answer::new(vec![output(2)])));
    (0..500).for_each(|n| w.send(1, &numbered(n)));
    assert_eq!((w.drops(1, Drop::MissCredit), w.sink(2).count()), (0, 1_500));
    assert_eq!(w.counts().retranslated, 500);
    (500..600).for_each(|n| w.send(1, &numbered(n)));
    assert!(w.drops(1, Drop::MissCredit) >= 95, "new flows need credit as ever");
}

fn w_profile() -> datapath::Profile {
    profile(2, &[slot::NW_SRC, slot::NW_DST, slot::NW_TTL])
}

/// Whatever takes a flow out of the cache, each frame is credited once, to the rule that forwarded it.
#[test]
fn credits_are_given_exactly_once() {
    type Way = (&'static str, fn(&mut World));
    let ways: [Way; 9] = [
        ("fold", |w| w.command(Command::Fold { done: None })),
        ("flush", |w| w.command(Command::Flush { reply: None })),
        ("stop", |w| w.command(Command::Stop)),
        ("port removed", |w| w.command(Command::RemoveRx { port: DpPort(1), reply: None })),
        ("idle", |w| pass(w, Duration::from_secs(12))),
        ("sweep", |w| pass(w, Duration::from_secs(2))),
        ("profile replaced", |w| {
            // What the flows depended on has not changed; only nobody will look them up any more.
            w.publish(|fake| (fake.number, fake.profile) = (fake.number - 1, profile(9, &[slot::DL_DST])));
            w.learned.change(Domain(9));
            pass(w, Duration::from_secs(2));
            assert_eq!(w.worker.stats().cache.flows.get(), 0);
        }),
        ("rule removed", |w| {
            w.publish(|_| {});
            pass(w, Duration::from_secs(2));
            assert_eq!(w.worker.stats().cache.flows.get(), 0);
        }),
        ("gone", |w| {
            w.wire(1).fail(datapath::PortError::Gone);
            w.settle();
        }),
    ];
    for (name, way) in ways {
        let tally = Arc::new(Tally::default());
        let mut w = World::new(everything_to(2, &tally), 2);
        for n in 0..100 {
            (0..=n % 3).for_each(|_| w.send(1, &numbered(n)));
        }
        let sent = w.sink(2).count() as u64;
        way(&mut w);
        assert_eq!((tally.packets(), tally.bytes()), (sent, sent * 60), "{name}");
        w.command(Command::Fold { done: None });
        w.command(Command::Flush { reply: None });
        w.command(Command::Stop);
        assert_eq!(tally.packets(), sent, "{name}, and nothing twice");
        w.check_conservation();
    }
}

/// Lets time pass as a shell would: a step whenever one is due.
fn pass(w: &mut World, time: Duration) {
    let end = w.now + time;
    w.settle();
    while let Some(due) = w.worker.next_deadline().filter(|t| *t <= end) {
        assert!(due > w.now, "a deadline that is due again at once is a busy loop");
        w.now = due;
        w.settle();
    }
    w.now = end;
}

#[test]
fn frames_before_and_after_a_change_are_credited_to_different_rules() {
    let (old, new) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let mut w = World::new(everything_to(2, &old), 2);
    (0..3).for_each(|_| w.send(1, &numbered(1)));
    let credit = new.clone();
    w.publish(|fake| {
        fake.profile = profile(1, &[slot::NW_SRC, slot::NW_DST, slot::TP_SRC, slot::TP_DST]);
        fake.translate = Box::new(move |_| Answer {
            credits: vec![credit.clone() as Arc<dyn Credit>],
            ..Answer::new(vec![DpAction::Drop(Drop::Rule)])
        });
    });
    (0..5).for_each(|_| w.send(1, &numbered(1)));
    w.command(Command::Fold { done: None });
    assert_eq!((old.packets(), new.packets()), (3, 5));
    let flows = w.ask(|reply| Command::DumpFlows { from: DumpCursor::default(), reply }).flows;
    assert_eq!(flows.iter().map(|f| f.packets).collect::<Vec<_>>(), [8], "the flow's own count goes on");
}

#[test]
fn an_idle_worker_ends_with_an_empty_cache_and_nothing_to_wait_for() {
    let tally = Arc::new(Tally::default());
    let mut w = World::new(everything_to(2, &tally), 2);
    (0..4_000).for_each(|n| w.send(1, &numbered(n)));
    let mut steps = w.worker.stats().steps.get();
    pass(&mut w, Duration::from_secs(9));
    assert_eq!(w.worker.stats().cache.flows.get(), 4_000);
    assert_eq!(tally.packets(), 4_000, "credited while they live");
    pass(&mut w, Duration::from_secs(5));
    assert_eq!((w.worker.stats().cache.flows.get(), w.worker.stats().cache.expired.get()), (0, 4_000));
    assert_eq!(w.worker.next_deadline(), None);
    steps = w.worker.stats().steps.get() - steps;
    assert!(steps < 200, "{steps} steps in 14 seconds of silence");
}

/// Flows that stay in use outlive the idle time.
#[test]
fn flows_in_use_do_not_expire() {
    let tally = Arc::new(Tally::default());
    let mut w = World::new(everything_to(2, &tally), 2);
    for _ in 0..60 {
        w.send(1, &numbered(1));
        pass(&mut w, Duration::from_secs(1));
    }
    assert_eq!((w.counts().misses, w.counts().hits), (1, 59));
}

#[test]
fn revisions_older_than_a_sweep_are_restamped_by_it() {
    let tally = Arc::new(Tally::default());
    let mut w = World::new(everything_to(2, &tally), 2);
    w.send(1, &numbered(1));
    w.learned.change(Domain(5));
    pass(&mut w, Duration::from_secs(2));
    w.send(1, &numbered(1));
    assert_eq!((w.counts().hits, w.counts().revalidated, w.counts().retranslated), (1, 0, 0));
}

/// Times are kept in 32 bits of milliseconds: a flow whose last frame came just as long ago as those last is not a new one.
#[test]
fn a_flow_that_slept_through_an_era_is_idle() {
    let era = Duration::from_millis(1 << 32);
    let times = [Duration::from_secs(10), Duration::from_secs(20 * 86_400), CACHE_IDLE_MAX, era * 3];
    for idle in times {
        let tally = Arc::new(Tally::default());
        let cache = CacheLimits { idle, ..CacheLimits::default() };
        let config = WorkerConfig { cache, ..WorkerConfig::default() };
        let mut w = World::with_config(everything_to(2, &tally), 2, config);
        w.send(1, &numbered(1));
        let sent = w.now;
        w.now = w.now + era + Duration::from_millis(3);
        // Nothing has been swept meanwhile.
        let flows = w.ask(|reply| Command::DumpFlows { from: DumpCursor::default(), reply }).flows;
        assert!(flows.iter().all(|flow| flow.last_seen == sent || w.now - flow.last_seen >= era / 2));
        pass(&mut w, Duration::from_secs(3));
        assert_eq!(w.worker.stats().cache.flows.get(), 0);
    }
}

/// Two changes that are 2³² apart, with all that lies between, do not look like none.
#[test]
fn stamps_of_another_era_are_none() {
    let tally = Arc::new(Tally::default());
    let mut w = World::new(everything_to(2, &tally), 2);
    w.send(1, &numbered(1));
    let before = w.snapshot.load().revision();
    let credit = tally.clone();
    w.publish(|fake| fake.translate = everything_to(3, &credit).translate);
    assert_eq!(w.snapshot.load().revision().0 - before.0, 1 << 32);
    w.add_port(3);
    w.send(1, &numbered(1));
    assert_eq!((w.counts().retranslated, w.sink(3).count()), (1, 1));
}

/// A flow counts so many frames between two credits, and one of them is one more.
#[test]
fn a_flow_of_many_frames_loses_none() {
    let tally = Arc::new(Tally::default());
    let mut w = World::new(everything_to(2, &tally), 2);
    let (frame, frames) = (numbered(1), 70_000);
    for _ in 0..frames / 32 {
        (0..32).for_each(|_| w.wire(1).push(&frame));
        w.settle();
        w.sink(2).take();
    }
    let flows = w.ask(|reply| Command::DumpFlows { from: DumpCursor::default(), reply }).flows;
    let sent = frames / 32 * 32;
    let bytes = sent * frame.len() as u64;
    assert_eq!(flows.iter().map(|flow| (flow.packets, flow.bytes)).collect::<Vec<_>>(), [(sent, bytes)]);
    assert!(tally.packets() < sent, "some are still to be credited");
    assert_eq!(w.counts().hits, sent - 1);
    pass(&mut w, Duration::from_secs(3));
    assert_eq!((tally.packets(), tally.bytes()), (sent, bytes));
}

/// Flow slots are reused; what was known of the flow before may not show.
#[test]
fn a_removed_port_leaves_nothing_behind() {
    let tally = Arc::new(Tally::default());
    let mut w = World::new(everything_to(2, &tally), 3);
    (0..50).for_each(|n| w.send(1, &numbered(n)));
    (0..50).for_each(|n| w.send(3, &numbered(n)));
    let removed = w.ask(|reply| Command::RemoveRx { port: DpPort(1), reply: Some(reply) });
    assert_eq!(removed.len(), 1);
    w.command(Command::RemoveTx { port: DpPort(1), done: None });
    assert!(w.worker.stats().port(DpPort(1)).is_none());
    assert_eq!((flows_of(&mut w, 1), flows_of(&mut w, 3)), (0, 50));
    assert_eq!(w.worker.stats().total().rx_packets.get(), 100, "what it counted is kept");
    w.add_port(1);
    (0..50).for_each(|n| w.send(1, &numbered(n)));
    (0..50).for_each(|n| w.send(3, &numbered(n)));
    assert_eq!((w.counts().misses, w.counts().hits), (150, 50));
    w.check_conservation();
}
