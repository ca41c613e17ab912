//! Groups: their text as ovs-ofctl 3.1 reads and prints it (recorded), what requests do, and how buckets are chosen.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use base::Instant;
use flowtable::group::{
    Bucket, BucketId, GroupCommand, GroupError, GroupId, GroupMod, GroupType, Groups, Selection,
    SelectionMethod,
};
use flowtable::text::{
    BucketIds, Dialect, NoPortNames, TextStyle, display_group, fuzz, parse_group_filter, parse_group_line,
    parse_group_mod,
};
use flowtable::{FlowKey, OfPort, Words};
use packet::key::slot;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn printed(m: &GroupMod) -> String {
    let style = TextStyle::default().dialect(Dialect::OpenFlow11);
    display_group(m.group, m.kind, &m.selection, &m.buckets, BucketIds::Shown, style).to_string()
}

fn add(text: &str) -> Result<GroupMod, String> {
    parse_group_mod(text, GroupCommand::Add, &NoPortNames).map_err(|e| e.to_string())
}

/// Text given to `add-group`, and what `dump-groups` then showed over OpenFlow 1.5.
const SHOWN: &[(&str, &str)] = &[
    (
        "group_id=2,type=select,bucket=weight:5,output:1,bucket=weight:7,watch_port:2,actions=set_field:1->reg0,output:2",
        "group_id=2,type=select,bucket=bucket_id:0,weight:5,actions=output:1,bucket=bucket_id:1,weight:7,watch_port:2,\
         actions=set_field:0x1->reg0,output:2",
    ),
    (
        "group_id=3,type=ff,bucket=watch_port:1,output:1,bucket=watch_group:2,bucket_id:9,actions=output:2",
        "group_id=3,type=ff,bucket=bucket_id:0,watch_port:1,actions=output:1,bucket=bucket_id:9,watch_group:2,\
         actions=output:2",
    ),
    (
        "group_id=1,type=fast_failover,bucket=watch_port:1,actions=2",
        "group_id=1,type=ff,bucket=bucket_id:0,watch_port:1,actions=output:2",
    ),
    (
        "group_id=6,type=indirect,bucket=output:1",
        "group_id=6,type=indirect,bucket=bucket_id:0,actions=output:1",
    ),
    ("group_id=1,group_id=2,type=all", "group_id=2,type=all"),
    ("group_id=1,type=all,bucket=drop", "group_id=1,type=all,bucket=bucket_id:0,actions=drop"),
    ("group_id=1,type=all,bucket=meter:1", "group_id=1,type=all,bucket=bucket_id:0,actions=meter:1"),
    ("group_id=1,type=all,bucket=ct(commit)", "group_id=1,type=all,bucket=bucket_id:0,actions=ct(commit)"),
    ("group_id=1,type=all,bucket=group:99", "group_id=1,type=all,bucket=bucket_id:0,actions=group:99"),
    (
        "group_id=1,type=all,bucket=bucket_id=5,actions=2",
        "group_id=1,type=all,bucket=bucket_id:5,actions=output:2",
    ),
    (
        "group_id=1,type=select,bucket=weight:0,output:1",
        "group_id=1,type=select,bucket=bucket_id:0,weight:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,bucket=weight:1,1,bucket=weight=3 actions=2",
        "group_id=1,type=select,bucket=bucket_id:0,actions=output:1,bucket=bucket_id:1,weight:3,actions=output:2",
    ),
    (
        "group_id=4,type=select,selection_method=hash,fields(ip_src,tcp_dst),bucket=output:1",
        "group_id=4,type=select,selection_method=hash,fields(ip_src,tcp_dst),bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=5,type=select,selection_method=dp_hash,selection_method_param=7,bucket=bucket_id:4,output:1,bucket=output:2",
        "group_id=5,type=select,selection_method=dp_hash,selection_method_param=7,bucket=bucket_id:4,actions=output:1,\
      bucket=bucket_id:0,actions=output:2",
    ),
    (
        "group_id=1,type=select,selection_method=hash,fields=ip_src,bucket=1",
        "group_id=1,type=select,selection_method=hash,fields=ip_src,bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,selection_method=hash,fields(ip_src=255.255.255.0,nw_dst),bucket=1",
        "group_id=1,type=select,selection_method=hash,fields(ip_src=255.255.255.0,ip_dst),bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,selection_method=hash,selection_method_param=9,fields(ip_src=255.255.0.0),bucket=1",
        "group_id=1,type=select,selection_method=hash,selection_method_param=9,fields=ip_src=255.255.0.0,bucket=bucket_id:0,\
      actions=output:1",
    ),
    (
        "group_id=1,type=select,selection_method=hash,fields(eth_src=ff:ff:ff:00:00:00,metadata=0xff,reg0,vlan_vid,ipv6_src),bucket=1",
        "group_id=1,type=select,selection_method=hash,fields(metadata=0xff,reg0,eth_src=ff:ff:ff:00:00:00,vlan_vid,ipv6_src),\
      bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,selection_method=hash,fields(ipv6_src=ffff::),bucket=1",
        "group_id=1,type=select,selection_method=hash,fields=ipv6_src=ffff::,bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,selection_method=hash,fields(tcp_src=7),bucket=1",
        "group_id=1,type=select,selection_method=hash,fields=tcp_src=7,bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,selection_method=hash,fields(),bucket=1",
        "group_id=1,type=select,selection_method=hash,bucket=bucket_id:0,actions=output:1",
    ),
    (
        "group_id=1,type=select,bucket=bucket_id:3,actions=drop,bucket=drop,bucket=watch_port:1,watch_group:3,weight:9,bucket_id:9,drop,bucket=group:4",
        "group_id=1,type=select,bucket=bucket_id:3,actions=drop,bucket=bucket_id:0,actions=drop,bucket=bucket_id:9,weight:9,\
      watch_port:1,watch_group:3,actions=drop,bucket=bucket_id:1,actions=group:4",
    ),
];

#[test]
fn groups_are_read_and_printed_as_by_ovs_ofctl() {
    for (given, shown) in SHOWN {
        let group = add(given).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(printed(&group), *shown, "{given}");
        assert_eq!(add(shown).unwrap(), group, "what was printed says the same");
        assert_eq!(group.check(), Ok(()), "{given}");
    }
}

#[test]
fn errors_are_those_of_ovs_ofctl() {
    let hash = "group_id=1,type=select,selection_method=hash";
    for (given, error) in [
        ("type=all", "must specify a group_id"),
        ("type=all,bucket=1,group_id=1", "must specify a group_id"),
        ("", "must specify a group_id"),
        ("group_id=1", "must specify a type"),
        ("group_id=1,type=foo", "invalid group type foo"),
        ("group_id=x,type=all", "invalid numeric format x"),
        ("group_id=0xffffff01,type=all", "invalid group id 4294967041"),
        ("group_id=1,type=all,foo=1", "unknown keyword foo"),
        ("group_id=1,type=all,bucket", "unknown keyword bucket"),
        ("group_id=1,type=all,actions=output:1", "unknown keyword actions"),
        ("group_id=1,type=all,bucket=", "bucket must specify actions"),
        ("group_id=1,type=all,bucket=weight:1,output:1", "Only select groups can have bucket weights."),
        ("group_id=1,type=all,bucket=1,weight:3", "Only select groups can have bucket weights."),
        ("group_id=1,type=select,bucket=weight:70000,output:1", "invalid weight \"70000\""),
        ("group_id=1,type=indirect,bucket=1,bucket=2", "Indirect groups can have at most one bucket."),
        ("group_id=1,type=all,bucket=watch_port:foo,1", "foo: invalid watch_port"),
        ("group_id=1,type=select,bucket=watch_port:LOCAL,actions=2", "LOCAL: invalid watch_port"),
        ("group_id=1,type=ff,bucket=1", "fast failover bucket requires watch_port or watch_group"),
        ("group_id=1,type=all,bucket=bucket_id:foo,1", "invalid numeric format foo"),
        ("group_id=1,type=all,bucket=bucket_id:0xffffff01,1", "invalid bucket_id id 4294967041"),
        (
            "group_id=1,type=select,selection_method=aaaaaaaaaaaaaaaaaaaaaaa,bucket=1",
            "selection method is longer than 15 bytes long",
        ),
        (
            "group_id=1,type=select,fields=ip_src,bucket=1",
            "fields may only be specified with \"selection_method=hash\"",
        ),
        (
            "group_id=1,type=select,selection_method=dp_hash,fields=ip_src,bucket=1",
            "fields may only be specified with \"selection_method=hash\"",
        ),
        (
            "group_id=1,type=select,selection_method_param=7,bucket=1",
            "selection_method_param is only allowed with \"selection_method\"",
        ),
        (&format!("{hash},fields(ip_src,ip_src),bucket=1"), "ip_src: duplicate field"),
        (&format!("{hash},fields(eth_type=0xff),bucket=1"), "0xff: invalid mask for field eth_type"),
        (&format!("{hash},fields(ip_src=foo),bucket=1"), "foo: invalid IP address"),
        (&format!("{hash},fields(foo),bucket=1"), "unknown field foo"),
        ("group_id=1,type=all,command_bucket_id=1,bucket=1", "command bucket id is not needed"),
        ("group_id=1,type=all,bucket=goto_table:1", "goto_table instruction not allowed here"),
        ("group_id=1,type=all,bucket=set_field:1->ct_mark", "cannot set CT fields outside of ct action"),
        ("group_id=1,type=all,bucket=foo", "unknown action foo"),
    ] {
        assert_eq!(add(given).unwrap_err(), error, "{given}");
    }
    let other = |text: &str, command| {
        parse_group_mod(text, command, &NoPortNames).map_err(|e| e.to_string()).unwrap_err()
    };
    use GroupCommand::{Delete, InsertBuckets, RemoveBuckets};
    for (text, command, error) in [
        ("group_id=1,foo", Delete, "unknown keyword foo"),
        ("group_id=0xffffff01", Delete, "invalid group id 4294967041"),
        ("type=all", Delete, "type is not needed"),
        ("group_id=1,bucket=1", Delete, "bucket is not needed"),
        ("command_bucket_id=1", Delete, "command bucket id is not needed"),
        ("group_id=1,bucket=1", InsertBuckets, "must specify a command bucket id"),
        (
            "group_id=1,command_bucket_id=all,bucket=1",
            InsertBuckets,
            "command_bucket_id=all is not permitted",
        ),
        ("group_id=1,command_bucket_id=foo,bucket=1", InsertBuckets, "invalid numeric format foo"),
        (
            "group_id=1,command_bucket_id=0xffffff01,bucket=1",
            InsertBuckets,
            "invalid command bucket id 4294967041",
        ),
        ("group_id=1,type=all,command_bucket_id=first,bucket=1", InsertBuckets, "type is not needed"),
        ("group_id=1,command_bucket_id=all,bucket=1", RemoveBuckets, "bucket is not needed"),
    ] {
        assert_eq!(other(text, command), error, "{text}");
    }
}

#[test]
fn lines_and_filters() {
    let line = |text: &str| parse_group_line(text, GroupCommand::Add, &NoPortNames).unwrap();
    assert_eq!(line("# nothing"), None);
    assert_eq!(line("group_id=5,type=all").unwrap().command, GroupCommand::Add);
    assert_eq!(line(" add_or_mod group_id=5,type=all").unwrap().command, GroupCommand::AddOrModify);
    let inserted = line("insert_bucket group_id=6,command_bucket_id=first,bucket=9").unwrap();
    assert_eq!((inserted.command, inserted.place), (GroupCommand::InsertBuckets, BucketId::FIRST));
    assert_eq!(line("remove_bucket group_id=6").unwrap().place, BucketId::ALL);
    assert_eq!(parse_group_filter("").unwrap(), GroupId::ALL);
    assert_eq!(parse_group_filter("group_id=7").unwrap(), GroupId(7));
    assert!(parse_group_filter("all").is_err());
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}

fn apply(groups: &mut Groups, command: GroupCommand, text: &str) -> Result<usize, GroupError> {
    let group_mod = parse_group_mod(text, command, &NoPortNames).unwrap();
    groups.apply(&group_mod, at(1)).map(|changes| changes.len())
}

fn ids(groups: &Groups, id: u32) -> Vec<u32> {
    groups.get(GroupId(id)).unwrap().buckets.iter().map(|b| b.id.0).collect()
}

#[test]
fn requests_change_groups_and_nothing_else() {
    use GroupCommand::*;
    let mut groups = Groups::default();
    assert_eq!(apply(&mut groups, Modify, "group_id=1,type=all"), Err(GroupError::UnknownGroup));
    assert_eq!(apply(&mut groups, Add, "group_id=1,type=all,bucket=1,bucket=2"), Ok(1));
    let before = groups.clone();
    assert_eq!(apply(&mut groups, Add, "group_id=1,type=all"), Err(GroupError::GroupExists));
    assert!(groups.is_same(&before), "a refused request changes nothing");
    groups.get(GroupId(1)).unwrap().stats.add(3, 300);

    let insert = |groups: &mut Groups, place: &str, rest: &str| {
        apply(groups, InsertBuckets, &format!("group_id=1,command_bucket_id={place},{rest}"))
    };
    assert_eq!(insert(&mut groups, "77", "bucket=bucket_id:5,1"), Err(GroupError::UnknownBucket));
    assert_eq!(insert(&mut groups, "first", "bucket=bucket_id:1,1"), Err(GroupError::BucketExists));
    assert_eq!(insert(&mut groups, "0", "bucket=bucket_id:8,8,bucket=bucket_id:9,9"), Ok(1));
    assert_eq!(insert(&mut groups, "first", "bucket=bucket_id:7,7"), Ok(1));
    assert_eq!(insert(&mut groups, "last", "bucket=bucket_id:2,7"), Ok(1));
    assert_eq!(ids(&groups, 1), [7, 0, 8, 9, 1, 2]);
    assert_eq!(groups.differing(&before), [GroupId(1)]);

    let remove = |groups: &mut Groups, place: &str| {
        apply(groups, RemoveBuckets, &format!("group_id=1,command_bucket_id={place}"))
    };
    groups.get(GroupId(1)).unwrap().bucket_stats[2].add(1, 60);
    assert_eq!(remove(&mut groups, "first"), Ok(1));
    assert_eq!(remove(&mut groups, "last"), Ok(1));
    assert_eq!(remove(&mut groups, "9"), Ok(1));
    assert_eq!(remove(&mut groups, "9"), Err(GroupError::UnknownBucket));
    assert_eq!(ids(&groups, 1), [0, 8, 1]);
    let counted: Vec<u64> =
        groups.get(GroupId(1)).unwrap().bucket_stats.iter().map(|s| s.packets()).collect();
    assert_eq!(counted, [0, 1, 0], "a bucket that stays keeps its counters");
    assert_eq!(remove(&mut groups, "all"), Ok(1));
    assert_eq!(remove(&mut groups, "first"), Err(GroupError::UnknownBucket));

    assert_eq!(apply(&mut groups, AddOrModify, "group_id=1,type=indirect,bucket=3"), Ok(1));
    assert_eq!(groups.get(GroupId(1)).unwrap().stats.packets(), 3, "the group's counters go on");
    assert_eq!(
        apply(&mut groups, InsertBuckets, "group_id=1,command_bucket_id=last,bucket=bucket_id:3,4"),
        Err(GroupError::InvalidGroup),
        "an indirect group has one bucket"
    );
    assert_eq!(apply(&mut groups, Delete, "group_id=9"), Ok(0), "deleting nothing is no error");
    assert_eq!(apply(&mut groups, Add, "group_id=2,type=all,bucket=group:1"), Ok(1));
    assert_eq!(apply(&mut groups, Add, "group_id=3,type=all,bucket=group:2"), Ok(1));
    assert_eq!(apply(&mut groups, Modify, "group_id=1,type=all,bucket=group:3"), Err(GroupError::Loop));
    assert_eq!(apply(&mut groups, Add, "group_id=4,type=all,bucket=clone(group:4)"), Err(GroupError::Loop));
    assert_eq!(apply(&mut groups, Delete, ""), Ok(3));
    assert!(groups.is_empty() && before.len() == 1, "a snapshot stays as it was");
}

#[test]
fn senseless_requests() {
    let good = add("group_id=1,type=select,bucket=1,bucket=2").unwrap();
    let edit = |change: &dyn Fn(&mut GroupMod)| {
        let mut m = good.clone();
        change(&mut m);
        m.check()
    };
    let maglev = |param| Selection { method: SelectionMethod::Maglev, param, fields: vec![] };
    assert_eq!(edit(&|_| {}), Ok(()));
    assert_eq!(edit(&|m| m.group = GroupId(0xffff_ff01)), Err(GroupError::InvalidGroup));
    assert_eq!(edit(&|m| m.group = GroupId::ALL), Err(GroupError::InvalidGroup));
    assert_eq!(edit(&|m| m.buckets[1].id = BucketId(0)), Err(GroupError::BadBucket));
    assert_eq!(edit(&|m| m.buckets[1].id = BucketId::LAST), Err(GroupError::BadBucket));
    assert_eq!(edit(&|m| m.kind = GroupType::Indirect), Err(GroupError::InvalidGroup));
    assert_eq!(edit(&|m| m.kind = GroupType::All), Err(GroupError::InvalidGroup), "weights");
    assert_eq!(edit(&|m| m.kind = GroupType::FastFailover), Err(GroupError::InvalidGroup), "weights");
    assert_eq!(edit(&|m| m.selection = maglev(7)), Err(GroupError::BadSelection), "no such table size");
    assert_eq!(edit(&|m| m.selection = maglev(65_537)), Ok(()));
    assert_eq!(edit(&|m| m.selection.param = 1), Err(GroupError::BadSelection));
    let many = vec![Bucket::new(GroupType::Select); flowtable::group::BUCKETS_MAX + 1];
    assert_eq!(edit(&|m| m.buckets = many.clone()), Err(GroupError::OutOfBuckets));
}

fn tcp(client: u32, port: u16) -> FlowKey {
    let mut key = FlowKey::default();
    key.set_slot(slot::DL_TYPE, 0x0800);
    key.set_slot(slot::NW_PROTO, 6);
    key.set_slot(slot::NW_SRC, client.into());
    key.set_slot(slot::NW_DST, 0x0a60_0001);
    key.set_slot(slot::TP_SRC, port.into());
    key.set_slot(slot::TP_DST, 443);
    key
}

/// Many clients with many ports each.
fn clients() -> impl Iterator<Item = FlowKey> {
    (0..100u32).flat_map(|host| (0..250u16).map(move |port| tcp(0x0a00_0000 + host, 32_768 + port * 7)))
}

fn select(method: SelectionMethod, weights: &[(u32, u16)]) -> std::sync::Arc<flowtable::group::Group> {
    select_with(method, 0, weights)
}

fn select_with(
    method: SelectionMethod,
    param: u64,
    weights: &[(u32, u16)],
) -> std::sync::Arc<flowtable::group::Group> {
    let mut m = GroupMod::new(GroupCommand::Add, GroupType::Select, GroupId(1));
    (m.selection.method, m.selection.param) = (method, param);
    m.buckets = weights
        .iter()
        .map(|(id, weight)| Bucket { id: BucketId(*id), weight: *weight, ..Bucket::new(GroupType::Select) })
        .collect();
    let mut groups = Groups::default();
    groups.apply(&m, at(1)).unwrap();
    std::sync::Arc::clone(groups.get(GroupId(1)).unwrap())
}

fn chosen(group: &flowtable::group::Group, key: &FlowKey) -> u32 {
    group.buckets[group.choose(key, |_| true).unwrap()].id.0
}

const METHODS: [SelectionMethod; 2] = [SelectionMethod::DpHash, SelectionMethod::Maglev];

#[test]
fn buckets_get_their_share() {
    for method in METHODS {
        let group = select(method, &[(1, 1), (2, 2), (3, 0), (4, 5)]);
        let mut counts = BTreeMap::new();
        let mut total = 0;
        for key in clients() {
            *counts.entry(chosen(&group, &key)).or_insert(0u32) += 1;
            total += 1;
        }
        assert!(!counts.contains_key(&3), "{method:?}: a bucket without weight gets nothing");
        for (id, weight) in [(1, 1), (2, 2), (4, 5)] {
            let (share, wanted) = (f64::from(counts[&id]) / f64::from(total), f64::from(weight) / 8.0);
            assert!((share - wanted).abs() < 0.01, "{method:?} bucket {id}: {share} instead of {wanted}");
        }
    }
}

/// How many keys move when one bucket of `n` goes: those that were its own, and others, as fractions of all others.
fn moved(method: SelectionMethod, param: u64, n: u32) -> (f64, f64) {
    let all: Vec<(u32, u16)> = (0..n).map(|id| (id, 1)).collect();
    let less: Vec<(u32, u16)> = all.iter().copied().filter(|(id, _)| *id != 37).collect();
    let (before, after) = (select_with(method, param, &all), select_with(method, param, &less));
    let (mut own, mut others, mut total) = (0u32, 0u32, 0u32);
    for key in clients() {
        total += 1;
        match (chosen(&before, &key), chosen(&after, &key)) {
            (37, _) => own += 1,
            (a, b) if a != b => others += 1,
            _ => {}
        }
    }
    (f64::from(own) / f64::from(total), f64::from(others) / f64::from(total - own))
}

#[test]
fn removing_one_of_a_hundred_buckets_moves_few_others() {
    let (own, others) = moved(SelectionMethod::DpHash, 0, 100);
    assert!((own - 0.01).abs() < 0.003, "{own}");
    assert_eq!(others, 0.0, "with the highest random weight nothing else moves");
    for (size, most) in [(0, 0.015), (65_537, 0.0075)] {
        let (own, others) = moved(SelectionMethod::Maglev, size, 100);
        println!("maglev({size}): own {own:.4}, others {others:.4}");
        assert!((own - 0.01).abs() < 0.003, "{own}");
        assert!(others < most, "Maglev with {size} entries moved {others} of the other keys");
    }
}

#[test]
fn the_order_of_buckets_does_not_matter_and_dead_ones_are_left_out() {
    for method in METHODS {
        let weights: Vec<(u32, u16)> = (0..20).map(|id| (id, 1 + id as u16 % 3)).collect();
        let reversed: Vec<_> = weights.iter().rev().copied().collect();
        let (one, two) = (select(method, &weights), select(method, &reversed));
        for key in clients().step_by(37) {
            let before = chosen(&one, &key);
            assert_eq!(before, chosen(&two, &key), "{method:?}");
            let live = one.buckets[one.choose(&key, |b| b.id.0 != 4).unwrap()].id.0;
            assert_eq!(live == before, before != 4, "{method:?}: only packets of the dead bucket move");
            assert_eq!(one.choose(&key, |_| false), None);
        }
    }
}

proptest! {
    /// What the choice depends on is what it says it reads; and by default both directions go to one bucket.
    #[test]
    fn choosing_reads_what_it_says(
        words in proptest::collection::vec(any::<u64>(), FlowKey::LEN),
        others in proptest::collection::vec(any::<u64>(), FlowKey::LEN),
        dl_type in prop::sample::select(vec![0x0800u128, 0x86dd, 0x0806, 0x1234]),
        proto in prop::sample::select(vec![6u128, 17, 132, 1, 47]),
        method in prop::sample::select(vec![
            ("", ""), ("dp_hash", ""), ("hash", ""), ("hash", ",fields(ip_src=255.255.0.0,tcp_dst,reg3,ipv6_dst)"),
            ("maglev", ""), ("maglev", ",fields(eth_src,metadata=0xff00)"),
        ]),
    ) {
        let (name, fields) = method;
        let name = if name.is_empty() { String::new() } else { format!(",selection_method={name}") };
        let buckets: String = (0..9).map(|i| format!(",bucket=weight:{},{i}", i + 1)).collect();
        let mut groups = Groups::default();
        apply(&mut groups, GroupCommand::Add, &format!("group_id=1,type=select{name}{fields}{buckets}")).unwrap();
        let group = groups.get(GroupId(1)).unwrap();
        let mut key = FlowKey::default();
        let mut other = FlowKey::default();
        let mask = group.reads();
        for (i, word) in words.iter().enumerate() {
            key.set_word(i, *word);
        }
        key.set_slot(slot::DL_TYPE, dl_type);
        key.set_slot(slot::NW_PROTO, proto);
        for (i, noise) in others.iter().enumerate() {
            other.set_word(i, key.word(i) & mask.0.word(i) | noise & !mask.0.word(i));
        }
        prop_assert_eq!(group.choose(&key, |_| true), group.choose(&other, |_| true));
        if fields.is_empty() {
            let mut back = key;
            for (a, b) in [
                (slot::NW_SRC, slot::NW_DST), (slot::IPV6_SRC, slot::IPV6_DST),
                (slot::TP_SRC, slot::TP_DST), (slot::DL_SRC, slot::DL_DST),
            ] {
                back.set_slot(a, key.slot(b));
                back.set_slot(b, key.slot(a));
            }
            prop_assert_eq!(group.choose(&key, |_| true), group.choose(&back, |_| true));
        }
    }

    /// Fragments of a packet stay together: only the first of them has ports.
    #[test]
    fn fragments_stay_together(client in any::<u32>(), port in any::<u16>()) {
        let group = select(SelectionMethod::DpHash, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
        let mut first = tcp(client, port);
        first.set_slot(slot::NW_FRAG, 1);
        let mut later = first;
        later.set_slot(slot::NW_FRAG, 3);
        later.set_slot(slot::TP_SRC, 0);
        later.set_slot(slot::TP_DST, 0);
        prop_assert_eq!(chosen(&group, &first), chosen(&group, &later));
    }

    /// Any text is read or refused.
    #[test]
    fn any_text(
        head in "(group_id=[0-9]{1,3},)?(type=(all|select|ff|indirect),)?",
        words in proptest::collection::vec(prop::sample::select(WORDS), 0..12),
        rubbish in "\\PC{0,8}",
    ) {
        fuzz::group_text(format!("{head}{}", words.concat()).as_bytes());
        fuzz::group_text(format!("{head}{}{rubbish}", words.concat()).as_bytes());
        fuzz::group_text(format!("meter=1,{}", words.concat()).as_bytes());
    }
}

/// What texts of groups and meters are made of.
const WORDS: &[&str] = &[
    "bucket=",
    "bucket=",
    ",",
    ",",
    ",",
    "actions=",
    "output:1",
    "drop",
    "weight:",
    "5",
    "0",
    "bucket_id:",
    "bucket_id=",
    "1",
    "watch_port:2",
    "watch_group=3",
    "selection_method=hash",
    "selection_method=maglev",
    "fields(ip_src)",
    "fields=tcp_dst",
    "selection_method_param=",
    "command_bucket_id=",
    "last",
    "group:7",
    "ct(commit,exec(set_field:1->ct_mark))",
    "(",
    ")",
    "set_field:1.2.3.4->ip_src",
    "kbps",
    "pktps",
    "burst",
    "stats",
    "bands=",
    "band=",
    "type=drop",
    "type=dscp_remark",
    "rate=",
    "burst_size=",
    "prec_level=",
    " ",
    "controller",
    "meter=",
    "all",
];

#[test]
fn corpus_is_digested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus/groups");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    assert!(files.map(|file| fuzz::group_text(&std::fs::read(file).unwrap())).count() > 0);
}

#[test]
fn nothing_is_watched_by_default() {
    let bucket = Bucket::new(GroupType::Select);
    assert!(!bucket.watches() && bucket.watch_port == OfPort::ANY && bucket.weight == 1);
}
