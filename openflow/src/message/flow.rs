//! Messages that change, report and remove rules, groups and meters.

use flowtable::{Match, OfAction, OfPort, TableId};
use std::time::Duration;

/// `ofp_flow_mod_command`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowModCommand {
    /// Adds a rule, replacing one with the same match and priority.
    Add,
    /// Changes the actions of rules that the match covers.
    Modify,
    /// Changes the actions of the rule with this match and priority.
    ModifyStrict,
    /// Removes rules that the match covers.
    Delete,
    /// Removes the rule with this match and priority.
    DeleteStrict,
}

/// Flags of a rule (`ofp_flow_mod_flags` of OpenFlow 1.3 and later).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FlowModFlags(pub u16);

impl FlowModFlags {
    /// Send FLOW_REMOVED when the rule goes.
    pub const SEND_FLOW_REM: u16 = 1 << 0;
    /// Refuse to add a rule that overlaps another of the same priority.
    pub const CHECK_OVERLAP: u16 = 1 << 1;
    /// Set counters to zero (implied by add and modify in 1.0 to 1.2).
    pub const RESET_COUNTS: u16 = 1 << 2;
    /// Do not count packets.
    pub const NO_PKT_COUNTS: u16 = 1 << 3;
    /// Do not count bytes.
    pub const NO_BYT_COUNTS: u16 = 1 << 4;

    /// Whether every bit of `flag` is set.
    pub const fn has(self, flag: u16) -> bool {
        self.0 & flag == flag
    }
}

/// OFPT_FLOW_MOD, NXT_FLOW_MOD.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// Which table. [`TableId::ALL`]: every table for modify and delete, the first for add; OpenFlow 1.0 without
    /// `NXT_FLOW_MOD_TABLE_ID` always means that.
    pub table: TableId,
    /// What frames match; for non-strict commands, what rules are meant.
    pub matching: Match,
    /// Priority, the highest wins. Matters for add and the strict commands.
    pub priority: u16,
    /// Only rules with `cookie & mask == value` are modified or deleted; `mask` 0 for no condition.
    pub cookie_filter: CookieFilter,
    /// Cookie to set. `None` leaves modified rules as they are (1.1 and later never change the cookie on modify,
    /// except in Nicira's format and where OVS adds the rule).
    pub new_cookie: Option<u64>,
    /// Seconds without a packet after which the rule goes; 0 for never.
    pub idle_timeout: u16,
    /// Seconds after which the rule goes; 0 for never.
    pub hard_timeout: u16,
    /// For eviction (1.4 and later).
    pub importance: u16,
    /// Buffered frame to send through the new rule; `None` for none (the switch buffers nothing).
    pub buffer: Option<u32>,
    /// Only rules with an output to this port are deleted; [`OfPort::ANY`] for no condition.
    pub out_port: OfPort,
    /// Only rules with an output to this group are deleted; [`GROUP_ANY`] for no condition.
    pub out_group: u32,
    /// Flags.
    pub flags: FlowModFlags,
    /// Actions, instructions included, in the order in which they apply.
    pub actions: Vec<OfAction>,
}

/// "Any group" in filters (`OFPG_ANY`).
pub const GROUP_ANY: u32 = 0xffff_ffff;

impl FlowMod {
    /// A flow_mod that names nothing but its command: every table, every frame, priority 32768, no conditions.
    pub fn new(command: FlowModCommand) -> FlowMod {
        FlowMod {
            command,
            table: TableId::ALL,
            matching: Match::any(),
            priority: 0x8000,
            cookie_filter: CookieFilter::default(),
            new_cookie: if command == FlowModCommand::Add { Some(0) } else { None },
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            buffer: None,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            flags: FlowModFlags::default(),
            actions: Vec::new(),
        }
    }
}

/// A condition on cookies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CookieFilter {
    /// Value wanted.
    pub value: u64,
    /// Bits compared.
    pub mask: u64,
}

impl CookieFilter {
    /// Whether a cookie satisfies the condition.
    pub const fn admits(self, cookie: u64) -> bool {
        (cookie ^ self.value) & self.mask == 0
    }
}

/// Why a rule went (`ofp_flow_removed_reason`; the number is that of the standard).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowRemovedReason {
    /// No packet for `idle_timeout`.
    IdleTimeout = 0,
    /// `hard_timeout` is over.
    HardTimeout = 1,
    /// A flow_mod removed it.
    Delete = 2,
    /// Its group was removed (1.1 and later).
    GroupDelete = 3,
    /// Its meter was removed (1.4 and later).
    MeterDelete = 4,
    /// Evicted for another rule (1.4 and later).
    Eviction = 5,
}

impl FlowRemovedReason {
    /// Every reason.
    pub const ALL: [FlowRemovedReason; 6] = [
        FlowRemovedReason::IdleTimeout,
        FlowRemovedReason::HardTimeout,
        FlowRemovedReason::Delete,
        FlowRemovedReason::GroupDelete,
        FlowRemovedReason::MeterDelete,
        FlowRemovedReason::Eviction,
    ];
}

/// OFPT_FLOW_REMOVED, NXT_FLOW_REMOVED.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowRemoved {
    /// Its match.
    pub matching: Match,
    /// Its cookie.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// Why it went.
    pub reason: FlowRemovedReason,
    /// Its table; [`TableId::ALL`] where the format does not tell (OpenFlow 1.0).
    pub table: TableId,
    /// How long it lived.
    pub duration: Duration,
    /// Its idle timeout in seconds.
    pub idle_timeout: u16,
    /// Its hard timeout in seconds (1.2 and later, else 0).
    pub hard_timeout: u16,
    /// Packets that matched; `None` if not known.
    pub packets: Option<u64>,
    /// Bytes that matched; `None` if not known.
    pub bytes: Option<u64>,
}
