//! A frame sent after a barrier reply never takes the old way: hundreds of random changes under traffic, each frame
//! followed by its number to where exactly it may come out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sim::{Dice, NodeId, PortSpec, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PORTS: u8 = 4;
const SERVICES: u8 = 3;

/// What a rule does: nothing, or output to a port, perhaps with the service's number in the destination MAC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    Drop,
    To { port: u8, mark: u8 },
}

/// What the rules say: by ingress port and service, and by ingress port for the rest.
#[derive(Clone, Default)]
struct Model {
    services: BTreeMap<(u8, u8), Way>,
    rest: BTreeMap<u8, Way>,
}

impl Model {
    fn way(&self, port: u8, service: u8) -> Way {
        let way = self.services.get(&(port, service)).or_else(|| self.rest.get(&port));
        way.copied().unwrap_or(Way::Drop)
    }

    /// A random change, as flow_mods.
    fn change(&mut self, d: &mut Dice) -> Vec<String> {
        let port = 1 + d.below(PORTS.into()) as u8;
        let service = d.below(SERVICES.into()) as u8;
        let to = 1 + d.below(PORTS.into()) as u8;
        let way = if to == port { Way::Drop } else { Way::To { port: to, mark: d.below(3) as u8 } };
        let actions = match way {
            Way::Drop => "drop".to_owned(),
            Way::To { port, mark: 0 } => format!("output:{port}"),
            Way::To { port, mark } => format!("mod_dl_dst:02:00:00:00:99:{mark:02x},output:{port}"),
        };
        let of_service = format!("priority=10,in_port={port},udp,tp_dst={}", 1_000 + u16::from(service));
        match d.below(8) {
            0 => {
                self.services.remove(&(port, service));
                vec![format!("delete_strict {of_service}")]
            }
            1 => {
                self.services.retain(|(p, _), _| *p != port);
                vec![format!("delete in_port={port},udp")]
            }
            2 => {
                self.rest.insert(port, way);
                vec![format!("priority=1,in_port={port},actions={actions}")]
            }
            3 => {
                // A modification touches what is there, and only that.
                for (key, w) in &mut self.services {
                    if key.0 == port {
                        *w = way;
                    }
                }
                vec![format!("modify in_port={port},udp,actions={actions}")]
            }
            4 => {
                // There and back again: the last word counts.
                self.services.insert((port, service), way);
                vec![
                    format!("{of_service},actions=flood"),
                    format!("delete_strict {of_service}"),
                    format!("{of_service},actions={actions}"),
                ]
            }
            _ => {
                self.services.insert((port, service), way);
                vec![format!("{of_service},actions={actions}")]
            }
        }
    }
}

fn frame(id: u32, port: u8, service: u8) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, port], [2, 0, 0, 0, 0, 0xee]);
    let builder = builder.ipv4([10, 0, 0, port], [10, 0, 1, 1], 64).udp(7, 1_000 + u16::from(service));
    let mut out = Vec::new();
    builder.write(&mut out, &id.to_be_bytes()).unwrap();
    out
}

/// A frame's number and mark.
fn read(bytes: &[u8]) -> (u32, u8) {
    let mark = if bytes[4] == 0x99 { bytes[5] } else { 0 };
    (u32::from_be_bytes(bytes[42..46].try_into().unwrap()), mark)
}

struct Net {
    w: World,
    hosts: Vec<NodeId>,
    model: Model,
    /// Frames on their way, with every way that was right since they were sent.
    flying: BTreeMap<u32, (u8, u8, BTreeSet<Way>)>,
    sent: u32,
}

impl Net {
    fn new(seed: u64, workers: usize) -> Net {
        let mut w = World::seeded(seed, workers);
        w.add_bridge("br0");
        let mut hosts = Vec::new();
        for n in 1..=PORTS {
            w.add_port("br0", &format!("p{n}"), PortSpec::number(n.into()));
            hosts.push(w.add_raw(&format!("p{n}")));
        }
        w.flows("br0", ["delete"]);
        Net { w, hosts, model: Model::default(), flying: BTreeMap::new(), sent: 0 }
    }

    fn send(&mut self, port: u8, service: u8) {
        self.sent += 1;
        let ways = BTreeSet::from([self.model.way(port, service)]);
        self.flying.insert(self.sent, (port, service, ways));
        self.w.raw(self.hosts[usize::from(port) - 1]).send(frame(self.sent, port, service));
    }

    fn changed(&mut self) {
        for (port, service, ways) in self.flying.values_mut() {
            ways.insert(self.model.way(*port, *service));
        }
    }

    /// Lets everything come to rest; each frame must have taken exactly one of the ways that were right for it.
    fn land(&mut self, seed: u64) {
        self.w.settle();
        for (n, host) in self.hosts.clone().into_iter().enumerate() {
            for bytes in self.w.raw(host).take() {
                let (id, mark) = read(&bytes);
                let way = Way::To { port: n as u8 + 1, mark };
                let (port, service, ways) = self.flying.remove(&id).expect("a frame came out twice");
                assert!(
                    ways.contains(&way),
                    "seed {seed}: frame {id} from {port} to service {service} went {way:?}, not {ways:?}"
                );
            }
        }
        for (id, (port, service, ways)) in std::mem::take(&mut self.flying) {
            assert!(
                ways.contains(&Way::Drop),
                "seed {seed}: frame {id} from {port} to service {service} was lost; {ways:?}"
            );
        }
    }
}

/// Returns how many frames were looked up in vain although their flow was cached.
fn run(seed: u64, changes: u32) -> u64 {
    let d = &mut Dice::new(seed ^ 0xba55);
    let mut net = Net::new(seed, 1 + d.below(3) as usize);
    for _ in 0..changes {
        // Traffic that the change will find in every stage of its way.
        for _ in 0..d.below(12) {
            net.send(1 + d.below(PORTS.into()) as u8, d.below(SERVICES.into()) as u8);
            if d.one_in(3) {
                net.w.run_for(Duration::from_nanos(d.below(2_500)));
            }
        }
        let texts: Vec<String> = (0..1 + d.below(2)).flat_map(|_| net.model.change(d)).collect();
        texts.iter().for_each(|t| net.w.flow_mod("br0", t));
        let one_port = d.one_in(3).then(|| 1 + d.below(PORTS.into()) as u8);
        let errors = match one_port {
            Some(port) => net.w.barrier_during_receive("br0", &format!("p{port}")),
            None => net.w.barrier("br0"),
        };
        assert_eq!(errors, []);
        net.changed();
        // From here on only the new way will do.
        if let Some(port) = one_port {
            net.send(port, d.below(SERVICES.into()) as u8);
        } else {
            for port in 1..=PORTS {
                (0..SERVICES).for_each(|service| net.send(port, service));
            }
        }
        if one_port.is_some() || d.one_in(2) {
            net.land(seed);
        }
    }
    net.land(seed);
    net.w.tally().translations
}

#[test]
fn no_frame_sent_after_a_barrier_reply_takes_the_old_way() {
    for seed in 0..8 {
        let translations = run(seed, 100);
        assert!(translations > 200, "changes must have made translations necessary: {translations}");
    }
}

/// A rule whose frames all hit the cache is in use, though nobody has asked for what was counted there.
#[test]
fn rules_in_use_do_not_grow_old() {
    let mut net = Net::new(1, 2);
    net.w.flows(
        "br0",
        [
            "priority=2,in_port=1,udp,tp_dst=1000,idle_timeout=1,actions=output:2",
            "priority=1,in_port=1,actions=output:3",
        ],
    );
    for tenth in 0..50u32 {
        let host = net.hosts[0];
        net.w.raw(host).send(frame(tenth, 1, 0));
        net.w.run_for(Duration::from_millis(100));
    }
    let (two, three) = (net.hosts[1], net.hosts[2]);
    assert_eq!((net.w.raw(two).take().len(), net.w.raw(three).take().len()), (50, 0));
}

#[test]
fn rules_grow_old_in_virtual_time() {
    let mut net = Net::new(1, 2);
    net.w.flows(
        "br0",
        [
            "priority=2,in_port=1,udp,tp_dst=1000,idle_timeout=3,actions=output:2",
            "priority=2,in_port=1,udp,tp_dst=1001,hard_timeout=5,actions=output:2",
            "priority=1,in_port=1,actions=output:3",
        ],
    );
    // One frame a second to each service; to service 0 only in the first four seconds.
    for second in 0..12u32 {
        if second < 4 {
            let host = net.hosts[0];
            net.w.raw(host).send(frame(second, 1, 0));
        }
        let host = net.hosts[0];
        net.w.raw(host).send(frame(100 + second, 1, 1));
        if second == 11 {
            net.w.raw(host).send(frame(50, 1, 0));
        }
        net.w.run_for(Duration::from_secs(1));
    }
    let ids = |net: &mut Net, n: usize| -> Vec<u32> {
        let host = net.hosts[n];
        net.w.raw(host).take().iter().map(|b| read(b).0).collect()
    };
    let (two, three) = (ids(&mut net, 1), ids(&mut net, 2));
    assert_eq!(two.iter().filter(|n| **n < 100).collect::<Vec<_>>(), [&0, &1, &2, &3]);
    assert!(three.contains(&50), "idle for more than three seconds");
    let late: Vec<u32> = three.into_iter().filter(|n| *n >= 100).collect();
    // A rule that is due goes with the next tick, a tenth of a second at most.
    assert!(late == (105..112).collect::<Vec<_>>() || late == (106..112).collect::<Vec<_>>(), "{late:?}");
}
