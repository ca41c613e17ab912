//! Passes through the connection tracker, and lists of actions that are carried out on a copy.
//!
//! The tracker has state, so it is asked by the datapath and not here: `ct` becomes a step of the program, and what depends
//! on its answer goes on in a translation of its own, which sees the answer as fields of the key.

use super::{Actions, Level, Source, Step, Walk};
use crate::forwarding::RECIRC_DOMAIN;
use crate::recirc::Frozen;
use crate::trace::Note;
use datapath::DpAction;
use datapath::conntrack::{self, CtSpec, NatSpec, PortSelection, Zone};
use flowtable::field::Prereq;
use flowtable::{CtAction, CtAlg, FieldId, NatAction, NatKind, OfAction, TableId, Words, ZoneSource};
use packet::PacketKey;
use packet::key::{Slot, slot};
use std::sync::Arc;

/// What the tracker tells of a frame.
const CONNECTION: &[Slot] = &[
    slot::CT_STATE,
    slot::CT_ZONE,
    slot::CT_MARK,
    slot::CT_LABEL,
    slot::CT_NW_PROTO,
    slot::CT_NW_SRC,
    slot::CT_NW_DST,
    slot::CT_IPV6_SRC,
    slot::CT_IPV6_DST,
    slot::CT_TP_SRC,
    slot::CT_TP_DST,
];

/// Bits of a field that are written, and what with.
type Written = (u128, u128);

impl<'a> Walk<'a> {
    /// `ct(…)`.
    pub(super) fn ct(&mut self, ct: &CtAction) -> Step {
        if !Prereq::Ip.holds(&self.flow) {
            return Step::Next;
        }
        let spec = Arc::new(self.ct_spec(ct));
        // With an id of its own each table gets a copy; the frame itself goes on here, as not tracked.
        let resume = ct.table.map(|table| self.fork(table));
        self.commit();
        if resume.is_some() {
            self.commit_tunnel();
        }
        self.room.out.push(DpAction::Ct(spec));
        self.spoiled = true;
        self.untracked = true;
        if let (Some(id), Some(table)) = (resume, ct.table) {
            self.room.out.push(DpAction::Recirculate(id));
            self.note(Note::Detail, || {
                format!(
                    "A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table {}.",
                    table.0
                )
            });
        }
        self.note(Note::Detail, || {
            "Sets the packet to an untracked state, and clears all the conntrack fields.".to_owned()
        });
        self.forget_connection();
        Step::Next
    }

    /// `ct_clear`.
    pub(super) fn ct_clear(&mut self) {
        self.see(slot::CT_STATE, slot::CT_STATE.ones());
        self.forget_connection();
        self.untracked = true;
    }

    /// Makes the pipeline see the frame as not tracked.
    pub(super) fn forget_connection(&mut self) {
        let zero = |key: &mut PacketKey| CONNECTION.iter().for_each(|s| key.set(*s, 0));
        if CONNECTION.iter().any(|s| self.flow.slot(*s) != 0) {
            self.untracked = true;
        }
        zero(&mut self.flow.packet);
        zero(&mut self.base);
    }

    /// Makes the frame's key say what the pipeline sees, before somebody reads it.
    pub(super) fn commit_untracked(&mut self) {
        if std::mem::take(&mut self.untracked) {
            self.room.out.push(DpAction::CtClear);
            self.spoiled = true;
        }
    }

    fn fork(&mut self, table: TableId) -> datapath::RecircId {
        let revision = self.fwd.revision_of(RECIRC_DOMAIN);
        let id = self.fwd.shared().recirc.intern(Frozen {
            bridge: self.bridge.id(),
            in_port: self.in_port(),
            pipeline: self.flow.pipeline,
            levels: Vec::new(),
            action_set: self.action_set.clone(),
            table: Some(table),
        });
        self.depend(RECIRC_DOMAIN, revision);
        id
    }

    fn ct_spec(&mut self, ct: &CtAction) -> CtSpec {
        let zone = match ct.zone {
            ZoneSource::Value(zone) => zone,
            ZoneSource::Field(src) => self.read(src) as u16,
        };
        let (mut mark, mut label) = ((0, 0), (0, 0));
        for action in &ct.exec {
            self.note(Note::Detail, || crate::trace::action_text(action));
            self.write_connection(action, &mut mark, &mut label);
        }
        CtSpec {
            zone: Zone(zone),
            commit: ct.commit,
            force: ct.force,
            nat: ct.nat.as_ref().map(nat_spec),
            mark: (ct.commit && mark.1 != 0).then_some((mark.0 as u32, mark.1 as u32)),
            label: (ct.commit && label.1 != 0).then_some(label),
            alg: ct.alg.map(|alg| match alg {
                CtAlg::Ftp => conntrack::Alg::Ftp,
                CtAlg::Tftp => conntrack::Alg::Tftp,
            }),
            timeout: None,
        }
    }

    /// One of the actions of `exec(…)`.
    fn write_connection(&mut self, action: &OfAction, mark: &mut Written, label: &mut Written) {
        let (field, value, mask) = match action {
            OfAction::SetField { field, value, mask } => (*field, *value, *mask),
            OfAction::Load { value, dst } => {
                let shift = u32::from(dst.start);
                (dst.field, value.checked_shl(shift).unwrap_or(0), crate::profile::sub_ones(*dst))
            }
            OfAction::Move { src, dst } if self.has(src.field) => {
                let value = self.read(*src).checked_shl(dst.start.into()).unwrap_or(0);
                (dst.field, value, crate::profile::sub_ones(*dst))
            }
            _ => return,
        };
        let written = match field {
            FieldId::CtMark => mark,
            FieldId::CtLabel => label,
            _ => return,
        };
        let mask = mask & field.slot().ones();
        *written = (written.0 & !mask | value & mask, written.1 | mask);
    }

    /// `clone(…)`.
    pub(super) fn clone_of(&mut self, actions: &[OfAction]) -> Step {
        let (table, cookie, depth) = (self.table(), self.cookie(), self.depth());
        let level = Level {
            actions: Actions::Own(actions.into()),
            next: 0,
            table,
            cookie,
            depth: depth + 1,
            source: Source::Actions,
        };
        if depth + 1 > super::DEPTH_MAX {
            self.fail("over max translation depth 64");
            return Step::Leave;
        }
        self.isolated(vec![level])
    }

    /// Carries out lists of actions on a copy of the frame and its pipeline's state.
    pub(super) fn isolated(&mut self, levels: Vec<Level<'a>>) -> Step {
        let before = self.mark();
        let waiting = self.outer.len();
        let outer_levels = std::mem::replace(&mut self.levels, levels);
        let action_set = std::mem::take(&mut self.action_set);
        let bridge = self.bridge;
        self.walk_bridge();
        self.visit(waiting);
        if self.failed {
            return Step::Leave;
        }
        self.bridge = bridge;
        self.levels = outer_levels;
        self.action_set = action_set;
        self.restore(before);
        Step::Next
    }
}

fn nat_spec(nat: &NatAction) -> NatSpec {
    let (min_ip, max_ip) =
        nat.addresses.map_or((None, None), |(first, last)| (Some(first), last.or(Some(first))));
    let (min_port, max_port) =
        nat.ports.map_or((None, None), |(first, last)| (Some(first), last.or(Some(first))));
    NatSpec {
        kind: nat.kind.map(|kind| match kind {
            NatKind::Src => conntrack::NatKind::Src,
            NatKind::Dst => conntrack::NatKind::Dst,
        }),
        min_ip,
        max_ip,
        min_port,
        max_port,
        selection: match (nat.hash, nat.random) {
            (true, _) => PortSelection::Hash,
            (_, true) => PortSelection::Random,
            _ => PortSelection::Default,
        },
        persistent: nat.persistent,
    }
}
