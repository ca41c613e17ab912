//! From rows of the Open_vSwitch database to the configuration that is wanted. Pure.
//!
//! What a row says wrongly concerns that row alone: an interface that cannot be is left out and gets an `error`, a setting
//! that cannot be takes its default and is logged.

use super::datapaths;
use crate::args::Dummies;
use datapath::cache::CACHE_IDLE_MAX;
use ovsdb::replica::{Replica, RowView};
use ovsdb::uuid::Uuid;
use ovsdb::value::Atom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use switch::afxdp::AfXdpOptions;
use switch::balance::AutoBalance;
use switch::bridge::FailMode;
use switch::config::{
    BridgeConfig, CacheConfig, Config, ControllerConfig, FlowTableConfig, InterfaceConfig, InterfaceKind,
    PortConfig, RxAffinity, RxQueues, WorkerCpus, WorkersConfig, parse_affinity,
};
use switch::mac::{self, MacAddr};
use switch::tunnel::socket::{Claims, is_reserved};
use switch::tunnel::{TunnelConfig, TunnelKind};
use switch::vlan::{PriorityTags, VlanConfig, VlanMode};

/// The least MTU that can be asked for: what every link of IPv4 carries (RFC 791).
const MTU_MIN: u16 = 68;

/// The wanted configuration, and what was wrong with the rest.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// The configuration.
    pub config: Config,
    /// `next_cfg` of the root row: confirmed once all this is true.
    pub next_cfg: i64,
    /// Interfaces that cannot be, with the text for their `error` column.
    pub interface_errors: BTreeMap<Uuid, String>,
    /// Whether `Open_vSwitch:statistics` is to tell of the host.
    pub host_statistics: bool,
    /// Other problems, for the log.
    pub warnings: Vec<String>,
}

/// What the daemon allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// `--enable-dummy`.
    pub dummies: Dummies,
    /// `--disable-system`.
    pub disable_system: bool,
}

/// Reads the whole configuration.
pub fn wanted(replica: &Replica, allowed: Allowed) -> Wanted {
    let mut out = Wanted::default();
    let Some(root) = replica.singleton("Open_vSwitch") else { return out };
    out.next_cfg = root.integer("next_cfg").unwrap_or(0);
    out.host_statistics = flag(&root, "enable-statistics");
    out.config.cache = cache(&root, &mut out.warnings);
    out.config.workers = workers(&root, &mut out.warnings);
    out.config.vxlan_kernel_device = flag(&root, "vxlan-kernel-device");
    out.config.zone_timeouts = zone_timeouts(replica, &root);
    let mut taken = Taken::default();
    for row in root.uuids("bridges").filter_map(|id| replica.get("Bridge", id)) {
        let Some(name) = row.string("name") else { continue };
        if !is_device_name(name) {
            out.warnings.push(format!("ignoring bridge with bad name '{name}'"));
            continue;
        }
        let bridge = bridge(replica, &row, name, allowed, &mut taken, &mut out);
        out.config.bridges.insert(name.to_owned(), bridge);
    }
    out
}

/// A number of a bridge's `other_config`; what is none is told.
fn number<T: std::str::FromStr>(
    row: &RowView<'_>,
    key: &str,
    bridge: &str,
    warnings: &mut Vec<String>,
) -> Option<T> {
    let text = row.map_get("other_config", key)?;
    let number = text.parse().ok();
    if number.is_none() {
        warnings.push(format!(
            "bridge {bridge}: {key} '{text}' is no number that can be used: the default holds"
        ));
    }
    number
}

fn flag(row: &RowView<'_>, key: &str) -> bool {
    row.map_get("other_config", key) == Some("true")
}

fn cache(root: &RowView<'_>, warnings: &mut Vec<String>) -> CacheConfig {
    let mut cache = CacheConfig::default();
    if let Some(text) = root.map_get("other_config", "flow-limit") {
        match text.parse() {
            Ok(limit) => cache.flow_limit = limit,
            Err(_) => warnings.push(format!("other_config:flow-limit '{text}' is not a number")),
        }
    }
    if let Some(text) = root.map_get("other_config", "max-idle") {
        match text.parse() {
            Ok(ms @ 500..) => {
                cache.max_idle = Duration::from_millis(ms).min(CACHE_IDLE_MAX);
                if cache.max_idle < Duration::from_millis(ms) {
                    let most = CACHE_IDLE_MAX.as_millis();
                    warnings
                        .push(format!("other_config:max-idle '{text}' is more than {most}, which is used"));
                }
            }
            _ => warnings.push(format!("other_config:max-idle '{text}' is not a number of at least 500")),
        }
    }
    cache
}

/// `pmd-cpu-mask` and `pmd-auto-lb`. Bad numbers take their defaults, as in OVS; a bad mask changes nothing.
fn workers(root: &RowView<'_>, warnings: &mut Vec<String>) -> WorkersConfig {
    let cpus = match root.map_get("other_config", "pmd-cpu-mask") {
        None => WorkerCpus::Default,
        Some(text) => WorkerCpus::parse(text).unwrap_or_else(|why| {
            warnings.push(format!("other_config:pmd-cpu-mask '{text}' {why}: the workers stay as they are"));
            WorkerCpus::Invalid
        }),
    };
    let mut number = |key: &str, default: u64, most: u64| match root.map_get("other_config", key) {
        None => default,
        Some(text) => text.parse().ok().filter(|n| *n <= most).unwrap_or_else(|| {
            warnings.push(format!("other_config:{key} '{text}' is not a number from 0 to {most}"));
            default
        }),
    };
    let AutoBalance { interval, load_threshold, improvement_threshold } = AutoBalance::DEFAULT;
    let default_minutes = interval.as_secs() / 60;
    let minutes = match number("pmd-auto-lb-rebal-interval", default_minutes, 20_000) {
        0 => default_minutes,
        minutes => minutes,
    };
    let auto_balance = AutoBalance {
        interval: Duration::from_secs(minutes * 60),
        load_threshold: number("pmd-auto-lb-load-threshold", load_threshold, 100),
        improvement_threshold: number("pmd-auto-lb-improvement-threshold", improvement_threshold, 100),
    };
    WorkersConfig { cpus, auto_balance: flag(root, "pmd-auto-lb").then_some(auto_balance) }
}

/// Names become names of devices and sockets: no slash, no blank, at most 15 bytes for a device.
fn is_device_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.bytes().any(|b| b == b'/' || b.is_ascii_whitespace() || b == 0)
}

fn bridge(
    replica: &Replica,
    row: &RowView<'_>,
    name: &str,
    allowed: Allowed,
    taken: &mut Taken,
    out: &mut Wanted,
) -> BridgeConfig {
    let mut bridge = BridgeConfig::new(name);
    bridge.datapath_type = row.string("datapath_type").unwrap_or_default().to_owned();
    bridge.datapath_id = datapath_id(row, name, &mut out.warnings);
    bridge.dp_desc = row.map_get("other_config", "dp-desc").map(str::to_owned);
    bridge.dp_sn = row.map_get("other_config", "dp-sn").map(str::to_owned);
    bridge.hwaddr =
        row.map_get("other_config", "hwaddr").and_then(MacAddr::parse).filter(|m| !m.is_multicast());
    bridge.fail_mode = match row.string("fail_mode") {
        Some("secure") => FailMode::Secure,
        _ => FailMode::Standalone,
    };
    bridge.protocols = row.strings("protocols").filter_map(protocol).collect();
    bridge.mac_aging = number(row, "mac-aging-time", name, &mut out.warnings)
        .map_or(mac::AGING_DEFAULT, |s: u64| Duration::from_secs(s.max(15)));
    bridge.mac_table_size = number(row, "mac-table-size", name, &mut out.warnings)
        .map_or(mac::ENTRIES_DEFAULT, |n: usize| n.clamp(10, mac::ENTRIES_MAX));
    bridge.forward_bpdu = flag(row, "forward-bpdu");
    bridge.flood_vlans = row.integers("flood_vlans").filter_map(vlan_id).collect();
    for row in row.uuids("controller").filter_map(|id| replica.get("Controller", id)) {
        if let Some(target) = row.string("target") {
            bridge.controllers.insert(target.to_owned(), controller(&row));
        }
    }
    bridge.flow_tables = flow_tables(replica, row);
    for (_, port_name, port_row) in ports_in_order(replica, row) {
        let mut port = PortConfig {
            name: port_name.to_owned(),
            vlan: vlan(&port_row, name, &mut out.warnings),
            protected: port_row.boolean("protected").unwrap_or(false),
            interfaces: BTreeMap::new(),
        };
        for row in port_row.uuids("interfaces").filter_map(|id| replica.get("Interface", id)) {
            let Some(interface_name) = row.string("name") else { continue };
            if !taken.names.insert(interface_name.to_owned()) {
                let text = format!("{interface_name}: interface is in more than one port");
                out.interface_errors.insert(row.uuid(), text);
                continue;
            }
            match interface(&row, interface_name, &bridge, allowed, &mut out.warnings)
                .and_then(|i| claim(i, &mut taken.tunnels))
            {
                Ok(interface) => drop(port.interfaces.insert(interface_name.to_owned(), interface)),
                Err(text) => drop(out.interface_errors.insert(row.uuid(), text)),
            }
        }
        bridge.ports.insert(port_name.to_owned(), port);
    }
    if !bridge.ports.contains_key(name) {
        add_own_port(row, name, allowed, taken, &mut bridge, out);
    }
    bridge
}

/// The ports of a bridge, those first that work already: what two of them cannot both have stays with the one that has it.
fn ports_in_order<'a>(replica: &'a Replica, row: &RowView<'a>) -> Vec<(bool, &'a str, RowView<'a>)> {
    let works = |port: &RowView<'_>| {
        let mut interfaces = port.uuids("interfaces").filter_map(|id| replica.get("Interface", id));
        interfaces.any(|i| i.integer("ofport").is_some_and(|n| n > 0))
    };
    let ports = row.uuids("ports").filter_map(|id| replica.get("Port", id));
    let mut ports: Vec<_> = ports.filter_map(|p| Some((!works(&p), p.string("name")?, p))).collect();
    ports.sort_by_key(|(idle, name, _)| (*idle, *name));
    ports
}

/// A bridge has a port of its own, whether there is a row for it or not.
fn add_own_port(
    row: &RowView<'_>,
    name: &str,
    allowed: Allowed,
    taken: &mut Taken,
    bridge: &mut BridgeConfig,
    out: &mut Wanted,
) {
    // The bridge's row has no columns of an interface, so every setting is its default.
    match interface(row, name, bridge, allowed, &mut out.warnings) {
        Ok(interface) if taken.names.insert(name.to_owned()) => {
            let port = PortConfig {
                name: name.to_owned(),
                vlan: VlanConfig::default(),
                protected: false,
                interfaces: [(name.to_owned(), interface)].into(),
            };
            bridge.ports.insert(name.to_owned(), port);
        }
        Ok(_) => out.warnings.push(format!("bridge {name}: its name is an interface of another bridge")),
        Err(text) => out.warnings.push(text),
    }
}

fn datapath_id(row: &RowView<'_>, name: &str, warnings: &mut Vec<String>) -> Option<u64> {
    let text = row.map_get("other_config", "datapath-id")?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u64::from_str_radix(digits, 16) {
        Ok(id) if id != 0 && (text.starts_with("0x") || digits.len() == 16) => Some(id),
        _ => {
            warnings.push(format!("bridge {name}: other_config:datapath-id '{text}' is not 16 hex digits"));
            None
        }
    }
}

fn protocol(name: &str) -> Option<u8> {
    match name {
        "OpenFlow10" => Some(1),
        "OpenFlow11" => Some(2),
        "OpenFlow12" => Some(3),
        "OpenFlow13" => Some(4),
        "OpenFlow14" => Some(5),
        "OpenFlow15" => Some(6),
        _ => None,
    }
}

fn controller(row: &RowView<'_>) -> ControllerConfig {
    let mut controller = ControllerConfig::default();
    if let Some(ms) = row.integer("max_backoff").and_then(|ms| u64::try_from(ms).ok()) {
        controller.max_backoff = Duration::from_millis(ms.max(1_000));
    }
    if let Some(ms) = row.integer("inactivity_probe").and_then(|ms| u64::try_from(ms).ok()) {
        // 0 turns probing off; other values below a second are a second, as in OVS.
        controller.inactivity_probe = Duration::from_millis(if ms == 0 { 0 } else { ms.max(1_000) });
    }
    controller.primary = row.string("type") != Some("service");
    controller
}

fn flow_tables(replica: &Replica, row: &RowView<'_>) -> BTreeMap<u8, FlowTableConfig> {
    let Some(tables) = row.map("flow_tables") else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (key, value) in tables.iter() {
        let (Atom::Integer(number), Atom::Uuid(id)) = (key, value) else {
            continue;
        };
        let (Ok(number), Some(row)) = (u8::try_from(*number), replica.get("Flow_Table", *id)) else {
            continue;
        };
        let config = FlowTableConfig {
            name: row.string("name").map(str::to_owned),
            flow_limit: row.integer("flow_limit").and_then(|n| usize::try_from(n).ok()),
            evict: row.string("overflow_policy") == Some("evict"),
        };
        all.insert(number, config);
    }
    all
}

/// The timeouts of connections, from the root row's datapaths over their zones to the policies.
fn zone_timeouts(replica: &Replica, root: &RowView<'_>) -> BTreeMap<u16, BTreeMap<String, u32>> {
    let mut all = BTreeMap::new();
    let zones = datapaths(replica, root).filter_map(|row| row.map("ct_zones"));
    for (key, value) in zones.flat_map(|zones| zones.iter()) {
        let (Atom::Integer(zone), Atom::Uuid(id)) = (key, value) else { continue };
        let policy = replica.get("CT_Zone", *id).and_then(|row| row.uuids("timeout_policy").next());
        let policy = policy.and_then(|id| replica.get("CT_Timeout_Policy", id));
        if let (Ok(zone), Some(policy)) = (u16::try_from(*zone), policy) {
            all.insert(zone, timeouts(&policy));
        }
    }
    all
}

fn timeouts(policy: &RowView<'_>) -> BTreeMap<String, u32> {
    let Some(named) = policy.map("timeouts") else { return BTreeMap::new() };
    let timeout = |(key, value): &(Atom, Atom)| match (key, value) {
        (Atom::String(name), Atom::Integer(secs)) => Some((name.to_string(), u32::try_from(*secs).ok()?)),
        _ => None,
    };
    named.iter().filter_map(timeout).collect()
}

fn vlan_id(n: i64) -> Option<u16> {
    u16::try_from(n).ok().filter(|n| *n < 4096)
}

fn vlan(row: &RowView<'_>, bridge: &str, warnings: &mut Vec<String>) -> VlanConfig {
    let name = row.string("name").unwrap_or_default();
    let mode = row.string("vlan_mode").and_then(|mode| match mode {
        "access" => Some(VlanMode::Access),
        "trunk" => Some(VlanMode::Trunk),
        "native-tagged" => Some(VlanMode::NativeTagged),
        "native-untagged" => Some(VlanMode::NativeUntagged),
        "dot1q-tunnel" => Some(VlanMode::Dot1qTunnel),
        other => {
            warnings.push(format!("bridge {bridge}: port {name}: unknown vlan_mode '{other}'"));
            None
        }
    });
    let tag = row.integer("tag").and_then(vlan_id);
    let mut vlan = VlanConfig::from_columns(mode, tag, row.integers("trunks").filter_map(vlan_id));
    let cvlans: switch::vlan::VlanSet = row.integers("cvlans").filter_map(vlan_id).collect();
    vlan.cvlans = (!cvlans.is_empty()).then(|| Box::new(cvlans));
    if row.map_get("other_config", "qinq-ethtype") == Some("802.1q") {
        vlan.service_tpid = 0x8100;
    }
    vlan.priority_tags = match row.map_get("other_config", "priority-tags") {
        Some("true" | "if-nonzero") => PriorityTags::IfNonzero,
        Some("always") => PriorityTags::Always,
        _ => PriorityTags::Never,
    };
    vlan
}

/// What interfaces have that no other can have.
#[derive(Default)]
struct Taken {
    names: BTreeSet<String>,
    tunnels: Claims,
}

/// What an interface needs for itself is its, unless another had it first.
fn claim(interface: InterfaceConfig, claims: &mut Claims) -> Result<InterfaceConfig, String> {
    if let InterfaceKind::Tunnel(tunnel) = &interface.kind {
        claims.take(&interface.name, tunnel)?;
    }
    Ok(interface)
}

fn interface(
    row: &RowView<'_>,
    name: &str,
    bridge: &BridgeConfig,
    allowed: Allowed,
    warnings: &mut Vec<String>,
) -> Result<InterfaceConfig, String> {
    if !is_device_name(name) {
        return Err(format!("'{name}' is not a name for an interface"));
    }
    if is_reserved(name) {
        return Err(format!("could not create interface {name}, name is reserved"));
    }
    let kind = match row.string("type").and_then(TunnelKind::by_name) {
        Some(kind) if name != bridge.name => tunnel(row, name, kind, warnings)?,
        _ => kind(row, name, bridge, allowed)?,
    };
    let n_rxq = row.map_get("options", "n_rxq");
    let rx_queues = match kind {
        InterfaceKind::Tap => RxQueues::parse(name, n_rxq),
        _ => RxQueues::Default,
    };
    if n_rxq.is_some() && !matches!(kind, InterfaceKind::Tap | InterfaceKind::AfXdp(_)) {
        warnings.push(format!(
            "interface {name}: options:n_rxq has no effect: only types internal, tap and afxdp have queues"
        ));
    }
    let affinity = row.map_get("other_config", "pmd-rxq-affinity").map(parse_affinity);
    let rx_affinity = affinity.unwrap_or_else(|| Ok(RxAffinity::default())).unwrap_or_else(|why| {
        warnings.push(format!("interface {name}: other_config:pmd-rxq-affinity: {why}: no queue is pinned"));
        RxAffinity::default()
    });
    let on_device = matches!(kind, InterfaceKind::Tap | InterfaceKind::System | InterfaceKind::AfXdp(_));
    if on_device && name.len() > 15 {
        return Err(format!("could not open network device {name} (File name too long)"));
    }
    let request = |column: &str, most: u16| {
        row.integer(column).and_then(|n| u16::try_from(n).ok()).filter(|n| (1..=most).contains(n))
    };
    let mtu_request = request("mtu_request", u16::MAX).filter(|mtu| *mtu >= MTU_MIN);
    if let Some(wanted) = row.integer("mtu_request").filter(|_| mtu_request.is_none()) {
        warnings.push(format!(
            "interface {name}: mtu_request {wanted} is not from {MTU_MIN} to {}: the MTU stays as it is",
            u16::MAX
        ));
    }
    Ok(InterfaceConfig {
        name: name.to_owned(),
        kind,
        type_name: match row.string("type") {
            _ if name == bridge.name => "internal".to_owned(),
            None | Some("") => "system".to_owned(),
            Some(kind) => kind.to_owned(),
        },
        row: row.uuid().to_string(),
        ofport_request: request("ofport_request", 0xfeff),
        mtu_request,
        mac: bridge
            .hwaddr
            .filter(|_| name == bridge.name)
            .or_else(|| row.string("mac").and_then(MacAddr::parse).filter(|m| !m.is_multicast())),
        rx_queues,
        rx_affinity,
        netns: row.map_get("options", "netns").map(str::to_owned),
    })
}

fn tunnel(
    row: &RowView<'_>,
    name: &str,
    kind: TunnelKind,
    warnings: &mut Vec<String>,
) -> Result<InterfaceKind, String> {
    let text = |atom: &Atom| match atom {
        Atom::String(text) => Some(text.clone()),
        _ => None,
    };
    let options = row.map("options").into_iter().flat_map(|m| m.iter());
    let options = options.filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect();
    let parsed = TunnelConfig::parse(name, kind, &options)?;
    warnings.extend(parsed.warnings);
    Ok(InterfaceKind::Tunnel(Arc::new(parsed.config)))
}

fn kind(
    row: &RowView<'_>,
    name: &str,
    bridge: &BridgeConfig,
    allowed: Allowed,
) -> Result<InterfaceKind, String> {
    let option = |key: &str| row.map_get("options", key).map(str::to_owned);
    let kind = row.string("type").unwrap_or_default();
    let (rx, tx) = (option("rx_pcap"), option("tx_pcap"));
    if kind == "patch" {
        let peer =
            option("peer").ok_or_else(|| format!("{name}: patch type requires valid 'peer' argument"))?;
        return match peer == name {
            true => Err(format!("{name}: patch peer must not be self")),
            false => Ok(InterfaceKind::Patch { peer }),
        };
    }
    let local = name == bridge.name;
    let real = matches!(kind, "" | "system" | "internal" | "tap");
    let dummy = allowed.dummies == Dummies::Override && real
        || matches!(kind, "dummy" | "dummy-internal" | "dummy-pmd")
        || local && bridge.datapath_type == "dummy"
        || kind == "internal" && bridge.datapath_type == "dummy";
    if rx.is_some() || tx.is_some() {
        return match dummy || kind == "pcap" {
            true => Ok(InterfaceKind::Pcap { rx, tx }),
            false => Err(format!("{name}: options rx_pcap and tx_pcap are for type pcap or dummy")),
        };
    }
    if dummy {
        return match allowed.dummies {
            Dummies::Off => Err(format!(
                "could not open network device {name} (Address family not supported by protocol)"
            )),
            _ => Ok(InterfaceKind::Dummy),
        };
    }
    let refused = || Err(format!("could not open network device {name} (system interfaces are disabled)"));
    match kind {
        _ if local && allowed.disable_system => refused(),
        _ if local => Ok(InterfaceKind::Tap),
        "internal" | "tap" if allowed.disable_system => refused(),
        "" | "system" | "afxdp" if allowed.disable_system => refused(),
        "internal" | "tap" => Ok(InterfaceKind::Tap),
        "" | "system" => Ok(InterfaceKind::System),
        "afxdp" => AfXdpOptions::parse(name, |key| row.map_get("options", key)).map(InterfaceKind::AfXdp),
        "pcap" => Err(format!("{name}: type pcap requires options rx_pcap or tx_pcap")),
        // OVS says the same of a type that its build does not have.
        other => Err(format!(
            "could not open network device {name} (Address family not supported by protocol): no interface type '{other}'"
        )),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
