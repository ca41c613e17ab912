//! The fields one by one: where each stands, and what covers it. Each function gives `None` if the frame has no such field.

use super::{Cover, Network, adapt_transport, change_sctp, is_routed, network, transport};
use crate::checksum::Delta;
use crate::extract::NdAddresses;
use crate::frame::{Frame, NO_LAYER};
use crate::key::{Slot, VLAN_PRESENT, slot};
use crate::wire::*;

/// Which of a pair of fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// Bits to be written, right-aligned.
#[derive(Clone, Copy)]
pub(super) struct Write {
    pub value: u128,
    pub mask: u128,
}

impl Write {
    /// Moved to a place in a larger unit.
    fn shifted(self, shift: u32) -> Write {
        Write { value: self.value << shift, mask: self.mask << shift }
    }

    /// Writes into the `N` bytes at `at`; how the sum of their words changes.
    #[inline(always)]
    fn replace<const N: usize>(self, bytes: &mut [u8], at: usize) -> Option<Delta> {
        let place = bytes.get_mut(at..)?.first_chunk_mut::<N>()?;
        let old = number(place);
        let new = old & !self.mask | self.value & self.mask;
        *place = *new.to_be_bytes().last_chunk::<N>()?;
        // Words that do not change add nothing to a delta.
        Some(if N <= 4 { Delta::of_u32(old as u32, new as u32) } else { Delta::of_u128(old, new) })
    }

    fn covered<const N: usize>(self, frame: &mut Frame, at: usize, cover: Cover) -> Option<()> {
        let delta = self.replace::<N>(frame.bytes_mut(), at)?;
        adapt_transport(frame, delta, cover);
        Some(())
    }

    pub(super) fn mac(self, frame: &mut Frame, at: usize, cover: Cover) -> Option<()> {
        self.covered::<6>(frame, at, cover)
    }

    pub(super) fn tag(self, frame: &mut Frame, slot: Slot) -> Option<()> {
        let bytes = frame.bytes_mut();
        let at = match slot {
            slot::VLAN_TPID | slot::VLAN_TCI => 12,
            _ => 16,
        };
        // Every tag up to this one must be one, and whole.
        for place in (12..=at).step_by(VLAN_LEN) {
            be16_at(bytes, place).filter(|tpid| is_vlan(*tpid))?;
            be16_at(bytes, place + VLAN_LEN)?;
        }
        match slot {
            slot::VLAN_TPID | slot::VLAN_TPID_INNER => {
                let old = be16_at(bytes, at)?;
                let new = old & !(self.mask as u16) | (self.value & self.mask) as u16;
                if !is_vlan(new) {
                    return None;
                }
                put_at(bytes, at, new.to_be_bytes());
            }
            _ => {
                let mask = self.mask & !(VLAN_PRESENT as u128);
                Write { mask, ..self }.replace::<2>(bytes, at + 2)?;
            }
        }
        Some(())
    }

    pub(super) fn label(self, frame: &mut Frame, index: usize) -> Option<()> {
        if frame.layers.l2_5 == NO_LAYER {
            return None;
        }
        let first = frame.layers.l2_5 as usize;
        let at = first + index * MPLS_LEN;
        let bytes = frame.bytes_mut();
        for outer in (first..at).step_by(MPLS_LEN) {
            be32_at(bytes, outer).filter(|lse| lse & MPLS_BOS == 0)?;
        }
        self.replace::<4>(bytes, at).map(|_| ())
    }

    pub(super) fn ipv4_address(self, frame: &mut Frame, end: End) -> Option<()> {
        match (network(frame)?, end) {
            ((Network::Arp, l3), End::Source) => self.covered::<4>(frame, l3 + 14, Cover::Nothing),
            ((Network::Arp, l3), End::Destination) => self.covered::<4>(frame, l3 + 24, Cover::Nothing),
            ((Network::Ipv4, l3), End::Source) => self.in_ipv4::<4>(frame, l3, 12, Cover::PseudoHeader),
            ((Network::Ipv4, l3), End::Destination) => self.in_ipv4::<4>(frame, l3, 16, Cover::PseudoHeader),
            ((Network::Ipv6, _), _) => None,
        }
    }

    /// Writes into an IPv4 header and its checksum.
    fn in_ipv4<const N: usize>(self, frame: &mut Frame, l3: usize, at: usize, cover: Cover) -> Option<()> {
        let bytes = frame.bytes_mut();
        let delta = self.replace::<N>(bytes, l3 + at)?;
        let checksum = be16_at(bytes, l3 + 10)?;
        put_at(bytes, l3 + 10, delta.applied(checksum).to_be_bytes());
        adapt_transport(frame, delta, cover);
        Some(())
    }

    pub(super) fn ipv6_address(self, frame: &mut Frame, end: End) -> Option<()> {
        let (Network::Ipv6, l3) = network(frame)? else { return None };
        match end {
            End::Source => self.covered::<16>(frame, l3 + 8, Cover::PseudoHeader),
            End::Destination => {
                let cover = if is_routed(frame) { Cover::Nothing } else { Cover::PseudoHeader };
                self.covered::<16>(frame, l3 + 24, cover)
            }
        }
    }

    pub(super) fn tos(self, frame: &mut Frame) -> Option<()> {
        match network(frame)? {
            (Network::Ipv4, l3) => self.in_ipv4::<2>(frame, l3, 0, Cover::Nothing),
            (Network::Ipv6, l3) => self.shifted(20).covered::<4>(frame, l3, Cover::Nothing),
            (Network::Arp, _) => None,
        }
    }

    pub(super) fn ttl(self, frame: &mut Frame) -> Option<()> {
        match network(frame)? {
            (Network::Ipv4, l3) => self.shifted(8).in_ipv4::<2>(frame, l3, 8, Cover::Nothing),
            (Network::Ipv6, l3) => self.covered::<2>(frame, l3 + 6, Cover::Nothing),
            (Network::Arp, _) => None,
        }
    }

    pub(super) fn flow_label(self, frame: &mut Frame) -> Option<()> {
        let (Network::Ipv6, l3) = network(frame)? else { return None };
        Write { mask: self.mask & 0xf_ffff, ..self }.covered::<4>(frame, l3, Cover::Nothing)
    }

    /// The whole operation if the mask is whole: an operation over 255 reads as 0, and its high byte must not stay.
    pub(super) fn arp_operation(self, frame: &mut Frame) -> Option<()> {
        let (Network::Arp, l3) = network(frame)? else { return None };
        let mask = if self.mask == 0xff { 0xffff } else { self.mask };
        Write { value: self.value & 0xff, mask }.covered::<2>(frame, l3 + 6, Cover::Nothing)
    }

    /// ARP's hardware addresses, or the link-layer address options of neighbour discovery.
    pub(super) fn hardware_address(self, frame: &mut Frame, end: End) -> Option<()> {
        if let (Network::Arp, l3) = network(frame)? {
            let at = if end == End::Source { 8 } else { 18 };
            return self.mac(frame, l3 + at, Cover::Nothing);
        }
        let (options_at, addresses) = nd_addresses(frame)?;
        let option = if end == End::Source { addresses.source } else { addresses.target };
        self.mac(frame, options_at + option?.at + 2, Cover::Transport)
    }

    pub(super) fn port(self, frame: &mut Frame, end: End) -> Option<()> {
        let (protocol, l4) = transport(frame)?;
        let at = l4 + if end == End::Source { 0 } else { 2 };
        match protocol {
            PROTO_TCP | PROTO_UDP => self.covered::<2>(frame, at, Cover::Transport),
            PROTO_SCTP => change_sctp(frame, l4, |frame| self.covered::<2>(frame, at, Cover::Nothing)),
            // Type and code are one byte each, of one word.
            PROTO_ICMP | PROTO_ICMPV6 => {
                let byte = Write { mask: self.mask & 0xff, ..self };
                let word = if end == End::Source { byte.shifted(8) } else { byte };
                word.covered::<2>(frame, l4, Cover::Transport)
            }
            _ => None,
        }
    }

    pub(super) fn nd_target(self, frame: &mut Frame) -> Option<()> {
        let (options_at, _) = nd_addresses(frame)?;
        self.covered::<16>(frame, options_at - 16, Cover::Transport)
    }

    pub(super) fn nd_reserved(self, frame: &mut Frame) -> Option<()> {
        let l4 = nd_message(frame)?;
        self.covered::<4>(frame, l4 + 4, Cover::Transport)
    }

    /// The type of the first link-layer address option; nothing if there is no such option.
    pub(super) fn nd_options_type(self, frame: &mut Frame) -> Option<()> {
        let (options_at, addresses) = nd_addresses(frame)?;
        let first = match addresses.first_kind {
            ND_OPTION_SOURCE => addresses.source?,
            ND_OPTION_TARGET => addresses.target?,
            _ => return None,
        };
        self.shifted(8).covered::<2>(frame, options_at + first.at, Cover::Transport)
    }
}

#[inline(always)]
fn number<const N: usize>(bytes: &[u8; N]) -> u128 {
    const { assert!(N <= 16 && N.is_multiple_of(2)) };
    let mut wide = [0; 16];
    if let Some(low) = wide.last_chunk_mut::<N>() {
        *low = *bytes;
    }
    u128::from_be_bytes(wide)
}

/// Where a neighbour solicitation or advertisement begins.
fn nd_message(frame: &Frame) -> Option<usize> {
    let (PROTO_ICMPV6, l4) = transport(frame)? else { return None };
    matches!(frame.bytes().get(l4..)?, [ND_SOLICIT | ND_ADVERT, 0, ..]).then_some(l4)
}

/// Where the options of a neighbour solicitation or advertisement begin, behind a whole target, and what is in them.
fn nd_addresses(frame: &Frame) -> Option<(usize, NdAddresses)> {
    let at = nd_message(frame)? + 24;
    Some((at, NdAddresses::read(frame.bytes().get(at..frame.packet_end())?)?))
}
