//! The daemon's text answers, read back. The forms are those of ovs-appctl(8); what has another form is left as text.

use serde_json::{Map, Value, json};

/// A line of `fdb/show`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FdbEntry {
    /// Number of the port, or LOCAL.
    pub port: String,
    /// VLAN, 0 without.
    pub vlan: u16,
    /// The address.
    pub mac: String,
    /// Seconds since it was last seen; `None` for entries that stay.
    pub age_s: Option<u64>,
}

/// Reads `fdb/show`: a line of titles, then port, VLAN, address and age. `None` if the form is another.
pub fn fdb(text: &str) -> Option<Vec<FdbEntry>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let titles: Vec<&str> = lines.next()?.split_whitespace().collect();
    if titles != ["port", "VLAN", "MAC", "Age"] {
        return None;
    }
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [port, vlan, mac, age] = words.as_slice() else { return None };
            let (port, mac) = ((*port).to_owned(), (*mac).to_owned());
            Some(FdbEntry { port, vlan: vlan.parse().ok()?, mac, age_s: age.parse().ok() })
        })
        .collect()
}

/// A line of `dpctl/dump-flows`: match, statistics, actions; other lines are text.
pub fn cached_flow(line: &str) -> Value {
    let parsed = || {
        let (matching, rest) = line.split_once(", packets:")?;
        let (statistics, actions) = rest.split_once(", actions:")?;
        let mut object = Map::new();
        object.insert("match".into(), Value::from(matching.trim()));
        for (at, part) in statistics.split(", ").enumerate() {
            let (name, value) = if at == 0 { ("packets", part) } else { part.split_once(':')? };
            let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
            object.insert(name.to_owned(), value);
        }
        object.insert("actions".into(), Value::from(actions));
        Some(Value::Object(object))
    };
    parsed().unwrap_or_else(|| json!({ "text": line }))
}

/// The lines of a trace that say what it comes to, and their names in JSON.
pub const TRACE_LABELS: [(&str, &str); 4] = [
    ("Flow:", "flow"),
    ("Final flow:", "final_flow"),
    ("Megaflow:", "megaflow"),
    ("Datapath actions:", "datapath_actions"),
];

/// A trace: its result line by line, and the whole text. After a recirculation the last lines count.
pub fn trace(text: &str) -> Value {
    let mut object = Map::new();
    for line in text.lines() {
        for (label, name) in TRACE_LABELS {
            if let Some(value) = line.strip_prefix(label) {
                object.insert(name.to_owned(), Value::from(value.trim()));
            }
        }
    }
    object.insert("text".into(), Value::from(text));
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    // What Open vSwitch 3.1 prints.
    const FDB: &str = " port  VLAN  MAC                Age\n\
                       LOCAL     0  3a:4f:07:2b:c6:45   12\n    2    10  52:54:00:00:00:01  static\n";

    #[test]
    fn fdb_lines() {
        let entries = fdb(FDB).unwrap();
        let first =
            FdbEntry { port: "LOCAL".into(), vlan: 0, mac: "3a:4f:07:2b:c6:45".into(), age_s: Some(12) };
        assert_eq!(entries.first(), Some(&first));
        assert_eq!(entries.get(1).map(|e| (e.vlan, e.age_s)), Some((10, None)));
        assert_eq!(fdb(" port  VLAN  MAC                Age\n"), Some(vec![]));
        assert_eq!(fdb("something else"), None);
        assert_eq!(fdb(&format!("{FDB}one two")), None);
    }

    #[test]
    fn cached_flow_lines() {
        let line = "recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no), packets:5, \
                    bytes:490, used:0.912s, flags:SFP., actions:3,push_vlan(vid=1,pcp=0),4";
        let json = cached_flow(line);
        assert_eq!(json["packets"], 5);
        assert_eq!(json["used"], "0.912s");
        assert_eq!(json["actions"], "3,push_vlan(vid=1,pcp=0),4");
        assert_eq!(cached_flow("profile 3: in_port")["text"], "profile 3: in_port");
    }

    #[test]
    fn traces_give_their_last_result() {
        let text = "Flow: in_port=1\n\nbridge(\"br0\")\n 0. actions=recirc\nMegaflow: a\nDatapath actions: recirc(1)\n\
                    Flow: in_port=1,recirc_id=1\nFinal flow: unchanged\nMegaflow: b\nDatapath actions: 3\n";
        let json = trace(text);
        assert_eq!((json["megaflow"].as_str(), json["datapath_actions"].as_str()), (Some("b"), Some("3")));
        assert_eq!(json["final_flow"], "unchanged");
    }
}
