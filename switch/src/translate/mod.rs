//! Translation: one frame's key through a bridge's tables, to the program that the datapath runs.
//!
//! A [`Walk`] holds two views of the frame: `flow`, as the pipeline sees it now, and `base`, as the program composed so far
//! leaves the frame. Actions change `flow` only; an output first appends the steps that bring the frame from `base` to
//! `flow` (`commit`). Fields are compared in the bits that actions have written, which are all part of the profile, so a
//! step that would change nothing is soundly left out.
//!
//! Tables are not walked by recursion: what is still to do stands in `levels`, so a deep pipeline needs no deep stack, and
//! freezing it for a recirculation is storing a list.
//!
//! Nothing is changed here: what a translation wants done is in its effects.

mod actions;
mod commit;
mod credits;
mod ct;
mod fields;
mod group;
mod lookup;
mod mpls;
mod output;
mod room;
mod tunnel;

pub use credits::{Credits, OtherCredits};
pub(crate) use output::Cut;
pub use room::TranslationRoom;

use crate::bridge::{Bridge, BridgeId, BundleId, Device};
use crate::forwarding::{BRIDGES_DOMAIN, Effect, Forwarding, RECIRC_DOMAIN, settings_domain};
use crate::mac::{MacEntry, MacKey};
use crate::trace::{Note, Trace};
use crate::vlan::{Tag, TagStack};
use credits::Owed;
use datapath::{Domain, DpAction, Draft, Drop, RecircId, Revision, Translation};
use flowtable::key::pipeline_slot;
use flowtable::{FlowKey, LookupCounters, Mask, OfAction, OfPort, PipelineKey, RuleStats, TableId, Words};
use packet::PacketKey;
use packet::key::{Slot, slot};
use room::{Room, emptied};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

/// How often tables may be asked for one frame (OVS's limit).
pub const RESUBMITS_MAX: usize = 4_096;
/// How deep resubmits to the same or an earlier table may nest (OVS's limit).
pub const DEPTH_MAX: usize = 64;
/// How many patch ports a frame may pass one inside another.
pub const PATCHES_MAX: usize = 64;
/// Steps that a program may have.
pub const PROGRAM_STEPS_MAX: usize = 16_384;

/// Actions as they are carried out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Actions<'a> {
    /// Those of a rule, which lives as long as its snapshot.
    OfRule(&'a Arc<[OfAction]>),
    /// Others.
    Own(Arc<[OfAction]>),
}

impl Deref for Actions<'_> {
    type Target = [OfAction];

    fn deref(&self) -> &[OfAction] {
        match self {
            Actions::OfRule(actions) => actions,
            Actions::Own(actions) => actions,
        }
    }
}

/// A list of actions that is being carried out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Level<'a> {
    actions: Actions<'a>,
    next: usize,
    table: TableId,
    cookie: u64,
    depth: usize,
    source: Source,
}

/// Where a list of actions comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Source {
    /// A rule, or a packet-out.
    Actions,
    /// A table-miss rule (OpenFlow 1.3.5 §5.4).
    MissRule,
    /// The action set.
    Set,
    /// A group's bucket.
    Bucket,
}

/// A bridge whose pipeline waits while the frame is in a peer's.
struct Outer<'a> {
    bridge: &'a Bridge,
    before: Before,
    levels: Vec<Level<'a>>,
    action_set: Vec<OfAction>,
    /// Whether it was left into a tunnel.
    in_tunnel: bool,
}

/// How the frame was at a point of the walk to which it returns.
pub(crate) struct Before {
    flow: FlowKey,
    tags: TagStack,
    base: PacketKey,
    base_tags: TagStack,
    inner_unknown: bool,
    spoiled: bool,
    untracked: bool,
    has_old_tunnel: bool,
    came_to: Option<IpAddr>,
    /// Steps of the program so far.
    steps: usize,
}

/// What to do after an action.
pub(crate) enum Step {
    /// The next one.
    Next,
    /// The list that was just entered.
    Entered,
    /// No more of this list.
    Leave,
    /// No more of this bridge.
    Exit,
}

/// Where a walk began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A frame from a port.
    Port,
    /// A controller's packet-out.
    PacketOut,
}

pub(crate) struct Walk<'a> {
    fwd: &'a Forwarding,
    pub(crate) bridge: &'a Bridge,
    /// The frame as the pipeline sees it. Its IN_PORT slot holds the OpenFlow port.
    pub(crate) flow: FlowKey,
    /// Its tags; the key shows the outermost two.
    pub(crate) tags: TagStack,
    base: PacketKey,
    base_tags: TagStack,
    /// Bits that actions have written.
    touched: Mask<PacketKey>,
    /// Whether there are any.
    has_written: bool,
    /// The headers behind a popped MPLS entry have not been parsed.
    inner_unknown: bool,
    /// The frame cannot be brought back by rewrites to what it was before: it was tracked, or goes on elsewhere.
    spoiled: bool,
    /// The pipeline sees the frame as not tracked, though its key may say otherwise.
    untracked: bool,
    /// It came out of a tunnel.
    from_tunnel: bool,
    /// The address that the packet which it came in had been sent to.
    came_to: Option<IpAddr>,
    /// What its key says of that tunnel is no longer to be seen.
    has_old_tunnel: bool,
    origin: Origin,
    levels: Vec<Level<'a>>,
    outer: Vec<Outer<'a>>,
    action_set: Vec<OfAction>,
    resubmits: usize,
    /// Steps in clones of the program.
    clone_steps: usize,
    /// Rules that matched, as often as they did.
    rules: Vec<&'a Arc<RuleStats>>,
    /// Tables asked, and whether they had a rule.
    lookups: Vec<(&'a Arc<LookupCounters>, bool)>,
    /// The program, and what else was found.
    room: &'a mut Room,
    /// Why nothing was sent, as far as known.
    why: Option<Drop>,
    failed: bool,
    /// Whether the program may be kept for the flow's other frames.
    cacheable: bool,
    trace: Option<&'a mut Trace>,
}

/// Registers and metadata of a frame that enters a bridge.
pub(crate) fn pipeline_start() -> PipelineKey {
    let mut key = FlowKey::default();
    key.set_slot(pipeline_slot::ACTSET_OUTPUT, OfPort::UNSET.0.into());
    key.pipeline
}

/// What is made of a translation.
pub(crate) trait Take<R>: FnOnce(Draft<'_, Effect>) -> R {}

impl<R, F: FnOnce(Draft<'_, Effect>) -> R> Take<R> for F {}

/// Translates a frame's key.
pub(crate) fn translate<R>(
    fwd: &Forwarding,
    key: &PacketKey,
    room: &mut TranslationRoom,
    take: impl Take<R>,
) -> R {
    let room = room.get();
    let recirc = RecircId(key.get(slot::RECIRC_ID) as u32);
    if recirc != RecircId(0) {
        return resume(fwd, key, recirc, (room, None), take);
    }
    let Some((bridge, in_port)) = fwd.home_of_key(key) else {
        let from_tunnel = fwd.tunnels().socket(key.in_port()).is_some();
        let why = if from_tunnel { Drop::NoTunnel } else { Drop::NoBridge };
        return dropped(fwd, why, BRIDGES_DOMAIN, room, take);
    };
    let mut walk = Walk::new(fwd, (bridge, in_port), key, (room, None));
    walk.arrive();
    walk.walk();
    walk.hand_over(take)
}

/// Translates a key as a bridge's rules see it, its IN_PORT an OpenFlow port, and tells how: through the bridge's tables, or
/// by the actions of a packet-out.
pub(crate) fn traced(
    fwd: &Forwarding,
    bridge: &Bridge,
    (flow, actions): (&FlowKey, Option<Arc<[OfAction]>>),
    trace: &mut Trace,
) -> Translation<Effect> {
    let mut room = Room::default();
    let recirc = RecircId(flow.slot(slot::RECIRC_ID) as u32);
    if recirc != RecircId(0) {
        return resume(fwd, &flow.packet, recirc, (&mut room, Some(trace)), |draft| draft.keep());
    }
    let in_port = OfPort(flow.slot(slot::IN_PORT) as u32);
    let mut walk = Walk::new(fwd, (bridge, in_port), &flow.packet, (&mut room, Some(trace)));
    walk.flow.pipeline = flow.pipeline;
    walk.note_set_output();
    match actions {
        None => walk.arrive(),
        Some(actions) => walk.send_out(actions),
    }
    walk.walk();
    walk.hand_over(|draft| draft.keep())
}

fn resume<'a, R>(
    fwd: &'a Forwarding,
    key: &PacketKey,
    id: RecircId,
    (room, trace): (&'a mut Room, Option<&'a mut Trace>),
    take: impl Take<R>,
) -> R {
    let revision = fwd.revision_of(RECIRC_DOMAIN);
    let frozen = fwd.shared().recirc.get(id);
    let found = frozen.and_then(|f| fwd.bridge(f.bridge).map(|b| (f, b)));
    let Some((frozen, bridge)) = found else {
        return dropped(fwd, Drop::Recirculation, RECIRC_DOMAIN, room, take);
    };
    let mut walk = Walk::new(fwd, (bridge, frozen.in_port), key, (room, trace));
    walk.depend(RECIRC_DOMAIN, revision);
    walk.flow.pipeline = frozen.pipeline;
    if let Some(trace) = &mut walk.trace {
        trace.note(Note::Detail, format!("resumed from recirculation {:#x}", id.0));
        frozen.levels.iter().for_each(|l| trace.enter(Note::Table, format!("{:2}. (resumed)", l.table.0)));
    }
    // What the rest of the actions looks at was known when they were frozen; a rule that has gone since may no longer be
    // in the profile, so such a translation holds for this frame only.
    let mut known = frozen.levels.iter().all(|l| walk.profile_covers(l));
    walk.levels.extend(frozen.levels.iter().cloned());
    walk.action_set.clone_from(&frozen.action_set);
    if let Some(table) = frozen.table {
        known &= walk.profile_covers_table(table);
        walk.enter_table(table, None, lookup::OnMiss::AsConfigured);
    }
    walk.walk();
    walk.cacheable &= known;
    walk.hand_over(take)
}

/// See [`Forwarding::translate_actions`].
pub(crate) fn translate_actions(
    fwd: &Forwarding,
    bridge: BridgeId,
    in_port: OfPort,
    key: &PacketKey,
    actions: Arc<[OfAction]>,
) -> Translation<Effect> {
    let mut room = Room::default();
    let Some(bridge) = fwd.bridge(bridge) else {
        return dropped(fwd, Drop::NoBridge, BRIDGES_DOMAIN, &mut room, |draft| draft.keep());
    };
    let mut walk = Walk::new(fwd, (bridge, in_port), key, (&mut room, None));
    walk.send_out(actions);
    walk.walk();
    walk.cacheable = false;
    walk.hand_over(|draft| draft.keep())
}

/// Whether a step is an end of the frame or of a copy.
fn is_end(step: &DpAction) -> bool {
    matches!(
        step,
        DpAction::Output(_)
            | DpAction::OutputTrunc { .. }
            | DpAction::Upcall { .. }
            | DpAction::Clone(_)
            | DpAction::PopTunnel { .. }
            | DpAction::Recirculate(_)
    )
}

/// Whether somebody notices a step. A pass through the tracker or a meter matters to the frames that follow.
fn matters(step: &DpAction) -> bool {
    is_end(step) || matches!(step, DpAction::Ct(_) | DpAction::Meter(_))
}

fn dropped<R>(fwd: &Forwarding, why: Drop, domain: Domain, room: &mut Room, take: impl Take<R>) -> R {
    room.out.push(DpAction::Drop(why));
    let result = take(Draft {
        steps: &mut room.out,
        deps: &[(domain, fwd.revision_of(domain))],
        credits: &Box::default(),
        effects: &[],
        cacheable: true,
        tables: 0,
    });
    room.out.clear();
    result
}

impl<'a> Walk<'a> {
    // A walk is 1.5 KiB, which moving costs as much as a table; made in place it is not moved.
    #[inline(always)]
    fn new(
        fwd: &'a Forwarding,
        (bridge, in_port): (&'a Bridge, OfPort),
        key: &PacketKey,
        (room, trace): (&'a mut Room, Option<&'a mut Trace>),
    ) -> Walk<'a> {
        let mut flow = FlowKey::from(*key);
        flow.set_slot(slot::IN_PORT, in_port.0.into());
        flow.set_slot(slot::RECIRC_ID, 0);
        flow.pipeline = pipeline_start();
        let tag = |tpid: Slot, tci: Slot| Tag::from_key(key.get(tpid) as u16, key.get(tci) as u16);
        let tags = TagStack::new(
            tag(slot::VLAN_TPID, slot::VLAN_TCI),
            tag(slot::VLAN_TPID_INNER, slot::VLAN_TCI_INNER),
        );
        let mut walk = Walk {
            fwd,
            bridge,
            flow,
            tags,
            base: flow.packet,
            base_tags: tags,
            touched: Mask::empty(),
            has_written: false,
            inner_unknown: false,
            spoiled: false,
            untracked: false,
            from_tunnel: bridge.port(in_port).is_some_and(|p| matches!(p.device, Device::Tunnel { .. })),
            came_to: None,
            has_old_tunnel: false,
            origin: Origin::Port,
            levels: std::mem::take(&mut room.levels),
            outer: Vec::new(),
            action_set: Vec::new(),
            resubmits: 0,
            clone_steps: 0,
            rules: std::mem::take(&mut room.rules),
            lookups: std::mem::take(&mut room.lookups),
            room,
            why: None,
            failed: false,
            cacheable: true,
            trace,
        };
        walk.depend(settings_domain(bridge.id()), bridge.settings_revision());
        if let Some(trace) = &mut walk.trace {
            trace.enter_bridge(bridge.name());
        }
        walk
    }

    /// Begins with the actions of a packet-out.
    fn send_out(&mut self, actions: Arc<[OfAction]>) {
        self.origin = Origin::PacketOut;
        self.push_level(Actions::Own(actions), TableId(0), u64::MAX, 0);
    }

    /// Carries out what is in the levels, and the waiting bridges after that.
    fn walk(&mut self) {
        loop {
            self.walk_bridge();
            let Some(outer) = self.outer.pop() else { break };
            self.leave_bridge();
            self.return_to(outer);
        }
    }

    fn walk_bridge(&mut self) {
        while let Some(level) = self.levels.last_mut() {
            let actions = level.actions.clone();
            let mut step = Step::Leave;
            while let Some(level) = self.levels.last_mut() {
                let Some(action) = actions.get(level.next) else { break };
                level.next += 1;
                step = self.act(action);
                match step {
                    Step::Next => step = Step::Leave,
                    _ => break,
                }
            }
            match step {
                Step::Entered => {}
                Step::Exit => self.exit(),
                Step::Next | Step::Leave => self.pop_level(),
            }
            if self.room.out.len() + self.clone_steps > PROGRAM_STEPS_MAX {
                self.fail("program too long");
            }
        }
    }

    /// Ends the pipeline of this bridge; the action set is not carried out.
    fn exit(&mut self) {
        let in_set = self.levels.iter().any(|l| l.source == Source::Set);
        while self.levels.len() > 1 {
            self.drop_level();
        }
        if !in_set && !self.action_set.is_empty() {
            self.note(Note::Set, || "--. Executing action set:".to_owned());
        }
        self.action_set.clear();
        self.drop_level();
    }

    fn pop_level(&mut self) {
        // The action set comes as part of the outermost list, where OVS shows it too.
        if let [outermost] = self.levels.as_mut_slice()
            && !self.action_set.is_empty()
        {
            outermost.next = usize::MAX;
            return self.enter_action_set();
        }
        self.drop_level();
    }

    fn drop_level(&mut self) {
        if self.levels.pop().is_some()
            && let Some(trace) = &mut self.trace
        {
            trace.leave();
        }
    }

    fn push_level(&mut self, actions: Actions<'a>, table: TableId, cookie: u64, depth: usize) {
        let level = Level { actions, next: 0, table, cookie, depth, source: Source::Actions };
        self.levels.push(level);
    }

    /// Gives the whole translation up; nothing is sent.
    fn fail(&mut self, why: &'static str) {
        self.note(Note::Error, || format!("{why}, dropping"));
        while !self.levels.is_empty() {
            self.drop_level();
        }
        self.outer.clear();
        self.action_set.clear();
        self.failed = true;
    }

    /// Completes the program.
    fn finish(&mut self) {
        if self.failed {
            self.room.out.clear();
            self.why = Some(Drop::TooDeep);
        }
        // Rewrites after the last output change nothing that anybody sees.
        let end = self.room.out.iter().rposition(matters).map_or(0, |i| i + 1);
        self.room.out.truncate(end);
        // What comes last need not be done to a copy.
        while matches!(self.room.out.last(), Some(DpAction::Clone(_))) {
            if let Some(DpAction::Clone(steps)) = self.room.out.pop() {
                self.room.out.extend(steps);
            }
        }
        if !self.room.out.iter().any(is_end) {
            self.room.out.push(DpAction::Drop(self.why.unwrap_or(Drop::Rule)));
        }
        if let Some(trace) = &mut self.trace {
            trace.finish(&self.flow);
        }
    }

    /// Ends the walk and lends what was found to `take`.
    fn hand_over<R>(&mut self, take: impl Take<R>) -> R {
        self.finish();
        let room = &mut *self.room;
        let result = take(Draft {
            steps: &mut room.out,
            deps: &room.deps,
            credits: &Owed { rules: &self.rules, lookups: &self.lookups, others: &room.others },
            effects: &room.effects,
            cacheable: self.cacheable,
            tables: u32::try_from(self.lookups.len()).unwrap_or(u32::MAX),
        });
        room.clear();
        room.levels = emptied(std::mem::take(&mut self.levels));
        room.rules = emptied(std::mem::take(&mut self.rules));
        room.lookups = emptied(std::mem::take(&mut self.lookups));
        result
    }

    /// Whether nothing is left to do in this bridge.
    pub(crate) fn is_over(&self) -> bool {
        self.failed || self.levels.is_empty()
    }

    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    pub(crate) fn in_port(&self) -> OfPort {
        OfPort(self.flow.slot(slot::IN_PORT) as u32)
    }

    pub(crate) fn why(&mut self, why: Drop) {
        self.why = Some(why);
    }

    pub(crate) fn learn(&mut self, effect: Effect) {
        if !self.room.effects.contains(&effect) {
            self.room.effects.push(effect);
        }
    }

    /// Whether the frame makes a station known on a port.
    pub(crate) fn learns(&self, bridge: BridgeId, key: MacKey, bundle: BundleId) -> bool {
        self.room.effects.contains(&Effect::Learn { bridge, key, bundle })
    }

    /// Whether the frame has already made it known on another.
    pub(crate) fn learns_elsewhere(&self, bridge: BridgeId, key: MacKey, bundle: BundleId) -> bool {
        self.room.effects.iter().any(
            |e| matches!(e, Effect::Learn { bridge: b, key: k, bundle: on } if (*b, *k) == (bridge, key) && *on != bundle),
        )
    }

    pub(crate) fn credit_station(&mut self, entry: Arc<MacEntry>) {
        self.room.others.stations.push(entry);
    }

    /// Notes that the answer depends on something, as it was at `revision`.
    pub(crate) fn depend(&mut self, domain: Domain, revision: Revision) {
        match self.room.deps.iter_mut().find(|(d, _)| *d == domain) {
            // Read twice: the answer is only as new as the older reading.
            Some((_, known)) => *known = (*known).min(revision),
            None => self.room.deps.push((domain, revision)),
        }
    }

    /// How the frame is now, to return to.
    pub(crate) fn mark(&mut self) -> Before {
        Before {
            flow: self.flow,
            tags: self.tags,
            base: self.base,
            base_tags: self.base_tags,
            inner_unknown: self.inner_unknown,
            spoiled: std::mem::take(&mut self.spoiled),
            untracked: self.untracked,
            has_old_tunnel: self.has_old_tunnel,
            came_to: self.came_to,
            steps: self.room.out.len(),
        }
    }

    /// Makes the frame what it was. What was done to it meanwhile and cannot be undone is done to a copy instead.
    pub(crate) fn restore(&mut self, before: Before) {
        if !self.can_return_to(before.base.dl_type()) || self.inner_unknown != before.inner_unknown {
            let steps: Box<[DpAction]> =
                self.room.out.drain(before.steps.min(self.room.out.len())..).collect();
            if steps.iter().any(matters) {
                self.clone_steps += steps.len();
                self.room.out.push(DpAction::Clone(steps));
            }
            self.base = before.base;
            self.base_tags = before.base_tags;
            self.inner_unknown = before.inner_unknown;
        }
        self.untracked = before.untracked;
        self.has_old_tunnel = before.has_old_tunnel;
        self.came_to = before.came_to;
        self.spoiled = before.spoiled;
        self.flow = before.flow;
        self.tags = before.tags;
    }

    /// Adds to the trace.
    pub(crate) fn note(&mut self, kind: Note, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.note(kind, text());
        }
    }

    /// Tells the trace that these bits were looked at.
    pub(crate) fn see(&mut self, slot: Slot, bits: u128) {
        if let Some(trace) = &mut self.trace {
            trace.seen.add(slot, bits);
        }
    }

    fn depth(&self) -> usize {
        self.levels.last().map_or(0, |l| l.depth)
    }

    fn table(&self) -> TableId {
        self.levels.last().map_or(TableId(0), |l| l.table)
    }

    fn cookie(&self) -> u64 {
        self.levels.last().map_or(u64::MAX, |l| l.cookie)
    }

    /// Shows the outermost tags in the key.
    fn show_tags(&mut self) {
        let put = |flow: &mut FlowKey, tpid: Slot, tci: Slot, tag: Option<Tag>| {
            let (t, c) = tag.map_or((0, 0), |t| (t.tpid, t.tci | packet::key::VLAN_PRESENT));
            flow.set_slot(tpid, t.into());
            flow.set_slot(tci, c.into());
        };
        put(&mut self.flow, slot::VLAN_TPID, slot::VLAN_TCI, self.tags.outer());
        put(&mut self.flow, slot::VLAN_TPID_INNER, slot::VLAN_TCI_INNER, self.tags.inner());
    }

    /// Whether the profiles of the bridge know what the rest of a frozen list looks at.
    fn profile_covers(&self, level: &Level) -> bool {
        let rest = level.actions.get(level.next..).unwrap_or_default();
        self.bridge.needs_cover(&crate::profile::summarize(level.table, rest))
    }

    /// Whether the profiles know what the rules of a table look at.
    fn profile_covers_table(&self, table: TableId) -> bool {
        self.bridge.needs_cover(&crate::profile::summarize(table, &[OfAction::GotoTable(table)]))
    }
}
