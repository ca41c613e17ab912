//! Ports: where frames come from and go to. The traits; the kinds of port are the submodules.
//!
//! A port's receiving side belongs to one worker. Its sending side exists once per worker, so that workers never share one.

use crate::drop::Drop;
use packet::Frame;
use std::os::fd::RawFd;
use thiserror::Error;

/// What went wrong with a port as a whole. A single frame that cannot be sent is a [`Drop`].
#[derive(Debug, Error)]
pub enum PortError {
    /// The device was deleted or its namespace died. It may come back as a new port.
    #[error("device is gone")]
    Gone,
    /// The device exists but is administratively down.
    #[error("device is down")]
    Down,
    /// Anything else the kernel said.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The receiving side of a port.
pub trait Rx: Send {
    /// Receives what is there, without waiting: at most what fits `out`. An empty batch means that there is nothing.
    ///
    /// # Errors
    /// The port failed as a whole; frames received before the failure are in `out`.
    fn recv(&mut self, pool: &mut packet::FramePool, out: &mut packet::Batch) -> Result<(), PortError>;

    /// A descriptor that polls readable when there may be something to receive.
    fn poll_fd(&self) -> Option<RawFd>;
}

/// The sending side of a port, one per worker.
pub trait Tx: Send {
    /// Takes a frame for sending. May keep it until `flush`.
    ///
    /// # Errors
    /// The frame and why it was not sent.
    fn send(&mut self, frame: Frame, pool: &mut packet::FramePool) -> Result<(), (Frame, Drop)>;

    /// Sends what is kept; frames go back to the pool.
    ///
    /// # Errors
    /// The port failed as a whole.
    fn flush(&mut self, pool: &mut packet::FramePool) -> Result<(), PortError>;
}
