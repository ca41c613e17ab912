//! Masks and matches without the words that do not count: what is kept a rule and what look-ups walk over.

use crate::key::{FlowKey, Mask, Match, Words};
use base::HashSeed;
use std::sync::Arc;

/// The bits of one word that count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct MaskWord {
    /// Index of the word in a [`FlowKey`].
    pub index: u8,
    /// The bits, never zero.
    pub bits: u64,
}

/// The words of a mask that are not zero, by rising index.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct PackedMask(Box<[MaskWord]>);

impl PackedMask {
    pub fn new(mask: &Mask<FlowKey>) -> Self {
        let word = |i: usize| MaskWord { index: i as u8, bits: mask.0.word(i) };
        PackedMask((0..FlowKey::LEN).map(word).filter(|w| w.bits != 0).collect())
    }

    #[inline]
    pub fn words(&self) -> &[MaskWord] {
        &self.0
    }

    pub fn expand(&self) -> Mask<FlowKey> {
        let mut mask = Mask::empty();
        self.add_to(&mut mask);
        mask
    }

    /// Adds every bit to `mask`.
    pub fn add_to(&self, mask: &mut Mask<FlowKey>) {
        for w in &self.0 {
            mask.0.set_word(w.index as usize, mask.0.word(w.index as usize) | w.bits);
        }
    }

    /// Bits of the word `index`.
    pub fn bits(&self, index: u8) -> u64 {
        match self.0.binary_search_by_key(&index, |w| w.index) {
            Ok(i) => self.0.get(i).map_or(0, |w| w.bits),
            Err(_) => 0,
        }
    }

    /// Whether every bit of `other` is in this mask too.
    pub fn covers(&self, other: &PackedMask) -> bool {
        other.0.iter().all(|w| w.bits & !self.bits(w.index) == 0)
    }

    /// The words of `key` under the mask.
    pub fn values(&self, key: &FlowKey) -> Box<[u64]> {
        self.0.iter().map(|w| key.word(w.index as usize) & w.bits).collect()
    }

    /// Hash of `key` under the mask; equals [`HashSeed::hash_row`] of [`PackedMask::values`].
    #[inline]
    pub fn hash(&self, seed: &HashSeed, key: &FlowKey) -> u64 {
        let value = |w: &MaskWord| key.word(w.index as usize) & w.bits;
        let (pairs, last) = self.0.as_chunks::<2>();
        let hash = pairs.iter().fold(seed.row(), |hash, [x, y]| hash.pair(value(x), value(y)));
        last.iter().fold(hash, |hash, x| hash.pair(value(x), 0)).finish()
    }

    /// Whether `key` has `values` under the mask.
    #[inline]
    pub fn agrees(&self, values: &[u64], key: &FlowKey) -> bool {
        self.0.iter().zip(values).all(|(w, v)| key.word(w.index as usize) & w.bits == *v)
    }
}

/// A [`Match`] in the space it needs: 16 bytes and 8 for each word that has a condition, where a `Match` takes 704.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PackedMatch {
    mask: Arc<PackedMask>,
    values: Box<[u64]>,
}

impl From<&Match> for PackedMatch {
    fn from(matching: &Match) -> Self {
        PackedMatch::with_mask(Arc::new(PackedMask::new(matching.mask())), matching.key())
    }
}

impl PackedMatch {
    pub(super) fn with_mask(mask: Arc<PackedMask>, key: &FlowKey) -> Self {
        let values = mask.values(key);
        PackedMatch { mask, values }
    }

    pub(super) fn mask(&self) -> &Arc<PackedMask> {
        &self.mask
    }

    pub(super) fn values(&self) -> &[u64] {
        &self.values
    }

    /// The match as it was before packing.
    pub fn expand(&self) -> Match {
        let mut key = FlowKey::default();
        for (w, v) in self.mask.words().iter().zip(&self.values) {
            key.set_word(w.index as usize, *v);
        }
        Match::new(&key, self.mask.expand())
    }

    /// Whether `key` satisfies every condition.
    #[inline]
    pub fn matches(&self, key: &FlowKey) -> bool {
        self.mask.agrees(&self.values, key)
    }

    /// Value under the mask of the word `index`; zero where there is no condition.
    fn value(&self, index: u8) -> u64 {
        match self.mask.words().binary_search_by_key(&index, |w| w.index) {
            Ok(i) => self.values.get(i).copied().unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Whether every key that matches `self` matches `looser` too (OpenFlow 1.0 §4.6: non-strict modify and delete).
    pub fn is_subset_of(&self, looser: &PackedMatch) -> bool {
        let agrees = |(w, v): (&MaskWord, &u64)| self.value(w.index) & w.bits == *v;
        self.mask.covers(&looser.mask) && looser.mask.words().iter().zip(&looser.values).all(agrees)
    }

    /// Whether some key matches both (OpenFlow 1.0 §4.6: overlapping entries).
    pub fn overlaps(&self, other: &PackedMatch) -> bool {
        let common =
            |(w, v): (&MaskWord, &u64)| (self.value(w.index) ^ v) & w.bits & self.mask.bits(w.index) == 0;
        other.mask.words().iter().zip(&other.values).all(common)
    }
}
