//! The two properties on which the flow cache rests, on random pipelines, random frames and random changes in between:
//! bits outside the profile never matter, and a cached translation whose dependencies still hold equals a fresh one.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic)]

use base::{HashSeed, Instant};
use datapath::{Deps, DpAction, FrameClass, Profile, ProfileId, Revision, SlowPath, Translation, Upcall};
use flowtable::group::{Bucket, GroupCommand, GroupMod, GroupType, Groups, SelectionMethod};
use flowtable::meter::{BandType, MeterBand, MeterCommand, MeterConfig, MeterMod};
use flowtable::{
    Cookie, FieldId, FlowMod, FlowModCommand, GroupId, Mask, Match, MeterId, OfAction, OfPort,
    PacketInReason, RuleStore, SubField, TableId, Words,
};
use packet::key::slot;
use packet::{DpPort, PacketKey};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use switch::bridge::*;
use switch::forwarding::*;
use switch::mac::{Flush, MacAddr};
use switch::meter::Meters;
use switch::tunnel::SharedCounters;
use switch::vlan::{VlanConfig, VlanMode};

/// A small generator of its own, so that one number makes a whole world.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}

const TABLES: u64 = 4;
const PORTS: u32 = 5;
const GROUPS: u64 = 4;

/// A random value of a field, from a handful.
fn value_of(d: &mut Dice, field: FieldId) -> u128 {
    let small = d.below(3) as u128;
    match field {
        FieldId::EthSrc | FieldId::EthDst => d.of(&[2, 4, 6, 0x0180_c200_0000, 0xffff_ffff_ffff]),
        FieldId::IpSrc | FieldId::IpDst | FieldId::ArpSpa | FieldId::ArpTpa => 0x0a00_0000 + small,
        FieldId::Ipv6Src | FieldId::Ipv6Dst => (0xfe80 << 112) + small,
        FieldId::VlanVid => d.of(&[0, 0x1000 + 5, 0x1000 + 6]),
        FieldId::VlanTci => d.of(&[0, 0x1005, 0x3006]),
        FieldId::NwTtl => d.of(&[1, 2, 64]),
        FieldId::InPort => 1 + d.below(PORTS.into()) as u128,
        FieldId::EthType => d.of(&[0x0800, 0x86dd, 0x0806, 0x8847, 0x9999]),
        FieldId::NwProto => d.of(&[6, 17, 1]),
        _ => small,
    }
}

fn a_match(d: &mut Dice) -> Match {
    let fields = [
        FieldId::InPort,
        FieldId::EthType,
        FieldId::EthSrc,
        FieldId::EthDst,
        FieldId::VlanVid,
        FieldId::VlanTci,
        FieldId::IpSrc,
        FieldId::IpDst,
        FieldId::Ipv6Dst,
        FieldId::NwProto,
        FieldId::NwTtl,
        FieldId::NwTos,
        FieldId::IpFrag,
        FieldId::TcpSrc,
        FieldId::TcpDst,
        FieldId::ArpOp,
        FieldId::ArpSha,
        FieldId::MplsLabel,
        FieldId::MplsBos,
        FieldId::Reg0,
        FieldId::Reg1,
        FieldId::Metadata,
        FieldId::TunMetadata0,
    ];
    let mut m = Match::any();
    for _ in 0..d.below(4) {
        let field = d.of(&fields);
        let slot = field.slot();
        let bits = match d.below(3) {
            0 => slot.ones() & u128::from(d.roll()),
            1 => slot.ones() & !1,
            _ => slot.ones(),
        };
        field.set_condition(&mut m, value_of(d, field), bits);
    }
    m
}

const WRITABLE: [FieldId; 20] = [
    FieldId::TunMetadata0,
    FieldId::Reg0,
    FieldId::Reg1,
    FieldId::Metadata,
    FieldId::EthSrc,
    FieldId::EthDst,
    FieldId::VlanVid,
    FieldId::VlanTci,
    FieldId::VlanPcp,
    FieldId::IpSrc,
    FieldId::IpDst,
    FieldId::Ipv6Src,
    FieldId::NwTos,
    FieldId::NwEcn,
    FieldId::NwTtl,
    FieldId::TcpDst,
    FieldId::UdpSrc,
    FieldId::ArpSpa,
    FieldId::ArpOp,
    FieldId::MplsLabel,
];

fn a_port(d: &mut Dice) -> OfPort {
    let real = OfPort(1 + d.below(u64::from(PORTS) + 2) as u32);
    d.of(&[
        real,
        real,
        OfPort::NORMAL,
        OfPort::NORMAL,
        OfPort::FLOOD,
        OfPort::ALL,
        OfPort::IN_PORT,
        OfPort::CONTROLLER,
    ])
}

fn an_action(d: &mut Dice, table: u8) -> OfAction {
    let field = d.of(&WRITABLE);
    let ones = field.slot().ones();
    let up = TableId(table + 1 + d.below(2) as u8);
    match d.below(29) {
        24..=27 => OfAction::Group(GroupId(1 + d.below(GROUPS) as u32)),
        28 => OfAction::Meter(MeterId(1 + d.below(3) as u32)),
        0..=6 => OfAction::Output { port: a_port(d), max_len: 64 },
        7 => OfAction::OutputReg { src: SubField { field: FieldId::Reg0, start: 0, width: 16 }, max_len: 0 },
        8 | 9 => {
            let mask = if d.one_in(2) { ones } else { ones & u128::from(d.roll() | 1) };
            OfAction::SetField { field, value: value_of(d, field) & mask, mask }
        }
        10 | 11 => {
            let (src, width) = (d.of(&WRITABLE), 1 + d.below(8) as u16);
            let fit = |f: FieldId| width.min(f.slot().width.into());
            let width = fit(src).min(fit(field));
            let start =
                |d: &mut Dice, f: FieldId| d.below(u64::from(f.slot().width) - u64::from(width) + 1) as u16;
            let src = SubField { field: src, start: start(d, src), width };
            OfAction::Move { src, dst: SubField { field, start: start(d, field), width } }
        }
        12 => OfAction::PushVlan(d.of(&[0x8100, 0x88a8])),
        13 => OfAction::PopVlan,
        14 if d.one_in(2) => OfAction::SetVlanVid(6),
        14 => OfAction::SetVlanPcp(3),
        15 => OfAction::DecTtl(Vec::new()),
        16 => OfAction::PushMpls(0x8847),
        17 => OfAction::PopMpls(d.of(&[0x0800, 0x8847, 0x86dd])),
        18 | 19 => {
            let table = if d.one_in(8) { TableId(table) } else { up };
            OfAction::Resubmit {
                port: d.one_in(3).then(|| OfPort(1 + d.below(5) as u32)),
                table: Some(table),
            }
        }
        20 => {
            OfAction::WriteActions(vec![OfAction::Output { port: a_port(d), max_len: 0 }, OfAction::PopVlan])
        }
        21 => OfAction::OutputTrunc { port: OfPort(1 + d.below(4) as u32), max_len: 60 },
        22 => OfAction::Controller {
            max_len: 0xffff,
            controller_id: 1,
            reason: PacketInReason::Action,
            userdata: vec![1],
            pause: false,
        },
        _ if d.one_in(2) => OfAction::Exit,
        _ => OfAction::SetTpDst(9),
    }
}

/// Refused if it would lead back to itself; then nothing has changed.
fn a_group_mod(d: &mut Dice) -> GroupMod {
    let kind = d.of(&GroupType::ALL);
    let command = d.of(&[GroupCommand::AddOrModify, GroupCommand::AddOrModify, GroupCommand::Delete]);
    let mut m = GroupMod::new(command, kind, GroupId(1 + d.below(GROUPS) as u32));
    if command == GroupCommand::Delete {
        return m;
    }
    let buckets = if kind == GroupType::Indirect { 1 } else { d.below(4) };
    for _ in 0..buckets {
        let mut bucket = Bucket::new(kind);
        bucket.actions =
            (0..1 + d.below(3)).map(|_| an_action(d, 1)).filter(|a| !a.is_instruction()).collect();
        let may_watch = matches!(kind, GroupType::Select | GroupType::FastFailover);
        if kind == GroupType::FastFailover || may_watch && d.one_in(3) {
            bucket.watch_port = OfPort(1 + d.below(PORTS.into()) as u32);
        }
        if may_watch && d.one_in(4) {
            bucket.watch_group = GroupId(1 + d.below(GROUPS) as u32);
        }
        if kind == GroupType::Select {
            bucket.weight = d.below(3) as u16;
        }
        m.buckets.push(bucket);
    }
    if kind == GroupType::Select {
        m.selection.method = d.of(&[
            SelectionMethod::Default,
            SelectionMethod::DpHash,
            SelectionMethod::Hash,
            SelectionMethod::Maglev,
        ]);
        let takes_fields = matches!(m.selection.method, SelectionMethod::Hash | SelectionMethod::Maglev);
        if takes_fields && d.one_in(2) {
            m.selection.fields =
                vec![(FieldId::Reg1, 1), (FieldId::EthDst, 0xff), (FieldId::IpSrc, 0xffff_ffff)];
            m.selection.fields.sort_unstable();
        }
        if m.selection.method == SelectionMethod::Maglev {
            m.selection.param = 251;
        }
    }
    m
}

fn a_meter_mod(d: &mut Dice) -> MeterMod {
    let meter = MeterId(1 + d.below(3) as u32);
    let kind = d.of(&[BandType::Drop, BandType::DscpRemark { prec_level: 1 }]);
    let bands = vec![MeterBand { kind, rate: 1 + d.below(9) as u32, burst_size: 0 }];
    let command = d.of(&[MeterCommand::Add, MeterCommand::Modify, MeterCommand::Delete]);
    MeterMod { command, meter, config: MeterConfig { bands, ..MeterConfig::default() } }
}

fn a_flow_mod(d: &mut Dice) -> FlowMod {
    let table = d.below(TABLES) as u8;
    let mut actions: Vec<OfAction> = (0..d.below(5)).map(|_| an_action(d, table)).collect();
    if d.one_in(3) {
        actions.push(OfAction::GotoTable(TableId(table + 1)));
    }
    let command = d.of(&[
        FlowModCommand::Add,
        FlowModCommand::Add,
        FlowModCommand::Add,
        FlowModCommand::Modify,
        FlowModCommand::Delete,
    ]);
    let mut fm = FlowMod::new(command, TableId(table), a_match(d));
    fm.priority = d.below(4) as u16;
    fm.new_cookie = Some(Cookie(d.below(3)));
    fm.actions = actions.into();
    fm
}

fn a_vlan_config(d: &mut Dice) -> VlanConfig {
    let modes = [VlanMode::NativeTagged, VlanMode::NativeUntagged, VlanMode::Dot1qTunnel];
    match d.below(5) {
        0 => VlanConfig::access(5),
        1 => VlanConfig::trunk([0, 5]),
        2 => VlanConfig::from_columns(Some(d.of(&modes)), Some(5), [6]),
        _ => VlanConfig::default(),
    }
}

/// What a bridge's owner keeps beside the staging.
struct Owned {
    id: BridgeId,
    rules: RuleStore,
    groups: Groups,
    meters: Meters,
}

struct World {
    staging: Staging,
    bridges: Vec<Owned>,
    now: Instant,
}

fn world(d: &mut Dice) -> World {
    let mut staging = Staging::new(HashSeed::new(1, 2), Box::new(NoPunt));
    let ids = [staging.add_bridge("br0"), staging.add_bridge("br1")];
    for (b, id) in ids.into_iter().enumerate() {
        let bridge = staging.bridge_mut(id).unwrap();
        for n in 1..=PORTS {
            let last = n == PORTS;
            let peer = PatchPeer { bridge: ids[1 - b], port: OfPort(PORTS) };
            bridge.put_port(BridgePort {
                of_port: OfPort(n),
                name: format!("p{n}").into(),
                mac: MacAddr(0x0200_0000_0000 + u64::from(n)),
                config: PortConfig::default(),
                link: Link::Up,
                carrier: Link::Up,
                device: if last {
                    Device::Patch(Some(peer))
                } else {
                    Device::Datapath(DpPort(10 * b as u32 + n))
                },
                counters: SharedCounters::default(),
                bundle: BundleId(n),
            });
            let vlan = a_vlan_config(d);
            let members = vec![OfPort(n)];
            bridge.put_bundle(Bundle {
                id: BundleId(n),
                name: format!("p{n}").into(),
                members,
                vlan,
                protected: d.one_in(6),
            });
        }
        bridge.settings_mut().miss =
            d.of(&[MissBehaviour::Drop, MissBehaviour::Controller { max_len: 128 }, MissBehaviour::Continue]);
    }
    let own =
        |id| Owned { id, rules: staging.new_rules(), groups: Groups::default(), meters: Meters::default() };
    let bridges = ids.map(own).into_iter().collect();
    let mut world = World { staging, bridges, now: Instant::from_secs(1) };
    for _ in 0..d.below(24) {
        change_rules(&mut world, d);
    }
    if d.one_in(3) {
        return world;
    }
    let normal = Arc::from([OfAction::Output { port: OfPort::NORMAL, max_len: 0 }]);
    for Owned { rules, .. } in &mut world.bridges {
        let mut fm = FlowMod::new(FlowModCommand::Add, TableId(0), Match::any());
        (fm.priority, fm.actions) = (0, Arc::clone(&normal));
        rules.apply(&fm, world.now).unwrap();
    }
    world
}

fn change_rules(w: &mut World, d: &mut Dice) {
    let owned = &mut w.bridges[d.below(2) as usize];
    // A refused request changes nothing.
    match d.below(8) {
        0..=2 => drop(owned.groups.apply(&a_group_mod(d), w.now)),
        3 => drop(owned.meters.apply(&a_meter_mod(d), w.now)),
        _ => drop(owned.rules.apply(&a_flow_mod(d), w.now)),
    }
}

fn change(w: &mut World, d: &mut Dice) {
    w.now += std::time::Duration::from_secs(d.below(200));
    let id = w.bridges[d.below(2) as usize].id;
    let bridge = w.staging.bridge_mut(id).unwrap();
    let port = OfPort(1 + d.below(PORTS.into()) as u32);
    match d.below(10) {
        0..=4 => change_rules(w, d),
        5 => {
            let bits = [PortConfig::NO_FLOOD, PortConfig::NO_FWD, PortConfig::NO_RECV, PortConfig::PORT_DOWN];
            let (bit, on) = (d.of(&bits), d.one_in(2));
            let p = bridge.port_mut(port).unwrap();
            p.config = p.config.with(bit, on);
            p.carrier = if d.one_in(2) { Link::Up } else { Link::Down };
        }
        6 => {
            let mut bundle = bridge.bundle(BundleId(port.0)).unwrap().clone();
            bundle.vlan = a_vlan_config(d);
            bridge.put_bundle(bundle);
        }
        7 => {
            bridge.mac().flush(d.of(&[Flush::All, Flush::Vlan(5), Flush::Port(BundleId(1))]));
        }
        8 => {
            bridge.mac().expire(w.now);
        }
        _ => {
            let s = bridge.settings_mut();
            s.forward_bpdu = d.one_in(2);
            s.miss = d.of(&[
                MissBehaviour::Drop,
                MissBehaviour::Controller { max_len: 128 },
                MissBehaviour::Continue,
            ]);
        }
    }
}

fn publish(w: &mut World) -> Arc<Forwarding> {
    for owned in &mut w.bridges {
        w.staging.set_groups(owned.id, &owned.groups);
        w.staging.set_meters(owned.id, &owned.meters);
        w.staging.set_rules(owned.id, &mut owned.rules);
    }
    w.staging.publish()
}

fn a_key(d: &mut Dice, dl_type: u16) -> PacketKey {
    let mut key = PacketKey::default();
    key.set_in_port(DpPort(d.of(&[1, 2, 3, 4, 11, 12])));
    let mut put = |d: &mut Dice, f: FieldId| {
        let v = value_of(d, f);
        key.set(f.slot(), v);
    };
    put(d, FieldId::EthSrc);
    put(d, FieldId::EthDst);
    match dl_type {
        0x0800 => [FieldId::IpSrc, FieldId::IpDst].into_iter().for_each(|f| put(d, f)),
        0x86dd => {
            [FieldId::Ipv6Src, FieldId::Ipv6Dst, FieldId::Ipv6Label].into_iter().for_each(|f| put(d, f))
        }
        0x0806 => {
            let fields = [FieldId::ArpSpa, FieldId::ArpTpa, FieldId::ArpOp, FieldId::ArpSha, FieldId::ArpTha];
            fields.into_iter().for_each(|f| put(d, f));
        }
        0x8847 => {
            [FieldId::MplsLabel, FieldId::MplsTc, FieldId::MplsTtl, FieldId::MplsBos]
                .into_iter()
                .for_each(|f| put(d, f));
        }
        _ => {}
    }
    if matches!(dl_type, 0x0800 | 0x86dd) {
        let fields = [
            FieldId::NwProto,
            FieldId::NwTtl,
            FieldId::IpDscp,
            FieldId::NwEcn,
            FieldId::TcpSrc,
            FieldId::TcpDst,
        ];
        fields.into_iter().for_each(|f| put(d, f));
        if d.one_in(4) {
            key.set(slot::NW_FRAG, d.of(&[1, 3]));
        }
        key.set(slot::TCP_FLAGS, d.below(4).into());
    }
    if d.one_in(2) {
        key.set(slot::VLAN_TPID, d.of(&[0x8100, 0x88a8]));
        key.set(slot::VLAN_TCI, d.of(&[0x1000, 0x1005, 0x7005, 0x1006]));
        if d.one_in(3) {
            key.set(slot::VLAN_TPID_INNER, 0x8100);
            key.set(slot::VLAN_TCI_INNER, d.of(&[0x1001, 0x1005]));
        }
    }
    if d.one_in(3) {
        key.set(slot::TUN_METADATA_PRESENT, 1);
        key.set(slot::TUN_METADATA0, value_of(d, FieldId::TunMetadata0));
    }
    key.set(slot::DL_TYPE, dl_type.into());
    key
}

/// A translation's answer in a form that can be compared.
fn answer(t: &Translation<Effect>) -> Vec<String> {
    let steps = t.program.actions.iter().map(|a| match a {
        DpAction::Upcall { max_len, cookie } => {
            format!("upcall {max_len} {:?}", cookie.downcast_ref::<PacketIn>())
        }
        other => format!("{other:?}"),
    });
    steps.chain(t.effects.iter().map(|e| format!("{e:?}"))).collect()
}

struct Cached {
    answer: Vec<String>,
    deps: Deps,
    stamp: Revision,
}

/// The worker's cache, in the fewest lines.
#[derive(Default)]
struct Cache(HashMap<(ProfileId, PacketKey), Cached>);

#[derive(Default, Debug)]
struct Tally {
    hits: usize,
    stale: usize,
}

impl Cache {
    /// One frame, as a worker would handle it; checks the answer against a fresh translation.
    fn frame(
        &mut self,
        fwd: &Forwarding,
        key: &PacketKey,
        now: Instant,
        tally: &mut Tally,
    ) -> Option<Vec<DpAction>> {
        let revision = fwd.revision();
        let profile: &Profile = fwd.profile(FrameClass::of(key)).ok()?;
        let place = (profile.id, profile.mask.apply(key));
        let fresh = fwd.translate(&Upcall { key });
        if let Some(cached) = self.0.get_mut(&place) {
            if cached.stamp == revision || fwd.still_valid(&cached.deps) {
                assert_eq!(
                    cached.answer,
                    answer(&fresh),
                    "cached flow is wrong for {key:?}\nprofile {profile:?}"
                );
                cached.stamp = revision;
                tally.hits += 1;
            } else {
                tally.stale += 1;
                self.0.remove(&place);
            }
        }
        let again = fwd.translate(&Upcall { key });
        assert_eq!(answer(&fresh), answer(&again), "not a function");
        assert_eq!(fresh.deps, again.deps);
        if fresh.cacheable && !self.0.contains_key(&place) {
            let cached = Cached { answer: answer(&fresh), deps: fresh.deps.clone(), stamp: revision };
            self.0.insert(place, cached);
        }
        fwd.commit(&fresh.effects, now);
        Some(fresh.program.actions.to_vec())
    }
}

fn run(seed: u64, rounds: u64) -> Tally {
    let d = &mut Dice(seed);
    let mut w = world(d);
    let mut fwd = publish(&mut w);
    let mut cache = Cache::default();
    let mut tally = Tally::default();
    // Few enough flows that they come again, in frames that differ in what may not matter.
    let mut flows: Vec<PacketKey> = Vec::new();
    for _ in 0..rounds {
        for _ in 0..24 {
            let mut key = if flows.len() > 12 && !d.one_in(8) {
                d.of(&flows)
            } else {
                let dl_type = d.of(&[0x0800, 0x0800, 0x86dd, 0x0806, 0x8847, 0x9999]);
                a_key(d, dl_type)
            };
            flows.push(key);
            if d.one_in(3) {
                let other = a_key(d, key.dl_type());
                let word = d.below(6) as usize + 1;
                key.set_word(word, other.word(word));
            }
            let Some(steps) = cache.frame(&fwd, &key, w.now, &mut tally) else { continue };
            if let Some(DpAction::Recirculate(id)) = steps.last() {
                let mut second = a_key(d, 0x0800);
                second.set_in_port(key.in_port());
                second.set(slot::RECIRC_ID, id.0.into());
                cache.frame(&fwd, &second, w.now, &mut tally);
            }
        }
        change(&mut w, d);
        fwd = publish(&mut w);
    }
    tally
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_cached_answer_equals_a_fresh_one(seed: u64, rounds in 1u64..24) {
        run(seed, rounds);
    }

    /// Any two keys that agree in the profile get the same answer, and what a trace says it looked at is in the profile.
    #[test]
    fn bits_outside_the_profile_do_not_matter(seed: u64) {
        let d = &mut Dice(seed);
        let mut w = world(d);
        let fwd = publish(&mut w);
        for _ in 0..64 {
            let dl_type = d.of(&[0x0800, 0x86dd, 0x0806, 0x8847, 0x9999]);
            let (key, other) = (a_key(d, dl_type), a_key(d, dl_type));
            let Ok(profile) = fwd.profile(FrameClass::of(&key)) else { continue };
            let mut mixed = key;
            for i in 0..PacketKey::LEN {
                let bits = profile.mask.0.word(i);
                mixed.set_word(i, key.word(i) & bits | other.word(i) & !bits);
            }
            let (a, b) = (fwd.translate(&Upcall { key: &key }), fwd.translate(&Upcall { key: &mixed }));
            prop_assert_eq!(answer(&a), answer(&b), "{:?} and {:?} under {:?}", key, mixed, profile);
            let traced = switch::trace::trace(&fwd, &key, switch::trace::SideEffects::Generate).unwrap();
            prop_assert_eq!(answer(&a), answer(&traced.translation), "traced");
            // A field that frames of the class do not have is not in the profile; it can be looked at in vain.
            let looked = Mask(traced.seen.apply(&key));
            prop_assert!(profile.mask.covers(&looked), "looked at {:?}, profile {:?}", looked, profile);
        }
    }
}

/// The properties above are worth something only if flows are found again, and found stale.
#[test]
fn random_worlds_exercise_the_cache() {
    let mut sum = Tally::default();
    for seed in 0..40 {
        let t = run(seed, 16);
        sum.hits += t.hits;
        sum.stale += t.stale;
    }
    assert!(sum.hits > 1_000 && sum.stale > 300, "{sum:?}");
}
