//! What a port can take from others of its worker. Receiving sides that always have frames get the same share of the work, as the
//! worker counts it; the victim's frames a second of the worker's time say how much it got in truth, beside a neighbour that
//! sends what the victim does.

use anyhow::{Result, ensure};
use benches::compare::cases::{Case, Figure, Transport, Work};
use benches::compare::clock::{ThreadClock, now};
use benches::compare::ours::{Limits, Ours};
use benches::compare::workloads;
use benches::frames::{RECEIVER, SENDER};
use packet::{DpPort, FrameBuilder};
use std::sync::Arc;
use std::time::Duration;

/// The attacker's port. The victim's are 1, and 2 where there are answers.
const ATTACKER: DpPort = DpPort(3);
/// Flows or connections of the victim.
const VICTIM_FLOWS: usize = 1_000;
/// Different frames of an attack: more than the cache and the connections let one port have.
const ATTACK_FRAMES: usize = 500_000;
/// Source addresses of a MAC flood.
const MACS: usize = 10_000;
/// TCP's SYN (RFC 9293 §3.1).
const SYN: u16 = 2;

/// A window has so many steps at least, also one that something else had the processor in: with a few, shares are chance.
const STEPS_MIN: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Misses,
    SynFlood,
    Macs,
}

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// On the command line and in JSON.
    pub name: &'static str,
    /// What the attacker does.
    pub title: &'static str,
    kind: Kind,
}

/// All attacks.
pub const ATTACKS: &[Attack] = &[
    Attack { name: "fair-misses", title: "only misses", kind: Kind::Misses },
    Attack { name: "fair-syn", title: "SYN flood through NAT", kind: Kind::SynFlood },
    Attack { name: "fair-macs", title: "10,000 source MACs under NORMAL", kind: Kind::Macs },
];

/// Windows of one worker, a figure a round.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Windows {
    /// The victim's frames a second of the worker's time.
    pub victim: Vec<f64>,
    /// Nanoseconds of the worker's time a frame of anybody's.
    pub nanos: Vec<f64>,
    /// Frames of the attacker for each of the victim's.
    pub attackers: f64,
    /// 99 of 100 steps took less, in microseconds: the time between two batches of the victim's.
    pub step_p99: Vec<f64>,
}

/// The victim alone, beside a neighbour that sends what it does, and beside the attacker.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// Nobody else.
    pub alone: Windows,
    /// Frames as the victim's own, at the port of the attacker.
    pub neighbour: Windows,
    /// The attack.
    pub attack: Windows,
}

impl Attack {
    fn rules(&self) -> Vec<String> {
        let texts: &[&str] = match self.kind {
            // Registers are written with what would else be wildcarded, so every flow is one of its own.
            Kind::Misses => &[
                "priority=0,actions=drop",
                "priority=10,udp,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],\
                 move:NXM_OF_UDP_SRC[]->NXM_NX_REG1[0..15],output:2",
            ],
            Kind::SynFlood => &[
                "table=0,priority=10,ip,actions=ct(nat,table=1)",
                "table=1,priority=0,actions=drop",
                "table=1,priority=10,ip,ct_state=+trk+new,actions=ct(commit,nat(src=198.51.100.1)),output:2",
                "table=1,priority=10,ip,in_port=2,ct_state=+trk+est,actions=output:1",
                "table=1,priority=9,ip,ct_state=+trk+est,actions=output:2",
            ],
            Kind::Macs => &["priority=0,actions=NORMAL"],
        };
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    /// What comes in at ports 1 and 2.
    fn victim(&self) -> Case {
        let work = if self.kind == Kind::SynFlood { Work::TrackNat } else { Work::Forward };
        let figure = Figure::Established;
        Case { name: "", title: "", flows: VICTIM_FLOWS, transport: Transport::Udp, work, figure }
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let udp = |n: usize, from: u64| {
            let src = (0x0b00_0000 + (n >> 8) as u32, 1_024 + (n & 0xff) as u16);
            workloads::udp(src, (0x0a00_0002, 53), from, RECEIVER)
        };
        match self.kind {
            Kind::Misses => (0..ATTACK_FRAMES).map(|n| udp(n, SENDER + 8)).collect(),
            Kind::Macs => (0..MACS).map(|n| udp(n, 0x0200_0001_0000 + n as u64)).collect(),
            Kind::SynFlood => (0..ATTACK_FRAMES)
                .map(|n| {
                    let src = (0x0b00_0000 + (n >> 8) as u32, 1_024 + (n & 0xff) as u16);
                    let builder = FrameBuilder::tcp4(src, (0x0a00_0002, 443), SYN).payload(&[0; 6]);
                    builder.macs(SENDER + 8, RECEIVER).build()
                })
                .collect(),
        }
    }

    /// A switch as shipped in which the victim's frames all hit.
    fn switch(&self) -> Result<Ours> {
        let traffic = self.victim().traffic();
        let mut ours = Ours::with_ports(&self.rules(), Limits::Shipped, 3)?;
        if self.kind == Kind::Macs {
            // The receiver is known, so that nothing is flooded.
            ours.inject(DpPort(2), &workloads::udp((9, 9), (10, 9), RECEIVER, SENDER));
        }
        ours.establish(&self.victim(), &traffic)?;
        Ok(ours)
    }

    /// Flows or connections of its own, established as the victim's are.
    fn add_neighbour(&self, ours: &mut Ours) {
        let numbers = VICTIM_FLOWS..2 * VICTIM_FLOWS;
        let own = |n: usize| {
            let mut frame = self.victim().frame(n, false);
            // The victim's address stays where it is.
            frame[11] = frame[11].wrapping_add(9);
            frame
        };
        ours.add_source(ATTACKER, Arc::new(numbers.clone().map(own).collect()));
        ours.forward_of(ATTACKER, 3 * VICTIM_FLOWS);
        if self.victim().tracks() {
            numbers.for_each(|n| ours.inject(DpPort(2), &self.victim().frame(n, true)));
        }
        ours.forward_of(ATTACKER, 3 * VICTIM_FLOWS);
    }

    /// Measures the three in turn.
    ///
    /// # Errors
    /// If a switch cannot be set up, or the victim's frames come to nothing.
    pub fn measure(&self, rounds: usize, window: Duration) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let (mut alone, mut neighbour, mut attack) = (self.switch()?, self.switch()?, self.switch()?);
        self.add_neighbour(&mut neighbour);
        attack.add_source(ATTACKER, Arc::new(self.frames().into_iter().collect()));
        for _ in 0..rounds {
            measure(&mut alone, window, &mut outcome.alone)?;
            measure(&mut neighbour, window, &mut outcome.neighbour)?;
            measure(&mut attack, window, &mut outcome.attack)?;
        }
        Ok(outcome)
    }
}

fn measure(ours: &mut Ours, window: Duration, windows: &mut Windows) -> Result<()> {
    let clock = ThreadClock::own();
    let victims = |ours: &Ours| ours.received(DpPort(1)) + ours.received(DpPort(2));
    ours.forward_for(window / 2);
    let (victim, attacker, from) = (victims(ours), ours.received(ATTACKER), clock.read()?);
    let mut steps = Vec::with_capacity(1 << 20);
    let (mut at, until) = (from.at, from.at + window);
    while at < until || steps.len() < STEPS_MIN {
        ours.step();
        let after = now();
        steps.push((after - at).as_secs_f64() * 1e6);
        at = after;
    }
    let seconds = clock.read()?.ran_since(from).as_secs_f64();
    let (victim, attacker) = ((victims(ours) - victim) as f64, (ours.received(ATTACKER) - attacker) as f64);
    ensure!(victim > 0.0, "the victim got no turn");
    windows.victim.push(victim / seconds);
    windows.nanos.push(seconds * 1e9 / (victim + attacker));
    windows.attackers = attacker / victim;
    steps.sort_by(f64::total_cmp);
    windows.step_p99.push(steps[steps.len() * 99 / 100]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_share_and_dear_frames_have_fewer_turns() {
        for attack in ATTACKS {
            let outcome = attack.measure(1, Duration::from_millis(4)).unwrap();
            let turns = if attack.kind == Kind::SynFlood { 0.5 } else { 1.0 };
            assert!((outcome.neighbour.attackers - turns).abs() < 0.05, "{}: {outcome:?}", attack.name);
            // A set-up is some ten times the work of a frame like the victim's.
            let dear = 0.02 * turns..turns * if attack.kind == Kind::SynFlood { 0.2 } else { 1.05 };
            assert!(dear.contains(&outcome.attack.attackers), "{}: {outcome:?}", attack.name);
            assert_eq!(outcome.alone.attackers, 0.0);
        }
    }

    #[test]
    fn attacks_are_what_they_say() {
        for attack in ATTACKS {
            let mut ours = attack.switch().unwrap();
            let (before, frames) = (ours.counts(), attack.frames());
            ours.add_source(ATTACKER, Arc::new(frames.into_iter().collect()));
            ours.forward(200_000);
            let counted = ours.counts().since(before);
            // New connections share cached flows, but each is looked up again after the tracker.
            let work = if attack.kind == Kind::SynFlood { counted.recirculated } else { counted.misses };
            assert!(work > 5_000, "{}: {counted:?}", attack.name);
        }
    }
}
