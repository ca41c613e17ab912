//! Tunnels between nodes, end to end: two namespaces as nodes, joined by a wire; ours on one side, and on the other ours, the
//! kernel's devices behind a kernel bridge, or Debian's Open vSwitch with its userspace datapath.
//!
//! Each is tried both ways that ours has: the host routes, or the network card belongs to a bridge of ours.

mod kernel_device;

use tests::reference::Reference;
use tests::traffic::{Reach, TRANSFER, transfer};
use tests::{Namespace, Ran, Switch, Tools, ip, run, wait_for};

/// How the outer packets of our side leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Underlay {
    /// By sockets of the host.
    Host,
    /// Through a bridge of ours that has the card.
    Bridge,
}

/// Which protocol, and what its ends are called.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// Outer addresses of our node and the other.
    ours: &'static str,
    theirs: &'static str,
    /// Further options of the interface.
    options: &'static str,
}

const VXLAN: Kind =
    Kind { name: "vxlan", ours: "172.31.0.1", theirs: "172.31.0.2", options: "options:key=77" };
const VXLAN6: Kind = Kind { ours: "fd31::1", theirs: "fd31::2", ..VXLAN };
const GENEVE: Kind = Kind { name: "geneve", ..VXLAN };
const GENEVE6: Kind = Kind { name: "geneve", ..VXLAN6 };
const GRE: Kind = Kind { name: "gre", ..VXLAN };
const GRE6: Kind = Kind { name: "ip6gre", ..VXLAN6 };

/// Joins two namespaces by a wire, `up0` at both ends.
fn join(a: &Namespace, b: &Namespace) {
    ip(&format!("-n {} link add up0 type veth peer name up0 netns {}", a.name(), b.name()));
    for ns in [a, b] {
        ip(&format!("-n {} link set up0 up", ns.name()));
    }
}

fn prefix(address: &str) -> &'static str {
    if address.contains(':') { "/64" } else { "/24" }
}

fn address(ns: &Namespace, device: &str, address: &str) {
    ip(&format!("-n {} addr add {address}{} dev {device} nodad", ns.name(), prefix(address)));
}

/// Our node: a bridge of pods with a tunnel, and the way out.
fn our_node(node: &dyn Tools, ns: &Namespace, underlay: Underlay, kind: Kind, ours: &str, theirs: &str) {
    let device = match underlay {
        Underlay::Host => "up0",
        Underlay::Bridge => {
            node.run("ovs-vsctl add-br br-phy -- add-port br-phy up0");
            ip(&format!("-n {} link set br-phy up", ns.name()));
            "br-phy"
        }
    };
    address(ns, device, ours);
    tunnel(node, kind, theirs);
}

fn tunnel(node: &dyn Tools, kind: Kind, theirs: &str) {
    let Kind { name, options, .. } = kind;
    node.run(&format!(
        "ovs-vsctl --may-exist add-br br-int -- add-port br-int tun0 -- set Interface tun0 type={name} options:remote_ip={theirs} {options}"
    ));
    assert_eq!(node.run("ovs-vsctl get Interface tun0 error").trim(), "[]");
}

/// A pod's device leaves room for the outer headers.
fn pod(switch: &Switch, port: &str, address: &str) -> Namespace {
    let pod = switch.pod("br-int", port, &format!("{address}/24"));
    pod.run_ok(&format!("ip link set {port} mtu 1400"));
    pod
}

/// Pings and TCP both ways.
fn talk(ours: &Namespace, theirs: &Namespace) {
    wait_for("a ping through the tunnel", || ours.pings("10.9.0.2"));
    assert!(theirs.pings("10.9.0.1"));
    transfer(ours, theirs, Reach::direct("10.9.0.2"));
    transfer(theirs, ours, Reach::direct("10.9.0.1"));
}

/// Both nodes ours.
fn ours_and_ours(kind: Kind, underlays: [Underlay; 2]) {
    let nodes = [Switch::start(&[]), Switch::start(&[])];
    join(nodes[0].ns(), nodes[1].ns());
    let ends = [(kind.ours, kind.theirs), (kind.theirs, kind.ours)];
    for ((node, underlay), (ours, theirs)) in nodes.iter().zip(underlays).zip(ends) {
        our_node(node, node.ns(), underlay, kind, ours, theirs);
    }
    let pods = [pod(&nodes[0], "pod1", "10.9.0.1"), pod(&nodes[1], "pod2", "10.9.0.2")];
    talk(&pods[0], &pods[1]);
    let counted = nodes.each_ref().map(|node| node.port_counters("br-int", "tun0"));
    for direction in ["rx bytes", "tx bytes"] {
        assert!(counted.iter().all(|c| c[direction] > TRANSFER as u64), "{direction}: {counted:?}");
    }
}

/// Ours against the kernel's VXLAN device, and pods behind a bridge of the kernel's.
fn ours_and_the_kernel(node: Switch, kind: Kind, underlay: Underlay) {
    let far = Namespace::new("kernel");
    join(node.ns(), &far);
    our_node(&node, node.ns(), underlay, kind, kind.ours, kind.theirs);
    address(&far, "up0", kind.theirs);
    let Kind { ours, theirs, .. } = kind;
    let pod2 = Namespace::new("pod2");
    for line in [
        format!("link add vx0 type vxlan id 77 dstport 4789 local {theirs} remote {ours} dev up0"),
        "link add br0 type bridge".to_owned(),
        format!("link add p2 type veth peer name pod2 netns {}", pod2.name()),
        "link set vx0 master br0 up".to_owned(),
        "link set p2 master br0 up".to_owned(),
        "link set br0 up".to_owned(),
    ] {
        ip(&format!("-n {} {line}", far.name()));
    }
    for line in ["addr add 10.9.0.2/24 dev pod2", "link set pod2 mtu 1400 up"] {
        ip(&format!("-n {} {line}", pod2.name()));
    }
    talk(&pod(&node, "pod1", "10.9.0.1"), &pod2);
}

/// Ours and Open vSwitch with its userspace datapath, which needs the card for itself; and their pods.
struct Pair {
    node: Switch,
    other: Reference,
    pods: [Namespace; 2],
    _far: Namespace,
}

fn ours_and_open_vswitch(kind: Kind, underlay: Underlay) -> Pair {
    ours_and_open_vswitch_with(Switch::start(&[]), kind, underlay)
}

fn ours_and_open_vswitch_with(node: Switch, kind: Kind, underlay: Underlay) -> Pair {
    let far = Namespace::new("ovs");
    join(node.ns(), &far);
    our_node(&node, node.ns(), underlay, kind, kind.ours, kind.theirs);
    let other = Reference::start_in(&far);
    for bridge in ["br-phy", "br-int"] {
        other.run(&format!("ovs-vsctl add-br {bridge} -- set Bridge {bridge} datapath_type=netdev"));
    }
    other.run("ovs-vsctl add-port br-phy up0");
    ip(&format!("-n {} link set br-phy up", far.name()));
    address(&far, "br-phy", kind.theirs);
    tunnel(&other, kind, kind.ours);
    other.run("ovs-vsctl add-port br-int pod2 -- set Interface pod2 type=internal");
    let pod2 = Namespace::new("pod2");
    ip(&format!("-n {} link set pod2 netns {}", far.name(), pod2.name()));
    for line in ["addr add 10.9.0.2/24 dev pod2", "link set pod2 mtu 1400 up"] {
        ip(&format!("-n {} {line}", pod2.name()));
    }
    let pods = [pod(&node, "pod1", "10.9.0.1"), pod2];
    Pair { node, other, pods, _far: far }
}

impl Pair {
    fn talk(&self) {
        talk(&self.pods[0], &self.pods[1]);
    }
}

#[test]
fn ours_to_ours_by_the_host() {
    for kind in [VXLAN, VXLAN6, GENEVE, GRE, GRE6] {
        ours_and_ours(kind, [Underlay::Host; 2]);
    }
}

#[test]
fn ours_to_ours_through_bridges() {
    for kind in [VXLAN, VXLAN6, GENEVE, GRE, GRE6] {
        ours_and_ours(kind, [Underlay::Bridge; 2]);
    }
}

#[test]
fn ours_to_ours_one_by_the_host_and_one_through_a_bridge() {
    ours_and_ours(VXLAN, [Underlay::Host, Underlay::Bridge]);
    ours_and_ours(GENEVE6, [Underlay::Bridge, Underlay::Host]);
}

#[test]
fn ours_to_the_kernel() {
    for underlay in [Underlay::Host, Underlay::Bridge] {
        ours_and_the_kernel(Switch::start(&[]), VXLAN, underlay);
        ours_and_the_kernel(Switch::start(&[]), VXLAN6, underlay);
    }
}

#[test]
fn ours_to_open_vswitch_by_the_host() {
    // Over IPv6 the kernel leaves the UDP checksum to the card, which on this wire is none, and Open vSwitch does not know.
    for kind in [VXLAN, GENEVE, GRE] {
        ours_and_open_vswitch(kind, Underlay::Host).talk();
    }
}

#[test]
fn ours_to_open_vswitch_through_a_bridge() {
    for kind in [VXLAN, VXLAN6, GENEVE, GRE] {
        ours_and_open_vswitch(kind, Underlay::Bridge).talk();
    }
}

/// One ping of so many bytes of payload; `rule` is that of fragmentation, as ping(8) calls it.
fn ping(from: &Namespace, to: &str, payload: usize, rule: &str) -> Ran {
    let size = payload.to_string();
    run(from.command("ping").args(["-c1", "-W2", "-n", "-M", rule, "-s", &size, to]))
}

/// Pods whose MTU leaves no room for outer headers are told, or their packets cut.
#[test]
fn packets_that_do_not_fit() {
    for underlay in [Underlay::Host, Underlay::Bridge] {
        let nodes = [Switch::start(&[]), Switch::start(&[])];
        join(nodes[0].ns(), nodes[1].ns());
        our_node(&nodes[0], nodes[0].ns(), underlay, VXLAN, VXLAN.ours, VXLAN.theirs);
        our_node(&nodes[1], nodes[1].ns(), underlay, VXLAN, VXLAN.theirs, VXLAN.ours);
        let a = nodes[0].pod("br-int", "pod1", "10.9.0.1/24");
        let b = nodes[1].pod("br-int", "pod2", "10.9.0.2/24");
        for (pod, device, address) in [(&a, "pod1", "fd09::1"), (&b, "pod2", "fd09::2")] {
            ip(&format!("-n {} addr add {address}/64 dev {device} nodad", pod.name()));
        }
        wait_for("a ping through the tunnel", || a.pings("10.9.0.2"));
        wait_for("a ping by IPv6", || a.pings("fd09::2"));
        // 1500 less 50 for VXLAN is 1450; less 28 for the headers of the ping.
        assert_eq!(ping(&a, "10.9.0.2", 1_422, "do").code, 0);
        let refused = ping(&a, "10.9.0.2", 1_423, "do");
        assert!(refused.code != 0 && refused.stdout.contains("mtu = 1450"), "{}", refused.stdout);
        let refused = ping(&b, "fd09::1", 1_403, "do");
        assert!(refused.code != 0 && refused.stdout.contains("mtu=1450"), "{}", refused.stdout);
        assert_eq!(ping(&b, "fd09::1", 1_402, "do").code, 0);
        let drops = nodes[0].run("ovs-appctl tapestry/drops");
        assert!(drops.contains("tunnel_too_big"), "{drops}");
        // Where the sender leaves it to others, it is cut on the way.
        a.run_ok("ip route flush cache");
        assert_eq!(ping(&a, "10.9.0.2", 1_472, "dont").code, 0);
        assert_eq!(ping(&a, "10.9.0.2", 4_000, "dont").code, 0);
        // TCP finds out by itself.
        transfer(&a, &b, Reach::direct("10.9.0.2"));
        transfer(&b, &a, Reach::direct("fd09::1"));
    }
}

/// A tunnel to wherever rules say, told apart by its key: what an overlay's controller uses.
#[test]
fn rules_say_where_a_tunnel_leads() {
    let nodes = [Switch::start(&[]), Switch::start(&[])];
    join(nodes[0].ns(), nodes[1].ns());
    for (node, ours, theirs, underlay) in [
        (&nodes[0], VXLAN.ours, VXLAN.theirs, Underlay::Host),
        (&nodes[1], VXLAN.theirs, VXLAN.ours, Underlay::Bridge),
    ] {
        our_node(node, node.ns(), underlay, Kind { options: "options:key=flow", ..VXLAN }, ours, "flow");
        node.run("ovs-vsctl add-port br-int pod1 -- set Interface pod1 type=internal");
        node.flows(
            "br-int",
            &[
                &format!("in_port=pod1,actions=set_field:99->tun_id,set_field:{theirs}->tun_dst,output:tun0"),
                &format!("in_port=tun0,tun_id=99,tun_src={theirs},actions=output:pod1"),
                "priority=0,actions=drop",
            ],
        );
    }
    let pods: Vec<Namespace> = nodes
        .iter()
        .zip(["10.9.0.1", "10.9.0.2"])
        .map(|(node, address)| {
            let pod = Namespace::new("pod1");
            ip(&format!("-n {} link set pod1 netns {}", node.ns().name(), pod.name()));
            ip(&format!("-n {} addr add {address}/24 dev pod1", pod.name()));
            ip(&format!("-n {} link set pod1 mtu 1400 up", pod.name()));
            pod
        })
        .collect();
    talk(&pods[0], &pods[1]);
    nodes[1].run("ovs-ofctl mod-flows br-int in_port=tun0,tun_id=99,actions=drop");
    assert!(!pods[0].pings("10.9.0.2"));
}

/// Geneve's options carry what one end writes and the other matches: both directions, critical and not.
#[test]
fn options_cross_between_ours_and_open_vswitch() {
    for underlay in [Underlay::Host, Underlay::Bridge] {
        let pair = ours_and_open_vswitch(GENEVE, underlay);
        let ends: [(&dyn Tools, &str); 2] = [(&pair.node, "pod1"), (&pair.other, "pod2")];
        for (switch, pod) in ends {
            switch.run("ovs-ofctl add-tlv-map br-int '{class=0xffff,type=0x80,len=4}->tun_metadata0,{class=0xffff,type=0x01,len=8}->tun_metadata1'");
            switch.flows(
                "br-int",
                &[
                    &format!("in_port={pod},actions=set_field:0x12345678->tun_metadata0,set_field:0x99->tun_metadata1,output:tun0"),
                    &format!("in_port=tun0,tun_id=77,tun_metadata0=0x12345678,tun_metadata1=0x99,actions=output:{pod}"),
                    "priority=0,actions=drop",
                ],
            );
        }
        pair.talk();
        // An option that is critical and not known any more: the packet is dropped.
        for (switch, _) in ends {
            switch.run("ovs-ofctl del-flows br-int");
        }
        pair.node.run("ovs-ofctl del-tlv-map br-int '{class=0xffff,type=0x80,len=4}->tun_metadata0'");
        pair.other.flows(
            "br-int",
            &[
                "in_port=pod2,actions=set_field:0x12345678->tun_metadata0,output:tun0",
                "in_port=tun0,actions=output:pod2",
            ],
        );
        pair.node.flows("br-int", &["actions=NORMAL"]);
        assert!(!pair.pods[1].pings("10.9.0.1"));
        let drops = pair.node.run("ovs-appctl tapestry/drops");
        assert!(drops.contains("bad_tunnel"), "{drops}");
    }
}

/// flannel's UDP backend carries bare IPv4 packets: rules give them their Ethernet addresses.
#[test]
fn flannel_carries_packets_without_ethernet() {
    let kind = Kind { name: "flannel", options: "", ..VXLAN };
    let nodes = [Switch::start(&[]), Switch::start(&[])];
    join(nodes[0].ns(), nodes[1].ns());
    our_node(&nodes[0], nodes[0].ns(), Underlay::Host, kind, kind.ours, kind.theirs);
    our_node(&nodes[1], nodes[1].ns(), Underlay::Bridge, kind, kind.theirs, kind.ours);
    let pods = [pod(&nodes[0], "pod1", "10.9.0.1"), pod(&nodes[1], "pod1", "10.9.0.2")];
    for ((node, pod), other) in nodes.iter().zip(&pods).zip(["10.9.0.2", "10.9.0.1"]) {
        let mac = pod.run_ok("cat /sys/class/net/pod1/address");
        ip(&format!("-n {} neigh add {other} lladdr 02:00:00:00:00:99 dev pod1", pod.name()));
        node.flows(
            "br-int",
            &[
                "ip,in_port=pod1,actions=output:tun0",
                &format!(
                    "in_port=tun0,actions=mod_dl_src:02:00:00:00:00:99,mod_dl_dst:{},output:pod1",
                    mac.trim()
                ),
            ],
        );
    }
    talk(&pods[0], &pods[1]);
}

/// What ovs-vsctl and ovs-appctl say of tunnels.
#[test]
fn tunnels_are_shown_as_open_vswitch_shows_them() {
    let node = Switch::start(&[]);
    let other = Namespace::new("far");
    join(node.ns(), &other);
    our_node(&node, node.ns(), Underlay::Bridge, VXLAN, VXLAN.ours, VXLAN.theirs);
    wait_for("the way out is told", || {
        node.run("ovs-vsctl get Interface tun0 status").contains("tunnel_egress_iface=br-phy")
    });
    node.run("ovs-vsctl add-port br-int tun1 -- set Interface tun1 type=vxlan options:remote_ip=flow");
    assert!(node.run("ovs-appctl dpif/show").contains(": (vxlan: key=77, remote_ip=172.31.0.2)"));
    let ports = node.run("ovs-appctl tnl/ports/show");
    let line = ports.lines().nth(1).unwrap_or_default();
    assert!(line.starts_with("vxlan_sys_4789 (") && line.ends_with(") ref_cnt=2"), "{ports}");
    let mac = node.run("ovs-vsctl get Interface br-phy mac_in_use");
    let detail = format!(
        ": eth(dst={}),eth_type(0x0800),ipv4(dst=172.31.0.1,proto=17,frag=no),udp(dst=4789)",
        mac.trim().trim_matches('"')
    );
    wait_for("the address of the bridge's device is listened at", || {
        node.run("ovs-appctl tnl/ports/show -v").contains(&detail)
    });
    // Two that let in the same, one that cannot be.
    node.try_run("ovs-vsctl add-port br-int tun2 -- set Interface tun2 type=vxlan options:remote_ip=flow");
    let error = node.run("ovs-vsctl get Interface tun2 error");
    assert!(error.contains("could not add network device tun2 to ofproto (File exists)"), "{error}");
    node.try_run("ovs-vsctl add-port br-int tun3 -- set Interface tun3 type=geneve options:remote_ip=nobody");
    let error = node.run("ovs-vsctl get Interface tun3 error");
    assert!(error.contains("tun3: geneve type requires valid 'remote_ip' argument"), "{error}");
    // The socket goes with the last that shares it.
    node.run("ovs-vsctl del-port tun0 -- del-port tun1 -- del-port tun2 -- del-port tun3");
    assert_eq!(node.run("ovs-appctl tnl/ports/show"), "Listening ports:\n");
    assert!(!node.run("ovs-appctl dpctl/show").contains("vxlan_sys_4789"));
}
