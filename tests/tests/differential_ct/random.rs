//! TCP conversations from a seed: two hosts with a network between them that loses, repeats, delays and forges.
//!
//! Of a connection that the other side has never answered Open vSwitch 3.1 says `est` as soon as its client goes on as if
//! it had been, which ours must not. So nobody forges before both sides have spoken, a conversation ends with a RST,
//! nobody says SYN again to a connection that may be closed, the server never without ACK (which is no reply to Open
//! vSwitch), and no pause is long enough for one to be forgotten. While a
//! connection is being closed Open vSwitch takes a RST of any number, and ours (as RFC 5961 has it) does not: none is forged
//! then.

use tests::noise::Noise;
use tests::pair::Pair;
use tests::reference::Reference;

use crate::hosts::*;
use crate::{PLAIN, Run, Step, at, told};

/// Conversations of a test.
const CONVERSATIONS: usize = 12;
/// Packets of one.
const PACKETS: usize = 24;

/// One of two hosts: what it will send next, and what it has seen.
#[derive(Clone, Copy)]
struct Host {
    next: u32,
    seen: u32,
    has_opened: bool,
    /// Whether the other side's SYN has come.
    has_heard: bool,
    has_closed: bool,
}

/// Two hosts that know what they do, most of the time.
struct Talk {
    ends: [End; 2],
    hosts: [Host; 2],
    noise: Noise,
    sent: Vec<Step>,
    is_over: bool,
}

impl Talk {
    fn new(seed: u64, port: u16) -> Talk {
        let mut noise = Noise::new(seed);
        let mut host = || Host {
            next: noise.word() as u32,
            seen: 0,
            has_opened: false,
            has_heard: false,
            has_closed: false,
        };
        let hosts = [host(), host()];
        Talk {
            ends: [end("10.0.0.1", port), end("10.0.0.2", 80)],
            hosts,
            noise,
            sent: vec![],
            is_over: false,
        }
    }

    /// Sends a segment and lets the other side see it, unless it is lost.
    fn send(&mut self, from: usize, flags: &str, (seq, ack): (u32, u32), payload: &[u8], is_lost: bool) {
        let frame = tcp(self.ends[from], self.ends[1 - from], flags, seq, ack, payload);
        self.sent.push(at(from as u8 + 1, frame));
        let taken = payload.len() as u32 + u32::from(flags.contains('S')) + u32::from(flags.contains('F'));
        if !is_lost && taken > 0 {
            self.hosts[1 - from].seen = seq.wrapping_add(taken);
            self.hosts[1 - from].has_heard = true;
        }
    }

    /// What a host that knows TCP sends next.
    fn proper(&mut self, from: usize) {
        let Host { next, seen, has_opened, has_heard, has_closed } = self.hosts[from];
        let is_lost = self.noise.below(8) == 0;
        match (from, has_heard) {
            // A SYN is repeated until it is answered, with the same number.
            (0, false) => {
                let first = if has_opened { next.wrapping_sub(1) } else { next };
                self.hosts[0].has_opened = true;
                self.hosts[0].next = first.wrapping_add(1);
                self.send(0, "S", (first, 0), b"", is_lost);
            }
            (1, false) => {}
            (1, true) if !has_opened => {
                self.hosts[1].has_opened = true;
                self.hosts[1].next = next.wrapping_add(1);
                self.send(1, "SA", (next, seen), b"", is_lost);
            }
            (1, true) if !self.hosts[0].has_heard => {
                self.send(1, "SA", (next.wrapping_sub(1), seen), b"", is_lost);
            }
            _ if !has_closed && self.noise.below(8) == 0 => {
                self.hosts[from].has_closed = true;
                self.hosts[from].next = next.wrapping_add(1);
                self.send(from, "FA", (next, seen), b"", is_lost);
            }
            _ if !has_closed && self.noise.below(2) == 0 => {
                let length = 1 + self.noise.below(1_000);
                self.hosts[from].next = next.wrapping_add(length as u32);
                self.send(from, "PA", (next, seen), &vec![0x55; length], is_lost);
            }
            _ => self.send(from, "A", (next, seen), b"", is_lost),
        }
    }

    /// Whether it may be that a connection is closed on one side.
    fn may_be_closed(&self) -> bool {
        self.hosts.iter().any(|host| host.has_closed)
    }

    /// Something that the network repeats.
    fn again(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let i = self.noise.below(self.sent.len());
        if let Step::Frames(port, frames) = &self.sent[i] {
            let is_syn = frames.iter().any(|frame| frame[ETHERNET + 33] & 0x12 == 0x02);
            if !is_syn || !self.may_be_closed() {
                self.sent.push(Step::Frames(*port, frames.clone()));
            }
        }
    }

    /// Something forged: any flags, numbers near the right ones, far from them, or anywhere.
    fn forged(&mut self, from: usize) {
        let flags = ["S", "SA", "A", "PA", "FA", "F", "R", "RA", "", "SF", "FPU", "SAE", "PA", "A"];
        let flags = flags[self.noise.below(flags.len())];
        let is_syn = flags == "S";
        if is_syn && from == 1 || (is_syn || flags.contains('R')) && self.may_be_closed() {
            return;
        }
        let Host { next, seen, .. } = self.hosts[from];
        if flags.contains('R') {
            self.is_over = true;
            self.send(from, flags, (next, seen), b"", true);
            return;
        }
        let mut off = |by: u32| match self.noise.below(5) {
            0 | 1 => by,
            2 => by.wrapping_add(self.noise.below(7) as u32).wrapping_sub(3),
            3 => by.wrapping_add((self.noise.below(400_000) as u32).wrapping_sub(200_000)),
            _ => self.noise.word() as u32,
        };
        let numbers = (off(next), off(seen));
        let payload = vec![0xaa; if self.noise.below(3) == 0 { self.noise.below(600) } else { 0 }];
        self.hosts[from].has_closed |= flags.contains('F');
        self.send(from, flags, numbers, &payload, true);
    }

    /// So many packets, of which `forged` in a hundred are forged.
    fn packets(mut self, count: usize, forged: usize) -> Vec<Step> {
        while self.sent.len() < count && !self.is_over {
            let from = self.noise.below(2);
            match self.noise.below(100) {
                n if n < forged && self.hosts[0].has_heard => self.forged(from),
                n if n < forged + 10 => self.again(),
                n if n < forged + 13 => self.sent.push(Step::Wait(1 + self.noise.below(4) as u64)),
                _ => self.proper(from),
            }
        }
        self.sent
    }
}

fn conversations(seed: u64, forged: usize) -> Vec<Step> {
    let each =
        (0..CONVERSATIONS).map(|n| Talk::new(seed + n as u64, 2_000 + n as u16).packets(PACKETS, forged));
    each.flatten().collect()
}

fn agree(seed: u64, forged: usize) {
    let mut pair = Pair::start();
    let mut difference = None;
    {
        let mut theirs = Run::begin(&pair.real, false);
        let mut ours = Run::begin(&pair.ours, true);
        theirs.rules(PLAIN);
        ours.rules(PLAIN);
        let mut before = vec![];
        for step in conversations(seed, forged) {
            let [a, b] = [theirs.step(&step, true), ours.step(&step, true)];
            before.push(told(&step));
            if a != b {
                // What follows differs for this reason; what came before leads to it.
                let last = before.len().saturating_sub(2 * PACKETS);
                difference = Some((before[last..].join("\n"), a, b));
                break;
            }
        }
    }
    if let Some((what, theirs, ours)) = difference {
        pair.note(&what, &theirs, &ours);
    }
    pair.finish();
}

#[test]
fn hosts_that_know_tcp() {
    agree(1_000, 0);
}

#[test]
fn hosts_and_somebody_who_forges() {
    agree(2_000, 15);
}

#[test]
fn mostly_forged() {
    agree(3_000, 70);
}

/// The conversations are not all refused, nor all accepted.
#[test]
fn conversations_reach_every_state() {
    let real = Reference::start();
    let mut run = Run::begin(&real, false);
    run.rules(PLAIN);
    let mut seen = String::new();
    for step in conversations(2_000, 15) {
        seen.push_str(&run.step(&step, true));
    }
    for wanted in [
        "2 new+trk",
        "2 est+trk",
        "1 est+rpl+trk",
        "2 inv+trk",
        "1 inv+trk",
        "SYN_SENT",
        "ESTABLISHED",
        "CLOSING",
        "TIME_WAIT",
    ] {
        assert!(seen.contains(wanted), "never {wanted}");
    }
}
