//! Actions and instructions: `mod_nw_dst:10.0.0.1,output:2`, `resubmit(,3)`, `write_actions(output:1),goto_table:5`.

use super::address::parse_mac;
use super::error::{Fault, Parsed, TextError, TextFault, fault};
use super::names::PortNames;
use super::number::{
    bounded, hex_bytes, number8, number16, number32, number64, number64_masked, parse_port, table,
};
use super::subfield::subfield;
use super::token::{Word, Words};
use super::value::{not_a_value, value};
use crate::action::{NESTING_MAX, OfAction, PacketInReason, TableId};
use crate::ct::{is_connection_field, written_field};
use crate::field::{Access, FieldId};
use crate::group::GroupId;
use crate::meter::MeterId;
use crate::port::OfPort;
use std::net::Ipv4Addr;

/// Actions of Open vSwitch that this switch does not have.
const UNSUPPORTED: [&str; 21] = [
    "bundle",
    "bundle_load",
    "set_queue",
    "pop_queue",
    "push",
    "pop",
    "multipath",
    "learn",
    "conjunction",
    "fin_timeout",
    "sample",
    "delete_field",
    "encap",
    "decap",
    "dec_nsh_ttl",
    "set_ip_ttl",
    "output_reg_trunc",
    "debug_recirc",
    "debug_slow",
    "unroll_xlate",
    "decap_nsh",
];

/// Most actions in one list, those of `write_actions` included.
pub(crate) const ACTIONS_MAX: usize = 4096;

/// Most bytes of a note or of userdata.
const BYTES_MAX: usize = 65_000;

/// A list of actions and instructions. Empty text and `drop` are the empty list.
///
/// # Errors
/// If something is no action, is not supported, or instructions are in an order that OpenFlow 1.1 cannot express.
pub fn parse_actions(text: &str, names: &dyn PortNames) -> Result<Vec<OfAction>, TextError> {
    actions(text, names).map_err(|f| f.within(text))
}

pub(crate) fn actions(text: &str, names: &dyn PortNames) -> Parsed<Vec<OfAction>> {
    let mut list = ActionList::new(names, Place::Rule, 0);
    list.read(text)?;
    instruction_order(text, &list.actions)?;
    Ok(list.actions)
}

/// Where a list of actions stands; it decides which of them may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Of a rule.
    Rule,
    /// `write_actions(...)`.
    Set,
    /// `clone(...)`.
    Clone,
    /// `ct(exec(...))`.
    CtExec,
    /// A group's bucket.
    Bucket,
}

impl Place {
    /// The action or instruction around the list; none around a rule's.
    const fn outer(self) -> Option<&'static str> {
        match self {
            Place::Rule => None,
            Place::Set => Some("write_actions"),
            Place::Clone => Some("clone"),
            Place::CtExec => Some("ct"),
            Place::Bucket => Some("group"),
        }
    }
}

/// OpenFlow 1.1 has one instruction of a kind, executed in a fixed order; text must keep to it.
fn instruction_order(text: &str, actions: &[OfAction]) -> Parsed<()> {
    const APPLY: usize = 1;
    const NAMES: [&str; 6] =
        ["meter", "apply_actions", "clear_actions", "write_actions", "write_metadata", "goto_table"];
    let rank = |action: &OfAction| match action {
        OfAction::Meter(_) => 0,
        OfAction::ClearActions => 2,
        OfAction::WriteActions(_) => 3,
        OfAction::WriteMetadata { .. } => 4,
        OfAction::GotoTable(_) => 5,
        _ => APPLY,
    };
    let mut before = None;
    for action in actions {
        let now = rank(action);
        let name = |i: usize| NAMES.get(i).copied().unwrap_or_default();
        match before {
            Some(before) if now == before && now != APPLY => {
                return Err(fault(text, TextFault::Duplicate(name(now))));
            }
            Some(before) if now < before => {
                return Err(fault(text, TextFault::Order { late: name(now), early: name(before) }));
            }
            _ => before = Some(now),
        }
    }
    Ok(())
}

pub(crate) struct ActionList<'n> {
    names: &'n dyn PortNames,
    place: Place,
    /// Lists around this one.
    depth: usize,
    pub(crate) actions: Vec<OfAction>,
    count: usize,
    dropped: bool,
    others: bool,
}

impl<'n> ActionList<'n> {
    pub(crate) fn new(names: &'n dyn PortNames, place: Place, depth: usize) -> Self {
        ActionList { names, place, depth, actions: Vec::new(), count: 0, dropped: false, others: false }
    }

    /// An empty list within this one.
    pub(crate) fn inner(&self, text: &str, place: Place) -> Parsed<ActionList<'n>> {
        if self.depth == NESTING_MAX {
            return Err(fault(text, TextFault::TooMany { what: "nested actions", max: NESTING_MAX }));
        }
        Ok(ActionList::new(self.names, place, self.depth + 1))
    }

    fn nested(&self, text: &str, place: Place) -> Parsed<Vec<OfAction>> {
        let mut list = self.inner(text, place)?;
        list.read(text)?;
        Ok(list.actions)
    }

    pub(crate) fn read(&mut self, text: &str) -> Parsed<()> {
        for word in Words::new(text) {
            self.word(word)?;
        }
        self.drop_stands_alone(text)
    }

    pub(crate) fn drop_stands_alone(&self, text: &str) -> Parsed<()> {
        if self.dropped && self.others { Err(fault(text, TextFault::DropNotAlone)) } else { Ok(()) }
    }

    /// What the place of the list forbids (ovs-ofctl's words).
    fn fits_place(&self, word: Word<'_>, action: &OfAction) -> Parsed<()> {
        let written = written_field(action);
        let wrong = match self.place.outer() {
            Some(outer) if self.place == Place::CtExec => match written {
                Some(field) if is_connection_field(field) => return Ok(()),
                Some(field) => TextFault::NestedField { outer, field: field.row().name },
                None => TextFault::NestedAction { outer, action: action.name() },
            },
            Some(outer) if self.place != Place::Bucket && matches!(action, OfAction::Meter(_)) => {
                TextFault::NestedAction { outer, action: action.name() }
            }
            Some(_) if action.is_instruction() => TextFault::NotHere(action.name()),
            _ if written.is_some_and(is_connection_field) => TextFault::CtField,
            _ => return Ok(()),
        };
        Err(fault(word.key, wrong))
    }

    pub(crate) fn word(&mut self, word: Word<'_>) -> Parsed<()> {
        if self.count == ACTIONS_MAX {
            return Err(fault(word.key, TextFault::TooMany { what: "actions", max: ACTIONS_MAX }));
        }
        self.count += 1;
        let name = word.key.to_ascii_lowercase();
        if name == "drop" {
            self.dropped = true;
            return Ok(());
        }
        self.others = true;
        match self.action(&name, word)? {
            Some(action) => {
                self.fits_place(word, &action)?;
                if !matches!(action, OfAction::SetField { mask: 0, .. }) {
                    self.actions.push(action);
                }
            }
            None => {
                // A bare port is an output, and reserved ports may be followed by nonsense, as in ovs-ofctl.
                let port = parse_port(word.key, self.names)
                    .ok_or_else(|| fault(word.key, TextFault::UnknownAction(word.key.to_owned())))?;
                let action = output(word.key, port)?;
                self.fits_place(word, &action)?;
                self.actions.push(action);
            }
        }
        Ok(())
    }

    /// An action by its name in lower case; none if no action is called so.
    fn action(&self, name: &str, word: Word<'_>) -> Parsed<Option<OfAction>> {
        use OfAction as A;
        let v = word.value;
        Ok(Some(match name {
            "output" | "output_reg" => self.output(v)?,
            "controller" => controller(v)?,
            "enqueue" => self.enqueue(v)?,
            "resubmit" => self.resubmit(v)?,
            "exit" => A::Exit,
            "note" => A::Note(hex_bytes(v, BYTES_MAX, TextFault::Hex("note"))?),
            "strip_vlan" | "pop_vlan" => A::PopVlan,
            "dec_mpls_ttl" => A::DecMplsTtl,
            "dec_ttl" => dec_ttl(v)?,
            "load" => load(v)?,
            "move" => self.move_field(v)?,
            "set_field" => self.set_field(v)?,
            "clear_actions" => A::ClearActions,
            "write_actions" => A::WriteActions(self.nested(v, Place::Set)?),
            "clone" => A::Clone(self.nested(v, Place::Clone)?),
            "ct" => super::ct::parse(self, v)?,
            "ct_clear" => A::CtClear,
            "nat" => return Err(fault(word.key, TextFault::NatOutsideCt)),
            "check_pkt_larger" => check_pkt_larger(word)?,
            "group" => A::Group(GroupId(number32(v)?)),
            "meter" => A::Meter(MeterId(number32(v)?)),
            "goto_table" => match table(v)? {
                TableId::ALL => return Err(fault(v, TextFault::UnknownTable(v.to_owned()))),
                table => A::GotoTable(table),
            },
            "write_metadata" => {
                let (value, mask) = number64_masked(v)?;
                A::WriteMetadata { value, mask: mask.unwrap_or(u64::MAX) }
            }
            _ if UNSUPPORTED.contains(&name) => {
                return Err(fault(word.key, TextFault::UnsupportedAction(name.to_owned())));
            }
            _ => return simple(name, v),
        }))
    }

    fn output(&self, v: &str) -> Parsed<OfAction> {
        let unknown = || fault(v, TextFault::OutputPort(v.to_owned()));
        if let Some(port) = parse_port(v, self.names) {
            return output(v, port);
        }
        if !v.starts_with("port=") || !v.contains("max_len=") {
            let src = subfield(v).map_err(|_| unknown())?;
            return Ok(OfAction::OutputReg { src, max_len: 0xffff });
        }
        let (mut port, mut max_len) = (None, None);
        for word in Words::new(v) {
            match word.key {
                "port" => port = Some(parse_port(word.value, self.names).ok_or_else(unknown)?),
                "max_len" => max_len = Some(number32(word.value)?),
                _ => return Err(fault(word.key, TextFault::Parameter(word.key.to_owned()))),
            }
        }
        let (Some(port), Some(max_len)) = (port, max_len) else { return Err(unknown()) };
        if !port.is_real() && port != OfPort::IN_PORT {
            return Err(fault(v, TextFault::TruncatePort(port.to_string())));
        }
        if max_len < 14 {
            return Err(fault(v, TextFault::TruncateLength(max_len)));
        }
        Ok(OfAction::OutputTrunc { port, max_len })
    }

    fn enqueue(&self, v: &str) -> Parsed<OfAction> {
        let cut = v.rfind([',', ':']).and_then(|i| Some((v.get(..i)?, v.get(i + 1..)?)));
        let (port, queue) = cut.ok_or_else(|| fault(v, TextFault::EnqueueSyntax))?;
        let number = parse_port(port, self.names);
        let number = number.ok_or_else(|| fault(port, TextFault::EnqueuePort(port.to_owned())))?;
        Ok(OfAction::Enqueue { port: number, queue: number32(queue)? })
    }

    fn resubmit(&self, v: &str) -> Parsed<OfAction> {
        let mut parts = v.split(',').map(str::trim);
        let port = match parts.next() {
            None | Some("") => None,
            Some(name) => {
                let port = parse_port(name, self.names);
                let port = port.ok_or_else(|| fault(name, TextFault::ResubmitPort(name.to_owned())))?;
                (port != OfPort::IN_PORT).then_some(port)
            }
        };
        let table = match parts.next() {
            None | Some("") => None,
            Some(name) => {
                let number = table(name).map_err(|f| f.map(|_| TextFault::ResubmitTable(name.to_owned())))?;
                (number != TableId::ALL).then_some(number)
            }
        };
        match parts.next() {
            None | Some("") => {}
            Some("ct") => return Err(fault(v, TextFault::UnsupportedAction("resubmit(...,ct)".to_owned()))),
            Some(other) => return Err(fault(other, TextFault::Parameter(other.to_owned()))),
        }
        if port.is_none() && table.is_none() {
            return Err(fault(v, TextFault::ResubmitNothing));
        }
        Ok(OfAction::Resubmit { port, table })
    }

    fn set_field(&self, v: &str) -> Parsed<OfAction> {
        let (text, name) = v.split_once("->").ok_or_else(|| fault(v, TextFault::NoArrow(v.to_owned())))?;
        if name.is_empty() {
            return Err(fault(v, TextFault::NoFieldName(v.to_owned())));
        }
        let field = FieldId::from_name(name).filter(|id| !id.row().oxm.is_empty());
        let field = field.ok_or_else(|| fault(name, TextFault::NotAnOxmField(name.to_owned())))?;
        let row = field.row();
        if row.access == Access::ReadOnly {
            return Err(fault(name, TextFault::ReadOnly(row.name)));
        }
        let (number, mask) = value(row, text, self.names)?;
        let written = mask.unwrap_or(u128::MAX);
        let mask = mask.unwrap_or(row.slot.ones());
        if mask & !row.slot.ones() != 0 || number & written & !row.value_bits() != 0 {
            return Err(not_a_value(row, text));
        }
        Ok(OfAction::SetField { field, value: number & mask, mask })
    }

    fn move_field(&self, v: &str) -> Parsed<OfAction> {
        let arrow = || fault(v, TextFault::NoArrowAfterSource(v.to_owned()));
        let (src, dst) = v.split_once("->").ok_or_else(arrow)?;
        let whole = |f: Fault| {
            f.map(|kind| match kind {
                TextFault::SubFieldName { field, .. } => {
                    TextFault::SubFieldName { word: v.to_owned(), field }
                }
                kind => kind,
            })
        };
        let (src, dst) = (subfield(src).map_err(whole)?, subfield(dst).map_err(whole)?);
        if src.width != dst.width {
            return Err(fault(
                v,
                TextFault::MoveWidth { word: v.to_owned(), src: src.width, dst: dst.width },
            ));
        }
        if dst.field.row().access == Access::ReadOnly {
            return Err(fault(v, TextFault::ReadOnly(dst.field.row().name)));
        }
        Ok(OfAction::Move { src, dst })
    }
}

/// `check_pkt_larger(LEN)->DST`; the arrow stands behind the parenthesis, where the word does not end.
fn check_pkt_larger(word: Word<'_>) -> Parsed<OfAction> {
    let v = word.value;
    let (len, dst) = v
        .split_once(")->")
        .or_else(|| v.split_once("->"))
        .ok_or_else(|| fault(v, TextFault::NoArrow(v.to_owned())))?;
    if dst.is_empty() {
        return Err(fault(v, TextFault::NoFieldName(v.to_owned())));
    }
    let len = number16(len, "packet length")?;
    let dst = subfield(dst)?;
    if dst.width != 1 {
        return Err(fault(v, TextFault::OneBit));
    }
    if is_connection_field(dst.field) {
        return Err(fault(v, TextFault::CtField));
    }
    if dst.field.row().access == Access::ReadOnly {
        return Err(fault(v, TextFault::ReadOnly(dst.field.row().name)));
    }
    Ok(OfAction::CheckPktLarger { len, dst })
}

/// Actions with one argument; none if no action has the name.
fn simple(name: &str, v: &str) -> Parsed<Option<OfAction>> {
    use OfAction as A;
    let below = |number: u64, limit: u64, what: &'static str| {
        if number < limit {
            Ok(number)
        } else {
            Err(fault(v, TextFault::NotValid { word: v.to_owned(), what }))
        }
    };
    let mac = || parse_mac(v).ok_or_else(|| fault(v, TextFault::Mac(v.to_owned())));
    let ip = || v.parse::<Ipv4Addr>().map(u32::from).map_err(|_| fault(v, TextFault::ActionIp(v.to_owned())));
    Ok(Some(match name {
        "mod_vlan_vid" | "set_vlan_vid" => {
            A::SetVlanVid(below(number16(v, "VLAN VID")?.into(), 0x1000, "VLAN VID")? as u16)
        }
        "mod_vlan_pcp" | "set_vlan_pcp" => {
            A::SetVlanPcp(below(number8(v, "VLAN PCP")?.into(), 8, "VLAN PCP")? as u8)
        }
        "push_vlan" => match number16(v, "ethertype")? {
            tpid @ (0x8100 | 0x88a8) => A::PushVlan(tpid),
            _ => return Err(fault(v, TextFault::NotValid { word: v.to_owned(), what: "VLAN ethertype" })),
        },
        "mod_dl_src" => A::SetDlSrc(mac()?),
        "mod_dl_dst" => A::SetDlDst(mac()?),
        "mod_nw_src" => A::SetNwSrc(ip()?),
        "mod_nw_dst" => A::SetNwDst(ip()?),
        "mod_nw_tos" => match number8(v, "TOS")? {
            tos if tos & 3 == 0 => A::SetNwTos(tos),
            _ => return Err(fault(v, TextFault::NotValid { word: v.to_owned(), what: "TOS" })),
        },
        "mod_nw_ecn" => A::SetNwEcn(below(number8(v, "ECN")?.into(), 4, "ECN")? as u8),
        "mod_nw_ttl" => A::SetNwTtl(number8(v, "TTL")?),
        "mod_tp_src" => A::SetTpSrc(number16(v, "source port")?),
        "mod_tp_dst" => A::SetTpDst(number16(v, "destination port")?),
        "push_mpls" => match number16(v, "push_mpls")? {
            ethertype @ (0x8847 | 0x8848) => A::PushMpls(ethertype),
            _ => return Err(fault(v, TextFault::NotValid { word: v.to_owned(), what: "MPLS ethertype" })),
        },
        "pop_mpls" => A::PopMpls(number16(v, "pop_mpls")?),
        "set_mpls_label" => A::SetMplsLabel(below(number64(v)?, 1 << 20, "MPLS label")? as u32),
        "set_mpls_tc" => A::SetMplsTc(below(number8(v, "MPLS TC")?.into(), 8, "MPLS TC")? as u8),
        "set_mpls_ttl" => A::SetMplsTtl(number8(v, "MPLS TTL")?),
        "set_tunnel" | "set_tunnel64" => A::SetTunnel(number64(v)?),
        _ => return Ok(None),
    }))
}

/// Output to a port that frames can go to.
fn output(word: &str, port: OfPort) -> Parsed<OfAction> {
    let reserved =
        [OfPort::IN_PORT, OfPort::TABLE, OfPort::NORMAL, OfPort::FLOOD, OfPort::ALL, OfPort::CONTROLLER];
    if port.is_real() || reserved.contains(&port) {
        let max_len = if port == OfPort::CONTROLLER { 0xffff } else { 0 };
        return Ok(OfAction::Output { port, max_len });
    }
    Err(fault(word, TextFault::BadOutPort))
}

/// Names of reasons, in OpenFlow's order.
pub(crate) const REASONS: [(&str, PacketInReason); 6] = [
    ("no_match", PacketInReason::NoMatch),
    ("action", PacketInReason::Action),
    ("invalid_ttl", PacketInReason::InvalidTtl),
    ("action_set", PacketInReason::ActionSet),
    ("group", PacketInReason::Group),
    ("packet_out", PacketInReason::PacketOut),
];

fn controller(v: &str) -> Parsed<OfAction> {
    let (mut max_len, mut controller_id, mut reason) = (0xffff, 0, PacketInReason::Action);
    let (mut userdata, mut pause) = (Vec::new(), false);
    if v.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        max_len = number16(v, "max_len")?;
        return Ok(OfAction::Output { port: OfPort::CONTROLLER, max_len });
    }
    for word in Words::new(v) {
        match word.key {
            "reason" => {
                let found = REASONS.iter().find(|(name, _)| *name == word.value).map(|(_, reason)| *reason);
                reason = found.ok_or_else(|| fault(word.value, TextFault::Reason(word.value.to_owned())))?;
            }
            "max_len" => max_len = number16(word.value, "max_len")?,
            "id" => controller_id = number16(word.value, "id")?,
            "userdata" => userdata = hex_bytes(word.value, BYTES_MAX, TextFault::UserdataHex)?,
            "pause" => pause = true,
            "meter_id" => {
                return Err(fault(word.key, TextFault::UnsupportedAction("controller(meter_id)".to_owned())));
            }
            key => return Err(fault(word.key, TextFault::ControllerKey(key.to_owned()))),
        }
    }
    if controller_id == 0 && reason == PacketInReason::Action && userdata.is_empty() && !pause {
        return Ok(OfAction::Output { port: OfPort::CONTROLLER, max_len });
    }
    Ok(OfAction::Controller { max_len, controller_id, reason, userdata, pause })
}

fn dec_ttl(v: &str) -> Parsed<OfAction> {
    let ids = v.split([',', ' ', '\t']).filter(|s| !s.is_empty());
    let ids: Result<Vec<u16>, Fault> = ids.map(|id| bounded(id, "id", 0xffff).map(|id| id as u16)).collect();
    Ok(OfAction::DecTtl(ids?))
}

fn load(v: &str) -> Parsed<OfAction> {
    let (text, dst) = v.split_once("->").ok_or_else(|| fault(v, TextFault::NoArrow(v.to_owned())))?;
    let value = super::number::digits(text).map_err(|_| fault(v, TextFault::LoadValue(v.to_owned())))?;
    let dst = subfield(dst)?;
    if dst.width < 128 && value >> dst.width != 0 {
        return Err(fault(v, TextFault::LoadWidth { word: v.to_owned(), value, bits: dst.width }));
    }
    if dst.field.row().access == Access::ReadOnly {
        return Err(fault(v, TextFault::ReadOnly(dst.field.row().name)));
    }
    if dst.field.row().has_variable_length() {
        // As ovs-ofctl reads it: NXAST_REG_LOAD cannot name such a field.
        let shifted = |bits: u128| bits.checked_shl(dst.start.into()).unwrap_or(0);
        let ones = 1u128.checked_shl(dst.width.into()).map_or(u128::MAX, |bit| bit - 1);
        return Ok(OfAction::SetField { field: dst.field, value: shifted(value), mask: shifted(ones) });
    }
    Ok(OfAction::Load { value, dst })
}
