//! Reading a JSON object member by member, with the protocol's words for what is wrong with it.

use serde_json::{Map, Value};

use crate::error::{DbError, ErrorTag};
use crate::value::is_identifier;

/// Reads the members of an object, complaining about those that nobody asked for.
pub(crate) struct Members<'a> {
    what: String,
    json: &'a Value,
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Members<'a> {
    pub(crate) fn new(json: &'a Value, what: impl Into<String>) -> Result<Self, DbError> {
        let what = what.into();
        match json.as_object() {
            Some(object) => Ok(Members { what, json, object, known: Vec::new() }),
            None => Err(DbError::new(ErrorTag::Syntax, format!("Parsing {what} failed: Object expected."))),
        }
    }

    pub(crate) fn fail(&self, details: impl std::fmt::Display) -> DbError {
        DbError::syntax(self.json, format!("Parsing {} failed: {details}", self.what))
    }

    /// An error of another kind at this object.
    pub(crate) fn fault(&self, tag: ErrorTag, details: String) -> DbError {
        DbError::at(tag, self.json, details)
    }

    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name)
    }

    pub(crate) fn typed<T>(
        &mut self,
        name: &'static str,
        read: fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, DbError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(found) => Ok(Some(found)),
                None => Err(self.fail(format!("Type mismatch for member '{name}'."))),
            },
        }
    }

    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: fn(&'a Value) -> Option<T>,
    ) -> Result<T, DbError> {
        match self.typed(name, read)? {
            Some(found) => Ok(found),
            None => Err(self.fail(format!("Required '{name}' member is missing."))),
        }
    }

    pub(crate) fn finish(self) -> Result<(), DbError> {
        match self.object.keys().find(|key| !self.known.contains(&key.as_str())) {
            Some(extra) => Err(self.fail(format!("Member '{extra}' is present but not allowed here."))),
            None => Ok(()),
        }
    }
}

/// The string, if it is an `<id>`.
pub(crate) fn identifier(value: &Value) -> Option<&str> {
    value.as_str().filter(|s| is_identifier(s))
}
