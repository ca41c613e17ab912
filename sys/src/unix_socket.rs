//! Listening Unix sockets for control: made with their final mode, in place of a dead one but never of a live one.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The longest path that fits into a socket address.
const ADDRESS_LENGTH_MAX: usize = 107;

/// Why a control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// Somebody listens there.
    #[error("{}: another process is listening on this socket", .0.display())]
    Live(PathBuf),
    /// Something that is not a socket has the name.
    #[error("{}: exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// A path without a file name.
    #[error("{}: not a path for a socket", .0.display())]
    Path(PathBuf),
    /// The kernel refused.
    #[error("{operation} {}: {source}", path.display())]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On which socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Who is at the other end of a connection, as of the moment it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process number.
    pub pid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// Listens on `path`, non-blocking, with the permission bits `mode` from the first moment on. A socket left there by a process
/// that has died is replaced.
///
/// # Errors
/// [`UnixSocketError::Live`] if a process listens there, or what the kernel refused.
pub fn listen(path: &Path, mode: u32) -> Result<UnixListener, UnixSocketError> {
    let refused = |operation, source: Errno| refused(operation, path, source.into());
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| refused("socket", error))?;
    // bind() gives the file the mode of the socket, less the umask: so it is never more open than wanted, without touching
    // the umask, which belongs to all threads.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode)).map_err(|error| refused("fchmod", error))?;
    with_address(path, |address| match rustix::net::bind(&socket, address) {
        Err(Errno::ADDRINUSE) => Err(UnixSocketError::Live(path.to_owned())),
        bound => bound.map_err(|error| refused("bind", error)),
    })?;
    // What the umask took away comes back here.
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| self::refused("chmod", path, error))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|error| refused("listen", error))?;
    Ok(UnixListener::from(socket))
}

/// Connects to `path`, which may be longer than a socket address can be; the stream is blocking.
///
/// # Errors
/// [`UnixSocketError::Refused`].
pub fn connect(path: &Path) -> Result<UnixStream, UnixSocketError> {
    let stream =
        try_connect(path, SocketFlags::CLOEXEC)?.map_err(|error| refused("connect", path, error.into()))?;
    Ok(UnixStream::from(stream))
}

/// Removes the socket at `path` if it is the one that `listener` was bound to; for an orderly end.
///
/// # Errors
/// [`UnixSocketError::Refused`]; a missing file is no error.
pub fn remove(path: &Path) -> Result<(), UnixSocketError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused("remove", path, error)),
        _ => Ok(()),
    }
}

/// Who connected.
///
/// # Errors
/// Only for what is not a Unix stream.
pub fn peer_credentials(stream: impl AsFd) -> io::Result<PeerCredentials> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(PeerCredentials {
        pid: peer.pid.as_raw_nonzero().get(),
        uid: peer.uid.as_raw(),
        gid: peer.gid.as_raw(),
    })
}

fn remove_stale(path: &Path) -> Result<(), UnixSocketError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused("stat", path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(UnixSocketError::NotASocket(path.to_owned()));
    }
    // Non-blocking: a listener with a full backlog answers EAGAIN, and lives.
    match try_connect(path, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)? {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::PROTOTYPE | Errno::AGAIN) | Ok(_) => return Err(UnixSocketError::Live(path.to_owned())),
        Err(error) => return Err(refused("connect", path, error.into())),
    }
    // Between the question and the answer another process may have put its own there.
    match std::fs::symlink_metadata(path) {
        Ok(now) if (now.dev(), now.ino()) != (metadata.dev(), metadata.ino()) => {
            Err(UnixSocketError::Live(path.to_owned()))
        }
        _ => remove(path),
    }
}

fn try_connect(path: &Path, flags: SocketFlags) -> Result<Result<OwnedFd, Errno>, UnixSocketError> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| refused("socket", path, error.into()))?;
    with_address(path, |address| Ok(rustix::net::connect(&socket, address)))
        .map(|connected| connected.map(|()| socket))
}

/// Calls `work` with an address for `path`; a path that is too long is reached through a descriptor of its directory.
fn with_address<T>(
    path: &Path,
    work: impl FnOnce(&SocketAddrUnix) -> Result<T, UnixSocketError>,
) -> Result<T, UnixSocketError> {
    let unfit = |_| UnixSocketError::Path(path.to_owned());
    if path.as_os_str().len() <= ADDRESS_LENGTH_MAX {
        return work(&SocketAddrUnix::new(path).map_err(unfit)?);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(UnixSocketError::Path(path.to_owned()));
    };
    let directory = File::open(directory).map_err(|error| refused("open directory of", path, error))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    work(&SocketAddrUnix::new(&short).map_err(unfit)?)
}

fn refused(operation: &'static str, path: &Path, source: io::Error) -> UnixSocketError {
    UnixSocketError::Refused { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::{TempDirectory, in_a_moment};
    use std::io::{Read, Write};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn has_its_mode_and_serves() {
        let directory = TempDirectory::new();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        for (directory, name, wanted) in [
            (directory.path(), "private", 0o600),
            (directory.path(), "shared", 0o770),
            (&deep, "deep", 0o600),
        ] {
            let path = directory.join(name);
            let listener = listen(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            let mut client = connect(&path).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(b"hello").unwrap();
            let mut bytes = [0; 5];
            server.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
            let peer = peer_credentials(&server).unwrap();
            assert_eq!(u32::try_from(peer.pid).unwrap(), std::process::id());
            assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        }
    }

    #[test]
    fn replaces_a_dead_socket_but_no_live_one() {
        let directory = TempDirectory::new();
        let path = directory.path().join("sock");
        let first = listen(&path, 0o600).unwrap();
        assert!(matches!(listen(&path, 0o600), Err(UnixSocketError::Live(_))));
        // The refusal must not have hurt the live one.
        connect(&path).unwrap();
        drop(first);
        assert!(path.exists());
        in_a_moment(|| listen(&path, 0o600)).unwrap();
    }

    #[test]
    fn full_backlog_is_alive() {
        let directory = TempDirectory::new();
        let path = directory.path().join("sock");
        let _listener = listen(&path, 0o600).unwrap();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut waiting = Vec::new();
        while let Ok(stream) = try_connect(&path, flags).unwrap() {
            waiting.push(stream);
        }
        assert!(matches!(listen(&path, 0o600), Err(UnixSocketError::Live(_))));
    }

    #[test]
    fn plain_file_is_left_alone() {
        let directory = TempDirectory::new();
        let path = directory.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(listen(&path, 0o600), Err(UnixSocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        let missing = directory.path().join("no/such/directory/sock");
        assert!(matches!(listen(&missing, 0o600), Err(UnixSocketError::Refused { .. })));
    }
}
