//! The clocks. With the time-outs that `poll` waits for, this is where real time enters the program: main loops read it
//! here once a turn and hand it on as a value.

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

/// How often the calling thread had to leave the processor to another although it had something to do. Grows; costs a system
/// call.
pub fn thread_preemptions() -> u64 {
    // SAFETY: `rusage` consists of integers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: getrusage writes one `struct rusage`, and `usage` is one.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, std::ptr::from_mut(&mut usage)) };
    if result == 0 { u64::try_from(usage.ru_nivcsw).unwrap_or(0) } else { 0 }
}

// A clock set before 1970 reads as 1970.
fn parts(time: Timespec) -> (u64, u64) {
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_shares_a_processor_is_preempted() {
        // More threads than processors, each busy until it has been.
        let count = 2 * std::thread::available_parallelism().unwrap().get();
        std::thread::scope(|scope| {
            for _ in 0..count {
                std::thread::Builder::new()
                    .spawn_scoped(scope, || {
                        let before = thread_preemptions();
                        let start = monotonic();
                        while thread_preemptions() == before {
                            assert!(monotonic().saturating_since(start) < Duration::from_secs(30));
                        }
                    })
                    .unwrap();
            }
        });
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
