//! Runs programs over frames.
//!
//! Counting: a frame with `n` ends (outputs, copies for controllers, a recirculation, or else one drop) counts as `n - 1`
//! clones, whether or not bytes were copied for it: the last output sends the frame itself, and a controller looks at it
//! where it lies. So each end is accounted for by one reception or one clone.
//!
//! Not here: which program belongs to a frame.

#![warn(clippy::indexing_slicing)]

use crate::action::{DpAction, RecircId, UpcallCookie};
use crate::drop::Drop;
use crate::meter::{self, Excess, Verdict};
use crate::ports::{PortIndex, Ports};
use crate::slowpath::SlowPath;
use base::Instant;
use packet::{Checksum, DpPort, Frame, FramePool, Layers, PacketKey, Segmentation, rewrite};

/// What running programs needs and changes.
pub(crate) struct Executor {
    pub pool: FramePool,
    pub ports: Ports,
}

/// Where a frame came from and what is known of it.
pub(crate) struct Origin<'a> {
    pub ingress: PortIndex,
    /// The key it was looked up by; metadata that programs write is written here.
    pub key: &'a mut PacketKey,
    /// For meters.
    pub now: Instant,
}

/// Whether a step may be the last use of the frame's bytes.
fn uses_frame(action: &DpAction) -> bool {
    match action {
        DpAction::Output(_)
        | DpAction::OutputTrunc { .. }
        | DpAction::Upcall { .. }
        | DpAction::Recirculate(_)
        | DpAction::Drop(_) => true,
        DpAction::SetField { .. }
        | DpAction::PushVlan { .. }
        | DpAction::PopVlan
        | DpAction::PushMpls { .. }
        | DpAction::PopMpls { .. }
        | DpAction::Meter(_) => false,
    }
}

impl Executor {
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

    /// Runs a program. Returns the frame if it is to be looked up again.
    pub fn run<S: SlowPath>(
        &mut self,
        steps: &[DpAction],
        mut frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<(Frame, RecircId)> {
        let last = steps.iter().rposition(uses_frame);
        let ingress = origin.ingress;
        let (mut outputs, mut punts) = (0u64, 0u64);
        let mut reason = None;
        for (i, step) in steps.iter().enumerate() {
            match step {
                DpAction::Output(port) if Some(i) == last => {
                    self.count_clones(ingress, outputs + punts);
                    self.output(*port, frame, ingress);
                    return None;
                }
                DpAction::Output(port) => {
                    let copy = self.pool.copy_of(&frame);
                    self.output(*port, copy, ingress);
                    outputs += 1;
                }
                DpAction::OutputTrunc { port, max_len } => {
                    let copy = self.cut_copy(&frame, *max_len);
                    self.output(*port, copy, ingress);
                    outputs += 1;
                }
                DpAction::Upcall { max_len, cookie } => {
                    self.punt(&frame, *max_len, cookie, origin, slow);
                    punts += 1;
                }
                DpAction::Recirculate(id) => {
                    self.count_clones(ingress, outputs + punts);
                    return Some((frame, *id));
                }
                DpAction::Drop(why) => {
                    reason = Some(*why);
                    break;
                }
                DpAction::Meter(meter) => match meter.measure(frame.len(), origin.now) {
                    Verdict::Pass => {}
                    Verdict::Excess(Excess::Remark(levels)) => meter::remark(&mut frame, levels),
                    Verdict::Excess(Excess::Drop) => {
                        reason = Some(Drop::Meter);
                        break;
                    }
                },
                DpAction::SetField { .. }
                | DpAction::PushVlan { .. }
                | DpAction::PopVlan
                | DpAction::PushMpls { .. }
                | DpAction::PopMpls { .. } => {
                    if !rewrite_frame(&mut frame, origin.key, step) {
                        self.count_clones(ingress, outputs + punts);
                        self.drop_frame(frame, ingress, Drop::Rewrite);
                        return None;
                    }
                }
            }
        }
        if outputs > 0 {
            self.count_clones(ingress, outputs + punts - 1);
            self.pool.give(frame);
            return None;
        }
        self.count_clones(ingress, punts);
        let default = if punts > 0 { Drop::Consumed } else { Drop::NoAction };
        self.drop_frame(frame, ingress, reason.unwrap_or(default));
        None
    }

    fn count_clones(&self, ingress: PortIndex, n: u64) {
        if n > 0
            && let Some(counters) = self.ports.counters(ingress)
        {
            counters.clones.add(n);
        }
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

    fn punt<S: SlowPath>(
        &mut self,
        frame: &Frame,
        max_len: u32,
        cookie: &UpcallCookie,
        origin: &Origin<'_>,
        slow: &S,
    ) {
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
fn rewrite_frame(frame: &mut Frame, key: &mut PacketKey, step: &DpAction) -> bool {
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
        | DpAction::Recirculate(_)
        | DpAction::Meter(_)
        | DpAction::Drop(_) => true,
    }
}
