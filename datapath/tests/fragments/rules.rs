//! What fragments must be to become a packet.

use std::time::Duration;

use base::Instant;
use datapath::Drop;
use datapath::fragments::{Context, FragmentLimits, Offered};
use packet::rewrite::{push_vlan, set_slot};
use packet::{DpPort, Frame, FrameBuilder, slot};

use crate::bench::*;

#[test]
fn fragments_become_whole_in_any_order_and_leave_as_they_came() {
    for packet in [udp(4_000, 7), udp6(4_000)] {
        let fragments = cut(&packet, 1_400);
        assert_eq!(fragments.len(), 3);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut bench = Bench::new(FragmentLimits::default());
            bench.held(&fragments[order[0]]);
            bench.held(&fragments[order[1]]);
            let whole = bench.whole(&fragments[order[2]]);
            assert_eq!(whole.frame().bytes(), packet);
            assert_eq!((whole.key().get(slot::TP_DST), whole.key().get(slot::NW_FRAG)), (53, 0));
            assert_eq!(whole.frame().in_port, DpPort(1));
            assert!(whole.frame().verify_transport());
            assert_eq!(whole.fragments(), 3);
            assert_eq!(fragments_of(whole), fragments);
            let stats = bench.table.stats();
            assert_eq!((stats.datagrams, stats.fragments, stats.bytes), (0, 0, 0));
            let of = if packet[12] == 8 { stats.v4 } else { stats.v6 };
            assert_eq!((of.accepted, of.completed), (3, 3));
            assert_eq!(bench.table.next_expiry(), None);
        }
    }
}

#[test]
fn a_frame_that_is_no_fragment_is_whole() {
    let mut bench = Bench::lenient();
    let packet = udp(100, 1);
    let whole = bench.whole(&packet);
    assert_eq!((whole.fragments(), whole.frame().bytes()), (0, &packet[..]));
    assert_eq!(fragments_of(whole), [packet]);
}

/// RFC 6946: neither held nor mixed with others of the same identification.
#[test]
fn atomic_fragments_are_whole() {
    let mut bench = Bench::lenient();
    let fragments = cut(&udp6(2_000), 1_280);
    bench.held(&fragments[1]);
    let mut atomic = fragments[0].clone();
    atomic[57] &= !1;
    assert_eq!(bench.whole(&atomic).fragments(), 0);
    bench.whole(&fragments[0]);
}

/// 056a37d6d and 484208bd1 of Open vSwitch: fragments of one place completed, or left with, a packet of another.
#[test]
fn fragments_of_another_place_never_meet() {
    let fragments = cut(&udp(2_000, 7), 1_400);
    let others =
        [Context { ingress: DpPort(2), ..PLACE }, Context { zone: 5, ..PLACE }, Context { at: 9, ..PLACE }];
    for other in others {
        let mut bench = Bench::lenient();
        bench.held(&fragments[0]);
        assert!(matches!(bench.offer_at(&fragments[1], other), Offered::Held));
        assert_eq!(bench.table.stats().datagrams, 2);
        assert!(matches!(bench.offer_at(&fragments[0], other), Offered::Whole(_)));
        bench.whole(&fragments[1]);
    }
}

#[test]
fn datagrams_of_other_addresses_protocols_vlans_or_tunnels_never_meet() {
    let parts = cut(&udp(2_000, 7), 1_400);
    let change = |by: &dyn Fn(&mut Frame)| {
        let (mut frame, _) = extracted(&parts[1]);
        by(&mut frame);
        packet::rewrite::refresh_ipv4_checksum(&mut frame);
        frame.bytes().to_vec()
    };
    let others = [
        change(&|f| assert!(set_slot(f, slot::NW_SRC, 99, u128::MAX))),
        change(&|f| assert!(set_slot(f, slot::NW_DST, 99, u128::MAX))),
        change(&|f| f.bytes_mut()[23] = 132),
        change(&|f| f.bytes_mut()[19] ^= 1),
        change(&|f| assert!(push_vlan(f, 0x8100, 5))),
    ];
    let mut bench = Bench::lenient();
    bench.held(&parts[0]);
    for other in &others {
        bench.held(other);
    }
    let (frame, mut key) = extracted(&parts[1]);
    key.set(slot::TUN_ID, 77);
    assert!(matches!(bench.table.offer(frame, &key, PLACE, &mut bench.pool, bench.now), Offered::Held));
    bench.whole(&parts[1]);
    assert_eq!(bench.table.stats().datagrams, others.len() + 1);
}

/// c3f4d9fe5 of Open vSwitch: the length of a reassembled packet overflowed its 16 bits ("ping of death").
#[test]
fn a_packet_longer_than_16_bits_is_never_made() {
    let mut bench = Bench::lenient();
    let last = piece(1, 65_528, 100, false, 1);
    assert_eq!(bench.dropped(&last), Drop::FragmentTooLong);
    // 65,536 bytes in all, by one.
    let last = piece(1, 65_512, 4, false, 1);
    assert_eq!(bench.dropped(&last), Drop::FragmentTooLong);
    // The first fragment's options alone make it too long, which shows only in the end.
    let mut bench = Bench::lenient();
    let mut start = 0;
    while start < 65_512 {
        let len = 8_000.min(65_512 - start);
        if start > 0 {
            bench.held(&piece(1, start, len, true, 1));
        }
        start += len;
    }
    bench.held(&piece(1, 65_512, 3, false, 1));
    let builder = FrameBuilder::udp4((A, 1), (B, 2)).identification(1).ipv4_options(&[1; 4]);
    let first = placed(builder.payload(&payload(7_992)).build(), 0, true);
    assert_eq!(bench.dropped(&first), Drop::FragmentTooLong);
    assert_eq!(bench.reasons(), [Drop::FragmentTooLong; 9]);
    assert_eq!(bench.table.stats().fragments, 0);
}

#[test]
fn the_longest_packets_are_made() {
    let bytes = udp(65_535 - 28, 3);
    let fragments = cut(&bytes, 1_500);
    let mut bench = Bench::new(FragmentLimits::default());
    for fragment in &fragments[1..] {
        bench.held(fragment);
    }
    let whole = bench.whole(&fragments[0]);
    assert!(whole.frame().bytes() == bytes && whole.frame().verify_transport());
    assert!(fragments_of(whole) == fragments);
}

/// 0caac1e91 of Open vSwitch: padding behind the first fragment became payload.
#[test]
fn padding_is_no_payload_and_is_not_sent_on() {
    let packet = udp(1_500, 7);
    let fragments = cut(&packet, 1_400);
    for padded in 0..2 {
        let mut bench = Bench::lenient();
        let mut came = fragments.clone();
        came[padded].extend([0xee; 9]);
        bench.held(&came[0]);
        let whole = bench.whole(&came[1]);
        assert_eq!(whole.frame().bytes(), packet);
        assert_eq!(fragments_of(whole), fragments);
    }
}

/// 484208bd1 of Open vSwitch: expired fragments were sent with whatever packet came next.
#[test]
fn expired_fragments_are_dropped_and_never_sent() {
    let fragments = cut(&udp(2_000, 7), 1_400);
    let mut bench = Bench::lenient();
    bench.held(&fragments[0]);
    assert_eq!(bench.table.next_expiry(), Some(bench.now + Duration::from_secs(30)));
    bench.pass(Duration::from_millis(29_999));
    assert_eq!(bench.gone, []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.gone, [(fragments[0].clone(), DpPort(1), Drop::FragmentTimeout)]);
    bench.gone.clear();
    // The second part alone is not enough any more.
    bench.held(&fragments[1]);
    assert_eq!(bench.table.stats().v4.expired, 1);
    bench.whole(&fragments[0]);
    assert_eq!(bench.gone, []);
}

/// A new fragment does not prolong the wait for the others.
#[test]
fn the_time_out_counts_from_the_first_fragment() {
    let fragments = cut(&udp(4_000, 7), 1_400);
    let mut bench = Bench::lenient();
    bench.held(&fragments[0]);
    bench.pass(Duration::from_secs(20));
    bench.held(&fragments[1]);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.reasons(), [Drop::FragmentTimeout; 2]);
}

/// A clock that goes back neither keeps fragments for ever nor disturbs their order.
#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut bench = Bench::lenient();
    bench.held(&cut(&udp(2_000, 1), 1_400)[0]);
    bench.now = Instant::from_secs(50);
    bench.held(&cut(&udp(2_000, 2), 1_400)[0]);
    bench.pass(Duration::from_secs(80));
    assert_eq!(bench.reasons(), [Drop::FragmentTimeout; 2]);
}

/// RFC 5722 and RFC 8200 section 4.5: an overlap ends the datagram, with the fragments that have not come yet.
#[test]
fn overlapping_fragments_drop_the_whole_datagram() {
    let overlaps: [&[(usize, usize, bool)]; 6] = [
        &[(0, 64, true), (56, 64, true)],
        &[(56, 64, true), (0, 64, true)],
        &[(0, 64, true), (16, 16, true)],
        &[(16, 16, true), (0, 64, true)],
        // Two ends, and something behind the end.
        &[(64, 10, false), (64, 20, false)],
        &[(64, 16, true), (32, 10, false)],
    ];
    for pieces in overlaps {
        let mut bench = Bench::lenient();
        let [first, second] = [0, 1].map(|i| piece(7, pieces[i].0, pieces[i].1, pieces[i].2, 0x50));
        bench.held(&first);
        assert_eq!(bench.dropped(&second), Drop::FragmentOverlap, "{pieces:?}");
        assert_eq!(bench.gone, [(first.clone(), DpPort(1), Drop::FragmentOverlap)]);
        // And so are those that follow, until it would have timed out.
        bench.pass(Duration::from_secs(29));
        assert_eq!(bench.dropped(&piece(7, 200, 8, true, 1)), Drop::FragmentOverlap);
        assert_eq!(bench.dropped(&first), Drop::FragmentOverlap);
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.table.stats().datagrams, 0);
        bench.held(&first);
    }
}

#[test]
fn ipv6_fragments_that_overlap_drop_the_whole_datagram() {
    let fragments = cut(&udp6(4_000), 1_400);
    let mut bench = Bench::new(FragmentLimits::default());
    bench.held(&fragments[0]);
    let mut overlapping = fragments[1].clone();
    overlapping[57] -= 8;
    assert_eq!(bench.dropped(&overlapping), Drop::FragmentOverlap);
    assert_eq!(bench.dropped(&fragments[1]), Drop::FragmentOverlap);
    assert_eq!(bench.dropped(&fragments[2]), Drop::FragmentOverlap);
    assert_eq!(bench.reasons(), [Drop::FragmentOverlap]);
    assert_eq!(bench.table.stats().v6.overlapped, 3);
}

#[test]
fn an_exact_duplicate_is_dropped_alone_but_one_with_other_bytes_is_an_overlap() {
    let fragments = cut(&udp(4_000, 7), 1_400);
    let mut bench = Bench::lenient();
    bench.held(&fragments[0]);
    assert_eq!(bench.dropped(&fragments[0]), Drop::FragmentDuplicate);
    bench.held(&fragments[2]);
    assert_eq!(bench.dropped(&fragments[2]), Drop::FragmentDuplicate);
    let whole = bench.whole(&fragments[1]);
    assert_eq!(fragments_of(whole), fragments);
    bench.held(&fragments[0]);
    let mut forged = fragments[0].clone();
    forged[60] ^= 1;
    assert_eq!(bench.dropped(&forged), Drop::FragmentOverlap);
}

/// RFC 1858 and RFC 3128: filters see ports and flags only if they are in the first fragment.
#[test]
fn a_first_fragment_without_the_whole_transport_header_is_refused() {
    let mut bench = Bench::lenient();
    let tcp = FrameBuilder::tcp4((A, 1), (B, 80), 2).tcp_options(&[1; 12]).payload(&payload(100)).build();
    let cut_at = |len: usize| {
        let mut bytes = tcp[..34 + len].to_vec();
        bytes[16..18].copy_from_slice(&((20 + len) as u16).to_be_bytes());
        placed(bytes, 0, true)
    };
    // Eight bytes are the ports without the flags; twenty-four lack options.
    for len in [8, 16, 24] {
        assert_eq!(bench.dropped(&cut_at(len)), Drop::FragmentTooSmall, "{len}");
    }
    bench.held(&cut_at(32));
    // The indirect method: a second fragment that begins within the header.
    let rest = FrameBuilder::ipv4(A, B, 6).identification(99).payload(&payload(44)).build();
    for offset in [8, 16] {
        assert_eq!(bench.dropped(&placed(rest.clone(), offset, true)), Drop::FragmentTooSmall);
    }
    bench.held(&placed(rest, 24, true));
    // Other protocols have their own headers, or none that is known.
    for (protocol, least) in [(17u16, 8), (1, 8), (132, 12), (47, 8)] {
        let mut eight = piece(200 + protocol, 0, 8, true, 1);
        eight[23] = protocol as u8;
        let offered = bench.offer(&placed(eight, 0, true));
        assert_eq!(matches!(offered, Offered::Held), least == 8, "{protocol}: {offered:?}");
    }
}

/// RFC 7112: the first fragment has the whole chain of headers.
#[test]
fn a_first_ipv6_fragment_with_a_cut_chain_is_refused() {
    let mut bench = Bench::lenient();
    let fragments = cut(&udp6(2_000), 1_280);
    let mut first = fragments[0].clone();
    // Destination options of 2,048 bytes, of which the fragment has but a part.
    (first[54], first[62], first[63]) = (60, 17, 255);
    assert_eq!(bench.dropped(&first), Drop::FragmentTooSmall);
}

#[test]
fn the_least_size_counts_for_all_but_the_last() {
    let mut bench = Bench::new(FragmentLimits::default());
    let packet = udp(3_000, 7);
    for fragment in &cut(&packet, 1_199)[..2] {
        assert_eq!(bench.dropped(fragment), Drop::FragmentTooSmall);
    }
    assert_eq!(bench.table.stats().v4.too_small, 2);
    // 1,180 bytes of payload and their header are just enough, and the last one may be short.
    bench.held(&piece(7, 0, 1_184, true, 0x11));
    bench.whole(&piece(7, 1_184, 3, false, 0x11));
    assert_eq!(bench.dropped(&cut(&udp6(3_000), 1_279)[0]), Drop::FragmentTooSmall);
    bench.held(&cut(&udp6(3_000), 1_280)[0]);
    bench.table.configure(FragmentLimits { is_v6_enabled: false, ..FragmentLimits::default() });
    assert_eq!(bench.dropped(&cut(&udp6(3_000), 1_280)[1]), Drop::Fragment);
}

#[test]
fn wrong_headers_are_refused() {
    let mut bench = Bench::lenient();
    // No payload, payload that is no multiple of eight, a wrong header checksum.
    assert_eq!(bench.dropped(&piece(1, 64, 0, true, 0)), Drop::FragmentMalformed);
    assert_eq!(bench.dropped(&piece(1, 64, 0, false, 0)), Drop::FragmentMalformed);
    assert_eq!(bench.dropped(&piece(1, 64, 12, true, 0)), Drop::FragmentMalformed);
    let mut damaged = piece(1, 64, 16, true, 0);
    damaged[22] ^= 1;
    assert_eq!(bench.dropped(&damaged), Drop::FragmentMalformed);
    // IPv6 with reserved bits only: neither a fragment nor not one.
    let mut odd = cut(&udp6(2_000), 1_280)[0].clone();
    odd[57] = 2;
    assert_eq!(bench.dropped(&odd), Drop::FragmentMalformed);
    assert_eq!(bench.table.stats().datagrams, 0);
}

/// A packet inside the fragments that is itself a fragment (two fragment headers) must not pass for a whole one.
#[test]
fn a_fragment_within_fragments_is_refused() {
    let mut inner = cut(&udp6(2_000), 1_280)[0].clone();
    let (offset, len) = (54, inner.len());
    let mut outer = inner[..offset].to_vec();
    outer.extend([44, 0, 0, 1, 0, 0, 0, 9]);
    outer.extend(inner.drain(offset..len - 8));
    let rest = inner[offset..].to_vec();
    let mut last = outer[..offset].to_vec();
    last.extend([44, 0]);
    last.extend(((outer.len() - offset - 8) as u16).to_be_bytes());
    last.extend([0, 0, 0, 9]);
    last.extend(rest);
    for frame in [&mut outer, &mut last] {
        let len = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&len.to_be_bytes());
    }
    let mut bench = Bench::lenient();
    bench.held(&outer);
    assert_eq!(bench.dropped(&last), Drop::FragmentMalformed);
    assert_eq!(bench.reasons(), [Drop::FragmentMalformed]);
}
