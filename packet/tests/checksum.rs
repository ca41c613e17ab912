//! The arithmetic of checksums against its definition, and against etherparse on whole packets in the other tests.

use packet::Sum;
use packet::checksum::Delta;
use proptest::prelude::*;

/// RFC 1071 section 1, word by word.
fn by_definition(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum += word as u32;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn example_of_rfc_1071() {
    assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
}

/// The example of RFC 1624 section 4: an update by older equations gives 0xffff.
#[test]
fn example_of_rfc_1624() {
    assert_eq!(Delta::of_u16(0x5555, 0x3285).applied(0xdd2f), 0x0000);
}

/// Every word replaced by every other in a small header, so that every carry happens.
#[test]
fn updates_of_one_word_are_exhaustive() {
    for rest in [0u16, 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        for old in (0..=u16::MAX).step_by(257) {
            let checksum = Sum::ZERO.with(rest).with(old).checksum();
            for new in 0..=u16::MAX {
                let wanted = Sum::ZERO.with(rest).with(new).checksum();
                let updated = Delta::of_u16(old, new).applied(checksum);
                // Only where all words are zero do the two zeros of one's complement arithmetic differ.
                let is_all_zero = rest == 0 && new == 0;
                assert!(updated == wanted || is_all_zero && updated == !wanted, "{rest:x} {old:x} {new:x}");
            }
        }
    }
}

proptest! {
    #[test]
    fn sum_is_that_of_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(Sum::of(&bytes).folded(), by_definition(&bytes));
    }

    #[test]
    fn parts_add_up(head in prop::collection::vec(any::<[u8; 2]>(), 0..50), tail in prop::collection::vec(any::<u8>(), 0..99)) {
        let head = head.concat();
        let whole = [head.clone(), tail.clone()].concat();
        prop_assert_eq!(Sum::of(&head).with_bytes(&tail).folded(), by_definition(&whole));
    }

    #[test]
    fn wide_words_are_their_bytes(a in any::<u128>(), b in any::<u32>(), c in any::<u16>()) {
        let bytes = [a.to_be_bytes().to_vec(), b.to_be_bytes().to_vec(), c.to_be_bytes().to_vec()].concat();
        prop_assert_eq!(Sum::ZERO.with_u128(a).with_u32(b).with(c).folded(), by_definition(&bytes));
    }

    #[test]
    fn updates_are_recomputations(rest in 1u16.., old in any::<u128>(), new in any::<u128>()) {
        let checksum = Sum::ZERO.with(rest).with_u128(old).checksum();
        let wanted = Sum::ZERO.with(rest).with_u128(new).checksum();
        prop_assert_eq!(Delta::of_u128(old, new).applied(checksum), wanted);
        prop_assert_eq!(Delta::of_bytes(old.to_be_bytes(), new.to_be_bytes()).applied(checksum), wanted);
        prop_assert_eq!(Delta::of_u128(old, new).applied_to_sum(!checksum), !wanted);
        let (old, new) = (old as u32, new as u32);
        let checksum = Sum::ZERO.with(rest).with_u32(old).checksum();
        let wanted = Sum::ZERO.with(rest).with_u32(new).checksum();
        prop_assert_eq!(Delta::of_u32(old, new).applied(checksum), wanted);
    }
}
