//! A Unix socket to the daemon with a deadline on everything, and errors that name the socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::clock::{Deadline, TimedOut};

/// The socket could not be reached: not there, nobody listens, or no right to it.
#[derive(Debug)]
pub struct Unreachable {
    /// What was to be spoken to, such as "the database".
    pub what: String,
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub error: std::io::Error,
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hint = match self.error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                "; is vswitchd running with this run directory?"
            }
            ErrorKind::PermissionDenied => "; it belongs to another user",
            _ => "",
        };
        // The number of the error says nothing that its name does not.
        let text = self.error.to_string();
        let text = text.split(" (os error").next().unwrap_or(&text);
        write!(f, "cannot reach {} at {}: {text}{hint}", self.what, self.path.display())
    }
}

impl std::error::Error for Unreachable {}

impl Unreachable {
    /// Whether there is no such socket.
    pub fn is_missing(&self) -> bool {
        self.error.kind() == ErrorKind::NotFound
    }
}

/// An open socket.
pub struct Link {
    stream: UnixStream,
    what: String,
    path: PathBuf,
    deadline: Deadline,
}

impl Link {
    /// Opens the socket at `path`; `what` names the other end in errors.
    ///
    /// # Errors
    /// [`Unreachable`] or [`TimedOut`].
    pub fn open(path: &Path, what: &str, deadline: Deadline) -> anyhow::Result<Link> {
        let name =
            |error: std::io::Error| Unreachable { what: what.to_owned(), path: path.to_owned(), error };
        let address = SocketAddrUnix::new(path).map_err(|e| name(e.into()))?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| name(e.into()))?;
        // The time-out for sending also bounds connect(2) when the other end's backlog is full (unix(7)).
        set_socket_timeout(&socket, Timeout::Send, deadline.remaining()?).map_err(|e| name(e.into()))?;
        connect(&socket, &address).map_err(|errno| match errno {
            rustix::io::Errno::AGAIN => {
                anyhow!("{what} at {} takes no connections: it hangs", path.display())
            }
            errno => name(errno.into()).into(),
        })?;
        Ok(Link { stream: UnixStream::from(socket), what: what.to_owned(), path: path.to_owned(), deadline })
    }

    /// The deadline, to renew it.
    pub fn deadline_mut(&mut self) -> &mut Deadline {
        &mut self.deadline
    }

    /// The deadline.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// "the database at /run/…", for errors.
    pub fn describe(&self) -> String {
        format!("{} at {}", self.what, self.path.display())
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When the other end is gone or takes nothing until the deadline.
    pub fn write(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let left = self.deadline.remaining().with_context(|| self.describe())?;
            self.stream.set_write_timeout(left).with_context(|| self.describe())?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(e) if is_transient(e.kind()) => {}
                Err(e) if is_gone(e.kind()) => return Err(self.gone()),
                Err(e) => return Err(anyhow!(e).context(self.describe())),
            }
        }
        Ok(())
    }

    /// Reads what is there, waiting for at least a byte.
    ///
    /// # Errors
    /// When the other end is gone or silent until the deadline.
    pub fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        loop {
            let left = self.deadline.remaining().with_context(|| self.describe())?;
            self.stream.set_read_timeout(left).with_context(|| self.describe())?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(self.gone()),
                Ok(count) => return Ok(count),
                Err(e) if is_transient(e.kind()) => {}
                Err(e) if is_gone(e.kind()) => return Err(self.gone()),
                Err(e) => return Err(anyhow!(e).context(self.describe())),
            }
        }
    }

    fn gone(&self) -> anyhow::Error {
        anyhow!("{} closed the connection", self.describe())
    }
}

fn is_transient(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Whether an error is that of a time that ran out.
pub fn timed_out(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<TimedOut>())
}
