//! ofproto/trace: how a translation came about, in the words of ovs-appctl. The translation itself is the one that the
//! datapath gets: a [`Trace`] only listens.

mod resume;

pub use resume::{CtNext, TRACE_RESUMPTIONS_MAX};

use crate::bridge::BridgeId;
use crate::dp_text::display_program;
use crate::forwarding::{Effect, Forwarding};
use crate::profile::class_of;
use crate::translate;
use datapath::Translation;
use flowtable::text::{
    Dialect, TextStyle, display_actions, display_key, display_match, display_subfield, display_value,
};
use flowtable::{FlowKey, Mask, Match, OfAction, Rule, SubField, Words};
use packet::PacketKey;
use packet::key::slot;
use packet::wire::ETHERTYPE_VLAN;
use resume::{Resumption, resumptions, state_text};
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

/// Whether a trace carries out what the frame would cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SideEffects {
    /// No: nothing is learned.
    None,
    /// Yes (`-generate`, or a frame given): the caller commits the translation's effects.
    Generate,
}

/// Kinds of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// A bridge.
    Bridge,
    /// A table and what was found in it.
    Table,
    /// An action set.
    Set,
    /// A group's bucket.
    Bucket,
    /// An action.
    Action,
    /// ` -> …`
    Detail,
    /// ` >> …`
    Warn,
    /// ` >>>> … <<<<`
    Error,
}

impl Note {
    /// Lines that nothing stands under.
    fn is_leaf(self) -> bool {
        !matches!(self, Note::Bridge | Note::Table | Note::Set)
    }
}

#[derive(Debug)]
struct Node {
    kind: Note,
    text: String,
    children: Vec<usize>,
}

/// What a translation told.
#[derive(Debug)]
pub(crate) struct Trace {
    side_effects: SideEffects,
    /// Bits of the key that were looked at.
    pub seen: Mask<FlowKey>,
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Where the next line goes, innermost last.
    open: Vec<usize>,
    last: Option<FlowKey>,
}

impl Trace {
    fn new(side_effects: SideEffects) -> Trace {
        let (nodes, roots, open) = (Vec::new(), Vec::new(), Vec::new());
        Trace { side_effects, seen: Mask::empty(), nodes, roots, open, last: None }
    }

    /// Adds a line.
    pub fn note(&mut self, kind: Note, text: String) {
        let new = self.nodes.len();
        self.nodes.push(Node { kind, text, children: Vec::new() });
        let parent = self.open.last().and_then(|i| self.nodes.get_mut(*i));
        parent.map_or(&mut self.roots, |p| &mut p.children).push(new);
    }

    /// Adds a line, under which the next ones go.
    pub fn enter(&mut self, kind: Note, text: String) {
        let new = self.nodes.len();
        self.note(kind, text);
        self.open.push(new);
    }

    /// Adds a bridge, under which the next lines go.
    pub fn enter_bridge(&mut self, name: &str) {
        self.enter(Note::Bridge, format!("bridge(\"{name}\")"));
    }

    /// Ends what was entered last.
    pub fn leave(&mut self) {
        self.open.pop();
    }

    /// Notes what became of the frame.
    pub fn finish(&mut self, flow: &FlowKey) {
        self.last = Some(*flow);
    }

    /// The last of a list needs no indentation, as nothing comes back after it; that is how OVS prints.
    fn print(&self, out: &mut String, list: &[usize], level: usize) {
        for (n, index) in list.iter().enumerate() {
            let Some(node) = self.nodes.get(*index) else { continue };
            let more = usize::from(node.kind.is_leaf() || n + 1 < list.len());
            let indent = " ".repeat((level + more) * 4);
            let text = &node.text;
            // Writing to a string cannot fail.
            let _ = match node.kind {
                Note::Bridge => writeln!(out, "\n{indent}{text}\n{indent}{}", "-".repeat(text.len())),
                Note::Table | Note::Set | Note::Bucket | Note::Action => writeln!(out, "{indent}{text}"),
                Note::Detail => writeln!(out, "{indent} -> {text}"),
                Note::Warn => writeln!(out, "{indent} >> {text}"),
                Note::Error => writeln!(out, "{indent} >>>> {text} <<<<"),
            };
            self.print(out, &node.children, level + 2 * more);
        }
    }
}

impl translate::Walk<'_> {
    /// Whether a trace wants to hear of side effects.
    pub(crate) fn generates(&mut self) -> bool {
        self.trace().is_some_and(|t| t.side_effects == SideEffects::Generate)
    }

    /// Whether nothing will come of this: a trace that only asks.
    pub(crate) fn only_asks(&mut self) -> bool {
        self.trace().is_some_and(|t| t.side_effects == SideEffects::None)
    }
}

fn style() -> TextStyle<'static> {
    TextStyle::default().dialect(Dialect::OpenFlow11)
}

/// ` 0. ip,nw_dst=10.0.0.2, priority 100, cookie 0x1`
pub(crate) fn rule_line(rule: &Rule) -> String {
    let matching = display_match(&rule.matching(), 0x8000, style()).to_string();
    let comma = if matching.is_empty() { "" } else { ", " };
    let cookie = if rule.cookie.0 == 0 { String::new() } else { format!(", cookie {}", rule.cookie) };
    format!("{:2}. {matching}{comma}priority {}{cookie}", rule.table.0, rule.priority)
}

/// One action as ovs-ofctl prints it.
pub(crate) fn action_text(action: &OfAction) -> String {
    display_actions(std::slice::from_ref(action), style()).to_string()
}

/// What a trace found.
pub struct Traced {
    /// The text of ofproto/trace.
    pub text: String,
    /// The translation, as the datapath would have got it.
    pub translation: Translation<Effect>,
    /// Bits of the frame's key that this translation looked at. All of them are in the profile.
    pub seen: Mask<PacketKey>,
}

/// Traces a frame's key, whose IN_PORT is a datapath port. `None` if no bridge has that port.
pub fn trace(fwd: &Forwarding, key: &PacketKey, side_effects: SideEffects) -> Option<Traced> {
    let (bridge, port) = fwd.home_of_key(key)?;
    let mut flow = FlowKey::from(*key);
    flow.set_slot(slot::IN_PORT, port.0.into());
    trace_in(fwd, bridge.id(), &flow, side_effects)
}

/// Adds to a trace what happens behind the connection tracker, which is taken to answer as `next` says. Effects of what is
/// added join those of the translation. `traced` is the trace of `flow` in `bridge`.
pub fn trace_on(
    fwd: &Forwarding,
    bridge: BridgeId,
    flow: &FlowKey,
    side_effects: SideEffects,
    (traced, next): (&mut Traced, &CtNext),
) {
    let mut waiting: VecDeque<_> = resumptions(&traced.translation.program, &flow.packet).into();
    let mut passes = 0;
    while let Some(Resumption { id, mut key }) = waiting.pop_front() {
        if passes == TRACE_RESUMPTIONS_MAX {
            return;
        }
        let (state, given) = next.of(passes);
        passes += 1;
        key.set(slot::CT_STATE, state);
        let how = match given {
            true => format!("ct_state={}", state_text(state)),
            // In OVS's order.
            false => "default ct_state=trk|new (use --ct-next to customize)".to_owned(),
        };
        let line = "=".repeat(79);
        let _ =
            writeln!(traced.text, "\n{line}\nrecirc({:#x}) - resume conntrack with {how}\n{line}\n", id.0);
        let Some(more) = trace_in(fwd, bridge, &FlowKey::from(key), side_effects) else { return };
        traced.text.push_str(&more.text);
        waiting.extend(resumptions(&more.translation.program, &key));
        traced.translation.effects.extend(more.translation.effects);
    }
}

/// Traces a key as a bridge's rules see it: its IN_PORT is an OpenFlow port, of the bridge or not, and registers may be
/// set. Nothing is changed; with [`SideEffects::Generate`] the caller is to commit the translation's effects. `None` if
/// there is no such bridge.
pub fn trace_in(
    fwd: &Forwarding,
    bridge: BridgeId,
    flow: &FlowKey,
    side_effects: SideEffects,
) -> Option<Traced> {
    trace_by(fwd, bridge, (flow, None), side_effects)
}

/// The same for a frame that a controller sends out with these actions, which `ofproto::check_packet_out_actions` has
/// found to be right.
pub fn trace_out(
    fwd: &Forwarding,
    bridge: BridgeId,
    flow: &FlowKey,
    actions: Arc<[OfAction]>,
    side_effects: SideEffects,
) -> Option<Traced> {
    trace_by(fwd, bridge, (flow, Some(actions)), side_effects)
}

fn trace_by(
    fwd: &Forwarding,
    bridge: BridgeId,
    (flow, actions): (&FlowKey, Option<Arc<[OfAction]>>),
    side_effects: SideEffects,
) -> Option<Traced> {
    let bridge = fwd.bridge(bridge)?;
    let mut flow = *flow;
    for (tci, tpid) in [(slot::VLAN_TCI, slot::VLAN_TPID), (slot::VLAN_TCI_INNER, slot::VLAN_TPID_INNER)] {
        // Keys written by hand do not say which kind of tag.
        if flow.slot(tci) != 0 && flow.slot(tpid) == 0 {
            flow.set_slot(tpid, ETHERTYPE_VLAN.into());
        }
    }
    let flow = &flow;
    let mut trace = Trace::new(side_effects);
    let translation = translate::traced(fwd, bridge, (flow, actions), &mut trace);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "Flow: {}", display_key(flow, style()));
    trace.print(&mut text, &trace.roots, 0);
    let last = trace.last.unwrap_or(*flow);
    let _ = match last == *flow {
        true => writeln!(text, "\nFinal flow: unchanged"),
        false => writeln!(text, "\nFinal flow: {}", display_key(&last, style())),
    };
    let _ = writeln!(text, "Megaflow: {}", megaflow(flow, &trace.seen));
    let _ = writeln!(text, "Datapath actions: {}", display_program(&translation.program, &flow.packet));
    Some(Traced { text, translation, seen: trace.seen.packet() })
}

/// The bits looked at, as OVS would install them.
fn megaflow(flow: &FlowKey, seen: &Mask<FlowKey>) -> String {
    let mut mask = Mask(FlowKey::from(seen.packet().0));
    mask.0.set_slot(slot::RECIRC_ID, 0);
    mask.add_all(slot::IN_PORT);
    mask.add_all(slot::DL_TYPE);
    let tpids = [slot::VLAN_TPID, slot::VLAN_TPID_INNER];
    tpids.into_iter().for_each(|s| mask.0.set_slot(s, 0));
    // That there is no tag is told by the EtherType, and so is which fields a frame cannot have.
    let untagged = [slot::VLAN_TCI, slot::VLAN_TCI_INNER].into_iter().filter(|s| flow.slot(*s) == 0);
    let absent = class_of(flow.packet.dl_type()).absent().iter().copied();
    untagged.chain(absent).for_each(|s| mask.0.set_slot(s, 0));
    if matches!(flow.packet.dl_type(), 0x0800 | 0x86dd) {
        mask.add(slot::NW_FRAG, 3);
    }
    let text = display_match(&Match::new(flow, mask), 0x8000, style()).to_string();
    let recirc = format!("recirc_id={},eth", flow.slot(slot::RECIRC_ID));
    match text.split_once(',') {
        Some((mark, rest)) if mark.starts_with("pkt_mark=") => format!("{mark},{recirc},{rest}"),
        _ => format!("{recirc},{text}"),
    }
}

/// `NXM_OF_IP_DST[] is now 10.0.0.1`; a part of a field is a number.
pub(crate) fn sub_field_text(sub: SubField, value: u128) -> String {
    let row = sub.field.row();
    let ones = 1u128.checked_shl(sub.width.into()).map_or(u128::MAX, |b| b - 1);
    let name = display_subfield(sub);
    if sub.start == 0 && sub.width == row.bits() {
        format!("{name} is now {}", display_value(sub.field, value & ones, row.slot.ones(), style()))
    } else {
        format!("{name} is now {:#x}", value & ones)
    }
}
