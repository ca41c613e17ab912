//! The process that hosts the server as a client of itself, without JSON-RPC: transactions, and views kept up to date.

use std::sync::Arc;
use std::time::Duration;

use base::time::Instant;
use serde_json::Value;

use super::Server;
use super::commit::{Attempt, Origin};
use crate::database::Commit;
use crate::error::{DbError, ErrorTag};
use crate::replica::Replica;

/// Names a view that the process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(u64);

/// Commits that a view may lag behind; beyond that it is filled anew.
const LAG_MAX: usize = 4096;

/// Why the process's own request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// No database of that name.
    #[error("no database named {0}")]
    UnknownDatabase(String),
    /// A view of another server, or that was dropped.
    #[error("no such view")]
    UnknownView,
}

pub(super) struct Subscription {
    pub(super) database: String,
    commits: Vec<Arc<Commit>>,
    lost: bool,
}

impl Subscription {
    pub(super) fn push(&mut self, commit: &Arc<Commit>) {
        if self.commits.len() >= LAG_MAX {
            self.commits.clear();
            self.lost = true;
        }
        if !self.lost {
            self.commits.push(commit.clone());
        }
    }
}

impl Server {
    /// Executes a transaction of the process itself and makes it durable, along with everything staged before. A `wait`
    /// that does not hold times out at once; locks are not held.
    ///
    /// The results are those of the `transact` method, errors included: see [`crate::client::outcome`].
    ///
    /// # Errors
    /// When there is no such database.
    pub fn transact_local(
        &mut self,
        database: &str,
        operations: &[Value],
        now: Instant,
    ) -> Result<Vec<Value>, LocalError> {
        if !self.databases.contains_key(database) {
            return Err(LocalError::UnknownDatabase(database.to_owned()));
        }
        // What clients staged is answered first, so that the one result below is ours.
        self.flush(now);
        match self.attempt(database, Origin::Local, operations, Duration::ZERO) {
            Attempt::Blocked(_) => {
                let error = DbError::new(ErrorTag::TimedOut, "\"wait\" does not hold");
                Ok(vec![error.to_json()])
            }
            Attempt::Staged => Ok(self.flush(now).into_iter().next().unwrap_or_default()),
        }
    }

    /// Begins a view of a whole database, filled with what is there.
    ///
    /// # Errors
    /// When there is no such database.
    pub fn subscribe_local(&mut self, database: &str) -> Result<(LocalId, Replica), LocalError> {
        let Some(hosted) = self.databases.get(database) else {
            return Err(LocalError::UnknownDatabase(database.to_owned()));
        };
        let mut replica = Replica::new(hosted.database.schema().clone());
        replica.apply(&hosted.database.contents().changes);
        let id = LocalId(self.next_subscription);
        self.next_subscription += 1;
        // What is staged is in the contents already, and may yet be taken back, so the first refresh fills anew.
        let lost = !self.staged.is_empty();
        self.subscriptions
            .insert(id, Subscription { database: database.to_owned(), commits: Vec::new(), lost });
        Ok((id, replica))
    }

    /// Brings a view up to what is durable; true if something changed. The changes are in [`Replica::take_changes`].
    ///
    /// # Errors
    /// When the view is not this server's.
    pub fn refresh_local(&mut self, id: LocalId, replica: &mut Replica) -> Result<bool, LocalError> {
        let subscription = self.subscriptions.get_mut(&id).ok_or(LocalError::UnknownView)?;
        let commits = std::mem::take(&mut subscription.commits);
        if subscription.lost {
            if !self.staged.is_empty() {
                return Ok(false);
            }
            subscription.lost = false;
            let database =
                &self.databases.get(&subscription.database).ok_or(LocalError::UnknownView)?.database;
            replica.reset(&database.contents().changes);
            return Ok(true);
        }
        for commit in &commits {
            replica.apply(&commit.changes);
        }
        Ok(!commits.is_empty())
    }

    /// Ends a view.
    pub fn unsubscribe_local(&mut self, id: LocalId) {
        self.subscriptions.remove(&id);
    }
}
