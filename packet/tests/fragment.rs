//! Cutting into fragments, judged by etherparse's reassembly.

mod support;

use etherparse::SlicedPacket;
use etherparse::defrag::IpDefragPool;
use packet::fragment::{SplitError, split, split_despite_df};
use packet::wire::*;
use packet::{Checksum, Fragment, Frame, FrameBuilder, FramePool, Segmentation, Sum, slot};
use proptest::prelude::*;
use support::{extracted, key_of};

const A: u32 = 0x0a00_0001;
const B: u32 = 0x0a00_0002;
const A6: u128 = 0xfd00 << 112 | 1;
const B6: u128 = 0xfd00 << 112 | 2;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn cut_as(
    by: impl Fn(&Frame, usize, &mut FramePool, &mut Vec<Frame>) -> Result<(), SplitError>,
    frame: &[u8],
    mtu: usize,
) -> Result<Vec<Frame>, SplitError> {
    let (mut pool, mut out) = (FramePool::new(4), Vec::new());
    by(&extracted(frame), mtu, &mut pool, &mut out).map(|()| out)
}

fn cut(frame: &[u8], mtu: usize) -> Result<Vec<Frame>, SplitError> {
    cut_as(|frame, mtu, pool, out| split(frame, mtu, 0xdead_beef, pool, |f| out.push(f)), frame, mtu)
}

/// The payload that etherparse puts together, and its protocol.
fn defragmented(fragments: &[Frame]) -> Option<(u8, Vec<u8>)> {
    let mut pool = IpDefragPool::<(), ()>::new();
    let mut whole = None;
    for fragment in fragments {
        assert!(whole.is_none(), "complete before the last fragment");
        let sliced = SlicedPacket::from_ethernet(fragment.bytes()).expect("a packet");
        whole = pool.process_sliced_packet(&sliced, (), ()).expect("a sound fragment");
    }
    whole.map(|w| (w.ip_number.0, w.payload))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Where the IP header is, by the tags alone.
fn network_at(bytes: &[u8]) -> usize {
    let mut at = 12;
    while [0x8100, 0x88a8].contains(&be16(bytes, at)) {
        at += 4;
    }
    at + 2
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the MTU, tags and options: no fragment is longer, and etherparse finds the very payload.
    #[test]
    fn what_is_cut_can_be_put_together(
        is_ipv4: bool,
        len in 0usize..9_000,
        mtu in 68usize..3_000,
        tags in 0usize..=2,
        options in prop::sample::select(vec![0usize, 4, 12, 40]),
    ) {
        let mut builder = if is_ipv4 {
            FrameBuilder::udp4((A, 5), (B, 6)).identification(77).ipv4_options(&vec![1; options])
        } else {
            FrameBuilder::udp6((A6, 5), (B6, 6))
        };
        for tci in 0..tags {
            builder = builder.vlan(0x8100, 5 + tci as u16);
        }
        let bytes = builder.payload(&payload(len)).build();
        let l3 = network_at(&bytes);
        let headers = if is_ipv4 { 20 + options } else { 40 };
        let fragments = cut(&bytes, mtu).expect("there is room for payload");
        if bytes.len() - l3 <= mtu {
            prop_assert_eq!(fragments.len(), 1);
            prop_assert_eq!(fragments[0].bytes(), &bytes[..]);
            return Ok(());
        }
        for fragment in &fragments {
            prop_assert!(fragment.len() - l3 <= mtu);
            prop_assert_eq!(&fragment.bytes()[..l3], &bytes[..l3]);
            prop_assert!(fragment.verify_ipv4_header());
            let said = Fragment::of(fragment).expect("a fragment");
            prop_assert_eq!(said.identification, if is_ipv4 { 77 } else { 0xdead_beef });
            prop_assert_eq!(said.packet_len(), fragment.len() - l3);
            prop_assert!(!said.has_more || said.payload_len.is_multiple_of(8));
        }
        let (protocol, whole) = defragmented(&fragments).expect("complete");
        prop_assert_eq!(protocol, PROTO_UDP);
        prop_assert_eq!(&whole[..], &bytes[l3 + headers..]);
        let first = Fragment::of(&fragments[0]).expect("a fragment");
        let mut again = FramePool::new(1).take();
        first.write_whole_headers(&fragments[0], whole.len(), &mut again).expect("fits");
        again.append(&whole).expect("fits");
        prop_assert_eq!(again.bytes(), &bytes[..]);
    }

    /// A fragment of a fragment: routers on the way cut again, and it still fits together.
    #[test]
    fn fragments_can_be_cut_further(len in 3_000usize..9_000, first in 600usize..3_000, second in 68usize..600) {
        let bytes = FrameBuilder::udp4((A, 5), (B, 6)).identification(9).payload(&payload(len)).build();
        let mut fragments = Vec::new();
        for fragment in cut(&bytes, first).expect("cut") {
            fragments.extend(cut(fragment.bytes(), second).expect("cut again"));
        }
        prop_assert!(fragments.iter().all(|f| f.len() - 14 <= second));
        prop_assert_eq!(defragmented(&fragments), Some((PROTO_UDP, bytes[34..].to_vec())));
    }

    #[test]
    fn random_bytes_are_described_and_cut_without_harm(bytes in support::any_damaged(), mtu in 0usize..200) {
        let mut frame = Frame::from_bytes(&bytes);
        if packet::PacketKey::extract(&mut frame).is_err() {
            return Ok(());
        }
        if let Some(said) = Fragment::of(&frame) {
            prop_assert_ne!(support::key_of(&bytes).get(slot::DL_TYPE), 0);
            prop_assert!(said.payload + said.payload_len <= frame.len());
        }
        let mut pool = FramePool::new(4);
        let mut longest = 0;
        let l3 = frame.layers.l3 as usize;
        if split_despite_df(&frame, mtu, 1, &mut pool, |f| longest = longest.max(f.packet_end())).is_ok() {
            prop_assert!(longest <= l3 + mtu);
        }
    }
}

/// RFC 791 section 3.1: the copied flag of an option says whether later fragments have it too.
#[test]
fn only_options_with_the_copied_flag_are_repeated() {
    // No operation, record route (not copied), loose source route (copied), end.
    let options = [&[1][..], &[7, 7, 4, 0, 0, 0, 0], &[0x83, 7, 4, 10, 0, 0, 9], &[0]].concat();
    let bytes = FrameBuilder::udp4((A, 5), (B, 6)).ipv4_options(&options).payload(&payload(450)).build();
    let fragments = cut(&bytes, 200).expect("cut");
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragments[0].bytes()[14] & 15, 9);
    assert_eq!(&fragments[0].bytes()[34..50], &options[..]);
    for later in &fragments[1..] {
        assert_eq!(later.bytes()[14], 0x47);
        assert_eq!(later.bytes()[34..42], [0x83, 7, 4, 10, 0, 0, 9, 0]);
        assert!(later.verify_ipv4_header());
    }
    assert_eq!(defragmented(&fragments), Some((PROTO_UDP, bytes[50..].to_vec())));
}

#[test]
fn the_dont_fragment_flag_is_honoured_unless_told_otherwise() {
    let mut bytes = FrameBuilder::udp4((A, 5), (B, 6)).payload(&payload(3_000)).build();
    bytes[20] |= 0x40;
    assert_eq!(cut(&bytes, 1_500).err(), Some(SplitError::DontFragment));
    // It need not be cut, so the flag does not matter.
    assert_eq!(cut(&bytes, 3_028).map(|f| f.len()), Ok(1));
    let despite = |frame: &Frame, mtu: usize, pool: &mut FramePool, out: &mut Vec<Frame>| {
        split_despite_df(frame, mtu, 0x1234_5678, pool, |f| out.push(f))
    };
    let fragments = cut_as(despite, &bytes, 1_500).expect("cut");
    for fragment in &fragments {
        assert_eq!(fragment.bytes()[20] & 0x40, 0);
        // RFC 6864: such a packet's own identification means nothing.
        assert_eq!(be16(fragment.bytes(), 18), 0x5678);
    }
    assert_eq!(defragmented(&fragments), Some((PROTO_UDP, bytes[34..].to_vec())));
}

/// RFC 8200 section 4.5: what every router reads stays in front of the fragment header.
#[test]
fn ipv6_fragment_headers_stand_behind_routing_and_before_the_rest() {
    let plain = FrameBuilder::udp6((A6, 5), (B6, 6)).payload(&payload(2_000)).build();
    let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination_for_routing = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [60, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let destination = [17, 0, 1, 4, 0, 0, 0, 0];
    let chain = [&hop_by_hop[..], &destination_for_routing, &routing, &destination].concat();
    let mut bytes = [&plain[..54], &chain[..], &plain[54..]].concat();
    bytes[20] = PROTO_HOP_BY_HOP;
    let len = (bytes.len() - 54) as u16;
    bytes[18..20].copy_from_slice(&len.to_be_bytes());

    let fragments = cut(&bytes, 1_280).expect("cut");
    assert_eq!(fragments.len(), 2);
    for fragment in &fragments {
        let fork = 54 + 8 + 8 + 24;
        assert_eq!(fragment.bytes()[54 + 8 + 8], PROTO_FRAGMENT, "named by the routing header");
        assert_eq!(fragment.bytes()[fork], PROTO_DESTINATION);
        assert_eq!(
            Fragment::of(fragment).map(|f| (f.payload, f.protocol)),
            Some((fork + 8, PROTO_DESTINATION))
        );
        assert!(fragment.len() - 14 <= 1_280);
    }
    // etherparse does not look for the fragment header behind two kinds of options.
    let joined: Vec<u8> = fragments.iter().flat_map(|f| f.bytes()[54 + 8 + 8 + 24 + 8..].to_vec()).collect();
    assert!(joined == [&destination[..], &plain[54..]].concat());
    // Without a routing header the hop-by-hop options alone come first.
    let mut bytes = [&plain[..54], &[60, 0, 1, 4, 0, 0, 0, 0], &destination, &plain[54..]].concat();
    bytes[20] = PROTO_HOP_BY_HOP;
    let len = (bytes.len() - 54) as u16;
    bytes[18..20].copy_from_slice(&len.to_be_bytes());
    let first = &cut(&bytes, 1_280).expect("cut")[0];
    assert_eq!((first.bytes()[54], first.bytes()[62]), (PROTO_FRAGMENT, PROTO_DESTINATION));
}

/// 2ff43c78c of Open vSwitch: a checksum left to the device was completed per fragment, and so over the wrong bytes.
#[test]
fn a_partial_checksum_is_completed_before_cutting() {
    for is_ipv4 in [true, false] {
        let builder =
            if is_ipv4 { FrameBuilder::udp4((A, 5), (B, 6)) } else { FrameBuilder::udp6((A6, 5), (B6, 6)) };
        let right = builder.payload(&payload(2_999)).build();
        let mut frame = extracted(&right);
        let (l4, len) = (frame.layers.l4, (frame.len() - frame.layers.l4 as usize) as u32);
        let pseudo = if is_ipv4 {
            Sum::pseudo_v4(A, B, PROTO_UDP, len as u16)
        } else {
            Sum::pseudo_v6(A6, B6, PROTO_UDP, len)
        };
        let at = l4 as usize + 6;
        frame.bytes_mut()[at..at + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
        frame.checksum = Checksum::Partial { start: l4, offset: 6 };
        let mut fragments = Vec::new();
        split(&frame, 1_400, 1, &mut FramePool::new(4), |f| fragments.push(f)).expect("cut");
        assert!(fragments.iter().all(|f| f.checksum == Checksum::Unknown));
        assert_eq!(defragmented(&fragments), Some((PROTO_UDP, right[l4 as usize..].to_vec())));
    }
}

/// 0caac1e91 of Open vSwitch: Ethernet padding is no payload.
#[test]
fn padding_is_left_out() {
    let bytes = FrameBuilder::udp4((A, 5), (B, 6)).payload(&payload(1_000)).build();
    let padded = [&bytes[..], &[0xee; 33]].concat();
    let (with, without) = (cut(&padded, 500).expect("cut"), cut(&bytes, 500).expect("cut"));
    assert!(with.iter().map(Frame::bytes).eq(without.iter().map(Frame::bytes)));
    assert_eq!(cut(&padded, 1_028).map(|f| f.len()), Ok(1), "the packet fits, padding or not");
}

#[test]
fn the_length_of_an_802_3_header_is_each_fragments_own() {
    let plain = FrameBuilder::udp4((A, 5), (B, 6)).payload(&payload(1_000)).build();
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let len = (plain.len() - 14 + 8) as u16;
    let bytes = [&plain[..12], &len.to_be_bytes()[..], &snap, &plain[14..]].concat();
    for fragment in cut(&bytes, 500).expect("cut") {
        assert_eq!(be16(fragment.bytes(), 12) as usize, fragment.len() - 14);
        assert_eq!(fragment.bytes()[14..22], snap);
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let udp = FrameBuilder::udp4((A, 5), (B, 6)).payload(&payload(2_000)).build();
    let udp6 = FrameBuilder::udp6((A6, 5), (B6, 6)).payload(&payload(2_000)).build();
    assert_eq!(cut(&udp, 27).err(), Some(SplitError::MtuTooSmall));
    assert_eq!(cut(&udp6, 55).err(), Some(SplitError::MtuTooSmall));
    assert_eq!(cut(&FrameBuilder::arp(1, (1, A), (2, B)).build(), 20).err(), Some(SplitError::NotIp));
    let fragment = &cut(&udp6, 1_280).expect("cut")[0];
    assert_eq!(cut(fragment.bytes(), 600).err(), Some(SplitError::AlreadyFragment));
    let mut last = cut(&udp, 1_280).expect("cut").pop().expect("a last one");
    last.bytes_mut()[20..22].copy_from_slice(&0x1ffeu16.to_be_bytes());
    assert_eq!(cut(last.bytes(), 100).err(), Some(SplitError::TooLong));
    let mut great = extracted(&udp);
    great.segmentation = Segmentation::UdpL4 { size: 500 };
    let done = split(&great, 1_000, 1, &mut FramePool::new(1), |_| ());
    assert_eq!(done, Err(SplitError::Segmentation));
}

/// RFC 6946: a fragment header that says "first and last" makes no fragment.
#[test]
fn atomic_fragments_are_none() {
    let plain = FrameBuilder::udp6((A6, 5), (B6, 6)).payload(&payload(20)).build();
    let mut bytes = [&plain[..54], &[PROTO_UDP, 0, 0, 0, 1, 2, 3, 4], &plain[54..]].concat();
    bytes[20] = PROTO_FRAGMENT;
    bytes[19] += 8;
    assert_eq!(Fragment::of(&extracted(&bytes)), None);
    assert_eq!(key_of(&bytes).get(slot::NW_FRAG), 0);
    bytes[57] = 1;
    let said = Fragment::of(&extracted(&bytes)).expect("a first fragment");
    assert_eq!((said.identification, said.protocol, said.offset, said.has_more), (0x0102_0304, 17, 0, true));
}
