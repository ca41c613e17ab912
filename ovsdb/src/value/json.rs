//! Values to and from JSON, in the forms of RFC 7047 §5.1.

use std::collections::HashMap;

use serde_json::Value;

use super::atom::{Atom, AtomType, Real, is_identifier};
use super::datum::{AtomMap, AtomSet, Datum};
use crate::error::{DbError, ErrorTag};
use crate::schema::{BaseType, ColumnType, Constraint};
use crate::uuid::{Entropy, Uuid};

/// The `uuid-name`s of one transaction. A name stands for one UUID, whether it is used before or after its insert.
pub struct Symbols<'a> {
    entropy: &'a mut dyn Entropy,
    names: HashMap<String, Symbol>,
}

struct Symbol {
    uuid: Uuid,
    inserted: bool,
}

impl<'a> Symbols<'a> {
    /// No names yet.
    pub fn new(entropy: &'a mut dyn Entropy) -> Self {
        Symbols { entropy, names: HashMap::new() }
    }

    /// A fresh UUID without a name.
    pub fn fresh(&mut self) -> Uuid {
        Uuid::random(self.entropy)
    }

    /// The UUID that `name` stands for.
    pub fn resolve(&mut self, name: &str) -> Uuid {
        if let Some(symbol) = self.names.get(name) {
            return symbol.uuid;
        }
        let uuid = self.fresh();
        self.names.insert(name.to_owned(), Symbol { uuid, inserted: false });
        uuid
    }

    /// Ties `name` to the row that an insert makes: `wanted` if the insert gives a UUID, also where the name was used before,
    /// which then named a row that there is not (as ovsdb-server has it). `None` if an earlier insert has the name.
    pub fn claim(&mut self, name: &str, wanted: Option<Uuid>) -> Option<Uuid> {
        let uuid = match self.names.get(name) {
            Some(symbol) if symbol.inserted => return None,
            Some(symbol) => wanted.unwrap_or(symbol.uuid),
            None => wanted.unwrap_or_else(|| self.fresh()),
        };
        self.names.insert(name.to_owned(), Symbol { uuid, inserted: true });
        Some(uuid)
    }
}

/// Prints an atom.
pub fn atom_to_json(atom: &Atom) -> Value {
    /// Up to here every whole double is an exact integer, and prints as one.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match atom {
        Atom::Integer(i) => Value::from(*i),
        Atom::Real(r) => {
            let value = r.get();
            if value.fract() == 0.0 && value.abs() < WHOLE_MAX {
                Value::from(value as i64)
            } else {
                Value::from(value)
            }
        }
        Atom::Boolean(b) => Value::from(*b),
        Atom::String(s) => Value::from(s.as_str()),
        Atom::Uuid(u) => Value::from(vec![Value::from("uuid"), Value::from(u.to_string())]),
    }
}

/// Prints a datum: a set of one as the bare atom, other sets as `["set", …]`, maps as `["map", …]`.
pub fn datum_to_json(datum: &Datum) -> Value {
    match datum {
        Datum::Set(set) => match set.as_slice() {
            [atom] => atom_to_json(atom),
            atoms => tagged("set", atoms.iter().map(atom_to_json).collect()),
        },
        Datum::Map(map) => {
            let pair = |(k, v): &(Atom, Atom)| Value::from(vec![atom_to_json(k), atom_to_json(v)]);
            tagged("map", map.iter().map(pair).collect())
        }
    }
}

fn tagged(tag: &str, elements: Vec<Value>) -> Value {
    Value::from(vec![Value::from(tag), Value::from(elements)])
}

/// Reads an atom of the given type, without constraints.
///
/// # Errors
/// Names the offending JSON when it is of another type, a string has a NUL, or a UUID is malformed.
pub fn atom_from_json(
    kind: AtomType,
    json: &Value,
    symbols: Option<&mut Symbols<'_>>,
) -> Result<Atom, DbError> {
    let found = match kind {
        AtomType::Integer => integer_from_json(json).map(Atom::Integer),
        AtomType::Real => json.as_f64().and_then(Real::new).map(Atom::Real),
        AtomType::Boolean => json.as_bool().map(Atom::Boolean),
        AtomType::String => match json.as_str() {
            Some(s) if s.contains('\0') => {
                return Err(DbError::syntax(json, "null bytes not supported in strings"));
            }
            other => other.map(Atom::from),
        },
        AtomType::Uuid => return uuid_from_json(json, symbols).map(Atom::Uuid),
    };
    found.ok_or_else(|| DbError::syntax(json, format!("expected {}", kind.as_str())))
}

/// JSON does not tell 1 from 1.0, so a whole number is an integer however it is written.
fn integer_from_json(json: &Value) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    json.as_i64().or_else(|| {
        let value = json.as_f64().filter(|_| json.is_f64())?;
        (value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value)).then_some(value as i64)
    })
}

fn uuid_from_json(json: &Value, symbols: Option<&mut Symbols<'_>>) -> Result<Uuid, DbError> {
    match (json.as_array().map(Vec::as_slice), symbols) {
        (Some([tag, Value::String(text)]), _) if tag == "uuid" => {
            text.parse().map_err(|error: crate::uuid::UuidError| DbError::syntax(json, error.to_string()))
        }
        (Some([tag, Value::String(name)]), Some(symbols)) if tag == "named-uuid" => {
            if is_identifier(name) {
                Ok(symbols.resolve(name))
            } else {
                Err(DbError::syntax(json, "named-uuid string is not a valid <id>"))
            }
        }
        _ => Err(DbError::syntax(json, "expected [\"uuid\", <string>]")),
    }
}

/// Reads an atom and checks it against its base type's constraints.
///
/// # Errors
/// A syntax error, or a constraint violation.
pub fn base_from_json(
    base: &BaseType,
    json: &Value,
    symbols: Option<&mut Symbols<'_>>,
) -> Result<Atom, DbError> {
    let atom = atom_from_json(base.kind, json, symbols)?;
    check_atom(base, &atom)?;
    Ok(atom)
}

/// Checks an atom against its base type's constraints.
pub(crate) fn check_atom(base: &BaseType, atom: &Atom) -> Result<(), DbError> {
    match (&base.constraint, atom) {
        (Constraint::Enum(allowed), _) if !allowed.contains(atom) => Err(DbError::constraint(format!(
            "{atom} is not one of the allowed values ({})",
            Datum::Set(allowed.clone())
        ))),
        (Constraint::Integer { min, max }, Atom::Integer(i)) => range(i, min.as_ref(), max.as_ref(), atom),
        (Constraint::Real { min, max }, Atom::Real(r)) => range(r, min.as_ref(), max.as_ref(), atom),
        (Constraint::Length { min, max }, Atom::String(s)) => {
            let length = s.chars().count() as u64;
            if length < *min {
                return Err(DbError::constraint(format!(
                    "\"{s}\" length {length} is less than minimum allowed length {min}"
                )));
            }
            match max {
                Some(max) if length > *max => Err(DbError::constraint(format!(
                    "\"{s}\" length {length} is greater than maximum allowed length {max}"
                ))),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn range<T: PartialOrd + Bound>(
    value: &T,
    min: Option<&T>,
    max: Option<&T>,
    atom: &Atom,
) -> Result<(), DbError> {
    let details = match (min, max) {
        (Some(lo), Some(hi)) if value < lo || value > hi => {
            format!("{atom} is not in the valid range {} to {} (inclusive)", lo.show(), hi.show())
        }
        (Some(lo), None) if value < lo => {
            format!("{atom} is less than minimum allowed value {}", lo.show())
        }
        (None, Some(hi)) if value > hi => {
            format!("{atom} is greater than maximum allowed value {}", hi.show())
        }
        _ => return Ok(()),
    };
    Err(DbError::constraint(details))
}

trait Bound {
    fn show(&self) -> String;
}

impl Bound for i64 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Bound for Real {
    fn show(&self) -> String {
        Atom::Real(*self).to_string()
    }
}

/// Reads a column's value, checking constraints and the number of elements.
///
/// # Errors
/// A syntax error that names the JSON at fault, a constraint violation, or a duplicate element or key.
pub fn datum_from_json(
    column: &ColumnType,
    json: &Value,
    symbols: Option<&mut Symbols<'_>>,
) -> Result<Datum, DbError> {
    datum_from_json_ranged(column, column.min..=column.max, json, symbols)
}

/// As [`datum_from_json`], with another number of elements allowed: conditions and mutations take parts of a value.
pub(crate) fn datum_from_json_ranged(
    column: &ColumnType,
    count: std::ops::RangeInclusive<u32>,
    json: &Value,
    mut symbols: Option<&mut Symbols<'_>>,
) -> Result<Datum, DbError> {
    let is_map = column.value.is_some();
    let tag = if is_map { "map" } else { "set" };
    let tagged = match json.as_array().map(Vec::as_slice) {
        Some([Value::String(first), rest]) if first == tag => match rest {
            Value::Array(elements) => Some(elements.as_slice()),
            _ => return Err(DbError::syntax(json, format!("expected [\"{tag}\", <array>]"))),
        },
        _ => None,
    };
    if let Some(value_base) = &column.value {
        let Some(elements) = tagged else {
            return Err(DbError::syntax(json, "expected [\"map\", <array>]"));
        };
        check_count(elements.len(), &count, "map", json)?;
        return map_from_json(&column.key, value_base, elements, symbols).map(Datum::Map);
    }
    let elements = tagged.unwrap_or(std::slice::from_ref(json));
    check_count(elements.len(), &count, "set", json)?;
    let mut atoms = Vec::with_capacity(elements.len());
    for element in elements {
        atoms.push(base_from_json(&column.key, element, symbols.as_deref_mut())?);
    }
    let set: AtomSet = atoms.into_iter().collect();
    if set.len() != elements.len() {
        return Err(DbError::new(ErrorTag::Ovsdb, "set contains duplicate"));
    }
    Ok(Datum::Set(set))
}

fn map_from_json(
    key_base: &BaseType,
    value_base: &BaseType,
    elements: &[Value],
    mut symbols: Option<&mut Symbols<'_>>,
) -> Result<AtomMap, DbError> {
    let mut pairs = Vec::with_capacity(elements.len());
    for element in elements {
        let Some([key, value]) = element.as_array().map(Vec::as_slice) else {
            return Err(DbError::syntax(element, "expected 2-element array"));
        };
        let key = base_from_json(key_base, key, symbols.as_deref_mut())?;
        pairs.push((key, base_from_json(value_base, value, symbols.as_deref_mut())?));
    }
    let map: AtomMap = pairs.into_iter().collect();
    if map.len() != elements.len() {
        return Err(DbError::new(ErrorTag::Ovsdb, "map contains duplicate key"));
    }
    Ok(map)
}

fn check_count(
    found: usize,
    count: &std::ops::RangeInclusive<u32>,
    tag: &str,
    json: &Value,
) -> Result<(), DbError> {
    let (min, max) = (*count.start(), *count.end());
    if u32::try_from(found).is_ok_and(|n| count.contains(&n)) {
        return Ok(());
    }
    let wanted = match (min, max) {
        (1, 1) => "exactly one member".to_owned(),
        (min, u32::MAX) => format!("{min} or more members"),
        (min, max) => format!("{min} to {max} members"),
    };
    Err(DbError::syntax(json, format!("{tag} must have {wanted} but {found} are present")))
}

/// What changes `old` into `new`, in the form that `update2` notifications and diff records carry: for sets the symmetric
/// difference; for maps pairs that were added, removed or whose value changed (then with the new value). Columns that
/// hold at most one element carry the new value instead.
pub fn datum_diff(column: &ColumnType, old: &Datum, new: &Datum) -> Datum {
    match (old, new) {
        (Datum::Set(a), Datum::Set(b)) if column.max > 1 => Datum::Set(
            a.iter()
                .filter(|atom| !b.contains(atom))
                .chain(b.iter().filter(|atom| !a.contains(atom)))
                .cloned()
                .collect(),
        ),
        (Datum::Map(a), Datum::Map(b)) => {
            let gone = a.iter().filter(|(key, _)| b.get(key).is_none());
            let changed = b.iter().filter(|(key, value)| a.get(key) != Some(value));
            Datum::Map(gone.chain(changed).cloned().collect())
        }
        _ => new.clone(),
    }
}

/// Applies what [`datum_diff`] made to `old`.
pub fn datum_apply_diff(column: &ColumnType, old: &Datum, diff: &Datum) -> Datum {
    match (old, diff) {
        (Datum::Set(a), Datum::Set(d)) if column.max > 1 => Datum::Set(
            a.iter()
                .filter(|atom| !d.contains(atom))
                .chain(d.iter().filter(|atom| !a.contains(atom)))
                .cloned()
                .collect(),
        ),
        (Datum::Map(a), Datum::Map(d)) => {
            let mut map = a.clone();
            for (key, value) in d {
                if map.get(key) == Some(value) {
                    map.remove(key);
                } else {
                    map.insert(key.clone(), value.clone());
                }
            }
            Datum::Map(map)
        }
        _ => diff.clone(),
    }
}
