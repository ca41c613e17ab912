//! A world for workers in tests: a slow path made of closures, ports in memory, frames.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use crossbeam_channel::Receiver;
use datapath::conntrack::{ConnTracker, CtConfig};
use datapath::port::TxLost;
use datapath::{
    Command, Credit, Deps, Domain, DpAction, Drop, Event, FrameClass, PortError, Profile, ProfileId, Program,
    Progress, Revision, Rx, RxQueue, SlowPath, Translation, Tx, Upcall, UpcallCookie, Worker, WorkerConfig,
    WorkerPeer, WorkerSetup,
};
use flowtable::Mask;
use packet::{Batch, DpPort, Frame, FramePool, PacketKey, slot};
use std::collections::{HashMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What credits were given.
#[derive(Default)]
pub struct Tally {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub tcp_flags: AtomicU64,
    pub last_seen: AtomicU64,
}

impl Tally {
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Credit for Tally {
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tcp_flags.fetch_or(tcp_flags as u64, Ordering::Relaxed);
        self.last_seen.store(last_seen.as_nanos(), Ordering::Relaxed);
    }
}

/// Learned state: revisions of domains, and the sum of all changes.
#[derive(Default)]
pub struct Learned {
    total: AtomicU64,
    domains: Mutex<HashMap<Domain, Revision>>,
}

impl Learned {
    pub fn revision(&self) -> Revision {
        Revision(self.total.load(Ordering::SeqCst))
    }

    pub fn of(&self, domain: Domain) -> Revision {
        self.domains.lock().unwrap().get(&domain).copied().unwrap_or_default()
    }

    /// Something in the domain changes.
    pub fn change(&self, domain: Domain) {
        let mut domains = self.domains.lock().unwrap();
        let now = Revision(self.total.fetch_add(1, Ordering::SeqCst) + 1);
        domains.insert(domain, now);
    }

    pub fn deps(&self, domains: &[Domain]) -> Deps {
        Deps(domains.iter().map(|d| (*d, self.of(*d))).collect())
    }
}

/// What a test's translation says.
pub struct Answer {
    pub actions: Vec<DpAction>,
    pub deps: Deps,
    pub credits: Vec<Arc<dyn Credit>>,
    pub effects: Vec<Domain>,
    pub cacheable: bool,
    pub tables: u32,
}

impl Answer {
    pub fn new(actions: Vec<DpAction>) -> Answer {
        Answer {
            actions,
            deps: Deps::default(),
            credits: Vec::new(),
            effects: Vec::new(),
            cacheable: true,
            tables: 1,
        }
    }
}

pub type Translate = Box<dyn Fn(&PacketKey) -> Answer + Send + Sync>;

/// A copy of a frame that was punted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Punt {
    pub bytes: Vec<u8>,
    pub total_len: usize,
    pub cookie: u32,
    pub mark: u128,
}

/// A snapshot of a brain made of closures. Its own revision is the high half, what is learned the low half.
pub struct Fake {
    pub number: u64,
    pub learned: Arc<Learned>,
    pub profile: Profile,
    pub translate: Translate,
    pub punts: Arc<Mutex<Vec<Punt>>>,
    pub refuse_punts: bool,
    pub bridgeless: Option<DpPort>,
    pub translations: AtomicU64,
}

impl Fake {
    pub fn new(
        slots: &[packet::Slot],
        translate: impl Fn(&PacketKey) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        Fake {
            number: 0,
            learned: Arc::default(),
            profile: profile(1, slots),
            translate: Box::new(translate),
            punts: Arc::default(),
            refuse_punts: false,
            bridgeless: None,
            translations: AtomicU64::new(0),
        }
    }

    pub fn translations(&self) -> u64 {
        self.translations.load(Ordering::Relaxed)
    }
}

/// The domain that stands for the configuration, in deps.
pub const CONFIGURATION: Domain = Domain(u64::MAX);

impl SlowPath for Fake {
    type Effect = Domain;
    type Room = ();

    fn revision(&self) -> Revision {
        Revision(self.number << 32 | self.learned.revision().0)
    }

    fn profile(&self, FrameClass { port, .. }: FrameClass) -> Result<&Profile, Drop> {
        if self.bridgeless == Some(port) { Err(Drop::NoBridge) } else { Ok(&self.profile) }
    }

    fn translate(&self, upcall: &Upcall<'_>) -> Translation<Domain> {
        self.translations.fetch_add(1, Ordering::Relaxed);
        let answer = (self.translate)(upcall.key);
        let mut deps = answer.deps.0.into_vec();
        deps.push((CONFIGURATION, Revision(self.number)));
        Translation {
            program: Program { actions: answer.actions.into() },
            deps: Deps(deps.into()),
            credits: answer.credits.into(),
            effects: answer.effects,
            cacheable: answer.cacheable,
            tables: answer.tables,
        }
    }

    fn commit(&self, effects: &[Domain], _now: Instant) {
        effects.iter().for_each(|d| self.learned.change(*d));
    }

    fn still_valid(&self, deps: &Deps) -> bool {
        deps.0.iter().all(|(domain, revision)| match *domain {
            CONFIGURATION => *revision == Revision(self.number),
            _ => *revision == self.learned.of(*domain),
        })
    }

    fn punt(
        &self,
        frame: &Frame,
        total_len: usize,
        key: &PacketKey,
        cookie: &UpcallCookie,
    ) -> Result<(), Drop> {
        if self.refuse_punts {
            return Err(Drop::UpcallFull);
        }
        let cookie = *cookie.downcast_ref::<u32>().expect("tests use u32");
        let (bytes, mark) = (frame.bytes().to_vec(), key.get(slot::PKT_MARK));
        self.punts.lock().unwrap().push(Punt { bytes, total_len, cookie, mark });
        Ok(())
    }
}

/// A profile of these slots and the three that every profile has.
pub fn profile(id: u32, slots: &[packet::Slot]) -> Profile {
    let mut mask = Mask::empty();
    for s in [slot::IN_PORT, slot::RECIRC_ID, slot::DL_TYPE].iter().chain(slots) {
        mask.add_all(*s);
    }
    Profile::new(ProfileId(id), mask)
}

/// A device's way in.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<WireState>>);

#[derive(Default)]
struct WireState {
    frames: VecDeque<Frame>,
    failure: Option<PortError>,
    receptions: u64,
    on_receive: Option<Box<dyn FnMut() + Send>>,
}

impl Wire {
    pub fn push(&self, bytes: &[u8]) {
        self.push_frame(Frame::from_bytes(bytes));
    }

    pub fn push_frame(&self, frame: Frame) {
        self.0.lock().unwrap().frames.push_back(frame);
    }

    /// The next reception fails.
    pub fn fail(&self, error: PortError) {
        self.0.lock().unwrap().failure = Some(error);
    }

    /// Runs something when frames have been received, before the worker sees them.
    pub fn on_receive(&self, f: impl FnMut() + Send + 'static) {
        self.0.lock().unwrap().on_receive = Some(Box::new(f));
    }

    /// How often the worker tried.
    pub fn receptions(&self) -> u64 {
        self.0.lock().unwrap().receptions
    }
}

impl Rx for Wire {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        let mut state = self.0.lock().unwrap();
        state.receptions += 1;
        while let Some(from) = state.frames.pop_front() {
            let mut frame = pool.take();
            frame.append(from.bytes()).unwrap();
            (frame.checksum, frame.segmentation) = (from.checksum, from.segmentation);
            out.push(frame).unwrap();
            if out.is_full() {
                break;
            }
        }
        if let Some(f) = state.on_receive.as_mut() {
            f();
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A device's way out.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<SinkState>>);

#[derive(Default)]
struct SinkState {
    sent: Vec<Frame>,
    room: Option<usize>,
    kept: VecDeque<Frame>,
    lose: usize,
    lost: Option<TxLost>,
    cuts_in_tunnels: bool,
    stalled: u32,
    failure: Option<PortError>,
}

impl Sink {
    /// What was sent since this was last asked.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.take_frames().iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    /// The same, with what is said of checksum and segmentation.
    pub fn take_frames(&self) -> Vec<Frame> {
        std::mem::take(&mut self.0.lock().unwrap().sent)
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().sent.len()
    }

    /// Takes at most so many frames between two flushes.
    pub fn room(&self, frames: usize) {
        self.0.lock().unwrap().room = Some(frames);
    }

    /// Loses so many frames at the next flush.
    pub fn lose(&self, frames: usize) {
        self.0.lock().unwrap().lose = frames;
    }

    /// Takes super-frames in tunnels.
    pub fn cut_in_tunnels(&self) {
        self.0.lock().unwrap().cuts_in_tunnels = true;
    }

    /// Sends nothing at so many flushes.
    pub fn stall(&self, flushes: u32) {
        self.0.lock().unwrap().stalled = flushes;
    }

    /// The next flush fails.
    pub fn fail(&self, error: PortError) {
        self.0.lock().unwrap().failure = Some(error);
    }
}

impl Tx for Sink {
    fn send(&mut self, frame: Frame, _pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        let mut state = self.0.lock().unwrap();
        if state.room.is_some_and(|room| state.kept.len() >= room) {
            return Err((frame, Drop::TxFull));
        }
        state.kept.push_back(frame);
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        let mut state = self.0.lock().unwrap();
        if state.stalled > 0 {
            state.stalled -= 1;
            return Ok(());
        }
        while let Some(frame) = state.kept.pop_front() {
            if state.lose > 0 {
                state.lose -= 1;
                let lost = state.lost.get_or_insert(TxLost { frames: 0, bytes: 0, reason: Drop::TxError });
                lost.frames += 1;
                lost.bytes += frame.len() as u64;
            } else {
                let mut copy = Frame::from_bytes(frame.bytes());
                (copy.layers, copy.checksum, copy.segmentation) =
                    (frame.layers, frame.checksum, frame.segmentation);
                copy.inner_segmentation = frame.inner_segmentation;
                state.sent.push(copy);
            }
            pool.give(frame);
        }
        state.failure.take().map_or(Ok(()), Err)
    }

    fn take_lost(&mut self) -> Option<TxLost> {
        self.0.lock().unwrap().lost.take()
    }

    fn cuts_in_tunnels(&self) -> bool {
        self.0.lock().unwrap().cuts_in_tunnels
    }

    fn has_rest(&self) -> bool {
        !self.0.lock().unwrap().kept.is_empty()
    }
}

/// One worker and its surroundings.
pub struct World {
    pub worker: Worker<Fake>,
    pub peer: WorkerPeer,
    pub events: Receiver<Event>,
    pub snapshot: Arc<ArcSwap<Fake>>,
    pub learned: Arc<Learned>,
    pub tracker: Arc<ConnTracker>,
    pub now: Instant,
    pub wires: HashMap<u32, Wire>,
    pub sinks: HashMap<u32, Sink>,
}

impl World {
    /// A world with ports 1 to `ports`.
    pub fn new(fake: Fake, ports: u32) -> World {
        World::with_config(fake, ports, WorkerConfig::default())
    }

    pub fn with_config(fake: Fake, ports: u32, config: WorkerConfig) -> World {
        let learned = fake.learned.clone();
        let snapshot = Arc::new(ArcSwap::from_pointee(fake));
        let (events_to, events) = crossbeam_channel::bounded(64);
        let tracker = Arc::new(ConnTracker::new(HashSeed::new(5, 13), CtConfig::default()));
        let (worker, peer) = Worker::new(WorkerSetup {
            snapshot: snapshot.clone(),
            seed: HashSeed::new(7, 11),
            config,
            tracker: tracker.clone(),
            events: events_to,
            wake: Arc::new(|| {}),
        });
        let now = Instant::from_secs(100);
        let (wires, sinks) = (HashMap::new(), HashMap::new());
        let mut world = World { worker, peer, events, snapshot, learned, tracker, now, wires, sinks };
        (1..=ports).for_each(|port| world.add_port(port));
        world
    }

    pub fn add_port(&mut self, port: u32) {
        let (wire, sink) = (Wire::default(), Sink::default());
        let queue = RxQueue::only(Box::new(wire.clone()));
        self.command(Command::AddRx { port: DpPort(port), queue, done: None });
        self.command(Command::AddTx { port: DpPort(port), tx: Box::new(sink.clone()), done: None });
        self.wires.insert(port, wire);
        self.sinks.insert(port, sink);
    }

    pub fn command(&mut self, command: Command) {
        self.worker.carry_out(command, self.now);
    }

    /// Asks and gets the answer.
    pub fn ask<T>(&mut self, question: impl FnOnce(crossbeam_channel::Sender<T>) -> Command) -> T {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.command(question(reply));
        answer.try_recv().expect("answered at once")
    }

    pub fn wire(&self, port: u32) -> &Wire {
        &self.wires[&port]
    }

    pub fn sink(&self, port: u32) -> &Sink {
        &self.sinks[&port]
    }

    pub fn step(&mut self) -> Progress {
        self.worker.step(self.now)
    }

    /// Steps until there is nothing to do.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.step().idle {
                return;
            }
        }
        panic!("the worker never comes to rest");
    }

    /// Sends a frame into a port and lets the worker work.
    pub fn send(&mut self, port: u32, bytes: &[u8]) {
        self.wire(port).push(bytes);
        self.settle();
    }

    /// Publishes a snapshot that differs from the present one as `change` says.
    pub fn publish(&mut self, change: impl FnOnce(&mut Fake)) {
        let old = self.snapshot.load();
        let mut fake = Fake::new(&[], |_| Answer::new(vec![]));
        fake.number = old.number + 1;
        fake.learned = old.learned.clone();
        fake.profile = old.profile.clone();
        fake.punts = old.punts.clone();
        change(&mut fake);
        drop(old);
        self.snapshot.store(Arc::new(fake));
    }

    pub fn counts(&self) -> Counts {
        let c = &self.worker.stats().cache;
        Counts {
            hits: c.hits.get(),
            misses: c.misses.get(),
            revalidated: c.revalidated.get(),
            retranslated: c.retranslated.get(),
            uncached: c.uncached.get(),
        }
    }

    pub fn drops(&self, port: u32, reason: Drop) -> u64 {
        self.worker.stats().port(DpPort(port)).map_or(0, |c| c.drops.get(reason))
    }

    /// Fails unless every frame ended in one counted way.
    pub fn check_conservation(&self) {
        let t = self.worker.stats().total();
        let begun = t.rx_packets.get() + t.injected.get() + t.clones.get();
        let ended = t.tx_packets.get() + t.punted.get() + t.drops.total();
        assert_eq!(begun, ended, "{t:#?}");
    }
}

/// Outcomes of look-ups.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub revalidated: u64,
    pub retranslated: u64,
    pub uncached: u64,
}

/// A UDP frame's fields.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    pub src_mac: u8,
    pub dst_mac: u8,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub sport: u16,
    pub dport: u16,
    pub ttl: u8,
    pub len: usize,
}

impl Default for Udp {
    fn default() -> Self {
        Udp {
            src_mac: 1,
            dst_mac: 2,
            src: [10, 0, 0, 1],
            dst: [10, 0, 0, 2],
            sport: 1000,
            dport: 53,
            ttl: 64,
            len: 18,
        }
    }
}

impl Udp {
    /// The frame, without a UDP checksum (RFC 768 permits that over IPv4).
    pub fn bytes(&self) -> Vec<u8> {
        let mut b = vec![2, 0, 0, 0, 0, self.dst_mac, 2, 0, 0, 0, 0, self.src_mac, 0x08, 0x00];
        let total = (20 + 8 + self.len) as u16;
        let mut ip = vec![0x45, 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0, 0, 0x40, 0, self.ttl, 17, 0, 0]);
        ip.extend(self.src);
        ip.extend(self.dst);
        let sum: u32 = ip.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]]) as u32).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !((folded & 0xffff) as u16 + (folded >> 16) as u16);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        b.extend(ip);
        b.extend(self.sport.to_be_bytes());
        b.extend(self.dport.to_be_bytes());
        b.extend((8 + self.len as u16).to_be_bytes());
        b.extend([0, 0]);
        b.extend((0..self.len).map(|i| i as u8));
        b
    }
}

pub fn output(port: u32) -> DpAction {
    DpAction::Output(DpPort(port))
}
