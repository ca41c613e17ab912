//! Commits as the records of a journal: row deltas in the format that `ovsdb-tool` reads.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Commit, Database, Row, RowDelta};
use crate::error::DbError;
use crate::schema::{TableIndex, TableSchema, default_columns};
use crate::uuid::Uuid;
use crate::value::{datum_apply_diff, datum_diff, datum_from_json, datum_from_json_ranged, datum_to_json};

/// A record that does not fit the database.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// A member that should be an object is not.
    #[error("{path}: object expected")]
    NotObject {
        /// Where in the record.
        path: String,
    },
    /// A table that the schema does not have.
    #[error("no table named {0}")]
    UnknownTable(String),
    /// A column that the schema does not have.
    #[error("no column {column} in table {table}")]
    UnknownColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A row name that is no UUID.
    #[error("{0}")]
    BadUuid(#[from] crate::uuid::UuidError),
    /// A row that is to be deleted and is not there.
    #[error("delete of nonexistent row {uuid} in table {table}")]
    NoRow {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A value that is not of its column's type.
    #[error("{path}: {error}")]
    BadValue {
        /// Table, row and column.
        path: String,
        /// What is wrong with it.
        error: DbError,
    },
}

impl Commit {
    /// The commit as a journal record; `None` if nothing in it is kept on disk.
    ///
    /// Inserted rows leave out columns with their default value, changed rows have the differences of the columns that
    /// changed (as ovsdb-server writes since 2.17, so that a port more on a bridge of thousands is a short record), deleted
    /// rows are null. `date_ms` is the wall clock.
    pub fn to_record(&self, database: &Database, date_ms: u64) -> Option<Value> {
        let mut tables: Map<String, Value> = Map::new();
        for delta in &self.changes {
            let schema = database.schema().table_at(delta.table);
            let Some(row) = row_record(schema, delta) else { continue };
            let rows = tables.entry(schema.name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(rows) = rows {
                rows.insert(delta.uuid.to_string(), row);
            }
        }
        if tables.is_empty() {
            return None;
        }
        if self.changes.iter().any(|delta| delta.old.is_some() && delta.new.is_some()) {
            tables.insert("_is_diff".into(), Value::from(true));
        }
        tables.insert("_date".into(), Value::from(date_ms));
        if let Some(comment) = &self.comment {
            tables.insert("_comment".into(), Value::from(comment.as_str()));
        }
        Some(Value::Object(tables))
    }
}

fn row_record(schema: &TableSchema, delta: &RowDelta) -> Option<Value> {
    let Some(new) = &delta.new else { return Some(Value::Null) };
    let mut columns = Map::new();
    for (at, column) in schema.columns.iter().enumerate().filter(|(_, column)| column.persistent) {
        let datum = &new.columns[at];
        let written = match &delta.old {
            Some(old) if old.columns[at] != *datum => {
                datum_to_json(&datum_diff(&column.kind, &old.columns[at], datum))
            }
            None if !column.kind.is_default(datum) => datum_to_json(datum),
            _ => continue,
        };
        columns.insert(column.name.clone(), written);
    }
    (delta.old.is_none() || !columns.is_empty()).then_some(Value::Object(columns))
}

impl Database {
    /// Reads a journal record and applies it.
    ///
    /// # Errors
    /// Names what in the record does not fit; the database is then unchanged.
    pub fn replay(&mut self, record: &Value) -> Result<(), RecordError> {
        let not_object = |path: &str| RecordError::NotObject { path: path.to_owned() };
        let object = record.as_object().ok_or_else(|| not_object("record"))?;
        let is_diff = object.get("_is_diff").and_then(Value::as_bool).unwrap_or(false);
        let mut changes = Vec::new();
        for (name, rows) in object.iter().filter(|(name, _)| !name.starts_with('_')) {
            let table =
                self.schema().table_index(name).ok_or_else(|| RecordError::UnknownTable(name.clone()))?;
            for (uuid, row) in rows.as_object().ok_or_else(|| not_object(name))? {
                changes.push(self.read_delta(table, uuid.parse()?, row, is_diff)?);
            }
        }
        self.apply(&Commit { changes, comment: None });
        Ok(())
    }

    fn read_delta(
        &self,
        table: TableIndex,
        uuid: Uuid,
        json: &Value,
        is_diff: bool,
    ) -> Result<RowDelta, RecordError> {
        let schema = self.schema().table_at(table);
        let old = self.row(table, uuid).cloned();
        if json.is_null() {
            return match old {
                Some(_) => Ok(RowDelta { table, uuid, old, new: None }),
                None => Err(RecordError::NoRow { table: schema.name.clone(), uuid }),
            };
        }
        let object = json
            .as_object()
            .ok_or_else(|| RecordError::NotObject { path: format!("{}.{uuid}", schema.name) })?;
        let mut row = match &old {
            Some(old) => Row::clone(old),
            // Versions are not kept; a row that was read back has that of its name.
            None => Row { version: uuid, columns: default_columns(schema) },
        };
        for (name, value) in object {
            let index = schema.column_index(name).ok_or_else(|| RecordError::UnknownColumn {
                table: schema.name.clone(),
                column: name.clone(),
            })?;
            let kind = &schema.columns[index.0].kind;
            let bad = |error| RecordError::BadValue { path: format!("{}.{uuid}.{name}", schema.name), error };
            let datum = if is_diff && old.is_some() {
                let diff = datum_from_json_ranged(kind, 0..=u32::MAX, value, None).map_err(bad)?;
                datum_apply_diff(kind, &row.columns[index.0], &diff)
            } else {
                datum_from_json(kind, value, None).map_err(bad)?
            };
            row.columns[index.0] = datum;
        }
        Ok(RowDelta { table, uuid, old, new: Some(Arc::new(row)) })
    }
}
