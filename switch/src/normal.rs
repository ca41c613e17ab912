//! NORMAL: a learning switch with VLANs, as ovs-vswitchd.conf.db(5) describes it.

use crate::bridge::{Bundle, PortConfig};
use crate::forwarding::Effect;
use crate::mac::{MacAddr, MacKey};
use crate::trace::Note;
use crate::translate::{Cut, Walk};
use crate::vlan::{Refusal, TagStack};
use datapath::Drop;
use flowtable::{OfPort, Words};
use packet::key::slot;

/// Whether an address belongs to link-local control protocols, which a switch does not forward (`forward-bpdu` in
/// ovs-vswitchd.conf.db(5) has the list).
pub fn is_reserved(mac: MacAddr) -> bool {
    matches!(
        mac.0,
        0x0180_c200_0000..=0x0180_c200_000f
            | 0x00e0_2b00_0000
            | 0x00e0_2b00_0004
            | 0x00e0_2b00_0006
            | 0x0100_0c00_0000
            | 0x0100_0ccc_ccc0..=0x0100_0ccc_cccf
            | 0x0100_0ccd_cdcd
    )
}

impl Walk<'_> {
    /// The NORMAL action.
    pub(crate) fn normal(&mut self) {
        for s in [slot::DL_SRC, slot::DL_DST] {
            self.see(s, s.ones());
        }
        self.see(slot::VLAN_TCI, 0x1fff);
        let in_port = self.in_port();
        let bridge = self.bridge;
        let ingress = bridge.bundle_of(in_port);
        // A packet-out may come from nowhere; such a frame is of the VLAN that it says.
        if ingress.is_none() && !matches!(in_port, OfPort::ANY | OfPort::CONTROLLER) {
            self.note(Note::Error, || format!("received packet on unknown port {in_port}"));
            self.note(Note::Warn, || "no input bundle, dropping".to_owned());
            return self.why(Drop::NoEgress);
        }
        let tags = match ingress.map_or(Ok(self.tags), |b| b.vlan.admit(&self.tags)) {
            Ok(tags) => tags,
            Err(refusal) => return self.refuse(ingress, refusal),
        };
        let destination = MacAddr(self.flow.slot(slot::DL_DST) as u64);
        // What a controller sends from nowhere was received by nobody, and may be such a protocol's own.
        if ingress.is_some() && is_reserved(destination) && !bridge.settings().forward_bpdu {
            self.note(Note::Detail, || "packet has reserved destination MAC, dropping".to_owned());
            return self.why(Drop::ReservedMulticast);
        }
        // The switch at the other end knows of no bond and floods to all members, also what came from here.
        if ingress.is_some_and(|b| bridge.egress_of(b).is_some_and(|p| p.of_port != in_port)) {
            self.note(Note::Detail, || "bonding refused admissibility, dropping".to_owned());
            return self.why(Drop::BackupMember);
        }
        let vlan = tags.vid();
        if let Some(bundle) = ingress {
            self.learn_source(bundle, vlan);
        }
        self.forward(ingress, destination, &tags);
    }

    fn refuse(&mut self, ingress: Option<&Bundle>, refusal: Refusal) {
        let (name, tag) = ingress.map_or(("", 0), |b| (&*b.name, b.vlan.tag));
        self.note(Note::Error, || match refusal {
            Refusal::TaggedOnAccess { vid } => format!(
                "dropping VLAN {vid} tagged packet received on port {name} configured as VLAN {tag} access port"
            ),
            Refusal::NotTrunked { vid } => format!(
                "dropping VLAN {vid} packet received on port {name} not configured for trunking VLAN {vid}"
            ),
            Refusal::CustomerVlan { vid } => format!(
                "dropping VLAN {vid} packet received on dot1q-tunnel port {name} that excludes this VLAN"
            ),
        });
        self.note(Note::Warn, || "disallowed VLAN VID for this input port, dropping".to_owned());
        self.why(Drop::BadVlan);
    }

    fn learn_source(&mut self, bundle: &Bundle, vlan: u16) {
        let source = MacAddr(self.flow.slot(slot::DL_SRC) as u64);
        if source.is_multicast() || self.bridge.settings().flood_vlans.contains(vlan) {
            return;
        }
        let key = MacKey { vlan, mac: source };
        let found = self.bridge.mac().lookup(key);
        self.depend(found.domain, found.revision);
        match found.entry {
            // A frame that a rule sends back comes by twice, and where it came last counts.
            Some(entry)
                if entry.bundle == bundle.id && !self.learns_elsewhere(self.bridge.id(), key, bundle.id) =>
            {
                self.credit_station(entry);
            }
            Some(entry) if entry.is_static => {}
            _ => {
                self.learn(Effect::Learn { bridge: self.bridge.id(), key, bundle: bundle.id });
                if self.generates() {
                    let name = &bundle.name;
                    self.note(Note::Detail, || {
                        format!("learned that {source} is on port {name} in VLAN {vlan}")
                    });
                }
            }
        }
    }

    fn forward(&mut self, ingress: Option<&Bundle>, destination: MacAddr, tags: &TagStack) {
        let bridge = self.bridge;
        let learns = !bridge.settings().flood_vlans.contains(tags.vid());
        let mut egress = None;
        if !destination.is_multicast() && learns {
            let key = MacKey { vlan: tags.vid(), mac: destination };
            let found = bridge.mac().lookup(key);
            self.depend(found.domain, found.revision);
            // A frame to its own sender: the sender is where it has just been seen. A trace that only asks has seen nobody,
            // and is often given no addresses at all.
            let asks = self.only_asks();
            let to_itself = ingress.filter(|i| !asks && self.learns(bridge.id(), key, i.id));
            egress = to_itself.or_else(|| found.entry.and_then(|e| bridge.bundle(e.bundle)));
        }
        let Some(egress) = egress else {
            self.note(Note::Detail, || "no learned MAC for destination, flooding".to_owned());
            return self.flood(ingress, tags);
        };
        if ingress.is_some_and(|i| i.id == egress.id) {
            self.note(Note::Detail, || "learned port is input port, dropping".to_owned());
            return self.why(Drop::NoAction);
        }
        self.note(Note::Detail, || "forwarding to learned port".to_owned());
        self.send_to_bundle(ingress, egress, tags);
    }

    fn flood(&mut self, ingress: Option<&Bundle>, tags: &TagStack) {
        let bridge = self.bridge;
        let vid = tags.vid();
        self.why(Drop::NoAction);
        for bundle in bridge.bundles() {
            let back = ingress.is_some_and(|i| i.id == bundle.id);
            if back || !bundle.vlan.carries(vid) {
                continue;
            }
            let quiet = |p: &OfPort| bridge.port(*p).is_some_and(|p| p.config.has(PortConfig::NO_FLOOD));
            if !bundle.members.iter().any(quiet) {
                self.send_to_bundle(ingress, bundle, tags);
            }
            if self.is_over() {
                return;
            }
        }
    }

    /// Sends on a logical port, dressed as its VLAN configuration says.
    fn send_to_bundle(&mut self, ingress: Option<&Bundle>, bundle: &Bundle, tags: &TagStack) {
        if ingress.is_some_and(|i| i.protected && bundle.protected) {
            self.note(Note::Warn, || "Flow is between protected ports, skipping output.".to_owned());
            return self.why(Drop::NoAction);
        }
        if !bundle.vlan.carries(tags.vid()) {
            return self.why(Drop::NoAction);
        }
        let Some(port) = self.bridge.egress_of(bundle).map(|p| p.of_port) else {
            return self.why(Drop::NoEgress);
        };
        let before = self.tags;
        self.set_tags(bundle.vlan.dress(tags));
        self.send_to_ports(&[port], Cut::None);
        if !self.is_over() {
            self.set_tags(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_addresses_are_those_documented() {
        let reserved = [
            0x0180_c200_0000,
            0x0180_c200_0001,
            0x0180_c200_000e,
            0x00e0_2b00_0000,
            0x00e0_2b00_0004,
            0x00e0_2b00_0006,
            0x0100_0ccc_cccc,
            0x0100_0ccc_cccd,
            0x0100_0ccd_cdcd,
            0x0100_0c00_0000,
        ];
        assert!(reserved.into_iter().all(|m| is_reserved(MacAddr(m))));
        let open = [0x0180_c200_0010, 0x00e0_2b00_0005, 0xffff_ffff_ffff, 0, 0x0100_5e00_0001];
        assert!(!open.into_iter().any(|m| is_reserved(MacAddr(m))));
    }
}
