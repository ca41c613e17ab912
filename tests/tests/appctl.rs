//! Commands of ovs-appctl against Debian's ovs-vswitchd: traces, and those about what we do not have.

use tests::Tools;
use tests::pair::{Compare, Pair};

use Compare::{Lines, Success};

/// What is answered in the same words.
const ANSWERS: &[(&str, Compare)] = &[
    ("ovs-appctl ofproto/trace", Lines),
    ("ovs-appctl ofproto/trace br0", Lines),
    ("ovs-appctl ofproto/trace br0 in_port=1 --nosuch", Lines),
    ("ovs-appctl ofproto/trace br0 in_port=1 --ct-next", Lines),
    ("ovs-appctl ofproto/trace -consistent br0 in_port=1", Lines),
    ("ovs-appctl ofproto/trace br0 in_port=1 1 2 3", Success),
    ("ovs-appctl ofproto/trace-packet-out", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0", Lines),
    ("ovs-appctl ofproto/trace-packet-out br9 in_port=1,ip 2", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 nofield=1 2", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip foo", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip goto_table:1", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip write_actions(output:2)", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip clear_actions", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip write_metadata:7", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip meter:1,2", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip group:7", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip output:nosuch", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip --nosuch 2", Lines),
    ("ovs-appctl ofproto/trace-packet-out -consistent br0 in_port=1,ip strip_vlan,2", Lines),
    ("ovs-appctl ofproto/trace-packet-out br0 in_port=1,arp --consistent mod_nw_dst:1.2.3.4,2", Lines),
    ("ovs-appctl ofproto/trace-packet-out in_port(77),eth(),eth_type(0x0800),ipv4() 2", Lines),
    ("ovs-appctl autoattach/show-isid", Lines),
    ("ovs-appctl autoattach/statistics br0", Lines),
    ("ovs-appctl autoattach/status br9", Lines),
    ("ovs-appctl bfd/set-forwarding", Lines),
    ("ovs-appctl bfd/set-forwarding true", Lines),
    ("ovs-appctl bfd/set-forwarding maybe", Lines),
    ("ovs-appctl bfd/set-forwarding p1 true", Lines),
    ("ovs-appctl bfd/set-forwarding p1 maybe", Lines),
    ("ovs-appctl bond/disable-member p1 p1", Lines),
    ("ovs-appctl bond/enable-member p1 p1", Lines),
    ("ovs-appctl bond/migrate p1 7 p1", Lines),
    ("ovs-appctl bond/set-active-member p1", Lines),
    ("ovs-appctl bond/set-active-member p1 p1", Lines),
    ("ovs-appctl cfm/set-fault true", Lines),
    ("ovs-appctl cfm/set-fault p1 true", Lines),
    ("ovs-appctl cfm/set-fault p1 maybe", Lines),
    ("ovs-appctl dpctl/offload-stats-show", Lines),
    ("ovs-appctl dpctl/offload-stats-show nosuch", Lines),
    ("ovs-appctl dpif-netdev/bond-show", Lines),
    ("ovs-appctl dpif-netdev/bond-show nosuch", Lines),
    ("ovs-appctl rstp/tcn", Lines),
    ("ovs-appctl rstp/tcn br0", Lines),
    ("ovs-appctl stp/tcn", Lines),
    ("ovs-appctl stp/tcn br9", Lines),
];

#[test]
fn usage_errors_and_what_is_not_configured_are_answered_as_by_ovs() {
    let mut pair = Pair::start();
    pair.bridge(3);
    for (line, compare) in ANSWERS {
        pair.same(line, *compare);
    }
    pair.finish();
}

/// Frames that a controller sends out, in the words of ofproto/trace. What a cached flow would match is another thing here.
#[test]
fn packet_outs_are_traced_as_by_ovs() {
    let mut pair = Pair::start();
    pair.bridge(3);
    let flows = [
        "table=0,priority=5,ip,actions=output:2",
        "table=1,ip,actions=mod_nw_dst:1.1.1.1,output:1",
        "table=2,ip,actions=output:3",
    ];
    pair.real.flows("br0", &flows);
    pair.ours.flows("br0", &flows);
    let packet = "020000000001020000000002080145";
    for words in [
        "in_port=1,ip 2",
        "in_port=1,ip table",
        "in_port=1,arp table",
        "in_port=1,ip resubmit(,0)",
        "in_port=1,ip resubmit(,1),output:2",
        "in_port=1,ip push_vlan:0x8100,2",
        "in_port=1,ip push_vlan:0x8100,pop_vlan,pop_vlan,2",
        "in_port=1,arp mod_nw_dst:1.2.3.4,2",
        "in_port=1,tcp --consistent mod_nw_dst:1.2.3.4,mod_tp_dst:80,2",
        "in_port=1,ip NORMAL",
        "in_port=1,ip -generate NORMAL",
        "in_port=1,ip all",
        "in_port=1,ip -generate 2",
        "in_port=1,ip --l7 0102 --generate 2",
        "in_port=77,ip 2",
        "in_port=controller,ip 2",
        "in_port=local,ip in_port",
        "in_port=1,ip output:99",
    ] {
        traced_alike(&mut pair, &format!("br0 {words}"));
    }
    traced_alike(&mut pair, &format!("br0 in_port=1 {packet} 2"));
    // OVS would look a frame up that no action is for, which no packet-out does.
    let drop = pair.ours.run("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip drop");
    assert!(drop.contains("Datapath actions: drop") && !drop.contains("priority 5"), "{drop}");
    // Behind the tracker OVS 3.1 gives such a frame up ("Recirculation conflict").
    let tracked = pair.ours.run("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip ct(table=2)");
    assert!(tracked.contains(" 2. ip, priority 32768"), "{tracked}");
    // Ours knows ports by name too.
    let named = pair.ours.run("ovs-appctl ofproto/trace-packet-out br0 in_port=1,ip output:p2");
    assert!(named.contains("output:2"), "{named}");
    // The datapath's numbers of ports are each one's own.
    let key = "in_port(p1),eth(),eth_type(0x0800),ipv4()";
    let ours = pair.ours.run(&format!("ovs-appctl ofproto/trace-packet-out {key} 2"));
    assert!(ours.contains("in_port=1") && ours.contains("output:2"), "{ours}");
    pair.finish();
}

fn traced_alike(pair: &mut Pair, words: &str) {
    let line = format!("ovs-appctl ofproto/trace-packet-out {words}");
    let [theirs, ours] = [pair.real.try_run(&line), pair.ours.try_run(&line)].map(|mut ran| {
        // Numbers of ports in the datapath are each one's own.
        let of_openflow = |l: &&str| !l.starts_with("Megaflow: ") && !l.starts_with("Datapath actions: ");
        ran.stdout = ran.stdout.lines().filter(of_openflow).collect::<Vec<_>>().join("\n");
        ran
    });
    pair.compare(&line, theirs, ours, Compare::Lines);
}

/// Each command of Debian's daemon is one of ours, or refused with the reason.
#[test]
fn every_command_of_ovs_is_answered_or_refused_with_the_reason() {
    let pair = Pair::start();
    let names = |daemon: &dyn Tools| -> Vec<String> {
        let text = daemon.run("ovs-appctl list-commands");
        text.lines().skip(1).filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect()
    };
    let (theirs, ours) = (names(&pair.real), names(&pair.ours));
    assert!(theirs.len() > 120, "{theirs:?}");
    for name in theirs.iter().filter(|name| !ours.contains(name)) {
        for arguments in ["", " a b c d"] {
            let refused = pair.ours.fails(&format!("ovs-appctl {name}{arguments}"));
            assert!(refused.starts_with(&format!("{name} is not supported: ")), "{name}: {refused}");
        }
    }
    // With arguments that OVS takes.
    for line in ["upcall/disable-megaflows", "upcall/disable-ufid", "tnl/egress_port_range 50000 60000"] {
        assert!(!pair.ours.fails(&format!("ovs-appctl {line}")).contains("valid command"), "{line}");
    }
    let range = pair.ours.run("ovs-appctl tnl/egress_port_range");
    assert_eq!(range, "Tunnel UDP source port range: 49152-65535\n");
}
