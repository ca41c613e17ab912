//! Ours alone, for what must not grow: the cost of a frame over the number of rules, Services, connections and ports, what one
//! port can take from another, and memory. Needs no other switch and no privileges.
//!
//! Nothing here knows what a figure should be.

mod curve;
mod fairness;
mod memory;
mod report;

use crate::{machine, matches, print};
use anyhow::{Result, ensure};
use clap::Args;
use curve::CURVES;
use fairness::ATTACKS;
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

/// Measures, prints and writes `report.md` and `report.json` in `dir`.
///
/// # Errors
/// If nothing has such a name, a switch does not forward what it should, or a file cannot be written.
pub fn run(settings: &Settings, core: usize, dir: &Path) -> Result<()> {
    let wanted = |name: &str| settings.only.is_empty() || settings.only.iter().any(|w| matches(name, w));
    let curves: Vec<_> = CURVES.iter().filter(|c| wanted(c.name)).collect();
    let attacks: Vec<_> = ATTACKS.iter().filter(|a| wanted(a.name)).collect();
    ensure!(
        wanted("memory") || !curves.is_empty() || !attacks.is_empty(),
        "nothing has such a name; --list shows them"
    );
    if settings.list {
        let names = curves.iter().map(|c| (c.name, c.title)).chain(attacks.iter().map(|a| (a.name, a.title)));
        let names = names.chain([("memory", "of a cached flow and of a connection")]);
        return print(&names.map(|(name, title)| format!("{name}: {title}\n")).collect::<String>());
    }
    let (rounds, window) = (settings.rounds.max(1), Duration::from_millis(settings.window_ms));
    let facts = machine();
    let _pinned = crate::measure::Pinned::to(core)?;
    let mut found = report::Found::default();
    // First, while no memory waits to be used again.
    if wanted("memory") {
        eprintln!("memory ...");
        found.memory = memory::measure()?;
    }
    for curve in curves {
        eprintln!("{} ...", curve.title);
        found.curves.push((curve, curve.measure(rounds, window)?));
    }
    for attack in attacks {
        eprintln!("{} ...", attack.title);
        found.attacks.push((attack, attack.measure(rounds, window)?));
    }
    let text = report::text(&found, &facts);
    print(&format!("{text}\n"))?;
    let dir = dir.join("curves");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("report.md"), &text)?;
    std::fs::write(
        dir.join("report.json"),
        serde_json::to_string_pretty(&report::json(&found, &facts))? + "\n",
    )?;
    Ok(())
}
