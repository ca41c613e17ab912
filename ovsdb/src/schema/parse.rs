//! Reading schemas.

use serde_json::Value;

use super::{
    BaseType, ColumnIndex, ColumnSchema, ColumnType, Constraint, DatabaseSchema, Strength, TableIndex,
    TableSchema,
};
use crate::error::{DbError, ErrorTag};
use crate::members::{Members, identifier};
use crate::value::{Atom, AtomSet, AtomType, Real, atom_from_json, is_identifier};

/// The most tables a schema may have, and the most columns a table.
const NAMES_MAX: usize = 4096;

pub(super) fn database(json: &Value) -> Result<DatabaseSchema, DbError> {
    let mut members = Members::new(json, "database schema")?;
    let name = members.required("name", identifier)?.to_owned();
    let version = members.typed("version", Value::as_str)?.unwrap_or("").to_owned();
    let cksum = members.typed("cksum", Value::as_str)?.map(str::to_owned);
    let tables_json = members.required("tables", Value::as_object)?;
    if !version.is_empty() && !is_version(&version) {
        return Err(DbError::syntax(json, format!("schema version \"{version}\" not in format x.y.z")));
    }
    members.finish()?;
    if tables_json.len() > NAMES_MAX {
        return Err(DbError::new(ErrorTag::Syntax, format!("more than {NAMES_MAX} tables")));
    }
    // serde_json's map is sorted by key, so the names are in the order that a table's place stands for.
    let names: Vec<&str> = tables_json.keys().map(String::as_str).collect();
    let mut tables = Vec::with_capacity(names.len());
    for (name, table_json) in tables_json {
        if !is_identifier(name) || name.starts_with('_') {
            return Err(DbError::syntax(json, format!("name must be a valid id: {name}")));
        }
        tables.push(table(name, table_json, &names)?);
    }
    let marks_roots = tables.iter().any(|table| table.is_root);
    if !marks_roots {
        tables.iter_mut().for_each(|table| table.is_root = true);
    }
    Ok(DatabaseSchema { name, version, cksum, tables, marks_roots })
}

fn is_version(text: &str) -> bool {
    let mut parts = 0;
    text.split('.').all(|part| {
        parts += 1;
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
    }) && parts == 3
}

fn table(name: &str, json: &Value, tables: &[&str]) -> Result<TableSchema, DbError> {
    let mut members = Members::new(json, format!("table schema for table {name}"))?;
    let columns_json = members.required("columns", Value::as_object)?;
    let max_rows = members.typed("maxRows", Value::as_u64)?;
    let is_root = members.typed("isRoot", Value::as_bool)?.unwrap_or(false);
    let indexes_json = members.typed("indexes", Value::as_array)?;
    let max_rows = match max_rows {
        None => u32::MAX,
        Some(0) => return Err(DbError::syntax(json, "maxRows must be at least 1")),
        Some(n) => u32::try_from(n).unwrap_or(u32::MAX),
    };
    members.finish()?;
    if columns_json.is_empty() || columns_json.len() > NAMES_MAX {
        return Err(DbError::syntax(json, format!("table must have 1 to {NAMES_MAX} columns")));
    }
    let mut columns = Vec::with_capacity(columns_json.len());
    for (column_name, column_json) in columns_json {
        if !is_identifier(column_name) || column_name.starts_with('_') {
            return Err(DbError::syntax(json, format!("name must be a valid id: {column_name}")));
        }
        columns.push(column(column_name, column_json, tables)?);
    }
    let mut table = TableSchema { name: name.to_owned(), columns, is_root, max_rows, indexes: Vec::new() };
    for index_json in indexes_json.into_iter().flatten() {
        let index = index(&table, index_json)?;
        table.indexes.push(index);
    }
    Ok(table)
}

fn index(table: &TableSchema, json: &Value) -> Result<Vec<ColumnIndex>, DbError> {
    let names = json.as_array().ok_or_else(|| DbError::syntax(json, "array of column names expected"))?;
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let name = name.as_str().ok_or_else(|| DbError::syntax(json, "column name expected"))?;
        let column = table
            .column_index(name)
            .ok_or_else(|| DbError::syntax(json, format!("{name} is not a valid column name")))?;
        if columns.contains(&column) {
            return Err(DbError::syntax(json, "column name mentioned more than once"));
        }
        if table.column(name).is_some_and(|schema| !schema.persistent) {
            return Err(DbError::syntax(
                json,
                format!("ephemeral columns (such as {name}) may not be indexed"),
            ));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(DbError::syntax(json, "index must have at least one column"));
    }
    Ok(columns)
}

fn column(name: &str, json: &Value, tables: &[&str]) -> Result<ColumnSchema, DbError> {
    let mut members = Members::new(json, format!("schema for column {name}"))?;
    let mutable = members.typed("mutable", Value::as_bool)?.unwrap_or(true);
    let ephemeral = members.typed("ephemeral", Value::as_bool)?.unwrap_or(false);
    let kind = column_type(members.required("type", Some)?, tables)?;
    members.finish()?;
    // A weak reference changes when its row goes, so such a column is mutable whatever the schema says.
    let weak =
        |base: &BaseType| matches!(base.constraint, Constraint::Reference { strength: Strength::Weak, .. });
    if !mutable && (weak(&kind.key) || kind.value.as_ref().is_some_and(weak)) {
        return Err(DbError::syntax(
            json,
            format!("invalid combination of immutable and weak-reference column {name}"),
        ));
    }
    Ok(ColumnSchema { name: name.to_owned(), kind, mutable, persistent: !ephemeral })
}

fn column_type(json: &Value, tables: &[&str]) -> Result<ColumnType, DbError> {
    if json.is_string() {
        let key = base_type(json, tables)?;
        return Ok(ColumnType { key, value: None, min: 1, max: 1 });
    }
    let mut members = Members::new(json, "ovsdb type")?;
    let key = base_type(members.required("key", Some)?, tables)?;
    let value = members.get("value").map(|value| base_type(value, tables)).transpose()?;
    let min = members.typed("min", Value::as_u64)?.unwrap_or(1);
    let max = match members.get("max") {
        None => 1,
        Some(Value::String(s)) if s == "unlimited" => u64::from(u32::MAX),
        Some(value) => {
            value.as_u64().ok_or_else(|| DbError::syntax(json, "max must be an integer or \"unlimited\""))?
        }
    };
    members.finish()?;
    let (min, max) = match (u32::try_from(min), u32::try_from(max)) {
        (Ok(min), Ok(max)) if min <= 1 && max >= 1 && min <= max => (min, max),
        _ => return Err(DbError::syntax(json, "ovsdb type fails constraint checks")),
    };
    Ok(ColumnType { key, value, min, max })
}

fn base_type(json: &Value, tables: &[&str]) -> Result<BaseType, DbError> {
    let kind_of = |name: &str| {
        AtomType::parse(name)
            .ok_or_else(|| DbError::syntax(json, format!("\"{name}\" is not an atomic-type")))
    };
    if let Some(name) = json.as_str() {
        return Ok(BaseType::plain(kind_of(name)?));
    }
    let mut members = Members::new(json, "ovsdb type")?;
    let kind = kind_of(members.required("type", Value::as_str)?)?;
    let enumeration = members.get("enum");
    let constraint = if let Some(list) = enumeration {
        Constraint::Enum(enum_atoms(kind, list)?)
    } else {
        match kind {
            AtomType::Integer => bounds(
                members.typed("minInteger", Value::as_i64)?,
                members.typed("maxInteger", Value::as_i64)?,
                json,
            )?
            .map_or(Constraint::None, |(min, max)| Constraint::Integer { min, max }),
            AtomType::Real => {
                let min = members.typed("minReal", Value::as_f64)?.and_then(Real::new);
                let max = members.typed("maxReal", Value::as_f64)?.and_then(Real::new);
                bounds(min, max, json)?.map_or(Constraint::None, |(min, max)| Constraint::Real { min, max })
            }
            AtomType::String => {
                let min = members.typed("minLength", Value::as_u64)?;
                let max = members.typed("maxLength", Value::as_u64)?;
                bounds(min, max, json)?
                    .map_or(Constraint::None, |(min, max)| Constraint::Length { min: min.unwrap_or(0), max })
            }
            AtomType::Uuid => reference(&mut members, tables)?,
            AtomType::Boolean => Constraint::None,
        }
    };
    members.finish()?;
    Ok(BaseType { kind, constraint })
}

type Bounds<T> = Option<(Option<T>, Option<T>)>;

fn bounds<T: PartialOrd>(min: Option<T>, max: Option<T>, json: &Value) -> Result<Bounds<T>, DbError> {
    match (&min, &max) {
        (None, None) => Ok(None),
        (Some(lo), Some(hi)) if lo > hi => Err(DbError::syntax(json, "minimum exceeds maximum")),
        _ => Ok(Some((min, max))),
    }
}

fn enum_atoms(kind: AtomType, json: &Value) -> Result<AtomSet, DbError> {
    let elements = match json.as_array().map(Vec::as_slice) {
        Some([tag, Value::Array(elements)]) if tag == "set" => elements.as_slice(),
        _ => std::slice::from_ref(json),
    };
    let atoms: Vec<Atom> =
        elements.iter().map(|element| atom_from_json(kind, element, None)).collect::<Result<_, _>>()?;
    let set: AtomSet = atoms.into_iter().collect();
    if set.is_empty() || set.len() != elements.len() {
        return Err(DbError::syntax(json, "enum must be a set of at least one value without duplicates"));
    }
    Ok(set)
}

fn reference(members: &mut Members<'_>, tables: &[&str]) -> Result<Constraint, DbError> {
    let target = members.typed("refTable", identifier)?;
    let strength = members.typed("refType", Value::as_str)?;
    let Some(target) = target else {
        return match strength {
            None => Ok(Constraint::None),
            Some(_) => Err(members.fail("refType without refTable")),
        };
    };
    let strength = match strength {
        None | Some("strong") => Strength::Strong,
        Some("weak") => Strength::Weak,
        Some(_) => return Err(members.fail("refType must be \"strong\" or \"weak\"")),
    };
    match tables.binary_search(&target) {
        Ok(at) => Ok(Constraint::Reference { table: TableIndex(at), strength }),
        Err(_) => Err(members.fail(format!("reference to undefined table {target}"))),
    }
}
