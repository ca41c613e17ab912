//! Rules: OpenFlow flow entries, without knowledge of how they are found.

use crate::action::{OfAction, TableId};
use crate::classifier::PackedMatch;
use crate::group::GroupId;
use crate::key::Match;
use crate::meter::MeterId;
use crate::port::OfPort;
use base::Instant;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The controller's name for a rule, opaque to the switch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Flags of a flow_mod and of a rule: OpenFlow 1.3's `OFPFF_*` bits (1.3.5 §A.3.4.1). 1.0's emergency bit is not among
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RuleFlags(pub u16);

impl RuleFlags {
    /// No flag.
    pub const NONE: RuleFlags = RuleFlags(0);
    /// Tell the controllers when the rule goes.
    pub const SEND_FLOW_REM: RuleFlags = RuleFlags(1);
    /// Refuse the rule if it overlaps another of its priority.
    pub const CHECK_OVERLAP: RuleFlags = RuleFlags(2);
    /// Start counters anew. OpenFlow 1.0 and 1.1 have no such flag; there every add does it, so decoders set it.
    pub const RESET_COUNTS: RuleFlags = RuleFlags(4);
    /// Packets need not be counted.
    pub const NO_PKT_COUNTS: RuleFlags = RuleFlags(8);
    /// Bytes need not be counted.
    pub const NO_BYT_COUNTS: RuleFlags = RuleFlags(16);

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: RuleFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for RuleFlags {
    type Output = RuleFlags;
    fn bitor(self, other: RuleFlags) -> RuleFlags {
        RuleFlags(self.0 | other.0)
    }
}

impl BitOrAssign for RuleFlags {
    fn bitor_assign(&mut self, other: RuleFlags) {
        self.0 |= other.0;
    }
}

/// What a rule has done. Workers add, anyone reads; the three numbers are not read at one instant.
#[derive(Debug)]
pub struct RuleStats {
    packets: AtomicU64,
    bytes: AtomicU64,
    last_used_nanos: AtomicU64,
}

impl RuleStats {
    /// Nothing done; `now` counts as the last use, for idle time-outs.
    pub const fn new(now: Instant) -> Self {
        RuleStats {
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_used_nanos: AtomicU64::new(now.as_nanos()),
        }
    }

    /// Credits packets, the last of them seen at `last_seen`.
    pub fn add(&self, packets: u64, bytes: u64, last_seen: Instant) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_used_nanos.fetch_max(last_seen.as_nanos(), Ordering::Relaxed);
    }

    /// Packets so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes so far, from the Ethernet header on.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the last packet was seen; the time of creation if there was none.
    pub fn last_used(&self) -> Instant {
        Instant::from_nanos(self.last_used_nanos.load(Ordering::Relaxed))
    }
}

/// Names one version of one rule in one set of tables, for as long as the set lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleSerial(pub u64);

/// A rule. It never changes: modifying makes another, which shares the counters.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which version of which rule.
    pub serial: RuleSerial,
    /// Where it stands.
    pub table: TableId,
    /// Higher wins.
    pub priority: u16,
    /// What it matches on; [`Rule::matching`] unpacks it.
    pub packed: PackedMatch,
    /// The controller's name for it.
    pub cookie: Cookie,
    /// Seconds without a packet after which it goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds since `modified` after which it goes; 0: never.
    pub hard_timeout: u16,
    /// Rules of less importance are evicted first (OpenFlow 1.4).
    pub importance: u16,
    /// Those of the flow_mod that added it, all of them: statistics show them back. Modifying changes none.
    pub flags: RuleFlags,
    /// What it does.
    pub actions: Arc<[OfAction]>,
    /// When it was added.
    pub created: Instant,
    /// When it was added or last modified.
    pub modified: Instant,
    /// What it has done.
    pub stats: Arc<RuleStats>,
}

/// Why a rule has gone (OpenFlow 1.4.1 §7.4.2, `ofp_flow_removed_reason`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RemovalReason {
    /// No packet for the idle time-out.
    IdleTimeout,
    /// The hard time-out is over.
    HardTimeout,
    /// By a flow_mod.
    Delete,
    /// Its group was deleted (1.3).
    GroupDelete,
    /// Its meter was deleted (1.4).
    MeterDelete,
    /// Another rule needed the place (1.4).
    Eviction,
}

impl Rule {
    /// What the rule matches on.
    pub fn matching(&self) -> Match {
        self.packed.expand()
    }

    /// When the rule goes unless more packets come, and why; none if it has no time-out.
    pub fn deadline(&self) -> Option<(Instant, RemovalReason)> {
        let after = |start: Instant, secs: u16| (secs != 0).then(|| start + Duration::from_secs(secs as u64));
        let hard = after(self.modified, self.hard_timeout);
        let idle = after(self.stats.last_used(), self.idle_timeout);
        match (hard, idle) {
            (Some(hard), Some(idle)) if idle < hard => Some((idle, RemovalReason::IdleTimeout)),
            (Some(hard), _) => Some((hard, RemovalReason::HardTimeout)),
            (None, Some(idle)) => Some((idle, RemovalReason::IdleTimeout)),
            (None, None) => None,
        }
    }

    /// Whether an action names `port` as an output; what `out_port` of requests asks (OpenFlow 1.0 §5.3.3).
    /// [`OfPort::ANY`] is named by every rule.
    pub fn outputs_to(&self, port: OfPort) -> bool {
        port == OfPort::ANY || actions_output_to(&self.actions, port)
    }

    /// Whether an action names a group, with [`GroupId::ALL`] any; what `out_group` of requests asks (OpenFlow 1.3.5
    /// §A.3.4.1).
    pub fn names_group(&self, group: GroupId) -> bool {
        actions_any(&self.actions, &|action| match action {
            OfAction::Group(id) => group == GroupId::ALL || *id == group,
            _ => false,
        })
    }

    /// Whether an action names a meter, with [`MeterId::ALL`] any.
    pub fn names_meter(&self, meter: MeterId) -> bool {
        actions_any(&self.actions, &|action| match action {
            OfAction::Meter(id) => meter == MeterId::ALL || *id == meter,
            _ => false,
        })
    }
}

fn actions_output_to(actions: &[OfAction], port: OfPort) -> bool {
    actions.iter().any(|action| match action {
        OfAction::Output { port: p, .. } | OfAction::OutputTrunc { port: p, .. } => *p == port,
        OfAction::Enqueue { port: p, .. } => *p == port,
        OfAction::Controller { .. } => port == OfPort::CONTROLLER,
        other => actions_output_to(other.inner(), port),
    })
}

fn actions_any(actions: &[OfAction], wanted: &impl Fn(&OfAction) -> bool) -> bool {
    actions.iter().any(|action| wanted(action) || actions_any(action.inner(), wanted))
}
