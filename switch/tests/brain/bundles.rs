//! Bundles of messages, and what groups take along.

use super::*;

/// `OFPBF_ATOMIC`.
const ATOMIC: BundleFlags = 1;

fn control(kind: BundleControlKind) -> Message {
    Message::BundleControl(BundleControl { bundle: 3, kind, flags: ATOMIC })
}

fn add(message: Message) -> Message {
    let flags = ATOMIC;
    Message::BundleAdd(BundleAdd {
        bundle: 3,
        flags,
        xid: Xid(7),
        message: Box::new(message),
        quote: vec![9; 16],
    })
}

#[test]
fn bundles_take_effect_as_a_whole_or_not_at_all() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V14);
    let before = lab.flows();
    lab.say(conn, control(BundleControlKind::OpenRequest));
    lab.told(conn, add(flow_mod("tcp,actions=drop")));
    let nobody = PortMod {
        port: OfPort(77),
        hw_addr: 0,
        config: PortConfig(0),
        mask: PortConfig(0),
        advertise: LinkModes::default(),
    };
    lab.told(conn, add(Message::PortMod(nobody)));
    assert_eq!(lab.flows(), before, "nothing happens before the commit");
    let heard = lab.say(conn, control(BundleControlKind::CommitRequest));
    let errors: Vec<_> = heard
        .iter()
        .map(|(_, o)| match o {
            Outgoing::Error(_, error, quote) => (*error, quote.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    // The message at fault with its own bytes, then the commit.
    assert_eq!(errors, [(OfError::PortModFailedBadPort, 16), (OfError::BundleFailedMsgFailed, 8)]);
    assert_eq!(lab.flows(), before);
    // A frame that cannot be sent is found before rules change.
    lab.say(conn, control(BundleControlKind::OpenRequest));
    lab.told(conn, add(flow_mod("tcp,actions=drop")));
    let bad =
        PacketOut { buffer: None, metadata: in_port(OfPort::NORMAL), actions: vec![], data: vec![0; 60] };
    lab.told(conn, add(Message::PacketOut(bad)));
    assert_eq!(lab.say(conn, control(BundleControlKind::CommitRequest)).len(), 2);
    assert_eq!((lab.flows(), lab.brain.drain_commands()), (before, vec![]));
    // Nor is there a bundle with a message that cannot be.
    lab.say(conn, control(BundleControlKind::OpenRequest));
    lab.told(conn, add(flow_mod("actions=enqueue:1:2")));
    let errors = lab.say(conn, control(BundleControlKind::CommitRequest));
    assert!(matches!(errors[0], (_, Outgoing::Error(_, OfError::BadActionBadQueue, _))), "{errors:?}");
    // And one that can be carried out is.
    lab.say(conn, control(BundleControlKind::OpenRequest));
    lab.told(conn, add(flow_mod("delete")));
    lab.told(conn, add(flow_mod("priority=3,actions=drop")));
    let reply = only(lab.say(conn, control(BundleControlKind::CommitRequest)), conn);
    assert!(matches!(reply, Message::BundleControl(c) if c.kind == BundleControlKind::CommitReply));
    assert_eq!(lab.flows(), ["priority=3,actions=drop"]);
}

#[test]
fn a_group_takes_its_rules_along_and_bundles_take_groups() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Primary, OfVersion::V14);
    let all = "group_id=1,type=all,bucket=output:2";
    lab.told(conn, flow_mod("priority=0,actions=drop"));
    assert_eq!(lab.refused(conn, flow_mod("tcp,actions=group:1")), OfError::BadActionBadOutGroup);
    lab.told(conn, group_mod(GroupCommand::Add, all));
    assert_eq!(lab.refused(conn, group_mod(GroupCommand::Add, all)), OfError::GroupModFailedGroupExists);
    lab.told(conn, flow_mod("tcp,send_flow_rem,cookie=5,actions=group:1"));
    lab.told(conn, flow_mod("udp,actions=write_actions(group:1)"));
    // What names the group alone goes by `out_group`.
    let mut of_group = flow("delete");
    of_group.out_group = 2;
    lab.told(conn, Message::FlowMod(of_group.clone()));
    assert_eq!(lab.flows().len(), 3);
    // Without the group there are no rules that name it, and who asked hears why they went.
    let heard = lab.say(conn, group_mod(GroupCommand::Delete, "group_id=1"));
    let Message::FlowRemoved(removed) = only(heard, conn) else { panic!("no FLOW_REMOVED") };
    assert_eq!((removed.reason, removed.cookie), (FlowRemovedReason::GroupDelete, 5));
    assert_eq!(lab.flows(), ["priority=0,actions=drop"]);

    let bundle = |lab: &mut Lab, messages: &[Message]| {
        lab.say(conn, control(BundleControlKind::OpenRequest));
        messages.iter().for_each(|m| lab.told(conn, add(m.clone())));
        lab.say(conn, control(BundleControlKind::CommitRequest))
    };
    // A rule may name a group that an earlier message adds; if a later one fails neither comes to be.
    let first = [group_mod(GroupCommand::Add, all), flow_mod("tcp,actions=group:1")];
    let fails = [&first[..], &[flow_mod("udp,actions=group:9")]].concat();
    let heard = bundle(&mut lab, &fails);
    assert!(matches!(heard[0], (_, Outgoing::Error(_, OfError::BadActionBadOutGroup, _))), "{heard:?}");
    assert_eq!(lab.flows(), ["priority=0,actions=drop"]);
    assert_eq!(lab.refused(conn, flow_mod("tcp,actions=group:1")), OfError::BadActionBadOutGroup);
    // One that deletes the group again leaves nothing of what named it.
    let gone = [&first[..], &[group_mod(GroupCommand::Delete, "group_id=1"), flow_mod("udp,actions=drop")]];
    only(bundle(&mut lab, &gone.concat()), conn);
    assert_eq!(lab.flows(), ["udp,actions=drop", "priority=0,actions=drop"]);
    only(bundle(&mut lab, &first), conn);
    of_group.out_group = 1;
    lab.told(conn, Message::FlowMod(of_group));
    assert_eq!(lab.flows(), ["udp,actions=drop", "priority=0,actions=drop"]);
}

/// A frame may name the groups that there are where it stands in the bundle; one that may not undoes all of it.
#[test]
fn frames_of_bundles_name_the_groups_of_their_place() {
    let all = "group_id=1,type=all,bucket=output:2";
    let frame = || {
        let actions = vec![OfAction::Group(GroupId(1))];
        Message::PacketOut(PacketOut {
            buffer: None,
            metadata: in_port(OfPort::CONTROLLER),
            actions,
            data: vec![0; 60],
        })
    };
    let (add_group, delete) =
        (group_mod(GroupCommand::Add, all), group_mod(GroupCommand::Delete, "group_id=1"));
    for (there, messages, is_good) in [
        (true, [frame(), delete.clone()], true),
        (true, [delete.clone(), frame()], false),
        (false, [add_group.clone(), frame()], true),
        (false, [frame(), add_group.clone()], false),
    ] {
        let mut lab = Lab::small();
        let conn = lab.connect(1, ConnKind::Service, OfVersion::V14);
        if there {
            lab.told(conn, add_group.clone());
            lab.told(conn, flow_mod("tcp,actions=group:1"));
        }
        let before = lab.flows();
        lab.say(conn, control(BundleControlKind::OpenRequest));
        messages.into_iter().for_each(|m| lab.told(conn, add(m)));
        let heard = lab.say(conn, control(BundleControlKind::CommitRequest));
        let sent = lab.brain.drain_commands().len();
        let has_group = lab.brain.bridge("br0").unwrap().groups.get(GroupId(1)).is_some();
        if is_good {
            only(heard, conn);
            assert_eq!((sent, has_group), (1, !there));
        } else {
            let error = &heard[0];
            assert!(matches!(error, (_, Outgoing::Error(_, OfError::BadActionBadOutGroup, _))), "{heard:?}");
            assert_eq!((heard.len(), sent, has_group, lab.flows()), (2, 0, there, before));
        }
    }
}

#[test]
fn bundles_that_are_left_alone_go() {
    let mut lab = Lab::small();
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V14);
    lab.say(conn, control(BundleControlKind::OpenRequest));
    assert_eq!(lab.brain.next_deadline(), Some(at(10)));
    lab.now = at(6);
    lab.told(conn, add(flow_mod("actions=drop")));
    assert_eq!(lab.run_at(10), vec![], "it was touched");
    assert!(matches!(lab.run_at(16)[..], [(_, Outgoing::Error(_, OfError::BundleFailedTimeout, _))]));
    assert_eq!(lab.refused(conn, control(BundleControlKind::CommitRequest)), OfError::BundleFailedBadId);
}
