//! The clocks. With the time-outs that `poll` waits for, this is where real time enters the program: main loops read it
//! here once a turn and hand it on as a value.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now, on the monotonic clock (its origin is about the start of the machine, as `ovs-vswitchd`'s `time_msec` has it).
pub fn monotonic() -> base::Instant {
    let (seconds, nanoseconds) = parts(clock_gettime(ClockId::Monotonic));
    base::Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Milliseconds since 1970-01-01 00:00 UTC, for time stamps that people read.
pub fn wall_ms() -> u64 {
    let (seconds, nanoseconds) = parts(clock_gettime(ClockId::Realtime));
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// Time since 1970-01-01 00:00 UTC in full resolution, for capture files.
pub fn wall() -> Duration {
    let (seconds, nanoseconds) = parts(clock_gettime(ClockId::Realtime));
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
}

/// Processor time that this process has used so far, in user and kernel mode.
pub fn cpu_time() -> Duration {
    let (seconds, nanoseconds) = parts(clock_gettime(ClockId::ProcessCPUTime));
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
}

/// Processor time that the calling thread has used so far.
pub fn thread_cpu_time() -> Duration {
    let (seconds, nanoseconds) = parts(clock_gettime(ClockId::ThreadCPUTime));
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or(0))
}

/// Tells how long one thread has waited for a processor while it had something to do.
#[derive(Debug)]
pub struct RunDelay(Option<File>);

impl RunDelay {
    /// That of the calling thread, whoever asks later.
    pub fn of_this_thread() -> RunDelay {
        RunDelay(File::open("/proc/thread-self/schedstat").ok())
    }

    /// The sum so far; `None` where the kernel does not account for it. Costs a system call.
    pub fn read(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        run_delay_in(std::str::from_utf8(text.get(..length)?).ok()?)
    }
}

/// The second of the numbers of schedstat (Linux, Documentation/scheduler/sched-stats.rst).
fn run_delay_in(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

// A clock set before 1970 reads as 1970.
fn parts(time: Timespec) -> (u64, u64) {
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_shares_a_processor_waits_for_it() {
        // More threads than processors, each busy until it has waited.
        let count = 2 * std::thread::available_parallelism().unwrap().get();
        std::thread::scope(|scope| {
            for _ in 0..count {
                std::thread::Builder::new()
                    .spawn_scoped(scope, || {
                        let delay = RunDelay::of_this_thread();
                        let start = monotonic();
                        let before = delay.read().unwrap();
                        while delay.read().unwrap() < before + Duration::from_micros(100) {
                            assert!(monotonic().saturating_since(start) < Duration::from_secs(30));
                        }
                        assert!(delay.read().unwrap() - before < monotonic().saturating_since(start));
                    })
                    .unwrap();
            }
        });
    }

    #[test]
    fn what_is_no_schedstat_tells_nothing() {
        assert_eq!(run_delay_in("3000000000 1000000001 17\n"), Some(Duration::new(1, 1)));
        for text in ["", "3", "0 x 1"] {
            assert_eq!(run_delay_in(text), None);
        }
    }

    #[test]
    fn agrees_with_the_standard_library() {
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let ours = wall_ms();
        let exact = wall();
        let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        assert!(before.as_millis() <= u128::from(ours) && u128::from(ours) <= after.as_millis());
        assert!(before <= exact && exact <= after);
    }

    #[test]
    fn never_runs_backwards() {
        let mut last = monotonic();
        for _ in 0..1000 {
            let now = monotonic();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn counts_work_as_processor_time() {
        let start = (cpu_time(), thread_cpu_time());
        while thread_cpu_time() == start.1 {}
        assert!(cpu_time() > start.0);
    }
}
