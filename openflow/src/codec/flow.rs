//! FLOW_MOD, FLOW_REMOVED, GROUP_MOD, METER_MOD.

use super::action::read_actions;
use super::action_out::{Seen, put_actions};
use super::instruction::{put_instructions, read_instructions};
use super::oxm::{self, Unknown};
use super::{EncodeError, Frame, extension::nxt, match10, ofpt, port16, put_count, put_duration};
use super::{read_buffer, read_count, read_duration, read_port32, statistics};
use crate::error::OfError;
use crate::message::*;
use crate::version::{Dialect, FlowFormat, OfVersion};
use crate::wire::{Put, Reader, patch_u16};
use flowtable::{OfPort, TableId};

fn command(number: u16) -> Result<FlowModCommand, OfError> {
    Ok(match number {
        0 => FlowModCommand::Add,
        1 => FlowModCommand::Modify,
        2 => FlowModCommand::ModifyStrict,
        3 => FlowModCommand::Delete,
        4 => FlowModCommand::DeleteStrict,
        _ => return Err(OfError::FlowModFailedBadCommand),
    })
}

fn deletes(command: FlowModCommand) -> bool {
    matches!(command, FlowModCommand::Delete | FlowModCommand::DeleteStrict)
}

/// Command and table of OpenFlow 1.0's and Nicira's command field.
fn command_and_table(dialect: &Dialect, field: u16) -> Result<(FlowModCommand, TableId), OfError> {
    if dialect.flow_mod_table_id {
        Ok((command(field & 0xff)?, TableId((field >> 8) as u8)))
    } else {
        Ok((command(field)?, TableId::ALL))
    }
}

/// OpenFlow 1.0's flags; its emergency flow cache does not exist.
fn flags_10(command: FlowModCommand, flags: u16) -> Result<FlowModFlags, OfError> {
    const EMERGENCY: u16 = 1 << 2;
    if flags & !0b111 != 0 {
        return Err(OfError::FlowModFailedBadFlags);
    }
    if flags & EMERGENCY != 0 {
        return Err(OfError::FlowModFailedTableFull);
    }
    // The counters of a flow that is replaced restart (OpenFlow 1.0 §4.6), those of one that is modified never do; OpenFlow 1.3
    // gave a choice.
    let implied = if command == FlowModCommand::Add { FlowModFlags::RESET_COUNTS } else { 0 };
    Ok(FlowModFlags(flags | implied))
}

/// What follows the match of OpenFlow 1.0, or precedes Nicira's.
struct Fixed10 {
    cookie: u64,
    command: FlowModCommand,
    table: TableId,
    flow_mod: FlowMod,
}

fn read_fixed_10(dialect: &Dialect, r: &mut Reader<'_>) -> Result<Fixed10, OfError> {
    let cookie = r.u64()?;
    let (command, table) = command_and_table(dialect, r.u16()?)?;
    let mut flow_mod = FlowMod::new(command);
    flow_mod.table = table;
    flow_mod.idle_timeout = r.u16()?;
    flow_mod.hard_timeout = r.u16()?;
    flow_mod.priority = r.u16()?;
    flow_mod.buffer = read_buffer(r)?;
    let out_port = OfPort::from_u16(r.u16()?);
    if deletes(command) {
        flow_mod.out_port = out_port;
    }
    flow_mod.flags = flags_10(command, r.u16()?)?;
    flow_mod.new_cookie = match command {
        FlowModCommand::Add => Some(cookie),
        FlowModCommand::Modify | FlowModCommand::ModifyStrict => Some(cookie).filter(|c| *c != u64::MAX),
        _ => None,
    };
    Ok(Fixed10 { cookie, command, table, flow_mod })
}

pub(crate) fn read_mod_10(dialect: &Dialect, r: &mut Reader<'_>) -> Result<FlowMod, OfError> {
    let matching = match10::read(r)?;
    let mut flow_mod = read_fixed_10(dialect, r)?.flow_mod;
    flow_mod.matching = matching;
    flow_mod.actions = read_actions(dialect.version, r.rest())?;
    Ok(flow_mod)
}

pub(crate) fn read_nx_mod(dialect: &Dialect, r: &mut Reader<'_>) -> Result<FlowMod, OfError> {
    let Fixed10 { cookie, command, table, mut flow_mod } = read_fixed_10(dialect, r)?;
    let match_len = r.u16()? as usize;
    r.skip(6)?;
    let fields = oxm::read_nx_match(r, match_len, Unknown::Refuse)?;
    if command == FlowModCommand::Add && fields.cookie.is_some() {
        return Err(OfError::NxBadRequestNxmInvalid);
    }
    flow_mod.cookie_filter = fields.cookie.unwrap_or_default();
    flow_mod.matching = fields.matching;
    flow_mod.table = table;
    if command == FlowModCommand::Add {
        flow_mod.new_cookie = Some(cookie);
    }
    flow_mod.actions = read_actions(dialect.version, r.rest())?;
    Ok(flow_mod)
}

pub(crate) fn read_mod_13(version: OfVersion, r: &mut Reader<'_>) -> Result<FlowMod, OfError> {
    let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
    let table = TableId(r.u8()?);
    let command = command(r.u8()? as u16)?;
    let mut flow_mod = FlowMod::new(command);
    flow_mod.table = table;
    flow_mod.idle_timeout = r.u16()?;
    flow_mod.hard_timeout = r.u16()?;
    flow_mod.priority = r.u16()?;
    flow_mod.buffer = read_buffer(r)?;
    let (out_port, out_group) = (r.u32()?, r.u32()?);
    let (flags, importance) = (r.u16()?, r.u16()?);
    flow_mod.matching = oxm::read_ofp_match(r, Unknown::Refuse)?;
    flow_mod.actions = read_instructions(version, r.rest())?;
    if flags & !0x1f != 0 {
        return Err(OfError::FlowModFailedBadFlags);
    }
    flow_mod.flags = FlowModFlags(flags);
    if version >= OfVersion::V14 {
        flow_mod.importance = importance;
    }
    if command == FlowModCommand::Add {
        if table == TableId::ALL {
            return Err(OfError::FlowModFailedBadTableId);
        }
        flow_mod.new_cookie = Some(cookie);
    } else {
        flow_mod.cookie_filter = CookieFilter { value: cookie & cookie_mask, mask: cookie_mask };
    }
    if deletes(command) {
        flow_mod.out_port =
            read_port32(&mut Reader::new(&out_port.to_be_bytes(), OfError::BadRequestBadLen))?;
        flow_mod.out_group = out_group;
    }
    Ok(flow_mod)
}

pub(crate) fn put_mod(f: &mut Frame<'_>, m: &FlowMod) -> Result<(), EncodeError> {
    if f.version() != OfVersion::V10 {
        return put_mod_13(f, m);
    }
    let mut fixed_match = Vec::with_capacity(match10::LEN);
    let plain = f.dialect.flow_format == FlowFormat::OpenFlow10 && m.cookie_filter.mask == 0;
    let keeps_cookie = m.new_cookie.is_none() && !deletes(m.command);
    if plain && !keeps_cookie && match10::put(&mut fixed_match, &m.matching).is_some() {
        f.begin(ofpt::FLOW_MOD);
        f.out.put(&fixed_match);
        put_fixed_10(f, m)?;
    } else {
        f.begin_nicira(nxt::FLOW_MOD);
        put_fixed_10(f, m)?;
        let len_at = f.out.len();
        f.out.zeros(8);
        let len = oxm::put_nx_match(f.out, f.dialect.version, &m.matching, m.cookie_filter)?;
        patch_u16(f.out, len_at, len);
    }
    put_actions(f.out, f.dialect.version, &m.actions, &mut Seen::from_match(&m.matching))?;
    f.end()
}

fn put_fixed_10(f: &mut Frame<'_>, m: &FlowMod) -> Result<(), EncodeError> {
    let table = if f.dialect.flow_mod_table_id { (m.table.0 as u16) << 8 } else { 0 };
    if !f.dialect.flow_mod_table_id && m.table != TableId::ALL && m.table.0 != 0 {
        return Err(EncodeError::Inexpressible("table of a flow_mod without NXT_FLOW_MOD_TABLE_ID"));
    }
    // All ones leave the cookie alone; for deletes it says nothing.
    f.out.put_u64(m.new_cookie.unwrap_or(if deletes(m.command) { 0 } else { u64::MAX }));
    f.out.put_u16(table | m.command as u16);
    f.out.put_u16(m.idle_timeout);
    f.out.put_u16(m.hard_timeout);
    f.out.put_u16(m.priority);
    f.out.put_u32(m.buffer.unwrap_or(u32::MAX));
    f.out.put_u16(port16(m.out_port)?);
    f.out.put_u16(m.flags.0 & (FlowModFlags::SEND_FLOW_REM | FlowModFlags::CHECK_OVERLAP));
    Ok(())
}

fn put_mod_13(f: &mut Frame<'_>, m: &FlowMod) -> Result<(), EncodeError> {
    let version = f.version();
    f.begin(ofpt::FLOW_MOD);
    let add = m.command == FlowModCommand::Add;
    f.out.put_u64(if add { m.new_cookie.unwrap_or(0) } else { m.cookie_filter.value });
    f.out.put_u64(if add { 0 } else { m.cookie_filter.mask });
    // Adding to "all tables" means the first.
    f.out.put_u8(if add && m.table == TableId::ALL { 0 } else { m.table.0 });
    f.out.put_u8(m.command as u8);
    f.out.put_u16(m.idle_timeout);
    f.out.put_u16(m.hard_timeout);
    f.out.put_u16(m.priority);
    f.out.put_u32(m.buffer.unwrap_or(u32::MAX));
    f.out.put_u32(m.out_port.0);
    f.out.put_u32(m.out_group);
    f.out.put_u16(m.flags.0);
    f.out.put_u16(if version >= OfVersion::V14 { m.importance } else { 0 });
    oxm::put_ofp_match(f.out, version, &m.matching)?;
    put_instructions(f.out, version, &m.actions, &mut Seen::from_match(&m.matching))?;
    f.end()
}

pub(crate) fn removed_reason(number: u8) -> Result<FlowRemovedReason, OfError> {
    FlowRemovedReason::ALL.into_iter().find(|r| *r as u8 == number).ok_or(OfError::NxBadRequestBadReason)
}

pub(crate) fn read_removed(version: OfVersion, r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    match version {
        OfVersion::V10 => read_removed_10(r),
        OfVersion::V15 => read_removed_15(r),
        _ => {
            let cookie = r.u64()?;
            let priority = r.u16()?;
            let reason = removed_reason(r.u8()?)?;
            let table = TableId(r.u8()?);
            let duration = read_duration(r)?;
            let (idle_timeout, hard_timeout) = (r.u16()?, r.u16()?);
            let (packets, bytes) = (read_count(r)?, read_count(r)?);
            let matching = oxm::read_ofp_match(r, Unknown::Skip)?;
            Ok(FlowRemoved {
                matching,
                cookie,
                priority,
                reason,
                table,
                duration,
                idle_timeout,
                hard_timeout,
                packets,
                bytes,
            })
        }
    }
}

fn read_removed_10(r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    let matching = match10::read(r)?;
    let (cookie, priority) = (r.u64()?, r.u16()?);
    let reason = removed_reason(r.u8()?)?;
    r.skip(1)?;
    let duration = read_duration(r)?;
    let idle_timeout = r.u16()?;
    r.skip(2)?;
    let (packets, bytes) = (read_count(r)?, read_count(r)?);
    Ok(FlowRemoved {
        matching,
        cookie,
        priority,
        reason,
        table: TableId::ALL,
        duration,
        idle_timeout,
        hard_timeout: 0,
        packets,
        bytes,
    })
}

pub(crate) fn read_nx_removed(r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    let (cookie, priority) = (r.u64()?, r.u16()?);
    let reason = removed_reason(r.u8()?)?;
    // One more than the table's number, 0 for not told.
    let table = TableId(r.u8()?.wrapping_sub(1));
    let duration = read_duration(r)?;
    let idle_timeout = r.u16()?;
    let match_len = r.u16()? as usize;
    let (packets, bytes) = (read_count(r)?, read_count(r)?);
    let matching = oxm::read_nx_match(r, match_len, Unknown::Skip)?.matching;
    Ok(FlowRemoved {
        matching,
        cookie,
        priority,
        reason,
        table,
        duration,
        idle_timeout,
        hard_timeout: 0,
        packets,
        bytes,
    })
}

fn read_removed_15(r: &mut Reader<'_>) -> Result<FlowRemoved, OfError> {
    let table = TableId(r.u8()?);
    let reason = removed_reason(r.u8()?)?;
    let priority = r.u16()?;
    let (idle_timeout, hard_timeout) = (r.u16()?, r.u16()?);
    let cookie = r.u64()?;
    let matching = oxm::read_ofp_match(r, Unknown::Skip)?;
    let stats = statistics::read_oxs(r)?;
    Ok(FlowRemoved {
        matching,
        cookie,
        priority,
        reason,
        table,
        duration: stats.duration.unwrap_or_default(),
        idle_timeout,
        hard_timeout,
        packets: stats.packets,
        bytes: stats.bytes,
    })
}

pub(crate) fn put_removed(f: &mut Frame<'_>, m: &FlowRemoved) -> Result<(), EncodeError> {
    match f.version() {
        OfVersion::V10 => put_removed_10(f, m),
        OfVersion::V15 => put_removed_15(f, m),
        version => {
            f.begin(ofpt::FLOW_REMOVED);
            put_removed_head(f.out, m, m.table.0);
            f.out.put_u16(m.hard_timeout);
            put_count(f.out, m.packets);
            put_count(f.out, m.bytes);
            oxm::put_ofp_match(f.out, version, &m.matching)?;
            f.end()
        }
    }
}

fn put_removed_head(out: &mut Vec<u8>, m: &FlowRemoved, table: u8) {
    out.put_u64(m.cookie);
    out.put_u16(m.priority);
    out.put_u8(m.reason as u8);
    out.put_u8(table);
    put_duration(out, m.duration);
    out.put_u16(m.idle_timeout);
}

fn put_removed_10(f: &mut Frame<'_>, m: &FlowRemoved) -> Result<(), EncodeError> {
    let mut fixed_match = Vec::with_capacity(match10::LEN);
    let plain = f.dialect.flow_format == FlowFormat::OpenFlow10;
    if plain && match10::put(&mut fixed_match, &m.matching).is_some() {
        f.begin(ofpt::FLOW_REMOVED);
        f.out.put(&fixed_match);
        put_removed_head(f.out, m, 0);
        f.out.zeros(2);
        put_count(f.out, m.packets);
        put_count(f.out, m.bytes);
        return f.end();
    }
    f.begin_nicira(nxt::FLOW_REMOVED);
    put_removed_head(f.out, m, m.table.0.wrapping_add(1));
    let len_at = f.out.len();
    f.out.zeros(2);
    put_count(f.out, m.packets);
    put_count(f.out, m.bytes);
    let len = oxm::put_nx_match(f.out, f.dialect.version, &m.matching, CookieFilter::default())?;
    patch_u16(f.out, len_at, len);
    f.end()
}

fn put_removed_15(f: &mut Frame<'_>, m: &FlowRemoved) -> Result<(), EncodeError> {
    f.begin(ofpt::FLOW_REMOVED);
    f.out.put_u8(m.table.0);
    f.out.put_u8(m.reason as u8);
    f.out.put_u16(m.priority);
    f.out.put_u16(m.idle_timeout);
    f.out.put_u16(m.hard_timeout);
    f.out.put_u64(m.cookie);
    oxm::put_ofp_match(f.out, OfVersion::V15, &m.matching)?;
    let stats = statistics::Oxs {
        duration: Some(m.duration),
        packets: m.packets,
        bytes: m.bytes,
        ..statistics::Oxs::default()
    };
    statistics::put_oxs(f.out, &stats);
    f.end()
}
