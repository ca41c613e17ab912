//! OpenFlow 1.0, 1.3, 1.4 and 1.5 with the Nicira and ONF extensions that Open vSwitch speaks: messages as data, their
//! bytes, and a sans-IO session. Both the switch and the controllers' tools use it, so everything is read and written.
//!
//! Invariants: no socket, clock or switch state is known here; bytes from outside are read through one checked reader
//! and become validated types or an [`OfError`]; decoding allocates no more than a small multiple of its input; facts
//! about fields come from `flowtable`'s field table alone.

#![warn(clippy::indexing_slicing)]

pub mod codec;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod message;
pub mod session;
pub mod version;
mod wire;

pub use codec::{EncodeError, decode, encode, encode_to_vec};
pub use error::OfError;
pub use message::{Message, Xid};
pub use session::{Session, SessionConfig, SessionEvent};
pub use version::{Dialect, FlowFormat, OfVersion, OfVersions, PacketInFormat};
