//! Frames for those who take only complete ones: checksums completed, super-frames cut.

use crate::drop::Drop;
use packet::segment::Segments;
use packet::{Frame, FramePool};

/// Calls `send` with each complete frame that `frame` stands for, until it answers false. The buffer goes to the pool if all
/// were sent.
///
/// # Errors
/// The frame, and [`Drop::BadOffload`] if it cannot be cut, or [`Drop::TxError`] if `send` answered false.
pub(super) fn each(
    mut frame: Frame,
    pool: &mut FramePool,
    mut send: impl FnMut(&[u8]) -> bool,
) -> Result<(), (Frame, Drop)> {
    if !frame.is_super_frame() {
        frame.complete_checksum();
        if !send(frame.bytes()) {
            return Err((frame, Drop::TxError));
        }
        pool.give(frame);
        return Ok(());
    }
    let mut segments = match Segments::new(frame) {
        Ok(segments) => segments,
        Err(frame) => return Err((frame, Drop::BadOffload)),
    };
    while let Some(segment) = segments.next_segment(pool) {
        let sent = send(segment.bytes());
        pool.give(segment);
        if !sent {
            return Err((segments.into_frame(), Drop::TxError));
        }
    }
    pool.give(segments.into_frame());
    Ok(())
}
