//! States of connections: TCP, UDP, ICMP, errors, other protocols; zones, marks, force, clear; fragments.

use crate::hosts::*;
use crate::{PLAIN, Scenario, Step, at, scenarios, state};

/// Client to server, and back.
fn c(flags: &str, seq: u32, ack: u32, payload: &[u8]) -> Step {
    at(1, tcp(client(), server(), flags, seq, ack, payload))
}

fn s(flags: &str, seq: u32, ack: u32, payload: &[u8]) -> Step {
    at(2, tcp(server(), client(), flags, seq, ack, payload))
}

/// A handshake from 100 and 500.
fn open() -> Vec<Step> {
    vec![c("S", 100, 0, b""), s("SA", 500, 101, b""), c("A", 101, 501, b"")]
}

fn opened(more: Vec<Step>) -> Vec<Step> {
    let mut steps = open();
    steps.extend(more);
    steps
}

fn dns() -> (End, End) {
    (end("10.0.0.1", 4000), end("10.0.0.2", 53))
}

fn echo(is_reply: bool, id: u8) -> Step {
    let (from, to) = if is_reply { (server(), client()) } else { (client(), server()) };
    let kind = if is_reply { 0 } else { 8 };
    at(if is_reply { 2 } else { 1 }, icmp(from.ip, to.ip, (kind, 0), [0x12, id, 0, 1], b"ping"))
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tcp: open, talk, close, open again",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk", "2 est+trk"],
        steps: || {
            opened(vec![
                c("PA", 101, 501, b"0123456789"),
                s("A", 501, 111, b""),
                s("PA", 501, 111, b"abcde"),
                c("A", 111, 506, b""),
                Step::Run("ovs-appctl dpctl/ct-stats-show"),
                Step::Run("ovs-appctl dpctl/ct-stats-show -m"),
                c("FA", 111, 506, b""),
                s("A", 506, 112, b""),
                s("FA", 506, 112, b""),
                c("A", 112, 507, b""),
                c("A", 112, 507, b""),
                c("S", 10_000, 0, b""),
                s("SA", 9_000, 10_001, b""),
                c("A", 10_001, 9_001, b""),
            ])
        },
    },
    Scenario {
        name: "tcp: the server closes first",
        flows: PLAIN,
        tells_table: true,
        says: &["1 est+rpl+trk"],
        steps: || {
            opened(vec![
                s("FA", 501, 101, b""),
                c("A", 101, 502, b""),
                c("PA", 101, 502, b"late"),
                s("A", 502, 105, b""),
                c("FA", 105, 502, b""),
                s("A", 502, 106, b""),
                c("S", 900, 0, b""),
            ])
        },
    },
    Scenario {
        name: "tcp: retransmissions",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "2 inv+trk"],
        steps: || {
            vec![
                c("S", 100, 0, b""),
                c("S", 100, 0, b""),
                s("SA", 500, 101, b""),
                s("SA", 500, 101, b""),
                c("S", 100, 0, b""),
                c("A", 101, 501, b""),
                c("S", 100, 0, b""),
                c("S", 77_777, 0, b""),
                s("SA", 500, 101, b""),
                c("PA", 101, 501, b"xyz"),
                c("PA", 101, 501, b"xyz"),
                s("A", 501, 104, b""),
                c("PA", 101, 501, b"xyz"),
            ]
        },
    },
    Scenario {
        name: "tcp: refused, and tried again",
        flows: PLAIN,
        tells_table: true,
        says: &["1 est+rpl+trk", "2 new+trk"],
        steps: || {
            vec![
                c("S", 100, 0, b""),
                s("RA", 0, 101, b""),
                c("S", 200, 0, b""),
                s("SA", 500, 201, b""),
                c("A", 201, 501, b""),
            ]
        },
    },
    Scenario {
        name: "tcp: reset",
        flows: PLAIN,
        tells_table: true,
        says: &["2 inv+trk", "1 inv+trk", "2 est+trk"],
        steps: || {
            opened(vec![
                c("R", 200_101, 0, b""),
                s("R", 200_501, 0, b""),
                c("R", 101, 0, b""),
                s("A", 501, 101, b""),
                c("S", 5_000, 0, b""),
                s("SA", 6_000, 5_001, b""),
            ])
        },
    },
    Scenario {
        name: "tcp: outside the window",
        flows: PLAIN,
        tells_table: true,
        says: &["2 inv+trk", "2 est+trk"],
        steps: || {
            opened(vec![
                c("PA", 200_101, 501, b"x"),
                c("A", 101, 200_501, b""),
                c("A", 100, 501, b""),
                c("A", 0xfff0_0000, 501, b""),
                s("PA", 501 + 70_000, 101, b"x"),
                s("A", 501, 101 + 70_000, b""),
                c("PA", 101, 501, b"x"),
            ])
        },
    },
    Scenario {
        name: "tcp: sequence numbers unchecked",
        flows: PLAIN,
        tells_table: true,
        says: &["2 est+trk"],
        steps: || {
            let mut steps = vec![
                Step::Run("ovs-appctl dpctl/ct-get-tcp-seq-chk"),
                Step::Run("ovs-appctl dpctl/ct-disable-tcp-seq-chk"),
                Step::Run("ovs-appctl dpctl/ct-get-tcp-seq-chk"),
            ];
            steps.extend(opened(vec![
                c("PA", 200_101, 501, b"x"),
                s("A", 501, 101 + 70_000, b""),
                c("R", 400_101, 0, b""),
                Step::Run("ovs-appctl dpctl/ct-enable-tcp-seq-chk"),
            ]));
            steps
        },
    },
    Scenario {
        name: "tcp: picked up in the middle",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk", "2 est+trk"],
        steps: || {
            vec![
                c("PA", 101, 501, b"hello"),
                s("PA", 501, 106, b"abc"),
                c("A", 106, 504, b""),
                c("PA", 106, 504, b"hi"),
                s("FA", 504, 108, b""),
                c("FA", 108, 505, b""),
                s("A", 505, 109, b""),
            ]
        },
    },
    Scenario {
        name: "tcp: what opens no connection, and what does",
        flows: PLAIN,
        tells_table: true,
        says: &["2 inv+trk", "2 new+trk"],
        steps: || {
            let flags =
                ["", "SF", "SR", "FR", "FSRPAU", "U", "P", "SA", "F", "SEC", "PA", "FA", "RA", "R", "FPU"];
            // Each on a connection of its own.
            let each = flags
                .iter()
                .zip(2000..)
                .map(|(flags, port)| at(1, tcp(end("10.0.0.1", port), server(), flags, 101, 5, b"")));
            each.collect()
        },
    },
    Scenario {
        name: "tcp: impossible flags on a connection",
        flows: PLAIN,
        tells_table: true,
        says: &["2 inv+trk"],
        steps: || {
            let flags = ["", "SF", "SR", "FR", "FSRPAU", "U", "P", "FPU", "F"];
            opened(flags.iter().map(|flags| c(flags, 101, 501, b"")).collect())
        },
    },
    Scenario {
        name: "tcp: not committed",
        flows: &[
            "priority=10,ip,actions=ct(table=1)",
            concat!("table=1,in_port=1,actions=", state!(), ",output:2"),
            concat!("table=1,in_port=2,actions=", state!(), ",output:1"),
        ],
        tells_table: true,
        says: &["2 new+trk", "1 inv+trk"],
        steps: || opened(vec![c("PA", 101, 501, b"x"), s("A", 501, 102, b"")]),
    },
    Scenario {
        name: "udp",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk", "2 est+trk", "2 inv+trk"],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"q")),
                at(1, udp(a, b, b"q")),
                at(2, udp(b, a, b"r")),
                at(1, udp(a, b, b"q")),
                at(2, udp(b, a, b"r")),
                // A wrong checksum, and another port.
                at(1, damaged(udp(a, b, b"q"), 28, 1)),
                at(2, udp(b, end("10.0.0.1", 4001), b"r")),
                at(1, udp(end("10.0.0.1", 0), b, b"")),
                Step::Run("ovs-appctl dpctl/ct-stats-show"),
            ]
        },
    },
    Scenario {
        name: "icmp",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk", "2 est+trk", "1 inv+trk", "2 inv+trk"],
        steps: || {
            let (a, b) = (client().ip, server().ip);
            let mut steps =
                vec![echo(false, 1), echo(false, 1), echo(true, 1), echo(false, 1), echo(true, 2)];
            // Timestamps, and what has no reply.
            for kind in [13, 10, 17, 40, 0, 9] {
                steps.push(at(1, icmp(a, b, (kind, 0), [5, kind, 0, 1], b"")));
            }
            steps.push(at(2, icmp(b, a, (14, 0), [5, 13, 0, 1], b"")));
            steps.push(at(1, damaged(icmp(a, b, (8, 0), [9, 9, 0, 1], b"ping"), 28, 1)));
            steps.push(Step::Run("ovs-appctl dpctl/ct-stats-show"));
            steps
        },
    },
    Scenario {
        name: "icmp errors",
        flows: PLAIN,
        tells_table: true,
        says: &["1 rel+rpl+trk", "2 rel+trk", "1 inv+trk"],
        steps: || {
            let (a, b) = dns();
            let router = "10.9.9.9".parse().expect("an address");
            let (query, reply) = (udp(a, b, b"query"), udp(b, a, b"reply"));
            let syn = tcp(client(), server(), "S", 100, 0, b"");
            vec![
                at(1, query.clone()),
                at(2, error(b.ip, a.ip, (3, 3), &query, 28)),
                at(2, error(router, a.ip, (11, 0), &query, 500)),
                at(1, error(a.ip, b.ip, (3, 3), &reply, 28)),
                at(2, error(b.ip, a.ip, (5, 1), &query, 28)),
                at(2, error(b.ip, a.ip, (12, 0), &query, 28)),
                at(2, error(b.ip, a.ip, (4, 0), &query, 28)),
                // About something unknown, cut off, and damaged.
                at(2, error(b.ip, a.ip, (3, 3), &udp(end("10.0.0.1", 7777), b, b""), 28)),
                at(2, error(b.ip, a.ip, (3, 3), &query, 20)),
                at(2, error(b.ip, a.ip, (3, 3), &query, 24)),
                at(2, damaged(error(b.ip, a.ip, (3, 3), &query, 28), 22, 1)),
                // About TCP, of which eight bytes are enough, and about an echo.
                at(1, syn.clone()),
                at(2, error(server().ip, client().ip, (3, 1), &syn, 28)),
                at(2, error(router, client().ip, (3, 4), &syn, 500)),
                c("S", 100, 0, b""),
                echo(false, 1),
                at(2, error(router, a.ip, (11, 0), &icmp(a.ip, b.ip, (8, 0), [0x12, 1, 0, 1], b"ping"), 28)),
            ]
        },
    },
    Scenario {
        name: "ipv6",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk", "1 rel+rpl+trk", "2 inv+trk"],
        steps: || {
            let (a, b, router) = (end("fd00::1", 1000), end("fd00::2", 80), end("fd00::9", 0));
            let query = udp(a, b, b"query");
            let ping = icmp(a.ip, b.ip, (128, 0), [1, 2, 0, 1], b"ping");
            let mut unchecked = query.clone();
            unchecked[ETHERNET + 46..ETHERNET + 48].fill(0);
            vec![
                at(1, tcp(a, b, "S", 100, 0, b"")),
                at(2, tcp(b, a, "SA", 500, 101, b"")),
                at(1, tcp(a, b, "A", 101, 501, b"")),
                at(1, query.clone()),
                at(2, udp(b, a, b"reply")),
                at(1, unchecked),
                at(1, ping.clone()),
                at(2, icmp(b.ip, a.ip, (129, 0), [1, 2, 0, 1], b"ping")),
                at(2, error(b.ip, a.ip, (1, 4), &query, 1_000)),
                at(2, error(router.ip, a.ip, (2, 0), &query, 1_000)),
                at(2, error(router.ip, a.ip, (3, 0), &ping, 1_000)),
                at(2, error(router.ip, a.ip, (1, 0), &udp(a, end("fd00::77", 5), b""), 1_000)),
                // Neighbour discovery is nobody's connection.
                at(1, icmp(a.ip, b.ip, (135, 0), [0; 4], &[0xfd; 16])),
                at(2, icmp(b.ip, a.ip, (136, 0), [0; 4], &[0xfd; 16])),
                at(1, icmp(a.ip, b.ip, (133, 0), [0; 4], b"")),
            ]
        },
    },
    Scenario {
        name: "other protocols",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk"],
        steps: || {
            let (a, b) = (client().ip, server().ip);
            vec![
                at(1, raw(a, b, 47, &[0; 8])),
                at(1, raw(a, b, 47, &[0; 8])),
                at(2, raw(b, a, 47, &[0; 8])),
                at(1, raw(a, b, 47, &[0; 8])),
                at(1, raw(a, b, 50, &[0; 8])),
                at(1, raw(a, b, 255, b"")),
                Step::Run("ovs-appctl dpctl/ct-stats-show"),
            ]
        },
    },
    Scenario {
        name: "sctp: one association",
        flows: PLAIN,
        // Open vSwitch has no ports and no states of SCTP.
        tells_table: false,
        says: &["2 new+trk", "1 est+rpl+trk", "2 est+trk"],
        steps: || {
            let (a, b) = (client(), server());
            vec![
                at(1, sctp(a, b, 0, 1, &[0, 0, 0, 1, 0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1])),
                at(2, sctp(b, a, 1, 2, &[0, 0, 0, 2, 0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1])),
                at(1, sctp(a, b, 2, 10, b"cook")),
                at(2, sctp(b, a, 1, 11, b"")),
                at(1, sctp(a, b, 2, 0, &[0; 16])),
                at(2, sctp(b, a, 1, 3, &[0; 12])),
            ]
        },
    },
    Scenario {
        name: "bad input",
        flows: PLAIN,
        tells_table: true,
        says: &["2 inv+trk", "2 new+trk"],
        steps: || {
            let (a, b) = dns();
            let syn = tcp(client(), server(), "S", 100, 0, b"");
            let datagram = udp(a, b, b"abc");
            let length = |len: u8| damaged(datagram.clone(), 25, 11 ^ len);
            let offset = |words: u8| damaged(syn.clone(), 32, 0x50 ^ words << 4);
            vec![
                at(1, damaged(syn.clone(), 10, 0x11)),
                at(1, cut(&syn, 30)),
                at(1, cut(&datagram, 24)),
                at(1, length(100)),
                at(1, length(7)),
                at(1, offset(15)),
                at(1, offset(4)),
                at(1, cut(&icmp(a.ip, b.ip, (8, 0), [0; 4], b""), 24)),
                at(1, damaged(syn.clone(), 36, 1)),
                at(1, [&syn[..], &[0; 100]].concat()),
                at(1, tcp(end("10.0.0.1", 0), end("10.0.0.2", 0), "S", 1, 0, b"")),
                at(1, tcp(client(), client(), "S", 1, 0, b"")),
                at(1, tcp(client(), client(), "S", 1, 0, b"")),
                at(1, udp(a, end("255.255.255.255", 9), b"")),
                at(1, udp(a, end("0.0.0.0", 9), b"")),
            ]
        },
    },
    Scenario {
        name: "zones",
        flows: &[
            "in_port=1,ip,actions=ct(zone=5,table=1)",
            "in_port=2,ip,actions=ct(zone=6,table=1)",
            "in_port=3,ip,actions=load:5->NXM_NX_REG0[0..15],ct(zone=NXM_NX_REG0[0..15],table=1)",
            concat!("table=1,ip,ct_state=+new,in_port=1,actions=", state!(), ",ct(commit,zone=5),output:2"),
            concat!("table=1,priority=9,ct_zone=5,actions=", state!(), ",output:4"),
            concat!("table=1,priority=5,actions=", state!(), ",output:3"),
        ],
        tells_table: true,
        says: &["2 new+trk", "3 inv+trk", "4 est+rpl+trk"],
        steps: || {
            vec![
                c("S", 100, 0, b""),
                s("SA", 500, 101, b""),
                at(3, tcp(server(), client(), "SA", 500, 101, b"")),
                c("A", 101, 501, b""),
                Step::Run("ovs-appctl dpctl/dump-conntrack"),
                Step::Run("ovs-appctl dpctl/dump-conntrack zone=5"),
                Step::Run("ovs-appctl dpctl/dump-conntrack zone=6"),
                Step::Run("ovs-appctl dpctl/ct-stats-show zone=5"),
                Step::Run("ovs-appctl dpctl/ct-stats-show zone=6"),
                Step::Run("ovs-appctl dpctl/flush-conntrack zone=6"),
                Step::Run("ovs-appctl dpctl/ct-get-nconns"),
                Step::Run("ovs-appctl dpctl/flush-conntrack zone=5"),
                Step::Run("ovs-appctl dpctl/ct-get-nconns"),
            ]
        },
    },
    Scenario {
        name: "state after a commit, after recirculation, after ct_clear",
        flows: &[
            concat!("in_port=1,udp,actions=ct(commit,zone=1),ct(commit,zone=2),", state!(), ",output:2"),
            "in_port=2,udp,actions=ct(commit,zone=3,table=1)",
            "in_port=3,udp,actions=ct(zone=2,table=2)",
            concat!("in_port=4,udp,actions=", state!(), ",output:1"),
            concat!("table=1,actions=", state!(), ",output:1"),
            concat!("table=2,actions=", state!(), ",output:2,ct_clear,", state!(), ",output:4,resubmit(,3)"),
            concat!("table=3,ct_state=-trk,actions=", state!(), ",output:1"),
        ],
        tells_table: true,
        says: &["2 none", "1 new+trk", "2 new+trk", "2 est+rpl+trk", "4 none", "1 none"],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"")),
                at(1, udp(a, b, b"")),
                at(2, udp(a, b, b"")),
                at(2, udp(b, a, b"")),
                at(3, udp(a, b, b"")),
                at(3, udp(b, a, b"")),
                at(4, udp(a, b, b"")),
            ]
        },
    },
    Scenario {
        name: "marks and labels",
        flows: &[
            "priority=1,ip,actions=ct(table=1)",
            "table=1,priority=9,ip,ct_state=+new,in_port=1,actions=ct(commit,exec(set_field:0x2a->ct_mark,set_field:0x123456789abcdef0fedcba9876543210->ct_label)),move:NXM_NX_CT_MARK[]->NXM_OF_ETH_SRC[0..31],output:2",
            "table=1,priority=8,ip,ct_state=+rpl,ct_mark=0x2a,ct_label=0x10/0xff,actions=move:NXM_NX_CT_LABEL[96..127]->NXM_OF_ETH_SRC[0..31],ct(commit,exec(set_field:0x100/0xf00->ct_mark,load:0x7->NXM_NX_CT_LABEL[64..71])),output:1",
            "table=1,priority=5,actions=move:NXM_NX_CT_MARK[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_LABEL[64..95]->NXM_OF_ETH_DST[0..31],output:3",
        ],
        tells_table: true,
        says: &[],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"")),
                at(1, udp(a, b, b"")),
                at(2, udp(b, a, b"")),
                at(2, udp(b, a, b"")),
                at(1, udp(a, b, b"")),
                Step::Run("ovs-appctl dpctl/dump-conntrack"),
            ]
        },
    },
    Scenario {
        name: "force",
        flows: &[
            "priority=1,ip,actions=ct(table=1)",
            concat!(
                "table=1,priority=9,ip,ct_state=+new,in_port=1,actions=",
                state!(),
                ",ct(commit),output:2"
            ),
            concat!(
                "table=1,priority=5,ip,in_port=2,actions=",
                state!(),
                ",ct(force,commit,exec(set_field:7->ct_mark)),output:1"
            ),
            concat!("table=1,priority=1,actions=", state!(), ",output:2"),
        ],
        tells_table: true,
        says: &["1 est+rpl+trk", "2 est+rpl+trk", "1 est+trk"],
        steps: || {
            let (a, b) = dns();
            vec![at(1, udp(a, b, b"")), at(2, udp(b, a, b"")), at(1, udp(a, b, b"")), at(2, udp(b, a, b""))]
        },
    },
    Scenario {
        name: "the original tuple",
        flows: &[
            "priority=1,ip,actions=ct(table=1)",
            "table=1,priority=9,ip,ct_state=+new,in_port=1,actions=ct(commit),output:2",
            "table=1,priority=8,ip,ct_state=+rpl+est,ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=4000,ct_tp_dst=53,actions=move:NXM_NX_CT_NW_SRC[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_NW_DST[]->NXM_OF_ETH_DST[0..31],output:1",
            "table=1,priority=7,ip,ct_state=+rpl+est,actions=move:NXM_NX_CT_NW_SRC[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_NW_DST[]->NXM_OF_ETH_DST[0..31],output:3",
            "table=1,priority=1,actions=output:4",
        ],
        tells_table: true,
        says: &[],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"")),
                at(2, udp(b, a, b"")),
                at(1, udp(a, b, b"")),
                at(1, udp(client(), server(), b"")),
                at(2, udp(server(), client(), b"")),
            ]
        },
    },
    Scenario {
        name: "time-outs",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "2 est+trk"],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"")),
                c("S", 100, 0, b""),
                echo(false, 1),
                Step::Wait(10),
                Step::Wait(15),
                at(1, udp(a, b, b"")),
                at(2, udp(b, a, b"")),
                Step::Wait(15),
                at(1, udp(a, b, b"")),
                Step::Wait(25),
                s("SA", 500, 101, b""),
                at(1, udp(a, b, b"")),
                Step::Wait(40),
                at(1, udp(a, b, b"")),
                echo(true, 1),
                Step::Wait(100),
            ]
        },
    },
    Scenario {
        name: "limits",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk"],
        steps: || {
            let to = |port| at(1, udp(end("10.0.0.1", port), server(), b""));
            vec![
                Step::Run("ovs-appctl dpctl/ct-get-maxconns"),
                Step::Run("ovs-appctl dpctl/ct-get-limits"),
                Step::Run("ovs-appctl dpctl/ct-set-limits zone=0,limit=1"),
                to(1),
                // Answered, or ours would give it up for the next one.
                at(2, udp(server(), end("10.0.0.1", 1), b"")),
                to(2),
                to(1),
                Step::Run("ovs-appctl dpctl/ct-get-limits"),
                Step::Run("ovs-appctl dpctl/ct-get-limits zone=0,9"),
                Step::Run("ovs-appctl dpctl/ct-set-limits default=10 zone=2,limit=7 zone=3,limit=1"),
                Step::Run("ovs-appctl dpctl/ct-get-limits"),
                Step::Run("ovs-appctl dpctl/ct-del-limits zone=0,2,3"),
                Step::Run("ovs-appctl dpctl/ct-get-limits"),
                to(2),
                Step::Run("ovs-appctl dpctl/ct-get-nconns"),
                Step::Run("ovs-appctl dpctl/ct-set-limits zone=70000,limit=1"),
                Step::Run("ovs-appctl dpctl/ct-set-limits foo"),
                Step::Run("ovs-appctl dpctl/ct-set-limits"),
                Step::Run("ovs-appctl dpctl/ct-del-limits default"),
                Step::Run("ovs-appctl dpctl/ct-set-maxconns x"),
                Step::Run("ovs-appctl dpctl/ct-set-maxconns"),
                Step::Run("ovs-appctl dpctl/dump-conntrack zone=x"),
            ]
        },
    },
    Scenario {
        name: "flushing one connection",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk"],
        steps: || {
            let (a, b) = dns();
            vec![
                at(1, udp(a, b, b"")),
                c("S", 100, 0, b""),
                echo(false, 1),
                Step::Run(
                    "ovs-appctl dpctl/flush-conntrack 'ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=4000,ct_tp_dst=53'",
                ),
                Step::Run(
                    "ovs-appctl dpctl/flush-conntrack 'ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=4000,ct_tp_dst=53'",
                ),
                Step::Run(
                    "ovs-appctl dpctl/flush-conntrack zone=0 'ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=1,icmp_id=4609,icmp_type=8,icmp_code=0'",
                ),
                Step::Run("ovs-appctl dpctl/flush-conntrack x"),
                Step::Run("ovs-appctl dpctl/flush-conntrack 'ct_nw_src=foo'"),
                c("S", 100, 0, b""),
                Step::Run("ovs-appctl dpctl/flush-conntrack"),
            ]
        },
    },
    Scenario {
        name: "packet-outs",
        flows: &[
            "ip,actions=ct(table=1)",
            concat!("table=1,priority=10,ip,ct_state=+new,actions=", state!(), ",ct(commit),output:2"),
            concat!("table=1,priority=9,ip,in_port=2,actions=", state!(), ",output:1"),
            concat!("table=1,priority=5,actions=", state!(), ",output:2"),
        ],
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk", "2 est+trk"],
        steps: || {
            // A query of the client's, from a port and from nowhere.
            macro_rules! sent {
                ($from:literal, $actions:literal) => {
                    Step::Run(concat!(
                        "ovs-ofctl packet-out br0 in_port=",
                        $from,
                        ",packet=02000000000202000000000108004500002100010000401166c90a0000010a0000020fa00035000d8c147175657279,actions=",
                        $actions
                    ))
                };
            }
            let (a, b) = dns();
            vec![
                sent!("CONTROLLER", "ct(table=1)"),
                sent!("CONTROLLER", "resubmit(,0)"),
                sent!("p1", "ct(table=1)"),
                at(2, udp(b, a, b"reply")),
                sent!("CONTROLLER", "ct(table=1)"),
                sent!("p1", "resubmit(,0)"),
            ]
        },
    },
    Scenario {
        name: "fragments",
        flows: PLAIN,
        tells_table: true,
        says: &["2 new+trk", "1 est+rpl+trk"],
        steps: || {
            let (a, b) = dns();
            let (query, reply) = (udp(a, b, &[0x5a; 3_072]), udp(b, a, &[0xa5; 2_500]));
            let [q0, q1, q2] = [0, 1, 2].map(|i| fragments(&query, 1_200, 77)[i].clone());
            vec![
                at(1, q0.clone()),
                at(1, q1.clone()),
                at(1, q2.clone()),
                // In disorder, all at once. Padding would be sent by Open vSwitch, and is not by us.
                Step::Frames(1, vec![q2, q0, q1]),
                Step::Frames(2, fragments(&reply, 1_304, 9)),
            ]
        },
    },
];

scenarios! {
    tcp_open_talk_close: "tcp: open, talk, close, open again";
    tcp_server_closes: "tcp: the server closes first";
    tcp_retransmissions: "tcp: retransmissions";
    tcp_refused: "tcp: refused, and tried again";
    tcp_reset: "tcp: reset";
    tcp_outside_the_window: "tcp: outside the window";
    tcp_unchecked: "tcp: sequence numbers unchecked";
    tcp_picked_up: "tcp: picked up in the middle";
    tcp_first_packets: "tcp: what opens no connection, and what does";
    tcp_impossible_flags: "tcp: impossible flags on a connection";
    tcp_not_committed: "tcp: not committed";
    udp_datagrams: "udp";
    icmp_messages: "icmp";
    icmp_errors: "icmp errors";
    ipv6_everything: "ipv6";
    other_protocols: "other protocols";
    sctp_association: "sctp: one association";
    bad_input: "bad input";
    zones: "zones";
    commit_and_clear: "state after a commit, after recirculation, after ct_clear";
    marks_and_labels: "marks and labels";
    force: "force";
    original_tuple: "the original tuple";
    time_outs: "time-outs";
    limits: "limits";
    flushing_one: "flushing one connection";
    packet_outs: "packet-outs";
    whole_fragments: "fragments";
}
