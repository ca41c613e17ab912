//! Sockets: listeners and connections on a mio loop, without knowing what is spoken on them.
//!
//! mio is edge-triggered, so what has not been read to its end, or written, is remembered here and taken up again in the
//! next turn: one client that sends without pause cannot keep the others waiting.

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token, event};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

/// Bytes read from one connection in one turn of the loop.
pub const READ_MAX: usize = 64 * 1024;
/// Connections of all kinds at one time.
pub const CONNECTIONS_MAX: usize = 4_096;

/// What failed in the system's words, without its number, as OVS reports it.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_owned()
}

/// One stream socket.
#[derive(Debug)]
pub enum Stream {
    /// Unix.
    Unix(UnixStream),
    /// TCP.
    Tcp(TcpStream),
}

impl Stream {
    /// Begins to connect; whether that worked shows when the stream becomes writable.
    ///
    /// # Errors
    /// It cannot even begin.
    pub fn connect(target: &Target) -> io::Result<Stream> {
        match target {
            Target::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
            Target::Tcp(address) => Ok(Stream::Tcp(TcpStream::connect(*address)?)),
        }
    }

    fn source(&mut self) -> &mut dyn event::Source {
        match self {
            Stream::Unix(s) => s,
            Stream::Tcp(s) => s,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.read(buffer),
            Stream::Tcp(s) => s.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(s) => s.write(bytes),
            Stream::Tcp(s) => s.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something to connect to, or to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `unix:FILE`, `punix:FILE`.
    Unix(std::path::PathBuf),
    /// `tcp:HOST[:PORT]`, `ptcp:[PORT][:HOST]`.
    Tcp(SocketAddr),
}

impl Target {
    /// Reads an active target, as ovs-vsctl(8) writes it. Relative files lie in `rundir`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn active(text: &str, rundir: &Path, default_port: u16) -> Result<Target, String> {
        match text.split_once(':') {
            Some(("unix", file)) if !file.is_empty() => Ok(Target::Unix(rundir.join(file))),
            Some(("tcp", rest)) => address(rest, default_port).map(Target::Tcp),
            Some(("ssl", _)) => Err(format!("{text}: SSL/TLS is not supported")),
            _ => Err(format!("{text}: not a target (unix:FILE or tcp:HOST[:PORT])")),
        }
    }

    /// Reads a passive target.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn passive(text: &str, rundir: &Path, default_port: u16) -> Result<Target, String> {
        match text.split_once(':') {
            Some(("punix", file)) if !file.is_empty() => Ok(Target::Unix(rundir.join(file))),
            Some(("ptcp", rest)) => {
                let (port, host) = rest.split_once(':').unwrap_or((rest, "0.0.0.0"));
                let port = if port.is_empty() {
                    default_port
                } else {
                    port.parse().map_err(|_| format!("{text}: bad port"))?
                };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let ip = host.parse().map_err(|_| format!("{text}: '{host}' is not an IP address"))?;
                Ok(Target::Tcp(SocketAddr::new(ip, port)))
            }
            Some(("pssl", _)) => Err(format!("{text}: SSL/TLS is not supported")),
            _ => Err(format!("{text}: not a passive target (punix:FILE or ptcp:[PORT][:HOST])")),
        }
    }
}

fn address(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    let bad = || format!("tcp:{text}: not an IP address with an optional port");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let host = text.trim_start_matches('[').trim_end_matches(']');
    host.parse().map(|ip| SocketAddr::new(ip, default_port)).map_err(|_| bad())
}

/// New connections.
#[derive(Debug)]
pub struct Accepted {
    /// They.
    pub streams: Vec<Stream>,
    /// Why there may be more that could not be had, such as a want of descriptors.
    pub error: Option<io::Error>,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Unix.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens. A Unix socket gets these permissions; a stale one is replaced, a live one refused.
    ///
    /// # Errors
    /// The name is taken, or the system refuses.
    pub fn open(target: &Target, mode: u32) -> io::Result<Listener> {
        match target {
            Target::Unix(path) => {
                let listener = sys::unix_socket::listen(path, mode).map_err(io::Error::other)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(UnixListener::from_std(listener)))
            }
            Target::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(*address)?)),
        }
    }

    /// Whether it listens at this address.
    pub fn is_at(&self, target: &Target) -> bool {
        match (self, target) {
            (Listener::Unix(l), Target::Unix(path)) => {
                l.local_addr().is_ok_and(|a| a.as_pathname() == Some(path.as_path()))
            }
            (Listener::Tcp(l), Target::Tcp(address)) => l.local_addr().is_ok_and(|a| a == *address),
            _ => false,
        }
    }

    fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Listener::Unix(l) => Ok(Stream::Unix(l.accept()?.0)),
            Listener::Tcp(l) => Ok(Stream::Tcp(l.accept()?.0)),
        }
    }

    /// Takes every connection that waits.
    pub fn accept_all(&mut self) -> Accepted {
        let mut streams = Vec::new();
        loop {
            match self.accept() {
                Ok(stream) => streams.push(stream),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Accepted { streams, error: None },
                // A peer that gave up while it waited is no reason to keep the next one waiting.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => return Accepted { streams, error: Some(e) },
            }
        }
    }

    /// Registers with the loop.
    ///
    /// # Errors
    /// The system refuses.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Listener::Unix(l) => registry.register(l, token, Interest::READABLE),
            Listener::Tcp(l) => registry.register(l, token, Interest::READABLE),
        }
    }
}

/// What reading from a connection came to.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// These many bytes were appended; there may be more.
    Bytes(usize),
    /// Nothing is there now.
    Nothing,
    /// The peer has closed, or the connection has failed with this text.
    Closed(Option<String>),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Whether there may be something to read.
    pub readable: bool,
    /// Whether writing may succeed.
    pub writable: bool,
}

impl Connection {
    /// Registers a stream with the loop.
    ///
    /// # Errors
    /// The system refuses.
    pub fn register(mut stream: Stream, registry: &Registry, token: Token) -> io::Result<Connection> {
        registry.register(stream.source(), token, Interest::READABLE | Interest::WRITABLE)?;
        // What arrived before it was registered is found by trying.
        Ok(Connection { stream, readable: true, writable: true })
    }

    /// Reads at most [`READ_MAX`] bytes.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> ReadResult {
        buffer.resize(READ_MAX, 0);
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return ReadResult::Closed(None),
                Ok(n) => {
                    buffer.truncate(n);
                    return ReadResult::Bytes(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return ReadResult::Nothing;
                }
                Err(e) => return ReadResult::Closed(Some(reason(&e))),
            }
        }
    }

    /// Writes what it takes; how many bytes it took.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|r| !r.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    /// Takes it off the loop.
    pub fn deregister(&mut self, registry: &Registry) {
        // It is closed next, which takes it off in any case.
        let _ = registry.deregister(self.stream.source());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let run = Path::new("/run/x");
        let active = |t| Target::active(t, run, 6653);
        assert_eq!(active("unix:db.sock"), Ok(Target::Unix("/run/x/db.sock".into())));
        assert_eq!(active("unix:/a/b"), Ok(Target::Unix("/a/b".into())));
        assert_eq!(active("tcp:127.0.0.1"), Ok(Target::Tcp(([127, 0, 0, 1], 6653).into())));
        assert_eq!(active("tcp:[::1]:80"), Ok(Target::Tcp("[::1]:80".parse().expect("address"))));
        assert_eq!(active("tcp:[::1]"), Ok(Target::Tcp("[::1]:6653".parse().expect("address"))));
        for bad in ["", "unix:", "tcp:host", "ssl:1.2.3.4", "udp:1.2.3.4", "tcp:1.2.3.4:99999"] {
            assert!(active(bad).is_err(), "{bad}");
        }
        let passive = |t| Target::passive(t, run, 6640);
        assert_eq!(passive("ptcp:"), Ok(Target::Tcp(([0, 0, 0, 0], 6640).into())));
        assert_eq!(passive("ptcp:7000:127.0.0.1"), Ok(Target::Tcp(([127, 0, 0, 1], 7000).into())));
        assert_eq!(passive("punix:x"), Ok(Target::Unix("/run/x/x".into())));
        assert!(passive("ptcp:x").is_err() && passive("tcp:1.2.3.4").is_err());
    }
}
