//! Frames whose sender left the checksum to others and whose way tells nothing of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use packet::{Checksum, Frame, FrameBuilder, PacketKey, Segmentation, slot};
use proptest::prelude::*;
use support::plain_builder;

/// The one's complement sum of 16-bit words, the slow way (RFC 1071).
fn slow_sum(words: impl Iterator<Item = u16>) -> u16 {
    words.fold(0u32, |sum, word| (sum + u32::from(word)) % 0xffff) as u16
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks(2).map(|c| u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]))
}

/// Where addresses, transport header and checksum field of a frame without options are.
fn places(frame: &[u8], is_tcp: bool) -> (std::ops::Range<usize>, usize, usize) {
    let is_v4 = frame[12..14] == [0x08, 0x00];
    let (addresses, l4) = if is_v4 { (26..34, 34) } else { (22..54, 54) };
    (addresses, l4, l4 + if is_tcp { 16 } else { 6 })
}

/// Puts the sum of the pseudo header where the checksum belongs, as senders with offload do.
fn leave_partial(frame: &mut [u8], is_tcp: bool) {
    let (addresses, l4, field) = places(frame, is_tcp);
    let len = (frame.len() - l4) as u16;
    let protocol = if is_tcp { 6 } else { 17 };
    let sum = slow_sum(words(&frame[addresses]).chain([protocol, len]));
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}

fn recognised(bytes: &[u8]) -> Frame {
    let mut frame = Frame::from_bytes(bytes);
    PacketKey::extract(&mut frame).unwrap();
    frame.recognise_offload();
    frame.validate_offload().unwrap();
    frame
}

proptest! {
    #[test]
    fn partial_is_recognised_and_completed_right(
        is_v4: bool,
        is_tcp: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..1_400),
    ) {
        let good = plain_builder(is_v4, is_tcp, &payload).build();
        let mut partial = good.clone();
        leave_partial(&mut partial, is_tcp);
        let mut frame = recognised(&partial);
        let (_, l4, field) = places(&good, is_tcp);
        let expected = Checksum::Partial { start: l4 as u16, offset: (field - l4) as u16 };
        prop_assert_eq!((frame.checksum, frame.segmentation), (expected, Segmentation::None));
        frame.complete_checksum();
        prop_assert_eq!(frame.bytes(), &good[..]);
    }

    /// Whatever the payload, even one that makes the right checksum look like a partial one.
    #[test]
    fn no_good_frame_is_changed(
        is_v4: bool,
        is_tcp: bool,
        payload in proptest::collection::vec(any::<u8>(), 2..200),
        collide: bool,
    ) {
        let mut payload = payload;
        if collide {
            payload[..2].fill(0);
            let zero = plain_builder(is_v4, is_tcp, &payload).build();
            let (_, _, field) = places(&zero, is_tcp);
            let mut partial = zero.clone();
            leave_partial(&mut partial, is_tcp);
            // Adding `word` to the payload lowers the checksum by as much: from the right one to the partial one.
            let of = |f: &[u8]| u32::from(u16::from_be_bytes([f[field], f[field + 1]]));
            let word = (of(&zero) + 0xffff - of(&partial)) % 0xffff;
            payload[..2].copy_from_slice(&(word as u16).to_be_bytes());
        }
        let good = plain_builder(is_v4, is_tcp, &payload).build();
        let mut frame = recognised(&good);
        if collide {
            prop_assert_ne!(frame.checksum, Checksum::Unknown);
        }
        frame.complete_checksum();
        prop_assert_eq!(frame.bytes(), &good[..]);
    }
}

#[test]
fn long_tcp_is_to_be_cut() {
    let cut = |is_v4, len: usize, flags: u128| {
        let mut bytes = plain_builder(is_v4, true, &vec![1; len]).set(slot::TCP_FLAGS, flags).build();
        leave_partial(&mut bytes, true);
        recognised(&bytes).segmentation
    };
    assert_eq!(cut(true, 1_460, 0x10), Segmentation::None);
    assert_eq!(cut(true, 1_461, 0x10), Segmentation::TcpV4 { size: 1_220, ecn: false });
    assert_eq!(cut(false, 60_000, 0x90), Segmentation::TcpV6 { size: 1_220, ecn: true });
    let whole = plain_builder(true, true, &[1; 9_000]).build();
    assert_eq!(recognised(&whole).segmentation, Segmentation::None, "a whole one is a long one");
}

#[test]
fn what_has_no_checksum_of_its_own_is_left_alone() {
    let unknown = |bytes: &[u8]| assert_eq!(recognised(bytes).checksum, Checksum::Unknown);
    let mut without = plain_builder(true, false, b"no checksum").build();
    without[40..42].fill(0);
    unknown(&without);
    unknown(&FrameBuilder::arp(1, (1, 1), (2, 2)).build());
    unknown(&FrameBuilder::icmp4(1, 2, 8, 0).payload(b"ping").build());
    let mut fragment = plain_builder(true, true, &[0; 64]).build();
    leave_partial(&mut fragment, true);
    fragment[20] = 0x20;
    unknown(&fragment);
}
