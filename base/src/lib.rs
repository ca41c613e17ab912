//! What every crate may use and none of it knows networking: time as a value, single-writer counters, seeded hashing,
//! rate limits, a timing wheel.
//!
//! Invariants: nothing here reads a clock, draws a random number, spawns a thread or performs I/O; there is no global state.

pub mod counter;
pub mod hash;
pub mod limit;
pub mod time;
pub mod wheel;

pub use counter::Counter;
pub use hash::{HashSeed, RowHash};
pub use limit::RateLimit;
pub use time::Instant;
pub use wheel::TimingWheel;
