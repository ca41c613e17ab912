//! Ours alone, for what must not grow: the cost of a frame over the number of rules, Services, connections and ports, what one
//! port can take from another, and memory. Needs no other switch and no privileges.
//!
//! Nothing here knows what a figure should be.

mod curve;
mod fairness;
mod memory;
mod report;

use crate::report::Report;
use crate::{machine, matches, print};
use anyhow::{Result, ensure};
use clap::Args;
pub use curve::CURVES;
use curve::Curve;
use fairness::{ATTACKS, Attack};
#[cfg(test)]
pub use memory::SUBJECTS;
use std::path::Path;
use std::time::Duration;

/// What to measure, and how.
#[derive(Args, Debug)]
pub struct Settings {
    /// Turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a window, in milliseconds.
    #[arg(long, default_value_t = 200)]
    window_ms: u64,
    /// Only these curves and attacks, or `memory`; `rules-*` stands for all whose names begin with `rules-`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only list them.
    #[arg(long)]
    list: bool,
}

impl Settings {
    /// Everything, so many rounds, windows of so many milliseconds.
    pub fn all(rounds: usize, window_ms: u64) -> Settings {
        Settings { rounds, window_ms, only: Vec::new(), list: false }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| matches(name, wanted))
    }

    fn curves(&self) -> impl Iterator<Item = &'static Curve> {
        CURVES.iter().filter(|curve| self.wants(curve.name))
    }

    fn attacks(&self) -> impl Iterator<Item = &'static Attack> {
        ATTACKS.iter().filter(|attack| self.wants(attack.name))
    }
}

/// Measures, prints and leaves reports in `dir`; or prints what there is to measure.
///
/// # Errors
/// As [`measured`], if nothing has such a name, and if a report cannot be written.
pub fn run(settings: &Settings, core: usize, dir: &Path) -> Result<()> {
    let names = settings.curves().map(|c| (c.name, c.title));
    let names = names.chain(settings.attacks().map(|a| (a.name, a.title)));
    let memory = ("memory", "of a cached flow and of a connection");
    let names: Vec<_> = names.chain(settings.wants(memory.0).then_some(memory)).collect();
    ensure!(!names.is_empty(), "nothing has such a name; --list shows them");
    if settings.list {
        return print(&names.iter().map(|(name, title)| format!("{name}: {title}\n")).collect::<String>());
    }
    measured(settings, core)?.publish(&dir.join("curves"))
}

/// Measures.
///
/// # Errors
/// If a switch does not forward what it should.
pub fn measured(settings: &Settings, core: usize) -> Result<Report> {
    let (rounds, window) = (settings.rounds.max(1), Duration::from_millis(settings.window_ms));
    let facts = machine();
    let _pinned = crate::measure::Pinned::to(core)?;
    let mut found = report::Found::default();
    // First, while no memory waits to be used again.
    if settings.wants("memory") {
        eprintln!("memory ...");
        found.memory = memory::measure()?;
    }
    for curve in settings.curves() {
        eprintln!("{} ...", curve.title);
        found.curves.push((curve, curve.measure(rounds, window)?));
    }
    for attack in settings.attacks() {
        eprintln!("{} ...", attack.title);
        found.attacks.push((attack, attack.measure(rounds, window)?));
    }
    Ok(Report { text: report::text(&found, &facts), json: report::json(&found, &facts), plot: None })
}

/// A report of a made-up curve, nanoseconds at sizes, and memory.
#[cfg(test)]
pub fn example(name: &str, points: &[(usize, f64)], memory: (&'static str, f64)) -> serde_json::Value {
    let curve = CURVES.iter().find(|curve| curve.name == name).expect("a curve");
    let point = |&(size, nanos): &(usize, f64)| curve::Point {
        size,
        ours: vec![nanos],
        wire: vec![1.0],
        touching: vec![1.0],
    };
    let found = report::Found {
        curves: vec![(curve, points.iter().map(point).collect())],
        memory: vec![memory::Memory { title: memory.0, bytes: memory.1 }],
        ..report::Found::default()
    };
    report::json(&found, &[])
}
