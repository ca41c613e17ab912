//! Rules with their statistics, a line each: dump-flows and bridge/dump-flows.

use super::action_print::display_actions;
use super::match_print::display_match;
use super::names::TextStyle;
use crate::action::{OfAction, TableId};
use crate::key::Match;
use crate::rule::{Cookie, RuleFlags};
use std::fmt;
use std::time::Duration;

/// Which program's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowLineForm {
    /// ovs-ofctl's, from a reply to a request for rules.
    Dump,
    /// ovs-ofctl's with `--no-stats`: nothing that changes while time passes, and no zeros.
    NoStats,
    /// ovs-appctl's in bridge/dump-flows.
    Bridge,
}

/// What is printed of a rule.
#[derive(Clone, Copy, Debug)]
pub struct FlowLine<'a> {
    /// Cookie.
    pub cookie: Cookie,
    /// Age.
    pub duration: Duration,
    /// Table.
    pub table: TableId,
    /// Frames so far, if known.
    pub packets: Option<u64>,
    /// Bytes so far, if known.
    pub bytes: Option<u64>,
    /// Seconds; 0 for none.
    pub idle_timeout: u16,
    /// Seconds; 0 for none.
    pub hard_timeout: u16,
    /// Flags, which OpenFlow 1.0 does not tell.
    pub flags: RuleFlags,
    /// Importance, which is told since OpenFlow 1.4.
    pub importance: u16,
    /// Seconds since the last frame, if the reply tells.
    pub idle_age: Option<u32>,
    /// Seconds since the last change, if the reply tells; printed if it is not the duration.
    pub hard_age: Option<u32>,
    /// Priority.
    pub priority: u16,
    /// Conditions.
    pub matching: &'a Match,
    /// Actions.
    pub actions: &'a [OfAction],
}

impl<'a> FlowLine<'a> {
    /// The line, without line break. Lines of dumps begin with a space.
    pub fn display(self, form: FlowLineForm, style: TextStyle<'a>) -> impl fmt::Display + 'a {
        DisplayFlowLine { line: self, form, style }
    }

    fn write_stats(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packets) = self.packets {
            write!(f, "n_packets={packets}, ")?;
        }
        if let Some(bytes) = self.bytes {
            write!(f, "n_bytes={bytes}, ")?;
        }
        Ok(())
    }

    fn write_dump(&self, f: &mut fmt::Formatter<'_>, stats: bool) -> fmt::Result {
        f.write_str(" ")?;
        if stats || self.cookie.0 != 0 {
            write!(f, "cookie={:#x}, ", self.cookie.0)?;
        }
        if stats {
            write!(f, "duration={}.{:03}s, ", self.duration.as_secs(), self.duration.subsec_millis())?;
        }
        if stats || self.table.0 != 0 {
            write!(f, "table={}, ", self.table.0)?;
        }
        if stats {
            self.write_stats(f)?;
        }
        if self.idle_timeout != 0 {
            write!(f, "idle_timeout={}, ", self.idle_timeout)?;
        }
        if self.hard_timeout != 0 {
            write!(f, "hard_timeout={}, ", self.hard_timeout)?;
        }
        write_flags(f, self.flags)?;
        if self.importance != 0 {
            write!(f, "importance={}, ", self.importance)?;
        }
        if let Some(age) = self.idle_age.filter(|_| stats) {
            write!(f, "idle_age={age}, ")?;
        }
        let hard_age = self.hard_age.filter(|age| stats && u64::from(*age) != self.duration.as_secs());
        if let Some(age) = hard_age {
            write!(f, "hard_age={age}, ")?;
        }
        Ok(())
    }
}

/// Flags by name, each followed by a space.
fn write_flags(f: &mut fmt::Formatter<'_>, flags: RuleFlags) -> fmt::Result {
    let names = [
        (RuleFlags::SEND_FLOW_REM, "send_flow_rem "),
        (RuleFlags::CHECK_OVERLAP, "check_overlap "),
        (RuleFlags::RESET_COUNTS, "reset_counts "),
        (RuleFlags::NO_PKT_COUNTS, "no_packet_counts "),
        (RuleFlags::NO_BYT_COUNTS, "no_byte_counts "),
    ];
    names.iter().filter(|(flag, _)| flags.has(*flag)).try_for_each(|(_, name)| f.write_str(name))
}

struct DisplayFlowLine<'a> {
    line: FlowLine<'a>,
    form: FlowLineForm,
    style: TextStyle<'a>,
}

impl fmt::Display for DisplayFlowLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = &self.line;
        let matching = display_match(line.matching, line.priority, self.style);
        let actions = display_actions(line.actions, self.style);
        if self.form == FlowLineForm::Bridge {
            if line.table.0 != 0 {
                write!(f, "table_id={}, ", line.table.0)?;
            }
            write!(f, "duration={}s, ", line.duration.as_secs())?;
            line.write_stats(f)?;
            return write!(f, "{matching},actions={actions}");
        }
        line.write_dump(f, self.form == FlowLineForm::Dump)?;
        // What precedes ends with a space already, which stands alone where there is nothing to match.
        let matching = matching.to_string();
        let space = if matching.is_empty() { "" } else { " " };
        write!(f, "{matching}{space}actions={actions}")
    }
}
