//! Resident memory of a cached flow and of a connection, measured by having many.

use anyhow::{Result, anyhow, ensure};
use benches::compare::cases::{Case, Figure, Transport, Work};
use benches::compare::clock::ThreadClock;
use benches::compare::ours::{Limits, Ours, flow_mods};
use benches::forwarder::BridgeConfig;
use benches::frames::keys_of;
use datapath::{FrameClass, SlowPath};
use packet::DpPort;

/// How many of each.
pub const MANY: usize = 100_000;

/// Bytes of resident memory each.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Memory {
    /// What there are many of.
    pub title: &'static str,
    /// Bytes each.
    pub bytes: f64,
}

/// What there are many of, and how it comes about.
pub const SUBJECTS: &[(&str, Work, Limits)] = &[
    ("cached flow", Work::OwnFlow, Limits::Raised),
    ("established connection, nothing cached", Work::Track, Limits::Uncached),
    ("the same with NAT", Work::TrackNat, Limits::Uncached),
    ("established connection with its cached flows, both ways", Work::Track, Limits::Raised),
];

/// A cached flow's line, its record, and the words that stand in the line (`datapath::cache::entry`).
const FLOW: usize = 64 + 32;
const FLOW_WORDS: usize = 5;
/// The index (a line of twelve, two thirds full) and the place in the port's share.
const INDEX_AND_SHARE: usize = 64 * 3 / (12 * 2) + 4;

/// A cached flow as the first of [`measure`], if no array had room to spare. All have one translation between them.
fn by_arithmetic() -> Result<Memory> {
    let case = Case {
        name: "",
        title: "",
        flows: 1,
        transport: Transport::Udp,
        work: Work::OwnFlow,
        figure: Figure::New,
    };
    let snapshot = BridgeConfig::new(&flow_mods(&case.rules())?).publish();
    let key = &keys_of(&[case.frame(0, false)], DpPort(1))[0];
    let profile = snapshot.profile(FrameClass::of(key)).map_err(|drop| anyhow!("{drop:?}"))?;
    let beyond = profile.words.len().saturating_sub(FLOW_WORDS) * size_of::<u64>();
    Ok(Memory { title: "cached flow, by arithmetic", bytes: (FLOW + beyond + INDEX_AND_SHARE) as f64 })
}

/// Measures all.
///
/// # Errors
/// If there are not as many as there should be.
pub fn measure() -> Result<Vec<Memory>> {
    let mut out = vec![by_arithmetic()?];
    // Kept to the end: nothing is made in memory that another gave back.
    let mut kept = Vec::new();
    for &(title, work, limits) in SUBJECTS {
        // Connections without an answer stand in a queue of their port's as well; limits as shipped let it have few.
        let figure = if work == Work::OwnFlow { Figure::New } else { Figure::Established };
        let case = Case { name: "", title, flows: MANY, transport: Transport::Udp, work, figure };
        let traffic = case.traffic();
        let mut ours = Ours::new(&case.rules(), limits)?;
        let before = sys::process::usage()?.resident;
        if figure == Figure::New {
            ours.forward_once(&traffic, &ThreadClock::own(), MANY)?;
        } else {
            ours.establish(&case, &traffic)?;
        }
        let bytes = sys::process::usage()?.resident.saturating_sub(before) as f64 / MANY as f64;
        ensure!(ours.connections() == case.connections(), "{title}: {} connections", ours.connections());
        out.push(Memory { title, bytes });
        kept.push((ours, traffic));
    }
    Ok(out)
}
