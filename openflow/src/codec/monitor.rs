//! Flow monitor requests and updates: Nicira's (OpenFlow 1.0), ONF's (1.3), the standard's (1.4 and later).

use super::action::read_actions;
use super::action_out::{Seen, put_actions};
use super::instruction::{put_instructions, read_instructions};
use super::oxm::{self, Unknown};
use super::{EncodeError, flow::removed_reason, port16, read_port32};
use crate::error::OfError;
use crate::message::*;
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len, patch_u16};
use flowtable::{OfPort, TableId};

const FLAGS: u16 = 0x3f;
/// `OFPFMF_ONLY_OWN`, which OVS reads as "own changes in full"; it does not know `OFPFMF_NO_ABBREV`.
const ONLY_OWN: u16 = 1 << 6;

pub(crate) fn read_request(version: OfVersion, r: &mut Reader<'_>) -> Result<FlowMonitor, OfError> {
    match version {
        OfVersion::V10 => read_request_nx(r),
        OfVersion::V13 => read_request_onf(r),
        _ => read_request_14(r),
    }
}

fn flags(bits: u16) -> Result<MonitorFlags, OfError> {
    const EVENTS: u16 = MonitorFlags::ADD | MonitorFlags::DELETE | MonitorFlags::MODIFY;
    if bits & !FLAGS != 0 || bits & (EVENTS | MonitorFlags::INITIAL) == 0 {
        return Err(OfError::FlowMonitorFailedBadFlags);
    }
    Ok(MonitorFlags(bits))
}

fn read_request_nx(r: &mut Reader<'_>) -> Result<FlowMonitor, OfError> {
    let (id, bits) = (r.u32()?, r.u16()?);
    let out_port = OfPort::from_u16(r.u16()?);
    let match_len = r.u16()? as usize;
    let table = TableId(r.u8()?);
    if r.take(5)?.iter().any(|b| *b != 0) {
        return Err(OfError::NxBadRequestMustBeZero);
    }
    let fields = oxm::read_nx_match(r, match_len, Unknown::Refuse)?;
    if fields.cookie.is_some() {
        return Err(OfError::NxBadRequestNxmInvalid);
    }
    Ok(FlowMonitor {
        id,
        command: MonitorCommand::Add,
        flags: flags(bits)?,
        out_port,
        out_group: GROUP_ANY,
        table,
        matching: fields.matching,
    })
}

fn read_request_onf(r: &mut Reader<'_>) -> Result<FlowMonitor, OfError> {
    let (id, bits, _match_len) = (r.u32()?, r.u16()?, r.u16()?);
    let out_port = read_port32(r)?;
    let table = TableId(r.u8()?);
    if r.take(3)?.iter().any(|b| *b != 0) {
        return Err(OfError::NxBadRequestMustBeZero);
    }
    let matching = oxm::read_ofp_match(r, Unknown::Refuse)?;
    Ok(FlowMonitor {
        id,
        command: MonitorCommand::Add,
        flags: flags(bits)?,
        out_port,
        out_group: GROUP_ANY,
        table,
        matching,
    })
}

fn read_request_14(r: &mut Reader<'_>) -> Result<FlowMonitor, OfError> {
    let id = r.u32()?;
    let (out_port, out_group) = (read_port32(r)?, r.u32()?);
    let bits = r.u16()?;
    let table = TableId(r.u8()?);
    let command = match r.u8()? {
        0 => MonitorCommand::Add,
        1 => MonitorCommand::Modify,
        2 => MonitorCommand::Delete,
        _ => return Err(OfError::FlowMonitorFailedBadCommand),
    };
    let matching = oxm::read_ofp_match(r, Unknown::Refuse)?;
    let bits = if bits & ONLY_OWN != 0 { bits & !ONLY_OWN | MonitorFlags::NO_ABBREV } else { bits };
    let flags = if command == MonitorCommand::Delete { MonitorFlags(bits) } else { flags(bits)? };
    Ok(FlowMonitor { id, command, flags, out_port, out_group, table, matching })
}

pub(crate) fn put_request(out: &mut Vec<u8>, version: OfVersion, m: &FlowMonitor) -> Result<(), EncodeError> {
    out.put_u32(m.id);
    if version >= OfVersion::V14 {
        out.put_u32(m.out_port.0);
        out.put_u32(m.out_group);
        let own = if m.flags.has(MonitorFlags::NO_ABBREV) { ONLY_OWN } else { 0 };
        out.put_u16(m.flags.0 & FLAGS & !MonitorFlags::NO_ABBREV | own);
        out.put_u8(m.table.0);
        out.put_u8(m.command as u8);
        return oxm::put_ofp_match(out, version, &m.matching);
    }
    if m.command != MonitorCommand::Add {
        return Err(EncodeError::Inexpressible("monitor command"));
    }
    out.put_u16(m.flags.0 & FLAGS);
    if version == OfVersion::V13 {
        let len_at = out.len();
        out.zeros(2);
        out.put_u32(m.out_port.0);
        out.put_u8(m.table.0);
        out.zeros(3);
        let start = out.len();
        oxm::put_ofp_match(out, version, &m.matching)?;
        // The match's own length, which is without its padding.
        let len = out.get(start + 2..start + 4).map_or(0, |b| b.iter().fold(0, |v, x| v << 8 | *x as u16));
        patch_u16(out, len_at, len);
        return Ok(());
    }
    out.put_u16(port16(m.out_port)?);
    let len_at = out.len();
    out.zeros(2);
    out.put_u8(m.table.0);
    out.zeros(5);
    let len = oxm::put_nx_match(out, version, &m.matching, CookieFilter::default())?;
    patch_u16(out, len_at, len);
    Ok(())
}

/// Event numbers: Nicira's and ONF's have no "initial", "paused" and "resumed".
fn event_number(version: OfVersion, event: MonitorEvent) -> u16 {
    let (initial, base) = if version >= OfVersion::V14 { (0, 1) } else { (0, 0) };
    match event {
        MonitorEvent::Initial => initial,
        MonitorEvent::Added => base,
        MonitorEvent::Removed(_) => base + 1,
        MonitorEvent::Modified => base + 2,
    }
}

pub(crate) fn read_update(version: OfVersion, r: &mut Reader<'_>) -> Result<FlowUpdate, OfError> {
    let (len, event) = (r.u16()? as usize, r.u16()?);
    let mut body = r.sub(len.checked_sub(4).ok_or(OfError::BadRequestBadLen)?)?;
    let v14 = version >= OfVersion::V14;
    // Numbers counted as in OpenFlow 1.4.
    let event = if v14 { event } else { event.saturating_add(1) };
    let event = match event {
        0 => MonitorEvent::Initial,
        1 => MonitorEvent::Added,
        2 => MonitorEvent::Removed(FlowRemovedReason::Delete),
        3 => MonitorEvent::Modified,
        4 => return Ok(FlowUpdate::Abbrev(Xid(body.u32()?))),
        5 if v14 => return Ok(FlowUpdate::Paused),
        6 if v14 => return Ok(FlowUpdate::Resumed),
        _ => return Err(OfError::NxBadRequestFmBadEvent),
    };
    let update =
        if v14 { read_full_14(version, event, &mut body)? } else { read_full_nx(version, event, &mut body)? };
    Ok(FlowUpdate::Full(Box::new(update)))
}

fn with_reason(event: MonitorEvent, reason: u8) -> Result<MonitorEvent, OfError> {
    Ok(match event {
        MonitorEvent::Removed(_) => MonitorEvent::Removed(removed_reason(reason)?),
        other => other,
    })
}

fn read_full_nx(version: OfVersion, event: MonitorEvent, r: &mut Reader<'_>) -> Result<RuleUpdate, OfError> {
    let event = with_reason(event, r.u16()? as u8)?;
    let (priority, idle_timeout, hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
    let match_len = r.u16()? as usize;
    let table = TableId(r.u8()?);
    r.skip(1)?;
    let cookie = r.u64()?;
    let (matching, actions) = if version == OfVersion::V10 {
        let matching = oxm::read_nx_match(r, match_len, Unknown::Skip)?.matching;
        (matching, read_actions(version, r.rest())?)
    } else {
        (oxm::read_ofp_match(r, Unknown::Skip)?, read_instructions(version, r.rest())?)
    };
    Ok(RuleUpdate { event, table, priority, cookie, idle_timeout, hard_timeout, matching, actions })
}

fn read_full_14(version: OfVersion, event: MonitorEvent, r: &mut Reader<'_>) -> Result<RuleUpdate, OfError> {
    let table = TableId(r.u8()?);
    let event = with_reason(event, r.u8()?)?;
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(4)?;
    let cookie = r.u64()?;
    let matching = oxm::read_ofp_match(r, Unknown::Skip)?;
    let actions = read_instructions(version, r.rest())?;
    Ok(RuleUpdate { event, table, priority, cookie, idle_timeout, hard_timeout, matching, actions })
}

pub(crate) fn put_update(
    out: &mut Vec<u8>,
    version: OfVersion,
    update: &FlowUpdate,
) -> Result<(), EncodeError> {
    let v14 = version >= OfVersion::V14;
    let short = |out: &mut Vec<u8>, event: u16, data: u32| {
        out.put_u16(8);
        out.put_u16(event);
        out.put_u32(data);
    };
    match update {
        FlowUpdate::Full(update) => return put_full(out, version, update),
        FlowUpdate::Abbrev(xid) => short(out, if v14 { 4 } else { 3 }, xid.0),
        FlowUpdate::Paused if v14 => short(out, 5, 0),
        FlowUpdate::Resumed if v14 => short(out, 6, 0),
        _ => return Err(EncodeError::Inexpressible("pause in a monitor's updates")),
    }
    Ok(())
}

fn put_full(out: &mut Vec<u8>, version: OfVersion, m: &RuleUpdate) -> Result<(), EncodeError> {
    let start = out.len();
    let reason = match m.event {
        MonitorEvent::Removed(reason) => reason as u8,
        _ => 0,
    };
    let seen = &mut Seen::from_match(&m.matching);
    out.zeros(2);
    out.put_u16(event_number(version, m.event));
    if version >= OfVersion::V14 {
        out.put_u8(m.table.0);
        out.put_u8(reason);
        out.put_u16(m.idle_timeout);
        out.put_u16(m.hard_timeout);
        out.put_u16(m.priority);
        out.zeros(4);
        out.put_u64(m.cookie);
        oxm::put_ofp_match(out, version, &m.matching)?;
        put_instructions(out, version, &m.actions, seen)?;
        patch_len(out, start, start)?;
        return Ok(());
    }
    out.put_u16(reason as u16);
    out.put_u16(m.priority);
    out.put_u16(m.idle_timeout);
    out.put_u16(m.hard_timeout);
    let len_at = out.len();
    out.zeros(2);
    out.put_u8(m.table.0);
    out.zeros(1);
    out.put_u64(m.cookie);
    if version == OfVersion::V10 {
        let len = oxm::put_nx_match(out, version, &m.matching, CookieFilter::default())?;
        patch_u16(out, len_at, len);
        put_actions(out, version, &m.actions, seen)?;
    } else {
        let match_start = out.len();
        oxm::put_ofp_match(out, version, &m.matching)?;
        let len = out
            .get(match_start + 2..match_start + 4)
            .map_or(0, |b| b.iter().fold(0, |v, x| v << 8 | *x as u16));
        patch_u16(out, len_at, len);
        put_instructions(out, version, &m.actions, seen)?;
    }
    patch_len(out, start, start)?;
    Ok(())
}
