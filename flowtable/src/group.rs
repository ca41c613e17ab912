//! Groups (OpenFlow 1.5.1 §5.10).

/// Number of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u32);

impl GroupId {
    /// Highest number that a group can have (`OFPG_MAX`).
    pub const MAX: GroupId = GroupId(0xffff_ff00);
    /// Every group, in requests (`OFPG_ALL`).
    pub const ALL: GroupId = GroupId(0xffff_fffc);
    /// No group in particular, in filters (`OFPG_ANY`).
    pub const ANY: GroupId = GroupId(0xffff_ffff);
}
