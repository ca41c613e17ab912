//! `top`: counters of ports and of the flow cache, and how fast they grow.
//!
//! The daemon's `tapestry/counters` has everything at one moment. A daemon without it (Open vSwitch's) is asked for the
//! ports of each bridge over OpenFlow, and shows no cache.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::args::Top;
use crate::bridge;
use crate::clock::Deadline;
use crate::console::{Console, Look, Paint};
use crate::daemon::{self, Refused};
use crate::grid::{Cell, Grid};
use crate::rundir::RunDir;

/// Counters of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped.
    pub drops: u64,
}

/// Counters at one moment. Ports go by bridge and name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Of the ports.
    pub ports: BTreeMap<(String, String), PortCounters>,
    /// Of the flow cache, by name; `None` if the daemon does not tell.
    pub cache: Option<BTreeMap<String, u64>>,
}

/// Growth per second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct PortRates {
    rx_packets: f64,
    rx_bits: f64,
    tx_packets: f64,
    tx_bits: f64,
    drops: f64,
}

/// Counters and how fast they grow.
#[derive(Clone, PartialEq, Debug)]
struct View {
    ports: Vec<((String, String), PortCounters, PortRates)>,
    cache: Option<CacheView>,
}

#[derive(Clone, PartialEq, Debug)]
struct CacheView {
    counters: BTreeMap<String, u64>,
    hits: f64,
    misses: f64,
}

impl CacheView {
    /// Of the look-ups in the interval, those that hit; `None` without look-ups.
    fn hit_ratio(&self) -> Option<f64> {
        let total = self.hits + self.misses;
        (total > 0.0).then(|| self.hits / total)
    }
}

/// Growth per second; a counter that began anew has not grown.
fn rate(old: u64, new: u64, elapsed: Duration) -> f64 {
    new.saturating_sub(old) as f64 / elapsed.as_secs_f64().max(1e-9)
}

impl View {
    /// The difference of two samples, the busiest port first.
    fn between(old: &Sample, new: &Sample, elapsed: Duration) -> View {
        let mut ports: Vec<_> = new
            .ports
            .iter()
            .map(|(name, now)| {
                // A new port starts at what it has.
                let before = old.ports.get(name).unwrap_or(now);
                let rates = PortRates {
                    rx_packets: rate(before.rx_packets, now.rx_packets, elapsed),
                    rx_bits: 8.0 * rate(before.rx_bytes, now.rx_bytes, elapsed),
                    tx_packets: rate(before.tx_packets, now.tx_packets, elapsed),
                    tx_bits: 8.0 * rate(before.tx_bytes, now.tx_bytes, elapsed),
                    drops: rate(before.drops, now.drops, elapsed),
                };
                (name.clone(), *now, rates)
            })
            .collect();
        let load = |rates: &PortRates| rates.rx_bits + rates.tx_bits;
        ports.sort_by(|a, b| load(&b.2).total_cmp(&load(&a.2)).then_with(|| a.0.cmp(&b.0)));
        let cache = new.cache.as_ref().map(|now| {
            let before = old.cache.as_ref().unwrap_or(now);
            let grown = |name: &str| {
                let value = |sample: &BTreeMap<String, u64>| sample.get(name).copied().unwrap_or(0);
                rate(value(before), value(now), elapsed)
            };
            CacheView { counters: now.clone(), hits: grown("hits"), misses: grown("misses") }
        });
        View { ports, cache }
    }

    fn cache_line(&self, paint: Paint) -> String {
        let Some(cache) = &self.cache else { return String::new() };
        let flows = cache.counters.get("flows").copied().unwrap_or(0);
        let ratio =
            cache.hit_ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0));
        format!(
            "{}  {flows} flows  {}/s hits  {}/s misses  hit rate {ratio}\n",
            paint.text(Look::Bold, "flow cache"),
            scaled(cache.hits),
            scaled(cache.misses),
        )
    }

    /// At most so many ports, the busiest.
    fn render(&self, ports_max: usize, paint: Paint) -> String {
        let mut grid = Grid::titled(&[
            "PORT", "BRIDGE", ">RX p/s", ">RX b/s", ">TX p/s", ">TX b/s", ">DROP/s", ">DROPS",
        ]);
        for ((bridge, name), counters, rates) in self.ports.iter().take(ports_max) {
            let number = |value: f64| match value {
                0.0 => Cell::number("0").look(Look::Dim),
                value => Cell::number(scaled(value)),
            };
            let drops = match rates.drops {
                0.0 => number(0.0),
                value => number(value).look(Look::Red),
            };
            grid.row([
                Cell::from(name.as_str()).look(Look::Bold),
                bridge.as_str().into(),
                number(rates.rx_packets),
                number(rates.rx_bits),
                number(rates.tx_packets),
                number(rates.tx_bits),
                drops,
                Cell::number(counters.drops),
            ]);
        }
        let hidden = self.ports.len().saturating_sub(ports_max);
        let rest = if hidden > 0 { format!("and {hidden} more ports\n") } else { String::new() };
        format!("{}{}{rest}", self.cache_line(paint), grid.render(paint))
    }

    fn json(&self) -> Value {
        let port = |((bridge, name), counters, rates): &((String, String), PortCounters, PortRates)| {
            json!({
                "name": name, "bridge": bridge,
                "rx_packets": counters.rx_packets, "rx_bytes": counters.rx_bytes,
                "tx_packets": counters.tx_packets, "tx_bytes": counters.tx_bytes, "drops": counters.drops,
                "rx_packets_per_s": rates.rx_packets, "rx_bits_per_s": rates.rx_bits,
                "tx_packets_per_s": rates.tx_packets, "tx_bits_per_s": rates.tx_bits,
                "drops_per_s": rates.drops,
            })
        };
        let cache = self.cache.as_ref().map(|cache| {
            json!({
                "counters": cache.counters, "hits_per_s": cache.hits, "misses_per_s": cache.misses,
                "hit_ratio": cache.hit_ratio(),
            })
        });
        json!({ "ports": self.ports.iter().map(port).collect::<Vec<_>>(), "cache": cache })
    }
}

/// A number with three digits and the prefix of its size: 1.23k, 45.6M.
fn scaled(value: f64) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut at) = (value, 0);
    // 999.5 would print as 1000.
    while value >= 999.5 && at + 1 < PREFIXES.len() {
        value /= 1000.0;
        at += 1;
    }
    let prefix = PREFIXES.get(at).copied().unwrap_or_default();
    let decimals = match value {
        _ if at == 0 && value.fract() == 0.0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{prefix}")
}

/// Reads the daemon's `tapestry/counters`.
fn read_counters(text: &str) -> anyhow::Result<Sample> {
    let json: Value = serde_json::from_str(text).context("the daemon's counters are no JSON")?;
    let ports = json.get("ports").and_then(Value::as_array).context("the daemon's counters name no ports")?;
    let mut sample = Sample::default();
    for port in ports {
        let word = |key: &str| port.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| port.get(key).and_then(Value::as_u64).unwrap_or(0);
        let counters = PortCounters {
            rx_packets: number("rx_packets"),
            rx_bytes: number("rx_bytes"),
            tx_packets: number("tx_packets"),
            tx_bytes: number("tx_bytes"),
            drops: number("drops"),
        };
        sample.ports.insert((word("bridge"), word("name")), counters);
    }
    sample.cache = json.get("cache").and_then(Value::as_object).map(|cache| {
        cache.iter().filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
    });
    Ok(sample)
}

fn look(rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Sample> {
    match daemon::call(rundir, deadline, "tapestry/counters", &[]) {
        Ok(text) => read_counters(&text),
        Err(error) if error.downcast_ref::<Refused>().is_some_and(Refused::is_unknown_command) => {
            bridge::counters(rundir, deadline)
        }
        Err(error) => Err(error),
    }
}

/// Runs until it is interrupted, or once.
///
/// # Errors
/// When the counters cannot be had. On a terminal that ends the display only before it began: daemons are restarted.
pub fn run(args: &Top, rundir: &RunDir, mut deadline: Deadline, console: &Console) -> anyhow::Result<()> {
    let clock = deadline.clock();
    let live = !args.once && !console.json && std::io::stdout().is_terminal();
    let mut before = look(rundir, deadline)?;
    let mut then = clock.now();
    if live {
        show(&format!("\x1b[2J\x1b[HLooking for {} s …", args.interval.as_secs_f64()))?;
    }
    loop {
        clock.pause(args.interval);
        deadline.renew();
        let sample = match look(rundir, deadline) {
            Ok(sample) => sample,
            Err(error) if live => {
                show(&redrawn(&format!("{}\n", console.paint.text(Look::Red, &format!("{error:#}")))))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let now = clock.now();
        let view = View::between(&before, &sample, now - then);
        (before, then) = (sample, now);
        if console.json {
            show(&format!("{}\n", view.json()))?;
        } else if live {
            show(&redrawn(&view.render(rows_of_terminal(), console.paint)))?;
        } else {
            show(&view.render(usize::MAX, console.paint))?;
        }
        if args.once {
            return Ok(());
        }
    }
}

/// Text over what the terminal shows, each line clearing what was behind it (ECMA-48 CUP, EL, ED).
fn redrawn(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

/// The ports for which the terminal has room besides the lines around them.
fn rows_of_terminal() -> usize {
    const LINES_AROUND: usize = 4;
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row));
    rows.saturating_sub(LINES_AROUND).max(1)
}

fn show(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTERS: &str = r#"{"ports":[
        {"name":"pod1","bridge":"br0","rx_packets":100,"rx_bytes":10000,"tx_packets":5,"tx_bytes":500,"drops":1},
        {"name":"pod2","bridge":"br0","rx_packets":0,"rx_bytes":0,"tx_packets":0,"tx_bytes":0,"drops":0}],
        "cache":{"hits":90,"misses":10,"flows":3}}"#;

    fn later(sample: &Sample, change: impl Fn(&mut PortCounters)) -> Sample {
        let mut sample = sample.clone();
        sample.ports.values_mut().for_each(change);
        sample
    }

    #[test]
    fn rates_are_differences_over_time() {
        let old = read_counters(COUNTERS).unwrap();
        let mut new = later(&old, |port| {
            port.rx_packets += 200;
            port.rx_bytes += 1000;
        });
        new.cache = Some([("hits".into(), 390), ("misses".into(), 110), ("flows".into(), 4)].into());
        let view = View::between(&old, &new, Duration::from_secs(2));
        let json = view.json();
        assert_eq!(json.pointer("/ports/0/rx_packets_per_s"), Some(&json!(100.0)));
        assert_eq!(json.pointer("/ports/0/rx_bits_per_s"), Some(&json!(4000.0)));
        assert_eq!(json.pointer("/ports/0/tx_bits_per_s"), Some(&json!(0.0)));
        assert_eq!(json.pointer("/cache/hit_ratio"), Some(&json!(0.75)));
        let text = view.render(usize::MAX, Paint::NONE);
        assert!(text.contains("4 flows  150/s hits  50/s misses  hit rate 75.00 %"), "{text}");
        assert!(text.contains("pod1  br0"), "{text}");
        assert!(view.render(1, Paint::NONE).ends_with("and 1 more ports\n"));
    }

    #[test]
    fn the_busiest_port_is_first_and_new_or_reset_ones_do_not_jump() {
        let old = read_counters(COUNTERS).unwrap();
        let mut new = old.clone();
        let key = |name: &str| ("br0".to_owned(), name.to_owned());
        new.ports.get_mut(&key("pod2")).unwrap().tx_bytes = 1;
        new.ports.get_mut(&key("pod1")).unwrap().rx_bytes = 0;
        new.ports.insert(key("pod3"), PortCounters { rx_bytes: 1 << 40, ..PortCounters::default() });
        let view = View::between(&old, &new, Duration::from_secs(1));
        let names: Vec<&str> = view.ports.iter().map(|((_, name), ..)| name.as_str()).collect();
        assert_eq!(names, ["pod2", "pod1", "pod3"]);
        assert!(view.ports.iter().skip(1).all(|(_, _, rates)| *rates == PortRates::default()));
    }

    #[test]
    fn three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.50"),
            (7.0, "7"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (45_600.0, "45.6k"),
            (9_999_999_999.0, "10.0G"),
            (1e18, "1000P"),
        ] {
            assert_eq!(scaled(value), text);
        }
    }

    #[test]
    fn bad_counters_are_errors() {
        for bad in ["", "[]", "{}", r#"{"ports":1}"#] {
            assert!(read_counters(bad).is_err(), "{bad}");
        }
    }
}
