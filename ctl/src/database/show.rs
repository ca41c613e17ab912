//! The configuration as people want to see it.

use ovsdb::replica::{Replica, RowView};
use serde_json::{Map, Value, json};

use super::column::plain_json;
use crate::console::{Answer, Look, Paint};
use crate::grid::{Cell, Grid};

/// The number of the bridge's own port (OpenFlow 1.0's OFPP_LOCAL, as the database has it).
const LOCAL: i64 = 65534;

/// The names of the bridges, in order.
fn bridge_names(replica: &Replica) -> Vec<&str> {
    let mut names: Vec<&str> = replica.rows("Bridge").filter_map(|row| row.string("name")).collect();
    names.sort_unstable();
    names
}

/// What to say after "there is no bridge x".
pub fn bridges_hint(replica: &Replica) -> String {
    match bridge_names(replica).as_slice() {
        [] => "; there are none (add-br makes one)".to_owned(),
        names => format!("; there are {}", names.join(", ")),
    }
}

/// `list-br`.
pub fn list_bridges(replica: &Replica) -> Answer {
    Answer::lines(bridge_names(replica).iter().map(|name| format!("{name}\n")).collect())
}

/// `list-ports`.
pub fn list_ports(replica: &Replica, bridge: &str) -> anyhow::Result<Answer> {
    let row = super::edit::bridge(replica, bridge)?;
    let ports = row.uuids("ports").filter_map(|uuid| replica.get("Port", uuid)?.string("name"));
    let mut names: Vec<&str> = ports.filter(|name| *name != bridge).collect();
    names.sort_unstable();
    Ok(Answer::lines(names.iter().map(|name| format!("{name}\n")).collect()))
}

/// `show`.
pub fn show(replica: &Replica, paint: Paint) -> Answer {
    let mut text = String::new();
    let mut bridges = Vec::new();
    for name in bridge_names(replica) {
        let Some(bridge) = replica.find("Bridge", "name", name) else { continue };
        let ports = sorted_ports(replica, &bridge);
        if !text.is_empty() {
            text.push('\n');
        }
        text += &bridge_line(&bridge, paint);
        text += &port_lines(replica, &ports).render(paint);
        let mut object =
            chosen(&bridge, &["name", "datapath_type", "datapath_id", "fail_mode", "controller"]);
        object.insert("ports".into(), ports.iter().map(|port| port_json(replica, port)).collect());
        bridges.push(Value::Object(object));
    }
    if text.is_empty() {
        text = "There are no bridges; `tapctl add-br br0` makes one.\n".to_owned();
    }
    let root = replica.singleton(super::ROOT);
    let version = root.and_then(|root| root.string("ovs_version"));
    Answer { text, json: json!({ "ovs_version": version, "bridges": bridges }) }
}

/// The bridge's own port first, then by number, those without one last.
fn sorted_ports<'a>(replica: &'a Replica, bridge: &RowView<'a>) -> Vec<RowView<'a>> {
    let mut ports: Vec<RowView<'a>> =
        bridge.uuids("ports").filter_map(|uuid| replica.get("Port", uuid)).collect();
    let key = |port: &RowView<'a>| {
        let name = port.string("name").unwrap_or_default();
        let numbers = interfaces(replica, port).filter_map(|row| row.integer("ofport"));
        let number = numbers.filter(|number| *number > 0).min().unwrap_or(i64::MAX);
        (bridge.string("name") != Some(name), number, name.to_owned())
    };
    ports.sort_by_key(key);
    ports
}

fn interfaces<'a>(replica: &'a Replica, port: &RowView<'a>) -> impl Iterator<Item = RowView<'a>> {
    port.uuids("interfaces").filter_map(|uuid| replica.get("Interface", uuid))
}

fn bridge_line(bridge: &RowView<'_>, paint: Paint) -> String {
    let mut notes = Vec::new();
    if let Some(mode) = bridge.string("fail_mode") {
        notes.push(format!("fail mode {mode}"));
    }
    if let Some(kind) = bridge.string("datapath_type").filter(|kind| !kind.is_empty()) {
        notes.push(format!("datapath {kind}"));
    }
    if let Some(id) = bridge.string("datapath_id") {
        notes.push(format!("id {id}"));
    }
    let name = paint.text(Look::Bold, bridge.string("name").unwrap_or("?"));
    if notes.is_empty() {
        return format!("{name}\n");
    }
    format!("{name}  {}\n", paint.text(Look::Dim, &notes.join(", ")))
}

fn port_lines(replica: &Replica, ports: &[RowView<'_>]) -> Grid {
    let mut grid = Grid::indented(0);
    for (at, port) in ports.iter().enumerate() {
        let last = at + 1 == ports.len();
        let (branch, stem) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let name = port.string("name").unwrap_or("?");
        let parts: Vec<RowView<'_>> = interfaces(replica, port).collect();
        if let [interface] = parts.as_slice() {
            grid.row(interface_row(&format!("{branch}{name}"), interface, &vlan_note(port)));
            continue;
        }
        grid.row([
            Cell::from(format!("{branch}{name}")),
            "".into(),
            "bond".into(),
            "".into(),
            vlan_note(port).into(),
        ]);
        for interface in &parts {
            let label = format!("{stem}· {}", interface.string("name").unwrap_or("?"));
            grid.row(interface_row(&label, interface, ""));
        }
    }
    grid
}

fn vlan_note(port: &RowView<'_>) -> String {
    let mut notes = Vec::new();
    if let Some(tag) = port.integer("tag") {
        notes.push(format!("tag {tag}"));
    }
    let trunks: Vec<String> = port.integers("trunks").map(|vlan| vlan.to_string()).collect();
    if !trunks.is_empty() {
        notes.push(format!("trunks {}", trunks.join(",")));
    }
    notes.extend(port.string("vlan_mode").map(str::to_owned));
    notes.join(" ")
}

/// Label, number, type, link, VLANs and what else there is to say about an interface.
fn interface_row(label: &str, row: &RowView<'_>, vlans: &str) -> [Cell; 6] {
    let number = match row.integer("ofport") {
        Some(LOCAL) => "LOCAL".to_owned(),
        Some(number) if number > 0 => number.to_string(),
        _ => "-".to_owned(),
    };
    let kind = row.string("type").filter(|kind| !kind.is_empty()).unwrap_or("system");
    let link = match (row.string("admin_state"), row.string("link_state")) {
        (Some("down"), _) => Cell::from("down").look(Look::Yellow),
        (_, Some("down")) => Cell::from("no link").look(Look::Yellow),
        (_, Some("up")) => Cell::from("up").look(Look::Green),
        _ => Cell::from("-").look(Look::Dim),
    };
    let options: Vec<String> = match row.map("options") {
        Some(map) => map.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        None => Vec::new(),
    };
    let last = match row.string("error") {
        Some(error) => Cell::from(format!("error: {error}")).look(Look::Red),
        None => Cell::from(options.join(" ")).look(Look::Dim),
    };
    [label.into(), Cell::number(number).look(Look::Cyan), kind.into(), link, vlans.into(), last]
}

/// Some columns of a record as JSON.
fn chosen(row: &RowView<'_>, names: &[&str]) -> Map<String, Value> {
    let columns = row.columns().filter(|(column, _)| names.contains(&column.name.as_str()));
    columns.map(|(column, datum)| (column.name.clone(), plain_json(&column.kind, datum))).collect()
}

fn port_json(replica: &Replica, port: &RowView<'_>) -> Value {
    let mut object = chosen(port, &["name", "tag", "trunks", "vlan_mode"]);
    let names = [
        "name",
        "type",
        "ofport",
        "admin_state",
        "link_state",
        "mac_in_use",
        "mtu",
        "error",
        "options",
        "statistics",
    ];
    let parts = interfaces(replica, port).map(|row| Value::Object(chosen(&row, &names))).collect();
    object.insert("interfaces".into(), parts);
    Value::Object(object)
}
