//! Translation, snapshots and text, case by case.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use datapath::{Deps, DpAction, Drop, FrameClass, SlowPath, Translation, Upcall};
use flowtable::text::{FlowUsage, NoPortNames, parse_flow};
use flowtable::{FlowModCommand, Mask, OfAction, OfPort, OnMissing, PacketInReason, RuleStore};
use packet::key::{Slot, slot};
use packet::{DpPort, Frame, PacketKey};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use switch::bridge::*;
use switch::dp_text::{
    Detail, DpFlow, FlowStyle, PortLabels, Ufid, display_dp_key, display_program, flow_line, parse_dp_key,
};
use switch::forwarding::*;
use switch::mac::{MacAddr, MacKey};
use switch::tunnel::SharedCounters;
use switch::tunnel::counters::Way;
use switch::vlan::VlanConfig;

struct Lab {
    staging: Staging,
    bridge: BridgeId,
    rules: RuleStore,
}

fn add_port(bridge: &mut Bridge, n: u32, device: Device) {
    let name: Arc<str> = format!("p{n}").into();
    bridge.put_port(BridgePort {
        of_port: OfPort(n),
        name: Arc::clone(&name),
        mac: MacAddr(n.into()),
        config: PortConfig::default(),
        link: Link::Up,
        carrier: Link::Up,
        device,
        counters: SharedCounters::default(),
        bundle: BundleId(n),
    });
    let vlan = VlanConfig::default();
    bridge.put_bundle(Bundle { id: BundleId(n), name, members: vec![OfPort(n)], vlan, protected: false });
}

impl Lab {
    /// A bridge with ports 1 to 4, which are ports 11 to 14 of the datapath.
    fn new(flows: &[&str]) -> Lab {
        Lab::with_sink(flows, Box::new(NoPunt))
    }

    fn with_sink(flows: &[&str], sink: Box<dyn PuntSink>) -> Lab {
        let mut staging = Staging::new(HashSeed::new(5, 6), sink);
        let id = staging.add_bridge("br0");
        let bridge = staging.bridge_mut(id).unwrap();
        (1..=4).for_each(|n| add_port(bridge, n, Device::Datapath(DpPort(10 + n))));
        let rules = staging.new_rules();
        let mut lab = Lab { staging, bridge: id, rules };
        lab.add(flows);
        lab
    }

    fn add(&mut self, flows: &[&str]) {
        add_flows(&mut self.rules, flows);
    }

    fn publish(&mut self) -> Arc<Forwarding> {
        self.staging.set_rules(self.bridge, &mut self.rules);
        self.staging.publish()
    }

    fn bridge_mut(&mut self) -> &mut Bridge {
        self.staging.bridge_mut(self.bridge).unwrap()
    }
}

fn add_flows(rules: &mut RuleStore, flows: &[&str]) {
    for flow in flows {
        let parsed = parse_flow(flow, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames).unwrap();
        rules.apply(&parsed.flow_mod(FlowModCommand::Add, OnMissing::Add), Instant::ZERO).unwrap();
    }
}

fn key(text: &str) -> PacketKey {
    parse_dp_key(text, &|_| None).unwrap()
}

fn translate(fwd: &Forwarding, text: &str) -> Translation<Effect> {
    fwd.translate(&Upcall { key: &key(text) })
}

fn actions(fwd: &Forwarding, text: &str) -> String {
    display_program(&translate(fwd, text).program, &key(text)).to_string()
}

fn reason(t: &Translation<Effect>) -> Option<Drop> {
    match t.program.actions.as_ref() {
        [DpAction::Drop(why)] => Some(*why),
        _ => None,
    }
}

const UDP: &str = "in_port(11),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                   ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,ttl=64),udp(src=1,dst=53)";

#[test]
fn a_new_bridge_is_keyed_on_layer_two_alone() {
    let mut lab = Lab::new(&["priority=0,actions=NORMAL"]);
    let fwd = lab.publish();
    let profile = fwd.profile(FrameClass::fresh(DpPort(11), 0x0800)).unwrap().clone();
    let looked_at: Vec<Slot> = slot::ALL.iter().copied().filter(|s| profile.mask.0.get(*s) != 0).collect();
    let layer_two = [
        slot::IN_PORT,
        slot::RECIRC_ID,
        slot::DL_DST,
        slot::DL_SRC,
        slot::DL_TYPE,
        slot::VLAN_TCI,
        slot::VLAN_TPID,
        // Fragments may be treated otherwise, whatever the rules.
        slot::NW_FRAG,
    ];
    let in_order = |slots: &[Slot]| BTreeSet::from_iter(slots.iter().copied());
    assert_eq!(in_order(&looked_at), in_order(&layer_two));
    // Another rule of the same shape leaves the profile as it was, another shape does not; back again, so is the profile.
    lab.add(&["priority=1,dl_dst=02:00:00:00:00:09,actions=output:1"]);
    assert_eq!(lab.publish().profile(FrameClass::fresh(DpPort(11), 0x0800)).unwrap().id, profile.id);
    lab.add(&["priority=2,udp,tp_dst=9,actions=output:1"]);
    let wider = lab.publish();
    let wider = wider.profile(FrameClass::fresh(DpPort(11), 0x0800)).unwrap();
    assert_ne!(wider.id, profile.id);
    assert_eq!(wider.mask.0.get(slot::TP_DST), 0xffff);
    let all = parse_flow("udp", FlowUsage::Mod(FlowModCommand::Delete), &NoPortNames).unwrap();
    lab.rules.apply(&all.flow_mod(FlowModCommand::Delete, OnMissing::Ignore), Instant::ZERO).unwrap();
    assert_eq!(lab.publish().profile(FrameClass::fresh(DpPort(11), 0x0800)).unwrap().id, profile.id);
    // Frames that cannot have a field are not keyed on it.
    lab.add(&["priority=2,udp6,tp_dst=9,actions=output:1", "table=7,tcp,tp_src=9,actions=output:1"]);
    let fwd = lab.publish();
    assert_eq!(fwd.profile(FrameClass::fresh(DpPort(11), 0x0806)).unwrap().mask.0.get(slot::TP_DST), 0);
    assert_eq!(
        fwd.profile(FrameClass::fresh(DpPort(11), 0x86dd)).unwrap().mask.0.get(slot::TP_SRC),
        0,
        "table 7 cannot be reached"
    );
    assert_eq!(fwd.profile(FrameClass::fresh(DpPort(99), 0x0800)).err(), Some(Drop::NoBridge));
}

#[test]
fn endless_pipelines_end() {
    let mut lab = Lab::new(&["table=0,actions=resubmit(,0)", "table=1,actions=resubmit(,2),resubmit(,2)"]);
    for t in 2..60 {
        let next = t + 1;
        lab.add(&[&format!("table={t},actions=resubmit(,{next}),resubmit(,{next})")]);
    }
    let fwd = lab.publish();
    assert_eq!(reason(&translate(&fwd, UDP)), Some(Drop::TooDeep));
    lab.add(&["table=0,actions=output:2,goto_table:1"]);
    assert_eq!(reason(&translate(&lab.publish(), UDP)), Some(Drop::TooDeep), "nothing is sent");
}

/// Two bridges joined twice: a flood goes round until the budget is used up, and no further.
#[test]
fn loops_of_patches_end() {
    let mut lab = Lab::new(&["actions=NORMAL"]);
    let other = lab.staging.add_bridge("br1");
    for (here, there) in [(lab.bridge, other), (other, lab.bridge)] {
        let bridge = lab.staging.bridge_mut(here).unwrap();
        for n in [8, 9] {
            add_port(bridge, n, Device::Patch(Some(PatchPeer { bridge: there, port: OfPort(n) })));
        }
    }
    let mut others = lab.staging.new_rules();
    add_flows(&mut others, &["actions=NORMAL"]);
    lab.staging.set_rules(other, &mut others);
    assert_eq!(reason(&translate(&lab.publish(), UDP)), Some(Drop::TooDeep));
}

#[test]
fn patches_lead_on_and_back() {
    let mut lab = Lab::new(&["in_port=1,actions=load:5->NXM_NX_REG0[],output:9,mod_nw_dst:9.9.9.9,output:2"]);
    let other = lab.staging.add_bridge("br1");
    let patch = |bridge, port| Device::Patch(Some(PatchPeer { bridge, port: OfPort(port) }));
    add_port(lab.bridge_mut(), 9, patch(other, 7));
    let home = lab.bridge;
    let bridge = lab.staging.bridge_mut(other).unwrap();
    add_port(bridge, 7, patch(home, 9));
    add_port(bridge, 1, Device::Datapath(DpPort(21)));
    let mut others = lab.staging.new_rules();
    add_flows(
        &mut others,
        &[
            "reg0=5,actions=drop",
            "priority=1,ip,in_port=7,actions=mod_dl_src:02:00:00:00:00:44,output:1,output:7",
        ],
    );
    lab.staging.set_rules(other, &mut others);
    let fwd = lab.publish();
    let there_and_back =
        "set(eth(src=02:00:00:00:00:44)),21,set(eth(src=02:00:00:00:00:01)),set(ipv4(dst=9.9.9.9)),12";
    assert_eq!(actions(&fwd, UDP), there_and_back);
    // Both ends count, each from its own side.
    translate(&fwd, UDP).credits.iter().for_each(|c| c.credit(2, 120, Instant::ZERO, 0));
    for (bridge, port, way, other_way) in
        [(home, 9, Way::Sent, Way::Received), (other, 7, Way::Received, Way::Sent)]
    {
        let counters = &fwd.bridge(bridge).unwrap().port(OfPort(port)).unwrap().counters.0;
        assert_eq!((counters.get(way), counters.get(other_way)), ((2, 120), (0, 0)));
    }
    // The peer's rules are among what the answer depends on.
    let deps = translate(&fwd, UDP).deps;
    add_flows(&mut others, &["priority=2,ip,in_port=7,actions=drop"]);
    lab.staging.set_rules(other, &mut others);
    let fwd = lab.publish();
    assert!(!fwd.still_valid(&deps));
    assert_eq!(actions(&fwd, UDP), "set(ipv4(dst=9.9.9.9)),12");
}

/// Who sends to a port that is not there has not failed to be sent to.
#[test]
fn ports_that_are_not_there_get_nothing() {
    let mut lab = Lab::new(&["actions=output:77"]);
    assert_eq!(reason(&translate(&lab.publish(), UDP)), Some(Drop::NoEgress));
}

/// A frame that another bridge sends back was seen on two ports, the patch last, whatever was known before.
#[test]
fn a_frame_that_comes_back_is_learned_where_it_came_last() {
    let mut lab = Lab::new(&["actions=NORMAL"]);
    let other = lab.staging.add_bridge("br1");
    let patch = |bridge, port| Device::Patch(Some(PatchPeer { bridge, port: OfPort(port) }));
    add_port(lab.bridge_mut(), 9, patch(other, 7));
    let home = lab.bridge;
    add_port(lab.staging.bridge_mut(other).unwrap(), 7, patch(home, 9));
    let mut others = lab.staging.new_rules();
    add_flows(&mut others, &["actions=IN_PORT"]);
    lab.staging.set_rules(other, &mut others);
    let fwd = lab.publish();
    let key = MacKey { vlan: 0, mac: MacAddr(0x0200_0000_0001) };
    let on = |n| Effect::Learn { bridge: home, key, bundle: BundleId(n) };
    for _ in 0..2 {
        assert_eq!(translate(&fwd, UDP).effects, [on(1), on(9)]);
        fwd.bridge(home).unwrap().mac().learn(key, BundleId(9), Instant::ZERO);
    }
}

#[test]
fn answers_depend_on_what_was_asked_and_no_more() {
    let mut lab = Lab::new(&[
        "priority=1,udp,actions=goto_table:3",
        "table=3,actions=output:2",
        "priority=0,actions=NORMAL",
    ]);
    let fwd = lab.publish();
    let arp = UDP.replace("0x0800", "0x0806").split(",ipv4").next().unwrap().to_owned();
    let (udp, arp) = (translate(&fwd, UDP), translate(&fwd, &arp));
    let valid = |fwd: &Forwarding, d: &Deps| fwd.still_valid(d);
    // A table that neither passed.
    lab.add(&["table=9,actions=drop"]);
    let fwd = lab.publish();
    assert!(valid(&fwd, &udp.deps) && valid(&fwd, &arp.deps));
    // A station somewhere: only NORMAL asked.
    fwd.commit(&arp.effects, Instant::ZERO);
    assert!(valid(&fwd, &udp.deps) && !valid(&fwd, &arp.deps));
    // A table that one passed.
    let arp =
        translate(&fwd, "in_port(12),eth(src=02:00:00:00:00:02,dst=02:00:00:00:00:01),eth_type(0x0806)");
    lab.add(&["table=3,priority=9,actions=drop"]);
    let fwd = lab.publish();
    assert!(!valid(&fwd, &udp.deps) && valid(&fwd, &arp.deps));
    // A bridge that goes takes everything with it.
    lab.staging.remove_bridge(lab.bridge);
    assert!(!valid(&lab.staging.publish(), &arp.deps));
}

#[test]
fn revisions_rise_with_every_change_and_with_nothing_else() {
    let mut lab = Lab::new(&["actions=NORMAL"]);
    let first = lab.publish();
    let r = first.revision();
    assert!(Arc::ptr_eq(&lab.publish(), &first), "nothing to publish");
    lab.add(&["priority=9,actions=drop"]);
    let second = lab.publish();
    assert_eq!(first.revision(), r, "who holds the old snapshot sees its revision");
    assert!(second.revision() > r);
    let before = second.revision();
    let bridge = second.bridge(lab.bridge).unwrap();
    bridge.mac().learn(MacKey { vlan: 0, mac: MacAddr(2) }, BundleId(1), Instant::ZERO);
    assert!(second.revision() > before);
}

#[test]
fn a_popped_label_is_followed_by_another_look() {
    let mut lab = Lab::new(&[
        "in_port=1,mpls,actions=load:7->NXM_NX_REG3[],pop_mpls:0x0800,output:4,resubmit(,2),output:3",
        "table=2,ip,reg3=7,nw_dst=10.0.0.2,actions=dec_ttl,output:2",
    ]);
    let fwd = lab.publish();
    let mpls = "in_port(11),eth(),eth_type(0x8847),mpls(label=5,ttl=9,bos=1)";
    let first = translate(&fwd, mpls);
    let [pop, Out::Output(DpPort(14)), Out::Recirculate(id)] = first.program.actions.as_ref() else {
        panic!("{:?}", first.program)
    };
    assert!(matches!(pop, Out::PopMpls { ethertype: 0x0800 }));
    let mut second = key(UDP);
    second.set(slot::RECIRC_ID, id.0.into());
    let answer = fwd.translate(&Upcall { key: &second });
    assert_eq!(display_program(&answer.program, &second).to_string(), "set(ipv4(ttl=63)),12,13");
    assert!(answer.cacheable);
    second.set(slot::RECIRC_ID, 999);
    assert_eq!(reason(&fwd.translate(&Upcall { key: &second })), Some(Drop::Recirculation));
}

use datapath::DpAction as Out;

#[test]
fn forgotten_recirculations_are_noticed() {
    let flow = "mpls,actions=move:OXM_OF_MPLS_LABEL[]->NXM_NX_REG0[0..19],pop_mpls:0x0800,resubmit(,2)";
    let mut lab = Lab::new(&[flow]);
    let fwd = lab.publish();
    let labelled = |n: usize| {
        let mut key = key("in_port(11),eth(),eth_type(0x8847),mpls(label=0,ttl=9,bos=1)");
        key.set(slot::MPLS_LSE0, (n as u128) << 12 | 0x109);
        fwd.translate(&Upcall { key: &key })
    };
    let first = labelled(0);
    (1..switch::recirc::RECIRC_MAX).for_each(|n| drop(labelled(n)));
    assert!(fwd.still_valid(&first.deps));
    let revision = fwd.revision();
    labelled(switch::recirc::RECIRC_MAX);
    assert!(!fwd.still_valid(&first.deps) && fwd.revision() > revision);
}

/// A frame may come back to a pipeline whose rule has gone meanwhile, and with it from the profile what the rule looked at.
#[test]
fn what_is_resumed_without_its_rule_is_not_cached() {
    let mut lab = Lab::new(&[
        "mpls,actions=pop_mpls:0x0800,move:NXM_OF_IP_SRC[0..7]->NXM_NX_REG0[0..7],output:NXM_NX_REG0[]",
    ]);
    let fwd = lab.publish();
    let first = translate(&fwd, "in_port(11),eth(),eth_type(0x8847),mpls(label=5,ttl=9,bos=1)");
    let Some(Out::Recirculate(id)) = first.program.actions.last() else { panic!("{:?}", first.program) };
    let mut second = key(&UDP.replace("src=10.0.0.1", "src=10.0.0.2"));
    second.set(slot::RECIRC_ID, id.0.into());
    let upcall = Upcall { key: &second };
    let answer = |fwd: &Forwarding| {
        (
            display_program(&fwd.translate(&upcall).program, &second).to_string(),
            fwd.translate(&upcall).cacheable,
        )
    };
    assert_eq!(answer(&fwd), ("12".to_owned(), true));
    let all = parse_flow("mpls", FlowUsage::Mod(FlowModCommand::Delete), &NoPortNames).unwrap();
    lab.rules.apply(&all.flow_mod(FlowModCommand::Delete, OnMissing::Ignore), Instant::ZERO).unwrap();
    assert_eq!(answer(&lab.publish()), ("12".to_owned(), false));
}

#[test]
fn misses_and_port_bits() {
    let mut lab = Lab::new(&["in_port=2,actions=output:1,output:3,FLOOD"]);
    assert_eq!(reason(&translate(&lab.publish(), UDP)), Some(Drop::TableMiss));
    lab.bridge_mut().settings_mut().miss = MissBehaviour::Controller { max_len: 128 };
    let t = translate(&lab.publish(), UDP);
    let [Out::Upcall { max_len: u32::MAX, cookie }] = t.program.actions.as_ref() else {
        panic!("{:?}", t.program)
    };
    let p = cookie.downcast_ref::<PacketIn>().unwrap();
    assert_eq!((p.reason, p.in_port, p.cookie), (PacketInReason::NoMatch, OfPort(1), u64::MAX));
    let config = |lab: &mut Lab, n, bit| lab.bridge_mut().port_mut(OfPort(n)).unwrap().config = bit;
    config(&mut lab, 1, PortConfig::NO_PACKET_IN);
    assert_eq!(reason(&translate(&lab.publish(), UDP)), Some(Drop::TableMiss));
    let from2 = UDP.replace("in_port(11)", "in_port(12)");
    assert_eq!(actions(&lab.publish(), &from2), "11,13,11,13,14");
    config(&mut lab, 1, PortConfig::NO_FLOOD);
    config(&mut lab, 3, PortConfig::NO_FWD);
    assert_eq!(actions(&lab.publish(), &from2), "11,14");
    config(&mut lab, 2, PortConfig::NO_RECV);
    let fwd = lab.publish();
    assert_eq!(reason(&translate(&fwd, &from2)), Some(Drop::PortNoReceive));
    assert_eq!(fwd.profile(FrameClass::fresh(DpPort(12), 0x0800)).err(), Some(Drop::PortNoReceive));
    assert_eq!(reason(&translate(&fwd, "in_port(77),eth()")), Some(Drop::NoBridge));
}

#[test]
fn a_bond_sends_on_its_first_port_that_is_up() {
    let mut lab = Lab::new(&["actions=NORMAL"]);
    let bridge = lab.bridge_mut();
    let mut bond = bridge.bundle(BundleId(3)).unwrap().clone();
    bond.members = vec![OfPort(3), OfPort(4)];
    bridge.port_mut(OfPort(4)).unwrap().bundle = BundleId(3);
    bridge.remove_bundle(BundleId(4));
    bridge.put_bundle(bond);
    assert_eq!(actions(&lab.publish(), UDP), "12,13");
    lab.bridge_mut().port_mut(OfPort(3)).unwrap().link = Link::Down;
    assert_eq!(actions(&lab.publish(), UDP), "12,14");
    // What comes in on that member does not go out on another, and on the others nothing comes in: a switch that knows of no
    // bond sends what it floods to all of them, also what it had from here.
    let from = |port| UDP.replace("in_port(11)", &format!("in_port({port})"));
    assert_eq!(actions(&lab.publish(), &from(14)), "11,12");
    assert_eq!(reason(&translate(&lab.publish(), &from(13))), Some(Drop::BackupMember));
    assert!(translate(&lab.publish(), &from(13)).effects.is_empty(), "nor is a station learned there");
    lab.bridge_mut().port_mut(OfPort(3)).unwrap().link = Link::Up;
    assert_eq!(actions(&lab.publish(), &from(13)), "11,12");
    assert_eq!(reason(&translate(&lab.publish(), &from(14))), Some(Drop::BackupMember));
}

#[test]
fn packet_outs_run_their_actions() {
    let mut lab = Lab::new(&["udp,actions=output:2"]);
    let fwd = lab.publish();
    let run = |port, list: &[OfAction]| {
        let t = fwd.translate_actions(lab.bridge, port, &key(UDP), list.into());
        assert!(!t.cacheable);
        display_program(&t.program, &key(UDP)).to_string()
    };
    let out = |port| OfAction::Output { port, max_len: 0 };
    assert_eq!(run(OfPort::CONTROLLER, &[out(OfPort::TABLE), out(OfPort(3))]), "12,13");
    assert_eq!(run(OfPort::CONTROLLER, &[out(OfPort::NORMAL)]), "11,12,13,14");
    assert_eq!(run(OfPort(1), &[out(OfPort::FLOOD), out(OfPort(1))]), "12,13,14");
    assert_eq!(run(OfPort(1), &[out(OfPort::IN_PORT)]), "11");
    assert_eq!(run(OfPort(1), &[]), "drop");
    // What a controller sends from no port is not stopped as if it had been received.
    let lldp = key("in_port(11),eth(src=02:00:00:00:00:01,dst=01:80:c2:00:00:0e),eth_type(0x88cc)");
    let normal: Arc<[OfAction]> = [out(OfPort::NORMAL)].into();
    let sent = |port| {
        let t = fwd.translate_actions(lab.bridge, port, &lldp, Arc::clone(&normal));
        display_program(&t.program, &lldp).to_string()
    };
    assert_eq!(sent(OfPort::CONTROLLER), "11,12,13,14");
    assert_eq!(sent(OfPort(1)), "drop");
}

#[derive(Clone, Default)]
struct Box0(Arc<Mutex<Vec<Punted>>>);

impl PuntSink for Box0 {
    fn punt(&self, punted: Punted) -> Result<(), Drop> {
        let mut list = self.0.lock().unwrap();
        if list.len() == 1 {
            return Err(Drop::UpcallFull);
        }
        list.push(punted);
        Ok(())
    }
}

#[test]
fn copies_for_controllers_say_why_they_come() {
    let sink = Box0::default();
    let flow = "cookie=0x77,udp,actions=load:6->NXM_NX_REG1[],controller(max_len=20,id=3,userdata=0a0b)";
    let mut lab = Lab::with_sink(&[flow], Box::new(sink.clone()));
    let fwd = lab.publish();
    let t = translate(&fwd, UDP);
    // Whole, as nothing is buffered.
    let [Out::Upcall { max_len: u32::MAX, cookie }] = t.program.actions.as_ref() else {
        panic!("{:?}", t.program)
    };
    let frame = Frame::from_bytes(&[7; 20]);
    fwd.punt(&frame, 60, &key(UDP), cookie).unwrap();
    assert_eq!(fwd.punt(&frame, 60, &key(UDP), cookie), Err(Drop::UpcallFull));
    let list = sink.0.lock().unwrap();
    let [p] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((p.bytes.len(), p.total_len), (20, 60));
    let i = &p.packet_in;
    assert_eq!(
        (i.cookie, i.controller_id, i.reason, &*i.userdata),
        (0x77, 3, PacketInReason::Action, &[10, 11][..])
    );
    assert_eq!(i.in_port, OfPort(1));
}

#[test]
fn credits_reach_rules_tables_and_stations() {
    let mut lab = Lab::new(&["actions=goto_table:1", "table=1,actions=NORMAL"]);
    let fwd = lab.publish();
    fwd.commit(&translate(&fwd, UDP).effects, Instant::ZERO);
    let t = translate(&fwd, UDP);
    t.credits.iter().for_each(|c| c.credit(3, 180, Instant::from_secs(9), 0));
    let bridge = fwd.bridge(lab.bridge).unwrap();
    for table in [0, 1] {
        let table = bridge.table(flowtable::TableId(table)).unwrap();
        let stats = &table.rules().next().unwrap().stats;
        assert_eq!((stats.packets(), stats.bytes(), stats.last_used()), (3, 180, Instant::from_secs(9)));
        assert_eq!((table.counters().lookups(), table.counters().matches()), (3, 3));
    }
    assert_eq!(bridge.mac().dump()[0].last_used(), Instant::from_secs(9));
    let text = bridge.mac_text(Instant::from_secs(11));
    assert_eq!(text, " port  VLAN  MAC                Age\n    1     0  02:00:00:00:00:01    2\n");
}

/// What `ovs-appctl dpctl/dump-flows` of ovs-vswitchd 3.1 printed for these frames, but for its `packet_type`.
#[test]
fn keys_are_printed_as_the_real_datapath_prints_them() {
    let cases: [(&str, &[Slot], &str); 4] = [
        (
            "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),ipv4(src=1.1.1.1,dst=10.0.0.0,proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2)",
            &[slot::DL_DST, slot::NW_DST.part(24, 8), slot::NW_PROTO, slot::NW_FRAG],
            "recirc_id(0),in_port(1),eth(dst=00:00:00:00:00:02),eth_type(0x0800),ipv4(dst=10.0.0.0/255.0.0.0,proto=6,frag=no)",
        ),
        (
            "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0806),arp(op=1)",
            &[],
            "recirc_id(0),in_port(1),eth_type(0x0806)",
        ),
        (
            "in_port(3),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x86dd),ipv6(src=::1,dst=::2,proto=17,frag=no),udp(src=1,dst=2))",
            &[slot::DL_SRC, slot::DL_DST, slot::VLAN_TCI, slot::NW_FRAG],
            "recirc_id(0),in_port(3),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x86dd),ipv6(frag=no))",
        ),
        (
            "in_port(3),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x8847),mpls(label=5,tc=0,ttl=64,bos=1)",
            &[slot::DL_SRC, slot::DL_DST],
            "recirc_id(0),in_port(3),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x8847)",
        ),
    ];
    for (text, slots, expected) in cases {
        let mut mask = Mask::empty();
        slots.iter().for_each(|s| mask.add_all(*s));
        assert_eq!(display_dp_key(&key(text), &mask), expected);
    }
}

#[test]
fn flow_lines_have_counters() {
    let mut lab = Lab::new(&["actions=output:2"]);
    let program = translate(&lab.publish(), UDP).program;
    let (key, mask) = (key(UDP), Mask::empty());
    let mut flow = DpFlow {
        key: &key,
        mask: &mask,
        program: &program,
        packets: 0,
        bytes: 0,
        last_used: None,
        tcp_flags: 0,
    };
    let now = Instant::from_millis(2_500);
    let start = "recirc_id(0),in_port(11),eth_type(0x0800), ";
    assert_eq!(
        flow_line(&flow, FlowStyle::default(), now),
        format!("{start}packets:0, bytes:0, used:never, actions:12")
    );
    (flow.packets, flow.bytes, flow.last_used, flow.tcp_flags) = (1, 98, Some(Instant::from_secs(2)), 0x12);
    assert_eq!(
        flow_line(&flow, FlowStyle::default(), now),
        format!("{start}packets:1, bytes:98, used:0.500s, flags:S., actions:12")
    );
}

/// What Debian's 3.1.0 shows with `-m` and `--names`, but for the fields that do not count.
#[test]
fn flow_lines_in_detail_have_ufid_and_names() {
    let mut lab = Lab::new(&["actions=output:2"]);
    let program = translate(&lab.publish(), UDP).program;
    let (key, mask) = (key(UDP), Mask::empty());
    let flow = DpFlow {
        key: &key,
        mask: &mask,
        program: &program,
        packets: 0,
        bytes: 0,
        last_used: None,
        tcp_flags: 0,
    };
    let names = [(packet::DpPort(11), "pod1".to_owned()), (packet::DpPort(12), "pod2".to_owned())].into();
    let ufid = Ufid::of(&key, &mask).to_string();
    let line =
        |detail, names| flow_line(&flow, FlowStyle { ports: PortLabels(names), detail }, Instant::ZERO);
    let named = "recirc_id(0),in_port(pod1),eth_type(0x0800), packets:0, bytes:0, used:never";
    assert_eq!(line(Detail::Less, Some(&names)), format!("{named}, actions:pod2"));
    assert_eq!(line(Detail::Dpctl, Some(&names)), format!("{ufid}, {named}, dp:ovs, actions:pod2"));
    assert_eq!(line(Detail::Dpif, Some(&names)), format!("{ufid} {named}, actions:pod2"));
    assert!(line(Detail::Dpctl, None).ends_with(", dp:ovs, actions:12"));
    assert_eq!(Ufid::parse(&ufid), Some(Ufid::of(&key, &mask)));
    let mut other = key;
    other.set_in_port(packet::DpPort(12));
    assert_ne!(Ufid::of(&other, &mask), Ufid::of(&key, &mask));
    for bad in [
        "",
        "ufid:",
        &ufid[5..],
        &ufid[..40],
        &format!("{ufid}0"),
        "ufid:g5432512-22c5-4f4a-a497-76a7a399937f",
    ] {
        assert_eq!(Ufid::parse(bad), None, "{bad}");
    }
}

/// Cached flows have one credit between them if the same gets it: known by what is credited, not by the frame.
#[test]
fn credits_are_known_by_what_gets_them() {
    let rules = [
        "priority=1,actions=output:2",
        "priority=2,udp,tp_dst=53,actions=output:2",
        "priority=2,arp,actions=drop",
    ];
    let fwd = Lab::new(&rules).publish();
    let numbers = |text: &str| {
        let mut numbers = Vec::new();
        translate(&fwd, text).credits.iter().for_each(|c| c.identify(&mut |n| numbers.push(n)));
        numbers
    };
    let other_port = UDP.replace("dst=53", "dst=54");
    let other_host = UDP.replace("10.0.0.1", "10.0.0.9");
    assert_eq!(numbers(UDP), numbers(&other_host));
    assert_eq!(numbers(&other_port), numbers(&other_port.replace("src=1", "src=2")));
    assert_ne!(numbers(UDP), numbers(&other_port));
    assert!(!numbers(UDP).is_empty());
}
