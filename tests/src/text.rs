//! What two switches print, made comparable: everything that depends on the moment, on addresses made up at random, or on
//! the order of a hash table is replaced or sorted; the rest must be equal.

/// Numbers that depend on the moment or on chance, by what stands before them.
const VOLATILE: &[&str] = &[
    "duration=",
    "duration:",
    "idle_age=",
    "hard_age=",
    "xid=0x",
    "xid 0x",
    "dpid:",
    "addr:",
    "dp_desc=",
    "time ",
    "cookie 0x",
];

/// Words that only one of the two says, for the reason given.
const DIFFERENT: &[(&str, &str)] = &[
    // Ports of OVS's dummy netdevs have no counters of errors and one queue with custom counters.
    ("=?", "=0"),
    // OVS has flow monitors too, but does not say so.
    (" FLOW_MONITORING", ""),
    // Names of the datapath and of the internal port's kind.
    ("system@ovs-system", "netdev@ovs-netdev"),
    ("(dummy-internal)", "(internal)"),
];

/// Replaces each run of characters that `is_value` accepts after `prefix` by `*`.
fn mask(text: &str, prefix: &str, is_value: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, after) = rest.split_at(at + prefix.len());
        out.push_str(before);
        let value = after.find(|c| !is_value(c)).unwrap_or(after.len());
        if value > 0 {
            out.push('*');
        }
        rest = &after[value..];
    }
    out + rest
}

/// The text without what is volatile.
pub fn steady(text: &str) -> String {
    let mut out = text.to_owned();
    for prefix in VOLATILE {
        let hexadecimal = prefix.ends_with("0x") || matches!(*prefix, "dpid:" | "addr:");
        out = mask(&out, prefix, |c| {
            if hexadecimal { c.is_ascii_hexdigit() || c == ':' } else { c.is_ascii_digit() || c == '.' }
        });
    }
    out = out.lines().map(without_datapath_port).collect::<Vec<_>>().join("\n");
    for (theirs, ours) in DIFFERENT {
        out = out.replace(theirs, ours);
    }
    // ovs-ofctl's own log lines begin with the time of day.
    out.lines()
        .filter(|line| {
            !line.contains("CUSTOM Statistics") && !line.contains("_packets_1=") && !line.contains("_q0_")
        })
        .map(|line| match line.split_once("Z|") {
            Some((date, rest)) if date.len() > 18 && date.contains('T') => {
                rest.split_once('|').map_or(rest, |(_, r)| r).to_owned()
            }
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// `dpif/show` tells `NAME OFPORT/DPPORT: (KIND)`; numbers in the datapath are the switch's own choice.
fn without_datapath_port(line: &str) -> String {
    match (line.split_once('/'), line.split_once(": (")) {
        (Some((left, number)), Some((_, kind)))
            if line.starts_with("    ") && !number.starts_with("none") =>
        {
            format!("{left}/*: ({kind}")
        }
        _ => line.to_owned(),
    }
}

/// As [`steady`], with lines sorted: for lists of flows.
pub fn sorted(text: &str) -> String {
    let steady = steady(text);
    let mut lines: Vec<&str> = steady.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// As [`steady`], with items sorted that begin with a line for which `is_head` and go on with deeper indented lines.
pub fn sorted_items(text: &str) -> String {
    let steady = steady(text);
    let mut items: Vec<(usize, String)> = vec![];
    for line in steady.lines() {
        let depth = line.len() - line.trim_start().len();
        match items.last_mut() {
            Some((head, item)) if depth > *head && *head > 0 => {
                item.push('\n');
                item.push_str(line);
            }
            _ => items.push((depth, line.to_owned())),
        }
    }
    items.sort();
    items.into_iter().map(|(_, item)| item).collect::<Vec<_>>().join("\n")
}

/// Lines of which only one side has some, in the manner of diff(1).
pub fn difference(theirs: &str, ours: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), ours.lines().collect());
    let mut out = String::new();
    for line in a.iter().filter(|l| !b.contains(l)) {
        out.push_str(&format!("  OVS:  {line}\n"));
    }
    for line in b.iter().filter(|l| !a.contains(l)) {
        out.push_str(&format!("  ours: {line}\n"));
    }
    if out.is_empty() {
        out.push_str("  the same lines in another order or number\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_volatile_goes() {
        let line = " cookie=0x5, duration=12.345s, table=1, n_packets=3, idle_age=7, priority=9 actions=drop";
        let same = " cookie=0x5, duration=*s, table=1, n_packets=3, idle_age=*, priority=9 actions=drop";
        assert_eq!(steady(line), same);
        assert_eq!(steady("OFPT_ERROR (xid=0x1f): x"), "OFPT_ERROR (xid=0x*): x");
        assert_eq!(steady("2026-01-01T00:00:00Z|00001|vconn|WARN|no"), "vconn|WARN|no");
    }

    #[test]
    fn items_are_sorted_whole() {
        assert_eq!(
            sorted_items("head\n b:\n   2\n a:\n   1\n"),
            sorted_items("head\n a:\n   1\n b:\n   2\n")
        );
        assert_ne!(
            sorted_items("head\n b:\n   2\n a:\n   1\n"),
            sorted_items("head\n a:\n   2\n b:\n   1\n")
        );
    }
}
