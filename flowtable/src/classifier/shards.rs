//! The rules under one mask: a hash table that is cheap to clone and to change after cloning.
//!
//! A published snapshot shares every shard with its successor; a change copies the few shards on the way to one rule. So
//! a table is split in shards of at most [`SHARD_ENTRIES_MAX`] rules, reached through branches of sixteen by four bits of
//! the hash each: a tree that grows with the table, with no moment at which everything is rehashed.
//!
//! Each shard knows the highest priority in it, so that removal finds a table's new highest priority on its way.

use hashbrown::HashTable;
use hashbrown::hash_table::Iter;
use std::sync::Arc;

/// Entries at which a shard splits. Copying a shard costs a reference count an entry.
const SHARD_ENTRIES_MAX: usize = 32;
const FANOUT: usize = 16;
/// Below this many bits of the hash, shards do not split any more but grow: only equal hashes get there.
const SHIFT_MIN: u32 = 8;
/// First bits used for branching. The highest seven are hashbrown's tags, the lowest its bucket numbers.
const SHIFT_FIRST: u32 = 52;

/// Rules with the same match: one of them counts, the others are hidden behind its priority.
#[derive(Clone, Debug)]
pub(super) struct Node<V> {
    /// The words under the mask.
    pub values: Box<[u64]>,
    /// Priority of `value`, the highest.
    pub priority: u16,
    /// What a look-up finds.
    pub value: V,
    /// The others, by falling priority.
    pub hidden: Vec<(u16, V)>,
}

impl<V> Node<V> {
    fn insert(&mut self, priority: u16, value: V) -> Option<V> {
        if priority == self.priority {
            return Some(std::mem::replace(&mut self.value, value));
        }
        if priority > self.priority {
            let (old_priority, old) =
                (std::mem::replace(&mut self.priority, priority), std::mem::replace(&mut self.value, value));
            self.hidden.insert(0, (old_priority, old));
            return None;
        }
        match self.hidden.binary_search_by(|(p, _)| priority.cmp(p)) {
            Ok(i) => self.hidden.get_mut(i).map(|(_, v)| std::mem::replace(v, value)),
            Err(i) => {
                self.hidden.insert(i, (priority, value));
                None
            }
        }
    }

    /// The value with this very priority.
    pub fn get(&self, priority: u16) -> Option<&V> {
        if priority == self.priority {
            return Some(&self.value);
        }
        self.hidden.iter().find(|(p, _)| *p == priority).map(|(_, v)| v)
    }

    /// All values with their priorities.
    pub fn all(&self) -> impl Iterator<Item = (u16, &V)> {
        std::iter::once((self.priority, &self.value)).chain(self.hidden.iter().map(|(p, v)| (*p, v)))
    }
}

/// A node and the hash of its values.
#[derive(Debug)]
pub(super) struct Entry<V> {
    hash: u64,
    node: Arc<Node<V>>,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Entry { hash: self.hash, node: Arc::clone(&self.node) }
    }
}

impl<V> Entry<V> {
    #[inline]
    fn is(&self, hash: u64, same: impl Fn(&[u64]) -> bool) -> bool {
        self.hash == hash && same(&self.node.values)
    }
}

/// A rule on its way in.
pub(super) struct Insertion<V> {
    pub hash: u64,
    pub values: Box<[u64]>,
    pub priority: u16,
    pub value: V,
}

impl<V> Insertion<V> {
    fn into_entry(self) -> Entry<V> {
        let Insertion { hash, values, priority, value } = self;
        Entry { hash, node: Arc::new(Node { values, priority, value, hidden: Vec::new() }) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Leaf<V> {
    priority_max: u16,
    table: HashTable<Entry<V>>,
}

impl<V> Leaf<V> {
    fn measure(&mut self) {
        self.priority_max = self.table.iter().map(|e| e.node.priority).max().unwrap_or(0);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Branch<V> {
    priority_max: u16,
    shards: [Shard<V>; FANOUT],
}

#[derive(Debug)]
pub(super) enum Shard<V> {
    Empty,
    One(Entry<V>),
    Leaf(Arc<Leaf<V>>),
    Branch(Arc<Branch<V>>),
}

impl<V> Clone for Shard<V> {
    fn clone(&self) -> Self {
        match self {
            Shard::Empty => Shard::Empty,
            Shard::One(entry) => Shard::One(entry.clone()),
            Shard::Leaf(leaf) => Shard::Leaf(Arc::clone(leaf)),
            Shard::Branch(branch) => Shard::Branch(Arc::clone(branch)),
        }
    }
}

#[inline]
const fn pick(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize % FANOUT
}

impl<V> Shard<V> {
    /// Highest priority in it.
    pub fn priority_max(&self) -> Option<u16> {
        match self {
            Shard::Empty => None,
            Shard::One(entry) => Some(entry.node.priority),
            Shard::Leaf(leaf) => Some(leaf.priority_max),
            Shard::Branch(branch) => Some(branch.priority_max),
        }
    }

    /// The only node, if there is just one: no hash is needed to find it.
    #[inline]
    pub fn single(&self) -> Option<&Node<V>> {
        match self {
            Shard::One(entry) => Some(&entry.node),
            _ => None,
        }
    }

    /// The node with this hash whose values are the `same`.
    #[inline]
    pub fn find(&self, hash: u64, same: impl Fn(&[u64]) -> bool) -> Option<&Node<V>> {
        let (mut shard, mut shift) = (self, SHIFT_FIRST);
        loop {
            match shard {
                Shard::Empty => return None,
                Shard::One(entry) => return entry.is(hash, same).then_some(&*entry.node),
                Shard::Leaf(leaf) => return leaf.table.find(hash, |e| e.is(hash, &same)).map(|e| &*e.node),
                Shard::Branch(branch) => {
                    shard = branch.shards.get(pick(hash, shift))?;
                    shift = shift.saturating_sub(4);
                }
            }
        }
    }

    /// All nodes, in no particular order.
    pub fn nodes(&self) -> Nodes<'_, V> {
        Nodes { stack: vec![self], leaf: None }
    }
}

impl<V: Clone> Shard<V> {
    /// Puts a rule in; gives the one with the same match and priority that it replaces.
    pub fn insert(&mut self, insertion: Insertion<V>) -> Option<V> {
        self.insert_below(insertion, SHIFT_FIRST)
    }

    fn insert_below(&mut self, insertion: Insertion<V>, shift: u32) -> Option<V> {
        match self {
            Shard::Empty => {
                *self = Shard::One(insertion.into_entry());
                None
            }
            Shard::One(entry) => {
                if entry.is(insertion.hash, |values| *values == *insertion.values) {
                    return Arc::make_mut(&mut entry.node).insert(insertion.priority, insertion.value);
                }
                let mut table = HashTable::with_capacity(2);
                let second = insertion.into_entry();
                table.insert_unique(entry.hash, entry.clone(), |e| e.hash);
                table.insert_unique(second.hash, second, |e| e.hash);
                let mut leaf = Leaf { priority_max: 0, table };
                leaf.measure();
                *self = Shard::Leaf(Arc::new(leaf));
                None
            }
            Shard::Leaf(leaf) => {
                let leaf = Arc::make_mut(leaf);
                leaf.priority_max = leaf.priority_max.max(insertion.priority);
                let same = |e: &Entry<V>| e.is(insertion.hash, |values| *values == *insertion.values);
                if let Some(entry) = leaf.table.find_mut(insertion.hash, same) {
                    return Arc::make_mut(&mut entry.node).insert(insertion.priority, insertion.value);
                }
                leaf.table.insert_unique(insertion.hash, insertion.into_entry(), |e| e.hash);
                if leaf.table.len() > SHARD_ENTRIES_MAX && shift >= SHIFT_MIN {
                    *self = split(leaf, shift);
                }
                None
            }
            Shard::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                branch.priority_max = branch.priority_max.max(insertion.priority);
                let shard = branch.shards.get_mut(pick(insertion.hash, shift))?;
                shard.insert_below(insertion, shift.saturating_sub(4))
            }
        }
    }

    /// Takes the rule with this match and priority out.
    pub fn remove(&mut self, hash: u64, values: &[u64], priority: u16) -> Option<V> {
        self.remove_below(hash, values, priority, SHIFT_FIRST)
    }

    fn remove_below(&mut self, hash: u64, values: &[u64], priority: u16, shift: u32) -> Option<V> {
        let same = |e: &Entry<V>| e.is(hash, |v| *v == *values);
        match self {
            Shard::Empty => None,
            Shard::One(entry) => {
                if !same(entry) {
                    return None;
                }
                let (value, empty) = remove_from_node(&mut entry.node, priority)?;
                if empty {
                    *self = Shard::Empty;
                }
                Some(value)
            }
            Shard::Leaf(leaf) => {
                let leaf = Arc::make_mut(leaf);
                let mut found = leaf.table.find_entry(hash, same).ok()?;
                let (value, empty) = remove_from_node(&mut found.get_mut().node, priority)?;
                if empty {
                    found.remove();
                }
                leaf.measure();
                if leaf.table.len() <= 1 {
                    *self = leaf.table.iter().next().map_or(Shard::Empty, |e| Shard::One(e.clone()));
                }
                Some(value)
            }
            Shard::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let shard = branch.shards.get_mut(pick(hash, shift))?;
                let value = shard.remove_below(hash, values, priority, shift.saturating_sub(4))?;
                match branch.shards.iter().filter_map(Shard::priority_max).max() {
                    Some(highest) => branch.priority_max = highest,
                    None => *self = Shard::Empty,
                }
                Some(value)
            }
        }
    }
}

/// Takes a priority out of a node; says whether that was the last.
fn remove_from_node<V: Clone>(node: &mut Arc<Node<V>>, priority: u16) -> Option<(V, bool)> {
    node.get(priority)?;
    if node.hidden.is_empty() {
        return Some((node.value.clone(), true));
    }
    let node = Arc::make_mut(node);
    if priority != node.priority {
        let i = node.hidden.iter().position(|(p, _)| *p == priority)?;
        return Some((node.hidden.remove(i).1, false));
    }
    let (next_priority, next) = node.hidden.remove(0);
    node.priority = next_priority;
    Some((std::mem::replace(&mut node.value, next), false))
}

fn split<V: Clone>(leaf: &Leaf<V>, shift: u32) -> Shard<V> {
    let mut tables: [HashTable<Entry<V>>; FANOUT] = std::array::from_fn(|_| HashTable::new());
    for entry in &leaf.table {
        if let Some(table) = tables.get_mut(pick(entry.hash, shift)) {
            table.insert_unique(entry.hash, entry.clone(), |e| e.hash);
        }
    }
    let shards = tables.map(|table| match table.len() {
        0 => Shard::Empty,
        1 => table.into_iter().next().map_or(Shard::Empty, Shard::One),
        _ => {
            let mut leaf = Leaf { priority_max: 0, table };
            leaf.measure();
            Shard::Leaf(Arc::new(leaf))
        }
    });
    Shard::Branch(Arc::new(Branch { priority_max: leaf.priority_max, shards }))
}

/// Iterator over the nodes of a [`Shard`].
pub(super) struct Nodes<'a, V> {
    stack: Vec<&'a Shard<V>>,
    leaf: Option<Iter<'a, Entry<V>>>,
}

impl<'a, V> Iterator for Nodes<'a, V> {
    type Item = &'a Node<V>;

    fn next(&mut self) -> Option<&'a Node<V>> {
        loop {
            if let Some(entry) = self.leaf.as_mut().and_then(Iterator::next) {
                return Some(&entry.node);
            }
            self.leaf = None;
            match self.stack.pop()? {
                Shard::Empty => {}
                Shard::One(entry) => return Some(&entry.node),
                Shard::Leaf(leaf) => self.leaf = Some(leaf.table.iter()),
                Shard::Branch(branch) => self.stack.extend(&branch.shards),
            }
        }
    }
}
