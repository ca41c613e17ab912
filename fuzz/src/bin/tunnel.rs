#![no_main]
//! libFuzzer target; see docs/fuzzing.md.

libfuzzer_sys::fuzz_target!(|data: &[u8]| packet::fuzz::tunnel(data));
