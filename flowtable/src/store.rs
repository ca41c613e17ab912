//! The rules of one bridge as their owner has them: the tables, and what is kept beside them so that questions about all
//! rules need not walk them: deadlines, and what the rules' actions have in common.
//!
//! Everything beside the tables follows from the list of changes that each flow_mod returns, so that a flow_mod or bundle
//! that is refused leaves no trace. Snapshots are clones of [`RuleStore::tables`]; the rest never leaves the owner.

use crate::action::{OfAction, TableId};
use crate::expiry::Expiry;
use crate::flow_mod::{self, FlowMod, FlowModError, RuleChange};
use crate::key::{FlowKey, Mask, Words};
use crate::rule::{RemovalReason, Rule};
use crate::table::{TableConfig, Tables};
use base::{HashSeed, Instant};
use hashbrown::HashTable;
use std::sync::{Arc, OnceLock};

/// A set of table numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TableIdSet([u64; 4]);

impl TableIdSet {
    /// Puts a number in.
    pub fn insert(&mut self, id: TableId) {
        if let Some(word) = self.0.get_mut(id.0 as usize / 64) {
            *word |= 1 << (id.0 % 64);
        }
    }

    /// Whether a number is in.
    pub fn contains(&self, id: TableId) -> bool {
        self.0.get(id.0 as usize / 64).is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }

    /// Puts all numbers of another set in.
    pub fn union(&mut self, other: &TableIdSet) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// The numbers, rising.
    pub fn iter(&self) -> impl Iterator<Item = TableId> {
        (0..=u8::MAX).map(TableId).filter(|id| self.contains(*id))
    }
}

/// What a list of actions may read and where it may lead: what profiles are made of. Only whoever executes actions knows,
/// so it comes from a function that the owner of a [`RuleStore`] brings along.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ActionSummary {
    /// Bits that the actions may read.
    pub reads: Mask<FlowKey>,
    /// Tables that a packet may go to.
    pub tables: TableIdSet,
    /// Whatever else the owner wants or-ed together over rules, such as "there is an output to NORMAL".
    pub marks: u64,
}

impl ActionSummary {
    /// Adds what another list of actions does.
    pub fn union(&mut self, other: &ActionSummary) {
        self.reads.union(&other.reads);
        self.tables.union(&other.tables);
        self.marks |= other.marks;
    }

    fn hash(&self, seed: &HashSeed) -> u64 {
        let reads = (0..FlowKey::LEN).map(|i| self.reads.0.word(i));
        seed.hash(reads.chain(self.tables.0).chain([self.marks]))
    }
}

/// Computes the summary of actions in a table. Pure: asked again when the rule goes.
pub type Summarize = fn(TableId, &[OfAction]) -> ActionSummary;

/// The summaries of a table's rules, each with the number of rules that have it.
#[derive(Debug, Default)]
struct Tally {
    counts: HashTable<(ActionSummary, usize)>,
    union: OnceLock<ActionSummary>,
}

impl Tally {
    fn add(&mut self, summary: &ActionSummary, seed: &HashSeed) {
        if let Some(union) = self.union.get_mut() {
            union.union(summary);
        }
        let hash = summary.hash(seed);
        match self.counts.find_mut(hash, |(s, _)| s == summary) {
            Some((_, count)) => *count += 1,
            None => {
                self.counts.insert_unique(hash, (*summary, 1), |(s, _)| s.hash(seed));
            }
        }
    }

    fn remove(&mut self, summary: &ActionSummary, seed: &HashSeed) {
        if let Ok(mut entry) = self.counts.find_entry(summary.hash(seed), |(s, _)| s == summary) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
                self.union = OnceLock::new();
            }
        }
    }

    fn union(&self) -> &ActionSummary {
        self.union.get_or_init(|| {
            let mut union = ActionSummary::default();
            self.counts.iter().for_each(|(summary, _)| union.union(summary));
            union
        })
    }
}

/// The rules of one bridge.
#[derive(Debug)]
pub struct RuleStore {
    tables: Tables,
    expiry: Expiry,
    summarize: Summarize,
    tallies: Box<[Tally]>,
    seed: HashSeed,
}

impl RuleStore {
    /// No rules.
    pub fn new(seed: HashSeed, summarize: Summarize) -> Self {
        RuleStore {
            tables: Tables::new(seed),
            expiry: Expiry::new(),
            summarize,
            tallies: (0..TableId::COUNT).map(|_| Tally::default()).collect(),
            seed,
        }
    }

    /// The tables. A clone of them is a snapshot, for one reference count.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Changes a table's configuration. Rules beyond a new limit stay.
    pub fn configure(&mut self, id: TableId, config: TableConfig) {
        if let Some(table) = self.tables.get_mut(id) {
            table.config = config;
        }
    }

    /// Notes that a table has changed.
    pub fn set_revision(&mut self, id: TableId, revision: u64) {
        self.tables.set_revision(id, revision);
    }

    /// What all actions of a table's rules together may read and lead to. At hand, but for the first call after the
    /// last rule with some summary has gone, which looks at the distinct summaries.
    pub fn summary(&self, id: TableId) -> ActionSummary {
        self.tallies.get(id.0 as usize).map(|tally| *tally.union()).unwrap_or_default()
    }

    /// Applies a flow_mod; see [`flow_mod::apply`].
    ///
    /// # Errors
    /// See [`FlowModError`].
    pub fn apply(&mut self, flow_mod: &FlowMod, now: Instant) -> Result<Vec<RuleChange>, FlowModError> {
        let changes = flow_mod::apply(&mut self.tables, flow_mod, now)?;
        self.follow(&changes);
        Ok(changes)
    }

    /// Applies a bundle, all or nothing; see [`flow_mod::apply_all`].
    ///
    /// # Errors
    /// The index of the flow_mod that was refused, and why.
    pub fn apply_all(
        &mut self,
        flow_mods: &[FlowMod],
        now: Instant,
    ) -> Result<Vec<Vec<RuleChange>>, (usize, FlowModError)> {
        let changes = flow_mod::apply_all(&mut self.tables, flow_mods, now)?;
        changes.iter().for_each(|c| self.follow(c));
        Ok(changes)
    }

    /// Removes the rules whose time is over.
    pub fn expire(&mut self, now: Instant) -> Vec<RuleChange> {
        let due = self.expiry.expire(now);
        due.into_iter().filter_map(|(rule, reason)| self.remove(&rule, reason)).collect()
    }

    /// When to call [`RuleStore::expire`] next; none if no rule has a time-out.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.expiry.next_deadline()
    }

    /// Removes a rule for a reason of the switch's own, if this version of it is still there.
    pub fn remove(&mut self, rule: &Rule, reason: RemovalReason) -> Option<RuleChange> {
        let change = flow_mod::remove(&mut self.tables, rule, reason)?;
        self.follow(std::slice::from_ref(&change));
        Some(change)
    }

    /// Brings what stands beside the tables up to date.
    fn follow(&mut self, changes: &[RuleChange]) {
        for change in changes {
            if let Some(rule) = change.before() {
                self.expiry.remove(rule);
                let summary = (self.summarize)(rule.table, &rule.actions);
                if let Some(tally) = self.tallies.get_mut(rule.table.0 as usize) {
                    tally.remove(&summary, &self.seed);
                }
            }
            if let Some(rule) = change.after() {
                self.expiry.insert(&Arc::clone(rule));
                let summary = (self.summarize)(rule.table, &rule.actions);
                if let Some(tally) = self.tallies.get_mut(rule.table.0 as usize) {
                    tally.add(&summary, &self.seed);
                }
            }
        }
    }
}
