//! Connections that a gateway foresees: few, short-lived, each used once, also when several workers have packets that would
//! fulfil one: who means to make the connection claims its expectation first, and others do not see it meanwhile.

use super::connection::Connection;
use super::tuple::Tuple;
use base::Instant;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most connections foreseen at a time.
pub(super) const EXPECTATIONS_MAX: usize = 4096;
/// Most of them by one control connection.
pub(super) const EXPECTATIONS_PER_PARENT_MAX: usize = 8;
/// How long one is waited for.
const LIFE: Duration = Duration::from_secs(30);

/// One foreseen connection.
#[derive(Clone, Debug)]
pub(super) struct Expectation {
    /// The control connection.
    pub parent: Arc<Connection>,
    /// Source and destination address, and destination port, that its packets are translated to.
    pub target: Target,
    until: Instant,
    claim: Option<Claim>,
}

/// That a connection is being made which fulfils an expectation.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// What tells its tuple from others of the same expectation.
    src_port: u16,
    /// Passes that are at it: only one of them can make the connection.
    passes: u32,
}

/// Where a foreseen connection really goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub src: u128,
    pub dst: u128,
    pub dst_port: u16,
}

impl Expectation {
    fn is_open(&self, now: Instant) -> bool {
        now < self.until && !self.parent.is_dead()
    }

    /// Whether a connection from this port may fulfil it.
    fn is_open_to(&self, src_port: u16, now: Instant) -> bool {
        self.is_open(now) && self.claim.is_none_or(|claim| claim.src_port == src_port)
    }
}

/// All foreseen connections, by the tuple of their first packet with source port 0: that is any.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    open: Mutex<BTreeMap<Tuple, Expectation>>,
    /// Length of the map, for those who need not lock an empty one.
    len: AtomicUsize,
}

fn any_source_port(tuple: &Tuple) -> Tuple {
    tuple.with_src(tuple.src_number(), 0)
}

impl Expectations {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Tuple, Expectation>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Foresees a connection by the tuple of its first packet, whose source port does not matter. The same again renews it.
    /// False if another control connection foresees the same, or a limit is reached.
    pub fn open(&self, first: &Tuple, parent: &Arc<Connection>, target: Target, now: Instant) -> bool {
        let key = any_source_port(first);
        let mut open = self.lock();
        let others = open.get(&key).filter(|e| e.is_open(now) && !Arc::ptr_eq(&e.parent, parent));
        if others.is_some() {
            return false;
        }
        if !open.contains_key(&key) && !Self::has_room(&mut open, parent, now) {
            return false;
        }
        // A claim outlasts a renewal: what is being made fulfils both.
        let claim = open.get(&key).filter(|e| Arc::ptr_eq(&e.parent, parent)).and_then(|e| e.claim);
        open.insert(key, Expectation { parent: Arc::clone(parent), target, until: now + LIFE, claim });
        self.len.store(open.len(), Ordering::Release);
        true
    }

    /// Whether there is room for one more of `parent`, after what is over was removed if there is none.
    fn has_room(open: &mut BTreeMap<Tuple, Expectation>, parent: &Arc<Connection>, now: Instant) -> bool {
        if open.len() >= EXPECTATIONS_MAX {
            open.retain(|_, e| e.is_open(now));
        }
        let siblings = open.values().filter(|e| e.is_open(now) && Arc::ptr_eq(&e.parent, parent)).count();
        open.len() < EXPECTATIONS_MAX && siblings < EXPECTATIONS_PER_PARENT_MAX
    }

    /// The expectation that a packet's tuple fulfils.
    pub fn find(&self, tuple: &Tuple, now: Instant) -> Option<Expectation> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let open = self.lock();
        open.get(&any_source_port(tuple)).filter(|e| e.is_open_to(tuple.src_port(), now)).cloned()
    }

    /// The same, for who is to make the connection: until [`close`](Self::close) or [`release`](Self::release) no packet of
    /// another tuple finds it.
    pub fn claim(&self, tuple: &Tuple, now: Instant) -> Option<Expectation> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut open = self.lock();
        let src_port = tuple.src_port();
        let found = open.get_mut(&any_source_port(tuple)).filter(|e| e.is_open_to(src_port, now))?;
        let passes = found.claim.map_or(0, |claim| claim.passes).saturating_add(1);
        found.claim = Some(Claim { src_port, passes });
        Some(found.clone())
    }

    /// Notes that the connection is there.
    pub fn close(&self, tuple: &Tuple) {
        let mut open = self.lock();
        if Self::claim_of(&mut open, tuple).is_some() {
            open.remove(&any_source_port(tuple));
        }
        self.len.store(open.len(), Ordering::Release);
    }

    /// Gives up a claim: the connection was not made.
    pub fn release(&self, tuple: &Tuple) {
        let mut open = self.lock();
        if let Some(claim) = Self::claim_of(&mut open, tuple)
            && let Some(Claim { passes, .. }) = claim
        {
            *passes = passes.saturating_sub(1);
            if *passes == 0 {
                *claim = None;
            }
        }
    }

    /// The claim for a connection of this tuple. What was foreseen anew since then has none.
    fn claim_of<'a>(
        open: &'a mut BTreeMap<Tuple, Expectation>,
        tuple: &Tuple,
    ) -> Option<&'a mut Option<Claim>> {
        let claim = &mut open.get_mut(&any_source_port(tuple))?.claim;
        claim.is_some_and(|claim| claim.src_port == tuple.src_port()).then_some(claim)
    }

    /// Forgets what is over. Bounded by [`EXPECTATIONS_MAX`].
    pub fn expire(&self, now: Instant) {
        if self.len.load(Ordering::Acquire) != 0 {
            let mut open = self.lock();
            open.retain(|_, e| e.is_open(now));
            self.len.store(open.len(), Ordering::Release);
        }
    }
}
