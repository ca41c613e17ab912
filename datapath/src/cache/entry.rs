//! One cached flow: a line that holds what it is found by and what a hit reads and writes, and a record beside it.

use super::PortShare;
use super::chains::ChainSlot;
use super::era::{Millis, Stamp};
use super::memo::Memo;
use crate::action::{DpAction, Program};
use crate::drop::Drop;
use crate::slowpath::Revision;
use base::Instant;
use packet::DpPort;
use packet::frame::FRAME_PUSHED_MAX;
use std::sync::Arc;

/// Masked words of a key that stand in the flow itself: those of Ethernet, a tag, IPv4 and a transport protocol.
pub(crate) const FLOW_WORDS: usize = 5;

/// Frames that a flow counts before they are credited; few enough that their bytes fit.
const PACKETS_MAX: u16 = 1 << 15;
const _: () = assert!(PACKETS_MAX as u64 * (FRAME_PUSHED_MAX as u64) <= u32::MAX as u64);

/// What most hits compare, read and write: one cache line. The default stands in places that are free.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    /// The first words of its key, under the profile's mask; zero beyond the profile's.
    pub words: [u64; FLOW_WORDS],
    /// Revision at which the program is known to be right.
    pub stamp: Stamp,
    /// When the last frame came.
    pub last_seen: Millis,
    /// What the program leads to while the connections that its frames belong to stay as they are.
    pub chain: Option<ChainSlot>,
    /// So that most hits need neither record nor program.
    pub only_step: OnlyStep,
    /// Bytes to be credited.
    bytes: u32,
    /// Frames to be credited.
    packets: u16,
    /// TCP flags seen since the flow has had its program, or-ed together.
    pub tcp_flags: u16,
}

/// What few hits need of a flow: those that do more than an output and have no chain; and dumps, credits and eviction.
#[derive(Default)]
#[repr(C, align(32))]
pub(crate) struct FlowRecord {
    /// What is done to its frames; `None` in a free slot only.
    pub memo: Option<Arc<Memo>>,
    /// Frames since the flow was first cached, as far as credited.
    packets: u64,
    /// Their bytes.
    bytes: u64,
    /// Whose share of the cache the flow is counted in.
    pub share: PortShare,
    /// Where in the share's list it stands.
    pub share_position: u32,
}

impl FlowRecord {
    pub fn new(memo: Arc<Memo>, share: PortShare) -> FlowRecord {
        FlowRecord { memo: Some(memo), packets: 0, bytes: 0, share, share_position: 0 }
    }

    /// What is done to the flow's frames, step by step.
    pub fn steps(&self) -> &[DpAction] {
        self.memo.as_ref().map_or(&[], |memo| &memo.program.actions)
    }

    /// Whether the flow has this very translation.
    pub fn has(&self, memo: &Arc<Memo>) -> bool {
        self.memo.as_ref().is_some_and(|own| Arc::ptr_eq(own, memo))
    }
}

impl Flow {
    pub fn new(words: [u64; FLOW_WORDS], memo: &Memo, stamp: Stamp, now: Millis) -> Flow {
        Flow {
            words,
            stamp,
            last_seen: now,
            only_step: OnlyStep::of(&memo.program),
            chain: None,
            bytes: 0,
            packets: 0,
            tcp_flags: 0,
        }
    }

    /// Whether no more can be counted until it is credited.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.packets >= PACKETS_MAX
    }

    /// Counts a frame; not if the flow is full.
    #[inline]
    pub fn count(&mut self, bytes: u32, tcp_flags: u16, now: Millis) {
        self.bytes = self.bytes.wrapping_add(bytes);
        self.packets = self.packets.wrapping_add(1);
        self.last_seen = now;
        self.tcp_flags |= tcp_flags;
    }

    /// Frames since the flow was first cached.
    pub fn packets(&self, record: &FlowRecord) -> u64 {
        record.packets + u64::from(self.packets)
    }

    /// Their bytes.
    pub fn bytes(&self, record: &FlowRecord) -> u64 {
        record.bytes + u64::from(self.bytes)
    }

    /// Whether there is something to be credited.
    #[inline]
    pub fn has_counted(&self) -> bool {
        self.packets > 0
    }

    /// Credits what has been counted since the last time. `last_seen` is when the last frame came.
    pub fn fold(&mut self, record: &mut FlowRecord, last_seen: Instant) {
        if self.packets == 0 {
            return;
        }
        let (packets, bytes) = (u64::from(self.packets), u64::from(self.bytes));
        for credit in record.memo.iter().flat_map(|memo| &memo.credits) {
            credit.credit(packets, bytes, last_seen, self.tcp_flags);
        }
        record.packets += packets;
        record.bytes += bytes;
        (self.packets, self.bytes) = (0, 0);
    }

    /// Takes another program, once what was counted is credited to those of the old one.
    pub fn replace(&mut self, record: &mut FlowRecord, memo: Arc<Memo>, stamp: Stamp) {
        self.stamp = stamp;
        self.only_step = OnlyStep::of(&memo.program);
        self.tcp_flags = 0;
        record.memo = Some(memo);
    }
}

/// A translation that is to be cached.
pub(crate) struct NewFlow {
    pub memo: Arc<Memo>,
    /// The revision read before the translation began.
    pub stamp: Revision,
}

/// The only step of a program if that is an output or a drop, which is all that most hits have to know. As small as a port's
/// number.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct OnlyStep(u32);

impl OnlyStep {
    /// More or other steps.
    pub const NONE: OnlyStep = OnlyStep(DpPort::NONE.0);
    /// Numbers from here on are reasons of drops, those below are ports'.
    const DROPS: u32 = OnlyStep::NONE.0 - u8::MAX as u32;

    pub fn of(program: &Program) -> OnlyStep {
        match &*program.actions {
            [DpAction::Output(port)] if port.0 < OnlyStep::DROPS => OnlyStep(port.0),
            [DpAction::Drop(reason)] => OnlyStep(OnlyStep::DROPS + *reason as u32),
            _ => OnlyStep::NONE,
        }
    }

    /// The port, if it is an output.
    #[inline]
    pub fn output(self) -> Option<DpPort> {
        (self.0 < OnlyStep::DROPS).then_some(DpPort(self.0))
    }

    /// Why, if it is a drop.
    pub fn drop(self) -> Option<Drop> {
        Drop::ALL.get(self.0.checked_sub(OnlyStep::DROPS)? as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slowpath::{Credit, Deps};
    use std::sync::Mutex;

    #[test]
    fn a_flow_is_a_line_and_its_record_half_a_line() {
        assert_eq!((size_of::<Flow>(), align_of::<Flow>()), (64, 64));
        assert_eq!((size_of::<FlowRecord>(), align_of::<FlowRecord>()), (32, 32));
    }

    #[test]
    fn only_steps_are_outputs_and_drops() {
        let only = |actions: &[DpAction]| OnlyStep::of(&Program { actions: actions.into() });
        for port in [0, 1, u32::MAX - 256] {
            let step = only(&[DpAction::Output(DpPort(port))]);
            assert_eq!((step.output(), step.drop()), (Some(DpPort(port)), None));
        }
        for reason in Drop::ALL {
            let step = only(&[DpAction::Drop(*reason)]);
            assert_eq!((step.output(), step.drop()), (None, Some(*reason)));
        }
        let output = || DpAction::Output(DpPort(1));
        // Numbers that would be taken for reasons are no ports that anything has.
        for other in [&[][..], &[output(), output()], &[DpAction::PopVlan], &[DpAction::Output(DpPort::NONE)]]
        {
            assert_eq!(only(other), OnlyStep::NONE);
        }
        assert_eq!((OnlyStep::NONE.output(), OnlyStep::NONE.drop()), (None, None));
    }

    #[derive(Default)]
    struct Tally(Mutex<Vec<(u64, u64, u16)>>);

    impl Credit for Tally {
        fn credit(&self, packets: u64, bytes: u64, _: Instant, tcp_flags: u16) {
            self.0.lock().unwrap().push((packets, bytes, tcp_flags));
        }
    }

    fn flow(tally: &Arc<Tally>) -> (Flow, FlowRecord) {
        let memo = memo(tally);
        let flow = Flow::new([0; FLOW_WORDS], &memo, Stamp::default(), Millis::default());
        (flow, FlowRecord::new(memo, PortShare::default()))
    }

    fn memo(tally: &Arc<Tally>) -> Arc<Memo> {
        let tally: Arc<dyn Credit> = tally.clone();
        Arc::new(Memo { program: Program::default(), deps: Deps::default(), credits: Box::new([tally]) })
    }

    /// As many of the longest frames as a flow counts between two folds: none is lost, and none in what follows.
    #[test]
    fn a_full_flow_has_all_that_it_counted() {
        let tally = Arc::new(Tally::default());
        let (mut flow, mut record) = flow(&tally);
        for round in 1..=2u64 {
            let mut frames = 0u64;
            while !flow.is_full() {
                flow.count(FRAME_PUSHED_MAX as u32, 0, Millis::default());
                frames += 1;
            }
            let bytes = frames * FRAME_PUSHED_MAX as u64;
            assert_eq!((flow.packets(&record), flow.bytes(&record)), (round * frames, round * bytes));
            flow.fold(&mut record, Instant::ZERO);
            assert!(!flow.is_full() && !flow.has_counted());
            assert_eq!(tally.0.lock().unwrap().last(), Some(&(frames, bytes, 0)));
            assert_eq!((flow.packets(&record), flow.bytes(&record)), (round * frames, round * bytes));
        }
    }

    /// A FIN that an old rule saw is not the new rule's, which would time out by it (`fin_timeout`).
    #[test]
    fn a_new_program_begins_without_flags() {
        let (old, new) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let (mut flow, mut record) = flow(&old);
        flow.count(60, 0x01, Millis::default());
        flow.fold(&mut record, Instant::ZERO);
        flow.replace(&mut record, memo(&new), Stamp::default());
        flow.count(70, 0x10, Millis::default());
        flow.fold(&mut record, Instant::ZERO);
        assert_eq!(*old.0.lock().unwrap(), [(1, 60, 0x01)]);
        assert_eq!(*new.0.lock().unwrap(), [(1, 70, 0x10)]);
        assert_eq!((flow.packets(&record), flow.bytes(&record)), (2, 130));
    }
}
