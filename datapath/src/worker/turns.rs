//! Whose turn it is. In each round every receiving side that may have something gives one batch, quiet sides before busy ones, and
//! busy ones get equal shares of the worker's work, whatever their frames make it do ([`crate::cost`]).
//!
//! **Quiet before busy.** What quiet sides sent is flushed before the busy ones have their turn, and while there is such traffic a
//! busy side's batch is short: a frame of a pod that says little then waits for a few frames of the pods that say much, and not
//! for a full batch of each to be received, and another to be sent. Answers to a busy side, such as a stream's acknowledgements,
//! shorten nothing: who waits for them is the busy side itself, which full batches serve better.
//!
//! **Shares.** In each round all busy sides earn as much as the one whose batch cost least, and pay what their own cost; a
//! side with a negative balance waits until it has earned that. So two sides that are always busy differ by the cost of a batch or
//! two, not by a rate (deficit round robin: Shreedhar and Varghese, SIGCOMM 1995). Only sides that are busy earn: one that had no
//! more to give was not kept waiting by anybody. If no side that may have its turn has frames, the ones that wait are let in,
//! those with the smallest debt first: nobody waits for nobody, and a side by itself pays nothing. Sides whose frames are dear
//! give short batches while others have frames too, so that these wait often and briefly instead of seldom and long.

use packet::Batch;

/// Frames in a turn from which on a side is busy.
const BUSY_FRAMES: usize = 16;
/// Work of a turn, in plain frames, from which on a side is busy however few they were. Not as little as that of the first packet of
/// a connection, of whoever says little.
const BUSY_WORK: u64 = 64;
/// Frames that a busy side may give in a turn while quiet sides have traffic of their own. A side that gives as many stays
/// busy, and so does one whose turn is half of [`BUSY_WORK`].
pub(super) const BUSY_BATCH: usize = 8;
/// Rounds for which quiet traffic, and that of several sides, is remembered.
const QUIET_ROUNDS: u32 = 64;
/// From so many times the price of a plain frame on, frames are dear.
const DEAR: u32 = 2;
/// Most that a side can owe, in units of [`crate::cost`]: about a millisecond of work, several batches of the dearest frames that
/// are not amplified by rules. What a batch costs beyond it is let off, so that no side waits for longer.
pub(super) const DEBT_MAX: i64 = 1 << 18;

/// How much work a receiving side had to give in its last turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Pace {
    /// Little.
    #[default]
    Quiet,
    /// Much.
    Busy,
}

/// When a receiving side has its turn in this round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Turn {
    /// Among the first.
    #[default]
    Quiet,
    /// After these.
    Busy,
    /// Not unless nobody else has anything: it owes.
    Owes,
    /// It has had it.
    Over,
}

/// What is remembered of a receiving side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub pace: Pace,
    pub turn: Turn,
    /// The price of a plain frame of it.
    frame_price: u32,
    /// What a frame cost in its last turn.
    price: u64,
    /// What it has earned and not spent.
    balance: i64,
    /// What it spent in this round.
    spent: u64,
}

impl Account {
    /// Of a side whose plain frames have this price, more than 0.
    pub fn new(frame_price: u32) -> Account {
        let frame_price = frame_price.max(1);
        let (pace, turn) = (Pace::default(), Turn::default());
        Account { pace, turn, frame_price, price: frame_price.into(), balance: 0, spent: 0 }
    }

    /// Begins a round.
    pub fn begin(&mut self) {
        self.spent = 0;
        self.turn = match self.pace {
            Pace::Quiet => Turn::Quiet,
            Pace::Busy if self.balance < 0 => Turn::Owes,
            Pace::Busy => Turn::Busy,
        };
    }

    /// The price of a plain frame of it.
    pub fn frame_price(&self) -> u32 {
        self.frame_price
    }

    /// It had its turn: so many frames that cost so much, their own price included. Returns the pace before.
    pub fn pay(&mut self, frames: usize, cost: u64) -> Pace {
        self.turn = Turn::Over;
        self.spent += cost;
        if frames > 0 {
            self.price = cost / frames as u64;
        }
        let (much, work) = match self.pace {
            Pace::Quiet => (BUSY_FRAMES, BUSY_WORK),
            Pace::Busy => (BUSY_BATCH, BUSY_WORK / 2),
        };
        let is_busy = frames >= much || cost >= work * u64::from(self.frame_price);
        std::mem::replace(&mut self.pace, if is_busy { Pace::Busy } else { Pace::Quiet })
    }
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The side that is the first of its kind in this round.
    first: usize,
    /// Rounds for which batches of busy sides are still short.
    short_rounds: u32,
    /// Rounds for which several sides are still taken to have frames.
    company_rounds: u32,
}

impl Turns {
    /// Begins a round of `count` sides, at least one: another one is first. Returns it.
    pub fn begin(&mut self, count: usize) -> usize {
        self.first = (self.first + 1) % count;
        self.first
    }

    /// The quiet sides have had their turn; says whether one of them sent to another.
    pub fn end_quiet(&mut self, is_quiet_traffic: bool) {
        self.short_rounds = if is_quiet_traffic { QUIET_ROUNDS } else { self.short_rounds.saturating_sub(1) };
    }

    /// The most frames that a busy side may give now.
    pub fn batch(&self, account: &Account) -> usize {
        if self.short_rounds > 0 {
            return BUSY_BATCH;
        }
        let dear = u64::from(DEAR * account.frame_price);
        if self.company_rounds == 0 || account.price <= dear {
            return Batch::MAX;
        }
        // As much work as a full batch of the last ones that were not dear.
        let frames = Batch::MAX as u64 * dear / account.price;
        usize::try_from(frames).unwrap_or(Batch::MAX).max(BUSY_BATCH)
    }

    /// No busy side that may have its turn had anything: lets in those that owe and may have frames, as if all had earned what the
    /// one with the smallest debt lacks. False if there are none.
    pub fn let_in<S>(
        &self,
        sides: &mut [S],
        account: impl Fn(&mut S) -> &mut Account,
        may_give: impl Fn(&S) -> bool,
    ) -> bool {
        let mut earned: Option<i64> = None;
        for side in sides.iter_mut() {
            if may_give(side) && account(side).turn == Turn::Owes {
                let debt = -account(side).balance;
                earned = Some(earned.map_or(debt, |least| least.min(debt)));
            }
        }
        let Some(earned) = earned else { return false };
        for owing in sides.iter_mut().map(&account).filter(|account| account.turn == Turn::Owes) {
            owing.balance = (owing.balance + earned).min(0);
            if owing.balance == 0 {
                owing.turn = Turn::Busy;
            }
        }
        true
    }

    /// Ends a round in which busy sides had turns.
    pub fn settle<S>(&mut self, sides: &mut [S], account: impl Fn(&mut S) -> &mut Account) {
        let (mut gave, mut least) = (0, u64::MAX);
        for side in sides.iter_mut().map(&account).filter(|account| account.spent > 0) {
            gave += 1;
            if side.pace == Pace::Busy {
                least = least.min(side.spent);
            }
        }
        self.company_rounds = if gave > 1 { QUIET_ROUNDS } else { self.company_rounds.saturating_sub(1) };
        let earned = if least == u64::MAX { 0 } else { i64::try_from(least).unwrap_or(DEBT_MAX) };
        for side in sides.iter_mut().map(account) {
            side.balance = match side.pace {
                Pace::Quiet => 0,
                Pace::Busy => {
                    let spent = i64::try_from(side.spent).unwrap_or(i64::MAX);
                    (side.balance + earned).saturating_sub(spent).clamp(-DEBT_MAX, earned)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost;
    use proptest::prelude::*;

    /// A side and what its next frames cost; how many it has and how often it was asked.
    struct Side {
        account: Account,
        prices: Vec<u32>,
        next: usize,
        waiting: usize,
        served: u64,
        frames: usize,
        longest_batch: usize,
    }

    impl Side {
        fn new(prices: &[u32], waiting: usize) -> Side {
            let account = Account::new(cost::FRAME);
            Side {
                account,
                prices: prices.to_vec(),
                next: 0,
                waiting,
                served: 0,
                frames: 0,
                longest_batch: 0,
            }
        }

        fn endless(prices: &[u32]) -> Side {
            Side::new(prices, usize::MAX)
        }

        fn give(&mut self, limit: usize) -> usize {
            let frames = limit.min(self.waiting);
            let cost = (0..frames).map(|n| u64::from(self.prices[(self.next + n) % self.prices.len()])).sum();
            (self.waiting, self.next) = (self.waiting - frames, self.next + frames);
            (self.served, self.frames) = (self.served + cost, self.frames + frames);
            self.longest_batch = self.longest_batch.max(frames);
            self.account.pay(frames, cost);
            frames
        }
    }

    /// As the worker does it.
    fn round(turns: &mut Turns, sides: &mut [Side], is_quiet_traffic: bool) -> usize {
        sides.iter_mut().for_each(|side| side.account.begin());
        let any_busy = sides.iter().any(|side| side.account.turn != Turn::Quiet);
        let take = |turns: &Turns, sides: &mut [Side], turn: Turn| -> usize {
            let own = sides.iter_mut().filter(|side| side.account.turn == turn);
            own.map(|side| {
                let limit = if turn == Turn::Quiet { Batch::MAX } else { turns.batch(&side.account) };
                side.give(limit)
            })
            .sum()
        };
        let mut frames = take(turns, sides, Turn::Quiet);
        if any_busy {
            turns.end_quiet(is_quiet_traffic);
            let mut busy = take(turns, sides, Turn::Busy);
            if busy == 0 && turns.let_in(sides, |side| &mut side.account, |side| side.waiting > 0) {
                busy = take(turns, sides, Turn::Busy);
            }
            frames += busy;
            turns.settle(sides, |side| &mut side.account);
        }
        frames
    }

    fn rounds(count: usize, turns: &mut Turns, sides: &mut [Side]) {
        for _ in 0..count {
            round(turns, sides, false);
        }
    }

    #[test]
    fn a_side_is_busy_from_many_frames_or_much_work_on_and_stays_so_under_short_batches() {
        let mut account = Account::new(cost::FRAME);
        let mut after = |(frames, price): (usize, u64)| {
            account.pay(frames, frames as u64 * price);
            account.pace == Pace::Busy
        };
        let plain = [0, 15, 16, 8, 32, 8, 7, 8, 16].map(|frames| after((frames, cost::FRAME.into())));
        assert_eq!(plain, [false, false, true, true, true, true, false, false, true]);
        // A few frames that are much work.
        let dear = [(0, 0), (1, 170), (4, 159), (4, 160), (4, 80), (4, 79)].map(&mut after);
        assert_eq!(dear, [false, false, false, true, true, false]);
    }

    #[test]
    fn batches_are_short_for_a_while_after_quiet_traffic() {
        let (mut turns, account) = (Turns::default(), Account::new(cost::FRAME));
        let mut batch = |is_quiet_traffic| {
            turns.end_quiet(is_quiet_traffic);
            turns.batch(&account)
        };
        assert_eq!((batch(false), batch(true)), (Batch::MAX, BUSY_BATCH));
        let short = (0..1_000).take_while(|_| batch(false) == BUSY_BATCH).count();
        assert_eq!(short as u32, QUIET_ROUNDS - 1);
    }

    #[test]
    fn everybody_is_first_in_turn() {
        let mut turns = Turns::default();
        assert_eq!([0; 6].map(|_| turns.begin(3)), [1, 2, 0, 1, 2, 0]);
        assert_eq!(turns.begin(1), 0);
    }

    #[test]
    fn who_is_alone_waits_for_nobody_and_pays_nothing() {
        let (mut turns, mut sides) = (Turns::default(), [Side::endless(&[900]), Side::new(&[10], 0)]);
        let frames: Vec<_> = (0..100).map(|_| round(&mut turns, &mut sides, false)).collect();
        assert_eq!(frames, [Batch::MAX; 100]);
        assert_eq!(sides[0].account.balance, 0);
    }

    /// Each has a third of the work, whatever their frames cost, and dear frames come in short batches.
    #[test]
    fn shares_are_of_work() {
        let (mut turns, mut sides) = (Turns::default(), [[10], [160], [15]].map(|p| Side::endless(&p)));
        rounds(10_000, &mut turns, &mut sides);
        let total: u64 = sides.iter().map(|side| side.served).sum();
        for side in &sides {
            assert!(
                (side.served as f64 * 3.0 / total as f64 - 1.0).abs() < 0.01,
                "{} of {total}",
                side.served
            );
        }
        sides.iter_mut().for_each(|side| side.longest_batch = 0);
        rounds(100, &mut turns, &mut sides);
        assert_eq!(sides.each_ref().map(|side| side.longest_batch), [Batch::MAX, BUSY_BATCH, Batch::MAX]);
    }

    /// The one with the least debt goes first; who has earned nothing meanwhile is let in at once.
    #[test]
    fn those_that_owe_are_let_in_when_nobody_else_has_frames() {
        let mut sides = [[10], [40], [400]].map(|p| Side::endless(&p));
        let mut turns = Turns::default();
        rounds(3, &mut turns, &mut sides);
        sides[0].waiting = 0;
        let (before, balances) = (sides[2].frames, sides.each_ref().map(|side| side.account.balance));
        assert!(balances[1] < 0 && balances[2] < balances[1], "{balances:?}");
        let mut rounds = 0;
        while sides[2].frames == before {
            let others = sides[1].frames;
            assert!(round(&mut turns, &mut sides, false) > 0, "a round in which nobody has a turn");
            assert!(sides[1].frames > others);
            rounds += 1;
        }
        assert!((2..100).contains(&rounds), "{rounds}");
    }

    #[test]
    fn debts_end() {
        let mut sides = [Side::endless(&[10]), Side::endless(&[1 << 30])];
        let mut turns = Turns::default();
        rounds(3, &mut turns, &mut sides);
        assert!((-DEBT_MAX..=320 - DEBT_MAX).contains(&sides[1].account.balance));
        let (before, served) = (sides[1].frames, sides[0].served);
        while sides[1].frames == before {
            round(&mut turns, &mut sides, false);
        }
        assert!(sides[0].served - served <= DEBT_MAX as u64 + 640);
    }

    proptest! {
        /// However what frames cost is mixed, and whoever else comes and goes, two sides that always have frames are served the
        /// same, but for the cost of two batches.
        #[test]
        fn work_served_differs_by_two_batches_at_most(
            prices in prop::collection::vec(prop::collection::vec(10..2_000u32, 1..70), 2..5),
            company in prop::collection::vec((0..60usize, any::<bool>()), 1..300),
        ) {
            let dearest = prices.iter().flatten().max().copied().unwrap_or(0);
            let count = prices.len();
            let mut sides: Vec<_> = prices.iter().map(|p| Side::endless(p)).collect();
            sides.push(Side::new(&[25], 0));
            let mut turns = Turns::default();
            let bound = 2 * Batch::MAX as u64 * u64::from(dearest);
            for (arriving, is_quiet_traffic) in company.iter().cycle().take(2_000) {
                sides[count].waiting += arriving;
                prop_assert!(round(&mut turns, &mut sides, *is_quiet_traffic) > 0);
                let served = sides[..count].iter().map(|side| side.served);
                let (least, most) = (served.clone().min().unwrap_or(0), served.max().unwrap_or(0));
                prop_assert!(most - least <= bound, "{most} - {least} > {bound}");
            }
        }
    }
}
