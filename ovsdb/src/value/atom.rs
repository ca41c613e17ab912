//! Scalars.

use std::fmt;

use crate::uuid::Uuid;

/// The five scalar types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomType {
    /// 64-bit signed.
    Integer,
    /// IEEE 754 double, finite.
    Real,
    /// True or false.
    Boolean,
    /// UTF-8 without NUL.
    String,
    /// A UUID, possibly a reference to a row.
    Uuid,
}

impl AtomType {
    /// The name in schemas.
    pub const fn as_str(self) -> &'static str {
        match self {
            AtomType::Integer => "integer",
            AtomType::Real => "real",
            AtomType::Boolean => "boolean",
            AtomType::String => "string",
            AtomType::Uuid => "uuid",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<AtomType> {
        [AtomType::Integer, AtomType::Real, AtomType::Boolean, AtomType::String, AtomType::Uuid]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    /// The value of a column that nobody set (RFC 7047 §5.2.1).
    pub fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real::ZERO),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(String::new()),
            AtomType::Uuid => Atom::Uuid(Uuid::ZERO),
        }
    }
}

/// A finite double that has a total order: there is one zero and no NaN.
#[derive(Clone, Copy, Debug)]
pub struct Real(f64);

impl Real {
    /// Zero.
    pub const ZERO: Real = Real(0.0);

    /// `value` if it is finite.
    pub fn new(value: f64) -> Option<Real> {
        // Adding zero turns -0.0 into 0.0.
        value.is_finite().then_some(Real(value + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A scalar. The order is that of the type (strings by bytes, UUIDs by their bits), and by type between types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// An `integer`.
    Integer(i64),
    /// A `real`.
    Real(Real),
    /// A `boolean`.
    Boolean(bool),
    /// A `string`.
    String(String),
    /// A `uuid`.
    Uuid(Uuid),
}

impl Atom {
    /// Which of the five types it is.
    pub const fn atom_type(&self) -> AtomType {
        match self {
            Atom::Integer(_) => AtomType::Integer,
            Atom::Real(_) => AtomType::Real,
            Atom::Boolean(_) => AtomType::Boolean,
            Atom::String(_) => AtomType::String,
            Atom::Uuid(_) => AtomType::Uuid,
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(s) => Some(s),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Atom::Integer(i) => Some(*i),
            _ => None,
        }
    }

    /// The real, if it is one.
    pub const fn as_real(&self) -> Option<f64> {
        match self {
            Atom::Real(r) => Some(r.get()),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub const fn as_boolean(&self) -> Option<bool> {
        match self {
            Atom::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    /// The UUID, if it is one.
    pub const fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        }
    }
}

impl From<i64> for Atom {
    fn from(value: i64) -> Self {
        Atom::Integer(value)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Self {
        Atom::Boolean(value)
    }
}

impl From<&str> for Atom {
    fn from(value: &str) -> Self {
        Atom::String(value.to_owned())
    }
}

impl From<String> for Atom {
    fn from(value: String) -> Self {
        Atom::String(value)
    }
}

impl From<Uuid> for Atom {
    fn from(value: Uuid) -> Self {
        Atom::Uuid(value)
    }
}

impl fmt::Display for Atom {
    /// As `ovs-vsctl` prints it: strings bare when they can be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Integer(i) => write!(f, "{i}"),
            Atom::Real(r) => crate::text::write_real(f, r.get()),
            Atom::Boolean(b) => write!(f, "{b}"),
            Atom::String(s) => crate::text::write_string(f, s),
            Atom::Uuid(u) => write!(f, "{u}"),
        }
    }
}

/// Whether `s` is an `<id>` of RFC 7047 §3.1: a letter or underscore, then letters, digits and underscores.
pub fn is_identifier(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
