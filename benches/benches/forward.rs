//! From a frame to a port: classifier, cache hits, cache misses, a worker's whole step.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be set up stops")]

use benches::forwarder::{Caching, IN, snapshot, with_brain};
use benches::frames::{keys_of, udp_flows};
use benches::ports::Wire;
use benches::{Forwarder, OneProgram, Pipeline, rules};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datapath::{SlowPath, Upcall};
use packet::Batch;
use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Arc;

/// Keys that a benchmark goes through in turn: few enough to stay in the cache of the processor.
const KEYS: usize = 1_024;
/// Frames a step.
const BATCH: Throughput = Throughput::Elements(Batch::MAX as u64);

fn classifier(c: &mut Criterion) {
    let mut group = c.benchmark_group("classifier");
    group.throughput(Throughput::Elements(1));
    for rules in [1_000, 100_000] {
        for masks in [1, 10, 100] {
            let built = LazyCell::new(|| {
                let matches = rules::matches(rules, masks);
                (rules::classifier(&matches), rules::hits(&matches, KEYS))
            });
            let misses = rules::misses(KEYS);
            for kind in ["hit", "miss"] {
                group.bench_function(format!("{masks}_masks/{rules}_rules/{kind}"), |b| {
                    let (classifier, hits) = &*built;
                    let mut next = if kind == "hit" { hits } else { &misses }.iter().cycle();
                    b.iter(|| classifier.lookup(black_box(next.next().unwrap())));
                });
            }
        }
    }
    group.finish();
}

/// The bare loop between the same ports, which every other figure of a step is to be compared with.
fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    group.throughput(BATCH);
    for (flows, len) in [(1, 64), (10_000, 64), (1, 1_500), (10_000, 1_500)] {
        let mut wire = None;
        group.bench_function(format!("{flows}_flows/{len}"), |b| {
            let wire = wire.get_or_insert_with(|| Wire::new(udp_flows(flows, len)));
            b.iter(|| wire.step());
        });
    }
    group.finish();
}

fn cache_hit(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache_hit");
    group.throughput(BATCH);
    for flows in [1, 1_000, 100_000] {
        let mut forwarder = None;
        group.bench_function(format!("{flows}_flows"), |b| {
            let forwarder = forwarder.get_or_insert_with(|| {
                Forwarder::new(Arc::new(OneProgram::new()), udp_flows(flows, 64), Caching::On)
            });
            b.iter(|| forwarder.step());
        });
    }
    group.finish();
}

fn translate(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate");
    group.throughput(Throughput::Elements(1));
    for pipeline in [Pipeline::Output, Pipeline::Normal, Pipeline::TenTables, Pipeline::ThousandRules] {
        let keys = keys_of(&udp_flows(KEYS, 64), IN);
        let mut next = keys.iter().cycle();
        let built = LazyCell::new(|| snapshot(pipeline));
        group.bench_function(pipeline.name(), |b| {
            let (snapshot, mut room) = (&*built, Default::default());
            b.iter(|| {
                let upcall = Upcall { key: black_box(next.next().unwrap()) };
                snapshot.translate_in(&upcall, &mut room, |draft| black_box(draft.steps.len()))
            });
        });
    }
    group.finish();
}

fn cache_miss(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache_miss");
    group.throughput(BATCH);
    for pipeline in [Pipeline::Output, Pipeline::Normal, Pipeline::TenTables, Pipeline::ThousandRules] {
        let mut forwarder = None;
        group.bench_function(pipeline.name(), |b| {
            let forwarder =
                forwarder.get_or_insert_with(|| with_brain(pipeline, udp_flows(10_000, 64), Caching::Off));
            b.iter(|| forwarder.step());
        });
    }
    group.finish();
}

fn worker_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("worker_step");
    group.throughput(BATCH);
    for pipeline in [Pipeline::Output, Pipeline::Normal] {
        for (flows, len) in [(1, 64), (10_000, 64), (1, 1_500), (10_000, 1_500)] {
            let mut forwarder = None;
            group.bench_function(format!("{}/{flows}_flows/{len}", pipeline.name()), |b| {
                let forwarder =
                    forwarder.get_or_insert_with(|| with_brain(pipeline, udp_flows(flows, len), Caching::On));
                b.iter(|| forwarder.step());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, classifier, wire, cache_hit, translate, cache_miss, worker_step);
criterion_main!(benches);
