//! Work on the bytes of one frame: extraction, checksum, segmentation.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be set up stops")]

use benches::frames;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packet::{Frame, FramePool, PacketKey, Segments, Sum};
use std::hint::black_box;

fn extraction(c: &mut Criterion) {
    let mut group = c.benchmark_group("extract");
    group.throughput(Throughput::Elements(1));
    for (name, bytes) in frames::kinds() {
        let mut frame = Frame::from_bytes(&bytes);
        let mut key = PacketKey::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                black_box(&mut key).extract_headers(black_box(&mut frame)).unwrap();
            });
        });
    }
    // What must at least be done: the key has to be cleared.
    let mut key = PacketKey::default();
    group.bench_function("clear_key", |b| b.iter(|| *black_box(&mut key) = PacketKey::default()));
    group.finish();
}

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20, 64, 1_500, 65_495] {
        let bytes = vec![0x3c; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(len.to_string(), |b| b.iter(|| Sum::of(black_box(&bytes))));
    }
    group.finish();
}

fn segmentation(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment_tcp_64k");
    let mut pool = FramePool::default();
    let mut waiting = Some(frames::super_frame(1_448));
    group.throughput(Throughput::Bytes(65_495));
    group.bench_function("1448", |b| {
        b.iter(|| {
            let mut segments = Segments::new(waiting.take().unwrap()).unwrap();
            while let Some(segment) = segments.next_segment(&mut pool) {
                pool.give(black_box(segment));
            }
            waiting = Some(segments.into_frame());
        });
    });
    let frame = frames::super_frame(1_448);
    group.bench_function("copy_only", |b| {
        b.iter(|| {
            for payload in frame.bytes()[54..].chunks(1_448) {
                let mut segment = pool.take();
                segment.append(&frame.bytes()[..54]).unwrap();
                segment.append(payload).unwrap();
                pool.give(black_box(segment));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, extraction, checksum, segmentation);
criterion_main!(benches);
