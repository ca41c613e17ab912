//! What tunnels need to know of the host: its routes, and which of its devices are ports of our bridges.
//!
//! A part of each snapshot. A tunnel whose outer packets the host would send by a bridge's own device, or by an internal
//! port, leaves through that bridge's tables instead; any other is the host's to route.

use crate::bridge::BridgeId;
use crate::underlay::RouteTable;
use flowtable::OfPort;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A device of the host that is a port of a bridge: what is sent out of the port, the host receives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    /// The bridge.
    pub bridge: BridgeId,
    /// The port's number there: LOCAL, or an internal port's.
    pub of_port: OfPort,
}

/// See the module's text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// The host's routes.
    pub routes: Arc<RouteTable>,
    /// Its devices that are ports of bridges, by name.
    ports: BTreeMap<Arc<str>, HostPort>,
    by_port: BTreeMap<HostPort, Arc<str>>,
    bridges: BTreeSet<BridgeId>,
}

impl Host {
    /// A host with these routes and devices.
    pub fn new(routes: Arc<RouteTable>, ports: BTreeMap<Arc<str>, HostPort>) -> Host {
        let by_port = ports.iter().map(|(name, port)| (*port, Arc::clone(name))).collect();
        let bridges = ports.values().map(|p| p.bridge).collect();
        Host { routes, ports, by_port, bridges }
    }

    /// The port that a device is.
    pub fn port(&self, device: &str) -> Option<HostPort> {
        self.ports.get(device).copied()
    }

    /// The devices that are ports of bridges, by name.
    pub fn ports(&self) -> impl Iterator<Item = (&str, HostPort)> {
        self.ports.iter().map(|(name, port)| (&**name, *port))
    }

    /// Whether the host itself is behind some port of a bridge.
    pub fn is_behind(&self, bridge: BridgeId) -> bool {
        self.bridges.contains(&bridge)
    }

    /// Whether the host is behind some bridge.
    pub fn is_behind_any(&self) -> bool {
        !self.bridges.is_empty()
    }

    /// Whether the host is behind a port.
    pub fn is_behind_port(&self, port: HostPort) -> bool {
        self.by_port.contains_key(&port)
    }

    /// Whether an address is the host's, on the device that is this port.
    pub fn owns(&self, port: HostPort, address: IpAddr) -> bool {
        let device = self.by_port.get(&port);
        device.is_some_and(|d| self.routes.lookup(address).is_some_and(|r| r.local && r.device == *d))
    }
}
