//! Entry for fuzzers: a sequence of fragments at a small table.

use std::time::Duration;

use base::Instant;
use packet::{DpPort, Frame, FramePool, PacketKey, slot};

use super::{Context, FragmentLimits, Offered, Reassembler};

/// Bytes of a record before its frame: what differs from the record before, and the length of the frame.
const RECORD_LEN: usize = 4;

/// Takes `data` for records of a port, a pause in seconds, and a frame, and offers them. Panics if a whole packet is a
/// fragment or cannot be cut again as it was, or if more is held than allowed.
#[expect(clippy::panic, reason = "a finding")]
pub fn offers(data: &[u8]) {
    let limits = FragmentLimits { min_v4: 0, min_v6: 0, per_datagram: 8, ..FragmentLimits::of(16) };
    let mut table = Reassembler::new(limits);
    let mut pool = FramePool::new(4);
    let (mut now, mut rest) = (Instant::ZERO, data);
    while let Some((&[port, pause, l0, l1], after)) = rest.split_first_chunk::<RECORD_LEN>() {
        let len = usize::from(u16::from_be_bytes([l0, l1])).min(after.len());
        let (bytes, next) = after.split_at_checked(len).unwrap_or((after, &[]));
        rest = next;
        now += Duration::from_secs(pause.into());
        let mut frame = Frame::from_bytes(bytes);
        let Ok(key) = PacketKey::extract(&mut frame) else { continue };
        let context = Context { ingress: DpPort(u32::from(port & 3)), zone: u16::from(port >> 2), at: 0 };
        match table.offer(frame, &key, context, &mut pool, now) {
            Offered::Whole(mut whole) => {
                if PacketKey::extract(whole.frame_mut()).is_ok_and(|key| key.get(slot::NW_FRAG) != 0) {
                    panic!("a whole packet is a fragment");
                }
                let (count, mut cut) = (whole.fragments().max(1), 0);
                whole.into_fragments(&mut pool, |_| cut += 1);
                if cut != count {
                    panic!("{count} fragments became {cut}");
                }
            }
            Offered::Dropped(frame, _) => pool.give(frame),
            Offered::Held => {}
        }
        let held = table.stats();
        if held.fragments > limits.total.fragments || held.bytes > limits.total.bytes {
            panic!("more is held than allowed: {held:?}");
        }
        table.expire(now, &mut |_, _, _| {});
    }
}
