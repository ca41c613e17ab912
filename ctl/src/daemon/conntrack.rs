//! `tapctl conntrack`: the dpctl/ commands of ovs-appctl(8) about connections and fragments, under names of our own.

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::args::{ConntrackCommand, Flush, Limits, SetFragments, SetLimits, Switched};
use crate::console::{Answer, Look, Paint};
use crate::grid::{Cell, Grid};

/// What asks the daemon: a command and its arguments.
type Ask<'a> = &'a dyn Fn(&str, &[&str]) -> anyhow::Result<String>;

/// Runs one of the commands.
///
/// # Errors
/// The daemon cannot be reached, refuses, or answers in a form that is not known.
pub fn run(command: &ConntrackCommand, ask: Ask<'_>, paint: Paint) -> anyhow::Result<Answer> {
    match command {
        ConntrackCommand::Show(args) => {
            let zone = args.zone.map(|zone| format!("zone={zone}"));
            let words: Vec<&str> = std::iter::once("-s").chain(zone.as_deref()).collect();
            Ok(connections(&ask("dpctl/dump-conntrack", &words)?, paint))
        }
        ConntrackCommand::Flush(args) => flush(args, ask),
        ConntrackCommand::Stats(args) => {
            let zone = args.zone.map(|zone| format!("zone={zone}"));
            let words: Vec<&str> = std::iter::once("-m").chain(zone.as_deref()).collect();
            let text = ask("dpctl/ct-stats-show", &words)?;
            Ok(Answer { json: counts(&text), text })
        }
        ConntrackCommand::Limits(args) => limits(args, ask, paint),
        ConntrackCommand::SetLimits(args) => set_limits(args, ask),
        ConntrackCommand::DelLimits(args) => {
            ask("dpctl/ct-del-limits", &[&zone_list(&args.zones)])?;
            Ok(Answer::done(json!({ "deleted": args.zones })))
        }
        ConntrackCommand::Maxconns(args) => match args.max {
            Some(max) => {
                ask("dpctl/ct-set-maxconns", &[&max.to_string()])?;
                Ok(Answer::done(json!({ "maxconns": max })))
            }
            None => {
                let number = |name| parse_number(&ask(name, &[])?, name);
                let (max, now) = (number("dpctl/ct-get-maxconns")?, number("dpctl/ct-get-nconns")?);
                let text = format!("{now} connections of at most {max}\n");
                Ok(Answer { text, json: json!({ "maxconns": max, "connections": now }) })
            }
        },
        ConntrackCommand::SeqCheck(args) => match args.state {
            Some(state) => {
                let verb = if state == Switched::On { "enable" } else { "disable" };
                ask(&format!("dpctl/ct-{verb}-tcp-seq-chk"), &[])?;
                Ok(Answer::done(json!({ "tcp_seq_check": state == Switched::On })))
            }
            None => {
                let text = ask("dpctl/ct-get-tcp-seq-chk", &[])?;
                let on = text.trim_end().ends_with("enabled");
                Ok(Answer { text, json: json!({ "tcp_seq_check": on }) })
            }
        },
        ConntrackCommand::Buckets => Ok(Answer::lines(ask("dpctl/ct-bkts", &[])?)),
        ConntrackCommand::Fragments => {
            let text = ask("dpctl/ipf-get-status", &["-m"])?;
            let text: String = text.lines().map(|line| format!("{}\n", line.trim_start())).collect();
            Ok(Answer { json: fragments(&text), text })
        }
        ConntrackCommand::SetFragments(args) => set_fragments(args, ask),
    }
}

fn parse_number(text: &str, what: &str) -> anyhow::Result<u64> {
    text.trim().parse().with_context(|| format!("the daemon's answer to {what} is no number"))
}

fn flush(args: &Flush, ask: Ask<'_>) -> anyhow::Result<Answer> {
    let zone = args.zone.map(|zone| format!("zone={zone}"));
    let mut words: Vec<&str> = zone.iter().map(String::as_str).collect();
    // The original tuple comes first, be it an empty one.
    if args.tuple.is_some() || args.reply.is_some() {
        words.push(args.tuple.as_deref().unwrap_or_default());
    }
    words.extend(args.reply.as_deref());
    ask("dpctl/flush-conntrack", &words)?;
    Ok(Answer::done(json!({ "flushed": { "zone": args.zone, "tuple": args.tuple, "reply": args.reply } })))
}

fn zone_list(zones: &[u16]) -> String {
    format!("zone={}", zones.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
}

/// `default limit=N`, then `zone=N,limit=N,count=N` on each line.
fn limits(args: &Limits, ask: Ask<'_>, paint: Paint) -> anyhow::Result<Answer> {
    let list = zone_list(&args.zones);
    let words: &[&str] = if args.zones.is_empty() { &[] } else { &[&list] };
    let text = ask("dpctl/ct-get-limits", words)?;
    let mut lines = text.lines();
    let default = lines.next().and_then(|line| line.strip_prefix("default limit="));
    let default = parse_number(default.unwrap_or_default(), "dpctl/ct-get-limits")?;
    let shown = |limit: u64| if limit == 0 { "any number".to_owned() } else { limit.to_string() };
    let mut grid = Grid::titled(&[">ZONE", ">CONNECTIONS", ">LIMIT"]);
    let mut zones = Vec::new();
    for line in lines {
        let number = |key: &str| {
            let field = line.split(',').find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
            parse_number(field.unwrap_or_default(), "dpctl/ct-get-limits")
        };
        let (zone, limit, count) = (number("zone")?, number("limit")?, number("count")?);
        grid.row([Cell::number(zone), Cell::number(count), Cell::number(shown(limit))]);
        zones.push(json!({ "zone": zone, "limit": limit, "connections": count }));
    }
    let others = if default == 0 { "any number of".to_owned() } else { format!("at most {default}") };
    let mut text = format!("Zones without a limit of their own may have {others} connections.\n");
    if !zones.is_empty() {
        text += &grid.render(paint);
    }
    Ok(Answer { text, json: json!({ "default": default, "zones": zones }) })
}

fn set_limits(args: &SetLimits, ask: Ask<'_>) -> anyhow::Result<Answer> {
    let default = args.default.map(|limit| format!("default={limit}"));
    let zones = args.limits.iter().map(|l| format!("zone={},limit={}", l.zone, l.limit));
    let words: Vec<String> = default.into_iter().chain(zones).collect();
    ask("dpctl/ct-set-limits", &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let zones: Map<String, Value> =
        args.limits.iter().map(|l| (l.zone.to_string(), l.limit.into())).collect();
    Ok(Answer::done(json!({ "default": args.default, "zones": zones })))
}

fn set_fragments(args: &SetFragments, ask: Ask<'_>) -> anyhow::Result<Answer> {
    if let Some(max) = args.max {
        ask("dpctl/ipf-set-max-nfrags", &[&max.to_string()])?;
    }
    for (version, size) in [("v4", args.min_v4), ("v6", args.min_v6)] {
        if let Some(size) = size {
            ask("dpctl/ipf-set-min-frag", &[version, &size.to_string()])?;
        }
    }
    for (version, state) in [("v4", args.v4), ("v6", args.v6)] {
        match state {
            None => {}
            Some(Switched::On) => drop(ask("dpctl/ipf-set-enabled", &[version])?),
            Some(Switched::Off) => drop(ask("dpctl/ipf-set-disabled", &[version])?),
        }
    }
    Ok(Answer::done(json!({ "set": true })))
}

// --- what the daemon prints, read back ---

fn connections(text: &str, paint: Paint) -> Answer {
    let parsed: Option<Vec<Map<String, Value>>> = text.lines().map(connection).collect();
    let Some(list) = parsed else { return Answer::lines(text.to_owned()) };
    if list.is_empty() {
        return Answer { text: "No connections are tracked.\n".to_owned(), json: json!([]) };
    }
    let mut grid = Grid::titled(&["PROTO", "ORIGINAL", "REPLY", ">ZONE", ">SECONDS", "STATE", "MARK"]);
    for connection in &list {
        let word = |key: &str| match connection.get(key) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let way = |key: &str| connection.get(key).map(direction).unwrap_or_default();
        let mark = connection.get("mark").and_then(Value::as_u64).map(|mark| format!("{mark:#x}"));
        grid.row([
            word("protocol").into(),
            Cell::from(way("orig")).look(Look::Bold),
            way("reply").into(),
            Cell::number(word("zone")),
            Cell::number(word("timeout")),
            word("state").into(),
            mark.unwrap_or_default().into(),
        ]);
    }
    let json = list.into_iter().map(Value::Object).collect();
    Answer { text: grid.render(paint), json }
}

/// One direction for people: `10.0.0.1:7 > 10.0.0.2:80`, with type and identifier for ICMP.
fn direction(tuple: &Value) -> String {
    let text = |key: &str| tuple.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| tuple.get(key).and_then(Value::as_u64);
    let end = |address: &str, port: Option<u64>| match port {
        None | Some(0) => address.to_owned(),
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
    };
    let ends = format!("{} > {}", end(text("src"), number("sport")), end(text("dst"), number("dport")));
    match (number("type"), number("id")) {
        (Some(kind), Some(id)) => format!("{ends} type {kind} id {id}"),
        _ => ends,
    }
}

/// A line of `dpctl/dump-conntrack`: the protocol, then fields, some with fields of their own in parentheses.
fn connection(line: &str) -> Option<Map<String, Value>> {
    let (protocol, rest) = line.split_once(',')?;
    let mut object = fields(rest)?;
    object.insert("protocol".to_owned(), Value::from(protocol));
    object.entry("zone").or_insert(Value::from(0));
    if let Some(Value::Object(states)) = object.remove("protoinfo") {
        object.extend(states);
    }
    Some(object)
}

fn fields(text: &str) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('(') {
            Some(inner) => {
                let (inner, after) = inner.split_once(')')?;
                (Value::Object(fields(inner)?), after)
            }
            None => {
                let (word, after) = value.split_at(value.find(',').unwrap_or(value.len()));
                (word.parse::<u64>().map_or_else(|_| Value::from(word), Value::from), after)
            }
        };
        object.insert(key.to_owned(), value);
        rest = match after.strip_prefix(',') {
            Some(rest) => rest,
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(object)
}

/// The counts of `dpctl/ct-stats-show -m`: `Total: 3`, `TCP: 1`, `[SYN_SENT]=1`, …
fn counts(text: &str) -> Value {
    let mut object = Map::new();
    let mut states = Map::new();
    for line in text.lines().map(str::trim) {
        let state = line.strip_prefix('[').and_then(|rest| rest.split_once("]="));
        match state.or_else(|| line.split_once(": ")) {
            Some((name, count)) => {
                let Ok(count) = count.parse::<u64>() else { continue };
                let list = if state.is_some() { &mut states } else { &mut object };
                list.insert(name.to_lowercase(), count.into());
            }
            None => continue,
        }
    }
    object.insert("tcp_states".to_owned(), Value::Object(states));
    Value::Object(object)
}

/// `dpctl/ipf-get-status -m`: settings and counters, then the packets that wait for fragments.
fn fragments(text: &str) -> Value {
    let mut object = Map::new();
    let mut waiting = Vec::new();
    for line in text.lines() {
        if let Some(inner) = line.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            waiting.extend(fields(inner).map(Value::Object));
        } else if let Some((name, value)) = line.split_once(": ")
            && let Ok(value) = value.parse::<u64>()
        {
            object.insert(name.replace(' ', "_"), value.into());
        }
    }
    object.insert("waiting".to_owned(), Value::from(waiting));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Open vSwitch 3.1 prints.
    const DUMP: &str = "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.1.1.1,sport=80,dport=1001),zone=5,timeout=86399,mark=42,labels=0x1234,protoinfo=(state=ESTABLISHED),helper=ftp\n\
        icmpv6,orig=(src=fd00::1,dst=fd00::2,id=7,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=7,type=129,code=0),timeout=29\n\
        47,orig=(src=10.0.0.1,dst=10.0.0.3,sport=0,dport=0),reply=(src=10.0.0.3,dst=10.0.0.1,sport=0,dport=0),timeout=60\n\
        udp,orig=(src=fd00::1,dst=fd00::2,sport=7,dport=8),reply=(src=fd00::2,dst=fd00::1,sport=8,dport=7),timeout=60\n";

    #[test]
    fn connections_in_columns_and_json() {
        let answer = connections(DUMP, Paint::NONE);
        let lines: Vec<Vec<&str>> = answer.text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["PROTO", "ORIGINAL", "REPLY", "ZONE", "SECONDS", "STATE", "MARK"]);
        assert_eq!(
            lines[1].join(" "),
            "tcp 10.0.0.1:1000 > 10.0.0.2:80 10.0.0.2:80 > 10.1.1.1:1001 5 86399 ESTABLISHED 0x2a"
        );
        assert_eq!(
            lines[2].join(" "),
            "icmpv6 fd00::1 > fd00::2 type 128 id 7 fd00::2 > fd00::1 type 129 id 7 0 29"
        );
        assert_eq!(lines[3].join(" "), "47 10.0.0.1 > 10.0.0.3 10.0.0.3 > 10.0.0.1 0 60");
        assert!(lines[4].join(" ").starts_with("udp [fd00::1]:7 > [fd00::2]:8 "), "{:?}", lines[4]);
        let first = &answer.json[0];
        assert_eq!(first["orig"]["dport"], 80);
        assert_eq!((first["state"].as_str(), first["helper"].as_str()), (Some("ESTABLISHED"), Some("ftp")));
        assert_eq!((first["zone"].as_u64(), first["labels"].as_str()), (Some(5), Some("0x1234")));
        assert_eq!(answer.json[1]["zone"], 0);
        assert_eq!(connections("", Paint::NONE).text, "No connections are tracked.\n");
        // Another form is passed on.
        assert_eq!(connections("what is this\n", Paint::NONE).text, "what is this\n");
        assert_eq!(connections("tcp,orig=(src=1\n", Paint::NONE).text, "tcp,orig=(src=1\n");
    }

    #[test]
    fn counts_by_protocol_and_state() {
        let text = "Connections Stats:\n    Total: 3\n  TCP: 2\n    Conn per TCP states:\n\t  [SYN_SENT]=1\n\t  [TIME_WAIT]=1\n  UDP: 1\n";
        let states = json!({ "syn_sent": 1, "time_wait": 1 });
        assert_eq!(counts(text), json!({ "total": 3, "tcp": 2, "udp": 1, "tcp_states": states }));
    }

    #[test]
    fn fragments_that_wait() {
        let text = "v4 enabled: 1\nmax num frags (v4/v6): 1000\nv4 frags too small: 2\n\nFragment Lists:\n\n\
            (src=10.0.0.1,dst=10.0.0.2,recirc_id=0,ip_id=4660,dl_type=0x800,zone=5,nw_proto=17,num_fragments=2,state=first/last frag)\n";
        let json = fragments(text);
        assert_eq!((json["v4_enabled"].as_u64(), json["v4_frags_too_small"].as_u64()), (Some(1), Some(2)));
        assert_eq!(json["waiting"][0]["state"], "first/last frag");
    }
}
