//! The brain: desired configuration, OpenFlow requests and news of devices in; a snapshot, replies and commands out.
//! Pure: it is told the time, reads no socket and opens no device. One owner, the daemon's main thread (or the simulator).
//!
//! It keeps what controllers and administrators see (rules with their timeouts, port numbers, connections) and stages what
//! workers see (`Forwarding`). The daemon publishes before it sends any reply, which is what makes replies mean something.

use crate::bridge::{
    self, BridgeId, BridgePort, Bundle, BundleId, Device, FailMode, Link, MissBehaviour, PatchPeer,
};
use crate::config::{BridgeConfig, Config, InterfaceConfig, InterfaceKind, PortConfig, is_active};
use crate::forwarding::{Forwarding, PuntSink, Solicitation, Staging};
use crate::mac::{Flush, MacAddr};
use crate::meter::Meters;
use crate::ofproto::{
    ConnId, ConnKind, OfConnection, Outgoing, PacketOutRequest, PortCounters, PortRecord, Waiting,
};
use crate::tunnel::solicit::question;
use crate::tunnel::{Host, HostPort, SharedCounters};
use crate::underlay::{Neighbours, RouteTable};
use base::{HashSeed, Instant};
use flowtable::group::Groups;
use flowtable::text::{FlowLine, FlowLineForm, TextStyle};
use flowtable::{OfAction, OfPort, RuleStore, TableAccess, TableConfig, TableId};
use openflow::message::{AsyncClass, CtFlush};
use openflow::{OfError, OfVersion};
use packet::DpPort;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a number that a port had is not given to another that asks for none in particular, if there are others.
const NUMBER_REST: Duration = Duration::from_secs(3_600);

/// How often stations that have grown old are looked for.
const MAC_SWEEP: Duration = Duration::from_secs(1);
/// Probe intervals without any controller after which a standalone bridge switches by itself, as in OVS.
const FAIL_OPEN_PROBES: u32 = 3;
/// What counts as the probe interval of a controller that is not probed.
const PROBE_DEFAULT: Duration = Duration::from_secs(5);

/// State of a device, as far as the switch is interested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// It has a carrier.
    pub link_up: bool,
    /// It is administratively up.
    pub admin_up: bool,
    /// Largest packet in bytes, without Ethernet header.
    pub mtu: u32,
    /// Speed in Mbit/s; 0 if it has none.
    pub speed_mbps: u32,
}

/// A device that the daemon opened for an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenDevice {
    /// Its port in the datapath.
    pub port: DpPort,
    /// Its address.
    pub mac: MacAddr,
    /// Its state.
    pub state: DeviceState,
}

/// What the brain wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send a frame for a controller.
    PacketOut(PacketOutRequest),
    /// A controller took a port down, or up.
    SetAdmin {
        /// Name of the interface.
        interface: String,
        /// Up or down.
        up: bool,
    },
    /// A controller wants connections forgotten.
    FlushConnections(CtFlush),
    /// A bridge has another datapath id: its controllers are to connect anew, as no message tells them.
    Reconnect {
        /// Name of the bridge.
        bridge: String,
    },
    /// A standalone bridge lost or found its controllers: something for the log.
    FailOpen {
        /// Name of the bridge.
        bridge: String,
        /// Whether it forwards as a learning switch from now on, whatever its rules say.
        open: bool,
    },
}

/// One bridge.
#[derive(Debug)]
pub struct BridgeState {
    /// Identity in snapshots.
    pub id: BridgeId,
    /// What is wanted of it.
    pub config: BridgeConfig,
    /// What OpenFlow calls it.
    pub datapath_id: u64,
    /// Newest generation id that a controller named.
    pub generation_id: Option<u64>,
    /// Its rules.
    pub rules: RuleStore,
    /// Its groups.
    pub groups: Groups,
    /// Its meters.
    pub meters: Meters,
    /// Whether rules, groups or meters are newer than what was published.
    rules_changed: bool,
    /// Since when none of the controllers that it should have is there.
    abandoned_since: Option<Instant>,
    /// The one rule that stands in for all others while a standalone bridge has had no controller for too long.
    fail_open: Option<Box<RuleStore>>,
    /// Its ports that exist.
    pub ports: BTreeMap<OfPort, PortRecord>,
    bundles: BTreeMap<String, BundleId>,
    bundle_next: u32,
    /// Numbers that interfaces have had, so that a device that comes back is known by its old number.
    numbers: BTreeMap<String, OfPort>,
    number_last: u32,
    /// Numbers that ports have given up, and when.
    numbers_given_up: BTreeMap<OfPort, Instant>,
}

/// See the module's text.
pub struct Brain {
    pub(crate) staging: Staging,
    pub(crate) bridges: BTreeMap<String, BridgeState>,
    pub(crate) connections: BTreeMap<ConnId, OfConnection>,
    pub(crate) outbox: Vec<(ConnId, Waiting)>,
    /// Whether a [`Waiting::Removal`] is in it.
    pub(crate) has_removals: bool,
    pub(crate) commands: Vec<Command>,
    pub(crate) counters: BTreeMap<DpPort, PortCounters>,
    devices: BTreeMap<String, OpenDevice>,
    routes: Arc<RouteTable>,
    seed: HashSeed,
    mac_sweep_next: Instant,
    /// Rules do not go before this time, though theirs be over.
    pub(crate) expiry_next: Instant,
}

impl Brain {
    /// A brain without bridges. `seed` keys hash tables; `sink` takes frames for controllers from workers.
    pub fn new(seed: HashSeed, sink: Box<dyn PuntSink>) -> Brain {
        Brain {
            staging: Staging::new(seed, sink),
            bridges: BTreeMap::new(),
            connections: BTreeMap::new(),
            outbox: Vec::new(),
            has_removals: false,
            commands: Vec::new(),
            counters: BTreeMap::new(),
            devices: BTreeMap::new(),
            routes: Arc::default(),
            seed,
            mac_sweep_next: Instant::ZERO,
            expiry_next: Instant::ZERO,
        }
    }

    /// A bridge by name.
    ///
    /// # Errors
    /// `BadRequestUnknown`: it was deleted while a connection to it is still there.
    pub fn bridge(&self, name: &str) -> Result<&BridgeState, OfError> {
        self.bridges.get(name).ok_or(OfError::BadRequestUnknown)
    }

    pub(crate) fn bridge_mut(&mut self, name: &str) -> Result<&mut BridgeState, OfError> {
        self.bridges.get_mut(name).ok_or(OfError::BadRequestUnknown)
    }

    /// The bridges, by name.
    pub fn bridges(&self) -> impl Iterator<Item = &BridgeState> {
        self.bridges.values()
    }

    /// The snapshot for the workers. The same one as before if nothing has changed.
    pub fn publish(&mut self) -> Arc<Forwarding> {
        for state in self.bridges.values_mut().filter(|b| b.rules_changed) {
            state.rules_changed = false;
            self.staging.set_groups(state.id, &state.groups);
            self.staging.set_meters(state.id, &state.meters);
            let rules = state.fail_open.as_deref_mut().unwrap_or(&mut state.rules);
            self.staging.set_rules(state.id, rules);
        }
        self.staging.publish()
    }

    /// Takes routes of the host in place of those known before.
    pub fn set_routes(&mut self, routes: RouteTable) {
        if routes != *self.routes {
            self.routes = Arc::new(routes);
            self.sync_host();
        }
    }

    /// The routes of the host.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// The neighbours of all bridges.
    pub fn neighbours(&self) -> &Arc<Neighbours> {
        self.staging.forwarding().neighbours()
    }

    /// Asks for a neighbour: the question enters the tables of the bridge as if the host had sent it.
    pub fn solicit(&mut self, solicitation: &Solicitation) {
        let HostPort { bridge, of_port } = solicitation.port;
        let port = self.staging.bridge(bridge).and_then(|b| b.port(of_port));
        let Some(data) = port.and_then(|p| question(p.mac, solicitation.source, solicitation.target)) else {
            return;
        };
        let actions = [OfAction::Output { port: OfPort::TABLE, max_len: 0 }].into();
        let request = PacketOutRequest { bridge, in_port: of_port, data, actions };
        self.commands.push(Command::PacketOut(request));
    }

    /// Makes what the snapshot knows of the host follow routes, ports and configuration.
    fn sync_host(&mut self) {
        let mut ports = BTreeMap::new();
        for state in self.bridges.values() {
            for record in state.ports.values() {
                let interface = state.config.ports.values().find_map(|p| p.interfaces.get(&record.name));
                // Where a pod has the device, it is the pod's and not the host's.
                let of_host = |i: &InterfaceConfig| i.kind == InterfaceKind::Tap && i.netns.is_none();
                // Nor does it matter that the host is behind a port by which nobody reaches it.
                if interface.is_some_and(of_host) && self.routes.addresses_of(&record.name).next().is_some() {
                    let port = HostPort { bridge: state.id, of_port: record.of_port };
                    ports.insert(Arc::from(record.name.as_str()), port);
                }
            }
        }
        self.staging.set_host(Host::new(Arc::clone(&self.routes), ports));
    }

    /// Messages that wait to be sent, in order. Those about removed rules get the counts that there are now: see
    /// [`Self::has_removals`].
    pub fn drain_outbox(&mut self) -> Vec<(ConnId, Outgoing)> {
        let ready = |waiting| match waiting {
            Waiting::Ready(outgoing) => outgoing,
            Waiting::Removal(removal) => Outgoing::Unasked(removal.message()),
        };
        self.has_removals = false;
        std::mem::take(&mut self.outbox).into_iter().map(|(conn, waiting)| (conn, ready(waiting))).collect()
    }

    /// Whether messages wait to be sent.
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether messages about removed rules wait. Their counts are final when workers, after a snapshot was published without
    /// those rules, have credited what their cached flows counted.
    pub fn has_removals(&self) -> bool {
        self.has_removals
    }

    /// Things that wait to be done, in order; after publishing.
    pub fn drain_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Whether things wait to be done.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Counters of ports, for statistics that will be asked for next.
    pub fn set_counters(&mut self, counters: BTreeMap<DpPort, PortCounters>) {
        self.counters = counters;
    }

    /// Does what is due. `fold` has workers credit what their cached flows have counted; it is asked before rules go.
    pub fn run(&mut self, now: Instant, fold: impl FnOnce()) {
        self.expire_rules(now, fold);
        self.expire_bundles(now);
        self.watch_controllers(now);
        if now >= self.mac_sweep_next {
            self.mac_sweep_next = now + MAC_SWEEP;
            for bridge in self.staging.published().bridges() {
                bridge.mac().expire(now);
            }
            self.neighbours().expire(now);
        }
    }

    /// When `run` has something to do again, whatever else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let rules = self.bridges.values().filter_map(|b| b.rules.next_deadline());
        let rules = rules.map(|due| due.max(self.expiry_next));
        let fail_open = self.bridges.values().filter_map(BridgeState::fail_open_at);
        let bundles = self.connections.values().filter_map(OfConnection::next_deadline);
        let learned = self.staging.published().bridges().any(|b| b.mac().stats().entries > 0);
        let learned = learned || !self.neighbours().is_empty();
        let sweep = learned.then_some(self.mac_sweep_next);
        rules.chain(fail_open).chain(bundles).chain(sweep).min()
    }

    /// Lets standalone bridges whose controllers have been away for too long work as learning switches, and gives them
    /// their own rules again when one is back.
    fn watch_controllers(&mut self, now: Instant) {
        for (name, state) in &mut self.bridges {
            let there = |c: &OfConnection| c.bridge == *name && c.kind == ConnKind::Primary;
            let away = state.patience().is_some() && !self.connections.values().any(there);
            state.abandoned_since = away.then(|| state.abandoned_since.unwrap_or(now));
            let open = match state.patience() {
                Some(patience) => state.abandoned_since.is_some_and(|s| now.saturating_since(s) >= patience),
                None => false,
            };
            if open == state.fail_open.is_some() {
                continue;
            }
            state.fail_open = open.then(|| Box::new(learning_switch(self.staging.new_rules(), now)));
            state.rules_changed = true;
            self.commands.push(Command::FailOpen { bridge: name.clone(), open });
        }
    }

    /// The rules of a bridge as `bridge/dump-flows` prints them.
    pub fn dump_flows(&self, bridge: &str, now: Instant) -> Option<String> {
        use std::fmt::Write as _;
        let state = self.bridges.get(bridge)?;
        let mut out = String::new();
        for rule in state.rules.tables().iter().flat_map(|t| t.rules()) {
            let line = FlowLine {
                cookie: rule.cookie,
                duration: now.saturating_since(rule.created),
                table: rule.table,
                packets: Some(rule.stats.packets()),
                bytes: Some(rule.stats.bytes()),
                idle_timeout: rule.idle_timeout,
                hard_timeout: rule.hard_timeout,
                flags: rule.flags,
                importance: rule.importance,
                idle_age: None,
                hard_age: None,
                priority: rule.priority,
                matching: &rule.matching(),
                actions: &rule.actions,
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}", line.display(FlowLineForm::Bridge, TextStyle::default()));
        }
        Some(out)
    }

    // --- configuration ---

    /// Takes a configuration as a whole. Ports appear as their devices are reported open.
    pub fn configure(&mut self, wanted: &Config, now: Instant) {
        let gone: Vec<String> =
            self.bridges.keys().filter(|b| !wanted.bridges.contains_key(*b)).cloned().collect();
        for name in gone {
            if let Some(state) = self.bridges.remove(&name) {
                self.staging.remove_bridge(state.id);
            }
            self.connections.retain(|_, c| c.bridge != name);
        }
        for (name, config) in &wanted.bridges {
            match self.bridges.contains_key(name) {
                true => self.change_bridge(config, now),
                false => self.add_bridge(config, now),
            }
        }
        self.sync_all(now);
    }

    fn add_bridge(&mut self, config: &BridgeConfig, now: Instant) {
        let id = self.staging.add_bridge(&config.name);
        let state = BridgeState {
            id,
            config: config.clone(),
            datapath_id: 0,
            generation_id: None,
            rules: self.staging.new_rules(),
            groups: Groups::default(),
            meters: Meters::default(),
            rules_changed: true,
            abandoned_since: None,
            fail_open: None,
            ports: BTreeMap::new(),
            bundles: BTreeMap::new(),
            bundle_next: 1,
            numbers: BTreeMap::new(),
            number_last: 0,
            numbers_given_up: BTreeMap::new(),
        };
        self.bridges.insert(config.name.clone(), state);
        self.apply_settings(&config.name);
        self.flush_rules(&config.name, learns_by_itself(config), now);
        self.controllers_changed(&config.name);
    }

    fn change_bridge(&mut self, config: &BridgeConfig, now: Instant) {
        let Some(state) = self.bridges.get_mut(&config.name) else { return };
        if state.config == *config {
            return;
        }
        let old = std::mem::replace(&mut state.config, config.clone());
        self.apply_settings(&config.name);
        // As OVS: rules go when a bridge gets its first controller or loses its last, or when its fail mode changes
        // while it has none.
        let (had, has) = (old.is_controlled(), config.is_controlled());
        if had != has || !has && old.fail_mode != config.fail_mode {
            self.flush_rules(&config.name, learns_by_itself(config), now);
        }
        self.controllers_changed(&config.name);
    }

    /// Settings that are values: MAC table, tables, forwarding of BPDUs, identity.
    fn apply_settings(&mut self, name: &str) {
        let Some(state) = self.bridges.get_mut(name) else { return };
        let config = &state.config;
        for id in (0..TableId::COUNT).map(|t| t as u8) {
            let wanted = config.flow_tables.get(&id);
            let rules_max = wanted.and_then(|t| t.flow_limit).unwrap_or(flowtable::table::TABLE_RULES_MAX);
            let table = state.rules.tables().get(TableId(id));
            let config = TableConfig { rules_max, access: TableAccess::Open };
            if table.is_some_and(|t| t.config != config) {
                state.rules.configure(TableId(id), config);
            }
        }
        let hw_mac = config.hwaddr.or_else(|| self.devices.get(name).map(|d| d.mac));
        let hw_mac = hw_mac.unwrap_or_else(|| made_up_mac(self.seed, name));
        let datapath_id = config.datapath_id.unwrap_or(hw_mac.0);
        let before = std::mem::replace(&mut state.datapath_id, datapath_id);
        if before != datapath_id && self.connections.values().any(|c| c.bridge == name) {
            self.commands.push(Command::Reconnect { bridge: name.to_owned() });
        }
        let Some(bridge) = self.staging.bridge_mut(state.id) else { return };
        bridge.hw_mac = hw_mac;
        bridge.mac().configure(config.mac_table_size, config.mac_aging);
        let settings = bridge.settings();
        let same = settings.fail_mode == config.fail_mode
            && settings.forward_bpdu == config.forward_bpdu
            && settings.flood_vlans == config.flood_vlans;
        if !same {
            // What was known of a VLAN before it flooded may be wrong when it does so no longer.
            if settings.flood_vlans != config.flood_vlans {
                bridge.mac().flush(Flush::All);
            }
            let settings = bridge.settings_mut();
            settings.fail_mode = config.fail_mode;
            settings.forward_bpdu = config.forward_bpdu;
            settings.flood_vlans = config.flood_vlans.clone();
        }
        self.stage_tables(name);
    }

    /// What a miss does depends on who listens: before OpenFlow 1.3 a miss goes to the controller.
    pub(crate) fn controllers_changed(&mut self, name: &str) {
        let listens = |c: &OfConnection| {
            c.bridge == name && c.version < OfVersion::V13 && c.hears(AsyncClass::PacketIn, 0)
        };
        let miss = match self.connections.values().any(listens) {
            true => MissBehaviour::Controller { max_len: 0xffff },
            false => MissBehaviour::Drop,
        };
        let Some(id) = self.bridges.get(name).map(|b| b.id) else { return };
        if let Some(bridge) = self.staging.bridge_mut(id)
            && bridge.settings().miss != miss
        {
            bridge.settings_mut().miss = miss;
        }
    }

    /// Notes that the snapshot has to follow rules, groups and meters, which happens once, when it is published.
    pub(crate) fn stage_tables(&mut self, name: &str) {
        if let Some(state) = self.bridges.get_mut(name) {
            state.rules_changed = true;
        }
    }

    // --- devices ---

    /// A device was opened for an interface, or what is known of it has changed.
    pub fn device_open(&mut self, interface: &str, device: OpenDevice, now: Instant) {
        self.devices_changed([(interface.to_owned(), Some(device))], now);
    }

    /// The device of an interface is gone.
    pub fn device_closed(&mut self, interface: &str, now: Instant) {
        self.devices_changed([(interface.to_owned(), None)], now);
    }

    /// News of devices by name of their interface, all at once: open (again, or in another state) or, with `None`, gone.
    pub fn devices_changed(
        &mut self,
        news: impl IntoIterator<Item = (String, Option<OpenDevice>)>,
        now: Instant,
    ) {
        let mut changed = false;
        for (interface, device) in news {
            let before = match device {
                Some(device) => self.devices.insert(interface.clone(), device),
                None => self.devices.remove(&interface),
            };
            if before == device {
                continue;
            }
            changed = true;
            if self.bridges.contains_key(&interface) {
                self.apply_settings(&interface);
            }
        }
        if changed {
            self.sync_all(now);
        }
    }

    fn sync_all(&mut self, now: Instant) {
        let names: Vec<String> = self.bridges.keys().cloned().collect();
        for name in &names {
            self.sync_ports(name, now);
        }
        // Peers of patch ports are known only once every bridge has its ports.
        for name in &names {
            self.sync_patches(name);
        }
        self.sync_host();
    }

    /// Makes the ports of a bridge those that are wanted and have a device.
    fn sync_ports(&mut self, name: &str, now: Instant) {
        let Some(state) = self.bridges.get(name) else { return };
        let config = state.config.clone();
        let wanted: Vec<&InterfaceConfig> =
            config.ports.values().flat_map(|p| p.interfaces.values()).filter(|i| self.exists(i)).collect();
        self.remove_unwanted(name, &wanted, now);
        self.part_with_bundles(name);
        // Requested numbers first, so that an automatic one never takes them.
        let (requested, rest): (Vec<_>, Vec<_>) = wanted.iter().partition(|i| i.ofport_request.is_some());
        for interface in requested.into_iter().chain(rest) {
            self.sync_port(name, interface, now);
        }
        self.sync_owners(name, &config);
        self.sync_bundles(name, &config);
    }

    /// Has logical ports that lost all their members begin anew: a port that comes back at once, under another number, has none
    /// of the stations that were learned on it, as in OVS.
    fn part_with_bundles(&mut self, name: &str) {
        let Some(state) = self.bridges.get_mut(name) else { return };
        let Some(staged) = self.staging.bridge(state.id) else { return };
        let ports = &state.ports;
        let left =
            |id: BundleId| staged.bundle(id).is_none_or(|b| b.members.iter().any(|m| ports.contains_key(m)));
        state.bundles.retain(|_, id| left(*id));
    }

    /// Stages ports whose interface came to another logical port, or whose logical port became a bond or ceased to be one,
    /// while their devices stayed what they were.
    fn sync_owners(&mut self, name: &str, config: &BridgeConfig) {
        let Some(state) = self.bridges.get(name) else { return };
        let Some(staged) = self.staging.bridge(state.id) else { return };
        let owners: BTreeMap<&str, &PortConfig> =
            config.ports.values().flat_map(|p| p.interfaces.keys().map(move |i| (i.as_str(), p))).collect();
        let is_as_staged = |record: &PortRecord, owner: &PortConfig| {
            staged.port(record.of_port).is_some_and(|p| {
                state.bundles.get(&owner.name) == Some(&p.bundle) && p.link == link_of(record, is_bond(owner))
            })
        };
        let differs = |record: &&PortRecord| {
            owners.get(record.name.as_str()).is_some_and(|owner| !is_as_staged(record, owner))
        };
        let stale: Vec<OfPort> = state.ports.values().filter(differs).map(|p| p.of_port).collect();
        stale.into_iter().for_each(|of_port| self.stage_port(name, of_port));
    }

    fn exists(&self, interface: &InterfaceConfig) -> bool {
        match &interface.kind {
            InterfaceKind::Patch { .. } => true,
            InterfaceKind::Tunnel(tunnel) => self.devices.contains_key(&tunnel.socket().name()),
            _ => self.devices.contains_key(&interface.name),
        }
    }

    fn remove_unwanted(&mut self, name: &str, wanted: &[&InterfaceConfig], now: Instant) {
        let Some(state) = self.bridges.get(name) else { return };
        // Who is to have which number: of several that request one, who has it already, else the first by name.
        let mut claims: BTreeMap<OfPort, &str> = BTreeMap::new();
        for i in wanted.iter().filter(|i| i.name != name) {
            let Some(number) = i.ofport_request.map(|r| OfPort(r.into())) else { continue };
            let holds = state.ports.get(&number).is_some_and(|p| p.name == i.name);
            let claim = claims.entry(number).or_insert(&i.name);
            if holds {
                *claim = &i.name;
            }
        }
        let claimants: BTreeMap<&str, OfPort> = claims.iter().map(|(n, who)| (*who, *n)).collect();
        let names: BTreeSet<&str> = wanted.iter().map(|i| i.name.as_str()).collect();
        // A port moves to the number that it is to have, and away from one that another is to have.
        let stays = |p: &PortRecord| {
            names.contains(p.name.as_str())
                && claimants.get(p.name.as_str()).is_none_or(|number| *number == p.of_port)
                && claims.get(&p.of_port).is_none_or(|who| *who == p.name)
        };
        let gone: Vec<OfPort> = state.ports.values().filter(|p| !stays(p)).map(|p| p.of_port).collect();
        for of_port in gone {
            let Some(state) = self.bridges.get_mut(name) else { return };
            let before = state.ports.remove(&of_port).map(|p| p.desc());
            state.numbers_given_up.insert(of_port, now);
            self.port_changed(name, of_port, before, None);
        }
        if let Some(state) = self.bridges.get_mut(name) {
            state.numbers_given_up.retain(|_, since| now.saturating_since(*since) < NUMBER_REST);
        }
    }

    fn sync_port(&mut self, name: &str, interface: &InterfaceConfig, now: Instant) {
        let (device, mac, mut device_state) = self.device_of(interface);
        let Some(state) = self.bridges.get_mut(name) else { return };
        if let Some(port) = state.ports.values_mut().find(|p| p.name == interface.name) {
            let before = port.desc();
            // Where there is no device that anybody else could take up or down, a controller's setting stays.
            if interface.kind.is_virtual() && !matches!(port.device, Device::Datapath(_)) {
                device_state.admin_up = port.state.admin_up;
            }
            let same_device = port.device == device
                || matches!((&port.device, &device), (Device::Patch(_), Device::Patch(_)));
            if !same_device {
                port.device = device;
            }
            // The setting follows a device that somebody else took up or down, as in OVS.
            if port.state.admin_up != device_state.admin_up {
                port.config = port.config.with(bridge::PortConfig::PORT_DOWN, !device_state.admin_up);
            }
            if same_device && (port.mac, port.state) == (mac, device_state) {
                return;
            }
            (port.mac, port.state) = (mac, device_state);
            let of_port = port.of_port;
            return self.port_changed(name, of_port, Some(before), None);
        }
        let Some(of_port) = state.number_for(interface) else { return };
        let config = bridge::PortConfig::default();
        let record = PortRecord {
            of_port,
            name: interface.name.clone(),
            device,
            counters: SharedCounters::default(),
            mac,
            config,
            state: device_state,
            since: now,
        };
        state.ports.insert(of_port, record);
        self.port_changed(name, of_port, None, None);
    }

    /// What stands behind an interface that exists, its address and its state.
    fn device_of(&self, interface: &InterfaceConfig) -> (Device, MacAddr, DeviceState) {
        // What has no device of its own is up, as in OVS.
        let up = DeviceState { link_up: true, admin_up: true, mtu: 65_535, speed_mbps: 0 };
        let made_up = || made_up_mac(self.seed, &interface.name);
        match &interface.kind {
            InterfaceKind::Tunnel(config) => {
                let socket = self.devices.get(&config.socket().name()).map_or(DpPort::NONE, |d| d.port);
                (Device::Tunnel { socket, config: Arc::clone(config) }, made_up(), up)
            }
            _ => match self.devices.get(&interface.name) {
                Some(d) => (Device::Datapath(d.port), d.mac, d.state),
                None => (Device::Patch(None), made_up(), up),
            },
        }
    }

    /// Makes the snapshot's port follow its record.
    pub(crate) fn stage_port(&mut self, name: &str, of_port: OfPort) {
        let Some(state) = self.bridges.get_mut(name) else { return };
        let Some(record) = state.ports.get(&of_port) else {
            if let Some(bridge) = self.staging.bridge_mut(state.id) {
                bridge.remove_port(of_port);
            }
            return;
        };
        let owner = state.config.ports.values().find(|p| p.interfaces.contains_key(&record.name));
        let owner_name = owner.map_or_else(|| record.name.clone(), |p| p.name.clone());
        let next = &mut state.bundle_next;
        let bundle = *state.bundles.entry(owner_name).or_insert_with(|| {
            *next += 1;
            BundleId(*next)
        });
        let port = BridgePort {
            of_port,
            name: record.name.as_str().into(),
            mac: record.mac,
            config: record.config,
            link: link_of(record, owner.is_some_and(is_bond)),
            carrier: if record.state.link_up { Link::Up } else { Link::Down },
            device: record.device.clone(),
            counters: record.counters.clone(),
            bundle,
        };
        if let Some(bridge) = self.staging.bridge_mut(state.id) {
            bridge.put_port(port);
        }
    }

    fn sync_bundles(&mut self, name: &str, config: &BridgeConfig) {
        let Some(state) = self.bridges.get_mut(name) else { return };
        let Some(staged) = self.staging.bridge(state.id) else { return };
        let mut wanted = BTreeMap::new();
        for port in config.ports.values() {
            if let Some(bundle) = bundle_of(state, port) {
                wanted.insert(bundle.id, bundle);
            }
        }
        let gone: Vec<BundleId> =
            staged.bundles().map(|b| b.id).filter(|id| !wanted.contains_key(id)).collect();
        let changed: Vec<Bundle> = wanted.into_values().filter(|b| staged.bundle(b.id) != Some(b)).collect();
        let live: BTreeSet<&String> = config.ports.keys().collect();
        state.bundles.retain(|name, _| live.contains(name));
        // Numbers are remembered for interfaces whose devices are away, not for those that are no longer wanted.
        let configured = |name: &String| config.ports.values().any(|p| p.interfaces.contains_key(name));
        state.numbers.retain(|name, _| configured(name));
        if gone.is_empty() && changed.is_empty() {
            return;
        }
        gone.into_iter().for_each(|id| self.staging.remove_bundle(state.id, id));
        if let Some(bridge) = self.staging.bridge_mut(state.id) {
            changed.into_iter().for_each(|b| bridge.put_bundle(b));
        }
    }

    /// Connects patch ports whose peers name each other.
    fn sync_patches(&mut self, name: &str) {
        let Some(state) = self.bridges.get(name) else { return };
        let mut changes = Vec::new();
        for port in state.ports.values() {
            let Device::Patch(now) = port.device else { continue };
            let peer = self.peer_of(&state.config, &port.name);
            if peer != now {
                changes.push((port.of_port, peer));
            }
        }
        for (of_port, peer) in changes {
            let Some(port) = self.bridges.get_mut(name).and_then(|b| b.ports.get_mut(&of_port)) else {
                continue;
            };
            // A patch without peer counts as up, as in OVS: what goes there is dropped.
            port.device = Device::Patch(peer);
            self.stage_port(name, of_port);
        }
    }

    fn peer_of(&self, config: &BridgeConfig, interface: &str) -> Option<PatchPeer> {
        let find = |config: &BridgeConfig, name: &str| {
            let kind = config.ports.values().find_map(|p| p.interfaces.get(name)).map(|i| i.kind.clone());
            match kind {
                Some(InterfaceKind::Patch { peer }) => Some(peer),
                _ => None,
            }
        };
        let peer = find(config, interface)?;
        let (bridge, port) = self.bridges.values().find_map(|b| {
            let port = b.ports.values().find(|p| p.name == peer && matches!(p.device, Device::Patch(_)))?;
            Some((b, port.of_port))
        })?;
        (find(&bridge.config, &peer).as_deref() == Some(interface))
            .then_some(PatchPeer { bridge: bridge.id, port })
    }
}

fn is_bond(port: &PortConfig) -> bool {
    port.interfaces.len() > 1
}

/// A port's carrier as far as forwarding is concerned. What is known of a device in a pod is a moment old: only a controller's
/// setting stops forwarding, and only bonds, which have a choice, look at the carrier.
fn link_of(record: &PortRecord, in_bond: bool) -> Link {
    if record.state.link_up || !in_bond { Link::Up } else { Link::Down }
}

/// Whether a bridge with this configuration starts with the rule that makes it an ordinary switch.
fn learns_by_itself(config: &BridgeConfig) -> bool {
    config.fail_mode == FailMode::Standalone && !config.is_controlled()
}

/// The rules of a learning switch, in an empty store.
fn learning_switch(mut rules: RuleStore, now: Instant) -> RuleStore {
    // One rule is never too many.
    let _ = rules.apply(&crate::ofproto::normal_rule(), now);
    rules
}

/// A locally administered address made from a name: for what has no device that would have one.
fn made_up_mac(seed: HashSeed, name: &str) -> MacAddr {
    let hash = seed.hash(name.bytes().map(u64::from));
    MacAddr(hash & 0x0000_fcff_ffff_ffff | 0x0000_0200_0000_0000)
}

fn bundle_of(state: &BridgeState, port: &PortConfig) -> Option<Bundle> {
    let member = |i: &InterfaceConfig| state.ports.values().find(|p| p.name == i.name).map(|p| p.of_port);
    let mut members: Vec<OfPort> = port.interfaces.values().filter_map(member).collect();
    members.sort_unstable();
    let id = *state.bundles.get(&port.name)?;
    (!members.is_empty()).then(|| Bundle {
        id,
        name: port.name.as_str().into(),
        members,
        vlan: port.vlan.clone(),
        protected: port.protected,
    })
}

impl BridgeState {
    /// How long the bridge waits for a controller before it helps itself; none if it has none to wait for, or is not to.
    fn patience(&self) -> Option<Duration> {
        let config = &self.config;
        let actives = config.controllers.iter().filter(|(target, c)| c.primary && is_active(target));
        let probes =
            actives.map(|(_, c)| c.inactivity_probe).map(|p| if p.is_zero() { PROBE_DEFAULT } else { p });
        let longest = probes.max()?;
        (config.fail_mode == FailMode::Standalone).then_some(longest * FAIL_OPEN_PROBES)
    }

    /// When it helps itself unless a controller comes.
    fn fail_open_at(&self) -> Option<Instant> {
        if self.fail_open.is_some() {
            return None;
        }
        Some(self.abandoned_since? + self.patience()?)
    }

    /// Whether it switches by itself although it has controllers, as none can be reached.
    pub fn has_failed_open(&self) -> bool {
        self.fail_open.is_some()
    }

    /// Number for a new port: LOCAL for the bridge's own, else the requested one, the one it had before, or the next
    /// after the last that was given, so that a number is not soon used for something else: rules may still name it. None
    /// if all are taken.
    fn number_for(&mut self, interface: &InterfaceConfig) -> Option<OfPort> {
        if interface.name == self.config.name {
            return Some(OfPort::LOCAL);
        }
        let free = |p: &OfPort| !self.ports.contains_key(p);
        let requested = interface.ofport_request.map(|r| OfPort(u32::from(r)));
        // A number that somebody requests is kept for who does, also while it is moving or has no device.
        let interfaces = self.config.ports.values().flat_map(|p| p.interfaces.values());
        let claimed: BTreeSet<OfPort> = interfaces
            .filter(|i| i.name != self.config.name)
            .filter_map(|i| i.ofport_request)
            .map(|r| OfPort(r.into()))
            .collect();
        let before = self.numbers.get(&interface.name).copied().filter(|p| !claimed.contains(p));
        if let Some(port) = requested.filter(free).or(before.filter(free)) {
            self.numbers.insert(interface.name.clone(), port);
            return Some(port);
        }
        let reserved: BTreeSet<OfPort> = self.numbers.values().copied().chain(claimed).collect();
        let circle = || (1..=OfPort::MAX.0).map(|n| OfPort((self.number_last + n - 1) % OfPort::MAX.0 + 1));
        let unclaimed = |p: &OfPort| free(p) && !reserved.contains(p);
        let rested = circle().find(|p| unclaimed(p) && !self.numbers_given_up.contains_key(p));
        let port = rested.or_else(|| circle().find(unclaimed)).or_else(|| circle().find(free))?;
        self.number_last = port.0;
        self.numbers.insert(interface.name.clone(), port);
        Some(port)
    }
}
