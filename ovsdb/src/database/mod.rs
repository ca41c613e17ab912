//! The tables in memory: rows, what refers to them, and unique indexes.
//!
//! [`Database::execute`] evaluates a transaction against an overlay and touches nothing; what comes out is a [`Commit`],
//! checked in full, that [`Database::apply`] puts in place and [`Database::revert`] takes back. Between the two lies the
//! caller's journal: a transaction that cannot be written is never applied.

mod commit;
mod condition;
mod convert;
mod execute;
mod mutation;
mod overlay;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use condition::{Clause, ColumnRef, Condition, Function};
pub use execute::{Executed, Execution};
pub use record::RecordError;

use crate::schema::{DatabaseSchema, Strength, TableIndex, references};
use crate::uuid::Uuid;
use crate::value::Datum;

/// A row's columns, in the order of its table's schema, and its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Changes whenever a column does.
    pub version: Uuid,
    /// One value for each column.
    pub columns: Vec<Datum>,
}

/// One row before and after a commit.
#[derive(Clone, Debug)]
pub struct RowDelta {
    /// The row's table.
    pub table: TableIndex,
    /// The row's name.
    pub uuid: Uuid,
    /// What it was; `None` if it was inserted.
    pub old: Option<Arc<Row>>,
    /// What it became; `None` if it was deleted.
    pub new: Option<Arc<Row>>,
}

/// The effect of a transaction, all constraints checked.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The rows that differ, each once.
    pub changes: Vec<RowDelta>,
    /// The text of `comment` operations.
    pub comment: Option<String>,
}

impl Commit {
    /// Whether the transaction changed nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<Uuid, Arc<Row>>,
    /// How many other rows' strong references point to a row.
    strong: HashMap<Uuid, usize>,
    /// For a row, the rows with weak references to it and how many.
    weak: HashMap<Uuid, BTreeMap<(TableIndex, Uuid), usize>>,
    /// For each index of the schema, which row has which values.
    indexes: Vec<BTreeMap<Vec<Datum>, Uuid>>,
}

/// A database: a schema and rows that satisfy it.
#[derive(Debug)]
pub struct Database {
    schema: Arc<DatabaseSchema>,
    tables: Vec<Table>,
}

impl Database {
    /// A database without rows.
    pub fn new(schema: Arc<DatabaseSchema>) -> Self {
        let tables = schema
            .tables
            .iter()
            .map(|table| Table { indexes: vec![BTreeMap::new(); table.indexes.len()], ..Table::default() })
            .collect();
        Database { schema, tables }
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// The rows of a table in the order of their UUIDs.
    pub fn rows(&self, table: TableIndex) -> impl Iterator<Item = (Uuid, &Arc<Row>)> {
        self.tables[table.0].rows.iter().map(|(uuid, row)| (*uuid, row))
    }

    /// A row.
    pub fn row(&self, table: TableIndex, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables[table.0].rows.get(&uuid)
    }

    /// How many rows a table has.
    pub fn row_count(&self, table: TableIndex) -> usize {
        self.tables[table.0].rows.len()
    }

    /// Puts a commit in place. It must come from [`Database::execute`] on the present state.
    pub fn apply(&mut self, commit: &Commit) {
        for delta in &commit.changes {
            self.unindex(delta.table, delta.uuid, delta.old.as_deref());
        }
        for delta in &commit.changes {
            self.put(delta.table, delta.uuid, delta.old.as_ref(), delta.new.as_ref());
        }
        for delta in &commit.changes {
            self.index(delta.table, delta.uuid, delta.new.as_deref());
        }
    }

    /// Takes back the last commit that was applied.
    pub fn revert(&mut self, commit: &Commit) {
        let inverse = commit
            .changes
            .iter()
            .rev()
            .map(|delta| RowDelta { old: delta.new.clone(), new: delta.old.clone(), ..*delta })
            .collect();
        self.apply(&Commit { changes: inverse, comment: None });
    }

    /// Everything there is as one commit, for snapshots and first views.
    pub fn contents(&self) -> Commit {
        let changes = self
            .schema
            .tables()
            .flat_map(|(table, _)| {
                self.rows(table).map(move |(uuid, row)| RowDelta {
                    table,
                    uuid,
                    old: None,
                    new: Some(row.clone()),
                })
            })
            .collect();
        Commit { changes, comment: None }
    }

    fn put(&mut self, table: TableIndex, uuid: Uuid, old: Option<&Arc<Row>>, new: Option<&Arc<Row>>) {
        self.count_references(table, uuid, old, -1);
        self.count_references(table, uuid, new, 1);
        let rows = &mut self.tables[table.0].rows;
        match new {
            Some(row) => rows.insert(uuid, row.clone()),
            None => rows.remove(&uuid),
        };
    }

    fn count_references(&mut self, table: TableIndex, uuid: Uuid, row: Option<&Arc<Row>>, step: isize) {
        let Some(row) = row else { return };
        let schema = self.schema.clone();
        for (column, datum) in schema.table_at(table).columns.iter().zip(&row.columns) {
            for (target_table, strength, target) in references(&column.kind, datum) {
                let counts = &mut self.tables[target_table.0];
                match strength {
                    Strength::Strong if (target_table, target) == (table, uuid) => {}
                    Strength::Strong => bump(&mut counts.strong, target, step),
                    Strength::Weak => {
                        let sources = counts.weak.entry(target).or_default();
                        let count = sources.entry((table, uuid)).or_insert(0);
                        *count = count.saturating_add_signed(step);
                        if *count == 0 {
                            sources.remove(&(table, uuid));
                        }
                        if sources.is_empty() {
                            counts.weak.remove(&target);
                        }
                    }
                }
            }
        }
    }

    fn unindex(&mut self, table: TableIndex, uuid: Uuid, row: Option<&Row>) {
        let Some(row) = row else { return };
        let schema = self.schema.clone();
        for (at, index) in schema.table_at(table).indexes.iter().enumerate() {
            let key = commit::index_key(index, row);
            let owners = &mut self.tables[table.0].indexes[at];
            if owners.get(&key) == Some(&uuid) {
                owners.remove(&key);
            }
        }
    }

    fn index(&mut self, table: TableIndex, uuid: Uuid, row: Option<&Row>) {
        let Some(row) = row else { return };
        let schema = self.schema.clone();
        for (at, index) in schema.table_at(table).indexes.iter().enumerate() {
            self.tables[table.0].indexes[at].insert(commit::index_key(index, row), uuid);
        }
    }
}

fn bump(counts: &mut HashMap<Uuid, usize>, key: Uuid, step: isize) {
    let count = counts.entry(key).or_insert(0);
    *count = count.saturating_add_signed(step);
    if *count == 0 {
        counts.remove(&key);
    }
}
