//! Translation: addresses and ports that leave nothing to chance, so that both must choose the same.
//!
//! Errors about TCP quote its whole header: where eight bytes of it are quoted, as RFC 792 has it, Open vSwitch 3.1 writes the
//! checksum behind the end of its buffer, and ends some packets later.
//!
//! Not asked, since we differ on purpose: which port the second client gets that has the same one (we choose at random, Open
//! vSwitch takes the next); an echo under a range of ports (its identifier is translated by us); an invalid packet of a
//! translated connection (we leave it alone).

use crate::hosts::*;
use crate::{Scenario, Step, at, scenarios, state};

/// Rules that translate what port 1 opens and undo it for port 2. `$nat` is the specification of a new connection.
macro_rules! translating {
    ($family:literal, $nat:literal) => {
        &[
            "in_port=1,ip,actions=ct(table=1,nat)",
            "in_port=2,ip,actions=ct(table=1,nat)",
            "in_port=1,ipv6,actions=ct(table=1,nat)",
            "in_port=2,ipv6,actions=ct(table=1,nat)",
            concat!("table=1,", $family, ",ct_state=+new,in_port=1,actions=ct(commit,", $nat, ",table=2)"),
            "table=1,priority=5,actions=resubmit(,2)",
            concat!("table=2,in_port=1,actions=", state!(), ",output:2"),
            concat!("table=2,in_port=2,actions=", state!(), ",output:1"),
        ]
    };
}

fn dns() -> (End, End) {
    (end("10.0.0.1", 1000), end("10.0.0.2", 53))
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "snat: address",
        flows: translating!("ip", "nat(src=10.1.1.1)"),
        tells_table: true,
        says: &["2 new+trk+snat", "1 est+rpl+trk+dnat", "2 est+trk+snat", "1 rel+rpl+trk+dnat"],
        steps: || {
            let (a, b) = dns();
            let outside = end("10.1.1.1", 1000);
            let sent = udp(outside, b, b"query");
            let syn = tcp(outside, server(), "S", 100, 0, b"");
            let mut unchecked = udp(a, end("10.0.0.2", 54), b"q");
            unchecked[ETHERNET + 26..ETHERNET + 28].fill(0);
            vec![
                at(1, udp(a, b, b"query")),
                at(1, udp(a, b, b"query")),
                at(2, udp(b, outside, b"reply")),
                at(1, udp(a, b, b"query")),
                at(2, error(b.ip, outside.ip, (3, 3), &sent, 1_000)),
                at(2, error("10.9.9.9".parse().expect("an address"), outside.ip, (11, 0), &sent, 28)),
                at(1, icmp(a.ip, b.ip, (8, 0), [1, 2, 0, 1], b"ping")),
                at(2, icmp(b.ip, outside.ip, (0, 0), [1, 2, 0, 1], b"ping")),
                at(1, tcp(client(), server(), "S", 100, 0, b"")),
                at(2, tcp(server(), outside, "SA", 500, 101, b"")),
                at(1, tcp(client(), server(), "A", 101, 501, b"")),
                at(2, error(server().ip, outside.ip, (3, 4), &syn, 500)),
                at(1, unchecked),
            ]
        },
    },
    Scenario {
        name: "snat: one port",
        flows: translating!("ip", "nat(src=10.1.1.1:5000)"),
        tells_table: true,
        says: &["2 new+trk+snat", "1 est+rpl+trk+dnat"],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"")),
                at(2, udp(b, end("10.1.1.1", 5000), b"")),
                at(1, udp(a, b, b"")),
                // To another port of the server the same one is free again.
                at(1, udp(end("10.0.0.1", 1001), end("10.0.0.2", 54), b"")),
                at(1, tcp(client(), server(), "S", 100, 0, b"")),
                at(2, tcp(server(), end("10.1.1.1", 5000), "SA", 500, 101, b"")),
                at(1, tcp(client(), server(), "A", 101, 501, b"")),
            ]
        },
    },
    Scenario {
        name: "dnat: address and port",
        flows: translating!("ip", "nat(dst=10.2.2.2:8080)"),
        tells_table: true,
        says: &["2 new+trk+dnat", "1 est+rpl+trk+snat", "2 est+trk+dnat", "1 rel+rpl+trk+snat"],
        steps: || {
            let backend = end("10.2.2.2", 8080);
            let sent = tcp(client(), backend, "S", 100, 0, b"");
            vec![
                at(1, tcp(client(), server(), "S", 100, 0, b"")),
                at(2, tcp(backend, client(), "SA", 500, 101, b"")),
                at(1, tcp(client(), server(), "A", 101, 501, b"")),
                at(1, tcp(client(), server(), "PA", 101, 501, b"GET /")),
                at(2, tcp(backend, client(), "PA", 501, 106, b"200 OK")),
                at(2, error(backend.ip, client().ip, (3, 3), &sent, 500)),
                at(1, tcp(end("10.0.0.3", 1000), server(), "S", 1, 0, b"")),
                at(1, icmp(client().ip, server().ip, (8, 0), [1, 2, 0, 1], b"ping")),
                at(2, icmp(backend.ip, client().ip, (0, 0), [1, 2, 0, 1], b"ping")),
            ]
        },
    },
    Scenario {
        name: "snat and dnat in two zones",
        flows: &[
            "in_port=1,ip,actions=ct(table=1,zone=1,nat)",
            "in_port=2,ip,actions=ct(table=3,zone=2,nat)",
            "table=1,ip,ct_state=+new,actions=ct(commit,zone=1,nat(dst=10.2.2.2:8080),table=2)",
            "table=1,priority=5,ip,actions=resubmit(,2)",
            "table=2,ip,in_port=1,actions=ct(commit,zone=2,nat(src=10.1.1.1:6000),table=4)",
            "table=3,ip,actions=ct(zone=1,nat,table=4)",
            concat!("table=4,in_port=1,actions=", state!(), ",output:2"),
            concat!("table=4,in_port=2,actions=", state!(), ",output:1"),
        ],
        tells_table: true,
        says: &["2 new+trk+snat", "1 est+rpl+trk+snat", "2 est+trk+snat"],
        steps: || {
            let (backend, outside) = (end("10.2.2.2", 8080), end("10.1.1.1", 6000));
            vec![
                at(1, tcp(client(), server(), "S", 100, 0, b"")),
                at(2, tcp(backend, outside, "SA", 500, 101, b"")),
                at(1, tcp(client(), server(), "A", 101, 501, b"")),
                at(2, error(backend.ip, outside.ip, (3, 3), &tcp(outside, backend, "A", 1, 1, b""), 500)),
                at(1, tcp(client(), server(), "FA", 101, 501, b"")),
                at(2, tcp(backend, outside, "FA", 501, 102, b"")),
                at(1, tcp(client(), server(), "A", 102, 502, b"")),
            ]
        },
    },
    Scenario {
        name: "hairpin",
        flows: &[
            "in_port=1,ip,nw_dst=10.96.0.1,actions=ct(table=1,zone=1,nat)",
            "in_port=1,ip,nw_dst=10.1.1.1,actions=ct(table=3,zone=2,nat)",
            "table=1,ip,ct_state=+new,actions=ct(commit,zone=1,nat(dst=10.0.0.1:8080),table=2)",
            "table=1,priority=5,ip,actions=resubmit(,2)",
            "table=2,ip,actions=ct(commit,zone=2,nat(src=10.1.1.1),table=4)",
            "table=3,ip,actions=ct(zone=1,nat,table=4)",
            concat!("table=4,actions=", state!(), ",IN_PORT"),
        ],
        tells_table: true,
        says: &["1 new+trk+snat", "1 est+rpl+trk+snat", "1 est+trk+snat"],
        steps: || {
            let service = end("10.96.0.1", 80);
            vec![
                at(1, tcp(client(), service, "S", 100, 0, b"")),
                at(1, tcp(end("10.0.0.1", 8080), end("10.1.1.1", 1000), "SA", 500, 101, b"")),
                at(1, tcp(client(), service, "A", 101, 501, b"")),
                at(1, tcp(end("10.0.0.1", 8080), end("10.1.1.1", 1000), "PA", 501, 101, b"hello")),
            ]
        },
    },
    Scenario {
        name: "ipv6",
        flows: translating!("ipv6", "nat(src=[fd01::1]:7000)"),
        tells_table: true,
        says: &["2 new+trk+snat", "1 est+rpl+trk+dnat", "1 rel+rpl+trk+dnat"],
        steps: || {
            let (a, b, outside) = (end("fd00::1", 1), end("fd00::2", 2), end("fd01::1", 7000));
            vec![
                at(1, udp(a, b, b"query")),
                at(2, udp(b, outside, b"reply")),
                at(2, udp(b, end("fd01::1", 7001), b"reply")),
                at(2, error(b.ip, outside.ip, (1, 4), &udp(outside, b, b"query"), 1_000)),
                at(1, tcp(a, b, "S", 100, 0, b"")),
                at(2, tcp(b, outside, "SA", 500, 101, b"")),
                at(1, tcp(a, b, "PA", 101, 501, b"odd")),
            ]
        },
    },
    Scenario {
        name: "what is invalid is not translated",
        flows: translating!("ip", "nat(src=10.1.1.1)"),
        tells_table: true,
        says: &["2 inv+trk", "2 new+trk+snat"],
        steps: || {
            let syn = tcp(client(), server(), "S", 100, 0, b"");
            vec![
                at(1, damaged(syn.clone(), 36, 1)),
                at(1, tcp(client(), server(), "SA", 100, 1, b"")),
                at(1, tcp(client(), server(), "PA", 100, 1, b"in the middle")),
            ]
        },
    },
    Scenario {
        name: "nat without the option leaves the packet alone",
        flows: &[
            "in_port=1,ip,actions=ct(table=1)",
            "in_port=2,ip,actions=ct(table=1)",
            "table=1,ip,ct_state=+new,in_port=1,actions=ct(commit,nat(src=10.1.1.1),table=2)",
            "table=1,priority=5,actions=resubmit(,2)",
            concat!("table=2,in_port=1,actions=", state!(), ",output:2"),
            concat!("table=2,in_port=2,actions=", state!(), ",output:1"),
        ],
        tells_table: true,
        says: &["2 new+trk+snat", "1 est+rpl+trk"],
        steps: || {
            let (a, b) = dns();
            vec![at(1, udp(a, b, b"")), at(2, udp(b, end("10.1.1.1", 1000), b"")), at(1, udp(a, b, b""))]
        },
    },
    Scenario {
        name: "fragments are translated",
        flows: translating!("ip", "nat(src=10.1.1.1:9000)"),
        tells_table: true,
        says: &["2 new+trk+snat", "1 est+rpl+trk+dnat"],
        steps: || {
            let (a, b) = dns();
            let query = udp(a, b, &[0x5a; 3_072]);
            let reply = udp(b, end("10.1.1.1", 9000), &[0xa5; 2_500]);
            let mut pieces = fragments(&query, 1_200, 77);
            pieces.reverse();
            vec![
                Step::Frames(1, pieces),
                Step::Frames(2, fragments(&reply, 1_304, 9)),
                Step::Frames(1, fragments(&query, 1_400, 78)),
            ]
        },
    },
    Scenario {
        // Without translation: on dummy ports Open vSwitch has no room to make a packet longer, and sends it as it is.
        name: "ftp, active",
        flows: &[
            "tcp,actions=ct(table=1)",
            concat!(
                "table=1,priority=9,tcp,ct_state=+new-rel,in_port=1,actions=",
                state!(),
                ",ct(commit,alg=ftp),output:2"
            ),
            concat!(
                "table=1,priority=8,tcp,ct_state=+new+rel,in_port=2,actions=",
                state!(),
                ",ct(commit),output:1"
            ),
            concat!("table=1,priority=5,in_port=1,actions=", state!(), ",output:2"),
            concat!("table=1,priority=5,in_port=2,actions=", state!(), ",output:1"),
        ],
        tells_table: true,
        says: &["1 new+rel+trk", "2 est+rel+rpl+trk", "1 new+trk"],
        steps: || {
            let (ftp, data) = (end("10.0.0.2", 21), end("10.0.0.1", 20 * 256 + 30));
            let source = end("10.0.0.2", 20);
            vec![
                at(1, tcp(client(), ftp, "S", 100, 0, b"")),
                at(2, tcp(ftp, client(), "SA", 500, 101, b"")),
                at(1, tcp(client(), ftp, "A", 101, 501, b"")),
                at(1, tcp(client(), ftp, "PA", 101, 501, b"PORT 10,0,0,1,20,30\r\n")),
                at(2, tcp(source, end("10.0.0.1", 7), "S", 9_000, 0, b"")),
                at(2, tcp(source, data, "S", 9_000, 0, b"")),
                at(1, tcp(data, source, "SA", 1, 9_001, b"")),
                at(2, tcp(source, data, "A", 9_001, 2, b"")),
            ]
        },
    },
    Scenario {
        name: "ftp, passive",
        flows: &[
            "tcp,actions=ct(table=1)",
            concat!(
                "table=1,priority=9,tcp,ct_state=+new-rel,tp_dst=21,in_port=1,actions=",
                state!(),
                ",ct(commit,alg=ftp),output:2"
            ),
            concat!(
                "table=1,priority=8,tcp,ct_state=+new+rel,in_port=1,actions=",
                state!(),
                ",ct(commit),output:2"
            ),
            concat!("table=1,priority=5,in_port=1,actions=", state!(), ",output:2"),
            concat!("table=1,priority=5,in_port=2,actions=", state!(), ",output:1"),
        ],
        tells_table: true,
        says: &["2 new+rel+trk", "1 est+rel+rpl+trk", "2 new+trk"],
        steps: || {
            let (ftp, data) = (end("10.0.0.2", 21), end("10.0.0.2", 40 * 256 + 50));
            let said = b"227 Entering Passive Mode (10,0,0,2,40,50)\r\n";
            vec![
                at(1, tcp(client(), ftp, "S", 100, 0, b"")),
                at(2, tcp(ftp, client(), "SA", 500, 101, b"")),
                at(1, tcp(client(), ftp, "A", 101, 501, b"")),
                at(2, tcp(ftp, client(), "PA", 501, 101, said)),
                at(1, tcp(end("10.0.0.1", 1001), data, "S", 9_000, 0, b"")),
                at(2, tcp(data, end("10.0.0.1", 1001), "SA", 7_000, 9_001, b"")),
            ]
        },
    },
];

scenarios! {
    snat_address: "snat: address";
    snat_one_port: "snat: one port";
    dnat_address_and_port: "dnat: address and port";
    two_zones: "snat and dnat in two zones";
    hairpin: "hairpin";
    ipv6_source: "ipv6";
    invalid: "what is invalid is not translated";
    without_the_option: "nat without the option leaves the packet alone";
    translated_fragments: "fragments are translated";
    ftp_active: "ftp, active";
    ftp_passive: "ftp, passive";
}
