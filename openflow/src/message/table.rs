//! Tables: features, settings.

use flowtable::{FieldId, TableId};

/// A set of fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FieldSet(u128);

// The set is a u128: the field table must not outgrow it.
const _: () = assert!(flowtable::field::FIELDS.len() <= 128);

impl FieldSet {
    /// The fields for which `wanted` is true.
    pub fn filter(wanted: impl Fn(&flowtable::Field) -> bool) -> FieldSet {
        let mut set = FieldSet::default();
        for row in flowtable::field::FIELDS.iter().filter(|f| wanted(f)) {
            set.insert(row.id);
        }
        set
    }

    /// Adds a field.
    pub fn insert(&mut self, field: FieldId) {
        self.0 |= 1 << field as u8;
    }

    /// Whether it is in the set.
    pub const fn contains(self, field: FieldId) -> bool {
        self.0 & 1 << field as u8 != 0
    }

    /// The fields, in the order of the field table.
    pub fn iter(self) -> impl Iterator<Item = FieldId> {
        flowtable::field::FIELDS.iter().map(|f| f.id).filter(move |id| self.contains(*id))
    }
}

/// A set of tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TableSet([u64; 4]);

impl TableSet {
    /// Tables `first` to `last`, both included.
    pub fn range(first: u8, last: u8) -> TableSet {
        let mut set = TableSet::default();
        for table in first..=last {
            set.insert(TableId(table));
        }
        set
    }

    /// Adds a table.
    pub fn insert(&mut self, table: TableId) {
        if let Some(word) = self.0.get_mut(table.0 as usize / 64) {
            *word |= 1 << (table.0 % 64);
        }
    }

    /// Whether it is in the set.
    pub fn contains(self, table: TableId) -> bool {
        self.0.get(table.0 as usize / 64).is_some_and(|word| word & 1 << (table.0 % 64) != 0)
    }

    /// The tables, ascending.
    pub fn iter(self) -> impl Iterator<Item = TableId> {
        (0..=255).map(TableId).filter(move |t| self.contains(*t))
    }
}

/// What one list of actions can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ActionAbilities {
    /// Bits by `ofp_action_type` of OpenFlow 1.3 and later.
    pub actions: u32,
    /// Fields that set_field can write.
    pub set_fields: FieldSet,
}

/// What rules of a table, or its miss, can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableAbilities {
    /// Bits by `ofp_instruction_type`.
    pub instructions: u32,
    /// Tables that goto_table can go to.
    pub next_tables: TableSet,
    /// In write_actions.
    pub write: ActionAbilities,
    /// In apply_actions.
    pub apply: ActionAbilities,
}

/// What a table can do (OpenFlow 1.3 §A.3.5.5, `ofp_table_features`). One entry a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFeatures {
    /// Which table.
    pub table: TableId,
    /// Its name, at most 31 bytes.
    pub name: String,
    /// Metadata bits it can match.
    pub metadata_match: u64,
    /// Metadata bits it can write.
    pub metadata_write: u64,
    /// Whether rules can be evicted and vacancy events sent (1.4 and later, `ofp_table_config`).
    pub capabilities: u32,
    /// Most rules.
    pub max_entries: u32,
    /// What rules can do.
    pub hit: TableAbilities,
    /// What the table miss can do.
    pub miss: TableAbilities,
    /// Fields that can be matched.
    pub matchable: FieldSet,
    /// Those of them whose masks can be arbitrary.
    pub maskable: FieldSet,
    /// Fields that a match may leave out.
    pub wildcardable: FieldSet,
}

/// Vacancy thresholds in percent (1.4 and later).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vacancy {
    /// Below this a "vacancy down" event is sent.
    pub down: u8,
    /// Above this a "vacancy up" event is sent.
    pub up: u8,
    /// Free space now (in descriptions; ignored in requests).
    pub now: u8,
}

/// Settings of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableConfig {
    /// Which table; [`TableId::ALL`] for all in requests.
    pub table: TableId,
    /// Evict rules when full (1.4 and later).
    pub eviction: bool,
    /// Send vacancy events (1.4 and later).
    pub vacancy: Option<Vacancy>,
    /// The configuration word as on the wire, of which only bits 2 and 3 mean something in 1.4 and later.
    pub bits: u32,
}

/// OFPT_TABLE_MOD.
pub type TableMod = TableConfig;
