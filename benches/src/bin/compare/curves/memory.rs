//! Resident memory of a cached flow and of a connection, measured by having many.

use anyhow::{Result, ensure};
use benches::compare::cases::{Case, Figure, Transport, Work};
use benches::compare::clock::ThreadClock;
use benches::compare::ours::{Limits, Ours};

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

/// Measures all.
///
/// # Errors
/// If there are not as many as there should be.
pub fn measure() -> Result<Vec<Memory>> {
    let mut out = Vec::new();
    // Kept to the end: nothing is made in memory that another gave back.
    let mut kept = Vec::new();
    for (title, work, limits) in [
        ("cached flow", Work::OwnFlow, Limits::Raised),
        ("connection, nothing cached", Work::Track, Limits::Uncached),
        ("connection with NAT, nothing cached", Work::TrackNat, Limits::Uncached),
        ("connection with its cached flows, both ways", Work::Track, Limits::Raised),
    ] {
        let figure =
            if limits == Limits::Raised && work == Work::Track { Figure::Established } else { Figure::New };
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
