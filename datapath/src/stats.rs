//! What workers count, for other threads to read: per port, per reason of a drop, per outcome of a cache look-up.
//!
//! Every counter has one writer, the worker; totals are sums over workers and are the reader's business. Counts of
//! OpenFlow rules are not here: they go through [`Credit`](crate::Credit).

use crate::drop::Drop;
use base::Counter;
use packet::DpPort;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Frames that ended as dropped, by reason.
#[derive(Debug)]
pub struct DropCounters([Counter; Drop::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        DropCounters([const { Counter::new() }; Drop::ALL.len()])
    }
}

impl DropCounters {
    /// Adds `n` drops. Only the owning worker may call it.
    #[inline]
    pub fn add(&self, reason: Drop, n: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add(n);
        }
    }

    /// Drops for this reason so far.
    pub fn get(&self, reason: Drop) -> u64 {
        self.0.get(reason as usize).map_or(0, Counter::get)
    }

    /// Drops for all reasons.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    /// The reasons with a count other than zero.
    pub fn nonzero(&self) -> impl Iterator<Item = (Drop, u64)> + '_ {
        Drop::ALL.iter().map(|d| (*d, self.get(*d))).filter(|(_, n)| *n != 0)
    }
}

/// What one worker counted for one port. Over all ports and workers, and while no worker is in a step:
/// `rx_packets + injected + clones == tx_packets + punted + drops.total()`.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames received from the device.
    pub rx_packets: Counter,
    /// Bytes received, from the Ethernet header on.
    pub rx_bytes: Counter,
    /// Frames that the device took.
    pub tx_packets: Counter,
    /// Bytes that the device took.
    pub tx_bytes: Counter,
    /// Times that receiving failed as a whole.
    pub rx_errors: Counter,
    /// Times that sending failed as a whole.
    pub tx_errors: Counter,
    /// Frames that entered by command and not from the device, nor as if they did: packet-outs.
    pub injected: Counter,
    /// Copies made of frames that came in here, one for each destination after the first.
    pub clones: Counter,
    /// Copies that the slow path took for a controller, of frames that came in here.
    pub punted: Counter,
    /// Drops. Reasons that concern the egress device (`TxFull`, `TxError`, `TxTooBig`) count at the egress port, all
    /// others at the ingress port.
    pub drops: DropCounters,
}

impl PortCounters {
    fn fields(&self) -> [&Counter; 9] {
        [
            &self.rx_packets,
            &self.rx_bytes,
            &self.tx_packets,
            &self.tx_bytes,
            &self.rx_errors,
            &self.tx_errors,
            &self.injected,
            &self.clones,
            &self.punted,
        ]
    }

    /// Adds what `other` counted. Only the owning worker may call it.
    pub fn absorb(&self, other: &PortCounters) {
        for (mine, theirs) in self.fields().into_iter().zip(other.fields()) {
            mine.add(theirs.get());
        }
        for (reason, n) in other.drops.nonzero() {
            self.drops.add(reason, n);
        }
    }
}

/// What one worker's flow cache counted.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// Frames that found a cached flow that was good.
    pub hits: Counter,
    /// Frames that found none and wanted a translation.
    pub misses: Counter,
    /// Hits on flows stamped with an older revision whose dependencies had not changed.
    pub revalidated: Counter,
    /// Cached flows that were translated anew because a dependency had changed.
    pub retranslated: Counter,
    /// Frames forwarded by a translation that was not kept: not cacheable, or no room.
    pub uncached: Counter,
    /// Cached flows removed to make room for another of the same port.
    pub evicted: Counter,
    /// Cached flows removed by the sweep: idle, or of no use under the current configuration.
    pub expired: Counter,
    /// Frames that went through the cache again under a recirculation id.
    pub recirculated: Counter,
    /// Cached flows now; written by the worker at the end of a step.
    pub flows: Gauge,
}

impl CacheCounters {
    fn absorb(&self, other: &CacheCounters) {
        self.hits.add(other.hits.get());
        self.misses.add(other.misses.get());
        self.revalidated.add(other.revalidated.get());
        self.retranslated.add(other.retranslated.get());
        self.uncached.add(other.uncached.get());
        self.evicted.add(other.evicted.get());
        self.expired.add(other.expired.get());
        self.recirculated.add(other.recirculated.get());
    }
}

/// A number that goes up and down, with a single writer.
#[derive(Debug, Default)]
pub struct Gauge(std::sync::atomic::AtomicU64);

impl Gauge {
    /// Sets the number. Only the owning thread may call it.
    pub fn set(&self, n: u64) {
        self.0.store(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Everything that one worker counts.
#[derive(Debug, Default)]
pub struct WorkerStats {
    /// The flow cache.
    pub cache: CacheCounters,
    /// Steps taken.
    pub steps: Counter,
    /// Fragments that wait for the rest of their packet now: received, and neither sent nor dropped yet.
    pub fragments_held: Gauge,
    /// Frames that came in by command with no port, or with a port that this worker does not have.
    pub portless: Arc<PortCounters>,
    /// Sum of what ports counted that have been removed since.
    pub departed: PortCounters,
    /// A leaf lock: taken by the worker when a port comes or goes, never while frames are forwarded.
    ports: Mutex<BTreeMap<DpPort, Arc<PortCounters>>>,
}

impl WorkerStats {
    fn ports_locked(&self) -> MutexGuard<'_, BTreeMap<DpPort, Arc<PortCounters>>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counters of one port, if the worker has it.
    pub fn port(&self, port: DpPort) -> Option<Arc<PortCounters>> {
        self.ports_locked().get(&port).cloned()
    }

    /// Counters of every port that the worker has.
    pub fn ports(&self) -> Vec<(DpPort, Arc<PortCounters>)> {
        self.ports_locked().iter().map(|(p, c)| (*p, c.clone())).collect()
    }

    /// Sum over all ports, present, departed and none.
    pub fn total(&self) -> PortCounters {
        let total = PortCounters::default();
        total.absorb(&self.portless);
        total.absorb(&self.departed);
        for counters in self.ports_locked().values() {
            total.absorb(counters);
        }
        total
    }

    /// Adds what a worker that has ended counted, port by port. Only for the one owner of sums of such workers.
    pub fn absorb(&self, other: &WorkerStats) {
        self.cache.absorb(&other.cache);
        self.steps.add(other.steps.get());
        self.portless.absorb(&other.portless);
        self.departed.absorb(&other.departed);
        for (port, counters) in other.ports() {
            self.port_added(port).absorb(&counters);
        }
    }

    /// The port is no more; what it counted becomes part of the rest. For the owner of sums.
    pub fn forget_port(&self, port: DpPort) {
        self.port_removed(port);
    }

    pub(crate) fn port_added(&self, port: DpPort) -> Arc<PortCounters> {
        self.ports_locked().entry(port).or_default().clone()
    }

    pub(crate) fn port_removed(&self, port: DpPort) {
        if let Some(counters) = self.ports_locked().remove(&port) {
            self.departed.absorb(&counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_keep_what_departed_ports_counted() {
        let stats = WorkerStats::default();
        let port = stats.port_added(DpPort(3));
        port.rx_packets.add(5);
        port.drops.add(Drop::TableMiss, 2);
        stats.port_removed(DpPort(3));
        assert!(stats.port(DpPort(3)).is_none());
        stats.port_added(DpPort(3)).rx_packets.add(1);
        let total = stats.total();
        assert_eq!((total.rx_packets.get(), total.drops.get(Drop::TableMiss)), (6, 2));
        assert_eq!(total.drops.nonzero().collect::<Vec<_>>(), [(Drop::TableMiss, 2)]);
    }

    #[test]
    fn sums_of_ended_workers_keep_ports_apart() {
        let sums = WorkerStats::default();
        for n in [1, 10] {
            let ended = WorkerStats::default();
            ended.port_added(DpPort(3)).rx_packets.add(n);
            ended.port_added(DpPort(4)).drops.add(Drop::TxFull, n);
            ended.cache.hits.add(n);
            ended.portless.injected.add(n);
            sums.absorb(&ended);
        }
        assert_eq!(sums.port(DpPort(3)).map(|c| c.rx_packets.get()), Some(11));
        assert_eq!(sums.port(DpPort(4)).map(|c| c.drops.get(Drop::TxFull)), Some(11));
        assert_eq!((sums.cache.hits.get(), sums.portless.injected.get()), (11, 11));
        sums.forget_port(DpPort(3));
        assert!(sums.port(DpPort(3)).is_none());
        assert_eq!(sums.total().rx_packets.get(), 11);
    }
}
