//! Buffers that are used again: the fast path takes frames here and gives them back, and so allocates nothing.
//!
//! One pool per worker, never shared. All buffers are of one size, large enough for a super-frame, so that a frame can be
//! received into any of them.

use crate::frame::{FRAME_LEN_MAX, Frame, HEADROOM};

/// A stack of empty frames; the one given back last, whose lines are still in the cache, is taken first.
#[derive(Debug)]
pub struct FramePool {
    free: Vec<Frame>,
    limit: usize,
}

impl FramePool {
    /// Frames that a pool keeps unless it is told otherwise: 512 buffers of 64 KiB.
    pub const FRAMES_MAX: usize = 512;
    /// Size of every buffer in a pool, in bytes.
    pub const BUFFER_LEN: usize = HEADROOM + FRAME_LEN_MAX;

    /// An empty pool that keeps at most `limit` frames.
    pub fn new(limit: usize) -> FramePool {
        FramePool { free: Vec::with_capacity(limit), limit }
    }

    /// An empty frame with the full headroom and room for [`FRAME_LEN_MAX`] bytes. Allocates only if the pool is empty.
    #[inline]
    pub fn take(&mut self) -> Frame {
        match self.free.pop() {
            Some(frame) => frame,
            None => Frame::with_capacity(FRAME_LEN_MAX),
        }
    }

    /// Takes a frame back. Frees it if the pool is full or the buffer has another size (it was grown, or made elsewhere).
    #[inline]
    pub fn give(&mut self, mut frame: Frame) {
        if self.free.len() < self.limit && frame.buffer_len() == Self::BUFFER_LEN {
            frame.reset();
            self.free.push(frame);
        }
    }

    /// A copy of `frame` with all that is known about it, for flooding: copies the bytes of the frame, not of its buffer.
    #[inline]
    pub fn copy_of(&mut self, frame: &Frame) -> Frame {
        let mut copy = self.take();
        if copy.append(frame.bytes()).is_err() {
            self.give(copy);
            copy = Frame::from_bytes(frame.bytes());
        }
        copy.copy_metadata(frame);
        copy
    }

    /// Number of frames ready to be taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether the next frame must be allocated.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

impl Default for FramePool {
    fn default() -> Self {
        FramePool::new(FramePool::FRAMES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_last_given_and_keeps_to_its_limit() {
        let mut pool = FramePool::new(2);
        let frames: Vec<Frame> = (0..3).map(|_| pool.take()).collect();
        let addresses: Vec<*const u8> = frames.iter().map(|f| f.bytes().as_ptr()).collect();
        for frame in frames {
            pool.give(frame);
        }
        assert_eq!(pool.len(), 2);
        assert_eq!(pool.take().bytes().as_ptr(), addresses[1]);
        assert_eq!(pool.take().bytes().as_ptr(), addresses[0]);
        assert!(pool.is_empty());
    }

    #[test]
    fn refuses_foreign_and_grown_buffers() {
        let mut pool = FramePool::new(8);
        pool.give(Frame::from_bytes(&[1, 2, 3]));
        assert!(pool.is_empty());
        let mut grown = pool.take();
        grown.push_front(HEADROOM + 1).unwrap();
        pool.give(grown);
        assert!(pool.is_empty());
    }

    #[test]
    fn a_frame_comes_back_blank() {
        let mut pool = FramePool::new(8);
        let mut frame = pool.take();
        frame.append(&[7; 100]).unwrap();
        frame.push_front(4).unwrap();
        frame.layers.l3 = 14;
        frame.checksum = crate::Checksum::Valid;
        pool.give(frame);
        let again = pool.take();
        assert_eq!(
            (again.len(), again.headroom(), again.layers, again.checksum),
            (0, HEADROOM, Default::default(), Default::default())
        );
    }

    #[test]
    fn copies_bytes_and_metadata() {
        let mut pool = FramePool::new(8);
        let mut frame = Frame::from_bytes(&[9; 60]);
        frame.in_port = crate::DpPort(3);
        frame.layers.l3 = 14;
        let copy = pool.copy_of(&frame);
        assert_eq!((copy.bytes(), copy.in_port, copy.layers), (frame.bytes(), frame.in_port, frame.layers));
        assert_eq!(copy.headroom(), HEADROOM);
        let huge = Frame::from_bytes(&vec![1; FRAME_LEN_MAX + 1]);
        assert_eq!(pool.copy_of(&huge).bytes(), huge.bytes());
    }
}
