//! Tables of rules, and the set of all tables of a bridge as one value that is cheap to clone.
//!
//! A [`Tables`] is what a snapshot holds: packets are looked up in a clone while the owner changes the original. What
//! flow_mods mean is `flow_mod`'s business, when rules expire `expiry`'s.

use crate::action::TableId;
use crate::classifier::{Classifier, PackedMatch};
use crate::key::{FlowKey, Mask};
use crate::rule::{Rule, RuleSerial};
use base::HashSeed;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most rules that a table takes unless its configuration says less.
pub const TABLE_RULES_MAX: usize = 1_000_000;

/// How often a table was asked. Shared by all clones of the table.
#[derive(Debug, Default)]
pub struct LookupCounters {
    lookups: AtomicU64,
    matches: AtomicU64,
}

impl LookupCounters {
    /// Counts look-ups of packets, `matches` of which found a rule.
    pub fn add(&self, lookups: u64, matches: u64) {
        self.lookups.fetch_add(lookups, Ordering::Relaxed);
        self.matches.fetch_add(matches, Ordering::Relaxed);
    }

    /// Packets looked up.
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Packets that found a rule.
    pub fn matches(&self) -> u64 {
        self.matches.load(Ordering::Relaxed)
    }
}

/// Who may change a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TableAccess {
    /// Anyone with a flow_mod.
    #[default]
    Open,
    /// The switch itself only: flow_mods are refused, and "all tables" does not mean this one.
    Internal,
}

/// What the configuration says of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableConfig {
    /// Most rules in it; more are refused. At most [`TABLE_RULES_MAX`].
    pub rules_max: usize,
    /// Who may change it.
    pub access: TableAccess,
}

impl Default for TableConfig {
    fn default() -> Self {
        TableConfig { rules_max: TABLE_RULES_MAX, access: TableAccess::Open }
    }
}

/// One table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its number.
    pub id: TableId,
    /// What the configuration says of it.
    pub config: TableConfig,
    /// When it last changed, in the owner's count: whoever changes rules sets it ([`Tables::set_revision`]).
    pub revision: u64,
    counters: Arc<LookupCounters>,
    classifier: Classifier<Arc<Rule>>,
}

impl Table {
    /// An empty table.
    pub fn new(id: TableId, seed: HashSeed) -> Self {
        Table {
            id,
            config: TableConfig::default(),
            revision: 0,
            counters: Arc::default(),
            classifier: Classifier::new(seed),
        }
    }

    /// Its rules, as they are found.
    pub fn classifier(&self) -> &Classifier<Arc<Rule>> {
        &self.classifier
    }

    /// Its look-up counters.
    pub fn counters(&self) -> &Arc<LookupCounters> {
        &self.counters
    }

    /// The rule for a key. Counts nothing.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<&Arc<Rule>> {
        self.classifier.lookup(key)
    }

    /// The rule for a key, and what that depends on ([`Classifier::lookup_traced`]). Counts nothing.
    pub fn lookup_traced(&self, key: &FlowKey, seen: &mut Mask<FlowKey>) -> Option<&Arc<Rule>> {
        self.classifier.lookup_traced(key, seen)
    }

    /// Every bit that some rule's match looks at.
    pub fn union_mask(&self) -> &Mask<FlowKey> {
        self.classifier.union_mask()
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.classifier.len()
    }

    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.classifier.is_empty()
    }

    /// Every rule, in no particular order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.classifier.iter().map(|(_, rule)| rule)
    }

    /// Puts a rule in; gives the one that it replaces. No limit is looked at.
    pub fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        let key = Arc::clone(&rule);
        self.classifier.insert(&key.packed, key.priority, rule)
    }

    /// Takes a rule out.
    pub fn remove(&mut self, packed: &PackedMatch, priority: u16) -> Option<Arc<Rule>> {
        self.classifier.remove(packed, priority)
    }
}

const ROW: usize = 16;
type Row = Arc<[Arc<Table>; ROW]>;

/// All tables of a bridge. Cloning costs one reference count; after that, the first change of a table costs 32 of them
/// and what a change of the table itself costs.
#[derive(Clone, Debug)]
pub struct Tables {
    rows: Arc<[Row; ROW]>,
    serial_next: u64,
}

impl Tables {
    /// Empty tables, 0 to 254.
    pub fn new(seed: HashSeed) -> Self {
        let row = |r: usize| {
            Arc::new(std::array::from_fn(|i| Arc::new(Table::new(TableId((r * ROW + i) as u8), seed))))
        };
        Tables { rows: Arc::new(std::array::from_fn(row)), serial_next: 0 }
    }

    /// A table. [`TableId::ALL`] is none.
    pub fn get(&self, id: TableId) -> Option<&Arc<Table>> {
        if id == TableId::ALL {
            return None;
        }
        self.rows.get(id.0 as usize / ROW)?.get(id.0 as usize % ROW)
    }

    /// A table, to be changed: it is copied if a clone of `self` has it too.
    pub fn get_mut(&mut self, id: TableId) -> Option<&mut Table> {
        if id == TableId::ALL {
            return None;
        }
        let row = Arc::make_mut(&mut self.rows).get_mut(id.0 as usize / ROW)?;
        Arc::make_mut(row).get_mut(id.0 as usize % ROW).map(Arc::make_mut)
    }

    /// All tables by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.rows.iter().flat_map(|row| row.iter()).filter(|table| table.id != TableId::ALL)
    }

    /// The tables that a request means: one, or all that are open.
    pub fn select(&self, id: TableId) -> impl Iterator<Item = &Arc<Table>> {
        let wanted = move |table: &&Arc<Table>| match id {
            TableId::ALL => table.config.access == TableAccess::Open,
            id => table.id == id,
        };
        self.iter().filter(wanted)
    }

    /// Notes that a table has changed.
    pub fn set_revision(&mut self, id: TableId, revision: u64) {
        if let Some(table) = self.get_mut(id) {
            table.revision = revision;
        }
    }

    /// A name for a new version of a rule.
    pub fn next_serial(&mut self) -> RuleSerial {
        self.serial_next += 1;
        RuleSerial(self.serial_next)
    }

    /// Number of rules in all tables.
    pub fn rule_count(&self) -> usize {
        self.iter().map(|table| table.len()).sum()
    }
}
