//! Actions as ovs-ofctl prints them.

use super::action_parse::REASONS;
use super::address::DisplayMac;
use super::names::{Dialect, TextStyle};
use super::number::{write_hex, write_hex_bytes, write_port};
use super::subfield::display_subfield;
use super::value::display_value;
use crate::action::{OfAction, PacketInReason, SubField};
use crate::port::OfPort;
use std::fmt;
use std::net::Ipv4Addr;

/// See [`display_actions`].
#[derive(Clone, Copy)]
pub struct DisplayActions<'a> {
    actions: &'a [OfAction],
    style: TextStyle<'a>,
}

/// A list of actions with commas between them, without `actions=`; the empty list is `drop`.
pub fn display_actions<'a>(actions: &'a [OfAction], style: TextStyle<'a>) -> DisplayActions<'a> {
    DisplayActions { actions, style }
}

impl fmt::Display for DisplayActions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actions.is_empty() {
            return f.write_str("drop");
        }
        for (i, action) in self.actions.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            ActionPrinter { style: self.style }.action(f, action)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct ActionPrinter<'a> {
    style: TextStyle<'a>,
}

type Out<'a, 'b> = &'a mut fmt::Formatter<'b>;

impl ActionPrinter<'_> {
    fn action(self, f: Out<'_, '_>, action: &OfAction) -> fmt::Result {
        use OfAction as A;
        match action {
            A::Output { port: OfPort::CONTROLLER, max_len } => write!(f, "CONTROLLER:{max_len}"),
            A::Output { port, .. } => self.output(f, *port),
            A::OutputReg { src, .. } => write!(f, "output:{}", display_subfield(*src)),
            A::OutputTrunc { port, max_len } => {
                f.write_str("output(port=")?;
                write_port(f, *port, &self.style)?;
                write!(f, ",max_len={max_len})")
            }
            A::Controller { max_len, controller_id, reason, userdata, pause } => {
                let details = ControllerDetails {
                    max_len: *max_len,
                    id: *controller_id,
                    reason: *reason,
                    pause: *pause,
                };
                details.write(f, userdata)
            }
            A::Enqueue { port, queue } => {
                f.write_str("enqueue:")?;
                write_port(f, *port, &self.style)?;
                write!(f, ":{queue}")
            }
            A::PopVlan => f.write_str(match self.style.dialect {
                Dialect::OpenFlow10 => "strip_vlan",
                Dialect::OpenFlow11 => "pop_vlan",
            }),
            A::Load { value, dst } => self.load(f, *value, *dst),
            A::SetField { field, value, mask } => {
                let value = display_value(*field, *value, *mask, self.style);
                write!(f, "set_field:{value}->{}", field.row().name)
            }
            A::Move { src, dst } => write!(f, "move:{}->{}", display_subfield(*src), display_subfield(*dst)),
            A::DecTtl(ids) => dec_ttl(f, ids),
            A::Resubmit { port, table } => self.resubmit(f, *port, table.map(|t| t.0)),
            A::Note(bytes) => {
                f.write_str("note:")?;
                write_hex_bytes(f, bytes)
            }
            A::Exit => f.write_str("exit"),
            A::Ct(ct) => super::ct::write(f, ct, self.style),
            A::CtClear => f.write_str("ct_clear"),
            A::Group(id) => write!(f, "group:{}", id.0),
            A::Meter(id) => write!(f, "meter:{}", id.0),
            A::Clone(list) => write!(f, "clone({})", display_actions(list, self.style)),
            A::CheckPktLarger { len, dst } => {
                write!(f, "check_pkt_larger({len})->{}", display_subfield(*dst))
            }
            A::WriteMetadata { value, mask } => {
                f.write_str("write_metadata:")?;
                write_hex(f, (*value).into())?;
                if *mask == u64::MAX {
                    return Ok(());
                }
                f.write_str("/")?;
                write_hex(f, (*mask).into())
            }
            A::ClearActions => f.write_str("clear_actions"),
            A::WriteActions(set) => write!(f, "write_actions({})", display_actions(set, self.style)),
            A::GotoTable(table) => write!(f, "goto_table:{}", table.0),
            _ => rewrite(f, action),
        }
    }

    fn output(self, f: Out<'_, '_>, port: OfPort) -> fmt::Result {
        if port.reserved_name().is_none() {
            f.write_str("output:")?;
        }
        write_port(f, port, &self.style)
    }

    /// More than 64 bits are printed in two, as Nicira's action carries 64.
    fn load(self, f: Out<'_, '_>, value: u128, dst: SubField) -> fmt::Result {
        let part = |f: Out<'_, '_>, value: u128, dst: SubField| {
            f.write_str("load:")?;
            write_hex(f, value)?;
            write!(f, "->{}", display_subfield(dst))
        };
        if dst.width <= 64 {
            return part(f, value, dst);
        }
        part(f, value & u64::MAX as u128, SubField { width: 64, ..dst })?;
        f.write_str(",")?;
        part(f, value >> 64, SubField { start: dst.start.saturating_add(64), width: dst.width - 64, ..dst })
    }

    fn resubmit(self, f: Out<'_, '_>, port: Option<OfPort>, table: Option<u8>) -> fmt::Result {
        let (Some(port), None) = (port, table) else {
            f.write_str("resubmit(")?;
            if let Some(port) = port {
                write_port(f, port, &self.style)?;
            }
            f.write_str(",")?;
            if let Some(table) = table {
                write!(f, "{table}")?;
            }
            return f.write_str(")");
        };
        f.write_str("resubmit:")?;
        write_port(f, port, &self.style)
    }
}

/// Actions that are a name and a number.
fn rewrite(f: Out<'_, '_>, action: &OfAction) -> fmt::Result {
    use OfAction as A;
    match action {
        A::SetVlanVid(vid) => write!(f, "mod_vlan_vid:{vid}"),
        A::SetVlanPcp(pcp) => write!(f, "mod_vlan_pcp:{pcp}"),
        A::PushVlan(tpid) => write!(f, "push_vlan:{tpid:#06x}"),
        A::SetDlSrc(mac) => write!(f, "mod_dl_src:{}", DisplayMac(*mac)),
        A::SetDlDst(mac) => write!(f, "mod_dl_dst:{}", DisplayMac(*mac)),
        A::SetNwSrc(ip) => write!(f, "mod_nw_src:{}", Ipv4Addr::from(*ip)),
        A::SetNwDst(ip) => write!(f, "mod_nw_dst:{}", Ipv4Addr::from(*ip)),
        A::SetNwTos(tos) => write!(f, "mod_nw_tos:{tos}"),
        A::SetNwEcn(ecn) => write!(f, "mod_nw_ecn:{ecn}"),
        A::SetNwTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
        A::SetTpSrc(port) => write!(f, "mod_tp_src:{port}"),
        A::SetTpDst(port) => write!(f, "mod_tp_dst:{port}"),
        A::PushMpls(ethertype) => write!(f, "push_mpls:{ethertype:#06x}"),
        A::PopMpls(ethertype) => write!(f, "pop_mpls:{ethertype:#06x}"),
        A::SetMplsLabel(label) => write!(f, "set_mpls_label({label})"),
        A::SetMplsTc(tc) => write!(f, "set_mpls_tc({tc})"),
        A::SetMplsTtl(ttl) => write!(f, "set_mpls_ttl({ttl})"),
        A::DecMplsTtl => f.write_str("dec_mpls_ttl"),
        A::SetTunnel(id) => {
            f.write_str(if *id > u32::MAX.into() { "set_tunnel64:" } else { "set_tunnel:" })?;
            write_hex(f, (*id).into())
        }
        // The caller prints the rest. Should an action be forgotten in both, it shows.
        other => write!(f, "{other:?}"),
    }
}

fn dec_ttl(f: Out<'_, '_>, ids: &[u16]) -> fmt::Result {
    f.write_str("dec_ttl")?;
    for (i, id) in ids.iter().enumerate() {
        write!(f, "{}{id}", if i == 0 { "(" } else { "," })?;
    }
    f.write_str(if ids.is_empty() { "" } else { ")" })
}

struct ControllerDetails {
    max_len: u16,
    id: u16,
    reason: PacketInReason,
    pause: bool,
}

impl ControllerDetails {
    fn write(&self, f: Out<'_, '_>, userdata: &[u8]) -> fmt::Result {
        if self.id == 0 && self.reason == PacketInReason::Action && !self.pause && userdata.is_empty() {
            return write!(f, "CONTROLLER:{}", self.max_len);
        }
        let mut comma = "";
        f.write_str("controller(")?;
        if self.reason != PacketInReason::Action {
            let name = REASONS.iter().find(|(_, r)| *r == self.reason).map_or("", |(name, _)| name);
            write!(f, "reason={name}")?;
            comma = ",";
        }
        if self.max_len != 0xffff {
            write!(f, "{comma}max_len={}", self.max_len)?;
            comma = ",";
        }
        if self.id != 0 {
            write!(f, "{comma}id={}", self.id)?;
            comma = ",";
        }
        if !userdata.is_empty() {
            write!(f, "{comma}userdata=")?;
            write_hex_bytes(f, userdata)?;
            comma = ",";
        }
        if self.pause {
            write!(f, "{comma}pause")?;
        }
        f.write_str(")")
    }
}
