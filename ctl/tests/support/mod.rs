//! What the tests of the program share: running it, a place for sockets, servers to talk to.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod database;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes when the test ends.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tapctl-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temporary directory");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A program in an environment where `rundir` is the run directory.
pub fn run(program: &str, rundir: &Path, args: &[&str]) -> Run {
    let mut command = Command::new(program);
    command.env("OVS_RUNDIR", rundir).env_remove("NO_COLOR").args(args);
    command.output().expect(program).into()
}

/// This program.
pub fn tapctl(rundir: &Path, args: &[&str]) -> Run {
    run(env!("CARGO_BIN_EXE_tapctl"), rundir, args)
}

/// This program's output, when it must succeed without a word on standard error.
pub fn ok(rundir: &Path, args: &[&str]) -> String {
    let run = tapctl(rundir, args);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "tapctl {args:?}: {run:?}");
    run.out
}

/// Another program's output, when it must succeed.
pub fn other(program: &str, rundir: &Path, args: &[&str]) -> String {
    let run = run(program, rundir, args);
    assert_eq!(run.code, Some(0), "{program} {args:?}: {run:?}");
    run.out
}

/// Whether Open vSwitch's tools are here to compare with.
pub fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(std::env::var_os("TAPESTRY_REQUIRE_OVS").is_none(), "{program} is not installed");
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// A daemon's control socket that gives `answers` in order, one connection each, and returns the requests.
#[expect(clippy::disallowed_methods, reason = "a server for a program under test needs a thread")]
pub fn control_server(
    rundir: &Path,
    answers: Vec<serde_json::Value>,
) -> std::thread::JoinHandle<Vec<serde_json::Value>> {
    std::fs::write(rundir.join("ovs-vswitchd.pid"), "4711\n").expect("pid file");
    let listener = UnixListener::bind(rundir.join("ovs-vswitchd.4711.ctl")).expect("socket");
    std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("connection");
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            let request: serde_json::Value = loop {
                let count = stream.read(&mut buffer).expect("request");
                assert_ne!(count, 0, "request ends early");
                bytes.extend_from_slice(&buffer[..count]);
                if let Ok(request) = serde_json::from_slice(&bytes) {
                    break request;
                }
            };
            // In two parts, as a long answer comes.
            let text = answer.to_string();
            let (first, second) = text.split_at(text.len() / 2);
            stream
                .write_all(first.as_bytes())
                .and_then(|()| stream.write_all(second.as_bytes()))
                .expect("answer");
            requests.push(request);
        }
        requests
    })
}
