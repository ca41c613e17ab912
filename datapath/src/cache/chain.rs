//! Chains: what a cached flow leads to through the connection tracker, so that an established connection needs one look-up
//! however often its frames are tracked.
//!
//! A flow whose program ends in a pass through the tracker and a recirculation fixes the frame's five-tuple (profiles of
//! such bridges hold it), hence the connection its frames belong to. What comes after depends, beside the frame's own bits,
//! on the connection's class alone: its state, mark and label. So the flow may remember the connection, the class it had,
//! and the program that followed. Each frame still runs the connection's state machine; if the class is another, the frame
//! takes the ordinary way and is looked up again.

use crate::action::{DpAction, Program};
use crate::conntrack::{Connection, CtClass, Direction};
use crate::slowpath::{Credit, Deps, Revision, SlowPath};
use base::Instant;
use std::fmt;
use std::sync::Arc;
use sys::prefetch::prefetch;

/// Passes that a chain may have.
pub const CHAIN_LINKS_MAX: usize = 8;

/// One pass through the tracker and what followed.
pub(crate) struct Link {
    pub connection: Arc<Connection>,
    pub direction: Direction,
    /// What the tracker must say for `then` to be right.
    pub class: CtClass,
    /// The program of the flow that was found after the pass.
    pub then: Arc<Program>,
    /// Whether what follows looks at the key's connection fields.
    pub needs_key: bool,
    deps: Deps,
    credits: Box<[Arc<dyn Credit>]>,
    packets: u64,
    bytes: u64,
    last_seen: Instant,
    tcp_flags: u16,
}

impl Link {
    pub fn new(
        held: crate::execute::Held,
        then: Arc<Program>,
        deps: Deps,
        credits: Box<[Arc<dyn Credit>]>,
    ) -> Link {
        let plain = |a: &DpAction| {
            matches!(
                a,
                DpAction::Output(_)
                    | DpAction::OutputTrunc { .. }
                    | DpAction::SetField { .. }
                    | DpAction::PushVlan { .. }
                    | DpAction::PopVlan
                    | DpAction::Drop(_)
            )
        };
        Link {
            connection: held.connection,
            direction: held.direction,
            class: held.class,
            needs_key: !then.actions.iter().all(plain),
            then,
            deps,
            credits,
            packets: 0,
            bytes: 0,
            last_seen: Instant::ZERO,
            tcp_flags: 0,
        }
    }

    /// Counts a frame that went on from this pass.
    #[inline]
    pub fn count(&mut self, bytes: u64, tcp_flags: u16, now: Instant) {
        self.packets += 1;
        self.bytes += bytes;
        self.last_seen = now;
        self.tcp_flags |= tcp_flags;
    }

    fn fold(&mut self) {
        if self.packets == 0 {
            return;
        }
        for credit in &self.credits {
            credit.credit(self.packets, self.bytes, self.last_seen, self.tcp_flags);
        }
        (self.packets, self.bytes) = (0, 0);
    }
}

/// The passes of a flow, in order.
pub(crate) struct Chain {
    /// Revision at which all programs are known to be right.
    pub stamp: Revision,
    pub links: Box<[Link]>,
}

impl Chain {
    pub fn new(links: Vec<Link>) -> Chain {
        // No revision is this, so the first use checks what the links depend on.
        Chain { stamp: Revision(u64::MAX), links: links.into() }
    }

    /// Whether the programs are right at `revision`, which was read before.
    pub fn is_good<S: SlowPath>(&mut self, revision: Revision, slow: &S) -> bool {
        if self.stamp != revision {
            if !self.links.iter().all(|l| slow.still_valid(&l.deps)) {
                return false;
            }
            self.stamp = revision;
        }
        true
    }

    /// Has the chain fetched.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self);
    }

    /// Has the first link fetched, once the chain is there.
    #[inline]
    pub fn prefetch_links(&self) {
        if let Some(link) = self.links.first() {
            prefetch(&link.connection);
            prefetch(&link.packets);
        }
    }

    /// Has the first link's connection fetched, once the link is there.
    #[inline]
    pub fn prefetch_connections(&self) {
        if let Some(link) = self.links.first() {
            prefetch(&*link.connection);
        }
    }

    /// Credits what has been counted since the last time.
    pub fn fold(&mut self) {
        self.links.iter_mut().for_each(Link::fold);
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} links)", self.links.len())
    }
}

/// Whether a program may be the start or a middle of a chain: the pass through the tracker is the last thing it does.
pub(crate) fn ends_in_pass(program: &Program) -> bool {
    matches!(&*program.actions, [.., DpAction::Ct(_), DpAction::Recirculate(_)])
}
