//! What must hold when a transaction is complete: references, garbage, row counts, indexes (RFC 7047 §3.2, §5.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::overlay::Overlay;
use super::{Database, Row, RowDelta};
use crate::error::{DbError, ErrorTag};
use crate::schema::{ColumnIndex, DatabaseSchema, Strength, TableIndex, references};
use crate::uuid::Uuid;
use crate::value::{Datum, Symbols};

type RowName = (TableIndex, Uuid);

/// The values of an index's columns in a row.
pub(super) fn index_key(index: &[ColumnIndex], row: &Row) -> Vec<Datum> {
    index.iter().map(|column| row.columns[column.0].clone()).collect()
}

/// Brings the transaction to its end: refuses it, or collects garbage, drops dangling weak references, gives changed
/// rows new versions, and says what differs from before.
pub(super) fn check(overlay: &mut Overlay<'_>, symbols: &mut Symbols<'_>) -> Result<Vec<RowDelta>, DbError> {
    let schema = overlay.base().schema().clone();
    let mut counts = StrongCounts::default();
    let changed = overlay.changed();
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    counts.account(overlay, &schema, &changed)?;
    counts.check_deleted(overlay, &schema, &changed)?;
    counts.collect_garbage(overlay, &schema, &changed);
    check_row_counts(overlay, &schema)?;
    drop_weak_references(overlay, &schema)?;
    let changed = overlay.changed();
    check_indexes(overlay, &schema, &changed)?;
    Ok(changed
        .into_iter()
        .map(|(table, uuid)| {
            let old = overlay.base().row(table, uuid).cloned();
            let new = overlay.get(table, uuid).map(|row| {
                let version = symbols.fresh();
                Arc::new(Row { version, columns: row.columns.clone() })
            });
            RowDelta { table, uuid, old, new }
        })
        .collect())
}

/// By how much the transaction changes the number of strong references to each row. A row's references to itself do
/// not count.
#[derive(Default)]
struct StrongCounts(HashMap<RowName, isize>);

fn strong_references<'a>(
    schema: &'a DatabaseSchema,
    table: TableIndex,
    row: &'a Row,
) -> impl Iterator<Item = (&'a str, RowName)> {
    schema.table_at(table).columns.iter().zip(&row.columns).flat_map(|(column, datum)| {
        references(&column.kind, datum)
            .filter(|(_, strength, _)| *strength == Strength::Strong)
            .map(|(target_table, _, target)| (column.name.as_str(), (target_table, target)))
    })
}

impl StrongCounts {
    fn now(&self, base: &Database, (table, uuid): RowName) -> isize {
        let before = base.tables[table.0].strong.get(&uuid).copied().unwrap_or(0) as isize;
        before + self.0.get(&(table, uuid)).copied().unwrap_or(0)
    }

    fn account(
        &mut self,
        overlay: &Overlay<'_>,
        schema: &DatabaseSchema,
        changed: &[RowName],
    ) -> Result<(), DbError> {
        for &(table, uuid) in changed {
            if let Some(old) = overlay.base().row(table, uuid) {
                for (_, target) in
                    strong_references(schema, table, old).filter(|(_, to)| *to != (table, uuid))
                {
                    *self.0.entry(target).or_insert(0) -= 1;
                }
            }
            let Some(new) = overlay.get(table, uuid) else { continue };
            for (column, target) in strong_references(schema, table, new) {
                if overlay.get(target.0, target.1).is_none() && !overlay.existed(target.0, target.1) {
                    return Err(DbError::new(
                        ErrorTag::ReferentialIntegrity,
                        format!(
                            "Table {} column {column} row {uuid} references nonexistent row {} in table {}.",
                            schema.table_at(table).name,
                            target.1,
                            schema.table_at(target.0).name
                        ),
                    ));
                }
                if target != (table, uuid) {
                    *self.0.entry(target).or_insert(0) += 1;
                }
            }
        }
        Ok(())
    }

    fn check_deleted(
        &self,
        overlay: &Overlay<'_>,
        schema: &DatabaseSchema,
        changed: &[RowName],
    ) -> Result<(), DbError> {
        // A row that this transaction made and deleted again is not among the changed, but may be referred to.
        let referred = self.0.iter().filter(|(_, step)| **step > 0).map(|(name, _)| name);
        for &(table, uuid) in changed.iter().chain(referred) {
            let remaining = self.now(overlay.base(), (table, uuid));
            if overlay.get(table, uuid).is_none() && remaining > 0 {
                return Err(DbError::new(
                    ErrorTag::ReferentialIntegrity,
                    format!(
                        "cannot delete {} row {uuid} because of {remaining} remaining reference(s)",
                        schema.table_at(table).name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Deletes rows of tables that are not roots and that nothing refers to, and then what only they referred to.
    fn collect_garbage(&mut self, overlay: &mut Overlay<'_>, schema: &DatabaseSchema, changed: &[RowName]) {
        let mut suspects: Vec<RowName> = changed.to_vec();
        suspects.extend(self.0.iter().filter(|(_, step)| **step < 0).map(|(name, _)| *name));
        while let Some((table, uuid)) = suspects.pop() {
            if schema.table_at(table).is_root || self.now(overlay.base(), (table, uuid)) > 0 {
                continue;
            }
            let Some(row) = overlay.get(table, uuid).cloned() else { continue };
            overlay.set(table, uuid, None);
            for (_, target) in strong_references(schema, table, &row).filter(|(_, to)| *to != (table, uuid)) {
                *self.0.entry(target).or_insert(0) -= 1;
                suspects.push(target);
            }
        }
    }
}

fn check_row_counts(overlay: &Overlay<'_>, schema: &DatabaseSchema) -> Result<(), DbError> {
    for (table, table_schema) in schema.tables().filter(|(_, table)| table.max_rows != u32::MAX) {
        let count = overlay.row_count(table);
        if count > table_schema.max_rows as usize && count > overlay.base().row_count(table) {
            return Err(DbError::constraint(format!(
                "transaction causes \"{}\" table to contain {count} rows, greater than the schema-defined limit of {} \
                 row(s)",
                table_schema.name, table_schema.max_rows
            )));
        }
    }
    Ok(())
}

/// Removes weak references to rows that do not exist from every row that changed or that refers to a deleted row.
fn drop_weak_references(overlay: &mut Overlay<'_>, schema: &DatabaseSchema) -> Result<(), DbError> {
    let mut suspects: BTreeSet<RowName> = BTreeSet::new();
    for (table, uuid) in overlay.changed() {
        if overlay.get(table, uuid).is_some() {
            suspects.insert((table, uuid));
        } else if let Some(sources) = overlay.base().tables[table.0].weak.get(&uuid) {
            suspects.extend(sources.keys());
        }
    }
    for (table, uuid) in suspects {
        let Some(row) = overlay.get(table, uuid) else { continue };
        if let Some(cleaned) = without_dangling(overlay, schema, (table, uuid), row)? {
            overlay.set(table, uuid, Some(cleaned));
        }
    }
    Ok(())
}

/// The row without its dangling weak references; `None` if it has none.
fn without_dangling(
    overlay: &Overlay<'_>,
    schema: &DatabaseSchema,
    (table, uuid): RowName,
    row: &Row,
) -> Result<Option<Row>, DbError> {
    let mut cleaned: Option<Row> = None;
    for (at, column) in schema.table_at(table).columns.iter().enumerate() {
        let datum = &row.columns[at];
        let dangling: BTreeSet<Uuid> = references(&column.kind, datum)
            .filter(|(to, strength, target)| {
                *strength == Strength::Weak && overlay.get(*to, *target).is_none()
            })
            .map(|(_, _, target)| target)
            .collect();
        if dangling.is_empty() {
            continue;
        }
        let weak = |base: &crate::schema::BaseType| matches!(base.reference(), Some((_, Strength::Weak)));
        let (weak_key, weak_value) = (weak(&column.kind.key), column.kind.value.as_ref().is_some_and(weak));
        let gone = |is_weak, atom: &crate::value::Atom| {
            is_weak && atom.as_uuid().is_some_and(|u| dangling.contains(&u))
        };
        let mut kept = datum.clone();
        match &mut kept {
            Datum::Set(set) => set.retain(|atom| !gone(weak_key, atom)),
            Datum::Map(map) => map.retain(|key, value| !gone(weak_key, key) && !gone(weak_value, value)),
        }
        if kept.is_empty() && column.kind.min > 0 {
            let inserted =
                if overlay.existed(table, uuid) { "" } else { " (inserted within this transaction)" };
            let name = &schema.table_at(table).name;
            return Err(DbError::constraint(if dangling.contains(&Uuid::ZERO) && dangling.len() == 1 {
                format!(
                    "Weak reference column \"{}\" in \"{name}\" row {uuid}{inserted} contained all-zeros UUID (probably \
                     as the default value for this column) but deleting this value caused a constraint volation because \
                     this column is not allowed to be empty.",
                    column.name
                )
            } else {
                format!(
                    "Deletion of {} weak reference(s) to deleted (or never-existing) rows from column \"{}\" in \
                     \"{name}\" row {uuid}{inserted} caused this column to become empty, but constraints on this column \
                     disallow an empty column.",
                    datum.len(),
                    column.name
                )
            }));
        }
        cleaned.get_or_insert_with(|| row.clone()).columns[at] = kept;
    }
    Ok(cleaned)
}

fn check_indexes(overlay: &Overlay<'_>, schema: &DatabaseSchema, changed: &[RowName]) -> Result<(), DbError> {
    let mut seen: BTreeMap<(TableIndex, usize, Vec<Datum>), Uuid> = BTreeMap::new();
    for &(table, uuid) in changed {
        let Some(row) = overlay.get(table, uuid) else { continue };
        for (at, index) in schema.table_at(table).indexes.iter().enumerate() {
            let key = index_key(index, row);
            let standing = overlay.base().tables[table.0].indexes[at].get(&key).copied();
            // A row that this transaction changed has the key it has now, which `seen` knows.
            let standing = standing.filter(|owner| *owner != uuid && !differs(overlay, table, *owner));
            let earlier = seen.insert((table, at, key.clone()), uuid);
            if let Some(other) = standing.or(earlier) {
                return Err(duplicate(overlay, schema, table, index, &key, [uuid, other]));
            }
        }
    }
    Ok(())
}

fn differs(overlay: &Overlay<'_>, table: TableIndex, uuid: Uuid) -> bool {
    overlay.touched(table, uuid)
        && overlay.get(table, uuid).map(|row| &row.columns)
            != overlay.base().row(table, uuid).map(|row| &row.columns)
}

fn duplicate(
    overlay: &Overlay<'_>,
    schema: &DatabaseSchema,
    table: TableIndex,
    index: &[ColumnIndex],
    key: &[Datum],
    mut rows: [Uuid; 2],
) -> DbError {
    rows.sort_by(|a, b| b.cmp(a));
    let table_schema = schema.table_at(table);
    let names: Vec<String> =
        index.iter().map(|column| format!("\"{}\"", table_schema.columns[column.0].name)).collect();
    let values = |key: &[Datum]| join(&key.iter().map(Datum::to_string).collect::<Vec<_>>());
    let describe = |uuid: Uuid| {
        match overlay.base().row(table, uuid) {
        None => "was inserted by this transaction".to_owned(),
        Some(_) if !differs(overlay, table, uuid) => {
            "existed in the database before this transaction and was not modified by the transaction".to_owned()
        }
        Some(old) if index_key(index, old) == key => {
            "existed in the database before this transaction, which modified some of the row's columns but not any \
             columns in this index"
                .to_owned()
        }
        Some(old) => {
            format!("had the following index values before the transaction: {}", values(&index_key(index, old)))
        }
    }
    };
    DbError::constraint(format!(
        "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on column{} {}.  First \
         row, with UUID {}, {}.  Second row, with UUID {}, {}.",
        table_schema.name,
        values(key),
        if names.len() > 1 { "s" } else { "" },
        join(&names),
        rows[0],
        describe(rows[0]),
        rows[1],
        describe(rows[1]),
    ))
}

/// "a", "a and b", "a, b, and c".
fn join(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    }
}
