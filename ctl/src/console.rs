//! What the user sees: answers as text or JSON, errors, colours.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use crate::args::When;
use crate::bridge::BadText;

/// Colours, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint {
    on: bool,
}

/// How a piece of text looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Look {
    /// As it is.
    #[default]
    Plain,
    /// Names that matter.
    Bold,
    /// What matters less.
    Dim,
    /// Wrong.
    Red,
    /// Right.
    Green,
    /// Doubtful.
    Yellow,
    /// Another kind of name.
    Cyan,
}

impl Paint {
    /// No colours.
    pub const NONE: Paint = Paint { on: false };

    /// Whether to colour what goes to `stream`; `no_color` is whether the environment has a NO_COLOR that is not empty
    /// (no-color.org).
    pub fn choose(when: When, stream: &impl IsTerminal, no_color: bool) -> Paint {
        let on = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => stream.is_terminal() && !no_color,
        };
        Paint { on }
    }

    /// Text with a look.
    pub fn text(self, look: Look, text: &str) -> String {
        let code = match look {
            _ if !self.on => return text.to_owned(),
            Look::Plain => return text.to_owned(),
            Look::Bold => "1",
            Look::Dim => "2",
            Look::Red => "31",
            Look::Green => "32",
            Look::Yellow => "33",
            Look::Cyan => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a command says in the end.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// For people; with a newline at the end of each line.
    pub text: String,
    /// For programs.
    pub json: Value,
}

impl Answer {
    /// Nothing to say but that it is done.
    pub fn done(json: Value) -> Answer {
        Answer { text: String::new(), json }
    }

    /// The same text for both.
    pub fn lines(text: String) -> Answer {
        let lines: Vec<&str> = text.lines().collect();
        Answer { json: json!(lines), text }
    }
}

/// Where answers and errors go.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    /// Whether JSON is wanted.
    pub json: bool,
    /// Colours of standard output.
    pub paint: Paint,
    /// Colours of standard error.
    pub error_paint: Paint,
}

impl Console {
    /// Prints an answer.
    ///
    /// # Errors
    /// When standard output takes it not; see [`is_broken_pipe`].
    pub fn print(&self, answer: &Answer) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", answer.json)?;
        } else {
            out.write_all(answer.text.as_bytes())?;
            if !answer.text.is_empty() && !answer.text.ends_with('\n') {
                out.write_all(b"\n")?;
            }
        }
        out.flush()
    }

    /// Prints an error. There is nobody left to tell when that fails.
    pub fn complain(&self, error: &anyhow::Error) {
        let mut out = io::stderr().lock();
        let _ = if self.json {
            writeln!(out, "{}", error_json(error))
        } else {
            writeln!(out, "{} {}", self.error_paint.text(Look::Red, "tapctl:"), one_line(error))
        };
    }
}

/// The error with its causes, the outermost first. Only text that shows a place in a flow has more than one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

/// The error as an object; one about the text of a flow says where in it.
fn error_json(error: &anyhow::Error) -> Value {
    match error.downcast_ref::<BadText>() {
        Some(bad) => json!({
            "error": format!("bad {}: {}", bad.what, bad.error), "text": bad.text, "at": bad.at(), "word": bad.word(),
        }),
        None => json!({ "error": one_line(error) }),
    }
}

/// Whether the reader of our output has gone, which is its right.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_only_where_wanted() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Paint::choose(When::Auto, &file, false), Paint::NONE);
        assert_eq!(Paint::choose(When::Never, &file, false), Paint::NONE);
        let paint = Paint::choose(When::Always, &file, true);
        assert_eq!(paint.text(Look::Red, "x"), "\x1b[31mx\x1b[0m");
        assert_eq!(paint.text(Look::Plain, "x"), "x");
        assert_eq!(Paint::NONE.text(Look::Red, "x"), "x");
    }
}
