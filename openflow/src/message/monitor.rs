//! Flow monitors: `NXST_FLOW_MONITOR`, ONF's extension 187 in OpenFlow 1.3, OpenFlow 1.4 §7.3.5.17.

use super::{FlowRemovedReason, Xid};
use flowtable::{Match, OfAction, OfPort, TableId};

/// Which changes a monitor reports: bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MonitorFlags(pub u16);

impl MonitorFlags {
    /// The rules there are.
    pub const INITIAL: u16 = 1 << 0;
    /// New rules.
    pub const ADD: u16 = 1 << 1;
    /// Removed rules.
    pub const DELETE: u16 = 1 << 2;
    /// Modified rules.
    pub const MODIFY: u16 = 1 << 3;
    /// With their actions.
    pub const ACTIONS: u16 = 1 << 4;
    /// Own changes in full instead of abbreviated (`NXFMF_OWN`, `OFPFMF_NO_ABBREV`). `OFPFMF_ONLY_OWN` of OpenFlow 1.4
    /// reads as this too and is what it is written as: so OVS and ovs-ofctl(8) take it, against the standard's wording.
    pub const NO_ABBREV: u16 = 1 << 5;
    /// Own changes only. Never read off the wire, see `NO_ABBREV`, and not written.
    pub const ONLY_OWN: u16 = 1 << 6;

    /// Whether every bit of `flag` is set.
    pub const fn has(self, flag: u16) -> bool {
        self.0 & flag == flag
    }
}

/// What a monitor request does (1.4 and later; else always add).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MonitorCommand {
    /// New monitor.
    Add,
    /// Replaces one.
    Modify,
    /// Ends one.
    Delete,
}

/// One monitor asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowMonitor {
    /// Its number, unique on the connection.
    pub id: u32,
    /// What to do.
    pub command: MonitorCommand,
    /// What to report.
    pub flags: MonitorFlags,
    /// Only rules with an output to this port; [`OfPort::ANY`] for no condition.
    pub out_port: OfPort,
    /// Only rules with an output to this group; [`GROUP_ANY`](super::GROUP_ANY) for no condition (1.4 and later).
    pub out_group: u32,
    /// Only rules of this table; [`TableId::ALL`] for no condition.
    pub table: TableId,
    /// Only rules that this match covers.
    pub matching: Match,
}

/// What happened to a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MonitorEvent {
    /// It was there when the monitor began (1.4 and later; `Added` in Nicira's format).
    Initial,
    /// It is new.
    Added,
    /// It is gone, for this reason.
    Removed(FlowRemovedReason),
    /// It changed.
    Modified,
}

/// An update in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleUpdate {
    /// What happened.
    pub event: MonitorEvent,
    /// Its table.
    pub table: TableId,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Its idle timeout, seconds.
    pub idle_timeout: u16,
    /// Its hard timeout, seconds.
    pub hard_timeout: u16,
    /// Its match.
    pub matching: Match,
    /// Its actions, empty unless the monitor asked for them.
    pub actions: Vec<OfAction>,
}

/// One entry of a monitor's replies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlowUpdate {
    /// A rule, in full.
    Full(Box<RuleUpdate>),
    /// The connection's own flow_mod with this xid did what it asked.
    Abbrev(Xid),
    /// Updates were dropped from here (`OFPFME_PAUSED`; 1.4 and later).
    Paused,
    /// Updates go on (`OFPFME_RESUMED`; 1.4 and later).
    Resumed,
}
