//! Groups and meters.
//!
//! A bucket is carried out as an action set on the frame as it was when the group was met, and what it does to the frame
//! is undone behind it, or done to a copy if it cannot be. Which bucket a select group takes is a function of the group
//! and the key, of bits that are in the profile.

use super::actions::ordered;
use super::{Actions, DEPTH_MAX, Level, RESUBMITS_MAX, Source, Step, Walk};
use crate::forwarding::{group_domain, meter_domain};
use crate::trace::Note;
use datapath::{DpAction, Drop};
use flowtable::group::{Bucket, BucketId, Group, GroupType};
use flowtable::{GroupId, MeterId, OfAction, OfPort, Words};
use packet::key::slot;
use std::sync::Arc;

/// How long a chain of groups that watch each other may be (as in OVS).
const LIVENESS_DEPTH_MAX: usize = 128;

impl Walk<'_> {
    /// `group:N`.
    pub(super) fn group(&mut self, id: GroupId) -> Step {
        let domain = group_domain(self.bridge.id(), id);
        self.depend(domain, self.bridge.group_revision(id.0 as u16));
        let Some(group) = self.bridge.groups().get(id).cloned() else {
            self.note(Note::Warn, || format!("group {} does not exist", id.0));
            self.why(Drop::NoAction);
            return Step::Next;
        };
        self.room.others.groups.push(Arc::clone(&group.stats));
        let chosen: Vec<usize> = match group.kind {
            GroupType::All => (0..group.buckets.len()).collect(),
            GroupType::Indirect => vec![0],
            GroupType::Select => self.select(&group).into_iter().collect(),
            GroupType::FastFailover => self.first_live(&group).into_iter().collect(),
        };
        if chosen.is_empty() {
            self.why(Drop::NoAction);
        }
        for index in chosen {
            let step = self.bucket(&group, index);
            if self.failed {
                return step;
            }
        }
        Step::Next
    }

    fn bucket(&mut self, group: &Group, index: usize) -> Step {
        let (Some(bucket), Some(stats)) = (group.buckets.get(index), group.bucket_stats.get(index)) else {
            return Step::Next;
        };
        let depth = self.depth() + 1;
        self.resubmits += 1;
        if self.resubmits > RESUBMITS_MAX {
            self.fail("over 4096 resubmit actions");
            return Step::Leave;
        }
        if depth > DEPTH_MAX {
            self.fail("over max translation depth 64");
            return Step::Leave;
        }
        self.room.others.groups.push(Arc::clone(stats));
        if let Some(trace) = &mut self.trace {
            trace.enter(Note::Bucket, format!("bucket {index}"));
        }
        if bucket.actions.is_empty() {
            self.why(Drop::NoAction);
        }
        // In an action set `exit` means nothing (ovs-actions(7), Action Sets).
        let set = bucket.actions.iter().filter(|a| **a != OfAction::Exit).cloned().collect::<Vec<_>>();
        let (table, cookie) = (self.table(), self.cookie());
        let actions = Actions::Own(ordered(&set).into());
        self.isolated(vec![Level { actions, next: 0, table, cookie, depth, source: Source::Bucket }])
    }

    fn select(&mut self, group: &Group) -> Option<usize> {
        let reads = group.reads();
        if let Some(trace) = &mut self.trace {
            trace.seen.union(&reads);
        }
        let mut dead: Vec<BucketId> = Vec::new();
        for (index, bucket) in group.buckets.iter().enumerate() {
            if !self.is_live(index, bucket, 0) {
                dead.push(bucket.id);
            }
        }
        let chosen = group.choose(&self.flow, |bucket| !dead.contains(&bucket.id));
        self.note_choice(chosen)
    }

    fn first_live(&mut self, group: &Group) -> Option<usize> {
        let mut live = None;
        for (index, bucket) in group.buckets.iter().enumerate() {
            if self.is_live(index, bucket, 0) {
                live = Some(index);
                break;
            }
        }
        self.note_choice(live)
    }

    fn note_choice(&mut self, chosen: Option<usize>) -> Option<usize> {
        self.note(Note::Detail, || match chosen {
            Some(index) => format!("using bucket {index}"),
            None => "no live bucket".to_owned(),
        });
        chosen
    }

    /// Whether a bucket can be used: it watches nothing, or one of what it watches lives. Every walk depends on the
    /// settings of its bridge, ports among them.
    fn is_live(&mut self, index: usize, bucket: &Bucket, depth: usize) -> bool {
        if !bucket.watches() {
            return true;
        }
        let port = bucket.watch_port;
        if port != OfPort::ANY && self.bridge.port(port).is_some_and(|p| p.is_live()) {
            return true;
        }
        if bucket.watch_group != GroupId::ANY && self.group_lives(bucket.watch_group, depth) {
            return true;
        }
        if depth == 0 {
            self.note(Note::Detail, || match port {
                OfPort::ANY => format!("bucket {index}: not live due to group {}", bucket.watch_group.0),
                port => format!("bucket {index}: not live due to port {port}"),
            });
        }
        false
    }

    /// Whether a group has a live bucket.
    fn group_lives(&mut self, id: GroupId, depth: usize) -> bool {
        let domain = group_domain(self.bridge.id(), id);
        self.depend(domain, self.bridge.group_revision(id.0 as u16));
        if depth >= LIVENESS_DEPTH_MAX {
            return false;
        }
        let Some(group) = self.bridge.groups().get(id).cloned() else { return false };
        group.buckets.iter().enumerate().any(|(i, bucket)| self.is_live(i, bucket, depth + 1))
    }

    /// `meter:N`. A band may change the DSCP behind the program's back: what was written of it so far is done before, and
    /// what is written later is written whatever stands there.
    pub(super) fn meter(&mut self, id: MeterId) {
        self.depend(meter_domain(self.bridge.id(), id), self.bridge.meter_revision(id.0 as u16));
        let Some(entry) = self.bridge.meters().get(id) else {
            return self.note(Note::Warn, || format!("meter {} does not exist", id.0));
        };
        self.commit();
        self.room.out.push(DpAction::Meter(Arc::clone(&entry.state)));
        if entry.remarks() {
            let unknown = self.flow.slot(slot::NW_TOS) ^ slot::NW_TOS.ones();
            self.base.set_slot(slot::NW_TOS, unknown);
            self.touched.0.set(slot::NW_TOS, 0);
        }
    }
}
