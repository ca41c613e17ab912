//! `coverage/show` of ovs-appctl(8): how often things have happened, and at what rate of late. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

/// Time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(5);
const PER_MINUTE: usize = 12;
const PER_HOUR: usize = 60;

/// What is known of one event.
#[derive(Debug, Default)]
struct Event {
    /// How often it had happened at the last sample.
    counted: u64,
    /// How often in each of the last intervals, the newest last.
    intervals: VecDeque<u64>,
    /// How often in each of the last minutes, the newest last.
    minutes: VecDeque<u64>,
}

fn keep(queue: &mut VecDeque<u64>, value: u64, most: usize) {
    queue.push_back(value);
    if queue.len() > most {
        queue.pop_front();
    }
}

/// Rates of all events.
#[derive(Debug, Default)]
pub struct Coverage {
    events: BTreeMap<&'static str, Event>,
    samples: usize,
}

impl Coverage {
    /// Takes what was counted in all up to now; to be called every [`INTERVAL`].
    pub fn sample(&mut self, totals: &[(&'static str, u64)]) {
        self.samples += 1;
        for (name, total) in totals {
            let event = self.events.entry(name).or_default();
            let more = total.saturating_sub(std::mem::replace(&mut event.counted, *total));
            keep(&mut event.intervals, more, PER_MINUTE);
            if self.samples.is_multiple_of(PER_MINUTE) {
                keep(&mut event.minutes, event.intervals.iter().sum(), PER_HOUR);
            }
        }
    }

    /// The text of the command, with what has been counted in all.
    pub fn show(&self, totals: &[(&'static str, u64)]) -> String {
        let (hit, never): (Vec<_>, Vec<_>) = totals.iter().partition(|(_, total)| *total > 0);
        let mut out = format!(
            "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash={:08x}:\n",
            hash(hit.iter().map(|(name, _)| *name))
        );
        for (name, total) in hit {
            let event = self.events.get(name);
            let sum = |of: fn(&Event) -> u64| event.map_or(0, of) as f64;
            let last = sum(|e| e.intervals.back().copied().unwrap_or(0)) / INTERVAL.as_secs_f64();
            let minute = sum(|e| e.intervals.iter().sum()) / 60.0;
            let hour = sum(|e| e.minutes.iter().sum()) / 3_600.0;
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "{name:<24} {last:>5.1}/sec {minute:>9.3}/sec {hour:>13.4}/sec   total: {total}"
            );
        }
        let _ = writeln!(out, "{} events never hit", never.len());
        out
    }
}

/// Tells which events were hit (FNV-1a).
fn hash<'a>(names: impl Iterator<Item = &'a str>) -> u32 {
    let bytes = names.flat_map(|name| name.bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(text: &'a str, name: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"))
    }

    /// The form is that of Debian's 3.1.0; the rates are worked out by hand.
    #[test]
    fn rates_are_over_the_last_interval_minute_and_hour() {
        let mut coverage = Coverage::default();
        for n in 1..=12 {
            coverage.sample(&[("cache_miss", n * 10), ("meter", 0)]);
        }
        let text = coverage.show(&[("cache_miss", 125), ("meter", 0)]);
        assert!(
            text.starts_with("Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=")
        );
        assert_eq!(
            line(&text, "cache_miss"),
            "cache_miss                 2.0/sec     2.000/sec        0.0333/sec   total: 125"
        );
        assert!(text.ends_with("\n1 events never hit\n") && !text.contains("meter"), "{text}");
        // A minute and a half of nothing.
        for _ in 0..18 {
            coverage.sample(&[("cache_miss", 120)]);
        }
        assert_eq!(
            line(&coverage.show(&[("cache_miss", 120)]), "cache_miss"),
            "cache_miss                 0.0/sec     0.000/sec        0.0333/sec   total: 120"
        );
        for _ in 0..PER_HOUR * PER_MINUTE {
            coverage.sample(&[("cache_miss", 120)]);
        }
        assert!(line(&coverage.show(&[("cache_miss", 120)]), "cache_miss").contains(" 0.0000/sec "));
    }

    #[test]
    fn the_hash_tells_which_events_were_hit_and_not_how_often() {
        let coverage = Coverage::default();
        let head = |totals: &[(&'static str, u64)]| coverage.show(totals).lines().next().map(str::to_owned);
        assert_eq!(head(&[("a", 1), ("b", 2)]), head(&[("a", 3), ("b", 1), ("c", 0)]));
        assert_ne!(head(&[("a", 1), ("b", 2)]), head(&[("a", 1), ("b", 0)]));
    }
}
