//! VLAN tags and MPLS labels: the changes that make a frame longer or shorter.
//!
//! Layer offsets and a partial checksum afterwards are those that extraction would find.

use crate::frame::{Frame, Layers, NO_LAYER};
use crate::key::{PacketKey, VLAN_PRESENT};
use crate::wire::*;

/// Puts a VLAN tag in front of those there are. Of `tci`, bit 12 is not written (in a key it says that there is a tag).
/// Returns false, and changes nothing, if the frame is too short to have an Ethernet header, too long to get a tag, or if
/// `tpid` is not that of a tag.
pub fn push_vlan(frame: &mut Frame, tpid: u16, tci: u16) -> bool {
    if !is_vlan(tpid) || !insert(frame, 12, VLAN_LEN) {
        return false;
    }
    let bytes = frame.bytes_mut();
    put_at(bytes, 12, tpid.to_be_bytes());
    put_at(bytes, 14, (tci & !VLAN_PRESENT).to_be_bytes());
    // Two tags are looked through, a third hides what is behind it.
    if tags(frame.bytes()) > 2 {
        find_layers(frame);
    }
    true
}

/// Removes the outer VLAN tag. Returns false, and changes nothing, if there is none.
pub fn pop_vlan(frame: &mut Frame) -> bool {
    let count = tags(frame.bytes());
    if count == 0 || !remove(frame, 12, VLAN_LEN) {
        return false;
    }
    if count > 2 {
        find_layers(frame);
    }
    true
}

/// Puts a label stack entry behind the VLAN tags and in front of the labels there are; `ethertype` (0x8847 or 0x8848)
/// becomes that of the frame. Returns false, and changes nothing, for another `ethertype`, for an IEEE 802.3 frame,
/// and for a frame too long.
pub fn push_mpls(frame: &mut Frame, ethertype: u16, lse: u32) -> bool {
    let Some((at, old)) = payload(frame.bytes()) else { return false };
    if !self::is_mpls(ethertype) || old < ETHERTYPE_MIN || !insert(frame, at, MPLS_LEN) {
        return false;
    }
    let bytes = frame.bytes_mut();
    put_at(bytes, at - 2, ethertype.to_be_bytes());
    put_at(bytes, at, lse.to_be_bytes());
    find_layers(frame);
    true
}

/// Removes the outermost label stack entry; what remains is said to be `ethertype`. Returns false, and changes nothing, if
/// the frame has no label, or if `ethertype` is an IEEE 802.3 length.
pub fn pop_mpls(frame: &mut Frame, ethertype: u16) -> bool {
    let Some((at, old)) = payload(frame.bytes()) else { return false };
    if !is_mpls(old) || ethertype < ETHERTYPE_MIN || !remove(frame, at, MPLS_LEN) {
        return false;
    }
    put_at(frame.bytes_mut(), at - 2, ethertype.to_be_bytes());
    find_layers(frame);
    true
}

/// Number of whole VLAN tags in a row, as far as it matters: at most 3.
fn tags(bytes: &[u8]) -> usize {
    let is_tag = |index: &usize| {
        let at = 12 + index * VLAN_LEN;
        be16_at(bytes, at).is_some_and(is_vlan) && be16_at(bytes, at + VLAN_LEN).is_some()
    };
    (0..3).take_while(is_tag).count()
}

/// Where what is behind at most two VLAN tags begins, and its EtherType.
fn payload(bytes: &[u8]) -> Option<(usize, u16)> {
    let at = ETHERNET_LEN + tags(bytes).min(2) * VLAN_LEN;
    Some((at, be16_at(bytes, at - 2)?))
}

/// Makes room for `count` bytes at `at`.
fn insert(frame: &mut Frame, at: usize, count: usize) -> bool {
    if frame.len() < at.max(ETHERNET_LEN) || frame.push_front(count).is_err() {
        return false;
    }
    frame.bytes_mut().copy_within(count..count + at, 0);
    true
}

/// Removes `count` bytes at `at`.
fn remove(frame: &mut Frame, at: usize, count: usize) -> bool {
    if frame.len() < at + count {
        return false;
    }
    frame.bytes_mut().copy_within(..at, count);
    frame.pull_front(count).is_ok()
}

fn find_layers(frame: &mut Frame) {
    if PacketKey::extract(frame).is_err() {
        frame.layers = Layers { l2_5: NO_LAYER, l3: NO_LAYER, l4: NO_LAYER, padding: 0 };
    }
}
