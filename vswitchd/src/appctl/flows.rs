//! The commands of ovs-vswitchd(8) and ovs-dpctl(8) about the datapath, its ports and its cached flows.

use super::{Answer, Command, command, dp};
use crate::daemon::Daemon;
use base::Instant;
use flowtable::text::{PortNames, parse_match};
use flowtable::{FlowKey, Mask, Match, OfPort};
use std::fmt::Write as _;
use switch::dp_text;

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/del-flows", "[dp]", 0, 1, |d, a, _| Answer::Now(del_flows(d, a))),
    command("dpctl/dump-dps", "", 0, 0, |_, _, _| Answer::Now(Ok("netdev@ovs-netdev\n".to_owned()))),
    command(
        "dpctl/dump-flows",
        "[-m] [--names | --no-names] [dp] [filter=..] [type=..] [pmd=..]",
        0,
        6,
        |d, a, n| Answer::Now(dpctl_dump_flows(d, a, n)),
    ),
    command("dpctl/show", "[-s] [dp...]", 0, usize::MAX, |d, a, _| Answer::Now(dpctl_show(d, a))),
    command("dpif/dump-dps", "", 0, 0, |d, _, _| Answer::Now(Ok(dpif_dump_dps(d)))),
    command("dpif/dump-flows", "[-m] [--names | --no-names] bridge", 1, 3, |d, a, n| {
        Answer::Now(dpif_dump_flows(d, a, n))
    }),
    command("dpif/show", "", 0, 0, |d, _, _| Answer::Now(Ok(dpif_show(d)))),
    command("upcall/show", "", 0, 0, |d, _, _| Answer::Now(Ok(upcall_show(d)))),
];

/// What the flow caches of all workers count.
pub(super) struct CacheTotals {
    pub hits: u64,
    pub missed: u64,
    pub lost: u64,
    pub flows: u64,
}

/// Sums over the workers.
pub(super) fn cache_totals(daemon: &Daemon) -> CacheTotals {
    let mut totals = CacheTotals { hits: 0, missed: 0, lost: 0, flows: 0 };
    for stats in daemon.workers.stats() {
        let cache = &stats.cache;
        totals.hits += cache.hits.get();
        totals.missed += cache.misses.get();
        totals.flows += cache.flows.get();
    }
    totals.lost =
        daemon.drop_totals().iter().filter(|d| d.reason == datapath::Drop::MissCredit).map(|d| d.count).sum();
    totals
}

// --- ports ---

fn dpif_dump_dps(daemon: &Daemon) -> String {
    daemon.brain.bridges().map(|b| format!("netdev@{}\n", b.config.name)).collect()
}

fn dpif_show(daemon: &Daemon) -> String {
    let totals = cache_totals(daemon);
    let mut out = format!("netdev@ovs-netdev: hit:{} missed:{}\n", totals.hits, totals.missed);
    for bridge in daemon.brain.bridges() {
        let _ = writeln!(out, "  {}:", bridge.config.name);
        let mut ports: Vec<_> = bridge.ports.values().collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        for port in ports {
            let number = match port.of_port {
                OfPort::LOCAL => "65534".to_owned(),
                other => other.0.to_string(),
            };
            let (dp, kind) = daemon.port_text(port);
            let _ = writeln!(out, "    {} {number}/{dp}: ({kind})", port.name);
        }
    }
    let drops = daemon.drop_totals();
    if !drops.is_empty() {
        out.push_str("  drops:\n");
        for d in drops {
            let _ = writeln!(out, "    {} {}: {}", d.port, d.reason.name(), d.count);
        }
    }
    out
}

fn dpctl_show(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    let args = dp::Args::new(args)?;
    let missing = args.words.iter().filter(|word| !dp::is_datapath(word));
    let missing: Vec<String> =
        missing.map(|word| dp::no_file(&format!("opening datapath {word} failed"))).collect();
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    let totals = cache_totals(daemon);
    let mut out = String::from("netdev@ovs-netdev:\n");
    let _ = writeln!(out, "  lookups: hit:{} missed:{} lost:{}", totals.hits, totals.missed, totals.lost);
    let _ = writeln!(out, "  flows: {}", totals.flows);
    for (name, port, _, _) in daemon.devices.open() {
        let _ = writeln!(out, "  port {port}: {name} ({})", daemon.device_text(name));
        if args.statistics {
            let c = daemon.device_counters(name, port);
            let _ = writeln!(
                out,
                "    RX packets:{} errors:{} dropped:{} overruns:0 frame:0",
                c.rx_packets, c.rx_errors, c.rx_dropped
            );
            let _ = writeln!(
                out,
                "    TX packets:{} errors:{} dropped:{} aborted:0 carrier:0\n    collisions:0",
                c.tx_packets, c.tx_errors, c.tx_dropped
            );
            let _ = writeln!(out, "    RX bytes:{}  TX bytes:{}", Size(c.rx_bytes), Size(c.tx_bytes));
        }
    }
    Ok(out)
}

/// A number of bytes, beside it how much that is for people, as ovs-dpctl(8) has it.
struct Size(u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(bits, _)| self.0 >> bits != 0) {
            Some((bits, unit)) => write!(f, " ({:.1} {unit})", self.0 as f64 / (1u64 << bits) as f64),
            None => Ok(()),
        }
    }
}

// --- cached flows ---

fn del_flows(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    if let Some(file) = args.first().filter(|word| !dp::is_datapath(word)) {
        return Err(format!("{file}: no such datapath, and flows cannot be named in a file"));
    }
    daemon.workers.flush();
    Ok(String::new())
}

fn upcall_show(daemon: &Daemon) -> String {
    let flows: Vec<u64> = daemon.workers.stats().map(|s| s.cache.flows.get()).collect();
    let mut out = String::from("netdev@ovs-netdev:\n");
    let limit = daemon.flow_limit();
    let _ =
        writeln!(out, "  flows         : (current {}) (limit {limit} a worker)\n", flows.iter().sum::<u64>());
    for (worker, keys) in flows.iter().take(daemon.workers.count()).enumerate() {
        let _ = writeln!(out, "  {}: (keys {keys})", daemon.workers.cpu_of(worker));
    }
    out
}

/// Which cached flows are wanted.
#[derive(Debug, PartialEq)]
struct Wanted<'a> {
    /// Those of one bridge.
    bridge: Option<&'a str>,
    /// Those that frames could have which match this.
    filter: Option<Match>,
    /// Those of the worker on this processor.
    core: Option<i64>,
    /// None, as they are all of another type.
    none: bool,
}

impl<'a> Wanted<'a> {
    const ALL: Wanted<'static> = Wanted { bridge: None, filter: None, core: None, none: false };

    /// The arguments of dpctl/dump-flows, each at most once and in any order; the datapath first.
    ///
    /// # Errors
    /// In OVS's words.
    fn parse(args: &'a [String], names: &dyn PortNames) -> Result<Wanted<'a>, String> {
        let mut wanted = Wanted::ALL;
        let mut has_type = false;
        for word in dp::Args::new(args)?.words {
            match word.split_once('=') {
                Some(("filter", text)) if wanted.filter.is_none() => {
                    wanted.filter = Some(filter(text, names)?)
                }
                Some(("type", text)) if !has_type => {
                    has_type = true;
                    wanted.none = !is_of_type(text)?;
                }
                Some(("pmd", text)) if wanted.core.is_none() => {
                    let core =
                        text.parse().map_err(|_| dp::invalid(&format!("Failed to parse pmd ({text})")))?;
                    wanted.core = Some(core);
                }
                _ => return Err(dp::no_datapath()),
            }
        }
        Ok(wanted)
    }
}

/// `filter=`: a flow as ovs-ofctl has it, but with ports of the datapath.
fn filter(text: &str, names: &dyn PortNames) -> Result<Match, String> {
    let refused = |why: &str| format!("ovs-vswitchd: Failed to parse filter ({text}: {why})");
    let matching = parse_match(text, names).map_err(|error| refused(&error.to_string()))?;
    match flowtable::text::normalize(&matching) == matching {
        true => Ok(matching),
        false => Err(refused("prerequisites not met")),
    }
}

/// `type=`: whether ours are among these types. Nothing is offloaded.
fn is_of_type(text: &str) -> Result<bool, String> {
    let mut found = false;
    for word in text.split(',').filter(|word| !word.is_empty()) {
        found |= match word {
            "ovs" | "non-offloaded" | "all" => true,
            "tc" | "dpdk" | "offloaded" | "partially-offloaded" | "fully-offloaded" => false,
            _ => return Err(dp::invalid(&format!("Failed to parse type ({word})"))),
        };
    }
    Ok(found)
}

/// Names of ports in the datapath.
struct DatapathNames<'a>(&'a Daemon);

impl PortNames for DatapathNames<'_> {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.0.port_named(name).map(OfPort)
    }
    fn name(&self, _: OfPort) -> Option<&str> {
        None
    }
}

fn dpctl_dump_flows(daemon: &Daemon, args: &[String], now: Instant) -> Result<String, String> {
    Ok(dump_flows(daemon, &Wanted::parse(args, &DatapathNames(daemon))?, now))
}

fn dpif_dump_flows(daemon: &Daemon, args: &[String], now: Instant) -> Result<String, String> {
    let words = dp::Args::new(args)?.words;
    let bridge = words.first().copied().unwrap_or_default();
    if words.len() != 1 || daemon.snapshot.load().bridge_by_name(bridge).is_none() {
        return Err("no such bridge".to_owned());
    }
    Ok(dump_flows(daemon, &Wanted { bridge: Some(bridge), ..Wanted::ALL }, now))
}

fn dump_flows(daemon: &Daemon, wanted: &Wanted<'_>, now: Instant) -> String {
    let snapshot = daemon.snapshot.load();
    let is_wanted = |flow: &datapath::CachedFlow| {
        let home = || snapshot.home_of_key(&flow.key).map(|(b, _)| b.name().to_owned());
        let matching = || Match::new(&FlowKey::from(flow.key), Mask(FlowKey::from(flow.mask.0)));
        wanted.bridge.is_none_or(|bridge| home().as_deref() == Some(bridge))
            && wanted.filter.as_ref().is_none_or(|filter| filter.overlaps(&matching()))
    };
    let mut out = String::new();
    for worker in 0..daemon.workers.count() {
        let core = daemon.workers.cpu_of(worker);
        if wanted.none || wanted.core.is_some_and(|only| usize::try_from(only) != Ok(core)) {
            continue;
        }
        let mut lines = Vec::new();
        daemon.workers.dump(worker, |dump| {
            for flow in dump.flows.iter().filter(|flow| is_wanted(flow)) {
                let shown = dp_text::DpFlow {
                    key: &flow.key,
                    mask: &flow.mask,
                    program: &flow.program,
                    packets: flow.packets,
                    bytes: flow.bytes,
                    last_used: Some(flow.last_seen),
                    tcp_flags: flow.tcp_flags,
                };
                lines.push(dp_text::flow_line(&shown, now));
            }
        });
        // Only where it says something: as in OVS, not where one worker or bridge is named.
        if !lines.is_empty() && wanted.bridge.is_none() && wanted.core.is_none() {
            let _ = writeln!(out, "flow-dump from pmd on cpu core: {core}");
        }
        lines.sort();
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named;

    impl PortNames for Named {
        fn number(&self, name: &str) -> Option<OfPort> {
            (name == "pod1").then_some(OfPort(3))
        }
        fn name(&self, _: OfPort) -> Option<&str> {
            None
        }
    }

    fn parse(line: &str) -> Result<(bool, bool, Option<i64>), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wanted::parse(&words, &Named).map(|w| (w.filter.is_some(), w.none, w.core))
    }

    /// What Debian's 3.1.0 takes and refuses; of `pmd=x` it gives no reason.
    #[test]
    fn arguments_of_dump_flows() {
        assert_eq!(parse(""), Ok((false, false, None)));
        assert_eq!(parse("-m netdev@ovs-netdev filter=icmp pmd=1"), Ok((true, false, Some(1))));
        assert_eq!(parse("pmd=-1 filter=in_port=pod1"), Ok((true, false, Some(-1))));
        for (types, none) in [
            ("ovs,tc", false),
            ("all", false),
            ("non-offloaded", false),
            ("offloaded", true),
            ("dpdk,tc", true),
        ] {
            assert_eq!(parse(&format!("type={types}")), Ok((false, none, None)), "{types}");
        }
        for (line, error) in [
            ("nosuch", "ovs-vswitchd: datapath not found (Invalid argument)"),
            ("type=ovs type=tc", "ovs-vswitchd: datapath not found (Invalid argument)"),
            ("type=foo", "ovs-vswitchd: Failed to parse type (foo) (Invalid argument)"),
            ("filter=foo", "ovs-vswitchd: Failed to parse filter (foo: "),
            (
                "filter=nw_dst=10.8.0.1",
                "ovs-vswitchd: Failed to parse filter (nw_dst=10.8.0.1: prerequisites not met",
            ),
            ("filter=in_port=pod2", "ovs-vswitchd: Failed to parse filter (in_port=pod2: "),
            ("pmd=x", "ovs-vswitchd: Failed to parse pmd (x) "),
            ("-x", "Unrecognized option -x"),
        ] {
            let refused = parse(line).expect_err(line);
            assert!(refused.starts_with(error), "{line}: {refused}");
        }
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0"),
            (1_023, "1023"),
            (1_024, "1024 (1.0 KiB)"),
            (1_572_864, "1572864 (1.5 MiB)"),
            (5 << 30, "5368709120 (5.0 GiB)"),
            (3 << 40, "3298534883328 (3.0 TiB)"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
