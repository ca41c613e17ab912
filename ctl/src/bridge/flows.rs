//! Commands that change flows.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::path::Path;

use anyhow::{Context, bail};
use flowtable::text::{FlowUsage, ParsedFlow, parse_flow, parse_flow_line};
use flowtable::{FieldId, FlowModCommand, Match, OfAction, OnMissing};
use openflow::OfVersion;
use openflow::message::{
    self, BUNDLE_ATOMIC, BUNDLE_ORDERED, BundleAdd, BundleControl, BundleControlKind, CookieFilter,
    FlowModFlags, GROUP_ANY, Message, Xid,
};
use openflow::session::CloseReason;
use serde_json::json;

use super::connection::{Connection, FLOODING, Names, Refused};
use super::text::BadText;
use crate::args::{AddFlow, AddFlows, DeleteFlows, ModFlows};
use crate::clock::Deadline;
use crate::console::Answer;
use crate::rundir::RunDir;

/// The longest file of flows.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// `add-flow`.
pub fn add(args: &AddFlow, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    change(FlowModCommand::Add, &args.bridge, &args.flow, (rundir, deadline))
}

/// `mod-flows`.
pub fn modify(args: &ModFlows, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    let command = if args.strict { FlowModCommand::ModifyStrict } else { FlowModCommand::Modify };
    change(command, &args.bridge, &args.flow, (rundir, deadline))
}

/// `del-flows`.
pub fn delete(args: &DeleteFlows, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    let command = if args.strict { FlowModCommand::DeleteStrict } else { FlowModCommand::Delete };
    change(command, &args.bridge, args.flow.as_deref().unwrap_or_default(), (rundir, deadline))
}

fn change(
    command: FlowModCommand,
    bridge: &str,
    text: &str,
    (rundir, deadline): (&RunDir, Deadline),
) -> anyhow::Result<Answer> {
    let mut connection = Connection::open(rundir, bridge, deadline)?;
    let names = connection.names()?;
    let parsed =
        parse_flow(text, FlowUsage::Mod(command), &names).map_err(|e| BadText::new("flow", text, e))?;
    warn_of_lost_conditions(&parsed, "");
    if sets_or_adds_tag(&parsed.actions) {
        match Connection::open_with(rundir, bridge, FLOODING, deadline) {
            Ok(older) => connection = older,
            Err(error) if error.is::<CloseReason>() => warn(&format!("{TAG_NOTICE}\n")),
            Err(error) => return Err(error),
        }
    }
    connection.send(&Message::FlowMod(flow_mod(&parsed, command, connection.version())))?;
    connection.barrier().with_context(|| format!("{bridge}: {text}"))?;
    Ok(Answer::done(json!({ "bridge": bridge, "flow": text, "done": true })))
}

/// Says something on standard error that is no reason to stop.
fn warn(text: &str) {
    let _ = write!(std::io::stderr(), "tapctl: {text}");
}

/// Says that conditions were left out because the match lacks what they need.
fn warn_of_lost_conditions(parsed: &ParsedFlow, place: &str) {
    if let Some(notice) = parsed.notice() {
        warn(&format!("{place}{notice}\n"));
    }
}

const TAG_NOTICE: &str = "mod_vlan_vid and mod_vlan_pcp are sent as push_vlan and set_field, which add a tag to tagged \
                          frames too, because OpenFlow 1.0 is not spoken here";

/// Whether actions set a VLAN tag where there is one and add it where there is none, which only OpenFlow 1.0 can say.
/// What only later versions can say goes before that.
pub fn sets_or_adds_tag(actions: &[OfAction]) -> bool {
    actions.iter().any(|action| matches!(action, OfAction::SetVlanVid(_) | OfAction::SetVlanPcp(_)))
        && !says_more_than_openflow10(actions)
}

/// Whether there are instructions that OpenFlow 1.0 does not have.
pub fn says_more_than_openflow10(actions: &[OfAction]) -> bool {
    actions.iter().any(|action| {
        matches!(
            action,
            OfAction::WriteActions(_)
                | OfAction::ClearActions
                | OfAction::GotoTable(_)
                | OfAction::WriteMetadata { .. }
        )
    })
}

/// The message for a flow.
fn flow_mod(parsed: &ParsedFlow, command: FlowModCommand, version: OfVersion) -> message::FlowMod {
    // Only OpenFlow 1.0's modify adds what it does not find.
    let on_missing = if version == OfVersion::V10 { OnMissing::Add } else { OnMissing::Ignore };
    let plain = parsed.flow_mod(command, on_missing);
    let command = match command {
        FlowModCommand::Add => message::FlowModCommand::Add,
        FlowModCommand::Modify => message::FlowModCommand::Modify,
        FlowModCommand::ModifyStrict => message::FlowModCommand::ModifyStrict,
        FlowModCommand::Delete => message::FlowModCommand::Delete,
        FlowModCommand::DeleteStrict => message::FlowModCommand::DeleteStrict,
    };
    let empty = message::FlowMod::new(command);
    message::FlowMod {
        table: plain.table,
        matching: plain.matching,
        priority: plain.priority,
        cookie_filter: CookieFilter { value: plain.cookie.0, mask: plain.cookie_mask },
        new_cookie: plain.new_cookie.map(|cookie| cookie.0).or(empty.new_cookie),
        idle_timeout: plain.idle_timeout,
        hard_timeout: plain.hard_timeout,
        importance: plain.importance,
        out_port: plain.out_port,
        out_group: plain.out_group.unwrap_or(GROUP_ANY),
        flags: FlowModFlags(plain.flags.0),
        actions: plain.actions.to_vec(),
        ..empty
    }
}

/// Whether a match says if frames have a VLAN tag, so that every version can say what an action does to it.
fn names_tag(matching: &Match) -> bool {
    matching.get(FieldId::VlanTci.slot()).1 & VLAN_PRESENT != 0
}

/// The bit of a TCI that OpenFlow takes for "there is a tag" (OpenFlow 1.5.1 §7.2.3.7, OFPVID_PRESENT).
const VLAN_PRESENT: u128 = 0x1000;

/// A line of a file that changes something.
struct Line {
    number: usize,
    text: String,
    command: FlowModCommand,
    flow: ParsedFlow,
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text).context("standard input")?;
    } else {
        let open = std::fs::File::open(file).with_context(|| file.display().to_string())?;
        open.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(|| file.display().to_string())?;
    }
    Ok(text)
}

fn read_lines(file: &str, text: &str, names: &Names) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let number = at + 1;
        let parsed = parse_flow_line(text, FlowModCommand::Add, names)
            .map_err(|error| BadText::new(format!("flow in {file}, line {number}"), text, error))?;
        if let Some((command, flow)) = parsed {
            lines.push(Line { number, text: text.trim().to_owned(), command, flow });
        }
    }
    Ok(lines)
}

/// The only bundle of a connection.
const BUNDLE: u32 = 1;
/// Messages written at a time, so that errors are seen and the switch's buffers not overrun.
const FLUSH_EVERY: usize = 256;

/// `add-flows`: one bundle (OpenFlow 1.4 §6.8).
pub fn add_file(args: &AddFlows, rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Answer> {
    let file =
        if args.file == Path::new("-") { "<stdin>".to_owned() } else { args.file.display().to_string() };
    let text = read_text(&args.file)?;
    let mut connection = Connection::open(rundir, &args.bridge, deadline)?;
    if connection.version() == OfVersion::V10 {
        bail!("bridge {} allows only OpenFlow 1.0, which cannot change flows all at once", args.bridge);
    }
    let names = connection.names()?;
    let lines = read_lines(&file, &text, &names)?;
    for line in &lines {
        let place = format!("{file}, line {}: ", line.number);
        warn_of_lost_conditions(&line.flow, &place);
        if sets_or_adds_tag(&line.flow.actions) && !names_tag(&line.flow.matching) {
            warn(&format!("{place}{TAG_NOTICE}\n"));
        }
    }
    let answer = json!({ "bridge": args.bridge, "flows": lines.len(), "done": true });
    if lines.is_empty() {
        return Ok(Answer::done(answer));
    }
    let mut sent: BTreeMap<Xid, &Line> = BTreeMap::new();
    run_bundle(&mut connection, &lines, &mut sent).map_err(|error| {
        let refused = error.downcast_ref::<Refused>();
        match refused.and_then(|refused| sent.get(&refused.xid)) {
            Some(line) => error.context(format!("{file}, line {}: {}", line.number, line.text)),
            None => error.context(format!("{file}: no flow was changed")),
        }
    })?;
    Ok(Answer::done(answer))
}

fn control(kind: BundleControlKind) -> Message {
    Message::BundleControl(BundleControl { bundle: BUNDLE, kind, flags: BUNDLE_ATOMIC | BUNDLE_ORDERED })
}

fn run_bundle<'a>(
    connection: &mut Connection,
    lines: &'a [Line],
    sent: &mut BTreeMap<Xid, &'a Line>,
) -> anyhow::Result<()> {
    connection.request(&control(BundleControlKind::OpenRequest))?;
    for (at, line) in lines.iter().enumerate() {
        let xid = connection.new_xid();
        let flow_mod = flow_mod(&line.flow, line.command, connection.version());
        sent.insert(xid, line);
        let add = BundleAdd {
            bundle: BUNDLE,
            flags: BUNDLE_ATOMIC | BUNDLE_ORDERED,
            xid,
            message: Box::new(Message::FlowMod(flow_mod)),
            quote: Vec::new(),
        };
        connection
            .send_with(xid, &Message::BundleAdd(add))
            .with_context(|| format!("line {}: {}", line.number, line.text))?;
        if at % FLUSH_EVERY == 0 {
            connection.flush()?;
        }
    }
    // Errors of single messages come before the barrier's answer, and name the line.
    connection.barrier()?;
    let commit = connection.send(&control(BundleControlKind::CommitRequest))?;
    let mut first = None;
    loop {
        let received = connection.next()?;
        match received.message {
            // The error of the message at fault comes before that of the commit.
            Message::Error(error) => {
                let refused = first.get_or_insert(Refused { xid: received.xid, error }).clone();
                if received.xid == commit {
                    return Err(refused.into());
                }
            }
            Message::BundleControl(BundleControl { kind: BundleControlKind::CommitReply, .. }) => {
                return Ok(());
            }
            _ => {}
        }
    }
}
