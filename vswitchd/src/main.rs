//! `vswitchd`: the daemon. Parses the command line, goes into the background if asked to, and runs the loop of
//! [`daemon::Daemon`].
//!
//! A thin shell: it has sockets, threads, files and the clock, and decides nothing that the brain could decide.

mod appctl;
mod args;
mod clock;
mod connections;
mod coverage;
mod daemon;
mod database;
mod devices;
mod host_statistics;
mod looks;
mod routes;
mod sockets;
mod streams;
mod unixctl;
mod vlog;
mod workers;

use anyhow::{Context, Result, anyhow};
use args::{Args, Places, Request};
use daemon::{Daemon, End};
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use sys::process::{PidFile, PidFileError, Readiness, WorkDirectory};
use sys::signal::Signals;
use vlog::Vlog;

/// The version of Open vSwitch whose protocols and text this daemon speaks: what tools read in `ovs_version`.
pub const OVS_VERSION: &str = "3.1.0";
/// Exit status after a wrong command line, as ovs-vswitchd's.
const EXIT_FAILURE: u8 = 1;
/// Descriptors wanted: a port, its workers and a thousand control connections need a few thousand.
const OPEN_FILES_WANTED: u64 = 65_536;

/// Text of `--version` and of the command `version`.
pub fn version_text() -> String {
    format!("ovs-vswitchd (Tapestry {}) {OVS_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Request::Run(args)) => *args,
        Ok(Request::Help) => {
            return print(args::HELP);
        }
        Ok(Request::Version) => {
            return print(&version_text());
        }
        Err(error) => {
            eprintln!("vswitchd: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vswitchd: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Prints what was asked for. Whoever reads it may have seen enough before its end.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("vswitchd: standard output: {error}");
            ExitCode::from(EXIT_FAILURE)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn run(args: &Args) -> Result<()> {
    let places = Places::new(args, |name| std::env::var_os(name));
    let places = absolute(places)?;
    // Before there is a thread: forking copies only the thread that forks.
    let readiness = if args.detach { sys::process::detach()? } else { Readiness::in_foreground() };
    let detached = readiness.is_detached();
    match start(args, places, detached) {
        Ok((daemon, pid_file)) => serve(daemon, pid_file, readiness, args),
        Err(error) if detached => {
            // The parent is still there to tell whoever started us.
            readiness.fail(EXIT_FAILURE, &format!("vswitchd: {error:#}"));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Files are named from where the daemon was started, which is not where it will work.
fn absolute(mut places: Places) -> Result<Places> {
    for path in [&mut places.rundir, &mut places.db, &mut places.pidfile] {
        *path = std::path::absolute(&*path).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &mut places.log_file {
        *path = std::path::absolute(&*path).with_context(|| path.display().to_string())?;
    }
    Ok(places)
}

fn start(args: &Args, places: Places, detached: bool) -> Result<(Daemon, PidFile)> {
    let log = Vlog::new(sys::clock::wall);
    for spec in &args.verbose {
        log.set(spec).map_err(anyhow::Error::msg)?;
    }
    if let Some(file) = &places.log_file {
        log.set_file(file).with_context(|| format!("{}: cannot be opened", file.display()))?;
    }
    if detached {
        log.detach_console();
    }
    tracing::subscriber::set_global_default(log.clone()).context("logging")?;
    if let Some(file) = &places.log_file {
        tracing::info!(target: "vlog", "opened log file {}", file.display());
    }
    std::fs::create_dir_all(&places.rundir)
        .with_context(|| format!("{}: cannot be made", places.rundir.display()))?;
    let signals = Signals::block().context("signals")?;
    if args.overwrite_pidfile {
        // Whoever has it loses its name, as `--overwrite-pidfile` of OVS's daemons does it.
        let _ = std::fs::remove_file(&places.pidfile);
    }
    let pid_file = PidFile::create(&places.pidfile).map_err(|error| match error {
        PidFileError::AlreadyRunning { .. } => anyhow!("{error}; --rundir names a directory for another"),
        PidFileError::Refused { .. } => anyhow!("cannot make the pid file (is this root?): {error}"),
    })?;
    if let Err(error) = sys::process::raise_open_files(OPEN_FILES_WANTED) {
        tracing::info!(target: "vswitchd", "the limit of open files stays: {error}");
    }
    tracing::info!(target: "vswitchd", "{}", version_text().trim_end());
    let daemon = Daemon::new(args, places, log, signals)?;
    Ok((daemon, pid_file))
}

fn serve(mut daemon: Daemon, pid_file: PidFile, readiness: Readiness, args: &Args) -> Result<()> {
    let mut readiness = Some(readiness);
    let end = loop {
        let end = daemon.turn()?;
        if daemon.is_ready()
            && let Some(readiness) = readiness.take()
        {
            let directory = if args.no_chdir { WorkDirectory::Keep } else { WorkDirectory::Root };
            // Sockets have been listening since before the first turn; now they answer by the configuration.
            readiness.ready(directory).context("going into the background")?;
        }
        if let Some(end) = end {
            break end;
        }
    };
    tracing::info!(target: "vswitchd", "exiting{}", if end == End::Cleanup { " and cleaning up" } else { "" });
    daemon.finish(end, pid_file);
    Ok(())
}
