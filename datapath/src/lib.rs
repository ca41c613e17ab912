//! The datapath: ports, workers, flow caches, action execution. It knows neither OpenFlow nor bridges: it meets the brain
//! through [`SlowPath`].
//!
//! Invariants: every frame ends in exactly one counted way; the hit path takes no lock, allocates nothing and does not
//! panic; a cached flow is a memo of `SlowPath::translate`, checked by revision, by the worker that owns it.

pub mod action;
pub mod budget;
pub mod cache;
pub mod command;
pub mod conntrack;
pub mod cost;
pub mod drop;
mod execute;
pub mod fragments;
pub mod meter;
pub mod port;
mod ports;
pub mod slowpath;
pub mod stats;
pub mod worker;

pub use action::{DpAction, Program, RecircId, UpcallCookie};
pub use budget::MissLimits;
pub use cache::{CacheLimits, CachedFlow, DumpCursor, FlowDump};
pub use command::{Command, CommandRefused, Event, FragmentDump, Reply, Wake, WorkerConfig, WorkerPeer};
pub use conntrack::{ConnTracker, Connection, CtClass, CtConfig, CtSpec, CtState, NatSpec, Tracked, Zone};
pub use drop::Drop;
pub use fragments::{FragmentLimits, FragmentStats, HeldDatagram, Reassembler};
pub use meter::Meter;
pub use port::{PortError, Rx, RxQueue, Tx};
pub use slowpath::{
    Credit, Creditors, Deps, Domain, Draft, FrameClass, Profile, ProfileId, Revision, SlowPath, Stage,
    Translation, Upcall,
};
pub use stats::{CacheCounters, DropCounters, PortCounters, WorkerStats};
pub use worker::{Progress, RxToken, Worker, WorkerSetup};
