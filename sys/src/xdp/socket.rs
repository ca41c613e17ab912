//! An AF_XDP socket on one queue of a device: its UMEM, its four rings, and the two sides that work them.
//!
//! A chunk of the UMEM belongs to whoever has its address: the kernel from when it is shown it in a ring until it shows it back.
//! The first [`RX_FRAMES_MAX`] chunks are for receiving, the others for sending, so the sides have nothing in common.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use libc::{c_int, c_void, socklen_t};

use super::ring::{Consumer, Producer};
use super::{CHUNK_LEN, FRAME_LEN_MAX, RX_FRAMES_MAX, TX_FRAMES_MAX, XdpMode};
use crate::errno;
use crate::interface::IfIndex;
use crate::mapping::Mapping;
use crate::sockopt::{self, check, check_count};

pub(super) const UMEM_LEN: usize = (RX_FRAMES_MAX + TX_FRAMES_MAX) * CHUNK_LEN;
/// Where the chunks for sending begin.
const TX_START: usize = RX_FRAMES_MAX * CHUNK_LEN;

/// Entries of the ring of chunks to be received into: two for each chunk. The kernel shows us frames before it shows which entries
/// it took their chunks from, so a chunk that comes back at once may find as many entries in use as there are chunks.
const FILL_ENTRIES: usize = 2 * RX_FRAMES_MAX;

/// Bytes that may wait in the kernel to be sent, with what it needs beside them: more than there are chunks for.
const SEND_BUFFER: c_int = 4 << 20;

/// Shortest frame: two addresses and an EtherType.
const FRAME_LEN_MIN: usize = 14;

/// Attempts to bind to a queue whose last socket was closed, which the kernel finishes some time after.
const BINDS_MAX: usize = 50;
/// Pause between them, in nanoseconds.
const BIND_PAUSE_NS: i64 = 2_000_000;

/// When the kernel is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wakeup {
    /// When it says so.
    IfNeeded,
    /// Whenever there is something to send.
    Always,
}

/// What the kernel counts, since the socket was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XdpStatistics {
    /// Received and lost: longer than a chunk, or no chunk was free.
    pub rx_dropped: u64,
    /// Received and lost, as we did not keep up.
    pub rx_ring_full: u64,
    /// Chunks given to be received into that the kernel did not understand.
    pub rx_invalid: u64,
    /// Frames given to be sent that the kernel did not understand.
    pub tx_invalid: u64,
}

/// What both sides hold. The kernel closes the socket when its rings are unmapped too, so they go before the UMEM.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    umem: Mapping,
}

/// The receiving side of a queue. Non-blocking.
#[derive(Debug)]
pub struct XdpReceiver {
    filled: Consumer<libc::xdp_desc>,
    free: Producer<u64>,
    socket: Arc<Socket>,
}

/// The sending side of a queue. Non-blocking.
#[derive(Debug)]
pub struct XdpSender {
    to_send: Producer<libc::xdp_desc>,
    sent: Consumer<u64>,
    /// Chunks that the kernel does not have. Never more than [`TX_FRAMES_MAX`].
    unused: Vec<u64>,
    wakeup: Wakeup,
    socket: Arc<Socket>,
}

/// A socket with memory and rings that is not on a queue yet.
pub(super) struct Unbound {
    receiver: XdpReceiver,
    sender: XdpSender,
}

/// Makes a socket, which takes all the memory that it needs.
pub(super) fn prepare(wakeup: Wakeup) -> io::Result<Unbound> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `socket` takes no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_XDP, kind, 0) })?;
    // SAFETY: the kernel has just made `fd` for us, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let umem = Mapping::anonymous(UMEM_LEN)?;
    let region = libc::xdp_umem_reg {
        addr: umem.start().as_ptr() as u64,
        len: umem.length() as u64,
        chunk_size: CHUNK_LEN as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    // The memory stays pinned as long as the socket lives; `Socket` unmaps it behind that.
    sockopt::set(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &region)?;
    let (rx, tx, fill) = (RX_FRAMES_MAX as u32, TX_FRAMES_MAX as u32, FILL_ENTRIES as u32);
    for (ring, size) in [
        (libc::XDP_UMEM_FILL_RING, fill),
        (libc::XDP_UMEM_COMPLETION_RING, tx),
        (libc::XDP_RX_RING, rx),
        (libc::XDP_TX_RING, tx),
    ] {
        sockopt::set(&fd, libc::SOL_XDP, ring, &size)?;
    }
    if sockopt::set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER).is_err() {
        sockopt::set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER)?;
    }
    let places = mmap_offsets(&fd)?;
    let borrowed = fd.as_fd();
    let filled = Consumer::map(borrowed, libc::XDP_PGOFF_RX_RING, &places.rx, rx)?;
    let to_send = Producer::map(borrowed, libc::XDP_PGOFF_TX_RING, &places.tx, tx)?;
    let mut free = Producer::map(borrowed, libc::XDP_UMEM_PGOFF_FILL_RING as _, &places.fr, fill)?;
    let sent = Consumer::map(borrowed, libc::XDP_UMEM_PGOFF_COMPLETION_RING as _, &places.cr, tx)?;
    for chunk in 0..RX_FRAMES_MAX {
        free.push((chunk * CHUNK_LEN) as u64);
    }
    free.publish();
    let socket = Arc::new(Socket { fd, umem });
    let unused = (0..TX_FRAMES_MAX).rev().map(|chunk| (TX_START + chunk * CHUNK_LEN) as u64).collect();
    let sender = XdpSender { to_send, sent, unused, wakeup, socket: socket.clone() };
    Ok(Unbound { receiver: XdpReceiver { filled, free, socket }, sender })
}

impl Unbound {
    /// Puts the socket on a queue of a device.
    pub fn bind(self, index: IfIndex, queue: u16, mode: XdpMode) -> io::Result<(XdpReceiver, XdpSender)> {
        let mut flags = if mode == XdpMode::NativeWithZeroCopy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY };
        if self.sender.wakeup == Wakeup::IfNeeded {
            flags |= libc::XDP_USE_NEED_WAKEUP;
        }
        bind(&self.sender.socket.fd, index, queue, flags)?;
        Ok((self.receiver, self.sender))
    }
}

fn bind(fd: &OwnedFd, index: IfIndex, queue: u16, flags: u16) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: index.get(),
        sxdp_queue_id: queue.into(),
        sxdp_shared_umem_fd: 0,
    };
    for _ in 1..BINDS_MAX {
        match bind_once(fd, &address) {
            Err(error) if error.raw_os_error() == Some(errno::EBUSY) => {}
            result => return result,
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: BIND_PAUSE_NS as _ };
        // SAFETY: no descriptors, and a time that outlives the call.
        unsafe { libc::ppoll(std::ptr::null_mut(), 0, &raw const pause, std::ptr::null()) };
    }
    bind_once(fd, &address)
}

fn bind_once(fd: &OwnedFd, address: &libc::sockaddr_xdp) -> io::Result<()> {
    let length = size_of::<libc::sockaddr_xdp>() as socklen_t;
    // SAFETY: the kernel reads `length` bytes of `address`, which has as many.
    let result = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), length) };
    check(result).map(drop)
}

/// Asks for an option whose value is the plain C structure `value`, of which a kernel may know only the beginning.
fn get<T: Copy>(fd: &OwnedFd, option: c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`, which has as many; callers pass structures of integers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_mut(value).cast::<c_void>(),
            &raw mut length,
        )
    };
    check(result).map(drop)
}

fn mmap_offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    let none = libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut offsets = libc::xdp_mmap_offsets { rx: none, tx: none, fr: none, cr: none };
    get(fd, libc::XDP_MMAP_OFFSETS, &mut offsets)?;
    Ok(offsets)
}

impl XdpReceiver {
    /// Receives frames, each into a buffer, and writes down how long they are: if that is more than the buffer has, it has only
    /// the beginning. How many there were.
    ///
    /// It costs no system call, except for waking a driver that has run out of chunks.
    pub fn recv_many<'b>(
        &mut self,
        buffers: impl IntoIterator<Item = &'b mut [u8]>,
        lengths: &mut [usize],
    ) -> usize {
        let mut count = 0;
        for (buffer, place) in buffers.into_iter().zip(lengths) {
            let Some(length) = self.recv(buffer) else { break };
            *place = length;
            count += 1;
        }
        if count > 0 {
            self.filled.release();
            self.free.publish();
        }
        if self.free.needs_wakeup() {
            self.wake();
        }
        count
    }

    /// The next frame that makes sense.
    fn recv(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            let entry = self.filled.next()?;
            let (start, length) = (usize::try_from(entry.addr).ok()?, entry.len as usize);
            let chunk = start & !(CHUNK_LEN - 1);
            // Nothing that the kernel was given; nor will it be.
            if chunk >= TX_START || length > CHUNK_LEN - (start - chunk) {
                self.filled.release();
                continue;
            }
            let copied = length.min(buffer.len());
            // SAFETY: `start` and `copied` bytes from it on are in a chunk of the UMEM, which is ours from when the kernel
            // showed it in the ring until it is pushed below. The buffer is not in the UMEM: no references to that exist.
            unsafe {
                let from = self.socket.umem.start().add(start);
                std::ptr::copy_nonoverlapping(from.as_ptr(), buffer.as_mut_ptr(), copied);
            }
            self.free.push(chunk as u64);
            return Some(length);
        }
    }

    /// How many frames wait.
    pub fn waiting(&mut self) -> usize {
        self.filled.available() as usize
    }

    #[cold]
    fn wake(&self) {
        // SAFETY: no buffer is given. What it says is of no interest: it is called for the driver's sake.
        unsafe {
            libc::recvfrom(
                self.socket.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// For who watches it from elsewhere.
    pub fn watch(&self) -> XdpWatch {
        XdpWatch(self.socket.clone())
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.fd.as_fd()
    }
}

/// Polls readable while a frame waits.
impl AsFd for XdpReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd.as_fd()
    }
}

/// Tells what the kernel has counted, whoever has the sides of the queue. The socket is not closed before this is dropped too.
#[derive(Debug)]
pub struct XdpWatch(Arc<Socket>);

impl XdpWatch {
    /// What the kernel has counted.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn statistics(&self) -> io::Result<XdpStatistics> {
        let mut raw = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        get(&self.0.fd, libc::XDP_STATISTICS, &mut raw)?;
        Ok(XdpStatistics {
            rx_dropped: raw.rx_dropped,
            rx_ring_full: raw.rx_ring_full,
            rx_invalid: raw.rx_invalid_descs,
            tx_invalid: raw.tx_invalid_descs,
        })
    }
}

impl XdpSender {
    /// Takes a frame, complete from its first MAC address on, to be sent by the next [`XdpSender::flush`]. The kernel drops
    /// in silence what is longer than the device's MTU allows.
    ///
    /// # Errors
    /// `ENOBUFS` when there is no room, `EMSGSIZE` for more than [`FRAME_LEN_MAX`] bytes, `EINVAL` for fewer than two addresses
    /// and an EtherType.
    pub fn push(&mut self, frame: &[u8]) -> io::Result<()> {
        match frame.len() {
            0..FRAME_LEN_MIN => return Err(io::Error::from_raw_os_error(errno::EINVAL)),
            FRAME_LEN_MIN..=FRAME_LEN_MAX => {}
            _ => return Err(io::Error::from_raw_os_error(errno::EMSGSIZE)),
        }
        if self.unused.is_empty() {
            self.reclaim();
        }
        let full = || io::Error::from_raw_os_error(errno::ENOBUFS);
        if !self.to_send.has_room() {
            return Err(full());
        }
        let chunk = self.unused.pop().ok_or_else(full)?;
        // SAFETY: `unused` has only starts of chunks of the UMEM, none of which the kernel has; a frame fits one. The frame is
        // not in the UMEM: no references to that exist.
        unsafe {
            let to = self.socket.umem.start().add(chunk as usize);
            std::ptr::copy_nonoverlapping(frame.as_ptr(), to.as_ptr(), frame.len());
        }
        self.to_send.push(libc::xdp_desc { addr: chunk, len: frame.len() as u32, options: 0 });
        Ok(())
    }

    /// Takes back the chunks of frames that have been sent.
    fn reclaim(&mut self) {
        while self.unused.len() < TX_FRAMES_MAX
            && let Some(address) = self.sent.next()
        {
            let is_ours = (TX_START..UMEM_LEN).contains(&(address as usize));
            if is_ours && (address as usize).is_multiple_of(CHUNK_LEN) {
                self.unused.push(address);
            }
        }
        self.sent.release();
    }

    /// Has the kernel send what was taken. Mostly it has done so when this returns. False if the device has no room for the rest:
    /// that goes with a later call, and not without one.
    ///
    /// # Errors
    /// `ENETDOWN` when the device is down: frames are then sent when it is up again. `ENXIO` when it is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.to_send.publish();
        if self.wakeup == Wakeup::IfNeeded && !self.to_send.needs_wakeup() {
            return Ok(true);
        }
        let mut before = self.to_send.pending();
        loop {
            // SAFETY: no buffer and no address are given.
            let result = unsafe {
                libc::sendto(
                    self.socket.fd.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            let Err(error) = check_count(result) else { return Ok(true) };
            match error.raw_os_error() {
                // Also said when a call has done its share and there is more.
                Some(errno::EAGAIN | errno::EBUSY | errno::ENOBUFS | libc::EINTR) => {
                    let now = self.to_send.pending();
                    // A device that does not take more now must not be waited for.
                    if now == 0 || now >= before {
                        return Ok(now == 0);
                    }
                    before = now;
                }
                _ => return Err(error),
            }
        }
    }

    /// How many frames the kernel has not looked at yet.
    pub fn pending(&mut self) -> usize {
        self.to_send.pending() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfName;
    use crate::netlink::Netlink;
    use crate::scratch::Scratch;

    /// Every chunk may come back before the kernel says that it took any from the ring; none may be lost for that.
    #[test]
    fn chunks_find_room_before_the_kernel_has_shown_what_it_took() {
        Scratch::new().run(|| {
            let [near, far] = ["near", "far"].map(|name| IfName::new(name).unwrap());
            Netlink::open().unwrap().create_veth(&near, &far).unwrap();
            // Nothing comes, as the device is down: all entries stay as they are.
            let index = IfIndex::of(&near).unwrap();
            let (mut receiver, _sender) =
                prepare(Wakeup::IfNeeded).and_then(|s| s.bind(index, 0, XdpMode::Native)).unwrap();
            assert_eq!(receiver.free.pending(), RX_FRAMES_MAX as u32);
            assert!((0..RX_FRAMES_MAX).all(|chunk| receiver.free.push((chunk * CHUNK_LEN) as u64)));
            assert!(!receiver.free.push(0), "more than there are chunks");
        });
    }
}
