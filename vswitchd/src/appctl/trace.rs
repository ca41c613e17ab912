//! ofproto/trace and ofproto/trace-packet-out: what would become of a frame, as ovs-vswitchd(8) has it.

use super::dp::is_datapath;
use super::{Answer, Command, command, hex};
use crate::daemon::Daemon;
use base::Instant;
use datapath::SlowPath;
use flowtable::text::{PortNames, parse_actions, parse_key};
use flowtable::{FlowKey, OfAction, OfPort, Words};
use packet::{Frame, PacketKey, slot};
use std::sync::Arc;
use switch::bridge::Bridge;
use switch::dp_text;
use switch::forwarding::Forwarding;
use switch::ofproto::check_packet_out_actions;
use switch::trace::{CtNext, SideEffects, trace_in, trace_on, trace_out};

/// Every command, by name.
pub(super) const COMMANDS: &[Command] = &[
    command(
        "ofproto/trace",
        "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]",
        1,
        usize::MAX,
        |d, a, n| Answer::Now(trace(d, a, n)),
    ),
    command(
        "ofproto/trace-packet-out",
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        2,
        usize::MAX,
        |d, a, n| Answer::Now(trace_packet_out(d, a, n)),
    ),
];

/// What a command line says, options apart.
struct Line<'a> {
    side_effects: SideEffects,
    next: CtNext,
    /// Actions must fit the frame (`--consistent`).
    is_consistent: bool,
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn new(args: &'a [String]) -> Result<Line<'a>, String> {
        let mut line = Line {
            side_effects: SideEffects::None,
            next: CtNext::default(),
            is_consistent: false,
            words: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("Missing argument for option {arg}"));
            match arg.as_str() {
                "--ct-next" | "-ct-next" => line.next.add(value()?)?,
                "-generate" | "--generate" => line.side_effects = SideEffects::Generate,
                "-consistent" | "--consistent" => line.is_consistent = true,
                // Rules do not look at the payload of the frame that is made up.
                "--l7" => drop(hex(value()?).ok_or("Trailing garbage in packet data")?),
                "--l7-len" => drop(value()?),
                "--names" | "--no-names" => {}
                option if option.starts_with('-') => return Err(format!("{option}: unknown option")),
                word => line.words.push(word),
            }
        }
        Ok(line)
    }
}

/// `ofproto/trace`: a bridge and a flow in ovs-ofctl's syntax, or a datapath flow; a packet in hex instead of, or beside,
/// the flow; `-generate` to let the side effects happen.
fn trace(daemon: &Daemon, args: &[String], now: Instant) -> Result<String, String> {
    let line = Line::new(args)?;
    if line.is_consistent {
        return Err("-consistent: unknown option".to_owned());
    }
    follow(daemon, &line, None, now)
}

/// `ofproto/trace-packet-out`: the same of a frame that a controller would send out with the actions that come last.
fn trace_packet_out(daemon: &Daemon, args: &[String], now: Instant) -> Result<String, String> {
    let mut line = Line::new(args)?;
    let actions = line.words.pop().ok_or("no actions")?;
    follow(daemon, &line, Some(actions), now)
}

fn follow(daemon: &Daemon, line: &Line<'_>, actions: Option<&str>, now: Instant) -> Result<String, String> {
    let snapshot = daemon.snapshot.load_full();
    let (bridge, flow) = imagine(daemon, &snapshot, &line.words)?;
    let (id, side_effects) = (bridge.id(), line.side_effects);
    let traced = match actions {
        None => trace_in(&snapshot, id, &flow, side_effects),
        Some(text) => {
            let actions = packet_out_actions(bridge, text, &flow, line.is_consistent)?;
            trace_out(&snapshot, id, &flow, actions, side_effects)
        }
    };
    let mut traced = traced.ok_or("unknown bridge")?;
    trace_on(&snapshot, id, &flow, side_effects, (&mut traced, &line.next));
    if side_effects == SideEffects::Generate {
        snapshot.commit(&traced.translation.effects, now);
    }
    Ok(traced.text)
}

/// The actions of a packet-out, which must fit `flow`, all of them if `is_consistent`.
fn packet_out_actions(
    bridge: &Bridge,
    text: &str,
    flow: &FlowKey,
    is_consistent: bool,
) -> Result<Arc<[OfAction]>, String> {
    let actions = parse_actions(text, &BridgeNames(bridge)).map_err(|e| e.to_string())?;
    if let Some(name) = actions.iter().find_map(instruction) {
        return Err(format!("{name} instruction not allowed here"));
    }
    check_packet_out_actions(bridge, &actions, flow, is_consistent)
        .map_err(|e| format!("Bad actions: {}", e.name()))?;
    Ok(actions.into())
}

/// The name of an action that is an instruction, which only rules have.
fn instruction(action: &OfAction) -> Option<&'static str> {
    match action {
        OfAction::GotoTable(_) => Some("goto_table"),
        OfAction::WriteActions(_) => Some("write_actions"),
        OfAction::ClearActions => Some("clear_actions"),
        OfAction::WriteMetadata { .. } => Some("write_metadata"),
        _ => None,
    }
}

/// The frame that is told of, and the bridge that it is in.
fn imagine<'a>(
    daemon: &Daemon,
    snapshot: &'a Forwarding,
    words: &[&str],
) -> Result<(&'a Bridge, FlowKey), String> {
    let port_named = |name: &str| daemon.port_named(name);
    // A datapath may be named before a datapath flow; there is only one.
    let words = match words.split_first() {
        Some((first, rest)) if is_datapath(first) => rest,
        _ => words,
    };
    let key = match words {
        [_, _, _, _, ..] => return Err("too many arguments".to_owned()),
        [name, rest @ ..] if !rest.is_empty() && snapshot.bridge_by_name(name).is_some() => {
            let bridge = snapshot.bridge_by_name(name).ok_or("unknown bridge")?;
            return Ok((bridge, bridge_flow(bridge, rest)?));
        }
        [name] if !name.contains('(') => {
            return Err(format!("syntax error at {name} (or the bridge name was omitted)"));
        }
        [flow] => dp_text::parse_dp_key(flow, &port_named).map_err(|e| e.to_string())?,
        // Two words whose first is no datapath flow begin with a bridge.
        [name, ..] if !name.contains('(') => return Err(format!("{name}: unknown bridge")),
        [flow, packet] => {
            let mut key = frame_key(packet)?;
            let flow = dp_text::parse_dp_key(flow, &port_named).map_err(|e| e.to_string())?;
            key.set_in_port(flow.in_port());
            key
        }
        _ => return Err("Must specify bridge name".to_owned()),
    };
    let home = snapshot.home_of(key.in_port());
    let (bridge, port) =
        home.ok_or_else(|| format!("no OpenFlow port for datapath port {}", key.in_port()))?;
    let mut flow = FlowKey::from(key);
    flow.set_slot(slot::IN_PORT, port.0.into());
    Ok((bridge, flow))
}

/// The flow of `BRIDGE FLOW [PACKET]` or `BRIDGE PACKET`. A packet gives the headers, the flow the rest.
fn bridge_flow(bridge: &Bridge, rest: &[&str]) -> Result<FlowKey, String> {
    let (flow, packet) = match rest {
        [flow] if hex(flow).is_some_and(|b| b.len() >= 14) => ("", Some(*flow)),
        [flow] => (*flow, None),
        [flow, packet] => (*flow, Some(*packet)),
        _ => return Err("Must specify a flow".to_owned()),
    };
    let parsed = parse_key(flow, &BridgeNames(bridge));
    let mut key = parsed.map_err(|e| format!("Bad openflow flow syntax: {flow}: {e}"))?;
    if let Some(packet) = packet {
        let in_port = key.slot(slot::IN_PORT);
        key.packet = frame_key(packet)?;
        key.set_slot(slot::IN_PORT, in_port);
    }
    Ok(key)
}

fn frame_key(text: &str) -> Result<PacketKey, String> {
    let bytes = hex(text).ok_or_else(|| format!("bad packet '{text}': not an even number of hex digits"))?;
    PacketKey::extract(&mut Frame::from_bytes(&bytes)).map_err(|e| format!("bad packet: {e}"))
}

/// Names of a bridge's ports, for flows.
struct BridgeNames<'a>(&'a Bridge);

impl PortNames for BridgeNames<'_> {
    fn number(&self, name: &str) -> Option<OfPort> {
        self.0.port_by_name(name).map(|p| p.of_port)
    }
    fn name(&self, port: OfPort) -> Option<&str> {
        self.0.port(port).map(|p| &*p.name)
    }
}
