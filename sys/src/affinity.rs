//! Which processors threads may run on: sched_setaffinity(2).

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use std::io;

/// The most processors that can be told apart.
pub const CPUS_MAX: usize = CpuSet::MAX_CPU;

/// Names a thread of this process to its others, while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadId(Pid);

impl ThreadId {
    /// The calling thread.
    pub fn own() -> ThreadId {
        ThreadId(gettid())
    }

    /// The processors that it may run on, in order.
    ///
    /// # Errors
    /// The thread has ended, or the machine has more processors than can be told apart.
    pub fn cpus(self) -> io::Result<Vec<usize>> {
        let set = sched_getaffinity(Some(self.0))?;
        Ok((0..CPUS_MAX).filter(|cpu| set.is_set(*cpu)).collect())
    }

    /// Lets it run on these processors only.
    ///
    /// # Errors
    /// `InvalidInput` if the process may run on none of them; the thread has ended.
    pub fn bind(self, cpus: &[usize]) -> io::Result<()> {
        let mut set = CpuSet::new();
        cpus.iter().filter(|cpu| **cpu < CPUS_MAX).for_each(|cpu| set.set(*cpu));
        Ok(sched_setaffinity(Some(self.0), &set)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_bound_from_another() {
        let main = ThreadId::own();
        let before = main.cpus().unwrap();
        assert!(!before.is_empty() && before.is_sorted());
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                tell.send(ThreadId::own()).unwrap();
                let _ = ended.recv();
            });
            let other = told.recv().unwrap();
            assert_ne!(other, main);
            let last = before.last().copied().unwrap();
            other.bind(&[last]).unwrap();
            assert_eq!((other.cpus().unwrap(), main.cpus().unwrap()), (vec![last], before.clone()));
            // A processor that is not there is none; one beyond all numbers is ignored.
            for none in [&[][..], &[CPUS_MAX - 1], &[usize::MAX]] {
                assert_eq!(other.bind(none).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            other.bind(&before).unwrap();
            assert_eq!(other.cpus().unwrap(), before);
            drop(end);
        });
    }
}
