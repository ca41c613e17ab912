//! Rate limits as token buckets that are told the time.

use crate::Instant;
use std::time::Duration;

/// A token bucket: `rate` tokens a second, at most `burst` saved up.
#[derive(Clone, Debug)]
pub struct RateLimit {
    nanos_per_token: u64,
    burst: u64,
    /// The time at which the bucket, drained, would have been full: one number holds level and time (GCRA).
    empty_at: Instant,
    refused: u64,
}

impl RateLimit {
    /// A full bucket. `rate` is tokens a second, at least 1; `burst` at least 1.
    pub fn new(rate: u64, burst: u64) -> Self {
        RateLimit {
            nanos_per_token: 1_000_000_000 / rate.clamp(1, 1_000_000_000),
            burst: burst.max(1),
            empty_at: Instant::ZERO,
            refused: 0,
        }
    }

    /// Takes one token if there is one; counts the refusal if not.
    pub fn take(&mut self, now: Instant) -> bool {
        let token = Duration::from_nanos(self.nanos_per_token);
        let horizon = now + token.saturating_mul(u32::try_from(self.burst).unwrap_or(u32::MAX));
        let next = self.empty_at.max(now) + token;
        if next > horizon {
            self.refused += 1;
            return false;
        }
        self.empty_at = next;
        true
    }

    /// How many times `take` refused since this was last asked: what a rate-limited log line reports as dropped.
    pub fn drain_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut limit = RateLimit::new(10, 3);
        let t = Instant::from_secs(5);
        assert_eq!((0..5).filter(|_| limit.take(t)).count(), 3);
        assert_eq!(limit.drain_refused(), 2);
        assert!(!limit.take(t + Duration::from_millis(99)));
        assert!(limit.take(t + Duration::from_millis(100)));
        assert!(!limit.take(t + Duration::from_millis(150)));
        // After a long rest only the burst is there, not more.
        let later = t + Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| limit.take(later)).count(), 3);
    }
}
