//! Work on many connections, and settings on their way to the tracker.

use super::*;
use crate::unixctl::Session;
use base::HashSeed;
use datapath::conntrack::{CtSpec, TimeoutKind};
use packet::{DpPort, Frame, FrameBuilder, PacketKey};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// A tracker with so many UDP connections from 10.0.0.1 to 10.0.0.2, ports counted up from 1, in this zone.
fn tracker(connections: u32, zone: u16) -> Arc<ConnTracker> {
    let tracker = Arc::new(ConnTracker::new(HashSeed::new(3, 4), CtConfig::default()));
    track(&tracker, connections, zone);
    tracker
}

fn track(tracker: &ConnTracker, connections: u32, zone: u16) {
    let spec = CtSpec { zone: Zone(zone), commit: true, ..CtSpec::default() };
    for n in 0..connections {
        let (src, dst) = (n % 60_000 + 1, n / 60_000 + 1);
        let packet = FrameBuilder::udp4((0x0a00_0001, src as u16), (0x0a00_0002, dst as u16));
        let mut frame = Frame::from_bytes(&packet.build());
        let mut key = PacketKey::extract(&mut frame).expect("a frame");
        tracker.track(&mut frame, &mut key, &spec, DpPort(1), NOW);
    }
}

/// A session that waits for the answer to a request.
fn session() -> (Session, Value) {
    let mut session = Session::default();
    session.receive(br#"{"id":7,"method":"x","params":[]}"#).expect("a request");
    let id = session.next_request().expect("a request").id;
    (session, id)
}

/// Carries work out; what it says in the end, and the bytes of the most talkative part.
fn carry_out(tracker: &ConnTracker, mut walk: Walk) -> (Result<String, String>, usize, usize) {
    let (mut session, id) = session();
    let (mut bytes, mut most, mut parts) = (Vec::new(), 0, 0);
    let mut goes_on = true;
    while goes_on {
        goes_on = walk.step(tracker, &mut session, &id, NOW);
        let said = session.output().len();
        bytes.extend_from_slice(session.output());
        session.consume(said);
        most = most.max(said);
        parts += 1;
    }
    let answer: Value = serde_json::from_slice(&bytes).expect("one JSON value");
    assert_eq!(answer["id"], 7);
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    (text("error").map_or_else(|| Ok(text("result").unwrap_or_default()), Err), most, parts)
}

#[test]
fn a_long_list_comes_in_parts_and_whole() {
    let tracker = tracker(20_000, 0);
    let (list, most, parts) = carry_out(&tracker, Walk::list(None, LineForm::default()));
    let list = list.expect("a list");
    let lines: BTreeSet<&str> = list.lines().collect();
    assert_eq!((lines.len(), list.lines().count()), (20_000, 20_000));
    assert!(lines.iter().all(|line| line.starts_with("udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=")));
    assert!(parts >= 20 && most < list.len() / 10, "{parts} parts, {most} bytes of {}", list.len());
    let (counts, _, parts) = carry_out(&tracker, Walk::count(None, true));
    assert_eq!(counts, Ok("Connections Stats:\n    Total: 20000\n  UDP: 20000\n".to_owned()));
    assert!(parts >= 20);
    let (none, ..) = carry_out(&tracker, Walk::list(Some(9), LineForm::default()));
    assert_eq!(none, Ok(String::new()));
}

fn by_port(src_port: Option<u16>) -> CtFlush {
    let src = Some(IpAddr::from([10, 0, 0, 1]));
    let original = CtTuple { src, src_port, ..CtTuple::default() };
    CtFlush { protocol: PROTO_UDP, original, ..CtFlush::default() }
}

#[test]
fn flushes_end_what_they_mean() {
    let tracker = tracker(3_000, 5);
    track(&tracker, 10, 6);
    let flush = |flush: &CtFlush| carry_out(&tracker, Walk::flush(flush)).0;
    assert_eq!(flush(&by_port(Some(7))), Ok(String::new()));
    assert_eq!(tracker.connections(), 2_999 + 9, "of both zones");
    assert_eq!(flush(&by_port(Some(7))), Ok(String::new()), "there is none, but it may be so");
    // All of a tuple names one connection, in zone 0 if no other is named.
    let mut one = by_port(Some(18));
    one.original.dst = Some([10, 0, 0, 2].into());
    one.original.dst_port = Some(1);
    let missing = "ovs-vswitchd: failed to flush conntrack (No such file or directory)\n".to_owned();
    assert_eq!(flush(&one), Err(missing.clone()));
    one.zone = Some(5);
    assert_eq!(flush(&one), Ok(String::new()));
    assert_eq!(flush(&one), Err(missing));
    assert_eq!(tracker.connections(), 2_998 + 9);
    let connections = Connections::new(Arc::clone(&tracker));
    assert_eq!(connections.flush(&CtFlush { zone: Some(6), ..CtFlush::default() }), 9);
    one.original.src_port = Some(19);
    assert_eq!(connections.flush(&one), 1);
    let reply = CtTuple { dst_port: Some(20), ..CtTuple::default() };
    assert_eq!(connections.flush(&CtFlush { protocol: PROTO_UDP, reply, ..CtFlush::default() }), 1);
    assert_eq!(connections.flush(&CtFlush::default()), 2_996);
    assert_eq!(tracker.connections(), 0);
}

#[test]
fn zones_have_the_timeouts_of_the_database() {
    let tracker = tracker(0, 0);
    let mut connections = Connections::new(Arc::clone(&tracker));
    let named = [("udp_first".to_owned(), 7), ("tcp_unack".to_owned(), 9)].into();
    connections.set_zone_timeouts(&[(5, named)].into());
    let config = tracker.config();
    let policy = config.zone_policies.get(&Zone(5)).and_then(|id| config.policies.get(id));
    let policy = policy.expect("the zone's policy");
    assert_eq!(policy.get(TimeoutKind::UdpFirst), Duration::from_secs(7));
    assert_eq!(policy.get(TimeoutKind::UdpSingle), Duration::from_secs(60), "what is not named stays");
    // What commands set is kept.
    connections.set_connections_max(4_000_000);
    connections.set_zone_timeouts(&BTreeMap::new());
    let config = tracker.config();
    assert_eq!((config.connections_max, config.embryonic_port_max), (4_000_000, 500_000));
    assert!(config.policies.is_empty() && config.zone_policies.is_empty());
    connections.set_connections_max(10);
    assert_eq!(tracker.config().embryonic_port_max, 1_024);
}

#[test]
fn counts_as_text() {
    let counts = Counts {
        protocols: [(6, 2), (17, 3), (132, 1), (1, 1), (58, 4), (47, 1), (50, 1)].into(),
        tcp_states: [(TcpState::SynSent, 1), (TcpState::TimeWait, 1)].into(),
    };
    let states = "    Conn per TCP states:\n\t  [SYN_SENT]=1\n\t  [TIME_WAIT]=1\n";
    let rest = "  UDP: 3\n  SCTP: 1\n  ICMP: 1\n  ICMPv6: 4\n  Other: 2\n";
    assert_eq!(counts.text(true), format!("Connections Stats:\n    Total: 13\n  TCP: 2\n{states}{rest}"));
    assert_eq!(counts.text(false), format!("Connections Stats:\n    Total: 13\n  TCP: 2\n{rest}"));
    assert_eq!(Counts::default().text(true), "Connections Stats:\n    Total: 0\n");
}
