//! Reading a journal back.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::{LogError, Truncated, hex_sha1, io_error, with_suffix};
use crate::database::Database;
use crate::schema::DatabaseSchema;

/// The longest header line, in bytes.
const HEADER_MAX: u64 = 128;
const MAGIC: &str = "OVSDB JSON ";

pub(super) struct Found {
    pub(super) database: Database,
    /// Length of the intact part.
    pub(super) length: u64,
    pub(super) truncated: Option<Truncated>,
}

/// A record that is not intact, or none.
enum Next {
    Record(Value, u64),
    End,
    Torn(String),
}

/// Reads every intact record and applies it.
pub(super) fn load(path: &Path, file: &File) -> Result<Found, LogError> {
    let total = file.metadata().map_err(io_error(path, "stat"))?.len();
    let mut reader = BufReader::new(file);
    let mut offset = 0;
    let mut database: Option<Database> = None;
    let mut torn = None;
    loop {
        match next_record(&mut reader, total - offset).map_err(io_error(path, "read"))? {
            Next::End => break,
            Next::Torn(reason) => {
                torn = Some(reason);
                break;
            }
            Next::Record(json, bytes) => {
                match &mut database {
                    None => {
                        let schema = DatabaseSchema::from_json(&json)
                            .map_err(|error| LogError::Schema { path: path.to_owned(), error })?;
                        database = Some(Database::new(Arc::new(schema)));
                    }
                    Some(database) => database.replay(&json).map_err(|error| LogError::Record {
                        path: path.to_owned(),
                        offset,
                        error,
                    })?,
                }
                offset += bytes;
            }
        }
    }
    let Some(database) = database else {
        let reason = match torn {
            Some(reason) => format!("not an OVSDB standalone database: {reason}"),
            None => "empty file".to_owned(),
        };
        return Err(LogError::Format { path: path.to_owned(), reason });
    };
    let truncated = match torn {
        None => None,
        Some(reason) => {
            let saved_as = save_if_records_follow(path, file, offset)?;
            Some(Truncated { offset, bytes: total - offset, reason, saved_as })
        }
    };
    Ok(Found { database, length: offset, truncated })
}

fn next_record(reader: &mut impl BufRead, left: u64) -> std::io::Result<Next> {
    let mut header = Vec::new();
    reader.take(HEADER_MAX).read_until(b'\n', &mut header)?;
    if header.is_empty() {
        return Ok(Next::End);
    }
    let Some((length, digest)) = parse_header(&header) else {
        return Ok(Next::Torn("parse error in log record header".into()));
    };
    let available = left.saturating_sub(header.len() as u64);
    if length > available {
        return Ok(Next::Torn(format!("record of {length} bytes, but only {available} follow")));
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    if hex_sha1(&body) != digest {
        return Ok(Next::Torn("SHA-1 hash mismatch".into()));
    }
    match serde_json::from_slice(&body) {
        Ok(json) => Ok(Next::Record(json, header.len() as u64 + length)),
        Err(error) => Ok(Next::Torn(format!("record is not JSON: {error}"))),
    }
}

fn parse_header(header: &[u8]) -> Option<(u64, &str)> {
    let line = std::str::from_utf8(header).ok()?.strip_suffix('\n')?;
    let (length, digest) = line.strip_prefix(MAGIC)?.split_once(' ')?;
    (digest.len() == 40).then_some((length.parse().ok()?, digest))
}

/// A crash tears only the end. If more records seem to follow the damage it was something else, and someone may want
/// the bytes.
fn save_if_records_follow(path: &Path, file: &File, offset: u64) -> Result<Option<PathBuf>, LogError> {
    use std::os::unix::fs::FileExt;
    let total = file.metadata().map_err(io_error(path, "stat"))?.len();
    let mut tail = Vec::new();
    let mut at = offset;
    while at < total {
        let mut chunk = vec![0; usize::try_from((total - at).min(1 << 16)).unwrap_or(1 << 16)];
        let count = file.read_at(&mut chunk, at).map_err(io_error(path, "read"))?;
        if count == 0 {
            break;
        }
        tail.extend_from_slice(chunk.get(..count).unwrap_or(&[]));
        at += count as u64;
    }
    let marker = format!("\n{MAGIC}");
    if !tail.windows(marker.len()).any(|window| window == marker.as_bytes()) {
        return Ok(None);
    }
    let saved = with_suffix(path, &format!(".damaged-{offset}"));
    std::fs::write(&saved, &tail).map_err(io_error(&saved, "write"))?;
    Ok(Some(saved))
}
