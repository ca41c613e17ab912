//! The commands of ovs-vswitchd(8) and ovs-dpctl(8) about the datapath, its ports and its cached flows.

use super::{Answer, Command, command, dp};
use crate::daemon::Daemon;
use base::Instant;
use datapath::command::FlowFilter;
use flowtable::text::{PortNames, parse_match};
use flowtable::{FlowKey, Mask, Match, OfPort};
use std::fmt::Write as _;
use std::sync::Arc;
use switch::dp_text::{self, Detail, FlowStyle, PortLabels, Ufid};

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/del-flow", "[dp] flow", 1, 2, |d, a, _| Answer::Now(del_flow(d, a))),
    command("dpctl/del-flows", "[dp] [file]", 0, 2, |d, a, _| Answer::Now(del_flows(d, a))),
    command("dpctl/dump-dps", "", 0, 0, |_, _, _| Answer::Now(Ok("netdev@ovs-netdev\n".to_owned()))),
    command(
        "dpctl/dump-flows",
        "[-m] [--names | --no-names] [dp] [filter=..] [type=..] [pmd=..]",
        0,
        6,
        |d, a, n| Answer::Now(dpctl_dump_flows(d, a, n)),
    ),
    command("dpctl/get-flow", "[-m] [--names | --no-names] [dp] ufid", 1, 4, |d, a, n| {
        Answer::Now(get_flow(d, a, n))
    }),
    command("dpctl/list-commands", "", 0, 0, |_, _, _| Answer::Now(Ok(super::list_dpctl_commands()))),
    command("dpctl/show", "[-s] [dp...]", 0, usize::MAX, |d, a, _| Answer::Now(dpctl_show(d, a))),
    command("dpif/dump-dps", "", 0, 0, |d, _, _| Answer::Now(Ok(dpif_dump_dps(d)))),
    command("dpif/dump-flows", "[-m] [--names | --no-names] bridge", 1, 3, |d, a, n| {
        Answer::Now(dpif_dump_flows(d, a, n))
    }),
    command("dpif/show", "", 0, 0, |d, _, _| Answer::Now(Ok(dpif_show(d)))),
    command("dpif/show-dp-features", "bridge", 1, 1, |d, a, _| Answer::Now(features(d, super::first(a)))),
    command("upcall/disable-megaflows", "", 0, 0, |_, _, _| {
        Answer::Now(Err(
            "cached flows are keyed on what the rules look at, never on all of a packet".to_owned()
        ))
    }),
    command("upcall/disable-ufid", "", 0, 0, |_, _, _| {
        Answer::Now(Err("UFIDs are worked out when they are shown: there is nothing to disable".to_owned()))
    }),
    command("upcall/enable-megaflows", "", 0, 0, |_, _, _| Answer::Now(Ok("megaflows enabled\n".to_owned()))),
    command("upcall/enable-ufid", "", 0, 0, |_, _, _| {
        Answer::Now(Ok("Datapath dumping tersely using UFID enabled for supported datapaths\n".to_owned()))
    }),
    command("upcall/set-flow-limit", "flow-limit-number", 1, 1, |d, a, _| {
        Answer::Now(set_flow_limit(d, super::first(a)))
    }),
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

/// Names of cached flows: UFIDs, or keys as they are shown.
#[derive(Debug, Default, PartialEq)]
struct Named {
    ufids: Vec<Ufid>,
    keys: Vec<String>,
}

impl Named {
    /// Adds a flow, or a line of dpctl/dump-flows.
    ///
    /// # Errors
    /// It is none.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let (first, rest) = text.split_once([',', ' ']).unwrap_or((text, ""));
        if first.starts_with("ufid:") {
            self.ufids.push(Ufid::parse(first).ok_or_else(|| dp::invalid("parsing flow ufid"))?);
            return Ok(());
        }
        let key = text.split_once(", packets:").map_or(text, |(key, _)| key).trim_end();
        if !key.contains("in_port(") {
            return Err(dp::invalid(&format!(
                "parsing flow key ({first}{})",
                if rest.is_empty() { "" } else { " …" }
            )));
        }
        self.keys.push(key.to_owned());
        Ok(())
    }

    /// Reads a file of them, a line each; what ovs-dpctl(8) has before a flow there may be `delete`.
    ///
    /// # Errors
    /// A line that is none.
    fn read(text: &str) -> Result<Named, String> {
        let mut named = Named::default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with("flow-dump from")) {
            match line.split_once(' ') {
                Some((word @ ("add" | "modify"), _)) => {
                    return Err(dp::invalid(&format!(
                        "{word}: cached flows follow from the rules and are only deleted"
                    )));
                }
                Some(("delete", flow)) => named.add(flow.trim_start())?,
                _ => named.add(line)?,
            }
        }
        Ok(named)
    }

    fn filter(self) -> FlowFilter {
        Arc::new(move |key, mask| {
            self.ufids.contains(&Ufid::of(key, mask))
                || !self.keys.is_empty() && self.keys.contains(&dp_text::display_dp_key(key, mask))
        })
    }
}

fn del_flow(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    let args = dp::Args::new(args)?;
    let [flow] = args.words[..] else { return Err(dp::no_datapath()) };
    let mut named = Named::default();
    named.add(flow)?;
    match daemon.workers.remove_flows(&named.filter()) {
        0 => Err(format!("{}\nPerhaps you need to specify a UFID?", dp::no_file("deleting flow"))),
        _ => Ok(String::new()),
    }
}

fn del_flows(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    match dp::Args::new(args)?.words[..] {
        [] => daemon.workers.flush(),
        [file] => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("ovs-vswitchd: Opening file \"{file}\" failed ({error})"))?;
            daemon.workers.remove_flows(&Named::read(&text)?.filter())
        }
        _ => return Err(dp::no_datapath()),
    };
    Ok(String::new())
}

/// `dpctl/get-flow`: one flow by its UFID, at whichever worker.
fn get_flow(daemon: &Daemon, args: &[String], now: Instant) -> Result<String, String> {
    let args = dp::Args::new(args)?;
    let [text] = args.words[..] else { return Err(dp::no_datapath()) };
    let ufid = Ufid::parse(text).ok_or_else(|| dp::invalid("parsing flow ufid"))?;
    let form =
        Form { detail: if args.more { Detail::Dpctl } else { Detail::Less }, names: args.wants_names() };
    let is_it = |flow: &datapath::CachedFlow| Ufid::of(&flow.key, &flow.mask) == ufid;
    let all = 0..daemon.workers.count();
    let line = all.into_iter().find_map(|worker| lines_of(daemon, worker, form, now, &is_it).pop());
    line.map(|line| line + "\n").ok_or_else(|| dp::no_file("getting flow"))
}

/// What the datapath can do, in OVS's words.
const FEATURES: [(&str, &str); 26] = [
    ("Masked set action", "Yes"),
    ("Tunnel push pop", "Yes"),
    ("Ufid", "Yes"),
    ("Truncate action", "Yes"),
    ("Clone action", "Yes"),
    ("Sample nesting", "0"),
    ("Conntrack eventmask", "No"),
    ("Conntrack clear", "Yes"),
    ("Max dp_hash algorithm", "1"),
    ("Check pkt length action", "No"),
    ("Conntrack timeout policy", "Yes"),
    ("Explicit Drop action", "Yes"),
    ("Optimized Balance TCP mode", "No"),
    ("Conntrack all-zero IP SNAT", "Yes"),
    ("MPLS Label add", "No"),
    ("Max VLAN headers", "2"),
    ("Max MPLS depth", "3"),
    ("Recirc", "Yes"),
    ("CT state", "Yes"),
    ("CT zone", "Yes"),
    ("CT mark", "Yes"),
    ("CT label", "Yes"),
    ("CT state NAT", "Yes"),
    ("CT orig tuple", "Yes"),
    ("CT orig tuple for IPv6", "Yes"),
    ("IPv6 ND Extension", "Yes"),
];

/// `dpif/show-dp-features`.
fn features(daemon: &Daemon, bridge: &str) -> Result<String, String> {
    if daemon.snapshot.load().bridge_by_name(bridge).is_none() {
        return Err("no such bridge".to_owned());
    }
    Ok(FEATURES.iter().map(|(what, has)| format!("{what}: {has}\n")).collect())
}

fn set_flow_limit(daemon: &mut Daemon, text: &str) -> Result<String, String> {
    let limit: u32 = text.parse().map_err(|_| format!("{text}: not a number of flows"))?;
    daemon.set_flow_limit(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(format!("set flow_limit to {limit}\n"))
}

fn upcall_show(daemon: &Daemon) -> String {
    let counts = daemon.flow_counts;
    let flows: Vec<u64> = daemon.workers.stats().map(|s| s.cache.flows.get()).collect();
    let mut out = String::from("netdev@ovs-netdev:\n");
    let (limit, current) = (daemon.flow_limit(), flows.iter().sum::<u64>());
    let _ = writeln!(
        out,
        "  flows         : (current {current}) (avg {}) (max {}) (limit {limit} a worker)\n  ufid enabled : true\n",
        counts.average,
        counts.most.max(current)
    );
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
    /// How they are shown.
    form: Form,
}

/// How cached flows are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Form {
    detail: Detail,
    /// Whether ports are named.
    names: bool,
}

impl<'a> Wanted<'a> {
    fn all(form: Form) -> Wanted<'static> {
        Wanted { bridge: None, filter: None, core: None, none: false, form }
    }

    /// The arguments of dpctl/dump-flows, each at most once and in any order; the datapath first.
    ///
    /// # Errors
    /// In OVS's words.
    fn parse(args: &'a [String], names: &dyn PortNames) -> Result<Wanted<'a>, String> {
        let args = dp::Args::new(args)?;
        let detail = if args.more { Detail::Dpctl } else { Detail::Less };
        let mut wanted = Wanted::all(Form { detail, names: args.wants_names() });
        let mut has_type = false;
        for word in args.words {
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
    let args = dp::Args::new(args)?;
    let bridge = args.words.first().copied().unwrap_or_default();
    if args.words.len() != 1 || daemon.snapshot.load().bridge_by_name(bridge).is_none() {
        return Err("no such bridge".to_owned());
    }
    let form =
        Form { detail: if args.more { Detail::Dpif } else { Detail::Less }, names: args.wants_names() };
    Ok(dump_flows(daemon, &Wanted { bridge: Some(bridge), ..Wanted::all(form) }, now))
}

/// The lines of a worker's flows that are wanted.
fn lines_of(
    daemon: &Daemon,
    worker: usize,
    form: Form,
    now: Instant,
    is_wanted: &dyn Fn(&datapath::CachedFlow) -> bool,
) -> Vec<String> {
    let names = form.names.then(|| daemon.port_names());
    let style = FlowStyle { ports: PortLabels(names.as_ref()), detail: form.detail };
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
            lines.push(dp_text::flow_line(&shown, style, now));
        }
    });
    lines
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
        let mut lines = lines_of(daemon, worker, wanted.form, now, &is_wanted);
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

    struct Pods;

    impl PortNames for Pods {
        fn number(&self, name: &str) -> Option<OfPort> {
            (name == "pod1").then_some(OfPort(3))
        }
        fn name(&self, _: OfPort) -> Option<&str> {
            None
        }
    }

    fn parse(line: &str) -> Result<(bool, bool, Option<i64>), String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wanted::parse(&words, &Pods).map(|w| (w.filter.is_some(), w.none, w.core))
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
    fn ports_are_named_where_more_is_wanted_or_names_are() {
        for (line, form) in [
            ("", (Detail::Less, false)),
            ("-m", (Detail::Dpctl, true)),
            ("--names", (Detail::Less, true)),
            ("--names --no-names", (Detail::Less, false)),
            ("--more --no-names netdev@ovs-netdev", (Detail::Dpctl, false)),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let Form { detail, names } = Wanted::parse(&words, &Pods).expect(line).form;
            assert_eq!((detail, names), form, "{line}");
        }
    }

    #[test]
    fn files_of_flows_to_delete() {
        const UFID: &str = "ufid:554325f2-22c5-4f4a-a497-76a7a399937f";
        const KEY: &str = "recirc_id(0),in_port(2),eth_type(0x0800),ipv4(frag=no)";
        let file = format!(
            "# all of them\n\nflow-dump from pmd on cpu core: 0\n{UFID}\ndelete {UFID}, {KEY}, packets:1, actions:2\n{KEY}\n\
             delete {KEY}, packets:0, bytes:0, used:never, actions:drop  # gone\n"
        );
        let named = Named::read(&file).expect("a file");
        let ufid = Ufid::parse(UFID).expect("a UFID");
        assert_eq!(named, Named { ufids: vec![ufid; 2], keys: vec![KEY.to_owned(); 2] });
        for (line, error) in [
            ("add in_port(1) 2", "ovs-vswitchd: add: cached flows follow from the rules"),
            ("ufid:1234", "ovs-vswitchd: parsing flow ufid (Invalid argument)"),
            ("nonsense", "ovs-vswitchd: parsing flow key (nonsense) (Invalid argument)"),
        ] {
            let refused = Named::read(line).expect_err(line);
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
