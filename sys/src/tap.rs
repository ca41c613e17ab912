//! TAP devices: a netdev whose wire is a file descriptor of ours.
//!
//! A [`TapQueue`] gives and takes whole Ethernet frames, each behind a virtio-net header (see [`crate::vnet`]), so that
//! super-frames of up to 64 KB cross it uncut. The devices are opened by `TUNSETIFF` here rather than through the tun-tap
//! crate, which can set neither `IFF_VNET_HDR` nor `IFF_MULTI_QUEUE`.
//!
//! A device made here belongs to the namespace of the calling thread and may then be moved into another one (by
//! [`crate::netlink`] or ip(8)) while the queue stays open. Do it in this order: a queue opened inside the other namespace
//! keeps that namespace alive for as long as it is open. When the device goes away the descriptor gets `POLLERR` and its
//! calls fail with `EBADFD`: [`is_gone`] recognises this.
//!
//! Not here: addresses, MTU, state up or down (netlink), and any look at the frames.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{c_int, c_short, c_uint, c_ulong};
use rustix::io::Errno;

use crate::interface::{IfIndex, IfName, IfNameError};
use crate::netns::Netns;
use crate::sockopt::check;
use crate::vnet::TAP_HEADER_LENGTH;

/// Where the kernel hands out TAP queues.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// The most queues that one device can have (`MAX_TAP_QUEUES` of the kernel).
pub const QUEUES_MAX: usize = 256;

/// Why a TAP could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name belongs to another interface, or another process holds this device's only queue.
    #[error("{name}: the name is in use by another interface or process")]
    InUse {
        /// The wanted name.
        name: IfName,
    },
    /// The interface exists and is not a TAP, or its kind of queues is another.
    #[error("{name}: exists, but is not a TAP device with the same kind of queues")]
    Mismatch {
        /// The wanted name.
        name: IfName,
    },
    /// There is no device of this name to attach to.
    #[error("{name}: no such device")]
    Missing {
        /// The wanted name.
        name: IfName,
    },
    /// `CAP_NET_ADMIN` is missing, or the device file may not be opened.
    #[error(
        "{name}: not permitted to create a TAP device (CAP_NET_ADMIN and access to {CLONE_DEVICE} are needed)"
    )]
    NotPermitted {
        /// The wanted name.
        name: IfName,
    },
    /// The kernel has no TUN/TAP driver.
    #[error("{CLONE_DEVICE} does not exist: the kernel has no TUN/TAP driver")]
    NoDriver,
    /// The device has all the queues it can have.
    #[error("{name}: has {QUEUES_MAX} queues already")]
    TooManyQueues {
        /// The device.
        name: IfName,
    },
    /// The kernel answered with a name that is none.
    #[error(transparent)]
    Name(#[from] IfNameError),
    /// Anything else the kernel refused.
    #[error("{name}: {operation}: {source}")]
    Refused {
        /// The device.
        name: IfName,
        /// The call that failed.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Whether a device has one queue or may have many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapQueues {
    /// Exactly one; a second open of the name fails.
    Single,
    /// Up to [`QUEUES_MAX`]; the kernel spreads flows over those that are open.
    Multiple,
}

/// What to do when the device does, or does not, exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapOpen {
    /// Make a new device; fail if the name is taken.
    CreateNew,
    /// Attach to a persistent device or, if there is none, make it.
    AttachOrCreate,
    /// Attach to a device that must exist.
    Attach,
}

/// Whether a queue takes part in its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapAttachment {
    /// It gets frames. What is written to it makes the kernel send the other direction of that flow by this queue.
    Attached,
    /// It gets no frames. What is written to it reaches the device and does not change by which queues flows come.
    Detached,
}

/// Whether a device outlives its last queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapLifetime {
    /// It disappears when its last queue is closed.
    UntilClosed,
    /// It stays until it is deleted or told otherwise.
    Persistent,
}

/// What the kernel may leave undone in frames that it hands to us, because whoever gets them in the end can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapOffload {
    /// Frames arrive complete and no longer than the MTU.
    None,
    /// Partial checksums.
    Checksum,
    /// Partial checksums and TCP super-frames.
    Tcp,
    /// Partial checksums, TCP and UDP super-frames.
    TcpUdp,
}

impl TapOffload {
    fn bits(self) -> c_uint {
        let checksum = libc::TUN_F_CSUM;
        let tcp = checksum | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        match self {
            Self::None => 0,
            Self::Checksum => checksum,
            Self::Tcp => tcp,
            Self::TcpUdp => tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        }
    }
}

/// Sets the highest step up to `wanted` that `set`, which is given its bits, does not refuse.
fn highest_step(wanted: TapOffload, mut set: impl FnMut(c_uint) -> io::Result<()>) -> io::Result<TapOffload> {
    for step in [TapOffload::TcpUdp, TapOffload::Tcp, TapOffload::Checksum] {
        if step <= wanted {
            match set(step.bits()) {
                Ok(()) => return Ok(step),
                Err(error) if is_gone(&error) => return Err(error),
                Err(_) => {}
            }
        }
    }
    set(TapOffload::None.bits()).map(|()| TapOffload::None)
}

/// One queue of a TAP device: non-blocking, closed on exec. Several threads may send and receive on it at a time, as each call
/// carries one whole frame.
#[derive(Debug)]
pub struct TapQueue {
    file: File,
    // The name at the time of opening; the device may have been renamed since.
    name: IfName,
    queues: TapQueues,
    offload: TapOffload,
}

impl TapQueue {
    /// Opens a queue of the TAP device `name` in the network namespace of the calling thread.
    ///
    /// The device gets virtio-net headers of [`TAP_HEADER_LENGTH`] bytes and as many of the offloads up to [`TapOffload::TcpUdp`]
    /// as the kernel has. A new one is down and vanishes with this queue; see [`TapQueue::set_lifetime`].
    ///
    /// # Errors
    /// [`TapError`]; nothing is left behind then.
    pub fn open(name: &IfName, queues: TapQueues, how: TapOpen) -> Result<Self, TapError> {
        if how == TapOpen::Attach && !exists(name) {
            return Err(TapError::Missing { name: *name });
        }
        let file = open_clone_device(name)?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if queues == TapQueues::Multiple {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        if how == TapOpen::CreateNew {
            flags |= libc::IFF_TUN_EXCL;
        }
        let got = set_interface(&file, name, flags)?;
        let mut queue = Self { file, name: got, queues, offload: TapOffload::None };
        queue.set_int(libc::TUNSETVNETHDRSZ, "TUNSETVNETHDRSZ", TAP_HEADER_LENGTH as c_int)?;
        queue.set_offload(TapOffload::TcpUdp)?;
        Ok(queue)
    }

    /// Opens one more queue of the same device. Only for [`TapQueues::Multiple`], and only while the device is in the
    /// namespace where it was made.
    ///
    /// # Errors
    /// [`TapError`]; this queue is not affected.
    pub fn open_another(&self) -> Result<Self, TapError> {
        Self::open(&self.current_name()?, self.queues, TapOpen::Attach)
    }

    /// Takes a queue out of its device's traffic, or back in: also when the device has been moved to another namespace, where no
    /// new queue could be opened from here. A queue that comes back is the last of the device's; frames that wait in one that
    /// goes are lost. Only for [`TapQueues::Multiple`]; it is an error to ask for what is so already.
    ///
    /// # Errors
    /// [`TapError::Refused`].
    pub fn set_attachment(&self, attachment: TapAttachment) -> Result<(), TapError> {
        let mut request = empty_request();
        let flag = match attachment {
            TapAttachment::Attached => libc::IFF_ATTACH_QUEUE,
            TapAttachment::Detached => libc::IFF_DETACH_QUEUE,
        };
        request.ifr_ifru.ifru_flags = flag as c_short;
        // SAFETY: TUNSETQUEUE reads one `struct ifreq`, and `request` is one.
        let result =
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETQUEUE, std::ptr::from_ref(&request)) };
        self.refusal("TUNSETQUEUE", check(result)).map(drop)
    }

    /// The kind of device that this is a queue of.
    pub fn queues(&self) -> TapQueues {
        self.queues
    }

    /// The name the device was opened under.
    pub fn name(&self) -> &IfName {
        &self.name
    }

    /// The name the device has now, wherever it was moved.
    ///
    /// # Errors
    /// [`TapError::Refused`] with `EBADFD` when the device is gone.
    pub fn current_name(&self) -> Result<IfName, TapError> {
        let mut request = empty_request();
        // SAFETY: TUNGETIFF writes one `struct ifreq`, and `request` is one.
        let result =
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNGETIFF, std::ptr::from_mut(&mut request)) };
        self.refusal("TUNGETIFF", check(result))?;
        Ok(IfName::from_ifr_name(&request.ifr_name)?)
    }

    /// The namespace the device is in now, wherever it was moved. Holding the result keeps that namespace alive.
    ///
    /// # Errors
    /// [`TapError::Refused`] with `EBADFD` when the device is gone, and on kernels before 5.6.
    pub fn netns(&self) -> Result<Netns, TapError> {
        // SAFETY: TUNGETDEVNETNS takes no argument and returns a new file descriptor.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNGETDEVNETNS) };
        let fd = self.refusal("TUNGETDEVNETNS", check(result))?;
        // SAFETY: the kernel has just made `fd` for us, close-on-exec, and nobody else knows it.
        Ok(Netns::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The offloads in force. They are one state for all queues of the device.
    pub fn offload(&self) -> TapOffload {
        self.offload
    }

    /// Turns offloads on, falling back to the next lower step where the kernel refuses one.
    ///
    /// # Errors
    /// [`TapError::Refused`] if not even [`TapOffload::None`] can be set: the device is gone.
    pub fn set_offload(&mut self, wanted: TapOffload) -> Result<TapOffload, TapError> {
        let set = highest_step(wanted, |bits| {
            // SAFETY: TUNSETOFFLOAD takes a number, no pointer.
            let result =
                unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(bits)) };
            check(result).map(drop)
        });
        self.offload = self.refusal("TUNSETOFFLOAD", set)?;
        Ok(self.offload)
    }

    /// Says whether the device outlives its last queue. To delete a persistent device, tell it
    /// [`TapLifetime::UntilClosed`] and drop all its queues.
    ///
    /// # Errors
    /// [`TapError::Refused`] with `EBADFD` when the device is gone.
    pub fn set_lifetime(&self, lifetime: TapLifetime) -> Result<(), TapError> {
        let persistent = c_ulong::from(lifetime == TapLifetime::Persistent);
        // SAFETY: TUNSETPERSIST takes a number, no pointer.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TUNSETPERSIST, persistent) };
        self.refusal("TUNSETPERSIST", check(result)).map(drop)
    }

    /// Bounds the bytes of written frames that the kernel holds for us, so that a receiver which does not read cannot take
    /// unbounded memory. Writes beyond it fail with `WouldBlock`.
    ///
    /// # Errors
    /// [`TapError::Refused`] with `EBADFD` when the device is gone.
    pub fn set_send_buffer(&self, bytes: u32) -> Result<(), TapError> {
        self.set_int(libc::TUNSETSNDBUF, "TUNSETSNDBUF", c_int::try_from(bytes).unwrap_or(c_int::MAX))
    }

    /// Reads one frame behind its virtio-net header. A result as long as `buffer` means that the frame may have been cut.
    ///
    /// # Errors
    /// `WouldBlock` when no frame waits; see [`is_gone`].
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Reads one frame into several buffers, the first usually one for the virtio-net header.
    ///
    /// # Errors
    /// As [`TapQueue::recv`].
    pub fn recv_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.file).read_vectored(buffers)
    }

    /// Writes one frame, which must start with a virtio-net header of [`TAP_HEADER_LENGTH`] bytes.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full, `EIO` when the device is down, `EINVAL` for a header or a frame that the
    /// kernel finds impossible; see [`is_gone`].
    pub fn send(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(buffers)
    }

    fn set_int(&self, request: libc::Ioctl, operation: &'static str, value: c_int) -> Result<(), TapError> {
        // SAFETY: the callers' requests read one int, and `value` is one.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, std::ptr::from_ref(&value)) };
        self.refusal(operation, check(result)).map(drop)
    }

    fn refusal<T>(&self, operation: &'static str, result: io::Result<T>) -> Result<T, TapError> {
        result.map_err(|source| TapError::Refused { name: self.name, operation, source })
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether `error`, got from a queue, means that its device was deleted (also by the end of the namespace it was in).
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BADFD.raw_os_error())
}

/// Deletes a persistent device that no process has open. One with an open queue is to be deleted through netlink.
///
/// # Errors
/// [`TapError::Missing`] if there is none, [`TapError::InUse`] if a process holds it.
pub fn delete(name: &IfName, queues: TapQueues) -> Result<(), TapError> {
    TapQueue::open(name, queues, TapOpen::Attach)?.set_lifetime(TapLifetime::UntilClosed)
}

fn exists(name: &IfName) -> bool {
    IfIndex::of(name).is_some()
}

fn open_clone_device(name: &IfName) -> Result<File, TapError> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(CLONE_DEVICE);
    opened.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoDriver,
        Some(libc::EPERM | libc::EACCES) => TapError::NotPermitted { name: *name },
        _ => TapError::Refused { name: *name, operation: "open", source },
    })
}

fn set_interface(file: &File, name: &IfName, flags: c_int) -> Result<IfName, TapError> {
    let mut request = empty_request();
    request.ifr_name = name.as_ifr_name();
    // IFF_TUN_EXCL is the sign bit of the C short: the bits count, not the number.
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, and `request` is one.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, std::ptr::from_mut(&mut request)) };
    check(result).map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => TapError::InUse { name: *name },
        Some(libc::EPERM | libc::EACCES) => TapError::NotPermitted { name: *name },
        Some(libc::EINVAL) => TapError::Mismatch { name: *name },
        Some(libc::E2BIG) => TapError::TooManyQueues { name: *name },
        _ => TapError::Refused { name: *name, operation: "TUNSETIFF", source },
    })?;
    Ok(IfName::from_ifr_name(&request.ifr_name)?)
}

fn empty_request() -> libc::ifreq {
    // SAFETY: `ifreq` consists of integers and a union of integers and a pointer, for all of which zero is a value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{AdminState, LinkChange, Netlink};
    use crate::poll::{Interest, PollToken, Poller};
    use crate::scratch::{Scratch, in_a_moment, unique};
    use crate::vnet::VnetHeader;
    use std::time::Duration;

    const SECOND: Option<Duration> = Some(Duration::from_secs(5));

    fn wait_readable(queue: &TapQueue) {
        let mut poller = Poller::new().unwrap();
        poller.add(queue, PollToken(1), Interest::Read).unwrap();
        let mut events = Vec::new();
        poller.wait(SECOND, &mut events).unwrap();
        assert!(!events.is_empty(), "nothing to read within five seconds");
    }

    // An ARP request that nobody else sends: the sender's MAC tells it from the kernel's own chatter.
    fn frame(length: usize) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([0x02, 0, 0, 0, 0xca, 0xfe, 0x88, 0xb5]);
        frame.resize(length, 0x5a);
        frame
    }

    fn up(netlink: &mut Netlink, name: &IfName) -> crate::IfIndex {
        let link = netlink.link_by_name(name).unwrap().expect("the TAP exists");
        netlink.change(link.index, &LinkChange::default().admin(AdminState::Up)).unwrap();
        link.index
    }

    #[test]
    fn carries_frames_both_ways() {
        let ns = Scratch::new();
        ns.run(|| {
            let name = unique("tap");
            let queue = TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew).unwrap();
            assert_eq!(queue.current_name().unwrap(), name);
            let mut netlink = Netlink::open().unwrap();
            let index = up(&mut netlink, &name);
            // In: what we write is what the kernel received on the device.
            let before = netlink.link_by_index(index).unwrap().unwrap().stats;
            let header = VnetHeader::default().encode();
            let sent = frame(1000);
            assert_eq!(queue.send(&[IoSlice::new(&header), IoSlice::new(&sent)]).unwrap(), 1012);
            let after = netlink.link_by_index(index).unwrap().unwrap().stats;
            assert_eq!(after.rx_packets - before.rx_packets, 1);
            assert_eq!(after.rx_bytes - before.rx_bytes, 1000);
            // Out: what the kernel sends through a packet socket is what we read.
            let socket = crate::packet_socket::PacketSocket::open(index, Default::default()).unwrap();
            let sent = frame(700);
            socket.send(&VnetHeader::default(), &[IoSlice::new(&sent)]).unwrap();
            loop {
                wait_readable(&queue);
                let mut buffer = [0; 2048];
                let length = queue.recv(&mut buffer).unwrap();
                if buffer[TAP_HEADER_LENGTH..length] == sent {
                    break;
                }
            }
        });
    }

    #[test]
    fn empty_queue_would_block_and_down_device_is_an_error_not_an_end() {
        let ns = Scratch::new();
        ns.run(|| {
            let queue = TapQueue::open(&unique("tap"), TapQueues::Single, TapOpen::CreateNew).unwrap();
            assert_eq!(queue.recv(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let header = VnetHeader::default().encode();
            let error = queue.send(&[IoSlice::new(&header), IoSlice::new(&frame(60))]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
            assert!(!is_gone(&error));
        });
    }

    #[test]
    fn all_offloads_are_taken_by_this_kernel() {
        Scratch::new().run(|| {
            let mut queue = TapQueue::open(&unique("tap"), TapQueues::Single, TapOpen::CreateNew).unwrap();
            assert!(queue.offload() >= TapOffload::Tcp);
            assert_eq!(queue.set_offload(TapOffload::None).unwrap(), TapOffload::None);
        });
    }

    /// Kernels before 6.2 do not know UDP super-frames, and refuse all of what is asked for with them.
    #[test]
    fn what_the_kernel_does_not_know_is_left_out_and_the_rest_stays() {
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        for (known, wanted, in_force) in [
            (c_uint::MAX, TapOffload::TcpUdp, TapOffload::TcpUdp),
            (tcp, TapOffload::TcpUdp, TapOffload::Tcp),
            (tcp, TapOffload::Checksum, TapOffload::Checksum),
            (libc::TUN_F_CSUM, TapOffload::TcpUdp, TapOffload::Checksum),
            (0, TapOffload::TcpUdp, TapOffload::None),
        ] {
            let mut now = None;
            let step = highest_step(wanted, |bits| {
                if bits & !known != 0 {
                    return Err(io::Error::from_raw_os_error(libc::EINVAL));
                }
                now = Some(bits);
                Ok(())
            });
            assert_eq!(step.unwrap(), in_force);
            assert_eq!(now, Some(in_force.bits() & known), "what was set");
        }
    }

    #[test]
    fn device_that_is_gone_is_asked_once() {
        let mut asked = 0;
        let step = highest_step(TapOffload::TcpUdp, |_| {
            asked += 1;
            Err(io::Error::from_raw_os_error(libc::EBADFD))
        });
        assert_eq!((step.unwrap_err().raw_os_error(), asked), (Some(libc::EBADFD), 1));
    }

    #[test]
    fn names_in_use_are_refused() {
        Scratch::new().run(|| {
            let name = unique("tap");
            let first = TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew).unwrap();
            for how in [TapOpen::CreateNew, TapOpen::AttachOrCreate, TapOpen::Attach] {
                let error = TapQueue::open(&name, TapQueues::Single, how).unwrap_err();
                assert!(matches!(error, TapError::InUse { .. }), "{how:?}: {error}");
            }
            let error = TapQueue::open(&name, TapQueues::Multiple, TapOpen::Attach).unwrap_err();
            assert!(matches!(error, TapError::Mismatch { .. }), "{error}");
            let loopback = IfName::new("lo").unwrap();
            let error = TapQueue::open(&loopback, TapQueues::Single, TapOpen::Attach).unwrap_err();
            assert!(matches!(error, TapError::Mismatch { .. }), "{error}");
            drop(first);
            let missing = || {
                let error = TapQueue::open(&name, TapQueues::Single, TapOpen::Attach).unwrap_err();
                matches!(error, TapError::Missing { .. }).then_some(()).ok_or(error)
            };
            in_a_moment(missing).unwrap();
        });
    }

    #[test]
    fn persistent_device_can_be_attached_again_and_deleted() {
        Scratch::new().run(|| {
            let name = unique("tap");
            let queue = TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew).unwrap();
            queue.set_lifetime(TapLifetime::Persistent).unwrap();
            drop(queue);
            let error = TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew).unwrap_err();
            assert!(matches!(error, TapError::InUse { .. }), "{error}");
            let again =
                in_a_moment(|| TapQueue::open(&name, TapQueues::Single, TapOpen::AttachOrCreate)).unwrap();
            assert!(again.offload() >= TapOffload::Tcp);
            drop(again);
            assert!(exists(&name));
            in_a_moment(|| delete(&name, TapQueues::Single)).unwrap();
            assert!(!exists(&name));
            assert!(matches!(delete(&name, TapQueues::Single), Err(TapError::Missing { .. })));
        });
    }

    #[test]
    fn several_queues_of_one_device() {
        Scratch::new().run(|| {
            let name = unique("tap");
            let first = TapQueue::open(&name, TapQueues::Multiple, TapOpen::CreateNew).unwrap();
            let second = first.open_another().unwrap();
            assert_eq!(second.current_name().unwrap(), name);
        });
    }

    /// A UDP datagram between two ports, in either direction.
    fn datagram(from: u16, to: u16, is_reply: bool) -> Vec<u8> {
        let mut frame = frame(60);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14..26].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
        let (ours, theirs) = ([10, 9, 8, 7], [10, 9, 8, 6]);
        let addresses = if is_reply { [theirs, ours] } else { [ours, theirs] };
        frame[26..34].copy_from_slice(addresses.as_flattened());
        frame[34..38].copy_from_slice([from.to_be_bytes(), to.to_be_bytes()].as_flattened());
        frame[38..42].copy_from_slice(&[0, 26, 0, 0]);
        frame
    }

    const FLOWS: u16 = 32;

    /// Lets the kernel send a frame of each of [`FLOWS`] flows out of the device; by which of the queues each came.
    fn queues_of_flows(queues: &[&TapQueue], index: crate::IfIndex) -> Vec<usize> {
        let socket = crate::packet_socket::PacketSocket::open(index, Default::default()).unwrap();
        for n in 0..FLOWS {
            socket.send(&VnetHeader::default(), &[IoSlice::new(&datagram(n, 9, false))]).unwrap();
        }
        let mut poller = Poller::new().unwrap();
        for (n, queue) in queues.iter().enumerate() {
            poller.add(queue, PollToken(n as u64), Interest::Read).unwrap();
        }
        let mut came: Vec<Option<usize>> = vec![None; FLOWS.into()];
        while came.contains(&None) {
            let mut events = Vec::new();
            poller.wait(SECOND, &mut events).unwrap();
            assert!(!events.is_empty(), "{came:?} after five seconds");
            for (n, queue) in queues.iter().enumerate() {
                let mut buffer = [0; 2048];
                while let Ok(length) = queue.recv(&mut buffer) {
                    let frame = &buffer[TAP_HEADER_LENGTH..length];
                    if frame.len() == 60 && frame[12] == 0x08 && frame[26] == 10 {
                        came[usize::from(frame[35])] = Some(n);
                    }
                }
            }
        }
        came.into_iter().flatten().collect()
    }

    /// Sends the other direction of each flow.
    fn reply_by(queue: &TapQueue) {
        let header = VnetHeader::default().encode();
        for n in 0..FLOWS {
            queue.send(&[IoSlice::new(&header), IoSlice::new(&datagram(9, n, true))]).unwrap();
        }
    }

    #[test]
    fn detached_queues_get_nothing_and_come_back_even_if_the_device_has_moved() {
        Scratch::new().run(|| {
            let pod = Scratch::new();
            let name = unique("tap");
            let first = TapQueue::open(&name, TapQueues::Multiple, TapOpen::CreateNew).unwrap();
            let second = first.open_another().unwrap();
            second.set_attachment(TapAttachment::Detached).unwrap();
            second.set_attachment(TapAttachment::Detached).unwrap_err();
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link_by_name(&name).unwrap().unwrap().index;
            netlink.change(index, &LinkChange::default().netns(pod.netns())).unwrap();
            let index = pod.run(|| up(&mut Netlink::open().unwrap(), &name));
            let all = [&first, &second];
            assert_eq!(pod.run(|| queues_of_flows(&all, index)), [0; FLOWS as usize]);
            second.set_attachment(TapAttachment::Attached).unwrap();
            let spread = pod.run(|| queues_of_flows(&all, index));
            assert!(spread.contains(&0) && spread.contains(&1), "{spread:?}");
            second.set_attachment(TapAttachment::Detached).unwrap();
            assert_eq!(pod.run(|| queues_of_flows(&all, index)), [0; FLOWS as usize]);
            let single = TapQueue::open(&unique("tap"), TapQueues::Single, TapOpen::CreateNew).unwrap();
            single.set_attachment(TapAttachment::Detached).unwrap_err();
        });
    }

    /// What ports build on: a flow stays at its queue while its answers are written to a detached one.
    #[test]
    fn flows_stay_where_they_are_while_answers_go_by_a_detached_queue() {
        Scratch::new().run(|| {
            let name = unique("tap");
            let first = TapQueue::open(&name, TapQueues::Multiple, TapOpen::CreateNew).unwrap();
            let (second, third) = (first.open_another().unwrap(), first.open_another().unwrap());
            third.set_attachment(TapAttachment::Detached).unwrap();
            let index = up(&mut Netlink::open().unwrap(), &name);
            let all = [&first, &second];
            let spread = queues_of_flows(&all, index);
            assert!(spread.contains(&0) && spread.contains(&1), "{spread:?}");
            reply_by(&third);
            assert_eq!(queues_of_flows(&all, index), spread);
            // By an attached one it does not.
            reply_by(&second);
            assert_eq!(queues_of_flows(&all, index), [1; FLOWS as usize]);
        });
    }

    #[test]
    fn moved_device_keeps_its_queue_and_dies_with_its_namespace() {
        Scratch::new().run(|| {
            let pod = Scratch::new();
            let name = unique("tap");
            let queue = TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew).unwrap();
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.link_by_name(&name).unwrap().unwrap().index;
            let eth0 = IfName::new("eth0").unwrap();
            let change = LinkChange::default().netns(pod.netns()).name(eth0).mtu(1400);
            netlink.change(index, &change).unwrap();
            assert!(!exists(&name));
            assert_eq!(queue.current_name().unwrap(), eth0);
            assert_eq!(queue.netns().unwrap(), *pod.netns());
            drop(pod);
            let mut poller = Poller::new().unwrap();
            poller.add(&queue, PollToken(7), Interest::Read).unwrap();
            let mut events = Vec::new();
            poller.wait(SECOND, &mut events).unwrap();
            assert!(events.iter().any(|event| event.token == PollToken(7) && event.failed), "{events:?}");
            let error = queue.recv(&mut [0; 100]).unwrap_err();
            assert!(is_gone(&error), "{error}");
        });
    }
}
