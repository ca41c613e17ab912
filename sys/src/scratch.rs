//! For this crate's tests: a network namespace that goes away with its value, names nobody else uses, and patience.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::interface::IfName;
use crate::netns::{Netns, run_in};
use crate::poll::Poller;

/// An unnamed namespace; everything in it goes when this is dropped.
pub(crate) struct Scratch {
    netns: Netns,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { netns: Netns::new_unnamed().expect("tests need CAP_SYS_ADMIN") }
    }

    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        run_in(&self.netns, work).expect("the test's work in the namespace panicked")
    }
}

/// A name of at most 15 bytes, unlike any other of this and other running test processes.
pub(crate) fn unique_text(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:x}-{number:x}", std::process::id())
}

/// The same as an interface name.
pub(crate) fn unique(prefix: &str) -> IfName {
    IfName::new(&unique_text(prefix)).expect("short prefixes make valid names")
}

/// Tries for ten seconds. A child that another test is just starting holds a copy of every descriptor until it executes its
/// program, so that what was dropped may be in use a moment longer.
pub(crate) fn in_a_moment<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut poller = Poller::new().expect("epoll");
    for _ in 0..1_000 {
        if let Ok(done) = attempt() {
            return Ok(done);
        }
        poller.wait(Some(Duration::from_millis(10)), &mut Vec::new()).expect("a nap");
    }
    attempt()
}

/// A directory that is removed with all its contents when this is dropped.
pub(crate) struct TempDirectory(std::path::PathBuf);

impl TempDirectory {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(unique_text("sys-test-"));
        std::fs::create_dir_all(&path).expect("temporary directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
