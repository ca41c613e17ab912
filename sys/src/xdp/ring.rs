//! Memory shared with the kernel: rings with one producer and one consumer, of which the kernel is one.
//!
//! Whatever indices the kernel shows, no more entries are ever taken to be there, or free, than a ring has.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::off_t;

use crate::mapping::Mapping;

/// What has no padding and is valid in any bits, so that it may be read from memory that the kernel has written.
///
/// # Safety
/// Only for such types.
pub(super) unsafe trait Entry: Copy {}

// SAFETY: an integer.
unsafe impl Entry for u64 {}
// SAFETY: three integers, of 8, 4 and 4 bytes, in that order.
unsafe impl Entry for libc::xdp_desc {}

/// A mapped ring.
#[derive(Debug)]
struct Ring<T> {
    /// What the pointers point into.
    _memory: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// A power of two.
    size: u32,
}

// SAFETY: the pointers are into `_memory`, which goes with them.
unsafe impl<T: Entry> Send for Ring<T> {}
// SAFETY: through a shared reference only the atomics are touched.
unsafe impl<T: Entry> Sync for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// The ring of `size` entries that begins at `offset` of a socket.
    fn map(
        socket: BorrowedFd<'_>,
        offset: off_t,
        inside: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Ring<T>> {
        let length = usize::try_from(inside.desc).ok().and_then(|start| {
            let entries = (size as usize).checked_mul(size_of::<T>())?;
            start.checked_add(entries)
        });
        let length = length.ok_or(io::ErrorKind::InvalidData)?;
        Ring::within(Mapping::of(socket, length, offset)?, inside, size)
    }

    fn within(memory: Mapping, inside: &libc::xdp_ring_offset, size: u32) -> io::Result<Ring<T>> {
        if !size.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Ring {
            producer: memory.place(inside.producer, 1)?,
            consumer: memory.place(inside.consumer, 1)?,
            flags: memory.place(inside.flags, 1)?,
            entries: memory.place(inside.desc, size as usize)?,
            _memory: memory,
            size,
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: it is in `_memory`, aligned ([`Mapping::place`]), and touched by atomic operations only, by the kernel too.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as before.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as before.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the remainder is less than the number of entries, all of which are in `_memory`.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

/// A ring that we fill.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// Ours, shown to the kernel by [`Producer::publish`].
    next: u32,
    /// The kernel's, as last seen.
    consumed: u32,
}

impl<T: Entry> Producer<T> {
    pub fn map(
        socket: BorrowedFd<'_>,
        offset: off_t,
        inside: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Producer<T>> {
        Ok(Producer::new(Ring::map(socket, offset, inside, size)?))
    }

    fn new(ring: Ring<T>) -> Producer<T> {
        Producer { next: ring.producer().load(Ordering::Relaxed), consumed: 0, ring }
    }

    /// Whether there is room for another entry.
    pub fn has_room(&mut self) -> bool {
        if self.used() >= self.ring.size {
            // Acquire: what the kernel read of an entry it has read before we write another there.
            self.consumed = self.ring.consumer().load(Ordering::Acquire);
        }
        self.used() < self.ring.size
    }

    /// More than the ring has if the kernel's index is odd.
    fn used(&self) -> u32 {
        self.next.wrapping_sub(self.consumed)
    }

    /// Adds an entry, which the kernel does not see yet. False, and nothing is added, if there is no room.
    pub fn push(&mut self, value: T) -> bool {
        if !self.has_room() {
            return false;
        }
        // SAFETY: `entry` points to an entry of the ring, and by the ring's protocol the kernel keeps away from those that it
        // has consumed or that it has not been shown yet, of which this is one.
        unsafe { self.ring.entry(self.next).write(value) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the kernel what was added.
    pub fn publish(&mut self) {
        // Release: the entries, and what they point to, are written before.
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// How many entries the kernel has not consumed.
    pub fn pending(&mut self) -> u32 {
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.used().min(self.ring.size)
    }

    pub fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// A ring that we empty.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// Ours, shown to the kernel by [`Consumer::release`].
    next: u32,
    /// The kernel's, as last seen.
    produced: u32,
}

impl<T: Entry> Consumer<T> {
    pub fn map(
        socket: BorrowedFd<'_>,
        offset: off_t,
        inside: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Consumer<T>> {
        Ok(Consumer::new(Ring::map(socket, offset, inside, size)?))
    }

    fn new(ring: Ring<T>) -> Consumer<T> {
        let next = ring.consumer().load(Ordering::Relaxed);
        Consumer { next, produced: next, ring }
    }

    /// How many entries there are; none more than before if the kernel's index is odd.
    pub fn available(&mut self) -> u32 {
        // Acquire: the entries, and what they point to, are read after.
        let produced = self.ring.producer().load(Ordering::Acquire);
        if produced.wrapping_sub(self.next) <= self.ring.size {
            self.produced = produced;
        }
        self.produced.wrapping_sub(self.next)
    }

    /// Takes an entry.
    pub fn next(&mut self) -> Option<T> {
        if self.next == self.produced && self.available() == 0 {
            return None;
        }
        // SAFETY: `entry` points to an entry of the ring, valid in any bits ([`Entry`]), and by the ring's protocol the kernel
        // keeps away from those that it has produced and that have not been released, of which this is one.
        let value = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// Lets the kernel have the places of the entries that were taken.
    pub fn release(&mut self) {
        // Release: they have been read before.
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 8;
    const INSIDE: libc::xdp_ring_offset =
        libc::xdp_ring_offset { producer: 0, consumer: 64, desc: 192, flags: 128 };

    fn memory() -> Mapping {
        Mapping::anonymous(4096).unwrap()
    }

    fn ring() -> Ring<u64> {
        Ring::within(memory(), &INSIDE, SIZE).unwrap()
    }

    /// Both ends of one ring: the other one plays the kernel.
    fn ends() -> (Producer<u64>, Consumer<u64>) {
        let producer = Producer::new(ring());
        let mut consumer = Consumer::new(ring());
        let Producer { ring: Ring { producer: p, consumer: c, entries, .. }, .. } = &producer;
        (consumer.ring.producer, consumer.ring.consumer, consumer.ring.entries) = (*p, *c, *entries);
        (producer, consumer)
    }

    #[test]
    fn entries_come_out_in_order_and_only_what_is_published() {
        let (mut producer, mut consumer) = ends();
        // Over the end of the ring and of the numbers.
        for start in [0, 5, u32::MAX - 3] {
            producer.next = start;
            producer.consumed = start;
            consumer.next = start;
            consumer.produced = start;
            consumer.release();
            producer.publish();
            for round in 0..5 {
                let count = 1 + round % u64::from(SIZE);
                assert!((0..count).all(|n| producer.push(round * 100 + n)));
                assert_eq!(consumer.next(), None);
                producer.publish();
                assert_eq!(producer.pending(), count as u32);
                let got: Vec<u64> = std::iter::from_fn(|| consumer.next()).collect();
                assert_eq!(got, (0..count).map(|n| round * 100 + n).collect::<Vec<_>>());
                consumer.release();
                assert_eq!(producer.pending(), 0);
            }
        }
    }

    #[test]
    fn full_ring_takes_no_more_until_entries_are_released() {
        let (mut producer, mut consumer) = ends();
        assert!((0..u64::from(SIZE)).all(|n| producer.push(n)));
        assert!(!producer.push(99));
        producer.publish();
        assert_eq!(consumer.next(), Some(0));
        assert!(!producer.push(99), "taken is not released");
        consumer.release();
        assert!(producer.push(8));
        assert!(!producer.push(99));
    }

    #[test]
    fn odd_indices_are_neither_entries_nor_room() {
        let (mut producer, mut consumer) = ends();
        for odd in [SIZE + 1, 1000, u32::MAX] {
            consumer.ring.producer().store(odd, Ordering::Release);
            assert_eq!(consumer.available(), 0);
            assert_eq!(consumer.next(), None);
        }
        assert!((0..u64::from(SIZE)).all(|n| producer.push(n)));
        for odd in [SIZE + 1, 1000, u32::MAX] {
            // More consumed than there was, or less than before.
            producer.ring.consumer().store(odd, Ordering::Release);
            assert!(!producer.push(7), "{odd}");
            assert!(producer.pending() <= SIZE);
        }
    }

    #[test]
    fn offsets_outside_the_memory_are_refused() {
        for offset in [4096, 4093, 4095, u64::MAX, u64::MAX - 3] {
            let inside = libc::xdp_ring_offset { producer: offset, ..INSIDE };
            assert!(Ring::<u64>::within(memory(), &inside, SIZE).is_err(), "{offset}");
            let inside = libc::xdp_ring_offset { desc: offset, ..INSIDE };
            assert!(Ring::<u64>::within(memory(), &inside, SIZE).is_err(), "{offset}");
        }
        // The last that fit.
        let inside = libc::xdp_ring_offset { producer: 4092, desc: 4096 - 64, ..INSIDE };
        assert!(Ring::<u64>::within(memory(), &inside, SIZE).is_ok());
        assert!(Ring::<u64>::within(memory(), &INSIDE, 7).is_err(), "not a power of two");
    }
}
