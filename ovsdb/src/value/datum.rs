//! Sets and maps of scalars. Both are sorted vectors: a switch's rows have many columns with none or one element.

use std::fmt;

use super::atom::Atom;
use crate::uuid::Uuid;

/// A sorted set of atoms without duplicates; a scalar column is a set of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AtomSet(Vec<Atom>);

impl AtomSet {
    /// The empty set.
    pub const fn new() -> Self {
        AtomSet(Vec::new())
    }

    /// The elements in order.
    pub fn as_slice(&self) -> &[Atom] {
        &self.0
    }

    /// The elements in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Atom> {
        self.0.iter()
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `atom` is an element.
    pub fn contains(&self, atom: &Atom) -> bool {
        self.0.binary_search(atom).is_ok()
    }

    /// Adds an element; false if it was there.
    pub fn insert(&mut self, atom: Atom) -> bool {
        match self.0.binary_search(&atom) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, atom);
                true
            }
        }
    }

    /// Removes an element; false if it was not there.
    pub fn remove(&mut self, atom: &Atom) -> bool {
        match self.0.binary_search(atom) {
            Ok(at) => {
                self.0.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    /// Keeps the elements for which `keep` holds.
    pub fn retain(&mut self, keep: impl FnMut(&Atom) -> bool) {
        self.0.retain(keep);
    }
}

impl FromIterator<Atom> for AtomSet {
    fn from_iter<I: IntoIterator<Item = Atom>>(atoms: I) -> Self {
        let mut all: Vec<Atom> = atoms.into_iter().collect();
        all.sort();
        all.dedup();
        AtomSet(all)
    }
}

impl<'a> IntoIterator for &'a AtomSet {
    type Item = &'a Atom;
    type IntoIter = std::slice::Iter<'a, Atom>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A map of atoms, sorted by key, each key once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AtomMap(Vec<(Atom, Atom)>);

impl AtomMap {
    /// The empty map.
    pub const fn new() -> Self {
        AtomMap(Vec::new())
    }

    fn position(&self, key: &Atom) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| k.cmp(key))
    }

    /// The value of `key`.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        self.position(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// The string value of a string key.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        // A linear look avoids making an `Atom` of the key; these maps are short.
        self.0.iter().find(|(k, _)| k.as_str() == Some(key)).and_then(|(_, value)| value.as_str())
    }

    /// The pairs in order.
    pub fn as_slice(&self) -> &[(Atom, Atom)] {
        &self.0
    }

    /// The pairs in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        self.0.iter()
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the value of a key, returning what it was.
    pub fn insert(&mut self, key: Atom, value: Atom) -> Option<Atom> {
        match self.position(&key) {
            Ok(at) => self.0.get_mut(at).map(|pair| std::mem::replace(&mut pair.1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes a key, returning its value.
    pub fn remove(&mut self, key: &Atom) -> Option<Atom> {
        self.position(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps the pairs for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Atom, &Atom) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }
}

impl FromIterator<(Atom, Atom)> for AtomMap {
    /// Of several pairs with one key the last wins.
    fn from_iter<I: IntoIterator<Item = (Atom, Atom)>>(pairs: I) -> Self {
        let mut all: Vec<(Atom, Atom)> = pairs.into_iter().collect();
        all.reverse();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, kept| later.0 == kept.0);
        AtomMap(all)
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for AtomMap {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        pairs.into_iter().map(|(k, v)| (Atom::from(k), Atom::from(v))).collect()
    }
}

/// The value of one column of one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// A set, or a scalar as a set of one, or an absent optional value as an empty set.
    Set(AtomSet),
    /// A map.
    Map(AtomMap),
}

impl Datum {
    /// The empty set.
    pub const fn empty() -> Self {
        Datum::Set(AtomSet::new())
    }

    /// A set of one.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Datum::Set(AtomSet(vec![atom.into()]))
    }

    /// A set of these.
    pub fn set(atoms: impl IntoIterator<Item = Atom>) -> Self {
        Datum::Set(atoms.into_iter().collect())
    }

    /// A map of strings to strings.
    pub fn string_map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Datum::Map(pairs.into_iter().collect())
    }

    /// How many elements or pairs there are.
    pub fn len(&self) -> usize {
        match self {
            Datum::Set(set) => set.len(),
            Datum::Map(map) => map.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The set, if it is one.
    pub fn as_set(&self) -> Option<&AtomSet> {
        match self {
            Datum::Set(set) => Some(set),
            Datum::Map(_) => None,
        }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&AtomMap> {
        match self {
            Datum::Map(map) => Some(map),
            Datum::Set(_) => None,
        }
    }

    /// The element of a set of exactly one.
    pub fn as_scalar(&self) -> Option<&Atom> {
        match self {
            Datum::Set(AtomSet(atoms)) => match atoms.as_slice() {
                [atom] => Some(atom),
                _ => None,
            },
            Datum::Map(_) => None,
        }
    }

    /// The string of a set of exactly one.
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar().and_then(Atom::as_str)
    }

    /// The integer of a set of exactly one.
    pub fn as_integer(&self) -> Option<i64> {
        self.as_scalar().and_then(Atom::as_integer)
    }

    /// The boolean of a set of exactly one.
    pub fn as_boolean(&self) -> Option<bool> {
        self.as_scalar().and_then(Atom::as_boolean)
    }

    /// The UUID of a set of exactly one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_scalar().and_then(Atom::as_uuid)
    }

    /// Whether every element (or pair) of `other` is in `self`; the `includes` function.
    pub fn includes(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Set(a), Datum::Set(b)) => b.iter().all(|atom| a.contains(atom)),
            (Datum::Map(a), Datum::Map(b)) => b.iter().all(|(key, value)| a.get(key) == Some(value)),
            _ => other.is_empty(),
        }
    }

    /// Whether no element (or pair) of `other` is in `self`; the `excludes` function.
    pub fn excludes(&self, other: &Datum) -> bool {
        match (self, other) {
            (Datum::Set(a), Datum::Set(b)) => !b.iter().any(|atom| a.contains(atom)),
            (Datum::Map(a), Datum::Map(b)) => !b.iter().any(|(key, value)| a.get(key) == Some(value)),
            _ => true,
        }
    }
}

impl<T: Into<Atom>> From<T> for Datum {
    fn from(value: T) -> Self {
        Datum::scalar(value)
    }
}

impl fmt::Display for Datum {
    /// As `ovs-vsctl` prints a column: `[a, b]`, `{k=v}`, or a bare scalar; see [`crate::text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::text::write_datum(f, self)
    }
}

impl<'a> IntoIterator for &'a AtomMap {
    type Item = &'a (Atom, Atom);
    type IntoIter = std::slice::Iter<'a, (Atom, Atom)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
