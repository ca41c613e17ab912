//! Which tunnels the datapath listens for, as `tnl/ports/show` lists them.

use super::{TunnelConfig, TunnelSocket};
use crate::bridge::Device;
use crate::forwarding::Forwarding;
use packet::DpPort;
use packet::wire::{PROTO_GRE, PROTO_UDP};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

/// How much `tnl/ports/show` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Each port once, with the number of interfaces that share it.
    Ports,
    /// Each port for each address of the host that is behind a bridge (`-v`): what comes out of its tunnel there.
    Addresses,
}

/// The text of `tnl/ports/show`.
pub fn listening(fwd: &Forwarding, detail: Detail) -> String {
    let mut text = String::from("Listening ports:\n");
    for (port, socket) in fwd.tunnels().sockets() {
        match detail {
            Detail::Ports => {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{} ({port}) ref_cnt={}", socket.name(), interfaces(fwd, port));
            }
            Detail::Addresses => addresses(&mut text, fwd, port, socket),
        }
    }
    text
}

/// The text of `ofproto/list-tunnels`, by the number of the shared port and then by name.
pub fn list_tunnels(fwd: &Forwarding) -> String {
    let ports = fwd.bridges().flat_map(|b| b.ports());
    let mut tunnels: Vec<_> = ports
        .filter_map(|port| match &port.device {
            Device::Tunnel { socket, config } => Some((*socket, &*port.name, config)),
            _ => None,
        })
        .collect();
    tunnels.sort_by_key(|(socket, name, _)| (*socket, *name));
    let line = |(socket, name, config): (DpPort, &str, &Arc<TunnelConfig>)| {
        format!("port {socket}: {name} ({})\n", config.line(socket))
    };
    tunnels.into_iter().map(line).collect()
}

fn interfaces(fwd: &Forwarding, port: DpPort) -> usize {
    let ports = fwd.bridges().flat_map(|b| b.ports());
    ports.filter(|p| matches!(&p.device, Device::Tunnel { socket, .. } if *socket == port)).count()
}

fn addresses(text: &mut String, fwd: &Forwarding, port: DpPort, socket: TunnelSocket) {
    for (device, at) in fwd.host().ports() {
        let Some(behind) = fwd.bridge(at.bridge).and_then(|b| b.port(at.of_port)) else { continue };
        for address in fwd.host().routes.addresses_of(device) {
            let proto = if socket.protocol.is_udp() { PROTO_UDP } else { PROTO_GRE };
            let (ethertype, ip) = match address {
                IpAddr::V4(_) => ("0x0800", "ipv4"),
                IpAddr::V6(_) => ("0x86dd", "ipv6"),
            };
            let udp = match socket.protocol.is_udp() {
                true => format!(",udp(dst={})", socket.port),
                false => String::new(),
            };
            let _ = writeln!(
                text,
                "{} ({port}) : eth(dst={}),eth_type({ethertype}),{ip}(dst={address},proto={proto},frag=no){udp}",
                socket.name(),
                behind.mac
            );
        }
    }
}
