//! Tables: statistics, features, descriptions, TABLE_MOD.

use super::oxm;
use super::{EncodeError, Frame, ofpt, property, put_property};
use crate::error::OfError;
use crate::message::*;
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len};
use flowtable::field::Masking;
use flowtable::{FieldId, TableId};

const NAME_LEN: usize = 32;
/// `ofp_table_config` since OpenFlow 1.4.
const EVICTION: u32 = 1 << 2;
const VACANCY_EVENTS: u32 = 1 << 3;
const PROP_EVICTION: u16 = 2;
const PROP_VACANCY: u16 = 3;

/// `ofp_table_feature_prop_type`; the odd number after most is the table miss's.
mod prop {
    pub const INSTRUCTIONS: u16 = 0;
    pub const NEXT_TABLES: u16 = 2;
    pub const WRITE_ACTIONS: u16 = 4;
    pub const APPLY_ACTIONS: u16 = 6;
    pub const MATCH: u16 = 8;
    pub const WILDCARDS: u16 = 10;
    pub const WRITE_SETFIELD: u16 = 12;
    pub const APPLY_SETFIELD: u16 = 14;
}

pub(crate) fn read_stats(version: OfVersion, r: &mut Reader<'_>) -> Result<OfTableStats, OfError> {
    let table = TableId(r.u8()?);
    r.skip(3)?;
    let v10 = version == OfVersion::V10;
    let (name, wildcards, max_entries) =
        if v10 { (r.text(NAME_LEN)?, r.u32()?, r.u32()?) } else { (String::new(), 0, 0) };
    Ok(OfTableStats {
        table,
        name,
        wildcards,
        max_entries,
        active: r.u32()?,
        lookups: r.u64()?,
        matched: r.u64()?,
    })
}

pub(crate) fn put_stats(out: &mut Vec<u8>, version: OfVersion, s: &OfTableStats) {
    out.put_u8(s.table.0);
    out.zeros(3);
    if version == OfVersion::V10 {
        out.put_text(&s.name, NAME_LEN);
        out.put_u32(s.wildcards);
        out.put_u32(s.max_entries);
    }
    out.put_u32(s.active);
    out.put_u64(s.lookups);
    out.put_u64(s.matched);
}

pub(crate) fn read_mod(version: OfVersion, r: &mut Reader<'_>) -> Result<TableConfig, OfError> {
    let table = TableId(r.u8()?);
    r.skip(3)?;
    read_config(version, table, r)
}

fn read_config(version: OfVersion, table: TableId, r: &mut Reader<'_>) -> Result<TableConfig, OfError> {
    let bits = r.u32()?;
    let mut config = TableConfig { table, eviction: false, vacancy: None, bits };
    if version < OfVersion::V14 {
        return Ok(config);
    }
    config.eviction = bits & EVICTION != 0;
    if bits & VACANCY_EVENTS != 0 {
        config.vacancy = Some(Vacancy { down: 0, up: 0, now: 0 });
    }
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        if kind == PROP_VACANCY {
            let (down, up, now) = (body.u8()?, body.u8()?, body.u8()?);
            if let Some(vacancy) = &mut config.vacancy {
                *vacancy = Vacancy { down, up, now };
            }
        }
    }
    Ok(config)
}

fn put_config(out: &mut Vec<u8>, version: OfVersion, c: &TableConfig) {
    if version < OfVersion::V14 {
        out.put_u32(c.bits);
        return;
    }
    let events = if c.vacancy.is_some() { VACANCY_EVENTS } else { 0 };
    out.put_u32(c.bits & !(EVICTION | VACANCY_EVENTS) | if c.eviction { EVICTION } else { 0 } | events);
    if let Some(v) = c.vacancy {
        put_property(out, PROP_VACANCY, &[v.down, v.up, v.now, 0]);
    }
}

pub(crate) fn put_mod(f: &mut Frame<'_>, m: &TableConfig) -> Result<(), EncodeError> {
    if f.version() == OfVersion::V10 {
        return Err(EncodeError::Inexpressible("table_mod"));
    }
    f.begin(ofpt::TABLE_MOD);
    f.out.put_u8(m.table.0);
    f.out.zeros(3);
    // How full the table is belongs to descriptions.
    let vacancy = m.vacancy.map(|v| Vacancy { now: 0, ..v });
    put_config(f.out, f.dialect.version, &TableConfig { vacancy, ..*m });
    f.end()
}

pub(crate) fn read_desc(version: OfVersion, r: &mut Reader<'_>) -> Result<TableConfig, OfError> {
    let len = r.u16()? as usize;
    let mut r = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
    let table = TableId(r.u8()?);
    r.skip(1)?;
    read_config(version, table, &mut r)
}

pub(crate) fn put_desc(out: &mut Vec<u8>, version: OfVersion, c: &TableConfig) -> Result<(), EncodeError> {
    /// Rules can be evicted for other, group or lifetime reasons.
    const EVICTION_FLAGS: u32 = 0b111;
    let start = out.len();
    out.zeros(2);
    out.put_u8(c.table.0);
    out.zeros(1);
    put_config(out, version, c);
    put_property(out, PROP_EVICTION, &EVICTION_FLAGS.to_be_bytes());
    patch_len(out, start, start)?;
    Ok(())
}

pub(crate) fn read_features(version: OfVersion, r: &mut Reader<'_>) -> Result<TableFeatures, OfError> {
    *r = r.or(OfError::BadPropertyBadLen);
    let len = r.u16()? as usize;
    let mut r = r.sub(len.checked_sub(2).ok_or(OfError::BadPropertyBadLen)?)?;
    let table = TableId(r.u8()?);
    r.skip(5)?;
    let name = r.text(NAME_LEN)?;
    let (metadata_match, metadata_write) = (r.u64()?, r.u64()?);
    let (capabilities, max_entries) = (r.u32()?, r.u32()?);
    let mut features = TableFeatures {
        table,
        name,
        metadata_match,
        metadata_write,
        capabilities: if version >= OfVersion::V14 { capabilities } else { 0 },
        max_entries,
        hit: TableAbilities::default(),
        miss: TableAbilities::default(),
        matchable: FieldSet::default(),
        maskable: FieldSet::default(),
        wildcardable: FieldSet::default(),
    };
    let mut misses = 0u32;
    while !r.is_empty() {
        let (kind, mut body) = property(&mut r)?;
        if kind % 2 == 1 && kind < 16 {
            misses |= 1 << (kind - 1);
        }
        read_feature(&mut features, kind, &mut body)?;
    }
    // What the table miss can do is only told where it differs.
    inherit(&mut features, misses);
    Ok(features)
}

fn inherit(features: &mut TableFeatures, told: u32) {
    let (hit, miss) = (features.hit, &mut features.miss);
    let same = |kind: u16| told & 1 << kind == 0;
    if same(prop::INSTRUCTIONS) {
        miss.instructions = hit.instructions;
    }
    if same(prop::NEXT_TABLES) {
        miss.next_tables = hit.next_tables;
    }
    if same(prop::WRITE_ACTIONS) {
        miss.write.actions = hit.write.actions;
    }
    if same(prop::APPLY_ACTIONS) {
        miss.apply.actions = hit.apply.actions;
    }
    if same(prop::WRITE_SETFIELD) {
        miss.write.set_fields = hit.write.set_fields;
    }
    if same(prop::APPLY_SETFIELD) {
        miss.apply.set_fields = hit.apply.set_fields;
    }
}

fn read_feature(features: &mut TableFeatures, kind: u16, body: &mut Reader<'_>) -> Result<(), OfError> {
    let abilities = if kind.is_multiple_of(2) { &mut features.hit } else { &mut features.miss };
    match kind & !1 {
        prop::INSTRUCTIONS => abilities.instructions = read_ids(body)?,
        prop::NEXT_TABLES => body.rest().iter().for_each(|t| abilities.next_tables.insert(TableId(*t))),
        prop::WRITE_ACTIONS => abilities.write.actions = read_ids(body)?,
        prop::APPLY_ACTIONS => abilities.apply.actions = read_ids(body)?,
        prop::MATCH => (features.matchable, features.maskable) = read_fields(body)?,
        prop::WILDCARDS => features.wildcardable = read_fields(body)?.0,
        prop::WRITE_SETFIELD => abilities.write.set_fields = read_fields(body)?.0,
        prop::APPLY_SETFIELD => abilities.apply.set_fields = read_fields(body)?.0,
        // Experimenters' properties and those of newer versions say nothing to us.
        _ => {}
    }
    Ok(())
}

/// Types of actions or instructions as bits; those of 32 and more are experimenters'.
fn read_ids(body: &mut Reader<'_>) -> Result<u32, OfError> {
    let mut bits = 0u32;
    while !body.is_empty() {
        let (kind, len) = (body.u16()?, body.u16()? as usize);
        body.skip(len.checked_sub(4).ok_or(OfError::BadPropertyBadLen)?)?;
        bits |= 1u32.checked_shl(kind as u32).unwrap_or(0);
    }
    Ok(bits)
}

/// Fields, and those of them whose header says that they have a mask.
fn read_fields(body: &mut Reader<'_>) -> Result<(FieldSet, FieldSet), OfError> {
    let (mut fields, mut masked) = (FieldSet::default(), FieldSet::default());
    while !body.is_empty() {
        let header = oxm::header(body)?;
        if let Some(field) = header.field {
            fields.insert(field);
            if header.masked {
                masked.insert(field);
            }
        }
    }
    Ok((fields, masked))
}

fn put_ids(out: &mut Vec<u8>, kind: u16, bits: u32) {
    let mut body = Vec::new();
    for id in (0..32u16).filter(|id| bits & 1 << id != 0) {
        body.put_u16(id);
        body.put_u16(4);
    }
    put_property(out, kind, &body);
}

fn put_fields(out: &mut Vec<u8>, version: OfVersion, kind: u16, fields: FieldSet, masked: FieldSet) {
    let mut body = Vec::new();
    for field in fields.iter() {
        if let Some(id) = oxm::wire_id(version, field) {
            let mask = masked.contains(field) && field.row().masking == Masking::Arbitrary;
            oxm::put_header(&mut body, id, mask, field.row().wire_bytes as usize);
        }
    }
    put_property(out, kind, &body);
}

/// Appends a property for hits and, where it differs, one for misses.
fn put_pair<T: PartialEq + Copy>(kind: u16, hit: T, miss: T, mut put: impl FnMut(u16, T)) {
    put(kind, hit);
    if miss != hit {
        put(kind + 1, miss);
    }
}

pub(crate) fn put_features(
    out: &mut Vec<u8>,
    version: OfVersion,
    t: &TableFeatures,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.zeros(2);
    out.put_u8(t.table.0);
    out.zeros(5);
    out.put_text(&t.name, NAME_LEN);
    out.put_u64(t.metadata_match);
    out.put_u64(t.metadata_write);
    out.put_u32(if version >= OfVersion::V14 { t.capabilities } else { 0 });
    out.put_u32(t.max_entries);
    let (hit, miss) = (&t.hit, &t.miss);
    put_pair(prop::INSTRUCTIONS, hit.instructions, miss.instructions, |k, v| put_ids(out, k, v));
    put_pair(prop::NEXT_TABLES, hit.next_tables, miss.next_tables, |k, v| {
        put_property(out, k, &v.iter().map(|t| t.0).collect::<Vec<_>>());
    });
    let none = FieldSet::default();
    put_pair(prop::WRITE_ACTIONS, hit.write.actions, miss.write.actions, |k, v| put_ids(out, k, v));
    put_pair(prop::WRITE_SETFIELD, hit.write.set_fields, miss.write.set_fields, |k, v| {
        put_fields(out, version, k, v, none);
    });
    put_pair(prop::APPLY_ACTIONS, hit.apply.actions, miss.apply.actions, |k, v| put_ids(out, k, v));
    put_pair(prop::APPLY_SETFIELD, hit.apply.set_fields, miss.apply.set_fields, |k, v| {
        put_fields(out, version, k, v, none);
    });
    put_fields(out, version, prop::MATCH, t.matchable, t.maskable);
    put_fields(out, version, prop::WILDCARDS, t.wildcardable, none);
    patch_len(out, start, start)?;
    Ok(())
}

/// The fields that a table of this switch can match in a version, and of them those that take arbitrary masks.
pub(crate) fn every_field(version: OfVersion) -> (FieldSet, FieldSet) {
    let matchable = FieldSet::filter(|f| !f.oxm.is_empty() && oxm::written_in(version, f.id));
    let maskable = FieldSet::filter(|f| matchable.contains(f.id) && f.masking == Masking::Arbitrary);
    (matchable, maskable)
}

/// Fields that set_field can write in a version.
pub(crate) fn writable_fields(version: OfVersion) -> FieldSet {
    let (matchable, _) = every_field(version);
    FieldSet::filter(|f| {
        let register = matches!(f.id, FieldId::Xxreg0 | FieldId::Xxreg1 | FieldId::Xxreg2 | FieldId::Xxreg3);
        f.access == flowtable::field::Access::Writable && (matchable.contains(f.id) || register)
    })
}

impl TableFeatures {
    /// What every table of a switch that has all that this crate and `flowtable` know can do. `last` is the last table
    /// that goto_table can reach.
    pub fn full(version: OfVersion, table: TableId, last: TableId, max_entries: u32) -> TableFeatures {
        /// goto_table, write_metadata, write_actions, apply_actions, clear_actions.
        const INSTRUCTIONS: u32 = 0b11_1110;
        /// The last table cannot go on.
        const INSTRUCTIONS_LAST: u32 = INSTRUCTIONS & !0b10;
        /// output, MPLS and VLAN push and pop, TTLs, set_field.
        const ACTIONS: u32 = 1 | 0b11_1111 << 15 | 0b111 << 23;
        let copy_field = if version == OfVersion::V15 { 1 << 28 } else { 0 };
        let (matchable, maskable) = every_field(version);
        let lists = ActionAbilities { actions: ACTIONS | copy_field, set_fields: writable_fields(version) };
        let abilities = TableAbilities {
            instructions: if table.0 < last.0 { INSTRUCTIONS } else { INSTRUCTIONS_LAST },
            next_tables: if table.0 < last.0 {
                TableSet::range(table.0 + 1, last.0)
            } else {
                TableSet::default()
            },
            write: lists,
            apply: lists,
        };
        TableFeatures {
            table,
            name: String::new(),
            metadata_match: u64::MAX,
            metadata_write: u64::MAX,
            capabilities: 0,
            max_entries,
            hit: abilities,
            miss: abilities,
            matchable,
            maskable,
            wildcardable: matchable,
        }
    }
}
