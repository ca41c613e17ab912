//! Tunnels through translation: what outputs to them become, where packets out of them arrive.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use datapath::{DpAction, Drop, FrameClass, SlowPath, Translation, Upcall};
use flowtable::text::{FlowUsage, NoPortNames, parse_flow};
use flowtable::{FlowModCommand, OfPort, OnMissing, RuleStore};
use packet::key::{Slot, slot};
use packet::tunnel::TunnelProtocol;
use packet::{DpPort, PacketKey};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use switch::bridge::*;
use switch::dp_text::{display_program, parse_dp_key};
use switch::forwarding::*;
use switch::mac::MacAddr;
use switch::tunnel::SharedCounters;
use switch::tunnel::counters::Way;
use switch::tunnel::{Host, HostPort, TunnelConfig, TunnelKind};
use switch::underlay::RouteTable;
use switch::underlay::route::{
    KernelAddress, KernelLink, KernelRoute, KernelRouteKind, KernelState, KernelTable,
};
use switch::vlan::VlanConfig;

const VXLAN: DpPort = DpPort(4789);
const GRE: DpPort = DpPort(47);
const OUR_MAC: u64 = 0xaa55_aa55_0000;
const PEER_MAC: u64 = 0xf8bc_1244_34b6;

/// Notes who is asked for.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Solicitation>>>);

impl PuntSink for Asked {
    fn punt(&self, _: Punted) -> Result<(), Drop> {
        Err(Drop::UpcallFull)
    }

    fn solicit(&self, solicitation: Solicitation) {
        self.0.lock().unwrap().push(solicitation);
    }
}

/// As in a node: `int` with pods on ports 8 and 9 and tunnels, `phy` with the network on port 1 and the host behind its
/// local port, which has 1.1.2.88/24 and fd00::88/64.
struct Lab {
    staging: Staging,
    int: BridgeId,
    phy: BridgeId,
    rules: BTreeMap<BridgeId, RuleStore>,
    asked: Asked,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn add_port(bridge: &mut Bridge, n: OfPort, mac: u64, device: Device) {
    let name: Arc<str> = format!("p{n}").into();
    bridge.put_port(BridgePort {
        of_port: n,
        name: Arc::clone(&name),
        mac: MacAddr(mac),
        config: PortConfig::default(),
        link: Link::Up,
        carrier: Link::Up,
        device,
        counters: SharedCounters::default(),
        bundle: BundleId(n.0),
    });
    let vlan = VlanConfig::default();
    bridge.put_bundle(Bundle { id: BundleId(n.0), name, members: vec![n], vlan, protected: false });
}

/// The kernel's routes of a host with a device `phy`, and `eth9` that is none of ours.
fn routes() -> RouteTable {
    let route = |destination: &str, prefix_len, link, kind, gateway: Option<&str>| KernelRoute {
        destination: ip(destination),
        prefix_len,
        table: if kind == KernelRouteKind::Local { KernelTable::Local } else { KernelTable::Main },
        kind,
        link: Some(link),
        gateway: gateway.map(ip),
        source: None,
        metric: 0,
        mtu: None,
    };
    let (unicast, local) = (KernelRouteKind::Unicast, KernelRouteKind::Local);
    let address = |link, address: &str, prefix_len| KernelAddress { link, address: ip(address), prefix_len };
    let link = |index, name: &str, mtu| KernelLink { index, name: name.to_owned(), mtu };
    let mut table = RouteTable::new();
    table.set_kernel(&KernelState {
        links: vec![link(1, "phy", 1500), link(2, "eth9", 1400)],
        addresses: vec![
            address(1, "1.1.2.88", 24),
            address(1, "fd00::88", 64),
            address(2, "192.168.9.1", 24),
        ],
        routes: vec![
            route("1.1.2.0", 24, 1, unicast, None),
            route("1.1.2.88", 32, 1, local, None),
            route("fd00::", 64, 1, unicast, None),
            route("fd00::88", 128, 1, local, None),
            route("5.0.0.0", 8, 1, unicast, Some("1.1.2.1")),
            route("192.168.9.0", 24, 2, unicast, None),
            route("192.168.9.1", 32, 2, local, None),
        ],
    });
    table
}

impl Lab {
    fn new() -> Lab {
        let asked = Asked::default();
        let mut staging = Staging::new(HashSeed::new(5, 6), Box::new(asked.clone()));
        let (int, phy) = (staging.add_bridge("int"), staging.add_bridge("phy"));
        let bridge = staging.bridge_mut(int).unwrap();
        for n in [8, 9] {
            add_port(bridge, OfPort(n), n.into(), Device::Datapath(DpPort(100 + n)));
        }
        let bridge = staging.bridge_mut(phy).unwrap();
        add_port(bridge, OfPort(1), 1, Device::Datapath(DpPort(1)));
        add_port(bridge, OfPort::LOCAL, OUR_MAC, Device::Datapath(DpPort(2)));
        let host = HostPort { bridge: phy, of_port: OfPort::LOCAL };
        staging.set_host(Host::new(Arc::new(routes()), [("phy".into(), host)].into()));
        let rules = [int, phy].map(|id| (id, staging.new_rules())).into();
        let mut lab = Lab { staging, int, phy, rules, asked };
        lab.flow(phy, "priority=0,actions=NORMAL");
        lab
    }

    fn flow(&mut self, bridge: BridgeId, flow: &str) {
        let parsed = parse_flow(flow, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames).unwrap();
        let rules = self.rules.get_mut(&bridge).unwrap();
        rules.apply(&parsed.flow_mod(FlowModCommand::Add, OnMissing::Add), Instant::ZERO).unwrap();
    }

    fn tunnel(&mut self, n: u32, kind: TunnelKind, options: &[(&str, &str)]) {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = Arc::new(TunnelConfig::parse("t", kind, &options).unwrap().config);
        let socket = if kind == TunnelKind::Gre { GRE } else { VXLAN };
        let bridge = self.staging.bridge_mut(self.int).unwrap();
        add_port(bridge, OfPort(n), n.into(), Device::Tunnel { socket, config });
    }

    fn know_peer(&mut self) {
        let neighbours = Arc::clone(self.staging.bridge(self.phy).unwrap().neighbours());
        for peer in ["1.1.2.92", "fd00::92"] {
            neighbours.learn(ip(peer), MacAddr(PEER_MAC), Instant::ZERO);
        }
    }

    fn publish(&mut self) -> Arc<Forwarding> {
        for (id, rules) in &mut self.rules {
            self.staging.set_rules(*id, rules);
        }
        self.staging.publish()
    }
}

fn key(text: &str) -> PacketKey {
    parse_dp_key(text, &|_| None).unwrap()
}

fn translate(fwd: &Forwarding, text: &str) -> Translation<Effect> {
    fwd.translate(&Upcall { key: &key(text) })
}

fn actions(fwd: &Forwarding, text: &str) -> String {
    display_program(&translate(fwd, text).program, &key(text)).to_string()
}

fn reason(t: &Translation<Effect>) -> Option<Drop> {
    match t.program.actions.as_ref() {
        [DpAction::Drop(why)] => Some(*why),
        _ => None,
    }
}

const TCP: &str = "in_port(109),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,tos=0x28,ttl=33),tcp(src=1,dst=80)";
const ETH: &str = "eth(dst=f8:bc:12:44:34:b6,src=aa:55:aa:55:00:00,dl_type=0x0800)";

/// Headers as ofproto/trace of ovs-vswitchd 3.1 printed them for the same configuration.
#[test]
fn a_way_through_a_bridge_of_ours_is_taken() {
    let mut lab = Lab::new();
    let remote = ("remote_ip", "1.1.2.92");
    lab.tunnel(1, TunnelKind::Vxlan, &[remote, ("key", "123")]);
    lab.tunnel(3, TunnelKind::Gre, &[remote, ("csum", "true")]);
    let inherit = [("tos", "inherit"), ("ttl", "inherit"), ("df_default", "false")];
    lab.tunnel(5, TunnelKind::Vxlan, &[&[remote, ("csum", "true"), ("key", "flow")][..], &inherit].concat());
    lab.know_peer();
    let mut out = |port: u32| {
        lab.flow(lab.int, &format!("in_port=9,actions=output:{port}"));
        actions(&lab.publish(), TCP)
    };
    let header = |size, kind, proto, rest: &str| {
        format!(
            "tnl_push(header(size={size},type={kind},{ETH},\
             ipv4(src=1.1.2.88,dst=1.1.2.92,proto={proto},tos=0,ttl=64,frag=0x4000),{rest})),1"
        )
    };
    assert_eq!(out(1), header(50, 4, 17, "udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x7b)"));
    assert_eq!(out(3), header(42, 3, 47, "gre((flags=0x8000,proto=0x6558),csum=0x0)"));
    // What is inherited is found when the frame is sent.
    assert_eq!(
        out(5),
        format!(
            "tnl_push(header(size=50,type=4,{ETH},ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=inherit,ttl=inherit,frag=0x0),\
             udp(src=0,dst=4789,csum=0xffff),vxlan(flags=0x8000000,vni=0))),1"
        )
    );
}

#[test]
fn rules_on_the_way_see_and_change_the_outer_header() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "1"), ("tos", "inherit")]);
    lab.know_peer();
    lab.flow(lab.int, "in_port=9,actions=load:7->NXM_NX_REG0[],mod_nw_dst:9.9.9.9,output:1,output:8");
    let outer =
        "udp,in_port=LOCAL,nw_src=1.1.2.88,nw_dst=1.1.2.92,nw_tos=40,nw_ttl=64,tp_dst=4789,reg0=0,tun_id=0";
    lab.flow(lab.phy, &format!("priority=9,{outer},actions=mod_nw_ttl:3,output:1"));
    let program = translate(&lab.publish(), TCP).program;
    let [DpAction::SetField { slot: place, .. }, DpAction::Clone(copy), DpAction::Output(DpPort(108))] =
        program.actions.as_ref()
    else {
        panic!("{:?}", program.actions)
    };
    assert_eq!(*place, slot::NW_DST);
    let [
        DpAction::PushTunnel(push),
        DpAction::SetField { slot: slot::NW_TTL, value: 3, .. },
        DpAction::Output(DpPort(1)),
    ] = copy.as_ref()
    else {
        panic!("{copy:?}")
    };
    assert_eq!((push.src, push.dst, push.mtu), (ip("1.1.2.88"), ip("1.1.2.92"), 1500));
    // A frame with another TOS goes another way, so the TOS is in the profile.
    assert_eq!(actions(&lab.publish(), &TCP.replace("0x28", "0x2c")).matches("set(ipv4(ttl=3))").count(), 0);
    let profile = lab.publish();
    let profile = profile.profile(FrameClass::fresh(DpPort(109), 0x0800)).unwrap();
    assert_eq!(profile.mask.0.get(slot::NW_TOS), 0xff);
}

#[test]
fn neighbours_that_are_not_known_are_asked_for() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "5.5.5.5")]);
    lab.tunnel(2, TunnelKind::Vxlan, &[("remote_ip", "fd00::92")]);
    lab.flow(lab.int, "in_port=9,actions=output:1");
    lab.flow(lab.int, "in_port=8,actions=output:2");
    let fwd = lab.publish();
    let host = HostPort { bridge: lab.phy, of_port: OfPort::LOCAL };
    let t = translate(&fwd, TCP);
    assert_eq!((reason(&t), t.cacheable), (Some(Drop::NoNeighbour), false));
    // The router on the way is who is asked for; and not with every frame.
    fwd.commit(&t.effects, Instant::ZERO);
    fwd.commit(&t.effects, Instant::ZERO);
    fwd.commit(&translate(&fwd, &TCP.replace("109", "108")).effects, Instant::ZERO);
    let asked = |source, target| Solicitation { port: host, source: ip(source), target: ip(target) };
    let expected = [asked("1.1.2.88", "1.1.2.1"), asked("fd00::88", "fd00::92")];
    assert_eq!(*lab.asked.0.lock().unwrap(), expected);
    // The answer comes through the bridge, to the host, which is where it is seen.
    let reply = "in_port(1),eth(src=00:00:00:00:00:51,dst=aa:55:aa:55:00:00),eth_type(0x0806),\
                 arp(sip=1.1.2.1,tip=1.1.2.88,op=2,sha=00:00:00:00:00:51,tha=aa:55:aa:55:00:00)";
    let t = translate(&fwd, reply);
    assert!(!t.cacheable, "the next one may say something else");
    fwd.commit(&t.effects, Instant::ZERO);
    let t = translate(&fwd, TCP);
    assert!(t.cacheable && reason(&t).is_none());
    assert!(actions(&fwd, TCP).contains("eth(dst=00:00:00:00:00:51,"));
    // A neighbour that moves is noticed.
    let deps = t.deps;
    assert!(fwd.still_valid(&deps));
    fwd.commit(&translate(&fwd, &reply.replace("51,tha", "52,tha")).effects, Instant::ZERO);
    assert!(!fwd.still_valid(&deps));
    assert!(actions(&fwd, TCP).contains("eth(dst=00:00:00:00:00:52,"));
}

#[test]
fn elsewhere_the_host_routes() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "192.168.9.7"), ("key", "flow"), ("tos", "4")]);
    lab.tunnel(2, TunnelKind::Vxlan, &[("remote_ip", "8.8.8.8")]);
    lab.flow(lab.int, "in_port=9,actions=set_field:77->tun_id,output:1,output:8");
    let fwd = lab.publish();
    assert_eq!(
        actions(&fwd, TCP),
        "clone(set(tunnel(tun_id=0x4d,src=192.168.9.1,dst=192.168.9.7,tos=0x4,ttl=64,tp_dst=4789,flags(df|key))),4789),108"
    );
    let program = translate(&fwd, TCP).program;
    let Some(DpAction::Clone(copy)) = program.actions.first() else { panic!("{program:?}") };
    let Some(DpAction::PushTunnel(push)) = copy.first() else { panic!("{copy:?}") };
    assert_eq!((push.mtu, push.eth_dst), (1400, [0; 6]));
    lab.flow(lab.int, "in_port=9,actions=output:2");
    let deps = translate(&fwd, TCP).deps;
    let fwd = lab.publish();
    assert_eq!(reason(&translate(&fwd, TCP)), Some(Drop::NoRoute));
    assert!(!fwd.still_valid(&deps));
    // A route that comes is noticed.
    let deps = translate(&fwd, TCP).deps;
    lab.staging.set_host(Host::default());
    assert!(!lab.publish().still_valid(&deps));
}

#[test]
fn a_tunnel_of_flows_goes_where_they_say() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "flow"), ("local_ip", "flow"), ("key", "flow")]);
    lab.flow(
        lab.int,
        "in_port=9,actions=set_field:9->tun_id,set_field:192.168.9.5->tun_dst,set_field:192.168.9.99->tun_src,output:1",
    );
    lab.flow(lab.int, "in_port=8,actions=output:1");
    lab.flow(lab.int, "in_port=1,actions=IN_PORT");
    let fwd = lab.publish();
    assert_eq!(
        actions(&fwd, TCP),
        "set(tunnel(tun_id=0x9,src=192.168.9.99,dst=192.168.9.5,ttl=64,tp_dst=4789,flags(df|key))),4789"
    );
    assert_eq!(reason(&translate(&fwd, &TCP.replace("109", "108"))), Some(Drop::NoRoute));
    // Back where it came from, the destination is still what it was when it came: us.
    let back = "in_port(4789),tunnel(tun_id=0x9,src=192.168.9.5,dst=192.168.9.1,ttl=64),eth(),eth_type(0x0800),ipv4()";
    assert_eq!(reason(&translate(&fwd, back)), Some(Drop::NoAction));
}

#[test]
fn packets_arrive_at_the_interface_that_lets_them_in() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "7")]);
    lab.tunnel(2, TunnelKind::Vxlan, &[("remote_ip", "flow"), ("key", "7")]);
    for (n, out) in [(1, 108), (2, 109)] {
        lab.flow(lab.int, &format!("in_port={n},tun_id=7,actions=output:{}", out - 100));
    }
    let fwd = lab.publish();
    let from = |id: u32, src: &str| {
        format!(
            "in_port(4789),tunnel(tun_id={id},src={src},dst=1.1.2.88,ttl=64),\
             eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(proto=6)"
        )
    };
    assert_eq!(actions(&fwd, &from(7, "1.1.2.92")), "108");
    assert_eq!(actions(&fwd, &from(7, "1.1.2.93")), "109");
    let nobodys = translate(&fwd, &from(8, "1.1.2.92"));
    assert_eq!(reason(&nobodys), Some(Drop::NoTunnel));
    // The addresses and the key tell who it is, so all of them are looked at.
    let profile = fwd.profile(FrameClass::fresh(VXLAN, 0x0800)).unwrap();
    for place in [slot::TUN_ID, slot::TUN_SRC, slot::TUN_DST, slot::TUN_IPV6_SRC, slot::TUN_IPV6_DST] {
        assert_eq!(profile.mask.0.get(place), place.ones());
    }
    // An interface that comes later takes what it lets in.
    lab.tunnel(3, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "8")]);
    lab.flow(lab.int, "in_port=3,actions=output:9");
    let fwd = lab.publish();
    assert!(!fwd.still_valid(&nobodys.deps));
    assert_eq!(actions(&fwd, &from(8, "1.1.2.92")), "109");
}

#[test]
fn normal_learns_behind_tunnels_and_floods_into_them() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "192.168.9.7"), ("key", "7")]);
    lab.flow(lab.int, "priority=0,actions=NORMAL");
    let fwd = lab.publish();
    let to_pod = "in_port(4789),tunnel(tun_id=7,src=192.168.9.7,dst=192.168.9.1,ttl=64),\
                  eth(src=02:00:00:00:00:02,dst=02:00:00:00:00:01),eth_type(0x0800),ipv4(proto=6)";
    let push =
        "set(tunnel(tun_id=0x7,src=192.168.9.1,dst=192.168.9.7,ttl=64,tp_dst=4789,flags(df|key))),4789";
    assert_eq!(actions(&fwd, TCP), format!("clone({push}),108"));
    let t = translate(&fwd, to_pod);
    assert_eq!(display_program(&t.program, &key(to_pod)).to_string(), "108,109");
    fwd.commit(&t.effects, Instant::ZERO);
    assert_eq!(actions(&fwd, TCP), push);
}

#[test]
fn each_tunnel_counts_for_itself() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "7")]);
    lab.tunnel(2, TunnelKind::Vxlan, &[("remote_ip", "192.168.9.7"), ("key", "7")]);
    lab.know_peer();
    lab.flow(lab.int, "in_port=9,actions=output:1,output:2");
    lab.flow(lab.int, "in_port=2,actions=output:8");
    let fwd = lab.publish();
    let credit = |fwd: &Forwarding, text: &str, packets| {
        translate(fwd, text).credits.iter().for_each(|c| c.credit(packets, packets * 100, Instant::ZERO, 0));
    };
    credit(&fwd, TCP, 3);
    credit(
        &fwd,
        "in_port(4789),tunnel(tun_id=7,src=192.168.9.7,dst=192.168.9.1),eth(),eth_type(0x0800),ipv4()",
        2,
    );
    let counted = |fwd: &Forwarding, name| {
        let counters = fwd.tunnels().counters(name).unwrap();
        (counters.get(Way::Received), counters.get(Way::Sent))
    };
    assert_eq!(counted(&fwd, "p1"), ((0, 0), (3, 300)));
    assert_eq!(counted(&fwd, "p2"), ((2, 200), (3, 300)));
    // A change elsewhere does not make them start anew.
    lab.tunnel(3, TunnelKind::Vxlan, &[("remote_ip", "flow"), ("key", "8")]);
    let fwd = lab.publish();
    assert_eq!((counted(&fwd, "p2"), counted(&fwd, "p3")), (((2, 200), (3, 300)), ((0, 0), (0, 0))));
    // What is not sent does not count.
    lab.staging.bridge(lab.phy).unwrap().neighbours().flush();
    credit(&fwd, TCP, 1);
    assert_eq!((counted(&fwd, "p1").1, counted(&fwd, "p2").1), ((3, 300), (4, 400)));
}

const FOR_US: &str = "in_port(1),eth(src=f8:bc:12:44:34:b6,dst=aa:55:aa:55:00:00),eth_type(0x0800),\
                      ipv4(src=1.1.2.92,dst=1.1.2.88,proto=17,ttl=64,frag=no),udp(src=50000,dst=4789)";

#[test]
fn packets_for_the_host_come_out_of_their_tunnel() {
    let mut lab = Lab::new();
    lab.flow(lab.phy, "priority=1,in_port=1,actions=LOCAL");
    let fwd = lab.publish();
    assert_eq!(actions(&fwd, FOR_US), "2", "without a tunnel they are the host's");
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92")]);
    lab.tunnel(2, TunnelKind::Gre, &[("remote_ip", "1.1.2.92")]);
    let fwd = lab.publish();
    let t = translate(&fwd, FOR_US);
    assert!(matches!(
        t.program.actions.as_ref(),
        [DpAction::PopTunnel { protocol: TunnelProtocol::Vxlan, port: VXLAN }]
    ));
    assert_eq!(actions(&fwd, FOR_US), "tnl_pop(4789)");
    let gre = FOR_US.replace("proto=17", "proto=47").replace(",udp(src=50000,dst=4789)", "");
    assert_eq!(actions(&fwd, &gre), "tnl_pop(47)");
    for (not_ours, why) in [
        (FOR_US.replace("dst=4789", "dst=4790"), "another port"),
        (FOR_US.replace("dst=1.1.2.88", "dst=1.1.2.89"), "another address"),
        (FOR_US.replace("dst=1.1.2.88", "dst=192.168.9.1"), "an address on another device"),
        (FOR_US.replace("dst=aa:55:aa:55:00:00", "dst=aa:55:aa:55:00:01"), "another Ethernet address"),
        (FOR_US.replace("frag=no", "frag=first"), "a fragment"),
        (
            FOR_US.replace("eth_type(0x0800)", "eth_type(0x8100),vlan(vid=5),encap(eth_type(0x0800)") + ")",
            "tagged",
        ),
        (FOR_US.replace("proto=17", "proto=6").replace("udp", "tcp"), "TCP"),
    ] {
        assert_eq!(actions(&fwd, &not_ours), "2", "{why}");
    }
    // Beside others that get the frame, it is a copy that comes out.
    lab.flow(lab.phy, "priority=1,in_port=1,actions=LOCAL,IN_PORT");
    assert_eq!(actions(&lab.publish(), FOR_US), "clone(tnl_pop(4789)),1");
}

/// Whatever is not in the profile makes no difference, in bridges with tunnels too.
#[test]
fn what_decides_is_in_the_profile() {
    let mut lab = Lab::new();
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "flow"), ("ttl", "inherit")]);
    lab.tunnel(2, TunnelKind::Geneve, &[("remote_ip", "flow"), ("key", "flow")]);
    lab.know_peer();
    lab.flow(lab.int, "priority=0,actions=output:1,output:2,output:8");
    lab.flow(lab.phy, "priority=5,ip,nw_tos=40,nw_ttl=33,actions=output:1");
    lab.flow(lab.phy, "priority=4,in_port=1,actions=LOCAL");
    let fwd = lab.publish();
    let nd = "in_port(1),eth(src=f8:bc:12:44:34:b6,dst=aa:55:aa:55:00:00),eth_type(0x86dd),\
              ipv6(src=fd00::92,dst=fd00::88,proto=58,hlimit=255),icmpv6(type=136,code=0),\
              nd(target=fd00::92,tll=f8:bc:12:44:34:b6)";
    for text in [
        TCP,
        FOR_US,
        nd,
        "in_port(4789),tunnel(tun_id=7,src=1.1.2.92,dst=1.1.2.88,ttl=64),eth(),eth_type(0x0800),ipv4(proto=6)",
    ] {
        let original = key(text);
        let class = FrameClass::of(&original);
        let mask = fwd.profile(class).unwrap().mask;
        let before = fwd.translate(&Upcall { key: &original });
        // No frame has an inner tag without an outer one.
        let inner_tag = [slot::VLAN_TCI_INNER, slot::VLAN_TPID_INNER];
        for place in slot::ALL.iter().filter(|s| !inner_tag.contains(s)) {
            for bit in 0..place.width.into() {
                let flipped = original.get(*place) ^ 1 << bit;
                if mask.0.get(*place) >> bit & 1 == 1 {
                    continue;
                }
                let mut other = original;
                other.set(*place, flipped);
                let after = fwd.translate(&Upcall { key: &other });
                assert_eq!(
                    (format!("{:?}", before.program), before.cacheable),
                    (format!("{:?}", after.program), after.cacheable),
                    "{place:?} bit {bit} of {text}"
                );
            }
        }
    }
}

const TUNNELS: &[(TunnelKind, &[(&str, &str)])] = &[
    (TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "7"), ("tos", "inherit")]),
    (TunnelKind::Vxlan, &[("remote_ip", "flow"), ("key", "flow"), ("ttl", "inherit")]),
    (TunnelKind::Vxlan, &[("remote_ip", "flow"), ("local_ip", "flow"), ("key", "9")]),
    (TunnelKind::Vxlan, &[("remote_ip", "192.168.9.7"), ("key", "flow")]),
    (TunnelKind::Gre, &[("remote_ip", "fd00::92"), ("key", "flow")]),
];
const INT_RULES: &[&str] = &[
    "priority=1,actions=output:1,output:8",
    "priority=2,ip,actions=set_field:1.1.2.92->tun_dst,set_field:3->tun_id,output:2,output:3",
    "priority=3,in_port=9,actions=NORMAL",
    "priority=4,tun_id=7,actions=output:9,output:5",
    "priority=4,tcp,tp_dst=80,actions=mod_nw_tos:32,output:1,output:4",
    "priority=5,ip,tun_src=1.1.2.92,actions=move:NXM_NX_TUN_ID[0..7]->NXM_OF_IP_TOS[],output:5",
    "priority=5,nw_ttl=33,ip,actions=dec_ttl,output:2",
];
const PHY_RULES: &[&str] = &[
    "priority=1,actions=NORMAL",
    "priority=2,in_port=LOCAL,actions=output:1",
    "priority=3,ip,nw_tos=40,actions=mod_nw_ttl:9,output:1",
    "priority=3,udp,tp_dst=4789,in_port=LOCAL,actions=drop",
    "priority=3,in_port=1,actions=LOCAL",
    "priority=4,ip,nw_ttl=33,actions=IN_PORT",
];
const FRAMES: &[&str] = &[
    TCP,
    FOR_US,
    "in_port(4789),tunnel(tun_id=7,src=1.1.2.92,dst=1.1.2.88,ttl=64),eth(),eth_type(0x0800),ipv4(proto=6)",
    "in_port(47),tunnel(tun_id=5,ipv6_src=fd00::92,ipv6_dst=fd00::88),eth(),eth_type(0x86dd),ipv6(proto=58)",
    "in_port(1),eth(dst=aa:55:aa:55:00:00),eth_type(0x0806),arp(sip=1.1.2.92,tip=1.1.2.88,op=2,sha=02:00:00:00:00:07)",
];
/// Fields that frames differ in, with values that rules and tunnels ask for.
const VARIED: &[(Slot, &[u128])] = &[
    (slot::NW_TOS, &[0, 0x28, 0x2b]),
    (slot::NW_TTL, &[1, 33, 64]),
    (slot::TP_DST, &[80, 4789]),
    (slot::DL_DST, &[OUR_MAC as u128, 0xffff_ffff_ffff]),
    (slot::NW_DST, &[0x0101_0258, 0x0a00_0002]),
];

/// Fields that something about tunnels, the host or the rules above asks for.
const ASKED_FOR: &[Slot] = &[
    slot::DL_DST,
    slot::NW_DST,
    slot::NW_PROTO,
    slot::NW_TOS,
    slot::NW_TTL,
    slot::TP_SRC,
    slot::TP_DST,
    slot::IPV6_DST,
    slot::ND_TARGET,
    slot::TUN_ID,
    slot::TUN_SRC,
    slot::TUN_DST,
    slot::TUN_IPV6_SRC,
    slot::TUN_IPV6_DST,
    slot::TUN_TTL,
    slot::TUN_FLAGS,
    slot::PKT_MARK,
];

proptest! {
    /// The same for whatever tunnels and rules there are.
    #[test]
    fn what_may_decide_is_in_the_profile(
        tunnels in proptest::sample::subsequence((0..TUNNELS.len()).collect::<Vec<_>>(), 0..=TUNNELS.len()),
        int in proptest::sample::subsequence(INT_RULES, 1..=INT_RULES.len()),
        phy in proptest::sample::subsequence(PHY_RULES, 1..=PHY_RULES.len()),
        frame in proptest::sample::select(FRAMES),
        varied in proptest::collection::vec((proptest::sample::select(VARIED), any::<proptest::sample::Index>()), 0..3),
        flips in proptest::collection::vec((proptest::sample::select(ASKED_FOR), any::<proptest::sample::Index>()), 1..40),
    ) {
        let mut lab = Lab::new();
        // Without NORMAL, which looks at more than the rules below.
        lab.rules.insert(lab.phy, lab.staging.new_rules());
        for n in tunnels {
            lab.tunnel(n as u32 + 1, TUNNELS[n].0, TUNNELS[n].1);
        }
        lab.know_peer();
        int.iter().for_each(|f| lab.flow(lab.int, f));
        phy.iter().for_each(|f| lab.flow(lab.phy, f));
        let fwd = lab.publish();
        let mut original = key(frame);
        for ((place, values), n) in varied {
            if original.get(place) != 0 {
                original.set(place, *n.get(values));
            }
        }
        let Ok(profile) = fwd.profile(FrameClass::of(&original)) else { return Ok(()) };
        let before = fwd.translate(&Upcall { key: &original });
        for (place, bit) in flips {
            let bit = bit.index(place.width.into());
            if profile.mask.0.get(place) >> bit & 1 == 1 {
                continue;
            }
            let mut other = original;
            other.set(place, original.get(place) ^ 1 << bit);
            let after = fwd.translate(&Upcall { key: &other });
            prop_assert_eq!(
                (format!("{:?}", before.program), before.cacheable),
                (format!("{:?}", after.program), after.cacheable),
                "{:?} bit {}", place, bit
            );
        }
    }
}

#[test]
fn tunnels_in_tunnels_end() {
    let mut lab = Lab::new();
    // The way leads through the very bridge that has the tunnel.
    let host = HostPort { bridge: lab.int, of_port: OfPort::LOCAL };
    let bridge = lab.staging.bridge_mut(lab.int).unwrap();
    add_port(bridge, OfPort::LOCAL, OUR_MAC, Device::Datapath(DpPort(3)));
    lab.staging.set_host(Host::new(Arc::new(routes()), [("phy".into(), host)].into()));
    lab.tunnel(1, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92")]);
    lab.tunnel(2, TunnelKind::Vxlan, &[("remote_ip", "1.1.2.92"), ("key", "3")]);
    let neighbours = Arc::clone(lab.staging.bridge(lab.int).unwrap().neighbours());
    neighbours.learn(ip("1.1.2.92"), MacAddr(PEER_MAC), Instant::ZERO);
    lab.flow(lab.int, "priority=0,actions=output:1,output:2,output:8");
    let text = actions(&lab.publish(), TCP);
    let deepest = text.matches("tnl_push").count();
    assert_eq!(deepest, 2 + 2 * 2, "{text}");
}
