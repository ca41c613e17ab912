//! The simulator: production workers, brain and configuration in one thread under a virtual clock, with wires, hosts, faults
//! and checkers around them. One seed makes a world, and the same seed makes the same world again, byte for byte.
//!
//! [`World`] is the daemon's shell with everything real taken away: [`wire`]s and [`host`]s instead of devices, an agenda of
//! virtual time instead of threads and epoll. Every frame that a worker handles is judged by the [`oracle`], and nothing
//! gets lost uncounted ([`World::check`]). Tests bring their own idea of what is right.
//!
//! Deliberately not here: sockets, databases, real devices (the `tests` crate), and anything that production code calls.
//!
//! Invariants: no clock is read, no thread is started, nothing is random but for the seed.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a checker that finds a fault ends the test")]

pub mod dice;
pub mod host;
mod jack;
pub mod ofctl;
pub mod oracle;
pub mod raw;
pub mod trace;
pub mod wire;
pub mod world;

pub use dice::Dice;
pub use host::{Content, Host, HostSpec};
pub use jack::{INLET_MAX, OUTLET_MAX};
pub use oracle::{Checked, Tally};
pub use raw::RawHost;
pub use trace::{FrameEvent, Trace, TraceEntry};
pub use wire::WireSpec;
pub use world::{Fault, NodeId, PortSpec, World, WorldSpec};
