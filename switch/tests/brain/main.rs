//! The brain from outside: configurations, devices and OpenFlow messages in, replies and snapshots out.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use flowtable::group::GroupCommand;
use flowtable::meter::MeterCommand;
use flowtable::text::{NoPortNames, parse_flow_line, parse_group_mod, parse_meter_mod};
use flowtable::{FlowModCommand as Wanted, GroupId, OfAction, OfPort, OnMissing, RuleFlags, TableId};
use openflow::message::*;
use openflow::{OfError, OfVersion};
use packet::{DpPort, Frame, PacketKey, slot};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use switch::brain::{Brain, Command, DeviceState, OpenDevice};
use switch::bridge::{Device, FailMode};
use switch::config::{
    BridgeConfig, Config, ControllerConfig, InterfaceConfig, InterfaceKind, PortConfig as Port, RxAffinity,
    RxQueues,
};
use switch::forwarding::{Forwarding, NoPunt, PacketInCause, Punted, Solicitation};
use switch::mac::{MacAddr, MacKey};
use switch::ofproto::{ConnId, ConnKind, Outgoing};
use switch::tunnel::{HostPort, TunnelConfig, TunnelKind};
use switch::vlan::{VlanConfig, VlanSet};

mod bundles;
mod monitors;
mod ports;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn at(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

fn interface(name: &str, ofport_request: Option<u16>) -> InterfaceConfig {
    InterfaceConfig {
        name: name.to_owned(),
        kind: InterfaceKind::Dummy,
        type_name: "dummy".to_owned(),
        row: String::new(),
        ofport_request,
        mtu_request: None,
        mac: None,
        rx_queues: RxQueues::default(),
        rx_affinity: RxAffinity::default(),
        netns: None,
    }
}

fn patch(name: &str, peer: &str) -> InterfaceConfig {
    InterfaceConfig { kind: InterfaceKind::Patch { peer: peer.to_owned() }, ..interface(name, None) }
}

/// A bridge with its own port and these.
fn bridge(name: &str, interfaces: &[InterfaceConfig]) -> BridgeConfig {
    let mut config = BridgeConfig::new(name);
    for i in [interface(name, None)].iter().chain(interfaces) {
        let port = Port {
            name: i.name.clone(),
            vlan: VlanConfig::default(),
            protected: false,
            interfaces: [(i.name.clone(), i.clone())].into(),
        };
        config.ports.insert(i.name.clone(), port);
    }
    config
}

fn config(bridges: &[BridgeConfig]) -> Config {
    Config { bridges: bridges.iter().map(|b| (b.name.clone(), b.clone())).collect(), ..Config::default() }
}

fn device(port: u32) -> OpenDevice {
    let state = DeviceState { link_up: true, admin_up: true, mtu: 1_500, speed_mbps: 0 };
    OpenDevice { port: DpPort(port), mac: MacAddr(0x0200_0000_0000 + u64::from(port)), state }
}

/// A brain, and what came out of it.
struct Lab {
    brain: Brain,
    now: Instant,
}

impl Lab {
    fn new() -> Lab {
        Lab { brain: Brain::new(HashSeed::new(1, 2), Box::new(NoPunt)), now: START }
    }

    /// `br0` with ports `p1` and `p2`, devices 10 (its own), 11 and 12.
    fn small() -> Lab {
        let mut lab = Lab::new();
        lab.configure(&[bridge("br0", &[interface("p1", None), interface("p2", None)])]);
        lab.open("br0", 10);
        lab.open("p1", 11);
        lab.open("p2", 12);
        lab
    }

    fn configure(&mut self, bridges: &[BridgeConfig]) {
        self.brain.configure(&config(bridges), self.now);
    }

    fn open(&mut self, name: &str, port: u32) {
        self.brain.device_open(name, device(port), self.now);
    }

    fn connect(&mut self, id: u64, kind: ConnKind, version: OfVersion) -> ConnId {
        self.brain.connect(ConnId(id), "br0", kind, version);
        ConnId(id)
    }

    /// Says something; what everybody then hears.
    fn say(&mut self, conn: ConnId, message: Message) -> Vec<(ConnId, Outgoing)> {
        self.brain.receive(conn, Xid(7), message, &[1, 2, 3, 4, 5, 6, 7, 8], self.now);
        self.brain.drain_outbox()
    }

    /// Says something that is refused: why.
    fn refused(&mut self, conn: ConnId, message: Message) -> OfError {
        let heard = self.say(conn, message);
        match heard.as_slice() {
            [(to, Outgoing::Error(Xid(7), error, quote))] if *to == conn => {
                assert!(!quote.is_empty());
                *error
            }
            other => panic!("not one error: {other:?}"),
        }
    }

    /// Says something that has no answer.
    fn told(&mut self, conn: ConnId, message: Message) {
        assert_eq!(self.say(conn, message), vec![]);
    }

    fn numbers(&self, name: &str) -> BTreeMap<String, u32> {
        let bridge = self.brain.bridge(name).unwrap();
        bridge.ports.values().map(|p| (p.name.clone(), p.of_port.0)).collect()
    }

    fn flows(&self) -> Vec<String> {
        let text = self.brain.dump_flows("br0", self.now).unwrap();
        text.lines()
            .map(|l| l.rsplit(", ").next().unwrap().trim_start_matches("n_bytes=0,").to_owned())
            .collect()
    }

    fn run_at(&mut self, seconds: u64) -> Vec<(ConnId, Outgoing)> {
        self.now = at(seconds);
        self.brain.run(self.now, || {});
        self.brain.drain_outbox()
    }
}

fn flow(text: &str) -> FlowMod {
    let (wanted, flow) = parse_flow_line(text, Wanted::Add, &NoPortNames).unwrap().unwrap();
    let inner = flow.flow_mod(wanted, OnMissing::Ignore);
    let command = match wanted {
        Wanted::Add => FlowModCommand::Add,
        Wanted::Modify => FlowModCommand::Modify,
        Wanted::ModifyStrict => FlowModCommand::ModifyStrict,
        Wanted::Delete => FlowModCommand::Delete,
        Wanted::DeleteStrict => FlowModCommand::DeleteStrict,
    };
    let flags = flow.flags.0 & flowtable::RuleFlags::SEND_FLOW_REM.0 != 0;
    FlowMod {
        table: inner.table,
        matching: flow.matching,
        priority: flow.priority,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        new_cookie: flow.new_cookie.map(|c| c.0).or((wanted == Wanted::Add).then_some(0)),
        flags: FlowModFlags(if flags { FlowModFlags::SEND_FLOW_REM } else { 0 }),
        actions: flow.actions,
        ..FlowMod::new(command)
    }
}

fn flow_mod(text: &str) -> Message {
    Message::FlowMod(flow(text))
}

fn group_mod(command: GroupCommand, text: &str) -> Message {
    Message::GroupMod(parse_group_mod(text, command, &NoPortNames).unwrap())
}

fn meter_mod(command: MeterCommand, text: &str) -> Message {
    Message::MeterMod(parse_meter_mod(text, command).unwrap())
}

/// The only message that this connection heard.
fn only(heard: Vec<(ConnId, Outgoing)>, conn: ConnId) -> Message {
    match <[_; 1]>::try_from(heard) {
        Ok(
            [
                (
                    to,
                    Outgoing::Message(_, message)
                    | Outgoing::PacketIn(message)
                    | Outgoing::Unasked(message)
                    | Outgoing::Update(message),
                ),
            ],
        ) if to == conn => message,
        other => panic!("{other:?}"),
    }
}

/// A tunnel is a port once its socket is open, at the number that it asks for; changing where it leads changes the port.
#[test]
fn tunnels_are_ports_while_their_socket_is_open() {
    let tunnel = |remote: &str| {
        let options = [("remote_ip".to_owned(), remote.to_owned())].into();
        let parsed = TunnelConfig::parse("tun0", TunnelKind::Vxlan, &options).unwrap();
        let kind = InterfaceKind::Tunnel(Arc::new(parsed.config));
        InterfaceConfig { kind, ..interface("tun0", Some(5)) }
    };
    let mut brain = Brain::new(HashSeed::new(1, 2), Box::new(NoPunt));
    let config = |remote| Config {
        bridges: [("br0".to_owned(), bridge("br0", &[tunnel(remote)]))].into(),
        ..Config::default()
    };
    let state = DeviceState { link_up: true, admin_up: true, mtu: 1500, speed_mbps: 0 };
    let open = |n| OpenDevice { port: DpPort(n), mac: MacAddr(n.into()), state };
    brain.configure(&config("10.0.0.2"), START);
    let port_of =
        |brain: &Brain| brain.bridge("br0").unwrap().ports.get(&OfPort(5)).map(|p| p.device.clone());
    assert_eq!(port_of(&brain), None);
    brain.device_open("vxlan_sys_4789", open(77), START);
    let Some(Device::Tunnel { socket: DpPort(77), config: first }) = port_of(&brain) else {
        panic!("{:?}", port_of(&brain))
    };
    assert_eq!(brain.publish().tunnels().sockets().map(|(p, _)| p).collect::<Vec<_>>(), [DpPort(77)]);
    brain.configure(&config("10.0.0.3"), START);
    let Some(Device::Tunnel { config: second, .. }) = port_of(&brain) else { panic!("gone") };
    assert_ne!(first, second);
    brain.device_closed("vxlan_sys_4789", START);
    assert_eq!(port_of(&brain), None);
    assert!(brain.publish().tunnels().is_empty());
}

/// Who is asked for leaves through the tables, as if the host had asked.
#[test]
fn questions_for_neighbours_are_packet_outs() {
    let mut brain = Brain::new(HashSeed::new(1, 2), Box::new(NoPunt));
    let config = Config { bridges: [("br0".to_owned(), bridge("br0", &[]))].into(), ..Config::default() };
    brain.configure(&config, START);
    let state = DeviceState { link_up: true, admin_up: true, mtu: 1500, speed_mbps: 0 };
    brain.device_open("br0", OpenDevice { port: DpPort(1), mac: MacAddr(0x0200_0000_0001), state }, START);
    let id = brain.bridge("br0").unwrap().id;
    let port = HostPort { bridge: id, of_port: OfPort::LOCAL };
    let (source, target) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    brain.solicit(&Solicitation { port, source, target });
    let commands = brain.drain_commands();
    let [Command::PacketOut(request)] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((request.bridge, request.in_port), (id, OfPort::LOCAL));
    assert_eq!(*request.actions, [OfAction::Output { port: OfPort::TABLE, max_len: 0 }]);
    let key = PacketKey::extract(&mut Frame::from_bytes(&request.data)).unwrap();
    assert_eq!((key.dl_type(), key.get(packet::slot::DL_SRC)), (0x0806, 0x0200_0000_0001));
}

#[test]
fn a_bridge_has_its_own_port_numbers_in_order_and_one_rule() {
    let lab = Lab::small();
    let numbers = lab.numbers("br0");
    assert_eq!(
        numbers,
        [("br0", OfPort::LOCAL.0), ("p1", 1), ("p2", 2)].map(|(n, p)| (n.to_owned(), p)).into()
    );
    let dump = lab.brain.dump_flows("br0", lab.now).unwrap();
    assert!(dump.contains("priority=0,actions=NORMAL"), "{dump}");
    assert_eq!(dump.lines().count(), 1);
}

#[test]
fn requested_numbers_are_had_and_conflicts_are_settled_once() {
    let mut lab = Lab::new();
    let both = |p1, p2| bridge("br0", &[interface("p1", p1), interface("p2", p2)]);
    lab.configure(&[both(None, Some(1))]);
    ["br0", "p1", "p2"].iter().zip(10..).for_each(|(n, p)| lab.open(n, p));
    // p1 came first and had 1 until p2, which wants it, came.
    assert_eq!(lab.numbers("br0")["p2"], 1);
    assert_ne!(lab.numbers("br0")["p1"], 1);
    // Who has a requested number keeps it when another requests it too, and nothing moves without a reason.
    lab.configure(&[both(Some(1), Some(1))]);
    let (settled, conn) = (lab.numbers("br0"), lab.connect(1, ConnKind::Primary, OfVersion::V13));
    assert_eq!(settled["p2"], 1);
    for _ in 0..3 {
        lab.configure(&[both(Some(1), Some(1))]);
        lab.open("br0", 10);
    }
    assert_eq!((lab.numbers("br0"), lab.brain.drain_outbox()), (settled, vec![]), "{conn:?}");
    // It is free again for whoever requests it.
    lab.configure(&[both(Some(1), None)]);
    lab.configure(&[both(Some(1), Some(9))]);
    assert_eq!((lab.numbers("br0")["p1"], lab.numbers("br0")["p2"]), (1, 9));
}

#[test]
fn a_bridge_s_own_port_claims_no_other_number() {
    let mut lab = Lab::new();
    let mut wanted = bridge("br0", &[interface("p1", None)]);
    wanted.ports.get_mut("br0").unwrap().interfaces.get_mut("br0").unwrap().ofport_request = Some(1);
    lab.configure(std::slice::from_ref(&wanted));
    lab.open("br0", 10);
    lab.open("p1", 11);
    lab.connect(1, ConnKind::Primary, OfVersion::V13);
    lab.configure(&[wanted]);
    assert_eq!(lab.numbers("br0")["p1"], 1);
    assert_eq!(lab.brain.drain_outbox(), vec![], "nothing moves");
}

#[test]
fn a_device_that_comes_back_has_its_old_number_and_controllers_hear_of_it() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Primary, OfVersion::V10);
    let status = |heard: Vec<(ConnId, Outgoing)>| match only(heard, conn) {
        Message::PortStatus(s) => (s.reason, s.port.port.0, s.port.name),
        other => panic!("{other:?}"),
    };
    lab.brain.device_closed("p1", lab.now);
    assert_eq!(status(lab.brain.drain_outbox()), (PortStatusReason::Delete, 1, "p1".to_owned()));
    assert_eq!(lab.brain.publish().home_of(DpPort(11)).map(|h| h.1), None);
    lab.open("p1", 21);
    assert_eq!(status(lab.brain.drain_outbox()), (PortStatusReason::Add, 1, "p1".to_owned()));
    assert_eq!(lab.brain.publish().home_of(DpPort(21)).map(|h| h.1), Some(OfPort(1)));
    // A change of state is a modification, no change is none.
    let mut down = device(21);
    down.state.link_up = false;
    lab.brain.device_open("p1", down, lab.now);
    assert_eq!(status(lab.brain.drain_outbox()).0, PortStatusReason::Modify);
    lab.brain.device_open("p1", down, lab.now);
    assert_eq!(lab.brain.drain_outbox(), vec![]);
}

#[test]
fn patches_find_each_other_across_bridges_in_any_order() {
    let mut lab = Lab::new();
    let (left, right) = (bridge("br0", &[patch("a", "b")]), bridge("br1", &[patch("b", "a")]));
    lab.configure(std::slice::from_ref(&left));
    let peer = |lab: &Lab, name: &str, port: &str| {
        let bridge = lab.brain.bridge(name).unwrap();
        bridge.ports.values().find(|p| p.name == port).map(|p| p.device.clone())
    };
    assert_eq!(peer(&lab, "br0", "a"), Some(Device::Patch(None)));
    lab.connect(1, ConnKind::Primary, OfVersion::V13);
    lab.configure(&[left.clone(), right]);
    for (name, port) in [("br0", "a"), ("br1", "b")] {
        assert!(matches!(peer(&lab, name, port), Some(Device::Patch(Some(_)))), "{port}");
    }
    // In OVS a patch without peer is up: its state says nothing of its peer.
    assert_eq!(lab.brain.drain_outbox(), vec![]);
    lab.configure(std::slice::from_ref(&left));
    assert_eq!(peer(&lab, "br0", "a"), Some(Device::Patch(None)));
    // One that names another that does not name it back has no peer.
    lab.configure(&[left, bridge("br1", &[patch("b", "c")])]);
    assert_eq!(peer(&lab, "br0", "a"), Some(Device::Patch(None)));
}

/// A station that has gone to another host is looked for there, though a bridge next door knows it behind its patch port.
#[test]
fn stations_of_a_port_that_goes_are_forgotten_by_all_bridges() {
    let mut lab = Lab::new();
    let right = bridge("br1", &[patch("b", "a")]);
    lab.configure(&[bridge("br0", &[patch("a", "b"), interface("p1", None)]), right.clone()]);
    let key = |mac| MacKey { vlan: 0, mac: MacAddr(mac) };
    let learn = |lab: &mut Lab, name: &str, port: &str, mac| {
        let fwd = lab.brain.publish();
        let bridge = fwd.bridge_by_name(name).unwrap();
        let bundle = bridge.bundles().find(|b| &*b.name == port).unwrap().id;
        bridge.mac().learn(key(mac), bundle, lab.now);
    };
    let known = |lab: &mut Lab| -> Vec<u64> {
        let fwd = lab.brain.publish();
        let mut macs: Vec<u64> =
            fwd.bridge_by_name("br1").unwrap().mac().dump().iter().map(|e| e.key.mac.0).collect();
        macs.sort_unstable();
        macs
    };
    lab.open("p1", 11);
    learn(&mut lab, "br0", "p1", 1);
    learn(&mut lab, "br0", "a", 2);
    for mac in 1..4 {
        learn(&mut lab, "br1", "b", mac);
    }
    lab.brain.device_closed("p1", lab.now);
    assert_eq!(known(&mut lab), [2, 3]);
    lab.configure(&[right]);
    assert_eq!(known(&mut lab), [3], "the bridge went with what it knew");
}

/// Rules may still name the number of a port that has gone.
#[test]
fn numbers_rest_before_another_port_gets_them() {
    let mut lab = Lab::small();
    let number = |lab: &mut Lab, name: &str| {
        let fwd = lab.brain.publish();
        fwd.bridge_by_name("br0").unwrap().port_by_name(name).unwrap().of_port
    };
    let p1 = interface("p1", None);
    // One that was requested, and is free again, is no better than one that was chosen.
    lab.configure(&[bridge("br0", &[p1.clone(), interface("p2", Some(3))])]);
    assert_eq!(number(&mut lab, "p2"), OfPort(3));
    lab.configure(&[bridge("br0", std::slice::from_ref(&p1))]);
    let with = |name: &str| [bridge("br0", &[p1.clone(), interface(name, None)])];
    lab.open("p4", 14);
    lab.configure(&with("p4"));
    assert_eq!(number(&mut lab, "p4"), OfPort(4));
    // It is given when it has rested.
    lab.now += Duration::from_secs(3_600);
    for (name, wanted) in [("p5", 5u16), ("p6", 6)] {
        lab.open(name, 20 + u32::from(wanted));
        lab.configure(&with(name));
        assert_eq!(number(&mut lab, name), OfPort(wanted.into()));
    }
}

/// A port that comes back in the same transaction, but elsewhere, was gone all the same.
#[test]
fn stations_of_a_port_with_another_number_are_forgotten() {
    let mut lab = Lab::small();
    let wanted = |number| bridge("br0", &[interface("p1", number), interface("p2", None)]);
    let stations = |lab: &mut Lab| lab.brain.publish().bridge_by_name("br0").unwrap().mac().stats().entries;
    let fwd = lab.brain.publish();
    let br0 = fwd.bridge_by_name("br0").unwrap();
    for (port, mac) in [(1, 1), (2, 2)] {
        let bundle = br0.bundle_of(OfPort(port)).unwrap().id;
        br0.mac().learn(MacKey { vlan: 0, mac: MacAddr(mac) }, bundle, lab.now);
    }
    lab.configure(&[wanted(Some(1))]);
    assert_eq!(stations(&mut lab), 2, "it has this number");
    lab.configure(&[wanted(Some(7))]);
    assert_eq!(stations(&mut lab), 1);
    assert!(lab.brain.publish().bridge_by_name("br0").unwrap().bundle_of(OfPort(7)).is_some());
}

#[test]
fn stations_are_forgotten_when_other_vlans_flood() {
    let mut lab = Lab::small();
    let mut wanted = bridge("br0", &[interface("p1", None), interface("p2", None)]);
    let stations = |lab: &mut Lab| lab.brain.publish().bridge_by_name("br0").unwrap().mac().stats().entries;
    let learn = |lab: &mut Lab| {
        let fwd = lab.brain.publish();
        let bridge = fwd.bridge_by_name("br0").unwrap();
        let bundle = bridge.bundle_of(OfPort(1)).unwrap().id;
        bridge.mac().learn(MacKey { vlan: 7, mac: MacAddr(1) }, bundle, lab.now);
    };
    for vlans in [VlanSet::from_iter([7]), VlanSet::new()] {
        learn(&mut lab);
        lab.configure(std::slice::from_ref(&wanted));
        assert_eq!(stations(&mut lab), 1, "nothing has changed");
        wanted.flood_vlans = vlans;
        lab.configure(std::slice::from_ref(&wanted));
        assert_eq!(stations(&mut lab), 0);
    }
}

#[test]
fn rules_go_when_control_changes_hands_as_in_ovs() {
    let mut lab = Lab::small();
    let plain = bridge("br0", &[interface("p1", None), interface("p2", None)]);
    let with = |targets: &[&str], fail_mode| BridgeConfig {
        fail_mode,
        controllers: targets.iter().map(|t| ((*t).to_owned(), ControllerConfig::default())).collect(),
        ..plain.clone()
    };
    let count = |lab: &Lab| lab.brain.dump_flows("br0", lab.now).unwrap().lines().count();
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V10);
    // Listening for controllers is no control.
    lab.told(conn, flow_mod("tcp,actions=drop"));
    lab.configure(&[with(&["ptcp:6653"], FailMode::Standalone)]);
    assert_eq!(count(&lab), 2);
    lab.told(conn, group_mod(GroupCommand::Add, "group_id=7,type=all,bucket=1"));
    lab.told(conn, meter_mod(MeterCommand::Add, "meter=7,kbps,band=type=drop,rate=9"));
    let others = |lab: &mut Lab| {
        let fwd = lab.brain.publish();
        let bridge = fwd.bridge_by_name("br0").unwrap();
        (bridge.groups().len(), bridge.meters().iter().count())
    };
    assert_eq!(others(&mut lab), (1, 1));
    lab.configure(&[with(&["tcp:127.0.0.1"], FailMode::Standalone)]);
    assert_eq!(count(&lab), 0, "the first controller finds no rules");
    assert_eq!(others(&mut lab), (0, 0), "nor groups or meters");
    lab.told(conn, flow_mod("tcp,actions=drop"));
    lab.configure(&[with(&["tcp:127.0.0.1", "tcp:127.0.0.2"], FailMode::Standalone)]);
    lab.configure(&[with(&["tcp:127.0.0.2"], FailMode::Secure)]);
    assert_eq!(count(&lab), 1, "a second controller, or another fail mode under control, changes nothing");
    lab.configure(&[with(&[], FailMode::Secure)]);
    assert_eq!(count(&lab), 0, "without the last controller a secure bridge is empty");
    lab.configure(&[with(&[], FailMode::Standalone)]);
    assert!(lab.flows()[0].ends_with("actions=NORMAL"), "{:?}", lab.flows());
}

/// What the snapshot does with a frame from p1 to nobody in particular.
fn forwarded(lab: &mut Lab) -> String {
    let fwd: Arc<Forwarding> = lab.brain.publish();
    let mut frame =
        Frame::from_bytes(&[[0xffu8; 6].as_slice(), &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[0; 46]].concat());
    frame.in_port = DpPort(11);
    let key = PacketKey::extract(&mut frame).unwrap();
    switch::trace::trace(&fwd, &key, switch::trace::SideEffects::None).unwrap().text
}

/// Interfaces that become a bond, or cease to be one, forward as what they are, though nothing happens to their devices.
#[test]
fn a_bond_is_made_of_ports_that_are_there() {
    let mut lab = Lab::new();
    let apart = bridge("br0", &["p1", "p2", "p3"].map(|name| interface(name, None)));
    let mut bonded = apart.clone();
    let interfaces = ["p1", "p2"].map(|name| bonded.ports.remove(name).unwrap().interfaces);
    let bond = Port {
        name: "bond0".to_owned(),
        vlan: VlanConfig::default(),
        protected: false,
        interfaces: interfaces.into_iter().flatten().collect(),
    };
    bonded.ports.insert(bond.name.clone(), bond);
    lab.configure(std::slice::from_ref(&apart));
    for (name, port) in [("br0", 10), ("p1", 11), ("p2", 12), ("p3", 13)] {
        lab.open(name, port);
    }
    let floods = |lab: &mut Lab| -> BTreeSet<u32> {
        let text = forwarded(lab);
        let (_, actions) = text.rsplit_once("Datapath actions: ").unwrap();
        actions.trim().split(',').map(|port| port.parse().unwrap()).collect()
    };
    assert_eq!(floods(&mut lab), [10, 12, 13].into());
    for _ in 0..2 {
        lab.configure(std::slice::from_ref(&bonded));
        assert_eq!(floods(&mut lab), [10, 13].into());
        // The carrier counts in a bond only.
        let down =
            |port| OpenDevice { state: DeviceState { link_up: false, ..device(port).state }, ..device(port) };
        lab.brain.device_open("p1", down(11), lab.now);
        let bridge = |lab: &mut Lab| lab.brain.publish().bridge_by_name("br0").unwrap().clone();
        let egress = |lab: &mut Lab| {
            let bridge = bridge(lab);
            let bond = bridge.bundle_of(OfPort(1)).unwrap();
            bridge.egress_of(bond).unwrap().of_port
        };
        assert_eq!(egress(&mut lab), OfPort(2));
        lab.configure(std::slice::from_ref(&apart));
        assert_eq!(floods(&mut lab), [10, 12, 13].into());
        assert!(bridge(&mut lab).port(OfPort(1)).unwrap().is_up());
        lab.open("p1", 11);
    }
}

#[test]
fn a_standalone_bridge_without_its_controllers_helps_itself_after_three_probes() {
    let mut lab = Lab::small();
    let mut wanted = bridge("br0", &[interface("p1", None), interface("p2", None)]);
    wanted.controllers.insert("tcp:127.0.0.1".to_owned(), ControllerConfig::default());
    lab.configure(std::slice::from_ref(&wanted));
    lab.run_at(0);
    let drops = |lab: &mut Lab| forwarded(lab).contains("Datapath actions: drop");
    assert!(drops(&mut lab));
    lab.run_at(14);
    assert!(drops(&mut lab));
    assert_eq!(lab.brain.next_deadline(), Some(at(15)));
    lab.run_at(15);
    assert!(forwarded(&mut lab).contains("NORMAL"));
    let said = |open| vec![Command::FailOpen { bridge: "br0".to_owned(), open }];
    assert_eq!(lab.brain.drain_commands(), said(true));
    assert_eq!(lab.brain.dump_flows("br0", lab.now).as_deref(), Some(""), "its rules are as they were");
    // Rules that come meanwhile count when a controller is back.
    let service = lab.connect(1, ConnKind::Service, OfVersion::V10);
    lab.told(service, flow_mod("priority=1,actions=output:2"));
    lab.run_at(100);
    assert!(forwarded(&mut lab).contains("NORMAL"), "somebody's ovs-ofctl is no controller");
    let conn = lab.connect(2, ConnKind::Primary, OfVersion::V13);
    lab.run_at(101);
    assert_eq!(lab.brain.drain_commands(), said(false));
    let text = forwarded(&mut lab);
    assert!(text.contains("output:2") && !text.contains("NORMAL"), "{text}");
    // The patience begins anew when the last one goes.
    lab.brain.disconnect(conn);
    lab.run_at(200);
    lab.run_at(214);
    assert!(!forwarded(&mut lab).contains("NORMAL"));
    lab.run_at(215);
    assert!(forwarded(&mut lab).contains("NORMAL"));
    wanted.fail_mode = FailMode::Secure;
    lab.configure(&[wanted]);
    lab.run_at(216);
    assert!(!forwarded(&mut lab).contains("NORMAL"), "a secure bridge never does");
}

#[test]
fn rules_expire_at_their_time_and_who_asked_hears_of_it() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Primary, OfVersion::V13);
    lab.told(conn, flow_mod("tcp,hard_timeout=5,send_flow_rem,cookie=0x2a,priority=7,actions=drop"));
    lab.told(conn, flow_mod("udp,idle_timeout=3,actions=drop"));
    assert_eq!(lab.brain.next_deadline(), Some(at(3)));
    assert_eq!(lab.run_at(3), vec![], "nobody asked to hear of that one");
    assert_eq!(lab.brain.next_deadline(), Some(at(5)));
    assert_eq!(lab.run_at(4), vec![]);
    let Message::FlowRemoved(removed) = only(lab.run_at(5), conn) else { panic!("no FLOW_REMOVED") };
    assert_eq!(removed.reason, FlowRemovedReason::HardTimeout);
    assert_eq!((removed.cookie, removed.priority, removed.table), (0x2a, 7, TableId(0)));
    assert_eq!((removed.duration, removed.hard_timeout), (Duration::from_secs(5), 5));
    assert_eq!((removed.packets, removed.bytes), (Some(0), Some(0)));
    assert_eq!(lab.brain.next_deadline(), None);
}

/// Workers may know of frames that nobody has been told of: a rule is asked for what they counted before it goes, and who hears of
/// its end hears all of it.
#[test]
fn what_workers_have_counted_is_known_before_rules_go() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Primary, OfVersion::V13);
    lab.told(conn, flow_mod("udp,idle_timeout=1,send_flow_rem,actions=drop"));
    let rules = lab.brain.bridge("br0").unwrap().rules.tables().clone();
    let rule = rules.iter().flat_map(|t| t.rules()).find(|r| r.idle_timeout == 1).unwrap().clone();
    for second in 1..4 {
        lab.now = at(second);
        lab.brain.run(lab.now, || rule.stats.add(1, 60, at(second)));
        assert_eq!(lab.brain.drain_outbox(), vec![], "used a moment ago");
    }
    lab.now = at(4);
    lab.brain.run(lab.now, || rule.stats.add(1, 60, at(3)));
    let Message::FlowRemoved(removed) = only(lab.brain.drain_outbox(), conn) else {
        panic!("no FLOW_REMOVED")
    };
    assert_eq!((removed.packets, removed.bytes), (Some(4), Some(240)));
    lab.brain.run(at(5), || panic!("nothing is due"));
    // Nor do those counts miss what was forwarded by the rule before workers ceased to have it.
    lab.told(conn, flow_mod("udp,send_flow_rem,actions=drop"));
    let rules = lab.brain.bridge("br0").unwrap().rules.tables().clone();
    let rule =
        rules.iter().flat_map(|t| t.rules()).find(|r| r.flags.has(RuleFlags::SEND_FLOW_REM)).unwrap().clone();
    lab.brain.receive(conn, Xid(7), flow_mod("delete udp"), b"", at(5));
    assert!(lab.brain.has_removals());
    rule.stats.add(2, 120, at(5));
    let Message::FlowRemoved(removed) = only(lab.brain.drain_outbox(), conn) else {
        panic!("no FLOW_REMOVED")
    };
    assert_eq!((removed.packets, removed.bytes), (Some(2), Some(120)));
    assert!(!lab.brain.has_removals());
    // Nor does what is to go with its group or meter go before.
    for text in ["udp,send_flow_rem,actions=group:7", "tcp,send_flow_rem,actions=meter:7,output:1"] {
        let group = text.contains("group");
        let change = |add: bool| match group {
            true if add => group_mod(GroupCommand::Add, "group_id=7,type=all,bucket=1"),
            true => group_mod(GroupCommand::Delete, "group_id=7"),
            false if add => meter_mod(MeterCommand::Add, "meter=7,kbps,band=type=drop,rate=9"),
            false => meter_mod(MeterCommand::Delete, "meter=7"),
        };
        lab.told(conn, change(true));
        lab.told(conn, flow_mod(text));
        let message = change(false);
        assert!(Brain::needs_counters(&message));
        assert!(matches!(only(lab.say(conn, message), conn), Message::FlowRemoved(_)), "{text}");
    }
}

#[test]
fn secondaries_read_only_and_primaries_are_demoted() {
    let mut lab = Lab::small();
    let (one, two) = (
        lab.connect(1, ConnKind::Primary, OfVersion::V14),
        lab.connect(2, ConnKind::Primary, OfVersion::V14),
    );
    let role = |role, generation| Message::RoleRequest(RoleMessage { role, generation_id: Some(generation) });
    assert!(
        matches!(only(lab.say(one, role(Role::Primary, 5)), one), Message::RoleReply(r) if r.role == Role::Primary)
    );
    let heard = lab.say(two, role(Role::Primary, 6));
    let told = |conn| heard.iter().filter(move |(c, _)| *c == conn).map(|(_, o)| o).collect::<Vec<_>>();
    assert!(
        matches!(told(one)[..], [Outgoing::Unasked(Message::RoleStatus(s))] if s.role == Role::Secondary)
    );
    assert!(matches!(told(two)[..], [Outgoing::Message(Xid(7), Message::RoleReply(_))]));
    assert_eq!(lab.refused(one, role(Role::Primary, 5)), OfError::RoleRequestFailedStale);
    let out =
        PacketOut { buffer: None, metadata: in_port(OfPort::CONTROLLER), actions: vec![], data: vec![0; 60] };
    let changes = [
        flow_mod("actions=drop"),
        Message::PacketOut(out),
        Message::TableMod(table_mod()),
        Message::CtFlushZone(1),
        Message::CtFlush(CtFlush::default()),
    ];
    for message in changes {
        assert_eq!(lab.refused(one, message), OfError::BadRequestIsSecondary);
    }
    assert_eq!(lab.brain.drain_commands(), vec![]);
    // Equal is not primary, and both may write.
    lab.say(one, role(Role::Equal, 0));
    lab.told(one, flow_mod("actions=drop"));
}

fn in_port(port: OfPort) -> flowtable::Match {
    let mut matching = flowtable::Match::any();
    matching.set_exact(flowtable::FieldId::InPort.slot(), u128::from(port.0));
    matching
}

fn table_mod() -> TableMod {
    TableMod { table: TableId(0), bits: 0, eviction: false, vacancy: None }
}

#[test]
fn frames_go_whole_to_controllers_that_want_them() {
    let mut lab = Lab::small();
    let quiet = lab.connect(1, ConnKind::Service, OfVersion::V13);
    let conn = lab.connect(2, ConnKind::Primary, OfVersion::V13);
    let other = lab.connect(3, ConnKind::Primary, OfVersion::V13);
    lab.told(other, Message::SetControllerId(9));
    let bridge = lab.brain.bridge("br0").unwrap().id;
    let punted = |reason| Punted {
        bytes: vec![0x5a; 300],
        total_len: 300,
        key: PacketKey::default(),
        packet_in: Arc::new(switch::forwarding::PacketIn {
            bridge,
            reason,
            cause: PacketInCause::Action,
            table: TableId(3),
            cookie: 0x77,
            controller_id: 0,
            max_len: 20,
            userdata: [].into(),
            in_port: OfPort(2),
            pipeline: Default::default(),
        }),
    };
    lab.brain.packet_in(punted(flowtable::PacketInReason::Action));
    let Message::PacketIn(got) = only(lab.brain.drain_outbox(), conn) else { panic!("no PACKET_IN") };
    // Observed: ovs-vswitchd 3.1.0 sends all 300 bytes for `actions=controller:20`.
    assert_eq!((got.data.len(), got.total_len, got.cookie, got.table), (300, 300, 0x77, TableId(3)));
    assert_eq!(got.metadata, in_port(OfPort(2)), "{quiet:?}");
    // An expired TTL has to be asked for.
    lab.brain.packet_in(punted(flowtable::PacketInReason::InvalidTtl));
    assert_eq!(lab.brain.drain_outbox(), vec![]);
    let wants = AsyncChange { class: AsyncClass::PacketIn, audience: Audience::Primary, reasons: 1 << 2 };
    lab.told(conn, Message::SetAsync(vec![wants]));
    lab.brain.packet_in(punted(flowtable::PacketInReason::InvalidTtl));
    only(lab.brain.drain_outbox(), conn);
    lab.brain.packet_in(punted(flowtable::PacketInReason::Action));
    assert_eq!(lab.brain.drain_outbox(), vec![], "and that is now all it wants");
}

#[test]
fn a_port_that_is_set_down_is_down_for_everybody() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V10);
    let set = |lab: &mut Lab, mac: u64, down: bool| {
        let config = PortConfig(if down { PortConfig::PORT_DOWN } else { 0 });
        let mask = PortConfig(PortConfig::PORT_DOWN);
        let port_mod =
            PortMod { port: OfPort(1), hw_addr: mac, config, mask, advertise: LinkModes::default() };
        lab.say(conn, Message::PortMod(port_mod))
    };
    let mac = device(11).mac.0;
    assert!(matches!(
        set(&mut lab, 1, true)[..],
        [(_, Outgoing::Error(_, OfError::PortModFailedBadHwAddr, _))]
    ));
    assert_eq!(set(&mut lab, mac, true), vec![]);
    let admin = |up| vec![Command::SetAdmin { interface: "p1".to_owned(), up }];
    assert_eq!(lab.brain.drain_commands(), admin(false));
    let fwd = lab.brain.publish();
    assert!(!fwd.bridge_by_name("br0").unwrap().port(OfPort(1)).unwrap().is_up());
    // Somebody takes the device up again by other means: the setting follows.
    let mut state = device(11);
    state.state.admin_up = false;
    lab.brain.device_open("p1", state, lab.now);
    lab.brain.device_open("p1", device(11), lab.now);
    assert!(lab.brain.publish().bridge_by_name("br0").unwrap().port(OfPort(1)).unwrap().is_up());
}

#[test]
fn a_bridge_that_goes_takes_its_connections_along() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Primary, OfVersion::V13);
    lab.configure(&[]);
    lab.brain.drain_outbox();
    assert_eq!(lab.say(conn, Message::BarrierRequest), vec![]);
    assert!(lab.brain.publish().bridge_by_name("br0").is_none());
    lab.brain.disconnect(conn);
}

// --- invariants ---

#[derive(Clone, Debug)]
enum Deed {
    Configure(Vec<(u8, u8, Option<u16>)>),
    Open(u8),
    Close(u8),
}

fn deed() -> impl Strategy<Value = Deed> {
    let wanted = proptest::collection::vec((0u8..2, 0u8..6, proptest::option::of(1u16..4)), 0..8);
    prop_oneof![
        wanted.prop_map(Deed::Configure),
        (0u8..6).prop_map(Deed::Open),
        (0u8..6).prop_map(Deed::Close)
    ]
}

proptest! {
    #[test]
    fn ports_are_those_that_are_wanted_and_open(deeds in proptest::collection::vec(deed(), 1..24)) {
        let mut lab = Lab::new();
        lab.connect(1, ConnKind::Primary, OfVersion::V13);
        let mut wanted = Config::default();
        let mut open: BTreeMap<String, u32> = BTreeMap::new();
        let mut next = 1;
        for deed in deeds {
            match deed {
                Deed::Configure(places) => {
                    let mut bridges: BTreeMap<u8, Vec<InterfaceConfig>> = BTreeMap::new();
                    let mut taken = BTreeSet::new();
                    for (b, i, request) in places {
                        if taken.insert(i) {
                            bridges.entry(b).or_default().push(interface(&format!("p{i}"), request));
                        }
                    }
                    let bridges: Vec<_> = bridges.iter().map(|(b, i)| bridge(&format!("br{b}"), i)).collect();
                    wanted = config(&bridges);
                    lab.configure(&bridges);
                }
                Deed::Open(i) => {
                    open.insert(format!("p{i}"), next);
                    lab.open(&format!("p{i}"), next);
                    next += 1;
                }
                Deed::Close(i) => {
                    open.remove(&format!("p{i}"));
                    lab.brain.device_closed(&format!("p{i}"), lab.now);
                }
            }
            let fwd = lab.brain.publish();
            for (name, config) in &wanted.bridges {
                let state = lab.brain.bridge(name).unwrap();
                let interfaces = || config.ports.values().flat_map(|p| p.interfaces.values());
                let expected: BTreeSet<_> =
                    interfaces().filter(|i| open.contains_key(&i.name)).map(|i| i.name.clone()).collect();
                let found: Vec<_> = state.ports.values().map(|p| p.name.clone()).collect();
                prop_assert_eq!(found.len(), expected.len(), "one port each: {:?}", found);
                prop_assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected);
                // Of those that request a number and have a device, one has it.
                for number in 1u16..4 {
                    let mut claims = interfaces().filter(|i| i.ofport_request == Some(number) && open.contains_key(&i.name));
                    if claims.next().is_some() {
                        let holder = state.ports.get(&OfPort(number.into())).map(|p| p.name.clone());
                        let entitled = |n: &String| interfaces().any(|i| i.name == *n && i.ofport_request == Some(number));
                        prop_assert!(holder.as_ref().is_some_and(entitled), "{number}: {holder:?}");
                    }
                }
                // The snapshot says the same.
                let staged = fwd.bridge_by_name(name).unwrap();
                prop_assert_eq!(staged.ports().count(), state.ports.len());
                for (number, record) in &state.ports {
                    let port = staged.port(*number).unwrap();
                    prop_assert_eq!((&*port.name, &port.device), (record.name.as_str(), &record.device));
                    prop_assert_eq!(&record.device, &Device::Datapath(DpPort(open[&record.name])));
                    let bundle = staged.bundle_of(*number).unwrap();
                    prop_assert!(bundle.members.contains(number));
                    prop_assert_eq!(fwd.home_of(DpPort(open[&record.name])).map(|(b, p)| (b.id(), p)), Some((state.id, *number)));
                }
            }
            prop_assert_eq!(fwd.bridges().count(), wanted.bridges.len());
            // Doing it again changes nothing and tells nobody anything.
            lab.brain.drain_outbox();
            lab.brain.configure(&wanted, lab.now);
            prop_assert_eq!(lab.brain.drain_outbox(), vec![]);
            prop_assert!(Arc::ptr_eq(&lab.brain.publish(), &fwd));
        }
    }
}

#[test]
fn connections_are_forgotten_in_the_order_of_the_requests() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V13);
    let original = CtTuple { src: Some([10, 0, 0, 1].into()), ..CtTuple::default() };
    let some = CtFlush { protocol: 6, original, ..CtFlush::default() };
    lab.told(conn, Message::CtFlushZone(5));
    lab.told(conn, Message::CtFlush(some));
    let zone = CtFlush { zone: Some(5), ..CtFlush::default() };
    assert_eq!(
        lab.brain.drain_commands(),
        vec![Command::FlushConnections(zone), Command::FlushConnections(some)]
    );
}
