//! One session, captured at both sides of a translation at once.

use crate::wire::{Segment, Side, View, cut, datagram, frame, quote, segment, whole};
use datapath::port::capture::CaptureWriter;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Header, Icmpv4Type, IpNumber};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Time from one step to the next.
const STEP: Duration = Duration::from_millis(1);
/// Time between frames of a step.
const FRAME: Duration = Duration::from_micros(2);

/// What two captures and a list of states are written from.
pub struct Session {
    at: Duration,
    /// What a client is called on its own side, and on the server's.
    pub inside: View,
    pub outside: View,
    client: Vec<(Duration, Vec<u8>)>,
    server: Vec<(Duration, Vec<u8>)>,
    states: String,
    identification: u16,
}

/// Whether a step's frames come out at the other side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Passes,
    Stops,
}
pub use Fate::{Passes, Stops};

impl Session {
    pub fn new(inside: View, outside: View) -> Session {
        Session {
            at: Duration::from_secs(1_700_000_000),
            inside,
            outside,
            client: Vec::new(),
            server: Vec::new(),
            states: String::new(),
            identification: 100,
        }
    }

    /// A step: packets sent by a side, and what arrives at the other if they pass.
    pub fn step(
        &mut self,
        from: Side,
        state: &str,
        fate: Fate,
        sent: impl IntoIterator<Item = Vec<u8>>,
        seen: impl IntoIterator<Item = Vec<u8>>,
    ) {
        self.at += STEP;
        let (mut at, word) = (self.at, if fate == Passes { "passes" } else { "stops" });
        self.states.push_str(&format!("{state} {word}\n"));
        let (own, other) = match from {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        };
        for packet in sent {
            own.push((at, frame(from, &packet)));
            at += FRAME;
        }
        for packet in seen.into_iter().filter(|_| fate == Passes) {
            other.push((at, frame(from, &packet)));
            at += FRAME;
        }
    }

    fn next_identification(&mut self) -> u16 {
        self.identification += 1;
        self.identification
    }

    /// The views of sender and receiver.
    fn views(&self, from: Side) -> (View, View) {
        match from {
            Side::Client => (self.inside, self.outside),
            Side::Server => (self.outside, self.inside),
        }
    }

    /// A UDP datagram in one packet; ports are those of client and server. Returns what was sent and what arrives, for
    /// errors to quote.
    pub fn udp(
        &mut self,
        from: Side,
        state: &str,
        fate: Fate,
        ports: (u16, u16),
        payload: &[u8],
    ) -> (Vec<u8>, Vec<u8>) {
        let identification = self.next_identification();
        let packet = |view: View| {
            let ends = view.ends(from);
            whole(ends, IpNumber::UDP, identification, &datagram(ends, directed(from, ports), payload))
        };
        let (own, other) = self.views(from);
        let (sent, seen) = (packet(own), packet(other));
        self.step(from, state, fate, [sent.clone()], [seen.clone()]);
        (sent, seen)
    }

    /// A UDP datagram in fragments, which are sent in the order that `order` gives and come out in the order of offsets.
    pub fn udp_in_fragments(
        &mut self,
        from: Side,
        state: &str,
        ports: (u16, u16),
        payload: &[u8],
        order: &[usize],
    ) {
        let identification = self.next_identification();
        let packets = |view: View| {
            let ends = view.ends(from);
            cut(ends, identification, &datagram(ends, directed(from, ports), payload))
        };
        let (own, other) = self.views(from);
        let sent = packets(own);
        assert_eq!(sent.len(), order.len());
        let sent = order.iter().map(|n| sent[*n].clone());
        self.step(from, state, Passes, sent.collect::<Vec<_>>(), packets(other));
    }

    /// An ICMP error about a packet of the client, from `router`, that quotes the header and `quoted` bytes.
    pub fn error(
        &mut self,
        router: IpAddr,
        state: &str,
        fate: Fate,
        what: DestUnreachableHeader,
        (inside, outside): (&[u8], &[u8]),
        quoted: usize,
    ) {
        let identification = self.next_identification();
        let packet = |to: IpAddr, about: &[u8]| {
            let payload = quote(about, quoted);
            let header =
                Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(what.clone()), payload);
            let message = [&header.to_bytes()[..], payload].concat();
            whole((router, to), IpNumber::ICMP, identification, &message)
        };
        let (sent, seen) = (packet(self.outside.client, outside), packet(self.inside.client, inside));
        self.step(Side::Server, state, fate, [sent], [seen]);
    }

    /// A TCP segment that belongs to no [`Tcp`], with the sender's own view.
    pub fn lone_syn(&mut self, from: Side, state: &str, ports: (u16, u16), view: View) {
        let identification = self.next_identification();
        let ends = view.ends(from);
        let syn = Segment { flags: "S", seq: 9, ack: 0, options: &[], payload: &[] };
        let packet = whole(ends, IpNumber::TCP, identification, &segment(ends, directed(from, ports), &syn));
        self.step(from, state, Stops, [packet], []);
    }

    /// Writes `<name>.client.pcap`, `<name>.server.pcap` and `<name>.states`.
    pub fn write(&self, directory: &Path, name: &str) {
        for (side, frames) in [("client", &self.client), ("server", &self.server)] {
            let mut writer = CaptureWriter::new(Vec::new()).unwrap();
            frames.iter().for_each(|(at, bytes)| writer.write(*at, bytes).unwrap());
            fs::write(directory.join(format!("{name}.{side}.pcap")), writer.into_inner()).unwrap();
        }
        fs::write(directory.join(format!("{name}.states")), &self.states).unwrap();
    }
}

fn directed(from: Side, (client, server): (u16, u16)) -> (u16, u16) {
    match from {
        Side::Client => (client, server),
        Side::Server => (server, client),
    }
}

/// A TCP connection. Each side has sequence numbers of its own for both ends, because text may grow on the way.
#[derive(Clone)]
pub struct Tcp {
    ports: (u16, u16),
    /// Next numbers of client and server as the client's side knows them.
    inside: (u32, u32),
    /// The same on the server's side.
    outside: (u32, u32),
}

impl Tcp {
    pub fn new(ports: (u16, u16)) -> Tcp {
        Tcp { ports, inside: (1_000, 500_000), outside: (1_000, 500_000) }
    }

    /// A segment whose text is the same on both sides.
    pub fn send(&mut self, s: &mut Session, from: Side, state: &str, flags: &str, text: &str) {
        self.translated(s, from, state, flags, (text, text));
    }

    /// A segment with its text on the client's and on the server's side. Returns it as both sides see it.
    pub fn translated(
        &mut self,
        s: &mut Session,
        from: Side,
        state: &str,
        flags: &str,
        texts: (&str, &str),
    ) -> (Vec<u8>, Vec<u8>) {
        let packets = self.peek(s, from, flags, texts, (&[], &[]));
        self.advance(from, flags, texts);
        self.put(s, from, state, packets)
    }

    /// A SYN with options, which may differ on the two sides.
    pub fn syn(&mut self, s: &mut Session, from: Side, state: &str, flags: &str, options: (&[u8], &[u8])) {
        let packets = self.peek(s, from, flags, ("", ""), options);
        self.advance(from, flags, ("", ""));
        self.put(s, from, state, packets);
    }

    /// A segment that is sent again later: does not move the numbers on.
    pub fn early(&mut self, s: &mut Session, from: Side, state: &str, flags: &str, texts: (&str, &str)) {
        let packets = self.peek(s, from, flags, texts, (&[], &[]));
        self.put(s, from, state, packets);
    }

    /// Client's connection set-up, without options.
    pub fn opens(&mut self, s: &mut Session, first: Side, states: [&str; 3]) {
        let second = if first == Side::Client { Side::Server } else { Side::Client };
        self.send(s, first, states[0], "S", "");
        self.send(s, second, states[1], "SA", "");
        self.send(s, first, states[2], "A", "");
    }

    fn peek(
        &self,
        s: &mut Session,
        from: Side,
        flags: &str,
        texts: (&str, &str),
        options: (&[u8], &[u8]),
    ) -> (Vec<u8>, Vec<u8>) {
        let identification = s.next_identification();
        let packet = |view: View, (client, server): (u32, u32), text: &str, options: &[u8]| {
            let (seq, ack) = if from == Side::Client { (client, server) } else { (server, client) };
            let ends = view.ends(from);
            let said = Segment { flags, seq, ack, options, payload: text.as_bytes() };
            whole(ends, IpNumber::TCP, identification, &segment(ends, directed(from, self.ports), &said))
        };
        let inside = packet(s.inside, self.inside, texts.0, options.0);
        (inside, packet(s.outside, self.outside, texts.1, options.1))
    }

    fn put(
        &self,
        s: &mut Session,
        from: Side,
        state: &str,
        (inside, outside): (Vec<u8>, Vec<u8>),
    ) -> (Vec<u8>, Vec<u8>) {
        match from {
            Side::Client => s.step(from, state, Passes, [inside.clone()], [outside.clone()]),
            Side::Server => s.step(from, state, Passes, [outside.clone()], [inside.clone()]),
        }
        (inside, outside)
    }

    fn advance(&mut self, from: Side, flags: &str, texts: (&str, &str)) {
        let control = flags.chars().filter(|f| matches!(f, 'S' | 'F')).count() as u32;
        for (numbers, text) in [(&mut self.inside, texts.0), (&mut self.outside, texts.1)] {
            let number = if from == Side::Client { &mut numbers.0 } else { &mut numbers.1 };
            *number += control + text.len() as u32;
        }
    }
}
