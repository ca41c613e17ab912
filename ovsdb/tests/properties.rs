//! Random values, bytes and transactions.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::time::Instant;
use ovsdb::database::{Database, Executed, Execution};
use ovsdb::schema::{BaseType, ColumnType, Constraint, DatabaseSchema};
use ovsdb::text::datum_from_text;
use ovsdb::uuid::Uuid;
use ovsdb::value::{
    Atom, AtomType, Datum, Real, datum_apply_diff, datum_diff, datum_from_json, datum_to_json,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn atom(kind: AtomType) -> BoxedStrategy<Atom> {
    match kind {
        AtomType::Integer => prop_oneof![any::<i64>(), -3i64..3].prop_map(Atom::Integer).boxed(),
        AtomType::Real => prop_oneof![-1e9f64..1e9, Just(0.0), Just(1e300), Just(-2.5)]
            .prop_map(|real| Atom::Real(Real::new(real).unwrap()))
            .boxed(),
        AtomType::Boolean => any::<bool>().prop_map(Atom::Boolean).boxed(),
        AtomType::String => {
            prop_oneof!["[ -~]{0,8}", "[^\\x00]{0,6}", "[a-z_-]{1,4}", "true|false|[0-9]{1,3}"]
                .prop_map(Atom::String)
                .boxed()
        }
        AtomType::Uuid => any::<u128>().prop_map(|bits| Atom::Uuid(Uuid::from_u128(bits))).boxed(),
    }
}

fn kinds() -> impl Strategy<Value = AtomType> {
    prop_oneof![
        Just(AtomType::Integer),
        Just(AtomType::Real),
        Just(AtomType::Boolean),
        Just(AtomType::String),
        Just(AtomType::Uuid)
    ]
}

fn column(key: AtomType, value: Option<AtomType>) -> ColumnType {
    let base = |kind| BaseType { kind, constraint: Constraint::None };
    ColumnType { key: base(key), value: value.map(base), min: 0, max: u32::MAX }
}

/// A type and two values of it.
fn typed() -> impl Strategy<Value = (ColumnType, Datum, Datum)> {
    (kinds(), proptest::option::of(kinds())).prop_flat_map(|(key, value)| {
        let one = move || match value {
            None => proptest::collection::vec(atom(key), 0..6).prop_map(Datum::set).boxed(),
            Some(value) => proptest::collection::vec((atom(key), atom(value)), 0..6)
                .prop_map(|pairs| Datum::Map(pairs.into_iter().collect()))
                .boxed(),
        };
        (Just(column(key, value)), one(), one())
    })
}

proptest! {
    #[test]
    fn json_round_trip((column, datum, _) in typed()) {
        // Through text, as on the wire.
        let text = datum_to_json(&datum).to_string();
        let json: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(datum_from_json(&column, &json, None).unwrap(), datum);
    }

    #[test]
    fn text_round_trip((column, datum, _) in typed()) {
        // Text has 15 digits of a real, so reals that have more come back close.
        let text = datum.to_string();
        let back = datum_from_text(&column, &text).unwrap();
        prop_assert_eq!(back.to_string(), text);
        if column.key.kind != AtomType::Real && column.value.as_ref().is_none_or(|v| v.kind != AtomType::Real) {
            prop_assert_eq!(back, datum);
        }
    }

    #[test]
    fn differences_apply((column, old, new) in typed()) {
        let diff = datum_diff(&column, &old, &new);
        prop_assert_eq!(datum_apply_diff(&column, &old, &diff), new.clone());
        prop_assert_eq!(datum_diff(&column, &old, &old).is_empty(), true);
        let optional = ColumnType { max: 1, ..column };
        if optional.value.is_none() {
            let diff = datum_diff(&optional, &old, &new);
            prop_assert_eq!(datum_apply_diff(&optional, &old, &diff), new);
        }
    }

    #[test]
    fn any_bytes_in_any_pieces(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        ovsdb::fuzz::fuzz_json(&data);
    }

    #[test]
    fn broken_requests_never_panic(
        at in 0usize..400, replacement in any::<u8>(), cut in 0usize..400, which in 0usize..4
    ) {
        let requests = [
            json!({"method": "transact", "id": 1, "params": ["Open_vSwitch",
                {"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "br0"}},
                {"op": "mutate", "table": "Bridge", "where": [["name", "includes", "br0"]],
                 "mutations": [["other_config", "insert", ["map", [["a", "b"]]]]]}]}),
            json!({"method": "monitor_cond_since", "id": 2, "params": ["Open_vSwitch", 0, {"Queue":
                [{"columns": ["dscp"], "where": [["dscp", "==", 5]]}]}, Uuid::ZERO.to_string()]}),
            json!({"method": "transact", "id": 3, "params": ["Open_vSwitch", {"op": "wait", "table": "Queue",
                "where": [], "columns": ["dscp"], "until": "!=", "rows": [], "timeout": 5}]}),
            json!({"method": "monitor_cond_change", "id": 4, "params": [0, 1, {"Queue": [{"where": [true]}]}]}),
        ];
        let mut bytes: Vec<u8> = requests.iter().flat_map(|request| request.to_string().into_bytes()).collect();
        let start = which * 150;
        if let Some(byte) = bytes.get_mut(start + at) {
            *byte = replacement;
        }
        let end = bytes.len() - cut.min(bytes.len());
        ovsdb::fuzz::fuzz_json(&bytes[..end]);
    }
}

/// The trial database in the plainest form: for each kid what it refers to, for each root what it refers to strongly
/// and weakly.
#[derive(Clone, Default, Debug, PartialEq)]
struct Model {
    kids: BTreeMap<u8, Option<u8>>,
    roots: BTreeMap<u8, (BTreeSet<u8>, BTreeSet<u8>)>,
}

#[derive(Clone, Debug)]
enum Step {
    Kid(u8, Option<u8>),
    Root(u8, BTreeSet<u8>, BTreeSet<u8>),
    Point(u8, BTreeSet<u8>),
    DeleteKid(u8),
    DeleteRoot(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::btree_set(0u8..5, 0..3);
    prop_oneof![
        (0u8..5, proptest::option::of(0u8..5)).prop_map(|(kid, to)| Step::Kid(kid, to)),
        (0u8..4, some(), some()).prop_map(|(root, strong, weak)| Step::Root(root, strong, weak)),
        (0u8..4, some()).prop_map(|(root, strong)| Step::Point(root, strong)),
        (0u8..5).prop_map(Step::DeleteKid),
        (0u8..4).prop_map(Step::DeleteRoot),
    ]
}

fn kid_uuid(kid: u8) -> String {
    Uuid::from_u128(0x100 + u128::from(kid)).to_string()
}

fn root_uuid(root: u8) -> String {
    Uuid::from_u128(0x200 + u128::from(root)).to_string()
}

fn kid_set(kids: &BTreeSet<u8>) -> Value {
    json!(["set", kids.iter().map(|kid| json!(["uuid", kid_uuid(*kid)])).collect::<Vec<_>>()])
}

impl Step {
    fn operation(&self) -> Value {
        let by = |uuid: String| json!([["_uuid", "==", ["uuid", uuid]]]);
        match self {
            Step::Kid(kid, to) => {
                let k2: BTreeSet<u8> = to.iter().copied().collect();
                json!({"op": "insert", "table": "kid", "uuid": kid_uuid(*kid), "row": {"k2": kid_set(&k2)}})
            }
            Step::Root(root, strong, weak) => {
                json!({"op": "insert", "table": "root", "uuid": root_uuid(*root),
                "row": {"name": format!("r{root}"), "i": root, "kids": kid_set(strong), "weak": kid_set(weak)}})
            }
            Step::Point(root, strong) => {
                json!({"op": "update", "table": "root", "where": by(root_uuid(*root)),
                "row": {"kids": kid_set(strong)}})
            }
            Step::DeleteKid(kid) => json!({"op": "delete", "table": "kid", "where": by(kid_uuid(*kid))}),
            Step::DeleteRoot(root) => json!({"op": "delete", "table": "root", "where": by(root_uuid(*root))}),
        }
    }
}

impl Model {
    /// The state after the steps, or none if they must fail.
    fn after(&self, steps: &[Step]) -> Option<Model> {
        let mut next = self.clone();
        for step in steps {
            match step {
                Step::Kid(kid, to) => {
                    // A UUID may not come back in the transaction that deleted it.
                    if next.kids.contains_key(kid) || self.kids.contains_key(kid) {
                        return None;
                    }
                    next.kids.insert(*kid, *to);
                }
                Step::Root(root, strong, weak) => {
                    if next.roots.contains_key(root) || self.roots.contains_key(root) {
                        return None;
                    }
                    next.roots.insert(*root, (strong.clone(), weak.clone()));
                }
                Step::Point(root, strong) => {
                    if let Some(row) = next.roots.get_mut(root) {
                        row.0 = strong.clone();
                    }
                }
                Step::DeleteKid(kid) => {
                    next.kids.remove(kid);
                }
                Step::DeleteRoot(root) => {
                    next.roots.remove(root);
                }
            }
        }
        let strong = |model: &Model| -> Vec<(Option<u8>, u8)> {
            let from_roots =
                model.roots.values().flat_map(|(strong, _)| strong.iter().map(|kid| (None, *kid)));
            from_roots.chain(model.kids.iter().filter_map(|(kid, to)| Some((Some(*kid), (*to)?)))).collect()
        };
        if strong(&next).iter().any(|(_, to)| !next.kids.contains_key(to)) {
            return None;
        }
        // Rows that nothing but themselves refers to go, again and again. Only what the transaction or an earlier
        // removal touched can lose its last reference, and that is what the counting in the database looks at too.
        loop {
            let references = strong(&next);
            let unreferenced: Vec<u8> = next
                .kids
                .keys()
                .copied()
                .filter(|kid| !references.iter().any(|(from, to)| to == kid && *from != Some(*kid)))
                .collect();
            if unreferenced.is_empty() {
                break;
            }
            unreferenced.iter().for_each(|kid| {
                next.kids.remove(kid);
            });
        }
        for (_, weak) in next.roots.values_mut() {
            weak.retain(|kid| next.kids.contains_key(kid));
        }
        Some(next)
    }

    fn of(database: &Database) -> Model {
        let record = database.contents().to_record(database, 0).unwrap_or_default();
        let number = |uuid: &str| uuid.parse::<Uuid>().unwrap().as_u128() as u8;
        let set = |row: &Value, column: &str| -> BTreeSet<u8> {
            let json = &row[column];
            match json[0].as_str() {
                Some("uuid") => [number(json[1].as_str().unwrap())].into(),
                Some(_) => {
                    json[1].as_array().unwrap().iter().map(|one| number(one[1].as_str().unwrap())).collect()
                }
                None => BTreeSet::new(),
            }
        };
        let rows = |table: &str| record[table].as_object().cloned().unwrap_or_default();
        Model {
            kids: rows("kid")
                .iter()
                .map(|(uuid, row)| (number(uuid), set(row, "k2").first().copied()))
                .collect(),
            roots: rows("root")
                .iter()
                .map(|(uuid, row)| (number(uuid), (set(row, "kids"), set(row, "weak"))))
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn transactions_follow_the_model(transactions in proptest::collection::vec(
        proptest::collection::vec(step(), 1..5), 1..20,
    )) {
        let schema = DatabaseSchema::parse_str(include_str!("support/trial.json")).unwrap();
        let mut database = Database::new(Arc::new(schema.clone()));
        let mut replayed = Database::new(Arc::new(schema));
        let mut model = Model::default();
        let mut counter = 0u128;
        let mut entropy = move || { counter += 1; counter };
        for steps in transactions {
            let operations: Vec<Value> = steps.iter().map(Step::operation).collect();
            let executed = database.execute(Execution {
                operations: &operations, entropy: &mut entropy, holds_lock: &|_| false, elapsed_ms: 0, read_only: false,
            });
            match (executed, model.after(&steps)) {
                (Executed::Failed(_), None) => {}
                (Executed::Done { commit, .. }, Some(next)) => {
                    // There and back and there again must be as once.
                    database.apply(&commit);
                    database.revert(&commit);
                    prop_assert_eq!(Model::of(&database), model.clone());
                    database.apply(&commit);
                    if let Some(record) = commit.to_record(&database, 0) {
                        replayed.replay(&record).unwrap();
                    }
                    model = next;
                }
                (executed, expected) => prop_assert!(false, "{:?} instead of {:?} after {:?}", executed, expected, steps),
            }
            prop_assert_eq!(Model::of(&database), model.clone());
            prop_assert_eq!(Model::of(&replayed), model.clone());
        }
    }
}

#[test]
fn fuzz_corpus_replays() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus");
    let mut replayed = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        ovsdb::fuzz::fuzz_json(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 10);
    // The same bytes at once and in a session that lives on.
    let mut server = support::server(Database::new(Arc::new(ovsdb::schema::open_vswitch().clone())), None);
    let id = server.connect(None, Instant::ZERO).unwrap();
    let echo = json!({"method": "echo", "id": 1, "params": []});
    assert_eq!(support::send(&mut server, id, echo, Instant::ZERO).len(), 1);
}
