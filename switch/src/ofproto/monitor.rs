//! Flow monitors: connections that are told of every change of the rules they watch. One that does not take its messages is
//! told that it misses some ("paused"), and when it does again, in what the rules have become different, and that this is all
//! ("resumed"): `NXT_FLOW_MONITOR_PAUSED`, OpenFlow 1.4 §7.4.6 `OFPFME_PAUSED`.

use super::connection::{Backlog, MONITORS_MAX};
use super::flow::removed_reason;
use super::{Answer, ConnId, OfConnection, Outgoing, Request, Waiting};
use crate::brain::Brain;
use flowtable::table::{Table, Tables};
use flowtable::{GroupId, Match, RemovalReason, Rule, RuleChange, TableId};
use openflow::message::{
    FlowMonitor, FlowUpdate, GROUP_ANY, Message, MonitorCommand, MonitorEvent, MonitorFlags, MultipartReply,
    RuleUpdate, Xid,
};
use openflow::{OfError, OfVersion};
use std::sync::Arc;

/// Whether a monitor wants to hear of a rule, which has been another `before` if it changes.
fn watches(monitor: &FlowMonitor, rule: &Rule, before: Option<&Rule>, matching: &Match) -> bool {
    // What the rule leads to, or did (OpenFlow 1.4 §7.3.5.15).
    let group = (monitor.out_group != GROUP_ANY).then_some(GroupId(monitor.out_group));
    let leads =
        |rule: &Rule| rule.outputs_to(monitor.out_port) && group.is_none_or(|group| rule.names_group(group));
    (monitor.table == TableId::ALL || monitor.table == rule.table)
        && (leads(rule) || before.is_some_and(leads))
        && matching.is_subset_of(&monitor.matching)
}

fn update(event: MonitorEvent, rule: &Rule, with_actions: bool) -> FlowUpdate {
    FlowUpdate::Full(Box::new(RuleUpdate {
        event,
        table: rule.table,
        priority: rule.priority,
        cookie: rule.cookie.0,
        idle_timeout: rule.idle_timeout,
        hard_timeout: rule.hard_timeout,
        matching: rule.matching(),
        actions: if with_actions { rule.actions.to_vec() } else { Vec::new() },
    }))
}

/// What a change is to a monitor: the event, its flag, and the rule to show.
fn event(change: &RuleChange) -> (MonitorEvent, u16, &Rule) {
    match change {
        RuleChange::Added { rule, replaced: None } => (MonitorEvent::Added, MonitorFlags::ADD, rule),
        // A replaced rule goes on under the same match: watchers see it change.
        RuleChange::Added { rule, replaced: Some(_) } => (MonitorEvent::Modified, MonitorFlags::MODIFY, rule),
        RuleChange::Modified { new, .. } => (MonitorEvent::Modified, MonitorFlags::MODIFY, new),
        RuleChange::Removed { rule, reason } => {
            (MonitorEvent::Removed(removed_reason(*reason)), MonitorFlags::DELETE, rule)
        }
    }
}

impl Brain {
    /// Sets up monitors and gives the rules that there are to those that want them first.
    pub(super) fn monitor_request(&mut self, r: &Request<'_>, monitors: Vec<FlowMonitor>) -> Answer {
        let mut initial = Vec::new();
        // All or none: the requests are checked before the first takes effect.
        let existing = &self.connection_mut(r.conn)?.monitors;
        let mut count = existing.len();
        for m in &monitors {
            let there = existing.contains_key(&m.id);
            match m.command {
                MonitorCommand::Add if there => return Err(OfError::FlowMonitorFailedMonitorExists),
                MonitorCommand::Add => count += 1,
                _ if !there => return Err(OfError::FlowMonitorFailedUnknownMonitor),
                _ => {}
            }
        }
        if count > MONITORS_MAX {
            return Err(OfError::FlowMonitorFailedInvalidMonitor);
        }
        for m in monitors {
            if m.command == MonitorCommand::Delete {
                self.connection_mut(r.conn)?.monitors.remove(&m.id);
                continue;
            }
            if m.flags.has(MonitorFlags::INITIAL) {
                let bridge = self.bridge(&r.bridge)?;
                for rule in bridge.rules.tables().select(m.table).flat_map(|t| t.rules()) {
                    if watches(&m, rule, None, &rule.matching()) {
                        initial.push(update(MonitorEvent::Initial, rule, m.flags.has(MonitorFlags::ACTIONS)));
                    }
                }
            }
            self.connection_mut(r.conn)?.monitors.insert(m.id, m);
        }
        let reply = MultipartReply::FlowMonitor(initial);
        Ok(vec![Message::MultipartReply { more: false, reply }])
    }

    pub(super) fn monitor_cancel(&mut self, r: &Request<'_>, id: u32) -> Answer {
        let removed = self.connection_mut(r.conn)?.monitors.remove(&id);
        removed.map(|_| vec![]).ok_or(OfError::FlowMonitorFailedUnknownMonitor)
    }

    /// Tells monitors of changes; a connection that made a change itself gets it abbreviated unless it asked otherwise.
    pub(super) fn monitors_follow(
        &mut self,
        bridge: &str,
        changes: &[RuleChange],
        cause: Option<&Request<'_>>,
    ) {
        let watching = |c: &&mut OfConnection| c.bridge == bridge && !c.monitors.is_empty();
        for c in self.connections.values_mut().filter(watching) {
            let updates = updates(c, changes, cause.filter(|r| r.conn == c.id));
            match &mut c.backlog {
                _ if updates.is_empty() => {}
                None => self.outbox.push((c.id, reply(updates))),
                Some(backlog) if backlog.is_paused => {}
                Some(backlog) => {
                    backlog.is_paused = true;
                    self.outbox.push((c.id, mark(c.version, FlowUpdate::Paused)));
                }
            }
        }
    }

    /// A connection does not take its messages: its monitors are told nothing from now on but that they miss something.
    pub fn monitors_hold(&mut self, conn: ConnId) {
        let Some(c) = self.connections.get_mut(&conn) else { return };
        if c.backlog.is_none()
            && !c.monitors.is_empty()
            && let Some(bridge) = self.bridges.get(&c.bridge)
        {
            c.backlog = Some(Backlog { rules: bridge.rules.tables().clone(), is_paused: false });
        }
    }

    /// A connection takes its messages again.
    pub fn monitors_go_on(&mut self, conn: ConnId) {
        let Some(c) = self.connections.get_mut(&conn) else { return };
        let Some(Backlog { rules, is_paused: true }) = c.backlog.take() else { return };
        let Some(bridge) = self.bridges.get(&c.bridge) else { return };
        let updates = updates(c, &differences(&rules, bridge.rules.tables()), None);
        if !updates.is_empty() {
            self.outbox.push((conn, reply(updates)));
        }
        self.outbox.push((conn, mark(c.version, FlowUpdate::Resumed)));
    }
}

fn reply(updates: Vec<FlowUpdate>) -> Waiting {
    let reply = MultipartReply::FlowMonitor(updates);
    Outgoing::Update(Message::MultipartReply { more: false, reply }).into()
}

/// That updates pause or go on: since OpenFlow 1.4 an update itself, before that a message.
fn mark(version: OfVersion, update: FlowUpdate) -> Waiting {
    match update {
        update if version >= OfVersion::V14 => reply(vec![update]),
        FlowUpdate::Paused => Outgoing::Update(Message::FlowMonitorPaused).into(),
        _ => Outgoing::Update(Message::FlowMonitorResumed).into(),
    }
}

/// What must happen to one set of rules for it to become another; first what goes.
fn differences(then: &Tables, now: &Tables) -> Vec<RuleChange> {
    let (mut removed, mut changed) = (Vec::new(), Vec::new());
    for (then, now) in then.iter().zip(now.iter()).filter(|(then, now)| !Arc::ptr_eq(then, now)) {
        let twin = |table: &Table, rule: &Rule| {
            table.classifier().find_exact(&rule.packed, rule.priority).map(Arc::clone)
        };
        for rule in then.rules().filter(|rule| twin(now, rule).is_none()) {
            removed.push(RuleChange::Removed { rule: Arc::clone(rule), reason: RemovalReason::Delete });
        }
        for new in now.rules().map(Arc::clone) {
            match twin(then, &new) {
                None => changed.push(RuleChange::Added { rule: new, replaced: None }),
                Some(old) if Arc::ptr_eq(&old, &new) => {}
                Some(old) => changed.push(RuleChange::Modified { old, new }),
            }
        }
    }
    removed.append(&mut changed);
    removed
}

/// What the monitors of a connection are told of changes; in full unless the connection made them itself, by the request `own`.
fn updates(c: &OfConnection, changes: &[RuleChange], own: Option<&Request<'_>>) -> Vec<FlowUpdate> {
    let mut updates = Vec::new();
    for change in changes {
        let (what, flag, rule) = event(change);
        let (before, matching) = (change.before().map(|rule| &**rule), rule.matching());
        let wants = |m: &&FlowMonitor| m.flags.has(flag) && watches(m, rule, before, &matching);
        let wanting = c.monitors.values().filter(wants);
        let wanting: Vec<_> =
            wanting.filter(|m| own.is_some() || !m.flags.has(MonitorFlags::ONLY_OWN)).collect();
        if wanting.is_empty() {
            continue;
        }
        let full = own.is_none() || wanting.iter().any(|m| m.flags.has(MonitorFlags::NO_ABBREV));
        let abbreviated = FlowUpdate::Abbrev(own.map_or(Xid(0), |r| r.xid));
        if full {
            let actions = wanting.iter().any(|m| m.flags.has(MonitorFlags::ACTIONS));
            updates.push(update(what, rule, actions));
        } else if updates.last() != Some(&abbreviated) {
            updates.push(abbreviated);
        }
    }
    updates
}
