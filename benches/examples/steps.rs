//! Steps of a worker under a counter of instructions, whose answer does not depend on what else the machine does:
//!
//! ```sh
//! cargo build --release -p benches --example steps
//! valgrind --tool=callgrind --toggle-collect='*Forwarder*step*' target/release/examples/steps hit 1000 10000
//! ```
//!
//! `steps --help` tells the arguments. For a case of the comparison, established or new, the switch is ours alone.

#![allow(clippy::unwrap_used, reason = "what cannot be set up cannot be counted")]

use benches::compare::clock::ThreadClock;
use benches::compare::{CASES, Case, Figure, Limits, Ours};
use benches::forwarder::{Caching, with_brain};
use benches::frames::udp_flows;
use benches::ports::Wire;
use benches::{Forwarder, OneProgram, Pipeline};
use packet::Batch;
use std::sync::Arc;

fn count(steps: usize, mut step: impl FnMut() -> usize) -> usize {
    (0..steps).map(|_| step()).sum()
}

/// A case of the comparison: its steps are of 32 frames too, but come from two ports in turn.
fn case(case: &Case, steps: usize) -> usize {
    let frames = steps * Batch::MAX;
    let flows = if case.figure == Figure::New { frames } else { case.flows };
    let case = Case { flows, ..*case };
    let traffic = case.traffic();
    let mut ours = Ours::new(&case.rules(), Limits::Raised).unwrap();
    match case.figure {
        Figure::Established => {
            ours.establish(&case, &traffic).unwrap();
            ours.forward(frames);
        }
        Figure::New => drop(ours.forward_once(&traffic, &ThreadClock::own(), frames).unwrap()),
    }
    frames
}

const USAGE: &str = "\
usage: steps WHAT [FLOWS [STEPS]]
WHAT: wire, hit, output, normal, miss, or a case of `scripts/compare --list`, such as ct-1000
FLOWS: how many flows (1000); STEPS: how many steps of 32 frames (1000)";

fn wrong(what: &str) -> ! {
    eprintln!("steps: {what}\n{USAGE}");
    std::process::exit(2);
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    if matches!(&*what, "-h" | "--help") {
        return println!("{USAGE}");
    }
    let mut number = || match arguments.next().map(|text| (text.parse(), text)) {
        None => 1_000,
        Some((Ok(number @ 1..), _)) => number,
        Some((_, text)) => wrong(&format!("'{text}' is not a number of at least 1")),
    };
    let (flows, steps): (usize, usize) = (number(), number());
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
            if let Some(found) = CASES.iter().find(|c| c.name == other) {
                println!("{} frames", case(&Case { flows, ..*found }, steps));
                return;
            }
            wrong(&format!("'{other}' is nothing that it can count"));
        }
    };
    println!("{forwarded} frames in {steps} steps");
}
