//! What switches say about groups. The request that changes them is [`flowtable::group::GroupMod`].

use flowtable::GroupId;
use flowtable::group::{Bucket, GroupType, Selection};
use std::time::Duration;

/// A group (`ofp_group_desc`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDesc {
    /// Its number.
    pub group: GroupId,
    /// Its type.
    pub kind: GroupType,
    /// Its buckets, in order; without numbers (`BucketId::ALL`) where the version has none (1.3, 1.4).
    pub buckets: Vec<Bucket>,
    /// How it chooses; the default where the version does not say (1.3, 1.4).
    pub selection: Selection,
}

/// Packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PacketCount {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Statistics of a group (`ofp_group_stats`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStats {
    /// Its number.
    pub group: GroupId,
    /// Rules and groups that lead to it.
    pub references: u32,
    /// What it has done.
    pub total: PacketCount,
    /// Its age.
    pub duration: Duration,
    /// What its buckets have done, in their order.
    pub buckets: Vec<PacketCount>,
}

/// `ofp_group_capabilities`: bits.
pub mod group_capability {
    /// Buckets of select groups have weights.
    pub const SELECT_WEIGHT: u32 = 1;
    /// Buckets of select groups watch ports and groups.
    pub const SELECT_LIVENESS: u32 = 2;
    /// Groups may lead to groups.
    pub const CHAINING: u32 = 4;
    /// A chain that would lead back is refused.
    pub const CHAINING_CHECKS: u32 = 8;
}
