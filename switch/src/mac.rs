//! The MAC table: which port of a bridge a station was last seen on, per VLAN.
//!
//! Learned state lives beside the snapshots, not in them: every snapshot of a bridge points at the same table. A leaf mutex
//! guards it, taken on misses only; established traffic refreshes entries through [`datapath::Credit`] without it. What a
//! cached flow looked up is covered by the revision of one of [`BUCKET_COUNT`] buckets, so that a station that comes, moves
//! or goes disturbs a fraction of the flows.
//!
//! At the limit the oldest entry of the port with the most entries makes room, and each port has a learning budget: a port
//! that makes up addresses displaces its own.

use crate::bridge::{BridgeId, BundleId};
use crate::forwarding::{Epoch, mac_domain};
use base::{Instant, RateLimit};
use datapath::{Credit, Domain, Revision};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Age at which an entry is forgotten unless configured otherwise (`mac-aging-time`).
pub const AGING_DEFAULT: Duration = Duration::from_secs(300);
/// Entries a bridge keeps unless configured otherwise (`mac-table-size`).
pub const ENTRIES_DEFAULT: usize = 8_192;
/// Entries a bridge keeps at most, whatever is configured.
pub const ENTRIES_MAX: usize = 1_000_000;
/// Buckets with a revision of their own. As a change makes all cached flows of its bucket be translated anew, there are so many
/// that a port which changes as much as its budget allows (an entry learned, another evicted for it) touches each once a second.
pub const BUCKET_COUNT: usize = 4_096;
/// Addresses a second that one port may add or move once its burst is used up.
const LEARN_RATE: u64 = 2_000;
/// Addresses that one port may add or move at once: a full table of the default size.
const LEARN_BURST: u64 = ENTRIES_DEFAULT as u64;

/// An Ethernet address, in the low 48 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub u64);

impl MacAddr {
    /// Whether the group bit is set (broadcast included).
    pub const fn is_multicast(self) -> bool {
        self.0 >> 40 & 1 == 1
    }

    /// The address from its six bytes.
    pub const fn from_bytes(b: [u8; 6]) -> MacAddr {
        MacAddr(u64::from_be_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]))
    }

    /// The six bytes.
    pub const fn to_bytes(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Reads `aa:bb:cc:dd:ee:ff`.
    pub fn parse(text: &str) -> Option<MacAddr> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next()?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then(|| MacAddr::from_bytes(bytes))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.to_bytes();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an entry is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MacKey {
    /// The VLAN, 0 to 4095.
    pub vlan: u16,
    /// The address.
    pub mac: MacAddr,
}

impl MacKey {
    fn bucket(self) -> usize {
        // Stations of one maker differ in the low bits; the multiply carries them to the top.
        let mixed = (self.mac.0 ^ u64::from(self.vlan) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 52) as usize % BUCKET_COUNT
    }
}

/// One station. Never changes but for its age; a move makes a new entry.
#[derive(Debug)]
pub struct MacEntry {
    /// VLAN and address.
    pub key: MacKey,
    /// The port that it was seen on.
    pub bundle: BundleId,
    /// Put there by hand: neither ages nor moves.
    pub is_static: bool,
    used_nanos: AtomicU64,
}

impl MacEntry {
    /// When traffic from the station was last counted.
    pub fn last_used(&self) -> Instant {
        Instant::from_nanos(self.used_nanos.load(Ordering::Relaxed))
    }

    fn touch(&self, now: Instant) {
        self.used_nanos.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Credit for MacEntry {
    fn credit(&self, packets: u64, _bytes: u64, last_seen: Instant, _tcp_flags: u16) {
        if packets > 0 {
            self.touch(last_seen);
        }
    }
}

/// What a look-up saw, and the revision that says whether it still holds.
#[derive(Clone, Debug)]
pub struct MacLookup {
    /// The station, if known.
    pub entry: Option<Arc<MacEntry>>,
    /// The bucket looked into.
    pub domain: Domain,
    /// Its revision before the look-up.
    pub revision: Revision,
}

/// What happened to a station that was to be learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learned {
    /// Known, on the same port.
    Refreshed,
    /// New.
    Added,
    /// Known on another port before.
    Moved,
    /// A static entry stands in the way.
    Static,
    /// The port has used up its learning budget; flows that wanted it ask again after the next `expire`.
    OverBudget,
}

/// Counters of fdb/stats-show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MacStats {
    /// Entries now.
    pub entries: usize,
    /// Entries at most.
    pub entries_max: usize,
    /// Entries put there by hand.
    pub static_entries: usize,
    /// Entries ever learned.
    pub learned: u64,
    /// Entries that aged.
    pub expired: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Stations that moved to another port.
    pub moved: u64,
    /// Stations not learned because the port's budget was used up.
    pub refused: u64,
}

/// What fdb/flush is to forget. Static entries stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Every learned entry.
    All,
    /// Those of a port.
    Port(BundleId),
    /// Those of a VLAN.
    Vlan(u16),
}

/// Place of an entry in its port's queue: a lower bound of its last use, and a number that makes it unique.
type Place = (Instant, u64);

#[derive(Debug)]
struct Stored {
    entry: Arc<MacEntry>,
    place: Place,
}

#[derive(Debug)]
struct PortShare {
    /// Learned entries, oldest first; places are lower bounds that are corrected when they come to the front.
    queue: BTreeMap<Place, MacKey>,
    budget: RateLimit,
}

/// Some of the buckets.
#[derive(Debug)]
struct BucketSet([u64; BUCKET_COUNT / 64]);

impl Default for BucketSet {
    fn default() -> Self {
        BucketSet([0; BUCKET_COUNT / 64])
    }
}

impl BucketSet {
    fn insert(&mut self, bucket: usize) {
        if let Some(word) = self.0.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(n, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| n * 64 + bit)
        })
    }
}

#[derive(Debug)]
struct State {
    entries: BTreeMap<MacKey, Stored>,
    ports: BTreeMap<BundleId, PortShare>,
    next_place: u64,
    limit: usize,
    aging: Duration,
    /// Buckets in which a station was refused since the last `expire`.
    refused_buckets: BucketSet,
    stats: MacStats,
}

/// The MAC table of one bridge.
#[derive(Debug)]
pub struct MacTable {
    bridge: BridgeId,
    epoch: Arc<Epoch>,
    buckets: Box<[AtomicU64]>,
    state: Mutex<State>,
}

impl MacTable {
    /// An empty table. `epoch` is bumped with every change.
    pub fn new(bridge: BridgeId, epoch: Arc<Epoch>) -> MacTable {
        let state = State {
            entries: BTreeMap::new(),
            ports: BTreeMap::new(),
            next_place: 0,
            limit: ENTRIES_DEFAULT,
            aging: AGING_DEFAULT,
            refused_buckets: BucketSet::default(),
            stats: MacStats::default(),
        };
        let buckets = (0..BUCKET_COUNT).map(|_| AtomicU64::new(0)).collect();
        MacTable { bridge, epoch, buckets, state: Mutex::new(state) }
    }

    /// Sets the limits: entries (at least 1, at most [`ENTRIES_MAX`]) and age.
    pub fn configure(&self, entries_max: usize, aging: Duration) {
        let mut state = self.lock();
        state.limit = entries_max.clamp(1, ENTRIES_MAX);
        state.aging = aging;
        while state.entries.len() > state.limit {
            let Some(evicted) = state.evict_one(None) else { break };
            self.bump(evicted.bucket());
        }
    }

    /// Looks a station up, without refreshing it.
    pub fn lookup(&self, key: MacKey) -> MacLookup {
        let state = self.lock();
        // Buckets change under the lock only, so entry and revision belong together.
        let (domain, revision) = (mac_domain(self.bridge, key.bucket()), self.bucket_revision(key.bucket()));
        MacLookup { entry: state.entries.get(&key).map(|s| Arc::clone(&s.entry)), domain, revision }
    }

    /// Revision of a bucket.
    pub fn bucket_revision(&self, bucket: usize) -> Revision {
        Revision(self.buckets.get(bucket).map_or(0, |b| b.load(Ordering::Acquire)))
    }

    /// Notes that a station was seen on a port.
    pub fn learn(&self, key: MacKey, bundle: BundleId, now: Instant) -> Learned {
        let mut state = self.lock();
        let state = &mut *state;
        let mut outcome = Learned::Added;
        if let Some(stored) = state.entries.get(&key) {
            if stored.entry.is_static {
                return Learned::Static;
            }
            if stored.entry.bundle == bundle {
                stored.entry.touch(now);
                return Learned::Refreshed;
            }
            outcome = Learned::Moved;
        }
        if !state.share(bundle).budget.take(now) {
            state.refused_buckets.insert(key.bucket());
            state.stats.refused += 1;
            return Learned::OverBudget;
        }
        match outcome {
            Learned::Moved => {
                state.stats.moved += 1;
                state.remove(key);
            }
            _ => {
                state.stats.learned += 1;
                while state.entries.len() >= state.limit {
                    let Some(evicted) = state.evict_one(Some(bundle)) else { break };
                    self.bump(evicted.bucket());
                }
            }
        }
        state.insert(key, bundle, now, false);
        self.bump(key.bucket());
        outcome
    }

    /// Puts an entry there that neither ages nor moves (fdb/add); gives what it took the place of.
    pub fn add_static(&self, key: MacKey, bundle: BundleId, now: Instant) -> Option<Arc<MacEntry>> {
        let mut state = self.lock();
        let there = state.entries.get(&key).map(|s| &*s.entry);
        if there.is_some_and(|entry| entry.is_static && entry.bundle == bundle) {
            return None;
        }
        let replaced = state.remove(key);
        if state.entries.len() >= state.limit
            && let Some(evicted) = state.evict_one(Some(bundle))
        {
            self.bump(evicted.bucket());
        }
        state.insert(key, bundle, now, true);
        self.bump(key.bucket());
        replaced
    }

    /// Forgets a static entry (fdb/del); whether there was one.
    pub fn remove_static(&self, key: MacKey) -> bool {
        let mut state = self.lock();
        let is_static = state.entries.get(&key).is_some_and(|s| s.entry.is_static);
        if is_static {
            state.remove(key);
            self.bump(key.bucket());
        }
        is_static
    }

    /// Forgets learned entries; how many there were.
    pub fn flush(&self, what: Flush) -> usize {
        let mut state = self.lock();
        let wanted = |e: &MacEntry| match what {
            Flush::All => true,
            Flush::Port(bundle) => e.bundle == bundle,
            Flush::Vlan(vlan) => e.key.vlan == vlan,
        };
        let doomed: Vec<MacKey> = state
            .entries
            .values()
            .map(|s| &*s.entry)
            .filter(|e| !e.is_static && wanted(e))
            .map(|e| e.key)
            .collect();
        for key in &doomed {
            state.remove(*key);
        }
        self.bump_all(doomed.iter().map(|k| k.bucket()));
        doomed.len()
    }

    /// Forgets these stations wherever they are, but for static entries.
    pub fn forget(&self, stations: &[MacKey]) {
        let mut state = self.lock();
        for key in stations {
            if state.entries.get(key).is_some_and(|s| !s.entry.is_static) {
                state.remove(*key);
                self.bump(key.bucket());
            }
        }
    }

    /// Forgets everything about a port that is gone, static entries included; which stations it had.
    pub fn forget_port(&self, bundle: BundleId) -> Vec<MacKey> {
        let mut state = self.lock();
        let doomed: Vec<MacKey> =
            state.entries.values().filter(|s| s.entry.bundle == bundle).map(|s| s.entry.key).collect();
        for key in &doomed {
            state.remove(*key);
        }
        state.ports.remove(&bundle);
        self.bump_all(doomed.iter().map(|k| k.bucket()));
        doomed
    }

    /// Forgets entries that have not been used for the aging time, and lets flows whose station was refused ask again. To
    /// be called about once a second. Returns how many entries aged.
    pub fn expire(&self, now: Instant) -> usize {
        let mut state = self.lock();
        let state = &mut *state;
        let mut touched = std::mem::take(&mut state.refused_buckets);
        let mut count = 0;
        let bundles: Vec<BundleId> = state.ports.keys().copied().collect();
        for bundle in bundles {
            while let Some(key) = state.oldest_of(bundle) {
                let aged = |s: &Stored| now.saturating_since(s.entry.last_used()) >= state.aging;
                if !state.entries.get(&key).is_some_and(aged) {
                    break;
                }
                state.remove(key);
                touched.insert(key.bucket());
                count += 1;
            }
        }
        state.stats.expired += count as u64;
        self.bump_all(touched.iter());
        count
    }

    /// Every entry, the longest unused first.
    pub fn dump(&self) -> Vec<Arc<MacEntry>> {
        let mut entries: Vec<_> = self.lock().entries.values().map(|s| Arc::clone(&s.entry)).collect();
        entries.sort_by_key(|e| (e.last_used(), e.key));
        entries
    }

    /// Counters.
    pub fn stats(&self) -> MacStats {
        let state = self.lock();
        let static_entries = state.entries.values().filter(|s| s.entry.is_static).count();
        MacStats { entries: state.entries.len(), entries_max: state.limit, static_entries, ..state.stats }
    }

    /// Sets the counters of events to zero (fdb/stats-clear).
    pub fn clear_stats(&self) {
        self.lock().stats = MacStats::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way; were it to, the table would still be a table.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self, bucket: usize) {
        self.bump_all(std::iter::once(bucket));
    }

    /// Order matters: a reader that sees the new epoch must see the new buckets.
    fn bump_all(&self, buckets: impl Iterator<Item = usize>) {
        let mut any = false;
        for bucket in buckets {
            if let Some(b) = self.buckets.get(bucket) {
                b.fetch_add(1, Ordering::AcqRel);
                any = true;
            }
        }
        if any {
            self.epoch.bump();
        }
    }
}

impl State {
    fn share(&mut self, bundle: BundleId) -> &mut PortShare {
        self.ports.entry(bundle).or_insert_with(|| PortShare {
            queue: BTreeMap::new(),
            budget: RateLimit::new(LEARN_RATE, LEARN_BURST),
        })
    }

    fn insert(&mut self, key: MacKey, bundle: BundleId, now: Instant, is_static: bool) {
        let place = (now, self.next_place);
        self.next_place += 1;
        let used_nanos = AtomicU64::new(now.as_nanos());
        let entry = Arc::new(MacEntry { key, bundle, is_static, used_nanos });
        if !is_static {
            self.share(bundle).queue.insert(place, key);
        }
        self.entries.insert(key, Stored { entry, place });
    }

    fn remove(&mut self, key: MacKey) -> Option<Arc<MacEntry>> {
        let stored = self.entries.remove(&key)?;
        if let Some(share) = self.ports.get_mut(&stored.entry.bundle) {
            share.queue.remove(&stored.place);
        }
        Some(stored.entry)
    }

    /// The longest unused learned entry of a port. Corrects places that lag behind use, so each step moves an entry to
    /// where it belongs, at most once per refresh.
    fn oldest_of(&mut self, bundle: BundleId) -> Option<MacKey> {
        let queue = &mut self.ports.get_mut(&bundle)?.queue;
        loop {
            let (place, key) = queue.first_key_value().map(|(p, k)| (*p, *k))?;
            let stored = self.entries.get_mut(&key)?;
            let used = stored.entry.last_used();
            if used <= place.0 {
                return Some(key);
            }
            queue.remove(&place);
            stored.place = (used, place.1);
            queue.insert(stored.place, key);
        }
    }

    /// Removes the oldest entry of the port with the most entries; of equals, `newcomer` gives way itself.
    fn evict_one(&mut self, newcomer: Option<BundleId>) -> Option<MacKey> {
        let size = |(id, share): &(&BundleId, &PortShare)| (share.queue.len(), Some(**id) == newcomer);
        let (fullest, _) = self.ports.iter().max_by_key(size)?;
        let key = self.oldest_of(*fullest)?;
        self.remove(key)?;
        self.stats.evicted += 1;
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> MacTable {
        MacTable::new(BridgeId(1), Arc::new(Epoch::default()))
    }

    fn key(vlan: u16, mac: u64) -> MacKey {
        MacKey { vlan, mac: MacAddr(mac) }
    }

    const A: BundleId = BundleId(1);
    const B: BundleId = BundleId(2);
    const C: BundleId = BundleId(3);

    fn at(t: &MacTable, k: MacKey) -> Option<BundleId> {
        t.lookup(k).entry.map(|e| e.bundle)
    }

    #[test]
    fn learns_moves_and_ages() {
        let t = table();
        let s = Instant::from_secs;
        assert_eq!(t.learn(key(1, 5), A, s(0)), Learned::Added);
        assert_eq!(t.learn(key(1, 5), A, s(10)), Learned::Refreshed);
        assert_eq!(t.learn(key(2, 5), B, s(10)), Learned::Added);
        assert_eq!(t.learn(key(1, 5), B, s(20)), Learned::Moved);
        assert_eq!((at(&t, key(1, 5)), at(&t, key(2, 5)), at(&t, key(3, 5))), (Some(B), Some(B), None));
        assert_eq!(t.expire(s(309)), 0);
        assert_eq!(t.expire(s(310)), 1);
        assert_eq!((at(&t, key(1, 5)), at(&t, key(2, 5))), (Some(B), None));
        t.lookup(key(1, 5)).entry.unwrap().credit(1, 60, s(300), 0);
        assert_eq!((t.expire(s(599)), t.expire(s(600))), (0, 1));
        let stats = t.stats();
        assert_eq!((stats.learned, stats.moved, stats.expired, stats.entries), (2, 1, 2, 0));
    }

    #[test]
    fn static_entries_stay() {
        let t = table();
        t.add_static(key(0, 7), A, Instant::ZERO);
        assert_eq!(t.learn(key(0, 7), B, Instant::ZERO), Learned::Static);
        t.learn(key(0, 8), A, Instant::ZERO);
        assert_eq!(t.flush(Flush::All), 1);
        assert_eq!(t.expire(Instant::from_secs(1_000_000)), 0);
        assert_eq!((at(&t, key(0, 7)), t.stats().static_entries), (Some(A), 1));
        let before = t.lookup(key(0, 7)).revision;
        t.add_static(key(0, 7), A, Instant::ZERO);
        assert_eq!(t.lookup(key(0, 7)).revision, before, "no flow need be translated anew");
        t.add_static(key(0, 7), B, Instant::ZERO);
        assert_eq!((at(&t, key(0, 7)), t.stats().learned), (Some(B), 1), "what is put there is not learned");
        t.learn(key(0, 8), A, Instant::ZERO);
        assert!(t.remove_static(key(0, 7)) && !t.remove_static(key(0, 7)));
        assert!(!t.remove_static(key(0, 8)) && at(&t, key(0, 8)) == Some(A));
    }

    #[test]
    fn flushes_by_port_and_vlan() {
        let t = table();
        for (vlan, mac, port) in [(1, 1, A), (1, 2, B), (2, 3, A), (2, 4, B)] {
            t.learn(key(vlan, mac), port, Instant::ZERO);
        }
        assert_eq!(t.flush(Flush::Port(A)), 2);
        assert_eq!(t.flush(Flush::Vlan(2)), 1);
        assert_eq!(at(&t, key(1, 2)), Some(B));
        assert_eq!(t.forget_port(B), [key(1, 2)]);
        assert_eq!(t.stats().entries, 0);
        t.add_static(key(1, 1), A, Instant::ZERO);
        t.learn(key(1, 2), A, Instant::ZERO);
        t.forget(&[key(1, 1), key(1, 2), key(1, 3)]);
        assert_eq!((at(&t, key(1, 1)), at(&t, key(1, 2))), (Some(A), None));
    }

    /// Two quiet ports keep their stations while a third makes up addresses, and the third loses its own oldest.
    #[test]
    fn the_greedy_port_pays() {
        let t = table();
        t.configure(10, AGING_DEFAULT);
        let ms = Instant::from_millis;
        t.learn(key(0, 1), A, ms(0));
        t.learn(key(0, 2), B, ms(0));
        for i in 0..100 {
            t.learn(key(0, 1000 + i), C, ms(1 + i));
        }
        assert_eq!((at(&t, key(0, 1)), at(&t, key(0, 2))), (Some(A), Some(B)));
        let of_c: Vec<u64> = t.dump().iter().filter(|e| e.bundle == C).map(|e| e.key.mac.0).collect();
        assert_eq!(of_c, (1092..1100).collect::<Vec<_>>());
        assert_eq!(t.stats().evicted, 92);
        // A credited entry is no longer the oldest, though it was learned first.
        t.lookup(key(0, 1092)).entry.unwrap().credit(1, 60, ms(5_000), 0);
        t.learn(key(0, 2000), C, ms(5_001));
        assert_eq!((at(&t, key(0, 1092)), at(&t, key(0, 1093))), (Some(C), None));
        t.configure(3, AGING_DEFAULT);
        assert_eq!((t.stats().entries, at(&t, key(0, 1)), at(&t, key(0, 2))), (3, Some(A), Some(B)));
    }

    #[test]
    fn the_budget_of_one_port_is_its_own() {
        let t = table();
        let outcomes: Vec<Learned> =
            (0..LEARN_BURST + 10).map(|i| t.learn(key(0, 4096 + i), A, Instant::ZERO)).collect();
        assert_eq!(outcomes.iter().filter(|o| **o == Learned::OverBudget).count(), 10);
        assert_eq!(t.learn(key(0, 1), B, Instant::ZERO), Learned::Added);
        // Those refused are told to ask again.
        let refused = key(0, 4096 + LEARN_BURST + 9);
        let before = t.lookup(refused);
        t.expire(Instant::from_secs(1));
        assert_ne!(before.revision, t.lookup(refused).revision);
        assert_eq!(t.learn(refused, A, Instant::from_secs(1)), Learned::Added);
    }

    #[test]
    fn only_changes_change_revisions() {
        let epoch = Arc::new(Epoch::default());
        let t = MacTable::new(BridgeId(1), Arc::clone(&epoch));
        let k = key(3, 0x0200_0000_0001);
        let (e0, r0) = (epoch.get(), t.lookup(k).revision);
        t.learn(k, A, Instant::ZERO);
        let (e1, r1) = (epoch.get(), t.lookup(k).revision);
        assert!(e1 > e0 && r1 > r0);
        t.learn(k, A, Instant::from_secs(1));
        t.expire(Instant::from_secs(2));
        assert_eq!((epoch.get(), t.lookup(k).revision), (e1, r1));
        t.learn(k, B, Instant::from_secs(3));
        assert!(epoch.get() > e1 && t.lookup(k).revision > r1);
        let stations = BUCKET_COUNT as u64;
        let spread: std::collections::HashSet<usize> = (0..stations).map(|i| key(0, i).bucket()).collect();
        assert!(spread.len() > BUCKET_COUNT / 2, "{}", spread.len());
        assert!(spread.iter().all(|bucket| *bucket < BUCKET_COUNT));
    }

    #[test]
    fn set_of_buckets_gives_what_was_put_in() {
        let mut set = BucketSet::default();
        assert_eq!(set.iter().next(), None);
        let buckets = [0, 1, 63, 64, 130, BUCKET_COUNT - 1];
        buckets.iter().rev().chain(&buckets).for_each(|b| set.insert(*b));
        assert!(set.iter().eq(buckets));
    }
}
