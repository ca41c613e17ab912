//! From what a tunnel packet's outer headers say to the tunnel interface that it came in on.
//!
//! Interfaces are known by what they let in: a key or any, a remote address or any, a local address or any. Of several that
//! let a packet in the most specific counts, in the order that ovs-vswitchd.conf.db(5) gives under "Tunnel Options": a
//! given key before any key, then a given remote address before any, then a given local address before none before `flow`.
//! That is one look-up a shape that some interface has, twelve at most, whatever the number of interfaces.

use super::config::{LocalIp, Setting, TunnelConfig};
use super::counters::InterfaceCounters;
use super::socket::TunnelSocket;
use crate::bridge::BridgeId;
use flowtable::OfPort;
use packet::key::{DpPort, Slot, slot};
use packet::tunnel::TunnelProtocol;
use packet::{PacketKey, wire};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What an interface lets in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TunnelMatch {
    socket: TunnelSocket,
    in_key: Setting<u64>,
    remote: Setting<IpAddr>,
    local: LocalIp,
}

impl TunnelMatch {
    /// What an interface with this configuration lets in.
    pub fn of(socket: TunnelSocket, config: &TunnelConfig) -> TunnelMatch {
        TunnelMatch { socket, in_key: config.in_key, remote: config.remote, local: config.local }
    }

    /// The shapes, most specific first, each filled with what a packet says.
    fn shapes(socket: TunnelSocket, packet: &Outer) -> impl Iterator<Item = TunnelMatch> {
        let keys = [Setting::Fixed(packet.key), Setting::Flow];
        let remotes = [Setting::Fixed(packet.remote), Setting::Flow];
        let locals = [LocalIp::Fixed(packet.local), LocalIp::Any, LocalIp::Flow];
        let matches = move |in_key| {
            remotes.into_iter().flat_map(move |remote| {
                locals.into_iter().map(move |local| TunnelMatch { socket, in_key, remote, local })
            })
        };
        keys.into_iter().flat_map(matches)
    }

    /// Place of the interface's shape in the order of [`TunnelMatch::shapes`].
    fn rank(&self) -> u32 {
        let key = u32::from(self.in_key == Setting::Flow);
        let remote = u32::from(self.remote == Setting::Flow);
        let local = match self.local {
            LocalIp::Fixed(_) => 0,
            LocalIp::Any => 1,
            LocalIp::Flow => 2,
        };
        key * 6 + remote * 3 + local
    }
}

/// What the outer headers of a received packet said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer {
    /// VNI or key; 0 without.
    pub key: u64,
    /// Source.
    pub remote: IpAddr,
    /// Destination.
    pub local: IpAddr,
}

impl Outer {
    /// As the tunnel slots of a key have it. `None` for a key without them: no packet of a tunnel.
    pub fn of(key: &PacketKey) -> Option<Outer> {
        let remote = address(key, slot::TUN_SRC, slot::TUN_IPV6_SRC)?;
        let local = address(key, slot::TUN_DST, slot::TUN_IPV6_DST)?;
        Some(Outer { key: key.get(slot::TUN_ID) as u64, remote, local })
    }
}

/// The address in one of two slots; zeros are none.
pub(crate) fn address(key: &PacketKey, v4: Slot, v6: Slot) -> Option<IpAddr> {
    match (key.get(v4) as u32, key.get(v6)) {
        (0, 0) => None,
        (0, long) => Some(Ipv6Addr::from_bits(long).into()),
        (short, _) => Some(Ipv4Addr::from_bits(short).into()),
    }
}

/// A tunnel interface as a port of a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelPort {
    /// Its bridge.
    pub bridge: BridgeId,
    /// Its number there.
    pub of_port: OfPort,
}

/// All tunnel interfaces.
#[derive(Clone, Debug, Default)]
pub struct TunnelMap {
    ports: BTreeMap<TunnelMatch, TunnelPort>,
    sockets: BTreeMap<DpPort, TunnelSocket>,
    /// By name of the interface.
    counters: BTreeMap<Arc<str>, Arc<InterfaceCounters>>,
    /// Bit n: some interface has shape n.
    shapes: u32,
}

impl TunnelMap {
    /// Adds an interface. One that lets in the very same as another is left out: the configuration has refused it.
    /// `socket` is the datapath's port that it shares.
    pub fn insert(&mut self, config: &TunnelConfig, socket: DpPort, port: TunnelPort) {
        let wanted = TunnelMatch::of(config.socket(), config);
        self.sockets.insert(socket, config.socket());
        self.shapes |= 1 << wanted.rank();
        self.ports.entry(wanted).or_insert(port);
    }

    /// Counts an interface from now on; on from where `before` was, if it was there.
    pub fn count(&mut self, name: &Arc<str>, before: &TunnelMap) {
        let counters = before.counters.get(name).cloned().unwrap_or_default();
        self.counters.insert(Arc::clone(name), counters);
    }

    /// What an interface has counted.
    pub fn counters(&self, name: &str) -> Option<&Arc<InterfaceCounters>> {
        self.counters.get(name)
    }

    /// The interface that a packet came in on.
    pub fn find(&self, socket: TunnelSocket, packet: &Outer) -> Option<TunnelPort> {
        TunnelMatch::shapes(socket, packet)
            .filter(|shape| self.shapes >> shape.rank() & 1 == 1)
            .find_map(|shape| self.ports.get(&shape).copied())
    }

    /// What a port of the datapath is, if tunnels share it.
    pub fn socket(&self, port: DpPort) -> Option<TunnelSocket> {
        self.sockets.get(&port).copied()
    }

    /// The sockets that tunnels share, by their ports of the datapath.
    pub fn sockets(&self) -> impl Iterator<Item = (DpPort, TunnelSocket)> {
        self.sockets.iter().map(|(port, socket)| (*port, *socket))
    }

    /// The socket that gets an IP packet with this protocol and UDP destination port.
    pub fn listener(&self, nw_proto: u8, tp_dst: u16) -> Option<(DpPort, TunnelSocket)> {
        self.sockets().find(|(_, socket)| match (socket.protocol, nw_proto) {
            (TunnelProtocol::Gre, proto) => proto == wire::PROTO_GRE,
            (_, wire::PROTO_UDP) => socket.port == tp_dst,
            _ => false,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::TunnelKind;
    use proptest::prelude::*;

    fn config(key: Option<u64>, remote: Option<u8>, local: Option<Option<u8>>) -> TunnelConfig {
        let ip = |n: u8| format!("10.0.0.{n}");
        let mut options = BTreeMap::new();
        options.insert("in_key".to_owned(), key.map_or("flow".to_owned(), |k| k.to_string()));
        options.insert("remote_ip".to_owned(), remote.map_or("flow".to_owned(), ip));
        if let Some(local) = local.map(|l| l.map_or("flow".to_owned(), ip)) {
            options.insert("local_ip".to_owned(), local);
        }
        // `flow` as local address beside a given remote one cannot be configured, but the map need not know.
        match TunnelConfig::parse("t", TunnelKind::Vxlan, &options) {
            Ok(parsed) => parsed.config,
            Err(_) => {
                options.remove("local_ip");
                let parsed = TunnelConfig::parse("t", TunnelKind::Vxlan, &options).unwrap();
                TunnelConfig { local: LocalIp::Flow, ..parsed.config }
            }
        }
    }

    const SOCKET: DpPort = DpPort(9);

    fn port(n: u32) -> TunnelPort {
        TunnelPort { bridge: BridgeId(1), of_port: OfPort(n) }
    }

    fn packet(key: u64, remote: u8, local: u8) -> Outer {
        let ip = |n| IpAddr::from([10, 0, 0, n]);
        Outer { key, remote: ip(remote), local: ip(local) }
    }

    #[test]
    fn the_key_counts_before_the_remote_address_and_that_before_the_local_one() {
        let by_rank = [
            config(Some(7), Some(2), Some(Some(1))),
            config(Some(7), Some(2), None),
            config(Some(7), None, Some(Some(1))),
            config(Some(7), None, None),
            config(Some(7), None, Some(None)),
            config(None, Some(2), Some(Some(1))),
            config(None, Some(2), None),
            config(None, None, Some(Some(1))),
            config(None, None, None),
            config(None, None, Some(None)),
        ];
        let socket = by_rank[0].socket();
        for first in 0..by_rank.len() {
            let mut map = TunnelMap::default();
            for (n, c) in by_rank.iter().enumerate().skip(first).rev() {
                map.insert(c, SOCKET, port(n as u32));
            }
            assert_eq!(map.find(socket, &packet(7, 2, 1)), Some(port(first as u32)));
            // A packet of another socket is nobody's.
            assert_eq!(map.find(TunnelSocket { port: 1, ..socket }, &packet(7, 2, 1)), None);
        }
        let mut map = TunnelMap::default();
        map.insert(&by_rank[0], SOCKET, port(1));
        for other in [packet(8, 2, 1), packet(7, 3, 1), packet(7, 2, 9)] {
            assert_eq!(map.find(socket, &other), None);
        }
    }

    #[test]
    fn sockets_listen_for_their_protocol_and_port() {
        let gre =
            TunnelConfig::parse("g", TunnelKind::Gre, &[("remote_ip".to_owned(), "flow".to_owned())].into());
        let mut map = TunnelMap::default();
        map.insert(&config(None, None, None), SOCKET, port(1));
        map.insert(&gre.unwrap().config, DpPort(10), port(2));
        assert_eq!(map.listener(17, 4789).map(|l| l.0), Some(SOCKET));
        assert_eq!(map.listener(47, 0).map(|l| l.0), Some(DpPort(10)));
        assert_eq!((map.listener(17, 0), map.listener(6, 4789)), (None, None));
        assert_eq!(map.socket(DpPort(10)).map(|s| s.name()).as_deref(), Some("gre_sys"));
    }

    #[test]
    fn keys_of_frames_give_either_family() {
        let mut key = PacketKey::default();
        assert_eq!(Outer::of(&key), None);
        key.set(slot::TUN_ID, 5);
        key.set(slot::TUN_SRC, 0x0a00_0002);
        key.set(slot::TUN_DST, 0x0a00_0001);
        assert_eq!(Outer::of(&key), Some(packet(5, 2, 1)));
        let mut six = PacketKey::default();
        six.set(slot::TUN_IPV6_SRC, 2);
        six.set(slot::TUN_IPV6_DST, 1);
        let outer = Outer::of(&six).unwrap();
        assert_eq!((outer.remote, outer.local), ("::2".parse().unwrap(), "::1".parse().unwrap()));
    }

    prop_compose! {
        fn any_config()(
            key in proptest::option::of(0u64..3),
            remote in proptest::option::of(1u8..4),
            local in proptest::option::of(proptest::option::of(1u8..4)),
        ) -> TunnelConfig {
            config(key, remote, local)
        }
    }

    proptest! {
        /// Against asking every interface one by one.
        #[test]
        fn finds_what_a_list_finds(
            configs in proptest::collection::vec(any_config(), 0..12),
            key in 0u64..3, remote in 1u8..4, local in 1u8..4,
        ) {
            let mut map = TunnelMap::default();
            for (n, c) in configs.iter().enumerate() {
                map.insert(c, SOCKET, port(n as u32));
            }
            let packet = packet(key, remote, local);
            let lets_in = |c: &TunnelConfig| {
                matches!(c.in_key, Setting::Flow) as u8 + u8::from(c.in_key == Setting::Fixed(key)) == 1
                    && (c.remote == Setting::Flow || c.remote == Setting::Fixed(packet.remote))
                    && !matches!(c.local, LocalIp::Fixed(l) if l != packet.local)
            };
            let specific = |c: &TunnelConfig| {
                (
                    c.in_key != Setting::Flow,
                    c.remote != Setting::Flow,
                    match c.local { LocalIp::Fixed(_) => 2, LocalIp::Any => 1, LocalIp::Flow => 0 },
                )
            };
            let mut best: Option<(usize, &TunnelConfig)> = None;
            for (n, c) in configs.iter().enumerate().filter(|(_, c)| lets_in(c)) {
                if best.is_none_or(|(_, b)| specific(c) > specific(b)) {
                    best = Some((n, c));
                }
            }
            let socket = config(None, None, None).socket();
            prop_assert_eq!(map.find(socket, &packet), best.map(|(n, _)| port(n as u32)));
        }
    }
}
