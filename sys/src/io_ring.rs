//! Many reads or writes of one descriptor with one system call, by io_uring(7).
//!
//! A ring belongs to one thread and to one file. No request waits, so every one is over when the call that made it returns,
//! and buffers are lent for no longer than that. Where the kernel has no io_uring, or a sandbox forbids it,
//! [`IoRing::new`] fails and callers use ordinary reads and writes.

use io_uring::{IoUring, opcode, squeue, types};
use std::array;
use std::io;
use std::iter::{Map, Take};
use std::os::fd::{AsFd, AsRawFd};

/// Most requests of one call.
pub const REQUESTS_MAX: usize = 32;

/// A request that cannot be carried out at once fails instead of being kept until it can: that a descriptor is non-blocking is
/// not enough for io_uring.
const NOT_WAITING: i32 = libc::RWF_NOWAIT;

/// The first registered file.
const FIRST: types::Fixed = types::Fixed(0);

/// What became of each request, in order: bytes, or why none.
pub type Results = Map<Take<array::IntoIter<i32, REQUESTS_MAX>>, fn(i32) -> io::Result<usize>>;

fn in_words(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// How rings are set up, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingSetup {
    /// Without interrupts and locks, as only one thread touches a ring. Since Linux 6.1.
    Deferred,
    /// As all kernels do it that have io_uring.
    Basic,
}

/// What to try, in order.
const SETUPS: [RingSetup; 2] = [RingSetup::Deferred, RingSetup::Basic];

impl RingSetup {
    fn build(self, entries: u32) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        if self == RingSetup::Deferred {
            builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
        }
        builder.build(entries)
    }
}

/// The first of `SETUPS` that the kernel takes, as `build` tells.
fn first_taken(build: impl Fn(RingSetup) -> io::Result<IoUring>) -> io::Result<(RingSetup, IoUring)> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for setup in SETUPS {
        match build(setup) {
            Ok(ring) => return Ok((setup, ring)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Whether a process like this one can have rings, and of what kind.
///
/// # Errors
/// Why not: too old a kernel, `kernel.io_uring_disabled`, a sandbox.
pub fn probe() -> io::Result<RingSetup> {
    first_taken(|setup| setup.build(1)).map(|(setup, _)| setup)
}

/// A ring for one file.
pub struct IoRing<F: AsFd> {
    ring: IoUring,
    target: Target,
    file: F,
    /// Results of the last call, in the order of the requests: bytes, or a negative error number.
    results: [i32; REQUESTS_MAX],
}

/// What requests call the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The kernel is told of the file beforehand, which spares it looking for it with every request. If the process is killed, the
    /// file stays open until the kernel has freed the ring, some tens of milliseconds later.
    Registered,
    /// Its descriptor.
    Descriptor,
}

impl<F: AsFd> IoRing<F> {
    /// A ring for `file`, to be made by the thread that will use it. If the kernel does not want to know the file, its descriptor
    /// is used.
    ///
    /// # Errors
    /// The kernel has no io_uring or refuses it.
    pub fn new(file: F, target: Target) -> io::Result<Self> {
        let (_, ring) = first_taken(|setup| setup.build(REQUESTS_MAX as u32))?;
        Ok(Self::with(ring, file, target))
    }

    fn with(ring: IoUring, file: F, wanted: Target) -> Self {
        let is_registered = wanted == Target::Registered
            && ring.submitter().register_files(&[file.as_fd().as_raw_fd()]).is_ok();
        let target = if is_registered { Target::Registered } else { Target::Descriptor };
        IoRing { ring, target, file, results: [0; REQUESTS_MAX] }
    }

    /// Reads the file once into each buffer, in order, of which there are at most [`REQUESTS_MAX`]; more are left alone. For a device
    /// of frames, each gets one. The results are as many as the buffers used: bytes, or the error of that read.
    ///
    /// # Errors
    /// `Unsupported` if the kernel cannot read this file without waiting, as TAPs before Linux 6.4: then nothing was read.
    /// Otherwise the ring failed as a whole, and is to be dropped.
    pub fn read<'b>(&mut self, buffers: impl IntoIterator<Item = &'b mut [u8]>) -> io::Result<Results> {
        let (target, file) = (self.target, types::Fd(self.file.as_fd().as_raw_fd()));
        let requests = buffers.into_iter().map(|buffer| {
            let (at, len) = (buffer.as_mut_ptr(), u32::try_from(buffer.len()).unwrap_or(u32::MAX));
            match target {
                Target::Registered => opcode::Read::new(FIRST, at, len).rw_flags(NOT_WAITING).build(),
                Target::Descriptor => opcode::Read::new(file, at, len).rw_flags(NOT_WAITING).build(),
            }
        });
        // SAFETY: each request writes to a buffer that is lent exclusively for longer than this call.
        unsafe { self.carry_out(requests) }
    }

    /// Writes each buffer to the file, in order; otherwise as [`Self::read`].
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub fn write<'b>(&mut self, buffers: impl IntoIterator<Item = &'b [u8]>) -> io::Result<Results> {
        let (target, file) = (self.target, types::Fd(self.file.as_fd().as_raw_fd()));
        let requests = buffers.into_iter().map(|buffer| {
            let (at, len) = (buffer.as_ptr(), u32::try_from(buffer.len()).unwrap_or(u32::MAX));
            match target {
                Target::Registered => opcode::Write::new(FIRST, at, len).rw_flags(NOT_WAITING).build(),
                Target::Descriptor => opcode::Write::new(file, at, len).rw_flags(NOT_WAITING).build(),
            }
        });
        // SAFETY: each request reads from a buffer that is lent for longer than this call.
        unsafe { self.carry_out(requests) }
    }

    /// Submits requests and waits until all are over.
    ///
    /// # Safety
    /// The memory that the requests name must be theirs to use until this returns.
    unsafe fn carry_out(&mut self, requests: impl Iterator<Item = squeue::Entry>) -> io::Result<Results> {
        let mut count = 0;
        let mut queue = self.ring.submission();
        for (n, request) in requests.take(REQUESTS_MAX).enumerate() {
            // SAFETY: by this function's own contract, as no request outlives it.
            let pushed = unsafe { queue.push(&request.user_data(n as u64)) };
            // There is room for REQUESTS_MAX, and the queue is empty at the start of each call.
            if pushed.is_err() {
                break;
            }
            count = n + 1;
        }
        // The kernel sees them from here on.
        drop(queue);
        let mut finished = 0;
        while finished < count {
            if let Err(error) = self.ring.submit_and_wait(count - finished)
                && error.kind() != io::ErrorKind::Interrupted
            {
                self.abandon(count - finished);
                return Err(error);
            }
            finished += self.take_results();
        }
        // What is true of the file is so of all requests.
        if count > 0 && self.results.first() == Some(&-libc::EOPNOTSUPP) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(self.results.into_iter().take(count).map(in_words))
    }

    /// Notes the results that have come; how many.
    fn take_results(&mut self) -> usize {
        let IoRing { ring, results, .. } = self;
        let mut taken = 0;
        for completion in ring.completion() {
            if let Some(result) = results.get_mut(completion.user_data() as usize) {
                *result = completion.result();
            }
            taken += 1;
        }
        taken
    }

    /// Waits for what the kernel has accepted of `unfinished` requests; the rest it never sees, as the ring is dropped next.
    #[cold]
    fn abandon(&mut self, unfinished: usize) {
        let mut in_flight = unfinished.saturating_sub(self.ring.submission().len());
        loop {
            in_flight = in_flight.saturating_sub(self.take_results());
            if in_flight == 0 {
                return;
            }
            // No request waits, so what was accepted ends by itself.
            std::thread::yield_now();
            // SAFETY: nothing is submitted and no argument is passed; it lets finished work be told.
            let _ = unsafe { self.ring.submitter().enter::<()>(0, 0, 1, None) };
        }
    }
}

impl<F: AsFd> Drop for IoRing<F> {
    /// A ring is freed some time after it was closed, and would keep the file open until then: a device that is gone for us would
    /// be there for others. Only the thread that made the ring can prevent it.
    fn drop(&mut self) {
        if self.target == Target::Registered {
            let _ = self.ring.submitter().unregister_files();
        }
    }
}

impl<F: AsFd> std::fmt::Debug for IoRing<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IoRing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::OwnedFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::empty(), None).unwrap()
    }

    fn sizes(results: impl Iterator<Item = io::Result<usize>>) -> Vec<Option<usize>> {
        results
            .map(|r| match r {
                Ok(count) => Some(count),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    None
                }
            })
            .collect()
    }

    /// Rings of every kind that there may be, for the same file.
    fn rings(file: &OwnedFd) -> Vec<IoRing<&OwnedFd>> {
        let kinds = SETUPS.map(|setup| [(setup, Target::Registered), (setup, Target::Descriptor)]);
        let ring_of = |(setup, target): (RingSetup, _)| {
            let ring = IoRing::with(setup.build(REQUESTS_MAX as u32).unwrap(), file, target);
            assert_eq!(ring.target, target);
            ring
        };
        kinds.into_iter().flatten().map(ring_of).collect()
    }

    #[test]
    fn datagrams_are_written_and_read_in_order_until_there_are_no_more() {
        let (one, other) = pair();
        let sent: Vec<Vec<u8>> = (1..=5u8).map(|n| vec![n; usize::from(n) * 10]).collect();
        for (mut writer, mut reader) in rings(&one).into_iter().zip(rings(&other)) {
            for _ in 0..3 {
                let written = sizes(writer.write(sent.iter().map(Vec::as_slice)).unwrap());
                assert_eq!(written, [10, 20, 30, 40, 50].map(Some));
                let mut buffers = vec![[0u8; 64]; 7];
                let read = sizes(reader.read(buffers.iter_mut().map(|b| &mut b[..])).unwrap());
                assert_eq!(read, [Some(10), Some(20), Some(30), Some(40), Some(50), None, None]);
                for (sent, got) in sent.iter().zip(&buffers) {
                    assert_eq!(&got[..sent.len()], sent);
                }
            }
        }
    }

    #[test]
    fn a_call_without_buffers_does_nothing_and_one_with_too_many_uses_the_first() {
        let (one, other) = pair();
        let (mut writer, mut reader) = (rings(&one).remove(0), rings(&other).remove(0));
        assert_eq!(writer.write([]).unwrap().count(), 0);
        let mut sent = 0;
        while sent < REQUESTS_MAX + 8 {
            let many = vec![&b"x"[..]; REQUESTS_MAX + 8];
            let written = sizes(writer.write(many).unwrap());
            assert_eq!(written.len(), REQUESTS_MAX);
            sent += written.iter().flatten().count();
            let mut buffers = [[0u8; 1]; REQUESTS_MAX];
            let read = sizes(reader.read(buffers.iter_mut().map(|b| &mut b[..])).unwrap());
            assert_eq!(read.iter().flatten().count(), written.iter().flatten().count());
        }
    }

    /// Files of procfs are of those that cannot: what is asked of them is neither done nor waited for.
    #[test]
    fn a_file_that_may_make_us_wait_is_told_from_a_ring_that_failed() {
        let file = std::fs::OpenOptions::new().read(true).write(true).open("/proc/thread-self/comm").unwrap();
        let before = std::fs::read("/proc/thread-self/comm").unwrap();
        for mut ring in rings(&file.into()) {
            for _ in 0..2 {
                let error = ring.write([&b"one"[..], &b"two"[..]]).map(drop).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
                let error = ring.read([&mut [0; 16][..]]).map(drop).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            }
        }
        assert_eq!(std::fs::read("/proc/thread-self/comm").unwrap(), before);
    }

    #[test]
    fn what_a_read_or_write_refuses_is_its_own_error() {
        for kind in 0..2 * SETUPS.len() {
            let (one, other) = pair();
            drop(other);
            let mut writer = rings(&one).swap_remove(kind);
            let errors: Vec<_> = writer.write([&b"x"[..]]).unwrap().map(|r| r.unwrap_err().kind()).collect();
            assert_eq!(errors, [io::ErrorKind::ConnectionRefused]);
        }
    }

    #[test]
    fn a_file_is_closed_when_it_and_its_ring_are_gone() {
        for setup in SETUPS {
            for _ in 0..100 {
                let (one, other) = pair();
                let mut ring =
                    IoRing::with(setup.build(REQUESTS_MAX as u32).unwrap(), one, Target::Registered);
                assert_eq!(sizes(ring.write([&b"x"[..]]).unwrap()), [Some(1)]);
                drop(ring);
                let refused = rustix::io::write(&other, b"x").unwrap_err();
                assert_eq!(refused, rustix::io::Errno::CONNREFUSED);
            }
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_left_out() {
        let refuse = |unknown: &[RingSetup]| {
            let build = |setup: RingSetup| match unknown.contains(&setup) {
                // As a kernel answers that does not know a flag.
                true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
                false => setup.build(1),
            };
            first_taken(build).map(|(setup, _)| setup)
        };
        assert_eq!(refuse(&[]).unwrap(), RingSetup::Deferred);
        assert_eq!(refuse(&[RingSetup::Deferred]).unwrap(), RingSetup::Basic);
        assert_eq!(refuse(&SETUPS).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
