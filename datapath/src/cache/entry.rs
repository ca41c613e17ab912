//! One cached flow: the line that every hit touches, and the rest.

use super::Chain;
use super::PortShare;
use crate::action::{DpAction, Program};
use crate::slowpath::{Credit, Deps, Revision};
use base::Instant;
use packet::DpPort;
use std::sync::Arc;

/// What a hit reads and writes: one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Hot {
    /// Revision at which the program is known to be right.
    pub stamp: Revision,
    /// Frames since the flow was first cached.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last of them came.
    pub last_seen: Instant,
    /// The program; `None` in a free slot only.
    pub program: Option<Arc<Program>>,
    /// The program's only step if that is an output, so that most hits need not fetch the program; else `NONE`.
    pub only_output: DpPort,
    /// TCP flags seen, or-ed together.
    pub tcp_flags: u16,
    /// What the program leads to while the connections that its frames belong to stay as they are.
    pub chain: Option<Box<Chain>>,
}

impl Hot {
    pub fn count(&mut self, bytes: u64, tcp_flags: u16, now: Instant) {
        self.packets += 1;
        self.bytes += bytes;
        self.last_seen = now;
        self.tcp_flags |= tcp_flags;
    }
}

/// What only misses, sweeps and dumps look at.
pub(crate) struct Cold {
    pub deps: Deps,
    pub credits: Box<[Arc<dyn Credit>]>,
    /// How much of `Hot::packets` has been credited.
    pub credited_packets: u64,
    /// How much of `Hot::bytes` has been credited.
    pub credited_bytes: u64,
    pub created: Instant,
    /// Whose share of the cache the flow is counted in.
    pub share: PortShare,
    /// Where in the share's list the flow stands.
    pub share_position: u32,
}

/// A translation that is to be cached.
pub(crate) struct NewFlow {
    pub program: Arc<Program>,
    pub deps: Deps,
    pub credits: Box<[Arc<dyn Credit>]>,
    /// The revision read before the translation began.
    pub stamp: Revision,
}

/// The output port of a program that does nothing else.
pub(crate) fn only_output(program: &Program) -> DpPort {
    match &*program.actions {
        [DpAction::Output(port)] => *port,
        _ => DpPort::NONE,
    }
}

/// Credits what has been counted since the last time.
pub(crate) fn fold(hot: &Hot, cold: &mut Cold) {
    let packets = hot.packets - cold.credited_packets;
    if packets == 0 {
        return;
    }
    let bytes = hot.bytes - cold.credited_bytes;
    for credit in &cold.credits {
        credit.credit(packets, bytes, hot.last_seen, hot.tcp_flags);
    }
    cold.credited_packets = hot.packets;
    cold.credited_bytes = hot.bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_touches_one_line() {
        assert_eq!(size_of::<Hot>(), 64);
    }
}
