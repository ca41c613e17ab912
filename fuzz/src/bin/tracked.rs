#![no_main]
//! libFuzzer target; see docs/fuzzing.md.

libfuzzer_sys::fuzz_target!(|data: &[u8]| datapath::conntrack::fuzz::packets(data));
