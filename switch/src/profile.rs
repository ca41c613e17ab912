//! Profiles: which bits of a frame the configuration can look at. See `ARCHITECTURE.md` on why the flow cache is keyed on
//! these and not on what single frames happened to touch.
//!
//! A profile is found when a snapshot is published, per bridge and class of EtherType, from what the rule store keeps about
//! each table: the union of its masks, and the union of [`summarize`] over its rules. So it costs by the number of tables
//! that frames can reach, not of rules.
//!
//! A written field counts as looked at: whether writing it changes the frame depends on what stands there.

use crate::bridge::{Bridge, BridgeId, BridgePort, Device};
use crate::tunnel::{Host, Octet, TunnelConfig, TunnelKind, TunnelMap};
use crate::vlan::VlanMode;
use datapath::{Profile, ProfileId, Stage};
use flowtable::field::Prereq;
use flowtable::group::Group;
use flowtable::store::{ActionSummary, RuleStore, TableIdSet};
use flowtable::{CtAction, FieldId, FlowKey, Mask, OfAction, OfPort, SubField, TableId, ZoneSource};
use packet::PacketKey;
use packet::key::{Slot, TUN_METADATA, TUN_OAM, VLAN_PRESENT, slot};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Profiles remembered so that equal masks keep their id; beyond, all are forgotten and later ones get new ids.
const INTERNED_MAX: usize = 4_096;

/// Kinds of frames that have header fields of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EtherClass {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// ARP and RARP.
    Arp,
    /// MPLS.
    Mpls,
    /// Anything else.
    Other,
}

impl EtherClass {
    /// Every class, in the order of their numbers.
    pub const ALL: [EtherClass; 5] =
        [EtherClass::Ipv4, EtherClass::Ipv6, EtherClass::Arp, EtherClass::Mpls, EtherClass::Other];

    /// The slots that only frames of some classes have, with those classes' keys never zero elsewhere. Slots that are in
    /// no row belong to all.
    pub(crate) fn absent(self) -> &'static [Slot] {
        use slot::*;
        match self {
            EtherClass::Ipv4 => &[
                IPV6_SRC,
                IPV6_DST,
                IPV6_LABEL,
                ND_TARGET,
                ND_OPTIONS_TYPE,
                ND_RESERVED,
                ARP_SHA,
                ARP_THA,
                MPLS_LSE0,
                MPLS_LSE1,
                MPLS_LSE2,
            ],
            EtherClass::Ipv6 => &[NW_SRC, NW_DST, MPLS_LSE0, MPLS_LSE1, MPLS_LSE2],
            EtherClass::Arp => &[
                NW_FRAG,
                NW_TOS,
                NW_TTL,
                TP_SRC,
                TP_DST,
                TCP_FLAGS,
                IPV6_SRC,
                IPV6_DST,
                IPV6_LABEL,
                ND_TARGET,
                ND_OPTIONS_TYPE,
                ND_RESERVED,
                MPLS_LSE0,
                MPLS_LSE1,
                MPLS_LSE2,
            ],
            EtherClass::Mpls => &[
                NW_SRC,
                NW_DST,
                NW_PROTO,
                NW_FRAG,
                NW_TOS,
                NW_TTL,
                TP_SRC,
                TP_DST,
                TCP_FLAGS,
                IPV6_SRC,
                IPV6_DST,
                IPV6_LABEL,
                ND_TARGET,
                ND_OPTIONS_TYPE,
                ND_RESERVED,
                ARP_SHA,
                ARP_THA,
            ],
            EtherClass::Other => &[
                NW_SRC,
                NW_DST,
                NW_PROTO,
                NW_FRAG,
                NW_TOS,
                NW_TTL,
                TP_SRC,
                TP_DST,
                TCP_FLAGS,
                IPV6_SRC,
                IPV6_DST,
                IPV6_LABEL,
                ND_TARGET,
                ND_OPTIONS_TYPE,
                ND_RESERVED,
                ARP_SHA,
                ARP_THA,
                MPLS_LSE0,
                MPLS_LSE1,
                MPLS_LSE2,
            ],
        }
    }
}

/// The class of an EtherType.
#[inline]
pub const fn class_of(dl_type: u16) -> EtherClass {
    match dl_type {
        0x0800 => EtherClass::Ipv4,
        0x86dd => EtherClass::Ipv6,
        0x0806 | 0x8035 => EtherClass::Arp,
        0x8847 | 0x8848 => EtherClass::Mpls,
        _ => EtherClass::Other,
    }
}

/// Mark of a summary: NORMAL is among the actions.
const MARK_NORMAL: u64 = 1;
/// Mark of a summary: a pass through the connection tracker is.
const MARK_TRACKED: u64 = 2;

/// What tells connections apart. A flow that begins with these bits fixed belongs to one connection, whose further passes
/// it may then remember (`datapath`'s chains).
const TUPLE: &[Slot] =
    &[slot::NW_SRC, slot::NW_DST, slot::IPV6_SRC, slot::IPV6_DST, slot::NW_PROTO, slot::TP_SRC, slot::TP_DST];

/// What a list of actions may read and where it may lead, for [`RuleStore`].
pub fn summarize(table: TableId, actions: &[OfAction]) -> ActionSummary {
    let mut summary = ActionSummary::default();
    add_actions(&mut summary, table, actions);
    summary
}

fn add_actions(summary: &mut ActionSummary, table: TableId, actions: &[OfAction]) {
    for action in actions {
        add_action(summary, table, action);
    }
}

fn add_action(summary: &mut ActionSummary, table: TableId, action: &OfAction) {
    let bits = &mut summary.reads;
    let field = |bits: &mut Mask<FlowKey>, id: FieldId| add_field(bits, id, id.slot().ones());
    match action {
        OfAction::Output { port: OfPort::NORMAL, .. }
        | OfAction::OutputTrunc { port: OfPort::NORMAL, .. } => {
            summary.marks |= MARK_NORMAL;
        }
        OfAction::OutputReg { src, .. } => {
            add_sub(bits, *src);
            // What stands there may be NORMAL's number.
            summary.marks |= MARK_NORMAL;
        }
        OfAction::Output { .. }
        | OfAction::OutputTrunc { .. }
        | OfAction::Enqueue { .. }
        | OfAction::Controller { .. }
        | OfAction::Note(_)
        | OfAction::Exit
        // What groups look at is added where the groups are known.
        | OfAction::Group(_)
        | OfAction::Meter(_)
        | OfAction::ClearActions
        | OfAction::WriteMetadata { .. } => {}
        OfAction::SetVlanVid(_) | OfAction::SetVlanPcp(_) | OfAction::PopVlan | OfAction::PushVlan(_) => {
            add_tags(bits);
        }
        OfAction::SetDlSrc(_) => field(bits, FieldId::EthSrc),
        OfAction::SetDlDst(_) => field(bits, FieldId::EthDst),
        OfAction::SetNwSrc(_) => field(bits, FieldId::IpSrc),
        OfAction::SetNwDst(_) => field(bits, FieldId::IpDst),
        OfAction::SetNwTos(_) => field(bits, FieldId::IpDscp),
        OfAction::SetNwEcn(_) => field(bits, FieldId::NwEcn),
        OfAction::SetNwTtl(_) | OfAction::DecTtl(_) => field(bits, FieldId::NwTtl),
        OfAction::SetTpSrc(_) => field(bits, FieldId::TcpSrc),
        OfAction::SetTpDst(_) => field(bits, FieldId::TcpDst),
        OfAction::Load { dst, .. } | OfAction::CheckPktLarger { dst, .. } => add_sub(bits, *dst),
        OfAction::SetField { field: id, mask, .. } => add_field(bits, *id, *mask),
        OfAction::Move { src, dst } => {
            add_sub(bits, *src);
            add_sub(bits, *dst);
        }
        OfAction::PushMpls(_) | OfAction::PopMpls(_) => {
            // A new entry takes its TTL and traffic class from the packet.
            add_mpls(bits);
            bits.add_all(slot::NW_TTL);
            bits.add_all(slot::NW_TOS);
            // Where the label is taken from, or put, shows in a trace to depend on whether a tag stands before it.
            bits.add(slot::VLAN_TCI, VLAN_PRESENT.into());
        }
        OfAction::SetMplsLabel(_)
        | OfAction::SetMplsTc(_)
        | OfAction::SetMplsTtl(_)
        | OfAction::DecMplsTtl => {
            add_mpls(bits);
        }
        OfAction::SetTunnel(_) => bits.add_all(slot::TUN_ID),
        OfAction::Resubmit { table: to, .. } => summary.tables.insert(to.unwrap_or(table)),
        OfAction::GotoTable(to) => summary.tables.insert(*to),
        OfAction::WriteActions(inner) | OfAction::Clone(inner) => add_actions(summary, table, inner),
        OfAction::Ct(ct) => add_ct(summary, ct),
        OfAction::CtClear => bits.add_all(slot::CT_STATE),
    }
}

fn add_ct(summary: &mut ActionSummary, ct: &CtAction) {
    summary.marks |= MARK_TRACKED;
    if let Some(to) = ct.table {
        summary.tables.insert(to);
    }
    if let ZoneSource::Field(src) = ct.zone {
        add_sub(&mut summary.reads, src);
    }
    // Mark and label are written in the connection, not in the frame's key, so only what they are taken from counts.
    for action in &ct.exec {
        if let OfAction::Move { src, .. } = action {
            add_sub(&mut summary.reads, *src);
        }
    }
    Prereq::Ip.consult(&mut summary.reads);
}

fn add_field(bits: &mut Mask<FlowKey>, id: FieldId, which: u128) {
    let row = id.row();
    row.prereq.consult(bits);
    if row.slot.word == slot::VLAN_TCI.word && row.slot.shift < 16 {
        // Tags are rewritten as a whole.
        return add_tags(bits);
    }
    if row.slot.word == slot::MPLS_LSE0.word {
        return add_mpls(bits);
    }
    if let Some(presence) = row.presence() {
        bits.add_all(presence);
    }
    bits.add(row.slot, which);
}

/// The bits of a slot that a sub-field covers, right-aligned in the slot.
pub(crate) fn sub_ones(sub: SubField) -> u128 {
    let ones = 1u128.checked_shl(u32::from(sub.width)).map_or(u128::MAX, |b| b - 1);
    ones.checked_shl(u32::from(sub.start)).unwrap_or(0)
}

fn add_sub(bits: &mut Mask<FlowKey>, sub: SubField) {
    add_field(bits, sub.field, sub_ones(sub));
}

fn add_tags(bits: &mut Mask<FlowKey>) {
    let tags = [slot::VLAN_TCI, slot::VLAN_TPID, slot::VLAN_TCI_INNER, slot::VLAN_TPID_INNER];
    tags.into_iter().for_each(|s| bits.add_all(s));
}

fn add_mpls(bits: &mut Mask<FlowKey>) {
    Prereq::Mpls.consult(bits);
    [slot::MPLS_LSE0, slot::MPLS_LSE1, slot::MPLS_LSE2].into_iter().for_each(|s| bits.add_all(s));
}

/// What the rules of a bridge can look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RuleNeeds {
    /// Rules that a frame can come to from table 0 by gotos and resubmits.
    reachable: Needs,
    /// All rules: what counts when misses go on to the next table.
    all: Needs,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Needs {
    bits: Mask<PacketKey>,
    normal: bool,
    tracked: bool,
    tables: TableIdSet,
}

/// What the groups of a bridge can look at: the summaries of groups, each with the number of groups that have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupNeeds(HashMap<ActionSummary, usize>);

impl GroupNeeds {
    /// A group has become another, come or gone.
    pub fn replace(&mut self, before: Option<&Group>, after: Option<&Group>) {
        if let Some(group) = after {
            *self.0.entry(summarize_group(group)).or_default() += 1;
        }
        if let Some(summary) = before.map(summarize_group)
            && let Some(count) = self.0.get_mut(&summary)
        {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&summary);
            }
        }
    }

    /// All together.
    pub fn summary(&self) -> ActionSummary {
        let mut union = ActionSummary::default();
        self.0.keys().for_each(|summary| union.union(summary));
        union
    }
}

/// What choosing a bucket and carrying it out may read, and where it may lead.
fn summarize_group(group: &Group) -> ActionSummary {
    let mut summary = ActionSummary { reads: group.reads(), ..ActionSummary::default() };
    // A resubmit to the same table leads to where the group was met, which is reachable anyhow, as table 0 is.
    group.buckets.iter().for_each(|b| add_actions(&mut summary, TableId(0), &b.actions));
    summary
}

impl RuleNeeds {
    /// Of rules, and of groups, which any rule may lead to.
    pub fn of(rules: &RuleStore, groups: &ActionSummary) -> RuleNeeds {
        let mut needs = RuleNeeds::default();
        let mut seen = TableIdSet::default();
        let mut todo = vec![TableId(0)];
        todo.extend(groups.tables.iter());
        needs.reachable.add_summary(groups);
        needs.all.add_summary(groups);
        while let Some(id) = todo.pop() {
            if !seen.contains(id) {
                seen.insert(id);
                needs.reachable.add_table(rules, id);
                todo.extend(rules.summary(id).tables.iter());
            }
        }
        let filled = rules.tables().iter().filter(|t| !t.is_empty());
        filled.for_each(|t| needs.all.add_table(rules, t.id));
        needs
    }
}

impl RuleNeeds {
    /// Whether what a list of actions looks at is among it.
    pub fn covers(&self, actions: &ActionSummary, continues_on_miss: bool) -> bool {
        let needs = if continues_on_miss { &self.all } else { &self.reachable };
        needs.bits.covers(&actions.reads.packet())
            && (needs.normal || actions.marks & MARK_NORMAL == 0)
            && (needs.tracked || actions.marks & MARK_TRACKED == 0)
            && actions.tables.iter().all(|t| needs.tables.contains(t))
    }
}

impl Needs {
    fn add_table(&mut self, rules: &RuleStore, id: TableId) {
        let Some(table) = rules.tables().get(id) else { return };
        let summary = rules.summary(id);
        self.tables.insert(id);
        self.bits.union(&table.union_mask().packet());
        self.add_summary(&summary);
    }

    fn add_summary(&mut self, summary: &ActionSummary) {
        self.bits.union(&summary.reads.packet());
        self.normal |= summary.marks & MARK_NORMAL != 0;
        self.tracked |= summary.marks & MARK_TRACKED != 0;
    }
}

/// The profiles of a bridge, one a class and stage.
#[derive(Debug, Default)]
pub(crate) struct ProfileSet {
    fresh: Vec<Profile>,
    shared: Vec<Profile>,
    resumed: Vec<Profile>,
}

impl ProfileSet {
    #[inline]
    pub fn get(&self, class: EtherClass, stage: Stage) -> Option<&Profile> {
        match stage {
            Stage::Fresh => &self.fresh,
            Stage::Shared => &self.shared,
            Stage::Resumed => &self.resumed,
        }
        .get(class as usize)
    }
}

/// Gives equal masks equal ids, across publications.
#[derive(Debug, Default)]
pub(crate) struct ProfileInterner(Mutex<(HashMap<PacketKey, ProfileId>, u32)>);

impl ProfileInterner {
    fn profile(&self, mask: Mask<PacketKey>) -> Profile {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ids, next) = &mut *inner;
        if ids.len() >= INTERNED_MAX {
            ids.clear();
        }
        let id = *ids.entry(mask.0).or_insert_with(|| {
            *next = next.wrapping_add(1);
            ProfileId(*next)
        });
        Profile::new(id, mask)
    }
}

/// What NORMAL looks at.
fn add_normal(mask: &mut Mask<PacketKey>, bridge: &Bridge) {
    for s in [slot::DL_SRC, slot::DL_DST, slot::VLAN_TCI, slot::VLAN_TPID] {
        mask.add_all(s);
    }
    // A second tag is what it was when the first goes. Tunnel ports look into it, and so does another bridge that gets the
    // frame without the first.
    let tunnels = bridge.bundles().any(|b| b.vlan.mode == VlanMode::Dot1qTunnel);
    if tunnels || bridge.ports().any(|p| matches!(p.device, Device::Patch(_))) {
        mask.add_all(slot::VLAN_TCI_INNER);
        mask.add_all(slot::VLAN_TPID_INNER);
    }
}

/// What bridges are in: it decides what outputs look at.
pub(crate) struct Surroundings<'a> {
    pub tunnels: &'a TunnelMap,
    pub host: &'a Host,
}

/// What sending into a tunnel looks at, beside the bytes that are copied when it happens.
fn add_tunnel(mask: &mut Mask<PacketKey>, config: &TunnelConfig, host: &Host) {
    if config.reads_key() {
        mask.add_all(slot::TUN_ID);
    }
    if config.reads_addresses() {
        OUTER_ADDRESSES.iter().for_each(|s| mask.add_all(*s));
    }
    if config.gbp {
        mask.add_all(slot::TUN_GBP_ID);
        mask.add_all(slot::TUN_GBP_FLAGS);
    }
    if config.kind == TunnelKind::Geneve {
        TUN_METADATA.iter().for_each(|s| mask.add_all(*s));
        mask.add_all(slot::TUN_METADATA_PRESENT);
        mask.add(slot::TUN_FLAGS, TUN_OAM.into());
    }
    // Rules of a bridge that the tunnel leaves through see the outer header, to which the inner one gives its ECN.
    if host.is_behind_any() {
        mask.add_all(slot::NW_TOS);
        if config.ttl == Octet::Inherit {
            mask.add_all(slot::NW_TTL);
        }
    }
}

/// What tells whether a frame for the host is a tunnel's, or tells the address of a neighbour.
fn add_host(mask: &mut Mask<PacketKey>) {
    let slots = [
        slot::DL_DST,
        slot::VLAN_TCI,
        slot::NW_DST,
        slot::IPV6_DST,
        slot::NW_PROTO,
        slot::TP_DST,
        // Zero but in neighbour discovery.
        slot::ND_TARGET,
    ];
    slots.into_iter().for_each(|s| mask.add_all(s));
}

/// What the outer headers of a frame out of a tunnel said of its way.
const OUTER_ADDRESSES: [Slot; 4] = [slot::TUN_SRC, slot::TUN_DST, slot::TUN_IPV6_SRC, slot::TUN_IPV6_DST];

/// What a frame that enters some bridges can have looked at, in them and in the bridges that patches lead to; for one that
/// has been through some of its way, also in those that tunnels lead through. Also says whether it may be tracked.
fn needs_of(
    bridges: &[Arc<Bridge>],
    starts: Vec<&Bridge>,
    surroundings: &Surroundings<'_>,
    stage: Stage,
) -> (Mask<PacketKey>, bool) {
    let Surroundings { tunnels, host } = surroundings;
    let mut mask = Mask::empty();
    let mut tracked = false;
    let mut seen: Vec<BridgeId> = Vec::new();
    let mut todo = starts;
    while let Some(bridge) = todo.pop() {
        if seen.contains(&bridge.id()) {
            continue;
        }
        seen.push(bridge.id());
        let needs = &bridge.rule_needs;
        let needs = if bridge.continues_on_miss() { &needs.all } else { &needs.reachable };
        mask.union(&needs.bits);
        tracked |= needs.tracked;
        if needs.normal {
            add_normal(&mut mask, bridge);
        }
        let mut leads_through_hosts = false;
        for port in bridge.ports() {
            if let Device::Tunnel { config, .. } = &port.device {
                add_tunnel(&mut mask, config, host);
                leads_through_hosts = true;
            }
        }
        if !tunnels.is_empty() && host.is_behind(bridge.id()) {
            add_host(&mut mask);
        }
        // A frame that has just been encapsulated is no frame whose key the cache has; one that recirculates is.
        if leads_through_hosts && stage == Stage::Resumed {
            todo.extend(bridges.iter().map(|b| &**b).filter(|b| host.is_behind(b.id())));
        }
        let peers = bridge.ports().filter_map(|p| match p.device {
            Device::Patch(Some(peer)) => Some(peer.bridge),
            _ => None,
        });
        let known =
            |id: BridgeId| bridges.binary_search_by_key(&id, |b| b.id()).ok().and_then(|i| bridges.get(i));
        todo.extend(peers.filter_map(known).map(|b| &**b));
    }
    for s in [slot::IN_PORT, slot::RECIRC_ID, slot::DL_TYPE, slot::NW_FRAG] {
        // Whether it is a fragment decides what rules see of its ports, and whether it may pass at all.
        mask.add_all(s);
    }
    (mask, tracked)
}

/// Finds the profiles of every bridge. Bridges whose masks stay keep their profiles.
pub(crate) fn refresh(
    bridges: &mut [Arc<Bridge>],
    surroundings: &Surroundings<'_>,
    interner: &ProfileInterner,
) {
    let of = |b: &Arc<Bridge>, stage| needs_of(bridges, vec![&**b], surroundings, stage);
    let needs: Vec<_> = bridges.iter().map(|b| [of(b, Stage::Fresh), of(b, Stage::Resumed)]).collect();
    for (bridge, [fresh, resumed]) in bridges.iter_mut().zip(needs) {
        let masks = Masks::of(fresh, resumed.0);
        if !masks.are_those_of(&bridge.profiles) {
            Arc::make_mut(bridge).profiles = Arc::new(masks.intern(interner));
        }
    }
}

/// Finds the profiles of frames out of tunnels: which interface, and so which bridge, such a frame belongs to is told by
/// what its outer headers said.
pub(crate) fn refresh_tunnels(
    profiles: &mut Arc<ProfileSet>,
    bridges: &[Arc<Bridge>],
    surroundings: &Surroundings<'_>,
    interner: &ProfileInterner,
) {
    let is_tunnel = |p: &BridgePort| matches!(p.device, Device::Tunnel { .. });
    let of = |stage| {
        let starts = bridges.iter().map(|b| &**b).filter(|b| b.ports().any(is_tunnel)).collect();
        let (mut mask, tracked) = needs_of(bridges, starts, surroundings, stage);
        mask.add_all(slot::TUN_ID);
        OUTER_ADDRESSES.iter().for_each(|s| mask.add_all(*s));
        (mask, tracked)
    };
    let masks = Masks::of(of(Stage::Fresh), of(Stage::Resumed).0);
    if !masks.are_those_of(profiles) {
        *profiles = Arc::new(masks.intern(interner));
    }
}

/// The masks of a [`ProfileSet`].
struct Masks {
    fresh: [Mask<PacketKey>; EtherClass::ALL.len()],
    shared: [Mask<PacketKey>; EtherClass::ALL.len()],
    resumed: [Mask<PacketKey>; EtherClass::ALL.len()],
}

impl Masks {
    /// Of frames fresh from a port, which may be tracked, and of those that recirculate.
    fn of((fresh, tracked): (Mask<PacketKey>, bool), resumed: Mask<PacketKey>) -> Masks {
        let of_class = |mask: Mask<PacketKey>, class: EtherClass| {
            let mut mask = mask;
            // A frame without a field has zeros there, so its bits tell nothing.
            class.absent().iter().for_each(|s| mask.0.set(*s, 0));
            mask
        };
        let shared = EtherClass::ALL.map(|class| of_class(fresh, class));
        let fresh = EtherClass::ALL.map(|class| {
            let mut mask = fresh;
            if tracked && matches!(class, EtherClass::Ipv4 | EtherClass::Ipv6) {
                TUPLE.iter().for_each(|s| mask.add_all(*s));
            }
            of_class(mask, class)
        });
        Masks { fresh, shared, resumed: EtherClass::ALL.map(|class| of_class(resumed, class)) }
    }

    fn are_those_of(&self, profiles: &ProfileSet) -> bool {
        let same = |masks: &[Mask<PacketKey>], profiles: &[Profile]| {
            masks.len() == profiles.len() && masks.iter().zip(profiles).all(|(m, p)| p.mask == *m)
        };
        same(&self.fresh, &profiles.fresh)
            && same(&self.shared, &profiles.shared)
            && same(&self.resumed, &profiles.resumed)
    }

    fn intern(self, interner: &ProfileInterner) -> ProfileSet {
        let profiles = |masks: [Mask<PacketKey>; EtherClass::ALL.len()]| {
            masks.into_iter().map(|m| interner.profile(m)).collect()
        };
        ProfileSet {
            fresh: profiles(self.fresh),
            shared: profiles(self.shared),
            resumed: profiles(self.resumed),
        }
    }
}
