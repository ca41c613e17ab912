//! Open vSwitch and we, told the same rules and given the same frames: what comes out of every port must be the same, byte
//! by byte, and so must every counter and every trace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use tests::noise::Noise;
use tests::pair::{Compare, Pair};
use tests::{Tools, frames, root, wait_for};

/// Frames handed to one ovs-appctl.
const BATCH: usize = 4;

/// Rules and ports, and what is asked of them.
struct Scenario {
    name: &'static str,
    /// Lines for both, after the bridge with ports p1 to p4 was made.
    setup: &'static [&'static str],
    flows: &'static [&'static str],
    traces: &'static [&'static str],
    /// Frames and the ports they arrive at.
    frames: fn() -> Vec<(u8, Vec<u8>)>,
}

fn on(port: u8, frames: Vec<Vec<u8>>) -> Vec<(u8, Vec<u8>)> {
    frames.into_iter().map(|f| (port, f)).collect()
}

/// Real traffic: ARP, neighbour discovery, fragments, ICMP, UDP, TCP over IPv4 and IPv6.
fn captured() -> Vec<Vec<u8>> {
    frames::read_pcap(&root().join("tests/captures/mixed.pcap"))
        .into_iter()
        .filter(|f| f.len() <= 1514)
        .collect()
}

/// Real traffic on all ports, tagged and not, and damaged.
fn varied(seed: u64, count: usize) -> Vec<(u8, Vec<u8>)> {
    let (good, mut noise) = (captured(), Noise::new(seed));
    let frames = (0..count).map(|_| (1 + noise.below(4) as u8, noise.frame(&good)));
    frames.filter(|(_, f)| f.len() >= 14 && !contradicts_itself(f)).collect()
}

/// Whether the EtherType says that this is IP of one version, and the packet says that it is of another. Open vSwitch
/// believes the EtherType; we read no IP header then.
fn contradicts_itself(frame: &[u8]) -> bool {
    let mut at = 12;
    loop {
        let version = frame.get(at + 2).map(|b| b >> 4);
        match frame.get(at..at + 2) {
            Some([0x81, 0x00] | [0x88, 0xa8]) => at += 4,
            Some([0x08, 0x00]) => return version != Some(4),
            Some([0x86, 0xdd]) => return version != Some(6),
            _ => return false,
        }
    }
}

/// Each captured frame with no tag, a priority tag, tags of some VLANs, and two tags.
fn with_tags() -> Vec<(u8, Vec<u8>)> {
    let mut out = vec![];
    for (i, frame) in captured().into_iter().step_by(7).enumerate() {
        let port = 1 + (i % 4) as u8;
        out.push((port, frame.clone()));
        for (tpid, tci) in
            [(0x8100, 0x6000), (0x8100, 10), (0x8100, 0x200a), (0x8100, 20), (0x88a8, 10), (0x8100, 4095)]
        {
            out.push((port, frames::tagged(&frame, tpid, tci)));
        }
        out.push((port, frames::tagged(&frames::tagged(&frame, 0x8100, 7), 0x88a8, 10)));
        out.push((port, frames::tagged(&frames::tagged(&frame, 0x8100, 7), 0x8100, 20)));
    }
    out
}

/// Under one to three MPLS labels.
fn labelled() -> Vec<(u8, Vec<u8>)> {
    let mut out = vec![];
    for (i, frame) in captured().into_iter().filter(|f| f.len() < 1_000).step_by(3).enumerate() {
        for labels in [&[0x0000_11ffu32][..], &[0x0001_2040, 0x0002_0140], &[0x0003_2001, 0x10, 0x0000_5102]]
        {
            let mut labelled = frame[..12].to_vec();
            labelled.extend(if i % 3 == 0 { [0x88, 0x48] } else { [0x88, 0x47] });
            labels.iter().for_each(|l| labelled.extend(l.to_be_bytes()));
            labelled.extend(&frame[14..]);
            out.push((1 + (i % 4) as u8, labelled));
        }
    }
    out
}

/// Stations that talk, move, and shout.
fn stations() -> Vec<(u8, Vec<u8>)> {
    let mut noise = Noise::new(5);
    let mut out = vec![];
    for n in 0..200u32 {
        let station = |noise: &mut Noise| frames::mac(1 + noise.below(12) as u8);
        let (src, dst) = (station(&mut noise), station(&mut noise));
        let dst = match noise.below(8) {
            0 => [0xff; 6],
            1 => [0x01, 0x00, 0x5e, 0, 0, 1],
            // Reserved: spanning tree and pause frames.
            2 => [0x01, 0x80, 0xc2, 0, 0, noise.below(17) as u8],
            _ => dst,
        };
        // Mostly each station has its port; now and then it moves.
        let port = if noise.below(10) == 0 { 1 + noise.below(4) as u8 } else { 1 + src[5] % 4 };
        out.push((port, frames::experimental(src, dst, &n.to_be_bytes())));
    }
    out
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "learning",
        setup: &[],
        flows: &["actions=NORMAL"],
        traces: &[
            "in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02",
            "in_port=2,dl_src=02:00:00:00:00:02,dl_dst=ff:ff:ff:ff:ff:ff,arp",
            "in_port=3,dl_src=02:00:00:00:00:02,dl_dst=01:80:c2:00:00:00",
            "in_port=LOCAL,dl_src=02:00:00:00:00:33,dl_dst=02:00:00:00:00:03",
        ],
        frames: stations,
    },
    // Ports become a bond while they forward.
    Scenario {
        name: "a bond",
        setup: &[concat!(
            "ovs-vsctl --id=@three get Interface p3 -- --id=@four get Interface p4",
            " -- set Port p3 interfaces=@three,@four other_config:bond-primary=p3",
            " -- --id=@gone get Port p4 -- remove Bridge br0 ports @gone",
        )],
        flows: &["actions=NORMAL"],
        traces: &[
            "in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:03",
            "in_port=3,dl_src=02:00:00:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff",
            "in_port=4,dl_src=02:00:00:00:00:03,dl_dst=ff:ff:ff:ff:ff:ff",
            "in_port=4,dl_src=02:00:00:00:00:03,dl_dst=01:80:c2:00:00:00",
        ],
        frames: stations,
    },
    Scenario {
        name: "vlan modes",
        setup: &[
            "ovs-vsctl set Port p1 tag=10",
            "ovs-vsctl set Port p2 trunks=10,20",
            "ovs-vsctl set Port p3 tag=10 vlan_mode=native-untagged",
            "ovs-vsctl set Port p4 tag=20 vlan_mode=native-tagged trunks=10,20",
        ],
        flows: &["actions=NORMAL"],
        traces: &[
            "in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=1,dl_vlan=10,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=2,dl_vlan=20,dl_vlan_pcp=5,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=2,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=2,dl_vlan=30,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=3,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=4,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
            "in_port=4,vlan_tci=0x7000,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,ip",
        ],
        frames: with_tags,
    },
    Scenario {
        name: "priority tags and protected ports",
        setup: &[
            "ovs-vsctl set Port p1 trunks=0,10 other_config:priority-tags=if-nonzero",
            "ovs-vsctl set Port p2 tag=10 other_config:priority-tags=if-nonzero",
            "ovs-vsctl set Port p3 protected=true tag=10",
            "ovs-vsctl set Port p4 protected=true trunks=10",
        ],
        flows: &["actions=NORMAL"],
        traces: &[],
        frames: with_tags,
    },
    Scenario {
        name: "matching every layer",
        setup: &[],
        flows: &[
            "priority=90,tcp,tp_dst=5001,actions=output:2",
            "priority=89,tcp,tcp_flags=+syn-ack,actions=output:3",
            "priority=88,udp,tp_src=0x1000/0xf000,actions=output:4",
            "priority=87,icmp,icmp_type=8,actions=output:2,output:3",
            "priority=86,icmp6,icmp_type=135,nd_target=fd09::/16,actions=output:4",
            "priority=86,icmp6,icmp_type=136,nd_tll=00:00:00:00:00:00/01:00:00:00:00:00,actions=output:1",
            "priority=85,arp,arp_op=1,arp_tpa=10.9.0.2,actions=output:3",
            "priority=84,ip,nw_frag=first,actions=output:2",
            "priority=83,ip,nw_frag=later,actions=output:3",
            "priority=82,ipv6,nw_frag=yes,actions=output:4",
            "priority=81,ip,nw_tos=0x10,actions=output:1",
            "priority=80,ip,nw_ttl=64,nw_src=10.9.0.0/255.255.0.255,actions=output:1,output:2",
            "priority=79,ipv6,ipv6_src=fd09::1,ipv6_label=0,actions=output:3",
            "priority=70,dl_vlan=10,actions=output:4",
            "priority=69,vlan_tci=0x1000/0x1000,actions=output:2",
            "priority=60,mpls,actions=output:3",
            "priority=50,dl_type=0x05ff,actions=output:1",
            "priority=10,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=ALL",
            "priority=0,actions=resubmit(,7)",
            "table=7,in_port=1,actions=output:4",
            "table=7,in_port=2,actions=IN_PORT",
            "table=7,priority=1,actions=FLOOD",
        ],
        traces: &[
            "in_port=1,tcp,tcp_dst=5001,nw_frag=first",
            "in_port=1,tcp,tcp_dst=5001,nw_frag=later",
            "in_port=1,tcp,tcp_dst=5001",
            "in_port=3,udp,udp_src=4097",
            "in_port=2,ipv6,nw_proto=17,nw_frag=first",
        ],
        frames: || {
            let mut all = varied(7, 400);
            all.extend(on(1, captured()));
            all
        },
    },
    Scenario {
        name: "rewriting",
        setup: &["ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2"],
        flows: &[
            // Where a fragment has no transport header Open vSwitch writes into the data.
            "priority=99,ip,nw_frag=yes,actions=dec_ttl,output:4",
            "priority=99,ipv6,nw_frag=yes,actions=dec_ttl,output:4",
            "priority=90,tcp,actions=set_field:02:00:00:00:00:77->eth_src,set_field:10.1.2.3->ip_src,set_field:77->tcp_dst,dec_ttl,output:2",
            "priority=90,tcp6,actions=set_field:fd77::7->ipv6_dst,set_field:78->tcp_src,set_field:0x12->ip_dscp,output:2",
            "priority=90,udp,actions=set_field:10.1.2.4->ip_dst,set_field:79->udp_src,set_field:2->ip_ecn,output:3",
            "priority=90,udp6,actions=set_field:fd77::8->ipv6_src,set_field:80->udp_dst,set_field:0x54321->ipv6_label,output:3",
            "priority=90,icmp,actions=set_field:13->icmp_type,set_field:1->icmp_code,set_field:9->nw_ttl,output:4",
            "priority=95,icmp6,icmp_type=135,actions=set_field:fd77::9->nd_target,set_field:02:00:00:00:00:78->nd_sll,output:4",
            "priority=95,icmp6,icmp_type=136,actions=set_field:fd77::a->nd_target,set_field:02:00:00:00:00:79->nd_tll,output:4",
            "priority=90,icmp6,actions=dec_ttl,output:4",
            "priority=90,arp,actions=move:NXM_OF_ARP_SPA[]->NXM_NX_REG0[],move:NXM_OF_ARP_TPA[]->NXM_OF_ARP_SPA[],move:NXM_NX_REG0[]->NXM_OF_ARP_TPA[],load:0x2->NXM_OF_ARP_OP[],set_field:02:00:00:00:00:80->arp_sha,IN_PORT",
            "priority=80,ip,actions=dec_ttl,output:1,dec_ttl,output:2,dec_ttl,output:3",
            "priority=80,ipv6,actions=dec_ttl,move:NXM_NX_IPV6_SRC[0..31]->NXM_NX_IPV6_DST[0..31],output:3",
            "priority=0,actions=set_field:02:00:00:00:00:81->eth_dst,output:2",
        ],
        traces: &[
            "in_port=1,tcp,nw_ttl=64,nw_src=1.1.1.1,tcp_dst=80",
            "in_port=1,udp,nw_ttl=64,nw_ecn=0",
            "in_port=2,sctp,nw_ttl=9",
        ],
        frames: || {
            // Nothing damaged: setting fields of neighbour discovery in such a frame ends OVS 3.1.0.
            let mut all = on(1, captured());
            all.extend(with_tags());
            all
        },
    },
    Scenario {
        name: "tags by rule",
        // We always have two tags; Open vSwitch has one unless told.
        setup: &["ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2"],
        flows: &[
            // More than two tags are too many for Open vSwitch.
            "table=0,in_port=1,vlan_tci=0x1000/0x1000,actions=push_vlan:0x8100,set_field:4108->vlan_vid,output:2",
            "table=0,in_port=1,vlan_tci=0,actions=push_vlan:0x8100,set_field:4108->vlan_vid,output:2,push_vlan:0x88a8,set_field:4109->vlan_vid,output:3",
            "table=0,priority=40000,in_port=2,dl_vlan=10,actions=strip_vlan,output:1",
            "table=0,priority=40000,in_port=2,dl_vlan=20,dl_vlan_pcp=0,actions=set_field:4112->vlan_vid,output:1",
            "table=0,priority=39999,in_port=2,vlan_tci=0,actions=push_vlan:0x8100,set_field:4112->vlan_vid,output:1",
            "table=0,in_port=2,actions=push_vlan:0x8100,set_field:4129->vlan_vid,set_field:5->vlan_pcp,output:4",
            "table=0,in_port=3,vlan_tci=0x1000/0x1000,actions=pop_vlan,output:1",
            "table=0,in_port=4,vlan_tci=0x1000/0x1000,actions=set_field:3->vlan_pcp,output:1,pop_vlan,output:2,resubmit(,3)",
            "table=3,vlan_tci=0/0x1000,actions=output:3",
        ],
        traces: &[
            "in_port=1,ip",
            "in_port=1,dl_vlan=5,ip",
            "in_port=2,dl_vlan=10,ip",
            "in_port=3,dl_vlan=10,ip",
            "in_port=4,dl_vlan=10,ip",
            "in_port=4,ip",
        ],
        frames: || {
            // Two tags and one more are, again, too many.
            let twice = |f: &[u8]| [[0x81, 0x00], [0x88, 0xa8]].iter().any(|t| f[16..18] == *t);
            with_tags().into_iter().filter(|(_, f)| !twice(f)).collect()
        },
    },
    Scenario {
        name: "labels",
        setup: &[],
        flows: &[
            "table=0,priority=9,in_port=1,mpls,mpls_bos=1,actions=pop_mpls:0x0800,output:2,resubmit(,1)",
            "table=0,priority=8,in_port=1,mpls,mpls_label=0x12,actions=set_field:99->mpls_label,set_field:3->mpls_tc,output:3",
            "table=0,priority=9,in_port=2,mpls,actions=dec_mpls_ttl,output:4",
            "table=0,priority=9,in_port=3,mpls,mpls_bos=0,actions=pop_mpls:0x8847,output:1",
            // More than three labels are too many for Open vSwitch, so only for what has none.
            "table=0,priority=6,in_port=4,mpls,actions=output:3",
            "table=0,priority=6,in_port=4,dl_type=0x8848,actions=output:3",
            "table=0,priority=5,in_port=4,actions=push_mpls:0x8847,set_field:77->mpls_label,output:1,push_mpls:0x8848,output:2",
            "table=0,priority=1,ip,actions=push_mpls:0x8847,set_field:5->mpls_label,output:3",
            "table=0,priority=0,actions=NORMAL",
            "table=1,ip,nw_ttl=64,actions=dec_ttl,output:3",
            "table=1,priority=1,actions=output:4",
        ],
        traces: &[
            "in_port=2,mpls,mpls_label=5,mpls_ttl=9",
            "in_port=4,ip,nw_ttl=5",
            "in_port=3,mpls,mpls_bos=1",
        ],
        frames: || {
            let mut all = labelled();
            all.extend(on(4, captured()));
            all.extend(on(1, captured()));
            all
        },
    },
    Scenario {
        name: "pipeline",
        setup: &[],
        flows: &[
            "table=0,priority=9,in_port=1,actions=load:0x1->NXM_NX_REG0[],load:0x5->OXM_OF_METADATA[],resubmit(,2),resubmit(3,4),load:0x3->NXM_NX_REG5[],output:NXM_NX_REG5[]",
            "table=0,priority=9,in_port=2,actions=write_actions(output:3,set_field:02:00:00:00:00:99->eth_src),goto_table:5",
            "table=0,priority=9,in_port=3,actions=write_actions(output:1),goto_table:6",
            "table=0,priority=0,actions=note:01.02.03,resubmit(,7),exit,output:2",
            "table=2,reg0=1,metadata=5,actions=output:2",
            "table=4,in_port=3,actions=output:4,load:0x2->NXM_NX_REG0[],resubmit(,2)",
            "table=5,ip,actions=write_actions(output:4),goto_table:8",
            "table=5,priority=1,actions=goto_table:8",
            "table=6,ip,actions=clear_actions,goto_table:8",
            "table=6,priority=1,actions=goto_table:8",
            "table=7,actions=output:1,exit,output:3",
            "table=8,actions=load:0x7->NXM_NX_REG7[]",
        ],
        traces: &[
            "in_port=1,ip",
            "in_port=2,ip",
            "in_port=2,arp",
            "in_port=3,ip",
            "in_port=3,arp",
            "in_port=4,arp",
        ],
        frames: || varied(13, 200),
    },
    Scenario {
        name: "random frames, learned",
        setup: &["ovs-vsctl set Bridge br0 other_config:forward-bpdu=true"],
        flows: &["actions=NORMAL"],
        traces: &["in_port=3,dl_src=02:00:00:00:00:02,dl_dst=01:80:c2:00:00:00"],
        frames: || varied(17, 400),
    },
];

/// Puts both on ports that write what they send to files, and compares everything.
fn agree(scenario: &Scenario) {
    let mut pair = Pair::start();
    pair.bridge(0);
    for (daemon, ours) in [(&pair.real as &dyn Tools, false), (&pair.ours, true)] {
        let mut line = "ovs-vsctl".to_owned();
        for n in 1..=4 {
            let file = daemon.dir().join(format!("p{n}.pcap"));
            let mut dummy = format!("type=dummy ofport_request={n} options:tx_pcap={}", file.display());
            if !ours {
                // Theirs drop what is longer than the MTU; ours have none.
                dummy.push_str(" mtu_request=9000");
            }
            let _ = write!(line, " -- add-port br0 p{n} -- set Interface p{n} {dummy}");
        }
        daemon.run(&line);
        scenario.setup.iter().for_each(|l| drop(daemon.run(l)));
        let file = daemon.dir().join("rules");
        std::fs::write(&file, scenario.flows.join("\n")).expect("a file");
        daemon.run("ovs-ofctl del-flows br0");
        daemon.run(&format!("ovs-ofctl -O OpenFlow10,OpenFlow13 add-flows br0 {}", file.display()));
        daemon.run("ovs-appctl time/stop");
    }
    for flow in scenario.traces {
        trace_alike(&mut pair, flow);
    }
    let all = (scenario.frames)();
    let mut seen = [[0; 4]; 2];
    let mut rest = &all[..];
    while let Some((port, _)) = rest.first() {
        let run = rest.iter().take(BATCH).take_while(|(p, _)| p == port).count();
        let hex: Vec<String> = rest[..run].iter().map(|(_, f)| frames::hex(f)).collect();
        pair.both(&format!("ovs-appctl netdev-dummy/receive p{port} {}", hex.join(" ")));
        // A cached flow of theirs may be behind what was learned since; so they keep none. Ours must not matter.
        pair.real.run("ovs-appctl revalidator/purge");
        let theirs = new_frames(&pair.real, &mut seen[0]);
        let ours = new_frames(&pair.ours, &mut seen[1]);
        if theirs != ours {
            let into: Vec<String> = hex.iter().map(|h| format!("  p{port} < {h}")).collect();
            pair.note(&format!("frames\n{}", into.join("\n")), &theirs, &ours);
        }
        rest = &rest[run..];
    }
    pair.both("ovs-appctl revalidator/wait");
    pair.same("ovs-ofctl -O OpenFlow13 dump-flows br0", Compare::Set);
    pair.same("ovs-ofctl dump-ports br0", Compare::Items);
    pair.same("ovs-appctl fdb/show br0", Compare::Set);
    for flow in scenario.traces {
        trace_alike(&mut pair, flow);
    }
    pair.finish();
}

/// The frames that ports have sent since the last look, one a line, sorted: frames that come together may leave in
/// groups by flow.
fn new_frames(daemon: &dyn Tools, seen: &mut [usize; 4]) -> String {
    let mut lines = vec![];
    for (n, seen) in (1..).zip(seen) {
        let frames = frames::read_pcap(&daemon.dir().join(format!("p{n}.pcap")));
        for frame in &frames[*seen..] {
            lines.push(format!("p{n}: {}", frames::hex(frame)));
        }
        *seen = frames.len();
    }
    lines.sort();
    lines.join("\n")
}

/// Compares `ofproto/trace`, without the line that says what a cached flow matches: ours follows from the configuration,
/// theirs from the packet. Ports in the datapath are named, and floods are put in order.
fn trace_alike(pair: &mut Pair, flow: &str) {
    let line = format!("ovs-appctl ofproto/trace br0 {flow}");
    let text = |daemon: &dyn Tools| {
        let ports: BTreeMap<String, String> = daemon
            .run("ovs-appctl dpif/show")
            .lines()
            .filter_map(|l| {
                let (name, rest) = l.trim().split_once(' ')?;
                Some((rest.split_once('/')?.1.split(':').next()?.to_owned(), name.to_owned()))
            })
            .collect();
        let trace = daemon.run(&line);
        let mut out = String::new();
        for l in trace.lines().filter(|l| !l.starts_with("Megaflow:")) {
            match l.strip_prefix("Datapath actions: ") {
                Some(actions) => {
                    let _ = writeln!(out, "Datapath actions: {}", named(actions, &ports));
                }
                None => {
                    let _ = writeln!(out, "{l}");
                }
            }
        }
        out
    };
    let (theirs, ours) = (text(&pair.real), text(&pair.ours));
    pair.note(&line, &theirs, &ours);
}

/// Actions with names for the ports of the datapath. Which port of a flood comes first is chance, so each output is told
/// with the tags that it carries, and all are sorted.
fn named(actions: &str, ports: &BTreeMap<String, String>) -> String {
    let mut done: Vec<&str> = vec![];
    let mut outputs = vec![];
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in actions.char_indices().chain([(actions.len(), ',')]) {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                let action = &actions[start..at];
                start = at + 1;
                match ports.get(action) {
                    Some(name) => outputs.push(format!("{}>{name}", done.join(","))),
                    None if action == "pop_vlan"
                        && done.last().is_some_and(|a| a.starts_with("push_vlan")) =>
                    {
                        done.pop();
                    }
                    None => done.push(action),
                }
            }
            _ => {}
        }
    }
    outputs.sort();
    if outputs.is_empty() { done.join(",") } else { outputs.join(" ") }
}

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|s| s.name == name).expect("a scenario")
}

macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            agree(scenario($name));
        })*

        #[test]
        fn every_scenario_is_run() {
            assert_eq!([$($name),*].len(), SCENARIOS.len());
        }
    };
}

scenarios! {
    learning: "learning";
    a_bond: "a bond";
    vlan_modes: "vlan modes";
    priority_tags_and_protected_ports: "priority tags and protected ports";
    matching_every_layer: "matching every layer";
    rewriting: "rewriting";
    tags_by_rule: "tags by rule";
    labels: "labels";
    pipeline: "pipeline";
    random_frames_learned: "random frames, learned";
}

/// `Open_vSwitch:statistics` has the keys of ovs-vswitchd.conf.db(5) while it is wanted, and what does not change from moment to
/// moment is what Debian's ovs-vswitchd says of the same host.
#[test]
fn the_host_is_told_of_while_it_is_wanted() {
    let pair = Pair::start();
    let get = "ovs-vsctl get Open_vSwitch . statistics";
    assert_eq!(pair.ours.run(get).trim(), "{}");
    pair.both("ovs-vsctl set Open_vSwitch . other_config:enable-statistics=true");
    let told = |daemon: &dyn Tools| {
        let mut text = String::new();
        wait_for("statistics", || {
            text = daemon.run(get);
            text.trim() != "{}"
        });
        text
    };
    let (theirs, ours) = (told(&pair.real), told(&pair.ours));
    let value = |text: &str, key: &str| {
        let rest = text.split_once(&format!("{key}=\"")).unwrap_or_else(|| panic!("{key}: {text}")).1;
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    assert_eq!(value(&ours, "cpu"), value(&theirs, "cpu"));
    for (key, steady) in [("memory", &[0, 3][..]), ("load_average", &[]), ("process_ovs-vswitchd", &[3])] {
        let [theirs, ours] = [&theirs, &ours].map(|text| value(text, key));
        let part = |text: &str, n: usize| text.split(',').nth(n).map(str::to_owned);
        assert_eq!(ours.split(',').count(), theirs.split(',').count(), "{key}: {ours} {theirs}");
        assert!(steady.iter().all(|n| part(&ours, *n) == part(&theirs, *n)), "{key}: {ours} {theirs}");
    }
    let places = |text: &str| -> Vec<(String, String)> {
        let list = if text.contains("file_systems") { value(text, "file_systems") } else { String::new() };
        let parts = list.split(' ').filter_map(|one| one.rsplit_once(',')?.0.rsplit_once(','));
        parts.map(|(place, size)| (place.to_owned(), size.to_owned())).collect()
    };
    assert_eq!(places(&ours), places(&theirs));
    pair.ours.run("ovs-vsctl set Open_vSwitch . other_config:enable-statistics=false");
    wait_for("no statistics", || pair.ours.run(get).trim() == "{}");
}
