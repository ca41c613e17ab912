//! `<mutation>`s: changing a column in place (RFC 7047 §5.1, §5.2.4).

use serde_json::Value;

use crate::error::{DbError, ErrorTag};
use crate::schema::{ColumnIndex, ColumnType, TableSchema};
use crate::value::{Atom, AtomSet, AtomType, Datum, Real, Symbols, check_atom, datum_from_json_ranged};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Insert,
    Delete,
}

impl Mutator {
    fn parse(name: &str) -> Option<Mutator> {
        Some(match name {
            "+=" => Mutator::Add,
            "-=" => Mutator::Subtract,
            "*=" => Mutator::Multiply,
            "/=" => Mutator::Divide,
            "%=" => Mutator::Remainder,
            "insert" => Mutator::Insert,
            "delete" => Mutator::Delete,
            _ => return None,
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Subtract => "-=",
            Mutator::Multiply => "*=",
            Mutator::Divide => "/=",
            Mutator::Remainder => "%=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        }
    }

    fn applies_to(self, kind: &ColumnType) -> bool {
        match self {
            Mutator::Insert | Mutator::Delete => !kind.is_scalar(),
            Mutator::Remainder => kind.value.is_none() && kind.key.kind == AtomType::Integer,
            _ => kind.value.is_none() && matches!(kind.key.kind, AtomType::Integer | AtomType::Real),
        }
    }
}

/// A change of one column.
pub(super) struct Mutation {
    pub(super) column: ColumnIndex,
    mutator: Mutator,
    argument: Datum,
}

impl Mutation {
    pub(super) fn from_json(
        table: &TableSchema,
        json: &Value,
        symbols: &mut Symbols<'_>,
    ) -> Result<Mutation, DbError> {
        let Some([Value::String(name), Value::String(operator), argument]) =
            json.as_array().map(Vec::as_slice)
        else {
            return Err(DbError::syntax(json, "Parse error in mutation."));
        };
        let implicit = matches!(name.as_str(), "_uuid" | "_version");
        let column = match table.column_index(name) {
            Some(column) if table.columns[column.0].mutable => column,
            None if !implicit => {
                return Err(DbError::at(
                    ErrorTag::UnknownColumn,
                    json,
                    format!("No column {name} in table {}.", table.name),
                ));
            }
            _ => {
                return Err(DbError::at(
                    ErrorTag::ConstraintViolation,
                    json,
                    format!("Cannot mutate immutable column {name} in table {}.", table.name),
                ));
            }
        };
        let mutator = Mutator::parse(operator)
            .ok_or_else(|| DbError::new(ErrorTag::UnknownMutator, format!("No mutator named {operator}.")))?;
        let kind = &table.columns[column.0].kind;
        if !mutator.applies_to(kind) {
            return Err(DbError::syntax(
                json,
                format!(
                    "Type mismatch: \"{operator}\" operator may not be applied to column {name} of type {}.",
                    kind.describe()
                ),
            ));
        }
        let argument = parse_argument(mutator, kind, argument, symbols)?;
        Ok(Mutation { column, mutator, argument })
    }

    /// Changes the value of the column.
    pub(super) fn apply(&self, kind: &ColumnType, datum: &mut Datum) -> Result<(), DbError> {
        match (self.mutator, &mut *datum, &self.argument) {
            (Mutator::Insert, Datum::Set(set), Datum::Set(more)) => {
                *set = set.iter().chain(more).cloned().collect();
            }
            (Mutator::Insert, Datum::Map(map), Datum::Map(more)) => {
                // A key that is there keeps its value; later pairs win, so the present ones come last.
                *map = more.iter().chain(map.iter()).cloned().collect();
            }
            (Mutator::Delete, Datum::Set(set), Datum::Set(less)) => set.retain(|atom| !less.contains(atom)),
            (Mutator::Delete, Datum::Map(map), Datum::Set(keys)) => map.retain(|key, _| !keys.contains(key)),
            (Mutator::Delete, Datum::Map(map), Datum::Map(less)) => {
                map.retain(|key, value| less.get(key) != Some(value));
            }
            (mutator, Datum::Set(set), argument) => *set = arithmetic(mutator, kind, set, argument)?,
            _ => {}
        }
        let count = datum.len();
        if u32::try_from(count).is_ok_and(|n| (kind.min..=kind.max).contains(&n)) {
            return Ok(());
        }
        Err(DbError::constraint(format!("Attempted to store {count} elements in {}.", kind.describe())))
    }
}

fn parse_argument(
    mutator: Mutator,
    kind: &ColumnType,
    json: &Value,
    symbols: &mut Symbols<'_>,
) -> Result<Datum, DbError> {
    match mutator {
        Mutator::Insert => datum_from_json_ranged(kind, 0..=kind.max, json, Some(symbols)),
        Mutator::Delete => {
            let is_map = json.as_array().and_then(|array| array.first()).is_some_and(|tag| tag == "map");
            let keys = ColumnType { key: kind.key.clone(), value: None, min: 0, max: u32::MAX };
            let accepted = if kind.value.is_some() && is_map { kind } else { &keys };
            datum_from_json_ranged(accepted, 0..=u32::MAX, json, Some(symbols))
        }
        _ => {
            // The argument is a scalar of the column's type; its constraint applies to the result only.
            let scalar = ColumnType::scalar(kind.key.kind);
            datum_from_json_ranged(&scalar, 1..=1, json, Some(symbols))
        }
    }
}

fn arithmetic(
    mutator: Mutator,
    kind: &ColumnType,
    set: &AtomSet,
    argument: &Datum,
) -> Result<AtomSet, DbError> {
    let mut results = Vec::with_capacity(set.len());
    for atom in set {
        let result = match (atom, argument.as_scalar()) {
            (Atom::Integer(a), Some(Atom::Integer(b))) => Atom::Integer(integer(mutator, *a, *b)?),
            (Atom::Real(a), Some(Atom::Real(b))) => Atom::Real(real(mutator, a.get(), b.get())?),
            _ => return Err(DbError::constraint("operand of another type")),
        };
        check_atom(&kind.key, &result)?;
        results.push(result);
    }
    let count = results.len();
    let set: AtomSet = results.into_iter().collect();
    if set.len() == count {
        return Ok(set);
    }
    Err(DbError::constraint(format!("Result of \"{}\" operation contains duplicates.", mutator.as_str())))
}

fn out_of_range(mutator: Mutator) -> DbError {
    DbError::new(ErrorTag::Range, format!("Result of \"{}\" operation is out of range.", mutator.as_str()))
}

fn integer(mutator: Mutator, a: i64, b: i64) -> Result<i64, DbError> {
    let result = match mutator {
        Mutator::Add => a.checked_add(b),
        Mutator::Subtract => a.checked_sub(b),
        Mutator::Multiply => a.checked_mul(b),
        _ if b == 0 => return Err(DbError::new(ErrorTag::Domain, "Division by zero.")),
        Mutator::Divide => a.checked_div(b),
        _ => Some(a.wrapping_rem(b)),
    };
    result.ok_or_else(|| out_of_range(mutator))
}

fn real(mutator: Mutator, a: f64, b: f64) -> Result<Real, DbError> {
    let result = match mutator {
        Mutator::Add => a + b,
        Mutator::Subtract => a - b,
        Mutator::Multiply => a * b,
        _ if b == 0.0 => return Err(DbError::new(ErrorTag::Domain, "Division by zero.")),
        _ => a / b,
    };
    Real::new(result).ok_or_else(|| out_of_range(mutator))
}
