//! Groups and meters as the real ovs-ofctl sees them: against Debian's ovs-vswitchd, which must answer alike, and with
//! frames through our daemon.

use tests::pair::{Compare, Pair};
use tests::{Switch, Tools};

use Compare::{Lines, Set, Success};

/// The versions of OpenFlow that ovs-ofctl is made to speak; the first is its default.
const VERSIONS: [&str; 4] = ["", "-O OpenFlow13", "-O OpenFlow14", "-O OpenFlow15"];

/// What is asked of a bridge with ports p1, p2 and p3, in every version. `V` is the `-O` option.
const GROUPS: &[(&str, Compare)] = &[
    ("ovs-ofctl V dump-groups br0", Lines),
    ("ovs-ofctl V add-group br0 group_id=1,type=all,bucket=output:1,bucket=output:2", Lines),
    ("ovs-ofctl V add-group br0 group_id=1,type=all,bucket=output:1", Lines),
    (
        "ovs-ofctl V add-group br0 group_id=2,type=select,bucket=weight:5,output:1,bucket=weight:7,watch_port:2,actions=set_field:1->reg0,output:2",
        Lines,
    ),
    (
        "ovs-ofctl V add-group br0 group_id=3,type=ff,bucket=watch_port:1,output:1,bucket=watch_group:2,actions=output:2",
        Lines,
    ),
    ("ovs-ofctl V add-group br0 group_id=4,type=indirect,bucket=ct(commit),resubmit(,3)", Lines),
    ("ovs-ofctl V add-group br0 group_id=5,type=indirect", Lines),
    ("ovs-ofctl V add-group br0 group_id=5,type=all,bucket=weight:1,output:1", Lines),
    ("ovs-ofctl V add-group br0 group_id=5,type=all,bucket=watch_port:1,output:1", Success),
    ("ovs-ofctl V add-group br0 group_id=5,type=ff,bucket=output:1", Lines),
    ("ovs-ofctl V add-group br0 group_id=0xffffff01,type=all", Lines),
    ("ovs-ofctl V add-group br0 group_id=4294967292,type=all", Lines),
    ("ovs-ofctl V add-group br0 group_id=5,type=all,bucket=group:77", Lines),
    ("ovs-ofctl V add-group br0 group_id=6,type=all,bucket=set_field:1->ct_mark", Lines),
    ("ovs-ofctl V dump-groups br0", Set),
    ("ovs-ofctl V mod-group br0 group_id=1,type=all,bucket=output:3", Lines),
    ("ovs-ofctl V mod-group br0 group_id=9,type=all,bucket=output:3", Lines),
    ("ovs-ofctl V --may-create mod-group br0 group_id=9,type=all,bucket=output:3", Lines),
    ("ovs-ofctl V add-flow br0 in_port=1,actions=group:1", Lines),
    ("ovs-ofctl V add-flow br0 in_port=2,actions=group:2,output:3", Lines),
    ("ovs-ofctl V add-flow br0 in_port=3,actions=clone(group:1),group:3", Lines),
    // OVS quotes more than the standard's 64 bytes of what it refuses.
    ("ovs-ofctl V add-flow br0 in_port=3,actions=group:55", Success),
    ("ovs-ofctl V add-flow br0 table=2,actions=write_actions(group:55)", Success),
    (
        "ovs-ofctl V packet-out br0 in_port=p1,packet=020000000001020000000002080045000014000000004001f9d60a0000010a000002,actions=group:56",
        Success,
    ),
    ("ovs-ofctl V dump-flows br0 out_group=1", Success),
    ("ovs-ofctl V dump-group-stats br0", Set),
    ("ovs-ofctl V dump-group-stats br0 group_id=2", Lines),
    ("ovs-ofctl V dump-group-stats br0 group_id=77", Lines),
    ("ovs-ofctl V dump-groups br0 3", Success),
    ("ovs-ofctl V del-groups br0 group_id=1", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V del-groups br0 group_id=1", Lines),
    ("ovs-ofctl V dump-groups br0", Set),
    ("ovs-ofctl V bundle br0 PAIR/bundle", Lines),
    ("ovs-ofctl V dump-groups br0", Set),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V bundle br0 PAIR/broken", Success),
    ("ovs-ofctl V dump-groups br0", Set),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V del-groups br0", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V dump-groups br0", Lines),
];

/// What only versions with numbers of buckets have. Inserted buckets say their weight: without it OVS gives them none of the
/// packets, we a share of 1, as other buckets have.
const BUCKETS: &[(&str, Compare)] = &[
    (
        "ovs-ofctl V add-group br0 group_id=1,type=select,selection_method=hash,fields(ip_src,tcp_dst=0xff),bucket=bucket_id:4,1,bucket=2",
        Lines,
    ),
    (
        "ovs-ofctl V add-group br0 group_id=2,type=select,selection_method=dp_hash,selection_method_param=7,bucket=1",
        Lines,
    ),
    ("ovs-ofctl V add-group br0 group_id=3,type=select,selection_method=foo,bucket=1", Success),
    ("ovs-ofctl V add-group br0 group_id=3,type=all,selection_method=hash,bucket=1", Success),
    (
        "ovs-ofctl V insert-buckets br0 group_id=1,command_bucket_id=first,bucket=bucket_id:8,weight:2,3",
        Lines,
    ),
    (
        "ovs-ofctl V insert-buckets br0 group_id=1,command_bucket_id=4,bucket=bucket_id:9,weight:1,LOCAL,bucket=bucket_id:10,weight:3,1",
        Lines,
    ),
    ("ovs-ofctl V insert-buckets br0 group_id=1,command_bucket_id=last,bucket=bucket_id:9,LOCAL", Lines),
    ("ovs-ofctl V insert-buckets br0 group_id=1,command_bucket_id=77,bucket=bucket_id:11,LOCAL", Lines),
    ("ovs-ofctl V insert-buckets br0 group_id=7,command_bucket_id=last,bucket=bucket_id:9,LOCAL", Lines),
    ("ovs-ofctl V dump-groups br0", Set),
    ("ovs-ofctl V remove-buckets br0 group_id=1,command_bucket_id=9", Lines),
    ("ovs-ofctl V remove-buckets br0 group_id=1,command_bucket_id=9", Lines),
    ("ovs-ofctl V remove-buckets br0 group_id=1,command_bucket_id=last", Lines),
    ("ovs-ofctl V remove-buckets br0 group_id=1,command_bucket_id=first", Lines),
    ("ovs-ofctl V dump-groups br0 1", Lines),
    ("ovs-ofctl V remove-buckets br0 group_id=1,command_bucket_id=all", Lines),
    ("ovs-ofctl V dump-groups br0", Set),
    ("ovs-ofctl V add-groups br0 PAIR/groups", Lines),
    ("ovs-ofctl V dump-groups br0", Set),
];

const METERS: &[(&str, Compare)] = &[
    ("ovs-ofctl V dump-meters br0", Lines),
    ("ovs-ofctl V add-meter br0 meter=1,kbps,band=type=drop,rate=100", Lines),
    ("ovs-ofctl V add-meter br0 meter=1,kbps,band=type=drop,rate=100", Lines),
    ("ovs-ofctl V add-meter br0 meter=2,pktps,burst,stats,bands=type=drop,rate=100,burst_size=50", Lines),
    ("ovs-ofctl V add-meter br0 meter=3,kbps,pktps,band=type=drop,rate=1", Lines),
    ("ovs-ofctl V add-meter br0 meter=controller,kbps,band=type=drop,rate=1000", Lines),
    ("ovs-ofctl V add-meter br0 meter=all,kbps,band=type=drop,rate=1", Lines),
    ("ovs-ofctl V dump-meters br0", Set),
    ("ovs-ofctl V mod-meter br0 meter=1,pktps,band=type=drop,rate=7", Lines),
    ("ovs-ofctl V mod-meter br0 meter=77,pktps,band=type=drop,rate=7", Lines),
    ("ovs-ofctl V dump-meters br0 meter=1", Lines),
    ("ovs-ofctl V dump-meters br0 meter=77", Lines),
    ("ovs-ofctl V meter-stats br0", Set),
    ("ovs-ofctl V add-flow br0 in_port=1,actions=meter:1,output:2", Lines),
    ("ovs-ofctl V add-flow br0 in_port=1,actions=meter:9,output:2", Success),
    ("ovs-ofctl V add-flow br0 table=3,actions=meter:2,goto_table:4", Lines),
    ("ovs-ofctl V meter-stats br0 meter=1", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V del-meter br0 meter=1", Lines),
    ("ovs-ofctl V del-meter br0 meter=1", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V del-meters br0", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V dump-meters br0", Lines),
];

/// Files that the lines use (a bundle that deletes a group which it added makes ovs-vswitchd 3.1 crash, so none does), written to both run directories.
const FILES: &[(&str, &str)] = &[
    (
        "bundle",
        "group add group_id=20,type=all,bucket=output:1\nflow add in_port=1,actions=group:20\n\
         group add group_id=21,type=all,bucket=group:20\nflow add in_port=2,actions=group:21\n\
         flow add in_port=3,actions=drop\n",
    ),
    (
        "broken",
        "group add group_id=30,type=all,bucket=output:1\nflow add table=9,actions=group:30\n\
         flow add table=9,actions=group:31\n",
    ),
    (
        "groups",
        "group_id=41,type=all,bucket=1\nadd group_id=42,type=all\nmodify group_id=42,type=indirect,bucket=2\n\
         add_or_mod group_id=43,type=all\ndelete group_id=41\n# nothing\n",
    ),
];

fn ask(pair: &mut Pair, version: &str, lines: &[(&str, Compare)]) {
    for (line, compare) in lines {
        pair.same(&line.replacen(" V ", &format!(" {version} "), 1), *compare);
    }
}

#[test]
fn groups_and_meters_are_answered_as_by_ovs() {
    let mut pair = Pair::start();
    pair.bridge(3);
    for (name, text) in FILES {
        for dir in [pair.real.dir(), pair.ours.dir()] {
            std::fs::write(dir.join(name), text).expect("a file");
        }
    }
    for version in VERSIONS {
        ask(&mut pair, version, GROUPS);
        if matches!(version, "" | "-O OpenFlow15") {
            ask(&mut pair, version, BUCKETS);
        }
        if !version.is_empty() {
            ask(&mut pair, version, METERS);
        }
        ask(
            &mut pair,
            version,
            &[
                ("ovs-ofctl V del-groups br0", Lines),
                ("ovs-ofctl V del-flows br0", Lines),
                ("ovs-ofctl V ct-flush-zone br0 7", Lines),
                ("ovs-ofctl V ct-flush br0", Lines),
                ("ovs-ofctl V ct-flush br0 zone=5 ct_nw_src=10.0.0.1,ct_nw_proto=6,ct_tp_dst=80", Lines),
            ],
        );
    }
    pair.finish();
}

/// What begins anew when a bridge gets its first controller, loses its last, or is to do something else without one.
#[test]
fn groups_and_meters_go_with_the_rules() {
    let mut pair = Pair::start();
    pair.bridge(3);
    let changes = [
        "ovs-vsctl set-fail-mode br0 secure",
        "ovs-vsctl set-controller br0 tcp:127.0.0.1:1",
        "ovs-vsctl set-fail-mode br0 standalone",
        "ovs-vsctl del-controller br0",
    ];
    for change in changes {
        let lines = [
            ("ovs-ofctl -O OpenFlow13 add-group br0 group_id=1,type=all,bucket=output:1", Lines),
            ("ovs-ofctl -O OpenFlow13 add-meter br0 meter=1,kbps,band=type=drop,rate=100", Lines),
            ("ovs-ofctl -O OpenFlow13 add-flow br0 in_port=1,actions=meter:1,group:1", Lines),
            (change, Lines),
            ("ovs-ofctl -O OpenFlow13 --no-stats dump-flows br0", Set),
            ("ovs-ofctl -O OpenFlow13 dump-groups br0", Set),
            ("ovs-ofctl -O OpenFlow13 dump-meters br0", Set),
            ("ovs-ofctl -O OpenFlow13 del-groups br0", Lines),
            ("ovs-ofctl -O OpenFlow13 del-meters br0", Lines),
        ];
        ask(&mut pair, "", &lines);
    }
    pair.finish();
}

/// An Ethernet frame with a UDP packet, in hexadecimal.
fn udp(client: u32, port: u16) -> String {
    let address = client.to_be_bytes();
    let mut header = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, address[0], address[1], address[2], address[3], 10, 0, 0, 2,
    ];
    let sum: u32 = header.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let ports = [port.to_be_bytes(), 53u16.to_be_bytes(), 8u16.to_be_bytes(), [0, 0]].concat();
    let bytes = [[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0].as_slice(), &header, &ports].concat();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The number behind `key` in a line of `text` that contains `line`.
fn number(text: &str, line: &str, key: &str) -> u64 {
    let line = text.lines().find(|l| l.contains(line)).unwrap_or_else(|| panic!("no {line} in {text}"));
    let value = line.split(key).nth(1).unwrap_or_else(|| panic!("no {key} in {line}"));
    value.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[test]
fn frames_are_shared_out_metered_and_counted() {
    let switch = Switch::start(&["--enable-dummy=override"]);
    let of = "ovs-ofctl -O OpenFlow15";
    switch.run(
        "ovs-vsctl add-br br0 -- set bridge br0 datapath-type=dummy -- add-port br0 p1 -- add-port br0 p2 -- add-port br0 p3 \
         -- set interface p1 type=dummy ofport_request=1 -- set interface p2 type=dummy ofport_request=2 \
         -- set interface p3 type=dummy ofport_request=3",
    );
    switch.run(&format!("{of} del-flows br0"));
    switch.run(&format!(
        "{of} add-group br0 group_id=1,type=select,selection_method=hash,fields(udp_src),bucket=weight:1,2,bucket=weight:3,3"
    ));
    switch.run(&format!("{of} add-meter br0 meter=5,pktps,burst,band=type=drop,rate=1,burst_size=100"));
    switch.run(&format!("{of} add-flow br0 in_port=1,actions=meter:5,group:1"));
    // Or more of them would pass in the time that this takes.
    switch.run("ovs-appctl time/stop");
    for port in 0..200 {
        switch.run(&format!("ovs-appctl netdev-dummy/receive p1 {}", udp(0x0a00_0001, 1000 + port)));
    }
    let meter = switch.run(&format!("{of} meter-stats br0"));
    assert_eq!(number(&meter, "meter:5", "flow_count:"), 1, "{meter}");
    assert_eq!(number(&meter, "meter:5", "packet_in_count:"), 200, "{meter}");
    let dropped = number(&meter, "0: packet_count", "packet_count:");
    assert_eq!(dropped, 100, "{meter}");
    let ports = switch.run("ovs-ofctl dump-ports br0");
    let tx = |port: &str| {
        let at = ports.find(&format!("port  {port}")).unwrap_or_else(|| panic!("{ports}"));
        number(&ports[at..], "tx pkts", "tx pkts=")
    };
    let (second, third) = (tx("2"), tx("3"));
    assert_eq!(second + third, 200 - dropped, "{ports}");
    assert!(third > second && second > 5, "three times as much goes to port 3: {ports}");
    let groups = switch.run(&format!("{of} dump-group-stats br0"));
    assert_eq!(number(&groups, "group_id=1", "ref_count="), 1, "{groups}");
    // Groups count what comes to them by the rule, before any meter has its say.
    assert_eq!(number(&groups, "group_id=1", ",packet_count="), 200, "{groups}");
    let buckets =
        ["bucket0:packet_count=", "bucket1:packet_count="].map(|key| number(&groups, "group_id=1", key));
    assert_eq!(buckets.iter().sum::<u64>(), 200, "{groups}");
    let trace = switch.run(&format!("ovs-appctl ofproto/trace br0 in_port=1 {}", udp(0x0a00_0001, 1000)));
    assert!(trace.contains("meter(5),"), "{trace}");
}

/// No group is taken that cannot be shown: what is there can be asked for in every version.
#[test]
fn groups_of_many_buckets_are_shown_or_refused() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let of = |version: &str, line: &str| switch.try_run(&format!("ovs-ofctl -O {version} {line}"));
    let buckets = |first: u32, each: &str| -> String {
        (first..first + 1_000).map(|n| format!(",bucket=bucket_id:{n},{each}actions=output:1")).collect()
    };
    assert_eq!(of("OpenFlow15", "add-group br0 group_id=1,type=all").code, 0);
    assert_eq!(of("OpenFlow15", "add-group br0 group_id=2,type=all,bucket=actions=output:2").code, 0);
    for (round, is_taken) in [(0, true), (1, true), (2, false)] {
        let more = buckets(1 + round * 1_000, "");
        let ran = of("OpenFlow15", &format!("insert-buckets br0 group_id=1,command_bucket_id=last{more}"));
        assert_eq!(ran.stderr.contains("OFPGMFC_OUT_OF_BUCKETS"), !is_taken, "{}", ran.stderr);
    }
    // Short enough as it comes, too long in 1.5, where weight and what is watched take room of their own.
    let watching: String = (0..2_000).map(|_| ",bucket=weight:1,watch_port:1,actions=output:1").collect();
    let ran = of("OpenFlow13", &format!("add-group br0 group_id=3,type=select{watching}"));
    assert!(ran.stderr.contains("OFPGMFC_OUT_OF_BUCKETS"), "{}", ran.stderr);
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        for what in ["dump-groups", "dump-group-stats"] {
            let ran = of(version, &format!("{what} br0"));
            assert_eq!(ran.code, 0, "{version} {what}: {}", ran.stderr);
            let ids: Vec<_> = [1, 2, 3].map(|id| ran.stdout.contains(&format!("group_id={id},"))).into();
            assert_eq!(ids, [true, true, false], "{version} {what}");
        }
        let outputs = of(version, "dump-groups br0").stdout.matches("output:1").count()
            + of(version, "dump-groups br0").stdout.matches("actions=1").count();
        assert!(outputs >= 2_000, "{version}: {outputs}");
    }
}
