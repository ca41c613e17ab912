//! From a batch to its ends: look each frame up, check that what was found is still right, translate what was not found,
//! run the programs.
//!
//! All frames of a batch are parsed and looked up first, then handled in order of arrival, misses included: the frames of
//! one receiving side never overtake each other. A frame that recirculates is looked up again at once.

use super::recorder::{Home, Recorder};
use crate::action::{DpAction, RecircId};
use crate::cache::{
    Chain, FlowCache, FlowSlot, MaskedKey, Millis, OnlyStep, Stamp, Stored, TableIndex, Vacancy, ends_in_pass,
};
use crate::cost;
use crate::drop::Drop;
use crate::execute::{Executor, Held, Next, Origin, Waiting};
use crate::ports::PortIndex;
use crate::slowpath::{Draft, FrameClass, Profile, Revision, SlowPath, Stage, Upcall};
use crate::stats::WorkerStats;
use base::Instant;
use packet::{Batch, DpPort, Frame, Malformed, PacketKey, slot, tunnel};

/// Times that one frame may be recirculated.
pub const RECIRCULATIONS_MAX: u32 = 16;
/// Look-ups after recirculations that one received frame may cause, its copies and fragments counted.
const LOOKUPS_MAX: u32 = 1_024;

/// What is known of a frame before it is handled.
#[derive(Default)]
pub(crate) struct Staged {
    key: PacketKey,
    /// What its flow is looked up by.
    masked: MaskedKey,
    /// Where its flow would be cached; `None` if it cannot be.
    table: Option<TableIndex>,
    /// Where its flow is cached.
    slot: Option<FlowSlot>,
    /// Whether the key may hold metadata, which extraction leaves alone.
    has_metadata: bool,
    /// The end of a frame that cannot be forwarded.
    refused: Option<Drop>,
    /// What the tracker found in the last run.
    held: Option<Held>,
}

/// Room to work in: one place for each frame of a batch, filled anew for each batch.
pub(crate) struct Staging(Box<[Staged]>);

impl Staging {
    pub fn new() -> Self {
        Staging((0..Batch::MAX).map(|_| Staged::default()).collect())
    }
}

/// Room that one pass leaves to the next, so that they need not allocate any.
pub(crate) struct PassRoom<S: SlowPath> {
    /// The chain that is being made for the flow of the frame at hand.
    recorder: Recorder,
    /// For translations.
    translation: S::Room,
    /// The program of a frame whose flow is not cached.
    steps: Vec<DpAction>,
}

impl<S: SlowPath> Default for PassRoom<S> {
    fn default() -> Self {
        PassRoom { recorder: Recorder::default(), translation: S::Room::default(), steps: Vec::new() }
    }
}

/// Where a flow is cached.
type Place = (TableIndex, FlowSlot);

/// One pass of frames through the worker under one snapshot.
pub(crate) struct Pass<'a, S: SlowPath> {
    slow: &'a S,
    /// Read after the snapshot was loaded, and again whenever this worker has changed something.
    revision: Revision,
    now: Instant,
    /// The same as cached flows have them.
    stamp: Stamp,
    millis: Millis,
    cache: &'a mut FlowCache,
    executor: &'a mut Executor,
    stats: &'a WorkerStats,
    /// Answer to the last question for a profile.
    class: Option<(FrameClass, Option<TableIndex>)>,
    /// Answer to the last question for a profile without what tells connections apart; `None`: it is the other one.
    shared_class: Option<(FrameClass, Option<TableIndex>)>,
    room: &'a mut PassRoom<S>,
    /// Look-ups that the frame at hand, its copies and fragments may still cause.
    lookups_left: u32,
    /// Whether flows were added or removed since the batch was looked up, so that slots may be another flow's.
    moved: bool,
}

impl<'a, S: SlowPath> Pass<'a, S> {
    pub fn new(
        slow: &'a S,
        now: Instant,
        cache: &'a mut FlowCache,
        executor: &'a mut Executor,
        room: &'a mut PassRoom<S>,
        stats: &'a WorkerStats,
    ) -> Self {
        let revision = slow.revision();
        let (stamp, millis) = cache.present(revision, now);
        Pass {
            slow,
            revision,
            now,
            stamp,
            millis,
            cache,
            executor,
            stats,
            class: None,
            shared_class: None,
            room,
            lookups_left: LOOKUPS_MAX,
            moved: false,
        }
    }

    /// Forwards all frames of a batch that came in at one port.
    pub fn forward(&mut self, batch: &mut Batch, staging: &mut Staging, ingress: PortIndex) {
        if self.cache.is_large() {
            self.look_up_afar(batch, staging);
        } else {
            for (frame, staged) in batch.frames_mut().iter_mut().zip(&mut staging.0) {
                self.stage(frame, staged);
            }
            for staged in staging.0.iter_mut().take(batch.len()) {
                self.look_up(staged);
            }
        }
        self.moved = false;
        let (mut hits, mut followed) = (0, 0);
        for (mut frame, staged) in batch.drain().zip(&mut staging.0) {
            match self.count_simple_hit(&mut frame, staged, &mut followed) {
                Some(step) => {
                    hits += 1;
                    self.executor.end(step, frame, ingress);
                }
                None => self.forward_one(frame, staged, ingress),
            }
        }
        self.stats.cache.hits.add(hits);
        self.executor.charge(followed * cost::LINK);
    }

    /// Looks all frames of a batch up among so many flows that memory has to be waited for: what one step reads is asked for in
    /// the step before, for all frames, so that they wait together.
    fn look_up_afar(&mut self, batch: &mut Batch, staging: &mut Staging) {
        let frames = batch.len();
        for (frame, staged) in batch.frames_mut().iter_mut().zip(&mut staging.0) {
            self.stage(frame, staged);
            if let Some(table) = staged.table {
                self.cache.prefetch_index(table, &staged.masked);
            }
        }
        let cache = &*self.cache;
        for staged in staging.0.iter_mut().take(frames) {
            staged.slot = staged.table.and_then(|table| cache.candidate(table, &staged.masked));
        }
        let mut chains = [None; Batch::MAX];
        let mut places = chains.iter_mut();
        for staged in staging.0.iter_mut().take(frames) {
            let Some(table) = staged.table else { continue };
            let found = cache.confirm(table, staged.slot, &staged.key, &staged.masked);
            staged.slot = found.map(|(slot, _)| slot);
            if let Some((_, Some(chain))) = found
                && let Some(place) = places.next()
            {
                chain.prefetch();
                *place = Some(chain);
            }
        }
        chains.iter().map_while(|chain| *chain).for_each(Chain::prefetch_connection);
    }

    /// Finds out where a frame's flow is cached.
    #[inline]
    fn look_up(&mut self, staged: &mut Staged) {
        staged.slot = staged.table.and_then(|table| self.cache.look_up(table, &staged.key, &staged.masked));
    }

    /// Most frames: they hit a flow that is good and all of whose program is one output or drop, or one pass through the
    /// tracker and then such a step. Tracks and counts such a frame at its flow and says which.
    #[inline(always)]
    fn count_simple_hit(
        &mut self,
        frame: &mut Frame,
        staged: &Staged,
        followed: &mut u32,
    ) -> Option<OnlyStep> {
        let (table, slot) = (staged.table?, staged.slot?);
        if self.moved {
            return None;
        }
        let (flow, chain) = self.cache.flow_and_chain_mut(table, slot)?;
        if flow.stamp != self.stamp || flow.is_full() {
            return None;
        }
        let (bytes, flags) = (frame.len() as u32, tcp_flags(&staged.key));
        let mut step = flow.only_step;
        if step == OnlyStep::NONE {
            let chain = chain.filter(|chain| chain.is_stamped(self.revision))?;
            let link = chain.first();
            if link.only_step == OnlyStep::NONE
                || !link.is_alone
                || !self.executor.follow_link(frame, link, self.now)
            {
                return None;
            }
            link.count(bytes, flags, self.now);
            step = link.only_step;
            *followed += 1;
        }
        flow.count(bytes, flags, self.millis);
        Some(step)
    }

    /// Forwards one frame by itself.
    pub fn forward_single(&mut self, mut frame: Frame, ingress: PortIndex) {
        self.moved = true;
        let mut staged = Staged::default();
        self.stage(&mut frame, &mut staged);
        self.forward_one(frame, &mut staged, ingress);
    }

    /// Runs a program over a frame that came from outside the pipeline.
    pub fn execute(&mut self, program: &crate::Program, mut frame: Frame, ingress: PortIndex) {
        self.moved = true;
        let mut staged = Staged::default();
        self.stage(&mut frame, &mut staged);
        // Whether a bridge has the port is of no interest here, only whether there is a frame.
        if let Some(reason @ (Drop::TooShort | Drop::TooLong | Drop::BadOffload)) = staged.refused {
            self.executor.drop_frame(frame, ingress, reason);
            return;
        }
        staged.refused = None;
        self.executor.received.forget();
        let next = self.run(&program.actions, frame, &mut staged, ingress);
        self.go_on(next, &mut staged, ingress);
    }

    /// Runs a program that no chain belongs to. Returns the frame if it is to be looked up again.
    fn run(
        &mut self,
        steps: &[crate::DpAction],
        frame: Frame,
        staged: &mut Staged,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        let mut origin = Origin::new(ingress, &mut staged.key, self.now);
        let next = self.executor.run(steps, frame, &mut origin, self.slow, None);
        staged.held = origin.held;
        next.and_then(Next::recirculation)
    }

    #[inline]
    fn stage(&mut self, frame: &mut Frame, staged: &mut Staged) {
        (staged.table, staged.slot, staged.refused) = (None, None, None);
        if staged.has_metadata {
            staged.has_metadata = false;
            staged.key = PacketKey::default();
        }
        if frame.encapsulated.is_some() {
            return self.stage_encapsulated(frame, staged);
        }
        match staged.key.extract_headers(frame).and_then(|()| frame.validate_offload()) {
            Ok(()) => self.classify(staged),
            Err(malformed) => staged.refused = Some(malformed_drop(malformed)),
        }
    }

    /// Pops the outer headers of a frame that is a tunnel's packet, and stages what is inside.
    #[inline(never)]
    fn stage_encapsulated(&mut self, frame: &mut Frame, staged: &mut Staged) {
        let Some(protocol) = frame.encapsulated.take() else { return };
        staged.has_metadata = true;
        if tunnel::pop(frame, protocol, &mut staged.key, self.slow.geneve_map()).is_err() {
            staged.refused = Some(Drop::BadTunnel);
            return;
        }
        let extracted = staged.key.extract_headers(frame);
        frame.recognise_offload();
        match extracted.and_then(|()| frame.validate_offload()) {
            Ok(()) => self.classify(staged),
            Err(malformed) => staged.refused = Some(malformed_drop(malformed)),
        }
    }

    /// Finds out where the flow of a key would be cached.
    #[inline]
    fn classify(&mut self, staged: &mut Staged) {
        let class = FrameClass::of(&staged.key);
        staged.table = match self.class {
            Some((known, table)) if known == class => table,
            _ => match self.find_table(class) {
                Ok(table) => table,
                Err(reason) => {
                    staged.refused = Some(reason);
                    return;
                }
            },
        };
        if let Some(table) = staged.table {
            self.cache.masked(table, &staged.key, &mut staged.masked);
        }
    }

    /// The table of a class of frames, which is then known.
    #[inline(never)]
    fn find_table(&mut self, class: FrameClass) -> Result<Option<TableIndex>, Drop> {
        let profile = self.slow.profile(class)?;
        let table = self.table(profile);
        self.class = Some((class, table));
        Ok(table)
    }

    fn table(&mut self, profile: &Profile) -> Option<TableIndex> {
        if let Some(table) = self.cache.table(profile) {
            return Some(table);
        }
        // A profile that is new may take the place of another: the flows that ports have under that one must be set up
        // anew, which is not the ports' doing.
        let cache = &*self.cache;
        self.executor.ports.grant(|share| cache.share_len(share));
        self.cache.add_table(profile)
    }

    #[inline(never)]
    fn forward_one(&mut self, frame: Frame, staged: &mut Staged, ingress: PortIndex) {
        staged.has_metadata = true;
        self.executor.charge(cost::LONG_WAY);
        self.executor.received.forget();
        if let Some(reason) = staged.refused {
            self.executor.drop_frame(frame, ingress, reason);
            return;
        }
        let next = self.look_up_and_run(frame, staged, ingress);
        self.go_on(next, staged, ingress);
    }

    /// Looks the frame at hand up again if it is to be, and then whatever else came of it.
    #[inline]
    fn go_on(&mut self, next: Option<(Frame, RecircId)>, staged: &mut Staged, ingress: PortIndex) {
        self.lookups_left = LOOKUPS_MAX;
        if let Some(next) = next {
            self.recirculate(next, staged, ingress);
        }
        self.room.recorder.stop();
        while let Some(Waiting { frame, key, id }) = self.executor.waiting.pop_front() {
            staged.key = key;
            self.recirculate((frame, id), staged, ingress);
        }
    }

    /// Parses and looks a frame up again, as often as programs ask for it.
    fn recirculate(&mut self, first: (Frame, RecircId), staged: &mut Staged, ingress: PortIndex) {
        let mut next = Some(first);
        for _ in 0..RECIRCULATIONS_MAX {
            let Some((mut frame, id)) = next else { return self.finish_recording(ingress) };
            if self.lookups_left == 0 {
                return self.end_recirculating(frame, staged, ingress, Drop::Recirculation);
            }
            self.lookups_left -= 1;
            self.stats.cache.recirculated.add(1);
            self.executor.charge(cost::LOOK_UP);
            // A frame that came out of a tunnel begins anew, and so does what is remembered of its way.
            let begins = id == RecircId(0);
            if begins {
                self.finish_recording(ingress);
            }
            self.restage(&mut frame, id, staged);
            if let Some(reason) = staged.refused {
                return self.end_recirculating(frame, staged, ingress, reason);
            }
            let held = staged.held.take();
            next = self.look_up_and_run(frame, staged, ingress);
            if !begins {
                self.room.recorder.record(self.cache, held, staged.table.zip(staged.slot));
            }
        }
        match next {
            Some((frame, _)) => self.end_recirculating(frame, staged, ingress, Drop::Recirculation),
            None => self.finish_recording(ingress),
        }
    }

    /// Drops a frame that is not looked up again. What its way taught so far is not for the next frame to go on with.
    fn end_recirculating(&mut self, frame: Frame, staged: &mut Staged, ingress: PortIndex, reason: Drop) {
        self.room.recorder.stop();
        staged.held = None;
        self.executor.drop_frame(frame, ingress, reason);
    }

    /// Gives the flow that the frame was first looked up by what was recorded.
    fn finish_recording(&mut self, ingress: PortIndex) {
        let Some((home, memo, links, key)) = self.room.recorder.finish(self.cache.removals()) else { return };
        let place = match home {
            Home::Cached(table, slot) => Some((table, slot)),
            Home::New { table, masked, shared } => {
                let copy = self.cache.copy_of(shared.0, shared.1, &memo);
                let share = self.executor.ports.share(ingress);
                self.executor.charge(cost::INSERTION);
                copy.zip(share).and_then(|(flow, share)| {
                    let vacancy = Vacancy { table, masked: &masked, key, share };
                    let stored = self.cache.insert_copy(vacancy, flow, self.now)?;
                    self.moved = true;
                    self.stats.cache.evicted.add(stored.evicted);
                    Some((table, stored.slot))
                })
            }
        };
        if let Some((table, slot)) = place {
            self.cache.set_chain(table, slot, &memo, links);
        }
    }

    /// The key of a frame that recirculates: what its bytes say now, and the metadata it carries.
    fn restage(&mut self, frame: &mut Frame, id: RecircId, staged: &mut Staged) {
        let in_port = staged.key.in_port();
        // Also of another frame before, as frames that wait have one place between them.
        (staged.table, staged.slot, staged.refused) = (None, None, None);
        self.executor.received.keep(&staged.key, frame);
        match staged.key.extract_headers(frame) {
            Ok(()) => {
                staged.key.set_in_port(in_port);
                staged.key.set(slot::RECIRC_ID, id.0 as u128);
                self.classify(staged);
                // One that a controller sent came from no port; where it goes on says which bridge it is in.
                if in_port == DpPort::NONE && staged.refused == Some(Drop::NoBridge) {
                    staged.refused = None;
                }
                self.look_up(staged);
            }
            Err(malformed) => staged.refused = Some(malformed_drop(malformed)),
        }
    }

    #[inline]
    fn look_up_and_run(
        &mut self,
        frame: Frame,
        staged: &mut Staged,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        let Some(table) = staged.table else { return self.miss(frame, staged, ingress) };
        if self.moved {
            staged.slot = self.cache.find(table, &staged.key, &staged.masked);
        }
        let Some(slot) = staged.slot else { return self.miss(frame, staged, ingress) };
        if !self.is_good(table, slot) {
            return self.retranslate(frame, staged, (table, slot), ingress);
        }
        self.stats.cache.hits.add(1);
        self.run_cached((table, slot), frame, staged, ingress)
    }

    /// Whether a cached flow is right under the present revision.
    #[inline]
    fn is_good(&mut self, table: TableIndex, slot: FlowSlot) -> bool {
        if self.cache.flow_mut(table, slot).is_some_and(|flow| flow.stamp == self.stamp) {
            return true;
        }
        if !self.cache.is_valid(table, slot, self.slow) {
            return false;
        }
        // The revision was read before the check: what changed in between shows as a difference next time.
        if let Some(flow) = self.cache.flow_mut(table, slot) {
            flow.stamp = self.stamp;
        }
        self.stats.cache.revalidated.add(1);
        true
    }

    /// Counts a frame at its cached flow and runs the flow's program.
    #[inline]
    fn run_cached(
        &mut self,
        place: Place,
        frame: Frame,
        staged: &mut Staged,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        let removals = self.cache.removals();
        let Some(flow) = self.cache.flow_to_count(place.0, place.1) else {
            self.executor.drop_frame(frame, ingress, Drop::NoAction);
            return None;
        };
        flow.count(frame.len() as u32, tcp_flags(&staged.key), self.millis);
        if flow.only_step != OnlyStep::NONE {
            self.executor.end(flow.only_step, frame, ingress);
            return None;
        }
        if flow.chain.is_some() {
            return self.run_chain(place, frame, staged, ingress);
        }
        let memo = self.cache.memo(place.0, place.1);
        if FrameClass::of(&staged.key).stage == Stage::Fresh {
            self.room.recorder.stop();
            if let Some(memo) = memo.filter(|memo| ends_in_pass(&memo.program)) {
                let home = match staged.table {
                    Some(table) if table != place.0 => {
                        Home::New { table, masked: staged.masked, shared: place }
                    }
                    _ => Home::Cached(place.0, place.1),
                };
                self.room.recorder.start(home, memo, &staged.key, removals);
            }
        }
        let steps = memo.map_or(&[][..], |memo| &memo.program.actions);
        let mut origin = Origin::new(ingress, &mut staged.key, self.now);
        let next = self.executor.run(steps, frame, &mut origin, self.slow, None);
        staged.held = origin.held;
        next.and_then(Next::recirculation)
    }

    /// Runs a flow's program and those that its chain leads to. If the tracker says something else than the chain was made
    /// for, the frame goes the ordinary way, and a new chain will be made.
    fn run_chain(
        &mut self,
        (table, slot): (TableIndex, FlowSlot),
        mut frame: Frame,
        staged: &mut Staged,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        let flags = tcp_flags(&staged.key);
        let (record, chain) = self.cache.record_and_chain_mut(table, slot)?;
        let chain = chain?;
        let mut origin = Origin::new(ingress, &mut staged.key, self.now);
        // Those of the flow itself are looked up only if they are needed: most links are nothing but a pass.
        let mut steps: Option<&[DpAction]> = None;
        if chain.is_good(self.revision, self.slow) {
            let mut link = Some(chain.first());
            loop {
                // Most frames are as the ones before.
                let follows = link
                    .as_deref()
                    .is_some_and(|l| l.is_alone && self.executor.follow(&mut frame, &mut origin, l));
                let next = match follows {
                    true => Some(Next::Follow(frame)),
                    false => {
                        let steps = steps.unwrap_or_else(|| record.steps());
                        self.executor.run(steps, frame, &mut origin, self.slow, link.as_deref())
                    }
                };
                match next {
                    Some(Next::Follow(followed)) => {
                        let followed_link = link?;
                        self.executor.charge(cost::LINK);
                        // The program before may have made it longer or shorter.
                        followed_link.count(followed.len() as u32, flags, self.now);
                        if followed_link.only_step != OnlyStep::NONE {
                            self.executor.end(followed_link.only_step, followed, ingress);
                            return None;
                        }
                        frame = followed;
                        let (next_steps, next_link) = followed_link.go_on();
                        (steps, link) = (Some(next_steps), next_link);
                    }
                    Some(Next::Recirculate(frame, id)) => {
                        // Out of a tunnel is where a chain may end; anywhere else the tracker has said something new.
                        if id != RecircId(0) {
                            self.cache.end_chain(table, slot);
                        }
                        return Some((frame, id));
                    }
                    None => return None,
                }
            }
        }
        let next = self.executor.run(record.steps(), frame, &mut origin, self.slow, None);
        self.cache.end_chain(table, slot);
        next.and_then(Next::recirculation)
    }

    /// Translates a key, carries out what else that means, and hands the answer on with the revision at which it is right.
    fn translate<R>(
        &mut self,
        key: &PacketKey,
        take: impl FnOnce(&mut Self, Draft<'_, S::Effect>, Revision) -> R,
    ) -> R {
        let (slow, stamp) = (self.slow, self.slow.revision());
        // Taken out, as what takes the answer wants the whole pass.
        let mut room = std::mem::take(&mut self.room.translation);
        let result = slow.translate_in(&Upcall { key }, &mut room, |draft| {
            let effects_cost = cost::EFFECT.saturating_mul(draft.effects.len() as u32);
            self.executor.charge(cost::TRANSLATION);
            self.executor.charge(cost::TABLE.saturating_mul(draft.tables));
            self.executor.charge(effects_cost);
            if !draft.effects.is_empty() {
                self.slow.commit(draft.effects, self.now);
                // What this frame taught must count for the next one of the same batch.
                self.revision = self.slow.revision();
                (self.stamp, self.millis) = self.cache.present(self.revision, self.now);
            }
            take(self, draft, stamp)
        });
        self.room.translation = room;
        result
    }

    /// A frame whose own flow is not cached. What it has in common with others may be, and its own flow begins as a copy of
    /// that: for one that is tracked not before its connection can be held, as many connections see one or two frames.
    fn miss(&mut self, frame: Frame, staged: &mut Staged, ingress: PortIndex) -> Option<(Frame, RecircId)> {
        let shared = self.shared_table(staged);
        let mut masked = staged.masked;
        if let Some(table) = shared {
            self.cache.masked(table, &staged.key, &mut masked);
        }
        if let Some(table) = shared
            && let Some(slot) = self.cache.find(table, &staged.key, &masked)
        {
            return self.run_shared((table, slot), frame, staged, ingress);
        }
        if !self.executor.ports.take_credit(ingress, self.now) {
            self.executor.drop_frame(frame, ingress, Drop::MissCredit);
            return None;
        }
        self.stats.cache.misses.add(1);
        let (table, share) = (shared.or(staged.table), self.executor.ports.share(ingress));
        let key = &staged.key;
        let place = self.translate(key, |pass, mut draft, stamp| {
            if draft.cacheable
                && let (Some(table), Some(share)) = (table, share)
            {
                pass.executor.charge(cost::INSERTION);
                let vacancy = Vacancy { table, masked: &masked, key, share };
                let stored = pass.cache.insert(vacancy, &mut draft, stamp, pass.now);
                if let Some(stored) = stored {
                    return Some((table, pass.note_stored(stored)));
                }
            }
            pass.keep_uncached(draft, &frame, key);
            None
        });
        staged.slot = place.map(|(_, slot)| slot);
        match place {
            Some(place) => self.run_cached(place, frame, staged, ingress),
            None => self.run_uncached(frame, staged, ingress),
        }
    }

    /// The table of flows that a frame's flow has in common with others, if there can be such.
    fn shared_table(&mut self, staged: &Staged) -> Option<TableIndex> {
        let fresh = FrameClass::of(&staged.key);
        if fresh.stage != Stage::Fresh {
            return None;
        }
        let own = staged.table?;
        let class = FrameClass { stage: Stage::Shared, ..fresh };
        if let Some((known, table)) = self.shared_class
            && known == class
        {
            return table;
        }
        let table = self.slow.profile(class).ok().and_then(|profile| self.table(profile));
        let table = table.filter(|t| *t != own);
        self.shared_class = Some((class, table));
        table
    }

    /// Runs the program that a frame has in common with others.
    fn run_shared(
        &mut self,
        place: Place,
        frame: Frame,
        staged: &mut Staged,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        if !self.is_good(place.0, place.1) {
            return self.retranslate(frame, staged, place, ingress);
        }
        self.stats.cache.hits.add(1);
        // A flow that is not tracked gets its place at once.
        if let Some(memo) = self.cache.memo(place.0, place.1)
            && !ends_in_pass(&memo.program)
            && let Some(copy) = self.cache.copy_of(place.0, place.1, memo)
            && let (Some(table), Some(share)) = (staged.table, self.executor.ports.share(ingress))
        {
            self.executor.charge(cost::INSERTION);
            let vacancy = Vacancy { table, masked: &staged.masked, key: &staged.key, share };
            if let Some(stored) = self.cache.insert_copy(vacancy, copy, self.now) {
                let slot = self.note_stored(stored);
                staged.slot = Some(slot);
                return self.run_cached((table, slot), frame, staged, ingress);
            }
        }
        self.run_cached(place, frame, staged, ingress)
    }

    /// Notes that a flow was cached, and says where.
    fn note_stored(&mut self, stored: Stored) -> FlowSlot {
        self.moved = true;
        self.stats.cache.evicted.add(stored.evicted);
        stored.slot
    }

    /// A cached flow has become wrong: its place gets a new program, without credit from its port.
    fn retranslate(
        &mut self,
        frame: Frame,
        staged: &mut Staged,
        place: Place,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        self.stats.cache.retranslated.add(1);
        let key = &staged.key;
        let is_cached = self.translate(key, |pass, mut draft, stamp| {
            let is_cacheable = draft.cacheable;
            if is_cacheable {
                pass.cache.replace(place.0, place.1, &mut draft, stamp);
            } else {
                pass.cache.remove(place.0, place.1);
                pass.moved = true;
                pass.keep_uncached(draft, &frame, key);
            }
            is_cacheable
        });
        if is_cached {
            return self.run_cached(place, frame, staged, ingress);
        }
        staged.slot = None;
        self.run_uncached(frame, staged, ingress)
    }

    /// Credits a translation for a frame whose flow is not cached, and puts its program where [`Self::run_uncached`] finds it.
    fn keep_uncached(&mut self, draft: Draft<'_, S::Effect>, frame: &Frame, key: &PacketKey) {
        self.stats.cache.uncached.add(1);
        draft.credits.credit(1, frame.len() as u64, self.now, tcp_flags(key));
        std::mem::swap(draft.steps, &mut self.room.steps);
    }

    fn run_uncached(
        &mut self,
        frame: Frame,
        staged: &mut Staged,
        ingress: PortIndex,
    ) -> Option<(Frame, RecircId)> {
        let mut steps = std::mem::take(&mut self.room.steps);
        let next = self.run(&steps, frame, staged, ingress);
        steps.clear();
        self.room.steps = steps;
        next
    }
}

#[inline]
fn tcp_flags(key: &PacketKey) -> u16 {
    key.get(slot::TCP_FLAGS) as u16
}

fn malformed_drop(malformed: Malformed) -> Drop {
    match malformed {
        Malformed::TooShort => Drop::TooShort,
        Malformed::TooLong => Drop::TooLong,
        Malformed::Checksum | Malformed::Segmentation => Drop::BadOffload,
    }
}
