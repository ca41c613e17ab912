//! The dpif-netdev/pmd- commands of ovs-vswitchd(8), in OVS 3.1's text: workers are what OVS calls PMD threads, receiving
//! sides its rx queues.

use super::{Answer, Command, command, dp};
use crate::daemon::Daemon;
use crate::devices::ShownSide;
use crate::workers::Work;
use std::fmt::Write as _;
use std::time::Duration;
use switch::balance::{SAMPLE_INTERVAL, SAMPLES_MAX, percent};

/// Where the numbers of pmd-perf-show end.
const PERF_WIDTH: usize = 34;

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command(
        "dpif-netdev/pmd-perf-show",
        "[-nh] [-it iter-history-len] [-ms ms-history-len] [-pmd core] [dp]",
        0,
        8,
        |d, a, _| Answer::Now(Ok(perf(d, Options::parse(a).core, sys::clock::wall()))),
    ),
    command("dpif-netdev/pmd-rxq-rebalance", "[dp]", 0, 1, |d, a, _| Answer::Now(rebalance(d, a))),
    command("dpif-netdev/pmd-rxq-show", "[-pmd core] [-secs secs] [dp]", 0, 5, |d, a, _| {
        Answer::Now(Ok(show(d, &Options::parse(a))))
    }),
    command("dpif-netdev/pmd-stats-clear", "[-pmd core] [dp]", 0, 3, |d, a, _| {
        let wanted = Options::parse(a).core;
        for worker in 0..d.workers.count() {
            if wanted.is_none_or(|only| only == d.workers.cpu_of(worker)) {
                d.workers.count_anew(worker);
            }
        }
        Answer::Now(Ok(String::new()))
    }),
    command("dpif-netdev/pmd-stats-show", "[-pmd core] [dp]", 0, 3, |d, a, _| {
        Answer::Now(Ok(stats(d, &Options::parse(a))))
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

fn stats(daemon: &Daemon, options: &Options) -> String {
    let mut out = String::new();
    for (worker, work) in daemon.workers.work().enumerate() {
        let core = daemon.workers.cpu_of(worker);
        if options.core.is_none_or(|only| only == core) {
            let _ = writeln!(out, "pmd thread numa_id 0 core_id {core}:");
            out.push_str(&work_lines(&work));
        }
    }
    out
}

/// OVS's lines but for the size of its batches. It has several caches, of which ours is most like the last. Its cycles are
/// those of the processor where it can read them, else nanoseconds of the kernel's clock; here they are the latter.
fn work_lines(work: &Work) -> String {
    let Work { received, recirculated, hits, translated, lost, elapsed, busy, .. } = *work;
    let ratio = |of: u64, by: u64| if by == 0 { 0.0 } else { of as f64 / by as f64 };
    let mut out = String::new();
    for (what, count) in [("packets received", received), ("packet recirculations", recirculated)] {
        let _ = writeln!(out, "  {what}: {count}");
    }
    let passes = ratio(received + recirculated, received);
    let _ = writeln!(out, "  avg. datapath passes per packet: {passes:.2}");
    for cache in ["phwol", "mfex opt", "simple match", "emc", "smc"] {
        let _ = writeln!(out, "  {cache} hits: 0");
    }
    let _ = writeln!(out, "  megaflow hits: {hits}");
    let _ = writeln!(out, "  avg. subtable lookups per megaflow hit: {:.2}", ratio(hits, hits));
    let _ = writeln!(out, "  miss with success upcall: {translated}");
    let _ = writeln!(out, "  miss with failed upcall: {lost}");
    let idle = elapsed.saturating_sub(busy);
    for (what, time) in [("idle", idle), ("processing", busy)] {
        let _ = writeln!(out, "  {what} cycles: {time} ({:.2}%)", 100.0 * ratio(time, elapsed));
    }
    if received > 0 {
        for (what, time) in [("", elapsed), ("processing ", busy)] {
            let each = ratio(time, received);
            let _ = writeln!(out, "  avg {what}cycles per packet: {each:.2} ({time}/{received})");
        }
    }
    out
}

fn perf(daemon: &Daemon, only: Option<usize>, wall: Duration) -> String {
    let mut out = String::new();
    let (secs, millis) = (wall.as_secs() % 86_400, wall.subsec_millis());
    let time = format!("{:02}:{:02}:{:02}.{millis:03}", secs / 3_600, secs / 60 % 60, secs % 60);
    for (worker, work) in daemon.workers.work().enumerate() {
        let core = daemon.workers.cpu_of(worker);
        if only.is_none_or(|only| only == core) {
            let took = work.elapsed as f64 / 1e9;
            let _ = writeln!(out, "\nTime: {time}\nMeasurement duration: {took:.3} s\n");
            let _ = writeln!(out, "pmd thread numa_id 0 core_id {core}:\n\n{}", perf_lines(&work).trim_end());
        }
    }
    out
}

/// OVS's lines as far as workers count what they tell. Cycles are nanoseconds, and used in steps that did something: how long it
/// took to find nothing is not measured.
fn perf_lines(work: &Work) -> String {
    let Work {
        received,
        recirculated,
        hits,
        translated,
        lost,
        elapsed,
        busy,
        other,
        steps,
        busy_steps,
        sent,
    } = *work;
    let ratio = |of: u64, by: u64| if by == 0 { 0.0 } else { of as f64 / by as f64 };
    let percent = |of: u64, by: u64| 100.0 * ratio(of, by);
    // One a nanosecond is a thousand million a second.
    let kpps = |count: u64| 1e6 * ratio(count, elapsed);
    let (used, passes) = (busy + other, received + recirculated);
    let of_passes = |count: u64| format!("({:5.1} %)", percent(count, passes));
    let lines = [
        ("  Iterations:", steps, String::new()),
        ("  - Used TSC cycles:", used, format!("({:5.1} % of total cycles)", percent(used, elapsed))),
        ("  - idle iterations:", steps.saturating_sub(busy_steps), String::new()),
        ("  - busy iterations:", busy_steps, format!("({:5.1} % of used cycles)", percent(busy, used))),
        (
            "  Rx packets:",
            received,
            format!("({:.0} Kpps, {:.0} cycles/pkt)", kpps(received), ratio(busy, received)),
        ),
        ("  Datapath passes:", passes, format!("({:.2} passes/pkt)", ratio(passes, received))),
        ("  - PHWOL hits:", 0, of_passes(0)),
        ("  - MFEX Opt hits:", 0, of_passes(0)),
        ("  - Simple Match hits:", 0, of_passes(0)),
        ("  - EMC hits:", 0, of_passes(0)),
        ("  - SMC hits:", 0, of_passes(0)),
        (
            "  - Megaflow hits:",
            hits,
            format!("({:5.1} %, {:.2} subtbl lookups/hit)", percent(hits, passes), ratio(hits, hits)),
        ),
        ("  - Upcalls:", translated, of_passes(translated)),
        ("  - Lost upcalls:", lost, of_passes(lost)),
        ("  Tx packets:", sent, format!("({:.0} Kpps)", kpps(sent))),
    ];
    let mut out = String::new();
    for (what, count, note) in lines {
        let width = PERF_WIDTH - what.len();
        let _ = writeln!(out, "{}", format!("{what}{count:>width$}  {note}").trim_end());
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

    /// The lines of Debian's 3.1.0, without that of output batches; numbers by hand.
    #[test]
    fn work_is_told_in_the_lines_of_ovs() {
        let work = Work {
            received: 4,
            recirculated: 2,
            hits: 3,
            translated: 2,
            lost: 1,
            elapsed: 1_000,
            busy: 250,
            ..Work::default()
        };
        assert_eq!(
            work_lines(&work),
            "  packets received: 4\n  packet recirculations: 2\n  avg. datapath passes per packet: 1.50\n  \
             phwol hits: 0\n  mfex opt hits: 0\n  simple match hits: 0\n  emc hits: 0\n  smc hits: 0\n  \
             megaflow hits: 3\n  avg. subtable lookups per megaflow hit: 1.00\n  \
             miss with success upcall: 2\n  miss with failed upcall: 1\n  idle cycles: 750 (75.00%)\n  \
             processing cycles: 250 (25.00%)\n  avg cycles per packet: 250.00 (1000/4)\n  \
             avg processing cycles per packet: 62.50 (250/4)\n"
        );
        let idle = work_lines(&Work { elapsed: 9, ..Work::default() });
        assert!(
            idle.contains("packet: 0.00\n") && idle.ends_with("  processing cycles: 0 (0.00%)\n"),
            "{idle}"
        );
    }

    /// The places and words of Debian's 3.1.0; numbers by hand.
    #[test]
    fn performance_is_told_in_the_lines_of_ovs() {
        let work = Work {
            received: 40_000,
            recirculated: 20_000,
            hits: 30_000,
            translated: 20_000,
            lost: 10_000,
            elapsed: 1_000_000_000,
            busy: 300_000_000,
            other: 100_000_000,
            steps: 5_000,
            busy_steps: 2_000,
            sent: 50_000,
        };
        assert_eq!(
            perf_lines(&work),
            "  Iterations:                 5000\n  - Used TSC cycles:     400000000  ( 40.0 % of total cycles)\n  \
             - idle iterations:          3000\n  - busy iterations:          2000  ( 75.0 % of used cycles)\n  \
             Rx packets:                40000  (40 Kpps, 7500 cycles/pkt)\n  \
             Datapath passes:           60000  (1.50 passes/pkt)\n  - PHWOL hits:                  0  (  0.0 %)\n  \
             - MFEX Opt hits:               0  (  0.0 %)\n  - Simple Match hits:           0  (  0.0 %)\n  \
             - EMC hits:                    0  (  0.0 %)\n  - SMC hits:                    0  (  0.0 %)\n  \
             - Megaflow hits:           30000  ( 50.0 %, 1.00 subtbl lookups/hit)\n  \
             - Upcalls:                 20000  ( 33.3 %)\n  - Lost upcalls:            10000  ( 16.7 %)\n  \
             Tx packets:                50000  (50 Kpps)\n"
        );
        assert!(!perf_lines(&Work::default()).contains("NaN"));
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
