//! What tunnels run over: how the host routes an outer address, and who the neighbours on underlay bridges are.
//!
//! [`route`] is a picture of the kernel's routing tables, with routes of the administrator's own; the shell takes the
//! picture anew when the kernel says that something changed. [`neighbour`] is learned from ARP and neighbour discovery seen
//! on bridges: the kernel's own neighbours are not used, since a bridge's frames never meet its stack. [`command`] is both as
//! ovs-appctl shows and changes them.
//!
//! Not here: sockets, and what a tunnel does with an answer.

pub mod command;
pub mod neighbour;
pub mod route;

pub use neighbour::{Neighbour, NeighbourCache, NeighbourLookup, Neighbours};
pub use route::{Route, RouteTable};
