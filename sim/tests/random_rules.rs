//! Random rules, random frames, random VLANs, changes in between: every frame must come out exactly where a naive
//! interpreter says, byte for byte, and nowhere else. One frame at a time, so that the order of learning is known.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod rules;

use rules::{Fields, Model, PORTS, Vlans};
use sim::{Dice, NodeId, PortSpec, World};
use std::collections::BTreeMap;

fn world(seed: u64, model: &mut Model, d: &mut Dice) -> (World, BTreeMap<u16, NodeId>) {
    let mut w = World::seeded(seed, 1 + d.below(3) as usize);
    w.add_bridge("br0");
    let mut hosts = BTreeMap::new();
    for n in 1..=PORTS {
        let vlans = Vlans::random(d);
        w.add_port("br0", &format!("p{n}"), PortSpec::number(n).vlan(vlans.config()));
        hosts.insert(n, w.add_raw(&format!("p{n}")));
        model.vlans.insert(n, vlans);
    }
    let default = model.add_default();
    w.flows("br0", ["delete".to_owned(), default]);
    (w, hosts)
}

fn change_vlans(w: &mut World, model: &mut Model, d: &mut Dice) {
    let (n, vlans) = (1 + d.below(PORTS.into()) as u16, Vlans::random(d));
    let config = vlans.config();
    let same = w.brain().bridges().any(|b| b.config.ports[&format!("p{n}")].vlan == config);
    w.edit_bridge("br0", |b| b.ports.get_mut(&format!("p{n}")).unwrap().vlan = config);
    model.vlans.insert(n, vlans);
    if !same {
        // As OVS: stations of a port whose VLANs change are forgotten.
        model.stations.retain(|_, port| *port != n);
    }
}

fn run(seed: u64, frames: u32) -> sim::Tally {
    let d = &mut Dice::new(seed);
    let mut model = Model::new(d);
    let (mut w, hosts) = world(seed, &mut model, d);
    let mut known: Vec<Fields> = Vec::new();
    for id in 0..frames {
        if d.one_in(8) {
            let texts: Vec<String> = (0..1 + d.below(4)).flat_map(|_| model.change(d)).collect();
            w.flows("br0", &texts);
        }
        if d.one_in(40) {
            change_vlans(&mut w, &mut model, d);
        }
        // Flows come again, so that the cache has something to say.
        let frame = match d.below(6) {
            _ if known.is_empty() => Fields::random(d, id),
            0 => Fields::random(d, id),
            1 | 2 => d.of(&known).vary(d, id),
            _ => d.of(&known),
        };
        known.push(frame.clone());
        let old = known.len().saturating_sub(8);
        known.drain(..old);
        let verdict = model.judge(&frame);
        w.raw(hosts[&frame.in_port]).send(frame.bytes());
        w.settle();
        model.learn(&verdict);
        for (n, host) in &hosts {
            let wanted: Vec<Vec<u8>> =
                verdict.outputs.iter().filter(|(p, _)| p == n).map(|(_, f)| f.bytes()).collect();
            let got = w.raw(*host).take();
            let rules: Vec<String> =
                model.rules.iter().map(|((t, p), r)| rules::rule_text(*t, *p, r)).collect();
            assert_eq!(
                got,
                wanted,
                "seed {seed}, frame {id} at port {n}: {frame:?}\n{}\n{:?}\n{:?}",
                rules.join("\n"),
                model.vlans,
                model.stations
            );
        }
    }
    w.tally()
}

#[test]
fn frames_come_out_where_a_naive_interpreter_says() {
    let (mut hits, mut outputs, mut frames) = (0, 0, 0);
    for seed in 0..40 {
        let t = run(seed, 200);
        (hits, outputs, frames) = (hits + t.hits, outputs + t.outputs, frames + t.frames);
    }
    // Worth something only if the cache is used and frames come out.
    assert!(hits > frames / 4 && outputs > frames, "{hits} hits, {outputs} outputs, {frames} frames");
}
