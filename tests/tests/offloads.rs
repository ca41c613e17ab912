//! Every way that frames are moved on TAPs: io_uring or not, a worker or several, pods whose kernels leave checksums and cutting
//! to the device or do them themselves, TCP and UDP super-frames, a daemon that may lock no memory. The bytes that arrive are the
//! same, and no receiver counts a wrong checksum.

use etherparse::{SlicedPacket, TransportSlice};
use std::net::UdpSocket;
use sys::IfName;
use sys::ethtool::{TransmitChecksums, set_transmit_checksums, transmit_checksums};
use sys::tap::{TapOffload, TapOpen, TapQueue, TapQueues};
use tests::traffic::{self, Reach};
use tests::wire::Wire;
use tests::{DAEMON_WAIT_MAX, Namespace, Switch, Tools, ip, run, wait_for};

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
    assert_eq!(
        switch.log().matches("|netdev|INFO|no io_uring (--no-io-uring): ").count(),
        1,
        "{}",
        switch.log()
    );
    // The pods' first questions went to the bridge's own port too, which nobody has switched on. Nothing failed.
    let drops = switch.run("ovs-appctl tapestry/drops");
    assert!(drops.contains(r#""port":"br0","reason":"tx_down""#) && !drops.contains("tx_error"), "{drops}");
}

/// Bytes of a datagram, and of all that one call sends: the last one is shorter.
const SEGMENT: u16 = 1_000;
const SENT: usize = 39_700;

/// A pod sends many datagrams by one call (`UDP_SEGMENT`), which its kernel leaves in one super-frame where the device can cut.
/// Their receiver gets each as it was. Gives the payloads of the frames in which they came to `wire`, on the receiver's device.
fn send_datagrams(from: &Namespace, to: &Namespace, address: &str, wire: &mut Wire) -> Vec<usize> {
    let payload: Vec<u8> =
        (0..SENT).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let server = to.enter(|| UdpSocket::bind((address, 0))).expect("a server");
    server.set_read_timeout(Some(DAEMON_WAIT_MAX)).expect("a limit");
    let port = server.local_addr().expect("an address").port();
    let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let client = from.enter(|| UdpSocket::bind(any)).expect("a client");
    sys::udp::set_segment_size(&client, SEGMENT).expect("the kernel cuts datagrams");
    assert_eq!(client.send_to(&payload, (address, port)).expect("sent"), SENT);
    let mut buffer = vec![0; 65_536];
    for (n, datagram) in payload.chunks(SEGMENT.into()).enumerate() {
        let length = server.recv(&mut buffer).unwrap_or_else(|e| panic!("datagram {n} of {address}: {e}"));
        assert!(buffer[..length] == *datagram, "datagram {n} of {address}: {length} bytes, or wrong ones");
    }
    let mut frames = vec![];
    while frames.iter().sum::<usize>() < SENT {
        let frame = wire.receive(DAEMON_WAIT_MAX).expect("frames with all datagrams");
        let packet = SlicedPacket::from_ethernet(&frame).expect("a frame");
        if let Some(TransportSlice::Udp(udp)) = packet.transport
            && udp.destination_port() == port
        {
            frames.push(udp.payload().len());
        }
    }
    frames
}

/// Whether this kernel's TAPs take UDP super-frames.
fn has_uso() -> bool {
    Namespace::new("uso").enter(|| {
        let name = IfName::new("probe").expect("a name");
        let queue = TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew);
        let mut queue = queue.expect("a TAP");
        queue.set_offload(TapOffload::TcpUdp).expect("a step at least") == TapOffload::TcpUdp
    })
}

/// From TAP to TAP a super-frame of datagrams crosses as it is; one to a port that takes none is cut. A pod whose kernel is to do
/// it cuts by itself.
#[test]
fn udp_super_frames_cross_whole_or_are_cut() {
    for args in [&[][..], &["--no-io-uring"]] {
        let (switch, a, b) = two_pods(args);
        // An AF_XDP port takes no frame longer than a page.
        let c = Namespace::new("pod3");
        let sw = switch.ns().name();
        ip(&format!("-n {sw} link add pod3 type veth peer name eth0 netns {}", c.name()));
        for address in ["10.1.0.3/24", "fd01::3/64"] {
            ip(&format!("-n {} addr add {address} dev eth0", c.name()));
        }
        ip(&format!("-n {} link set eth0 up", c.name()));
        switch.run("ovs-vsctl add-port br0 pod3 -- set Interface pod3 type=afxdp");
        wait_for("pod3 answers", || a.pings("10.1.0.3") && a.pings("fd01::3"));
        assert!(a.pings("10.1.0.2") && a.pings("fd01::2"));
        let cut: Vec<usize> =
            (0..SENT).step_by(SEGMENT.into()).map(|at| (SENT - at).min(SEGMENT.into())).collect();
        let (mut at_b, mut at_c) = (Wire::open(&b, "pod2"), Wire::open(&c, "eth0"));
        let whole = if has_uso() { vec![SENT] } else { cut.clone() };
        for (to_b, to_c) in [("10.1.0.2", "10.1.0.3"), ("fd01::2", "fd01::3")] {
            assert_eq!(send_datagrams(&a, &b, to_b, &mut at_b), whole);
            assert_eq!(send_datagrams(&a, &c, to_c, &mut at_c), cut);
        }
        let pod1 = IfName::new("pod1").expect("a name");
        a.enter(|| set_transmit_checksums(&pod1, TransmitChecksums::Kernel)).expect("set");
        assert_eq!(send_datagrams(&a, &b, "10.1.0.2", &mut at_b), cut);
        for pod in [&b, &c] {
            assert_eq!(counter(pod, "Udp", "InCsumErrors"), 0);
            assert!(pod.run_ok("cat /proc/net/snmp6").lines().all(|line| {
                !line.starts_with("Udp6InCsumErrors") || line.ends_with("\t0") || line.ends_with(" 0")
            }));
        }
    }
}

/// A daemon that may lock next to no memory, as in a container without `CAP_IPC_LOCK`: TAPs do as always, since kernels from 5.12
/// on do not count what io_uring's rings take; where they do, they are refused, and frames go one by one. AF_XDP's memory is
/// counted: such a port says what it lacks, and nothing else is lost.
#[test]
fn without_locked_memory_only_afxdp_is_refused() {
    let launcher =
        ["prlimit", "--memlock=65536:65536", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"];
    let switch = Switch::start_by(&launcher, &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", switch.pid())).expect("its status");
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).expect("its capabilities");
    let effective = u64::from_str_radix(effective.trim(), 16).expect("a number");
    assert_eq!(effective >> CAP_IPC_LOCK & 1, 0, "{effective:x}");
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    wait_for("answers", || a.pings("10.1.0.2"));
    traffic::transfer(&a, &b, Reach::direct("10.1.0.2"));
    traffic::ask(&b, &a, Reach::direct("10.1.0.1"), &[7; 1_200]);
    let refused = switch.log().lines().filter(|line| line.contains("no io_uring")).count();
    match rings(&switch) {
        0 => assert_eq!(refused, 1, "one line says so: {}", switch.log()),
        _ => assert_eq!(refused, 0, "{}", switch.log()),
    }
    ip(&format!("-n {} link add pod3 type veth peer name far", switch.ns().name()));
    let adding = run(&mut switch.tool("ovs-vsctl", "add-port br0 pod3 -- set Interface pod3 type=afxdp"));
    let error = "could not open network device pod3 (queue 0: 10 MiB may not be locked in memory; CAP_IPC_LOCK or a larger \
                 RLIMIT_MEMLOCK is needed)";
    assert!(adding.stderr.contains(error), "{}", adding.stderr);
    assert!(switch.run("ovs-vsctl get Interface pod3 error").contains(error));
    let logged = switch.log().lines().filter(|line| line.contains("may not be locked")).count();
    assert_eq!(logged, 1, "{}", switch.log());
    // Its program is off again, and a port of the other kind has the device at once.
    let link = ip(&format!("-n {} -d link show pod3", switch.ns().name()));
    assert!(!link.contains("xdp"), "{link}");
    switch.run("ovs-vsctl set Interface pod3 type=system");
    assert_eq!(switch.run("ovs-vsctl get Interface pod3 error").trim(), "[]");
    assert!(a.pings("10.1.0.2"));
    traffic::transfer(&b, &a, Reach::direct("10.1.0.1"));
}

/// A bit of a set of capabilities (`linux/capability.h`).
const CAP_IPC_LOCK: u32 = 14;
