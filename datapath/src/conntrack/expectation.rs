//! Connections that a gateway foresees: few, short-lived, each used once.

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
        open.insert(key, Expectation { parent: Arc::clone(parent), target, until: now + LIFE });
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
        self.lock().get(&any_source_port(tuple)).filter(|e| e.is_open(now)).cloned()
    }

    /// Notes that the connection is there.
    pub fn close(&self, tuple: &Tuple) {
        let mut open = self.lock();
        open.remove(&any_source_port(tuple));
        self.len.store(open.len(), Ordering::Release);
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
