//! One connection: its two names, and everything about it that changes, in atomics. Established traffic touches nothing
//! else, so two workers may carry one direction each without a lock.
//!
//! Who writes what: a word of [`ends`](Connection::ends) and [`windows`](Connection::windows) belongs to the direction that
//! sends, and a direction is one worker's at a time; `state` is changed by compare-and-swap; mark and label by whoever runs
//! a `ct()` with `exec`, one at a time (an odd revision says that one is at it). Lost updates of windows would only make
//! them narrower for a moment.

use super::config::TimeoutKind;
use super::names::Names;
use super::shift::Shift;
use super::spec::{Alg, TimeoutPolicyId};
use super::tcp::TcpState;
use super::tuple::{Direction, Tuple, Zone};
use base::Instant;
use once_cell::race::OnceBox;
use packet::DpPort;
use packet::wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Coarse time as connections keep it: units of 2^24 ns (16.8 ms), wrapping after 2.2 years.
const TICK_SHIFT: u32 = 24;

/// The coarse time of an instant.
#[inline]
pub(super) const fn coarse(at: Instant) -> u32 {
    (at.as_nanos() >> TICK_SHIFT) as u32
}

/// The most coarse time that is no longer than `time`.
pub(super) fn coarse_span(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_nanos() >> TICK_SHIFT).unwrap_or(u32::MAX)
}

/// Flags and protocol state of a connection, one word.
///
/// Bits 0 to 3 and 4 to 7 are the TCP states of the original and the replying end; for other protocols bits 0 to 3 say
/// whether one, several, or packets of both directions were seen. The rest never changes: from bit 16 on the timeout policy, from bit
/// 32 on the port that the connection counts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State(pub u64);

impl State {
    /// Removed from the table, or about to be.
    pub const DEAD: u64 = 1 << 8;
    /// A packet of the reply direction was seen.
    pub const REPLIED: u64 = 1 << 9;
    /// Translates sources of the original direction.
    pub const SNAT: u64 = 1 << 10;
    /// Translates destinations of the original direction.
    pub const DNAT: u64 = 1 << 11;
    /// The reply tuple is not the reverse of the original one.
    pub const TRANSLATED: u64 = 1 << 12;
    /// Foreseen by a gateway.
    pub const RELATED: u64 = 1 << 13;
    /// Counts as embryonic for its ingress port.
    pub const EMBRYONIC: u64 = 1 << 14;
    /// A gateway reads it.
    pub const ALG: u64 = 1 << 15;

    const POLICY_SHIFT: u32 = 16;
    const ORIGIN_SHIFT: u32 = 32;

    /// What a new connection begins with. A policy beyond [`TimeoutPolicyId::MAX`] is none.
    const fn first(flags: u64, policy: Option<TimeoutPolicyId>, origin: DpPort) -> State {
        let policy = match policy {
            Some(TimeoutPolicyId(id)) if id <= TimeoutPolicyId::MAX.0 => id as u64 + 1,
            _ => 0,
        };
        State(
            flags & u16::MAX as u64 | policy << Self::POLICY_SHIFT | (origin.0 as u64) << Self::ORIGIN_SHIFT,
        )
    }

    const fn policy(self) -> Option<TimeoutPolicyId> {
        match (self.0 >> Self::POLICY_SHIFT) as u16 {
            0 => None,
            id => Some(TimeoutPolicyId(id as u32 - 1)),
        }
    }

    const fn origin(self) -> DpPort {
        DpPort((self.0 >> Self::ORIGIN_SHIFT) as u32)
    }

    #[inline]
    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// TCP state of the end that sends in `direction`.
    #[inline]
    pub const fn tcp(self, direction: Direction) -> TcpState {
        TcpState::from_bits((self.0 >> Self::tcp_shift(direction)) as u8)
    }

    #[inline]
    #[must_use]
    pub const fn with_tcp(self, direction: Direction, state: TcpState) -> State {
        let shift = Self::tcp_shift(direction);
        State(self.0 & !(0xf << shift) | (state as u64) << shift)
    }

    const fn tcp_shift(direction: Direction) -> u32 {
        match direction {
            Direction::Original => 0,
            Direction::Reply => 4,
        }
    }

    /// The flags that the class of a connection's packets, or what may become of them, depends on.
    #[inline]
    pub const fn class_flags(self) -> u16 {
        (self.0
            & (Self::DEAD
                | Self::REPLIED
                | Self::SNAT
                | Self::DNAT
                | Self::TRANSLATED
                | Self::RELATED
                | Self::ALG)) as u16
    }

    /// Whether both ends of TCP are established.
    #[inline]
    pub const fn is_tcp_established(self) -> bool {
        const BOTH: State = State(0)
            .with_tcp(Direction::Original, TcpState::Established)
            .with_tcp(Direction::Reply, TcpState::Established);
        self.0 & 0xff == BOTH.0
    }

    /// How much was seen of a connection without TCP.
    #[inline]
    pub const fn seen(self) -> u64 {
        self.0 & 0xf
    }

    #[inline]
    #[must_use]
    pub const fn with_seen(self, seen: u64) -> State {
        State(self.0 & !0xf | seen)
    }
}

/// One packet was seen.
pub(super) const SEEN_FIRST: u64 = 0;
/// Several were seen in the original direction.
pub(super) const SEEN_SEVERAL: u64 = 1;
/// Packets were seen in both directions.
pub(super) const SEEN_BOTH: u64 = 2;

/// What few connections have, kept apart so that the many are small.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// The label, high and low half.
    pub label: [AtomicU64; 2],
    /// The gateway that reads this connection.
    pub alg: Option<Alg>,
    /// Original tuple of the control connection that foresaw this one.
    pub parent: Option<Tuple>,
    /// How far a gateway shifted the sequence numbers of the original and the reply direction.
    pub shifts: Mutex<[Shift; 2]>,
}

/// A committed connection.
///
/// In this order, so that a packet that is known touches as few cache lines as can be: allocators align to 16 bytes, before
/// which an `Arc` has 16 of its own, so the first 16 bytes are in one line (all that UDP needs) and the first 40 in two at
/// most (all that TCP needs).
#[derive(Debug)]
#[repr(C)]
pub struct Connection {
    pub(super) state: AtomicU64,
    last_seen: AtomicU32,
    revision: AtomicU32,
    /// For each direction the end of what its sender has sent (high half), and up to where the other end may send (low
    /// half), as this sender's acknowledgements and window say.
    pub(super) ends: [AtomicU64; 2],
    /// For each direction the largest window its sender announced, unscaled, and its scale; see `tcp`.
    pub(super) windows: [AtomicU32; 2],
    /// When the wheel is to visit, coarse. An entry of the wheel that comes earlier is out of date.
    armed: AtomicU32,
    mark: AtomicU32,
    pub(super) names: Names,
    extra: OnceBox<Extra>,
}

/// What a new connection is made of.
pub(super) struct Birth {
    pub original: Tuple,
    pub reply: Tuple,
    /// Flags, and the state of its protocol.
    pub state: u64,
    pub origin: DpPort,
    pub policy: Option<TimeoutPolicyId>,
    /// Even, and not used by another connection.
    pub revision: u32,
    pub extra: Option<Extra>,
    pub now: Instant,
}

impl Connection {
    pub(super) fn new(birth: Birth) -> Connection {
        let extra = OnceBox::new();
        if let Some(value) = birth.extra {
            // A fresh cell is empty.
            let _ = extra.set(Box::new(value));
        }
        Connection {
            names: Names::new(&birth.original, &birth.reply),
            state: AtomicU64::new(State::first(birth.state, birth.policy, birth.origin).0),
            ends: [AtomicU64::new(0), AtomicU64::new(0)],
            windows: [AtomicU32::new(0), AtomicU32::new(0)],
            last_seen: AtomicU32::new(coarse(birth.now)),
            armed: AtomicU32::new(0),
            mark: AtomicU32::new(0),
            revision: AtomicU32::new(birth.revision),
            extra,
        }
    }

    /// The name of the original direction.
    #[inline]
    pub fn original(&self) -> Tuple {
        self.names.of(Direction::Original)
    }

    /// The name of the reply direction: what the other end sends, before it is translated back.
    #[inline]
    pub fn reply(&self) -> Tuple {
        self.names.of(Direction::Reply)
    }

    /// The name of a direction.
    #[inline]
    pub(super) fn tuple(&self, direction: Direction) -> Tuple {
        self.names.of(direction)
    }

    /// The last of what TCP's established packets touch.
    #[inline]
    pub(crate) fn windows(&self) -> &[AtomicU32; 2] {
        &self.windows
    }

    /// The zone.
    #[inline]
    pub fn zone(&self) -> Zone {
        self.original().zone()
    }

    /// Whether the connection was removed: it is never found again.
    #[inline]
    pub fn is_dead(&self) -> bool {
        self.load().has(State::DEAD)
    }

    /// The port that the packet came in on which made the connection.
    pub fn origin(&self) -> DpPort {
        State(self.state.load(Ordering::Relaxed)).origin()
    }

    /// The mark.
    #[inline]
    pub fn mark(&self) -> u32 {
        self.mark.load(Ordering::Acquire)
    }

    /// The label.
    pub fn label(&self) -> u128 {
        let Some(extra) = self.extra.get() else { return 0 };
        let [high, low] = &extra.label;
        loop {
            // The halves belong together if no writer was at work before or between.
            let before = self.revision.load(Ordering::Acquire);
            let label =
                u128::from(high.load(Ordering::Acquire)) << 64 | u128::from(low.load(Ordering::Acquire));
            if before & 1 == 0 && self.revision.load(Ordering::Acquire) == before {
                return label;
            }
            std::hint::spin_loop();
        }
    }

    #[inline]
    pub(super) fn load(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// Changes the state to what `change` makes of it; `None` if it makes nothing of it. Returns old and new.
    #[inline]
    pub(super) fn change(&self, mut change: impl FnMut(State) -> Option<State>) -> Option<(State, State)> {
        let mut old = self.state.load(Ordering::Acquire);
        loop {
            let new = change(State(old))?;
            if new.0 == old {
                return Some((new, new));
            }
            match self.state.compare_exchange_weak(old, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((State(old), new)),
                Err(now) => old = now,
            }
        }
    }

    /// Sets a flag; false if it was set already.
    pub(super) fn set_flag(&self, flag: u64) -> bool {
        self.state.fetch_or(flag, Ordering::AcqRel) & flag == 0
    }

    /// Clears a flag; false if it was not set.
    pub(super) fn clear_flag(&self, flag: u64) -> bool {
        self.state.fetch_and(!flag, Ordering::AcqRel) & flag != 0
    }

    /// The revision that mark and label were last changed in.
    #[inline]
    pub(super) fn revision(&self) -> u32 {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) fn extra(&self) -> Option<&Extra> {
        self.extra.get()
    }

    pub(super) fn policy(&self) -> Option<TimeoutPolicyId> {
        self.load().policy()
    }

    /// Writes the bits of the masks; `revision` gives a new even revision if anything changes.
    pub(super) fn set_metadata(
        &self,
        mark: Option<(u32, u32)>,
        label: Option<(u128, u128)>,
        revision: impl FnOnce() -> u32,
    ) {
        if !self.would_change(mark, label) {
            return;
        }
        if label.is_some_and(|(value, mask)| value & mask != 0) {
            self.extra.get_or_init(Box::default);
        }
        self.lock_metadata();
        // Read only now, as another writer may have changed the other bits.
        if let Some((value, mask)) = mark {
            self.mark.store(self.mark() & !mask | value & mask, Ordering::Release);
        }
        if let (Some((value, mask)), Some(extra)) = (label, self.extra.get()) {
            let [high, low] = &extra.label;
            let write = |half: &AtomicU64, value: u64, mask: u64| {
                half.store(half.load(Ordering::Acquire) & !mask | value & mask, Ordering::Release);
            };
            write(high, (value >> 64) as u64, (mask >> 64) as u64);
            write(low, value as u64, mask as u64);
        }
        self.revision.store(revision() & !1, Ordering::Release);
    }

    /// Whether [`set_metadata`](Self::set_metadata) would change anything.
    #[inline]
    pub(super) fn would_change(&self, mark: Option<(u32, u32)>, label: Option<(u128, u128)>) -> bool {
        mark.is_some_and(|(value, mask)| (self.mark() ^ value) & mask != 0)
            || label.is_some_and(|(value, mask)| (self.label() ^ value) & mask != 0)
    }

    /// Makes the revision odd. The other writer that this may wait for has two stores to do.
    fn lock_metadata(&self) {
        let mut old = self.revision.load(Ordering::Acquire) & !1;
        while let Err(now) =
            self.revision.compare_exchange_weak(old, old | 1, Ordering::AcqRel, Ordering::Acquire)
        {
            old = now & !1;
            std::hint::spin_loop();
        }
    }

    /// Notes that a packet was seen; a store only if time has moved on, so that the line stays shared.
    #[inline]
    pub(super) fn touch(&self, now: Instant) {
        let now = coarse(now);
        if self.last_seen.load(Ordering::Relaxed) != now {
            self.last_seen.store(now, Ordering::Relaxed);
        }
    }

    /// What the connection waits for.
    #[inline]
    pub(super) fn timeout_kind(&self) -> TimeoutKind {
        let state = self.load();
        match self.names.protocol() {
            PROTO_TCP => super::tcp::timeout_kind(state),
            PROTO_ICMP | PROTO_ICMPV6 if state.seen() == SEEN_BOTH => TimeoutKind::IcmpReply,
            PROTO_ICMP | PROTO_ICMPV6 => TimeoutKind::IcmpFirst,
            _ => match state.seen() {
                SEEN_FIRST => TimeoutKind::UdpFirst,
                SEEN_SEVERAL => TimeoutKind::UdpSingle,
                _ => TimeoutKind::UdpMultiple,
            },
        }
    }

    /// Coarse time since the last packet.
    #[inline]
    pub(super) fn idle(&self, now: Instant) -> u32 {
        // The difference is right across a wrap; a packet seen by another worker a moment later counts as now.
        (coarse(now).wrapping_sub(self.last_seen.load(Ordering::Relaxed)) as i32).max(0) as u32
    }

    /// Time left at `now` before a connection that waits `timeout` from its last packet on ends; zero when it has ended.
    #[inline]
    pub(super) fn remaining(&self, timeout: std::time::Duration, now: Instant) -> std::time::Duration {
        let idle = std::time::Duration::from_nanos(u64::from(self.idle(now)) << TICK_SHIFT);
        timeout.saturating_sub(idle)
    }

    /// Sets when the wheel is to visit.
    pub(super) fn arm(&self, at: Instant) {
        self.armed.store(coarse(at), Ordering::Relaxed);
    }

    /// By how much `at` is earlier than the visit that the wheel is set to, in coarse units; negative if later.
    pub(super) fn armed_after(&self, at: Instant) -> i32 {
        self.armed.load(Ordering::Relaxed).wrapping_sub(coarse(at)) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the two counters of an `Arc` and the 8 bytes of the allocator, which gives multiples of 16, 128 bytes.
    #[test]
    fn stays_small() {
        assert!(size_of::<Connection>() <= 104, "{}", size_of::<Connection>());
    }

    #[test]
    fn what_never_changes_shares_a_word_with_the_state() {
        let most = TimeoutPolicyId::MAX;
        for policy in [None, Some(TimeoutPolicyId(0)), Some(most)] {
            for origin in [DpPort(0), DpPort(u32::MAX)] {
                for flags in [0, u64::from(u16::MAX)] {
                    let state = State::first(flags, policy, origin);
                    assert_eq!((state.policy(), state.origin()), (policy, origin));
                    assert_eq!(state.has(State::DEAD), flags != 0);
                    let moved = state.with_seen(SEEN_BOTH).with_tcp(Direction::Reply, TcpState::Established);
                    assert_eq!((moved.policy(), moved.origin()), (policy, origin));
                }
            }
        }
        assert_eq!(State::first(0, Some(TimeoutPolicyId(most.0 + 1)), DpPort(1)).policy(), None);
    }

    #[test]
    fn what_established_packets_touch_stands_first() {
        use std::mem::offset_of;
        assert_eq!(offset_of!(Connection, state), 0);
        assert!(offset_of!(Connection, last_seen) < 16 && offset_of!(Connection, revision) < 16);
        assert_eq!((offset_of!(Connection, ends), offset_of!(Connection, windows)), (16, 32));
    }
}
