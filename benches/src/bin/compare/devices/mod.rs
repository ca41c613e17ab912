//! Tapestry's ports beside what else could connect two pods: the same loads, one system after the other in each round.
//!
//! All systems run at the same time, each in namespaces of its own, but all except the one that is measured are stopped by a
//! signal. Nothing here knows what a figure should be.

mod attack;
mod cases;
mod load;
mod plot;
mod report;
mod spaces;
mod systems;

use crate::report::Report;
use crate::{chosen, machine, print};
use anyhow::{Context as _, Result, bail, ensure};
use benches::compare::clock::pause;
pub use cases::CASES;
use cases::{Case, Place};
use clap::Args;
use load::Between;
use report::{Row, Series};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use systems::SYSTEMS;
use systems::{Files, Kind, Running, System};

/// After a switch was let go on: its timers have run out meanwhile.
const SETTLE: Duration = Duration::from_millis(100);
/// What Linux takes unless it is told otherwise.
const CONGESTION_CONTROL: &str = "cubic";

/// What to measure, and how.
#[derive(Args, Debug)]
pub struct Settings {
    /// Turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a window.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these cases; `vxlan-*` stands for all whose names begin with `vxlan-`.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Only these systems; named like cases.
    #[arg(long, value_delimiter = ',')]
    systems: Vec<String>,
    /// Congestion control of TCP between the pods, if not Linux's own choice.
    #[arg(long, default_value = CONGESTION_CONTROL)]
    congestion_control: String,
    /// Only list the cases and the systems.
    #[arg(long)]
    list: bool,
}

impl Settings {
    /// All cases and systems, so many rounds, windows of so many seconds.
    pub fn all(rounds: usize, seconds: f64) -> Settings {
        let congestion_control = CONGESTION_CONTROL.to_owned();
        Settings { rounds, seconds, cases: Vec::new(), systems: Vec::new(), congestion_control, list: false }
    }

    /// Whether this can be measured at all.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self) -> Result<()> {
        let seconds = self.seconds;
        ensure!(seconds > 0.0 && seconds <= 3_600.0, "--seconds {seconds}: not a window");
        ensure!(self.rounds > 0, "--rounds 0: nothing to measure");
        Ok(())
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let all = CASES.iter().map(|case| (case.name, *case)).collect();
        chosen("--cases", all, &self.cases)
    }

    fn systems(&self) -> Result<Vec<System>> {
        let all = SYSTEMS.iter().map(|system| (system.name, *system)).collect();
        chosen("--systems", all, &self.systems)
    }
}

/// Measures, prints, and leaves reports in `dir`; or prints what there is to measure.
///
/// # Errors
/// As [`measured`], and if a report cannot be written.
pub fn run(settings: &Settings, unpacked: PathBuf, dir: &Path) -> Result<()> {
    if settings.list {
        let (cases, systems) = (settings.cases()?, settings.systems()?);
        let cases = cases.iter().map(|case| format!("{}: {}\n", case.name, case.title));
        let systems = systems.iter().map(|system| format!("{}: {}\n", system.name, system.title));
        return print(&cases.chain(["\n".to_owned()]).chain(systems).collect::<String>());
    }
    let dir = dir.join("devices");
    measured(settings, unpacked, &dir)?.publish(&dir)
}

/// Measures, with logs and sockets of the switches in `dir`.
///
/// # Errors
/// If ours cannot be set up or measured. What goes wrong with another one is reported in its place.
pub fn measured(settings: &Settings, unpacked: PathBuf, dir: &Path) -> Result<Report> {
    let (cases, systems) = (settings.cases()?, settings.systems()?);
    settings.check()?;
    let program = std::env::current_exe()?;
    let programs = program.parent().context("this program lies in no directory")?.to_owned();
    let files = Files { unpacked, programs, dir: dir.to_owned() };
    std::fs::create_dir_all(&files.dir).with_context(|| files.dir.display().to_string())?;
    let mut facts = machine();
    facts.push((
        "measured".to_owned(),
        format!(
            "{} rounds, windows of {} s, TCP with {}",
            settings.rounds, settings.seconds, settings.congestion_control
        ),
    ));
    let theirs = crate::processes::run(std::process::Command::new("ovs-vswitchd").arg("--version"))?;
    facts.push(("Open vSwitch".to_owned(), theirs.lines().next().unwrap_or_default().to_owned()));

    let mut rows = Vec::new();
    for place in [Place::Node, Place::Crowd, Place::Overlay, Place::OverlayCut] {
        let here: Vec<Case> = cases.iter().filter(|case| case.place == place).copied().collect();
        if here.is_empty() {
            continue;
        }
        let mut bench = Bench::start(place, &systems, &files)?;
        for case in here {
            eprintln!("{} ...", case.title);
            rows.push(bench.row(case, settings)?);
        }
    }
    facts.push(("load after".to_owned(), crate::load_average()));
    Ok(Report {
        text: report::text(&rows, &facts),
        json: report::json(&rows, &facts),
        plot: Some(plot::svg(&rows)),
    })
}

/// The systems at one place, stopped, or why there are not.
struct Bench(Vec<(System, Result<Running>)>);

impl Bench {
    fn start(place: Place, systems: &[System], files: &Files) -> Result<Bench> {
        let mut all = Vec::new();
        for system in systems.iter().filter(|system| system.is_at(place)) {
            let started = system.start(place, files).and_then(|running| {
                running.stop()?;
                Ok(running)
            });
            let started = match started {
                Err(error) if system.kind == Kind::Tapestry => return Err(error.context(system.name)),
                Err(error) => {
                    eprintln!("{} is left out: {error:#}", system.name);
                    Err(error)
                }
                running => running,
            };
            all.push((*system, started));
        }
        Ok(Bench(all))
    }

    fn row(&mut self, case: Case, settings: &Settings) -> Result<Row> {
        let window = Duration::from_secs_f64(settings.seconds);
        let new = |system: &System| Series { system: *system, samples: Vec::new(), failure: None };
        let mut series: Vec<Series> = self.0.iter().map(|(system, _)| new(system)).collect();
        for _ in 0..settings.rounds {
            for ((system, running), series) in self.0.iter().zip(&mut series) {
                if series.failure.is_some() || !system.is_measured(case.load) {
                    continue;
                }
                let measured = match running {
                    Ok(running) => measure(&case, running, window, &settings.congestion_control),
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                };
                match measured {
                    Ok(sample) => series.samples.push(sample),
                    Err(error) if system.kind == Kind::Tapestry => {
                        return Err(error.context(format!("{} of {}", case.name, system.name)));
                    }
                    Err(error) => {
                        eprintln!("  {}: {error:#}", system.name);
                        series.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
        Ok(Row { case, series })
    }
}

fn measure(
    case: &Case,
    running: &Running,
    window: Duration,
    congestion_control: &str,
) -> Result<cases::Sample> {
    running.go_on()?;
    pause(SETTLE);
    let [client, server, others @ ..] = &running.pods[..] else { bail!("too few pods") };
    let others = if let [attacker, partner] = others { Some((attacker, partner)) } else { None };
    let cpu = &|| running.cpu();
    let sample = Between { client, server, others, cpu, congestion_control }.measure(case, window);
    running.stop()?;
    let sample = sample?;
    load::check(case, &sample)?;
    Ok(sample)
}

/// Figures of systems, made up for tests.
#[cfg(test)]
type Figures<'a> = &'a [(&'a str, &'a [f64])];

/// A report of made-up figures of some cases.
#[cfg(test)]
pub fn example(figures: &[(&str, Figures<'_>)]) -> serde_json::Value {
    let rows: Vec<Row> = figures.iter().map(|(case, figures)| report::example(case, figures)).collect();
    report::json(&rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long enough for each receiver to have its turn on a busy machine.
    const WINDOW: Duration = Duration::from_millis(500);

    #[test]
    fn every_load_crosses_the_kernel_s_bridge() {
        let dir = std::env::temp_dir().join(format!("compare-devices-{}", std::process::id()));
        let files = Files { unpacked: PathBuf::new(), programs: PathBuf::new(), dir: dir.clone() };
        let bridge = SYSTEMS.iter().find(|system| system.kind == Kind::Bridge).unwrap();
        let start = |place| bridge.start(place, &files).unwrap();
        let (running, crowd) = (start(Place::Node), start(Place::Crowd));
        for (place, running) in [(Place::Node, &running), (Place::Crowd, &crowd)] {
            for case in CASES.iter().filter(|c| c.place == place && bridge.is_measured(c.load)) {
                let sample = measure(case, running, WINDOW, CONGESTION_CONTROL);
                let sample = sample.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
                assert_eq!(sample.cost, None, "{}: the kernel has no process", case.name);
            }
        }
        let unknown = measure(&CASES[0], &running, WINDOW, "carrier-pigeon").unwrap_err();
        assert!(format!("{unknown:#}").contains("carrier-pigeon"), "{unknown:#}");
        // A pod whose link is down is told, not measured as nothing.
        let link = running.pods[1].link().unwrap().index;
        sys::netlink::Netlink::open_in(running.pods[1].space.netns()).unwrap().delete(link).unwrap();
        assert!(measure(&CASES[0], &running, WINDOW, CONGESTION_CONTROL).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
