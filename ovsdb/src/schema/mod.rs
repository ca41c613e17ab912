//! Database schemas (RFC 7047 §3.2) and the two that a switch serves.
//!
//! A schema is read once into vectors sorted by name; everything else in the crate speaks of tables and columns by
//! their place there ([`TableIndex`], [`ColumnIndex`]).

mod parse;
mod print;

use std::sync::OnceLock;

use crate::error::DbError;
use crate::value::{Atom, AtomMap, AtomSet, AtomType, Datum, Real};

/// The place of a table in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableIndex(pub(crate) usize);

/// The place of a column in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnIndex(pub(crate) usize);

/// What a value of a base type must satisfy beside its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Nothing.
    None,
    /// One of these.
    Enum(AtomSet),
    /// An integer within these bounds, inclusive.
    Integer {
        /// The least allowed.
        min: Option<i64>,
        /// The greatest allowed.
        max: Option<i64>,
    },
    /// A real within these bounds, inclusive.
    Real {
        /// The least allowed.
        min: Option<Real>,
        /// The greatest allowed.
        max: Option<Real>,
    },
    /// A string of so many characters.
    Length {
        /// The least allowed.
        min: u64,
        /// The greatest allowed.
        max: Option<u64>,
    },
    /// A reference to a row.
    Reference {
        /// Where the row must be.
        table: TableIndex,
        /// Whether the reference keeps the row alive.
        strength: Strength,
    },
}

/// What happens to a reference when its row is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// The deletion is refused.
    Strong,
    /// The reference disappears.
    Weak,
}

/// The type of a key or a value.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseType {
    /// Its scalar type.
    pub kind: AtomType,
    /// What it must satisfy.
    pub constraint: Constraint,
}

impl BaseType {
    /// The type without a constraint.
    pub const fn plain(kind: AtomType) -> Self {
        BaseType { kind, constraint: Constraint::None }
    }

    /// The table and strength, if the type is a reference.
    pub const fn reference(&self) -> Option<(TableIndex, Strength)> {
        match self.constraint {
            Constraint::Reference { table, strength } => Some((table, strength)),
            _ => None,
        }
    }
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnType {
    /// The elements of a set, or the keys of a map.
    pub key: BaseType,
    /// The values of a map; absent for a set.
    pub value: Option<BaseType>,
    /// The least number of elements, 0 or 1.
    pub min: u32,
    /// The greatest number of elements; `u32::MAX` is unlimited.
    pub max: u32,
}

impl ColumnType {
    /// A scalar of the given type.
    pub const fn scalar(kind: AtomType) -> Self {
        ColumnType { key: BaseType::plain(kind), value: None, min: 1, max: 1 }
    }

    /// Exactly one element and no map.
    pub const fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// At most one element, not exactly one, and no map.
    pub const fn is_optional(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// The value of a column that nobody set.
    pub fn default_datum(&self) -> Datum {
        match (&self.value, self.min) {
            (None, 0) => Datum::empty(),
            (None, _) => Datum::scalar(self.key.kind.default_atom()),
            (Some(_), 0) => Datum::Map(AtomMap::new()),
            (Some(value), _) => {
                Datum::Map([(self.key.kind.default_atom(), value.kind.default_atom())].into_iter().collect())
            }
        }
    }

    /// Whether `datum` is what [`ColumnType::default_datum`] gives, without making it.
    pub fn is_default(&self, datum: &Datum) -> bool {
        if self.min == 0 { datum.is_empty() } else { *datum == self.default_datum() }
    }

    /// The type in words, as errors name it: "set of up to 3 reals".
    pub fn describe(&self) -> String {
        let key = self.key.kind.as_str();
        if let Some(value) = &self.value {
            return format!("{}({key}, {}) pairs", self.describe_count("map"), value.kind.as_str());
        }
        match (self.min, self.max) {
            (1, 1) => key.to_owned(),
            _ => format!("{}{key}s", self.describe_count("set")),
        }
    }

    fn describe_count(&self, what: &str) -> String {
        match (self.min, self.max) {
            (0, u32::MAX) => format!("{what} of "),
            (min, u32::MAX) => format!("{what} of {min} or more "),
            (0, max) => format!("{what} of up to {max} "),
            (min, max) if min == max => format!("{what} of {min} "),
            (min, max) => format!("{what} of {min} to {max} "),
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ColumnType,
    /// Whether it may change after the insert.
    pub mutable: bool,
    /// Whether it is kept on disk.
    pub persistent: bool,
}

/// A table of a database.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    /// Its columns, sorted by name.
    pub columns: Vec<ColumnSchema>,
    /// Whether its rows live without being referred to. A schema that marks no table has only root tables, and says so
    /// here.
    pub is_root: bool,
    /// The greatest number of rows; `u32::MAX` is unlimited.
    pub max_rows: u32,
    /// Sets of columns whose values together differ between any two rows.
    pub indexes: Vec<Vec<ColumnIndex>>,
}

impl TableSchema {
    /// The place of the column of that name; `_uuid` and `_version` are not columns in this sense.
    pub fn column_index(&self, name: &str) -> Option<ColumnIndex> {
        self.columns.binary_search_by(|column| column.name.as_str().cmp(name)).ok().map(ColumnIndex)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.column_index(name).and_then(|index| self.columns.get(index.0))
    }

    /// Every column with its place.
    pub fn columns(&self) -> impl Iterator<Item = (ColumnIndex, &ColumnSchema)> {
        self.columns.iter().enumerate().map(|(at, column)| (ColumnIndex(at), column))
    }
}

/// A database's tables.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: String,
    /// Three numbers with dots between.
    pub version: String,
    /// The checksum, if the schema carried one; it is kept and printed, never checked.
    pub cksum: Option<String>,
    /// The tables, sorted by name.
    pub tables: Vec<TableSchema>,
    /// Whether the schema's text marked root tables, which decides how it prints.
    marks_roots: bool,
}

impl DatabaseSchema {
    /// The place of the table of that name.
    pub fn table_index(&self, name: &str) -> Option<TableIndex> {
        self.tables.binary_search_by(|table| table.name.as_str().cmp(name)).ok().map(TableIndex)
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TableSchema> {
        self.table_index(name).and_then(|index| self.tables.get(index.0))
    }

    /// The table at a place; places come from this schema, so there is always one.
    pub fn table_at(&self, index: TableIndex) -> &TableSchema {
        &self.tables[index.0]
    }

    /// Every table with its place.
    pub fn tables(&self) -> impl Iterator<Item = (TableIndex, &TableSchema)> {
        self.tables.iter().enumerate().map(|(at, table)| (TableIndex(at), table))
    }

    /// Reads a schema from its text.
    ///
    /// # Errors
    /// Names what is malformed, or the table or column at fault.
    pub fn parse_str(text: &str) -> Result<Self, DbError> {
        let json: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| DbError::new(crate::error::ErrorTag::Syntax, format!("schema: {error}")))?;
        Self::from_json(&json)
    }

    /// Reads a schema (RFC 7047 §3.2).
    ///
    /// # Errors
    /// Names what is malformed, or the table or column at fault.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, DbError> {
        parse::database(json)
    }

    /// Prints the schema, in the shortest form: what has its default value is left out.
    pub fn to_json(&self) -> serde_json::Value {
        print::database(self)
    }

    /// Whether two schemas say the same, whatever their checksums.
    pub fn same_as(&self, other: &DatabaseSchema) -> bool {
        self.name == other.name && self.version == other.version && self.tables == other.tables
    }
}

/// The schema `Open_vSwitch`, version 8.3.1, as `ovs-vsctl` of Open vSwitch 3.1 expects it.
pub fn open_vswitch() -> &'static DatabaseSchema {
    static SCHEMA: OnceLock<DatabaseSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| built_in(include_str!("../../schema/open_vswitch.json")))
}

/// The schema `_Server`, through which clients learn of a server's databases (ovsdb-server(5)).
pub fn server() -> &'static DatabaseSchema {
    static SCHEMA: OnceLock<DatabaseSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| built_in(include_str!("../../schema/server.json")))
}

/// Reads a schema of our own; a test reads each, so the panic is a build error in effect.
#[allow(clippy::panic)]
fn built_in(text: &str) -> DatabaseSchema {
    match DatabaseSchema::parse_str(text) {
        Ok(schema) => schema,
        Err(error) => panic!("built-in schema: {error}"),
    }
}

/// One default value of each column of a table, in order.
pub(crate) fn default_columns(table: &TableSchema) -> Vec<Datum> {
    table.columns.iter().map(|column| column.kind.default_datum()).collect()
}

/// The atoms of a datum that refer to rows, with the table and strength of each.
pub(crate) fn references<'a>(
    kind: &'a ColumnType,
    datum: &'a Datum,
) -> impl Iterator<Item = (TableIndex, Strength, crate::uuid::Uuid)> + 'a {
    let key_reference = kind.key.reference();
    let value_reference = kind.value.as_ref().and_then(BaseType::reference);
    let (atoms, pairs): (&[Atom], &[(Atom, Atom)]) = match datum {
        Datum::Set(set) => (set.as_slice(), &[]),
        Datum::Map(map) => (&[], map.as_slice()),
    };
    let keys = atoms.iter().chain(pairs.iter().map(|(key, _)| key));
    let from_keys = key_reference.into_iter().flat_map(move |(table, strength)| {
        keys.clone().filter_map(move |atom| Some((table, strength, atom.as_uuid()?)))
    });
    let from_values = value_reference.into_iter().flat_map(move |(table, strength)| {
        pairs.iter().filter_map(move |(_, atom)| Some((table, strength, atom.as_uuid()?)))
    });
    from_keys.chain(from_values)
}
