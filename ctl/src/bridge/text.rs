//! Text of flows from the user: where it is wrong is shown under the text.

use std::fmt;

use flowtable::text::TextError;

/// Text that is no flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadText {
    /// What it should have been, or where it stands: "flow", "rules.txt, line 3".
    pub what: String,
    /// The text.
    pub text: String,
    /// What is wrong, and where.
    pub error: TextError,
}

impl BadText {
    /// Puts an error and its text together.
    pub fn new(what: impl Into<String>, text: &str, error: TextError) -> BadText {
        BadText { what: what.into(), text: text.trim_end().to_owned(), error }
    }

    /// The word at fault: from where the error points to the next separator.
    pub fn word(&self) -> &str {
        let rest = self.text.get(self.error.at..).unwrap_or_default();
        let end = rest.find(|c: char| c == ',' || c == ')' || c.is_whitespace()).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Where the word begins, in bytes.
    pub fn at(&self) -> usize {
        self.error.at
    }
}

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bad {}: {}", self.what, self.error)?;
        let before = self.text.get(..self.error.at).unwrap_or_default();
        let (blanks, marks) = (before.chars().count(), self.word().chars().count().max(1));
        // Tabs and the like would move the marks.
        let line: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "  {line}\n  {}{}", " ".repeat(blanks), "^".repeat(marks))
    }
}

impl std::error::Error for BadText {}

#[cfg(test)]
mod tests {
    use super::*;
    use flowtable::FlowModCommand;
    use flowtable::text::{FlowUsage, NoPortNames, parse_flow};

    fn shown(text: &str) -> String {
        let error = parse_flow(text, FlowUsage::Mod(FlowModCommand::Add), &NoPortNames).unwrap_err();
        BadText::new("flow", text, error).to_string()
    }

    #[test]
    fn marks_stand_under_the_word_at_fault() {
        let text = shown("tcp,nw_dst=10.0.0.300,actions=drop");
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("bad flow: 10.0.0.300"), "{text}");
        let (line, marks) = (lines.next().unwrap(), lines.next().unwrap());
        let marked: String =
            line.chars().zip(marks.chars()).filter(|(_, mark)| *mark == '^').map(|(c, _)| c).collect();
        assert!(marked.contains("10.0.0.300"), "{text}");
    }

    #[test]
    fn text_without_a_word_has_a_mark_too() {
        let text = shown("");
        assert!(text.ends_with("  ^"), "{text:?}");
    }
}
