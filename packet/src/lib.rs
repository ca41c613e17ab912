//! Frames, batches and what is in them: buffers with headroom, header views, checksums, offload metadata, and the key by
//! which everything above classifies.
//!
//! Invariants: no tables and no I/O here; no bytes make anything here panic; every length is checked once, at extraction.

pub mod frame;
pub mod key;

pub use frame::{Checksum, Frame, Layers, Segmentation};
pub use key::{DpPort, PacketKey, Slot, slot};
