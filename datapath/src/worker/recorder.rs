//! Recording of chains: what a frame's look-ups after the first found, kept until the flow that it was first looked up by can
//! have it.

use crate::cache::{CHAIN_LINKS_MAX, FlowCache, FlowSlot, Link, MaskedKey, Memo, TableIndex};
use crate::execute::Held;
use packet::PacketKey;
use std::sync::Arc;

/// Which flow will have the chain.
#[derive(Clone, Copy)]
pub(crate) enum Home {
    /// The one in this place.
    Cached(TableIndex, FlowSlot),
    /// One that is yet to be cached in this table, with the program of the flow that many connections share,
    /// in this other place.
    New {
        /// Where it is to be.
        table: TableIndex,
        /// What it is looked up by.
        masked: MaskedKey,
        /// The flow that it begins as a copy of.
        shared: (TableIndex, FlowSlot),
    },
}

/// A chain in the making. Room that is kept from frame to frame, as a copy of a key is too much to move about.
#[derive(Default)]
pub(crate) struct Recorder {
    /// The flow that will have the chain, and its translation.
    home: Option<(Home, Arc<Memo>)>,
    /// Removals from the cache when recording began: a place may be another flow's after the next, with an equal translation.
    removals: u64,
    links: Vec<Link>,
    /// The key that a new flow is cached under.
    key: PacketKey,
}

impl Recorder {
    /// Begins anew, for a flow with this translation.
    pub fn start(&mut self, home: Home, memo: &Arc<Memo>, key: &PacketKey, removals: u64) {
        self.removals = removals;
        self.links.clear();
        if matches!(home, Home::New { .. }) {
            self.key = *key;
        }
        self.home = Some((home, Arc::clone(memo)));
    }

    /// Gives the recording up.
    #[inline]
    pub fn stop(&mut self) {
        if self.home.is_some() {
            self.home = None;
            self.links.clear();
        }
    }

    /// Adds what the last look-up found, if a chain is being made.
    pub fn record(&mut self, cache: &FlowCache, held: Option<Held>, found: Option<(TableIndex, FlowSlot)>) {
        if self.home.is_none() {
            return;
        }
        let found = held.zip(found).filter(|_| self.links.len() < CHAIN_LINKS_MAX);
        match found.and_then(|(held, (table, slot))| cache.link(table, slot, held)) {
            Some(link) => self.links.push(link),
            None => self.stop(),
        }
    }

    /// What was recorded, if that is a chain whose flow is still in its place, and the key for a new flow.
    pub fn finish(&mut self, removals: u64) -> Option<(Home, Arc<Memo>, Vec<Link>, &PacketKey)> {
        let (home, memo) = self.home.take()?;
        let links = std::mem::take(&mut self.links);
        let in_place = matches!(home, Home::New { .. }) || removals == self.removals;
        (!links.is_empty() && in_place).then_some((home, memo, links, &self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::chain::tests::link;

    /// After a removal the place may be another flow's, of other connections; an equal translation does not tell.
    #[test]
    fn chain_is_not_given_to_whoever_has_the_place_now() {
        let here = Home::Cached(TableIndex(0), 7);
        let elsewhere =
            Home::New { table: TableIndex(0), masked: MaskedKey::default(), shared: (TableIndex(1), 7) };
        for (home, removals, is_good) in [(here, 5, true), (here, 6, false), (elsewhere, 6, true)] {
            let mut recorder = Recorder::default();
            recorder.start(home, link().memo(), &PacketKey::default(), 5);
            recorder.links.push(link());
            assert_eq!(recorder.finish(removals).is_some(), is_good);
        }
    }
}
