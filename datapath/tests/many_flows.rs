//! More flows than stay near the processor, of which the worker asks for lines early: each frame still has what its own flow
//! says done to it, whatever came and went.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use base::HashSeed;
use datapath::cache::CACHE_PREFETCH_MIN;
use datapath::{Command, Domain, MissLimits, WorkerConfig};
use packet::slot;
use std::sync::Arc;
use world::*;

const FLOWS: u16 = 5_000;
const PORTS: u32 = 4;

/// Which port the frames of a flow go to.
fn out_port(sport: u16, revision: u64) -> u32 {
    2 + (HashSeed::new(1, 2).hash([sport.into(), revision]) % u64::from(PORTS - 1)) as u32
}

fn frame(sport: u16) -> Vec<u8> {
    Udp { sport, dport: 7, ..Udp::default() }.bytes()
}

/// Sends a frame of each of these flows; all come out where they should, in order.
fn send_all(w: &mut World, sports: impl Iterator<Item = u16>, revision: u64) {
    let sports: Vec<u16> = sports.collect();
    for batch in sports.chunks(500) {
        batch.iter().for_each(|sport| w.wire(1).push(&frame(*sport)));
        w.settle();
        for port in 2..=PORTS {
            let expected: Vec<u16> =
                batch.iter().copied().filter(|s| out_port(*s, revision) == port).collect();
            let source_port = |frame: &Vec<u8>| u16::from_be_bytes([frame[34], frame[35]]);
            let came: Vec<u16> = w.sink(port).take().iter().map(source_port).collect();
            assert_eq!(came, expected, "port {port}");
        }
    }
}

#[test]
fn each_frame_meets_its_own_flow() {
    let learned = Arc::<Learned>::default();
    let read = learned.clone();
    let domain = Domain(1);
    let mut fake = Fake::new(&[slot::TP_SRC], move |key| {
        let revision = read.of(domain);
        let port = out_port(key.get(slot::TP_SRC) as u16, revision.0);
        Answer { deps: read.deps(&[domain]), ..Answer::new(vec![output(port)]) }
    });
    fake.learned = learned.clone();
    let misses = MissLimits { rate: 1_000_000, burst: 1_000_000 };
    let mut w = World::with_config(fake, PORTS, WorkerConfig { misses, ..WorkerConfig::default() });
    assert!(usize::from(FLOWS) > 2 * CACHE_PREFETCH_MIN);
    send_all(&mut w, 0..FLOWS, 0);
    assert_eq!((w.counts().misses, w.counts().hits), (FLOWS.into(), 0));
    // All hit, in an order of their own.
    send_all(&mut w, (0..FLOWS).map(|n| (n * 7) % FLOWS), 0);
    assert_eq!(w.counts().hits, FLOWS.into());
    // New flows between old ones of the same batch: slots move under what was looked up before.
    send_all(&mut w, (0..FLOWS).flat_map(|n| [n, FLOWS + n]), 0);
    assert_eq!((w.counts().misses, w.counts().hits), (2 * u64::from(FLOWS), 2 * u64::from(FLOWS)));
    // All become wrong at once.
    learned.change(domain);
    let revision = learned.of(domain).0;
    send_all(&mut w, 0..2 * FLOWS, revision);
    assert_eq!(w.counts().retranslated, 2 * u64::from(FLOWS));
    send_all(&mut w, (0..2 * FLOWS).rev(), revision);
    assert_eq!(w.ask(|reply| Command::Flush { reply: Some(reply) }), 2 * usize::from(FLOWS));
    send_all(&mut w, 0..FLOWS, revision);
    w.check_conservation();
}
