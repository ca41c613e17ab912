//! What the project wants of its speed, measured in one run: the comparison with Open vSwitch on DPDK, devices and curves one
//! after the other, and one table that says of each goal what came of it.
//!
//! The only place that knows what a figure should be.

use crate::measure::{self, median};
use crate::report::Report;
use crate::{Arguments, beside_dpdk, curves, devices, load_average, machine};
use anyhow::{Context as _, Result};
use benches::compare::CASES;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How everything is measured.
#[derive(Args, Debug)]
pub struct Settings {
    /// Turns. Where three threads share two processors, one stream has one of two speeds for a window, so better many than long ones.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a window between pods, in seconds.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Length of a window between ports in memory, in milliseconds.
    #[arg(long, default_value_t = 200)]
    window_ms: u64,
    /// Measure nothing: the table of the reports that are there.
    #[arg(long)]
    again: bool,
}

/// Measures everything, leaves a report of each part, and one of the goals in the directory `goals`: also of what there is if
/// a part failed.
///
/// # Errors
/// If a part failed, or a report cannot be written or, with `again`, read.
pub fn run(settings: &Settings, arguments: &Arguments) -> Result<()> {
    let (rounds, dir) = (settings.rounds.max(1), &arguments.dir);
    let (devices, devices_dir) = (devices::Settings::all(rounds, settings.seconds), dir.join("devices"));
    devices.check()?;
    if settings.again {
        let read = |dir: PathBuf| -> Result<Value> {
            let file = dir.join("report.json");
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            serde_json::from_str(&text).with_context(|| file.display().to_string())
        };
        let (memory_ports, curves) = (read(dir.clone())?, read(dir.join("curves"))?);
        let reports = Reports { memory_ports, devices: read(devices_dir)?, curves };
        return report(&reports, &[]).publish(&dir.join("goals"));
    }
    let mut facts = machine();
    facts.push((
        "measured".to_owned(),
        format!("{rounds} rounds, windows of {} s and {} ms", settings.seconds, settings.window_ms),
    ));
    let mut failure = None;
    let mut part = |dir: &Path, measured: Result<Report>| {
        let published = measured.and_then(|report| report.publish(dir).map(|()| report.json));
        published.unwrap_or_else(|error| {
            eprintln!("{error:#}");
            failure.get_or_insert(error);
            Value::Null
        })
    };
    // First, while this program has used no memory that would be used again.
    let curves = curves::measured(&curves::Settings::all(rounds, settings.window_ms), arguments.core);
    let curves = part(&dir.join("curves"), curves);
    let window = Duration::from_millis(settings.window_ms);
    let at_once = measure::Settings { rounds, window, ..arguments.settings() };
    let memory_ports = part(dir, beside_dpdk(CASES.to_vec(), &at_once));
    let devices = devices::measured(&devices, arguments.unpacked.clone(), &devices_dir);
    let devices = part(&devices_dir, devices);
    facts.push(("load after".to_owned(), load_average()));
    report(&Reports { memory_ports, devices, curves }, &facts).publish(&dir.join("goals"))?;
    failure.map_or(Ok(()), Err)
}

/// The reports of one run.
#[derive(Debug)]
struct Reports {
    /// Beside Open vSwitch with DPDK, ports in memory.
    memory_ports: Value,
    /// Between pods and nodes.
    devices: Value,
    /// Ours alone.
    curves: Value,
}

/// Figures of a report, one a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Series {
    /// Frames a second in memory: a case, and `tapestry` or `ovs_dpdk`.
    Rate(&'static str, &'static str),
    /// Nanoseconds each of the same.
    Nanos(&'static str, &'static str),
    /// Between pods: a metric and a system.
    Pods(&'static str, &'static str),
    /// A curve's nanoseconds at a size.
    Curve(&'static str, usize),
    /// Bytes of memory.
    Bytes(&'static str),
}

impl Series {
    fn values(self, reports: &Reports) -> Option<Vec<f64>> {
        let find = |list: &'_ Value, key: &str, wanted: &Value| -> Option<Value> {
            list.as_array()?.iter().find(|one| one.get(key) == Some(wanted)).cloned()
        };
        let numbers = |value: Option<&Value>| -> Option<Vec<f64>> {
            value?.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<_>>>().filter(|v| !v.is_empty())
        };
        match self {
            Series::Rate(case, system) => {
                let row = find(reports.memory_ports.get("rows")?, "name", &json!(case))?;
                numbers(row.get(system)?.get("rates"))
            }
            Series::Nanos(case, system) => {
                let rates = Series::Rate(case, system).values(reports)?;
                Some(rates.iter().map(|rate| 1e9 / rate).collect())
            }
            Series::Pods(metric, system) => {
                let row = find(reports.devices.get("metrics")?, "metric", &json!(metric))?;
                numbers(find(row.get("systems")?, "system", &json!(system))?.get("values"))
            }
            Series::Curve(name, size) => {
                let curve = find(reports.curves.get("curves")?, "name", &json!(name))?;
                numbers(find(curve.get("points")?, "size", &json!(size))?.get("ours"))
            }
            Series::Bytes(title) => Some(vec![reports.curves.get("memory")?.get(title)?.as_f64()?]),
        }
    }

    /// Whether both are of the same rounds, in which systems took turns.
    fn is_in_turn_with(self, other: Series) -> bool {
        match (self, other) {
            (Series::Rate(a, _), Series::Rate(b, _)) | (Series::Pods(a, _), Series::Pods(b, _)) => a == b,
            (Series::Curve(a, _), Series::Curve(b, _)) => a == b,
            _ => false,
        }
    }

    /// Whose figures these are.
    fn whose(self) -> String {
        match self {
            Series::Pods("beside-none-tcp" | "beside-none-p99", _) => "quiet pods".to_owned(),
            Series::Rate(_, system) | Series::Nanos(_, system) => system.replace('_', "-"),
            Series::Pods(_, system) => system.to_owned(),
            Series::Curve(_, size) => format!("at {size}"),
            Series::Bytes(title) => title.to_owned(),
        }
    }
}

/// What a figure of ours is to be.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wanted {
    /// So many times the other figure, or more.
    Times(f64, Series),
    /// At most so many times the other figure.
    Within(f64, Series),
    /// So many times the first other figure, or the second, whichever is the smaller.
    TimesUnless(f64, Series, Series),
    /// The other figure, and a tenth at most; or there is a reason, which docs/performance.md has.
    Flat(Series),
    /// At most so much.
    AtMost(f64),
}

/// By how much a frame's time may grow that does not.
const FLAT: f64 = 1.1;

/// One goal.
#[derive(Clone, Copy, Debug)]
struct Goal {
    part: &'static str,
    title: &'static str,
    ours: Series,
    wanted: Wanted,
}

const fn goal(part: &'static str, title: &'static str, ours: Series, wanted: Wanted) -> Goal {
    Goal { part, title, ours, wanted }
}

const TAPS: &str = "Pods on TAPs";
const MEMORY_PORTS: &str = "Ports in memory, one core";
const GROWTH: &str = "What must not grow, smallest to largest";
const VETHS: &str = "Pods on veths";
const OVERLAY: &str = "VXLAN between two nodes";
const ATTACKED: &str = "Two pods beside an attack";
const MEMORY: &str = "Bytes each";

/// A figure of a system's between pods.
const fn pods(metric: &'static str, system: &'static str) -> Series {
    Series::Pods(metric, system)
}

/// Ours on TAPs, so many times another system's.
const fn tap(title: &'static str, metric: &'static str, times: f64, system: &'static str) -> Goal {
    goal(TAPS, title, pods(metric, "tapestry"), Wanted::Times(times, pods(metric, system)))
}

/// The same where less is better.
const fn tap_within(title: &'static str, metric: &'static str, times: f64, system: &'static str) -> Goal {
    goal(TAPS, title, pods(metric, "tapestry"), Wanted::Within(times, pods(metric, system)))
}

/// Ours with ports in memory, so many times Open vSwitch's with DPDK.
const fn core(title: &'static str, case: &'static str, times: f64) -> Goal {
    goal(
        MEMORY_PORTS,
        title,
        Series::Rate(case, "tapestry"),
        Wanted::Times(times, Series::Rate(case, "ovs_dpdk")),
    )
}

/// A curve that is to be flat.
const fn flat(title: &'static str, curve: &'static str, from: usize, to: usize) -> Goal {
    goal(GROWTH, title, Series::Curve(curve, to), Wanted::Flat(Series::Curve(curve, from)))
}

const fn overlay(
    title: &'static str,
    metric: &'static str,
    ours: &'static str,
    times: f64,
    system: &'static str,
) -> Goal {
    goal(OVERLAY, title, pods(metric, ours), Wanted::Times(times, pods(metric, system)))
}

/// What two pods are to keep of their TCP beside quiet pods.
const fn kept(title: &'static str, metric: &'static str) -> Goal {
    goal(ATTACKED, title, pods(metric, "tapestry"), Wanted::Times(0.95, pods("beside-none-tcp", "tapestry")))
}

const fn kept_p99(title: &'static str, metric: &'static str) -> Goal {
    goal(ATTACKED, title, pods(metric, "tapestry"), Wanted::Within(1.05, pods("beside-none-p99", "tapestry")))
}

/// All of them, in order.
const GOALS: &[Goal] = &[
    tap("TCP, 1 stream, Gbit/s", "tcp-1", 7.0, "ovs"),
    tap("TCP, 1 stream, Gbit/s", "tcp-1", 1.15, "ovs-tso"),
    tap("TCP, 1 stream, Gbit/s", "tcp-1", 0.9, "forwarder"),
    tap("TCP, 4 streams, Gbit/s", "tcp-4", 7.0, "ovs"),
    tap("TCP, 4 streams, Gbit/s", "tcp-4", 1.15, "ovs-tso"),
    tap("TCP, 4 streams, Gbit/s", "tcp-4", 0.9, "forwarder"),
    tap("64-byte frames, thousands a second", "pps-64", 1.7, "ovs"),
    tap_within("request and response, p50, µs", "rr-p50", 0.55, "ovs"),
    tap_within("request and response, p50, µs", "rr-p50", 1.1, "bridge"),
    tap("connections, thousands a second", "crr", 0.95, "bridge"),
    goal(TAPS, "idle, % of a core", pods("idle", "tapestry"), Wanted::AtMost(0.1)),
    core("1 flow, frames a second", "forward-1", 1.0),
    core("100,000 flows, one rule", "forward-100000", 2.0),
    core("1,000 rules, 20 masks", "rules-1000-masks-20", 8.0),
    core("10,000 rules, 20 masks", "rules-10000-masks-20", 8.0),
    core("100,000 connections", "ct-100000", 3.0),
    core("100,000 TCP connections", "ct-tcp-100000", 3.0),
    core("100,000 connections with NAT", "nat-100000", 3.0),
    goal(
        MEMORY_PORTS,
        "1,000,000 connections, beside its 100,000",
        Series::Rate("ct-1000000", "tapestry"),
        Wanted::Times(1.0, Series::Rate("ct-1000000", "ovs_dpdk")),
    ),
    core("flow set-ups a second", "new-flow", 50.0),
    goal(
        MEMORY_PORTS,
        "first packet to a Service, ns",
        Series::Nanos("new-service", "tapestry"),
        Wanted::AtMost(1_500.0),
    ),
    flat("frames of a cached flow, ns", "frames", 1, 100_000),
    flat("cached flows, ns", "flows", 1_000, 1_000_000),
    flat("rules, all hit, ns", "rules-hit", 100, 100_000),
    flat("rules, none hits, ns", "rules-miss", 100, 100_000),
    flat("Services, established, ns", "services-hit", 100, 30_000),
    flat("Services, first packets, ns", "services-new", 100, 30_000),
    flat("Services, first packets, Services' first among them, ns", "services-first", 100, 30_000),
    flat("policies, established, ns", "policies-hit", 100, 10_000),
    flat("policies, first packets between two pods, ns", "policies-first", 100, 10_000),
    flat("connections, ns", "connections", 1_000, 1_000_000),
    flat("connections with NAT, ns", "connections-nat", 1_000, 100_000),
    flat("ports, ns", "ports", 2, 200),
    goal(
        VETHS,
        "TCP, 1 stream, Gbit/s; where the forwarder allows 0.9",
        pods("tcp-1", "tapestry-veth"),
        Wanted::TimesUnless(0.9, pods("tcp-1", "bridge"), pods("tcp-1", "forwarder-veth")),
    ),
    goal(
        VETHS,
        "TCP, 1 stream, Gbit/s",
        pods("tcp-1", "tapestry-veth"),
        Wanted::Times(10.0, pods("tcp-1", "ovs-veth")),
    ),
    goal(
        VETHS,
        "64-byte frames, thousands a second",
        pods("pps-64", "tapestry-veth"),
        Wanted::Times(1.0, pods("pps-64", "bridge")),
    ),
    overlay("TCP as shipped, Gbit/s", "vxlan-tcp-1", "tapestry", 3.0, "ovs"),
    overlay("TCP, csum=true", "vxlan-tcp-1", "tapestry-csum", 3.0, "ovs"),
    overlay("TCP, kernel's device", "vxlan-tcp-1", "tapestry-device", 3.0, "ovs"),
    overlay("TCP, kernel's device", "vxlan-tcp-1", "tapestry-device", 1.0, "bridge"),
    overlay("TCP as shipped, MTU-sized wire", "vxlan-mtu-tcp-1", "tapestry", 3.0, "ovs"),
    overlay("TCP, csum=true, MTU-sized wire", "vxlan-mtu-tcp-1", "tapestry-csum", 3.0, "ovs"),
    overlay("TCP, kernel's device, MTU-sized wire", "vxlan-mtu-tcp-1", "tapestry-device", 3.0, "ovs"),
    overlay("TCP, kernel's device, MTU-sized wire", "vxlan-mtu-tcp-1", "tapestry-device", 1.0, "bridge"),
    kept("TCP, Gbit/s, misses", "beside-misses-tcp"),
    kept("TCP, Gbit/s, tuple-space explosion", "beside-tse-tcp"),
    kept("TCP, Gbit/s, SYNs through NAT", "beside-syn-tcp"),
    kept("TCP, Gbit/s, 10,000 MACs", "beside-macs-tcp"),
    kept_p99("p99, µs, misses", "beside-misses-p99"),
    kept_p99("p99, µs, tuple-space explosion", "beside-tse-p99"),
    kept_p99("p99, µs, SYNs through NAT", "beside-syn-p99"),
    kept_p99("p99, µs, 10,000 MACs", "beside-macs-p99"),
    goal(MEMORY, "cached flow", Series::Bytes("cached flow"), Wanted::AtMost(128.0)),
    goal(
        MEMORY,
        "tracked connection",
        Series::Bytes("established connection, nothing cached"),
        Wanted::AtMost(216.0),
    ),
    goal(MEMORY, "tracked connection with NAT", Series::Bytes("the same with NAT"), Wanted::AtMost(216.0)),
];

/// What came of a goal.
#[derive(Clone, PartialEq, Debug)]
struct Outcome {
    ours: f64,
    /// Whose figure it is compared with, and that figure.
    other: Option<(String, f64)>,
    /// One a round; of a goal that compares with nothing ours itself.
    compared: Vec<f64>,
    met: bool,
}

impl Goal {
    /// `None` if a figure is missing.
    fn outcome(&self, reports: &Reports) -> Option<Outcome> {
        let ours = self.ours.values(reports)?;
        let beside = |series: Series, part: f64| -> Option<(String, f64, Vec<f64>)> {
            let theirs = series.values(reports)?;
            let (ours, theirs) = match self.ours.is_in_turn_with(series) {
                true => (ours.clone(), theirs),
                false => (vec![median(&ours)], vec![median(&theirs)]),
            };
            let ratios: Vec<f64> =
                ours.iter().zip(&theirs).filter(|(_, t)| **t > 0.0).map(|(o, t)| o / t / part).collect();
            let whose = if part == 1.0 { series.whose() } else { format!("({part} × {})", series.whose()) };
            (!ratios.is_empty()).then(|| (whose, part * median(&theirs), ratios))
        };
        let outcome =
            |(whose, figure, compared): (String, f64, Vec<f64>), met: &dyn Fn(f64) -> bool| Outcome {
                ours: median(&ours),
                other: Some((whose, figure)),
                met: met(median(&compared)),
                compared,
            };
        match self.wanted {
            Wanted::Times(times, series) => Some(outcome(beside(series, 1.0)?, &|ratio| ratio >= times)),
            Wanted::Within(times, series) => Some(outcome(beside(series, 1.0)?, &|ratio| ratio <= times)),
            Wanted::Flat(series) => Some(outcome(beside(series, 1.0)?, &|ratio| ratio <= FLAT)),
            Wanted::TimesUnless(times, first, second) => {
                let all = [beside(first, times)?, beside(second, 1.0)?];
                let easier = all.into_iter().max_by(|a, b| median(&a.2).total_cmp(&median(&b.2)))?;
                Some(outcome(easier, &|ratio| ratio >= 1.0))
            }
            Wanted::AtMost(most) => Some(Outcome {
                ours: median(&ours),
                other: None,
                met: median(&ours) <= most,
                compared: ours.clone(),
            }),
        }
    }

    fn wanted(&self) -> String {
        match self.wanted {
            Wanted::Times(times, _) => format!("≥ {times}"),
            Wanted::Within(times, _) => format!("≤ {times}"),
            Wanted::Flat(_) => format!("≤ {FLAT}"),
            Wanted::TimesUnless(..) => "≥ 1".to_owned(),
            Wanted::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// Three digits that matter, or all before the point; thousands apart.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let digits = whole.chars().rev().enumerate();
    let apart =
        digits.flat_map(|(at, digit)| (at > 0 && at % 3 == 0).then_some(',').into_iter().chain([digit]));
    apart.collect::<Vec<_>>().into_iter().rev().collect::<String>() + rest
}

/// The table of all goals, with how many were met.
fn report(reports: &Reports, facts: &[(String, String)]) -> Report {
    let mut text = String::new();
    for (name, value) in facts {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text += "\nMedians; ratios are medians of the rounds' (least..most), but those to quiet pods, which had no turns.\n";
    let (mut part, mut rows, mut met, mut measured) = ("", Vec::new(), 0, 0);
    for goal in GOALS {
        if goal.part != part {
            part = goal.part;
            let _ = writeln!(
                text,
                "\n| {part} | Tapestry | beside | ratio | wanted | |\n| --- | --- | --- | --- | --- | --- |"
            );
        }
        let outcome = goal.outcome(reports);
        let _ = write!(text, "| {} |", goal.title);
        let _ = match &outcome {
            None => writeln!(text, " – | – | – | {} | not measured |", goal.wanted()),
            Some(outcome) => {
                measured += 1;
                met += usize::from(outcome.met);
                let beside = match &outcome.other {
                    Some((whose, value)) => format!("{} {whose}", figure(*value)),
                    None => "–".to_owned(),
                };
                let least = outcome.compared.iter().copied().fold(f64::INFINITY, f64::min);
                let most = outcome.compared.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let ratio = match outcome.other {
                    Some(_) if outcome.compared.len() == 1 => format!("{:.2}", median(&outcome.compared)),
                    Some(_) => format!("{:.2} ({least:.2}..{most:.2})", median(&outcome.compared)),
                    None => "–".to_owned(),
                };
                let verdict = match (outcome.met, goal.wanted) {
                    (true, _) => "met",
                    (false, Wanted::Flat(_)) => "**grows**",
                    (false, _) => "**missed**",
                };
                writeln!(
                    text,
                    " {} | {beside} | {ratio} | {} | {verdict} |",
                    figure(outcome.ours),
                    goal.wanted()
                )
            }
        };
        rows.push(json!({
            "part": goal.part,
            "title": goal.title,
            "wanted": goal.wanted(),
            "tapestry": outcome.as_ref().map(|o| o.ours),
            "beside": outcome.as_ref().and_then(|o| o.other.as_ref().map(|(whose, _)| whose)),
            "its": outcome.as_ref().and_then(|o| o.other.as_ref().map(|(_, value)| value)),
            "compared": outcome.as_ref().map(|o| &o.compared),
            "met": outcome.as_ref().map(|o| o.met),
        }));
    }
    let _ = writeln!(text, "\n{met} of {measured} met.");
    let facts: serde_json::Map<_, _> = facts.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    Report { text, json: json!({"machine": facts, "goals": rows}), plot: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curves::{CURVES, SUBJECTS};
    use crate::devices::{CASES as POD_CASES, SYSTEMS};
    use crate::measure::{Figures, Row};

    /// As the reports write them.
    fn reports() -> Reports {
        let figures = |rates: &[f64]| Figures { rates: rates.to_vec(), waiting: 0.0 };
        let row = |name: &str, ours: &[f64], theirs: &[f64]| {
            let case = *CASES.iter().find(|c| c.name == name).unwrap();
            let floor = figures(&[1e7]);
            let (their_floor, our_floor) = (floor.clone(), floor);
            let row = Row {
                ours: figures(ours),
                theirs: figures(theirs),
                their_floor,
                our_floor,
                ..Row::default()
            };
            (case, row)
        };
        let rows = [
            row("forward-1", &[30e6, 20e6, 10e6], &[10e6; 3]),
            row("new-service", &[1e6, 0.5e6, 0.4e6], &[1e5; 3]),
        ];
        Reports {
            memory_ports: crate::report::json(&rows, &[]),
            devices: crate::devices::example(&[
                (
                    "tcp-1",
                    &[
                        ("tapestry", &[10.0, 10.0, 20.0]),
                        ("ovs-tso", &[10.0, 9.0, 10.0]),
                        ("tapestry-veth", &[12.0]),
                        ("bridge", &[40.0]),
                        ("forwarder-veth", &[11.0]),
                        ("ovs", &[]),
                    ],
                ),
                ("rr", &[("tapestry", &[50.0]), ("ovs", &[100.0]), ("bridge", &[40.0])]),
                ("idle", &[("tapestry", &[0.0])]),
                ("beside-none", &[("tapestry", &[10.0, 30.0, 20.0])]),
                ("beside-tse", &[("tapestry", &[19.0, 10.0, 30.0])]),
            ]),
            curves: crate::curves::example("ports", &[(2, 10.0), (200, 11.5)], ("cached flow", 125.0)),
        }
    }

    #[test]
    fn outcomes_are_of_rounds_and_missing_figures_are_told() {
        let report = report(&reports(), &[("kernel".into(), "x".into())]);
        for line in [
            "- kernel: x",
            "| TCP, Gbit/s, tuple-space explosion | 19.0 | 20.0 quiet pods | 0.95 | ≥ 0.95 | met |",
            "| TCP, 1 stream, Gbit/s | 10.0 | 10.0 ovs-tso | 1.11 (1.00..2.00) | ≥ 1.15 | **missed** |",
            "| TCP, 1 stream, Gbit/s | – | – | – | ≥ 7 | not measured |",
            "| request and response, p50, µs | 50.0 | 100 ovs | 0.50 | ≤ 0.55 | met |",
            "| request and response, p50, µs | 50.0 | 40.0 bridge | 1.25 | ≤ 1.1 | **missed** |",
            "| idle, % of a core | 0.000 | – | – | ≤ 0.1 | met |",
            "| 1 flow, frames a second | 20,000,000 | 10,000,000 ovs-dpdk | 2.00 (1.00..3.00) | ≥ 1 | met |",
            "| first packet to a Service, ns | 2,000 | – | – | ≤ 1500 | **missed** |",
            "| ports, ns | 11.5 | 10.0 at 2 | 1.15 | ≤ 1.1 | **grows** |",
            "| TCP, 1 stream, Gbit/s; where the forwarder allows 0.9 | 12.0 | 11.0 forwarder-veth | 1.09 | ≥ 1 | met |",
            "| cached flow | 125 | – | – | ≤ 128 | met |",
            "7 of 11 met.",
        ] {
            assert!(report.text.lines().any(|l| l == line), "{line} is not in\n{}", report.text);
        }
        let goals = report.json["goals"].as_array().unwrap();
        assert_eq!(goals.len(), GOALS.len());
        assert_eq!(goals.iter().filter(|g| g["met"] == json!(true)).count(), 7);
    }

    #[test]
    fn beside_the_easier_of_two_its_own_figure_stands() {
        let mut reports = reports();
        reports.devices = crate::devices::example(&[(
            "tcp-1",
            &[("tapestry-veth", &[12.0]), ("bridge", &[10.0]), ("forwarder-veth", &[14.0])],
        )]);
        let text = report(&reports, &[]).text;
        assert!(text.contains("| 12.0 | 9.00 (0.9 × bridge) | 1.33 | ≥ 1 | met |"), "{text}");
    }

    #[test]
    fn goals_name_what_there_is() {
        let known = |series: Series| match series {
            Series::Rate(case, system) | Series::Nanos(case, system) => {
                CASES.iter().any(|c| c.name == case) && ["tapestry", "ovs_dpdk"].contains(&system)
            }
            Series::Pods(metric, system) => {
                let case = POD_CASES.iter().find(|c| c.metrics.iter().any(|m| m.name == metric));
                let system = SYSTEMS.iter().find(|s| s.name == system);
                case.zip(system)
                    .is_some_and(|(case, system)| system.is_at(case.place) && system.is_measured(case.load))
            }
            Series::Curve(name, size) => {
                let curve = CURVES.iter().find(|c| c.name == name);
                curve.is_some_and(|c| c.sizes.first() == Some(&size) || c.sizes.last() == Some(&size))
            }
            Series::Bytes(title) => SUBJECTS.iter().any(|(t, ..)| *t == title),
        };
        for goal in GOALS {
            assert!(known(goal.ours), "{goal:?}");
            match goal.wanted {
                Wanted::Times(_, other) | Wanted::Within(_, other) | Wanted::Flat(other) => {
                    assert!(known(other), "{goal:?}")
                }
                Wanted::TimesUnless(_, a, b) => assert!(known(a) && known(b), "{goal:?}"),
                Wanted::AtMost(_) => {}
            }
        }
    }

    #[test]
    fn figures_have_three_digits() {
        let all = [
            (0.0184, "0.018"),
            (1.234, "1.23"),
            (36.04, "36.0"),
            (683.4, "683"),
            (17_100_432.0, "17,100,432"),
        ];
        for (value, text) in all {
            assert_eq!(figure(value), text);
        }
    }
}
