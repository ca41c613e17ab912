//! Statistics requests: what the bridge is, its rules, tables and counters.

use super::{Answer, Request};
use crate::brain::{Brain, BridgeState};
use base::Instant;
use flowtable::{Cookie, GroupId, MeterId, Rule, RuleFilter, RuleFlags, TableId};
use openflow::OfError;
use openflow::OfVersion;
use openflow::message::{
    AggregateStats, FlowModFlags, FlowStats, FlowStatsForm, FlowStatsRequest, GROUP_ANY, Message,
    MultipartReply, MultipartRequest, OfTableStats, SwitchDesc,
};

/// OpenFlow 1.0's wildcards that rules may use: all of them.
const WILDCARDS_1_0: u32 = 0x003f_ffff;

fn filter(request: &FlowStatsRequest) -> RuleFilter {
    RuleFilter {
        table: request.table,
        matching: request.matching,
        strict_priority: None,
        cookie: Cookie(request.cookie_filter.value),
        cookie_mask: request.cookie_filter.mask,
        out_port: request.out_port,
        out_group: (request.out_group != GROUP_ANY).then_some(request.out_group),
    }
}

fn age(since: Instant, now: Instant) -> u16 {
    u16::try_from(now.saturating_since(since).as_secs()).unwrap_or(u16::MAX)
}

/// A rule as flow statistics show it.
pub(crate) fn flow_stats(rule: &Rule, now: Instant) -> FlowStats {
    let pairs = [
        (RuleFlags::SEND_FLOW_REM, FlowModFlags::SEND_FLOW_REM),
        (RuleFlags::CHECK_OVERLAP, FlowModFlags::CHECK_OVERLAP),
        (RuleFlags::CHECK_OVERLAP, FlowModFlags::CHECK_OVERLAP),
        (RuleFlags::RESET_COUNTS, FlowModFlags::RESET_COUNTS),
        (RuleFlags::NO_PKT_COUNTS, FlowModFlags::NO_PKT_COUNTS),
        (RuleFlags::NO_BYT_COUNTS, FlowModFlags::NO_BYT_COUNTS),
    ];
    let flags = pairs.iter().filter(|(flag, _)| rule.flags.has(*flag)).fold(0, |all, (_, wire)| all | wire);
    FlowStats {
        table: rule.table,
        matching: rule.matching(),
        priority: rule.priority,
        cookie: rule.cookie.0,
        duration: super::duration(rule.created, now),
        idle_timeout: rule.idle_timeout,
        hard_timeout: rule.hard_timeout,
        idle_age: Some(age(rule.stats.last_used(), now)),
        hard_age: Some(age(rule.modified, now)),
        flags: FlowModFlags(flags),
        importance: rule.importance,
        // Counted also where the controller does not need it, as in OVS.
        packets: Some(rule.stats.packets()),
        bytes: Some(rule.stats.bytes()),
        actions: rule.actions.to_vec(),
    }
}

impl Brain {
    /// Whether what answers or follows a message shows counters that workers hold, as the news of removed rules does: the daemon
    /// folds them first.
    pub fn needs_counters(message: &Message) -> bool {
        matches!(
            message,
            Message::MultipartRequest(
                MultipartRequest::Flow(_)
                    | MultipartRequest::Aggregate(_)
                    | MultipartRequest::Table
                    | MultipartRequest::PortStats(_)
                    | MultipartRequest::GroupStats(_)
            ) | Message::FlowMod(_)
                | Message::GroupMod(_)
                | Message::MeterMod(_)
                | Message::BundleControl(_)
        )
    }

    pub(super) fn multipart(&mut self, r: &Request<'_>, request: MultipartRequest) -> Answer {
        let one = |reply| Ok(vec![Message::MultipartReply { more: false, reply }]);
        match request {
            MultipartRequest::Desc => one(MultipartReply::Desc(self.describe(r)?)),
            MultipartRequest::Flow(request) => self.flow_statistics(r, &request),
            MultipartRequest::Aggregate(request) => self.aggregate(r, &request),
            MultipartRequest::Table => one(MultipartReply::Table(table_stats(self.bridge(&r.bridge)?))),
            MultipartRequest::PortStats(port) => self.port_stats(r, port),
            MultipartRequest::Queue { port, queue } => self.queue_stats(r, port, queue),
            MultipartRequest::PortDesc(port) => self.port_desc_reply(r, port),
            MultipartRequest::TableFeatures(wanted) => self.table_features(r, wanted),
            MultipartRequest::TableDesc => self.table_descs(r),
            MultipartRequest::QueueDesc { port, .. } => self.queue_desc(r, port),
            MultipartRequest::FlowMonitor(monitors) => self.monitor_request(r, monitors),
            MultipartRequest::GroupStats(id) => self.group_stats(r, GroupId(id)),
            MultipartRequest::GroupDesc(id) => self.group_descs(r, GroupId(id)),
            MultipartRequest::GroupFeatures => {
                one(MultipartReply::GroupFeatures(super::group::group_features(r.version)))
            }
            MultipartRequest::MeterStats(id) => self.meter_stats(r, MeterId(id)),
            MultipartRequest::MeterConfig(id) => self.meter_descs(r, MeterId(id)),
            MultipartRequest::MeterFeatures => {
                one(MultipartReply::MeterFeatures(super::group::meter_features()))
            }
            MultipartRequest::Ipfix(_) => Err(OfError::NxStatisticsNotConfigured),
            _ => Err(OfError::BadRequestBadStat),
        }
    }

    fn describe(&self, r: &Request<'_>) -> Result<SwitchDesc, OfError> {
        let bridge = self.bridge(&r.bridge)?;
        Ok(SwitchDesc {
            // Controllers enable the Nicira extensions by these two.
            manufacturer: "Nicira, Inc.".to_owned(),
            hardware: "Open vSwitch".to_owned(),
            software: concat!("Tapestry ", env!("CARGO_PKG_VERSION")).to_owned(),
            serial: bridge.config.dp_sn.clone().unwrap_or_else(|| "None".to_owned()),
            datapath: bridge.config.dp_desc.clone().unwrap_or_else(|| "None".to_owned()),
        })
    }

    fn flow_statistics(&mut self, r: &Request<'_>, request: &FlowStatsRequest) -> Answer {
        super::tlv_table::check_fields(self.geneve_map(r)?, &request.matching, &[])?;
        let form = self.form(r, request);
        let rules = filter(request).select(self.bridge(&r.bridge)?.rules.tables());
        let stats = rules.iter().map(|rule| flow_stats(rule, r.now)).collect();
        Ok(vec![Message::MultipartReply { more: false, reply: MultipartReply::Flow(form, stats) }])
    }

    fn aggregate(&mut self, r: &Request<'_>, request: &FlowStatsRequest) -> Answer {
        super::tlv_table::check_fields(self.geneve_map(r)?, &request.matching, &[])?;
        let form = self.form(r, request);
        let rules = filter(request).select(self.bridge(&r.bridge)?.rules.tables());
        let total = |count: fn(&Rule) -> u64| Some(rules.iter().map(|rule| count(rule)).sum());
        let stats = AggregateStats {
            packets: total(|rule| rule.stats.packets()),
            bytes: total(|rule| rule.stats.bytes()),
            flows: u32::try_from(rules.len()).unwrap_or(u32::MAX),
        };
        Ok(vec![Message::MultipartReply { more: false, reply: MultipartReply::Aggregate(form, stats) }])
    }

    /// The reply has the form of the request.
    fn form(&self, _r: &Request<'_>, request: &FlowStatsRequest) -> FlowStatsForm {
        request.form
    }
}

fn table_stats(bridge: &BridgeState) -> Vec<OfTableStats> {
    let announced = |t: &&std::sync::Arc<flowtable::Table>| t.id.0 < super::TABLES_ANNOUNCED || !t.is_empty();
    let tables = bridge.rules.tables().iter().filter(announced);
    tables
        .map(|t| OfTableStats {
            table: t.id,
            name: table_name(bridge, t.id),
            wildcards: WILDCARDS_1_0,
            max_entries: u32::try_from(t.config.rules_max).unwrap_or(u32::MAX),
            active: u32::try_from(t.len()).unwrap_or(u32::MAX),
            lookups: t.counters().lookups(),
            matched: t.counters().matches(),
        })
        .collect()
}

/// A table's name, if one is configured. None is made up: tools would print it in place of the number.
pub(super) fn table_name(bridge: &BridgeState, table: TableId) -> String {
    bridge.config.flow_tables.get(&table.0).and_then(|t| t.name.clone()).unwrap_or_default()
}

/// Versions in which requests may name more than one table feature set are all that have them.
pub(super) const TABLE_FEATURES_SINCE: OfVersion = OfVersion::V13;
