//! A transaction's view: the database with the changes made so far laid over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Database, Row};
use crate::schema::TableIndex;
use crate::uuid::Uuid;

/// What became of a row within the transaction; `None` is deleted.
type Changes = BTreeMap<Uuid, Option<Arc<Row>>>;

pub(super) struct Overlay<'a> {
    base: &'a Database,
    changes: Vec<Changes>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(base: &'a Database) -> Self {
        Overlay { base, changes: vec![Changes::new(); base.tables.len()] }
    }

    pub(super) fn base(&self) -> &'a Database {
        self.base
    }

    pub(super) fn get(&self, table: TableIndex, uuid: Uuid) -> Option<&Arc<Row>> {
        match self.changes[table.0].get(&uuid) {
            Some(changed) => changed.as_ref(),
            None => self.base.row(table, uuid),
        }
    }

    /// Whether the row existed before the transaction, deleted since or not.
    pub(super) fn existed(&self, table: TableIndex, uuid: Uuid) -> bool {
        self.base.row(table, uuid).is_some()
    }

    pub(super) fn set(&mut self, table: TableIndex, uuid: Uuid, row: Option<Row>) {
        self.changes[table.0].insert(uuid, row.map(Arc::new));
    }

    /// The rows that the transaction sees, in the order of their UUIDs.
    pub(super) fn rows(&self, table: TableIndex) -> impl Iterator<Item = (Uuid, &Arc<Row>)> {
        let changes = &self.changes[table.0];
        let untouched = self.base.rows(table).filter(|(uuid, _)| !changes.contains_key(uuid));
        let changed = changes.iter().filter_map(|(uuid, row)| Some((*uuid, row.as_ref()?)));
        let mut all: Vec<_> = untouched.collect();
        if !changes.is_empty() {
            all.extend(changed);
            all.sort_by_key(|(uuid, _)| *uuid);
        }
        all.into_iter()
    }

    pub(super) fn row_count(&self, table: TableIndex) -> usize {
        let mut count = self.base.row_count(table);
        for (uuid, row) in &self.changes[table.0] {
            match (self.existed(table, *uuid), row.is_some()) {
                (true, false) => count -= 1,
                (false, true) => count += 1,
                _ => {}
            }
        }
        count
    }

    /// The rows that differ from the base in a column, with what they were and are.
    pub(super) fn changed(&self) -> Vec<(TableIndex, Uuid)> {
        let mut found = Vec::new();
        for (at, changes) in self.changes.iter().enumerate() {
            let table = TableIndex(at);
            for (uuid, row) in changes {
                let differs = match (self.base.row(table, *uuid), row) {
                    (Some(old), Some(new)) => old.columns != new.columns,
                    (None, None) => false,
                    _ => true,
                };
                if differs {
                    found.push((table, *uuid));
                }
            }
        }
        found
    }

    /// Whether the row is among the rows that the transaction looked at to change.
    pub(super) fn touched(&self, table: TableIndex, uuid: Uuid) -> bool {
        self.changes[table.0].contains_key(&uuid)
    }
}
