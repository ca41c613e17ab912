//! One bridge as the datapath sees it: tables, ports, VLANs and settings. Part of a [`crate::forwarding::Forwarding`];
//! changed copy-on-write in [`crate::forwarding::Staging`], whose publication gives each changed part its revision.
//!
//! It holds what forwarding needs and nothing else: controllers, timeouts and statistics of ports belong to the control
//! half.

use crate::forwarding::Epoch;
use crate::mac::{MacAddr, MacKey, MacTable};
use crate::meter::Meters;
use crate::profile::{GroupNeeds, ProfileSet, RuleNeeds};
use crate::tunnel::{SharedCounters, TunnelConfig};
use crate::underlay::NeighbourCache;
use crate::vlan::{VlanConfig, VlanSet};
use base::HashSeed;
use datapath::Revision;
use flowtable::group::Groups;
use flowtable::store::{ActionSummary, RuleStore};
use flowtable::{OfPort, Table, TableId, Tables};
use packet::{DpPort, GeneveMap};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Identity of a bridge. Never used again after the bridge is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BridgeId(pub u32);

/// Identity, within a bridge, of a row of OVSDB's Port table: a logical port of one interface or, if bonded, several. Never
/// used again while the bridge exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId(pub u32);

/// Configuration bits of a port (`ofp_port_config`, OpenFlow 1.0 §5.2.1; the numbers are those of the wire in 1.0, a superset of later ones).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortConfig(pub u32);

impl PortConfig {
    /// Administratively down.
    pub const PORT_DOWN: PortConfig = PortConfig(1 << 0);
    /// Drops what comes in.
    pub const NO_RECV: PortConfig = PortConfig(1 << 2);
    /// Left out when flooding.
    pub const NO_FLOOD: PortConfig = PortConfig(1 << 4);
    /// Sends nothing.
    pub const NO_FWD: PortConfig = PortConfig(1 << 5);
    /// A miss of a frame from here is not told to the controller.
    pub const NO_PACKET_IN: PortConfig = PortConfig(1 << 6);

    /// Whether any bit of `other` is set.
    pub const fn has(self, other: PortConfig) -> bool {
        self.0 & other.0 != 0
    }

    /// With the bits of `other` set or cleared.
    #[must_use]
    pub const fn with(self, other: PortConfig, on: bool) -> PortConfig {
        PortConfig(if on { self.0 | other.0 } else { self.0 & !other.0 })
    }
}

/// Whether the device behind a port has a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Link {
    /// It has.
    #[default]
    Up,
    /// It has not (`OFPPS_LINK_DOWN`).
    Down,
}

/// The other end of a patch port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PatchPeer {
    /// The peer's bridge.
    pub bridge: BridgeId,
    /// The peer's number in it.
    pub port: OfPort,
}

/// What stands behind a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Device {
    /// A port of the datapath.
    Datapath(DpPort),
    /// A tunnel, which shares a port of the datapath with others.
    Tunnel {
        /// The port that it shares.
        socket: DpPort,
        /// What it sends and lets in.
        config: Arc<TunnelConfig>,
    },
    /// A patch to another bridge; `None` while the peer does not exist.
    Patch(Option<PatchPeer>),
}

/// A port of a bridge: what OVSDB calls an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgePort {
    /// Its number.
    pub of_port: OfPort,
    /// Its name.
    pub name: Arc<str>,
    /// Its address.
    pub mac: MacAddr,
    /// Its configuration.
    pub config: PortConfig,
    /// Its carrier, as far as forwarding is concerned: see [`BridgePort::is_up`].
    pub link: Link,
    /// Its carrier as the device has it: what groups watch.
    pub carrier: Link,
    /// What stands behind it.
    pub device: Device,
    /// What went through it, if it is a patch.
    pub counters: SharedCounters,
    /// The logical port that it belongs to.
    pub bundle: BundleId,
}

impl BridgePort {
    /// Whether frames can be sent: link up and not administratively down.
    pub fn is_up(&self) -> bool {
        self.link == Link::Up && !self.config.has(PortConfig::PORT_DOWN)
    }

    /// Whether a group that watches the port takes it for alive.
    pub fn is_live(&self) -> bool {
        self.carrier == Link::Up && !self.config.has(PortConfig::PORT_DOWN)
    }
}

/// A logical port: what OVSDB calls a port. NORMAL thinks in these.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    /// Identity.
    pub id: BundleId,
    /// Name.
    pub name: Arc<str>,
    /// Its members, ascending; a bond has several and sends on the first that is up.
    pub members: Vec<OfPort>,
    /// Its VLANs.
    pub vlan: VlanConfig,
    /// Protected ports do not exchange frames with each other (Port `protected`).
    pub protected: bool,
}

/// What happens to frames that no rule of a table matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissBehaviour {
    /// Dropped.
    #[default]
    Drop,
    /// To the controller, at most this many bytes of each (0xffff: all).
    Controller {
        /// Bytes sent.
        max_len: u16,
    },
    /// On to the next table that exists (OpenFlow 1.1 `OFPTC_TABLE_MISS_CONTINUE`).
    Continue,
}

/// What a bridge does while its controllers are out of reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailMode {
    /// Works as a learning switch.
    #[default]
    Standalone,
    /// Keeps its rules.
    Secure,
}

/// Which parts of a bridge a publication changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Changed {
    /// What the rules look at.
    pub rules: bool,
    /// Ports or bundles.
    pub ports: bool,
    /// Settings.
    pub settings: bool,
}

/// Settings of a bridge that translation reads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// For tables that `table_miss` does not name.
    pub miss: MissBehaviour,
    /// Tables with a behaviour of their own.
    pub table_miss: BTreeMap<TableId, MissBehaviour>,
    /// What to do without a controller.
    pub fail_mode: FailMode,
    /// Whether NORMAL forwards frames to reserved addresses (`forward-bpdu`).
    pub forward_bpdu: bool,
    /// VLANs without learning (`flood_vlans`).
    pub flood_vlans: VlanSet,
    /// How rules see fragments of IP packets.
    pub fragments: Fragments,
    /// Which Geneve options `tun_metadata` stands for (`add-tlv-map` of ovs-ofctl(8)). Maps of two bridges never contradict
    /// each other.
    pub geneve_map: GeneveMap,
}

/// How rules see fragments of IP packets (`set-frags` of ovs-ofctl(8)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fragments {
    /// Without transport ports, also the first ones, which have them.
    #[default]
    Normal,
    /// Not at all: they are dropped.
    Drop,
    /// As they are: the first ones with their ports.
    NxMatch,
}

/// Revisions by the low 16 bits of numbers, which is what a dependency can name.
#[derive(Clone, Debug, Default)]
struct PartRevisions {
    groups: BTreeMap<u16, Revision>,
    meters: BTreeMap<u16, Revision>,
}

/// Ports and logical ports by number.
#[derive(Clone, Debug, Default)]
struct PortSet {
    ports: BTreeMap<OfPort, BridgePort>,
    bundles: BTreeMap<BundleId, Bundle>,
}

/// One bridge of a snapshot. Cloning shares tables and ports.
#[derive(Clone)]
pub struct Bridge {
    id: BridgeId,
    name: Arc<str>,
    /// Address of the bridge (`hwaddr`).
    pub hw_mac: MacAddr,
    tables: Tables,
    groups: Groups,
    meters: Meters,
    /// When groups and meters last changed.
    revisions: Arc<PartRevisions>,
    /// What the groups look at.
    group_needs: Arc<GroupNeeds>,
    /// Whether `rule_needs` does not know the newest `group_needs` yet.
    needs_stale: bool,
    /// What the rules and groups look at.
    pub(crate) rule_needs: Arc<RuleNeeds>,
    ports: Arc<PortSet>,
    settings: Arc<Settings>,
    settings_revision: Revision,
    mac: Arc<MacTable>,
    neighbours: Arc<NeighbourCache>,
    pub(crate) profiles: Arc<ProfileSet>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("ports", &self.ports)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    pub(crate) fn new(
        id: BridgeId,
        name: &str,
        seed: HashSeed,
        epoch: Arc<Epoch>,
        neighbours: Arc<NeighbourCache>,
    ) -> Bridge {
        Bridge {
            id,
            name: name.into(),
            hw_mac: MacAddr(0),
            tables: Tables::new(seed),
            groups: Groups::default(),
            meters: Meters::default(),
            revisions: Arc::default(),
            group_needs: Arc::default(),
            needs_stale: false,
            rule_needs: Arc::default(),
            ports: Arc::default(),
            settings: Arc::default(),
            settings_revision: Revision(0),
            mac: Arc::new(MacTable::new(id, epoch)),
            neighbours,
            profiles: Arc::default(),
        }
    }

    /// Stamps what differs from `before`, the bridge as it was last published, with `now`. Says what differs.
    pub(crate) fn stamp(&mut self, before: Option<&Bridge>, now: Revision) -> Changed {
        let Some(before) = before else {
            self.settings_revision = now;
            return Changed { rules: true, ports: true, settings: true };
        };
        // `before` is alive, so a part that was changed since is another object and not the same one changed in place.
        let ports = !Arc::ptr_eq(&self.ports, &before.ports);
        let settings = !Arc::ptr_eq(&self.settings, &before.settings);
        if ports || settings {
            self.settings_revision = now;
        }
        Changed { rules: !Arc::ptr_eq(&self.rule_needs, &before.rule_needs), ports, settings }
    }

    /// The tables of a store that differ from those here.
    pub(crate) fn changed_tables(&self, rules: &RuleStore) -> Vec<TableId> {
        let differs = |t: &&Arc<Table>| !self.tables.get(t.id).is_some_and(|b| Arc::ptr_eq(b, t));
        rules.tables().iter().filter(differs).map(|t| t.id).collect()
    }

    /// Takes over the rules of a store, stamping the tables that changed.
    pub(crate) fn set_rules(&mut self, rules: &mut RuleStore, changed: &[TableId], now: Revision) {
        changed.iter().for_each(|id| rules.set_revision(*id, now.0));
        self.tables = rules.tables().clone();
        let needs = RuleNeeds::of(rules, &self.group_needs.summary());
        if needs != *self.rule_needs {
            self.rule_needs = Arc::new(needs);
        }
        self.needs_stale = false;
    }

    /// Whether the rules have to be looked at again, as groups look at something else now.
    pub(crate) fn needs_stale(&self) -> bool {
        self.needs_stale
    }

    /// Takes over groups, stamping those that changed.
    pub(crate) fn set_groups(&mut self, groups: &Groups, now: Revision) {
        let changed = groups.differing(&self.groups);
        let (revisions, needs) = (Arc::make_mut(&mut self.revisions), Arc::make_mut(&mut self.group_needs));
        for id in changed {
            revisions.groups.insert(id.0 as u16, now);
            needs.replace(self.groups.get(id).map(|g| &**g), groups.get(id).map(|g| &**g));
        }
        self.groups = groups.clone();
        self.needs_stale = true;
    }

    /// Takes over meters, stamping those that changed.
    pub(crate) fn set_meters(&mut self, meters: &Meters, now: Revision) {
        let changed = meters.differing(&self.meters);
        let revisions = Arc::make_mut(&mut self.revisions);
        revisions.meters.extend(changed.into_iter().map(|id| (id.0 as u16, now)));
        self.meters = meters.clone();
    }

    /// The groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The meters.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// When one of the groups whose numbers end in these bits last changed.
    pub(crate) fn group_revision(&self, low: u16) -> Revision {
        self.revisions.groups.get(&low).copied().unwrap_or(Revision(0))
    }

    /// When one of the meters whose numbers end in these bits last changed.
    pub(crate) fn meter_revision(&self, low: u16) -> Revision {
        self.revisions.meters.get(&low).copied().unwrap_or(Revision(0))
    }

    /// Identity.
    pub fn id(&self) -> BridgeId {
        self.id
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MAC table, shared by all snapshots.
    pub fn mac(&self) -> &Arc<MacTable> {
        &self.mac
    }

    /// The neighbour cache, shared by all snapshots.
    pub fn neighbours(&self) -> &Arc<NeighbourCache> {
        &self.neighbours
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// A table; `None` for [`TableId::ALL`].
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(id)
    }

    /// When a table last changed.
    pub fn table_revision(&self, id: TableId) -> Revision {
        Revision(self.tables.get(id).map_or(0, |t| t.revision))
    }

    /// Revision of ports, VLANs and settings together.
    pub fn settings_revision(&self) -> Revision {
        self.settings_revision
    }

    /// A port.
    pub fn port(&self, of_port: OfPort) -> Option<&BridgePort> {
        self.ports.ports.get(&of_port)
    }

    /// A port by name.
    pub fn port_by_name(&self, name: &str) -> Option<&BridgePort> {
        self.ports.ports.values().find(|p| &*p.name == name)
    }

    /// The ports, by number.
    pub fn ports(&self) -> impl Iterator<Item = &BridgePort> {
        self.ports.ports.values()
    }

    /// A logical port.
    pub fn bundle(&self, id: BundleId) -> Option<&Bundle> {
        self.ports.bundles.get(&id)
    }

    /// The logical port that a port belongs to.
    pub fn bundle_of(&self, of_port: OfPort) -> Option<&Bundle> {
        self.bundle(self.port(of_port)?.bundle)
    }

    /// The logical ports.
    pub fn bundles(&self) -> impl Iterator<Item = &Bundle> {
        self.ports.bundles.values()
    }

    /// The port that a logical port sends on: its first member that is up, else its first.
    pub fn egress_of(&self, bundle: &Bundle) -> Option<&BridgePort> {
        let members = || bundle.members.iter().filter_map(|m| self.port(*m));
        members().find(|p| p.is_up()).or_else(|| members().next())
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings, to be changed.
    pub fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    /// What a miss in a table does.
    pub fn miss_of(&self, table: TableId) -> MissBehaviour {
        self.settings.table_miss.get(&table).copied().unwrap_or(self.settings.miss)
    }

    /// Whether a miss may go on to the next table.
    pub(crate) fn continues_on_miss(&self) -> bool {
        let default = std::iter::once(&self.settings.miss);
        default.chain(self.settings.table_miss.values()).any(|m| *m == MissBehaviour::Continue)
    }

    /// Whether the profiles know what a list of actions looks at.
    pub(crate) fn needs_cover(&self, actions: &ActionSummary) -> bool {
        self.rule_needs.covers(actions, self.continues_on_miss())
    }

    fn ports_mut(&mut self) -> &mut PortSet {
        Arc::make_mut(&mut self.ports)
    }

    /// Adds a port, or replaces the one with its number. Its bundle should exist; NORMAL refuses frames of ports without.
    pub fn put_port(&mut self, port: BridgePort) {
        self.ports_mut().ports.insert(port.of_port, port);
    }

    /// A port, to be changed (but for its number).
    pub fn port_mut(&mut self, of_port: OfPort) -> Option<&mut BridgePort> {
        self.ports_mut().ports.get_mut(&of_port)
    }

    /// Removes a port, also from its bundle.
    pub fn remove_port(&mut self, of_port: OfPort) -> Option<BridgePort> {
        let set = self.ports_mut();
        let port = set.ports.remove(&of_port)?;
        if let Some(bundle) = set.bundles.get_mut(&port.bundle) {
            bundle.members.retain(|m| *m != of_port);
        }
        Some(port)
    }

    /// Adds a logical port, or replaces the one with its id. A change of VLANs, or of protection, forgets its stations, static
    /// ones too, as their VLANs may no longer be right.
    pub fn put_bundle(&mut self, bundle: Bundle) {
        let id = bundle.id;
        let before = self.ports_mut().bundles.insert(id, bundle);
        let differs = |b: &Bundle, now: &Bundle| (&now.vlan, now.protected) != (&b.vlan, b.protected);
        if before.is_some_and(|b| self.bundle(id).is_some_and(|now| differs(&b, now))) {
            self.mac.forget_port(id);
        }
    }

    /// Removes a logical port and forgets its stations; which it had. Its members must have been removed or moved.
    pub fn remove_bundle(&mut self, id: BundleId) -> Vec<MacKey> {
        self.ports_mut().bundles.remove(&id);
        self.mac.forget_port(id)
    }

    /// The first port of a logical port, as fdb/show names it.
    pub fn port_text(&self, bundle: BundleId) -> String {
        let port = self.bundle(bundle).and_then(|b| b.members.first().copied());
        port.map_or_else(|| "?".to_owned(), |p| p.to_string())
    }

    /// fdb/show.
    pub fn mac_text(&self, now: base::Instant) -> String {
        use fmt::Write;
        let mut text = String::from(" port  VLAN  MAC                Age\n");
        for e in self.mac.dump() {
            let port = self.port_text(e.bundle);
            let age = match e.is_static {
                true => "static".to_owned(),
                false => format!("{:3}", now.saturating_since(e.last_used()).as_secs()),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{port:>5}  {:>4}  {}  {age}", e.key.vlan, e.key.mac);
        }
        text
    }
}
