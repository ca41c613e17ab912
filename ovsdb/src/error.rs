//! The protocol's error object: a tag that programs read, details that people read, and the JSON at fault.

use serde_json::{Map, Value};

/// The `"error"` member of an error object (RFC 7047 §3.1, §5.2 and what ovsdb-server adds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorTag {
    /// The request is not what the protocol's grammar allows.
    Syntax,
    /// A column that the table does not have.
    UnknownColumn,
    /// A condition function that does not exist.
    UnknownFunction,
    /// A mutator that does not exist.
    UnknownMutator,
    /// A database that this server does not have.
    UnknownDatabase,
    /// A value or the database as a whole would break the schema.
    ConstraintViolation,
    /// A strong reference would point to no row.
    ReferentialIntegrity,
    /// Two inserts of one transaction claim the same `uuid-name`.
    DuplicateUuidName,
    /// An insert asks for a UUID that the table has or had in this transaction.
    DuplicateUuid,
    /// Division by zero.
    Domain,
    /// The result of arithmetic does not fit.
    Range,
    /// A `wait` that was not satisfied in time.
    TimedOut,
    /// The transaction asked for it.
    Aborted,
    /// An asserted lock is not held.
    NotOwner,
    /// The database does not accept transactions from clients.
    NotAllowed,
    /// The journal could not be written.
    Io,
    /// Something that has no tag of its own, such as a set with a duplicate.
    Ovsdb,
}

impl ErrorTag {
    /// The string on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorTag::Syntax => "syntax error",
            ErrorTag::UnknownColumn => "unknown column",
            ErrorTag::UnknownFunction => "unknown function",
            ErrorTag::UnknownMutator => "unknown mutator",
            ErrorTag::UnknownDatabase => "unknown database",
            ErrorTag::ConstraintViolation => "constraint violation",
            ErrorTag::ReferentialIntegrity => "referential integrity violation",
            ErrorTag::DuplicateUuidName => "duplicate uuid-name",
            ErrorTag::DuplicateUuid => "duplicate uuid",
            ErrorTag::Domain => "domain error",
            ErrorTag::Range => "range error",
            ErrorTag::TimedOut => "timed out",
            ErrorTag::Aborted => "aborted",
            ErrorTag::NotOwner => "not owner",
            ErrorTag::NotAllowed => "not allowed",
            ErrorTag::Io => "I/O error",
            ErrorTag::Ovsdb => "ovsdb error",
        }
    }
}

/// Why a request, operation, value or schema was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {details}{}", .tag.as_str(), SyntaxSuffix(.syntax))]
pub struct DbError {
    /// What programs branch on.
    pub tag: ErrorTag,
    /// What people read.
    pub details: String,
    /// The piece of JSON at fault, printed, when there is one.
    pub syntax: Option<String>,
}

struct SyntaxSuffix<'a>(&'a Option<String>);

impl std::fmt::Display for SyntaxSuffix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(syntax) => write!(f, " (at {syntax})"),
            None => Ok(()),
        }
    }
}

/// The longest piece of offending JSON that an error object repeats, in bytes.
const SYNTAX_ECHO_MAX: usize = 4096;

impl DbError {
    /// An error without a piece of JSON.
    pub fn new(tag: ErrorTag, details: impl Into<String>) -> Self {
        DbError { tag, details: details.into(), syntax: None }
    }

    /// An error that names the piece of JSON at fault.
    pub fn at(tag: ErrorTag, json: &Value, details: impl Into<String>) -> Self {
        let mut syntax = json.to_string();
        if syntax.len() > SYNTAX_ECHO_MAX {
            let cut = (0..=SYNTAX_ECHO_MAX).rev().find(|&at| syntax.is_char_boundary(at)).unwrap_or(0);
            syntax.truncate(cut);
            syntax.push_str("...");
        }
        DbError { tag, details: details.into(), syntax: Some(syntax) }
    }

    /// A syntax error that names the piece of JSON at fault.
    pub fn syntax(json: &Value, details: impl Into<String>) -> Self {
        DbError::at(ErrorTag::Syntax, json, details)
    }

    /// A constraint violation.
    pub fn constraint(details: impl Into<String>) -> Self {
        DbError::new(ErrorTag::ConstraintViolation, details)
    }

    /// The error object of RFC 7047 §3.1.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        if let Some(syntax) = &self.syntax {
            object.insert("syntax".into(), Value::from(syntax.as_str()));
        }
        object.insert("details".into(), Value::from(self.details.as_str()));
        object.insert("error".into(), Value::from(self.tag.as_str()));
        Value::Object(object)
    }
}
