//! The server: sessions of JSON-RPC clients over hosted databases (RFC 7047 §4 and ovsdb-server(7)), without sockets.
//!
//! The shell owns the sockets and the clock. It passes on what it reads ([`Server::receive`]), calls [`Server::poll`]
//! once a turn, and writes what [`Server::output`] has. Transactions that arrive in one turn share one sync of the
//! journal (group commit): `poll` syncs, and only then do their replies and notifications appear in the output. If the
//! journal cannot be written, memory goes back to what it was and the clients get an `I/O error`.

mod commit;
mod local;
mod locks;
mod monitor;
mod requests;
mod server_db;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::time::Instant;
use serde_json::Value;

pub use local::{LocalError, LocalId};

use crate::database::Database;
use crate::log::{Journal, LogError};
use crate::rpc::{Message, MessageError, Output, SplitError, Splitter, StreamLimits};
use crate::schema::DatabaseSchema;
use crate::uuid::{Entropy, Uuid};
use commit::{Pending, Staged};
use local::Subscription;
use locks::Locks;
use monitor::Monitor;

/// Names a client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

/// How long a client may be silent before it is asked for a sign of life, unless the shell says otherwise.
pub const PROBE_DEFAULT: Duration = Duration::from_secs(5);

/// The most monitors a session may have.
const MONITORS_MAX: usize = 1024;
/// The most transactions of a session that may wait.
const WAITS_MAX: usize = 1024;

/// Bounds on what clients can make the server hold.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// What one message may be.
    pub stream: StreamLimits,
    /// The bytes of incomplete messages of all clients together.
    pub input_bytes_max: usize,
    /// The output that a client may leave unread, in bytes; one message may always be pending, however long.
    pub output_bytes_max: usize,
    /// The sessions at one time.
    pub sessions_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            stream: StreamLimits::DEFAULT,
            input_bytes_max: 256 << 20,
            output_bytes_max: 16 << 20,
            sessions_max: 4096,
        }
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The bytes are no JSON objects, or too long or too deep.
    #[error("{0}")]
    Stream(#[from] SplitError),
    /// The JSON is no JSON-RPC message.
    #[error("bad JSON-RPC message: {0}")]
    Message(#[from] MessageError),
    /// An answer to nothing.
    #[error("unexpected reply message")]
    UnexpectedReply,
    /// The client does not read.
    #[error("client left more than {0} bytes unread")]
    OutputFull(usize),
    /// All clients together have too much underway.
    #[error("clients' unfinished messages exceed {0} bytes")]
    InputFull(usize),
    /// The client does not answer.
    #[error("no response to inactivity probe after {0:?}")]
    Silent(Duration),
    /// As many sessions as there may be.
    #[error("too many sessions")]
    TooMany,
    /// A session that has ended.
    #[error("no such session")]
    Unknown,
}

struct Session {
    input: Splitter,
    output: Output,
    monitors: BTreeMap<String, Monitor>,
    probe: Option<Duration>,
    last_heard: Instant,
    probe_sent: bool,
    change_aware: bool,
}

impl Session {
    fn probe_deadline(&self) -> Option<Instant> {
        let interval = self.probe?;
        Some(self.last_heard + if self.probe_sent { interval * 2 } else { interval })
    }
}

struct Hosted {
    database: Database,
    journal: Option<Box<dyn Journal>>,
    /// Whether clients may only read.
    read_only: bool,
}

/// The parts of a [`Server`] that come from outside.
pub struct ServerOptions {
    /// For UUIDs of rows and versions.
    pub entropy: Box<dyn Entropy + Send>,
    /// The wall clock in milliseconds since 1970, for the dates in the journal.
    pub wall_clock_ms: Box<dyn FnMut() -> u64 + Send>,
    /// Bounds.
    pub limits: ServerLimits,
}

/// Databases and the sessions that use them.
pub struct Server {
    options: ServerOptions,
    id: Uuid,
    databases: BTreeMap<String, Hosted>,
    sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    input_held: usize,
    locks: Locks,
    staged: Vec<Staged>,
    pending: Vec<Pending>,
    subscriptions: BTreeMap<LocalId, Subscription>,
    next_subscription: u64,
    closed: Vec<(SessionId, SessionError)>,
}

impl Server {
    /// A server without databases but `_Server`, which tells clients of the others.
    pub fn new(mut options: ServerOptions) -> Self {
        let id = Uuid::random(&mut *options.entropy);
        let mut server = Server {
            options,
            id,
            databases: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            input_held: 0,
            locks: Locks::default(),
            staged: Vec::new(),
            pending: Vec::new(),
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
            closed: Vec::new(),
        };
        let own = Database::new(Arc::new(crate::schema::server().clone()));
        server.host(own, None, true);
        server
    }

    /// Serves a database. Without a journal nothing of it outlives the process.
    pub fn add_database(&mut self, database: Database, journal: Option<Box<dyn Journal>>) {
        self.host(database, journal, false);
    }

    fn host(&mut self, database: Database, journal: Option<Box<dyn Journal>>, read_only: bool) {
        let name = database.schema().name.clone();
        let schema = database.schema().clone();
        self.databases.insert(name, Hosted { database, journal, read_only });
        self.announce(&schema);
    }

    /// The database of that name, to look at.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name).map(|hosted| &hosted.database)
    }

    /// The names of the databases, in order.
    pub fn database_names(&self) -> impl Iterator<Item = &str> {
        self.databases.keys().map(String::as_str)
    }

    /// Writes a database's journal anew; what `ovsdb-server/compact` asks for.
    ///
    /// # Errors
    /// When the new journal cannot be written; the old one stays.
    pub fn compact(&mut self, name: &str, now: Instant) -> Result<(), LogError> {
        // What is staged is in memory but not in the journal; it must be in neither or both.
        self.flush(now);
        if self.staged.is_empty() { self.rewrite(name) } else { Ok(()) }
    }

    fn rewrite(&mut self, name: &str) -> Result<(), LogError> {
        let date_ms = (self.options.wall_clock_ms)();
        let Some(hosted) = self.databases.get_mut(name) else { return Ok(()) };
        let Some(journal) = &mut hosted.journal else { return Ok(()) };
        let contents = hosted.database.contents().to_record(&hosted.database, date_ms);
        journal.compact(hosted.database.schema(), contents.as_ref())
    }

    /// Begins a session. `probe` is how long the client may be silent before it is asked for a sign of life; `None`
    /// never asks, as is usual on a Unix socket, where a dead client is noticed.
    ///
    /// # Errors
    /// When there are as many sessions as there may be.
    pub fn connect(&mut self, probe: Option<Duration>, now: Instant) -> Result<SessionId, SessionError> {
        if self.sessions.len() >= self.options.limits.sessions_max {
            return Err(SessionError::TooMany);
        }
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let session = Session {
            input: Splitter::new(self.options.limits.stream),
            output: Output::default(),
            monitors: BTreeMap::new(),
            probe,
            last_heard: now,
            probe_sent: false,
            change_aware: false,
        };
        self.sessions.insert(id, session);
        Ok(id)
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Takes bytes from a client. Answers to what changes a database come with the next [`Server::poll`].
    ///
    /// # Errors
    /// When the bytes are not what a client may send. The session has then ended, and the shell closes its socket.
    pub fn receive(&mut self, id: SessionId, bytes: &[u8], now: Instant) -> Result<(), SessionError> {
        let result = self.take_in(id, bytes, now);
        if result.is_err() {
            self.disconnect(id);
        }
        result
    }

    fn take_in(&mut self, id: SessionId, bytes: &[u8], now: Instant) -> Result<(), SessionError> {
        let session = self.sessions.get_mut(&id).ok_or(SessionError::Unknown)?;
        (session.last_heard, session.probe_sent) = (now, false);
        self.input_held -= session.input.held();
        session.input.push(bytes);
        self.input_held += session.input.held();
        loop {
            // A message may have ended the session, for instance because its answer was one too many.
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            let held = session.input.held();
            let next = session.input.next();
            self.input_held = self.input_held - held + session.input.held();
            match next? {
                Some(json) => self.dispatch(id, Message::from_json(json)?, now)?,
                None => break,
            }
        }
        let limit = self.options.limits.input_bytes_max;
        if self.input_held > limit { Err(SessionError::InputFull(limit)) } else { Ok(()) }
    }

    /// What is to be written to a client; empty for a session that has ended.
    pub fn output(&self, id: SessionId) -> &[u8] {
        self.sessions.get(&id).map_or(&[], |session| session.output.pending())
    }

    /// Says that so many bytes of [`Server::output`] were written.
    pub fn consume_output(&mut self, id: SessionId, count: usize) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.output.consume(count);
        }
    }

    /// The sessions that have something to be written.
    pub fn writable_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.iter().filter(|(_, session)| !session.output.pending().is_empty()).map(|(id, _)| *id)
    }

    /// The sessions that the server ended by itself since the last call, and why; the shell closes their sockets.
    pub fn take_closed(&mut self) -> Vec<(SessionId, SessionError)> {
        std::mem::take(&mut self.closed)
    }

    /// Ends a session, letting go of its locks, monitors and waiting transactions. What it has staged still happens.
    pub fn disconnect(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.input_held -= session.input.held();
        }
        self.pending.retain(|pending| pending.session != id);
        for (name, owner) in self.locks.leave(id) {
            self.notify(owner, "locked", vec![Value::from(name)]);
        }
    }

    fn close(&mut self, id: SessionId, error: SessionError) {
        if self.sessions.contains_key(&id) {
            self.disconnect(id);
            self.closed.push((id, error));
        }
    }

    /// Syncs what was staged and answers it, tries waiting transactions again, probes silent clients and drops dead
    /// ones. Call it once a turn of the loop, and when [`Server::next_deadline`] is due.
    pub fn poll(&mut self, now: Instant) {
        self.expire_waits(now);
        self.flush(now);
        self.probe_sessions(now);
        self.compact_where_due();
    }

    /// When [`Server::poll`] has something to do even if nothing arrives.
    pub fn next_deadline(&self) -> Option<Instant> {
        let probes = self.sessions.values().filter_map(Session::probe_deadline);
        let waits = self.pending.iter().filter_map(Pending::deadline);
        probes.chain(waits).min()
    }

    fn probe_sessions(&mut self, now: Instant) {
        let due: Vec<(SessionId, bool, Duration)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.probe_deadline().is_some_and(|deadline| deadline <= now))
            .map(|(id, session)| (*id, session.probe_sent, now.saturating_since(session.last_heard)))
            .collect();
        for (id, probe_sent, silence) in due {
            if probe_sent {
                self.close(id, SessionError::Silent(silence));
                continue;
            }
            if let Some(session) = self.sessions.get_mut(&id) {
                session.probe_sent = true;
            }
            self.send(
                id,
                &Message::Request { method: "echo".into(), params: Vec::new(), id: Value::from("echo") },
            );
        }
    }

    fn compact_where_due(&mut self) {
        if !self.staged.is_empty() {
            return;
        }
        let due: Vec<String> = self
            .databases
            .iter()
            .filter(|(_, hosted)| hosted.journal.as_ref().is_some_and(|journal| journal.wants_compaction()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if let Err(error) = self.rewrite(&name) {
                tracing::warn!(database = name, %error, "journal not compacted");
            }
        }
    }

    fn send(&mut self, id: SessionId, message: &Message) {
        let limit = self.options.limits.output_bytes_max;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.output.pending().len() > limit {
            self.close(id, SessionError::OutputFull(limit));
            return;
        }
        session.output.push(message);
    }

    fn notify(&mut self, id: SessionId, method: &str, params: Vec<Value>) {
        self.send(id, &Message::Notification { method: method.to_owned(), params });
    }

    fn reply(&mut self, id: SessionId, request: Value, result: Value) {
        self.send(id, &Message::Reply { id: request, result });
    }

    fn schema(&self, name: &str) -> Option<Arc<DatabaseSchema>> {
        self.databases.get(name).map(|hosted| hosted.database.schema().clone())
    }
}
