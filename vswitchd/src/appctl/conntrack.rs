//! The dpctl/ commands about connection tracking, as ovs-dpctl(8) has them.

use super::dp::{self, Args, invalid};
use super::{Answer, Command, command};
use crate::connections::Walk;
use crate::daemon::Daemon;
use datapath::conntrack::{LineForm, Zone};
use std::fmt::Write as _;

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/ct-bkts", "[dp] [gt=N]", 0, 2, |d, a, _| Answer::Now(buckets(d, a))),
    command("dpctl/ct-del-limits", "[dp] zone=N1[,N2]...", 1, 2, |d, a, _| Answer::Now(del_limits(d, a))),
    command("dpctl/ct-disable-tcp-seq-chk", "[dp]", 0, 1, |d, a, _| Answer::Now(set_seq_check(d, a, false))),
    command("dpctl/ct-enable-tcp-seq-chk", "[dp]", 0, 1, |d, a, _| Answer::Now(set_seq_check(d, a, true))),
    command("dpctl/ct-get-limits", "[dp] [zone=N1[,N2]...]", 0, 2, |d, a, _| Answer::Now(get_limits(d, a))),
    command("dpctl/ct-get-maxconns", "[dp]", 0, 1, |d, a, _| {
        Answer::Now(plain(a).map(|()| format!("{}\n", d.connections.config().connections_max)))
    }),
    command("dpctl/ct-get-nconns", "[dp]", 0, 1, |d, a, _| {
        Answer::Now(plain(a).map(|()| format!("{}\n", d.connections.tracker().connections())))
    }),
    command("dpctl/ct-get-tcp-seq-chk", "[dp]", 0, 1, |d, a, _| {
        let state = if d.connections.config().tcp_seq_check { "enabled" } else { "disabled" };
        Answer::Now(plain(a).map(|()| format!("TCP sequence checking: {state}\n")))
    }),
    command("dpctl/ct-set-limits", "[dp] [default=L] [zone=N,limit=L]...", 1, usize::MAX, |d, a, _| {
        Answer::Now(set_limits(d, a))
    }),
    command("dpctl/ct-set-maxconns", "[dp] maxconns", 1, 2, |d, a, _| Answer::Now(set_max(d, a))),
    command("dpctl/ct-stats-show", "[dp] [zone=N]", 0, 3, |_, a, _| walk(stats(a))),
    command("dpctl/dump-conntrack", "[-m] [-s] [dp] [zone=N]", 0, 4, |_, a, _| walk(dump(a))),
    command("dpctl/flush-conntrack", "[dp] [zone=N] [ct-orig-tuple] [ct-reply-tuple]", 0, 4, |_, a, _| {
        walk(Args::new(a).and_then(|args| dp::flush(&args)).map(|flush| Walk::flush(&flush)))
    }),
];

fn walk(walk: Result<Walk, String>) -> Answer {
    walk.map_or_else(|error| Answer::Now(Err(error)), Answer::Walk)
}

/// Nothing but a datapath may be named.
fn plain(args: &[String]) -> Result<(), String> {
    Args::new(args)?.end()
}

fn dump(args: &[String]) -> Result<Walk, String> {
    let mut args = Args::new(args)?;
    let zone = args.zone()?;
    args.end()?;
    Ok(Walk::list(zone, LineForm { more: args.more, statistics: args.statistics }))
}

/// `verbose`, which ovs-dpctl(8) calls `-m`, stands anywhere.
fn stats(args: &[String]) -> Result<Walk, String> {
    let mut args = Args::new(args)?;
    let before = args.take_word("verbose");
    let zone = args.zone()?;
    let verbose = args.more || before || args.take_word("verbose");
    args.end()?;
    Ok(Walk::count(zone, verbose))
}

/// Shards of the table stand for buckets; a translated connection stands in two.
fn buckets(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    let mut args = Args::new(args)?;
    let threshold: Option<usize> = args.take("gt").map(dp::number).unwrap_or(Some(0));
    let threshold = threshold.ok_or_else(dp::no_datapath)?;
    args.end()?;
    let tracker = daemon.connections.tracker();
    Ok(buckets_text(&tracker.shard_sizes(), tracker.connections(), threshold))
}

/// Buckets in a line of the table.
const BUCKETS_PER_LINE: usize = 8;

fn buckets_text(sizes: &[usize], connections: u32, threshold: usize) -> String {
    let mut out = format!("Total Buckets: {}\nCurrent Connections: {connections}\n\n", sizes.len());
    if connections == 0 {
        return out;
    }
    let rule = format!("+{}+{}+\n", "-".repeat(11), "-".repeat(41));
    let _ = write!(out, "{rule}|{:^11}|{:^41}|\n{rule}", "Buckets", "Connections per Buckets");
    for (line, sizes) in sizes.chunks(BUCKETS_PER_LINE).enumerate() {
        let first = line * BUCKETS_PER_LINE;
        let _ = write!(out, " {first:>3}..{:>3}   | ", first + BUCKETS_PER_LINE - 1);
        for size in sizes {
            let _ = match *size > threshold {
                true => write!(out, "{size:>5}"),
                false => write!(out, "{:>5}", "."),
            };
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

fn set_max(daemon: &mut Daemon, args: &[String]) -> Result<String, String> {
    let mut args = Args::new(args)?;
    let last = args.words.pop().and_then(dp::number);
    args.end()?;
    let max = last.ok_or_else(|| invalid("maxconns missing or malformed"))?;
    daemon.connections.set_connections_max(max);
    Ok("setting maxconns successful".to_owned())
}

fn set_seq_check(daemon: &mut Daemon, args: &[String], check: bool) -> Result<String, String> {
    plain(args)?;
    daemon.connections.change(|config| config.tcp_seq_check = check);
    let verb = if check { "enabling" } else { "disabling" };
    Ok(format!("{verb} TCP sequence checking successful"))
}

fn set_limits(daemon: &mut Daemon, args: &[String]) -> Result<String, String> {
    let mut args = Args::new(args)?;
    let default: Option<Option<u32>> = args.take("default").map(dp::number);
    if default == Some(None) {
        return Err(invalid("invalid default limit"));
    }
    // All or none.
    let zones = args.words.iter().map(|word| dp::zone_limit(word)).collect::<Result<Vec<_>, _>>()?;
    daemon.connections.change(|config| {
        if let Some(default) = default.flatten() {
            config.zone_limit_default = default;
        }
        config.zone_limits.extend(zones.into_iter().map(|(zone, limit)| (Zone(zone), limit)));
    });
    Ok(String::new())
}

fn del_limits(daemon: &mut Daemon, args: &[String]) -> Result<String, String> {
    let args = Args::new(args)?;
    let zones = dp::zones(&args)?.ok_or_else(|| invalid("invalid zone"))?;
    daemon.connections.change(|config| {
        for zone in zones {
            config.zone_limits.remove(&Zone(zone));
        }
    });
    Ok(String::new())
}

fn get_limits(daemon: &Daemon, args: &[String]) -> Result<String, String> {
    let args = Args::new(args)?;
    let config = daemon.connections.config();
    let zones = match dp::zones(&args)? {
        Some(zones) => zones.into_iter().map(Zone).collect(),
        None => config.zone_limits.keys().copied().collect::<Vec<_>>(),
    };
    let mut out = format!("default limit={}\n", config.zone_limit_default);
    for zone in zones {
        let limit = config.zone_limits.get(&zone).copied().unwrap_or(config.zone_limit_default);
        let count = daemon.connections.tracker().zone_connections(zone);
        let _ = writeln!(out, "zone={},limit={limit},count={count}", zone.0);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ovs-vswitchd 3.1 prints; it has one bucket.
    #[test]
    fn buckets() {
        let head = "Total Buckets: 1\nCurrent Connections: 3\n\n\
            +-----------+-----------------------------------------+\n\
            |  Buckets  |         Connections per Buckets         |\n\
            +-----------+-----------------------------------------+\n";
        assert_eq!(buckets_text(&[3], 3, 2), format!("{head}   0..  7   |     3\n\n"));
        assert_eq!(buckets_text(&[3], 3, 3), format!("{head}   0..  7   |     .\n\n"));
        assert_eq!(buckets_text(&[0], 0, 0), "Total Buckets: 1\nCurrent Connections: 0\n\n");
        let many = buckets_text(&[1; 16], 16, 0);
        assert!(many.ends_with("   8.. 15   |     1    1    1    1    1    1    1    1\n\n"), "{many}");
    }
}
