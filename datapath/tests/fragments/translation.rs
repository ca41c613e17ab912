//! What is done to the whole reaches its fragments.

use datapath::fragments::FragmentLimits;
use packet::rewrite::{push_vlan, set_slot};
use packet::{Checksum, FrameBuilder, Sum, slot};

use crate::bench::*;

/// 3ffb1c401 and 614029aac of Open vSwitch: translation left some fragments with old addresses, or wrong checksums.
#[test]
fn translation_of_the_whole_reaches_every_fragment() {
    for (packet, src, dst) in
        [(udp(4_000, 7), slot::NW_SRC, slot::NW_DST), (udp6(4_000), slot::IPV6_SRC, slot::IPV6_DST)]
    {
        let came = cut(&packet, 1_400);
        let mut bench = Bench::new(FragmentLimits::default());
        bench.held(&came[2]);
        bench.held(&came[0]);
        let mut whole = bench.whole(&came[1]);
        let changes: [(_, u128); 7] = [
            (src, 0x0b01_0203),
            (dst, 0x0b04_0506),
            (slot::TP_SRC, 4242),
            (slot::TP_DST, 4343),
            (slot::NW_TTL, 9),
            (slot::NW_TOS, 0xb8),
            (slot::DL_DST, 0x0200_0000_0077),
        ];
        for (slot, value) in changes {
            assert!(set_slot(whole.frame_mut(), slot, value, u128::MAX));
        }
        let wanted = {
            let (mut frame, _) = extracted(&packet);
            for (slot, value) in changes {
                set_slot(&mut frame, slot, value, u128::MAX);
            }
            frame.bytes().to_vec()
        };
        let left = fragments_of(whole);
        // The same cuts, and together the translated packet, by etherparse's word.
        assert_eq!(left, cut(&wanted, 1_400));
        let mut again = Bench::lenient();
        again.held(&left[0]);
        again.held(&left[1]);
        let whole = again.whole(&left[2]);
        assert!(whole.frame().verify_transport() && whole.frame().bytes() == wanted);
    }
}

#[test]
fn what_is_each_fragments_own_stays_so() {
    let mut came = cut(&udp(4_000, 7), 1_400);
    // On the way they got different TTLs, marks of congestion, MAC addresses; the first one has options, another VLAN priority.
    for (i, fragment) in came.iter_mut().enumerate() {
        let (mut frame, _) = extracted(fragment);
        set_slot(&mut frame, slot::NW_TTL, 60 + i as u128, u128::MAX);
        set_slot(&mut frame, slot::NW_TOS, [2, 3, 2][i], u128::MAX);
        set_slot(&mut frame, slot::DL_SRC, 0x0200_0000_0100 + i as u128, u128::MAX);
        push_vlan(&mut frame, 0x8100, 5 | (i as u16) << 13);
        *fragment = frame.bytes().to_vec();
    }
    let mut bench = Bench::lenient();
    bench.held(&came[0]);
    bench.held(&came[1]);
    let whole = bench.whole(&came[2]);
    assert_eq!(fragments_of(whole), came);
    bench.held(&came[0]);
    bench.held(&came[1]);
    let mut whole = bench.whole(&came[2]);
    set_slot(whole.frame_mut(), slot::NW_TOS, 0xb8, 0xfc);
    let marks: Vec<u8> = fragments_of(whole).iter().map(|f| f[19]).collect();
    assert_eq!(marks, [0xba, 0xbb, 0xba]);
}

#[test]
fn tags_pushed_and_popped_reach_every_fragment() {
    let packet = FrameBuilder::udp4((A, 1), (B, 2)).vlan(0x8100, 7).payload(&payload(3_000)).build();
    let came = cut(&packet, 1_400);
    let mut bench = Bench::lenient();
    bench.held(&came[0]);
    bench.held(&came[1]);
    let mut whole = bench.whole(&came[2]);
    packet::rewrite::pop_vlan(whole.frame_mut());
    let plain = FrameBuilder::udp4((A, 1), (B, 2)).payload(&payload(3_000)).build();
    assert_eq!(fragments_of(whole), cut(&plain, 1_400));
}

/// An application gateway may change the length after all (FTP's PORT in fragments).
#[test]
fn a_packet_of_another_length_is_cut_anew() {
    let came = cut(&udp(2_000, 7), 1_400);
    let mut bench = Bench::lenient();
    bench.held(&came[0]);
    let mut whole = bench.whole(&came[1]);
    let longer = udp(2_500, 7);
    whole.frame_mut().set_len(longer.len()).expect("room");
    whole.frame_mut().bytes_mut().copy_from_slice(&longer);
    let left = fragments_of(whole);
    assert!(left.iter().all(|f| f.len() <= came[0].len()));
    bench.held(&left[0]);
    assert_eq!(bench.whole(&left[1]).frame().bytes(), longer);
}

/// Whoever makes a checksum partial leaves it to the sender, who cannot complete it in fragments.
#[test]
fn a_partial_checksum_of_the_whole_is_completed() {
    let packet = udp(2_000, 7);
    let came = cut(&packet, 1_400);
    let mut bench = Bench::lenient();
    bench.held(&came[0]);
    let mut whole = bench.whole(&came[1]);
    let pseudo = Sum::pseudo_v4(A, B, 17, (packet.len() - 34) as u16).folded();
    whole.frame_mut().bytes_mut()[40..42].copy_from_slice(&pseudo.to_be_bytes());
    whole.frame_mut().checksum = Checksum::Partial { start: 34, offset: 6 };
    assert_eq!(fragments_of(whole), came);
}
