//! Sessions in virtual time: two ends against each other, and one end against bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base::Instant;
use flowtable::group::{Bucket, BucketId, GroupType, Selection};
use flowtable::{GroupId, Match, OfAction, OfPort, PacketInReason, TableId};
use openflow::codec;
use openflow::message::*;
use openflow::session::{self, CloseReason, PacketInFate, Received, Side};
use openflow::{
    Dialect, Message, OfError, OfVersion, OfVersions, PacketInFormat, Session, SessionConfig, SessionEvent,
    Xid,
};
use std::time::Duration;

const T0: Instant = Instant::from_secs(100);

fn config(side: Side, versions: &[OfVersion]) -> SessionConfig {
    SessionConfig { side, versions: OfVersions::of(versions), ..SessionConfig::default() }
}

/// Everything that comes out of a session, with messages read by its own dialect.
fn drain(s: &mut Session, now: Instant) -> Vec<SessionEvent> {
    std::iter::from_fn(|| s.poll(now)).collect()
}

/// Carries bytes both ways until nothing moves; returns the events of both.
fn carry(a: &mut Session, b: &mut Session, now: Instant) -> (Vec<SessionEvent>, Vec<SessionEvent>) {
    let mut events = (Vec::new(), Vec::new());
    loop {
        let (to_b, to_a) = (a.output().to_vec(), b.output().to_vec());
        a.written(to_b.len());
        b.written(to_a.len());
        b.receive(&to_b, now);
        a.receive(&to_a, now);
        events.0.extend(drain(a, now));
        events.1.extend(drain(b, now));
        if to_a.is_empty() && to_b.is_empty() {
            return events;
        }
    }
}

fn pair(version: OfVersion) -> (Session, Session) {
    let mut switch = Session::new(config(Side::Switch, &OfVersion::ALL), T0);
    let mut controller = Session::new(config(Side::Controller, &[version]), T0);
    let (up, up_too) = carry(&mut switch, &mut controller, T0);
    assert_eq!(
        (up.as_slice(), up_too.as_slice()),
        (&[SessionEvent::Up(version)][..], &[SessionEvent::Up(version)][..])
    );
    (switch, controller)
}

/// Messages in a session's output.
fn sent(s: &Session) -> Vec<(Xid, Message)> {
    let dialect = Dialect::new(s.dialect().version);
    let mut rest = s.output();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let len = u16::from_be_bytes([rest[2], rest[3]]) as usize;
        messages.push(openflow::decode(&dialect, &rest[..len]).unwrap());
        rest = &rest[len..];
    }
    messages
}

/// A session for a switch that has negotiated and whose output is empty.
fn switch(version: OfVersion) -> Session {
    let mut s = Session::new(config(Side::Switch, &[version]), T0);
    s.receive(&[version.wire(), 0, 0, 8, 0, 0, 0, 0], T0);
    assert_eq!(drain(&mut s, T0), [SessionEvent::Up(version)]);
    s.written(usize::MAX);
    s
}

fn only_error(s: &Session) -> (Xid, ErrorCode, Vec<u8>) {
    match sent(s).as_slice() {
        [(xid, Message::Error(e))] => (*xid, e.code, e.data.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hello_is_what_ovs_ofctl_sends() {
    // Recorded from `ovs-ofctl -O OpenFlow13`, but for the xid.
    let s = Session::new(config(Side::Switch, &[OfVersion::V13]), T0);
    assert_eq!(s.output(), [4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x10]);
}

#[test]
fn newest_common_version_is_chosen() {
    for version in OfVersion::ALL {
        let (switch, controller) = pair(version);
        assert_eq!((switch.version(), controller.version()), (Some(version), Some(version)));
    }
    let mut s = Session::new(config(Side::Switch, &[OfVersion::V10, OfVersion::V14]), T0);
    // Without a bitmap everything up to the header's version is offered.
    s.receive(&[6, 0, 0, 8, 0, 0, 0, 0], T0);
    assert_eq!(drain(&mut s, T0), [SessionEvent::Up(OfVersion::V14)]);
    let mut s = Session::new(config(Side::Switch, &[OfVersion::V10, OfVersion::V14]), T0);
    // Version 4 (1.3) is not ours, 1 (1.0) is.
    s.receive(&[4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x12], T0);
    assert_eq!(drain(&mut s, T0), [SessionEvent::Up(OfVersion::V10)]);
}

#[test]
fn no_common_version_is_told_and_closes() {
    let mut s = Session::new(config(Side::Switch, &[OfVersion::V13]), T0);
    s.written(usize::MAX);
    s.receive(&[3, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 8, 0, 0, 0, 8], T0);
    assert_eq!(drain(&mut s, T0), []);
    assert_eq!(s.closed(), Some(CloseReason::Incompatible(8)));
    let (xid, code, text) = only_error(&s);
    assert_eq!((xid, code), (Xid(9), OfError::HelloFailedIncompatible.into()));
    assert!(String::from_utf8(text).unwrap().contains("OpenFlow13"));
}

#[test]
fn first_message_must_be_hello() {
    let mut s = Session::new(config(Side::Switch, &OfVersion::ALL), T0);
    s.written(usize::MAX);
    s.receive(&[1, 5, 0, 8, 0, 0, 0, 9], T0);
    assert_eq!(drain(&mut s, T0), []);
    assert_eq!(s.closed(), Some(CloseReason::NotHello(5)));
}

#[test]
fn echo_is_answered_with_the_same_bytes_however_they_arrive() {
    let mut s = switch(OfVersion::V13);
    for byte in [4, 2, 0, 11, 0, 0, 0, 7, 1, 2, 3] {
        s.receive(&[byte], T0);
        assert_eq!(drain(&mut s, T0), []);
    }
    assert_eq!(sent(&s), [(Xid(7), Message::EchoReply(vec![1, 2, 3]))]);
}

#[test]
fn unknown_type_is_refused_and_the_connection_lives() {
    let mut s = switch(OfVersion::V13);
    s.receive(&[4, 99, 0, 10, 0, 0, 0, 7, 1, 2], T0);
    s.receive(&[4, 20, 0, 8, 0, 0, 0, 8], T0);
    let barrier =
        Received { xid: Xid(8), message: Message::BarrierRequest, quote: vec![4, 20, 0, 8, 0, 0, 0, 8] };
    assert_eq!(drain(&mut s, T0), [SessionEvent::Message(Box::new(barrier))]);
    let refused = (Xid(7), OfError::BadRequestBadType.into(), vec![4, 99, 0, 10, 0, 0, 0, 7, 1, 2]);
    assert_eq!(only_error(&s), refused);
}

#[test]
fn errors_quote_all_that_fits() {
    let mut s = switch(OfVersion::V13);
    let mut long = vec![4, 99, 4, 0];
    long.resize(1024, 5);
    s.receive(&long, T0);
    drain(&mut s, T0);
    assert_eq!(only_error(&s).2, long);
    let mut s = switch(OfVersion::V13);
    let mut longest = vec![4, 99, 0xff, 0xff];
    longest.resize(u16::MAX as usize, 5);
    s.receive(&longest, T0);
    drain(&mut s, T0);
    assert_eq!(only_error(&s).2, longest[..u16::MAX as usize - 12]);
}

#[test]
fn impossible_length_and_other_version_end_the_connection() {
    let mut s = switch(OfVersion::V13);
    s.receive(&[4, 2, 0, 7, 0, 0, 0, 7, 4, 2, 0, 8, 0, 0, 0, 8], T0);
    assert_eq!(drain(&mut s, T0), []);
    assert_eq!(s.closed(), Some(CloseReason::BadLength(7)));
    assert_eq!(only_error(&s).1, OfError::BadRequestBadLen.into());
    let mut s = switch(OfVersion::V13);
    s.receive(&[5, 2, 0, 8, 0, 0, 0, 7], T0);
    assert_eq!(drain(&mut s, T0), []);
    assert_eq!(s.closed(), Some(CloseReason::BadVersion(5)));
    assert_eq!(only_error(&s).1, OfError::BadRequestBadVersion.into());
    assert!(!s.wants_input() && s.next_deadline().is_none());
}

#[test]
fn a_switch_refuses_what_switches_send() {
    let mut s = switch(OfVersion::V13);
    s.receive(&[4, 21, 0, 8, 0, 0, 0, 7], T0);
    assert_eq!(drain(&mut s, T0), []);
    assert_eq!(only_error(&s).1, OfError::BadRequestBadType.into());
}

#[test]
fn errors_are_never_answered() {
    let mut s = switch(OfVersion::V13);
    s.receive(&[4, 1, 0, 9, 0, 0, 0, 7, 1], T0);
    assert_eq!(drain(&mut s, T0), []);
    assert!(s.output().is_empty());
}

#[test]
fn dialect_follows_what_was_said() {
    let (mut switch, mut controller) = pair(OfVersion::V10);
    let xid = controller.new_xid();
    controller.send(xid, &Message::FlowModTableId(true)).unwrap();
    controller.send(xid, &Message::SetPacketInFormat(PacketInFormat::Nxt2)).unwrap();
    let mut flow_mod = FlowMod::new(FlowModCommand::Add);
    flow_mod.table = flowtable::TableId(7);
    controller.send(xid, &Message::FlowMod(flow_mod.clone())).unwrap();
    let (seen, _) = carry(&mut switch, &mut controller, T0);
    flow_mod.flags = FlowModFlags(FlowModFlags::RESET_COUNTS);
    let [SessionEvent::Message(received)] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!(received.message, Message::FlowMod(flow_mod));
    assert_eq!(switch.dialect(), controller.dialect());
    assert_eq!(switch.dialect().packet_in_format, PacketInFormat::Nxt2);
}

#[test]
fn a_silent_peer_is_probed_and_given_up() {
    let mut s = switch(OfVersion::V13);
    let at = |secs| T0 + Duration::from_secs(secs);
    assert_eq!(s.next_deadline(), Some(at(5)));
    s.handle_timeout(at(4));
    assert!(s.output().is_empty());
    s.handle_timeout(at(5));
    let [(xid, Message::EchoRequest(_))] = sent(&s)[..] else { panic!() };
    s.written(usize::MAX);
    // It answers, and then no more.
    let [a, b, c, d] = xid.0.to_be_bytes();
    s.receive(&[4, 3, 0, 8, a, b, c, d], at(6));
    assert_eq!(drain(&mut s, at(6)), []);
    assert_eq!(s.next_deadline(), Some(at(11)));
    s.handle_timeout(at(11));
    assert_eq!(s.next_deadline(), Some(at(16)));
    s.handle_timeout(at(15));
    assert_eq!(s.closed(), None);
    s.handle_timeout(at(16));
    assert_eq!(s.closed(), Some(CloseReason::Inactive));
}

#[test]
fn a_peer_that_never_says_hello_is_given_up() {
    let mut s = Session::new(config(Side::Switch, &OfVersion::ALL), T0);
    let deadline = s.next_deadline().unwrap();
    s.handle_timeout(deadline);
    assert_eq!(s.closed(), Some(CloseReason::Inactive));
}

/// A switch does not wait for ever, also where it does not probe; a tool waits for its switch.
#[test]
fn hello_is_awaited_for_a_while_only() {
    for probe_interval in [None, Some(Duration::from_secs(3_600))] {
        let config = |side| SessionConfig { probe_interval, ..config(side, &OfVersion::ALL) };
        let mut s = Session::new(config(Side::Switch), T0);
        assert_eq!(s.next_deadline(), Some(T0 + session::HELLO_TIMEOUT));
        s.handle_timeout(T0 + session::HELLO_TIMEOUT);
        assert_eq!(s.closed(), Some(CloseReason::Inactive));
        let (mut s, mut c) =
            (Session::new(config(Side::Switch), T0), Session::new(config(Side::Controller), T0));
        c.handle_timeout(T0 + session::HELLO_TIMEOUT);
        carry(&mut s, &mut c, T0);
        assert_eq!(s.next_deadline(), probe_interval.map(|interval| T0 + interval));
        s.handle_timeout(T0 + session::HELLO_TIMEOUT);
        assert_eq!((s.closed(), c.closed()), (None, None));
    }
}

#[test]
fn requests_wait_and_packet_ins_alone_are_dropped_while_nobody_reads() {
    let mut s = switch(OfVersion::V13);
    let mut taken = 0;
    while s.send_packet_in(&packet_in()).unwrap() == PacketInFate::Sent {
        taken += 1;
        assert!(taken < 1_000_000);
    }
    let packet_ins = s.output().len();
    assert!(packet_ins < session::OUTPUT_PACKET_IN_MAX + 1024);
    // Of a port it hears though.
    s.send_unasked(&port_status()).unwrap();
    assert_eq!(s.output().len(), packet_ins + 80);
    // Echo requests are answered until the pause, then they wait in the input, which is bounded too.
    let echo = [&[4, 2, 0x80, 0, 0, 0, 0, 7][..], &[0; 0x8000 - 8]].concat();
    let mut offered = 0;
    while s.wants_input() {
        s.receive(&echo, T0);
        assert_eq!(drain(&mut s, T0), []);
        offered += 1;
        assert!(offered < 1000);
    }
    assert!(s.output().len() < session::OUTPUT_PAUSE + 0x8000 + 8);
    assert_eq!(s.closed(), None);
    // Once the peer reads, the rest is answered.
    let first = s.output().len();
    s.written(first);
    drain(&mut s, T0);
    assert_eq!((first - packet_ins - 80) / 0x8000 + s.output().len() / 0x8000, offered);
}

#[test]
fn news_are_kept_for_who_reads_and_end_the_connection_of_who_does_not() {
    let mut s = switch(OfVersion::V13);
    s.send_unasked(&port_status()).unwrap();
    let one = s.output().len();
    // What is taken in pieces is what was sent, and makes room.
    let mut got = Vec::new();
    for n in 0..2 * session::UNASKED_MAX / one {
        s.send_unasked(&port_status()).unwrap();
        let piece = s.output()[..s.output().len().min(if n % 2 == 0 { one / 2 } else { 2 * one })].to_vec();
        s.written(piece.len());
        if n < 100 {
            got.extend(piece);
        }
    }
    assert_eq!(s.closed(), None);
    let (mut whole, dialect) = (Vec::new(), *s.dialect());
    while whole.len() < got.len() {
        openflow::encode(&dialect, Xid(0), &port_status(), &mut whole).unwrap();
    }
    assert_eq!(got, whole[..got.len()]);
    // A reply that is large is no news.
    s.written(usize::MAX);
    let large = Message::EchoReply(vec![0; 0xff00]);
    (0..2 * session::UNASKED_MAX / 0xff00).for_each(|_| s.send(Xid(7), &large).unwrap());
    for _ in 0..session::UNASKED_MAX / one {
        s.send_unasked(&port_status()).unwrap();
    }
    assert_eq!(s.closed(), None);
    s.send_unasked(&port_status()).unwrap();
    assert_eq!((s.closed(), s.output()), (Some(CloseReason::Unread), &[][..]));
}

/// Whoever asks is answered: by what can be said of it, or by an error.
#[test]
fn what_cannot_be_said_does_not_keep_the_rest_back() {
    let bucket = |id| Bucket {
        id: BucketId(id),
        actions: [OfAction::Output { port: OfPort(1), max_len: 0 }].into(),
        ..Bucket::new(GroupType::All)
    };
    let group = |id, buckets| GroupDesc {
        group: GroupId(id),
        kind: GroupType::All,
        buckets: (1..=buckets).map(bucket).collect(),
        selection: Selection::default(),
    };
    let most = (1..4_096).take_while(|n| codec::is_describable(&group(1, *n))).last().unwrap();
    for version in OfVersion::ALL {
        let mut s = switch(version);
        // The second has no room in a message, the others just have in every version.
        let groups = vec![group(1, most), group(2, 4_096), group(3, most)];
        let reply = MultipartReply::GroupDesc(groups);
        assert_eq!(s.reply(Xid(5), &Message::MultipartReply { more: false, reply }), Ok(1));
        let told = sent(&s).into_iter().flat_map(|(xid, message)| match message {
            Message::MultipartReply { reply: MultipartReply::GroupDesc(groups), .. } if xid == Xid(5) => {
                groups
            }
            other => panic!("{other:?}"),
        });
        let told: Vec<_> = told.map(|g| (g.group.0, g.buckets.len() as u32)).collect();
        assert_eq!(told, [(1, most), (3, most)]);
        s.written(usize::MAX);
        s.reply(Xid(6), &Message::EchoReply(vec![0; codec::MESSAGE_MAX])).unwrap_err();
        assert_eq!(only_error(&s), (Xid(6), OfError::BadRequestBadLen.into(), vec![]));
    }
    // Buckets of OpenFlow 1.3 and 1.4 are the longest here: 32 bytes with their output.
    assert_eq!(most as usize, (codec::MESSAGE_MAX - 24 - 8) / 32);
    let mut s = switch(OfVersion::V10);
    let bundle = BundleControl { bundle: 1, kind: BundleControlKind::OpenReply, flags: 0 };
    s.reply(Xid(7), &Message::BundleControl(bundle)).unwrap_err();
    assert_eq!(only_error(&s), (Xid(7), OfError::BadRequestBadType.into(), vec![]));
}

#[test]
fn input_without_end_ends_the_connection() {
    let mut s = switch(OfVersion::V13);
    for _ in 0..100 {
        s.receive(&[4; 0x8000], T0);
    }
    assert_eq!(s.closed(), Some(CloseReason::Overflow));
}

fn port_status() -> Message {
    Message::PortStatus(PortStatus { reason: PortStatusReason::Add, port: port() })
}

fn packet_in() -> Message {
    Message::PacketIn(PacketIn {
        reason: PacketInReason::Action,
        table: TableId(0),
        cookie: 0,
        total_len: 60,
        metadata: Match::any(),
        userdata: Vec::new(),
        data: vec![0; 60],
    })
}

fn port() -> OfPortDesc {
    OfPortDesc {
        port: OfPort(1),
        hw_addr: 1,
        name: "p1".to_owned(),
        config: PortConfig::default(),
        state: PortState::default(),
        curr: LinkModes::default(),
        advertised: LinkModes::default(),
        supported: LinkModes::default(),
        peer: LinkModes::default(),
        curr_speed_kbps: 0,
        max_speed_kbps: 0,
    }
}

fn part(xid: u8, more: u8, body: &[u8]) -> Vec<u8> {
    let len = (16 + body.len() as u16).to_be_bytes();
    [&[4, 18, len[0], len[1], 0, 0, 0, xid, 0, 12, 0, more, 0, 0, 0, 0], body].concat()
}

#[test]
fn parts_of_a_request_are_put_together() {
    let version = OfVersion::V13;
    let tables: Vec<_> = (0..3)
        .map(|t| TableFeatures::full(version, flowtable::TableId(t), flowtable::TableId(9), 10))
        .collect();
    let whole = Message::MultipartRequest(MultipartRequest::TableFeatures(tables));
    let bytes = openflow::encode_to_vec(&Dialect::new(version), Xid(5), &whole).unwrap();
    let (one, two) = bytes[16..].split_at(100);
    let mut s = switch(version);
    s.receive(&part(5, 1, one), T0);
    s.receive(&[4, 20, 0, 8, 0, 0, 0, 8], T0);
    s.receive(&part(5, 0, two), T0);
    let messages: Vec<_> = drain(&mut s, T0)
        .into_iter()
        .map(|e| match e {
            SessionEvent::Message(m) => (m.xid, m.message),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(messages, [(Xid(8), Message::BarrierRequest), (Xid(5), whole)]);
}

#[test]
fn a_request_without_its_last_part_is_forgotten() {
    let mut s = switch(OfVersion::V13);
    s.receive(&part(5, 1, &[]), T0);
    drain(&mut s, T0);
    assert_eq!(s.next_deadline(), Some(T0 + session::ASSEMBLY_TIMEOUT));
    s.handle_timeout(T0 + session::ASSEMBLY_TIMEOUT);
    assert_eq!(only_error(&s).1, OfError::BadRequestMultipartRequestTimeout.into());
}

#[test]
fn parts_without_end_are_refused() {
    let mut s = switch(OfVersion::V13);
    for _ in 0..2 * session::ASSEMBLY_MAX / 0x8000 {
        s.receive(&part(5, 1, &[0; 0x8000]), T0);
        drain(&mut s, T0);
    }
    let overflow = |m: &(Xid, Message)| matches!(&m.1, Message::Error(e) if e.code == OfError::BadRequestMultipartBufferOverflow.into());
    assert!(sent(&s).iter().any(overflow));
    assert_eq!(s.closed(), None);
}
