//! What tunnel interfaces count: the datapath counts for the port that they share, so each is credited as rules are.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which way frames went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Out of the tunnel.
    Received,
    /// Into it.
    Sent,
}

/// Frames of one tunnel interface, in and out. Written by workers when they fold their counts.
#[derive(Debug, Default)]
pub struct TunnelCounters {
    received: Pair,
    sent: Pair,
}

#[derive(Debug, Default)]
struct Pair {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl TunnelCounters {
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
