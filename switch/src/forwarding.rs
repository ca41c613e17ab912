//! The snapshot that the datapath works from, and how the brain makes the next one.
//!
//! A [`Forwarding`] never changes. The brain changes a [`Staging`], a copy-on-write twin, and publishes it: that stamps
//! what differs from the snapshot before with a new revision, finds the profiles, and gives an `Arc` to hand to the
//! workers. A transaction is a clone of the staging that is kept or dropped. What is learned rather than configured (MAC
//! tables, recirculation ids) is shared by all snapshots.
//!
//! **Revisions.** A snapshot's revision is the sum of its own number and the epoch, a counter of changes to learned state.
//! Neither goes back, so for an observer of successive snapshots the sum stands still only if both do; a worker that still
//! holds the old snapshot cannot stamp a flow with the new one's number.

use crate::bridge::{Bridge, BridgeId, BundleId, Device, PortConfig};
use crate::mac::{BUCKET_COUNT, MacAddr, MacKey};
use crate::meter::Meters;
use crate::profile::{ProfileInterner, ProfileSet, Surroundings, class_of};
use crate::recirc::RecircTable;
use crate::translate::{self, TranslationRoom};
use crate::tunnel::map::Outer;
use crate::tunnel::{Host, HostPort, TunnelMap, TunnelPort};
use crate::underlay::Neighbours;
use base::{HashSeed, Instant};
use datapath::{
    Deps, Domain, Draft, Drop, FrameClass, Profile, Revision, SlowPath, Translation, Upcall, UpcallCookie,
};
use flowtable::group::Groups;
use flowtable::store::RuleStore;
use flowtable::{GroupId, MeterId, OfAction, OfPort, PacketInReason, PipelineKey, TableId};
use packet::{DpPort, Frame, GeneveMap, PacketKey};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Highest datapath port number that a bridge port may have.
pub const DP_PORT_MAX: u32 = 65_535;

/// Counts changes to learned state, over all bridges.
#[derive(Debug, Default)]
pub struct Epoch(AtomicU64);

impl Epoch {
    /// Changes so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Notes a change, after it has been made visible.
    pub fn bump(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

// A domain is a bridge (high 32 bits), a kind and an index.
const KIND_TABLE: u64 = 0;
const KIND_SETTINGS: u64 = 1;
const KIND_MAC: u64 = 2;
const KIND_RECIRC: u64 = 3;
const KIND_BRIDGES: u64 = 4;
const KIND_HOST: u64 = 5;
const KIND_NEIGHBOUR: u64 = 6;
const KIND_GROUP: u64 = 7;
const KIND_METER: u64 = 8;

const fn domain(bridge: BridgeId, kind: u64, index: u64) -> Domain {
    Domain((bridge.0 as u64) << 32 | kind << 16 | index)
}

/// The rules of a table.
pub(crate) const fn table_domain(bridge: BridgeId, table: TableId) -> Domain {
    domain(bridge, KIND_TABLE, table.0 as u64)
}

/// Ports, VLANs and settings of a bridge.
pub(crate) const fn settings_domain(bridge: BridgeId) -> Domain {
    domain(bridge, KIND_SETTINGS, 0)
}

/// A bucket of a MAC table.
pub(crate) const fn mac_domain(bridge: BridgeId, bucket: usize) -> Domain {
    domain(bridge, KIND_MAC, bucket as u64)
}

/// A group, and those whose numbers have the same low 16 bits.
pub(crate) const fn group_domain(bridge: BridgeId, group: GroupId) -> Domain {
    domain(bridge, KIND_GROUP, group.0 as u64 & 0xffff)
}

/// A meter, and those whose numbers have the same low 16 bits.
pub(crate) const fn meter_domain(bridge: BridgeId, meter: MeterId) -> Domain {
    domain(bridge, KIND_METER, meter.0 as u64 & 0xffff)
}

/// The recirculation ids.
pub(crate) const RECIRC_DOMAIN: Domain = domain(BridgeId(0), KIND_RECIRC, 0);

/// Which bridges there are, and which bridge has which datapath port.
pub(crate) const BRIDGES_DOMAIN: Domain = domain(BridgeId(0), KIND_BRIDGES, 0);

/// Routes of the host, and which of its devices are ports of bridges.
pub(crate) const HOST_DOMAIN: Domain = domain(BridgeId(0), KIND_HOST, 0);

/// The neighbours of a bridge.
pub(crate) const fn neighbour_domain(bridge: BridgeId) -> Domain {
    domain(bridge, KIND_NEIGHBOUR, 0)
}

/// What sent a frame to the controller, beside the reason that is on the wire in every version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketInCause {
    /// No rule: the table's miss behaviour. OpenFlow 1.3 and later do not tell controllers of these unless asked to.
    NoRule,
    /// An action of a table-miss rule (priority 0, matching everything): OpenFlow 1.3 and later give `NO_MATCH` as reason.
    MissRule,
    /// An action of another rule or of a packet-out.
    Action,
}

/// What travels with a frame for a controller: the content of an [`UpcallCookie`] of this crate's programs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PacketIn {
    /// The bridge whose controllers get it.
    pub bridge: BridgeId,
    /// Why.
    pub reason: PacketInReason,
    /// Why, in more detail.
    pub cause: PacketInCause,
    /// The table of the rule that sent it.
    pub table: TableId,
    /// The rule's cookie; all ones (`u64::MAX`) for a table miss.
    pub cookie: u64,
    /// Connections with this id get it.
    pub controller_id: u16,
    /// Bytes wanted, 0xffff for all.
    pub max_len: u16,
    /// Opaque bytes to return.
    pub userdata: Box<[u8]>,
    /// The in_port as the bridge's rules see it.
    pub in_port: OfPort,
    /// Metadata and registers at that point.
    pub pipeline: PipelineKey,
}

/// A copy of a frame on its way to controllers.
#[derive(Debug)]
pub struct Punted {
    /// Its bytes, cut to what was asked for.
    pub bytes: Vec<u8>,
    /// Its full length.
    pub total_len: usize,
    /// Its key.
    pub key: PacketKey,
    /// Who wants it and why.
    pub packet_in: Arc<PacketIn>,
}

/// Where copies of frames for controllers go: a bounded queue of the shell's.
pub trait PuntSink: Send + Sync {
    /// Takes a copy. Must not block.
    ///
    /// # Errors
    /// `Drop::UpcallFull` if there is no room.
    fn punt(&self, punted: Punted) -> Result<(), Drop>;

    /// Somebody is to ask for a neighbour. Must not block; what is lost is asked for again by later traffic.
    fn solicit(&self, _solicitation: Solicitation) {}
}

/// A neighbour to be asked for: an ARP request or neighbour solicitation is to leave a bridge as if the host behind one of
/// its ports had sent it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Solicitation {
    /// The port of the bridge.
    pub port: HostPort,
    /// An address of the host, from which to ask.
    pub source: IpAddr,
    /// The neighbour.
    pub target: IpAddr,
}

/// A sink for bridges without controllers: whatever is punted is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPunt;

impl PuntSink for NoPunt {
    fn punt(&self, _punted: Punted) -> Result<(), Drop> {
        Err(Drop::UpcallFull)
    }
}

/// A side effect of a translation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// A station was seen.
    Learn {
        /// In this bridge.
        bridge: BridgeId,
        /// With this address in this VLAN.
        key: MacKey,
        /// On this port.
        bundle: BundleId,
    },
    /// A neighbour told its address.
    Neighbour {
        /// On this bridge.
        bridge: BridgeId,
        /// Its address on the network.
        ip: IpAddr,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// A neighbour is not known.
    Solicit(Solicitation),
}

/// What all snapshots share.
pub(crate) struct Shared {
    pub epoch: Arc<Epoch>,
    pub recirc: RecircTable,
    pub profiles: ProfileInterner,
    pub neighbours: Arc<Neighbours>,
    sink: Box<dyn PuntSink>,
    seed: HashSeed,
}

/// Which bridge and port a datapath port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Home {
    /// Index of the bridge in its snapshot.
    bridge: u32,
    pub of_port: OfPort,
    no_receive: bool,
}

/// The configuration of the whole switch as the datapath sees it.
#[derive(Clone)]
pub struct Forwarding {
    number: u64,
    /// By id.
    bridges: Vec<Arc<Bridge>>,
    /// By datapath port.
    homes: Arc<[Option<Home>]>,
    homes_revision: Revision,
    geneve_map: Arc<GeneveMap>,
    tunnels: Arc<TunnelMap>,
    /// Of frames out of tunnels, whichever.
    tunnel_profiles: Arc<ProfileSet>,
    host: Arc<Host>,
    host_revision: Revision,
    shared: Arc<Shared>,
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("number", &self.number)
            .field("bridges", &self.bridges)
            .finish_non_exhaustive()
    }
}

impl Forwarding {
    /// The bridges, by id.
    pub fn bridges(&self) -> impl Iterator<Item = &Arc<Bridge>> {
        self.bridges.iter()
    }

    /// A bridge.
    pub fn bridge(&self, id: BridgeId) -> Option<&Arc<Bridge>> {
        let i = self.bridges.binary_search_by_key(&id, |b| b.id()).ok()?;
        self.bridges.get(i)
    }

    /// A bridge by name.
    pub fn bridge_by_name(&self, name: &str) -> Option<&Arc<Bridge>> {
        self.bridges.iter().find(|b| b.name() == name)
    }

    /// The bridge that has a datapath port, and the port's number there.
    pub fn home_of(&self, port: DpPort) -> Option<(&Arc<Bridge>, OfPort)> {
        let home = self.home(port)?;
        Some((self.bridges.get(home.bridge as usize)?, home.of_port))
    }

    /// The Geneve options of all bridges: what is read of a frame that leaves its tunnel.
    pub fn geneve_map(&self) -> &GeneveMap {
        &self.geneve_map
    }

    /// The bridge and port that a frame with this key came in on: as [`Forwarding::home_of`], and for a frame out of a
    /// tunnel the tunnel interface.
    pub fn home_of_key(&self, key: &PacketKey) -> Option<(&Arc<Bridge>, OfPort)> {
        match self.tunnels.socket(key.in_port()) {
            None => self.home_of(key.in_port()),
            Some(socket) => {
                let port = self.tunnels.find(socket, &Outer::of(key)?)?;
                Some((self.bridge(port.bridge)?, port.of_port))
            }
        }
    }

    /// The tunnel interfaces.
    pub fn tunnels(&self) -> &TunnelMap {
        &self.tunnels
    }

    /// What is known of the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The neighbours of all bridges, shared by all snapshots.
    pub fn neighbours(&self) -> &Arc<Neighbours> {
        &self.shared.neighbours
    }

    /// The datapath port behind a port of a bridge, which tunnels share; none for patch ports.
    pub fn dp_port_of(&self, bridge: BridgeId, of_port: OfPort) -> Option<DpPort> {
        match self.bridge(bridge)?.port(of_port)?.device {
            Device::Datapath(port) => Some(port),
            Device::Tunnel { socket, .. } => Some(socket),
            Device::Patch(_) => None,
        }
    }

    /// Runs a list of actions instead of tables: a packet-out. `key` is the frame's, `in_port` what the controller says
    /// it came in on. Not for caching.
    pub fn translate_actions(
        &self,
        bridge: BridgeId,
        in_port: OfPort,
        key: &PacketKey,
        actions: Arc<[OfAction]>,
    ) -> Translation<Effect> {
        translate::translate_actions(self, bridge, in_port, key, actions)
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn home(&self, port: DpPort) -> Option<&Home> {
        self.homes.get(port.0 as usize)?.as_ref()
    }

    /// Revision of a domain now; `Revision(u64::MAX)`, which nothing has, for a domain that is gone.
    pub(crate) fn revision_of(&self, domain: Domain) -> Revision {
        let (bridge, kind, index) =
            (BridgeId((domain.0 >> 32) as u32), domain.0 >> 16 & 0xffff, domain.0 & 0xffff);
        match kind {
            KIND_RECIRC => self.shared.recirc.revision(),
            KIND_BRIDGES => self.homes_revision,
            KIND_HOST => self.host_revision,
            _ => self.bridge(bridge).map_or(Revision(u64::MAX), |b| match kind {
                KIND_TABLE => b.table_revision(TableId(index as u8)),
                KIND_SETTINGS => b.settings_revision(),
                KIND_GROUP => b.group_revision(index as u16),
                KIND_METER => b.meter_revision(index as u16),
                KIND_NEIGHBOUR => b.neighbours().revision(),
                KIND_MAC if (index as usize) < BUCKET_COUNT => b.mac().bucket_revision(index as usize),
                _ => Revision(u64::MAX),
            }),
        }
    }
}

impl SlowPath for Forwarding {
    type Effect = Effect;
    type Room = TranslationRoom;

    fn revision(&self) -> Revision {
        Revision(self.number.wrapping_add(self.shared.epoch.get()))
    }

    fn profile(&self, class: FrameClass) -> Result<&Profile, Drop> {
        if self.tunnels.socket(class.port).is_some() {
            return self.tunnel_profiles.get(class_of(class.dl_type), class.stage).ok_or(Drop::NoBridge);
        }
        let home = self.home(class.port).ok_or(Drop::NoBridge)?;
        if home.no_receive {
            return Err(Drop::PortNoReceive);
        }
        let bridge = self.bridges.get(home.bridge as usize).ok_or(Drop::NoBridge)?;
        bridge.profiles.get(class_of(class.dl_type), class.stage).ok_or(Drop::NoBridge)
    }

    fn translate(&self, upcall: &Upcall<'_>) -> Translation<Effect> {
        self.translate_in(upcall, &mut TranslationRoom::default(), |draft| draft.keep())
    }

    fn translate_in<R>(
        &self,
        upcall: &Upcall<'_>,
        room: &mut TranslationRoom,
        take: impl FnOnce(Draft<'_, Effect>) -> R,
    ) -> R {
        translate::translate(self, upcall.key, room, take)
    }

    fn commit(&self, effects: &[Effect], now: Instant) {
        for effect in effects {
            match effect {
                Effect::Learn { bridge, key, bundle } => {
                    if let Some(bridge) = self.bridge(*bridge) {
                        bridge.mac().learn(*key, *bundle, now);
                    }
                }
                Effect::Neighbour { bridge, ip, mac } => {
                    if let Some(bridge) = self.bridge(*bridge) {
                        bridge.neighbours().learn(*ip, *mac, now);
                    }
                }
                Effect::Solicit(solicitation) => {
                    let bridge = self.bridge(solicitation.port.bridge);
                    if bridge.is_some_and(|b| b.neighbours().may_solicit(solicitation.target, now)) {
                        self.shared.sink.solicit(*solicitation);
                    }
                }
            }
        }
    }

    fn geneve_map(&self) -> &GeneveMap {
        &self.geneve_map
    }

    fn still_valid(&self, deps: &Deps) -> bool {
        deps.0.iter().all(|(domain, revision)| self.revision_of(*domain) == *revision)
    }

    fn punt(
        &self,
        frame: &Frame,
        total_len: usize,
        key: &PacketKey,
        cookie: &UpcallCookie,
    ) -> Result<(), Drop> {
        let packet_in = Arc::clone(cookie).downcast::<PacketIn>().map_err(|_| Drop::UpcallFull)?;
        self.shared.sink.punt(Punted { bytes: frame.bytes().to_vec(), total_len, key: *key, packet_in })
    }
}

/// The configuration while it is being changed. See the module's text.
#[derive(Clone)]
pub struct Staging {
    next: Forwarding,
    published: Arc<Forwarding>,
    bridge_next: u32,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.next, f)
    }
}

impl Staging {
    /// No bridges. `seed` keys the hash tables; `sink` gets frames for controllers.
    pub fn new(seed: HashSeed, sink: Box<dyn PuntSink>) -> Staging {
        let epoch = Arc::new(Epoch::default());
        let neighbours = Arc::new(Neighbours::new(Arc::clone(&epoch)));
        let shared = Shared {
            recirc: RecircTable::new(Arc::clone(&epoch)),
            epoch,
            profiles: ProfileInterner::default(),
            neighbours,
            sink,
            seed,
        };
        let empty = Forwarding {
            number: 1,
            bridges: Vec::new(),
            homes: Arc::default(),
            homes_revision: Revision(1),
            geneve_map: Arc::default(),
            tunnels: Arc::default(),
            tunnel_profiles: Arc::default(),
            host: Arc::default(),
            host_revision: Revision(1),
            shared: Arc::new(shared),
        };
        let next = Forwarding { number: 2, ..empty.clone() };
        Staging { next, published: Arc::new(empty), bridge_next: 1 }
    }

    /// The configuration as it stands, published or not. Good for looking things up; translating with it is not, as
    /// revisions and profiles are those of the last publication.
    pub fn forwarding(&self) -> &Forwarding {
        &self.next
    }

    /// The last snapshot that was published.
    pub fn published(&self) -> &Arc<Forwarding> {
        &self.published
    }

    /// A new bridge with empty tables and no port.
    pub fn add_bridge(&mut self, name: &str) -> BridgeId {
        let id = BridgeId(self.bridge_next);
        self.bridge_next += 1;
        let shared = &self.next.shared;
        let neighbours = shared.neighbours.of(name);
        let bridge = Bridge::new(id, name, shared.seed, Arc::clone(&shared.epoch), neighbours);
        self.next.bridges.push(Arc::new(bridge));
        id
    }

    /// Removes a bridge; whether it was there.
    pub fn remove_bridge(&mut self, id: BridgeId) -> bool {
        let before = self.next.bridges.len();
        if let Some(bridge) = self.next.bridge(id) {
            self.next.shared.neighbours.forget(bridge.name());
            let stations: Vec<MacKey> = bridge.mac().dump().iter().map(|e| e.key).collect();
            self.forget_elsewhere(id, &stations);
        }
        self.next.bridges.retain(|b| b.id() != id);
        before != self.next.bridges.len()
    }

    /// Removes a logical port of a bridge. Its stations are forgotten by all bridges: others know them behind a patch port, and
    /// one that has moved to another bridge, or host, may be silent there.
    pub fn remove_bundle(&mut self, id: BridgeId, bundle: BundleId) {
        if let Some(bridge) = self.bridge_mut(id) {
            let stations = bridge.remove_bundle(bundle);
            self.forget_elsewhere(id, &stations);
        }
    }

    fn forget_elsewhere(&self, id: BridgeId, stations: &[MacKey]) {
        if !stations.is_empty() {
            self.next.bridges.iter().filter(|b| b.id() != id).for_each(|b| b.mac().forget(stations));
        }
    }

    /// A bridge.
    pub fn bridge(&self, id: BridgeId) -> Option<&Bridge> {
        self.next.bridge(id).map(|b| &**b)
    }

    /// A bridge, to be changed. Copies the bridge's frame (some pointers) if the published snapshot shares it.
    pub fn bridge_mut(&mut self, id: BridgeId) -> Option<&mut Bridge> {
        let i = self.next.bridges.binary_search_by_key(&id, |b| b.id()).ok()?;
        self.next.bridges.get_mut(i).map(Arc::make_mut)
    }

    /// An empty rule store, as a bridge's owner keeps one beside the staging.
    pub fn new_rules(&self) -> RuleStore {
        RuleStore::new(self.next.shared.seed, crate::profile::summarize)
    }

    /// Takes over the rules of a bridge from its store, and marks the tables that changed with the revision of the next
    /// publication. Costs some hundred comparisons, so it is called once before publishing, not once a flow_mod.
    pub fn set_rules(&mut self, id: BridgeId, rules: &mut RuleStore) {
        let now = Revision(self.next.number);
        let changed = self.bridge(id).map(|b| b.changed_tables(rules)).unwrap_or_default();
        let stale = self.bridge(id).is_some_and(Bridge::needs_stale);
        if (stale || !changed.is_empty())
            && let Some(bridge) = self.bridge_mut(id)
        {
            bridge.set_rules(rules, &changed, now);
        }
    }

    /// Takes over the groups of a bridge. [`Staging::set_rules`] must follow, as groups decide with the rules what the
    /// profiles are.
    pub fn set_groups(&mut self, id: BridgeId, groups: &Groups) {
        let now = Revision(self.next.number);
        if self.bridge(id).is_some_and(|b| !b.groups().is_same(groups))
            && let Some(bridge) = self.bridge_mut(id)
        {
            bridge.set_groups(groups, now);
        }
    }

    /// Takes over the meters of a bridge.
    pub fn set_meters(&mut self, id: BridgeId, meters: &Meters) {
        let now = Revision(self.next.number);
        if self.bridge(id).is_some_and(|b| !b.meters().is_same(meters))
            && let Some(bridge) = self.bridge_mut(id)
        {
            bridge.set_meters(meters, now);
        }
    }

    /// Sets what is known of the host.
    pub fn set_host(&mut self, host: Host) {
        if host != *self.next.host {
            self.next.host = Arc::new(host);
        }
    }

    /// Whether anything was touched since the last publication.
    pub fn is_dirty(&self) -> bool {
        if !Arc::ptr_eq(&self.next.host, &self.published.host) {
            return true;
        }
        let (next, now) = (&self.next.bridges, &self.published.bridges);
        next.len() != now.len() || next.iter().zip(now).any(|(a, b)| !Arc::ptr_eq(a, b))
    }

    /// Makes the snapshot of the configuration as it stands. Without a change it is the one that is out already.
    pub fn publish(&mut self) -> Arc<Forwarding> {
        if !self.is_dirty() {
            return Arc::clone(&self.published);
        }
        let stamp = Revision(self.next.number);
        let mut set_changed = self.next.bridges.len() != self.published.bridges.len();
        let mut profiles_stale = false;
        let mut settings_changed = set_changed;
        for bridge in &mut self.next.bridges {
            let before = self.published.bridge(bridge.id());
            if before.is_some_and(|b| Arc::ptr_eq(b, bridge)) {
                continue;
            }
            let changed = Arc::make_mut(bridge).stamp(before.map(|b| &**b), stamp);
            set_changed |= changed.ports || before.is_none();
            settings_changed |= changed.settings;
            profiles_stale |= changed.rules || changed.ports || changed.settings;
        }
        if set_changed {
            self.next.homes = homes(&self.next.bridges);
            self.next.tunnels = Arc::new(tunnels(&self.next.bridges, &self.published.tunnels));
            self.next.homes_revision = stamp;
        }
        if settings_changed {
            self.next.geneve_map = geneve_map(&self.next.bridges);
        }
        if !Arc::ptr_eq(&self.next.host, &self.published.host) {
            self.next.host_revision = stamp;
            profiles_stale = true;
        }
        if profiles_stale || set_changed {
            let Forwarding { bridges, tunnels, host, shared, tunnel_profiles, .. } = &mut self.next;
            let surroundings = Surroundings { tunnels, host };
            crate::profile::refresh(bridges, &surroundings, &shared.profiles);
            crate::profile::refresh_tunnels(tunnel_profiles, bridges, &surroundings, &shared.profiles);
        }
        self.published = Arc::new(self.next.clone());
        self.next.number += 1;
        Arc::clone(&self.published)
    }
}

/// What the bridges' maps say together.
fn geneve_map(bridges: &[Arc<Bridge>]) -> Arc<GeneveMap> {
    let mut all = GeneveMap::default();
    for (index, option) in bridges.iter().flat_map(|b| b.settings().geneve_map.iter()) {
        // Refused only where another bridge maps it too, which then means the same.
        let _ = all.insert(index, option);
    }
    Arc::new(all)
}

/// The tunnel interfaces of all bridges; those that were there before go on counting.
fn tunnels(bridges: &[Arc<Bridge>], before: &TunnelMap) -> TunnelMap {
    let mut map = TunnelMap::default();
    for bridge in bridges {
        for port in bridge.ports() {
            if let Device::Tunnel { socket, config } = &port.device {
                map.insert(config, *socket, TunnelPort { bridge: bridge.id(), of_port: port.of_port });
                map.count(&port.name, before);
            }
        }
    }
    map
}

/// The table of datapath ports. Numbers beyond [`DP_PORT_MAX`] are left out: their frames are dropped as `NoBridge`.
fn homes(bridges: &[Arc<Bridge>]) -> Arc<[Option<Home>]> {
    let mut homes = Vec::new();
    for (i, bridge) in bridges.iter().enumerate() {
        for port in bridge.ports() {
            let Device::Datapath(DpPort(n @ 0..=DP_PORT_MAX)) = port.device else { continue };
            if homes.len() <= n as usize {
                homes.resize(n as usize + 1, None);
            }
            let no_receive = port.config.has(PortConfig(PortConfig::NO_RECV.0 | PortConfig::PORT_DOWN.0));
            if let Some(slot) = homes.get_mut(n as usize) {
                *slot = Some(Home { bridge: i as u32, of_port: port.of_port, no_receive });
            }
        }
    }
    homes.into()
}
