//! The ports that one worker knows: where it sends to, what it counts there, what each may still ask of the slow path.

use crate::budget::{MissBudget, MissLimits};
use crate::cache::PortShare;
use crate::command::Event;
use crate::drop::Drop;
use crate::port::{PortError, Tx, TxLost};
use crate::stats::{PortCounters, WorkerStats};
use base::{HashSeed, Instant};
use hashbrown::HashTable;
use packet::{DpPort, Frame, FramePool};
use std::sync::Arc;

/// Index of a port in a worker's table; good until the port is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortIndex(u32);

impl PortIndex {
    /// Stands for frames that came from no port, and for ports that the worker does not have.
    pub const PORTLESS: PortIndex = PortIndex(0);
}

pub(crate) struct PortEntry {
    pub port: DpPort,
    pub counters: Arc<PortCounters>,
    pub share: PortShare,
    /// Number of receiving sides that this worker has of the port.
    pub receivers: u32,
    /// How many of them are busy (`worker::turns`).
    pub busy: u32,
    budget: MissBudget,
    tx: Option<Box<dyn Tx>>,
    /// Frames and bytes given to `tx` since its last flush.
    pending: (u64, u64),
    /// Whether the last flush failed, so that a failure that lasts is reported once.
    failing: bool,
}

/// Ports with numbers below this are found by their number, others by hash.
const NUMBERS_MAX: u32 = 65_536;

pub(crate) struct Ports {
    entries: Vec<Option<PortEntry>>,
    /// By port number; `PORTLESS` where there is no port.
    by_number: Vec<PortIndex>,
    /// Ports from `NUMBERS_MAX` on.
    index: HashTable<(DpPort, PortIndex)>,
    seed: HashSeed,
    limits: MissLimits,
    /// Ports with frames that are not flushed; has room for all ports.
    unflushed: Vec<PortIndex>,
}

impl Ports {
    pub fn new(seed: HashSeed, limits: MissLimits, stats: &WorkerStats, portless: PortShare) -> Self {
        let mut ports = Ports {
            entries: Vec::new(),
            by_number: Vec::new(),
            index: HashTable::new(),
            seed,
            limits,
            unflushed: Vec::with_capacity(64),
        };
        ports.insert(DpPort::NONE, portless, stats.portless.clone());
        ports
    }

    fn hash(&self, port: DpPort) -> u64 {
        self.seed.hash([port.0 as u64])
    }

    #[inline]
    pub fn find(&self, port: DpPort) -> Option<PortIndex> {
        match self.by_number.get(port.0 as usize) {
            Some(&index) => (index != PortIndex::PORTLESS).then_some(index),
            None => self.find_hashed(port),
        }
    }

    #[cold]
    fn find_hashed(&self, port: DpPort) -> Option<PortIndex> {
        self.index.find(self.hash(port), |(p, _)| *p == port).map(|(_, i)| *i)
    }

    pub fn get(&self, index: PortIndex) -> Option<&PortEntry> {
        self.entries.get(index.0 as usize)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, index: PortIndex) -> Option<&mut PortEntry> {
        self.entries.get_mut(index.0 as usize)?.as_mut()
    }

    /// Adds a port that is not there.
    pub fn insert(&mut self, port: DpPort, share: PortShare, counters: Arc<PortCounters>) -> PortIndex {
        let free = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        let entry = Some(PortEntry {
            port,
            counters,
            share,
            receivers: 0,
            busy: 0,
            budget: MissBudget::new(self.limits),
            tx: None,
            pending: (0, 0),
            failing: false,
        });
        match self.entries.get_mut(free) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        let index = PortIndex(free as u32);
        self.set_index(port, Some(index));
        self.unflushed.reserve(self.entries.len());
        index
    }

    /// Notes where a port stands, which before stood nowhere, or that it is gone.
    fn set_index(&mut self, port: DpPort, index: Option<PortIndex>) {
        if port.0 < NUMBERS_MAX {
            let at = port.0 as usize;
            if self.by_number.len() <= at {
                self.by_number.resize(at + 1, PortIndex::PORTLESS);
            }
            if let Some(place) = self.by_number.get_mut(at) {
                *place = index.unwrap_or(PortIndex::PORTLESS);
            }
            return;
        }
        let (hash, seed) = (self.hash(port), self.seed);
        match index {
            Some(index) => {
                self.index.insert_unique(hash, (port, index), |(p, _)| seed.hash([p.0 as u64]));
            }
            None => {
                if let Ok(found) = self.index.find_entry(hash, |(p, _)| *p == port) {
                    found.remove();
                }
            }
        }
    }

    /// Takes out a port that neither sends nor receives any more; its share must then be given back.
    pub fn remove_unused(&mut self, index: PortIndex) -> Option<(DpPort, PortShare)> {
        let entry = self.get(index)?;
        if entry.tx.is_some() || entry.receivers > 0 || index == PortIndex::PORTLESS {
            return None;
        }
        let (port, share) = (entry.port, entry.share);
        self.set_index(port, None);
        *self.entries.get_mut(index.0 as usize)? = None;
        self.unflushed.retain(|i| *i != index);
        Some((port, share))
    }

    /// Sets or takes away the sending side; the one before is returned.
    pub fn set_tx(&mut self, index: PortIndex, tx: Option<Box<dyn Tx>>) -> Option<Box<dyn Tx>> {
        let entry = self.get_mut(index)?;
        entry.failing = false;
        std::mem::replace(&mut entry.tx, tx)
    }

    pub fn set_limits(&mut self, limits: MissLimits) {
        if limits == self.limits {
            return;
        }
        self.limits = limits;
        for entry in self.entries.iter_mut().flatten() {
            entry.budget = MissBudget::new(limits);
        }
    }

    #[inline]
    pub fn counters(&self, index: PortIndex) -> Option<&PortCounters> {
        self.get(index).map(|entry| &*entry.counters)
    }

    #[inline]
    pub fn drop_at(&self, index: PortIndex, reason: Drop) {
        if let Some(counters) = self.counters(index) {
            counters.drops.add(reason, 1);
        }
    }

    pub fn share(&self, index: PortIndex) -> Option<PortShare> {
        self.get(index).map(|entry| entry.share)
    }

    /// Grants each port as many flow set-ups beyond its budget as it has cached flows.
    pub fn grant(&mut self, flows: impl Fn(PortShare) -> usize) {
        for entry in self.entries.iter_mut().flatten() {
            entry.budget.grant(flows(entry.share) as u64);
        }
    }

    /// Grants one port so many flow set-ups beyond its budget.
    pub fn grant_at_least(&mut self, index: PortIndex, flows: u64) {
        if let Some(entry) = self.get_mut(index) {
            entry.budget.grant_at_least(flows);
        }
    }

    pub fn take_credit(&mut self, index: PortIndex, now: Instant) -> bool {
        self.get_mut(index).is_some_and(|entry| entry.budget.take(now))
    }

    /// Gives a frame to the sending side of `port`, and counts where it ended if that is not where it ends.
    #[inline]
    pub fn send(&mut self, port: DpPort, frame: Frame, ingress: PortIndex, pool: &mut FramePool) {
        let found = self.find(port);
        let egress = found.and_then(|i| self.entries.get_mut(i.0 as usize)?.as_mut().map(|e| (i, e)));
        let Some((index, PortEntry { tx: Some(tx), pending, counters, .. })) = egress else {
            pool.give(frame);
            self.drop_at(ingress, Drop::NoPort);
            return;
        };
        let bytes = frame.len() as u64;
        if pending.0 == 0 && self.unflushed.last() != Some(&index) && !self.unflushed.contains(&index) {
            self.unflushed.push(index);
        }
        match tx.send(frame, pool) {
            Ok(()) => {
                pending.0 += 1;
                pending.1 += bytes;
            }
            Err((frame, reason)) => {
                pool.give(frame);
                counters.drops.add(reason, 1);
            }
        }
    }

    /// Whether `port` cuts what is inside tunnel packets (`Tx::cuts_in_tunnels`).
    pub fn cuts_in_tunnels(&self, port: DpPort) -> bool {
        let entry = self.find(port).and_then(|index| self.get(index));
        entry.and_then(|entry| entry.tx.as_ref()).is_some_and(|tx| tx.cuts_in_tunnels())
    }

    /// Whether a port that is not busy itself waits to be flushed.
    pub fn is_quiet_one_unflushed(&self) -> bool {
        self.unflushed
            .iter()
            .any(|i| self.get(*i).is_some_and(|entry| entry.busy == 0 && entry.pending.0 > 0))
    }

    /// Flushes every port that was given frames. Ports whose device is gone lose their sending side; those whose device had no
    /// room are flushed again the next time.
    pub fn flush(&mut self, pool: &mut FramePool, events: &mut Vec<Event>) {
        let mut kept = 0;
        for at in 0..self.unflushed.len() {
            let Some(entry) = self.unflushed.get(at).copied().and_then(|i| self.get_mut(i)) else { continue };
            flush_port(entry, pool, events);
            if entry.tx.as_ref().is_some_and(|tx| tx.has_rest()) {
                self.unflushed.swap(at, kept);
                kept += 1;
            }
        }
        self.unflushed.truncate(kept);
    }

    /// Whether a port waits to be flushed: after a flush, whether a device had no room.
    pub fn is_any_unflushed(&self) -> bool {
        !self.unflushed.is_empty()
    }
}

fn flush_port(entry: &mut PortEntry, pool: &mut FramePool, events: &mut Vec<Event>) {
    let Some(tx) = entry.tx.as_mut() else { return };
    let result = tx.flush(pool);
    let (mut frames, mut bytes) = std::mem::take(&mut entry.pending);
    while let Some(TxLost { frames: lost_frames, bytes: lost_bytes, reason }) = tx.take_lost() {
        let lost_frames = lost_frames.min(frames);
        frames -= lost_frames;
        bytes = bytes.saturating_sub(lost_bytes);
        entry.counters.drops.add(reason, lost_frames);
    }
    entry.counters.tx_packets.add(frames);
    entry.counters.tx_bytes.add(bytes);
    let Err(error) = result else {
        entry.failing = false;
        return;
    };
    entry.counters.tx_errors.add(1);
    let gone = matches!(error, PortError::Gone);
    if gone {
        entry.tx = None;
    }
    if gone || !entry.failing {
        events.push(Event::TxFailed { port: entry.port, error });
    }
    entry.failing = true;
}
