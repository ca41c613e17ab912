//! Frames, batches and what is in them: buffers with headroom, header views, checksums, offload metadata, and the key by
//! which everything above classifies.
//!
//! Invariants: no tables and no I/O here; no bytes make anything here panic; every length is checked once, at extraction.

#![warn(clippy::indexing_slicing)]

pub mod batch;
pub mod build;
pub mod checksum;
pub mod coalesce;
pub mod crc32c;
pub mod extract;
pub mod fragment;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod key;
pub mod offload;
pub mod plain;
pub mod pool;
pub mod rewrite;
pub mod segment;
pub mod tunnel;
pub mod wire;

pub use batch::Batch;
pub use build::{FrameBuilder, compose};
pub use checksum::Sum;
pub use extract::Malformed;
pub use fragment::Fragment;
pub use frame::{Checksum, Frame, FrameError, Layers, Segmentation};
pub use key::{DpPort, PacketKey, Slot, slot};
pub use plain::PlainPacket;
pub use pool::FramePool;
pub use segment::{Cuts, Segments};
pub use tunnel::{GeneveMap, TunnelError, TunnelProtocol, TunnelPush};
