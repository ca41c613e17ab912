//! Monitors of rules.

use super::*;

fn monitor(id: u32, flags: u16) -> Message {
    Message::MultipartRequest(MultipartRequest::FlowMonitor(vec![FlowMonitor {
        id,
        command: MonitorCommand::Add,
        flags: MonitorFlags(flags),
        out_port: OfPort::ANY,
        out_group: GROUP_ANY,
        table: TableId::ALL,
        matching: flowtable::Match::any(),
    }]))
}

fn updates(message: Message) -> Vec<FlowUpdate> {
    match message {
        Message::MultipartReply { reply: MultipartReply::FlowMonitor(updates), .. } => updates,
        other => panic!("{other:?}"),
    }
}

#[test]
fn monitors_see_what_is_there_and_what_others_do() {
    let mut lab = Lab::small();
    let (one, two) = (
        lab.connect(1, ConnKind::Service, OfVersion::V10),
        lab.connect(2, ConnKind::Service, OfVersion::V10),
    );
    let all = MonitorFlags::INITIAL
        | MonitorFlags::ADD
        | MonitorFlags::DELETE
        | MonitorFlags::MODIFY
        | MonitorFlags::ACTIONS;
    let seen = updates(only(lab.say(one, monitor(1, all)), one));
    assert!(
        matches!(&seen[..], [FlowUpdate::Full(u)] if u.event == MonitorEvent::Initial && u.actions.len() == 1)
    );
    assert_eq!(lab.refused(one, monitor(1, all)), OfError::FlowMonitorFailedMonitorExists);
    let event =
        |lab: &mut Lab, by: ConnId, text: &str| match &updates(only(lab.say(by, flow_mod(text)), one))[..] {
            [FlowUpdate::Full(u)] => Some((u.event, u.actions.clone())),
            [FlowUpdate::Abbrev(Xid(7))] => None,
            other => panic!("{other:?}"),
        };
    let drop = Vec::<OfAction>::new();
    assert_eq!(event(&mut lab, two, "tcp,actions=drop"), Some((MonitorEvent::Added, drop)));
    let (what, actions) = event(&mut lab, two, "modify tcp,actions=output:2").unwrap();
    assert_eq!((what, actions.len()), (MonitorEvent::Modified, 1));
    assert_eq!(event(&mut lab, one, "udp,actions=drop"), None, "its own changes are abbreviated");
    let (what, _) = event(&mut lab, two, "delete tcp").unwrap();
    assert_eq!(what, MonitorEvent::Removed(FlowRemovedReason::Delete));
    lab.told(one, Message::FlowMonitorCancel(1));
    lab.told(two, flow_mod("delete"));
}

/// Who watches the rules that send to a port hears too when one ceases to.
#[test]
fn monitors_of_a_port_see_rules_turn_away_from_it() {
    let mut lab = Lab::small();
    let (one, two) = (
        lab.connect(1, ConnKind::Service, OfVersion::V10),
        lab.connect(2, ConnKind::Service, OfVersion::V10),
    );
    let Message::MultipartRequest(MultipartRequest::FlowMonitor(mut monitors)) =
        monitor(1, MonitorFlags::ADD | MonitorFlags::MODIFY | MonitorFlags::DELETE)
    else {
        panic!("no monitor")
    };
    monitors[0].out_port = OfPort(2);
    assert_eq!(
        updates(only(lab.say(one, Message::MultipartRequest(MultipartRequest::FlowMonitor(monitors))), one)),
        []
    );
    let mut events = |text: &str| -> Vec<MonitorEvent> {
        let said = lab.say(two, flow_mod(text));
        let seen = said.into_iter().flat_map(|(_, outgoing)| match outgoing {
            Outgoing::Update(message) => updates(message),
            other => panic!("{other:?}"),
        });
        seen.map(|u| match u {
            FlowUpdate::Full(u) => u.event,
            other => panic!("{other:?}"),
        })
        .collect()
    };
    assert_eq!(events("tcp,actions=output:2"), [MonitorEvent::Added]);
    assert_eq!(events("modify tcp,actions=output:1"), [MonitorEvent::Modified]);
    assert_eq!(events("modify tcp,actions=drop"), []);
    assert_eq!(events("tcp,actions=output:2"), [MonitorEvent::Modified]);
    assert_eq!(events("tcp,actions=output:1"), [MonitorEvent::Modified], "replaced");
}

/// So does who watches the rules that lead to a group.
#[test]
fn monitors_of_a_group_see_the_rules_that_name_it() {
    let mut lab = Lab::small();
    let (one, two) = (
        lab.connect(1, ConnKind::Service, OfVersion::V14),
        lab.connect(2, ConnKind::Service, OfVersion::V14),
    );
    for group in [1, 2] {
        let text = format!("group_id={group},type=all,bucket=output:2");
        lab.told(two, group_mod(GroupCommand::Add, &text));
    }
    lab.told(two, flow_mod("arp,actions=group:1"));
    let all = MonitorFlags::INITIAL | MonitorFlags::ADD | MonitorFlags::MODIFY | MonitorFlags::DELETE;
    let Message::MultipartRequest(MultipartRequest::FlowMonitor(mut monitors)) = monitor(1, all) else {
        panic!("no monitor")
    };
    monitors[0].out_group = 1;
    let events = |said: Vec<(ConnId, Outgoing)>| -> Vec<MonitorEvent> {
        let seen = said.into_iter().flat_map(|(_, outgoing)| match outgoing {
            Outgoing::Message(_, message) | Outgoing::Update(message) => updates(message),
            other => panic!("{other:?}"),
        });
        seen.map(|u| match u {
            FlowUpdate::Full(u) => u.event,
            other => panic!("{other:?}"),
        })
        .collect()
    };
    let watch = Message::MultipartRequest(MultipartRequest::FlowMonitor(monitors));
    assert_eq!(events(lab.say(one, watch)), [MonitorEvent::Initial]);
    let mut seen = |message| events(lab.say(two, message));
    assert_eq!(seen(flow_mod("tcp,actions=group:1")), [MonitorEvent::Added]);
    assert_eq!(seen(flow_mod("udp,actions=group:2")), []);
    assert_eq!(seen(flow_mod("icmp,actions=output:1")), []);
    assert_eq!(seen(flow_mod("modify udp,actions=write_actions(group:1)")), [MonitorEvent::Modified]);
    assert_eq!(seen(flow_mod("modify tcp,actions=output:1")), [MonitorEvent::Modified]);
    assert_eq!(seen(flow_mod("modify tcp,actions=drop")), []);
    let gone = MonitorEvent::Removed(FlowRemovedReason::GroupDelete);
    assert_eq!(seen(group_mod(GroupCommand::Delete, "group_id=1")), [gone, gone]);
}

/// Who does not take its messages is told once that it misses some, then in what the rules have become different.
#[test]
fn monitors_that_are_behind_pause_and_resume_with_what_changed() {
    for version in [OfVersion::V10, OfVersion::V13, OfVersion::V14] {
        let mut lab = Lab::small();
        let (one, two) =
            (lab.connect(1, ConnKind::Service, version), lab.connect(2, ConnKind::Service, version));
        for text in ["tcp,actions=1", "udp,actions=1", "icmp,actions=1", "arp,actions=1"] {
            lab.told(two, flow_mod(text));
        }
        let all = MonitorFlags::ADD | MonitorFlags::DELETE | MonitorFlags::MODIFY | MonitorFlags::ACTIONS;
        assert_eq!(updates(only(lab.say(one, monitor(1, all)), one)), []);
        let mark = |message: Message| match message {
            Message::FlowMonitorPaused if version < OfVersion::V14 => FlowUpdate::Paused,
            Message::FlowMonitorResumed if version < OfVersion::V14 => FlowUpdate::Resumed,
            other if version >= OfVersion::V14 => updates(other).remove(0),
            other => panic!("{other:?}"),
        };
        // Nothing is missed: nothing is said.
        lab.brain.monitors_hold(one);
        lab.brain.monitors_go_on(one);
        assert_eq!(lab.brain.drain_outbox(), vec![]);
        lab.brain.monitors_hold(one);
        assert_eq!(mark(only(lab.say(two, flow_mod("modify tcp,actions=2")), one)), FlowUpdate::Paused);
        lab.brain.monitors_hold(one);
        for by in [one, two] {
            for text in
                ["delete udp", "sctp,actions=1", "delete sctp", "ip,actions=1", "modify arp,actions=3"]
            {
                lab.told(by, flow_mod(text));
            }
        }
        lab.told(two, flow_mod("modify arp,actions=1"));
        lab.brain.monitors_go_on(one);
        let mut told = lab.brain.drain_outbox();
        assert_eq!(mark(only(vec![told.pop().unwrap()], one)), FlowUpdate::Resumed);
        let mut seen: Vec<_> = updates(only(told, one))
            .into_iter()
            .map(|update| match update {
                FlowUpdate::Full(u) => {
                    let field = |slot| u.matching.get(slot).0 as u16;
                    let about = (field(slot::DL_TYPE), field(slot::NW_PROTO));
                    let outputs = u.actions.iter().map(|action| match action {
                        OfAction::Output { port, .. } => port.0,
                        other => panic!("{other:?}"),
                    });
                    (u.event, about, outputs.collect::<Vec<_>>())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(matches!(seen[0].0, MonitorEvent::Removed(_)), "{seen:?}");
        seen.sort_by_key(|(_, about, _)| *about);
        let wanted = [
            (MonitorEvent::Added, (0x0800, 0), vec![1]),
            (MonitorEvent::Modified, (0x0800, 6), vec![2]),
            (MonitorEvent::Removed(FlowRemovedReason::Delete), (0x0800, 17), vec![1]),
            // There and back again, but not the rule that it was.
            (MonitorEvent::Modified, (0x0806, 0), vec![1]),
        ];
        assert_eq!(seen, wanted);
        // And from here on all is told again.
        let added = updates(only(lab.say(two, flow_mod("sctp,actions=1")), one));
        assert!(matches!(&added[..], [FlowUpdate::Full(u)] if u.event == MonitorEvent::Added));
    }
}
