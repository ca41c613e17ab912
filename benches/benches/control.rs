//! Work on the configuration: flow_mods up to their publication, OpenFlow's bytes, OVSDB's transactions.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot be set up stops")]

use base::Instant;
use benches::forwarder::BridgeConfig;
use benches::ovsdb_server::OvsdbServer;
use benches::rules;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowtable::{FlowMod, FlowModCommand, OfPort, TableId};
use openflow::message::{self, Message, Xid};
use openflow::{Dialect, OfVersion};
use std::hint::black_box;

/// A change of one rule while workers hold the snapshot before, and the snapshot after it. Removes and adds in turn.
fn flow_mod(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow_mod_publish");
    group.throughput(Throughput::Elements(1));
    for count in [1_000, 10_000, 100_000] {
        let matches = rules::matches(count, 10);
        let action = || vec![rules::output(OfPort(2))];
        let adds: Vec<FlowMod> = matches.into_iter().map(|m| rules::add(0, m, action())).collect();
        let mut config = BridgeConfig::new(&adds);
        let mut held = config.publish();
        let mut next = adds
            .iter()
            .flat_map(|add| [FlowMod { command: FlowModCommand::DeleteStrict, ..add.clone() }, add.clone()])
            .cycle();
        // Matches that were drawn twice are one rule, whose second removal finds none: one in a hundred at most.
        group.bench_function(format!("{count}_rules"), |b| {
            b.iter(|| {
                config.rules.apply(&next.next().unwrap(), Instant::from_secs(2)).unwrap();
                held = config.publish();
            });
        });
        drop(black_box(held));
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("openflow_flow_mod");
    let flow_mod = message::FlowMod {
        table: TableId(0),
        matching: rules::matches(60, 100)[51],
        actions: vec![rules::output(OfPort(2))],
        ..message::FlowMod::new(message::FlowModCommand::Add)
    };
    let message = Message::FlowMod(flow_mod);
    for version in [OfVersion::V10, OfVersion::V13, OfVersion::V15] {
        let dialect = Dialect::new(version);
        let bytes = openflow::encode_to_vec(&dialect, Xid(1), &message).unwrap();
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("decode/{}", version.name()), |b| {
            b.iter(|| openflow::decode(&dialect, black_box(&bytes)).unwrap());
        });
        group.bench_function(format!("encode/{}", version.name()), |b| {
            b.iter(|| openflow::encode_to_vec(&dialect, Xid(1), black_box(&message)).unwrap());
        });
    }
    group.finish();
}

/// Two transactions: a port is added and taken out again.
fn ovsdb(c: &mut Criterion) {
    let mut group = c.benchmark_group("ovsdb_port_add_remove");
    group.throughput(Throughput::Elements(2));
    for ports in [10, 1_000] {
        let mut server = OvsdbServer::new(ports);
        group.bench_function(format!("{ports}_ports"), |b| {
            b.iter(|| (black_box(server.add_port()), black_box(server.remove_port())));
        });
    }
    group.finish();
}

criterion_group!(benches, flow_mod, decode, ovsdb);
criterion_main!(benches);
