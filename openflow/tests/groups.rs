//! Groups and meters on the wire: bytes that `ovs-ofctl` 3.1 sent, its reading of our replies where it is
//! installed, and every message written, read, and the same again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flowtable::group::{Bucket, BucketId, GroupCommand, GroupMod, GroupType, Selection, SelectionMethod};
use flowtable::meter::{BandType, MeterBand, MeterCommand, MeterConfig, MeterMod, MeterUnit};
use flowtable::text::{NoPortNames, parse_actions, parse_group_mod, parse_meter_mod};
use flowtable::{FieldId, GroupId, MeterId, OfPort};
use openflow::message::*;
use openflow::{Dialect, Message, OfVersion, Xid, decode, encode_to_vec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::process::Command;
use std::time::Duration;

const V10: OfVersion = OfVersion::V10;
const V13: OfVersion = OfVersion::V13;
const V15: OfVersion = OfVersion::V15;

/// `version|command of ovs-ofctl|text|bytes of the message in hexadecimal`.
const RECORDED: &str = include_str!("data/group_mods.txt");

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 16).unwrap())
        .collect()
}

fn message(command: &str, text: &str) -> Message {
    let group = |command| Message::GroupMod(parse_group_mod(text, command, &NoPortNames).unwrap());
    let meter = |command| Message::MeterMod(parse_meter_mod(text, command).unwrap());
    match command {
        "add-group" => group(GroupCommand::Add),
        "mod-group" => group(GroupCommand::Modify),
        "add-or-mod" => group(GroupCommand::AddOrModify),
        "insert-buckets" => group(GroupCommand::InsertBuckets),
        "remove-buckets" => group(GroupCommand::RemoveBuckets),
        "del-groups" => group(GroupCommand::Delete),
        "add-meter" => meter(MeterCommand::Add),
        "mod-meter" => meter(MeterCommand::Modify),
        "del-meter" | "del-meters" => meter(MeterCommand::Delete),
        other => panic!("{other}"),
    }
}

#[test]
fn text_is_written_as_ovs_ofctl_writes_it() {
    for line in RECORDED.lines() {
        let [version, command, text, bytes]: [&str; 4] =
            line.split('|').collect::<Vec<_>>().try_into().unwrap();
        let (dialect, bytes) = (Dialect::new(OfVersion::from_name(version).unwrap()), unhex(bytes));
        let xid = Xid(u32::from_be_bytes(bytes[4..8].try_into().unwrap()));
        let ours = encode_to_vec(&dialect, xid, &message(command, text)).unwrap();
        assert_eq!(ours, bytes, "{version} {command} {text}\n ours {ours:02x?}\n ovs  {bytes:02x?}");
        let (_, read) = decode(&dialect, &bytes).unwrap_or_else(|e| panic!("{version} {text}: {e}"));
        // Actions change their form with the version; what was read is written again as it was.
        assert_eq!(encode_to_vec(&dialect, xid, &read).unwrap(), bytes, "{version} {command} {text}");
    }
}

/// What ovs-ofctl makes of a reply, without the transaction id.
fn shown(version: OfVersion, reply: MultipartReply) -> String {
    let bytes =
        encode_to_vec(&Dialect::new(version), Xid(0), &Message::MultipartReply { more: false, reply })
            .unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let out = Command::new("ovs-ofctl").args(["ofp-print", &hex]).output();
    let out = out.expect("ovs-ofctl is needed for this test: install openvswitch-common");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    text.replace(" (xid=0x0)", "").trim_end().to_owned()
}

fn described(text: &str) -> GroupDesc {
    let m = parse_group_mod(text, GroupCommand::Add, &NoPortNames).unwrap();
    GroupDesc { group: m.group, kind: m.kind, buckets: m.buckets, selection: m.selection }
}

#[test]
fn descriptions_are_read_by_ovs_ofctl() {
    let texts = [
        "group_id=2,type=select,bucket=bucket_id:0,weight:5,actions=output:1,bucket=bucket_id:1,weight:7,watch_port:2,actions=output:2",
        "group_id=3,type=ff,bucket=bucket_id:0,watch_port:1,actions=output:1,bucket=bucket_id:9,watch_group:2,actions=output:2",
        "group_id=4,type=select,selection_method=hash,selection_method_param=7,fields(ip_src,tcp_dst),bucket=bucket_id:0,actions=output:1",
        "group_id=6,type=indirect,bucket=bucket_id:0,actions=output:2",
        "group_id=7,type=all",
    ];
    let reply = || MultipartReply::GroupDesc(texts.iter().map(|t| described(t)).collect());
    let list = texts.iter().map(|t| format!("\n {t}")).collect::<String>();
    assert_eq!(shown(V15, reply()), format!("OFPST_GROUP_DESC reply (OF1.5):{list}"));
    assert_eq!(shown(V10, reply()), format!("NXST_GROUP_DESC reply:{list}"));
    let plain = list
        .replace("bucket_id:0,", "")
        .replace("bucket_id:1,", "")
        .replace("bucket_id:9,", "")
        .replace(",selection_method=hash,selection_method_param=7,fields(ip_src,tcp_dst)", "");
    assert_eq!(shown(V13, reply()), format!("OFPST_GROUP_DESC reply (OF1.3):{plain}"));
}

#[test]
fn statistics_are_read_by_ovs_ofctl() {
    let count = |packets, bytes| PacketCount { packets, bytes };
    let stats = GroupStats {
        group: GroupId(2),
        references: 3,
        total: count(10, 1000),
        duration: Duration::from_millis(1500),
        buckets: vec![count(4, 400), count(6, 600)],
    };
    let reply = || MultipartReply::GroupStats(vec![stats.clone(); 2]);
    let line = "\n group_id=2,duration=1.500s,ref_count=3,packet_count=10,byte_count=1000,bucket0:packet_count=4,byte_count=400,\
                bucket1:packet_count=6,byte_count=600";
    assert_eq!(shown(V15, reply()), format!("OFPST_GROUP reply (OF1.5):{line}{line}"));
    assert_eq!(shown(V10, reply()), format!("NXST_GROUP reply:{line}{line}"));
    let meter = MeterStats {
        meter: MeterId(5),
        flows: 2,
        input: count(7, 700),
        duration: Duration::from_millis(2250),
        bands: vec![count(1, 100)],
    };
    assert_eq!(
        shown(V13, MultipartReply::MeterStats(vec![meter])),
        "OFPST_METER reply (OF1.3):\nmeter:5 flow_count:2 packet_in_count:7 byte_in_count:700 duration:2.250s bands:\n\
         0: packet_count:1 byte_count:100"
    );
    let text = "meter=5,pktps,burst,stats,bands=type=drop,rate=7,burst_size=9,type=dscp_remark,rate=3,burst_size=4,prec_level=1";
    let m = parse_meter_mod(text, MeterCommand::Add).unwrap();
    assert_eq!(
        shown(V15, MultipartReply::MeterConfig(vec![MeterDesc { meter: m.meter, config: m.config }])),
        "OFPST_METER_CONFIG reply (OF1.5):\nmeter=5 pktps burst stats bands=\ntype=drop rate=7 burst_size=9\n\
         type=dscp_remark rate=3 burst_size=4 prec_level=1"
    );
}

fn same_again(version: OfVersion, message: &Message) {
    let dialect = Dialect::new(version);
    let bytes = encode_to_vec(&dialect, Xid(7), message).unwrap_or_else(|e| panic!("{message:?}: {e}"));
    let (_, again) =
        decode(&dialect, &bytes).unwrap_or_else(|e| panic!("{version} {message:?}: {e}: {bytes:02x?}"));
    assert_eq!(&again, message, "{version}");
}

fn bucket(kind: GroupType) -> impl Strategy<Value = Bucket> {
    let actions = select(vec![
        "drop",
        "output:1",
        "group:5,output:3",
        "ct(commit,nat(dst=10.0.0.1:80))",
        "dec_ttl,normal",
    ]);
    (any::<u16>(), proptest::option::of(1..0xff00u32), proptest::option::of(0..0xffff_ff00u32), actions)
        .prop_map(move |(weight, port, group, actions)| {
            let may_watch = matches!(kind, GroupType::Select | GroupType::FastFailover);
            let port =
                port.or(if kind == GroupType::FastFailover { Some(1) } else { None }).filter(|_| may_watch);
            Bucket {
                weight: if kind == GroupType::Select { weight } else { 0 },
                watch_port: port.map_or(OfPort::ANY, OfPort),
                watch_group: group.filter(|_| may_watch).map_or(GroupId::ANY, GroupId),
                actions: parse_actions(actions, &NoPortNames).unwrap().into(),
                ..Bucket::new(kind)
            }
        })
}

fn buckets(kind: GroupType, ids: bool) -> impl Strategy<Value = Vec<Bucket>> {
    let size = if kind == GroupType::Indirect { 1..2 } else { 0..6 };
    vec(bucket(kind), size).prop_map(move |mut buckets| {
        if ids {
            buckets.iter_mut().rev().enumerate().for_each(|(i, b)| b.id = BucketId(i as u32 * 3));
        }
        buckets
    })
}

fn selection() -> impl Strategy<Value = Selection> {
    let fields = select(vec![
        vec![],
        vec![(FieldId::Reg3, 0xff00u128), (FieldId::IpSrc, 0xffff_ff00), (FieldId::TcpDst, 0xffff)],
        vec![(FieldId::Ipv6Dst, u128::MAX << 64)],
    ]);
    let methods = vec![
        SelectionMethod::Default,
        SelectionMethod::DpHash,
        SelectionMethod::Hash,
        SelectionMethod::Maglev,
    ];
    (select(methods), any::<u64>(), fields).prop_map(|(method, param, fields)| match method {
        SelectionMethod::Default => Selection::default(),
        SelectionMethod::DpHash => Selection { method, param: param & 0x1_ffff_ffff, fields: vec![] },
        SelectionMethod::Hash => Selection { method, param, fields },
        SelectionMethod::Maglev => Selection { method, param: [0, 251, 65_537][param as usize % 3], fields },
    })
}

fn group_mod(version: OfVersion) -> impl Strategy<Value = GroupMod> {
    let old = matches!(version, OfVersion::V13 | OfVersion::V14);
    let whole = select(vec![GroupCommand::Add, GroupCommand::Modify, GroupCommand::AddOrModify]);
    (select(GroupType::ALL.to_vec()), whole, 0..0xffff_ff00u32, selection()).prop_flat_map(
        move |(kind, command, id, selection)| {
            buckets(kind, !old).prop_map(move |buckets| {
                let chooses = kind == GroupType::Select && !old;
                let selection = if chooses { selection.clone() } else { Selection::default() };
                GroupMod { buckets, selection, ..GroupMod::new(command, kind, GroupId(id)) }
            })
        },
    )
}

fn meter_config() -> impl Strategy<Value = MeterConfig> {
    let kind = prop_oneof![
        Just(BandType::Drop),
        (1..=2u8).prop_map(|prec_level| BandType::DscpRemark { prec_level })
    ];
    let band = (kind, 1u32.., any::<u32>()).prop_map(|(kind, rate, burst_size)| MeterBand {
        kind,
        rate,
        burst_size,
    });
    (any::<[bool; 3]>(), vec(band, 1..8)).prop_map(|([kbps, burst, stats], mut bands)| {
        if !burst {
            bands.iter_mut().for_each(|b| b.burst_size = 0);
        }
        let unit = if kbps { MeterUnit::Kbps } else { MeterUnit::Pktps };
        MeterConfig { unit, burst, stats, bands }
    })
}

proptest! {
    #[test]
    fn groups(
        (version, m) in select(OfVersion::ALL.to_vec()).prop_flat_map(|v| (Just(v), group_mod(v))),
        counts in vec((any::<u64>(), any::<u64>()), 1..5),
    ) {
        same_again(version, &Message::GroupMod(m.clone()));
        let desc = GroupDesc { group: m.group, kind: m.kind, buckets: m.buckets, selection: m.selection };
        let reply = |reply| Message::MultipartReply { more: false, reply };
        same_again(version, &reply(MultipartReply::GroupDesc(vec![desc; 3])));
        let counts: Vec<_> = counts.into_iter().map(|(packets, bytes)| PacketCount { packets, bytes }).collect();
        let duration = Duration::from_millis(counts[0].packets >> 32);
        let stats = GroupStats { group: m.group, references: 3, total: counts[0], duration, buckets: counts };
        same_again(version, &reply(MultipartReply::GroupStats(vec![stats; 2])));
    }

    #[test]
    fn requests_about_buckets(
        inserts in any::<bool>(),
        place in prop_oneof![0..0xffff_ff01u32, 0xffff_fffdu32..=0xffff_fffe],
        list in buckets(GroupType::Select, true),
        version in select(vec![V10, V15]),
    ) {
        let command = if inserts { GroupCommand::InsertBuckets } else { GroupCommand::RemoveBuckets };
        let buckets = if inserts { list } else { Vec::new() };
        let m = GroupMod { place: BucketId(place), buckets, ..GroupMod::new(command, GroupType::All, GroupId(5)) };
        same_again(version, &Message::GroupMod(m));
    }

    #[test]
    fn meters(
        config in meter_config(), id in 1..0xffff_0000u32, adds in any::<bool>(),
        version in select(OfVersion::ALL[1..].to_vec()),
    ) {
        let command = if adds { MeterCommand::Add } else { MeterCommand::Modify };
        let meter = MeterId(id);
        same_again(version, &Message::MeterMod(MeterMod { command, meter, config: config.clone() }));
        let delete = MeterMod { command: MeterCommand::Delete, meter, config: MeterConfig::default() };
        same_again(version, &Message::MeterMod(delete));
        let reply = MultipartReply::MeterConfig(vec![MeterDesc { meter, config }; 2]);
        same_again(version, &Message::MultipartReply { more: false, reply });
        let input = PacketCount { packets: u64::from(id), bytes: 5 };
        let stats = MeterStats { meter, flows: id, input, duration: Duration::from_millis(77), bands: vec![input; 3] };
        let reply = MultipartReply::MeterStats(vec![stats; 2]);
        same_again(version, &Message::MultipartReply { more: false, reply });
    }
}
