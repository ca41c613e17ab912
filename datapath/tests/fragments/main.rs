//! Reassembly: the rules of the RFCs, what went wrong in other switches, limits, and etherparse as a judge.

#![allow(clippy::panic, reason = "a test that cannot go on fails")]

mod bench;
mod limits;
mod moving;
mod properties;
mod rules;
mod translation;
