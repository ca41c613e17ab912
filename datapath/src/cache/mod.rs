//! The flow cache of one worker: exact match on `key & profile`, one table per profile, one look-up per frame.
//!
//! A cached flow is a memo of `SlowPath::translate`; whether it is still good is for the worker to ask (`worker::forward`).
//! What the cache looks flows up by follows from the configuration's profiles alone, so traffic cannot make a look-up
//! dearer. Room is divided so that no port can take it from another: half of it is guaranteed in equal parts, the other
//! half goes to whoever comes first, and a port that may not have more must evict one of its own flows or do without.
//!
//! Not here: wildcards, eviction for another port's sake.

#![warn(clippy::indexing_slicing)]

pub(crate) mod chain;
mod chains;
pub(crate) mod entry;
mod era;
mod flows;
mod index;
pub(crate) mod memo;
pub(crate) mod share;
mod sweep;
pub(crate) mod table;

pub use chain::CHAIN_LINKS_MAX;
pub(crate) use chain::{Chain, Link, ends_in_pass};
pub(crate) use entry::{NewFlow, OnlyStep};
pub(crate) use era::{Millis, Stamp};
pub use memo::CACHE_MEMOS_MAX;
pub(crate) use memo::Memo;
pub(crate) use share::PortShare;
pub(crate) use table::{FlowSlot, MaskedKey};

use crate::action::Program;
use crate::slowpath::{Draft, Profile, ProfileId, Revision, SlowPath};
use base::{HashSeed, Instant};
use entry::{Flow, FlowRecord};
use era::Eras;
use flowtable::Mask;
use memo::Memos;
use packet::PacketKey;
use share::{FlowRef, Shares};
use std::sync::Arc;
use std::time::Duration;
use sweep::Sweep;
use table::ProfileTable;

/// Cached flows a worker, unless configured otherwise (OVS's default `flow-limit`).
pub const CACHE_FLOWS_DEFAULT: u32 = 200_000;
/// Cached flows a port and worker, unless configured otherwise: a direction of a tracked connection is a flow, and a port may be
/// the way to another node.
pub const CACHE_FLOWS_PER_PORT_DEFAULT: u32 = CACHE_FLOWS_DEFAULT / 2;
/// Most cached flows that a worker can be configured to hold.
pub const CACHE_FLOWS_MAX: u32 = 16_777_216;
/// Most profiles that a worker caches flows of at a time; flows of further ones are forwarded uncached.
pub const CACHE_PROFILES_MAX: usize = 64;
/// Cached flows of the same port looked at to find one to evict.
pub const CACHE_EVICT_SCAN_MAX: usize = 16;
/// A flow of more than one frame is evicted only after this time without a frame.
pub const CACHE_EVICT_IDLE: Duration = Duration::from_secs(1);
/// Cached flows from which on their lines are asked for while other frames of a batch are handled: the lines of fewer stay in the
/// processor's inner caches.
pub const CACHE_PREFETCH_MIN: usize = 2_048;
/// Slots that one sweep visits.
pub const CACHE_SWEEP_MAX: usize = 1_024;
/// Time after which a flow without a frame expires, unless configured otherwise (OVS's default `max-idle`).
pub const CACHE_IDLE_DEFAULT: Duration = Duration::from_secs(10);
/// Longest such time, 24 days and 20½ hours: how long ago a frame was is known for so long (`cache::era`).
pub const CACHE_IDLE_MAX: Duration = era::SPAN;
/// Flows in one answer to a dump request.
pub const DUMP_FLOWS_MAX: usize = 1_024;

/// Bounds of a worker's flow cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheLimits {
    /// Cached flows in all, at most [`CACHE_FLOWS_MAX`]. 0 turns caching off.
    pub flows: u32,
    /// Cached flows of one ingress port.
    pub flows_per_port: u32,
    /// Time after which a flow without a frame expires (`other_config:max-idle`), at most [`CACHE_IDLE_MAX`].
    pub idle: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        CacheLimits {
            flows: CACHE_FLOWS_DEFAULT,
            flows_per_port: CACHE_FLOWS_PER_PORT_DEFAULT,
            idle: CACHE_IDLE_DEFAULT,
        }
    }
}

/// One cached flow as `dpctl/dump-flows` shows it.
#[derive(Clone, Debug)]
pub struct CachedFlow {
    /// The profile under which it is cached.
    pub profile: ProfileId,
    /// That profile's bits.
    pub mask: Mask<PacketKey>,
    /// The key, with no bit outside the mask.
    pub key: PacketKey,
    /// What is done with its frames.
    pub program: Arc<Program>,
    /// Frames since it was first cached.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// TCP flags seen since it has had its program, or-ed together.
    pub tcp_flags: u16,
    /// When its last frame came, in whole milliseconds.
    pub last_seen: Instant,
}

/// Where a dump goes on. The default is the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DumpCursor {
    table: usize,
    slot: usize,
}

/// A part of a dump. Flows that come or go between two parts may or may not be shown; no other is left out or doubled.
#[derive(Clone, Debug, Default)]
pub struct FlowDump {
    /// At most [`DUMP_FLOWS_MAX`] flows.
    pub flows: Vec<CachedFlow>,
    /// Where to go on; `None` at the end.
    pub next: Option<DumpCursor>,
}

/// Index of a profile's table in the cache; good until the next sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TableIndex(pub u16);

/// Where a flow is to be cached.
#[derive(Clone, Copy)]
pub(crate) struct Vacancy<'a> {
    pub table: TableIndex,
    /// What [`FlowCache::masked`] said of the key and this table.
    pub masked: &'a MaskedKey,
    pub key: &'a PacketKey,
    /// Whose share it is counted in.
    pub share: PortShare,
}

/// Where a flow was cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    pub slot: FlowSlot,
    /// Flows of the same port that had to go.
    pub evicted: u64,
}

pub(crate) struct FlowCache {
    seed: HashSeed,
    limits: CacheLimits,
    tables: Vec<Option<ProfileTable>>,
    shares: Shares,
    memos: Memos,
    flows: usize,
    /// What stamps and times of flows are short for.
    eras: Eras,
    /// Flows removed so far: while it stays, a place stays that of the same flow.
    removals: u64,
    sweep: Sweep,
}

impl FlowCache {
    pub fn new(seed: HashSeed, limits: CacheLimits) -> Self {
        let mut cache = FlowCache {
            seed,
            limits,
            tables: Vec::new(),
            shares: Shares::default(),
            memos: Memos::new(seed),
            flows: 0,
            eras: Eras::default(),
            removals: 0,
            sweep: Sweep::default(),
        };
        cache.set_limits(limits);
        cache
    }

    /// Flows beyond lowered limits leave as they idle or are evicted, not at once.
    pub fn set_limits(&mut self, limits: CacheLimits) {
        self.limits = CacheLimits { flows: limits.flows.min(CACHE_FLOWS_MAX), ..limits };
        self.shares.set_limits(self.limits.flows, self.limits.flows_per_port);
    }

    /// The present, as flows have it: to be asked whenever another revision or time is read.
    #[inline]
    pub fn present(&mut self, revision: Revision, now: Instant) -> (Stamp, Millis) {
        let eras = self.eras.later(Eras::of(revision, now));
        if eras != self.eras {
            self.begin_eras(eras);
        }
        (self.eras.stamp(revision), self.eras.millis(now))
    }

    /// Once in 2³¹ revisions, and once in 24 days.
    #[cold]
    fn begin_eras(&mut self, eras: Eras) {
        self.tables.iter_mut().flatten().for_each(|table| table.begin_eras(eras));
        self.eras = eras;
    }

    /// Number of cached flows.
    pub fn len(&self) -> usize {
        self.flows
    }

    /// A share of the room for one more ingress port.
    pub fn add_share(&mut self) -> PortShare {
        self.shares.add()
    }

    /// Removes a port's flows and gives its share back.
    pub fn remove_share(&mut self, share: PortShare) {
        self.flush_share(share);
        self.shares.remove(share);
    }

    /// Number of a port's cached flows.
    pub fn share_len(&self, share: PortShare) -> usize {
        self.shares.len(share)
    }

    /// The table of a profile, if there is one.
    pub fn table(&self, profile: &Profile) -> Option<TableIndex> {
        let same = |t: &Option<ProfileTable>| t.as_ref().is_some_and(|t| t.id == profile.id);
        self.tables.iter().position(same).map(|i| TableIndex(i as u16))
    }

    /// Makes the table of a profile that has none. `None`: too many profiles.
    pub fn add_table(&mut self, profile: &Profile) -> Option<TableIndex> {
        let table = Some(ProfileTable::new(profile, self.eras));
        if let Some(i) = self.tables.iter().position(Option::is_none) {
            *self.tables.get_mut(i)? = table;
            return Some(TableIndex(i as u16));
        }
        if self.tables.len() >= CACHE_PROFILES_MAX {
            return None;
        }
        self.tables.push(table);
        Some(TableIndex(self.tables.len() as u16 - 1))
    }

    #[inline]
    fn at(&self, table: TableIndex) -> Option<&ProfileTable> {
        self.tables.get(table.0 as usize)?.as_ref()
    }

    #[inline]
    fn at_mut(&mut self, table: TableIndex) -> Option<&mut ProfileTable> {
        self.tables.get_mut(table.0 as usize)?.as_mut()
    }

    /// What the flow of a key is looked up by in a table.
    #[inline]
    pub fn masked(&self, table: TableIndex, key: &PacketKey, into: &mut MaskedKey) {
        if let Some(table) = self.at(table) {
            table.masked(self.seed, key, into);
        }
    }

    /// Whether there are so many flows that their lines are seldom near.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.flows >= CACHE_PREFETCH_MIN
    }

    /// Has the line of the index fetched that tells where a flow stands.
    #[inline]
    pub fn prefetch_index(&self, table: TableIndex, by: &MaskedKey) {
        if let Some(table) = self.at(table) {
            table.prefetch_index(by.hash);
        }
    }

    /// Where the flow that is probably meant is cached, as the index tells; has its lines fetched.
    #[inline]
    pub fn candidate(&self, table: TableIndex, by: &MaskedKey) -> Option<FlowSlot> {
        self.at(table)?.candidate(by.hash)
    }

    /// The flow of a key, which is probably the candidate, and its chain. Has fetched what else a hit needs if there is none.
    #[inline]
    pub fn confirm(
        &self,
        table: TableIndex,
        candidate: Option<FlowSlot>,
        key: &PacketKey,
        by: &MaskedKey,
    ) -> Option<(FlowSlot, Option<&Chain>)> {
        let table = self.at(table)?;
        let slot = match candidate {
            Some(slot) if table.is(slot, key, by) => slot,
            _ => table.find_elsewhere(key, by)?,
        };
        let chain = table.chain(slot);
        if chain.is_none() {
            table.prefetch_record(slot);
        }
        Some((slot, chain))
    }

    /// Where the flow of a key is cached, which is often the one that was looked up last. `by` as in [`FlowCache::find`].
    #[inline]
    pub fn look_up(&mut self, table: TableIndex, key: &PacketKey, by: &MaskedKey) -> Option<FlowSlot> {
        self.at_mut(table)?.look_up(key, by)
    }

    /// Where the flow of a key is cached. `by` is what [`FlowCache::masked`] said of the key and this table.
    #[inline]
    pub fn find(&self, table: TableIndex, key: &PacketKey, by: &MaskedKey) -> Option<FlowSlot> {
        self.at(table)?.find(key, by)
    }

    #[inline]
    pub fn flow_mut(&mut self, table: TableIndex, slot: FlowSlot) -> Option<&mut Flow> {
        self.at_mut(table)?.flow_mut(slot)
    }

    /// A flow that can count a frame more.
    #[inline]
    pub fn flow_to_count(&mut self, table: TableIndex, slot: FlowSlot) -> Option<&mut Flow> {
        let table = self.at_mut(table)?;
        if table.flow(slot)?.is_full() {
            table.fold(slot);
        }
        table.flow_mut(slot)
    }

    /// What is recorded of a flow, and its chain.
    pub fn record_and_chain_mut(
        &mut self,
        table: TableIndex,
        slot: FlowSlot,
    ) -> Option<(&FlowRecord, Option<&mut Chain>)> {
        self.at_mut(table)?.record_and_chain_mut(slot)
    }

    /// A flow and its chain.
    #[inline]
    pub fn flow_and_chain_mut(
        &mut self,
        table: TableIndex,
        slot: FlowSlot,
    ) -> Option<(&mut Flow, Option<&mut Chain>)> {
        self.at_mut(table)?.flow_and_chain_mut(slot)
    }

    pub fn is_valid<S: SlowPath>(&self, table: TableIndex, slot: FlowSlot, slow: &S) -> bool {
        self.at(table).and_then(|t| t.memo(slot)).is_some_and(|memo| slow.still_valid(&memo.deps))
    }

    /// A link of a chain to a flow: its program, and who is credited for it.
    pub fn link(&self, table: TableIndex, slot: FlowSlot, held: crate::execute::Held) -> Option<Link> {
        Some(Link::new(held, Arc::clone(self.at(table)?.memo(slot)?)))
    }

    /// What is done to a flow's frames.
    pub fn memo(&self, table: TableIndex, slot: FlowSlot) -> Option<&Arc<Memo>> {
        self.at(table)?.memo(slot)
    }

    /// A flow that does what this one does, if its translation is still this one.
    pub fn copy_of(&self, table: TableIndex, slot: FlowSlot, memo: &Arc<Memo>) -> Option<NewFlow> {
        let table = self.at(table)?;
        let (flow, record) = (table.flow(slot)?, table.record(slot)?);
        record.has(memo).then(|| NewFlow { memo: Arc::clone(memo), stamp: table.stamped(flow) })
    }

    /// Changes whenever a flow is removed; a place is good until then.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Gives a flow a chain, if its translation is still this one.
    pub fn set_chain(&mut self, table: TableIndex, slot: FlowSlot, memo: &Arc<Memo>, links: Vec<Link>) {
        let Some(table) = self.at_mut(table) else { return };
        if table.record(slot).is_some_and(|record| record.has(memo))
            && let Some(chain) = Chain::new(&memo.program, links)
        {
            table.set_chain(slot, chain);
        }
    }

    /// Takes a flow's chain away.
    pub fn end_chain(&mut self, table: TableIndex, slot: FlowSlot) {
        if let Some(table) = self.at_mut(table) {
            table.end_chain(slot);
        }
    }

    /// Gives a flow a new program, right at `stamp`.
    pub fn replace<E>(
        &mut self,
        table: TableIndex,
        slot: FlowSlot,
        draft: &mut Draft<'_, E>,
        stamp: Revision,
    ) {
        let memo = self.memos.keep(draft);
        if let Some(table) = self.at_mut(table) {
            table.replace(slot, NewFlow { memo, stamp });
        }
    }

    /// Makes room for one more flow of a port, if need be by evicting another of the same port. Returns how many were
    /// evicted; `None` if there is no room.
    fn make_room(&mut self, share: PortShare, now: Instant) -> Option<u64> {
        let mut evicted = 0;
        if self.flows >= self.limits.flows as usize || !self.shares.may_grow(share) {
            if !self.evict(share, now) {
                return None;
            }
            evicted += 1;
            // One more while too much is out: limits were lowered, or there are more ports to share with.
            if self.shares.overcommitted() {
                evicted += u64::from(self.evict(share, now));
            }
        }
        Some(evicted)
    }

    /// Caches a flow whose key is not in the cache, with a translation that is right at `stamp`. `None` if there is no room; the
    /// draft is then as it was.
    pub fn insert<E>(
        &mut self,
        place: Vacancy<'_>,
        draft: &mut Draft<'_, E>,
        stamp: Revision,
        now: Instant,
    ) -> Option<Stored> {
        let evicted = self.make_room(place.share, now)?;
        self.at(place.table)?;
        let flow = NewFlow { memo: self.memos.keep(draft), stamp };
        Some(Stored { slot: self.put(place, flow, now)?, evicted })
    }

    /// The same for a flow that has its translation from another.
    pub fn insert_copy(&mut self, place: Vacancy<'_>, copy: NewFlow, now: Instant) -> Option<Stored> {
        let evicted = self.make_room(place.share, now)?;
        Some(Stored { slot: self.put(place, copy, now)?, evicted })
    }

    /// Caches a flow for which there is room.
    fn put(&mut self, place: Vacancy<'_>, flow: NewFlow, now: Instant) -> Option<FlowSlot> {
        let Vacancy { table: index, masked, key, share } = place;
        let seed = self.seed;
        let slot = self.at_mut(index)?.insert(seed, masked, key, share, flow, now);
        let position = self.shares.push(share, FlowRef { table: index, slot });
        if let Some(table) = self.at_mut(index) {
            table.set_share_position(slot, position);
        }
        self.flows += 1;
        Some(slot)
    }

    /// Removes a flow; what it counted is credited first.
    pub fn remove(&mut self, table: TableIndex, slot: FlowSlot) {
        let seed = self.seed;
        let Some((share, position)) = self.at_mut(table).and_then(|t| t.remove(seed, slot)) else { return };
        self.flows -= 1;
        self.removals += 1;
        if let Some(moved) = self.shares.take(share, position)
            && let Some(table) = self.at_mut(moved.table)
        {
            table.set_share_position(moved.slot, position);
        }
    }

    /// Clock over the port's own flows: the first that never saw a second frame, or has been idle for a while, goes.
    fn evict(&mut self, share: PortShare, now: Instant) -> bool {
        for _ in 0..CACHE_EVICT_SCAN_MAX {
            let Some(at) = self.shares.next_victim(share) else { return false };
            let Some(table) = self.at(at.table) else { return false };
            let (Some(flow), Some(record)) = (table.flow(at.slot), table.record(at.slot)) else {
                return false;
            };
            let is_idle = now.saturating_since(table.last_seen(flow)) >= CACHE_EVICT_IDLE;
            if is_idle || flow.packets(record) <= 1 {
                self.remove(at.table, at.slot);
                return true;
            }
        }
        false
    }

    /// Removes a port's flows; what they counted is credited first.
    pub fn flush_share(&mut self, share: PortShare) -> usize {
        let flows = self.shares.len(share);
        for _ in 0..flows {
            let Some(flow) = self.shares.last(share) else { break };
            self.remove(flow.table, flow.slot);
        }
        flows
    }

    /// Removes every flow; what they counted is credited first. Returns how many there were.
    pub fn flush(&mut self) -> usize {
        let shares: Vec<PortShare> = self.shares.all().collect();
        let removed = shares.into_iter().map(|s| self.flush_share(s)).sum();
        self.tables.clear();
        self.memos.forget_unused();
        removed
    }

    /// Removes the flows of which `which` says so by key and mask; what they counted is credited first. How many there were.
    pub fn remove_some(&mut self, which: &dyn Fn(&PacketKey, &Mask<PacketKey>) -> bool) -> usize {
        let mut found = Vec::new();
        for (t, table) in self.tables.iter().enumerate() {
            let Some(table) = table else { continue };
            let slots = (0..table.slots() as FlowSlot).filter(|slot| table.memo(*slot).is_some());
            let wanted = slots.filter(|slot| which(&table.key(*slot), &table.mask));
            found.extend(wanted.map(|slot| (TableIndex(t as u16), slot)));
        }
        for (table, slot) in &found {
            self.remove(*table, *slot);
        }
        found.len()
    }

    /// Credits what all flows have counted since the last time.
    pub fn fold(&mut self) {
        for table in self.tables.iter_mut().flatten() {
            for slot in 0..table.slots() as FlowSlot {
                table.fold(slot);
            }
        }
    }

    /// The next flows from `from` on that are good under the present configuration.
    pub fn dump<S: SlowPath>(&self, from: DumpCursor, slow: &S) -> FlowDump {
        let mut dump = FlowDump::default();
        let revision = slow.revision();
        let mut visited = 0;
        for (t, table) in self.tables.iter().enumerate().skip(from.table) {
            let Some(table) = table else { continue };
            let first = if t == from.table { from.slot } else { 0 };
            for slot in first..table.slots() {
                if visited == DUMP_FLOWS_MAX {
                    dump.next = Some(DumpCursor { table: t, slot });
                    return dump;
                }
                visited += 1;
                dump.flows.extend(show(table, slot as FlowSlot, revision, slow));
            }
        }
        dump
    }
}

fn show<S: SlowPath>(
    table: &ProfileTable,
    slot: FlowSlot,
    revision: Revision,
    slow: &S,
) -> Option<CachedFlow> {
    let (flow, record) = (table.flow(slot)?, table.record(slot)?);
    let memo = record.memo.as_ref()?;
    if table.stamped(flow) != revision && !slow.still_valid(&memo.deps) {
        return None;
    }
    Some(CachedFlow {
        profile: table.id,
        mask: table.mask,
        key: table.key(slot),
        program: Arc::new(memo.program.clone()),
        packets: flow.packets(record),
        bytes: flow.bytes(record),
        tcp_flags: flow.tcp_flags,
        last_seen: table.last_seen(flow),
    })
}
