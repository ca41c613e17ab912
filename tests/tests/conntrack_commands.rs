//! What users see of connection tracking and steer it by, against Debian's ovs-vswitchd: the same traffic into both, the
//! same commands, the same answers. Time is stopped in both, so that times left are equal too.

use tests::pair::{Compare, Pair};
use tests::{Switch, Tools};

use Compare::{Lines, Set};

/// A flow in the datapath's syntax, as netdev-dummy/receive takes it, between 10.0.0.1 and `dst`.
fn v4(dst: &str, proto: u8, l4: &str) -> String {
    let eth = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)";
    format!(
        "in_port(1),{eth},eth_type(0x0800),ipv4(src=10.0.0.1,dst={dst},proto={proto},tos=0,ttl=64,frag=no){l4}"
    )
}

/// The way back to 10.0.0.1.
fn v4_back(src: &str, proto: u8, l4: &str) -> String {
    let eth = "eth(src=02:00:00:00:00:02,dst=02:00:00:00:00:01)";
    format!(
        "in_port(2),{eth},eth_type(0x0800),ipv4(src={src},dst=10.0.0.1,proto={proto},tos=0,ttl=64,frag=no){l4}"
    )
}

fn v6(proto: u8, l4: &str) -> String {
    let eth = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)";
    format!(
        "in_port(1),{eth},eth_type(0x86dd),ipv6(src=fd00::1,dst=fd00::2,label=0,proto={proto},tclass=0,hlimit=64,frag=no){l4}"
    )
}

/// Connections of many kinds, in zones 0 and 7, with marks and labels, in several states.
fn fill(pair: &Pair) {
    let frames = [
        ("p1", v4("10.0.0.2", 17, ",udp(src=7,dst=8)")),
        ("p1", v4("10.0.0.2", 17, ",udp(src=7,dst=9)")),
        ("p2", v4_back("10.0.0.2", 17, ",udp(src=9,dst=7)")),
        ("p1", v4("10.0.0.3", 6, ",tcp(src=7,dst=8),tcp_flags(syn)")),
        ("p1", v4("10.0.0.4", 6, ",tcp(src=7,dst=8),tcp_flags(syn)")),
        ("p2", v4_back("10.0.0.4", 6, ",tcp(src=8,dst=7),tcp_flags(rst|ack)")),
        ("p1", v4("10.0.0.3", 1, ",icmp(type=8,code=0)")),
        ("p1", v4("10.0.0.3", 47, "")),
        ("p1", v6(17, ",udp(src=7,dst=8)")),
    ];
    for (port, frame) in frames {
        pair.both(&format!("ovs-appctl netdev-dummy/receive {port} '{frame}'"));
    }
}

/// Two switches that track what passes between p1 and p2, IPv6 in zone 7, with time stopped.
fn tracking() -> Pair {
    let pair = Pair::start();
    pair.bridge(2);
    let flows = [
        "table=0,ip,in_port=1,actions=ct(commit,exec(set_field:0x2a->ct_mark,set_field:0x1234->ct_label)),output:2",
        "table=0,ip,in_port=2,actions=ct(table=1)",
        "table=0,ipv6,actions=ct(commit,zone=7),output:2",
        "table=1,actions=output:1",
    ];
    pair.real.flows("br0", &flows);
    pair.ours.flows("br0", &flows);
    pair.both("ovs-appctl time/stop");
    pair
}

/// What shows connections and changes nothing.
const VIEWS: &[(&str, Compare)] = &[
    ("ovs-appctl dpctl/dump-conntrack", Set),
    ("ovs-appctl dpctl/dump-conntrack -s", Set),
    ("ovs-appctl dpctl/dump-conntrack -m", Set),
    ("ovs-appctl dpctl/dump-conntrack -m -s", Set),
    ("ovs-appctl dpctl/dump-conntrack --more --statistics zone=7", Set),
    ("ovs-appctl dpctl/dump-conntrack -s system@ovs-system zone=7", Set),
    ("ovs-appctl dpctl/dump-conntrack ovs-system", Set),
    ("ovs-appctl dpctl/dump-conntrack zone=9", Set),
    ("ovs-appctl dpctl/ct-stats-show", Lines),
    ("ovs-appctl dpctl/ct-stats-show -m", Lines),
    ("ovs-appctl dpctl/ct-stats-show verbose", Lines),
    ("ovs-appctl dpctl/ct-stats-show zone=7", Lines),
    ("ovs-appctl dpctl/ct-stats-show zone=0 verbose", Lines),
    ("ovs-appctl dpctl/ct-stats-show verbose zone=9", Lines),
    ("ovs-appctl dpctl/ct-get-nconns", Lines),
    ("ovs-appctl dpctl/ct-get-nconns system@ovs-system", Lines),
];

#[test]
fn connections_are_shown_as_by_ovs() {
    let mut pair = tracking();
    for (line, compare) in VIEWS {
        pair.same(line, *compare);
    }
    fill(&pair);
    let lines = pair.ours.run("ovs-appctl dpctl/dump-conntrack");
    assert_eq!(lines.lines().count(), 7, "the traffic made no connections:\n{lines}");
    for (line, compare) in VIEWS {
        pair.same(line, *compare);
    }
    // Half a second off the full one, as the two count in different ticks.
    for step in ["500", "20000", "20000"] {
        pair.both(&format!("ovs-appctl time/warp {step}"));
        pair.same("ovs-appctl dpctl/dump-conntrack -s", Set);
        pair.same("ovs-appctl dpctl/ct-stats-show -m", Lines);
        // OVS removes what has expired from time to time.
        assert!(pair.ours.run("ovs-appctl dpctl/ct-get-nconns").trim().parse::<u32>().is_ok());
    }
    pair.finish();
}

/// Filters of flush-conntrack that mean the same to both; each is followed by a look at what is left.
const FLUSHES: &[&str] = &[
    "zone=7",
    "zone=0",
    "zone=9",
    "",
    "ct_nw_src=10.0.0.1",
    "ct_nw_src=10.0.0.1,ct_nw_proto=17",
    "ct_nw_proto=17",
    "ct_nw_proto=17,ct_tp_dst=8",
    "ct_nw_proto=17,ct_tp_src=0x7",
    "ct_nw_proto=0",
    "zone=7 ct_nw_proto=17",
    "zone=7 ct_ipv6_src=fd00::1",
    "zone=7 ct_ipv6_src=fd00::1,ct_ipv6_dst=fd00::2,ct_nw_proto=17,ct_tp_src=7,ct_tp_dst=8",
    "zone=7 ct_ipv6_src=fd00::1,ct_ipv6_dst=fd00::2,ct_nw_proto=17,ct_tp_src=7,ct_tp_dst=9",
    "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=7,ct_tp_dst=9",
    "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=7,ct_tp_dst=99",
    "ct_nw_src=10.0.0.2,ct_nw_dst=10.0.0.1,ct_nw_proto=17,ct_tp_src=9,ct_tp_dst=7",
    "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.3,ct_nw_proto=1,icmp_id=0,icmp_type=8,icmp_code=0",
    "ct_nw_src=10.0.0.1,ct_nw_proto=1,icmp_type=8",
    "ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.3,ct_nw_proto=47",
    "ct_nw_src=10.0.0.1 ct_nw_src=10.0.0.3",
    "'' ct_nw_src=10.0.0.3",
    "'' ct_nw_dst=10.0.0.1,ct_nw_proto=17",
    "'' ct_nw_src=10.0.0.2,ct_nw_dst=10.0.0.1,ct_nw_proto=17,ct_tp_src=8,ct_tp_dst=7",
    "'' ct_nw_src=10.0.0.2,ct_nw_dst=10.0.0.1,ct_nw_proto=17,ct_tp_src=8,ct_tp_dst=99",
    "zone=7 ''",
    "zone=0 '' ct_nw_src=10.0.0.3",
    "'' ''",
    "zone=x",
    "foo",
    "foo zone=7",
    "ct_tp_dst=8",
    "icmp_type=8",
    "ct_nw_src=10.0.0.1,icmp_type=8",
    "ct_nw_src=10.0.0.1,ct_nw_proto=17,icmp_type=8",
    "ct_nw_src=10.0.0.1,ct_ipv6_src=fd00::1",
    "ct_nw_src=10.0.0.1,foo=1",
    "ct_nw_src=10.0.0.1,foo",
    "ct_nw_src=",
    "ct_nw_src",
    "ct_nw_src=foo",
    "ct_nw_src=10.0.0.0/24",
    "ct_nw_proto=256",
    "ct_nw_proto=x",
    "ct_tp_src=70000,ct_nw_proto=17",
    "ct_nw_proto=1,icmp_id=70000",
    "ct_nw_proto=1,icmp_type=256",
    "ct_nw_proto=1,icmp_code=x",
    "ct_nw_src=10.0.0.1 foo=1",
    "foo=1 foo=2",
    "mark=5",
    "a b c d",
    "a b c d e",
];

#[test]
fn connections_are_flushed_as_by_ovs() {
    let mut pair = tracking();
    for filter in FLUSHES {
        fill(&pair);
        pair.same(&format!("ovs-appctl dpctl/flush-conntrack {filter}"), Lines);
        let left = |pair: &Pair, ours: bool| {
            let line = "ovs-appctl dpctl/dump-conntrack";
            let text = if ours { pair.ours.run(line) } else { pair.real.run(line) };
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        let (theirs, ours) = (left(&pair, false), left(&pair, true));
        pair.note(&format!("left by flush-conntrack {filter}"), &theirs, &ours);
    }
    pair.finish();
}

/// The same by OpenFlow.
const OPENFLOW_FLUSHES: &[&str] = &[
    "ct-flush-zone br0 7",
    "ct-flush-zone br0 9",
    "ct-flush-zone br0 70000",
    "ct-flush br0",
    "ct-flush br0 zone=7",
    "ct-flush br0 ct_nw_src=10.0.0.1,ct_nw_proto=17",
    "ct-flush br0 zone=0 ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=7,ct_tp_dst=8",
    "ct-flush br0 '' ct_nw_src=10.0.0.3",
    "ct-flush br0 zone=7 ct_ipv6_src=fd00::1",
    "ct-flush br0 ct_nw_src=10.0.0.1,ct_nw_proto=1,icmp_type=8",
    "ct-flush br0 foo=1",
];

#[test]
fn controllers_flush_connections_as_with_ovs() {
    let mut pair = tracking();
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
        for line in OPENFLOW_FLUSHES {
            fill(&pair);
            pair.same(&format!("ovs-ofctl -O {version} {line}"), Lines);
            pair.same("ovs-appctl dpctl/dump-conntrack", Set);
        }
    }
    pair.finish();
}

/// Settings and what shows them, in order.
const SETTINGS: &[&str] = &[
    "ct-get-maxconns",
    "ct-set-maxconns 5",
    "ct-get-maxconns",
    "ct-set-maxconns x",
    "ct-set-maxconns",
    "ct-set-maxconns 10 20",
    "ct-set-maxconns foo 3000000",
    "ct-set-maxconns system@ovs-system 4294967295",
    "ct-get-maxconns ovs-system",
    "ct-get-maxconns foo",
    "ct-get-maxconns a b",
    "ct-set-maxconns 3000000",
    "ct-get-nconns",
    "ct-get-nconns foo",
    "ct-get-tcp-seq-chk",
    "ct-disable-tcp-seq-chk",
    "ct-get-tcp-seq-chk",
    "ct-enable-tcp-seq-chk system@ovs-system",
    "ct-get-tcp-seq-chk",
    "ct-get-tcp-seq-chk foo",
    "ct-get-limits",
    "ct-set-limits default=10",
    "ct-set-limits zone=1,limit=5",
    "ct-set-limits default=10 zone=2,limit=7 zone=3,limit=0",
    "ct-get-limits",
    "ct-get-limits zone=1,2",
    "ct-get-limits zone=2,1,1",
    "ct-get-limits 'zone=1, 2'",
    "ct-get-limits zone=9",
    "ct-get-limits zone=1,x",
    "ct-get-limits zone=4,zone=5",
    "ct-get-limits foo",
    "ct-get-limits foo=3",
    "ct-get-limits zone=1 zone=2",
    "ct-get-limits a b c",
    "ct-get-limits system@ovs-system zone=2",
    "ct-set-limits",
    "ct-set-limits zone=70000,limit=1",
    "ct-set-limits zone=-1,limit=1",
    "ct-set-limits zone=x,limit=1",
    "ct-set-limits zone=1,limit=x",
    "ct-set-limits zone=1,limit=",
    "ct-set-limits zone=1",
    "ct-set-limits limit=1",
    "ct-set-limits limit=1,zone=9",
    "ct-set-limits zone=1,foo=1",
    "ct-set-limits zone=6,limit=6 default=7",
    "ct-set-limits foo",
    "ct-set-limits foo zone=1,limit=3",
    "ct-set-limits foo=1 zone=1,limit=3",
    "ct-set-limits ''",
    "ct-set-limits ,",
    "ct-set-limits default=",
    "ct-set-limits default=x",
    "ct-set-limits zone=0x10,limit=0x20",
    "ct-set-limits system@ovs-system zone=4,limit=4 zone=5,limit=5",
    "ct-get-limits",
    "ct-del-limits zone=1",
    "ct-del-limits zone=7",
    "ct-del-limits",
    "ct-del-limits default",
    "ct-del-limits zone=x",
    "ct-del-limits foo zone=5",
    "ct-del-limits zone=5 zone=6",
    "ct-del-limits a b c",
    "ct-del-limits system@ovs-system zone=5",
    "ct-get-limits",
    "ct-del-limits zone=0,2,3,4,9,16",
    "ct-set-limits default=0",
    "ct-get-limits",
    "ct-bkts a b c",
    "ct-bkts foo",
    "ct-bkts gt=x",
    "dump-conntrack zone=x",
    "dump-conntrack zone=",
    "dump-conntrack foo",
    "dump-conntrack netdev@nowhere",
    "dump-conntrack zone=1 zone=2",
    "dump-conntrack -x",
    "dump-conntrack --stat",
    "dump-conntrack a b c d e f g",
    "ct-stats-show zone=x",
    "ct-stats-show foo",
    "ct-stats-show a b c d",
    "ipf-get-status",
    "ipf-get-status -m",
    "ipf-get-status foo",
    "ipf-get-status a b",
    "ipf-set-enabled",
    "ipf-set-enabled v5",
    "ipf-set-enabled a b c",
    "ipf-set-disabled v5",
    "ipf-set-disabled v6",
    "ipf-set-disabled system@ovs-system v4",
    "ipf-get-status",
    "ipf-set-enabled v4",
    "ipf-set-enabled v6",
    "ipf-set-min-frag",
    "ipf-set-min-frag v4",
    "ipf-set-min-frag v4 x",
    "ipf-set-min-frag v4 500",
    "ipf-set-min-frag v4 399",
    "ipf-set-min-frag v6 1000",
    "ipf-set-min-frag v5 1000",
    "ipf-set-min-frag foo v6 1280",
    "ipf-set-min-frag a b c d",
    "ipf-set-max-nfrags",
    "ipf-set-max-nfrags x",
    "ipf-set-max-nfrags 500",
    "ipf-set-max-nfrags 5001",
    "ipf-set-max-nfrags foo 1000",
    "ipf-set-max-nfrags a b c",
    "ipf-get-status ovs-system",
];

#[test]
fn settings_are_made_shown_and_refused_as_by_ovs() {
    let mut pair = Pair::start();
    pair.bridge(2);
    for line in SETTINGS {
        pair.same(&format!("ovs-appctl dpctl/{line}"), Lines);
    }
    pair.finish();
}

/// Limits hold for new connections, and those that were answered stay. OVS keeps those that nobody has answered too; here
/// they give way.
#[test]
fn limits_bite_as_with_ovs() {
    let mut pair = tracking();
    let answered = |pair: &Pair, port: u16| {
        let there = v4("10.0.0.5", 17, &format!(",udp(src={port},dst=53)"));
        let back = v4_back("10.0.0.5", 17, &format!(",udp(src=53,dst={port})"));
        pair.both(&format!("ovs-appctl netdev-dummy/receive p1 '{there}'"));
        pair.both(&format!("ovs-appctl netdev-dummy/receive p2 '{back}'"));
    };
    let views = |pair: &mut Pair| {
        for view in ["dump-conntrack", "ct-get-nconns", "ct-get-limits zone=0"] {
            pair.same(&format!("ovs-appctl dpctl/{view}"), Set);
        }
    };
    pair.both("ovs-appctl dpctl/ct-set-limits zone=0,limit=2");
    (1..=4).for_each(|port| answered(&pair, port));
    views(&mut pair);
    pair.both("ovs-appctl dpctl/ct-set-limits zone=0,limit=3");
    (1..=4).for_each(|port| answered(&pair, port));
    views(&mut pair);
    pair.both("ovs-appctl dpctl/ct-set-limits zone=0,limit=100");
    pair.both("ovs-appctl dpctl/ct-set-maxconns 4");
    (1..=6).for_each(|port| answered(&pair, port));
    views(&mut pair);
    pair.finish();
}

/// Timeout policies, as ovs-vsctl writes them.
#[test]
fn timeouts_of_zones_come_from_the_database_as_with_ovs() {
    let mut pair = tracking();
    let datapath =
        "ovs-vsctl -- --id=@d create Datapath datapath_version=0 -- set Open_vSwitch . datapaths:system=@d";
    pair.both(datapath);
    for line in [
        "ovs-vsctl add-zone-tp system zone=7 udp_first=100 udp_single=110 udp_multiple=120 tcp_unack=3",
        "ovs-vsctl add-zone-tp system zone=7 udp_first=1",
        "ovs-vsctl --may-exist add-zone-tp system zone=7 udp_first=100 udp_single=110",
        "ovs-vsctl add-zone-tp netdev zone=7 udp_first=1",
        "ovs-vsctl list-zone-tp system",
    ] {
        pair.same(line, Set);
    }
    let dump = |pair: &mut Pair| {
        fill(pair);
        pair.both("ovs-appctl time/warp 500");
        pair.same("ovs-appctl dpctl/dump-conntrack -s zone=7", Set);
    };
    dump(&mut pair);
    let dumped = pair.ours.run("ovs-appctl dpctl/dump-conntrack -s zone=7");
    assert!(dumped.contains("timeout=99"), "{dumped}");
    dump(&mut pair);
    pair.same("ovs-vsctl del-zone-tp system zone=7", Lines);
    pair.same("ovs-vsctl del-zone-tp system zone=7", Lines);
    pair.same("ovs-vsctl --if-exists del-zone-tp system zone=7", Lines);
    // OVS's cached flows and connections keep the policy until something comes round, which nothing does while time stands
    // still.
    pair.both("ovs-appctl revalidator/purge");
    pair.both("ovs-appctl dpctl/flush-conntrack");
    dump(&mut pair);
    pair.same("ovs-vsctl list-zone-tp system", Lines);
    let capabilities = pair.ours.run("ovs-vsctl list-dp-cap system");
    assert!(capabilities.contains("ct_timeout=true") && capabilities.contains("ct_flush=true"));
    pair.finish();
}

/// An Ethernet frame in hex with a fragment of a UDP packet over IPv4: identification, offset and length of its payload.
fn fragment(identification: u16, offset: u16, len: u16, more: bool) -> String {
    let more = if more { 0x2000 } else { 0 };
    let flags = (offset / 8) | more;
    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    header[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    header[4..6].copy_from_slice(&identification.to_be_bytes());
    header[6..8].copy_from_slice(&flags.to_be_bytes());
    let sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) * 256 + u32::from(w[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let mut payload = vec![0x78; usize::from(len)];
    if offset == 0 {
        // Without a UDP checksum.
        payload[..8].copy_from_slice(&[0, 7, 0, 8, 0x0b, 0xb8, 0, 0]);
    }
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let bytes = ethernet.iter().chain(&header).chain(&payload);
    bytes.map(|b| format!("{b:02x}")).collect()
}

#[test]
fn fragments_are_counted_and_listed_as_by_ovs() {
    let mut pair = tracking();
    let receive = |pair: &Pair, hex: &str| pair.both(&format!("ovs-appctl netdev-dummy/receive p1 {hex}"));
    // 3000 bytes, which is what the UDP header says, in three fragments.
    for (offset, len, more) in [(0, 1_200, true), (2_400, 600, false), (1_200, 1_200, true)] {
        receive(&pair, &fragment(1, offset, len, more));
        pair.same("ovs-appctl dpctl/ipf-get-status -m", Set);
    }
    assert!(pair.ours.run("ovs-appctl dpctl/ipf-get-status").contains("v4 frags completed: 3\n"));
    for (identification, offset, len, more) in [
        (0x1234, 0, 1_200, true),
        (0x1234, 2_400, 600, false),
        (0x1235, 1_200, 1_200, true),
        (0x1236, 0, 1_200, true),
        (0x1237, 1_200, 8, false),
    ] {
        receive(&pair, &fragment(identification, offset, len, more));
    }
    pair.same("ovs-appctl dpctl/ipf-get-status -m", Set);
    pair.same("ovs-appctl dpctl/ipf-get-status", Lines);
    let shown = pair.ours.run("ovs-appctl dpctl/ipf-get-status -m");
    assert_eq!(shown.matches("(src=10.0.0.1").count(), 4, "{shown}");
    pair.finish();
}

/// The same views and settings by `tapctl`, and what a restart leaves of them.
#[test]
fn tapctl_shows_and_steers_connections() {
    let mut switch =
        Switch::start(&["--enable-dummy=override", "--disable-system", "--disable-system-route"]);
    let ports = "add-port br0 p1 -- set Interface p1 type=dummy ofport_request=1";
    switch.run(&format!("ovs-vsctl add-br br0 -- {ports}"));
    let flows = ["ip,actions=ct(commit)", "ipv6,actions=ct(commit,zone=7)"];
    let fill = |switch: &Switch| {
        switch.flows("br0", &flows);
        for frame in [v4("10.0.0.2", 17, ",udp(src=7,dst=8)"), v6(17, ",udp(src=7,dst=8)")] {
            switch.run(&format!("ovs-appctl netdev-dummy/receive p1 '{frame}'"));
        }
    };
    let json = |switch: &Switch, line: &str| -> serde_json::Value {
        serde_json::from_str(&switch.tapctl(&format!("--json conntrack {line}"))).expect("JSON")
    };
    fill(&switch);
    let shown = switch.tapctl("conntrack show");
    assert!(
        shown.contains("10.0.0.1:7 > 10.0.0.2:8") && shown.contains("[fd00::1]:7 > [fd00::2]:8"),
        "{shown}"
    );
    let list = json(&switch, "show --zone 7");
    assert_eq!((list.as_array().map(Vec::len), &list[0]["orig"]["src"]), (Some(1), &"fd00::1".into()));
    assert_eq!(json(&switch, "stats")["udp"], 2);
    assert_eq!(json(&switch, "maxconns")["connections"], 2);
    switch.tapctl("conntrack set-limits --default 100 7=5");
    let limits = json(&switch, "limits");
    assert_eq!((&limits["default"], &limits["zones"][0]["connections"]), (&100.into(), &1.into()));
    switch.tapctl("conntrack maxconns 1000");
    assert_eq!(switch.run("ovs-appctl dpctl/ct-get-maxconns"), "1000\n");
    switch.tapctl("conntrack seq-check off");
    assert_eq!(json(&switch, "seq-check")["tcp_seq_check"], false);
    switch.tapctl("conntrack set-fragments --max 50 --min-v4 500 --v6 off");
    let fragments = json(&switch, "fragments");
    let settings = ["max_num_frags_(v4/v6)", "min_v4_frag_size", "v6_enabled"].map(|k| fragments[k].as_u64());
    assert_eq!(settings, [Some(50), Some(500), Some(0)], "{fragments}");
    switch.tapctl("conntrack flush --zone 7");
    assert_eq!(json(&switch, "show").as_array().map(Vec::len), Some(1));
    switch.tapctl("conntrack flush --all");
    assert_eq!(switch.tapctl("conntrack show"), "No connections are tracked.\n");
    // What the database holds comes back; what commands set does not, as in OVS.
    switch.run(
        "ovs-vsctl -- --id=@d create Datapath datapath_version=0 -- set Open_vSwitch . datapaths:netdev=@d",
    );
    switch.run("ovs-vsctl add-zone-tp netdev zone=7 udp_first=1000");
    switch.kill();
    switch.restart();
    fill(&switch);
    let left = json(&switch, "show --zone 7")[0]["timeout"].as_u64();
    assert!(left.is_some_and(|secs| (900..=1_000).contains(&secs)), "{left:?}");
    assert_eq!(json(&switch, "maxconns")["maxconns"], 3_000_000);
}

/// Where OVS 3.1 takes what makes no sense, or ends, we refuse it; where it leaves something out, we do not.
#[test]
fn what_ovs_lets_pass_is_refused_with_a_reason() {
    let switch = Switch::start(&["--enable-dummy=override", "--disable-system", "--disable-system-route"]);
    for (line, text) in [
        ("dump-conntrack zone=70000", "failed to parse zone"),
        ("flush-conntrack zone=70000", "failed to parse zone"),
        ("flush-conntrack zone=7,ct_nw_proto=17", "failed to parse zone"),
        ("flush-conntrack ct_nw_proto=1,ct_tp_src=8", "invalid L4 fields"),
        ("ct-set-maxconns 4294967296", "maxconns missing or malformed"),
        ("ct-set-limits default=-1", "invalid default limit"),
        ("ct-set-limits zone=1,limit=4294967296", "failed to parse field limit"),
        // These end OVS.
        ("ct-get-limits zone=", "invalid zone"),
        ("ct-del-limits zone=", "invalid zone"),
        ("ct-del-limits system@ovs-system", "invalid zone"),
        ("ct-enable-tcp-seq-chk foo", "datapath not found"),
        ("ipf-set-enabled foo v4", "datapath not found"),
    ] {
        let said = switch.fails(&format!("ovs-appctl dpctl/{line}"));
        assert!(said.starts_with(&format!("ovs-vswitchd: {text} (Invalid argument)\n")), "{line}: {said}");
    }
    let large = switch.fails("ovs-appctl dpctl/ipf-set-min-frag v4 70000");
    assert!(large.contains("(Operation not permitted)"), "{large}");
    // None of them has changed anything.
    assert_eq!(switch.run("ovs-appctl dpctl/ct-get-maxconns"), "3000000\n");
    assert_eq!(switch.run("ovs-appctl dpctl/ct-get-limits"), "default limit=0\n");
}
