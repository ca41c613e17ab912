//! Measures look-ups, changes and snapshots of the classifier: `cargo run --release -p flowtable --example classify`, and
//! with `-- RULES MASKS PRIORITIES` behind it only the look-ups of that row, for an instruction counter.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use base::HashSeed;
use flowtable::{
    ActionSummary, Classifier, FlowKey, FlowMod, FlowModCommand, Mask, Match, PackedMatch, RuleStore,
    TableId, Words,
};
use packet::key::slot;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) * n) >> 31
    }
}

/// Mask `i` of many: two prefix lengths, and port or protocol or none.
fn matching(mask: u64, r: &mut Random) -> Match {
    let mut m = Match::any();
    m.set_exact(slot::DL_TYPE, 0x0800);
    let (dst, src) = (32 - mask % 10, [0, 16, 24, 32, 20][(mask / 10 % 5) as usize]);
    let prefix = |len: u64| (u32::MAX as u64 & (u32::MAX as u64) << (32 - len)) as u128;
    m.set(slot::NW_DST, 0x0a00_0000 | r.below(1 << 24) as u128, prefix(dst));
    m.set(slot::NW_SRC, 0x0a00_0000 | r.below(1 << 24) as u128, prefix(src));
    if mask / 50 % 2 == 1 {
        m.set_exact(slot::NW_PROTO, 6);
        m.set_exact(slot::TP_DST, r.below(1024) as u128);
    }
    m
}

fn nanos(n: usize, start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / n as f64
}

fn run(rules: usize, masks: u64, priorities: u64) {
    let mut r = Random(7);
    let matches: Vec<(Match, u16)> =
        (0..rules).map(|i| (matching(i as u64 % masks, &mut r), r.below(priorities) as u16)).collect();
    let packed: Vec<(PackedMatch, u16)> = matches.iter().map(|(m, p)| (m.into(), *p)).collect();
    let mut classifier = Classifier::new(HashSeed::new(3, 4));
    let start = Instant::now();
    for (i, (m, p)) in packed.iter().enumerate() {
        classifier.insert(m, *p, Arc::new(i));
    }
    let build = nanos(rules, start);
    let keys: Vec<FlowKey> = (0..4096)
        .map(|i| {
            let mut key = if i % 2 == 0 { *matches[i * 31 % rules].0.key() } else { FlowKey::default() };
            for s in [slot::NW_DST, slot::NW_SRC] {
                if key.slot(s) == 0 {
                    key.set_slot(s, 0x0a00_0000 | r.below(1 << 24) as u128);
                }
            }
            key.set_slot(slot::DL_TYPE, 0x0800);
            key
        })
        .collect();
    let n = 400_000;
    let start = Instant::now();
    let mut hits = 0;
    for i in 0..n {
        hits += usize::from(classifier.lookup(black_box(&keys[i % keys.len()])).is_some());
    }
    let lookup = nanos(n, start);
    let traced = 20;
    let start = Instant::now();
    for key in keys.iter().take(traced) {
        black_box(classifier.lookup_traced(key, &mut Mask::empty()));
    }
    let trace = nanos(traced, start);
    let mut snapshots = [classifier.clone(), classifier.clone()];
    let changes = 2_000.min(rules);
    let start = Instant::now();
    for (m, p) in packed.iter().take(changes) {
        let value = classifier.remove(m, *p);
        snapshots[0] = classifier.clone();
        if let Some(value) = value {
            classifier.insert(m, *p, value);
        }
        snapshots[1] = classifier.clone();
    }
    let change = nanos(changes * 2, start);
    black_box(&snapshots);
    println!(
        "{rules:>7} rules {masks:>4} masks {priorities:>5} priorities: lookup {lookup:>7.1} ns ({:>2}% hit), \
         traced {trace:>9.0} ns, insert {build:>6.0} ns, change+snapshot {change:>6.0} ns",
        hits * 100 / n
    );
}

/// A flow_mod and its publication while a reader holds the snapshot before.
fn publish(rules: usize, masks: u64) {
    let mut r = Random(9);
    let mut store = RuleStore::new(HashSeed::new(3, 4), |_, _| ActionSummary::default());
    let mods: Vec<FlowMod> = (0..rules)
        .map(|i| FlowMod {
            idle_timeout: 60,
            ..FlowMod::new(FlowModCommand::Add, TableId(0), matching(i as u64 % masks, &mut r))
        })
        .collect();
    let now = base::Instant::from_secs(1);
    let start = Instant::now();
    black_box(store.apply_all(&mods, now).is_ok());
    let bundle = nanos(rules, start);
    let n = 5_000.min(rules);
    let mut snapshot = store.tables().clone();
    let start = Instant::now();
    for flow_mod in mods.iter().take(n) {
        let delete = FlowMod { command: FlowModCommand::DeleteStrict, ..flow_mod.clone() };
        for change in [&delete, flow_mod] {
            black_box(store.apply(change, now).is_ok());
            black_box(store.tables().get(TableId(0)).map(|t| t.union_mask().is_empty()));
            drop(black_box(std::mem::replace(&mut snapshot, store.tables().clone())));
        }
    }
    let each = nanos(2 * n, start);
    println!(
        "{rules:>7} rules {masks:>4} masks: bundle {bundle:>6.0} ns a rule, flow_mod+publication {each:>6.0} ns"
    );
}

fn main() {
    let given: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    if let [rules, masks, priorities] = given[..] {
        return run(rules as usize, masks, priorities);
    }
    for rules in [1_000, 10_000, 100_000] {
        for masks in [1, 10, 100] {
            publish(rules, masks);
        }
    }
    for rules in [8, 1_000, 10_000, 100_000] {
        for masks in [1, 10, 100] {
            for priorities in [1, 100] {
                run(rules, masks, priorities);
            }
        }
    }
}
