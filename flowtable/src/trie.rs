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
    fn add(&mut self, len: u8) {
        match len {
            0 => self.zero = true,
            _ => self.positive |= 1 << (len - 1),
        }
    }

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

/// Bit `i` counted from the front, as an index of children.
const fn side(address: u128, i: u8) -> usize {
    (address >> (127 - (i & 127)) & 1) as usize
}

#[derive(Clone, Debug)]
struct Node {
    /// The bits from the root to here, zero behind `len`.
    prefix: u128,
    len: u8,
    /// How often the prefix is in the set; 0 in a node that is there for its children only.
    count: u32,
    children: [Option<Arc<Node>>; 2],
}

impl Node {
    fn leaf(prefix: u128, len: u8) -> Arc<Node> {
        Arc::new(Node { prefix, len, count: 1, children: [None, None] })
    }

    fn holds(&self, address: u128) -> bool {
        head(address, self.len) == self.prefix
    }
}

/// A multiset of prefixes.
#[derive(Clone, Debug, Default)]
pub struct PrefixTrie {
    root: Option<Arc<Node>>,
}

impl PrefixTrie {
    /// No prefix.
    pub const fn new() -> Self {
        PrefixTrie { root: None }
    }

    /// Whether no prefix is in the set.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Adds the first `len` (at most 128) bits of `address`.
    pub fn insert(&mut self, address: u128, len: u8) {
        let len = len.min(128);
        insert(&mut self.root, head(address, len), len);
    }

    /// Takes a prefix out once; does nothing if it is not in the set.
    pub fn remove(&mut self, address: u128, len: u8) {
        let len = len.min(128);
        remove(&mut self.root, head(address, len), len);
    }

    /// The lengths of those prefixes in the set that match `address`.
    pub fn lookup(&self, address: u128) -> PrefixLens {
        let mut lens = PrefixLens::default();
        let mut next = &self.root;
        while let Some(node) = next {
            if !node.holds(address) {
                break;
            }
            if node.count > 0 {
                lens.add(node.len);
            }
            if node.len == 128 {
                break;
            }
            next = &node.children[side(address, node.len)];
        }
        lens
    }
}

fn insert(place: &mut Option<Arc<Node>>, prefix: u128, len: u8) {
    let Some(arc) = place else {
        *place = Some(Node::leaf(prefix, len));
        return;
    };
    let common = ((arc.prefix ^ prefix).leading_zeros() as u8).min(arc.len).min(len);
    if common == arc.len {
        let node = Arc::make_mut(arc);
        if len == node.len {
            node.count = node.count.saturating_add(1);
        } else {
            insert(&mut node.children[side(prefix, node.len)], prefix, len);
        }
        return;
    }
    let mut above = Node { prefix: head(prefix, common), len: common, count: 0, children: [None, None] };
    above.children[side(arc.prefix, common)] = Some(Arc::clone(arc));
    if common == len {
        above.count = 1;
    } else {
        above.children[side(prefix, common)] = Some(Node::leaf(prefix, len));
    }
    *place = Some(Arc::new(above));
}

fn remove(place: &mut Option<Arc<Node>>, prefix: u128, len: u8) {
    let Some(arc) = place else { return };
    if arc.len > len || !arc.holds(prefix) {
        return;
    }
    let node = Arc::make_mut(arc);
    if node.len == len {
        node.count = node.count.saturating_sub(1);
    } else {
        remove(&mut node.children[side(prefix, node.len)], prefix, len);
    }
    // A node without a prefix of its own is needed only where two children part.
    if node.count == 0 {
        match &mut node.children {
            [None, None] => *place = None,
            [Some(_), Some(_)] => {}
            [only, None] | [None, only] => *place = only.take(),
        }
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
        (0u128..64, prop_oneof![0u8..=6, Just(127), Just(128)])
            .prop_map(|(bits, len)| (bits << 122 | bits & 3, len))
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
        }
    }
}
