//! The classifier against a list of rules that is searched from one end to the other.

use super::*;
use crate::key::pipeline_slot;
use packet::key::{Slot, slot};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

const SEED: HashSeed = HashSeed::new(0x5eed_5eed_5eed_5eed, 0x0123_4567_89ab_cdef);

/// Fields of all steps of a search, two in one word, prefixes and not.
const FIELDS: [Slot; 13] = [
    slot::IN_PORT,
    slot::TUN_ID,
    slot::CT_STATE,
    pipeline_slot::METADATA,
    pipeline_slot::reg(3),
    slot::DL_TYPE,
    slot::DL_DST,
    slot::NW_SRC,
    slot::NW_DST,
    slot::IPV6_SRC,
    slot::IPV6_DST,
    slot::NW_PROTO,
    slot::TP_DST,
];

/// Condition of a test: index into [`FIELDS`], value, bits.
type Condition = (usize, u128, u128);

/// Values of two bits, at the two ends of the field, so that keys meet rules and prefixes of any length differ.
fn spread(bits: u128, field: Slot) -> u128 {
    (bits & 1) | (bits >> 1 & 1) << (field.width - 1)
}

fn condition() -> impl Strategy<Value = Condition> {
    // Addresses are more frequent, so that there are enough masks with prefixes for tries to be used.
    (prop_oneof![0..FIELDS.len(), 7usize..9], 0u128..4, 0u8..6).prop_map(|(i, value, form)| {
        let field = FIELDS[i];
        let ones = field.ones();
        let bits = match form {
            0 => ones,
            1 => ones & !1,
            2 => ones & ones << (field.width / 2),
            3 => 1,
            4 => 1 << (field.width - 1),
            _ => 1 | 1 << (field.width - 1),
        };
        (i, spread(value, field), bits)
    })
}

fn matching() -> impl Strategy<Value = Match> {
    prop::collection::vec(condition(), 0..4).prop_map(|conditions| {
        let mut matching = Match::any();
        for (i, value, bits) in conditions {
            matching.set(FIELDS[i], value, bits);
        }
        matching
    })
}

/// Matches with few distinct masks, so that there are several rules with the same.
fn matches() -> impl Strategy<Value = Vec<Match>> {
    (
        prop::collection::vec(matching(), 1..20),
        prop::collection::vec((any::<prop::sample::Index>(), key()), 70),
    )
        .prop_map(|(masks, values)| {
            values.iter().map(|(i, key)| Match::new(key, *i.get(&masks).mask())).collect()
        })
}

fn key() -> impl Strategy<Value = FlowKey> {
    prop::collection::vec(0u128..4, FIELDS.len()).prop_map(|values| {
        let mut key = FlowKey::default();
        for (field, value) in FIELDS.iter().zip(values) {
            key.set_slot(*field, spread(value, *field));
        }
        key
    })
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Match, u16),
    /// Removes one of the rules that are there.
    Remove(prop::sample::Index),
    /// Removes a rule that probably is not there.
    RemoveMissing(Match, u16),
    /// Publishes: what is cloned must not change any more.
    Clone,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (0u16..6).prop_map(|p| Op::Insert(Match::any(), p)),
        3 => any::<prop::sample::Index>().prop_map(Op::Remove),
        1 => (0u16..6).prop_map(|p| Op::RemoveMissing(Match::any(), p)),
        1 => Just(Op::Clone),
    ];
    (matches(), prop::collection::vec(op, 1..70)).prop_map(|(matches, mut ops)| {
        for (op, given) in ops.iter_mut().zip(matches) {
            match op {
                Op::Insert(m, _) | Op::RemoveMissing(m, _) => *m = given,
                Op::Remove(_) | Op::Clone => {}
            }
        }
        ops
    })
}

/// What a test knows of a rule. The value is its serial number.
type Model = Vec<(Match, u16, u32)>;

fn apply(
    ops: &[Op],
    classifier: &mut Classifier<u32>,
    model: &mut Model,
    snapshots: &mut Vec<(Classifier<u32>, Model)>,
) {
    for (serial, op) in ops.iter().enumerate() {
        match op {
            Op::Insert(m, p) => {
                let old = model.iter().position(|(n, q, _)| (n, q) == (m, p)).map(|i| model.swap_remove(i).2);
                let packed = classifier.pack(m);
                assert_eq!(classifier.insert(&packed, *p, serial as u32), old);
                model.push((*m, *p, serial as u32));
            }
            Op::Remove(i) if !model.is_empty() => {
                let (m, p, v) = model.swap_remove(i.index(model.len()));
                assert_eq!(classifier.remove(&PackedMatch::from(&m), p), Some(v));
            }
            Op::RemoveMissing(m, p) => {
                let old = model.iter().position(|(n, q, _)| (n, q) == (m, p)).map(|i| model.swap_remove(i).2);
                assert_eq!(classifier.remove(&PackedMatch::from(m), *p), old);
            }
            Op::Clone => snapshots.push((classifier.clone(), model.clone())),
            Op::Remove(_) => {}
        }
        assert_eq!(classifier.len(), model.len());
    }
}

/// Among the rules of highest priority that match, any will do; that there is one and of which priority is certain.
fn check_lookup(classifier: &Classifier<u32>, model: &Model, key: &FlowKey) {
    let found = classifier.lookup(key).copied();
    let best = model.iter().filter(|(m, _, _)| m.matches(key)).map(|(_, p, _)| *p).max();
    match (found, best) {
        (None, None) => {}
        (Some(found), Some(best)) => {
            let rule = model.iter().find(|(_, _, v)| *v == found).expect("a rule that was removed was found");
            assert!(rule.0.matches(key), "found a rule that does not match");
            assert_eq!(rule.1, best, "found a rule of a lower priority");
        }
        (found, best) => panic!("found {found:?}, expected a rule of priority {best:?}"),
    }
}

fn check_all(classifier: &Classifier<u32>, model: &Model) {
    let mut values: Vec<(u16, u32)> = classifier.iter().map(|(p, v)| (p, *v)).collect();
    let mut expected: Vec<(u16, u32)> = model.iter().map(|(_, p, v)| (*p, *v)).collect();
    values.sort_unstable();
    expected.sort_unstable();
    assert_eq!(values, expected);
    let mut union = Mask::empty();
    let mut masks: Vec<Mask<FlowKey>> = Vec::new();
    for (m, p, v) in model {
        union.union(m.mask());
        if !masks.contains(m.mask()) {
            masks.push(*m.mask());
        }
        let packed = PackedMatch::from(m);
        assert_eq!(packed.expand(), *m);
        assert_eq!(classifier.find_exact(&packed, *p), Some(v));
    }
    assert_eq!(*classifier.union_mask(), union);
    for (i, trie) in classifier.tries.iter().enumerate().filter_map(|(i, t)| Some((i, t.as_ref()?))) {
        let mut fresh = PrefixTrie::new();
        for (m, _, _) in model {
            let packed = PackedMatch::from(m);
            let prefixes = *Subtable::<u32>::new(Arc::clone(packed.mask())).prefixes();
            let (address, len) = addresses(&packed, &prefixes).nth(i).unwrap();
            len.into_iter().for_each(|len| fresh.insert(address, len));
        }
        for (m, _, _) in model {
            let address = prefix_address(m.key().slot(PREFIX_FIELDS[i]), PREFIX_FIELDS[i]);
            assert_eq!(trie.lookup(address), fresh.lookup(address), "trie {i} is out of date");
        }
    }
    assert_eq!(classifier.mask_count(), masks.len());
}

#[test]
fn agrees_with_a_list() {
    let (with_trie, total) = (Cell::new(0), Cell::new(0));
    let strategy = (ops(), prop::collection::vec(key(), 16));
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let run = runner.run(&strategy, |(ops, keys)| {
        let (mut classifier, mut model, mut snapshots) = (Classifier::new(SEED), Model::new(), Vec::new());
        apply(&ops, &mut classifier, &mut model, &mut snapshots);
        total.set(total.get() + 1);
        with_trie.set(with_trie.get() + usize::from(classifier.tries.iter().any(Option::is_some)));
        snapshots.push((classifier, model));
        for (classifier, model) in &snapshots {
            check_all(classifier, model);
            keys.iter().for_each(|key| check_lookup(classifier, model, key));
        }
        Ok(())
    });
    run.unwrap();
    assert!(
        with_trie.get() * 10 > total.get(),
        "tries were used in {} of {} cases",
        with_trie.get(),
        total.get()
    );
}

/// A key that differs from another in bits outside a mask: all of them, and each alone.
fn flips(key: &FlowKey, seen: &Mask<FlowKey>) -> Vec<FlowKey> {
    let mut all = *key;
    let mut flipped = Vec::new();
    for i in 0..FlowKey::LEN {
        all.set_word(i, key.word(i) ^ !seen.0.word(i));
        for bit in (0..64).map(|b| 1u64 << b).filter(|b| seen.0.word(i) & b == 0) {
            let mut one = *key;
            one.set_word(i, key.word(i) ^ bit);
            flipped.push(one);
        }
    }
    flipped.push(all);
    flipped
}

proptest! {
    #![proptest_config(Config { cases: 100, ..Config::default() })]

    #[test]
    fn traced_lookup_sees_all_that_matters(
        ops in ops(),
        keys in prop::collection::vec((key(), prop::collection::vec(any::<u64>(), FlowKey::LEN)), 4),
    ) {
        let (mut classifier, mut model) = (Classifier::new(SEED), Model::new());
        apply(&ops, &mut classifier, &mut model, &mut Vec::new());
        for (key, noise) in &keys {
            let mut seen = Mask::empty();
            let found = classifier.lookup_traced(key, &mut seen);
            prop_assert_eq!(found, classifier.lookup(key), "tracing changed the answer");
            prop_assert!(classifier.union_mask().covers(&seen), "saw a bit that no rule asks for");
            for other in flips(key, &seen) {
                prop_assert_eq!(classifier.lookup(&other), found, "a bit outside the mask matters");
            }
            let mut random = FlowKey::default();
            for (i, noise) in noise.iter().enumerate() {
                random.set_word(i, key.word(i) & seen.0.word(i) | noise & !seen.0.word(i));
            }
            prop_assert_eq!(classifier.lookup(&random), found, "bits outside the mask matter");
        }
    }

    #[test]
    fn order_of_insertion_does_not_matter(
        rules in (matches(), prop::collection::vec(0u16..3, 1..30))
            .prop_map(|(matches, priorities)| matches.into_iter().zip(priorities).collect::<Vec<_>>()),
        keys in prop::collection::vec(key(), 8),
    ) {
        let build = |rules: &mut dyn Iterator<Item = &(Match, u16)>| {
            let mut classifier = Classifier::new(SEED);
            for (m, p) in rules {
                classifier.insert(&PackedMatch::from(m), *p, (*m, *p));
            }
            classifier
        };
        let (one, other) = (build(&mut rules.iter()), build(&mut rules.iter().rev()));
        for key in &keys {
            prop_assert_eq!(one.lookup(key), other.lookup(key));
        }
    }

    #[test]
    fn subsets_and_overlaps_agree_with_a_list(ops in ops(), asked in matching(), priority in 0u16..6) {
        let (mut classifier, mut model) = (Classifier::new(SEED), Model::new());
        apply(&ops, &mut classifier, &mut model, &mut Vec::new());
        let packed = PackedMatch::from(&asked);
        let mut subsets: Vec<u32> = classifier.iter_subsets(&packed).map(|(_, v)| *v).collect();
        let mut expected: Vec<u32> = model.iter().filter(|r| r.0.is_subset_of(&asked)).map(|r| r.2).collect();
        subsets.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(subsets, expected);
        for (m, _, _) in &model {
            prop_assert_eq!(PackedMatch::from(m).is_subset_of(&packed), m.is_subset_of(&asked));
            prop_assert_eq!(PackedMatch::from(m).overlaps(&packed), m.overlaps(&asked));
        }
        let overlap = classifier.find_overlap(&packed, priority);
        let able = |v: &u32| model.iter().any(|r| r.2 == *v && r.1 == priority && r.0.overlaps(&asked));
        match overlap {
            Some(v) => prop_assert!(able(v)),
            None => prop_assert!(!model.iter().any(|r| able(&r.2))),
        }
    }
}

fn ipv4(dst: u32) -> FlowKey {
    let mut key = FlowKey::default();
    key.set_slot(slot::IN_PORT, 1);
    key.set_slot(slot::DL_TYPE, 0x0800);
    key.set_slot(slot::NW_PROTO, 6);
    key.set_slot(slot::NW_DST, dst as u128);
    key.set_slot(slot::TP_DST, 80);
    key
}

fn rule_on(conditions: &[(Slot, u128, u128)]) -> PackedMatch {
    let mut matching = Match::any();
    conditions.iter().for_each(|(field, value, bits)| matching.set(*field, *value, *bits));
    PackedMatch::from(&matching)
}

fn seen_by(classifier: &Classifier<u32>, key: &FlowKey) -> Mask<FlowKey> {
    let mut seen = Mask::empty();
    classifier.lookup_traced(key, &mut seen);
    seen
}

#[test]
fn a_miss_among_prefixes_sees_a_short_prefix() {
    let mut classifier = Classifier::new(SEED);
    let ip = (slot::DL_TYPE, 0x0800, 0xffff);
    classifier.insert(&rule_on(&[ip, (slot::NW_DST, 0x0a000000, 0xff000000)]), 10, 1);
    classifier.insert(&rule_on(&[ip, (slot::NW_DST, 0xc0a80000, 0xffff0000)]), 10, 2);
    // 172.16.0.1 is 1010…: its first bit is not 10/8's, its second not 192.168/16's.
    let seen = seen_by(&classifier, &ipv4(0xac100001));
    assert_eq!(seen.slot(slot::NW_DST), 0xc0000000);
    assert_eq!(seen.slot(slot::DL_TYPE), 0xffff);
    // 193.0.0.1 agrees with 192.168/16 in seven bits.
    assert_eq!(seen_by(&classifier, &ipv4(0xc1000001)).slot(slot::NW_DST), 0xff000000);
    // A hit shows the rule's mask, and what it took to exclude the other.
    assert_eq!(seen_by(&classifier, &ipv4(0xc0a80101)).slot(slot::NW_DST), 0xffff0000);
}

#[test]
fn later_headers_are_not_seen_when_earlier_ones_settle_it() {
    let mut classifier = Classifier::new(SEED);
    let ip = (slot::DL_TYPE, 0x0800, 0xffff);
    let tcp = (slot::NW_PROTO, 6, 0xff);
    let dst = (slot::NW_DST, 0x0a000001, 0xffffffff);
    classifier.insert(
        &rule_on(&[(slot::IN_PORT, 2, u32::MAX as u128), ip, tcp, dst, (slot::TP_DST, 80, 0xffff)]),
        9,
        1,
    );
    let seen = seen_by(&classifier, &ipv4(0x0a000001));
    assert_eq!(seen.slot(slot::IN_PORT), u32::MAX as u128);
    for field in [slot::DL_TYPE, slot::NW_PROTO, slot::NW_DST, slot::TP_DST] {
        assert_eq!(seen.slot(field), 0, "{field:?} is behind the port, which settles it");
    }
    classifier.insert(&rule_on(&[ip, tcp, dst, (slot::TP_DST, 443, 0xffff)]), 9, 1);
    assert_eq!(seen_by(&classifier, &ipv4(0x0b000001)).slot(slot::TP_DST), 0);
    // 80 is 0x0050 and 443 is 0x01bb: bit 8 tells them apart.
    assert_eq!(seen_by(&classifier, &ipv4(0x0a000001)).slot(slot::TP_DST), 0xff00);
    // Rules of lower priority than the hit are not looked at.
    classifier.insert(&rule_on(&[ip]), 20, 3);
    let seen = seen_by(&classifier, &ipv4(0x0a000001));
    assert_eq!((seen.slot(slot::DL_TYPE), seen.slot(slot::NW_DST)), (0xffff, 0));
}

#[test]
fn icmp_types_are_seen_whole() {
    let mut classifier = Classifier::new(SEED);
    classifier.insert(&rule_on(&[(slot::NW_PROTO, 1, 0xff), (slot::TP_SRC, 8, 0xffff)]), 1, 1);
    let mut key = ipv4(1);
    key.set_slot(slot::NW_PROTO, 1);
    assert_eq!(seen_by(&classifier, &key).slot(slot::TP_SRC), 0xffff);
}

/// Enough rules that shards split several times, with hidden ones behind some; then all of them go again.
#[test]
fn thousands_of_rules_come_and_go() {
    let mut classifier = Classifier::new(SEED);
    let rule = |i: u32| rule_on(&[(slot::NW_DST, (i * 7) as u128, u32::MAX as u128)]);
    classifier.insert(&rule(30_000), 60, 30_000);
    for i in 0..20_000 {
        assert_eq!(classifier.insert(&rule(i), 10, i), None);
        assert_eq!(classifier.subtables[0].priority_max, 60);
        if i % 5 == 0 {
            assert_eq!(classifier.insert(&rule(i), 20, i + 100_000), None);
        }
    }
    assert_eq!(classifier.remove(&rule(30_000), 60), Some(30_000));
    assert_eq!(classifier.subtables[0].priority_max, 20);
    let snapshot = classifier.clone();
    for i in 0..20_000 {
        let expected = if i % 5 == 0 { i + 100_000 } else { i };
        assert_eq!(classifier.lookup(&ipv4(i * 7)), Some(&expected));
        assert_eq!(classifier.lookup(&ipv4(i * 7 + 1)), None);
        if i % 5 == 0 {
            assert_eq!(classifier.remove(&rule(i), 20), Some(expected));
            assert_eq!(classifier.lookup(&ipv4(i * 7)), Some(&i));
        }
    }
    assert_eq!(classifier.subtables[0].priority_max, 10, "the priority of the table follows its rules");
    for i in 0..20_000 {
        assert_eq!(classifier.remove(&rule(i), 10), Some(i));
    }
    assert!(classifier.is_empty() && classifier.mask_count() == 0 && classifier.union_mask().is_empty());
    assert_eq!(snapshot.len(), 24_000);
    assert_eq!(snapshot.iter().count(), 24_000);
}
