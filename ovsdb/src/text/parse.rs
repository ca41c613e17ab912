//! Reading values from text.

use crate::error::DbError;
use crate::schema::{BaseType, ColumnType};
use crate::uuid::Uuid;
use crate::value::{Atom, AtomType, Datum, Real, check_atom};

/// Text that is not a value of the column.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TextError {
    /// A word that is not of the type.
    #[error("\"{word}\" is not a valid {}", .kind.as_str())]
    Atom {
        /// The word at fault.
        word: String,
        /// What it should have been.
        kind: AtomType,
    },
    /// Something else than what the syntax asks for.
    #[error("{text}: expected {expected} at character {at}")]
    Expected {
        /// The whole text.
        text: String,
        /// What would have been right.
        expected: &'static str,
        /// Where, counting bytes from 0.
        at: usize,
    },
    /// The same element or key twice.
    #[error("{text}: {what} contains duplicate {element}")]
    Duplicate {
        /// The whole text.
        text: String,
        /// `set` or `map`.
        what: &'static str,
        /// The element or key.
        element: String,
    },
    /// Too many or too few elements.
    #[error("{text}: value must have {min} to {max} elements but has {found}")]
    Count {
        /// The whole text.
        text: String,
        /// How many there are.
        found: usize,
        /// The least allowed.
        min: u32,
        /// The greatest allowed.
        max: u32,
    },
    /// A value that its column's constraint excludes.
    #[error("{0}")]
    Constraint(DbError),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Skips blanks; commas too, as `ovs-vsctl` does, when `commas`.
    fn skip(&mut self, also: &str) {
        let rest = self.rest();
        let kept = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || also.contains(c));
        self.at += rest.len() - kept.len();
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn expected(&self, expected: &'static str) -> TextError {
        TextError::Expected { text: self.text.to_owned(), expected, at: self.at }
    }

    /// A word, or a string in JSON quotes; the flag says that it was quoted.
    fn word(&mut self, expected: &'static str) -> Result<(String, bool), TextError> {
        let rest = self.rest();
        if rest.starts_with('"') {
            let end = quoted_length(rest).ok_or_else(|| self.expected("closing quote"))?;
            let quoted = rest.get(..end).unwrap_or("");
            let word: String =
                serde_json::from_str(quoted).map_err(|_| self.expected("valid quoted string"))?;
            self.at += end;
            return Ok((word, true));
        }
        let end =
            rest.find(|c: char| c.is_ascii_whitespace() || ",[](){}=!<>".contains(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.expected(expected));
        }
        self.at += end;
        Ok((rest.get(..end).unwrap_or("").to_owned(), false))
    }

    fn atom(&mut self, base: &BaseType) -> Result<Atom, TextError> {
        let (word, _) = self.word("value")?;
        atom_of(base, &word)
    }

    fn finish(&mut self) -> Result<(), TextError> {
        self.skip(",");
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected("end of value")) }
    }
}

/// The length of the JSON string at the start of `s`, quotes included.
fn quoted_length(s: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in s.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn atom_of(base: &BaseType, word: &str) -> Result<Atom, TextError> {
    let wrong = || TextError::Atom { word: word.to_owned(), kind: base.kind };
    let atom = match base.kind {
        AtomType::Integer => Atom::Integer(parse_integer(word).ok_or_else(wrong)?),
        AtomType::Real => Atom::Real(word.parse().ok().and_then(Real::new).ok_or_else(wrong)?),
        AtomType::Boolean => Atom::Boolean(match word {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => return Err(wrong()),
        }),
        AtomType::String => Atom::String(word.to_owned()),
        AtomType::Uuid => Atom::Uuid(word.parse::<Uuid>().map_err(|_| wrong())?),
    };
    check_atom(base, &atom).map_err(TextError::Constraint)?;
    Ok(atom)
}

fn parse_integer(word: &str) -> Option<i64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Reads one atom, which may be in JSON quotes.
///
/// # Errors
/// Names the word and the type or constraint that it does not meet.
pub fn atom_from_text(base: &BaseType, text: &str) -> Result<Atom, TextError> {
    let mut reader = Reader { text, at: 0 };
    reader.skip("");
    let atom = reader.atom(base)?;
    reader.skip("");
    if reader.rest().is_empty() { Ok(atom) } else { Err(reader.expected("end of value")) }
}

/// Reads a column's value: `a`, `a,b`, `[a, b]`, `k=v`, `k=v,k2=v2` or `{k=v, …}`.
///
/// # Errors
/// Says what was expected where, which word is not of the type, or that there are too many or too few elements.
pub fn datum_from_text(column: &ColumnType, text: &str) -> Result<Datum, TextError> {
    let mut reader = Reader { text, at: 0 };
    reader.skip("");
    let (open, close) = if column.value.is_some() { ('{', '}') } else { ('[', ']') };
    let bracketed = reader.eat(open);
    let mut keys: Vec<Atom> = Vec::new();
    let mut values: Vec<Atom> = Vec::new();
    loop {
        reader.skip(if keys.is_empty() { "" } else { "," });
        if reader.rest().is_empty() || (bracketed && reader.rest().starts_with(close)) {
            break;
        }
        let key = reader.atom(&column.key)?;
        if let Some(value) = &column.value {
            reader.skip("");
            if !reader.eat('=') {
                return Err(reader.expected("\"=\" and a value"));
            }
            reader.skip("");
            values.push(reader.atom(value)?);
        }
        if keys.contains(&key) {
            let what = if column.value.is_some() { "map" } else { "set" };
            return Err(TextError::Duplicate { text: text.to_owned(), what, element: key.to_string() });
        }
        keys.push(key);
    }
    if bracketed && !reader.eat(close) {
        return Err(reader.expected(if column.value.is_some() { "\"}\"" } else { "\"]\"" }));
    }
    reader.finish()?;
    let found = keys.len();
    if !u32::try_from(found).is_ok_and(|n| (column.min..=column.max).contains(&n)) {
        return Err(TextError::Count { text: text.to_owned(), found, min: column.min, max: column.max });
    }
    Ok(match column.value {
        Some(_) => Datum::Map(keys.into_iter().zip(values).collect()),
        None => Datum::set(keys),
    })
}
