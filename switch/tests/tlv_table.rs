//! The map of Geneve options over OpenFlow: what Open vSwitch 3.1 answers to the same requests, but for our limits.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use flowtable::text::{NoPortNames, parse_flow_line, parse_match};
use flowtable::{FlowModCommand as Wanted, OfPort, TableId};
use openflow::message::*;
use openflow::{OfError, OfVersion};
use packet::tunnel::GeneveOption;
use packet::{PacketKey, slot};
use switch::brain::Brain;
use switch::config::{BridgeConfig, Config};
use switch::forwarding::{NoPunt, PacketInCause, Punted};
use switch::ofproto::{ConnId, ConnKind, Outgoing};

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
const BR0: ConnId = ConnId(1);
const BR1: ConnId = ConnId(2);

fn brain() -> Brain {
    let mut brain = Brain::new(HashSeed::new(1, 2), Box::new(NoPunt));
    let bridges = ["br0", "br1"].map(|name| (name.to_owned(), BridgeConfig::new(name)));
    brain.configure(&Config { bridges: bridges.into(), ..Config::default() }, NOW);
    brain.connect(BR0, "br0", ConnKind::Service, OfVersion::V10);
    brain.connect(BR1, "br1", ConnKind::Service, OfVersion::V10);
    brain
}

/// The only answer to a request, if there is one.
fn ask(brain: &mut Brain, conn: ConnId, message: Message) -> Result<Option<Message>, OfError> {
    brain.receive(conn, Xid(7), message, &[0; 8], NOW);
    let mut heard = brain.drain_outbox();
    assert!(heard.len() <= 1, "{heard:?}");
    match heard.pop() {
        None => Ok(None),
        Some((_, Outgoing::Message(_, message))) => Ok(Some(message)),
        Some((_, Outgoing::Error(_, error, _))) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn change(command: TlvTableCommand, mappings: &[(u16, u8, u8, u16)]) -> Message {
    let mapping = |(class, kind, len, index): &(u16, u8, u8, u16)| TlvMapping {
        class: *class,
        kind: *kind,
        len: *len,
        index: *index,
    };
    Message::TlvTableMod(TlvTableMod { command, mappings: mappings.iter().map(mapping).collect() })
}

fn add(mappings: &[(u16, u8, u8, u16)]) -> Message {
    change(TlvTableCommand::Add, mappings)
}

fn delete(index: u16) -> Message {
    change(TlvTableCommand::Delete, &[(9, 9, 4, index)])
}

fn mapped(brain: &mut Brain, conn: ConnId) -> Vec<(u16, u8, u8, u16)> {
    let Ok(Some(Message::TlvTableReply(reply))) = ask(brain, conn, Message::TlvTableRequest) else {
        panic!("no map");
    };
    assert_eq!((reply.max_option_space, reply.max_fields), (128, 8));
    reply.mappings.iter().map(|m| (m.class, m.kind, m.len, m.index)).collect()
}

fn flow(text: &str) -> Message {
    let (wanted, flow) = parse_flow_line(text, Wanted::Add, &NoPortNames).unwrap().unwrap();
    let command = if wanted == Wanted::Add { FlowModCommand::Add } else { FlowModCommand::Delete };
    Message::FlowMod(FlowMod {
        table: TableId(0),
        matching: flow.matching,
        actions: flow.actions,
        new_cookie: Some(0),
        ..FlowMod::new(command)
    })
}

#[test]
fn options_are_added_once_or_not_at_all() {
    use OfError::*;
    let mut brain = brain();
    assert_eq!(ask(&mut brain, BR0, add(&[(0x102, 0x80, 4, 0), (0xffff, 3, 16, 5)])), Ok(None));
    let before = mapped(&mut brain, BR0);
    assert_eq!(before, [(0x102, 0x80, 4, 0), (0xffff, 3, 16, 5)]);
    for (mappings, error) in [
        (&[(0xffff, 3, 16, 6)][..], NxTlvTableModFailedDupEntry),
        (&[(0xffff, 4, 16, 5)], NxTlvTableModFailedAlreadyMapped),
        // The field is looked at before the option.
        (&[(0x102, 0x80, 4, 0)], NxTlvTableModFailedAlreadyMapped),
        (&[(1, 7, 4, 3), (0x102, 0x80, 4, 4)], NxTlvTableModFailedDupEntry),
        (&[(1, 7, 4, 3), (1, 7, 4, 3)], NxTlvTableModFailedAlreadyMapped),
        (&[(1, 1, 4, 1), (1, 1, 4, 2)], NxTlvTableModFailedDupEntry),
        // Our limits.
        (&[(1, 1, 20, 1)], NxTlvTableModFailedTableFull),
        (&[(1, 1, 4, 8)], NxTlvTableModFailedBadFieldIdx),
    ] {
        assert_eq!(ask(&mut brain, BR0, add(mappings)), Err(error), "{mappings:?}");
        assert_eq!(mapped(&mut brain, BR0), before);
    }
    let other_length = ask(&mut brain, BR1, add(&[(0x102, 0x80, 8, 0)]));
    assert_eq!(other_length, Err(NxTlvTableModFailedAlreadyMapped), "another bridge reads it otherwise");
    assert_eq!(ask(&mut brain, BR1, add(&[(0x102, 0x80, 4, 1)])), Err(NxTlvTableModFailedDupEntry));
    assert_eq!(ask(&mut brain, BR1, add(&[(0x102, 0x80, 4, 0), (1, 2, 4, 7)])), Ok(None));
    let snapshot = brain.publish();
    let all: Vec<_> = snapshot.geneve_map().iter().map(|(index, o)| (index, o.class)).collect();
    assert_eq!(all, [(0, 0x102), (5, 0xffff), (7, 1)]);
}

#[test]
fn options_go_when_no_rule_needs_them() {
    let mut brain = brain();
    ask(&mut brain, BR0, add(&[(1, 1, 4, 0), (1, 2, 8, 1)])).unwrap();
    for text in [
        "tun_metadata0=1,actions=drop",
        "tun_metadata0,actions=drop",
        "actions=set_field:1->tun_metadata0",
        "actions=move:tun_metadata0[0..31]->reg0[]",
        "actions=clone(set_field:1->tun_metadata0)",
        "actions=output:tun_metadata0[0..15]",
    ] {
        ask(&mut brain, BR0, flow(text)).unwrap();
        let refused = Err(OfError::NxTlvTableModFailedInvalidTlvDel);
        assert_eq!(ask(&mut brain, BR0, delete(0)), refused, "{text}");
        assert_eq!(ask(&mut brain, BR0, change(TlvTableCommand::Clear, &[])), refused, "{text}");
        ask(&mut brain, BR0, flow("delete")).unwrap();
    }
    // Which option is said to stand there does not count, nor does it matter if none does.
    assert_eq!(ask(&mut brain, BR0, delete(1)), Ok(None));
    assert_eq!(ask(&mut brain, BR0, delete(1)), Ok(None));
    assert_eq!(mapped(&mut brain, BR0), [(1, 1, 4, 0)]);
    assert_eq!(ask(&mut brain, BR0, change(TlvTableCommand::Clear, &[])), Ok(None));
    assert_eq!(mapped(&mut brain, BR0), []);
    assert!(brain.publish().geneve_map().is_empty());
}

#[test]
fn fields_that_stand_for_nothing_are_refused() {
    let mut brain = brain();
    ask(&mut brain, BR0, add(&[(1, 1, 4, 1)])).unwrap();
    let refused = Err(OfError::NxFlowModFailedInvalidTlvField);
    for text in [
        "tun_metadata0=1,actions=drop",
        "tun_metadata0,actions=drop",
        "actions=set_field:1->tun_metadata0",
        "actions=move:tun_metadata0[0..31]->reg0[]",
        "actions=output:tun_metadata0[0..15]",
        "delete tun_metadata0=1",
    ] {
        assert_eq!(ask(&mut brain, BR0, flow(text)), refused, "{text}");
    }
    let request = FlowStatsRequest::all(FlowStatsForm::Nicira);
    let matching = parse_match("tun_metadata0=1", &NoPortNames).unwrap();
    let request = MultipartRequest::Flow(FlowStatsRequest { matching, ..request });
    assert_eq!(ask(&mut brain, BR0, Message::MultipartRequest(request)), refused);
    assert_eq!(ask(&mut brain, BR0, flow("tun_metadata1=1,actions=drop")), Ok(None));
    assert_eq!(ask(&mut brain, BR1, flow("tun_metadata1=1,actions=drop")), refused, "another bridge's");
}

/// A controller is told of the options that a frame had, also of those that are zero.
#[test]
fn packet_ins_tell_of_options() {
    let mut brain = brain();
    brain.connect(ConnId(3), "br0", ConnKind::Primary, OfVersion::V13);
    let mut key = PacketKey::default();
    key.set(slot::TUN_METADATA_PRESENT, 0b1001);
    key.set(slot::TUN_METADATA0, 7);
    key.set(slot::TUN_IPV6_DST, 2);
    let packet_in = switch::forwarding::PacketIn {
        bridge: brain.bridge("br0").unwrap().id,
        reason: flowtable::PacketInReason::Action,
        cause: PacketInCause::Action,
        table: TableId(0),
        cookie: 0,
        controller_id: 0,
        max_len: 0,
        userdata: [].into(),
        in_port: OfPort(2),
        pipeline: Default::default(),
    };
    brain.packet_in(Punted { bytes: vec![0; 60], total_len: 60, key, packet_in: packet_in.into() });
    let heard = brain.drain_outbox();
    let [(_, Outgoing::PacketIn(Message::PacketIn(told)))] = heard.as_slice() else { panic!("{heard:?}") };
    let wanted = "in_port=2,tun_ipv6_dst=::2,tun_metadata0=7,tun_metadata3=0";
    assert_eq!(told.metadata, parse_match(wanted, &NoPortNames).unwrap());
}

#[test]
fn the_snapshot_reads_what_is_mapped() {
    let mut brain = brain();
    let before = brain.publish();
    ask(&mut brain, BR1, add(&[(0x0102, 7, 8, 3)])).unwrap();
    let after = brain.publish();
    assert!(before.geneve_map().is_empty());
    assert_eq!(after.geneve_map().get(3), Some(GeneveOption { class: 0x0102, kind: 7, len: 8 }));
    brain.configure(&Config::default(), NOW);
    assert!(brain.publish().geneve_map().is_empty(), "gone with its bridge");
}
