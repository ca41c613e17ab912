//! What the benchmarks are set up with: frames, ports in memory, rules, and a worker between two ports.
//!
//! The benchmarks themselves are in `benches/`; README.md lists them. Everything here is deterministic: the same numbers
//! are drawn in every run, and time is a number that the driver advances.
//!
//! Not here: expectations of speed. Nothing fails because it is slow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up stops")]

pub mod compare;
pub mod dice;
pub mod forwarder;
pub mod frames;
pub mod ovsdb_server;
pub mod ports;
pub mod rules;

pub use dice::Dice;
pub use forwarder::{Forwarder, OneProgram, Pipeline};
