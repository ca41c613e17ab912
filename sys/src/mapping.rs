//! Memory that is mapped (mmap(2)), for as long as its owner lives.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libc::{c_int, off_t};

/// Mapped memory; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the process, not to a thread; who may touch what of it when is for the owners to see to.
unsafe impl Send for Mapping {}
// SAFETY: as before; sharing a `Mapping` gives nothing but its address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Fresh memory, zero.
    pub fn anonymous(length: usize) -> io::Result<Mapping> {
        // SAFETY: no address is asked for, so nothing that exists is touched.
        unsafe { Mapping::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }
    }

    /// The memory that a socket, or a map of bpf(2), has at `offset`.
    pub fn of(fd: BorrowedFd<'_>, length: usize, offset: off_t) -> io::Result<Mapping> {
        // SAFETY: as before.
        unsafe { Mapping::map(length, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset) }
    }

    /// # Safety
    /// `flags` must not have `MAP_FIXED`.
    unsafe fn map(length: usize, flags: c_int, fd: c_int, offset: off_t) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: by this function's contract the kernel chooses an address where nothing is.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, offset) };
        match NonNull::new(start.cast()) {
            Some(place) if start != libc::MAP_FAILED => Ok(Mapping { start: place, length }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where `count` values of a type are, if they are in it.
    pub fn place<T>(&self, offset: u64, count: usize) -> io::Result<NonNull<T>> {
        let impossible = || io::Error::from(io::ErrorKind::InvalidData);
        let offset = usize::try_from(offset).map_err(|_| impossible())?;
        let end = count.checked_mul(size_of::<T>()).and_then(|length| offset.checked_add(length));
        if end.is_none_or(|end| end > self.length) || !offset.is_multiple_of(align_of::<T>()) {
            return Err(impossible());
        }
        // SAFETY: `offset` is within the mapping.
        Ok(unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and whoever points into it owns it, so nobody does any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
