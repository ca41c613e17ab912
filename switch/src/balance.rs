//! Which worker receives from what: where a new receiving side goes, how they are spread anew, and whether that is worth it.
//! Pure; loads are times in nanoseconds over the same span, or anything else that adds up.

use std::collections::VecDeque;
use std::time::Duration;

/// How long one measurement of loads takes, and how many are remembered: together the minute that ovs-vswitchd(8) speaks of.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// See [`SAMPLE_INTERVAL`].
pub const SAMPLES_MAX: usize = 12;

/// Bytes that are as much work as a frame. A frame is some system call's worth of work, and its bytes are copied twice: a
/// super-frame of 64 KB counts as nine frames.
const BYTES_PER_FRAME: u64 = 8_192;

/// What receiving and forwarding so many frames of so many bytes is, in frames.
pub fn work(frames: u64, bytes: u64) -> u64 {
    frames + bytes / BYTES_PER_FRAME
}

/// One receiving side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SideLoad {
    /// The worker that has it.
    pub worker: usize,
    /// What it costs.
    pub load: u64,
    /// The worker that it is to stay at. That worker has no sides but those that are.
    pub pin: Option<usize>,
}

/// The last measurements of something that is counted up, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(VecDeque<u64>);

impl History {
    /// Adds a measurement; the oldest makes room.
    pub fn push(&mut self, value: u64) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// Sum of the newest `count`; `None` if nothing has been measured.
    pub fn sum(&self, count: usize) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.iter().rev().take(count).sum())
    }
}

/// `busy` divided among sides by what each received.
pub fn apportion(busy: u64, works: &[u64]) -> Vec<u64> {
    let total: u128 = works.iter().map(|w| u128::from(*w)).sum();
    let share =
        |work: &u64| u64::try_from(u128::from(busy) * u128::from(*work) / total.max(1)).unwrap_or(busy);
    works.iter().map(share).collect()
}

/// `part` of `whole` in percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// Which workers may have sides that are not pinned: those without pinned ones, or all if there would be none.
pub fn open_workers(pins: impl Iterator<Item = usize>, workers: usize) -> Vec<bool> {
    let mut open = vec![true; workers];
    for pin in pins {
        open.get_mut(pin).into_iter().for_each(|o| *o = false);
    }
    if open.contains(&true) { open } else { vec![true; workers] }
}

fn open_to(sides: &[SideLoad], workers: usize) -> Vec<bool> {
    open_workers(sides.iter().filter_map(|side| side.pin), workers)
}

/// The worker for one more receiving side of a port: one that has the fewest sides of this port, so that its queues are spread,
/// and of these one that has the fewest of all. `all` and `own` are the workers' sides of all ports and of this one, `open` says
/// which workers are in question.
pub fn place(all: &[usize], own: &[usize], open: &[bool]) -> usize {
    let of_port = |worker: usize| own.get(worker).copied().unwrap_or(0);
    let candidates = all.iter().enumerate().filter(|(worker, _)| open.get(*worker) == Some(&true));
    candidates.min_by_key(|(worker, sides)| (of_port(*worker), **sides)).map_or(0, |(worker, _)| worker)
}

/// What each worker has by an assignment: load and number of sides.
fn totals(sides: &[SideLoad], workers: usize) -> Vec<(u64, usize)> {
    let mut totals = vec![(0u64, 0); workers];
    for side in sides {
        if let Some((load, count)) = totals.get_mut(side.worker) {
            (*load, *count) = (load.saturating_add(side.load), *count + 1);
        }
    }
    totals
}

/// Sums that grow while sides are given to workers.
struct Giving {
    totals: Vec<(u64, usize)>,
    open: Vec<bool>,
}

impl Giving {
    /// Gives a side to its pin, or to the worker in question that has least, of load and then of sides; where it is of those that
    /// have the same.
    fn give(&mut self, side: &mut SideLoad) {
        let home = side.worker;
        let least = || {
            let all = self.totals.iter().enumerate().filter(|(n, _)| self.open.get(*n) == Some(&true));
            all.min_by_key(|(n, (load, count))| (*load, *count, *n != home)).map_or(0, |(n, _)| n)
        };
        side.worker = side.pin.unwrap_or_else(least);
        if let Some((load, count)) = self.totals.get_mut(side.worker) {
            (*load, *count) = (load.saturating_add(side.load), *count + 1);
        }
    }
}

/// How unequal workers are: the sum of the squares of what they have more or less than their mean, times their number.
fn inequality(values: impl Iterator<Item = u64> + Clone) -> u128 {
    let count = values.clone().count() as u128;
    let sum: u128 = values.clone().map(u128::from).sum();
    let squares = values.map(|v| (u128::from(v) * count).abs_diff(sum));
    squares.fold(0, |all, off| all.saturating_add(off.saturating_mul(off)))
}

/// Of loads and of numbers of sides, of the workers that are in question.
fn inequalities(sides: &[SideLoad], workers: usize) -> (u128, u128) {
    let totals = totals(sides, workers);
    let open = open_to(sides, workers);
    let open = || totals.iter().zip(&open).filter(|(_, open)| **open).map(|(total, _)| total);
    (inequality(open().map(|t| t.0)), inequality(open().map(|t| t.1 as u64)))
}

/// Whether every side is where it may be.
fn is_possible(sides: &[SideLoad], workers: usize) -> bool {
    let open = open_to(sides, workers);
    sides.iter().all(|side| match side.pin {
        Some(pin) => side.worker == pin,
        None => open.get(side.worker) == Some(&true),
    })
}

/// The sides spread over `workers`: the costliest first, each to the worker that has least so far, pinned ones where they belong.
/// As they are if that is no better. Pins are of these workers.
pub fn spread(sides: &[SideLoad], workers: usize) -> Vec<SideLoad> {
    let workers = workers.max(1);
    let mut giving = Giving { totals: vec![(0, 0); workers], open: open_to(sides, workers) };
    let mut spread = sides.to_vec();
    let mut by_load: Vec<&mut SideLoad> = spread.iter_mut().collect();
    by_load.sort_by_key(|side| (side.pin.is_none(), std::cmp::Reverse(side.load)));
    by_load.into_iter().for_each(|side| giving.give(side));
    let is_no_better = || inequalities(&spread, workers) >= inequalities(sides, workers);
    if is_possible(sides, workers) && is_no_better() { sides.to_vec() } else { spread }
}

/// The sides when only the first `workers` are left: those of the others go to whoever has least, and so do those of workers
/// that others are pinned to. Nothing else moves.
pub fn rehome(sides: &[SideLoad], workers: usize) -> Vec<SideLoad> {
    let workers = workers.max(1);
    let open = open_to(sides, workers);
    let stays = |side: &SideLoad| side.pin.is_none() && open.get(side.worker) == Some(&true);
    let staying: Vec<SideLoad> = sides.iter().filter(|side| stays(side)).copied().collect();
    let mut giving = Giving { totals: totals(&staying, workers), open: open.clone() };
    let mut rehomed = sides.to_vec();
    let (pinned, others): (Vec<_>, Vec<_>) =
        rehomed.iter_mut().filter(|side| !stays(side)).partition(|side| side.pin.is_some());
    pinned.into_iter().chain(others).for_each(|side| giving.give(side));
    rehomed
}

/// When workers are evened out by themselves: `other_config:pmd-auto-lb` and what belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AutoBalance {
    /// Shortest time between two attempts.
    pub interval: Duration,
    /// A worker must be busy for this much of its time, in percent.
    pub load_threshold: u64,
    /// By how much the inequality of workers must fall, in percent.
    pub improvement_threshold: u64,
}

impl AutoBalance {
    /// What ovs-vswitchd.conf.db(5) says.
    pub const DEFAULT: AutoBalance =
        AutoBalance { interval: Duration::from_secs(60), load_threshold: 95, improvement_threshold: 25 };

    /// Sides as they should be, if it is time to move some. `busy` says how busy each worker is, in percent.
    pub fn decide(&self, sides: &[SideLoad], busy: &[u64]) -> Option<Vec<SideLoad>> {
        let workers = busy.len();
        let open = open_to(sides, workers);
        let in_question =
            || busy.iter().zip(totals(sides, workers)).zip(&open).filter(|(_, open)| **open).map(|(b, _)| b);
        let is_overloaded = in_question().any(|(percent, _)| *percent >= self.load_threshold);
        let has_choice = in_question().any(|(_, (_, count))| count > 1);
        if in_question().count() < 2 || !is_overloaded || !has_choice {
            return None;
        }
        let better = spread(sides, workers);
        let (now, then) = (inequalities(sides, workers).0, inequalities(&better, workers).0);
        let improvement = 100 - (then.saturating_mul(100) / now.max(1)).min(100);
        (better != sides && improvement >= u128::from(self.improvement_threshold)).then_some(better)
    }
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
