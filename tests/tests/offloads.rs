//! Every way that frames are moved on TAPs: io_uring or not, a worker or several, pods whose kernels leave checksums and cutting
//! to the device or do them themselves. The bytes that arrive are the same, and no receiver counts a wrong checksum.

use sys::IfName;
use sys::ethtool::{TransmitChecksums, set_transmit_checksums, transmit_checksums};
use tests::traffic::{self, Reach};
use tests::{Namespace, Switch, Tools, wait_for};

/// The address that rules translate to pod2's.
const SERVICE: &str = "10.1.0.99";

/// A counter of `/proc/net/snmp`, by protocol and name.
fn counter(pod: &Namespace, protocol: &str, name: &str) -> u64 {
    let text = pod.run_ok("cat /proc/net/snmp");
    let mut lines = text.lines().filter(|l| l.starts_with(&format!("{protocol}:")));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split_whitespace().position(|n| n == name).expect("the counter");
    values.split_whitespace().nth(at).expect("its value").parse().expect("a number")
}

/// How many io_uring instances the daemon has open.
fn rings(switch: &Switch) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", switch.pid())).expect("the daemon's descriptors");
    let is_ring = |target: std::path::PathBuf| target.to_string_lossy().contains("io_uring");
    fds.flatten().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(is_ring)).count()
}

/// Two pods, of which pod2 is also a Service.
fn two_pods(args: &[&str]) -> (Switch, Namespace, Namespace) {
    let switch = Switch::start(args);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    for (ns, port, address) in [(&a, "pod1", "fd01::1"), (&b, "pod2", "fd01::2")] {
        ns.run_ok(&format!("ip addr add {address}/64 dev {port} nodad"));
    }
    let mac = b.run_ok("cat /sys/class/net/pod2/address");
    a.run_ok(&format!("ip neigh replace {SERVICE} lladdr {} dev pod1", mac.trim()));
    for rule in [
        format!(
            "priority=2,ip,in_port=pod1,nw_dst={SERVICE},actions=ct(commit,zone=1,nat(dst=10.1.0.2),table=1)"
        ),
        "priority=2,ip,in_port=pod2,nw_src=10.1.0.2,actions=ct(zone=1,nat,table=1)".into(),
        "priority=1,actions=NORMAL".into(),
        "table=1,actions=NORMAL".into(),
    ] {
        switch.run(&format!("ovs-ofctl add-flow br0 {rule}"));
    }
    (switch, a, b)
}

/// Transfers in both directions, both families, with and without translation, and datagrams that must be fragmented.
fn traffic(a: &Namespace, b: &Namespace) {
    let service = |port: u16| Some(format!("{SERVICE}:{port}").parse().expect("an address"));
    traffic::transfer(a, b, Reach::direct("10.1.0.2"));
    traffic::transfer(b, a, Reach::direct("fd01::1"));
    traffic::transfer(a, b, Reach { at: "10.1.0.2", via: service(8080), port: 8080 });
    for len in [1, 1_000, 40_001] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        traffic::ask(a, b, Reach::direct("fd01::2"), &payload);
        traffic::ask(a, b, Reach { at: "10.1.0.2", via: service(5353), port: 5353 }, &payload);
    }
}

fn every_offload(args: &[&str], has_rings: bool) {
    use TransmitChecksums::{Device, Kernel};
    let (switch, a, b) = two_pods(args);
    for by in [[Device, Device], [Kernel, Device], [Device, Kernel], [Kernel, Kernel]] {
        for ((pod, port), by) in [(&a, "pod1"), (&b, "pod2")].into_iter().zip(by) {
            let name = IfName::new(port).expect("a name");
            pod.enter(|| {
                set_transmit_checksums(&name, by).expect("set");
                assert_eq!(transmit_checksums(&name).expect("read"), by);
            });
        }
        traffic(&a, &b);
    }
    for pod in [&a, &b] {
        assert_eq!((counter(pod, "Tcp", "InCsumErrors"), counter(pod, "Udp", "InCsumErrors")), (0, 0));
    }
    assert!(counter(&b, "Tcp", "InSegs") > 0 && counter(&b, "Udp", "InDatagrams") > 0);
    assert_eq!(rings(&switch) > 0, has_rings, "{}", switch.log());
    let tracked = switch.run("ovs-appctl dpctl/dump-conntrack");
    assert!(tracked.contains(&format!("dst={SERVICE}")), "{tracked}");
    for line in switch.log().lines() {
        assert!(!line.contains("|WARN|") && !line.contains("|ERR|"), "normal, yet logged: {line}");
    }
}

/// Whether this machine lets a process have an io_uring; the switch is to do without where not.
fn has_io_uring() -> bool {
    sys::io_ring::probe().is_ok()
}

#[test]
fn one_worker_by_io_uring() {
    every_offload(&["--workers=1"], has_io_uring());
}

#[test]
fn one_worker_frame_by_frame() {
    every_offload(&["--workers=1", "--no-io-uring"], false);
}

#[test]
fn three_workers_by_io_uring() {
    every_offload(&["--workers=3"], has_io_uring());
}

#[test]
fn three_workers_frame_by_frame() {
    every_offload(&["--workers=3", "--no-io-uring"], false);
}

/// A switch that comes back after it was killed may move frames otherwise than it did.
#[test]
fn the_way_can_change_with_a_restart() {
    let (mut switch, a, b) = two_pods(&[]);
    traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
    assert_eq!(rings(&switch) > 0, has_io_uring());
    switch.kill();
    switch.add_argument("--no-io-uring");
    switch.restart();
    wait_for("the pods reach each other again", || a.pings("10.1.0.2"));
    traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
    assert_eq!(rings(&switch), 0);
}
