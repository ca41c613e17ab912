//! Logging as Open vSwitch users know it: modules, destinations and levels set at run time by `vlog/set`.
//!
//! Code logs through `tracing` with the module's name as target; this is the subscriber. A line has OVS's form:
//! time, a serial number, module, level, text. There is no syslog: its levels are kept and shown, and nothing is sent.

mod pattern;

use pattern::{Line, Pattern};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

/// Modules that exist from the start, so that `vlog/list` and `vlog/set` know them before their first line.
const MODULES: &[&str] = &[
    "bridge",
    "coverage",
    "daemon_unix",
    "dpif",
    "dpif_netdev",
    "fail_open",
    "jsonrpc",
    "memory",
    "netdev",
    "netlink",
    "ofproto",
    "ofproto_dpif",
    "ofproto_dpif_upcall",
    "ovsdb",
    "ovsdb_server",
    "poll_loop",
    "rconn",
    "reconnect",
    "stream",
    "timeval",
    "tunnel",
    "unixctl",
    "vconn",
    "vlog",
    "vswitchd",
];

/// Level of a line, or what a destination shows at most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Nothing.
    Off,
    /// The process is about to die.
    Emer,
    /// A failure that needs attention.
    Err,
    /// A failure that is survived.
    Warn,
    /// Normal events.
    Info,
    /// For debugging.
    Dbg,
}

const LEVELS: [(Level, &str); 6] = [
    (Level::Off, "OFF"),
    (Level::Emer, "EMER"),
    (Level::Err, "ERR"),
    (Level::Warn, "WARN"),
    (Level::Info, "INFO"),
    (Level::Dbg, "DBG"),
];

impl Level {
    fn name(self) -> &'static str {
        LEVELS.iter().find(|(l, _)| *l == self).map_or("OFF", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Level> {
        LEVELS.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(l, _)| *l)
    }

    fn of(metadata: &Metadata<'_>) -> Level {
        match *metadata.level() {
            tracing::Level::ERROR => Level::Err,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            _ => Level::Dbg,
        }
    }
}

/// Where lines go. The order is that of `vlog/list`'s columns.
const DESTINATIONS: [&str; 3] = ["console", "syslog", "file"];
const CONSOLE: usize = 0;
const SYSLOG: usize = 1;
const FILE: usize = 2;
/// The forms of lines unless they are set: OVS's, with milliseconds on the console too.
const PATTERNS: [&str; 3] = [
    "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m",
    "ovs|%05N|%c%T|%p|%m",
    "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m",
];
/// What would stand before lines to syslog (RFC 3164).
const SYSLOG_PREFIX: &str = "<%B> %D{%h %e %T} %E %A:";
/// What `FACILITY:` takes (ovs-appctl(8)).
const FACILITIES: &str = "kern user mail daemon auth syslog lpr news uucp clock ftp ntp audit alert clock2 local0 local1 local2 \
                          local3 local4 local5 local6 local7";
const DEFAULT: [Level; 3] = [Level::Info, Level::Info, Level::Info];

struct State {
    levels: BTreeMap<String, [Level; 3]>,
    patterns: [Pattern; 3],
    path: Option<PathBuf>,
    file: Option<File>,
    console: bool,
}

impl State {
    fn line(&self, destination: usize, line: &Line<'_>) -> String {
        let mut text =
            self.patterns.get(destination).map_or_else(String::new, |pattern| pattern.format(line));
        text.push('\n');
        text
    }
}

/// The subscriber and the handle through which it is changed; clones are the same log.
#[derive(Clone)]
pub struct Vlog {
    state: Arc<Mutex<State>>,
    serial: Arc<AtomicU64>,
    wall: fn() -> Duration,
}

impl Vlog {
    /// A log to standard error. `wall` tells the time since the Unix epoch.
    pub fn new(wall: fn() -> Duration) -> Vlog {
        let levels = MODULES.iter().map(|m| ((*m).to_owned(), DEFAULT)).collect();
        let patterns = PATTERNS.map(Pattern::new);
        let state = State { levels, patterns, path: None, file: None, console: true };
        Vlog { state: Arc::new(Mutex::new(state)), serial: Arc::new(AtomicU64::new(0)), wall }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to log to a file too.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn set_file(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let mut state = self.state();
        state.path = Some(path.to_owned());
        state.file = Some(file);
        Ok(())
    }

    /// `vlog/reopen`: opens the file anew, after it was rotated.
    ///
    /// # Errors
    /// Text for the user: there is no file, or it cannot be opened.
    pub fn reopen(&self) -> Result<(), String> {
        let path = self.state().path.clone().ok_or("Logging to file not configured")?;
        self.set_file(&path).map_err(|e| format!("{}: open failed: {e}", path.display()))
    }

    /// `vlog/close`: closes the file until it is reopened.
    pub fn close(&self) {
        self.state().file = None;
    }

    /// Stops writing to standard error, when the process has gone into the background.
    pub fn detach_console(&self) {
        self.state().console = false;
    }

    /// Applies one specification: module, destination and level in any order, separated by space, comma or colon; what
    /// is not named means all of its kind.
    ///
    /// # Errors
    /// The word that is none of the three.
    pub fn set(&self, spec: &str) -> Result<(), String> {
        let (first, rest) = spec.split_once([':', ' ', ',']).unwrap_or((spec, ""));
        if first.eq_ignore_ascii_case("pattern") {
            return self.set_pattern(rest);
        }
        if first.eq_ignore_ascii_case("facility") {
            // It would be that of lines to syslog.
            let is_known = FACILITIES.split(' ').any(|known| known == rest);
            return is_known.then_some(()).ok_or_else(|| "invalid facility".to_owned());
        }
        let mut state = self.state();
        let (mut module, mut destination, mut level) = (None, None, None);
        for word in spec.split([' ', ',', ':']).filter(|w| !w.is_empty()) {
            if word.eq_ignore_ascii_case("ANY") {
                continue;
            }
            // OVS also accepts dashes for the underscores in module names.
            let as_module = word.to_ascii_lowercase().replace('-', "_");
            if let Some(l) = Level::from_name(word) {
                level = Some(l);
            } else if let Some(d) = DESTINATIONS.iter().position(|d| d.eq_ignore_ascii_case(word)) {
                destination = Some(d);
            } else if state.levels.contains_key(&as_module) {
                module = Some(as_module);
            } else {
                return Err(format!("no destination, level, or module \"{word}\""));
            }
        }
        let level = level.unwrap_or(Level::Dbg);
        for (name, levels) in &mut state.levels {
            if module.as_ref().is_none_or(|m| m == name) {
                for (d, current) in levels.iter_mut().enumerate() {
                    if destination.is_none_or(|wanted| wanted == d) {
                        *current = level;
                    }
                }
            }
        }
        Ok(())
    }

    /// `DESTINATION:PATTERN`: the form of lines to a destination, or with `ANY` to all.
    fn set_pattern(&self, spec: &str) -> Result<(), String> {
        let (destination, pattern) = spec.split_once(':').unwrap_or((spec, ""));
        if destination.is_empty() {
            return Err("missing destination".to_owned());
        }
        let is_meant =
            |name: &str| name.eq_ignore_ascii_case(destination) || destination.eq_ignore_ascii_case("any");
        if !DESTINATIONS.iter().any(|name| is_meant(name)) {
            return Err(format!("unknown destination \"{destination}\""));
        }
        let mut state = self.state();
        for (name, current) in DESTINATIONS.iter().zip(&mut state.patterns) {
            if is_meant(name) {
                *current = Pattern::new(pattern);
            }
        }
        Ok(())
    }

    /// The table that `vlog/list-pattern` prints.
    pub fn list_patterns(&self) -> String {
        let mut out = String::from(
            "         prefix                            format\n         ------                            ------\n",
        );
        let state = self.state();
        // In OVS's order.
        for (name, prefix, at) in
            [("SYSLOG", SYSLOG_PREFIX, SYSLOG), ("CONSOLE", "none", CONSOLE), ("FILE", "none", FILE)]
        {
            let pattern = state.patterns.get(at).map_or("", Pattern::text);
            let _ = writeln!(out, "{name:<7}  {prefix:<32}  {pattern}");
        }
        out
    }

    /// `vlog/enable-rate-limit` and its opposite: modules must be known. No line is ever held back.
    ///
    /// # Errors
    /// One is not.
    pub fn check_modules(&self, modules: &[String]) -> Result<String, String> {
        let state = self.state();
        let known = |name: &String| {
            name.eq_ignore_ascii_case("any")
                || state.levels.contains_key(&name.to_ascii_lowercase().replace('-', "_"))
        };
        if modules.iter().all(known) { Ok(String::new()) } else { Err("unknown module".to_owned()) }
    }

    /// The table that `vlog/list` prints.
    pub fn list(&self) -> String {
        let mut out = String::from(
            "                 console    syslog    file\n                 -------    ------    ------\n",
        );
        for (name, [console, syslog, file]) in &self.state().levels {
            let _ = writeln!(
                out,
                "{name:<16}  {:>4}       {:>4}       {:>4}",
                console.name(),
                syslog.name(),
                file.name()
            );
        }
        out
    }

    fn shows(&self, module: &str, level: Level) -> [bool; 3] {
        self.state().levels.get(module).unwrap_or(&DEFAULT).map(|most| level <= most)
    }

    fn write(&self, module: &str, level: Level, text: &str) {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let thread = std::thread::current();
        let thread = thread.name().filter(|name| *name != "main").unwrap_or_default();
        let line = Line { time: (self.wall)(), serial, module, level, thread, text };
        let shows = self.shows(module, level);
        let mut state = self.state();
        if shows[CONSOLE] && state.console {
            // Nobody is left to tell that standard error or the log file failed.
            let _ = io::stderr().write_all(state.line(CONSOLE, &line).as_bytes());
        }
        if shows[FILE] && state.file.is_some() {
            let line = state.line(FILE, &line);
            if let Some(file) = &mut state.file {
                let _ = file.write_all(line.as_bytes());
            }
        }
    }
}

/// The module is a target without path; a library's own target is shown by its crate's name.
fn module_of<'a>(metadata: &'a Metadata<'_>) -> &'a str {
    metadata.target().split("::").next().unwrap_or_default()
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

impl Subscriber for Vlog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.shows(module_of(metadata), Level::of(metadata)).contains(&true)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.write(module_of(event.metadata()), Level::of(event.metadata()), &text.0);
    }

    // Levels change at run time, so no call site's answer may be remembered.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    // There are no spans: `enabled` refuses them.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vlog {
        Vlog::new(|| Duration::from_millis(1_518_563_688_042))
    }

    fn row(log: &Vlog, module: &str) -> Vec<String> {
        let list = log.list();
        let line = list.lines().find(|l| l.starts_with(&format!("{module} "))).expect("a row");
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn specifications_as_in_vlog_set() {
        let log = log();
        log.set("bridge:console:err").expect("ok");
        assert_eq!(row(&log, "bridge"), ["ERR", "INFO", "INFO"]);
        log.set("file,dbg").expect("ok");
        assert_eq!(row(&log, "bridge"), ["ERR", "INFO", "DBG"]);
        assert_eq!(row(&log, "ofproto"), ["INFO", "INFO", "DBG"]);
        log.set("ofproto-dpif").expect("dashes");
        assert_eq!(row(&log, "ofproto_dpif"), ["DBG", "DBG", "DBG"]);
        log.set("ANY:ANY:off").expect("ok");
        assert_eq!(row(&log, "vconn"), ["OFF", "OFF", "OFF"]);
        assert_eq!(log.set("bridge:loud").unwrap_err(), "no destination, level, or module \"loud\"");
    }

    fn targets(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                targets(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source");
            let quoted = text.split("target: \"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(quoted.map(str::to_owned));
        }
    }

    /// Otherwise nobody could set its level.
    #[test]
    fn every_module_that_logs_is_listed() {
        let mut found = Vec::new();
        targets(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found.iter().filter(|t| t.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
            assert!(MODULES.contains(&target.as_str()), "{target}");
        }
    }

    #[test]
    fn patterns_are_listed_and_set() {
        let log = log();
        let heads = "         prefix                            format\n         ------                            ------\n";
        let syslog = "SYSLOG   <%B> %D{%h %e %T} %E %A:          ovs|%05N|%c%T|%p|%m\n";
        let full = "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m";
        let file = format!("FILE     none                              {full}\n");
        assert_eq!(
            log.list_patterns(),
            format!("{heads}{syslog}CONSOLE  none                              {full}\n{file}")
        );
        log.set("PATTERN:console:x: %m").expect("ok");
        let console = "CONSOLE  none                              x: %m\n";
        assert_eq!(log.list_patterns(), format!("{heads}{syslog}{console}{file}"));
        log.set("PATTERN:ANY:%p").expect("ok");
        assert_eq!(log.list_patterns().matches(" %p\n").count(), 3);
        log.set("FACILITY:local3").expect("ok");
        for (spec, error) in [
            ("PATTERN", "missing destination"),
            ("PATTERN:bogus:x", "unknown destination \"bogus\""),
            ("FACILITY:bogus", "invalid facility"),
        ] {
            assert_eq!(log.set(spec).expect_err(spec), error);
        }
        let modules =
            |names: &[&str]| log.check_modules(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            (modules(&[]), modules(&["bridge", "ofproto-dpif"])),
            (Ok(String::new()), Ok(String::new()))
        );
        assert_eq!(modules(&["bogus"]), Err("unknown module".to_owned()));
    }

    #[test]
    fn lines_reach_the_file_in_ovs_form_and_only_at_their_level() {
        let dir = std::env::temp_dir().join(format!("tapestry-vlog-{}", std::process::id()));
        let path = dir.join("log");
        let _ = std::fs::remove_file(&path);
        let log = log();
        log.set("console:off").expect("ok");
        log.set_file(&path).expect("opens");
        tracing::subscriber::with_default(log.clone(), || {
            tracing::info!(target: "bridge", port = 3, "added");
            tracing::debug!(target: "bridge", "hidden");
            log.set("bridge:dbg").expect("ok");
            tracing::debug!(target: "bridge", "shown");
        });
        let text = std::fs::read_to_string(&path).expect("readable");
        let thread = std::thread::current();
        assert_eq!(
            text.replace(&format!("({})", thread.name().unwrap_or_default()), ""),
            "2018-02-13T23:14:48.042Z|00001|bridge|INFO|added port=3\n2018-02-13T23:14:48.042Z|00002|bridge|DBG|shown\n"
        );
        std::fs::remove_dir_all(&dir).expect("removable");
    }
}
