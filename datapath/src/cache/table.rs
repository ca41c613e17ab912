//! The cached flows of one profile: an index by hash, and rows of equal width for the masked words of the keys.
//!
//! Rows, hot lines and cold parts stand in three arrays under the same slot number. A slot number is reused after a
//! removal, so it is good only until the cache changes.

use super::entry::{Cold, Hot, NewFlow, fold, only_output};
use crate::slowpath::{Deps, Profile, ProfileId, Revision};
use base::{HashSeed, Instant};
use flowtable::Mask;
use hashbrown::HashTable;
use packet::PacketKey;

/// Index of a cached flow in its table.
pub(crate) type FlowSlot = u32;

pub(crate) struct ProfileTable {
    pub id: ProfileId,
    pub mask: Mask<PacketKey>,
    words: Box<[(u8, u64)]>,
    index: HashTable<FlowSlot>,
    /// `words.len()` words a slot.
    rows: Vec<u64>,
    hot: Vec<Hot>,
    cold: Vec<Option<Cold>>,
    free: Vec<FlowSlot>,
}

impl ProfileTable {
    pub fn new(profile: &Profile) -> Self {
        ProfileTable {
            id: profile.id,
            mask: profile.mask,
            words: profile.words.clone(),
            index: HashTable::new(),
            rows: Vec::new(),
            hot: Vec::new(),
            cold: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Number of cached flows.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Number of slots, free ones included.
    pub fn slots(&self) -> usize {
        self.hot.len()
    }

    fn masked<'a>(words: &'a [(u8, u64)], key: &'a PacketKey) -> impl Iterator<Item = u64> + 'a {
        words.iter().map(|(i, bits)| key.words().get(*i as usize).copied().unwrap_or(0) & bits)
    }

    #[inline]
    pub fn hash(&self, seed: HashSeed, key: &PacketKey) -> u64 {
        seed.hash(Self::masked(&self.words, key))
    }

    #[inline]
    fn row(rows: &[u64], width: usize, slot: FlowSlot) -> &[u64] {
        let start = slot as usize * width;
        rows.get(start..start + width).unwrap_or(&[])
    }

    #[inline]
    pub fn find(&self, key: &PacketKey, hash: u64) -> Option<FlowSlot> {
        let width = self.words.len();
        let same = |slot: &FlowSlot| {
            let row = Self::row(&self.rows, width, *slot);
            row.len() == width && Self::masked(&self.words, key).zip(row).all(|(a, b)| a == *b)
        };
        self.index.find(hash, same).copied()
    }

    #[inline]
    pub fn hot(&self, slot: FlowSlot) -> Option<&Hot> {
        self.hot.get(slot as usize)
    }

    #[inline]
    pub fn hot_mut(&mut self, slot: FlowSlot) -> Option<&mut Hot> {
        self.hot.get_mut(slot as usize)
    }

    pub fn cold(&self, slot: FlowSlot) -> Option<&Cold> {
        self.cold.get(slot as usize)?.as_ref()
    }

    pub fn cold_mut(&mut self, slot: FlowSlot) -> Option<&mut Cold> {
        self.cold.get_mut(slot as usize)?.as_mut()
    }

    pub fn deps(&self, slot: FlowSlot) -> Option<&Deps> {
        self.cold(slot).map(|cold| &cold.deps)
    }

    /// The masked key of a flow.
    pub fn key(&self, slot: FlowSlot) -> PacketKey {
        let mut key = PacketKey::default();
        for ((i, _), value) in self.words.iter().zip(Self::row(&self.rows, self.words.len(), slot)) {
            if let Some(word) = key.words_mut().get_mut(*i as usize) {
                *word = *value;
            }
        }
        key
    }

    /// Adds a flow whose key is not in the table.
    pub fn insert(&mut self, seed: HashSeed, hash: u64, key: &PacketKey, hot: Hot, cold: Cold) -> FlowSlot {
        let slot = match self.free.pop() {
            Some(slot) => {
                let start = slot as usize * self.words.len();
                let row = self.rows.iter_mut().skip(start);
                row.zip(Self::masked(&self.words, key)).for_each(|(to, from)| *to = from);
                if let (Some(h), Some(c)) =
                    (self.hot.get_mut(slot as usize), self.cold.get_mut(slot as usize))
                {
                    (*h, *c) = (hot, Some(cold));
                }
                slot
            }
            None => {
                let slot = self.hot.len() as FlowSlot;
                self.rows.extend(Self::masked(&self.words, key));
                self.hot.push(hot);
                self.cold.push(Some(cold));
                slot
            }
        };
        let (rows, width) = (&self.rows, self.words.len());
        self.index.insert_unique(hash, slot, |s| seed.hash(Self::row(rows, width, *s).iter().copied()));
        slot
    }

    /// Takes a flow out; what it counted is credited first.
    pub fn remove(&mut self, seed: HashSeed, slot: FlowSlot) -> Option<Cold> {
        let mut cold = self.cold.get_mut(slot as usize)?.take()?;
        let hash = seed.hash(Self::row(&self.rows, self.words.len(), slot).iter().copied());
        if let Ok(found) = self.index.find_entry(hash, |s| *s == slot) {
            found.remove();
        }
        let hot = self.hot.get_mut(slot as usize)?;
        fold(hot, &mut cold);
        hot.program = None;
        end_chain(hot);
        self.free.push(slot);
        Some(cold)
    }

    /// Gives a flow a new program; what it counted so far is credited to those of the old one.
    pub fn replace(&mut self, slot: FlowSlot, flow: NewFlow) {
        let (Some(hot), Some(Some(cold))) =
            (self.hot.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        else {
            return;
        };
        fold(hot, cold);
        end_chain(hot);
        hot.stamp = flow.stamp;
        hot.only_output = only_output(&flow.program);
        hot.program = Some(flow.program);
        cold.deps = flow.deps;
        cold.credits = flow.credits;
    }

    pub fn fold(&mut self, slot: FlowSlot) {
        if let (Some(hot), Some(Some(cold))) =
            (self.hot.get_mut(slot as usize), self.cold.get_mut(slot as usize))
        {
            fold(hot, cold);
            if let Some(chain) = &mut hot.chain {
                chain.fold();
            }
        }
    }

    /// The program of a flow, if it has one.
    pub fn program(&self, slot: FlowSlot) -> Option<&std::sync::Arc<crate::Program>> {
        self.hot(slot)?.program.as_ref()
    }

    pub fn restamp(&mut self, slot: FlowSlot, stamp: Revision) {
        if let Some(hot) = self.hot_mut(slot) {
            hot.stamp = stamp;
        }
    }

    pub fn new_hot(flow_program: std::sync::Arc<crate::Program>, stamp: Revision, now: Instant) -> Hot {
        Hot {
            stamp,
            packets: 0,
            bytes: 0,
            last_seen: now,
            only_output: only_output(&flow_program),
            program: Some(flow_program),
            tcp_flags: 0,
            chain: None,
        }
    }
}

/// Takes a flow's chain away; what it counted is credited.
pub(super) fn end_chain(hot: &mut Hot) {
    if let Some(mut chain) = hot.chain.take() {
        chain.fold();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use packet::slot;
    use std::sync::Arc;

    /// Flows whose hashes are the same, as an attacker would like to have them, are still told apart.
    #[test]
    fn equal_hashes_are_not_equal_flows() {
        let mut mask = Mask::empty();
        [slot::IN_PORT, slot::DL_TYPE, slot::IPV6_DST].into_iter().for_each(|s| mask.add_all(s));
        let profile = Profile::new(ProfileId(1), mask);
        let mut table = ProfileTable::new(&profile);
        // Growing would hash anew, and rightly.
        table.index.reserve(50, |_| 4);
        let key = |n: u128| {
            let mut key = PacketKey::default();
            key.set(slot::IPV6_DST, n << 63);
            key.set(slot::IPV6_SRC, n);
            key
        };
        let cold = || Cold {
            deps: Deps::default(),
            credits: Box::default(),
            credited_packets: 0,
            credited_bytes: 0,
            created: Instant::ZERO,
            share: crate::cache::share::Shares::default().add(),
            share_position: 0,
        };
        for n in 0..50 {
            assert_eq!(table.find(&key(n), 4), None);
            let hot = ProfileTable::new_hot(Arc::new(Program::default()), Revision(0), Instant::ZERO);
            let slot = table.insert(HashSeed::new(1, 2), 4, &key(n), hot, cold());
            assert_eq!(slot as u128, n);
        }
        for n in 0..50 {
            assert_eq!(table.find(&key(n), 4), Some(n as u32));
            assert_eq!(table.key(n as u32), profile.mask.apply(&key(n)));
        }
    }
}
