//! Into tables: the first look-up, goto, resubmit, and what a miss does.

use super::{Actions, DEPTH_MAX, Origin, RESUBMITS_MAX, Source, Step, Walk};
use crate::bridge::{Fragments, MissBehaviour, PortConfig};
use crate::forwarding::table_domain;
use crate::trace::{Note, rule_line};
use datapath::Drop;
use flowtable::{OfPort, PacketInReason, Rule, Table, TableId, Words};
use packet::key::{FRAG_ANY, slot};

/// What a look-up without an answer means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnMiss {
    /// The table's miss behaviour.
    AsConfigured,
    /// Nothing: a resubmit goes on.
    Nothing,
}

impl<'a> Walk<'a> {
    /// Begins with a frame from a port.
    pub(super) fn ingress(&mut self) {
        let config = self.bridge.port(self.in_port()).map_or(PortConfig::default(), |p| p.config);
        if config.has(PortConfig(PortConfig::NO_RECV.0 | PortConfig::PORT_DOWN.0)) {
            self.why(Drop::PortNoReceive);
            return self.note(Note::Warn, || "input port does not receive, dropping".to_owned());
        }
        if self.is_fragment() && self.bridge.settings().fragments == Fragments::Drop {
            self.why(Drop::Fragment);
            return self.note(Note::Warn, || "fragments are not let in, dropping".to_owned());
        }
        self.enter_table(TableId(0), None, OnMiss::AsConfigured);
    }

    /// Looks a table up and enters the rule found. `in_port` is what to pretend meanwhile.
    pub(super) fn enter_table(&mut self, table: TableId, in_port: Option<OfPort>, on_miss: OnMiss) -> Step {
        // Only what leads back or stays counts as deeper: going forward ends by itself.
        let deepens = !self.levels.is_empty() && table <= self.table();
        let depth = self.depth() + usize::from(deepens);
        self.resubmits += 1;
        if self.resubmits > RESUBMITS_MAX {
            self.fail("over 4096 resubmit actions");
            return Step::Leave;
        }
        if depth > DEPTH_MAX {
            self.fail("over max translation depth 64");
            return Step::Leave;
        }
        let mut table = table;
        let mut rule = self.find(table, in_port);
        if on_miss == OnMiss::AsConfigured {
            while rule.is_none() && self.bridge.miss_of(table) == MissBehaviour::Continue && table.0 < 254 {
                self.note(Note::Table, || format!("{:2}. No match, next table.", table.0));
                table = TableId(table.0 + 1);
                rule = self.find(table, in_port);
            }
        }
        match rule {
            Some(rule) => self.enter_rule(rule, depth),
            None => {
                self.miss(table, on_miss);
                Step::Next
            }
        }
    }

    fn enter_rule(&mut self, rule: &'a Rule, depth: usize) -> Step {
        self.rules.push(&rule.stats);
        if let Some(trace) = &mut self.trace {
            trace.enter(Note::Table, rule_line(rule));
            if rule.actions.is_empty() {
                trace.note(Note::Action, "drop".to_owned());
            }
        }
        if rule.actions.is_empty() {
            self.why(Drop::Rule);
        }
        self.push_level(Actions::OfRule(&rule.actions), rule.table, rule.cookie.0, depth);
        if rule.priority == 0
            && rule.matching().mask().is_empty()
            && let Some(level) = self.levels.last_mut()
        {
            level.source = Source::MissRule;
        }
        Step::Entered
    }

    fn find(&mut self, id: TableId, in_port: Option<OfPort>) -> Option<&'a Rule> {
        let bridge = self.bridge;
        let table = bridge.table(id)?;
        self.depend(table_domain(bridge.id(), id), bridge.table_revision(id));
        let hides_ports = self.is_fragment() && bridge.settings().fragments == Fragments::Normal;
        let rule = if in_port.is_none() && !hides_ports {
            self.look_up(table)
        } else {
            let hidden = [slot::IN_PORT, slot::TP_SRC, slot::TP_DST].map(|s| (s, self.flow.slot(s)));
            if let Some(port) = in_port {
                self.flow.set_slot(slot::IN_PORT, port.0.into());
            }
            if hides_ports {
                self.flow.set_slot(slot::TP_SRC, 0);
                self.flow.set_slot(slot::TP_DST, 0);
            }
            let rule = self.look_up(table);
            hidden.iter().for_each(|(s, value)| self.flow.set_slot(*s, *value));
            rule
        };
        self.lookups.push((table.counters(), rule.is_some()));
        rule
    }

    fn look_up(&mut self, table: &'a Table) -> Option<&'a Rule> {
        let rule = match &mut self.trace {
            None => table.lookup(&self.flow),
            Some(trace) => table.lookup_traced(&self.flow, &mut trace.seen),
        };
        rule.map(|rule| &**rule)
    }

    fn is_fragment(&self) -> bool {
        self.flow.slot(slot::NW_FRAG) & u128::from(FRAG_ANY) != 0
    }

    fn miss(&mut self, table: TableId, on_miss: OnMiss) {
        let told = match self.bridge.miss_of(table) {
            MissBehaviour::Controller { max_len } if on_miss == OnMiss::AsConfigured => Some(max_len),
            _ => None,
        };
        let silent = |p: &crate::bridge::BridgePort| p.config.has(PortConfig::NO_PACKET_IN);
        let told = told.filter(|_| !self.bridge.port(self.in_port()).is_some_and(silent));
        if let Some(trace) = &mut self.trace {
            let (found, done) = match told {
                Some(_) => ("No match, and a \"packet-in\" is called for.", "controller(reason=)"),
                None => ("No match.", "drop"),
            };
            trace.enter(Note::Table, format!("{:2}. {found}", table.0));
            trace.note(Note::Action, done.to_owned());
            trace.leave();
        }
        match told {
            Some(max_len) => self.punt(super::output::Punt {
                reason: PacketInReason::NoMatch,
                table,
                cookie: u64::MAX,
                controller_id: 0,
                max_len,
                userdata: &[],
            }),
            None if on_miss == OnMiss::AsConfigured => self.why(Drop::TableMiss),
            None => {}
        }
    }

    /// `resubmit(port,table)`.
    pub(super) fn resubmit(&mut self, port: Option<OfPort>, table: Option<TableId>) -> Step {
        let port = port.filter(|p| *p != OfPort::IN_PORT);
        self.enter_table(table.unwrap_or(self.table()), port, OnMiss::Nothing)
    }

    /// `output:TABLE`, of packet-outs.
    pub(super) fn output_table(&mut self) -> Step {
        if self.origin == Origin::PacketOut && self.levels.len() == 1 {
            self.enter_table(TableId(0), None, OnMiss::AsConfigured)
        } else {
            Step::Next
        }
    }
}
