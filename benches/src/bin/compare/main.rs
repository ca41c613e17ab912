//! Tapestry beside Debian's Open vSwitch with DPDK: the same rules, the same frames, one polling core, in turn. And, as
//! `compare devices`, beside all that could connect two pods.
//!
//! `scripts/compare` fetches what is needed and runs this. docs/performance.md has the figures and what they mean. Needs
//! root, for network namespaces.

mod curves;
mod devices;
mod goals;
mod measure;
mod ovs;
mod processes;
mod report;

use anyhow::{Context as _, Result, bail, ensure};
use benches::compare::{CASES, Case, Figure, Limits};
use clap::{Parser, Subcommand};
use measure::{Row, Settings};
use report::Report;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::time::Duration;

/// Measures Tapestry and Open vSwitch with DPDK in turn.
#[derive(Parser, Debug)]
struct Arguments {
    /// Directory with the unpacked packages of openvswitch-switch-dpdk.
    #[arg(long)]
    unpacked: PathBuf,
    /// Directory for captures, sockets and logs.
    #[arg(long)]
    dir: PathBuf,
    /// Core that both are measured on.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a window, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    window_ms: u64,
    /// Only these cases; `ct-*` stands for all whose names begin with `ct-`.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Run ours with the limits of cached flows and of flow set-ups that it is shipped with.
    #[arg(long)]
    shipped_limits: bool,
    /// Only list the cases and their rules.
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    mode: Option<Mode>,
}

#[derive(Subcommand, Debug)]
enum Mode {
    /// Measures Tapestry's ports in turn with Open vSwitch's, the kernel's bridge and a forwarder without a look-up, between
    /// two pods.
    Devices(devices::Settings),
    /// Measures ours alone: what a frame costs as rules, Services, connections and ports grow, what a port can take from
    /// another, and memory.
    Curves(curves::Settings),
    /// Measures everything in one run, and says of each goal whether it was met.
    Goals(goals::Settings),
}

impl Arguments {
    fn settings(&self) -> Settings {
        Settings {
            unpacked: self.unpacked.clone(),
            dir: self.dir.clone(),
            core: self.core,
            rounds: self.rounds.max(1),
            window: Duration::from_millis(self.window_ms),
            limits: if self.shipped_limits { Limits::Shipped } else { Limits::Raised },
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.mode {
        Some(Mode::Devices(settings)) => {
            return devices::run(settings, arguments.unpacked.clone(), &arguments.dir);
        }
        Some(Mode::Curves(settings)) => return curves::run(settings, arguments.core, &arguments.dir),
        Some(Mode::Goals(settings)) => return goals::run(settings, &arguments),
        None => {}
    }
    let all = CASES.iter().map(|case| (case.name, *case)).collect();
    let chosen: Vec<Case> = chosen("--cases", all, &arguments.cases)?;
    if arguments.list {
        return print(&chosen.iter().map(listed).collect::<String>());
    }
    beside_dpdk(chosen, &arguments.settings())?.publish(&arguments.dir)
}

/// Measures ours and Open vSwitch with DPDK in turn, ports in memory.
///
/// # Errors
/// If one of them cannot be set up, or does not do what the other does.
fn beside_dpdk(cases: Vec<Case>, settings: &Settings) -> Result<Report> {
    let facts = facts(settings)?;
    let mut rows: Vec<(Case, Row)> = Vec::new();
    for case in cases {
        eprintln!("{} ...", case.title);
        let row = match case.figure {
            Figure::Established => measure::established(&case, settings),
            Figure::New => measure::new(&case, settings),
        };
        let row = row.with_context(|| case.title)?;
        eprintln!("{} ... ours is {:.2} times as fast", case.title, report::ratio(&row));
        rows.push((case, row));
    }
    Ok(Report { text: report::text(&rows, &facts), json: report::json(&rows, &facts), plot: None })
}

/// A case as `--list` shows it. Of ten thousand rules the first say what they are like.
fn listed(case: &Case) -> String {
    const RULES_SHOWN: usize = 12;
    let rules = case.rules();
    let shown = rules.iter().take(RULES_SHOWN).map(|rule| format!("  {rule}\n"));
    let more = match rules.len().saturating_sub(RULES_SHOWN) {
        0 => String::new(),
        left_out => format!("  and {left_out} more\n"),
    };
    format!("{}: {}\n{}{more}", case.name, case.title, shown.collect::<String>())
}

/// Those whose names are wanted; all, if none is.
///
/// # Errors
/// A wanted name is nobody's.
fn chosen<T>(option: &str, all: Vec<(&'static str, T)>, wanted: &[String]) -> Result<Vec<T>> {
    if let Some(unknown) = wanted.iter().find(|w| !all.iter().any(|(name, _)| matches(name, w))) {
        bail!("{option} {unknown}: nothing of that name; --list shows them");
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| matches(name, w));
    Ok(all.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, one)| one).collect())
}

/// Prints a whole list or report. Whoever reads it may have seen enough before its end.
///
/// # Errors
/// Standard output cannot be written to for another reason.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
}

/// Whether a name is the one wanted, or begins with what stands before an asterisk.
fn matches(name: &str, wanted: &str) -> bool {
    wanted.strip_suffix('*').map_or(name == wanted, |start| name.starts_with(start))
}

/// What must be known of the machine to make sense of figures.
fn machine() -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let value = |name: &str| {
        let line = cpuinfo.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_once(':')).map_or("?", |(_, v)| v.trim()).to_owned()
    };
    let virtual_machine = cpuinfo.contains(" hypervisor");
    let memory = read("/proc/meminfo").lines().next().unwrap_or_default().replace("MemTotal:", "");
    let facts = [
        (
            "processor",
            format!("{}, {} cores, {} MHz", value("model name"), cores(&cpuinfo), value("cpu MHz")),
        ),
        ("cache", value("cache size")),
        ("virtual machine", if virtual_machine { "yes" } else { "no" }.to_owned()),
        ("memory", memory.trim().to_owned()),
        ("kernel", format!("{} {}", sys::process::kernel_name(), sys::process::kernel_release())),
        ("load before", load_average()),
    ];
    facts.map(|(name, text)| (name.to_owned(), text)).into()
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn cores(cpuinfo: &str) -> usize {
    cpuinfo.lines().filter(|l| l.starts_with("processor")).count()
}

/// What must be known to make sense of the figures.
fn facts(settings: &Settings) -> Result<Vec<(String, String)>> {
    let cores = cores(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    ensure!(cores >= 2, "one core polls and another does everything else: {cores} is too few");
    ensure!(settings.core < cores, "there is no core {}", settings.core);
    let mut facts = machine();
    let mut add = |name: &str, text: String| facts.push((name.to_owned(), text));
    add(
        "measured",
        format!("core {}, {} rounds, windows of {:?}", settings.core, settings.rounds, settings.window),
    );
    let limits = match settings.limits {
        Limits::Raised | Limits::Uncached => {
            "flow cache and flow set-ups unlimited, connections as Open vSwitch"
        }
        Limits::Shipped => "as shipped",
    };
    add("limits of ours", limits.to_owned());
    let versions =
        ovs::Ovs::start(&settings.unpacked, &settings.dir.join("ovs"), settings.core)?.version()?;
    add("theirs", versions.lines().collect::<Vec<_>>().join(", "));
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_and_unknown_ones_are_told() {
        let all = || vec![("tcp-1", 1), ("tcp-4", 4), ("rr", 9)];
        let choose = |wanted: &[&str]| {
            chosen("--cases", all(), &wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(choose(&[]).unwrap(), [1, 4, 9]);
        assert_eq!(choose(&["tcp-*"]).unwrap(), [1, 4]);
        assert_eq!(choose(&["rr", "tcp-1"]).unwrap(), [1, 9]);
        assert!(choose(&["rr", "tpc-1"]).unwrap_err().to_string().contains("--cases tpc-1:"));
    }

    #[test]
    fn of_many_rules_the_list_shows_the_first_and_their_number() {
        for case in CASES {
            let (text, rules) = (listed(case), case.rules().len());
            assert!(text.starts_with(&format!("{}: {}\n", case.name, case.title)), "{text}");
            assert_eq!(text.lines().count(), 1 + rules.min(12) + usize::from(rules > 12));
            assert_eq!(text.ends_with(&format!("  and {} more\n", rules.saturating_sub(12))), rules > 12);
        }
    }
}
