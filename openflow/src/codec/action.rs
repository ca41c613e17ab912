//! Actions from bytes (OpenFlow 1.0 §5.2.4, OpenFlow 1.5.1 §7.2.6, Nicira's and ONF's extensions). What this crate does not
//! know is refused with OpenFlow's own error; writing them is `action_out`'s part.

use super::{nested, oxm};
use crate::error::{NICIRA, ONF, OfError};
use crate::version::OfVersion;
use crate::wire::Reader;
use flowtable::action::NESTING_MAX;
use flowtable::ct::{is_connection_field, written_field};
use flowtable::field::{Access, V1_3};
use flowtable::{FieldId, GroupId, MeterId, OfAction, OfPort, PacketInReason, SubField, TableId};

/// Nicira's action subtypes (`nxast_*`).
pub(crate) mod nxast {
    pub const RESUBMIT: u16 = 1;
    pub const SET_TUNNEL: u16 = 2;
    pub const SET_QUEUE: u16 = 4;
    pub const POP_QUEUE: u16 = 5;
    pub const REG_MOVE: u16 = 6;
    pub const REG_LOAD: u16 = 7;
    pub const NOTE: u16 = 8;
    pub const SET_TUNNEL64: u16 = 9;
    pub const RESUBMIT_TABLE: u16 = 14;
    pub const OUTPUT_REG: u16 = 15;
    pub const EXIT: u16 = 17;
    pub const DEC_TTL: u16 = 18;
    pub const CONTROLLER: u16 = 20;
    pub const DEC_TTL_CNT_IDS: u16 = 21;
    pub const WRITE_METADATA: u16 = 22;
    pub const PUSH_MPLS: u16 = 23;
    pub const POP_MPLS: u16 = 24;
    pub const SET_MPLS_TTL: u16 = 25;
    pub const DEC_MPLS_TTL: u16 = 26;
    pub const SET_MPLS_LABEL: u16 = 30;
    pub const SET_MPLS_TC: u16 = 31;
    pub const OUTPUT_REG2: u16 = 32;
    pub const REG_LOAD2: u16 = 33;
    pub const CONTROLLER2: u16 = 37;
    pub const CT: u16 = 35;
    pub const NAT: u16 = 36;
    pub const OUTPUT_TRUNC: u16 = 39;
    /// OpenFlow 1.0 only.
    pub const GROUP: u16 = 40;
    pub const CLONE: u16 = 42;
    pub const CT_CLEAR: u16 = 43;
    pub const CHECK_PKT_LARGER: u16 = 49;
}

/// `ofp_action_type` of OpenFlow 1.3 and later.
pub(crate) mod ofpat {
    pub const OUTPUT: u16 = 0;
    pub const SET_MPLS_TTL: u16 = 15;
    pub const DEC_MPLS_TTL: u16 = 16;
    pub const PUSH_VLAN: u16 = 17;
    pub const POP_VLAN: u16 = 18;
    pub const PUSH_MPLS: u16 = 19;
    pub const POP_MPLS: u16 = 20;
    pub const SET_QUEUE: u16 = 21;
    pub const GROUP: u16 = 22;
    pub const SET_NW_TTL: u16 = 23;
    pub const DEC_NW_TTL: u16 = 24;
    pub const SET_FIELD: u16 = 25;
    pub const COPY_FIELD: u16 = 28;
    pub const METER: u16 = 29;
    pub const EXPERIMENTER: u16 = 0xffff;
}

/// ONF's copy_field for OpenFlow 1.3 and 1.4.
pub(crate) const ONF_COPY_FIELD: u16 = 3200;

/// Properties of NXAST_CONTROLLER2.
pub(crate) mod controller2 {
    pub const MAX_LEN: u16 = 0;
    pub const CONTROLLER_ID: u16 = 1;
    pub const REASON: u16 = 2;
    pub const USERDATA: u16 = 3;
    pub const PAUSE: u16 = 4;
}

/// How many more lists of actions there may be within one.
#[derive(Clone, Copy)]
pub(crate) struct Nesting(usize);

impl Nesting {
    /// For a list within.
    pub(crate) fn deeper(self) -> Result<Nesting, OfError> {
        self.0.checked_sub(1).map(Nesting).ok_or(OfError::BadActionTooMany)
    }
}

/// Reads the actions that fill `bytes`.
pub(crate) fn read_actions(version: OfVersion, bytes: &[u8]) -> Result<Vec<OfAction>, OfError> {
    read_list(version, bytes, Nesting(NESTING_MAX))
}

/// Reads the actions that fill `bytes`, of which some may hold others.
pub(crate) fn read_list(
    version: OfVersion,
    bytes: &[u8],
    nesting: Nesting,
) -> Result<Vec<OfAction>, OfError> {
    let mut r = Reader::new(bytes, OfError::BadActionBadLen);
    let mut actions = Vec::new();
    while !r.is_empty() {
        let action = read_action(version, &mut r, nesting)?;
        // Only a ct action sets them, which reads what it holds by itself.
        if written_field(&action).is_some_and(is_connection_field) {
            return Err(OfError::BadActionBadSetArgument);
        }
        actions.push(action);
    }
    Ok(actions)
}

/// Reads one action.
pub(crate) fn read_action(
    version: OfVersion,
    r: &mut Reader<'_>,
    nesting: Nesting,
) -> Result<OfAction, OfError> {
    let (kind, len) = peek_header(r)?;
    let mut body = r.sub(len)?;
    body.skip(4)?;
    match (version, kind) {
        (_, ofpat::EXPERIMENTER) => experimenter(version, &mut body, nesting),
        (OfVersion::V10, _) => v10(kind, &mut body),
        _ => v13(version, kind, &mut body),
    }
}

/// Type and length of the next element of a list whose lengths are multiples of 8.
pub(crate) fn peek_header(r: &Reader<'_>) -> Result<(u16, usize), OfError> {
    let mut ahead = *r;
    let (kind, len) = (ahead.u16()?, ahead.u16()? as usize);
    if len < 8 || len % 8 != 0 || len > r.len() {
        return Err(r.or_bad_len());
    }
    Ok((kind, len))
}

fn v10(kind: u16, r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    use OfAction::*;
    let fixed = match kind {
        4 | 5 | 11 => 12,
        _ => 4,
    };
    if kind <= 11 && r.len() != fixed {
        return Err(OfError::BadActionBadLen);
    }
    Ok(match kind {
        0 => Output { port: port16(r.u16()?)?, max_len: r.u16()? },
        1 => SetVlanVid(within(r.u16()?, 0xfff)?),
        2 => SetVlanPcp(within(r.u8()? as u16, 7)? as u8),
        3 => PopVlan,
        4 => SetDlSrc(r.mac()?),
        5 => SetDlDst(r.mac()?),
        6 => SetNwSrc(r.u32()?),
        7 => SetNwDst(r.u32()?),
        8 => SetNwTos(within(r.u8()? as u16, 0xfc)? as u8),
        9 => SetTpSrc(r.u16()?),
        10 => SetTpDst(r.u16()?),
        11 => {
            let port = port16(r.u16()?)?;
            r.skip(6)?;
            Enqueue { port, queue: r.u32()? }
        }
        _ => return Err(OfError::BadActionBadType),
    })
}

/// `value` if it has no bit outside `bits`.
fn within(value: u16, bits: u16) -> Result<u16, OfError> {
    if value & !bits == 0 { Ok(value) } else { Err(OfError::BadActionBadArgument) }
}

/// A port to send to, of 16 bits; numbers between real and reserved ones do not exist.
fn port16(port: u16) -> Result<OfPort, OfError> {
    valid_port(OfPort::from_u16(port))
}

fn valid_port(port: OfPort) -> Result<OfPort, OfError> {
    if port.is_real() || port.0 >= OfPort::IN_PORT.0 && port != OfPort::ANY {
        Ok(port)
    } else {
        Err(OfError::BadActionBadOutPort)
    }
}

fn v13(version: OfVersion, kind: u16, r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    use OfAction::*;
    let fixed = match kind {
        ofpat::OUTPUT => 12,
        ofpat::SET_FIELD | ofpat::COPY_FIELD => r.len(),
        _ => 4,
    };
    let known = matches!(kind, 0 | 15..=25) || version == OfVersion::V15 && matches!(kind, 28 | 29);
    if known && r.len() != fixed {
        return Err(OfError::BadActionBadLen);
    }
    Ok(match kind {
        ofpat::OUTPUT => Output { port: valid_port(OfPort(r.u32()?))?, max_len: r.u16()? },
        ofpat::SET_MPLS_TTL => SetMplsTtl(r.u8()?),
        ofpat::DEC_MPLS_TTL => DecMplsTtl,
        ofpat::PUSH_VLAN => PushVlan(one_of(r.u16()?, &[0x8100, 0x88a8])?),
        ofpat::POP_VLAN => PopVlan,
        ofpat::PUSH_MPLS => PushMpls(one_of(r.u16()?, &[0x8847, 0x8848])?),
        ofpat::POP_MPLS => PopMpls(r.u16()?),
        // No port has queues.
        ofpat::SET_QUEUE => return Err(OfError::BadActionBadQueue),
        ofpat::GROUP => Group(GroupId(r.u32()?)),
        ofpat::METER if version == OfVersion::V15 => Meter(MeterId(r.u32()?)),
        ofpat::SET_NW_TTL => SetNwTtl(r.u8()?),
        ofpat::DEC_NW_TTL => DecTtl(Vec::new()),
        ofpat::SET_FIELD => set_field(version, r)?,
        ofpat::COPY_FIELD if version == OfVersion::V15 => {
            let (n, src, dst) = (r.u16()?, r.u16()?, r.u16()?);
            r.skip(2)?;
            move_between(r, n, src, dst)?
        }
        _ => return Err(OfError::BadActionBadType),
    })
}

fn one_of(value: u16, values: &[u16]) -> Result<u16, OfError> {
    if values.contains(&value) { Ok(value) } else { Err(OfError::BadActionBadArgument) }
}

fn set_field(version: OfVersion, r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    *r = r.or(OfError::BadActionBadSetLen);
    let action = load_field(r, if version == OfVersion::V15 { Masks::Taken } else { Masks::Refused })?;
    if r.peek().iter().any(|b| *b != 0) {
        return Err(OfError::BadActionBadSetArgument);
    }
    Ok(action)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Masks {
    Taken,
    Refused,
}

/// A field with its value, as set_field and NXAST_REG_LOAD2 carry it.
fn load_field(r: &mut Reader<'_>, masks: Masks) -> Result<OfAction, OfError> {
    let mut ahead = *r;
    let h = oxm::header(&mut ahead).map_err(|_| OfError::BadActionBadSetLen)?;
    let mut payload = ahead.sub(h.payload)?;
    let field = h.field.ok_or(match h.bad_length {
        true => OfError::BadActionBadSetLen,
        false => OfError::BadActionBadSetType,
    })?;
    let row = field.row();
    if h.masked && masks == Masks::Refused {
        return Err(OfError::BadActionBadSetMask);
    }
    let (value, mask) = oxm::value_and_mask(&mut payload, row, h.masked)?;
    if row.access != Access::Writable {
        return Err(OfError::BadActionBadSetArgument);
    }
    *r = ahead;
    let value = oxm::from_wire(field, value).ok_or(OfError::BadActionBadSetArgument)?;
    // A VID without the bit that says that there is a tag makes no sense to set.
    if field == FieldId::VlanVid && !h.masked && value & 0x1000 == 0 {
        return Err(OfError::BadActionBadSetArgument);
    }
    let mask = if h.masked && field != FieldId::InPort { mask & row.slot.ones() } else { row.slot.ones() };
    Ok(OfAction::SetField { field, value: value & mask, mask })
}

/// A field named by its header alone.
pub(crate) fn field_header(r: &mut Reader<'_>) -> Result<FieldId, OfError> {
    *r = r.or(OfError::BadActionBadLen);
    let h = oxm::header(r).map_err(|_| OfError::BadActionBadSetLen)?;
    h.field.filter(|_| !h.masked).ok_or(OfError::BadActionBadSetType)
}

/// Bits of a field that exist.
pub(crate) fn sub_field(field: FieldId, start: u16, width: u16) -> Result<SubField, OfError> {
    let row = field.row();
    // The whole of a field of which not all is kept, as ovs-ofctl names it.
    let is_whole = start == 0 && row.has_variable_length() && width == u16::from(row.wire_bytes) * 8;
    let width = if is_whole { row.bits() } else { width };
    if width == 0 || start as u32 + width as u32 > oxm::bits(field) as u32 {
        return Err(OfError::BadActionBadSetLen);
    }
    Ok(SubField { field, start, width })
}

pub(crate) fn writable(sub: SubField) -> Result<SubField, OfError> {
    if sub.field.row().access == Access::Writable { Ok(sub) } else { Err(OfError::BadActionBadSetArgument) }
}

fn move_between(r: &mut Reader<'_>, width: u16, src: u16, dst: u16) -> Result<OfAction, OfError> {
    let (from, to) = (field_header(r)?, field_header(r)?);
    let (src, dst) = (sub_field(from, src, width)?, writable(sub_field(to, dst, width)?)?);
    Ok(OfAction::Move { src, dst })
}

/// Bit range in 16 bits: offset in the upper 10, width minus 1 in the lower 6.
pub(crate) fn offset_and_width(packed: u16) -> (u16, u16) {
    (packed >> 6, (packed & 0x3f) + 1)
}

fn experimenter(version: OfVersion, r: &mut Reader<'_>, nesting: Nesting) -> Result<OfAction, OfError> {
    let vendor = r.u32()?;
    if vendor == ONF && version.wire() >= V1_3 && r.len() >= 8 {
        let kind = r.u16()?;
        r.skip(2)?;
        let (n, src, dst) = (r.u16()?, r.u16()?, r.u16()?);
        r.skip(2)?;
        return match (kind, version) {
            (ONF_COPY_FIELD, OfVersion::V13 | OfVersion::V14) => move_between(r, n, src, dst),
            _ => Err(OfError::BadActionBadVendorType),
        };
    }
    if vendor != NICIRA {
        return Err(OfError::BadActionBadVendor);
    }
    match r.u16()? {
        nxast::CT => nested::read_ct(version, r, nesting),
        nxast::CLONE => nested::read_clone(version, r, nesting),
        nxast::CHECK_PKT_LARGER => nested::read_check_pkt_larger(r),
        // Translation is part of ct.
        nxast::NAT => Err(OfError::BadActionBadSetArgument),
        nxast::GROUP if version != OfVersion::V10 => Err(OfError::BadActionBadVendorType),
        kind => nicira(kind, r),
    }
}

fn nicira(kind: u16, r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    use OfAction::*;
    let fixed = match kind {
        nxast::REG_MOVE | nxast::REG_LOAD | nxast::NOTE | nxast::REG_LOAD2 => None,
        nxast::CONTROLLER2 | nxast::DEC_TTL_CNT_IDS | nxast::OUTPUT_REG2 => None,
        nxast::SET_TUNNEL64 | nxast::OUTPUT_REG => Some(14),
        nxast::WRITE_METADATA => Some(22),
        _ => Some(6),
    };
    if fixed.is_some_and(|n| is_known(kind) && r.len() != n) {
        return Err(OfError::BadActionBadLen);
    }
    Ok(match kind {
        nxast::RESUBMIT => Resubmit { port: resubmit_port(r.u16()?), table: None },
        nxast::RESUBMIT_TABLE => {
            let (port, table) = (resubmit_port(r.u16()?), r.u8()?);
            if r.rest().iter().any(|b| *b != 0) {
                return Err(OfError::BadActionBadArgument);
            }
            Resubmit { port, table: (table != 255).then_some(TableId(table)) }
        }
        nxast::SET_TUNNEL => {
            r.skip(2)?;
            SetTunnel(r.u32()? as u64)
        }
        nxast::SET_TUNNEL64 => {
            r.skip(6)?;
            SetTunnel(r.u64()?)
        }
        nxast::SET_QUEUE | nxast::POP_QUEUE => return Err(OfError::BadActionBadQueue),
        nxast::REG_MOVE => {
            let (n, src, dst) = (r.u16()?, r.u16()?, r.u16()?);
            move_between(r, n, src, dst)?
        }
        nxast::REG_LOAD => reg_load(r)?,
        nxast::REG_LOAD2 => {
            *r = r.or(OfError::BadActionBadSetLen);
            let set = load_field(r, Masks::Taken)?;
            zeros(r)?;
            set
        }
        nxast::NOTE => Note(r.rest().to_vec()),
        nxast::OUTPUT_REG => {
            let (start, width) = offset_and_width(r.u16()?);
            let src = sub_field(field_header(r)?, start, width)?;
            let max_len = r.u16()?;
            zeros(r)?;
            OutputReg { src, max_len }
        }
        nxast::OUTPUT_REG2 => {
            let (start, width) = offset_and_width(r.u16()?);
            let max_len = r.u16()?;
            let src = sub_field(field_header(r)?, start, width)?;
            zeros(r)?;
            OutputReg { src, max_len }
        }
        nxast::EXIT => Exit,
        nxast::CT_CLEAR => CtClear,
        nxast::GROUP => {
            r.skip(2)?;
            Group(GroupId(r.u32()?))
        }
        nxast::DEC_TTL => DecTtl(Vec::new()),
        nxast::DEC_TTL_CNT_IDS => cnt_ids(r)?,
        nxast::CONTROLLER => {
            let (max_len, controller_id, reason) = (r.u16()?, r.u16()?, r.u8()?);
            Controller {
                max_len,
                controller_id,
                reason: packet_in_reason(reason)?,
                userdata: Vec::new(),
                pause: false,
            }
        }
        nxast::CONTROLLER2 => controller(r)?,
        nxast::WRITE_METADATA => {
            r.skip(6)?;
            let (value, mask) = (r.u64()?, r.u64()?);
            WriteMetadata { value: value & mask, mask }
        }
        nxast::PUSH_MPLS => PushMpls(one_of(r.u16()?, &[0x8847, 0x8848])?),
        nxast::POP_MPLS => PopMpls(r.u16()?),
        nxast::SET_MPLS_TTL => SetMplsTtl(r.u8()?),
        nxast::DEC_MPLS_TTL => DecMplsTtl,
        nxast::SET_MPLS_LABEL => {
            r.skip(2)?;
            let label = r.u32()?;
            if label > 0xf_ffff {
                return Err(OfError::BadActionBadArgument);
            }
            SetMplsLabel(label)
        }
        nxast::SET_MPLS_TC => SetMplsTc(within(r.u8()? as u16, 7)? as u8),
        nxast::OUTPUT_TRUNC => {
            let (port, max_len) = (port16(r.u16()?)?, r.u32()?);
            // Less than an Ethernet header makes no frame.
            if max_len < 14 {
                return Err(OfError::BadActionBadArgument);
            }
            OutputTrunc { port, max_len }
        }
        _ => return Err(OfError::BadActionBadVendorType),
    })
}

fn is_known(kind: u16) -> bool {
    matches!(kind, 1 | 2 | 4..=9 | 14 | 15 | 17 | 18 | 20..=26 | 30..=33 | 37 | 39 | 40 | 43)
}

pub(crate) fn zeros(r: &mut Reader<'_>) -> Result<(), OfError> {
    if r.rest().iter().all(|b| *b == 0) { Ok(()) } else { Err(OfError::NxBadRequestMustBeZero) }
}

fn resubmit_port(port: u16) -> Option<OfPort> {
    let port = OfPort::from_u16(port);
    (port != OfPort::IN_PORT).then_some(port)
}

fn reg_load(r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    let (start, width) = offset_and_width(r.u16()?);
    let field = field_header(r)?;
    let value = r.u64()? as u128;
    r.end()?;
    let dst = writable(sub_field(field, start, width)?)?;
    if value >> width != 0 {
        return Err(OfError::BadActionBadArgument);
    }
    Ok(OfAction::Load { value, dst })
}

fn cnt_ids(r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    let n = r.u16()? as usize;
    r.skip(4)?;
    if n * 2 > r.len() {
        return Err(OfError::BadActionBadLen);
    }
    let ids = (0..n).map(|_| r.u16()).collect::<Result<Vec<_>, _>>()?;
    Ok(OfAction::DecTtl(ids))
}

/// Reason of a packet-in by OpenFlow 1.4's numbers.
pub(crate) fn packet_in_reason(number: u8) -> Result<PacketInReason, OfError> {
    Ok(match number {
        0 => PacketInReason::NoMatch,
        1 => PacketInReason::Action,
        2 => PacketInReason::InvalidTtl,
        3 => PacketInReason::ActionSet,
        4 => PacketInReason::Group,
        5 => PacketInReason::PacketOut,
        _ => return Err(OfError::BadActionBadArgument),
    })
}

/// Number of a packet-in reason in a version: before 1.4 the newer ones are "action".
pub(crate) fn reason_number(version: OfVersion, reason: PacketInReason) -> u8 {
    let new = matches!(version, OfVersion::V14 | OfVersion::V15);
    match reason {
        PacketInReason::NoMatch => 0,
        PacketInReason::Action => 1,
        PacketInReason::InvalidTtl => 2,
        PacketInReason::ActionSet if new => 3,
        PacketInReason::Group if new => 4,
        PacketInReason::PacketOut if new => 5,
        _ => 1,
    }
}

fn controller(r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    if r.take(6)?.iter().any(|b| *b != 0) {
        return Err(OfError::NxBadRequestMustBeZero);
    }
    let (mut max_len, mut controller_id, mut reason) = (0xffff, 0, PacketInReason::Action);
    let (mut userdata, mut pause) = (Vec::new(), false);
    while !r.is_empty() {
        let (kind, mut body) = super::property(r)?;
        match kind {
            controller2::MAX_LEN => max_len = body.u16()?,
            controller2::CONTROLLER_ID => controller_id = body.u16()?,
            controller2::REASON => reason = packet_in_reason(body.u8()?)?,
            controller2::USERDATA => userdata = body.rest().to_vec(),
            controller2::PAUSE => pause = true,
            _ => return Err(OfError::BadPropertyBadType),
        }
    }
    Ok(OfAction::Controller { max_len, controller_id, reason, userdata, pause })
}
