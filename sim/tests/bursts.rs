//! Random rules with recirculation, random, foreign and damaged frames, in bursts over several workers, with changes and
//! faults in between. Where frames go is the oracle's business here: each is compared with a fresh translation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod rules;

use datapath::{CacheLimits, MissLimits, WorkerConfig};
use packet::{FrameBuilder, slot};
use rules::{Fields, Model, PORTS, Vlans, mac};
use sim::{Dice, Fault, NodeId, PortSpec, Tally, WireSpec, World, WorldSpec};
use std::time::Duration;

/// Rules that the model does not know: MPLS, which needs parsing anew, IPv6, ARP, learning by copies, controllers.
const FURTHER: [&str; 10] = [
    "table=0,priority=30,dl_type=0x8847,actions=pop_mpls:0x0800,resubmit(,1)",
    "table=0,priority=31,dl_type=0x8847,mpls_label=2,actions=pop_mpls:0x0800,goto_table:2",
    "table=1,priority=30,ip,nw_dst=10.0.0.1,actions=push_mpls:0x8847,set_field:7->mpls_label,output:2",
    "table=0,priority=32,icmp6,actions=NORMAL",
    "table=0,priority=33,ipv6,ipv6_dst=fe80::1/127,actions=set_field:fe80::9->ipv6_dst,output:1,NORMAL",
    "table=0,priority=34,arp,arp_op=1,actions=controller,flood",
    "table=0,priority=35,tcp,tcp_flags=+syn-ack,actions=output:3",
    "table=0,priority=36,ip,nw_tos=16,actions=mod_nw_tos:32,all",
    "table=0,priority=37,ip,nw_ttl=1,actions=output(port=4,max_len=60)",
    "table=0,priority=38,ip,ip_frag=later,actions=output:5",
];

fn strange_frame(d: &mut Dice) -> Vec<u8> {
    let (src, dst) =
        (mac(1 + d.below(4)), d.of(&[mac(1), mac(2), mac(3), 0xffff_ffff_ffff, 0x0180_c200_0000]));
    let ip = |d: &mut Dice| 0x0a00_0000 + d.below(6) as u32;
    let builder = match d.below(8) {
        0 => FrameBuilder::udp4((ip(d), 1), (ip(d), 80)).set(slot::MPLS_LSE0, 0),
        1 | 2 => {
            let label = d.below(4) as u128;
            let mut frame =
                FrameBuilder::udp4((ip(d), 1), (ip(d), 80)).macs(src, dst).payload(&[1; 20]).build();
            frame[12..14].copy_from_slice(&[0x88, 0x47]);
            let bottom = u128::from(!d.one_in(4));
            let lse = (label << 12 | bottom << 8 | 64) as u32;
            frame.splice(14..14, lse.to_be_bytes());
            return frame;
        }
        3 => FrameBuilder::udp6((0xfe80 << 112, 1), ((0xfe80 << 112) + u128::from(d.below(4)), 2)),
        4 => FrameBuilder::icmp6(0xfe80 << 112, (0xfe80 << 112) + 1, d.of(&[128, 135, 136]), 0),
        5 => FrameBuilder::arp(d.of(&[1, 2]), (src, ip(d)), (dst, ip(d))),
        6 => FrameBuilder::tcp4((ip(d), 1), (ip(d), 80), d.of(&[2, 0x12, 0x10])),
        _ => {
            let frame = FrameBuilder::ipv4(ip(d), ip(d), 17).set(slot::NW_TTL, d.below(3) as u128);
            let frame = frame.set(slot::NW_TOS, d.of(&[0, 16, 32]));
            frame.set(slot::NW_FRAG, d.of(&[0, 1, 3]))
        }
    };
    let builder = builder.macs(src, dst);
    let builder = if d.one_in(4) { builder.vlan(0x8100, d.of(&[5, 6, 7, 0x6005])) } else { builder };
    builder.payload(&vec![7; d.below(80) as usize]).build()
}

/// A frame of any kind, sometimes damaged.
fn any_frame(d: &mut Dice, plain: &mut Vec<Fields>, id: u32) -> Vec<u8> {
    let mut bytes = match d.below(4) {
        0 | 1 => strange_frame(d),
        2 if plain.len() > 3 => {
            let f = d.of(plain).vary(d, id);
            plain.remove(0);
            plain.push(f.clone());
            f.bytes()
        }
        _ => {
            let f = Fields::random(d, id);
            plain.push(f.clone());
            f.bytes()
        }
    };
    match d.below(16) {
        0 => bytes.truncate(d.below(bytes.len() as u64 + 1) as usize),
        1 => {
            for _ in 0..1 + d.below(4) {
                let at = d.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << d.below(8);
            }
        }
        2 => bytes.extend(vec![0; d.below(400) as usize]),
        _ => {}
    }
    bytes
}

fn change(w: &mut World, model: &mut Model, d: &mut Dice) {
    match d.below(12) {
        0..=6 => {
            let texts: Vec<String> = (0..1 + d.below(3)).flat_map(|_| model.change(d)).collect();
            w.flows("br0", &texts);
        }
        7 => {
            let further = d.of(&FURTHER);
            w.flows("br0", [further]);
        }
        8 => {
            let (n, vlan) = (1 + d.below(PORTS.into()), Vlans::random(d).config());
            w.edit_bridge("br0", |b| {
                if let Some(port) = b.ports.get_mut(&format!("p{n}")) {
                    port.vlan = vlan;
                }
            });
        }
        9 => {
            let (at, port) =
                (w.now() + Duration::from_nanos(d.below(5_000)), format!("p{}", 1 + d.below(PORTS.into())));
            let fault = match d.below(6) {
                0 => Fault::Vanish { port, after: d.below(40) },
                1 => Fault::Return(port),
                2 => Fault::WireCut(port),
                3 => Fault::WireMended(port),
                4 => Fault::HandOver { port, worker: d.below(3) as usize },
                _ => Fault::Starve {
                    worker: d.below(3) as usize,
                    until: at + Duration::from_micros(d.below(50)),
                },
            };
            w.at(at, fault);
        }
        10 => w.edit_bridge("br0", |b| b.forward_bpdu ^= true),
        _ => w.run_for(Duration::from_secs(d.below(200))),
    }
}

/// Caches of all sizes: in small ones flows make room for each other within one batch.
fn a_worker_config(d: &mut Dice) -> WorkerConfig {
    let sizes = [CacheLimits::default().flows, 40, 9, 3, 0];
    let flows = d.of(&sizes);
    let misses = d.of(&[MissLimits::default(), MissLimits { rate: 100_000, burst: 30 }]);
    WorkerConfig {
        cache: CacheLimits { flows, flows_per_port: flows, ..CacheLimits::default() },
        misses,
        ..WorkerConfig::default()
    }
}

fn run(seed: u64, rounds: u32) -> Tally {
    let d = &mut Dice::new(seed ^ 0xb0b);
    let mut model = Model::new(d);
    let mut w = World::new(WorldSpec { seed, workers: 1 + d.below(3) as usize, config: a_worker_config(d) });
    w.add_bridge("br0");
    let mut hosts: Vec<NodeId> = Vec::new();
    for n in 1..=PORTS {
        let spec = PortSpec::number(n).vlan(Vlans::random(d).config()).wire(WireSpec::bad(30));
        w.add_port("br0", &format!("p{n}"), spec);
        hosts.push(w.add_raw(&format!("p{n}")));
    }
    let default = model.add_default();
    w.flows("br0", ["delete".to_owned(), default]);
    w.flows("br0", (0..d.below(10)).map(|_| d.of(&FURTHER)).collect::<Vec<_>>());
    let (mut known, mut plain): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for id in 0..d.below(200) as u32 {
            let bytes =
                if known.len() < 8 || d.one_in(6) { any_frame(d, &mut plain, id) } else { d.of(&known) };
            if known.len() < 400 {
                known.push(bytes.clone());
            }
            let host = d.of(&hosts);
            w.raw(host).send(bytes);
        }
        w.run_for(Duration::from_nanos(d.below(20_000)));
        change(&mut w, &mut model, d);
        if d.one_in(4) {
            w.settle();
        }
        for host in &hosts {
            w.raw(*host).take();
        }
    }
    w.settle();
    w.tally()
}

#[test]
fn every_hit_equals_a_fresh_translation_whatever_comes_and_changes() {
    let mut sum = Tally::default();
    for seed in 0..24 {
        let t = run(seed, 24);
        sum.hits += t.hits;
        sum.translations += t.translations;
        sum.outputs += t.outputs;
        sum.frames += t.frames;
    }
    assert!(sum.hits > 10_000 && sum.translations > 2_000 && sum.outputs > 10_000, "{sum:?}");
}
