//! Turns of receiving sides: each has the same share of a worker's work, counted as `datapath::cost` does, whatever its frames make
//! the worker do.

mod world;

use datapath::{CacheLimits, Command, MissLimits, PortError, Rx, RxQueue, WorkerConfig, cost};
use packet::{Batch, DpPort, FramePool, slot};
use std::os::fd::BorrowedFd;
use world::{Answer, Fake, Udp, Wire, World, output};

/// Ports that only send, and the one that all frames go to.
const SENDERS: u32 = 3;
const RECEIVER: u32 = 4;
/// What a frame costs that is translated and not cached, beside what moving it does.
const MISS: u64 = (cost::LONG_WAY + cost::TRANSLATION + cost::TABLE) as u64;
const STEPS: u64 = 4_000;

/// Frames with a source port from 10,000 on are translated each by itself, others share a cached flow.
fn world() -> World {
    let fake = Fake::new(&[slot::TP_SRC], |key| Answer {
        cacheable: key.get(slot::TP_SRC) < 10_000,
        ..Answer::new(vec![output(RECEIVER)])
    });
    let misses = MissLimits { rate: 1_000_000_000, burst: 1_000_000_000 };
    let config = WorkerConfig { misses, cache: CacheLimits::default(), ..WorkerConfig::default() };
    let mut w = World::with_config(fake, RECEIVER, config);
    for port in 1..=SENDERS {
        w.send(port, &cheap());
    }
    w
}

fn cheap() -> Vec<u8> {
    Udp::default().bytes()
}

fn dear() -> Vec<u8> {
    Udp { sport: 10_000, ..Udp::default() }.bytes()
}

/// Lets the worker work while these ports always have frames of these kinds; how many of each port it took.
fn frames_taken<const N: usize>(w: &mut World, steps: u64, sends: [(u32, &[u8]); N]) -> [u64; N] {
    let received = |w: &World| {
        sends.map(|(port, _)| w.worker.stats().port(DpPort(port)).map_or(0, |port| port.rx_packets.get()))
    };
    let before = received(w);
    let mut last = before;
    for (port, frame) in sends {
        (0..2 * Batch::MAX).for_each(|_| w.wire(port).push(frame));
    }
    for _ in 0..steps {
        let _ = w.step();
        w.sink(RECEIVER).take();
        let now = received(w);
        for ((port, frame), (taken, last)) in sends.into_iter().zip(now.into_iter().zip(last)) {
            (last..taken).for_each(|_| w.wire(port).push(frame));
        }
        last = now;
    }
    w.check_conservation();
    std::array::from_fn(|n| last[n] - before[n])
}

/// What two sides were served may differ by two batches of the dearest frames.
#[track_caller]
fn assert_same(one: u64, other: u64, dearest: u64) {
    assert!(one.abs_diff(other) <= 2 * Batch::MAX as u64 * dearest, "{one} and {other}");
}

#[test]
fn misses_leave_cached_traffic_half_of_the_work_and_have_the_other_half() {
    let (mut w, plain) = (world(), u64::from(cost::FRAME));
    let translations = w.snapshot.load().translations();
    let [cheap, dear] = frames_taken(&mut w, STEPS, [(1, &cheap()), (2, &dear())]);
    assert_eq!(w.snapshot.load().translations() - translations, dear, "each was translated");
    assert_same(cheap * plain, dear * (plain + MISS), plain + MISS);
    assert!(dear > 7_000, "starved: {dear}");
}

#[test]
fn each_of_three_has_a_third() {
    let (mut w, plain) = (world(), u64::from(cost::FRAME));
    let [one, other, dear] = frames_taken(&mut w, STEPS, [(1, &cheap()), (3, &cheap()), (2, &dear())]);
    assert_same(one * plain, other * plain, plain + MISS);
    assert_same(one * plain, dear * (plain + MISS), plain + MISS);
}

#[test]
fn who_is_alone_is_served_in_full_whatever_it_costs() {
    let mut w = world();
    let [dear] = frames_taken(&mut w, STEPS, [(2, &dear())]);
    assert_eq!(dear, STEPS * Batch::MAX as u64);
    // Of what it did before, it owes nothing to one that comes later.
    let plain = u64::from(cost::FRAME);
    let [cheap, dear] = frames_taken(&mut w, STEPS, [(1, &cheap()), (2, &self::dear())]);
    assert_same(cheap * plain, dear * (plain + MISS), plain + MISS);
}

/// As `Wire`, but its frames cost what those of a device do.
struct Device(Wire);

impl Rx for Device {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        self.0.recv(pool, out)
    }

    fn frame_price(&self) -> u32 {
        cost::KERNEL_FRAME
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What a frame makes the worker do weighs little beside what the kernel does for each: a pod that sets up flows is not held to a
/// sixteenth of the frames of another.
#[test]
fn where_the_kernel_moves_frames_a_miss_is_little_more() {
    let mut w = world();
    for port in [1, 2] {
        w.command(Command::RemoveRx { port: DpPort(port), reply: None });
        let queue = RxQueue::only(Box::new(Device(w.wire(port).clone())));
        w.command(Command::AddRx { port: DpPort(port), queue, done: None });
    }
    let [cheap, dear] = frames_taken(&mut w, STEPS, [(1, &cheap()), (2, &dear())]);
    let plain = u64::from(cost::KERNEL_FRAME);
    assert_same(cheap * plain, dear * (plain + MISS), plain + MISS);
    assert!(dear * 4 > cheap * 3 && dear < cheap, "{dear} and {cheap}");
}

/// A copy is charged as a frame: rules that flood do not let one port have more of the worker.
#[test]
fn copies_are_charged_to_who_sent_the_frame() {
    let mut w = world();
    w.publish(|fake| {
        fake.translate = Box::new(|key| match key.in_port() {
            DpPort(2) => Answer::new(vec![output(RECEIVER); 5]),
            _ => Answer::new(vec![output(RECEIVER)]),
        });
    });
    let [one, flooding] = frames_taken(&mut w, STEPS, [(1, &cheap()), (2, &cheap())]);
    let (plain, own) = (u64::from(cost::FRAME), u64::from(5 * cost::FRAME + cost::LONG_WAY));
    // Both flows were translated once more, and cached.
    assert_same(one * plain, flooding * own, own + MISS);
}
