//! What flow_mods do to rules. Expectations are OpenFlow's; where it leaves a choice or OVS differs, they are what
//! ovs-vswitchd 3.1 answered to the same commands under its dummy datapath and a stopped clock.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use base::{HashSeed, Instant};
use flowtable::flow_mod::{apply, apply_all};
use flowtable::{
    Cookie, FlowMod, FlowModCommand, FlowModError, Match, OfAction, OfPort, OnMissing, RemovalReason, Rule,
    RuleChange, RuleFilter, RuleFlags, TableAccess, TableConfig, TableId, Tables,
};
use packet::key::slot;
use std::sync::Arc;

const T0: Instant = Instant::from_secs(100);

fn tables() -> Tables {
    Tables::new(HashSeed::new(1, 2))
}

fn output(port: OfPort) -> Arc<[OfAction]> {
    Arc::from([OfAction::Output { port, max_len: 0 }])
}

fn ip() -> Match {
    let mut m = Match::any();
    m.set_exact(slot::DL_TYPE, 0x0800);
    m
}

fn udp() -> Match {
    let mut m = ip();
    m.set_exact(slot::NW_PROTO, 17);
    m
}

fn arp() -> Match {
    let mut m = Match::any();
    m.set_exact(slot::DL_TYPE, 0x0806);
    m
}

fn add(table: u8, priority: u16, matching: Match) -> FlowMod {
    FlowMod { priority, ..FlowMod::new(FlowModCommand::Add, TableId(table), matching) }
}

/// A rule as the tests write it: table, priority, match by name, cookie.
fn show(rule: &Rule) -> String {
    let matching = rule.matching();
    let names = [("ip", ip()), ("udp", udp()), ("arp", arp()), ("any", Match::any())];
    let name = names.iter().find(|(_, m)| *m == matching).map_or("?", |(name, _)| name);
    let port = match rule.actions.first() {
        Some(OfAction::Output { port, .. }) => port.to_string(),
        Some(OfAction::WriteActions(_)) => "write".to_string(),
        _ => "drop".to_string(),
    };
    format!("{}:{} {name} {} {port}", rule.table.0, rule.priority, rule.cookie.0)
}

fn dump(tables: &Tables) -> Vec<String> {
    let mut all: Vec<String> = tables.iter().flat_map(|t| t.rules()).map(|r| show(r)).collect();
    all.sort();
    all
}

/// The set of rules on which modify and delete are tried.
fn five() -> Tables {
    let mut tables = tables();
    let write = Arc::from([OfAction::WriteActions(output(OfPort(2)).to_vec())]);
    let mods = [
        FlowMod { actions: output(OfPort(1)), ..add(0, 5, ip()) },
        FlowMod { actions: output(OfPort(2)), ..add(0, 5, udp()) },
        FlowMod { actions: output(OfPort::CONTROLLER), ..add(0, 6, udp()) },
        FlowMod { actions: write, new_cookie: Some(Cookie(8)), ..add(3, 0x8000, udp()) },
        FlowMod { new_cookie: Some(Cookie(9)), ..add(4, 0x8000, Match::any()) },
    ];
    apply_all(&mut tables, &mods, T0).unwrap();
    tables
}

const FIVE: [&str; 5] =
    ["0:5 ip 0 1", "0:5 udp 0 2", "0:6 udp 0 CONTROLLER", "3:32768 udp 8 write", "4:32768 any 9 drop"];

#[test]
fn delete_removes_what_the_filter_means() {
    use FlowModCommand::{Delete, DeleteStrict};
    let request = |command, matching| FlowMod::new(command, TableId::ALL, matching);
    let cases: [(FlowMod, &[usize]); 11] = [
        (request(Delete, Match::any()), &[]),
        (request(Delete, udp()), &[0, 4]),
        (request(Delete, arp()), &[0, 1, 2, 3, 4]),
        (FlowMod { priority: 5, ..request(DeleteStrict, udp()) }, &[0, 2, 3, 4]),
        (FlowMod { out_port: OfPort(2), ..request(Delete, Match::any()) }, &[0, 2, 4]),
        (FlowMod { out_port: OfPort::CONTROLLER, ..request(Delete, Match::any()) }, &[0, 1, 3, 4]),
        (FlowMod { cookie: Cookie(8), cookie_mask: 0xe, ..request(Delete, Match::any()) }, &[0, 1, 2]),
        (FlowMod { table: TableId(3), ..request(Delete, Match::any()) }, &[0, 1, 2, 4]),
        (request(DeleteStrict, udp()), &[0, 1, 2, 4]),
        (FlowMod { out_group: Some(1), ..request(Delete, Match::any()) }, &[0, 1, 2, 3, 4]),
        (FlowMod { cookie: Cookie(9), cookie_mask: u64::MAX, ..request(Delete, udp()) }, &[0, 1, 2, 3, 4]),
    ];
    for (flow_mod, left) in cases {
        let mut tables = five();
        let changes = apply(&mut tables, &flow_mod, T0).unwrap();
        let expected: Vec<&str> = left.iter().map(|i| FIVE[*i]).collect();
        assert_eq!(dump(&tables), expected, "{flow_mod:?}");
        assert_eq!(changes.len(), 5 - left.len());
        let by_delete =
            |c: &RuleChange| matches!(c, RuleChange::Removed { reason: RemovalReason::Delete, .. });
        assert!(changes.iter().all(by_delete));
    }
}

#[test]
fn modify_changes_what_the_filter_means() {
    use FlowModCommand::{Modify, ModifyStrict};
    let request = |command, table, m| FlowMod {
        actions: output(OfPort(7)),
        ..FlowMod::new(command, TableId(table), m)
    };
    let cases: [(FlowMod, &[usize]); 7] = [
        (request(Modify, 0, ip()), &[0, 1, 2]),
        (FlowMod { priority: 6, ..request(ModifyStrict, 0, udp()) }, &[2]),
        (request(ModifyStrict, 0, udp()), &[]),
        (request(Modify, 3, Match::any()), &[3]),
        (request(Modify, 255, udp()), &[1, 2, 3]),
        (FlowMod { cookie: Cookie(9), cookie_mask: u64::MAX, ..request(Modify, 255, Match::any()) }, &[4]),
        // Output ports choose what to delete, not what to modify (OpenFlow 1.0 §5.3.3).
        (FlowMod { out_port: OfPort(1), ..request(Modify, 0, udp()) }, &[1, 2]),
    ];
    for (flow_mod, changed) in cases {
        let mut tables = five();
        let changes = apply(&mut tables, &flow_mod, T0).unwrap();
        assert_eq!(changes.len(), changed.len(), "{flow_mod:?}");
        let expected = FIVE.iter().enumerate().map(|(i, s)| match changed.contains(&i) {
            true => format!("{} 7", s.rsplit_once(' ').unwrap().0),
            false => s.to_string(),
        });
        assert_eq!(dump(&tables), expected.collect::<Vec<_>>(), "{flow_mod:?}");
    }
}

#[test]
fn modify_that_finds_nothing_adds_only_if_told() {
    let request =
        FlowMod { actions: output(OfPort(1)), ..FlowMod::new(FlowModCommand::Modify, TableId::ALL, udp()) };
    let mut tables = tables();
    assert!(apply(&mut tables, &request, T0).unwrap().is_empty());
    assert!(dump(&tables).is_empty());
    let request = FlowMod { on_missing: OnMissing::Add, new_cookie: Some(Cookie(5)), ..request };
    let changes = apply(&mut tables, &request, T0).unwrap();
    assert!(matches!(&changes[..], [RuleChange::Added { replaced: None, .. }]));
    assert_eq!(dump(&tables), ["0:32768 udp 5 1"]);
    // With a rule there, it is modified and not added again.
    let strict = FlowMod { command: FlowModCommand::ModifyStrict, ..request };
    assert!(matches!(&apply(&mut tables, &strict, T0).unwrap()[..], [RuleChange::Modified { .. }]));
}

#[test]
fn modify_keeps_time_outs_flags_and_counters() {
    let mut tables = tables();
    let first = FlowMod {
        new_cookie: Some(Cookie(7)),
        idle_timeout: 50,
        hard_timeout: 100,
        importance: 5,
        flags: RuleFlags::SEND_FLOW_REM,
        ..add(0, 9, udp())
    };
    let changes = apply(&mut tables, &first, T0).unwrap();
    let at = |secs| T0 + std::time::Duration::from_secs(secs);
    changes[0].after().unwrap().stats.add(3, 318, at(1));
    let request = FlowMod {
        hard_timeout: 5,
        idle_timeout: 6,
        importance: 7,
        actions: output(OfPort(2)),
        ..FlowMod::new(FlowModCommand::Modify, TableId(0), udp())
    };
    let changes = apply(&mut tables, &request, at(4)).unwrap();
    let rule = changes[0].after().unwrap();
    assert_eq!((rule.idle_timeout, rule.hard_timeout, rule.importance), (50, 100, 5));
    assert_eq!((rule.flags, rule.cookie), (RuleFlags::SEND_FLOW_REM, Cookie(7)));
    assert_eq!((rule.stats.packets(), rule.stats.bytes(), rule.stats.last_used()), (3, 318, at(1)));
    assert_eq!((rule.created, rule.modified), (T0, at(4)));
    assert_eq!(rule.deadline(), Some((at(51), RemovalReason::IdleTimeout)));
    // Both versions count the same packets: a cached flow may still hold the old one.
    changes[0].before().unwrap().stats.add(1, 60, at(5));
    assert_eq!(rule.stats.packets(), 4);

    let request = FlowMod { new_cookie: Some(Cookie(9)), flags: RuleFlags::RESET_COUNTS, ..request };
    let changes = apply(&mut tables, &request, at(6)).unwrap();
    let rule = changes[0].after().unwrap();
    assert_eq!((rule.stats.packets(), rule.stats.bytes(), rule.stats.last_used()), (0, 0, at(5)));
    assert_eq!((rule.flags, rule.cookie), (RuleFlags::SEND_FLOW_REM, Cookie(9)));
}

#[test]
fn add_replaces_the_identical_rule() {
    let mut tables = tables();
    let at = |secs| T0 + std::time::Duration::from_secs(secs);
    let first = FlowMod { new_cookie: Some(Cookie(1)), hard_timeout: 9, ..add(0, 5, ip()) };
    apply(&mut tables, &first, T0).unwrap()[0].after().unwrap().stats.add(3, 318, at(1));

    let second = FlowMod { flags: RuleFlags::SEND_FLOW_REM, idle_timeout: 60, ..add(0, 5, ip()) };
    let changes = apply(&mut tables, &second, at(2)).unwrap();
    let RuleChange::Added { rule, replaced: Some(old) } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!((old.cookie, old.hard_timeout), (Cookie(1), 9));
    assert_eq!((rule.cookie, rule.hard_timeout, rule.idle_timeout), (Cookie(0), 0, 60));
    assert_eq!((rule.created, rule.modified), (at(2), at(2)));
    assert_eq!(
        (rule.stats.packets(), rule.stats.last_used()),
        (3, at(1)),
        "counters stay without RESET_COUNTS"
    );

    let third = FlowMod { flags: RuleFlags::RESET_COUNTS, ..second };
    let changes = apply(&mut tables, &third, at(3)).unwrap();
    let rule = changes[0].after().unwrap();
    assert_eq!((rule.stats.packets(), rule.stats.last_used()), (0, at(3)));
    assert_eq!(rule.flags, RuleFlags::RESET_COUNTS, "statistics show the flags of the flow_mod");

    // Another priority, another match, another table: other rules.
    for other in [add(0, 6, ip()), add(0, 5, udp()), add(1, 5, ip())] {
        assert!(matches!(
            &apply(&mut tables, &other, at(4)).unwrap()[..],
            [RuleChange::Added { replaced: None, .. }]
        ));
    }
    assert_eq!(tables.rule_count(), 4);
}

#[test]
fn overlap_is_checked_when_asked() {
    let mut tables = tables();
    apply(&mut tables, &add(0, 9, ip()), T0).unwrap();
    let check = |table, priority, m| FlowMod { flags: RuleFlags::CHECK_OVERLAP, ..add(table, priority, m) };
    assert_eq!(apply(&mut tables, &check(0, 9, udp()), T0).unwrap_err(), FlowModError::Overlap(TableId(0)));
    assert_eq!(
        apply(&mut tables, &check(0, 9, Match::any()), T0).unwrap_err(),
        FlowModError::Overlap(TableId(0))
    );
    assert_eq!(dump(&tables), ["0:9 ip 0 drop"]);
    // Disjoint, identical, of another priority, in another table: no overlap.
    for fine in
        [check(0, 9, arp()), check(0, 9, ip()), check(0, 3, udp()), check(0, 10, udp()), check(1, 9, udp())]
    {
        apply(&mut tables, &fine, T0).unwrap();
    }
    apply(&mut tables, &add(0, 9, udp()), T0).unwrap();
}

#[test]
fn a_full_table_takes_replacements_only() {
    let mut tables = five();
    tables.get_mut(TableId(0)).unwrap().config.rules_max = 2;
    assert_eq!(tables.get(TableId(0)).unwrap().len(), 3, "a lower limit removes nothing");
    assert_eq!(apply(&mut tables, &add(0, 1, arp()), T0).unwrap_err(), FlowModError::TableFull(TableId(0)));
    apply(&mut tables, &add(0, 6, udp()), T0).unwrap();
    apply(&mut tables, &add(4, 1, arp()), T0).unwrap();
    let delete = FlowMod::new(FlowModCommand::Delete, TableId(0), udp());
    apply(&mut tables, &delete, T0).unwrap();
    apply(&mut tables, &add(0, 1, arp()), T0).unwrap();
    assert_eq!(apply(&mut tables, &add(0, 2, arp()), T0).unwrap_err(), FlowModError::TableFull(TableId(0)));
}

#[test]
fn tables_that_are_not_open() {
    let mut tables = five();
    let internal = TableConfig { access: TableAccess::Internal, ..TableConfig::default() };
    apply(&mut tables, &add(254, 0, ip()), T0).unwrap();
    tables.get_mut(TableId(254)).unwrap().config = internal;
    let refused = Err(FlowModError::NotPermitted(TableId(254)));
    for command in [FlowModCommand::Add, FlowModCommand::Modify, FlowModCommand::Delete] {
        let request = FlowMod::new(command, TableId(254), ip());
        assert_eq!(apply(&mut tables, &request, T0).map(|_| ()), refused, "{command:?}");
    }
    // A delete that finds nothing there is not refused, and "all tables" passes it over.
    apply(&mut tables, &FlowMod::new(FlowModCommand::Delete, TableId(254), arp()), T0).unwrap();
    apply(&mut tables, &FlowMod::new(FlowModCommand::Delete, TableId::ALL, Match::any()), T0).unwrap();
    assert_eq!(dump(&tables), ["254:0 ip 0 drop"]);
    // An add to no table in particular goes to the first.
    apply(&mut tables, &add(255, 1, arp()), T0).unwrap();
    assert_eq!(dump(&tables), ["0:1 arp 0 drop", "254:0 ip 0 drop"]);
}

#[test]
fn a_bundle_is_all_or_nothing() {
    let mut tables = tables();
    let check = FlowMod { flags: RuleFlags::CHECK_OVERLAP, ..add(0, 9, udp()) };
    let bad = [add(0, 9, ip()), add(1, 1, arp()), check];
    assert_eq!(apply_all(&mut tables, &bad, T0).unwrap_err(), (2, FlowModError::Overlap(TableId(0))));
    assert!(dump(&tables).is_empty());
    let delete = FlowMod::new(FlowModCommand::Delete, TableId(1), Match::any());
    let good = [add(0, 9, ip()), add(1, 1, arp()), delete, add(2, 1, udp())];
    let before = tables.clone();
    let changes = apply_all(&mut tables, &good, T0).unwrap();
    assert_eq!(changes.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(dump(&tables), ["0:9 ip 0 drop", "2:1 udp 0 drop"]);
    assert!(dump(&before).is_empty(), "a snapshot does not change");
}

#[test]
fn statistics_requests_select_as_deletes_do() {
    let tables = five();
    let all = RuleFilter::all(TableId::ALL);
    let filters = [
        all.clone(),
        RuleFilter { matching: udp(), ..all.clone() },
        RuleFilter { table: TableId(0), matching: ip(), ..all.clone() },
        RuleFilter { out_port: OfPort(2), ..all.clone() },
        RuleFilter { cookie: Cookie(8), cookie_mask: 8, ..all.clone() },
        RuleFilter { strict_priority: Some(5), matching: udp(), ..all },
    ];
    let counts = filters.map(|filter| {
        let selected = filter.select(&tables);
        // Asking rule by rule, as flow monitors do, gives the same.
        let matched = tables.iter().flat_map(|t| t.rules()).filter(|r| filter.matches(r)).count();
        assert_eq!(selected.len(), matched, "{filter:?}");
        assert!(selected.is_sorted_by_key(|r| (r.table, r.serial)));
        selected.len()
    });
    assert_eq!(counts, [5, 3, 3, 2, 2, 1]);
}

/// Workers read snapshots while the owner changes the original.
#[test]
fn snapshots_are_read_by_other_threads() {
    fn shared<T: Send + Sync>(value: T) -> T {
        value
    }
    let mut original = five();
    let snapshot = shared(original.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(dump(&snapshot), FIVE));
        let delete = FlowMod::new(FlowModCommand::Delete, TableId::ALL, Match::any());
        apply(&mut original, &delete, T0).unwrap();
    });
    assert!(dump(&original).is_empty());
}
