//! Carrying rows from one schema to another.

use std::sync::Arc;

use super::{Commit, Database, Row, RowDelta};
use crate::error::DbError;
use crate::schema::{DatabaseSchema, default_columns};
use crate::value::{datum_from_json, datum_to_json};

impl Database {
    /// The same rows under another schema: tables and columns of the same name keep their values, others are dropped or
    /// get their defaults.
    ///
    /// # Errors
    /// A value that its column's new type or constraint does not allow.
    pub fn convert(&self, schema: Arc<DatabaseSchema>) -> Result<Database, DbError> {
        let mut converted = Database::new(schema.clone());
        let mut changes = Vec::new();
        for (table, table_schema) in schema.tables() {
            let Some(old_table) = self.schema().table_index(&table_schema.name) else { continue };
            let old_schema = self.schema().table_at(old_table);
            for (uuid, old_row) in self.rows(old_table) {
                let mut columns = default_columns(table_schema);
                for (column, slot) in table_schema.columns.iter().zip(&mut columns) {
                    if let Some(old_column) = old_schema.column_index(&column.name) {
                        let json = datum_to_json(&old_row.columns[old_column.0]);
                        *slot = datum_from_json(&column.kind, &json, None)?;
                    }
                }
                let row = Row { version: old_row.version, columns };
                changes.push(RowDelta { table, uuid, old: None, new: Some(Arc::new(row)) });
            }
        }
        converted.apply(&Commit { changes, comment: None });
        Ok(converted)
    }
}
