//! FTP.
use std::sync::atomic::AtomicU64;

/// How far the sequence numbers of one direction are shifted.
#[derive(Debug, Default)]
pub(super) struct SequenceShift(pub AtomicU64);
