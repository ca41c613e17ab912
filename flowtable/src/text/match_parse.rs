//! Conditions of a match: `tcp,nw_dst=10.0.0.0/8,tp_dst=80`.

use super::error::{Fault, Parsed, TextError, TextFault, fault};
use super::names::PortNames;
use super::token::{Word, Words};
use super::value::{not_a_value, value};
use crate::field::{FIELDS, FieldId};
use crate::key::{FlowKey, Mask, Match, Words as _};
use packet::key::{Slot, VLAN_PRESENT, slot};

/// EtherType and IP protocol, as far as a protocol's name settles them.
type Protocol = Option<(u16, Option<u8>)>;

/// Names of protocols, their EtherTypes and IP protocols.
const PROTOCOLS: [(&str, Protocol); 18] = [
    ("eth", None),
    ("ip", Some((0x0800, None))),
    ("ipv4", Some((0x0800, None))),
    ("ip4", Some((0x0800, None))),
    ("icmp", Some((0x0800, Some(1)))),
    ("tcp", Some((0x0800, Some(6)))),
    ("udp", Some((0x0800, Some(17)))),
    ("sctp", Some((0x0800, Some(132)))),
    ("arp", Some((0x0806, None))),
    ("rarp", Some((0x8035, None))),
    ("ipv6", Some((0x86dd, None))),
    ("ip6", Some((0x86dd, None))),
    ("icmp6", Some((0x86dd, Some(58)))),
    ("tcp6", Some((0x86dd, Some(6)))),
    ("udp6", Some((0x86dd, Some(17)))),
    ("sctp6", Some((0x86dd, Some(132)))),
    ("mpls", Some((0x8847, None))),
    ("mplsm", Some((0x8848, None))),
];

/// EtherType and IP protocol that a protocol's name stands for; `Some(None)` for any Ethernet frame.
pub(crate) fn protocol(name: &str) -> Option<Protocol> {
    PROTOCOLS.iter().find(|(n, _)| *n == name).map(|(_, meaning)| *meaning)
}

/// Fields of Open vSwitch that the field table does not have; of tun_metadata all but the first eight.
pub(crate) fn unsupported_field(name: &str) -> bool {
    const NAMES: [&str; 9] =
        ["conj_id", "skb_priority", "packet_type", "nsp", "nsi", "nshc1", "nshc2", "nshc3", "nshc4"];
    const PREFIXES: [&str; 4] = ["tun_metadata", "tun_erspan_", "tun_gtpu_", "nsh_"];
    let is_unknown = || FieldId::from_name(name).is_none();
    (NAMES.contains(&name) || PREFIXES.iter().any(|p| name.starts_with(p))) && is_unknown()
}

/// A match in the making. Conditions are taken as they come; what they mean together is settled at the end.
#[derive(Default)]
pub(crate) struct MatchBuilder {
    matching: Match,
}

impl MatchBuilder {
    /// Takes a protocol's name or a field's condition; false if the word is neither.
    pub(crate) fn word(&mut self, word: Word<'_>, names: &dyn PortNames) -> Parsed<bool> {
        if let Some(meaning) = protocol(word.key) {
            if let Some((dl_type, nw_proto)) = meaning {
                self.matching.set_exact(slot::DL_TYPE, dl_type.into());
                if let Some(proto) = nw_proto {
                    self.matching.set_exact(slot::NW_PROTO, proto.into());
                }
            }
            return Ok(true);
        }
        if word.key == "packet_type" && word.value == "(0,0)" {
            // Ethernet: every frame that this switch sees.
            return Ok(true);
        }
        if unsupported_field(word.key) {
            return Err(fault(word.key, TextFault::UnsupportedField(word.key.to_owned())));
        }
        let Some(id) = FieldId::from_name(word.key) else { return Ok(false) };
        if !word.given && id.row().presence().is_some() {
            // On its own the name asks for packets that have the field.
            id.set_condition(&mut self.matching, 0, 0);
            return Ok(true);
        }
        if !word.given {
            return Err(fault(word.key, TextFault::MissingValue(word.key.to_owned())));
        }
        self.field(id, word.value, names)?;
        Ok(true)
    }

    fn field(&mut self, id: FieldId, word: &str, names: &dyn PortNames) -> Parsed<()> {
        let row = id.row();
        if word == "*" {
            // Where presence is a condition of its own it stays, as in ovs-ofctl.
            id.set_condition(&mut self.matching, 0, 0);
            return Ok(());
        }
        let (v, mask) = value(row, word, names)?;
        if id == FieldId::DlVlan && v == 0xffff {
            self.matching.set_exact(slot::VLAN_TCI, 0);
            return Ok(());
        }
        let tos = id == FieldId::NwTos;
        if v & !row.slot.ones() != 0 || mask.is_some_and(|m| m & !row.slot.ones() != 0) {
            return Err(not_a_value(row, word));
        }
        let bits = mask.unwrap_or(if tos { row.value_bits() } else { row.slot.ones() }) & row.value_bits();
        self.condition(id, v, bits);
        Ok(())
    }

    fn condition(&mut self, id: FieldId, v: u128, bits: u128) {
        let m = &mut self.matching;
        let present = VLAN_PRESENT as u128;
        let mut tci = |value: u128, bits: u128, of: u128| {
            let (old, old_bits) = m.get(slot::VLAN_TCI);
            m.set(slot::VLAN_TCI, old & !of | value, old_bits & !of | bits);
        };
        match id {
            FieldId::DlVlan if bits == 0 => tci(0, 0, present | 0xfff),
            FieldId::DlVlan => tci(present | v, present | 0xfff, present | 0xfff),
            FieldId::VlanVid => tci(v & bits, bits, present | 0xfff),
            FieldId::DlVlanPcp | FieldId::VlanPcp if bits == 0 => tci(0, 0, 0xe000),
            FieldId::DlVlanPcp | FieldId::VlanPcp => {
                tci(present | v << 13, present | 0xe000, present | 0xe000)
            }
            FieldId::NwTos | FieldId::IpDscp | FieldId::NwEcn => {
                let (v, bits, of) = match id {
                    FieldId::IpDscp => (v << 2, bits << 2, 0xfc),
                    FieldId::NwTos => (v & 0xfc, bits, 0xfc),
                    _ => (v, bits, 3),
                };
                let (old, old_bits) = m.get(slot::NW_TOS);
                m.set(slot::NW_TOS, old & !of | v, old_bits & !of | bits);
            }
            // Type and code stand where ports do, in their low bits; `finish` narrows the condition.
            FieldId::IcmpType | FieldId::Icmpv6Type => m.set_exact_or_none(slot::TP_SRC, v, bits),
            FieldId::IcmpCode | FieldId::Icmpv6Code => m.set_exact_or_none(slot::TP_DST, v, bits),
            _ => id.set_condition(m, v, bits),
        }
    }

    /// The match, once every word is read. `text` is what to blame for a type or code that is none.
    pub(crate) fn finish(mut self, text: &str) -> Parsed<Match> {
        if is_icmp(&self.matching) {
            for (ports, id) in [(slot::TP_SRC, FieldId::IcmpType), (slot::TP_DST, FieldId::IcmpCode)] {
                let (v, bits) = self.matching.get(ports);
                if v > 0xff {
                    return Err(fault(
                        text,
                        TextFault::NotAValue { word: v.to_string(), field: id.row().name },
                    ));
                }
                self.matching.set(ports, v, bits & 0xff);
            }
        }
        Ok(self.matching)
    }
}

trait ExactOrNone {
    fn set_exact_or_none(&mut self, slot: Slot, value: u128, bits: u128);
}

impl ExactOrNone for Match {
    fn set_exact_or_none(&mut self, slot: Slot, value: u128, bits: u128) {
        self.set(slot, value, if bits == 0 { 0 } else { slot.ones() });
    }
}

/// Whether a match is about ICMP or ICMPv6, whose type and code stand where ports do.
pub(crate) fn is_icmp(m: &Match) -> bool {
    let exact = |s: Slot| {
        let (value, bits) = m.get(s);
        (bits == s.ones()).then_some(value)
    };
    matches!(
        (exact(slot::DL_TYPE), exact(slot::NW_PROTO)),
        (Some(0x0800), Some(1)) | (Some(0x86dd), Some(58))
    )
}

/// The match without conditions on fields that its frames do not have, such as `tp_dst=80` without `tcp`: what Open
/// vSwitch makes of such a match too.
pub fn normalize(matching: &Match) -> Match {
    let mut allowed = Mask::<FlowKey>::empty();
    for row in FIELDS.iter().filter(|row| row.prereq.implied_by(matching)) {
        allowed.add_all(row.slot);
        if let Some(presence) = row.presence() {
            allowed.add_all(presence);
        }
    }
    let mut mask = *matching.mask();
    for i in 0..FlowKey::LEN {
        let bits = mask.0.word(i) & allowed.0.word(i);
        mask.0.set_word(i, bits);
    }
    Match::new(matching.key(), mask)
}

/// Conditions alone, without priority, table and so on; not normalised, see [`normalize`].
///
/// # Errors
/// If a word is no condition.
pub fn parse_match(text: &str, names: &dyn PortNames) -> Result<Match, TextError> {
    let parse = || -> Result<Match, Fault> {
        let mut builder = MatchBuilder::default();
        for word in Words::new(text) {
            if !builder.word(word, names)? {
                return Err(unknown_keyword(word));
            }
        }
        builder.finish(text)
    };
    parse().map_err(|f| f.within(text))
}

/// "Unknown keyword" or, without a value, "missing value", as ovs-ofctl says it.
pub(crate) fn unknown_keyword(word: Word<'_>) -> Fault {
    let kind = if !word.given {
        TextFault::MissingValue(word.key.to_owned())
    } else {
        TextFault::UnknownKeyword(word.key.to_owned())
    };
    fault(word.key, kind)
}
