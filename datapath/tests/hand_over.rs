//! Receiving sides that go from worker to worker while frames come: nothing is lost, and each flow stays in order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use datapath::conntrack::{ConnTracker, CtConfig};
use datapath::*;
use packet::{Batch, DpPort, Frame, FrameBuilder, FramePool, PacketKey, slot};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use world::{Answer, Fake, Udp, Wire, output};

/// Frames in the order in which a port's device took them.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// A worker's own way to a port: it keeps frames until it is flushed.
struct Keeper {
    kept: Vec<Frame>,
    sent: Sent,
}

impl Tx for Keeper {
    fn send(&mut self, frame: Frame, _: &mut FramePool) -> Result<(), (Frame, Drop)> {
        self.kept.push(frame);
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        let mut sent = self.sent.lock().unwrap();
        for frame in self.kept.drain(..) {
            sent.push(frame.bytes().to_vec());
            pool.give(frame);
        }
        Ok(())
    }
}

/// A wire that notes whether it was told that its thread changes.
struct Bound {
    wire: Wire,
    left: Arc<Mutex<u32>>,
}

impl Rx for Bound {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        self.wire.recv(pool, out)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn leave_thread(&mut self) {
        *self.left.lock().unwrap() += 1;
    }
}

const PORTS: u32 = 3;
const QUEUES: u16 = 2;
const NOW: Instant = Instant::from_secs(100);

struct Switch {
    workers: Vec<Worker<Fake>>,
    wires: BTreeMap<(u32, u16), Wire>,
    /// Which worker has which side.
    places: BTreeMap<(u32, u16), usize>,
    sent: BTreeMap<u32, Sent>,
    left: Arc<Mutex<u32>>,
}

/// Where a flow comes in, its number there.
type Flow = (u32, u16, u16);

/// The port that a flow goes to.
fn destination((port, _, number): Flow) -> u32 {
    1 + (port + u32::from(number)) % PORTS
}

/// The `n`th frame of a flow. `source` and `destination` ports tell the flow, the last bytes the number.
fn frame(flow: Flow, n: u32) -> Vec<u8> {
    let (port, queue, number) = flow;
    let sport = (port as u16) << 8 | queue << 4 | number;
    let mut bytes = Udp { sport, dport: destination(flow) as u16, ..Udp::default() }.bytes();
    let len = bytes.len();
    bytes[len - 4..].copy_from_slice(&n.to_be_bytes());
    bytes
}

impl Switch {
    fn new(workers: usize) -> Switch {
        Switch::limited(workers, WorkerConfig::default())
    }

    fn limited(workers: usize, config: WorkerConfig) -> Switch {
        let fake = Fake::new(&[slot::TP_SRC, slot::TP_DST], |key| {
            Answer::new(vec![output(key.get(slot::TP_DST) as u32)])
        });
        Switch::with(workers, config, fake)
    }

    fn with(workers: usize, config: WorkerConfig, fake: Fake) -> Switch {
        let snapshot = Arc::new(ArcSwap::from_pointee(fake));
        let tracker = Arc::new(ConnTracker::new(HashSeed::new(5, 13), CtConfig::default()));
        let worker = |_| {
            let setup = WorkerSetup {
                snapshot: snapshot.clone(),
                seed: HashSeed::new(7, 11),
                config,
                tracker: tracker.clone(),
                events: crossbeam_channel::bounded(64).0,
                wake: Arc::new(|| {}),
            };
            Worker::new(setup).0
        };
        let mut switch = Switch {
            workers: (0..workers).map(worker).collect(),
            wires: BTreeMap::new(),
            places: BTreeMap::new(),
            sent: BTreeMap::new(),
            left: Arc::default(),
        };
        for port in 1..=PORTS {
            let sent = Sent::default();
            for worker in &mut switch.workers {
                let tx = Box::new(Keeper { kept: Vec::new(), sent: sent.clone() });
                worker.carry_out(Command::AddTx { port: DpPort(port), tx, done: None }, NOW);
            }
            switch.sent.insert(port, sent);
            for number in 0..QUEUES {
                let wire = Wire::default();
                let rx = Bound { wire: wire.clone(), left: switch.left.clone() };
                switch.wires.insert((port, number), wire);
                switch.give((port, number), RxQueue::new(number, Box::new(rx)), 0);
            }
        }
        switch
    }

    fn give(&mut self, (port, number): (u32, u16), queue: RxQueue, to: usize) {
        self.places.insert((port, number), to);
        self.workers[to].carry_out(Command::AddRx { port: DpPort(port), queue, done: None }, NOW);
    }

    fn take(&mut self, (port, number): (u32, u16), from: usize) -> Option<RxQueue> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.workers[from].carry_out(Command::TakeRx { port: DpPort(port), number, reply }, NOW);
        answer.try_recv().expect("answered at once")
    }

    fn hand_over(&mut self, side: (u32, u16), to: usize) {
        let from = self.places[&side];
        let queue = self.take(side, from).expect("the side");
        assert_eq!(queue.number, side.1);
        self.give(side, queue, to);
    }

    fn settle(&mut self) {
        for worker in &mut self.workers {
            while !worker.step(NOW).idle {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The next frame of a flow comes to its side.
    Arrive(Flow),
    /// The next frame of a flow comes by command, to the worker that has its side, and is not flushed.
    Inject(Flow),
    Step(usize),
    HandOver((u32, u16), usize),
}

fn event(workers: usize) -> impl Strategy<Value = Event> {
    let side = (1..=PORTS, 0..QUEUES);
    // Flows 0 to 2 come to the side, 3 by command: what order the two have to each other nobody promised.
    let arrive = (1..=PORTS, 0..QUEUES, 0u16..3).prop_map(Event::Arrive);
    let inject = (1..=PORTS, 0..QUEUES).prop_map(|(port, queue)| Event::Inject((port, queue, 3)));
    prop_oneof![
        8 => arrive,
        2 => inject,
        3 => (0..workers).prop_map(Event::Step),
        2 => (side, 0..workers).prop_map(|(side, to)| Event::HandOver(side, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn each_flow_stays_whole_and_in_order(events in proptest::collection::vec(event(3), 1..400)) {
        let mut switch = Switch::new(3);
        let mut counts: BTreeMap<Flow, u32> = BTreeMap::new();
        let mut handed_over = 0;
        for event in events {
            match event {
                Event::Arrive(flow) => {
                    let n = counts.entry(flow).or_default();
                    switch.wires[&(flow.0, flow.1)].push(&frame(flow, *n));
                    *n += 1;
                }
                Event::Inject(flow) => {
                    let n = counts.entry(flow).or_default();
                    let (port, frame) = (DpPort(flow.0), Frame::from_bytes(&frame(flow, *n)));
                    *n += 1;
                    let worker = switch.places[&(flow.0, flow.1)];
                    switch.workers[worker].carry_out(Command::Inject { port, frame }, NOW);
                }
                Event::Step(worker) => drop(switch.workers[worker].step(NOW)),
                Event::HandOver(side, to) => {
                    switch.hand_over(side, to);
                    handed_over += 1;
                }
            }
        }
        switch.settle();
        prop_assert_eq!(*switch.left.lock().unwrap(), handed_over, "each side was told of each change of thread");
        for (flow, count) in counts {
            let sent = switch.sent[&destination(flow)].lock().unwrap();
            let start = frame(flow, 0);
            let same = |bytes: &&Vec<u8>| bytes[..bytes.len() - 4] == start[..start.len() - 4];
            let numbers: Vec<u32> = sent
                .iter()
                .filter(same)
                .map(|bytes| u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().unwrap()))
                .collect();
            prop_assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{:?}", flow);
        }
        for worker in &switch.workers {
            let t = worker.stats().total();
            let begun = t.rx_packets.get() + t.injected.get() + t.clones.get();
            prop_assert_eq!(begun, t.tx_packets.get() + t.punted.get() + t.drops.total());
        }
    }
}

#[test]
fn what_was_received_counts_at_the_side_wherever_it_goes() {
    let mut switch = Switch::new(2);
    let bytes = frame((1, 0, 0), 0);
    let len = bytes.len() as u64;
    for n in 0..10 {
        switch.wires[&(1, 0)].push(&bytes);
        switch.wires[&(1, 1)].push(&bytes);
        switch.settle();
        switch.hand_over((1, 0), n % 2);
    }
    let from = switch.places[&(1, 0)];
    let queue = switch.take((1, 0), from).expect("the side");
    assert_eq!((queue.load.frames.get(), queue.load.bytes.get()), (10, 10 * len));
    assert_eq!(switch.workers[0].stats().port(DpPort(1)).unwrap().rx_packets.get(), 16, "5 and its side 1");
}

#[test]
fn a_side_that_a_worker_does_not_have_is_not_given_back() {
    let mut switch = Switch::new(2);
    assert!(switch.take((1, 0), 1).is_none());
    assert!(switch.take((1, 7), 0).is_none());
    assert!(switch.take((9, 0), 0).is_none());
    // Nobody waits for it any more: it stays.
    let (reply, answer) = crossbeam_channel::bounded(1);
    drop(answer);
    switch.workers[0].carry_out(Command::TakeRx { port: DpPort(1), number: 0, reply }, NOW);
    // The last of a port's sides takes the port's cached flows with it.
    let flow = (1, 0, 0);
    switch.wires[&(1, 0)].push(&frame(flow, 0));
    switch.settle();
    let flows = |switch: &mut Switch| {
        let _ = switch.workers[0].step(NOW);
        switch.workers[0].stats().cache.flows.get()
    };
    assert_eq!(flows(&mut switch), 1);
    switch.hand_over((1, 0), 1);
    assert_eq!(flows(&mut switch), 1);
    switch.hand_over((1, 1), 1);
    assert_eq!(flows(&mut switch), 0);
}

/// One that is no more, asked for late, and a new one of its number.
#[test]
fn of_sides_with_one_number_the_first_is_given_back_and_the_others_stay() {
    let mut switch = Switch::new(1);
    let wire = Wire::default();
    switch.give((1, 0), RxQueue::new(0, Box::new(wire.clone())), 0);
    let old = switch.take((1, 0), 0).expect("the old side");
    wire.push(&frame((1, 0, 0), 0));
    switch.settle();
    assert_eq!(old.load.frames.get(), 0);
    let new = switch.take((1, 0), 0).expect("the new side");
    assert_eq!(new.load.frames.get(), 1);
    assert!(switch.take((1, 0), 0).is_none());
}

/// What a port has cached it may set up anew where its side goes, whatever it has used of its budget there.
#[test]
fn established_flows_survive_a_hand_over_beyond_the_budget() {
    let misses = MissLimits { rate: 1, burst: 200 };
    let mut switch = Switch::limited(2, WorkerConfig { misses, ..WorkerConfig::default() });
    // A side alone at its worker.
    switch.hand_over((1, 0), 1);
    for n in 0..6 {
        for flow in 0..150 {
            let dport = destination((1, 0, 0)) as u16;
            switch.wires[&(1, 0)].push(&Udp { sport: flow, dport, ..Udp::default() }.bytes());
        }
        switch.settle();
        let sent = switch.sent[&destination((1, 0, 0))].lock().unwrap().len();
        assert_eq!(sent, 150 * (n + 1), "after {n} changes");
        switch.hand_over((1, 0), n % 2);
    }
}

/// Packets whose fragments come before and after a hand-over are tracked and go on; those of a side that stays, where it is.
#[test]
fn fragments_that_wait_for_others_go_with_their_side() {
    let fake = Fake::new(&[slot::NW_FRAG], |_| Answer::new(vec![DpAction::Ct(Arc::default()), output(2)]));
    let mut switch = Switch::with(2, WorkerConfig::default(), fake);
    let packet = |id| FrameBuilder::udp4((1, 1000), (2, 53)).identification(id).payload(&[7; 3_000]).build();
    let fragments = |id| {
        let mut out = vec![];
        let mut whole = Frame::from_bytes(&packet(id));
        PacketKey::extract(&mut whole).unwrap();
        packet::fragment::split(&whole, 1_400, 0, &mut FramePool::new(2), |f| out.push(f.bytes().to_vec()))
            .unwrap();
        out
    };
    let sides = [(1, 0), (1, 1)];
    let parts = sides.map(|side| fragments(side.1 + 7));
    for (side, parts) in sides.iter().zip(&parts) {
        parts[..2].iter().for_each(|part| switch.wires[side].push(part));
    }
    switch.settle();
    let held = |switch: &Switch| [0, 1].map(|n| switch.workers[n].stats().fragments_held.get());
    assert_eq!(held(&switch), [4, 0]);
    switch.hand_over(sides[0], 1);
    // A side that does not move after all keeps what came by it.
    let (reply, answer) = crossbeam_channel::bounded(1);
    drop(answer);
    switch.workers[0].carry_out(Command::TakeRx { port: DpPort(1), number: 1, reply }, NOW);
    switch.settle();
    assert_eq!(held(&switch), [2, 2]);
    assert!(switch.sent[&2].lock().unwrap().is_empty());
    for (side, parts) in sides.iter().zip(&parts) {
        switch.wires[side].push(&parts[2]);
        switch.settle();
        assert_eq!(std::mem::take(&mut *switch.sent[&2].lock().unwrap()), *parts);
    }
    assert_eq!(held(&switch), [0, 0]);
    // Those of a side that is no more go to another worker by themselves.
    switch.wires[&sides[1]].push(&parts[0][0]);
    switch.settle();
    let mut queue = switch.take(sides[1], 0).expect("the side");
    let fragments = std::mem::take(&mut queue.fragments);
    switch.workers[1].carry_out(Command::Adopt { fragments }, NOW);
    switch.settle();
    assert_eq!(held(&switch), [0, 1]);
}
