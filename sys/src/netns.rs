//! Network namespaces: opening, entering for the length of a closure, and the named ones that `ip netns` lists.
//!
//! A thread of ours never changes its own namespace: work inside another one is done by [`run_in`] on a thread that ends
//! with it. Sockets and devices opened there stay with that namespace and can be used from any thread afterwards.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Where named namespaces are kept, shared with `ip netns`.
pub const NAMED_DIRECTORY: &str = "/run/netns";

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Why a namespace could not be made, opened or entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A name that cannot be a file name.
    #[error("{0:?} is not a name for a network namespace")]
    Name(String),
    /// There is no namespace of this name or at this path.
    #[error("{}: no such network namespace", .0.display())]
    Missing(PathBuf),
    /// The name is taken.
    #[error("{}: the network namespace exists already", .0.display())]
    Exists(PathBuf),
    /// The file exists and is no network namespace.
    #[error("{}: is not a network namespace", .0.display())]
    NotANamespace(PathBuf),
    /// Another namespace than the caller's may not be entered.
    #[error("not permitted to enter another network namespace (CAP_SYS_ADMIN is needed)")]
    NotPermitted,
    /// The kernel refused; `CAP_SYS_ADMIN` is needed for nearly everything here.
    #[error("{operation} {}: {source}", path.display())]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that was to enter the namespace could not be started, or died.
    #[error("cannot work in the network namespace: {0}")]
    Thread(io::Error),
}

/// A network namespace, kept alive for as long as this value lives. Two are equal if they are the same namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
}

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetnsError`] when `/proc` is not mounted.
    pub fn current() -> Result<Self, NetnsError> {
        Self::by_path(Path::new(OWN_NAMESPACE))
    }

    /// The namespace that a file stands for: a bind mount, or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::Missing`] and [`NetnsError::NotANamespace`], or what the kernel refused.
    pub fn by_path(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|error| refused("open", path, error))?;
        // A file on the namespace file system is one; its kind shows when somebody tries to enter it.
        let kind = rustix::fs::fstatfs(&file).map_err(|error| refused("statfs", path, error.into()))?.f_type;
        if kind != libc::NSFS_MAGIC {
            return Err(NetnsError::NotANamespace(path.to_owned()));
        }
        Ok(Self { fd: file.into() })
    }

    /// The namespace that `ip netns` knows as `name`.
    ///
    /// # Errors
    /// As [`Netns::by_path`], and [`NetnsError::Name`].
    pub fn by_name(name: &str) -> Result<Self, NetnsError> {
        Self::by_path(&path_of(name)?)
    }

    /// The namespace that `text` means to a user: a path if it has a slash, else a name.
    ///
    /// # Errors
    /// As [`Netns::by_name`].
    pub fn find(text: &str) -> Result<Self, NetnsError> {
        if text.contains('/') { Self::by_path(Path::new(text)) } else { Self::by_name(text) }
    }

    /// A new namespace without a name; it ends when the last of its users does.
    ///
    /// # Errors
    /// [`NetnsError::Refused`] without `CAP_SYS_ADMIN`.
    pub fn new_unnamed() -> Result<Self, NetnsError> {
        on_thread(|| {
            unshare_network()?;
            Self::current()
        })?
    }

    /// Device and inode number, which together identify a namespace as long as it lives.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = File::from(self.fd.try_clone()?).metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.identity(), other.identity()), (Ok(a), Ok(b)) if a == b)
    }
}

impl From<OwnedFd> for Netns {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a namespace under the name that `ip netns` will list, with nothing in it but a loopback device that is down.
///
/// # Errors
/// [`NetnsError::Exists`], [`NetnsError::Name`], or what the kernel refused. Nothing is left behind then.
pub fn create_named(name: &str) -> Result<Netns, NetnsError> {
    let path = path_of(name)?;
    prepare_directory()?;
    // The file is only a place to mount on.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&path)
        .map_err(|error| refused("create", &path, error))?;
    let bound = on_thread(|| {
        unshare_network()?;
        mount_bind(OWN_NAMESPACE, &path).map_err(|error| refused("mount", &path, error.into()))
    });
    match bound.and_then(|result| result) {
        Ok(()) => Netns::by_path(&path),
        Err(error) => {
            // What matters to the caller is why it failed, not whether the empty file could be removed.
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

/// Takes the name from a namespace. It ends when nothing else (a process, an open file) uses it.
///
/// # Errors
/// [`NetnsError::Missing`], or what the kernel refused.
pub fn delete_named(name: &str) -> Result<(), NetnsError> {
    let path = path_of(name)?;
    match unmount(&path, UnmountFlags::DETACH) {
        // A file with nothing mounted on it is what a crash between creation and mount leaves.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(refused("unmount", &path, error.into())),
    }
    std::fs::remove_file(&path).map_err(|error| refused("remove", &path, error))
}

/// Runs `work` on a thread of its own inside `netns` and waits for it. Where the caller is in it already, that needs no
/// capability; anywhere else it takes `CAP_SYS_ADMIN`.
///
/// # Errors
/// [`NetnsError`] if the namespace cannot be entered; `work` has not run then. Also if `work` panicked.
pub fn run_in<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    on_thread(|| {
        // A thread starts in the namespace of the one that starts it.
        if *netns != Netns::current()? {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(entering)?;
        }
        Ok(work())
    })?
}

fn entering(error: Errno) -> NetnsError {
    match error {
        Errno::PERM => NetnsError::NotPermitted,
        error => refused("enter", Path::new("network namespace"), error.into()),
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(NetnsError::Thread)?;
        thread.join().map_err(|_| NetnsError::Thread(io::Error::other("its thread panicked")))
    })
}

fn unshare_network() -> Result<(), NetnsError> {
    // SAFETY: leaving the network namespace has no bearing on memory safety; rustix marks `unshare` unsafe because of
    // CLONE_FILES, which would change what file descriptors mean.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| refused("unshare", Path::new(OWN_NAMESPACE), error.into()))
}

fn path_of(name: &str) -> Result<PathBuf, NetnsError> {
    let plain = !name.is_empty() && name != "." && name != ".." && name.len() <= 255;
    if !plain || name.bytes().any(|byte| byte == b'/' || byte == 0) {
        return Err(NetnsError::Name(name.to_owned()));
    }
    Ok(Path::new(NAMED_DIRECTORY).join(name))
}

// The directory must be a shared mount, or namespaces deleted here live on in other mount namespaces. The lock keeps
// two processes from stacking mounts on it; `ip netns` takes the same one.
fn prepare_directory() -> Result<(), NetnsError> {
    let directory = Path::new(NAMED_DIRECTORY);
    let failed = |operation, error| refused(operation, directory, error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(|error| failed("create", error))?;
    let lock = File::open(directory).map_err(|error| failed("open", error))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed("lock", error.into()))?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(directory, shared) {
        Ok(()) => Ok(()),
        // Not a mount point yet: make it one.
        Err(Errno::INVAL) => {
            mount_bind_recursive(directory, directory).map_err(|error| failed("mount", error.into()))?;
            mount_change(directory, shared).map_err(|error| failed("share", error.into()))
        }
        Err(error) => Err(failed("share", error.into())),
    }
}

fn refused(operation: &'static str, path: &Path, source: io::Error) -> NetnsError {
    match source.kind() {
        io::ErrorKind::NotFound => NetnsError::Missing(path.to_owned()),
        io::ErrorKind::AlreadyExists => NetnsError::Exists(path.to_owned()),
        _ => NetnsError::Refused { operation, path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::unique_text;

    struct Named(String);
    impl Drop for Named {
        fn drop(&mut self) {
            let _ = delete_named(&self.0);
        }
    }

    #[test]
    fn named_namespace_lives_from_create_to_delete() {
        let name = Named(unique_text("ns"));
        let made = create_named(&name.0).unwrap();
        assert_ne!(made, Netns::current().unwrap());
        assert_eq!(made, Netns::by_name(&name.0).unwrap());
        assert_eq!(made, Netns::find(&format!("{NAMED_DIRECTORY}/{}", name.0)).unwrap());
        assert!(matches!(create_named(&name.0), Err(NetnsError::Exists(_))));
        // The outside check: ip(8) sees it too.
        let listed = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
        assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.starts_with(&name.0)));
        delete_named(&name.0).unwrap();
        assert!(matches!(Netns::by_name(&name.0), Err(NetnsError::Missing(_))));
        assert!(matches!(delete_named(&name.0), Err(NetnsError::Missing(_))));
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let outside = Netns::current().unwrap();
        let other = Netns::new_unnamed().unwrap();
        assert_eq!(run_in(&other, || Netns::current().unwrap()).unwrap(), other);
        assert_eq!(Netns::current().unwrap(), outside);
    }

    #[test]
    fn panic_inside_is_an_error_outside() {
        let other = Netns::new_unnamed().unwrap();
        assert!(matches!(run_in(&other, || panic!("on purpose")), Err(NetnsError::Thread(_))));
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            assert!(matches!(create_named(name), Err(NetnsError::Name(_))), "{name:?}");
        }
        assert!(matches!(Netns::by_path(Path::new("/etc/passwd")), Err(NetnsError::NotANamespace(_))));
        assert!(matches!(Netns::by_name("no-such-namespace"), Err(NetnsError::Missing(_))));
    }
}
