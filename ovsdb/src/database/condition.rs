//! `<condition>`s: which rows an operation or a monitor means (RFC 7047 §5.1).

use serde_json::Value;

use super::Row;
use crate::error::{DbError, ErrorTag};
use crate::schema::{ColumnIndex, ColumnType, TableSchema};
use crate::uuid::Uuid;
use crate::value::{Atom, AtomType, Datum, Symbols, datum_from_json, datum_from_json_ranged};

/// A column that clients can name, the two implicit ones among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnRef {
    /// `_uuid`.
    Uuid,
    /// `_version`.
    Version,
    /// A column of the schema.
    Column(ColumnIndex),
}

static UUID_TYPE: ColumnType = ColumnType::scalar(AtomType::Uuid);

impl ColumnRef {
    /// The column of that name.
    pub fn parse(table: &TableSchema, name: &str) -> Option<ColumnRef> {
        match name {
            "_uuid" => Some(ColumnRef::Uuid),
            "_version" => Some(ColumnRef::Version),
            _ => table.column_index(name).map(ColumnRef::Column),
        }
    }

    /// Its name.
    pub fn name(self, table: &TableSchema) -> &str {
        match self {
            ColumnRef::Uuid => "_uuid",
            ColumnRef::Version => "_version",
            ColumnRef::Column(index) => &table.columns[index.0].name,
        }
    }

    /// Its type.
    pub fn kind(self, table: &TableSchema) -> &ColumnType {
        match self {
            ColumnRef::Uuid | ColumnRef::Version => &UUID_TYPE,
            ColumnRef::Column(index) => &table.columns[index.0].kind,
        }
    }

    /// Its value in a row.
    pub fn value(self, uuid: Uuid, row: &Row) -> std::borrow::Cow<'_, Datum> {
        match self {
            ColumnRef::Uuid => std::borrow::Cow::Owned(Datum::scalar(uuid)),
            ColumnRef::Version => std::borrow::Cow::Owned(Datum::scalar(row.version)),
            ColumnRef::Column(index) => std::borrow::Cow::Borrowed(&row.columns[index.0]),
        }
    }

    /// Every column that a `select` without `columns` answers.
    pub(crate) fn all(table: &TableSchema) -> Vec<ColumnRef> {
        let mut columns = vec![ColumnRef::Uuid, ColumnRef::Version];
        columns.extend(table.columns().map(|(index, _)| ColumnRef::Column(index)));
        columns
    }

    /// Reads an array of column names; `duplicate` says what is wrong with one that is there twice.
    pub(crate) fn parse_list(
        table: &TableSchema,
        json: &Value,
        duplicate: fn(&str) -> String,
    ) -> Result<Vec<ColumnRef>, DbError> {
        let names = json
            .as_array()
            .ok_or_else(|| DbError::syntax(json, "array of distinct column names expected"))?;
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let name = name
                .as_str()
                .ok_or_else(|| DbError::syntax(json, "array of distinct column names expected"))?;
            let column = ColumnRef::parse(table, name)
                .ok_or_else(|| DbError::syntax(json, format!("{name} is not a valid column name")))?;
            if columns.contains(&column) {
                return Err(DbError::syntax(json, duplicate(name)));
            }
            columns.push(column);
        }
        Ok(columns)
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `includes`
    Includes,
    /// `excludes`
    Excludes,
}

impl Function {
    fn parse(name: &str) -> Option<Function> {
        Some(match name {
            "==" => Function::Equal,
            "!=" => Function::NotEqual,
            "<" => Function::Less,
            "<=" => Function::LessEqual,
            ">" => Function::Greater,
            ">=" => Function::GreaterEqual,
            "includes" => Function::Includes,
            "excludes" => Function::Excludes,
            _ => return None,
        })
    }

    const fn is_ordering(self) -> bool {
        matches!(self, Function::Less | Function::LessEqual | Function::Greater | Function::GreaterEqual)
    }
}

/// One element of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    /// `true` or `false`.
    Constant(bool),
    /// `[column, function, value]`.
    Compare {
        /// The column.
        column: ColumnRef,
        /// How.
        function: Function,
        /// With what.
        argument: Datum,
    },
}

impl Clause {
    fn parse(
        table: &TableSchema,
        json: &Value,
        symbols: Option<&mut Symbols<'_>>,
    ) -> Result<Clause, DbError> {
        if let Some(constant) = json.as_bool() {
            return Ok(Clause::Constant(constant));
        }
        let Some([Value::String(name), Value::String(function), argument]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(DbError::syntax(json, "Parse error in condition."));
        };
        let column = ColumnRef::parse(table, name).ok_or_else(|| {
            DbError::at(ErrorTag::UnknownColumn, json, format!("No column {name} in table {}.", table.name))
        })?;
        let parsed = Function::parse(function).ok_or_else(|| {
            DbError::new(ErrorTag::UnknownFunction, format!("No function named {function}."))
        })?;
        let kind = column.kind(table);
        let argument = if parsed.is_ordering() {
            let ordered = matches!(kind.key.kind, AtomType::Integer | AtomType::Real);
            if !(ordered && (kind.is_scalar() || kind.is_optional())) {
                return Err(DbError::syntax(
                    json,
                    format!(
                        "Type mismatch: \"{function}\" operator may not be applied to column {name} of type {}.",
                        kind.describe()
                    ),
                ));
            }
            datum_from_json_ranged(kind, 1..=1, argument, symbols)?
        } else {
            match parsed {
                Function::Includes if !kind.is_scalar() => {
                    datum_from_json_ranged(kind, 0..=kind.max, argument, symbols)?
                }
                Function::Excludes if !kind.is_scalar() => {
                    datum_from_json_ranged(kind, 0..=u32::MAX, argument, symbols)?
                }
                _ => datum_from_json(kind, argument, symbols)?,
            }
        };
        Ok(Clause::Compare { column, function: parsed, argument })
    }

    fn holds(&self, uuid: Uuid, row: &Row) -> bool {
        let (column, function, argument) = match self {
            Clause::Constant(constant) => return *constant,
            Clause::Compare { column, function, argument } => (column, function, argument),
        };
        let value = column.value(uuid, row);
        let order = || Some(value.as_scalar()?.cmp(argument.as_scalar()?));
        match function {
            Function::Equal => *value == *argument,
            Function::NotEqual => *value != *argument,
            Function::Less => order().is_some_and(|o| o.is_lt()),
            Function::LessEqual => order().is_some_and(|o| o.is_le()),
            Function::Greater => order().is_some_and(|o| o.is_gt()),
            Function::GreaterEqual => order().is_some_and(|o| o.is_ge()),
            Function::Includes => value.includes(argument),
            Function::Excludes => value.excludes(argument),
        }
    }
}

/// A list of clauses. Operations want all of them to hold, monitors any.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Condition {
    clauses: Vec<Clause>,
}

impl Condition {
    /// Reads a `where` array.
    ///
    /// # Errors
    /// Names the clause at fault: its form, its column, its function or its value.
    pub fn from_json(
        table: &TableSchema,
        json: &[Value],
        mut symbols: Option<&mut Symbols<'_>>,
    ) -> Result<Condition, DbError> {
        let clauses = json
            .iter()
            .map(|clause| Clause::parse(table, clause, symbols.as_deref_mut()))
            .collect::<Result<_, _>>()?;
        Ok(Condition { clauses })
    }

    /// Whether every clause holds, as an operation's `where` means it.
    pub fn all(&self, uuid: Uuid, row: &Row) -> bool {
        self.clauses.iter().all(|clause| clause.holds(uuid, row))
    }

    /// Whether a clause holds or there is none, as a monitor's `where` means it.
    pub fn any(&self, uuid: Uuid, row: &Row) -> bool {
        self.clauses.is_empty() || self.clauses.iter().any(|clause| clause.holds(uuid, row))
    }

    /// The one row that can match, if a clause names it.
    pub(super) fn only_row(&self) -> Option<Uuid> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Compare {
                column: ColumnRef::Uuid,
                function: Function::Equal | Function::Includes,
                argument,
            } => match argument.as_scalar() {
                Some(Atom::Uuid(uuid)) => Some(*uuid),
                _ => None,
            },
            _ => None,
        })
    }
}
