//! Linux as the switch needs it: TAP devices, packet and AF_XDP sockets, rtnetlink, network namespaces, readiness, the process.
//!
//! This is the only crate of the workspace with `unsafe` code. Everything it hands out is safe to use, owns its file
//! descriptors, and turns what the kernel says into typed values. It knows nothing of frames' contents, of ports or of
//! configuration: what is done with a device is decided by the callers.
//!
//! Invariants:
//! - every file descriptor is close-on-exec and closed by its owner's `Drop`;
//! - every descriptor that a worker reads is non-blocking;
//! - threads are started only to enter another network namespace, and are joined before the call returns;
//! - no answer of the kernel, and no bytes from outside, can cause a panic.

pub mod affinity;
pub mod alloc_count;
pub mod clock;
pub mod errno;
pub mod ethtool;
pub mod interface;
pub mod io_ring;
pub mod netlink;
pub mod netns;
pub mod packet_socket;
pub mod poll;
pub mod prefetch;
pub mod process;
pub mod random;
pub mod signal;
pub mod tap;
pub mod tunnel_socket;
pub mod udp;
pub mod unix_socket;
pub mod vnet;
pub mod vxlan;
pub mod xdp;

pub use interface::{IfIndex, IfName};
pub use netns::Netns;

mod bpf;
mod mapping;
mod sockopt;

#[cfg(test)]
mod scratch;
