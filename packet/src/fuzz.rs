//! Entry for fuzzers and for the replay of their corpus: everything that bytes from outside reach.

use std::net::{Ipv4Addr, Ipv6Addr};

use base::HashSeed;

use crate::coalesce::{Joined, Run};
use crate::frame::{Checksum, Frame, Segmentation};
use crate::key::{PacketKey, slot};
use crate::pool::FramePool;
use crate::rewrite;
use crate::segment::Segments;
use crate::tunnel::{self, GeneveMap, GeneveOption, TunnelProtocol, TunnelPush};

/// Takes the first eight bytes for what a sender says about the frame, the rest for the frame; extracts, checks, rewrites
/// every field, pushes, pops and cuts. Panics if extraction and rewriting disagree.
#[expect(clippy::panic, reason = "a finding")]
pub fn frame(data: &[u8]) {
    let Some((&[kind, choice, s0, s1, o0, o1, g0, g1], bytes)) = data.split_first_chunk::<8>() else {
        return;
    };
    let mut frame = Frame::from_bytes(bytes);
    let size = u16::from_be_bytes([g0, g1]);
    if kind & 1 != 0 {
        frame.checksum =
            Checksum::Partial { start: u16::from_be_bytes([s0, s1]), offset: u16::from_be_bytes([o0, o1]) };
    }
    frame.segmentation = match kind >> 1 & 3 {
        0 => Segmentation::None,
        1 => Segmentation::TcpV4 { size, ecn: false },
        2 => Segmentation::TcpV6 { size, ecn: true },
        _ => Segmentation::UdpL4 { size },
    };
    let Ok(key) = PacketKey::extract(&mut frame) else { return };
    if frame.verify_checksums() != (frame.verify_ipv4_header() && frame.verify_transport()) {
        panic!("checksums are judged in two ways");
    }
    if frame.validate_offload().is_err() {
        return;
    }
    let mut pool = FramePool::new(2);
    join_with_its_successor(&frame, &mut pool);
    for (index, slot) in slot::ALL.iter().enumerate() {
        let value = key.get(*slot) ^ u128::from(choice) << (index % 9 * 8);
        rewrite::set_slot(&mut frame, *slot, value, u128::MAX);
        check_layers(&frame, &mut pool, "set_slot");
    }
    let tci = u16::from_be_bytes([choice, s1]);
    for step in 0..4 {
        let done = match choice >> (step * 2) & 3 {
            0 => rewrite::push_vlan(&mut frame, 0x8100, tci),
            1 => rewrite::pop_vlan(&mut frame),
            2 => rewrite::push_mpls(&mut frame, 0x8847, u32::from(tci) << 8 | 0x140),
            _ => rewrite::pop_mpls(&mut frame, 0x0800),
        };
        if done {
            check_layers(&frame, &mut pool, "push or pop");
        }
    }
    match Segments::new(pool.copy_of(&frame)) {
        Ok(mut segments) => {
            while let Some(segment) = segments.next_segment(&mut pool) {
                if !segment.verify_transport() {
                    panic!("segment with a wrong checksum");
                }
                pool.give(segment);
            }
        }
        Err(frame) => pool.give(frame),
    }
    frame.complete_checksum();
}

/// The layers that a rewrite left must be those that extraction finds.
#[expect(clippy::panic, reason = "a finding")]
fn check_layers(frame: &Frame, pool: &mut FramePool, what: &str) {
    let mut again = pool.copy_of(frame);
    if PacketKey::extract(&mut again).is_ok() && again.layers != frame.layers {
        panic!("{what} left {:?}, extraction finds {:?}", frame.layers, again.layers);
    }
    pool.give(again);
}

/// Joins a frame with one that would follow it in its TCP stream, as far as it is of one; cutting gives both again.
#[expect(clippy::panic, reason = "a finding")]
fn join_with_its_successor(frame: &Frame, pool: &mut FramePool) {
    let Some(mut run) = Run::of(frame) else { return };
    let l4 = frame.layers.l4 as usize;
    let (mut held, mut next) = (pool.copy_of(frame), pool.copy_of(frame));
    held.complete_checksum();
    next.complete_checksum();
    let header_len = next.bytes().get(l4 + 12).map_or(0, |b| (b >> 4) as usize * 4);
    let payload_len = (next.len() - l4 - header_len) as u32;
    if let Some(seq) = next.bytes_mut().get_mut(l4 + 4..l4 + 8).and_then(|s| s.first_chunk_mut::<4>()) {
        *seq = u32::from_be_bytes(*seq).wrapping_add(payload_len).to_be_bytes();
    }
    next.refresh_transport_checksum();
    let Some(next_run) = Run::of(&next) else { panic!("a segment like the one before") };
    let sent = [held.bytes().to_vec(), next.bytes().to_vec()];
    if run.join(&mut held, &next, &next_run) != Joined::Yes {
        return;
    }
    assert!(held.validate_offload().is_ok(), "joined to what cannot be cut");
    let Ok(mut segments) = Segments::new(held) else { panic!("joined to what cannot be cut") };
    for bytes in &sent {
        let Some(segment) = segments.next_segment(pool) else { panic!("less than was joined") };
        // The identification is that of its place in the super-frame; where DF is set it had no meaning.
        let l3 = segment.layers.l3 as usize;
        let matters = |at: usize| {
            bytes.get(l3).is_some_and(|v| v >> 4 == 6) || !matches!(at - l3.min(at), 4 | 5 | 10 | 11)
        };
        let same = segment.bytes().iter().zip(bytes).enumerate().all(|(at, (a, b))| a == b || !matters(at));
        assert!(same && segment.len() == bytes.len(), "another segment than was joined");
        pool.give(segment);
    }
}

/// Takes the first four bytes for the protocol and what is known about the checksum, the rest for a frame from a tunnel;
/// pops it, and what was in it must come through another tunnel unchanged. Panics if it does not. Offers the frame to
/// [`tunnel::too_big`] too.
#[expect(clippy::panic, reason = "a finding")]
pub fn tunnel(data: &[u8]) {
    let Some((&[choice, start, offset, mtu], bytes)) = data.split_first_chunk::<4>() else { return };
    let protocol = match choice & 3 {
        0 => TunnelProtocol::Vxlan,
        1 => TunnelProtocol::Geneve,
        2 => TunnelProtocol::Gre,
        _ => TunnelProtocol::Flannel,
    };
    let mut map = GeneveMap::default();
    for (index, kind, len) in [(0, 0x80, 4), (7, 1, 16)] {
        let _ = map.insert(index, GeneveOption { class: 0x0101, kind, len });
    }
    let mut frame = Frame::from_bytes(bytes);
    if choice & 4 != 0 {
        frame.checksum = Checksum::Partial { start: start.into(), offset: offset.into() };
    }
    if choice & 8 != 0 && PacketKey::extract(&mut frame).is_ok() {
        let _ = tunnel::too_big(&frame, mtu.into(), &mut FramePool::new(1));
    }
    let mut metadata = PacketKey::default();
    if tunnel::pop(&mut frame, protocol, &mut metadata, &map).is_err() {
        return;
    }
    if PacketKey::extract(&mut frame).is_err() {
        panic!("popped to less than an Ethernet header");
    }
    let is_flannel = protocol == TunnelProtocol::Flannel;
    let (src, dst) = (metadata.get(slot::TUN_SRC) as u32, metadata.get(slot::TUN_DST) as u32);
    let mut header = if choice & 16 != 0 {
        TunnelPush::new(protocol, Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into())
    } else {
        let (src, dst) = (metadata.get(slot::TUN_IPV6_SRC), metadata.get(slot::TUN_IPV6_DST));
        TunnelPush::new(protocol, Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into())
    };
    header.mtu = u16::MAX;
    header.csum = choice & 32 != 0;
    header.options = map.encode(&metadata);
    header.vni = Some(metadata.get(slot::TUN_ID) as u64);
    let inner = frame.bytes().to_vec();
    let again = tunnel::push(&mut frame, &header, HashSeed::new(1, 2))
        .and_then(|()| tunnel::pop(&mut frame, protocol, &mut PacketKey::default(), &map));
    // The IP packet of flannel may be a broken one, and the longest frames do not fit around themselves.
    if again.is_ok() && frame.bytes() != inner || again.is_err() && !is_flannel && inner.len() < 60_000 {
        panic!("{again:?} for a frame that came out of a tunnel");
    }
}
