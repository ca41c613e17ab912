//! Whether actions fit a match: they may touch only fields that its frames have (OpenFlow 1.1 §5.9, `OFPBAC_MATCH_INCONSISTENT`).
//!
//! As much as holds in every version of OpenFlow; what a switch checks for the version spoken is the codec's.

use super::error::TextFault;
use crate::action::{OfAction, TableId};
use crate::ct::{CtAction, CtAlg, ZoneSource};
use crate::field::{FieldId, Prereq};
use crate::key::Match;
use crate::meter::MeterId;
use packet::key::{VLAN_PRESENT, slot};

/// Whether `actions` may stand in a rule of `table` (if known) with this match.
///
/// A `set_field`, `load` or `move` needs the field's prerequisite, after what the actions before it have done to VLAN tags
/// and MPLS labels. A `goto_table` must go forward.
///
/// # Errors
/// [`TextFault::MatchInconsistent`] or [`TextFault::GotoBackwards`].
pub(crate) fn actions_fit(
    matching: &Match,
    actions: &[OfAction],
    table: Option<TableId>,
) -> Result<(), TextFault> {
    let mut now = *matching;
    for action in actions {
        check_action(&mut now, action, table)?;
    }
    Ok(())
}

fn check_action(now: &mut Match, action: &OfAction, table: Option<TableId>) -> Result<(), TextFault> {
    use OfAction as A;
    let tag = slot::VLAN_TCI.part(12, 1);
    let needs = |now: &Match, field: FieldId| {
        let vlan_needed = field == FieldId::VlanVid && now.get(tag) != (1, 1);
        if field.row().prereq.implied_by(now) && !vlan_needed {
            Ok(())
        } else {
            Err(TextFault::MatchInconsistent)
        }
    };
    match action {
        A::Load { dst, .. } => needs(now, dst.field)?,
        A::SetField { field, .. } => {
            needs(now, *field)?;
            if *field == FieldId::VlanTci {
                now.set(slot::VLAN_TCI, 0, 0);
            }
        }
        A::Move { src, dst } => {
            needs(now, src.field)?;
            needs(now, dst.field)?;
        }
        A::OutputReg { src, .. } => needs(now, src.field)?,
        A::SetVlanVid(_) | A::SetVlanPcp(_) | A::PushVlan(_) => {
            now.set(slot::VLAN_TCI, VLAN_PRESENT.into(), VLAN_PRESENT.into());
        }
        A::PopVlan => now.set(slot::VLAN_TCI, 0, VLAN_PRESENT.into()),
        // What lies behind labels is not known by the match, nor, once they are gone, anything but its type.
        A::PushMpls(ethertype) | A::PopMpls(ethertype) => now.set_exact(slot::DL_TYPE, (*ethertype).into()),
        A::WriteActions(set) => {
            for action in set {
                check_action(now, action, table)?;
            }
        }
        // What is done to the copy is not done to the frame.
        A::Clone(list) => actions_fit(now, list, None)?,
        A::CheckPktLarger { dst, .. } => needs(now, dst.field)?,
        A::Ct(ct) => ct_fits(now, ct)?,
        A::Meter(id) if *id == MeterId(0) || *id > MeterId::MAX && *id < MeterId::SLOWPATH => {
            return Err(TextFault::InvalidMeter);
        }
        A::GotoTable(to) if table.is_some_and(|t| t != TableId::ALL && *to <= t) => {
            return Err(TextFault::GotoBackwards);
        }
        _ => {}
    }
    Ok(())
}

/// Only IP is tracked, a translation is of the family of its addresses, and FTP is spoken over TCP, TFTP over UDP.
fn ct_fits(now: &Match, ct: &CtAction) -> Result<(), TextFault> {
    let mut needs = vec![Prereq::Ip];
    if let ZoneSource::Field(src) = ct.zone {
        needs.push(src.field.row().prereq);
    }
    if let Some((first, _)) = ct.nat.and_then(|nat| nat.addresses) {
        needs.push(if first.is_ipv4() { Prereq::Ipv4 } else { Prereq::Ipv6 });
    }
    needs.extend(ct.alg.map(|alg| match alg {
        CtAlg::Ftp => Prereq::Tcp,
        CtAlg::Tftp => Prereq::Udp,
    }));
    if !needs.iter().all(|prereq| prereq.implied_by(now)) {
        return Err(TextFault::MatchInconsistent);
    }
    actions_fit(now, &ct.exec, None)
}
