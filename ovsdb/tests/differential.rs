//! The same requests to Debian's ovsdb-server and to ours: the answers must agree, errors word for word.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base::time::Instant;
use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::session::{Server, SessionId};
use serde_json::{Map, Value, json};
use support::{Connection, Process, Random, TempDir};

const SCHEMA: &str = include_str!("support/trial.json");

struct Pair {
    real: Connection,
    ours: Server,
    session: SessionId,
    names: [HashMap<String, String>; 2],
    next: u64,
    _process: Process,
    _directory: TempDir,
}

/// Finds 36 characters that look like a UUID.
fn is_uuid(text: &str) -> bool {
    text.parse::<ovsdb::uuid::Uuid>().is_ok()
}

/// Replaces UUIDs by names that are the same on both sides; fixed ones stay, unknown ones become `?`.
fn canonical(json: &Value, names: &HashMap<String, String>) -> Value {
    let rename = |text: &str| -> String {
        if text.starts_with("00000000-") {
            text.to_owned()
        } else {
            names.get(text).cloned().unwrap_or_else(|| "?".to_owned())
        }
    };
    match json {
        Value::String(text) if is_uuid(text) => Value::from(rename(text)),
        Value::String(text) => {
            // Which of two conflicting rows is named first depends on the order of a hash table.
            let text = text.split("  First row").next().unwrap_or(text);
            let words: Vec<String> = text
                .split(' ')
                .map(|word| {
                    let bare = word.trim_end_matches([',', '.']);
                    if is_uuid(bare) { word.replace(bare, &rename(bare)) } else { word.to_owned() }
                })
                .collect();
            Value::from(words.join(" "))
        }
        Value::Array(items) => items.iter().map(|item| canonical(item, names)).collect(),
        Value::Object(members) => {
            let mut object = Map::new();
            for (name, value) in members.iter().filter(|(name, _)| *name != "_version" && *name != "cksum") {
                let mut value = canonical(value, names);
                if let ("rows", Value::Array(rows)) = (name.as_str(), &mut value) {
                    rows.sort_by_key(Value::to_string);
                }
                let name = if is_uuid(name) { rename(name) } else { name.clone() };
                object.insert(name, value);
            }
            Value::Object(object)
        }
        Value::Number(number) => match number.as_f64() {
            Some(real) if real.fract() == 0.0 && real.abs() < 1e18 => Value::from(real as i64),
            _ => json.clone(),
        },
        other => other.clone(),
    }
}

impl Pair {
    fn start(name: &str) -> Option<Pair> {
        let directory = TempDir::new(name);
        let schema_file = directory.join("trial.ovsschema");
        std::fs::write(&schema_file, SCHEMA).unwrap();
        let (process, socket) = support::real_server(&directory, Path::new(&schema_file))?;
        let schema = DatabaseSchema::parse_str(SCHEMA).unwrap();
        let mut ours = support::server(Database::new(Arc::new(schema)), None);
        let session = ours.connect(None, Instant::ZERO).unwrap();
        Some(Pair {
            real: Connection::open(&socket),
            ours,
            session,
            names: Default::default(),
            next: 0,
            _process: process,
            _directory: directory,
        })
    }

    /// Learns which UUIDs the inserts of the two sides made.
    fn learn(&mut self, answers: [&Value; 2]) {
        let [real, ours] = answers.map(|answer| answer["result"].as_array().cloned().unwrap_or_default());
        for (a, b) in real.iter().zip(&ours) {
            if let (Some(a), Some(b)) = (a["uuid"][1].as_str(), b["uuid"][1].as_str()) {
                self.next += 1;
                let name = format!("row-{}", self.next);
                self.names[0].insert(a.to_owned(), name.clone());
                self.names[1].insert(b.to_owned(), name);
            }
        }
    }

    /// The same request to both; both answers in canonical form.
    fn ask(&mut self, method: &str, params: Value) -> [Value; 2] {
        let (mut real, mut real_notes) = self.real.call(method, params.clone());
        let request = json!({ "method": method, "params": params, "id": 1 });
        let mut messages = support::send(&mut self.ours, self.session, request, Instant::ZERO);
        let mut ours = messages.pop().unwrap_or(Value::Null);
        self.learn([&real, &ours]);
        // The real one leaves out a null result.
        for (answer, notes) in [(&mut real, &mut real_notes), (&mut ours, &mut messages)] {
            let object = answer.as_object_mut().unwrap();
            object.remove("id");
            object.retain(|_, value| !value.is_null());
            notes.sort_by_key(Value::to_string);
        }
        [
            canonical(&json!([real, real_notes]), &self.names[0]),
            canonical(&json!([ours, messages]), &self.names[1]),
        ]
    }

    fn check(&mut self, method: &str, params: Value) {
        let [real, ours] = self.ask(method, params.clone());
        assert_eq!(ours, real, "{method} {params}");
    }

    fn transact(&mut self, operations: &[Value]) {
        let mut params = vec![json!("Trial")];
        params.extend_from_slice(operations);
        self.check("transact", Value::from(params));
    }

    fn compare_contents(&mut self) {
        for table in ["root", "kid", "wk", "lim"] {
            self.transact(&[json!({"op": "select", "table": table, "where": []})]);
        }
    }
}

const KID: &str = "00000000-1111-2222-3333-444444444444";

/// The scripted transactions, one a line.
fn script() -> Vec<Vec<Value>> {
    let text = include_str!("support/transactions.txt").replace("$KID", KID);
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            serde_json::from_str(&format!("[{line}]")).unwrap_or_else(|error| panic!("{line}: {error}"))
        })
        .collect()
}

#[test]
fn scripted_transactions_agree() {
    let Some(mut pair) = Pair::start("scripted") else { return };
    let script = script();
    assert!(script.len() > 100);
    for operations in &script {
        pair.transact(operations);
    }
    pair.compare_contents();
}

#[test]
fn requests_agree() {
    let Some(mut pair) = Pair::start("requests") else { return };
    pair.transact(&[
        json!({"op": "insert", "table": "root", "row": {"name": "r0", "i": 7, "ints": ["set", [1, 2]]}}),
    ]);
    pair.transact(&[json!({"op": "insert", "table": "root", "row": {"name": "r1", "i": 5, "num": 3}})]);
    let zero = "00000000-0000-0000-0000-000000000000";
    let requests = [
        ("transact", json!([])),
        ("transact", json!(["zz"])),
        ("transact", json!([5])),
        ("echo", json!([1, {}, "x", null])),
        ("list_dbs", json!([])),
        ("get_schema", json!([])),
        ("get_schema", json!(["x"])),
        ("get_schema", json!(["_Server"])),
        ("zork", json!([])),
        ("set_db_change_aware", json!([true])),
        ("set_db_change_aware", json!([5])),
        ("lock", json!([])),
        ("lock", json!(["a"])),
        ("lock", json!(["a"])),
        ("lock", json!(["1a"])),
        ("unlock", json!(["a"])),
        ("unlock", json!(["a"])),
        ("steal", json!(["b"])),
        ("steal", json!(["b"])),
        ("monitor_cancel", json!(["x"])),
        ("monitor", json!([])),
        ("monitor", json!(["Trial", "m1", {"root": {}}])),
        ("monitor", json!(["Trial", "m1", {}])),
        ("monitor", json!(["Trial", "m2", {"nope": {}}])),
        ("monitor", json!(["Trial", "m3", {"root": {"columns": ["q"]}}])),
        ("monitor", json!(["Trial", "m3", {"root": {"columns": ["i", "i"]}}])),
        ("monitor", json!(["Trial", "m3", {"root": [{"columns": ["i"]}, {"columns": ["i"]}]}])),
        ("monitor", json!(["Trial", "m3", {"root": 5}])),
        ("monitor", json!(["Trial", "m3", {"root": {"where": []}}])),
        (
            "monitor",
            json!(["Trial", "m4", {"root": [{"columns": ["name"]}, {"columns": ["i"], "select": {"initial": false}}]}]),
        ),
        ("monitor", json!(["Trial", "m5", {"root": {"columns": []}}])),
        ("monitor", json!(["Trial", "m6", {"root": {"columns": ["name"], "select": {"initial": false}}}])),
        (
            "monitor_cond",
            json!(["Trial", "c1", {"root": {"where": [["name", "==", "r0"]], "columns": ["i"]}}]),
        ),
        (
            "monitor_cond",
            json!(["Trial", "c2", {"root": {"where": [["i", "==", 5], ["i", "==", 7]], "columns": ["i", "num"]}}]),
        ),
        ("monitor_cond", json!(["Trial", "c3", {"root": {"where": [false], "columns": ["i"]}}])),
        ("monitor_cond", json!(["Trial", "c4", {"root": {"where": [5], "columns": ["i"]}}])),
        ("monitor_cond", json!(["Trial", "c5", {"root": [{"columns": []}]}])),
        (
            "monitor_cond_since",
            json!(["Trial", "s1", {"root": {"columns": ["i", "ints", "m", "num"]}}, zero]),
        ),
        ("monitor_cond_since", json!(["Trial", "s2", {"root": {"columns": ["i"]}}])),
        ("monitor_cond_since", json!(["Trial", "s3", {"root": {"columns": ["i"]}}, "x"])),
        ("monitor_cond_change", json!(["c1", "c1", {"root": [{"where": [["i", "==", 5]]}]}])),
        ("monitor_cond_change", json!(["c1", "c9", {"root": [{"where": [true]}]}])),
        ("monitor_cond_change", json!(["c1", "c9", {"root": [{"where": []}]}])),
        ("monitor_cond_change", json!(["zz", "c9", {"root": [{"where": []}]}])),
        ("monitor_cond_change", json!(["c1"])),
        ("monitor_cancel", json!([])),
        ("monitor_cancel", json!(["m6"])),
    ];
    for (method, params) in requests {
        let [real, ours] = pair.ask(method, params.clone());
        assert_eq!(ours, real, "{method} {params}");
    }
    // Every kind of change, seen through all the monitors above at once.
    for operations in [
        json!([{"op": "insert", "table": "root", "row": {"name": "r2", "i": 9, "m": ["map", [["a", "b"], ["c", "d"]]]}}]),
        json!([{"op": "update", "table": "root", "where": [["name", "==", "r0"]], "row": {"ints": ["set", [2, 3]]}}]),
        json!([{"op": "update", "table": "root", "where": [["name", "==", "r1"]], "row": {"num": 4}}]),
        json!([{"op": "update", "table": "root", "where": [["name", "==", "r1"]], "row": {"num": ["set", []]}}]),
        json!([{"op": "update", "table": "root", "where": [["name", "==", "r1"]], "row": {"i": 6}}]),
        json!([{"op": "mutate", "table": "root", "where": [["name", "==", "r2"]],
                "mutations": [["m", "delete", "a"], ["m", "insert", ["map", [["e", "f"]]]]]}]),
        json!([{"op": "update", "table": "root", "where": [["name", "==", "r2"]], "row": {"b": true, "eph": 4}}]),
        json!([{"op": "update", "table": "root", "where": [["name", "==", "r2"]], "row": {"i": 9}}]),
        json!([{"op": "delete", "table": "root", "where": [["name", "==", "r0"]]}]),
    ] {
        pair.transact(operations.as_array().unwrap());
    }
}

/// Random operations on few rows and values, so that they meet.
fn random_operation(random: &mut Random) -> Value {
    let fixed = |random: &mut Random, kind: usize| {
        json!(["uuid", format!("00000000-0000-0000-000{kind}-00000000000{}", random.below(6))])
    };
    let table = random.pick(&["root", "root", "kid", "wk", "lim"]);
    let kind = match table {
        "root" => 1,
        "kid" => 2,
        "wk" => 3,
        _ => 4,
    };
    let kids = |random: &mut Random| -> Value {
        let count = random.below(3);
        let mut all: Vec<Value> = (0..count).map(|_| fixed(random, 2)).collect();
        all.sort_by_key(Value::to_string);
        all.dedup();
        json!(["set", all])
    };
    let row = |random: &mut Random, inserting: bool| -> Value {
        let mut row = Map::new();
        match table {
            "root" => {
                if inserting {
                    row.insert("name".into(), json!(format!("n{}", random.below(5))));
                }
                for column in ["i", "r", "num", "ints", "m", "im", "kids", "weak", "e"] {
                    if random.below(3) > 0 && !inserting {
                        continue;
                    }
                    let value = match column {
                        "i" => json!(random.below(4)),
                        "r" => json!(random.pick(&[0.0, 0.5, 1.5])),
                        "num" => json!(random.below(12)),
                        "ints" => json!(["set", [random.below(3), random.below(3) + 3]]),
                        "m" => json!(["map", [["k", format!("v{}", random.below(2))]]]),
                        "im" => json!(["map", [[random.below(3), fixed(random, 2)]]]),
                        "e" => json!(random.pick(&["a", "b", "c"])),
                        _ => kids(random),
                    };
                    if random.below(2) == 0 {
                        row.insert(column.into(), value);
                    }
                }
            }
            "kid" => {
                row.insert("n".into(), json!(random.below(4)));
                if random.below(2) == 0 {
                    row.insert("k2".into(), fixed(random, 2));
                }
            }
            "wk" => {
                row.insert("nm".into(), json!("w"));
                row.insert("w1".into(), fixed(random, 2));
            }
            _ => {
                row.insert("x".into(), json!(random.below(3)));
            }
        }
        Value::Object(row)
    };
    let filter = match random.below(4) {
        0 => json!([]),
        1 if table == "root" => json!([["i", random.pick(&["<", ">=", "!="]), random.below(4)]]),
        2 if table == "root" => json!([["kids", random.pick(&["includes", "excludes"]), fixed(random, 2)]]),
        _ => json!([["_uuid", "==", fixed(random, kind)]]),
    };
    match random.below(8) {
        0..=2 => {
            let uuid = fixed(random, kind)[1].clone();
            json!({"op": "insert", "table": table, "uuid": uuid, "row": row(random, true)})
        }
        3 | 4 => json!({"op": "update", "table": table, "where": filter, "row": row(random, false)}),
        5 if table == "root" => {
            let mutation = match random.below(6) {
                0 => json!(["i", random.pick(&["+=", "-=", "*=", "/=", "%="]), random.below(3)]),
                1 => json!(["ints", "insert", random.below(5)]),
                2 => json!(["ints", random.pick(&["delete", "+=", "*="]), random.below(5)]),
                3 => json!(["kids", random.pick(&["insert", "delete"]), fixed(random, 2)]),
                4 => json!(["weak", random.pick(&["insert", "delete"]), fixed(random, 2)]),
                _ => json!(["im", "delete", random.below(3)]),
            };
            json!({"op": "mutate", "table": table, "where": filter, "mutations": [mutation]})
        }
        6 => json!({"op": "select", "table": table, "where": filter}),
        _ => json!({"op": "delete", "table": table, "where": filter}),
    }
}

#[test]
fn random_transactions_agree() {
    let Some(mut pair) = Pair::start("random") else { return };
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut succeeded = 0;
    for _ in 0..3000 {
        let operations: Vec<Value> = (0..=random.below(5)).map(|_| random_operation(&mut random)).collect();
        let mut params = vec![json!("Trial")];
        params.extend_from_slice(&operations);
        let [real, ours] = pair.ask("transact", Value::from(params));
        // Of several rows that break a constraint the two may name different ones; the tag must agree.
        let tags = |answer: &Value| -> Vec<Value> {
            answer[0]["result"]
                .as_array()
                .unwrap()
                .iter()
                .map(
                    |result| {
                        if result["error"].is_string() { result["error"].clone() } else { result.clone() }
                    },
                )
                .collect()
        };
        assert_eq!(tags(&ours), tags(&real), "{operations:?}\nours {ours}\nreal {real}");
        succeeded += usize::from(!real.to_string().contains("\"error\""));
        pair.compare_contents();
    }
    assert!(succeeded > 500, "only {succeeded} transactions were valid");
}
