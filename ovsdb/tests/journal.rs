//! The journal on disk: what was acknowledged survives, what is torn is cut off, and Debian's tools read it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base::time::Instant;
use ovsdb::client::outcome;
use ovsdb::database::Database;
use ovsdb::log::{FileJournal, Journal, LogError};
use ovsdb::schema::{self, DatabaseSchema};
use ovsdb::session::Server;
use serde_json::{Value, json};
use support::{Process, Random, TempDir, run, tool};

fn trial() -> Arc<DatabaseSchema> {
    Arc::new(DatabaseSchema::parse_str(include_str!("support/trial.json")).unwrap())
}

fn open(path: &Path) -> Server {
    let (journal, database, opened) = FileJournal::open(path, trial()).unwrap();
    assert_eq!(opened.truncated, None);
    support::server(database, Some(Box::new(journal)))
}

fn insert(server: &mut Server, value: i64) {
    let operation =
        json!({"op": "insert", "table": "root", "row": {"name": format!("n{value}"), "i": value, "eph": 3}});
    let results = server.transact_local("Trial", &[operation], Instant::ZERO).unwrap();
    outcome(&results).unwrap();
}

fn values(database: &Database) -> Vec<i64> {
    let table = database.schema().table_index("root").unwrap();
    let column = database
        .schema()
        .table("root")
        .unwrap()
        .columns
        .iter()
        .position(|column| column.name == "i")
        .unwrap();
    let mut all: Vec<i64> =
        database.rows(table).map(|(_, row)| row.columns[column].as_integer().unwrap()).collect();
    all.sort_unstable();
    all
}

fn contents(database: &Database) -> Value {
    database.contents().to_record(database, 0).unwrap_or_default()
}

#[test]
fn reads_back_what_was_written_and_refuses_a_second_opener() {
    let directory = TempDir::new("journal");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    for value in 0..50 {
        insert(&mut server, value);
    }
    let drop_some = json!({"op": "delete", "table": "root", "where": [["i", "<", 10]]});
    let change = json!({"op": "update", "table": "root", "where": [["i", "==", 20]], "row": {"m": ["map", [["a", "b"]]]}});
    outcome(&server.transact_local("Trial", &[drop_some, change], Instant::ZERO).unwrap()).unwrap();
    assert!(matches!(FileJournal::open(&path, trial()), Err(LogError::Locked { .. })));
    let before = contents(server.database("Trial").unwrap());
    drop(server);
    let mut server = open(&path);
    assert_eq!(contents(server.database("Trial").unwrap()), before);
    assert_eq!(values(server.database("Trial").unwrap()), (10..50).collect::<Vec<_>>());
    let size = std::fs::metadata(&path).unwrap().len();
    server.compact("Trial", Instant::ZERO).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < size);
    insert(&mut server, 100);
    drop(server);
    let server = open(&path);
    assert_eq!(values(server.database("Trial").unwrap()).last(), Some(&100));
}

#[test]
fn a_journal_that_grew_is_compacted_without_asking() {
    let directory = TempDir::new("grown");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 1);
    let mut largest = 0;
    for round in 0..300 {
        let text = format!("{round:05}").repeat(2000);
        let change =
            json!({"op": "update", "table": "root", "where": [], "row": {"m": ["map", [["k", text]]]}});
        outcome(&server.transact_local("Trial", &[change], Instant::ZERO).unwrap()).unwrap();
        server.poll(Instant::ZERO);
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!((1_000_000..=1 << 20).contains(&largest), "{largest}");
    let before = contents(server.database("Trial").unwrap());
    drop(server);
    assert_eq!(contents(open(&path).database("Trial").unwrap()), before);
}

#[test]
fn compaction_between_arrival_and_sync_loses_and_doubles_nothing() {
    let directory = TempDir::new("staged");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 1);
    let client = server.connect(None, Instant::ZERO).unwrap();
    let request = json!({"method": "transact", "id": 1, "params": ["Trial",
        {"op": "delete", "table": "root", "where": []},
        {"op": "insert", "table": "root", "row": {"name": "x", "i": 2}}]});
    server.receive(client, request.to_string().as_bytes(), Instant::ZERO).unwrap();
    server.compact("Trial", Instant::ZERO).unwrap();
    server.poll(Instant::ZERO);
    assert_eq!(support::drain(&mut server, client).len(), 1);
    drop(server);
    assert_eq!(values(open(&path).database("Trial").unwrap()), [2]);
}

#[test]
fn transactions_of_one_turn_are_all_written() {
    let directory = TempDir::new("group");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    let clients: Vec<_> = (0..20).map(|_| server.connect(None, Instant::ZERO).unwrap()).collect();
    for (value, client) in clients.iter().enumerate() {
        let row = json!({"name": format!("n{value}"), "i": value});
        let request = json!({"method": "transact", "id": 1, "params": ["Trial", {"op": "insert", "table": "root", "row": row}]});
        server.receive(*client, request.to_string().as_bytes(), Instant::ZERO).unwrap();
    }
    server.poll(Instant::ZERO);
    for client in clients {
        assert!(support::drain(&mut server, client)[0]["result"][0]["uuid"].is_array());
    }
    drop(server);
    assert_eq!(values(open(&path).database("Trial").unwrap()), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_record_is_as_long_as_the_change() {
    let directory = TempDir::new("diff");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 1);
    let many: Vec<i64> = (0..10_000).collect();
    let fill = json!({"op": "update", "table": "root", "where": [], "row": {"ints": ["set", many]}});
    outcome(&server.transact_local("Trial", &[fill], Instant::ZERO).unwrap()).unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    let one = json!({"op": "mutate", "table": "root", "where": [],
        "mutations": [["ints", "insert", 10_001], ["ints", "delete", 5]]});
    outcome(&server.transact_local("Trial", &[one], Instant::ZERO).unwrap()).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < size + 300);
    let before = contents(server.database("Trial").unwrap());
    drop(server);
    assert_eq!(contents(open(&path).database("Trial").unwrap()), before);
}

#[test]
fn ephemeral_changes_are_not_written() {
    let directory = TempDir::new("ephemeral");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 1);
    let size = std::fs::metadata(&path).unwrap().len();
    let change = json!({"op": "update", "table": "root", "where": [], "row": {"eph": 77}});
    outcome(&server.transact_local("Trial", &[change], Instant::ZERO).unwrap()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
}

#[test]
fn any_torn_end_is_cut_off_where_it_begins() {
    let directory = TempDir::new("torn");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 1);
    insert(&mut server, 2);
    let whole = std::fs::metadata(&path).unwrap().len();
    insert(&mut server, 3);
    drop(server);
    let bytes = std::fs::read(&path).unwrap();
    for cut in usize::try_from(whole).unwrap() + 1..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (journal, database, opened) = FileJournal::open(&path, trial()).unwrap();
        let truncated = opened.truncated.expect("the cut is noticed");
        assert_eq!((truncated.offset, truncated.bytes), (whole, cut as u64 - whole));
        assert_eq!(truncated.saved_as, None);
        assert_eq!(values(&database), [1, 2]);
        drop(journal);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
    }
}

#[test]
fn damage_before_intact_records_is_kept_aside() {
    let directory = TempDir::new("damaged");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 1);
    let whole = std::fs::metadata(&path).unwrap().len();
    insert(&mut server, 2);
    insert(&mut server, 3);
    drop(server);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = usize::try_from(whole).unwrap() + 80;
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (_, database, opened) = FileJournal::open(&path, trial()).unwrap();
    assert_eq!(values(&database), [1]);
    let truncated = opened.truncated.unwrap();
    assert_eq!(truncated.reason, "SHA-1 hash mismatch");
    let saved = std::fs::read(truncated.saved_as.unwrap()).unwrap();
    assert_eq!(saved, bytes[usize::try_from(whole).unwrap()..]);
}

#[test]
fn what_is_no_database_is_refused() {
    let directory = TempDir::new("format");
    for text in ["", "hello\n", "OVSDB CLUSTER 3 0\n{}\n", "OVSDB JSON 99999999999999999999 x\n"] {
        let path = directory.join("x.db");
        std::fs::write(&path, text).unwrap();
        assert!(matches!(FileJournal::open(&path, trial()), Err(LogError::Format { .. })), "{text:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file is left alone");
    }
}

#[test]
fn another_schema_version_is_converted() {
    let directory = TempDir::new("convert");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    insert(&mut server, 5);
    drop(server);
    let text = include_str!("support/trial.json").replace("1.2.3", "1.3.0").replace("\"b\":", "\"bb\":");
    let newer = Arc::new(DatabaseSchema::parse_str(&text).unwrap());
    let (journal, database, opened) = FileJournal::open(&path, newer.clone()).unwrap();
    assert_eq!(opened.converted_from.as_deref(), Some("1.2.3"));
    assert_eq!(values(&database), [5]);
    drop(journal);
    let (_, database, opened) = FileJournal::open(&path, newer).unwrap();
    assert_eq!(opened.converted_from, None);
    assert_eq!(values(&database), [5]);
}

#[test]
fn debians_tool_reads_our_file() {
    let Some(ovsdb_tool) = tool("ovsdb-tool") else { return };
    let directory = TempDir::new("tool-reads");
    let path = directory.join("trial.db");
    let mut server = open(&path);
    for value in 0..20 {
        insert(&mut server, value);
    }
    let change = json!({"op": "delete", "table": "root", "where": [["i", ">=", 10]]});
    let edit = json!({"op": "mutate", "table": "root", "where": [["i", "<", 10]], "mutations":
        [["ints", "insert", ["set", [1, 2]]], ["m", "insert", ["map", [["k", "v"], ["x", "y"]]]]]});
    outcome(&server.transact_local("Trial", &[edit], Instant::ZERO).unwrap()).unwrap();
    let edit = json!({"op": "mutate", "table": "root", "where": [], "mutations":
        [["ints", "insert", 3], ["ints", "delete", 1], ["m", "delete", "k"], ["m", "insert", ["map", [["q", "z"]]]]]});
    let set = json!({"op": "update", "table": "root", "where": [], "row": {"num": 4, "b": true}});
    outcome(&server.transact_local("Trial", &[edit, set], Instant::ZERO).unwrap()).unwrap();
    let comment = json!({"op": "comment", "comment": "ünïcode \" and\nlines"});
    outcome(&server.transact_local("Trial", &[change, comment], Instant::ZERO).unwrap()).unwrap();
    drop(server);
    let query = json!(["Trial", {"op": "select", "table": "root", "where": [["i", "==", 3]],
        "columns": ["i", "ints", "m", "num", "b"]}, {"op": "select", "table": "root", "where": [], "columns": ["i"]}]);
    let query = query.to_string();
    for compacted in [false, true] {
        if compacted {
            open(&path).compact("Trial", Instant::ZERO).unwrap();
        }
        let answer = run(Command::new(&ovsdb_tool).arg("query").arg(&path).arg(&query));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let row = json!({"i": 3, "ints": ["set", [2, 3]], "m": ["map", [["q", "z"], ["x", "y"]]], "num": 4, "b": true});
        assert_eq!(answer[0]["rows"], json!([row]));
        assert_eq!(answer[1]["rows"].as_array().unwrap().len(), 10);
        run(Command::new(&ovsdb_tool).arg("show-log").arg("-mm").arg(&path));
        assert_eq!(run(Command::new(&ovsdb_tool).arg("db-version").arg(&path)).trim(), "1.2.3");
    }
}

#[test]
fn we_read_what_debians_tool_writes() {
    let Some(ovsdb_tool) = tool("ovsdb-tool") else { return };
    let directory = TempDir::new("tool-writes");
    let (path, schema_file) = (directory.join("trial.db"), directory.join("trial.ovsschema"));
    std::fs::write(&schema_file, include_str!("support/trial.json")).unwrap();
    run(Command::new(&ovsdb_tool).arg("create").arg(&path).arg(&schema_file));
    let transact = |operations: Value| {
        run(Command::new(&ovsdb_tool).arg("transact").arg(&path).arg(operations.to_string()));
    };
    // The second and third change sets and maps, which the tool records as differences.
    transact(json!(["Trial", {"op": "insert", "table": "root", "row":
        {"name": "a", "i": 1, "ints": ["set", [1, 2, 3]], "m": ["map", [["k", "v"], ["x", "y"]]], "num": 3}}]));
    transact(json!(["Trial", {"op": "mutate", "table": "root", "where": [], "mutations":
        [["ints", "delete", 2], ["ints", "insert", 9], ["m", "delete", "k"], ["m", "insert", ["map", [["n", "o"]]]]]}]));
    transact(json!(["Trial", {"op": "update", "table": "root", "where": [],
        "row": {"m": ["map", [["x", "Z"]]], "num": 4, "i": 8}}]));
    let (_, database, _) = FileJournal::open(&path, trial()).unwrap();
    let record = contents(&database);
    let row = record["root"].as_object().unwrap().values().next().unwrap();
    assert_eq!(row["ints"], json!(["set", [1, 3, 9]]));
    assert_eq!(row["m"], json!(["map", [["x", "Z"]]]));
    assert_eq!((&row["num"], &row["i"]), (&json!(4), &json!(8)));
}

/// A journal that can be told to fail.
struct Failing {
    fail: Arc<std::sync::atomic::AtomicBool>,
}

impl Journal for Failing {
    fn append(&mut self, _: &Value) -> Result<(), LogError> {
        Ok(())
    }
    fn sync(&mut self) -> Result<(), LogError> {
        if self.fail.load(std::sync::atomic::Ordering::Relaxed) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(LogError::Io { path: "trial.db".into(), doing: "sync", error: source });
        }
        Ok(())
    }
    fn rollback(&mut self) {}
    fn wants_compaction(&self) -> bool {
        false
    }
    fn compact(&mut self, _: &DatabaseSchema, _: Option<&Value>) -> Result<(), LogError> {
        Ok(())
    }
}

#[test]
fn a_transaction_that_cannot_be_written_changes_nothing() {
    let fail = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let journal = Failing { fail: fail.clone() };
    let mut server = support::server(Database::new(trial()), Some(Box::new(journal)));
    insert(&mut server, 1);
    let watcher = server.connect(None, Instant::ZERO).unwrap();
    let watch = json!({"method": "monitor", "id": 0, "params": ["Trial", 0, {"root": {}}]});
    support::send(&mut server, watcher, watch, Instant::ZERO);
    let before = contents(server.database("Trial").unwrap());
    fail.store(true, std::sync::atomic::Ordering::Relaxed);
    // Several transactions of one turn, each on top of the one before, fall together.
    let client = server.connect(None, Instant::ZERO).unwrap();
    for id in 1..=3 {
        let request = json!({"method": "transact", "id": id, "params": ["Trial",
            {"op": "insert", "table": "kid", "uuid-name": "k", "row": {"n": id}},
            {"op": "insert", "table": "root", "row": {"name": format!("x{id}"), "i": id + 10, "kids": ["named-uuid", "k"]}},
            {"op": "mutate", "table": "root", "where": [], "mutations": [["ints", "insert", id]]},
            {"op": "delete", "table": "root", "where": [["i", "==", id + 9]]},
        ]});
        server.receive(client, request.to_string().as_bytes(), Instant::ZERO).unwrap();
    }
    assert!(server.output(client).is_empty(), "nothing is answered before the sync");
    server.poll(Instant::ZERO);
    let answers = support::drain(&mut server, client);
    assert_eq!(answers.len(), 3);
    for answer in answers {
        assert_eq!(answer["result"][0]["error"], "I/O error", "{answer}");
    }
    assert!(server.output(watcher).is_empty());
    assert_eq!(contents(server.database("Trial").unwrap()), before);
    fail.store(false, std::sync::atomic::Ordering::Relaxed);
    insert(&mut server, 2);
    assert_eq!(values(server.database("Trial").unwrap()), [1, 2]);
}

#[test]
fn a_full_disk_is_survived() {
    let directory = TempDir::new("full");
    let mount = directory.join("small");
    std::fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&mount).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("TAPESTRY_REQUIRE_OVS").is_none(), "cannot mount a small file system");
        eprintln!("SKIPPED: cannot mount a small file system");
        return;
    }
    let path = mount.join("trial.db");
    let mut server = open(&path);
    let mut written = 0;
    let failure = loop {
        let row =
            json!({"name": format!("n{written}"), "i": written, "m": ["map", [["k", "x".repeat(2000)]]]});
        let insert = json!({"op": "insert", "table": "root", "row": row});
        match outcome(&server.transact_local("Trial", &[insert], Instant::ZERO).unwrap()) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000);
    };
    assert_eq!(failure.error, "I/O error");
    assert!(failure.details.unwrap().contains("trial.db"));
    let expected: Vec<i64> = (0..written).collect();
    assert_eq!(values(server.database("Trial").unwrap()), expected);
    drop(server);
    let server = open(&path);
    assert_eq!(values(server.database("Trial").unwrap()), expected);
    drop(server);
    // Lazily: a child that another test is just starting has what was open here until it executes its program.
    run(Command::new("umount").arg("-l").arg(&mount));
}

/// The child of the test below, and nothing without it: writes transactions for ever and prints each number once it is
/// acknowledged.
#[test]
fn endless_writer() {
    let Some(path) = std::env::var_os("OVSDB_TEST_JOURNAL") else { return };
    let mut server = open_cut(Path::new(&path));
    let start = values(server.database("Trial").unwrap()).last().map_or(0, |last| last + 1);
    let mut out = std::io::stdout();
    for value in start.. {
        insert(&mut server, value);
        if value % 16 == 0 {
            server.compact("Trial", Instant::ZERO).unwrap();
        }
        writeln!(out, "ack {value}").unwrap();
        out.flush().unwrap();
    }
}

fn open_cut(path: &Path) -> Server {
    let (journal, database, _) = FileJournal::open(path, trial()).unwrap();
    support::server(database, Some(Box::new(journal)))
}

#[test]
fn killed_writers_lose_nothing_acknowledged() {
    let directory = TempDir::new("killed");
    let path = directory.join("trial.db");
    let mut random = Random(0x5eed_5eed_5eed);
    let mut acknowledged: i64 = -1;
    for _ in 0..15 {
        let mut child = Process(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "endless_writer", "--nocapture"])
                .env("OVSDB_TEST_JOURNAL", &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut left = 1 + random.below(60);
        // The kill comes after some acknowledgement, at whatever the writer is doing by then.
        for line in &mut lines {
            if line.unwrap().contains("ack ") {
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        let count = |line: String| line.split("ack ").nth(1).and_then(|number| number.parse().ok());
        if let Some(last) = lines.map_while(Result::ok).filter_map(count).last() {
            acknowledged = last;
        }
        let (_, database, _) = FileJournal::open(&path, trial()).unwrap();
        let found = values(&database);
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>(), "a gap");
        assert!(*found.last().unwrap() >= acknowledged);
        acknowledged = *found.last().unwrap();
    }
    assert!(acknowledged > 50);
}

#[test]
fn open_vswitch_schema_starts_empty() {
    let directory = TempDir::new("ovs");
    let path = directory.join("conf.db");
    let (journal, database, opened) =
        FileJournal::open(&path, Arc::new(schema::open_vswitch().clone())).unwrap();
    assert!(opened.created);
    assert!(database.contents().is_empty());
    assert_eq!(journal.path(), path);
}
