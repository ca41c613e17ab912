//! Interfaces of type `afxdp`: pods behind veths whose near ends an XDP program empties, driven by the real tools.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use sys::IfName;
use sys::ethtool::{self, TransmitChecksums};
use tests::traffic::{self, Reach};
use tests::wire::Wire;
use tests::{Namespace, Switch, Tools, binary, frames, ip, run, run_ok, wait_for};

const FAR: &str = "eth0";

fn name(text: &str) -> IfName {
    IfName::new(text).expect("a name")
}

/// A veth from the switch's namespace into a new one, with an address there, and what `ip link add` is to be told further.
fn veth(switch: &Switch, near: &str, cidr: &str, how: &str) -> Namespace {
    let pod = Namespace::new(near);
    let sw = switch.ns().name();
    ip(&format!("-n {sw} link add {near} {how} type veth peer name {FAR} netns {} {how}", pod.name()));
    ip(&format!("-n {} addr add {cidr} dev {FAR}", pod.name()));
    ip(&format!("-n {} link set {FAR} up", pod.name()));
    pod
}

/// Such a pod, as a port of br0.
fn pod(switch: &Switch, near: &str, cidr: &str, options: &str) -> Namespace {
    let pod = veth(switch, near, cidr, "");
    switch.run(&format!("ovs-vsctl add-port br0 {near} -- set Interface {near} type=afxdp {options}"));
    pod
}

/// An interface's column, without the quotes that ovs-vsctl puts around text.
fn column(switch: &Switch, interface: &str, column: &str) -> String {
    switch.run(&format!("ovs-vsctl get Interface {interface} {column}")).trim().trim_matches('"').to_owned()
}

fn assert_quiet(switch: &Switch) {
    for line in switch.log().lines() {
        assert!(!line.contains("|WARN|") && !line.contains("|ERR|"), "normal, yet logged: {line}");
    }
}

#[test]
fn pods_ping_and_talk_with_their_offloads_on() {
    let switch = Switch::start(&["--workers=2"]);
    switch.run("ovs-vsctl add-br br0");
    assert!(switch.run("ovs-vsctl get Open_vSwitch . iface_types").contains("afxdp,"));
    let a = pod(&switch, "pod1", "10.1.0.1/24", "");
    let b = pod(&switch, "pod2", "10.1.0.2/24", "options:xdp-mode=native options:use-need-wakeup=false");
    let tap = switch.pod("br0", "pod3", "10.1.0.3/24");
    for (pod, device, address) in [(&a, FAR, "fd01::1"), (&b, FAR, "fd01::2"), (&tap, "pod3", "fd01::3")] {
        pod.run_ok(&format!("ip addr add {address}/64 dev {device} nodad"));
    }
    let checksums = a.enter(|| ethtool::transmit_checksums(&name(FAR))).expect("ethtool");
    assert_eq!(checksums, TransmitChecksums::Device, "left undone by the pod's kernel");
    for (from, to, addresses) in [
        (&a, &b, ["10.1.0.2", "fd01::2"]),
        (&a, &tap, ["10.1.0.3", "fd01::3"]),
        (&tap, &b, ["10.1.0.2", "fd01::2"]),
    ] {
        for address in addresses {
            wait_for("answers", || from.pings(address));
            traffic::transfer(from, to, Reach::direct(address));
            traffic::ask(from, to, Reach::direct(address), &[7; 1200]);
        }
    }
    for port in ["pod1", "pod2"] {
        wait_for("the state of the device", || column(&switch, port, "status:xdp-mode") == "native");
        assert_eq!(column(&switch, port, "status:driver_name"), "veth");
        assert_eq!(
            (column(&switch, port, "error"), column(&switch, port, "link_state")),
            ("[]".into(), "up".into())
        );
    }
    // One queue, of which nothing was lost or misunderstood; a TAP has none of these.
    for what in ["rx_dropped", "rx_invalid_descs", "tx_invalid_descs"] {
        assert_eq!(column(&switch, "pod1", &format!("statistics:xsk_queue_0_{what}")), "0");
    }
    assert!(!column(&switch, "pod3", "statistics").contains("xsk_queue"));
    let shown = switch.run("ovs-appctl dpif/show");
    let settings = "(afxdp: n_rxq=1, use-need-wakeup=false, xdp-mode=native, xdp-mode-in-use=native)";
    assert!(shown.contains(settings), "{shown}");
    assert!(switch.run("ovs-appctl dpctl/show").contains(settings));
    let counters = switch.port_counters("br0", "pod2");
    assert!(counters["tx bytes"] > 2 * traffic::TRANSFER as u64, "{counters:?}");
    assert_eq!((counters["rx drop"], counters["tx drop"]), (0, 0), "{counters:?}");
    assert_quiet(&switch);
}

/// Behind the driver a veth gives super-frames too, which no chunk holds: as in OVS, pods are to cut them.
#[test]
fn generic_mode_serves_pods_that_send_complete_frames() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let options = "options:xdp-mode=generic";
    let pods = [pod(&switch, "pod1", "10.1.0.1/24", options), pod(&switch, "pod2", "10.1.0.2/24", options)];
    for pod in &pods {
        pod.enter(|| ethtool::set_transmit_checksums(&name(FAR), TransmitChecksums::Kernel))
            .expect("ethtool");
    }
    let [a, b] = pods;
    wait_for("answers", || a.pings("10.1.0.2"));
    traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
    traffic::transfer(&b, &a, Reach::direct("10.1.0.1"));
    wait_for("the mode", || column(&switch, "pod1", "status:xdp-mode") == "generic");
    assert_quiet(&switch);
}

#[test]
fn vlans_are_apart_and_trunks_carry_tags() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let pods = [1, 2, 3].map(|n| pod(&switch, &format!("pod{n}"), &format!("10.1.0.{n}/24"), ""));
    switch.run("ovs-vsctl set Port pod2 tag=10 -- set Port pod3 tag=20");
    let [mut trunk, mut ten, mut twenty] = [0, 1, 2].map(|n| Wire::open(&pods[n], FAR));
    let frame = |text: &[u8]| frames::experimental(frames::mac(1), [0xff; 6], text);
    // A Wire puts the tag into the bytes, as kernels do for devices that cannot.
    trunk.send(&frames::tagged(&frame(b"to ten"), 0x8100, 0x600a));
    ten.until(&frame(b"to ten"));
    ten.send(&frame(b"from ten"));
    trunk.until(&frames::tagged(&frame(b"from ten"), 0x8100, 10));
    trunk.send(&frames::tagged(&frame(b"to twenty"), 0x8100, 20));
    for seen in twenty.until(&frame(b"to twenty")) {
        assert!(![frame(b"to ten"), frame(b"from ten")].contains(&seen), "{}", frames::hex(&seen));
    }
    assert!(!pods[1].pings("10.1.0.3"));
    switch.run("ovs-vsctl set Port pod3 tag=10");
    // Its kernel asks for the other address only once a second.
    wait_for("answers", || pods[1].pings("10.1.0.3"));
}

#[test]
fn queues_are_spread_over_workers() {
    let switch = Switch::start(&["--workers=2"]);
    switch.run("ovs-vsctl add-br br0");
    let pods = ["pod1", "pod2"].map(|near| {
        let pod = veth(&switch, near, &format!("10.1.0.{}/24", &near[3..]), "numrxqueues 2 numtxqueues 2");
        let add = format!("ovs-vsctl add-port br0 {near} -- set Interface {near} type=afxdp");
        switch.run(&format!("{add} options:n_rxq=2"));
        pod
    });
    let [a, b] = pods;
    wait_for("answers", || a.pings("10.1.0.2"));
    for _ in 0..4 {
        traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
        traffic::transfer(&b, &a, Reach::direct("10.1.0.1"));
    }
    let shown = switch.run("ovs-appctl dpif-netdev/pmd-rxq-show");
    for port in ["pod1", "pod2"] {
        let queues = shown.lines().filter(|line| line.contains(&format!("port: {port} ")));
        assert_eq!(queues.count(), 2, "{shown}");
    }
    // Fewer, while it runs, which leaves some frames to the kernel.
    let left = "pod1: the device has 2 queues, and the kernel keeps the frames of all but 1";
    assert!(!switch.log().contains("the device has"), "{}", switch.log());
    switch.run("ovs-vsctl set Interface pod1 options:n_rxq=1");
    wait_for("the warning", || switch.log().contains(left));
    wait_for("one queue", || {
        let shown = switch.run("ovs-appctl dpif-netdev/pmd-rxq-show");
        shown.lines().filter(|line| line.contains("port: pod1 ")).count() == 1
    });
    assert_eq!(column(&switch, "pod1", "error"), "[]");
}

#[test]
fn device_vanishes_and_comes_back() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = pod(&switch, "pod2", "10.1.0.2/24", "");
    wait_for("answers", || a.pings("10.1.0.2"));
    for _ in 0..3 {
        // With its other end.
        b.run_ok(&format!("ip link del {FAR}"));
        wait_for("the error", || {
            let error = column(&switch, "pod2", "error");
            error.contains("No such device") && column(&switch, "pod2", "link_state") == "[]"
        });
        let sw = switch.ns().name();
        ip(&format!("-n {sw} link add pod2 type veth peer name {FAR} netns {}", b.name()));
        b.run_ok(&format!("ip addr add 10.1.0.2/24 dev {FAR}"));
        b.run_ok(&format!("ip link set {FAR} up"));
        wait_for("the device is a port again", || column(&switch, "pod2", "error") == "[]");
        // From there, where nobody remembers the old address.
        wait_for("answers", || b.pings("10.1.0.1"));
    }
    // Down is not gone.
    let sw = switch.ns().name();
    ip(&format!("-n {sw} link set pod2 down"));
    wait_for("the state", || column(&switch, "pod2", "admin_state") == "down");
    assert!(!b.pings("10.1.0.1"));
    ip(&format!("-n {sw} link set pod2 up"));
    wait_for("answers", || b.pings("10.1.0.1"));
    assert_eq!(column(&switch, "pod2", "error"), "[]");
    // The port goes, the netdev stays and is the kernel's again.
    switch.run("ovs-vsctl del-port br0 pod2");
    let link = ip(&format!("-n {sw} -d link show pod2"));
    assert!(!link.contains("xdp"), "{link}");
    ip(&format!("-n {sw} addr add 10.1.0.7/24 dev pod2"));
    wait_for("the kernel answers", || b.pings("10.1.0.7"));
}

#[test]
fn options_that_make_no_sense_are_errors_and_right_ones_mend_them() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let _b = pod(&switch, "pod2", "10.1.0.2/24", "");
    wait_for("answers", || a.pings("10.1.0.2"));
    let invalid = "pod2: could not set configuration (Invalid argument): ";
    let not_opened = "could not open network device pod2 (";
    for (set, error) in [
        ("options:xdp-mode=bogus", format!("{invalid}options:xdp-mode 'bogus' is not best-effort")),
        ("options:n_rxq=33", format!("{invalid}options:n_rxq '33' is not a number from 1 to 16")),
        ("options:use-need-wakeup=no", format!("{invalid}options:use-need-wakeup 'no' is not true")),
        ("options:n_rxq=2", format!("{not_opened}no AF_XDP socket on queue 1 in generic mode: ")),
        (
            "options:xdp-mode=native-with-zerocopy",
            format!("{not_opened}no AF_XDP socket on queue 0 in native-with-zerocopy mode: "),
        ),
    ] {
        switch.run(&format!("ovs-vsctl --no-wait set Interface pod2 {set}"));
        wait_for(set, || column(&switch, "pod2", "error").starts_with(&error));
        let is_of_queue_1 = error.contains("queue 1");
        assert_eq!(column(&switch, "pod2", "error").ends_with(": has it so many queues?)"), is_of_queue_1);
        assert_eq!(column(&switch, "pod2", "ofport"), "-1");
        assert!(switch.log().lines().any(|l| l.contains("|WARN|") && l.contains(&error)), "{}", switch.log());
        switch.run("ovs-vsctl clear Interface pod2 options");
        wait_for(set, || column(&switch, "pod2", "error") == "[]");
        wait_for("answers", || a.pings("10.1.0.2"));
    }
    switch.run("ovs-vsctl --no-wait set Interface pod2 mtu_request=9000");
    wait_for("the MTU is refused", || column(&switch, "pod2", "error").contains("MTU 9000 is too large"));
    assert!(a.pings("10.1.0.2"), "as before");
    // It is still not as it is wanted when something else changes.
    switch.run("ovs-vsctl set Interface pod2 other_config:pmd-rxq-affinity=0:0");
    assert!(column(&switch, "pod2", "error").contains("MTU 9000 is too large"));
    switch.run("ovs-vsctl clear Interface pod2 mtu_request");
    assert_eq!(column(&switch, "pod2", "error"), "[]");
    let adding = run(&mut switch.tool("ovs-vsctl", "add-port br0 nobody -- set Interface nobody type=afxdp"));
    let error = "could not open network device nobody (No such device)";
    assert!(adding.stderr.contains(error), "{}", adding.stderr);
}

/// A daemon beside the test's switch, in the same namespace.
struct Beside {
    dir: PathBuf,
    daemon: Child,
}

impl Beside {
    fn start(switch: &Switch) -> Beside {
        let dir = std::env::temp_dir().join(format!("tapestry-beside-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let mut command = switch.ns().command(binary("vswitchd"));
        command.arg(format!("--rundir={}", dir.display()));
        command.arg(format!("--db={}", dir.join("conf.db").display()));
        let daemon = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("a daemon");
        let beside = Beside { dir, daemon };
        wait_for("the daemon answers", || run(&mut beside.tapctl("show")).code == 0);
        beside
    }

    fn tapctl(&self, line: &str) -> Command {
        let mut command = Command::new(binary("tapctl"));
        command.args(line.split_whitespace()).env("OVS_RUNDIR", &self.dir);
        command
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn device_has_one_switch_and_the_next_when_that_is_dead() {
    let mut switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let b = pod(&switch, "pod2", "10.1.0.2/24", "");
    ip(&format!("-n {} addr add 10.1.0.1/24 dev br0", switch.ns().name()));
    ip(&format!("-n {} link set br0 up", switch.ns().name()));
    wait_for("answers", || b.pings("10.1.0.1"));
    let beside = Beside::start(&switch);
    run_ok(&mut beside.tapctl("add-br br9"));
    let added = run(&mut beside.tapctl("add-port br9 pod2 --type afxdp"));
    let said = format!("{}{}", added.stdout, added.stderr);
    let error = "could not open network device pod2 (the device has an XDP program already)";
    assert!(added.code != 0 && said.contains(error), "{said}");
    assert!(b.pings("10.1.0.1"), "the first has not noticed");
    switch.kill();
    // The kernel has taken the program off, and the other daemon tries again.
    ip(&format!("-n {} addr flush dev br0", switch.ns().name()));
    ip(&format!("-n {} addr add 10.1.0.9/24 dev br9", switch.ns().name()));
    ip(&format!("-n {} link set br9 up", switch.ns().name()));
    wait_for("answers from the other", || b.pings("10.1.0.9"));
}
