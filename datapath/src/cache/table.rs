//! The cached flows of one profile: an index by hash, and the flows under their slot numbers.

use super::chains::Chains;
use super::entry::{FLOW_WORDS, Flow, FlowRecord, NewFlow, OnlyStep};
use super::era::Eras;
use super::flows::Flows;
use super::index::Index;
use super::memo::Memo;
use super::{Chain, PortShare};
use crate::slowpath::{Profile, ProfileId, Revision};
use base::{HashSeed, Instant, RowHash};
use flowtable::Mask;
use packet::PacketKey;
use std::sync::Arc;
use sys::prefetch::prefetch;

pub(crate) use super::flows::FlowSlot;

/// The words that stand in a flow, in pairs.
const PADDED_WORDS: usize = FLOW_WORDS.next_multiple_of(2);

/// A slot that no flow has.
const NO_SLOT: FlowSlot = FlowSlot::MAX;

pub(crate) struct ProfileTable {
    pub id: ProfileId,
    pub mask: Mask<PacketKey>,
    /// The first words of the profile, as (index, bits); no bits where it has no more.
    first: [(u8, u64); PADDED_WORDS],
    /// Pairs of them that are not all beyond the profile's.
    first_pairs: usize,
    /// The others.
    rest: Box<[(u8, u64)]>,
    /// What stamps and times of its flows are short for.
    eras: Eras,
    index: Index,
    flows: Flows,
    chains: Chains,
    /// The hash and the place of the flow that was looked up last: frames of one flow often follow one another.
    recent: (u64, FlowSlot),
}

/// What a flow is looked up by.
#[derive(Clone, Copy, Default)]
pub(crate) struct MaskedKey {
    /// The first words of the key, under the profile's mask.
    words: [u64; PADDED_WORDS],
    /// Of all of them.
    pub hash: u64,
}

/// A word of a key that a profile names, under its mask.
#[inline]
fn masked((i, bits): &(u8, u64), key: &PacketKey) -> u64 {
    key.words().get(*i as usize).copied().unwrap_or(0) & bits
}

impl ProfileTable {
    pub fn new(profile: &Profile, eras: Eras) -> Self {
        let mut first = [(0, 0); PADDED_WORDS];
        first.iter_mut().zip(profile.words.iter().take(FLOW_WORDS)).for_each(|(to, from)| *to = *from);
        let rest: Box<[_]> = profile.words.iter().skip(FLOW_WORDS).copied().collect();
        let flows = Flows::new(rest.len());
        ProfileTable {
            id: profile.id,
            mask: profile.mask,
            first,
            first_pairs: profile.words.len().min(FLOW_WORDS).div_ceil(2),
            rest,
            eras,
            index: Index::default(),
            flows,
            chains: Chains::default(),
            recent: (0, NO_SLOT),
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

    /// What the flow of this key is looked up by.
    #[inline]
    pub fn masked(&self, seed: HashSeed, key: &PacketKey, into: &mut MaskedKey) {
        into.words = [0; PADDED_WORDS];
        let mut hash = seed.row();
        let (to, from) = (into.words.as_chunks_mut::<2>().0, self.first.as_chunks::<2>().0);
        for ([x, y], [a, b]) in to.iter_mut().zip(from).take(self.first_pairs) {
            (*x, *y) = (masked(a, key), masked(b, key));
            hash = hash.pair(*x, *y);
        }
        if !self.rest.is_empty() {
            hash = self.add_rest(hash, key);
        }
        into.hash = hash.finish();
    }

    /// Goes on with what does not stand in the flow.
    #[inline(never)]
    fn add_rest(&self, hash: RowHash, key: &PacketKey) -> RowHash {
        let (pairs, last) = self.rest.as_chunks::<2>();
        let hash = pairs.iter().fold(hash, |hash, [a, b]| hash.pair(masked(a, key), masked(b, key)));
        last.iter().fold(hash, |hash, word| hash.pair(masked(word, key), 0))
    }

    /// The hash of the key of a flow.
    fn hash_of(flows: &Flows, pairs: usize, seed: HashSeed, slot: FlowSlot) -> u64 {
        let mut words = [0; PADDED_WORDS];
        if let Some(flow) = flows.get(slot) {
            words.iter_mut().zip(flow.words).for_each(|(to, from)| *to = from);
        }
        let rest = flows.rest(slot).as_chunks::<2>();
        let pairs = words.as_chunks::<2>().0.iter().take(pairs).chain(rest.0);
        let hash = pairs.fold(seed.row(), |hash, [x, y]| hash.pair(*x, *y));
        rest.1.iter().fold(hash, |hash, x| hash.pair(*x, 0)).finish()
    }

    /// Has the line of the index fetched that tells where a flow stands.
    #[inline]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Where the flow that is probably meant stands; has its lines fetched.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<FlowSlot> {
        let slot = self.index.candidate(hash)?;
        self.flows.prefetch(slot);
        Some(slot)
    }

    /// Has the chain fetched of a flow that has something to be credited.
    pub fn prefetch_chain(&self, slot: FlowSlot) {
        let flow = self.flows.get(slot).filter(|flow| flow.has_counted());
        if let Some(chain) = flow.and_then(|flow| self.chains.get(flow.chain?)) {
            chain.prefetch();
        }
    }

    /// The chain of a flow.
    #[inline]
    pub fn chain(&self, slot: FlowSlot) -> Option<&Chain> {
        self.chains.get(self.flows.get(slot)?.chain?)
    }

    /// What is recorded of a flow, and its chain.
    pub fn record_and_chain_mut(&mut self, slot: FlowSlot) -> Option<(&FlowRecord, Option<&mut Chain>)> {
        let chain = self.flows.get(slot)?.chain;
        Some((self.flows.record(slot)?, chain.and_then(|chain| self.chains.get_mut(chain))))
    }

    /// Has the record fetched of a flow whose hits need it.
    #[inline]
    pub fn prefetch_record(&self, slot: FlowSlot) {
        if self.flows.get(slot).is_some_and(|flow| flow.only_step == OnlyStep::NONE)
            && let Some(record) = self.flows.record(slot)
        {
            prefetch(&record.memo);
        }
    }

    /// A flow and its chain.
    #[inline]
    pub fn flow_and_chain_mut(&mut self, slot: FlowSlot) -> Option<(&mut Flow, Option<&mut Chain>)> {
        let flow = self.flows.get_mut(slot)?;
        let chain = match flow.chain {
            Some(chain) => self.chains.get_mut(chain),
            None => None,
        };
        Some((flow, chain))
    }

    /// Gives a flow a chain, or another one.
    pub fn set_chain(&mut self, slot: FlowSlot, chain: Chain) {
        self.end_chain(slot);
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.chain = self.chains.insert(chain);
        }
    }

    /// Takes a flow's chain away; what it counted is credited.
    pub fn end_chain(&mut self, slot: FlowSlot) {
        if let Some(flow) = self.flows.get_mut(slot)
            && let Some(chain) = flow.chain.take()
            && let Some(mut chain) = self.chains.take(chain)
        {
            chain.fold(self.eras.instant(flow.last_seen));
        }
    }

    /// Whether a flow is that of this key.
    #[inline]
    pub fn is(&self, slot: FlowSlot, key: &PacketKey, by: &MaskedKey) -> bool {
        // Not one comparison of arrays, which would be a call.
        let differ = |flow: &Flow| flow.words.iter().zip(&by.words).fold(0, |bits, (a, b)| bits | (a ^ b));
        self.flows.get(slot).is_some_and(|flow| differ(flow) == 0)
            && (self.rest.is_empty() || self.is_rest(slot, key))
    }

    fn is_rest(&self, slot: FlowSlot, key: &PacketKey) -> bool {
        self.flows.rest(slot).iter().copied().eq(self.rest.iter().map(|word| masked(word, key)))
    }

    /// Where the flow of this key stands, which is often the one that was looked up last.
    #[inline(always)]
    pub fn look_up(&mut self, key: &PacketKey, by: &MaskedKey) -> Option<FlowSlot> {
        let (hash, slot) = self.recent;
        if hash == by.hash && self.is(slot, key, by) {
            return Some(slot);
        }
        self.look_up_anew(key, by)
    }

    /// The same if it is another.
    #[inline(never)]
    fn look_up_anew(&mut self, key: &PacketKey, by: &MaskedKey) -> Option<FlowSlot> {
        let slot = self.find(key, by)?;
        self.recent = (by.hash, slot);
        Some(slot)
    }

    /// Where the flow of this key stands.
    #[inline]
    pub fn find(&self, key: &PacketKey, by: &MaskedKey) -> Option<FlowSlot> {
        match self.index.candidate(by.hash) {
            Some(slot) if self.is(slot, key, by) => Some(slot),
            _ => self.find_elsewhere(key, by),
        }
    }

    /// The same if it is not the first that the index tells.
    #[inline(never)]
    pub fn find_elsewhere(&self, key: &PacketKey, by: &MaskedKey) -> Option<FlowSlot> {
        self.index.find(by.hash, |slot| self.is(slot, key, by))
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
        self.flows.record(slot)?.memo.as_ref()
    }

    /// The masked key of a flow.
    pub fn key(&self, slot: FlowSlot) -> PacketKey {
        let mut key = PacketKey::default();
        let words = self.flows.get(slot).map_or([0; FLOW_WORDS], |flow| flow.words);
        let first = self.first.iter().zip(&words);
        for ((i, _), value) in first.chain(self.rest.iter().zip(self.flows.rest(slot))) {
            if let Some(word) = key.words_mut().get_mut(*i as usize) {
                *word |= *value;
            }
        }
        key
    }

    /// Adds a flow whose key is not in the table.
    pub fn insert(
        &mut self,
        seed: HashSeed,
        by: &MaskedKey,
        key: &PacketKey,
        share: PortShare,
        new: NewFlow,
        now: Instant,
    ) -> FlowSlot {
        let [words @ .., _] = by.words;
        let flow = Flow::new(words, &new.memo, self.eras.stamp(new.stamp), self.eras.millis(now));
        let rest = self.rest.iter().map(|word| masked(word, key));
        let slot = self.flows.insert(flow, FlowRecord::new(new.memo, share), rest);
        let (flows, pairs) = (&self.flows, self.first_pairs);
        self.index.insert(by.hash, slot, |slot| Self::hash_of(flows, pairs, seed, slot));
        slot
    }

    /// Takes a flow out; what it counted is credited first. Returns the share that it was counted in, and its position there.
    pub fn remove(&mut self, seed: HashSeed, slot: FlowSlot) -> Option<(PortShare, u32)> {
        let hash = Self::hash_of(&self.flows, self.first_pairs, seed, slot);
        self.end_chain(slot);
        let (flow, record) = self.flows.with_record_mut(slot)?;
        record.memo.as_ref()?;
        flow.fold(record, self.eras.instant(flow.last_seen));
        record.memo = None;
        let counted_in = (record.share, record.share_position);
        if self.recent.1 == slot {
            self.recent.1 = NO_SLOT;
        }
        self.index.remove(hash, slot);
        self.flows.free(slot);
        Some(counted_in)
    }

    /// Gives a flow a new program; what it counted so far is credited to those of the old one.
    pub fn replace(&mut self, slot: FlowSlot, new: NewFlow) {
        self.end_chain(slot);
        if let Some((flow, record)) = self.flows.with_record_mut(slot)
            && record.memo.is_some()
        {
            flow.fold(record, self.eras.instant(flow.last_seen));
            flow.replace(record, new.memo, self.eras.stamp(new.stamp));
        }
    }

    /// Credits what a flow and its chain have counted.
    pub fn fold(&mut self, slot: FlowSlot) {
        // A chain counts no frame that its flow does not, so most need not be looked at.
        if let Some((flow, record)) = self.flows.with_record_mut(slot)
            && flow.has_counted()
        {
            let last_seen = self.eras.instant(flow.last_seen);
            flow.fold(record, last_seen);
            if let Some(chain) = flow.chain.and_then(|chain| self.chains.get_mut(chain)) {
                chain.fold(last_seen);
            }
        }
    }

    pub fn restamp(&mut self, slot: FlowSlot, revision: Revision) {
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.stamp = self.eras.stamp(revision);
        }
    }

    /// What is recorded of a flow.
    pub fn record(&self, slot: FlowSlot) -> Option<&FlowRecord> {
        self.flows.record(slot)
    }

    /// Says where in its share's list a flow stands.
    pub fn set_share_position(&mut self, slot: FlowSlot, position: u32) {
        if let Some((_, record)) = self.flows.with_record_mut(slot) {
            record.share_position = position;
        }
    }

    /// Revision at which a flow's program was last known to be right.
    pub fn stamped(&self, flow: &Flow) -> Revision {
        self.eras.revision(flow.stamp)
    }

    /// When a flow's last frame came.
    pub fn last_seen(&self, flow: &Flow) -> Instant {
        self.eras.instant(flow.last_seen)
    }

    /// Goes on to later eras.
    pub fn begin_eras(&mut self, eras: Eras) {
        for flow in self.flows.iter_mut() {
            flow.stamp = self.eras.carry_stamp(flow.stamp, eras);
            flow.last_seen = self.eras.carry_time(flow.last_seen, eras);
        }
        self.eras = eras;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::slot;

    fn masked_key(table: &ProfileTable, seed: HashSeed, key: &PacketKey) -> MaskedKey {
        let mut masked = MaskedKey::default();
        table.masked(seed, key, &mut masked);
        masked
    }

    /// Flows whose hashes are the same, as an attacker would like to have them, are still told apart.
    #[test]
    fn equal_hashes_are_not_equal_flows() {
        let mut mask = Mask::empty();
        [slot::IN_PORT, slot::DL_TYPE, slot::IPV6_DST].into_iter().for_each(|s| mask.add_all(s));
        let profile = Profile::new(ProfileId(1), mask);
        let mut table = ProfileTable::new(&profile, Eras::default());
        // Growing would hash anew, and rightly.
        table.index = Index::for_many(50);
        let seed = HashSeed::new(1, 2);
        let key = |n: u128| {
            let mut key = PacketKey::default();
            key.set(slot::IPV6_DST, n << 63);
            key.set(slot::IPV6_SRC, n);
            key
        };
        let share = crate::cache::share::Shares::default().add();
        let memo = Arc::new(Memo {
            program: Default::default(),
            deps: crate::slowpath::Deps::default(),
            credits: Box::default(),
        });
        let same_hash = |table: &ProfileTable, n| MaskedKey { hash: 4, ..masked_key(table, seed, &key(n)) };
        let insert = |table: &mut ProfileTable, n: u128| {
            let new = NewFlow { memo: Arc::clone(&memo), stamp: Revision(0) };
            table.insert(seed, &same_hash(table, n), &key(n), share, new, Instant::ZERO)
        };
        for n in 0..50 {
            assert_eq!(table.find(&key(n), &same_hash(&table, n)), None);
            assert_eq!(u128::from(insert(&mut table, n)), n);
        }
        for n in 0..50 {
            assert_eq!(table.find(&key(n), &same_hash(&table, n)), Some(n as u32));
            assert_eq!(table.key(n as u32), profile.mask.apply(&key(n)));
        }
    }

    /// A table under a profile of more words than stand in a flow, and what flows in it are made of.
    struct Wide {
        table: ProfileTable,
        seed: HashSeed,
        share: PortShare,
        memo: Arc<Memo>,
    }

    impl Wide {
        fn new(slots: &[packet::Slot]) -> Wide {
            let mut mask = Mask::empty();
            slots.iter().for_each(|s| mask.add_all(*s));
            let profile = Profile::new(ProfileId(1), mask);
            assert!(profile.words.len() > FLOW_WORDS);
            let share = crate::cache::share::Shares::default().add();
            let program = Default::default();
            let memo = Arc::new(Memo { program, deps: Default::default(), credits: Box::default() });
            Wide {
                table: ProfileTable::new(&profile, Eras::default()),
                seed: HashSeed::new(1, 2),
                share,
                memo,
            }
        }

        fn key(n: u32) -> PacketKey {
            let mut key = PacketKey::default();
            key.set(slot::IPV6_DST, n.into());
            key
        }

        fn by(&self, n: u32) -> MaskedKey {
            masked_key(&self.table, self.seed, &Self::key(n))
        }

        fn insert(&mut self, n: u32) -> FlowSlot {
            let new = NewFlow { memo: Arc::clone(&self.memo), stamp: Revision(0) };
            let by = self.by(n);
            self.table.insert(self.seed, &by, &Self::key(n), self.share, new, Instant::ZERO)
        }

        fn find(&self, n: u32) -> Option<FlowSlot> {
            self.table.find(&Self::key(n), &self.by(n))
        }

        fn look_up(&mut self, n: u32) -> Option<FlowSlot> {
            let by = self.by(n);
            self.table.look_up(&Self::key(n), &by)
        }

        fn remove(&mut self, slot: FlowSlot) -> Option<(PortShare, u32)> {
            self.table.remove(self.seed, slot)
        }
    }

    /// The flow that was looked up last is known by all of its key, and no longer when it is gone or its slot is another's.
    #[test]
    fn the_last_flow_is_remembered_while_it_is_there() {
        let mut wide = Wide::new(&[
            slot::IN_PORT,
            slot::IPV6_SRC,
            slot::IPV6_DST,
            slot::DL_SRC,
            slot::DL_DST,
            slot::TP_DST,
        ]);
        let unknown = MaskedKey { hash: 0, ..wide.by(0) };
        assert_eq!(wide.table.look_up(&Wide::key(0), &unknown), None);
        let (first, second) = (wide.insert(1), wide.insert(2));
        for (n, slot) in [(1, first), (1, first), (2, second), (2, second), (1, first)] {
            assert_eq!(wide.look_up(n), Some(slot));
            assert_eq!(wide.table.recent, (wide.by(n).hash, slot));
            // Another key with the same hash.
            let same_hash = MaskedKey { hash: wide.by(n).hash, ..wide.by(3) };
            assert_eq!(wide.table.look_up(&Wide::key(3), &same_hash), None);
        }
        assert!(wide.remove(first).is_some());
        assert_eq!(wide.look_up(1), None);
        assert_eq!(wide.insert(5), first, "slots are used again");
        assert_eq!((wide.look_up(1), wide.look_up(5)), (None, Some(first)));
        assert!(wide.remove(second).is_some());
        assert_eq!((wide.look_up(5), wide.look_up(2)), (Some(first), None));
    }

    /// Keys of more words than stand in a flow: all of them count, in slots of several blocks and in those used again.
    #[test]
    fn wide_keys_count_to_their_last_word() {
        let mut wide = Wide::new(&[
            slot::IN_PORT,
            slot::DL_TYPE,
            slot::DL_SRC,
            slot::NW_FRAG,
            slot::IPV6_SRC,
            slot::IPV6_DST,
        ]);
        for n in 0..1_500 {
            assert_eq!(wide.insert(n), n);
        }
        for n in 600..700 {
            assert_eq!(wide.remove(n), Some((wide.share, 0)));
            assert_eq!(wide.remove(n), None);
        }
        assert_eq!(wide.table.len(), 1_400);
        let reused: Vec<_> = (2_000..2_100).map(|n| (n, wide.insert(n))).collect();
        assert!(reused.iter().all(|(_, slot)| (600..700).contains(slot)));
        for (n, slot) in (0..600).chain(700..1_500).map(|n| (n, n)).chain(reused) {
            assert_eq!(wide.find(n), Some(slot));
            let Wide { table, seed, .. } = &wide;
            assert_eq!(table.key(slot), Wide::key(n));
            let by = wide.by(n);
            assert_eq!(ProfileTable::hash_of(&table.flows, table.first_pairs, *seed, slot), by.hash);
            assert!(
                table.is(slot, &Wide::key(n), &by) && !table.is(slot, &Wide::key(n + 1), &wide.by(n + 1))
            );
        }
        assert!((600..700).chain(1_500..2_000).all(|n| wide.find(n).is_none()));
    }
}
