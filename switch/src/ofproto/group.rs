//! Groups and meters over OpenFlow: what there is and what it has done; meter_mods. Group_mods go with flow_mods, as
//! rules depend on groups.

use super::{Answer, Request};
use crate::brain::Brain;
use crate::meter::MeterEntry;
use flowtable::group::{GROUPS_MAX, Group};
use flowtable::meter::{BANDS_MAX, METERS_MAX, MeterMod};
use flowtable::{GroupId, MeterId, OfAction, RemovalReason};
use openflow::message::{
    GroupDesc, GroupFeatures, GroupStats, Message, MeterDesc, MeterFeatures, MeterStats, MultipartReply,
    PacketCount, group_capability,
};
use openflow::{OfError, OfVersion, codec};
use std::collections::HashMap;
use std::sync::Arc;

/// Actions of buckets by OpenFlow 1.0's numbers: all but `enqueue`.
const ACTIONS_10: u32 = 0x0000_07ff;
/// By those of 1.3 and later: output, set_mpls_ttl to pop_mpls, group to set_field.
const ACTIONS_13: u32 = 1 | 0x3f << 15 | 0xf << 22;
/// Band types: drop and dscp_remark.
const BAND_TYPES: u32 = 1 << 1 | 1 << 2;
/// Meter flags: kbps, pktps, burst, stats.
const METER_FLAGS: u32 = 0xf;

/// What groups can do.
pub(super) fn group_features(version: OfVersion) -> GroupFeatures {
    use group_capability::{CHAINING, CHAINING_CHECKS, SELECT_LIVENESS, SELECT_WEIGHT};
    let max = u32::try_from(GROUPS_MAX).unwrap_or(u32::MAX);
    let actions = if version == OfVersion::V10 { ACTIONS_10 } else { ACTIONS_13 };
    GroupFeatures {
        types: 0xf,
        capabilities: SELECT_WEIGHT | SELECT_LIVENESS | CHAINING | CHAINING_CHECKS,
        max_groups: [max; 4],
        actions: [actions; 4],
    }
}

/// What meters can do.
pub(super) fn meter_features() -> MeterFeatures {
    MeterFeatures {
        max_meters: u32::try_from(METERS_MAX).unwrap_or(u32::MAX),
        band_types: BAND_TYPES,
        capabilities: METER_FLAGS,
        max_bands: BANDS_MAX as u8,
        max_color: 0,
    }
}

/// How many rules name each thing that `named` finds in their actions.
fn references<'a, K: std::hash::Hash + Eq>(
    rules: impl Iterator<Item = &'a [OfAction]>,
    named: fn(&OfAction) -> Option<K>,
) -> HashMap<K, u32> {
    fn collect<K>(actions: &[OfAction], named: fn(&OfAction) -> Option<K>, found: &mut Vec<K>) {
        for action in actions {
            found.extend(named(action));
            collect(action.inner(), named, found);
        }
    }
    let mut counts = HashMap::new();
    for actions in rules {
        let mut found = Vec::new();
        collect(actions, named, &mut found);
        found.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
    }
    counts
}

/// What a group is.
pub(super) fn describe(group: &Group) -> GroupDesc {
    GroupDesc {
        group: group.id,
        kind: group.kind,
        buckets: group.buckets.clone(),
        selection: group.selection.clone(),
    }
}

fn one(reply: MultipartReply) -> Answer {
    Ok(vec![Message::MultipartReply { more: false, reply }])
}

impl Brain {
    /// Every group, or the one that is asked for. One that does not exist is no error, as in OVS.
    fn groups_asked(&self, r: &Request<'_>, id: GroupId) -> Result<Vec<Arc<Group>>, OfError> {
        let groups = &self.bridge(&r.bridge)?.groups;
        Ok(match id {
            GroupId::ALL | GroupId::ANY => groups.iter().cloned().collect(),
            id => groups.get(id).cloned().into_iter().collect(),
        })
    }

    pub(super) fn group_descs(&self, r: &Request<'_>, id: GroupId) -> Answer {
        one(MultipartReply::GroupDesc(self.groups_asked(r, id)?.iter().map(|g| describe(g)).collect()))
    }

    pub(super) fn group_stats(&self, r: &Request<'_>, id: GroupId) -> Answer {
        let bridge = self.bridge(&r.bridge)?;
        let rules = bridge.rules.tables().iter().flat_map(|t| t.rules()).map(|rule| &*rule.actions);
        let references = references(rules, |action| match action {
            OfAction::Group(id) => Some(*id),
            _ => None,
        });
        let count =
            |s: &flowtable::group::GroupCounters| PacketCount { packets: s.packets(), bytes: s.bytes() };
        let stats = |g: &Arc<Group>| GroupStats {
            group: g.id,
            references: references.get(&g.id).copied().unwrap_or(0),
            total: count(&g.stats),
            duration: super::duration(g.created, r.now),
            buckets: g.bucket_stats.iter().map(|s| count(s)).collect(),
        };
        one(MultipartReply::GroupStats(self.groups_asked(r, id)?.iter().map(stats).collect()))
    }

    pub(super) fn meter_mod(&mut self, r: &Request<'_>, meter_mod: &MeterMod) -> Answer {
        let bridge = self.bridge_mut(&r.bridge)?;
        let gone = bridge.meters.apply(meter_mod, r.now).map_err(codec::meter_error)?;
        let mut changes = Vec::new();
        if !gone.is_empty() {
            // Rules that name a meter go with it (OpenFlow 1.3.5 §6.7).
            let tables = bridge.rules.tables();
            let named = |rule: &&Arc<flowtable::Rule>| rule.names_meter(meter_mod.meter);
            let rules: Vec<_> = tables.iter().flat_map(|t| t.rules()).filter(named).cloned().collect();
            let remove = |rule: Arc<flowtable::Rule>| bridge.rules.remove(&rule, RemovalReason::MeterDelete);
            changes = rules.into_iter().filter_map(remove).collect();
        }
        self.stage_tables(&r.bridge);
        self.rules_changed(&r.bridge, &changes, Some(r), r.now);
        Ok(vec![])
    }

    /// Every meter, or the one that is asked for, which must exist.
    fn meters_asked(&self, r: &Request<'_>, id: MeterId) -> Result<Vec<Arc<MeterEntry>>, OfError> {
        let meters = &self.bridge(&r.bridge)?.meters;
        match id {
            MeterId::ALL => Ok(meters.iter().cloned().collect()),
            id => Ok(vec![meters.get(id).cloned().ok_or(OfError::MeterModFailedUnknownMeter)?]),
        }
    }

    pub(super) fn meter_descs(&self, r: &Request<'_>, id: MeterId) -> Answer {
        let describe = |m: &Arc<MeterEntry>| MeterDesc { meter: m.id, config: m.config.clone() };
        one(MultipartReply::MeterConfig(self.meters_asked(r, id)?.iter().map(describe).collect()))
    }

    pub(super) fn meter_stats(&self, r: &Request<'_>, id: MeterId) -> Answer {
        let bridge = self.bridge(&r.bridge)?;
        let rules = bridge.rules.tables().iter().flat_map(|t| t.rules()).map(|rule| &*rule.actions);
        let references = references(rules, |action| match action {
            OfAction::Meter(id) => Some(*id),
            _ => None,
        });
        let count = |(packets, bytes)| PacketCount { packets, bytes };
        let stats = |m: &Arc<MeterEntry>| MeterStats {
            meter: m.id,
            flows: references.get(&m.id).copied().unwrap_or(0),
            input: count(m.state.input()),
            duration: super::duration(m.since, r.now),
            bands: m.state.exceeded().map(count).collect(),
        };
        one(MultipartReply::MeterStats(self.meters_asked(r, id)?.iter().map(stats).collect()))
    }
}
