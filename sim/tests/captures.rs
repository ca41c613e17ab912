//! Captures of sessions with FTP, TFTP, fragments and ICMP errors, replayed through the tracker.
//!
//! Each session was captured at both sides of a translation at once (see `captures/README.md`): what one side sends is
//! played, and what arrives at the other must be, byte for byte, what that side's capture has at that time. The captures
//! were made by etherparse, which also looks at every checksum here. A port for each class of `ct_state` gets a copy of
//! every frame that the rules see in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use datapath::port::capture::CaptureReader;
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, SlicedPacket, TransportSlice};
use sim::{NodeId, PortSpec, World};
use std::path::PathBuf;
use std::time::Duration;

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// EtherType of IPv6.
const IPV6_TYPE: [u8; 2] = [0x86, 0xdd];
/// From one step of a session to the next.
const STEP: Duration = Duration::from_millis(1);

/// Classes that rules can see, in order of the ports that get copies (the first is 11), and what is matched for each.
const CLASSES: [(&str, &str); 9] = [
    ("new", "+new-est-rel-rpl-inv"),
    ("est", "-new+est-rel-rpl-inv"),
    ("est+rpl", "-new+est-rel+rpl-inv"),
    ("new+rel", "+new-est+rel-rpl-inv"),
    ("est+rel", "-new+est+rel-rpl-inv"),
    ("est+rel+rpl", "-new+est+rel+rpl-inv"),
    ("rel", "-new-est+rel-rpl-inv"),
    ("rel+rpl", "-new-est+rel+rpl-inv"),
    ("inv", "+inv"),
];

/// One step of a session: what is sent at once by one side, and what becomes of it.
struct Step {
    from_client: bool,
    state: String,
    sent: Vec<Vec<u8>>,
    /// What arrives at the other side.
    seen: Vec<Vec<u8>>,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)
}

fn capture(name: &str) -> Vec<(Duration, Vec<u8>)> {
    let mut reader = CaptureReader::new(std::fs::File::open(file(name)).unwrap()).unwrap();
    let (mut room, mut frames) = (vec![0; 65_536], Vec::new());
    while let Some((len, time)) = reader.read(&mut room).unwrap() {
        frames.push((time, room[..len].to_vec()));
    }
    frames
}

/// The steps of a session, put together from both captures by time.
fn steps(name: &str) -> Vec<Step> {
    let text = std::fs::read_to_string(file(&format!("{name}.states"))).unwrap();
    let sides = [(CLIENT_MAC, "client"), (SERVER_MAC, "server")];
    let captures = sides.map(|(mac, side)| (mac, capture(&format!("{name}.{side}.pcap"))));
    let start = captures.iter().filter_map(|(_, frames)| Some(frames.first()?.0)).min().unwrap();
    let mut taken = 0;
    let mut steps = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let (state, fate) = line.split_once(' ').unwrap();
        let begins = start + STEP * n as u32;
        let at_once = |frames: &[(Duration, Vec<u8>)], mac: [u8; 6], is_own: bool| -> Vec<Vec<u8>> {
            let now = frames.iter().filter(|(at, _)| *at >= begins && *at < begins + STEP);
            now.filter(|(_, f)| (f[6..12] == mac) == is_own).map(|(_, f)| f.clone()).collect()
        };
        let [client, server] = [0, 1].map(|i| at_once(&captures[i].1, captures[i].0, true));
        let from_client = !client.is_empty();
        assert!(from_client == server.is_empty(), "{name}: step {n} has one sender");
        let other = &captures[usize::from(from_client)];
        let seen = at_once(&other.1, other.0, false);
        let sent = if from_client { client } else { server };
        assert_eq!(seen.len(), if fate == "passes" { sent.len() } else { 0 }, "{name}: step {n}");
        taken += sent.len() + seen.len();
        steps.push(Step { from_client, state: state.to_owned(), sent, seen });
    }
    assert_eq!(taken, captures[0].1.len() + captures[1].1.len(), "{name}: every frame has its step");
    steps
}

/// Rules of a stateful node: what the client may begin is translated, what belongs to it passes, the rest does not.
fn rules(nat: &str, is_ipv6: bool) -> Vec<String> {
    let (ip, six) = if is_ipv6 { ("ipv6", "6") } else { ("ip", "") };
    let mut rules: Vec<String> = vec![
        "delete".to_owned(),
        format!("table=0,priority=10,{ip},actions=ct(zone=7,nat,table=1)"),
        "table=2,priority=1,actions=drop".to_owned(),
    ];
    for (n, (_, bits)) in CLASSES.iter().enumerate() {
        let port = 11 + n;
        rules
            .push(format!("table=1,priority=10,{ip},ct_state=+trk{bits},actions=output:{port},resubmit(,2)"));
    }
    for (from, to) in [(1, 2), (2, 1)] {
        for known in ["+est", "-new+rel"] {
            rules.push(format!(
                "table=2,priority=20,{ip},ct_state={known}-inv,in_port={from},actions=output:{to}"
            ));
        }
        rules.push(format!(
            "table=2,priority=20,{ip},ct_state=+new+rel,in_port={from},actions=ct(commit,zone=7,nat),output:{to}"
        ));
    }
    for (may, port, alg) in [("tcp", 21, "alg=ftp,"), ("udp", 69, "alg=tftp,"), ("tcp", 80, "")]
        .into_iter()
        .chain([("udp", 53, ""), ("udp", 33434, "")])
    {
        rules.push(format!(
            "table=2,priority=20,{may}{six},tp_dst={port},ct_state=+new-rel,in_port=1,actions=ct(commit,zone=7,{alg}{nat}),output:2"
        ));
    }
    rules
}

struct Replay {
    world: World,
    client: NodeId,
    server: NodeId,
    classes: Vec<NodeId>,
}

impl Replay {
    fn new(workers: usize, nat: &str, is_ipv6: bool) -> Replay {
        let mut world = World::seeded(3, workers);
        world.add_bridge("br0");
        let mut node = |n: u16| {
            world.add_port("br0", &format!("p{n}"), PortSpec::number(n));
            world.add_raw(&format!("p{n}"))
        };
        let (client, server) = (node(1), node(2));
        let classes = (11..).take(CLASSES.len()).map(node).collect();
        world.flows("br0", rules(nat, is_ipv6));
        Replay { world, client, server, classes }
    }

    fn take(&mut self, node: NodeId) -> Vec<Vec<u8>> {
        self.world.raw(node).take()
    }

    /// Plays a step, and tells what it came to: the frames that arrived, and how often each class was seen.
    fn play(&mut self, step: &Step) -> (Vec<Vec<u8>>, Vec<(&'static str, usize)>) {
        let (from, to) =
            if step.from_client { (self.client, self.server) } else { (self.server, self.client) };
        for bytes in &step.sent {
            self.world.raw(from).send(bytes.clone());
            self.world.settle();
        }
        self.world.run_for(STEP);
        let came = self.take(to);
        assert!(self.take(from).is_empty(), "nothing comes back to where it came from");
        let counts = self.classes.clone().into_iter().map(|node| self.take(node).len());
        let classes = CLASSES.iter().map(|(name, _)| *name).zip(counts).filter(|(_, n)| *n > 0).collect();
        (came, classes)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Replays a session and compares each step.
fn replay(name: &str, nat: &str) {
    let steps = steps(name);
    let is_ipv6 = steps[0].sent[0][12..14] == IPV6_TYPE;
    for workers in [1, 2] {
        let mut replay = Replay::new(workers, nat, is_ipv6);
        for (n, step) in steps.iter().enumerate() {
            let place = format!("{name}, {workers} workers, line {} of the states", n + 1);
            let (came, classes) = replay.play(step);
            assert_eq!(classes, [(step.state.as_str(), step.sent.len())], "{place}");
            for (i, (got, wanted)) in came.iter().zip(&step.seen).enumerate() {
                assert_eq!(hex(got), hex(wanted), "{place}, frame {i}");
            }
            assert_eq!(came.len(), step.seen.len(), "{place}");
            verify_checksums(&came, &place);
        }
    }
}

/// Checks every checksum of the packets of a step by etherparse: of the IP headers, and of what they carry as a whole.
fn verify_checksums(frames: &[Vec<u8>], place: &str) {
    let mut parts = Vec::new();
    for bytes in frames {
        if bytes[12..14] == IPV6_TYPE {
            let ip = Ipv6HeaderSlice::from_slice(&bytes[14..]).unwrap().to_header();
            assert_eq!(usize::from(ip.payload_length), bytes.len() - 54, "{place}: length");
            let tcp = etherparse::TcpSlice::from_slice(&bytes[54..]).unwrap();
            let should = tcp.calc_checksum_ipv6(ip.source, ip.destination).unwrap();
            assert_eq!(tcp.checksum(), should, "{place}: checksum of TCP over IPv6");
            continue;
        }
        let ip = Ipv4HeaderSlice::from_slice(&bytes[14..]).unwrap();
        let header = ip.to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "{place}: IP");
        let payload = &bytes[14 + ip.slice().len()..14 + usize::from(header.total_len)];
        if ip.is_fragmenting_payload() {
            assert_eq!(usize::from(header.fragment_offset.byte_offset()), parts.len(), "{place}: in order");
            parts.extend_from_slice(payload);
            if header.more_fragments {
                continue;
            }
            let whole = std::mem::take(&mut parts);
            verify_transport(header.protocol, (header.source, header.destination), &whole, place);
        } else {
            verify_transport(header.protocol, (header.source, header.destination), payload, place);
            let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
            if let Some(TransportSlice::Icmpv4(error)) = sliced.transport {
                let quoted = Ipv4HeaderSlice::from_slice(error.payload()).unwrap().to_header();
                assert_eq!(quoted.header_checksum, quoted.calc_header_checksum(), "{place}: quoted");
            }
        }
    }
    assert!(parts.is_empty(), "{place}: the last fragment is missing");
}

fn verify_transport(protocol: IpNumber, (src, dst): ([u8; 4], [u8; 4]), bytes: &[u8], place: &str) {
    let (is, should) = match protocol {
        IpNumber::TCP => {
            let tcp = etherparse::TcpSlice::from_slice(bytes).unwrap();
            (tcp.checksum(), tcp.calc_checksum_ipv4(src, dst).unwrap())
        }
        IpNumber::UDP => {
            let udp = etherparse::UdpSlice::from_slice(bytes).unwrap();
            let header = udp.to_header();
            (header.checksum, header.calc_checksum_ipv4_raw(src, dst, udp.payload()).unwrap())
        }
        IpNumber::ICMP => {
            let icmp = etherparse::Icmpv4Slice::from_slice(bytes).unwrap();
            (icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()))
        }
        other => panic!("{place}: {other:?}"),
    };
    assert_eq!(is, should, "{place}: checksum of {protocol:?}");
}

const MASQUERADE: &str = "nat(src=203.0.113.5)";

#[test]
fn ftp_opens_the_way_that_port_names() {
    replay("ftp-active", MASQUERADE);
}

#[test]
fn ftp_opens_the_way_that_the_server_names() {
    replay("ftp-passive", MASQUERADE);
}

/// The server is known to the client by a Service's address, which the reply 227 must name.
#[test]
fn ftp_server_behind_a_service_is_told_by_its_address() {
    replay("ftp-service", "nat(dst=192.0.2.9)");
}

#[test]
fn ftp_over_ipv6_opens_the_way_that_eprt_names() {
    replay("ftp-eprt6", "nat(src=[2001:db8:cafe::105])");
}

#[test]
fn ftp_over_ipv6_opens_the_way_that_the_server_names() {
    replay("ftp-epsv6", "nat(src=[2001:db8:cafe::105])");
}

/// Reply 229 names a port of whatever address the control connection goes to.
#[test]
fn ftp_server_behind_an_ipv6_service_needs_tell_only_its_port() {
    replay("ftp-service6", "nat(dst=[2001:db8:2::9])");
}

#[test]
fn dns_answers_in_fragments_are_tracked_as_one_packet() {
    replay("dns-fragments", MASQUERADE);
}

#[test]
fn unreachable_ports_are_told_to_the_client() {
    replay("udp-unreachable", MASQUERADE);
}

#[test]
fn path_mtu_is_told_to_the_client() {
    replay("path-mtu", MASQUERADE);
}

#[test]
fn tftp_answers_from_any_port_once() {
    replay("tftp", MASQUERADE);
}

/// The other tests would pass on sessions in which nothing is translated or stopped.
#[test]
fn captures_have_in_them_what_they_are_for() {
    let count = |name: &str, picks: fn(&Step) -> bool| steps(name).iter().filter(|s| picks(s)).count();
    let differs = |s: &Step| !s.seen.is_empty() && s.sent != s.seen;
    let least = [
        ("ftp-active", 30),
        ("ftp-passive", 25),
        ("ftp-service", 25),
        ("ftp-eprt6", 30),
        ("ftp-epsv6", 25),
        ("ftp-service6", 25),
        ("tftp", 5),
    ];
    for (name, least) in least {
        assert!(count(name, differs) >= least, "{name}: {}", count(name, differs));
        assert!(count(name, |s| s.seen.is_empty()) >= 2, "{name}");
        assert!(count(name, |s| s.state.contains("rel")) >= 4, "{name}");
    }
    let grows = |s: &Step| s.seen.iter().zip(&s.sent).any(|(seen, sent)| seen.len() != sent.len());
    let grown = ["ftp-active", "ftp-service", "ftp-eprt6", "ftp-service6"].map(|name| count(name, grows));
    assert_eq!(grown, [2, 1, 2, 0]);
    assert_eq!(count("dns-fragments", |s| s.sent.len() == 3), 2);
    assert!(count("udp-unreachable", |s| s.state == "rel+rpl" && differs_in_quote(s)) >= 3);
    assert!(count("path-mtu", |s| s.state == "rel+rpl" && differs_in_quote(s)) == 2);
}

/// Whether the packet that an error quotes is translated: its source is at 20 + 8 + 12 bytes behind the Ethernet header.
fn differs_in_quote(step: &Step) -> bool {
    step.sent[0][54..58] == [203, 0, 113, 5] && step.seen[0][54..58] == [10, 0, 0, 1]
}
