//! What commands, statistics and OpenFlow are shown of ports and counters.

use super::Daemon;
use datapath::Drop;
use packet::DpPort;
use std::collections::BTreeMap;
use switch::bridge::Device;
use switch::config::{InterfaceConfig, InterfaceKind, RxQueues};
use switch::ofproto::{PortCounters, PortRecord};

/// A reason for which frames of a port were dropped, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropTotal {
    /// Name of the port; empty for frames of none.
    pub port: String,
    /// Why.
    pub reason: Drop,
    /// How many.
    pub count: u64,
}

/// How many cached flows there were of late, as `upcall/show` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Running mean, in which each sample counts as much as all before.
    pub average: u64,
    /// The most.
    pub most: u64,
}

impl FlowCounts {
    fn sample(&mut self, flows: u64) {
        self.average = (self.average + flows) / 2;
        self.most = self.most.max(flows);
    }
}

impl Daemon {
    /// A port by number, or by name.
    pub fn port_label(&self, port: DpPort, by_name: bool) -> String {
        let name = || self.devices.open().find(|(_, p, ..)| *p == port).map(|(n, ..)| n.to_owned());
        by_name.then(name).flatten().unwrap_or_else(|| port.to_string())
    }

    /// Names of the ports in the datapath.
    pub fn port_names(&self) -> BTreeMap<DpPort, String> {
        self.devices.open().map(|(name, port, ..)| (port, name.to_owned())).collect()
    }

    /// Number of a port in the datapath by the name of its interface.
    pub fn port_named(&self, name: &str) -> Option<u32> {
        self.devices.get(name).map(|(port, _)| port.0)
    }

    /// Number of a port in the datapath and what it is, for dpif/show.
    pub fn port_text(&self, port: &PortRecord) -> (String, String) {
        let kind = || self.kind_text(&port.name);
        match &port.device {
            Device::Patch(_) => ("none".to_owned(), kind()),
            Device::Tunnel { socket, .. } => (socket.to_string(), kind()),
            Device::Datapath(dp) => (dp.to_string(), kind()),
        }
    }

    /// What an interface is: its type, and how it is configured where ovs-vswitchd tells that too.
    fn kind_text(&self, name: &str) -> String {
        let Some(interface) = self.interface(name) else { return "system".to_owned() };
        let kind = &interface.type_name;
        match &interface.kind {
            InterfaceKind::Patch { peer } => format!("patch: peer={peer}"),
            InterfaceKind::Tunnel(tunnel) => tunnel.describe(),
            InterfaceKind::AfXdp(options) => {
                let in_use = self.devices.report(name).and_then(|report| report.xdp_mode);
                let in_use = in_use.map(|mode| format!(", xdp-mode-in-use={mode}"));
                format!("{kind}: {options}{}", in_use.unwrap_or_default())
            }
            InterfaceKind::Tap if interface.rx_queues != RxQueues::Default => {
                format!("{kind}: n_rxq={}", self.devices.side_count(name))
            }
            _ => kind.clone(),
        }
    }

    /// What a device of the datapath is, for dpctl/show: an interface, or what tunnels share.
    pub fn device_text(&self, name: &str) -> String {
        self.socket_kind(name).map_or_else(|| self.kind_text(name), str::to_owned)
    }

    /// Whether an interface is configured.
    pub fn has_interface(&self, name: &str) -> bool {
        self.interface(name).is_some()
    }

    /// The settings of an interface.
    pub(super) fn interface(&self, name: &str) -> Option<&InterfaceConfig> {
        let mut ports = self.config.bridges.values().flat_map(|b| b.ports.values());
        ports.find_map(|p| p.interfaces.get(name))
    }

    /// Most cached flows of a worker.
    pub fn flow_limit(&self) -> usize {
        self.flow_limit_set.unwrap_or(self.config.cache.flow_limit)
    }

    /// `upcall/set-flow-limit`: until the database says something else.
    pub fn set_flow_limit(&mut self, limit: usize) {
        self.flow_limit_set = Some(limit);
        self.configure_workers();
    }

    /// Counters of a port over all workers.
    pub fn counters_of(&self, port: &PortRecord) -> PortCounters {
        let dp = match port.device {
            Device::Datapath(dp) => dp,
            Device::Tunnel { .. } => return self.brain.tunnel_counters(&port.name),
            Device::Patch(_) => return port.counters_of_patch(),
        };
        self.device_counters(&port.name, dp)
    }

    /// Counters of a device of the datapath over all workers.
    pub fn device_counters(&self, name: &str, port: DpPort) -> PortCounters {
        let mut sum = PortCounters::default();
        for stats in self.workers.stats() {
            if let Some(c) = stats.port(port) {
                add(&mut sum, &c);
            }
        }
        sum.rx_dropped += self.devices.lost(name);
        sum
    }

    /// Counters of all ports.
    pub(super) fn all_counters(&self) -> BTreeMap<DpPort, PortCounters> {
        let mut all = BTreeMap::new();
        for bridge in self.brain.bridges() {
            for port in bridge.ports.values() {
                if let Device::Datapath(dp) = port.device {
                    all.insert(dp, self.counters_of(port));
                }
            }
        }
        all
    }

    /// Drops by port and reason, over all workers; those that happened.
    pub fn drop_totals(&self) -> Vec<DropTotal> {
        let mut totals: BTreeMap<(String, Drop), u64> = BTreeMap::new();
        for stats in self.workers.stats() {
            for (port, counters) in stats.ports() {
                let name = if port == DpPort::NONE { String::new() } else { self.port_label(port, true) };
                for (reason, count) in counters.drops.nonzero() {
                    *totals.entry((name.clone(), reason)).or_default() += count;
                }
            }
        }
        totals.into_iter().map(|((port, reason), count)| DropTotal { port, reason, count }).collect()
    }

    /// Takes samples for `coverage/show` and `upcall/show`.
    pub(super) fn sample_events(&mut self) {
        let totals = self.coverage();
        self.rates.sample(&totals);
        let flows: u64 = self.workers.stats().map(|s| s.cache.flows.get()).sum();
        self.flow_counts.sample(flows);
    }

    /// `coverage/show`.
    pub fn coverage_text(&self) -> String {
        self.rates.show(&self.coverage())
    }

    /// Event counters, summed over workers.
    pub fn coverage(&self) -> Vec<(&'static str, u64)> {
        let sum = |read: fn(&datapath::WorkerStats) -> u64| self.workers.stats().map(read).sum();
        let mut all: Vec<(&'static str, u64)> = vec![
            ("worker_step", sum(|s| s.steps.get())),
            ("cache_hit", sum(|s| s.cache.hits.get())),
            ("cache_miss", sum(|s| s.cache.misses.get())),
            ("cache_revalidated", sum(|s| s.cache.revalidated.get())),
            ("cache_retranslated", sum(|s| s.cache.retranslated.get())),
            ("cache_uncached", sum(|s| s.cache.uncached.get())),
            ("cache_evicted", sum(|s| s.cache.evicted.get())),
            ("cache_expired", sum(|s| s.cache.expired.get())),
            ("recirculated", sum(|s| s.cache.recirculated.get())),
        ];
        let connections = self.connections.tracker().totals();
        all.extend([
            ("conntrack_created", connections.created),
            ("conntrack_expired", connections.expired),
            ("conntrack_evicted", connections.evicted),
            ("conntrack_full", connections.full),
            ("conntrack_invalid", connections.invalid),
            ("conntrack_nat_exhausted", connections.nat_exhausted),
        ]);
        for reason in Drop::ALL {
            all.push((reason.name(), self.workers.stats().map(|s| s.total().drops.get(*reason)).sum()));
        }
        all
    }

    /// OpenFlow connections and database sessions.
    pub fn connection_counts(&mut self) -> (usize, usize) {
        let sessions = self.link.server_mut().map_or(0, |s| s.session_count());
        (self.sockets.openflow_count(), sessions)
    }
}

fn add(sum: &mut PortCounters, c: &datapath::PortCounters) {
    sum.rx_packets += c.rx_packets.get();
    sum.rx_bytes += c.rx_bytes.get();
    sum.rx_dropped += c.drops.get(Drop::MissCredit);
    sum.rx_errors += c.rx_errors.get() + c.drops.get(Drop::TooShort) + c.drops.get(Drop::BadOffload);
    sum.tx_packets += c.tx_packets.get();
    sum.tx_bytes += c.tx_bytes.get();
    // As in OVS, what a device refuses, most of all because it is down, is no error.
    let dropped = [Drop::TxFull, Drop::TxDown, Drop::TxError, Drop::TxTooBig, Drop::NoPort];
    sum.tx_dropped += dropped.into_iter().map(|reason| c.drops.get(reason)).sum::<u64>();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_counts_have_a_mean_and_a_maximum() {
        let mut counts = FlowCounts::default();
        for flows in [8, 0, 6] {
            counts.sample(flows);
        }
        assert_eq!(counts, FlowCounts { average: 4, most: 8 });
    }
}
