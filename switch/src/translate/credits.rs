//! Everybody who is credited for the frames of a translation: as walks note them, and to be kept.

use crate::mac::MacEntry;
use crate::tunnel::InterfaceCounters;
use crate::tunnel::counters::Way;
use crate::underlay::Neighbour;
use base::Instant;
use datapath::{Credit, Creditors};
use flowtable::group::GroupCounters;
use flowtable::{LookupCounters, RuleStats};
use std::sync::Arc;

/// Those who are credited, to be kept.
#[derive(Debug)]
pub struct Credits {
    /// Rules that matched, as often as they did.
    pub rules: Box<[Arc<RuleStats>]>,
    /// Tables asked, and whether they had a rule.
    pub lookups: Box<[(Arc<LookupCounters>, bool)]>,
    /// The others, if there are any.
    pub others: Option<Box<OtherCredits>>,
}

/// Those beside rules and tables, of whom most translations have few.
#[derive(Clone, Debug, Default)]
pub struct OtherCredits {
    /// Source stations.
    pub stations: Vec<Arc<MacEntry>>,
    /// Groups and their buckets, as often as they were passed.
    pub groups: Vec<Arc<GroupCounters>>,
    /// Neighbours that the frames were sent to.
    pub neighbours: Vec<Arc<Neighbour>>,
    /// Tunnels and patches that the frames came out of or went into.
    pub interfaces: Vec<(Arc<InterfaceCounters>, Way)>,
}

static NO_OTHERS: OtherCredits =
    OtherCredits { stations: Vec::new(), groups: Vec::new(), neighbours: Vec::new(), interfaces: Vec::new() };

impl OtherCredits {
    fn is_empty(&self) -> bool {
        let OtherCredits { stations, groups, neighbours, interfaces } = self;
        stations.is_empty() && groups.is_empty() && neighbours.is_empty() && interfaces.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.stations.clear();
        self.groups.clear();
        self.neighbours.clear();
        self.interfaces.clear();
    }
}

/// All of them, wherever they stand.
pub(super) struct Owed<'a, R, L> {
    pub rules: &'a [R],
    pub lookups: &'a [(L, bool)],
    pub others: &'a OtherCredits,
}

impl<R: AsRef<RuleStats>, L: AsRef<LookupCounters>> Owed<'_, R, L> {
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16) {
        let OtherCredits { stations, groups, neighbours, interfaces } = self.others;
        self.rules.iter().for_each(|r| r.as_ref().add(packets, bytes, last_seen));
        let matches = |matched: bool| if matched { packets } else { 0 };
        self.lookups.iter().for_each(|(t, matched)| t.as_ref().add(packets, matches(*matched)));
        groups.iter().for_each(|g| g.add(packets, bytes));
        stations.iter().for_each(|s| s.credit(packets, bytes, last_seen, tcp_flags));
        interfaces.iter().for_each(|(i, way)| i.add(*way, packets, bytes));
        neighbours.iter().for_each(|n| n.credit(packets, bytes, last_seen, tcp_flags));
    }

    fn identify(&self, part: &mut dyn FnMut(u64)) {
        fn list<T>(part: &mut dyn FnMut(u64), all: &[T], number: impl FnMut(&T) -> u64) {
            part(all.len() as u64);
            all.iter().map(number).for_each(part);
        }
        fn address<T>(of: &T) -> u64 {
            std::ptr::from_ref(of).addr() as u64
        }
        // None of these is aligned to less than two bytes, so one bit is free.
        list(part, self.rules, |rule| address(rule.as_ref()));
        list(part, self.lookups, |(table, matched)| address(table.as_ref()) | u64::from(*matched));
        if self.others.is_empty() {
            return;
        }
        let OtherCredits { stations, groups, neighbours, interfaces } = self.others;
        list(part, stations, |station| address(&**station));
        list(part, groups, |group| address(&**group));
        list(part, neighbours, |neighbour| address(&**neighbour));
        list(part, interfaces, |(interface, way)| address(&**interface) | u64::from(*way == Way::Sent));
    }
}

impl Credits {
    fn owed(&self) -> Owed<'_, Arc<RuleStats>, Arc<LookupCounters>> {
        Owed {
            rules: &self.rules,
            lookups: &self.lookups,
            others: self.others.as_deref().unwrap_or(&NO_OTHERS),
        }
    }
}

impl Credit for Credits {
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16) {
        self.owed().credit(packets, bytes, last_seen, tcp_flags);
    }

    fn identify(&self, part: &mut dyn FnMut(u64)) {
        self.owed().identify(part);
    }
}

impl Creditors for Owed<'_, &Arc<RuleStats>, &Arc<LookupCounters>> {
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16) {
        Owed::credit(self, packets, bytes, last_seen, tcp_flags);
    }

    fn identify(&self, part: &mut dyn FnMut(u64)) {
        Owed::identify(self, part);
    }

    fn keep(&self) -> Box<[Arc<dyn Credit>]> {
        let rules = self.rules.iter().map(|r| Arc::clone(r)).collect();
        let lookups = self.lookups.iter().map(|(table, matched)| (Arc::clone(table), *matched)).collect();
        let others = (!self.others.is_empty()).then(|| Box::new(self.others.clone()));
        Box::new([Arc::new(Credits { rules, lookups, others })])
    }
}
