//! Entry for fuzzers and for the replay of their corpus: everything that bytes from outside reach.

use crate::frame::{Checksum, Frame, Segmentation};
use crate::key::{PacketKey, slot};
use crate::pool::FramePool;
use crate::rewrite;
use crate::segment::Segments;

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
    let _ = frame.verify_transport();
    if frame.validate_offload().is_err() {
        return;
    }
    let mut pool = FramePool::new(2);
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
