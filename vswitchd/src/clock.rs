//! The daemon's clock, which `time/stop` and `time/warp` may take off real time. Main loop and workers share it.

use base::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The value of `frozen` while time runs.
const RUNNING: u64 = u64::MAX;

/// Time as the daemon sees it; clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Nanoseconds added to the monotonic clock: all the warps so far.
    offset: Arc<AtomicU64>,
    /// The time at which it was stopped, or `RUNNING`.
    frozen: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { offset: Arc::default(), frozen: Arc::new(AtomicU64::new(RUNNING)) }
    }
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Instant {
        self.at(sys::clock::monotonic())
    }

    /// The time when it is this time by the kernel's monotonic clock, which is now.
    pub fn at(&self, monotonic: Instant) -> Instant {
        match self.frozen.load(Ordering::Acquire) {
            RUNNING => monotonic + Duration::from_nanos(self.offset.load(Ordering::Relaxed)),
            frozen => Instant::from_nanos(frozen),
        }
    }

    /// `time/stop`: time stands still from now on.
    pub fn stop(&self) {
        self.frozen.store(self.now().as_nanos(), Ordering::Release);
    }

    /// Whether time stands still.
    pub fn is_stopped(&self) -> bool {
        self.frozen.load(Ordering::Acquire) != RUNNING
    }

    /// `time/warp`: moves on by `step`, stopped or not.
    pub fn advance(&self, step: Duration) {
        let nanos = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        if self.is_stopped() {
            self.frozen.fetch_add(nanos, Ordering::AcqRel);
        } else {
            self.offset.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_time_moves_only_by_warps() {
        let clock = Clock::default();
        let shared = clock.clone();
        let start = clock.now();
        clock.advance(Duration::from_secs(100));
        assert!(shared.now() >= start + Duration::from_secs(100));
        clock.stop();
        let stopped = shared.now();
        assert_eq!(shared.now(), stopped);
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(shared.now(), stopped + Duration::from_millis(1_500));
        assert!(shared.is_stopped());
    }
}
