//! What flow_mods do to tables (OpenFlow 1.0 §4.6 and §5.3.3, OpenFlow 1.5.1 §6.4 and §7.3.4.2, ovs-ofctl(8)).
//!
//! A [`FlowMod`] says everything that OpenFlow versions disagree on explicitly, so that this code knows no versions: the
//! decoder decides whether a modify may add, whether it changes the cookie and whether an add clears counters. Applying
//! one is a function of tables, flow_mod and time; messages that follow from it (flow_removed, flow monitors) are made
//! from the list of [`RuleChange`]s by whoever has connections.

use crate::action::{OfAction, TableId};
use crate::classifier::PackedMatch;
use crate::group::GroupId;
use crate::key::Match;
use crate::port::OfPort;
use crate::rule::{Cookie, RemovalReason, Rule, RuleFlags, RuleStats};
use crate::table::{Table, TableAccess, Tables};
use base::Instant;
use std::sync::Arc;

/// What to do (`ofp_flow_mod_command`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowModCommand {
    /// Add a rule, replacing the one with the same match and priority.
    Add,
    /// Change the actions of all rules whose matches are subsets.
    Modify,
    /// Change the actions of the rule with the same match and priority.
    ModifyStrict,
    /// Delete all rules whose matches are subsets.
    Delete,
    /// Delete the rule with the same match and priority.
    DeleteStrict,
}

/// What a modify does that finds no rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnMissing {
    /// Adds one (OpenFlow 1.0; 1.1 and Nicira's flow_mod with a cookie mask of 0).
    Add,
    /// Nothing (OpenFlow 1.2 and later).
    Ignore,
}

/// A request to change rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// In which table. [`TableId::ALL`] in an add leaves the choice to the switch: table 0; in others it means every table.
    pub table: TableId,
    /// Of the rule to add, or of the rules meant by strict commands.
    pub priority: u16,
    /// What the rule matches on.
    pub matching: Match,
    /// Modify and delete only: rules whose cookies have these values…
    pub cookie: Cookie,
    /// … in these bits.
    pub cookie_mask: u64,
    /// Cookie for the rule. A modify without one leaves cookies as they are.
    pub new_cookie: Option<Cookie>,
    /// See [`Rule::idle_timeout`]. Modifying changes no time-outs.
    pub idle_timeout: u16,
    /// See [`Rule::hard_timeout`].
    pub hard_timeout: u16,
    /// See [`Rule::importance`].
    pub importance: u16,
    /// Flags; `RESET_COUNTS` is honoured in adds and modifies.
    pub flags: RuleFlags,
    /// Delete only: rules with an output to this port, [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// Delete only: rules with this group, with `OFPG_ALL` those with any. None for all.
    pub out_group: Option<u32>,
    /// What a modify does that finds no rule.
    pub on_missing: OnMissing,
    /// Delete only: why rules go.
    pub removal: RemovalReason,
    /// What rules do from now on.
    pub actions: Arc<[OfAction]>,
}

impl FlowMod {
    /// A flow_mod that concerns cookies, ports and groups of all values, with OpenFlow's default priority 0x8000, no
    /// time-outs, no flags and no actions.
    pub fn new(command: FlowModCommand, table: TableId, matching: Match) -> Self {
        FlowMod {
            command,
            table,
            priority: 0x8000,
            matching,
            cookie: Cookie(0),
            cookie_mask: 0,
            new_cookie: None,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: RuleFlags::NONE,
            out_port: OfPort::ANY,
            out_group: None,
            on_missing: OnMissing::Ignore,
            removal: RemovalReason::Delete,
            actions: Arc::from([]),
        }
    }

    /// The rules that a modify or delete means.
    pub fn filter(&self) -> RuleFilter {
        let strict = matches!(self.command, FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict);
        let delete = matches!(self.command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
        RuleFilter {
            table: self.table,
            matching: self.matching,
            strict_priority: strict.then_some(self.priority),
            cookie: self.cookie,
            cookie_mask: self.cookie_mask,
            out_port: if delete { self.out_port } else { OfPort::ANY },
            out_group: if delete { self.out_group } else { None },
        }
    }
}

/// Which rules a request means: modify, delete, flow statistics, aggregate statistics, flow monitors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleFilter {
    /// Where; [`TableId::ALL`] for all open tables.
    pub table: TableId,
    /// Rules whose matches are subsets of this, or with a strict priority, this very match.
    pub matching: Match,
    /// With a priority: rules with this very priority and match.
    pub strict_priority: Option<u16>,
    /// Rules whose cookies have these values…
    pub cookie: Cookie,
    /// … in these bits.
    pub cookie_mask: u64,
    /// Rules with an output to this port; [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// Rules with this group; none for all.
    pub out_group: Option<u32>,
}

impl RuleFilter {
    /// Every rule of a table, or of all with [`TableId::ALL`].
    pub fn all(table: TableId) -> Self {
        RuleFilter {
            table,
            matching: Match::any(),
            strict_priority: None,
            cookie: Cookie(0),
            cookie_mask: 0,
            out_port: OfPort::ANY,
            out_group: None,
        }
    }

    /// Whether a rule passes everything but table, match and priority.
    fn accepts(&self, rule: &Rule) -> bool {
        (rule.cookie.0 ^ self.cookie.0) & self.cookie_mask == 0
            && rule.outputs_to(self.out_port)
            && self.out_group.is_none_or(|group| rule.names_group(GroupId(group)))
    }

    /// Whether the filter means this rule.
    pub fn matches(&self, rule: &Rule) -> bool {
        let packed = PackedMatch::from(&self.matching);
        let place = self.table == TableId::ALL || self.table == rule.table;
        let matching = match self.strict_priority {
            Some(priority) => rule.priority == priority && rule.packed == packed,
            None => rule.packed.is_subset_of(&packed),
        };
        place && matching && self.accepts(rule)
    }

    fn select_in(&self, table: &Table, found: &mut Vec<Arc<Rule>>) {
        let packed = table.classifier().pack(&self.matching);
        match self.strict_priority {
            Some(priority) => found.extend(
                table.classifier().find_exact(&packed, priority).filter(|r| self.accepts(r)).cloned(),
            ),
            None => {
                let subsets = table.classifier().iter_subsets(&packed).map(|(_, rule)| rule);
                found.extend(subsets.filter(|r| self.accepts(r)).cloned());
            }
        }
    }

    /// The rules it means, by table and age.
    pub fn select(&self, tables: &Tables) -> Vec<Arc<Rule>> {
        let mut found = Vec::new();
        tables.select(self.table).for_each(|table| self.select_in(table, &mut found));
        found.sort_by_key(|rule| (rule.table, rule.serial));
        found
    }
}

/// One thing that happened to the rules.
#[derive(Clone, Debug)]
pub enum RuleChange {
    /// A rule was added.
    Added {
        /// The new one.
        rule: Arc<Rule>,
        /// The one with the same match and priority that it replaced; no flow_removed is sent for it.
        replaced: Option<Arc<Rule>>,
    },
    /// A rule has new actions, cookie or counters.
    Modified {
        /// As it was.
        old: Arc<Rule>,
        /// As it is.
        new: Arc<Rule>,
    },
    /// A rule has gone.
    Removed {
        /// As it was.
        rule: Arc<Rule>,
        /// Why.
        reason: RemovalReason,
    },
}

impl RuleChange {
    /// The rule that there is not any more.
    pub fn before(&self) -> Option<&Arc<Rule>> {
        match self {
            RuleChange::Added { replaced, .. } => replaced.as_ref(),
            RuleChange::Modified { old, .. } => Some(old),
            RuleChange::Removed { rule, .. } => Some(rule),
        }
    }

    /// The rule that there is now.
    pub fn after(&self) -> Option<&Arc<Rule>> {
        match self {
            RuleChange::Added { rule, .. } => Some(rule),
            RuleChange::Modified { new, .. } => Some(new),
            RuleChange::Removed { .. } => None,
        }
    }

    /// Where it happened.
    pub fn table(&self) -> TableId {
        match self {
            RuleChange::Added { rule, .. } | RuleChange::Removed { rule, .. } => rule.table,
            RuleChange::Modified { new, .. } => new.table,
        }
    }
}

/// Why a flow_mod was refused. Each corresponds to one OpenFlow error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FlowModError {
    /// `OFPFMFC_OVERLAP`: asked to check, and a rule of the same priority overlaps.
    #[error("table {} has an overlapping rule of the same priority", .0.0)]
    Overlap(TableId),
    /// `OFPFMFC_TABLE_FULL`.
    #[error("table {} is full", .0.0)]
    TableFull(TableId),
    /// `OFPFMFC_BAD_TABLE_ID` (`OFPBRC_BAD_TABLE_ID` in OVS's answers to a table that the switch has not).
    #[error("there is no table {}", .0.0)]
    BadTableId(TableId),
    /// `OFPBRC_EPERM`: the table is the switch's own.
    #[error("table {} is not for flow_mods", .0.0)]
    NotPermitted(TableId),
}

/// Applies a flow_mod. What it did is returned in order; on an error it has done nothing.
///
/// # Errors
/// See [`FlowModError`].
pub fn apply(tables: &mut Tables, flow_mod: &FlowMod, now: Instant) -> Result<Vec<RuleChange>, FlowModError> {
    if flow_mod.table != TableId::ALL && tables.get(flow_mod.table).is_none() {
        return Err(FlowModError::BadTableId(flow_mod.table));
    }
    match flow_mod.command {
        FlowModCommand::Add => Ok(vec![add(tables, flow_mod, now)?]),
        FlowModCommand::Modify | FlowModCommand::ModifyStrict => {
            let rules = changeable(tables, flow_mod)?;
            if rules.is_empty() && flow_mod.on_missing == OnMissing::Add {
                return Ok(vec![add(tables, flow_mod, now)?]);
            }
            Ok(rules.into_iter().map(|old| modify(tables, flow_mod, old, now)).collect())
        }
        FlowModCommand::Delete | FlowModCommand::DeleteStrict => {
            let rules = changeable(tables, flow_mod)?;
            Ok(rules.into_iter().filter_map(|rule| remove(tables, &rule, flow_mod.removal)).collect())
        }
    }
}

/// Applies flow_mods in order, all or none.
///
/// # Errors
/// The index of the flow_mod that was refused, and why.
pub fn apply_all(
    tables: &mut Tables,
    flow_mods: &[FlowMod],
    now: Instant,
) -> Result<Vec<Vec<RuleChange>>, (usize, FlowModError)> {
    let mut trial = tables.clone();
    let mut changes = Vec::with_capacity(flow_mods.len());
    for (i, flow_mod) in flow_mods.iter().enumerate() {
        changes.push(apply(&mut trial, flow_mod, now).map_err(|error| (i, error))?);
    }
    *tables = trial;
    Ok(changes)
}

/// Takes a rule out, if it is still there in this version.
pub fn remove(tables: &mut Tables, rule: &Rule, reason: RemovalReason) -> Option<RuleChange> {
    let current = tables.get(rule.table)?.classifier().find_exact(&rule.packed, rule.priority)?;
    if current.serial != rule.serial {
        return None;
    }
    let removed = tables.get_mut(rule.table)?.remove(&rule.packed, rule.priority)?;
    Some(RuleChange::Removed { rule: removed, reason })
}

/// The rules that a modify or delete means, provided that it may change them.
fn changeable(tables: &Tables, flow_mod: &FlowMod) -> Result<Vec<Arc<Rule>>, FlowModError> {
    let rules = flow_mod.filter().select(tables);
    match tables.get(flow_mod.table) {
        Some(table) if table.config.access == TableAccess::Internal && !rules.is_empty() => {
            Err(FlowModError::NotPermitted(table.id))
        }
        _ => Ok(rules),
    }
}

/// The table that a rule is added to.
fn destination(flow_mod: &FlowMod) -> TableId {
    if flow_mod.table == TableId::ALL { TableId(0) } else { flow_mod.table }
}

fn add(tables: &mut Tables, flow_mod: &FlowMod, now: Instant) -> Result<RuleChange, FlowModError> {
    let id = destination(flow_mod);
    let serial = tables.next_serial();
    let table = tables.get(id).ok_or(FlowModError::BadTableId(id))?;
    if table.config.access == TableAccess::Internal {
        return Err(FlowModError::NotPermitted(id));
    }
    let packed = table.classifier().pack(&flow_mod.matching);
    let replaced = table.classifier().find_exact(&packed, flow_mod.priority);
    if replaced.is_none() {
        let check = flow_mod.flags.has(RuleFlags::CHECK_OVERLAP);
        if check && table.classifier().find_overlap(&packed, flow_mod.priority).is_some() {
            return Err(FlowModError::Overlap(id));
        }
        if table.len() >= table.config.rules_max {
            return Err(FlowModError::TableFull(id));
        }
    }
    let stats = match replaced {
        Some(old) if !flow_mod.flags.has(RuleFlags::RESET_COUNTS) => Arc::clone(&old.stats),
        _ => Arc::new(RuleStats::new(now)),
    };
    let rule = Arc::new(Rule {
        serial,
        table: id,
        priority: flow_mod.priority,
        packed,
        cookie: flow_mod.new_cookie.unwrap_or_default(),
        idle_timeout: flow_mod.idle_timeout,
        hard_timeout: flow_mod.hard_timeout,
        importance: flow_mod.importance,
        flags: flow_mod.flags,
        actions: Arc::clone(&flow_mod.actions),
        created: now,
        modified: now,
        stats,
    });
    let table = tables.get_mut(id).ok_or(FlowModError::BadTableId(id))?;
    let replaced = table.insert(Arc::clone(&rule));
    Ok(RuleChange::Added { rule, replaced })
}

fn modify(tables: &mut Tables, flow_mod: &FlowMod, old: Arc<Rule>, now: Instant) -> RuleChange {
    let mut rule = Rule::clone(&old);
    rule.serial = tables.next_serial();
    rule.actions = Arc::clone(&flow_mod.actions);
    rule.modified = now;
    if let Some(cookie) = flow_mod.new_cookie {
        rule.cookie = cookie;
    }
    if flow_mod.flags.has(RuleFlags::RESET_COUNTS) {
        // Idle time goes on all the same, as with OVS.
        rule.stats = Arc::new(RuleStats::new(old.stats.last_used()));
    }
    let new = Arc::new(rule);
    if let Some(table) = tables.get_mut(new.table) {
        table.insert(Arc::clone(&new));
    }
    RuleChange::Modified { old, new }
}
