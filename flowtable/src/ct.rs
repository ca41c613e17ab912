//! The `ct` action as data (ovs-actions(7)): which zone tracks a packet, whether its connection is committed, how it is
//! translated, and where the packet goes next. What it does is the datapath's business.

use crate::action::{OfAction, SubField, TableId};
use crate::field::FieldId;
use std::net::IpAddr;

/// Which zone tracks the packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ZoneSource {
    /// This one.
    Value(u16),
    /// The one whose number stands in a field; 16 bits wide.
    Field(SubField),
}

impl Default for ZoneSource {
    fn default() -> Self {
        ZoneSource::Value(0)
    }
}

/// A protocol whose control connections announce others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CtAlg {
    /// FTP (RFC 959); TCP only.
    Ftp,
    /// TFTP (RFC 1350); UDP only.
    Tftp,
}

impl CtAlg {
    /// Every one.
    pub const ALL: [CtAlg; 2] = [CtAlg::Ftp, CtAlg::Tftp];

    /// As ovs-actions(7) calls it.
    pub const fn name(self) -> &'static str {
        match self {
            CtAlg::Ftp => "ftp",
            CtAlg::Tftp => "tftp",
        }
    }

    /// The number that stands for it in NXAST_CT: the protocol's well-known port.
    pub const fn port(self) -> u16 {
        match self {
            CtAlg::Ftp => 21,
            CtAlg::Tftp => 69,
        }
    }
}

/// Which end of the connection is translated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NatKind {
    /// The source of the original direction.
    Src,
    /// The destination of the original direction.
    Dst,
}

/// `nat(...)` within `ct`. Without a kind it translates by what the connection was committed with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NatAction {
    /// Which end; none: as the connection has it.
    pub kind: Option<NatKind>,
    /// First and last address, of one family, the last greater than the first; no last: the first alone. None: the
    /// address stays.
    pub addresses: Option<(IpAddr, Option<IpAddr>)>,
    /// First and last port, the first not 0, the last greater than the first. Only together with addresses.
    pub ports: Option<(u16, Option<u16>)>,
    /// A client keeps its translation from connection to connection, and over restarts.
    pub persistent: bool,
    /// Choose by hash of the packet.
    pub hash: bool,
    /// Choose at random. Never together with `hash`.
    pub random: bool,
}

/// `ct(...)`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CtAction {
    /// The connection is kept beyond this packet.
    pub commit: bool,
    /// A connection of the other direction is replaced; only with `commit`.
    pub force: bool,
    /// Which zone tracks.
    pub zone: ZoneSource,
    /// Table in which a copy of the packet goes on, with the `ct_*` fields set; the actions behind `ct` see them unset.
    pub table: Option<TableId>,
    /// Protocol whose related connections are to be known.
    pub alg: Option<CtAlg>,
    /// Translation.
    pub nat: Option<NatAction>,
    /// What the committed connection is marked with: `SetField`, `Load` and `Move` that write `ct_mark` or `ct_label`.
    pub exec: Vec<OfAction>,
}

impl CtAction {
    /// Whether it does something to the connection that only a commit can keep: OVS refuses that without `commit`.
    pub fn needs_commit(&self) -> bool {
        !self.exec.is_empty() || self.nat.is_some_and(|nat| nat.kind.is_some())
    }
}

/// What an action would write of a connection's fields, which only `exec(...)` may: `ct_mark` and `ct_label`.
pub fn written_field(action: &OfAction) -> Option<FieldId> {
    match action {
        OfAction::SetField { field, .. } => Some(*field),
        OfAction::Load { dst, .. } | OfAction::Move { dst, .. } => Some(dst.field),
        _ => None,
    }
}

/// Whether a field belongs to the connection, not to the packet.
pub const fn is_connection_field(field: FieldId) -> bool {
    matches!(field, FieldId::CtMark | FieldId::CtLabel)
}
