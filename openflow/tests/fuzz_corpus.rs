//! Replays `fuzz-corpus/` and mutations of it, so that what a fuzzer once found stays found.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use openflow::fuzz;
use proptest::prelude::*;
use std::path::Path;

fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz-corpus");
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let inputs: Vec<_> = files.map(|f| std::fs::read(f).unwrap()).collect();
    assert!(inputs.len() > 50, "the corpus is missing");
    inputs
}

#[test]
fn corpus_is_read_without_panic() {
    for input in corpus() {
        fuzz::messages(&input);
    }
}

#[test]
fn every_prefix_is_read_without_panic() {
    for input in corpus() {
        for len in 0..input.len().min(400) {
            fuzz::messages(&input[..len]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mutations_are_read_without_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local!(static CORPUS: Vec<Vec<u8>> = corpus());
        let mut input = CORPUS.with(|c| c[which.index(c.len())].clone());
        for (at, byte) in changes {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = byte;
            }
        }
        fuzz::messages(&input);
    }

    #[test]
    fn random_bytes_are_read_without_panic(kind in 0u8..40, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let len = (body.len() + 8) as u16;
        let mut input = vec![4, kind];
        input.extend(len.to_be_bytes());
        input.extend([0, 0, 0, 1]);
        input.extend(body);
        fuzz::messages(&input);
    }
}
