//! Transactions from arrival to reply: executed and applied in memory, staged until the journal is synced, then answered
//! and shown to monitors; or taken back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::time::Instant;
use serde_json::Value;

use super::{Server, SessionId};
use crate::database::{Commit, Executed, Execution};
use crate::error::{DbError, ErrorTag};
use crate::log::LogError;

/// Who asked for a transaction.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// A client, with its request id.
    Session(SessionId, Value),
    /// The process itself.
    Local,
}

/// A transaction whose answer waits for the sync.
pub(super) struct Staged {
    pub(super) database: String,
    pub(super) origin: Origin,
    results: Vec<Value>,
    /// Applied in memory already; `None` if the transaction failed.
    commit: Option<Arc<Commit>>,
}

/// A transaction with a `wait` that does not hold yet.
pub(super) struct Pending {
    pub(super) session: SessionId,
    pub(super) request: Value,
    database: String,
    operations: Vec<Value>,
    arrived: Instant,
    timeout_ms: Option<u64>,
}

impl Pending {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout_ms.map(|ms| self.arrived + Duration::from_millis(ms))
    }
}

/// What became of an attempt.
pub(super) enum Attempt {
    Staged,
    Blocked(Option<u64>),
}

impl Server {
    /// Executes a transaction; unless it waits, its effect is applied and its answer staged.
    pub(super) fn attempt(
        &mut self,
        database: &str,
        origin: Origin,
        operations: &[Value],
        elapsed: Duration,
    ) -> Attempt {
        let Some(hosted) = self.databases.get_mut(database) else {
            let error = DbError::new(ErrorTag::UnknownDatabase, format!("no database named {database}"));
            let results = vec![error.to_json()];
            self.staged.push(Staged { database: database.to_owned(), origin, results, commit: None });
            return Attempt::Staged;
        };
        let locks = &self.locks;
        let holds_lock = |name: &str| match &origin {
            Origin::Session(session, _) => locks.holds(name, *session),
            Origin::Local => false,
        };
        let executed = hosted.database.execute(Execution {
            operations,
            entropy: &mut *self.options.entropy,
            holds_lock: &holds_lock,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            read_only: hosted.read_only,
        });
        let (results, commit) = match executed {
            Executed::Blocked { timeout_ms } => return Attempt::Blocked(timeout_ms),
            Executed::Failed(results) => (results, None),
            Executed::Done { results, commit } => {
                hosted.database.apply(&commit);
                (results, Some(Arc::new(commit)))
            }
        };
        self.staged.push(Staged { database: database.to_owned(), origin, results, commit });
        Attempt::Staged
    }

    /// A client's transaction.
    pub(super) fn begin(
        &mut self,
        session: SessionId,
        request: Value,
        database: &str,
        operations: Vec<Value>,
        now: Instant,
    ) {
        let origin = Origin::Session(session, request.clone());
        if let Attempt::Blocked(timeout_ms) = self.attempt(database, origin, &operations, Duration::ZERO) {
            let database = database.to_owned();
            self.pending.push(Pending { session, request, database, operations, arrived: now, timeout_ms });
        }
    }

    /// Tries waiting transactions whose time is up a last time.
    pub(super) fn expire_waits(&mut self, now: Instant) {
        self.retry(now, |pending| pending.deadline().is_some_and(|deadline| deadline <= now));
    }

    fn retry(&mut self, now: Instant, mut which: impl FnMut(&Pending) -> bool) {
        let (due, rest): (Vec<Pending>, Vec<Pending>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| which(pending));
        self.pending = rest;
        for mut pending in due {
            let origin = Origin::Session(pending.session, pending.request.clone());
            let elapsed = now.saturating_since(pending.arrived);
            match self.attempt(&pending.database, origin, &pending.operations, elapsed) {
                Attempt::Staged => {}
                Attempt::Blocked(timeout_ms) => {
                    pending.timeout_ms = timeout_ms;
                    self.pending.push(pending);
                }
            }
        }
    }

    /// Makes everything staged durable and answers it; then tries transactions that waited for such changes, and so
    /// on. The results of transactions of the process itself come back.
    pub(super) fn flush(&mut self, now: Instant) -> Vec<Vec<Value>> {
        /// A transaction that satisfies another's `wait`, which satisfies …: each round answers at least one client.
        const ROUNDS_MAX: usize = 10_000;
        let mut local = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let staged = std::mem::take(&mut self.staged);
            if staged.is_empty() {
                break;
            }
            let failed = self.write(&staged);
            let mut changed: Vec<String> = Vec::new();
            for one in staged {
                let results = match failed.get(&one.database) {
                    Some(error) => vec![error.clone()],
                    None => {
                        if let Some(commit) = one.commit.filter(|commit| !commit.is_empty()) {
                            self.publish(&one.database, &commit);
                            if !changed.contains(&one.database) {
                                changed.push(one.database.clone());
                            }
                        }
                        one.results
                    }
                };
                match one.origin {
                    Origin::Session(session, request) => self.reply(session, request, Value::from(results)),
                    Origin::Local => local.push(results),
                }
            }
            if !changed.is_empty() {
                self.retry(now, |pending| changed.contains(&pending.database));
            }
        }
        local
    }

    /// Writes the journals. For each database that could not be written: its staged commits are taken back, and the
    /// error object that answers them.
    fn write(&mut self, staged: &[Staged]) -> BTreeMap<String, Value> {
        let mut names: Vec<&str> = staged.iter().map(|one| one.database.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let date_ms = (self.options.wall_clock_ms)();
        let mut failed = BTreeMap::new();
        for name in names {
            let commits: Vec<&Commit> = staged
                .iter()
                .filter(|one| one.database == name)
                .filter_map(|one| one.commit.as_deref())
                .collect();
            let Err(error) = self.write_one(name, &commits, date_ms) else { continue };
            tracing::error!(database = name, %error, "transaction not written");
            if let Some(hosted) = self.databases.get_mut(name) {
                commits.iter().rev().for_each(|commit| hosted.database.revert(commit));
            }
            failed.insert(name.to_owned(), DbError::new(ErrorTag::Io, error.to_string()).to_json());
        }
        failed
    }

    fn write_one(&mut self, name: &str, commits: &[&Commit], date_ms: u64) -> Result<(), LogError> {
        let Some(hosted) = self.databases.get_mut(name) else { return Ok(()) };
        let Some(journal) = &mut hosted.journal else { return Ok(()) };
        let mut write = || -> Result<(), LogError> {
            for commit in commits {
                if let Some(record) = commit.to_record(&hosted.database, date_ms) {
                    journal.append(&record)?;
                }
            }
            journal.sync()
        };
        let result = write();
        if result.is_err() {
            journal.rollback();
        }
        result
    }

    /// Shows a commit to monitors and to the process itself.
    pub(super) fn publish(&mut self, database: &str, commit: &Arc<Commit>) {
        let Some(schema) = self.schema(database) else { return };
        let mut notifications = Vec::new();
        for (id, session) in &self.sessions {
            for monitor in session.monitors.values().filter(|monitor| monitor.database == database) {
                notifications.extend(monitor.update(&schema, &commit.changes).map(|update| (*id, update)));
            }
        }
        for (id, (method, params)) in notifications {
            self.notify(id, &method, params);
        }
        for subscription in self.subscriptions.values_mut().filter(|one| one.database == database) {
            subscription.push(commit);
        }
    }
}
