//! What no file system does when asked to: directories that cannot be made durable.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::schema::TableIndex;
use serde_json::json;

const SCHEMA: &str = r#"{"name": "T", "version": "1.0.0", "tables":
    {"t": {"isRoot": true, "columns": {"i": {"type": "integer"}}}}}"#;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A record that inserts a row with this number.
fn row(i: u32) -> Value {
    json!({"t": {format!("00000000-0000-4000-8000-{i:012}"): {"i": i}}})
}

#[test]
fn what_is_acknowledged_after_a_failed_sync_of_the_directory_is_in_the_file_of_that_name() {
    let scratch = Scratch(std::env::temp_dir().join(format!("ovsdb-log-{}", std::process::id())));
    std::fs::create_dir_all(&scratch.0).unwrap();
    let path = scratch.0.join("t.db");
    let schema = Arc::new(DatabaseSchema::parse_str(SCHEMA).unwrap());
    let rows = |path: &Path| {
        let found = read::load(path, &File::open(path).unwrap()).unwrap();
        assert_eq!(found.truncated, None);
        found.database.rows(TableIndex(0)).count()
    };
    let (mut journal, database, _) = FileJournal::open(&path, Arc::clone(&schema)).unwrap();
    journal.append(&row(1)).unwrap();
    journal.sync().unwrap();

    journal.sync_directory = |_| Err(io::Error::from_raw_os_error(5));
    let refused = journal.compact(&schema, Some(&row(1)));
    assert!(matches!(refused, Err(LogError::Io { doing: "sync of directory", .. })), "{refused:?}");
    // Nothing is taken, and nothing said to be durable, until it is written anew.
    assert!(matches!(journal.append(&row(2)), Err(LogError::Suspect { .. })));
    assert!(matches!(journal.sync(), Err(LogError::Suspect { .. })));
    assert!(journal.wants_compaction());
    assert!(journal.compact(&schema, Some(&row(1))).is_err() && journal.wants_compaction());
    assert_eq!(rows(&path), 1);

    journal.sync_directory = File::sync_all;
    journal.compact(&schema, Some(&row(1))).unwrap();
    assert!(!journal.wants_compaction());
    journal.append(&row(2)).unwrap();
    journal.sync().unwrap();
    assert_eq!(rows(&path), 2);
    drop((journal, database));
    let (_, database, opened) = FileJournal::open(&path, schema).unwrap();
    assert_eq!((database.rows(TableIndex(0)).count(), opened), (2, Opened::default()));
}
