//! Answers to senders of packets that do not fit their tunnel: about the packet as it was sent, whatever became of it on the way.

// A test that cannot be set up fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use datapath::conntrack::{CtSpec, NatKind, NatSpec, PortSelection};
use datapath::{Command, DpAction, Drop, Program, RecircId};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::tunnel::{TunnelProtocol, TunnelPush};
use packet::wire::ETHERTYPE_IPV4;
use packet::{
    Checksum, DpPort, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, Slot, Sum, fragment, slot,
};
use std::net::IpAddr;
use std::sync::Arc;
use world::*;

/// Into a tunnel that carries packets of 1450 bytes in untagged frames.
fn push() -> DpAction {
    let [src, dst]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
    DpAction::PushTunnel(Arc::new(TunnelPush {
        mtu: 1500,
        ..TunnelPush::new(TunnelProtocol::Vxlan, src, dst)
    }))
}

/// A frame of IPv4 with Don't Fragment.
fn unfragmentable(builder: FrameBuilder) -> Vec<u8> {
    let mut frame = builder.build();
    let l3 =
        frame.len() - SlicedPacket::from_ethernet(&frame).unwrap().ether_payload().unwrap().payload.len();
    frame[l3 + 6] |= 0x40;
    frame[l3 + 10..l3 + 12].fill(0);
    let checksum = Sum::of(&frame[l3..l3 + 20]).checksum();
    frame[l3 + 10..l3 + 12].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// An answer that the sender of a frame knows to be meant for it: back between the same MACs, with the same tags, about the
/// packet as it was sent, from whom it was sent to.
#[track_caller]
fn assert_answers(answer: &[u8], sent: &[u8]) {
    let [sent_parsed, parsed] = [sent, answer].map(|bytes| SlicedPacket::from_ethernet(bytes).unwrap());
    let payload = sent_parsed.ether_payload().unwrap().payload;
    let l3 = sent.len() - payload.len();
    assert_eq!([&answer[..6], &answer[6..12]], [&sent[6..12], &sent[..6]], "MACs");
    assert_eq!(answer[12..l3], sent[12..l3], "tags");
    let quote = match (&parsed.net, &sent_parsed.net, &parsed.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(NetSlice::Ipv4(of)), Some(TransportSlice::Icmpv4(icmp))) => {
            let (ip, of) = (ip.header().to_header(), of.header());
            assert_eq!((ip.source, ip.destination), (of.destination(), of.source()));
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 4));
            assert_eq!(icmp.header().checksum, icmp.icmp_type().calc_checksum(icmp.payload()));
            icmp.payload()
        }
        (Some(NetSlice::Ipv6(ip)), Some(NetSlice::Ipv6(of)), Some(TransportSlice::Icmpv6(icmp))) => {
            let (ip, of) = (ip.header(), of.header());
            assert_eq!((ip.source(), ip.destination()), (of.destination(), of.source()));
            let sum = icmp.icmp_type().calc_checksum(ip.source(), ip.destination(), icmp.payload());
            assert_eq!((icmp.type_u8(), Ok(icmp.header().checksum)), (2, sum));
            icmp.payload()
        }
        _ => panic!("{parsed:?}"),
    };
    assert!(quote.len() > 500);
    assert_eq!(quote, &payload[..quote.len()]);
}

/// Frames too long for the tunnel: of each IP version, with TCP and UDP, and pings.
fn too_long() -> Vec<Vec<u8>> {
    let (src, dst) = (0xfd00 << 112 | 1, 0xfd00 << 112 | 2);
    let long = |builder: FrameBuilder| builder.payload(&[7; 1_450]).set(slot::NW_TOS, 0x48);
    vec![
        unfragmentable(long(FrameBuilder::udp4((0x0a00_0001, 1000), (0x0a00_0002, 53)))),
        unfragmentable(long(FrameBuilder::tcp4((0x0a00_0001, 1000), (0x0a00_0002, 80), 0x10))),
        unfragmentable(long(FrameBuilder::icmp4(0x0a00_0001, 0x0a00_0002, 8, 0))),
        long(FrameBuilder::udp6((src, 1000), (dst, 53)).set(slot::IPV6_LABEL, 5)).build(),
        long(FrameBuilder::tcp6((src, 1000), (dst, 80), 0x10)).build(),
    ]
}

/// The only frame sent to port 1, which nothing came to for want of an answer.
#[track_caller]
fn only_answer(w: &World) -> Vec<u8> {
    let mut answers = w.sink(1).take();
    assert_eq!((answers.len(), w.sink(2).count()), (1, 0));
    answers.remove(0)
}

fn set(slot: Slot, value: u128) -> DpAction {
    DpAction::SetField { slot, value, mask: slot.ones() }
}

/// Routed on the way, tagged, untagged, or all of it and looked up in between.
#[test]
fn answers_are_about_what_was_sent_and_not_what_became_of_it() {
    let routed = || vec![set(slot::DL_SRC, 9), set(slot::DL_DST, 11), set(slot::NW_TTL, 3)];
    let tag = || DpAction::PushVlan { tpid: 0x8100, tci: 10 };
    let then = |before: Vec<DpAction>| [before, vec![push(), output(2)]].concat();
    for recirculates in [false, true] {
        for before in
            [routed(), vec![tag()], vec![DpAction::PopVlan], [routed(), vec![tag(), tag()]].concat()]
        {
            for tags in 0..3 {
                let (first, second) = match recirculates {
                    false => (then(before.clone()), vec![]),
                    true => {
                        let first = [before.clone(), vec![DpAction::Recirculate(RecircId(1))]].concat();
                        (first, then(vec![set(slot::DL_SRC, 13)]))
                    }
                };
                let fake = Fake::new(&[], move |key| {
                    let again = key.get(slot::RECIRC_ID) != 0;
                    Answer::new(if again { second.clone() } else { first.clone() })
                });
                let mut w = World::new(fake, 2);
                for mut frame in too_long() {
                    for n in 0..tags {
                        frame.splice(12..12, [0x81, 0, 0x20, n + 1]);
                    }
                    w.send(1, &frame);
                    let is_hidden = tags
                        + before.iter().filter(|s| matches!(s, DpAction::PushVlan { .. })).count() as u8
                        > 2;
                    if is_hidden {
                        // What is behind three tags is not known to be IP.
                        w.sink(2).take();
                        continue;
                    }
                    assert_answers(&only_answer(&w), &frame);
                }
                w.check_conservation();
            }
        }
    }
}

fn translated(kind: NatKind, address: IpAddr, port: u16) -> DpAction {
    let range = (Some(address), None);
    let nat = NatSpec::new(kind, range, (Some(port), None), PortSelection::Default, false).unwrap();
    DpAction::Ct(CtSpec { commit: true, nat: Some(nat), ..CtSpec::default() }.into())
}

/// Everything is translated, after it was routed, and then goes into the tunnel.
fn through_a_service(routed: bool, kind: NatKind) -> Fake {
    let ports = [slot::NW_PROTO, slot::TP_SRC, slot::TP_DST, slot::NW_FRAG, slot::CT_STATE];
    let addresses = [slot::NW_SRC, slot::NW_DST, slot::IPV6_SRC, slot::IPV6_DST];
    Fake::new(&[&ports[..], &addresses].concat(), move |key| {
        if key.get(slot::RECIRC_ID) != 0 {
            return Answer::new(vec![push(), output(2)]);
        }
        let address: IpAddr = match key.dl_type() {
            ETHERTYPE_IPV4 => [10, 9, 9, 9].into(),
            _ => [0xfd, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9].into(),
        };
        let before = if routed { vec![set(slot::DL_SRC, 9), set(slot::DL_DST, 11)] } else { vec![] };
        let track = vec![translated(kind, address, 8080), DpAction::Recirculate(RecircId(1))];
        Answer::new([before, track].concat())
    })
}

/// Behind Services and SNAT: of a new connection, and once its frames follow a chain.
#[test]
fn answers_are_about_addresses_before_translation() {
    for kind in [NatKind::Dst, NatKind::Src] {
        for routed in [false, true] {
            let mut w = World::new(through_a_service(routed, kind), 2);
            for frame in too_long() {
                for _ in 0..4 {
                    w.send(1, &frame);
                    assert_answers(&only_answer(&w), &frame);
                }
            }
            w.check_conservation();
        }
    }
}

/// Copies that became different are each answered in the same terms.
#[test]
fn answers_to_copies_are_about_what_was_sent() {
    let fake = Fake::new(&[], |key| {
        Answer::new(match key.get(slot::RECIRC_ID) {
            0 => {
                let copy = [set(slot::DL_SRC, 9), set(slot::NW_TOS, 4), DpAction::Recirculate(RecircId(1))];
                let copies = [
                    DpAction::Clone(Box::new(copy)),
                    set(slot::DL_DST, 11),
                    DpAction::Recirculate(RecircId(2)),
                ];
                [copies.to_vec(), vec![set(slot::NW_TTL, 9), DpAction::Recirculate(RecircId(1))]].concat()
            }
            _ => vec![push(), output(2)],
        })
    });
    let mut w = World::new(fake, 2);
    for frame in too_long() {
        w.send(1, &frame);
        let answers = w.sink(1).take();
        assert_eq!((answers.len(), w.sink(2).count()), (3, 0));
        answers.iter().for_each(|answer| assert_answers(answer, &frame));
    }
    w.check_conservation();
}

/// Of a super-frame, the first segment that would have been is quoted.
#[test]
fn answers_to_translated_super_frames() {
    let mut w = World::new(through_a_service(false, NatKind::Dst), 2);
    let built = |payload: &[u8]| {
        FrameBuilder::tcp4((0x0a00_0001, 1000), (0x0a00_0002, 80), 0x10).payload(payload).build()
    };
    let mut frame = Frame::from_bytes(&built(&[7; 4_380]));
    let pseudo = Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 6, 4_400);
    frame.bytes_mut()[50..52].copy_from_slice(&pseudo.folded().to_be_bytes());
    frame.checksum = Checksum::Partial { start: 34, offset: 16 };
    frame.segmentation = Segmentation::TcpV4 { size: 1_460, ecn: false };
    w.wire(1).push_frame(frame);
    w.settle();
    assert_answers(&only_answer(&w), &built(&[7; 1_460]));
    assert_eq!(w.drops(1, Drop::TunnelTooBig), 1);
    w.check_conservation();
}

/// Fragments wait until their packet is whole, and are translated together; the last one that came has no ports.
#[test]
fn answers_to_translated_fragments() {
    for routed in [false, true] {
        let mut w = World::new(through_a_service(routed, NatKind::Dst), 2);
        let (src, dst) = ((0xfd00 << 112 | 1, 1000), (0xfd00 << 112 | 2, 53));
        let mut whole = Frame::from_bytes(&FrameBuilder::udp6(src, dst).payload(&[7; 2_000]).build());
        PacketKey::extract(&mut whole).unwrap();
        let mut fragments = Vec::new();
        let pool = &mut FramePool::new(4);
        fragment::split(&whole, 1_500, 5, pool, |f| fragments.push(f.bytes().to_vec())).unwrap();
        assert_eq!(fragments.len(), 2);
        for order in [[0, 1], [1, 0]] {
            order.iter().for_each(|n| w.send(1, &fragments[*n]));
            let answers = w.sink(1).take();
            assert_eq!((answers.len(), w.sink(2).take().len()), (1, 1), "only the first is too long");
            assert_answers(&answers[0], &fragments[0]);
        }
        w.check_conservation();
    }
}

/// Who has no port is not answered.
#[test]
fn frames_of_a_controller_are_not_answered() {
    let mut w = World::new(Fake::new(&[], |_| Answer::new(vec![])), 2);
    let program = Program { actions: [set(slot::DL_SRC, 9), push(), output(2)].into() };
    let frame = Frame::from_bytes(&too_long()[0]);
    w.command(Command::Execute { in_port: DpPort::NONE, frame, program: Arc::new(program) });
    w.settle();
    assert_eq!((w.sink(1).count(), w.sink(2).count()), (0, 0));
    let drops = &w.worker.stats().portless.drops;
    assert_eq!((drops.get(Drop::TunnelTooBig), drops.total()), (1, 1));
    w.check_conservation();
}
