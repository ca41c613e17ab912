//! What ports share that move several frames with one system call: how many to ask for, and frames that wait to be sent
//! together, TCP segments of a stream joined as they come.

use super::{Losses, vnet};
use crate::drop::Drop;
use packet::coalesce::{Joined, Run};
use packet::{Frame, FramePool};
use sys::vnet::VnetHeader;

/// Most frames of one call.
pub(super) const FRAMES_MAX: usize = 32;
const _: () =
    assert!(FRAMES_MAX <= sys::io_ring::REQUESTS_MAX && FRAMES_MAX <= sys::packet_socket::FRAMES_MAX);

/// Fewest frames to ask for at a time.
const EXPECTED_MIN: usize = 2;
/// Waiting frames that are looked at to find the stream that a segment belongs to.
pub(super) const JOIN_SCAN_MAX: usize = 8;

/// How many frames to ask for at a time: more than there were the last time, so that it shows when there are no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    expected: usize,
    drained: bool,
}

impl Demand {
    pub const fn new() -> Self {
        Demand { expected: EXPECTED_MIN, drained: false }
    }

    /// How many to ask for, where `room` fit.
    pub fn wanted(self, room: usize) -> usize {
        self.expected.min(room)
    }

    /// Whether there has been next to nothing.
    pub fn is_low(self) -> bool {
        self.expected == EXPECTED_MIN
    }

    /// Whether the last call got less than it asked for.
    pub fn is_drained(self) -> bool {
        self.drained
    }

    /// Learns what came of asking for `wanted`.
    pub fn learn(&mut self, found: usize, wanted: usize) {
        self.drained = found < wanted;
        self.expected = if self.drained { found + 1 } else { 2 * wanted }.clamp(EXPECTED_MIN, FRAMES_MAX);
    }

    /// For who asks in other ways, and so may know that there is no more.
    pub fn set_drained(&mut self, drained: bool) {
        self.drained = drained;
    }
}

/// Keeps those of `frames` that were filled, in order, and the `counts` that say so, side by side at the front; the others go back
/// to the pool. Returns how many were. A frame may come between two reads of one call, so that a later one finds what an
/// earlier one did not.
pub(super) fn keep_filled(
    frames: &mut Vec<Frame>,
    counts: &mut [Option<usize>],
    pool: &mut FramePool,
) -> usize {
    let mut kept = 0;
    for at in 0..frames.len().min(counts.len()) {
        if counts.get(at).is_some_and(Option::is_some) {
            frames.swap(at, kept);
            counts.swap(at, kept);
            kept += 1;
        }
    }
    // From the end, so that frames go back as they were taken.
    while frames.len() > kept
        && let Some(frame) = frames.pop()
    {
        pool.give(frame);
    }
    kept
}

/// A frame that waits to be sent, and what of a stream it is if others may be joined to it.
pub(super) struct Waiting {
    pub frame: Frame,
    run: Option<Run>,
}

impl Waiting {
    /// How many frames it was made of.
    pub fn frames(&self) -> u64 {
        self.run.map_or(1, |run| run.segments().into())
    }
}

/// Frames that wait to be sent, at most [`FRAMES_MAX`].
pub(super) struct Outbox(Vec<Waiting>);

impl Outbox {
    pub fn new() -> Self {
        Outbox(Vec::with_capacity(FRAMES_MAX))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is to be sent before more can wait.
    pub fn is_full(&self) -> bool {
        self.0.len() >= FRAMES_MAX
    }

    /// Adds a frame as it is.
    pub fn add(&mut self, frame: Frame) {
        self.0.push(Waiting { frame, run: None });
    }

    /// Adds a frame, or makes it part of the super-frame that is waiting for more of its stream. The other side's kernel, which
    /// has the work of a frame for each frame, then has it once.
    #[inline]
    pub fn add_or_join(&mut self, frame: Frame, pool: &mut FramePool) {
        let run = Run::of(&frame);
        if run.as_ref().is_some_and(|run| self.join(&frame, run)) {
            return pool.give(frame);
        }
        self.0.push(Waiting { frame, run });
    }

    #[inline]
    fn join(&mut self, frame: &Frame, run: &Run) -> bool {
        for held in self.0.iter_mut().rev().take(JOIN_SCAN_MAX) {
            let Some(held_run) = &mut held.run else { continue };
            match held_run.join(&mut held.frame, frame, run) {
                Joined::Yes => return true,
                Joined::No => return false,
                Joined::OtherStream => {}
            }
        }
        false
    }

    /// Puts virtio-net headers before all frames; those that have none are lost.
    pub fn put_headers<const LEN: usize>(
        &mut self,
        encode: fn(&VnetHeader) -> [u8; LEN],
        losses: &mut Losses,
    ) {
        self.0.retain_mut(|Waiting { frame, .. }| {
            let header = vnet::describe(frame);
            let put = header.and_then(|header| match frame.push_front(LEN) {
                Ok(front) => {
                    front.copy_from_slice(&encode(&header));
                    Ok(())
                }
                Err(_) => Err(Drop::TxTooBig),
            });
            put.inspect_err(|reason| losses.add(*reason, 1, frame.len() as u64)).is_ok()
        });
    }

    /// The frames, to be put back by [`Self::put_back`] so that their place is not allocated again.
    pub fn take(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.0)
    }

    /// Gives all frames to the pool.
    pub fn put_back(&mut self, mut all: Vec<Waiting>, pool: &mut FramePool) {
        all.drain(..).for_each(|waiting| pool.give(waiting.frame));
        self.0 = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_come_between_two_reads_are_kept_in_order() {
        let mut pool = FramePool::new(8);
        for filled in 0..32u32 {
            let mut frames: Vec<Frame> = (0..5).map(|_| pool.take()).collect();
            let mut counts = [None; 6];
            for (at, frame) in frames.iter_mut().enumerate().filter(|(at, _)| filled >> at & 1 == 1) {
                frame.append(&vec![7; at + 1]).unwrap();
                counts[at] = Some(at + 1);
            }
            let kept = keep_filled(&mut frames, &mut counts, &mut pool);
            let expected: Vec<usize> = (0..5).filter(|at| filled >> at & 1 == 1).map(|at| at + 1).collect();
            assert_eq!(kept, expected.len());
            assert_eq!(frames.iter().map(Frame::len).collect::<Vec<_>>(), expected);
            assert_eq!(counts.iter().copied().flatten().collect::<Vec<_>>(), expected);
            assert_eq!(pool.len(), 5 - kept);
            frames.drain(..).for_each(|frame| pool.give(frame));
        }
    }

    #[test]
    fn demand_follows_what_is_found() {
        let mut demand = Demand::new();
        let mut asked = Vec::new();
        for waiting in [2, 4, 8, 50, 50, 50, 3, 0, 0, 1] {
            let wanted = demand.wanted(32);
            asked.push(wanted);
            demand.learn(waiting.min(wanted), wanted);
            assert_eq!(demand.is_drained(), waiting < wanted);
        }
        assert_eq!(asked, [2, 4, 8, 16, 32, 32, 32, 4, 2, 2]);
    }
}
