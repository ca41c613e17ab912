//! The tracker against a slow model that is right at a glance: a list of connections, looked through from the start, ended
//! by the clock, with the state of each end as a word. Random packets of a few ends that keep their own TCP numbers, random
//! pauses, random `ct()` arguments.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use conntrack_support::*;
use datapath::conntrack::*;
use packet::{Frame, FrameBuilder};
use proptest::prelude::*;
use std::time::Duration;

/// What a TCP end was seen to have done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Did {
    Nothing,
    Send,
    SendAndWasAcknowledged,
    Finish,
    FinishAndWasAcknowledged,
    /// It, or the other, reset the connection.
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Debug)]
struct Known {
    zone: u16,
    protocol: Protocol,
    /// Who sent the first packet, and to whom.
    from: usize,
    to: usize,
    did: [Did; 2],
    packets: [u32; 2],
    heard: [bool; 2],
    last: u64,
}

impl Known {
    fn life_secs(&self) -> u64 {
        let [a, b] = self.did;
        let replied = self.packets[1] > 0;
        match self.protocol {
            Protocol::Udp | Protocol::Icmp => {
                if replied {
                    30
                } else {
                    60
                }
            }
            Protocol::Tcp => {
                let finished = |d: Did| d >= Did::Finish;
                let over = |d: Did| d >= Did::FinishAndWasAcknowledged;
                if over(a) && over(b) {
                    30
                } else if finished(a) && finished(b) {
                    45
                } else if a < Did::SendAndWasAcknowledged || b < Did::SendAndWasAcknowledged {
                    30
                } else if finished(a) || finished(b) {
                    900
                } else {
                    86_400
                }
            }
        }
    }
}

/// One step.
#[derive(Clone, Debug)]
enum Step {
    Packet {
        zone: u16,
        protocol: Protocol,
        from: usize,
        to: usize,
        flags: u16,
        len: u16,
        far: bool,
        commit: bool,
        force: bool,
    },
    Pause {
        secs: u64,
        expire: bool,
    },
    Flush {
        zone: u16,
    },
}

const ENDS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp), 1 => Just(Protocol::Icmp)];
    let flags = prop_oneof![
        4 => Just(SYN), 4 => Just(SYN_ACK), 6 => Just(ACK), 2 => Just(PSH_ACK), 3 => Just(FIN_ACK),
        1 => Just(RST), 1 => Just(RST_ACK), 1 => prop_oneof![Just(0u16), Just(3), Just(6), Just(0x29), Just(1)],
    ];
    let packet = (0u16..2, protocol, (0..ENDS, 1..ENDS), flags, 0u16..100, (0..12u8, 0..8u8, 0..20u8))
        .prop_map(|(zone, protocol, (from, more), flags, len, (far, commit, force))| Step::Packet {
            zone,
            protocol,
            from,
            to: (from + more) % ENDS,
            flags,
            len,
            far: far == 0,
            commit: commit != 0,
            force: force == 0,
        });
    let pause = (prop_oneof![Just(0u64), Just(5), Just(25), Just(50), Just(800)], any::<bool>())
        .prop_map(|(secs, expire)| Step::Pause { secs, expire });
    let flush = (0u16..2).prop_map(|zone| Step::Flush { zone });
    proptest::collection::vec(prop_oneof![30 => packet, 4 => pause, 1 => flush], 1..80)
}

/// The model, and the ends with their numbers: `next[zone][from][to]`.
struct Model {
    known: Vec<Known>,
    now_ms: u64,
    next: [[[u32; ENDS]; ENDS]; 2],
}

/// What a packet of TCP carries.
#[derive(Clone, Copy)]
struct Numbers {
    seq: u32,
    ack: u32,
}

/// Further than any window reaches, even the 1 GiB taken for that of a connection picked up in the middle.
const FAR: u32 = 0x5000_0000;
/// Between the initial sequence numbers of one end's successive connections.
const RENEWAL: u32 = 0x6000_0000;

impl Model {
    fn new() -> Model {
        let mut next = [[[0; ENDS]; ENDS]; 2];
        for (n, number) in next.iter_mut().flatten().flatten().enumerate() {
            *number = n as u32 * 0x0765_4321;
        }
        Model { known: Vec::new(), now_ms: 0, next }
    }

    fn forget_old(&mut self) {
        let now = self.now_ms;
        self.known.retain(|k| now - k.last < k.life_secs() * 1000);
    }

    fn numbers(&self, zone: u16, from: usize, to: usize, flags: u16, far: bool) -> Numbers {
        let next = &self.next[zone as usize];
        let seq = match flags & SYN != 0 && flags & ACK == 0 {
            true => next[from][to].wrapping_add(RENEWAL),
            false if far => next[from][to].wrapping_add(FAR),
            false => next[from][to],
        };
        Numbers { seq, ack: if flags & ACK != 0 { next[to][from] } else { 0 } }
    }

    fn sent(&mut self, zone: u16, from: usize, to: usize, flags: u16, len: u16, numbers: Numbers) {
        let count = u32::from(len) + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.next[zone as usize][from][to] = numbers.seq.wrapping_add(count);
    }

    /// The state that a packet must be in.
    fn packet(&mut self, step: &Step, numbers: Numbers) -> CtState {
        let Step::Packet { zone, protocol, from, to, flags, len, far, commit, force } = *step else {
            unreachable!("a packet")
        };
        self.forget_old();
        let is_tcp = protocol == Protocol::Tcp;
        let is_syn = flags & SYN != 0 && flags & ACK == 0;
        if is_tcp && matches!(flags, 0 | 3 | 6 | 0x29 | 1) {
            return INV;
        }
        let same = |k: &Known| {
            k.zone == zone
                && k.protocol == protocol
                && ((k.from, k.to) == (from, to) || (k.from, k.to) == (to, from))
        };
        let place = self.known.iter().position(same);
        // An echo goes from whoever is less to whoever is more, and its answer back.
        let is_answer = protocol == Protocol::Icmp && from > to;
        if let Some(place) = place {
            let is_reply = self.known[place].from != from;
            let may_begin = !(is_answer || is_tcp && flags & (SYN | ACK) == SYN | ACK);
            if commit && force && is_reply && may_begin {
                self.known.remove(place);
                return self.first(step, numbers);
            }
            let mut k = self.known[place].clone();
            let (me, other) = if is_reply { (1, 0) } else { (0, 1) };
            if is_tcp {
                if is_syn
                    && k.did[0] >= Did::FinishAndWasAcknowledged
                    && k.did[1] >= Did::FinishAndWasAcknowledged
                {
                    self.known.remove(place);
                    return self.first(step, numbers);
                }
                if is_syn && !is_reply && k.did[0] == Did::Send {
                    if k.did[1] == Did::Nothing {
                        self.sent(zone, from, to, flags, len, numbers);
                    }
                    k.last = self.now_ms;
                    self.known[place] = k;
                    return NEW;
                }
                // Once an end was heard, it must go on where it was.
                if (is_syn || far && len > 0) && k.heard[me] {
                    return INV;
                }
                k.heard[me] = true;
                if k.did[me] == Did::Nothing {
                    k.did[me] = Did::Send;
                }
                if flags & FIN != 0 && k.did[me] < Did::Finish {
                    k.did[me] = Did::Finish;
                }
                if flags & ACK != 0 {
                    k.did[other] = match k.did[other] {
                        Did::Send => Did::SendAndWasAcknowledged,
                        Did::Finish => Did::FinishAndWasAcknowledged,
                        did => did,
                    };
                }
                if flags & RST != 0 {
                    k.did = [Did::Reset; 2];
                }
                self.sent(zone, from, to, flags, len, numbers);
            }
            k.packets[me] += 1;
            k.last = self.now_ms;
            let is_known = k.packets[1] > 0;
            self.known[place] = k;
            return match (is_known, is_reply) {
                (false, _) => NEW,
                (true, false) => EST,
                (true, true) => EST_RPL,
            };
        }
        if is_tcp && flags & SYN != 0 && flags & ACK != 0 || is_answer {
            return INV;
        }
        self.first(step, numbers)
    }

    /// A packet that begins a connection.
    fn first(&mut self, step: &Step, numbers: Numbers) -> CtState {
        let Step::Packet { zone, protocol, from, to, flags, len, commit, .. } = *step else {
            unreachable!("a packet")
        };
        let is_tcp = protocol == Protocol::Tcp;
        if is_tcp && flags & SYN != 0 && flags & ACK != 0 || protocol == Protocol::Icmp && from > to {
            return INV;
        }
        if commit {
            let did = if is_tcp { [Did::Send, Did::Nothing] } else { [Did::Nothing; 2] };
            self.known.push(Known {
                zone,
                protocol,
                from,
                to,
                did,
                packets: [1, 0],
                heard: [true, false],
                last: self.now_ms,
            });
            if is_tcp {
                self.sent(zone, from, to, flags, len, numbers);
            }
        }
        NEW
    }
}

fn frame(step: &Step, numbers: Numbers) -> Frame {
    let Step::Packet { protocol, from, to, flags, len, .. } = *step else { unreachable!("a packet") };
    let (src, dst) = ((A + from as u32, 100 + from as u16), (A + to as u32, 100 + to as u16));
    let payload = vec![7; len as usize];
    match protocol {
        Protocol::Udp => Frame::from_bytes(&FrameBuilder::udp4(src, dst).payload(&payload).build()),
        Protocol::Tcp => {
            Frame::from_bytes(&tcp(src, dst, flags, numbers.seq, numbers.ack).payload(&payload).build())
        }
        Protocol::Icmp => echo(src.0, dst.0, if from < to { 8 } else { 0 }, 7),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_packet_is_as_the_model_says(steps in steps()) {
        let mut w = World::new();
        let mut model = Model::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Packet { zone, from, to, flags, far, len, commit, force, .. } => {
                    let numbers = model.numbers(*zone, *from, *to, *flags, *far && *len > 0);
                    let spec = CtSpec { zone: Zone(*zone), commit: *commit, force: *force, ..CtSpec::default() };
                    let is = w.send_frame(&spec, frame(step, numbers)).state();
                    let must = model.packet(step, numbers);
                    prop_assert_eq!(is, must, "step {}: {:?} of {:?}", number, step, model.known);
                }
                Step::Pause { secs, expire } => {
                    // A part of a second that never adds up to a whole one.
                    let time = Duration::from_millis(secs * 1000 + 370);
                    w.pass(time);
                    model.now_ms += time.as_millis() as u64;
                    if *expire {
                        w.expire();
                    }
                }
                Step::Flush { zone } => {
                    model.known.retain(|k| k.zone != *zone);
                    w.ct.flush(Some(Zone(*zone)), None);
                }
            }
            model.forget_old();
            let live = w.all();
            prop_assert_eq!(live.len(), model.known.len());
        }
        // In the end the wheel ends everything, and on time.
        let longest = model.known.iter().map(Known::life_secs).max().unwrap_or(0);
        w.pass(Duration::from_secs(longest + 2));
        w.expire();
        prop_assert_eq!(w.ct.connections(), 0);
    }
}
