//! What this crate writes, as the installed `ovs-ofctl ofp-print` reads it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flowtable::text::{FlowUsage, NoPortNames, parse_flow};
use flowtable::{FlowModCommand, OfPort, PacketInReason, TableId};
use openflow::message::*;
use openflow::{Dialect, FlowFormat, Message, OfError, OfVersion, PacketInFormat, Xid, encode_to_vec};
use std::process::Command;
use std::time::Duration;

const V10: OfVersion = OfVersion::V10;
const V13: OfVersion = OfVersion::V13;
const V14: OfVersion = OfVersion::V14;
const V15: OfVersion = OfVersion::V15;

/// What ovs-ofctl makes of a message, without the transaction id.
fn shown(dialect: &Dialect, message: &Message) -> String {
    let bytes = encode_to_vec(dialect, Xid(0), message).unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let out = Command::new("ovs-ofctl").args(["ofp-print", &hex]).output();
    let out = out.expect("ovs-ofctl is needed for this test: install openvswitch-common");
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    text.replace(" (xid=0x0)", "").trim_end().to_owned()
}

#[track_caller]
fn check_in(dialect: &Dialect, message: &Message, expected: &str) {
    let shown = shown(dialect, message);
    assert_eq!(shown, expected, "{}", dialect.version);
}

#[track_caller]
fn check(version: OfVersion, message: &Message, expected: &str) {
    check_in(&Dialect::new(version), message, expected);
}

#[track_caller]
fn reply(version: OfVersion, reply: MultipartReply, expected: &str) {
    check(version, &Message::MultipartReply { more: false, reply }, expected);
}

fn flow() -> flowtable::text::ParsedFlow {
    let text = "table=3,priority=9,tcp,in_port=1,dl_vlan=5,nw_src=10.0.0.0/8,tp_dst=80,reg3=7/0xff,actions=load:5->NXM_NX_REG0[],output:2,resubmit(,4)";
    parse_flow(text, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames).unwrap()
}

/// The match of `flow` as ovs-ofctl shows it.
const MATCH: &str = "tcp,reg3=0x7/0xff,in_port=1,dl_vlan=5,nw_src=10.0.0.0/8,tp_dst=80";
const ACTIONS: &str = "actions=load:0x5->NXM_NX_REG0[],output:2,resubmit(,4)";
const ACTIONS_15: &str = "actions=set_field:0x5->reg0,output:2,resubmit(,4)";

fn flow_stats() -> FlowStats {
    let flow = flow();
    FlowStats {
        table: TableId(3),
        matching: flow.matching,
        priority: 9,
        cookie: 0x77,
        duration: Duration::from_millis(2500),
        idle_timeout: 10,
        hard_timeout: 20,
        idle_age: Some(4),
        hard_age: Some(6),
        flags: FlowModFlags(FlowModFlags::SEND_FLOW_REM),
        importance: 3,
        packets: Some(11),
        bytes: Some(22),
        actions: flow.actions,
    }
}

#[test]
fn flow_statistics() {
    let head =
        "cookie=0x77, duration=2.500s, table=3, n_packets=11, n_bytes=22, idle_timeout=10, hard_timeout=20,";
    let rules = |form| MultipartReply::Flow(form, vec![flow_stats(); 2]);
    let twice = |title: &str, rest: &str| format!("{title}\n {head} {rest}\n {head} {rest}");
    // The old form leaves out what it cannot say: the register.
    let old = "priority=9,tcp,in_port=1,dl_vlan=5,nw_src=10.0.0.0/8,tp_dst=80";
    reply(V10, rules(FlowStatsForm::Standard), &twice("OFPST_FLOW reply:", &format!("{old} {ACTIONS}")));
    let nicira = format!("idle_age=4, hard_age=6, priority=9,{MATCH} {ACTIONS}");
    reply(V10, rules(FlowStatsForm::Nicira), &twice("NXST_FLOW reply:", &nicira));
    let v13 = format!("send_flow_rem priority=9,{MATCH} {ACTIONS}");
    reply(V13, rules(FlowStatsForm::Standard), &twice("OFPST_FLOW reply (OF1.3):", &v13));
    let v14 = format!("send_flow_rem importance=3, priority=9,{MATCH} {ACTIONS}");
    reply(V14, rules(FlowStatsForm::Standard), &twice("OFPST_FLOW reply (OF1.4):", &v14));
    let v15 = format!("send_flow_rem importance=3, idle_age=4, priority=9,{MATCH} {ACTIONS_15}");
    reply(V15, rules(FlowStatsForm::Standard), &twice("OFPST_FLOW reply (OF1.5):", &v15));
}

#[test]
fn sums() {
    let sums = AggregateStats { packets: Some(1), bytes: Some(2), flows: 3 };
    let text = "packet_count=1 byte_count=2 flow_count=3";
    let nicira = MultipartReply::Aggregate(FlowStatsForm::Nicira, sums);
    reply(V10, nicira, &format!("NXST_AGGREGATE reply: {text}"));
    for (version, name) in [(V10, ""), (V13, " (OF1.3)"), (V14, " (OF1.4)"), (V15, " (OF1.5)")] {
        let standard = MultipartReply::Aggregate(FlowStatsForm::Standard, sums);
        reply(version, standard, &format!("OFPST_AGGREGATE reply{name}: {text}"));
    }
}

#[test]
fn flow_removed() {
    let removed = Message::FlowRemoved(FlowRemoved {
        matching: flow().matching,
        cookie: 0x77,
        priority: 9,
        reason: FlowRemovedReason::HardTimeout,
        table: TableId(3),
        duration: Duration::from_millis(2500),
        idle_timeout: 10,
        hard_timeout: 20,
        packets: Some(11),
        bytes: Some(22),
    });
    let text = |title: &str, hard: &str| {
        format!(
            "{title}: priority=9,{MATCH} reason=hard table_id=3 cookie:0x77 duration2.500s idle10{hard} pkts11 bytes22"
        )
    };
    check(V10, &removed, &text("NXT_FLOW_REMOVED", ""));
    for (version, name) in [(V13, "OF1.3"), (V14, "OF1.4"), (V15, "OF1.5")] {
        check(version, &removed, &text(&format!("OFPT_FLOW_REMOVED ({name})"), " hard20"));
    }
}

#[test]
fn packets_in() {
    let mut metadata = flowtable::Match::any();
    metadata.set_exact(packet::key::slot::IN_PORT, 5);
    metadata.set_exact(flowtable::FieldId::Reg0.slot(), 9);
    metadata.set_exact(flowtable::FieldId::TunId.slot(), 9);
    let message = Message::PacketIn(PacketIn {
        reason: PacketInReason::InvalidTtl,
        table: TableId(3),
        cookie: 0x77,
        total_len: 100,
        metadata,
        userdata: vec![1, 2],
        data: vec![0; 20],
    });
    let frame = "vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x05ff";
    let cut = "(via invalid_ttl) data_len=20 (unbuffered) (***total_len != data_len***)";
    check(V10, &message, &format!("OFPT_PACKET_IN: total_len=100 in_port=5 {cut}\n{frame}"));
    let full = "table_id=3 cookie=0x77 total_len=100 reg0=0x9,tun_id=0x9,in_port=5";
    for (version, name) in [(V10, ""), (V13, " (OF1.3)"), (V14, " (OF1.4)"), (V15, " (OF1.5)")] {
        if version != V10 {
            check(version, &message, &format!("OFPT_PACKET_IN{name}: {full} {cut}\n{frame}"));
        }
        let nxt = Dialect { packet_in_format: PacketInFormat::Nxt, ..Dialect::new(version) };
        check_in(&nxt, &message, &format!("NXT_PACKET_IN{name}: {full} {cut}\n{frame}"));
        let nxt2 = Dialect { packet_in_format: PacketInFormat::Nxt2, ..Dialect::new(version) };
        check_in(&nxt2, &message, &format!("NXT_PACKET_IN2{name}: {full} {cut}\n userdata=01.02\n{frame}"));
    }
}

fn port() -> OfPortDesc {
    OfPortDesc {
        port: OfPort(1),
        hw_addr: 0x0102_0304_0506,
        name: "eth1".to_owned(),
        config: PortConfig(PortConfig::NO_RECV),
        state: PortState(PortState::LINK_DOWN),
        curr: LinkModes(LinkModes::FD_10G | LinkModes::COPPER),
        advertised: LinkModes(LinkModes::FD_1G),
        supported: LinkModes(LinkModes::FD_100M | LinkModes::AUTONEG),
        peer: LinkModes(LinkModes::PAUSE_ASYM),
        curr_speed_kbps: 10_000_000,
        max_speed_kbps: 20_000_000,
    }
}

#[test]
fn ports() {
    let text = |speed: &str| {
        format!(
            "1(eth1): addr:01:02:03:04:05:06\n     config:     NO_RECV\n     state:      LINK_DOWN\n     \
             current:    10GB-FD COPPER\n     advertised: 1GB-FD\n     supported:  100MB-FD AUTO_NEG\n     \
             peer:       AUTO_PAUSE_ASYM\n     speed: {speed}"
        )
    };
    let mut stats = OfPortStats::unknown(OfPort(1));
    (stats.rx_packets, stats.tx_packets, stats.rx_bytes, stats.tx_bytes) = (1, 2, 3, 4);
    (stats.collisions, stats.rx_crc_err, stats.duration) = (5, 6, Some(Duration::from_millis(1500)));
    let counts = "  port  1: rx pkts=1, bytes=3, drop=?, errs=?, frame=?, over=?, crc=6\n           \
                  tx pkts=2, bytes=4, drop=?, errs=?, coll=5";
    let status = Message::PortStatus(PortStatus { reason: PortStatusReason::Delete, port: port() });
    let change = Message::PortMod(PortMod {
        port: OfPort(1),
        hw_addr: 5,
        config: PortConfig(PortConfig::PORT_DOWN),
        mask: PortConfig(PortConfig::PORT_DOWN),
        advertise: LinkModes(LinkModes::FD_10G),
    });
    let changed = "port: 1: addr:00:00:00:00:00:05\n     config: PORT_DOWN\n     mask:   PORT_DOWN\n     advertise: 10GB-FD";
    for (version, name) in [(V10, ""), (V13, " (OF1.3)"), (V14, " (OF1.4)"), (V15, " (OF1.5)")] {
        let (speed, age) = match version {
            // Worked out from the link modes.
            V10 => ("10000 Mbps now, 100 Mbps max", ""),
            _ => ("10000 Mbps now, 20000 Mbps max", "\n           duration=1.500s"),
        };
        let text = text(speed);
        check(version, &status, &format!("OFPT_PORT_STATUS{name}: DEL: {text}"));
        check(version, &change, &format!("OFPT_PORT_MOD{name}: {changed}"));
        let two = MultipartReply::PortDesc(vec![port(); 2]);
        reply(version, two, &format!("OFPST_PORT_DESC reply{name}:\n {text}\n {text}"));
        let two = MultipartReply::PortStats(vec![stats.clone(); 2]);
        reply(version, two, &format!("OFPST_PORT reply{name}: 2 ports\n{counts}{age}\n{counts}{age}"));
    }
}

#[test]
fn queues() {
    let queue = QueueConfig { port: OfPort(1), queue: 2, min_rate: Some(100), max_rate: Some(200) };
    let text = "port=1\nqueue 2: min_rate:10.0% max_rate:20.0%";
    let old = Message::QueueGetConfigReply(OfPort(1), vec![queue]);
    check(V10, &old, &format!("OFPT_QUEUE_GET_CONFIG_REPLY: {text}"));
    check(V13, &old, &format!("OFPT_QUEUE_GET_CONFIG_REPLY (OF1.3): {text}"));
    reply(V14, MultipartReply::QueueDesc(vec![queue]), &format!("OFPST_QUEUE_DESC reply (OF1.4): {text}"));
    let duration = Some(Duration::from_millis(1500));
    let stats = QueueStats { port: OfPort(1), queue: 2, tx_bytes: 3, tx_packets: 4, tx_errors: 5, duration };
    for (version, name, age) in [(V10, "", "?"), (V13, " (OF1.3)", "1.500s"), (V15, " (OF1.5)", "1.500s")] {
        let text = format!(
            "OFPST_QUEUE reply{name}: 1 queues\n  port 1 queue 2: bytes=3, pkts=4, errors=5, duration={age}"
        );
        reply(version, MultipartReply::Queue(vec![stats]), &text);
    }
}

#[test]
fn the_switch() {
    let features = Message::FeaturesReply(SwitchFeatures {
        datapath_id: 0x1234,
        n_buffers: 0,
        n_tables: 254,
        auxiliary_id: 0,
        capabilities: Capabilities(0x7ff),
        actions: 1,
        ports: Vec::new(),
    });
    let text = |name: &str, capabilities: &str| {
        format!(
            "OFPT_FEATURES_REPLY{name}: dpid:0000000000001234\nn_tables:254, n_buffers:0\ncapabilities: {capabilities}"
        )
    };
    let old = "FLOW_STATS TABLE_STATS PORT_STATS IP_REASM QUEUE_STATS ARP_MATCH_IP\nactions: output";
    check(V10, &features, &text("", old));
    let new = "FLOW_STATS TABLE_STATS PORT_STATS GROUP_STATS IP_REASM QUEUE_STATS PORT_BLOCKED";
    check(V13, &features, &text(" (OF1.3)", new));
    let config = SwitchConfig {
        fragments: FragmentHandling::NxMatch,
        invalid_ttl_to_controller: false,
        miss_send_len: 128,
    };
    check(
        V13,
        &Message::GetConfigReply(config),
        "OFPT_GET_CONFIG_REPLY (OF1.3): frags=nx-match miss_send_len=128",
    );
    let desc = SwitchDesc {
        manufacturer: "a".to_owned(),
        hardware: "b".to_owned(),
        software: "c".to_owned(),
        serial: "d".to_owned(),
        datapath: "e".to_owned(),
    };
    let text = "Manufacturer: a\nHardware: b\nSoftware: c\nSerial Num: d\nDP Description: e";
    reply(V10, MultipartReply::Desc(desc.clone()), &format!("OFPST_DESC reply:\n{text}"));
    reply(V15, MultipartReply::Desc(desc), &format!("OFPST_DESC reply (OF1.5):\n{text}"));
    let meters =
        MeterFeatures { max_meters: 5, band_types: 2, capabilities: 0xf, max_bands: 8, max_color: 0 };
    let text = "max_meter:5 max_bands:8 max_color:0\nband_types: drop\ncapabilities: kbps pktps burst stats";
    reply(
        V13,
        MultipartReply::MeterFeatures(meters),
        &format!("OFPST_METER_FEATURES reply (OF1.3):\n{text}"),
    );
    reply(V13, MultipartReply::MeterConfig(Vec::new()), "OFPST_METER_CONFIG reply (OF1.3):");
    reply(V13, MultipartReply::MeterStats(Vec::new()), "OFPST_METER reply (OF1.3):");
    reply(V10, MultipartReply::GroupDesc(Vec::new()), "NXST_GROUP_DESC reply:");
    reply(V13, MultipartReply::GroupDesc(Vec::new()), "OFPST_GROUP_DESC reply (OF1.3):");
    reply(V15, MultipartReply::GroupStats(Vec::new()), "OFPST_GROUP reply (OF1.5):");
}

#[test]
fn tables() {
    let table = OfTableStats {
        table: TableId(0),
        name: "classifier".to_owned(),
        wildcards: 0x3f_ffff,
        max_entries: 1000,
        active: 5,
        lookups: 6,
        matched: 7,
    };
    let fields = "in_port eth_{src,dst,type} vlan_{vid,pcp} ip_{src,dst} nw_{proto,tos} tcp_{src,dst}";
    let old = format!("    max_entries=1000\n    matching:\n      exact match or wildcard: {fields}");
    let counts = "    active=5, lookup=6, matched=7";
    let stats = MultipartReply::Table(vec![table]);
    reply(V10, stats.clone(), &format!("OFPST_TABLE reply:\n  table 0 (\"classifier\"):\n{counts}\n{old}"));
    reply(V13, stats, &format!("OFPST_TABLE reply (OF1.3):\n  table 0:\n{counts}"));
    let vacancy = Some(Vacancy { down: 10, up: 20, now: 15 });
    let config = TableConfig { table: TableId(3), eviction: true, vacancy, bits: 0 };
    let text = "OFPST_TABLE_DESC reply (OF1.4):\n  table 3:\n   eviction=on eviction_flags=OTHER|IMPORTANCE|LIFETIME\n   \
                vacancy=on vacancy_down=10% vacancy_up=20% vacancy=15%";
    reply(V14, MultipartReply::TableDesc(vec![config]), text);
    let text = "OFPT_TABLE_MOD (OF1.4): table_id=3, eviction=on, vacancy=on vacancy:10,20";
    check(V14, &Message::TableMod(config), text);
}

/// Of the long text the lines that tell whether every property was understood.
#[test]
fn table_features() {
    for (version, eviction) in [(V13, false), (V14, true), (V15, true)] {
        let tables =
            (0..2).map(|t| TableFeatures::full(version, TableId(t), TableId(253), 1_000_000)).collect();
        let message = Message::MultipartReply { more: false, reply: MultipartReply::TableFeatures(tables) };
        let text = shown(&Dialect::new(version), &message);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for line in [
            "table 0:",
            "metadata: match=0xffffffffffffffff write=0xffffffffffffffff",
            "max_entries=1000000",
            "instructions (table miss and others):",
            "next tables: 1-253",
            "instructions: apply_actions clear_actions write_actions write_metadata goto_table",
            "Write-Actions and Apply-Actions features:",
            "actions: output set_field strip_vlan push_vlan mod_nw_ttl dec_ttl set_mpls_ttl dec_mpls_ttl push_mpls pop_mpls",
            "table 1: ditto",
        ] {
            assert!(lines.contains(&line), "{version}: {line} is not in\n{text}");
        }
        assert_eq!(lines.contains(&"eviction: not supported"), eviction);
    }
}

#[test]
fn flow_monitors() {
    let monitor = FlowMonitor {
        id: 3,
        command: MonitorCommand::Add,
        flags: MonitorFlags(0x3f),
        out_port: OfPort(2),
        out_group: GROUP_ANY,
        table: TableId(3),
        matching: flow().matching,
    };
    let ask = Message::MultipartRequest(MultipartRequest::FlowMonitor(vec![monitor]));
    let asked = format!("id=3 flags=initial,add,delete,modify,actions,own out_port=2 table=3 {MATCH}");
    let update = |event| {
        FlowUpdate::Full(Box::new(RuleUpdate {
            event,
            table: TableId(3),
            priority: 9,
            cookie: 0x77,
            idle_timeout: 10,
            hard_timeout: 20,
            matching: flow().matching,
            actions: flow().actions,
        }))
    };
    let updates = MultipartReply::FlowMonitor(vec![
        update(MonitorEvent::Removed(FlowRemovedReason::HardTimeout)),
        update(MonitorEvent::Added),
        FlowUpdate::Abbrev(Xid(0x1234)),
    ]);
    for (version, kind, name, actions) in [
        (V10, "NXST", "", ACTIONS),
        (V13, "ONFST", " (OF1.3)", ACTIONS),
        (V14, "OFPST", " (OF1.4)", ACTIONS),
        (V15, "OFPST", " (OF1.5)", ACTIONS_15),
    ] {
        check(version, &ask, &format!("{kind}_FLOW_MONITOR request{name}:\n {asked}"));
        let rule = format!("table=3 idle_timeout=10 hard_timeout=20 cookie=0x77 {MATCH} {actions}");
        let text = format!("event=DELETED reason=hard {rule}\n event=ADDED {rule}\n event=ABBREV xid=0x1234");
        reply(version, updates.clone(), &format!("{kind}_FLOW_MONITOR reply{name}:\n {text}"));
    }
    check(V10, &Message::FlowMonitorCancel(5), "NXT_FLOW_MONITOR_CANCEL: id=5");
    check(V13, &Message::FlowMonitorCancel(5), "ONFT_FLOW_MONITOR_CANCEL (OF1.3): id=5");
    check(V10, &Message::FlowMonitorPaused, "NXT_FLOW_MONITOR_PAUSED:");
    check(V13, &Message::FlowMonitorResumed, "ONFT_FLOW_MONITOR_RESUMED (OF1.3):");
}

#[test]
fn the_connection() {
    let role = Message::RoleReply(RoleMessage { role: Role::Primary, generation_id: Some(5) });
    check(V10, &role, "NXT_ROLE_REPLY: role=primary");
    check(V13, &role, "OFPT_ROLE_REPLY (OF1.3): role=primary generation_id=5");
    let status =
        RoleStatus { role: Role::Secondary, reason: RoleReason::PrimaryRequest, generation_id: Some(5) };
    let text = "OFPT_ROLE_STATUS (OF1.4): role=secondary generation_id=5 reason=primary_request";
    check(V14, &Message::RoleStatus(status), text);
    let control = BundleControl {
        bundle: 7,
        kind: BundleControlKind::CommitReply,
        flags: BUNDLE_ATOMIC | BUNDLE_ORDERED,
    };
    let text = "bundle_id=0x7 type=COMMIT_REPLY flags=atomic ordered";
    check(V13, &Message::BundleControl(control), &format!("ONFT_BUNDLE_CONTROL (OF1.3):\n {text}"));
    check(V14, &Message::BundleControl(control), &format!("OFPT_BUNDLE_CONTROL (OF1.4):\n {text}"));
    check(V10, &Message::SetFlowFormat(FlowFormat::Nxm), "NXT_SET_FLOW_FORMAT: format=nxm");
    check(V10, &Message::FlowModTableId(true), "NXT_FLOW_MOD_TABLE_ID: enable");
    check(
        V13,
        &Message::SetPacketInFormat(PacketInFormat::Nxt2),
        "NXT_SET_PACKET_IN_FORMAT (OF1.3): format=nxt_packet_in2",
    );
    check(V13, &Message::SetControllerId(5), "NXT_SET_CONTROLLER_ID (OF1.3): id=5");
    check(V13, &Message::CtFlushZone(5), "NXT_CT_FLUSH_ZONE (OF1.3): zone_id=5");
    let original = CtTuple { src: Some([10, 0, 0, 1].into()), dst_port: Some(80), ..CtTuple::default() };
    let reply = CtTuple { dst: Some([10, 1, 1, 1].into()), src_port: Some(8080), ..CtTuple::default() };
    check(
        V13,
        &Message::CtFlush(CtFlush { zone: Some(5), protocol: 6, original, reply }),
        "NXT_CT_FLUSH (OF1.3): zone=5 'ct_nw_src=10.0.0.1,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=80,ct_nw_proto=6' \
         'ct_nw_src=::,ct_nw_dst=10.1.1.1,ct_tp_src=8080,ct_tp_dst=0'",
    );
    let original =
        CtTuple { icmp_id: Some(3), icmp_type: Some(128), icmp_code: Some(1), ..CtTuple::default() };
    check(
        V15,
        &Message::CtFlush(CtFlush { protocol: 58, original, ..CtFlush::default() }),
        "NXT_CT_FLUSH (OF1.5): zone=0 'ct_ipv6_src=::,ct_ipv6_dst=::,icmp_id=3,icmp_type=128,icmp_code=1,ct_nw_proto=58' \
         'ct_ipv6_src=::,ct_ipv6_dst=::,icmp_id=0,icmp_type=0,icmp_code=0'",
    );
    let tlv = TlvTableReply { max_option_space: 256, max_fields: 64, mappings: Vec::new() };
    let shown_tlv = shown(&Dialect::new(V10), &Message::TlvTableReply(tlv));
    assert!(
        shown_tlv.starts_with("NXT_TLV_TABLE_REPLY:\n max option space=256 max fields=64"),
        "{shown_tlv}"
    );
    let quoted = vec![4, 18, 0, 16, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];
    let error = Message::Error(ErrorMessage { code: OfError::BundleFailedBadId.into(), data: quoted });
    check(V13, &error, "OFPT_ERROR (OF1.3): OFPBFC_BAD_ID\nOFPST_TABLE request (OF1.3):");
    // OpenFlow 1.0 has no number for it.
    check(V10, &error, "OFPT_ERROR: NXBRC_UNENCODABLE_ERROR\nOFPST_TABLE request (OF1.3):");
}

#[test]
fn masks_of_unasked_messages() {
    let config = AsyncConfig::default();
    let old = |role: &str, packet_in: &str, removed: &str| {
        format!(
            "{role}:\n       PACKET_IN: {packet_in}\n     PORT_STATUS: add delete modify\n    FLOW_REMOVED: {removed}\n     \
             ROLE_STATUS: (off)\n    TABLE_STATUS: (off)\n  REQUESTFORWARD: (off)"
        )
    };
    let removed = "idle hard delete group_delete meter_delete eviction";
    let (primary, secondary) =
        (old("primary", "no_match action", removed), old("secondary", "(off)", "(off)"));
    let set = Message::SetAsync(config.changes().collect());
    check(V10, &set, &format!("NXT_SET_ASYNC_CONFIG:\n {primary}\n\n {secondary}"));
    check(V13, &set, &format!("OFPT_SET_ASYNC (OF1.3):\n {primary}\n\n {secondary}"));
    let changed = "ROLE_STATUS: primary_request configuration_changed experimenter_data_changed";
    let new = |text: String| text.replace("ROLE_STATUS: (off)", changed);
    let primary = new(primary).replace("no_match action", "no_match action action_set group packet_out");
    let secondary = new(secondary);
    check(V14, &set, &format!("OFPT_SET_ASYNC (OF1.4):\n {primary}\n\n {secondary}"));
    check(
        V15,
        &Message::GetAsyncReply(config),
        &format!("OFPT_GET_ASYNC_REPLY (OF1.5):\n {primary}\n\n {secondary}"),
    );
}
