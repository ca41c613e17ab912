//! The capabilities that docs/compatibility.md says are enough: a daemon that has no others does its work on real devices.

use tests::traffic::{Reach, transfer};
use tests::{Switch, Tools, ip, wait_for};

/// A daemon with these capabilities and no others, whatever it tries.
fn with(capabilities: &str) -> Switch {
    let set = format!("-all,{capabilities}");
    let switch = Switch::start_by(&["setpriv", "--bounding-set", &set, "--inh-caps", "-all"], &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", switch.pid())).expect("its status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("its capabilities");
    let effective = u64::from_str_radix(effective.trim(), 16).expect("a number");
    assert_eq!(effective.count_ones() as usize, capabilities.split(',').count(), "{effective:x}");
    switch
}

fn error(switch: &Switch, port: &str) -> String {
    switch.run(&format!("ovs-vsctl get Interface {port} error")).trim().to_owned()
}

/// TAPs of one queue and several, which are then moved into pods, existing netdevs and tunnels take two capabilities.
#[test]
fn two_are_enough_for_pods_netdevs_and_tunnels() {
    let switch = with("+net_admin,+net_raw");
    ip(&format!("-n {} link add veth0 type veth peer name veth1", switch.ns().name()));
    for device in ["veth0", "veth1"] {
        ip(&format!("-n {} link set {device} up", switch.ns().name()));
    }
    switch.run("ovs-vsctl add-br br0 -- add-port br0 veth0");
    ip(&format!("-n {} addr add 10.1.0.9/24 dev veth1", switch.ns().name()));
    for kind in ["vxlan", "geneve", "gre"] {
        let tunnel = format!("set Interface {kind}0 type={kind} options:remote_ip=192.0.2.1 options:key=7");
        switch.run(&format!("ovs-vsctl add-port br0 {kind}0 -- {tunnel}"));
        assert_eq!(error(&switch, &format!("{kind}0")), "[]");
    }
    switch.run("ovs-vsctl add-port br0 many -- set Interface many type=internal options:n_rxq=2");
    let (a, b) = (switch.pod("br0", "pod1", "10.1.0.1/24"), switch.pod("br0", "pod2", "10.1.0.2/24"));
    wait_for("answers", || a.pings("10.1.0.2") && a.pings("10.1.0.9"));
    transfer(&a, &b, Reach::direct("10.1.0.2"));
    let errors = switch.run("ovs-vsctl -f csv --no-headings --columns=error list Interface");
    assert!(errors.lines().all(|line| line == "[]"), "{errors}");
}

/// Another namespace than the daemon's own takes `CAP_SYS_ADMIN`, and who has not got it is told.
#[test]
fn what_lacks_a_capability_is_told() {
    let switch = with("+net_admin,+net_raw");
    switch.run("ovs-vsctl add-br br0");
    let pod = tests::Namespace::new("pod");
    let line = format!(
        "ovs-vsctl add-port br0 pod1 -- set Interface pod1 type=internal options:netns={}",
        pod.name()
    );
    let refused = switch.try_run(&line).stderr;
    assert!(refused.contains("CAP_SYS_ADMIN"), "{refused}");
    assert!(error(&switch, "pod1").contains("CAP_SYS_ADMIN"));
    let bare = with("+net_raw");
    let refused = bare.try_run("ovs-vsctl add-br br0").stderr;
    assert!(refused.contains("CAP_NET_ADMIN"), "{refused}");
    // With it the device is made where the pod is.
    let whole = with("+net_admin,+net_raw,+sys_admin");
    whole.run("ovs-vsctl add-br br0");
    whole.run(&line);
    assert_eq!(error(&whole, "pod1"), "[]");
    assert!(pod.run_ok("ip link show pod1").contains("pod1"));
}

/// A daemon that dies is followed by one that takes over the TAPs which lie in its own namespace, and says of those in pods
/// that it may not. They are made anew when their pods are gone.
#[test]
fn a_restart_finds_what_is_in_its_own_namespace() {
    let mut switch = with("+net_admin,+net_raw");
    switch.run("ovs-vsctl add-br br0 -- add-port br0 here -- set Interface here type=internal");
    let pod = switch.pod("br0", "pod1", "10.1.0.1/24");
    ip(&format!("-n {} addr add 10.1.0.2/24 dev here", switch.ns().name()));
    ip(&format!("-n {} link set here up", switch.ns().name()));
    wait_for("answers", || pod.pings("10.1.0.2"));
    let index = switch.run("ovs-vsctl get Interface here ifindex");
    switch.kill();
    switch.restart();
    switch.run("ovs-vsctl set Open_vSwitch . external_ids:restarted=yes");
    assert_eq!(error(&switch, "here"), "[]");
    assert_eq!(switch.run("ovs-vsctl get Interface here ifindex"), index);
    assert!(error(&switch, "pod1").contains("CAP_SYS_ADMIN"), "{}", error(&switch, "pod1"));
    let is_here = || ip(&format!("-n {} -o link show", switch.ns().name())).contains("pod1");
    assert!(!is_here());
    ip(&format!("netns del {}", pod.name()));
    wait_for("another one is made", || error(&switch, "pod1") == "[]");
    assert!(is_here());
}
