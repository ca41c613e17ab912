//! `set` and `get`: columns of any record, with names that may be shortened.

use anyhow::{Context, anyhow, bail};
use ovsdb::client::RowRef;
use ovsdb::replica::{Replica, RowView};
use ovsdb::schema::{BaseType, ColumnSchema, ColumnType, TableSchema};
use ovsdb::text::{atom_from_text, datum_from_text};
use ovsdb::uuid::Uuid;
use ovsdb::value::{Atom, AtomType, Datum, atom_to_json};
use serde_json::{Map, Value, json};

use super::Edit;
use crate::args::{GetColumns, SetColumns};
use crate::console::{Answer, Look, Paint};
use crate::grid::{Cell, Grid};

/// Case and the two kinds of dashes do not matter in names.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// The name that `wanted` is, or is the only one to begin with.
fn find_name<'a>(
    what: &str,
    wanted: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> anyhow::Result<&'a str> {
    let folded = fold(wanted);
    if let Some(name) = names.clone().find(|name| fold(name) == folded) {
        return Ok(name);
    }
    let matching: Vec<&str> = names.clone().filter(|name| fold(name).starts_with(&folded)).collect();
    match matching.as_slice() {
        [name] => Ok(name),
        [] => bail!("there is no {what} {wanted}; there are {}", names.collect::<Vec<_>>().join(", ")),
        several => bail!("{what} {wanted} could be any of {}", several.join(", ")),
    }
}

fn table<'a>(replica: &'a Replica, name: &str) -> anyhow::Result<&'a TableSchema> {
    let schema = replica.schema();
    let name = find_name("table", name, schema.tables.iter().map(|table| table.name.as_str()))?;
    schema.table(name).ok_or_else(|| anyhow!("there is no table {name}"))
}

fn column<'a>(table: &'a TableSchema, name: &str) -> anyhow::Result<&'a ColumnSchema> {
    let what = format!("column of table {}", table.name);
    let name = find_name(&what, name, table.columns.iter().map(|column| column.name.as_str()))?;
    table.column(name).ok_or_else(|| anyhow!("there is no {what} {name}"))
}

/// The record of a table that a name or UUID means.
fn record<'a>(replica: &'a Replica, table: &TableSchema, name: &str) -> anyhow::Result<Option<RowView<'a>>> {
    if let Ok(uuid) = name.parse::<Uuid>() {
        return Ok(replica.get(&table.name, uuid));
    }
    if name == "." {
        let mut rows = replica.rows(&table.name);
        return match (rows.next(), rows.next()) {
            (first, None) => Ok(first),
            _ => bail!("table {} has several records, so `.` does not say which", table.name),
        };
    }
    if table.column("name").is_some() {
        return Ok(replica.find(&table.name, "name", name));
    }
    // A controller goes by the name of its bridge.
    if table.name == "Controller" {
        let Some(bridge) = replica.find("Bridge", "name", name) else { return Ok(None) };
        let mut controllers = bridge.uuids("controller");
        return match (controllers.next(), controllers.next()) {
            (Some(uuid), None) => Ok(replica.get(&table.name, uuid)),
            (None, _) => Ok(None),
            _ => bail!("bridge {name} has several controllers; say which by its UUID"),
        };
    }
    bail!("records of table {} have no names; use the UUID, or `.` for the only one", table.name)
}

fn required<'a>(replica: &'a Replica, table: &TableSchema, name: &str) -> anyhow::Result<RowView<'a>> {
    let found = record(replica, table, name)?;
    found.ok_or_else(|| anyhow!("table {} has no record {name}", table.name))
}

/// `COLUMN`, `COLUMN:KEY`, with `=VALUE` maybe.
#[derive(Debug, PartialEq, Eq)]
struct Spec<'a> {
    column: &'a str,
    key: Option<String>,
    value: Option<&'a str>,
}

impl<'a> Spec<'a> {
    fn parse(text: &'a str) -> anyhow::Result<Spec<'a>> {
        let end = text.find([':', '=']).unwrap_or(text.len());
        let (column, rest) = text.split_at(end);
        if column.is_empty() {
            bail!("{text}: expected the name of a column at the beginning");
        }
        if let Some(value) = rest.strip_prefix('=') {
            return Ok(Spec { column, key: None, value: Some(value) });
        }
        let Some(rest) = rest.strip_prefix(':') else { return Ok(Spec { column, key: None, value: None }) };
        let (key, rest) = key_of(rest).with_context(|| format!("{text}: bad key"))?;
        match rest.strip_prefix('=') {
            Some(value) => Ok(Spec { column, key: Some(key), value: Some(value) }),
            None if rest.is_empty() => Ok(Spec { column, key: Some(key), value: None }),
            None => bail!("{text}: expected = after the key, not {rest:?}"),
        }
    }
}

/// Takes a key, in quotes maybe, off the beginning of a text.
fn key_of(text: &str) -> anyhow::Result<(String, &str)> {
    if text.starts_with('"') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let key = stream.next().ok_or_else(|| anyhow!("it is empty"))??;
        return Ok((key, text.get(stream.byte_offset()..).unwrap_or_default()));
    }
    let end = text.find('=').unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    if key.is_empty() { Err(anyhow!("it is empty")) } else { Ok((key.to_owned(), rest)) }
}

/// A key or the value of a single key: strings need no quotes, whatever is in them.
fn atom_of(base: &BaseType, text: &str) -> anyhow::Result<Atom> {
    if base.kind == AtomType::String && !text.starts_with('"') {
        return Ok(atom_from_text(base, &Value::from(text).to_string())?);
    }
    Ok(atom_from_text(base, text)?)
}

/// Text for a string column that can hold one value needs no quotes either, as long as it does not look like a list.
fn datum_of(kind: &ColumnType, text: &str) -> anyhow::Result<Datum> {
    let single = kind.value.is_none() && kind.max == 1 && kind.key.kind == AtomType::String;
    if single && !text.starts_with(['"', '[']) && !text.is_empty() {
        return Ok(Datum::from(atom_of(&kind.key, text)?));
    }
    Ok(datum_from_text(kind, text)?)
}

/// `set`.
pub fn set(replica: &Replica, args: &SetColumns) -> anyhow::Result<Edit> {
    let table = table(replica, &args.table)?;
    let row = required(replica, table, &args.record)?;
    let target = RowRef::from(row.uuid());
    let comment = format!("tapctl: set {} {} {}", table.name, args.record, args.settings.join(" "));
    let mut edit = Edit::new(replica, &comment);
    for setting in &args.settings {
        let spec = Spec::parse(setting)?;
        let Some(value) = spec.value else { bail!("{setting}: expected COLUMN=VALUE or COLUMN:KEY=VALUE") };
        let column = column(table, spec.column)?;
        if !column.mutable {
            bail!("column {} of table {} cannot be changed once the record exists", column.name, table.name);
        }
        let at = || setting.clone();
        match &spec.key {
            None => {
                let datum = datum_of(&column.kind, value).with_context(at)?;
                edit.transaction.update(&table.name, &target, [(column.name.as_str(), Value::from(datum))]);
            }
            Some(key) => {
                let Some(value_type) = &column.kind.value else {
                    bail!("{setting}: column {} is no map, so it has no keys", column.name);
                };
                let key = atom_to_json(&atom_of(&column.kind.key, key).with_context(at)?);
                let value = atom_to_json(&atom_of(value_type, value).with_context(at)?);
                let (old, new) = (json!(["set", [key]]), json!(["map", [[key, value]]]));
                edit.transaction.mutate(&table.name, &target, &column.name, "delete", old);
                edit.transaction.mutate(&table.name, &target, &column.name, "insert", new);
            }
        }
    }
    if table.name == "Interface" {
        edit.watched.extend(row.string("name").map(str::to_owned));
    }
    Ok(edit)
}

/// A value as JSON without the wire's tags: a scalar, null, a list or an object, as the column's type has it.
pub fn plain_json(kind: &ColumnType, datum: &Datum) -> Value {
    match datum {
        Datum::Map(map) => Value::Object(
            map.iter().map(|(key, value)| (bare(key), plain_atom(value))).collect::<Map<String, Value>>(),
        ),
        Datum::Set(_) if kind.max == 1 => datum.as_scalar().map_or(Value::Null, plain_atom),
        Datum::Set(set) => set.iter().map(plain_atom).collect(),
    }
}

/// A value as ovs-vsctl(8) prints it: a set that could have several elements is in brackets even with one.
fn shown(kind: &ColumnType, datum: &Datum) -> String {
    match datum {
        Datum::Set(set) if kind.max > 1 && set.len() == 1 => format!("[{datum}]"),
        _ => datum.to_string(),
    }
}

fn plain_atom(atom: &Atom) -> Value {
    match atom {
        Atom::Uuid(uuid) => Value::from(uuid.to_string()),
        other => atom_to_json(other),
    }
}

fn bare(atom: &Atom) -> String {
    atom.as_str().map_or_else(|| atom.to_string(), str::to_owned)
}

/// `get`.
pub fn get(replica: &Replica, args: &GetColumns) -> anyhow::Result<Answer> {
    let table = table(replica, &args.table)?;
    let row = match record(replica, table, &args.record)? {
        Some(row) => row,
        None if args.if_exists => {
            let names = args.columns.iter().map(|name| (name.clone(), Value::Null));
            return Ok(Answer {
                text: "\n".repeat(args.columns.len()),
                json: Value::Object(names.collect()),
            });
        }
        None => bail!("table {} has no record {}", table.name, args.record),
    };
    if args.columns.is_empty() {
        return Ok(whole_record(&row));
    }
    let mut text = String::new();
    let mut object = Map::new();
    for wanted in &args.columns {
        let (line, value) = one_column(table, &row, wanted, args.if_exists)?;
        text += &line;
        text.push('\n');
        object.insert(wanted.clone(), value);
    }
    Ok(Answer { text, json: Value::Object(object) })
}

fn whole_record(row: &RowView<'_>) -> Answer {
    let mut grid = Grid::indented(0);
    let mut object = Map::new();
    let uuid = row.uuid().to_string();
    grid.row([Cell::from("_uuid").look(Look::Dim), uuid.as_str().into()]);
    object.insert("_uuid".into(), Value::from(uuid));
    for (column, datum) in row.columns() {
        grid.row([Cell::from(column.name.as_str()).look(Look::Dim), shown(&column.kind, datum).into()]);
        object.insert(column.name.clone(), plain_json(&column.kind, datum));
    }
    Answer { text: grid.render(Paint::NONE), json: Value::Object(object) }
}

fn one_column(
    table: &TableSchema,
    row: &RowView<'_>,
    wanted: &str,
    if_exists: bool,
) -> anyhow::Result<(String, Value)> {
    if wanted == "_uuid" {
        let uuid = row.uuid().to_string();
        return Ok((uuid.clone(), Value::from(uuid)));
    }
    let spec = Spec::parse(wanted)?;
    if spec.value.is_some() {
        bail!("{wanted}: get takes no values");
    }
    let column = column(table, spec.column)?;
    let datum = row.get(&column.name).ok_or_else(|| anyhow!("the record has no column {}", column.name))?;
    let Some(key) = spec.key else {
        return Ok((shown(&column.kind, datum), plain_json(&column.kind, datum)));
    };
    let Some(map) = datum.as_map() else {
        bail!("{wanted}: column {} is no map, so it has no keys", column.name)
    };
    match map.get(&atom_of(&column.kind.key, &key).with_context(|| wanted.to_owned())?) {
        Some(value) => Ok((value.to_string(), plain_atom(value))),
        None if if_exists => Ok((String::new(), Value::Null)),
        None => bail!("there is no key {key} in column {} of {} {}", column.name, table.name, row_name(row)),
    }
}

fn row_name(row: &RowView<'_>) -> String {
    row.string("name").map_or_else(|| row.uuid().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(String, Option<String>, Option<String>)> {
        let spec = Spec::parse(text).ok()?;
        Some((spec.column.to_owned(), spec.key, spec.value.map(str::to_owned)))
    }

    #[test]
    fn specs() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(parts("tag=10"), Some(("tag".into(), None, some("10"))));
        assert_eq!(
            parts("options:rx_pcap=/tmp/a=b"),
            Some(("options".into(), some("rx_pcap"), some("/tmp/a=b")))
        );
        assert_eq!(parts("ids:\"a=b:c\"=1"), Some(("ids".into(), some("a=b:c"), some("1"))));
        assert_eq!(parts("ids:k"), Some(("ids".into(), some("k"), None)));
        assert_eq!(parts("ids:k="), Some(("ids".into(), some("k"), some(""))));
        for bad in ["", "=1", ":k=1", "ids:=1", "ids:\"k=1", "ids:\"k\"x=1"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_may_be_shortened() {
        let names = ["Port", "Port_Group", "Interface"].into_iter();
        assert_eq!(find_name("table", "port", names.clone()).unwrap(), "Port");
        assert_eq!(find_name("table", "port-g", names.clone()).unwrap(), "Port_Group");
        assert_eq!(find_name("table", "i", names.clone()).unwrap(), "Interface");
        let error = find_name("table", "po", names.clone()).unwrap_err().to_string();
        assert_eq!(error, "table po could be any of Port, Port_Group");
        assert!(
            find_name("table", "x", names).unwrap_err().to_string().contains("there are Port, Port_Group")
        );
    }
}
