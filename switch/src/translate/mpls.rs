//! MPLS label stack entries, and going on behind them.

use super::{Level, Step, Walk};
use crate::forwarding::RECIRC_DOMAIN;
use crate::recirc::Frozen;
use crate::trace::Note;
use datapath::DpAction;
use flowtable::field::Prereq;
use flowtable::{FieldId, Words};
use packet::key::{Slot, VLAN_PRESENT, slot};
use packet::wire::{ETHERTYPE_IPV6, ETHERTYPE_MPLS, ETHERTYPE_MPLS_UPSTREAM};

/// Bottom-of-stack bit of an entry.
const BOTTOM: u128 = 0x100;
/// TTL of an entry in front of something without one.
const TTL_DEFAULT: u128 = 64;

/// Slots of what stands behind the EtherType: unknown once the EtherType changes.
const INNER: &[Slot] = &[
    slot::NW_SRC,
    slot::NW_DST,
    slot::NW_PROTO,
    slot::NW_TOS,
    slot::NW_TTL,
    slot::NW_FRAG,
    slot::TP_SRC,
    slot::TP_DST,
    slot::TCP_FLAGS,
    slot::IPV6_SRC,
    slot::IPV6_DST,
    slot::IPV6_LABEL,
    slot::ND_TARGET,
    slot::ND_OPTIONS_TYPE,
    slot::ND_RESERVED,
    slot::ARP_SHA,
    slot::ARP_THA,
];

const fn is_mpls(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM)
}

impl Walk<'_> {
    pub(super) fn push_mpls(&mut self, ethertype: u16) {
        self.see(slot::DL_TYPE, slot::DL_TYPE.ones());
        self.commit();
        let dl_type = self.flow.packet.dl_type();
        let lse = if is_mpls(dl_type) {
            self.see(slot::MPLS_LSE0, slot::MPLS_LSE0.ones());
            self.flow.slot(slot::MPLS_LSE0) & !BOTTOM
        } else {
            self.first_entry(dl_type)
        };
        self.flow.set_slot(slot::MPLS_LSE2, self.flow.slot(slot::MPLS_LSE1));
        self.flow.set_slot(slot::MPLS_LSE1, self.flow.slot(slot::MPLS_LSE0));
        self.flow.set_slot(slot::MPLS_LSE0, lse);
        self.change_ethertype(ethertype);
        self.inner_unknown = false;
        self.room.out.push(DpAction::PushMpls { lse: lse as u32, ethertype });
    }

    /// The entry in front of a packet without one: explicit null, TTL and traffic class of the packet.
    fn first_entry(&mut self, dl_type: u16) -> u128 {
        let label: u128 = if dl_type == ETHERTYPE_IPV6 { 2 } else { 0 };
        let (mut tc, mut ttl) = (0, TTL_DEFAULT);
        if Prereq::Ip.holds(&self.flow) {
            self.see(slot::NW_TTL, slot::NW_TTL.ones());
            self.see(slot::NW_TOS, 0xfc);
            // The low three bits of the DSCP, as in OVS.
            tc = self.flow.slot(slot::NW_TOS) >> 2 & 7;
            ttl = match self.flow.slot(slot::NW_TTL) {
                0 => TTL_DEFAULT,
                ttl => ttl,
            };
        }
        label << 12 | tc << 9 | BOTTOM | ttl
    }

    pub(super) fn pop_mpls(&mut self, ethertype: u16) {
        self.see(slot::DL_TYPE, slot::DL_TYPE.ones());
        if !is_mpls(self.flow.packet.dl_type()) {
            return;
        }
        self.see(slot::MPLS_LSE0, BOTTOM);
        self.see(slot::VLAN_TCI, VLAN_PRESENT.into());
        self.commit();
        self.flow.set_slot(slot::MPLS_LSE0, self.flow.slot(slot::MPLS_LSE1));
        self.flow.set_slot(slot::MPLS_LSE1, self.flow.slot(slot::MPLS_LSE2));
        self.flow.set_slot(slot::MPLS_LSE2, 0);
        if !is_mpls(ethertype) {
            self.flow.set_slot(slot::MPLS_LSE0, 0);
            self.flow.set_slot(slot::MPLS_LSE1, 0);
        }
        self.change_ethertype(ethertype);
        // Behind the third entry, or behind the last, stands what nobody has looked at.
        self.inner_unknown = self.flow.slot(slot::MPLS_LSE0) == 0;
        self.room.out.push(DpAction::PopMpls { ethertype });
    }

    fn change_ethertype(&mut self, ethertype: u16) {
        self.flow.set_slot(slot::DL_TYPE, ethertype.into());
        INNER.iter().for_each(|s| self.flow.set_slot(*s, 0));
        self.base = self.flow.packet;
    }

    pub(super) fn dec_mpls_ttl(&mut self) -> Step {
        if !Prereq::Mpls.holds(&self.flow) {
            return Step::Next;
        }
        let place = FieldId::MplsTtl.slot();
        self.see(place, place.ones());
        let ttl = self.flow.slot(place);
        if ttl > 1 {
            self.write(FieldId::MplsTtl, ttl - 1, 0xff);
            return Step::Next;
        }
        self.note(Note::Warn, || "MPLS decrement TTL exception".to_owned());
        self.expired(0);
        Step::Leave
    }

    /// Stops before the action at hand, to go on with it when the frame has been parsed anew.
    pub(super) fn freeze(&mut self) -> Step {
        if let Some(level) = self.levels.last_mut() {
            level.next = level.next.saturating_sub(1);
        }
        self.commit();
        self.commit_untracked();
        self.commit_tunnel();
        let revision = self.fwd.revision_of(RECIRC_DOMAIN);
        let id = self.fwd.shared().recirc.intern(Frozen {
            bridge: self.bridge.id(),
            in_port: self.in_port(),
            pipeline: self.flow.pipeline,
            levels: self.levels.iter().map(Level::keep).collect(),
            action_set: std::mem::take(&mut self.action_set),
            table: None,
        });
        self.depend(RECIRC_DOMAIN, revision);
        self.room.out.push(DpAction::Recirculate(id));
        self.spoiled = true;
        Step::Exit
    }

    /// Whether rewrites can bring the frame back to what it was where it had this EtherType.
    pub(super) fn can_return_to(&self, dl_type: u16) -> bool {
        self.base.dl_type() == dl_type && !self.inner_unknown && !self.spoiled
    }
}
