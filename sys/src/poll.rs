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
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use base::Instant;

use crate::clock;

/// The most events that one [`Poller::wait`] returns; others wait for the next one.
pub const EVENTS_MAX: usize = 256;

/// What the owner of a poller calls a descriptor. The two highest numbers are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollToken(pub u64);

const WAKER: PollToken = PollToken(u64::MAX);
const TIMER: PollToken = PollToken(u64::MAX - 1);

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
    timer: Timer,
}

/// A timer that stays set from sleep to sleep: setting one and taking it back costs more than a system call.
#[derive(Debug)]
struct Timer {
    timerfd: OwnedFd,
    /// When it will go off; it has not yet been seen to.
    set_to: Option<Instant>,
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
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wakeup = Arc::new(Wakeup { eventfd, pending: AtomicBool::new(false) });
        let timer = Timer::new()?;
        Ok(Self { epoll: new_set(&wakeup, &timer)?, wakeup, timer })
    }

    /// Watches `source`, whose events will carry `token`. The caller keeps `source` open and removes it before closing it:
    /// a duplicate of a closed descriptor would stay in the set.
    ///
    /// # Errors
    /// `AlreadyExists` if it is in the set, `InvalidInput` for a token that is taken, `PermissionDenied` for what cannot
    /// be polled (a plain file).
    pub fn add(&mut self, source: impl AsFd, token: PollToken, interest: Interest) -> io::Result<()> {
        if token >= TIMER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token.0), interest.flags())?)
    }

    /// Changes what to be told of a descriptor in the set.
    ///
    /// # Errors
    /// `NotFound` if it is not in the set.
    pub fn modify(&mut self, source: impl AsFd, token: PollToken, interest: Interest) -> io::Result<()> {
        if token >= TIMER {
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
        self.epoll = new_set(&self.wakeup, &self.timer)?;
        Ok(())
    }

    /// Sleeps until a descriptor is ready, a waker was used or `timeout` has passed (`None`: no limit; zero: only look).
    /// Replaces the contents of `events`, which does not name the wakers. A signal ends the sleep early, and so may the
    /// deadline of an earlier [`Poller::wait_until`].
    ///
    /// # Errors
    /// None that a correct caller can cause.
    pub fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<PollEvent>) -> io::Result<()> {
        self.wait_once(timeout, events).map(drop)
    }

    /// As [`Poller::wait`], but sleeps until a point of the monotonic clock, whatever signals come. Cheaper where most sleeps end
    /// before their deadline and the next one's is no earlier: nothing is told to the kernel then.
    ///
    /// # Errors
    /// As [`Poller::wait`].
    pub fn wait_until(&mut self, deadline: Option<Instant>, events: &mut Vec<PollEvent>) -> io::Result<()> {
        loop {
            if let Some(deadline) = deadline {
                self.timer.set_no_later_than(deadline)?;
            }
            let end = self.wait_once(None, events)?;
            match end {
                // The deadline of an earlier sleep is none of this one's.
                SleepEnd::Timer if deadline.is_none_or(|at| clock::monotonic() < at) => {}
                SleepEnd::Signal => {}
                SleepEnd::Timer | SleepEnd::Other => return Ok(()),
            }
        }
    }

    fn wait_once(&mut self, timeout: Option<Duration>, events: &mut Vec<PollEvent>) -> io::Result<SleepEnd> {
        events.clear();
        let mut room = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let timeout = timeout.map(|duration| Timespec {
            tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(duration.subsec_nanos()),
        });
        let ready = match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => return Ok(SleepEnd::Signal),
            Err(error) => return Err(error.into()),
        };
        let mut end = if ready.len() == 1 { SleepEnd::Timer } else { SleepEnd::Other };
        for event in ready {
            let (token, flags) = (PollToken(event.data.u64()), event.flags);
            if token == TIMER {
                self.timer.clear()?;
                continue;
            }
            end = SleepEnd::Other;
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
        Ok(end)
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

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SleepEnd {
    /// The timer, and nothing else.
    Timer,
    /// A signal.
    Signal,
    /// A descriptor, a waker, the time-out.
    Other,
}

/// An epoll set of a poller's own descriptors.
fn new_set(wakeup: &Wakeup, timer: &Timer) -> io::Result<OwnedFd> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &wakeup.eventfd, EventData::new_u64(WAKER.0), EventFlags::IN)?;
    epoll::add(&epoll, &timer.timerfd, EventData::new_u64(TIMER.0), EventFlags::IN)?;
    Ok(epoll)
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { timerfd: timerfd_create(TimerfdClockId::Monotonic, flags)?, set_to: None })
    }

    /// Makes sure that it goes off at `deadline` or before; at once if that has passed.
    fn set_no_later_than(&mut self, deadline: Instant) -> io::Result<()> {
        if self.set_to.is_some_and(|at| at <= deadline) {
            return Ok(());
        }
        // Zero would unset it.
        let nanos = deadline.as_nanos().max(1);
        let at = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: never, it_value: at };
        timerfd_settime(&self.timerfd, TimerfdTimerFlags::ABSTIME, &setting)?;
        self.set_to = Some(deadline);
        Ok(())
    }

    /// Silences it when it went off.
    fn clear(&mut self) -> io::Result<()> {
        self.set_to = None;
        match rustix::io::read(&self.timerfd, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
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

    /// Hangs (and so fails by the runner's time limit) if a deadline gets lost.
    #[test]
    fn a_sleep_ends_at_its_deadline_whatever_those_before_it_were() {
        let mut poller = Poller::new().unwrap();
        let mut events = Vec::new();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        poller.add(&reader, PollToken(1), Interest::Read).unwrap();
        // Microseconds ahead; the first ones of each row are cut short by something to read.
        let rows: [(&[u64], u64); 6] = [
            (&[], 700),
            (&[10_000_000, 2_000], 500),
            (&[500], 3_000),
            (&[900, 10_000_000, 1_500], 1_000),
            (&[0, 0], 400),
            (&[10_000_000], 0),
        ];
        for (n, (short, last)) in rows.iter().cycle().take(60).enumerate() {
            let ahead = |micros: u64| clock::monotonic() + Duration::from_micros(micros);
            rustix::io::write(&writer, b"x").unwrap();
            for micros in *short {
                poller.wait_until(Some(ahead(*micros)), &mut events).unwrap();
                assert_eq!(events.len(), 1);
            }
            if n % 7 == 0 {
                poller.wait(NOW, &mut events).unwrap();
            }
            rustix::io::read(&reader, &mut [0; 1]).unwrap();
            if n % 5 == 0 {
                poller.clear().unwrap();
                poller.add(&reader, PollToken(1), Interest::Read).unwrap();
            }
            let deadline = ahead(*last);
            poller.wait_until(Some(deadline), &mut events).unwrap();
            assert_eq!(events, []);
            assert!(clock::monotonic() >= deadline, "row {n}: woken early");
        }
        // Before the machine's clock began.
        poller.wait_until(Some(Instant::ZERO), &mut events).unwrap();
    }

    #[test]
    fn a_sleep_is_not_ended_by_the_deadline_of_one_before() {
        let mut poller = Poller::new().unwrap();
        let mut events = Vec::new();
        let waker = poller.waker();
        waker.wake();
        let early = clock::monotonic() + Duration::from_millis(2);
        poller.wait_until(Some(early), &mut events).unwrap();
        for later in [None, Some(early + Duration::from_secs(1_000))] {
            let woken = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while clock::monotonic() < early + Duration::from_millis(2) {
                        std::thread::yield_now();
                    }
                    woken.store(true, Ordering::SeqCst);
                    waker.wake();
                });
                poller.wait_until(later, &mut events).unwrap();
                assert!(woken.load(Ordering::SeqCst));
            });
        }
    }

    /// The kernel's own view of the timer, which is told of a deadline only if it is earlier than the one it has.
    #[test]
    fn the_timer_stays_set_while_no_earlier_deadline_comes() {
        let mut poller = Poller::new().unwrap();
        let mut events = Vec::new();
        let remaining = |poller: &Poller| {
            let value = rustix::time::timerfd_gettime(&poller.timer.timerfd).unwrap().it_value;
            value.tv_sec
        };
        let start = clock::monotonic();
        for (ahead, expected) in
            [(5_000, 5_000), (9_000, 5_000), (5_000, 5_000), (2_000, 2_000), (5_000, 2_000)]
        {
            poller.waker().wake();
            poller.wait_until(Some(start + Duration::from_secs(ahead)), &mut events).unwrap();
            let seconds = remaining(&poller);
            assert!((expected - 1_000..=expected).contains(&seconds), "{ahead}: {seconds}");
        }
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
    fn tokens_of_its_own_are_refused() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let mut poller = Poller::new().unwrap();
        for taken in [u64::MAX, u64::MAX - 1] {
            let error = poller.add(&reader, PollToken(taken), Interest::Read).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        poller.add(&reader, PollToken(u64::MAX - 2), Interest::Read).unwrap();
    }
}
