//! Who may have how many connections: in all, per zone, and, of those that nobody has answered yet, per ingress port.
//!
//! Established connections are never ended for new ones. What gives way is embryonic, that is, without a reply: the oldest of
//! the port that makes the new one if that port has its share already, and of the port that has most of them when the
//! table is nearly full. So a flood from one port ends its own connections only.

use super::config::CtConfig;
use super::connection::{Connection, State};
use super::tuple::Zone;
use packet::DpPort;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Locks that ingress ports are spread over.
const ORIGIN_SHARDS: usize = 16;
/// Entries that a port's queue may hold beyond twice its embryonic connections before it is cleaned.
const QUEUE_SLACK: usize = 64;
/// Zones in a block of counters.
const ZONE_BLOCK: usize = 256;
/// Entries of a port's queue that are looked at for one of a certain zone.
const ZONE_VICTIM_LOOKS_MAX: usize = 64;

/// Counts of connections, and the embryonic ones in order of age.
#[derive(Debug)]
pub(super) struct Quota {
    total: AtomicU32,
    zones: Box<[OnceLock<Box<[AtomicU32]>>]>,
    origins: Box<[OriginShard]>,
    /// The port with the most embryonic connections (low half) and their number (high half), as last seen.
    busiest: AtomicU64,
}

/// Some of the ingress ports.
#[derive(Debug, Default)]
struct OriginShard {
    ports: Mutex<BTreeMap<DpPort, Origin>>,
    /// Embryonic connections of all of them together; written under the lock only.
    embryonic: AtomicU32,
}

impl OriginShard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DpPort, Origin>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes another number of a port's, whose lock is held.
    fn renumber(&self, before: u32, after: u32) {
        let sum = self.embryonic.load(Ordering::Relaxed).wrapping_sub(before).wrapping_add(after);
        self.embryonic.store(sum, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Origin {
    embryonic: u32,
    /// Oldest first; some have been answered or ended meanwhile.
    queue: VecDeque<Arc<Connection>>,
}

/// What must happen before a connection is admitted.
#[derive(Debug)]
pub(super) enum Admission {
    /// Nothing: it is counted.
    Granted,
    /// This one must be ended; then ask again.
    After(Arc<Connection>),
    /// There is no room.
    Refused,
}

impl Quota {
    pub fn new() -> Quota {
        Quota {
            total: AtomicU32::new(0),
            zones: (0..ZONE_BLOCK).map(|_| OnceLock::new()).collect(),
            origins: (0..ORIGIN_SHARDS).map(|_| OriginShard::default()).collect(),
            busiest: AtomicU64::new(0),
        }
    }

    /// Connections now.
    pub fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Connections of a zone now.
    pub fn zone(&self, zone: Zone) -> u32 {
        self.zone_counter(zone).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Zones that have connections, with their number.
    pub fn zones(&self) -> Vec<(Zone, u32)> {
        let blocks = self.zones.iter().enumerate();
        let counts =
            blocks.filter_map(|(high, block)| Some((high, block.get()?))).flat_map(|(high, block)| {
                let zone = move |low: usize| Zone((high * ZONE_BLOCK + low) as u16);
                block.iter().enumerate().map(move |(low, count)| (zone(low), count.load(Ordering::Relaxed)))
            });
        counts.filter(|(_, count)| *count != 0).collect()
    }

    /// Embryonic connections of a port now.
    pub fn embryonic(&self, origin: DpPort) -> u32 {
        self.shard(origin).lock().get(&origin).map_or(0, |o| o.embryonic)
    }

    fn zone_counter(&self, zone: Zone) -> Option<&AtomicU32> {
        let block = self.zones.get(zone.0 as usize / ZONE_BLOCK)?;
        let block = block.get_or_init(|| (0..ZONE_BLOCK).map(|_| AtomicU32::new(0)).collect());
        block.get(zone.0 as usize % ZONE_BLOCK)
    }

    #[expect(clippy::indexing_slicing, reason = "reduced to the number of locks")]
    fn shard(&self, origin: DpPort) -> &OriginShard {
        &self.origins[origin.0 as usize % ORIGIN_SHARDS]
    }

    /// Asks for room for a connection of `zone` from `origin`; if granted it is counted, and must be given to
    /// [`settle`](Self::settle) or [`cancel`](Self::cancel). If it asks for a victim, that must be ended and
    /// [`readmit`](Self::readmit) asked: no connection costs more than one other.
    pub fn admit(&self, zone: Zone, origin: DpPort, config: &CtConfig) -> Admission {
        match self.victim(zone, origin, config) {
            Some(victim) => Admission::After(victim),
            None => self.readmit(zone, config),
        }
    }

    /// The embryonic connection that has to give way to one of `zone` from `origin`, if any.
    fn victim(&self, zone: Zone, origin: DpPort, config: &CtConfig) -> Option<Arc<Connection>> {
        if config.zone_limit(zone).is_some_and(|limit| self.zone(zone) >= limit) {
            return self.victim_of(origin, Some(zone));
        }
        let most = config.embryonic_port_max.max(1);
        // Mostly all ports together have less, which takes no lock to see.
        let may_have_most = self.shard(origin).embryonic.load(Ordering::Relaxed) >= most;
        if may_have_most && self.embryonic(origin) >= most {
            return self.victim_of(origin, None);
        }
        let max = config.connections_max;
        let nearly_full = self.total() >= max - max / 16;
        if nearly_full { self.victim_of_busiest(origin) } else { None }
    }

    /// Asks for room where nothing more can be ended for it.
    pub fn readmit(&self, zone: Zone, config: &CtConfig) -> Admission {
        // Counted first and compared then, so that two workers cannot take the same last place.
        let is_full = self.total.fetch_add(1, Ordering::AcqRel) >= config.connections_max;
        let in_zone = self.zone_counter(zone).map_or(0, |count| count.fetch_add(1, Ordering::AcqRel));
        if is_full || config.zone_limit(zone).is_some_and(|limit| in_zone >= limit) {
            self.cancel(zone);
            return Admission::Refused;
        }
        Admission::Granted
    }

    /// Takes back what [`admit`](Self::admit) counted.
    pub fn cancel(&self, zone: Zone) {
        self.total.fetch_sub(1, Ordering::AcqRel);
        if let Some(count) = self.zone_counter(zone) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Notes an admitted connection that stands in the table, as embryonic.
    pub fn settle(&self, connection: &Arc<Connection>) {
        let port = connection.origin();
        let shard = self.shard(port);
        let mut origins = shard.lock();
        let origin = origins.entry(port).or_default();
        if origin.queue.len() > 2 * origin.embryonic as usize + QUEUE_SLACK {
            origin.queue.retain(|c| c.load().has(State::EMBRYONIC));
        }
        origin.queue.push_back(Arc::clone(connection));
        // Under the lock, and before anybody can find it answered.
        if connection.set_flag(State::EMBRYONIC) {
            origin.embryonic += 1;
            shard.renumber(0, 1);
        }
        let (count, dead) = (origin.embryonic, connection.is_dead());
        drop(origins);
        self.note_busiest(port, count);
        if dead || connection.load().has(State::REPLIED) {
            // It was answered or ended between its insertion and this.
            self.grow_up(connection);
        }
    }

    /// Notes that a connection is no longer embryonic: answered, or ended.
    pub fn grow_up(&self, connection: &Connection) {
        if !connection.clear_flag(State::EMBRYONIC) {
            return;
        }
        let port = connection.origin();
        let shard = self.shard(port);
        let mut origins = shard.lock();
        let Some(origin) = origins.get_mut(&port) else { return };
        let (before, count) = (origin.embryonic, origin.embryonic.saturating_sub(1));
        origin.embryonic = count;
        shard.renumber(before, count);
        if count == 0 {
            origins.remove(&port);
        }
        drop(origins);
        if self.busiest.load(Ordering::Relaxed) as u32 == port.0 {
            self.busiest.store(u64::from(count) << 32 | u64::from(port.0), Ordering::Relaxed);
        }
    }

    /// Notes that a connection was ended.
    pub fn release(&self, connection: &Connection) {
        self.grow_up(connection);
        self.cancel(connection.zone());
    }

    fn note_busiest(&self, port: DpPort, count: u32) {
        let busiest = self.busiest.load(Ordering::Relaxed);
        if busiest as u32 == port.0 || (busiest >> 32) as u32 <= count {
            self.busiest.store(u64::from(count) << 32 | u64::from(port.0), Ordering::Relaxed);
        }
    }

    /// The oldest embryonic connection of the port that has most, which is `origin` unless another has more.
    fn victim_of_busiest(&self, origin: DpPort) -> Option<Arc<Connection>> {
        let busiest = DpPort(self.busiest.load(Ordering::Relaxed) as u32);
        self.victim_of(busiest, None).or_else(|| self.victim_of(origin, None))
    }

    /// The oldest embryonic connection of a port, or of those that were first the oldest of a zone.
    fn victim_of(&self, port: DpPort, zone: Option<Zone>) -> Option<Arc<Connection>> {
        let mut origins = self.shard(port).lock();
        let queue = &mut origins.get_mut(&port)?.queue;
        while queue.front().is_some_and(|c| !c.load().has(State::EMBRYONIC)) {
            queue.pop_front();
        }
        let looked_at = queue.iter().take(ZONE_VICTIM_LOOKS_MAX);
        let place = zone.map_or(Some(0), |zone| {
            looked_at.clone().position(|c| c.zone() == zone && c.load().has(State::EMBRYONIC))
        })?;
        queue.remove(place)
    }
}
