//! Chains change nothing but time: a worker that follows them and one that caches nothing forward the same, track the same and
//! count the same, whatever comes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use datapath::conntrack::*;
use datapath::meter::{BandConfig, Excess, MeterUnit};
use datapath::{CacheLimits, Command, Credit, Domain, DpAction, Meter, MissLimits, RecircId, WorkerConfig};
use packet::rewrite::refresh_ipv4_checksum;
use packet::wire::{ETHERTYPE_IPV6, ETHERTYPE_VLAN, PROTO_TCP, PROTO_UDP};
use packet::{Checksum, DpPort, Frame, FrameBuilder, PacketKey, slot};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use world::{Answer, Fake, Tally, World, output};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const MARK: u128 = 9;
/// Frames with this in their `NW_TOS` mark their connection.
const MARKING: u8 = 8;
/// Where frames go that are invalid.
const INVALID_PORT: u32 = 3;
/// Where frames of marked connections go.
const MARKED_PORT: u32 = 4;

/// What kind of pipeline it is.
#[derive(Clone, Copy, Debug)]
struct Pipeline {
    translates: bool,
    /// Frames pass two zones, answers in the other order; the second translates, if any does.
    two_zones: bool,
    /// Headers are written before passes.
    rewrites: bool,
    /// A tag is pushed before the first pass, so that frames are longer from there on.
    tags: bool,
    /// The first pass commits with `force`.
    forces: bool,
}

const PLAIN: Pipeline =
    Pipeline { translates: false, two_zones: false, rewrites: false, tags: false, forces: false };

impl Pipeline {
    fn zone(self, key: &PacketKey, pass: u32) -> Option<u16> {
        match (self.two_zones, key.in_port() == DpPort(1), pass) {
            (false, _, 0) => Some(1),
            (true, true, 0) | (true, false, 1) => Some(1),
            (true, true, 1) | (true, false, 0) => Some(2),
            _ => None,
        }
    }

    fn spec(self, key: &PacketKey, zone: u16) -> CtSpec {
        let translates = self.translates && (zone == 2 || !self.two_zones);
        let forces = self.forces && zone == 1 && key.in_port() == DpPort(1);
        let nat = translates.then(|| if forces { source_of(key) } else { NatSpec::apply() });
        CtSpec { zone: Zone(zone), nat, commit: forces, force: forces, ..CtSpec::default() }
    }

    fn actions(self, key: &PacketKey) -> Vec<DpAction> {
        let pass = key.get(slot::RECIRC_ID) as u32;
        let state = CtState(key.get(slot::CT_STATE) as u32);
        let mut actions = Vec::new();
        if pass > 0 {
            let zone = self.zone(key, pass - 1).unwrap();
            if state.has(CtState::INV) {
                return vec![output(INVALID_PORT)];
            }
            let marks = key.get(slot::NW_TOS) == MARKING.into() && key.get(slot::CT_MARK) != MARK;
            if state.has(CtState::NEW) || marks {
                let mut spec = CtSpec { commit: true, ..self.spec(key, zone) };
                if spec.nat.is_some() && state.has(CtState::NEW) {
                    spec.nat = Some(source_of(key));
                }
                spec.mark = marks.then_some((MARK as u32, u32::MAX));
                actions.push(ct(spec));
            }
        }
        match self.zone(key, pass) {
            Some(zone) => {
                if self.rewrites {
                    let (slot, value) = (slot::DL_DST, 0x0200_0000_0000 + u128::from(pass));
                    actions.push(DpAction::SetField { slot, value, mask: slot.ones() });
                }
                if self.tags && pass == 0 {
                    actions.push(DpAction::PushVlan { tpid: ETHERTYPE_VLAN, tci: 0x1005 });
                }
                actions.push(ct(self.spec(key, zone)));
                actions.push(DpAction::Recirculate(RecircId(pass + 1)));
            }
            None if key.get(slot::CT_MARK) == MARK => actions.push(output(MARKED_PORT)),
            None => actions.push(output(if state.has(CtState::RPL) { 1 } else { 2 })),
        }
        actions
    }
}

fn ct(spec: CtSpec) -> DpAction {
    DpAction::Ct(spec.into())
}

fn source_of(key: &PacketKey) -> NatSpec {
    let address = match key.dl_type() {
        ETHERTYPE_IPV6 => IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | 0x99)),
        _ => IpAddr::from(Ipv4Addr::new(192, 0, 2, 9)),
    };
    NatSpec::new(NatKind::Src, (Some(address), None), (None, None), PortSelection::Default, false).unwrap()
}

/// Pass, state, mark and protocol of the frames of a rule.
type Rule = (u32, u32, u128, u128);
type Tallies = Arc<Mutex<BTreeMap<Rule, Arc<Tally>>>>;

/// A worker, and what its rules were credited.
struct Side {
    world: World,
    tallies: Tallies,
}

impl Side {
    fn new(pipeline: Pipeline, flows: u32) -> Side {
        let tallies = Tallies::default();
        let slots = [
            slot::NW_SRC,
            slot::NW_DST,
            slot::IPV6_SRC,
            slot::IPV6_DST,
            slot::NW_PROTO,
            slot::NW_TOS,
            slot::NW_FRAG,
            slot::TP_SRC,
            slot::TP_DST,
            slot::CT_STATE,
            slot::CT_MARK,
        ];
        let given = Arc::clone(&tallies);
        let fake = Fake::new(&slots, move |key| {
            let place = (
                key.get(slot::RECIRC_ID) as u32,
                key.get(slot::CT_STATE) as u32,
                key.get(slot::CT_MARK),
                key.get(slot::NW_PROTO),
            );
            let tally = Arc::clone(given.lock().unwrap().entry(place).or_default());
            let credits: Vec<Arc<dyn Credit>> = vec![tally];
            Answer { credits, ..Answer::new(pipeline.actions(key)) }
        });
        let config = WorkerConfig {
            cache: CacheLimits { flows, ..CacheLimits::default() },
            misses: MissLimits { rate: 1_000_000_000, burst: 1_000_000_000 },
            ..WorkerConfig::default()
        };
        Side { world: World::with_config(fake, 4, config), tallies }
    }

    fn connections(&self) -> Vec<ConnectionRecord> {
        let mut all = Vec::new();
        let mut cursor = Some(DumpCursor::default());
        while let Some(from) = cursor {
            let (part, next) = self.world.tracker.dump(None, from, self.world.now);
            all.extend(part);
            cursor = next;
        }
        all.sort_by_key(|c| c.original);
        all
    }

    /// Everything that frames did and that both sides must agree on.
    fn seen(&self) -> (Vec<Vec<Vec<u8>>>, Vec<ConnectionRecord>, String, u64) {
        let sent = (1..=4).map(|port| self.world.sink(port).take()).collect();
        let counters = format!("{:#?}", self.world.worker.stats().total());
        (sent, self.connections(), counters, self.world.tracker.totals().invalid)
    }

    fn credited(&mut self) -> Vec<(Rule, [u64; 3])> {
        self.world.command(Command::Flush { reply: None });
        let all = self.tallies.lock().unwrap();
        let numbers = |t: &Tally| [t.packets(), t.bytes(), t.tcp_flags.load(Ordering::Relaxed)];
        all.iter().map(|(place, t)| (*place, numbers(t))).filter(|(_, n)| n[0] != 0).collect()
    }
}

/// One end's numbers of a TCP connection.
#[derive(Clone, Copy)]
struct Sender {
    next: u32,
}

/// Both sides, and the ends of the connections.
struct Pair {
    chained: Side,
    plain: Side,
    ends: [[Sender; 2]; CONNECTIONS],
}

const CONNECTIONS: usize = 6;

/// Protocol and family of a connection.
const fn kind(who: usize) -> (u8, bool) {
    match who {
        0 => (PROTO_UDP, false),
        1 | 4 => (PROTO_TCP, false),
        2 => (PROTO_TCP, true),
        3 => (PROTO_UDP, true),
        _ => (1, false),
    }
}

fn original(who: usize, zone: u16) -> TupleFields {
    let (protocol, is_ipv6) = kind(who);
    let host = who as u8 + 1;
    let (src, dst) = if is_ipv6 {
        let address = |end: u128| IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | end));
        (address(host.into()), address(0xff00))
    } else {
        (IpAddr::from([10, 0, 0, host]), IpAddr::from([10, 0, 1, 1]))
    };
    let (src_port, dst_port) = if protocol == 1 { (77, 0x0800) } else { (4_000 + who as u16, 80) };
    TupleFields { zone: Zone(zone), protocol, src, dst, src_port, dst_port }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Payload,
    Header,
    /// Bytes are missing at the end.
    Cut(usize),
    /// The first fragment of two.
    Fragment,
    /// IPv4 options, or TCP's data offset is too small.
    Options,
    /// UDP without a checksum; of TCP a wrong one.
    NoChecksum,
}

/// What a segment, or a datagram, is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    flags: u8,
    seq_shift: u32,
    ack_shift: u32,
    window: u16,
    len: usize,
    marks: bool,
    damage: Damage,
    /// 0: unknown, 1: vouched for, 2: partial.
    checksum: u8,
}

const DATA: Shape = Shape {
    flags: ACK,
    seq_shift: 0,
    ack_shift: 0,
    window: 5_000,
    len: 10,
    marks: false,
    damage: Damage::None,
    checksum: 0,
};

impl Pair {
    fn new(pipeline: Pipeline) -> Pair {
        let ends = std::array::from_fn(|who| [1, 2].map(|end| Sender { next: 1_000 * (who as u32) + end }));
        Pair { chained: Side::new(pipeline, 10_000), plain: Side::new(pipeline, 0), ends }
    }

    /// The ends of a packet of a connection, as its sender writes them.
    fn tuple(&self, who: usize, is_reply: bool, pipeline: Pipeline) -> TupleFields {
        let zone = if pipeline.two_zones { 2 } else { 1 };
        let original = Tuple::new(original(who, zone));
        if !is_reply {
            return original.fields();
        }
        let known = self.chained.connections().into_iter().find(|c| c.original == original);
        known.map_or(original.reversed(), |c| c.reply).fields()
    }

    fn frame(&mut self, who: usize, is_reply: bool, pipeline: Pipeline, shape: Shape) -> Frame {
        let ends = self.tuple(who, is_reply, pipeline);
        let payload: Vec<u8> = (0..shape.len).map(|i| (i * 7 + who) as u8).collect();
        let number = |a: IpAddr| match a {
            IpAddr::V4(a) => u128::from(u32::from(a)),
            IpAddr::V6(a) => u128::from(a),
        };
        let (src, dst) = ((number(ends.src), ends.src_port), (number(ends.dst), ends.dst_port));
        let v4 = |(address, port): (u128, u16)| (address as u32, port);
        let (is_ipv6, flags) = (ends.src.is_ipv6(), u16::from(shape.flags));
        let mut builder = match (ends.protocol, is_ipv6) {
            (PROTO_TCP, false) => FrameBuilder::tcp4(v4(src), v4(dst), flags),
            (PROTO_TCP, true) => FrameBuilder::tcp6(src, dst, flags),
            (PROTO_UDP, false) => FrameBuilder::udp4(v4(src), v4(dst)),
            (PROTO_UDP, true) => FrameBuilder::udp6(src, dst),
            _ => FrameBuilder::icmp4(v4(src).0, v4(dst).0, if is_reply { 0 } else { 8 }, 0),
        };
        if shape.marks {
            builder = builder.set(slot::NW_TOS, MARKING.into());
        }
        if matches!(shape.damage, Damage::Options) && !is_ipv6 {
            builder = builder.ipv4_options(&[1; 4]);
        }
        let mut frame = Frame::from_bytes(&builder.payload(&payload).build());
        PacketKey::extract(&mut frame).unwrap();
        let l4 = usize::from(frame.layers.l4);
        if ends.protocol == PROTO_TCP {
            self.number(who, is_reply, shape, &mut frame.bytes_mut()[l4..]);
        } else if ends.protocol == 1 {
            frame.bytes_mut()[l4 + 4..l4 + 6].copy_from_slice(&77u16.to_be_bytes());
        }
        frame.refresh_transport_checksum();
        frame.checksum = match (shape.checksum, ends.protocol) {
            (1, _) => Checksum::Valid,
            (2, PROTO_TCP) => Checksum::Partial { start: l4 as u16, offset: 16 },
            (2, PROTO_UDP) => Checksum::Partial { start: l4 as u16, offset: 6 },
            _ => Checksum::Unknown,
        };
        damage(&mut frame, shape.damage, ends.protocol);
        frame
    }

    /// Writes the numbers of a segment; the sender goes on if they were its next.
    fn number(&mut self, who: usize, is_reply: bool, shape: Shape, tcp: &mut [u8]) {
        let ends = &mut self.ends[who];
        let (me, other) = (usize::from(is_reply), usize::from(!is_reply));
        let ack = ends[other].next.wrapping_add(shape.ack_shift);
        tcp[4..8].copy_from_slice(&ends[me].next.wrapping_add(shape.seq_shift).to_be_bytes());
        tcp[8..12].copy_from_slice(&ack.to_be_bytes());
        tcp[14..16].copy_from_slice(&shape.window.to_be_bytes());
        if shape.seq_shift == 0 {
            let counted = shape.len as u32 + u32::from(shape.flags & 1) + u32::from(shape.flags >> 1 & 1);
            ends[me].next = ends[me].next.wrapping_add(counted);
        }
    }

    fn send(&mut self, who: usize, is_reply: bool, pipeline: Pipeline, shape: Shape) {
        self.queue(who, is_reply, pipeline, shape);
        self.each(World::settle);
    }

    fn queue(&mut self, who: usize, is_reply: bool, pipeline: Pipeline, shape: Shape) {
        let frame = self.frame(who, is_reply, pipeline, shape);
        for side in [&self.chained, &self.plain] {
            let mut copy = Frame::from_bytes(frame.bytes());
            copy.checksum = frame.checksum;
            side.world.wire(if is_reply { 2 } else { 1 }).push_frame(copy);
        }
    }

    /// What it takes until frames of a connection follow chains both ways.
    fn establish(&mut self, who: usize, pipeline: Pipeline) {
        let syn = |flags| Shape { flags, len: 0, ..DATA };
        if kind(who).0 == PROTO_TCP {
            self.send(who, false, pipeline, syn(SYN));
            self.send(who, true, pipeline, syn(SYN | ACK));
            self.send(who, false, pipeline, syn(ACK));
        }
        for _ in 0..3 {
            self.send(who, false, pipeline, DATA);
            self.send(who, true, pipeline, DATA);
        }
    }

    fn each(&mut self, mut change: impl FnMut(&mut World)) {
        change(&mut self.chained.world);
        change(&mut self.plain.world);
    }

    fn recirculated(&self) -> [u64; 2] {
        [&self.chained, &self.plain].map(|side| side.world.worker.stats().cache.recirculated.get())
    }
}

fn damage(frame: &mut Frame, damage: Damage, protocol: u8) {
    let (l4, len) = (usize::from(frame.layers.l4), frame.len());
    match damage {
        Damage::None => {}
        Damage::Payload => frame.bytes_mut()[len - 1] ^= 0x40,
        Damage::Header => frame.bytes_mut()[l4 - 1] ^= 1,
        Damage::Cut(bytes) => frame.truncate(len.saturating_sub(bytes).max(14)),
        Damage::Fragment if frame.bytes()[12..14] == [8, 0] => {
            frame.bytes_mut()[20] |= 0x20;
            refresh_ipv4_checksum(frame);
        }
        Damage::Options if protocol == PROTO_TCP => {
            frame.bytes_mut()[l4 + 12] = 0x40;
            frame.refresh_transport_checksum();
        }
        Damage::NoChecksum => {
            let field = l4 + if protocol == PROTO_TCP { 16 } else { 6 };
            frame.bytes_mut()[field..field + 2].fill(0);
        }
        Damage::Fragment | Damage::Options => {}
    }
}

#[derive(Clone, Debug)]
enum Happening {
    /// Handled in one batch a port.
    Packets(Vec<(usize, bool, Shape)>),
    Establish(usize),
    /// Milliseconds.
    Time(u64),
    SeqCheck(bool),
    /// Of answered UDP, if that is less than before: a connection that is over but was not visited yet would come back.
    Timeout(u32),
    Learn,
}

fn shift() -> impl Strategy<Value = u32> {
    prop_oneof![12 => Just(0), 2 => (0..30u32).prop_map(u32::wrapping_neg), 1 => 0..3_000u32, 1 => any::<u32>()]
}

fn shape() -> impl Strategy<Value = Shape> {
    let flags = prop_oneof![
        20 => prop::sample::select(vec![ACK, ACK | 0x08]),
        2 => prop::sample::select(vec![ACK | 0x01, ACK | 0x20, ACK | 0x04, 0x04, SYN, SYN | ACK]),
        1 => 0..64u8,
    ];
    let damage = prop_oneof![
        20 => Just(Damage::None),
        1 => Just(Damage::Payload),
        1 => Just(Damage::Header),
        1 => (1..40usize).prop_map(Damage::Cut),
        1 => Just(Damage::Fragment),
        1 => Just(Damage::Options),
        1 => Just(Damage::NoChecksum),
    ];
    let window = prop_oneof![4 => Just(5_000u16), 1 => Just(0), 1 => Just(65_535)];
    let checksum = prop_oneof![4 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let marks = prop::bool::weighted(0.03);
    (flags, shift(), shift(), window, 0..40usize, marks, damage, checksum).prop_map(
        |(flags, seq_shift, ack_shift, window, len, marks, damage, checksum)| Shape {
            flags,
            seq_shift,
            ack_shift,
            window,
            len,
            marks,
            damage,
            checksum,
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let packet = || (0..CONNECTIONS, any::<bool>(), shape());
    prop_oneof![
        32 => packet().prop_map(|packet| Packets(vec![packet])),
        8 => prop::collection::vec(packet(), 2..20).prop_map(Packets),
        2 => (0..CONNECTIONS).prop_map(Establish),
        3 => prop::sample::select(vec![1, 17, 900, 12_000, 29_990, 30_010, 61_000, 100_000]).prop_map(Time),
        1 => any::<bool>().prop_map(SeqCheck),
        1 => prop::sample::select(vec![1, 10, 20]).prop_map(Timeout),
        1 => Just(Learn),
    ]
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    let kinds = (any::<bool>(), any::<bool>(), [0.3, 0.3, 0.2].map(prop::bool::weighted));
    kinds.prop_map(|(translates, two_zones, [rewrites, tags, forces])| Pipeline {
        translates,
        two_zones,
        rewrites,
        tags,
        forces,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn followed_or_not_all_is_the_same(
        pipeline in pipeline(),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut pair = Pair::new(pipeline);
        (0..CONNECTIONS).for_each(|who| pair.establish(who, pipeline));
        let mut config = CtConfig::default();
        for happening in happenings {
            match happening.clone() {
                Happening::Packets(packets) => {
                    for (who, is_reply, shape) in packets {
                        pair.queue(who, is_reply, pipeline, shape);
                    }
                    pair.each(World::settle);
                }
                Happening::Establish(who) => pair.establish(who, pipeline),
                Happening::Time(ms) => pair.each(|w| w.now += Duration::from_millis(ms)),
                Happening::SeqCheck(is_on) => {
                    config.tcp_seq_check = is_on;
                    pair.each(|w| w.tracker.configure(config.clone()));
                }
                Happening::Timeout(secs) => {
                    let least = config.timeouts.get(TimeoutKind::UdpMultiple).as_secs().min(secs.into());
                    config.timeouts.set(TimeoutKind::UdpMultiple, least as u32);
                    pair.each(|w| w.tracker.configure(config.clone()));
                }
                Happening::Learn => pair.each(|w| w.learned.change(Domain(1))),
            }
            prop_assert_eq!(pair.chained.seen(), pair.plain.seen(), "after {:?}", happening);
        }
        prop_assert_eq!(pair.chained.credited(), pair.plain.credited());
        pair.each(|w| w.check_conservation());
    }
}

/// The comparison above is one of two different ways: established frames are not looked up again where chains are kept.
#[test]
fn established_frames_follow() {
    for bits in 0..16u8 {
        let [translates, two_zones, rewrites, tags] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let pipeline = Pipeline { translates, two_zones, rewrites, tags, forces: false };
        let mut pair = Pair::new(pipeline);
        for who in 0..5 {
            pair.establish(who, pipeline);
            let before = pair.recirculated();
            for _ in 0..5 {
                pair.send(who, false, pipeline, DATA);
                pair.send(who, true, pipeline, DATA);
            }
            let after = pair.recirculated();
            let passes = if two_zones { 2 } else { 1 };
            assert_eq!(after[0] - before[0], 0, "{who} {pipeline:?}");
            assert_eq!(after[1] - before[1], 10 * passes, "{who} {pipeline:?}");
        }
        assert_eq!(pair.chained.seen(), pair.plain.seen());
        assert_eq!(pair.chained.credited(), pair.plain.credited());
    }
}

/// Flags of frames that follow are credited to the rules of every pass.
#[test]
fn flags_are_credited_along_the_chain() {
    let pipeline = Pipeline { two_zones: true, ..PLAIN };
    let mut pair = Pair::new(pipeline);
    pair.establish(1, pipeline);
    pair.chained.credited();
    let tallies = pair.chained.tallies.lock().unwrap().values().cloned().collect::<Vec<_>>();
    tallies.iter().for_each(|t| t.tcp_flags.store(0, Ordering::Relaxed));
    pair.establish(1, pipeline);
    for _ in 0..3 {
        pair.send(1, false, pipeline, Shape { flags: ACK | 0x08, ..DATA });
    }
    pair.chained.credited();
    let place = |pass| (pass, if pass == 0 { 0 } else { 0x22 }, 0, u128::from(PROTO_TCP));
    for pass in 0..3 {
        let tally = Arc::clone(&pair.chained.tallies.lock().unwrap()[&place(pass)]);
        assert_ne!(tally.tcp_flags.load(Ordering::Relaxed) & 0x08, 0, "pass {pass}");
    }
}

/// Rules behind a pass see what a meter before it has made of each frame, also of an established connection.
#[test]
fn frames_that_a_meter_remarks_do_not_follow_those_that_it_let_pass() {
    let band = BandConfig { excess: Excess::Remark(1), rate: 1, burst: 3 };
    let meter = Arc::new(Meter::new(1, MeterUnit::Packets, &[band]));
    let af11 = 10 << 2;
    let slots = [
        slot::NW_SRC,
        slot::NW_DST,
        slot::NW_PROTO,
        slot::NW_TOS,
        slot::TP_SRC,
        slot::TP_DST,
        slot::CT_STATE,
    ];
    let fake = Fake::new(&slots, move |key| {
        let is_reply = key.in_port() == DpPort(2);
        let state = CtState(key.get(slot::CT_STATE) as u32);
        let (pass, again) = (ct(CtSpec::default()), DpAction::Recirculate(RecircId(1)));
        let commit = ct(CtSpec { commit: true, ..CtSpec::default() });
        Answer::new(match key.get(slot::RECIRC_ID) {
            0 if is_reply => vec![pass, again],
            0 => vec![DpAction::Meter(Arc::clone(&meter)), pass, again],
            _ if is_reply => vec![output(1)],
            _ if state.has(CtState::NEW) => vec![commit, output(2)],
            _ => vec![output(if key.get(slot::NW_TOS) == af11 { 2 } else { 3 })],
        })
    });
    let mut w = World::new(fake, 3);
    let end = |host: u32, port: u16| (0x0a00_0000 + host, port);
    let there = FrameBuilder::udp4(end(1, 5), end(2, 6)).set(slot::NW_TOS, af11).build();
    let back = FrameBuilder::udp4(end(2, 6), end(1, 5)).build();
    w.send(1, &there);
    w.send(2, &back);
    // The bucket holds three.
    for _ in 0..5 {
        w.send(1, &there);
    }
    let classes = |frames: Vec<Vec<u8>>| frames.iter().map(|bytes| bytes[15] >> 2).collect::<Vec<_>>();
    assert_eq!((classes(w.sink(2).take()), classes(w.sink(3).take())), (vec![10; 3], vec![12; 3]));
    // And the other way round: who was remarked does not lead those that are not.
    w.now += Duration::from_secs(2);
    for _ in 0..3 {
        w.send(1, &there);
    }
    assert_eq!((w.sink(2).take().len(), w.sink(3).take().len()), (2, 1));
    w.check_conservation();
}
