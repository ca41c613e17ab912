//! Properties of workers under random traffic, programs and changes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use base::HashSeed;
use datapath::{Command, CommandRefused, Domain, DpAction, Drop, Program, RecircId, UpcallCookie};
use packet::{DpPort, Frame, PacketKey, Slot, slot};
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use world::*;

const PORTS: u32 = 4;

fn udp() -> impl Strategy<Value = Udp> {
    let small = 0..3u8;
    (small.clone(), small.clone(), small.clone(), small.clone(), 0..3u16, 0..3u16, 1..4u8, 0..60usize)
        .prop_map(|(src_mac, dst_mac, a, b, sport, dport, ttl, len)| {
            let (src, dst) = ([10, 0, 0, a], [10, 0, 0, b]);
            Udp { src_mac, dst_mac, src, dst, sport, dport, ttl, len }
        })
}

/// Ports 1 to 4 exist; 5 does not.
fn action() -> impl Strategy<Value = DpAction> {
    let port = 1..=PORTS + 1;
    prop_oneof![
        4 => port.clone().prop_map(output),
        1 => (port, 0..80u32).prop_map(|(p, max_len)| DpAction::OutputTrunc { port: DpPort(p), max_len }),
        2 => (0..16u32).prop_map(|n| DpAction::Upcall { max_len: n * 8, cookie: cookie() }),
        2 => any::<u64>().prop_map(|v| DpAction::SetField { slot: slot::DL_SRC, value: (v >> 16).into(), mask: slot::DL_SRC.ones() }),
        1 => any::<u16>().prop_map(|v| DpAction::SetField { slot: slot::PKT_MARK, value: v.into(), mask: 0xffff }),
        1 => any::<u16>().prop_map(|tci| DpAction::PushVlan { tpid: 0x8100, tci }),
        1 => Just(DpAction::PopVlan),
        1 => prop_oneof![Just(0x8847), Just(0x0800)].prop_map(|ethertype| DpAction::PushMpls { lse: 0x1ff, ethertype }),
        1 => Just(DpAction::PopMpls { ethertype: 0x0800 }),
        1 => (0..3u32).prop_map(|id| DpAction::Recirculate(RecircId(id))),
        1 => Just(DpAction::Drop(Drop::Rule)),
    ]
}

/// A program that goes round once at most: one that goes round twice doubles its frame each time, up to a limit that has a
/// test of its own.
fn program(actions: Vec<DpAction>) -> Vec<DpAction> {
    let mut round = false;
    let keep = |a: &DpAction| !matches!(a, DpAction::Recirculate(_)) || !std::mem::replace(&mut round, true);
    actions.into_iter().filter(keep).collect()
}

fn cookie() -> UpcallCookie {
    Arc::new(1u32)
}

#[derive(Clone, Debug)]
enum Happening {
    Frames(u32, Vec<Udp>),
    Bytes(u32, Vec<u8>),
    Room(u32, Option<usize>),
    Lose(u32, usize),
    Inject(u32, Udp),
    Execute(u32, Udp, Vec<DpAction>),
    Renew(u32),
    Flush,
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let port = 1..=PORTS;
    prop_oneof![
        8 => (port.clone(), prop::collection::vec(udp(), 1..50)).prop_map(|(p, f)| Frames(p, f)),
        2 => (port.clone(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(p, b)| Bytes(p, b)),
        1 => (port.clone(), 0..4usize).prop_map(|(p, n)| Room(p, Some(n))),
        1 => port.clone().prop_map(|p| Room(p, None)),
        1 => (port.clone(), 0..9usize).prop_map(|(p, n)| Lose(p, n)),
        1 => (0..=PORTS + 1, udp()).prop_map(|(p, u)| Inject(p, u)),
        1 => (0..=PORTS + 1, udp(), prop::collection::vec(action(), 0..5).prop_map(program)).prop_map(|(p, u, a)| Execute(p, u, a)),
        1 => port.prop_map(Renew),
        1 => Just(Flush),
        1 => (0..12_000u64).prop_map(Pass),
    ]
}

fn happen(w: &mut World, what: Happening) -> Result<(), CommandRefused> {
    match what {
        Happening::Frames(port, frames) => frames.iter().for_each(|u| w.wire(port).push(&u.bytes())),
        Happening::Bytes(port, bytes) => w.wire(port).push(&bytes),
        Happening::Room(port, Some(n)) => w.sink(port).room(n),
        Happening::Room(port, None) => w.sink(port).room(usize::MAX),
        Happening::Lose(port, n) => w.sink(port).lose(n),
        Happening::Inject(port, udp) => {
            w.peer.send(Command::Inject { port: DpPort(port), frame: Frame::from_bytes(&udp.bytes()) })?;
        }
        Happening::Execute(port, udp, actions) => {
            let program = Arc::new(Program { actions: actions.into() });
            let frame = Frame::from_bytes(&udp.bytes());
            w.peer.send(Command::Execute { in_port: DpPort(port), frame, program })?;
        }
        Happening::Renew(port) => {
            w.command(Command::RemoveRx { port: DpPort(port), reply: None });
            w.command(Command::RemoveTx { port: DpPort(port), done: None });
            w.add_port(port);
        }
        Happening::Flush => w.peer.send(Command::Flush { reply: None })?,
        Happening::Pass(millis) => w.now += Duration::from_millis(millis),
    }
    Ok(())
}

fn slots() -> impl Strategy<Value = Vec<Slot>> {
    let of_udp = vec![
        slot::DL_SRC,
        slot::DL_DST,
        slot::NW_SRC,
        slot::NW_DST,
        slot::TP_SRC,
        slot::TP_DST,
        slot::NW_TTL,
    ];
    prop::sample::subsequence(of_udp, 0..=7)
}

#[derive(Clone, Debug)]
enum Event {
    Send(u32, Vec<Udp>),
    Configure,
    Learn(u64),
    Flush,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => (1..=PORTS, prop::collection::vec(udp(), 1..20)).prop_map(|(p, u)| Event::Send(p, u)),
        1 => Just(Event::Configure),
        3 => (0..4u64).prop_map(Event::Learn),
        1 => Just(Event::Flush),
        1 => (0..4_000u64).prop_map(Event::Pass),
    ]
}

/// An arbitrary pure function: of the bits of the profile, of the configuration, and of one domain that depends on the key.
fn arbitrary_answer(masked: &PacketKey, configuration: u64, learned: &Learned) -> (Answer, u32) {
    let hash = |x: u64| HashSeed::new(3, 5).hash(masked.words().iter().copied().chain([x]));
    let domain = Domain(hash(0) % 4);
    let port = hash(1 + configuration * 1_000 + learned.of(domain).0) % u64::from(PORTS + 1);
    let actions = if port == 0 { vec![] } else { vec![output(port as u32)] };
    let answer = Answer { deps: learned.deps(&[domain]), ..Answer::new(actions) };
    (answer, port as u32)
}

fn key_of(port: u32, udp: &Udp) -> PacketKey {
    let mut frame = Frame::from_bytes(&udp.bytes());
    frame.in_port = DpPort(port);
    PacketKey::extract(&mut frame).expect("whole frames")
}

/// The snapshot `configuration`, with a function of its own.
fn configure(fake: &mut Fake, slots: &[Slot], learned: &Arc<Learned>, configuration: u64) {
    fake.number = configuration;
    fake.learned = learned.clone();
    fake.profile = profile(1, slots);
    let (mask, learned) = (fake.profile.mask, learned.clone());
    fake.translate = Box::new(move |key| arbitrary_answer(&mask.apply(key), configuration, &learned).0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Every frame ends in exactly one counted way, whatever programs, ports and commands do.
    #[test]
    fn frames_are_conserved(
        programs in prop::collection::vec(prop::collection::vec(action(), 0..6).prop_map(program), 9),
        cacheable in prop::collection::vec(any::<bool>(), 9),
        refuse_punts: bool,
        happenings in prop::collection::vec(happening(), 1..40),
    ) {
        let mut fake = Fake::new(&[slot::TP_SRC, slot::TP_DST, slot::VLAN_TCI], move |key| {
            let i = (key.get(slot::TP_SRC) * 3 + key.get(slot::TP_DST) + key.get(slot::RECIRC_ID)) as usize % 9;
            Answer { cacheable: cacheable[i], ..Answer::new(programs[i].clone()) }
        });
        fake.refuse_punts = refuse_punts;
        let mut w = World::new(fake, PORTS);
        let mut sent = 0;
        for what in happenings {
            sent += (1..=PORTS).map(|p| w.sink(p).count() as u64).sum::<u64>();
            (1..=PORTS).for_each(|p| drop(w.sink(p).take()));
            happen(&mut w, what).expect("the queue is short");
            w.settle();
            w.check_conservation();
        }
        sent += (1..=PORTS).map(|p| w.sink(p).count() as u64).sum::<u64>();
        prop_assert_eq!(w.worker.stats().total().tx_packets.get(), sent);
    }

    /// What the cache says is what translation would say now; and a frame that differs from an earlier one outside the
    /// profile only is a hit.
    #[test]
    fn cached_answers_equal_fresh_ones(slots in slots(), events in prop::collection::vec(event(), 1..60)) {
        let learned = Arc::new(Learned::default());
        let mut fake = Fake::new(&[], |_| Answer::new(vec![]));
        configure(&mut fake, &slots, &learned, 0);
        let mask = fake.profile.mask;
        let mut w = World::new(fake, PORTS);
        let (mut configuration, mut seen, mut seen_is_exact) = (0, HashSet::new(), true);
        for event in events {
            match event {
                Event::Send(port, frames) => {
                    let mut expected: Vec<Vec<Vec<u8>>> = vec![vec![]; PORTS as usize + 1];
                    let misses = w.counts().misses;
                    let mut new = 0;
                    for udp in &frames {
                        let masked = mask.apply(&key_of(port, udp));
                        new += u64::from(seen.insert(masked));
                        let (_, to) = arbitrary_answer(&masked, configuration, &learned);
                        expected[to as usize].push(udp.bytes());
                        w.wire(port).push(&udp.bytes());
                    }
                    w.settle();
                    for (to, frames) in (1..=PORTS).zip(&expected[1..]) {
                        prop_assert_eq!(&w.sink(to).take(), frames);
                    }
                    if seen_is_exact {
                        prop_assert_eq!(w.counts().misses - misses, new, "one miss for each key under the profile");
                    }
                }
                Event::Configure => {
                    configuration += 1;
                    let (slots, learned) = (slots.clone(), learned.clone());
                    w.publish(|fake| configure(fake, &slots, &learned, configuration));
                }
                Event::Learn(domain) => learned.change(Domain(domain)),
                Event::Flush => {
                    w.command(Command::Flush { reply: None });
                    seen.clear();
                    seen_is_exact = true;
                }
                Event::Pass(millis) => {
                    // The sweep may remove what it finds wrong, so that the model no longer knows what is cached.
                    w.now += Duration::from_millis(millis);
                    seen_is_exact = false;
                }
            }
        }
        w.check_conservation();
    }
}
