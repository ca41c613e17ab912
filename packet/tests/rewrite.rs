//! After every rewrite: the field has the value, nothing else changed, checksums are those of a computation from scratch,
//! and the layers are those that extraction finds.

mod support;

use packet::key::{FRAG_LATER, VLAN_PRESENT};
use packet::rewrite::{
    Endpoints, icmp_identifier, pop_mpls, pop_vlan, push_mpls, push_vlan, restore, set_endpoints, set_slot,
};
use packet::wire::*;
use packet::{Checksum, Frame, FrameBuilder, PacketKey, Slot, Sum, slot};
use proptest::prelude::*;
use support::{any_builder, any_damaged, extracted, key_of};

/// Fields that a rewrite may find in a frame.
const WRITABLE: [Slot; 24] = [
    slot::DL_DST,
    slot::DL_SRC,
    slot::VLAN_TCI,
    slot::VLAN_TPID,
    slot::VLAN_TCI_INNER,
    slot::VLAN_TPID_INNER,
    slot::MPLS_LSE0,
    slot::MPLS_LSE1,
    slot::MPLS_LSE2,
    slot::NW_SRC,
    slot::NW_DST,
    slot::NW_PROTO,
    slot::NW_TOS,
    slot::NW_TTL,
    slot::IPV6_SRC,
    slot::IPV6_DST,
    slot::IPV6_LABEL,
    slot::TP_SRC,
    slot::TP_DST,
    slot::ARP_SHA,
    slot::ARP_THA,
    slot::ND_TARGET,
    slot::ND_RESERVED,
    slot::ND_OPTIONS_TYPE,
];

/// Whether a frame with this key has the field, by the prerequisites of ovs-fields(7).
fn has(key: &PacketKey, field: Slot) -> bool {
    let is = |slot, value: u128| key.get(slot) == value;
    let ip = is(slot::DL_TYPE, ETHERTYPE_IPV4 as u128) || is(slot::DL_TYPE, ETHERTYPE_IPV6 as u128);
    let arp = is(slot::DL_TYPE, ETHERTYPE_ARP as u128) || is(slot::DL_TYPE, ETHERTYPE_RARP as u128);
    let mpls =
        is(slot::DL_TYPE, ETHERTYPE_MPLS as u128) || is(slot::DL_TYPE, ETHERTYPE_MPLS_UPSTREAM as u128);
    let icmp6 = is(slot::DL_TYPE, ETHERTYPE_IPV6 as u128) && is(slot::NW_PROTO, PROTO_ICMPV6 as u128);
    let whole = key.get(slot::NW_FRAG) as u8 & FRAG_LATER == 0;
    let nd = icmp6 && whole && is(slot::TP_DST, 0) && (is(slot::TP_SRC, 135) || is(slot::TP_SRC, 136));
    let open = |slot| key.get(slot) as u32 & MPLS_BOS == 0;
    match field {
        slot::DL_DST | slot::DL_SRC => true,
        slot::VLAN_TCI | slot::VLAN_TPID => !is(slot::VLAN_TCI, 0),
        slot::VLAN_TCI_INNER | slot::VLAN_TPID_INNER => !is(slot::VLAN_TCI_INNER, 0),
        slot::MPLS_LSE0 => mpls,
        slot::MPLS_LSE1 => mpls && open(slot::MPLS_LSE0),
        slot::MPLS_LSE2 => mpls && open(slot::MPLS_LSE0) && open(slot::MPLS_LSE1),
        slot::NW_SRC | slot::NW_DST => arp || is(slot::DL_TYPE, ETHERTYPE_IPV4 as u128),
        slot::NW_PROTO => arp,
        slot::NW_TOS | slot::NW_TTL => ip,
        slot::IPV6_SRC | slot::IPV6_DST | slot::IPV6_LABEL => is(slot::DL_TYPE, ETHERTYPE_IPV6 as u128),
        slot::TP_SRC | slot::TP_DST => {
            ip && whole && [1, 6, 17, 58, 132].contains(&(key.get(slot::NW_PROTO) as u8))
        }
        slot::ARP_SHA => arp || nd && key.get(slot::ARP_SHA) != 0,
        slot::ARP_THA => arp || nd && key.get(slot::ARP_THA) != 0,
        slot::ND_TARGET | slot::ND_RESERVED => nd,
        slot::ND_OPTIONS_TYPE => nd && key.get(slot::ND_OPTIONS_TYPE) != 0,
        _ => false,
    }
}

/// A value that the field can hold and that keeps the frame readable.
fn legal(field: Slot, value: u128, old: u128) -> u128 {
    match field {
        slot::VLAN_TCI | slot::VLAN_TCI_INNER => value & 0xffff | VLAN_PRESENT as u128,
        slot::VLAN_TPID | slot::VLAN_TPID_INNER => [0x8100, 0x88a8][(value & 1) as usize],
        // The bottom of the stack stays where it is.
        slot::MPLS_LSE0 | slot::MPLS_LSE1 | slot::MPLS_LSE2 => value & 0xffff_feff | old & MPLS_BOS as u128,
        slot::IPV6_LABEL => value & 0xf_ffff,
        slot::ARP_SHA | slot::ARP_THA => (value & field.ones()).max(1),
        slot::ND_OPTIONS_TYPE => old,
        _ => value & field.ones(),
    }
}

/// ICMP has one byte where others have two, and its type says what else is in the message.
fn legal_in(key: &PacketKey, field: Slot, value: u128) -> u128 {
    let old = key.get(field);
    match (field, key.get(slot::NW_PROTO) as u8) {
        (slot::TP_SRC | slot::TP_DST, PROTO_ICMP) => value & 0xff,
        (slot::TP_SRC | slot::TP_DST, PROTO_ICMPV6) => old,
        _ => legal(field, value, old),
    }
}

fn whole_checksums(frame: &Frame) -> bool {
    frame.verify_transport() && frame.verify_ipv4_header()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_field_by_itself(
        builder in any_builder(),
        field in prop::sample::select(WRITABLE.to_vec()),
        value in any::<u128>(),
        mask in prop_oneof![Just(u128::MAX), any::<u128>()],
    ) {
        let mut frame = extracted(&builder.build());
        let before = frame.bytes().to_vec();
        let key = key_of(&before);
        let value = legal_in(&key, field, value);
        let mask = if matches!(field, slot::VLAN_TPID | slot::VLAN_TPID_INNER) { u128::MAX } else { mask };
        let done = set_slot(&mut frame, field, value, mask);
        prop_assert_eq!(done, has(&key, field), "{:?}", field);
        if !done {
            prop_assert_eq!(frame.bytes(), &before[..]);
            return Ok(());
        }
        let mut wanted = key;
        wanted.set(field, key.get(field) & !mask | value & mask);
        // Two options of one address type, or an address of zero, would read differently.
        prop_assume!(!matches!(field, slot::ARP_SHA | slot::ARP_THA) || wanted.get(field) != 0);
        let noted = frame.layers;
        prop_assert_eq!(PacketKey::extract(&mut frame).unwrap(), wanted);
        prop_assert_eq!(frame.layers, noted);
        prop_assert!(whole_checksums(&frame));
        // Written back, the frame is what it was, checksums included.
        prop_assert!(set_slot(&mut frame, field, key.get(field), u128::MAX));
        prop_assert_eq!(frame.bytes(), &before[..]);
    }

    /// A partial checksum stays one: completed after the rewrite, it is right.
    #[test]
    fn partial_checksums_are_kept_partial(
        builder in any_builder(),
        changes in prop::collection::vec((prop::sample::select(WRITABLE.to_vec()), any::<u128>()), 1..6),
        push in any::<bool>(),
    ) {
        let mut frame = extracted(&builder.build());
        let key = key_of(frame.bytes());
        let offset = match key.get(slot::NW_PROTO) as u8 {
            PROTO_TCP => 16,
            PROTO_UDP => 6,
            PROTO_ICMPV6 => 2,
            _ => return Ok(()),
        };
        prop_assume!(frame.layers.l4 != packet::frame::NO_LAYER && key.get(slot::NW_FRAG) == 0);
        let start = frame.layers.l4;
        let (protocol, len) = (key.get(slot::NW_PROTO) as u8, frame.len() - start as usize);
        let pseudo = if key.dl_type() == ETHERTYPE_IPV4 {
            Sum::pseudo_v4(key.get(slot::NW_SRC) as u32, key.get(slot::NW_DST) as u32, protocol, len as u16)
        } else {
            Sum::pseudo_v6(key.get(slot::IPV6_SRC), key.get(slot::IPV6_DST), protocol, len as u32)
        };
        let at = (start + offset) as usize;
        frame.bytes_mut()[at..at + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
        frame.checksum = Checksum::Partial { start, offset };
        for (field, value) in changes {
            set_slot(&mut frame, field, legal_in(&key, field, value), u128::MAX);
        }
        if push && key.get(slot::VLAN_TCI_INNER) == 0 {
            prop_assert!(push_vlan(&mut frame, 0x8100, 7));
            prop_assert_eq!(frame.checksum, Checksum::Partial { start: start + 4, offset });
        }
        prop_assert!(frame.verify_ipv4_header());
        frame.complete_checksum();
        prop_assert_eq!(frame.checksum, Checksum::Valid);
        frame.checksum = Checksum::Unknown;
        prop_assert!(whole_checksums(&frame));
    }

    /// A wrong checksum is not made right by a rewrite.
    #[test]
    fn corruption_is_not_hidden(
        builder in any_builder(),
        field in prop::sample::select(WRITABLE.to_vec()),
        value in any::<u128>(),
        flip in 1u8..,
    ) {
        let builder = builder.payload(&[1, 2, 3, 4]);
        let mut frame = extracted(&builder.build());
        let last = frame.len() - 1;
        frame.bytes_mut()[last] ^= flip;
        if frame.verify_transport() {
            return Ok(()); // Nothing covers the byte.
        }
        let key = key_of(frame.bytes());
        set_slot(&mut frame, field, legal_in(&key, field, value), u128::MAX);
        prop_assert!(!frame.verify_transport());
    }

    #[test]
    fn damaged_frames_keep_their_layers(
        bytes in any_damaged(),
        field in prop::sample::select(slot::ALL.to_vec()),
        value in any::<u128>(),
        mask in any::<u128>(),
    ) {
        let mut frame = extracted(&bytes);
        let (len, noted) = (frame.len(), frame.layers);
        let done = set_slot(&mut frame, field, value, mask);
        prop_assert!(done || frame.bytes() == bytes);
        prop_assert_eq!((frame.len(), frame.layers), (len, noted));
        PacketKey::extract(&mut frame).unwrap();
        prop_assert_eq!(frame.layers, noted, "{:?}", field);
    }

    #[test]
    fn tags_and_labels_come_and_go(
        builder in any_builder(),
        steps in prop::collection::vec((0u8..4, any::<u16>(), any::<u32>()), 1..12),
    ) {
        let mut frame = extracted(&builder.build());
        for (step, tci, lse) in steps {
            let before = (frame.len(), key_of(frame.bytes()));
            let ethertype = before.1.dl_type();
            let is_labelled = is_mpls(ethertype);
            let (done, expected, len) = match step {
                0 => (push_vlan(&mut frame, 0x88a8, tci), true, before.0 + 4),
                1 => (pop_vlan(&mut frame), before.1.get(slot::VLAN_TCI) != 0, before.0 - 4),
                2 => {
                    let is_802_3 = frame.layers.l3 == packet::frame::NO_LAYER
                        && ethertype == packet::key::DL_TYPE_NONE;
                    (push_mpls(&mut frame, ETHERTYPE_MPLS, lse), !is_802_3, before.0 + 4)
                }
                _ => (pop_mpls(&mut frame, ETHERTYPE_IPV4), is_labelled && before.1.get(slot::MPLS_LSE0) != 0, before.0 - 4),
            };
            // A label of zero cannot be told from none by the key.
            prop_assert!(done == expected || done && step == 3 && is_labelled);
            prop_assert_eq!(frame.len(), if done { len } else { before.0 });
            let noted = frame.layers;
            let key = PacketKey::extract(&mut frame).unwrap();
            prop_assert_eq!(frame.layers, noted);
            if done && step == 0 {
                prop_assert_eq!(key.get(slot::VLAN_TCI) as u16, tci | VLAN_PRESENT);
                prop_assert_eq!(key.get(slot::VLAN_TPID), 0x88a8);
                prop_assert_eq!(key.get(slot::VLAN_TCI_INNER), before.1.get(slot::VLAN_TCI));
                prop_assert_eq!(key.get(slot::DL_SRC), before.1.get(slot::DL_SRC));
                prop_assert_eq!(key.get(slot::DL_DST), before.1.get(slot::DL_DST));
            }
            if done && step == 2 {
                prop_assert_eq!(key.get(slot::MPLS_LSE0) as u32, lse);
                prop_assert_eq!(key.get(slot::VLAN_TCI), before.1.get(slot::VLAN_TCI));
            }
        }
    }

    #[test]
    fn push_and_pop_are_inverse(builder in any_builder(), tci in any::<u16>(), lse in any::<u32>()) {
        let mut frame = extracted(&builder.build());
        let (before, layers, ethertype) = (frame.bytes().to_vec(), frame.layers, builder.key().dl_type());
        prop_assert!(push_vlan(&mut frame, 0x8100, tci));
        prop_assert!(pop_vlan(&mut frame));
        prop_assert_eq!((frame.bytes(), frame.layers), (&before[..], layers));
        if push_mpls(&mut frame, ETHERTYPE_MPLS_UPSTREAM, lse) {
            prop_assert!(pop_mpls(&mut frame, ethertype));
            prop_assert_eq!((frame.bytes(), frame.layers), (&before[..], layers));
        }
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut frame = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).payload(b"x").build());
    frame.bytes_mut()[40..42].copy_from_slice(&[0; 2]);
    for (field, value) in [(slot::NW_SRC, 77u128), (slot::TP_SRC, 5), (slot::TP_DST, 0xffff)] {
        assert!(set_slot(&mut frame, field, value, u128::MAX));
        assert_eq!(frame.bytes()[40..42], [0; 2]);
    }
    assert!(frame.verify_transport());
}

/// Every port is tried, so the one that makes the sum 0 is among them.
#[test]
fn udp_checksum_is_never_written_as_zero() {
    let mut frame = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).payload(b"abc").build());
    let mut all_ones = 0;
    for port in 0..=u16::MAX {
        assert!(set_slot(&mut frame, slot::TP_SRC, port as u128, u128::MAX));
        assert_ne!(frame.bytes()[40..42], [0; 2], "port {port}");
        all_ones += (frame.bytes()[40..42] == [0xff; 2]) as u32;
    }
    assert!(all_ones > 0);
    assert!(frame.verify_transport());
}

#[test]
fn addresses_of_a_later_fragment_leave_its_payload_alone() {
    let later = FrameBuilder::ipv4(1, 3, PROTO_UDP).set(slot::NW_FRAG, 3).payload(&[9; 64]);
    let mut frame = extracted(&later.build());
    assert!(set_slot(&mut frame, slot::NW_SRC, 0x0a00_0001, u128::MAX));
    assert!(!set_slot(&mut frame, slot::TP_SRC, 80, u128::MAX));
    assert_eq!(frame.bytes()[34..], [9; 64]);
    assert!(frame.verify_ipv4_header());
}

/// RFC 8200 section 8.1: the pseudo header has the last stop, which a change of the next one does not touch.
#[test]
fn destination_of_a_routed_packet_is_not_covered() {
    let plain = FrameBuilder::udp6((1, 2), (3, 4)).payload(b"payload").build();
    let mut bytes = plain[..54].to_vec();
    bytes[20] = PROTO_ROUTING;
    bytes[19] += 24;
    bytes.extend([PROTO_UDP, 2, 0, 1, 0, 0, 0, 0]);
    bytes.extend(3u128.to_be_bytes());
    bytes.extend(&plain[54..]);
    let mut frame = extracted(&bytes);
    let checksum = 54 + 24 + 6;
    assert_eq!(key_of(&bytes).get(slot::TP_DST), 4);
    assert!(set_slot(&mut frame, slot::IPV6_DST, 99, u128::MAX));
    assert_eq!(frame.bytes()[checksum..checksum + 2], bytes[checksum..checksum + 2]);
    assert!(set_slot(&mut frame, slot::IPV6_SRC, 99, u128::MAX));
    assert_ne!(frame.bytes()[checksum..checksum + 2], bytes[checksum..checksum + 2]);
}

#[test]
fn an_operation_over_255_is_overwritten_whole() {
    let mut bytes = FrameBuilder::arp(1, (1, 2), (3, 4)).build();
    bytes[20..22].copy_from_slice(&[1, 1]);
    let mut frame = extracted(&bytes);
    assert!(set_slot(&mut frame, slot::NW_PROTO, 2, 0xff));
    assert_eq!(frame.bytes()[20..22], [0, 2]);
}

#[test]
fn third_tag_hides_what_is_behind_it() {
    let inner = FrameBuilder::tcp4((1, 2), (3, 4), 2).vlan(0x88a8, 1).vlan(0x8100, 2);
    let mut frame = extracted(&inner.build());
    assert!(push_vlan(&mut frame, 0x8100, 3));
    assert_eq!(frame.layers, packet::Layers::default());
    assert_eq!(key_of(frame.bytes()).dl_type(), ETHERTYPE_VLAN);
    assert!(pop_vlan(&mut frame));
    assert_eq!((frame.layers.l3, frame.layers.l4), (22, 42));
}

#[test]
fn nothing_is_pushed_onto_what_is_no_frame_or_too_long() {
    let mut frame = Frame::from_bytes(&[0; 13]);
    assert!(!push_vlan(&mut frame, 0x8100, 1) && !pop_vlan(&mut frame));
    assert!(!push_mpls(&mut frame, ETHERTYPE_MPLS, 0) && !pop_mpls(&mut frame, ETHERTYPE_IPV4));
    let mut frame = Frame::from_bytes(&vec![0; packet::frame::FRAME_PUSHED_MAX]);
    assert!(!push_vlan(&mut frame, 0x8100, 1));
    assert_eq!(frame.len(), packet::frame::FRAME_PUSHED_MAX);
    let mut frame = Frame::from_bytes(&[0; 60]);
    assert!(!push_vlan(&mut frame, 0x9100, 1));
}

#[test]
fn pushes_beyond_the_headroom_copy_the_frame() {
    let bytes = FrameBuilder::udp4((1, 2), (3, 4)).payload(b"payload").build();
    let mut frame = extracted(&bytes);
    let new = frame.push_front(packet::frame::HEADROOM + 50).unwrap();
    new.fill(7);
    let count = packet::frame::HEADROOM + 50;
    assert_eq!(frame.bytes()[count..], bytes);
    assert_eq!(frame.bytes()[..count], vec![7; count]);
    assert_eq!(frame.layers.l4 as usize, count + 34);
    frame.pull_front(count).unwrap();
    assert_eq!((frame.bytes(), frame.layers.l4), (&bytes[..], 34));
    assert!(frame.pull_front(bytes.len() + 1).is_err());
    assert!(frame.push_front(usize::MAX).is_err());
    frame.pull_front(20).unwrap();
    assert_eq!((frame.layers.l3, frame.layers.l4), (packet::frame::NO_LAYER, 14));
}

/// The CRC of an SCTP packet covers bytes that a first fragment does not have: it is left as the sender made it.
#[test]
fn ports_of_an_sctp_fragment_leave_the_checksum_alone() {
    let sctp = FrameBuilder::ipv4(1, 3, PROTO_SCTP).set(slot::TP_SRC, 5).payload(b"chunk");
    for (frag, changes) in [(0, true), (1, false)] {
        let mut frame = extracted(&sctp.clone().set(slot::NW_FRAG, frag).build());
        let before = frame.bytes()[42..46].to_vec();
        assert!(set_slot(&mut frame, slot::TP_SRC, 6, u128::MAX));
        assert_eq!(frame.bytes()[42..46] != before, changes);
        assert!(frame.verify_transport());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever was written over an IP packet's headers, the key that was read before and the ICMP identifier bring it back.
    #[test]
    fn restored_is_as_before(
        builder in any_builder(),
        changes in prop::collection::vec((prop::sample::select(&WRITABLE[..]), any::<u128>()), 0..6),
        ends in any::<(u128, u128, u16, u16)>(),
        translates in any::<bool>(),
        pops in 0usize..3,
        pushes in 0usize..3,
    ) {
        let mut frame = extracted(&builder.build());
        let (before, layers) = (frame.bytes().to_vec(), frame.layers);
        let (was, identifier) = (key_of(&before), icmp_identifier(&frame));
        let is_ip = matches!(was.dl_type(), ETHERTYPE_IPV4 | ETHERTYPE_IPV6);
        // No answer quotes ARP, and neighbour discovery is short.
        let is_nd = |field: &Slot| {
            let nd = [slot::ND_TARGET, slot::ND_RESERVED, slot::ND_OPTIONS_TYPE, slot::ARP_SHA, slot::ARP_THA];
            nd.contains(field)
        };
        for (field, value) in changes.iter().filter(|(field, _)| !is_nd(field)) {
            set_slot(&mut frame, *field, legal_in(&was, *field, *value), u128::MAX);
        }
        if translates {
            let (src, dst, src_port, dst_port) = ends;
            set_endpoints(&mut frame, &Endpoints { src, dst, src_port, dst_port });
        }
        (0..pops).for_each(|_| { pop_vlan(&mut frame); });
        // A third tag hides the packet.
        let room = 2 - [slot::VLAN_TCI, slot::VLAN_TCI_INNER].iter().filter(|t| key_of(frame.bytes()).get(**t) != 0).count();
        (0..pushes.min(room)).for_each(|n| { push_vlan(&mut frame, 0x88a8, n as u16); });
        prop_assert_eq!(restore(&mut frame, &was, identifier), is_ip);
        if is_ip {
            prop_assert_eq!((frame.bytes(), frame.layers), (&before[..], layers));
        }
    }
}

#[test]
fn another_protocol_is_not_restored() {
    let was = |builder: FrameBuilder| key_of(&builder.build());
    for (was, is_restored) in [
        (was(FrameBuilder::udp4((9, 2), (3, 4))), true),
        (was(FrameBuilder::tcp4((1, 2), (3, 4), 2)), false),
        (was(FrameBuilder::udp6((1, 2), (3, 4))), false),
        (was(FrameBuilder::ethernet(ETHERTYPE_MPLS)), false),
    ] {
        let mut frame = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).build());
        assert_eq!(restore(&mut frame, &was, 0), is_restored);
    }
}
