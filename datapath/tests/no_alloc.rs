//! The path of a frame whose flow is cached allocates nothing: a counting allocator watches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use datapath::conntrack::{CtSpec, CtState, NatKind, NatSpec, PortSelection};
use datapath::meter::{BandConfig, Excess, MeterUnit};
use datapath::{Command, Domain, DpAction, Drop, Meter, PortError, RecircId, Rx, RxQueue, Tx};
use packet::{Batch, DpPort, Frame, FrameBuilder, FramePool, PacketKey, slot};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use sys::alloc_count::CountingAllocator;
use world::{Answer, Fake, Udp, World, output};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A device that always has a batch of these frames.
struct Source {
    frames: Vec<Vec<u8>>,
    next: usize,
}

impl Rx for Source {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        while !out.is_full() {
            let mut frame = pool.take();
            frame.append(&self.frames[self.next]).expect("short");
            self.next = (self.next + 1) % self.frames.len();
            out.push(frame).expect("there is room");
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A device that keeps frames until they are flushed.
struct Null(Vec<Frame>);

impl Tx for Null {
    fn send(&mut self, frame: Frame, _pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        self.0.push(frame);
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        self.0.drain(..).for_each(|frame| pool.give(frame));
        Ok(())
    }
}

#[test]
fn hits_allocate_nothing() {
    let set = |slot, value| DpAction::SetField { slot, value, mask: slot.ones() };
    let meter = |excess| {
        let band = BandConfig { excess, rate: 5, burst: 5 };
        DpAction::Meter(Arc::new(Meter::new(1, MeterUnit::Packets, &[band])))
    };
    let programs = [
        vec![output(2)],
        vec![output(2), set(slot::DL_DST, 5), set(slot::NW_DST, 0x0a000009), output(3)],
        vec![DpAction::PushVlan { tpid: 0x8100, tci: 5 }, output(3), DpAction::PopVlan, output(2)],
        vec![
            DpAction::OutputTrunc { port: DpPort(2), max_len: 20 },
            DpAction::PushMpls { lse: 0x1ff, ethertype: 0x8847 },
            output(3),
        ],
        vec![DpAction::Drop(Drop::Rule)],
        vec![],
        vec![output(99)],
        vec![meter(Excess::Drop), output(2)],
        vec![meter(Excess::Remark(1)), output(3)],
        vec![set(slot::PKT_MARK, 7), DpAction::Recirculate(RecircId(1))],
    ];
    let kinds = programs.len() as u16;
    let fake = Fake::new(&[slot::TP_SRC, slot::TP_DST, slot::PKT_MARK], move |key| {
        if key.get(slot::RECIRC_ID) == 1 {
            return Answer::new(vec![output(3)]);
        }
        Answer::new(programs[key.get(slot::TP_DST) as usize].clone())
    });
    let mut w = World::new(fake, 0);
    let frames =
        (0..kinds * 100).map(|n| Udp { sport: n / kinds, dport: n % kinds, ..Udp::default() }.bytes());
    let mut frames: Vec<_> = frames.collect();
    frames.push(vec![0; 5]);
    let rounds = frames.len() * 2 / Batch::MAX + 1;
    for port in 1..=3 {
        let rx = Source { frames: frames.clone(), next: 0 };
        let queue = RxQueue::only(Box::new(rx));
        w.command(Command::AddRx { port: DpPort(port), queue, done: None });
        let tx = Null(Vec::with_capacity(1024));
        w.command(Command::AddTx { port: DpPort(port), tx: Box::new(tx), done: None });
    }
    // Set-ups are more work than one round has for a port.
    for _ in 0..8 * rounds {
        let _ = w.step();
    }
    let (before, counted) = (w.counts(), CountingAllocator::count());
    assert!(counted > 0, "the counting allocator is in place");
    for round in 0..rounds {
        if round % 10 == 0 {
            w.learned.change(Domain(1));
        }
        let changed = CountingAllocator::count();
        let progress = w.step();
        assert_eq!(CountingAllocator::count(), changed, "step {round} allocated");
        assert!(progress.frames >= Batch::MAX);
    }
    let after = w.counts();
    assert_eq!(after.misses, before.misses, "only hits");
    assert!(after.revalidated > before.revalidated && after.retranslated == before.retranslated);
    assert!(after.hits - before.hits >= (rounds * Batch::MAX * 2) as u64);
    w.check_conservation();
}

/// Established connections, with their source translated or not: tracking allocates nothing either, and takes one look-up.
#[test]
fn followed_chains_allocate_nothing() {
    const TRANSLATED: [u8; 4] = [192, 0, 2, 9];
    let ct = |spec: CtSpec| DpAction::Ct(spec.into());
    for translates in [false, true] {
        let nat = move |kind| {
            let address = Some(TRANSLATED.into());
            translates.then(|| match kind {
                None => NatSpec::apply(),
                Some(kind) => {
                    NatSpec::new(kind, (address, None), (None, None), PortSelection::Default, false).unwrap()
                }
            })
        };
        let slots = [slot::NW_SRC, slot::NW_DST, slot::NW_PROTO, slot::TP_SRC, slot::TP_DST, slot::CT_STATE];
        let fake = Fake::new(&slots, move |key| {
            let state = CtState(key.get(slot::CT_STATE) as u32);
            Answer::new(match key.get(slot::RECIRC_ID) {
                0 => {
                    vec![
                        ct(CtSpec { nat: nat(None), ..CtSpec::default() }),
                        DpAction::Recirculate(RecircId(1)),
                    ]
                }
                _ if state.has(CtState::NEW) => {
                    let spec = CtSpec { commit: true, nat: nat(Some(NatKind::Src)), ..CtSpec::default() };
                    vec![ct(spec), output(2)]
                }
                _ => vec![output(if state.has(CtState::RPL) { 1 } else { 2 })],
            })
        });
        let (a, b, n) = (0x0a00_0001, 0x0a00_0002, u32::from_be_bytes(TRANSLATED));
        let seen = if translates { n } else { a };
        let udp = |src, dst| FrameBuilder::udp4(src, dst).payload(b"odd").build();
        let tcp = |src, dst, seq: u32, ack: u32| {
            let mut frame = Frame::from_bytes(&FrameBuilder::tcp4(src, dst, 0x18).payload(b"odd").build());
            PacketKey::extract(&mut frame).unwrap();
            let header = &mut frame.bytes_mut()[14 + 20..];
            header[4..8].copy_from_slice(&seq.to_be_bytes());
            header[8..12].copy_from_slice(&ack.to_be_bytes());
            header[14..16].copy_from_slice(&5_000u16.to_be_bytes());
            frame.refresh_transport_checksum();
            frame.bytes().to_vec()
        };
        let frames = (0..64).map(|i| {
            let port = 2_000 + i;
            match i % 2 {
                0 => (udp((a, port), (b, 80)), udp((b, 80), (seen, port))),
                _ => (tcp((a, port), (b, 80), 100, 700), tcp((b, 80), (seen, port), 700, 100)),
            }
        });
        let (there, back): (Vec<_>, Vec<_>) = frames.unzip();
        let mut w = World::new(fake, 0);
        for port in [1, 2] {
            let tx = Null(Vec::with_capacity(1024));
            w.command(Command::AddTx { port: DpPort(port), tx: Box::new(tx), done: None });
        }
        // No answer before what it answers to.
        for (port, frames) in [(1, there), (2, back)] {
            let rx = Source { frames, next: 0 };
            let queue = RxQueue::only(Box::new(rx));
            w.command(Command::AddRx { port: DpPort(port), queue, done: None });
            for _ in 0..64 {
                let _ = w.step();
            }
        }
        let recirculated = w.worker.stats().cache.recirculated.get();
        let before = CountingAllocator::count();
        for _ in 0..32 {
            let _ = w.step();
        }
        assert_eq!(CountingAllocator::count(), before);
        assert_eq!(w.worker.stats().cache.recirculated.get(), recirculated, "all follow");
        w.check_conservation();
    }
}
