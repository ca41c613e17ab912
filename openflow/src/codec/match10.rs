//! OpenFlow 1.0's fixed match (OpenFlow 1.0 §5.2.3, `ofp_match`).

use crate::error::OfError;
use crate::wire::{Put, Reader};
use flowtable::{FieldId, Mask, Match, OfPort};
use packet::key::slot;

/// Length of `ofp_match`.
pub(crate) const LEN: usize = 40;

const W_IN_PORT: u32 = 1 << 0;
const W_DL_VLAN: u32 = 1 << 1;
const W_DL_SRC: u32 = 1 << 2;
const W_DL_DST: u32 = 1 << 3;
const W_DL_TYPE: u32 = 1 << 4;
const W_NW_PROTO: u32 = 1 << 5;
const W_TP_SRC: u32 = 1 << 6;
const W_TP_DST: u32 = 1 << 7;
const W_NW_SRC_SHIFT: u32 = 8;
const W_NW_DST_SHIFT: u32 = 14;
const W_DL_VLAN_PCP: u32 = 1 << 20;
const W_NW_TOS: u32 = 1 << 21;
/// Everything wildcarded, address bits as 32.
const W_ALL: u32 = 0x0038_20ff;

/// `dl_vlan` of frames without a tag.
const VLAN_NONE: u16 = 0xffff;
const CFI: u128 = 0x1000;

/// Reads a match. As OVS does, conditions whose prerequisites the match does not state are left out.
pub(crate) fn read(r: &mut Reader<'_>) -> Result<Match, OfError> {
    let wildcards = r.u32()?;
    let exact = |bit: u32| wildcards & bit == 0;
    let mut m = Match::any();
    let in_port = r.u16()?;
    if exact(W_IN_PORT) {
        m.set_exact(slot::IN_PORT, OfPort::from_u16(in_port).0 as u128);
    }
    let (src, dst) = (r.mac()?, r.mac()?);
    if exact(W_DL_SRC) {
        m.set_exact(slot::DL_SRC, src as u128);
    }
    if exact(W_DL_DST) {
        m.set_exact(slot::DL_DST, dst as u128);
    }
    let (vlan, pcp) = (r.u16()?, r.u8()?);
    read_vlan(&mut m, exact(W_DL_VLAN).then_some(vlan), exact(W_DL_VLAN_PCP).then_some(pcp));
    r.skip(1)?;
    let dl_type = r.u16()?;
    if exact(W_DL_TYPE) {
        m.set_exact(slot::DL_TYPE, dl_type as u128);
    }
    let (tos, proto) = (r.u8()?, r.u8()?);
    r.skip(2)?;
    let (nw_src, nw_dst) = (r.u32()?, r.u32()?);
    let (tp_src, tp_dst) = (r.u16()?, r.u16()?);
    let mut set = |field: FieldId, value: u128, bits: u128| {
        if field.row().prereq.implied_by(&m) {
            m.set(field.slot(), value, bits);
        }
    };
    if exact(W_NW_TOS) {
        set(FieldId::IpDscp, tos as u128 >> 2, 0x3f);
    }
    if exact(W_NW_PROTO) {
        set(FieldId::NwProto, proto as u128, 0xff);
        set(FieldId::ArpOp, proto as u128, 0xff);
    }
    let (src_bits, dst_bits) = (prefix(wildcards >> W_NW_SRC_SHIFT), prefix(wildcards >> W_NW_DST_SHIFT));
    for field in [FieldId::IpSrc, FieldId::ArpSpa] {
        set(field, nw_src as u128, src_bits);
    }
    for field in [FieldId::IpDst, FieldId::ArpTpa] {
        set(field, nw_dst as u128, dst_bits);
    }
    for (src, dst) in TRANSPORT {
        let (src_ones, dst_ones) = (src.slot().ones(), dst.slot().ones());
        if exact(W_TP_SRC) {
            set(src, tp_src as u128 & src_ones, src_ones);
        }
        if exact(W_TP_DST) {
            set(dst, tp_dst as u128 & dst_ones, dst_ones);
        }
    }
    Ok(m)
}

/// What `tp_src` and `tp_dst` stand for, by the protocol.
const TRANSPORT: [(FieldId, FieldId); 5] = [
    (FieldId::TcpSrc, FieldId::TcpDst),
    (FieldId::UdpSrc, FieldId::UdpDst),
    (FieldId::SctpSrc, FieldId::SctpDst),
    (FieldId::IcmpType, FieldId::IcmpCode),
    (FieldId::Icmpv6Type, FieldId::Icmpv6Code),
];

/// Mask of an address of which the low `wild` bits (modulo 64, 32 and more for all) do not count.
fn prefix(wild: u32) -> u128 {
    match wild & 0x3f {
        n @ 0..=31 => (u32::MAX << n) as u128,
        _ => 0,
    }
}

fn read_vlan(m: &mut Match, vlan: Option<u16>, pcp: Option<u8>) {
    let pcp_part = |p: u8| ((p & 7) as u128) << 13;
    let (value, bits) = match (vlan, pcp) {
        (None, None) => return,
        (Some(VLAN_NONE), _) => (0, 0xffff),
        (None, Some(p)) => (pcp_part(p) | CFI, 0xe000 | CFI),
        (Some(v), None) => (v as u128 & 0xfff | CFI, 0x1fff),
        (Some(v), Some(p)) => (v as u128 & 0xfff | CFI | pcp_part(p), 0xffff),
    };
    m.set(slot::VLAN_TCI, value, bits);
}

/// Writes a match; `None` if it cannot be said in this form.
pub(crate) fn put(out: &mut Vec<u8>, m: &Match) -> Option<()> {
    let mut wildcards = W_ALL;
    let mut covered = Mask::empty();
    // A condition that is exact, as its value, and noted as expressed.
    let mut exact = |field: FieldId, bit: u32| {
        let s = field.slot();
        let (value, bits) = m.get(s);
        if bits != s.ones() || !field.row().prereq.implied_by(m) {
            return 0;
        }
        covered.add_all(s);
        wildcards &= !bit;
        value
    };
    let in_port = OfPort(exact(FieldId::InPort, W_IN_PORT) as u32).to_u16()?;
    let (dl_src, dl_dst) = (exact(FieldId::EthSrc, W_DL_SRC), exact(FieldId::EthDst, W_DL_DST));
    let dl_type = exact(FieldId::EthType, W_DL_TYPE);
    let ipv4_or_arp = matches!(dl_type, 0x0800 | 0x0806 | 0x8035) || m.get(slot::DL_TYPE).1 == 0;
    if !ipv4_or_arp && m.get(slot::NW_PROTO).1 != 0 {
        return None;
    }
    let tos = exact(FieldId::IpDscp, W_NW_TOS) << 2;
    let proto = exact(FieldId::NwProto, W_NW_PROTO) | exact(FieldId::ArpOp, W_NW_PROTO);
    let (mut tp_src, mut tp_dst) = (0, 0);
    for (src, dst) in TRANSPORT {
        // OVS sends SCTP in its extended form only.
        if !matches!(src, FieldId::SctpSrc) {
            tp_src |= exact(src, W_TP_SRC);
            tp_dst |= exact(dst, W_TP_DST);
        }
    }
    let (vlan, pcp, vlan_wild) = put_vlan(m)?;
    wildcards = wildcards & !(W_DL_VLAN | W_DL_VLAN_PCP) | vlan_wild;
    covered.add_all(slot::VLAN_TCI);
    let mut address = |fields: [FieldId; 2], shift: u32| {
        let Some(field) = fields.into_iter().find(|f| f.row().prereq.implied_by(m)) else { return Some(0) };
        let (value, bits) = m.get(field.slot());
        let wild = (bits as u32).trailing_zeros();
        if bits != prefix(wild) {
            return None;
        }
        covered.add(field.slot(), bits);
        wildcards = wildcards & !(0x3f << shift) | wild << shift;
        Some(value as u32)
    };
    let nw_src = address([FieldId::IpSrc, FieldId::ArpSpa], W_NW_SRC_SHIFT)?;
    let nw_dst = address([FieldId::IpDst, FieldId::ArpTpa], W_NW_DST_SHIFT)?;
    if !covered.covers(m.mask()) {
        return None;
    }
    out.put_u32(wildcards);
    out.put_u16(if wildcards & W_IN_PORT == 0 { in_port } else { 0 });
    out.put_mac(dl_src as u64);
    out.put_mac(dl_dst as u64);
    out.put_u16(vlan);
    out.put_u8(pcp);
    out.zeros(1);
    out.put_u16(dl_type as u16);
    out.put_u8(tos as u8);
    out.put_u8(proto as u8);
    out.zeros(2);
    out.put_u32(nw_src);
    out.put_u32(nw_dst);
    out.put_u16(tp_src as u16);
    out.put_u16(tp_dst as u16);
    Some(())
}

/// `dl_vlan`, `dl_vlan_pcp` and their wildcards.
fn put_vlan(m: &Match) -> Option<(u16, u8, u32)> {
    let (value, bits) = m.get(slot::VLAN_TCI);
    let tagged = value & CFI != 0;
    let (vid, pcp) = ((value & 0xfff) as u16, (value >> 13) as u8);
    match (bits, tagged) {
        (0, _) => Some((0, 0, W_DL_VLAN | W_DL_VLAN_PCP)),
        (0xffff, false) if value == 0 => Some((VLAN_NONE, 0, 0)),
        (0xffff, true) => Some((vid, pcp, 0)),
        (0x1fff, true) => Some((vid, 0, W_DL_VLAN_PCP)),
        (0xf000, true) => Some((0, pcp, W_DL_VLAN)),
        _ => None,
    }
}

/// Writes those conditions of a match that this form can express, the others as wildcards: what OVS shows of rules that
/// were added in another form.
pub(crate) fn put_what_fits(out: &mut Vec<u8>, m: &Match) {
    if put(out, m).is_some() {
        return;
    }
    let mut fitting = Match::any();
    let mut keep = |s| {
        let (value, bits) = m.get(s);
        let mut wider = fitting;
        wider.set(s, value, bits);
        let mut scratch = Vec::with_capacity(LEN);
        if put(&mut scratch, &wider).is_some() {
            fitting = wider;
        }
    };
    let dscp = FieldId::IpDscp.slot();
    for s in [slot::IN_PORT, slot::DL_SRC, slot::DL_DST, slot::VLAN_TCI, slot::DL_TYPE, dscp, slot::NW_PROTO]
    {
        keep(s);
    }
    for s in [slot::NW_SRC, slot::NW_DST, slot::TP_SRC, slot::TP_DST] {
        keep(s);
    }
    // Each condition was added only after it was seen to fit.
    let fits = put(out, &fitting).is_some();
    debug_assert!(fits);
}
