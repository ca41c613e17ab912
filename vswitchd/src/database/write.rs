//! What the switch reports in the Open_vSwitch database: a transaction of what differs from what the rows say. Pure.

use super::datapaths;
use ovsdb::client::{RowRef, Transaction};
use ovsdb::replica::{Replica, RowView};
use ovsdb::uuid::Uuid;
use ovsdb::value::{Atom, Datum};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use switch::mac::MacAddr;

/// Counters by their column keys.
pub type Counters = BTreeMap<Cow<'static, str>, u64>;

/// State of an interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceStatus {
    /// Its OpenFlow number; -1 if it could not be had; unknown without.
    pub ofport: Option<i64>,
    /// What is wrong.
    pub error: Option<String>,
    /// Its address.
    pub mac_in_use: Option<MacAddr>,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Whether it is administratively up.
    pub admin_up: Option<bool>,
    /// Whether it has a carrier.
    pub link_up: Option<bool>,
    /// Speed in bit/s.
    pub link_speed: Option<u64>,
    /// Index of the device in the kernel.
    pub ifindex: Option<u32>,
    /// How often the carrier has changed.
    pub link_resets: Option<u64>,
    /// `driver_name` and the like.
    pub status: BTreeMap<String, String>,
    /// Counters by their column keys; none leaves the column as it is.
    pub statistics: Option<Counters>,
}

/// State of a connection to a controller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControllerStatus {
    /// Whether it is there.
    pub is_connected: bool,
    /// `master`, `slave` or `other`, the words of the column's schema.
    pub role: Option<&'static str>,
    /// `state`, `sec_since_connect` and the like.
    pub status: BTreeMap<String, String>,
}

/// Everything that is reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Interfaces by name.
    pub interfaces: BTreeMap<String, InterfaceStatus>,
    /// Errors of rows that are no interface of the switch.
    pub interface_errors: BTreeMap<Uuid, String>,
    /// Datapath ids of bridges by name.
    pub datapath_ids: BTreeMap<String, u64>,
    /// Controllers by bridge and target.
    pub controllers: BTreeMap<(String, String), ControllerStatus>,
    /// Columns of the root row that never change while the daemon runs.
    pub identity: Identity,
    /// The configuration that is in force.
    pub cur_cfg: i64,
    /// `Open_vSwitch:statistics`.
    pub host_statistics: BTreeMap<String, String>,
}

/// What the daemon is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// `ovs_version`.
    pub version: String,
    /// `system_type`.
    pub system_type: String,
    /// `system_version`.
    pub system_version: String,
    /// `iface_types`.
    pub iface_types: Vec<&'static str>,
    /// `datapath_types`.
    pub datapath_types: Vec<&'static str>,
}

/// `Datapath:capabilities`, as ovs-vswitchd.conf.db(5) names them; what is not named is not told.
const CAPABILITIES: [(&str, &str); 20] = [
    ("clone", "true"),
    ("ct_clear", "true"),
    ("ct_flush", "true"),
    ("ct_label", "true"),
    ("ct_mark", "true"),
    ("ct_orig_tuple", "true"),
    ("ct_orig_tuple6", "true"),
    ("ct_state", "true"),
    ("ct_state_nat", "true"),
    ("ct_timeout", "true"),
    ("ct_zero_snat", "true"),
    ("ct_zone", "true"),
    ("explicit_drop_action", "true"),
    ("masked_set_action", "true"),
    ("max_vlan_headers", "2"),
    ("nd_ext", "true"),
    ("recirc", "true"),
    ("tnl_push_pop", "true"),
    ("trunc", "true"),
    ("ufid", "true"),
];

fn optional(value: Option<impl Into<Atom>>) -> Datum {
    Datum::set(value.map(Into::into))
}

fn integer(value: u64) -> Atom {
    Atom::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn text_map(map: &BTreeMap<String, String>) -> Datum {
    Datum::string_map(map.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

/// Columns of one row that differ from what it says.
struct Differences<'a> {
    row: RowView<'a>,
    columns: Vec<(&'static str, Value)>,
}

impl<'a> Differences<'a> {
    fn of(row: RowView<'a>) -> Self {
        Differences { row, columns: Vec::new() }
    }

    fn column(&mut self, name: &'static str, wanted: &Datum) {
        if self.row.get(name).is_some_and(|now| now != wanted) {
            self.columns.push((name, wanted.into()));
        }
    }

    fn write(self, table: &str, transaction: &mut Transaction) {
        if !self.columns.is_empty() {
            transaction.update(table, &RowRef::Uuid(self.row.uuid()), self.columns);
        }
    }
}

fn interface(row: RowView<'_>, status: &InterfaceStatus, transaction: &mut Transaction) {
    let up = |up: bool| if up { "up" } else { "down" };
    let mut d = Differences::of(row);
    d.column("ofport", &optional(status.ofport.map(Atom::Integer)));
    d.column("error", &optional(status.error.clone().map(Atom::from)));
    d.column("mac_in_use", &optional(status.mac_in_use.map(|m| Atom::from(m.to_string()))));
    d.column("mtu", &optional(status.mtu.map(|m| integer(m.into()))));
    d.column("admin_state", &optional(status.admin_up.map(|s| Atom::from(up(s).to_owned()))));
    d.column("link_state", &optional(status.link_up.map(|s| Atom::from(up(s).to_owned()))));
    d.column("link_speed", &optional(status.link_speed.map(integer)));
    d.column("duplex", &optional(status.link_speed.map(|_| Atom::from("full".to_owned()))));
    d.column("ifindex", &optional(status.ifindex.map(|i| integer(i.into()))));
    d.column("link_resets", &optional(status.link_resets.map(integer)));
    d.column("status", &text_map(&status.status));
    if let Some(statistics) = &status.statistics {
        let pairs = statistics.iter().map(|(k, v)| (Atom::from(k.clone().into_owned()), integer(*v)));
        d.column("statistics", &Datum::Map(pairs.collect()));
    }
    d.write("Interface", transaction);
}

fn controller(row: RowView<'_>, status: &ControllerStatus, transaction: &mut Transaction) {
    let mut d = Differences::of(row);
    d.column("is_connected", &Datum::scalar(Atom::Boolean(status.is_connected)));
    d.column("role", &optional(status.role.map(|r| Atom::from(r.to_owned()))));
    d.column("status", &text_map(&status.status));
    d.write("Controller", transaction);
}

/// The transaction that makes the rows say what `status` says; empty if they do.
pub fn report(replica: &Replica, status: &Status) -> Transaction {
    let mut transaction = Transaction::new();
    for row in replica.rows("Interface") {
        let name = row.string("name").unwrap_or_default();
        let failed = status.interface_errors.get(&row.uuid()).map(|error| InterfaceStatus {
            ofport: Some(-1),
            error: Some(error.clone()),
            ..InterfaceStatus::default()
        });
        if let Some(status) = failed.as_ref().or_else(|| status.interfaces.get(name)) {
            interface(row, status, &mut transaction);
        }
    }
    for row in replica.rows("Bridge") {
        let name = row.string("name").unwrap_or_default();
        for row in row.uuids("controller").filter_map(|id| replica.get("Controller", id)) {
            let key = (name.to_owned(), row.string("target").unwrap_or_default().to_owned());
            // A row that names nothing to connect to, be it since a moment ago, is not connected to anything.
            let none = ControllerStatus::default();
            controller(row, status.controllers.get(&key).unwrap_or(&none), &mut transaction);
        }
        if let Some(id) = status.datapath_ids.get(name) {
            let mut d = Differences::of(row);
            d.column("datapath_id", &optional(Some(Atom::from(format!("{id:016x}")))));
            d.column("datapath_version", &Datum::scalar(Atom::from("<built-in>".to_owned())));
            d.write("Bridge", &mut transaction);
        }
    }
    if let Some(row) = replica.singleton("Open_vSwitch") {
        for row in datapaths(replica, &row) {
            let mut d = Differences::of(row);
            d.column("capabilities", &Datum::string_map(CAPABILITIES));
            d.write("Datapath", &mut transaction);
        }
        root(row, status, &mut transaction);
    }
    transaction
}

fn root(row: RowView<'_>, status: &Status, transaction: &mut Transaction) {
    let texts = |list: &[&str]| Datum::set(list.iter().map(|t| Atom::from((*t).to_owned())));
    let identity = &status.identity;
    let mut d = Differences::of(row);
    d.column("cur_cfg", &Datum::scalar(Atom::Integer(status.cur_cfg)));
    d.column("ovs_version", &optional(Some(Atom::from(identity.version.clone()))));
    d.column("iface_types", &texts(&identity.iface_types));
    d.column("datapath_types", &texts(&identity.datapath_types));
    d.column("statistics", &text_map(&status.host_statistics));
    d.column("dpdk_initialized", &Datum::scalar(Atom::Boolean(false)));
    // ovs-ctl sets these from /etc/os-release; they are only filled in where nobody has.
    for (column, value) in
        [("system_type", &identity.system_type), ("system_version", &identity.system_version)]
    {
        if row.elements(column).is_empty() {
            d.column(column, &optional(Some(Atom::from(value.clone()))));
        }
    }
    d.write("Open_vSwitch", transaction);
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
