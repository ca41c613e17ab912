//! Who holds how much: usage in total, of each ingress port and of each source, and whose oldest datagram is next to go.

use std::collections::{BTreeMap, BTreeSet};

use packet::DpPort;

use super::limits::{FragmentBudget, FragmentLimits};

/// Who answers for a datagram: an address at an ingress port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Source {
    pub port: DpPort,
    pub is_ipv4: bool,
    /// The address; one of IPv4 in the low 32 bits.
    pub address: u128,
}

/// What is held, or is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    pub datagrams: usize,
    pub fragments: usize,
    pub bytes: usize,
}

impl Usage {
    fn add(&mut self, more: Usage) {
        self.datagrams += more.datagrams;
        self.fragments += more.fragments;
        self.bytes += more.bytes;
    }

    fn subtract(&mut self, less: Usage) {
        self.datagrams = self.datagrams.saturating_sub(less.datagrams);
        self.fragments = self.fragments.saturating_sub(less.fragments);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }

    fn fits(mut self, more: Usage, budget: &FragmentBudget) -> bool {
        self.add(more);
        self.datagrams <= budget.datagrams && self.fragments <= budget.fragments && self.bytes <= budget.bytes
    }

    /// The largest part that is used of any of the three limits, in 1/65536.
    fn part_of(&self, budget: &FragmentBudget) -> usize {
        let part = |used: usize, limit: usize| used.saturating_mul(1 << 16) / limit.max(1);
        part(self.datagrams, budget.datagrams)
            .max(part(self.fragments, budget.fragments))
            .max(part(self.bytes, budget.bytes))
    }
}

/// All usage. Datagrams are known by serial numbers, which grow with time.
#[derive(Debug, Default)]
pub(super) struct Shares {
    total: Usage,
    ports: BTreeMap<DpPort, Usage>,
    sources: BTreeMap<Source, Usage>,
    by_port: BTreeSet<(DpPort, u64)>,
    by_source: BTreeSet<(Source, u64)>,
}

impl Shares {
    pub fn total(&self) -> Usage {
        self.total
    }

    /// Adds a datagram, and what it uses.
    pub fn enter(&mut self, source: Source, serial: u64, usage: Usage) {
        self.by_port.insert((source.port, serial));
        self.by_source.insert((source, serial));
        self.charge(source, usage);
    }

    /// Removes a datagram, and what it used.
    pub fn leave(&mut self, source: Source, serial: u64, usage: Usage) {
        self.by_port.remove(&(source.port, serial));
        self.by_source.remove(&(source, serial));
        self.credit(source, usage);
    }

    /// A datagram uses more.
    pub fn charge(&mut self, source: Source, usage: Usage) {
        self.total.add(usage);
        self.ports.entry(source.port).or_default().add(usage);
        self.sources.entry(source).or_default().add(usage);
    }

    /// A datagram uses less. Ports and sources that hold nothing are forgotten, so there are never more than datagrams.
    pub fn credit(&mut self, source: Source, usage: Usage) {
        self.total.subtract(usage);
        if let Some(port) = self.ports.get_mut(&source.port) {
            port.subtract(usage);
            if *port == Usage::default() {
                self.ports.remove(&source.port);
            }
        }
        if let Some(address) = self.sources.get_mut(&source) {
            address.subtract(usage);
            if *address == Usage::default() {
                self.sources.remove(&source);
            }
        }
    }

    /// The datagram that must go before `source` may use `more`, if one must; `None` if there is room. The answer may be
    /// the datagram that is to grow.
    pub fn victim(&self, source: Source, more: Usage, limits: &FragmentLimits) -> Option<u64> {
        let of_source = self.sources.get(&source).copied().unwrap_or_default();
        if !of_source.fits(more, &limits.source) {
            return Some(self.oldest_of_source(source));
        }
        let of_port = self.ports.get(&source.port).copied().unwrap_or_default();
        if !of_port.fits(more, &limits.port) {
            return Some(self.oldest_of_port(source.port));
        }
        self.surplus(more, limits)
    }

    /// The oldest datagram of the port that holds most, if all together is more than allowed once `more` is added. Looks at
    /// each port that holds something, which are at most as many as datagrams.
    pub fn surplus(&self, more: Usage, limits: &FragmentLimits) -> Option<u64> {
        if self.total.fits(more, &limits.total) {
            return None;
        }
        let fullest = self.ports.iter().max_by_key(|(_, usage)| usage.part_of(&limits.total));
        Some(fullest.map_or(NO_SERIAL, |(port, _)| self.oldest_of_port(*port)))
    }

    fn oldest_of_source(&self, source: Source) -> u64 {
        let mut of_source = self.by_source.range((source, 0)..=(source, u64::MAX));
        of_source.next().map_or(NO_SERIAL, |(_, serial)| *serial)
    }

    fn oldest_of_port(&self, port: DpPort) -> u64 {
        let mut of_port = self.by_port.range((port, 0)..=(port, u64::MAX));
        of_port.next().map_or(NO_SERIAL, |(_, serial)| *serial)
    }
}

/// The serial of no datagram: there is no room, and nobody to make some.
pub(super) const NO_SERIAL: u64 = u64::MAX;
