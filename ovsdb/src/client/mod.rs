//! The client's end of a session, without sockets: connects to a database, keeps a [`Replica`] of it, and runs
//! transactions. `vswitchd` uses it with an outside server, `tapctl` with ours.
//!
//! The shell writes [`Client::output`], passes what it reads to [`Client::receive`], and looks at
//! [`Client::next_event`]. When the connection breaks it makes a new client; [`Client::into_replica`] lets the old rows
//! go over to it, so that only differences show.

mod operations;
mod updates;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::time::Instant;
use serde_json::{Map, Value, json};

pub use operations::{RowRef, TransactError, Transaction, outcome};

use crate::error::DbError;
use crate::replica::Replica;
use crate::rpc::{Message, MessageError, Output, SplitError, Splitter, StreamLimits};
use crate::schema::DatabaseSchema;
use crate::uuid::Uuid;

/// A reply with the first view of a large database is long.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// The silence after which the server is asked for a sign of life, and again after which it is given up.
const PROBE: Duration = Duration::from_secs(5);

/// What a client wants of a server.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The database.
    pub database: String,
    /// The tables and columns to copy; `None` copies all. What the server does not have is left out.
    pub tables: Option<Vec<(String, Vec<String>)>>,
    /// A lock to ask for.
    pub lock: Option<String>,
    /// Whether to ask a silent server for a sign of life.
    pub probe: bool,
}

impl ClientOptions {
    /// All of a database.
    pub fn whole(database: &str) -> Self {
        ClientOptions { database: database.to_owned(), tables: None, lock: None, probe: true }
    }
}

/// Names a transaction or call underway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The replica is complete for the first time.
    Ready,
    /// The replica changed.
    Changed,
    /// A transaction was answered; its results are for [`outcome`].
    Transacted {
        /// Which.
        call: CallId,
        /// One result for each operation, maybe one more.
        results: Vec<Value>,
    },
    /// A [`Client::call`] was answered.
    Replied {
        /// Which.
        call: CallId,
        /// The result, or the error.
        result: Result<Value, Value>,
    },
    /// The lock was gained or lost.
    Lock {
        /// Whether it is held now.
        held: bool,
    },
}

/// Why the connection is of no more use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's bytes are no JSON objects.
    #[error("{0}")]
    Stream(#[from] SplitError),
    /// The server's JSON is no JSON-RPC message.
    #[error("bad JSON-RPC message: {0}")]
    Message(#[from] MessageError),
    /// The server refused a request without which nothing works.
    #[error("server refused {method}: {error}")]
    Refused {
        /// The request.
        method: &'static str,
        /// What it said.
        error: Value,
    },
    /// The server's schema cannot be read.
    #[error("server's schema: {0}")]
    Schema(DbError),
    /// An update that does not fit the schema or the rows.
    #[error("bad update from server: {0}")]
    Update(String),
    /// The server is silent.
    #[error("no response to inactivity probe")]
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MonitorMethod {
    Since,
    Conditional,
    Plain,
}

impl MonitorMethod {
    const fn name(self) -> &'static str {
        match self {
            MonitorMethod::Since => "monitor_cond_since",
            MonitorMethod::Conditional => "monitor_cond",
            MonitorMethod::Plain => "monitor",
        }
    }

    const fn fallback(self) -> Option<MonitorMethod> {
        match self {
            MonitorMethod::Since => Some(MonitorMethod::Conditional),
            MonitorMethod::Conditional => Some(MonitorMethod::Plain),
            MonitorMethod::Plain => None,
        }
    }
}

enum Call {
    Schema,
    Monitor(MonitorMethod),
    Lock,
    Echo,
    Transact,
    Free,
}

/// A connection to a server.
pub struct Client {
    options: ClientOptions,
    input: Splitter,
    output: Output,
    next_call: u64,
    calls: BTreeMap<u64, Call>,
    replica: Option<Replica>,
    ready: bool,
    lock_held: bool,
    events: VecDeque<ClientEvent>,
    last_heard: Instant,
    probe_sent: bool,
}

impl Client {
    /// Begins: the first output asks for the schema. `old` is the replica of an earlier connection, if any.
    pub fn new(options: ClientOptions, old: Option<Replica>, now: Instant) -> Self {
        let limits = StreamLimits { message_bytes_max: MESSAGE_BYTES_MAX, ..StreamLimits::DEFAULT };
        let mut client = Client {
            options,
            input: Splitter::new(limits),
            output: Output::default(),
            next_call: 1,
            calls: BTreeMap::new(),
            replica: old,
            ready: false,
            lock_held: false,
            events: VecDeque::new(),
            last_heard: now,
            probe_sent: false,
        };
        let database = client.options.database.clone();
        client.request(Call::Schema, "get_schema", vec![Value::from(database)]);
        if let Some(lock) = client.options.lock.clone() {
            client.request(Call::Lock, "lock", vec![Value::from(lock)]);
        }
        client
    }

    /// What is to be written to the server.
    pub fn output(&self) -> &[u8] {
        self.output.pending()
    }

    /// Says that so many bytes of [`Client::output`] were written.
    pub fn consume_output(&mut self, count: usize) {
        self.output.consume(count);
    }

    /// The copy of the database; complete once [`ClientEvent::Ready`] was seen.
    pub fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref().filter(|_| self.ready)
    }

    /// The copy, to take changes from.
    pub fn replica_mut(&mut self) -> Option<&mut Replica> {
        self.replica.as_mut().filter(|_| self.ready)
    }

    /// The copy, for the next connection.
    pub fn into_replica(self) -> Option<Replica> {
        self.replica
    }

    /// Whether the lock asked for is held.
    pub fn lock_held(&self) -> bool {
        self.lock_held
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Sends a transaction; its answer is [`ClientEvent::Transacted`]. The replica shows its effect before that.
    pub fn transact(&mut self, operations: &[Value]) -> CallId {
        let mut params = vec![Value::from(self.options.database.as_str())];
        params.extend_from_slice(operations);
        self.request(Call::Transact, "transact", params)
    }

    /// Sends any other request; its answer is [`ClientEvent::Replied`].
    pub fn call(&mut self, method: &str, params: Vec<Value>) -> CallId {
        self.request(Call::Free, method, params)
    }

    /// Takes back a transaction that waits.
    pub fn cancel(&mut self, call: CallId) {
        self.output
            .push(&Message::Notification { method: "cancel".into(), params: vec![Value::from(call.0)] });
    }

    fn request(&mut self, call: Call, method: &str, params: Vec<Value>) -> CallId {
        let id = self.next_call;
        self.next_call += 1;
        self.calls.insert(id, call);
        self.output.push(&Message::Request { method: method.to_owned(), params, id: Value::from(id) });
        CallId(id)
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// When the server does not speak the protocol or has no such database. The connection is then of no more use.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), ClientError> {
        (self.last_heard, self.probe_sent) = (now, false);
        self.input.push(bytes);
        while let Some(json) = self.input.next()? {
            match Message::from_json(json)? {
                Message::Request { method, params, id } => {
                    let answer = if method == "echo" {
                        Message::Reply { id, result: Value::from(params) }
                    } else {
                        Message::Error { id, error: Value::from("unknown method") }
                    };
                    self.output.push(&answer);
                }
                Message::Notification { method, params } => self.notified(&method, &params)?,
                Message::Reply { id, result } => self.answered(&id, Ok(result))?,
                Message::Error { id, error } => self.answered(&id, Err(error))?,
            }
        }
        Ok(())
    }

    /// Asks a silent server for a sign of life, or gives it up.
    ///
    /// # Errors
    /// When the server did not answer.
    pub fn poll(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return Ok(());
        }
        if self.probe_sent {
            return Err(ClientError::Silent);
        }
        self.probe_sent = true;
        self.request(Call::Echo, "echo", Vec::new());
        Ok(())
    }

    /// When [`Client::poll`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.options.probe.then(|| self.last_heard + if self.probe_sent { PROBE * 2 } else { PROBE })
    }

    fn answered(&mut self, id: &Value, result: Result<Value, Value>) -> Result<(), ClientError> {
        let Some(number) = id.as_u64() else { return Ok(()) };
        let Some(call) = self.calls.remove(&number) else { return Ok(()) };
        match (call, result) {
            (Call::Schema, Ok(json)) => {
                let schema = DatabaseSchema::from_json(&json).map_err(ClientError::Schema)?;
                self.begin_monitor(Arc::new(schema), MonitorMethod::Since);
            }
            (Call::Schema, Err(error)) => return Err(ClientError::Refused { method: "get_schema", error }),
            (Call::Monitor(method), Err(error)) => match (method.fallback(), &self.replica) {
                (Some(fallback), Some(replica)) if error == "unknown method" => {
                    let schema = replica.schema().clone();
                    self.begin_monitor(schema, fallback);
                }
                _ => return Err(ClientError::Refused { method: method.name(), error }),
            },
            (Call::Monitor(method), Ok(result)) => self.first_view(method, &result)?,
            (Call::Lock, Ok(result)) => {
                let held = result.get("locked").and_then(Value::as_bool).unwrap_or(false);
                self.set_lock(held);
                if !held {
                    // No change, but news: somebody else has it.
                    self.events.push_back(ClientEvent::Lock { held });
                }
            }
            (Call::Lock, Err(error)) => return Err(ClientError::Refused { method: "lock", error }),
            (Call::Echo, _) => {}
            (Call::Transact, Ok(Value::Array(results))) => {
                self.events.push_back(ClientEvent::Transacted { call: CallId(number), results });
            }
            (Call::Transact, Ok(other) | Err(other)) => {
                self.events.push_back(ClientEvent::Transacted { call: CallId(number), results: vec![other] });
            }
            (Call::Free, result) => {
                self.events.push_back(ClientEvent::Replied { call: CallId(number), result });
            }
        }
        Ok(())
    }

    fn set_lock(&mut self, held: bool) {
        if self.lock_held != held {
            self.lock_held = held;
            self.events.push_back(ClientEvent::Lock { held });
        }
    }

    fn begin_monitor(&mut self, schema: Arc<DatabaseSchema>, method: MonitorMethod) {
        let mut requests = Map::new();
        for table in &schema.tables {
            let columns: Vec<&str> = match &self.options.tables {
                None => table.columns.iter().map(|column| column.name.as_str()).collect(),
                Some(wanted) => {
                    let Some((_, wanted)) = wanted.iter().find(|(name, _)| *name == table.name) else {
                        continue;
                    };
                    table
                        .columns
                        .iter()
                        .map(|c| c.name.as_str())
                        .filter(|c| wanted.iter().any(|w| w == c))
                        .collect()
                }
            };
            requests.insert(table.name.clone(), json!({ "columns": columns }));
        }
        let database = schema.name.clone();
        if self.replica.as_ref().is_none_or(|replica| !replica.schema().same_as(&schema)) {
            self.replica = Some(Replica::new(schema));
        }
        let mut params = vec![Value::from(database), Value::from("replica"), Value::Object(requests)];
        if method == MonitorMethod::Since {
            params.push(Value::from(Uuid::ZERO.to_string()));
        }
        self.request(Call::Monitor(method), method.name(), params);
    }

    fn first_view(&mut self, method: MonitorMethod, result: &Value) -> Result<(), ClientError> {
        let Some(replica) = &mut self.replica else { return Ok(()) };
        let tables = match method {
            MonitorMethod::Since => {
                result.get(2).ok_or_else(|| ClientError::Update("no <table-updates2>".into()))?
            }
            _ => result,
        };
        let mut contents = Replica::new(replica.schema().clone());
        updates::apply(&mut contents, tables)?;
        replica.reset(&contents.take_changes());
        self.ready = true;
        self.events.push_back(ClientEvent::Ready);
        Ok(())
    }

    fn notified(&mut self, method: &str, params: &[Value]) -> Result<(), ClientError> {
        let tables = match (method, params) {
            ("update" | "update2", [_, tables]) | ("update3", [_, _, tables]) => tables,
            ("locked" | "stolen", [name]) => {
                if name.as_str() == self.options.lock.as_deref() {
                    self.set_lock(method == "locked");
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(replica) = self.replica.as_mut().filter(|_| self.ready) else { return Ok(()) };
        updates::apply(replica, tables)?;
        if self.events.back() != Some(&ClientEvent::Changed) {
            self.events.push_back(ClientEvent::Changed);
        }
        Ok(())
    }
}
