//! A hashed timing wheel that is visited rather than kept exact (Varghese and Lauck 1987, scheme 5, made lazy).
//!
//! An item that is used again is not moved: its owner only notes when that was. The wheel hands an item out when the time
//! that it was set to has come, and its owner says whether it stays and when to ask next. So a hit costs nothing here, an
//! item costs one visit per period, and no moment's work depends on how many items there are. Times further away than the
//! wheel reaches are visited early, and put off again.
//!
//! Not here: removal of an item ahead of its time (its owner lets go of what it holds at the next visit).

use crate::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Slots of a wheel; one bit each in a word.
pub const WHEEL_SLOTS: usize = 64;

/// Items by the time at which they want to be visited next.
#[derive(Debug)]
pub struct TimingWheel<T> {
    slots: [Vec<T>; WHEEL_SLOTS],
    /// One bit for each slot that holds items.
    occupied: u64,
    /// Items that are due and have not been visited yet, because the visitor's limit was reached.
    due: VecDeque<T>,
    tick_nanos: u64,
    /// Number of the last tick whose slot was emptied.
    now_tick: u64,
    len: usize,
}

impl<T> TimingWheel<T> {
    /// An empty wheel. `tick` is the time a slot stands for, at least a nanosecond: the reach is [`WHEEL_SLOTS`] - 1 ticks,
    /// and visits come at most one tick after their time. `now` only saves turning the wheel from the origin of the clock.
    pub fn new(tick: Duration, now: Instant) -> TimingWheel<T> {
        let tick_nanos = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX).max(1);
        TimingWheel {
            slots: [const { Vec::new() }; WHEEL_SLOTS],
            occupied: 0,
            due: VecDeque::new(),
            tick_nanos,
            now_tick: now.as_nanos() / tick_nanos,
            len: 0,
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item to be visited at `at`, or as far ahead of `now` as the wheel reaches.
    pub fn insert(&mut self, now: Instant, at: Instant, item: T) {
        // What is due moves aside first, or a wheel that nobody turned for long would not reach as far.
        self.collect(now);
        self.put(at, item);
    }

    fn put(&mut self, at: Instant, item: T) {
        // The first tick that begins at or after the time, so that no item is found before its time by rounding alone.
        let tick = at.as_nanos().div_ceil(self.tick_nanos);
        let ahead = tick.saturating_sub(self.now_tick).clamp(1, WHEEL_SLOTS as u64 - 1);
        let slot = Self::slot_of(self.now_tick + ahead);
        if let Some(items) = self.slots.get_mut(slot) {
            items.push(item);
            self.occupied |= 1 << slot;
            self.len += 1;
        }
    }

    /// Visits what is due at `now`, at most `limit` items: `visit` takes the item and gives it back with the time of its
    /// next visit, or keeps it. Returns the number of visits; what was over the limit comes first next time.
    pub fn advance(
        &mut self,
        now: Instant,
        limit: usize,
        mut visit: impl FnMut(T) -> Option<(Instant, T)>,
    ) -> usize {
        self.collect(now);
        let visits = self.due.len().min(limit);
        for _ in 0..visits {
            let Some(item) = self.due.pop_front() else { break };
            self.len -= 1;
            if let Some((at, item)) = visit(item) {
                self.put(at, item);
            }
        }
        if self.due.is_empty() && self.due.capacity() > DUE_KEPT_MAX {
            self.due = VecDeque::new();
        }
        visits
    }

    /// When [`advance`](Self::advance) has something to do: a time that has come already if items wait.
    pub fn next_visit(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.tick_start(self.now_tick));
        }
        if self.occupied == 0 {
            return None;
        }
        // Bit 0 of the turned word is the slot after the current one.
        let turned = self.occupied.rotate_right(Self::slot_of(self.now_tick + 1) as u32);
        Some(self.tick_start(self.now_tick + 1 + u64::from(turned.trailing_zeros())))
    }

    /// Moves the items of all slots up to `now` to `due`, whole slots at a time.
    fn collect(&mut self, now: Instant) {
        let tick = now.as_nanos() / self.tick_nanos;
        let turns = tick.saturating_sub(self.now_tick).min(WHEEL_SLOTS as u64);
        for step in 1..=turns {
            let slot = Self::slot_of(self.now_tick + step);
            if self.occupied & 1 << slot != 0
                && let Some(items) = self.slots.get_mut(slot)
            {
                self.due.extend(std::mem::take(items));
                self.occupied &= !(1 << slot);
            }
        }
        self.now_tick = self.now_tick.max(tick);
    }

    fn tick_start(&self, tick: u64) -> Instant {
        Instant::from_nanos(tick.saturating_mul(self.tick_nanos))
    }

    const fn slot_of(tick: u64) -> usize {
        (tick % WHEEL_SLOTS as u64) as usize
    }
}

/// Room for waiting items that is kept when none waits.
const DUE_KEPT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(1);

    /// A small generator, so that the test needs no dependency.
    struct Lcg(u64);
    impl Lcg {
        fn next(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// Against a sorted list: every item ends between its time and one tick after, none is lost, none ends twice.
    #[test]
    fn ends_what_a_sorted_list_ends() {
        for seed in 0..40 {
            let mut random = Lcg(seed);
            let mut now = Instant::from_millis(random.next(100_000));
            let mut wheel = TimingWheel::new(TICK, now);
            let mut list: Vec<(Instant, u64)> = Vec::new();
            for id in 0..400u64 {
                let at = now + Duration::from_millis(random.next(200_000));
                wheel.insert(now, at, (at, id));
                list.push((at, id));
                if random.next(3) == 0 {
                    now += Duration::from_millis(random.next(20_000));
                    check(&mut wheel, &mut list, now);
                }
            }
            while !list.is_empty() {
                now = wheel.next_visit().expect("items remain").max(now);
                check(&mut wheel, &mut list, now);
            }
            assert!(wheel.is_empty());
            assert_eq!(wheel.next_visit(), None);
        }
    }

    fn check(wheel: &mut TimingWheel<(Instant, u64)>, list: &mut Vec<(Instant, u64)>, now: Instant) {
        let mut ended = Vec::new();
        wheel.advance(now, usize::MAX, |(at, id)| {
            if at > now {
                return Some((at, (at, id)));
            }
            ended.push((at, id));
            None
        });
        list.sort_unstable();
        ended.sort_unstable();
        for item in &ended {
            let place = list.binary_search(item).expect("known, and not ended before");
            list.remove(place);
        }
        assert!(list.iter().all(|(at, _)| *at + TICK > now), "left: {list:?} at {now:?}");
        assert_eq!(wheel.len(), list.len());
    }

    #[test]
    fn work_is_limited_and_resumed() {
        let mut wheel = TimingWheel::new(TICK, Instant::ZERO);
        for id in 0..10 {
            wheel.insert(Instant::ZERO, Instant::from_secs(3), id);
        }
        assert_eq!(wheel.next_visit(), Some(Instant::from_secs(3)));
        let mut seen = Vec::new();
        let now = Instant::from_secs(4);
        assert_eq!(
            wheel.advance(now, 4, |id| {
                seen.push(id);
                None
            }),
            4
        );
        assert!(wheel.next_visit().is_some_and(|at| at <= now), "six wait");
        assert_eq!(
            wheel.advance(now, 100, |id| {
                seen.push(id);
                None
            }),
            6
        );
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert_eq!((wheel.len(), wheel.next_visit()), (0, None));
    }

    /// However long nobody turned the wheel, a time within its reach is kept to.
    #[test]
    fn an_item_added_after_a_pause_is_not_visited_early() {
        let mut wheel = TimingWheel::new(TICK, Instant::ZERO);
        wheel.insert(Instant::ZERO, Instant::from_secs(5), "old");
        let now = Instant::from_secs(1_000);
        wheel.insert(now, now + Duration::from_secs(60), "new");
        let mut seen = Vec::new();
        wheel.advance(now + Duration::from_secs(59), 9, |item| {
            seen.push(item);
            None
        });
        assert_eq!(seen, ["old"]);
        assert_eq!(wheel.next_visit(), Some(now + Duration::from_secs(60)));
    }

    #[test]
    fn a_long_pause_and_a_clock_that_stands_still() {
        let mut wheel = TimingWheel::new(TICK, Instant::ZERO);
        wheel.insert(Instant::ZERO, Instant::from_secs(1_000), "far");
        wheel.insert(Instant::ZERO, Instant::ZERO, "past");
        assert_eq!(wheel.advance(Instant::ZERO, 9, |_| None), 0, "not before the next tick");
        let mut seen = Vec::new();
        let visits = wheel.advance(Instant::from_secs(1_000_000), 9, |item| {
            seen.push(item);
            None
        });
        seen.sort_unstable();
        assert_eq!((visits, seen), (2, vec!["far", "past"]));
    }
}
