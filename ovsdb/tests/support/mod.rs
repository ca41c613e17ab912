//! What several test files need: a directory that goes away, the real tools, a blocking JSON-RPC client, and a server.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::time::Instant;
use ovsdb::database::Database;
use ovsdb::log::Journal;
use ovsdb::rpc::{Splitter, StreamLimits};
use ovsdb::session::{Server, ServerLimits, ServerOptions, SessionId};
use serde_json::{Value, json};

/// A directory of this test alone.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ovsdb-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
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

/// A tool of Debian's openvswitch packages. Without it the test says that it is skipped, or fails if
/// `TAPESTRY_REQUIRE_OVS` is set, as continuous integration does.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/usr/bin"])
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        let required = std::env::var_os("TAPESTRY_REQUIRE_OVS").is_some();
        assert!(!required, "{name} is not installed");
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

/// A process that is killed when the test ends, however it ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end; its output, or a panic with what it said.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Starts our example server and waits until it listens.
pub fn serve(socket: &Path, file: &str, schema: Option<&Path>) -> Process {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(2).unwrap();
    let binary = target.join("examples/serve");
    assert!(binary.is_file(), "{} is built along with the tests of this crate", binary.display());
    let mut command = Command::new(binary);
    command.arg(socket).arg(file).args(schema).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "listening\n");
    Process(child)
}

/// Starts the real ovsdb-server and waits until it answers.
pub fn real_server(directory: &TempDir, schema: &Path) -> Option<(Process, PathBuf)> {
    let (server, tool) = (tool("ovsdb-server")?, tool("ovsdb-tool")?);
    let (database, socket) = (directory.join("real.db"), directory.join("real.sock"));
    run(Command::new(tool).arg("create").arg(&database).arg(schema));
    let child = Command::new(server)
        .arg(format!("--remote=punix:{}", socket.display()))
        .arg(format!("--unixctl={}", directory.join("real.ctl").display()))
        .arg(&database)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Process(child);
    let waiting = std::time::Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(waiting.elapsed() < Duration::from_secs(20), "ovsdb-server does not listen");
        std::thread::yield_now();
    }
    Some((process, socket))
}

/// A blocking client.
pub struct Connection {
    stream: UnixStream,
    splitter: Splitter,
    next: u64,
}

impl Connection {
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let limits = StreamLimits { message_bytes_max: 1 << 30, ..StreamLimits::DEFAULT };
        Connection { stream, splitter: Splitter::new(limits), next: 0 }
    }

    pub fn send(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let request = json!({ "method": method, "params": params, "id": self.next });
        self.stream.write_all(request.to_string().as_bytes()).unwrap();
        self.next
    }

    pub fn receive(&mut self) -> Value {
        let mut buffer = [0; 65536];
        loop {
            if let Some(message) = self.splitter.next().unwrap() {
                return message;
            }
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "server closed the connection");
            self.splitter.push(&buffer[..count]);
        }
    }

    /// Sends a request and returns its answer and the notifications before it.
    pub fn call(&mut self, method: &str, params: Value) -> (Value, Vec<Value>) {
        let id = self.send(method, params);
        let mut notifications = Vec::new();
        loop {
            let message = self.receive();
            if message["id"] == id {
                return (message, notifications);
            }
            notifications.push(message);
        }
    }
}

/// A server in this process, with random numbers that are the same in every run.
pub fn server(database: Database, journal: Option<Box<dyn Journal>>) -> Server {
    server_with(database, journal, ServerLimits::default())
}

pub fn server_with(database: Database, journal: Option<Box<dyn Journal>>, limits: ServerLimits) -> Server {
    // A server that is opened again must not draw the same row names again.
    let mut state = 1 + database.contents().changes.len() as u128;
    let mut server = Server::new(ServerOptions {
        entropy: Box::new(move || {
            state = state
                .wrapping_mul(0xda94_2042_e4dd_58b5)
                .wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            state ^ (state >> 57)
        }),
        wall_clock_ms: Box::new(|| 1_700_000_000_000),
        limits,
    });
    server.add_database(database, journal);
    server
}

/// Everything that a session was sent since the last look.
pub fn drain(server: &mut Server, id: SessionId) -> Vec<Value> {
    let limits = StreamLimits { message_bytes_max: 1 << 30, ..StreamLimits::DEFAULT };
    let mut splitter = Splitter::new(limits);
    let output = server.output(id).to_vec();
    server.consume_output(id, output.len());
    splitter.push(&output);
    std::iter::from_fn(|| splitter.next().unwrap()).collect()
}

pub fn send(server: &mut Server, id: SessionId, request: Value, now: Instant) -> Vec<Value> {
    server.receive(id, request.to_string().as_bytes(), now).unwrap();
    server.poll(now);
    drain(server, id)
}

/// A small generator of random numbers, so that a failure repeats.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}
