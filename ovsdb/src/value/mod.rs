//! Column values: atoms, and the sets and maps of them (RFC 7047 §5.1).
//!
//! A value knows nothing of its column. Types and constraints live in [`crate::schema`], which drives the conversion
//! from JSON; printing needs no type.

mod atom;
mod datum;
mod json;

pub use atom::{Atom, AtomType, Real, is_identifier};
pub use datum::{AtomMap, AtomSet, Datum};
pub use json::{
    Symbols, atom_from_json, atom_to_json, base_from_json, datum_apply_diff, datum_diff, datum_from_json,
    datum_to_json,
};
pub(crate) use json::{check_atom, datum_from_json_ranged};
