//! Going into the background as OVS's daemons do: one fork, and a parent that waits until the child has something to show.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, setsid, waitpid};

use crate::sockopt::check;

/// The longest last word of a failing child, in bytes.
const MESSAGE_LENGTH_MAX: u64 = 64 * 1024;

/// Why the process could not be detached. It is still the one it was.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Other threads run, which a fork would lose.
    #[error("cannot detach a process that has {0} threads")]
    Threads(usize),
    /// The system refused.
    #[error("cannot detach: {0}")]
    Refused(#[from] io::Error),
}

/// Whether the daemon keeps the directory it was started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkDirectory {
    /// Change to `/`, so that no file system is kept from being unmounted.
    Root,
    /// Stay (`--no-chdir`).
    Keep,
}

/// The child's side of [`detach`]: the way to say how its start went. Dropped without a word (a panic, an early return), the
/// parent waits for the child's end and passes its exit status on.
#[derive(Debug)]
#[must_use = "the parent waits until it is told that the daemon is ready"]
pub struct Readiness {
    pipe: Option<OwnedFd>,
}

impl Readiness {
    /// For a process that stays in the foreground: nobody waits, and its standard streams are kept.
    pub fn in_foreground() -> Self {
        Self { pipe: None }
    }

    /// Whether somebody waits.
    pub fn is_detached(&self) -> bool {
        self.pipe.is_some()
    }

    /// Lets the parent return with success. A detached process then leaves the terminal: its standard streams become
    /// `/dev/null`.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened, or the directory not changed; the parent has been released all the same.
    pub fn ready(self, directory: WorkDirectory) -> io::Result<()> {
        let Some(pipe) = self.pipe else { return Ok(()) };
        // A parent that was killed meanwhile is no reason to fail.
        let _ = std::fs::File::from(pipe).write_all(&[0]);
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        if directory == WorkDirectory::Root {
            std::env::set_current_dir("/")?;
        }
        Ok(())
    }

    /// Makes the parent print `message` and end with `status` (0 is taken as 1). In the foreground this only prints.
    pub fn fail(self, status: u8, message: &str) {
        match self.pipe {
            Some(pipe) => {
                let _ = std::fs::File::from(pipe).write_all(&[&[status.max(1)], message.as_bytes()].concat());
            }
            None => eprintln!("{message}"),
        }
    }
}

/// Forks. The parent never returns from this: it waits for the child's [`Readiness`] and ends. The child, leader of a session
/// of its own, goes on.
///
/// # Errors
/// [`DetachError`]; nothing has happened then.
pub fn detach() -> Result<Readiness, DetachError> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(DetachError::Threads(threads));
    }
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    // SAFETY: no other thread exists whose locks or half-done work the child could inherit, as just counted, and only this
    // thread could start one.
    let pid = check(unsafe { libc::fork() })?;
    match Pid::from_raw(pid) {
        Some(child) => {
            drop(writer);
            std::process::exit(await_child(child, reader));
        }
        None => {
            drop(reader);
            setsid().map_err(io::Error::from)?;
            Ok(Readiness { pipe: Some(writer) })
        }
    }
}

/// The exit status of the parent.
fn await_child(child: Pid, reader: OwnedFd) -> i32 {
    let mut word = Vec::new();
    let read = std::fs::File::from(reader).take(MESSAGE_LENGTH_MAX).read_to_end(&mut word);
    match (read, word.split_first()) {
        (_, Some((0, _))) => 0,
        (_, Some((&status, message))) => {
            eprintln!("{}", String::from_utf8_lossy(message));
            i32::from(status)
        }
        _ => {
            let died = "the daemon died before it was ready";
            match rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty())) {
                Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
                    (Some(status), _) => {
                        eprintln!("{died} (exit status {status})");
                        status.max(1)
                    }
                    (None, Some(signal)) => {
                        eprintln!("{died} (killed by signal {signal})");
                        128 + signal
                    }
                    (None, None) => 1,
                },
                _ => 1,
            }
        }
    }
}
