//! From the configuration that is to the one that is wanted: a list of steps. Pure; carrying them out is the daemon's
//! business, and a step that fails (a device that cannot be opened) does not stop the others.
//!
//! Only what concerns devices is a step. Everything else of a configuration is a value that the brain takes as a whole.

use crate::config::{Config, InterfaceConfig, InterfaceKind};
use crate::tunnel::{TunnelCarrier, TunnelKind, TunnelSocket};
use std::collections::{BTreeMap, BTreeSet};

/// One step. Steps are to be carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The device of an interface is no longer wanted, or not this one.
    Close {
        /// Bridge.
        bridge: String,
        /// Interface.
        interface: String,
    },
    /// A bridge is gone, with its rules and learned state. Its interfaces have been closed before.
    RemoveBridge(String),
    /// A bridge is new. Its interfaces are opened after.
    AddBridge(String),
    /// No tunnel interface wants this socket any more, or not carried like this.
    CloseSocket(TunnelSocket),
    /// Tunnel interfaces want this socket, carried by this.
    OpenSocket(TunnelSocket, TunnelCarrier),
    /// A device is wanted.
    Open {
        /// Bridge.
        bridge: String,
        /// What to open.
        interface: InterfaceConfig,
    },
    /// A device stays open and some of its settings change: MTU, MAC, number of queues, requested port number.
    Change {
        /// Bridge.
        bridge: String,
        /// The new settings.
        interface: InterfaceConfig,
    },
}

/// Interfaces of a configuration: name → (bridge, settings). A name that stands in two bridges counts once, for the first.
fn interfaces(config: &Config) -> BTreeMap<&str, (&str, &InterfaceConfig)> {
    let mut all = BTreeMap::new();
    for bridge in config.bridges.values() {
        for interface in bridge.ports.values().flat_map(|p| p.interfaces.values()) {
            all.entry(interface.name.as_str()).or_insert((bridge.name.as_str(), interface));
        }
    }
    all
}

/// The sockets that tunnel interfaces of a configuration share, and what is to carry them.
fn sockets(config: &Config) -> BTreeSet<(TunnelSocket, TunnelCarrier)> {
    let socket = |i: &InterfaceConfig| match &i.kind {
        // Of a group policy the device is told nothing. All interfaces of a port have one, or none has.
        InterfaceKind::Tunnel(tunnel)
            if config.vxlan_kernel_device && tunnel.kind == TunnelKind::Vxlan && !tunnel.gbp =>
        {
            Some((tunnel.socket(), TunnelCarrier::KernelDevice))
        }
        InterfaceKind::Tunnel(tunnel) => Some((tunnel.socket(), TunnelCarrier::Sockets)),
        _ => None,
    };
    interfaces(config).into_values().filter_map(|(_, i)| socket(i)).collect()
}

/// Whether a device that was opened for `old` can serve `new` without being opened again.
fn same_device(old: &InterfaceConfig, new: &InterfaceConfig) -> bool {
    match (&old.kind, &new.kind) {
        // A device cannot be pulled out of one namespace into another from outside: it is made anew.
        _ if old.netns != new.netns => false,
        // A patch has no device: its peer is looked up by name when the configuration is published.
        (InterfaceKind::Patch { .. }, InterfaceKind::Patch { .. }) => true,
        // Nor has a tunnel: its socket is planned for itself.
        (InterfaceKind::Tunnel(_), InterfaceKind::Tunnel(_)) => true,
        (a, b) => a == b,
    }
}

/// The steps that lead from `current` to `wanted`.
pub fn plan(current: &Config, wanted: &Config) -> Vec<Step> {
    let (old, new) = (interfaces(current), interfaces(wanted));
    let mut steps = Vec::new();
    let mut opens = Vec::new();
    for (name, (bridge, interface)) in &old {
        let stays = new.get(name).is_some_and(|(b, i)| b == bridge && same_device(interface, i));
        if !stays {
            steps.push(Step::Close { bridge: (*bridge).to_owned(), interface: (*name).to_owned() });
        }
    }
    let (sockets_now, sockets_wanted) = (sockets(current), sockets(wanted));
    steps.extend(sockets_now.difference(&sockets_wanted).map(|(socket, _)| Step::CloseSocket(*socket)));
    opens.extend(sockets_wanted.difference(&sockets_now).map(|(s, carrier)| Step::OpenSocket(*s, *carrier)));
    for (name, (bridge, interface)) in &new {
        let step = (*bridge).to_owned();
        match old.get(name) {
            Some((b, i)) if b == bridge && same_device(i, interface) => {
                if i != interface {
                    opens.push(Step::Change { bridge: step, interface: (*interface).clone() });
                }
            }
            _ => opens.push(Step::Open { bridge: step, interface: (*interface).clone() }),
        }
    }
    steps.extend(
        current.bridges.keys().filter(|b| !wanted.bridges.contains_key(*b)).cloned().map(Step::RemoveBridge),
    );
    steps.extend(
        wanted.bridges.keys().filter(|b| !current.bridges.contains_key(*b)).cloned().map(Step::AddBridge),
    );
    steps.extend(opens);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::afxdp::AfXdpOptions;
    use crate::config::{BridgeConfig, PortConfig, RxAffinity, RxQueues};
    use crate::tunnel::{TunnelConfig, TunnelKind};
    use crate::vlan::VlanConfig;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What a daemon that carries out steps would have open.
    #[derive(Default, Debug, PartialEq)]
    struct World {
        bridges: BTreeSet<String>,
        open: BTreeMap<String, (String, InterfaceConfig)>,
        sockets: BTreeMap<TunnelSocket, TunnelCarrier>,
    }

    impl World {
        fn carry_out(&mut self, step: &Step) {
            match step {
                Step::Close { bridge, interface } => {
                    let (b, _) = self.open.remove(interface).expect("closes what is open");
                    assert_eq!(&b, bridge);
                }
                Step::CloseSocket(s) => assert!(self.sockets.remove(s).is_some(), "closes what is open"),
                Step::OpenSocket(s, carrier) => {
                    assert_eq!(self.sockets.insert(*s, *carrier), None, "opened twice");
                }
                Step::RemoveBridge(b) => {
                    assert!(self.open.values().all(|(of, _)| of != b), "interfaces go before their bridge");
                    assert!(self.bridges.remove(b));
                }
                Step::AddBridge(b) => assert!(self.bridges.insert(b.clone())),
                Step::Open { bridge, interface } => {
                    assert!(self.bridges.contains(bridge), "bridges come before their interfaces");
                    let before =
                        self.open.insert(interface.name.clone(), (bridge.clone(), interface.clone()));
                    assert_eq!(before, None, "opened twice");
                }
                Step::Change { bridge, interface } => {
                    let (b, i) = self.open.get_mut(&interface.name).expect("changes what is open");
                    assert_eq!(&*b, bridge);
                    *i = interface.clone();
                }
            }
        }
    }

    fn tunnel(port: u16) -> InterfaceKind {
        let options = [("remote_ip", "flow".to_owned()), ("dst_port", port.to_string())];
        let options = options.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        InterfaceKind::Tunnel(Arc::new(TunnelConfig::parse("t", TunnelKind::Vxlan, &options).unwrap().config))
    }

    fn interface() -> impl Strategy<Value = InterfaceConfig> {
        let kind = prop_oneof![
            Just(InterfaceKind::Tap),
            Just(InterfaceKind::System),
            Just(InterfaceKind::AfXdp(AfXdpOptions::default())),
            "[xy]".prop_map(|peer| InterfaceKind::Patch { peer }),
            (4789u16..4792).prop_map(tunnel),
        ];
        ("[a-f]", kind, proptest::option::of(1u16..4)).prop_map(|(name, kind, ofport_request)| {
            InterfaceConfig {
                name,
                kind,
                type_name: String::new(),
                row: String::new(),
                ofport_request,
                mtu_request: None,
                mac: None,
                rx_queues: RxQueues::default(),
                rx_affinity: RxAffinity::default(),
                netns: None,
            }
        })
    }

    /// Every interface name in at most one bridge, as the daemon's validation guarantees.
    fn config() -> impl Strategy<Value = Config> {
        let placed = proptest::collection::vec(("[p-r]", interface()), 0..6);
        (placed, any::<bool>()).prop_map(|(placed, vxlan_kernel_device)| {
            let mut config = Config { vxlan_kernel_device, ..Config::default() };
            let mut taken = BTreeSet::new();
            for (bridge, interface) in placed {
                if !taken.insert(interface.name.clone()) {
                    continue;
                }
                let bridge =
                    config.bridges.entry(bridge.clone()).or_insert_with(|| BridgeConfig::new(&bridge));
                let port = PortConfig {
                    name: interface.name.clone(),
                    vlan: VlanConfig::default(),
                    protected: false,
                    interfaces: [(interface.name.clone(), interface.clone())].into(),
                };
                bridge.ports.insert(interface.name.clone(), port);
            }
            config
        })
    }

    proptest! {
        #[test]
        fn steps_lead_from_one_configuration_to_the_other(a in config(), b in config()) {
            let mut world = World::default();
            for (from, to) in [(&Config::default(), &a), (&a, &b)] {
                plan(from, to).iter().for_each(|s| world.carry_out(s));
                let wanted: BTreeSet<_> = to.bridges.keys().cloned().collect();
                prop_assert_eq!(&world.bridges, &wanted);
                let open: BTreeMap<_, _> = interfaces(to)
                    .into_iter()
                    .map(|(n, (b, i))| (n.to_owned(), (b.to_owned(), i.clone())))
                    .collect();
                prop_assert_eq!(&world.open, &open);
                let carrier = match to.vxlan_kernel_device {
                    true => TunnelCarrier::KernelDevice,
                    false => TunnelCarrier::Sockets,
                };
                let tunnels = open.values().filter_map(|(_, i)| match &i.kind {
                    InterfaceKind::Tunnel(t) => Some((t.socket(), carrier)),
                    _ => None,
                });
                prop_assert_eq!(&world.sockets, &tunnels.collect::<BTreeMap<_, _>>());
            }
            prop_assert_eq!(plan(&b, &b), vec![]);
        }
    }
}
