//! Commands that print flows and tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::anyhow;
use flowtable::text::{
    Dialect, FlowLine, FlowLineForm, FlowUsage, NoPortNames, TextStyle, display_actions, display_match,
    parse_flow,
};
use flowtable::{Cookie, OfAction, RuleFlags, TableId};
use openflow::OfVersion;
use openflow::message::{
    CookieFilter, FlowStats, FlowStatsForm, FlowStatsRequest, GROUP_ANY, MultipartReply, MultipartRequest,
};
use openflow::session::CloseReason;
use serde_json::{Value, json};

use super::connection::{Connection, FLOODING};
use super::flows::{says_more_than_openflow10, sets_or_adds_tag};
use super::text::BadText;
use crate::args::{BridgeName, DumpFlows};
use crate::clock::Deadline;
use crate::console::{Answer, Look, Paint};
use crate::grid::{Cell, Grid};
use crate::rundir::RunDir;

/// `dump-flows`.
pub fn dump(args: &DumpFlows, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(rundir, &args.bridge, deadline)?;
    let names = connection.names()?;
    let text = args.flow.as_deref().unwrap_or_default();
    let filter =
        parse_flow(text, FlowUsage::Dump, &names).map_err(|e| BadText::new("match", text, e))?.filter();
    let v10 = connection.version() == OfVersion::V10;
    let request = FlowStatsRequest {
        form: if v10 { FlowStatsForm::Nicira } else { FlowStatsForm::Standard },
        table: filter.table,
        matching: filter.matching,
        out_port: filter.out_port,
        out_group: filter.out_group.unwrap_or(GROUP_ANY),
        cookie_filter: CookieFilter { value: filter.cookie.0, mask: filter.cookie_mask },
    };
    let mut flows = rules(&mut connection, request.clone())?;
    if !v10
        && flows.iter().any(|flow| flow.actions.iter().any(|action| matches!(action, OfAction::PushVlan(_))))
    {
        restore_tag_actions(&mut flows, request, &args.bridge, (rundir, deadline))?;
    }
    // As packets meet them; equals stay as the switch has them.
    flows.sort_by_key(|flow| (flow.table, std::cmp::Reverse(flow.priority)));
    let style = if args.names { TextStyle::with_names(&names) } else { TextStyle::with_names(&NoPortNames) };
    let style = style.dialect(if v10 { Dialect::OpenFlow10 } else { Dialect::OpenFlow11 });
    let form = if args.no_stats { FlowLineForm::NoStats } else { FlowLineForm::Dump };
    let mut text = String::new();
    for flow in &flows {
        let line = flow_line(flow).display(form, style).to_string();
        let _ = writeln!(text, "{}", line.trim_start());
    }
    let json = flows.iter().map(|flow| flow_json(flow, style, args.no_stats)).collect();
    Ok(Answer { text, json })
}

fn rules(connection: &mut Connection, request: FlowStatsRequest) -> anyhow::Result<Vec<FlowStats>> {
    let parts = connection.multipart(MultipartRequest::Flow(request))?;
    let lists = parts.into_iter().map(|part| match part {
        MultipartReply::Flow(_, flows) => flows,
        _ => Vec::new(),
    });
    Ok(lists.flatten().collect())
}

/// Gives flows that set a VLAN tag, or add it where there is none, back the actions with which they were written. Later
/// versions than 1.0 show them as if they added a tag in any case, so the switch is asked again in 1.0 for those alone.
fn restore_tag_actions(
    flows: &mut [FlowStats],
    request: FlowStatsRequest,
    bridge: &str,
    (rundir, deadline): (&RunDir, Deadline),
) -> anyhow::Result<()> {
    let mut connection = match Connection::open_with(rundir, bridge, FLOODING, deadline) {
        Err(error) if error.is::<CloseReason>() => return Ok(()),
        other => other?,
    };
    let request = FlowStatsRequest { form: FlowStatsForm::Nicira, ..request };
    let mut written: BTreeMap<(TableId, u16), Vec<FlowStats>> = BTreeMap::new();
    for flow in rules(&mut connection, request)?.into_iter().filter(|flow| sets_or_adds_tag(&flow.actions)) {
        written.entry((flow.table, flow.priority)).or_default().push(flow);
    }
    for flow in flows {
        let alike = written.get(&(flow.table, flow.priority)).into_iter().flatten();
        // What only later versions can say is missing in the older answer.
        let plain = !says_more_than_openflow10(&flow.actions);
        if let Some(older) = alike.into_iter().find(|older| older.matching == flow.matching).filter(|_| plain)
        {
            flow.actions.clone_from(&older.actions);
        }
    }
    Ok(())
}

fn flow_line(flow: &FlowStats) -> FlowLine<'_> {
    FlowLine {
        cookie: Cookie(flow.cookie),
        duration: flow.duration,
        table: flow.table,
        packets: flow.packets,
        bytes: flow.bytes,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        flags: RuleFlags(flow.flags.0),
        importance: flow.importance,
        idle_age: flow.idle_age.map(u32::from),
        hard_age: flow.hard_age.map(u32::from),
        priority: flow.priority,
        matching: &flow.matching,
        actions: &flow.actions,
    }
}

fn flow_json(flow: &FlowStats, style: TextStyle<'_>, no_stats: bool) -> Value {
    /// The priority that prints as nothing.
    const PRIORITY_DEFAULT: u16 = 0x8000;
    let mut json = json!({
        "table": flow.table.0, "priority": flow.priority, "cookie": format!("{:#x}", flow.cookie),
        "match": display_match(&flow.matching, PRIORITY_DEFAULT, style).to_string(),
        "actions": display_actions(&flow.actions, style).to_string(),
        "idle_timeout": flow.idle_timeout, "hard_timeout": flow.hard_timeout, "importance": flow.importance,
    });
    if let (false, Some(object)) = (no_stats, json.as_object_mut()) {
        object.insert("packets".into(), json!(flow.packets));
        object.insert("bytes".into(), json!(flow.bytes));
        object.insert("duration_s".into(), json!(flow.duration.as_secs_f64()));
        object.insert("idle_age_s".into(), json!(flow.idle_age));
    }
    json
}

/// `tables`.
pub fn tables(
    args: &BridgeName,
    rundir: &RunDir,
    deadline: Deadline,
    paint: Paint,
) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(rundir, &args.bridge, deadline)?;
    let parts = connection.multipart(MultipartRequest::Table)?;
    let mut tables = Vec::new();
    for part in parts {
        match part {
            MultipartReply::Table(part) => tables.extend(part),
            other => return Err(anyhow!("{}: no table statistics but {other:?}", connection.describe())),
        }
    }
    let mut grid = Grid::titled(&[">TABLE", ">FLOWS", ">LOOKUPS", ">MATCHED"]);
    let used: Vec<_> = tables.iter().filter(|table| table.active > 0 || table.lookups > 0).collect();
    for table in &used {
        grid.row([
            Cell::number(table.table.0).look(Look::Bold),
            Cell::number(table.active),
            Cell::number(table.lookups),
            Cell::number(table.matched),
        ]);
    }
    let json = used
        .iter()
        .map(|table| {
            json!({
                "table": table.table.0, "flows": table.active, "lookups": table.lookups, "matched": table.matched,
            })
        })
        .collect();
    Ok(Answer { text: grid.render(paint), json })
}
