//! The command line, in the shape of ovs-vswitchd(8): long options with optional values, which must be attached by `=`.

use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use switch::config::WORKERS_MAX;
use thiserror::Error;

/// What `--help` prints.
pub const HELP: &str = "\
vswitchd: the Tapestry virtual switch
usage: vswitchd [OPTIONS] [DATABASE]
Without DATABASE the configuration database is served by this process, from a file and on a socket in the run directory.
With DATABASE (unix:FILE or tcp:HOST:PORT) it is that of an ovsdb-server.

Tapestry options:
  --rundir=DIR            directory of sockets and pid file (default: $OVS_RUNDIR, or /run/tapestry)
  --db=FILE               database file (default: $OVS_DBDIR/conf.db, or /var/lib/tapestry/conf.db)
  --workers=N             number of worker threads unless other_config:pmd-cpu-mask says it (default: a quarter of the
                          cores, 1 to 4)

Daemon options:
  --detach                run in the background; returns once configured, with sockets answering
  --no-chdir              do not chdir to '/'
  --pidfile[=FILE]        pid file (default: RUNDIR/ovs-vswitchd.pid)
  --overwrite-pidfile     start even if the pid file names a running process
  --unixctl=SOCKET        control socket (default: RUNDIR/ovs-vswitchd.PID.ctl)

Datapath options:
  --enable-dummy[=LEVEL]  interface type 'dummy' and commands to drive it; LEVEL override or system makes every
                          interface a dummy
  --disable-system        no access to network devices of the kernel
  --disable-system-route  no use of the kernel's routing tables
  --no-io-uring           TAPs are read and written by ordinary system calls, a frame each, not by io_uring

Logging options:
  -vSPEC, --verbose=SPEC  set logging levels, as vlog/set of ovs-appctl(8)
  -v, --verbose           maximum verbosity
  --log-file[=FILE]       log to FILE (default: $OVS_LOGDIR/ovs-vswitchd.log, or /var/log/tapestry/ovs-vswitchd.log)
  --syslog-target, --syslog-method
                          accepted; there is no logging to syslog

Other options:
  -h, --help              display this help message
  -V, --version           display version information
";

/// How far `--enable-dummy` goes (ovs-vswitchd's levels).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dummies {
    /// No dummy interfaces.
    #[default]
    Off,
    /// Interfaces of type `dummy` and bridges of datapath type `dummy`.
    On,
    /// Every interface is a dummy: nothing touches the kernel.
    Override,
}

/// The parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// An outside database to be a client of.
    pub database: Option<String>,
    /// `--rundir`.
    pub rundir: Option<PathBuf>,
    /// `--db`.
    pub db: Option<PathBuf>,
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--detach`.
    pub detach: bool,
    /// `--no-chdir`.
    pub no_chdir: bool,
    /// `--pidfile`: given, and the file if one was named.
    pub pidfile: Option<Option<PathBuf>>,
    /// `--overwrite-pidfile`.
    pub overwrite_pidfile: bool,
    /// `--unixctl`.
    pub unixctl: Option<PathBuf>,
    /// `--enable-dummy`.
    pub dummies: Dummies,
    /// `--disable-system`.
    pub disable_system: bool,
    /// `--disable-system-route`.
    pub disable_system_route: bool,
    /// `--no-io-uring`.
    pub no_io_uring: bool,
    /// `-v` specifications in order.
    pub verbose: Vec<String>,
    /// `--log-file`: given, and the file if one was named.
    pub log_file: Option<Option<PathBuf>>,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run the daemon.
    Run(Box<Args>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A command line that cannot be understood.
#[derive(Debug, Error)]
pub enum ArgsError {
    /// An option or value is wrong.
    #[error("{0}")]
    Syntax(#[from] lexopt::Error),
    /// More than one database.
    #[error("at most one non-option argument accepted; use --help for usage")]
    TooMany,
    /// A number is out of range.
    #[error("--workers: {0} is not a number from 1 to {WORKERS_MAX}")]
    Workers(String),
    /// `--enable-dummy` with an unknown level.
    #[error("--enable-dummy: unknown level '{0}' (override or system)")]
    Dummy(String),
    /// An option of ovs-vswitchd that this switch does not have.
    #[error("--{0} is not supported: {1}")]
    Unsupported(&'static str, &'static str),
}

/// Parses a command line without its program name.
///
/// # Errors
/// The first word that is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, ArgsError> {
    let mut args = Args::default();
    let mut parser = lexopt::Parser::from_args(words);
    while let Some(word) = parser.next()? {
        match word {
            Short('h') | Long("help") => return Ok(Request::Help),
            Short('V') | Long("version") => return Ok(Request::Version),
            Long("rundir") => args.rundir = Some(parser.value()?.into()),
            Long("db") => args.db = Some(parser.value()?.into()),
            Long("workers") => args.workers = Some(workers(parser.value()?)?),
            Long("detach") => args.detach = true,
            // A crash of the daemon is the service manager's to notice: there is no monitor process.
            Long("monitor" | "mlockall" | "no-self-confinement") => {}
            Long("no-chdir") => args.no_chdir = true,
            Long("pidfile") => args.pidfile = Some(parser.optional_value().map(PathBuf::from)),
            Long("overwrite-pidfile") => args.overwrite_pidfile = true,
            Long("unixctl") => args.unixctl = Some(parser.value()?.into()),
            Long("enable-dummy") => args.dummies = dummies(parser.optional_value())?,
            Long("disable-system") => args.disable_system = true,
            Long("disable-system-route") => args.disable_system_route = true,
            Long("no-io-uring") => args.no_io_uring = true,
            Short('v') | Long("verbose") => {
                let spec = parser.optional_value().map(|v| v.string()).transpose()?;
                args.verbose.push(spec.unwrap_or_else(|| "ANY:ANY:dbg".to_owned()));
            }
            Long("log-file") => args.log_file = Some(parser.optional_value().map(PathBuf::from)),
            Long("syslog-target" | "syslog-method") => drop(parser.value()?),
            Long("user") => {
                return Err(ArgsError::Unsupported("user", "start the daemon as the user it is to run as"));
            }
            Long("private-key") | Short('p') => {
                return Err(ArgsError::Unsupported("private-key", "no SSL/TLS"));
            }
            Long("certificate") | Short('c') => {
                return Err(ArgsError::Unsupported("certificate", "no SSL/TLS"));
            }
            Long("ca-cert") | Short('C') => return Err(ArgsError::Unsupported("ca-cert", "no SSL/TLS")),
            Value(_) if args.database.is_some() => return Err(ArgsError::TooMany),
            Value(database) => args.database = Some(database.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Request::Run(Box::new(args)))
}

fn workers(value: OsString) -> Result<usize, ArgsError> {
    let text = value.string()?;
    match text.parse() {
        Ok(n) if (1..=WORKERS_MAX).contains(&n) => Ok(n),
        _ => Err(ArgsError::Workers(text)),
    }
}

fn dummies(level: Option<OsString>) -> Result<Dummies, ArgsError> {
    match level.map(|l| l.string()).transpose()?.as_deref() {
        None => Ok(Dummies::On),
        Some("override" | "system") => Ok(Dummies::Override),
        Some(other) => Err(ArgsError::Dummy(other.to_owned())),
    }
}

/// Where the daemon's files are, from the command line and the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Directory of sockets and pid file.
    pub rundir: PathBuf,
    /// Database file.
    pub db: PathBuf,
    /// Pid file.
    pub pidfile: PathBuf,
    /// Log file, if there is one.
    pub log_file: Option<PathBuf>,
}

impl Places {
    /// Decides on the files; `env` reads the environment.
    pub fn new(args: &Args, env: impl Fn(&str) -> Option<OsString>) -> Places {
        let dir = |variable: &str, default: &str| {
            env(variable).filter(|v| !v.is_empty()).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        let rundir = args.rundir.clone().unwrap_or_else(|| dir("OVS_RUNDIR", "/run/tapestry"));
        let logdir = || dir("OVS_LOGDIR", "/var/log/tapestry");
        // As in OVS, a file named without a directory lies in the directory for its kind.
        let pidfile = args.pidfile.clone().flatten().unwrap_or_else(|| "ovs-vswitchd.pid".into());
        Places {
            db: args.db.clone().unwrap_or_else(|| dir("OVS_DBDIR", "/var/lib/tapestry").join("conf.db")),
            pidfile: below(&rundir, &pidfile),
            log_file: args
                .log_file
                .as_ref()
                .map(|file| below(&logdir(), file.as_deref().unwrap_or(Path::new("ovs-vswitchd.log")))),
            rundir,
        }
    }

    /// The control socket of process `pid`.
    pub fn unixctl(&self, args: &Args, pid: u32) -> PathBuf {
        let default = PathBuf::from(format!("ovs-vswitchd.{pid}.ctl"));
        below(&self.rundir, args.unixctl.as_ref().unwrap_or(&default))
    }

    /// The database socket.
    pub fn db_socket(&self) -> PathBuf {
        self.rundir.join("db.sock")
    }
}

fn below(dir: &Path, file: &Path) -> PathBuf {
    dir.join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> Args {
        match parse(words.iter().map(OsString::from)) {
            Ok(Request::Run(args)) => *args,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn error(words: &[&str]) -> String {
        parse(words.iter().map(OsString::from)).expect_err("an error").to_string()
    }

    #[test]
    fn ovs_vswitchd_as_its_init_script_starts_it() {
        let args = run(&[
            "unix:/run/openvswitch/db.sock",
            "-vconsole:emer",
            "-vsyslog:err",
            "-vfile:info",
            "--mlockall",
            "--no-chdir",
            "--log-file=/var/log/ovs.log",
            "--pidfile=/run/ovs.pid",
            "--detach",
        ]);
        assert_eq!(args.database.as_deref(), Some("unix:/run/openvswitch/db.sock"));
        assert_eq!(args.verbose, ["console:emer", "syslog:err", "file:info"]);
        assert!(args.detach && args.no_chdir);
        assert_eq!(args.pidfile, Some(Some("/run/ovs.pid".into())));
    }

    #[test]
    fn optional_values_are_attached_or_absent() {
        let args = run(&["--pidfile", "--enable-dummy", "--log-file", "-v", "unix:x"]);
        assert_eq!(args.database.as_deref(), Some("unix:x"));
        assert_eq!((args.pidfile, args.log_file), (Some(None), Some(None)));
        assert_eq!((args.dummies, args.verbose), (Dummies::On, vec!["ANY:ANY:dbg".to_owned()]));
        assert_eq!(run(&["--enable-dummy=override"]).dummies, Dummies::Override);
    }

    #[test]
    fn errors_name_the_word() {
        assert!(error(&["--frobnicate"]).contains("--frobnicate"));
        assert!(error(&["a", "b"]).contains("at most one"));
        assert!(error(&["--workers=0"]).contains("0 is not a number from 1 to 64"));
        assert!(error(&["--enable-dummy=some"]).contains("'some'"));
        assert!(error(&["--ca-cert=x"]).contains("ca-cert"));
    }

    #[test]
    fn places_follow_options_then_environment_then_defaults() {
        let env = |name: &str| (name == "OVS_RUNDIR").then(|| OsString::from("/tmp/run"));
        let places = Places::new(&run(&["--log-file", "--pidfile=mine.pid"]), env);
        assert_eq!(places.db_socket(), Path::new("/tmp/run/db.sock"));
        assert_eq!(places.pidfile, Path::new("/tmp/run/mine.pid"));
        assert_eq!(places.db, Path::new("/var/lib/tapestry/conf.db"));
        assert_eq!(places.log_file.as_deref(), Some(Path::new("/var/log/tapestry/ovs-vswitchd.log")));
        assert_eq!(places.unixctl(&Args::default(), 7), Path::new("/tmp/run/ovs-vswitchd.7.ctl"));
        let places = Places::new(&run(&["--rundir=/r", "--db=/d/x.db", "--unixctl=c.ctl"]), |_| None);
        assert_eq!((places.rundir.as_path(), places.db.as_path()), (Path::new("/r"), Path::new("/d/x.db")));
    }
}
