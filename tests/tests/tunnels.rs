//! Tunnels between nodes, end to end: two namespaces as nodes, joined by a wire; ours on one side, and on the other ours, the
//! kernel's devices behind a kernel bridge, or Debian's Open vSwitch with its userspace datapath.
//!
//! Each is tried both ways that ours has: the host routes, or the network card belongs to a bridge of ours.

use tests::reference::Reference;
use tests::traffic::{Reach, transfer};
use tests::{Namespace, Switch, Tools, ip, run, wait_for};

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
