//! Flow monitors: connections that are told of every change of the rules they watch.

use super::connection::MONITORS_MAX;
use super::flow::removed_reason;
use super::{Answer, Outgoing, Request};
use crate::brain::Brain;
use flowtable::{Match, Rule, RuleChange, TableId};
use openflow::OfError;
use openflow::message::{
    FlowMonitor, FlowUpdate, GROUP_ANY, Message, MonitorCommand, MonitorEvent, MonitorFlags, MultipartReply,
    RuleUpdate, Xid,
};

/// Whether a monitor wants to hear of a rule, which has been another `before` if it changes.
fn watches(monitor: &FlowMonitor, rule: &Rule, before: Option<&Rule>, matching: &Match) -> bool {
    let outputs = |rule: &Rule| rule.outputs_to(monitor.out_port);
    (monitor.table == TableId::ALL || monitor.table == rule.table)
        && (outputs(rule) || before.is_some_and(outputs))
        && monitor.out_group == GROUP_ANY
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
        for c in self.connections.values().filter(|c| c.bridge == bridge && !c.monitors.is_empty()) {
            let own = cause.filter(|r| r.conn == c.id);
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
            if !updates.is_empty() {
                let reply = MultipartReply::FlowMonitor(updates);
                let message = Message::MultipartReply { more: false, reply };
                self.outbox.push((c.id, Outgoing::Unasked(message)));
            }
        }
    }
}
