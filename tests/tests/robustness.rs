//! Bad frames, bad clients and bad neighbours: what they may not do is stop or swell the daemon, or reach other pods'
//! traffic.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::noise::Noise;
use tests::reference::Reference;
use tests::wire::Wire;
use tests::{
    Namespace, Switch, Tools, binary, cpu_ticks, frames, idle_for, proc_status, root, run, wait_for,
};

/// What the daemon may grow by under attack, in KiB.
const GROWTH_KIB_MAX: u64 = 200 << 10;

/// Ends a thread also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn two_pods(args: &[&str]) -> (Switch, Namespace, Namespace) {
    let switch = Switch::start(args);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    assert!(a.pings("10.1.0.2"));
    (switch, a, b)
}

/// Frames of real traffic to damage.
fn captured() -> Vec<Vec<u8>> {
    frames::read_pcap(&root().join("tests/captures/mixed.pcap"))
        .into_iter()
        .filter(|f| f.len() <= 1514)
        .collect()
}

fn statistic(ns: &Namespace, device: &str, name: &str) -> u64 {
    let text = ns.run_ok(&format!("cat /sys/class/net/{device}/statistics/{name}"));
    text.trim().parse().expect("a number")
}

/// Rules that look at and rewrite everything, so that damage is carried deep into the pipeline.
const DEEP_RULES: &[&str] = &[
    "priority=90,tcp,tp_dst=80,actions=dec_ttl,mod_nw_dst:10.9.9.9,mod_tp_dst:81,NORMAL",
    "priority=80,udp,actions=mod_nw_src:10.9.9.8,mod_tp_src:7,push_vlan:0x8100,set_field:4103->vlan_vid,resubmit(,1)",
    "priority=70,icmp6,icmp_type=135,actions=set_field:02:00:00:00:00:77->nd_sll,set_field:fd00::1->nd_target,NORMAL",
    "priority=70,arp,actions=move:NXM_OF_ARP_SPA[]->NXM_NX_REG0[],load:0x2->NXM_OF_ARP_OP[],NORMAL",
    "priority=60,mpls,actions=dec_mpls_ttl,pop_mpls:0x0800,resubmit(,1)",
    "priority=50,ip,nw_frag=first,actions=push_mpls:0x8847,set_field:5->mpls_label,resubmit(,1)",
    "priority=40,ipv6,actions=dec_ttl,set_field:fd00::99->ipv6_dst,resubmit(,1)",
    "priority=30,dl_vlan=7,actions=strip_vlan,resubmit(,1)",
    "table=1,priority=10,ip,nw_ttl=1,actions=drop",
    "table=1,priority=0,actions=NORMAL",
    "priority=0,actions=NORMAL",
];

#[test]
fn random_frames_are_counted_and_harm_nobody() {
    let (switch, a, b) = two_pods(&["--workers=2"]);
    let noisy = switch.pod("br0", "pod3", "10.1.0.3/24");
    let before = proc_status(switch.pid(), "VmRSS");
    let good = captured();
    let wire = Wire::open(&noisy, "pod3");
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut noise = Noise::new(1);
            let mut sent = 0u64;
            while !stop.load(Ordering::Acquire) {
                sent += u64::from(wire.try_send(&noise.frame(&good)));
            }
            sent
        });
        let _stop = StopOnDrop(&stop);
        for flows in [&["actions=NORMAL"][..], DEEP_RULES] {
            switch.run("ovs-ofctl del-flows br0");
            let file = switch.dir().join("deep");
            std::fs::write(&file, flows.join("\n")).expect("a file");
            switch.run(&format!("ovs-ofctl -O OpenFlow13 add-flows br0 {}", file.display()));
            idle_for(Duration::from_secs(3));
            assert!(switch.run("ovs-appctl dpif/show").contains("pod3"));
        }
        switch.run("ovs-ofctl del-flows br0");
        switch.run("ovs-ofctl add-flow br0 actions=NORMAL");
        let pings = run(a.command("ping").args(["-c20", "-i0.05", "-W2", "-n", "-q", "10.1.0.2"]));
        assert!(pings.stdout.contains(" 0% packet loss"), "{}", pings.stdout);
        stop.store(true, Ordering::Release);
        sender.join().expect("the sender")
    });
    assert!(sent > 5_000, "only {sent} frames were sent");
    let grown = proc_status(switch.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
    // Every frame that the kernel handed over is counted: received or dropped, none twice.
    wait_for("all frames are counted", || {
        let handed_over = statistic(&noisy, "pod3", "tx_packets");
        let counted = switch.port_counters("br0", "pod3");
        counted["rx pkts"] == handed_over
    });
    let reasons = switch.run("ovs-appctl dpif/show");
    assert!(
        reasons.lines().any(|l| l.trim_start().starts_with("pod3 ") && l.contains(": ") && !l.contains('(')),
        "{reasons}"
    );
    assert!(switch.tapctl("drops").contains("pod3"), "{}", switch.tapctl("drops"));
    assert!(b.pings("10.1.0.1"));
}

/// One pod sends a new address in every frame; two others must not notice.
#[test]
fn a_storm_from_one_pod_leaves_the_others_alone() {
    let (switch, a, b) = two_pods(&["--workers=2"]);
    let noisy = switch.pod("br0", "pod3", "10.1.0.3/24");
    switch.run("ovs-vsctl set Bridge br0 other_config:mac-table-size=256");
    let before = proc_status(switch.pid(), "VmRSS");
    let wire = Wire::open(&noisy, "pod3");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut noise = Noise::new(2);
            while !stop.load(Ordering::Acquire) {
                let ports = (noise.word() as u16, noise.word() as u16);
                let ips = (noise.word().to_be_bytes(), noise.word().to_be_bytes());
                let ip = |b: [u8; 8]| [b[0], b[1], b[2], b[3]];
                let frame = frames::udp_between(
                    noise.mac(),
                    noise.mac(),
                    (ip(ips.0), ip(ips.1)),
                    ports,
                    64,
                    b"storm",
                );
                wire.try_send(&frame);
            }
        });
        let _stop = StopOnDrop(&stop);
        wait_for("the storm", || switch.port_counters("br0", "pod3")["rx pkts"] > 2_000);
        let pings = run(a.command("ping").args(["-c60", "-i0.03", "-W2", "-n", "-q", "10.1.0.2"]));
        assert!(pings.stdout.contains(" 0% packet loss"), "{}", pings.stdout);
        // Connections, one after the other: each needs a flow of its own to be set up in the storm.
        let listener = b.enter(|| std::net::TcpListener::bind("10.1.0.2:0")).expect("a listener");
        let at = listener.local_addr().expect("an address");
        for n in 0..20u8 {
            let mut out = a
                .enter(|| std::net::TcpStream::connect_timeout(&at, Duration::from_secs(3)))
                .expect("connected");
            let (mut end, _) = listener.accept().expect("accepted");
            end.set_read_timeout(Some(Duration::from_secs(3))).expect("a limit");
            out.write_all(&[n; 10_000]).expect("sent");
            let mut data = [0; 10_000];
            end.read_exact(&mut data).expect("received");
            assert_eq!(data, [n; 10_000]);
        }
        // The storm takes entries of the MAC table from itself only.
        let table = switch.run("ovs-appctl fdb/show br0");
        for (ns, port) in [(&a, "pod1"), (&b, "pod2")] {
            let mac = ns.run_ok(&format!("cat /sys/class/net/{port}/address"));
            assert!(table.contains(mac.trim()), "{port} was forgotten:\n{table}");
        }
        assert!(table.lines().count() <= 257, "{} lines", table.lines().count());
    });
    let grown = proc_status(switch.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
}

#[test]
fn an_idle_daemon_uses_no_processor() {
    let (switch, a, _b) = two_pods(&["--workers=2"]);
    a.run_ok("ip link set pod1 up");
    // What the kernels say to each other in the beginning is over when nothing was received for a while.
    let received =
        || switch.port_counters("br0", "pod1")["rx pkts"] + switch.port_counters("br0", "pod2")["rx pkts"];
    let mut last = received();
    wait_for("quiet", || {
        idle_for(Duration::from_millis(700));
        let now = received();
        std::mem::replace(&mut last, now) == now
    });
    let before = cpu_ticks(switch.pid());
    idle_for(Duration::from_secs(2));
    let used = cpu_ticks(switch.pid()) - before;
    assert!(used <= 4, "{used} ticks of 10 ms in 2 s");
}

// --- clients ---

fn control_sockets(switch: &Switch) -> Vec<PathBuf> {
    let ctl = switch.dir().join(format!("ovs-vswitchd.{}.ctl", switch.pid()));
    vec![switch.dir().join("db.sock"), switch.dir().join("br0.mgmt"), ctl]
}

fn connect(path: &PathBuf) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a limit");
    stream
}

/// Whether everything answers.
fn assert_well(switch: &Switch, a: &Namespace) {
    switch.run("ovs-vsctl --timeout=10 get Bridge br0 name");
    switch.run("ovs-ofctl dump-flows br0");
    switch.run("ovs-appctl version");
    assert!(a.pings("10.1.0.2"));
}

/// `vswitchd --help | head` is no failure.
#[test]
fn what_is_printed_need_not_be_read_to_its_end() {
    for program in ["vswitchd", "tapctl"] {
        for argument in ["--help", "--version"] {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let mut command = Command::new(binary(program));
            let out = command.arg(argument).stdout(writer).output().expect("the program");
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() && said.is_empty(), "{program} {argument}: {}: {said}", out.status);
        }
    }
}

/// Writes until the other side has had enough; whether it closed the connection before `limit` bytes.
fn pour(stream: &mut UnixStream, piece: &[u8], limit: usize) -> bool {
    let mut written = 0;
    while written < limit {
        match stream.write(piece) {
            Ok(n) => written += n,
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => return true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) => panic!("writing: {e}"),
        }
    }
    false
}

#[test]
fn rubbish_and_endless_messages_close_their_connection_only() {
    let (switch, a, _b) = two_pods(&[]);
    let before = proc_status(switch.pid(), "VmRSS");
    let mut noise = Noise::new(3);
    for path in control_sockets(&switch) {
        for round in 0..20 {
            let mut stream = connect(&path);
            let length = 1 + noise.below(5_000);
            let rubbish = noise.bytes(length);
            let _ = stream.write_all(&rubbish);
            if round % 2 == 0 {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
            }
        }
        assert_well(&switch, &a);
    }
    // A text without an end, a nesting without an end.
    for path in control_sockets(&switch).iter().filter(|p| !p.ends_with("br0.mgmt")) {
        for (start, piece) in [(&b"{\"method\":\""[..], vec![b'x'; 1 << 16]), (b"", vec![b'['; 1 << 16])] {
            let mut stream = connect(path);
            stream.write_all(start).expect("written");
            assert!(
                pour(&mut stream, &piece, 256 << 20),
                "{}: an endless message is still being read",
                path.display()
            );
        }
        assert_well(&switch, &a);
    }
    // A length that no OpenFlow message can have.
    let mut stream = connect(&switch.dir().join("br0.mgmt"));
    stream.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).expect("written");
    stream.write_all(&[4, 2, 0, 3, 0, 0, 0, 2]).expect("written");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the connection is closed");
    assert_well(&switch, &a);
    let grown = proc_status(switch.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
}

#[test]
fn slow_silent_and_many_clients_are_borne() {
    let (switch, a, _b) = two_pods(&[]);
    let before = proc_status(switch.pid(), "VmRSS");
    // Half a message each, and nothing more.
    let mut open = vec![];
    for path in control_sockets(&switch) {
        for start in [
            &b""[..],
            b"{",
            b"{\"id\":1,\"method\":\"echo\"",
            &[4],
            &[4, 0, 0, 8, 0],
            &[4, 0, 0, 16, 0, 0, 0, 1],
        ] {
            let mut stream = connect(&path);
            stream.write_all(start).expect("written");
            open.push(stream);
        }
    }
    assert_well(&switch, &a);
    // One byte at a time is served all the same.
    let mut slow = connect(&switch.dir().join("db.sock"));
    for byte in b"{\"id\":7,\"method\":\"echo\",\"params\":[\"slow\"]}" {
        slow.write_all(&[*byte]).expect("written");
    }
    let mut answer = [0; 256];
    let n = slow.read(&mut answer).expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..n]).contains("slow"));
    // A thousand connections.
    for path in control_sockets(&switch) {
        let mut many = vec![];
        for _ in 0..1_000 {
            match UnixStream::connect(&path) {
                Ok(stream) => many.push(stream),
                // The listen queue is full because the daemon takes no more: as good as an answer.
                Err(_) => break,
            }
        }
        assert!(a.pings("10.1.0.2"));
        let grown = proc_status(switch.pid(), "VmRSS").saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "{}: {} connections, {grown} KiB more", path.display(), many.len());
        drop(many);
        wait_for("the daemon has let them go", || {
            switch.try_run("ovs-vsctl --timeout=2 get Bridge br0 name").code == 0
                && switch.try_run("ovs-ofctl dump-flows br0").code == 0
                && switch.try_run("ovs-appctl version").code == 0
        });
    }
    drop(open);
    assert_well(&switch, &a);
}

#[test]
fn a_client_that_stops_reading_costs_little() {
    let (switch, a, _b) = two_pods(&[]);
    let file = switch.dir().join("many");
    let many: String = (0..3_000).map(|n| format!("table=5,tcp,tp_dst={n},actions=drop\n")).collect();
    std::fs::write(&file, many).expect("a file");
    switch.run(&format!("ovs-ofctl -O OpenFlow14 --bundle add-flows br0 {}", file.display()));
    let before = proc_status(switch.pid(), "VmRSS");
    // Requests with large answers, none of them read.
    let mut flows = connect(&switch.dir().join("br0.mgmt"));
    flows.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).expect("written");
    let mut ask = vec![4, 18, 0, 56, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0];
    // All tables, any port, any group, no cookie, an empty match.
    ask.extend([0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    ask.extend([0; 16]);
    ask.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    let asks = ask.repeat(500);
    pour(&mut flows, &asks, 4 << 20);
    let mut rows = connect(&switch.dir().join("db.sock"));
    let select = r#"{"id":1,"method":"transact","params":["Open_vSwitch",{"op":"select","table":"Interface","where":[]}]}"#;
    pour(&mut rows, select.repeat(100).as_bytes(), 8 << 20);
    // One that watches and does not look.
    let mut watcher = connect(&switch.dir().join("db.sock"));
    let monitor = r#"{"id":1,"method":"monitor","params":["Open_vSwitch",null,{"Bridge":{}}]}"#;
    watcher.write_all(monitor.as_bytes()).expect("written");
    let big = "y".repeat(20_000);
    for n in 0..100 {
        switch.run(&format!("ovs-vsctl --no-wait set Bridge br0 external_ids:big={big}{n}"));
    }
    assert_well(&switch, &a);
    let grown = proc_status(switch.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
    // Nor does it cost time.
    let ticks = cpu_ticks(switch.pid());
    idle_for(Duration::from_secs(1));
    let used = cpu_ticks(switch.pid()) - ticks;
    assert!(used <= 10, "{used} ticks in a second for clients that do nothing");
    drop((flows, rows, watcher));
    assert_well(&switch, &a);
}

// --- OpenFlow, byte by byte ---

/// What is wrong; message type and body; error type and code.
type Case = (&'static str, u8, Vec<u8>, Option<(u16, u16)>);

/// An OpenFlow message.
fn message(version: u8, kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let length = (8 + body.len()) as u16;
    [&[version, kind][..], &length.to_be_bytes(), &xid.to_be_bytes(), body].concat()
}

fn read_message(stream: &mut UnixStream) -> (u8, u32, Vec<u8>) {
    let mut header = [0; 8];
    stream.read_exact(&mut header).expect("an answer");
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
    stream.read_exact(&mut body).expect("a whole message");
    (header[1], u32::from_be_bytes([header[4], header[5], header[6], header[7]]), body)
}

/// A flow_mod of OpenFlow 1.3 (7.3.4.1) with these bytes for match and instructions.
fn flow_mod(command: u8, table: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend([table, command, 0, 0, 0, 0, 0, 1]);
    body.extend([0xff; 12]);
    body.extend([0; 4]);
    body.extend(rest);
    body
}

#[test]
fn bad_openflow_gets_the_specified_error_and_the_connection_lives() {
    const EMPTY_MATCH: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 0];
    let apply = |actions: &[u8]| {
        let length = (8 + actions.len()) as u16;
        flow_mod(0, 0, &[&EMPTY_MATCH[..], &[0, 4], &length.to_be_bytes(), &[0; 4], actions].concat())
    };
    let matching = |oxm: &[u8]| {
        let length = 4 + oxm.len();
        let mut all = [&[0, 1][..], &(length as u16).to_be_bytes(), oxm].concat();
        all.resize(length.next_multiple_of(8), 0);
        flow_mod(0, 0, &all)
    };
    // Types and codes of OpenFlow 1.3 (7.4.4).
    let cases: Vec<Case> = vec![
        ("a message type that does not exist", 77, vec![], Some((1, 1))),
        ("an unknown multipart type", 18, [&0x7777u16.to_be_bytes()[..], &[0; 6]].concat(), Some((1, 2))),
        ("an unknown experimenter", 4, [&0x1234_5678u32.to_be_bytes()[..], &[0; 4]].concat(), Some((1, 3))),
        ("a flow_mod cut short", 14, vec![0; 20], Some((1, 6))),
        ("an echo for a barrier's length", 20, vec![0; 5], Some((1, 6))),
        ("an unknown flow_mod command", 14, flow_mod(9, 0, &EMPTY_MATCH), Some((5, 6))),
        ("a table that does not exist", 14, flow_mod(0, 0xff, &EMPTY_MATCH), Some((5, 2))),
        ("an unknown action", 14, apply(&[0x77, 0x77, 0, 8, 0, 0, 0, 0]), Some((2, 0))),
        ("an action of the wrong length", 14, apply(&[0, 0, 0, 8, 0, 0, 0, 1]), Some((2, 1))),
        ("an action longer than its place", 14, apply(&[0, 0, 0, 40, 0, 0, 0, 1]), Some((2, 1))),
        (
            "an action of an unknown experimenter",
            14,
            apply(&[0xff, 0xff, 0, 16, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0, 0, 0, 0]),
            Some((2, 2)),
        ),
        // What the specification leaves to the switch, Open vSwitch takes: it outputs nowhere.
        ("an output to port 0", 14, apply(&[0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None),
        ("a group that does not exist", 14, apply(&[0, 22, 0, 8, 0, 0, 0, 9]), Some((2, 9))),
        (
            "an unknown instruction",
            14,
            flow_mod(0, 0, &[&EMPTY_MATCH[..], &[0x77, 0x77, 0, 8, 0, 0, 0, 0]].concat()),
            Some((3, 0)),
        ),
        (
            "a goto_table backwards",
            14,
            flow_mod(0, 3, &[&EMPTY_MATCH[..], &[0, 1, 0, 8, 2, 0, 0, 0]].concat()),
            Some((3, 2)),
        ),
        ("an unknown match type", 14, flow_mod(0, 0, &[0, 9, 0, 4, 0, 0, 0, 0]), Some((4, 0))),
        ("an unknown match field", 14, matching(&[0x80, 0, 0x7d << 1, 4, 0, 0, 0, 0]), Some((4, 6))),
        (
            "a field twice",
            14,
            matching(&[0x80, 0, 0, 4, 0, 0, 0, 1, 0x80, 0, 0, 4, 0, 0, 0, 1]),
            Some((4, 10)),
        ),
        ("a field without its prerequisite", 14, matching(&[0x80, 0, 14 << 1, 2, 0, 80]), Some((4, 9))),
        ("a VLAN number without its flag", 14, matching(&[0x80, 0, 6 << 1, 2, 0, 7]), None),
        (
            "a mask that does not cover its value",
            14,
            matching(&[0x80, 0, 2 << 1 | 1, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            Some((4, 5)),
        ),
        (
            "a packet-out through an unknown buffer",
            13,
            [&[0, 0, 0, 9, 0, 0, 0, 1][..], &[0; 8]].concat(),
            Some((1, 8)),
        ),
        ("a port_mod of no port", 16, [&77u32.to_be_bytes()[..], &[0; 28]].concat(), Some((7, 0))),
        (
            "a port_mod with another's address",
            16,
            [&1u32.to_be_bytes()[..], &[0; 4], &[9; 6], &[0; 18]].concat(),
            Some((7, 1)),
        ),
        ("a role that does not exist", 24, [&9u32.to_be_bytes()[..], &[0; 12]].concat(), Some((11, 2))),
    ];
    let (switch, a, _b) = two_pods(&[]);
    let real = Reference::start();
    real.run("ovs-vsctl add-br br0 -- add-port br0 p1");
    let theirs = errors_of(&real, &cases);
    let ours = errors_of(&switch, &cases);
    let mut wrong = String::new();
    for (n, (name, _, _, expected)) in cases.iter().enumerate() {
        // The table is what the specification says; Open vSwitch has to agree, or it would be our reading of it.
        if theirs[n] != *expected || ours[n] != *expected {
            wrong.push_str(&format!(
                "{name}: expected {expected:?}, OVS {:?}, ours {:?}\n",
                theirs[n], ours[n]
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let dump = |daemon: &dyn Tools| tests::text::sorted(&daemon.run("ovs-ofctl --no-stats dump-flows br0"));
    assert_eq!(dump(&switch), dump(&real), "a refused message changed the flows");
    switch.flows("br0", &["actions=NORMAL"]);
    assert_well(&switch, &a);
}

/// Sends each case on one connection and gives the type and code of the error that comes back, if one does.
fn errors_of(switch: &dyn Tools, cases: &[Case]) -> Vec<Option<(u16, u16)>> {
    let mut stream = connect(&switch.dir().join("br0.mgmt"));
    stream.write_all(&message(4, 0, 1, &[])).expect("written");
    assert_eq!(read_message(&mut stream).0, 0, "HELLO");
    let mut errors = vec![];
    for (n, (name, kind, body, _)) in cases.iter().enumerate() {
        let xid = 1000 + n as u32;
        stream.write_all(&message(4, *kind, xid, body)).expect("written");
        // An answer to this proves that the connection lives, and ends the wait for an error that does not come.
        stream.write_all(&message(4, 2, xid + 5000, b"alive")).expect("written");
        let mut got = None;
        loop {
            match read_message(&mut stream) {
                (3, id, echoed) if id == xid + 5000 => {
                    assert_eq!(echoed, b"alive");
                    break;
                }
                (1, id, error) if id == xid => {
                    got = Some((
                        u16::from_be_bytes([error[0], error[1]]),
                        u16::from_be_bytes([error[2], error[3]]),
                    ));
                    let sent = message(4, *kind, xid, body);
                    let quoted = &error[4..];
                    assert!(
                        !quoted.is_empty() && sent.starts_with(&quoted[..quoted.len().min(64)]),
                        "{name}: quoted {quoted:x?}"
                    );
                }
                // OpenFlow 1.3 has echo requests of the switch's own.
                (2, ..) => {}
                (kind, id, _) => panic!("{name}: a message of type {kind}, xid {id}"),
            }
        }
        errors.push(got);
    }
    errors
}

#[test]
fn versions_are_agreed_upon() {
    let (switch, _a, _b) = two_pods(&[]);
    // Offer, and the version that comes out: the smaller of the highest ones, if the switch speaks it.
    for (offer, chosen) in
        [(1, Some(1)), (4, Some(4)), (5, Some(5)), (6, Some(6)), (9, Some(6)), (0x0f, Some(6))]
    {
        let mut stream = connect(&switch.dir().join("br0.mgmt"));
        stream.write_all(&message(offer, 0, 1, &[])).expect("written");
        assert_eq!(read_message(&mut stream).0, 0, "HELLO");
        let version = chosen.expect("a version");
        stream.write_all(&message(version, 2, 7, b"")).expect("written");
        assert_eq!(read_message(&mut stream), (3, 7, vec![]), "{offer}");
    }
    // With nothing in common: HELLO_FAILED, INCOMPATIBLE (type 0, code 0), and the end.
    let mut stream = connect(&switch.dir().join("br0.mgmt"));
    stream.write_all(&message(0x20, 0, 1, &[0, 1, 0, 8, 0, 0, 0, 0])).expect("written");
    assert_eq!(read_message(&mut stream).0, 0, "HELLO");
    let (kind, _, body) = read_message(&mut stream);
    assert_eq!((kind, &body[..4]), (1, &[0, 0, 0, 0][..]));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed");
    switch.run("ovs-ofctl probe br0");
}
