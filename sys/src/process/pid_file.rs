//! The pid file: its contents name the daemon, and a record lock on it (`fcntl`, as ovs-appctl(8) and the OVS daemons use)
//! tells whether that daemon lives.
//!
//! Two rules of such locks bind the caller. They are not inherited by `fork`: make the file after [`super::detach`]. And closing
//! any descriptor of the file releases them: nobody in this process may open its own pid file; [`lock_holder`] is for those of
//! others.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// How often to begin anew when other processes make and remove the same file meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// Why the pid file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// A process holds the lock.
    #[error("{}: already running as pid {pid}", path.display())]
    AlreadyRunning {
        /// The file.
        path: PathBuf,
        /// Its holder.
        pid: i32,
    },
    /// The system refused.
    #[error("{}: {operation}: {error}", path.display())]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The pid file of this process, locked. Dropping it removes the file.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes the number of this process to `path`, in place of what a dead process left there.
    ///
    /// # Errors
    /// [`PidFileError::AlreadyRunning`] if a living process holds it.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        for _ in 0..ATTEMPTS_MAX {
            // The old file, locked, keeps all others who follow these rules out until ours is in its place.
            let old = match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(refused("open", path, error)),
            };
            if let Some(file) = &old {
                lock(file, path)?;
                if !is_at(file, path) {
                    continue;
                }
            }
            let place = if old.is_some() { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match install(path, place)? {
                Some(file) => return Ok(Self { path: path.to_owned(), file }),
                None => continue,
            }
        }
        Err(refused("create", path, io::Error::other("other processes keep replacing it")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Not if somebody has put another one there.
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The process that holds the lock on the pid file of another daemon; `None` if it is dead or was never there.
///
/// # Errors
/// What the system refused, other than that the file does not exist.
pub fn lock_holder(path: &Path) -> io::Result<Option<i32>> {
    match File::open(path) {
        Ok(file) => Ok(holder(&file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn holder(file: &File) -> Result<Option<i32>, Errno> {
    let found = fcntl_getlk(file, &Flock::from(FlockType::WriteLock))?;
    // A holder in another pid namespace has no number here.
    Ok(found.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get())))
}

fn lock(file: &File, path: &Path) -> Result<(), PidFileError> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS | Errno::AGAIN) => {
            let pid = holder(file).ok().flatten().unwrap_or(0);
            Err(PidFileError::AlreadyRunning { path: path.to_owned(), pid })
        }
        Err(error) => Err(refused("lock", path, error.into())),
    }
}

/// Makes a locked file with our number and puts it at `path`; `None` if another came first.
fn install(path: &Path, place: RenameFlags) -> Result<Option<File>, PidFileError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".tmp{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    // Only an earlier process of the same number can have left it.
    let _ = std::fs::remove_file(&temporary);
    let result = (|| {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)
            .map_err(|error| refused("create", &temporary, error))?;
        writeln!(file, "{}", std::process::id()).map_err(|error| refused("write", &temporary, error))?;
        lock(&file, &temporary)?;
        match rustix::fs::renameat_with(rustix::fs::CWD, &temporary, rustix::fs::CWD, path, place) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(refused("rename", path, error.into())),
        }
    })();
    if !matches!(result, Ok(Some(_))) {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn refused(operation: &'static str, path: &Path, source: io::Error) -> PidFileError {
    PidFileError::Refused { operation, path: path.to_owned(), error: source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::TempDirectory;

    #[test]
    fn names_this_process_and_goes_with_its_value() {
        let directory = TempDirectory::new();
        let path = directory.path().join("daemon.pid");
        assert_eq!(lock_holder(&path).unwrap(), None);
        let file = PidFile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn replaces_what_a_dead_process_left() {
        let directory = TempDirectory::new();
        let path = directory.path().join("daemon.pid");
        std::fs::write(&path, "1\n").unwrap();
        assert_eq!(lock_holder(&path).unwrap(), None);
        let _file = PidFile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn file_of_somebody_else_is_not_removed() {
        let directory = TempDirectory::new();
        let path = directory.path().join("daemon.pid");
        let file = PidFile::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn missing_directory_is_named() {
        let error = PidFile::create(Path::new("/no/such/directory/x.pid")).unwrap_err();
        assert!(error.to_string().contains("/no/such/directory/x.pid"), "{error}");
    }
}
