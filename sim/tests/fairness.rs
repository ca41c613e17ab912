//! One pod that takes all it can get of connections, ports and fragments, and others beside it that do not notice: what they
//! had goes on, they can begin anew, and not one of their frames is dropped. What is dropped is counted at the offender, by
//! reason, and adds up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use datapath::conntrack::{CtConfig, Zone};
use datapath::{Drop, MissLimits, WorkerConfig};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, SlicedPacket, TransportSlice, UdpHeader};
use packet::FrameBuilder;
use sim::{Content, HostSpec, NodeId, PortSpec, WireSpec, World, WorldSpec};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(600);
/// Zone of the offender.
const ZONE: u16 = 1;
/// What every pod is called outside.
const SHARED: &str = "10.0.0.50";
/// Between two frames of a flood.
const PACE: Duration = Duration::from_micros(10);
const TRANSFER: Content = Content { seed: 1, len: 1_000_000 };

/// The offender at p1 with an outside at p4, and a pair of hosts, p2 and p3, of which the first reaches the second by the
/// same translated address as the offender reaches the outside.
struct Scene {
    world: World,
    offender: NodeId,
    outside: NodeId,
    client: NodeId,
    server: NodeId,
}

impl Scene {
    /// With the zone of the pair, and the ports that all are translated to.
    fn new(workers: usize, worker: WorkerConfig, zone: u16, ports: &str, config: CtConfig) -> Scene {
        let mut world = World::new(WorldSpec { seed: 5, workers, config: worker });
        world.limit_connections(config);
        world.add_bridge("br0");
        // The pair's wires are slow enough for the flood to be over before their transfer is.
        let slow = WireSpec { bits_per_second: 50_000_000, ..WireSpec::default() };
        for n in 1..=4 {
            let wire = if matches!(n, 2 | 3) { slow } else { WireSpec::default() };
            world.add_port("br0", &format!("p{n}"), PortSpec::number(n).wire(wire));
        }
        world.flows("br0", ["delete"]);
        world.flows("br0", rules(zone, ports));
        let (offender, outside) = (world.add_raw("p1"), world.add_raw("p4"));
        let client = world.add_host("p2", HostSpec::number(2));
        let server = world.add_host("p3", HostSpec::number(3));
        Scene { world, offender, outside, client, server }
    }

    /// Begins a transfer of the pair and waits until it is well under way.
    fn begin_transfer(&mut self) {
        self.world.host(self.server).receive(5_000, TRANSFER);
        self.world.host(self.client).send([10, 0, 0, 3], 5_000, TRANSFER);
        self.world.run_for(Duration::from_millis(50));
        assert!(self.transferred() > 100_000, "{}", self.transferred());
    }

    fn transferred(&mut self) -> u64 {
        self.world.host(self.server).progress()
    }

    /// Sends frames of the offender while the pair begins new connections; the pair's transfer goes on all the time.
    fn flood(&mut self, frames: impl Iterator<Item = Vec<u8>>) -> u64 {
        let (start, mut count) = (self.world.now(), 0);
        for (n, bytes) in frames.enumerate() {
            self.world.raw(self.offender).send_at(start + PACE * n as u32, bytes);
            count = n as u64 + 1;
        }
        let half = PACE * count as u32 / 2;
        let before = self.transferred();
        self.world.run_for(half);
        self.begin_anew();
        self.world.run_for(half + Duration::from_millis(1));
        assert_eq!(self.world.raw(self.offender).waiting(), 0);
        let after = self.transferred();
        assert!(
            before + 50_000 < after && after < TRANSFER.len,
            "{before} {after}: it went on during the flood"
        );
        count
    }

    /// The pair begins new connections of its own.
    fn begin_anew(&mut self) {
        let content = Content { seed: 2, len: 20_000 };
        self.world.host(self.server).receive(5_001, content);
        self.world.host(self.client).send([10, 0, 0, 3], 5_001, content);
        self.world.host(self.server).echo(7);
        self.world.host(self.client).ask([10, 0, 0, 3], 7, 10);
        self.world.host(self.client).ping([10, 0, 0, 3], 5);
    }

    fn dropped(&self, port: &str) -> Vec<(Drop, u64)> {
        self.world.counters(port).drops.nonzero().collect()
    }

    /// The pair gets all it asked for, and nothing of it was dropped.
    fn pair_is_untouched(&mut self) {
        assert!(self.world.run_until_done(LONG), "the pair is done");
        assert_eq!(self.transferred(), TRANSFER.len + 20_000);
        assert_eq!(self.world.host(self.client).progress(), 15);
        for port in ["p2", "p3", "p4"] {
            assert_eq!(self.dropped(port), [], "{port}");
        }
    }

    /// Sends a datagram of the offender, and lets the outside answer what arrives; whether the offender got the answer.
    fn exchange(&mut self, n: u32) -> bool {
        self.world.raw(self.offender).send(datagram(n));
        self.world.run_for(Duration::from_micros(20));
        for bytes in self.world.raw(self.outside).take() {
            self.world.raw(self.outside).send(answer(&bytes));
        }
        self.world.run_for(Duration::from_micros(20));
        !self.world.raw(self.offender).take().is_empty()
    }
}

fn rules(zone: u16, ports: &str) -> Vec<String> {
    let nat = format!("nat(src={SHARED}{ports})");
    let mut rules = vec![
        "table=0,priority=100,arp,in_port=2,actions=output:3".to_owned(),
        "table=0,priority=100,arp,in_port=3,actions=output:2".to_owned(),
        // Who asks for the shared address is answered.
        "table=0,priority=200,arp,arp_op=1,arp_tpa=10.0.0.50,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],\
         set_field:02:00:00:00:02:32->eth_src,load:2->NXM_OF_ARP_OP[],\
         move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],\
         set_field:02:00:00:00:02:32->arp_sha,set_field:10.0.0.50->arp_spa,in_port"
            .to_owned(),
    ];
    for (inner, outer, zone, mac) in [(1, 4, ZONE, 1), (2, 3, zone, 2)] {
        for port in [inner, outer] {
            rules.push(format!("table=0,priority=10,ip,in_port={port},actions=ct(zone={zone},nat,table=1)"));
        }
        rules.push(format!(
            "table=1,priority=10,ip,ct_state=+trk+new,in_port={inner},actions=ct(commit,zone={zone},{nat}),output:{outer}"
        ));
        rules
            .push(format!("table=1,priority=10,ip,ct_state=+trk+est,in_port={inner},actions=output:{outer}"));
        rules.push(format!(
            "table=1,priority=10,ip,ct_state=+trk+est,in_port={outer},actions=set_field:02:00:00:00:01:{mac:02x}->eth_dst,output:{inner}"
        ));
    }
    rules
}

const OFFENDER: u32 = 0x0a00_0001;
const OUTSIDE: u32 = 0x0a00_0004;

/// The first packet of the offender's `n`th TCP connection.
fn syn(n: u32) -> Vec<u8> {
    FrameBuilder::tcp4((OFFENDER, 1_024 + (n % 60_000) as u16), (OUTSIDE, 80 + (n / 60_000) as u16), 2)
        .build()
}

/// The first datagram of its `n`th UDP connection.
fn datagram(n: u32) -> Vec<u8> {
    FrameBuilder::udp4((OFFENDER, 10_000 + n as u16), (OUTSIDE, 53)).payload(b"question").build()
}

/// The answer to a datagram, as etherparse reads it.
fn answer(bytes: &[u8]) -> Vec<u8> {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { unreachable!("an IPv4 packet") };
    let Some(TransportSlice::Udp(udp)) = packet.transport else { unreachable!("a datagram") };
    let (src, dst) = (ip.header().source(), ip.header().destination());
    let (to, from) = (u32::from_be_bytes(src), u32::from_be_bytes(dst));
    FrameBuilder::udp4((from, udp.destination_port()), (to, udp.source_port())).payload(b"answer").build()
}

/// A SYN flood through the translation is paid for by the offender: by its own unanswered connections, be it over its share
/// or the table nearly full. It sets up no flow, so that it needs no credit for any.
#[test]
fn a_syn_flood_ends_only_the_connections_of_who_sends_it() {
    let share = CtConfig { embryonic_port_max: 200, ..CtConfig::default() };
    let table = CtConfig { connections_max: 640, embryonic_port_max: u32::MAX, ..CtConfig::default() };
    // Fewer flow set-ups are saved up than there are packets.
    let misses = MissLimits { burst: 500, ..MissLimits::default() };
    let worker = WorkerConfig { misses, ..WorkerConfig::default() };
    for (workers, config, most) in [(1, share.clone(), 200), (1, table, 600), (2, share, 200)] {
        let mut s = Scene::new(workers, worker, ZONE, "", config);
        s.begin_transfer();
        let sent = s.flood((0..3_000).map(syn));
        let arrived = s.world.raw(s.outside).take().len() as u64;
        assert_eq!((sent, s.dropped("p1")), (arrived, vec![]));
        assert!(arrived > 700, "{arrived}: the flood is one");
        let stats = s.world.connections();
        // The flood's, and the pair's few.
        assert!((most - 10..most + 10).contains(&stats.connections), "{stats:?}");
        assert!(arrived.abs_diff(stats.evicted + u64::from(most)) < 10, "{stats:?} {arrived}");
        assert_eq!(stats.full, 0);
        s.pair_is_untouched();
    }
}

/// A zone that is full of answered connections takes no more: those are dropped, since untranslated they would be wrong. Its
/// own connections go on, and other zones are not concerned.
#[test]
fn a_full_zone_stops_nobody_but_who_filled_it() {
    let config = CtConfig { zone_limits: [(Zone(ZONE), 50)].into(), ..CtConfig::default() };
    let mut s = Scene::new(1, WorkerConfig::default(), 2, "", config);
    s.begin_transfer();
    let answered = (0..500).filter(|n| s.exchange(*n)).count();
    assert_eq!(answered, 50);
    assert_eq!(s.dropped("p1"), [(Drop::CtFull, 450)]);
    assert_eq!(s.world.connections().zones[&Zone(ZONE)], 50);
    assert!((0..50).all(|n| s.exchange(n)), "its connections go on");
    let sent = s.flood((500..2_500).map(datagram));
    assert_eq!(s.dropped("p1"), [(Drop::CtFull, 450 + sent)]);
    assert_eq!(s.world.connections().zones[&Zone(ZONE)], 50);
    s.pair_is_untouched();
}

/// Ports run out towards one destination. The pair is translated to the same address and ports, towards another.
#[test]
fn a_destination_without_free_ports_concerns_no_other() {
    let mut s = Scene::new(1, WorkerConfig::default(), ZONE, ":2000-2049", CtConfig::default());
    s.begin_transfer();
    let answered = (0..500).filter(|n| s.exchange(*n)).count();
    assert_eq!(answered, 50);
    assert_eq!(s.dropped("p1"), [(Drop::NatExhausted, 450)]);
    assert!((0..50).all(|n| s.exchange(n)), "its connections go on");
    let sent = s.flood((500..2_500).map(datagram));
    assert_eq!(s.dropped("p1"), [(Drop::NatExhausted, 450 + sent)]);
    assert_eq!(s.world.connections().nat_exhausted, 450 + sent);
    s.pair_is_untouched();
}

/// Cuts a datagram from `src` in two; etherparse makes the headers.
fn fragments(src: [u8; 4], dst: [u8; 4], identification: u16) -> [Vec<u8>; 2] {
    let payload = vec![identification as u8; 2_000];
    let udp = UdpHeader::with_ipv4_checksum(
        4_000,
        4_001,
        &Ipv4Header::new(2_008, 64, IpNumber::UDP, src, dst).unwrap(),
        &payload,
    );
    let whole = [&udp.unwrap().to_bytes()[..], &payload].concat();
    [(0, 1_480), (1_480, 2_008)].map(|(from, to)| {
        let mut header = Ipv4Header::new((to - from) as u16, 64, IpNumber::UDP, src, dst).unwrap();
        header.identification = identification;
        header.dont_fragment = false;
        header.more_fragments = from == 0;
        header.fragment_offset = IpFragOffset::try_new((from / 8) as u16).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let macs = [2, 0, 0, 0, 1, dst[3], 2, 0, 0, 0, 1, src[3], 8, 0];
        [&macs[..], &header.to_bytes(), &whole[from..to]].concat()
    })
}

/// First fragments without end, from many forged sources, are bounded by the share of their port; datagrams of others are put
/// together meanwhile. What is left times out.
#[test]
fn fragments_without_end_take_no_room_from_others() {
    let mut s = Scene::new(1, WorkerConfig::default(), ZONE, "", CtConfig::default());
    for n in [5, 6] {
        s.world.add_port("br0", &format!("p{n}"), PortSpec::number(n));
    }
    s.world.flows(
        "br0",
        [
            "table=0,priority=10,ip,in_port=5,actions=ct(zone=3,table=3)",
            "table=3,priority=10,ip,ct_state=+trk-inv,actions=ct(commit,zone=3),output:6",
        ],
    );
    let (sender, receiver) = (s.world.add_raw("p5"), s.world.add_raw("p6"));
    s.begin_transfer();
    // The sender's second fragments come long after the first: they wait while the flood goes on.
    let datagrams: Vec<[Vec<u8>; 2]> =
        (0..40).map(|n| fragments([10, 0, 0, 5], [10, 0, 0, 6], 7 + n)).collect();
    let start = s.world.now();
    for (n, [first, _]) in datagrams.iter().enumerate() {
        s.world.raw(sender).send_at(start + PACE * 20 * n as u32, first.clone());
    }
    for (n, [_, second]) in datagrams.iter().enumerate() {
        let at = start + Duration::from_millis(20) + PACE * 20 * n as u32;
        s.world.raw(sender).send_at(at, second.clone());
    }
    let sent = s.flood((0..4_000u16).map(|n| {
        let [first, _] = fragments([10, 1, (n % 97) as u8, 1], [10, 0, 0, 4], n);
        first
    }));
    let wanted: Vec<Vec<u8>> = datagrams.iter().flatten().cloned().collect();
    assert!(s.world.raw(receiver).take() == wanted, "all datagrams came, in order and unchanged");
    // A quarter of what a worker may hold is a port's share.
    let share = datapath::fragments::FragmentLimits::default().port.fragments as u64;
    assert_eq!(s.dropped("p1"), [(Drop::FragmentLimit, sent - share)]);
    s.pair_is_untouched();
    s.world.run_for(Duration::from_secs(40));
    assert_eq!(s.dropped("p1"), [(Drop::FragmentTimeout, share), (Drop::FragmentLimit, sent - share)]);
    assert_eq!((s.dropped("p5"), s.dropped("p6")), (vec![], vec![]));
    assert!(s.world.raw(s.outside).take().is_empty());
}
