//! What the end-to-end suites stand on: a daemon in a directory and a network namespace of its own, pods in namespaces,
//! and the real ovs-* tools pointed at it. Everything is removed when dropped, also after a failed test.
//!
//! The daemon runs in a namespace so that its TAPs may be called `br0` and `pod1` in every test at once.

pub mod frames;
pub mod noise;
pub mod pair;
pub mod reference;
pub mod text;
pub mod traffic;
pub mod unixctl;
pub mod watching;
pub mod wire;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use sys::netns::{Netns, run_in};

/// Longest that a daemon may take to start or stop.
pub const DAEMON_WAIT_MAX: Duration = Duration::from_secs(20);

/// Longest that one of the ovs-* tools may take, for timeout(1).
const TOOL_SECONDS_MAX: &str = "30";

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A name that no other test, and no other run of this one, uses at the same time.
fn unique(kind: &str) -> String {
    format!("tapt-{kind}-{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// The workspace's directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| ".".into(), Path::to_owned)
}

/// A binary that users get; `scripts/test` builds it. `TAPESTRY_BIN_DIR` names another directory to take it from.
pub fn binary(name: &str) -> PathBuf {
    let built = || {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        target.join("release")
    };
    let path = std::env::var_os("TAPESTRY_BIN_DIR").map_or_else(built, PathBuf::from).join(name);
    assert!(path.exists(), "{} is missing: cargo build --release -p vswitchd -p ctl", path.display());
    path
}

/// What a command printed, whether it succeeded or not.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 after a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(out: Output) -> Ran {
        Ran {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    match command.stdin(Stdio::null()).output() {
        Ok(out) => out.into(),
        Err(e) => panic!("{command:?}: {e}"),
    }
}

/// Runs a command that must succeed and gives its standard output.
pub fn run_ok(command: &mut Command) -> String {
    let ran = run(command);
    assert_eq!(ran.code, 0, "{command:?} failed:\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// Runs `ip` with words separated by spaces; must succeed.
pub fn ip(words: &str) -> String {
    run_ok(Command::new("ip").args(words.split_whitespace()))
}

/// Waits until `done` says so, or panics after `DAEMON_WAIT_MAX` with `what`.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let give_up = sys::clock::monotonic() + DAEMON_WAIT_MAX;
    while !done() {
        assert!(sys::clock::monotonic() < give_up, "timed out: {what}");
        // A short nap between looks at a condition, not a wait for time to make it true.
        let mut poller = sys::poll::Poller::new().unwrap_or_else(|e| panic!("epoll: {e}"));
        let _ = poller.wait(Some(Duration::from_millis(10)), &mut Vec::new());
    }
}

/// Waits until there is something, as [`wait_for`] does.
pub fn wait_for_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_for(what, || {
        found = look();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("waited for: {what}"))
}

/// The words of a line: separated by blanks, except inside single quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Something that the ovs-* tools can talk to: our daemon or the real one.
pub trait Tools {
    /// Its run directory.
    fn dir(&self) -> &Path;

    /// One of Debian's ovs-* tools, pointed at this daemon by the environment alone.
    fn tool(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new("timeout");
        // No tool may hang a test: ovs-vsctl would wait for ever for a daemon that has died.
        command.args([TOOL_SECONDS_MAX, program]).args(words(line));
        command.env("OVS_RUNDIR", self.dir()).env("OVS_DBDIR", self.dir());
        command
    }

    /// The same for one that is to run until it is killed.
    fn lasting_tool(&self, program: &str, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(words(line)).env("OVS_RUNDIR", self.dir()).env("OVS_DBDIR", self.dir());
        command
    }

    /// Runs a line such as `ovs-vsctl add-br br0`; must succeed. See [`words`].
    fn run(&self, line: &str) -> String {
        let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
        run_ok(&mut self.tool(program, rest))
    }

    /// Runs a line that may fail.
    fn try_run(&self, line: &str) -> Ran {
        let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
        run(&mut self.tool(program, rest))
    }

    /// Runs a line that must fail, and gives what it printed to standard error.
    fn fails(&self, line: &str) -> String {
        let ran = self.try_run(line);
        assert!(ran.code > 0, "{line} succeeded:\n{}", ran.stdout);
        ran.stderr
    }

    /// Replaces the flows of `bridge` by these, one a line, in ovs-ofctl's syntax.
    fn flows(&self, bridge: &str, flows: &[&str]) {
        let file = self.dir().join(unique("flows"));
        std::fs::write(&file, flows.join("\n")).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.run(&format!("ovs-ofctl del-flows {bridge}"));
        self.run(&format!("ovs-ofctl add-flows {bridge} {}", file.display()));
    }

    /// The counters of `port` by ovs-ofctl, under the names it prints: `rx pkts`, `tx bytes`, `rx drop`, …
    fn port_counters(&self, bridge: &str, port: &str) -> BTreeMap<String, u64> {
        let text = self.run(&format!("ovs-ofctl dump-ports {bridge} {port}"));
        let mut counters = BTreeMap::new();
        for (direction, line) in text.lines().filter_map(|l| {
            l.split_once("rx ")
                .map(|(_, r)| ("rx", r))
                .or_else(|| l.split_once("tx ").map(|(_, r)| ("tx", r)))
        }) {
            for (name, value) in
                line.split(", ").filter_map(|item| item.trim_end_matches(',').split_once('='))
            {
                if let Ok(value) = value.parse() {
                    counters.insert(format!("{direction} {name}"), value);
                }
            }
        }
        counters
    }
}

impl Tools for Switch {
    fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Lets time pass, for tests of what happens when nothing does.
pub fn idle_for(time: Duration) {
    let end = sys::clock::monotonic() + time;
    let mut poller = sys::poll::Poller::new().unwrap_or_else(|e| panic!("epoll: {e}"));
    loop {
        let left = end.saturating_since(sys::clock::monotonic());
        if left.is_zero() {
            return;
        }
        let _ = poller.wait(Some(left), &mut Vec::new());
    }
}

/// A number of `/proc/PID/status`, such as `VmRSS` in KiB.
pub fn proc_status(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("process {pid} has no {name}: has the daemon ended?"))
}

/// Processor time of a process so far, in ticks of 10 ms.
pub fn cpu_ticks(pid: u32) -> u64 {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    // After the name, which may contain anything, in parentheses: state is field 3, utime 14, stime 15.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum()
}

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, with loopback up and IPv6's duplicate address detection off, so that addresses work at once.
    pub fn new(kind: &str) -> Namespace {
        let name = unique(kind);
        ip(&format!("netns add {name}"));
        let ns = Namespace { name };
        ip(&format!("-n {} link set lo up", ns.name));
        for scope in ["all", "default"] {
            let _ = run(ns.command("sysctl").args(["-qw", &format!("net.ipv6.conf.{scope}.accept_dad=0")]));
        }
        ns
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let netns = Netns::by_name(&self.name).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        run_in(&netns, work).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Turns IPv6 off for devices to come, so that the kernel sends nothing by itself.
    pub fn quiet(self) -> Namespace {
        for scope in ["all", "default"] {
            run_ok(self.command("sysctl").args(["-qw", &format!("net.ipv6.conf.{scope}.disable_ipv6=1")]));
        }
        self
    }

    /// Runs a line, words separated by spaces, inside; must succeed.
    pub fn run_ok(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        run_ok(self.command(words.next().unwrap_or_default()).args(words))
    }

    /// Whether one ping gets its answer within a second.
    pub fn pings(&self, address: &str) -> bool {
        run(self.command("ping").args(["-c1", "-W1", "-n", address])).code == 0
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A daemon, its files and the namespace it runs in.
#[derive(Debug)]
pub struct Switch {
    dir: PathBuf,
    ns: Namespace,
    daemon: Option<Child>,
    /// What is to start it, and its words before the daemon's path.
    launcher: Vec<String>,
    args: Vec<String>,
}

impl Switch {
    /// Starts a daemon with these further options and waits until it answers.
    pub fn start(args: &[&str]) -> Switch {
        Switch::start_by(&[], args)
    }

    /// The same, started by a command that runs what follows its own words, as `prlimit` does.
    pub fn start_by(launcher: &[&str], args: &[&str]) -> Switch {
        let dir = std::env::temp_dir().join(unique("run"));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let (launcher, args) = (owned(launcher), owned(args));
        let mut switch = Switch { dir, ns: Namespace::new("sw"), daemon: None, launcher, args };
        switch.restart();
        switch
    }

    /// Gives it a further option from its next start on.
    pub fn add_argument(&mut self, argument: &str) {
        self.args.push(argument.to_owned());
    }

    /// The namespace it runs in.
    pub fn ns(&self) -> &Namespace {
        &self.ns
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// Starts the daemon again after `kill` or `stop`, and waits until it answers.
    pub fn restart(&mut self) {
        let log = std::fs::File::create(self.dir.join("stderr.log")).unwrap_or_else(|e| panic!("log: {e}"));
        let mut command = match self.launcher.split_first() {
            None => self.ns.command(binary("vswitchd")),
            Some((program, words)) => {
                let mut command = self.ns.command(program);
                command.args(words).arg(binary("vswitchd"));
                command
            }
        };
        command.arg(format!("--rundir={}", self.dir.display()));
        command.arg(format!("--db={}", self.dir.join("conf.db").display()));
        command.args(&self.args).stdin(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
        wait_for("the daemon answers", || {
            if let Some(child) = &mut self.daemon
                && let Ok(Some(status)) = child.try_wait()
            {
                let mut text = String::new();
                let _ =
                    std::fs::File::open(self.dir.join("stderr.log")).map(|mut f| f.read_to_string(&mut text));
                panic!("the daemon ended with {status}: {text}");
            }
            run(&mut self.tool("ovs-appctl", "version")).code == 0
        });
    }

    /// Waits until the configuration of the database is carried out. After [`Switch::restart`] the daemon answers before, while
    /// the kernel still holds TAPs for the process that ended.
    pub fn await_configuration(&self) {
        // It must be a change, or ovs-vsctl does not wait.
        self.run(&format!("ovs-vsctl set Open_vSwitch . external_ids:awaited={}", unique("cfg")));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the daemon to exit and waits until it has; gives whether it ended well.
    pub fn stop(&mut self, cleanup: &str) -> bool {
        self.run(&format!("ovs-appctl exit {cleanup}"));
        let mut ended = None;
        wait_for("the daemon exits", || {
            ended = self.daemon.as_mut().and_then(|c| c.try_wait().ok().flatten());
            ended.is_some()
        });
        self.daemon = None;
        ended.is_some_and(|s| s.success())
    }

    /// `tapctl`; must succeed.
    pub fn tapctl(&self, line: &str) -> String {
        run_ok(Command::new(binary("tapctl")).args(line.split_whitespace()).env("OVS_RUNDIR", &self.dir))
    }

    /// Adds a port of type internal to `bridge`, moves it into a new namespace and gives it an address.
    pub fn pod(&self, bridge: &str, port: &str, cidr: &str) -> Namespace {
        self.run(&format!("ovs-vsctl add-port {bridge} {port} -- set Interface {port} type=internal"));
        let pod = Namespace::new(port);
        ip(&format!("-n {} link set {port} netns {}", self.ns.name(), pod.name()));
        ip(&format!("-n {} addr add {cidr} dev {port}", pod.name()));
        ip(&format!("-n {} link set {port} up", pod.name()));
        pod
    }

    /// Everything the daemon logged to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stderr.log")).unwrap_or_default()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut last = String::new();
            for line in self.log().lines().rev().take(30).collect::<Vec<_>>().into_iter().rev() {
                let _ = writeln!(last, "  {line}");
            }
            eprintln!("the daemon's last lines:\n{last}");
        }
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
