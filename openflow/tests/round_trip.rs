//! Every message in every version that has it: written, read, and the same again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flowtable::field::{FIELDS, Format, Masking, Prereq};
use flowtable::{
    CtAction, CtAlg, FieldId, GroupId, Match, MeterId, NatAction, NatKind, OfAction, OfPort, PacketInReason,
    SubField, TableId, ZoneSource,
};
use openflow::codec::{self, MESSAGE_MAX};
use openflow::error::ErrorNumber;
use openflow::message::*;
use openflow::{
    Dialect, FlowFormat, Message, OfError, OfVersion, OfVersions, PacketInFormat, Xid, decode, encode_to_vec,
};
use packet::key::slot;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const V10: OfVersion = OfVersion::V10;
const V13: OfVersion = OfVersion::V13;
const V14: OfVersion = OfVersion::V14;
const V15: OfVersion = OfVersion::V15;

/// Splits what may be several messages.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (message, rest) = bytes.split_at(u16::from_be_bytes([bytes[2], bytes[3]]) as usize);
        messages.push(message);
        bytes = rest;
    }
    messages
}

fn same_again_in(dialect: &Dialect, message: &Message) {
    let bytes = encode_to_vec(dialect, Xid(0x1234_5678), message)
        .unwrap_or_else(|e| panic!("{dialect:?} {message:?}: {e}"));
    assert_eq!(bytes.len(), u16::from_be_bytes([bytes[2], bytes[3]]) as usize);
    let (xid, again) =
        decode(dialect, &bytes).unwrap_or_else(|e| panic!("{dialect:?} {message:?}: {e}: {bytes:02x?}"));
    assert_eq!(xid, Xid(0x1234_5678));
    assert_eq!(&again, message, "{dialect:?}");
}

fn same_again(version: OfVersion, message: &Message) {
    same_again_in(&Dialect::new(version), message);
}

fn version() -> impl Strategy<Value = OfVersion> {
    select(OfVersion::ALL.to_vec())
}

fn real_port() -> impl Strategy<Value = OfPort> {
    prop_oneof![(0..0xff00u32).prop_map(OfPort), Just(OfPort::LOCAL)]
}

/// A filter on a port.
fn port_or_any() -> impl Strategy<Value = OfPort> {
    prop_oneof![real_port(), Just(OfPort::ANY)]
}

/// Conditions that open the way to others: EtherType, protocol, ICMPv6 type, tag.
fn shape() -> impl Strategy<Value = Match> {
    let shapes: Vec<(u128, Option<u128>)> = vec![
        (0, None),
        (0x0800, None),
        (0x0800, Some(6)),
        (0x0800, Some(17)),
        (0x0800, Some(132)),
        (0x0800, Some(1)),
        (0x86dd, Some(6)),
        (0x86dd, Some(58)),
        (0x0806, None),
        (0x8035, Some(3)),
        (0x8847, None),
        (0x1234, None),
    ];
    (select(shapes), any::<bool>(), select(vec![135u128, 136]), select(vec![0u128, 0x1000, 0x1005])).prop_map(
        |((dl_type, proto), nd, nd_type, vid)| {
            let mut m = Match::any();
            if dl_type != 0 {
                m.set_exact(slot::DL_TYPE, dl_type);
            }
            if let Some(proto) = proto {
                m.set_exact(slot::NW_PROTO, proto);
            }
            if nd && proto == Some(58) {
                m.set_exact(FieldId::Icmpv6Type.slot(), nd_type);
                m.set_exact(FieldId::Icmpv6Code.slot(), 0);
            }
            match vid {
                0 => {}
                0x1000 => m.set(slot::VLAN_TCI, 0x1000, 0x1000),
                _ => m.set(slot::VLAN_TCI, vid, 0x1fff),
            }
            m
        },
    )
}

/// Whether one random condition on a field is legal and has one way to be written.
fn plain(field: FieldId) -> bool {
    use FieldId::*;
    let name = field.row().name;
    let alias = name.starts_with("xreg") || name.starts_with("xxreg");
    !(alias || matches!(field, InPort | VlanTci | DlVlan | DlVlanPcp | VlanVid | NwTos | IpFrag))
}

fn value_of(field: FieldId, random: u128) -> u128 {
    match (field.row().format, field) {
        (Format::OfPort, _) => random % 0xff00,
        (_, FieldId::CtState) => random & 0xff,
        _ => random & field.slot().ones(),
    }
}

prop_compose! {
    fn matching()(
        mut m in shape(),
        picks in vec((0..FIELDS.len(), any::<u128>(), any::<u128>(), any::<bool>()), 0..10),
    ) -> Match {
        for (i, value, mask, masked) in picks {
            let row = &FIELDS[i];
            // Without the tuple that the tracker fills, these have no meaning.
            let fits = plain(row.id) && row.prereq != Prereq::Ct && row.prereq.implied_by(&m);
            if !fits || m.get(row.slot).1 != 0 {
                continue;
            }
            let ones = row.slot.ones();
            let mask = if masked && row.masking == Masking::Arbitrary { mask & ones } else { ones };
            row.id.set_condition(&mut m, value_of(row.id, value), mask);
        }
        m
    }
}

fn sub_field() -> impl Strategy<Value = SubField> {
    let fields: Vec<_> = FIELDS
        .iter()
        .filter(|f| f.name.starts_with("reg") || f.id == FieldId::EthSrc)
        .map(|f| f.id)
        .collect();
    (select(fields), 0u16..32, 1u16..=32).prop_map(|(field, start, width)| SubField {
        field,
        start,
        width: width.min(field.slot().width as u16 - start),
    })
}

/// Actions that are read as they were written in every version.
fn action_everywhere() -> impl Strategy<Value = OfAction> {
    use OfAction::*;
    let reasons = vec![
        PacketInReason::NoMatch,
        PacketInReason::Action,
        PacketInReason::InvalidTtl,
        PacketInReason::PacketOut,
    ];
    prop_oneof![
        real_port().prop_map(|port| Output { port, max_len: 0 }),
        select(vec![OfPort::IN_PORT, OfPort::TABLE, OfPort::NORMAL, OfPort::FLOOD, OfPort::ALL])
            .prop_map(|port| Output { port, max_len: 0 }),
        any::<u16>().prop_map(|max_len| Output { port: OfPort::CONTROLLER, max_len }),
        (sub_field(), any::<u16>()).prop_map(|(src, max_len)| OutputReg { src, max_len }),
        (real_port(), 14u32..).prop_map(|(port, max_len)| OutputTrunc { port, max_len }),
        (any::<u16>(), any::<u16>(), select(reasons), vec(any::<u8>(), 0..20), any::<bool>()).prop_map(
            |(max_len, controller_id, reason, userdata, pause)| Controller {
                max_len,
                controller_id,
                reason,
                userdata,
                pause
            }
        ),
        vec(any::<u16>(), 0..5).prop_map(DecTtl),
        (
            proptest::option::of((1..0xff00u32).prop_map(OfPort)),
            proptest::option::of((0u8..255).prop_map(TableId))
        )
            .prop_map(|(port, table)| Resubmit { port, table }),
        (0usize..3, any::<u8>()).prop_map(|(n, byte)| Note(vec![byte; 6 + 8 * n])),
        Just(Exit),
        select(vec![0x8847u16, 0x8848]).prop_map(PushMpls),
        any::<u16>().prop_map(PopMpls),
        any::<u8>().prop_map(SetMplsTtl),
        Just(DecMplsTtl),
        Just(PopVlan),
        Just(CtClear),
        any::<u32>().prop_map(|id| Group(GroupId(id))),
        (any::<u16>(), bit()).prop_map(|(len, dst)| CheckPktLarger { len, dst }),
        ct().prop_map(|ct| Ct(Box::new(ct))),
        vec(select(vec![Exit, PopVlan, CtClear, Group(GroupId(3))]), 0..4)
            .prop_map(|list| Clone(vec![Clone(list), Exit])),
    ]
}

/// One bit of a plain field.
fn bit() -> impl Strategy<Value = SubField> {
    sub_field().prop_map(|sub| SubField { width: 1, ..sub })
}

/// What OpenFlow 1.0 and later carry in the same form.
fn ct() -> impl Strategy<Value = CtAction> {
    let zone = prop_oneof![
        any::<u16>().prop_map(ZoneSource::Value),
        (0..17u16)
            .prop_map(|start| { ZoneSource::Field(SubField { field: FieldId::Reg3, start, width: 16 }) }),
    ];
    let v4 = any::<u32>().prop_map(|a| IpAddr::from(Ipv4Addr::from(a.clamp(1, u32::MAX - 1))));
    let v6 = any::<u128>().prop_map(|a| IpAddr::from(Ipv6Addr::from(a.clamp(1, u128::MAX - 1))));
    let last = |first: IpAddr| match first {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::BROADCAST),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::from(u128::MAX)),
    };
    let ports = proptest::option::of((1u16..0xffff, any::<bool>()));
    let range = proptest::option::of((prop_oneof![v4, v6], any::<bool>(), ports));
    let nat = (any::<bool>(), range, any::<bool>(), 0..3u8).prop_map(move |(src, range, persistent, way)| {
        NatAction {
            kind: Some(if src { NatKind::Src } else { NatKind::Dst }),
            addresses: range.map(|(first, both, _)| (first, both.then(|| last(first)))),
            ports: range.and_then(|(.., ports)| ports.map(|(first, both)| (first, both.then_some(0xffff)))),
            persistent,
            hash: way == 1,
            random: way == 2,
        }
    });
    let nat = proptest::option::of(prop_oneof![nat, Just(NatAction::default())]);
    let mark = SubField { field: FieldId::CtMark, start: 0, width: 32 };
    let exec = proptest::option::of((sub_field(), 0..32u16).prop_map(move |(src, start)| {
        let width = src.width.min(mark.width - start);
        let (src, dst) = (SubField { width, ..src }, SubField { start, width, ..mark });
        OfAction::Move { src, dst }
    }));
    (
        any::<bool>(),
        zone,
        proptest::option::of(0..255u8),
        select(vec![None, Some(CtAlg::Ftp), Some(CtAlg::Tftp)]),
        nat,
        exec,
    )
        .prop_map(|(force, zone, table, alg, nat, exec)| {
            let exec = exec.into_iter().collect();
            let mut ct = CtAction { commit: false, force, zone, table: table.map(TableId), alg, nat, exec };
            ct.commit = force || ct.needs_commit();
            ct
        })
}

/// Actions of OpenFlow 1.0's own, and those that only Nicira's extension of it has.
fn action_10() -> impl Strategy<Value = OfAction> {
    use OfAction::*;
    prop_oneof![
        4 => action_everywhere(),
        1 => (0..0x1000u16).prop_map(SetVlanVid),
        1 => (0..8u8).prop_map(SetVlanPcp),
        1 => (0..1u64 << 48).prop_map(SetDlSrc),
        1 => (0..1u64 << 48).prop_map(SetDlDst),
        1 => any::<u32>().prop_map(SetNwSrc),
        1 => any::<u32>().prop_map(SetNwDst),
        1 => any::<u8>().prop_map(|tos| SetNwTos(tos & 0xfc)),
        1 => any::<u16>().prop_map(SetTpSrc),
        1 => any::<u16>().prop_map(SetTpDst),
        1 => any::<u64>().prop_map(SetTunnel),
        1 => (0..1u32 << 20).prop_map(SetMplsLabel),
        1 => (0..8u8).prop_map(SetMplsTc),
        1 => (real_port(), any::<u32>()).prop_map(|(port, queue)| Enqueue { port, queue }),
        1 => load(),
        1 => copy(),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(value, mask)| WriteMetadata { value: value & mask, mask }),
    ]
}

fn load() -> impl Strategy<Value = OfAction> {
    (sub_field(), any::<u128>())
        .prop_map(|(dst, value)| OfAction::Load { value: value & ((1 << dst.width) - 1), dst })
}

fn copy() -> impl Strategy<Value = OfAction> {
    (sub_field(), sub_field()).prop_map(|(src, dst)| {
        let width = src.width.min(dst.width);
        OfAction::Move { src: SubField { width, ..src }, dst: SubField { width, ..dst } }
    })
}

fn set_field(masked: bool) -> impl Strategy<Value = OfAction> {
    let fields: Vec<_> = FIELDS
        .iter()
        .filter(|f| f.access == flowtable::field::Access::Writable && !f.oxm.is_empty())
        .filter(|f| plain(f.id) || f.name.starts_with('x'))
        // Written by a ct action only.
        .filter(|f| !flowtable::ct::is_connection_field(f.id))
        .map(|f| f.id)
        .collect();
    (select(fields), any::<u128>(), any::<u128>()).prop_map(move |(field, value, mask)| {
        let (row, ones) = (field.row(), field.slot().ones());
        let mask = if masked && row.masking == Masking::Arbitrary { mask & ones } else { ones };
        OfAction::SetField { field, value: value_of(field, value) & mask, mask }
    })
}

fn action_13() -> impl Strategy<Value = OfAction> {
    prop_oneof![
        4 => action_everywhere(),
        1 => select(vec![0x8100u16, 0x88a8]).prop_map(OfAction::PushVlan),
        1 => any::<u8>().prop_map(OfAction::SetNwTtl),
        2 => set_field(false),
        1 => load(),
        1 => copy(),
    ]
}

fn action_15() -> impl Strategy<Value = OfAction> {
    prop_oneof![
        4 => action_everywhere(),
        1 => select(vec![0x8100u16, 0x88a8]).prop_map(OfAction::PushVlan),
        1 => any::<u8>().prop_map(OfAction::SetNwTtl),
        3 => set_field(true),
        1 => copy(),
    ]
}

fn applied(version: OfVersion) -> BoxedStrategy<Vec<OfAction>> {
    match version {
        V10 => vec(action_10(), 0..6).boxed(),
        V15 => vec(action_15(), 0..6).boxed(),
        _ => vec(action_13(), 0..6).boxed(),
    }
}

/// Actions with instructions in their order.
fn actions(version: OfVersion) -> BoxedStrategy<Vec<OfAction>> {
    if version == V10 {
        return applied(version);
    }
    let metered = (proptest::option::of(any::<u32>()), applied(version)).prop_map(|(meter, list)| {
        let meter = meter.map(|id| OfAction::Meter(MeterId(id)));
        meter.into_iter().chain(list).collect::<Vec<_>>()
    });
    (
        metered,
        any::<bool>(),
        any::<bool>(),
        applied(version),
        any::<bool>(),
        any::<(u64, u64)>(),
        any::<Option<u8>>(),
    )
        .prop_map(|(mut list, clear, write, set, metadata, (value, mask), goto)| {
            if clear {
                list.push(OfAction::ClearActions);
            }
            if write {
                list.push(OfAction::WriteActions(set));
            }
            if metadata {
                list.push(OfAction::WriteMetadata { value: value & mask, mask });
            }
            list.extend(goto.map(|t| OfAction::GotoTable(TableId(t))));
            list
        })
        .boxed()
}

fn duration() -> impl Strategy<Value = Duration> {
    (any::<u32>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs as u64, nanos))
}

fn count() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(0..u64::MAX)
}

fn reason() -> impl Strategy<Value = FlowRemovedReason> {
    select(FlowRemovedReason::ALL.to_vec())
}

fn command() -> impl Strategy<Value = FlowModCommand> {
    use FlowModCommand::*;
    select(vec![Add, Modify, ModifyStrict, Delete, DeleteStrict])
}

prop_compose! {
    fn flow_mod(version: OfVersion)(
        command in command(),
        table in 0u8..255,
        matching in matching(),
        (priority, idle_timeout, hard_timeout, importance) in any::<(u16, u16, u16, u16)>(),
        (cookie, mask, value) in (0..u64::MAX, any::<u64>(), any::<u64>()),
        buffer in proptest::option::of(0..u32::MAX),
        (out_port, out_group) in (port_or_any(), any::<u32>()),
        flags in 0u16..32,
        actions in actions(version),
    ) -> FlowMod {
        use FlowModCommand as C;
        let v10 = version == V10;
        let adds = command == C::Add;
        let deletes = matches!(command, C::Delete | C::DeleteStrict);
        let implied = if v10 && adds { FlowModFlags::RESET_COUNTS } else { 0 };
        FlowMod {
            command,
            table: TableId(table),
            matching,
            priority,
            cookie_filter: if adds { CookieFilter::default() } else { CookieFilter { value: value & mask, mask } },
            new_cookie: (adds || v10 && !deletes).then_some(cookie),
            idle_timeout,
            hard_timeout,
            importance: if version >= V14 { importance } else { 0 },
            buffer,
            out_port: if deletes { out_port } else { OfPort::ANY },
            out_group: if deletes && !v10 { out_group } else { GROUP_ANY },
            flags: FlowModFlags(if v10 { flags & 3 | implied } else { flags }),
            actions,
        }
    }
}

prop_compose! {
    fn flow_stats(version: OfVersion, form: FlowStatsForm)(
        table in any::<u8>(),
        matching in matching(),
        (priority, cookie) in any::<(u16, u64)>(),
        duration in duration(),
        (idle_timeout, hard_timeout, importance) in any::<(u16, u16, u16)>(),
        (idle_age, hard_age) in (proptest::option::of(0u16..0xffff), proptest::option::of(0u16..0xffff)),
        flags in 0u16..32,
        (packets, bytes) in (count(), count()),
        actions in actions(version),
    ) -> FlowStats {
        let nicira = form == FlowStatsForm::Nicira;
        let brief = form == FlowStatsForm::Brief;
        FlowStats {
            table: TableId(table),
            matching,
            priority,
            cookie: if brief { 0 } else { cookie },
            duration,
            idle_timeout: if brief { 0 } else { idle_timeout },
            hard_timeout: if brief { 0 } else { hard_timeout },
            idle_age: if nicira || version == V15 { idle_age } else { None },
            hard_age: if nicira { hard_age } else { None },
            flags: FlowModFlags(if version == V10 || brief { 0 } else { flags }),
            importance: if version >= V14 && !brief { importance } else { 0 },
            packets,
            bytes,
            actions: if brief { Vec::new() } else { actions },
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]{0,15}"
}

prop_compose! {
    fn port_desc(version: OfVersion)(
        port in real_port(),
        (hw_addr, name) in (0..1u64 << 48, name()),
        (config, state) in any::<(u32, u32)>(),
        modes in any::<[u16; 4]>(),
        (curr_speed_kbps, max_speed_kbps) in any::<(u32, u32)>(),
    ) -> OfPortDesc {
        let v10 = version == V10;
        // OpenFlow 1.0 has no 40 Gb/s to "other".
        let modes = modes.map(|m| LinkModes(m as u32 & if v10 { 0xf87f } else { 0xffff }));
        OfPortDesc {
            port,
            hw_addr,
            name,
            config: PortConfig(config & if v10 { 0x7f } else { PortConfig::SINCE_1_1 }),
            state: PortState(state & if v10 { 0x301 } else { 7 }),
            curr: modes[0],
            advertised: modes[1],
            supported: modes[2],
            peer: modes[3],
            curr_speed_kbps: if v10 { 0 } else { curr_speed_kbps },
            max_speed_kbps: if v10 { 0 } else { max_speed_kbps },
        }
    }
}

prop_compose! {
    fn port_stats(version: OfVersion)(port in real_port(), n in any::<[u64; 12]>(), age in proptest::option::of((0u32..u32::MAX, 0u32..1_000_000_000))) -> OfPortStats {
        OfPortStats {
            port,
            rx_packets: n[0],
            tx_packets: n[1],
            rx_bytes: n[2],
            tx_bytes: n[3],
            rx_dropped: n[4],
            tx_dropped: n[5],
            rx_errors: n[6],
            tx_errors: n[7],
            rx_frame_err: n[8],
            rx_over_err: n[9],
            rx_crc_err: n[10],
            collisions: n[11],
            duration: age.filter(|_| version != V10).map(|(secs, nanos)| Duration::new(secs as u64, nanos)),
        }
    }
}

fn reply(version: OfVersion, reply: MultipartReply) {
    same_again(version, &Message::MultipartReply { more: false, reply });
}

fn request(version: OfVersion, request: MultipartRequest) {
    same_again(version, &Message::MultipartRequest(request));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn matches(m in matching(), version in version()) {
        let mut bytes = Vec::new();
        codec::encode_match(version, &m, &mut bytes).unwrap();
        prop_assert_eq!(codec::decode_match(&bytes).unwrap(), (m, None));
    }

    #[test]
    fn flow_mods((version, m) in version().prop_flat_map(|v| (Just(v), flow_mod(v)))) {
        let dialect = Dialect { flow_mod_table_id: true, flow_format: FlowFormat::Nxm, ..Dialect::new(version) };
        same_again_in(&dialect, &Message::FlowMod(m));
    }

    /// The old form says less; what it takes comes back, and the rest goes out in the new form.
    #[test]
    fn flow_mods_in_the_old_form(mut m in flow_mod(V10)) {
        m.table = TableId::ALL;
        same_again(V10, &Message::FlowMod(m));
    }

    #[test]
    fn flow_removed(
        version in version(),
        matching in matching(),
        (cookie, priority, idle_timeout, hard_timeout, table) in any::<(u64, u16, u16, u16, u8)>(),
        reason in reason(),
        duration in duration(),
        (packets, bytes) in (count(), count()),
    ) {
        let hard_timeout = if version == V10 { 0 } else { hard_timeout };
        let table = TableId(table);
        let dialect = Dialect { flow_format: FlowFormat::Nxm, ..Dialect::new(version) };
        same_again_in(&dialect, &Message::FlowRemoved(FlowRemoved {
            matching, cookie, priority, reason, table, duration, idle_timeout, hard_timeout, packets, bytes,
        }));
    }

    #[test]
    fn flow_statistics((version, form, rules) in version().prop_flat_map(|v| {
        let forms = match v {
            V10 => vec![FlowStatsForm::Nicira],
            V15 => vec![FlowStatsForm::Standard, FlowStatsForm::Brief],
            _ => vec![FlowStatsForm::Standard],
        };
        (Just(v), select(forms)).prop_flat_map(|(v, form)| (Just(v), Just(form), vec(flow_stats(v, form), 0..4)))
    })) {
        reply(version, MultipartReply::Flow(form, rules));
    }

    #[test]
    fn statistics_requests(
        version in version(),
        matching in matching(),
        (table, value, mask) in any::<(u8, u64, u64)>(),
        (out_port, out_group) in (port_or_any(), any::<u32>()),
    ) {
        let v10 = version == V10;
        let form = if v10 { FlowStatsForm::Nicira } else { FlowStatsForm::Standard };
        let ask = FlowStatsRequest {
            form,
            table: TableId(table),
            matching,
            out_port,
            out_group: if v10 { GROUP_ANY } else { out_group },
            cookie_filter: CookieFilter { value: value & mask, mask },
        };
        request(version, MultipartRequest::Flow(ask.clone()));
        if version == V15 {
            request(version, MultipartRequest::Flow(FlowStatsRequest { form: FlowStatsForm::Brief, ..ask.clone() }));
        }
        request(version, MultipartRequest::Aggregate(ask));
        request(version, MultipartRequest::PortStats(out_port));
        request(version, MultipartRequest::Queue { port: out_port, queue: out_group });
    }

    #[test]
    fn ports((version, ports, stats) in version().prop_flat_map(|v| (Just(v), vec(port_desc(v), 1..5), vec(port_stats(v), 0..5)))) {
        for reason in [PortStatusReason::Add, PortStatusReason::Delete, PortStatusReason::Modify] {
            same_again(version, &Message::PortStatus(PortStatus { reason, port: ports[0].clone() }));
        }
        let port = &ports[0];
        let mask = PortConfig(if version == V10 { 0x7f } else { PortConfig::SINCE_1_1 });
        same_again(version, &Message::PortMod(PortMod {
            port: port.port, hw_addr: port.hw_addr, config: port.config, mask, advertise: port.peer,
        }));
        let features = SwitchFeatures {
            datapath_id: port.hw_addr,
            n_buffers: 0,
            n_tables: 254,
            auxiliary_id: 0,
            capabilities: Capabilities(Capabilities::FLOW_STATS | Capabilities::QUEUE_STATS | if version == V10 { Capabilities::STP } else { Capabilities::GROUP_STATS }),
            actions: if version == V10 { 0xfff } else { 0 },
            ports: if version == V10 { ports.clone() } else { Vec::new() },
        };
        same_again(version, &Message::FeaturesReply(features));
        reply(version, MultipartReply::PortDesc(ports));
        reply(version, MultipartReply::PortStats(stats));
    }

    #[test]
    fn queues(version in version(), port in real_port(), ids in any::<[u32; 2]>(), rate in any::<Option<u16>>(), n in any::<[u64; 3]>(), secs in 0u32..u32::MAX) {
        let queues: Vec<_> = ids.map(|queue| QueueConfig { port, queue, min_rate: rate, max_rate: None }).to_vec();
        if version < V14 {
            same_again(version, &Message::QueueGetConfigRequest(port));
            same_again(version, &Message::QueueGetConfigReply(port, queues));
        } else {
            request(version, MultipartRequest::QueueDesc { port, queue: ids[0] });
            reply(version, MultipartReply::QueueDesc(queues));
        }
        let duration = (version != V10).then(|| Duration::from_secs(secs as u64));
        let stats = QueueStats { port, queue: ids[1], tx_bytes: n[0], tx_packets: n[1], tx_errors: n[2], duration };
        reply(version, MultipartReply::Queue(vec![stats; 2]));
    }

    #[test]
    fn packets_in(
        version in version(),
        format in select(vec![PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2]),
        mut metadata in matching(),
        port in real_port(),
        (table, cookie, total_len) in any::<(u8, u64, u16)>(),
        reason in select(vec![PacketInReason::NoMatch, PacketInReason::Action, PacketInReason::InvalidTtl]),
        userdata in vec(any::<u8>(), 0..20),
        data in vec(any::<u8>(), 0..100),
    ) {
        let old = version == V10 && format == PacketInFormat::Standard;
        if old {
            metadata = Match::any();
        }
        metadata.set_exact(slot::IN_PORT, port.0 as u128);
        let packet = PacketIn {
            reason,
            table: TableId(if old { 0 } else { table }),
            cookie: if old { u64::MAX } else { cookie },
            total_len,
            metadata,
            userdata: if format == PacketInFormat::Nxt2 { userdata } else { Vec::new() },
            data,
        };
        same_again_in(&Dialect { packet_in_format: format, ..Dialect::new(version) }, &Message::PacketIn(packet));
    }

    #[test]
    fn packets_out(
        (version, actions) in version().prop_flat_map(|v| (Just(v), applied(v))),
        port in prop_oneof![real_port(), Just(OfPort::CONTROLLER), Just(OfPort::ANY)],
        buffer in proptest::option::of(0..u32::MAX),
        data in vec(any::<u8>(), 0..100),
    ) {
        let mut metadata = Match::any();
        metadata.set_exact(slot::IN_PORT, port.0 as u128);
        same_again(version, &Message::PacketOut(PacketOut { buffer, metadata, actions, data }));
    }

    #[test]
    fn flow_monitors(
        version in version(),
        (id, out_group, table, flags) in (any::<u32>(), any::<u32>(), any::<u8>(), 1u16..0x40),
        out_port in port_or_any(),
        matching in matching(),
    ) {
        let new = version >= V14;
        let flags = MonitorFlags(flags | MonitorFlags::ADD);
        let out_group = if new { out_group } else { GROUP_ANY };
        let monitor = FlowMonitor { id, command: MonitorCommand::Add, flags, out_port, out_group, table: TableId(table), matching };
        request(version, MultipartRequest::FlowMonitor(vec![monitor.clone(); 2]));
        if new {
            request(version, MultipartRequest::FlowMonitor(vec![FlowMonitor { command: MonitorCommand::Delete, ..monitor }]));
        }
    }

    #[test]
    fn flow_updates((version, actions) in version().prop_flat_map(|v| (Just(v), actions(v))), matching in matching(), reason in reason(), n in any::<(u8, u16, u64, u16, u16, u32)>()) {
        let (table, priority, cookie, idle_timeout, hard_timeout, xid) = n;
        let mut events = vec![MonitorEvent::Added, MonitorEvent::Removed(reason), MonitorEvent::Modified];
        let mut updates = vec![FlowUpdate::Abbrev(Xid(xid))];
        if version >= V14 {
            events.push(MonitorEvent::Initial);
            updates.extend([FlowUpdate::Paused, FlowUpdate::Resumed]);
        }
        updates.extend(events.into_iter().map(|event| FlowUpdate::Full(Box::new(RuleUpdate {
            event, table: TableId(table), priority, cookie, idle_timeout, hard_timeout, matching, actions: actions.clone(),
        }))));
        reply(version, MultipartReply::FlowMonitor(updates));
        if version < V14 {
            for message in [Message::FlowMonitorCancel(xid), Message::FlowMonitorPaused, Message::FlowMonitorResumed] {
                same_again(version, &message);
            }
        }
    }

    #[test]
    fn bundles((version, inner) in select(vec![V13, V14, V15]).prop_flat_map(|v| (Just(v), flow_mod(v))), bundle in any::<u32>(), flags in 0u16..4) {
        use BundleControlKind::*;
        for kind in [OpenRequest, OpenReply, CloseRequest, CloseReply, CommitRequest, CommitReply, DiscardRequest, DiscardReply] {
            same_again(version, &Message::BundleControl(BundleControl { bundle, kind, flags }));
        }
        let message = Box::new(Message::FlowMod(inner));
        let add = BundleAdd { bundle, flags, xid: Xid(0x1234_5678), message, quote: Vec::new() };
        let dialect = Dialect::new(version);
        let bytes = encode_to_vec(&dialect, add.xid, &Message::BundleAdd(add.clone())).unwrap();
        let (_, Message::BundleAdd(again)) = decode(&dialect, &bytes).unwrap() else { panic!() };
        let start = if version == V13 { 24 } else { 16 };
        prop_assert!(bytes[start..].starts_with(&again.quote) && !again.quote.is_empty());
        prop_assert_eq!(BundleAdd { quote: Vec::new(), ..again }, add);
    }

    #[test]
    fn masks_of_unasked_messages(version in version(), reasons in any::<[u32; 12]>()) {
        let classes = if version >= V14 { 6 } else { 3 };
        let changes: Vec<_> = AsyncClass::ALL[..classes].iter().enumerate().flat_map(|(i, class)| {
            [(Audience::Primary, 0), (Audience::Secondary, 1)].map(|(audience, j)| AsyncChange { class: *class, audience, reasons: reasons[i * 2 + j] })
        }).collect();
        same_again(version, &Message::SetAsync(changes.clone()));
        if version >= V14 {
            same_again(version, &Message::SetAsync(changes[3..5].to_vec()));
        }
        if version != V10 {
            let mut config = AsyncConfig::none();
            config.apply(&changes);
            same_again(version, &Message::GetAsyncReply(config));
        }
    }

    #[test]
    fn odds_and_ends(version in version(), n in any::<(u32, u64, u16, u16)>(), data in vec(any::<u8>(), 0..80)) {
        let (word, long, short, other) = n;
        for message in [
            Message::EchoRequest(data.clone()), Message::EchoReply(data.clone()), Message::FeaturesRequest,
            Message::GetConfigRequest, Message::BarrierRequest, Message::BarrierReply, Message::FlowAge,
            Message::FlowModTableId(short % 2 == 0), Message::SetControllerId(short), Message::CtFlushZone(short),
            Message::CtFlush(CtFlush {
                zone: Some(short),
                protocol: other as u8,
                original: CtTuple { src: Some((word | 1).to_be_bytes().into()), src_port: Some(other | 1), ..CtTuple::default() },
                reply: CtTuple { icmp_type: Some(short as u8 | 1), icmp_code: Some(1), icmp_id: Some(9), ..CtTuple::default() },
            }),
            Message::SetPacketInFormat(PacketInFormat::Nxt),
            Message::TlvTableRequest,
            Message::Resume(data.clone()),
            Message::Hello(Hello { versions: OfVersions(word) }),
        ] {
            same_again(version, &message);
        }
        if version == V10 {
            same_again(version, &Message::SetFlowFormat(FlowFormat::Nxm));
        } else {
            same_again(version, &Message::GetAsyncRequest);
            same_again(version, &Message::TableMod(TableConfig { table: TableId(short as u8), eviction: false, vacancy: None, bits: word & 3 }));
        }
        if version >= V14 {
            let vacancy = Some(Vacancy { down: 1, up: 2, now: 3 });
            same_again(version, &Message::TableMod(TableConfig { table: TableId(1), eviction: true, vacancy: Some(Vacancy { down: 1, up: 2, now: 0 }), bits: 12 }));
            reply(version, MultipartReply::TableDesc(vec![TableConfig { table: TableId(1), eviction: true, vacancy, bits: 12 }; 3]));
            request(version, MultipartRequest::TableDesc);
            for reason in [RoleReason::PrimaryRequest, RoleReason::Config, RoleReason::Experimenter] {
                same_again(version, &Message::RoleStatus(RoleStatus { role: Role::Secondary, reason, generation_id: Some(long / 2) }));
            }
        }
        for fragments in [FragmentHandling::Normal, FragmentHandling::Drop, FragmentHandling::Reassemble, FragmentHandling::NxMatch] {
            let config = SwitchConfig { fragments, invalid_ttl_to_controller: short % 2 == 0, miss_send_len: other };
            same_again(version, &Message::SetConfig(config));
            same_again(version, &Message::GetConfigReply(config));
        }
        for role in [Role::Equal, Role::Primary, Role::Secondary] {
            let generation_id = (version != V10).then_some(long / 2);
            same_again(version, &Message::RoleRequest(RoleMessage { role, generation_id }));
            same_again(version, &Message::RoleReply(RoleMessage { role, generation_id }));
        }
        let mappings = vec![TlvMapping { class: short, kind: 3, len: 8, index: other % 64 }; 3];
        same_again(version, &Message::TlvTableMod(TlvTableMod { command: TlvTableCommand::Delete, mappings: mappings.clone() }));
        same_again(version, &Message::TlvTableReply(TlvTableReply { max_option_space: word, max_fields: short, mappings }));
    }

    #[test]
    fn other_statistics(version in version(), name in name(), n in any::<(u32, u64, u64, [u32; 4], u8)>(), (packets, bytes) in (count(), count())) {
        let (word, a, b, four, byte) = n;
        let v10 = version == V10;
        let form = if v10 { FlowStatsForm::Nicira } else { FlowStatsForm::Standard };
        reply(version, MultipartReply::Aggregate(FlowStatsForm::Standard, AggregateStats { packets, bytes, flows: word }));
        reply(version, MultipartReply::Aggregate(form, AggregateStats { packets, bytes, flows: word }));
        let table = OfTableStats {
            table: TableId(byte),
            name: if v10 { name.clone() } else { String::new() },
            wildcards: if v10 { word } else { 0 },
            max_entries: if v10 { word / 2 } else { 0 },
            active: word,
            lookups: a,
            matched: b,
        };
        reply(version, MultipartReply::Table(vec![table; 3]));
        request(version, MultipartRequest::Table);
        request(version, MultipartRequest::Desc);
        request(version, MultipartRequest::Ipfix(3));
        request(version, MultipartRequest::GroupFeatures);
        request(version, MultipartRequest::GroupStats(word));
        request(version, MultipartRequest::GroupDesc(0xffff_fffc));
        request(version, MultipartRequest::PortDesc(OfPort::ANY));
        let desc = SwitchDesc { manufacturer: name.clone(), hardware: name.clone(), software: "x".to_owned(), serial: name.clone(), datapath: name };
        reply(version, MultipartReply::Desc(desc));
        reply(version, MultipartReply::GroupFeatures(GroupFeatures { types: word, capabilities: 7, max_groups: four, actions: four }));
        reply(version, MultipartReply::GroupDesc(Vec::new()));
        reply(version, MultipartReply::GroupStats(Vec::new()));
        if !v10 {
            request(version, MultipartRequest::MeterStats(word));
            request(version, MultipartRequest::MeterConfig(word));
            request(version, MultipartRequest::MeterFeatures);
            reply(version, MultipartReply::MeterStats(Vec::new()));
            reply(version, MultipartReply::MeterConfig(Vec::new()));
            reply(version, MultipartReply::MeterFeatures(MeterFeatures { max_meters: word, band_types: 2, capabilities: 15, max_bands: byte, max_color: 0 }));
            request(version, MultipartRequest::TableFeatures(Vec::new()));
            let mut tables: Vec<_> = (0..4).map(|t| TableFeatures::full(version, TableId(t), TableId(byte.max(3)), word)).collect();
            tables[1].miss.instructions = 2;
            tables[1].miss.next_tables = TableSet::default();
            tables[2].miss.apply.actions = 1;
            tables[2].miss.write.set_fields = FieldSet::default();
            reply(version, MultipartReply::TableFeatures(tables));
        }
    }

    #[test]
    fn errors(version in version(), which in 0..OfError::ALL.len(), unknown in any::<(u16, u16)>(), data in vec(any::<u8>(), 0..80)) {
        let error = OfError::ALL[which];
        let number = ErrorNumber { experimenter: 0, kind: unknown.0 % 0x8000 + 100, code: unknown.1 };
        same_again(version, &Message::Error(ErrorMessage { code: ErrorCode::Unknown(number), data: data.clone() }));
        if error.number(version).is_some() && error != OfError::BadRequestIsSecondary {
            same_again(version, &Message::Error(ErrorMessage { code: error.into(), data }));
        }
    }
}

/// Replies that are too long for one message come in several, all but the last marked, with every entry in one of them.
#[test]
fn long_replies_are_split() {
    for version in [V13, V14, V15] {
        let tables: Vec<_> =
            (0..254).map(|t| TableFeatures::full(version, TableId(t), TableId(253), 1_000_000)).collect();
        let reply = MultipartReply::TableFeatures(tables.clone());
        let bytes =
            encode_to_vec(&Dialect::new(version), Xid(1), &Message::MultipartReply { more: false, reply })
                .unwrap();
        let parts = split(&bytes);
        assert!(parts.len() > 1);
        let mut seen = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            assert!(part.len() <= MESSAGE_MAX);
            let (xid, Message::MultipartReply { more, reply: MultipartReply::TableFeatures(tables) }) =
                decode(&Dialect::new(version), part).unwrap()
            else {
                panic!()
            };
            assert_eq!((xid, more), (Xid(1), i + 1 < parts.len()));
            seen.extend(tables);
        }
        assert_eq!(seen, tables);
    }
}

/// What cannot be said is refused, and nothing of it is written.
#[test]
fn what_a_version_lacks_is_an_error() {
    let vlan = Match::new(&Default::default(), flowtable::Mask::empty());
    let mut partly_pcp = vlan;
    partly_pcp.set(slot::VLAN_TCI, 0x3000, 0x3000);
    let mut m = FlowMod::new(FlowModCommand::Add);
    m.matching = partly_pcp;
    let mut out = vec![1, 2, 3];
    assert!(openflow::encode(&Dialect::new(V13), Xid(1), &Message::FlowMod(m), &mut out).is_err());
    assert_eq!(out, [1, 2, 3]);
    let bundle = BundleControl { bundle: 1, kind: BundleControlKind::OpenRequest, flags: 0 };
    assert!(encode_to_vec(&Dialect::new(V10), Xid(1), &Message::BundleControl(bundle)).is_err());
    let echo = Message::EchoRequest(vec![0; MESSAGE_MAX]);
    assert_eq!(encode_to_vec(&Dialect::new(V13), Xid(1), &echo), Err(openflow::EncodeError::TooLong));
}
