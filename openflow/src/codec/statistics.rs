//! Statistics of rules and their sums, in the forms of every version; OXS lists of OpenFlow 1.5.

use super::action::read_actions;
use super::action_out::{Seen, put_actions};
use super::instruction::{put_instructions, read_instructions};
use super::oxm::{self, Unknown};
use super::{EncodeError, match10, port16, put_count, put_duration, read_count, read_duration, read_port32};
use crate::error::OfError;
use crate::message::*;
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len, patch_u16};
use flowtable::{Match, OfPort, TableId};
use std::time::Duration;

/// What an OXS list can tell (OpenFlow 1.5.1 §7.2.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Oxs {
    pub duration: Option<Duration>,
    pub idle: Option<Duration>,
    pub flows: Option<u32>,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
}

const OXS_CLASS: u16 = 0x8002;
const OXS_DURATION: u8 = 0;
const OXS_IDLE_TIME: u8 = 1;
const OXS_FLOW_COUNT: u8 = 3;
const OXS_PACKET_COUNT: u8 = 4;
const OXS_BYTE_COUNT: u8 = 5;

/// Reads an `ofp_stats` with its padding.
pub(crate) fn read_oxs(r: &mut Reader<'_>) -> Result<Oxs, OfError> {
    r.skip(2)?;
    let len = r.u16()? as usize;
    let mut list = r.sub(len.checked_sub(4).ok_or(OfError::BadRequestBadLen)?)?;
    r.skip_padding(len.next_multiple_of(8) - len);
    let mut oxs = Oxs::default();
    while !list.is_empty() {
        let (class, field, len) = (list.u16()?, list.u8()? >> 1, list.u8()? as usize);
        let mut value = list.sub(len)?;
        match (class, field) {
            (OXS_CLASS, OXS_DURATION) => oxs.duration = Some(read_duration(&mut value)?),
            (OXS_CLASS, OXS_IDLE_TIME) => oxs.idle = Some(read_duration(&mut value)?),
            (OXS_CLASS, OXS_FLOW_COUNT) => oxs.flows = Some(value.u32()?),
            (OXS_CLASS, OXS_PACKET_COUNT) => oxs.packets = read_count(&mut value)?,
            (OXS_CLASS, OXS_BYTE_COUNT) => oxs.bytes = read_count(&mut value)?,
            _ => {}
        }
    }
    Ok(oxs)
}

/// Writes an `ofp_stats` with its padding.
pub(crate) fn put_oxs(out: &mut Vec<u8>, oxs: &Oxs) {
    let start = out.len();
    out.zeros(4);
    let header = |out: &mut Vec<u8>, field: u8, len: u8| {
        out.put_u16(OXS_CLASS);
        out.put_u8(field << 1);
        out.put_u8(len);
    };
    for (field, duration) in [(OXS_DURATION, oxs.duration), (OXS_IDLE_TIME, oxs.idle)] {
        if let Some(duration) = duration {
            header(out, field, 8);
            put_duration(out, duration);
        }
    }
    for (field, count) in [(OXS_PACKET_COUNT, oxs.packets), (OXS_BYTE_COUNT, oxs.bytes)] {
        if let Some(count) = count {
            header(out, field, 8);
            out.put_u64(count);
        }
    }
    if let Some(flows) = oxs.flows {
        header(out, OXS_FLOW_COUNT, 4);
        out.put_u32(flows);
    }
    let len = (out.len() - start) as u16;
    patch_u16(out, start + 2, len);
    out.pad8(start);
}

pub(crate) fn read_request_10(r: &mut Reader<'_>) -> Result<FlowStatsRequest, OfError> {
    let matching = match10::read(r)?;
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let out_port = OfPort::from_u16(r.u16()?);
    Ok(FlowStatsRequest { table, matching, out_port, ..FlowStatsRequest::all(FlowStatsForm::Standard) })
}

pub(crate) fn read_request_nx(r: &mut Reader<'_>) -> Result<FlowStatsRequest, OfError> {
    let out_port = OfPort::from_u16(r.u16()?);
    let match_len = r.u16()? as usize;
    let table = TableId(r.u8()?);
    r.skip(3)?;
    let fields = oxm::read_nx_match(r, match_len, Unknown::Refuse)?;
    Ok(FlowStatsRequest {
        table,
        matching: fields.matching,
        out_port,
        cookie_filter: fields.cookie.unwrap_or_default(),
        ..FlowStatsRequest::all(FlowStatsForm::Nicira)
    })
}

pub(crate) fn read_request_13(form: FlowStatsForm, r: &mut Reader<'_>) -> Result<FlowStatsRequest, OfError> {
    let table = TableId(r.u8()?);
    r.skip(3)?;
    let (out_port, out_group) = (read_port32(r)?, r.u32()?);
    r.skip(4)?;
    let (value, mask) = (r.u64()?, r.u64()?);
    let matching = oxm::read_ofp_match(r, Unknown::Refuse)?;
    let cookie_filter = CookieFilter { value: value & mask, mask };
    Ok(FlowStatsRequest { form, table, matching, out_port, out_group, cookie_filter })
}

pub(crate) fn put_request_10(out: &mut Vec<u8>, m: &FlowStatsRequest) -> Result<(), EncodeError> {
    if m.cookie_filter.mask != 0 {
        return Err(EncodeError::Inexpressible("cookie condition"));
    }
    match10::put(out, &m.matching).ok_or(EncodeError::Inexpressible("match"))?;
    out.put_u8(m.table.0);
    out.zeros(1);
    out.put_u16(port16(m.out_port)?);
    Ok(())
}

pub(crate) fn put_request_nx(
    out: &mut Vec<u8>,
    version: OfVersion,
    m: &FlowStatsRequest,
) -> Result<(), EncodeError> {
    out.put_u16(port16(m.out_port)?);
    let len_at = out.len();
    out.zeros(2);
    out.put_u8(m.table.0);
    out.zeros(3);
    let len = oxm::put_nx_match(out, version, &m.matching, m.cookie_filter)?;
    patch_u16(out, len_at, len);
    Ok(())
}

pub(crate) fn put_request_13(
    out: &mut Vec<u8>,
    version: OfVersion,
    m: &FlowStatsRequest,
) -> Result<(), EncodeError> {
    out.put_u8(m.table.0);
    out.zeros(3);
    out.put_u32(m.out_port.0);
    out.put_u32(m.out_group);
    out.zeros(4);
    out.put_u64(m.cookie_filter.value);
    out.put_u64(m.cookie_filter.mask);
    oxm::put_ofp_match(out, version, &m.matching)
}

/// A rule of which nothing is known yet.
fn blank(table: TableId, matching: Match) -> FlowStats {
    FlowStats {
        table,
        matching,
        priority: 0,
        cookie: 0,
        duration: Duration::ZERO,
        idle_timeout: 0,
        hard_timeout: 0,
        idle_age: None,
        hard_age: None,
        flags: FlowModFlags::default(),
        importance: 0,
        packets: None,
        bytes: None,
        actions: Vec::new(),
    }
}

/// One entry, its length first.
pub(crate) fn read_entry(
    version: OfVersion,
    form: FlowStatsForm,
    r: &mut Reader<'_>,
) -> Result<FlowStats, OfError> {
    let len = r.u16()? as usize;
    let mut entry = r.sub(len.checked_sub(2).ok_or(OfError::BadRequestBadLen)?)?;
    let r = &mut entry;
    match (form, version) {
        (FlowStatsForm::Nicira, _) => read_entry_nx(version, r),
        (FlowStatsForm::Brief, _) => read_entry_brief(r),
        (_, OfVersion::V10) => read_entry_10(r),
        (_, OfVersion::V15) => read_entry_15(r),
        _ => read_entry_13(version, r),
    }
}

fn read_entry_10(r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let mut s = blank(table, match10::read(r)?);
    s.duration = read_duration(r)?;
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(6)?;
    s.cookie = r.u64()?;
    (s.packets, s.bytes) = (read_count(r)?, read_count(r)?);
    s.actions = read_actions(OfVersion::V10, r.rest())?;
    Ok(s)
}

fn read_entry_nx(version: OfVersion, r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let mut s = blank(table, Match::any());
    s.duration = read_duration(r)?;
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let match_len = r.u16()? as usize;
    // One more than the age, 0 for not known.
    s.idle_age = r.u16()?.checked_sub(1);
    s.hard_age = r.u16()?.checked_sub(1);
    s.cookie = r.u64()?;
    (s.packets, s.bytes) = (read_count(r)?, read_count(r)?);
    s.matching = oxm::read_nx_match(r, match_len, Unknown::Skip)?.matching;
    s.actions = read_actions(version, r.rest())?;
    Ok(s)
}

fn read_entry_13(version: OfVersion, r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let mut s = blank(table, Match::any());
    s.duration = read_duration(r)?;
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    s.flags = FlowModFlags(r.u16()?);
    let importance = r.u16()?;
    s.importance = if version == OfVersion::V14 { importance } else { 0 };
    r.skip(2)?;
    s.cookie = r.u64()?;
    (s.packets, s.bytes) = (read_count(r)?, read_count(r)?);
    s.matching = oxm::read_ofp_match(r, Unknown::Skip)?;
    s.actions = read_instructions(version, r.rest())?;
    Ok(s)
}

fn read_entry_15(r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    r.skip(2)?;
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let mut s = blank(table, Match::any());
    (s.priority, s.idle_timeout, s.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    (s.flags, s.importance) = (FlowModFlags(r.u16()?), r.u16()?);
    s.cookie = r.u64()?;
    s.matching = oxm::read_ofp_match(r, Unknown::Skip)?;
    take_oxs(&mut s, &read_oxs(r)?);
    s.actions = read_instructions(OfVersion::V15, r.rest())?;
    Ok(s)
}

fn read_entry_brief(r: &mut Reader<'_>) -> Result<FlowStats, OfError> {
    r.skip(2)?;
    let table = TableId(r.u8()?);
    let _reason = r.u8()?;
    let mut s = blank(table, Match::any());
    s.priority = r.u16()?;
    s.matching = oxm::read_ofp_match(r, Unknown::Skip)?;
    take_oxs(&mut s, &read_oxs(r)?);
    Ok(s)
}

fn take_oxs(s: &mut FlowStats, oxs: &Oxs) {
    s.duration = oxs.duration.unwrap_or_default();
    s.idle_age = oxs.idle.map(|d| u16::try_from(d.as_secs()).unwrap_or(u16::MAX));
    (s.packets, s.bytes) = (oxs.packets, oxs.bytes);
}

fn oxs_of(s: &FlowStats) -> Oxs {
    Oxs {
        duration: Some(s.duration),
        idle: s.idle_age.map(|secs| Duration::from_secs(secs as u64)),
        flows: None,
        packets: s.packets,
        bytes: s.bytes,
    }
}

pub(crate) fn put_entry(
    out: &mut Vec<u8>,
    version: OfVersion,
    form: FlowStatsForm,
    s: &FlowStats,
) -> Result<(), EncodeError> {
    let start = out.len();
    let seen = &mut Seen::from_match(&s.matching);
    out.zeros(2);
    match (form, version) {
        (FlowStatsForm::Nicira, _) => {
            put_entry_nx(out, version, s)?;
            put_actions(out, version, &s.actions, seen)?;
        }
        (FlowStatsForm::Brief, OfVersion::V15) => put_entry_brief(out, s)?,
        (FlowStatsForm::Brief, _) => return Err(EncodeError::Inexpressible("statistics without actions")),
        (_, OfVersion::V10) => {
            put_entry_10(out, s)?;
            put_actions(out, version, &s.actions, seen)?;
        }
        (_, OfVersion::V15) => {
            put_entry_15(out, s)?;
            put_instructions(out, version, &s.actions, seen)?;
        }
        _ => {
            put_entry_13(out, version, s)?;
            put_instructions(out, version, &s.actions, seen)?;
        }
    }
    patch_len(out, start, start)?;
    Ok(())
}

fn put_times(out: &mut Vec<u8>, s: &FlowStats) {
    put_duration(out, s.duration);
    out.put_u16(s.priority);
    out.put_u16(s.idle_timeout);
    out.put_u16(s.hard_timeout);
}

fn put_counts(out: &mut Vec<u8>, s: &FlowStats) {
    out.put_u64(s.cookie);
    put_count(out, s.packets);
    put_count(out, s.bytes);
}

fn put_entry_10(out: &mut Vec<u8>, s: &FlowStats) -> Result<(), EncodeError> {
    out.put_u8(s.table.0);
    out.zeros(1);
    // A rule that this form cannot show is shown with the conditions that it can.
    match10::put_what_fits(out, &s.matching);
    put_times(out, s);
    out.zeros(6);
    put_counts(out, s);
    Ok(())
}

fn put_entry_nx(out: &mut Vec<u8>, version: OfVersion, s: &FlowStats) -> Result<(), EncodeError> {
    let age = |age: Option<u16>| age.map_or(0, |secs| secs.saturating_add(1));
    out.put_u8(s.table.0);
    out.zeros(1);
    put_times(out, s);
    let len_at = out.len();
    out.zeros(2);
    out.put_u16(age(s.idle_age));
    out.put_u16(age(s.hard_age));
    put_counts(out, s);
    let len = oxm::put_nx_match(out, version, &s.matching, CookieFilter::default())?;
    patch_u16(out, len_at, len);
    Ok(())
}

fn put_entry_13(out: &mut Vec<u8>, version: OfVersion, s: &FlowStats) -> Result<(), EncodeError> {
    out.put_u8(s.table.0);
    out.zeros(1);
    put_times(out, s);
    out.put_u16(s.flags.0);
    out.put_u16(if version == OfVersion::V14 { s.importance } else { 0 });
    out.zeros(2);
    put_counts(out, s);
    oxm::put_ofp_match(out, version, &s.matching)
}

fn put_entry_15(out: &mut Vec<u8>, s: &FlowStats) -> Result<(), EncodeError> {
    out.zeros(2);
    out.put_u8(s.table.0);
    out.zeros(1);
    out.put_u16(s.priority);
    out.put_u16(s.idle_timeout);
    out.put_u16(s.hard_timeout);
    out.put_u16(s.flags.0);
    out.put_u16(s.importance);
    out.put_u64(s.cookie);
    oxm::put_ofp_match(out, OfVersion::V15, &s.matching)?;
    put_oxs(out, &oxs_of(s));
    Ok(())
}

fn put_entry_brief(out: &mut Vec<u8>, s: &FlowStats) -> Result<(), EncodeError> {
    out.zeros(2);
    out.put_u8(s.table.0);
    // Sent because it was asked for.
    out.zeros(1);
    out.put_u16(s.priority);
    oxm::put_ofp_match(out, OfVersion::V15, &s.matching)?;
    put_oxs(out, &oxs_of(s));
    Ok(())
}

pub(crate) fn read_aggregate(
    version: OfVersion,
    form: FlowStatsForm,
    r: &mut Reader<'_>,
) -> Result<AggregateStats, OfError> {
    if version == OfVersion::V15 && form == FlowStatsForm::Standard {
        let oxs = read_oxs(r)?;
        return Ok(AggregateStats { packets: oxs.packets, bytes: oxs.bytes, flows: oxs.flows.unwrap_or(0) });
    }
    let stats = AggregateStats { packets: read_count(r)?, bytes: read_count(r)?, flows: r.u32()? };
    r.skip(4)?;
    Ok(stats)
}

pub(crate) fn put_aggregate(out: &mut Vec<u8>, version: OfVersion, form: FlowStatsForm, s: &AggregateStats) {
    if version == OfVersion::V15 && form == FlowStatsForm::Standard {
        let oxs = Oxs { packets: s.packets, bytes: s.bytes, flows: Some(s.flows), ..Oxs::default() };
        put_oxs(out, &oxs);
        return;
    }
    put_count(out, s.packets);
    put_count(out, s.bytes);
    out.put_u32(s.flows);
    out.zeros(4);
}
