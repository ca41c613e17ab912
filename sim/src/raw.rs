//! A node without a stack: sends any frame it is given and remembers every frame it gets.

use base::Instant;
use std::collections::VecDeque;

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
