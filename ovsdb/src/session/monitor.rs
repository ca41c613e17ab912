//! `monitor`, `monitor_cond` and `monitor_cond_since`: what a client wants to see, and what a commit looks like to it
//! (RFC 7047 §4.1.5, ovsdb-server(7) §4.1.12–16).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::database::{ColumnRef, Condition, Database, Row, RowDelta};
use crate::error::{DbError, ErrorTag};
use crate::members::Members;
use crate::schema::{DatabaseSchema, TableIndex, TableSchema};
use crate::uuid::Uuid;
use crate::value::{datum_diff, datum_to_json};

/// Which request made the monitor, and so which notifications it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// `monitor`, `update`.
    Plain,
    /// `monitor_cond`, `update2`.
    Conditional,
    /// `monitor_cond_since`, `update3`.
    Since,
}

impl Flavour {
    const fn notification(self) -> &'static str {
        match self {
            Flavour::Plain => "update",
            Flavour::Conditional => "update2",
            Flavour::Since => "update3",
        }
    }
}

/// For which kinds of change a column is reported.
#[derive(Clone, Copy, Debug)]
struct Select {
    initial: bool,
    insert: bool,
    delete: bool,
    modify: bool,
}

impl Select {
    const ALL: Select = Select { initial: true, insert: true, delete: true, modify: true };
    const NONE: Select = Select { initial: false, insert: false, delete: false, modify: false };

    const fn or(self, other: Select) -> Select {
        Select {
            initial: self.initial || other.initial,
            insert: self.insert || other.insert,
            delete: self.delete || other.delete,
            modify: self.modify || other.modify,
        }
    }

    fn from_json(json: Option<&Value>, what: &str) -> Result<Select, DbError> {
        let Some(json) = json else { return Ok(Select::ALL) };
        let mut members = Members::new(json, what)?;
        let mut flag = |name| members.typed(name, Value::as_bool).map(|found| found.unwrap_or(true));
        let select = Select {
            initial: flag("initial")?,
            insert: flag("insert")?,
            delete: flag("delete")?,
            modify: flag("modify")?,
        };
        members.finish()?;
        Ok(select)
    }
}

#[derive(Debug)]
struct Watch {
    /// What any of the requests for the table selects. Rows come and go even for a client that wants no column.
    select: Select,
    columns: Vec<(ColumnRef, Select)>,
    condition: Condition,
}

impl Watch {
    fn wants(&self, kind: fn(&Select) -> bool) -> bool {
        kind(&self.select)
    }

    fn columns(&self, kind: fn(&Select) -> bool) -> impl Iterator<Item = ColumnRef> {
        self.columns.iter().filter(move |(_, select)| kind(select)).map(|(column, _)| *column)
    }

    fn matches(&self, uuid: Uuid, row: Option<&Row>) -> bool {
        row.is_some_and(|row| self.condition.any(uuid, row))
    }
}

/// One monitor of one session.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) database: String,
    pub(super) flavour: Flavour,
    /// The client's name for it, which may change.
    id: Value,
    tables: BTreeMap<TableIndex, Watch>,
}

/// A whole row without columns whose value is the default, as `initial` and `insert` of update2 have it.
fn sparse_row(
    schema: &TableSchema,
    uuid: Uuid,
    row: &Row,
    columns: impl Iterator<Item = ColumnRef>,
) -> Value {
    let members = columns.filter_map(|column| {
        let datum = column.value(uuid, row);
        let skip = column.kind(schema).is_default(&datum);
        (!skip).then(|| (column.name(schema).to_owned(), datum_to_json(&datum)))
    });
    Value::Object(members.collect())
}

/// A whole row, as `update` has it.
fn full_row(schema: &TableSchema, uuid: Uuid, row: &Row, columns: impl Iterator<Item = ColumnRef>) -> Value {
    let members =
        columns.map(|column| (column.name(schema).to_owned(), datum_to_json(&column.value(uuid, row))));
    Value::Object(members.collect())
}

impl Monitor {
    /// Reads the `<monitor-requests>` of a request.
    pub(super) fn from_json(
        schema: &DatabaseSchema,
        flavour: Flavour,
        id: Value,
        requests: &Value,
    ) -> Result<Monitor, DbError> {
        let requests = requests
            .as_object()
            .ok_or_else(|| DbError::syntax(requests, "<monitor-requests> must be an object"))?;
        let mut tables = BTreeMap::new();
        for (name, request) in requests {
            let index = schema
                .table_index(name)
                .ok_or_else(|| DbError::new(ErrorTag::Syntax, format!("no table named {name}")))?;
            let watch = watch_from_json(schema.table_at(index), flavour, request)?;
            tables.insert(index, watch);
        }
        Ok(Monitor { database: schema.name.clone(), flavour, id, tables })
    }

    /// The `<table-updates>` that answer the request.
    pub(super) fn initial(&self, database: &Database) -> Value {
        let mut tables = Map::new();
        for (table, watch) in self.tables.iter().filter(|(_, watch)| watch.wants(|s| s.initial)) {
            let schema = database.schema().table_at(*table);
            let mut rows = Map::new();
            for (uuid, row) in database.rows(*table).filter(|(uuid, row)| watch.matches(*uuid, Some(row))) {
                let columns = watch.columns(|s| s.initial);
                let update = match self.flavour {
                    Flavour::Plain => json!({ "new": full_row(schema, uuid, row, columns) }),
                    _ => json!({ "initial": sparse_row(schema, uuid, row, columns) }),
                };
                rows.insert(uuid.to_string(), update);
            }
            if !rows.is_empty() {
                tables.insert(schema.name.clone(), Value::Object(rows));
            }
        }
        Value::Object(tables)
    }

    /// The notification for a commit; `None` if the client sees no difference.
    pub(super) fn update(
        &self,
        schema: &DatabaseSchema,
        changes: &[RowDelta],
    ) -> Option<(String, Vec<Value>)> {
        let mut tables: Map<String, Value> = Map::new();
        for delta in changes {
            let Some(watch) = self.tables.get(&delta.table) else { continue };
            let table = schema.table_at(delta.table);
            let update = match self.flavour {
                Flavour::Plain => plain_update(table, watch, delta),
                _ => conditional_update(table, watch, delta),
            };
            let Some(update) = update else { continue };
            let rows = tables.entry(table.name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(rows) = rows {
                rows.insert(delta.uuid.to_string(), update);
            }
        }
        (!tables.is_empty()).then(|| self.notification(Value::Object(tables)))
    }

    fn notification(&self, tables: Value) -> (String, Vec<Value>) {
        let params = match self.flavour {
            Flavour::Since => vec![self.id.clone(), Value::from(Uuid::ZERO.to_string()), tables],
            _ => vec![self.id.clone(), tables],
        };
        (self.flavour.notification().to_owned(), params)
    }

    /// Takes new conditions and a new id; the notification of what that shows and hides. Nothing changes on an error.
    pub(super) fn change(
        &mut self,
        database: &Database,
        id: Value,
        requests: &Value,
    ) -> Result<Option<(String, Vec<Value>)>, DbError> {
        let requests = requests
            .as_object()
            .ok_or_else(|| DbError::syntax(requests, "<monitor-cond-update-requests> must be an object"))?;
        let mut conditions = BTreeMap::new();
        for (name, request) in requests {
            let index = database
                .schema()
                .table_index(name)
                .filter(|index| self.tables.contains_key(index))
                .ok_or_else(|| {
                DbError::new(ErrorTag::Syntax, format!("no table named {name} in this monitor"))
            })?;
            conditions.insert(index, new_condition(database.schema().table_at(index), request)?);
        }
        let mut tables = Map::new();
        for (table, condition) in conditions {
            let Some(watch) = self.tables.get_mut(&table) else { continue };
            let old = std::mem::replace(&mut watch.condition, condition);
            let schema = database.schema().table_at(table);
            let mut rows = Map::new();
            for (uuid, row) in database.rows(table) {
                let update = match (old.any(uuid, row), watch.condition.any(uuid, row)) {
                    (false, true) if watch.wants(|s| s.insert) => {
                        json!({ "insert": sparse_row(schema, uuid, row, watch.columns(|s| s.insert)) })
                    }
                    (true, false) if watch.wants(|s| s.delete) => json!({ "delete": null }),
                    _ => continue,
                };
                rows.insert(uuid.to_string(), update);
            }
            if !rows.is_empty() {
                tables.insert(schema.name.clone(), Value::Object(rows));
            }
        }
        self.id = id;
        Ok((!tables.is_empty()).then(|| self.notification(Value::Object(tables))))
    }
}

/// A monitor request is an object or an array of them.
fn request_list(request: &Value) -> &[Value] {
    match request {
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

fn mentioned_twice(column: &str) -> String {
    format!("column {column} mentioned more than once")
}

fn watch_from_json(table: &TableSchema, flavour: Flavour, request: &Value) -> Result<Watch, DbError> {
    let what = format!("table {}", table.name);
    let mut watch = Watch { select: Select::NONE, columns: Vec::new(), condition: Condition::default() };
    let mut clauses = Vec::new();
    for one in request_list(request) {
        let mut members = Members::new(one, what.as_str())?;
        let columns = members.typed("columns", |value| value.is_array().then_some(value))?;
        let select = Select::from_json(members.get("select"), &format!("{what} select"))?;
        if flavour != Flavour::Plain {
            clauses.extend(members.typed("where", Value::as_array)?.into_iter().flatten().cloned());
        }
        members.finish()?;
        watch.select = watch.select.or(select);
        let listed = match columns {
            Some(json) => ColumnRef::parse_list(table, json, mentioned_twice)?,
            None => ColumnRef::all(table).into_iter().filter(|column| *column != ColumnRef::Uuid).collect(),
        };
        for column in listed {
            if watch.columns.iter().any(|(known, _)| *known == column) {
                let json = columns.unwrap_or(one);
                return Err(DbError::syntax(json, mentioned_twice(column.name(table))));
            }
            watch.columns.push((column, select));
        }
    }
    watch.condition = Condition::from_json(table, &clauses, None)?;
    Ok(watch)
}

fn new_condition(table: &TableSchema, request: &Value) -> Result<Condition, DbError> {
    let mut clauses = Vec::new();
    for one in request_list(request) {
        let mut members = Members::new(one, format!("table {}", table.name))?;
        members.get("columns");
        clauses.extend(members.typed("where", Value::as_array)?.into_iter().flatten().cloned());
        members.finish()?;
    }
    Condition::from_json(table, &clauses, None)
}

fn plain_update(table: &TableSchema, watch: &Watch, delta: &RowDelta) -> Option<Value> {
    let uuid = delta.uuid;
    match (&delta.old, &delta.new) {
        (None, Some(new)) => watch
            .wants(|s| s.insert)
            .then(|| json!({ "new": full_row(table, uuid, new, watch.columns(|s| s.insert)) })),
        (Some(old), None) => watch
            .wants(|s| s.delete)
            .then(|| json!({ "old": full_row(table, uuid, old, watch.columns(|s| s.delete)) })),
        (Some(old), Some(new)) => {
            let changed: Vec<ColumnRef> = watch
                .columns(|s| s.modify)
                .filter(|column| column.value(uuid, old) != column.value(uuid, new))
                .collect();
            (!changed.is_empty()).then(|| {
                json!({
                    "old": full_row(table, uuid, old, changed.into_iter()),
                    "new": full_row(table, uuid, new, watch.columns(|s| s.modify)),
                })
            })
        }
        (None, None) => None,
    }
}

fn conditional_update(table: &TableSchema, watch: &Watch, delta: &RowDelta) -> Option<Value> {
    let uuid = delta.uuid;
    let was = delta.old.as_deref().filter(|row| watch.matches(uuid, Some(row)));
    let is = delta.new.as_deref().filter(|row| watch.matches(uuid, Some(row)));
    match (was, is) {
        (None, Some(new)) => watch
            .wants(|s| s.insert)
            .then(|| json!({ "insert": sparse_row(table, uuid, new, watch.columns(|s| s.insert)) })),
        (Some(_), None) => watch.wants(|s| s.delete).then(|| json!({ "delete": null })),
        (Some(old), Some(new)) => {
            let mut members = Map::new();
            for column in watch.columns(|s| s.modify) {
                let (before, after) = (column.value(uuid, old), column.value(uuid, new));
                if before != after {
                    let diff = datum_diff(column.kind(table), &before, &after);
                    members.insert(column.name(table).to_owned(), datum_to_json(&diff));
                }
            }
            (!members.is_empty()).then(|| json!({ "modify": members }))
        }
        (None, None) => None,
    }
}
