//! Groups (OpenFlow 1.5.1 §5.10, ovs-ofctl(8)): what a group is, requests to change groups, and what is wrong with them.
//! The groups of a bridge are in [`table`], how a bucket is chosen in [`choose`].

pub mod choose;
pub mod table;

pub use table::{Group, GroupChange, GroupCounters, Groups};

use crate::action::OfAction;
use crate::field::FieldId;
use crate::port::OfPort;
use std::sync::Arc;
use thiserror::Error;

/// Buckets that a group may have.
pub const BUCKETS_MAX: usize = 4_096;
/// Groups that a bridge may have.
pub const GROUPS_MAX: usize = 65_536;
/// Bytes of a selection method's name, its end not counted (`NTR_MAX_SELECTION_METHOD_LEN`).
pub const METHOD_NAME_MAX: usize = 15;

/// Number of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u32);

impl GroupId {
    /// Highest number that a group can have (`OFPG_MAX`).
    pub const MAX: GroupId = GroupId(0xffff_ff00);
    /// Every group, in requests (`OFPG_ALL`).
    pub const ALL: GroupId = GroupId(0xffff_fffc);
    /// No group in particular, in filters and as a bucket's `watch_group` (`OFPG_ANY`).
    pub const ANY: GroupId = GroupId(0xffff_ffff);
}

/// Number of a bucket within its group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BucketId(pub u32);

impl BucketId {
    /// Highest number that a bucket can have (`OFPG_BUCKET_MAX`).
    pub const MAX: BucketId = BucketId(0xffff_ff00);
    /// The first bucket, in requests.
    pub const FIRST: BucketId = BucketId(0xffff_fffd);
    /// The last bucket, in requests.
    pub const LAST: BucketId = BucketId(0xffff_fffe);
    /// Every bucket, in requests; also "none named" where a request needs none, and "choose one" for a new bucket.
    pub const ALL: BucketId = BucketId(0xffff_ffff);
}

/// What a group does with its buckets (`ofp_group_type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum GroupType {
    /// A copy of the packet to every bucket.
    #[default]
    All = 0,
    /// One bucket, chosen by [`Selection`].
    Select = 1,
    /// The one bucket.
    Indirect = 2,
    /// The first live bucket.
    FastFailover = 3,
}

impl GroupType {
    /// Every type, by number.
    pub const ALL: [GroupType; 4] =
        [GroupType::All, GroupType::Select, GroupType::Indirect, GroupType::FastFailover];

    /// As ovs-ofctl prints it.
    pub const fn name(self) -> &'static str {
        match self {
            GroupType::All => "all",
            GroupType::Select => "select",
            GroupType::Indirect => "indirect",
            GroupType::FastFailover => "ff",
        }
    }
}

/// How a select group chooses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SelectionMethod {
    /// Not said: as `dp_hash`.
    #[default]
    Default,
    /// By the 5-tuple, the same for both directions.
    DpHash,
    /// By the fields named; without any as `dp_hash`.
    Hash,
    /// By a Maglev table (Eisenbud et al., NSDI 2016) over the fields named, without any over the 5-tuple. Equal groups
    /// choose equally, on any node and after any restart. An experimenter's method of this switch.
    Maglev,
}

impl SelectionMethod {
    /// Those with a name.
    pub const NAMED: [SelectionMethod; 3] =
        [SelectionMethod::DpHash, SelectionMethod::Hash, SelectionMethod::Maglev];

    /// As `selection_method` has it; empty for the default.
    pub const fn name(self) -> &'static str {
        match self {
            SelectionMethod::Default => "",
            SelectionMethod::DpHash => "dp_hash",
            SelectionMethod::Hash => "hash",
            SelectionMethod::Maglev => "maglev",
        }
    }
}

/// Properties of a select group (Netronome's extension `selection_method`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Selection {
    /// How.
    pub method: SelectionMethod,
    /// Parameter of the method. `dp_hash`: hash algorithm (0 or 1) in the upper half, basis in the lower. `hash`: basis.
    /// `maglev`: entries of the table, one of [`choose::MAGLEV_SIZES`]; 0 for the default.
    pub param: u64,
    /// Fields, and of each the bits, that `hash` and `maglev` look at; in ascending order of fields.
    pub fields: Vec<(FieldId, u128)>,
}

/// One bucket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Bucket {
    /// Its number.
    pub id: BucketId,
    /// Share of the packets in a select group, 0 for none; 0 in other groups.
    pub weight: u16,
    /// The bucket is live only while this port is up; [`OfPort::ANY`] for none.
    pub watch_port: OfPort,
    /// The bucket is live only while this group has a live bucket; [`GroupId::ANY`] for none.
    pub watch_group: GroupId,
    /// What it does, carried out as an action set.
    pub actions: Arc<[OfAction]>,
}

impl Bucket {
    /// A bucket that watches nothing and does nothing; its number is chosen when it is put into a group.
    pub fn new(kind: GroupType) -> Bucket {
        Bucket {
            id: BucketId::ALL,
            weight: if kind == GroupType::Select { 1 } else { 0 },
            watch_port: OfPort::ANY,
            watch_group: GroupId::ANY,
            actions: Arc::from([]),
        }
    }

    /// Whether it watches something.
    pub fn watches(&self) -> bool {
        self.watch_port != OfPort::ANY || self.watch_group != GroupId::ANY
    }
}

/// What to do (`ofp_group_mod_command`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GroupCommand {
    /// Add a group.
    Add,
    /// Replace a group.
    Modify,
    /// Delete a group, or all.
    Delete,
    /// Put buckets in (OpenFlow 1.5).
    InsertBuckets,
    /// Take buckets out (OpenFlow 1.5).
    RemoveBuckets,
    /// Add a group, or replace the one that is there (Nicira).
    AddOrModify,
}

impl GroupCommand {
    /// Whether a group with its type comes with it.
    pub const fn has_group(self) -> bool {
        matches!(self, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify)
    }

    /// Whether it names the place of a bucket.
    pub const fn has_place(self) -> bool {
        matches!(self, GroupCommand::InsertBuckets | GroupCommand::RemoveBuckets)
    }
}

/// A request to change groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupCommand,
    /// The group's type.
    pub kind: GroupType,
    /// Which group; [`GroupId::ALL`] in deletions.
    pub group: GroupId,
    /// Behind which bucket, or [`BucketId::FIRST`] or [`BucketId::LAST`], to insert; which to remove, or
    /// [`BucketId::ALL`], which it is in other commands.
    pub place: BucketId,
    /// Buckets, in order.
    pub buckets: Vec<Bucket>,
    /// How a select group chooses.
    pub selection: Selection,
}

impl GroupMod {
    /// A request without buckets and properties.
    pub fn new(command: GroupCommand, kind: GroupType, group: GroupId) -> GroupMod {
        let (place, buckets, selection) = (BucketId::ALL, Vec::new(), Selection::default());
        GroupMod { command, kind, group, place, buckets, selection }
    }

    /// Checks what can be checked without knowing the groups that there are.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub fn check(&self) -> Result<(), GroupError> {
        // Deleting what cannot be there is no error.
        if self.group > GroupId::MAX && self.command != GroupCommand::Delete {
            return Err(GroupError::InvalidGroup);
        }
        let place = match self.place {
            BucketId::ALL => self.command != GroupCommand::InsertBuckets,
            BucketId::FIRST | BucketId::LAST => self.command.has_place(),
            place => self.command.has_place() && place <= BucketId::MAX,
        };
        let takes_buckets = self.command.has_group() || self.command == GroupCommand::InsertBuckets;
        if !place || !takes_buckets && !self.buckets.is_empty() {
            return Err(GroupError::BadBucket);
        }
        check_buckets(&self.buckets)?;
        if self.command.has_group() {
            check_group(self.kind, &self.buckets, &self.selection)?;
        }
        Ok(())
    }
}

/// Numbers of buckets: those that exist, each once.
fn check_buckets(buckets: &[Bucket]) -> Result<(), GroupError> {
    if buckets.len() > BUCKETS_MAX {
        return Err(GroupError::OutOfBuckets);
    }
    let mut ids: Vec<BucketId> = buckets.iter().map(|b| b.id).filter(|id| *id != BucketId::ALL).collect();
    ids.sort_unstable();
    let twice = ids.windows(2).any(|pair| pair.first() == pair.last());
    match twice || ids.last().is_some_and(|id| *id > BucketId::MAX) {
        true => Err(GroupError::BadBucket),
        false => Ok(()),
    }
}

/// What a type asks of its buckets.
fn check_group(kind: GroupType, buckets: &[Bucket], selection: &Selection) -> Result<(), GroupError> {
    if kind != GroupType::Select {
        if buckets.iter().any(|b| b.weight != 0) {
            return Err(GroupError::InvalidGroup);
        }
        if *selection != Selection::default() {
            return Err(GroupError::BadSelection);
        }
    }
    match kind {
        GroupType::Indirect if buckets.len() != 1 => Err(GroupError::InvalidGroup),
        GroupType::Indirect | GroupType::All if buckets.iter().any(Bucket::watches) => {
            Err(GroupError::WatchUnsupported)
        }
        GroupType::FastFailover if !buckets.iter().all(Bucket::watches) => Err(GroupError::InvalidGroup),
        GroupType::Select => check_selection(selection),
        _ => Ok(()),
    }
}

fn check_selection(selection: &Selection) -> Result<(), GroupError> {
    let hashes_fields = matches!(selection.method, SelectionMethod::Hash | SelectionMethod::Maglev);
    let right = match selection.method {
        SelectionMethod::Default => selection.param == 0,
        SelectionMethod::DpHash => selection.param >> 32 <= 1,
        SelectionMethod::Hash => true,
        SelectionMethod::Maglev => choose::maglev_size(selection.param).is_some(),
    };
    match right && (hashes_fields || selection.fields.is_empty()) {
        true => Ok(()),
        false => Err(GroupError::BadSelection),
    }
}

/// Why a request is refused. Each corresponds to one OpenFlow error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum GroupError {
    /// `OFPGMFC_GROUP_EXISTS`.
    #[error("the group exists already")]
    GroupExists,
    /// `OFPGMFC_INVALID_GROUP`: no such number, or buckets that do not fit the type.
    #[error("the group is not valid")]
    InvalidGroup,
    /// `OFPGMFC_UNKNOWN_GROUP`.
    #[error("there is no such group")]
    UnknownGroup,
    /// `OFPGMFC_OUT_OF_GROUPS`.
    #[error("there are too many groups")]
    OutOfGroups,
    /// `OFPGMFC_OUT_OF_BUCKETS`.
    #[error("there are too many buckets")]
    OutOfBuckets,
    /// `OFPGMFC_LOOP`.
    #[error("the group would lead to itself")]
    Loop,
    /// `OFPGMFC_WATCH_UNSUPPORTED`.
    #[error("buckets of this type of group watch nothing")]
    WatchUnsupported,
    /// `OFPGMFC_BAD_BUCKET`.
    #[error("a bucket is not valid")]
    BadBucket,
    /// `OFPGMFC_UNKNOWN_BUCKET`.
    #[error("there is no such bucket")]
    UnknownBucket,
    /// `OFPGMFC_BUCKET_EXISTS`.
    #[error("the bucket exists already")]
    BucketExists,
    /// `OFPBPC_BAD_VALUE`: a selection method that is not known, not allowed, or has a wrong parameter.
    #[error("the selection method is not valid")]
    BadSelection,
}
