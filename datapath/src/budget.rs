//! How much flow set-up work a port may cause: a token bucket per port, so that a port that floods the cache with new
//! flows runs dry by itself while the others go on.
//!
//! Turns between ports need no queue here: a step takes at most one batch from each receiving side (`worker::turns`).
//! Cached flows need no credit, and neither do translations anew of a flow that is cached: a change of configuration
//! must not cost established traffic a frame. For the same reason ports are granted set-ups when a new profile may make
//! what they have cached useless, and when another worker receives from them.

use base::{Instant, RateLimit};

/// Flow set-ups a second and port, unless configured otherwise.
pub const MISS_RATE_DEFAULT: u64 = 20_000;
/// Flow set-ups that a port may save up, unless configured otherwise.
pub const MISS_BURST_DEFAULT: u64 = 5_000;

/// Limits of flow set-up, the same for every port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissLimits {
    /// Flow set-ups a second, at least 1.
    pub rate: u64,
    /// Flow set-ups saved up at most, at least 1.
    pub burst: u64,
}

impl Default for MissLimits {
    fn default() -> Self {
        MissLimits { rate: MISS_RATE_DEFAULT, burst: MISS_BURST_DEFAULT }
    }
}

/// What is left to one port.
#[derive(Debug)]
pub struct MissBudget {
    limit: RateLimit,
    granted: u64,
}

impl MissBudget {
    /// A full budget.
    pub fn new(limits: MissLimits) -> Self {
        MissBudget { limit: RateLimit::new(limits.rate, limits.burst), granted: 0 }
    }

    /// Takes credit for one translation, if there is some.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.limit.take(now) {
            return true;
        }
        let granted = self.granted > 0;
        self.granted = self.granted.saturating_sub(1);
        granted
    }

    /// Grants `n` translations beyond the budget, in place of what is left of an earlier grant: for cached flows that a
    /// change of configuration makes it necessary to set up anew.
    pub fn grant(&mut self, n: u64) {
        self.granted = n;
    }

    /// Grants `n` translations beyond the budget if less is left of an earlier grant: for what another worker has cached.
    pub fn grant_at_least(&mut self, n: u64) {
        self.granted = self.granted.max(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_of_flooding_gets_burst_and_rate() {
        let mut budget = MissBudget::new(MissLimits { rate: 1_000, burst: 50 });
        let granted = (0..1_000_000u64).filter(|i| budget.take(Instant::from_nanos(i * 1_000))).count();
        assert!((1_040..=1_050).contains(&granted), "{granted}");
    }

    #[test]
    fn a_grant_counts_once_and_does_not_add_up() {
        let mut budget = MissBudget::new(MissLimits { rate: 1, burst: 1 });
        let now = Instant::from_secs(1);
        assert!(budget.take(now) && !budget.take(now));
        budget.grant(5);
        budget.grant(2);
        assert!(budget.take(now) && budget.take(now) && !budget.take(now));
    }
}
