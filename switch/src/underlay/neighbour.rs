//! The neighbour cache: the Ethernet addresses of hosts next to a bridge, learned from ARP (RFC 826) and neighbour
//! discovery (RFC 4861) seen on it, for tunnels that leave through it.
//!
//! Like the MAC table ([`crate::mac`]) it is learned state beside the snapshots: a leaf mutex, taken on misses only. Traffic
//! keeps an entry young through [`datapath::Credit`]. There is one revision for each cache, which changes when an answer
//! would, not when an entry is confirmed, so that cached flows can depend on it.
//!
//! Not here: who asks neighbours that are not known, and how; [`NeighbourCache::may_solicit`] only says when it is time.

use crate::forwarding::Epoch;
use crate::mac::MacAddr;
use base::Instant;
use datapath::{Credit, Revision};
use packet::{PacketKey, slot};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Age at which a neighbour is forgotten unless `tnl/neigh/aging` says otherwise, as in OVS.
pub const AGING_DEFAULT: Duration = Duration::from_secs(900);
/// The longest such age.
pub const AGING_MAX: Duration = Duration::from_secs(3_600);
/// Neighbours that a bridge remembers at most; beyond it the one longest unused makes room.
pub const NEIGHBOURS_MAX: usize = 4_096;
/// Unknown neighbours of a bridge that are asked for at a time.
pub const SOLICITED_MAX: usize = 1_024;
/// Pause between two questions for one neighbour (RFC 4861 section 10, `RETRANS_TIMER`).
pub const SOLICIT_INTERVAL: Duration = Duration::from_secs(1);
/// Caches at most: bridges, and names that `tnl/neigh/set` was given and that are none.
const CACHES_MAX: usize = 1_024;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTO_ICMPV6: u128 = 58;
const ND_ADVERT: u128 = 136;

/// A neighbour. Never changes but for its age; another address makes a new entry.
#[derive(Debug)]
pub struct Neighbour {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    used_nanos: AtomicU64,
}

impl Neighbour {
    /// When it was last heard of or sent to.
    pub fn last_used(&self) -> Instant {
        Instant::from_nanos(self.used_nanos.load(Ordering::Relaxed))
    }

    fn touch(&self, now: Instant) {
        self.used_nanos.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}

impl Credit for Neighbour {
    fn credit(&self, packets: u64, _bytes: u64, last_seen: Instant, _tcp_flags: u16) {
        if packets > 0 {
            self.touch(last_seen);
        }
    }
}

/// What a look-up saw, and the revision that says whether it still holds.
#[derive(Clone, Debug)]
pub struct NeighbourLookup {
    /// The neighbour, if known.
    pub neighbour: Option<Arc<Neighbour>>,
    /// The cache's revision at the look-up.
    pub revision: Revision,
}

/// The binding of addresses that a packet announces, if it does: the sender of an ARP request or reply, or the target of a
/// neighbour advertisement. What no host can be (multicast, unspecified, loopback) announces nothing.
pub fn announced(key: &PacketKey) -> Option<(IpAddr, MacAddr)> {
    let (ip, mac): (IpAddr, u128) = match key.dl_type() {
        ETHERTYPE_ARP if matches!(key.get(slot::NW_PROTO), 1 | 2) => {
            (Ipv4Addr::from_bits(key.get(slot::NW_SRC) as u32).into(), key.get(slot::ARP_SHA))
        }
        ETHERTYPE_IPV6 if is_advert(key) => {
            (Ipv6Addr::from_bits(key.get(slot::ND_TARGET)).into(), key.get(slot::ARP_THA))
        }
        _ => return None,
    };
    let mac = MacAddr(mac as u64);
    let possible = !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || is_broadcast(ip));
    (possible && mac.0 != 0 && !mac.is_multicast()).then_some((ip, mac))
}

fn is_advert(key: &PacketKey) -> bool {
    // A router would have lowered a hop limit of 255, so the sender is on the link (RFC 4861 section 7.1.2).
    key.get(slot::NW_PROTO) == PROTO_ICMPV6
        && key.get(slot::TP_SRC) == ND_ADVERT
        && key.get(slot::TP_DST) == 0
        && key.get(slot::NW_TTL) == 255
}

fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(a) if a.is_broadcast())
}

/// Place of an entry in the queue: a lower bound of its last use, and a number that makes it unique.
type Place = (Instant, u64);

#[derive(Debug)]
struct State {
    entries: BTreeMap<IpAddr, (Arc<Neighbour>, Place)>,
    /// Oldest first; places are lower bounds that are corrected when they come to the front.
    queue: BTreeMap<Place, IpAddr>,
    next_place: u64,
    /// When each unknown neighbour was last asked for.
    solicited: BTreeMap<IpAddr, Instant>,
}

/// The neighbours of one bridge.
#[derive(Debug)]
pub struct NeighbourCache {
    epoch: Arc<Epoch>,
    revision: AtomicU64,
    state: Mutex<State>,
}

impl NeighbourCache {
    /// An empty cache. `epoch` is bumped with every change.
    pub fn new(epoch: Arc<Epoch>) -> NeighbourCache {
        let state = State {
            entries: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_place: 0,
            solicited: BTreeMap::new(),
        };
        NeighbourCache { epoch, revision: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The revision now.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// Looks a neighbour up, without keeping it young: give the neighbour to the flow as a credit for that.
    pub fn lookup(&self, ip: IpAddr) -> NeighbourLookup {
        let state = self.lock();
        // The revision changes under the lock only, so the two belong together.
        let neighbour = state.entries.get(&ip).map(|(n, _)| Arc::clone(n));
        NeighbourLookup { neighbour, revision: self.revision() }
    }

    /// Notes that `ip` is at `mac`. Says whether that is news.
    pub fn learn(&self, ip: IpAddr, mac: MacAddr, now: Instant) -> bool {
        let mut state = self.lock();
        if let Some((neighbour, _)) = state.entries.get(&ip)
            && neighbour.mac == mac
        {
            neighbour.touch(now);
            return false;
        }
        state.remove(ip);
        if state.entries.len() >= NEIGHBOURS_MAX
            && let Some(oldest) = state.oldest()
        {
            state.remove(oldest);
        }
        state.insert(ip, mac, now);
        state.solicited.remove(&ip);
        self.bump();
        true
    }

    /// Notes what a packet on the bridge announces, if anything. Says whether that is news.
    pub fn snoop(&self, key: &PacketKey, now: Instant) -> bool {
        announced(key).is_some_and(|(ip, mac)| self.learn(ip, mac, now))
    }

    /// Whether it is time to ask who has `ip`: at most once in [`SOLICIT_INTERVAL`] for each, and for at most
    /// [`SOLICITED_MAX`] at a time. Counts as asked if so.
    pub fn may_solicit(&self, ip: IpAddr, now: Instant) -> bool {
        let mut state = self.lock();
        let due = |asked: &Instant| now.saturating_since(*asked) >= SOLICIT_INTERVAL;
        match state.solicited.get(&ip) {
            Some(asked) if !due(asked) => return false,
            Some(_) => {}
            None if state.solicited.len() >= SOLICITED_MAX => {
                state.solicited.retain(|_, asked| !due(asked));
                if state.solicited.len() >= SOLICITED_MAX {
                    return false;
                }
            }
            None => {}
        }
        state.solicited.insert(ip, now);
        true
    }

    /// Forgets neighbours that have neither been heard of nor sent to for `aging`. To be called about once a second. Returns
    /// how many.
    pub fn expire(&self, aging: Duration, now: Instant) -> usize {
        let mut state = self.lock();
        state.solicited.retain(|_, asked| now.saturating_since(*asked) < SOLICIT_INTERVAL);
        let mut count = 0;
        while let Some(ip) = state.oldest() {
            let last = state.entries.get(&ip).map(|(n, _)| n.last_used());
            if last.is_none_or(|last| now.saturating_since(last) < aging) {
                break;
            }
            state.remove(ip);
            count += 1;
        }
        if count > 0 {
            self.bump();
        }
        count
    }

    /// Forgets all neighbours; how many there were.
    pub fn flush(&self) -> usize {
        let mut state = self.lock();
        let count = state.entries.len();
        state.entries.clear();
        state.queue.clear();
        state.solicited.clear();
        if count > 0 {
            self.bump();
        }
        count
    }

    /// Every neighbour, by address.
    pub fn dump(&self) -> Vec<Arc<Neighbour>> {
        self.lock().entries.values().map(|(n, _)| Arc::clone(n)).collect()
    }

    fn bump(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
        self.epoch.bump();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way; were it to, the cache would still be a cache.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, ip: IpAddr, mac: MacAddr, now: Instant) {
        let place = (now, self.next_place);
        self.next_place += 1;
        let neighbour = Neighbour { ip, mac, used_nanos: AtomicU64::new(now.as_nanos()) };
        self.queue.insert(place, ip);
        self.entries.insert(ip, (Arc::new(neighbour), place));
    }

    fn remove(&mut self, ip: IpAddr) {
        if let Some((_, place)) = self.entries.remove(&ip) {
            self.queue.remove(&place);
        }
    }

    /// The one longest unused. Corrects places that lag behind, each at most once for a use.
    fn oldest(&mut self) -> Option<IpAddr> {
        loop {
            let (place, ip) = self.queue.first_key_value().map(|(p, ip)| (*p, *ip))?;
            let (neighbour, at) = self.entries.get_mut(&ip)?;
            let used = neighbour.last_used();
            if used <= place.0 {
                return Some(ip);
            }
            self.queue.remove(&place);
            *at = (used, place.1);
            self.queue.insert(*at, ip);
        }
    }
}

/// The caches of all bridges, by the bridges' names, and the age that holds for all of them.
#[derive(Debug)]
pub struct Neighbours {
    epoch: Arc<Epoch>,
    aging_millis: AtomicU64,
    caches: Mutex<BTreeMap<String, Arc<NeighbourCache>>>,
}

impl Neighbours {
    /// No caches. `epoch` is bumped with every change of any.
    pub fn new(epoch: Arc<Epoch>) -> Neighbours {
        let aging_millis = AtomicU64::new(AGING_DEFAULT.as_millis() as u64);
        Neighbours { epoch, aging_millis, caches: Mutex::default() }
    }

    /// The cache of a bridge, made if there is none.
    pub fn of(&self, bridge: &str) -> Arc<NeighbourCache> {
        let mut caches = self.lock();
        let new = || Arc::new(NeighbourCache::new(Arc::clone(&self.epoch)));
        Arc::clone(caches.entry(bridge.to_owned()).or_insert_with(new))
    }

    /// The bridge is gone, and its neighbours with it.
    pub fn forget(&self, bridge: &str) {
        if let Some(cache) = self.lock().remove(bridge) {
            cache.flush();
        }
    }

    /// Puts a neighbour there by hand. It ages like any other.
    pub fn set(&self, bridge: &str, ip: IpAddr, mac: MacAddr, now: Instant) {
        let room = {
            let caches = self.lock();
            caches.contains_key(bridge) || caches.len() < CACHES_MAX
        };
        // As in OVS a name that is no bridge's is no error; it has no effect either.
        if room {
            self.of(bridge).learn(ip, mac, now);
        }
    }

    /// Age at which neighbours are forgotten.
    pub fn aging(&self) -> Duration {
        Duration::from_millis(self.aging_millis.load(Ordering::Relaxed))
    }

    /// Changes that age, for neighbours that are known too.
    pub fn set_aging(&self, aging: Duration) {
        self.aging_millis.store(aging.min(AGING_MAX).as_millis() as u64, Ordering::Relaxed);
    }

    /// Forgets every neighbour of every bridge.
    pub fn flush(&self) {
        self.each(|_, cache| {
            cache.flush();
        });
    }

    /// Forgets what has grown old. To be called about once a second.
    pub fn expire(&self, now: Instant) {
        let aging = self.aging();
        self.each(|_, cache| {
            cache.expire(aging, now);
        });
    }

    /// Whether there is anything that can grow old.
    pub fn is_empty(&self) -> bool {
        self.lock().values().all(|c| c.lock().entries.is_empty())
    }

    /// The neighbours of all bridges, by bridge and address.
    pub fn dump(&self) -> Vec<(String, Arc<Neighbour>)> {
        let mut all = Vec::new();
        self.each(|bridge, cache| all.extend(cache.dump().into_iter().map(|n| (bridge.to_owned(), n))));
        all
    }

    fn each(&self, mut each: impl FnMut(&str, &NeighbourCache)) {
        for (bridge, cache) in self.lock().iter() {
            each(bridge, cache);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<NeighbourCache>>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "neighbour_tests.rs"]
mod tests;
