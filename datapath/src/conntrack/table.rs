//! The table of connections: a power of two of shards, each a leaf mutex over a hash table and a timing wheel.
//!
//! Two tuples of a connection that is not translated are each other's reverse and hash alike, so it stands in the table
//! once; a translated one stands under both its tuples. No lock nests but the two shards of one insertion, taken in order
//! of their index. Shards are many, so that growing one rehashes few entries.

use super::connection::{Connection, State};
use super::tuple::{Direction, Tuple};
use base::{HashSeed, Instant, TimingWheel};
use hashbrown::HashTable;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Shards; a power of two. With a million connections a shard that grows moves some 4,000 entries of 16 bytes.
pub(super) const SHARDS: usize = 512;
/// Longest time between two visits of the wheel, so that what was removed early does not hold its memory for a day.
pub(super) const VISIT_MAX: Duration = Duration::from_secs(60);
/// Longest time to the first visit: what an answer leaves most protocols, so that it need not set an earlier one.
pub(super) const FIRST_VISIT_MAX: Duration = Duration::from_secs(30);
/// What a slot of the wheels stands for.
const WHEEL_TICK: Duration = Duration::from_secs(1);
/// Room that a shard keeps however few connections it has.
const SHARD_ROOM_MIN: usize = 64;

/// A tuple's hash: computed once a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct TupleHash(u64);

impl TupleHash {
    #[inline]
    fn shard(self) -> usize {
        self.0 as usize & (SHARDS - 1)
    }

    /// The part that is kept: independent of the shard, which all entries of a shard have in common.
    #[inline]
    fn kept(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Spread over 64 bits again, as `hashbrown` wants it.
#[inline]
fn spread(kept: u32) -> u64 {
    u64::from(kept).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Debug)]
struct Entry {
    hash: u32,
    /// Whether it is the one that stands under the original tuple.
    is_home: bool,
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct ShardState {
    entries: HashTable<Entry>,
    wheel: TimingWheel<Arc<Connection>>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    state: Mutex<ShardState>,
    /// When its wheel wants to be visited, in nanoseconds.
    next_visit: AtomicU64,
}

/// Why a connection cannot be inserted.
#[derive(Debug)]
pub(super) enum Refused {
    /// One of its tuples names this one.
    Taken(Arc<Connection>),
}

/// All shards.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard]>,
    seed: HashSeed,
    /// Not after the earliest visit that any wheel wants, in nanoseconds.
    next_visit: AtomicU64,
    /// The shard that the next sweep begins with.
    cursor: AtomicUsize,
}

impl Table {
    pub fn new(seed: HashSeed) -> Table {
        let shard = |_| Shard {
            state: Mutex::new(ShardState {
                entries: HashTable::new(),
                wheel: TimingWheel::new(WHEEL_TICK, Instant::ZERO),
            }),
            next_visit: AtomicU64::new(u64::MAX),
        };
        Table {
            shards: (0..SHARDS).map(shard).collect(),
            seed,
            next_visit: AtomicU64::new(u64::MAX),
            cursor: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub fn hash(&self, tuple: &Tuple) -> TupleHash {
        TupleHash(self.seed.hash_row(&tuple.canonical()))
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "masked to the number of shards")]
    fn shard(&self, index: usize) -> &Shard {
        &self.shards[index & (SHARDS - 1)]
    }

    fn lock(shard: &Shard) -> MutexGuard<'_, ShardState> {
        shard.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that a tuple names and that is not dead.
    #[inline]
    pub fn find(&self, tuple: &Tuple, hash: TupleHash) -> Option<(Arc<Connection>, Direction)> {
        let state = Self::lock(self.shard(hash.shard()));
        let entry = state.find(tuple, hash.kept())?;
        let direction = entry.connection.names.direction_of(tuple)?;
        Some((Arc::clone(&entry.connection), direction))
    }

    /// Adds a connection under its tuples, to be visited at `visit_at`.
    ///
    /// # Errors
    /// [`Refused::Taken`] if one of its tuples names another; the table is then unchanged.
    pub fn insert(
        &self,
        connection: &Arc<Connection>,
        now: Instant,
        visit_at: Instant,
    ) -> Result<(), Refused> {
        let (original, reply) = (connection.original(), connection.reply());
        let home = self.hash(&original);
        let away = connection.load().has(State::TRANSLATED).then(|| self.hash(&reply));
        // With both tuples in one shard, or only one tuple, there is one lock.
        let (low, high) = match away.map(TupleHash::shard) {
            Some(index) if index != home.shard() => (home.shard().min(index), Some(home.shard().max(index))),
            _ => (home.shard(), None),
        };
        let mut first = Self::lock(self.shard(low));
        let mut second = high.map(|index| Self::lock(self.shard(index)));
        let (at_home, at_away) = match &mut second {
            Some(second) if low == home.shard() => (&mut *first, Some(&mut **second)),
            Some(second) => (&mut **second, Some(&mut *first)),
            None => (&mut *first, None),
        };
        let other = at_home.find(&original, home.kept()).or_else(|| {
            let state = at_away.as_deref().unwrap_or(at_home);
            state.find(&reply, away.unwrap_or(home).kept())
        });
        if let Some(other) = other {
            return Err(Refused::Taken(Arc::clone(&other.connection)));
        }
        at_home.add(home.kept(), true, connection);
        at_home.wheel.insert(now, visit_at, Arc::clone(connection));
        connection.arm(visit_at);
        if let Some(away) = away {
            at_away.unwrap_or(at_home).add(away.kept(), false, connection);
        }
        drop(second);
        drop(first);
        self.wake_at(home.shard(), visit_at);
        Ok(())
    }

    /// Sets a connection to be visited earlier than it is.
    pub fn rearm(&self, connection: &Arc<Connection>, now: Instant, visit_at: Instant) {
        let index = self.hash(&connection.original()).shard();
        Self::lock(self.shard(index)).wheel.insert(now, visit_at, Arc::clone(connection));
        connection.arm(visit_at);
        self.wake_at(index, visit_at);
    }

    /// Takes a connection out, from one shard after the other.
    pub fn remove(&self, connection: &Arc<Connection>) {
        self.remove_under(&connection.original(), connection);
        if connection.load().has(State::TRANSLATED) {
            self.remove_under(&connection.reply(), connection);
        }
    }

    fn remove_under(&self, tuple: &Tuple, connection: &Arc<Connection>) {
        let hash = self.hash(tuple);
        let mut state = Self::lock(self.shard(hash.shard()));
        let entries = &mut state.entries;
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.connection, connection);
        if let Ok(entry) = entries.find_entry(spread(hash.kept()), is_it) {
            entry.remove();
        }
        if entries.capacity() > SHARD_ROOM_MIN && entries.len() < entries.capacity() / 8 {
            let room = (entries.len() * 2).max(SHARD_ROOM_MIN);
            entries.shrink_to(room, |entry| spread(entry.hash));
        }
    }

    fn wake_at(&self, index: usize, at: Instant) {
        // The wheel visits at the end of the tick.
        let at = (at + WHEEL_TICK).as_nanos();
        // The shard first: a sweep clears the total before it reads the shards.
        self.shard(index).next_visit.fetch_min(at, Ordering::SeqCst);
        self.next_visit.fetch_min(at, Ordering::SeqCst);
    }

    /// When [`sweep`](Self::sweep) has something to do.
    pub fn next_visit(&self) -> Option<Instant> {
        let at = self.next_visit.load(Ordering::SeqCst);
        (at != u64::MAX).then(|| Instant::from_nanos(at))
    }

    /// Visits at most `limit` connections whose time has come, in shards that nobody else is at. `visit` says until when a
    /// connection stays; one that does not is returned. `None` also for those that are dead.
    pub fn sweep(
        &self,
        now: Instant,
        limit: usize,
        visit: impl Fn(&Connection) -> Option<Instant>,
    ) -> Vec<Arc<Connection>> {
        let mut ended = Vec::new();
        if self.next_visit.load(Ordering::Relaxed) > now.as_nanos() {
            return ended;
        }
        let mut visits = 0;
        let first = self.cursor.load(Ordering::Relaxed);
        self.next_visit.store(u64::MAX, Ordering::SeqCst);
        for index in (first..first + SHARDS).map(|index| index & (SHARDS - 1)) {
            let shard = self.shard(index);
            if visits >= limit {
                self.cursor.store(index, Ordering::Relaxed);
                break;
            }
            if shard.next_visit.load(Ordering::SeqCst) > now.as_nanos() {
                continue;
            }
            let mut state = match shard.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(state)) => state.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            shard.next_visit.store(u64::MAX, Ordering::SeqCst);
            visits += state
                .wheel
                .advance(now, limit - visits, |connection| revisit(connection, now, &visit, &mut ended));
            if let Some(at) = state.wheel.next_visit() {
                shard.next_visit.fetch_min(at.as_nanos(), Ordering::SeqCst);
            }
        }
        let next = self.shards.iter().map(|s| s.next_visit.load(Ordering::SeqCst)).min();
        self.next_visit.fetch_min(next.unwrap_or(u64::MAX), Ordering::SeqCst);
        ended
    }

    /// How many tuples each shard holds.
    pub fn shard_sizes(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| Self::lock(shard).entries.len()).collect()
    }

    /// The live connections of a shard, `None` behind the last one.
    pub fn connections_of(
        &self,
        shard: usize,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Option<Vec<Arc<Connection>>> {
        let state = Self::lock(self.shards.get(shard)?);
        let entries = state.entries.iter().filter(|e| e.is_home && !e.connection.is_dead());
        let connections = entries.filter(|e| wanted(&e.connection)).map(|e| Arc::clone(&e.connection));
        Some(connections.collect())
    }
}

/// One visit of the wheel: back with a new time, out with what has ended, or nothing if the entry is out of date.
fn revisit(
    connection: Arc<Connection>,
    now: Instant,
    visit: &impl Fn(&Connection) -> Option<Instant>,
    ended: &mut Vec<Arc<Connection>>,
) -> Option<(Instant, Arc<Connection>)> {
    if connection.is_dead() || connection.armed_after(now) > 0 {
        return None;
    }
    match visit(&connection) {
        Some(until) => {
            let at = until.min(now + VISIT_MAX);
            connection.arm(at);
            Some((at, connection))
        }
        None => {
            ended.push(connection);
            None
        }
    }
}

impl ShardState {
    #[inline]
    fn find(&self, tuple: &Tuple, hash: u32) -> Option<&Entry> {
        self.entries.find(spread(hash), |entry| {
            entry.hash == hash
                && entry.connection.names.direction_of(tuple).is_some()
                && !entry.connection.is_dead()
        })
    }

    fn add(&mut self, hash: u32, is_home: bool, connection: &Arc<Connection>) {
        let entry = Entry { hash, is_home, connection: Arc::clone(connection) };
        self.entries.insert_unique(spread(hash), entry, |entry| spread(entry.hash));
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Birth;
    use super::super::tuple::{TupleFields, Zone};
    use super::*;
    use packet::DpPort;

    /// A connection that is set to earlier visits again and again stands in the wheel once when those are over.
    #[test]
    fn entries_that_are_out_of_date_leave_the_wheel() {
        let table = Table::new(HashSeed::new(1, 2));
        let mut now = Instant::from_secs(1000);
        let fields = TupleFields {
            zone: Zone(0),
            protocol: 6,
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            src_port: 1,
            dst_port: 2,
        };
        let original = Tuple::new(fields);
        let connection = Arc::new(Connection::new(Birth {
            original,
            reply: original.reversed(),
            state: 0,
            origin: DpPort(1),
            policy: None,
            revision: 2,
            extra: None,
            now,
        }));
        table.insert(&connection, now, now + VISIT_MAX).expect("the table is empty");
        for secs in (5..50).rev() {
            table.rearm(&connection, now, now + Duration::from_secs(secs));
        }
        let len = || table.shards.iter().map(|s| Table::lock(s).wheel.len()).sum::<usize>();
        assert_eq!(len(), 46);
        for _ in 0..130 {
            now += Duration::from_secs(1);
            let ended = table.sweep(now, usize::MAX, |_| Some(now + Duration::from_secs(86_400)));
            assert!(ended.is_empty());
        }
        assert_eq!(len(), 1);
        assert!(table.next_visit().is_some_and(|at| at <= now + VISIT_MAX + WHEEL_TICK));
        // An end within its time is kept to.
        now += Duration::from_secs(120);
        assert_eq!(table.sweep(now, usize::MAX, |_| None).len(), 1);
        assert_eq!((len(), table.next_visit()), (0, None));
    }
}
