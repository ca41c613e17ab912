//! JSON-RPC 1.0 over a byte stream (RFC 7047 §4), both ends: cutting the stream into messages, and the messages.

mod message;
mod splitter;

pub use message::{Message, MessageError};
pub use splitter::{SplitError, Splitter, StreamLimits};

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    start: usize,
}

impl Output {
    /// What is still to be written.
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or(&[])
    }

    /// Says that the first `count` bytes were written.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            // A large first view should not hold its memory for the life of the connection.
            self.bytes.shrink_to(1 << 16);
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Adds a message.
    pub fn push(&mut self, message: &Message) {
        let json = message.to_json();
        // Writing to a vector cannot fail, and a JSON value has no part that does not print.
        if serde_json::to_writer(&mut self.bytes, &json).is_err() {
            tracing::error!("message did not print");
        }
    }
}
