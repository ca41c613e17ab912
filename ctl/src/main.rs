//! `tapctl`, the command line of Tapestry: bridges and ports through the database, flows through OpenFlow, the rest
//! through the daemon's control socket. It uses only the sockets that Open vSwitch's own tools use, so it can do nothing
//! that cannot be done without it; it therefore also works, but for `drops`, with Open vSwitch's daemons.
//!
//! | module | is |
//! | --- | --- |
//! | [`args`] | the command line and its help |
//! | [`database`] | bridges, ports, columns: a client of the database |
//! | [`bridge`] | flows and ports: an OpenFlow controller for a moment |
//! | [`daemon`] | commands to the daemon |
//! | [`top`] | live counters |
//! | [`link`], [`rundir`], [`clock`] | sockets with deadlines, where they are, time |
//! | [`console`], [`grid`] | text, colours, JSON |
//!
//! Invariants: every wait has a deadline unless `--timeout 0` lifts it; a command either does what it says and ends with
//! status 0, or says on one line of standard error what failed and where, and ends with 1 (2 for wrong usage).

mod args;
mod bridge;
mod clock;
mod console;
mod daemon;
mod database;
mod grid;
mod link;
mod rundir;
mod top;

use std::io::Write;
use std::process::ExitCode;

use clap::FromArgMatches;
use serde_json::json;

use args::{Cli, Command};
use clock::Clock;
use console::{Answer, Console, Paint};
use rundir::RunDir;

/// Exit status of a command line that makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = match args::command_line().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let console = Console {
        json: cli.global.json,
        paint: Paint::choose(cli.global.color, &std::io::stdout(), no_color),
        error_paint: Paint::choose(cli.global.color, &std::io::stderr(), no_color),
    };
    match run(&cli, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if console::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            console.complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints help that was asked for, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let asked_for_json = std::env::args_os().any(|word| word == "--json");
    if !error.use_stderr() || !asked_for_json {
        let _ = error.print();
    } else {
        let text = error.render().to_string();
        let text = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let _ = writeln!(std::io::stderr(), "{}", json!({ "error": text }));
    }
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

fn run(cli: &Cli, console: &Console) -> anyhow::Result<()> {
    let global = &cli.global;
    let rundir = RunDir::new(global.rundir.clone(), global.db.clone(), std::env::var_os("OVS_RUNDIR"));
    let timeout = Some(global.timeout).filter(|timeout| !timeout.is_zero());
    let deadline = Clock::start().deadline(timeout);
    let answer = match &cli.command {
        Command::Top(args) => return top::run(args, &rundir, deadline, console),
        Command::Monitor(args) => return bridge::monitor(args, &rundir, deadline, console),
        Command::Completions(args) => completions(args.shell),
        command if database::concerns(command) => database::run(command, &rundir, deadline, console.paint)?,
        command if daemon::concerns(command) => daemon::run(command, &rundir, deadline, console.paint)?,
        command => bridge::run(command, &rundir, deadline, console.paint)?,
    };
    console.print(&answer)?;
    Ok(())
}

fn completions(shell: clap_complete::Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command_line(), "tapctl", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    Answer { json: json!({ "script": text }), text }
}
