//! Extraction against Open vSwitch: what it read from frames written by hand (`observed.txt`), and, where it is installed,
//! what it reads from random ones.

mod support;

use std::process::Command;

use packet::key::FRAG_LATER;
use packet::slot;
use packet::wire::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::{any_damaged, flow_line, key_of};

/// Where we differ, and why.
const DIFFERENT: [(&str, &str); 5] = [
    ("ver5", "a packet that says it is not IPv4 is not read as IPv4"),
    ("v6 ver4", "a packet that says it is not IPv6 is not read as IPv6"),
    ("igmp", "type and code of IGMP are no fields that a match can name"),
    ("icmp6 in v4", "ICMPv6 over IPv4 has no fields that a match can name"),
    ("v6 icmp4", "ICMP over IPv6 has no fields that a match can name"),
];

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

#[test]
fn reads_what_open_vswitch_reads() {
    let mut seen = 0;
    for line in include_str!("observed.txt").lines().filter(|l| !l.starts_with('#')) {
        let mut parts = line.split(" | ");
        let (Some(name), Some(hex), Some(flow)) = (parts.next(), parts.next(), parts.next()) else {
            panic!("bad line: {line}");
        };
        let ours = flow_line(&key_of(&unhex(hex)));
        if DIFFERENT.iter().any(|(other, _)| *other == name) {
            assert_ne!(ours, flow, "{name} is no longer different");
        } else {
            assert_eq!(ours, flow, "{name}");
        }
        seen += 1;
    }
    assert!(seen > 90, "only {seen} frames");
}

/// Whether a frame falls under [`DIFFERENT`], or under what `ovs-ofctl` prints otherwise than the fields say.
fn is_different(bytes: &[u8], flow: &str) -> bool {
    let key = key_of(bytes);
    let ethertype = key.dl_type();
    if ethertype != ETHERTYPE_IPV4 && ethertype != ETHERTYPE_IPV6 {
        // NSH is a protocol that we do not read.
        return ethertype == 0x894f;
    }
    let version = if ethertype == ETHERTYPE_IPV4 { 4 } else { 6 };
    let at = bytes.windows(2).position(|w| w == ethertype.to_be_bytes()).map(|at| at + 2);
    let lies = at.and_then(|at| bytes.get(at)).is_some_and(|b| b >> 4 != version);
    let protocol = key.get(slot::NW_PROTO) as u8;
    let odd_protocol =
        matches!(protocol, PROTO_IGMP | PROTO_ICMP | PROTO_ICMPV6) && !flow.starts_with("icmp");
    lies || odd_protocol && key.get(slot::NW_FRAG) as u8 & FRAG_LATER == 0
}

/// Needs Debian's `ovs-ofctl`, which scripts/setup installs.
#[test]
fn reads_what_the_installed_ovs_ofctl_reads() {
    let mut runner = TestRunner::new(ProptestConfig::default());
    let frames: Vec<Vec<u8>> =
        (0..20_000).map(|_| any_damaged().new_tree(&mut runner).expect("a frame").current()).collect();
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65535, 1] {
        pcap.extend(word.to_le_bytes());
    }
    for frame in &frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            pcap.extend(word.to_le_bytes());
        }
        pcap.extend(frame);
    }
    let path = std::env::temp_dir().join(format!("packet-ovs-{}.pcap", std::process::id()));
    std::fs::write(&path, pcap).expect("temporary file");
    let output = Command::new("ovs-ofctl").arg("parse-pcap").arg(&path).output().expect("ovs-ofctl");
    std::fs::remove_file(&path).expect("temporary file");
    let flows: Vec<&str> = std::str::from_utf8(&output.stdout).expect("text").lines().collect();
    assert_eq!(flows.len(), frames.len());
    let mut compared = 0;
    for (frame, flow) in frames.iter().zip(flows) {
        if is_different(frame, flow) {
            continue;
        }
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(flow_line(&key_of(frame)), flow, "{hex}");
        compared += 1;
    }
    assert!(compared > 10_000, "only {compared} compared");
}
