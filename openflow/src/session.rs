//! One OpenFlow connection without its socket: bytes in, messages out, and the other way round. The same for switch and
//! controller; HELLO, echo, probes, malformed messages, parts of requests and the connection's dialect are dealt with here.
//!
//! The owner calls [`Session::receive`] with what it read, [`Session::poll`] until it gives nothing, writes
//! [`Session::output`] to the socket, and calls [`Session::handle_timeout`] at [`Session::next_deadline`]. Memory is
//! bounded: while a peer does not take what it is sent, requests wait unread and packet-ins are dropped, and when too much other
//! news waits for it the connection ends.
//!
//! Deliberately absent: sockets, reconnecting, roles and any other state of the switch.

use crate::codec::{self, EncodeError, HEADER_LEN, Header};
use crate::error::OfError;
use crate::message::{ErrorMessage, Hello, Message, Xid};
use crate::version::{Dialect, OfVersion, OfVersions};
use base::Instant;
use std::time::Duration;

/// Bytes of received messages kept until they are polled; what makes [`Session::wants_input`] say no.
pub const INPUT_MAX: usize = 256 * 1024;
/// Bytes waiting to be written from which on no further request is taken.
pub const OUTPUT_PAUSE: usize = 1024 * 1024;
/// Bytes waiting to be written from which on packet-ins are dropped.
pub const OUTPUT_PACKET_IN_MAX: usize = 512 * 1024;
/// Bytes of unasked messages but packet-ins that may wait to be written: what some 600,000 rules that are removed at once have
/// to say. A peer that reads meanwhile has more than that.
pub const UNASKED_MAX: usize = 64 << 20;
/// Bytes of the parts of requests being put together.
pub const ASSEMBLY_MAX: usize = 1024 * 1024;
/// Requests being put together at once.
pub const ASSEMBLIES_MAX: usize = 4;
/// How long the next part of a request may take.
pub const ASSEMBLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a switch waits for HELLO in silence, however rarely it probes.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refused message that the error quotes: all that fit behind its header, type and code, as OVS has it. The standard
/// wants 64 or more (OpenFlow 1.0 §5.4.4).
pub const QUOTE_MAX: usize = u16::MAX as usize - 12;

/// Which end of the connection a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Side {
    /// The switch: messages that only switches send are refused.
    #[default]
    Switch,
    /// A controller, or a tool.
    Controller,
}

/// How a session is to behave.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// Which end this is.
    pub side: Side,
    /// Versions offered.
    pub versions: OfVersions,
    /// After this long without a message an echo request is sent, after as long again the connection is given up.
    /// `None`: never. A switch waits at most [`HELLO_TIMEOUT`] for HELLO all the same.
    pub probe_interval: Option<Duration>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            side: Side::Switch,
            versions: OfVersions::ALL,
            probe_interval: Some(Duration::from_secs(5)),
        }
    }
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CloseReason {
    /// No version in common.
    #[error("no OpenFlow version in common (peer offers {0:#x})")]
    Incompatible(u32),
    /// The first message was not HELLO.
    #[error("first message was of type {0}, not HELLO")]
    NotHello(u8),
    /// The peer refused our HELLO.
    #[error("peer refused the version negotiation")]
    Refused,
    /// A header with a length below 8.
    #[error("message header with length {0}")]
    BadLength(u16),
    /// A message of another version than was agreed.
    #[error("message of version {0:#04x} after another was agreed")]
    BadVersion(u8),
    /// No sign of life.
    #[error("no answer to an inactivity probe")]
    Inactive,
    /// More input than is taken at once.
    #[error("input beyond the limit of {INPUT_MAX} bytes")]
    Overflow,
    /// It does not take what must not be lost.
    #[error("{UNASKED_MAX} bytes of news were not read")]
    Unread,
}

/// What [`Session::poll`] gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// Versions are negotiated; messages can be sent.
    Up(OfVersion),
    /// A message for the owner.
    Message(Box<Received>),
}

/// A message and what is needed to refuse it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its transaction id.
    pub xid: Xid,
    /// What it says.
    pub message: Message,
    /// Its first bytes, for [`Session::refuse`].
    pub quote: Vec<u8>,
}

/// Whether a packet-in was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketInFate {
    /// It will be sent.
    Sent,
    /// The peer does not read fast enough, so it was dropped.
    Dropped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Hello,
    Up,
    Closed(CloseReason),
}

/// Parts of a request that came so far.
#[derive(Debug)]
struct Assembly {
    xid: Xid,
    bytes: Vec<u8>,
    deadline: Instant,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    dialect: Dialect,
    input: Vec<u8>,
    /// Bytes of `input` that were taken.
    taken: usize,
    output: Vec<u8>,
    /// Bytes of `output` that were written.
    written: usize,
    /// Bytes waiting to be written that are unasked messages but packet-ins, at most.
    unasked: usize,
    assemblies: Vec<Assembly>,
    last_heard: Instant,
    /// Xid of our latest echo request, until it is answered: the owner does not see the answer.
    probe: Option<Xid>,
    /// Whether nothing was heard since the probe.
    unanswered: bool,
    next_xid: u32,
}

impl Session {
    /// A new connection, of either direction. HELLO is in the output at once.
    pub fn new(config: SessionConfig, now: Instant) -> Session {
        // The header of a HELLO carries the newest version offered (OpenFlow 1.3.5 §6.3.1).
        let newest = config.versions.newest_common(OfVersions::ALL).unwrap_or(OfVersion::V10);
        let mut session = Session {
            config,
            state: State::Hello,
            dialect: Dialect::new(newest),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            written: 0,
            unasked: 0,
            assemblies: Vec::new(),
            last_heard: now,
            probe: None,
            unanswered: false,
            next_xid: 1,
        };
        let xid = session.new_xid();
        session.put(xid, &Message::Hello(Hello { versions: config.versions }));
        session
    }

    /// A transaction id that this side has not used lately.
    pub fn new_xid(&mut self) -> Xid {
        let xid = Xid(self.next_xid);
        // 0 is for messages that answer nothing.
        self.next_xid = self.next_xid.checked_add(1).unwrap_or(1);
        xid
    }

    /// Probes at this interval from now on; `None`: no more.
    pub fn set_probe_interval(&mut self, interval: Option<Duration>) {
        self.config.probe_interval = interval;
    }

    /// The version agreed, once it is.
    pub fn version(&self) -> Option<OfVersion> {
        (self.state != State::Hello).then_some(self.dialect.version)
    }

    /// The form of messages on this connection.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Why the connection is over, if it is: write out [`Session::output`] as far as it goes at once, then close.
    pub fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether to read from the socket.
    pub fn wants_input(&self) -> bool {
        self.closed().is_none() && self.input.len() - self.taken < INPUT_MAX
    }

    /// Takes bytes that were read. One call should bring at most 64 KiB, and only while [`Session::wants_input`].
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.closed().is_some() {
            return;
        }
        self.last_heard = now;
        self.unanswered = false;
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.len() + bytes.len() > 2 * INPUT_MAX {
            self.close(CloseReason::Overflow);
            return;
        }
        self.input.extend_from_slice(bytes);
    }

    /// The next event, if there is one and the peer takes its replies.
    pub fn poll(&mut self, now: Instant) -> Option<SessionEvent> {
        while self.closed().is_none() && self.output().len() < OUTPUT_PAUSE {
            let message = self.next_message()?;
            if let Some(event) = self.take_message(&message, now) {
                return Some(event);
            }
        }
        None
    }

    /// Bytes to be written.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    /// Forgets the first `n` bytes of the output: they are written.
    pub fn written(&mut self, n: usize) {
        self.written += n.min(self.output().len());
        // Moved to the front only when it is less than has gone: much that is taken bit by bit would be moved again and again.
        if self.written > self.output().len() || self.output().is_empty() {
            self.output.drain(..self.written);
            self.written = 0;
        }
        if self.output.is_empty() && self.output.capacity() > OUTPUT_PAUSE {
            self.output = Vec::new();
        }
        self.unasked = self.unasked.min(self.output().len());
    }

    /// Sends a message: an answer, or a request of this side.
    ///
    /// # Errors
    /// If the agreed version cannot say it; nothing is sent then.
    pub fn send(&mut self, xid: Xid, message: &Message) -> Result<(), EncodeError> {
        if self.closed().is_some() {
            return Ok(());
        }
        codec::encode(&self.dialect, xid, message, &mut self.output)?;
        // What we tell the peer about our messages' form holds from here on.
        self.adopt(message);
        Ok(())
    }

    /// Sends a reply without the entries that cannot be said, or if it cannot be said at all an error instead. Gives how many
    /// entries were left out.
    ///
    /// # Errors
    /// Why an error was sent.
    pub fn reply(&mut self, xid: Xid, message: &Message) -> Result<usize, EncodeError> {
        if self.closed().is_some() {
            return Ok(0);
        }
        let encoded = codec::encode_reply(&self.dialect, xid, message, &mut self.output);
        match &encoded {
            Ok(_) => self.adopt(message),
            Err(error) => self.refuse(xid, error.of_error(), &[]),
        }
        encoded
    }

    /// Sends a packet-in, unless too much waits already.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_packet_in(&mut self, message: &Message) -> Result<PacketInFate, EncodeError> {
        if self.state != State::Up || self.output().len() > OUTPUT_PACKET_IN_MAX {
            return Ok(PacketInFate::Dropped);
        }
        self.send(Xid(0), message)?;
        Ok(PacketInFate::Sent)
    }

    /// Sends a message that nobody asked for and that is not to be lost, since a controller that reads would believe in what is
    /// no more (OpenFlow 1.3.5 §6.5 and §6.3.5). If more than [`UNASKED_MAX`] bytes of such messages wait, the connection ends,
    /// so that the controller asks anew.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn send_unasked(&mut self, message: &Message) -> Result<(), EncodeError> {
        if self.state != State::Up {
            return Ok(());
        }
        let before = self.output.len();
        self.send(Xid(0), message)?;
        self.unasked += self.output.len() - before;
        if self.unasked > UNASKED_MAX {
            self.close(CloseReason::Unread);
            (self.output, self.written, self.unasked) = (Vec::new(), 0, 0);
        }
        Ok(())
    }

    /// Refuses a message.
    pub fn refuse(&mut self, xid: Xid, error: OfError, quote: &[u8]) {
        let data = quote.get(..quote.len().min(QUOTE_MAX)).unwrap_or_default().to_vec();
        self.put(xid, &Message::Error(ErrorMessage { code: error.into(), data }));
    }

    /// When [`Session::handle_timeout`] is next needed.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.closed().is_some() {
            return None;
        }
        let assembly = self.assemblies.iter().map(|a| a.deadline).min();
        let probe = self.patience().map(|interval| {
            // The second interval belongs to the answer.
            self.last_heard + if self.unanswered { interval * 2 } else { interval }
        });
        [assembly, probe].into_iter().flatten().min()
    }

    /// Probes a silent peer or gives it up, and forgets requests of which a part is missing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed().is_some() {
            return;
        }
        while let Some(i) = self.assemblies.iter().position(|a| a.deadline <= now) {
            let late = self.assemblies.swap_remove(i);
            self.refuse(late.xid, OfError::BadRequestMultipartRequestTimeout, &late.bytes);
        }
        let Some(interval) = self.patience() else { return };
        let silent = now.saturating_since(self.last_heard);
        let patience = if self.unanswered { interval * 2 } else { interval };
        if silent < patience {
            return;
        }
        // A peer that does not even say HELLO is not asked for an echo.
        if self.state == State::Hello || self.unanswered {
            self.close(CloseReason::Inactive);
            return;
        }
        let xid = self.new_xid();
        self.probe = Some(xid);
        self.unanswered = true;
        self.put(xid, &Message::EchoRequest(Vec::new()));
    }

    /// How long the peer may be silent before something is done about it.
    fn patience(&self) -> Option<Duration> {
        let interval = self.config.probe_interval;
        match self.state {
            State::Hello if self.config.side == Side::Switch => {
                Some(interval.map_or(HELLO_TIMEOUT, |interval| interval.min(HELLO_TIMEOUT)))
            }
            _ => interval,
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed(reason);
        self.input = Vec::new();
        self.taken = 0;
        self.assemblies = Vec::new();
    }

    /// Sends what every version can say.
    fn put(&mut self, xid: Xid, message: &Message) {
        let sent = codec::encode(&self.dialect, xid, message, &mut self.output);
        debug_assert!(sent.is_ok(), "{message:?}");
    }

    /// The next whole message.
    fn next_message(&mut self) -> Option<Vec<u8>> {
        let waiting = self.input.get(self.taken..)?;
        let header = Header::read(waiting)?;
        let len = header.len as usize;
        if len < HEADER_LEN {
            let quote = waiting.get(..HEADER_LEN).unwrap_or_default().to_vec();
            self.refuse(header.xid, OfError::BadRequestBadLen, &quote);
            self.close(CloseReason::BadLength(header.len));
            return None;
        }
        let message = waiting.get(..len)?.to_vec();
        self.taken += len;
        Some(message)
    }

    fn take_message(&mut self, bytes: &[u8], now: Instant) -> Option<SessionEvent> {
        let header = Header::read(bytes)?;
        if self.state == State::Hello {
            return self.negotiate(header, bytes);
        }
        // A HELLO or an error of another version may still be on its way.
        let hello = matches!(header.kind, codec::HELLO);
        if hello {
            return None;
        }
        if header.version != self.dialect.version.wire() {
            self.refuse(header.xid, OfError::BadRequestBadVersion, bytes);
            self.close(CloseReason::BadVersion(header.version));
            return None;
        }
        let whole;
        let bytes = match self.assemble(header, bytes, now) {
            Assembled::Whole => bytes,
            Assembled::From(parts) => {
                whole = parts;
                &whole
            }
            Assembled::Waiting => return None,
        };
        match codec::decode(&self.dialect, bytes) {
            Ok((xid, message)) => self.deliver(xid, message, bytes),
            Err(error) => {
                // An error message or a reply that makes no sense is not answered, lest two sides never end.
                if !matches!(header.kind, codec::ERROR | codec::ECHO_REPLY) {
                    self.refuse(header.xid, error, bytes);
                }
                None
            }
        }
    }

    fn negotiate(&mut self, header: Header, bytes: &[u8]) -> Option<SessionEvent> {
        if header.kind == codec::ERROR {
            self.close(CloseReason::Refused);
            return None;
        }
        if header.kind != codec::HELLO {
            self.refuse(header.xid, OfError::HelloFailedIncompatible, b"expected HELLO");
            self.close(CloseReason::NotHello(header.kind));
            return None;
        }
        let theirs = codec::hello_versions(bytes);
        let Some(version) = self.config.versions.newest_common(theirs) else {
            let text = format!("we support {}, you support {:#x}", names(self.config.versions), theirs.0);
            self.refuse(header.xid, OfError::HelloFailedIncompatible, text.as_bytes());
            self.close(CloseReason::Incompatible(theirs.0));
            return None;
        };
        self.dialect = Dialect::new(version);
        self.state = State::Up;
        Some(SessionEvent::Up(version))
    }

    fn deliver(&mut self, xid: Xid, message: Message, bytes: &[u8]) -> Option<SessionEvent> {
        match message {
            Message::EchoRequest(data) => {
                self.put(xid, &Message::EchoReply(data));
                None
            }
            Message::EchoReply(_) if self.probe == Some(xid) => {
                self.probe = None;
                None
            }
            Message::SetFlowFormat(_) | Message::SetPacketInFormat(_) | Message::FlowModTableId(_) => {
                self.adopt(&message);
                None
            }
            message if self.config.side == Side::Switch && !message.is_for_switch() => {
                self.refuse(xid, OfError::BadRequestBadType, bytes);
                None
            }
            message => {
                let quote = bytes.get(..bytes.len().min(QUOTE_MAX)).unwrap_or_default().to_vec();
                Some(SessionEvent::Message(Box::new(Received { xid, message, quote })))
            }
        }
    }

    /// Changes the dialect as a message says, whichever side sent it.
    fn adopt(&mut self, message: &Message) {
        match message {
            Message::SetFlowFormat(format) => self.dialect.flow_format = *format,
            Message::SetPacketInFormat(format) => self.dialect.packet_in_format = *format,
            Message::FlowModTableId(set) => self.dialect.flow_mod_table_id = *set,
            _ => {}
        }
    }

    /// Puts the parts of a request together (OpenFlow 1.3.5 §7.3.5, `OFPMPF_REQ_MORE`).
    fn assemble(&mut self, header: Header, bytes: &[u8], now: Instant) -> Assembled {
        let Some(part) = codec::request_part(self.dialect.version, bytes) else { return Assembled::Whole };
        let place = self.assemblies.iter().position(|a| a.xid == header.xid);
        if place.is_none() && !part.more {
            return Assembled::Whole;
        }
        let mut assembly = match place {
            Some(i) => self.assemblies.swap_remove(i),
            None => Assembly { xid: header.xid, bytes: part.head.to_vec(), deadline: now },
        };
        let held: usize = self.assemblies.iter().map(|a| a.bytes.len()).sum();
        let total = held + assembly.bytes.len() + part.body.len();
        if total > ASSEMBLY_MAX || self.assemblies.len() >= ASSEMBLIES_MAX {
            self.refuse(header.xid, OfError::BadRequestMultipartBufferOverflow, bytes);
            return Assembled::Waiting;
        }
        if place.is_some() && !codec::same_request(&assembly.bytes, bytes) {
            self.refuse(header.xid, OfError::BadRequestBadStat, bytes);
            return Assembled::Waiting;
        }
        assembly.bytes.extend_from_slice(part.body);
        if !part.more {
            return Assembled::From(assembly.bytes);
        }
        assembly.deadline = now + ASSEMBLY_TIMEOUT;
        self.assemblies.push(assembly);
        Assembled::Waiting
    }
}

enum Assembled {
    /// The message is a whole one.
    Whole,
    /// It was the last part of this one.
    From(Vec<u8>),
    /// It was a part, or refused.
    Waiting,
}

fn names(versions: OfVersions) -> String {
    let known = OfVersion::ALL.into_iter().filter(|v| versions.contains(*v));
    known.map(OfVersion::name).collect::<Vec<_>>().join(", ")
}
