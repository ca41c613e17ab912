//! The journal on disk, in the standalone format of ovsdb-server: a line `OVSDB JSON <length> <sha1>`, then so many bytes
//! of JSON, and again. The first record is the schema, the others are transactions.
//!
//! A record counts once it is synced. What a crash leaves half written at the end is cut off when the file is opened.
//! The file only grows, so now and then it is written anew with the present contents ([`FileJournal::compact`]).
//! This is the one module of the crate that touches files.

mod read;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::database::{Database, RecordError};
use crate::error::DbError;
use crate::schema::DatabaseSchema;

/// The file is left alone until it is this large, in bytes.
const COMPACT_SIZE_MIN: u64 = 1 << 20;
/// The file is compacted when it is so many times as large as after the last compaction.
const COMPACT_GROWTH: u64 = 4;
/// A new file is readable by the group, as ovsdb-tool makes it.
const FILE_MODE: u32 = 0o640;

/// Why a journal could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("{path}: {doing} failed: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// What the system said. Not named `source`: it is part of the text.
        error: io::Error,
    },
    /// Another process has the database open.
    #[error("{path}: database is in use by another process", path = .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file is no standalone database.
    #[error("{path}: {reason}", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A record is intact but does not fit the schema.
    #[error("{path}: record at offset {offset}: {error}", path = .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u64,
        /// What does not fit.
        error: RecordError,
    },
    /// The first record is not a schema, or rows do not fit the schema that is asked for.
    #[error("{path}: {error}", path = .path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: DbError,
    },
    /// An earlier sync failed, of the file or its directory, so what the disk holds is unknown until the file is written anew.
    #[error("{path}: not writable since a sync failed", path = .path.display())]
    Suspect {
        /// The file.
        path: PathBuf,
    },
}

/// Where commits are written before they are acknowledged.
pub trait Journal: Send {
    /// Adds a record, not yet durable.
    ///
    /// # Errors
    /// When it cannot be written; then nothing since the last sync is kept.
    fn append(&mut self, record: &Value) -> Result<(), LogError>;

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// When that fails; then nothing since the last sync is kept.
    fn sync(&mut self) -> Result<(), LogError>;

    /// Forgets what was appended since the last sync.
    fn rollback(&mut self);

    /// Whether the journal is worth writing anew, or must be.
    fn wants_compaction(&self) -> bool;

    /// Replaces the journal by one with this schema and these contents.
    ///
    /// # Errors
    /// When that fails; the old journal is then as it was. If the new one is in its place already but may not be so after
    /// a crash, it takes nothing until it is written anew once more.
    fn compact(&mut self, schema: &DatabaseSchema, contents: Option<&Value>) -> Result<(), LogError>;
}

/// What was noticed while a journal was opened, for the shell to log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Whether the file was made just now.
    pub created: bool,
    /// Where a torn or corrupt end was cut off, how many bytes that was, and why.
    pub truncated: Option<Truncated>,
    /// The schema version the file had, if its rows were converted to the schema asked for.
    pub converted_from: Option<String>,
}

/// A journal's end that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Where the cut was made, in bytes.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// What was wrong there.
    pub reason: String,
    /// Where the bytes went, if intact records seemed to be among them.
    pub saved_as: Option<PathBuf>,
}

/// A journal in a file, locked against a second process.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
    /// Holds the lock as long as it is open.
    lock: File,
    /// Length of what is durable.
    synced: u64,
    /// Length with what was appended since.
    length: u64,
    /// Length after the last compaction.
    base: u64,
    suspect: bool,
    sync_directory: SyncDirectory,
}

/// Makes durable what a directory says; an argument of what calls it, as tests have it fail.
type SyncDirectory = fn(&File) -> io::Result<()>;

fn io_error<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> LogError + use<'a> {
    let path = path.to_owned();
    move |error| LogError::Io { path, doing, error }
}

/// A record as bytes.
pub(crate) fn encode(json: &Value) -> Vec<u8> {
    let body = format!("{json}\n");
    let mut record = format!("OVSDB JSON {} {}\n", body.len(), hex_sha1(body.as_bytes())).into_bytes();
    record.extend_from_slice(body.as_bytes());
    record
}

fn hex_sha1(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A journal that was put in the place of another.
struct Anew {
    file: File,
    length: u64,
    /// Whether it is there after a crash too.
    durable: Result<(), LogError>,
}

/// Writes a whole journal beside `path` and puts it in its place.
fn write_anew(path: &Path, records: &[&Value], sync_directory: SyncDirectory) -> Result<Anew, LogError> {
    // Whatever can be refused is asked for first: behind the renaming there is no way back to the old file.
    let directory = directory_of(path);
    let opened = File::open(directory).map_err(io_error(directory, "open"))?;
    let temporary = with_suffix(path, ".tmp");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&temporary).map_err(io_error(&temporary, "create"))?;
    let write = |file: &mut File| -> io::Result<u64> {
        let mut length = 0;
        for record in records {
            let bytes = encode(record);
            file.write_all(&bytes)?;
            length += bytes.len() as u64;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        Ok(length)
    };
    match write(&mut file) {
        Ok(length) => {
            let durable = sync_directory(&opened).map_err(io_error(directory, "sync of directory"));
            Ok(Anew { file, length, durable })
        }
        Err(source) => {
            // The temporary file is useless now; that it may stay is no further harm.
            let _ = std::fs::remove_file(&temporary);
            Err(LogError::Io { path: temporary, doing: "write", error: source })
        }
    }
}

impl FileJournal {
    /// Opens the database file at `path` for the given schema, making it if there is none. A file with another version
    /// of the schema is converted.
    ///
    /// # Errors
    /// When another process has it open, when it is no standalone database of that name, when a record does not fit,
    /// or when the system refuses.
    pub fn open(
        path: &Path,
        schema: Arc<DatabaseSchema>,
    ) -> Result<(FileJournal, Database, Opened), LogError> {
        let lock = take_lock(path)?;
        if !path.try_exists().map_err(io_error(path, "look-up"))? {
            let Anew { file, length, durable } = write_anew(path, &[&schema.to_json()], File::sync_all)?;
            durable?;
            let journal = FileJournal::over(path, file, lock, length);
            return Ok((journal, Database::new(schema), Opened { created: true, ..Opened::default() }));
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io_error(path, "open"))?;
        let found = read::load(path, &file)?;
        let mut opened = Opened { truncated: found.truncated, ..Opened::default() };
        if opened.truncated.is_some() {
            file.set_len(found.length).map_err(io_error(path, "truncate"))?;
            file.sync_all().map_err(io_error(path, "sync"))?;
        }
        let mut journal = FileJournal::over(path, file, lock, found.length);
        let mut database = found.database;
        let found_schema = database.schema().clone();
        if found_schema.name != schema.name {
            let reason = format!("holds database {}, not {}", found_schema.name, schema.name);
            return Err(LogError::Format { path: path.to_owned(), reason });
        }
        if !found_schema.same_as(&schema) {
            database = database
                .convert(schema.clone())
                .map_err(|error| LogError::Schema { path: path.to_owned(), error })?;
            journal.compact(&schema, database.contents().to_record(&database, 0).as_ref())?;
            opened.converted_from = Some(found_schema.version.clone());
        }
        Ok((journal, database, opened))
    }

    fn over(path: &Path, file: File, lock: File, length: u64) -> FileJournal {
        FileJournal {
            path: path.to_owned(),
            file,
            lock,
            synced: length,
            length,
            base: length,
            suspect: false,
            sync_directory: File::sync_all,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How large it is, in bytes.
    pub fn size(&self) -> u64 {
        self.length
    }

    /// Cuts off what is not known to be durable. If even that fails, the file must be written anew.
    fn take_back(&mut self) {
        if self.file.set_len(self.synced).is_err() {
            self.suspect = true;
        }
        self.length = self.synced;
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        // Closing the file would do, were there no child process between fork and exec that has it open too.
        let _ = self.lock.unlock();
    }
}

/// The lock file has the name that ovsdb-server's has, but another kind of lock.
fn take_lock(path: &Path) -> Result<File, LogError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let lock_path = path.with_file_name(format!(".{name}.~lock~"));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&lock_path).map_err(io_error(&lock_path, "open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(LogError::Locked { path: lock_path }),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(LogError::Io { path: lock_path, doing: "lock", error: source })
        }
    }
}

impl Journal for FileJournal {
    fn append(&mut self, record: &Value) -> Result<(), LogError> {
        if self.suspect {
            return Err(LogError::Suspect { path: self.path.clone() });
        }
        let bytes = encode(record);
        if let Err(source) = self.file.write_all_at(&bytes, self.length) {
            self.take_back();
            return Err(LogError::Io { path: self.path.clone(), doing: "write", error: source });
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.suspect {
            return Err(LogError::Suspect { path: self.path.clone() });
        }
        if self.length == self.synced {
            return Ok(());
        }
        match self.file.sync_data() {
            Ok(()) => {
                self.synced = self.length;
                Ok(())
            }
            Err(source) => {
                // After a failed sync the kernel may have dropped the pages, and a later sync would report success.
                self.take_back();
                self.suspect = true;
                Err(LogError::Io { path: self.path.clone(), doing: "sync", error: source })
            }
        }
    }

    fn rollback(&mut self) {
        if self.length != self.synced {
            self.take_back();
        }
    }

    fn wants_compaction(&self) -> bool {
        self.suspect
            || (self.length > COMPACT_SIZE_MIN && self.length > self.base.saturating_mul(COMPACT_GROWTH))
    }

    fn compact(&mut self, schema: &DatabaseSchema, contents: Option<&Value>) -> Result<(), LogError> {
        let schema = schema.to_json();
        let records: Vec<&Value> = std::iter::once(&schema).chain(contents).collect();
        let anew = write_anew(&self.path, &records, self.sync_directory)?;
        // The old file has no name any more: what is written to it would be gone with the process.
        self.file = anew.file;
        (self.synced, self.length, self.base) = (anew.length, anew.length, anew.length);
        self.suspect = anew.durable.is_err();
        anew.durable
    }
}

#[cfg(test)]
mod tests;
