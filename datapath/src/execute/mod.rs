//! Runs programs over frames.
//!
//! Counting: a frame with `n` ends (outputs, copies for controllers, recirculations, clones, or else one drop) counts as
//! `n - 1` clones, whether or not bytes were copied for it: the last output sends the frame itself, and a controller looks at
//! it where it lies. So each end is accounted for by one reception or one clone.
//!
//! Not here: which program belongs to a frame.

#![warn(clippy::indexing_slicing)]

mod received;
mod track;
mod tunnel;

use crate::action::{DpAction, RecircId, UpcallCookie};
use crate::cache::{Link, OnlyStep};
use crate::conntrack::{ConnTracker, Connection, CtClass, Direction};
use crate::cost;
use crate::drop::Drop;
use crate::fragments::{FragmentLimits, Reassembler};
use crate::meter::{self, Excess, Verdict};
use crate::ports::{PortIndex, Ports};
use crate::slowpath::SlowPath;
use base::{HashSeed, Instant, RateLimit};
use packet::segment::Segments;
use packet::{Checksum, DpPort, Frame, FramePool, Layers, PacketKey, Segmentation, rewrite, slot};
use received::Received;
use std::collections::VecDeque;
use std::sync::Arc;

/// Frames that may wait to be looked up again, of one that was received: copies that recirculate, and the fragments of a
/// packet, which are at most 164 of the least size that can be configured.
pub const WAITING_MAX: usize = 256;

/// Answers a second, of one worker, to senders of packets that do not fit their tunnel.
const ANSWERS_PER_SECOND: u64 = 1_000;

/// What running programs needs and changes.
pub(crate) struct Executor {
    pub pool: FramePool,
    pub ports: Ports,
    pub tracker: Arc<ConnTracker>,
    pub fragments: Reassembler,
    /// Frames that are to be looked up again, beside the one at hand.
    pub waiting: VecDeque<Waiting>,
    /// What frames cost ([`cost`]) since this was last taken, beyond the price of each one received.
    pub work: u64,
    /// The price of a frame of the port that the frames at hand came from; copies have it too.
    pub frame_price: u32,
    /// Secret of the source ports of tunnel packets.
    seed: HashSeed,
    /// The frame at hand as it was received.
    pub received: Received,
    /// Room for the fragments of a packet that goes into a tunnel.
    pieces: Vec<Frame>,
    /// Answers to senders of packets that do not fit their tunnel (RFC 4443 section 2.4 f).
    answers: RateLimit,
}

/// A frame that is to be looked up again.
pub(crate) struct Waiting {
    pub frame: Frame,
    /// Its key; only the metadata counts.
    pub key: PacketKey,
    pub id: RecircId,
}

/// A connection that a frame was found to belong to.
pub(crate) struct Held {
    pub connection: Arc<Connection>,
    pub direction: Direction,
    pub class: CtClass,
}

/// Where a frame came from and what is known of it.
pub(crate) struct Origin<'a> {
    pub ingress: PortIndex,
    /// The key it was looked up by; metadata that programs write is written here.
    pub key: &'a mut PacketKey,
    /// What the last pass through the tracker found, if a cached flow may hold on to it.
    pub held: Option<Held>,
    /// Whether headers were rewritten, so that the key no longer says what stands in them.
    rewritten: bool,
    now: Instant,
}

impl<'a> Origin<'a> {
    pub fn new(ingress: PortIndex, key: &'a mut PacketKey, now: Instant) -> Self {
        Origin { ingress, key, held: None, rewritten: false, now }
    }
}

/// How a run ended that did not end the frame.
pub(crate) enum Next {
    /// Look it up again.
    Recirculate(Frame, RecircId),
    /// The tracker said what the link of a chain was made for: go on with the link's program.
    Follow(Frame),
}

impl Next {
    /// What to look up again. Only programs with a link lead to anything else.
    pub fn recirculation(self) -> Option<(Frame, RecircId)> {
        match self {
            Next::Recirculate(frame, id) => Some((frame, id)),
            Next::Follow(_) => None,
        }
    }
}

/// What a pass with a connection at hand gave.
enum HeldPass {
    /// The connection is as it was when the chain was made.
    Same,
    /// It is not; the key says how it is now.
    Differs,
    /// The connection must be looked up.
    Unknown,
}

/// Ends of a frame so far.
#[derive(Default)]
struct Ends {
    /// Outputs, clones, recirculations.
    sent: u64,
    punts: u64,
}

impl Ends {
    fn all(&self) -> u64 {
        self.sent + self.punts
    }
}

/// Whether a step may be the last use of the frame's bytes.
fn uses_frame(action: &DpAction) -> bool {
    match action {
        DpAction::Output(_)
        | DpAction::OutputTrunc { .. }
        | DpAction::Upcall { .. }
        | DpAction::Ct(_)
        | DpAction::Clone(_)
        | DpAction::PopTunnel { .. }
        | DpAction::Recirculate(_)
        | DpAction::Drop(_) => true,
        DpAction::SetField { .. }
        | DpAction::PushTunnel(_)
        | DpAction::PushVlan { .. }
        | DpAction::PopVlan
        | DpAction::PushMpls { .. }
        | DpAction::PopMpls { .. }
        | DpAction::Meter(_)
        | DpAction::CtClear => false,
    }
}

impl Executor {
    pub fn new(
        ports: Ports,
        tracker: Arc<ConnTracker>,
        seed: HashSeed,
        fragments: FragmentLimits,
    ) -> Executor {
        Executor {
            pool: FramePool::new(FramePool::FRAMES_MAX),
            ports,
            tracker,
            fragments: Reassembler::new(fragments),
            waiting: VecDeque::new(),
            work: 0,
            frame_price: cost::FRAME,
            seed,
            received: Received::default(),
            pieces: Vec::new(),
            answers: RateLimit::new(ANSWERS_PER_SECOND, ANSWERS_PER_SECOND),
        }
    }

    /// Drops a frame at its ingress port.
    #[inline]
    pub fn drop_frame(&mut self, frame: Frame, ingress: PortIndex, reason: Drop) {
        self.pool.give(frame);
        self.ports.drop_at(ingress, reason);
    }

    /// Sends a frame to one port: the whole program of most frames.
    #[inline]
    pub fn output(&mut self, port: DpPort, frame: Frame, ingress: PortIndex) {
        self.ports.send(port, frame, ingress, &mut self.pool);
    }

    /// Carries out a program of one step, which most are. [`OnlyStep::NONE`] is none, and not to be given.
    #[inline]
    pub fn end(&mut self, step: OnlyStep, frame: Frame, ingress: PortIndex) {
        match step.output() {
            Some(port) => self.output(port, frame, ingress),
            None => self.drop_frame(frame, ingress, step.drop().unwrap_or(Drop::NoAction)),
        }
    }

    /// Runs a program. Returns the frame if it goes on elsewhere. With a `link`, a program that ends in a pass through the
    /// tracker and a recirculation asks the link's connection first.
    pub fn run<S: SlowPath>(
        &mut self,
        steps: &[DpAction],
        mut frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
        link: Option<&Link>,
    ) -> Option<Next> {
        let last = steps.iter().rposition(uses_frame);
        let ingress = origin.ingress;
        let mut ends = Ends::default();
        let mut reason = None;
        // Whether frames with this key may be unlike from here on.
        let mut may_differ = false;
        for (i, step) in steps.iter().enumerate() {
            match step {
                DpAction::Output(port) if Some(i) == last => {
                    self.count_clones(ingress, ends.all());
                    self.output(*port, frame, ingress);
                    return None;
                }
                DpAction::Output(port) => {
                    let copy = self.pool.copy_of(&frame);
                    self.output(*port, copy, ingress);
                    ends.sent += 1;
                }
                DpAction::OutputTrunc { port, max_len } => {
                    let copy = self.cut_copy(&frame, *max_len);
                    self.output(*port, copy, ingress);
                    ends.sent += 1;
                }
                DpAction::Upcall { max_len, cookie } => {
                    ends.punts += self.punt(&frame, *max_len, cookie, origin, slow);
                }
                DpAction::Ct(spec) => {
                    let rest = steps.get(i + 1..).unwrap_or_default();
                    if !self.read_anew(&mut frame, origin) {
                        self.lose(frame, ingress, &ends, Drop::Rewrite);
                        return None;
                    }
                    if origin.key.get(slot::NW_FRAG) != 0 {
                        self.count_clones(ingress, ends.all());
                        self.track_fragment(frame, spec, rest, origin, slow);
                        return None;
                    }
                    let held = match (link, rest) {
                        (Some(link), [DpAction::Recirculate(_)]) => {
                            self.track_held(&mut frame, origin, spec, link)
                        }
                        _ => HeldPass::Unknown,
                    };
                    match held {
                        HeldPass::Same => {
                            self.count_clones(ingress, ends.all());
                            return Some(Next::Follow(frame));
                        }
                        HeldPass::Differs => {}
                        HeldPass::Unknown => {
                            if let Some(why) = self.track(&mut frame, origin, spec) {
                                self.lose(frame, ingress, &ends, why);
                                return None;
                            }
                            // What follows is remembered for all frames with this key.
                            if may_differ || !matches!(rest, [DpAction::Recirculate(_)]) {
                                origin.held = None;
                            }
                        }
                    }
                }
                DpAction::CtClear => ConnTracker::clear(origin.key),
                DpAction::Meter(meter) => {
                    may_differ |= meter.remarks();
                    match meter.measure(frame.len(), origin.now) {
                        Verdict::Pass => {}
                        Verdict::Excess(Excess::Remark(levels)) => {
                            meter::remark(&mut frame, levels);
                            origin.rewritten = true;
                        }
                        Verdict::Excess(Excess::Drop) => {
                            reason = Some(Drop::Meter);
                            break;
                        }
                    }
                }
                DpAction::Clone(steps) => {
                    self.run_clone(steps, &frame, origin, slow);
                    ends.sent += 1;
                }
                DpAction::PushTunnel(push) => {
                    self.count_clones(ingress, ends.all());
                    let rest = steps.get(i + 1..).unwrap_or_default();
                    return self.run_in_tunnel(push, rest, frame, origin, slow);
                }
                DpAction::PopTunnel { protocol, port } => {
                    self.count_clones(ingress, ends.all());
                    return self.leave_tunnel(*protocol, *port, frame, origin, slow);
                }
                DpAction::Recirculate(id) if Some(i) == last => {
                    self.count_clones(ingress, ends.all());
                    return Some(Next::Recirculate(frame, *id));
                }
                DpAction::Recirculate(id) => {
                    let copy = self.pool.copy_of(&frame);
                    self.wait(copy, *origin.key, *id, ingress);
                    ends.sent += 1;
                }
                DpAction::Drop(why) => {
                    reason = Some(*why);
                    break;
                }
                DpAction::SetField { .. }
                | DpAction::PushVlan { .. }
                | DpAction::PopVlan
                | DpAction::PushMpls { .. }
                | DpAction::PopMpls { .. } => {
                    if !rewrite_frame(&mut frame, origin, step) {
                        self.lose(frame, ingress, &ends, Drop::Rewrite);
                        return None;
                    }
                }
            }
        }
        self.finish(frame, ingress, &ends, reason);
        None
    }

    /// Makes the key say what stands in the frame's headers. False if they cannot be read any more.
    fn read_anew(&mut self, frame: &mut Frame, origin: &mut Origin<'_>) -> bool {
        if !std::mem::take(&mut origin.rewritten) {
            return true;
        }
        self.received.keep(origin.key, frame);
        let (port, id) = (origin.key.in_port(), origin.key.get(slot::RECIRC_ID));
        let read = origin.key.extract_headers(frame).is_ok();
        origin.key.set_in_port(port);
        origin.key.set(slot::RECIRC_ID, id);
        read
    }

    /// What is left of a frame whose program ended without its last use.
    fn finish(&mut self, frame: Frame, ingress: PortIndex, ends: &Ends, reason: Option<Drop>) {
        if ends.sent > 0 {
            self.count_clones(ingress, ends.all() - 1);
            self.pool.give(frame);
            return;
        }
        let default = if ends.punts > 0 { Drop::Consumed } else { Drop::NoAction };
        self.lose(frame, ingress, ends, reason.unwrap_or(default));
    }

    /// Drops a frame whose copies may have come farther.
    fn lose(&mut self, frame: Frame, ingress: PortIndex, ends: &Ends, reason: Drop) {
        self.count_clones(ingress, ends.all());
        self.drop_frame(frame, ingress, reason);
    }

    /// Runs steps on a copy.
    fn run_clone<S: SlowPath>(
        &mut self,
        steps: &[DpAction],
        frame: &Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) {
        let copy = self.pool.copy_of(frame);
        let mut key = *origin.key;
        let mut inner = Origin { held: None, key: &mut key, ..*origin };
        if let Some(Next::Recirculate(frame, id)) = self.run(steps, copy, &mut inner, slow, None) {
            self.wait(frame, key, id, origin.ingress);
        }
    }

    /// Keeps a frame to be looked up again.
    fn wait(&mut self, frame: Frame, key: PacketKey, id: RecircId, ingress: PortIndex) {
        if self.waiting.len() >= WAITING_MAX {
            self.drop_frame(frame, ingress, Drop::Recirculation);
            return;
        }
        self.waiting.push_back(Waiting { frame, key, id });
    }

    fn count_clones(&mut self, ingress: PortIndex, n: u64) {
        if n > 0
            && let Some(counters) = self.ports.counters(ingress)
        {
            counters.clones.add(n);
            self.work += n * u64::from(self.frame_price);
        }
    }

    /// Notes what the frame at hand costs beyond the price of every frame.
    #[inline]
    pub fn charge(&mut self, units: u32) {
        self.work += u64::from(units);
    }

    /// A copy of at most `max_len` bytes. What was left for others to compute is forgotten if something is missing.
    fn cut_copy(&mut self, frame: &Frame, max_len: u32) -> Frame {
        let max_len = usize::try_from(max_len).unwrap_or(usize::MAX);
        if max_len >= frame.len() {
            return self.pool.copy_of(frame);
        }
        let bytes = frame.bytes().get(..max_len).unwrap_or(&[]);
        let mut copy = self.pool.take();
        if copy.append(bytes).is_err() {
            self.pool.give(copy);
            copy = Frame::from_bytes(bytes);
        }
        copy.in_port = frame.in_port;
        copy.checksum = Checksum::Unknown;
        copy.segmentation = Segmentation::None;
        copy.layers = Layers::default();
        copy
    }

    /// Hands copies of a frame to the slow path: of each segment, and with its checksum, as nobody behind it knows what was left to
    /// be done, or would do it. How many.
    fn punt<S: SlowPath>(
        &mut self,
        frame: &Frame,
        max_len: u32,
        cookie: &UpcallCookie,
        origin: &Origin<'_>,
        slow: &S,
    ) -> u64 {
        if !frame.is_super_frame() && !matches!(frame.checksum, Checksum::Partial { .. }) {
            self.punt_complete(frame, max_len, cookie, origin, slow);
            return 1;
        }
        let mut copy = self.pool.copy_of(frame);
        if !copy.is_super_frame() {
            copy.complete_checksum();
            self.punt_complete(&copy, max_len, cookie, origin, slow);
            self.pool.give(copy);
            return 1;
        }
        let mut segments = match Segments::new(copy) {
            Ok(segments) => segments,
            Err(copy) => {
                self.drop_frame(copy, origin.ingress, Drop::BadOffload);
                return 1;
            }
        };
        let count = segments.remaining() as u64;
        while let Some(segment) = segments.next_segment(&mut self.pool) {
            self.punt_complete(&segment, max_len, cookie, origin, slow);
            self.pool.give(segment);
        }
        self.pool.give(segments.into_frame());
        count
    }

    fn punt_complete<S: SlowPath>(
        &mut self,
        frame: &Frame,
        max_len: u32,
        cookie: &UpcallCookie,
        origin: &Origin<'_>,
        slow: &S,
    ) {
        self.charge(cost::COPY);
        let result = if max_len as usize >= frame.len() {
            slow.punt(frame, frame.len(), origin.key, cookie)
        } else {
            let copy = self.cut_copy(frame, max_len);
            let result = slow.punt(&copy, frame.len(), origin.key, cookie);
            self.pool.give(copy);
            result
        };
        if let Some(counters) = self.ports.counters(origin.ingress) {
            match result {
                Ok(()) => counters.punted.add(1),
                Err(reason) => counters.drops.add(reason, 1),
            }
        }
    }
}

/// Carries out a step that changes the frame. False if a header could not be added; a frame that lacks the field to be
/// written or the tag to be removed is left alone.
fn rewrite_frame(frame: &mut Frame, origin: &mut Origin<'_>, step: &DpAction) -> bool {
    let key = &mut *origin.key;
    origin.rewritten |=
        !matches!(step, DpAction::SetField { slot, .. } if slot.word as usize >= PacketKey::METADATA_WORD);
    match step {
        DpAction::SetField { slot, value, mask } if slot.word as usize >= PacketKey::METADATA_WORD => {
            let old = key.get(*slot);
            key.set(*slot, old & !mask | value & mask);
            true
        }
        DpAction::SetField { slot, value, mask } => {
            rewrite::set_slot(frame, *slot, *value, *mask);
            true
        }
        DpAction::PushVlan { tpid, tci } => rewrite::push_vlan(frame, *tpid, *tci),
        DpAction::PopVlan => {
            rewrite::pop_vlan(frame);
            true
        }
        DpAction::PushMpls { lse, ethertype } => rewrite::push_mpls(frame, *ethertype, *lse),
        DpAction::PopMpls { ethertype } => {
            rewrite::pop_mpls(frame, *ethertype);
            true
        }
        DpAction::Output(_)
        | DpAction::OutputTrunc { .. }
        | DpAction::Upcall { .. }
        | DpAction::Ct(_)
        | DpAction::CtClear
        | DpAction::Clone(_)
        | DpAction::PushTunnel(_)
        | DpAction::PopTunnel { .. }
        | DpAction::Recirculate(_)
        | DpAction::Meter(_)
        | DpAction::Drop(_) => true,
    }
}
