//! What is done to a super-frame is what would have been done to its segments: cut before the switch or behind it, the
//! receiver gets the same bytes, whatever is rewritten, pushed, popped or translated on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod world;

use datapath::DpAction;
use datapath::conntrack::{CtSpec, NatKind, NatSpec, PortSelection};
use etherparse::{NetHeaders, TransportHeader};
use packet::checksum::Sum;
use packet::segment::Segments;
use packet::{Checksum, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, slot};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;
use world::{Answer, Fake, World, output};

const SRC: (u32, u16) = (0x0a00_0001, 40_000);
const DST: (u32, u16) = (0x0a00_0002, 443);
const SRC6: (u128, u16) = (0xfd00 << 112 | 1, 40_000);
const DST6: (u128, u16) = (0xfd00 << 112 | 2, 443);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
}

impl Kind {
    fn is_ipv6(self) -> bool {
        matches!(self, Kind::Tcp6 | Kind::Udp6)
    }

    fn is_tcp(self) -> bool {
        matches!(self, Kind::Tcp4 | Kind::Tcp6)
    }
}

#[derive(Clone, Debug)]
struct Burst {
    kind: Kind,
    payload: Vec<u8>,
    size: u16,
    tags: Vec<u16>,
    flags: u16,
    numbers: (u32, u32),
    identification: u16,
}

impl Burst {
    /// The super-frame as a guest with all offloads sends it: the checksum's field holds the sum of the pseudo header.
    fn frame(&self) -> Frame {
        let builder = match self.kind {
            Kind::Tcp4 => FrameBuilder::tcp4(SRC, DST, self.flags),
            Kind::Tcp6 => FrameBuilder::tcp6(SRC6, DST6, self.flags),
            Kind::Udp4 => FrameBuilder::udp4(SRC, DST),
            Kind::Udp6 => FrameBuilder::udp6(SRC6, DST6),
        };
        let mut builder = builder.payload(&self.payload);
        if !self.kind.is_ipv6() {
            builder = builder.identification(self.identification);
        }
        if self.kind.is_tcp() {
            builder = builder.tcp_numbers(self.numbers.0, self.numbers.1).tcp_options(&[1; 12]);
        }
        for tag in &self.tags {
            builder = builder.vlan(0x8100, *tag);
        }
        let mut frame = Frame::from_bytes(&builder.build());
        PacketKey::extract(&mut frame).unwrap();
        let start = frame.layers.l4;
        let offset = if self.kind.is_tcp() { 16 } else { 6 };
        let field = (start + offset) as usize;
        let transport_len = frame.len() - start as usize;
        frame.bytes_mut()[field..field + 2].copy_from_slice(&self.pseudo_sum(transport_len).to_be_bytes());
        frame.checksum = Checksum::Partial { start, offset };
        frame.segmentation = match self.kind {
            Kind::Tcp4 => Segmentation::TcpV4 { size: self.size, ecn: false },
            Kind::Tcp6 => Segmentation::TcpV6 { size: self.size, ecn: false },
            _ => Segmentation::UdpL4 { size: self.size },
        };
        frame
    }

    fn pseudo_sum(&self, transport_len: usize) -> u16 {
        let protocol = if self.kind.is_tcp() { 6 } else { 17 };
        let sum = if self.kind.is_ipv6() {
            Sum::pseudo_v6(SRC6.0, DST6.0, protocol, transport_len as u32)
        } else {
            Sum::pseudo_v4(SRC.0, DST.0, protocol, transport_len as u16)
        };
        sum.folded()
    }
}

fn burst() -> impl Strategy<Value = Burst> {
    let kind = prop_oneof![Just(Kind::Tcp4), Just(Kind::Tcp6), Just(Kind::Udp4), Just(Kind::Udp6)];
    // ACK always, so that the tracker takes the stream up in its middle; PSH, FIN, CWR and ECE, but no SYN nor RST.
    let flags = (0..2u16, 0..2u16, 0..4u16).prop_map(|(fin, psh, ecn)| 0x10 | fin | psh << 3 | ecn << 6);
    let rest = (any::<(u32, u32)>(), any::<u16>());
    let payload = prop_oneof![4 => vec(any::<u8>(), 1..6000), 1 => vec(any::<u8>(), 1..64)];
    (kind, payload, 1..1500u16, vec(0..4096u16, 0..2), flags, rest).prop_map(
        |(kind, payload, size, tags, flags, (numbers, identification))| {
            // At most as many segments as the kernel makes of one; a payload that needs none announces them all the same.
            let size = size.max(payload.len().div_ceil(64) as u16);
            Burst { kind, payload, size, tags, flags, numbers, identification }
        },
    )
}

#[derive(Clone, Debug)]
enum Change {
    Field(packet::Slot, u128, u128),
    Push(u16, u16),
    Pop,
    Source,
    Destination,
}

impl Change {
    fn action(&self, is_ipv6: bool) -> DpAction {
        let translation = |kind, v4: &str, v6: &str, port| {
            let ip: IpAddr = if is_ipv6 { v6.parse().unwrap() } else { v4.parse().unwrap() };
            let range = (Some(ip), Some(ip));
            let nat = NatSpec::new(kind, range, (port, port), PortSelection::Default, false).unwrap();
            DpAction::Ct(Arc::new(CtSpec { commit: true, nat: Some(nat), ..CtSpec::default() }))
        };
        match *self {
            Change::Field(slot, value, mask) => DpAction::SetField { slot, value: value & mask, mask },
            Change::Push(tpid, tci) => DpAction::PushVlan { tpid, tci },
            Change::Pop => DpAction::PopVlan,
            Change::Source => translation(NatKind::Src, "192.0.2.7", "2001:db8::7", None),
            Change::Destination => translation(NatKind::Dst, "192.0.2.8", "2001:db8::8", Some(8443)),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let field = |slot, bits: u32| {
        let all = u128::MAX >> (128 - bits);
        (any::<u128>(), any::<u128>()).prop_map(move |(value, mask)| Change::Field(slot, value, mask & all))
    };
    prop_oneof![
        field(slot::NW_SRC, 32),
        field(slot::NW_DST, 32),
        field(slot::IPV6_SRC, 128),
        field(slot::IPV6_DST, 128),
        field(slot::TP_SRC, 16),
        field(slot::TP_DST, 16),
        field(slot::NW_TTL, 8),
        field(slot::NW_TOS, 8),
        field(slot::DL_SRC, 48),
        field(slot::DL_DST, 48),
        (any::<bool>(), any::<u16>())
            .prop_map(|(inner, tci)| Change::Push(if inner { 0x8100 } else { 0x88a8 }, tci)),
        Just(Change::Pop),
        Just(Change::Source),
        Just(Change::Destination),
    ]
}

/// Cuts a frame if it is to be, and completes it, by the layers that are known: what a device without offloads would put on
/// the wire.
fn on_the_wire(frame: Frame) -> Vec<Vec<u8>> {
    let mut pool = FramePool::new(1);
    match Segments::new(frame) {
        Ok(mut segments) => {
            std::iter::from_fn(|| segments.next_segment(&mut pool)).map(|s| s.bytes().to_vec()).collect()
        }
        Err(mut frame) => {
            frame.complete_checksum();
            vec![frame.bytes().to_vec()]
        }
    }
}

/// A worker that does the changes and then something more.
fn world(changes: &[Change], is_ipv6: bool, end: DpAction) -> World {
    let actions: Vec<DpAction> = changes.iter().map(|c| c.action(is_ipv6)).chain([end]).collect();
    World::new(Fake::new(&[], move |_| Answer::new(actions.clone())), 2)
}

fn upcall() -> DpAction {
    DpAction::Upcall { max_len: u32::MAX, cookie: Arc::new(5u32) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn cut_before_or_behind_the_bytes_are_the_same(burst in burst(), changes in vec(change(), 0..5)) {
        let mut whole = world(&changes, burst.kind.is_ipv6(), output(2));
        whole.wire(1).push_frame(burst.frame());
        whole.settle();
        let out = whole.sink(2).take_frames();
        prop_assert_eq!(out.len(), 1, "a super-frame crosses in one piece");
        let behind: Vec<Vec<u8>> = out.into_iter().flat_map(on_the_wire).collect();
        let mut cut = world(&changes, burst.kind.is_ipv6(), output(2));
        let segments = on_the_wire(burst.frame());
        prop_assert_eq!(segments.len(), burst.payload.len().div_ceil(burst.size as usize));
        for segment in &segments {
            cut.wire(1).push(segment);
        }
        cut.settle();
        let before: Vec<Vec<u8>> = cut.sink(2).take_frames().into_iter().flat_map(on_the_wire).collect();
        prop_assert_eq!(behind, before);
        whole.check_conservation();
        cut.check_conservation();
    }

    /// A controller takes frames for what they are: it gets what the receiver would have got.
    #[test]
    fn what_is_punted_is_complete(burst in burst(), changes in vec(change(), 0..5), is_cut in any::<bool>()) {
        let sent = if is_cut { on_the_wire(burst.frame()) } else { vec![] };
        let mut punting = world(&changes, burst.kind.is_ipv6(), upcall());
        let mut sending = world(&changes, burst.kind.is_ipv6(), output(2));
        for world in [&punting, &sending] {
            match is_cut {
                true => sent.iter().for_each(|segment| world.wire(1).push(segment)),
                false => world.wire(1).push_frame(burst.frame()),
            }
        }
        let punts = punting.snapshot.load().punts.clone();
        punting.settle();
        sending.settle();
        let wire: Vec<Vec<u8>> = sending.sink(2).take_frames().into_iter().flat_map(on_the_wire).collect();
        let punts: Vec<_> = punts.lock().unwrap().iter().map(|p| (p.bytes.clone(), p.total_len)).collect();
        let expected: Vec<_> = wire.into_iter().map(|bytes| (bytes.clone(), bytes.len())).collect();
        prop_assert_eq!(punts, expected);
        punting.check_conservation();
    }

    /// Without anything to be cut, what a checksum left to a device comes to is what everybody else computes.
    #[test]
    fn a_partial_checksum_is_complete_when_punted(mut burst in burst()) {
        burst.size = u16::MAX;
        let mut frame = burst.frame();
        frame.segmentation = Segmentation::None;
        let mut world = world(&[], burst.kind.is_ipv6(), upcall());
        let punts = world.snapshot.load().punts.clone();
        world.wire(1).push_frame(frame);
        world.settle();
        let punts = punts.lock().unwrap();
        prop_assert_eq!(punts.len(), 1);
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&punts[0].bytes).unwrap();
        let payload = packet.payload.slice();
        match (packet.net.unwrap(), packet.transport.unwrap()) {
            (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
                prop_assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, payload).unwrap());
            }
            (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
                prop_assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, payload).unwrap());
            }
            (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
                prop_assert_eq!(udp.checksum, udp.calc_checksum_ipv4(&ip, payload).unwrap());
            }
            (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
                prop_assert_eq!(udp.checksum, udp.calc_checksum_ipv6(&ip, payload).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}
