//! The process as the system sees it: becoming a daemon, the pid file, limits, and what it uses.
//!
//! Signals are in [`crate::signal`], control sockets in [`crate::unix_socket`].

mod detach;
mod pid_file;

use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::sockopt::check;

pub use detach::{DetachError, Readiness, WorkDirectory, detach};
pub use pid_file::{PidFile, PidFileError, lock_holder};

/// What this process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// Memory in use now, in bytes (resident set).
    pub resident: u64,
    /// The most memory ever in use, in bytes.
    pub resident_max: u64,
    /// Address space, in bytes.
    pub virtual_size: u64,
}

/// What this process has used so far.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn usage() -> io::Result<Usage> {
    let mut record = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills in one `struct rusage`, which consists of integers.
    let record = unsafe {
        check(libc::getrusage(libc::RUSAGE_SELF, record.as_mut_ptr()))?;
        record.assume_init()
    };
    // proc(5): total program size and resident set size, both in pages.
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut pages = statm.split_ascii_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
    let virtual_size = pages.next().unwrap_or(0).saturating_mul(page);
    let resident = pages.next().unwrap_or(0).saturating_mul(page);
    Ok(Usage {
        user: duration(record.ru_utime),
        system: duration(record.ru_stime),
        resident,
        // The kernel brings its maximum up to date only now and then.
        resident_max: u64::try_from(record.ru_maxrss).unwrap_or(0).saturating_mul(1024).max(resident),
        virtual_size,
    })
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_usec).unwrap_or(0).saturating_mul(1000))
}

/// In what the kernel counts in `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockTicks {
    /// Ticks of a second.
    pub per_second: u64,
    /// Bytes of a page.
    pub page_size: u64,
}

impl ClockTicks {
    /// Those of this machine.
    pub fn of_kernel() -> ClockTicks {
        ClockTicks {
            per_second: rustix::param::clock_ticks_per_second().max(1),
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        }
    }

    /// Milliseconds of so many ticks.
    pub fn millis(self, ticks: u64) -> u64 {
        ticks.saturating_mul(1_000) / self.per_second
    }
}

/// The size of the file system at a path and what of it is in use, in KiB. May take long.
///
/// # Errors
/// What the kernel refused.
pub fn file_system_size(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    let kib = |blocks: u64| {
        (u128::from(blocks) * u128::from(found.f_frsize) / 1_024).try_into().unwrap_or(u64::MAX)
    };
    let total = kib(found.f_blocks);
    Ok((total, total.saturating_sub(kib(found.f_bfree))))
}

/// Allows this process at least `wanted` open files if the system does, else as many as it does. Returns the new limit.
///
/// # Errors
/// None that a correct kernel gives.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let now = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(now.current) {
        return Ok(now.current.unwrap_or(u64::MAX));
    }
    let maximum = if enough(now.maximum) { now.maximum } else { Some(wanted) };
    let raised = Rlimit { current: Some(wanted), maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(wanted);
    }
    setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })?;
    Ok(now.maximum.unwrap_or(u64::MAX))
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// `InvalidInput` if there is no such processor, or this process may not use it.
pub fn pin_thread(processor: usize) -> io::Result<()> {
    if processor >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

/// The name of this machine.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The kernel's name, such as `Linux`.
pub fn kernel_name() -> String {
    rustix::system::uname().sysname().to_string_lossy().into_owned()
}

/// The kernel's release, such as `6.1.0-18-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(program: &str, argument: &str) -> String {
        let output = std::process::Command::new(program).arg(argument).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn names_are_those_of_uname() {
        assert_eq!(hostname(), command("uname", "-n"));
        assert_eq!(kernel_name(), command("uname", "-s"));
        assert_eq!(kernel_release(), command("uname", "-r"));
    }

    #[test]
    fn usage_follows_what_is_used() {
        let before = usage().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = usage().unwrap();
        assert!(after.resident > 64 << 20 && after.resident_max >= after.resident);
        assert!(after.virtual_size >= after.resident);
        assert!(after.user + after.system >= before.user + before.system);
        drop(block);
    }

    #[test]
    fn open_files_rise_and_never_fall() {
        let first = raise_open_files(0).unwrap();
        assert!(first > 0);
        assert!(raise_open_files(first + 1).unwrap() >= first);
    }

    #[test]
    fn thread_stays_where_it_is_pinned() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin_thread(0).unwrap();
                assert_eq!(rustix::thread::sched_getcpu(), 0);
                assert!(pin_thread(1_000_000).is_err());
            });
        });
    }
}
