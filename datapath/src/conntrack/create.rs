//! Packets that no connection is known of: whether they may begin one, and the connection that a commit makes.

use super::connection::{Birth, Connection, Extra, State};
use super::count;
use super::expectation::Expectation;
use super::gateway::Reading;
use super::metadata;
use super::nat::{self, Attempt};
use super::parse::Parsed;
use super::pass::{Pass, translate};
use super::quota::Admission;
use super::spec::{CtClass, CtState, NatKind, Tracked};
use super::table::Refused;
use super::tcp;
use super::timeout_of;
use super::tuple::Tuple;
use crate::drop::Drop;
use packet::{Frame, PacketKey};
use std::sync::Arc;

/// Times that a tuple found taken by a connection whose time is up is tried again.
const RETRIES_MAX: usize = 3;

/// Why no connection was made.
enum Failure {
    /// A limit is reached.
    Full,
    /// No tuple of the range is free.
    Exhausted,
    /// Another worker was faster with the same packet's connection.
    Lost,
}

impl Pass<'_> {
    /// A packet without a connection. `None` if one was to be made and another has its tuple by now.
    pub fn begin(&self, parsed: &Parsed, frame: &mut Frame, key: &mut PacketKey) -> Option<Tracked> {
        if !parsed.may_begin(self.config.tcp_loose) {
            return Some(self.invalid(Some(&parsed.tuple), key));
        }
        let mut state = CtState::NEW | CtState::TRK;
        let expectations = &self.tracker.expectations;
        let foreseen = if self.spec.commit {
            expectations.claim(&parsed.tuple, self.now)
        } else {
            expectations.find(&parsed.tuple, self.now)
        };
        if foreseen.is_some() {
            state |= CtState::REL;
        }
        let parent = foreseen.as_ref().map(|e| &e.parent);
        if !self.spec.commit {
            return Some(self.uncommitted(state, parsed, parent, key));
        }
        let made = self.create(parsed, foreseen.as_ref());
        if foreseen.is_some() {
            match &made {
                Ok(_) => expectations.close(&parsed.tuple),
                Err(_) => expectations.release(&parsed.tuple),
            }
        }
        Some(match made {
            Ok(connection) => self.committed(state, &connection, parsed, frame, key),
            Err(Failure::Lost) => return None,
            Err(Failure::Full) => {
                count(&self.tracker.counts.full);
                // Untranslated it would be a wrong translation; else it goes on as OVS lets it, untracked.
                if self.would_translate(parsed, foreseen.as_ref()) {
                    return Some(self.refuse(state, parsed, key, Drop::CtFull));
                }
                self.uncommitted(state, parsed, parent, key)
            }
            Err(Failure::Exhausted) => {
                count(&self.tracker.counts.nat_exhausted);
                self.refuse(state, parsed, key, Drop::NatExhausted)
            }
        })
    }

    /// A packet whose connection cannot be made: without a translation, its answers would be another's.
    pub fn unmade(&self, parsed: &Parsed, key: &mut PacketKey) -> Tracked {
        count(&self.tracker.counts.full);
        let state = CtState::NEW | CtState::TRK;
        let foreseen = self.tracker.expectations.find(&parsed.tuple, self.now);
        if self.would_translate(parsed, foreseen.as_ref()) {
            return self.refuse(state, parsed, key, Drop::NatExhausted);
        }
        self.uncommitted(state, parsed, None, key)
    }

    fn uncommitted(
        &self,
        state: CtState,
        parsed: &Parsed,
        parent: Option<&Arc<Connection>>,
        key: &mut PacketKey,
    ) -> Tracked {
        match parent {
            Some(parent) => metadata::describe_foreseen(state, parent, key),
            None => metadata::describe_packet(state, self.spec.zone, Some(&parsed.tuple), key),
        }
        Tracked { class: CtClass::new(state, 0), state, hold: None, drop: None, changes: 0 }
    }

    fn committed(
        &self,
        state: CtState,
        connection: &Arc<Connection>,
        parsed: &Parsed,
        frame: &mut Frame,
        key: &mut PacketKey,
    ) -> Tracked {
        let mut state = state;
        match translate(connection, super::Direction::Original, parsed, frame, key) {
            Some(bits) => state |= bits,
            None => return self.refuse(state, parsed, key, Drop::Rewrite),
        }
        if connection.load().has(State::ALG) {
            let is_translated = connection.load().has(State::TRANSLATED);
            let direction = super::Direction::Original;
            let reading = Reading { connection, direction, parsed, is_translated };
            if self.read_control(&reading, frame).is_none() {
                return self.refuse(state, parsed, key, Drop::Rewrite);
            }
        }
        metadata::describe(connection, state, key);
        Tracked {
            class: CtClass::new(state, connection.revision()),
            state,
            hold: None,
            drop: None,
            changes: 0,
        }
    }

    /// Whether the packet would not go on as it is if it had a connection.
    fn would_translate(&self, parsed: &Parsed, foreseen: Option<&Expectation>) -> bool {
        let follows = foreseen.is_some_and(|e| !nat::is_plain(&parsed.tuple, &e.target));
        self.nat_kind().is_some() || follows && self.spec.nat.is_some()
    }

    fn nat_kind(&self) -> Option<NatKind> {
        self.spec.nat.as_ref().and_then(|nat| nat.kind)
    }

    fn create(&self, parsed: &Parsed, foreseen: Option<&Expectation>) -> Result<Arc<Connection>, Failure> {
        let tracker = self.tracker;
        let quota = &tracker.quota;
        let admission = match quota.admit(self.spec.zone, self.origin, self.config) {
            Admission::After(victim) => {
                self.count_change();
                tracker.end(&victim, &tracker.counts.evicted);
                quota.readmit(self.spec.zone, self.config)
            }
            other => other,
        };
        if !matches!(admission, Admission::Granted) {
            return Err(Failure::Full);
        }
        let made = self.insert(parsed, foreseen);
        match &made {
            Ok(connection) => {
                quota.settle(connection);
                count(&tracker.counts.created);
            }
            Err(_) => quota.cancel(self.spec.zone),
        }
        made
    }

    /// Finds a reply tuple that is free and puts the connection in the table.
    fn insert(&self, parsed: &Parsed, foreseen: Option<&Expectation>) -> Result<Arc<Connection>, Failure> {
        let attempt = |reply| self.try_insert(parsed, reply, foreseen);
        if let Some(foreseen) = foreseen.filter(|_| self.spec.nat.is_some())
            && !nat::is_plain(&parsed.tuple, &foreseen.target)
        {
            return made(nat::follow(self.tracker, &parsed.tuple, &foreseen.target, attempt));
        }
        let Some(nat) = self.spec.nat.as_ref().filter(|nat| nat.kind.is_some()) else {
            return made(Some(attempt(parsed.tuple.reversed())));
        };
        made(nat::choose(self.tracker, nat, &parsed.tuple, attempt))
    }

    /// Tries one reply tuple.
    fn try_insert(&self, parsed: &Parsed, reply: Tuple, foreseen: Option<&Expectation>) -> Attempt {
        self.count_change();
        let connection = Arc::new(self.give_birth(parsed, reply, foreseen));
        for _ in 0..RETRIES_MAX {
            let until = self.now + timeout_of(&connection, self.config);
            let until = until.min(self.now + super::table::FIRST_VISIT_MAX);
            let Err(Refused::Taken(other)) = self.tracker.table.insert(&connection, self.now, until) else {
                return Attempt::Made(connection);
            };
            if !other.remaining(timeout_of(&other, self.config), self.now).is_zero() {
                let is_original = other.names.direction_of(&parsed.tuple).is_some();
                return if is_original { Attempt::OriginalTaken } else { Attempt::Taken(other) };
            }
            self.tracker.end(&other, &self.tracker.counts.expired);
        }
        Attempt::OriginalTaken
    }

    fn count_change(&self) {
        self.changes.set(self.changes.get() + 1);
    }

    fn give_birth(&self, parsed: &Parsed, reply: Tuple, foreseen: Option<&Expectation>) -> Connection {
        let spec = self.spec;
        let mut state = match self.nat_kind() {
            _ if foreseen.is_some() => State::RELATED | changed_ends(&parsed.tuple, &reply),
            Some(NatKind::Src) => State::SNAT,
            Some(NatKind::Dst) => State::DNAT,
            None => 0,
        };
        if reply != parsed.tuple.reversed() {
            state |= State::TRANSLATED;
        }
        if spec.alg.is_some() && foreseen.is_none() {
            state |= State::ALG;
        }
        if parsed.segment().is_some() {
            state |= tcp::first_state();
        }
        let connection = Connection::new(Birth {
            original: parsed.tuple,
            reply,
            state,
            origin: self.origin,
            policy: spec.timeout,
            revision: self.tracker.next_revision(),
            extra: (spec.alg.is_some() || foreseen.is_some()).then(|| Extra {
                alg: spec.alg,
                parent: foreseen.map(|e| e.parent.original()),
                ..Extra::default()
            }),
            now: self.now,
        });
        if let Some(segment) = parsed.segment() {
            tcp::begin(&connection, segment);
        }
        match foreseen.map(|e| &e.parent) {
            Some(parent) => {
                let (mark, label) = (parent.mark(), parent.label());
                let revision = || self.tracker.next_revision();
                connection.set_metadata(Some((mark, u32::MAX)), Some((label, u128::MAX)), revision);
            }
            None => self.set_metadata(&connection),
        }
        connection
    }
}

/// The outcome of a choice.
fn made(attempt: Option<Attempt>) -> Result<Arc<Connection>, Failure> {
    match attempt {
        Some(Attempt::Made(connection)) => Ok(connection),
        // Without a translation the reply tuple is taken only if the original one is.
        Some(Attempt::Taken(_) | Attempt::OriginalTaken) => Err(Failure::Lost),
        None => Err(Failure::Exhausted),
    }
}

/// Which ends a translation changes.
fn changed_ends(original: &Tuple, reply: &Tuple) -> u64 {
    let to = reply.reversed();
    let src = (to.src_number(), to.src_port()) != (original.src_number(), original.src_port());
    let dst = (to.dst_number(), to.dst_port()) != (original.dst_number(), original.dst_port());
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(src, State::SNAT) | flag(dst, State::DNAT)
}
