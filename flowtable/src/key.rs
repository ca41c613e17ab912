//! `FlowKey`: what a rule matches on. A frame's `PacketKey` and, behind it, what the pipeline knows about the frame.
//!
//! Both halves are rows of words; slots with a word index of `PacketKey::WORDS` or more lie in the pipeline half, which
//! never reaches the flow cache.

use packet::PacketKey;
use packet::key::Slot;
use std::fmt;

/// First word of the pipeline half, as slots count.
pub const PIPELINE_WORD: u8 = PacketKey::WORDS as u8;

/// Registers, metadata and the like: state of one pass through the tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct PipelineKey {
    words: [u64; PipelineKey::WORDS],
}

impl PipelineKey {
    /// Metadata, sixteen 32-bit registers, and one word for the action set's output and the conjunction id.
    pub const WORDS: usize = 10;

    /// The words.
    pub const fn words(&self) -> &[u64; Self::WORDS] {
        &self.words
    }

    /// The words, to be changed.
    pub const fn words_mut(&mut self) -> &mut [u64; Self::WORDS] {
        &mut self.words
    }
}

impl fmt::Debug for PipelineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.words.iter().enumerate().filter(|(_, w)| **w != 0);
        f.debug_map().entries(used.map(|(i, w)| (i, format!("{w:#018x}")))).finish()
    }
}

/// Slots of the pipeline half.
pub mod pipeline_slot {
    use super::{PIPELINE_WORD, Slot};

    /// OpenFlow metadata.
    pub const METADATA: Slot = Slot::at(PIPELINE_WORD, 0, 64);
    /// Output port in the action set (`OFPP_UNSET` without one).
    pub const ACTSET_OUTPUT: Slot = Slot::at(PIPELINE_WORD + 9, 32, 32);

    /// Register `n`, 0 to 15: two to a word, the even one in the high half, so that xreg and xxreg are whole words.
    pub const fn reg(n: u8) -> Slot {
        Slot::at(PIPELINE_WORD + 1 + n / 2, if n.is_multiple_of(2) { 32 } else { 0 }, 32)
    }

    /// 64-bit register `n`, 0 to 7: `reg(2n)` is its high half.
    pub const fn xreg(n: u8) -> Slot {
        Slot::at(PIPELINE_WORD + 1 + n, 0, 64)
    }

    /// 128-bit register `n`, 0 to 3: `xreg(2n)` is its high half.
    pub const fn xxreg(n: u8) -> Slot {
        Slot::at(PIPELINE_WORD + 1 + 2 * n, 0, 128)
    }
}

/// What a rule matches on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct FlowKey {
    /// The frame's part.
    pub packet: PacketKey,
    /// The pipeline's part.
    pub pipeline: PipelineKey,
}

/// A row of 64-bit words: what keys have in common.
pub trait Words: Copy + Default + Eq {
    /// Number of words.
    const LEN: usize;
    /// Word `i`; zero beyond the end.
    fn word(&self, i: usize) -> u64;
    /// Sets word `i`; nothing beyond the end.
    fn set_word(&mut self, i: usize, value: u64);

    /// Value of a slot.
    #[inline]
    fn slot(&self, slot: Slot) -> u128 {
        let first = self.word(slot.word as usize);
        if slot.width == 128 {
            (first as u128) << 64 | self.word(slot.word as usize + 1) as u128
        } else {
            u128::from(first >> slot.shift & ones(slot))
        }
    }

    /// Sets a slot; bits of `value` beyond its width are ignored.
    #[inline]
    fn set_slot(&mut self, slot: Slot, value: u128) {
        let i = slot.word as usize;
        if slot.width == 128 {
            self.set_word(i, (value >> 64) as u64);
            self.set_word(i + 1, value as u64);
        } else {
            let bits = ones(slot) << slot.shift;
            self.set_word(i, self.word(i) & !bits | (value as u64) << slot.shift & bits);
        }
    }
}

/// All ones in the width of a slot that is no wider than a word.
#[inline]
const fn ones(slot: Slot) -> u64 {
    u64::MAX >> (64 - slot.width as u32)
}

impl Words for PacketKey {
    const LEN: usize = PacketKey::WORDS;
    #[inline]
    fn word(&self, i: usize) -> u64 {
        self.words().get(i).copied().unwrap_or(0)
    }
    #[inline]
    fn set_word(&mut self, i: usize, value: u64) {
        if let Some(word) = self.words_mut().get_mut(i) {
            *word = value;
        }
    }
}

impl Words for FlowKey {
    const LEN: usize = PacketKey::WORDS + PipelineKey::WORDS;
    #[inline]
    fn word(&self, i: usize) -> u64 {
        match i.checked_sub(PacketKey::WORDS) {
            None => self.packet.word(i),
            Some(j) => self.pipeline.words.get(j).copied().unwrap_or(0),
        }
    }
    #[inline]
    fn set_word(&mut self, i: usize, value: u64) {
        match i.checked_sub(PacketKey::WORDS) {
            None => self.packet.set_word(i, value),
            Some(j) => {
                if let Some(word) = self.pipeline.words.get_mut(j) {
                    *word = value;
                }
            }
        }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = (0..Self::LEN).map(|i| (i, self.word(i))).filter(|(_, w)| *w != 0);
        f.debug_map().entries(used.map(|(i, w)| (i, format!("{w:#018x}")))).finish()
    }
}

impl From<PacketKey> for FlowKey {
    fn from(packet: PacketKey) -> Self {
        FlowKey { packet, pipeline: PipelineKey::default() }
    }
}

/// Which bits of a key count: ones where they do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mask<K>(pub K);

impl<K: Words> Mask<K> {
    /// The mask under which nothing counts.
    pub fn empty() -> Self {
        Mask(K::default())
    }

    /// The bits of `slot` that count.
    pub fn slot(&self, slot: Slot) -> u128 {
        self.0.slot(slot)
    }

    /// Adds bits of a slot.
    pub fn add(&mut self, slot: Slot, bits: u128) {
        let now = self.0.slot(slot);
        self.0.set_slot(slot, now | bits);
    }

    /// Adds every bit of a slot.
    pub fn add_all(&mut self, slot: Slot) {
        self.add(slot, slot.ones());
    }

    /// Adds every bit of another mask.
    pub fn union(&mut self, other: &Mask<K>) {
        for i in 0..K::LEN {
            let bits = self.0.word(i) | other.0.word(i);
            self.0.set_word(i, bits);
        }
    }

    /// `key` with only the bits that count.
    pub fn apply(&self, key: &K) -> K {
        let mut masked = K::default();
        for i in 0..K::LEN {
            masked.set_word(i, key.word(i) & self.0.word(i));
        }
        masked
    }

    /// Whether every bit of `other` is in this mask too.
    pub fn covers(&self, other: &Mask<K>) -> bool {
        (0..K::LEN).all(|i| other.0.word(i) & !self.0.word(i) == 0)
    }

    /// Whether nothing counts.
    pub fn is_empty(&self) -> bool {
        (0..K::LEN).all(|i| self.0.word(i) == 0)
    }
}

impl Mask<FlowKey> {
    /// The half that speaks of the frame: what a flow cache may have to look at.
    pub fn packet(&self) -> Mask<PacketKey> {
        Mask(self.0.packet)
    }
}

impl<K: fmt::Debug> fmt::Debug for Mask<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({:?})", self.0)
    }
}

/// A key and which bits of it count. Invariant: the key has no bit outside the mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Match {
    key: FlowKey,
    mask: Mask<FlowKey>,
}

impl Match {
    /// Matches every frame.
    pub fn any() -> Self {
        Match::default()
    }

    /// A match on those bits of `key` that `mask` has.
    pub fn new(key: &FlowKey, mask: Mask<FlowKey>) -> Self {
        Match { key: mask.apply(key), mask }
    }

    /// The values, zero where they do not count.
    pub fn key(&self) -> &FlowKey {
        &self.key
    }

    /// The bits that count.
    pub fn mask(&self) -> &Mask<FlowKey> {
        &self.mask
    }

    /// Replaces the condition on a slot by `value` under `bits` (0: no condition).
    pub fn set(&mut self, slot: Slot, value: u128, bits: u128) {
        self.mask.0.set_slot(slot, bits);
        self.key.set_slot(slot, value & bits);
    }

    /// Replaces the condition on a slot by an exact value.
    pub fn set_exact(&mut self, slot: Slot, value: u128) {
        self.set(slot, value, slot.ones());
    }

    /// Value and bits of the condition on a slot.
    pub fn get(&self, slot: Slot) -> (u128, u128) {
        (self.key.slot(slot), self.mask.slot(slot))
    }

    /// Whether `key` satisfies every condition.
    pub fn matches(&self, key: &FlowKey) -> bool {
        (0..FlowKey::LEN).all(|i| (key.word(i) ^ self.key.word(i)) & self.mask.0.word(i) == 0)
    }

    /// Whether every key that matches `self` matches `looser` too (OpenFlow 1.0 §4.6: non-strict modify and delete).
    pub fn is_subset_of(&self, looser: &Match) -> bool {
        self.mask.covers(&looser.mask) && looser.matches(&self.key)
    }

    /// Whether some key matches both (OpenFlow 1.0 §4.6: overlapping entries).
    pub fn overlaps(&self, other: &Match) -> bool {
        (0..FlowKey::LEN)
            .all(|i| (self.key.word(i) ^ other.key.word(i)) & self.mask.0.word(i) & other.mask.0.word(i) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_registers_are_made_of_narrow_ones() {
        let mut key = FlowKey::default();
        key.set_slot(pipeline_slot::reg(0), 0x11111111);
        key.set_slot(pipeline_slot::reg(1), 0x22222222);
        key.set_slot(pipeline_slot::reg(2), 0x33333333);
        key.set_slot(pipeline_slot::reg(3), 0x44444444);
        key.set_slot(pipeline_slot::reg(15), 0x55555555);
        assert_eq!(key.slot(pipeline_slot::xreg(0)), 0x1111111122222222);
        assert_eq!(key.slot(pipeline_slot::xxreg(0)), 0x11111111222222223333333344444444);
        assert_eq!(key.slot(pipeline_slot::xxreg(3)), 0x55555555);
        assert_eq!(key.slot(pipeline_slot::METADATA), 0);
        assert_eq!(key.slot(pipeline_slot::ACTSET_OUTPUT), 0);
    }

    #[test]
    fn match_keeps_its_invariant_and_orders_subsets() {
        let net = packet::slot::NW_DST;
        let (mut wide, mut narrow) = (Match::any(), Match::any());
        wide.set(net, 0x0a000001, 0xff000000);
        narrow.set_exact(net, 0x0a010203);
        assert_eq!(wide.get(net), (0x0a000000, 0xff000000));
        assert!(narrow.is_subset_of(&wide) && !wide.is_subset_of(&narrow));
        assert!(narrow.overlaps(&wide) && wide.overlaps(&narrow));
        narrow.set_exact(net, 0x0b010203);
        assert!(!narrow.is_subset_of(&wide) && !narrow.overlaps(&wide));
        assert!(wide.is_subset_of(&Match::any()));
    }
}
