//! The dpctl/ipf- commands about reassembly of IP fragments, as ovs-dpctl(8) has them.

use super::dp::{self, Args, invalid};
use super::{Answer, Command, command};
use crate::daemon::Daemon;
use datapath::fragments::FragmentCounters;
use datapath::fragments::limits::{FRAGMENTS_DEFAULT, FRAGMENTS_MAX, MIN_SIZE_MIN};
use datapath::{FragmentDump, FragmentLimits, HeldDatagram};
use std::fmt::Write as _;

/// What operators set of reassembly. It lasts until the daemon ends, as in OVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentSettings {
    /// Fragments that all workers together may hold.
    fragments_max: usize,
    /// Everything else, the same for each worker.
    limits: FragmentLimits,
}

impl Default for FragmentSettings {
    fn default() -> Self {
        FragmentSettings { fragments_max: FRAGMENTS_DEFAULT, limits: FragmentLimits::default() }
    }
}

impl FragmentSettings {
    /// The limits of one of so many workers.
    pub fn limits(&self, workers: usize) -> FragmentLimits {
        let share = FragmentLimits::of(self.fragments_max.div_ceil(workers.max(1)));
        FragmentLimits { total: share.total, port: share.port, source: share.source, ..self.limits }
    }
}

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/ipf-get-status", "[dp]", 0, 1, |d, a, _| Answer::Now(status(d, a))),
    command("dpctl/ipf-set-disabled", "[dp] v4|v6", 1, 2, |d, a, _| Answer::Now(enable(d, a, false))),
    command("dpctl/ipf-set-enabled", "[dp] v4|v6", 1, 2, |d, a, _| Answer::Now(enable(d, a, true))),
    command("dpctl/ipf-set-max-nfrags", "[dp] maxfrags", 1, 2, |d, a, _| Answer::Now(set_max(d, a))),
    command("dpctl/ipf-set-min-frag", "[dp] v4|v6 minfragment", 2, 3, |d, a, _| Answer::Now(set_min(d, a))),
];

/// A value that is not allowed: OVS's program, words, and the C library's text for `EPERM`.
fn forbidden(what: &str) -> String {
    format!("ovs-vswitchd: {what} (Operation not permitted)")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

fn version(word: Option<&str>) -> Option<Version> {
    match word {
        Some("v4") => Some(Version::V4),
        Some("v6") => Some(Version::V6),
        _ => None,
    }
}

fn change(daemon: &mut Daemon, change: impl FnOnce(&mut FragmentSettings)) {
    change(&mut daemon.fragments);
    daemon.configure_workers();
    // In force when the command returns.
    daemon.workers.settle();
}

fn enable(daemon: &mut Daemon, args: &[String], enabled: bool) -> Result<String, String> {
    let mut args = Args::new(args)?;
    let version = version(args.words.pop());
    args.end()?;
    let version = version.ok_or_else(|| invalid("parameter missing: 'v4' for IPv4 or 'v6' for IPv6"))?;
    change(daemon, |settings| match version {
        Version::V4 => settings.limits.is_v4_enabled = enabled,
        Version::V6 => settings.limits.is_v6_enabled = enabled,
    });
    let verb = if enabled { "enabling" } else { "disabling" };
    Ok(format!("{verb} fragmentation reassembly successful"))
}

/// What `ipf-set-min-frag` asks for: an IP version and a size in bytes.
fn min_size(args: &[String]) -> Result<(Version, usize), String> {
    let mut args = Args::new(args)?;
    let size: Option<usize> = args.words.pop().and_then(dp::number);
    let version = version(args.words.pop());
    args.end()?;
    let version = version.ok_or_else(|| invalid("parameter missing: v4 for IPv4 or v6 for IPv6"))?;
    let size = size.ok_or_else(|| invalid("parameter missing for minimum fragment size"))?;
    if !(MIN_SIZE_MIN..=0xffff).contains(&size) {
        let what = if size < MIN_SIZE_MIN { "small" } else { "large" };
        return Err(forbidden(&format!("requested minimum fragment size too {what}; see documentation")));
    }
    Ok((version, size))
}

fn set_min(daemon: &mut Daemon, args: &[String]) -> Result<String, String> {
    let (version, size) = min_size(args)?;
    change(daemon, |settings| match version {
        Version::V4 => settings.limits.min_v4 = size,
        Version::V6 => settings.limits.min_v6 = size,
    });
    Ok("setting minimum fragment size successful".to_owned())
}

fn max_fragments(args: &[String]) -> Result<usize, String> {
    let mut args = Args::new(args)?;
    let max: Option<usize> = args.words.pop().and_then(dp::number);
    args.end()?;
    let max = max.ok_or_else(|| invalid("parameter missing for maximum fragments"))?;
    if max > FRAGMENTS_MAX {
        return Err(forbidden("setting maximum fragments failed"));
    }
    Ok(max)
}

fn set_max(daemon: &mut Daemon, args: &[String]) -> Result<String, String> {
    let max = max_fragments(args)?;
    change(daemon, |settings| settings.fragments_max = max);
    Ok("setting maximum fragments successful".to_owned())
}

fn status(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    let args = Args::new(args)?;
    args.end()?;
    let dumps = daemon.workers.fragments();
    let mut out = status_text(&daemon.fragments, &dumps);
    if args.more {
        out.push_str("\n        Fragment Lists:\n\n");
        for datagram in dumps.iter().flat_map(|dump| &dump.datagrams) {
            let _ = writeln!(out, "{}", datagram_text(datagram));
        }
    }
    Ok(out)
}

fn status_text(settings: &FragmentSettings, dumps: &[FragmentDump]) -> String {
    let limits = &settings.limits;
    let held: usize = dumps.iter().map(|dump| dump.stats.fragments).sum();
    let mut lines = vec![
        "Fragmentation Module Status".to_owned(),
        "---------------------------".to_owned(),
        format!("v4 enabled: {}", u8::from(limits.is_v4_enabled)),
        format!("v6 enabled: {}", u8::from(limits.is_v6_enabled)),
        format!("max num frags (v4/v6): {}", settings.fragments_max),
        format!("num frag: {held}"),
    ];
    let mut counted = |name: &str, min: usize, of: fn(&FragmentDump) -> &FragmentCounters| {
        let sum = |read: fn(&FragmentCounters) -> u64| dumps.iter().map(|dump| read(of(dump))).sum::<u64>();
        lines.push(format!("min {name} frag size: {min}"));
        for (what, count) in [
            ("accepted", sum(|c| c.accepted)),
            ("completed", sum(|c| c.completed)),
            ("expired", sum(|c| c.expired)),
            ("too small", sum(|c| c.too_small)),
            ("overlapped", sum(|c| c.overlapped)),
            ("purged", sum(|c| c.purged)),
        ] {
            lines.push(format!("{name} frags {what}: {count}"));
        }
    };
    counted("v4", limits.min_v4, |dump| &dump.stats.v4);
    counted("v6", limits.min_v6, |dump| &dump.stats.v6);
    lines.iter().map(|line| format!("        {line}\n")).collect()
}

fn datagram_text(d: &HeldDatagram) -> String {
    let state = match (d.has_first, d.has_last) {
        (true, true) => "first/last frag",
        (true, false) => "first frag",
        (false, true) => "last frag",
        (false, false) => "other frag",
    };
    // The low half of the place is the recirculation id under which the fragments came to the tracker.
    let recirculation = d.context.at as u32;
    let ethertype = if d.src.is_ipv4() { "0x800" } else { "0x86dd" };
    format!(
        "(src={},dst={},recirc_id={recirculation},ip_id={},dl_type={ethertype},zone={},nw_proto={},num_fragments={},state={state})",
        d.src, d.dst, d.identification, d.context.zone, d.protocol, d.fragments
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::FragmentStats;
    use datapath::fragments::Context;
    use packet::DpPort;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// As ovs-vswitchd 3.1 prints them.
    #[test]
    fn texts() {
        let v4 = FragmentCounters { accepted: 7, overlapped: 2, ..FragmentCounters::default() };
        let stats = FragmentStats { fragments: 3, v4, ..FragmentStats::default() };
        let dumps = vec![FragmentDump { stats, datagrams: Vec::new() }; 2];
        let text = status_text(&FragmentSettings::default(), &dumps);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"        Fragmentation Module Status"));
        for line in ["v4 enabled: 1", "max num frags (v4/v6): 1000", "num frag: 6", "min v4 frag size: 1200"]
            .into_iter()
            .chain(["v4 frags accepted: 14", "v4 frags overlapped: 4", "v6 frags purged: 0"])
        {
            assert!(lines.contains(&format!("        {line}").as_str()), "{line}: {text}");
        }
        let held = HeldDatagram {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            identification: 0x1234,
            protocol: 17,
            context: Context { ingress: DpPort(1), zone: 5, at: 0 },
            fragments: 2,
            has_first: true,
            has_last: true,
            given_up: None,
        };
        assert_eq!(
            datagram_text(&held),
            "(src=10.0.0.1,dst=10.0.0.2,recirc_id=0,ip_id=4660,dl_type=0x800,zone=5,nw_proto=17,num_fragments=2,state=first/last frag)"
        );
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(min_size(&words("v4 400")), Ok((Version::V4, 400)));
        assert_eq!(min_size(&words("ovs-netdev v6 1280")), Ok((Version::V6, 1280)));
        let small = "ovs-vswitchd: requested minimum fragment size too small; see documentation (Operation not permitted)";
        for (line, text) in [
            ("v4 399", small),
            ("v4 70000", &small.replace("small", "large")),
            ("v4 x", "ovs-vswitchd: parameter missing for minimum fragment size (Invalid argument)"),
            ("v5 1000", "ovs-vswitchd: parameter missing: v4 for IPv4 or v6 for IPv6 (Invalid argument)"),
            ("foo v6 1280", "ovs-vswitchd: datapath not found (Invalid argument)"),
        ] {
            assert_eq!(min_size(&words(line)), Err(text.to_owned()), "{line}");
        }
        assert_eq!(max_fragments(&words("5000")), Ok(5_000));
        for (line, text) in [
            ("5001", "ovs-vswitchd: setting maximum fragments failed (Operation not permitted)"),
            ("x", "ovs-vswitchd: parameter missing for maximum fragments (Invalid argument)"),
            ("-1", "Unrecognized option -1"),
        ] {
            assert_eq!(max_fragments(&words(line)), Err(text.to_owned()), "{line}");
        }
    }

    #[test]
    fn workers_share_what_all_may_hold() {
        let settings = FragmentSettings { fragments_max: 1_001, ..FragmentSettings::default() };
        assert_eq!(settings.limits(1).total.fragments, 1_001);
        assert_eq!(settings.limits(2).total.fragments, 501);
        assert_eq!(settings.limits(0).total.fragments, 1_001);
    }
}
