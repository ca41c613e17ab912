//! What the comparison with Open vSwitch with DPDK (`scripts/compare`) and counts of instructions share: the cases, our side
//! of them, and clocks.

pub mod cases;
pub mod clock;
pub mod ours;
pub mod workloads;

pub use cases::{CASES, Case, Figure, Traffic};
pub use ours::{Limits, Ours};
