//! Steps of a worker under a counter of instructions, whose answer does not depend on what else the machine does:
//!
//! ```sh
//! cargo build --release -p benches --example steps
//! valgrind --tool=callgrind --toggle-collect='*Forwarder*step*' target/release/examples/steps hit 1000 10000
//! ```
//!
//! Arguments: what (`wire`, `hit`, `output`, `normal`, `miss`), how many flows, how many steps of 32 frames.

use benches::forwarder::{Caching, with_brain};
use benches::frames::udp_flows;
use benches::ports::Wire;
use benches::{Forwarder, OneProgram, Pipeline};
use std::sync::Arc;

fn count(steps: usize, mut step: impl FnMut() -> usize) -> usize {
    (0..steps).map(|_| step()).sum()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let mut number = || arguments.next().and_then(|a| a.parse::<usize>().ok()).unwrap_or(1_000);
    let (flows, steps) = (number(), number());
    let frames = udp_flows(flows, 64);
    let forwarded = match what.as_str() {
        "wire" => {
            let mut wire = Wire::new(frames);
            count(steps, || wire.step())
        }
        "hit" => {
            let mut forwarder = Forwarder::new(Arc::new(OneProgram::new()), frames, Caching::On);
            count(steps, || forwarder.step())
        }
        "output" => {
            let mut forwarder = with_brain(Pipeline::Output, frames, Caching::On);
            count(steps, || forwarder.step())
        }
        "normal" => {
            let mut forwarder = with_brain(Pipeline::Normal, frames, Caching::On);
            count(steps, || forwarder.step())
        }
        "miss" => {
            let mut forwarder = with_brain(Pipeline::Normal, frames, Caching::Off);
            count(steps, || forwarder.step())
        }
        other => {
            eprintln!("unknown: {other:?}; one of wire, hit, output, normal, miss");
            std::process::exit(2);
        }
    };
    println!("{forwarded} frames in {steps} steps");
}
