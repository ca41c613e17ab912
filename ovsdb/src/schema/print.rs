//! Printing schemas.

use serde_json::{Map, Value};

use super::{BaseType, ColumnSchema, ColumnType, Constraint, DatabaseSchema, Strength, TableSchema};
use crate::value::{Atom, Datum, atom_to_json, datum_to_json};

pub(super) fn database(schema: &DatabaseSchema) -> Value {
    let mut object = Map::new();
    object.insert("name".into(), Value::from(schema.name.as_str()));
    if !schema.version.is_empty() {
        object.insert("version".into(), Value::from(schema.version.as_str()));
    }
    if let Some(cksum) = &schema.cksum {
        object.insert("cksum".into(), Value::from(cksum.as_str()));
    }
    let tables = schema.tables.iter().map(|one| (one.name.clone(), table(schema, one))).collect();
    object.insert("tables".into(), Value::Object(tables));
    Value::Object(object)
}

fn table(schema: &DatabaseSchema, table: &TableSchema) -> Value {
    let mut object = Map::new();
    let columns = table.columns.iter().map(|one| (one.name.clone(), column(schema, one))).collect();
    object.insert("columns".into(), Value::Object(columns));
    if table.max_rows != u32::MAX {
        object.insert("maxRows".into(), Value::from(table.max_rows));
    }
    if schema.marks_roots && table.is_root {
        object.insert("isRoot".into(), Value::from(true));
    }
    if !table.indexes.is_empty() {
        let name = |column: &super::ColumnIndex| Value::from(table.columns[column.0].name.as_str());
        let indexes: Vec<Value> =
            table.indexes.iter().map(|index| index.iter().map(name).collect::<Vec<_>>().into()).collect();
        object.insert("indexes".into(), Value::from(indexes));
    }
    Value::Object(object)
}

fn column(schema: &DatabaseSchema, column: &ColumnSchema) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), column_type(schema, &column.kind));
    if !column.mutable {
        object.insert("mutable".into(), Value::from(false));
    }
    if !column.persistent {
        object.insert("ephemeral".into(), Value::from(true));
    }
    Value::Object(object)
}

fn column_type(schema: &DatabaseSchema, kind: &ColumnType) -> Value {
    let key = base_type(schema, &kind.key);
    if kind.is_scalar() && key.is_string() {
        return key;
    }
    let mut object = Map::new();
    object.insert("key".into(), key);
    if let Some(value) = &kind.value {
        object.insert("value".into(), base_type(schema, value));
    }
    if kind.min != 1 {
        object.insert("min".into(), Value::from(kind.min));
    }
    match kind.max {
        1 => {}
        u32::MAX => {
            object.insert("max".into(), Value::from("unlimited"));
        }
        max => {
            object.insert("max".into(), Value::from(max));
        }
    }
    Value::Object(object)
}

fn base_type(schema: &DatabaseSchema, base: &BaseType) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.into(), value);
        }
    };
    match &base.constraint {
        Constraint::None => return Value::from(base.kind.as_str()),
        Constraint::Enum(atoms) => put("enum", Some(datum_to_json(&Datum::Set(atoms.clone())))),
        Constraint::Integer { min, max } => {
            put("minInteger", min.map(Value::from));
            put("maxInteger", max.map(Value::from));
        }
        Constraint::Real { min, max } => {
            put("minReal", min.map(|real| atom_to_json(&Atom::Real(real))));
            put("maxReal", max.map(|real| atom_to_json(&Atom::Real(real))));
        }
        Constraint::Length { min, max } => {
            put("minLength", (*min != 0).then(|| Value::from(*min)));
            put("maxLength", max.map(Value::from));
        }
        Constraint::Reference { table, strength } => {
            put("refTable", Some(Value::from(schema.table_at(*table).name.as_str())));
            put("refType", (*strength == Strength::Weak).then(|| Value::from("weak")));
        }
    }
    put("type", Some(Value::from(base.kind.as_str())));
    Value::Object(object)
}
