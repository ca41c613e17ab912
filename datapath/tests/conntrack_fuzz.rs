//! The entries for fuzzers, with random bytes and with bytes that look like something.

use datapath::conntrack::fuzz;
use proptest::prelude::*;

fn replay(folder: &str, digest: fn(&[u8])) {
    let folder = format!("{}/fuzz-corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus") {
        digest(&std::fs::read(entry.expect("a file").path()).expect("a file"));
        seen += 1;
    }
    assert!(seen > 0, "no corpus in {folder}");
}

#[test]
fn corpora_are_digested() {
    replay("announcements", fuzz::announcement);
    replay("tracked", fuzz::packets);
}

/// Control lines put together from what they are made of.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("PORT ".to_owned()),
        Just("EPRT ".to_owned()),
        Just("227 ".to_owned()),
        Just("229 (".to_owned()),
        Just("|".to_owned()),
        Just("|||".to_owned()),
        Just(",".to_owned()),
        Just(")".to_owned()),
        Just("\r\n".to_owned()),
        (0u32..300).prop_map(|n| n.to_string()),
        Just("10,0,0,1,".to_owned()),
        Just("|1|10.0.0.1|".to_owned()),
        Just("|2|2001:db8::1|".to_owned()),
        "[ -~]{0,8}",
    ];
    proptest::collection::vec(word, 0..12).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn announcements(line in prop_oneof![line(), proptest::collection::vec(any::<u8>(), 0..600)]) {
        fuzz::announcement(&line);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn sequences_of_packets(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        fuzz::packets(&bytes);
    }

    /// With control lines as payloads, and few different ends.
    #[test]
    fn sequences_with_control_lines(
        steps in proptest::collection::vec((any::<[u8; 8]>(), line()), 1..40)
    ) {
        let mut bytes = Vec::new();
        for (mut step, line) in steps {
            step[0] &= 0xf9;
            step[3] = step[3] & 0xc0 | line.len().min(63) as u8;
            step[4] |= 0x20;
            bytes.extend(step);
            bytes.extend(&line[..line.len().min(63)]);
        }
        fuzz::packets(&bytes);
    }
}
