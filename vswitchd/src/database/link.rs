//! The daemon's hold on its database: its own engine in the process, or an outside ovsdb-server's over a socket. Either way
//! a replica to read and transactions to write.

use base::Instant;
use ovsdb::client::{Client, ClientError, ClientEvent, ClientOptions, Transaction, outcome};
use ovsdb::database::Database;
use ovsdb::log::{FileJournal, LogError, Opened};
use ovsdb::replica::Replica;
use ovsdb::schema::DatabaseSchema;
use ovsdb::session::{LocalId, Server, ServerLimits, ServerOptions};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Name of the database.
pub const DATABASE: &str = "Open_vSwitch";
/// The lock that says who configures the switch.
pub const LOCK: &str = "ovs_vswitchd";

/// Why the embedded database cannot be had.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The file.
    #[error(transparent)]
    Journal(#[from] LogError),
    /// A directory for it.
    #[error("{path}: cannot be made: {error}")]
    Directory {
        /// Which.
        path: String,
        /// What the system said. Not named `source`: it is part of the text.
        error: std::io::Error,
    },
    /// The engine itself refuses.
    #[error("{0}")]
    Engine(String),
}

/// The embedded engine.
pub struct Embedded {
    /// The engine, whose sessions the daemon serves.
    pub server: Server,
    view: LocalId,
    replica: Replica,
    /// Whether the rows have changed since somebody asked.
    changed: bool,
}

/// The database. One way to be, or the other.
pub enum Link {
    /// In the process.
    Embedded(Box<Embedded>),
    /// Outside. The connection comes and goes; the replica stays.
    Outside(Box<Outside>),
}

/// A client of an ovsdb-server.
pub struct Outside {
    client: Option<Client>,
    /// The rows of the last connection.
    stale: Option<Replica>,
    changed: bool,
    /// Whether the server has given everything at least once in this connection.
    ready: bool,
    underway: bool,
}

fn entropy() -> u128 {
    let mut bytes = [0; 16];
    // The kernel's generator does not fail once it is seeded, which it is long before a daemon starts.
    if let Err(error) = sys::random::fill(&mut bytes) {
        tracing::error!(target: "ovsdb", "no random bytes: {error}");
    }
    u128::from_ne_bytes(bytes)
}

impl Link {
    /// Opens the database in `file`, making it if there is none.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn embedded(file: &Path, now: Instant) -> Result<(Link, Opened), LinkError> {
        if let Some(dir) = file.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir)
                .map_err(|error| LinkError::Directory { path: dir.display().to_string(), error })?;
        }
        let schema: Arc<DatabaseSchema> = Arc::new(ovsdb::schema::open_vswitch().clone());
        let (journal, database, opened): (FileJournal, Database, Opened) = FileJournal::open(file, schema)?;
        let options = ServerOptions {
            entropy: Box::new(entropy),
            wall_clock_ms: Box::new(sys::clock::wall_ms),
            limits: ServerLimits::default(),
        };
        let mut server = Server::new(options);
        server.add_database(database, Some(Box::new(journal)));
        let engine = |e: ovsdb::session::LocalError| LinkError::Engine(e.to_string());
        let (view, replica) = server.subscribe_local(DATABASE).map_err(engine)?;
        let mut embedded = Embedded { server, view, replica, changed: true };
        if embedded.replica.singleton("Open_vSwitch").is_none() {
            // What `ovs-vsctl init` does: tools expect the root row.
            let insert = [json!({"op": "insert", "table": "Open_vSwitch", "row": {}})];
            let results = embedded.server.transact_local(DATABASE, &insert, now).map_err(engine)?;
            outcome(&results).map_err(|e| LinkError::Engine(e.to_string()))?;
            embedded.refresh();
        }
        Ok((Link::Embedded(Box::new(embedded)), opened))
    }

    /// A client that is not connected yet.
    pub fn outside() -> Link {
        let outside = Outside { client: None, stale: None, changed: false, ready: false, underway: false };
        Link::Outside(Box::new(outside))
    }

    /// The rows, once there are any.
    pub fn replica(&self) -> Option<&Replica> {
        match self {
            Link::Embedded(e) => Some(&e.replica),
            Link::Outside(o) => o.client.as_ref().filter(|_| o.ready).and_then(Client::replica),
        }
    }

    /// Brings the rows up to date; whether they have changed since the last call.
    pub fn refresh(&mut self) -> bool {
        match self {
            Link::Embedded(e) => {
                e.refresh();
                std::mem::take(&mut e.changed)
            }
            Link::Outside(o) => o.ready && std::mem::take(&mut o.changed),
        }
    }

    /// Whether [`Link::refresh`] would say that rows have changed.
    pub fn has_news(&self) -> bool {
        match self {
            Link::Embedded(e) => e.changed,
            Link::Outside(o) => o.ready && o.changed,
        }
    }

    /// Whether this daemon may configure the switch by these rows: with an outside database it must hold the lock.
    pub fn is_ours(&self) -> bool {
        match self {
            Link::Embedded(_) => true,
            Link::Outside(o) => o.ready && o.client.as_ref().is_some_and(Client::lock_held),
        }
    }

    /// Runs a transaction of the daemon's own. One at a time with an outside server: what is reported next is computed
    /// from rows that show the last one.
    ///
    /// # Errors
    /// Text for the log.
    pub fn transact(&mut self, transaction: &Transaction, now: Instant) -> Result<(), String> {
        match self {
            Link::Embedded(e) => {
                let results = e.server.transact_local(DATABASE, transaction.operations(), now);
                let results = results.map_err(|e| e.to_string())?;
                // Clients may have waited for what this changed, and have changed more: that is still to be looked at.
                e.refresh();
                outcome(&results).map(drop).map_err(|e| e.to_string())
            }
            Link::Outside(o) => {
                if let Some(client) = o.client.as_mut().filter(|_| !o.underway) {
                    client.transact(transaction.operations());
                    o.underway = true;
                }
                Ok(())
            }
        }
    }

    /// The embedded engine.
    pub fn server_mut(&mut self) -> Option<&mut Server> {
        match self {
            Link::Embedded(e) => Some(&mut e.server),
            Link::Outside(_) => None,
        }
    }

    /// The outside link.
    pub fn outside_mut(&mut self) -> Option<&mut Outside> {
        match self {
            Link::Embedded(_) => None,
            Link::Outside(o) => Some(o),
        }
    }

    /// When `poll` of whatever is behind it has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Link::Embedded(e) => e.server.next_deadline(),
            Link::Outside(o) => o.client.as_ref().and_then(Client::next_deadline),
        }
    }
}

impl Embedded {
    fn refresh(&mut self) {
        if self.server.refresh_local(self.view, &mut self.replica).unwrap_or(false) {
            // The rows are read as a whole; a list of what changed would only grow.
            self.changed |= !self.replica.take_changes().is_empty();
        }
    }
}

impl Outside {
    /// A connection has come about.
    pub fn connected(&mut self, now: Instant) {
        let options = ClientOptions { lock: Some(LOCK.to_owned()), ..ClientOptions::whole(DATABASE) };
        self.client = Some(Client::new(options, self.stale.take(), now));
        self.ready = false;
        self.underway = false;
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        if let Some(client) = self.client.take() {
            self.stale = client.into_replica();
        }
        self.ready = false;
        self.underway = false;
    }

    /// Takes bytes from the server.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), ClientError> {
        let Some(client) = self.client.as_mut() else { return Ok(()) };
        client.receive(bytes, now)?;
        while let Some(event) = client.next_event() {
            match event {
                ClientEvent::Ready => (self.ready, self.changed) = (true, true),
                ClientEvent::Changed => self.changed = true,
                ClientEvent::Transacted { results, .. } => {
                    self.underway = false;
                    self.changed = true;
                    if let Err(error) = outcome(&results) {
                        tracing::warn!(target: "ovsdb", "status could not be written: {error}");
                    }
                }
                ClientEvent::Lock { held } => {
                    self.changed = true;
                    match held {
                        true => tracing::info!(target: "bridge", "configuring by the outside database"),
                        false => {
                            tracing::warn!(target: "bridge", "another ovs-vswitchd process is running, disabling this process until it goes away")
                        }
                    }
                }
                _ => {}
            }
        }
        // The rows are read as a whole; a list of what changed would only grow.
        client.replica_mut().map(ovsdb::replica::Replica::take_changes);
        Ok(())
    }

    /// See [`Client::poll`].
    ///
    /// # Errors
    /// The server is silent.
    pub fn poll(&mut self, now: Instant) -> Result<(), ClientError> {
        self.client.as_mut().map_or(Ok(()), |c| c.poll(now))
    }

    /// Bytes for the server.
    pub fn output(&self) -> &[u8] {
        self.client.as_ref().map_or(&[], Client::output)
    }

    /// These many of them were written.
    pub fn consume_output(&mut self, count: usize) {
        if let Some(client) = &mut self.client {
            client.consume_output(count);
        }
    }
}
