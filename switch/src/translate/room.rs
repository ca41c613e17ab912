//! Room for translations that is kept from one to the next: their lists grow once and are then long enough.

use super::credits::OtherCredits;
use super::{Actions, Level};
use crate::forwarding::Effect;
use datapath::{Domain, DpAction, Revision};
use flowtable::{LookupCounters, RuleStats};
use std::sync::Arc;

/// Room for translations, made when it is first used. Nothing is in it between two of them.
#[derive(Default)]
pub struct TranslationRoom(Option<Box<Room>>);

impl TranslationRoom {
    pub(super) fn get(&mut self) -> &mut Room {
        self.0.get_or_insert_default()
    }
}

/// The lists of a walk.
#[derive(Default)]
pub(super) struct Room {
    pub out: Vec<DpAction>,
    pub deps: Vec<(Domain, Revision)>,
    pub effects: Vec<Effect>,
    pub others: OtherCredits,
    pub levels: Vec<Level<'static>>,
    pub rules: Vec<&'static Arc<RuleStats>>,
    pub lookups: Vec<(&'static Arc<LookupCounters>, bool)>,
}

impl Room {
    pub fn clear(&mut self) {
        self.out.clear();
        self.deps.clear();
        self.effects.clear();
        self.others.clear();
    }
}

/// An emptied list, for what lives longer or shorter than what was in it. Collecting in place keeps its memory.
pub(super) fn emptied<T, U>(list: Vec<T>) -> Vec<U> {
    list.into_iter().filter_map(|_| None).collect()
}

impl Level<'_> {
    /// The same to be kept.
    pub fn keep(&self) -> Level<'static> {
        let actions = match &self.actions {
            Actions::OfRule(actions) => Arc::clone(actions),
            Actions::Own(actions) => Arc::clone(actions),
        };
        Level { actions: Actions::Own(actions), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is lent for another lifetime is the same memory.
    #[test]
    fn emptied_lists_keep_their_memory() {
        let numbers: [Arc<u64>; 3] = std::array::from_fn(|n| Arc::new(n as u64));
        let list: Vec<&Arc<u64>> = numbers.iter().collect();
        let (place, room) = (list.as_ptr().addr(), list.capacity());
        let empty: Vec<&'static Arc<u64>> = emptied(list);
        assert_eq!((empty.len(), empty.as_ptr().addr(), empty.capacity()), (0, place, room));
    }
}
