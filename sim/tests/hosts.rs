//! Hosts with real TCP/IP stacks across one switch, in every way that a switch can carry them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sim::{Content, Fault, HostSpec, NodeId, PortSpec, WireSpec, World};
use std::time::Duration;
use switch::vlan::VlanConfig;

const LONG: Duration = Duration::from_secs(600);

/// Hosts 1 to `n` at ports p1 to pn (OpenFlow ports 1 to n) of bridge br0.
fn row(seed: u64, workers: usize, n: u8, wire: WireSpec) -> (World, Vec<NodeId>) {
    let mut w = World::seeded(seed, workers);
    w.add_bridge("br0");
    let hosts = (1..=n).map(|i| {
        w.add_port("br0", &format!("p{i}"), PortSpec::number(i.into()).wire(wire));
        w.add_host(&format!("p{i}"), HostSpec::number(i))
    });
    let hosts = hosts.collect();
    (w, hosts)
}

/// One connection from each host to the next, and back to the first.
fn ring(w: &mut World, hosts: &[NodeId], bytes: u64) {
    for (i, host) in hosts.iter().enumerate() {
        let next = (i + 1) % hosts.len();
        let content = Content { seed: i as u64 + 1, len: bytes };
        w.host(hosts[next]).receive(5_000, content);
        w.host(*host).send([10, 0, 0, next as u8 + 1], 5_000, content);
    }
}

fn received(w: &mut World, hosts: &[NodeId]) -> u64 {
    hosts.iter().map(|h| w.host(*h).progress()).sum()
}

#[test]
fn ping_udp_and_tcp_cross_a_learning_switch() {
    let (mut w, hosts) = row(1, 1, 3, WireSpec::default());
    w.host(hosts[0]).ping([10, 0, 0, 2], 20);
    w.host(hosts[1]).echo(7);
    w.host(hosts[2]).ask([10, 0, 0, 2], 7, 20);
    ring(&mut w, &hosts, 200_000);
    assert!(w.run_until_done(LONG));
    assert_eq!(received(&mut w, &hosts), 3 * 200_000 + 40);
    let tally = w.tally();
    assert!(tally.hits > 10 * tally.translations, "established traffic is served from the cache: {tally:?}");
}

#[test]
fn tcp_survives_bad_wires_with_several_workers() {
    for seed in 0..3 {
        let (mut w, hosts) = row(seed, 3, 4, WireSpec::bad(50));
        w.host(hosts[0]).ping([10, 0, 0, 4], 10);
        ring(&mut w, &hosts, 60_000);
        assert!(w.run_until_done(LONG), "seed {seed}");
        assert_eq!(received(&mut w, &hosts), 4 * 60_000 + 10, "seed {seed}");
    }
}

#[test]
fn tcp_crosses_output_rules_pipelines_and_registers() {
    let pipelines: [&[&str]; 4] = [
        &["in_port=1,actions=output:2", "in_port=2,actions=output:1", "priority=0,actions=drop"],
        &[
            "table=0,priority=0,actions=resubmit(,10)",
            "table=10,arp,actions=flood",
            "table=10,ip,nw_dst=10.0.0.1,actions=load:1->NXM_NX_REG0[0..15],resubmit(,20)",
            "table=10,ip,nw_dst=10.0.0.2,actions=load:2->NXM_NX_REG0[0..15],resubmit(,20)",
            "table=20,reg0=1,actions=output:1",
            "table=20,reg0=2,actions=output:NXM_NX_REG0[0..15]",
        ],
        &[
            "table=0,arp,actions=NORMAL",
            "table=0,tcp,actions=write_metadata:0x5,goto_table:3",
            "table=3,metadata=0x5,in_port=1,actions=write_actions(output:2),goto_table:4",
            "table=3,metadata=0x5,in_port=2,actions=write_actions(output:1),goto_table:4",
            "table=4,priority=1,tcp,actions=dec_ttl",
        ],
        &[
            "priority=0,actions=move:NXM_OF_IN_PORT[]->NXM_NX_REG1[0..15],resubmit(,1)",
            "table=1,reg1=1,actions=output:2",
            "table=1,reg1=2,actions=in_port,output:1",
        ],
    ];
    for (i, flows) in pipelines.iter().enumerate() {
        let (mut w, hosts) = row(i as u64, 2, 2, WireSpec::default());
        w.flows("br0", ["delete"].iter().chain(flows.iter()));
        ring(&mut w, &hosts, 100_000);
        assert!(w.run_until_done(LONG), "pipeline {i}");
    }
}

#[test]
fn vlans_reach_each_other_through_trunks_and_nobody_else() {
    let mut w = World::seeded(4, 2);
    // Two bridges with a trunk between them; VLANs 10 and 20 with the same addresses in both.
    for bridge in ["left", "right"] {
        w.add_bridge(bridge);
    }
    w.add_patch(("left", "to-right", 9), ("right", "to-left", 9));
    let host = |vlan: Option<u16>, n: u8| HostSpec { vlan, ..HostSpec::number(n) };
    let mut add = |bridge: &str, name: &str, vlan: VlanConfig, spec: HostSpec| {
        w.add_port(bridge, name, PortSpec::default().vlan(vlan));
        w.add_host(name, spec)
    };
    let ten = [
        add("left", "l10", VlanConfig::access(10), host(None, 1)),
        // A host that tags its own frames, behind a trunk.
        add("right", "r10", VlanConfig::trunk([10]), host(Some(10), 2)),
    ];
    let twenty = [
        add("left", "l20", VlanConfig::trunk([20, 30]), host(Some(20), 1)),
        add("right", "r20", VlanConfig::access(20), host(None, 2)),
    ];
    // Somebody with everybody's address, alone in a VLAN.
    let thirty = add("right", "r30", VlanConfig::access(30), host(None, 3));
    ring(&mut w, &ten, 100_000);
    ring(&mut w, &twenty, 100_000);
    w.host(thirty).ping([10, 0, 0, 1], 3);
    w.run_for(Duration::from_secs(60));
    for h in ten.iter().chain(&twenty) {
        assert!(w.host(*h).is_done());
    }
    assert_eq!(w.host(thirty).progress(), 0, "VLAN 30 has no other host that answers");
    // The trunk of VLANs 20 and 30 shows host 3's ARP requests to a host that is in VLAN 20 only; nobody else gets
    // anything that is not of its VLAN.
    assert!(w.host(twenty[0]).foreign() > 0);
    for h in [ten[0], ten[1], twenty[1], thirty] {
        assert_eq!(w.host(h).foreign(), 0);
    }
}

#[test]
fn static_rules_translate_addresses_and_ports_both_ways() {
    // Host 1 talks to 10.0.0.100:80, which is host 2's port 5000; host 2 sees 10.0.0.200 with another MAC.
    let (mut w, hosts) = row(6, 2, 2, WireSpec::bad(100));
    w.flows("br0", [
        "delete",
        "in_port=1,tcp,nw_dst=10.0.0.100,tp_dst=80,actions=mod_dl_src:02:00:00:00:02:c8,mod_nw_src:10.0.0.200,\
         set_field:02:00:00:00:01:02->eth_dst,set_field:10.0.0.2->ip_dst,set_field:5000->tcp_dst,output:2",
        "in_port=2,tcp,nw_dst=10.0.0.200,tp_src=5000,actions=mod_dl_src:02:00:00:00:02:64,mod_nw_src:10.0.0.100,\
         mod_tp_src:80,set_field:02:00:00:00:01:01->eth_dst,set_field:10.0.0.1->ip_dst,output:1",
        // The switch answers ARP for both: it turns the request round.
        "arp,arp_op=1,arp_tpa=10.0.0.100,actions=load:0x2->NXM_OF_ARP_OP[],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],\
         mod_dl_src:02:00:00:00:02:64,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],load:0x020000000264->NXM_NX_ARP_SHA[],\
         move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],load:0x0a000064->NXM_OF_ARP_SPA[],in_port",
        "arp,arp_op=1,arp_tpa=10.0.0.200,actions=load:0x2->NXM_OF_ARP_OP[],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],\
         mod_dl_src:02:00:00:00:02:c8,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],load:0x0200000002c8->NXM_NX_ARP_SHA[],\
         move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],load:0x0a0000c8->NXM_OF_ARP_SPA[],in_port",
    ]);
    let content = Content { seed: 9, len: 100_000 };
    w.host(hosts[1]).receive(5_000, content);
    w.host(hosts[0]).send([10, 0, 0, 100], 80, content);
    assert!(w.run_until_done(LONG));
}

#[test]
fn a_drop_rule_stops_a_transfer_and_its_removal_lets_it_go_on() {
    let (mut w, hosts) = row(7, 2, 2, WireSpec { bits_per_second: 100_000_000, ..WireSpec::default() });
    let content = Content { seed: 3, len: 300_000 };
    w.host(hosts[1]).receive(5_000, content);
    w.host(hosts[0]).send([10, 0, 0, 2], 5_000, content);
    w.run_for(Duration::from_millis(10));
    w.flows("br0", ["priority=100,tcp,tp_dst=5000,actions=drop"]);
    // What was forwarded before the barrier may still be on the wire.
    w.run_for(Duration::from_millis(10));
    let before = w.host(hosts[1]).progress();
    assert!(before > 0 && before < content.len, "the change came in the middle: {before}");
    w.run_for(Duration::from_secs(5));
    assert_eq!(w.host(hosts[1]).progress(), before);
    w.flows("br0", ["delete tcp,tp_dst=5000"]);
    assert!(w.run_until_done(LONG));
}

#[test]
fn transfers_outlive_starved_workers_cut_wires_and_devices_that_go_down() {
    let (mut w, hosts) = row(8, 2, 4, WireSpec::bad(200));
    ring(&mut w, &hosts, 400_000);
    let at = |w: &World, ms| w.now() + Duration::from_millis(ms);
    let faults = [
        (2, Fault::Starve { worker: 0, until: at(&w, 60) }),
        (3, Fault::WireCut("p2".into())),
        (40, Fault::WireMended("p2".into())),
        (50, Fault::DeviceDown("p3".into())),
        (120, Fault::DeviceUp("p3".into())),
        (130, Fault::Vanish { port: "p4".into(), after: 17 }),
        (1_500, Fault::Return("p4".into())),
        (400, Fault::Starve { worker: 1, until: at(&w, 450) }),
    ];
    for (ms, fault) in faults {
        let when = at(&w, ms);
        w.at(when, fault);
    }
    let done = w.run_until_done(LONG);
    let got: Vec<u64> = hosts.iter().map(|h| w.host(*h).progress()).collect();
    assert!(done, "{got:?}");
    assert!(w.total().drops.total() > 0);
}
