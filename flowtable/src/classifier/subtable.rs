//! The rules that have one mask.

use super::packed::{PackedMask, PackedMatch};
use super::shards::{Insertion, Node, Nodes, Shard};
use crate::key::FlowKey;
use base::HashSeed;
use packet::key::{Slot, slot};
use std::sync::Arc;

/// The fields whose prefixes may be kept in a trie.
pub(super) const PREFIX_FIELDS: &[Slot; 4] = &[slot::NW_DST, slot::NW_SRC, slot::IPV6_DST, slot::IPV6_SRC];

/// A field's value as the trie wants it: in the high bits.
#[inline]
pub(super) const fn prefix_address(value: u128, field: Slot) -> u128 {
    value << (128 - field.width as u32)
}

/// The value of a field in a row of packed words.
fn packed_slot(mask: &PackedMask, values: &[u64], field: Slot) -> u128 {
    let word = |index: u8| match mask.words().iter().position(|w| w.index == index) {
        Some(i) => values.get(i).copied().unwrap_or(0),
        None => 0,
    };
    let first = word(field.word);
    match field.width {
        128 => (first as u128) << 64 | word(field.word + 1) as u128,
        _ => (first >> field.shift) as u128 & field.ones(),
    }
}

/// What the trie of `field` knows of a match: its address.
pub(super) fn prefix_of(matching: &PackedMatch, field: Slot) -> u128 {
    prefix_address(packed_slot(matching.mask(), matching.values(), field), field)
}

/// Length of the prefix that a mask has on a field, whatever bits follow it; none if it lacks the first.
fn prefix_len(mask: &PackedMask, field: Slot) -> Option<u8> {
    let bits: Vec<u64> = mask.words().iter().map(|w| w.bits).collect();
    let bits = prefix_address(packed_slot(mask, &bits, field), field);
    let len = bits.leading_ones();
    (len > 0).then_some(len as u8)
}

#[derive(Clone, Debug)]
pub(super) struct Subtable<V> {
    mask: Arc<PackedMask>,
    prefixes: [Option<u8>; PREFIX_FIELDS.len()],
    root: Shard<V>,
}

impl<V: Clone> Subtable<V> {
    pub fn new(mask: Arc<PackedMask>) -> Self {
        let prefixes = PREFIX_FIELDS.map(|field| prefix_len(&mask, field));
        Subtable { mask, prefixes, root: Shard::Empty }
    }

    pub fn mask(&self) -> &Arc<PackedMask> {
        &self.mask
    }

    /// Lengths of the mask's prefixes, in the order of [`PREFIX_FIELDS`].
    #[inline]
    pub fn prefixes(&self) -> &[Option<u8>; PREFIX_FIELDS.len()] {
        &self.prefixes
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.root, Shard::Empty)
    }

    /// Whether all rules have the same match.
    pub fn is_single(&self) -> bool {
        self.root.single().is_some()
    }

    pub fn priority_max(&self) -> u16 {
        self.root.priority_max().unwrap_or(0)
    }

    pub fn nodes(&self) -> Nodes<'_, V> {
        self.root.nodes()
    }

    #[inline]
    pub fn find(&self, seed: &HashSeed, key: &FlowKey) -> Option<&Node<V>> {
        if let Some(node) = self.root.single() {
            return self.mask.agrees(&node.values, key).then_some(node);
        }
        self.root.find(self.mask.hash(seed, key), |values| self.mask.agrees(values, key))
    }

    pub fn find_exact(&self, seed: &HashSeed, values: &[u64]) -> Option<&Node<V>> {
        self.root.find(seed.hash_row(values), |v| v == values)
    }

    pub fn insert(&mut self, seed: &HashSeed, matching: &PackedMatch, priority: u16, value: V) -> Option<V> {
        let hash = seed.hash_row(matching.values());
        self.root.insert(Insertion { hash, values: matching.values().into(), priority, value })
    }

    pub fn remove(&mut self, seed: &HashSeed, values: &[u64], priority: u16) -> Option<V> {
        self.root.remove(seed.hash_row(values), values, priority)
    }

    /// Calls `visit` with the prefix that each rule has on field `i` of [`PREFIX_FIELDS`], if the mask has one.
    pub fn for_each_prefix(&self, i: usize, mut visit: impl FnMut(u128, u8)) {
        if let (Some(field), Some(Some(len))) = (PREFIX_FIELDS.get(i), self.prefixes.get(i)) {
            for node in self.nodes() {
                let address = prefix_address(packed_slot(&self.mask, &node.values, *field), *field);
                node.all().for_each(|_| visit(address, *len));
            }
        }
    }

    /// Nodes whose matches are subsets of `looser`.
    pub fn subsets<'a>(
        &'a self,
        seed: &HashSeed,
        looser: &'a PackedMatch,
    ) -> impl Iterator<Item = &'a Node<V>> {
        let same_mask = *self.mask == **looser.mask();
        let one = if same_mask { self.find_exact(seed, looser.values()) } else { None };
        let walk = !same_mask && self.mask.covers(looser.mask());
        let (all, conditions) =
            if walk { (Some(self.nodes()), self.align(looser).collect()) } else { (None, Vec::new()) };
        let holds = move |node: &&Node<V>| {
            conditions.iter().all(|(i, bits, v)| node.values.get(*i).is_some_and(|mine| mine & bits == *v))
        };
        one.into_iter().chain(all.into_iter().flatten().filter(holds))
    }

    /// Nodes whose matches overlap `other`.
    pub fn overlapping<'a>(&'a self, other: &PackedMatch) -> impl Iterator<Item = &'a Node<V>> + use<'a, V> {
        let common: Vec<(usize, u64, u64)> = self.align(other).collect();
        let holds = move |node: &&Node<V>| {
            common.iter().all(|(i, bits, v)| node.values.get(*i).is_some_and(|mine| (mine ^ v) & bits == 0))
        };
        self.nodes().filter(holds)
    }

    /// The words on which both masks have bits: position in this mask, common bits, value of `other`.
    fn align<'a>(&'a self, other: &'a PackedMatch) -> impl Iterator<Item = (usize, u64, u64)> + 'a {
        other.mask().words().iter().zip(other.values()).filter_map(|(theirs, v)| {
            let i = self.mask.words().binary_search_by_key(&theirs.index, |w| w.index).ok()?;
            let bits = self.mask.words().get(i)?.bits & theirs.bits;
            Some((i, bits, *v & bits))
        })
    }
}
