//! Finds the rule of highest priority that a key matches.
//!
//! Rules are kept by mask: a *subtable* is a hash table of the rules with one mask, and a look-up asks the subtables one
//! after another (tuple-space search), those with the highest priorities first, until no other can have anything better.
//! A subtable with a single rule is compared, not hashed. When several subtables have a condition on a prefix of the same
//! address, a trie of these prefixes tells which subtables cannot match.
//!
//! Cloning shares everything and costs a reference count a mask; a change after that copies a few shards (`shards`), so
//! that a snapshot can be published after each change.
//!
//! Two rules of the same priority that match the same key make a choice that OpenFlow leaves undefined (1.0 §3.4). Here it
//! depends on the set of rules only, not on the order in which they came.
//!
//! Nothing here knows what a rule is or does: values are opaque.

mod packed;
mod shards;
mod subtable;
#[cfg(test)]
mod tests;
mod trace;

pub use packed::PackedMatch;

use crate::key::{FlowKey, Mask, Match, Words};
use crate::trie::{PrefixLens, PrefixTrie};
use base::HashSeed;
use packed::PackedMask;
use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};
use subtable::{PREFIX_FIELDS, Subtable, prefix_address};

/// A field's trie is used from this many subtables on that have a prefix of the field. Asking one costs as much as asking
/// about ten subtables. Tests have few rules and use tries sooner.
const TRIE_SUBTABLES_MIN: usize = if cfg!(test) { 3 } else { 16 };
/// Below this many subtables a trie is given up.
const TRIE_SUBTABLES_KEEP: usize = TRIE_SUBTABLES_MIN / 2;

/// A subtable and its rank in the search.
#[derive(Debug)]
struct Ranked<V> {
    priority_max: u16,
    subtable: Arc<Subtable<V>>,
}

impl<V> Clone for Ranked<V> {
    fn clone(&self) -> Self {
        Ranked { priority_max: self.priority_max, subtable: Arc::clone(&self.subtable) }
    }
}

/// Values by match and priority. See the module's text.
#[derive(Clone, Debug)]
pub struct Classifier<V> {
    seed: HashSeed,
    /// By falling `priority_max`, then by mask.
    subtables: Vec<Ranked<V>>,
    len: usize,
    tries: [Option<PrefixTrie>; PREFIX_FIELDS.len()],
    union: OnceLock<Mask<FlowKey>>,
}

impl<V: Clone> Classifier<V> {
    /// An empty classifier. `seed` should be secret: keys are chosen by attackers.
    pub fn new(seed: HashSeed) -> Self {
        Classifier {
            seed,
            subtables: Vec::new(),
            len: 0,
            tries: [const { None }; PREFIX_FIELDS.len()],
            union: OnceLock::new(),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of distinct masks.
    pub fn mask_count(&self) -> usize {
        self.subtables.len()
    }

    /// The distinct masks, those with the highest priority first.
    pub fn masks(&self) -> impl Iterator<Item = Mask<FlowKey>> {
        self.subtables.iter().map(|r| r.subtable.mask().expand())
    }

    /// Every bit that some match looks at. Computed at the first call after a mask has gone, else at hand.
    pub fn union_mask(&self) -> &Mask<FlowKey> {
        self.union.get_or_init(|| {
            let mut union = Mask::empty();
            self.subtables.iter().for_each(|r| r.subtable.mask().add_to(&mut union));
            union
        })
    }

    /// The value of highest priority whose match `key` satisfies.
    #[inline]
    pub fn lookup(&self, key: &FlowKey) -> Option<&V> {
        let mut best: Option<(u16, &V)> = None;
        let mut lens = [None; PREFIX_FIELDS.len()];
        let any_trie = self.tries.iter().any(Option::is_some);
        for ranked in &self.subtables {
            if best.is_some_and(|(priority, _)| priority >= ranked.priority_max) {
                break;
            }
            let subtable = &*ranked.subtable;
            if any_trie && self.excludes(subtable, key, &mut lens) {
                continue;
            }
            if let Some(node) = subtable.find(&self.seed, key)
                && best.is_none_or(|(priority, _)| node.priority > priority)
            {
                best = Some((node.priority, &node.value));
            }
        }
        best.map(|(_, value)| value)
    }

    /// Whether a trie knows that no match in `subtable` has the prefixes of `key`.
    #[inline]
    fn excludes(
        &self,
        subtable: &Subtable<V>,
        key: &FlowKey,
        lens: &mut [Option<PrefixLens>; PREFIX_FIELDS.len()],
    ) -> bool {
        let fields = self.tries.iter().zip(subtable.prefixes()).zip(lens).zip(PREFIX_FIELDS);
        for (((trie, prefix), lens), field) in fields {
            if let (Some(trie), Some(prefix)) = (trie, prefix) {
                let lens = lens.get_or_insert_with(|| trie.lookup(prefix_address(key.slot(*field), *field)));
                if !lens.has(*prefix) {
                    return true;
                }
            }
        }
        false
    }

    /// As [`Classifier::lookup`], and adds to `seen` the bits of the key that the answer depends on: changing any others
    /// changes nothing. The search follows OVS's order (metadata, Ethernet, network, transport) and stops at the first
    /// bit that settles it, so that the mask is about as wide as what OVS would show.
    ///
    /// For tracing: it walks all rules of the subtables it asks, where `lookup` hashes.
    pub fn lookup_traced(&self, key: &FlowKey, seen: &mut Mask<FlowKey>) -> Option<&V> {
        let mut best: Option<(u16, &V)> = None;
        for ranked in &self.subtables {
            if best.is_some_and(|(priority, _)| priority >= ranked.priority_max) {
                break;
            }
            if let Some(node) = trace::find(&ranked.subtable, &self.seed, key, seen)
                && best.is_none_or(|(priority, _)| node.priority > priority)
            {
                best = Some((node.priority, &node.value));
            }
        }
        best.map(|(_, value)| value)
    }

    fn position(&self, mask: &PackedMask) -> Option<usize> {
        self.subtables.iter().position(|r| **r.subtable.mask() == *mask)
    }

    /// `matching` in packed form. Matches packed by the classifier that holds them share their masks.
    pub fn pack(&self, matching: &Match) -> PackedMatch {
        let mask = PackedMask::new(matching.mask());
        let shared = self.position(&mask).and_then(|i| self.subtables.get(i));
        let mask = shared.map_or_else(|| Arc::new(mask), |r| Arc::clone(r.subtable.mask()));
        PackedMatch::with_mask(mask, matching.key())
    }

    /// The value with this very match and priority.
    pub fn find_exact(&self, matching: &PackedMatch, priority: u16) -> Option<&V> {
        let ranked = self.position(matching.mask()).and_then(|i| self.subtables.get(i))?;
        ranked.subtable.find_exact(&self.seed, matching.values())?.get(priority)
    }

    /// Puts a value in; gives the one with the same match and priority that it replaces.
    pub fn insert(&mut self, matching: &PackedMatch, priority: u16, value: V) -> Option<V> {
        let mut ranked = match self.position(matching.mask()) {
            Some(i) => self.subtables.remove(i),
            None => {
                if let Some(union) = self.union.get_mut() {
                    matching.mask().add_to(union);
                }
                let subtable = Subtable::new(Arc::clone(matching.mask()));
                Ranked { priority_max: 0, subtable: Arc::new(subtable) }
            }
        };
        let subtable = Arc::make_mut(&mut ranked.subtable);
        let replaced = subtable.insert(&self.seed, matching, priority, value);
        let (prefixes, fresh) = (*subtable.prefixes(), subtable.is_single());
        self.rank(ranked);
        if replaced.is_none() {
            self.len += 1;
            for (trie, (address, prefix)) in self.tries.iter_mut().zip(addresses(matching, &prefixes)) {
                if let (Some(trie), Some(prefix)) = (trie, prefix) {
                    trie.insert(address, prefix);
                }
            }
            if fresh {
                self.fit_tries();
            }
        }
        replaced
    }

    /// Takes the value with this match and priority out.
    pub fn remove(&mut self, matching: &PackedMatch, priority: u16) -> Option<V> {
        let position = self.position(matching.mask())?;
        let mut ranked = self.subtables.remove(position);
        let subtable = Arc::make_mut(&mut ranked.subtable);
        let removed = subtable.remove(&self.seed, matching.values(), priority);
        let (prefixes, empty) = (*subtable.prefixes(), subtable.is_empty());
        if removed.is_some() {
            self.len -= 1;
            for (trie, (address, prefix)) in self.tries.iter_mut().zip(addresses(matching, &prefixes)) {
                if let (Some(trie), Some(prefix)) = (trie, prefix) {
                    trie.remove(address, prefix);
                }
            }
        }
        if empty {
            self.union = OnceLock::new();
            self.fit_tries();
        } else {
            self.rank(ranked);
        }
        removed
    }

    /// Puts a subtable where its priority says.
    fn rank(&mut self, mut ranked: Ranked<V>) {
        ranked.priority_max = ranked.subtable.priority_max();
        let wanted = (Reverse(ranked.priority_max), &**ranked.subtable.mask());
        let at = self.subtables.partition_point(|r| (Reverse(r.priority_max), &**r.subtable.mask()) < wanted);
        self.subtables.insert(at, ranked);
    }

    /// Builds the tries that pay and drops those that do not any more.
    fn fit_tries(&mut self) {
        for (i, trie) in self.tries.iter_mut().enumerate() {
            let with_prefix = |r: &&Ranked<V>| r.subtable.prefixes().get(i).is_some_and(Option::is_some);
            let users = self.subtables.iter().filter(with_prefix).count();
            if trie.is_some() && users < TRIE_SUBTABLES_KEEP {
                *trie = None;
            } else if trie.is_none() && users >= TRIE_SUBTABLES_MIN {
                let mut built = PrefixTrie::new();
                for subtable in self.subtables.iter().filter(with_prefix).map(|r| &r.subtable) {
                    subtable.for_each_prefix(i, |address, len| built.insert(address, len));
                }
                *trie = Some(built);
            }
        }
    }

    /// Every value with its priority, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &V)> {
        self.subtables.iter().flat_map(|r| r.subtable.nodes()).flat_map(|node| node.all())
    }

    /// The values whose matches are subsets of `looser` ([`PackedMatch::is_subset_of`]), in no particular order. Passes
    /// over subtables whose mask excludes it.
    pub fn iter_subsets<'a>(&'a self, looser: &'a PackedMatch) -> impl Iterator<Item = (u16, &'a V)> {
        self.subtables
            .iter()
            .flat_map(move |r| r.subtable.subsets(&self.seed, looser))
            .flat_map(|node| node.all())
    }

    /// A value of this priority whose match overlaps `matching` ([`PackedMatch::overlaps`]) and is not the same. Looks at
    /// all rules of the subtables that have such a priority or a higher.
    pub fn find_overlap(&self, matching: &PackedMatch, priority: u16) -> Option<&V> {
        let able = self.subtables.iter().take_while(|r| r.priority_max >= priority);
        able.flat_map(|r| r.subtable.overlapping(matching)).find_map(|node| node.get(priority))
    }
}

/// The addresses of a match's prefixes, and how long these are.
fn addresses<'a>(
    matching: &'a PackedMatch,
    prefixes: &'a [Option<u8>],
) -> impl Iterator<Item = (u128, Option<u8>)> + 'a {
    PREFIX_FIELDS.iter().zip(prefixes).map(|(field, prefix)| (subtable::prefix_of(matching, *field), *prefix))
}
