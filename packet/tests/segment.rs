//! Segments against the kernel's own, and put together again.

mod support;

use packet::wire::*;
use packet::{
    Checksum, Frame, FrameBuilder, FramePool, Malformed, PacketKey, Segmentation, Segments, Sum, slot,
};
use proptest::prelude::*;
use support::{capture, extracted};

fn cut(frame: Frame) -> Vec<Frame> {
    let mut pool = FramePool::new(4);
    let mut segments = Segments::new(frame).expect("something to cut");
    let expected = segments.remaining();
    let mut out = Vec::new();
    while let Some(segment) = segments.next_segment(&mut pool) {
        out.push(segment);
    }
    assert_eq!((out.len(), segments.remaining()), (expected, 0));
    out
}

/// The payload of a frame's transport header.
fn payload(frame: &Frame) -> &[u8] {
    let l4 = frame.layers.l4 as usize;
    let is_tcp = support::key_of(frame.bytes()).get(slot::NW_PROTO) == 6;
    let header_len = if is_tcp { (frame.bytes()[l4 + 12] >> 4) as usize * 4 } else { 8 };
    &frame.bytes()[l4 + header_len..frame.packet_end()]
}

/// Puts the sum of the pseudo header in the checksum field, as a sender does that leaves the rest to others.
fn make_partial(frame: &mut Frame) {
    let key = support::key_of(frame.bytes());
    let l4 = frame.layers.l4;
    let offset = if key.get(slot::NW_PROTO) == 6 { 16 } else { 6 };
    let len = frame.packet_end() - l4 as usize;
    let protocol = key.get(slot::NW_PROTO) as u8;
    let pseudo = if key.dl_type() == ETHERTYPE_IPV4 {
        Sum::pseudo_v4(key.get(slot::NW_SRC) as u32, key.get(slot::NW_DST) as u32, protocol, len as u16)
    } else {
        Sum::pseudo_v6(key.get(slot::IPV6_SRC), key.get(slot::IPV6_DST), protocol, len as u32)
    };
    let at = l4 as usize + offset as usize;
    frame.bytes_mut()[at..at + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
    frame.checksum = Checksum::Partial { start: l4, offset };
}

/// The frames of one side in the order sent, with payload.
fn sent_by_a(name: &str) -> Vec<Frame> {
    let all = capture(name).into_iter().map(|bytes| extracted(&bytes));
    all.filter(|f| f.bytes()[6..12] == [2, 0, 0, 0, 0, 0x0a] && !payload(f).is_empty()).collect()
}

/// What Linux made of a super-frame, byte for byte.
fn check_against_kernel(name: &str, segmentation: fn(u16) -> Segmentation) {
    let mut wanted = sent_by_a(&format!("{name}-cut")).into_iter();
    let mut cut_ones = 0;
    for mut frame in sent_by_a(&format!("{name}-super")) {
        let first = wanted.next().expect("a segment");
        let offset = if name.starts_with("tcp") { 16 } else { 6 };
        frame.checksum = Checksum::Partial { start: frame.layers.l4, offset };
        frame.segmentation = segmentation(payload(&first).len() as u16);
        frame.validate_offload().expect("the kernel does not lie");
        let segments = cut(frame);
        cut_ones += segments.len();
        assert_eq!(segments[0].bytes(), first.bytes());
        for segment in &segments[1..] {
            assert_eq!(segment.bytes(), wanted.next().expect("a segment").bytes());
        }
    }
    assert!(wanted.next().is_none());
    assert!(cut_ones > 3, "nothing was cut");
}

#[test]
fn tcp_over_ipv4_as_the_kernel_cuts_it() {
    check_against_kernel("tcp4", |size| Segmentation::TcpV4 { size, ecn: false });
}

#[test]
fn tcp_over_ipv6_as_the_kernel_cuts_it() {
    check_against_kernel("tcp6", |size| Segmentation::TcpV6 { size, ecn: false });
}

#[test]
fn udp_over_ipv4_as_the_kernel_cuts_it() {
    check_against_kernel("uso4", |size| Segmentation::UdpL4 { size });
}

#[test]
fn udp_over_ipv6_as_the_kernel_cuts_it() {
    check_against_kernel("uso6", |size| Segmentation::UdpL4 { size });
}

/// A super-frame of TCP with every flag set.
fn tcp4_super(payload_len: usize, size: u16) -> Frame {
    let payload: Vec<u8> = (0..payload_len).map(|i| (i * 31) as u8).collect();
    let bytes = FrameBuilder::tcp4((1, 2), (3, 4), 0xff & !0x06)
        .tcp_numbers(u32::MAX - 100, 5)
        .tcp_options(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8])
        .identification(0xfffe)
        .payload(&payload)
        .build();
    let mut frame = extracted(&bytes);
    make_partial(&mut frame);
    frame.segmentation = Segmentation::TcpV4 { size, ecn: true };
    frame
}

#[test]
fn flags_and_numbers_of_tcp() {
    let segments = cut(tcp4_super(250, 100));
    let keys: Vec<PacketKey> = segments.iter().map(|s| support::key_of(s.bytes())).collect();
    let flags: Vec<u16> = keys.iter().map(|k| k.get(slot::TCP_FLAGS) as u16).collect();
    let (fin, psh, cwr) = (0x01, 0x08, 0x80);
    assert_eq!(flags, [0xf9 & !fin & !psh, 0xf9 & !fin & !psh & !cwr, 0xf9 & !cwr]);
    let u32_at = |s: &Frame, at: usize| u32::from_be_bytes(s.bytes()[at..at + 4].try_into().unwrap());
    let sequences: Vec<u32> = segments.iter().map(|s| u32_at(s, s.layers.l4 as usize + 4)).collect();
    assert_eq!(sequences, [u32::MAX - 100, u32::MAX, 99], "wraps around");
    let identifications: Vec<u32> = segments.iter().map(|s| u32_at(s, 18) >> 16).collect();
    assert_eq!(identifications, [0xfffe, 0xffff, 0], "wraps around");
    for segment in &segments {
        assert_eq!(segment.bytes()[54..66], [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], "options are kept");
        assert_eq!((segment.checksum, segment.segmentation), (Checksum::Valid, Segmentation::None));
    }
}

#[test]
fn no_segment_has_a_udp_checksum_of_zero() {
    // One payload in 65,536 sums up so: find it.
    let found = (0..=u16::MAX).find(|word| {
        let bytes = FrameBuilder::udp4((1, 2), (3, 4)).payload(&word.to_be_bytes()).build();
        bytes[40..42] == [0xff; 2]
    });
    let mut payload = found.expect("a payload").to_be_bytes().to_vec();
    payload.push(9);
    let mut frame = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).payload(&payload).build());
    make_partial(&mut frame);
    frame.segmentation = Segmentation::UdpL4 { size: 2 };
    assert_eq!(cut(frame)[0].bytes()[40..42], [0xff; 2]);
}

#[test]
fn padding_is_not_payload() {
    let mut frame = tcp4_super(250, 100);
    frame = {
        let mut padded = Frame::with_capacity(1000);
        padded.append(frame.bytes()).unwrap();
        padded.append(&[0xee; 300]).unwrap();
        (padded.checksum, padded.segmentation) = (frame.checksum, frame.segmentation);
        PacketKey::extract(&mut padded).unwrap();
        padded
    };
    assert_eq!(frame.layers.padding, 300);
    assert_eq!(cut(frame).iter().map(|s| payload(s).len()).collect::<Vec<_>>(), [100, 100, 50]);
}

#[test]
fn behind_tags_and_labels() {
    let mut frame = tcp4_super(250, 100);
    assert!(packet::rewrite::push_vlan(&mut frame, 0x8100, 5));
    assert!(packet::rewrite::push_mpls(&mut frame, ETHERTYPE_MPLS, 0x1234_5140));
    for segment in cut(frame).iter_mut() {
        assert!(packet::rewrite::pop_mpls(segment, ETHERTYPE_IPV4));
        segment.checksum = Checksum::Unknown;
        assert!(segment.verify_transport() && segment.verify_ipv4_header());
        assert_eq!(support::key_of(segment.bytes()).get(slot::VLAN_TCI), 0x1005);
    }
}

/// The checksum covers the last destination, which a routing header with segments left names (RFC 8200 section 8.1).
#[test]
fn behind_a_routing_header() {
    let ([src, next_stop], last) = ([1u128, 2], 3u128);
    let content: Vec<u8> = (0..251u32).map(|i| (i * 31) as u8).collect();
    let built = FrameBuilder::tcp6((src, 5), (next_stop, 6), 0x18).payload(&content).build();
    // Type 4, two units of 8 bytes behind the first, one segment left.
    let mut routing = vec![PROTO_TCP, 2, 4, 1, 0, 0, 0, 0];
    routing.extend(last.to_be_bytes());
    let mut frame = extracted(&[&built[..54], &routing, &built[54..]].concat());
    frame.bytes_mut()[18..20].copy_from_slice(&((24 + 20 + content.len()) as u16).to_be_bytes());
    frame.bytes_mut()[20] = PROTO_ROUTING;
    PacketKey::extract(&mut frame).unwrap();
    let pseudo = Sum::pseudo_v6(src, last, PROTO_TCP, 20 + content.len() as u32);
    frame.bytes_mut()[78 + 16..78 + 18].copy_from_slice(&pseudo.folded().to_be_bytes());
    frame.checksum = Checksum::Partial { start: 78, offset: 16 };
    frame.segmentation = Segmentation::TcpV6 { size: 100, ecn: false };
    assert_eq!(frame.validate_offload(), Ok(()));
    let segments = cut(frame);
    assert_eq!(segments.len(), 3);
    for segment in &segments {
        let tcp = etherparse::TcpSlice::from_slice(&segment.bytes()[78..]).unwrap();
        let right =
            tcp.to_header().calc_checksum_ipv6_raw(src.to_be_bytes(), last.to_be_bytes(), tcp.payload());
        assert_eq!(Ok(tcp.checksum()), right);
    }
}

#[test]
fn lies_about_segmentation_are_drops() {
    let validate = |change: fn(&mut Frame)| {
        let mut frame = tcp4_super(250, 100);
        change(&mut frame);
        frame.validate_offload()
    };
    let lie = Err(Malformed::Segmentation);
    assert_eq!(validate(|_| ()), Ok(()));
    assert_eq!(validate(|f| f.segmentation = Segmentation::TcpV4 { size: 0, ecn: false }), lie);
    assert_eq!(validate(|f| f.segmentation = Segmentation::TcpV6 { size: 100, ecn: false }), lie);
    assert_eq!(validate(|f| f.segmentation = Segmentation::UdpL4 { size: 100 }), lie);
    assert_eq!(validate(|f| f.checksum = Checksum::Valid), lie);
    let mut frame = tcp4_super(5000, 2);
    assert_eq!(frame.validate_offload(), lie, "more segments than allowed");
    let mut frame = tcp4_super(100, 100);
    assert_eq!(frame.validate_offload(), Ok(()));
    assert_eq!(frame.segmentation, Segmentation::None, "one segment is none");
}

#[test]
fn lies_about_checksums_are_drops() {
    let validate = |start: u16, offset: u16| {
        let mut frame = tcp4_super(250, 100);
        frame.segmentation = Segmentation::None;
        frame.checksum = Checksum::Partial { start, offset };
        (frame.validate_offload(), frame)
    };
    assert_eq!(validate(34, 16).0, Ok(()));
    for (start, offset) in
        [(0, 0), (34, 6), (33, 17), (38, 12), (14, 10), (315, 16), (u16::MAX, u16::MAX), (34, u16::MAX)]
    {
        assert_eq!(validate(start, offset).0, Err(Malformed::Checksum), "{start}+{offset}");
    }
}

/// What is missing from a fragment cannot be summed.
#[test]
fn partial_checksum_of_a_fragment_is_a_lie() {
    for builder in [FrameBuilder::udp4((1, 2), (3, 4)), FrameBuilder::udp6((1, 2), (3, 4))] {
        let mut frame = extracted(&builder.set(slot::NW_FRAG, 1).payload(&[0; 16]).build());
        frame.checksum = Checksum::Partial { start: frame.layers.l4, offset: 6 };
        assert_eq!(frame.validate_offload(), Err(Malformed::Checksum));
    }
}

/// A sender that made a tunnel itself leaves the inner checksum to be completed: it is, and no header is touched.
#[test]
fn inner_partial_checksums_are_completed_at_the_door() {
    let mut inner = extracted(&FrameBuilder::tcp4((7, 8), (9, 10), 2).payload(b"odd").build());
    let complete = inner.bytes().to_vec();
    make_partial(&mut inner);
    let mut outer = extracted(&FrameBuilder::udp4((1, 2), (3, 4)).payload(inner.bytes()).build());
    outer.checksum = Checksum::Partial { start: 42 + 34, offset: 16 };
    assert_eq!(outer.validate_offload(), Ok(()));
    assert_eq!(outer.checksum, Checksum::Unknown);
    assert_eq!(outer.bytes()[42..], complete);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn segments_are_the_payload_again(
        is_tcp in any::<bool>(),
        is_ipv6 in any::<bool>(),
        tags in 0usize..3,
        payload_len in 1usize..3000,
        size in 2u16..1500,
        options in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let builder = match (is_tcp, is_ipv6) {
            (true, false) => FrameBuilder::tcp4((1, 2), (3, 4), 0x18),
            (true, true) => FrameBuilder::tcp6((1, 2), (3, 4), 0x18),
            (false, false) => FrameBuilder::udp4((1, 2), (3, 4)),
            (false, true) => FrameBuilder::udp6((1, 2), (3, 4)),
        };
        let content: Vec<u8> = (0..payload_len).map(|i| ((i * 131) >> 3) as u8).collect();
        let builder = (0..tags).fold(builder.tcp_options(&options), |b, i| b.vlan(0x8100, i as u16 + 1));
        let mut frame = extracted(&builder.payload(&content).build());
        make_partial(&mut frame);
        frame.segmentation = match (is_tcp, is_ipv6) {
            (true, false) => Segmentation::TcpV4 { size, ecn: false },
            (true, true) => Segmentation::TcpV6 { size, ecn: false },
            _ => Segmentation::UdpL4 { size },
        };
        prop_assert_eq!(frame.validate_offload(), Ok(()));
        if frame.segmentation == Segmentation::None {
            frame.complete_checksum();
            frame.checksum = Checksum::Unknown;
            prop_assert!(frame.verify_transport());
            return Ok(());
        }
        let key = support::key_of(frame.bytes());
        let mut together = Vec::new();
        for mut segment in cut(frame) {
            let noted = segment.layers;
            segment.checksum = Checksum::Unknown;
            let mut again = PacketKey::extract(&mut segment).unwrap();
            prop_assert_eq!(segment.layers, noted);
            prop_assert!(segment.verify_transport() && segment.verify_ipv4_header());
            again.set(slot::TCP_FLAGS, key.get(slot::TCP_FLAGS));
            prop_assert_eq!(again, key);
            prop_assert!(payload(&segment).len() <= size as usize);
            if !is_tcp {
                let l4 = segment.layers.l4 as usize;
                let said = u16::from_be_bytes([segment.bytes()[l4 + 4], segment.bytes()[l4 + 5]]) as usize;
                prop_assert_eq!(said, 8 + payload(&segment).len());
            }
            together.extend_from_slice(payload(&segment));
        }
        prop_assert_eq!(together, content);
    }
}
