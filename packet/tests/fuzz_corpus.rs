//! What fuzzers found, and random bytes: nothing may panic.

use proptest::prelude::*;

#[test]
fn corpus_is_digested() {
    replay(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus"), packet::fuzz::frame);
    replay(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus/tunnel"), packet::fuzz::tunnel);
}

fn replay(folder: &str, digest: fn(&[u8])) {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect(folder) {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "bin") {
            digest(&std::fs::read(&path).expect("readable"));
            seen += 1;
        }
    }
    assert!(seen > 0, "no corpus in {folder}");
}

mod support;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_digested(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        packet::fuzz::frame(&bytes);
        packet::fuzz::tunnel(&bytes);
    }

    #[test]
    fn damaged_tunnels_are_digested(
        head in any::<[u8; 4]>(),
        (outer, _) in support::tunnel::any_push(),
        inner in support::any_damaged(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut frame = support::extracted(&inner);
        let seed = base::HashSeed::new(1, 2);
        if packet::tunnel::push(&mut frame, &outer, seed).is_ok() {
            let mut data = head.to_vec();
            data[0] = data[0] & !3 | outer.protocol as u8;
            data.extend(frame.bytes());
            for (at, byte) in damage {
                let at = at.index(data.len());
                data[at] = byte;
            }
            packet::fuzz::tunnel(&data);
        }
    }

    #[test]
    fn damaged_frames_are_digested(
        head in any::<[u8; 8]>(),
        bytes in support::any_damaged(),
        is_partial_right in any::<bool>(),
    ) {
        let mut data = head.to_vec();
        if is_partial_right {
            // As a sender would say it, so that what is behind the door is reached.
            let frame = support::extracted(&bytes);
            let offset = match frame.bytes().get(23) {
                Some(6) => 16u16,
                Some(132) => 8,
                Some(17) => 6,
                _ => 2,
            };
            data[0] |= 1;
            data[2..4].copy_from_slice(&frame.layers.l4.to_be_bytes());
            data[4..6].copy_from_slice(&offset.to_be_bytes());
            data[6] = 0;
        }
        data.extend(bytes);
        packet::fuzz::frame(&data);
    }
}
