//! The datapath: ports, workers, flow caches, action execution. It knows neither OpenFlow nor bridges: it meets the brain
//! through [`SlowPath`].
//!
//! Invariants: every frame ends in exactly one counted way; the hit path takes no lock, allocates nothing and does not
//! panic; a cached flow is a memo of `SlowPath::translate`, checked by revision, by the worker that owns it.

pub mod action;
pub mod drop;
pub mod port;
pub mod slowpath;

pub use action::{DpAction, Program, RecircId, UpcallCookie};
pub use drop::Drop;
pub use port::{PortError, Rx, Tx};
pub use slowpath::{Credit, Deps, Domain, Profile, ProfileId, Revision, SlowPath, Translation, Upcall};
