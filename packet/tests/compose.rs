//! A frame made from a key has that key.

mod support;

use packet::wire::*;
use packet::{FrameBuilder, PacketKey, compose, slot};
use proptest::prelude::*;
use support::{any_builder, any_damaged, extracted, key_of};

/// The key that extraction is to find: a built frame came in on no port, and a VLAN tag of TCI 0 is a tag.
fn expected(key: &PacketKey) -> PacketKey {
    let mut key = *key;
    key.set_in_port(packet::DpPort::NONE);
    key
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn extraction_finds_the_fields_that_were_set(builder in any_builder()) {
        prop_assert_eq!(key_of(&builder.build()), expected(builder.key()));
    }

    #[test]
    fn compose_and_extract_are_inverse(builder in any_builder(), payload_len in 0usize..200) {
        let frame = compose(builder.key(), payload_len);
        prop_assert_eq!(key_of(&frame), expected(builder.key()));
    }

    /// Also for what extraction finds in damaged frames, as long as their headers are whole.
    #[test]
    fn any_extracted_key_can_be_composed(bytes in any_damaged()) {
        let key = key_of(&bytes);
        let again = key_of(&compose(&key, 0));
        for field in slot::ALL {
            prop_assert_eq!(again.get(*field), key.get(*field), "{:?}", field);
        }
    }

    #[test]
    fn built_frames_have_right_checksums(builder in any_builder()) {
        let frame = extracted(&builder.build());
        prop_assert!(frame.verify_ipv4_header());
        prop_assert!(frame.verify_transport());
    }
}

#[test]
fn payload_longer_than_an_ip_packet_is_cut() {
    let frame = FrameBuilder::udp4((1, 2), (3, 4)).payload(&vec![0; 70_000]).build();
    assert_eq!(frame.len(), 14 + 65_535);
    assert!(extracted(&frame).verify_transport());
    let frame = FrameBuilder::tcp6((1, 2), (3, 4), 0).payload(&vec![0; 70_000]).build();
    assert_eq!(frame.len(), 14 + 40 + 65_535);
}

/// etherparse, which knows nothing of this crate, reads the same.
#[test]
fn builder_agrees_with_etherparse() {
    let ours = FrameBuilder::tcp4((0x0a00_0001, 1000), (0x0a00_0002, 80), 0x12)
        .macs(0x0a, 0x0b)
        .tcp_numbers(7, 9)
        .payload(b"hello");
    let theirs = etherparse::PacketBuilder::ethernet2([0, 0, 0, 0, 0, 0x0a], [0, 0, 0, 0, 0, 0x0b])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1000, 80, 7, 65535)
        .syn()
        .ack(9);
    let mut bytes = Vec::new();
    theirs.write(&mut bytes, b"hello").unwrap();
    // etherparse sets "don't fragment"; the rest is to be the same, but for the header checksum.
    bytes[20] = 0;
    let mut ours = ours.build();
    ours[24..26].copy_from_slice(&[0; 2]);
    bytes[24..26].copy_from_slice(&[0; 2]);
    assert_eq!(ours, bytes);
    assert_eq!(ETHERNET_LEN + IPV4_LEN + 20 + 5, bytes.len());
}
