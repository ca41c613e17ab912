//! Who is told of rules and of packets: flow monitors that do not keep up, the last word on a rule, packet-ins.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use packet::FrameBuilder;
use tests::pair::Pair;
use tests::watching::Watching;
use tests::{Switch, Tools, frames, wait_for};

/// Rules of the first file: their updates are more than a socket and the switch hold back for a reader.
const RULES: u16 = 9_000;

/// The word behind `key=` in a line.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let words = line.split([' ', ',']).filter_map(|word| word.split_once('='));
    words.filter(|(name, _)| *name == key).map(|(_, value)| value).next()
}

/// The cookie in a line; none is 0.
fn cookie(line: &str) -> u64 {
    let text = value(line, "cookie").unwrap_or("0");
    let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
    number.unwrap_or_else(|_| panic!("{line}"))
}

/// Cookies by TCP port, as somebody knows them who has followed what a monitor printed.
fn followed(text: &str) -> BTreeMap<String, u64> {
    let mut rules = BTreeMap::new();
    for line in text.lines() {
        let (Some(event), Some(port)) = (value(line, "event"), value(line, "tp_dst")) else { continue };
        match event {
            "DELETED" => drop(rules.remove(port)),
            _ => drop(rules.insert(port.to_owned(), cookie(line))),
        }
    }
    rules
}

/// A monitor that stands still is told that it misses changes, and later in what the rules have become different: who follows it
/// knows them all again. So it is with Open vSwitch.
#[test]
fn monitors_that_do_not_keep_up_know_everything_in_the_end() {
    let pair = Pair::start();
    pair.bridge(2);
    for (version, paused, resumed) in [
        ("", "NXT_FLOW_MONITOR_PAUSED", "NXT_FLOW_MONITOR_RESUMED"),
        ("-O OpenFlow13", "ONFT_FLOW_MONITOR_PAUSED", "ONFT_FLOW_MONITOR_RESUMED"),
        ("-O OpenFlow14", "event=PAUSED", "event=RESUMED"),
    ] {
        for daemon in [&pair.real as &dyn Tools, &pair.ours] {
            let of = |line: &str| daemon.run(&format!("ovs-ofctl {version} {line}"));
            of("del-flows br0");
            of("add-flow br0 priority=9,tcp,tp_dst=1,actions=1");
            let monitor =
                Watching::start(daemon, "changes", &format!("ovs-ofctl {version} monitor br0 watch:"));
            monitor.sees("tp_dst=1 ");
            let file = daemon.dir().join("rules");
            let rules = |cookie: u16, ports: std::ops::Range<u16>| {
                let line = |port| format!("cookie={cookie},tcp,tp_dst={port},actions=2\n");
                std::fs::write(&file, ports.map(line).collect::<String>()).expect("a file");
                of(&format!("add-flows br0 {}", file.display()));
            };
            let stopped = monitor.stop();
            rules(7, 2..RULES);
            of("del-flows br0 tcp,tp_dst=0x0400/0xff00");
            of("del-flows br0 tcp,tp_dst=1");
            rules(8, RULES - 500..RULES + 500);
            of("add-flow br0 cookie=9,tcp,tp_dst=3,actions=1");
            drop(stopped);
            monitor.sees(resumed);
            // What comes after that is told as it happens.
            of("add-flow br0 cookie=0x5,tcp,tp_dst=65000,actions=1");
            monitor.sees("tp_dst=65000");
            of("del-flows br0 tcp,tp_dst=2");
            of("add-flow br0 tcp,tp_dst=65001,actions=1");
            monitor.sees("tp_dst=65001");
            let text = monitor.text();
            assert!(text.contains(paused), "{version}");
            let dump = of("--no-stats dump-flows br0");
            let rule = |line: &str| Some((value(line, "tp_dst")?.to_owned(), cookie(line)));
            let there: BTreeMap<String, u64> = dump.lines().filter_map(rule).collect();
            assert!(there.len() > usize::from(RULES) && followed(&text) == there, "{version}");
        }
    }
}

/// Who hears of the end of a rule hears of all that it forwarded, also when it ends with a change of who controls the bridge.
#[test]
fn rules_that_go_with_a_change_of_control_have_counted_everything() {
    let switch = Switch::start(&["--enable-dummy=override"]);
    switch.run(
        "ovs-vsctl add-br br0 -- set bridge br0 datapath-type=dummy -- add-port br0 p1 -- add-port br0 p2 \
         -- set interface p1 type=dummy ofport_request=1 -- set interface p2 type=dummy ofport_request=2",
    );
    for change in ["ovs-vsctl set-controller br0 tcp:127.0.0.1:1", "ovs-vsctl del-controller br0"] {
        let monitor = Watching::start(&switch, "removals", "ovs-ofctl monitor br0 65534");
        // It hears when it has asked to: of this rule's end, some time.
        tests::wait_for("a flow_removed", || {
            switch.run("ovs-ofctl add-flow br0 send_flow_rem,cookie=0x1,in_port=2,actions=drop");
            switch.run("ovs-ofctl del-flows br0 in_port=2");
            monitor.text().contains("cookie:0x1 ")
        });
        switch.run("ovs-ofctl add-flow br0 send_flow_rem,cookie=0x2,in_port=1,actions=2");
        for _ in 0..7 {
            switch.run("ovs-appctl netdev-dummy/receive p1 0200000000010200000000020800450000140000000040066bd00a0000010a000002");
        }
        switch.run(change);
        monitor.sees("cookie:0x2 ");
        monitor.sees("\n");
        let text = monitor.text();
        let line = text.lines().find(|line| line.contains("cookie:0x2 ")).unwrap_or_default();
        assert!(line.contains(" pkts7 bytes"), "{change}: {line}");
    }
}

/// What packet-ins say of tracked packets: states, zone, mark and label, and the connection's name, of each family, of ICMP, behind a
/// translation, of what is invalid and of what was never tracked. Here and of Open vSwitch.
#[test]
fn packet_ins_tell_of_connections() {
    let mut rules = vec![
        "priority=9,in_port=1,udp,tp_dst=9,actions=controller".to_owned(),
        "in_port=3,ip,actions=ct(commit,zone=6,nat(src=198.51.100.1),table=2)".to_owned(),
        "in_port=4,ip,actions=ct(nat,zone=6,table=2)".to_owned(),
        "table=1,priority=0,actions=controller".to_owned(),
        "table=2,actions=controller".to_owned(),
    ];
    for family in ["ip", "ipv6"] {
        rules.extend([
            format!("in_port=1,{family},actions=ct(table=1,zone=5)"),
            format!("in_port=2,{family},actions=ct(nat,table=1,zone=5)"),
            format!(
                "table=1,ct_state=+new,{family},actions=ct(commit,zone=5,exec(set_field:7->ct_mark,\
                 set_field:0x1234->ct_label),table=2)"
            ),
        ]);
    }
    let mut pair = Pair::start();
    pair.bridge(4);
    for rule in &rules {
        pair.both(&format!("ovs-ofctl add-flow br0 {rule}"));
    }
    let (a, b, nat) = ([10, 0, 0, 1], [10, 0, 0, 2], [198, 51, 100, 1]);
    let udp =
        |src, dst, ports| frames::udp_between(frames::mac(1), frames::mac(2), (src, dst), ports, 64, b"abcd");
    let six = |n| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n];
    let bytes = |builder: FrameBuilder| builder.macs(2, 1).build();
    let packets: [(u8, Vec<u8>); 9] = [
        (1, udp(a, b, (1_000, 9))),
        (1, udp(a, b, (1_000, 53))),
        (2, udp(b, a, (53, 1_000))),
        (1, udp(a, b, (1_000, 53))),
        (
            1,
            bytes(FrameBuilder::udp6(
                (u128::from_be_bytes(six(1)), 1_000),
                (u128::from_be_bytes(six(2)), 53),
            )),
        ),
        (3, udp(a, b, (1_000, 80))),
        (4, udp(b, nat, (80, 1_000))),
        (1, bytes(FrameBuilder::icmp4(0x0a00_0001, 0x0a00_0002, 8, 0).payload(&[0, 7, 0, 1]))),
        // No connection begins with it.
        (2, bytes(FrameBuilder::tcp4((0x0a00_0002, 80), (0x0a00_0001, 1_000), 0x04))),
    ];
    for version in ["-O OpenFlow10", "-O OpenFlow15"] {
        pair.both("ovs-appctl dpctl/flush-conntrack");
        let mut seen = vec![];
        for daemon in [&pair.real as &dyn Tools, &pair.ours] {
            let packet_ins =
                Watching::start(daemon, "packet-ins", &format!("ovs-ofctl {version} monitor br0 65534"));
            let count = || packet_ins.text().split("PACKET_IN").count() - 1;
            // Until the monitor is there nobody gets any.
            let receive = |(port, bytes): &(u8, Vec<u8>)| {
                daemon.run(&format!("ovs-appctl netdev-dummy/receive p{port} {}", frames::hex(bytes)));
            };
            wait_for("a packet-in", || {
                receive(&packets[0]);
                count() > 0
            });
            for packet in &packets[1..] {
                let before = count();
                receive(packet);
                wait_for("the next packet-in", || count() > before);
            }
            // The bytes are in the line behind, and are the checksum's matter.
            let lines = packet_ins.text();
            let lines = lines.lines().filter(|line| line.contains("PACKET_IN") && !line.contains("tp_dst=9"));
            seen.push(tests::text::steady(&lines.collect::<Vec<_>>().join("\n")));
        }
        pair.note(&format!("packet-ins {version}"), &seen[0], &seen[1]);
    }
    pair.finish();
}

/// Who reads hears of every rule that goes, however many go at once.
#[test]
fn no_removal_is_lost_on_who_reads() {
    const MANY: usize = 20_000;
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let monitor = Watching::start(&switch, "removals", "ovs-ofctl monitor br0 65534");
    wait_for("a flow_removed", || {
        switch.run("ovs-ofctl add-flow br0 send_flow_rem,cookie=0x1,in_port=2,actions=drop");
        switch.run("ovs-ofctl del-flows br0 in_port=2");
        monitor.text().contains("cookie:0x1 ")
    });
    let file = switch.dir().join("rules");
    let line = |n| format!("send_flow_rem,cookie=0x2,tcp,tp_dst={n},actions=drop\n");
    std::fs::write(&file, (0..MANY).map(line).collect::<String>()).expect("a file");
    switch.run(&format!("ovs-ofctl add-flows br0 {}", file.display()));
    switch.run("ovs-ofctl del-flows br0 cookie=0x2/-1");
    let heard = || monitor.text().matches("cookie:0x2 ").count();
    wait_for("all removals", || heard() >= MANY);
    assert_eq!(heard(), MANY);
}

/// Who asks for more than is kept for packet-ins hears, behind the answer, of a port that came meanwhile.
#[test]
fn ports_that_come_during_a_dump_are_told_of() {
    let switch = Switch::start(&["--enable-dummy=override"]);
    switch.run("ovs-vsctl add-br br0 -- set bridge br0 datapath-type=dummy");
    let file = switch.dir().join("rules");
    let many: String = (0..20_000).map(|n| format!("tcp,tp_dst={n},actions=drop\n")).collect();
    std::fs::write(&file, many).expect("a file");
    switch.run(&format!("ovs-ofctl add-flows br0 {}", file.display()));
    let mut reader = UnixStream::connect(switch.dir().join("br0.mgmt")).expect("a connection");
    reader.set_read_timeout(Some(tests::DAEMON_WAIT_MAX)).expect("a limit");
    let mut say = vec![4, 0, 0, 8, 0, 0, 0, 1];
    // SET_CONFIG with a miss_send_len: it wants to hear. Then all rules, and a barrier.
    say.extend([4, 9, 0, 12, 0, 0, 0, 2, 0, 0, 0xff, 0xff]);
    say.extend([4, 18, 0, 56, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
    say.extend([0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    say.extend([0; 16]);
    say.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    reader.write_all(&say).expect("written");
    let mut next = || {
        let mut header = [0; 8];
        reader.read_exact(&mut header).expect("a message");
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
        reader.read_exact(&mut body).expect("a whole message");
        (header[1], body)
    };
    // Once the first of the answer is here, all of it waits in the switch.
    while next().0 != 19 {}
    switch.run("ovs-vsctl add-port br0 p1 -- set interface p1 type=dummy");
    let mut bytes = 0;
    let status = loop {
        match next() {
            (12, body) => break body,
            (_, body) => bytes += body.len(),
        }
    };
    assert!(bytes > 1 << 20, "{bytes} bytes of the answer were left");
    assert_eq!(status[0], 0, "OFPPR_ADD");
}
