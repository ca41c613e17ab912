//! What a connection costs: bytes of memory, and no allocation for a packet of an established one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use conntrack_support::*;
use datapath::conntrack::*;
use packet::{Frame, FrameBuilder, PacketKey, slot};
use std::time::Duration;
use sys::alloc_count::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Memory that the process has in use, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn memory_and_allocations() {
    hits_allocate_nothing();
    connections_are_small();
}

fn hits_allocate_nothing() {
    let w = World::new();
    let (a, b, n) = ((A, 1000), (B, 80), (N, 1000));
    w.send(&snat(N), &tcp(a, b, SYN, 100, 0));
    w.send(&bare_nat(), &tcp(b, n, SYN_ACK, 500, 101));
    let out = w.send(&snat(N), &tcp(a, b, ACK, 101, 501));
    let back = w.send(&bare_nat(), &tcp(b, n, ACK, 501, 101));
    let spec = snat(N);
    for (tracked, builder) in [
        (out.tracked, tcp(a, b, PSH_ACK, 101, 501).payload(b"hello")),
        (back.tracked, tcp(b, n, PSH_ACK, 501, 101).payload(b"hello")),
    ] {
        let (held, direction) = tracked.hold.clone().unwrap();
        let mut frame = Frame::from_bytes(&builder.build());
        let mut key = PacketKey::extract(&mut frame).unwrap();
        let before = CountingAllocator::count();
        let class = w.ct.track_held(&held, direction, &mut frame, &mut key, &spec, w.now);
        w.ct.describe(&held, direction, tracked.class, &mut key);
        assert_eq!(CountingAllocator::count(), before);
        assert_eq!(class, Some(tracked.class));
    }
    // The look-up of an established connection allocates nothing either.
    let mut frame = Frame::from_bytes(&tcp(a, b, PSH_ACK, 106, 501).payload(b"hello").build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    let before = CountingAllocator::count();
    assert!(before > 0, "the counting allocator is in place");
    let tracked = w.ct.track(&mut frame, &mut key, &spec, w.port, w.now);
    assert_eq!((CountingAllocator::count(), tracked.state), (before, CtState(0x62)));
}

/// Without the checks of `World::send`, which take longer than what is measured; the source that the frame leaves with.
fn send(w: &World, spec: &CtSpec, builder: &FrameBuilder) -> (u32, u16) {
    let mut frame = Frame::from_bytes(&builder.build());
    let mut key = PacketKey::extract(&mut frame).unwrap();
    assert!(w.ct.track(&mut frame, &mut key, spec, w.port, w.now).drop.is_none());
    (key.get(slot::NW_SRC) as u32, key.get(slot::TP_SRC) as u16)
}

/// Established connections, those without translation and those with. The rest of the process is small beside them.
fn connections_are_small() {
    const CONNECTIONS: u32 = 50_000;
    // Kept to the end, so that none is made in memory that another gave back.
    let mut worlds = Vec::new();
    for (translated, bytes_max) in [(false, 250), (true, 300)] {
        let w = World::with(CtConfig { embryonic_port_max: u32::MAX, ..CtConfig::default() });
        let before = resident();
        let spec = if translated { snat(N) } else { commit() };
        for n in 0..CONNECTIONS {
            let (a, b) = ((0x0b00_0000 + n % 25_000, 2000), (B + n / 25_000 * 2, 53));
            let source = send(&w, &spec, &udp(a, b));
            send(&w, &bare_nat(), &udp(b, source));
        }
        let used = resident().saturating_sub(before) / CONNECTIONS as usize;
        println!("{used} bytes a connection (translated: {translated})");
        assert_eq!(w.ct.connections(), CONNECTIONS);
        assert!(used < bytes_max, "{used} bytes a connection");
        worlds.push(w);
    }
    for mut w in worlds {
        w.pass(Duration::from_secs(100));
        assert_eq!(w.expire(), CONNECTIONS as usize);
    }
}
