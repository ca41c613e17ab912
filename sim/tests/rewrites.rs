//! A write that changes nothing is left out of the program. So a frame that already is what a rewrite makes of others, and
//! those others, must never share a cached flow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use etherparse::{PacketBuilder, VlanId};
use sim::{PortSpec, World};

/// What comes out of port 2 for frames that come in at port 1, under one rule.
fn through(rule: &str, frames: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut w = World::seeded(1, 1);
    w.add_bridge("br0");
    (1..=2).for_each(|n| w.add_port("br0", &format!("p{n}"), PortSpec::number(n)));
    let (a, b) = (w.add_raw("p1"), w.add_raw("p2"));
    w.flows("br0", ["delete", rule]);
    for frame in frames {
        w.raw(a).send(frame.to_vec());
        w.settle();
    }
    w.raw(b).take()
}

fn frame(vlan: Option<u16>, tcp: bool) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (src, dst) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let ip = match vlan {
        Some(vid) => ethernet.single_vlan(VlanId::try_new(vid).unwrap()).ipv4(src, dst, 64),
        None => ethernet.ipv4(src, dst, 64),
    };
    let mut out = Vec::new();
    match tcp {
        true => ip.tcp(1_000, 80, 1, 2).write(&mut out, b"payload").unwrap(),
        false => ip.udp(1_000, 80).write(&mut out, b"payload").unwrap(),
    }
    out
}

#[test]
fn frames_that_need_a_rewrite_and_frames_that_do_not_are_told_apart() {
    let plain = [
        "ip,actions=mod_dl_src:02:00:00:00:00:99",
        "ip,actions=mod_dl_dst:02:00:00:00:00:99",
        "ip,actions=mod_nw_src:10.0.0.99",
        "ip,actions=mod_nw_dst:10.0.0.99",
        "ip,actions=mod_nw_tos:32",
        "ip,actions=mod_nw_ecn:2",
        "ip,actions=mod_nw_ttl:9",
        "tcp,actions=mod_tp_src:99",
        "tcp,actions=mod_tp_dst:99",
        "udp,actions=mod_tp_src:99",
        "udp,actions=mod_tp_dst:99",
        "ip,actions=mod_vlan_vid:9",
        "ip,actions=mod_vlan_pcp:3",
        "ip,actions=set_field:02:00:00:00:00:99->eth_dst",
        "ip,actions=set_field:10.0.0.128/0.0.0.128->ip_src",
        "ip,actions=set_field:9->nw_ttl",
        "udp,actions=set_field:0x100/0x100->udp_dst",
        "tcp,actions=load:99->NXM_OF_TCP_DST[0..7]",
        "tcp,actions=move:NXM_OF_TCP_SRC[]->NXM_OF_TCP_DST[]",
        "ip,actions=move:NXM_OF_IP_SRC[0..7]->NXM_OF_IP_DST[0..7]",
    ];
    let tagged = [
        "ip,dl_vlan=5,actions=mod_vlan_pcp:3",
        "vlan_tci=0x1000/0x1000,actions=mod_vlan_vid:9",
        "vlan_tci=0x1000/0x1000,actions=set_field:0x1009->vlan_vid",
    ];
    let cases = plain.iter().map(|r| (r, None)).chain(tagged.iter().map(|r| (r, Some(5))));
    for (rule, vlan) in cases {
        let before = frame(vlan, rule.starts_with("tcp"));
        let rule = format!("{rule},output:2");
        let [after] = &through(&rule, &[&before])[..] else { panic!("{rule}: one frame comes out") };
        assert_ne!(*after, before, "{rule}");
        let out = through(&rule, &[after, &before, after, &before]);
        assert_eq!(out, vec![after.clone(); 4], "{rule}");
    }
}
