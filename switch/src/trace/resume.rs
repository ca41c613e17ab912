//! How a trace goes on behind the connection tracker: nobody asks the tracker, the user says what it would answer.

use datapath::{DpAction, Program, RecircId};
use packet::PacketKey;
use packet::key::{VLAN_PRESENT, slot};

/// `ct_state` bits that a user may name, as ovs-appctl(8) spells them; `trk` is always set.
const STATES: &[(&str, u128)] = &[
    ("new", 0x01),
    ("est", 0x02),
    ("rel", 0x04),
    ("rpl", 0x08),
    ("inv", 0x10),
    ("trk", TRACKED),
    ("snat", 0x40),
    ("dnat", 0x80),
];
const TRACKED: u128 = 0x20;
/// What the tracker answers unless the user says otherwise: tracked, new.
const DEFAULT: u128 = TRACKED | 0x01;

/// Resumptions that one trace follows.
pub const TRACE_RESUMPTIONS_MAX: usize = 64;

/// What the tracker is taken to answer, pass after pass (`--ct-next`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CtNext(Vec<u128>);

impl CtNext {
    /// Adds an answer: states joined by `|` or `,`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut state = 0;
        for word in text.split(['|', ',']).map(str::trim).filter(|w| !w.is_empty()) {
            let known = STATES.iter().find(|(name, _)| *name == word);
            state |= known.ok_or_else(|| format!("{word}: unknown ct_state flag(s)"))?.1;
        }
        if state & !TRACKED == 0 {
            return Err("missing ct_state flags".to_owned());
        }
        if state & 0x01 != 0 && state & 0x02 != 0 {
            return Err("invalid connection state: \"new\" and \"est\" are mutually exclusive".to_owned());
        }
        self.0.push(state | TRACKED);
        Ok(())
    }

    /// The answer to pass `n`, and whether the user gave it.
    pub(super) fn of(&self, n: usize) -> (u128, bool) {
        self.0.get(n).map_or((DEFAULT, false), |state| (*state, true))
    }
}

/// A state's names, joined by `|`, in the order of the bits.
pub(super) fn state_text(state: u128) -> String {
    let set = STATES.iter().filter(|(_, bit)| state & bit != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join("|")
}

/// A point where a program hands a frame back after a pass through the tracker.
pub(super) struct Resumption {
    pub id: RecircId,
    pub key: PacketKey,
}

/// Where a program hands frames with this key back, with the keys they have then but for the tracker's answer.
pub(super) fn resumptions(program: &Program, key: &PacketKey) -> Vec<Resumption> {
    let mut found = Vec::new();
    follow(&program.actions, *key, &mut found);
    found
}

fn follow(steps: &[DpAction], mut key: PacketKey, found: &mut Vec<Resumption>) {
    let mut zone = None;
    for step in steps {
        match step {
            DpAction::SetField { slot, value, mask } => {
                let rest = key.get(*slot) & !mask;
                key.set(*slot, rest | value);
            }
            DpAction::PushVlan { tpid, tci } => {
                for (outer, inner) in
                    [(slot::VLAN_TPID, slot::VLAN_TPID_INNER), (slot::VLAN_TCI, slot::VLAN_TCI_INNER)]
                {
                    let value = key.get(outer);
                    key.set(inner, value);
                }
                key.set(slot::VLAN_TPID, (*tpid).into());
                key.set(slot::VLAN_TCI, (*tci | VLAN_PRESENT).into());
            }
            DpAction::PopVlan => {
                for (outer, inner) in
                    [(slot::VLAN_TPID, slot::VLAN_TPID_INNER), (slot::VLAN_TCI, slot::VLAN_TCI_INNER)]
                {
                    let value = key.get(inner);
                    key.set(outer, value);
                    key.set(inner, 0);
                }
            }
            DpAction::Ct(spec) => zone = Some(spec.zone.0),
            DpAction::CtClear => zone = None,
            DpAction::Clone(inner) => follow(inner, key, found),
            DpAction::Recirculate(id) => {
                if let Some(zone) = zone {
                    let mut key = key;
                    key.set(slot::CT_ZONE, zone.into());
                    key.set(slot::RECIRC_ID, id.0.into());
                    found.push(Resumption { id: *id, key });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_and_refused() {
        let mut next = CtNext::default();
        next.add("trk,est").unwrap();
        next.add("rpl|est").unwrap();
        assert_eq!(next.of(0), (0x22, true));
        assert_eq!(next.of(1), (0x2a, true));
        assert_eq!(next.of(2), (0x21, false));
        assert!(next.add("trk,foo").unwrap_err().contains("foo"));
        assert!(next.add("new,est").is_err() && next.add("").is_err());
        assert_eq!(state_text(0x2a), "est|rpl|trk");
    }
}
