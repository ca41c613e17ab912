//! Rules over OpenFlow: flow_mods, bundles of them, and what controllers are told of removals.

use super::group::describe;
use super::packet::check_packet_out;
use super::{Answer, Request, Waiting};
use crate::brain::Brain;
use crate::meter::Meters;
use base::Instant;
use flowtable::flow_mod::{self, FlowModError, OnMissing, RuleChange};
use flowtable::group::{GroupCommand, GroupMod, Groups};
use flowtable::{Cookie, GroupId, Match, OfAction, OfPort, RemovalReason, Rule, RuleFlags, TableId};
use openflow::codec::{self, CheckActions};
use openflow::message::{
    AsyncClass, FlowMod, FlowModCommand, FlowModFlags, FlowRemoved, FlowRemovedReason, GROUP_ANY, Message,
    PacketOut, PortMod, Xid,
};
use openflow::{OfError, OfVersion};
use packet::GeneveMap;
use std::sync::Arc;
use std::time::Duration;

/// Shortest time between two looks at which rules are to go: before each, workers walk over all that they have cached.
const EXPIRY_PAUSE: Duration = Duration::from_millis(250);

/// That a rule was removed, for a controller.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    rule: Arc<Rule>,
    /// Without counts.
    message: FlowRemoved,
}

impl Removal {
    /// The message, with all that the rule has been credited.
    pub fn message(self) -> Message {
        let Removal { rule, message } = self;
        Message::FlowRemoved(FlowRemoved {
            packets: Some(rule.stats.packets()),
            bytes: Some(rule.stats.bytes()),
            ..message
        })
    }
}

/// Number of a removal's reason, as the asynchronous configuration counts them.
pub(super) fn removed_reason(reason: RemovalReason) -> FlowRemovedReason {
    match reason {
        RemovalReason::IdleTimeout => FlowRemovedReason::IdleTimeout,
        RemovalReason::HardTimeout => FlowRemovedReason::HardTimeout,
        RemovalReason::Delete => FlowRemovedReason::Delete,
        RemovalReason::GroupDelete => FlowRemovedReason::GroupDelete,
        RemovalReason::MeterDelete => FlowRemovedReason::MeterDelete,
        RemovalReason::Eviction => FlowRemovedReason::Eviction,
    }
}

fn flow_mod_error(error: &FlowModError, version: OfVersion) -> OfError {
    match error {
        FlowModError::Overlap(_) => OfError::FlowModFailedOverlap,
        FlowModError::TableFull(_) => OfError::FlowModFailedTableFull,
        FlowModError::BadTableId(_) if version == OfVersion::V10 => OfError::NxFlowModFailedBadTableId,
        FlowModError::BadTableId(_) => OfError::FlowModFailedBadTableId,
        FlowModError::NotPermitted(_) => OfError::BadRequestEperm,
    }
}

fn flags(flags: FlowModFlags) -> RuleFlags {
    let pairs = [
        (FlowModFlags::SEND_FLOW_REM, RuleFlags::SEND_FLOW_REM),
        (FlowModFlags::CHECK_OVERLAP, RuleFlags::CHECK_OVERLAP),
        (FlowModFlags::RESET_COUNTS, RuleFlags::RESET_COUNTS),
        (FlowModFlags::NO_PKT_COUNTS, RuleFlags::NO_PKT_COUNTS),
        (FlowModFlags::NO_BYT_COUNTS, RuleFlags::NO_BYT_COUNTS),
    ];
    pairs.iter().filter(|(wire, _)| flags.has(*wire)).fold(RuleFlags::NONE, |all, (_, flag)| all | *flag)
}

/// The message in the tables' own terms.
fn request(flow_mod: &FlowMod, version: OfVersion) -> flow_mod::FlowMod {
    use flow_mod::FlowModCommand as Command;
    let mut flags = flags(flow_mod.flags);
    // OpenFlow 1.0 has no such flag: an add that replaces always starts to count anew.
    if version == OfVersion::V10 && flow_mod.command == FlowModCommand::Add {
        flags |= RuleFlags::RESET_COUNTS;
    }
    flow_mod::FlowMod {
        command: match flow_mod.command {
            FlowModCommand::Add => Command::Add,
            FlowModCommand::Modify => Command::Modify,
            FlowModCommand::ModifyStrict => Command::ModifyStrict,
            FlowModCommand::Delete => Command::Delete,
            FlowModCommand::DeleteStrict => Command::DeleteStrict,
        },
        table: flow_mod.table,
        priority: flow_mod.priority,
        matching: flow_mod.matching,
        cookie: Cookie(flow_mod.cookie_filter.value),
        cookie_mask: flow_mod.cookie_filter.mask,
        new_cookie: flow_mod.new_cookie.map(Cookie),
        idle_timeout: flow_mod.idle_timeout,
        hard_timeout: flow_mod.hard_timeout,
        importance: flow_mod.importance,
        flags,
        out_port: flow_mod.out_port,
        out_group: (flow_mod.out_group != GROUP_ANY).then_some(flow_mod.out_group),
        // A modify that filters by cookie cannot mean a rule that does not exist yet.
        on_missing: match version == OfVersion::V10 && flow_mod.cookie_filter.mask == 0 {
            true => OnMissing::Add,
            false => OnMissing::Ignore,
        },
        removal: RemovalReason::Delete,
        actions: flow_mod.actions.clone().into(),
    }
}

/// The deletion that follows from that of a group, or with [`GroupId::ALL`] of all: the rules that lead to it go too.
fn without_group(group: GroupId) -> flow_mod::FlowMod {
    flow_mod::FlowMod {
        out_group: Some(group.0),
        removal: RemovalReason::GroupDelete,
        ..flow_mod::FlowMod::new(flow_mod::FlowModCommand::Delete, TableId::ALL, Match::any())
    }
}

/// Checks actions against what they apply to and against what there is: ports have no queues.
///
/// # Errors
/// What [`codec::check_actions`] finds, `OFPBAC_BAD_OUT_GROUP` and `OFPMMFC_INVALID_METER` for what does not exist, and
/// errors for actions that are not built.
pub(super) fn check_actions(
    actions: &[OfAction],
    matching: &Match,
    table: TableId,
    version: OfVersion,
    there: (&Groups, &Meters),
) -> Result<(), OfError> {
    let against = CheckActions { version, matching, table, max_port: OfPort::MAX };
    codec::check_actions(&against, actions)?;
    unbuilt(actions)?;
    references(actions, there)
}

/// Groups and meters that actions name must exist.
fn references(actions: &[OfAction], there: (&Groups, &Meters)) -> Result<(), OfError> {
    actions.iter().try_for_each(|action| match action {
        OfAction::Group(id) if there.0.get(*id).is_none() => Err(OfError::BadActionBadOutGroup),
        OfAction::Meter(id) if there.1.get(*id).is_none() => Err(OfError::MeterModFailedInvalidMeter),
        other => references(other.inner(), there),
    })
}

/// What buckets may do. Groups need not exist yet, and fields need not be there, as in OVS.
pub(super) fn check_buckets(group_mod: &GroupMod, meters: &Meters) -> Result<(), OfError> {
    let exists = |action: &OfAction| match action {
        OfAction::Meter(id) => meters.get(*id).is_some(),
        _ => true,
    };
    for bucket in &group_mod.buckets {
        unbuilt(&bucket.actions)?;
        if !bucket.actions.iter().all(exists) {
            return Err(OfError::MeterModFailedInvalidMeter);
        }
    }
    Ok(())
}

/// Actions that this switch does not have.
fn unbuilt(actions: &[OfAction]) -> Result<(), OfError> {
    actions.iter().try_for_each(|action| match action {
        OfAction::Enqueue { .. } => Err(OfError::BadActionBadQueue),
        OfAction::CheckPktLarger { .. } => Err(OfError::BadActionBadVendorType),
        other => unbuilt(other.inner()),
    })
}

/// Adds the rule that makes a bridge a learning switch.
pub(crate) fn normal_rule() -> flow_mod::FlowMod {
    let mut normal = flow_mod::FlowMod::new(flow_mod::FlowModCommand::Add, TableId(0), Match::any());
    normal.priority = 0;
    normal.actions = [OfAction::Output { port: OfPort::NORMAL, max_len: 0 }].into();
    normal
}

/// A change of rules or groups, or a frame, which may name groups that there are by then.
enum Change {
    Rule(Box<FlowMod>),
    Group(GroupMod),
    Frame(Arc<PacketOut>),
}

/// What comes after the changes of a bundle.
enum Last {
    Port(PortMod),
    Frame(Arc<PacketOut>),
}

impl Change {
    /// Fields of Geneve options must be in the bridge's map of them.
    fn check_fields(&self, map: &GeneveMap) -> Result<(), OfError> {
        use super::tlv_table::check_fields;
        match self {
            Change::Rule(flow_mod) => check_fields(map, &flow_mod.matching, &flow_mod.actions),
            Change::Group(group_mod) => {
                let mut buckets = group_mod.buckets.iter();
                buckets.try_for_each(|b| check_fields(map, &Match::any(), &b.actions))
            }
            Change::Frame(_) => Ok(()),
        }
    }
}

impl Brain {
    pub(super) fn flow_mod(&mut self, r: &Request<'_>, flow_mod: FlowMod) -> Answer {
        let (buffer, command) = (flow_mod.buffer, flow_mod.command);
        self.apply_changes(r, vec![Change::Rule(Box::new(flow_mod))]).map_err(|(_, error)| error)?;
        // No frame is ever buffered, so an id can only be wrong; the rule stays, as in OVS.
        match (buffer, command) {
            (None, _) | (_, FlowModCommand::Delete | FlowModCommand::DeleteStrict) => Ok(vec![]),
            (Some(_), _) => Err(OfError::BadRequestBufferUnknown),
        }
    }

    pub(super) fn group_mod(&mut self, r: &Request<'_>, group_mod: GroupMod) -> Answer {
        self.apply_changes(r, vec![Change::Group(group_mod)]).map_err(|(_, error)| error)?;
        Ok(vec![])
    }

    /// Applies flow_mods and group_mods to a bridge in order, all or none, and tells whoever wants to hear. Frames among them are
    /// checked, not sent.
    ///
    /// # Errors
    /// Which was refused, and why.
    fn apply_changes(&mut self, r: &Request<'_>, changes: Vec<Change>) -> Result<(), (usize, OfError)> {
        let map = self.geneve_map(r).map_err(|e| (0, e))?;
        for (i, change) in changes.iter().enumerate() {
            change.check_fields(map).map_err(|e| (i, e))?;
        }
        let bridge = self.bridge_mut(&r.bridge).map_err(|e| (0, e))?;
        let mut groups = bridge.groups.clone();
        // Flow_mods, those that follow from deleted groups included, each with the change that it comes from.
        let mut requests = Vec::with_capacity(changes.len());
        let mut origins = Vec::with_capacity(changes.len());
        for (i, change) in changes.into_iter().enumerate() {
            let before = requests.len();
            match change {
                Change::Rule(flow_mod) => {
                    let table = if flow_mod.table == TableId::ALL { TableId(0) } else { flow_mod.table };
                    let there = (&groups, &bridge.meters);
                    check_actions(&flow_mod.actions, &flow_mod.matching, table, r.version, there)
                        .map_err(|e| (i, e))?;
                    requests.push(request(&flow_mod, r.version));
                }
                Change::Group(group_mod) => {
                    check_buckets(&group_mod, &bridge.meters).map_err(|e| (i, e))?;
                    let done = groups.apply(&group_mod, r.now).map_err(|e| (i, codec::group_error(e)))?;
                    let mut after = done.iter().filter_map(|change| change.after.as_deref());
                    if !after.all(|group| codec::is_describable(&describe(group))) {
                        return Err((i, OfError::GroupModFailedOutOfBuckets));
                    }
                    if group_mod.command == GroupCommand::Delete && !done.is_empty() {
                        requests.push(without_group(group_mod.group));
                    }
                }
                Change::Frame(out) => {
                    check_packet_out(&out, r.version, (&groups, &bridge.meters)).map_err(|e| (i, e))?;
                }
            }
            origins.resize(origins.len() + requests.len() - before, i);
        }
        let refused = |(n, error): (usize, FlowModError)| {
            (origins.get(n).copied().unwrap_or(0), flow_mod_error(&error, r.version))
        };
        let changed = bridge.rules.apply_all(&requests, r.now).map_err(refused)?;
        let groups_changed = !groups.is_same(&bridge.groups);
        bridge.groups = groups;
        let changed: Vec<RuleChange> = changed.into_iter().flatten().collect();
        if groups_changed {
            self.stage_tables(&r.bridge);
        }
        self.rules_changed(&r.bridge, &changed, Some(r), r.now);
        Ok(())
    }

    /// A bundle: everything on a copy first, then for good.
    pub(super) fn stage_bundle(
        &mut self,
        r: &Request<'_>,
        messages: Vec<(Xid, Message, Vec<u8>)>,
    ) -> Result<(), OfError> {
        // Port settings and frames come after the rules of the bundle and cannot fail once they were checked.
        let mut changes = Vec::new();
        let mut origin = Vec::new();
        let mut rest = Vec::new();
        for (xid, message, quote) in messages {
            match message {
                Message::FlowMod(flow_mod) => changes.push(Change::Rule(Box::new(flow_mod))),
                Message::GroupMod(group_mod) => changes.push(Change::Group(group_mod)),
                Message::PacketOut(out) => {
                    let out = Arc::new(out);
                    changes.push(Change::Frame(Arc::clone(&out)));
                    rest.push(Last::Frame(out));
                }
                Message::PortMod(port_mod) => {
                    if let Err(error) = self.check_port_mod(r, &port_mod) {
                        return Err(self.bundle_failed(r, xid, error, &quote));
                    }
                    rest.push(Last::Port(port_mod));
                    continue;
                }
                _ => continue,
            }
            origin.push((xid, quote));
        }
        let bridge = self.bridge(&r.bridge)?.id;
        if let Err((i, error)) = self.apply_changes(r, changes) {
            let (xid, quote) = origin.get(i).cloned().unwrap_or((r.xid, r.raw.to_vec()));
            return Err(self.bundle_failed(r, xid, error, &quote));
        }
        for last in rest {
            match last {
                Last::Port(port_mod) => drop(self.port_mod(r, port_mod)?),
                Last::Frame(out) => self.send_out(bridge, Arc::unwrap_or_clone(out)),
            }
        }
        Ok(())
    }

    /// Two errors, as OVS sends them: what is wrong with the message, and that the bundle failed because of it.
    fn bundle_failed(&mut self, r: &Request<'_>, xid: Xid, error: OfError, quote: &[u8]) -> OfError {
        self.refuse(r.conn, xid, error, quote);
        OfError::BundleFailedMsgFailed
    }

    /// Makes the snapshot follow, and tells controllers and monitors. `cause` is the request, if there was one.
    pub(crate) fn rules_changed(
        &mut self,
        bridge: &str,
        changes: &[RuleChange],
        cause: Option<&Request<'_>>,
        now: Instant,
    ) {
        if changes.is_empty() {
            return;
        }
        self.stage_tables(bridge);
        for change in changes {
            if let RuleChange::Removed { rule, reason } = change
                && rule.flags.has(RuleFlags::SEND_FLOW_REM)
            {
                self.send_flow_removed(bridge, rule, *reason, now);
            }
        }
        self.monitors_follow(bridge, changes, cause);
    }

    /// Its counts are those at the time when it leaves the outbox.
    fn send_flow_removed(&mut self, bridge: &str, rule: &Arc<Rule>, reason: RemovalReason, now: Instant) {
        let reason = removed_reason(reason);
        let message = FlowRemoved {
            matching: rule.matching(),
            cookie: rule.cookie.0,
            priority: rule.priority,
            reason,
            table: rule.table,
            duration: super::duration(rule.created, now),
            idle_timeout: rule.idle_timeout,
            hard_timeout: rule.hard_timeout,
            packets: None,
            bytes: None,
        };
        let removal = Removal { rule: Arc::clone(rule), message };
        for c in self.connections.values() {
            if c.bridge == bridge && c.hears(AsyncClass::FlowRemoved, reason as u32) {
                self.outbox.push((c.id, Waiting::Removal(removal.clone())));
                self.has_removals = true;
            }
        }
    }

    /// Takes away every rule of a bridge, its groups and meters, and puts back the rule that makes it a learning switch if it is
    /// to be one.
    pub(crate) fn flush_rules(&mut self, bridge: &str, standalone: bool, now: Instant) {
        let Ok(state) = self.bridge_mut(bridge) else { return };
        (state.groups, state.meters) = (Groups::default(), Meters::default());
        let all = flow_mod::FlowMod::new(flow_mod::FlowModCommand::Delete, TableId::ALL, Match::any());
        let mut requests = vec![all];
        requests.extend(standalone.then(normal_rule));
        // Deleting everything and adding one rule to an empty table cannot be refused.
        if let Ok(changes) = state.rules.apply_all(&requests, now) {
            let changes: Vec<_> = changes.into_iter().flatten().collect();
            self.stage_tables(bridge);
            self.rules_changed(bridge, &changes, None, now);
        }
    }

    /// Removes rules whose time is over, after `fold` has made known which of them were used meanwhile.
    pub(crate) fn expire_rules(&mut self, now: Instant, fold: impl FnOnce()) {
        let due = |b: &crate::brain::BridgeState| b.rules.next_deadline().is_some_and(|d| d <= now);
        let names: Vec<String> =
            self.bridges.values().filter(|b| due(b)).map(|b| b.config.name.clone()).collect();
        if names.is_empty() || now < self.expiry_next {
            return;
        }
        self.expiry_next = now + EXPIRY_PAUSE;
        fold();
        for name in names {
            if let Ok(state) = self.bridge_mut(&name) {
                let changes = state.rules.expire(now);
                self.rules_changed(&name, &changes, None, now);
            }
        }
    }
}
