//! The protocol of ovs-appctl(8): JSON-RPC over a Unix socket, one request after the other, answers as text.
//!
//! Sans-IO: bytes in, requests out; answers in, bytes out. What the commands do is `appctl`'s business.

use serde_json::{Value, json};
use thiserror::Error;

/// Longest request in bytes: a command line with a flow or a frame in hex (64 KiB in two digits each) fits well.
pub const REQUEST_MAX: usize = 1 << 20;
/// Most requests of one connection that wait for their answer.
pub const PENDING_MAX: usize = 64;

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
    pending: usize,
}

impl Session {
    /// Takes bytes from the peer and gives the requests that became complete.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Request>, SessionError> {
        self.input.extend_from_slice(bytes);
        let mut requests = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.input).into_iter::<Value>();
        let mut done = 0;
        loop {
            match stream.next() {
                None => break,
                Some(Ok(value)) => {
                    done = stream.byte_offset();
                    requests.push(request(value)?);
                }
                Some(Err(e)) if e.is_eof() => break,
                Some(Err(e)) => return Err(SessionError::Malformed(e.to_string())),
            }
        }
        self.input.drain(..done);
        self.pending += requests.len();
        if self.input.len() > REQUEST_MAX {
            return Err(SessionError::TooLong);
        }
        if self.pending > PENDING_MAX {
            return Err(SessionError::TooMany);
        }
        Ok(requests)
    }

    /// Answers a request: text, or the text of an error.
    pub fn reply(&mut self, id: &Value, answer: &Result<String, String>) {
        self.pending = self.pending.saturating_sub(1);
        let message = match answer {
            Ok(text) => json!({"id": id, "result": text, "error": null}),
            Err(text) => json!({"id": id, "result": null, "error": text}),
        };
        self.output.extend_from_slice(message.to_string().as_bytes());
    }

    /// Bytes for the peer.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `n` bytes of `output` were sent.
    pub fn consume(&mut self, n: usize) {
        self.output.drain(..n.min(self.output.len()));
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
        assert_eq!(s.receive(first), Ok(vec![]));
        let got = s.receive(rest).expect("two requests");
        assert_eq!(got.len(), 2);
        assert_eq!(
            (got[0].command.as_str(), got[0].args.as_slice()),
            ("fdb/show", ["br0".to_owned()].as_slice())
        );
        s.reply(&got[0].id, &Ok("x\n".into()));
        s.reply(&got[1].id, &Err("no".into()));
        let out = String::from_utf8(s.output().to_vec()).expect("utf8");
        assert_eq!(out, r#"{"error":null,"id":0,"result":"x\n"}{"error":"no","id":1,"result":null}"#);
        s.consume(out.len());
        assert!(s.output().is_empty());
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
