//! Which rules' time-outs may be over.
//!
//! Each rule with a time-out stands in a queue under the time at which it has to be looked at again. A packet moves a
//! rule's idle deadline without telling anyone, so that a rule looked at may turn out to be alive and goes back into the
//! queue: a busy rule costs one look an idle time-out, and asking what is due costs nothing for those that are not.

use crate::rule::{RemovalReason, Rule, RuleSerial};
use base::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A queue of rules by deadline.
#[derive(Debug, Default)]
pub struct Expiry {
    queue: BTreeMap<(Instant, RuleSerial), Arc<Rule>>,
    armed: BTreeMap<RuleSerial, Instant>,
}

impl Expiry {
    /// An empty queue.
    pub const fn new() -> Self {
        Expiry { queue: BTreeMap::new(), armed: BTreeMap::new() }
    }

    /// Watches a rule if it has a time-out.
    pub fn insert(&mut self, rule: &Arc<Rule>) {
        if let Some((deadline, _)) = rule.deadline() {
            self.remove(rule);
            self.armed.insert(rule.serial, deadline);
            self.queue.insert((deadline, rule.serial), Arc::clone(rule));
        }
    }

    /// Stops watching a rule.
    pub fn remove(&mut self, rule: &Rule) {
        if let Some(deadline) = self.armed.remove(&rule.serial) {
            self.queue.remove(&(deadline, rule.serial));
        }
    }

    /// When to call [`Expiry::expire`] next; none if no rule has a time-out. Never too late, possibly too early.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes out the rules whose time is over, earliest first.
    pub fn expire(&mut self, now: Instant) -> Vec<(Arc<Rule>, RemovalReason)> {
        let mut expired = Vec::new();
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let rule = entry.remove();
            self.armed.remove(&rule.serial);
            match rule.deadline() {
                Some((deadline, reason)) if deadline <= now => expired.push((rule, reason)),
                _ => self.insert(&rule),
            }
        }
        expired
    }
}
