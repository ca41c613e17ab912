//! Whether actions make sense for the frames that a match admits, as OVS checks when it takes a flow_mod or packet-out.

use crate::error::OfError;
use crate::version::OfVersion;
use flowtable::field::Prereq;
use flowtable::{CtAction, CtAlg, FieldId, GroupId, Match, MeterId, OfAction, OfPort, TableId, ZoneSource};
use packet::key::{VLAN_PRESENT, slot};

/// Against what actions are checked.
#[derive(Clone, Copy, Debug)]
pub struct CheckActions<'a> {
    /// Version of the connection: OpenFlow 1.0 lets its old actions pass where the match does not fit them.
    pub version: OfVersion,
    /// The rule's match; for a packet-out the frame's headers, matched exactly.
    pub matching: &'a Match,
    /// The rule's table, which goto_table must go beyond; [`TableId::ALL`] for none.
    pub table: TableId,
    /// Highest number of a real port.
    pub max_port: OfPort,
}

/// Checks a list of actions.
///
/// # Errors
/// `OFPBAC_BAD_OUT_PORT`, `OFPBAC_MATCH_INCONSISTENT`, `OFPBAC_BAD_QUEUE`, `OFPBIC_BAD_TABLE_ID`, `OFPBAC_BAD_TYPE` for what
/// an action set cannot hold, `OFPBAC_UNSUPPORTED_ORDER` for instructions out of order, `OFPBAC_BAD_ARGUMENT`,
/// `OFPBAC_BAD_OUT_GROUP` and `OFPMMFC_INVALID_METER` for numbers that no group or meter can have.
pub fn check_actions(against: &CheckActions<'_>, actions: &[OfAction]) -> Result<(), OfError> {
    let mut frame = *against.matching;
    let mut rank = 0;
    for action in actions {
        let now = order(action);
        // Instructions take effect in a fixed order, each once.
        if now < rank || now == rank && now > 0 {
            return Err(OfError::BadActionUnsupportedOrder);
        }
        rank = now;
        check_one(against, &mut frame, action)?;
    }
    Ok(())
}

/// Place of an action in the order of instructions; 0 for those of apply_actions.
fn order(action: &OfAction) -> u8 {
    match action {
        OfAction::ClearActions => 1,
        OfAction::WriteActions(_) => 2,
        OfAction::WriteMetadata { .. } => 3,
        OfAction::GotoTable(_) => 4,
        _ => 0,
    }
}

fn check_one(against: &CheckActions<'_>, frame: &mut Match, action: &OfAction) -> Result<(), OfError> {
    use OfAction::*;
    // What an old action needs; OpenFlow 1.0 leaves it without effect on other frames.
    let needs = |frame: &Match, any_of: &[Prereq]| {
        let fits = any_of.iter().any(|p| p.implied_by(frame));
        if fits || against.version == OfVersion::V10 {
            Ok(())
        } else {
            Err(OfError::BadActionMatchInconsistent)
        }
    };
    match action {
        Output { port, .. } | OutputTrunc { port, .. } => return out_port(against, *port),
        Enqueue { .. } => return Err(OfError::BadActionBadQueue),
        OutputReg { src, .. } => return readable(src.field, frame),
        SetField { field, .. } => {
            readable(*field, frame)?;
            // A match on the VID needs no tag, writing it does.
            if *field == FieldId::VlanVid && !Prereq::Vlan.implied_by(frame) {
                return Err(OfError::BadActionMatchInconsistent);
            }
            note_field(frame, *field);
        }
        Load { dst, .. } => {
            readable(dst.field, frame)?;
            note_field(frame, dst.field);
        }
        Move { src, dst } => {
            if src.width != dst.width {
                return Err(OfError::BadActionBadArgument);
            }
            readable(src.field, frame)?;
            readable(dst.field, frame)?;
            note_field(frame, dst.field);
        }
        SetVlanVid(_) | SetVlanPcp(_) | PushVlan(_) => {
            frame.set(slot::VLAN_TCI, VLAN_PRESENT as u128, VLAN_PRESENT as u128);
        }
        PopVlan => {
            needs(frame, &[Prereq::Vlan])?;
            frame.set(slot::VLAN_TCI, 0, 0);
        }
        SetNwSrc(_) | SetNwDst(_) => return needs(frame, &[Prereq::Ipv4]),
        SetNwTos(_) | SetNwEcn(_) | SetNwTtl(_) | DecTtl(_) => return needs(frame, &[Prereq::Ip]),
        SetTpSrc(_) | SetTpDst(_) => return needs(frame, &[Prereq::Tcp, Prereq::Udp, Prereq::Sctp]),
        PushMpls(ether_type) => push_mpls(frame, *ether_type),
        PopMpls(ether_type) => {
            needs(frame, &[Prereq::Mpls])?;
            push_mpls(frame, *ether_type);
        }
        SetMplsLabel(_) | SetMplsTc(_) | SetMplsTtl(_) | DecMplsTtl => return needs(frame, &[Prereq::Mpls]),
        GotoTable(table) => {
            let back = against.table != TableId::ALL && *table <= against.table;
            if back || *table == TableId::ALL {
                return Err(OfError::BadInstructionBadTableId);
            }
        }
        WriteActions(set) => return action_set(against, frame, set),
        Ct(ct) => return check_ct(against, frame, ct),
        CheckPktLarger { dst, .. } => return readable(dst.field, frame),
        // What is done to the copy is not done to the frame.
        Clone(list) => {
            return list.iter().try_for_each({
                let mut copy = *frame;
                move |action| check_one(against, &mut copy, action)
            });
        }
        Group(id) if *id > GroupId::MAX => return Err(OfError::BadActionBadOutGroup),
        Meter(id) if *id == MeterId(0) || *id > MeterId::MAX => {
            return Err(OfError::MeterModFailedInvalidMeter);
        }
        Group(_) | Meter(_) | CtClear => {}
        Controller { .. } | Resubmit { .. } | SetDlSrc(_) | SetDlDst(_) | SetTunnel(_) | Note(_) | Exit => {}
        WriteMetadata { .. } | ClearActions => {}
    }
    Ok(())
}

/// Only IP is tracked, a translation is of the family of its addresses, and FTP is spoken over TCP, TFTP over UDP.
fn check_ct(against: &CheckActions<'_>, frame: &Match, ct: &CtAction) -> Result<(), OfError> {
    let needs = |prereq: Prereq| match prereq.implied_by(frame) {
        true => Ok(()),
        false => Err(OfError::BadActionMatchInconsistent),
    };
    needs(Prereq::Ip)?;
    if let ZoneSource::Field(src) = ct.zone {
        readable(src.field, frame)?;
    }
    if let Some((first, _)) = ct.nat.and_then(|nat| nat.addresses) {
        needs(if first.is_ipv4() { Prereq::Ipv4 } else { Prereq::Ipv6 })?;
    }
    match ct.alg {
        Some(CtAlg::Ftp) => needs(Prereq::Tcp)?,
        Some(CtAlg::Tftp) => needs(Prereq::Udp)?,
        None => {}
    }
    let mut copy = *frame;
    ct.exec.iter().try_for_each(|action| check_one(against, &mut copy, action))
}

fn out_port(against: &CheckActions<'_>, port: OfPort) -> Result<(), OfError> {
    let reserved = port >= OfPort::IN_PORT && port != OfPort::ANY;
    if port <= against.max_port || reserved { Ok(()) } else { Err(OfError::BadActionBadOutPort) }
}

fn readable(field: FieldId, frame: &Match) -> Result<(), OfError> {
    if field.row().prereq.implied_by(frame) { Ok(()) } else { Err(OfError::BadActionMatchInconsistent) }
}

/// Later actions may rely on a tag that an earlier one wrote.
fn note_field(frame: &mut Match, field: FieldId) {
    if matches!(field, FieldId::VlanTci | FieldId::DlVlan | FieldId::DlVlanPcp) {
        frame.set(slot::VLAN_TCI, VLAN_PRESENT as u128, VLAN_PRESENT as u128);
    }
}

/// What is known of the frame once its EtherType is another.
fn push_mpls(frame: &mut Match, ether_type: u16) {
    frame.set_exact(slot::DL_TYPE, ether_type as u128);
    frame.set(slot::NW_PROTO, 0, 0);
    frame.set(slot::NW_FRAG, 0, 0);
}

/// Contents of an action set: nothing that has an order of its own (OpenFlow 1.5.1 §5.6).
fn action_set(against: &CheckActions<'_>, frame: &Match, set: &[OfAction]) -> Result<(), OfError> {
    use OfAction::*;
    let mut frame = *frame;
    for action in set {
        let ordered = matches!(
            action,
            Controller { .. }
                | Enqueue { .. }
                | OutputReg { .. }
                | OutputTrunc { .. }
                | Resubmit { .. }
                | Ct(_)
                | CtClear
                | Clone(_)
                | CheckPktLarger { .. }
                | Meter(_)
                | Note(_)
                | Exit
        );
        if ordered || order(action) != 0 {
            return Err(OfError::BadActionBadType);
        }
        check_one(against, &mut frame, action)?;
    }
    Ok(())
}
