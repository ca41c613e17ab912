//! Real devices: TAPs moved into pods, veths through packet sockets, captures; driven by the real tools.

use std::time::Duration;
use sys::netlink::LinkWatch;
use tests::traffic::{self, Reach, TRANSFER};
use tests::wire::Wire;
use tests::{Namespace, Switch, Tools, frames, idle_for, ip, run, run_ok, wait_for};

/// Sends [`TRANSFER`] bytes from a pod to another and checks every one.
fn transfer(from: &Namespace, to: &Namespace, address: &str) {
    traffic::transfer(from, to, Reach::direct(address));
}

/// An interface's column, without the quotes that ovs-vsctl puts around text.
fn column(switch: &Switch, interface: &str, column: &str) -> String {
    switch.run(&format!("ovs-vsctl get Interface {interface} {column}")).trim().trim_matches('"').to_owned()
}

#[test]
fn pods_ping_and_talk_tcp_through_a_new_bridge() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    for (ns, port, address) in [(&a, "pod1", "fd01::1"), (&b, "pod2", "fd01::2")] {
        ns.run_ok(&format!("ip addr add {address}/64 dev {port} nodad"));
    }
    assert!(a.pings("10.1.0.2"));
    assert!(b.pings("10.1.0.1"));
    assert!(a.pings("fd01::2"));
    let before = switch.port_counters("br0", "pod2");
    transfer(&a, &b, "10.1.0.2");
    transfer(&b, &a, "fd01::1");
    let after = switch.port_counters("br0", "pod2");
    // Super-frames: the average frame towards pod2 is far longer than the MTU of 1500 allows.
    let sent = |name: &str| after[name] - before[name];
    let (frames, bytes) = (sent("tx pkts"), sent("tx bytes"));
    assert!(bytes >= TRANSFER as u64, "{bytes} bytes");
    assert!(bytes / frames > 4_000, "{bytes} bytes in {frames} frames: segments were cut");
    // What the switch learned is where the pods are.
    let learned = switch.run("ovs-appctl fdb/show br0");
    for (ns, port) in [(&a, "pod1"), (&b, "pod2")] {
        let mac = ns.run_ok(&format!("cat /sys/class/net/{port}/address"));
        let ofport = column(&switch, port, "ofport");
        let found = learned.lines().any(|l| {
            let words: Vec<&str> = l.split_whitespace().collect();
            words.first() == Some(&ofport.as_str()) && words.get(2) == Some(&mac.trim())
        });
        assert!(found, "{port} {mac} on {ofport}:\n{learned}");
    }
    for (column_name, value) in [("link_state", "up"), ("admin_state", "up"), ("error", "[]")] {
        wait_for("the state of pod1", || column(&switch, "pod1", column_name) == value);
    }
    for line in switch.log().lines() {
        assert!(!line.contains("|WARN|") && !line.contains("|ERR|"), "normal, yet logged: {line}");
    }
}

#[test]
fn vlans_are_apart() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let pods: Vec<Namespace> =
        (1..=3).map(|n| switch.pod("br0", &format!("pod{n}"), &format!("10.1.0.{n}/24"))).collect();
    switch.run("ovs-vsctl set Port pod1 tag=10 -- set Port pod2 tag=10 -- set Port pod3 tag=20");
    let mut listener = Wire::open(&pods[2], "pod3");
    assert!(pods[0].pings("10.1.0.2"));
    assert!(!pods[0].pings("10.1.0.3"));
    // Nothing of the others has reached pod3, not even broadcasts: what comes next is the frame that is sent to it now.
    switch.run("ovs-vsctl add-port br0 probe tag=20 -- set Interface probe type=internal");
    ip(&format!("-n {} link set probe up", switch.ns().name()));
    let probe = Wire::open(switch.ns(), "probe");
    let last = frames::experimental(frames::mac(1), [0xff; 6], b"last");
    probe.send(&last);
    for frame in listener.until(&last) {
        assert_ne!(frame[12..14], [0x08, 0x06], "ARP of another VLAN: {}", frames::hex(&frame));
    }
    // A trunk sees both, tagged.
    switch.run("ovs-vsctl add-port br0 trunk -- set Interface trunk type=internal");
    ip(&format!("-n {} link set trunk up", switch.ns().name()));
    let mut trunk = Wire::open(switch.ns(), "trunk");
    probe.send(&last);
    trunk.until(&frames::tagged(&last, 0x8100, 20));
    trunk.send(&frames::tagged(&last, 0x8100, 20));
    listener.until(&last);
}

/// After ovs-ofctl has returned, the next frame is handled by the new rules; without a single exception.
#[test]
fn the_first_frame_after_a_change_sees_it() {
    const FLIPS: u32 = 200;
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    let (tx, mut rx) = (Wire::open(&a, "pod1"), Wire::open(&b, "pod2"));
    let (src, other, dst) = (frames::mac(1), frames::mac(3), frames::mac(2));
    switch.flows(
        "br0",
        &["priority=50,dl_type=0x88b5,in_port=pod1,actions=output:pod2", "priority=0,actions=drop"],
    );
    let rule = "priority=100,in_port=pod1,dl_src=02:00:00:00:00:01,actions=";
    for n in 0..FLIPS {
        let allowed = n % 2 == 1;
        let version = ["", "-O OpenFlow13", "-O OpenFlow14", "-O OpenFlow15"][(n / 2 % 4) as usize];
        let actions = if allowed { "output:pod2" } else { "drop" };
        switch.run(&format!("ovs-ofctl {version} add-flow br0 {rule}{actions}"));
        let frame = frames::experimental(src, dst, &n.to_be_bytes());
        let last = frames::experimental(other, dst, &n.to_be_bytes());
        tx.send(&frame);
        tx.send(&last);
        let seen = rx.until(&last).contains(&frame);
        assert_eq!(seen, allowed, "flip {n} ({version}): the frame right after it went by the old rules");
    }
}

/// The same for what ovs-vsctl changes.
#[test]
fn the_first_frame_after_a_vlan_change_sees_it() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    let c = switch.pod("br0", "pod3", "10.1.0.3/24");
    switch.run("ovs-vsctl set Port pod3 tag=30 -- set Port pod2 tag=30");
    let (tx, mut rx, side) = (Wire::open(&a, "pod1"), Wire::open(&b, "pod2"), Wire::open(&c, "pod3"));
    for n in 0..40u32 {
        let together = n % 2 == 1;
        let tag = if together { 30 } else { 31 };
        switch.run(&format!("ovs-vsctl set Port pod1 tag={tag}"));
        let frame = frames::experimental(frames::mac(1), [0xff; 6], &n.to_be_bytes());
        tx.send(&frame);
        // Another port's frame may overtake; so this one is sent when the first has been counted.
        let last = frames::experimental(frames::mac(3), [0xff; 6], &n.to_be_bytes());
        wait_for("the frame is counted", || switch.port_counters("br0", "pod1")["rx pkts"] > u64::from(n));
        side.send(&last);
        let seen = rx.until(&last).contains(&frame);
        assert_eq!(seen, together, "change {n}: the frame right after it went by the old VLAN");
    }
}

#[test]
fn an_existing_netdev_is_a_port() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let far = Namespace::new("far");
    let sw = switch.ns().name();
    ip(&format!("-n {sw} link add veth0 type veth peer name eth0 netns {}", far.name()));
    ip(&format!("-n {sw} link set veth0 up"));
    ip(&format!("-n {} link set eth0 up", far.name()));
    ip(&format!("-n {} addr add 10.1.0.9/24 dev eth0", far.name()));
    switch.run("ovs-vsctl add-port br0 veth0");
    assert!(a.pings("10.1.0.9"));
    assert!(far.pings("10.1.0.1"));
    // Checksums: veth and TAP both leave them to be done; TCP of the receiving kernel checks.
    transfer(&a, &far, "10.1.0.9");
    transfer(&far, &a, "10.1.0.1");
    // Tags, which the kernel takes out of the frame on receiving and the switch has to put back.
    let c = switch.pod("br0", "pod7", "10.7.0.1/24");
    switch.run("ovs-vsctl set Port pod7 tag=7");
    let (mut inside, mut outside) = (Wire::open(&c, "pod7"), Wire::open(&far, "eth0"));
    let frame = frames::udp(frames::mac(1), frames::mac(2), (1, 2), b"through a trunk");
    outside.send(&frames::tagged(&frame, 0x8100, 0x6007));
    inside.until(&frame);
    let back = frames::udp(frames::mac(2), frames::mac(1), (2, 1), b"and back");
    inside.send(&back);
    outside.until(&frames::tagged(&back, 0x8100, 7));
    // Without offloads at the far end everything has to be complete on the wire.
    far.run_ok("ip link set eth0 mtu 1400");
    ip(&format!("-n {sw} link set veth0 mtu 1400"));
    let ethtool = run(far
        .command("ethtool")
        .args(["-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off"]));
    if ethtool.code == 0 {
        a.run_ok("ip link set pod1 mtu 1400");
        transfer(&a, &far, "10.1.0.9");
    }
    // The port goes, the netdev stays.
    switch.run("ovs-vsctl del-port br0 veth0");
    ip(&format!("-n {sw} link show veth0"));
}

#[test]
fn a_port_is_made_inside_a_namespace() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = Namespace::new("inside");
    let add = "ovs-vsctl add-port br0 eth7 -- set Interface eth7 type=internal";
    switch.run(&format!("{add} options:netns={} ofport_request=77 mtu_request=1400", b.name()));
    let link = b.run_ok("ip -o link show eth7");
    assert!(link.contains("mtu 1400"), "{link}");
    assert_eq!(column(&switch, "eth7", "ofport"), "77");
    assert_eq!(column(&switch, "eth7", "mtu"), "1400");
    b.run_ok("ip addr add 10.1.0.2/24 dev eth7");
    b.run_ok("ip link set eth7 up");
    assert!(a.pings("10.1.0.2"));
    transfer(&a, &b, "10.1.0.2");
    switch.run("ovs-vsctl set Interface eth7 mtu_request=1300");
    wait_for("the MTU follows", || b.run_ok("ip -o link show eth7").contains("mtu 1300"));
    // Another number for a port.
    switch.run("ovs-vsctl set Interface eth7 ofport_request=78");
    assert_eq!(column(&switch, "eth7", "ofport"), "78");
    assert!(a.pings("10.1.0.2"));
    switch.run("ovs-vsctl del-port eth7");
    assert_ne!(run(b.command("ip").args(["link", "show", "eth7"])).code, 0, "the TAP outlived its port");
    // A namespace that is not there: the interface says so, and gets its device when it comes.
    let missing = format!("{}-later", b.name());
    let add = "ovs-vsctl add-port br0 eth8 -- set Interface eth8 type=internal";
    let error = switch.try_run(&format!("{add} options:netns={missing}")).stderr;
    assert!(error.contains("eth8") && error.contains(&missing), "{error}");
    assert!(column(&switch, "eth8", "error").contains(&missing));
    assert_eq!(column(&switch, "eth8", "ofport"), "-1");
    ip(&format!("netns add {missing}"));
    wait_for("the device comes with its namespace", || column(&switch, "eth8", "error") == "[]");
    switch.run("ovs-vsctl del-port eth8");
    ip(&format!("netns del {missing}"));
}

#[test]
fn a_netdev_that_vanishes_is_noticed_and_taken_back() {
    let switch = Switch::start(&[]);
    let sw = switch.ns().name().to_owned();
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let make = || {
        let far = Namespace::new("far");
        ip(&format!(
            "-n {sw} link add veth0 type veth peer name eth0 netns {} address 02:00:00:00:00:09",
            far.name()
        ));
        ip(&format!("-n {sw} link set veth0 up"));
        ip(&format!("-n {} addr add 10.1.0.9/24 dev eth0", far.name()));
        ip(&format!("-n {} link set eth0 up", far.name()));
        far
    };
    let far = make();
    switch.run("ovs-vsctl add-port br0 veth0");
    assert!(a.pings("10.1.0.9"));
    ip(&format!("-n {sw} link del veth0"));
    wait_for("the error is told", || column(&switch, "veth0", "error") != "[]");
    assert_eq!(column(&switch, "veth0", "ofport"), "-1");
    drop(far);
    let far = make();
    wait_for("the error is over", || column(&switch, "veth0", "error") == "[]");
    assert_ne!(column(&switch, "veth0", "ofport"), "-1");
    wait_for("traffic flows again", || a.pings("10.1.0.9"));
    drop(far);
    // A TAP whose pod's namespace dies.
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    assert!(a.pings("10.1.0.2"));
    drop(b);
    wait_for("the TAP is made anew or its loss is told", || {
        let made = run(std::process::Command::new("ip").args(["-n", &sw, "link", "show", "pod2"])).code == 0;
        made || column(&switch, "pod2", "error") != "[]"
    });
    wait_for("the TAP is there again", || column(&switch, "pod2", "error") == "[]");
    let b = Namespace::new("pod2");
    ip(&format!("-n {sw} link set pod2 netns {}", b.name()));
    ip(&format!("-n {} addr add 10.1.0.2/24 dev pod2", b.name()));
    ip(&format!("-n {} link set pod2 up", b.name()));
    // It has another address, of which the kernel would convince itself slowly.
    a.run_ok("ip neigh flush all");
    wait_for("the new pod talks", || a.pings("10.1.0.2"));
}

#[test]
fn a_netdev_that_is_not_there_is_an_error_of_ovs_vsctl() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    // It exits with 0 all the same, as with OVS: the database has been changed.
    let error = switch.try_run("ovs-vsctl add-port br0 missing0").stderr;
    assert!(error.contains("missing0") && error.contains("could not open network device"), "{error}");
    assert_eq!(column(&switch, "missing0", "ofport"), "-1");
    let error = switch.try_run("ovs-vsctl add-port br0 odd0 -- set Interface odd0 type=nosuchtype").stderr;
    assert!(error.contains("odd0"), "{error}");
    assert_eq!(column(&switch, "odd0", "ofport"), "-1");
    assert!(column(&switch, "odd0", "error").contains("nosuchtype"), "{}", column(&switch, "odd0", "error"));
}

/// A TAP is made before it can be found that it cannot be as wanted. The kernel reports both that and its end, which is no
/// reason to make it again.
#[test]
fn a_device_that_was_refused_is_not_made_without_end() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let mut watch = switch.ns().enter(LinkWatch::open).expect("a watch");
    // tun_net_init() of Linux: 65,535 bytes less the Ethernet header.
    switch.try_run("ovs-vsctl add-port br0 pod1 -- set Interface pod1 type=internal mtu_request=65535");
    assert!(column(&switch, "pod1", "error").contains("mtu"), "{}", column(&switch, "pod1", "error"));
    idle_for(Duration::from_secs(3));
    let mut events = Vec::new();
    loop {
        let before = events.len();
        watch.read(&mut events).expect("events");
        if events.len() == before {
            break;
        }
    }
    // It is made with the port and once in two seconds, each time with few reports; else it would be hundreds.
    assert!((1..50).contains(&events.len()), "{}", events.len());
    // With other settings it is tried at once.
    switch.run("ovs-vsctl set Interface pod1 mtu_request=1400");
    assert_eq!([column(&switch, "pod1", "error"), column(&switch, "pod1", "mtu")], ["[]", "1400"]);
}

/// Two bridges joined by a veth pair: tagged super-frames with their checksums undone cross packet sockets twice.
#[test]
fn tagged_segments_cross_a_veth_trunk() {
    let switch = Switch::start(&["--workers=2"]);
    let sw = switch.ns().name();
    ip(&format!("-n {sw} link add veth0 type veth peer name veth1"));
    ip(&format!("-n {sw} link set veth0 up"));
    ip(&format!("-n {sw} link set veth1 up"));
    switch.run(
        "ovs-vsctl add-br br0 -- add-br br1 -- add-port br0 veth0 trunks=7 -- add-port br1 veth1 trunks=7",
    );
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br1", "pod2", "10.1.0.2/24");
    assert!(!a.pings("10.1.0.2"), "untagged frames pass a trunk of VLAN 7 alone");
    switch.run("ovs-vsctl set Port pod1 tag=7 -- set Port pod2 tag=7");
    // The kernel asks for the address anew only a second after the first time.
    wait_for("tagged frames pass", || a.pings("10.1.0.2"));
    let mut witness = Wire::open(switch.ns(), "veth1");
    let first = frames::experimental(frames::mac(1), [0xff; 6], b"tagged");
    Wire::open(&a, "pod1").send(&first);
    witness.until(&frames::tagged(&first, 0x8100, 7));
    drop(witness);
    transfer(&a, &b, "10.1.0.2");
    transfer(&b, &a, "10.1.0.1");
}

#[test]
fn exit_with_cleanup_removes_the_taps_and_exit_does_not() {
    let mut switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0 -- add-port br0 pod1 -- set Interface pod1 type=internal");
    let names = |switch: &Switch| ip(&format!("-n {} -o link show", switch.ns().name()));
    assert!(names(&switch).contains("pod1"));
    assert!(switch.stop(""));
    for file in ["db.sock", "br0.mgmt", "br0.snoop", "ovs-vswitchd.pid"] {
        assert!(!switch.dir().join(file).exists(), "{file} is left");
    }
    switch.restart();
    switch.await_configuration();
    assert!(names(&switch).contains("pod1"), "{}", names(&switch));
    assert!(switch.stop("--cleanup"));
    let left = names(&switch);
    assert!(!left.contains("pod1") && !left.contains("br0"), "{left}");
}

/// After `kill -9` the pods keep their devices, and talk again as soon as the daemon is back.
#[test]
fn pods_survive_the_death_of_the_daemon() {
    let mut switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    switch
        .run("ovs-vsctl set Port pod1 tag=5 -- set Port pod2 tag=5 -- set Bridge br0 external_ids:mark=kept");
    assert!(a.pings("10.1.0.2"));
    let numbers = [column(&switch, "pod1", "ofport"), column(&switch, "pod2", "ofport")];
    let dpid = switch.run("ovs-vsctl get Bridge br0 datapath_id");
    for round in 0..3 {
        switch.kill();
        assert!(!a.pings("10.1.0.2"), "round {round}: who forwards?");
        switch.restart();
        wait_for("pods talk again", || a.pings("10.1.0.2"));
        assert_eq!(
            numbers,
            [column(&switch, "pod1", "ofport"), column(&switch, "pod2", "ofport")],
            "round {round}"
        );
        assert_eq!(switch.run("ovs-vsctl get Port pod1 tag").trim(), "5");
        assert_eq!(switch.run("ovs-vsctl get Bridge br0 external_ids:mark").trim(), "kept");
        assert_eq!(switch.run("ovs-vsctl get Bridge br0 datapath_id"), dpid);
    }
    transfer(&a, &b, "10.1.0.2");
}

/// The daemon goes into the background only when it works: the very next command finds everything.
#[test]
fn detach_returns_when_everything_answers() {
    let dir = std::env::temp_dir().join(format!("tapt-detach-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let ns = Namespace::new("detach");
    let d = dir.display();
    let start = || {
        let mut command = ns.command(tests::binary("vswitchd"));
        command.args([format!("--rundir={d}"), format!("--db={d}/conf.db"), format!("--log-file={d}/log")]);
        command.args(["--pidfile", "--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off"]);
        run(command.stdout(std::process::Stdio::null()))
    };
    struct Files(std::path::PathBuf);
    impl Tools for Files {
        fn dir(&self) -> &std::path::Path {
            &self.0
        }
    }
    let daemon = Files(dir.clone());
    for round in 0..3 {
        let started = start();
        assert_eq!(started.code, 0, "{}", started.stderr);
        if round == 0 {
            daemon.run("ovs-vsctl add-br br0");
        }
        // Without any wait.
        assert!(daemon.run("ovs-ofctl dump-flows br0").contains("NORMAL"), "round {round}");
        assert!(daemon.run("ovs-appctl dpif/show").contains("br0"));
        assert_eq!(run_ok(ns.command("ip").args(["-o", "link", "show", "br0"])).lines().count(), 1);
        let again = start();
        assert_ne!(again.code, 0, "a second daemon started");
        assert!(again.stderr.contains("running"), "{}", again.stderr);
        let pid = std::fs::read_to_string(dir.join("ovs-vswitchd.pid")).expect("a pid file");
        daemon.run("ovs-appctl exit --cleanup");
        wait_for("the daemon is gone", || !std::path::Path::new("/proc").join(pid.trim()).exists());
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}
