//! Keys, as `ofproto/trace` reads and prints them: `tcp,in_port=1,nw_src=10.0.0.1,...`, every field exact.
//!
//! In these keys the ingress port is an [`OfPort`].

use super::error::{Parsed, TextError, TextFault, fault};
use super::match_parse::{protocol, unsupported_field};
use super::match_print::MatchPrinter;
use super::names::{PortNames, TextStyle};
use super::token::{Word, Words};
use super::value::value;
use crate::field::{FIELDS, FieldId, Prereq};
use crate::key::{FlowKey, Mask, Match, Words as _, pipeline_slot};
use crate::port::OfPort;
use packet::key::{FRAG_LATER, Slot, VLAN_PRESENT, slot};
use std::fmt;

/// See [`display_key`].
#[derive(Clone, Copy)]
pub struct DisplayKey<'a> {
    key: &'a FlowKey,
    style: TextStyle<'a>,
}

/// A key as the `Flow:` line of a trace: every field that the frame has, zero or not, and what else is not zero.
pub fn display_key<'a>(key: &'a FlowKey, style: TextStyle<'a>) -> DisplayKey<'a> {
    DisplayKey { key, style }
}

impl fmt::Display for DisplayKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matching = Match::new(self.key, fields_of(self.key));
        MatchPrinter::whole_key(f, &matching, self.style).fields()
    }
}

/// The fields that a frame with this key has.
fn fields_of(key: &FlowKey) -> Mask<FlowKey> {
    let mut mask = Mask::empty();
    let mut add = |slots: &[Slot]| slots.iter().for_each(|s| mask.add_all(*s));
    let nonzero = |s: Slot| key.slot(s) != 0;
    add(&[slot::IN_PORT, slot::VLAN_TCI, slot::DL_SRC, slot::DL_DST, slot::DL_TYPE]);
    for s in [slot::PKT_MARK, slot::RECIRC_ID, slot::DP_HASH, slot::CT_STATE, slot::CT_ZONE, slot::CT_MARK] {
        if nonzero(s) {
            add(&[s]);
        }
    }
    for s in [slot::CT_LABEL, slot::CT_NW_SRC, slot::CT_NW_DST, slot::CT_IPV6_SRC, slot::CT_IPV6_DST] {
        if nonzero(s) {
            add(&[s]);
        }
    }
    for s in [slot::CT_NW_PROTO, slot::CT_TP_SRC, slot::CT_TP_DST, slot::TUN_ID, pipeline_slot::METADATA] {
        if nonzero(s) {
            add(&[s]);
        }
    }
    for reg in (0..16).map(pipeline_slot::reg).filter(|s| nonzero(*s)) {
        add(&[reg]);
    }
    if nonzero(slot::TUN_DST) || nonzero(slot::TUN_IPV6_DST) {
        add(&[slot::TUN_SRC, slot::TUN_DST, slot::TUN_IPV6_SRC, slot::TUN_IPV6_DST, slot::TUN_GBP_ID]);
        add(&[slot::TUN_GBP_FLAGS, slot::TUN_TOS, slot::TUN_TTL, FieldId::TunFlags.slot()]);
        for row in FIELDS.iter() {
            if let Some(presence) = row.presence().filter(|p| nonzero(*p)) {
                add(&[row.slot, presence]);
            }
        }
    }
    if nonzero(slot::VLAN_TCI) {
        add(&[slot::VLAN_TCI_INNER]);
    }
    match key.slot(slot::DL_TYPE) {
        0x0800 => {
            add(&[slot::NW_SRC, slot::NW_DST]);
            ip_fields(key, &mut mask);
        }
        0x86dd => {
            add(&[slot::IPV6_SRC, slot::IPV6_DST, FieldId::Ipv6Label.slot()]);
            ip_fields(key, &mut mask);
        }
        0x0806 | 0x8035 => add(&[slot::NW_SRC, slot::NW_DST, slot::NW_PROTO, slot::ARP_SHA, slot::ARP_THA]),
        0x8847 | 0x8848 => {
            add(&[slot::MPLS_LSE0]);
            let bottom = 0x100;
            if key.slot(slot::MPLS_LSE0) & bottom == 0 {
                add(&[slot::MPLS_LSE1]);
                if key.slot(slot::MPLS_LSE1) & bottom == 0 {
                    add(&[slot::MPLS_LSE2]);
                }
            }
        }
        _ => {}
    }
    mask
}

fn ip_fields(key: &FlowKey, mask: &mut Mask<FlowKey>) {
    for s in [slot::NW_PROTO, slot::NW_TOS, slot::NW_TTL, FieldId::IpFrag.slot()] {
        mask.add_all(s);
    }
    if key.slot(slot::NW_FRAG) & FRAG_LATER as u128 != 0 {
        return;
    }
    let proto = key.slot(slot::NW_PROTO);
    let icmp = Prereq::Icmpv4.holds(key) || Prereq::Icmpv6.holds(key);
    if icmp {
        mask.add(slot::TP_SRC, 0xff);
        mask.add(slot::TP_DST, 0xff);
    } else if matches!(proto, 2 | 6 | 17 | 132) {
        mask.add_all(slot::TP_SRC);
        mask.add_all(slot::TP_DST);
    }
    if proto == 6 {
        mask.add_all(FieldId::TcpFlags.slot());
    }
    if Prereq::Nd.holds(key) {
        mask.add_all(slot::ND_TARGET);
        let option = if Prereq::NdSolicit.holds(key) { slot::ARP_SHA } else { slot::ARP_THA };
        mask.add_all(option);
        for s in [slot::ND_RESERVED, slot::ND_OPTIONS_TYPE] {
            if key.slot(s) != 0 {
                mask.add_all(s);
            }
        }
    }
}

/// Reads a key. Words are taken in order, and each needs what precedes to say that frames have the field. Without
/// `in_port` the ingress port is [`OfPort::ANY`].
///
/// # Errors
/// If a word is no field, a value is none or masked, or frames do not have the field.
pub fn parse_key(text: &str, names: &dyn PortNames) -> Result<FlowKey, TextError> {
    let mut key = FlowKey::default();
    key.set_slot(slot::IN_PORT, OfPort::ANY.0.into());
    key.set_slot(pipeline_slot::ACTSET_OUTPUT, OfPort::UNSET.0.into());
    for word in Words::new(text) {
        key_word(&mut key, word, names).map_err(|f| f.within(text))?;
    }
    Ok(key)
}

fn key_word(key: &mut FlowKey, word: Word<'_>, names: &dyn PortNames) -> Parsed<()> {
    if let Some(meaning) = protocol(word.key) {
        if let Some((dl_type, nw_proto)) = meaning {
            key.set_slot(slot::DL_TYPE, dl_type.into());
            if let Some(proto) = nw_proto {
                key.set_slot(slot::NW_PROTO, proto.into());
            }
        }
        return Ok(());
    }
    if unsupported_field(word.key) {
        return Err(fault(word.key, TextFault::UnsupportedField(word.key.to_owned())));
    }
    let id = FieldId::from_name(word.key).map(|id| by_protocol(id, word.key, key));
    let id = id.ok_or_else(|| fault(word.key, TextFault::UnknownField(word.key.to_owned())))?;
    let row = id.row();
    if !row.prereq.holds(key) {
        return Err(fault(word.key, TextFault::Prerequisite(word.key.to_owned())));
    }
    let bad = |kind: TextFault| TextFault::BadValue { key: word.key.to_owned(), fault: Box::new(kind) };
    let (v, mask) = value(row, word.value, names).map_err(|f| f.map(bad))?;
    if mask.is_some_and(|mask| mask & row.value_bits() != row.value_bits()) {
        return Err(fault(word.value, bad(TextFault::Wildcard(word.value.to_owned()))));
    }
    let untagged = id == FieldId::DlVlan && v == 0xffff;
    if v & !row.value_bits() != 0 && !untagged {
        let kind = TextFault::NotAValue { word: word.value.to_owned(), field: row.name };
        return Err(fault(word.value, bad(kind)));
    }
    let present = VLAN_PRESENT as u128;
    match id {
        FieldId::DlVlan if untagged => key.set_slot(slot::VLAN_TCI, 0),
        FieldId::DlVlan => key.set_slot(FieldId::VlanVid.slot(), present | v),
        FieldId::DlVlanPcp | FieldId::VlanPcp => {
            key.set_slot(row.slot, v);
            key.set_slot(slot::VLAN_TCI.part(12, 1), 1);
        }
        FieldId::NwTos => key.set_slot(FieldId::IpDscp.slot(), v >> 2),
        _ => key.set_slot(row.slot, v),
    }
    if let Some(presence) = row.presence() {
        key.set_slot(presence, 1);
    }
    Ok(())
}

/// Some names mean what the protocol says.
fn by_protocol(id: FieldId, name: &str, key: &FlowKey) -> FieldId {
    let ipv6 = key.slot(slot::DL_TYPE) == 0x86dd;
    let proto = key.slot(slot::NW_PROTO);
    match name {
        "tp_src" => match proto {
            1 => FieldId::IcmpType,
            17 => FieldId::UdpSrc,
            58 => FieldId::Icmpv6Type,
            132 => FieldId::SctpSrc,
            _ => id,
        },
        "tp_dst" => match proto {
            1 => FieldId::IcmpCode,
            17 => FieldId::UdpDst,
            58 => FieldId::Icmpv6Code,
            132 => FieldId::SctpDst,
            _ => id,
        },
        "icmp_type" if ipv6 => FieldId::Icmpv6Type,
        "icmp_code" if ipv6 => FieldId::Icmpv6Code,
        _ => id,
    }
}
