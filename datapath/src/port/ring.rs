//! A port's io_uring, made by the thread that uses it when it first does.

use std::sync::Arc;
use sys::io_ring::{IoRing, Target};
use sys::tap::{TapQueue, TapQueues};

/// A ring, or the knowledge that there is none.
#[derive(Debug)]
pub(super) enum LazyRing {
    /// Nobody has asked yet.
    Unasked,
    /// It works.
    Ready(Box<IoRing<Arc<TapQueue>>>),
    /// Ordinary reads and writes are to be used.
    Refused,
}

impl LazyRing {
    /// A ring, where the kernel has one, if it is wanted.
    pub fn new(is_wanted: bool) -> Self {
        if is_wanted { LazyRing::Unasked } else { LazyRing::Refused }
    }

    /// The ring, if there is one, always of the same queue.
    #[inline]
    pub fn of(&mut self, queue: &Arc<TapQueue>) -> Option<&mut IoRing<Arc<TapQueue>>> {
        if let LazyRing::Unasked = self {
            *self = IoRing::new(Arc::clone(queue), target_of(queue))
                .map_or(LazyRing::Refused, |ring| LazyRing::Ready(Box::new(ring)));
        }
        match self {
            LazyRing::Ready(ring) => Some(ring),
            _ => None,
        }
    }

    /// The thread that made the ring uses it no more; another may make one of its own.
    pub fn leave_thread(&mut self) {
        if let LazyRing::Ready(_) = self {
            *self = LazyRing::Unasked;
        }
    }

    /// Ordinary reads and writes from now on.
    #[cold]
    pub fn give_up(&mut self) {
        *self = LazyRing::Refused;
    }
}

/// A device with one queue can be opened again when the ring of a process that was killed has let go of it; one with many could be
/// before, and would for a while give frames to the old queues, which nobody reads.
fn target_of(queue: &TapQueue) -> Target {
    match queue.queues() {
        TapQueues::Single => Target::Registered,
        TapQueues::Multiple => Target::Descriptor,
    }
}
