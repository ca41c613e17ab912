//! What a wire between a port and a node does to frames: it takes time, and it may lose, double and hold back.
//!
//! A wire decides when a frame arrives and how often; the world carries that out.

use crate::dice::Dice;
use base::Instant;
use std::time::Duration;

/// A wire, the same in both directions. The default is a good one: a microsecond long, endless bandwidth, no faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireSpec {
    /// Time that a frame takes.
    pub latency: Duration,
    /// A frame that is held back arrives up to this much later, behind those sent after it.
    pub jitter: Duration,
    /// Frames lost, in a million.
    pub loss_ppm: u32,
    /// Frames doubled, in a million.
    pub double_ppm: u32,
    /// Frames held back, in a million.
    pub delay_ppm: u32,
    /// Bits a second; 0 for no limit.
    pub bits_per_second: u64,
    /// Longest frame that passes, in bytes from the Ethernet header on, without VLAN tags; longer ones are lost.
    pub frame_len_max: usize,
}

impl Default for WireSpec {
    fn default() -> Self {
        WireSpec {
            latency: Duration::from_micros(1),
            jitter: Duration::from_micros(200),
            loss_ppm: 0,
            double_ppm: 0,
            delay_ppm: 0,
            bits_per_second: 0,
            frame_len_max: 65_535,
        }
    }
}

impl WireSpec {
    /// A wire that loses, doubles and holds back one frame in `n` each.
    pub fn bad(n: u32) -> WireSpec {
        let ppm = 1_000_000 / n.max(1);
        WireSpec { loss_ppm: ppm, double_ppm: ppm, delay_ppm: ppm, ..WireSpec::default() }
    }
}

/// What becomes of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It arrives.
    Arrives(Instant),
    /// It arrives out of turn.
    Late(Instant),
    /// It arrives twice.
    Twice(Instant, Instant),
    /// It does not.
    Lost,
}

/// One direction of a wire.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    dice: Dice,
    /// When the last bit of the last frame has left.
    free_at: Instant,
    /// When the last frame that was not held back arrives.
    arrives_last: Instant,
    pub up: bool,
}

/// Bytes of a frame that count against a wire's frame length: all but VLAN tags.
fn untagged_len(bytes: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(bytes.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    let tags = (0..2).take_while(|n| is_tag(12 + 4 * n)).count();
    bytes.len() - 4 * tags
}

impl Lane {
    pub fn new(dice: Dice) -> Lane {
        Lane { dice, free_at: Instant::ZERO, arrives_last: Instant::ZERO, up: true }
    }

    /// Sends a frame along.
    pub fn carry(&mut self, spec: &WireSpec, bytes: &[u8], now: Instant) -> Fate {
        if !self.up || untagged_len(bytes) > spec.frame_len_max || self.dice.chance(spec.loss_ppm) {
            return Fate::Lost;
        }
        let nanos = (bytes.len() as u64 * 8_000_000_000).checked_div(spec.bits_per_second).unwrap_or(0);
        self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
        let arrives = (self.free_at + spec.latency).max(self.arrives_last);
        if self.dice.chance(spec.delay_ppm) {
            return Fate::Late(arrives + self.extra(spec));
        }
        self.arrives_last = arrives;
        match self.dice.chance(spec.double_ppm) {
            true => Fate::Twice(arrives, arrives + self.extra(spec)),
            false => Fate::Arrives(arrives),
        }
    }

    fn extra(&mut self, spec: &WireSpec) -> Duration {
        Duration::from_nanos(self.dice.below(spec.jitter.as_nanos() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(spec: &WireSpec, frames: usize) -> Vec<Fate> {
        let mut lane = Lane::new(Dice::new(5));
        (0..frames).map(|i| lane.carry(spec, &[0; 125], Instant::from_nanos(i as u64 * 1_000))).collect()
    }

    #[test]
    fn a_good_wire_keeps_order_and_pace() {
        let spec = WireSpec { bits_per_second: 1_000_000, ..WireSpec::default() };
        for (i, fate) in arrivals(&spec, 100).into_iter().enumerate() {
            // 1,000 bits at a megabit a second are a millisecond each, and a microsecond of way.
            assert_eq!(fate, Fate::Arrives(Instant::from_nanos((i as u64 + 1) * 1_000_000 + 1_000)));
        }
    }

    #[test]
    fn a_bad_wire_does_each_thing_about_as_often_as_it_should() {
        let fates = arrivals(&WireSpec::bad(10), 10_000);
        let count = |f: fn(&Fate) -> bool| fates.iter().filter(|x| f(x)).count();
        let lost = count(|f| matches!(f, Fate::Lost));
        let twice = count(|f| matches!(f, Fate::Twice(..)));
        let late = count(|f| matches!(f, Fate::Late(_)));
        for n in [lost, twice, late] {
            assert!((700..1_200).contains(&n), "{lost} {twice} {late}");
        }
    }

    #[test]
    fn long_frames_and_frames_on_a_dead_wire_are_lost() {
        let spec = WireSpec { frame_len_max: 100, ..WireSpec::default() };
        let mut lane = Lane::new(Dice::new(1));
        let mut tagged = vec![0; 104];
        assert_eq!(lane.carry(&spec, &tagged, Instant::ZERO), Fate::Lost);
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        assert!(matches!(lane.carry(&spec, &tagged, Instant::ZERO), Fate::Arrives(_)));
        lane.up = false;
        assert_eq!(lane.carry(&spec, &[0; 60], Instant::ZERO), Fate::Lost);
    }
}
