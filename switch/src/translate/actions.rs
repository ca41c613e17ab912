//! What each OpenFlow action does.

use super::lookup::OnMiss;
use super::output::{Cut, Punt};
use super::{Actions, Level, Source, Step, Walk};
use crate::trace::{Note, action_text};
use flowtable::field::Prereq;
use flowtable::key::pipeline_slot;
use flowtable::{FieldId, OfAction, OfPort, PacketInReason, TableId, Words};
use packet::key::slot;

impl Walk<'_> {
    pub(super) fn act(&mut self, action: &OfAction) -> Step {
        if self.inner_unknown && needs_inner(action) {
            return self.freeze();
        }
        self.note(Note::Action, || action_text(action));
        match action {
            OfAction::Output { port, max_len } => return self.output(*port, Cut::None, *max_len),
            OfAction::OutputTrunc { port, max_len } => {
                return self.output(*port, Cut::To(*max_len), (*max_len).min(0xffff) as u16);
            }
            OfAction::OutputReg { src, max_len } => {
                let port = OfPort(self.read(*src) as u32);
                let port = if src.width <= 16 { OfPort::from_u16(port.0 as u16) } else { port };
                self.note(Note::Detail, || format!("output port is {port}"));
                return self.output(port, Cut::None, *max_len);
            }
            OfAction::Controller { max_len, controller_id, reason, userdata, .. } => self.punt(Punt {
                reason: *reason,
                table: self.table(),
                cookie: self.cookie(),
                controller_id: *controller_id,
                max_len: *max_len,
                userdata,
            }),
            OfAction::Enqueue { port, .. } => return self.output(*port, Cut::None, 0),
            OfAction::Resubmit { port, table } => return self.resubmit(*port, *table),
            OfAction::GotoTable(table) => return self.enter_table(*table, None, OnMiss::AsConfigured),
            OfAction::Exit => return Step::Exit,
            OfAction::Group(id) => return self.group(*id),
            OfAction::Meter(id) => self.meter(*id),
            OfAction::DecTtl(controllers) => return self.dec_ttl(controllers),
            OfAction::DecMplsTtl => return self.dec_mpls_ttl(),
            OfAction::Ct(ct) => return self.ct(ct),
            OfAction::CtClear => self.ct_clear(),
            OfAction::Clone(actions) => return self.clone_of(actions),
            OfAction::Note(_) => {}
            OfAction::WriteMetadata { value, mask } => {
                self.write(FieldId::Metadata, (*value).into(), (*mask).into());
            }
            OfAction::ClearActions => {
                self.note_set("was");
                self.action_set.clear();
                self.note_set_output();
            }
            OfAction::WriteActions(actions) => {
                self.action_set.extend(actions.iter().cloned());
                self.note_set("is");
                self.note_set_output();
            }
            other => self.rewrite(other),
        }
        Step::Next
    }

    fn note_set(&mut self, tense: &str) {
        if self.trace.is_some() {
            let set: Vec<String> = ordered(&self.action_set).iter().map(action_text).collect();
            self.note(Note::Detail, || format!("action set {tense}: {}", set.join(",")));
        }
    }

    /// Keeps `actset_output` true: beside a group no output of the set is carried out.
    pub(super) fn note_set_output(&mut self) {
        let output = |a: &OfAction| match a {
            OfAction::Output { port, .. } => Some(*port),
            _ => None,
        };
        let group = self.action_set.iter().any(|a| matches!(a, OfAction::Group(_)));
        let port = self.action_set.iter().rev().find_map(output).filter(|_| !group);
        let port = port.unwrap_or(OfPort::UNSET);
        self.flow.set_slot(pipeline_slot::ACTSET_OUTPUT, port.0.into());
    }

    /// Actions that only change the frame.
    fn rewrite(&mut self, action: &OfAction) {
        let ones = |id: FieldId| id.slot().ones();
        let mut set = |id: FieldId, value: u128| self.write(id, value, ones(id));
        match action {
            OfAction::SetDlSrc(mac) => set(FieldId::EthSrc, (*mac).into()),
            OfAction::SetDlDst(mac) => set(FieldId::EthDst, (*mac).into()),
            OfAction::SetNwSrc(ip) => set(FieldId::IpSrc, (*ip).into()),
            OfAction::SetNwDst(ip) => set(FieldId::IpDst, (*ip).into()),
            OfAction::SetNwTos(tos) => set(FieldId::NwTos, (*tos).into()),
            OfAction::SetNwEcn(ecn) => set(FieldId::NwEcn, (*ecn).into()),
            OfAction::SetNwTtl(ttl) => set(FieldId::NwTtl, (*ttl).into()),
            OfAction::SetTpSrc(port) => self.set_transport_port(slot::TP_SRC, *port),
            OfAction::SetTpDst(port) => self.set_transport_port(slot::TP_DST, *port),
            OfAction::SetVlanVid(vid) => set(FieldId::DlVlan, (*vid).into()),
            OfAction::SetVlanPcp(pcp) => set(FieldId::DlVlanPcp, (*pcp).into()),
            OfAction::PushVlan(tpid) => self.push_vlan(*tpid),
            OfAction::PopVlan => self.pop_vlan(),
            OfAction::SetField { field, value, mask } => self.write(*field, *value, *mask),
            OfAction::Load { value, dst } => self.write_sub(*dst, *value),
            OfAction::Move { src, dst } => self.copy(*src, *dst),
            OfAction::SetTunnel(id) => set(FieldId::TunId, (*id).into()),
            OfAction::PushMpls(ethertype) => self.push_mpls(*ethertype),
            OfAction::PopMpls(ethertype) => self.pop_mpls(*ethertype),
            OfAction::SetMplsLabel(label) => set(FieldId::MplsLabel, (*label).into()),
            OfAction::SetMplsTc(tc) => set(FieldId::MplsTc, (*tc).into()),
            OfAction::SetMplsTtl(ttl) => set(FieldId::MplsTtl, (*ttl).into()),
            _ => {}
        }
    }

    fn dec_ttl(&mut self, controllers: &[u16]) -> Step {
        if !Prereq::Ip.holds(&self.flow) {
            return Step::Next;
        }
        self.see(slot::NW_TTL, slot::NW_TTL.ones());
        let ttl = self.flow.slot(slot::NW_TTL);
        if ttl > 1 {
            self.write(FieldId::NwTtl, ttl - 1, 0xff);
            return Step::Next;
        }
        let version = if self.flow.packet.dl_type() == 0x0800 { 4 } else { 6 };
        self.note(Note::Warn, || format!("IPv{version} decrement TTL exception"));
        for id in if controllers.is_empty() { &[0] } else { controllers } {
            self.expired(*id);
        }
        Step::Leave
    }

    pub(super) fn expired(&mut self, controller_id: u16) {
        self.why(datapath::Drop::TtlExceeded);
        self.punt(Punt {
            reason: PacketInReason::InvalidTtl,
            table: self.table(),
            cookie: self.cookie(),
            controller_id,
            max_len: 0xffff,
            userdata: &[],
        });
    }

    /// Turns the outermost list, which has ended, into the action set.
    pub(super) fn enter_action_set(&mut self) {
        let actions = Actions::Own(ordered(&std::mem::take(&mut self.action_set)).into());
        let (cookie, depth) = (self.cookie(), self.depth());
        if let Some(trace) = &mut self.trace {
            trace.enter(Note::Set, "--. Executing action set:".to_owned());
        }
        self.levels.push(Level { actions, next: 0, table: TableId::ALL, cookie, depth, source: Source::Set });
    }
}

/// Rank of an action in an action set (OpenFlow 1.5.1 §5.6.3), lowest first.
fn rank(action: &OfAction) -> u8 {
    match action {
        OfAction::Meter(_) => 0,
        OfAction::PopVlan => 1,
        OfAction::PopMpls(_) => 2,
        OfAction::PushMpls(_) => 3,
        OfAction::PushVlan(_) => 4,
        OfAction::DecTtl(_) => 5,
        OfAction::DecMplsTtl => 6,
        OfAction::Output { .. } | OfAction::OutputReg { .. } | OfAction::OutputTrunc { .. } => 9,
        OfAction::Enqueue { .. } | OfAction::Controller { .. } | OfAction::Resubmit { .. } => 9,
        OfAction::Group(_) | OfAction::CtClear | OfAction::Ct(_) => 9,
        _ => 7,
    }
}

/// Whether two actions of one rank write the same thing, so that the later replaces the earlier.
fn replaces(later: &OfAction, earlier: &OfAction) -> bool {
    let rank = rank(later);
    if rank != 7 {
        return rank == self::rank(earlier);
    }
    match (later, earlier) {
        (OfAction::SetField { field: a, mask: m, .. }, OfAction::SetField { field: b, mask: n, .. }) => {
            a == b && m & n == *n
        }
        (OfAction::Load { dst: a, .. }, OfAction::Load { dst: b, .. }) => a == b,
        (OfAction::Move { .. }, _) | (OfAction::SetField { .. }, _) | (OfAction::Load { .. }, _) => false,
        _ => std::mem::discriminant(later) == std::mem::discriminant(earlier),
    }
}

/// The actions of a set in the order in which they are carried out, those replaced left out.
pub(crate) fn ordered(written: &[OfAction]) -> Vec<OfAction> {
    let mut set: Vec<OfAction> = Vec::new();
    for action in written {
        set.retain(|earlier| !replaces(action, earlier));
        set.push(action.clone());
    }
    // Of what sends the frame somewhere only the first in this order is carried out (ovs-actions(7), Action Sets).
    if let Some(first) = set.iter().map(destination).filter(|d| *d > 0).min() {
        set.retain(|action| destination(action) == 0 || destination(action) == first);
    }
    set.sort_by_key(rank);
    set
}

/// Place among the actions of which a set carries out one; 0 for the others.
fn destination(action: &OfAction) -> u8 {
    match action {
        OfAction::Group(_) => 1,
        OfAction::Output { .. } | OfAction::OutputReg { .. } | OfAction::OutputTrunc { .. } => 2,
        OfAction::Enqueue { .. } | OfAction::Controller { .. } => 2,
        OfAction::Resubmit { .. } => 3,
        OfAction::CtClear => 4,
        OfAction::Ct(_) => 5,
        _ => 0,
    }
}

/// Whether an action looks behind the Ethernet header and its tags.
fn needs_inner(action: &OfAction) -> bool {
    let outside = |id: FieldId| {
        let slot = id.slot();
        let frame_state = slot.word >= slot::PKT_MARK.word;
        slot.word == slot::IN_PORT.word
            || slot == slot::DL_DST
            || slot == slot::DL_SRC
            || slot.word == slot::VLAN_TCI.word && slot.shift < 16
            || frame_state
    };
    match action {
        OfAction::Output { port: OfPort::TABLE, .. } => true,
        OfAction::Output { .. }
        | OfAction::OutputTrunc { .. }
        | OfAction::Enqueue { .. }
        | OfAction::Controller { .. }
        | OfAction::SetVlanVid(_)
        | OfAction::SetVlanPcp(_)
        | OfAction::PopVlan
        | OfAction::PushVlan(_)
        | OfAction::SetDlSrc(_)
        | OfAction::SetDlDst(_)
        | OfAction::SetTunnel(_)
        | OfAction::Note(_)
        | OfAction::Exit
        | OfAction::Meter(_)
        | OfAction::WriteMetadata { .. }
        | OfAction::ClearActions
        | OfAction::WriteActions(_) => false,
        OfAction::Load { dst, .. } => !outside(dst.field),
        OfAction::SetField { field, .. } => !outside(*field),
        OfAction::Move { src, dst } => !outside(src.field) || !outside(dst.field),
        OfAction::OutputReg { src, .. } => !outside(src.field),
        _ => true,
    }
}
