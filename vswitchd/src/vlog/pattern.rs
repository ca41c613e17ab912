//! The form of log lines, as `vlog/set PATTERN:` of ovs-appctl(8) takes it. Pure.
//!
//! Times are UTC for `%d` too. What the manual does not name stays as it is written.

use super::Level;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// What a line tells.
pub(super) struct Line<'a> {
    /// Since the Unix epoch.
    pub time: Duration,
    pub serial: u64,
    pub module: &'a str,
    pub level: Level,
    /// Name of the thread; empty for the main one.
    pub thread: &'a str,
    pub text: &'a str,
}

/// Widest field, so that no pattern makes lines without end.
const WIDTH_MAX: usize = 256;
/// What a time without a form of its own looks like.
const TIME_DEFAULT: &str = "%Y-%m-%dT%H:%M:%S.###Z";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A form.
pub(super) struct Pattern {
    text: String,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern { text: text.to_owned() }
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A line in this form, without line feed.
    pub fn format(&self, line: &Line<'_>) -> String {
        let mut out = String::new();
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find('%') {
            let (plain, escape) = rest.split_at(at);
            out.push_str(plain);
            rest = field(escape.strip_prefix('%').unwrap_or_default(), line, &mut out);
        }
        out.push_str(rest);
        out
    }
}

/// Writes the field behind a percent sign; what comes after it.
fn field<'a>(spec: &'a str, line: &Line<'_>, out: &mut String) -> &'a str {
    let (is_left, spec) = spec.strip_prefix('-').map_or((false, spec), |rest| (true, rest));
    let (pad, spec) = spec.strip_prefix('0').map_or((' ', spec), |rest| ('0', rest));
    let digits = spec.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, spec) = spec.split_at(digits);
    let width = digits.parse().unwrap_or(0).min(WIDTH_MAX);
    let mut chars = spec.chars();
    let Some(kind) = chars.next() else { return "" };
    let (argument, rest) = match chars.as_str().strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        Some((argument, rest)) => (Some(argument), rest),
        None => (None, chars.as_str()),
    };
    let value = match kind {
        'A' => "ovs-vswitchd".to_owned(),
        // syslog's priorities (RFC 5424 section 6.2.1) of the facility "daemon".
        'B' => (3 * 8 + priority(line.level)).to_string(),
        'c' => line.module.to_owned(),
        'd' | 'D' => time_text(argument.unwrap_or(TIME_DEFAULT), line.time),
        'E' => sys::process::hostname(),
        'm' => line.text.to_owned(),
        'N' => line.serial.to_string(),
        'n' => "\n".to_owned(),
        'p' => line.level.name().to_owned(),
        'P' => std::process::id().to_string(),
        't' if line.thread.is_empty() => argument.unwrap_or("main").to_owned(),
        't' => line.thread.to_owned(),
        'T' if line.thread.is_empty() => String::new(),
        'T' => format!("({})", line.thread),
        '%' => "%".to_owned(),
        other => format!("%{other}"),
    };
    let missing = width.saturating_sub(value.chars().count());
    let padding = std::iter::repeat_n(if is_left { ' ' } else { pad }, missing);
    if is_left {
        out.push_str(&value);
        out.extend(padding);
    } else {
        out.extend(padding);
        out.push_str(&value);
    }
    rest
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Off | Level::Emer => 1,
        Level::Err => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Dbg => 7,
    }
}

/// A time in a form of strftime(3), where `#` stands for digits of the fraction.
fn time_text(form: &str, time: Duration) -> String {
    let iso = humantime::format_rfc3339_nanos(SystemTime::UNIX_EPOCH + time).to_string();
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    let mut fraction = part(20, 29).chars();
    let mut out = String::new();
    let mut chars = form.chars();
    while let Some(c) = chars.next() {
        if c == '#' {
            out.extend(fraction.next());
            continue;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = match chars.next() {
            Some('Y') => write!(out, "{}", part(0, 4)),
            Some('y') => write!(out, "{}", part(2, 4)),
            Some('m') => write!(out, "{}", part(5, 7)),
            Some('d') => write!(out, "{}", part(8, 10)),
            Some('e') => write!(out, "{:>2}", number(part(8, 10))),
            Some('b' | 'h') => {
                write!(out, "{}", MONTHS.get(number(part(5, 7)).wrapping_sub(1)).copied().unwrap_or_default())
            }
            Some('H') => write!(out, "{}", part(11, 13)),
            Some('M') => write!(out, "{}", part(14, 16)),
            Some('S') => write!(out, "{}", part(17, 19)),
            Some('T') => write!(out, "{}", part(11, 19)),
            Some('F') => write!(out, "{}", part(0, 10)),
            Some('s') => write!(out, "{}", time.as_secs()),
            Some('z') => write!(out, "+0000"),
            Some('Z') => write!(out, "UTC"),
            Some('%') => write!(out, "%"),
            Some(other) => write!(out, "%{other}"),
            None => write!(out, "%"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(pattern: &str, thread: &str) -> String {
        let time = Duration::from_micros(1_518_563_688_042_507);
        Pattern::new(pattern).format(&Line {
            time,
            serial: 7,
            module: "bridge",
            level: Level::Warn,
            thread,
            text: "100% sure",
        })
    }

    /// The patterns of ovs-appctl(8) and of Debian's 3.1.0, and what the manual says they come to.
    #[test]
    fn patterns_of_the_manual() {
        for (pattern, expected) in [
            (
                "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m",
                "2018-02-13T23:14:48.042Z|00007|bridge|WARN|100% sure",
            ),
            ("%D|%m", "2018-02-13T23:14:48.042Z|100% sure"),
            ("<%B> %D{%h %e %T} %A:", "<28> Feb 13 23:14:48 ovs-vswitchd:"),
            ("%-10c|%10c|%3c|%010N|%-05N|", "bridge    |    bridge|bridge|0000000007|7    |"),
            ("%%%n%t%T %q %", "%\nmain %q "),
            ("%d{%s %y%F ### %}", "1518563688 182018-02-13 042 %"),
            ("no fields", "no fields"),
            ("%99999c", &format!("{}bridge", " ".repeat(250))),
        ] {
            assert_eq!(formatted(pattern, ""), expected, "{pattern}");
        }
        assert_eq!(formatted("%c%T|%t", "worker-1"), "bridge(worker-1)|worker-1");
        assert_eq!(formatted("%P", ""), std::process::id().to_string());
    }
}
