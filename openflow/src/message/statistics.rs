//! Statistics requests and replies, called multipart since OpenFlow 1.3.

use super::*;
use flowtable::{Match, OfAction, OfPort, TableId};
use std::time::Duration;

/// In which of several forms statistics of rules are asked and answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlowStatsForm {
    /// The version's own: `OFPST_FLOW`; `OFPMP_FLOW_DESC` in OpenFlow 1.5.
    #[default]
    Standard,
    /// Nicira's `NXST_FLOW` (OpenFlow 1.0).
    Nicira,
    /// `OFPMP_FLOW_STATS` of OpenFlow 1.5: without actions, timeouts and cookie.
    Brief,
}

/// Which rules are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowStatsRequest {
    /// In which form the answer is wanted.
    pub form: FlowStatsForm,
    /// Of which table; [`TableId::ALL`] for all.
    pub table: TableId,
    /// Only rules that this match covers.
    pub matching: Match,
    /// Only rules with an output to this port; [`OfPort::ANY`] for no condition.
    pub out_port: OfPort,
    /// Only rules with an output to this group; [`GROUP_ANY`] for no condition (1.1 and later).
    pub out_group: u32,
    /// Only rules with such cookies (not in OpenFlow 1.0's own form).
    pub cookie_filter: CookieFilter,
}

impl FlowStatsRequest {
    /// Every rule.
    pub fn all(form: FlowStatsForm) -> FlowStatsRequest {
        FlowStatsRequest {
            form,
            table: TableId::ALL,
            matching: Match::any(),
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            cookie_filter: CookieFilter::default(),
        }
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MultipartRequest {
    /// Description of the switch.
    Desc,
    /// Rules.
    Flow(FlowStatsRequest),
    /// Sums over rules.
    Aggregate(FlowStatsRequest),
    /// Statistics of tables.
    Table,
    /// Statistics of a port; [`OfPort::ANY`] for all.
    PortStats(OfPort),
    /// Statistics of queues; [`OfPort::ANY`] and [`QUEUE_ALL`] for all.
    Queue {
        /// The port.
        port: OfPort,
        /// The queue.
        queue: u32,
    },
    /// Descriptions of ports; a single one in OpenFlow 1.5, else [`OfPort::ANY`].
    PortDesc(OfPort),
    /// Features of tables; a non-empty list asks to change them.
    TableFeatures(Vec<TableFeatures>),
    /// Settings of tables (1.4 and later).
    TableDesc,
    /// Statistics of a group; 0xfffffffc for all.
    GroupStats(u32),
    /// Descriptions of groups; a single one in OpenFlow 1.5, else 0xfffffffc.
    GroupDesc(u32),
    /// What groups can do.
    GroupFeatures,
    /// Statistics of a meter; 0xffffffff for all.
    MeterStats(u32),
    /// Settings of a meter; 0xffffffff for all.
    MeterConfig(u32),
    /// What meters can do.
    MeterFeatures,
    /// Settings of queues (1.4 and later).
    QueueDesc {
        /// The port.
        port: OfPort,
        /// The queue.
        queue: u32,
    },
    /// Begins flow monitors.
    FlowMonitor(Vec<FlowMonitor>),
    /// Nicira's IPFIX statistics of the bridge (3) or of flow sample collectors (4); not configured here.
    Ipfix(u32),
}

/// "Every queue" (`OFPQ_ALL`).
pub const QUEUE_ALL: u32 = 0xffff_ffff;

/// Answers. Lists may come in several messages.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MultipartReply {
    /// Description of the switch.
    Desc(SwitchDesc),
    /// Rules.
    Flow(FlowStatsForm, Vec<FlowStats>),
    /// Sums over rules.
    Aggregate(FlowStatsForm, AggregateStats),
    /// Statistics of tables.
    Table(Vec<OfTableStats>),
    /// Statistics of ports.
    PortStats(Vec<OfPortStats>),
    /// Statistics of queues.
    Queue(Vec<QueueStats>),
    /// Descriptions of ports.
    PortDesc(Vec<OfPortDesc>),
    /// Features of tables.
    TableFeatures(Vec<TableFeatures>),
    /// Settings of tables.
    TableDesc(Vec<TableConfig>),
    /// Statistics of groups.
    GroupStats(Vec<GroupStats>),
    /// Descriptions of groups.
    GroupDesc(Vec<GroupDesc>),
    /// What groups can do.
    GroupFeatures(GroupFeatures),
    /// Statistics of meters.
    MeterStats(Vec<MeterStats>),
    /// Settings of meters.
    MeterConfig(Vec<MeterDesc>),
    /// What meters can do.
    MeterFeatures(MeterFeatures),
    /// Settings of queues.
    QueueDesc(Vec<QueueConfig>),
    /// Updates of flow monitors.
    FlowMonitor(Vec<FlowUpdate>),
}

/// OFPMP_DESC. Each text is cut to its field: 255 bytes, `serial` 31.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SwitchDesc {
    /// Who made it.
    pub manufacturer: String,
    /// Hardware.
    pub hardware: String,
    /// Software.
    pub software: String,
    /// Serial number.
    pub serial: String,
    /// A name for people.
    pub datapath: String,
}

/// A rule with its statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowStats {
    /// Its table.
    pub table: TableId,
    /// Its match.
    pub matching: Match,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Its age.
    pub duration: Duration,
    /// Its idle timeout, seconds.
    pub idle_timeout: u16,
    /// Its hard timeout, seconds.
    pub hard_timeout: u16,
    /// Seconds since its last packet (Nicira's form and OpenFlow 1.5; else `None`).
    pub idle_age: Option<u16>,
    /// Seconds since it was last modified (Nicira's form; else `None`).
    pub hard_age: Option<u16>,
    /// Its flags (1.3 and later).
    pub flags: FlowModFlags,
    /// For eviction (1.4 and later).
    pub importance: u16,
    /// Packets that matched; `None` if not known.
    pub packets: Option<u64>,
    /// Bytes that matched; `None` if not known.
    pub bytes: Option<u64>,
    /// Its actions.
    pub actions: Vec<OfAction>,
}

/// Sums over rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AggregateStats {
    /// Packets; `None` if not known.
    pub packets: Option<u64>,
    /// Bytes; `None` if not known.
    pub bytes: Option<u64>,
    /// Rules.
    pub flows: u32,
}

/// Statistics of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfTableStats {
    /// Which table.
    pub table: TableId,
    /// Its name (1.0 only).
    pub name: String,
    /// Wildcards it supports as OpenFlow 1.0 `ofp_flow_wildcards` (1.0 only).
    pub wildcards: u32,
    /// Most rules (1.0 only).
    pub max_entries: u32,
    /// Rules.
    pub active: u32,
    /// Look-ups.
    pub lookups: u64,
    /// Look-ups that found a rule.
    pub matched: u64,
}

/// Statistics of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueStats {
    /// Its port.
    pub port: OfPort,
    /// Its number.
    pub queue: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Frames dropped.
    pub tx_errors: u64,
    /// Its age (1.3 and later).
    pub duration: Option<Duration>,
}

/// What groups can do (`ofp_group_features`), by type: all, select, indirect, fast failover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupFeatures {
    /// Bits by group type.
    pub types: u32,
    /// `ofp_group_capabilities`.
    pub capabilities: u32,
    /// Most groups.
    pub max_groups: [u32; 4],
    /// Bits by action type.
    pub actions: [u32; 4],
}

/// What meters can do (`ofp_meter_features`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MeterFeatures {
    /// Most meters.
    pub max_meters: u32,
    /// Bits by band type.
    pub band_types: u32,
    /// `ofp_meter_flags` that can be set.
    pub capabilities: u32,
    /// Most bands.
    pub max_bands: u8,
    /// Highest colour.
    pub max_color: u8,
}
