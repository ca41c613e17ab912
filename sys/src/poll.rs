//! Sleeping until a file descriptor has something: a level-triggered epoll set, and a waker for other threads.
//!
//! Level-triggered on purpose: a worker that stops reading at its budget finds the port ready again at the next turn
//! without remembering it. The daemon's control sockets are not served by this but by mio.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// The most events that one [`Poller::wait`] returns; others wait for the next one.
pub const EVENTS_MAX: usize = 256;

/// What the owner of a poller calls a descriptor. `u64::MAX` is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollToken(pub u64);

const WAKER: PollToken = PollToken(u64::MAX);

/// What to be told of. Errors and hang-ups are always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read.
    Read,
    /// There is room to write.
    Write,
    /// Either.
    ReadWrite,
    /// Only errors and hang-ups.
    Failure,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::ReadWrite => EventFlags::IN | EventFlags::OUT,
            Self::Failure => EventFlags::empty(),
        }
    }
}

/// What is the matter with one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollEvent {
    /// Which one.
    pub token: PollToken,
    /// There is something to read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// An error is pending or the other side is gone (`POLLERR`, `POLLHUP`).
    pub failed: bool,
}

/// A set of file descriptors to sleep on. For one thread; others reach it through its [`Waker`]s.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    wakeup: Arc<Wakeup>,
}

#[derive(Debug)]
struct Wakeup {
    eventfd: OwnedFd,
    // Whether a wake-up is on its way that the poller has not seen, so that another one needs no system call.
    pending: AtomicBool,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When the process or the machine is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &eventfd, EventData::new_u64(WAKER.0), EventFlags::IN)?;
        let wakeup = Arc::new(Wakeup { eventfd, pending: AtomicBool::new(false) });
        Ok(Self { epoll, wakeup })
    }

    /// Watches `source`, whose events will carry `token`. The caller keeps `source` open and removes it before closing it:
    /// a duplicate of a closed descriptor would stay in the set.
    ///
    /// # Errors
    /// `AlreadyExists` if it is in the set, `InvalidInput` for the token that is taken, `PermissionDenied` for what cannot
    /// be polled (a plain file).
    pub fn add(&mut self, source: impl AsFd, token: PollToken, interest: Interest) -> io::Result<()> {
        if token == WAKER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token.0), interest.flags())?)
    }

    /// Changes what to be told of a descriptor in the set.
    ///
    /// # Errors
    /// `NotFound` if it is not in the set.
    pub fn modify(&mut self, source: impl AsFd, token: PollToken, interest: Interest) -> io::Result<()> {
        if token == WAKER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token.0), interest.flags())?)
    }

    /// Takes a descriptor out of the set.
    ///
    /// # Errors
    /// `NotFound` if it is not in the set.
    pub fn remove(&mut self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Takes every descriptor out of the set, also those that have been closed while a duplicate is still open somewhere.
    /// Wakers stay.
    ///
    /// # Errors
    /// When the process is out of file descriptors; the set is then as it was.
    pub fn clear(&mut self) -> io::Result<()> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &self.wakeup.eventfd, EventData::new_u64(WAKER.0), EventFlags::IN)?;
        self.epoll = epoll;
        Ok(())
    }

    /// Sleeps until a descriptor is ready, a waker was used or `timeout` has passed (`None`: no limit; zero: only look).
    /// Replaces the contents of `events`, which does not name the wakers. A signal ends the sleep early.
    ///
    /// # Errors
    /// None that a correct caller can cause.
    pub fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<PollEvent>) -> io::Result<()> {
        events.clear();
        let mut room = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let timeout = timeout.map(|duration| Timespec {
            tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(duration.subsec_nanos()),
        });
        let ready = match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            let (token, flags) = (PollToken(event.data.u64()), event.flags);
            if token == WAKER {
                self.wakeup.clear()?;
                continue;
            }
            events.push(PollEvent {
                token,
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                failed: flags.intersects(EventFlags::ERR | EventFlags::HUP),
            });
        }
        Ok(())
    }

    /// Something that ends this poller's sleep from another thread.
    pub fn waker(&self) -> Waker {
        Waker { wakeup: Arc::clone(&self.wakeup) }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Wakeup {
    fn set(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            // A write of eight bytes to an eventfd we own cannot fail but with EAGAIN, when the counter is full: then it is
            // readable already.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }

    // The counter is emptied before the flag falls: a waker that comes in between sees the flag up and stays silent, which
    // is right, because the poller's owner looks at its queues only after this.
    fn clear(&self) -> io::Result<()> {
        match rustix::io::read(&self.eventfd, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.pending.swap(false, Ordering::SeqCst);
        Ok(())
    }
}

/// Ends the sleep of one [`Poller`], now or the next one. Cheap when one wake-up is pending already.
#[derive(Debug, Clone)]
pub struct Waker {
    wakeup: Arc<Wakeup>,
}

impl Waker {
    /// Wakes the poller. What was written before this call is visible to its thread when `wait` returns.
    pub fn wake(&self) {
        self.wakeup.set();
    }
}

/// A file descriptor that polls readable from [`Doorbell::ring`] until [`Doorbell::silence`], whoever calls them: the readiness
/// of something that lives in memory.
#[derive(Debug, Clone)]
pub struct Doorbell {
    wakeup: Arc<Wakeup>,
}

impl Doorbell {
    /// A silent one.
    ///
    /// # Errors
    /// When the process or the machine is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { wakeup: Arc::new(Wakeup { eventfd, pending: AtomicBool::new(false) }) })
    }

    /// Makes it readable. To be called after what there is to see is in its place.
    pub fn ring(&self) {
        self.wakeup.set();
    }

    /// Makes it unreadable. To be called before looking for what there may be, or a ring could be missed.
    ///
    /// # Errors
    /// None that a correct caller can cause.
    pub fn silence(&self) -> io::Result<()> {
        if self.wakeup.pending.load(Ordering::SeqCst) { self.wakeup.clear() } else { Ok(()) }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    const LONG: Option<Duration> = Some(Duration::from_secs(10));
    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn tells_of_a_readable_descriptor_until_it_is_read() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut poller = Poller::new().unwrap();
        let mut events = Vec::new();
        poller.add(&reader, PollToken(3), Interest::Read).unwrap();
        poller.wait(NOW, &mut events).unwrap();
        assert_eq!(events, []);
        rustix::io::write(&writer, b"x").unwrap();
        let readable = PollEvent { token: PollToken(3), readable: true, writable: false, failed: false };
        for _ in 0..2 {
            poller.wait(LONG, &mut events).unwrap();
            assert_eq!(events, [readable], "level-triggered");
        }
        rustix::io::read(&reader, &mut [0; 1]).unwrap();
        poller.wait(NOW, &mut events).unwrap();
        assert_eq!(events, []);
        drop(writer);
        poller.wait(LONG, &mut events).unwrap();
        assert!(events[0].failed);
        poller.remove(&reader).unwrap();
        poller.wait(NOW, &mut events).unwrap();
        assert_eq!(events, []);
        assert_eq!(poller.remove(&reader).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn wake_before_and_during_sleep() {
        let mut poller = Poller::new().unwrap();
        let mut events = Vec::new();
        let waker = poller.waker();
        waker.wake();
        waker.wake();
        poller.wait(None, &mut events).unwrap();
        assert_eq!(events, []);
        // One wake-up was used up: a second sleep would be for good without another waker.
        std::thread::scope(|scope| {
            scope.spawn(|| waker.clone().wake());
            poller.wait(None, &mut events).unwrap();
        });
    }

    #[test]
    fn poller_may_move_to_the_thread_that_sleeps() {
        fn is_send<T: Send>(_: &T) {}
        is_send(&Poller::new().unwrap());
    }

    #[test]
    fn no_wake_up_is_lost() {
        const ROUNDS: u64 = 20_000;
        let mut poller = Poller::new().unwrap();
        let waker = poller.waker();
        let given = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    given.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                }
            });
            let mut events = Vec::new();
            // Hangs (and so fails by the runner's time limit) if a wake-up gets lost.
            while given.load(Ordering::Relaxed) < ROUNDS {
                poller.wait(None, &mut events).unwrap();
            }
        });
    }

    #[test]
    fn doorbell_is_heard_until_it_is_silenced() {
        let bell = Doorbell::new().unwrap();
        let mut poller = Poller::new().unwrap();
        let mut events = Vec::new();
        poller.add(&bell, PollToken(1), Interest::Read).unwrap();
        for _ in 0..2 {
            bell.silence().unwrap();
            poller.wait(NOW, &mut events).unwrap();
            assert_eq!(events, []);
            bell.clone().ring();
            bell.ring();
            for _ in 0..2 {
                poller.wait(LONG, &mut events).unwrap();
                assert!(events[0].readable);
            }
        }
    }

    #[test]
    fn token_of_the_waker_is_refused() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let mut poller = Poller::new().unwrap();
        let error = poller.add(&reader, PollToken(u64::MAX), Interest::Read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
