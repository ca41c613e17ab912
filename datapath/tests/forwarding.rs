//! Workers on in-memory ports: look-ups, revisions, programs, commands, failures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use datapath::Drop::{Consumed, NoAction, NoPort, Rewrite, Rule, TtlExceeded};
use datapath::meter::{BandConfig, Excess, MeterUnit};
use datapath::worker::{RECIRCULATIONS_MAX, RX_RETRY, TX_RETRY};
use datapath::{Drop, *};
use packet::{DpPort, Frame, slot};
use std::sync::Arc;
use std::time::Duration;
use world::*;

const TABLE: Domain = Domain(1);
const OTHER: Domain = Domain(2);

fn to_2(learned: &Arc<Learned>) -> Fake {
    let read = learned.clone();
    let mut fake = Fake::new(&[slot::DL_DST], move |_| {
        let deps = read.deps(&[TABLE]);
        Answer { deps, ..Answer::new(vec![output(2)]) }
    });
    fake.learned = learned.clone();
    fake
}

#[test]
fn miss_hit_revalidate_retranslate() {
    let learned = Arc::new(Learned::default());
    let mut w = World::new(to_2(&learned), 2);
    let frame = Udp::default().bytes();
    w.send(1, &frame);
    assert_eq!(w.counts(), Counts { misses: 1, ..Counts::default() });
    w.send(1, &frame);
    assert_eq!(w.counts(), Counts { misses: 1, hits: 1, ..Counts::default() });
    learned.change(OTHER);
    w.send(1, &frame);
    assert_eq!(w.counts(), Counts { misses: 1, hits: 2, revalidated: 1, ..Counts::default() });
    w.send(1, &frame);
    assert_eq!(w.counts().revalidated, 1, "restamped, so good without a check");
    learned.change(TABLE);
    w.send(1, &frame);
    assert_eq!(w.counts(), Counts { misses: 1, hits: 3, revalidated: 1, retranslated: 1, uncached: 0 });
    w.send(1, &frame);
    assert_eq!(w.counts().hits, 4);
    assert_eq!(w.snapshot.load().translations(), 2);
    assert_eq!(w.sink(2).take(), vec![frame; 6]);
    w.check_conservation();
}

/// What changes while a translation runs must show at the next frame, though the flow was stored after the change.
#[test]
fn change_during_translation_is_seen_by_the_next_frame() {
    let learned = Arc::new(Learned::default());
    let during = learned.clone();
    let mut fake = Fake::new(&[], move |_| {
        let port = 2 + during.of(TABLE).0.min(1) as u32;
        let deps = during.deps(&[TABLE]);
        if port == 2 {
            during.change(TABLE);
        }
        Answer { deps, ..Answer::new(vec![output(port)]) }
    });
    fake.learned = learned.clone();
    let mut w = World::new(fake, 3);
    w.send(1, &Udp::default().bytes());
    assert_eq!((w.sink(2).count(), w.sink(3).count()), (1, 0));
    w.send(1, &Udp::default().bytes());
    assert_eq!((w.sink(2).count(), w.sink(3).count()), (1, 1));
    assert_eq!(w.counts().retranslated, 1);
}

/// Learning from one frame counts for the next of the same batch.
#[test]
fn what_a_frame_teaches_counts_within_its_batch() {
    let learned = Arc::new(Learned::default());
    let read = learned.clone();
    let mut fake = Fake::new(&[slot::DL_SRC], move |_| {
        let known = read.of(TABLE).0 > 0;
        let effects = if known { vec![] } else { vec![TABLE] };
        let deps = read.deps(&[TABLE]);
        Answer { deps, effects, ..Answer::new(vec![output(if known { 3 } else { 2 })]) }
    });
    fake.learned = learned;
    let mut w = World::new(fake, 3);
    for _ in 0..5 {
        w.wire(1).push(&Udp::default().bytes());
    }
    w.settle();
    assert_eq!((w.sink(2).count(), w.sink(3).count()), (1, 4));
}

/// The snapshot that counts is the newest when the batch has been received, not the one when receiving began.
#[test]
fn a_batch_meets_the_snapshot_published_before_its_frames_came() {
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![output(2)])), 3);
    w.send(1, &Udp::default().bytes());
    let (snapshot, learned) = (w.snapshot.clone(), w.learned.clone());
    w.wire(1).on_receive(move || {
        let mut next = Fake::new(&[], |_| Answer::new(vec![output(3)]));
        (next.number, next.learned) = (1, learned.clone());
        snapshot.store(Arc::new(next));
    });
    w.send(1, &Udp::default().bytes());
    assert_eq!((w.sink(2).count(), w.sink(3).count()), (1, 1));
    assert_eq!(w.counts().retranslated, 1);
}

#[test]
fn every_output_gets_the_bytes_of_its_moment() {
    let set = |slot, value| DpAction::SetField { slot, value, mask: slot.ones() };
    let program = vec![
        output(2),
        set(slot::DL_DST, 0x0200_0000_0077),
        output(3),
        DpAction::PushVlan { tpid: 0x8100, tci: 0x2005 },
        output(4),
        DpAction::PopVlan,
        DpAction::OutputTrunc { port: DpPort(5), max_len: 20 },
        set(slot::DL_SRC, 0x0200_0000_0088),
        output(6),
    ];
    let mut w = World::new(Fake::new(&[], move |_| Answer::new(program.clone())), 6);
    let original = Udp::default().bytes();
    let mut rewritten = original.clone();
    rewritten[5] = 0x77;
    let mut tagged = rewritten.clone();
    tagged.splice(12..12, [0x81, 0x00, 0x20, 0x05]);
    let mut last = rewritten.clone();
    last[11] = 0x88;
    for round in 0..2 {
        w.send(1, &original);
        assert_eq!(w.sink(2).take(), std::slice::from_ref(&original), "round {round}");
        assert_eq!(w.sink(3).take(), std::slice::from_ref(&rewritten));
        assert_eq!(w.sink(4).take(), std::slice::from_ref(&tagged));
        assert_eq!(w.sink(5).take(), [rewritten[..20].to_vec()]);
        assert_eq!(w.sink(6).take(), std::slice::from_ref(&last));
    }
    assert_eq!(w.worker.stats().total().clones.get(), 8);
    w.check_conservation();
}

/// A meter on the way ends the frames beyond its rate, after what stands before it; or it remarks them.
#[test]
fn meters_drop_or_remark_what_is_beyond_their_rate() {
    let band = |excess, burst| BandConfig { excess, rate: 1, burst };
    let drops = Arc::new(Meter::new(1, MeterUnit::Packets, &[band(Excess::Drop, 3)]));
    let remarks = Arc::new(Meter::new(2, MeterUnit::Packets, &[band(Excess::Remark(1), 2)]));
    // The next drop precedence after AF11 is AF12.
    let dscp_af11 = DpAction::SetField { slot: slot::NW_TOS, value: 10 << 2, mask: 0xfc };
    let programs = [
        vec![DpAction::Meter(drops.clone()), output(2)],
        vec![output(2), DpAction::Meter(drops.clone()), output(3)],
        vec![dscp_af11, DpAction::Meter(remarks.clone()), output(4)],
    ];
    let fake =
        Fake::new(&[slot::TP_DST], move |key| Answer::new(programs[key.get(slot::TP_DST) as usize].clone()));
    let mut w = World::new(fake, 4);
    let frame = |dport| Udp { dport, ..Udp::default() }.bytes();
    for _ in 0..5 {
        w.send(1, &frame(0));
    }
    assert_eq!((w.sink(2).take().len(), w.drops(1, Drop::Meter)), (3, 2));
    w.send(1, &frame(1));
    assert_eq!((w.sink(2).take().len(), w.sink(3).count()), (1, 0), "what came before the meter stays");
    assert_eq!(w.drops(1, Drop::Meter), 2, "a frame that has gone out is not dropped");
    w.now += Duration::from_secs(1);
    w.send(1, &frame(1));
    assert_eq!((w.sink(2).take().len(), w.sink(3).take().len()), (1, 1), "a second later one more may pass");
    assert_eq!(drops.input(), (7, 7 * 60));
    assert_eq!(drops.exceeded().collect::<Vec<_>>(), [(3, 3 * 60)]);
    for _ in 0..3 {
        w.send(1, &frame(2));
    }
    let tos: Vec<_> = w.sink(4).take().iter().map(|bytes| bytes[15] >> 2).collect();
    assert_eq!(tos, [10, 10, 12]);
    w.check_conservation();
}

#[test]
fn ends_of_programs_without_output() {
    let cookie: UpcallCookie = Arc::new(5u32);
    let upcall = |max_len| DpAction::Upcall { max_len, cookie: cookie.clone() };
    let mark = DpAction::SetField { slot: slot::PKT_MARK, value: 0x70, mask: 0xf0 };
    let programs = [
        vec![],
        vec![DpAction::Drop(Drop::Rule)],
        vec![upcall(u32::MAX)],
        vec![mark, upcall(16), DpAction::Drop(Drop::TtlExceeded)],
        vec![output(2), upcall(u32::MAX)],
        vec![output(99)],
        vec![DpAction::PushMpls { lse: 0, ethertype: 0x0800 }, output(2)],
    ];
    let fake =
        Fake::new(&[slot::TP_DST], move |key| Answer::new(programs[key.get(slot::TP_DST) as usize].clone()));
    let punts = fake.punts.clone();
    let mut w = World::new(fake, 2);
    for dport in 0..7 {
        w.send(1, &Udp { dport, ..Udp::default() }.bytes());
    }
    for (reason, n) in [(NoAction, 1), (Rule, 1), (Consumed, 1), (TtlExceeded, 1), (NoPort, 1), (Rewrite, 1)]
    {
        assert_eq!(w.drops(1, reason), n, "{reason:?}");
    }
    let whole = |dport| Udp { dport, ..Udp::default() }.bytes();
    let expect = |bytes: &[u8], total_len, mark| Punt { bytes: bytes.to_vec(), total_len, cookie: 5, mark };
    assert_eq!(
        *punts.lock().unwrap(),
        [expect(&whole(2), 60, 0), expect(&whole(3)[..16], 60, 0x70), expect(&whole(4), 60, 0)]
    );
    assert_eq!(w.sink(2).take(), [whole(4)]);
    assert_eq!(w.worker.stats().total().punted.get(), 3);
    w.check_conservation();
}

#[test]
fn full_queue_to_the_controller_is_a_drop_of_the_copy_only() {
    let cookie: UpcallCookie = Arc::new(5u32);
    let upcall = DpAction::Upcall { max_len: 64, cookie };
    let mut fake = Fake::new(&[], move |_| Answer::new(vec![upcall.clone(), output(2)]));
    fake.refuse_punts = true;
    let mut w = World::new(fake, 2);
    w.send(1, &Udp::default().bytes());
    assert_eq!((w.drops(1, Drop::UpcallFull), w.sink(2).count()), (1, 1));
    w.check_conservation();
}

#[test]
fn recirculation_parses_anew_and_keeps_metadata() {
    let fake = Fake::new(&[slot::VLAN_TCI, slot::PKT_MARK], |key| {
        let program = match (key.get(slot::RECIRC_ID), key.get(slot::VLAN_TCI)) {
            (0, _) => vec![
                DpAction::SetField { slot: slot::PKT_MARK, value: 9, mask: 0xff },
                DpAction::PushVlan { tpid: 0x8100, tci: 7 },
                DpAction::Recirculate(RecircId(3)),
            ],
            (3, 0x1007) if key.get(slot::PKT_MARK) == 9 => vec![output(2)],
            _ => vec![DpAction::Drop(Drop::Rule)],
        };
        Answer::new(program)
    });
    let mut w = World::new(fake, 2);
    w.send(1, &Udp::default().bytes());
    w.send(1, &Udp::default().bytes());
    assert_eq!(w.sink(2).count(), 2);
    assert_eq!(w.counts(), Counts { misses: 2, hits: 2, ..Counts::default() });
    w.check_conservation();
}

/// A program that sends two copies round, each of which does the same, ends at a limit, and every copy is counted.
#[test]
fn copies_that_double_end() {
    let twice = || vec![output(2), DpAction::Recirculate(RecircId(1)), DpAction::Recirculate(RecircId(1))];
    let mut w = World::new(Fake::new(&[], move |_| Answer::new(twice())), 2);
    w.send(1, &Udp::default().bytes());
    let _ = w.step();
    let looked_up = w.worker.stats().cache.recirculated.get();
    assert!(looked_up > 100 && looked_up < 20_000, "{looked_up}");
    w.check_conservation();
}

/// A copy that has become too long to be looked up again is dropped, and not those after it.
#[test]
fn copies_are_refused_one_by_one() {
    let fake = Fake::new(&[], |key| {
        let again = || DpAction::Recirculate(RecircId(1));
        Answer::new(match key.get(slot::RECIRC_ID) {
            0 => vec![
                DpAction::PushVlan { tpid: 0x8100, tci: 7 },
                again(),
                DpAction::PopVlan,
                again(),
                again(),
            ],
            _ => vec![output(2)],
        })
    });
    let mut w = World::new(fake, 2);
    let mut longest = vec![0; packet::frame::FRAME_LEN_MAX];
    longest[12..14].copy_from_slice(&[0x88, 0xb5]);
    w.send(1, &longest);
    assert_eq!((w.sink(2).count(), w.drops(1, Drop::TooLong)), (2, 1));
    w.check_conservation();
}

#[test]
fn endless_recirculation_ends() {
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![DpAction::Recirculate(RecircId(1))])), 1);
    w.send(1, &Udp::default().bytes());
    assert_eq!(w.drops(1, Drop::Recirculation), 1);
    assert_eq!(w.worker.stats().cache.recirculated.get(), u64::from(RECIRCULATIONS_MAX));
    w.check_conservation();
}

#[test]
fn frames_that_cannot_be_forwarded_are_one_drop_each() {
    let mut fake = Fake::new(&[], |_| Answer::new(vec![output(2)]));
    fake.bridgeless = Some(DpPort(2));
    let mut w = World::new(fake, 2);
    w.send(1, &[1, 2, 3]);
    let mut bad = Frame::from_bytes(&Udp::default().bytes());
    bad.checksum = packet::Checksum::Partial { start: 60_000, offset: 6 };
    w.wire(1).push_frame(bad);
    w.send(2, &Udp::default().bytes());
    assert_eq!((w.drops(1, Drop::TooShort), w.drops(1, Drop::BadOffload)), (1, 1));
    assert_eq!(w.drops(2, Drop::NoBridge), 1);
    assert_eq!(w.snapshot.load().translations(), 0);
    w.check_conservation();
}

/// Misses and hits of one port leave in the order in which they came.
#[test]
fn frames_of_a_port_do_not_overtake_each_other() {
    let mut w = World::new(Fake::new(&[slot::TP_SRC], |_| Answer::new(vec![output(2)])), 2);
    let frames: Vec<_> =
        (0..200u16).map(|i| Udp { sport: i * i % 37, ttl: i as u8, ..Udp::default() }.bytes()).collect();
    frames.iter().for_each(|f| w.wire(1).push(f));
    w.settle();
    assert_eq!(w.sink(2).take(), frames);
}

#[test]
fn failures_of_sending_are_counted_where_they_happen() {
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![output(2)])), 2);
    w.sink(2).room(3);
    (0..5).for_each(|_| w.wire(1).push(&Udp::default().bytes()));
    w.settle();
    assert_eq!((w.sink(2).count(), w.drops(2, Drop::TxFull)), (3, 2));
    w.sink(2).lose(2);
    (0..3).for_each(|_| w.wire(1).push(&Udp::default().bytes()));
    w.settle();
    assert_eq!((w.sink(2).count(), w.drops(2, Drop::TxError)), (4, 2));
    let port = w.worker.stats().port(DpPort(2)).unwrap();
    assert_eq!((port.tx_packets.get(), port.tx_bytes.get()), (4, 240));
    w.check_conservation();

    w.sink(2).fail(PortError::Down);
    w.send(1, &Udp::default().bytes());
    assert!(matches!(w.events.try_recv(), Ok(Event::TxFailed { port: DpPort(2), error: PortError::Down })));
    w.sink(2).fail(PortError::Down);
    w.send(1, &Udp::default().bytes());
    assert!(w.events.try_recv().is_err(), "a failure that lasts is reported once");
    w.sink(2).fail(PortError::Gone);
    w.send(1, &Udp::default().bytes());
    assert!(matches!(w.events.try_recv(), Ok(Event::TxFailed { port: DpPort(2), error: PortError::Gone })));
    w.send(1, &Udp::default().bytes());
    assert_eq!(w.drops(1, Drop::NoPort), 1);
    w.check_conservation();
}

/// Nothing more may come that would be sent there, and have it flushed.
#[test]
fn what_a_device_has_no_room_for_is_flushed_again_soon() {
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![output(2)])), 3);
    w.settle();
    w.sink(2).stall(u32::MAX);
    w.send(1, &Udp::default().bytes());
    for _ in 0..5 {
        assert!(w.step().idle, "no busy loop");
        assert_eq!((w.sink(2).count(), w.worker.next_deadline()), (0, Some(w.now + TX_RETRY)));
        w.now += TX_RETRY;
    }
    w.sink(2).stall(0);
    let _ = w.step();
    assert_eq!(w.sink(2).count(), 1);
    assert!(w.worker.next_deadline().is_none_or(|at| at > w.now + TX_RETRY));
    w.check_conservation();
}

#[test]
fn receiving_side_that_fails_rests_and_one_that_is_gone_goes() {
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![output(2)])), 3);
    w.settle();
    w.wire(1).push(&Udp::default().bytes());
    w.wire(1).fail(PortError::Down);
    w.settle();
    assert_eq!(w.sink(2).count(), 1, "what came before the failure is forwarded");
    assert!(matches!(w.events.try_recv(), Ok(Event::RxFailed { port: DpPort(1), error: PortError::Down })));
    let tried = w.wire(1).receptions();
    (0..100).for_each(|_| assert!(w.step().idle));
    assert_eq!(w.wire(1).receptions(), tried, "no busy loop");
    assert_eq!(w.worker.next_deadline().map(|t| t - w.now), Some(RX_RETRY));
    w.now += RX_RETRY;
    w.wire(1).fail(PortError::Down);
    let _ = w.step();
    assert_eq!(w.wire(1).receptions(), tried + 1);
    assert!(w.events.try_recv().is_err(), "a failure that lasts is reported once");
    w.now += RX_RETRY;
    w.send(1, &Udp::default().bytes());
    assert_eq!(w.sink(2).count(), 2);

    w.wire(3).push(&Udp::default().bytes());
    w.wire(3).fail(PortError::Gone);
    w.settle();
    assert!(matches!(w.events.try_recv(), Ok(Event::RxFailed { port: DpPort(3), error: PortError::Gone })));
    let tried = w.wire(3).receptions();
    w.now += RX_RETRY * 3;
    w.settle();
    assert_eq!((w.wire(3).receptions(), w.sink(2).count()), (tried, 3));
    let port3 = w.worker.stats().port(DpPort(3)).expect("it still sends");
    assert_eq!((port3.rx_packets.get(), port3.rx_errors.get()), (1, 1));
    w.check_conservation();
}

#[test]
fn commands_from_another_thread_are_answered_by_a_step() {
    let mut w = World::new(Fake::new(&[slot::TP_DST], |_| Answer::new(vec![output(2)])), 2);
    w.send(1, &Udp::default().bytes());
    let (reply, flushed) = crossbeam_channel::bounded(1);
    let (done, folded) = crossbeam_channel::bounded(1);
    w.peer.send(Command::Fold { done: Some(done) }).unwrap();
    w.peer.send(Command::Flush { reply: Some(reply) }).unwrap();
    assert!(flushed.try_recv().is_err());
    assert_eq!(w.step(), Progress { commands: 2, ..Progress::default() });
    assert_eq!((folded.try_recv(), flushed.try_recv()), (Ok(()), Ok(1)));
    for _ in 0..command::COMMANDS_MAX {
        w.peer.send(Command::Fold { done: None }).unwrap();
    }
    assert_eq!(w.peer.send(Command::Stop), Err(CommandRefused::Full));
    w.settle();
    w.peer.send(Command::Stop).unwrap();
    assert!(w.step().stopped && w.step().stopped);
    let World { worker, peer, .. } = w;
    drop(worker);
    assert_eq!(peer.send(Command::Stop), Err(CommandRefused::Ended));
}

#[test]
fn packet_out_and_injection() {
    let mut w = World::new(Fake::new(&[slot::RECIRC_ID], |_| Answer::new(vec![output(2)])), 2);
    let bytes = Udp::default().bytes();
    let frame = || Frame::from_bytes(&bytes);
    let execute = |in_port, actions: Vec<DpAction>| Command::Execute {
        in_port,
        frame: frame(),
        program: Arc::new(Program { actions: actions.into() }),
    };
    w.command(execute(DpPort::NONE, vec![output(1), output(2)]));
    w.command(execute(DpPort::NONE, vec![]));
    w.command(execute(DpPort(1), vec![DpAction::Recirculate(RecircId(0))]));
    w.command(execute(DpPort(77), vec![output(55)]));
    w.command(Command::Inject { port: DpPort(1), frame: frame() });
    w.command(Command::Execute {
        in_port: DpPort(1),
        frame: Frame::from_bytes(&[0]),
        program: Arc::default(),
    });
    w.settle();
    assert_eq!((w.sink(1).count(), w.sink(2).count()), (1, 3));
    let stats = w.worker.stats().clone();
    assert_eq!((stats.portless.injected.get(), stats.portless.drops.get(Drop::NoAction)), (3, 1));
    assert_eq!(stats.portless.drops.get(Drop::NoPort), 1);
    let port = stats.port(DpPort(1)).unwrap();
    assert_eq!((port.injected.get(), port.rx_packets.get(), port.rx_bytes.get()), (2, 1, bytes.len() as u64));
    assert_eq!(w.drops(1, Drop::TooShort), 1);
    w.check_conservation();
}

#[test]
fn dump_shows_flows_under_their_profile_in_parts() {
    let learned = Arc::new(Learned::default());
    let read = learned.clone();
    let mut fake = Fake::new(&[slot::TP_SRC], move |key| {
        let deps = read.deps(&[if key.get(slot::TP_SRC) == 5 { TABLE } else { OTHER }]);
        Answer { deps, ..Answer::new(vec![output(2)]) }
    });
    fake.learned = learned.clone();
    let mut w = World::new(fake, 2);
    for sport in 0..3_000 {
        w.send(1, &Udp { sport, ..Udp::default() }.bytes());
        w.send(1, &Udp { sport, ttl: 9, len: 19, ..Udp::default() }.bytes());
    }
    w.now += Duration::from_millis(5);
    w.send(1, &Udp { sport: 7, ..Udp::default() }.bytes());
    learned.change(TABLE);
    let (mut flows, mut from, mut parts) = (Vec::new(), Some(DumpCursor::default()), 0);
    while let Some(cursor) = from {
        let part = w.ask(|reply| Command::DumpFlows { from: cursor, reply });
        (from, parts) = (part.next, parts + 1);
        flows.extend(part.flows);
    }
    assert!(parts >= 3);
    assert_eq!(flows.len(), 2_999, "the flow that depends on what changed is not shown");
    let seven = flows.iter().find(|f| f.key.get(slot::TP_SRC) == 7).unwrap();
    assert_eq!((seven.packets, seven.bytes), (3, 181));
    assert_eq!(seven.last_seen, w.now);
    assert_eq!(seven.mask, w.snapshot.load().profile.mask);
    assert_eq!(seven.mask.apply(&seven.key), seven.key);
    assert_eq!(seven.key.in_port(), DpPort(1));
    assert!(matches!(&*seven.program.actions, [DpAction::Output(DpPort(2))]));
}

/// A device with a descriptor, which counts how often it is read.
struct Polled(std::os::unix::net::UnixDatagram, Arc<std::sync::atomic::AtomicU64>);

impl Rx for Polled {
    fn recv(&mut self, _pool: &mut packet::FramePool, out: &mut packet::Batch) -> Result<(), PortError> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut bytes = [0; 2_000];
        while !out.is_full() {
            let Ok(n) = self.0.recv(&mut bytes) else { break };
            out.push(Frame::from_bytes(&bytes[..n])).unwrap();
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(std::os::fd::AsFd::as_fd(&self.0))
    }
}

#[test]
fn devices_with_a_descriptor_are_read_when_woken_and_now_and_then() {
    let (near, far) = std::os::unix::net::UnixDatagram::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let reads = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = || reads.load(std::sync::atomic::Ordering::Relaxed);
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![output(2)])), 2);
    let generation = w.worker.poll_generation();
    let queue = RxQueue::new(1, Box::new(Polled(near, reads.clone())));
    w.command(Command::AddRx { port: DpPort(1), queue, done: None });
    assert_ne!(w.worker.poll_generation(), generation);
    let tokens: Vec<RxToken> = w.worker.poll_fds().map(|(_, token)| token).collect();
    assert_eq!(tokens.len(), 1, "ports in memory have no descriptor");
    w.settle();
    let before = count();
    far.send(&Udp::default().bytes()).unwrap();
    w.worker.wake_rx(tokens[0]);
    w.settle();
    assert_eq!((w.sink(2).count(), count()), (1, before + 2), "until there is nothing more");
    (0..640).for_each(|_| assert!(w.step().idle));
    assert_eq!(count(), before + 12, "every 64th step without being woken");
    w.worker.wake_all_rx();
    w.settle();
    assert_eq!(count(), before + 13);
    w.command(Command::RemoveRx { port: DpPort(1), reply: None });
    assert_eq!(w.worker.poll_fds().count(), 0);
    w.worker.wake_rx(tokens[0]);
}

#[test]
fn a_worker_can_be_moved_to_its_thread() {
    fn movable<T: Send>() {}
    movable::<Worker<Fake>>();
    movable::<WorkerPeer>();
}
