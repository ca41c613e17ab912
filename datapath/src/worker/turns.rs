//! Whose turn it is: in each round every receiving side that may have something gives one batch, quiet sides before busy ones.
//!
//! What quiet sides sent is flushed before the busy ones have their turn, and while there is such traffic a busy side's batch is
//! short: a frame of a pod that says little then waits for a few frames of the pods that say much, and not for a full batch of
//! each to be received, and another to be sent. Answers to a busy side, such as a stream's acknowledgements, shorten nothing: who
//! waits for them is the busy side itself, which full batches serve better.

/// Frames in a turn from which on a side is busy.
const BUSY_FRAMES: usize = 16;
/// Frames that a busy side may give in a turn while quiet sides have traffic of their own. A side that gives as many stays
/// busy.
pub(super) const BUSY_BATCH: usize = 8;
/// Rounds for which quiet traffic is remembered.
const QUIET_ROUNDS: u32 = 64;

/// How much a receiving side had to give in its last turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Pace {
    /// Little.
    #[default]
    Quiet,
    /// Much.
    Busy,
}

impl Pace {
    /// After a turn of so many frames.
    pub fn after(self, frames: usize) -> Pace {
        let threshold = if self == Pace::Busy { BUSY_BATCH } else { BUSY_FRAMES };
        if frames >= threshold { Pace::Busy } else { Pace::Quiet }
    }
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The side that is the first of its pace in this round.
    first: usize,
    /// Rounds for which batches of busy sides are still short.
    short_rounds: u32,
}

impl Turns {
    /// Begins a round of `count` sides, at least one: another one is first. Returns it.
    pub fn begin(&mut self, count: usize) -> usize {
        self.first = (self.first + 1) % count;
        self.first
    }

    /// The quiet sides have had their turn; whether one of them sent to another. Returns the most frames that a busy side may
    /// give now; `full` is a whole batch.
    pub fn busy_batch(&mut self, is_quiet_traffic: bool, full: usize) -> usize {
        self.short_rounds = if is_quiet_traffic { QUIET_ROUNDS } else { self.short_rounds.saturating_sub(1) };
        if self.short_rounds > 0 { BUSY_BATCH } else { full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_busy_from_many_frames_on_and_stays_so_under_short_batches() {
        let mut pace = Pace::Quiet;
        let mut after = |frames: usize| {
            pace = pace.after(frames);
            pace == Pace::Busy
        };
        assert_eq!([0, 15, 16, 8, 32, 8, 7, 8, 16].map(&mut after), {
            [false, false, true, true, true, true, false, false, true]
        });
    }

    #[test]
    fn batches_are_short_for_a_while_after_quiet_traffic() {
        let mut turns = Turns::default();
        assert_eq!(turns.busy_batch(false, 32), 32);
        assert_eq!(turns.busy_batch(true, 32), BUSY_BATCH);
        let short = (0..1_000).take_while(|_| turns.busy_batch(false, 32) == BUSY_BATCH).count();
        assert_eq!(short as u32, QUIET_ROUNDS - 1);
    }

    #[test]
    fn everybody_is_first_in_turn() {
        let mut turns = Turns::default();
        assert_eq!([0; 6].map(|_| turns.begin(3)), [1, 2, 0, 1, 2, 0]);
        assert_eq!(turns.begin(1), 0);
    }
}
