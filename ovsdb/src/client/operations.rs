//! Writing transactions, and reading their results.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::uuid::Uuid;
use crate::value::{Datum, atom_to_json, datum_to_json};

/// A row that exists, or that an insert of the same transaction makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowRef {
    /// A row by its UUID.
    Uuid(Uuid),
    /// A row of this transaction by its `uuid-name`.
    Named(String),
}

impl From<Uuid> for RowRef {
    fn from(uuid: Uuid) -> Self {
        RowRef::Uuid(uuid)
    }
}

impl From<&RowRef> for Value {
    fn from(reference: &RowRef) -> Value {
        match reference {
            RowRef::Uuid(uuid) => atom_to_json(&(*uuid).into()),
            RowRef::Named(name) => json!(["named-uuid", name]),
        }
    }
}

impl From<&Datum> for Value {
    fn from(datum: &Datum) -> Value {
        datum_to_json(datum)
    }
}

impl From<Datum> for Value {
    fn from(datum: Datum) -> Value {
        datum_to_json(&datum)
    }
}

/// The operations of a transaction, in order.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    operations: Vec<Value>,
    named: usize,
}

fn row_json<'a>(columns: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn is_row(row: &RowRef) -> Value {
    json!([["_uuid", "==", Value::from(row)]])
}

impl Transaction {
    /// No operations.
    pub fn new() -> Self {
        Transaction::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operations, for [`super::Client::transact`] or [`crate::session::Server::transact_local`].
    pub fn operations(&self) -> &[Value] {
        &self.operations
    }

    /// Adds any operation.
    pub fn push(&mut self, operation: Value) {
        self.operations.push(operation);
    }

    /// Inserts a row; what comes back refers to it within this transaction.
    pub fn insert<'a>(&mut self, table: &str, columns: impl IntoIterator<Item = (&'a str, Value)>) -> RowRef {
        self.named += 1;
        let name = format!("row{}", self.named);
        self.push(json!({ "op": "insert", "table": table, "uuid-name": name, "row": row_json(columns) }));
        RowRef::Named(name)
    }

    /// Sets columns of a row.
    pub fn update<'a>(
        &mut self,
        table: &str,
        row: &RowRef,
        columns: impl IntoIterator<Item = (&'a str, Value)>,
    ) {
        self.push(json!({ "op": "update", "table": table, "where": is_row(row), "row": row_json(columns) }));
    }

    /// Changes a column in place, for instance `"insert"` into a set.
    pub fn mutate(&mut self, table: &str, row: &RowRef, column: &str, mutator: &str, argument: Value) {
        self.push(json!({
            "op": "mutate", "table": table, "where": is_row(row), "mutations": [[column, mutator, argument]],
        }));
    }

    /// Sets one key of a map.
    pub fn set_key(&mut self, table: &str, row: &RowRef, column: &str, key: &str, value: &str) {
        self.mutate(table, row, column, "delete", json!(["set", [key]]));
        self.mutate(table, row, column, "insert", json!(["map", [[key, value]]]));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, row: &RowRef) {
        self.push(json!({ "op": "delete", "table": table, "where": is_row(row) }));
    }

    /// Fails the transaction unless a column still has this value: guards a read that the transaction depends on.
    pub fn verify(&mut self, table: &str, row: &RowRef, column: &str, value: &Datum) {
        self.push(json!({
            "op": "wait", "table": table, "timeout": 0, "where": is_row(row), "columns": [column],
            "until": "==", "rows": [row_json([(column, Value::from(value))])],
        }));
    }

    /// Says why, in the journal.
    pub fn comment(&mut self, text: &str) {
        self.push(json!({ "op": "comment", "comment": text }));
    }
}

/// A transaction that did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactError {
    /// Which operation failed, from 0; as many as there are operations if the whole did.
    pub operation: usize,
    /// The tag, such as "constraint violation".
    pub error: String,
    /// The details, if there are any.
    pub details: Option<String>,
}

impl fmt::Display for TransactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details {
            Some(details) => write!(f, "{}: {details}", self.error),
            None => f.write_str(&self.error),
        }
    }
}

impl std::error::Error for TransactError {}

/// The results of a transaction that happened.
///
/// # Errors
/// The first error among them.
pub fn outcome(results: &[Value]) -> Result<&[Value], TransactError> {
    for (operation, result) in results.iter().enumerate() {
        let error = match result {
            Value::Object(object) => object.get("error").and_then(Value::as_str),
            Value::String(text) => Some(text.as_str()),
            _ => None,
        };
        if let Some(error) = error {
            let details = result.get("details").and_then(Value::as_str).map(str::to_owned);
            return Err(TransactError { operation, error: error.to_owned(), details });
        }
    }
    Ok(results)
}
