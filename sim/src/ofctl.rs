//! Flows in ovs-ofctl's syntax as OpenFlow messages, without the bytes in between.

use flowtable::text::{NoPortNames, ParsedFlow, TextError, parse_flow_line};
use openflow::message::{CookieFilter, FlowMod, FlowModCommand, FlowModFlags, GROUP_ANY, Message};

fn command(command: flowtable::FlowModCommand) -> FlowModCommand {
    use flowtable::FlowModCommand as From;
    match command {
        From::Add => FlowModCommand::Add,
        From::Modify => FlowModCommand::Modify,
        From::ModifyStrict => FlowModCommand::ModifyStrict,
        From::Delete => FlowModCommand::Delete,
        From::DeleteStrict => FlowModCommand::DeleteStrict,
    }
}

fn flags(flow: &ParsedFlow) -> FlowModFlags {
    use flowtable::RuleFlags as Rule;
    let pairs = [
        (Rule::SEND_FLOW_REM, FlowModFlags::SEND_FLOW_REM),
        (Rule::CHECK_OVERLAP, FlowModFlags::CHECK_OVERLAP),
        (Rule::RESET_COUNTS, FlowModFlags::RESET_COUNTS),
        (Rule::NO_PKT_COUNTS, FlowModFlags::NO_PKT_COUNTS),
        (Rule::NO_BYT_COUNTS, FlowModFlags::NO_BYT_COUNTS),
    ];
    FlowModFlags(pairs.iter().filter(|(rule, _)| flow.flags.0 & rule.0 != 0).map(|(_, wire)| wire).sum())
}

/// The message for a flow as a file of flows has it: optionally `add`, `modify`, `modify_strict`, `delete` or
/// `delete_strict` (default `add`), then the flow.
///
/// # Errors
/// If it is not such a line.
pub fn flow_mod(text: &str) -> Result<Message, TextError> {
    let parsed = parse_flow_line(text, flowtable::FlowModCommand::Add, &NoPortNames)?;
    let Some((wanted, flow)) = parsed else { return Ok(Message::BarrierRequest) };
    let inner = flow.flow_mod(wanted, flowtable::OnMissing::Ignore);
    Ok(Message::FlowMod(FlowMod {
        table: inner.table,
        matching: flow.matching,
        priority: flow.priority,
        cookie_filter: CookieFilter { value: flow.cookie.0, mask: flow.cookie_mask },
        new_cookie: flow.new_cookie.map(|c| c.0).or((wanted == flowtable::FlowModCommand::Add).then_some(0)),
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        importance: flow.importance,
        out_port: flow.out_port,
        out_group: flow.out_group.unwrap_or(GROUP_ANY),
        flags: flags(&flow),
        actions: flow.actions,
        ..FlowMod::new(command(wanted))
    }))
}
