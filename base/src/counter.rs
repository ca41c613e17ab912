//! Counters that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with a single writer: `add` is a load and a store, not a locked read-modify-write, which costs a tenth of
/// `fetch_add`. Readers on other threads see a value that was current a moment ago. With two writers counts are lost, so
/// a counter belongs to exactly one worker.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Adds `n`, wrapping at 2^64. Only the owning thread may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_wraps() {
        let c = Counter::new();
        c.add(u64::MAX);
        c.add(3);
        assert_eq!(c.get(), 2);
    }
}
