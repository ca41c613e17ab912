//! Connections through the tracker: hosts with real TCP/IP stacks behind stateful rules, Services (DNAT), masquerade (SNAT)
//! and both at once, over wires that lose, double and reorder; and random rules with `ct` under random frames. The oracle
//! looks every connection up in a tracker of its own, so what the workers' caches remember of connections is judged frame by
//! frame.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use packet::{FrameBuilder, slot};
use sim::{Content, Dice, HostSpec, NodeId, PortSpec, WireSpec, World};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(900);

fn world(seed: u64, workers: usize, n: u8, wire: WireSpec) -> (World, Vec<NodeId>) {
    let mut w = World::seeded(seed, workers);
    w.add_bridge("br0");
    let hosts = (1..=n).map(|i| {
        w.add_port("br0", &format!("p{i}"), PortSpec::number(i.into()).wire(wire));
        w.add_host(&format!("p{i}"), HostSpec::number(i))
    });
    let hosts = hosts.collect();
    (w, hosts)
}

/// A rule that answers ARP requests for an address that no host has.
fn arp_answer(last: u8) -> String {
    format!(
        "table=0,priority=200,arp,arp_op=1,arp_tpa=10.0.0.{last},actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],\
         set_field:02:00:00:00:02:{last:02x}->eth_src,load:2->NXM_OF_ARP_OP[],\
         move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],\
         set_field:02:00:00:00:02:{last:02x}->arp_sha,set_field:10.0.0.{last}->arp_spa,in_port"
    )
}

/// Rules of a table that send a packet to the host whose address it has, with that host's MAC.
fn deliver(table: u8, hosts: u8) -> Vec<String> {
    (1..=hosts)
        .map(|n| {
            format!(
                "table={table},priority=10,ip,nw_dst=10.0.0.{n},actions=set_field:02:00:00:00:01:{n:02x}->eth_dst,output:{n}"
            )
        })
        .collect()
}

/// The rules of one scene, beside those that all have.
fn rules(w: &mut World, hosts: u8, scene: &[&str]) {
    let mut all = vec!["delete".to_owned(), "table=0,priority=100,arp,actions=NORMAL".to_owned()];
    all.extend(scene.iter().map(|r| (*r).to_owned()));
    all.extend(deliver(9, hosts));
    w.flows("br0", all);
}

fn transfer(w: &mut World, from: NodeId, via: [u8; 4], to: NodeId, bytes: u64) {
    let content = Content { seed: bytes, len: bytes };
    w.host(to).receive(5_000, content);
    w.host(from).send(via, 5_000, content);
}

#[test]
fn what_a_client_began_may_be_answered_and_nothing_else() {
    let (mut w, hosts) = world(1, 2, 3, WireSpec::default());
    let scene = [
        "table=0,priority=10,ip,actions=ct(table=1)",
        "table=1,priority=20,ct_state=+trk+new,in_port=1,ip,actions=ct(commit),resubmit(,9)",
        "table=1,priority=20,ct_state=+trk+est,actions=resubmit(,9)",
        "table=1,priority=1,actions=drop",
    ];
    rules(&mut w, 3, &scene);
    transfer(&mut w, hosts[0], [10, 0, 0, 2], hosts[1], 200_000);
    w.host(hosts[0]).ping([10, 0, 0, 3], 5);
    // Host 3 may not begin anything.
    transfer(&mut w, hosts[2], [10, 0, 0, 1], hosts[0], 1_000);
    w.run_for(Duration::from_secs(30));
    assert_eq!(w.host(hosts[1]).progress(), 200_000);
    assert_eq!(w.host(hosts[0]).progress(), 5, "five pings were answered, and nothing was received");
    let tally = w.tally();
    assert!(tally.hits > 5 * tally.translations, "established traffic is served from the cache: {tally:?}");
}

/// A client that begins before the rules allow it is let through by the first packet after they do, and stopped by the first
/// packet after they do not.
#[test]
fn changed_rules_bite_established_connections_at_once() {
    let (mut w, hosts) = world(2, 1, 2, WireSpec::default());
    let scene = [
        "table=0,priority=10,ip,actions=ct(table=1)",
        "table=1,priority=20,ct_state=+trk+new,ip,actions=ct(commit),resubmit(,9)",
        "table=1,priority=20,ct_state=+trk+est,actions=resubmit(,9)",
    ];
    rules(&mut w, 2, &scene);
    transfer(&mut w, hosts[0], [10, 0, 0, 2], hosts[1], 6_000_000);
    for _ in 0..10_000 {
        w.run_for(Duration::from_nanos(200));
        if w.host(hosts[1]).progress() > 100_000 {
            break;
        }
    }
    let before = w.host(hosts[1]).progress();
    assert!(before > 100_000 && before < 6_000_000, "{before}");
    w.flows("br0", ["table=1,priority=30,ct_state=+trk+est,ip,in_port=1,actions=drop"]);
    let at_change = w.host(hosts[1]).progress();
    w.run_for(Duration::from_millis(50));
    assert!(w.host(hosts[1]).progress() - at_change < 70_000, "only what was on the wire arrives");
    w.flows("br0", ["delete_strict table=1,priority=30,ct_state=+trk+est,ip,in_port=1"]);
    assert!(w.run_until_done(LONG));
}

/// Zone 1 turns the Service's address into a backend's, zone 2 hides the client behind the node's. Client and server may be
/// the same host: a pod that reaches itself through its Service.
const SERVICE: [&str; 9] = [
    // From the servers' side: out of the masquerade first, then back to the Service's address.
    "table=0,priority=30,ip,nw_dst=10.0.0.50,actions=ct(zone=2,nat,table=5)",
    "table=5,priority=10,ct_state=+trk+est,ip,actions=ct(zone=1,nat,table=9)",
    // From the clients' side.
    "table=0,priority=20,ip,nw_dst=10.0.0.100,actions=ct(zone=1,nat,table=1)",
    "table=1,priority=20,ct_state=+trk+new,ip,actions=ct(commit,zone=1,nat(dst=10.0.0.2),exec(set_field:7->ct_mark)),ct(zone=2,table=2)",
    "table=1,priority=20,ct_state=+trk+est,ip,actions=ct(zone=2,nat,table=2)",
    "table=2,priority=20,ct_state=+trk+new,ip,actions=ct(commit,zone=2,nat(src=10.0.0.50)),resubmit(,9)",
    "table=2,priority=20,ct_state=+trk+est,ip,actions=resubmit(,9)",
    "table=2,priority=5,actions=drop",
    "table=0,priority=1,actions=drop",
];

#[test]
fn tcp_reaches_a_service_behind_a_masquerade_over_bad_wires() {
    for (seed, wire) in [WireSpec::default(), WireSpec::bad(20), WireSpec::bad(60)].into_iter().enumerate() {
        let (mut w, hosts) = world(10 + seed as u64, 1 + seed, 4, wire);
        rules(&mut w, 4, &SERVICE);
        w.flows("br0", [arp_answer(100), arp_answer(50)]);
        for (n, client) in [hosts[0], hosts[2], hosts[3]].into_iter().enumerate() {
            let content = Content { seed: n as u64, len: 80_000 };
            w.host(hosts[1]).receive(6_000 + n as u16, content);
            w.host(client).send([10, 0, 0, 100], 6_000 + n as u16, content);
        }
        assert!(w.run_until_done(LONG), "seed {seed}");
        assert_eq!(w.host(hosts[1]).progress(), 240_000, "seed {seed}");
    }
}

/// A datagram to the Service from the pod that serves it comes back to it.
#[test]
fn a_pod_reaches_itself_through_its_service() {
    let (mut w, hosts) = world(20, 2, 2, WireSpec::default());
    rules(&mut w, 2, &SERVICE);
    // The frame goes back to where it came from, which `output` refuses.
    w.flows("br0", [
        arp_answer(100),
        arp_answer(50),
        "table=9,priority=20,in_port=2,ip,nw_dst=10.0.0.2,actions=set_field:02:00:00:00:01:02->eth_dst,in_port".to_owned(),
    ]);
    w.host(hosts[1]).echo(7);
    w.host(hosts[1]).ask([10, 0, 0, 100], 7, 20);
    w.host(hosts[0]).ask([10, 0, 0, 100], 7, 20);
    assert!(w.run_until_done(LONG));
    assert_eq!(w.host(hosts[0]).progress() + w.host(hosts[1]).progress(), 40);
}

/// Rules with `ct` for random frames. Marks, labels, zones from fields, clones and further passes.
const RANDOM: [&str; 16] = [
    "table=0,priority=10,ip,actions=ct(table=1)",
    "table=0,priority=11,ip,in_port=2,actions=ct(table=1,nat)",
    "table=0,priority=12,ip,in_port=3,actions=ct(table=1,zone=NXM_OF_IN_PORT[])",
    "table=0,priority=13,udp,tp_dst=81,actions=mod_nw_dst:10.0.0.3,ct(table=1,nat),output:4",
    "table=0,priority=14,udp,tp_dst=82,actions=clone(ct(commit,zone=4),output:2),ct(zone=4,table=2)",
    "table=0,priority=9,ipv6,actions=ct(table=1)",
    "table=1,priority=20,ct_state=+trk+new,ip,actions=ct(commit,exec(set_field:5->ct_mark,move:NXM_OF_IN_PORT[]->NXM_NX_CT_LABEL[0..15])),output:2",
    "table=1,priority=21,ct_state=+trk+new,tcp,actions=ct(commit,nat(src=10.0.0.60-10.0.0.61:1000-1003)),NORMAL",
    "table=1,priority=22,ct_state=+trk+new,udp,actions=ct(commit,nat(dst=10.0.0.3),table=2),output:5",
    "table=1,priority=20,ct_state=+trk+est,ct_mark=5,actions=output:3",
    "table=1,priority=19,ct_state=+trk+est-rpl,actions=ct_clear,resubmit(,3)",
    "table=1,priority=18,ct_state=+trk+est+rpl,ip,actions=ct(commit,exec(set_field:0x6/0x6->ct_mark)),output:1",
    "table=1,priority=30,ct_state=+inv+trk,actions=output:5",
    "table=2,priority=10,ct_state=+trk,ip,actions=ct(zone=9,table=3),output:1",
    "table=3,priority=10,ct_state=-trk,actions=output:4",
    "table=3,priority=10,ct_state=+trk,ct_zone=9,ip,actions=ct(commit,zone=9),NORMAL",
];

fn frame(d: &mut Dice) -> Vec<u8> {
    let (a, b) = (0x0a00_0001 + d.below(3) as u32, 0x0a00_0001 + d.below(3) as u32);
    let (sport, dport) = (1_000 + d.below(3) as u16, 80 + d.below(3) as u16);
    let (from, to) = if d.one_in(2) { ((a, sport), (b, dport)) } else { ((b, dport), (a, sport)) };
    let builder = match d.below(8) {
        0..=2 => FrameBuilder::tcp4(from, to, d.of(&[0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x00, 0x29])),
        3..=5 => FrameBuilder::udp4(from, to),
        6 => FrameBuilder::icmp4(from.0, to.0, d.of(&[8, 0]), 0),
        _ => FrameBuilder::udp6(
            (0xfe80 << 112 | u128::from(from.0), from.1),
            (0xfe80 << 112 | u128::from(to.0), to.1),
        ),
    };
    let mac = |ip: u32| 0x0200_0000_0100 + u64::from(ip & 0xff);
    let builder = builder.macs(mac(from.0), mac(to.0));
    let builder = if d.one_in(12) { builder.set(slot::NW_FRAG, d.of(&[1, 3])) } else { builder };
    let mut bytes = builder.payload(&vec![7; d.below(40) as usize]).build();
    if d.one_in(20) {
        let at = d.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << d.below(8);
    }
    bytes
}

/// The oracle compares every output, drop and translation of these frames with a tracker that remembers no shortcut.
#[test]
fn chains_equal_look_ups_whatever_comes_and_changes() {
    let (mut hits, mut translations, mut outputs) = (0, 0, 0);
    for seed in 0..24 {
        let d = &mut Dice::new(seed ^ 0xc7);
        let mut w = World::seeded(seed, 1);
        w.add_bridge("br0");
        let hosts: Vec<NodeId> = (1..=5)
            .map(|n| {
                w.add_port("br0", &format!("p{n}"), PortSpec::number(n));
                w.add_raw(&format!("p{n}"))
            })
            .collect();
        w.flows("br0", ["delete"]);
        w.flows("br0", RANDOM.iter().filter(|_| !d.one_in(5)));
        let known: Vec<Vec<u8>> = (0..60).map(|_| frame(d)).collect();
        for _ in 0..12 {
            for _ in 0..d.below(150) {
                let bytes = if d.one_in(10) { frame(d) } else { d.of(&known) };
                let host = d.of(&hosts);
                w.raw(host).send(bytes);
            }
            w.run_for(Duration::from_nanos(d.below(200_000)));
            match d.below(6) {
                0 => w.flows("br0", [d.of(&RANDOM)]),
                1 => w.flows("br0", ["delete table=3"]),
                2 => w.run_for(Duration::from_secs(d.below(100))),
                _ => {}
            }
            for host in &hosts {
                w.raw(*host).take();
            }
        }
        w.settle();
        let t = w.tally();
        (hits, translations, outputs) = (hits + t.hits, translations + t.translations, outputs + t.outputs);
    }
    assert!(hits > 10_000 && translations > 2_000 && outputs > 5_000, "{hits} {translations} {outputs}");
}
