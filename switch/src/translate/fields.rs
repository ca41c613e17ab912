//! Reading and writing fields of the frame and the pipeline.

use super::Walk;
use crate::profile::sub_ones;
use crate::trace::{Note, sub_field_text};
use crate::vlan::{Tag, TagStack};
use flowtable::field::{Access, Prereq};
use flowtable::{FieldId, OfPort, SubField, Words};
use packet::key::{Slot, VLAN_PRESENT, slot};
use packet::wire::ETHERTYPE_VLAN;

/// First word of a key that does not come from the frame.
const PIPELINE: usize = packet::PacketKey::WORDS;

impl Walk<'_> {
    /// Whether the frame has a field.
    pub(super) fn has(&mut self, id: FieldId) -> bool {
        let prereq = id.row().prereq;
        if let Some(trace) = &mut self.trace {
            prereq.consult(&mut trace.seen);
        }
        prereq.holds(&self.flow)
    }

    /// Value of a sub-field, right-aligned.
    pub(super) fn read(&mut self, sub: SubField) -> u128 {
        let row = sub.field.row();
        let ones = sub_ones(sub) & row.slot.ones();
        self.see(row.slot, ones);
        let value = match sub.field {
            // Sixteen bits wide, as in OpenFlow 1.0.
            FieldId::InPort => u128::from(self.in_port().to_u16().unwrap_or(0xffff)),
            _ => self.flow.slot(row.slot),
        };
        (value & ones) >> sub.start.min(127)
    }

    /// `move`: nothing if the frame does not have the source.
    pub(super) fn copy(&mut self, src: SubField, dst: SubField) {
        if self.has(src.field) {
            let value = self.read(src);
            self.write_sub(dst, value);
            self.note_written(dst);
        }
    }

    /// Tells a trace what a sub-field is now.
    fn note_written(&mut self, sub: SubField) {
        if self.trace.is_some() {
            let value = self.flow.slot(sub.field.slot()) >> sub.start.min(127);
            self.note(Note::Detail, || sub_field_text(sub, value));
        }
    }

    /// Writes a sub-field.
    pub(super) fn write_sub(&mut self, sub: SubField, value: u128) {
        let shifted = value.checked_shl(sub.start.into()).unwrap_or(0);
        self.write(sub.field, shifted, sub_ones(sub));
    }

    /// Writes bits of a field; nothing if the frame does not have it.
    pub(super) fn write(&mut self, id: FieldId, value: u128, mask: u128) {
        let row = id.row();
        if row.access != Access::Writable || !self.has(id) {
            return;
        }
        let mask = mask & if id == FieldId::NwTos { 0xfc } else { row.slot.ones() };
        self.see(row.slot, mask);
        match id {
            FieldId::InPort => {
                let now = u128::from(self.in_port().to_u16().unwrap_or(0xffff));
                let port = OfPort::from_u16((now & !mask | value & mask) as u16);
                return self.flow.set_slot(slot::IN_PORT, port.0.into());
            }
            FieldId::VlanTci | FieldId::DlVlan | FieldId::VlanVid | FieldId::DlVlanPcp | FieldId::VlanPcp => {
                return self.write_tag(id, row.slot, value, mask);
            }
            _ => {}
        }
        if let Some(presence) = row.presence() {
            // A field that is written is there, whatever its value.
            self.see(presence, 1);
            self.flow.set_slot(presence, 1);
            self.touch(presence, presence.ones());
        }
        let now = self.flow.slot(row.slot);
        self.flow.set_slot(row.slot, now & !mask | value & mask);
        if usize::from(row.slot.word) < PIPELINE && row.slot != slot::IN_PORT {
            self.touch(row.slot, mask);
        }
    }

    /// Notes that an action wrote these bits.
    fn touch(&mut self, place: Slot, bits: u128) {
        self.touched.add(place, bits);
        self.has_written = true;
    }

    /// Fields of the outer tag. OpenFlow 1.0's add a tag if there is none; writing the presence bit away removes it.
    fn write_tag(&mut self, id: FieldId, place: Slot, value: u128, mask: u128) {
        self.see(slot::VLAN_TCI, slot::VLAN_TCI.ones());
        let now = self.flow.slot(place);
        self.flow.set_slot(place, now & !mask | value & mask);
        let mut tci = self.flow.slot(slot::VLAN_TCI) as u16;
        if matches!(id, FieldId::DlVlan | FieldId::DlVlanPcp) {
            tci |= VLAN_PRESENT;
        }
        let tpid = self.tags.outer().map_or(ETHERTYPE_VLAN, |t| t.tpid);
        self.tags.pop();
        if let Some(tag) = Tag::from_key(tpid, tci) {
            self.tags.push(tag);
        }
        self.show_tags();
    }

    pub(super) fn push_vlan(&mut self, tpid: u16) {
        self.see(slot::VLAN_TCI, slot::VLAN_TCI.ones());
        // The new tag starts with VID and priority 0, as in OVS.
        if self.tags.push(Tag { tpid, tci: 0 }) {
            self.show_tags();
        }
    }

    pub(super) fn pop_vlan(&mut self) {
        self.see(slot::VLAN_TCI, slot::VLAN_TCI.ones());
        self.tags.pop();
        self.show_tags();
    }

    /// Replaces the tags as NORMAL wants them for one output.
    pub(crate) fn set_tags(&mut self, tags: TagStack) {
        if tags != self.tags {
            self.see(slot::VLAN_TCI, slot::VLAN_TCI.ones());
        }
        self.tags = tags;
        self.show_tags();
    }

    /// `mod_tp_src`, `mod_tp_dst`: whatever transport header there is that has ports.
    pub(super) fn set_transport_port(&mut self, place: Slot, port: u16) {
        if let Some(trace) = &mut self.trace {
            Prereq::Tcp.consult(&mut trace.seen);
            trace.seen.add_all(place);
        }
        if [Prereq::Tcp, Prereq::Udp, Prereq::Sctp].iter().any(|p| p.holds(&self.flow)) {
            self.flow.set_slot(place, port.into());
            self.touch(place, place.ones());
        }
    }
}
