//! The commands of ovs-appctl(8) that this daemon answers, as a table: name, usage, least and most arguments, what to do.

mod absent;
mod conntrack;
mod dp;
mod flows;
mod fragments;
mod queues;
mod trace;

pub use fragments::FragmentSettings;

use crate::connections::Walk;
use crate::daemon::Daemon;
use base::Instant;
use datapath::Command as WorkerCommand;
use packet::Frame;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use switch::bridge::Bridge;
use switch::dp_text;
use switch::mac::{Flush, MacAddr, MacKey};
use switch::tunnel::listening::{Detail, list_tunnels, listening};
use switch::underlay::command as underlay;

/// Bytes of payload in a frame that is made up from a flow.
const DUMMY_PAYLOAD: usize = 64;

/// One more than the last VLAN.
const VLAN_END: u16 = 4_096;

/// What a command comes to.
pub enum Answer {
    /// Text at once.
    Now(Result<String, String>),
    /// The daemon ends; `cleanup` removes devices and is answered when that is done.
    Exit {
        /// Whether devices that the switch made go too.
        cleanup: bool,
    },
    /// Time is to be warped in steps; answered when it has been.
    Warp {
        /// All in all.
        total: Duration,
        /// At a time.
        step: Duration,
    },
    /// Work that is done, and answered, in parts.
    Walk(Walk),
}

type Run = fn(&mut Daemon, &[String], Instant) -> Answer;

/// One command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    usage: &'static str,
    args_min: usize,
    args_max: usize,
    run: Run,
}

const fn command(
    name: &'static str,
    usage: &'static str,
    args_min: usize,
    args_max: usize,
    run: Run,
) -> Command {
    Command { name, usage, args_min, args_max, run }
}

/// The first argument, which `args_min` has made sure of.
fn first(args: &[String]) -> &str {
    args.first().map_or("", String::as_str)
}

/// Every command, by name.
pub const COMMANDS: &[Command] = &[
    command("bridge/dump-flows", "[--offload-stats] bridge", 1, 2, |d, a, n| {
        Answer::Now(bridge_dump_flows(d, a, n))
    }),
    command("bridge/reconnect", "[bridge]", 0, 1, |d, a, _| Answer::Now(d.reconnect(a.first()))),
    command("coverage/read-counter", "COUNTER", 1, 1, |d, a, _| Answer::Now(read_counter(d, first(a)))),
    command("coverage/show", "", 0, 0, |d, _, _| Answer::Now(Ok(d.coverage_text()))),
    command("exit", "[--cleanup]", 0, 1, |_, a, _| match a.first().map(String::as_str) {
        None => Answer::Exit { cleanup: false },
        Some("--cleanup") => Answer::Exit { cleanup: true },
        Some(other) => Answer::Now(Err(format!("unknown option '{other}'"))),
    }),
    command("fdb/add", "bridge port vlan mac", 4, 4, |d, a, n| Answer::Now(fdb_add(d, a, n))),
    command("fdb/del", "bridge vlan mac", 3, 3, |d, a, _| Answer::Now(fdb_del(d, a))),
    command("fdb/flush", "[bridge]", 0, 1, |d, a, _| Answer::Now(fdb_flush(d, a.first()))),
    command("fdb/show", "bridge", 1, 1, |d, a, n| Answer::Now(fdb_show(d, first(a), n))),
    command("fdb/stats-clear", "[bridge]", 0, 1, |d, a, _| Answer::Now(fdb_stats_clear(d, a.first()))),
    command("fdb/stats-show", "bridge", 1, 1, |d, a, _| Answer::Now(fdb_stats(d, first(a)))),
    command("list-commands", "", 0, 0, |_, _, _| Answer::Now(Ok(list_commands()))),
    command("memory/show", "", 0, 0, |d, _, _| Answer::Now(Ok(memory(d)))),
    command("netdev-dummy/receive", "name packet|flow [--len packet_len]", 2, usize::MAX, |d, a, n| {
        Answer::Now(dummy_receive(d, a, n))
    }),
    command("ofproto/list", "", 0, 0, |d, _, _| {
        Answer::Now(Ok(d.brain.bridges().map(|b| format!("{}\n", b.config.name)).collect()))
    }),
    command("ofproto/list-tunnels", "", 0, 0, |d, _, _| Answer::Now(Ok(list_tunnels(&d.snapshot.load())))),
    command("ovs/route/add", "ip_addr/prefix_len out_br_name [gw] [pkt_mark=mark]", 2, 4, |d, a, n| {
        Answer::Now(d.with_routes(n, |routes| underlay::route_add(routes, a)))
    }),
    command("ovs/route/del", "ip_addr/prefix_len [pkt_mark=mark]", 1, 2, |d, a, n| {
        Answer::Now(d.with_routes(n, |routes| underlay::route_del(routes, a)))
    }),
    command("ovs/route/lookup", "ip_addr [pkt_mark=mark]", 1, 2, |d, a, n| {
        Answer::Now(d.with_routes(n, |routes| underlay::route_lookup(routes, a)))
    }),
    command("ovs/route/show", "", 0, 0, |d, _, n| {
        Answer::Now(d.with_routes(n, |routes| Ok(underlay::route_show(routes))))
    }),
    command("ovsdb-server/compact", "", 0, 1, |d, _, n| Answer::Now(compact(d, n))),
    command("ovsdb-server/list-dbs", "", 0, 0, |d, _, _| {
        let names = d.link.server_mut().map(|s| s.database_names().map(|n| format!("{n}\n")).collect());
        Answer::Now(names.ok_or_else(|| "the database is served by another process".to_owned()))
    }),
    command("revalidator/purge", "", 0, 0, |d, _, _| {
        d.workers.flush();
        Answer::Now(Ok(String::new()))
    }),
    command("revalidator/wait", "", 0, 0, |d, _, _| {
        // There are no revalidators: a change bites at once. What can be waited for is that counters are credited.
        d.workers.fold();
        Answer::Now(Ok(String::new()))
    }),
    command("tapestry/counters", "", 0, 0, |d, _, _| Answer::Now(Ok(counters(d)))),
    command("tapestry/drops", "", 0, 0, |d, _, _| Answer::Now(Ok(drops(d)))),
    command("time/stop", "", 0, 0, |d, _, _| {
        if d.allowed.dummies == crate::args::Dummies::Off {
            return Answer::Now(Err("time can be stopped only with --enable-dummy".to_owned()));
        }
        d.clock.stop();
        Answer::Now(Ok(String::new()))
    }),
    command("time/warp", "[large_msecs] msecs", 1, 2, |d, a, _| warp(d, a)),
    command("tnl/arp/aging", "[SECS]", 0, 1, |d, a, _| {
        Answer::Now(underlay::neigh_aging(d.brain.neighbours(), a))
    }),
    command("tnl/arp/flush", "", 0, 0, |d, _, _| {
        Answer::Now(Ok(underlay::neigh_flush(d.brain.neighbours())))
    }),
    command("tnl/arp/set", "BRIDGE IP MAC", 3, 3, |d, a, n| {
        Answer::Now(underlay::neigh_set(d.brain.neighbours(), a, n))
    }),
    command("tnl/arp/show", "", 0, 0, |d, _, _| Answer::Now(Ok(underlay::neigh_show(d.brain.neighbours())))),
    command("tnl/egress_port_range", "min max", 0, 2, |_, a, _| Answer::Now(egress_port_range(a))),
    command("tnl/neigh/aging", "[SECS]", 0, 1, |d, a, _| {
        Answer::Now(underlay::neigh_aging(d.brain.neighbours(), a))
    }),
    command("tnl/neigh/flush", "", 0, 0, |d, _, _| {
        Answer::Now(Ok(underlay::neigh_flush(d.brain.neighbours())))
    }),
    command("tnl/neigh/set", "BRIDGE IP MAC", 3, 3, |d, a, n| {
        Answer::Now(underlay::neigh_set(d.brain.neighbours(), a, n))
    }),
    command("tnl/neigh/show", "", 0, 0, |d, _, _| {
        Answer::Now(Ok(underlay::neigh_show(d.brain.neighbours())))
    }),
    command("tnl/ports/show", "-v", 0, 1, |d, a, _| {
        let detail = if a.is_empty() { Detail::Ports } else { Detail::Addresses };
        Answer::Now(Ok(listening(&d.snapshot.load(), detail)))
    }),
    command("version", "", 0, 0, |_, _, _| Answer::Now(Ok(crate::version_text()))),
    command("vlog/close", "", 0, 0, |d, _, _| {
        d.log.close();
        Answer::Now(Ok(String::new()))
    }),
    command("vlog/disable-rate-limit", "[module]...", 0, usize::MAX, |d, a, _| {
        Answer::Now(d.log.check_modules(a))
    }),
    command("vlog/enable-rate-limit", "[module]...", 0, usize::MAX, |d, a, _| {
        Answer::Now(d.log.check_modules(a))
    }),
    command("vlog/list", "", 0, 0, |d, _, _| Answer::Now(Ok(d.log.list()))),
    command("vlog/list-pattern", "", 0, 0, |d, _, _| Answer::Now(Ok(d.log.list_patterns()))),
    command("vlog/reopen", "", 0, 0, |d, _, _| Answer::Now(d.log.reopen().map(|()| String::new()))),
    command("vlog/set", "{spec | PATTERN:destination:pattern}...", 1, usize::MAX, |d, a, _| {
        let set: Result<Vec<()>, String> = a.iter().map(|spec| d.log.set(spec)).collect();
        Answer::Now(set.map(|_| String::new()))
    }),
];

/// All tables of commands.
const TABLES: [&[Command]; 7] = [
    COMMANDS,
    absent::COMMANDS,
    conntrack::COMMANDS,
    flows::COMMANDS,
    fragments::COMMANDS,
    queues::COMMANDS,
    trace::COMMANDS,
];

/// Every command, in no order.
fn commands() -> impl Iterator<Item = &'static Command> {
    TABLES.into_iter().flatten()
}

/// Carries out a command line.
pub fn run(daemon: &mut Daemon, name: &str, args: &[String], now: Instant) -> Answer {
    let refuse = |text: String| Answer::Now(Err(text));
    let Some(command) = commands().find(|c| c.name == name) else {
        return refuse(absent::refusal(name).unwrap_or_else(|| {
            format!(
                "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
            )
        }));
    };
    if args.len() < command.args_min {
        return refuse(format!("\"{name}\" command requires at least {} arguments", command.args_min));
    }
    if args.len() > command.args_max {
        return refuse(format!("\"{name}\" command takes at most {} arguments", command.args_max));
    }
    (command.run)(daemon, args, now)
}

/// The range is shown. OVS shows it too where a maximum is missing, and would take others.
fn egress_port_range(args: &[String]) -> Result<String, String> {
    let (first, last) = (packet::tunnel::SOURCE_PORT_MIN, u16::MAX);
    match args {
        [_, _] => Err(format!(
            "the range cannot be changed: it is {first} to {last}, the dynamic ports of RFC 6335"
        )),
        _ => Ok(format!("Tunnel UDP source port range: {first}-{last}\n")),
    }
}

fn list_commands() -> String {
    let mut out = String::from("The available commands are:\n");
    let by_name: BTreeMap<&str, &Command> = commands().map(|c| (c.name, c)).collect();
    for c in by_name.values() {
        let _ = writeln!(out, "  {:<23} {}", c.name, c.usage);
    }
    out
}

/// `dpctl/list-commands`: those of ovs-dpctl(8).
fn list_dpctl_commands() -> String {
    let mut out = String::from("The available commands are:\n");
    let by_name: BTreeMap<&str, &Command> =
        commands().filter(|c| c.name.starts_with("dpctl/")).map(|c| (c.name, c)).collect();
    for c in by_name.values() {
        let _ = writeln!(out, "  {:<29} {}", c.name, c.usage);
    }
    out
}

fn compact(daemon: &mut Daemon, daemon_now: Instant) -> Result<String, String> {
    let server = daemon.link.server_mut().ok_or("the database is served by another process")?;
    let now = daemon_now;
    server.compact(crate::database::link::DATABASE, now).map(|()| String::new()).map_err(|e| e.to_string())
}

// --- MAC tables ---

fn fdb_show(daemon: &Daemon, bridge: &str, now: Instant) -> Result<String, String> {
    let snapshot = daemon.snapshot.load();
    daemon.workers.fold();
    snapshot.bridge_by_name(bridge).map(|b| b.mac_text(now)).ok_or_else(|| "no such bridge".to_owned())
}

fn each_bridge(daemon: &Daemon, bridge: Option<&String>, each: impl Fn(&Bridge)) -> Result<(), String> {
    let snapshot = daemon.snapshot.load();
    if let Some(name) = bridge {
        each(snapshot.bridge_by_name(name).ok_or("no such bridge")?);
        return Ok(());
    }
    snapshot.bridges().for_each(|b| each(b));
    Ok(())
}

fn fdb_flush(daemon: &Daemon, bridge: Option<&String>) -> Result<String, String> {
    each_bridge(daemon, bridge, |b| {
        b.mac().flush(Flush::All);
    })?;
    Ok("table successfully flushed".to_owned())
}

/// A VLAN and an address. OVS takes VLANs that there are not.
fn mac_key(vlan: &str, mac: &str) -> Result<MacKey, String> {
    let vlan =
        vlan.parse().ok().filter(|vlan| *vlan < VLAN_END).ok_or_else(|| format!("bad VLAN '{vlan}'"))?;
    let mac = MacAddr::parse(mac).ok_or("bad MAC address")?;
    if mac.is_multicast() {
        return Err(format!("{mac}: a station has no address of a group"));
    }
    Ok(MacKey { vlan, mac })
}

fn fdb_add(daemon: &Daemon, args: &[String], now: Instant) -> Result<String, String> {
    let [bridge, port, vlan, mac] = args else { return Err("four arguments are needed".to_owned()) };
    let snapshot = daemon.snapshot.load();
    let bridge = snapshot.bridge_by_name(bridge).ok_or("no such bridge")?;
    let bundle = bridge.port_by_name(port).ok_or_else(|| format!("no port {port} in this bridge"))?.bundle;
    let Some(replaced) = bridge.mac().add_static(mac_key(vlan, mac)?, bundle, now) else {
        return Ok(String::new());
    };
    let kind = if replaced.is_static { "static" } else { "dynamic" };
    Ok(format!("Overriding already existing {kind} entry on {}", bridge.port_text(replaced.bundle)))
}

fn fdb_del(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    let [bridge, vlan, mac] = args else { return Err("three arguments are needed".to_owned()) };
    let snapshot = daemon.snapshot.load();
    let bridge = snapshot.bridge_by_name(bridge).ok_or("no such bridge")?;
    match bridge.mac().remove_static(mac_key(vlan, mac)?) {
        true => Ok(String::new()),
        false => Err("could not find static mac entry".to_owned()),
    }
}

fn fdb_stats_clear(daemon: &Daemon, bridge: Option<&String>) -> Result<String, String> {
    each_bridge(daemon, bridge, |b| b.mac().clear_stats())?;
    Ok("statistics successfully cleared".to_owned())
}

fn fdb_stats(daemon: &Daemon, bridge: &str) -> Result<String, String> {
    let snapshot = daemon.snapshot.load();
    let bridge = snapshot.bridge_by_name(bridge).ok_or("no such bridge")?;
    let stats = bridge.mac().stats();
    let mut out = format!("Statistics for bridge \"{}\":\n", bridge.name());
    let _ =
        writeln!(out, "  Current/maximum MAC entries in the table: {}/{}", stats.entries, stats.entries_max);
    let _ = writeln!(out, "  Current static MAC entries in the table : {}", stats.static_entries);
    let _ = writeln!(out, "  Total number of learned MAC entries     : {}", stats.learned);
    let _ = writeln!(out, "  Total number of expired MAC entries     : {}", stats.expired);
    let _ = writeln!(out, "  Total number of evicted MAC entries     : {}", stats.evicted);
    let _ = writeln!(out, "  Total number of port moved MAC entries  : {}", stats.moved);
    Ok(out)
}

// --- flows ---

fn bridge_dump_flows(daemon: &mut Daemon, args: &[String], now: Instant) -> Result<String, String> {
    let name = args.iter().find(|a| !a.starts_with('-')).ok_or("no bridge named")?;
    daemon.workers.fold();
    daemon.brain.dump_flows(name, now).ok_or_else(|| "Unknown bridge".to_owned())
}

// --- counters ---

fn counters(daemon: &Daemon) -> String {
    let totals = flows::cache_totals(daemon);
    let mut ports = Vec::new();
    let drops = daemon.drop_totals();
    for bridge in daemon.brain.bridges() {
        for port in bridge.ports.values() {
            let c = daemon.counters_of(port);
            let dropped: u64 = drops.iter().filter(|d| d.port == port.name).map(|d| d.count).sum();
            ports.push(serde_json::json!({
                "name": port.name, "bridge": bridge.config.name, "drops": dropped,
                "rx_packets": c.rx_packets, "rx_bytes": c.rx_bytes,
                "tx_packets": c.tx_packets, "tx_bytes": c.tx_bytes,
            }));
        }
    }
    let cache = serde_json::json!({"hits": totals.hits, "misses": totals.missed, "flows": totals.flows});
    let c = daemon.connections.tracker().totals();
    let connections = serde_json::json!({
        "current": c.connections, "max": daemon.connections.config().connections_max, "created": c.created,
        "expired": c.expired, "evicted": c.evicted, "full": c.full, "nat_exhausted": c.nat_exhausted,
        "invalid": c.invalid,
    });
    format!("{}\n", serde_json::json!({"ports": ports, "cache": cache, "connections": connections}))
}

fn drops(daemon: &Daemon) -> String {
    let list: Vec<_> = daemon
        .drop_totals()
        .into_iter()
        .map(|d| {
            serde_json::json!({"port": d.port, "reason": d.reason.name(), "what": d.reason.what(), "count": d.count})
        })
        .collect();
    format!("{}\n", serde_json::Value::from(list))
}

fn read_counter(daemon: &Daemon, wanted: &str) -> Result<String, String> {
    let found = daemon.coverage().into_iter().find(|(name, _)| *name == wanted);
    found.map(|(_, value)| format!("{value}\n")).ok_or_else(|| "No such counter".to_owned())
}

fn memory(daemon: &mut Daemon) -> String {
    let rules: usize = daemon.brain.bridges().map(|b| b.rules.tables().rule_count()).sum();
    let ports: usize = daemon.brain.bridges().map(|b| b.ports.len()).sum();
    let snapshot = daemon.snapshot.load();
    let macs: usize = snapshot.bridges().map(|b| b.mac().dump().len()).sum();
    let flows = flows::cache_totals(daemon).flows;
    let rss = sys::process::usage().map(|u| u.resident / 1024).unwrap_or(0);
    let (controls, sessions) = daemon.connection_counts();
    let connections = daemon.connections.tracker().connections();
    format!(
        "cached-flows:{flows} connections:{connections} macs:{macs} ofconns:{controls} ports:{ports} resident-kB:{rss} rules:{rules} sessions:{sessions}\n"
    )
}

// --- time and dummies ---

fn warp(daemon: &Daemon, args: &[String]) -> Answer {
    if daemon.allowed.dummies == crate::args::Dummies::Off {
        return Answer::Now(Err("time can be warped only with --enable-dummy".to_owned()));
    }
    let parse = |text: &String| match text.parse::<u64>() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("invalid MSECS '{text}'")),
    };
    let times: Result<Vec<Duration>, String> = args.iter().map(parse).collect();
    match times.as_deref() {
        Ok([total]) => Answer::Warp { total: *total, step: *total },
        Ok([total, step]) => Answer::Warp { total: *total, step: (*step).min(*total) },
        Ok(_) => Answer::Now(Err("no MSECS".to_owned())),
        Err(e) => Answer::Now(Err(e.clone())),
    }
}

fn dummy_receive(daemon: &mut Daemon, args: &[String], _now: Instant) -> Result<String, String> {
    if daemon.allowed.dummies == crate::args::Dummies::Off {
        return Err("frames can be injected only with --enable-dummy".to_owned());
    }
    let (name, rest) = args.split_first().ok_or("no interface named")?;
    let device = daemon.devices.open().find(|(n, ..)| n == name).map(|(_, port, worker, _)| (port, worker));
    let (port, worker) = device.ok_or("no such dummy netdev")?;
    let mut words = rest.iter().peekable();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    while let Some(word) = words.next() {
        let mut bytes = match hex(word) {
            Some(bytes) => bytes,
            None => {
                let key = dp_text::parse_dp_key(word, &|name| daemon.port_named(name))
                    .map_err(|e| format!("bad packet or flow syntax: {e}"))?;
                packet::compose(&key, DUMMY_PAYLOAD)
            }
        };
        if words.next_if(|w| *w == "--len").is_some() {
            let len: usize = words.next().and_then(|n| n.parse().ok()).ok_or("--len needs a number")?;
            if len > packet::frame::FRAME_LEN_MAX {
                return Err(format!("--len {len} is more than {}", packet::frame::FRAME_LEN_MAX));
            }
            bytes.resize(len.max(bytes.len()), 0);
        }
        frames.push(bytes);
    }
    for bytes in frames {
        let inject = WorkerCommand::Inject { port, frame: Frame::from_bytes(&bytes) };
        daemon.workers.send(worker, inject).map_err(|e| e.to_string())?;
    }
    // The answer says that the frames have been forwarded, so that a test may look at once.
    daemon.workers.settle();
    Ok(String::new())
}

/// Bytes in hex, with blanks or without.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    (!pairs.is_empty() && rest.is_empty()).then(|| pairs.iter().map(|[a, b]| (a << 4 | b) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_and_unique() {
        for table in TABLES {
            assert!(table.is_sorted_by_key(|c| c.name));
        }
        let mut names: Vec<_> = commands().map(|c| c.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands for two commands");
        assert_eq!(list_commands().lines().count(), count + 1);
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex("0aFF 10"), Some(vec![10, 255, 16]));
        for bad in ["", "abc", "in_port(1)", "0x10"] {
            assert_eq!(hex(bad), None, "{bad}");
        }
    }
}
