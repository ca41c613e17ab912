//! Temporary session.
use base::Instant;
use openflow::message::*;
use openflow::{Dialect, EncodeError, OfError, OfVersion, OfVersions, decode, encode};
use std::time::Duration;
#[derive(Default)]
pub struct SessionOptions { pub versions: Option<OfVersions>, pub probe: Option<Duration> }
pub struct Received { pub xid: Xid, pub message: Message, pub raw: Vec<u8> }
pub struct Session { input: Vec<u8>, output: Vec<u8>, dialect: Dialect, version: Option<OfVersion>, versions: OfVersions, ready: std::collections::VecDeque<Received> }
impl Session {
    pub fn new(o: SessionOptions, _now: Instant) -> Session {
        let versions = o.versions.unwrap_or(OfVersions::ALL);
        let newest = OfVersion::ALL.into_iter().rev().find(|v| versions.contains(*v)).unwrap_or(OfVersion::V10);
        let mut s = Session { input: vec![], output: vec![], dialect: Dialect::new(newest), version: None, versions, ready: Default::default() };
        let _ = encode(&s.dialect, Xid(1), &Message::Hello(Hello { versions }), &mut s.output);
        s
    }
    pub fn version(&self) -> Option<OfVersion> { self.version }
    pub fn output(&self) -> &[u8] { &self.output }
    pub fn consume_output(&mut self, n: usize) { self.output.drain(..n); }
    pub fn poll(&mut self, _now: Instant) -> Result<(), String> { Ok(()) }
    pub fn next_deadline(&self) -> Option<Instant> { None }
    pub fn is_overrun(&self) -> bool { false }
    pub fn next_message(&mut self) -> Option<Received> { self.ready.pop_front() }
    pub fn send(&mut self, xid: Xid, m: &Message) -> Result<(), EncodeError> { encode(&self.dialect, xid, m, &mut self.output) }
    pub fn send_error(&mut self, xid: Xid, e: OfError, q: &[u8]) -> Result<(), EncodeError> {
        self.send(xid, &Message::Error(ErrorMessage { code: e.into(), data: q.to_vec() }))
    }
    pub fn receive(&mut self, bytes: &[u8], _now: Instant) -> Result<(), String> {
        self.input.extend_from_slice(bytes);
        loop {
            if self.input.len() < 8 { return Ok(()); }
            let len = usize::from(u16::from_be_bytes([self.input[2], self.input[3]]));
            if len < 8 { return Err("short".into()); }
            if self.input.len() < len { return Ok(()); }
            let raw: Vec<u8> = self.input.drain(..len).collect();
            let xid = Xid(u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]));
            if self.version.is_none() {
                let mut v = OfVersions(0);
                if raw[1] == 0 {
                    match decode(&self.dialect, &raw) { Ok((_, Message::Hello(h))) => v = h.versions, _ => {} }
                    if v.0 == 0 { v = OfVersions((1u32 << (raw[0] + 1)) - 1); }
                }
                match self.versions.newest_common(v) { Some(x) => { self.version = Some(x); self.dialect = Dialect::new(x); }, None => return Err("no version".into()) }
                continue;
            }
            match decode(&self.dialect, &raw) {
                Ok((xid, message)) => {
                    match &message {
                        Message::FlowModTableId(on) => self.dialect.flow_mod_table_id = *on,
                        Message::SetFlowFormat(f) => self.dialect.flow_format = *f,
                        Message::SetPacketInFormat(f) => self.dialect.packet_in_format = *f,
                        _ => {}
                    }
                    self.ready.push_back(Received { xid, message, raw });
                }
                Err(e) => { let _ = self.send_error(xid, e, &raw[..raw.len().min(64)]); }
            }
        }
    }
}
