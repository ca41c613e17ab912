//! Packets from a tunnel, good and bad, built by etherparse and by hand from the RFCs' layouts, and the answers to packets
//! that do not fit one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use etherparse::{IpNumber, PacketBuilder, SlicedPacket};
use packet::key::{TUN_DF, TUN_KEY, TUN_METADATA, TUN_OAM};
use packet::tunnel::{GeneveMap, GeneveMapError, GeneveOption, TunnelError, TunnelProtocol, pop, too_big};
use packet::{Checksum, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, slot};
use support::extracted;

const VNI: [u8; 4] = [0, 0, 7, 0];

fn inner() -> Vec<u8> {
    FrameBuilder::udp4((0x0a00_0001, 1), (0x0a00_0002, 2)).payload(b"payload").build()
}

/// A datagram between two hosts.
fn in_udp(payload: &[u8]) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(50000, 4789);
    let mut out = Vec::new();
    builder.write(&mut out, payload).unwrap();
    out
}

fn in_gre(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
    let mut out = Vec::new();
    builder.write(&mut out, IpNumber::GRE, payload).unwrap();
    out
}

fn vxlan(flags: [u8; 4], inner: &[u8]) -> Vec<u8> {
    in_udp(&[&flags, &VNI, inner].concat())
}

fn geneve(head: [u8; 4], options: &[u8], inner: &[u8]) -> Vec<u8> {
    in_udp(&[&head, &VNI, options, inner].concat())
}

fn popped(
    frame: &[u8],
    protocol: TunnelProtocol,
    map: &GeneveMap,
) -> Result<(Vec<u8>, PacketKey), TunnelError> {
    let mut key = PacketKey::default();
    let mut frame = Frame::from_bytes(frame);
    let before = frame.bytes().to_vec();
    match pop(&mut frame, protocol, &mut key, map) {
        Ok(()) => Ok((frame.bytes().to_vec(), key)),
        Err(error) => {
            assert_eq!(frame.bytes(), before, "unchanged after {error}");
            assert_eq!(key, PacketKey::default());
            Err(error)
        }
    }
}

fn error(frame: &[u8], protocol: TunnelProtocol) -> Option<TunnelError> {
    popped(frame, protocol, &GeneveMap::default()).err()
}

/// Recomputes the outer IPv4 header checksum, after a change that is not to be noticed by it.
fn with_header_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let end = 14 + (frame[14] & 15) as usize * 4;
    frame[24..26].fill(0);
    let sum = packet::Sum::of(&frame[14..end]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn vxlan_from_another_sender() {
    let (bytes, key) =
        popped(&vxlan([8, 0, 0, 0], &inner()), TunnelProtocol::Vxlan, &Default::default()).unwrap();
    assert_eq!(bytes, inner());
    assert_eq!((key.get(slot::TUN_ID), key.get(slot::TUN_TTL)), (7, 64));
    assert_eq!((key.get(slot::TUN_SRC), key.get(slot::TUN_DST)), (0xc000_0201, 0xc000_0202));
    // Every reserved bit set, as RFC 7348 section 5 wants them ignored.
    let mut reserved = vxlan([0x7f, 0xff, 0xff, 0xff], &inner());
    reserved[40..42].fill(0);
    reserved[49] = 0xff;
    let (bytes, key) = popped(&reserved, TunnelProtocol::Vxlan, &Default::default()).unwrap();
    assert_eq!((bytes, key.get(slot::TUN_GBP_ID), key.get(slot::TUN_GBP_FLAGS)), (inner(), 0, 0));
    let (_, key) =
        popped(&vxlan([0x88, 0xff, 1, 2], &inner()), TunnelProtocol::Vxlan, &Default::default()).unwrap();
    assert_eq!((key.get(slot::TUN_GBP_ID), key.get(slot::TUN_GBP_FLAGS)), (0x0102, 0x48));
    assert_eq!(error(&vxlan([0xf7, 0, 0, 0], &inner()), TunnelProtocol::Vxlan), Some(TunnelError::Flags));
}

#[test]
fn gre_with_every_field() {
    let key_and_sequence = [&[0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 0, 0, 0, 9], &inner()[..]].concat();
    let (bytes, key) = popped(&in_gre(&key_and_sequence), TunnelProtocol::Gre, &Default::default()).unwrap();
    assert_eq!(
        (bytes, key.get(slot::TUN_ID), key.get(slot::TUN_FLAGS)),
        (inner(), 7, (TUN_KEY | TUN_DF) as u128)
    );
    let sequence = [&[0x10, 0, 0x65, 0x58, 0, 0, 0, 9], &inner()[..]].concat();
    let (bytes, key) = popped(&in_gre(&sequence), TunnelProtocol::Gre, &Default::default()).unwrap();
    assert_eq!((bytes, key.get(slot::TUN_ID), key.get(slot::TUN_FLAGS)), (inner(), 0, TUN_DF as u128));
    let mut summed = [&[0x80, 0, 0x65, 0x58, 0, 0, 0, 0], &inner()[..]].concat();
    let sum = packet::Sum::of(&summed).checksum();
    summed[4..6].copy_from_slice(&sum.to_be_bytes());
    // Ethernet padding belongs neither to the packet nor to its checksum.
    let padded = [in_gre(&summed), vec![0x55; 7]].concat();
    assert_eq!(popped(&padded, TunnelProtocol::Gre, &Default::default()).unwrap().0, inner());
    summed[5] ^= 1;
    assert_eq!(error(&in_gre(&summed), TunnelProtocol::Gre), Some(TunnelError::Checksum));
    for (head, wanted) in [
        ([0x40, 0, 0x65, 0x58], TunnelError::Flags),
        ([0x08, 0, 0x65, 0x58], TunnelError::Flags),
        ([0x04, 0, 0x65, 0x58], TunnelError::Flags),
        ([0x00, 1, 0x65, 0x58], TunnelError::Version),
        ([0x00, 0, 0x08, 0x00], TunnelError::Payload),
    ] {
        assert_eq!(error(&in_gre(&[&head, &inner()[..]].concat()), TunnelProtocol::Gre), Some(wanted));
    }
    // Bits 6 to 12 are ignored (RFC 2784 section 2.3).
    assert_eq!(
        error(&in_gre(&[&[0x03, 0xf8, 0x65, 0x58], &inner()[..]].concat()), TunnelProtocol::Gre),
        None
    );
    // Headers cut within each field.
    for (flags, len) in [(0u8, 3), (0x80, 7), (0x20, 7), (0x10, 7), (0x30, 11)] {
        let header = [flags, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            error(&in_gre(&header[..len]), TunnelProtocol::Gre),
            Some(TunnelError::Length),
            "{flags:x}"
        );
    }
}

#[test]
fn geneve_options_by_the_map() {
    let mut map = GeneveMap::default();
    map.insert(2, GeneveOption { class: 0x0102, kind: 0x80, len: 4 }).unwrap();
    map.insert(3, GeneveOption { class: 0x0102, kind: 1, len: 8 }).unwrap();
    let options = [
        &[1, 2, 0x80, 1, 0xde, 0xad, 0xbe, 0xef][..],
        // Unknown and not critical: passed over. So is one of no length.
        &[9, 9, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8],
        &[9, 9, 2, 0],
        // The reserved bits before the length are ignored.
        &[1, 2, 1, 0xe2, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    let head = [options.len() as u8 / 4, 0x80, 0x65, 0x58];
    let frame = geneve(head, &options, &inner());
    let (bytes, key) = popped(&frame, TunnelProtocol::Geneve, &map).unwrap();
    assert_eq!((bytes, key.get(slot::TUN_METADATA_PRESENT)), (inner(), 0b1100));
    assert_eq!(key.get(TUN_METADATA[2]), 0xdead_beef);
    assert_eq!(key.get(TUN_METADATA[3]), 0x0102_0304_0506_0708);
    assert_eq!(key.get(slot::TUN_FLAGS) as u16 & TUN_OAM, TUN_OAM);
    // Critical and unknown, or known with another length, whether or not the C bit says so.
    for flags in [0, 0x40] {
        for options in [&[9, 9, 0x80, 0][..], &[1, 2, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 0]] {
            let frame = geneve([options.len() as u8 / 4, flags, 0x65, 0x58], options, &inner());
            let error = popped(&frame, TunnelProtocol::Geneve, &map).unwrap_err();
            assert_eq!(error, TunnelError::CriticalOption);
        }
    }
    // Known, not critical, with another length: as if it were not known.
    let frame = geneve([2, 0, 0x65, 0x58], &[1, 2, 1, 1, 1, 2, 3, 4], &inner());
    assert_eq!(popped(&frame, TunnelProtocol::Geneve, &map).unwrap().1.get(slot::TUN_METADATA_PRESENT), 0);
}

/// Among them CVE-2023-3966: an option longer than what is left of the options.
#[test]
fn bad_geneve() {
    let head = |words: u8| [words, 0, 0x65, 0x58];
    for (frame, wanted) in [
        (geneve([0x40, 0, 0x65, 0x58], &[], &inner()), TunnelError::Version),
        (geneve([0, 0, 0x08, 0x00], &[], &inner()), TunnelError::Payload),
        (geneve(head(2), &[1, 1, 1, 2, 0, 0, 0, 0], &inner()), TunnelError::Options),
        (geneve(head(1), &[1, 1, 1, 31], &inner()), TunnelError::Options),
        (geneve(head(2), &[1, 1, 1, 0, 1, 1, 1, 1], &inner()), TunnelError::Options),
        (geneve(head(63), &[0; 8], &[]), TunnelError::Length),
        (geneve(head(0), &[], &[1; 13]), TunnelError::Length),
    ] {
        assert_eq!(error(&frame, TunnelProtocol::Geneve), Some(wanted));
    }
}

#[test]
fn outer_headers_that_lie() {
    let good = vxlan([8, 0, 0, 0], &inner());
    let change = |at: usize, value: &[u8]| {
        let mut frame = good.clone();
        frame[at..at + value.len()].copy_from_slice(value);
        with_header_checksum(frame)
    };
    let total = (good.len() - 14) as u16;
    for (what, frame, wanted) in [
        ("no IP", change(12, &[8, 6]), TunnelError::NotTunnel),
        ("version", change(14, &[0x55]), TunnelError::Length),
        ("header length 16", change(14, &[0x44]), TunnelError::Length),
        ("total length beyond the frame", change(16, &(total + 1).to_be_bytes()), TunnelError::Length),
        ("total length in the header", change(16, &19u16.to_be_bytes()), TunnelError::Length),
        ("total length in the UDP header", change(16, &27u16.to_be_bytes()), TunnelError::Length),
        ("more fragments", change(20, &[0x20, 0]), TunnelError::Fragment),
        ("fragment offset", change(20, &[0, 1]), TunnelError::Fragment),
        ("another protocol", change(23, &[6]), TunnelError::NotTunnel),
        ("UDP length 7", change(38, &[0, 7]), TunnelError::Length),
        ("UDP length beyond the packet", change(38, &(total - 19).to_be_bytes()), TunnelError::Length),
        ("UDP checksum", change(40, &[0xab, 0xcd]), TunnelError::Checksum),
        ("address under the UDP checksum", change(26, &[1]), TunnelError::Checksum),
    ] {
        assert_eq!(error(&frame, TunnelProtocol::Vxlan), Some(wanted), "{what}");
    }
    let mut wrong = good.clone();
    wrong[24] ^= 1;
    assert_eq!(error(&wrong, TunnelProtocol::Vxlan), Some(TunnelError::Checksum), "IPv4 header checksum");
    let mut none = good.clone();
    none[40..42].fill(0);
    none[60] ^= 1;
    assert_eq!(error(&none, TunnelProtocol::Vxlan), None, "no UDP checksum to be wrong");
    for len in 0..good.len() {
        assert!(error(&good[..len], TunnelProtocol::Vxlan).is_some(), "cut after {len}");
    }
    assert_eq!(error(&good, TunnelProtocol::Gre), Some(TunnelError::NotTunnel));
}

#[test]
fn what_follows_the_datagram_is_cut_off() {
    let good = vxlan([8, 0, 0, 0], &inner());
    let padded = [&good[..], &[0x55; 300]].concat();
    assert_eq!(popped(&padded, TunnelProtocol::Vxlan, &Default::default()).unwrap().0, inner());
    // Bytes in the IP packet behind the UDP length.
    let mut longer = [&good[..], &[0x55; 4]].concat();
    let total = (longer.len() - 14) as u16;
    longer[16..18].copy_from_slice(&total.to_be_bytes());
    let longer = with_header_checksum(longer);
    assert_eq!(popped(&longer, TunnelProtocol::Vxlan, &Default::default()).unwrap().0, inner());
}

#[test]
fn outer_tags_options_and_extension_headers() {
    let payload = [&[8, 0, 0, 0], &VNI, &inner()[..]].concat();
    let tagged = FrameBuilder::udp4((1, 50000), (2, 4789)).vlan(0x88a8, 3).vlan(0x8100, 4);
    for builder in [
        tagged.clone().payload(&payload),
        FrameBuilder::udp4((1, 50000), (2, 4789)).ipv4_options(&[1; 8]).payload(&payload),
        FrameBuilder::udp6((1, 50000), (2, 4789)).vlan(0x8100, 1).payload(&payload),
    ] {
        let frame = builder.build();
        assert_eq!(popped(&frame, TunnelProtocol::Vxlan, &Default::default()).unwrap().0, inner());
    }
    // A destination options header of eight bytes before UDP, and one that is cut off.
    let mut frame = FrameBuilder::udp6((1, 50000), (2, 4789)).payload(&payload).build();
    let len = (frame.len() - 54 + 8) as u16;
    frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame[20] = 60;
    assert_eq!(popped(&frame, TunnelProtocol::Vxlan, &Default::default()).unwrap().0, inner());
    frame[55] = 200;
    assert_eq!(error(&frame, TunnelProtocol::Vxlan), Some(TunnelError::Length));
    // A routing header with a stop to come: this host is not the packet's destination.
    frame[20] = 43;
    frame[54..62].copy_from_slice(&[17, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(error(&frame, TunnelProtocol::Vxlan), Some(TunnelError::NotTunnel));
    let fragment = FrameBuilder::udp6((1, 50000), (2, 4789)).set(slot::NW_FRAG, 1).payload(&payload).build();
    assert_eq!(error(&fragment, TunnelProtocol::Vxlan), Some(TunnelError::Fragment));
    // RFC 6935: a tunnel over IPv6 may leave the checksum out.
    let mut none = FrameBuilder::udp6((1, 50000), (2, 4789)).payload(&payload).build();
    none[60..62].fill(0);
    assert_eq!(popped(&none, TunnelProtocol::Vxlan, &Default::default()).unwrap().0, inner());
}

#[test]
fn what_was_left_to_others() {
    let mut frame = Frame::from_bytes(&vxlan([8, 0, 0, 0], &inner()));
    frame.segmentation = Segmentation::UdpL4 { size: 20 };
    let mut key = PacketKey::default();
    let super_frame = pop(&mut frame, TunnelProtocol::Vxlan, &mut key, &Default::default());
    assert_eq!(super_frame, Err(TunnelError::SuperFrame));
    // The outer UDP checksum is still to be completed by whoever sends the frame off the host: nothing to check.
    for checksum in [Checksum::Partial { start: 34, offset: 6 }, Checksum::Valid] {
        let mut frame = Frame::from_bytes(&vxlan([8, 0, 0, 0], &inner()));
        frame.bytes_mut()[41] ^= 1;
        frame.checksum = checksum;
        pop(&mut frame, TunnelProtocol::Vxlan, &mut key, &Default::default()).unwrap();
        assert_eq!((frame.bytes(), frame.checksum), (&inner()[..], Checksum::Unknown));
    }
    // That of the inner datagram is.
    let mut partial = inner();
    let pseudo = packet::Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 17, 15).folded();
    partial[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let mut frame = Frame::from_bytes(&vxlan([8, 0, 0, 0], &partial));
    frame.bytes_mut()[40..42].fill(0);
    frame.checksum = Checksum::Partial { start: 50 + 34, offset: 6 };
    pop(&mut frame, TunnelProtocol::Vxlan, &mut key, &Default::default()).unwrap();
    assert_eq!((frame.bytes(), frame.checksum), (&inner()[..], Checksum::Unknown));
}

#[test]
fn flannel_packets_that_are_none() {
    let packet = inner()[14..].to_vec();
    let (bytes, key) = popped(&in_udp(&packet), TunnelProtocol::Flannel, &Default::default()).unwrap();
    assert_eq!(bytes, [&[0; 12][..], &[8, 0], &packet].concat());
    assert_eq!((key.get(slot::TUN_ID), key.get(slot::TUN_SRC)), (0, 0xc000_0201));
    let longer = [&packet[..], &[1, 2, 3]].concat();
    assert_eq!(popped(&in_udp(&longer), TunnelProtocol::Flannel, &Default::default()).unwrap().0, bytes);
    let change = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        error(&in_udp(&packet), TunnelProtocol::Flannel)
    };
    assert_eq!(change(0, 0x65), Some(TunnelError::Payload));
    assert_eq!(change(0, 0x44), Some(TunnelError::Length));
    assert_eq!(change(2, 1), Some(TunnelError::Length));
    assert_eq!(change(3, 19), Some(TunnelError::Length));
    assert_eq!(error(&in_udp(&packet[..19]), TunnelProtocol::Flannel), Some(TunnelError::Length));
    assert_eq!(error(&in_udp(&[]), TunnelProtocol::Flannel), Some(TunnelError::Length));
}

/// Figure 4 of RFC 6040 on whole frames: the mark arrives, and the inner checksum with it.
#[test]
fn congestion_marks_leave_the_tunnel() {
    // Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns the same, outer. 4 stands for a drop.
    let leaving = [[0, 0, 0, 4], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];
    let inners = [
        FrameBuilder::udp4((1, 1), (2, 2)),
        FrameBuilder::udp6((1, 1), (2, 2)),
        FrameBuilder::udp4((1, 1), (2, 2)).vlan(0x8100, 5),
    ];
    for builder in inners {
        for (inner_ecn, row) in leaving.iter().enumerate() {
            for (outer_ecn, &wanted) in row.iter().enumerate() {
                let inner = builder.clone().set(slot::NW_TOS, 0xb8 | inner_ecn as u128).build();
                let payload = [&[8, 0, 0, 0], &VNI, &inner[..]].concat();
                for outer in [FrameBuilder::udp4((1, 1), (2, 4789)), FrameBuilder::udp6((1, 1), (2, 4789))] {
                    let frame = outer.set(slot::NW_TOS, outer_ecn as u128).payload(&payload).build();
                    let result = popped(&frame, TunnelProtocol::Vxlan, &Default::default());
                    if wanted == 4 {
                        assert_eq!(result.unwrap_err(), TunnelError::Congestion);
                        continue;
                    }
                    let fresh = builder.clone().set(slot::NW_TOS, 0xb8 | wanted as u128).build();
                    assert_eq!(result.unwrap().0, fresh, "inner {inner_ecn} outer {outer_ecn}");
                }
            }
        }
    }
    let arp = FrameBuilder::arp(1, (1, 2), (3, 4)).build();
    let payload = [&[8, 0, 0, 0], &VNI, &arp[..]].concat();
    let frame = FrameBuilder::udp4((1, 1), (2, 4789)).set(slot::NW_TOS, 3).payload(&payload).build();
    assert_eq!(popped(&frame, TunnelProtocol::Vxlan, &Default::default()).unwrap().0, arp);
    // The bare packet of flannel.
    let inner = FrameBuilder::udp4((1, 1), (2, 2)).set(slot::NW_TOS, 2).build();
    let frame = FrameBuilder::udp4((1, 1), (2, 8285)).set(slot::NW_TOS, 3).payload(&inner[14..]).build();
    let marked = FrameBuilder::udp4((1, 1), (2, 2)).set(slot::NW_TOS, 3).build();
    assert_eq!(popped(&frame, TunnelProtocol::Flannel, &Default::default()).unwrap().0[14..], marked[14..]);
}

#[test]
fn a_map_takes_each_option_and_each_field_once() {
    let option = |class, kind, len| GeneveOption { class, kind, len };
    let mut map = GeneveMap::default();
    for (index, o, wanted) in [
        (0, option(1, 1, 0), Err(GeneveMapError::Length)),
        (0, option(1, 1, 6), Err(GeneveMapError::Length)),
        (0, option(1, 1, 20), Err(GeneveMapError::Length)),
        (8, option(1, 1, 4), Err(GeneveMapError::Index)),
        (7, option(1, 1, 16), Ok(())),
        (7, option(1, 2, 4), Err(GeneveMapError::Taken)),
        (6, option(1, 1, 4), Err(GeneveMapError::Taken)),
        (6, option(1, 2, 4), Ok(())),
    ] {
        assert_eq!(map.insert(index, o), wanted, "{index} {o:?}");
    }
    assert_eq!(map.iter().collect::<Vec<_>>(), [(6, option(1, 2, 4)), (7, option(1, 1, 16))]);
    assert_eq!((map.remove(7), map.remove(7), map.index_of(1, 1)), (Some(option(1, 1, 16)), None, None));
    map.clear();
    assert!(map.is_empty());
}

fn answer(builder: FrameBuilder, mtu: u16) -> Option<Vec<u8>> {
    let mut frame = extracted(&builder.build());
    let answer = too_big(&frame, mtu, &mut FramePool::new(1));
    // The same from a frame with Ethernet padding, which is not part of the packet.
    let len = frame.len() + 5;
    frame = extracted(&[frame.bytes(), &[0x55; 5]].concat());
    assert_eq!(frame.len(), len);
    let padded = too_big(&frame, mtu, &mut FramePool::new(1));
    assert_eq!(padded.as_ref().map(|f| f.bytes()), answer.as_ref().map(|f| f.bytes()));
    answer.map(|f| f.bytes().to_vec())
}

#[test]
fn ipv4_senders_are_told_the_mtu() {
    let builder =
        FrameBuilder::tcp4((0x0a00_0001, 1000), (0x0a00_0002, 80), 0x10).payload(&[7; 1440]).vlan(0x8100, 5);
    let packet = builder.build()[18..].to_vec();
    let bytes = answer(builder, 1450).unwrap();
    let read = SlicedPacket::from_ethernet(&bytes).unwrap();
    let ethernet = read.link.unwrap().to_header().unwrap().ethernet2().unwrap();
    assert_eq!(ethernet.source, [2, 0, 0, 0, 0, 2]);
    assert_eq!(ethernet.destination, [2, 0, 0, 0, 0, 1]);
    assert_eq!(read.link_exts.len(), 1, "the tag is kept");
    let Some(etherparse::NetSlice::Ipv4(ip)) = read.net else { panic!("IPv4") };
    let header = ip.header().to_header();
    assert_eq!((header.source, header.destination), ([10, 0, 0, 2], [10, 0, 0, 1]));
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!((header.total_len, bytes.len()), (576, 576 + 18));
    let Some(etherparse::TransportSlice::Icmpv4(icmp)) = read.transport else { panic!("ICMP") };
    let etherparse::Icmpv4Type::DestinationUnreachable(why) = icmp.icmp_type() else { panic!("type") };
    assert_eq!(why, etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1450 });
    assert_eq!(icmp.header().checksum, icmp.icmp_type().calc_checksum(icmp.payload()));
    assert_eq!(icmp.payload(), &packet[..548]);
}

#[test]
fn ipv6_senders_are_told_the_mtu() {
    let (src, dst) = (0xfd00 << 112 | 1, 0xfd00 << 112 | 2);
    let builder = FrameBuilder::tcp6((src, 1000), (dst, 80), 0x10).payload(&[7; 1440]);
    let packet = builder.build()[14..].to_vec();
    let bytes = answer(builder.clone(), 1430).unwrap();
    let read = SlicedPacket::from_ethernet(&bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv6(ip)) = read.net else { panic!("IPv6") };
    let header = ip.header().to_header();
    assert_eq!((header.source, header.destination), (dst.to_be_bytes(), src.to_be_bytes()));
    assert_eq!(bytes.len(), 14 + 1280);
    let Some(etherparse::TransportSlice::Icmpv6(icmp)) = read.transport else { panic!("ICMPv6") };
    assert_eq!(icmp.icmp_type(), etherparse::Icmpv6Type::PacketTooBig { mtu: 1430 });
    let sum = icmp.icmp_type().calc_checksum(header.source, header.destination, icmp.payload()).unwrap();
    assert_eq!(icmp.header().checksum, sum);
    assert_eq!(icmp.payload(), &packet[..1280 - 48]);
    // No IPv6 sender goes below 1280 (RFC 8201 section 4).
    let bytes = answer(builder.clone(), 1000).unwrap();
    assert_eq!(bytes[58..62], 1280u32.to_be_bytes());
    assert_eq!(answer(builder.payload(&[7; 1280 - 60]), 1000), None);
}

#[test]
fn a_short_packet_is_quoted_whole() {
    let builder = FrameBuilder::udp4((0x0a00_0001, 1), (0x0a00_0002, 2)).payload(&[1; 73]).identification(9);
    let packet = builder.build()[14..].to_vec();
    let bytes = answer(builder, 100).unwrap();
    assert_eq!(bytes[42..], packet);
    assert!(extracted(&bytes).verify_transport(), "odd length");
}

#[test]
fn silence_where_an_answer_would_do_harm() {
    let v4 = FrameBuilder::udp4((0x0a00_0001, 1), (0x0a00_0002, 2)).payload(&[0; 2000]);
    let v6 = FrameBuilder::udp6((0xfd00 << 112 | 1, 1), (0xfd00 << 112 | 2, 2)).payload(&[0; 2000]);
    let icmp = |kind| FrameBuilder::icmp4(0x0a00_0001, 0x0a00_0002, kind, 0).payload(&[0; 2000]);
    let icmp6 = |kind| FrameBuilder::icmp6(0xfd00 << 112 | 1, 0xfd00 << 112 | 2, kind, 1).payload(&[0; 2000]);
    for (what, builder, is_answered) in [
        ("IPv4", v4.clone(), true),
        ("IPv6", v6.clone(), true),
        ("first fragment", v4.clone().set(slot::NW_FRAG, 1), true),
        ("first fragment, IPv6", v6.clone().set(slot::NW_FRAG, 1), true),
        ("later fragment", v4.clone().set(slot::NW_FRAG, 3), false),
        ("later fragment, IPv6", v6.clone().set(slot::NW_FRAG, 3), false),
        ("echo", icmp(8), true),
        ("echo reply", icmp(0), true),
        ("unreachable", icmp(3), false),
        ("time exceeded", icmp(11), false),
        ("ICMPv6 echo", icmp6(128), true),
        ("packet too big", icmp6(2), false),
        ("ICMPv6 redirect", icmp6(137), false),
        ("multicast frame", v4.clone().macs(2, 0x0100_5e00_0001), false),
        ("from a multicast address", v4.clone().macs(0x0100_0000_0001, 2), false),
        ("multicast packet", v4.clone().set(slot::NW_DST, 0xe000_0001), false),
        ("broadcast packet", v4.clone().set(slot::NW_DST, 0xffff_ffff), false),
        ("from nobody", v4.clone().set(slot::NW_SRC, 0), false),
        ("from loopback", v4.clone().set(slot::NW_SRC, 0x7f00_0001), false),
        ("IPv6 multicast", v6.clone().set(slot::IPV6_DST, 0xff02 << 112 | 1), false),
        ("from ::", v6.clone().set(slot::IPV6_SRC, 0), false),
        ("ARP", FrameBuilder::arp(1, (1, 2), (3, 4)).payload(&[0; 2000]), false),
        ("fits", v4.clone().payload(&[0; 1000]), false),
    ] {
        assert_eq!(answer(builder, 1400).is_some(), is_answered, "{what}");
    }
    let mut broken = v4.build();
    broken[14] = 0x44;
    assert!(too_big(&extracted(&broken), 1400, &mut FramePool::new(1)).is_none());
}
