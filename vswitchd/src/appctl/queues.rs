//! The dpif-netdev/pmd-rxq- commands of ovs-vswitchd(8), in OVS 3.1's text: workers are what OVS calls PMD threads, receiving
//! sides its rx queues.

use super::{Answer, Command, command, dp};
use crate::daemon::Daemon;
use crate::devices::ShownSide;
use std::fmt::Write as _;
use switch::balance::{SAMPLE_INTERVAL, SAMPLES_MAX, percent};

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("dpif-netdev/pmd-rxq-rebalance", "[dp]", 0, 1, |d, a, _| Answer::Now(rebalance(d, a))),
    command("dpif-netdev/pmd-rxq-show", "[-pmd core] [-secs secs] [dp]", 0, 5, |d, a, _| {
        Answer::Now(Ok(show(d, &Options::parse(a))))
    }),
];

fn rebalance(daemon: &mut Daemon, args: &[String]) -> Result<String, String> {
    if args.first().is_some_and(|name| !dp::is_datapath(name)) {
        return Err("please specify an existing datapath".to_owned());
    }
    daemon.rebalance();
    Ok("pmd rxq rebalance requested.\n".to_owned())
}

/// What is to be shown.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// Only the worker on this processor.
    core: Option<usize>,
    /// Over so many measurements.
    samples: usize,
}

impl Options {
    /// As OVS reads them: what makes no sense is as if it were not there, and so is the name of the datapath.
    fn parse(args: &[String]) -> Options {
        let value = |option: &str| {
            let at = args.iter().position(|arg| arg == option)?;
            args.get(at + 1)?.parse::<usize>().ok()
        };
        let interval = usize::try_from(SAMPLE_INTERVAL.as_secs()).unwrap_or(1);
        let samples = match value("-secs") {
            None | Some(0) => SAMPLES_MAX,
            Some(secs) => secs.div_ceil(interval).min(SAMPLES_MAX),
        };
        Options { core: value("-pmd"), samples }
    }
}

fn show(daemon: &Daemon, options: &Options) -> String {
    let mut out = String::new();
    for worker in 0..daemon.workers.count() {
        let core = daemon.workers.cpu_of(worker);
        if options.core.is_some_and(|only| only != core) {
            continue;
        }
        if out.is_empty() {
            let secs = options.samples as u64 * SAMPLE_INTERVAL.as_secs();
            let _ = writeln!(out, "Displaying last {secs} seconds pmd usage %");
        }
        let load = daemon.balancer.loads().get(worker);
        let elapsed = load.and_then(|load| load.elapsed.sum(options.samples));
        let other = load.and_then(|load| load.other.sum(options.samples));
        let own = || daemon.devices.shown_sides().filter(|side| side.worker == worker);
        let is_isolated = own().any(|side| side.pin == Some(core));
        let _ = writeln!(out, "pmd thread numa_id 0 core_id {core}:\n  isolated : {is_isolated}");
        for side in own() {
            let _ = writeln!(out, "{}", side_line(&side, elapsed, options.samples));
        }
        let _ = writeln!(out, "  overhead: {}", usage(other, elapsed));
    }
    out
}

fn side_line(side: &ShownSide<'_>, elapsed: Option<u64>, samples: usize) -> String {
    let ShownSide { interface, number, busy, .. } = side;
    let usage = usage(busy.sum(samples), elapsed);
    format!("  port: {interface:<16}  queue-id: {number:>2} (enabled)   pmd usage: {usage}")
}

fn usage(time: Option<u64>, elapsed: Option<u64>) -> String {
    let share = time.zip(elapsed).map(|(time, elapsed)| format!("{:>2} %", percent(time, elapsed)));
    share.unwrap_or_else(|| "NOT AVAIL".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use switch::balance::History;

    fn options(line: &str) -> (Option<usize>, usize) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Options { core, samples } = Options::parse(&words);
        (core, samples)
    }

    /// What Debian's 3.1.0 makes of the same words: the seconds that it says it displays, in fives.
    #[test]
    fn options_are_read_as_ovs_reads_them() {
        for (secs, samples) in [
            ("0", 12),
            ("1", 1),
            ("5", 1),
            ("7", 2),
            ("60", 12),
            ("61", 12),
            ("100", 12),
            ("x", 12),
            ("-3", 12),
        ] {
            assert_eq!(options(&format!("-secs {secs}")), (None, samples), "{secs}");
        }
        assert_eq!(options("-pmd 1"), (Some(1), 12));
        assert_eq!(options("-secs 10 -pmd 3 netdev@ovs-netdev"), (Some(3), 2));
        for ignored in ["", "-pmd", "-secs", "-pmd x", "nosuch", "a b c", "-x"] {
            assert_eq!(options(ignored), (None, 12), "{ignored}");
        }
    }

    #[test]
    fn lines_are_those_of_ovs() {
        let mut busy = History::default();
        let line = |busy: &History, elapsed, samples| {
            side_line(&ShownSide { interface: "p1", number: 2, worker: 0, pin: None, busy }, elapsed, samples)
        };
        assert_eq!(
            line(&busy, None, 12),
            "  port: p1                queue-id:  2 (enabled)   pmd usage: NOT AVAIL"
        );
        busy.push(40);
        busy.push(7);
        assert_eq!(
            line(&busy, Some(100), 1),
            "  port: p1                queue-id:  2 (enabled)   pmd usage:  7 %"
        );
        assert_eq!(usage(Some(47), Some(100)), "47 %");
    }
}
