//! A handful of frames that travel together, so that the cost of each step is shared.

use crate::frame::Frame;

/// At most [`Batch::MAX`] frames in order of arrival. The room for them is allocated once.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
    limit: usize,
}

impl Batch {
    /// Largest number of frames in a batch.
    pub const MAX: usize = 32;

    /// An empty batch.
    pub fn new() -> Batch {
        Batch { frames: Vec::with_capacity(Self::MAX), limit: Self::MAX }
    }

    /// Says how many frames fit from now on: 1 to [`Batch::MAX`], which it is at first. Those that are in it stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, Self::MAX);
    }

    /// Adds a frame at the end.
    ///
    /// # Errors
    /// The frame itself if the batch is full.
    #[inline]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.is_full() {
            return Err(frame);
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Number of frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether no further frame fits.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.frames.len() >= self.limit
    }

    /// Number of frames that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.frames.len())
    }

    /// The frames.
    #[inline]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The frames, to be changed in place.
    #[inline]
    pub fn frames_mut(&mut self) -> &mut [Frame] {
        &mut self.frames
    }

    /// Takes all frames out, first in first out; the batch is empty afterwards and keeps its room.
    #[inline]
    pub fn drain(&mut self) -> std::vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_keeps_order() {
        let mut batch = Batch::new();
        for i in 0..Batch::MAX {
            batch.push(Frame::from_bytes(&[i as u8])).unwrap();
        }
        let refused = batch.push(Frame::from_bytes(&[99])).unwrap_err();
        assert_eq!(refused.bytes(), [99]);
        assert_eq!((batch.len(), batch.room(), batch.is_full()), (Batch::MAX, 0, true));
        let room = batch.frames.as_ptr();
        let order: Vec<u8> = batch.drain().map(|f| f.bytes()[0]).collect();
        assert_eq!(order, (0..Batch::MAX as u8).collect::<Vec<_>>());
        batch.push(refused).unwrap();
        assert_eq!(batch.frames.as_ptr(), room, "no new allocation");
    }

    #[test]
    fn a_limit_leaves_what_is_there() {
        let mut batch = Batch::new();
        let mut fill = |limit: usize| {
            batch.set_limit(limit);
            while batch.push(Frame::from_bytes(&[])).is_ok() {}
            assert_eq!((batch.room(), batch.is_full()), (0, true));
            batch.len()
        };
        assert_eq!([0, 5, 3, Batch::MAX + 1].map(&mut fill), [1, 5, 5, Batch::MAX]);
    }
}
