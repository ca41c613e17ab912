//! Groups and meters: what controllers see, what becomes of frames, and when cached flows stop being right.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use datapath::{DpAction, Drop, FrameClass, SlowPath, Translation, Upcall};
use flowtable::group::{GroupCommand, Groups};
use flowtable::meter::MeterCommand;
use flowtable::text::{FlowUsage, NoPortNames, parse_flow, parse_group_mod, parse_meter_mod};
use flowtable::{FlowModCommand, OfPort, OnMissing, RuleStore};
use packet::key::slot;
use packet::{DpPort, PacketKey};
use std::collections::BTreeSet;
use std::sync::Arc;
use switch::bridge::*;
use switch::dp_text::{display_program, parse_dp_key};
use switch::forwarding::*;
use switch::mac::MacAddr;
use switch::meter::Meters;
use switch::trace::{SideEffects, trace};
use switch::tunnel::SharedCounters;
use switch::vlan::VlanConfig;

/// A bridge with ports 1 to 4, which are ports 11 to 14 of the datapath.
struct Lab {
    staging: Staging,
    bridge: BridgeId,
    rules: RuleStore,
    groups: Groups,
    meters: Meters,
}

impl Lab {
    fn new(flows: &[&str], groups: &[&str]) -> Lab {
        let mut staging = Staging::new(HashSeed::new(5, 6), Box::new(NoPunt));
        let id = staging.add_bridge("br0");
        let bridge = staging.bridge_mut(id).unwrap();
        for n in 1..=4 {
            let name: Arc<str> = format!("p{n}").into();
            bridge.put_port(BridgePort {
                of_port: OfPort(n),
                name: Arc::clone(&name),
                mac: MacAddr(n.into()),
                config: PortConfig::default(),
                link: Link::Up,
                carrier: Link::Up,
                device: Device::Datapath(DpPort(10 + n)),
                counters: SharedCounters::default(),
                bundle: BundleId(n),
            });
            let (id, vlan) = (BundleId(n), VlanConfig::default());
            bridge.put_bundle(Bundle { id, name, members: vec![OfPort(n)], vlan, protected: false });
        }
        let rules = staging.new_rules();
        let mut lab =
            Lab { staging, bridge: id, rules, groups: Groups::default(), meters: Meters::default() };
        groups.iter().for_each(|g| lab.group(GroupCommand::Add, g));
        flows.iter().for_each(|f| lab.flow(f));
        lab
    }

    fn flow(&mut self, text: &str) {
        let flow = parse_flow(text, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames).unwrap();
        self.rules.apply(&flow.flow_mod(FlowModCommand::Add, OnMissing::Add), Instant::ZERO).unwrap();
    }

    fn group(&mut self, command: GroupCommand, text: &str) {
        let group_mod =
            parse_group_mod(text, command, &NoPortNames).unwrap_or_else(|e| panic!("{text}: {e}"));
        self.groups.apply(&group_mod, Instant::ZERO).unwrap();
    }

    fn meter(&mut self, command: MeterCommand, text: &str) {
        self.meters.apply(&parse_meter_mod(text, command).unwrap(), Instant::ZERO).unwrap();
    }

    fn carrier(&mut self, port: u32, link: Link) {
        let bridge = self.staging.bridge_mut(self.bridge).unwrap();
        bridge.port_mut(OfPort(port)).unwrap().carrier = link;
    }

    fn publish(&mut self) -> Arc<Forwarding> {
        self.staging.set_groups(self.bridge, &self.groups);
        self.staging.set_meters(self.bridge, &self.meters);
        self.staging.set_rules(self.bridge, &mut self.rules);
        self.staging.publish()
    }
}

fn udp(client: u8, port: u16) -> PacketKey {
    let text = format!(
        "in_port(11),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
         ipv4(src=10.0.0.{client},dst=10.0.0.2,proto=17,tos=0x28,ttl=64),udp(src={port},dst=53)"
    );
    parse_dp_key(&text, &|_| None).unwrap()
}

fn translate(fwd: &Forwarding, key: &PacketKey) -> Translation<Effect> {
    fwd.translate(&Upcall { key })
}

/// What becomes of one frame.
fn fate(lab: &mut Lab) -> String {
    let (fwd, key) = (lab.publish(), udp(1, 1000));
    display_program(&translate(&fwd, &key).program, &key).to_string()
}

fn check(flow: &str, groups: &[&str], wanted: &str) {
    assert_eq!(fate(&mut Lab::new(&[flow], groups)), wanted, "{flow} with {groups:?}");
}

#[test]
fn buckets_act_on_the_frame_as_it_was() {
    let all = "group_id=1,type=all,bucket=set_field:1.1.1.1->ip_dst,output:2,bucket=dec_ttl,output:3,bucket=output:4";
    check(
        "actions=group:1,LOCAL,output:2",
        &[all],
        "set(ipv4(dst=1.1.1.1)),12,set(ipv4(dst=10.0.0.2,ttl=63)),13,set(ipv4(ttl=64)),14,12",
    );
    // Registers too are what they were.
    let mut lab = Lab::new(&["actions=group:2,resubmit(,1)", "table=1,reg0=0,actions=output:3"], &[]);
    lab.group(GroupCommand::Add, "group_id=2,type=indirect,bucket=set_field:5->reg0,output:2");
    assert_eq!(fate(&mut lab), "12,13");
    // Tags come and go with the bucket.
    let tagged =
        "group_id=1,type=all,bucket=push_vlan:0x8100,set_field:4101->vlan_vid,output:2,bucket=output:3";
    check("actions=group:1", &[tagged], "push_vlan(vid=5,pcp=0),12,pop_vlan,13");
    // What changes the frame for good is done to a copy.
    let labelled = "group_id=1,type=all,bucket=push_mpls:0x8847,output:2,bucket=output:3";
    check(
        "actions=group:1,output:4",
        &[labelled],
        "clone(push_mpls(label=0,tc=2,ttl=64,bos=1,eth_type=0x8847),12),13,14",
    );
    // A bucket that nothing follows is no copy: cached flows hold on to the connection.
    let balanced =
        "group_id=1,type=select,bucket=ct(commit,table=1,nat(dst=10.9.0.1:80)),bucket=weight:0,output:2";
    let mut lab = Lab::new(&["ip,actions=group:1", "table=1,actions=output:3"], &[balanced]);
    let text = fate(&mut lab);
    assert!(text.starts_with("ct(commit,") && text.ends_with(",recirc(0x1)"), "{text}");
    let mut lab = Lab::new(&["ip,actions=group:1,output:4", "table=1,actions=output:3"], &[balanced]);
    let text = fate(&mut lab);
    assert!(text.starts_with("clone(ct(commit,") && text.ends_with(",recirc(0x1)),14"), "{text}");
}

#[test]
fn buckets_are_action_sets() {
    let of = |bucket: &str| format!("group_id=1,type=indirect,bucket={bucket}");
    check("actions=group:1", &[&of("output:2,output:3,dec_ttl")], "set(ipv4(ttl=63)),13");
    check("actions=group:1", &[&of("output:2,group:7"), "group_id=7,type=all,bucket=output:4"], "14");
    check("actions=group:1,output:3", &[&of("exit,output:2")], "12,13");
    check("actions=group:1", &["group_id=1,type=all"], "drop");
    check("actions=write_actions(output:2,group:1)", &[&of("output:4")], "14");
    check("actions=group:9", &[], "drop");
    // A bucket that resubmits, and one whose rule ends the pipeline: what follows the group goes on.
    let mut lab =
        Lab::new(&["actions=group:1,output:4", "table=1,actions=output:2,exit"], &[&of("resubmit(,1)")]);
    assert_eq!(fate(&mut lab), "12,14");
}

#[test]
fn groups_within_groups_have_limits() {
    // Each group doubles what the next one does.
    let chain: Vec<String> =
        (1..=20).map(|n| format!("group_id={n},type=all,bucket=group:{0},bucket=group:{0}", n + 1)).collect();
    let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
    let mut lab = Lab::new(&["actions=group:1"], &chain);
    let reason = |t: &Translation<Effect>| match &*t.program.actions {
        [DpAction::Drop(why)] => Some(*why),
        _ => None,
    };
    assert_eq!(reason(&translate(&lab.publish(), &udp(1, 1))), Some(Drop::TooDeep));
    // By way of a table a group can lead to itself.
    let mut lab = Lab::new(&["actions=group:1"], &["group_id=1,type=indirect,bucket=resubmit(,0)"]);
    assert_eq!(reason(&translate(&lab.publish(), &udp(1, 1))), Some(Drop::TooDeep));
}

#[test]
fn failover_follows_ports_and_groups() {
    let ff = "group_id=1,type=ff,bucket=watch_port:2,actions=2,bucket=watch_group:5,actions=3,bucket=watch_port:4,actions=4";
    let watched = "group_id=5,type=ff,bucket=watch_port:3,actions=drop";
    let mut lab = Lab::new(&["actions=group:1"], &[watched, ff]);
    assert_eq!(fate(&mut lab), "12");
    lab.carrier(2, Link::Down);
    assert_eq!(fate(&mut lab), "13");
    lab.carrier(3, Link::Down);
    assert_eq!(fate(&mut lab), "14");
    lab.carrier(4, Link::Down);
    assert_eq!(fate(&mut lab), "drop");
    lab.carrier(3, Link::Up);
    assert_eq!(fate(&mut lab), "13");
    lab.group(GroupCommand::Delete, "group_id=5");
    assert_eq!(fate(&mut lab), "drop");
    // A port that is set down is down, whatever its device says.
    lab.carrier(2, Link::Up);
    let bridge = lab.staging.bridge_mut(lab.bridge).unwrap();
    bridge.port_mut(OfPort(2)).unwrap().config = PortConfig::PORT_DOWN;
    assert_eq!(fate(&mut lab), "drop");
}

/// Ports that frames of many clients go to.
fn spread(fwd: &Forwarding) -> Vec<String> {
    let keys = (1..=250).flat_map(|client| [udp(client, 1000), udp(client, 2000)]);
    keys.map(|key| display_program(&translate(fwd, &key).program, &key).to_string()).collect()
}

#[test]
fn select_groups_share_out_and_avoid_dead_buckets() {
    for method in ["", ",selection_method=dp_hash", ",selection_method=hash", ",selection_method=maglev"] {
        let group = format!(
            "group_id=1,type=select{method},bucket=weight:1,watch_port:2,actions=2,bucket=weight:3,watch_port:3,actions=3,\
             bucket=weight:0,actions=4"
        );
        let mut lab = Lab::new(&["actions=group:1"], &[&group]);
        let before = spread(&lab.publish());
        let to = |list: &[String], port: &str| list.iter().filter(|p| *p == port).count();
        let (second, third) = (to(&before, "12"), to(&before, "13"));
        assert_eq!(second + third, before.len(), "{method}: a bucket without weight gets nothing");
        assert!((2.0..4.5).contains(&(third as f64 / second as f64)), "{method}: {second} to {third}");
        lab.carrier(2, Link::Down);
        assert_eq!(to(&spread(&lab.publish()), "13"), before.len());
        lab.carrier(2, Link::Up);
        assert_eq!(spread(&lab.publish()), before, "{method}: back as it was");
    }
    // Only what the group hashes is looked at.
    let by_address = "group_id=1,type=select,selection_method=hash,fields(ip_src),bucket=2,bucket=3,bucket=4";
    let mut lab = Lab::new(&["actions=group:1"], &[by_address]);
    let fwd = lab.publish();
    let ports: Vec<String> = spread(&fwd);
    assert!(ports.chunks(2).all(|pair| pair.first() == pair.last()), "the ports do not matter");
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 3);
    let profile = fwd.profile(FrameClass::fresh(DpPort(11), 0x0800)).unwrap();
    assert_eq!(profile.mask.0.get(slot::NW_SRC), u128::from(u32::MAX));
    assert_eq!(profile.mask.0.get(slot::TP_SRC), 0);
}

/// A flow that was cached before a change, and whether it still counts as right after.
fn survives(lab: &mut Lab, change: impl FnOnce(&mut Lab)) -> bool {
    let fwd = lab.publish();
    let deps = translate(&fwd, &udp(1, 1000)).deps;
    assert!(fwd.still_valid(&deps));
    change(lab);
    lab.publish().still_valid(&deps)
}

#[test]
fn cached_flows_depend_on_the_groups_and_meters_that_they_passed() {
    use GroupCommand::{Add, Delete, Modify};
    let groups = [
        "group_id=1,type=indirect,bucket=output:2",
        "group_id=2,type=indirect,bucket=output:2",
        "group_id=3,type=ff,bucket=watch_group:1,output:3",
        "group_id=70000,type=indirect,bucket=output:2",
    ];
    let mut lab = Lab::new(&["actions=group:1"], &groups);
    assert!(survives(&mut lab, |lab| lab.group(Modify, "group_id=2,type=indirect,bucket=output:3")));
    assert!(survives(&mut lab, |lab| lab.group(Delete, "group_id=70000")));
    assert!(!survives(&mut lab, |lab| lab.group(Modify, "group_id=1,type=indirect,bucket=output:3")));
    assert!(!survives(&mut lab, |lab| lab.group(Delete, "group_id=1")));
    assert!(!survives(&mut lab, |lab| lab.group(Add, "group_id=1,type=indirect,bucket=output:2")));
    // A number that differs in its upper half only is taken for the same: too careful, never wrong.
    assert!(!survives(&mut lab, |lab| lab.group(Add, "group_id=65537,type=indirect,bucket=output:2")));
    // One that is watched counts as well.
    let mut lab = Lab::new(&["actions=group:3"], &groups);
    assert!(!survives(&mut lab, |lab| lab.group(Modify, "group_id=1,type=all")));

    let mut lab = Lab::new(&["actions=meter:1,output:2"], &[]);
    lab.meter(MeterCommand::Add, "meter=1,pktps,band=type=drop,rate=5");
    lab.meter(MeterCommand::Add, "meter=2,pktps,band=type=drop,rate=5");
    assert!(survives(&mut lab, |lab| lab.meter(MeterCommand::Modify, "meter=2,pktps,band=type=drop,rate=7")));
    assert!(!survives(&mut lab, |lab| lab.meter(MeterCommand::Modify, "meter=1,pktps,band=type=drop,rate=7")));
    assert!(!survives(&mut lab, |lab| lab.meter(MeterCommand::Delete, "meter=1")));
}

#[test]
fn meters_come_first_and_their_remarks_are_not_undone() {
    let mut lab = Lab::new(&["actions=meter:1,output:2"], &[]);
    lab.meter(MeterCommand::Add, "meter=1,kbps,bands=type=dscp_remark,rate=5,prec_level=1");
    assert_eq!(fate(&mut lab), "meter(1),12");
    // What is written behind the meter is written even if it is what the frame had before the meter.
    let mut written = Lab::new(
        &["ip,actions=meter:1,resubmit(,1)", "table=1,ip,actions=set_field:10->ip_dscp,output:2"],
        &[],
    );
    written.meters = lab.meters.clone();
    assert_eq!(fate(&mut written), "meter(1),set(ipv4(tos=0x28/0xfc)),12");
    // Frames are counted even if nothing comes of them.
    let mut dropped = Lab::new(&["actions=meter:1,goto_table:1"], &[]);
    dropped.meters = lab.meters.clone();
    assert_eq!(fate(&mut dropped), "meter(1)");
}

#[test]
fn credits_go_to_groups_and_buckets() {
    let mut lab = Lab::new(
        &["actions=group:1"],
        &["group_id=1,type=all,bucket=group:2,bucket=output:3", "group_id=2,type=indirect,bucket=output:2"],
    );
    let fwd = lab.publish();
    for credit in translate(&fwd, &udp(1, 1)).credits {
        credit.credit(5, 500, Instant::from_secs(1), 0);
    }
    let count = |id: u32| {
        let group = lab.groups.get(flowtable::GroupId(id)).unwrap();
        let buckets: Vec<u64> = group.bucket_stats.iter().map(|s| s.packets()).collect();
        (group.stats.packets(), group.stats.bytes(), buckets)
    };
    assert_eq!(count(1), (5, 500, vec![5, 5]));
    assert_eq!(count(2), (5, 500, vec![5]));
}

#[test]
fn traces_tell_why_a_bucket_was_taken() {
    let groups = [
        "group_id=1,type=ff,bucket=watch_port:3,actions=3,bucket=watch_port:2,actions=2",
        "group_id=2,type=all,bucket=group:1,bucket=output:4",
    ];
    let mut lab = Lab::new(&["actions=group:2"], &groups);
    lab.carrier(3, Link::Down);
    let traced = trace(&lab.publish(), &udp(1, 1), SideEffects::None).unwrap();
    let wanted = "
    group:2
    bucket 0
            group:1
             -> bucket 0: not live due to port 3
             -> using bucket 1
            bucket 1
                    output:2
    bucket 1
            output:4
";
    assert!(traced.text.contains(wanted), "{}", traced.text);
}
