//! Serves the Open_vSwitch database on a Unix socket: `serve SOCKET DATABASE-FILE`. A shell of the smallest kind, to try
//! clients against and to show what a shell owes the library.
//!
//! `serve SOCKET DATABASE-FILE SCHEMA-FILE` serves another schema; `-` for the file serves from memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::time::Instant;
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use ovsdb::database::Database;
use ovsdb::log::FileJournal;
use ovsdb::schema::{self, DatabaseSchema};
use ovsdb::session::{Server, ServerLimits, ServerOptions, SessionId};

type Failure = Box<dyn std::error::Error>;

const LISTENER: Token = Token(0);

struct Clock(std::time::Instant);

impl Clock {
    #[allow(clippy::disallowed_methods)]
    fn start() -> Self {
        Clock(std::time::Instant::now())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }
}

#[allow(clippy::disallowed_methods)]
fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn entropy() -> Result<Box<dyn FnMut() -> u128 + Send>, io::Error> {
    let mut device = File::open("/dev/urandom")?;
    Ok(Box::new(move || {
        let mut bytes = [0; 16];
        if let Err(error) = device.read_exact(&mut bytes) {
            eprintln!("/dev/urandom: {error}");
            std::process::exit(1);
        }
        u128::from_ne_bytes(bytes)
    }))
}

struct Shell {
    poll: Poll,
    server: Server,
    clients: HashMap<SessionId, (Token, UnixStream)>,
    next_token: usize,
}

impl Shell {
    fn accept(&mut self, listener: &UnixListener, now: Instant) -> Result<(), Failure> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let id = match self.server.connect(None, now) {
                Ok(id) => id,
                Err(error) => {
                    eprintln!("connection refused: {error}");
                    continue;
                }
            };
            self.next_token += 1;
            let token = Token(self.next_token);
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.clients.insert(id, (token, stream));
        }
    }

    fn read(&mut self, token: Token, now: Instant) {
        let Some((&id, _)) = self.clients.iter().find(|(_, (its, _))| *its == token) else { return };
        let mut buffer = [0; 65536];
        while let Some((_, stream)) = self.clients.get_mut(&id) {
            match stream.read(&mut buffer) {
                Ok(0) => self.close(id),
                Ok(count) => {
                    if let Err(error) = self.server.receive(id, &buffer[..count], now) {
                        eprintln!("connection dropped: {error}");
                        self.close(id);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.close(id),
            }
        }
    }

    fn close(&mut self, id: SessionId) {
        self.server.disconnect(id);
        self.clients.remove(&id);
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
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => self.close(id),
                }
            }
        }
        for (id, error) in self.server.take_closed() {
            eprintln!("connection dropped: {error}");
            self.clients.remove(&id);
        }
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (socket, file, schema_file) = match arguments.as_slice() {
        [socket, file] => (socket, file, None),
        [socket, file, schema_file] => (socket, file, Some(schema_file)),
        _ => return Err("usage: serve SOCKET DATABASE-FILE [SCHEMA-FILE]".into()),
    };
    let schema = match schema_file {
        None => schema::open_vswitch().clone(),
        Some(path) => DatabaseSchema::parse_str(&std::fs::read_to_string(path)?)?,
    };
    let mut server = Server::new(ServerOptions {
        entropy: Box::new(entropy()?),
        wall_clock_ms: Box::new(wall_clock_ms),
        limits: ServerLimits::default(),
    });
    if file == "-" {
        server.add_database(Database::new(Arc::new(schema)), None);
    } else {
        let (journal, database, opened) = FileJournal::open(Path::new(file), Arc::new(schema))?;
        eprintln!("{opened:?}");
        server.add_database(database, Some(Box::new(journal)));
    }
    let clock = Clock::start();
    let _ = std::fs::remove_file(socket);
    let mut listener = UnixListener::bind(socket)?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut shell = Shell { poll, server, clients: HashMap::new(), next_token: 0 };
    let mut events = Events::with_capacity(1024);
    // A line on standard output says that clients may come.
    println!("listening");
    loop {
        let timeout = shell
            .server
            .next_deadline()
            .map(|at| at.saturating_since(clock.now()) + Duration::from_millis(1));
        if let Err(error) = shell.poll.poll(&mut events, timeout) {
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error.into());
        }
        let now = clock.now();
        for event in events.iter() {
            match event.token() {
                LISTENER => shell.accept(&listener, now)?,
                token => shell.read(token, now),
            }
        }
        shell.server.poll(now);
        shell.write();
    }
}
