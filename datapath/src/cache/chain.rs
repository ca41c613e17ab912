//! Chains: what a cached flow leads to through the connection tracker, so that an established connection needs one look-up
//! however often its frames are tracked.
//!
//! A flow whose program ends in a pass through the tracker and a recirculation fixes the frame's five-tuple (profiles of
//! such bridges hold it), hence the connection its frames belong to. What comes after depends, beside the frame's own bits,
//! on the connection's class alone: its state, mark and label. So the flow may remember the connection, the class it had,
//! and the program that followed. Each frame still runs the connection's state machine; if the class is another, the frame
//! takes the ordinary way and is looked up again.

use super::entry::OnlyStep;
use super::memo::Memo;
use crate::action::{DpAction, Program};
use crate::conntrack::{Connection, CtClass, CtSpec, Direction, Known};
use crate::execute::Held;
use crate::slowpath::{Revision, SlowPath};
use base::Instant;
use packet::rewrite::EndsRewrite;
use std::fmt;
use std::iter::successors;
use std::sync::Arc;
use sys::prefetch::prefetch;

/// Passes that a chain may have.
pub const CHAIN_LINKS_MAX: usize = 8;

/// One pass through the tracker and what followed: a line that a frame that follows reads and writes, then one that it reads if
/// it is translated or goes on.
#[repr(C, align(64))]
pub(crate) struct Link {
    pub connection: Arc<Connection>,
    /// What followed: the translation of the flow that was found after the pass.
    memo: Arc<Memo>,
    /// Revision at which all programs of the chain are known to be right. Of the first link only.
    stamp: Revision,
    /// What is known of its frames; `None` if each has to be tracked at length.
    pub known: Option<Known>,
    /// Frames that went on from this pass, to be credited.
    packets: u32,
    /// Their bytes; what does not fit is credited at once.
    bytes: u32,
    /// The only step of what followed.
    pub only_step: OnlyStep,
    /// TCP flags seen, or-ed together.
    tcp_flags: u16,
    /// Whether the program before does nothing but this pass.
    pub is_alone: bool,
    /// Whether what follows looks at the key's connection fields.
    pub needs_key: bool,
    /// What is written over the ends of frames that are known.
    pub rewrite: Option<EndsRewrite>,
    pub direction: Direction,
    /// What the tracker must say for what followed to be right.
    pub class: CtClass,
    next: Option<Box<Link>>,
}

impl Link {
    pub fn new(held: Held, memo: Arc<Memo>) -> Link {
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
            // No revision is this, so the first use checks what the links depend on.
            stamp: Revision(u64::MAX),
            known: None,
            packets: 0,
            bytes: 0,
            only_step: OnlyStep::of(&memo.program),
            tcp_flags: 0,
            is_alone: false,
            needs_key: !memo.program.actions.iter().all(plain),
            rewrite: None,
            direction: held.direction,
            class: held.class,
            memo,
            next: None,
        }
    }

    /// Works out what is known of the frames of a pass that ends `before`.
    fn prepare(&mut self, before: &Program) {
        let Some(spec) = last_pass(before) else { return };
        if let Some((known, rewrite)) = Known::new(&self.connection, self.direction, self.class, spec) {
            (self.known, self.rewrite) = (Some(known), rewrite);
            self.is_alone = before.actions.len() == 2;
        }
    }

    /// The translation of what followed.
    #[cfg(test)]
    pub fn memo(&self) -> &Arc<Memo> {
        &self.memo
    }

    /// What to do with a frame that went on, and the link it is done with.
    #[inline]
    pub fn go_on(&mut self) -> (&[DpAction], Option<&mut Link>) {
        (&self.memo.program.actions, self.next.as_deref_mut())
    }

    /// Counts a frame that went on from this pass.
    #[inline]
    pub fn count(&mut self, bytes: u32, tcp_flags: u16, now: Instant) {
        let (sum, too_many) = self.bytes.overflowing_add(bytes);
        if too_many {
            self.fold(now);
            self.bytes = bytes;
        } else {
            self.bytes = sum;
        }
        // Every frame has bytes, so those are too many first.
        self.packets = self.packets.wrapping_add(1);
        self.tcp_flags |= tcp_flags;
    }

    fn fold(&mut self, last_seen: Instant) {
        if self.packets == 0 {
            return;
        }
        for credit in &self.memo.credits {
            credit.credit(self.packets.into(), self.bytes.into(), last_seen, self.tcp_flags);
        }
        (self.packets, self.bytes) = (0, 0);
    }
}

/// The passes of a flow, in order: the first, which knows the others.
pub(crate) struct Chain(Link);

impl Chain {
    /// Of a flow whose program is `first`. `None` of no links.
    pub fn new(first: &Program, mut links: Vec<Link>) -> Option<Chain> {
        let mut before = first;
        for link in &mut links {
            link.prepare(before);
            before = &link.memo.program;
        }
        let join = |next: Option<Box<Link>>, link| Some(Box::new(Link { next, ..link }));
        links.into_iter().rfold(None, join).map(|first| Chain(*first))
    }

    /// The first link.
    #[inline]
    pub fn first(&mut self) -> &mut Link {
        &mut self.0
    }

    /// Whether the programs are known to be right at `revision`.
    #[inline]
    pub fn is_stamped(&self, revision: Revision) -> bool {
        self.0.stamp == revision
    }

    /// Whether the programs are right at `revision`, which was read before.
    #[inline]
    pub fn is_good<S: SlowPath>(&mut self, revision: Revision, slow: &S) -> bool {
        if !self.is_stamped(revision) {
            if !self.links().all(|l| slow.still_valid(&l.memo.deps)) {
                return false;
            }
            self.0.stamp = revision;
        }
        true
    }

    /// Has the line fetched that frames that follow read and write.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&self.0);
    }

    /// Has fetched what else such frames need, once that line is there: the connection, and what is written over their ends.
    #[inline]
    pub fn prefetch_connection(&self) {
        prefetch(&*self.0.connection);
        if self.0.known.as_ref().is_none_or(Known::is_tcp) {
            prefetch(self.0.connection.windows());
        }
        if self.0.known.as_ref().is_none_or(|known| known.is_rewritten) {
            prefetch(&self.0.rewrite);
        }
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        successors(Some(&self.0), |link| link.next.as_deref())
    }

    /// Credits what has been counted since the last time. `last_seen` is when the flow's last frame came.
    pub fn fold(&mut self, last_seen: Instant) {
        let mut next = Some(&mut self.0);
        while let Some(link) = next {
            link.fold(last_seen);
            next = link.next.as_deref_mut();
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} links)", self.links().count())
    }
}

/// Whether a program may be the start or a middle of a chain: the pass through the tracker is the last thing it does.
pub(crate) fn ends_in_pass(program: &Program) -> bool {
    last_pass(program).is_some()
}

fn last_pass(program: &Program) -> Option<&CtSpec> {
    match &*program.actions {
        [.., DpAction::Ct(spec), DpAction::Recirculate(_)] => Some(spec),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Deps;
    use crate::conntrack::{ConnTracker, CtConfig};
    use base::HashSeed;
    use packet::{DpPort, Frame, FrameBuilder, PacketKey};

    /// A link of a connection that a cached flow may hold.
    pub(crate) fn link() -> Link {
        let tracker = ConnTracker::new(HashSeed::new(1, 2), CtConfig::default());
        let spec = CtSpec { commit: true, ..CtSpec::default() };
        let pass = |src, dst| {
            let mut frame = Frame::from_bytes(&FrameBuilder::udp4(src, dst).build());
            let mut key = PacketKey::extract(&mut frame).expect("a frame");
            tracker.track(&mut frame, &mut key, &spec, DpPort(1), Instant::from_secs(1))
        };
        pass((1, 5), (2, 6));
        let tracked = pass((2, 6), (1, 5));
        let (connection, direction) = tracked.hold.expect("answered");
        let memo = Memo { program: Program::default(), deps: Deps::default(), credits: Box::default() };
        Link::new(Held { connection, direction, class: tracked.class }, Arc::new(memo))
    }

    use std::mem::offset_of;

    /// What a frame that follows reads and writes is one line; with what few need, two.
    #[test]
    fn a_link_is_two_lines() {
        assert_eq!((size_of::<Link>(), size_of::<Chain>()), (128, 128));
        assert!(offset_of!(Link, needs_key) < 64 && offset_of!(Link, rewrite) == 64);
    }
}
