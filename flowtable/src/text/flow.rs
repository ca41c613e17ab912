//! Flows: a match with everything that flow_mods and requests for rules say besides.

use super::action_parse::actions;
use super::check::actions_fit;
use super::error::{Parsed, TextError, TextFault, fault};
use super::match_parse::{MatchBuilder, normalize, unknown_keyword};
use super::match_print::{PRIORITY_DEFAULT, display_match};
use super::names::{PortNames, TextStyle};
use super::number::{number16, number32, number64_masked, parse_port, table};
use super::token::{Word, Words};
use crate::action::{OfAction, TableId};
use crate::flow_mod::{FlowMod, FlowModCommand, OnMissing, RuleFilter};
use crate::key::Match;
use crate::port::OfPort;
use crate::rule::{Cookie, RuleFlags};
use std::sync::Arc;

/// What a flow is written for; it decides which words are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowUsage {
    /// A flow_mod.
    Mod(FlowModCommand),
    /// A request for rules: dump-flows, dump-aggregate.
    Dump,
}

impl FlowUsage {
    fn has_actions(self) -> bool {
        matches!(
            self,
            FlowUsage::Mod(FlowModCommand::Add | FlowModCommand::Modify | FlowModCommand::ModifyStrict)
        )
    }

    fn has_priority(self) -> bool {
        self.has_actions() || self == FlowUsage::Mod(FlowModCommand::DeleteStrict)
    }
}

/// A flow as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParsedFlow {
    /// Which table; none if the flow does not say.
    pub table: Option<TableId>,
    /// Priority, 32768 if the flow does not say.
    pub priority: u16,
    /// Rules whose cookies have this value in the bits of the mask, in everything but additions.
    pub cookie: Cookie,
    /// See `cookie`; 0 for all rules.
    pub cookie_mask: u64,
    /// Cookie to give to the rules.
    pub new_cookie: Option<Cookie>,
    /// Seconds without frames until the rule goes; 0 for never.
    pub idle_timeout: u16,
    /// Seconds until the rule goes; 0 for never.
    pub hard_timeout: u16,
    /// Importance (OpenFlow 1.4).
    pub importance: u16,
    /// Flags.
    pub flags: RuleFlags,
    /// Rules with an output to this port; [`OfPort::ANY`] for all.
    pub out_port: OfPort,
    /// Rules with this group; none for all.
    pub out_group: Option<u32>,
    /// The conditions, normalised.
    pub matching: Match,
    /// The conditions as written, if normalising changed them.
    pub written: Option<Box<Match>>,
    /// What to do.
    pub actions: Vec<OfAction>,
}

impl ParsedFlow {
    /// What to tell the user if conditions were left out because frames of this match do not have the field.
    pub fn notice(&self) -> Option<String> {
        let text = |m: &Match| display_match(m, PRIORITY_DEFAULT, TextStyle::default()).to_string();
        let written = text(self.written.as_deref()?);
        let left = text(&self.matching);
        Some(format!("normalization changed ofp_match, details:\n pre: {written}\npost: {left}"))
    }

    /// The flow_mod. `on_missing` is what the version spoken makes of a modify that finds no rule.
    pub fn flow_mod(&self, command: FlowModCommand, on_missing: OnMissing) -> FlowMod {
        let all_tables = matches!(command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
        FlowMod {
            priority: self.priority,
            cookie: self.cookie,
            cookie_mask: self.cookie_mask,
            new_cookie: self.new_cookie,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            importance: self.importance,
            flags: self.flags,
            out_port: self.out_port,
            out_group: self.out_group,
            on_missing,
            actions: Arc::from(self.actions.as_slice()),
            ..FlowMod::new(
                command,
                self.table.unwrap_or(if all_tables { TableId::ALL } else { TableId(0) }),
                self.matching,
            )
        }
    }

    /// The rules that a request for rules means.
    pub fn filter(&self) -> RuleFilter {
        RuleFilter {
            cookie: self.cookie,
            cookie_mask: self.cookie_mask,
            matching: self.matching,
            out_port: self.out_port,
            out_group: self.out_group,
            ..RuleFilter::all(self.table.unwrap_or(TableId::ALL))
        }
    }
}

/// Reads a flow.
///
/// # Errors
/// If a word has no meaning in this usage, a value is none, or the actions do not fit the match.
pub fn parse_flow(text: &str, usage: FlowUsage, names: &dyn PortNames) -> Result<ParsedFlow, TextError> {
    flow(text, usage, names).map_err(|f| f.within(text))
}

/// A line of a file of flows: an optional `add`, `modify`, `modify_strict`, `delete` or `delete_strict`, which else is
/// `default`, and a flow. None for empty lines and comments, which begin with `#`.
///
/// # Errors
/// As [`parse_flow`].
pub fn parse_flow_line(
    text: &str,
    default: FlowModCommand,
    names: &dyn PortNames,
) -> Result<Option<(FlowModCommand, ParsedFlow)>, TextError> {
    const COMMANDS: [(&str, FlowModCommand); 5] = [
        ("add", FlowModCommand::Add),
        ("modify", FlowModCommand::Modify),
        ("modify_strict", FlowModCommand::ModifyStrict),
        ("delete", FlowModCommand::Delete),
        ("delete_strict", FlowModCommand::DeleteStrict),
    ];
    let line = text.split('#').next().unwrap_or("").trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (first, rest) =
        line.split_at_checked(line.find([' ', '\t']).unwrap_or(line.len())).unwrap_or((line, ""));
    let (command, flow_text) = match COMMANDS.iter().find(|(name, _)| *name == first) {
        Some((_, command)) => (*command, rest),
        None => (default, line),
    };
    flow(flow_text, FlowUsage::Mod(command), names).map(|f| Some((command, f))).map_err(|f| f.within(text))
}

fn flow(text: &str, usage: FlowUsage, names: &dyn PortNames) -> Parsed<ParsedFlow> {
    let (conditions, action_text) = if usage.has_actions() {
        let (conditions, actions) = split_actions(text).ok_or_else(|| fault(text, TextFault::NoActions))?;
        (conditions, Some(actions))
    } else {
        (text, None)
    };
    let mut reader = FlowReader { usage, names, flow: empty_flow(), conditions: MatchBuilder::default() };
    for word in Words::new(conditions) {
        reader.word(word)?;
    }
    let FlowReader { mut flow, conditions: builder, .. } = reader;
    let written = builder.finish(conditions)?;
    flow.matching = normalize(&written);
    flow.written = (flow.matching != written).then(|| Box::new(written));
    if let Some(text) = action_text {
        flow.actions = actions(text, names)?;
        actions_fit(&flow.matching, &flow.actions, flow.table).map_err(|kind| fault(text, kind))?;
    }
    Ok(flow)
}

/// Splits at `action=` or `actions=`.
fn split_actions(text: &str) -> Option<(&str, &str)> {
    let at = text.find("action")?;
    let (conditions, rest) = text.split_at_checked(at)?;
    let (_, actions) = rest.split_once('=')?;
    Some((conditions, actions))
}

fn empty_flow() -> ParsedFlow {
    ParsedFlow {
        table: None,
        priority: PRIORITY_DEFAULT,
        cookie: Cookie(0),
        cookie_mask: 0,
        new_cookie: None,
        idle_timeout: 0,
        hard_timeout: 0,
        importance: 0,
        flags: RuleFlags::NONE,
        out_port: OfPort::ANY,
        out_group: None,
        matching: Match::any(),
        written: None,
        actions: Vec::new(),
    }
}

struct FlowReader<'n> {
    usage: FlowUsage,
    names: &'n dyn PortNames,
    flow: ParsedFlow,
    conditions: MatchBuilder,
}

impl FlowReader<'_> {
    fn word(&mut self, word: Word<'_>) -> Parsed<()> {
        const FLAGS: [(&str, RuleFlags); 5] = [
            ("send_flow_rem", RuleFlags::SEND_FLOW_REM),
            ("check_overlap", RuleFlags::CHECK_OVERLAP),
            ("reset_counts", RuleFlags::RESET_COUNTS),
            ("no_packet_counts", RuleFlags::NO_PKT_COUNTS),
            ("no_byte_counts", RuleFlags::NO_BYT_COUNTS),
        ];
        if self.usage.has_actions()
            && let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == word.key)
        {
            self.flow.flags = RuleFlags(self.flow.flags.0 | flag.0);
            return Ok(());
        }
        if self.setting(word)? || self.conditions.word(word, self.names)? {
            return Ok(());
        }
        Err(unknown_keyword(word))
    }

    /// Takes a word that is not part of the match; false if it is none.
    fn setting(&mut self, word: Word<'_>) -> Parsed<bool> {
        let (v, usage) = (word.value, self.usage);
        let adds = usage == FlowUsage::Mod(FlowModCommand::Add);
        let known = match word.key {
            "table" | "cookie" | "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => true,
            "priority" => usage.has_priority(),
            "idle_timeout" | "hard_timeout" => usage.has_actions(),
            "importance" => adds,
            "out_port" | "out_group" => !usage.has_actions(),
            _ => false,
        };
        if !known {
            return Ok(false);
        }
        if v.is_empty() {
            return Err(fault(word.key, TextFault::MissingValue(word.key.to_owned())));
        }
        match word.key {
            "table" => self.flow.table = Some(table(v)?),
            "priority" => self.flow.priority = number16(v, "priority")?,
            "idle_timeout" => self.flow.idle_timeout = number16(v, "idle_timeout")?,
            "hard_timeout" => self.flow.hard_timeout = number16(v, "hard_timeout")?,
            "importance" => self.flow.importance = number16(v, "importance")?,
            "cookie" => self.cookie(v)?,
            "out_port" => {
                let port = parse_port(v, self.names);
                self.flow.out_port = port.ok_or_else(|| fault(v, TextFault::NotAPort(v.to_owned())))?;
            }
            "out_group" => self.flow.out_group = Some(number32(v)?),
            // Statistics in text that was printed before.
            _ => {}
        }
        Ok(true)
    }

    fn cookie(&mut self, v: &str) -> Parsed<()> {
        let adds = self.usage == FlowUsage::Mod(FlowModCommand::Add);
        match number64_masked(v)? {
            (_, Some(_)) if adds => return Err(fault(v, TextFault::CookieMaskInAdd)),
            (value, Some(mask)) => {
                self.flow.cookie = Cookie(value & mask);
                self.flow.cookie_mask = mask;
            }
            (_, None) if !self.usage.has_actions() => return Err(fault(v, TextFault::CookieWithoutMask)),
            (value, None) => self.flow.new_cookie = Some(Cookie(value)),
        }
        Ok(())
    }
}
