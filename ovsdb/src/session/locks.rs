//! Named locks that sessions hold, wait for and steal (RFC 7047 §4.1.8–10).

use std::collections::{BTreeMap, VecDeque};

use super::SessionId;

/// The most locks a session may hold or wait for.
pub(super) const LOCKS_MAX: usize = 256;

/// For each lock its owner, then who waits in order.
#[derive(Debug, Default)]
pub(super) struct Locks(BTreeMap<String, VecDeque<SessionId>>);

impl Locks {
    pub(super) fn holds(&self, name: &str, session: SessionId) -> bool {
        self.0.get(name).is_some_and(|queue| queue.front() == Some(&session))
    }

    pub(super) fn is_queued(&self, name: &str, session: SessionId) -> bool {
        self.0.get(name).is_some_and(|queue| queue.contains(&session))
    }

    pub(super) fn count(&self, session: SessionId) -> usize {
        self.0.values().filter(|queue| queue.contains(&session)).count()
    }

    /// Queues for the lock; true if the session has it at once.
    pub(super) fn lock(&mut self, name: &str, session: SessionId) -> bool {
        let queue = self.0.entry(name.to_owned()).or_default();
        queue.push_back(session);
        queue.len() == 1
    }

    /// Takes the lock; the session that lost it.
    pub(super) fn steal(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        let queue = self.0.entry(name.to_owned()).or_default();
        let victim = queue.front().copied();
        queue.push_front(session);
        victim
    }

    /// Leaves the lock; the session that has it now and had it not before.
    pub(super) fn unlock(&mut self, name: &str, session: SessionId) -> Option<SessionId> {
        let queue = self.0.get_mut(name)?;
        let held = queue.front() == Some(&session);
        queue.retain(|waiter| *waiter != session);
        let next = queue.front().copied();
        if queue.is_empty() {
            self.0.remove(name);
        }
        next.filter(|_| held)
    }

    /// Leaves every lock; the locks that others have now, and who.
    pub(super) fn leave(&mut self, session: SessionId) -> Vec<(String, SessionId)> {
        let names: Vec<String> = self
            .0
            .iter()
            .filter(|(_, queue)| queue.contains(&session))
            .map(|(name, _)| name.clone())
            .collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.unlock(&name, session)?))).collect()
    }
}
