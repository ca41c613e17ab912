//! The groups of a bridge. Shared copy-on-write like its rules: a clone is a snapshot for one reference count, and a change
//! copies the map of pointers only while a snapshot holds it.

use super::choose::{self, Maglev};
use super::{
    BUCKETS_MAX, Bucket, BucketId, GROUPS_MAX, GroupCommand, GroupError, GroupId, GroupMod, GroupType,
    Selection, SelectionMethod, check_group,
};
use crate::action::OfAction;
use crate::key::{FlowKey, Mask};
use base::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a group or bucket has done. Workers add, anyone reads.
#[derive(Debug, Default)]
pub struct GroupCounters {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl GroupCounters {
    /// Credits packets.
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes so far, from the Ethernet header on.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A group. It never changes: modifying makes another, which shares the group's counters.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// What it does with its buckets.
    pub kind: GroupType,
    /// How it chooses, if it is a select group.
    pub selection: Selection,
    /// Its buckets, in order.
    pub buckets: Vec<Bucket>,
    /// When it was added.
    pub created: Instant,
    /// What it has done.
    pub stats: Arc<GroupCounters>,
    /// What its buckets have done, in their order.
    pub bucket_stats: Vec<Arc<GroupCounters>>,
    maglev: Option<Maglev>,
}

impl Group {
    fn of(group_mod: &GroupMod, before: Option<&Group>, now: Instant) -> Group {
        Group {
            id: group_mod.group,
            kind: group_mod.kind,
            selection: group_mod.selection.clone(),
            buckets: Vec::new(),
            created: before.map_or(now, |g| g.created),
            stats: before.map(|g| Arc::clone(&g.stats)).unwrap_or_default(),
            bucket_stats: Vec::new(),
            maglev: None,
        }
    }

    /// Takes over buckets, numbering those without a number, and what follows from them.
    fn fill(&mut self, buckets: Vec<(Bucket, Arc<GroupCounters>)>) {
        let taken: BTreeSet<BucketId> = buckets.iter().map(|(b, _)| b.id).collect();
        let mut free = (0..=BucketId::MAX.0).map(BucketId).filter(|id| !taken.contains(id));
        (self.buckets, self.bucket_stats) = buckets
            .into_iter()
            .map(|(mut bucket, stats)| {
                if bucket.id == BucketId::ALL {
                    bucket.id = free.next().unwrap_or_default();
                }
                (bucket, stats)
            })
            .unzip();
        let size = match (self.kind, self.selection.method) {
            (GroupType::Select, SelectionMethod::Maglev) => choose::maglev_size(self.selection.param),
            _ => None,
        };
        self.maglev = size.map(|size| Maglev::build(&self.buckets, size));
    }

    /// Buckets with their counters.
    pub fn buckets_with_stats(&self) -> impl DoubleEndedIterator<Item = (&Bucket, &Arc<GroupCounters>)> {
        self.buckets.iter().zip(&self.bucket_stats)
    }

    /// The index of the bucket that a select group chooses for a packet, of those that are live. Pure.
    pub fn choose(&self, key: &FlowKey, is_live: impl Fn(&Bucket) -> bool) -> Option<usize> {
        let hash = choose::hash_of(&self.selection, key);
        let from_table = self.maglev.as_ref().and_then(|table| table.choose(hash));
        let live = from_table.filter(|i| self.buckets.get(*i).is_some_and(&is_live));
        live.or_else(|| choose::highest_random_weight(hash, &self.buckets, is_live))
    }

    /// The bits that choosing may read.
    pub fn reads(&self) -> Mask<FlowKey> {
        match self.kind {
            GroupType::Select => choose::reads(&self.selection),
            _ => Mask::empty(),
        }
    }

    /// Groups that its buckets lead to, or watch.
    fn leads_to(&self) -> impl Iterator<Item = GroupId> {
        let named = |action: &OfAction| match action {
            OfAction::Group(id) => Some(*id),
            _ => None,
        };
        let actions = self.buckets.iter().flat_map(|b| b.actions.iter());
        let watched = self.buckets.iter().map(|b| b.watch_group).filter(|g| *g != GroupId::ANY);
        actions.flat_map(move |a| std::iter::once(a).chain(a.inner()).filter_map(named)).chain(watched)
    }
}

/// One thing that happened to the groups.
#[derive(Clone, Debug)]
pub struct GroupChange {
    /// As it was; none if it was added.
    pub before: Option<Arc<Group>>,
    /// As it is; none if it was deleted.
    pub after: Option<Arc<Group>>,
}

/// The groups of one bridge.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: Arc<BTreeMap<GroupId, Arc<Group>>>,
}

impl Groups {
    /// A group.
    pub fn get(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.groups.get(&id)
    }

    /// The groups, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether nothing has changed since the other was cloned from this, or this from the other.
    pub fn is_same(&self, other: &Groups) -> bool {
        Arc::ptr_eq(&self.groups, &other.groups)
    }

    /// Numbers of the groups that differ from those of another set.
    pub fn differing(&self, other: &Groups) -> Vec<GroupId> {
        if self.is_same(other) {
            return Vec::new();
        }
        let same = |id: &GroupId| match (self.groups.get(id), other.groups.get(id)) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let ids: BTreeSet<GroupId> = self.groups.keys().chain(other.groups.keys()).copied().collect();
        ids.into_iter().filter(|id| !same(id)).collect()
    }

    /// Carries out a request. What it did is returned; on an error it has done nothing.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub fn apply(&mut self, group_mod: &GroupMod, now: Instant) -> Result<Vec<GroupChange>, GroupError> {
        group_mod.check()?;
        let before = self.groups.get(&group_mod.group).cloned();
        let after = match group_mod.command {
            GroupCommand::Add if before.is_some() => return Err(GroupError::GroupExists),
            GroupCommand::Modify | GroupCommand::InsertBuckets | GroupCommand::RemoveBuckets
                if before.is_none() =>
            {
                return Err(GroupError::UnknownGroup);
            }
            GroupCommand::Delete => return Ok(self.delete(group_mod.group)),
            GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify => {
                let mut group = Group::of(group_mod, before.as_deref(), now);
                // Counters of buckets start anew, those of the group go on (OpenFlow 1.5.1 §6.7).
                group.fill(group_mod.buckets.iter().map(|b| (b.clone(), Arc::default())).collect());
                group
            }
            GroupCommand::InsertBuckets | GroupCommand::RemoveBuckets => {
                let old = before.as_deref().ok_or(GroupError::UnknownGroup)?;
                let mut group = old.clone();
                group.fill(match group_mod.command {
                    GroupCommand::InsertBuckets => inserted(old, group_mod)?,
                    _ => removed(old, group_mod.place)?,
                });
                check_group(group.kind, &group.buckets, &group.selection)?;
                group
            }
        };
        self.put(before, after).map(|change| vec![change])
    }

    fn put(&mut self, before: Option<Arc<Group>>, after: Group) -> Result<GroupChange, GroupError> {
        if before.is_none() && self.groups.len() >= GROUPS_MAX {
            return Err(GroupError::OutOfGroups);
        }
        if self.leads_back(&after) {
            return Err(GroupError::Loop);
        }
        let after = Arc::new(after);
        Arc::make_mut(&mut self.groups).insert(after.id, Arc::clone(&after));
        Ok(GroupChange { before, after: Some(after) })
    }

    /// Whether a group, once it is in, would lead to itself.
    fn leads_back(&self, group: &Group) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<GroupId> = group.leads_to().collect();
        while let Some(id) = todo.pop() {
            if id == group.id {
                return true;
            }
            if seen.insert(id)
                && let Some(next) = self.groups.get(&id)
            {
                todo.extend(next.leads_to());
            }
        }
        false
    }

    /// Deleting what is not there is no error (OpenFlow 1.3.5 §6.5).
    fn delete(&mut self, id: GroupId) -> Vec<GroupChange> {
        let gone = |before| GroupChange { before: Some(before), after: None };
        if id == GroupId::ALL {
            return std::mem::take(&mut self.groups).values().cloned().map(gone).collect();
        }
        if !self.groups.contains_key(&id) {
            return Vec::new();
        }
        Arc::make_mut(&mut self.groups).remove(&id).map(gone).into_iter().collect()
    }
}

type Filled = Vec<(Bucket, Arc<GroupCounters>)>;

fn filled(group: &Group) -> Filled {
    group.buckets_with_stats().map(|(b, s)| (b.clone(), Arc::clone(s))).collect()
}

fn inserted(group: &Group, group_mod: &GroupMod) -> Result<Filled, GroupError> {
    let mut all = filled(group);
    if all.len() + group_mod.buckets.len() > BUCKETS_MAX {
        return Err(GroupError::OutOfBuckets);
    }
    if group_mod.buckets.iter().any(|new| all.iter().any(|(old, _)| old.id == new.id)) {
        return Err(GroupError::BucketExists);
    }
    let at = match group_mod.place {
        BucketId::FIRST => 0,
        BucketId::LAST => all.len(),
        id => all.iter().position(|(b, _)| b.id == id).ok_or(GroupError::UnknownBucket)? + 1,
    };
    // Who inserts does not say what type the group is of, so weights come where there are none.
    let weight = |b: &Bucket| if group.kind == GroupType::Select { b.weight } else { 0 };
    let new = group_mod.buckets.iter().map(|b| Bucket { weight: weight(b), ..b.clone() });
    all.splice(at..at, new.map(|b| (b, Arc::default())));
    Ok(all)
}

fn removed(group: &Group, place: BucketId) -> Result<Filled, GroupError> {
    let mut all = filled(group);
    match place {
        BucketId::ALL => all.clear(),
        BucketId::FIRST if !all.is_empty() => drop(all.remove(0)),
        BucketId::LAST if !all.is_empty() => drop(all.pop()),
        id => {
            let at = all.iter().position(|(b, _)| b.id == id).ok_or(GroupError::UnknownBucket)?;
            all.remove(at);
        }
    }
    Ok(all)
}
