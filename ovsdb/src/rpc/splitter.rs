//! Cutting a byte stream into JSON objects, as the bytes come, whatever the chunks.

use serde_json::Value;

/// How much a peer may send.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// The longest message, in bytes.
    pub message_bytes_max: usize,
    /// The deepest nesting of arrays and objects in a message.
    pub depth_max: usize,
}

impl StreamLimits {
    /// 16 MiB, which holds a transaction of tens of thousands of rows, and 100 levels, where the protocol needs ten.
    pub const DEFAULT: StreamLimits = StreamLimits { message_bytes_max: 16 << 20, depth_max: 100 };
}

/// Why a stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A message without end.
    #[error("message is longer than {0} bytes")]
    TooLong(usize),
    /// A message with too many brackets.
    #[error("message is nested deeper than {0} levels")]
    TooDeep(usize),
    /// Something else than an object.
    #[error("message does not begin with \"{{\" but with byte 0x{0:02x}")]
    NotObject(u8),
    /// Something that looks like an object and is none.
    #[error("message is not JSON: {0}")]
    NotJson(String),
}

/// Collects bytes until they make a message.
#[derive(Debug)]
pub struct Splitter {
    limits: StreamLimits,
    buffer: Vec<u8>,
    /// Where the message at hand begins in the buffer.
    start: usize,
    /// How far the buffer has been looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// Nothing read yet.
    pub fn new(limits: StreamLimits) -> Self {
        Splitter {
            limits,
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes of an incomplete message are held.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next complete message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// When the stream cannot be a sequence of JSON objects within the limits. The stream is then useless.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Value>, SplitError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.start = self.scanned;
                        continue;
                    }
                    b'{' => {}
                    other => return Err(SplitError::NotObject(other)),
                }
            }
            if self.scanned - self.start > self.limits.message_bytes_max {
                return Err(SplitError::TooLong(self.limits.message_bytes_max));
            }
            if self.ends_with(byte)? {
                return self.take().map(Some);
            }
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
            self.buffer.shrink_to(1 << 16);
        }
        Ok(None)
    }

    /// Follows the structure by one byte; true if it ends the message.
    fn ends_with(&mut self, byte: u8) -> Result<bool, SplitError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > self.limits.depth_max {
                    return Err(SplitError::TooDeep(self.limits.depth_max));
                }
            }
            b'}' | b']' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            _ => {}
        }
        Ok(false)
    }

    fn take(&mut self) -> Result<Value, SplitError> {
        let bytes = self.buffer.get(self.start..self.scanned).unwrap_or(&[]);
        let parsed = serde_json::from_slice(bytes).map_err(|error| SplitError::NotJson(error.to_string()));
        self.start = self.scanned;
        parsed
    }
}
