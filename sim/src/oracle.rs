//! The judge of every frame: what a worker did with it, against a fresh translation of its key at that very moment.
//!
//! Workers run under [`Checked`], which stands in front of a production snapshot and passes everything on. A hit in the flow
//! cache asks a snapshot nothing, so the oracle cannot see it; but it knows the frames of the batch, and it sees each
//! translation *before* its side effects are committed. Between two of those nothing that a translation depends on can
//! change, so the frames that the worker handled in between (the hits) can be judged then, each by translating its full,
//! unmasked key anew in the newest snapshot that was published when the batch was received. The programs are run by a
//! second, simple interpreter; port, bytes and order of what came out, copies for controllers and drops by reason must be
//! equal. A stale flow, a forgotten dependency, a profile with too few bits and an old snapshot all show as a difference.
//!
//! Connections: the oracle has a tracker and reassemblers of its own, of the same make and seed, and shows them every frame in
//! the order in which the worker handles them. Its tracker looks every connection up, so a chain that a worker's flow cache
//! made wrongly, or follows when it should not, shows as a difference too.
//!
//! Not judged here: whether a translation is right. That is for tests, which have models of their own.

use base::Instant;
use datapath::conntrack::{ConnTracker, CtConfig, CtSpec};
use datapath::fragments::{Context, FragmentLimits, Offered, Reassembler};
use datapath::{
    Deps, DpAction, Draft, Drop, FrameClass, Profile, RecircId, Revision, SlowPath, Translation, Upcall,
    UpcallCookie, WorkerStats,
};
use packet::{DpPort, Frame, FramePool, PacketKey, rewrite, slot};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switch::forwarding::{Effect, Forwarding};

/// Reasons that depend on the state of devices, budgets and queues and not on the frame alone.
const CIRCUMSTANCES: [Drop; 12] = [
    Drop::TxFull,
    Drop::TxDown,
    Drop::TxError,
    Drop::TxTooBig,
    Drop::NoPort,
    Drop::UpcallFull,
    Drop::MissCredit,
    // Fragments that were held are dropped later, with others that came in meanwhile.
    Drop::FragmentOverlap,
    Drop::FragmentTimeout,
    Drop::FragmentLimit,
    Drop::FragmentTooLong,
    Drop::FragmentMalformed,
];

/// Times that the interpreter lets a frame go round; more than the datapath's limit is never needed.
const ROUNDS_MAX: u32 = datapath::worker::RECIRCULATIONS_MAX;

/// What has been judged so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Batches.
    pub batches: u64,
    /// Frames.
    pub frames: u64,
    /// Times that a frame was looked up and its flow found in the cache.
    pub hits: u64,
    /// Times that a worker had a frame's key translated.
    pub translations: u64,
    /// Frames that came out, copies included.
    pub outputs: u64,
    /// Frames refused because a port had no credit left for new flows.
    pub refused: u64,
}

/// One look-up of a frame that is still to be judged.
struct Pass {
    frame_no: usize,
    frame: Frame,
    key: PacketKey,
    refused: Option<Drop>,
    rounds: u32,
}

/// What should become of one frame.
#[derive(Default)]
struct Outcome {
    outputs: Vec<(DpPort, Vec<u8>)>,
    /// How many outputs there were when each look-up began: where a frame may have ended for want of credit.
    cuts: Vec<usize>,
    drops: Vec<Drop>,
    punts: u64,
}

struct State {
    newest: Option<Arc<Forwarding>>,
    /// Which worker can send to which port.
    attached: BTreeSet<(usize, DpPort)>,
    worker: usize,
    stats: Option<Arc<WorkerStats>>,
    ingress: DpPort,
    /// Ports that the worker could send to when it asked for the batch.
    reach: Vec<DpPort>,
    drops_before: Vec<(Drop, u64)>,
    waiting: VecDeque<Pass>,
    expected: Vec<Outcome>,
    /// Side effects that hits should have had.
    overlooked: Vec<(usize, Vec<Effect>)>,
    sent: Vec<(DpPort, Vec<u8>)>,
    punted: u64,
    tally: Tally,
    /// What was split off the frame that is being judged, and waits until it has ended.
    forks: VecDeque<Pass>,
    connections: ConnTracker,
    fragments: HashMap<usize, Reassembler>,
    pool: FramePool,
    now: Instant,
}

/// The oracle of one world. Clones are the same oracle.
#[derive(Clone)]
pub(crate) struct Oracle(Arc<Mutex<State>>);

impl Oracle {
    /// An oracle whose tracker is the workers' twin: of the same seed and configuration.
    pub fn new(connections: ConnTracker) -> Oracle {
        Oracle(Arc::new(Mutex::new(State {
            newest: None,
            attached: BTreeSet::new(),
            worker: 0,
            stats: None,
            ingress: DpPort::NONE,
            reach: Vec::new(),
            drops_before: Vec::new(),
            waiting: VecDeque::new(),
            expected: Vec::new(),
            overlooked: Vec::new(),
            sent: Vec::new(),
            punted: 0,
            tally: Tally::default(),
            forks: VecDeque::new(),
            connections,
            fragments: HashMap::new(),
            pool: FramePool::new(FramePool::FRAMES_MAX),
            now: Instant::ZERO,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The workers' tracker has this configuration from now on.
    pub fn limit_connections(&self, config: CtConfig) {
        self.lock().connections.configure(config);
    }

    /// From now on workers must work from this snapshot.
    pub fn published(&self, newest: Arc<Forwarding>) {
        self.lock().newest = Some(newest);
    }

    pub fn attach(&self, worker: usize, port: DpPort) {
        self.lock().attached.insert((worker, port));
    }

    pub fn detach(&self, worker: usize, port: DpPort) {
        self.lock().attached.remove(&(worker, port));
    }

    /// This worker is going to take a step.
    pub fn step_begins(&self, worker: usize, stats: &Arc<WorkerStats>, now: Instant) {
        let mut state = self.lock();
        state.now = now;
        (state.worker, state.stats) = (worker, Some(Arc::clone(stats)));
    }

    /// The worker asks a port for a batch.
    pub fn batch_begins(&self, port: DpPort) {
        let mut state = self.lock();
        state.settle();
        state.ingress = port;
        let worker = state.worker;
        state.reach = state.attached.iter().filter(|(w, _)| *w == worker).map(|(_, p)| *p).collect();
        state.drops_before = state.drops_now();
    }

    /// A frame of the batch.
    pub fn received(&self, port: DpPort, bytes: Vec<u8>) {
        let mut frame = Frame::from_bytes(&bytes);
        frame.in_port = port;
        let (key, refused) = match PacketKey::extract(&mut frame) {
            Ok(key) => (key, None),
            Err(packet::Malformed::TooShort) => (PacketKey::default(), Some(Drop::TooShort)),
            Err(packet::Malformed::TooLong) => (PacketKey::default(), Some(Drop::TooLong)),
            Err(_) => (PacketKey::default(), Some(Drop::BadOffload)),
        };
        let mut state = self.lock();
        let frame_no = state.expected.len();
        state.expected.push(Outcome::default());
        state.tally.frames += 1;
        state.waiting.push_back(Pass { frame_no, frame, key, refused, rounds: 0 });
    }

    /// The worker gives a frame to a port, which may refuse it.
    pub fn sent(&self, port: DpPort, bytes: &[u8]) {
        self.lock().sent.push((port, bytes.to_vec()));
    }

    /// The worker's step is over: judges what is left.
    pub fn step_ends(&self) {
        let mut state = self.lock();
        state.settle();
        let now = state.now;
        let worker = state.worker;
        if let Some(fragments) = state.fragments.get_mut(&worker) {
            fragments.expire(now, &mut |_, _, _| {});
        }
        state.connections.expire(now);
    }

    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Frames that the oracle expects to see handled.
    fn translating(&self, key: &PacketKey) {
        self.lock().advance(key);
    }
}

impl State {
    /// The worker wants `key` translated: every look-up before that was a hit, and this one is not.
    fn advance(&mut self, key: &PacketKey) {
        loop {
            let Some(pass) = self.waiting.pop_front() else {
                panic!("a key was translated that no frame of the batch has: {key:?}");
            };
            let found = pass.refused.is_none() && pass.key == *key;
            match found {
                true => self.tally.translations += 1,
                false => self.tally.hits += 1,
            }
            self.judge(pass, found);
            if found {
                return;
            }
        }
    }

    /// Finds out what should become of a frame. What a hit does has no side effects, so a frame that should have had some
    /// must not have been one.
    fn judge(&mut self, mut pass: Pass, translated: bool) {
        let Some(fwd) = self.newest.clone() else { panic!("frames before the first snapshot") };
        let Some(outcome) = self.expected.get_mut(pass.frame_no) else { return };
        outcome.cuts.push(outcome.outputs.len());
        let refused = pass.refused.or_else(|| fwd.profile(FrameClass::of(&pass.key)).err());
        if refused.is_some() {
            outcome.drops.extend(refused);
            return;
        }
        let Translation { program, effects, .. } = fwd.translate(&Upcall { key: &pass.key });
        if !translated && !effects.is_empty() {
            self.overlooked.push((pass.frame_no, effects));
        }
        let Some(outcome) = self.expected.get_mut(pass.frame_no) else { return };
        let mut run = Run {
            outcome,
            reach: &self.reach,
            connections: &self.connections,
            fragments: self
                .fragments
                .entry(self.worker)
                .or_insert_with(|| Reassembler::new(FragmentLimits::default())),
            pool: &mut self.pool,
            now: self.now,
            forks: Vec::new(),
        };
        let next = run.interpret(&program.actions, &mut pass);
        let forks = std::mem::take(&mut run.forks);
        // The frame itself goes on first, then what was split off it, in order.
        let (frame_no, rounds) = (pass.frame_no, pass.rounds);
        let mut go_on = |mut pass: Pass, id| {
            pass.rounds += 1;
            if pass.rounds > ROUNDS_MAX {
                run.outcome.drops.push(Drop::Recirculation);
                return None;
            }
            parse_anew(&mut pass, id);
            Some(pass)
        };
        let main = next.and_then(|id| go_on(pass, id));
        for (frame, key, id) in forks {
            let fork = Pass { frame_no, frame, key, refused: None, rounds };
            // Copies begin to count anew.
            self.forks.extend(go_on(Pass { rounds: 0, ..fork }, id));
        }
        if let Some(pass) = main.or_else(|| self.forks.pop_front()) {
            self.waiting.push_front(pass);
        }
    }

    fn drops_now(&self) -> Vec<(Drop, u64)> {
        let counters = self.stats.as_ref().and_then(|s| s.port(self.ingress));
        counters.map_or_else(Vec::new, |c| c.drops.nonzero().collect())
    }

    /// Judges the rest of the batch and compares.
    fn settle(&mut self) {
        while let Some(pass) = self.waiting.pop_front() {
            self.tally.hits += 1;
            self.judge(pass, false);
        }
        let (expected, sent) = (std::mem::take(&mut self.expected), std::mem::take(&mut self.sent));
        let punted = std::mem::take(&mut self.punted);
        if expected.is_empty() {
            assert!(sent.is_empty(), "frames were sent although none was received");
            return;
        }
        let now = self.drops_now();
        let count = |list: &[(Drop, u64)], d: Drop| list.iter().find(|(r, _)| *r == d).map_or(0, |(_, n)| *n);
        let dropped = |d: Drop| count(&now, d) - count(&self.drops_before, d);
        let refused = dropped(Drop::MissCredit);
        self.compare_outputs(&expected, &sent, refused);
        let overlooked = std::mem::take(&mut self.overlooked);
        if refused == 0 {
            assert!(overlooked.is_empty(), "hits that should have had side effects: {overlooked:?}");
            let punts: u64 = expected.iter().map(|o| o.punts).sum();
            assert_eq!(punts, punted, "copies for controllers from port {}", self.ingress);
            for reason in Drop::ALL.iter().filter(|d| !CIRCUMSTANCES.contains(d)) {
                let wanted = expected.iter().flat_map(|o| &o.drops).filter(|d| *d == reason).count() as u64;
                assert_eq!(
                    wanted,
                    dropped(*reason),
                    "drops for {} from port {}",
                    reason.name(),
                    self.ingress
                );
            }
        }
        self.tally.batches += 1;
        self.tally.outputs += sent.len() as u64;
        self.tally.refused += refused;
    }

    /// What came out must be what should, frame by frame, but for as many frames as were refused.
    fn compare_outputs(&self, expected: &[Outcome], sent: &[(DpPort, Vec<u8>)], refused: u64) {
        let (mut at, mut left) = (0, refused);
        for (n, outcome) in expected.iter().enumerate() {
            let fits = |len: usize| sent.get(at..at + len).is_some_and(|s| s == &outcome.outputs[..len]);
            let whole = outcome.outputs.len();
            if fits(whole) {
                at += whole;
                continue;
            }
            let cut = outcome.cuts.iter().rev().copied().find(|len| fits(*len)).filter(|_| left > 0);
            let Some(len) = cut else {
                let got = sent.get(at..).unwrap_or_default();
                panic!(
                    "frame {n} of {} from port {} on worker {}:\nshould go {}\nwent (with what followed) {}",
                    expected.len(),
                    self.ingress,
                    self.worker,
                    show(&outcome.outputs),
                    show(&got[..got.len().min(whole + 2)]),
                );
            };
            left -= 1;
            at += len;
        }
        assert_eq!(at, sent.len(), "frames came out that nobody asked for: {}", show(&sent[at..]));
    }
}

fn show(outputs: &[(DpPort, Vec<u8>)]) -> String {
    let hex = |b: &Vec<u8>| b.iter().take(64).map(|b| format!("{b:02x}")).collect::<String>();
    let list: Vec<String> =
        outputs.iter().map(|(p, b)| format!("to port {p}: {} ({} bytes)", hex(b), b.len())).collect();
    if list.is_empty() { "nowhere".to_owned() } else { list.join(", ") }
}

/// What a program runs with.
struct Run<'a> {
    outcome: &'a mut Outcome,
    reach: &'a [DpPort],
    connections: &'a ConnTracker,
    fragments: &'a mut Reassembler,
    pool: &'a mut FramePool,
    now: Instant,
    /// Frames, other than the one at hand, that are to be looked up again.
    forks: Vec<(Frame, PacketKey, RecircId)>,
}

impl Run<'_> {
    /// Runs a program over a frame: what `DpAction`'s documentation says, in the plainest way. Returns where the frame goes on.
    fn interpret(&mut self, steps: &[DpAction], pass: &mut Pass) -> Option<RecircId> {
        let (mut sent, mut punts) = (0, 0);
        let mut reason = None;
        for (n, step) in steps.iter().enumerate() {
            let rest = &steps[n + 1..];
            let frame = &mut pass.frame;
            let done = match step {
                DpAction::Output(port) | DpAction::OutputTrunc { port, .. } => {
                    let most = if let DpAction::OutputTrunc { max_len, .. } = step {
                        *max_len as usize
                    } else {
                        usize::MAX
                    };
                    if self.reach.contains(port) {
                        self.outcome.outputs.push((*port, frame.bytes()[..frame.len().min(most)].to_vec()));
                    }
                    sent += 1;
                    true
                }
                DpAction::Upcall { .. } => {
                    punts += 1;
                    true
                }
                DpAction::SetField { slot, value, mask } if slot.word >= slot::PKT_MARK.word => {
                    pass.key.set(*slot, pass.key.get(*slot) & !mask | value & mask);
                    true
                }
                DpAction::SetField { slot, value, mask } => {
                    rewrite::set_slot(frame, *slot, *value, *mask);
                    true
                }
                // The worker measured this frame; measuring it again would count it twice.
                DpAction::Meter(_) => true,
                DpAction::PushVlan { tpid, tci } => rewrite::push_vlan(frame, *tpid, *tci),
                DpAction::PopVlan => {
                    rewrite::pop_vlan(frame);
                    true
                }
                DpAction::PushMpls { lse, ethertype } => rewrite::push_mpls(frame, *ethertype, *lse),
                DpAction::PopMpls { ethertype } => {
                    rewrite::pop_mpls(frame, *ethertype);
                    true
                }
                DpAction::PushTunnel(_) | DpAction::PopTunnel { .. } => panic!("no world has tunnels yet"),
                // Nothing that comes later uses the frame: it goes on itself.
                DpAction::Recirculate(id) if !rest.iter().any(uses_frame) => {
                    self.outcome.punts += punts;
                    return Some(*id);
                }
                DpAction::Recirculate(id) => {
                    self.forks.push((self.pool.copy_of(frame), pass.key, *id));
                    sent += 1;
                    true
                }
                DpAction::Clone(inner) => {
                    let frame = self.pool.copy_of(frame);
                    let mut copy = Pass { frame, key: pass.key, ..*pass };
                    if let Some(id) = self.interpret(inner, &mut copy) {
                        self.forks.push((copy.frame, copy.key, id));
                    }
                    sent += 1;
                    true
                }
                DpAction::CtClear => {
                    ConnTracker::clear(&mut pass.key);
                    true
                }
                DpAction::Ct(spec) => {
                    read_anew(pass);
                    if pass.key.get(slot::NW_FRAG) != 0 {
                        self.outcome.punts += punts;
                        self.hold_fragment(pass, spec, rest);
                        return None;
                    }
                    let port = pass.key.in_port();
                    let lost =
                        self.connections.track(&mut pass.frame, &mut pass.key, spec, port, self.now).drop;
                    if let Some(why) = lost {
                        self.outcome.punts += punts;
                        self.outcome.drops.push(why);
                        return None;
                    }
                    true
                }
                DpAction::Drop(why) => {
                    reason = Some(*why);
                    break;
                }
            };
            if !done {
                self.outcome.punts += punts;
                self.outcome.drops.push(Drop::Rewrite);
                return None;
            }
        }
        self.outcome.punts += punts;
        if sent == 0 {
            let default = if punts > 0 { Drop::Consumed } else { Drop::NoAction };
            self.outcome.drops.push(reason.unwrap_or(default));
        }
        None
    }

    /// A fragment waits for the others; when they are there, all go on with the rest of the program.
    fn hold_fragment(&mut self, pass: &mut Pass, spec: &CtSpec, rest: &[DpAction]) {
        let next = match rest.last() {
            Some(DpAction::Recirculate(id)) => id.0,
            _ => 0,
        };
        let at = u64::from(next) << 32 | pass.key.get(slot::RECIRC_ID) as u64;
        let port = pass.key.in_port();
        let context = Context { ingress: port, zone: spec.zone.0, at };
        let frame = std::mem::replace(&mut pass.frame, Frame::from_bytes(&[]));
        let mut whole = match self.fragments.offer(frame, &pass.key, context, self.pool, self.now) {
            Offered::Held => return,
            Offered::Dropped(_, why) => return self.outcome.drops.push(why),
            Offered::Whole(whole) => whole,
        };
        let mut key = pass.key;
        key.extract_headers(whole.frame_mut()).expect("a packet that was put together can be read");
        key.set_in_port(port);
        let lost = self.connections.track(whole.frame_mut(), &mut key, spec, port, self.now).drop;
        let mut fragments = Vec::new();
        whole.into_fragments(self.pool, |frame| fragments.push(frame));
        for frame in fragments {
            if let Some(why) = lost {
                self.outcome.drops.push(why);
                continue;
            }
            let mut one = Pass { frame, key, ..*pass };
            one.key.extract_headers(&mut one.frame).expect("a fragment as it came can be read");
            one.key.set_in_port(port);
            if let Some(id) = self.interpret(rest, &mut one) {
                self.forks.push((one.frame, one.key, id));
            }
        }
    }
}

/// Whether a step needs the frame as it is then.
fn uses_frame(step: &DpAction) -> bool {
    !matches!(
        step,
        DpAction::SetField { .. }
            | DpAction::PushVlan { .. }
            | DpAction::PopVlan
            | DpAction::PushMpls { .. }
            | DpAction::PopMpls { .. }
            | DpAction::Meter(_)
            | DpAction::CtClear
    )
}

/// Makes the key say what the frame's headers say now.
fn read_anew(pass: &mut Pass) {
    let (port, id) = (pass.key.in_port(), pass.key.get(slot::RECIRC_ID));
    pass.key.extract_headers(&mut pass.frame).expect("rewrites leave frames that can be read");
    pass.key.set_in_port(port);
    pass.key.set(slot::RECIRC_ID, id);
}

/// The key of a frame that goes round: what it says now, and the metadata it carries.
fn parse_anew(pass: &mut Pass, id: datapath::RecircId) {
    match PacketKey::extract(&mut pass.frame) {
        Ok(mut key) => {
            for word in slot::PKT_MARK.word as usize..PacketKey::WORDS {
                key.words_mut()[word] = pass.key.words()[word];
            }
            key.set_in_port(pass.key.in_port());
            key.set(slot::RECIRC_ID, id.0.into());
            pass.key = key;
        }
        Err(_) => pass.refused = Some(Drop::TooShort),
    }
}

/// A production snapshot with the oracle looking on.
pub struct Checked {
    inner: Arc<Forwarding>,
    oracle: Oracle,
}

impl Checked {
    pub(crate) fn new(inner: Arc<Forwarding>, oracle: Oracle) -> Checked {
        Checked { inner, oracle }
    }

    /// The snapshot.
    pub fn forwarding(&self) -> &Arc<Forwarding> {
        &self.inner
    }
}

impl SlowPath for Checked {
    type Effect = Effect;
    type Room = <Forwarding as SlowPath>::Room;

    fn revision(&self) -> Revision {
        self.inner.revision()
    }

    fn profile(&self, class: FrameClass) -> Result<&Profile, Drop> {
        self.inner.profile(class)
    }

    fn translate(&self, upcall: &Upcall<'_>) -> Translation<Effect> {
        self.oracle.translating(upcall.key);
        self.inner.translate(upcall)
    }

    fn translate_in<R>(
        &self,
        upcall: &Upcall<'_>,
        room: &mut Self::Room,
        take: impl FnOnce(Draft<'_, Effect>) -> R,
    ) -> R {
        self.oracle.translating(upcall.key);
        self.inner.translate_in(upcall, room, take)
    }

    fn commit(&self, effects: &[Effect], now: Instant) {
        self.inner.commit(effects, now);
    }

    fn still_valid(&self, deps: &Deps) -> bool {
        self.inner.still_valid(deps)
    }

    fn punt(
        &self,
        frame: &Frame,
        total_len: usize,
        key: &PacketKey,
        cookie: &UpcallCookie,
    ) -> Result<(), Drop> {
        self.oracle.lock().punted += 1;
        self.inner.punt(frame, total_len, key, cookie)
    }
}
