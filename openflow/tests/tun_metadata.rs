//! Fields of variable length on the wire: what golden messages do not have. How Open vSwitch encodes them is in `golden`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use flowtable::text::{NoPortNames, parse_match};
use flowtable::{FieldId, Match};
use openflow::codec::{decode_match, encode_match};
use openflow::{OfError, OfVersion};
use packet::key::slot;
use proptest::prelude::*;

const FIRST: FieldId = FieldId::TunMetadata0;

/// NXM_NX_TUN_METADATA0 with these bytes.
fn field(masked: bool, payload: &[u8]) -> Vec<u8> {
    [&[0, 1, 40 << 1 | masked as u8, payload.len() as u8], payload].concat()
}

fn read(bytes: &[u8]) -> Result<Match, OfError> {
    decode_match(bytes).map(|(matching, _)| matching)
}

#[test]
fn any_length_that_holds_the_value_will_do() {
    let exact = parse_match("tun_metadata0=0x1234", &NoPortNames).unwrap();
    for zeros in [0, 1, 2, 14, 15, 122] {
        let value = [vec![0; zeros], vec![0x12, 0x34]].concat();
        assert_eq!(read(&field(false, &value)), Ok(exact), "{zeros} zeros");
    }
    let part = parse_match("tun_metadata0=0x30/0xf0", &NoPortNames).unwrap();
    for zeros in [0, 3, 15, 123] {
        let (value, mask) = ([vec![0; zeros], vec![0x30]].concat(), [vec![0; zeros], vec![0xf0]].concat());
        assert_eq!(read(&field(true, &[value, mask].concat())), Ok(part), "{zeros} zeros");
    }
    assert_eq!(read(&field(true, &[])), Ok(parse_match("tun_metadata0", &NoPortNames).unwrap()));
    assert_eq!(read(&field(false, &[])), Ok(parse_match("tun_metadata0=0", &NoPortNames).unwrap()));
}

#[test]
fn what_is_no_value_is_refused() {
    for (masked, payload, error) in [
        (false, [vec![1], vec![0; 16]].concat(), OfError::BadMatchBadValue),
        (false, vec![0; 125], OfError::BadMatchBadField),
        (true, vec![0; 3], OfError::BadMatchBadField),
        (true, vec![1, 2], OfError::BadMatchBadWildcards),
    ] {
        assert_eq!(read(&field(masked, &payload)), Err(error), "{payload:?}");
    }
    let twice = [field(true, &[]), field(false, &[5])].concat();
    assert_eq!(read(&twice), Err(OfError::BadMatchDupField));
    assert_eq!(read(&field(false, &[5])[..4]), Err(OfError::BadMatchBadLen));
    // A frame without the option is nothing that a match can ask for.
    let mut without = Match::any();
    without.set(slot::TUN_METADATA_PRESENT, 0, 1);
    assert!(encode_match(OfVersion::V10, &without, &mut Vec::new()).is_err());
}

proptest! {
    #[test]
    fn written_matches_are_read_again(value in any::<u128>(), mask in any::<u128>(), cut in 0u32..128) {
        for version in OfVersion::ALL {
            for (value, mask) in [(value >> cut, u128::MAX), (value >> cut, mask >> cut), (0, 0)] {
                let mut matching = Match::any();
                FIRST.set_condition(&mut matching, value & mask, mask);
                let mut bytes = Vec::new();
                encode_match(version, &matching, &mut bytes).unwrap();
                prop_assert_eq!(read(&bytes), Ok(matching));
                // As few bytes as there can be: the first, of the mask if there is one, is not zero.
                let masked = bytes[2] & 1 == 1;
                let first = 4 + if masked { usize::from(bytes[3]) / 2 } else { 0 };
                prop_assert!(bytes.get(first).is_none_or(|b| *b != 0));
            }
        }
    }
}
