//! Matches as type-length-value lists: Nicira's NXM and OpenFlow's OXM (OpenFlow 1.5.1 §7.2.3), from the field table's
//! rows alone.

use super::EncodeError;
use crate::error::OfError;
use crate::message::CookieFilter;
use crate::version::OfVersion;
use crate::wire::{Put, Reader};
use flowtable::field::{FIELDS, Masking, OxmId};
use flowtable::{Field, FieldId, Mask, Match, OfPort};

/// Class of experimenter fields.
const CLASS_EXPERIMENTER: u16 = 0xffff;
/// `NXM_NX_COOKIE` shares class and field number with `NXM_NX_MPLS_TTL` and is told from it by its length.
const COOKIE: (u16, u8) = (0x0001, 30);

/// Which fields a version writes where several stand for the same bits, and under which identifier.
pub(crate) fn written_in(version: OfVersion, field: FieldId) -> bool {
    use FieldId::*;
    let v10 = version == OfVersion::V10;
    let v15 = version == OfVersion::V15;
    match field {
        InPort | VlanTci | NwTos => v10,
        InPortOxm | VlanVid | VlanPcp | IpDscp => !v10,
        DlVlan | DlVlanPcp | Xxreg0 | Xxreg1 | Xxreg2 | Xxreg3 => false,
        Xreg0 | Xreg1 | Xreg2 | Xreg3 | Xreg4 | Xreg5 | Xreg6 | Xreg7 => v15,
        Reg0 | Reg1 | Reg2 | Reg3 | Reg4 | Reg5 | Reg6 | Reg7 | Reg8 | Reg9 | Reg10 | Reg11 | Reg12
        | Reg13 | Reg14 | Reg15 => !v15,
        _ => true,
    }
}

/// The identifier of a field in a version: the newest that the version has, else the preferred one.
pub(crate) fn wire_id(version: OfVersion, field: FieldId) -> Option<&'static OxmId> {
    let ids = field.row().oxm;
    let known = ids.iter().rev().filter(|o| o.since <= version.wire());
    known.max_by_key(|o| o.since).or(ids.first())
}

/// Number of bits of a field as actions address it: of in_port the 16 of its OpenFlow 1.0 form.
pub(crate) fn bits(field: FieldId) -> u16 {
    field.row().bits()
}

/// The value of a field as the key holds it, from that on the wire. `None` if the field cannot have it.
pub(crate) fn from_wire(field: FieldId, value: u128) -> Option<u128> {
    match field {
        FieldId::InPort => Some(OfPort::from_u16(value as u16).0 as u128),
        FieldId::InPortOxm | FieldId::ActsetOutput => OfPort(value as u32).to_u16().map(|_| value),
        FieldId::NwTos => (value & 3 == 0).then_some(value),
        FieldId::CtState => (value <= CT_STATE_ALL).then_some(value),
        _ => (value & !field.slot().ones() == 0).then_some(value),
    }
}

/// Every bit that ovs-fields(7) defines for `ct_state`.
const CT_STATE_ALL: u128 = 0xff;

/// The value on the wire of one in a key.
pub(crate) fn to_wire(field: FieldId, value: u128) -> Option<u128> {
    match field {
        FieldId::InPort => OfPort(value as u32).to_u16().map(u128::from),
        _ => Some(value),
    }
}

/// Header of a field: its identifier and its length.
pub(crate) fn put_header(out: &mut Vec<u8>, id: &OxmId, masked: bool, value_bytes: usize) {
    let experimenter_bytes = if id.class == CLASS_EXPERIMENTER { 4 } else { 0 };
    let payload = value_bytes * if masked { 2 } else { 1 } + experimenter_bytes;
    out.put_u16(id.class);
    out.put_u8(id.field << 1 | masked as u8);
    out.put_u8(payload as u8);
    if experimenter_bytes != 0 {
        out.put_u32(id.experimenter);
    }
}

/// A field's header and value, with a mask if `mask` is not all ones. Values as on the wire.
pub(crate) fn put_field(
    out: &mut Vec<u8>,
    version: OfVersion,
    field: FieldId,
    value: u128,
    mask: Option<u128>,
) -> bool {
    let Some(id) = wire_id(version, field) else { return false };
    let row = field.row();
    let bytes = match row.has_variable_length() {
        true => bytes_of(mask.unwrap_or(value)),
        false => row.wire_bytes as usize,
    };
    put_header(out, id, mask.is_some(), bytes);
    out.put_number(value, bytes);
    if let Some(mask) = mask {
        out.put_number(mask, bytes);
    }
    true
}

/// Bytes of a number without leading zeros, as values of variable length are written.
fn bytes_of(number: u128) -> usize {
    16 - number.leading_zeros() as usize / 8
}

/// A header as read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// The field, if it is known and the length is its.
    pub field: Option<FieldId>,
    /// Whether it is a known field, but with a length that is not its.
    pub bad_length: bool,
    /// Whether a mask follows the value.
    pub masked: bool,
    /// Bytes that follow (the experimenter is read).
    pub payload: usize,
    /// Whether this is `NXM_NX_COOKIE`.
    pub cookie: bool,
}

/// Reads a header.
pub(crate) fn header(r: &mut Reader<'_>) -> Result<Header, OfError> {
    let class = r.u16()?;
    let (number, len) = (r.u8()?, r.u8()? as usize);
    let (experimenter, payload) = if class == CLASS_EXPERIMENTER {
        (r.u32()?, len.checked_sub(4).ok_or(OfError::BadMatchBadLen)?)
    } else {
        (0, len)
    };
    let masked = number & 1 != 0;
    let value_bytes = if masked { payload / 2 } else { payload };
    let cookie = (class, number >> 1) == COOKIE && value_bytes == 8;
    let named = FieldId::from_oxm(class, number >> 1, experimenter);
    let field = named.filter(|f| {
        let (row, len) = (f.row(), value_bytes);
        let fits = if row.has_variable_length() {
            len <= row.wire_bytes as usize
        } else {
            len == row.wire_bytes as usize
        };
        fits && !(masked && payload % 2 != 0)
    });
    Ok(Header { field, bad_length: named.is_some() && field.is_none(), masked, payload, cookie })
}

/// What to do with fields that are not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Refuse them: a match.
    Refuse,
    /// Leave them out: a report from a switch that may know more.
    Skip,
}

/// A list of fields read.
pub(crate) struct Fields {
    pub matching: Match,
    /// `NXM_NX_COOKIE`, if it was there.
    pub cookie: Option<CookieFilter>,
}

/// Reads a list of fields that fills `bytes`.
pub(crate) fn read_fields(bytes: &[u8], unknown: Unknown) -> Result<Fields, OfError> {
    let mut r = Reader::new(bytes, OfError::BadMatchBadLen);
    let mut fields = Fields { matching: Match::any(), cookie: None };
    while !r.is_empty() {
        let h = header(&mut r)?;
        let mut payload = r.sub(h.payload)?;
        match h.field {
            Some(field) => {
                let (value, mask) = value_and_mask(&mut payload, field.row(), h.masked)?;
                add(&mut fields.matching, field, value, mask, unknown)?;
            }
            None if h.cookie => {
                let value = payload.u64()?;
                let mask = if h.masked { payload.u64()? } else { u64::MAX };
                if fields.cookie.replace(CookieFilter { value, mask }).is_some() {
                    return Err(OfError::BadMatchDupField);
                }
            }
            None if unknown == Unknown::Skip => {}
            None => return Err(OfError::BadMatchBadField),
        }
    }
    Ok(fields)
}

/// Reads value and mask, which fill the reader, as on the wire; the mask is all ones in the field's bytes if there is none.
pub(crate) fn value_and_mask(r: &mut Reader<'_>, row: &Field, masked: bool) -> Result<(u128, u128), OfError> {
    if row.has_variable_length() {
        return variable_value_and_mask(r, masked);
    }
    let bytes = row.wire_bytes as usize;
    let all = if bytes == 16 { u128::MAX } else { (1 << (bytes * 8)) - 1 };
    let value = r.number(bytes)?;
    let mask = if masked { r.number(bytes)? } else { all };
    if value & !mask != 0 {
        return Err(OfError::BadMatchBadWildcards);
    }
    if row.masking == Masking::Exact && mask != all && mask != 0 {
        return Err(OfError::BadMatchBadMask);
    }
    Ok((value, mask))
}

/// The same of a field of variable length. Of a mask the bits that are kept count; a value must have no others.
fn variable_value_and_mask(r: &mut Reader<'_>, masked: bool) -> Result<(u128, u128), OfError> {
    let bytes = if masked { r.len() / 2 } else { r.len() };
    let excess = bytes.saturating_sub(16);
    if r.take(excess)?.iter().any(|b| *b != 0) {
        return Err(OfError::BadMatchBadValue);
    }
    let value = r.number(bytes - excess)?;
    if !masked {
        return Ok((value, u128::MAX));
    }
    r.skip(excess)?;
    let mask = r.number(bytes - excess)?;
    if value & !mask != 0 { Err(OfError::BadMatchBadWildcards) } else { Ok((value, mask)) }
}

fn add(
    matching: &mut Match,
    field: FieldId,
    value: u128,
    mask: u128,
    unknown: Unknown,
) -> Result<(), OfError> {
    let row = field.row();
    let value = from_wire(field, value).ok_or(OfError::BadMatchBadValue)?;
    if unknown == Unknown::Refuse && !row.prereq.implied_by(matching) {
        return Err(OfError::BadMatchBadPrereq);
    }
    // The TOS byte without its ECN bits is the DSCP.
    let (slot, value, mask) = match field {
        FieldId::NwTos => (FieldId::IpDscp.slot(), value >> 2, mask >> 2),
        FieldId::InPort if mask != 0 => (row.slot, value, row.slot.ones()),
        _ => (row.slot, value, mask),
    };
    let mask = mask & slot.ones();
    let presence = row.presence();
    if matching.get(slot).1 != 0 || presence.is_some_and(|p| matching.get(p).1 != 0) {
        return Err(OfError::BadMatchDupField);
    }
    if presence.is_some() {
        field.set_condition(matching, value, mask);
    } else if mask != 0 {
        matching.set(slot, value, mask);
    }
    Ok(())
}

/// Appends a match as a list of fields.
///
/// # Errors
/// If some condition has no field in the version that can express it.
pub(crate) fn put_match(out: &mut Vec<u8>, version: OfVersion, matching: &Match) -> Result<(), EncodeError> {
    let mut covered = Mask::empty();
    for row in FIELDS.iter().filter(|f| written_in(version, f.id) && !f.oxm.is_empty()) {
        let slot = row.slot;
        let (value, bits) = matching.get(slot);
        if let Some(presence) = row.presence() {
            // Without bits of the value it is still asked whether there is one.
            if matching.get(presence) == (1, 1) {
                put_field(out, version, row.id, value, (bits != slot.ones()).then_some(bits));
                covered.add(slot, bits);
                covered.add_all(presence);
            }
            continue;
        }
        if bits == 0 || !row.prereq.implied_by(matching) || covered.slot(slot) != 0 {
            continue;
        }
        // A match on ICMP types has no bits beyond the type's, one on TCP ports may.
        if row.masking == Masking::Exact && bits != slot.ones() && row.id != FieldId::NwTos {
            continue;
        }
        if row.id == FieldId::NwTos {
            put_nw_tos(out, version, matching, &mut covered);
            continue;
        }
        let wire = to_wire(row.id, value).ok_or(EncodeError::Inexpressible("in_port"))?;
        put_field(out, version, row.id, wire, (bits != slot.ones()).then_some(bits));
        covered.add(slot, bits);
    }
    // "No VLAN tag" says nothing of the priority that a tag would have.
    let pcp = FieldId::VlanPcp.slot();
    let tag = FieldId::VlanVid.slot();
    let untagged = matching.mask().slot(tag) & 0x1000 != 0 && matching.get(tag).0 & 0x1000 == 0;
    if untagged && matching.get(pcp).0 == 0 {
        covered.add_all(pcp);
    }
    if covered.covers(matching.mask()) { Ok(()) } else { Err(EncodeError::Inexpressible("match")) }
}

fn put_nw_tos(
    out: &mut Vec<u8>,
    version: OfVersion,
    matching: &Match,
    covered: &mut Mask<flowtable::FlowKey>,
) {
    let dscp = FieldId::IpDscp.slot();
    let (value, bits) = matching.get(dscp);
    if bits == dscp.ones() {
        put_field(out, version, FieldId::NwTos, value << 2, None);
        covered.add_all(dscp);
    }
}

/// Type of an extensible match (`OFPMT_OXM`); 0 is the fixed match of OpenFlow 1.1, which is not spoken here.
const OFPMT_OXM: u16 = 1;

/// Reads an `ofp_match` with its padding (OpenFlow 1.2 and later).
pub(crate) fn read_ofp_match(r: &mut Reader<'_>, unknown: Unknown) -> Result<Match, OfError> {
    let (matching, padding) = read_unpadded_match(r, unknown)?;
    r.skip(padding)?;
    Ok(matching)
}

fn read_unpadded_match(r: &mut Reader<'_>, unknown: Unknown) -> Result<(Match, usize), OfError> {
    let (kind, len) = (r.u16()?, r.u16()? as usize);
    if kind != OFPMT_OXM {
        return Err(OfError::BadMatchBadType);
    }
    let fields = len.checked_sub(4).ok_or(OfError::BadMatchBadLen)?;
    let padding = len.next_multiple_of(8) - len;
    if fields + padding > r.len() {
        return Err(OfError::BadMatchBadLen);
    }
    let fields = read_fields(r.take(fields)?, unknown)?;
    if fields.cookie.is_some() {
        return Err(OfError::BadMatchBadField);
    }
    Ok((fields.matching, padding))
}

/// Appends an `ofp_match` with its padding.
pub(crate) fn put_ofp_match(
    out: &mut Vec<u8>,
    version: OfVersion,
    matching: &Match,
) -> Result<(), EncodeError> {
    let start = out.len();
    put_unpadded_match(out, version, matching)?;
    out.pad8(start);
    Ok(())
}

fn put_unpadded_match(out: &mut Vec<u8>, version: OfVersion, matching: &Match) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u16(OFPMT_OXM);
    out.put_u16(0);
    put_match(out, version, matching)?;
    crate::wire::patch_len(out, start, start + 2)?;
    Ok(())
}

/// Reads Nicira's match of `len` bytes with its padding to 8.
pub(crate) fn read_nx_match(r: &mut Reader<'_>, len: usize, unknown: Unknown) -> Result<Fields, OfError> {
    if len.next_multiple_of(8) > r.len() {
        return Err(OfError::BadMatchBadLen);
    }
    let fields = read_fields(r.take(len)?, unknown)?;
    r.skip(len.next_multiple_of(8) - len)?;
    Ok(fields)
}

/// Appends Nicira's match with a cookie condition and the padding to 8; returns the length without padding.
pub(crate) fn put_nx_match(
    out: &mut Vec<u8>,
    version: OfVersion,
    matching: &Match,
    cookie: CookieFilter,
) -> Result<u16, EncodeError> {
    let start = out.len();
    put_match(out, version, matching)?;
    if cookie.mask != 0 {
        let id = OxmId { class: COOKIE.0, field: COOKIE.1, experimenter: 0, since: 1, name: "NXM_NX_COOKIE" };
        let masked = cookie.mask != u64::MAX;
        put_header(out, &id, masked, 8);
        out.put_u64(cookie.value & cookie.mask);
        if masked {
            out.put_u64(cookie.mask);
        }
    }
    let len = u16::try_from(out.len() - start).map_err(|_| EncodeError::TooLong)?;
    out.pad8(start);
    Ok(len)
}
