//! Memory that the sending program reads keys from: an array of bpf(2) that we have mapped. Each sender has a range of it for itself.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::key::{SLOT_LEN, TunnelKey};
use crate::bpf::{MMAPABLE, Map, MapKind};
use crate::mapping::Mapping;
use crate::packet_socket::FRAMES_MAX;

/// Most that can send by one device at a time.
pub const SENDERS_MAX: usize = 128;
/// Slots in all: the first is nobody's, as frames that have no mark are nobody's.
const SLOTS: usize = 1 + SENDERS_MAX * FRAMES_MAX;
const SLOTS_LEN: usize = SLOTS * SLOT_LEN;

// The kernel lays values out at multiples of eight bytes.
const _: () = assert!(SLOT_LEN.is_multiple_of(8));

/// The slots of a device.
#[derive(Debug)]
pub(super) struct KeyTable {
    map: Map,
    memory: Mapping,
    /// Which ranges somebody has.
    taken: Mutex<[bool; SENDERS_MAX]>,
}

impl KeyTable {
    pub fn create() -> io::Result<KeyTable> {
        let map = Map::create(MapKind::Array, SLOT_LEN as u32, SLOTS as u32, MMAPABLE)?;
        let memory = Mapping::of(map.as_fd(), SLOTS_LEN, 0)?;
        Ok(KeyTable { map, memory, taken: Mutex::new([false; SENDERS_MAX]) })
    }

    pub fn map(&self) -> &Map {
        &self.map
    }

    /// A range that nobody has.
    pub fn take_range(table: &Arc<KeyTable>) -> io::Result<KeyRange> {
        let mut taken = table.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.iter_mut().enumerate().find(|(_, taken)| !**taken);
        let (number, place) = free.ok_or(io::ErrorKind::QuotaExceeded)?;
        *place = true;
        drop(taken);
        Ok(KeyRange { table: Arc::clone(table), number })
    }
}

/// [`FRAMES_MAX`] slots for one sender.
#[derive(Debug)]
pub(super) struct KeyRange {
    table: Arc<KeyTable>,
    number: usize,
}

impl KeyRange {
    /// Puts a key into a slot, a number below [`FRAMES_MAX`], for the next call that sends. Gives the mark by which the program finds
    /// it.
    pub fn put(&mut self, at: usize, key: &TunnelKey) -> u32 {
        let slot = 1 + self.number * FRAMES_MAX + at % FRAMES_MAX;
        let bytes = key.encode();
        // SAFETY: slots from 0 to SLOTS are in the mapping, of which this is one, as `number` is below SENDERS_MAX. Nobody else
        // in this process touches it: the range is this value's, which is borrowed exclusively. The kernel reads it in the
        // calls by which its owner sends, none of which is under way.
        unsafe {
            let place = self.table.memory.start().add(slot * SLOT_LEN);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), SLOT_LEN);
        }
        slot as u32
    }
}

impl Drop for KeyRange {
    fn drop(&mut self) {
        let mut taken = self.table.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = taken.get_mut(self.number) {
            *place = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_each_for_one_and_come_back() {
        let table = Arc::new(KeyTable::create().unwrap());
        let key = TunnelKey {
            remote: "10.0.0.1".parse().unwrap(),
            local: "0.0.0.0".parse().unwrap(),
            vni: 7,
            tos: 0,
            ttl: 64,
            df: true,
            is_checked: false,
        };
        let mut ranges: Vec<KeyRange> =
            (0..SENDERS_MAX).map(|_| KeyTable::take_range(&table).unwrap()).collect();
        assert!(KeyTable::take_range(&table).is_err());
        let mut marks: Vec<u32> =
            ranges.iter_mut().flat_map(|r| [r.put(0, &key), r.put(FRAMES_MAX - 1, &key)]).collect();
        assert_eq!((marks.first(), marks.last()), (Some(&1), Some(&(SLOTS as u32 - 1))));
        marks.dedup();
        assert_eq!(marks.len(), 2 * SENDERS_MAX);
        let second = ranges.swap_remove(1);
        drop(second);
        assert_eq!(KeyTable::take_range(&table).unwrap().number, 1);
    }
}
