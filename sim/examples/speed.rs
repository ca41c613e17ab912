//! How fast a world goes: four hosts exchange bulk TCP over bad wires through two workers, every frame judged by the
//! oracle. Prints frames a second of real time, and how much virtual time passes in one.
//!
//! `cargo run --release -p sim --example speed`

use sim::{Content, HostSpec, PortSpec, WireSpec, World};
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the real clock; the world does not")]
fn main() {
    let mut w = World::seeded(1, 2);
    w.add_bridge("br0");
    let wire = WireSpec { bits_per_second: 10_000_000, ..WireSpec::bad(1_000) };
    let hosts: Vec<_> = (1..=4)
        .map(|n| {
            w.add_port("br0", &format!("p{n}"), PortSpec::number(n.into()).wire(wire));
            w.add_host(&format!("p{n}"), HostSpec::number(n))
        })
        .collect();
    for (i, host) in hosts.iter().enumerate() {
        let next = (i + 1) % hosts.len();
        let content = Content { seed: i as u64, len: 20_000_000 };
        w.host(hosts[next]).receive(5_000, content);
        w.host(*host).send([10, 0, 0, next as u8 + 1], 5_000, content);
    }
    let (virtual_start, real_start) = (w.now(), std::time::Instant::now());
    let done = w.run_until_done(Duration::from_secs(3_600));
    let (passed, took) = (w.now() - virtual_start, real_start.elapsed());
    let frames = w.frames() as f64 / took.as_secs_f64();
    println!("done: {done}; {} frames in {took:?}: {frames:.0} a second", w.frames());
    println!(
        "{passed:?} of virtual time: {:.1} times as fast as real",
        passed.as_secs_f64() / took.as_secs_f64()
    );
}
