//! What fuzzers call. Any text is read without panicking, and what was read is the same after printing and reading again.

use super::{
    Dialect, FlowUsage, NoPortNames, TextStyle, display_actions, display_key, display_match, parse_actions,
    parse_flow, parse_flow_line, parse_key, parse_match,
};
use crate::flow_mod::FlowModCommand;

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
