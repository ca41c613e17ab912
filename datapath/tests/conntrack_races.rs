//! Both directions of a connection on threads of their own, one of which changes what the other is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use base::{HashSeed, Instant};
use conntrack_support::*;
use datapath::conntrack::*;
use packet::{DpPort, Frame, FrameBuilder, PacketKey, slot};
use std::collections::HashMap;
use std::sync::Barrier;

/// One direction of a UDP connection, as a thread of its own sees it: passes of a frame that set the bits of a mark, and what
/// the tracker then says: the revision of mark and label, and the mark.
fn marked(ct: &ConnTracker, there: &FrameBuilder, mark: Option<(u32, u32)>) -> (u32, u32) {
    let mut frame = Frame::from_bytes(&there.build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    let spec = CtSpec { mark, commit: mark.is_some(), ..CtSpec::default() };
    let tracked = ct.track(&mut frame, &mut key, &spec, DpPort(1), Instant::from_secs(1000));
    (tracked.class.revision(), key.get(slot::CT_MARK) as u32)
}

/// A frame may be told of a mark that is newer than its class says, but never of an older one: what follows from that mark would
/// be remembered for the class, for as long as the connection stays as it is.
#[test]
fn classes_are_not_newer_than_what_frames_are_told() {
    const ROUNDS: u32 = 30_000;
    let ct = ConnTracker::new(HashSeed::new(5, 6), CtConfig::default());
    let (there, back) = (udp((A, 1000), (B, 53)), udp((B, 53), (A, 1000)));
    marked(&ct, &there, Some((1, u32::MAX)));
    let (told, read) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let write = |n| marked(&ct, &back, Some((n, u32::MAX)));
            (2..ROUNDS).map(write).collect::<HashMap<_, _>>()
        });
        let mut read = Vec::new();
        while !writer.is_finished() {
            read.push(marked(&ct, &there, None));
        }
        (writer.join().unwrap(), read)
    });
    // An odd revision is that of a change that is being made.
    let pairs = read.iter().filter_map(|(revision, mark)| Some((*mark, *told.get(revision)?)));
    let older = pairs.clone().filter(|(mark, of_class)| mark < of_class).count();
    assert_eq!(older, 0, "of {}", pairs.count());
}

/// Both directions may write, each its own bits.
#[test]
fn bits_of_a_mark_that_others_write_are_kept() {
    let ct = ConnTracker::new(HashSeed::new(5, 6), CtConfig::default());
    let (there, back) = (udp((A, 1000), (B, 53)), udp((B, 53), (A, 1000)));
    marked(&ct, &there, Some((0, u32::MAX)));
    std::thread::scope(|scope| {
        for (frame, shift) in [(there, 0), (back, 16)] {
            let ct = &ct;
            scope.spawn(move || {
                for n in 1..30_000 {
                    marked(ct, &frame, Some((n << shift, 0xffff << shift)));
                    assert_eq!(marked(ct, &frame, None).1 >> shift & 0xffff, n);
                }
            });
        }
    });
}

/// Two workers have the first packets of two connections that would fulfil one expectation.
#[test]
fn an_expectation_is_fulfilled_once() {
    const ROUNDS: u32 = 20_000;
    let ct = ConnTracker::new(HashSeed::new(5, 6), CtConfig::default());
    let pass = |builder: &FrameBuilder| {
        let mut frame = Frame::from_bytes(&builder.build());
        let mut key = PacketKey::extract(&mut frame).unwrap();
        let spec = CtSpec { alg: Some(Alg::Tftp), commit: true, ..CtSpec::default() };
        ct.track(&mut frame, &mut key, &spec, DpPort(1), Instant::from_secs(1000)).state
    };
    let together = Barrier::new(2);
    let client = |round: u32| (A + round, 3333);
    // Port 4444 asks for the file, and both answer from ports of their own.
    let answers = |port: u16| {
        let (pass, together, client) = (&pass, &together, &client);
        move || -> Vec<bool> {
            let answer = |round| {
                if port == 4444 {
                    pass(&FrameBuilder::udp4(client(round), (B, 69)).payload(b"\0\x01file\0octet\0"));
                }
                together.wait();
                let data = FrameBuilder::udp4((B, port), client(round)).payload(b"\0\x03\0\x01abc");
                pass(&data).has(CtState::REL)
            };
            (0..ROUNDS).map(answer).collect()
        }
    };
    let (one, other) = std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(answers(4444)), scope.spawn(answers(5555)));
        (one.join().unwrap(), other.join().unwrap())
    });
    let fulfilled = one.iter().zip(&other).map(|(one, other)| u8::from(*one) + u8::from(*other));
    let wrong: Vec<_> = fulfilled.enumerate().filter(|(_, times)| *times != 1).take(3).collect();
    assert_eq!(wrong, [], "rounds, and how often their expectation was fulfilled");
}
