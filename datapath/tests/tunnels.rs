//! Programs with tunnels, through a worker: what is sent, to whom, and that every frame ends in one counted way.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use base::HashSeed;
use datapath::conntrack::{CtSpec, Zone};
use datapath::{Command, DpAction, Drop, RecircId};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::tunnel::{TunnelProtocol, TunnelPush};
use packet::{Checksum, DpPort, Frame, FrameBuilder, PacketKey, Segmentation, Sum, slot};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use world::*;

/// The port that frames out of tunnels come in on.
const TUNNEL: u32 = 9;

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn push(mtu: u16) -> DpAction {
    let vxlan = TunnelPush { vni: Some(7), mtu, ..TunnelPush::new(TunnelProtocol::Vxlan, ip(1), ip(2)) };
    DpAction::PushTunnel(Arc::new(vxlan))
}

fn pop() -> DpAction {
    DpAction::PopTunnel { protocol: TunnelProtocol::Vxlan, port: DpPort(TUNNEL) }
}

fn program(steps: Vec<DpAction>) -> Fake {
    Fake::new(&[], move |_| Answer::new(steps.clone()))
}

/// What is in a VXLAN packet, whose headers etherparse must find in order.
fn inside(packet: &[u8]) -> &[u8] {
    let parsed = SlicedPacket::from_ethernet(packet).unwrap();
    let Some(NetSlice::Ipv4(outer)) = &parsed.net else { panic!("{parsed:?}") };
    assert_eq!(outer.header().source_addr(), std::net::Ipv4Addr::new(192, 0, 2, 1));
    let Some(TransportSlice::Udp(udp)) = parsed.transport else { panic!("{parsed:?}") };
    assert_eq!(udp.destination_port(), 4789);
    &udp.payload()[8..]
}

#[test]
fn only_the_copy_goes_into_the_tunnel() {
    let tunnel = DpAction::Clone(Box::new([push(1500), output(2)]));
    let mut w = World::new(program(vec![output(3), tunnel, output(4)]), 4);
    let frame = Udp::default().bytes();
    w.send(1, &frame);
    let sent = w.sink(2).take();
    assert_eq!(sent.len(), 1);
    assert_eq!(inside(&sent[0]), frame);
    assert_eq!((w.sink(3).take(), w.sink(4).take()), (vec![frame.clone()], vec![frame]));
    w.check_conservation();
}

#[test]
fn what_follows_is_done_to_the_outer_packet() {
    let ttl = DpAction::SetField { slot: slot::NW_TTL, value: 3, mask: 0xff };
    let mut w =
        World::new(program(vec![push(1500), ttl, DpAction::PushVlan { tpid: 0x8100, tci: 5 }, output(2)]), 2);
    let frame = Udp::default().bytes();
    w.send(1, &frame);
    let sent = w.sink(2).take().remove(0);
    assert_eq!(sent[12..16], [0x81, 0, 0, 5]);
    let parsed = SlicedPacket::from_ethernet(&sent).unwrap();
    let Some(NetSlice::Ipv4(outer)) = &parsed.net else { panic!("{parsed:?}") };
    assert_eq!(outer.header().ttl(), 3);
    assert_eq!(outer.header().to_header().calc_header_checksum(), outer.header().header_checksum());
    assert_eq!(inside(&sent), frame);
    w.check_conservation();
}

#[test]
fn a_super_frame_is_cut_before() {
    let payload: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
    let built = FrameBuilder::tcp4((0x0a00_0001, 1), (0x0a00_0002, 2), 0x10).payload(&payload).build();
    let mut frame = Frame::from_bytes(&built);
    frame.checksum = Checksum::Partial { start: 34, offset: 16 };
    frame.segmentation = Segmentation::TcpV4 { size: 1_000, ecn: false };
    let mut w = World::new(program(vec![push(1500), output(2)]), 2);
    w.wire(1).push_frame(frame);
    w.settle();
    let sent = w.sink(2).take();
    let lengths: Vec<usize> = sent.iter().map(|s| inside(s).len()).collect();
    assert_eq!(lengths, [1_054; 3]);
    let got: Vec<u8> = sent.iter().flat_map(|s| inside(s)[54..].to_vec()).collect();
    assert_eq!(got, payload);
    w.check_conservation();
    // Segments that do not fit: one answer for all of them.
    let mut long = Frame::from_bytes(&built);
    long.checksum = Checksum::Partial { start: 34, offset: 16 };
    long.segmentation = Segmentation::TcpV4 { size: 1_460, ecn: false };
    w.wire(1).push_frame(long);
    w.settle();
    assert_eq!((w.sink(2).count(), w.sink(1).count(), w.drops(1, Drop::TunnelTooBig)), (0, 1, 1));
    w.check_conservation();
}

/// What a pod's kernel puts into a tunnel of its own and leaves to be cut inside is cut before it goes into ours as well, also if
/// the port would cut in one.
#[test]
fn a_pods_own_tunnel_is_cut_before() {
    let payload: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
    let built = FrameBuilder::tcp4((0x0a00_0001, 1), (0x0a00_0002, 2), 0x10).payload(&payload).build();
    let own = |size| {
        let mut frame = Frame::from_bytes(&built);
        let pseudo = Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 6, 3_020);
        frame.bytes_mut()[50..52].copy_from_slice(&pseudo.folded().to_be_bytes());
        let header = TunnelPush::new(TunnelProtocol::Geneve, [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        packet::tunnel::push(&mut frame, &TunnelPush { mtu: 65_535, ..header }, HashSeed::new(1, 2)).unwrap();
        frame.checksum = Checksum::Partial { start: 84, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size, ecn: false };
        frame
    };
    let mut pieces = Vec::new();
    for port_cuts in [false, true] {
        let mut w = World::new(program(vec![push(1500), output(2)]), 2);
        if port_cuts {
            w.sink(2).cut_in_tunnels();
        }
        w.wire(1).push_frame(own(1_000));
        w.settle();
        let sent = w.sink(2).take();
        let lengths: Vec<usize> = sent.iter().map(|s| inside(s).len()).collect();
        assert_eq!(lengths, [1_104; 3]);
        for packet in &sent {
            let parsed = SlicedPacket::from_ethernet(inside(packet)).unwrap();
            let Some(TransportSlice::Udp(udp)) = &parsed.transport else { panic!("{parsed:?}") };
            assert_eq!((udp.destination_port(), usize::from(udp.length())), (6081, 8 + udp.payload().len()));
            let mut inner = Frame::from_bytes(&udp.payload()[8..]);
            PacketKey::extract(&mut inner).unwrap();
            assert!(inner.verify_checksums());
        }
        let got: Vec<u8> = sent.iter().flat_map(|s| inside(s)[104..].to_vec()).collect();
        assert_eq!(got, payload);
        pieces = sent.iter().map(|s| inside(s).to_vec()).collect();
        w.check_conservation();
        // Its packets have 90 bytes of headers, and may have 1450 in all.
        w.wire(1).push_frame(own(1_361));
        w.settle();
        assert_eq!((w.sink(2).count(), w.sink(1).count(), w.drops(1, Drop::TunnelTooBig)), (0, 1, 1));
        w.check_conservation();
    }
    // A controller gets the same pieces.
    let upcall = DpAction::Upcall { max_len: u32::MAX, cookie: Arc::new(5u32) };
    let fake = program(vec![upcall]);
    let punts = Arc::clone(&fake.punts);
    let mut w = World::new(fake, 2);
    w.wire(1).push_frame(own(1_000));
    w.settle();
    assert_eq!(punts.lock().unwrap().iter().map(|p| p.bytes.clone()).collect::<Vec<_>>(), pieces);
    w.check_conservation();
}

/// A port that cuts by itself gets the super-frame whole, unless more is to be done with the packets, or they do not fit.
#[test]
fn a_super_frame_stays_whole_where_the_port_cuts() {
    let payload: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
    let built = FrameBuilder::tcp4((0x0a00_0001, 1), (0x0a00_0002, 2), 0x10).payload(&payload).build();
    let frame = |size| {
        let mut frame = Frame::from_bytes(&built);
        frame.checksum = Checksum::Partial { start: 34, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size, ecn: false };
        frame
    };
    let mut w = World::new(program(vec![push(1500), output(2)]), 3);
    w.sink(2).cut_in_tunnels();
    w.wire(1).push_frame(frame(1_000));
    w.settle();
    let sent = w.sink(2).take_frames();
    assert_eq!(sent.len(), 1);
    let size = Segmentation::TcpV4 { size: 1_000, ecn: false };
    assert_eq!((sent[0].segmentation, sent[0].inner_segmentation), (Segmentation::None, size));
    // Behind Ethernet, IPv4, UDP and VXLAN.
    assert_eq!(sent[0].bytes()[50..], built);
    assert_eq!(sent[0].checksum, Checksum::Partial { start: 84, offset: 16 });
    w.wire(1).push_frame(frame(1_460));
    w.settle();
    assert_eq!((w.sink(2).count(), w.sink(1).count(), w.drops(1, Drop::TunnelTooBig)), (0, 1, 1));
    w.check_conservation();

    let mut w = World::new(program(vec![push(1500), output(2), output(3)]), 3);
    w.sink(2).cut_in_tunnels();
    w.sink(3).cut_in_tunnels();
    w.wire(1).push_frame(frame(1_000));
    w.settle();
    assert_eq!((w.sink(2).count(), w.sink(3).count()), (3, 3));
    w.check_conservation();
}

#[test]
fn a_packet_that_does_not_fit_is_answered() {
    let mut w = World::new(program(vec![push(1500), output(2)]), 2);
    // Its packet has 1450 bytes, which is the most; one more is too much.
    let fits = Udp { len: 1_450 - 28, ..Udp::default() };
    w.send(1, &fits.bytes());
    assert_eq!(w.sink(2).take()[0].len(), 14 + 1_500);
    w.send(1, &Udp { len: fits.len + 1, ..fits }.bytes());
    assert_eq!((w.sink(2).count(), w.drops(1, Drop::TunnelTooBig)), (0, 1));
    let answer = w.sink(1).take().remove(0);
    let parsed = SlicedPacket::from_ethernet(&answer).unwrap();
    let Some(TransportSlice::Icmpv4(icmp)) = &parsed.transport else { panic!("{parsed:?}") };
    // RFC 1191 section 4: unreachable, fragmentation needed, with the MTU in the last two bytes.
    assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 4));
    assert_eq!(icmp.bytes5to8(), [0, 0, 0x05, 0xaa]);
    w.check_conservation();
}

/// Without Don't Fragment the packet goes in pieces, which the other end puts together.
#[test]
fn a_packet_that_may_be_cut_goes_in_pieces() {
    let mut w = World::new(program(vec![push(1500), output(2), output(3)]), 3);
    let mut frame = Udp { len: 3_000, ..Udp::default() }.bytes();
    // No Don't Fragment; the header's sum grows by what the flag was.
    frame[20] = 0;
    let sum = u16::from_be_bytes([frame[24], frame[25]]);
    let sum = u32::from(sum) + 0x4000;
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    w.send(1, &frame);
    let sent = w.sink(2).take();
    assert_eq!(sent, w.sink(3).take());
    let mut payload = Vec::new();
    for (n, piece) in sent.iter().map(|s| inside(s)).enumerate() {
        let parsed = SlicedPacket::from_ethernet(piece).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &parsed.net else { panic!("{parsed:?}") };
        assert_eq!(usize::from(ip.header().fragments_offset().value()) * 8, payload.len());
        assert_eq!(ip.header().more_fragments(), n + 1 < sent.len());
        payload.extend_from_slice(&piece[34..]);
    }
    assert_eq!((sent.len(), payload), (3, frame[34..].to_vec()));
    assert_eq!((w.sink(1).count(), w.drops(1, Drop::TunnelTooBig)), (0, 0));
    w.check_conservation();
}

/// Out of the tunnel a frame is one of the tunnel's port, with what the outer headers said in its key.
#[test]
fn packets_leave_their_tunnel_as_frames_of_its_port() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keys = Arc::clone(&seen);
    let fake = Fake::new(&[slot::TUN_ID], move |key| match key.in_port().0 {
        1 => Answer::new(vec![push(1500), pop()]),
        2 => Answer::new(vec![pop()]),
        _ => {
            keys.lock().unwrap().push((key.in_port().0, key.get(slot::TUN_ID), key.get(slot::TUN_SRC)));
            Answer::new(vec![output(3)])
        }
    });
    let mut w = World::new(fake, 3);
    let frame = Udp::default().bytes();
    w.send(1, &frame);
    assert_eq!(w.sink(3).take(), std::slice::from_ref(&frame));
    assert_eq!(*seen.lock().unwrap(), [(TUNNEL, 7, 0xc000_0201)]);
    // Once more, out of the cache.
    w.send(1, &frame);
    assert_eq!((w.sink(3).take(), seen.lock().unwrap().len()), (vec![frame.clone()], 1));
    // What is no packet of the tunnel.
    w.send(2, &frame);
    assert_eq!((w.sink(3).count(), w.drops(2, Drop::BadTunnel)), (0, 1));
    w.check_conservation();
}

/// Outer packets that are tracked before they leave their tunnel follow a chain, and what is inside may follow another: the one
/// look-up that is left is that of the inner frame.
#[test]
fn tracked_packets_leave_their_tunnel_by_a_chain() {
    for inner_is_tracked in [false, true] {
        let track = |zone, then| {
            let spec = CtSpec { zone: Zone(zone), commit: true, ..CtSpec::default() };
            vec![DpAction::Ct(spec.into()), DpAction::Recirculate(RecircId(then))]
        };
        let slots = [slot::NW_SRC, slot::NW_DST, slot::NW_PROTO, slot::TP_SRC, slot::TP_DST, slot::CT_STATE];
        let tally = Arc::new(Tally::default());
        let popped = Arc::clone(&tally);
        let fake = Fake::new(&slots, move |key| match (key.in_port().0, key.get(slot::RECIRC_ID)) {
            (TUNNEL, 0) if inner_is_tracked => Answer::new(track(2, 2)),
            (TUNNEL, _) => Answer::new(vec![output(3)]),
            (_, 0) => Answer::new(track(1, 1)),
            _ => Answer { credits: vec![popped.clone()], ..Answer::new(vec![pop()]) },
        });
        let mut w = World::new(fake, 3);
        let frame = Udp::default().bytes();
        let inside = [&[0x08, 0, 0, 0, 0, 0, 7, 0][..], &frame].concat();
        let outer = FrameBuilder::udp4((0xc000_0201, 50_000), (0xc000_0202, 4789)).payload(&inside).build();
        let recirculated = |w: &World| w.worker.stats().cache.recirculated.get();
        (0..8).for_each(|_| w.send(1, &outer));
        let before = recirculated(&w);
        (0..20).for_each(|_| w.send(1, &outer));
        assert_eq!(recirculated(&w) - before, 20, "tracked inside: {inner_is_tracked}");
        assert_eq!(w.sink(3).take(), vec![frame.clone(); 28]);
        // Who is in the chain is credited, and another connection's packets are not taken for its own.
        let other = FrameBuilder::udp4((0xc000_0201, 50_001), (0xc000_0202, 4789)).payload(&inside).build();
        w.send(1, &other);
        assert_eq!(w.sink(3).take(), [frame]);
        w.command(Command::Flush { reply: None });
        assert_eq!(tally.packets(), 29);
        assert_eq!(w.tracker.totals().connections, 2 + u32::from(inner_is_tracked));
        w.check_conservation();
    }
}

/// Several outer datagrams in one, as the kernel joins them.
#[test]
fn a_super_frame_of_outer_datagrams_is_taken_apart() {
    let frames: Vec<Vec<u8>> =
        (1..=3).map(|n| Udp { src_mac: n, len: 100, ..Udp::default() }.bytes()).collect();
    let vxlan = [0x08, 0, 0, 0, 0, 0, 7, 0];
    let payload: Vec<u8> = frames.iter().flat_map(|f| [&vxlan[..], f].concat()).collect();
    let built = FrameBuilder::udp4((0xc000_0201, 50_000), (0xc000_0202, 4789)).payload(&payload).build();
    let mut frame = Frame::from_bytes(&built);
    frame.checksum = Checksum::Partial { start: 34, offset: 6 };
    frame.segmentation = Segmentation::UdpL4 { size: (payload.len() / 3) as u16 };
    let fake =
        Fake::new(&[], |key| Answer::new(vec![if key.in_port().0 == TUNNEL { output(2) } else { pop() }]));
    let mut w = World::new(fake, 2);
    w.wire(1).push_frame(frame);
    w.settle();
    assert_eq!(w.sink(2).take(), frames);
    w.check_conservation();
}
