//! What needs whole processes: detaching, the lock on a pid file, and signals. Without the test harness, because forking wants
//! a process with one thread: this program starts itself in the role that its first argument names.

#![allow(clippy::unwrap_used, reason = "a test program; clippy sees tests only where the harness is")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use sys::poll::{Interest, PollToken, Poller};
use sys::process::{PidFile, PidFileError, Readiness, WorkDirectory, detach, lock_holder};
use sys::signal::{DaemonSignal, Signals};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["role", "hold", path] => hold(Path::new(path)),
        ["role", "daemon", path] => daemon(Path::new(path)),
        ["role", "failing"] => failing(),
        ["role", "dying"] => dying(),
        ["role", "killed"] => killed(),
        ["role", "threads"] => threads(),
        ["role", "signals"] => signals(),
        // `cargo test -- --list` and test runners ask for names.
        _ if arguments.iter().any(|argument| argument == "--list") => println!("all: test"),
        _ => run_all(),
    }
}

fn run_all() {
    pid_file_is_locked_while_its_owner_lives();
    parent_returns_when_the_daemon_is_ready();
    failure_of_the_child_becomes_the_parent_s();
    process_with_threads_is_not_forked();
    signals_are_read();
    println!("detach: all passed");
}

struct TempDirectory(PathBuf);

impl TempDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sys-detach-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn role(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("role").args(arguments);
    command
}

/// A process that holds something until its standard input ends.
struct Held(Child);

impl Held {
    fn start(arguments: &[&str]) -> (Self, String) {
        let mut child = role(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn hold(path: &Path) {
    match PidFile::create(path) {
        Ok(_file) => {
            println!("held");
            let _ = std::io::stdin().read(&mut [0]);
        }
        Err(error) => println!("{error}"),
    }
}

fn pid_file_is_locked_while_its_owner_lives() {
    let directory = TempDirectory::new("lock");
    let path = directory.0.join("daemon.pid");
    let text = path.to_str().unwrap();
    let (first, word) = Held::start(&["hold", text]);
    assert_eq!(word, "held");
    let pid = i32::try_from(first.0.id()).unwrap();
    assert_eq!(lock_holder(&path).unwrap(), Some(pid));
    assert!(
        matches!(PidFile::create(&path), Err(PidFileError::AlreadyRunning { pid: holder, .. }) if holder == pid)
    );
    let (_second, word) = Held::start(&["hold", text]);
    assert_eq!(word, format!("{text}: already running as pid {pid}"));
    // The refused ones have left the holder's file as it was.
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
    drop(first);
    assert!(!path.exists());
    // Killed, the file stays behind but is free.
    let (mut third, _) = Held::start(&["hold", text]);
    third.0.kill().unwrap();
    third.0.wait().unwrap();
    assert!(path.exists());
    assert_eq!(lock_holder(&path).unwrap(), None);
    let (_fourth, word) = Held::start(&["hold", text]);
    assert_eq!(word, "held");
    // Of many that start at once, one gets it.
    let path = directory.0.join("race.pid");
    let started: Vec<_> = (0..8).map(|_| Held::start(&["hold", path.to_str().unwrap()])).collect();
    assert_eq!(started.iter().filter(|(_, word)| word == "held").count(), 1);
}

fn daemon(path: &Path) {
    let readiness = detach().unwrap();
    let pid_file = PidFile::create(path).unwrap();
    let session = std::fs::read_to_string("/proc/self/stat").unwrap();
    std::fs::write(path.with_extension("stat"), session).unwrap();
    let mut signals = Signals::block().unwrap();
    readiness.ready(WorkDirectory::Root).unwrap();
    // Goes to /dev/null now.
    println!("unheard");
    std::fs::write(path.with_extension("cwd"), std::env::current_dir().unwrap().to_str().unwrap()).unwrap();
    assert_eq!(next_signal(&mut signals), DaemonSignal::Terminate);
    drop(pid_file);
}

fn next_signal(signals: &mut Signals) -> DaemonSignal {
    let mut poller = Poller::new().unwrap();
    poller.add(&*signals, PollToken(1), Interest::Read).unwrap();
    let mut events = Vec::new();
    loop {
        poller.wait(None, &mut events).unwrap();
        if let Some(signal) = signals.read().unwrap() {
            return signal;
        }
    }
}

fn parent_returns_when_the_daemon_is_ready() {
    let directory = TempDirectory::new("daemon");
    let path = directory.0.join("daemon.pid");
    let output = role(&["daemon", path.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"");
    let pid: i32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    assert_eq!(lock_holder(&path).unwrap(), Some(pid));
    // proc_pid_stat(5): pid (comm) state ppid pgrp session
    let stat = std::fs::read_to_string(path.with_extension("stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[3], pid.to_string(), "leader of its own session: {stat}");
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    let watch = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let mut poller = Poller::new().unwrap();
    poller.add(&watch, PollToken(1), Interest::Read).unwrap();
    let mut events = Vec::new();
    poller.wait(Some(std::time::Duration::from_secs(10)), &mut events).unwrap();
    assert!(!events.is_empty(), "the daemon answers SIGTERM");
    assert!(!path.exists());
    assert_eq!(std::fs::read_to_string(path.with_extension("cwd")).unwrap(), "/");
}

fn failing() {
    detach().unwrap().fail(7, "no such bridge");
}

fn dying() {
    let _readiness = detach().unwrap();
    std::process::exit(3);
}

fn killed() {
    let _readiness = detach().unwrap();
    std::process::abort();
}

fn output(name: &str) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = role(&[name]).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn failure_of_the_child_becomes_the_parent_s() {
    assert_eq!(output("failing"), (Some(7), "no such bridge\n".to_owned()));
    let (status, message) = output("dying");
    assert_eq!(status, Some(3));
    assert!(message.contains("exit status 3"), "{message}");
    let (status, message) = output("killed");
    assert_eq!(status, Some(128 + 6));
    assert!(message.contains("signal 6"), "{message}");
}

fn threads() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || receiver.recv());
        println!("{}", detach().unwrap_err());
        drop(sender);
    });
    // In the foreground nothing changes.
    Readiness::in_foreground().ready(WorkDirectory::Root).unwrap();
    println!("{}", std::env::current_dir().unwrap() == Path::new("/"));
}

fn process_with_threads_is_not_forked() {
    let output = role(&["threads"]).current_dir("/tmp").output().unwrap();
    assert_eq!(output.stdout, b"cannot detach a process that has 2 threads\nfalse\n");
}

fn signals() {
    let mut signals = Signals::block().unwrap();
    assert_eq!(signals.read().unwrap(), None);
    println!("ready");
    std::io::stdout().flush().unwrap();
    for _ in 0..3 {
        println!("{:?}", next_signal(&mut signals));
    }
}

fn signals_are_read() {
    let mut child = role(&["signals"]).stdout(Stdio::piped()).spawn().unwrap();
    let process = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    for (signal, name) in [
        (rustix::process::Signal::HUP, "HangUp"),
        (rustix::process::Signal::INT, "Interrupt"),
        (rustix::process::Signal::TERM, "Terminate"),
    ] {
        rustix::process::kill_process(process, signal).unwrap();
        assert_eq!(lines.next().as_deref(), Some(name));
    }
    assert!(child.wait().unwrap().success());
}
