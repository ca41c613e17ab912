//! The clock, and the time that a busy thread really had: a figure should stay right when something else wanted the core.

#![allow(clippy::disallowed_methods, reason = "measuring is this program's business")]

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time.
pub fn now() -> Instant {
    Instant::now()
}

/// Does nothing for a while.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Where the times of a thread are that never sleeps of its own accord.
#[derive(Clone, Debug)]
pub struct ThreadClock(PathBuf);

/// A moment in the life of such a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadTime {
    /// When.
    pub at: Instant,
    /// How long it had been ready to run, while something else had the processor.
    pub waited: Duration,
}

impl ThreadTime {
    /// Time on a processor since `before`.
    pub fn ran_since(self, before: ThreadTime) -> Duration {
        (self.at - before.at).saturating_sub(self.waited.saturating_sub(before.waited))
    }

    /// The part of the time since `before` that it had to wait, 0 to 1.
    pub fn waiting_since(self, before: ThreadTime) -> f64 {
        let all = (self.at - before.at).as_secs_f64();
        if all > 0.0 { self.waited.saturating_sub(before.waited).as_secs_f64() / all } else { 0.0 }
    }
}

impl ThreadClock {
    /// Of the thread that will ask.
    pub fn own() -> ThreadClock {
        ThreadClock("/proc/thread-self/schedstat".into())
    }

    /// Of the thread of a process whose name starts with `name`.
    ///
    /// # Errors
    /// If there is none, or `/proc` cannot be read.
    pub fn of_thread(process: u32, name: &str) -> Result<ThreadClock> {
        let tasks = format!("/proc/{process}/task");
        for task in std::fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name)) {
                return Ok(ThreadClock(task.join("schedstat")));
            }
        }
        anyhow::bail!("process {process} has no thread {name}")
    }

    /// Reads it.
    ///
    /// # Errors
    /// If the thread is gone, or the kernel has no such file (`CONFIG_SCHED_INFO`).
    pub fn read(&self) -> Result<ThreadTime> {
        let text = std::fs::read_to_string(&self.0).with_context(|| self.0.display().to_string())?;
        Ok(ThreadTime { at: now(), waited: waited(&self.0, &text)? })
    }
}

/// The second of three numbers: time on the processor, time waiting for it, turns (Linux,
/// Documentation/scheduler/sched-stats.rst). The first is brought up to date only at ticks, the second is exact.
fn waited(path: &Path, text: &str) -> Result<Duration> {
    let number = text.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok());
    Ok(Duration::from_nanos(number.with_context(|| format!("{}: {text:?}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_taken_off() {
        let path = Path::new("x");
        let waits = waited(path, "3000000000 1000000000 17\n").unwrap();
        assert_eq!(waits.as_secs(), 1);
        assert!(waited(path, "").is_err() && waited(path, "1 x").is_err());
        let start = ThreadTime { at: now(), waited: waits };
        let end = ThreadTime { at: start.at + Duration::from_secs(4), waited: waits * 2 };
        assert_eq!(end.ran_since(start), Duration::from_secs(3));
        assert!((end.waiting_since(start) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn own_clock_is_there() {
        let clock = ThreadClock::own();
        let before = clock.read().unwrap();
        assert!(clock.read().unwrap().ran_since(before) < Duration::from_secs(60));
    }
}
