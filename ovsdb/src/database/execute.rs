//! The operations of a transaction (RFC 7047 §5.2), one after the other against an overlay.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::commit;
use super::condition::{ColumnRef, Condition};
use super::mutation::Mutation;
use super::overlay::Overlay;
use super::{Commit, Database, Row};
use crate::error::{DbError, ErrorTag};
use crate::members::{Members, identifier};
use crate::schema::{ColumnIndex, DatabaseSchema, TableIndex, TableSchema, default_columns};
use crate::uuid::{Entropy, Uuid};
use crate::value::{Datum, Symbols, check_atom, datum_from_json, datum_to_json};

/// The most operations in one transaction.
pub const OPERATIONS_MAX: usize = 1 << 20;

/// A transaction and what it depends on outside the database.
pub struct Execution<'a> {
    /// The operations, the elements of `params` after the database's name.
    pub operations: &'a [Value],
    /// Where UUIDs of rows and versions come from.
    pub entropy: &'a mut dyn Entropy,
    /// Whether the client holds the lock of that name.
    pub holds_lock: &'a dyn Fn(&str) -> bool,
    /// How long ago the transaction arrived, in milliseconds, for `wait`.
    pub elapsed_ms: u64,
    /// Refuses every operation that would change a row.
    pub read_only: bool,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Executed {
    /// It failed; the results say where. Nothing changed.
    Failed(Vec<Value>),
    /// A `wait` is not satisfied; try again on a change of the database, or when so many milliseconds have passed since
    /// the transaction arrived.
    Blocked {
        /// The `timeout` of the `wait`; `None` waits for ever.
        timeout_ms: Option<u64>,
    },
    /// It succeeded, if the commit can be written down.
    Done {
        /// One result for each operation.
        results: Vec<Value>,
        /// The changes to apply; maybe none.
        commit: Commit,
    },
}

/// Why an operation did not succeed.
enum Stop {
    Error(DbError),
    Block(Option<u64>),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Stop::Error(error)
    }
}

struct Run<'a> {
    overlay: Overlay<'a>,
    symbols: Symbols<'a>,
    holds_lock: &'a dyn Fn(&str) -> bool,
    elapsed_ms: u64,
    read_only: bool,
    comment: Option<String>,
}

impl Database {
    /// Evaluates a transaction. The database does not change; see [`Database::apply`].
    pub fn execute(&self, execution: Execution<'_>) -> Executed {
        let operations = execution.operations;
        if operations.len() > OPERATIONS_MAX {
            let error = DbError::new(ErrorTag::Syntax, format!("more than {OPERATIONS_MAX} operations"));
            return Executed::Failed(vec![error.to_json()]);
        }
        let mut run = Run {
            overlay: Overlay::new(self),
            symbols: Symbols::new(execution.entropy),
            holds_lock: execution.holds_lock,
            elapsed_ms: execution.elapsed_ms,
            read_only: execution.read_only,
            comment: None,
        };
        let mut results = Vec::with_capacity(operations.len());
        for (at, operation) in operations.iter().enumerate() {
            let what = format!("ovsdb operation {} of {}", at + 1, operations.len());
            match run.operation(operation, what) {
                Ok(result) => results.push(Value::Object(result)),
                Err(Stop::Block(timeout_ms)) => return Executed::Blocked { timeout_ms },
                Err(Stop::Error(error)) => {
                    results.push(error.to_json());
                    results.resize(operations.len(), Value::Null);
                    return Executed::Failed(results);
                }
            }
        }
        match commit::check(&mut run.overlay, &mut run.symbols) {
            Ok(changes) => Executed::Done { results, commit: Commit { changes, comment: run.comment } },
            Err(error) => {
                results.push(error.to_json());
                Executed::Failed(results)
            }
        }
    }
}

type OpResult = Result<Map<String, Value>, Stop>;

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Run<'_> {
    fn operation(&mut self, json: &Value, what: String) -> OpResult {
        let mut members = Members::new(json, what)?;
        let name = members.required("op", Value::as_str)?;
        if self.read_only && matches!(name, "insert" | "update" | "mutate" | "delete") {
            let details = format!("{name} operation not allowed on a database that is read-only");
            return Err(DbError::new(ErrorTag::NotAllowed, details).into());
        }
        let result = match name {
            "insert" => self.insert(&mut members)?,
            "select" => self.select(&mut members)?,
            "update" => self.update(&mut members)?,
            "mutate" => self.mutate(&mut members)?,
            "delete" => self.delete(&mut members)?,
            "wait" => self.wait(&mut members)?,
            "commit" => {
                // Every commit is durable, so the flag changes nothing.
                members.required("durable", Value::as_bool)?;
                Map::new()
            }
            "abort" => return Err(DbError::new(ErrorTag::Aborted, "aborted by request").into()),
            "comment" => {
                let text = members.required("comment", Value::as_str)?;
                let comment = self.comment.get_or_insert_default();
                if !comment.is_empty() {
                    comment.push('\n');
                }
                comment.push_str(text);
                Map::new()
            }
            "assert" => {
                let lock = members.required("lock", identifier)?;
                if !(self.holds_lock)(lock) {
                    return Err(
                        DbError::new(ErrorTag::NotOwner, format!("Asserted lock {lock} not held.")).into()
                    );
                }
                Map::new()
            }
            other => return Err(members.fail(format!("No operation \"{other}\"")).into()),
        };
        members.finish()?;
        Ok(result)
    }

    fn table(&self, members: &mut Members<'_>) -> Result<TableIndex, DbError> {
        let name = members.required("table", identifier)?;
        match self.overlay.base().schema().table_index(name) {
            Some(index) => Ok(index),
            None => Err(members.fail(format!("No table named {name}."))),
        }
    }

    fn schema(&self) -> Arc<DatabaseSchema> {
        self.overlay.base().schema().clone()
    }

    fn insert(&mut self, members: &mut Members<'_>) -> OpResult {
        let table = self.table(members)?;
        let row = members.required("row", object_json)?;
        let name = members.typed("uuid-name", identifier)?;
        let wanted = members.typed("uuid", Value::as_str)?;
        let wanted = match wanted {
            None => None,
            Some(text) => {
                let json = Value::from(text);
                let uuid: Uuid = text.parse().map_err(|_| DbError::syntax(&json, "bad uuid"))?;
                if self.overlay.get(table, uuid).is_some() || self.overlay.existed(table, uuid) {
                    return Err(DbError::at(
                        ErrorTag::DuplicateUuid,
                        &json,
                        "This UUID would duplicate a UUID already present within the table or deleted within the \
                         same transaction.",
                    )
                    .into());
                }
                Some(uuid)
            }
        };
        let uuid = match name {
            None => wanted.unwrap_or_else(|| self.symbols.fresh()),
            Some(name) => self.symbols.claim(name, wanted).ok_or_else(|| {
                DbError::at(
                    ErrorTag::DuplicateUuidName,
                    &Value::from(name),
                    "This \"uuid-name\" appeared on an earlier \"insert\" operation.",
                )
            })?,
        };
        let schemas = self.schema();
        let schema = schemas.table_at(table);
        let given = row_from_json(schema, row, &mut self.symbols)?;
        let mut columns = default_columns(schema);
        let mut set = vec![false; columns.len()];
        for (column, datum) in given {
            if let ColumnRef::Column(ColumnIndex(at)) = column {
                columns[at] = datum;
                set[at] = true;
            }
        }
        check_defaults(schema, &columns, &set)?;
        let version = self.symbols.fresh();
        self.overlay.set(table, uuid, Some(Row { version, columns }));
        Ok(object([("uuid", json!(["uuid", uuid.to_string()]))]))
    }

    /// The rows that `where` selects.
    fn matches(&self, table: TableIndex, condition: &Condition) -> Vec<Uuid> {
        if let Some(uuid) = condition.only_row() {
            let found = self.overlay.get(table, uuid).filter(|row| condition.all(uuid, row));
            return found.map(|_| uuid).into_iter().collect();
        }
        self.overlay
            .rows(table)
            .filter(|(uuid, row)| condition.all(*uuid, row))
            .map(|(uuid, _)| uuid)
            .collect()
    }

    fn condition(&mut self, table: TableIndex, json: &[Value]) -> Result<Condition, DbError> {
        let schemas = self.schema();
        Condition::from_json(schemas.table_at(table), json, Some(&mut self.symbols))
    }

    fn select(&mut self, members: &mut Members<'_>) -> OpResult {
        let table = self.table(members)?;
        let filter = members.required("where", Value::as_array)?;
        let columns = members.typed("columns", array_json)?;
        let condition = self.condition(table, filter)?;
        let schemas = self.schema();
        let schema = schemas.table_at(table);
        let columns = match columns {
            Some(json) => ColumnRef::parse_list(schema, json, not_distinct)?,
            None => ColumnRef::all(schema),
        };
        let mut seen = BTreeSet::new();
        let mut rows = Vec::new();
        for uuid in self.matches(table, &condition) {
            let Some(row) = self.overlay.get(table, uuid) else { continue };
            let projected: Vec<Datum> =
                columns.iter().map(|column| column.value(uuid, row).into_owned()).collect();
            // Rows that look the same are one row of the answer.
            if seen.contains(&projected) {
                continue;
            }
            let members = columns.iter().zip(&projected);
            let json: Map<String, Value> = members
                .map(|(column, datum)| (column.name(schema).to_owned(), datum_to_json(datum)))
                .collect();
            rows.push(Value::Object(json));
            seen.insert(projected);
        }
        Ok(object([("rows", Value::from(rows))]))
    }

    fn update(&mut self, members: &mut Members<'_>) -> OpResult {
        let table = self.table(members)?;
        let filter = members.required("where", Value::as_array)?;
        let row = members.required("row", object_json)?;
        let schemas = self.schema();
        let schema = schemas.table_at(table);
        let given = row_from_json(schema, row, &mut self.symbols)?;
        for (column, _) in &given {
            let mutable = matches!(column, ColumnRef::Column(index) if schema.columns[index.0].mutable);
            if !mutable {
                return Err(members
                    .fault(
                        ErrorTag::ConstraintViolation,
                        format!(
                            "Cannot update immutable column {} in table {}.",
                            column.name(schema),
                            schema.name
                        ),
                    )
                    .into());
            }
        }
        let condition = self.condition(table, filter)?;
        let matches = self.matches(table, &condition);
        for uuid in &matches {
            let Some(mut row) = self.overlay.get(table, *uuid).map(|row| Row::clone(row)) else { continue };
            for (column, datum) in &given {
                if let ColumnRef::Column(index) = column {
                    row.columns[index.0] = datum.clone();
                }
            }
            self.overlay.set(table, *uuid, Some(row));
        }
        Ok(object([("count", Value::from(matches.len()))]))
    }

    fn mutate(&mut self, members: &mut Members<'_>) -> OpResult {
        let table = self.table(members)?;
        let filter = members.required("where", Value::as_array)?;
        let mutations_json = members.required("mutations", Value::as_array)?;
        let schemas = self.schema();
        let schema = schemas.table_at(table);
        let mutations: Vec<Mutation> = mutations_json
            .iter()
            .map(|json| Mutation::from_json(schema, json, &mut self.symbols))
            .collect::<Result<_, _>>()?;
        let condition = self.condition(table, filter)?;
        let matches = self.matches(table, &condition);
        for uuid in &matches {
            let Some(mut row) = self.overlay.get(table, *uuid).map(|row| Row::clone(row)) else { continue };
            for mutation in &mutations {
                let at = mutation.column.0;
                mutation.apply(&schema.columns[at].kind, &mut row.columns[at])?;
            }
            self.overlay.set(table, *uuid, Some(row));
        }
        Ok(object([("count", Value::from(matches.len()))]))
    }

    fn delete(&mut self, members: &mut Members<'_>) -> OpResult {
        let table = self.table(members)?;
        let filter = members.required("where", Value::as_array)?;
        let condition = self.condition(table, filter)?;
        let matches = self.matches(table, &condition);
        for uuid in &matches {
            self.overlay.set(table, *uuid, None);
        }
        Ok(object([("count", Value::from(matches.len()))]))
    }

    fn wait(&mut self, members: &mut Members<'_>) -> OpResult {
        let timeout = members.typed("timeout", whole_number)?;
        let table = self.table(members)?;
        let filter = members.required("where", Value::as_array)?;
        let columns = members.typed("columns", array_json)?;
        let until = members.required("until", Value::as_str)?;
        let rows = members.required("rows", Value::as_array)?;
        let timeout_ms = match timeout {
            Some(ms) if ms < 0 => {
                return Err(DbError::syntax(&Value::from(ms), "timeout must be nonnegative").into());
            }
            other => other.map(i64::unsigned_abs),
        };
        let wanted_equal = match until {
            "==" => true,
            "!=" => false,
            _ => {
                return Err(DbError::syntax(&Value::from(until), "\"until\" must be \"==\" or \"!=\"").into());
            }
        };
        let condition = self.condition(table, filter)?;
        let schemas = self.schema();
        let schema = schemas.table_at(table);
        let columns = match columns {
            Some(json) => ColumnRef::parse_list(schema, json, not_distinct)?,
            None => ColumnRef::all(schema),
        };
        let mut expected = BTreeSet::new();
        for row in rows {
            expected.insert(self.project_wanted(schema, row, &columns)?);
        }
        let found: BTreeSet<Vec<Datum>> = self
            .matches(table, &condition)
            .into_iter()
            .filter_map(|uuid| {
                let row = self.overlay.get(table, uuid)?;
                Some(columns.iter().map(|column| column.value(uuid, row).into_owned()).collect())
            })
            .collect();
        if (found == expected) == wanted_equal {
            return Ok(Map::new());
        }
        match timeout_ms {
            Some(0) => Err(DbError::new(ErrorTag::TimedOut, "\"where\" clause test failed").into()),
            Some(ms) if self.elapsed_ms >= ms => {
                let details = format!("\"wait\" timed out after {} ms", self.elapsed_ms);
                Err(DbError::new(ErrorTag::TimedOut, details).into())
            }
            other => Err(Stop::Block(other)),
        }
    }

    fn project_wanted(
        &mut self,
        schema: &TableSchema,
        json: &Value,
        columns: &[ColumnRef],
    ) -> Result<Vec<Datum>, DbError> {
        let given = row_from_json(schema, json, &mut self.symbols)?;
        let of = |column: &ColumnRef| match given.iter().find(|(name, _)| name == column) {
            Some((_, datum)) => datum.clone(),
            None => column.kind(schema).default_datum(),
        };
        Ok(columns.iter().map(of).collect())
    }
}

fn not_distinct(_: &str) -> String {
    "array of distinct column names expected".to_owned()
}

fn array_json(value: &Value) -> Option<&Value> {
    value.is_array().then_some(value)
}

fn object_json(value: &Value) -> Option<&Value> {
    value.is_object().then_some(value)
}

fn whole_number(value: &Value) -> Option<i64> {
    value.as_i64()
}

/// Reads a `<row>`.
fn row_from_json(
    schema: &TableSchema,
    json: &Value,
    symbols: &mut Symbols<'_>,
) -> Result<Vec<(ColumnRef, Datum)>, DbError> {
    let object = json.as_object().ok_or_else(|| DbError::syntax(json, "row must be JSON object"))?;
    let mut columns = Vec::with_capacity(object.len());
    for (name, value) in object {
        let column = ColumnRef::parse(schema, name).ok_or_else(|| {
            DbError::at(ErrorTag::UnknownColumn, json, format!("No column {name} in table {}.", schema.name))
        })?;
        columns.push((column, datum_from_json(column.kind(schema), value, Some(&mut *symbols))?));
    }
    Ok(columns)
}

/// The default of a column that an insert leaves out must meet the column's constraint, references excepted: those are
/// looked at when the transaction is complete.
fn check_defaults(schema: &TableSchema, columns: &[Datum], set: &[bool]) -> Result<(), DbError> {
    for ((column, datum), set) in schema.columns.iter().zip(columns).zip(set) {
        if let (false, Datum::Set(atoms)) = (*set, datum) {
            for atom in atoms {
                check_atom(&column.kind.key, atom)?;
            }
        }
    }
    Ok(())
}
