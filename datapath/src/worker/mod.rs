//! A worker: it receives from its ports, forwards through its own flow cache, and answers commands between batches.
//!
//! [`Worker::step`] does a bounded amount of work and never waits. The shell calls it again at once while
//! [`Progress::idle`] is false, and otherwise sleeps until one of [`Worker::poll_fds`] is readable,
//! [`Worker::next_deadline`] has come, or [`WorkerPeer::send`](crate::WorkerPeer::send) wakes it. With each readable
//! descriptor it calls [`Worker::wake_rx`].
//!
//! Not here: threads, clocks, polling.

#![warn(clippy::indexing_slicing)]

mod forward;
mod recorder;
mod requests;
mod turns;

pub use forward::RECIRCULATIONS_MAX;

use crate::cache::FlowCache;
use crate::command::{COMMANDS_MAX, Command, Event, Wake, WorkerConfig, WorkerPeer};
use crate::conntrack::ConnTracker;
use crate::execute::Executor;
use crate::fragments::Side;
use crate::port::{PortError, RxQueue};
use crate::ports::{PortIndex, Ports};
use crate::slowpath::SlowPath;
use crate::stats::WorkerStats;
use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use crossbeam_channel::{Receiver, Sender};
use forward::{Pass, PassRoom, Staging};
use packet::{Batch, DpPort};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use turns::{Account, Pace, Turn, Turns};

/// Pause before a receiving side that failed is tried again.
pub const RX_RETRY: Duration = Duration::from_millis(500);
/// Pause before a device that had no room is given again what it left.
pub const TX_RETRY: Duration = Duration::from_millis(1);
/// A receiving side that had nothing is tried without having been woken every so many steps, so that a shell which does not
/// call [`Worker::wake_rx`] loses speed and not frames.
const RX_RESCAN_STEPS: u64 = 64;
/// Events that wait in the worker while the channel is full. Those of devices that are gone always find room: there is one
/// a port at most.
const EVENTS_PENDING_MAX: usize = 256;

/// What a worker is made of.
pub struct WorkerSetup<S> {
    /// Where the newest snapshot is found.
    pub snapshot: Arc<ArcSwap<S>>,
    /// Secret of the cache's hash.
    pub seed: HashSeed,
    /// Settings.
    pub config: WorkerConfig,
    /// The connections, which all workers share.
    pub tracker: Arc<ConnTracker>,
    /// Where events go; bounded, `EVENTS_MAX` is plenty.
    pub events: Sender<Event>,
    /// How to wake the worker's thread.
    pub wake: Wake,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Progress {
    /// Frames received or injected.
    pub frames: usize,
    /// Commands carried out.
    pub commands: usize,
    /// Whether there is nothing more to do, so that the thread may sleep.
    pub idle: bool,
    /// Whether a `Stop` was carried out; further steps do nothing.
    pub stopped: bool,
}

/// Names a receiving side of a worker. Never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RxToken(pub u64);

struct RxEntry {
    port: DpPort,
    index: PortIndex,
    queue: RxQueue,
    token: RxToken,
    /// Whether there may be something to receive.
    ready: bool,
    /// Whether and when it has a turn.
    account: Account,
    /// Not to be tried before this time: it failed.
    resume_at: Option<Instant>,
    /// Whether the failure has been reported.
    reported: bool,
    /// Whether the device is gone, so that this is removed at the end of the round.
    gone: bool,
}

impl RxEntry {
    /// Whether it is to be asked for frames: not if it is known to have none, or failed a moment ago.
    fn may_give(&self, now: Instant, rescan: bool) -> bool {
        match self.resume_at {
            Some(at) => at <= now,
            None => self.ready || rescan || self.queue.rx.poll_fd().is_none(),
        }
    }
}

/// What a round is about, and has done.
struct Round {
    first: usize,
    now: Instant,
    /// Whether sides are asked that were not said to have frames.
    rescan: bool,
    frames: usize,
    /// Whether a device is gone.
    gone: bool,
}

/// One worker. See the module's text for how it is driven.
pub struct Worker<S: SlowPath> {
    snapshot: arc_swap::Cache<Arc<ArcSwap<S>>, Arc<S>>,
    config: WorkerConfig,
    cache: FlowCache,
    executor: Executor,
    receivers: Vec<RxEntry>,
    turns: Turns,
    batch: Batch,
    staging: Staging,
    room: PassRoom<S>,
    commands: Receiver<Command>,
    events: Sender<Event>,
    events_pending: Vec<Event>,
    stats: Arc<WorkerStats>,
    next_token: u64,
    poll_generation: u64,
    /// When to flush again what devices had no room for.
    flush_at: Option<Instant>,
    stopped: bool,
}

impl<S: SlowPath> Worker<S> {
    /// A worker without ports, and what other threads reach it by.
    pub fn new(setup: WorkerSetup<S>) -> (Worker<S>, WorkerPeer) {
        let WorkerSetup { snapshot, seed, config, tracker, events, wake } = setup;
        let (sender, commands) = crossbeam_channel::bounded(COMMANDS_MAX);
        let stats = Arc::new(WorkerStats::default());
        let mut cache = FlowCache::new(seed, config.cache);
        let portless = cache.add_share();
        let ports = Ports::new(seed, config.misses, &stats, portless);
        let worker = Worker {
            snapshot: arc_swap::Cache::new(snapshot),
            config,
            cache,
            executor: Executor::new(ports, tracker, seed, config.fragments),
            receivers: Vec::new(),
            turns: Turns::default(),
            batch: Batch::new(),
            staging: Staging::new(),
            room: PassRoom::default(),
            commands,
            events,
            events_pending: Vec::new(),
            stats: stats.clone(),
            next_token: 0,
            poll_generation: 0,
            flush_at: None,
            stopped: false,
        };
        (worker, WorkerPeer::new(sender, stats, wake))
    }

    /// What the worker counts.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// One round: commands, one batch from each receiving side that may have something, flush, housekeeping.
    pub fn step(&mut self, now: Instant) -> Progress {
        if self.stopped {
            return Progress { idle: true, stopped: true, ..Progress::default() };
        }
        self.stats.steps.add(1);
        let (commands, injected) = self.carry_out_commands(now);
        if self.stopped {
            return Progress { frames: injected, commands, idle: false, stopped: true };
        }
        let frames = injected + self.receive(now);
        self.executor.ports.flush(&mut self.executor.pool, &mut self.events_pending);
        self.flush_at = self.executor.ports.is_any_unflushed().then(|| now + TX_RETRY);
        let expired = self.cache.sweep_if_due(now, &**self.snapshot.load());
        self.stats.cache.expired.add(expired as u64);
        self.executor.expire_fragments(now);
        self.stats.fragments_held.set(self.executor.fragments.stats().fragments as u64);
        self.executor.tracker.expire(now);
        self.stats.cache.flows.set(self.cache.len() as u64);
        self.send_events();
        Progress { frames, commands, idle: commands == 0 && !self.is_anyone_ready(), stopped: false }
    }

    fn is_anyone_ready(&self) -> bool {
        self.receivers.iter().any(|r| r.ready && r.resume_at.is_none())
    }

    /// When `step` must be called although nothing is received: `None` if there is nothing to wait for.
    pub fn next_deadline(&self) -> Option<Instant> {
        let resume = self.receivers.iter().filter_map(|r| r.resume_at).min();
        let fragments = self.executor.fragments.next_expiry();
        let connections = self.executor.tracker.next_expiry();
        [self.cache.sweep_due(), resume, fragments, connections, self.flush_at].into_iter().flatten().min()
    }

    /// The descriptors to wait for (readable, level-triggered). They change only when [`Self::poll_generation`] does.
    pub fn poll_fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, RxToken)> {
        let working = self.receivers.iter().filter(|r| r.resume_at.is_none());
        working.filter_map(|r| Some((r.queue.rx.poll_fd()?, r.token)))
    }

    /// Changes whenever the result of [`Self::poll_fds`] may have.
    pub fn poll_generation(&self) -> u64 {
        self.poll_generation
    }

    /// Says that a receiving side has something. Unknown tokens, of sides removed meanwhile, are ignored.
    pub fn wake_rx(&mut self, token: RxToken) {
        if let Some(entry) = self.receivers.iter_mut().find(|r| r.token == token) {
            entry.ready = true;
        }
    }

    /// Says that any receiving side may have something: for drivers that do not poll, such as a simulator.
    pub fn wake_all_rx(&mut self) {
        self.receivers.iter_mut().for_each(|r| r.ready = true);
    }

    /// Takes one batch from each receiving side that may have something, as `turns` says.
    fn receive(&mut self, now: Instant) -> usize {
        let count = self.receivers.len();
        if count == 0 {
            return 0;
        }
        let first = self.turns.begin(count);
        let mut any_busy = false;
        for entry in &mut self.receivers {
            entry.account.begin();
            any_busy |= entry.account.turn != Turn::Quiet;
        }
        let rescan = self.stats.steps.get().is_multiple_of(RX_RESCAN_STEPS);
        let mut round = Round { first, now, rescan, frames: 0, gone: false };
        self.take_turns(Turn::Quiet, &mut round);
        if any_busy {
            self.turns.end_quiet(self.executor.ports.is_quiet_one_unflushed());
            self.executor.ports.flush(&mut self.executor.pool, &mut self.events_pending);
            let before = round.frames;
            self.take_turns(Turn::Busy, &mut round);
            if round.frames == before
                && self.turns.let_in(&mut self.receivers, |r| &mut r.account, |r| r.may_give(now, rescan))
            {
                self.take_turns(Turn::Busy, &mut round);
            }
            self.turns.settle(&mut self.receivers, |r| &mut r.account);
        }
        if round.gone {
            self.remove_receivers(|r| r.gone);
        }
        round.frames
    }

    /// Takes a batch from each receiving side that has its turn now.
    fn take_turns(&mut self, turn: Turn, round: &mut Round) {
        let count = self.receivers.len();
        for n in 0..count {
            let at = (round.first + n) % count;
            let Some(entry) = self.receivers.get_mut(at) else { continue };
            if entry.account.turn != turn || !entry.may_give(round.now, round.rescan) {
                continue;
            }
            if entry.resume_at.take().is_some() {
                self.poll_generation += 1;
            }
            let limit = if turn == Turn::Quiet { Batch::MAX } else { self.turns.batch(&entry.account) };
            self.batch.set_limit(limit);
            // With many busy ports the buffers would run out before the end of the round, and new ones are dear.
            if self.executor.pool.len() < Batch::MAX {
                self.executor.ports.flush(&mut self.executor.pool, &mut self.events_pending);
            }
            let (received, is_gone) = self.receive_from(at, round.now);
            round.frames += received;
            round.gone |= is_gone;
        }
    }

    /// Receives and forwards one batch. Also says whether the device is gone.
    fn receive_from(&mut self, at: usize, now: Instant) -> (usize, bool) {
        let Some(entry) = self.receivers.get_mut(at) else { return (0, false) };
        let (port, index) = (entry.port, entry.index);
        self.executor.fragments.receive_from(Some(Side { port, number: entry.queue.number }));
        let result = entry.queue.rx.recv(&mut self.executor.pool, &mut self.batch);
        let frames = self.batch.len();
        entry.ready = frames > 0 && !entry.queue.rx.is_drained();
        match result {
            Ok(()) => entry.reported = false,
            Err(error) => {
                entry.gone = matches!(error, PortError::Gone);
                entry.ready = false;
                entry.resume_at = Some(now + RX_RETRY);
                self.poll_generation += 1;
                if entry.gone || !entry.reported && self.events_pending.len() < EVENTS_PENDING_MAX {
                    self.events_pending.push(Event::RxFailed { port, error });
                    entry.reported = true;
                }
                if let Some(counters) = self.executor.ports.counters(index) {
                    counters.rx_errors.add(1);
                }
            }
        }
        let gone = entry.gone;
        // What injected frames cost is nobody's.
        (self.executor.work, self.executor.frame_price) = (0, entry.account.frame_price());
        if frames > 0 {
            let bytes = self.batch.frames().iter().map(|f| f.len() as u64).sum();
            entry.queue.load.frames.add(frames as u64);
            entry.queue.load.bytes.add(bytes);
            if let Some(counters) = self.executor.ports.counters(index) {
                counters.rx_packets.add(frames as u64);
                counters.rx_bytes.add(bytes);
            }
            self.forward_batch(port, index, now);
        }
        self.settle_turn(at, frames);
        (frames, gone)
    }

    /// Has a side pay for what its frames cost.
    fn settle_turn(&mut self, at: usize, frames: usize) {
        let Some(entry) = self.receivers.get_mut(at) else { return };
        let cost =
            std::mem::take(&mut self.executor.work) + frames as u64 * u64::from(entry.account.frame_price());
        let before = entry.account.pay(frames, cost);
        if before != entry.account.pace
            && let Some(port) = self.executor.ports.get_mut(entry.index)
        {
            // A port may have several receiving sides, such as a socket for each family of addresses.
            match entry.account.pace {
                Pace::Busy => port.busy += 1,
                Pace::Quiet => port.busy = port.busy.saturating_sub(1),
            }
        }
    }

    /// Forwards what is in the batch under the newest snapshot.
    fn forward_batch(&mut self, port: DpPort, index: PortIndex, now: Instant) {
        for frame in self.batch.frames_mut() {
            frame.in_port = port;
        }
        // After receiving, never before: who sent a frame after the reply to a change meets the change.
        let slow = self.snapshot.load();
        let mut pass =
            Pass::new(&**slow, now, &mut self.cache, &mut self.executor, &mut self.room, &self.stats);
        pass.forward(&mut self.batch, &mut self.staging, index);
    }

    fn send_events(&mut self) {
        if self.events_pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.events_pending).into_iter();
        for event in pending.by_ref() {
            if let Err(error) = self.events.try_send(event) {
                self.events_pending.push(error.into_inner());
                break;
            }
        }
        self.events_pending.extend(pending);
    }
}
