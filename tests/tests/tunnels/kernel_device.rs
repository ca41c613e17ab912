//! VXLAN tunnels that the kernel's device carries (`other_config:vxlan-kernel-device`).

use super::{
    Kind, Pair, Underlay, VXLAN, VXLAN6, join, our_node, ours_and_open_vswitch_with, ping, pod, talk,
};
use std::net::UdpSocket;
use sys::IfName;
use sys::ethtool::{self, TransmitChecksums};
use tests::traffic::{Reach, TRANSFER, ask};
use tests::{Namespace, Switch, Tools, idle_for, ip, run, wait_for};

const ON: &str = "ovs-vsctl set Open_vSwitch . other_config:vxlan-kernel-device=true";
const OFF: &str = "ovs-vsctl remove Open_vSwitch . other_config vxlan-kernel-device";
const DEVICE: &str = "vxlan_sys_4789";
const TAP: &str = "vxlan_tap_4789";

fn has(ns: &Namespace, device: &str) -> bool {
    run(ns.command("ip").args(["link", "show", device])).code == 0
}

/// A node that carries its tunnels so.
fn node() -> Switch {
    let node = Switch::start(&[]);
    node.run(ON);
    node
}

/// Two nodes and a pod at each.
struct Nodes {
    nodes: [Switch; 2],
    pods: [Namespace; 2],
}

fn connect(nodes: [Switch; 2], kind: Kind) -> Nodes {
    join(nodes[0].ns(), nodes[1].ns());
    let ends = [(kind.ours, kind.theirs), (kind.theirs, kind.ours)];
    for (node, (ours, theirs)) in nodes.iter().zip(ends) {
        our_node(node, node.ns(), Underlay::Host, kind, ours, theirs);
    }
    let pods = [pod(&nodes[0], "pod1", "10.9.0.1"), pod(&nodes[1], "pod2", "10.9.0.2")];
    Nodes { nodes, pods }
}

impl Nodes {
    fn talk(&self) {
        talk(&self.pods[0], &self.pods[1]);
    }

    /// Datagrams, one that is cut on the way too.
    fn ask(&self) {
        for len in [1, 1_000, 9_000] {
            ask(&self.pods[0], &self.pods[1], Reach::direct("10.9.0.2"), &vec![7; len]);
        }
    }
}

#[test]
fn both_by_the_device_on_both_wires() {
    for (kind, options) in [
        (VXLAN, "options:key=77"),
        (VXLAN, "options:key=77 options:csum=true options:df_default=false"),
        (VXLAN, "options:in_key=7 options:out_key=7 options:tos=inherit options:ttl=inherit"),
        (VXLAN6, "options:key=77"),
    ] {
        let both = connect([node(), node()], Kind { options, ..kind });
        assert!(both.nodes.iter().all(|node| has(node.ns(), DEVICE) && has(node.ns(), TAP)));
        both.talk();
        both.ask();
        for node in &both.nodes {
            ip(&format!("-n {} link set dev up0 gso_max_segs 1", node.ns().name()));
        }
        both.talk();
        let counted = both.nodes.each_ref().map(|node| node.port_counters("br-int", "tun0"));
        for direction in ["rx bytes", "tx bytes"] {
            assert!(counted.iter().all(|c| c[direction] > 2 * TRANSFER as u64), "{direction}: {counted:?}");
        }
    }
}

#[test]
fn one_by_the_device_and_one_by_sockets() {
    for kind in [VXLAN, VXLAN6] {
        let both = connect([node(), Switch::start(&[])], kind);
        both.talk();
        both.ask();
    }
}

#[test]
fn device_to_the_kernel_s_own() {
    super::ours_and_the_kernel(node(), VXLAN, Underlay::Host);
    super::ours_and_the_kernel(node(), VXLAN6, Underlay::Host);
}

#[test]
fn device_to_open_vswitch() {
    let node = node();
    let pair: Pair = ours_and_open_vswitch_with(node, VXLAN, Underlay::Host);
    // The kernel leaves inner checksums to the card, and so does a veth to its other end, where Open vSwitch does not know.
    let up0 = IfName::new("up0").expect("a name");
    let done = pair.node.ns().enter(|| ethtool::set_transmit_checksums(&up0, TransmitChecksums::Kernel));
    done.expect("checksums by the kernel");
    assert!(has(pair.node.ns(), DEVICE));
    pair.talk();
}

#[test]
fn underlay_in_a_bridge_of_ours_is_left_to_it() {
    let nodes = [node(), node()];
    join(nodes[0].ns(), nodes[1].ns());
    our_node(&nodes[0], nodes[0].ns(), Underlay::Bridge, VXLAN, VXLAN.ours, VXLAN.theirs);
    our_node(&nodes[1], nodes[1].ns(), Underlay::Host, VXLAN, VXLAN.theirs, VXLAN.ours);
    talk(&pod(&nodes[0], "pod1", "10.9.0.1"), &pod(&nodes[1], "pod2", "10.9.0.2"));
}

#[test]
fn rules_say_where_a_tunnel_leads_and_what_nobody_wants_is_dropped() {
    let both = connect([node(), node()], VXLAN);
    for (node, theirs) in both.nodes.iter().zip([VXLAN.theirs, VXLAN.ours]) {
        node.run("ovs-vsctl del-port tun0");
        node.run("ovs-vsctl add-port br-int tun0 -- set Interface tun0 type=vxlan options:remote_ip=flow options:key=flow");
        let pod = if theirs == VXLAN.theirs { "pod1" } else { "pod2" };
        node.flows(
            "br-int",
            &[
                &format!(
                    "in_port={pod},actions=set_field:99->tun_id,set_field:{theirs}->tun_dst,output:tun0"
                ),
                &format!("in_port=tun0,tun_id=99,tun_src={theirs},actions=output:{pod}"),
                "priority=0,actions=drop",
            ],
        );
    }
    both.talk();
    both.nodes[1].run("ovs-vsctl set Interface tun0 options:key=5");
    assert!(!both.pods[0].pings("10.9.0.2"));
    let drops = both.nodes[1].run("ovs-appctl tapestry/drops");
    assert!(drops.contains("no_tunnel"), "{drops}");
}

/// The kernel keeps VLAN tags beside the bytes.
#[test]
fn tagged_frames_cross() {
    let both = connect([node(), node()], VXLAN);
    // Untagged in the pods and tagged in the tunnel: a frame that loses its tag there reaches no pod.
    for (node, pod) in both.nodes.iter().zip(["pod1", "pod2"]) {
        node.run(&format!("ovs-vsctl set Port {pod} tag=5"));
    }
    both.talk();
    both.ask();
}

#[test]
fn packets_that_do_not_fit_the_link_are_told() {
    let nodes = connect([node(), node()], VXLAN);
    for (pod, device) in nodes.pods.iter().zip(["pod1", "pod2"]) {
        pod.run_ok(&format!("ip link set {device} mtu 1500"));
    }
    wait_for("a ping", || nodes.pods[0].pings("10.9.0.2"));
    assert_eq!(ping(&nodes.pods[0], "10.9.0.2", 1_422, "do").code, 0);
    let refused = ping(&nodes.pods[0], "10.9.0.2", 1_423, "do");
    assert!(refused.code != 0 && refused.stdout.contains("mtu = 1450"), "{}", refused.stdout);
    nodes.pods[0].run_ok("ip route flush cache");
    assert_eq!(ping(&nodes.pods[0], "10.9.0.2", 4_000, "dont").code, 0);
}

#[test]
fn setting_bites_at_run_time() {
    let both = connect([Switch::start(&[]), Switch::start(&[])], VXLAN);
    assert!(!has(both.nodes[0].ns(), DEVICE));
    both.talk();
    for _ in 0..2 {
        both.nodes[0].run(ON);
        // The reply means that it is so.
        assert!(has(both.nodes[0].ns(), DEVICE));
        both.talk();
        both.nodes[0].run(OFF);
        assert!(!has(both.nodes[0].ns(), DEVICE) && !has(both.nodes[0].ns(), TAP));
        both.talk();
    }
    assert!(!both.nodes[0].log().contains("carried by sockets"), "{}", both.nodes[0].log());
    // It goes with the last tunnel.
    both.nodes[0].run(ON);
    both.nodes[0].run("ovs-vsctl del-port tun0");
    assert!(!has(both.nodes[0].ns(), DEVICE) && !has(both.nodes[0].ns(), TAP));
}

#[test]
fn nothing_is_left_when_the_switch_ends_and_a_restart_works() {
    let mut both = connect([node(), node()], VXLAN);
    both.talk();
    both.nodes[0].kill();
    both.nodes[0].restart();
    both.nodes[0].await_configuration();
    assert!(has(both.nodes[0].ns(), DEVICE), "{}", both.nodes[0].log());
    both.talk();
    both.nodes[0].kill();
    wait_for("the devices of a killed switch are gone", || {
        !has(both.nodes[0].ns(), DEVICE) && !has(both.nodes[0].ns(), TAP)
    });
    both.nodes[0].restart();
    both.nodes[0].await_configuration();
    both.talk();
    assert!(both.nodes[0].stop(""));
    wait_for("the devices are gone", || !has(both.nodes[0].ns(), DEVICE) && !has(both.nodes[0].ns(), TAP));
}

#[test]
fn device_that_somebody_deletes_is_made_again() {
    let both = connect([node(), node()], VXLAN);
    both.talk();
    ip(&format!("-n {} link del {DEVICE}", both.nodes[0].ns().name()));
    wait_for("the device is back", || has(both.nodes[0].ns(), DEVICE));
    both.talk();
}

/// The capabilities that docs/compatibility.md names are enough.
#[test]
fn three_capabilities_are_enough_for_the_device() {
    let few = || {
        let set = "-all,+net_admin,+net_raw,+bpf";
        let node = Switch::start_by(&["setpriv", "--bounding-set", set, "--inh-caps", "-all"], &[]);
        node.run(ON);
        node
    };
    let both = connect([few(), few()], VXLAN);
    assert!(both.nodes.iter().all(|node| has(node.ns(), DEVICE) && has(node.ns(), TAP)));
    both.talk();
    both.ask();
}

/// What the kernel's device cannot be had for, sockets carry.
#[test]
fn sockets_carry_what_the_device_cannot() {
    // The name is somebody's, who keeps it.
    let taken = Switch::start(&[]);
    ip(&format!("-n {} link add {DEVICE} type bridge", taken.ns().name()));
    taken.run(ON);
    // Without the capability for packet sockets.
    let bare = Switch::start_by(&["setpriv", "--bounding-set", "-net_raw"], &[]);
    bare.run(ON);
    let both = connect([taken, bare], VXLAN);
    both.talk();
    for node in &both.nodes {
        let lines = node.log().lines().filter(|line| line.contains("carried by sockets")).count();
        assert_eq!(lines, 1, "{}", node.log());
        assert!(!has(node.ns(), TAP));
    }
    assert!(has(both.nodes[0].ns(), DEVICE) && !has(both.nodes[1].ns(), DEVICE));
    // A group policy is more than the device is told.
    for node in &both.nodes {
        node.run("ovs-vsctl set Interface tun0 options:exts=gbp options:dst_port=4790");
        assert!(!has(node.ns(), "vxlan_sys_4790"));
    }
    both.talk();
}

/// What the device could not pass on it counts, and so do we, some time later.
#[test]
fn packets_that_the_device_cannot_send_are_drops() {
    let both = connect([node(), node()], VXLAN);
    both.talk();
    // Of such rules the switch knows nothing.
    let ns = both.nodes[0].ns().name();
    ip(&format!("-n {ns} rule add to {} unreachable pref 1", VXLAN.theirs));
    wait_for("a drop", || {
        assert!(!both.pods[0].pings("10.9.0.2"));
        both.nodes[0].run("ovs-appctl tapestry/drops").contains("tx_error")
    });
}

/// How it differs: packets with reserved flags, which RFC 7348 has ignored, are the kernel's errors.
#[test]
fn reserved_flags_are_refused_by_the_kernel() {
    let both = connect([node(), Switch::start(&[])], VXLAN);
    both.talk();
    let mac = [0x02, 0, 0, 0, 0, 9];
    let mut packet = vec![0x0c, 0, 0, 0, 0, 0, 77, 0];
    packet.extend([[0xff; 6], mac].concat());
    packet.extend([0x88, 0xb5]);
    packet.extend([0; 46]);
    let errors = |node: &Switch| {
        let text = node.ns().run_ok(&format!("ip -s link show {DEVICE}"));
        let line =
            text.lines().skip_while(|line| !line.contains("RX:")).nth(1).unwrap_or_default().to_owned();
        line.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = errors(&both.nodes[0]);
    let send = |from: usize, to: &str| {
        let socket = both.nodes[from].ns().enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        socket.send_to(&packet, (to, 4789)).expect("sent");
    };
    send(1, VXLAN.ours);
    wait_for("the kernel counts an error", || errors(&both.nodes[0]) == before + 1);
    // Sockets let it in.
    let learned = |node: &Switch| node.run("ovs-appctl fdb/show br-int").contains("02:00:00:00:00:09");
    send(0, VXLAN.theirs);
    wait_for("the other takes it", || learned(&both.nodes[1]));
    idle_for(std::time::Duration::from_millis(50));
    assert!(!learned(&both.nodes[0]));
}
