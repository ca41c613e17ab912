//! What fuzzers call. Any text is read without panicking, and what was read is the same after printing and reading again.

use super::{
    BucketIds, Dialect, FlowUsage, NoPortNames, TextStyle, display_actions, display_group, display_key,
    display_match, display_meter, parse_actions, parse_flow, parse_flow_line, parse_group_filter,
    parse_group_line, parse_group_mod, parse_key, parse_match, parse_meter_filter, parse_meter_mod,
};
use crate::flow_mod::FlowModCommand;
use crate::group::GroupCommand;
use crate::meter::MeterCommand;

/// Reads arbitrary bytes as flows of all usages and as keys.
///
/// # Panics
/// If printed text is not read as what was printed.
#[allow(clippy::panic)]
pub fn flow_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let style = TextStyle::default().dialect(Dialect::OpenFlow11);
    for usage in [FlowUsage::Mod(FlowModCommand::Delete), FlowUsage::Dump] {
        let _ = parse_flow(&text, usage, &NoPortNames);
    }
    let _ = parse_flow_line(&text, FlowModCommand::ModifyStrict, &NoPortNames);
    if let Ok(flow) = parse_flow(&text, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames) {
        let printed = display_match(&flow.matching, 0x8000, style).to_string();
        match parse_match(&printed, &NoPortNames) {
            Ok(again) => assert_eq!(display_match(&again, 0x8000, style).to_string(), printed),
            Err(e) => panic!("match {printed}: {e}"),
        }
        let printed = display_actions(&flow.actions, style).to_string();
        match parse_actions(&printed, &NoPortNames) {
            Ok(again) => assert_eq!(display_actions(&again, style).to_string(), printed),
            Err(e) => panic!("actions {printed}: {e}"),
        }
    }
    if let Ok(key) = parse_key(&text, &NoPortNames) {
        let _ = display_key(&key, style).to_string();
    }
}

/// Reads arbitrary bytes as groups and meters, and as filters of both.
///
/// # Panics
/// If printed text is not read as what was printed.
#[allow(clippy::panic)]
pub fn group_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let style = TextStyle::default().dialect(Dialect::OpenFlow11);
    let _ = parse_group_filter(&text);
    let _ = parse_meter_filter(&text);
    let _ = parse_group_line(&text, GroupCommand::Modify, &NoPortNames);
    for command in [GroupCommand::Delete, GroupCommand::InsertBuckets, GroupCommand::RemoveBuckets] {
        let _ = parse_group_mod(&text, command, &NoPortNames);
    }
    if let Ok(m) = parse_group_mod(&text, GroupCommand::Add, &NoPortNames) {
        let _ = m.check();
        let printed =
            display_group(m.group, m.kind, &m.selection, &m.buckets, BucketIds::Shown, style).to_string();
        match parse_group_mod(&printed, GroupCommand::Add, &NoPortNames) {
            Ok(again) => assert!(again == m, "group {printed} is another"),
            Err(e) => panic!("group {printed}: {e}"),
        }
    }
    if let Ok(m) = parse_meter_mod(&text, MeterCommand::Add) {
        let _ = m.check();
        let printed = display_meter(m.meter, &m.config).to_string();
        match parse_meter_mod(&printed, MeterCommand::Add) {
            Ok(again) => assert_eq!(display_meter(again.meter, &again.config).to_string(), printed),
            Err(e) => panic!("meter {printed}: {e}"),
        }
    }
}
