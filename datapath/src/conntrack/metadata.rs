//! The connection fields of a key: written after each pass, read at the next one of the same zone.

use super::connection::Connection;
use super::spec::CtState;
use super::tuple::{Addresses, Tuple, Zone};
use packet::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use packet::{PacketKey, slot};

/// First word of the connection fields, which fill the words up to [`END_WORD`].
const FIRST_WORD: usize = slot::CT_STATE.word as usize;
const END_WORD: usize = slot::CT_IPV6_DST.word as usize + 2;

/// Zeroes all of them.
pub(super) fn clear(key: &mut PacketKey) {
    if let Some(words) = key.words_mut().get_mut(FIRST_WORD..END_WORD) {
        words.fill(0);
    }
}

/// Of a packet of a committed connection.
pub(super) fn describe(connection: &Connection, state: CtState, key: &mut PacketKey) {
    let parent = connection.extra().and_then(|extra| extra.parent);
    let tuple = parent.unwrap_or(connection.original());
    write(key, state, connection.zone(), Some(&tuple));
    key.set(slot::CT_MARK, connection.mark().into());
    key.set(slot::CT_LABEL, connection.label());
}

/// Of a packet that may begin a connection that `parent` foresaw: it has what it will inherit.
pub(super) fn describe_foreseen(state: CtState, parent: &Connection, key: &mut PacketKey) {
    describe(parent, state, key);
}

/// Of a packet without one: `tuple` is its own, if it is known.
pub(super) fn describe_packet(state: CtState, zone: Zone, tuple: Option<&Tuple>, key: &mut PacketKey) {
    write(key, state, zone, tuple);
}

fn write(key: &mut PacketKey, state: CtState, zone: Zone, tuple: Option<&Tuple>) {
    clear(key);
    key.set(slot::CT_STATE, state.0.into());
    key.set(slot::CT_ZONE, zone.0.into());
    let Some(tuple) = tuple else { return };
    key.set(slot::CT_NW_PROTO, tuple.protocol().into());
    let (src_port, dst_port) = if tuple.is_icmp() {
        // As in NXM, type and code.
        (tuple.dst_port() >> 8, tuple.dst_port() & 0xff)
    } else {
        (tuple.src_port(), tuple.dst_port())
    };
    key.set(slot::CT_TP_SRC, src_port.into());
    key.set(slot::CT_TP_DST, dst_port.into());
    if tuple.is_ipv6() {
        key.set(slot::CT_IPV6_SRC, tuple.src_number());
        key.set(slot::CT_IPV6_DST, tuple.dst_number());
    } else {
        key.set(slot::CT_NW_SRC, tuple.src_number());
        key.set(slot::CT_NW_DST, tuple.dst_number());
    }
}

/// What the last pass found, if it was in this zone.
pub(super) fn state_in_zone(key: &PacketKey, zone: Zone) -> CtState {
    if key.get(slot::CT_ZONE) as u16 == zone.0 {
        CtState(key.get(slot::CT_STATE) as u32)
    } else {
        CtState::NONE
    }
}

/// The original tuple that the last pass wrote. Of ICMP the identifier is not among the fields; it is the packet's.
pub(super) fn original_tuple(key: &PacketKey, zone: Zone, packet: &Tuple) -> Option<Tuple> {
    let protocol = key.get(slot::CT_NW_PROTO) as u8;
    let addresses = match key.dl_type() {
        ETHERTYPE_IPV4 => {
            Addresses { is_ipv6: false, src: key.get(slot::CT_NW_SRC), dst: key.get(slot::CT_NW_DST) }
        }
        ETHERTYPE_IPV6 => {
            Addresses { is_ipv6: true, src: key.get(slot::CT_IPV6_SRC), dst: key.get(slot::CT_IPV6_DST) }
        }
        _ => return None,
    };
    let (first, second) = (key.get(slot::CT_TP_SRC) as u32, key.get(slot::CT_TP_DST) as u32);
    let ports = if packet.is_icmp() {
        u32::from(packet.src_port()) << 16 | first << 8 | second & 0xff
    } else {
        first << 16 | second
    };
    (protocol == packet.protocol()).then(|| Tuple::from_key_fields(addresses, ports, protocol, zone))
}
