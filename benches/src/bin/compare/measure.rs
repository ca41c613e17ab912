//! One row: both switches set up, shown to do the same, and measured in turn.

use crate::ovs::{Device, Ovs, PollCounters};
use anyhow::{Context as _, Result, ensure};
use benches::compare::cases::{COOKIE_ESTABLISHED, COOKIE_NEW, Case, Traffic, floor_rules, pcap};
use benches::compare::clock::{ThreadClock, ThreadTime, now, pause};
use benches::compare::ours::{Limits, Ours};
use benches::ports::Wire;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Before each window of Open vSwitch: caches warm, counters of rules at rest.
const SETTLE: Duration = Duration::from_millis(700);
/// Before each window of ours.
const WARM_UP: Duration = Duration::from_millis(300);
/// Between two looks at counters that grow.
const SAMPLING: Duration = Duration::from_millis(5);
/// Longest time for something to be established.
const PATIENCE: Duration = Duration::from_secs(60);
/// Without a flow set-up for so long, all are there.
const REST: Duration = Duration::from_secs(2);
/// How far the parts that rules have of all frames may be apart: counters are read while frames come, and passes over the
/// frames end in the middle.
const PARTS_APART_MAX: f64 = 0.02;
/// A window is made so many times as long rather than given up.
const WINDOWS_MAX: usize = 10;
/// Frames that may be on their way between two counters.
const ON_THE_WAY: u64 = 4_096;
/// Parts of a run in which everything is new, for the curve over the size of the table.
pub const PARTS: usize = 10;

/// How to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Unpacked packages of Open vSwitch with DPDK.
    pub unpacked: PathBuf,
    /// Where files go.
    pub dir: PathBuf,
    /// The core of both polling threads.
    pub core: usize,
    /// Turns.
    pub rounds: usize,
    /// Length of a window.
    pub window: Duration,
    /// How ours is set up.
    pub limits: Limits,
}

/// Frames a second of processor time, one figure a round, and how much of a window something else had the core at most.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// Frames a second.
    pub rates: Vec<f64>,
    /// 0 to 1.
    pub waiting: f64,
}

impl Figures {
    fn push(&mut self, frames: u64, from: ThreadTime, to: ThreadTime) {
        self.rates.push(frames as f64 / to.ran_since(from).as_secs_f64());
        self.waiting = self.waiting.max(to.waiting_since(from));
    }
}

/// What was measured for one case.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Row {
    /// Open vSwitch.
    pub theirs: Figures,
    /// Ours.
    pub ours: Figures,
    /// Open vSwitch with a rule that drops all.
    pub their_floor: Figures,
    /// Ours with that rule.
    pub our_floor: Figures,
    /// The copy of our source and the sink, without a switch.
    pub wire: Figures,
    /// What was seen to be equal.
    pub checked: String,
    /// Rates over the parts of a growing table, theirs and ours, medians over rounds.
    pub growth: Vec<(f64, f64)>,
    /// Private memory for each connection or flow: theirs and ours, in bytes.
    pub memory: Option<(f64, f64)>,
}

/// While it lives, the calling thread is on one core.
pub struct Pinned(CpuSet);

impl Pinned {
    /// To this core.
    ///
    /// # Errors
    /// If there is no such core.
    pub fn to(core: usize) -> Result<Pinned> {
        let before = sched_getaffinity(None)?;
        sys::process::pin_thread(core)?;
        Ok(Pinned(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The thread was allowed there before.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// Measures a case whose traffic is established.
///
/// # Errors
/// If a switch cannot be set up, or the two do not do the same.
pub fn established(case: &Case, settings: &Settings) -> Result<Row> {
    let (traffic, their_case) = (case.traffic(), case.theirs());
    let their_traffic = if their_case == *case { traffic.clone() } else { their_case.traffic() };
    let files = captures(&their_traffic, &settings.dir)?;
    let ovs = Ovs::start(&settings.unpacked, &settings.dir.join("ovs"), settings.core)?;
    let second = if traffic.replies.is_empty() { Device::Null } else { Device::Endless(&files.1) };
    ovs.add_port(1, &Device::Endless(&files.0))?;
    ovs.add_port(2, &second)?;

    let mut row = Row::default();
    let mut floor = Ours::new(&floor_rules(), Limits::Raised)?;
    floor.feed(&traffic);
    let mut wire = Wire::new([traffic.originals.to_vecs(), traffic.replies.to_vecs()].concat());
    for _ in 0..settings.rounds {
        window(&ovs, settings.window / 2, &mut row.their_floor)?;
        measure_ours(&mut floor, settings, settings.window / 2, &mut row.our_floor)?;
        measure_wire(&mut wire, settings, &mut row.wire)?;
    }
    drop((floor, wire));

    ovs.go_on()?;
    ovs.remove_port(2)?;
    ovs.set_rules(&case.rules())?;
    if case.tracks() {
        wait(|| Ok(ovs.connections()? == their_case.connections() as u64))
            .context("Open vSwitch makes connections")?;
    }
    ovs.add_port(2, &second)?;
    if case.takes_time() {
        come_to_rest(&ovs)?;
    }
    let mut ours = Ours::new(&case.rules(), settings.limits)?;
    ours.establish(case, &traffic)?;
    pause(2 * SETTLE);
    let before = Before::look(&ovs, &mut ours)?;
    // What was just emptied fills again before anything counts.
    ours.forward(3 * (traffic.originals.len() + traffic.replies.len()));
    // A rule that replaces one of those before keeps its counts.
    let counts_before = ovs.rule_counts(case.cookies())?;
    let mut set_up = 0.0_f64;
    for _ in 0..settings.rounds {
        let counted = window(&ovs, settings.window, &mut row.theirs)?;
        check_theirs(case, counted)?;
        set_up = set_up.max((counted.set_up + counted.failed) as f64 / counted.received as f64);
        measure_ours(&mut ours, settings, settings.window, &mut row.ours)?;
    }
    ovs.go_on()?;
    pause(2 * SETTLE);
    row.checked = if case.cookies().is_empty() {
        same(case, &ovs, &mut ours, &before, settings)?
    } else {
        same_parts(case, &ovs, &counts_before, &mut ours)?
    };
    if set_up > 0.0 {
        row.checked += &format!("; {:.2} % of Open vSwitch's frames were still set-ups", 100.0 * set_up);
    }
    for rate in row.theirs.rates.iter_mut().chain(&mut row.ours.rates) {
        *rate *= case.wanted_part();
    }
    Ok(row)
}

/// Waits until Open vSwitch sets no more flows up, or has had long enough: under attack it may never come to rest.
fn come_to_rest(ovs: &Ovs) -> Result<()> {
    let until = now() + PATIENCE;
    loop {
        let before = ovs.poll_counters()?;
        pause(REST);
        let counted = ovs.poll_counters()?.since(before);
        if (counted.set_up, counted.failed) == (0, 0) || now() > until {
            return Ok(());
        }
    }
}

fn captures(traffic: &Traffic, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(dir)?;
    let files = (dir.canonicalize()?.join("originals.pcap"), dir.canonicalize()?.join("replies.pcap"));
    std::fs::write(&files.0, pcap(&traffic.originals))?;
    std::fs::write(&files.1, pcap(&traffic.replies))?;
    Ok(files)
}

fn wait(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = now() + PATIENCE;
    while !done()? {
        ensure!(now() < until, "nothing came of it in {PATIENCE:?}");
        pause(SAMPLING);
    }
    Ok(())
}

/// A window of Open vSwitch, which is stopped afterwards.
fn window(ovs: &Ovs, time: Duration, figures: &mut Figures) -> Result<PollCounters> {
    ovs.go_on()?;
    pause(SETTLE);
    // Counters are not cleared: a slow polling thread does that later, in the middle of the window.
    let clock = ovs.clock()?;
    let (before, from) = (ovs.poll_counters()?, clock.read()?);
    let (mut counted, mut to) = (PollCounters::default(), from);
    // Where something else has the core or a frame takes a millisecond, a window may pass without any.
    for _ in 0..WINDOWS_MAX {
        pause(time);
        (counted, to) = (ovs.poll_counters()?.since(before), clock.read()?);
        if counted.received > 0 {
            break;
        }
    }
    ovs.stop()?;
    ensure!(
        counted.received > 0,
        "its polling thread forwarded nothing in {WINDOWS_MAX} windows of {time:?}"
    );
    figures.push(counted.received, from, to);
    Ok(counted)
}

fn measure_ours(ours: &mut Ours, settings: &Settings, time: Duration, figures: &mut Figures) -> Result<()> {
    let _pinned = Pinned::to(settings.core)?;
    let clock = ThreadClock::own();
    ours.forward_for(WARM_UP);
    let (before, from) = (ours.counts(), clock.read()?);
    ours.forward_for(time);
    let (after, to) = (ours.counts(), clock.read()?);
    let counted = after.since(before);
    figures.push(counted.received, from, to);
    if settings.limits == Limits::Raised {
        ensure!(
            counted.misses == 0,
            "our cache missed {} times in {} frames",
            counted.misses,
            counted.received
        );
    }
    ensure!(counted.received == counted.sent + counted.dropped, "frames got lost: {counted:?}");
    Ok(())
}

fn measure_wire(wire: &mut Wire, settings: &Settings, figures: &mut Figures) -> Result<()> {
    let _pinned = Pinned::to(settings.core)?;
    let clock = ThreadClock::own();
    for counts in [false, true] {
        let (from, until) = (clock.read()?, now() + settings.window / 4);
        let mut frames = 0;
        while now() < until {
            frames += (0..16).map(|_| wire.step()).sum::<usize>();
        }
        if counts {
            figures.push(frames as u64, from, clock.read()?);
        }
    }
    Ok(())
}

/// Every frame took as many passes as it should, and none needed anything set up.
fn check_theirs(case: &Case, counted: PollCounters) -> Result<()> {
    let passes = if case.tracks() { counted.received } else { 0 };
    ensure!(counted.recirculated.abs_diff(passes) <= ON_THE_WAY, "not one pass each: {counted:?}");
    ensure!(
        case.takes_time() || (counted.set_up, counted.failed) == (0, 0),
        "flows were set up meanwhile: {counted:?}"
    );
    Ok(())
}

/// What had been counted before the first window.
struct Before {
    their_new: u64,
    our_new: u64,
    their_received: u64,
    their_established: u64,
}

impl Before {
    fn look(ovs: &Ovs, ours: &mut Ours) -> Result<Before> {
        Ok(Before {
            their_new: ovs.rule_count(COOKIE_NEW)?,
            our_new: ours.rule_count(COOKIE_NEW),
            their_received: ovs.port_counts()?.0,
            their_established: ovs.rule_count(COOKIE_ESTABLISHED)?,
        })
    }
}

/// Shows that both did the same, and says what was compared.
fn same(case: &Case, ovs: &Ovs, ours: &mut Ours, before: &Before, settings: &Settings) -> Result<String> {
    let counts = ours.counts();
    let (received, sent) = ovs.port_counts()?;
    if !case.tracks() {
        ensure!(counts.dropped == 0 && sent > 0, "ours dropped {}, theirs sent {sent}", counts.dropped);
        return Ok(format!("ours sent all {}", counts.received));
    }
    let their_case = case.theirs();
    ensure!(ovs.connections()? == their_case.connections() as u64, "Open vSwitch lost connections");
    let (their_new, our_new) =
        (ovs.rule_count(COOKIE_NEW)? - before.their_new, ours.rule_count(COOKIE_NEW) - before.our_new);
    ensure!(their_new == 0, "{their_new} frames were new to Open vSwitch");
    // Counts of rules lag behind those of ports.
    let received = received - before.their_received;
    let their_established = ovs.rule_count(COOKIE_ESTABLISHED)? - before.their_established;
    ensure!(their_established > received / 2, "{their_established} of {received} frames were established");
    if settings.limits == Limits::Raised {
        ensure!(our_new == 0, "{our_new} frames were new to ours");
    }
    ensure!(ours.connections() == case.connections(), "ours has {} connections", ours.connections());
    if their_case != *case {
        return Ok(format!(
            "ours holds {}, theirs {}: not the same; no frame new in any window",
            ours.connections(),
            their_case.connections()
        ));
    }
    let mine = ours.dump()?;
    let mut theirs: Vec<_> = ovs.ctl("dpctl/dump-conntrack", &[])?.lines().map(str::to_owned).collect();
    theirs.sort_unstable();
    let difference = theirs.iter().zip(&mine).find(|(a, b)| a != b);
    let lens = (theirs.len(), mine.len());
    ensure!(difference.is_none() && lens.0 == lens.1, "connections differ: {lens:?}, {difference:?}");
    Ok(format!("{} connections, equal line by line; no frame new in any window", mine.len()))
}

/// Shows that rules met the same parts of the frames.
fn same_parts(case: &Case, ovs: &Ovs, before: &[u64], ours: &mut Ours) -> Result<String> {
    let mine = ours.rule_parts(case.cookies());
    let counts: Vec<u64> =
        ovs.rule_counts(case.cookies())?.iter().zip(before).map(|(now, before)| now - before).collect();
    let sum: u64 = counts.iter().sum();
    let apart = |(mine, count): (&f64, &u64)| (mine - *count as f64 / sum as f64).abs();
    let most = mine.iter().zip(&counts).map(apart).fold(0.0, f64::max);
    ensure!(sum > 0 && most < PARTS_APART_MAX, "rules met other frames: {mine:?}, {counts:?}");
    Ok(format!(
        "rules in {} groups met the same parts of the frames, {:.2} % apart at most",
        mine.len(),
        100.0 * most
    ))
}

/// Measures a case in which every frame is new.
///
/// # Errors
/// If a switch cannot be set up, or the two do not do the same.
pub fn new(case: &Case, settings: &Settings) -> Result<Row> {
    let traffic = case.traffic();
    let files = captures(&traffic, &settings.dir)?;
    let ovs = Ovs::start(&settings.unpacked, &settings.dir.join("ovs"), settings.core)?;
    ovs.add_port(2, &Device::Null)?;
    let mut row = Row::default();
    let mut curves = (Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        ovs.go_on()?;
        ovs.set_rules(&floor_rules())?;
        read_once(&ovs, case, &files.0, &mut row.their_floor)?;
        ovs.set_rules(&case.rules())?;
        let before = ovs.memory()?;
        curves.0.push(read_once(&ovs, case, &files.0, &mut row.theirs)?);
        let their_memory = ovs.memory()?.saturating_sub(before);
        let their_connections = ovs.connections()?;
        ovs.stop()?;

        forward_once(&floor_rules(), &traffic, settings, &mut row.our_floor)?;
        let (ours, curve, our_memory) = forward_once(&case.rules(), &traffic, settings, &mut row.ours)?;
        curves.1.push(curve);
        if round == 0 {
            row.memory =
                Some((their_memory as f64 / case.flows as f64, our_memory as f64 / case.flows as f64));
        }
        row.checked = same_new(case, their_connections, &ours)?;
    }
    if case.tracks() {
        row.growth = parts(&curves.0).into_iter().zip(parts(&curves.1)).collect();
    }
    Ok(row)
}

fn same_new(case: &Case, their_connections: u64, ours: &Ours) -> Result<String> {
    let counts = ours.counts();
    ensure!(counts.dropped == 0, "ours dropped {} of {}", counts.dropped, counts.received);
    if !case.tracks() {
        return Ok(format!("ours set up {}", counts.misses));
    }
    ensure!(ours.connections() == case.connections(), "ours has {} connections", ours.connections());
    // A port is polled some milliseconds before Open vSwitch's tables know it; frames of that time are lost.
    ensure!(
        their_connections > case.connections() as u64 * 9 / 10,
        "theirs has {their_connections} connections"
    );
    Ok(format!("ours holds {}, theirs {their_connections}", ours.connections()))
}

/// A part of the curve of one round: frames so far, and the moment.
type Curve = Vec<(u64, ThreadTime)>;

/// Lets Open vSwitch read the capture once.
fn read_once(ovs: &Ovs, case: &Case, file: &Path, figures: &mut Figures) -> Result<Curve> {
    ovs.ctl("dpctl/flush-conntrack", &[])?;
    ovs.ctl("revalidator/purge", &[])?;
    pause(SETTLE);
    ovs.ctl("dpif-netdev/pmd-stats-clear", &[])?;
    ovs.add_port(1, &Device::Once(file))?;
    let clock = ovs.clock()?;
    let mut curve = Vec::new();
    wait(|| {
        curve.push((ovs.poll_counters()?.received, clock.read()?));
        Ok(curve.last().is_some_and(|(received, _)| *received >= case.flows as u64))
    })?;
    ovs.remove_port(1)?;
    Ok(middle(curve, case.flows as u64, figures))
}

/// Leaves out the start, when the port comes up, and the end, which is seen late.
fn middle(curve: Curve, frames: u64, figures: &mut Figures) -> Curve {
    let curve: Curve = curve.into_iter().filter(|(n, _)| (frames / 20..frames).contains(n)).collect();
    if let (Some(first), Some(last)) = (curve.first(), curve.last()) {
        figures.push(last.0 - first.0, first.1, last.1);
    }
    curve
}

/// The same with ours, new each time. Also returns the memory that came to be in use.
fn forward_once(
    rules: &[String],
    traffic: &Traffic,
    settings: &Settings,
    figures: &mut Figures,
) -> Result<(Ours, Curve, u64)> {
    let mut ours = Ours::new(rules, settings.limits)?;
    let _pinned = Pinned::to(settings.core)?;
    let before = sys::process::usage()?.resident;
    let frames = traffic.originals.len();
    let curve = ours.forward_once(traffic, &ThreadClock::own(), frames / 200)?;
    let memory = sys::process::usage()?.resident.saturating_sub(before);
    Ok((ours, middle(curve, frames as u64, figures), memory))
}

/// Rates over equal parts of the frames, medians over rounds; a part that no sample lies in has none (0).
fn parts(curves: &[Curve]) -> Vec<f64> {
    let last = curves.iter().flatten().map(|(n, _)| *n).max().unwrap_or_default();
    let width = last as f64 / PARTS as f64;
    let rate = |part: usize, curve: &Curve| {
        let inside = |n: u64| (n as f64 / width) as usize == part;
        let mut points = curve.iter().filter(|(n, _)| inside(*n));
        let (first, last) = (points.next()?, points.next_back()?);
        Some((last.0 - first.0) as f64 / last.1.ran_since(first.1).as_secs_f64())
    };
    (0..PARTS).map(|p| median(&curves.iter().filter_map(|c| rate(p, c)).collect::<Vec<_>>())).collect()
}

/// The value in the middle, the mean of two if there are two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: ThreadTime, millis: u64) -> ThreadTime {
        ThreadTime { at: start.at + Duration::from_millis(millis), ..start }
    }

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn middle_of_a_run_gives_its_rate() {
        let start = ThreadTime { at: now(), waited: Duration::ZERO };
        // A slow start, then a thousand a millisecond, and an end seen late.
        let mut curve = vec![(0, start), (10, at(start, 500))];
        curve.extend((50..1_000).step_by(50).map(|n| (n * 1_000, at(start, 500 + n))));
        curve.push((1_000_000, at(start, 3_000)));
        let mut figures = Figures::default();
        let kept = middle(curve, 1_000_000, &mut figures);
        assert_eq!(kept.first().unwrap().0, 50_000);
        assert_eq!(kept.last().unwrap().0, 950_000);
        assert!((figures.rates[0] - 1e6).abs() < 1.0, "{figures:?}");
    }

    #[test]
    fn parts_follow_a_run_that_slows_down() {
        let start = ThreadTime { at: now(), waited: Duration::ZERO };
        // The second half takes twice the time.
        let time = |n: u64| if n <= 500 { n } else { 500 + 2 * (n - 500) };
        let curve: Curve = (0..=1_000).map(|n| (n, at(start, time(n)))).collect();
        let rates = parts(&[curve]);
        assert!((rates[0] - 1_000.0).abs() < 20.0 && (rates[9] - 500.0).abs() < 20.0, "{rates:?}");
    }
}
