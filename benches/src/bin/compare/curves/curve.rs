//! The cost of a frame over the size of something, sizes in turn, and how much of it the machine's caches account for.

use anyhow::{Result, ensure};
use benches::Dice;
use benches::compare::cases::{Case, Figure, Transport, Work};
use benches::compare::clock::{ThreadClock, now};
use benches::compare::ours::{Limits, Ours};
use benches::compare::workloads::POLICY_PEERS;
use benches::frames::udp_flows;
use benches::ports::Wire;
use packet::DpPort;
use std::sync::Arc;
use std::time::Duration;

/// Flows where something else is counted.
const FLOWS: usize = 1_000;
/// Connections to Services, whose number is counted: one each at least.
const SERVICE_CONNECTIONS: usize = 30_000;
/// Established connections that were let through by policies.
const POLICY_CONNECTIONS: usize = 30_000;
/// Connections of which each is the first of its two pods, whatever the number of policies.
const POLICY_FIRST: usize = 100 * POLICY_PEERS;
/// What a cached flow's hit touches, in cache lines: index, flow.
const FLOW_LINES: usize = 2;
/// What a frame of an established connection touches beside: one of the chain, one of the connection.
const CONNECTION_LINES: usize = FLOW_LINES + 2;
/// The same where it is translated: what is written over its ends.
const NAT_LINES: usize = CONNECTION_LINES + 1;
/// The same to a Service, in two zones: two links and two connections.
const SERVICE_LINES: usize = 2 * NAT_LINES - FLOW_LINES;
/// What the first packet of a connection to a Service touches that its Service has to itself: in each of three programs the
/// flow and its record, its translation, the steps, and two of what the tracker is to do.
const FIRST_LINES: usize = 3 * (FLOW_LINES + 5);
/// Parts that what comes once is timed in.
const PARTS: usize = 10;
/// Warm-up before a window, as a part of it.
const WARM_UP: u32 = 4;

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    /// Flows under one rule that needs one cached flow.
    Frames,
    /// Flows with a cached flow each.
    Flows,
    /// Rules over 20 masks; all frames hit.
    Rules,
    /// The same, and every frame misses.
    RulesMiss,
    /// Services; all connections are established.
    Services,
    /// Services; every frame begins a connection, to a Service that has had one.
    ServicesNew,
    /// The same, and with as many Services as connections each is a Service's first.
    ServicesFirst,
    /// Established connections.
    Connections,
    /// Established connections that are translated.
    ConnectionsNat,
    /// Policies; all connections are established.
    Policies,
    /// Policies; every frame begins the first connection of its two pods.
    PoliciesFirst,
    /// Ports, of which each sends to its neighbour.
    Ports,
}

/// One curve.
#[derive(Debug)]
pub struct Curve {
    /// On the command line and in JSON.
    pub name: &'static str,
    /// What grows.
    pub title: &'static str,
    /// How many, the smallest first.
    pub sizes: &'static [usize],
    subject: Subject,
}

const fn curve(name: &'static str, title: &'static str, sizes: &'static [usize], subject: Subject) -> Curve {
    Curve { name, title, sizes, subject }
}

/// All curves.
pub const CURVES: &[Curve] = &[
    curve("frames", "frames of one cached flow", &[1, 1_000, 100_000], Subject::Frames),
    curve("flows", "cached flows", &[1_000, 10_000, 100_000, 1_000_000], Subject::Flows),
    curve("rules-hit", "rules, 1,000 flows, cached", &[100, 1_000, 10_000, 100_000], Subject::Rules),
    curve("rules-miss", "rules, 1,000 flows, not cached", &[100, 1_000, 10_000, 100_000], Subject::RulesMiss),
    curve(
        "services-hit",
        "Services, 30,000 established connections",
        &[100, 1_000, 10_000, 30_000],
        Subject::Services,
    ),
    curve(
        "services-new",
        "Services, first packets of 30,000 connections to Services that have had some",
        &[100, 1_000, 10_000, 30_000],
        Subject::ServicesNew,
    ),
    curve(
        "services-first",
        "Services, first packets of 30,000 connections, first ones of their Services among them",
        &[100, 1_000, 10_000, 30_000],
        Subject::ServicesFirst,
    ),
    curve(
        "connections",
        "established connections",
        &[1_000, 10_000, 100_000, 1_000_000],
        Subject::Connections,
    ),
    curve(
        "connections-nat",
        "established connections with NAT",
        &[1_000, 10_000, 100_000],
        Subject::ConnectionsNat,
    ),
    curve(
        "policies-hit",
        "policies, 30,000 established connections",
        &[100, 1_000, 10_000],
        Subject::Policies,
    ),
    curve(
        "policies-first",
        "policies, first packets of 2,000 connections, each the first of its two pods",
        &[100, 1_000, 10_000],
        Subject::PoliciesFirst,
    ),
    curve("ports", "ports, 1,000 flows between neighbours", &[2, 20, 200], Subject::Ports),
];

/// Nanoseconds a frame at one size, a figure a round.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Point {
    /// How many.
    pub size: usize,
    /// The switch.
    pub ours: Vec<f64>,
    /// Source and sink alone, over as many different frames.
    pub wire: Vec<f64>,
    /// The same, touching as many cache lines a frame as the switch does, among as many as it has.
    pub touching: Vec<f64>,
}

/// A switch that is ready, or the making of one for each window.
enum Ready {
    Steady(Box<Ours>),
    Fresh(Case),
}

/// Source and sink, and lines that are touched with every frame.
struct Touching {
    wire: Wire,
    lines: Vec<Box<[[u64; 8]]>>,
    order: Vec<u32>,
    next: usize,
}

impl Touching {
    fn new(frames: Vec<Vec<u8>>, items: usize, lines: usize) -> Touching {
        let mut order: Vec<u32> = (0..items as u32).collect();
        Dice(19).shuffle(&mut order);
        let lines = (0..lines).map(|_| vec![[1; 8]; items].into()).collect();
        Touching { wire: Wire::new(frames), lines, order, next: 0 }
    }

    fn step(&mut self) -> usize {
        let frames = self.wire.step();
        for _ in 0..frames {
            let item = self.order[self.next] as usize;
            // The next line is known only when the one before has come, as with an index and what it leads to.
            let mut at = item;
            for lines in &mut self.lines {
                lines[at][0] = lines[at][0].wrapping_add(2);
                at = item + (lines[at][0] as usize & 1) - 1;
            }
            self.next = (self.next + 1) % self.order.len();
        }
        std::hint::black_box(&self.lines);
        frames
    }
}

fn case(flows: usize, figure: Figure, work: Work) -> Case {
    Case { name: "", title: "", flows, transport: Transport::Udp, work, figure }
}

impl Curve {
    fn case(&self, size: usize) -> Case {
        let steady = |flows, work| case(flows, Figure::Established, work);
        match self.subject {
            Subject::Frames | Subject::Ports => steady(size, Work::Forward),
            Subject::Flows => steady(size, Work::OwnFlow),
            Subject::Rules | Subject::RulesMiss => steady(FLOWS, Work::Rules { rules: size, masks: 20 }),
            Subject::Services => steady(SERVICE_CONNECTIONS, Work::Service(size)),
            Subject::ServicesNew => case(2 * SERVICE_CONNECTIONS, Figure::New, Work::Service(size)),
            Subject::ServicesFirst => case(SERVICE_CONNECTIONS, Figure::New, Work::Service(size)),
            Subject::Policies => steady(POLICY_CONNECTIONS, Work::Policies(size)),
            Subject::PoliciesFirst => case(POLICY_FIRST, Figure::New, Work::Policies(size)),
            Subject::Connections => steady(size, Work::Track),
            Subject::ConnectionsNat => steady(size, Work::TrackNat),
        }
    }

    /// Lines a frame touches of what there is one of for each flow, or for each Service where all else is new.
    fn lines(&self) -> usize {
        match self.subject {
            Subject::Connections | Subject::Policies => CONNECTION_LINES,
            Subject::ConnectionsNat => NAT_LINES,
            Subject::Services => SERVICE_LINES,
            Subject::ServicesNew | Subject::ServicesFirst => FIRST_LINES,
            Subject::Flows | Subject::Rules => FLOW_LINES,
            _ => 0,
        }
    }

    fn ready(&self, size: usize) -> Result<(Ready, Touching)> {
        if self.subject == Subject::Ports {
            let frames = udp_flows(FLOWS, 60);
            return Ok((Ready::Steady(Box::new(ports(size, &frames)?)), Touching::new(frames, 1, 0)));
        }
        let case = self.case(size);
        let traffic = case.traffic();
        let frames: Vec<_> = [traffic.originals.to_vecs(), traffic.replies.to_vecs()].concat();
        let items = if case.figure == Figure::New { size } else { frames.len() };
        let touching = Touching::new(frames, items, self.lines());
        if case.figure == Figure::New {
            return Ok((Ready::Fresh(case), touching));
        }
        let limits = if self.subject == Subject::RulesMiss { Limits::Uncached } else { Limits::Raised };
        let mut ours = Ours::new(&case.rules(), limits)?;
        ours.establish(&case, &traffic)?;
        Ok((Ready::Steady(Box::new(ours)), touching))
    }

    /// Measures all sizes in turn.
    ///
    /// # Errors
    /// If a switch cannot be set up, or drops or misses what it should not.
    pub fn measure(&self, rounds: usize, window: Duration) -> Result<Vec<Point>> {
        let mut subjects = Vec::new();
        for size in self.sizes {
            let (ready, touching) = self.ready(*size)?;
            let case = self.case(*size);
            let traffic = case.traffic();
            let wire = Wire::new([traffic.originals.to_vecs(), traffic.replies.to_vecs()].concat());
            subjects.push((Point { size: *size, ..Point::default() }, ready, touching, wire));
        }
        for _ in 0..rounds {
            for (point, ready, touching, wire) in &mut subjects {
                point.ours.push(match ready {
                    Ready::Steady(ours) => steady(ours, window, self.subject == Subject::RulesMiss)?,
                    // Services take turns, so that each has had a connection by the middle.
                    Ready::Fresh(case) if self.subject == Subject::ServicesNew => fresh(case, PARTS / 2)?,
                    Ready::Fresh(case) => fresh(case, 1)?,
                });
                point.wire.push(timed(window / 2, || wire.step())?);
                point.touching.push(timed(window / 2, || touching.step())?);
            }
        }
        Ok(subjects.into_iter().map(|(point, ..)| point).collect())
    }
}

/// Each port sends to its neighbour; the flows are dealt out evenly.
fn ports(ports: usize, frames: &[Vec<u8>]) -> Result<Ours> {
    let neighbour = |port: usize| ((port - 1) ^ 1) + 1;
    let mut rules = vec!["priority=0,actions=drop".to_owned()];
    rules.extend(
        (1..=ports).map(|port| format!("priority=10,in_port={port},actions=output:{}", neighbour(port))),
    );
    let mut ours = Ours::with_ports(&rules, Limits::Raised, ports as u32)?;
    for port in 1..=ports {
        let own: Vec<_> = frames.iter().skip(port - 1).step_by(ports).cloned().collect();
        ours.add_source(DpPort(port as u32), Arc::new(own.into_iter().collect()));
    }
    ours.forward(10 * frames.len().max(ports * packet::Batch::MAX));
    Ok(ours)
}

/// Nanoseconds of processor time a frame.
pub(super) fn timed(window: Duration, mut step: impl FnMut() -> usize) -> Result<f64> {
    let clock = ThreadClock::own();
    for (time, counts) in [(window / WARM_UP, false), (window, true)] {
        let (from, until) = (clock.read()?, now() + time);
        let mut frames = 0;
        while now() < until || frames == 0 {
            frames += (0..16).map(|_| step()).sum::<usize>();
        }
        if counts {
            return Ok(clock.read()?.ran_since(from).as_secs_f64() * 1e9 / frames as f64);
        }
    }
    Ok(0.0)
}

fn steady(ours: &mut Ours, window: Duration, misses: bool) -> Result<f64> {
    let before = ours.counts();
    let nanos = timed(window, || ours.step())?;
    let counted = ours.counts().since(before);
    ensure!(counted.received == counted.sent, "not all were sent: {counted:?}");
    ensure!((counted.misses == 0) != misses, "hits where misses should be, or misses: {counted:?}");
    Ok(nanos)
}

/// All connections once, in a switch that is new. Some first tenths are not counted, one at least, for which memory comes to
/// be.
fn fresh(case: &Case, uncounted: usize) -> Result<f64> {
    let traffic = case.traffic();
    let mut ours = Ours::new(&case.rules(), Limits::Raised)?;
    let samples = ours.forward_once(&traffic, &ThreadClock::own(), case.flows / PARTS)?;
    ensure!(ours.connections() == case.connections(), "{} connections", ours.connections());
    let (from, to) = (samples[uncounted], samples[samples.len() - 1]);
    Ok(to.1.ran_since(from.1).as_secs_f64() * 1e9 / (to.0 - from.0) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_can_be_set_up_and_forwards() {
        for curve in CURVES {
            let small = Curve { sizes: &curve.sizes[..1], ..*curve };
            let points = small.measure(1, Duration::from_millis(1)).unwrap();
            let point = &points[0];
            assert_eq!((points.len(), point.ours.len(), point.touching.len()), (1, 1, 1), "{}", curve.name);
            assert!(point.ours[0] > 0.0, "{}", curve.name);
        }
    }

    #[test]
    fn sizes_grow_and_names_differ() {
        assert!(CURVES.iter().all(|c| c.sizes.is_sorted()));
        let names: std::collections::HashSet<_> = CURVES.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), CURVES.len());
    }

    #[test]
    fn touching_stays_at_the_item() {
        let mut touching = Touching::new(udp_flows(64, 60), 64, 3);
        for _ in 0..4 {
            touching.step();
        }
        assert!(touching.lines.iter().flatten().all(|line| line[0] == 5), "each twice, two each time");
    }
}
