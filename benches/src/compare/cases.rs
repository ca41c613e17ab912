//! What is compared: rules, frames and how a figure is taken. Both switches get the same text and the same bytes.

use super::workloads::{
    COOKIE_FIRST, COOKIES, PrefixRules, exact, explosion_frames, explosion_rules, policy_frame, policy_rules,
    service_frame, service_rules, victims_part,
};
use crate::Dice;
use crate::frames::{Frames, RECEIVER, SENDER};
use packet::FrameBuilder;
use std::sync::Arc;

/// Length of all frames without their frame check sequence, in bytes: Ethernet's least.
pub const FRAME_LEN: usize = 60;
/// The address that connections are translated to: documentation range of RFC 5737.
const SNAT_ADDRESS: u32 = 0xc633_6401;
/// The first destination; each connection has one of its own, so that its source port is free behind [`SNAT_ADDRESS`].
const SERVERS: u32 = 0x0a80_0000;

/// Cookie of the rule that connections are made by.
pub const COOKIE_NEW: u64 = 1;
/// Cookie of the rules for packets of established connections.
pub const COOKIE_ESTABLISHED: u64 = 2;
/// TCP flags (RFC 9293 §3.1) of a segment with data.
const TCP_PSH_ACK: u16 = 0x18;

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP: segments with data in the middle of a connection.
    Tcp,
}

/// What is done to frames that are not simply sent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Nothing.
    Forward,
    /// Forwarded, and its addresses and ports copied to registers, so that no wildcarded flow can stand for several.
    OwnFlow,
    /// Tracked.
    Track,
    /// Tracked, with the source translated.
    TrackNat,
    /// Forwarded by one of many rules over several masks.
    Rules {
        /// Rules.
        rules: usize,
        /// Masks.
        masks: usize,
    },
    /// Let through by three rules, among frames of tuple-space explosion or without them.
    Explosion {
        /// Whether there is an attack.
        attack: bool,
    },
    /// Sent to so many Services: both addresses are translated, in zones of their own.
    Service(usize),
    /// Tracked, and let through by so many policies.
    Policies(usize),
}

/// How a figure is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Figure {
    /// Frames a second, with everything established, the same frames over and over.
    Established,
    /// Frames a second where each frame begins something new.
    New,
}

/// One row of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// Names the case on the command line and in JSON.
    pub name: &'static str,
    /// What the row says.
    pub title: &'static str,
    /// Flows or connections.
    pub flows: usize,
    /// Their protocol.
    pub transport: Transport,
    /// What is done.
    pub work: Work,
    /// How it is measured.
    pub figure: Figure,
}

macro_rules! cases {
    ($($name:literal $title:literal $flows:literal $transport:ident $figure:ident $work:expr;)*) => {
        /// All rows, in order.
        pub const CASES: &[Case] = &[$(Case {
            name: $name,
            title: $title,
            flows: $flows,
            transport: Transport::$transport,
            work: $work,
            figure: Figure::$figure,
        }),*];
    };
}

cases! {
    "forward-1" "port to port, 1 flow" 1 Udp Established Work::Forward;
    "forward-100000" "port to port, 100,000 flows" 100_000 Udp Established Work::Forward;
    "ct-1" "established, 1 connection" 1 Udp Established Work::Track;
    "ct-1000" "established, 1,000 connections" 1_000 Udp Established Work::Track;
    "ct-100000" "established, 100,000 connections" 100_000 Udp Established Work::Track;
    "ct-tcp-1000" "established TCP, 1,000 connections" 1_000 Tcp Established Work::Track;
    "ct-tcp-100000" "established TCP, 100,000 connections" 100_000 Tcp Established Work::Track;
    "nat-1" "ct and NAT, 1 connection" 1 Udp Established Work::TrackNat;
    "nat-1000" "ct and NAT, 1,000 connections" 1_000 Udp Established Work::TrackNat;
    "nat-100000" "ct and NAT, 100,000 connections" 100_000 Udp Established Work::TrackNat;
    "ct-1000000" "established, 1,000,000 connections (OVS 100,000)" 1_000_000 Udp Established Work::Track;
    "rules-1000-masks-20" "1,000 rules, 20 masks, 100,000 flows" 100_000 Udp Established
        Work::Rules { rules: 1_000, masks: 20 };
    "rules-10000-masks-20" "10,000 rules, 20 masks, 100,000 flows" 100_000 Udp Established
        Work::Rules { rules: 10_000, masks: 20 };
    "attack-none" "three allow rules, a victim alone" 1_000 Udp Established Work::Explosion { attack: false };
    "attack-tse" "the same under tuple-space explosion, victim's frames" 1_000 Udp Established
        Work::Explosion { attack: true };
    "new-flow" "flow set-up, 20,000 flows" 20_000 Udp New Work::OwnFlow;
    "new-ct" "new connections, to 1,000,000" 1_000_000 Udp New Work::Track;
    "new-nat" "new connections and NAT, to 1,000,000" 1_000_000 Udp New Work::TrackNat;
    "new-service" "new connections to 100 Services, to 200,000" 200_000 Udp New Work::Service(100);
}

/// The most connections that are established in Open vSwitch: its pool has to hold every frame of both captures at once.
const THEIR_CONNECTIONS_MAX: usize = 100_000;

/// Rules that drop everything: what receiving alone costs.
pub fn floor_rules() -> Vec<String> {
    vec!["priority=0,actions=drop".to_owned()]
}

/// Frames for the two ports.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// What comes in at port 1.
    pub originals: Arc<Frames>,
    /// What comes in at port 2: answers, where there are any.
    pub replies: Arc<Frames>,
}

impl Case {
    /// The rules, in ovs-ofctl's language. A frame that none of them means to send is dropped.
    pub fn rules(&self) -> Vec<String> {
        let nat = self.work == Work::TrackNat;
        let mut rules = vec!["table=0,priority=0,actions=drop".to_owned()];
        match self.work {
            Work::Forward => rules.push("table=0,priority=10,in_port=1,actions=output:2".into()),
            Work::Rules { rules: number, masks } => rules.extend(PrefixRules::new(number, masks).text()),
            Work::Explosion { .. } => rules = explosion_rules(),
            Work::Service(services) => rules = service_rules(services, COOKIE_NEW, COOKIE_ESTABLISHED),
            Work::Policies(policies) => rules = policy_rules(policies, COOKIE_NEW, COOKIE_ESTABLISHED),
            Work::OwnFlow => rules.push(
                "table=0,priority=10,udp,in_port=1,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],\
                 move:NXM_OF_UDP_SRC[]->NXM_NX_REG1[0..15],output:2"
                    .into(),
            ),
            Work::Track | Work::TrackNat => {
                let pass = if nat { "ct(nat,table=1)" } else { "ct(table=1)" };
                let commit = if nat { "ct(commit,nat(src=198.51.100.1))" } else { "ct(commit)" };
                rules.extend([
                    format!("table=0,priority=10,ip,actions={pass}"),
                    "table=1,priority=0,actions=drop".to_owned(),
                    format!(
                        "cookie={COOKIE_NEW},table=1,priority=10,ip,in_port=1,ct_state=+trk+new,\
                         actions={commit},output:2"
                    ),
                    format!(
                        "cookie={COOKIE_ESTABLISHED},table=1,priority=10,ip,in_port=1,ct_state=+trk+est,\
                         actions=output:2"
                    ),
                    format!(
                        "cookie={COOKIE_ESTABLISHED},table=1,priority=10,ip,in_port=2,ct_state=+trk+est,\
                         actions=output:1"
                    ),
                ]);
            }
        }
        rules
    }

    /// Whether frames are tracked.
    pub fn tracks(&self) -> bool {
        matches!(self.work, Work::Track | Work::TrackNat | Work::Service(_) | Work::Policies(_))
    }

    /// Connections that all frames together make.
    pub fn connections(&self) -> usize {
        match self.work {
            Work::Track | Work::TrackNat | Work::Policies(_) => self.flows,
            Work::Service(_) => 2 * self.flows,
            _ => 0,
        }
    }

    /// What Open vSwitch is measured with instead, where it cannot be measured with the same.
    pub fn theirs(&self) -> Case {
        let established = self.figure == Figure::Established && self.tracks();
        Case { flows: if established { self.flows.min(THEIR_CONNECTIONS_MAX) } else { self.flows }, ..*self }
    }

    /// The part of the frames that counts: what is forwarded.
    pub fn wanted_part(&self) -> f64 {
        match self.work {
            Work::Explosion { attack } => victims_part(attack),
            _ => 1.0,
        }
    }

    /// Whether Open vSwitch needs so many cached flows that it is long until all are there, and then not for ever.
    pub fn takes_time(&self) -> bool {
        matches!(self.work, Work::Rules { .. } | Work::Explosion { .. })
    }

    /// Cookies by whose counts it is told whether the same rules meet the same part of the frames; none where connections
    /// tell.
    pub fn cookies(&self) -> std::ops::Range<u64> {
        match self.work {
            Work::Rules { .. } => COOKIE_FIRST..COOKIE_FIRST + COOKIES,
            Work::Explosion { attack } => COOKIE_FIRST..COOKIE_FIRST + if attack { 2 } else { 1 },
            _ => 0..0,
        }
    }

    /// The frames, in the order in which both switches get them. Established traffic comes in random order, one for
    /// originals and another for replies; what is new comes in order of addresses.
    pub fn traffic(&self) -> Traffic {
        let established = self.figure == Figure::Established;
        let shuffled = |mut frames: Vec<Vec<u8>>| {
            if established {
                Dice(5).shuffle(&mut frames);
            }
            frames.into_iter().collect()
        };
        let originals = match self.work {
            Work::Rules { rules, masks } => shuffled(PrefixRules::new(rules, masks).frames(self.flows)),
            Work::Explosion { attack } => shuffled(explosion_frames(attack)),
            _ => self.frames(self.flows, false, established.then_some(5)),
        };
        let replies = if established && self.tracks() { self.flows } else { 0 };
        let replies = self.frames(replies, true, established.then_some(6));
        Traffic { originals: Arc::new(originals), replies: Arc::new(replies) }
    }

    /// Frames of the first connections in one direction, in an order that is random if there is a seed.
    fn frames(&self, connections: usize, reply: bool, seed: Option<u64>) -> Frames {
        let mut order: Vec<u32> = Vec::new();
        if let Some(seed) = seed {
            order.extend(0..connections as u32);
            Dice(seed).shuffle(&mut order);
        }
        let frame = |at: usize| self.frame(order.get(at).map_or(at, |n| *n as usize), reply);
        Frames::from_fn(connections, FRAME_LEN, frame)
    }

    /// The frame of a connection in one direction.
    pub fn frame(&self, n: usize, reply: bool) -> Vec<u8> {
        match self.work {
            Work::Service(services) => return service_frame(n, services, reply),
            Work::Policies(policies) => return policy_frame(n, policies, reply),
            _ => {}
        }
        let n = n as u32;
        let client = (0x0a01_0000 + (n >> 8), 1024 + (n & 0xff) as u16);
        let server = (SERVERS + n, if self.transport == Transport::Tcp { 443 } else { 53 });
        let seen = if self.work == Work::TrackNat { (SNAT_ADDRESS, client.1) } else { client };
        let (src, dst) = if reply { (server, seen) } else { (client, server) };
        let (from, to) = if reply { (RECEIVER, SENDER) } else { (SENDER, RECEIVER) };
        let builder = match self.transport {
            Transport::Udp => FrameBuilder::udp4(src, dst).payload(&[0x5a; FRAME_LEN - 14 - 20 - 8]),
            // Either end sends the same six bytes again and again, and acknowledges what the other has sent.
            Transport::Tcp => {
                let (own, other) = if reply { (2_000, 1_000) } else { (1_000, 2_000) };
                FrameBuilder::tcp4(src, dst, TCP_PSH_ACK)
                    .tcp_numbers(own, other + 6)
                    .payload(&[0x5a; FRAME_LEN - 14 - 20 - 20])
            }
        };
        exact(builder.macs(from, to).build())
    }
}

/// A capture file of these frames in the classic format (tcpdump's, microseconds, little endian).
pub fn pcap(frames: &Frames) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    // Magic, version 2.4 as two halves, zone, accuracy, longest frame, Ethernet.
    let mut out = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1]);
    for frame in frames.iter() {
        let len = frame.len() as u32;
        out.extend(words(&[0, 0, len, len]));
        out.extend(frame);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    type Ends = ((Ipv4Addr, u16), (Ipv4Addr, u16));

    fn ends(frame: &[u8]) -> Ends {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
        let (src, dst) = (ip.header().source_addr(), ip.header().destination_addr());
        let (sport, dport) = match packet.transport.unwrap() {
            TransportSlice::Udp(udp) => {
                let sum = udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload());
                assert_eq!(sum.unwrap(), udp.checksum());
                (udp.source_port(), udp.destination_port())
            }
            TransportSlice::Tcp(tcp) => {
                let sum = tcp.to_header().calc_checksum_ipv4(&ip.header().to_header(), tcp.payload());
                assert_eq!(sum.unwrap(), tcp.checksum());
                (tcp.source_port(), tcp.destination_port())
            }
            other => panic!("{other:?}"),
        };
        ((src, sport), (dst, dport))
    }

    #[test]
    fn every_connection_has_a_frame_each_way_and_they_belong_together() {
        for case in CASES.iter().filter(|c| c.figure == Figure::Established && c.tracks()) {
            let case = Case { flows: case.flows.min(1_000), ..*case };
            let traffic = case.traffic();
            let snat = (case.work == Work::TrackNat).then(|| Ipv4Addr::from(SNAT_ADDRESS));
            let expected: HashSet<Ends> = traffic
                .originals
                .iter()
                .map(ends)
                .map(|(client, server)| (server, (snat.unwrap_or(client.0), client.1)))
                .collect();
            let found: HashSet<Ends> = traffic.replies.iter().map(ends).collect();
            assert_eq!(expected.len(), case.flows, "{}: tuples differ, translated ones too", case.name);
            assert_eq!(expected, found, "{}", case.name);
            assert!(traffic.originals.iter().chain(traffic.replies.iter()).all(|f| f.len() == FRAME_LEN));
        }
    }

    #[test]
    fn new_flows_come_once_each() {
        for case in CASES.iter().filter(|c| c.figure == Figure::New) {
            let traffic = Case { flows: 20_000, ..*case }.traffic();
            let distinct: HashSet<Ends> = traffic.originals.iter().map(ends).collect();
            assert_eq!((distinct.len(), traffic.replies.len()), (20_000, 0));
        }
    }

    #[test]
    fn names_are_unique() {
        assert_eq!(CASES.iter().map(|c| c.name).collect::<HashSet<_>>().len(), CASES.len());
    }

    #[test]
    fn capture_is_read_by_another_implementation() {
        use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, traits::PcapReaderIterator};
        let frames = Case { flows: 3, ..CASES[0] }.traffic().originals;
        let bytes = pcap(&frames);
        let mut reader = LegacyPcapReader::new(65_536, &bytes[..]).unwrap();
        let mut read = Vec::new();
        loop {
            match reader.next() {
                Ok((offset, block)) => {
                    if let PcapBlockOwned::Legacy(packet) = block {
                        read.push(packet.data.to_vec());
                    }
                    reader.consume(offset);
                }
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(read, frames.to_vecs());
    }
}
