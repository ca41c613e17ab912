//! Time that a thread spent on a processor, so that a figure stays right when something else wanted the same core.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a thread's times are.
#[derive(Clone, Debug)]
pub struct ThreadClock(PathBuf);

/// What a thread had used and waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ThreadTime {
    /// On a processor.
    pub ran: Duration,
    /// Ready to run, while something else had the processor.
    pub waited: Duration,
}

impl ThreadTime {
    /// What was added since `before`.
    pub fn since(self, before: ThreadTime) -> ThreadTime {
        ThreadTime {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }

    /// The part of its time that it had to wait, 0 to 1.
    pub fn waiting(self) -> f64 {
        let all = (self.ran + self.waited).as_secs_f64();
        if all > 0.0 { self.waited.as_secs_f64() / all } else { 0.0 }
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

    /// Reads it. The kernel brings it up to date at each of its ticks, so windows should be a hundred times as long.
    ///
    /// # Errors
    /// If the thread is gone, or the kernel has no such file (`CONFIG_SCHED_INFO`).
    pub fn read(&self) -> Result<ThreadTime> {
        parse(&self.0, &std::fs::read_to_string(&self.0).with_context(|| self.0.display().to_string())?)
    }
}

/// Two numbers of nanoseconds and one of turns (Documentation/scheduler/sched-stats.rst).
fn parse(path: &Path, text: &str) -> Result<ThreadTime> {
    let mut numbers = text.split_ascii_whitespace().map_while(|n| n.parse().ok()).map(Duration::from_nanos);
    match (numbers.next(), numbers.next()) {
        (Some(ran), Some(waited)) => Ok(ThreadTime { ran, waited }),
        _ => anyhow::bail!("{}: {text:?}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let path = Path::new("x");
        let time = parse(path, "3000000000 1000000000 17\n").unwrap();
        assert_eq!((time.ran.as_secs(), time.waited.as_secs()), (3, 1));
        assert!((time.waiting() - 0.25).abs() < 1e-9);
        assert!(parse(path, "").is_err() && parse(path, "1 x").is_err());
    }

    #[test]
    fn own_time_passes() {
        let clock = ThreadClock::own();
        let before = clock.read().unwrap();
        let mut sum = 0u64;
        while clock.read().unwrap().since(before).ran < Duration::from_millis(20) {
            sum = (0..100_000).fold(sum, |a: u64, n| std::hint::black_box(a.wrapping_mul(31) ^ n));
        }
        assert!(std::hint::black_box(sum) != 1);
    }
}
