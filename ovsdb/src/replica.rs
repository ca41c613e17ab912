//! A copy of a database's rows that follows its changes; the same whether the database is in this process
//! ([`crate::session::Server::subscribe_local`]) or behind a socket ([`crate::client::Client`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::database::{Row, RowDelta};
use crate::schema::{ColumnSchema, DatabaseSchema, TableIndex, TableSchema};
use crate::uuid::Uuid;
use crate::value::{Atom, AtomMap, Datum};

/// A copy of a database.
#[derive(Clone, Debug)]
pub struct Replica {
    schema: Arc<DatabaseSchema>,
    tables: Vec<BTreeMap<Uuid, Arc<Row>>>,
    /// For each row that changed since the last look, what it was then.
    before: BTreeMap<(TableIndex, Uuid), Option<Arc<Row>>>,
    revision: u64,
}

/// A row of a replica, with its table's schema.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    table: &'a TableSchema,
    uuid: Uuid,
    row: &'a Row,
}

impl Replica {
    /// A copy without rows.
    pub fn new(schema: Arc<DatabaseSchema>) -> Self {
        let tables = vec![BTreeMap::new(); schema.tables.len()];
        Replica { schema, tables, before: BTreeMap::new(), revision: 0 }
    }

    /// The schema, which for a remote database is the server's.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Follows changes.
    pub fn apply(&mut self, changes: &[RowDelta]) {
        for delta in changes {
            self.set(delta.table, delta.uuid, delta.new.clone());
        }
    }

    /// Becomes a copy of these rows, whatever was there.
    pub fn reset(&mut self, contents: &[RowDelta]) {
        let kept: std::collections::BTreeSet<(TableIndex, Uuid)> =
            contents.iter().map(|delta| (delta.table, delta.uuid)).collect();
        let names: Vec<(TableIndex, Uuid)> = self
            .tables
            .iter()
            .enumerate()
            .flat_map(|(at, rows)| rows.keys().map(move |uuid| (TableIndex(at), *uuid)))
            .filter(|name| !kept.contains(name))
            .collect();
        for (table, uuid) in names {
            self.set(table, uuid, None);
        }
        self.apply(contents);
    }

    pub(crate) fn row(&self, table: TableIndex, uuid: Uuid) -> Option<&Arc<Row>> {
        self.tables.get(table.0).and_then(|rows| rows.get(&uuid))
    }

    pub(crate) fn set(&mut self, table: TableIndex, uuid: Uuid, row: Option<Arc<Row>>) {
        let Some(rows) = self.tables.get_mut(table.0) else { return };
        let old = match row {
            Some(row) => rows.insert(uuid, row),
            None => rows.remove(&uuid),
        };
        self.before.entry((table, uuid)).or_insert(old);
        self.revision += 1;
    }

    /// What changed since the last call, each row once, with what it was then and is now.
    pub fn take_changes(&mut self) -> Vec<RowDelta> {
        let before = std::mem::take(&mut self.before);
        before
            .into_iter()
            .filter_map(|((table, uuid), old)| {
                let new = self.row(table, uuid).cloned();
                let same = match (&old, &new) {
                    (Some(old), Some(new)) => old.columns == new.columns,
                    (None, None) => true,
                    _ => false,
                };
                (!same).then_some(RowDelta { table, uuid, old, new })
            })
            .collect()
    }

    /// The name of the table at a place, as in [`Replica::take_changes`].
    pub fn table_name(&self, table: TableIndex) -> &str {
        self.schema.tables.get(table.0).map_or("", |table| &table.name)
    }

    /// The rows of a table in the order of their UUIDs; none if there is no such table.
    pub fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = RowView<'a>> + use<'a> {
        let index = self.schema.table_index(table);
        index.into_iter().flat_map(move |index| {
            let table = self.schema.table_at(index);
            self.tables[index.0].iter().map(move |(uuid, row)| RowView { table, uuid: *uuid, row })
        })
    }

    /// A row by its UUID.
    pub fn get(&self, table: &str, uuid: Uuid) -> Option<RowView<'_>> {
        let index = self.schema.table_index(table)?;
        let row = self.row(index, uuid)?;
        Some(RowView { table: self.schema.table_at(index), uuid, row })
    }

    /// The first row whose column holds exactly this string, such as a bridge by its name.
    pub fn find(&self, table: &str, column: &str, value: &str) -> Option<RowView<'_>> {
        self.rows(table).find(|row| row.string(column) == Some(value))
    }

    /// The only row of a table such as `Open_vSwitch`.
    pub fn singleton(&self, table: &str) -> Option<RowView<'_>> {
        self.rows(table).next()
    }
}

impl<'a> RowView<'a> {
    /// The row's name.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The schema of the row's table.
    pub fn table(&self) -> &'a TableSchema {
        self.table
    }

    /// A column's value; `None` if the table has no such column.
    pub fn get(&self, column: &str) -> Option<&'a Datum> {
        let index = self.table.column_index(column)?;
        self.row.columns.get(index.0)
    }

    /// Every column with its value.
    pub fn columns(&self) -> impl Iterator<Item = (&'a ColumnSchema, &'a Datum)> {
        self.table.columns.iter().zip(&self.row.columns)
    }

    /// A string, or an optional string that is there.
    pub fn string(&self, column: &str) -> Option<&'a str> {
        self.get(column)?.as_str()
    }

    /// An integer, or an optional integer that is there.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_integer()
    }

    /// A boolean, or an optional boolean that is there.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        self.get(column)?.as_boolean()
    }

    /// A reference, or an optional reference that is there.
    pub fn uuid_of(&self, column: &str) -> Option<Uuid> {
        self.get(column)?.as_uuid()
    }

    /// The elements of a set; empty for a map or a column that does not exist.
    pub fn elements(&self, column: &str) -> &'a [Atom] {
        self.get(column).and_then(Datum::as_set).map_or(&[], |set| set.as_slice())
    }

    /// The references in a set.
    pub fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> + use<'a> {
        self.elements(column).iter().filter_map(Atom::as_uuid)
    }

    /// The integers in a set.
    pub fn integers(&self, column: &str) -> impl Iterator<Item = i64> + use<'a> {
        self.elements(column).iter().filter_map(Atom::as_integer)
    }

    /// The strings in a set.
    pub fn strings(&self, column: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.elements(column).iter().filter_map(Atom::as_str)
    }

    /// A map.
    pub fn map(&self, column: &str) -> Option<&'a AtomMap> {
        self.get(column)?.as_map()
    }

    /// The value of a key in a map of strings, such as `other_config:mac-table-size`.
    pub fn map_get(&self, column: &str, key: &str) -> Option<&'a str> {
        self.map(column)?.get_str(key)
    }
}
