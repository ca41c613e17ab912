//! A node without a stack: sends any frame it is given and remembers every frame it gets.

use base::Instant;
use datapath::port::capture::{CaptureError, CaptureReader, CaptureWriter};
use packet::frame::FRAME_LEN_MAX;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// See the module's text.
#[derive(Debug, Default)]
pub struct RawHost {
    received: Vec<(Instant, Vec<u8>)>,
    pub(crate) outgoing: VecDeque<(Instant, Vec<u8>)>,
}

impl RawHost {
    /// Sends a frame, now.
    pub fn send(&mut self, bytes: Vec<u8>) {
        self.outgoing.push_back((Instant::ZERO, bytes));
    }

    /// Sends a frame at a time, or as soon as those before it have been sent.
    pub fn send_at(&mut self, at: Instant, bytes: Vec<u8>) {
        self.outgoing.push_back((at, bytes));
    }

    /// Sends the frames of a capture, the first at `start`, the others at the distances that they were captured at. Returns
    /// how many.
    ///
    /// # Errors
    /// The file is damaged; the frames before that are sent.
    pub fn replay(&mut self, start: Instant, capture: &mut CaptureReader) -> Result<usize, CaptureError> {
        let (mut room, mut first, mut frames) = (vec![0; FRAME_LEN_MAX], None, 0);
        while let Some((len, time)) = capture.read(&mut room)? {
            let begun = *first.get_or_insert(time);
            let bytes = room.get(..len.min(FRAME_LEN_MAX)).unwrap_or_default();
            self.send_at(start + time.saturating_sub(begun), bytes.to_vec());
            frames += 1;
        }
        Ok(frames)
    }

    /// Writes what it got as a capture file, for people to look at.
    ///
    /// # Errors
    /// What `file` answers.
    pub fn write_capture<W: io::Write>(&self, file: W) -> io::Result<W> {
        let mut writer = CaptureWriter::new(file)?;
        for (at, bytes) in &self.received {
            writer.write(Duration::from_nanos(at.as_nanos()), bytes)?;
        }
        writer.flush()?;
        Ok(writer.into_inner())
    }

    /// Frames that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// What it got, with the time of arrival.
    pub fn received(&self) -> &[(Instant, Vec<u8>)] {
        &self.received
    }

    /// What it got since this was last asked.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        self.received.drain(..).map(|(_, bytes)| bytes).collect()
    }

    pub(crate) fn deliver(&mut self, now: Instant, bytes: Vec<u8>) {
        self.received.push((now, bytes));
    }

    /// Frames whose time has come, and when the next has.
    pub(crate) fn poll(&mut self, now: Instant) -> (Vec<Vec<u8>>, Option<Instant>) {
        let mut frames = Vec::new();
        while let Some((at, _)) = self.outgoing.front() {
            if *at > now {
                return (frames, Some(*at));
            }
            frames.extend(self.outgoing.pop_front().map(|(_, bytes)| bytes));
        }
        (frames, None)
    }
}
