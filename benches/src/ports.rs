//! Ports that are only memory: one that always has frames, and one that swallows them.

use crate::Dice;
use crate::frames::Frames;
use datapath::{Drop, PortError, Rx, Tx};
use packet::{Batch, Frame, FramePool};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A receiving side that gives full batches of copies of its frames, over and over, in an order that is random but always
/// the same.
pub struct Source {
    frames: Arc<Frames>,
    next: usize,
}

impl Source {
    /// Gives these frames.
    pub fn new(mut frames: Vec<Vec<u8>>) -> Source {
        Dice(5).shuffle(&mut frames);
        Source::in_order(Arc::new(frames.into_iter().collect()))
    }

    /// Gives these frames in the order in which they are.
    pub fn in_order(frames: Arc<Frames>) -> Source {
        assert!(!frames.is_empty());
        Source { frames, next: 0 }
    }
}

impl Rx for Source {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        while !out.is_full() {
            let bytes = self.frames.get(self.next).ok_or(PortError::Gone)?;
            let mut frame = pool.take();
            if frame.append(bytes).is_err() || out.push(frame).is_err() {
                return Err(PortError::Gone);
            }
            self.next += 1;
            if self.next == self.frames.len() {
                self.next = 0;
            }
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A receiving side that gives each of its frames once and then nothing.
pub struct Finite {
    frames: Arc<Frames>,
    next: usize,
}

impl Finite {
    /// Gives these frames.
    pub fn new(frames: Arc<Frames>) -> Finite {
        Finite { frames, next: 0 }
    }
}

impl Rx for Finite {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        while let Some(bytes) = self.frames.get(self.next).filter(|_| !out.is_full()) {
            let mut frame = pool.take();
            if frame.append(bytes).is_err() || out.push(frame).is_err() {
                return Err(PortError::Gone);
            }
            self.next += 1;
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A sending side that keeps frames until they are flushed, as a device does, and then gives their buffers back.
pub struct Sink(Vec<Frame>);

impl Sink {
    /// An empty one.
    pub fn new() -> Sink {
        Sink(Vec::with_capacity(1024))
    }
}

impl Default for Sink {
    fn default() -> Self {
        Sink::new()
    }
}

impl Tx for Sink {
    fn send(&mut self, frame: Frame, _pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        self.0.push(frame);
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        self.0.drain(..).for_each(|frame| pool.give(frame));
        Ok(())
    }
}

/// Source and sink without a switch between them: what every figure of a worker's step contains.
pub struct Wire {
    rx: Box<dyn Rx>,
    tx: Box<dyn Tx>,
    pool: FramePool,
    batch: Batch,
}

impl Wire {
    /// Between a source of these frames and a sink.
    pub fn new(frames: Vec<Vec<u8>>) -> Wire {
        Wire {
            rx: Box::new(Source::new(frames)),
            tx: Box::new(Sink::new()),
            pool: FramePool::default(),
            batch: Batch::new(),
        }
    }

    /// Moves one batch; how many frames.
    pub fn step(&mut self) -> usize {
        self.rx.recv(&mut self.pool, &mut self.batch).unwrap();
        let frames = self.batch.len();
        for frame in self.batch.drain() {
            if let Err((frame, _)) = self.tx.send(frame, &mut self.pool) {
                self.pool.give(frame);
            }
        }
        self.tx.flush(&mut self.pool).unwrap();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finite_source_gives_each_frame_once_in_order() {
        let frames = crate::frames::udp_flows(40, 64);
        let mut finite = Finite::new(Arc::new(frames.iter().collect()));
        let (mut pool, mut got) = (FramePool::default(), Vec::new());
        for expected in [32, 8, 0, 0] {
            let mut batch = Batch::new();
            finite.recv(&mut pool, &mut batch).unwrap();
            assert_eq!(batch.len(), expected);
            got.extend(batch.drain().map(|f| f.bytes().to_vec()));
        }
        assert_eq!(got, frames);
    }

    #[test]
    fn wire_moves_full_batches_and_keeps_its_buffers() {
        let mut wire = Wire::new(crate::frames::udp_flows(40, 64));
        for _ in 0..5 {
            assert_eq!(wire.step(), Batch::MAX);
            assert_eq!(wire.pool.len(), Batch::MAX);
        }
    }
}
