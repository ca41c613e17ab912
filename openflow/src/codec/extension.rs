//! Vendor messages: Nicira's and ONF's.

use super::{EncodeError, Frame, connection, conntrack, flow, group, packet};
use crate::error::{NICIRA, ONF, OfError};
use crate::message::*;
use crate::version::{Dialect, FlowFormat, OfVersion, PacketInFormat};
use crate::wire::{Put, Reader};

/// Nicira's message subtypes (`nxt_*`).
pub(crate) mod nxt {
    pub const ROLE_REQUEST: u32 = 10;
    pub const ROLE_REPLY: u32 = 11;
    pub const SET_FLOW_FORMAT: u32 = 12;
    pub const FLOW_MOD: u32 = 13;
    pub const FLOW_REMOVED: u32 = 14;
    pub const FLOW_MOD_TABLE_ID: u32 = 15;
    pub const SET_PACKET_IN_FORMAT: u32 = 16;
    pub const PACKET_IN: u32 = 17;
    pub const FLOW_AGE: u32 = 18;
    pub const SET_ASYNC_CONFIG: u32 = 19;
    pub const SET_CONTROLLER_ID: u32 = 20;
    pub const FLOW_MONITOR_CANCEL: u32 = 21;
    pub const FLOW_MONITOR_PAUSED: u32 = 22;
    pub const FLOW_MONITOR_RESUMED: u32 = 23;
    pub const TLV_TABLE_MOD: u32 = 24;
    pub const TLV_TABLE_REQUEST: u32 = 25;
    pub const TLV_TABLE_REPLY: u32 = 26;
    pub const SET_ASYNC_CONFIG2: u32 = 27;
    pub const RESUME: u32 = 28;
    pub const CT_FLUSH_ZONE: u32 = 29;
    pub const PACKET_IN2: u32 = 30;
    pub const GROUP_MOD: u32 = 31;
    pub const CT_FLUSH: u32 = 32;
}

/// ONF's message types for flow monitors in OpenFlow 1.3 (extension 187).
mod onft {
    pub const FLOW_MONITOR_CANCEL: u32 = 1870;
    pub const FLOW_MONITOR_PAUSED: u32 = 1871;
    pub const FLOW_MONITOR_RESUMED: u32 = 1872;
}

const FORMAT_OPENFLOW10: u32 = 0;
const FORMAT_NXM: u32 = 2;

pub(crate) fn read(dialect: &Dialect, xid: Xid, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let (vendor, subtype) = (r.u32()?, r.u32()?);
    match vendor {
        NICIRA => read_nicira(dialect, subtype, r),
        ONF if dialect.version != OfVersion::V10 => read_onf(dialect, xid, subtype, r),
        _ => Err(OfError::BadRequestBadVendor),
    }
}

fn read_onf(dialect: &Dialect, xid: Xid, subtype: u32, r: &mut Reader<'_>) -> Result<Message, OfError> {
    // Later versions have all this in the standard.
    if dialect.version != OfVersion::V13 {
        return Err(OfError::BadRequestBadSubtype);
    }
    Ok(match subtype {
        onft::FLOW_MONITOR_CANCEL => Message::FlowMonitorCancel(r.u32()?),
        onft::FLOW_MONITOR_PAUSED => Message::FlowMonitorPaused,
        onft::FLOW_MONITOR_RESUMED => Message::FlowMonitorResumed,
        connection::ONF_BUNDLE_CONTROL => Message::BundleControl(connection::read_bundle_control(r)?),
        connection::ONF_BUNDLE_ADD => Message::BundleAdd(connection::read_bundle_add(dialect, xid, r)?),
        _ => return Err(OfError::BadRequestBadSubtype),
    })
}

fn read_nicira(dialect: &Dialect, subtype: u32, r: &mut Reader<'_>) -> Result<Message, OfError> {
    let v10 = dialect.version == OfVersion::V10;
    Ok(match subtype {
        nxt::ROLE_REQUEST => Message::RoleRequest(connection::read_nx_role(r)?),
        nxt::ROLE_REPLY => Message::RoleReply(connection::read_nx_role(r)?),
        nxt::SET_FLOW_FORMAT if v10 => Message::SetFlowFormat(match r.u32()? {
            FORMAT_OPENFLOW10 => FlowFormat::OpenFlow10,
            FORMAT_NXM => FlowFormat::Nxm,
            _ => return Err(OfError::BadRequestEperm),
        }),
        nxt::FLOW_MOD => Message::FlowMod(flow::read_nx_mod(dialect, r)?),
        nxt::FLOW_REMOVED => Message::FlowRemoved(flow::read_nx_removed(r)?),
        nxt::FLOW_MOD_TABLE_ID => {
            let set = r.u8()? != 0;
            r.skip(7)?;
            Message::FlowModTableId(set)
        }
        nxt::SET_PACKET_IN_FORMAT => Message::SetPacketInFormat(match r.u32()? {
            0 => PacketInFormat::Standard,
            1 => PacketInFormat::Nxt,
            2 => PacketInFormat::Nxt2,
            _ => return Err(OfError::BadRequestEperm),
        }),
        nxt::PACKET_IN => Message::PacketIn(packet::read_nxt_in(r)?),
        nxt::FLOW_AGE => Message::FlowAge,
        nxt::SET_ASYNC_CONFIG => Message::SetAsync(connection::read_async_fixed(r)?),
        nxt::SET_ASYNC_CONFIG2 => Message::SetAsync(connection::read_async_properties(r)?),
        nxt::SET_CONTROLLER_ID => {
            if r.take(6)?.iter().any(|b| *b != 0) {
                return Err(OfError::NxBadRequestMustBeZero);
            }
            Message::SetControllerId(r.u16()?)
        }
        nxt::FLOW_MONITOR_CANCEL if v10 => Message::FlowMonitorCancel(r.u32()?),
        nxt::FLOW_MONITOR_PAUSED if v10 => Message::FlowMonitorPaused,
        nxt::FLOW_MONITOR_RESUMED if v10 => Message::FlowMonitorResumed,
        nxt::TLV_TABLE_MOD => Message::TlvTableMod(read_tlv_mod(r)?),
        nxt::TLV_TABLE_REQUEST => Message::TlvTableRequest,
        nxt::TLV_TABLE_REPLY => Message::TlvTableReply(read_tlv_reply(r)?),
        nxt::RESUME => Message::Resume(r.rest().to_vec()),
        nxt::CT_FLUSH_ZONE => {
            if r.take(6)?.iter().any(|b| *b != 0) {
                return Err(OfError::NxBadRequestMustBeZero);
            }
            Message::CtFlushZone(r.u16()?)
        }
        nxt::CT_FLUSH => Message::CtFlush(conntrack::read(r)?),
        nxt::PACKET_IN2 => Message::PacketIn(packet::read_nxt_in2(r)?),
        nxt::GROUP_MOD if v10 => Message::GroupMod(group::read_mod(dialect.version, r)?),
        _ => return Err(OfError::BadRequestBadSubtype),
    })
}

/// Messages that are vendor messages in every version.
pub(crate) fn put(f: &mut Frame<'_>, message: &Message) -> Result<(), EncodeError> {
    match message {
        Message::SetFlowFormat(format) if f.version() == OfVersion::V10 => {
            f.begin_nicira(nxt::SET_FLOW_FORMAT);
            f.out.put_u32(match format {
                FlowFormat::OpenFlow10 => FORMAT_OPENFLOW10,
                FlowFormat::Nxm => FORMAT_NXM,
            });
        }
        Message::FlowModTableId(set) => {
            f.begin_nicira(nxt::FLOW_MOD_TABLE_ID);
            f.out.put_u8(*set as u8);
            f.out.zeros(7);
        }
        Message::SetPacketInFormat(format) => {
            f.begin_nicira(nxt::SET_PACKET_IN_FORMAT);
            f.out.put_u32(*format as u32);
        }
        Message::FlowAge => f.begin_nicira(nxt::FLOW_AGE),
        Message::SetControllerId(id) => {
            f.begin_nicira(nxt::SET_CONTROLLER_ID);
            f.out.zeros(6);
            f.out.put_u16(*id);
        }
        Message::FlowMonitorCancel(id) => {
            begin_monitor(f, nxt::FLOW_MONITOR_CANCEL, onft::FLOW_MONITOR_CANCEL)?;
            f.out.put_u32(*id);
        }
        Message::FlowMonitorPaused => begin_monitor(f, nxt::FLOW_MONITOR_PAUSED, onft::FLOW_MONITOR_PAUSED)?,
        Message::FlowMonitorResumed => {
            begin_monitor(f, nxt::FLOW_MONITOR_RESUMED, onft::FLOW_MONITOR_RESUMED)?
        }
        Message::CtFlushZone(zone) => {
            f.begin_nicira(nxt::CT_FLUSH_ZONE);
            f.out.zeros(6);
            f.out.put_u16(*zone);
        }
        Message::CtFlush(flush) => {
            f.begin_nicira(nxt::CT_FLUSH);
            conntrack::put(f.out, flush);
        }
        Message::TlvTableMod(m) => {
            f.begin_nicira(nxt::TLV_TABLE_MOD);
            f.out.put_u16(m.command as u16);
            f.out.zeros(6);
            put_mappings(f.out, &m.mappings);
        }
        Message::TlvTableRequest => f.begin_nicira(nxt::TLV_TABLE_REQUEST),
        Message::TlvTableReply(m) => {
            f.begin_nicira(nxt::TLV_TABLE_REPLY);
            f.out.put_u32(m.max_option_space);
            f.out.put_u16(m.max_fields);
            f.out.zeros(10);
            put_mappings(f.out, &m.mappings);
        }
        Message::Resume(body) => {
            f.begin_nicira(nxt::RESUME);
            f.out.put(body);
        }
        _ => return Err(EncodeError::Inexpressible("message")),
    }
    f.end()
}

/// OpenFlow 1.4 and later cancel with a monitor request and pause in the updates.
fn begin_monitor(f: &mut Frame<'_>, nicira: u32, onf: u32) -> Result<(), EncodeError> {
    match f.version() {
        OfVersion::V10 => f.begin_nicira(nicira),
        OfVersion::V13 => f.begin_experimenter(ONF, onf),
        _ => return Err(EncodeError::Inexpressible("message about a flow monitor")),
    }
    Ok(())
}

fn read_mappings(r: &mut Reader<'_>) -> Result<Vec<TlvMapping>, OfError> {
    let mut mappings = Vec::new();
    while !r.is_empty() {
        let (class, kind, len, index) = (r.u16()?, r.u8()?, r.u8()?, r.u16()?);
        r.skip(2)?;
        if len == 0 || len > 124 || len % 4 != 0 {
            return Err(OfError::NxTlvTableModFailedBadOptLen);
        }
        if index >= 64 {
            return Err(OfError::NxTlvTableModFailedBadFieldIdx);
        }
        mappings.push(TlvMapping { class, kind, len, index });
    }
    Ok(mappings)
}

fn put_mappings(out: &mut Vec<u8>, mappings: &[TlvMapping]) {
    for m in mappings {
        out.put_u16(m.class);
        out.put_u8(m.kind);
        out.put_u8(m.len);
        out.put_u16(m.index);
        out.zeros(2);
    }
}

fn read_tlv_mod(r: &mut Reader<'_>) -> Result<TlvTableMod, OfError> {
    let command = match r.u16()? {
        0 => TlvTableCommand::Add,
        1 => TlvTableCommand::Delete,
        2 => TlvTableCommand::Clear,
        _ => return Err(OfError::NxTlvTableModFailedBadCommand),
    };
    r.skip(6)?;
    Ok(TlvTableMod { command, mappings: read_mappings(r)? })
}

fn read_tlv_reply(r: &mut Reader<'_>) -> Result<TlvTableReply, OfError> {
    let (max_option_space, max_fields) = (r.u32()?, r.u16()?);
    r.skip(10)?;
    Ok(TlvTableReply { max_option_space, max_fields, mappings: read_mappings(r)? })
}
