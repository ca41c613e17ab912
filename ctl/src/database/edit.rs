//! What the commands about bridges and ports change, as pure functions of the database's contents.

use anyhow::{anyhow, bail};
use ovsdb::client::RowRef;
use ovsdb::replica::{Replica, RowView};
use ovsdb::value::{Atom, Datum};
use serde_json::Value;

use super::{Edit, ROOT};
use crate::args::{AddBridge, AddPort, DeleteBridge, DeletePort};

/// The longest name: it becomes that of a network device, whose limit is IFNAMSIZ with its final zero (netdevice(7)).
const NAME_BYTES_MAX: usize = 15;

fn check_name(what: &str, name: &str) -> anyhow::Result<()> {
    if name.is_empty() || matches!(name, "." | "..") {
        bail!("{name:?} cannot be the name of a {what}");
    }
    if let Some(bad) = name.chars().find(|c| *c == '/' || *c == ':' || c.is_whitespace() || c.is_control()) {
        bail!("the name of a {what} cannot have {bad:?} in it, as {name:?} has");
    }
    if name.len() > NAME_BYTES_MAX {
        bail!("the name of a {what} has at most {NAME_BYTES_MAX} bytes; {name:?} has {}", name.len());
    }
    Ok(())
}

/// Whether there is a bridge of that name.
pub fn bridge_exists(replica: &Replica, name: &str) -> bool {
    replica.find("Bridge", "name", name).is_some()
}

/// The bridge of that name.
pub fn bridge<'a>(replica: &'a Replica, name: &str) -> anyhow::Result<RowView<'a>> {
    let found = replica.find("Bridge", "name", name);
    found.ok_or_else(|| anyhow!("there is no bridge {name}{}", super::show::bridges_hint(replica)))
}

/// The bridge that a port is on.
fn bridge_of<'a>(replica: &'a Replica, port: &RowView<'_>) -> Option<RowView<'a>> {
    let uuid = port.uuid();
    replica.rows("Bridge").find(|bridge| bridge.uuids("ports").any(|its| its == uuid))
}

/// The name of a bridge, for errors.
fn name_of<'a>(row: &RowView<'a>) -> &'a str {
    row.string("name").unwrap_or("?")
}

/// A set with one element, to insert or delete.
fn one(row: &RowRef) -> Value {
    Value::from(vec![Value::from("set"), Value::from(vec![Value::from(row)])])
}

fn text(value: &str) -> Value {
    Value::from(Datum::from(value))
}

/// Refuses a name that a port or an interface has already.
fn check_free(replica: &Replica, what: &str, name: &str) -> anyhow::Result<()> {
    for (table, kind) in [("Bridge", "bridge"), ("Port", "port"), ("Interface", "interface")] {
        let Some(row) = replica.find(table, "name", name) else { continue };
        let on = match table {
            "Port" => bridge_of(replica, &row).map(|bridge| format!(" on bridge {}", name_of(&bridge))),
            _ => None,
        };
        bail!("cannot create {what} {name}: there is a {kind} of that name{}", on.unwrap_or_default());
    }
    Ok(())
}

/// `add-br`.
pub fn add_bridge(replica: &Replica, args: &AddBridge) -> anyhow::Result<Edit> {
    let name = args.bridge.as_str();
    let mut edit = Edit::new(replica, &format!("tapctl: add-br {name}"));
    let mut columns = Vec::new();
    if let Some(mode) = &args.fail_mode {
        columns.push(("fail_mode", text(mode)));
    }
    if let Some(kind) = &args.datapath_type {
        columns.push(("datapath_type", text(kind)));
    }
    match replica.find("Bridge", "name", name) {
        Some(row) if args.may_exist => {
            if !columns.is_empty() {
                edit.transaction.update("Bridge", &row.uuid().into(), columns);
            }
        }
        Some(_) => bail!("bridge {name} exists already (--may-exist would accept that)"),
        None => {
            check_name("bridge", name)?;
            check_free(replica, "bridge", name)?;
            let t = &mut edit.transaction;
            let interface = t.insert("Interface", [("name", text(name)), ("type", text("internal"))]);
            let port = t.insert("Port", [("name", text(name)), ("interfaces", Value::from(&interface))]);
            columns.extend([("name", text(name)), ("ports", Value::from(&port))]);
            let bridge = t.insert("Bridge", columns);
            t.mutate(ROOT, &edit.root, "bridges", "insert", one(&bridge));
        }
    }
    edit.watched.push(name.to_owned());
    Ok(edit)
}

/// `del-br`. The bridge's ports and what else only it refers to go with it (RFC 7047 §3.2: they are no root records).
pub fn delete_bridge(replica: &Replica, args: &DeleteBridge) -> anyhow::Result<Edit> {
    let mut edit = Edit::new(replica, &format!("tapctl: del-br {}", args.bridge));
    if args.if_exists && !bridge_exists(replica, &args.bridge) {
        return Ok(edit);
    }
    let row = bridge(replica, &args.bridge)?;
    edit.transaction.mutate(ROOT, &edit.root, "bridges", "delete", one(&row.uuid().into()));
    Ok(edit)
}

/// The columns of the port and of its interface that the options ask for. Maps are left to [`set_options`].
fn columns_of(args: &AddPort) -> [Vec<(&'static str, Value)>; 2] {
    let mut port = Vec::new();
    if let Some(tag) = args.tag {
        port.push(("tag", Value::from(tag)));
    }
    if !args.trunks.is_empty() {
        let trunks = args.trunks.iter().map(|vlan| Atom::from(*vlan));
        port.push(("trunks", Value::from(Datum::set(trunks))));
    }
    if let Some(mode) = &args.vlan_mode {
        port.push(("vlan_mode", text(mode)));
    }
    let mut interface = Vec::new();
    if let Some(kind) = &args.kind {
        interface.push(("type", text(kind)));
    }
    if let Some(mtu) = args.mtu {
        interface.push(("mtu_request", Value::from(mtu)));
    }
    if let Some(number) = args.ofport {
        interface.push(("ofport_request", Value::from(number)));
    }
    [port, interface]
}

fn set_options(edit: &mut Edit, interface: &RowRef, args: &AddPort) {
    let netns = args.netns.iter().map(|name| ("netns", name.as_str()));
    let options = args.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in netns.chain(options) {
        edit.transaction.set_key("Interface", interface, "options", key, value);
    }
}

/// Refuses what the types alone show to be wrong, before anything is written.
fn check_port(args: &AddPort) -> anyhow::Result<()> {
    check_name("port", &args.port)?;
    let option = |name: &str| args.options.iter().any(|(key, _)| key == name);
    let kind = args.kind.as_deref().unwrap_or("system");
    if kind == "patch" && !option("peer") && !args.may_exist {
        bail!("a patch port needs to know its other end: --option peer=PORT");
    }
    if args.netns.is_some() && !matches!(kind, "internal" | "tap") && !args.may_exist {
        bail!("--netns is for ports that the switch makes: --type internal or tap, not {kind}");
    }
    if args.vlan_mode.as_deref() == Some("access") && !args.trunks.is_empty() {
        bail!("an access port has a --tag and no --trunks");
    }
    Ok(())
}

/// `add-port`.
pub fn add_port(replica: &Replica, args: &AddPort) -> anyhow::Result<Edit> {
    let name = args.port.as_str();
    let bridge = bridge(replica, &args.bridge)?;
    check_port(args)?;
    let mut edit = Edit::new(replica, &format!("tapctl: add-port {} {name}", args.bridge));
    let [mut port_columns, mut interface_columns] = columns_of(args);
    match replica.find("Port", "name", name) {
        Some(port) => {
            let interface = existing_interface(replica, &bridge, &port, args)?;
            if !port_columns.is_empty() {
                edit.transaction.update("Port", &port.uuid().into(), port_columns);
            }
            if !interface_columns.is_empty() {
                edit.transaction.update("Interface", &interface, interface_columns);
            }
            set_options(&mut edit, &interface, args);
        }
        None => {
            check_free(replica, "port", name)?;
            interface_columns.push(("name", text(name)));
            let interface = edit.transaction.insert("Interface", interface_columns);
            set_options(&mut edit, &interface, args);
            port_columns.extend([("name", text(name)), ("interfaces", Value::from(&interface))]);
            let port = edit.transaction.insert("Port", port_columns);
            edit.transaction.mutate("Bridge", &bridge.uuid().into(), "ports", "insert", one(&port));
        }
    }
    edit.watched.push(name.to_owned());
    Ok(edit)
}

/// The interface of a port that exists, if the command accepts that it does.
fn existing_interface(
    replica: &Replica,
    bridge: &RowView<'_>,
    port: &RowView<'_>,
    args: &AddPort,
) -> anyhow::Result<RowRef> {
    let name = args.port.as_str();
    let on = bridge_of(replica, port);
    match &on {
        Some(on) if on.uuid() != bridge.uuid() => {
            bail!("cannot create port {name}: bridge {} has a port of that name", name_of(on))
        }
        _ if !args.may_exist => {
            bail!("bridge {} has port {name} already (--may-exist would accept that)", args.bridge)
        }
        _ => {}
    }
    let mut interfaces = port.uuids("interfaces");
    match (interfaces.next(), interfaces.next()) {
        (Some(interface), None) => Ok(interface.into()),
        _ => bail!("port {name} is a bond of several interfaces"),
    }
}

/// `del-port`.
pub fn delete_port(replica: &Replica, args: &DeletePort) -> anyhow::Result<Edit> {
    let (wanted, name) = match args.names.as_slice() {
        [bridge, port] => (Some(bridge.as_str()), port.as_str()),
        [port] => (None, port.as_str()),
        _ => bail!("del-port takes a port, after a bridge maybe"),
    };
    let wanted = wanted.map(|name| bridge(replica, name)).transpose()?;
    let mut edit = Edit::new(replica, &format!("tapctl: del-port {name}"));
    let Some(port) = replica.find("Port", "name", name) else {
        if args.if_exists {
            return Ok(edit);
        }
        bail!("there is no port {name}");
    };
    let Some(on) = bridge_of(replica, &port) else { bail!("port {name} is on no bridge") };
    if let Some(wanted) = wanted.filter(|wanted| wanted.uuid() != on.uuid()) {
        bail!("bridge {} has no port {name}; bridge {} has", name_of(&wanted), name_of(&on));
    }
    if name_of(&on) == name {
        bail!("{name} is the bridge's own port: it goes with the bridge only (del-br {name})");
    }
    edit.transaction.mutate("Bridge", &on.uuid().into(), "ports", "delete", one(&port.uuid().into()));
    Ok(edit)
}
