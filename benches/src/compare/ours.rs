//! Tapestry: the production worker and brain, ports in memory that copy frames as `net_pcap` does and give them back.

use super::cases::{Case, Traffic};
use super::clock::{self, ThreadClock, ThreadTime};
use crate::forwarder::{BridgeConfig, IN, OUT, bare_worker, unlimited};
use crate::frames::Frames;
use crate::ports::{Finite, Sink, Source};
use anyhow::{Result, anyhow, ensure};
use base::{HashSeed, Instant};
use crossbeam_channel::Receiver;
use datapath::conntrack::{ConnTracker, CtConfig, DumpCursor, TimeoutKind};
use datapath::{Command, Rx, RxQueue, Worker, WorkerConfig};
use flowtable::text::{FlowUsage, NoPortNames, parse_flow};
use flowtable::{FlowMod, FlowModCommand, OnMissing};
use packet::{DpPort, Frame};
use std::sync::Arc;
use std::time::Duration;
use switch::forwarding::Forwarding;

/// Flows that the cache may hold, of each port and together: as many as the largest case has, of both ports, twice, as half of the
/// room is kept for each port that there is.
const FLOWS: u32 = 1 << 22;
/// How long cached flows and connections are kept without a frame, unless limits are as shipped.
const PATIENCE_SECS: u32 = 3_600;
/// Passes over all frames before anything counts.
const WARM_UP_PASSES: usize = 3;

/// What the worker counted so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames dropped.
    pub dropped: u64,
    /// Frames without a cached flow.
    pub misses: u64,
    /// Frames looked up again after a pass through the tracker.
    pub recirculated: u64,
}

impl Counts {
    /// What was added since `before`.
    pub fn since(self, before: Counts) -> Counts {
        Counts {
            received: self.received - before.received,
            sent: self.sent - before.sent,
            dropped: self.dropped - before.dropped,
            misses: self.misses - before.misses,
            recirculated: self.recirculated - before.recirculated,
        }
    }
}

/// A worker with two ports.
pub struct Ours {
    worker: Worker<Forwarding>,
    tracker: Arc<ConnTracker>,
    config: BridgeConfig,
    ports: u32,
    /// Origin of the worker's clock.
    start: std::time::Instant,
    _events: Receiver<datapath::Event>,
}

/// How the switch is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limits {
    /// Cache and flow set-ups without limit, nothing forgotten, connections up to the same number as Open vSwitch.
    Raised,
    /// The same, but nothing is cached.
    Uncached,
    /// As the daemon has them unless told otherwise.
    Shipped,
}

/// The flow_mods of rules in ovs-ofctl's language.
///
/// # Errors
/// If one cannot be read.
pub fn flow_mods(rules: &[String]) -> Result<Vec<FlowMod>> {
    let one = |rule: &String| {
        let command = FlowModCommand::Add;
        let parsed = parse_flow(rule, FlowUsage::Mod(command), &NoPortNames);
        Ok(parsed.map_err(|e| anyhow!("{rule}: {e}"))?.flow_mod(command, OnMissing::Ignore))
    };
    rules.iter().map(one).collect()
}

impl Ours {
    /// A switch with these rules, its clock beginning now.
    ///
    /// # Errors
    /// If a rule cannot be read.
    pub fn new(rules: &[String], limits: Limits) -> Result<Ours> {
        Ours::with_ports(rules, limits, 2)
    }

    /// The same with ports 1 to `ports`.
    ///
    /// # Errors
    /// If a rule cannot be read.
    pub fn with_ports(rules: &[String], limits: Limits, ports: u32) -> Result<Ours> {
        let mut config = BridgeConfig::with_ports(&flow_mods(rules)?, ports);
        let mut connections = CtConfig::default();
        let mut worker_config = WorkerConfig::default();
        if limits != Limits::Shipped {
            worker_config = unlimited(if limits == Limits::Raised { FLOWS } else { 0 });
            // A switch may wait long for its turn, in which nothing is to be forgotten.
            worker_config.cache.idle = Duration::from_secs(PATIENCE_SECS.into());
            for kind in [TimeoutKind::UdpFirst, TimeoutKind::UdpSingle, TimeoutKind::UdpMultiple] {
                connections.timeouts.set(kind, PATIENCE_SECS);
            }
            // All connections of these cases come from one port and may stay unanswered.
            connections.embryonic_port_max = connections.connections_max;
        }
        let tracker = Arc::new(ConnTracker::new(HashSeed::new(5, 13), connections));
        let (worker, events) = bare_worker(config.publish(), worker_config, Arc::clone(&tracker));
        let mut ours = Ours { worker, tracker, config, ports, start: clock::now(), _events: events };
        for port in (1..=ports).map(DpPort) {
            ours.command(Command::AddTx { port, tx: Box::new(Sink::new()), done: None });
        }
        Ok(ours)
    }

    fn now(&self) -> Instant {
        // A daemon's clock does not begin at zero either.
        Instant::from_secs(100) + (clock::now() - self.start)
    }

    fn command(&mut self, command: Command) {
        let now = self.now();
        self.worker.carry_out(command, now);
    }

    /// Forwards one frame as if it had come in at a port.
    pub fn inject(&mut self, port: DpPort, frame: &[u8]) {
        self.command(Command::Inject { port, frame: Frame::from_bytes(frame) });
        self.step();
    }

    /// Adds a source that never ends, in this order.
    pub fn add_source(&mut self, port: DpPort, frames: Arc<Frames>) {
        self.add_rx(port, Box::new(Source::in_order(frames)));
    }

    fn add_rx(&mut self, port: DpPort, rx: Box<dyn Rx>) {
        self.command(Command::AddRx { port, queue: RxQueue::only(rx), done: None });
    }

    /// One step: a batch from each port. How many frames.
    pub fn step(&mut self) -> usize {
        let now = self.now();
        self.worker.step(now).frames
    }

    /// Adds sources that never end.
    pub fn feed(&mut self, traffic: &Traffic) {
        for (port, frames) in [(IN, &traffic.originals), (OUT, &traffic.replies)] {
            if !frames.is_empty() {
                self.add_source(port, Arc::clone(frames));
            }
        }
    }

    /// Adds sources that never end: originals first, and answers when every connection is there.
    ///
    /// # Errors
    /// If not every connection is made.
    pub fn establish(&mut self, case: &Case, traffic: &Traffic) -> Result<()> {
        self.add_rx(IN, Box::new(Source::in_order(Arc::clone(&traffic.originals))));
        self.forward(traffic.originals.len());
        if case.tracks() {
            let (made, wanted) = (self.connections(), case.connections());
            ensure!(made == wanted, "{made} connections of {wanted}");
        }
        if !traffic.replies.is_empty() {
            self.add_rx(OUT, Box::new(Source::in_order(Arc::clone(&traffic.replies))));
        }
        self.warm_up(traffic);
        Ok(())
    }

    /// Forwards all frames of sources some times.
    fn warm_up(&mut self, traffic: &Traffic) {
        for (port, frames) in [(IN, &traffic.originals), (OUT, &traffic.replies)] {
            self.forward_of(port, WARM_UP_PASSES * frames.len());
        }
    }

    /// Forwards until a port has given so many frames more. Ports take turns by work, so one that has set-ups left gives fewer than
    /// others.
    pub fn forward_of(&mut self, port: DpPort, frames: usize) {
        let until = self.received(port) + frames as u64;
        while self.received(port) < until {
            self.step();
        }
    }

    /// Forwards at least so many frames.
    pub fn forward(&mut self, frames: usize) {
        let mut done = 0;
        while done < frames {
            done += self.step();
        }
    }

    /// Forwards for this time at least.
    pub fn forward_for(&mut self, time: Duration) {
        let until = clock::now() + time;
        while clock::now() < until {
            // A look at the clock costs a frame's time; sixteen steps are some microseconds.
            for _ in 0..16 {
                self.step();
            }
        }
    }

    /// Adds frames that come once, and forwards them all. Returns the time at each `step` frames, from the first on.
    ///
    /// # Errors
    /// If the clock cannot be read.
    pub fn forward_once(
        &mut self,
        traffic: &Traffic,
        clock: &ThreadClock,
        step: usize,
    ) -> Result<Vec<(u64, ThreadTime)>> {
        self.add_rx(IN, Box::new(Finite::new(Arc::clone(&traffic.originals))));
        let mut samples = vec![(0, clock.read()?)];
        let (mut done, mut next) = (0, step);
        while done < traffic.originals.len() {
            done += self.step();
            if done >= next {
                samples.push((done as u64, clock.read()?));
                next += step;
            }
        }
        Ok(samples)
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.tracker.connections() as usize
    }

    /// Frames that a port received.
    pub fn received(&self, port: DpPort) -> u64 {
        self.worker.stats().port(port).map_or(0, |p| p.rx_packets.get())
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        let stats = self.worker.stats();
        let mut counts = Counts {
            misses: stats.cache.misses.get(),
            recirculated: stats.cache.recirculated.get(),
            ..Counts::default()
        };
        for port in (1..=self.ports).map(DpPort) {
            if let Some(port) = stats.port(port) {
                counts.received += port.rx_packets.get();
                counts.sent += port.tx_packets.get();
                counts.dropped += port.drops.total();
            }
        }
        counts
    }

    /// Frames that rules with this cookie counted. Empties the flow cache, whose flows hold what is not yet counted.
    pub fn rule_count(&mut self, cookie: u64) -> u64 {
        self.command(Command::Flush { reply: None });
        let rules = self.config.rules.tables().iter().flat_map(|t| t.rules());
        rules.filter(|r| r.cookie.0 == cookie).map(|r| r.stats.packets()).sum()
    }

    /// What each of these cookies counted, as parts of the whole.
    pub fn rule_parts(&mut self, cookies: std::ops::Range<u64>) -> Vec<f64> {
        let counts: Vec<f64> = cookies.map(|cookie| self.rule_count(cookie) as f64).collect();
        let sum: f64 = counts.iter().sum();
        counts.iter().map(|count| count / sum).collect()
    }

    /// All connections as `dpctl/dump-conntrack` prints them, sorted.
    ///
    /// # Errors
    /// If a listing does not end.
    pub fn dump(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut from = Some(DumpCursor::default());
        while let Some(cursor) = from {
            let (part, next) = self.tracker.dump(None, cursor, self.now());
            lines.extend(part.iter().map(ToString::to_string));
            from = next;
        }
        lines.sort_unstable();
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::cases::{
        CASES, COOKIE_ESTABLISHED, COOKIE_NEW, Figure, Transport, Work, floor_rules,
    };
    use crate::compare::workloads::{POLICY_PEERS, policy_peer, policy_pod, udp};
    use crate::frames::{RECEIVER, SENDER};

    fn case(transport: Transport, work: Work, figure: Figure, flows: usize) -> Case {
        let case =
            CASES.iter().find(|c| (c.transport, c.work, c.figure) == (transport, work, figure)).unwrap();
        Case { flows, ..*case }
    }

    /// What dump-conntrack prints for a connection, from its number alone.
    fn line(n: usize, transport: Transport, snat: bool) -> String {
        let client = format!("10.1.{}.{}", n >> 16, n >> 8 & 0xff);
        let server = format!("10.{}.{}.{}", 128 + (n >> 16), n >> 8 & 0xff, n & 0xff);
        let port = 1024 + (n & 0xff);
        let (name, to, state) = match transport {
            Transport::Udp => ("udp", 53, ""),
            Transport::Tcp => ("tcp", 443, ",protoinfo=(state=ESTABLISHED)"),
        };
        let back = if snat { "198.51.100.1" } else { &client };
        format!(
            "{name},orig=(src={client},dst={server},sport={port},dport={to}),\
             reply=(src={server},dst={back},sport={to},dport={port}){state}"
        )
    }

    fn establish(transport: Transport, work: Work, flows: usize) {
        let case = case(transport, work, Figure::Established, flows);
        let traffic = case.traffic();
        let mut ours = Ours::new(&case.rules(), Limits::Raised).unwrap();
        ours.establish(&case, &traffic).unwrap();
        let new = ours.rule_count(COOKIE_NEW);
        let established = ours.rule_count(COOKIE_ESTABLISHED);
        ours.warm_up(&traffic);
        let before = ours.counts();
        ours.forward(8 * flows);
        let counted = ours.counts().since(before);
        assert_eq!(
            (counted.misses, counted.dropped, counted.recirculated),
            (0, 0, 0),
            "{}: {counted:?}",
            case.name
        );
        assert_eq!(counted.received, counted.sent);
        assert_eq!(ours.rule_count(COOKIE_NEW), new, "{}", case.name);
        assert!(ours.rule_count(COOKIE_ESTABLISHED) >= established + 8 * flows as u64, "{}", case.name);
        let mut expected: Vec<_> = (0..flows).map(|n| line(n, transport, work == Work::TrackNat)).collect();
        expected.sort_unstable();
        let dumped = ours.dump().unwrap();
        assert_eq!(dumped.len(), flows);
        assert_eq!(dumped, expected, "{}", case.name);
    }

    #[test]
    fn established_connections_are_what_the_frames_say_and_need_one_look_up() {
        establish(Transport::Udp, Work::Track, 1);
        establish(Transport::Udp, Work::Track, 3_000);
        establish(Transport::Tcp, Work::Track, 1_000);
        establish(Transport::Udp, Work::TrackNat, 1_000);
    }

    #[test]
    fn new_ones_are_made_and_counted() {
        for work in [Work::OwnFlow, Work::Track, Work::TrackNat, Work::Service(100)] {
            let case = case(Transport::Udp, work, Figure::New, 5_000);
            let mut ours = Ours::new(&case.rules(), Limits::Raised).unwrap();
            let samples = ours.forward_once(&case.traffic(), &ThreadClock::own(), 100).unwrap();
            assert_eq!(samples.len(), 51);
            let counts = ours.counts();
            assert_eq!((counts.received, counts.sent, counts.dropped), (5_000, 5_000, 0), "{work:?}");
            // Only flows have one of their own; new connections share those of their rules.
            assert_eq!(counts.misses >= 5_000, !case.tracks(), "{work:?}: {counts:?}");
            assert_eq!(ours.connections(), case.connections());
        }
    }

    #[test]
    fn services_translate_there_and_back() {
        let case = Case { flows: 1_000, figure: Figure::Established, ..*CASES.last().unwrap() };
        let mut ours = Ours::new(&case.rules(), Limits::Raised).unwrap();
        ours.establish(&case, &case.traffic()).unwrap();
        let before = ours.counts();
        ours.forward(4_000);
        let counted = ours.counts().since(before);
        assert_eq!((counted.misses, counted.dropped), (0, 0), "{counted:?}");
        assert!(ours.rule_count(COOKIE_ESTABLISHED) >= 4_000);
    }

    #[test]
    fn policies_let_their_peers_in_and_nobody_else() {
        let case = Case { work: Work::Policies(50), ..case(Transport::Udp, Work::Track, Figure::New, 2_000) };
        let mut ours = Ours::new(&case.rules(), Limits::Raised).unwrap();
        ours.forward_once(&case.traffic(), &ThreadClock::own(), 100).unwrap();
        let counts = ours.counts();
        assert_eq!((counts.sent, counts.dropped, ours.connections()), (2_000, 0, 2_000));
        // The first connection of two pods needs a flow before the tracker and one behind it, the second none.
        assert_eq!(counts.misses, 2 * 50 * POLICY_PEERS as u64);
        assert_eq!(ours.rule_count(COOKIE_NEW), 2_000);
        // From a peer of the first policy to the pod of the second, and to one without.
        let peer = (policy_peer(0, 0), 1_024);
        for (to, sent) in [(policy_pod(1), 0), ((0x0a7f_0001, 8_001), 1)] {
            let before = ours.counts();
            ours.inject(IN, &udp(peer, to, SENDER, RECEIVER));
            let counted = ours.counts().since(before);
            assert_eq!((counted.sent, counted.dropped), (sent, 1 - sent));
        }
    }

    #[test]
    fn victims_are_forwarded_and_attacks_dropped() {
        let case = CASES.iter().find(|c| c.name == "attack-tse").unwrap();
        let traffic = case.traffic();
        let mut ours = Ours::new(&case.rules(), Limits::Raised).unwrap();
        ours.establish(case, &traffic).unwrap();
        let before = ours.counts();
        ours.forward(traffic.originals.len());
        let counted = ours.counts().since(before);
        assert_eq!(counted.misses, 0);
        assert!((counted.sent as f64 / counted.received as f64 - case.wanted_part()).abs() < 1e-3);
        assert!((ours.rule_parts(case.cookies())[0] - case.wanted_part()).abs() < 1e-3);
    }

    #[test]
    fn floor_drops_all() {
        let case = case(Transport::Udp, Work::Track, Figure::Established, 10);
        let mut ours = Ours::new(&floor_rules(), Limits::Raised).unwrap();
        ours.feed(&case.traffic());
        ours.forward(1_000);
        let counts = ours.counts();
        assert_eq!((counts.sent, counts.received), (0, counts.dropped));
    }
}
