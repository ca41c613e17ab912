//! The world: a switch in one thread, and time that only the world moves.
//!
//! The agenda holds what is going to happen and when. [`World::run_until`] takes what is due, polls the nodes concerned,
//! lets workers that have something to do take one step each in an order that the dice give, and puts what came out on the
//! wires. Between any two steps the test may change rules and configuration; changes are published as the daemon does:
//! brain first, then the snapshot, then replies.

mod control;
mod nodes;

use crate::dice::Dice;
use crate::host::Host;
use crate::jack::{Device, Jack};
use crate::oracle::{Checked, Oracle, Tally};
use crate::raw::RawHost;
use crate::trace::Trace;
use crate::wire::{Lane, WireSpec};
use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use crossbeam_channel::Receiver;
use datapath::command::EVENTS_MAX;
use datapath::conntrack::{ConnTracker, CtConfig, CtStats};
use datapath::{
    Command, Drop, Event, PortCounters, PortError, Worker, WorkerConfig, WorkerPeer, WorkerSetup,
};
use packet::DpPort;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use switch::brain::Brain;
use switch::config::Config;
use switch::forwarding::{Forwarding, PuntSink, Punted};
use switch::ofproto::ConnId;
use switch::vlan::VlanConfig;

/// Time from a worker's step to its next.
const STEP_TIME: Duration = Duration::from_micros(1);
/// How often the brain looks for what has grown old, and idle workers sweep.
const TICK: Duration = Duration::from_millis(100);
/// Copies of frames for controllers that are kept.
const PUNTS_MAX: usize = 4_096;
/// Turns at one point in time before the world is taken to be stuck.
const TURNS_AT_ONCE_MAX: u32 = 100_000;

/// What a world is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorldSpec {
    /// Everything left to chance follows from it.
    pub seed: u64,
    /// Number of workers, at least 1.
    pub workers: usize,
    /// Their settings.
    pub config: WorkerConfig,
}

/// What a port is beside its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSpec {
    /// OpenFlow port number; the next one that is free if there is none.
    pub ofport: Option<u16>,
    /// VLANs.
    pub vlan: VlanConfig,
    /// Whether it exchanges no frames with other such ports.
    pub protected: bool,
    /// Largest packet, in bytes without the Ethernet header.
    pub mtu: u16,
    /// The wire plugged into it.
    pub wire: WireSpec,
}

impl Default for PortSpec {
    fn default() -> Self {
        PortSpec {
            ofport: None,
            vlan: VlanConfig::default(),
            protected: false,
            mtu: 1_500,
            wire: WireSpec::default(),
        }
    }
}

impl PortSpec {
    /// A trunk of all VLANs with this number.
    pub fn number(ofport: u16) -> PortSpec {
        PortSpec { ofport: Some(ofport), ..PortSpec::default() }
    }

    /// With these VLANs.
    #[must_use]
    pub fn vlan(self, vlan: VlanConfig) -> PortSpec {
        PortSpec { vlan, ..self }
    }

    /// With this wire.
    #[must_use]
    pub fn wire(self, wire: WireSpec) -> PortSpec {
        PortSpec { wire, ..self }
    }
}

/// Names a node: a host or a raw host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(usize);

/// Something that goes wrong, or right again. Ports are named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The wire is cut: frames on it are lost in both directions.
    WireCut(String),
    /// The wire is whole again.
    WireMended(String),
    /// The device goes down; the port stays.
    DeviceDown(String),
    /// The device comes up.
    DeviceUp(String),
    /// The device vanishes after so many more frames have been sent to it: in the middle of a batch, as it happens. The
    /// port goes when a worker has noticed.
    Vanish {
        /// Whose.
        port: String,
        /// Frames until then.
        after: u64,
    },
    /// The device is there again, as a new one; the port comes back.
    Return(String),
    /// The port is taken out of the configuration.
    Remove(String),
    /// Another worker receives from the port from now on. Without such a worker nothing changes.
    HandOver {
        /// Which port.
        port: String,
        /// The worker.
        worker: usize,
    },
    /// A worker gets no processor until a time.
    Starve {
        /// Which.
        worker: usize,
        /// Until when.
        until: Instant,
    },
}

enum Node {
    Host(Box<Host>),
    Raw(RawHost),
}

struct NodeSlot {
    node: Node,
    port: Option<String>,
    /// When it is due in the agenda.
    wakes_at: Option<Instant>,
}

struct PortSlot {
    jack: Jack,
    worker: usize,
    wire: WireSpec,
    to_node: Lane,
    to_port: Lane,
}

struct Actor {
    worker: Worker<Checked>,
    peer: WorkerPeer,
    starved_until: Instant,
    ports: usize,
}

enum Occurrence {
    ToPort(DpPort, Vec<u8>),
    ToNode(NodeId, DpPort, Vec<u8>),
    Wake(NodeId),
    Fault(Fault),
    Steps,
    Tick,
}

/// Copies of frames for controllers.
#[derive(Clone, Default)]
struct Punts(Arc<Mutex<Vec<Punted>>>);

impl PuntSink for Punts {
    fn punt(&self, punted: Punted) -> Result<(), Drop> {
        let mut punts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if punts.len() >= PUNTS_MAX {
            return Err(Drop::UpcallFull);
        }
        punts.push(punted);
        Ok(())
    }
}

/// See the module's text.
pub struct World {
    now: Instant,
    dice: Dice,
    /// What happened, if [`Trace::start`] was called on it.
    pub trace: Trace,
    brain: Brain,
    config: Config,
    snapshot: Arc<ArcSwap<Checked>>,
    oracle: Oracle,
    tracker: Arc<ConnTracker>,
    punts: Punts,
    workers: Vec<Actor>,
    events: Receiver<Event>,
    ports: BTreeMap<String, PortSlot>,
    /// What ports were configured with, so that a device can come back.
    specs: BTreeMap<String, PortSpec>,
    port_next: u32,
    /// Frames taken by and from workers at ports that are no more.
    departed: (u64, u64),
    nodes: Vec<NodeSlot>,
    agenda: BTreeMap<(Instant, u64), Occurrence>,
    occurrences: u64,
    steps_due: bool,
    conns: BTreeMap<String, ConnId>,
    xid_next: u32,
    frames: u64,
}

impl World {
    /// An empty world: workers without ports, a brain without bridges, the first second of time.
    pub fn new(spec: WorldSpec) -> World {
        let mut dice = Dice::new(spec.seed);
        let hash = HashSeed::new(dice.roll(), dice.roll());
        let twin = ConnTracker::new(hash, CtConfig::default());
        let (oracle, punts) = (Oracle::new(twin), Punts::default());
        let mut brain = Brain::new(hash, Box::new(punts.clone()));
        let first = brain.publish();
        oracle.published(Arc::clone(&first));
        let snapshot = Arc::new(ArcSwap::from_pointee(Checked::new(first, oracle.clone())));
        let (sender, events) = crossbeam_channel::bounded(EVENTS_MAX);
        let tracker = Arc::new(ConnTracker::new(hash, CtConfig::default()));
        let actor = |_| {
            let (worker, peer) = Worker::new(WorkerSetup {
                snapshot: Arc::clone(&snapshot),
                seed: hash,
                config: spec.config,
                tracker: Arc::clone(&tracker),
                events: sender.clone(),
                wake: Arc::new(|| {}),
            });
            Actor { worker, peer, starved_until: Instant::ZERO, ports: 0 }
        };
        let mut world = World {
            now: Instant::from_secs(1),
            workers: (0..spec.workers.max(1)).map(actor).collect(),
            dice,
            trace: Trace::default(),
            brain,
            config: Config::default(),
            snapshot,
            oracle,
            tracker,
            punts,
            events,
            ports: BTreeMap::new(),
            specs: BTreeMap::new(),
            port_next: 0,
            departed: (0, 0),
            nodes: Vec::new(),
            agenda: BTreeMap::new(),
            occurrences: 0,
            steps_due: false,
            conns: BTreeMap::new(),
            xid_next: 0,
            frames: 0,
        };
        world.put(world.now + TICK, Occurrence::Tick);
        world
    }

    /// The same with default settings for workers.
    pub fn seeded(seed: u64, workers: usize) -> World {
        World::new(WorldSpec { seed, workers, config: WorkerConfig::default() })
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Chance, for a test that wants to draw from the world's seed.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// The brain, to be asked.
    pub fn brain(&self) -> &Brain {
        &self.brain
    }

    /// The snapshot that workers see.
    pub fn forwarding(&self) -> Arc<Forwarding> {
        Arc::clone(self.snapshot.load().forwarding())
    }

    /// Replaces limits and timeouts of connections.
    pub fn limit_connections(&mut self, config: CtConfig) {
        self.oracle.limit_connections(config.clone());
        self.tracker.configure(config);
    }

    /// The connections, counted, and what became of earlier ones.
    pub fn connections(&self) -> CtStats {
        self.tracker.stats()
    }

    /// What the oracle has judged.
    pub fn tally(&self) -> Tally {
        self.oracle.tally()
    }

    /// Frames that workers have received.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Copies of frames for controllers since this was last asked.
    pub fn take_punts(&mut self) -> Vec<Punted> {
        std::mem::take(&mut *self.punts.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&mut self, at: Instant, what: Occurrence) {
        self.occurrences += 1;
        self.agenda.insert((at.max(self.now), self.occurrences), what);
    }

    /// Puts a fault on the agenda.
    pub fn at(&mut self, at: Instant, fault: Fault) {
        self.put(at, Occurrence::Fault(fault));
    }

    // --- time ---

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: Instant) {
        let (mut last, mut turns) = (self.now, 0);
        while self.turn(end) {
            turns = if self.now == last { turns + 1 } else { 0 };
            last = self.now;
            assert!(turns < TURNS_AT_ONCE_MAX, "time stands still at {last:?}");
        }
        self.now = self.now.max(end);
        self.check();
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until every host has done its jobs, at most until `limit` has passed; whether they have.
    pub fn run_until_done(&mut self, limit: Duration) -> bool {
        let end = self.now + limit;
        while self.now < end && !self.hosts_done() {
            self.run_until((self.now + Duration::from_millis(1)).min(end));
        }
        self.hosts_done()
    }

    /// Lets time pass until nothing moves any more but clocks: no frame is on a wire or waits at a port.
    pub fn settle(&mut self) {
        let moving = |w: &World| {
            let on_wires = |o: &Occurrence| {
                matches!(o, Occurrence::ToPort(..) | Occurrence::ToNode(..) | Occurrence::Steps)
            };
            let due = w.nodes.iter().any(|n| n.wakes_at.is_some_and(|t| t <= w.now));
            let sending = w.nodes.iter().any(|n| matches!(&n.node, Node::Raw(r) if r.waiting() > 0));
            due || sending || w.agenda.values().any(on_wires)
        };
        for _ in 0..1_000_000 {
            if !moving(self) {
                return self.check();
            }
            let Some((at, _)) = self.agenda.first_key_value().map(|(k, _)| *k) else { return };
            self.turn(at);
        }
        panic!("the world does not come to rest");
    }

    /// Everything at the next point in time that is not after `end`. False if there is none.
    fn turn(&mut self, end: Instant) -> bool {
        let Some((at, _)) = self.agenda.first_key_value().map(|(k, _)| *k).filter(|(at, _)| *at <= end)
        else {
            return false;
        };
        self.now = at;
        let mut awake = BTreeSet::new();
        let mut tick = false;
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= at) {
            match entry.remove() {
                Occurrence::ToPort(port, bytes) => self.arrive(port, bytes),
                Occurrence::ToNode(node, port, bytes) => {
                    self.deliver(node, port, bytes);
                    awake.insert(node);
                }
                Occurrence::Wake(node) => {
                    awake.insert(node);
                }
                Occurrence::Fault(fault) => self.carry_out_fault(fault),
                Occurrence::Steps => self.steps_due = false,
                Occurrence::Tick => tick = true,
            }
        }
        for node in awake {
            self.poll_node(node);
        }
        self.step_workers(tick);
        if tick {
            self.put(self.now + TICK, Occurrence::Tick);
            let (workers, now) = (&mut self.workers, self.now);
            self.brain.run(now, || {
                workers.iter_mut().for_each(|a| a.worker.carry_out(Command::Fold { done: None }, now));
            });
            self.publish();
            self.check();
        }
        true
    }

    /// Lets each worker that has something to do, or every worker, take a step.
    fn step_workers(&mut self, all: bool) {
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        if order.len() > 1 {
            self.dice.shuffle(&mut order);
        }
        let mut next: Option<Instant> = None;
        for n in order {
            let waiting = |p: &PortSlot| p.worker == n && !p.jack.lock().inlet.is_empty();
            let waits = self.ports.values().any(waiting);
            let gone = || self.ports.values().any(|p| p.worker == n && p.jack.lock().device == Device::Gone);
            if !(waits || all || gone()) {
                continue;
            }
            let actor = &mut self.workers[n];
            if actor.starved_until > self.now {
                next = Some(next.map_or(actor.starved_until, |t| t.min(actor.starved_until)));
                continue;
            }
            self.oracle.step_begins(n, actor.peer.stats(), self.now);
            let progress = actor.worker.step(self.now);
            self.oracle.step_ends();
            self.frames += progress.frames as u64;
            // A worker that can do nothing although frames wait has a device that failed.
            let again = if progress.idle {
                actor.worker.next_deadline().filter(|_| waits)
            } else {
                Some(self.now + STEP_TIME)
            };
            if let Some(at) = again {
                let at = at.max(self.now + STEP_TIME);
                next = Some(next.map_or(at, |t| t.min(at)));
            }
        }
        self.collect();
        self.take_events();
        if let Some(at) = next.filter(|_| !self.steps_due) {
            self.steps_due = true;
            self.put(at, Occurrence::Steps);
        }
    }

    /// What workers report, as the daemon takes it.
    fn take_events(&mut self) {
        let events: Vec<Event> = self.events.try_iter().collect();
        for event in events {
            let (Event::RxFailed { port, error } | Event::TxFailed { port, error }) = event;
            let name = self.ports.iter().find(|(_, p)| p.jack.port == port).map(|(name, _)| name.clone());
            if let (PortError::Gone, Some(name)) = (error, name) {
                self.close_device(&name);
                self.brain.device_closed(&name, self.now);
                self.publish();
            }
        }
    }

    // --- checks ---

    /// Fails unless every frame that a worker received has ended in exactly one counted way. Called all the time.
    ///
    /// # Panics
    /// If one has not.
    pub fn check(&self) {
        let (mut rx, mut tx) = (0, 0);
        for (n, actor) in self.workers.iter().enumerate() {
            let t = actor.peer.stats().total();
            let begun = t.rx_packets.get() + t.injected.get() + t.clones.get();
            let held = actor.peer.stats().fragments_held.get();
            let ended = t.tx_packets.get() + t.punted.get() + t.drops.total() + held;
            assert_eq!(begun, ended, "worker {n}: frames begun and ended; {t:#?}");
            rx += t.rx_packets.get();
            tx += t.tx_packets.get();
        }
        let (mut taken, mut given) = self.departed;
        for port in self.ports.values() {
            let state = port.jack.lock();
            taken += state.received;
            given += state.sent;
        }
        assert_eq!((rx, tx), (taken, given), "frames that workers counted, and that ports counted");
    }

    /// What all workers counted, over all ports.
    pub fn total(&self) -> PortCounters {
        let sum = PortCounters::default();
        self.workers.iter().for_each(|a| sum.absorb(&a.peer.stats().total()));
        sum
    }

    /// What all workers counted for a port that is there.
    pub fn counters(&self, port: &str) -> PortCounters {
        let sum = PortCounters::default();
        if let Some(slot) = self.ports.get(port) {
            let of = |a: &Actor| a.peer.stats().port(slot.jack.port);
            self.workers.iter().filter_map(of).for_each(|c| sum.absorb(&c));
        }
        sum
    }
}
