//! Threads for workers: each runs `Worker::step` while there is something to do and sleeps in epoll when there is not.

use crate::clock::Clock;
use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use base::{Counter, HashSeed, Instant};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use datapath::command::{COMMANDS_MAX, EVENTS_MAX, FlowFilter};
use datapath::conntrack::ConnTracker;
use datapath::{
    Command, CommandRefused, DumpCursor, Event, FlowDump, FragmentDump, Progress, RxQueue, Worker,
    WorkerConfig, WorkerPeer, WorkerSetup, WorkerStats,
};
use packet::DpPort;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use switch::forwarding::Forwarding;
use sys::affinity::ThreadId;
use sys::clock::RunDelay;
use sys::poll::{Interest, PollToken, Poller};

/// Longest that the main thread waits for a worker's answer. A worker answers at its next batch boundary, so only a stalled
/// machine comes near.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// What every worker is made of, for those to come.
pub struct Ingredients {
    /// What workers work from.
    pub snapshot: Arc<ArcSwap<Forwarding>>,
    /// Secret of their hashes.
    pub seed: HashSeed,
    /// Connections.
    pub tracker: Arc<ConnTracker>,
    /// The clock.
    pub clock: Clock,
    /// Wakes the main thread when a worker has an event.
    pub notify: Arc<dyn Fn() + Send + Sync>,
}

/// Time that a worker's thread was busy, in nanoseconds of the kernel's clock. Written by that thread.
#[derive(Debug, Default)]
pub struct BusyTime {
    /// In steps that moved frames.
    pub traffic: Counter,
    /// In steps that only carried out commands.
    pub other: Counter,
    /// How many steps moved frames.
    pub steps: Counter,
}

/// A running worker's thread.
struct Running {
    thread: JoinHandle<()>,
    /// Nothing ever comes; the other end is there as long as the thread runs.
    end: Receiver<Infallible>,
    /// How many steps it had begun when it was waited for in vain: until it begins another it is not waited for again.
    late: Cell<Option<u64>>,
    /// Whether it had no room to be told the settings.
    config_owed: Cell<bool>,
    id: ThreadId,
    busy: Arc<BusyTime>,
    /// What had been done when it began to be counted.
    before: Work,
}

impl Running {
    /// Whether it was waited for in vain and is still where it was then.
    fn is_late(&self, stats: &WorkerStats) -> bool {
        self.late.get() == Some(stats.steps.get())
    }

    /// Waits for something from the thread, but not a second time for one that let that time pass and is where it was.
    fn await_within<T>(
        &self,
        answer: &Receiver<T>,
        stats: &WorkerStats,
        wait: Duration,
    ) -> Result<T, RecvTimeoutError> {
        let steps = stats.steps.get();
        let answered = answer.recv_timeout(if self.is_late(stats) { Duration::ZERO } else { wait });
        let in_vain = matches!(answered, Err(RecvTimeoutError::Timeout));
        // One that goes on while it is waited for has only much to do.
        self.late.set((in_vain && stats.steps.get() == steps).then_some(steps));
        answered
    }
}

/// A worker that is to end.
struct Ending {
    peer: WorkerPeer,
    running: Running,
    /// Whether it has been told.
    told: bool,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames received from devices.
    pub received: u64,
    /// Times that a frame was looked up again.
    pub recirculated: u64,
    /// Frames that found a cached flow.
    pub hits: u64,
    /// Frames that were translated.
    pub translated: u64,
    /// Frames whose port had no credit left for that.
    pub lost: u64,
    /// Nanoseconds, by the kernel's clock.
    pub elapsed: u64,
    /// Nanoseconds in steps that moved frames.
    pub busy: u64,
    /// Nanoseconds in steps that only carried out commands.
    pub other: u64,
    /// Steps.
    pub steps: u64,
    /// Steps that moved frames.
    pub busy_steps: u64,
    /// Frames sent to devices.
    pub sent: u64,
}

impl Work {
    /// All that a worker has done up to now.
    fn of(stats: &WorkerStats, busy: &BusyTime) -> Work {
        let (ports, cache) = (stats.total(), &stats.cache);
        let lost = ports.drops.get(datapath::Drop::MissCredit);
        let missed = cache.misses.get() + cache.retranslated.get();
        Work {
            received: ports.rx_packets.get(),
            recirculated: cache.recirculated.get(),
            hits: cache.hits.get(),
            translated: missed.saturating_sub(lost),
            lost,
            elapsed: sys::clock::monotonic().as_nanos(),
            busy: busy.traffic.get(),
            other: busy.other.get(),
            steps: stats.steps.get(),
            busy_steps: busy.steps.get(),
            sent: ports.tx_packets.get(),
        }
    }

    /// What was done after `before`.
    fn since(self, before: Work) -> Work {
        Work {
            received: self.received.saturating_sub(before.received),
            recirculated: self.recirculated.saturating_sub(before.recirculated),
            hits: self.hits.saturating_sub(before.hits),
            translated: self.translated.saturating_sub(before.translated),
            lost: self.lost.saturating_sub(before.lost),
            elapsed: self.elapsed.saturating_sub(before.elapsed),
            busy: self.busy.saturating_sub(before.busy),
            other: self.other.saturating_sub(before.other),
            steps: self.steps.saturating_sub(before.steps),
            busy_steps: self.busy_steps.saturating_sub(before.busy_steps),
            sent: self.sent.saturating_sub(before.sent),
        }
    }
}

/// A receiving side that was asked of a worker which has not answered yet. It comes when the worker does; if this is dropped,
/// it stays there.
pub struct LateSide {
    peer: WorkerPeer,
    /// Where the answer comes; `None` while the worker has no room for the question.
    answer: Option<Receiver<Option<RxQueue>>>,
}

/// A port that a worker is to forget.
struct Owed {
    peer: WorkerPeer,
    port: DpPort,
    /// Where its receiving sides come, to be closed here: that may take long. `None` while the worker has no room to be asked.
    sides: Option<Receiver<Vec<RxQueue>>>,
    /// Whether it was told to send no more.
    tx_told: bool,
}

impl Owed {
    /// Asks the worker as far as it has room, and looks for its answer without waiting. Whether all is done, as it is with
    /// one that had ended before.
    fn is_done(&mut self) -> bool {
        let (port, peer) = (self.port, &self.peer);
        let is_told = |command| peer.send(command) != Err(CommandRefused::Full);
        if self.sides.is_none() {
            let (reply, sides) = bounded(1);
            self.sides = is_told(Command::RemoveRx { port, reply: Some(reply) }).then_some(sides);
        }
        let Some(sides) = &self.sides else { return false };
        self.tx_told = self.tx_told || is_told(Command::RemoveTx { port, done: None });
        self.tx_told && !matches!(sides.try_recv(), Err(TryRecvError::Empty))
    }
}

impl LateSide {
    /// Whether the worker was asked.
    pub fn is_asked(&self) -> bool {
        self.answer.is_some()
    }

    /// Asks if that was not possible before.
    fn ask(&mut self, port: DpPort, number: u16) {
        if self.answer.is_none() {
            let (reply, answer) = bounded(1);
            let asked = self.peer.send(Command::TakeRx { port, number, reply });
            // One that has ended answers no more, which the next look finds.
            self.answer = (asked != Err(CommandRefused::Full)).then_some(answer);
        }
    }

    /// Looks for the answer without waiting: the side, or that the worker had none.
    ///
    /// # Errors
    /// There is none yet.
    pub fn poll(mut self, port: DpPort, number: u16) -> Result<Option<RxQueue>, LateSide> {
        self.ask(port, number);
        match self.answer.as_ref().map(Receiver::try_recv) {
            Some(Ok(taken)) => Ok(taken),
            Some(Err(TryRecvError::Disconnected)) => Ok(None),
            Some(Err(TryRecvError::Empty)) | None => Err(self),
        }
    }
}

/// The running workers: at least one, numbered from 0 on.
pub struct Workers {
    ingredients: Ingredients,
    config: WorkerConfig,
    peers: Vec<WorkerPeer>,
    threads: Vec<Running>,
    /// Workers that are to end, or are ending, and receive nothing any more once they have given back what was asked of them.
    ending: Vec<Ending>,
    /// Ports that workers may still have: as many as were removed while a worker stood still.
    owed: RefCell<Vec<Owed>>,
    /// Ports that were removed and for which workers that are to end may still count; kept until all those have ended.
    removed: RefCell<BTreeSet<DpPort>>,
    /// Longest that is waited for an answer.
    answer_wait: Duration,
    /// The processors that they are bound to, each to one; `None` while they are not.
    cpus: Option<Vec<usize>>,
    /// What workers counted that have ended.
    past: WorkerStats,
    event_sender: Sender<Event>,
    events: Receiver<Event>,
    /// Commands sent to single workers that may still wait.
    waiting: Cell<usize>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// A thread or its epoll could not be made.
    pub fn start(count: usize, ingredients: Ingredients) -> Result<Workers> {
        let (event_sender, events) = bounded(EVENTS_MAX);
        let mut workers = Workers {
            ingredients,
            config: WorkerConfig::default(),
            peers: Vec::new(),
            threads: Vec::new(),
            ending: Vec::new(),
            owed: RefCell::default(),
            removed: RefCell::default(),
            answer_wait: ANSWER_WAIT_MAX,
            cpus: None,
            past: WorkerStats::default(),
            event_sender,
            events,
            waiting: Cell::new(0),
        };
        for _ in 0..count {
            workers.start_one()?;
        }
        Ok(workers)
    }

    /// Starts one more, which has no port yet.
    ///
    /// # Errors
    /// A thread or its epoll could not be made.
    pub fn start_one(&mut self) -> Result<()> {
        let Ingredients { snapshot, seed, tracker, clock, notify } = &self.ingredients;
        let poller = Poller::new().context("epoll")?;
        let waker = poller.waker();
        let wake: datapath::Wake = Arc::new(move || waker.wake());
        let setup = WorkerSetup {
            snapshot: Arc::clone(snapshot),
            seed: *seed,
            config: self.config,
            tracker: Arc::clone(tracker),
            events: self.event_sender.clone(),
            wake,
        };
        let (clock, notify) = (clock.clone(), Arc::clone(notify));
        let pending = self.events.clone();
        let busy = Arc::<BusyTime>::default();
        let noted = Arc::clone(&busy);
        let (hand_over, take): (Sender<(WorkerPeer, ThreadId)>, _) = bounded(1);
        let (alive, end) = bounded(0);
        // A worker is made on its own thread: its buffers are then near it, and nothing of it need be `Send`.
        let body = move || {
            let _alive: Sender<Infallible> = alive;
            let (worker, peer) = Worker::new(setup);
            if hand_over.send((peer, ThreadId::own())).is_ok() {
                run(worker, poller, &clock, &noted, &|| {
                    if !pending.is_empty() {
                        notify();
                    }
                });
            }
        };
        let builder = std::thread::Builder::new().name(format!("worker-{}", self.peers.len()));
        let thread = builder.spawn(body).context("cannot start a worker thread")?;
        let (peer, id) = take.recv().context("a worker ended at once")?;
        let before = Work::of(peer.stats(), &busy);
        let (late, config_owed) = (Cell::new(None), Cell::new(false));
        self.threads.push(Running { thread, end, late, config_owed, id, busy, before });
        self.peers.push(peer);
        Ok(())
    }

    /// Takes the last one out of the row, which must have been asked for what it receives from; [`Self::end`] ends it.
    pub fn retire_last(&mut self) {
        if let (Some(peer), Some(running)) = (self.peers.pop(), self.threads.pop()) {
            self.removed.get_mut().extend(self.owed.get_mut().iter().map(|owed| owed.port));
            self.ending.push(Ending { peer, running, told: false });
        }
    }

    /// Ends those that were taken out of the row, as far as they answer. What they counted is kept. To be called again while
    /// [`Self::is_any_ending`].
    pub fn end(&mut self) {
        // All are told before one is waited for, and all together have so long.
        for ending in &mut self.ending {
            ending.told = ending.told || ending.peer.send(Command::Stop) != Err(CommandRefused::Full);
        }
        let until = sys::clock::monotonic() + self.answer_wait;
        for ending in std::mem::take(&mut self.ending) {
            let Ending { peer, running, told } = &ending;
            let wait = until.saturating_since(sys::clock::monotonic());
            let waited = || running.await_within(&running.end, peer.stats(), wait);
            if *told && waited() == Err(RecvTimeoutError::Disconnected) {
                // A worker that panicked has taken the process with it, so this cannot fail.
                let _ = ending.running.thread.join();
                let ended = ending.peer.stats();
                self.past.absorb(ended);
                // What it was asked after it was told to end waits in its queue for as long as somebody could ask more.
                self.owed.get_mut().retain(|owed| !Arc::ptr_eq(owed.peer.stats(), ended));
                self.removed.get_mut().iter().for_each(|port| self.past.forget_port(*port));
            } else {
                self.ending.push(ending);
            }
        }
        if self.ending.is_empty() {
            self.removed.get_mut().clear();
        }
    }

    /// Whether a worker that is to end has not ended.
    pub fn is_any_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Binds each worker to one of these processors, or lets all run on any. Processors for which there is no worker, as one could
    /// not be started, are left out.
    pub fn bind(&mut self, mut cpus: Option<Vec<usize>>, all: &[usize]) {
        if let Some(cpus) = &mut cpus {
            cpus.truncate(self.count());
        }
        for (n, running) in self.threads.iter().enumerate() {
            let own = cpus.as_ref().and_then(|cpus| cpus.get(n..=n)).unwrap_or(all);
            if let Err(error) = running.id.bind(own) {
                tracing::warn!(target: "dpif_netdev", "worker {n} cannot be bound to processors {own:?}: {error}");
            }
        }
        self.cpus = cpus;
    }

    /// The processors that workers are bound to, in their order.
    pub fn cpus(&self) -> Option<&[usize]> {
        self.cpus.as_deref()
    }

    /// The worker on a processor; while they are not bound, the one of this number.
    pub fn on_cpu(&self, cpu: usize) -> Option<usize> {
        match &self.cpus {
            Some(cpus) => cpus.iter().position(|c| *c == cpu),
            None => (cpu < self.count()).then_some(cpu),
        }
    }

    /// The processor of a worker, or its number while they are not bound.
    pub fn cpu_of(&self, worker: usize) -> usize {
        self.cpus.as_ref().and_then(|cpus| cpus.get(worker).copied()).unwrap_or(worker)
    }

    /// How long each worker has been busy.
    pub fn busy(&self) -> impl Iterator<Item = &BusyTime> {
        self.threads.iter().map(|running| &*running.busy)
    }

    /// What each worker has done since it was started, or since [`Self::count_anew`].
    pub fn work(&self) -> impl Iterator<Item = Work> {
        let running = self.peers.iter().zip(&self.threads);
        running.map(|(peer, running)| Work::of(peer.stats(), &running.busy).since(running.before))
    }

    /// Lets [`Self::work`] of a worker begin anew. Counters go on.
    pub fn count_anew(&mut self, worker: usize) {
        if let (Some(peer), Some(running)) = (self.peers.get(worker), self.threads.get_mut(worker)) {
            running.before = Work::of(peer.stats(), &running.busy);
        }
    }

    /// What workers count, and what those counted that have ended.
    pub fn stats(&self) -> impl Iterator<Item = &WorkerStats> {
        let ending = self.ending.iter().map(|ending| &ending.peer);
        self.peers.iter().chain(ending).map(|peer| &**peer.stats()).chain([&self.past])
    }

    /// The workers.
    pub fn peers(&self) -> &[WorkerPeer] {
        &self.peers
    }

    /// What happened at workers since this was last asked.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.try_iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.peers.len()
    }

    /// Sends a command to one worker. Waits for the workers from time to time, so that no number of commands is too much for
    /// them: one that is refused is lost, with what it carries.
    ///
    /// # Errors
    /// See [`CommandRefused`].
    pub fn send(&self, worker: usize, command: Command) -> Result<(), CommandRefused> {
        if self.waiting.get() >= COMMANDS_MAX / 2 {
            self.settle();
        }
        self.waiting.set(self.waiting.get() + 1);
        self.peers.get(worker).ok_or(CommandRefused::Ended)?.send(command)
    }

    /// Sends each worker a command that it confirms, and waits for all, but not again for one that stands still. Commands
    /// are carried out in their order, so that what it is told now it does before anything that it is told later.
    fn confirm<T>(&self, command: impl Fn(Sender<T>) -> Command) -> Vec<T> {
        let ask = |(peer, running): (&WorkerPeer, &Running)| {
            let (reply, answer) = bounded(1);
            // The queue of one that stands still is left to what must not be lost.
            let has_room = !running.is_late(peer.stats()) || peer.waiting() < COMMANDS_MAX / 2;
            (has_room && peer.send(command(reply)).is_ok()).then_some(answer)
        };
        let asked: Vec<_> = self.peers.iter().zip(&self.threads).map(ask).collect();
        let until = sys::clock::monotonic() + self.answer_wait;
        let workers = self.peers.iter().zip(&self.threads).zip(&asked);
        let answers = workers.filter_map(|((peer, running), answer)| {
            let wait = until.saturating_since(sys::clock::monotonic());
            running.await_within(answer.as_ref()?, peer.stats(), wait).ok()
        });
        answers.collect()
    }

    /// Makes every worker credit what its cached flows have counted.
    pub fn fold(&self) {
        self.confirm(|done| Command::Fold { done: Some(done) });
    }

    /// Removes every cached flow; how many there were.
    pub fn flush(&self) -> usize {
        self.confirm(|reply| Command::Flush { reply: Some(reply) }).into_iter().sum()
    }

    /// Removes the cached flows that are meant; how many there were, of all workers.
    pub fn remove_flows(&self, which: &FlowFilter) -> usize {
        self.confirm(|reply| Command::RemoveFlows { which: Arc::clone(which), reply: Some(reply) })
            .into_iter()
            .sum()
    }

    /// What each worker's reassembly holds, and has done.
    pub fn fragments(&self) -> Vec<FragmentDump> {
        self.confirm(|reply| Command::Fragments { reply })
    }

    /// Changes the settings of all workers. Those that have no room to be told are left to [`Self::carry_out_owed`].
    pub fn configure(&mut self, config: WorkerConfig) {
        self.config = config;
        self.threads.iter().for_each(|running| running.config_owed.set(true));
        self.send_config();
    }

    /// Tells the settings to those that have not been told.
    fn send_config(&self) {
        for (peer, running) in self.peers.iter().zip(&self.threads).filter(|(_, r)| r.config_owed.get()) {
            let is_full = peer.send(Command::Configure(self.config)) == Err(CommandRefused::Full);
            running.config_owed.set(is_full);
        }
    }

    /// Waits until every worker has carried out what was sent before.
    pub fn settle(&self) {
        self.fold();
        self.waiting.set(0);
    }

    /// Every cached flow of a worker, in pieces.
    pub fn dump(&self, worker: usize, mut each: impl FnMut(FlowDump)) {
        let mut from = Some(DumpCursor::default());
        while let (Some(cursor), Some(peer), Some(running)) =
            (from, self.peers.get(worker), self.threads.get(worker))
        {
            let (reply, answer) = bounded(1);
            if peer.send(Command::DumpFlows { from: cursor, reply }).is_err() {
                return;
            }
            let Ok(dump) = running.await_within(&answer, peer.stats(), self.answer_wait) else { return };
            from = dump.next;
            each(dump);
        }
    }

    /// Takes a receiving side of a port from a worker, which has sent all that it received from it; `None` if it has none.
    ///
    /// # Errors
    /// The worker does not answer in time. The side comes when it does.
    pub fn take_rx(&self, worker: usize, port: DpPort, number: u16) -> Result<Option<RxQueue>, LateSide> {
        let (Some(peer), Some(running)) = (self.peers.get(worker), self.threads.get(worker)) else {
            return Ok(None);
        };
        let mut side = LateSide { peer: peer.clone(), answer: None };
        side.ask(port, number);
        if let Some(answer) = &side.answer
            && let Ok(taken) = running.await_within(answer, side.peer.stats(), self.answer_wait)
        {
            return Ok(taken);
        }
        side.poll(port, number)
    }

    /// Lets a worker receive from a side.
    ///
    /// # Errors
    /// It has no room for the command at the moment: here the side is again.
    pub fn give_rx(&self, worker: usize, port: DpPort, queue: RxQueue) -> Result<(), RxQueue> {
        let Some(peer) = self.peers.get(worker) else { return Err(queue) };
        if self.waiting.get() >= COMMANDS_MAX / 2 {
            self.settle();
        }
        self.waiting.set(self.waiting.get() + 1);
        match peer.offer(Command::AddRx { port, queue, done: None }).map_err(|refused| refused.0) {
            Err(Command::AddRx { queue, .. }) => Err(queue),
            _ => Ok(()),
        }
    }

    /// Stops receiving on and sending to a port, on every worker, and waits for it, but not for workers that are to end. What one
    /// does not answer, or has no room to be asked, is left to [`Self::carry_out_owed`].
    pub fn remove_port(&self, port: DpPort) {
        let owed = |peer: &WorkerPeer| Owed { peer: peer.clone(), port, sides: None, tx_told: false };
        let ending = self.ending.iter().map(|ending| &ending.peer);
        self.owed.borrow_mut().extend(self.peers.iter().chain(ending).map(owed));
        if self.is_any_ending() {
            self.removed.borrow_mut().insert(port);
        }
        self.remove_owed();
        self.settle();
        self.remove_owed();
        self.past.forget_port(port);
    }

    /// Takes removed ports from workers that did not answer before.
    fn remove_owed(&self) {
        self.owed.borrow_mut().retain_mut(|owed| !owed.is_done());
    }

    /// Does what workers did not answer, or had no room for, before. To be called again while [`Self::is_any_owed`].
    pub fn carry_out_owed(&self) {
        self.send_config();
        self.remove_owed();
    }

    /// Whether a worker has a port that was removed, or not the settings that it is to have.
    pub fn is_any_owed(&self) -> bool {
        !self.owed.borrow().is_empty() || self.threads.iter().any(|running| running.config_owed.get())
    }

    /// Has answers waited for so long.
    #[cfg(test)]
    pub fn set_patience(&mut self, answer_wait: Duration) {
        self.answer_wait = answer_wait;
    }

    /// Where they look for what they work from.
    #[cfg(test)]
    pub fn snapshot(&self) -> &ArcSwap<Forwarding> {
        &self.ingredients.snapshot
    }

    /// Ends the threads. One that does not answer is left to the end of the process.
    pub fn stop(&mut self) {
        let ending = self.peers.drain(..).zip(self.threads.drain(..));
        self.ending.extend(ending.map(|(peer, running)| Ending { peer, running, told: false }));
        self.end();
    }
}

/// Whether to look for frames for a moment without sleeping: sleeping and being woken cost more than a short wait. Only where
/// frames have been coming close together, so that a quiet switch uses no processor at all, and only while nobody else wants
/// the processor for long: it would be taken from the pods, and who wakes up is served sooner than who never slept. A pod that is
/// woken by a frame, answers and sleeps again takes the processor too, but not for long.
struct Vigil {
    /// When frames last came.
    last: Instant,
    /// Running mean of the time between arrivals, each counted as at most [`VIGIL_GAP_MAX`].
    gap: Duration,
    /// Arrivals since it was last asked whether the processor is wanted.
    arrivals: u32,
    /// How long this thread had waited for a processor then.
    delay: Duration,
    /// No vigil before.
    rests_until: Instant,
}

/// Longest that a worker looks for frames without sleeping.
const VIGIL_MAX: Duration = Duration::from_micros(50);
/// What a long time between arrivals counts as: a few short ones after it make a worker watchful again.
const VIGIL_GAP_MAX: Duration = Duration::from_micros(400);
/// Arrivals after which it is asked again whether somebody else wants the processor.
const VIGIL_ARRIVALS: u32 = 64;
/// Mean wait for a processor, an arrival, from which on somebody else wants it. A pod on the same processor has a few microseconds
/// of work for a frame; a program that computes has it for milliseconds at a time.
const VIGIL_DELAY_MAX: Duration = Duration::from_micros(6);
/// Time for which a worker sleeps as soon as it can after somebody else has wanted its processor.
const VIGIL_REST: Duration = Duration::from_millis(100);

impl Vigil {
    fn new(now: Instant) -> Self {
        Vigil { last: now, gap: VIGIL_GAP_MAX, arrivals: 0, delay: Duration::ZERO, rests_until: now }
    }

    /// Notes whether frames came; whether to stay awake. `delay` tells how long this thread has waited for a processor; if it cannot,
    /// there is no vigil.
    fn is_kept(&mut self, now: Instant, has_frames: bool, delay: impl FnOnce() -> Option<Duration>) -> bool {
        if has_frames {
            let gap = now.saturating_since(self.last).min(VIGIL_GAP_MAX);
            self.gap = (self.gap * 7 + gap) / 8;
            self.last = now;
            self.arrivals = self.arrivals.saturating_add(1);
        }
        if self.gap >= VIGIL_MAX || now < self.rests_until {
            return false;
        }
        if self.arrivals >= VIGIL_ARRIVALS {
            let most = VIGIL_DELAY_MAX * std::mem::take(&mut self.arrivals);
            let wait = delay().map(|sum| sum.saturating_sub(std::mem::replace(&mut self.delay, sum)));
            if wait.is_none_or(|wait| wait > most) {
                self.rests_until = now + VIGIL_REST;
                return false;
            }
        }
        now.saturating_since(self.last) < VIGIL_MAX
    }
}

/// `after_step` is called after each step: it tells the main thread if there is news.
fn run(
    mut worker: Worker<Forwarding>,
    mut poller: Poller,
    clock: &Clock,
    busy: &BusyTime,
    after_step: &dyn Fn(),
) {
    let mut generation = u64::MAX;
    let mut ready = Vec::new();
    // By the kernel's clock: the daemon's may stand still.
    let mut vigil = Vigil::new(sys::clock::monotonic());
    let delay = RunDelay::of_this_thread();
    loop {
        let began = sys::clock::monotonic();
        let progress = worker.step(clock.at(began));
        let ended = sys::clock::monotonic();
        let time = u64::try_from(ended.saturating_since(began).as_nanos()).unwrap_or(0);
        match progress {
            Progress { frames: 1.., .. } => {
                busy.traffic.add(time);
                busy.steps.add(1);
            }
            Progress { commands: 1.., .. } => busy.other.add(time),
            _ => {}
        }
        after_step();
        if progress.stopped {
            return;
        }
        if worker.poll_generation() != generation {
            generation = worker.poll_generation();
            watch(&worker, &mut poller);
        }
        // Busy workers look without waiting, so that a port that was quiet is not overheard.
        let stays_awake = vigil.is_kept(ended, progress.frames > 0, || delay.read());
        let waited = if progress.idle && !stays_awake {
            let now = clock.at(ended);
            let deadline = worker.next_deadline().map(|at| ended + at.saturating_since(now));
            poller.wait_until(deadline, &mut ready)
        } else {
            poller.wait(Some(Duration::ZERO), &mut ready)
        };
        if let Err(error) = waited {
            tracing::error!(target: "dpif", "a worker cannot wait for its ports: {error}");
        }
        for event in &ready {
            worker.wake_rx(datapath::RxToken(event.token.0));
        }
    }
}

/// Makes epoll watch the descriptors that the worker names now. The set is made anew: a receiving side that is gone may
/// have left a duplicate of its descriptor with the sending side, which would be reported for ever.
fn watch(worker: &Worker<Forwarding>, poller: &mut Poller) {
    if let Err(error) = poller.clear() {
        tracing::error!(target: "dpif", "a worker cannot change what it waits for: {error}");
    }
    for (fd, token) in worker.poll_fds() {
        if let Err(error) = poller.add(fd, PollToken(token.0), Interest::Read) {
            tracing::warn!(target: "dpif", "a worker cannot wait for a port: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// How long a worker stays awake after `count` arrivals `gap` apart, looking every microsecond.
    fn awake_after(count: u32, gap: Duration) -> Duration {
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut vigil = Vigil::new(now);
        for _ in 0..count {
            now += gap;
            vigil.is_kept(now, true, || Some(Duration::ZERO));
        }
        let mut awake = Duration::ZERO;
        while awake < VIGIL_MAX * 2 && vigil.is_kept(now + awake, false, || Some(Duration::ZERO)) {
            awake += micros(1);
        }
        awake
    }

    #[test]
    fn a_worker_stays_awake_a_moment_after_close_traffic_and_never_otherwise() {
        assert_eq!(awake_after(0, micros(0)), Duration::ZERO);
        assert_eq!(awake_after(1, micros(5)), Duration::ZERO);
        assert_eq!(awake_after(100, micros(5)), VIGIL_MAX);
        assert_eq!(awake_after(10_000, micros(60)), Duration::ZERO);
        assert_eq!(awake_after(10_000, Duration::from_secs(1)), Duration::ZERO);
        // However quiet it was before, some twenty close arrivals are enough.
        assert!((10..25).any(|n| awake_after(n, micros(10)) == VIGIL_MAX));
    }

    /// A vigil over frames that come 5 µs apart, for each of which the worker waits so long for its processor.
    struct Watched {
        now: Instant,
        vigil: Vigil,
        delay: Option<Duration>,
    }

    impl Watched {
        fn new() -> Watched {
            let now = Instant::from_nanos(1_000_000_000);
            Watched { now, vigil: Vigil::new(now), delay: Some(Duration::ZERO) }
        }

        fn arrive(&mut self, wait: Duration) -> bool {
            self.now += micros(5);
            self.delay = self.delay.map(|sum| sum + wait);
            let delay = self.delay;
            self.vigil.is_kept(self.now, true, || delay)
        }
    }

    #[test]
    fn a_worker_whose_processor_is_wanted_sleeps_for_a_while() {
        let mut watched = Watched::new();
        for _ in 0..1_000 {
            watched.arrive(micros(0));
        }
        assert!(watched.arrive(micros(0)));
        // Noticed before long, for a tenth of a second, and forgotten then.
        let noticed = (0..).position(|_| !watched.arrive(micros(7))).unwrap();
        assert!(noticed < 128, "{noticed}");
        let slept = (0..).position(|_| watched.arrive(micros(2))).unwrap();
        assert_eq!(micros(5) * slept as u32, VIGIL_REST - micros(5));
        assert!((0..10_000).all(|_| watched.arrive(micros(2))));
        // One that has it for long, though seldom.
        assert!(!watched.arrive(micros(3_000)) || (0..VIGIL_ARRIVALS).any(|_| !watched.arrive(micros(2))));
    }

    #[test]
    fn a_pod_that_answers_on_the_same_processor_and_a_wait_long_ago_keep_nobody_from_watching() {
        let mut watched = Watched::new();
        for _ in 0..1_000 {
            watched.arrive(micros(4));
        }
        assert!((0..100_000).all(|_| watched.arrive(micros(4))));
        // While few frames come, what is waited is nobody's loss.
        for _ in 0..1_000 {
            watched.now += Duration::from_secs(1);
            watched.arrive(micros(5));
        }
        let begun = (0..).position(|_| watched.arrive(micros(4))).unwrap();
        assert!(begun < 30, "{begun}");
    }

    #[test]
    fn without_accounts_of_waiting_there_is_no_vigil() {
        let mut watched = Watched::new();
        watched.delay = None;
        let kept = (0..100_000).filter(|_| watched.arrive(micros(0))).count();
        assert!(kept < 100, "{kept}");
    }
}
