//! Tunnels as the switch sees them: what is configured ([`config`]), which port of the datapath they share ([`socket`]), and
//! to which tunnel interface a frame that came out of one belongs ([`map`]), and what is known of the host ([`host`]).
//!
//! As in OVS all tunnel interfaces of one protocol and UDP port share one port of the datapath, whose frames carry what
//! their outer headers said in the tunnel slots of their key; which interface is the ingress is found from these. Outer
//! headers themselves are `packet`'s, sockets the datapath's, routes and neighbours [`underlay`](crate::underlay)'s;
//! what an output to a tunnel becomes is [`translate`](crate::translate)'s.

pub mod config;
pub mod counters;
pub mod host;
pub mod listening;
pub mod map;
pub mod socket;
pub mod solicit;

pub use config::{LocalIp, Octet, Setting, TunnelConfig, TunnelKind};
pub use counters::{InterfaceCounters, SharedCounters};
pub use host::{Host, HostPort};
pub use map::{TunnelMap, TunnelPort};
pub use socket::{TunnelCarrier, TunnelSocket};
