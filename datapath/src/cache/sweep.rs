//! The sweep: a cursor that walks over all cached flows in small steps, credits what they counted, and removes those that
//! are idle, no longer right, or cached under a profile that frames of their kind no longer have.
//!
//! A pass over the whole cache takes about [`PASS`], however many flows there are: the more flows, the shorter the pause
//! between two steps.

use super::{CACHE_IDLE_MAX, CACHE_SWEEP_MAX, FlowCache, FlowSlot, TableIndex};
use crate::slowpath::{FrameClass, Revision, SlowPath};
use base::Instant;
use std::time::Duration;

/// Time that one pass over the cache should take: statistics of rules lag at most this long behind, unless asked for.
const PASS: Duration = Duration::from_secs(1);
/// Shortest pause between two steps of the sweep.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// So many slots ahead the sweep asks for what it will read.
const AHEAD: usize = 8;

#[derive(Default)]
pub(super) struct Sweep {
    table: usize,
    slot: usize,
    due: Option<Instant>,
}

impl FlowCache {
    /// When the next step of the sweep is due; never while there is nothing to sweep.
    pub fn sweep_due(&self) -> Option<Instant> {
        if self.flows == 0 && self.tables.is_empty() { None } else { self.sweep.due }
    }

    /// Takes a step of the sweep if it is due. Returns how many flows were removed.
    pub fn sweep_if_due<S: SlowPath>(&mut self, now: Instant, slow: &S) -> usize {
        if self.tables.is_empty() {
            self.sweep.due = None;
            return 0;
        }
        match self.sweep.due {
            Some(due) if due <= now => {}
            Some(_) => return 0,
            None => {
                self.sweep.due = Some(now + self.pause());
                return 0;
            }
        }
        let removed = self.sweep(now, slow, CACHE_SWEEP_MAX);
        self.sweep.due = Some(now + self.pause());
        removed
    }

    fn pause(&self) -> Duration {
        let slots: usize = self.tables.iter().flatten().map(|t| t.slots()).sum();
        let steps = slots.div_ceil(CACHE_SWEEP_MAX).max(1);
        (PASS / u32::try_from(steps).unwrap_or(u32::MAX)).max(PAUSE_MIN)
    }

    /// Visits the next `slots_max` slots. Returns how many flows were removed.
    pub fn sweep<S: SlowPath>(&mut self, now: Instant, slow: &S, slots_max: usize) -> usize {
        let revision = slow.revision();
        self.present(revision, now);
        let (mut removed, mut left) = (0, slots_max);
        while left > 0 {
            let Some(table) = self.tables.get(self.sweep.table) else {
                (self.sweep.table, self.sweep.slot) = (0, 0);
                self.trim_tables();
                self.memos.forget_unused();
                break;
            };
            let slots = table.as_ref().map_or(0, |t| t.slots());
            if self.sweep.slot >= slots {
                self.drop_if_empty(self.sweep.table);
                self.sweep.table += 1;
                self.sweep.slot = 0;
                continue;
            }
            if let Some(table) = table {
                table.prefetch_chain((self.sweep.slot + AHEAD) as FlowSlot);
            }
            let table = TableIndex(self.sweep.table as u16);
            removed += usize::from(self.visit(table, self.sweep.slot as FlowSlot, (now, revision), slow));
            self.sweep.slot += 1;
            left -= 1;
        }
        removed
    }

    /// Credits one flow's counts and removes it if its time has come.
    fn visit<S: SlowPath>(
        &mut self,
        table: TableIndex,
        slot: FlowSlot,
        at: (Instant, Revision),
        slow: &S,
    ) -> bool {
        let (now, revision) = at;
        let idle = self.limits.idle.min(CACHE_IDLE_MAX);
        let Some(t) = self.at_mut(table) else { return false };
        let Some(flow) = t.flow(slot) else { return false };
        let Some(memo) = t.memo(slot) else { return false };
        let mut gone = now.saturating_since(t.last_seen(flow)) >= idle;
        if !gone && t.stamped(flow) != revision {
            let class = FrameClass::of(&t.key(slot));
            gone = slow.profile(class).map_or(true, |p| p.id != t.id) || !slow.still_valid(&memo.deps);
            if !gone {
                t.restamp(slot, revision);
            }
        }
        if gone {
            self.remove(table, slot);
        } else {
            t.fold(slot);
        }
        gone
    }

    fn drop_if_empty(&mut self, table: usize) {
        if let Some(slot) = self.tables.get_mut(table)
            && slot.as_ref().is_some_and(|t| t.len() == 0)
        {
            *slot = None;
        }
    }

    fn trim_tables(&mut self) {
        while self.tables.last().is_some_and(Option::is_none) {
            self.tables.pop();
        }
    }
}
