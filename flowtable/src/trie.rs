//! A set of prefixes that tells, for an address, which lengths of prefix in the set match it.
//!
//! The classifier asks it once and then passes over every subtable whose prefix length is not in the answer. Nodes are
//! shared between clones; a change copies the nodes on the way to one prefix. Addresses are 128 bits, shorter ones stand
//! in the high bits.

use std::sync::Arc;

/// Lengths of prefixes, 0 to 128.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PrefixLens {
    /// Bit `n - 1` is set for length `n`.
    positive: u128,
    zero: bool,
}

impl PrefixLens {
    /// Whether a length is among them.
    #[inline]
    pub fn has(&self, len: u8) -> bool {
        match len {
            0 => self.zero,
            1..=128 => self.positive >> (len - 1) & 1 == 1,
            _ => false,
        }
    }
}

/// The first `len` bits of an address, the others zero.
const fn head(address: u128, len: u8) -> u128 {
    if len == 0 { 0 } else { address & u128::MAX << (128 - len as u32) }
}

/// The four bits of an address behind the first `len`.
const fn nibble(address: u128, len: u8) -> usize {
    (address << len >> 124) as usize
}

/// Length at which the node that has the prefixes of this length stands.
const fn home(len: u8) -> u8 {
    (len - 1) / STRIDE * STRIDE
}

/// Bits of an address that one node tells apart.
const STRIDE: u8 = 4;
/// Bits of an address.
const WIDTH: u8 = 128;

/// The prefixes that are one to four bits longer than what they have in common, and what is longer still. A search for one of a
/// hundred thousand prefixes meets some five nodes, where it would meet seventeen of one bit each.
#[derive(Clone, Debug)]
struct Node {
    /// The bits from the root to here, zero behind `len`.
    prefix: u128,
    /// A multiple of [`STRIDE`].
    len: u8,
    /// Which nibbles behind `prefix` have a child.
    present: u16,
    /// Which prefixes of one to four bits behind `prefix` are in the set, by [`place`].
    own: u32,
    /// By nibble.
    children: Box<[Arc<Node>]>,
    /// Prefixes of `own` that are in the set more than once; few nodes have such.
    more: Option<Box<More>>,
}

/// Bits of [`Node::own`], and how often more than once each.
#[derive(Clone, Debug, Default)]
struct More(Vec<(u32, u32)>);

/// Bit of [`Node::own`] for the first `bits` (1 to 4) bits of a nibble: two of one bit come first, then four of two, and so on.
const fn place(nibble: usize, bits: u8) -> u32 {
    (1 << bits) - 2 + (nibble >> (STRIDE - bits)) as u32
}

impl Node {
    /// A node with one prefix.
    fn leaf(prefix: u128, len: u8) -> Arc<Node> {
        let mut node = Node::bare(prefix, home(len));
        node.add(prefix, len);
        Arc::new(node)
    }

    fn bare(address: u128, len: u8) -> Node {
        let prefix = head(address, len);
        Node { prefix, len, present: 0, own: 0, children: Box::default(), more: None }
    }

    fn holds(&self, address: u128) -> bool {
        head(address, self.len) == self.prefix
    }

    /// Lengths beyond `len` of own prefixes that match an address whose next bits are `nibble`: bit `n` for `len + n + 1`.
    #[inline]
    fn matching(&self, nibble: usize) -> u32 {
        (1..=STRIDE).fold(0, |lens, bits| lens | (self.own >> place(nibble, bits) & 1) << (bits - 1))
    }

    /// Where the child of a nibble stands, or would.
    #[inline]
    fn position(&self, nibble: usize) -> usize {
        (self.present & ((1u16 << nibble) - 1)).count_ones() as usize
    }

    #[inline]
    fn child(&self, nibble: usize) -> Option<&Arc<Node>> {
        if self.present >> nibble & 1 == 0 {
            return None;
        }
        self.children.get(self.position(nibble))
    }

    fn add_child(&mut self, nibble: usize, child: Arc<Node>) {
        let at = self.position(nibble);
        let mut children = std::mem::take(&mut self.children).into_vec();
        children.insert(at, child);
        self.children = children.into();
        self.present |= 1 << nibble;
    }

    fn remove_child(&mut self, nibble: usize) {
        let at = self.position(nibble);
        let mut children = std::mem::take(&mut self.children).into_vec();
        children.remove(at);
        self.children = children.into();
        self.present &= !(1 << nibble);
    }

    /// Adds a prefix whose home is here.
    fn add(&mut self, prefix: u128, len: u8) {
        let place = place(nibble(prefix, self.len), len - self.len);
        if self.own >> place & 1 == 0 {
            self.own |= 1 << place;
            return;
        }
        let More(more) = &mut **self.more.get_or_insert_default();
        match more.iter_mut().find(|(p, _)| *p == place) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => more.push((place, 1)),
        }
    }

    /// Takes a prefix whose home is here out once.
    fn take(&mut self, prefix: u128, len: u8) {
        let place = place(nibble(prefix, self.len), len - self.len);
        if let Some(More(more)) = self.more.as_deref_mut()
            && let Some(at) = more.iter().position(|(p, _)| *p == place)
        {
            if let Some((_, times)) = more.get_mut(at)
                && *times > 1
            {
                *times -= 1;
            } else {
                more.swap_remove(at);
            }
            if more.is_empty() {
                self.more = None;
            }
            return;
        }
        self.own &= !(1 << place);
    }
}

/// A multiset of prefixes.
#[derive(Clone, Debug, Default)]
pub struct PrefixTrie {
    root: Option<Arc<Node>>,
    /// How often the empty prefix is in it.
    empty: u32,
}

impl PrefixTrie {
    /// No prefix.
    pub const fn new() -> Self {
        PrefixTrie { root: None, empty: 0 }
    }

    /// Whether no prefix is in the set.
    pub fn is_empty(&self) -> bool {
        self.root.is_none() && self.empty == 0
    }

    /// Adds the first `len` (at most 128) bits of `address`.
    pub fn insert(&mut self, address: u128, len: u8) {
        let len = len.min(WIDTH);
        if len == 0 {
            self.empty = self.empty.saturating_add(1);
            return;
        }
        let prefix = head(address, len);
        match &mut self.root {
            Some(root) => insert(root, prefix, len),
            None => self.root = Some(Node::leaf(prefix, len)),
        }
    }

    /// Takes a prefix out once; does nothing if it is not in the set.
    pub fn remove(&mut self, address: u128, len: u8) {
        let len = len.min(WIDTH);
        if len == 0 {
            self.empty = self.empty.saturating_sub(1);
        } else if let Some(root) = &mut self.root
            && remove(root, head(address, len), len)
        {
            self.root = None;
        }
    }

    /// The lengths of those prefixes in the set that match `address`.
    pub fn lookup(&self, address: u128) -> PrefixLens {
        let mut lens = PrefixLens { positive: 0, zero: self.empty > 0 };
        let mut next = self.root.as_ref();
        while let Some(node) = next
            && node.holds(address)
        {
            let nibble = nibble(address, node.len);
            lens.positive |= u128::from(node.matching(nibble)) << node.len;
            next = node.child(nibble);
        }
        lens
    }
}

fn insert(arc: &mut Arc<Node>, prefix: u128, len: u8) {
    let home = home(len);
    let equal = (arc.prefix ^ prefix).leading_zeros() as u8 / STRIDE * STRIDE;
    let common = equal.min(arc.len).min(home);
    if common < arc.len {
        let mut above = Node::bare(prefix, common);
        above.add_child(nibble(arc.prefix, common), Arc::clone(arc));
        match common == home {
            true => above.add(prefix, len),
            false => above.add_child(nibble(prefix, common), Node::leaf(prefix, len)),
        }
        *arc = Arc::new(above);
        return;
    }
    let node = Arc::make_mut(arc);
    if node.len == home {
        return node.add(prefix, len);
    }
    let nibble = nibble(prefix, node.len);
    if node.child(nibble).is_none() {
        return node.add_child(nibble, Node::leaf(prefix, len));
    }
    let at = node.position(nibble);
    if let Some(child) = node.children.get_mut(at) {
        insert(child, prefix, len);
    }
}

/// Says whether nothing is left.
fn remove(arc: &mut Arc<Node>, prefix: u128, len: u8) -> bool {
    if arc.len > home(len) || !arc.holds(prefix) {
        return false;
    }
    let node = Arc::make_mut(arc);
    if node.len == home(len) {
        node.take(prefix, len);
    } else {
        let nibble = nibble(prefix, node.len);
        if node.child(nibble).is_none() {
            return false;
        }
        let at = node.position(nibble);
        if node.children.get_mut(at).is_some_and(|child| remove(child, prefix, len)) {
            node.remove_child(nibble);
        }
    }
    // A node without a prefix of its own is needed only where children part.
    match &*node.children {
        [] => node.own == 0,
        [only] if node.own == 0 => {
            *arc = Arc::clone(only);
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn v4(a: u8, b: u8, c: u8, d: u8) -> u128 {
        (u32::from_be_bytes([a, b, c, d]) as u128) << 96
    }

    #[test]
    fn nested_prefixes() {
        let mut trie = PrefixTrie::new();
        for (address, len) in [(v4(10, 0, 0, 0), 8), (v4(10, 1, 0, 0), 16), (v4(192, 168, 0, 0), 16)] {
            trie.insert(address, len);
        }
        let lens = |address| (0..=128).filter(|n| trie.lookup(address).has(*n)).collect::<Vec<u8>>();
        assert_eq!(lens(v4(10, 1, 2, 3)), [8, 16]);
        assert_eq!(lens(v4(10, 2, 2, 3)), [8]);
        assert_eq!(lens(v4(192, 168, 9, 9)), [16]);
        assert_eq!(lens(v4(172, 16, 0, 1)), Vec::<u8>::new());
    }

    /// Few distinct bits, so that prefixes often coincide or nest.
    fn prefix() -> impl Strategy<Value = (u128, u8)> {
        (0u128..64, prop_oneof![0u8..=9, 119u8..=128])
            .prop_map(|(bits, len)| (bits << 122 | bits << 58 & 3 << 60 | bits & 3 | bits << 5 & 0x60, len))
    }

    /// What is left after removals is what would be there without them: no node stays that is not needed.
    fn shape(node: &Node) -> Vec<(u128, u8, u32)> {
        let below = node.children.iter().flat_map(|child| shape(child));
        std::iter::once((node.prefix, node.len, node.own)).chain(below).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(ops in prop::collection::vec((any::<bool>(), prefix()), 0..60), asked in prefix()) {
            let (mut trie, mut list) = (PrefixTrie::new(), Vec::new());
            for (add, (address, len)) in ops {
                let key = (head(address, len), len);
                if add {
                    trie.insert(address, len);
                    list.push(key);
                } else {
                    let before = trie.clone();
                    trie.remove(address, len);
                    if let Some(i) = list.iter().position(|k| *k == key) {
                        prop_assert!(before.lookup(address).has(len));
                        list.swap_remove(i);
                    }
                }
                for n in 0..=128 {
                    let expected = list.iter().any(|(a, l)| *l == n && *a == head(asked.0, n));
                    prop_assert_eq!(trie.lookup(asked.0).has(n), expected, "length {}", n);
                }
            }
            prop_assert_eq!(trie.is_empty(), list.is_empty());
            let mut fresh = PrefixTrie::new();
            list.iter().for_each(|(address, len)| fresh.insert(*address, *len));
            prop_assert_eq!(trie.root.as_deref().map(shape), fresh.root.as_deref().map(shape));
        }
    }
}
