//! Groups: group_mods, descriptions, statistics. OpenFlow 1.0 has them by Nicira's extension, which has the form of 1.5.

use super::action::read_actions;
use super::action_out::{Seen, put_actions};
use super::extension::nxt;
use super::{EncodeError, Frame, MESSAGE_MAX, ofpt, oxm, property, read_duration, read_port32};
use crate::error::OfError;
use crate::message::{GroupDesc, GroupStats, PacketCount};
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len, patch_u16};
use flowtable::field::Masking;
use flowtable::group::{
    Bucket, BucketId, GroupCommand, GroupError, GroupMod, GroupType, METHOD_NAME_MAX, Selection,
    SelectionMethod,
};
use flowtable::{FieldId, GroupId, OfAction, OfPort};

/// Experimenter id of Netronome, whose property says how a select group chooses.
const NTR: u32 = 0x0000_154d;
/// Its one property.
const NTR_SELECTION_METHOD: u32 = 1;
/// Experimenter property.
const EXPERIMENTER: u16 = 0xffff;

/// Properties of buckets.
mod bucket_property {
    pub const WEIGHT: u16 = 0;
    pub const WATCH_PORT: u16 = 1;
    pub const WATCH_GROUP: u16 = 2;
}

/// Shortest bucket of OpenFlow 1.3 and 1.4.
const OLD_BUCKET_LEN: usize = 16;
/// Longest entry of a reply in any version: the longest head is that of Nicira's extension.
const ENTRY_MAX: usize = MESSAGE_MAX - 24;
/// Statistics of a group without those of its buckets, and those of a bucket.
const STATS_LEN: usize = 40;
const COUNT_LEN: usize = 16;
/// Shortest bucket of OpenFlow 1.5.
const BUCKET_LEN: usize = 8;

/// Commands that all versions have, those of 1.5, and Nicira's.
const COMMANDS: [(u16, GroupCommand); 6] = [
    (0, GroupCommand::Add),
    (1, GroupCommand::Modify),
    (2, GroupCommand::Delete),
    (3, GroupCommand::InsertBuckets),
    (5, GroupCommand::RemoveBuckets),
    (0x8000, GroupCommand::AddOrModify),
];

/// Whether groups have the form of OpenFlow 1.1 to 1.4: buckets without numbers, no properties.
fn is_old(version: OfVersion) -> bool {
    matches!(version, OfVersion::V13 | OfVersion::V14)
}

/// The OpenFlow error that a group's problem is answered with.
pub fn group_error(error: GroupError) -> OfError {
    match error {
        GroupError::GroupExists => OfError::GroupModFailedGroupExists,
        GroupError::InvalidGroup => OfError::GroupModFailedInvalidGroup,
        GroupError::UnknownGroup => OfError::GroupModFailedUnknownGroup,
        GroupError::OutOfGroups => OfError::GroupModFailedOutOfGroups,
        GroupError::OutOfBuckets => OfError::GroupModFailedOutOfBuckets,
        GroupError::Loop => OfError::GroupModFailedLoop,
        GroupError::WatchUnsupported => OfError::GroupModFailedWatchUnsupported,
        GroupError::BadBucket => OfError::GroupModFailedBadBucket,
        GroupError::UnknownBucket => OfError::GroupModFailedUnknownBucket,
        GroupError::BucketExists => OfError::GroupModFailedBucketExists,
        GroupError::BadSelection => OfError::BadPropertyBadValue,
    }
}

/// Whether one entry of a reply has room for what a group is, and one for what it has counted, in every version that can express
/// it: entries are never split (OpenFlow 1.3.5 §7.3.5).
pub fn is_describable(desc: &GroupDesc) -> bool {
    let fits = |version| {
        let mut entry = Vec::new();
        match put_desc(&mut entry, version, desc) {
            Ok(()) => entry.len() <= ENTRY_MAX,
            Err(EncodeError::Inexpressible(_)) => true,
            Err(EncodeError::TooLong) => false,
        }
    };
    STATS_LEN + desc.buckets.len() * COUNT_LEN <= ENTRY_MAX && OfVersion::ALL.into_iter().all(fits)
}

fn group_type(number: u8) -> Result<GroupType, OfError> {
    GroupType::ALL.get(usize::from(number)).copied().ok_or(OfError::GroupModFailedBadType)
}

/// Reads a group_mod and checks what can be checked without knowing the groups that there are.
pub(crate) fn read_mod(version: OfVersion, r: &mut Reader<'_>) -> Result<GroupMod, OfError> {
    let (number, kind) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    let group = GroupId(r.u32()?);
    let command = COMMANDS.iter().find(|(n, _)| *n == number).map(|(_, command)| *command);
    let command = command.filter(|c| !c.has_place() || !is_old(version));
    let command = command.ok_or(OfError::GroupModFailedBadCommand)?;
    let mut group_mod = GroupMod::new(command, group_type(kind)?, group);
    if is_old(version) {
        group_mod.buckets = read_buckets(version, r, weight_unsaid(&group_mod))?;
    } else {
        let len = usize::from(r.u16()?);
        r.skip(2)?;
        group_mod.place = BucketId(r.u32()?);
        let mut buckets = r.sub(len)?;
        group_mod.buckets = read_buckets(version, &mut buckets, weight_unsaid(&group_mod))?;
        group_mod.selection = read_selection(r, &group_mod)?;
    }
    group_mod.check().map_err(group_error)?;
    Ok(group_mod)
}

/// Weight of a bucket that does not say it. Buckets that are inserted do not know their group's type; it is looked at
/// when they are.
fn weight_unsaid(group_mod: &GroupMod) -> u16 {
    let weighs = group_mod.kind == GroupType::Select || group_mod.command == GroupCommand::InsertBuckets;
    u16::from(weighs)
}

fn read_buckets(version: OfVersion, r: &mut Reader<'_>, weight: u16) -> Result<Vec<Bucket>, OfError> {
    *r = r.or(OfError::GroupModFailedBadBucket);
    let mut buckets = Vec::new();
    while !r.is_empty() {
        if buckets.len() == flowtable::group::BUCKETS_MAX {
            return Err(OfError::GroupModFailedOutOfBuckets);
        }
        // What is too short to say its length is an error of the message, say OVS's answers.
        if r.len() < if is_old(version) { OLD_BUCKET_LEN } else { BUCKET_LEN } {
            return Err(OfError::BadRequestBadLen);
        }
        let len = usize::from(r.u16()?);
        if len % 8 != 0 {
            return Err(OfError::GroupModFailedBadBucket);
        }
        let mut body = r.sub(len.checked_sub(2).ok_or(OfError::GroupModFailedBadBucket)?)?;
        buckets.push(match is_old(version) {
            true => read_old_bucket(version, &mut body)?,
            false => read_bucket(version, &mut body, weight)?,
        });
    }
    Ok(buckets)
}

/// Actions of a bucket: no instructions.
fn bucket_actions(version: OfVersion, bytes: &[u8]) -> Result<Vec<OfAction>, OfError> {
    let actions = read_actions(version, bytes)?;
    match actions.iter().any(OfAction::is_instruction) {
        true => Err(OfError::BadActionBadArgument),
        false => Ok(actions),
    }
}

fn read_old_bucket(version: OfVersion, r: &mut Reader<'_>) -> Result<Bucket, OfError> {
    let weight = r.u16()?;
    let (watch_port, watch_group) = (watched_port(r)?, GroupId(r.u32()?));
    r.skip(4)?;
    let actions = bucket_actions(version, r.rest())?.into();
    Ok(Bucket { id: BucketId::ALL, weight, watch_port, watch_group, actions })
}

fn watched_port(r: &mut Reader<'_>) -> Result<OfPort, OfError> {
    read_port32(r).map_err(|_| OfError::GroupModFailedBadWatch)
}

fn read_bucket(version: OfVersion, r: &mut Reader<'_>, weight: u16) -> Result<Bucket, OfError> {
    let len = usize::from(r.u16()?);
    let mut bucket = Bucket { id: BucketId(r.u32()?), weight, ..Bucket::new(GroupType::All) };
    // "Choose one" cannot be asked for.
    if bucket.id > BucketId::MAX {
        return Err(OfError::GroupModFailedBadBucket);
    }
    bucket.actions = bucket_actions(version, r.take(len)?)?.into();
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            bucket_property::WEIGHT => {
                bucket.weight = body.u16()?;
                body.skip(2)?;
            }
            bucket_property::WATCH_PORT => bucket.watch_port = watched_port(&mut body)?,
            bucket_property::WATCH_GROUP => bucket.watch_group = GroupId(body.u32()?),
            EXPERIMENTER => return Err(OfError::BadPropertyBadExperimenter),
            _ => return Err(OfError::BadPropertyBadType),
        }
        body.end()?;
    }
    Ok(bucket)
}

/// The properties of a group.
fn read_selection(r: &mut Reader<'_>, group_mod: &GroupMod) -> Result<Selection, OfError> {
    let mut selection = Selection::default();
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        if kind != EXPERIMENTER {
            return Err(OfError::BadPropertyBadType);
        }
        if body.u32()? != NTR {
            return Err(OfError::BadPropertyBadExperimenter);
        }
        if body.u32()? != NTR_SELECTION_METHOD {
            return Err(OfError::BadPropertyBadExpType);
        }
        if !group_mod.command.has_group() || group_mod.kind != GroupType::Select {
            return Err(OfError::BadPropertyBadValue);
        }
        selection = read_method(&mut body)?;
    }
    Ok(selection)
}

fn read_method(r: &mut Reader<'_>) -> Result<Selection, OfError> {
    r.skip(4)?;
    let name = r.text(METHOD_NAME_MAX + 1)?;
    let method = SelectionMethod::NAMED.into_iter().find(|m| m.name() == name);
    let method = method.ok_or(OfError::BadPropertyBadValue)?;
    let param = r.u64()?;
    *r = r.or(OfError::BadMatchBadLen);
    let mut fields: Vec<(FieldId, u128)> = Vec::new();
    while !r.is_empty() {
        let h = oxm::header(r)?;
        let field = h.field.filter(|_| !h.masked).ok_or(OfError::BadMatchBadField)?;
        if fields.iter().any(|(other, _)| *other == field) {
            return Err(OfError::BadMatchDupField);
        }
        // What stands in the place of the value is the mask.
        let ones = field.slot().ones();
        let bits = r.number(h.payload)? & ones;
        if bits == 0 || field.row().masking == Masking::Exact && bits != ones {
            return Err(OfError::BadMatchBadMask);
        }
        fields.push((field, bits));
    }
    fields.sort_unstable();
    Ok(Selection { method, param, fields })
}

/// Writes a group_mod.
pub(crate) fn put_mod(f: &mut Frame<'_>, m: &GroupMod) -> Result<(), EncodeError> {
    let version = f.version();
    let old = is_old(version);
    if old && (m.command.has_place() || m.selection != Selection::default()) {
        return Err(EncodeError::Inexpressible("group_mod with numbers of buckets or a selection method"));
    }
    match version {
        OfVersion::V10 => f.begin_nicira(nxt::GROUP_MOD),
        _ => f.begin(ofpt::GROUP_MOD),
    }
    let number = COMMANDS.iter().find(|(_, command)| *command == m.command).map_or(0, |(n, _)| *n);
    f.out.put_u16(number);
    f.out.put_u8(m.kind as u8);
    f.out.zeros(1);
    f.out.put_u32(m.group.0);
    if old {
        put_buckets(f.out, version, None, &m.buckets)?;
        return f.end();
    }
    let len_at = f.out.len();
    f.out.zeros(4);
    f.out.put_u32(m.place.0);
    let start = f.out.len();
    // Inserted buckets that say nothing weigh 1.
    let unsaid = if m.kind == GroupType::Select { None } else { Some(weight_unsaid(m)) };
    put_buckets(f.out, version, unsaid, &m.buckets)?;
    patch_len(f.out, start, len_at)?;
    put_selection(f.out, version, &m.selection)?;
    f.end()
}

/// Buckets in order; from OpenFlow 1.5 on with their weight unless it is the one that goes unsaid. A select group's buckets
/// always say it, as in OVS.
fn put_buckets(
    out: &mut Vec<u8>,
    version: OfVersion,
    unsaid: Option<u16>,
    buckets: &[Bucket],
) -> Result<(), EncodeError> {
    buckets.iter().try_for_each(|bucket| match is_old(version) {
        true => put_old_bucket(out, version, bucket),
        false => put_bucket(out, version, unsaid, bucket),
    })
}

fn put_old_bucket(out: &mut Vec<u8>, version: OfVersion, bucket: &Bucket) -> Result<(), EncodeError> {
    let start = out.len();
    out.zeros(2);
    out.put_u16(bucket.weight);
    out.put_u32(bucket.watch_port.0);
    out.put_u32(bucket.watch_group.0);
    out.zeros(4);
    put_actions(out, version, bucket.actions.iter(), &mut Seen::nothing())?;
    patch_len(out, start, start)?;
    Ok(())
}

fn put_bucket(
    out: &mut Vec<u8>,
    version: OfVersion,
    unsaid: Option<u16>,
    bucket: &Bucket,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.zeros(4);
    out.put_u32(bucket.id.0);
    let actions = out.len();
    put_actions(out, version, bucket.actions.iter(), &mut Seen::nothing())?;
    patch_len(out, actions, start + 2)?;
    let number =
        |out: &mut Vec<u8>, kind: u16, value: u32| super::put_property(out, kind, &value.to_be_bytes());
    if unsaid != Some(bucket.weight) {
        number(out, bucket_property::WEIGHT, u32::from(bucket.weight) << 16);
    }
    if bucket.watch_port != OfPort::ANY {
        number(out, bucket_property::WATCH_PORT, bucket.watch_port.0);
    }
    if bucket.watch_group != GroupId::ANY {
        number(out, bucket_property::WATCH_GROUP, bucket.watch_group.0);
    }
    patch_len(out, start, start)?;
    Ok(())
}

fn put_selection(out: &mut Vec<u8>, version: OfVersion, selection: &Selection) -> Result<(), EncodeError> {
    if selection.method == SelectionMethod::Default {
        return Ok(());
    }
    let mut body = Vec::new();
    body.put_u32(NTR);
    body.put_u32(NTR_SELECTION_METHOD);
    body.zeros(4);
    body.put_text(selection.method.name(), METHOD_NAME_MAX + 1);
    body.put_u64(selection.param);
    for (field, bits) in &selection.fields {
        let id = oxm::wire_id(version, *field).ok_or(EncodeError::Inexpressible("field"))?;
        let bytes = usize::from(field.row().wire_bytes);
        oxm::put_header(&mut body, id, false, bytes);
        // A whole field is all ones, bits that it does not have among them.
        body.put_number(if *bits == field.slot().ones() { u128::MAX } else { *bits }, bytes);
    }
    super::put_property(out, EXPERIMENTER, &body);
    Ok(())
}

/// One entry of a description reply.
pub(crate) fn read_desc(version: OfVersion, r: &mut Reader<'_>) -> Result<GroupDesc, OfError> {
    let len = usize::from(r.u16()?);
    let mut body = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
    let kind = group_type(body.u8()?)?;
    body.skip(1)?;
    let group = GroupId(body.u32()?);
    let like = GroupMod::new(GroupCommand::Add, kind, group);
    if is_old(version) {
        let buckets = read_buckets(version, &mut body, 0)?;
        return Ok(GroupDesc { group, kind, buckets, selection: Selection::default() });
    }
    let buckets_len = usize::from(body.u16()?);
    body.skip(6)?;
    let mut list = body.sub(buckets_len)?;
    let buckets = read_buckets(version, &mut list, weight_unsaid(&like))?;
    Ok(GroupDesc { group, kind, buckets, selection: read_selection(&mut body, &like)? })
}

/// Writes such an entry.
pub(crate) fn put_desc(out: &mut Vec<u8>, version: OfVersion, d: &GroupDesc) -> Result<(), EncodeError> {
    let start = out.len();
    out.zeros(2);
    out.put_u8(d.kind as u8);
    out.zeros(1);
    out.put_u32(d.group.0);
    if is_old(version) {
        put_buckets(out, version, None, &d.buckets)?;
    } else {
        let len_at = out.len();
        out.zeros(8);
        let list = out.len();
        let unsaid = if d.kind == GroupType::Select { None } else { Some(0) };
        put_buckets(out, version, unsaid, &d.buckets)?;
        patch_len(out, list, len_at)?;
        put_selection(out, version, &d.selection)?;
    }
    patch_len(out, start, start)?;
    Ok(())
}

pub(crate) fn read_count(r: &mut Reader<'_>) -> Result<PacketCount, OfError> {
    Ok(PacketCount { packets: r.u64()?, bytes: r.u64()? })
}

pub(crate) fn put_count(out: &mut Vec<u8>, count: PacketCount) {
    out.put_u64(count.packets);
    out.put_u64(count.bytes);
}

pub(crate) fn read_stats(r: &mut Reader<'_>) -> Result<GroupStats, OfError> {
    let len = usize::from(r.u16()?);
    let mut body = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
    body.skip(2)?;
    let (group, references) = (GroupId(body.u32()?), body.u32()?);
    body.skip(4)?;
    let (total, duration) = (read_count(&mut body)?, read_duration(&mut body)?);
    let mut buckets = Vec::new();
    while !body.is_empty() {
        buckets.push(read_count(&mut body)?);
    }
    Ok(GroupStats { group, references, total, duration, buckets })
}

pub(crate) fn put_stats(out: &mut Vec<u8>, s: &GroupStats) -> Result<(), EncodeError> {
    let start = out.len();
    out.zeros(4);
    out.put_u32(s.group.0);
    out.put_u32(s.references);
    out.zeros(4);
    put_count(out, s.total);
    super::put_duration(out, s.duration);
    s.buckets.iter().for_each(|b| put_count(out, *b));
    patch_u16(out, start, 0);
    patch_len(out, start, start)?;
    Ok(())
}
