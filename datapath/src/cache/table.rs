//! The cached flows of one profile: an index by hash, and the flows under their slot numbers.

use super::PortShare;
use super::entry::{FLOW_WORDS, Flow, Hot, NewFlow};
use super::flows::Flows;
use super::memo::Memo;
use crate::slowpath::{Profile, ProfileId, Revision};
use base::{HashSeed, Instant};
use flowtable::Mask;
use hashbrown::HashTable;
use packet::PacketKey;
use std::sync::Arc;

pub(crate) use super::flows::FlowSlot;

pub(crate) struct ProfileTable {
    pub id: ProfileId,
    pub mask: Mask<PacketKey>,
    words: Box<[(u8, u64)]>,
    index: HashTable<FlowSlot>,
    flows: Flows,
}

impl ProfileTable {
    pub fn new(profile: &Profile) -> Self {
        ProfileTable {
            id: profile.id,
            mask: profile.mask,
            words: profile.words.clone(),
            index: HashTable::new(),
            flows: Flows::new(profile.words.len()),
        }
    }

    /// Number of cached flows.
    pub fn len(&self) -> usize {
        self.flows.in_use()
    }

    /// Number of slots, free ones included.
    pub fn slots(&self) -> usize {
        self.flows.slots()
    }

    fn masked<'a>(words: &'a [(u8, u64)], key: &'a PacketKey) -> impl Iterator<Item = u64> + 'a {
        words.iter().map(|(i, bits)| key.words().get(*i as usize).copied().unwrap_or(0) & bits)
    }

    #[inline]
    pub fn hash(&self, seed: HashSeed, key: &PacketKey) -> u64 {
        seed.hash(Self::masked(&self.words, key))
    }

    /// The masked words of a flow's key.
    #[inline]
    fn row(flows: &Flows, width: usize, slot: FlowSlot) -> impl Iterator<Item = u64> + '_ {
        let words = flows.get(slot).map_or(&[][..], |flow| &flow.words);
        words.iter().take(width).chain(flows.rest(slot)).copied()
    }

    #[inline]
    pub fn find(&self, key: &PacketKey, hash: u64) -> Option<FlowSlot> {
        let same = |slot: &FlowSlot| {
            self.flows.get(*slot).is_some_and(|flow| {
                let mut own = Self::masked(&self.words, key);
                flow.words.iter().zip(own.by_ref()).all(|(a, b)| *a == b)
                    && own.zip(self.flows.rest(*slot)).all(|(a, b)| a == *b)
            })
        };
        self.index.find(hash, same).copied()
    }

    #[inline]
    pub fn flow(&self, slot: FlowSlot) -> Option<&Flow> {
        self.flows.get(slot)
    }

    #[inline]
    pub fn flow_mut(&mut self, slot: FlowSlot) -> Option<&mut Flow> {
        self.flows.get_mut(slot)
    }

    /// What is done to a flow's frames; `None` if there is no such flow.
    pub fn memo(&self, slot: FlowSlot) -> Option<&Arc<Memo>> {
        self.flows.get(slot)?.hot.memo.as_ref()
    }

    /// The masked key of a flow.
    pub fn key(&self, slot: FlowSlot) -> PacketKey {
        let mut key = PacketKey::default();
        for ((i, _), value) in self.words.iter().zip(Self::row(&self.flows, self.words.len(), slot)) {
            if let Some(word) = key.words_mut().get_mut(*i as usize) {
                *word = value;
            }
        }
        key
    }

    /// Adds a flow whose key is not in the table.
    pub fn insert(
        &mut self,
        seed: HashSeed,
        hash: u64,
        key: &PacketKey,
        share: PortShare,
        new: NewFlow,
        now: Instant,
    ) -> FlowSlot {
        let mut own = Self::masked(&self.words, key);
        let mut words = [0; FLOW_WORDS];
        words.iter_mut().zip(own.by_ref()).for_each(|(to, from)| *to = from);
        let hot = Hot::new(new.memo, new.stamp, now);
        let slot = self.flows.insert(Flow { words, created: now, share, share_position: 0, hot }, own);
        let (flows, width) = (&self.flows, self.words.len());
        self.index.insert_unique(hash, slot, |s| seed.hash(Self::row(flows, width, *s)));
        slot
    }

    /// Takes a flow out; what it counted is credited first. Returns the share that it was counted in, and its position there.
    pub fn remove(&mut self, seed: HashSeed, slot: FlowSlot) -> Option<(PortShare, u32)> {
        let hash = seed.hash(Self::row(&self.flows, self.words.len(), slot));
        let flow = self.flows.get_mut(slot)?;
        flow.hot.memo.as_ref()?;
        flow.hot.fold();
        flow.hot.end_chain();
        flow.hot.memo = None;
        let counted_in = (flow.share, flow.share_position);
        if let Ok(found) = self.index.find_entry(hash, |s| *s == slot) {
            found.remove();
        }
        self.flows.free(slot);
        Some(counted_in)
    }

    /// Gives a flow a new program; what it counted so far is credited to those of the old one.
    pub fn replace(&mut self, slot: FlowSlot, new: NewFlow) {
        if let Some(flow) = self.flows.get_mut(slot)
            && flow.hot.memo.is_some()
        {
            flow.hot.replace(new.memo, new.stamp);
        }
    }

    /// Credits what a flow and its chain have counted.
    pub fn fold(&mut self, slot: FlowSlot) {
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.hot.fold();
            if let Some(chain) = &mut flow.hot.chain {
                chain.fold(flow.hot.last_seen);
            }
        }
    }

    pub fn restamp(&mut self, slot: FlowSlot, stamp: Revision) {
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.hot.stamp = stamp;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::slot;

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
        let share = crate::cache::share::Shares::default().add();
        let memo = Arc::new(Memo {
            program: Arc::default(),
            deps: crate::slowpath::Deps::default(),
            credits: Box::default(),
        });
        let insert = |table: &mut ProfileTable, n: u128| {
            let new = NewFlow { memo: Arc::clone(&memo), stamp: Revision(0) };
            table.insert(HashSeed::new(1, 2), 4, &key(n), share, new, Instant::ZERO)
        };
        for n in 0..50 {
            assert_eq!(table.find(&key(n), 4), None);
            assert_eq!(u128::from(insert(&mut table, n)), n);
        }
        for n in 0..50 {
            assert_eq!(table.find(&key(n), 4), Some(n as u32));
            assert_eq!(table.key(n as u32), profile.mask.apply(&key(n)));
        }
    }

    /// Keys of more words than stand in a flow: all of them count, in slots of several blocks and in those used again.
    #[test]
    fn wide_keys_count_to_their_last_word() {
        let mut mask = Mask::empty();
        let slots =
            [slot::IN_PORT, slot::DL_TYPE, slot::DL_SRC, slot::NW_FRAG, slot::IPV6_SRC, slot::IPV6_DST];
        slots.into_iter().for_each(|s| mask.add_all(s));
        let profile = Profile::new(ProfileId(1), mask);
        assert!(profile.words.len() > FLOW_WORDS);
        let mut table = ProfileTable::new(&profile);
        let seed = HashSeed::new(1, 2);
        let share = crate::cache::share::Shares::default().add();
        let program = Arc::default();
        let memo = Arc::new(Memo { program, deps: Default::default(), credits: Box::default() });
        let key = |n: u32| {
            let mut key = PacketKey::default();
            key.set(slot::IPV6_DST, n.into());
            key
        };
        let insert = |table: &mut ProfileTable, n: u32| {
            let new = NewFlow { memo: Arc::clone(&memo), stamp: Revision(0) };
            table.insert(seed, table.hash(seed, &key(n)), &key(n), share, new, Instant::ZERO)
        };
        let find = |table: &ProfileTable, n: u32| table.find(&key(n), table.hash(seed, &key(n)));
        for n in 0..1_500 {
            assert_eq!(insert(&mut table, n), n);
        }
        for n in 600..700 {
            assert_eq!(table.remove(seed, n), Some((share, 0)));
            assert_eq!(table.remove(seed, n), None);
        }
        assert_eq!(table.len(), 1_400);
        let reused: Vec<_> = (2_000..2_100).map(|n| (n, insert(&mut table, n))).collect();
        assert!(reused.iter().all(|(_, slot)| (600..700).contains(slot)));
        for (n, slot) in (0..600).chain(700..1_500).map(|n| (n, n)).chain(reused) {
            assert_eq!(find(&table, n), Some(slot));
            assert_eq!(table.key(slot), key(n));
        }
        assert!((600..700).chain(1_500..2_000).all(|n| find(&table, n).is_none()));
    }
}
