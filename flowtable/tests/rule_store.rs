//! Time-outs and summaries: what a store keeps beside its tables must be what walking all rules would give.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use base::{HashSeed, Instant};
use flowtable::{
    ActionSummary, FlowKey, FlowMod, FlowModCommand, Mask, Match, OfAction, OfPort, RemovalReason,
    RuleChange, RuleStore, TableId, Words,
};
use packet::key::slot;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// A summary such as a switch might compute: in_port is read by outputs, tables are gone to, `exit` is a mark.
fn summarize(table: TableId, actions: &[OfAction]) -> ActionSummary {
    let mut summary = ActionSummary::default();
    for action in actions {
        match action {
            OfAction::Output { port, .. } => summary.reads.add(slot::IN_PORT, port.0 as u128),
            OfAction::Resubmit { table: to, .. } => summary.tables.insert(to.unwrap_or(table)),
            OfAction::Exit => summary.marks |= 1,
            _ => {}
        }
    }
    summary
}

fn store() -> RuleStore {
    RuleStore::new(HashSeed::new(5, 6), summarize)
}

fn secs(n: u64) -> Instant {
    Instant::from_secs(n)
}

fn on_port(port: u32) -> Match {
    let mut m = Match::any();
    m.set_exact(slot::IN_PORT, port as u128);
    m
}

fn add(port: u32, idle_timeout: u16, hard_timeout: u16) -> FlowMod {
    FlowMod { idle_timeout, hard_timeout, ..FlowMod::new(FlowModCommand::Add, TableId(0), on_port(port)) }
}

fn expired(store: &mut RuleStore, now: Instant) -> Vec<(u128, RemovalReason)> {
    let gone = |change| match change {
        RuleChange::Removed { rule, reason } => (rule.matching().get(slot::IN_PORT).0, reason),
        other => panic!("{other:?}"),
    };
    store.expire(now).into_iter().map(gone).collect()
}

#[test]
fn idle_rules_live_as_long_as_they_are_used() {
    let mut store = store();
    let rule = Arc::clone(store.apply(&add(1, 10, 0), secs(100)).unwrap()[0].after().unwrap());
    assert_eq!(store.next_deadline(), Some(secs(110)));
    assert!(expired(&mut store, secs(109)).is_empty());
    rule.stats.add(1, 60, secs(107));
    assert!(expired(&mut store, secs(110)).is_empty(), "used three seconds ago");
    assert_eq!(store.next_deadline(), Some(secs(117)));
    assert!(expired(&mut store, secs(116)).is_empty());
    assert_eq!(expired(&mut store, secs(117)), [(1, RemovalReason::IdleTimeout)]);
    assert_eq!((store.next_deadline(), store.tables().rule_count()), (None, 0));
}

/// Several workers credit a rule, each at its own pace.
#[test]
fn last_use_does_not_go_back() {
    let mut store = store();
    let rule = Arc::clone(store.apply(&add(1, 10, 0), secs(100)).unwrap()[0].after().unwrap());
    rule.stats.add(2, 120, secs(107));
    rule.stats.add(1, 60, secs(105));
    assert_eq!((rule.stats.packets(), rule.stats.bytes(), rule.stats.last_used()), (3, 180, secs(107)));
}

#[test]
fn hard_time_outs_count_from_the_last_change() {
    let mut store = store();
    store.apply(&add(1, 0, 5), secs(100)).unwrap();
    store.apply(&add(2, 3, 5), secs(100)).unwrap();
    store.apply(&add(3, 9, 5), secs(100)).unwrap();
    let modify = FlowMod::new(FlowModCommand::Modify, TableId(0), on_port(1));
    store.apply(&modify, secs(103)).unwrap();
    assert_eq!(expired(&mut store, secs(104)), [(2, RemovalReason::IdleTimeout)]);
    assert_eq!(expired(&mut store, secs(106)), [(3, RemovalReason::HardTimeout)]);
    assert_eq!(store.next_deadline(), Some(secs(108)));
    assert_eq!(expired(&mut store, secs(108)), [(1, RemovalReason::HardTimeout)]);
}

/// The idle time of a rule that is replaced without clearing its counters goes on, so it may be gone at once (as OVS).
#[test]
fn replaced_rules_keep_their_idle_time() {
    let mut store = store();
    store.apply(&add(1, 0, 0), secs(100)).unwrap();
    store.apply(&add(1, 3, 0), secs(104)).unwrap();
    assert_eq!(expired(&mut store, secs(104)), [(1, RemovalReason::IdleTimeout)]);
}

#[test]
fn rules_that_were_deleted_or_replaced_do_not_expire() {
    let mut store = store();
    store.apply(&add(1, 0, 5), secs(100)).unwrap();
    store.apply(&add(2, 0, 5), secs(100)).unwrap();
    store.apply(&FlowMod::new(FlowModCommand::Delete, TableId(0), on_port(1)), secs(101)).unwrap();
    store.apply(&add(2, 0, 0), secs(101)).unwrap();
    assert_eq!(store.next_deadline(), None);
    assert!(expired(&mut store, secs(1000)).is_empty());
    assert_eq!(store.tables().rule_count(), 1);
}

#[test]
fn a_refused_bundle_leaves_no_trace() {
    let mut store = store();
    let actions: Arc<[OfAction]> = Arc::from([OfAction::Exit]);
    let bad = FlowMod::new(FlowModCommand::Add, TableId(254), Match::any());
    store.configure(TableId(254), flowtable::TableConfig { rules_max: 0, ..Default::default() });
    store.apply_all(&[FlowMod { actions, ..add(1, 5, 5) }, bad], secs(100)).unwrap_err();
    assert_eq!((store.next_deadline(), store.summary(TableId(0)).marks), (None, 0));
    assert_eq!(store.tables().rule_count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Add { port: u32, actions: u8, idle: u16, hard: u16 },
    Modify { port: u32, actions: u8 },
    Delete { port: u32 },
    Use { port: u32 },
    Wait { secs: u64 },
}

fn actions(kind: u8) -> Arc<[OfAction]> {
    let to = OfAction::Output { port: OfPort(1 << (kind % 4)), max_len: 0 };
    let resubmit = |table| OfAction::Resubmit { port: None, table };
    match kind {
        0..4 => Arc::from([to]),
        4 => Arc::from([resubmit(None)]),
        5 => Arc::from([to, resubmit(Some(TableId(9)))]),
        _ => Arc::from([OfAction::Exit]),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let port = 0u32..6;
    prop_oneof![
        3 => (port.clone(), 0u8..7, 0u16..8, 0u16..12)
            .prop_map(|(port, actions, idle, hard)| Step::Add { port, actions, idle, hard }),
        1 => (port.clone(), 0u8..7).prop_map(|(port, actions)| Step::Modify { port, actions }),
        1 => port.clone().prop_map(|port| Step::Delete { port }),
        2 => port.prop_map(|port| Step::Use { port }),
        3 => (1u64..4).prop_map(|secs| Step::Wait { secs }),
    ]
}

proptest! {
    #[test]
    fn what_is_kept_beside_equals_a_walk(steps in prop::collection::vec(step(), 1..60)) {
        let (mut store, mut now) = (store(), secs(1000));
        for step in steps {
            match step {
                Step::Add { port, actions: kind, idle, hard } => {
                    store.apply(&FlowMod { actions: actions(kind), ..add(port, idle, hard) }, now).unwrap();
                }
                Step::Modify { port, actions: kind } => {
                    let modify = FlowMod::new(FlowModCommand::Modify, TableId(0), on_port(port));
                    store.apply(&FlowMod { actions: actions(kind), ..modify }, now).unwrap();
                }
                Step::Delete { port } => {
                    store.apply(&FlowMod::new(FlowModCommand::Delete, TableId(0), on_port(port)), now).unwrap();
                }
                Step::Use { port } => {
                    let mut key = FlowKey::default();
                    key.set_slot(slot::IN_PORT, port as u128);
                    if let Some(rule) = store.tables().get(TableId(0)).unwrap().lookup(&key) {
                        rule.stats.add(1, 60, now);
                    }
                }
                Step::Wait { secs } => now += Duration::from_secs(secs),
            }
            let table = |store: &RuleStore| Arc::clone(store.tables().get(TableId(0)).unwrap());
            let due = table(&store).rules().filter(|r| r.deadline().is_some_and(|(at, _)| at <= now)).count();
            let next = store.next_deadline();
            prop_assert!(due == 0 || next.is_some_and(|at| at <= now), "next_deadline is too late");
            prop_assert_eq!(store.expire(now).len(), due);
            let mut summary = ActionSummary::default();
            let mut masks = Mask::<FlowKey>::empty();
            for rule in table(&store).rules() {
                prop_assert!(rule.deadline().is_none_or(|(at, _)| at > now), "outlived its deadline");
                summary.union(&summarize(TableId(0), &rule.actions));
                masks.union(rule.matching().mask());
            }
            prop_assert_eq!(store.summary(TableId(0)), summary);
            prop_assert_eq!(*table(&store).union_mask(), masks);
        }
    }
}
