//! What a switch owes its users beyond rules: stations that move, ports that go, neighbours that flood, counters that add up,
//! and the same world again from the same seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use datapath::port::capture::CaptureReader;
use datapath::{CacheLimits, Drop, MissLimits, WorkerConfig};
use sim::{Content, Dice, Fault, FrameEvent, HostSpec, NodeId, PortSpec, WireSpec, World, WorldSpec};
use std::time::Duration;
use switch::vlan::VlanConfig;

fn udp(src: u8, dst: u8, sport: u16, payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, src], [2, 0, 0, 0, 0, dst]);
    let mut out = Vec::new();
    builder.ipv4([10, 0, 0, src], [10, 0, 0, dst], 64).udp(sport, 9).write(&mut out, payload).unwrap();
    out
}

fn raws(w: &mut World, ports: u16, wire: WireSpec) -> Vec<NodeId> {
    w.add_bridge("br0");
    let port = |w: &mut World, n: u16| {
        w.add_port("br0", &format!("p{n}"), PortSpec::number(n).wire(wire));
        w.add_raw(&format!("p{n}"))
    };
    (1..=ports).map(|n| port(w, n)).collect()
}

#[test]
fn a_station_is_found_where_it_was_seen_last() {
    let mut w = World::seeded(1, 2);
    let hosts = raws(&mut w, 4, WireSpec::default());
    let d = &mut Dice::new(11);
    let mut home = None;
    for round in 0..300u16 {
        // Host 9 shows itself at some port, and host 1 talks to it from port 4.
        if d.one_in(3) {
            let at = d.below(3) as usize;
            w.raw(hosts[at]).send(udp(9, 0xfe, round, b"here"));
            home = Some(at);
            w.settle();
        }
        hosts.iter().for_each(|h| drop(w.raw(*h).take()));
        let talk = udp(1, 9, round, b"talk");
        w.raw(hosts[3]).send(talk.clone());
        w.settle();
        for (n, host) in hosts.iter().enumerate().take(3) {
            let wanted = if home.is_none_or(|at| at == n) { vec![talk.clone()] } else { vec![] };
            assert_eq!(w.raw(*host).take(), wanted, "round {round}: station at {home:?}, seen at port {n}");
        }
    }
    // Three hundred seconds without a word and it is forgotten: everybody hears what is for it.
    w.run_for(Duration::from_secs(301));
    w.raw(hosts[3]).send(udp(1, 9, 1, b"talk"));
    w.settle();
    assert!(hosts[..3].iter().all(|h| w.raw(*h).take().len() == 1));
}

#[test]
fn a_station_that_talks_is_not_forgotten_and_one_that_talks_to_itself_is_not_heard() {
    let mut w = World::seeded(12, 1);
    let hosts = raws(&mut w, 3, WireSpec::default());
    w.raw(hosts[1]).send(udp(7, 8, 1, b"first"));
    w.settle();
    // It talks through one cached flow, for longer than a silent station is remembered, and nothing else changes.
    for second in 0..200u32 {
        w.raw(hosts[0]).send(udp(9, 8, 1, b"talk"));
        w.run_for(Duration::from_secs(2));
        hosts.iter().for_each(|h| drop(w.raw(*h).take()));
        w.raw(hosts[1]).send(udp(7, 9, 1, b"answer"));
        w.settle();
        assert_eq!(w.raw(hosts[0]).take().len(), 1, "after {second} seconds");
        assert_eq!(w.raw(hosts[2]).take().len(), 0, "after {second} seconds");
    }
    // A frame to its own sender is for nobody else: the sender is where the frame came from.
    for _ in 0..3 {
        w.raw(hosts[0]).send(udp(66, 66, 1, b"echo"));
        w.settle();
        assert!(hosts.iter().all(|h| w.raw(*h).take().is_empty()));
    }
}

#[test]
fn a_transfer_follows_a_host_that_moves_to_another_port() {
    let mut w = World::seeded(2, 2);
    w.add_bridge("br0");
    for n in 1..=3 {
        let wire = WireSpec { bits_per_second: 100_000_000, ..WireSpec::default() };
        w.add_port("br0", &format!("p{n}"), PortSpec::number(n).wire(wire));
    }
    let (a, b) = (w.add_host("p1", HostSpec::number(1)), w.add_host("p2", HostSpec::number(2)));
    let content = Content { seed: 5, len: 1_000_000 };
    w.host(b).receive(5_000, content);
    w.host(a).send([10, 0, 0, 2], 5_000, content);
    w.run_for(Duration::from_millis(20));
    let before = w.host(b).progress();
    assert!(before > 0 && before < content.len);
    w.plug(b, "p3");
    assert!(w.run_until_done(Duration::from_secs(3_000)));
}

/// Two hosts exchange frames while a third port floods: random addresses, random headers, as fast as the wire takes it.
#[test]
fn a_flooding_port_costs_its_neighbours_nothing() {
    let limits = WorkerConfig {
        cache: CacheLimits { flows: 3_000, flows_per_port: 1_000, ..CacheLimits::default() },
        misses: MissLimits { rate: 10_000, burst: 500 },
        ..WorkerConfig::default()
    };
    let mut w = World::new(WorldSpec { seed: 3, workers: 1, config: limits });
    let hosts = raws(&mut w, 3, WireSpec::default());
    // A pipeline that looks at everything a sprayer can vary.
    w.flows(
        "br0",
        [
            "delete",
            "priority=9,udp,tp_src=1,tp_dst=1,nw_src=10.9.9.9,actions=drop",
            "priority=8,in_port=3,actions=NORMAL",
            "priority=0,actions=NORMAL",
        ],
    );
    let start = w.now();
    let each = Duration::from_micros(50);
    let rounds = 4_000u16;
    for n in 0..rounds {
        let at = start + each * n.into();
        w.raw(hosts[0]).send_at(at, udp(1, 2, 7, &n.to_be_bytes()));
        w.raw(hosts[1]).send_at(at, udp(2, 1, 7, &n.to_be_bytes()));
    }
    let d = &mut Dice::new(33);
    for n in 0..u64::from(rounds) * 8 {
        let mut frame = udp(d.below(256) as u8, d.below(256) as u8, d.roll() as u16, b"spray");
        let noise = d.roll().to_be_bytes();
        frame[6..12].copy_from_slice(&noise[..6]);
        // Addresses of stations, not of groups; and never of one of the two.
        frame[6] = 0x06;
        frame[26..30].copy_from_slice(&noise[4..]);
        w.raw(hosts[2]).send_at(start + each / 8 * u32::try_from(n).unwrap(), frame);
    }
    w.run_until(start + each * u32::from(rounds) + Duration::from_millis(1));
    w.settle();
    // What each of the two heard from the other, in order and complete.
    for (me, other) in [(0, 2u8), (1, 1u8)] {
        let heard: Vec<Vec<u8>> = w.raw(hosts[me]).take();
        let from_other: Vec<u16> = heard
            .iter()
            .filter(|f| f[6..12] == [2, 0, 0, 0, 0, other])
            .map(|f| u16::from_be_bytes(f[42..44].try_into().unwrap()))
            .collect();
        assert_eq!(from_other, (0..rounds).collect::<Vec<_>>(), "what port {} heard", me + 1);
    }
    let refused = w.counters("p3").drops.get(Drop::MissCredit);
    assert!(refused > 10_000, "the flood ran out of credit: {refused}");
    assert!(w.counters("p1").drops.total() + w.counters("p2").drops.total() <= 1, "but for the first frame");
    assert!(w.cached_flows() <= 3_000);
}

#[test]
fn ports_go_and_come_under_traffic_and_nothing_is_lost_uncounted() {
    let mut w = World::seeded(4, 3);
    let hosts = raws(&mut w, 4, WireSpec::default());
    let d = &mut Dice::new(44);
    let mut present = [true; 4];
    for round in 0..200u16 {
        for _ in 0..40 {
            let (from, to) = (d.below(4) as u8, d.below(4) as u8);
            let dst = if d.one_in(5) { 0xff } else { to };
            w.raw(hosts[usize::from(from)]).send(udp(from, dst, round, &[0; 20]));
        }
        w.run_for(Duration::from_nanos(d.below(4_000)));
        let n = d.below(4) as usize;
        let name = format!("p{}", n + 1);
        match (present[n], d.below(3)) {
            (true, 0) => {
                w.remove_port(&name);
                present[n] = false;
            }
            (true, _) => w.at(
                w.now() + Duration::from_nanos(d.below(3_000)),
                Fault::Vanish { port: name, after: d.below(30) },
            ),
            (false, _) => {
                w.add_port("br0", &name, PortSpec::number(n as u16 + 1));
                present[n] = true;
            }
        }
        if d.one_in(3) {
            let port = format!("p{}", 1 + d.below(4));
            w.at(w.now(), Fault::Return(port));
        }
        w.settle();
        hosts.iter().for_each(|h| drop(w.raw(*h).take()));
    }
    assert!(w.frames() > 2_000, "{}", w.frames());
    // After all that it still switches.
    for n in 0..4u16 {
        let name = format!("p{}", n + 1);
        if !present[usize::from(n)] {
            w.add_port("br0", &name, PortSpec::number(n + 1));
        }
        w.at(w.now(), Fault::Return(name));
    }
    w.run_for(Duration::from_millis(1));
    hosts.iter().for_each(|h| drop(w.raw(*h).take()));
    w.raw(hosts[0]).send(udp(77, 0xff, 1, b"hello"));
    w.settle();
    assert!(hosts[1..].iter().all(|h| w.raw(*h).take().len() == 1));
}

#[test]
fn rules_count_every_frame_once() {
    let mut w = World::seeded(5, 2);
    let hosts = raws(&mut w, 3, WireSpec::default());
    w.flows(
        "br0",
        [
            "delete",
            "priority=5,in_port=1,cookie=0x1,actions=resubmit(,1)",
            "priority=4,cookie=0x2,actions=NORMAL",
            "table=1,udp,cookie=0x3,actions=output:2",
        ],
    );
    let d = &mut Dice::new(55);
    let (mut from_one, mut others, mut bytes) = (0, 0, 0);
    for n in 0..3_000u16 {
        let from = d.below(3) as usize;
        let frame = udp(from as u8, d.below(4) as u8, n % 7, &vec![0; d.below(90) as usize]);
        *if from == 0 { &mut from_one } else { &mut others } += 1;
        bytes += if from == 0 { frame.len() as u64 } else { 0 };
        w.raw(hosts[from]).send(frame);
        if d.one_in(40) {
            w.run_for(Duration::from_millis(d.below(40)));
        }
        if d.one_in(300) {
            // A change elsewhere makes every flow be looked at again, and costs no count.
            w.flows("br0", [format!("table=3,priority={n},in_port=9,actions=drop")]);
        }
    }
    w.settle();
    let rules = w.rules("br0");
    let of = |cookie: u64| {
        rules.iter().find(|r| r.cookie == cookie && r.table.0 < 3).map(|r| (r.packets, r.bytes)).unwrap()
    };
    assert_eq!((of(1), of(3)), ((from_one, bytes), (from_one, bytes)));
    assert_eq!(of(2).0, others);
    assert_eq!(w.total().rx_packets.get(), from_one + others);
}

#[test]
fn controllers_get_copies_and_full_queues_are_counted() {
    let mut w = World::seeded(6, 1);
    let hosts = raws(&mut w, 2, WireSpec::default());
    w.flows("br0", ["delete", "in_port=1,actions=controller(max_len=50),output:2"]);
    for n in 0..5_000u16 {
        w.raw(hosts[0]).send(udp(1, 2, n, b"copy"));
        if n % 1_000 == 0 {
            w.run_for(Duration::from_micros(300));
        }
    }
    w.settle();
    let (punts, total) = (w.take_punts(), w.total());
    assert!(punts.iter().all(|p| p.bytes.len() == 46 && p.total_len == 46));
    assert_eq!(total.punted.get(), punts.len() as u64);
    assert_eq!(total.drops.get(Drop::UpcallFull) + punts.len() as u64, total.rx_packets.get());
    assert!(total.drops.get(Drop::UpcallFull) > 0);
}

#[test]
fn frames_longer_than_a_device_takes_are_dropped_and_counted() {
    let mut w = World::seeded(7, 1);
    w.add_bridge("br0");
    w.add_port("br0", "big", PortSpec { mtu: 9_000, ..PortSpec::number(1) });
    w.add_port("br0", "small", PortSpec { mtu: 1_000, ..PortSpec::number(2) });
    let (a, b) = (w.add_raw("big"), w.add_raw("small"));
    for len in [900, 5_000, 100] {
        w.raw(a).send(udp(1, 2, 1, &vec![0; len]));
    }
    w.settle();
    assert_eq!(w.raw(b).take().iter().map(Vec::len).collect::<Vec<_>>(), [942, 142]);
    assert_eq!(w.counters("small").drops.get(Drop::TxTooBig), 1);
}

#[test]
fn a_capture_goes_through_the_switch_and_can_be_written_again() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/captures/mixed.pcap");
    let open = |bytes: Vec<u8>| CaptureReader::new(std::io::Cursor::new(bytes)).unwrap();
    let frames_of = |mut reader: CaptureReader| {
        let (mut room, mut frames) = (vec![0; 70_000], Vec::new());
        while let Some((len, _)) = reader.read(&mut room).unwrap() {
            frames.push(room[..len].to_vec());
        }
        frames
    };
    let original = std::fs::read(file).unwrap();
    let mut w = World::seeded(8, 1);
    w.add_bridge("br0");
    for n in 1..=2 {
        w.add_port("br0", &format!("p{n}"), PortSpec { mtu: 65_000, ..PortSpec::number(n) });
    }
    let (a, b) = (w.add_raw("p1"), w.add_raw("p2"));
    w.flows("br0", ["delete", "in_port=1,actions=output:2"]);
    let now = w.now();
    let count = w.raw(a).replay(now, &mut open(original.clone())).unwrap();
    w.run_for(Duration::from_secs(3_600));
    let sent = frames_of(open(original));
    assert!(count > 0 && count == sent.len());
    let whole: Vec<Vec<u8>> = sent.into_iter().filter(|f| f.len() >= 14).collect();
    let written = w.raw(b).write_capture(Vec::new()).unwrap();
    assert_eq!(frames_of(open(written)), whole);
}

/// Frames of each pair of stations stay in order, and none is missing, while ports go from worker to worker in mid-burst.
#[test]
fn ports_that_change_their_worker_lose_and_swap_nothing() {
    let mut w = World::seeded(9, 3);
    let hosts = raws(&mut w, 4, WireSpec::default());
    let d = &mut Dice::new(99);
    // Everybody is known, so that each frame goes to one.
    for (n, host) in hosts.iter().enumerate() {
        w.raw(*host).send(udp(n as u8, 0xff, 1, b"here"));
        w.settle();
    }
    hosts.iter().for_each(|h| drop(w.raw(*h).take()));
    let mut sent = [[0u32; 4]; 4];
    let mut came = [[0u32; 4]; 4];
    for _ in 0..200 {
        for _ in 0..d.below(200) {
            let (from, to) = (d.below(4) as usize, d.below(4) as usize);
            if from != to {
                let n = &mut sent[from][to];
                w.raw(hosts[from]).send(udp(from as u8, to as u8, 7, &n.to_be_bytes()));
                *n += 1;
            }
        }
        for _ in 0..d.below(4) {
            let (port, worker) = (format!("p{}", 1 + d.below(4)), d.below(3) as usize);
            w.at(w.now() + Duration::from_nanos(d.below(4_000)), Fault::HandOver { port, worker });
        }
        w.run_for(Duration::from_nanos(d.below(4_000)));
        if d.one_in(4) {
            w.settle();
        }
        for (to, host) in hosts.iter().enumerate() {
            for frame in w.raw(*host).take() {
                let from = usize::from(frame[11]);
                let number = u32::from_be_bytes(frame[42..46].try_into().unwrap());
                assert_eq!(number, came[from][to], "from {from} to {to}");
                came[from][to] += 1;
            }
        }
    }
    w.settle();
    for (to, host) in hosts.iter().enumerate() {
        for frame in w.raw(*host).take() {
            came[usize::from(frame[11])][to] += 1;
        }
    }
    assert_eq!(sent, came);
    assert!(sent.as_flattened().iter().sum::<u32>() > 5_000);
}

/// A world with everything in it that is left to chance; its trace.
fn busy_world(seed: u64) -> Vec<u8> {
    let mut w = World::seeded(seed, 3);
    w.trace.start();
    w.add_bridge("br0");
    let hosts: Vec<NodeId> = (1..=4u8)
        .map(|n| {
            let vlan = if n < 3 { VlanConfig::access(5) } else { VlanConfig::default() };
            w.add_port(
                "br0",
                &format!("p{n}"),
                PortSpec::number(n.into()).vlan(vlan).wire(WireSpec::bad(20)),
            );
            let vlan = (n == 3).then_some(5);
            w.add_host(&format!("p{n}"), HostSpec { vlan, ..HostSpec::number(n) })
        })
        .collect();
    let content = Content { seed: 1, len: 40_000 };
    w.host(hosts[2]).receive(80, content);
    w.host(hosts[0]).send([10, 0, 0, 3], 80, content);
    w.host(hosts[1]).ping([10, 0, 0, 3], 5);
    w.run_for(Duration::from_millis(30));
    w.flows("br0", ["priority=7,icmp,actions=flood"]);
    w.at(w.now() + Duration::from_millis(5), Fault::Vanish { port: "p2".into(), after: 3 });
    for n in 0..20 {
        let (port, worker) = (format!("p{}", 1 + n % 3), n as usize / 2 % 3);
        w.at(w.now() + Duration::from_millis(n), Fault::HandOver { port, worker });
    }
    w.run_until_done(Duration::from_secs(20));
    let entries = w.trace.entries();
    let events = [FrameEvent::Lost, FrameEvent::Doubled, FrameEvent::Delayed, FrameEvent::Delivered];
    assert!(
        events.iter().all(|e| entries.iter().any(|x| x.event == *e)),
        "there was something to be repeated"
    );
    w.trace.to_bytes()
}

#[test]
fn the_same_seed_makes_the_same_world_and_another_makes_another() {
    let (one, again, other) = (busy_world(1), busy_world(1), busy_world(2));
    assert!(one.len() > 10_000, "{}", one.len());
    assert!(one == again, "the same seed gave another trace");
    assert_ne!(one, other);
}
