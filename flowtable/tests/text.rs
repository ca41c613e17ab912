//! Flow text: what ovs-ofctl 3.1 was seen to print for what it was given, its messages, and properties.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod observed;

use flowtable::field::FIELDS;
use flowtable::flow_mod::FlowModCommand;
use flowtable::rule::{Cookie, RuleFlags};
use flowtable::text::{
    Dialect, FlowLine, FlowLineForm, FlowUsage, NoPortNames, ParsedFlow, TextFault, TextStyle,
    display_actions, display_key, display_match, parse_actions, parse_flow, parse_flow_line, parse_key,
    parse_match,
};
use flowtable::{FlowKey, Match, OfPort, TableId, Words};
use observed::{ACTIONS, ERRORS, KEYS, MATCHES, OWN_ERRORS};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const ADD: FlowUsage = FlowUsage::Mod(FlowModCommand::Add);

fn names() -> BTreeMap<OfPort, String> {
    [(1, "p1"), (2, "p2"), (3, "eth-3.x"), (5, "1x"), (6, "true"), (8, "in_port"), (11, "_x")]
        .map(|(n, name)| (OfPort(n), name.to_owned()))
        .into()
}

fn print(flow: &ParsedFlow, style: TextStyle<'_>) -> String {
    let matching = display_match(&flow.matching, flow.priority, style).to_string();
    let space = if matching.is_empty() { "" } else { " " };
    format!("{matching}{space}actions={}", display_actions(&flow.actions, style))
}

fn reprint(text: &str) -> String {
    match parse_flow(text, ADD, &names()) {
        Ok(flow) => print(&flow, TextStyle::default()),
        Err(e) => panic!("{text}: {e}"),
    }
}

#[test]
fn matches_are_printed_as_ovs_ofctl_prints_them() {
    for (given, printed) in MATCHES {
        let space = if printed.is_empty() { "" } else { " " };
        assert_eq!(
            reprint(&format!("{given},actions=drop")),
            format!("{printed}{space}actions=drop"),
            "{given}"
        );
    }
}

#[test]
fn actions_are_printed_as_ovs_ofctl_prints_them() {
    for (given, printed) in ACTIONS {
        assert_eq!(reprint(&format!("actions={given}")), format!("actions={printed}"), "{given}");
    }
    let later = TextStyle::default().dialect(Dialect::OpenFlow11);
    let actions = parse_actions("strip_vlan", &NoPortNames).unwrap();
    assert_eq!(display_actions(&actions, later).to_string(), "pop_vlan");
}

#[test]
fn port_names() {
    let names = names();
    let style = TextStyle::with_names(&names);
    for (given, numbers, named) in [
        ("in_port=p1,actions=p2", "in_port=1 actions=output:2", "in_port=p1 actions=output:p2"),
        (
            "in_port=\"eth-3.x\",actions=resubmit(\"eth-3.x\",3),enqueue(p1,3),output(port=\"eth-3.x\",max_len=100)",
            "in_port=3 actions=resubmit(3,3),enqueue:1:3,output(port=3,max_len=100)",
            "in_port=\"eth-3.x\" actions=resubmit(\"eth-3.x\",3),enqueue:p1:3,output(port=\"eth-3.x\",max_len=100)",
        ),
        (
            "in_port=5,actions=6,8,11",
            "in_port=5 actions=output:6,output:8,output:11",
            "in_port=\"1x\" actions=output:true,output:\"in_port\",output:\"_x\"",
        ),
        (
            "actions=eth-3.x,\"in_port\",in_port",
            "actions=output:3,output:8,IN_PORT",
            "actions=output:\"eth-3.x\",output:\"in_port\",IN_PORT",
        ),
    ] {
        let flow = parse_flow(given, ADD, &names).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(print(&flow, TextStyle::default()), numbers);
        assert_eq!(print(&flow, style), named);
        assert_eq!(parse_flow(named, ADD, &names).map(|f| f.matching), Ok(flow.matching));
    }
}

#[test]
fn errors_are_worded_as_ovs_ofctls() {
    for (given, message) in ERRORS.iter().chain(OWN_ERRORS) {
        match parse_flow(given, ADD, &NoPortNames) {
            Ok(_) => panic!("{given} is taken"),
            Err(e) => assert_eq!(e.to_string(), *message, "{given}"),
        }
    }
}

#[test]
fn errors_tell_where() {
    for (given, word) in [
        ("tcp,foo=1,actions=drop", "foo"),
        ("tcp,nw_src=1.2.3,actions=drop", "1.2.3"),
        ("actions=output:1,write_actions(output:2,bad:3)", "bad"),
        ("actions=resubmit(p9,3)", "p9"),
    ] {
        let error = parse_flow(given, ADD, &NoPortNames).unwrap_err();
        assert!(given[error.at..].starts_with(word), "{given}: {} at {}", error, error.at);
    }
}

#[test]
fn usages_differ_in_what_they_take() {
    use FlowModCommand::*;
    let delete = FlowUsage::Mod(Delete);
    let strict = FlowUsage::Mod(DeleteStrict);
    let message = |text: &str, usage| match parse_flow(text, usage, &NoPortNames) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    for usage in [delete, FlowUsage::Dump] {
        assert_eq!(message("priority=4", usage), "unknown keyword priority");
    }
    for usage in [delete, strict, FlowUsage::Dump] {
        assert_eq!(message("cookie=1/-1,out_port=3,table=3,in_port=1", usage), "");
        assert_eq!(
            message("cookie=1", usage),
            "cannot set cookie (to match on a cookie, specify a mask, e.g. cookie=1/-1)"
        );
        assert_eq!(message("out_port=foo", usage), "foo is not a valid OpenFlow port");
        assert_eq!(message("in_port=1,actions=drop", usage), "unknown keyword actions");
        assert_eq!(message("idle_timeout=5", usage), "unknown keyword idle_timeout");
        assert_eq!(message("send_flow_rem", usage), "field send_flow_rem missing value");
        assert_eq!(message("importance=3", usage), "unknown keyword importance");
    }
    assert_eq!(message("priority=4", strict), "");
    for command in [Modify, ModifyStrict] {
        let usage = FlowUsage::Mod(command);
        assert_eq!(message("in_port=1", usage), "must specify an action");
        assert_eq!(message("importance=3,actions=1", usage), "unknown keyword importance");
        let flow = parse_flow("cookie=6/7,cookie=9,idle_timeout=3,priority=2,actions=1", usage, &NoPortNames)
            .unwrap();
        assert_eq!((flow.cookie, flow.cookie_mask, flow.new_cookie), (Cookie(6), 7, Some(Cookie(9))));
    }
}

#[test]
fn everything_but_the_match() {
    let text = "table=3,cookie=0x5,idle_timeout=3,hard_timeout=5,priority=7,importance=4,send_flow_rem,check_overlap,\
                reset_counts,no_packet_counts=1,no_byte_counts,duration=3s,n_packets=4,actions=1";
    let flow = parse_flow(text, ADD, &NoPortNames).unwrap();
    assert_eq!((flow.table, flow.priority, flow.new_cookie), (Some(TableId(3)), 7, Some(Cookie(5))));
    assert_eq!((flow.idle_timeout, flow.hard_timeout, flow.importance), (3, 5, 4));
    assert_eq!(flow.flags, RuleFlags(31));
    assert_eq!((flow.out_port, flow.cookie_mask), (OfPort::ANY, 0));
    assert_eq!(flow.notice(), None);
    let changed = parse_flow("tp_dst=80,in_port=1,actions=1", ADD, &NoPortNames).unwrap();
    let notice = "normalization changed ofp_match, details:\n pre: in_port=1,tp_dst=80\npost: in_port=1";
    assert_eq!(changed.notice().as_deref(), Some(notice));
}

#[test]
fn lines_of_files() {
    let line = |text: &str| {
        let parsed = parse_flow_line(text, FlowModCommand::Add, &NoPortNames).unwrap();
        parsed.map(|(command, flow)| (command, print(&flow, TextStyle::default())))
    };
    assert_eq!(line("  # nothing"), None);
    assert_eq!(line(""), None);
    assert_eq!(line("tcp actions=1 # why"), Some((FlowModCommand::Add, "tcp actions=output:1".to_owned())));
    assert_eq!(line("delete in_port=3"), Some((FlowModCommand::Delete, "in_port=3 actions=drop".to_owned())));
    assert_eq!(line("delete"), Some((FlowModCommand::Delete, "actions=drop".to_owned())));
    let strict = "modify_strict\tpriority=3,actions=2";
    assert_eq!(line(strict), Some((FlowModCommand::ModifyStrict, "priority=3 actions=output:2".to_owned())));
}

#[test]
fn lines_of_dumps() {
    let text = "priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80,actions=output:2";
    let flow = parse_flow(text, ADD, &NoPortNames).unwrap();
    let line = FlowLine {
        cookie: Cookie(0x12),
        duration: Duration::from_millis(1234),
        table: TableId(1),
        packets: Some(0),
        bytes: Some(0),
        idle_timeout: 60,
        hard_timeout: 100,
        flags: RuleFlags::NONE,
        importance: 0,
        idle_age: Some(0),
        hard_age: Some(1),
        priority: 100,
        matching: &flow.matching,
        actions: &flow.actions,
    };
    let style = TextStyle::default();
    assert_eq!(
        line.display(FlowLineForm::Dump, style).to_string(),
        " cookie=0x12, duration=1.234s, table=1, n_packets=0, n_bytes=0, idle_timeout=60, hard_timeout=100, idle_age=0, \
         priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80 actions=output:2"
    );
    let later = FlowLine { flags: RuleFlags(31), importance: 5, idle_age: None, hard_age: None, ..line };
    assert_eq!(
        later.display(FlowLineForm::Dump, style).to_string(),
        " cookie=0x12, duration=1.234s, table=1, n_packets=0, n_bytes=0, idle_timeout=60, hard_timeout=100, \
         send_flow_rem check_overlap reset_counts no_packet_counts no_byte_counts importance=5, \
         priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80 actions=output:2"
    );
    assert_eq!(
        later.display(FlowLineForm::NoStats, style).to_string(),
        " cookie=0x12, table=1, idle_timeout=60, hard_timeout=100, send_flow_rem check_overlap reset_counts \
         no_packet_counts no_byte_counts importance=5, priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80 \
         actions=output:2"
    );
    assert_eq!(
        line.display(FlowLineForm::Bridge, style).to_string(),
        "table_id=1, duration=1s, n_packets=0, n_bytes=0, \
         priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80,actions=output:2"
    );
    let any = Match::any();
    let plain =
        FlowLine { cookie: Cookie(0), table: TableId(0), priority: 0, matching: &any, actions: &[], ..line };
    let plain = FlowLine { idle_timeout: 0, hard_timeout: 0, ..plain };
    assert_eq!(plain.display(FlowLineForm::NoStats, style).to_string(), " priority=0 actions=drop");
    assert_eq!(
        plain.display(FlowLineForm::Bridge, style).to_string(),
        "duration=1s, n_packets=0, n_bytes=0, priority=0,actions=drop"
    );
}

#[test]
fn keys_are_read_and_printed_as_in_traces() {
    for (given, printed) in KEYS {
        let key = parse_key(given, &names()).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(display_key(&key, TextStyle::default()).to_string(), *printed, "{given}");
    }
    for (given, message) in [
        ("in_port=1,foo=4", "unknown field foo"),
        ("foo", "unknown field foo"),
        ("in_port=1,tp_src=5", "prerequisites not met for setting tp_src"),
        ("tcp_flags=5,tcp", "prerequisites not met for setting tcp_flags"),
        ("in_port=1,ip,nw_src=1.2.3.0/24", "bad value for nw_src (1.2.3.0/24: wildcards not allowed here)"),
        ("ip,nw_frag=yes", "bad value for nw_frag (yes: wildcards not allowed here)"),
        ("tcp,tcp_flags=+syn-ack", "bad value for tcp_flags (+syn-ack: wildcards not allowed here)"),
        ("tcp,tcp_flags=0xffff", "bad value for tcp_flags (0xffff: unknown TCP flag(s))"),
        ("ct_state=trk+est", "bad value for ct_state (trk+est: unknown ct_state flag(s))"),
    ] {
        assert_eq!(
            parse_key(given, &NoPortNames).map_err(|e| e.to_string()),
            Err(message.to_owned()),
            "{given}"
        );
    }
    // Beyond Open vSwitch's own reading: names that mean what the protocol says.
    let echo = parse_key("icmp6,icmp_type=135,nd_target=::1", &NoPortNames).unwrap();
    assert!(
        display_key(&echo, TextStyle::default())
            .to_string()
            .ends_with("icmp_type=135,icmp_code=0,nd_target=::1,nd_sll=00:00:00:00:00:00")
    );
    assert!(parse_key("udp,tp_src=67,tp_dst=68", &NoPortNames).is_ok());
}

#[test]
fn corpus_is_digested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus/text");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        flowtable::text::fuzz::flow_text(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 0, "no corpus in {folder}");
}

/// A match with conditions on random fields, normalised.
fn any_match() -> impl Strategy<Value = Match> {
    let protocol = prop::sample::select(vec![
        (0x0800u128, Some(6u128)),
        (0x0800, Some(17)),
        (0x0800, Some(1)),
        (0x0800, None),
        (0x0806, None),
        (0x86dd, Some(58)),
        (0x86dd, Some(132)),
        (0x86dd, Some(6)),
        (0x8847, None),
        (0x88cc, None),
    ]);
    let condition = (0..FIELDS.len(), any::<u128>(), any::<u128>(), any::<bool>(), any::<bool>());
    (protocol, prop::collection::vec(condition, 0..12), any::<bool>()).prop_map(
        |((dl_type, proto), conditions, nd)| {
            let mut m = Match::any();
            for (i, value, mask, exact, prefix) in conditions {
                let row = &FIELDS[i];
                let ones = row.slot.ones();
                let prefixed = ones & !(ones >> (mask % row.slot.width as u128));
                let mask = match (exact || row.masking == flowtable::field::Masking::Exact, prefix) {
                    (true, _) => row.value_bits(),
                    (_, true) => prefixed,
                    _ => mask & ones,
                };
                let value = match row.format {
                    flowtable::field::Format::OfPort => value & 0xfeff,
                    flowtable::field::Format::CtState => value & 0xff,
                    _ => value,
                };
                let mask = if row.format == flowtable::field::Format::CtState {
                    // All flags are printed as none masked.
                    if mask & 0xff == 0xff { ones } else { mask & 0xff }
                } else {
                    mask
                };
                if row.format != flowtable::field::Format::Frag {
                    row.id.set_condition(&mut m, value, mask);
                }
            }
            m.set_exact(packet::key::slot::DL_TYPE, dl_type);
            if let Some(proto) = proto {
                m.set_exact(packet::key::slot::NW_PROTO, proto);
            }
            if proto == Some(58) && nd {
                m.set(packet::key::slot::TP_SRC, 135, 0xff);
                m.set(packet::key::slot::TP_DST, 0, 0xff);
            }
            // Type and code are exact or nothing.
            if proto == Some(1) || proto == Some(58) {
                for s in [packet::key::slot::TP_SRC, packet::key::slot::TP_DST] {
                    let (value, bits) = m.get(s);
                    m.set(s, value, if bits == 0 { 0 } else { 0xff });
                }
            }
            // DSCP and ECN too; MPLS has no masks at all.
            for id in
                FIELDS.iter().filter(|f| f.masking == flowtable::field::Masking::Exact && f.name != "nw_tos")
            {
                let (value, bits) = m.get(id.slot);
                m.set(id.slot, value, if bits == 0 { 0 } else { id.slot.ones() });
            }
            flowtable::text::normalize(&m)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_matches_are_read_as_what_they_were(m in any_match(), priority in any::<u16>()) {
        let printed = display_match(&m, priority, TextStyle::default()).to_string();
        let flow = parse_flow(&format!("{printed} actions=drop"), ADD, &NoPortNames)
            .map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
        prop_assert_eq!(flow.priority, priority);
        for i in 0..FlowKey::LEN {
            prop_assert_eq!(flow.matching.key().word(i), m.key().word(i), "value of word {} of {}", i, &printed);
            prop_assert_eq!(flow.matching.mask().0.word(i), m.mask().0.word(i), "mask of word {} of {}", i, &printed);
        }
    }

    #[test]
    fn any_text_is_digested(text in "\\PC{0,60}") {
        flowtable::text::fuzz::flow_text(text.as_bytes());
    }

    #[test]
    fn flow_like_text_is_digested(words in prop::collection::vec(prop::sample::select(vec![
        "tcp", "ip", "ipv6", "in_port=", "1", "0x", "/", "24", "::", "nw_src=", "ipv6_src=", "actions=", "action=", "output:",
        "(", ")", ",", " ", "->", "reg0", "[", "]", "..", "set_field:", "load:", "move:", "resubmit", "vlan_tci=", "tcp_flags=",
        "+syn", "-", "|", "write_actions(", "controller(", "note:", "ff", ".", "\"", "\\", "priority=", "cookie=", "é", "dl_vlan=",
        "99999999999999999999999999999999999999999", "xxreg0", "enqueue:", "port=", "max_len=", "drop", "ct_state=", "nw_frag=",
    ]), 0..25)) {
        flowtable::text::fuzz::flow_text(words.concat().as_bytes());
    }

    #[test]
    fn damaged_flows_are_digested(i in 0..MATCHES.len(), j in 0..ACTIONS.len(), at in any::<prop::sample::Index>(), c in any::<char>()) {
        let mut text: Vec<char> = format!("{},actions={}", MATCHES[i].0, ACTIONS[j].0).chars().collect();
        let at = at.index(text.len());
        text[at] = c;
        flowtable::text::fuzz::flow_text(text.iter().collect::<String>().as_bytes());
    }
}

#[test]
fn a_long_list_is_refused() {
    let text = "output:1,".repeat(5000);
    let error = parse_actions(&text, &NoPortNames).unwrap_err();
    assert!(matches!(error.fault, TextFault::TooMany { .. }));
    assert!(parse_match("reg0=1,reg1=2", &NoPortNames).is_ok());
    let nested = "write_actions(".repeat(10_000);
    assert!(parse_actions(&nested, &NoPortNames).is_err());
}
