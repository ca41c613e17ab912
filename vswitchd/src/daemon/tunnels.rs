//! Tunnels, as far as the daemon knows them: what an interface is, how it is, and who is to be asked for.

use super::{Daemon, SOLICITATIONS_MAX};
use crate::database::write::InterfaceStatus;
use switch::config::InterfaceKind;
use switch::tunnel::{Setting, TunnelConfig};

impl Daemon {
    /// What is known of a tunnel: its address, made up, and the device by which the host would send its packets.
    pub(super) fn tunnel_status(&self, name: &str, status: &mut InterfaceStatus) {
        let Some(tunnel) = self.tunnel_of(name) else { return };
        let record = self.brain.bridges().find_map(|b| b.ports.values().find(|p| p.name == name));
        status.mac_in_use = record.map(|r| r.mac);
        if let Setting::Fixed(remote) = tunnel.remote
            && let Some(route) = self.brain.routes().lookup(remote)
        {
            status.status.insert("tunnel_egress_iface".to_owned(), (*route.device).to_owned());
        }
    }

    /// What kind of tunnels share a device.
    pub fn socket_kind(&self, device: &str) -> Option<&'static str> {
        let snapshot = self.snapshot.load();
        let (_, socket) = snapshot.tunnels().sockets().find(|(_, s)| s.name() == device)?;
        Some(socket.kind().name())
    }

    /// The tunnel that an interface is.
    pub fn tunnel_of(&self, interface: &str) -> Option<&TunnelConfig> {
        match &self.interface(interface)?.kind {
            InterfaceKind::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    /// What is wrong with the socket of a tunnel.
    pub(super) fn tunnel_error(&self, name: &str) -> Option<String> {
        let socket = self.tunnel_of(name)?.socket();
        let error = self.devices.error(&socket.name())?;
        Some(format!("could not add network device {name} to ofproto ({error})"))
    }

    /// Lets the brain ask for the neighbours that tunnels want.
    pub(super) fn take_solicitations(&mut self) {
        for solicitation in self.solicitations.try_iter().take(SOLICITATIONS_MAX) {
            self.brain.solicit(&solicitation);
        }
    }
}
