//! Commands to the daemon through its control socket, the one that ovs-appctl(8) uses: JSON-RPC, answers as text.
//!
//! Where a command's text has a form, it is read back into columns and JSON (`read`); what has none is passed on as it is.

mod conntrack;
mod read;

use anyhow::{Context, anyhow, bail};
use ovsdb::rpc::{Message, Splitter, StreamLimits};
use serde_json::{Value, json};

use crate::args::Command;
use crate::clock::Deadline;
use crate::console::{Answer, Look, Paint};
use crate::grid::{Cell, Grid};
use crate::link::{Link, Unreachable};
use crate::rundir::RunDir;

/// A dump of every cached flow is long.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The daemon refused a command.
#[derive(Debug)]
pub struct Refused {
    /// The command.
    pub command: String,
    /// What it said.
    pub text: String,
}

impl Refused {
    /// Whether the daemon does not have the command, in the words of ovs-appctl(8)'s daemons.
    pub fn is_unknown_command(&self) -> bool {
        self.text.contains("is not a valid command")
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the daemon refused {}: {}", self.command, self.text.trim_end())
    }
}

impl std::error::Error for Refused {}

/// Runs one command of the daemon.
///
/// # Errors
/// When the daemon cannot be reached, or [`Refused`].
pub fn call(rundir: &RunDir, deadline: Deadline, command: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut link = Link::open(&rundir.control()?, "the daemon", deadline)?;
    let params = args.iter().map(|arg| Value::from(*arg)).collect();
    let request = Message::Request { method: command.to_owned(), params, id: Value::from(0) };
    link.write(request.to_json().to_string().as_bytes())?;
    let mut input =
        Splitter::new(StreamLimits { message_bytes_max: ANSWER_BYTES_MAX, ..StreamLimits::DEFAULT });
    let mut buffer = [0; 1 << 16];
    loop {
        let count = link.read(&mut buffer)?;
        input.push(buffer.get(..count).unwrap_or_default());
        let Some(json) = input.next().with_context(|| link.describe())? else { continue };
        return match Message::from_json(json).with_context(|| link.describe())? {
            Message::Reply { result: Value::String(text), .. } => Ok(text),
            Message::Reply { result, .. } => Ok(result.to_string()),
            Message::Error { error, .. } => {
                let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
                Err(Refused { command: command.to_owned(), text }.into())
            }
            other => Err(anyhow!("{}: no answer but {other:?}", link.describe())),
        };
    }
}

/// Whether the command is one to the daemon.
pub fn concerns(command: &Command) -> bool {
    matches!(
        command,
        Command::Trace(_)
            | Command::Fdb(_)
            | Command::FdbFlush(_)
            | Command::Cache(_)
            | Command::Conntrack(_)
            | Command::Drops
            | Command::Log(_)
            | Command::Version
            | Command::Exit(_)
            | Command::Appctl(_)
    )
}

/// Runs a command to the daemon.
///
/// # Errors
/// Anything that kept it from being done, in words for the user.
pub fn run(command: &Command, rundir: &RunDir, deadline: Deadline, paint: Paint) -> anyhow::Result<Answer> {
    let ask = |name: &str, args: &[&str]| call(rundir, deadline, name, args);
    match command {
        Command::Fdb(args) => Ok(fdb(&ask("fdb/show", &[&args.bridge])?, paint)),
        Command::FdbFlush(args) => {
            let text = match &args.bridge {
                Some(bridge) => ask("fdb/flush", &[bridge])?,
                None => ask("fdb/flush", &[])?,
            };
            Ok(Answer { json: json!({ "flushed": text.trim_end() }), text })
        }
        Command::Cache(args) => {
            let text = match &args.bridge {
                Some(bridge) => ask("dpif/dump-flows", &[bridge])?,
                None => ask("dpctl/dump-flows", &[])?,
            };
            let flows: Value = text.lines().filter(|line| !line.is_empty()).map(read::cached_flow).collect();
            Ok(Answer { text, json: flows })
        }
        Command::Conntrack(args) => conntrack::run(&args.command, &ask, paint),
        Command::Drops => drops(&ask("tapestry/drops", &[])?, paint),
        Command::Trace(args) => {
            let mut words = vec![args.bridge.as_str(), args.flow.as_str()];
            if args.generate {
                words.push("-generate");
            }
            words.extend(args.frame.as_deref());
            let text = ask("ofproto/trace", &words)?;
            let json = read::trace(&text);
            Ok(Answer { text: paint_trace(&text, paint), json })
        }
        Command::Log(args) if args.specs.is_empty() => Ok(Answer::lines(ask("vlog/list", &[])?)),
        Command::Log(args) => {
            let specs: Vec<&str> = args.specs.iter().map(String::as_str).collect();
            let text = ask("vlog/set", &specs)?;
            Ok(Answer { text, json: json!({ "set": args.specs }) })
        }
        Command::Version => version(ask("version", &[])),
        Command::Exit(args) => {
            let words: &[&str] = if args.cleanup { &["--cleanup"] } else { &[] };
            let text = ask("exit", words)?;
            Ok(Answer { text, json: json!({ "exiting": true }) })
        }
        Command::Appctl(args) => {
            let words: Vec<&str> = args.args.iter().map(String::as_str).collect();
            Ok(Answer::lines(ask(&args.command, &words)?))
        }
        other => bail!("{other:?} is no command of the daemon"),
    }
}

/// A daemon that is not there has no version, which is an answer too.
fn version(answer: anyhow::Result<String>) -> anyhow::Result<Answer> {
    let own = env!("CARGO_PKG_VERSION");
    let daemon = match answer {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) if error.is::<Unreachable>() => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    let text = match &daemon {
        Ok(daemon) => format!("tapctl {own}\n{daemon}\n"),
        Err(error) => format!("tapctl {own}\n{error}\n"),
    };
    Ok(Answer { text, json: json!({ "tapctl": own, "daemon": daemon.ok() }) })
}

fn fdb(text: &str, paint: Paint) -> Answer {
    let Some(entries) = read::fdb(text) else { return Answer::lines(text.to_owned()) };
    if entries.is_empty() {
        return Answer { text: "No addresses are learned.\n".to_owned(), json: json!([]) };
    }
    let mut grid = Grid::titled(&["MAC", ">VLAN", ">PORT", ">AGE"]);
    for entry in &entries {
        let age = entry.age_s.map_or_else(|| "static".to_owned(), |age| format!("{age} s"));
        grid.row([
            entry.mac.as_str().into(),
            Cell::number(entry.vlan),
            Cell::number(&entry.port),
            Cell::number(age),
        ]);
    }
    let json = entries
        .iter()
        .map(|e| json!({ "port": e.port, "vlan": e.vlan, "mac": e.mac, "age_s": e.age_s }))
        .collect();
    Answer { text: grid.render(paint), json }
}

/// The daemon's answer is JSON: `[{"port", "reason", "what", "count"}, …]`.
fn drops(text: &str, paint: Paint) -> anyhow::Result<Answer> {
    let json: Value = serde_json::from_str(text).context("the daemon's drop counters are no JSON")?;
    let rows = json.as_array().ok_or_else(|| anyhow!("the daemon's drop counters are no list"))?;
    let mut rows: Vec<&Value> = rows.iter().filter(|row| count_of(row) > 0).collect();
    if rows.is_empty() {
        return Ok(Answer { text: "No frame was dropped.\n".to_owned(), json });
    }
    rows.sort_by_key(|row| std::cmp::Reverse(count_of(row)));
    let word = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut grid = Grid::titled(&["PORT", ">FRAMES", "REASON", "WHAT IT MEANS"]);
    for row in rows {
        grid.row([
            Cell::from(word(row, "port")).look(Look::Bold),
            Cell::number(count_of(row)),
            word(row, "reason").into(),
            Cell::from(word(row, "what")).look(Look::Dim),
        ]);
    }
    Ok(Answer { text: grid.render(paint), json })
}

fn count_of(row: &Value) -> u64 {
    row.get("count").and_then(Value::as_u64).unwrap_or(0)
}

/// Makes what a trace comes to stand out.
fn paint_trace(text: &str, paint: Paint) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let label = read::TRACE_LABELS.iter().find(|(label, _)| line.starts_with(label));
        match label.and_then(|(label, _)| Some((*label, line.strip_prefix(label)?))) {
            Some((label, rest)) => out += &format!("{}{rest}", paint.text(Look::Bold, label)),
            None => out += line,
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_sorted_and_zeros_left_out() {
        let text = r#"[{"port":"pod1","reason":"too_short","what":"no Ethernet header","count":3},
            {"port":"pod2","reason":"no_rule","what":"no flow","count":0},
            {"port":"pod3","reason":"stp","what":"","count":40}]"#;
        let answer = drops(text, Paint::NONE).unwrap();
        assert_eq!(
            answer.text,
            "PORT  FRAMES  REASON     WHAT IT MEANS\npod3      40  stp\npod1       3  too_short  no Ethernet header\n"
        );
        assert_eq!(answer.json.as_array().map(Vec::len), Some(3));
        assert_eq!(drops("[]", Paint::NONE).unwrap().text, "No frame was dropped.\n");
        assert!(drops("{", Paint::NONE).is_err());
        assert!(drops("{}", Paint::NONE).is_err());
    }

    #[test]
    fn a_missing_daemon_has_no_version_but_a_broken_one_is_an_error() {
        let gone =
            Unreachable { what: "x".into(), path: "/y".into(), error: std::io::ErrorKind::NotFound.into() };
        assert_eq!(version(Err(gone.into())).unwrap().json["daemon"], Value::Null);
        assert!(version(Err(anyhow!("broken"))).is_err());
        assert_eq!(version(Ok("vswitchd 1\n".into())).unwrap().json["daemon"], "vswitchd 1");
    }
}
