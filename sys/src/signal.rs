//! Signals as something to read: blocked everywhere, delivered through a file descriptor to the main loop.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

use crate::sockopt::check;

/// A signal that a daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonSignal {
    /// SIGTERM: end.
    Terminate,
    /// SIGINT: end (somebody pressed Ctrl-C).
    Interrupt,
    /// SIGHUP: the terminal is gone, or: open the log file anew.
    HangUp,
}

impl DaemonSignal {
    const ALL: [Self; 3] = [Self::Terminate, Self::Interrupt, Self::HangUp];

    /// Its number.
    pub fn number(self) -> i32 {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::HangUp => libc::SIGHUP,
        }
    }
}

/// A non-blocking file descriptor from which all [`DaemonSignal`]s are read.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the signals in the calling thread and in those it will start, and opens the descriptor.
    ///
    /// Call it before any thread is started: a thread that does not block a signal is killed by it with the whole process.
    ///
    /// # Errors
    /// When out of file descriptors.
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set, `sigaddset` then adds valid signal numbers to it, and neither keeps the
        // pointer.
        let set = unsafe {
            check(libc::sigemptyset(set.as_mut_ptr()))?;
            for signal in DaemonSignal::ALL {
                check(libc::sigaddset(set.as_mut_ptr(), signal.number()))?;
            }
            set.assume_init()
        };
        // SAFETY: both calls only read the initialised `set`; the old mask is not asked for.
        let fd = unsafe {
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            check(libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?
        };
        // SAFETY: the kernel has just made `fd` for us, and nobody else knows it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next signal that has arrived, if any.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn read(&mut self) -> io::Result<Option<DaemonSignal>> {
        let mut record = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let length = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `record` is writable for `length` bytes.
        let result = unsafe { libc::read(self.fd.as_raw_fd(), record.as_mut_ptr().cast(), length) };
        match crate::sockopt::check_count(result) {
            Ok(count) if count == length => {}
            Ok(_) => return Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        // SAFETY: the kernel wrote all of `record`, and any bytes are a value of it.
        let number = unsafe { record.assume_init() }.ssi_signo;
        Ok(DaemonSignal::ALL.into_iter().find(|signal| c_int::try_from(number) == Ok(signal.number())))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
