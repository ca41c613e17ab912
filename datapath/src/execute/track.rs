//! Passes through the connection tracker, and the fragments that are held for them.

use super::{Executor, Held, HeldPass, Next, Origin};
use crate::action::DpAction;
use crate::cache::Link;
use crate::conntrack::CtSpec;
use crate::cost;
use crate::drop::Drop;
use crate::fragments::{Context, Offered, Whole};
use crate::slowpath::SlowPath;
use base::Instant;
use packet::{DpPort, Frame, PacketKey, slot};

impl Executor {
    /// A pass with a look-up. Says why the frame is to be dropped, if it is.
    pub(super) fn track(
        &mut self,
        frame: &mut Frame,
        origin: &mut Origin<'_>,
        spec: &CtSpec,
    ) -> Option<Drop> {
        let port = origin.key.in_port();
        if spec.nat.is_some() {
            self.received.keep(origin.key, frame);
        }
        let tracked = self.tracker.track(frame, origin.key, spec, port, origin.now);
        self.charge(cost::TRACK + tracked.changes * cost::CONNECTION);
        let (class, hold) = (tracked.class, tracked.hold);
        origin.held = hold.map(|(connection, direction)| Held { connection, direction, class });
        tracked.drop
    }

    /// A pass with a connection at hand whose frames are known, and nothing else. If false, nothing was done.
    #[inline]
    pub fn follow(&mut self, frame: &mut Frame, origin: &mut Origin<'_>, link: &Link) -> bool {
        // A key that lags behind is read anew before a frame is tracked.
        if origin.rewritten || !self.follow_link(frame, link, origin.now) {
            return false;
        }
        if let Some(known) = link.known.as_ref().filter(|_| link.needs_key) {
            if known.is_rewritten {
                self.received.keep(origin.key, frame);
            }
            self.tracker.describe_known(known, &link.connection, link.class, origin.key);
        }
        true
    }

    /// The same for a link whose program does not look at the key.
    #[inline]
    pub fn follow_link(&self, frame: &mut Frame, link: &Link, now: Instant) -> bool {
        let Link { known, rewrite, connection, .. } = link;
        known.as_ref().is_some_and(|known| self.tracker.track_known(known, rewrite, connection, frame, now))
    }

    /// A pass with a connection at hand.
    pub(super) fn track_held(
        &mut self,
        frame: &mut Frame,
        origin: &mut Origin<'_>,
        spec: &CtSpec,
        link: &Link,
    ) -> HeldPass {
        if self.follow(frame, origin, link) {
            return HeldPass::Same;
        }
        let (connection, direction) = (&link.connection, link.direction);
        if spec.nat.is_some() {
            self.received.keep(origin.key, frame);
        }
        match self.tracker.track_held(connection, direction, frame, origin.key, spec, origin.now) {
            None => HeldPass::Unknown,
            Some(class) if class == link.class => {
                if link.needs_key {
                    self.tracker.describe(connection, direction, class, origin.key);
                }
                HeldPass::Same
            }
            Some(class) => {
                self.tracker.describe(connection, direction, class, origin.key);
                HeldPass::Differs
            }
        }
    }

    /// A fragment waits for the rest of its packet; with the last one, the packet is tracked as a whole and its fragments
    /// go on as they came.
    pub(super) fn track_fragment<S: SlowPath>(
        &mut self,
        frame: Frame,
        spec: &CtSpec,
        rest: &[DpAction],
        origin: &mut Origin<'_>,
        slow: &S,
    ) {
        let context =
            Context { ingress: origin.key.in_port(), zone: spec.zone.0, at: place_of(rest, origin.key) };
        self.charge(cost::FRAGMENT);
        match self.fragments.offer(frame, origin.key, context, &mut self.pool, origin.now) {
            Offered::Held => {}
            Offered::Dropped(frame, reason) => self.drop_frame(frame, origin.ingress, reason),
            Offered::Whole(whole) => self.track_whole(whole, spec, rest, origin, slow),
        }
    }

    fn track_whole<S: SlowPath>(
        &mut self,
        mut whole: Whole,
        spec: &CtSpec,
        rest: &[DpAction],
        origin: &mut Origin<'_>,
        slow: &S,
    ) {
        let port = origin.key.in_port();
        let mut key = *origin.key;
        let readable = key.extract_headers(whole.frame_mut()).is_ok();
        key.set_in_port(port);
        let mut lost = (!readable).then_some(Drop::Rewrite);
        if readable {
            self.received.keep_whole(&key, whole.frame_mut());
            let tracked = self.tracker.track(whole.frame_mut(), &mut key, spec, port, origin.now);
            self.charge(cost::TRACK + tracked.changes * cost::CONNECTION);
            lost = tracked.drop;
        }
        let mut fragments = Vec::new();
        whole.into_fragments(&mut self.pool, |frame| fragments.push(frame));
        for mut frame in fragments {
            let mut own = key;
            if lost.is_none() && own.extract_headers(&mut frame).is_err() {
                lost = Some(Drop::Rewrite);
            }
            if let Some(reason) = lost {
                self.drop_frame(frame, origin.ingress, reason);
                continue;
            }
            own.set_in_port(port);
            let mut inner = Origin::new(origin.ingress, &mut own, origin.now);
            if let Some(Next::Recirculate(frame, id)) = self.run(rest, frame, &mut inner, slow, None) {
                self.wait(frame, own, id, origin.ingress);
            }
        }
    }

    /// Drops fragments whose time is over.
    pub fn expire_fragments(&mut self, now: base::Instant) {
        let Executor { pool, ports, fragments, .. } = self;
        fragments.expire(now, &mut |frame: Frame, ingress: DpPort, reason: Drop| {
            pool.give(frame);
            let index = ports.find(ingress).unwrap_or(crate::ports::PortIndex::PORTLESS);
            ports.drop_at(index, reason);
        });
    }
}

/// Names the place in a pipeline where fragments wait: those that go on elsewhere never meet.
fn place_of(rest: &[DpAction], key: &PacketKey) -> u64 {
    let next = match rest.last() {
        Some(DpAction::Recirculate(id)) => id.0,
        _ => 0,
    };
    u64::from(next) << 32 | key.get(slot::RECIRC_ID) as u64
}
