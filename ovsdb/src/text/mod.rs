//! Values as `ovs-vsctl` prints and reads them: `{key=value, …}`, `[a, b]`, bare scalars, strings quoted when they
//! could be read as something else. For people and `tapctl`; the wire and the disk use JSON.

mod parse;

use std::fmt;

pub use parse::{TextError, atom_from_text, datum_from_text};

use crate::uuid::Uuid;
use crate::value::{Atom, AtomType, Datum, is_identifier};

/// Writes a string, in JSON quotes unless it reads as itself without: a word of letters, digits, `_`, `-` and `.` that
/// starts with a letter or underscore and is neither a boolean nor a UUID.
pub(crate) fn write_string(f: &mut fmt::Formatter<'_>, s: &str) -> fmt::Result {
    if is_bare(s) { f.write_str(s) } else { write!(f, "{}", serde_json::Value::from(s)) }
}

fn is_bare(s: &str) -> bool {
    let word = s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    let start = s.bytes().next().is_some_and(|b| is_identifier((b as char).encode_utf8(&mut [0; 4])));
    word && start && !matches!(s, "true" | "false") && s.parse::<Uuid>().is_err()
}

/// Writes a real with 15 significant digits, as C's `%.15g` does.
pub(crate) fn write_real(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    const DIGITS: i32 = 15;
    if value == 0.0 {
        return f.write_str("0");
    }
    let scientific = format!("{value:.*e}", (DIGITS - 1) as usize);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| -> String {
        if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.').to_owned() } else { s.to_owned() }
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent).max(0) as usize;
        f.write_str(&trim(&format!("{value:.decimals$}")))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(f, "{}e{sign}{:02}", trim(mantissa), exponent.abs())
    }
}

/// Writes a column's value.
pub(crate) fn write_datum(f: &mut fmt::Formatter<'_>, datum: &Datum) -> fmt::Result {
    match datum {
        Datum::Set(set) => match set.as_slice() {
            [atom] => write!(f, "{atom}"),
            atoms => write_list(f, ['[', ']'], atoms, |f, atom| write!(f, "{atom}")),
        },
        Datum::Map(map) => {
            write_list(f, ['{', '}'], map.as_slice(), |f, (key, value)| write!(f, "{key}={value}"))
        }
    }
}

fn write_list<T>(
    f: &mut fmt::Formatter<'_>,
    [open, close]: [char; 2],
    items: &[T],
    mut write_one: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{open}")?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write_one(f, item)?;
    }
    write!(f, "{close}")
}

/// A datum without any quotes, one element after another with a space between, as `ovs-vsctl --bare` prints it.
pub fn bare(datum: &Datum) -> String {
    let atom = |atom: &Atom| match (atom.atom_type(), atom.as_str()) {
        (AtomType::String, Some(s)) => s.to_owned(),
        _ => atom.to_string(),
    };
    let words: Vec<String> = match datum {
        Datum::Set(set) => set.iter().map(atom).collect(),
        Datum::Map(map) => map.iter().map(|(k, v)| format!("{}={}", atom(k), atom(v))).collect(),
    };
    words.join(" ")
}
