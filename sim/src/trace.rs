//! What happened, frame by frame: the record by which two runs of a world are compared, and by which a person finds out
//! what went wrong in one.

use base::{HashSeed, Instant};
use packet::DpPort;
use std::fmt;

/// What happened to a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FrameEvent {
    /// A node sent it.
    Sent = 1,
    /// It reached the port of the switch.
    Arrived = 2,
    /// A worker sent it out of the port.
    Forwarded = 3,
    /// It reached the node at the port.
    Delivered = 4,
    /// The wire, or a queue without room, lost it.
    Lost = 5,
    /// The wire made a second one of it.
    Doubled = 6,
    /// The wire held it back behind later ones.
    Delayed = 7,
}

/// One line of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceEntry {
    /// When.
    pub at: Instant,
    /// Which port, or the port whose wire it is.
    pub port: DpPort,
    /// What.
    pub event: FrameEvent,
    /// Length in bytes.
    pub len: u32,
    /// Hash of the bytes.
    pub hash: u64,
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceEntry { at, port, event, len, hash } = self;
        write!(f, "{at:?} port {port} {event:?} {len} bytes {hash:016x}")
    }
}

/// A record of frames; nothing is kept unless it is switched on.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    on: bool,
    entries: Vec<TraceEntry>,
}

impl Trace {
    /// Keeps what happens from now on.
    pub fn start(&mut self) {
        self.on = true;
    }

    pub(crate) fn note(&mut self, at: Instant, port: DpPort, event: FrameEvent, bytes: &[u8]) {
        if self.on {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.entries.push(TraceEntry { at, port, event, len, hash: hash_of(bytes) });
        }
    }

    /// What was kept, in order.
    pub fn entries(&self) -> &[TraceEntry] {
        &self.entries
    }

    /// The whole trace as bytes: 25 an entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * 25);
        for e in &self.entries {
            bytes.extend(e.at.as_nanos().to_be_bytes());
            bytes.extend(e.port.0.to_be_bytes());
            bytes.push(e.event as u8);
            bytes.extend(e.len.to_be_bytes());
            bytes.extend(e.hash.to_be_bytes());
        }
        bytes
    }
}

/// Hash of a frame's bytes, the same in every run.
pub fn hash_of(bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| chunk.iter().fold(0u64, |w, b| w << 8 | u64::from(*b));
    HashSeed::new(0x7461, 0x7065).hash(bytes.chunks(8).map(word).chain([bytes.len() as u64]))
}
