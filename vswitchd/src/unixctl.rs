//! The protocol of ovs-appctl(8): JSON-RPC over a Unix socket, one request after the other, answers as text.
//!
//! Sans-IO: bytes in, requests out; answers in, bytes out. What the commands do is `appctl`'s business.
//!
//! One answer at a time: the next request is given when the peer has taken the answer to the last, so that somebody who
//! asks without reading holds no more memory than one answer takes.

use serde_json::{Value, json};
use std::collections::VecDeque;
use thiserror::Error;

/// Longest request in bytes: a command line with a flow or a frame in hex (64 KiB in two digits each) fits well.
pub const REQUEST_MAX: usize = 1 << 20;
/// Most requests of one connection that wait for their turn.
pub const PENDING_MAX: usize = 64;
/// Bytes of an answer in parts that may wait for the peer before the next part is made.
pub const OUTPUT_PAUSE: usize = 1 << 20;

/// One command to be answered through [`Session::reply`].
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// To be given back with the answer.
    pub id: Value,
    /// Name of the command.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why a connection must be closed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// Not JSON, or JSON of another form.
    #[error("bad request: {0}")]
    Malformed(String),
    /// The request does not end.
    #[error("request longer than {REQUEST_MAX} bytes")]
    TooLong,
    /// More requests than answers by too many.
    #[error("more than {PENDING_MAX} requests are waiting")]
    TooMany,
}

/// One connection.
#[derive(Debug, Default)]
pub struct Session {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that were sent.
    sent: usize,
    waiting: VecDeque<Request>,
    /// Whether a request was given out and not answered yet.
    underway: bool,
}

impl Session {
    /// Whether to read from the peer.
    pub fn wants_input(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes bytes from the peer.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.input.extend_from_slice(bytes);
        let mut stream = serde_json::Deserializer::from_slice(&self.input).into_iter::<Value>();
        let mut done = 0;
        loop {
            match stream.next() {
                None => break,
                Some(Ok(value)) => {
                    done = stream.byte_offset();
                    self.waiting.push_back(request(value)?);
                }
                Some(Err(e)) if e.is_eof() => break,
                Some(Err(e)) => return Err(SessionError::Malformed(e.to_string())),
            }
        }
        self.input.drain(..done);
        if self.input.len() > REQUEST_MAX {
            return Err(SessionError::TooLong);
        }
        if self.waiting.len() > PENDING_MAX {
            return Err(SessionError::TooMany);
        }
        Ok(())
    }

    /// Whether [`Session::next_request`] has something to give.
    pub fn is_due(&self) -> bool {
        !self.waiting.is_empty() && !self.underway && self.output().is_empty()
    }

    /// The next request whose turn it is.
    pub fn next_request(&mut self) -> Option<Request> {
        if !self.is_due() {
            return None;
        }
        self.underway = true;
        self.waiting.pop_front()
    }

    /// Answers a request: text, or the text of an error.
    pub fn reply(&mut self, id: &Value, answer: &Result<String, String>) {
        self.underway = false;
        // Whole lines: ovs-appctl prints what it gets and its own words behind it.
        let lines = |text: &str| {
            if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
        };
        let message = match answer {
            Ok(text) => json!({"id": id, "result": lines(text), "error": null}),
            Err(text) => json!({"id": id, "result": null, "error": lines(text)}),
        };
        self.output.extend_from_slice(message.to_string().as_bytes());
    }

    /// Begins an answer that comes in parts: for text too long to be held, or made, at once.
    pub fn begin(&mut self, id: &Value) {
        self.output.extend_from_slice(format!("{{\"error\":null,\"id\":{id},\"result\":\"").as_bytes());
    }

    /// A part of the answer that was begun: whole lines. Wait for [`Session::has_room`] in between.
    pub fn part(&mut self, text: &str) {
        // A JSON string with its quotes taken off is what stands between quotes.
        let quoted = Value::from(text).to_string();
        self.output.drain(..std::mem::take(&mut self.sent));
        self.output.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default().as_bytes());
    }

    /// Ends the answer that was begun.
    pub fn end(&mut self) {
        self.output.extend_from_slice(b"\"}");
        self.underway = false;
    }

    /// Whether the peer has taken enough of what it was told for more to be said.
    pub fn has_room(&self) -> bool {
        self.output().len() < OUTPUT_PAUSE
    }

    /// Bytes for the peer.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.sent..).unwrap_or_default()
    }

    /// The first `n` bytes of `output` were sent.
    pub fn consume(&mut self, n: usize) {
        self.sent += n;
        if self.sent >= self.output.len() {
            self.output = Vec::new();
            self.sent = 0;
        }
    }
}

fn request(value: Value) -> Result<Request, SessionError> {
    let bad = |what: &str| SessionError::Malformed(what.to_owned());
    let Value::Object(mut object) = value else { return Err(bad("not an object")) };
    let Some(Value::String(command)) = object.remove("method") else { return Err(bad("no method")) };
    let id = object.remove("id").unwrap_or(Value::Null);
    let Some(Value::Array(params)) = object.remove("params") else { return Err(bad("no params")) };
    let args = params.into_iter().map(|p| match p {
        Value::String(s) => Ok(s),
        other => Err(SessionError::Malformed(format!("parameter {other} is not a string"))),
    });
    Ok(Request { id, command, args: args.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_arrive_in_pieces_and_together() {
        let mut s = Session::default();
        let bytes =
            br#"{"id":0,"method":"fdb/show","params":["br0"]} {"id":1,"method":"exit","params":[]}{"id"#;
        let (first, rest) = bytes.split_at(20);
        assert_eq!(s.receive(first), Ok(()));
        assert_eq!(s.next_request(), None);
        assert_eq!(s.receive(rest), Ok(()));
        assert!(!s.wants_input());
        let got = s.next_request().expect("the first request");
        assert_eq!((got.command.as_str(), got.args.as_slice()), ("fdb/show", ["br0".to_owned()].as_slice()));
        assert_eq!(s.next_request(), None, "the first has not been answered");
        s.reply(&got.id, &Ok("x\n".into()));
        assert_eq!(s.next_request(), None, "the first answer has not been taken");
        assert_eq!(s.output(), br#"{"error":null,"id":0,"result":"x\n"}"#);
        s.consume(5);
        assert_eq!(s.next_request(), None, "nor has all of it");
        s.consume(s.output().len());
        let got = s.next_request().expect("the second request");
        assert!(s.wants_input());
        s.reply(&got.id, &Err("no".into()));
        assert_eq!(s.output(), br#"{"error":"no\n","id":1,"result":null}"#);
        s.consume(s.output().len());
        assert!(s.output().is_empty() && s.next_request().is_none());
    }

    #[test]
    fn an_answer_in_parts_is_one_string() {
        let mut s = Session::default();
        assert_eq!(
            s.receive(br#"{"id":[7],"method":"a","params":[]}{"id":2,"method":"b","params":[]}"#),
            Ok(())
        );
        let request = s.next_request().expect("a request");
        s.begin(&request.id);
        s.part("tab\there, \"quotes\"\n");
        s.consume(10);
        s.part("\u{1}é\n");
        assert_eq!(s.sent, 0, "what was taken is let go");
        assert!(s.has_room());
        let long = "x".repeat(OUTPUT_PAUSE);
        s.part(&long);
        assert!(!s.has_room() && !s.is_due());
        s.end();
        let answer: Value = serde_json::from_slice(&[br#"{"error":n"#, s.output()].concat()).expect("JSON");
        let text = format!("tab\there, \"quotes\"\n\u{1}é\n{long}");
        assert_eq!(answer, json!({"id": [7], "result": text, "error": null}));
        s.consume(s.output().len());
        assert_eq!(s.next_request().map(|r| r.command), Some("b".to_owned()));
    }

    #[test]
    fn bad_and_endless_requests_close_the_connection() {
        for bad in
            ["[]", "{]", r#"{"method":1,"params":[]}"#, r#"{"method":"a"}"#, r#"{"method":"a","params":[1]}"#]
        {
            assert!(
                matches!(Session::default().receive(bad.as_bytes()), Err(SessionError::Malformed(_))),
                "{bad}"
            );
        }
        let mut s = Session::default();
        let endless = format!("{{\"method\":\"{}", "a".repeat(REQUEST_MAX));
        assert_eq!(s.receive(endless.as_bytes()), Err(SessionError::TooLong));
        let flood = r#"{"id":0,"method":"version","params":[]}"#.repeat(PENDING_MAX + 1);
        assert_eq!(Session::default().receive(flood.as_bytes()), Err(SessionError::TooMany));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Session::default().receive(&bytes);
        }
    }
}
