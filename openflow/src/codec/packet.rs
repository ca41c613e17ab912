//! PACKET_IN in its forms, PACKET_OUT.

use super::action::{packet_in_reason, read_actions, reason_number};
use super::action_out::{Seen, put_actions};
use super::oxm::{self, Unknown};
use super::{
    EncodeError, Frame, extension::nxt, ofpt, port16, property, put_property, read_buffer, read_port,
};
use crate::error::OfError;
use crate::message::{CookieFilter, PacketIn, PacketOut};
use crate::version::{OfVersion, PacketInFormat};
use crate::wire::{Put, Reader, patch_u16};
use flowtable::{Match, OfPort, PacketInReason, TableId};
use packet::key::slot;

/// Cookie of a packet-in that no rule sent.
const NO_COOKIE: u64 = u64::MAX;

/// Properties of NXT_PACKET_IN2.
mod pin2 {
    pub const PACKET: u16 = 0;
    pub const FULL_LEN: u16 = 1;
    pub const TABLE_ID: u16 = 3;
    pub const COOKIE: u16 = 4;
    pub const REASON: u16 = 5;
    pub const METADATA: u16 = 6;
    pub const USERDATA: u16 = 7;
}

fn from_port(port: OfPort) -> Match {
    let mut metadata = Match::any();
    metadata.set_exact(slot::IN_PORT, port.0 as u128);
    metadata
}

/// A reason; unknown ones of a newer switch read as "action".
fn reason(number: u8) -> PacketInReason {
    packet_in_reason(number).unwrap_or(PacketInReason::Action)
}

pub(crate) fn read_in(version: OfVersion, r: &mut Reader<'_>) -> Result<PacketIn, OfError> {
    let _buffer = r.u32()?;
    let total_len = r.u16()?;
    if version == OfVersion::V10 {
        let metadata = from_port(OfPort::from_u16(r.u16()?));
        let reason = reason(r.u8()?);
        r.skip(1)?;
        return Ok(PacketIn {
            reason,
            table: TableId(0),
            cookie: NO_COOKIE,
            total_len,
            metadata,
            userdata: Vec::new(),
            data: r.rest().to_vec(),
        });
    }
    let reason = reason(r.u8()?);
    let table = TableId(r.u8()?);
    let cookie = r.u64()?;
    let metadata = oxm::read_ofp_match(r, Unknown::Skip)?;
    r.skip(2)?;
    Ok(PacketIn { reason, table, cookie, total_len, metadata, userdata: Vec::new(), data: r.rest().to_vec() })
}

pub(crate) fn read_nxt_in(r: &mut Reader<'_>) -> Result<PacketIn, OfError> {
    let _buffer = r.u32()?;
    let total_len = r.u16()?;
    let reason = reason(r.u8()?);
    let table = TableId(r.u8()?);
    let cookie = r.u64()?;
    let match_len = r.u16()? as usize;
    r.skip(6)?;
    let metadata = oxm::read_nx_match(r, match_len, Unknown::Skip)?.matching;
    r.skip(2)?;
    Ok(PacketIn { reason, table, cookie, total_len, metadata, userdata: Vec::new(), data: r.rest().to_vec() })
}

pub(crate) fn read_nxt_in2(r: &mut Reader<'_>) -> Result<PacketIn, OfError> {
    let mut packet = PacketIn {
        reason: PacketInReason::NoMatch,
        table: TableId(0),
        cookie: NO_COOKIE,
        total_len: 0,
        metadata: Match::any(),
        userdata: Vec::new(),
        data: Vec::new(),
    };
    let mut full_len = None;
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            pin2::PACKET => packet.data = body.rest().to_vec(),
            pin2::FULL_LEN => full_len = Some(body.u32()?),
            pin2::TABLE_ID => packet.table = TableId(body.u8()?),
            pin2::COOKIE => {
                body.skip(4)?;
                packet.cookie = body.u64()?;
            }
            pin2::REASON => packet.reason = reason(body.u8()?),
            pin2::METADATA => packet.metadata = oxm::read_fields(body.rest(), Unknown::Skip)?.matching,
            pin2::USERDATA => packet.userdata = body.rest().to_vec(),
            _ => {}
        }
    }
    let total = full_len.unwrap_or(packet.data.len() as u32);
    packet.total_len = u16::try_from(total).unwrap_or(u16::MAX);
    Ok(packet)
}

pub(crate) fn put_in(f: &mut Frame<'_>, m: &PacketIn) -> Result<(), EncodeError> {
    match (f.dialect.packet_in_format, f.version()) {
        (PacketInFormat::Nxt, _) => put_nxt_in(f, m),
        (PacketInFormat::Nxt2, _) => put_nxt_in2(f, m),
        (PacketInFormat::Standard, OfVersion::V10) => {
            f.begin(ofpt::PACKET_IN);
            f.out.put_u32(u32::MAX);
            f.out.put_u16(m.total_len);
            f.out.put_u16(port16(m.in_port())?);
            f.out.put_u8(reason_number(OfVersion::V10, m.reason));
            f.out.zeros(1);
            f.out.put(&m.data);
            f.end()
        }
        (PacketInFormat::Standard, version) => {
            f.begin(ofpt::PACKET_IN);
            put_in_head(f.out, version, m);
            oxm::put_ofp_match(f.out, version, &m.metadata)?;
            f.out.zeros(2);
            f.out.put(&m.data);
            f.end()
        }
    }
}

fn put_in_head(out: &mut Vec<u8>, version: OfVersion, m: &PacketIn) {
    out.put_u32(u32::MAX);
    out.put_u16(m.total_len);
    out.put_u8(reason_number(version, m.reason));
    out.put_u8(m.table.0);
    out.put_u64(m.cookie);
}

fn put_nxt_in(f: &mut Frame<'_>, m: &PacketIn) -> Result<(), EncodeError> {
    f.begin_nicira(nxt::PACKET_IN);
    put_in_head(f.out, f.dialect.version, m);
    let len_at = f.out.len();
    f.out.zeros(8);
    let len = oxm::put_nx_match(f.out, f.dialect.version, &m.metadata, CookieFilter::default())?;
    patch_u16(f.out, len_at, len);
    f.out.zeros(2);
    f.out.put(&m.data);
    f.end()
}

fn put_nxt_in2(f: &mut Frame<'_>, m: &PacketIn) -> Result<(), EncodeError> {
    let version = f.version();
    if m.data.len() + m.userdata.len() > super::MESSAGE_MAX - 1024 {
        return Err(EncodeError::TooLong);
    }
    let mut metadata = Vec::new();
    oxm::put_match(&mut metadata, version, &m.metadata)?;
    f.begin_nicira(nxt::PACKET_IN2);
    put_property(f.out, pin2::PACKET, &m.data);
    if m.total_len as usize != m.data.len() {
        put_property(f.out, pin2::FULL_LEN, &(m.total_len as u32).to_be_bytes());
    }
    put_property(f.out, pin2::TABLE_ID, &[m.table.0]);
    if m.cookie != NO_COOKIE {
        let mut cookie = vec![0; 4];
        cookie.put_u64(m.cookie);
        put_property(f.out, pin2::COOKIE, &cookie);
    }
    put_property(f.out, pin2::REASON, &[reason_number(version, m.reason)]);
    put_property(f.out, pin2::METADATA, &metadata);
    if !m.userdata.is_empty() {
        put_property(f.out, pin2::USERDATA, &m.userdata);
    }
    f.end()
}

pub(crate) fn read_out(version: OfVersion, r: &mut Reader<'_>) -> Result<PacketOut, OfError> {
    let buffer = read_buffer(r)?;
    let (metadata, actions_len) = if version == OfVersion::V15 {
        let len = r.u16()? as usize;
        r.skip(2)?;
        (oxm::read_ofp_match(r, Unknown::Refuse)?, len)
    } else {
        let port = read_port(version, r)?;
        let len = r.u16()? as usize;
        if version != OfVersion::V10 {
            r.skip(6)?;
        }
        (from_port(port), len)
    };
    let actions = r.take(actions_len)?;
    let packet =
        PacketOut { buffer, metadata, actions: read_actions(version, actions)?, data: r.rest().to_vec() };
    let port = packet.in_port();
    if !(port.is_real() || port == OfPort::CONTROLLER || port == OfPort::ANY) {
        return Err(OfError::BadRequestBadPort);
    }
    Ok(packet)
}

pub(crate) fn put_out(f: &mut Frame<'_>, m: &PacketOut) -> Result<(), EncodeError> {
    let version = f.version();
    f.begin(ofpt::PACKET_OUT);
    f.out.put_u32(m.buffer.unwrap_or(u32::MAX));
    let len_at = match version {
        OfVersion::V15 => {
            let at = f.out.len();
            f.out.zeros(4);
            oxm::put_ofp_match(f.out, version, &m.metadata)?;
            at
        }
        OfVersion::V10 => {
            f.out.put_u16(port16(m.in_port())?);
            f.out.zeros(2);
            f.out.len() - 2
        }
        _ => {
            f.out.put_u32(m.in_port().0);
            f.out.zeros(8);
            f.out.len() - 8
        }
    };
    let start = f.out.len();
    put_actions(f.out, version, &m.actions, &mut Seen::nothing())?;
    let len = u16::try_from(f.out.len() - start).map_err(|_| EncodeError::TooLong)?;
    patch_u16(f.out, len_at, len);
    f.out.put(&m.data);
    f.end()
}
