//! What interfaces count that have no port of the datapath to themselves, tunnels and patches: they are credited as rules are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which way frames went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Out of the tunnel or patch, into the bridge.
    Received,
    /// Into it, out of the bridge.
    Sent,
}

/// Frames of one interface, in and out. Written by workers when they fold their counts.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    received: Pair,
    sent: Pair,
}

#[derive(Debug, Default)]
struct Pair {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl InterfaceCounters {
    /// Adds frames and their bytes, outer headers not counted.
    pub fn add(&self, way: Way, packets: u64, bytes: u64) {
        let pair = self.pair(way);
        pair.packets.fetch_add(packets, Ordering::Relaxed);
        pair.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Frames and bytes so far.
    pub fn get(&self, way: Way) -> (u64, u64) {
        let pair = self.pair(way);
        (pair.packets.load(Ordering::Relaxed), pair.bytes.load(Ordering::Relaxed))
    }

    fn pair(&self, way: Way) -> &Pair {
        match way {
            Way::Received => &self.received,
            Way::Sent => &self.sent,
        }
    }
}

/// The counters of a port, which its record and the snapshot have between them.
#[derive(Clone, Debug, Default)]
pub struct SharedCounters(pub Arc<InterfaceCounters>);

impl PartialEq for SharedCounters {
    fn eq(&self, other: &SharedCounters) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedCounters {}
