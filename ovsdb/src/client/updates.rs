//! `<table-updates>` and `<table-updates2>` into a replica.

use std::sync::Arc;

use serde_json::Value;

use super::ClientError;
use crate::database::Row;
use crate::replica::Replica;
use crate::schema::{TableIndex, TableSchema, default_columns};
use crate::uuid::Uuid;
use crate::value::{datum_apply_diff, datum_from_json_ranged};

fn bad(text: impl Into<String>) -> ClientError {
    ClientError::Update(text.into())
}

/// Applies the updates of either form.
pub(super) fn apply(replica: &mut Replica, tables: &Value) -> Result<(), ClientError> {
    let schema = replica.schema().clone();
    for (name, rows) in tables.as_object().ok_or_else(|| bad("<table-updates> is no object"))? {
        let table = schema.table_index(name).ok_or_else(|| bad(format!("unknown table {name}")))?;
        for (uuid, update) in rows.as_object().ok_or_else(|| bad(format!("{name}: no object")))? {
            let uuid: Uuid = uuid.parse().map_err(|error| bad(format!("{name}: {error}")))?;
            row_update(replica, schema.table_at(table), table, uuid, update)?;
        }
    }
    Ok(())
}

fn row_update(
    replica: &mut Replica,
    schema: &TableSchema,
    table: TableIndex,
    uuid: Uuid,
    update: &Value,
) -> Result<(), ClientError> {
    let object = update.as_object().ok_or_else(|| bad(format!("{}.{uuid}: no object", schema.name)))?;
    if let Some(row) = object.get("initial").or_else(|| object.get("insert")).or_else(|| object.get("new")) {
        let row = read_row(schema, uuid, row, None)?;
        replica.set(table, uuid, Some(Arc::new(row)));
    } else if let Some(diff) = object.get("modify") {
        let old = replica.row(table, uuid).cloned();
        let old =
            old.ok_or_else(|| bad(format!("{}.{uuid}: modifies a row that is not there", schema.name)))?;
        let row = read_row(schema, uuid, diff, Some(&old))?;
        replica.set(table, uuid, Some(Arc::new(row)));
    } else if object.contains_key("delete") || object.contains_key("old") {
        replica.set(table, uuid, None);
    } else {
        return Err(bad(format!("{}.{uuid}: neither insert, modify nor delete", schema.name)));
    }
    Ok(())
}

/// Reads a row, or the difference from `old`.
fn read_row(schema: &TableSchema, uuid: Uuid, json: &Value, old: Option<&Row>) -> Result<Row, ClientError> {
    let object = json.as_object().ok_or_else(|| bad(format!("{}.{uuid}: row is no object", schema.name)))?;
    let mut row = match old {
        Some(old) => old.clone(),
        None => Row { version: uuid, columns: default_columns(schema) },
    };
    for (name, value) in object {
        let Some(index) = schema.column_index(name) else {
            // The implicit columns say nothing here.
            continue;
        };
        let kind = &schema.columns[index.0].kind;
        let datum = datum_from_json_ranged(kind, 0..=u32::MAX, value, None)
            .map_err(|error| bad(format!("{}.{uuid}.{name}: {error}", schema.name)))?;
        if let Some(slot) = row.columns.get_mut(index.0) {
            *slot = if old.is_some() { datum_apply_diff(kind, slot, &datum) } else { datum };
        }
    }
    Ok(row)
}
