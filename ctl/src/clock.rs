//! The only place of this program that reads a clock or waits: a command line has real time by its nature.

use std::fmt;
use std::time::Duration;

use base::Instant;

/// Time since the program began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// Begins to count.
    #[expect(clippy::disallowed_methods, reason = "a command line is a shell, and this is its only clock")]
    pub fn start() -> Self {
        Clock { origin: std::time::Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// Waits.
    #[expect(
        clippy::disallowed_methods,
        reason = "the interval of a display is a wait on time by its nature"
    )]
    pub fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    /// A point in time `timeout` from now; never with `None`.
    pub fn deadline(&self, timeout: Option<Duration>) -> Deadline {
        Deadline { clock: *self, timeout, at: timeout.map(|timeout| self.now() + timeout) }
    }
}

/// When to give up waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    clock: Clock,
    timeout: Option<Duration>,
    at: Option<Instant>,
}

/// The time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOut {
    /// How long it was.
    pub after: Duration,
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.after.as_secs_f64())
    }
}

impl std::error::Error for TimedOut {}

impl Deadline {
    /// The clock that it was made from.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Begins anew with the same time-out: for programs that go on for ever in steps that must not hang.
    pub fn renew(&mut self) {
        *self = self.clock.deadline(self.timeout);
    }

    /// Waits without end from now on.
    pub fn lift(&mut self) {
        (self.timeout, self.at) = (None, None);
    }

    /// What is left of the time, never zero; `None` if it never ends.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn remaining(&self) -> Result<Option<Duration>, TimedOut> {
        let Some(at) = self.at else { return Ok(None) };
        let left = at.saturating_since(self.clock.now());
        if left.is_zero() {
            return Err(TimedOut { after: self.timeout.unwrap_or_default() });
        }
        Ok(Some(left))
    }
}
