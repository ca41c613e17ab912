//! Which ports of a translated source are taken towards one destination: found without a scan, exact until the last one.
//!
//! A port is free towards a destination if no tuple has it, and the table of connections knows that. While few are taken, a
//! few tries by chance find a free one, and nothing is kept here. When they fail, the destination gets a map: two levels
//! of bits, in which the next port that is not known to be taken is found in two steps. A port found taken is marked, so
//! that it is not tried again; one that is given back is unmarked. So each wasted try is paid for once.

use super::connection::{Connection, State};
use super::tuple::Tuple;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks that destinations are spread over.
const MAP_SHARDS: usize = 16;
/// Most destinations that have a map, of 16 KiB each; further ones go by chance alone.
pub(super) const PORT_MAPS_MAX: usize = 2048;
/// Times that an exhausted destination is left alone after its marks were forgotten.
const FORGET_REST: u32 = 64;
const WORDS: usize = 1024;

/// Maps by the tuple that [`key_of`] makes of a destination.
type ByDestination = BTreeMap<Tuple, Box<PortMap>>;

/// The maps of all destinations.
#[derive(Debug)]
pub(super) struct PortMaps {
    shards: Box<[Mutex<ByDestination>]>,
    len: AtomicUsize,
}

/// A reply tuple without the port in question: what it is sent to.
fn key_of(reply: &Tuple) -> Tuple {
    if reply.is_icmp() {
        reply.with_src(reply.src_number(), 0)
    } else {
        reply.with_dst(reply.dst_number(), 0)
    }
}

fn port_of(reply: &Tuple) -> u16 {
    if reply.is_icmp() { reply.src_port() } else { reply.dst_port() }
}

impl PortMaps {
    pub fn new() -> PortMaps {
        PortMaps { shards: (0..MAP_SHARDS).map(|_| Mutex::default()).collect(), len: AtomicUsize::new(0) }
    }

    #[expect(clippy::indexing_slicing, reason = "reduced to the number of locks")]
    fn lock(&self, key: &Tuple) -> MutexGuard<'_, ByDestination> {
        let [_, a, _, b, c] = key.words();
        let mixed = (a ^ b.rotate_left(17) ^ c.rotate_left(31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.shards[(mixed >> 60) as usize % MAP_SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the destination of `reply` has a map.
    pub fn has_map(&self, reply: &Tuple) -> bool {
        let key = key_of(reply);
        self.len.load(Ordering::Relaxed) != 0 && self.lock(&key).contains_key(&key)
    }

    /// The next port of `range` that is not known to be taken, marked as taken, for the destination of `reply` (whose own
    /// port does not count). The destination gets a map that begins at `start` if it has none. `None` if there is no such
    /// port, or no room for a map.
    pub fn next(&self, reply: &Tuple, range: RangeInclusive<u16>, start: u16) -> Option<u16> {
        let key = key_of(reply);
        let mut maps = self.lock(&key);
        match maps.entry(key) {
            Entry::Occupied(map) => map.into_mut().take_next(range),
            Entry::Vacant(place) => {
                if self.len.fetch_add(1, Ordering::Relaxed) >= PORT_MAPS_MAX {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                place.insert(Box::new(PortMap::new(start))).take_next(range)
            }
        }
    }

    /// Notes that a port that [`next`](Self::next) gave is in use by a connection, which gives it back when it ends.
    pub fn hold_for(&self, connection: &Connection) {
        if !connection.load().has(State::SNAT | State::DNAT) {
            return;
        }
        let key = key_of(&connection.reply());
        if let Some(map) = self.lock(&key).get_mut(&key) {
            map.hold(port_of(&connection.reply()));
        }
        // It may have ended meanwhile, and have given back what was not held yet.
        if connection.is_dead() {
            self.release(&connection.reply());
        }
    }

    /// Notes that the table no longer has this reply tuple.
    pub fn release(&self, reply: &Tuple) {
        if self.len.load(Ordering::Relaxed) == 0 {
            return;
        }
        let key = key_of(reply);
        let mut maps = self.lock(&key);
        let Some(map) = maps.get_mut(&key) else { return };
        map.release(port_of(reply));
        if map.held == 0 {
            maps.remove(&key);
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets the marks of ports that are not held, because what was found once may be free by now; false if there are
    /// none, so that the destination is truly exhausted.
    pub fn forget(&self, reply: &Tuple) -> bool {
        let key = key_of(reply);
        self.lock(&key).get_mut(&key).is_some_and(|map| map.forget())
    }
}

/// 65,536 ports, marked or not.
#[derive(Debug)]
struct PortMap {
    /// Known to be taken.
    taken: [u64; WORDS],
    /// Words of `taken` that are full.
    full: [u64; WORDS / 64],
    /// Taken by a connection that will give the port back.
    own: [u64; WORDS],
    held: u32,
    marked: u32,
    cursor: u16,
    /// Times that marks are not forgotten, because they were a moment ago.
    rest: u32,
}

impl PortMap {
    fn new(start: u16) -> PortMap {
        PortMap {
            taken: [0; WORDS],
            full: [0; WORDS / 64],
            own: [0; WORDS],
            held: 0,
            marked: 0,
            cursor: start,
            rest: 0,
        }
    }

    fn take_next(&mut self, range: RangeInclusive<u16>) -> Option<u16> {
        let (first, last) = (*range.start(), *range.end());
        let from = if range.contains(&self.cursor) { self.cursor } else { first };
        let port = self.free_in(from, last).or_else(|| self.free_in(first, from))?;
        self.mark(port);
        self.cursor = port.wrapping_add(1);
        Some(port)
    }

    /// The first port from `first` to `last` that is not marked.
    fn free_in(&self, first: u16, last: u16) -> Option<u16> {
        let (first, last) = (usize::from(first), usize::from(last));
        // The word that the range begins in, from there on.
        let word = first / 64;
        let rest = !self.taken.get(word)? & u64::MAX << (first % 64);
        if rest != 0 {
            return in_range(word * 64 + rest.trailing_zeros() as usize, last);
        }
        // Then the first word after it that is not full.
        let next = word + 1;
        for (index, full) in self.full.iter().enumerate().skip(next / 64) {
            let masked = if index == next / 64 { u64::MAX << (next % 64) } else { u64::MAX };
            let free = !full & masked;
            if free != 0 {
                let word = index * 64 + free.trailing_zeros() as usize;
                let bits = !self.taken.get(word)?;
                return in_range(word * 64 + bits.trailing_zeros() as usize, last);
            }
        }
        None
    }

    fn mark(&mut self, port: u16) {
        let (word, bit) = place(port);
        if let Some(bits) = self.taken.get_mut(word) {
            self.marked += u32::from(*bits & bit == 0);
            *bits |= bit;
            if *bits == u64::MAX
                && let Some(full) = self.full.get_mut(word / 64)
            {
                *full |= 1 << (word % 64);
            }
        }
    }

    fn hold(&mut self, port: u16) {
        self.mark(port);
        let (word, bit) = place(port);
        if let Some(bits) = self.own.get_mut(word)
            && *bits & bit == 0
        {
            *bits |= bit;
            self.held += 1;
        }
    }

    fn release(&mut self, port: u16) {
        let (word, bit) = place(port);
        if let Some(bits) = self.taken.get_mut(word)
            && *bits & bit != 0
        {
            *bits &= !bit;
            self.marked -= 1;
            if let Some(full) = self.full.get_mut(word / 64) {
                *full &= !(1 << (word % 64));
            }
        }
        if let Some(bits) = self.own.get_mut(word)
            && *bits & bit != 0
        {
            *bits &= !bit;
            self.held -= 1;
        }
    }

    fn forget(&mut self) -> bool {
        if self.marked == self.held {
            return false;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        self.rest = FORGET_REST;
        self.taken = self.own;
        self.marked = self.held;
        for (full, words) in self.full.iter_mut().zip(self.taken.chunks(64)) {
            let bits = words.iter().enumerate().filter(|(_, w)| **w == u64::MAX);
            *full = bits.fold(0, |bits, (index, _)| bits | 1 << index);
        }
        true
    }
}

fn in_range(port: usize, last: usize) -> Option<u16> {
    u16::try_from(port).ok().filter(|_| port <= last)
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port) / 64, 1 << (port % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Against a set: every port of a range is given once, whatever the start, and then none; a port given back is
    /// given again.
    #[test]
    fn fills_a_range_and_finds_what_is_given_back() {
        for (first, last, start) in
            [(1024, 65_535, 40_000), (0, 65_535, 0), (5_000, 5_063, 9), (64, 127, 127), (9, 9, 9)]
        {
            let mut map = PortMap::new(start);
            let mut given = BTreeSet::new();
            for _ in first..=last {
                let port = map.take_next(first..=last).expect("not all are taken");
                map.hold(port);
                assert!((first..=last).contains(&port) && given.insert(port));
            }
            assert_eq!(map.take_next(first..=last), None);
            assert!(!map.forget(), "all are held");
            let some = [first, last, first + (last - first) / 2];
            for port in some.into_iter().collect::<BTreeSet<_>>() {
                map.release(port);
                assert_eq!(map.take_next(first..=last), Some(port));
                map.hold(port);
            }
            assert_eq!(map.held, u32::from(last - first) + 1);
        }
    }

    #[test]
    fn marks_without_an_owner_are_forgotten() {
        let mut map = PortMap::new(0);
        let ports: Vec<_> = (0..64).map(|_| map.take_next(0..=63)).collect();
        assert!(ports.iter().all(Option::is_some));
        map.hold(7);
        assert_eq!(map.take_next(0..=63), None);
        assert!(map.forget());
        let again: BTreeSet<_> = std::iter::from_fn(|| map.take_next(0..=63)).collect();
        assert_eq!(again.len(), 63);
        assert!(!again.contains(&7));
    }
}
