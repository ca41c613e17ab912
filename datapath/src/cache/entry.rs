//! One cached flow: two lines that stand side by side, what it is found by and what a hit reads and writes.

use super::PortShare;
use super::chains::ChainSlot;
use super::memo::Memo;
use crate::action::{DpAction, Program};
use crate::slowpath::Revision;
use base::Instant;
use packet::DpPort;
use std::sync::Arc;

/// Masked words of a key that stand in the flow itself: those of IPv4 and a transport protocol under the usual profiles.
pub(crate) const FLOW_WORDS: usize = 6;

/// A cached flow; the default stands in places that are free.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    /// The first words of its key, under the profile's mask; zero beyond the profile's.
    pub words: [u64; FLOW_WORDS],
    /// When it was first cached.
    pub created: Instant,
    /// Whose share of the cache the flow is counted in.
    pub share: PortShare,
    /// Where in the share's list it stands.
    pub share_position: u32,
    pub hot: Hot,
}

/// What a hit reads and writes: one cache line.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Hot {
    /// Revision at which the program is known to be right.
    pub stamp: Revision,
    /// When the last frame came.
    pub last_seen: Instant,
    /// What is done to its frames; `None` in a free slot only.
    pub memo: Option<Arc<Memo>>,
    /// What the program leads to while the connections that its frames belong to stay as they are.
    pub chain: Option<ChainSlot>,
    /// Frames since the flow was first cached, as far as credited.
    packets_credited: u64,
    /// Their bytes.
    bytes_credited: u64,
    /// Frames to be credited.
    packets: u32,
    /// Their bytes; what does not fit is credited at once.
    bytes: u32,
    /// The program's only step if that is an output, so that most hits need not fetch the program; else `NONE`.
    pub only_output: DpPort,
    /// TCP flags seen since the flow has had its program, or-ed together.
    pub tcp_flags: u16,
}

impl Hot {
    pub fn new(memo: Arc<Memo>, stamp: Revision, now: Instant) -> Hot {
        Hot {
            stamp,
            last_seen: now,
            only_output: only_output(&memo.program),
            memo: Some(memo),
            chain: None,
            packets_credited: 0,
            bytes_credited: 0,
            packets: 0,
            bytes: 0,
            tcp_flags: 0,
        }
    }

    #[inline]
    pub fn count(&mut self, bytes: u32, tcp_flags: u16, now: Instant) {
        let (sum, too_many) = self.bytes.overflowing_add(bytes);
        if too_many {
            self.fold();
            self.bytes = bytes;
        } else {
            self.bytes = sum;
        }
        // Every frame has bytes, so those are too many first.
        self.packets = self.packets.wrapping_add(1);
        self.last_seen = now;
        self.tcp_flags |= tcp_flags;
    }

    /// Frames since the flow was first cached.
    pub fn packets(&self) -> u64 {
        self.packets_credited + u64::from(self.packets)
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes_credited + u64::from(self.bytes)
    }

    /// Whether there is something to be credited.
    #[inline]
    pub fn has_counted(&self) -> bool {
        self.packets > 0
    }

    /// Credits what has been counted since the last time.
    pub fn fold(&mut self) {
        if self.packets == 0 {
            return;
        }
        let (packets, bytes) = (u64::from(self.packets), u64::from(self.bytes));
        for credit in self.memo.iter().flat_map(|memo| &memo.credits) {
            credit.credit(packets, bytes, self.last_seen, self.tcp_flags);
        }
        self.packets_credited += packets;
        self.bytes_credited += bytes;
        (self.packets, self.bytes) = (0, 0);
    }

    /// Takes another program; what was counted is credited to those of the old one.
    pub fn replace(&mut self, memo: Arc<Memo>, stamp: Revision) {
        self.fold();
        self.stamp = stamp;
        self.only_output = only_output(&memo.program);
        self.memo = Some(memo);
        self.tcp_flags = 0;
    }

    /// Whether the flow has this very translation.
    pub fn has(&self, memo: &Arc<Memo>) -> bool {
        self.memo.as_ref().is_some_and(|own| Arc::ptr_eq(own, memo))
    }
}

/// A translation that is to be cached.
pub(crate) struct NewFlow {
    pub memo: Arc<Memo>,
    /// The revision read before the translation began.
    pub stamp: Revision,
}

/// The output port of a program that does nothing else.
pub(super) fn only_output(program: &Program) -> DpPort {
    match &*program.actions {
        [DpAction::Output(port)] => *port,
        _ => DpPort::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slowpath::{Credit, Deps};
    use std::sync::Mutex;

    #[test]
    fn a_flow_is_two_lines_and_a_hit_writes_one() {
        assert_eq!((size_of::<Flow>(), size_of::<Hot>()), (128, 64));
        assert_eq!(std::mem::offset_of!(Flow, hot), 64);
    }

    #[derive(Default)]
    struct Tally(Mutex<Vec<(u64, u64, u16)>>);

    impl Credit for Tally {
        fn credit(&self, packets: u64, bytes: u64, _: Instant, tcp_flags: u16) {
            self.0.lock().unwrap().push((packets, bytes, tcp_flags));
        }
    }

    fn memo(tally: &Arc<Tally>) -> Arc<Memo> {
        let tally: Arc<dyn Credit> = tally.clone();
        Arc::new(Memo { program: Program::default(), deps: Deps::default(), credits: Box::new([tally]) })
    }

    /// More bytes than the room for them between two folds: none is lost.
    #[test]
    fn counts_that_do_not_fit_are_credited_at_once() {
        let tally = Arc::new(Tally::default());
        let mut hot = Hot::new(memo(&tally), Revision(0), Instant::ZERO);
        let big = u32::MAX / 2;
        for _ in 0..5 {
            hot.count(big, 0, Instant::ZERO);
        }
        hot.count(3, 0, Instant::ZERO);
        assert_eq!((hot.packets(), hot.bytes()), (6, 5 * u64::from(big) + 3));
        hot.fold();
        let (packets, bytes) = tally.0.lock().unwrap().iter().fold((0, 0), |(p, b), c| (p + c.0, b + c.1));
        assert_eq!((packets, bytes), (6, 5 * u64::from(big) + 3));
        assert_eq!((hot.packets(), hot.bytes()), (packets, bytes));
    }

    /// A FIN that an old rule saw is not the new rule's, which would time out by it (`fin_timeout`).
    #[test]
    fn a_new_program_begins_without_flags() {
        let (old, new) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let mut hot = Hot::new(memo(&old), Revision(0), Instant::ZERO);
        hot.count(60, 0x01, Instant::ZERO);
        hot.replace(memo(&new), Revision(1));
        hot.count(70, 0x10, Instant::ZERO);
        hot.fold();
        assert_eq!(*old.0.lock().unwrap(), [(1, 60, 0x01)]);
        assert_eq!(*new.0.lock().unwrap(), [(1, 70, 0x10)]);
        assert_eq!((hot.packets(), hot.bytes()), (2, 130));
    }
}
