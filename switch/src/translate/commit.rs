//! From what actions wanted to steps of the program: the difference between two views of the frame.

use super::Walk;
use datapath::DpAction;
use flowtable::Words;
use packet::key::{Slot, slot};

/// What steps can write, in the order in which they do: outer headers first. What a tunnel is to do is not among it: it
/// concerns outputs to tunnel ports alone.
const WRITABLE: &[Slot] = &[
    slot::DL_SRC,
    slot::DL_DST,
    slot::NW_SRC,
    slot::NW_DST,
    slot::IPV6_SRC,
    slot::IPV6_DST,
    slot::IPV6_LABEL,
    slot::NW_PROTO,
    slot::NW_TOS,
    slot::NW_TTL,
    slot::ARP_SHA,
    slot::ARP_THA,
    slot::ND_TARGET,
    slot::ND_RESERVED,
    slot::ND_OPTIONS_TYPE,
    slot::TP_SRC,
    slot::TP_DST,
    slot::MPLS_LSE0,
    slot::PKT_MARK,
];

impl Walk<'_> {
    /// Appends the steps that make of the frame what the pipeline sees.
    pub(super) fn commit(&mut self) {
        if !self.has_written {
            return self.commit_tags();
        }
        for &place in WRITABLE {
            // Bits that no action wrote are equal, whatever they are; comparing them would make the program depend on
            // them.
            let bits = self.touched.slot(place);
            if bits == 0 {
                continue;
            }
            let (wanted, now) = (self.flow.slot(place) & bits, self.base.slot(place) & bits);
            if wanted == now {
                continue;
            }
            let rest = self.base.slot(place) & !bits;
            self.base.set_slot(place, rest | wanted);
            match self.room.out.last_mut() {
                // An entry that was just pushed is pushed right in the first place.
                Some(DpAction::PushMpls { lse, .. }) if place == slot::MPLS_LSE0 => {
                    *lse = self.base.slot(place) as u32;
                }
                _ => self.room.out.push(DpAction::SetField { slot: place, value: wanted, mask: bits }),
            }
        }
        self.commit_tags();
    }

    fn commit_tags(&mut self) {
        if self.base_tags == self.tags {
            return;
        }
        let (pops, pushes) = self.base_tags.steps_to(&self.tags);
        self.room.out.extend(std::iter::repeat_n(DpAction::PopVlan, pops));
        self.room.out.extend(pushes.map(|t| DpAction::PushVlan { tpid: t.tpid, tci: t.tci }));
        self.base_tags = self.tags;
    }
}
