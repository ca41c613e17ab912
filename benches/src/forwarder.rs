//! A worker between two ports in memory, under a brain that always says the same or under the real one.

use crate::frames::{RECEIVER, SENDER};
use crate::ports::{Sink, Source};
use crate::rules::{add, matches, output};
use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use datapath::conntrack::{ConnTracker, CtConfig};
use datapath::{
    CacheLimits, Command, Deps, DpAction, Drop, FrameClass, MissLimits, Profile, ProfileId, Program,
    Revision, RxQueue, SlowPath, Translation, Upcall, UpcallCookie, Worker, WorkerConfig, WorkerSetup,
};
use flowtable::store::RuleStore;
use flowtable::{FlowMod, Mask, Match, OfAction, OfPort, TableId};
use packet::{DpPort, Frame, FrameBuilder, PacketKey, slot};
use std::sync::Arc;
use std::time::Duration;
use switch::bridge::{BridgeId, BridgePort, Bundle, BundleId, Device, Link, PortConfig};
use switch::forwarding::{Forwarding, NoPunt, Staging};
use switch::mac::MacAddr;
use switch::tunnel::SharedCounters;
use switch::vlan::VlanConfig;

/// The port that frames come in at.
pub const IN: DpPort = DpPort(1);
/// The port that they leave by.
pub const OUT: DpPort = DpPort(2);
/// Time between two steps.
const TICK: Duration = Duration::from_micros(1);

/// A brain that sends everything to one port and looks at addresses and ports: for the cost of the datapath alone.
pub struct OneProgram {
    profile: Profile,
}

impl OneProgram {
    /// With a profile as a bridge with NORMAL and rules on connections has it.
    pub fn new() -> OneProgram {
        let mut mask = Mask::empty();
        let slots = [
            slot::IN_PORT,
            slot::RECIRC_ID,
            slot::DL_DST,
            slot::DL_SRC,
            slot::DL_TYPE,
            slot::VLAN_TCI,
            slot::NW_SRC,
            slot::NW_DST,
            slot::NW_PROTO,
            slot::TP_SRC,
            slot::TP_DST,
        ];
        slots.into_iter().for_each(|s| mask.add_all(s));
        OneProgram { profile: Profile::new(ProfileId(1), mask) }
    }
}

impl Default for OneProgram {
    fn default() -> Self {
        OneProgram::new()
    }
}

impl SlowPath for OneProgram {
    type Effect = ();
    type Room = ();

    fn revision(&self) -> Revision {
        Revision(1)
    }

    fn profile(&self, _: FrameClass) -> Result<&Profile, Drop> {
        Ok(&self.profile)
    }

    fn translate(&self, _: &Upcall<'_>) -> Translation<()> {
        Translation {
            program: Program { actions: [DpAction::Output(OUT)].into() },
            deps: Deps::default(),
            credits: Box::default(),
            effects: Vec::new(),
            cacheable: true,
            tables: 0,
        }
    }

    fn commit(&self, _: &[()], _: Instant) {}

    fn still_valid(&self, _: &Deps) -> bool {
        true
    }

    fn punt(&self, _: &Frame, _: usize, _: &PacketKey, _: &UpcallCookie) -> Result<(), Drop> {
        Err(Drop::UpcallFull)
    }
}

/// What is installed in the bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pipeline {
    /// One rule: NORMAL.
    Normal,
    /// One rule: output to port 2.
    Output,
    /// Ten tables of one rule each: nine write a register and go on, the tenth sends to port 2.
    TenTables,
    /// A thousand rules under ten masks that do not match, and one that sends to port 2.
    ThousandRules,
}

impl Pipeline {
    /// Its name in benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Pipeline::Normal => "normal",
            Pipeline::Output => "output",
            Pipeline::TenTables => "10_tables",
            Pipeline::ThousandRules => "1k_rules",
        }
    }

    fn rules(self) -> Vec<FlowMod> {
        let out = || output(OfPort(2));
        match self {
            Pipeline::Normal => vec![add(0, Match::any(), vec![output(OfPort::NORMAL)])],
            Pipeline::Output => vec![add(0, Match::any(), vec![out()])],
            Pipeline::TenTables => (0..10).map(|t| add(t, table_match(t), table_actions(t))).collect(),
            Pipeline::ThousandRules => {
                let mut rules: Vec<_> =
                    matches(1_000, 10).into_iter().map(|m| add(0, m, vec![out()])).collect();
                rules.push(FlowMod { priority: 1, ..add(0, Match::any(), vec![out()]) });
                rules
            }
        }
    }
}

/// Every table looks at something else.
fn table_match(table: u8) -> Match {
    let mut m = Match::any();
    if table == 0 {
        m.set_exact(slot::IN_PORT, 1);
        return m;
    }
    m.set_exact(slot::DL_TYPE, 0x0800);
    match table % 3 {
        0 => m.set(slot::NW_SRC, 0x0a00_0000, 0xff00_0000),
        1 => m.set(slot::NW_DST, 0x0a00_0000, 0xffff_0000),
        _ => m.set_exact(slot::NW_PROTO, 17),
    }
    m
}

fn table_actions(table: u8) -> Vec<OfAction> {
    if table == 9 {
        return vec![output(OfPort(2))];
    }
    let field = flowtable::FieldId::Reg0;
    vec![
        OfAction::SetField { field, value: table.into(), mask: field.slot().ones() },
        OfAction::GotoTable(TableId(table + 1)),
    ]
}

/// The configuration of one bridge with some ports, 1 and 2 at least, and its rules beside it.
pub struct BridgeConfig {
    /// What is published from.
    pub staging: Staging,
    /// The bridge.
    pub bridge: BridgeId,
    /// Its rules.
    pub rules: RuleStore,
}

impl BridgeConfig {
    /// With these rules and two ports.
    pub fn new(rules: &[FlowMod]) -> BridgeConfig {
        BridgeConfig::with_ports(rules, 2)
    }

    /// With these rules and ports 1 to `ports`.
    pub fn with_ports(rules: &[FlowMod], ports: u32) -> BridgeConfig {
        let mut staging = Staging::new(HashSeed::new(1, 2), Box::new(NoPunt));
        let bridge = staging.add_bridge("br0");
        let state = staging.bridge_mut(bridge).unwrap();
        for port in (1..=ports).map(DpPort) {
            let name = Arc::<str>::from(format!("p{port}"));
            let (of_port, bundle) = (OfPort(port.0), BundleId(port.0));
            state.put_port(BridgePort {
                of_port,
                name: name.clone(),
                mac: MacAddr(0x0200_0000_00f0 + u64::from(port.0)),
                config: PortConfig::default(),
                link: Link::Up,
                carrier: Link::Up,
                device: Device::Datapath(port),
                counters: SharedCounters::default(),
                bundle,
            });
            let vlan = VlanConfig::default();
            state.put_bundle(Bundle { id: bundle, name, members: vec![of_port], vlan, protected: false });
        }
        let mut store = staging.new_rules();
        store.apply_all(rules, Instant::from_secs(1)).unwrap();
        BridgeConfig { staging, bridge, rules: store }
    }

    /// The snapshot as things stand.
    pub fn publish(&mut self) -> Arc<Forwarding> {
        self.staging.set_rules(self.bridge, &mut self.rules);
        self.staging.publish()
    }
}

/// Whether flows are cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// As many as come.
    On,
    /// Not at all: each frame is a miss, translated and forwarded uncached.
    Off,
}

/// Settings of a worker that caches so many flows, of one port or several, and whose ports may cause any number of misses.
pub fn unlimited(flows: u32) -> WorkerConfig {
    WorkerConfig {
        cache: CacheLimits { flows, flows_per_port: flows, ..CacheLimits::default() },
        misses: MissLimits { rate: 1_000_000_000, burst: 1_000_000_000 },
        ..WorkerConfig::default()
    }
}

/// A worker without ports under a snapshot, and its events, whose channel has to stay open.
pub fn bare_worker<S: SlowPath>(
    snapshot: Arc<S>,
    config: WorkerConfig,
    tracker: Arc<ConnTracker>,
) -> (Worker<S>, crossbeam_channel::Receiver<datapath::Event>) {
    let (events_to, events) = crossbeam_channel::bounded(64);
    let (worker, _peer) = Worker::new(WorkerSetup {
        snapshot: Arc::new(ArcSwap::new(snapshot)),
        seed: HashSeed::new(7, 11),
        config,
        tracker,
        events: events_to,
        wake: Arc::new(|| {}),
    });
    (worker, events)
}

/// A worker between a [`Source`] and a [`Sink`].
pub struct Forwarder<S: SlowPath> {
    worker: Worker<S>,
    now: Instant,
    // Events nobody reads; the channel has to stay open.
    _events: crossbeam_channel::Receiver<datapath::Event>,
}

impl<S: SlowPath> Forwarder<S> {
    /// Forwards these frames under a snapshot.
    pub fn new(snapshot: Arc<S>, frames: Vec<Vec<u8>>, caching: Caching) -> Forwarder<S> {
        let config = unlimited(if caching == Caching::On { 1 << 20 } else { 0 });
        let tracker = Arc::new(ConnTracker::new(HashSeed::new(5, 13), CtConfig::default()));
        let (worker, events) = bare_worker(snapshot, config, tracker);
        let mut forwarder = Forwarder { worker, now: Instant::from_secs(100), _events: events };
        forwarder.command(Command::AddTx { port: IN, tx: Box::new(Sink::new()), done: None });
        forwarder.command(Command::AddTx { port: OUT, tx: Box::new(Sink::new()), done: None });
        // Both stations are known before the first frame, so that none is flooded.
        for (port, src, dst) in [(OUT, RECEIVER, SENDER), (IN, SENDER, RECEIVER)] {
            let hello = FrameBuilder::udp4((0x0a00_0009, 9), (0x0a00_000a, 9)).macs(src, dst).build();
            forwarder.command(Command::Inject { port, frame: Frame::from_bytes(&hello) });
        }
        forwarder.step();
        let rounds = frames.len().div_ceil(packet::Batch::MAX);
        forwarder.command(Command::AddRx {
            port: IN,
            queue: RxQueue::only(Box::new(Source::new(frames))),
            done: None,
        });
        // Every flow once: from here on all are hits, if flows are cached.
        for _ in 0..rounds {
            forwarder.step();
        }
        forwarder
    }

    fn command(&mut self, command: Command) {
        self.worker.carry_out(command, self.now);
    }

    /// One step of the worker; how many frames it forwarded.
    #[inline]
    pub fn step(&mut self) -> usize {
        self.now += TICK;
        self.worker.step(self.now).frames
    }

    /// The worker.
    pub fn worker(&self) -> &Worker<S> {
        &self.worker
    }
}

/// A forwarder under the real brain.
pub fn with_brain(pipeline: Pipeline, frames: Vec<Vec<u8>>, caching: Caching) -> Forwarder<Forwarding> {
    Forwarder::new(BridgeConfig::new(&pipeline.rules()).publish(), frames, caching)
}

/// The snapshot of a pipeline, both stations known.
pub fn snapshot(pipeline: Pipeline) -> Arc<Forwarding> {
    let snapshot = BridgeConfig::new(&pipeline.rules()).publish();
    for (port, src) in [(OUT, RECEIVER), (IN, SENDER)] {
        let mut key = PacketKey::default();
        key.set_in_port(port);
        key.set(slot::DL_SRC, src.into());
        key.set(slot::DL_DST, 0x0200_0000_0099);
        let effects = snapshot.translate(&Upcall { key: &key }).effects;
        snapshot.commit(&effects, Instant::from_secs(1));
    }
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{keys_of, udp_flows};

    const PIPELINES: [Pipeline; 4] =
        [Pipeline::Normal, Pipeline::Output, Pipeline::TenTables, Pipeline::ThousandRules];

    fn check<S: SlowPath>(mut forwarder: Forwarder<S>, caching: Caching, name: &str) {
        let sent = |f: &Forwarder<S>| f.worker().stats().port(OUT).map_or(0, |p| p.tx_packets.get());
        let (misses, before) = (forwarder.worker().stats().cache.misses.get(), sent(&forwarder));
        let frames: usize = (0..100).map(|_| forwarder.step()).sum();
        assert_eq!(sent(&forwarder) - before, frames as u64, "{name}: all are sent to port 2");
        assert_eq!(frames, 100 * packet::Batch::MAX, "{name}");
        let misses = forwarder.worker().stats().cache.misses.get() - misses;
        assert_eq!(misses, if caching == Caching::On { 0 } else { frames as u64 }, "{name}");
    }

    #[test]
    fn what_is_called_a_hit_is_one_and_what_is_called_a_miss_too() {
        check(
            Forwarder::new(Arc::new(OneProgram::new()), udp_flows(500, 64), Caching::On),
            Caching::On,
            "one",
        );
        for pipeline in PIPELINES {
            for caching in [Caching::On, Caching::Off] {
                check(with_brain(pipeline, udp_flows(100, 64), caching), caching, pipeline.name());
            }
        }
    }

    #[test]
    fn translations_send_to_port_2() {
        for pipeline in PIPELINES {
            let snapshot = snapshot(pipeline);
            for key in keys_of(&udp_flows(10, 64), IN) {
                let translation = snapshot.translate(&Upcall { key: &key });
                let [DpAction::Output(OUT)] = *translation.program.actions else {
                    panic!("{pipeline:?}: {:?}", translation.program);
                };
            }
        }
    }
}
