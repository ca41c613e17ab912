//! Groups: `group_id=1,type=select,selection_method=hash,fields(ip_src),bucket=weight:5,actions=output:1,bucket=...`.

use super::action_parse::{ActionList, Place};
use super::action_print::display_actions;
use super::error::{Fault, Parsed, TextError, TextFault, fault};
use super::names::{PortNames, TextStyle};
use super::number::{number16, number32, number64, parse_port, write_port};
use super::token::{Word, Words};
use super::value::{display_value, value};
use crate::field::{FieldId, Format};
use crate::group::{
    Bucket, BucketId, GroupCommand, GroupId, GroupMod, GroupType, METHOD_NAME_MAX, Selection, SelectionMethod,
};
use crate::port::OfPort;
use std::collections::BTreeSet;
use std::fmt;
use thiserror::Error;

/// What can be wrong with a group, in ovs-ofctl's words where it has some.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GroupFault {
    /// No `group_id=`.
    #[error("must specify a group_id")]
    NoId,
    /// A number that no group can have.
    #[error("invalid group id {0}")]
    Id(u32),
    /// No `type=`.
    #[error("must specify a type")]
    NoType,
    /// No such type.
    #[error("invalid group type {0}")]
    Type(String),
    /// A word that this request does not take.
    #[error("{0} is not needed")]
    NotNeeded(&'static str),
    /// No `command_bucket_id=`.
    #[error("must specify a command bucket id")]
    NoPlace,
    /// `all` where one bucket is meant.
    #[error("command_bucket_id=all is not permitted")]
    PlaceAll,
    /// A number that no bucket can have.
    #[error("invalid command bucket id {0}")]
    Place(u32),
    /// A method's name is too long.
    #[error("selection method is longer than {METHOD_NAME_MAX} bytes long")]
    MethodLength,
    /// No such method.
    #[error("selection method '{0}' is not supported")]
    Method(String),
    /// Properties of a group that chooses nothing.
    #[error("selection method is only allowed for select groups")]
    MethodOfOtherType,
    /// A parameter without a method.
    #[error("selection_method_param is only allowed with \"selection_method\"")]
    Param,
    /// A parameter that the method does not have.
    #[error("invalid selection_method_param {0}")]
    ParamValue(u64),
    /// Fields for a method that takes none.
    #[error("fields may only be specified with \"selection_method=hash\"")]
    Fields,
    /// A field that stands twice.
    #[error("{0}: duplicate field")]
    DuplicateField(String),
    /// A bucket without actions.
    #[error("bucket must specify actions")]
    NoActions,
    /// A weight where nothing is chosen by it.
    #[error("Only select groups can have bucket weights.")]
    Weight,
    /// More than one bucket.
    #[error("Indirect groups can have at most one bucket.")]
    Indirect,
    /// Not a port.
    #[error("{0}: invalid watch_port")]
    WatchPort(String),
    /// A bucket that cannot fail over.
    #[error("fast failover bucket requires watch_port or watch_group")]
    NoWatch,
    /// A bucket that watches in a group that takes no notice.
    #[error("only select and fast failover buckets can have watch_port or watch_group")]
    Watch,
    /// A number that no bucket can have.
    #[error("invalid bucket_id id {0}")]
    BucketId(u32),
    /// Two buckets with one number.
    #[error("duplicate bucket_id {0}")]
    DuplicateBucket(u32),
}

fn wrong(at: &str, kind: GroupFault) -> Fault {
    fault(at, TextFault::Group(kind))
}

/// A request to change groups, as `add-group`, `mod-group`, `insert-buckets`, `remove-buckets` and `del-groups` take it.
///
/// # Errors
/// If something has no meaning in this request, or is missing.
pub fn parse_group_mod(
    text: &str,
    command: GroupCommand,
    names: &dyn PortNames,
) -> Result<GroupMod, TextError> {
    group_mod(text, command, names).map_err(|f| f.within(text))
}

/// A line of a file of groups: an optional command, which else is `default`, and a group. None for empty lines and
/// comments, which begin with `#`.
///
/// # Errors
/// As [`parse_group_mod`].
pub fn parse_group_line(
    text: &str,
    default: GroupCommand,
    names: &dyn PortNames,
) -> Result<Option<GroupMod>, TextError> {
    const COMMANDS: [(&str, GroupCommand); 6] = [
        ("add", GroupCommand::Add),
        ("modify", GroupCommand::Modify),
        ("add_or_mod", GroupCommand::AddOrModify),
        ("delete", GroupCommand::Delete),
        ("insert_bucket", GroupCommand::InsertBuckets),
        ("remove_bucket", GroupCommand::RemoveBuckets),
    ];
    let line = text.split('#').next().unwrap_or("").trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (first, rest) =
        line.split_at_checked(line.find([' ', '\t']).unwrap_or(line.len())).unwrap_or((line, ""));
    let (command, group_text) = match COMMANDS.iter().find(|(name, _)| *name == first) {
        Some((_, command)) => (*command, rest),
        None => (default, line),
    };
    group_mod(group_text, command, names).map(Some).map_err(|f| f.within(text))
}

/// Which group a request means: `group_id=N`, or all if the text is empty.
///
/// # Errors
/// If something has no meaning.
pub fn parse_group_filter(text: &str) -> Result<GroupId, TextError> {
    group_mod(text, GroupCommand::Delete, &super::names::NoPortNames)
        .map(|m| m.group)
        .map_err(|f| f.within(text))
}

/// Splits before the first `bucket=`.
fn split_buckets(text: &str) -> (&str, Option<&str>) {
    let begins = |at: usize| match at.checked_sub(1) {
        Some(before) => text.as_bytes().get(before).is_some_and(|b| b" ,\t\r\n".contains(b)),
        None => true,
    };
    let found = text.match_indices("bucket").map(|(at, _)| at).filter(|at| begins(*at)).find(|at| {
        let tail = text.get(at + "bucket".len()..).unwrap_or("");
        tail.starts_with(['=', ':', '('])
    });
    match found.and_then(|at| text.split_at_checked(at)) {
        Some((head, buckets)) => (head, Some(buckets)),
        None => (text, None),
    }
}

struct Reader<'a> {
    command: GroupCommand,
    id: Option<GroupId>,
    kind: Option<GroupType>,
    place: Option<BucketId>,
    selection: Selection,
    param: Option<&'a str>,
    fields: Option<&'a str>,
}

fn group_mod(text: &str, command: GroupCommand, names: &dyn PortNames) -> Parsed<GroupMod> {
    let (head, bucket_text) = split_buckets(text);
    let mut reader = Reader {
        command,
        id: None,
        kind: None,
        place: None,
        selection: Selection::default(),
        param: None,
        fields: None,
    };
    for word in Words::new(head) {
        reader.word(word, names)?;
    }
    let mut group_mod = reader.finish(text)?;
    if let Some(buckets) = bucket_text {
        if !command.has_group() && command != GroupCommand::InsertBuckets {
            return Err(wrong(buckets, GroupFault::NotNeeded("bucket")));
        }
        group_mod.buckets = read_buckets(buckets, &group_mod, names)?;
    }
    if command.has_group() {
        check(&group_mod, text)?;
    }
    Ok(group_mod)
}

impl<'a> Reader<'a> {
    fn word(&mut self, word: Word<'a>, names: &dyn PortNames) -> Parsed<()> {
        let v = word.value;
        match word.key {
            "group_id" => self.id = Some(self.group_id(v)?),
            "type" if !self.command.has_group() => {
                return Err(wrong(word.key, GroupFault::NotNeeded("type")));
            }
            "type" => {
                let alias = if v == "fast_failover" { GroupType::FastFailover.name() } else { v };
                let kind = GroupType::ALL.into_iter().find(|kind| kind.name() == alias);
                self.kind = Some(kind.ok_or_else(|| wrong(v, GroupFault::Type(v.to_owned())))?);
            }
            "command_bucket_id" if !self.command.has_place() => {
                return Err(wrong(word.key, GroupFault::NotNeeded("command bucket id")));
            }
            "command_bucket_id" => self.place = Some(self.place(v)?),
            "selection_method" if self.command.has_group() => {
                if v.len() > METHOD_NAME_MAX {
                    return Err(wrong(v, GroupFault::MethodLength));
                }
                let method = SelectionMethod::NAMED.into_iter().find(|m| m.name() == v);
                self.selection.method = method.ok_or_else(|| wrong(v, GroupFault::Method(v.to_owned())))?;
            }
            "selection_method_param" if self.command.has_group() => {
                self.selection.param = number64(v)?;
                self.param = Some(v);
            }
            "fields" if self.command.has_group() => {
                self.selection.fields = read_fields(v, names)?;
                self.fields = Some(v);
            }
            key => return Err(fault(key, TextFault::UnknownKeyword(key.to_owned()))),
        }
        Ok(())
    }

    fn group_id(&self, v: &str) -> Parsed<GroupId> {
        if v == "all" {
            return Ok(GroupId::ALL);
        }
        match number32(v)? {
            id if id > GroupId::MAX.0 => Err(wrong(v, GroupFault::Id(id))),
            id => Ok(GroupId(id)),
        }
    }

    fn place(&self, v: &str) -> Parsed<BucketId> {
        match v {
            "first" => Ok(BucketId::FIRST),
            "last" => Ok(BucketId::LAST),
            "all" if self.command == GroupCommand::InsertBuckets => Err(wrong(v, GroupFault::PlaceAll)),
            "all" => Ok(BucketId::ALL),
            _ => match number32(v)? {
                id if id > BucketId::MAX.0 => Err(wrong(v, GroupFault::Place(id))),
                id => Ok(BucketId(id)),
            },
        }
    }

    fn finish(self, text: &str) -> Parsed<GroupMod> {
        let named_all = self.id == Some(GroupId::ALL) && self.command != GroupCommand::Delete;
        let id = match self.id {
            Some(_) if named_all => return Err(wrong(text, GroupFault::Id(GroupId::ALL.0))),
            Some(id) => id,
            None if self.command == GroupCommand::Delete => GroupId::ALL,
            None => return Err(wrong(text, GroupFault::NoId)),
        };
        let kind = match self.kind {
            None if self.command.has_group() => return Err(wrong(text, GroupFault::NoType)),
            kind => kind.unwrap_or_default(),
        };
        let place = match self.place {
            None if self.command == GroupCommand::InsertBuckets => {
                return Err(wrong(text, GroupFault::NoPlace));
            }
            place => place.unwrap_or(BucketId::ALL),
        };
        let method = self.selection.method;
        if let Some(param) = self.param.filter(|_| method == SelectionMethod::Default) {
            return Err(wrong(param, GroupFault::Param));
        }
        let takes_fields = matches!(method, SelectionMethod::Hash | SelectionMethod::Maglev);
        if let Some(fields) = self.fields.filter(|_| !takes_fields) {
            return Err(wrong(fields, GroupFault::Fields));
        }
        Ok(GroupMod { place, selection: self.selection, ..GroupMod::new(self.command, kind, id) })
    }
}

/// `ip_src=255.255.255.0,tcp_dst`: what follows a name is the mask.
fn read_fields(v: &str, names: &dyn PortNames) -> Parsed<Vec<(FieldId, u128)>> {
    let mut fields: Vec<(FieldId, u128)> = Vec::new();
    for word in Words::new(v) {
        let id = FieldId::from_name(word.key).filter(|id| !id.row().oxm.is_empty());
        let id = id.ok_or_else(|| fault(word.key, TextFault::UnknownField(word.key.to_owned())))?;
        if fields.iter().any(|(other, _)| *other == id) {
            return Err(wrong(word.key, GroupFault::DuplicateField(word.key.to_owned())));
        }
        let row = id.row();
        let mask = match word.given {
            // A port's number is no mask.
            true if row.format == Format::OfPort => {
                return Err(fault(
                    word.value,
                    TextFault::Mask { word: word.value.to_owned(), field: row.name },
                ));
            }
            true => mask_of(id, word.value, names)?,
            false => row.slot.ones(),
        };
        fields.push((id, mask));
    }
    fields.sort_unstable();
    Ok(fields)
}

fn mask_of(id: FieldId, text: &str, names: &dyn PortNames) -> Parsed<u128> {
    let row = id.row();
    let bad = || fault(text, TextFault::Mask { word: text.to_owned(), field: row.name });
    let (mask, None) = value(row, text, names)? else { return Err(bad()) };
    let exact = row.masking == crate::field::Masking::Exact && mask != row.slot.ones();
    if mask == 0 || mask & !row.slot.ones() != 0 || exact {
        return Err(bad());
    }
    Ok(mask)
}

fn read_buckets(text: &str, group: &GroupMod, names: &dyn PortNames) -> Parsed<Vec<Bucket>> {
    let mut buckets = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // Every round begins at `bucket` and its sign.
        let body = rest.get("bucket".len() + 1..).unwrap_or("");
        let (this, next) = split_buckets(body);
        buckets.push(read_bucket(this, group, names)?);
        rest = next.unwrap_or("");
    }
    number_buckets(text, &mut buckets)?;
    Ok(buckets)
}

/// Buckets without a number get the lowest free ones, as ovs-ofctl does.
fn number_buckets(text: &str, buckets: &mut [Bucket]) -> Parsed<()> {
    let mut taken = BTreeSet::new();
    for bucket in buckets.iter().filter(|b| b.id != BucketId::ALL) {
        if !taken.insert(bucket.id) {
            return Err(wrong(text, GroupFault::DuplicateBucket(bucket.id.0)));
        }
    }
    let mut free = (0..=BucketId::MAX.0).map(BucketId).filter(|id| !taken.contains(id));
    for bucket in buckets.iter_mut().filter(|b| b.id == BucketId::ALL) {
        bucket.id = free.next().unwrap_or(BucketId::ALL);
    }
    Ok(())
}

fn read_bucket(text: &str, group: &GroupMod, names: &dyn PortNames) -> Parsed<Bucket> {
    let mut bucket = Bucket::new(group.kind);
    if group.command == GroupCommand::InsertBuckets {
        // The group is not here to say whether weights matter; one that they do not matter to takes no notice.
        bucket.weight = 1;
    }
    let mut list = ActionList::new(names, Place::Bucket, 0);
    let mut any = false;
    for word in Words::new(text) {
        let v = word.value;
        match word.key {
            "weight" => {
                if group.command.has_group() && group.kind != GroupType::Select {
                    return Err(wrong(v, GroupFault::Weight));
                }
                bucket.weight = number16(v, "weight")?;
            }
            "bucket_id" => match number32(v)? {
                id if id > BucketId::MAX.0 => return Err(wrong(v, GroupFault::BucketId(id))),
                id => bucket.id = BucketId(id),
            },
            "watch_port" => {
                let port = parse_port(v, names).filter(|p| p.is_real() && *p != OfPort::LOCAL);
                bucket.watch_port = port.ok_or_else(|| wrong(v, GroupFault::WatchPort(v.to_owned())))?;
            }
            "watch_group" => match number32(v)? {
                id if id > GroupId::MAX.0 => return Err(wrong(v, GroupFault::Id(id))),
                id => bucket.watch_group = GroupId(id),
            },
            "action" | "actions" => {
                any = true;
                list.read(v)?;
            }
            _ => {
                any = true;
                list.word(word)?;
            }
        }
    }
    if !any {
        return Err(wrong(text, GroupFault::NoActions));
    }
    list.drop_stands_alone(text)?;
    bucket.actions = list.actions.into();
    Ok(bucket)
}

fn check(group: &GroupMod, text: &str) -> Parsed<()> {
    let watches = group.buckets.iter().any(Bucket::watches);
    let problem = match group.kind {
        kind if kind != GroupType::Select && group.selection.method != SelectionMethod::Default => {
            Some(GroupFault::MethodOfOtherType)
        }
        GroupType::Indirect if group.buckets.len() > 1 => Some(GroupFault::Indirect),
        GroupType::FastFailover if !group.buckets.iter().all(Bucket::watches) => Some(GroupFault::NoWatch),
        GroupType::All | GroupType::Indirect if watches => Some(GroupFault::Watch),
        GroupType::Select if group.check() == Err(crate::group::GroupError::BadSelection) => {
            Some(GroupFault::ParamValue(group.selection.param))
        }
        _ => None,
    };
    problem.map_or(Ok(()), |problem| Err(wrong(text, problem)))
}

/// What of a bucket is printed: OpenFlow 1.3 and 1.4 have no numbers of buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BucketIds {
    /// With numbers.
    Shown,
    /// Without.
    Hidden,
}

/// See [`display_group`].
#[derive(Clone, Copy)]
pub struct DisplayGroup<'a> {
    id: GroupId,
    kind: GroupType,
    selection: &'a Selection,
    buckets: &'a [Bucket],
    ids: BucketIds,
    style: TextStyle<'a>,
}

/// A group as `dump-groups` prints it, without the space in front.
pub fn display_group<'a>(
    id: GroupId,
    kind: GroupType,
    selection: &'a Selection,
    buckets: &'a [Bucket],
    ids: BucketIds,
    style: TextStyle<'a>,
) -> DisplayGroup<'a> {
    DisplayGroup { id, kind, selection, buckets, ids, style }
}

impl fmt::Display for DisplayGroup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group_id={},type={}", self.id.0, self.kind.name())?;
        if self.selection.method != SelectionMethod::Default {
            write!(f, ",selection_method={}", self.selection.method.name())?;
            if self.selection.param != 0 {
                write!(f, ",selection_method_param={}", self.selection.param)?;
            }
            self.fields(f)?;
        }
        for bucket in self.buckets {
            self.bucket(f, bucket)?;
        }
        Ok(())
    }
}

impl DisplayGroup<'_> {
    fn fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = &self.selection.fields;
        if fields.is_empty() {
            return Ok(());
        }
        f.write_str(if fields.len() == 1 { ",fields=" } else { ",fields(" })?;
        for (i, (id, mask)) in fields.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            f.write_str(id.row().name)?;
            if *mask != id.slot().ones() {
                write!(f, "={}", display_value(*id, *mask, id.slot().ones(), self.style))?;
            }
        }
        f.write_str(if fields.len() == 1 { "" } else { ")" })
    }

    fn bucket(&self, f: &mut fmt::Formatter<'_>, bucket: &Bucket) -> fmt::Result {
        f.write_str(",bucket=")?;
        if self.ids == BucketIds::Shown {
            write!(f, "bucket_id:{},", bucket.id.0)?;
        }
        let default = if self.kind == GroupType::Select { 1 } else { 0 };
        if bucket.weight != default {
            write!(f, "weight:{},", bucket.weight)?;
        }
        if bucket.watch_port != OfPort::ANY {
            f.write_str("watch_port:")?;
            write_port(f, bucket.watch_port, &self.style)?;
            f.write_str(",")?;
        }
        if bucket.watch_group != GroupId::ANY {
            write!(f, "watch_group:{},", bucket.watch_group.0)?;
        }
        write!(f, "actions={}", display_actions(&bucket.actions, self.style))
    }
}
