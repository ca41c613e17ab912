//! A database server for tests, with the part of the daemon that commands wait for: it takes changes up at once, gives
//! every interface a number, and says that interfaces called `nosuch…` do not exist.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base::Instant;
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use ovsdb::client::{Transaction, outcome};
use ovsdb::database::Database;
use ovsdb::replica::Replica;
use ovsdb::schema;
use ovsdb::session::{LocalId, Server, ServerLimits, ServerOptions, SessionId};
use serde_json::{Value, json};

const DATABASE: &str = "Open_vSwitch";
const LISTENER: Token = Token(0);
const STOP: Token = Token(1);

/// Whether changes are taken up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Alive,
    Dead,
}

/// A running server; ends with its value.
pub struct DatabaseServer {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl DatabaseServer {
    #[expect(clippy::disallowed_methods, reason = "a server for a program under test needs a thread")]
    pub fn start(rundir: &Path, daemon: Daemon) -> DatabaseServer {
        let mut listener = UnixListener::bind(rundir.join("db.sock")).expect("socket");
        let poll = Poll::new().expect("poll");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("register");
        let waker = Waker::new(poll.registry(), STOP).expect("waker");
        let thread = std::thread::spawn(move || Shell::new(poll, daemon).run(&listener));
        DatabaseServer { waker, thread: Some(thread) }
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        self.waker.wake().expect("wake");
        let failed = self.thread.take().is_some_and(|thread| thread.join().is_err());
        assert!(!failed || std::thread::panicking(), "the database server of the test failed");
    }
}

struct Shell {
    poll: Poll,
    daemon: Daemon,
    server: Server,
    view: LocalId,
    replica: Replica,
    clients: HashMap<SessionId, (Token, UnixStream)>,
    next: usize,
}

impl Shell {
    fn new(poll: Poll, daemon: Daemon) -> Shell {
        let mut next = 1u128;
        let mut server = Server::new(ServerOptions {
            // Odd multiples of a large number look different enough for UUIDs.
            entropy: Box::new(move || {
                next += 2;
                next.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            }),
            wall_clock_ms: Box::new(|| 0),
            limits: ServerLimits::default(),
        });
        server.add_database(Database::new(Arc::new(schema::open_vswitch().clone())), None);
        let (view, replica) = server.subscribe_local(DATABASE).expect("view");
        Shell { poll, daemon, server, view, replica, clients: HashMap::new(), next: STOP.0 + 1 }
    }

    fn run(mut self, listener: &UnixListener) {
        let mut events = Events::with_capacity(64);
        loop {
            match self.poll.poll(&mut events, Some(Duration::from_secs(60))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("poll"),
            }
            assert!(!events.is_empty(), "nobody wanted anything for a minute");
            for event in &events {
                match event.token() {
                    STOP => return,
                    LISTENER => self.accept(listener),
                    token => self.read(token),
                }
            }
            self.server.poll(Instant::ZERO);
            self.take_up();
            self.write();
        }
    }

    fn accept(&mut self, listener: &UnixListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            let id = self.server.connect(None, Instant::ZERO).expect("session");
            let token = Token(self.next);
            self.next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest).expect("register");
            self.clients.insert(id, (token, stream));
        }
    }

    fn read(&mut self, token: Token) {
        let Some(id) = self.clients.iter().find(|(_, (its, _))| *its == token).map(|(id, _)| *id) else {
            return;
        };
        let mut buffer = [0; 4096];
        while let Some((_, stream)) = self.clients.get_mut(&id) {
            match stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => {
                    self.server.disconnect(id);
                    self.clients.remove(&id);
                }
                Ok(count) => self.server.receive(id, &buffer[..count], Instant::ZERO).expect("request"),
            }
        }
    }

    fn write(&mut self) {
        for id in self.server.writable_sessions().collect::<Vec<_>>() {
            while let Some((_, stream)) = self.clients.get_mut(&id) {
                let output = self.server.output(id);
                if output.is_empty() {
                    break;
                }
                match stream.write(output) {
                    Ok(count) => self.server.consume_output(id, count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => drop(self.clients.remove(&id)),
                }
            }
        }
    }

    /// What the daemon does when `next_cfg` has grown.
    fn take_up(&mut self) {
        self.server.refresh_local(self.view, &mut self.replica).expect("view");
        let Some(root) = self.replica.singleton(DATABASE) else { return };
        let wanted = root.integer("next_cfg").unwrap_or(0);
        if self.daemon == Daemon::Dead || root.integer("cur_cfg") == Some(wanted) {
            return;
        }
        let mut change = Transaction::new();
        for (at, row) in self.replica.rows("Interface").enumerate() {
            let columns = if row.string("name").is_some_and(|name| name.starts_with("nosuch")) {
                [("ofport", json!(-1)), ("error", json!("No such device"))]
            } else {
                [("ofport", json!(at + 1)), ("error", json!(["set", []]))]
            };
            change.update("Interface", &row.uuid().into(), columns);
        }
        change.update(DATABASE, &root.uuid().into(), [("cur_cfg", Value::from(wanted))]);
        let results =
            self.server.transact_local(DATABASE, change.operations(), Instant::ZERO).expect("database");
        outcome(&results).expect("transaction");
        self.server.refresh_local(self.view, &mut self.replica).expect("view");
    }
}
