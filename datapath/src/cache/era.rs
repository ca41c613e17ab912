//! Numbers that never go back, kept in 32 bits: revisions and milliseconds, of which every cached flow has one each.
//!
//! What such a number was short for is known within an era: two spans of 2³¹, that of the newest number and the one before. When
//! the next span begins, the cache walks over its flows once and raises to the era's beginning what lies before it. So a
//! short number is never taken for one that is 2³² later, however long a flow was not looked at: a stamp that was raised is
//! none that the present revision can have, and a time that was raised is still more than three weeks ago.

use crate::slowpath::Revision;
use base::Instant;
use std::time::Duration;

/// Bits of a number within its span.
const SPAN_BITS: u32 = 31;

/// How long a time that is no longer known is ago at least.
pub(crate) const SPAN: Duration = Duration::from_millis(1 << SPAN_BITS);

/// The spans that numbers can lie in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Era {
    /// The newer one.
    span: u64,
}

impl Era {
    /// The era in which a number is the newest.
    const fn of(newest: u64) -> Era {
        Era { span: newest >> SPAN_BITS }
    }

    /// The first number of the era.
    const fn beginning(self) -> u64 {
        self.span.saturating_sub(1) << SPAN_BITS
    }

    /// The low half of a number; of the era's beginning if it lies outside.
    #[inline]
    fn shorten(self, number: u64) -> u32 {
        let in_era = number >= self.beginning() && number >> SPAN_BITS <= self.span;
        (if in_era { number } else { self.beginning() }) as u32
    }

    /// The number of the era with this low half.
    #[inline]
    fn restore(self, low: u32) -> u64 {
        let is_newer = u64::from(low >> SPAN_BITS) == self.span & 1;
        let span = if is_newer { self.span } else { self.span.saturating_sub(1) };
        span << SPAN_BITS | u64::from(low) & ((1 << SPAN_BITS) - 1)
    }
}

/// The low half of a [`Revision`]: two of one era are the same if the revisions are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Stamp(u32);

/// The low half of the milliseconds since the clock's origin.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Millis(u32);

/// What stamps and times of cached flows are short for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Eras {
    stamps: Era,
    times: Era,
}

impl Eras {
    /// The eras in which these are the newest.
    pub fn of(revision: Revision, now: Instant) -> Eras {
        Eras { stamps: Era::of(revision.0), times: Era::of(now.as_millis()) }
    }

    /// The later one of each.
    pub fn later(self, other: Eras) -> Eras {
        let later = |a: Era, b: Era| Era { span: a.span.max(b.span) };
        Eras { stamps: later(self.stamps, other.stamps), times: later(self.times, other.times) }
    }

    /// A revision as a stamp. One from outside the era gets a stamp that no revision has that is still to come.
    #[inline]
    pub fn stamp(self, revision: Revision) -> Stamp {
        Stamp(self.stamps.shorten(revision.0))
    }

    /// The revision of a stamp.
    pub fn revision(self, stamp: Stamp) -> Revision {
        Revision(self.stamps.restore(stamp.0))
    }

    /// A point in time, rounded down.
    #[inline]
    pub fn millis(self, time: Instant) -> Millis {
        Millis(self.times.shorten(time.as_millis()))
    }

    /// When that was.
    pub fn instant(self, time: Millis) -> Instant {
        Instant::from_millis(self.times.restore(time.0))
    }

    /// The same stamp in a later era, or that era's earliest.
    pub fn carry_stamp(self, stamp: Stamp, later: Eras) -> Stamp {
        Stamp(later.stamps.shorten(self.stamps.restore(stamp.0)))
    }

    /// The same time in a later era, or that era's earliest.
    pub fn carry_time(self, time: Millis, later: Eras) -> Millis {
        Millis(later.times.shorten(self.times.restore(time.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers around the ends of the first spans, and any.
    fn numbers() -> impl Strategy<Value = u64> {
        let near = (0..6u64, -3..3i64).prop_map(|(span, off)| (span << SPAN_BITS).saturating_add_signed(off));
        prop_oneof![near, 0..6u64 << SPAN_BITS, any::<u64>()]
    }

    proptest! {
        /// A number is what it was while its era lasts, and that era's beginning, which is no newest number, afterwards.
        #[test]
        fn numbers_are_restored_or_raised(mut newest in prop::collection::vec(numbers(), 2..6)) {
            newest.sort_unstable();
            for (i, number) in newest.iter().enumerate() {
                let mut era = Era::of(*number);
                let mut low = era.shorten(*number);
                prop_assert_eq!(era.restore(low), *number);
                for later in newest.iter().skip(i + 1) {
                    let next = Era::of(*later);
                    low = next.shorten(era.restore(low));
                    era = next;
                    prop_assert_eq!(era.restore(low), (*number).max(era.beginning()));
                    prop_assert_eq!(low == era.shorten(*later), *number == *later, "{} at {}", number, later);
                }
            }
        }

        /// What is raised is at least a span old.
        #[test]
        fn what_is_raised_is_old(number in numbers(), later in numbers()) {
            let (number, later) = (number.min(later), number.max(later));
            let restored = Era::of(later).restore(Era::of(later).shorten(number));
            prop_assert!(restored == number || later - restored >= 1 << SPAN_BITS);
        }
    }

    /// A revision read later than the era began is not taken for one of it.
    #[test]
    fn a_revision_beyond_the_era_is_not_stamped() {
        let eras = Eras::of(Revision(5 << SPAN_BITS), Instant::ZERO);
        for beyond in [6u64 << SPAN_BITS, (7 << SPAN_BITS) + 3, u64::MAX] {
            let stamp = eras.stamp(Revision(beyond));
            assert!(eras.revision(stamp) < Revision(5 << SPAN_BITS));
            let later = eras.later(Eras::of(Revision(beyond), Instant::ZERO));
            assert!(later.revision(eras.carry_stamp(stamp, later)) < Revision(beyond));
        }
    }

    #[test]
    fn eras_do_not_go_back() {
        let (early, late) = (Instant::from_secs(1), Instant::from_secs(100 * 86_400));
        let eras = Eras::of(Revision(7 << SPAN_BITS), early).later(Eras::of(Revision(1), late));
        assert_eq!(eras, Eras::of(Revision(7 << SPAN_BITS), late));
        assert_eq!(eras.instant(eras.millis(late)), late);
    }
}
