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
