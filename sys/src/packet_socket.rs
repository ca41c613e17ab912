//! Packet sockets: all frames of an existing netdev, received and sent beside the kernel's own stack (packet(7)).
//!
//! The kernel hands over what it knows beside the bytes, and nothing of it is lost here: the state of checksum and
//! segmentation (`PACKET_VNET_HDR`), and the outer VLAN tag, which the kernel takes out of received frames and the caller has
//! to put back ([`VlanTag`]).
//!
//! One frame a system call, or several. Not here: rings in shared memory, and any look into the frames.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_uint, socklen_t};

use crate::interface::IfIndex;
use crate::sockopt::{self, check, check_count};
use crate::vnet::{PACKET_HEADER_LENGTH, VnetChecksum, VnetError, VnetHeader};

/// The most pieces a frame to be sent may come in.
pub const PIECES_MAX: usize = 8;

/// The most frames that one [`PacketSocket::recv_many`] or [`PacketSocket::send_many`] moves.
pub const FRAMES_MAX: usize = 32;

/// Bytes of frames that may wait for us in the kernel; a burst of sixty-four super-frames.
const RECEIVE_BUFFER: c_int = 8 << 20;

/// Bytes of frames that may wait in the kernel to be sent.
const SEND_BUFFER: c_int = 4 << 20;

/// The 802.1Q EtherType, meant where an old kernel does not name the tag's.
const TPID_8021Q: u16 = 0x8100;

/// Whether the device is to receive frames that are not addressed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promiscuity {
    /// All frames on the wire, as a switch needs them.
    #[default]
    All,
    /// Only frames to its own and to group addresses.
    Own,
}

/// Whether super-frames and partial checksums may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PacketOffload {
    /// With a virtio-net header, if the kernel has it.
    #[default]
    IfPossible,
    /// Without. Partial checksums arrive all the same (veth), reported by [`Received::vnet`] as far as the kernel says.
    Never,
}

/// How to open a packet socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketOptions {
    /// What to receive.
    pub promiscuity: Promiscuity,
    /// In which form.
    pub offload: PacketOffload,
}

/// A VLAN tag that the kernel has taken out of a received frame. It belongs behind the two MAC addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanTag {
    /// EtherType of the tag: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN number (802.1Q clause 9.6).
    pub tci: u16,
}

/// What is known about a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer.
    pub length: usize,
    /// The frame was longer than the buffer; it must not be used.
    pub truncated: bool,
    /// State of checksum and segmentation, with offsets that do not count `vlan`.
    pub vnet: Result<VnetHeader, VnetError>,
    /// The outer VLAN tag, which is not in the bytes.
    pub vlan: Option<VlanTag>,
    /// The frame was sent by this host's own stack through the device, and the kernel could not be told to leave it out.
    pub outgoing: bool,
}

impl Received {
    /// Nothing yet.
    pub const EMPTY: Received = Received {
        length: 0,
        truncated: false,
        vnet: Ok(VnetHeader { checksum: VnetChecksum::Complete, gso: None }),
        vlan: None,
        outgoing: false,
    };
}

/// A packet socket bound to one device. Non-blocking, closed on exec. Several threads may use it at a time.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: IfIndex,
    vnet: bool,
    // Frames that the host sent through the device may come too.
    hears_outgoing: bool,
    // No guard of anything: relaxed.
    bypasses_queue: AtomicBool,
}

impl PacketSocket {
    /// Opens a socket for the device `index` of the calling thread's namespace.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_RAW`, `ENODEV` if there is no such device.
    pub fn open(index: IfIndex, options: PacketOptions) -> io::Result<Self> {
        let fd = open_silent()?;
        let on: c_int = 1;
        sockopt::set(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
        // Kernels before 4.20 refuse this; then `Received::outgoing` tells.
        let hears_outgoing = sockopt::set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on).is_err();
        let bypasses_queue = sockopt::set(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on).is_ok();
        let vnet = options.offload == PacketOffload::IfPossible
            && sockopt::set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on).is_ok();
        enlarge(&fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        enlarge(&fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        bind(&fd, &link_address(Some(index)))?;
        let socket =
            Self { fd, index, vnet, hears_outgoing, bypasses_queue: AtomicBool::new(bypasses_queue) };
        if options.promiscuity == Promiscuity::All {
            join_promiscuous(&socket.fd, index)?;
        }
        Ok(socket)
    }

    /// A socket that receives nothing. What it sends, with a virtio-net header, goes through the device's queue and past the
    /// programs that are attached there.
    ///
    /// # Errors
    /// As [`PacketSocket::open`], and what kernels without virtio-net headers say.
    pub fn sender(index: IfIndex) -> io::Result<Self> {
        let fd = open_silent()?;
        let on: c_int = 1;
        sockopt::set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)?;
        enlarge(&fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER)?;
        bind(&fd, &libc::sockaddr_ll { sll_protocol: 0, ..link_address(Some(index)) })?;
        let bypasses_queue = AtomicBool::new(false);
        Ok(Self { fd, index, vnet: true, hears_outgoing: false, bypasses_queue })
    }

    /// The device it was bound to.
    pub fn index(&self) -> IfIndex {
        self.index
    }

    /// Whether super-frames and partial checksums can be sent and received.
    pub fn has_vnet(&self) -> bool {
        self.vnet
    }

    /// Whether the device still exists in this namespace. A device that is only down still does.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn is_attached(&self) -> io::Result<bool> {
        let mut address = link_address(None);
        let mut length = address_length();
        // SAFETY: the kernel writes at most `length` bytes of a `sockaddr_ll`, and `address` is one.
        let result = unsafe {
            libc::getsockname(
                self.fd.as_raw_fd(),
                std::ptr::from_mut(&mut address).cast(),
                std::ptr::from_mut(&mut length),
            )
        };
        check(result)?;
        Ok(address.sll_ifindex == self.index.as_int())
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; `ENETDOWN` once when the device went down or away ([`PacketSocket::is_attached`] tells
    /// which); `InvalidInput` for a frame that the kernel cannot describe by a virtio-net header, which is lost.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut header = [0; PACKET_HEADER_LENGTH];
        let capacity = buffer.len();
        let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
        let used = if self.vnet { &mut pieces[..] } else { &mut pieces[1..] };
        let (mut control, mut address) = (Control::EMPTY, link_address(None));
        let mut message = EMPTY_MESSAGE.msg_hdr;
        message.msg_iov = used.as_mut_ptr().cast();
        message.msg_iovlen = used.len() as _;
        self.ask_about(&mut message, &mut control, &mut address);
        // SAFETY: `message` points to `address`, `used` (an `IoSliceMut` is an `iovec`) and `control`, with their lengths; all
        // of them outlive the call.
        let result = unsafe {
            libc::recvmsg(self.fd.as_raw_fd(), std::ptr::from_mut(&mut message), libc::MSG_DONTWAIT)
        };
        let length = check_count(result)?.saturating_sub(self.front_length()).min(capacity);
        Ok(self.describe(&message, &header, length, &address))
    }

    /// Receives frames, each into a buffer, in front of which come the [`PacketSocket::front_length`] bytes of its virtio-net
    /// header; `received` says what is known about those frames. At most [`FRAMES_MAX`].
    ///
    /// # Errors
    /// As [`PacketSocket::recv`], of the first. An error of a later one is that of the next call (of sending too).
    pub fn recv_many<'b>(
        &self,
        buffers: impl IntoIterator<Item = &'b mut [u8]>,
        received: &mut [Received],
    ) -> io::Result<usize> {
        let mut pieces: [_; FRAMES_MAX] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut controls = [Control::EMPTY; FRAMES_MAX];
        let mut addresses = [link_address(None); FRAMES_MAX];
        let mut messages = [EMPTY_MESSAGE; FRAMES_MAX];
        let mut count: c_uint = 0;
        let places = pieces.iter_mut().zip(&mut controls).zip(&mut addresses);
        let places = messages.iter_mut().zip(places).take(received.len());
        for ((message, ((piece, control), address)), buffer) in places.zip(buffers) {
            *piece = IoSliceMut::new(buffer);
            message.msg_hdr.msg_iov = std::ptr::from_mut(piece).cast();
            message.msg_hdr.msg_iovlen = 1;
            self.ask_about(&mut message.msg_hdr, control, address);
            count += 1;
        }
        // SAFETY: the first `count` messages each point to one of `pieces` (an `IoSliceMut` is an `iovec`), `controls` and
        // `addresses`, with their lengths; all of them outlive the call, and no timeout is given.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let filled = check(result)? as usize;
        let all = messages.iter().zip(pieces.iter().zip(&addresses)).take(filled);
        for (out, (message, (piece, address))) in received.iter_mut().zip(all) {
            let length = (message.msg_len as usize).min(piece.len()).saturating_sub(self.front_length());
            *out = self.describe(&message.msg_hdr, piece, length, address);
        }
        Ok(filled)
    }

    /// Bytes of virtio-net header in front of each frame of [`PacketSocket::recv_many`] and [`PacketSocket::send_many`].
    pub fn front_length(&self) -> usize {
        if self.vnet { PACKET_HEADER_LENGTH } else { 0 }
    }

    /// Has the kernel say what it knows of the frame. The pointers put into `message` are good as long as the borrows are.
    fn ask_about(&self, message: &mut libc::msghdr, control: &mut Control, address: &mut libc::sockaddr_ll) {
        if self.hears_outgoing {
            message.msg_name = std::ptr::from_mut(address).cast();
            message.msg_namelen = address_length();
        }
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
    }

    /// What is known about a frame of `length` bytes. `message` must have been filled in by the kernel, and the control buffer
    /// that it names be alive.
    fn describe(
        &self,
        message: &libc::msghdr,
        header: &[u8],
        length: usize,
        address: &libc::sockaddr_ll,
    ) -> Received {
        let auxiliary = auxiliary_data(message);
        let vnet = if self.vnet {
            VnetHeader::decode(header, length)
        } else {
            Ok(VnetHeader { checksum: checksum_of(auxiliary.as_ref()), gso: None })
        };
        Received {
            length,
            truncated: message.msg_flags & libc::MSG_TRUNC != 0,
            vnet,
            vlan: auxiliary.as_ref().and_then(vlan_of),
            outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        }
    }

    /// Sends one frame, complete from its first MAC address on. Without a virtio-net header ([`PacketSocket::has_vnet`])
    /// `header` is not looked at, and the frame must be complete.
    ///
    /// # Errors
    /// `WouldBlock` and `ENOBUFS` when there is no room, `EMSGSIZE` for a frame longer than the MTU allows, `ENETDOWN` when
    /// the device is down, `ENXIO` when it is gone, `InvalidInput` for an impossible header or too many pieces.
    pub fn send(&self, header: &VnetHeader, frame: &[IoSlice<'_>]) -> io::Result<usize> {
        let header = header.encode_short();
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX + 1];
        if frame.len() > PIECES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let all = std::iter::once(IoSlice::new(&header)).chain(frame.iter().copied());
        let mut count = 0;
        for (to, from) in pieces.iter_mut().zip(all.skip(usize::from(!self.vnet))) {
            *to = from;
            count += 1;
        }
        let mut message = EMPTY_MESSAGE.msg_hdr;
        message.msg_iov = pieces.as_mut_ptr().cast();
        message.msg_iovlen = count as _;
        // SAFETY: `message` points to `count` initialised entries of `pieces` (an `IoSlice` is an `iovec`), whose bytes outlive
        // the call; the kernel only reads them.
        let result = unsafe {
            libc::sendmsg(
                self.fd.as_raw_fd(),
                std::ptr::from_ref(&message),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        Ok(check_count(result)?.saturating_sub(self.front_length()))
    }

    /// Sends frames in order, at most [`FRAMES_MAX`], each behind the [`PacketSocket::front_length`] bytes of its virtio-net
    /// header. Says how many were sent.
    ///
    /// # Errors
    /// Why the first was not, as [`PacketSocket::send`]. An error of a later one is that of the call that begins with it.
    pub fn send_many<'f>(&self, frames: impl IntoIterator<Item = &'f [u8]>) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); FRAMES_MAX];
        let mut messages = [EMPTY_MESSAGE; FRAMES_MAX];
        let mut count = 0;
        for ((message, piece), frame) in messages.iter_mut().zip(&mut pieces).zip(frames) {
            *piece = IoSlice::new(frame);
            message.msg_hdr.msg_iov = std::ptr::from_mut(piece).cast();
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: the first `count` messages each point to one of `pieces` (an `IoSlice` is an `iovec`), whose bytes outlive
        // the call; the kernel only reads them.
        unsafe { self.send_messages(&mut messages, count) }
    }

    /// The same, each frame under a mark (`SO_MARK` of socket(7)).
    ///
    /// # Errors
    /// As [`PacketSocket::send_many`].
    pub fn send_marked<'f>(&self, frames: impl IntoIterator<Item = (u32, &'f [u8])>) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); FRAMES_MAX];
        let mut marks = [MarkControl::of(0); FRAMES_MAX];
        let mut messages = [EMPTY_MESSAGE; FRAMES_MAX];
        let mut count = 0;
        let places = messages.iter_mut().zip(pieces.iter_mut().zip(&mut marks));
        for ((message, (piece, control)), (mark, frame)) in places.zip(frames) {
            (*piece, *control) = (IoSlice::new(frame), MarkControl::of(mark));
            message.msg_hdr.msg_iov = std::ptr::from_mut(piece).cast();
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
            message.msg_hdr.msg_controllen = size_of::<MarkControl>() as _;
            count += 1;
        }
        // SAFETY: the first `count` messages each point to one of `pieces`, as above, and to one of `marks` with its length,
        // all of which outlive the call; the kernel only reads them.
        unsafe { self.send_messages(&mut messages, count) }
    }

    /// # Safety
    /// What the first `count` messages point to must be there to be read for as long as the call takes.
    unsafe fn send_messages(
        &self,
        messages: &mut [libc::mmsghdr; FRAMES_MAX],
        count: c_uint,
    ) -> io::Result<usize> {
        // SAFETY: by this function's contract; the kernel writes how much it sent into the messages.
        let result = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        Ok(check(result)? as usize)
    }

    /// Sends through the device's queue from now on. At first frames bypass it, which costs less and loses nothing on a device
    /// that has only just got its carrier; but then the kernel does not cut super-frames for a device that cannot, and refuses
    /// them with `ENOBUFS`. Says whether that may have been why: false if the queue was in use.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn use_queue(&self) -> io::Result<bool> {
        if !self.bypasses_queue.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let off: c_int = 0;
        sockopt::set(&self.fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &off)?;
        self.bypasses_queue.store(false, Ordering::Relaxed);
        Ok(true)
    }
}

/// A membership ends with the socket, unlike the device's own flag, which a crash would leave behind.
fn join_promiscuous(fd: &OwnedFd, index: IfIndex) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: index.as_int(),
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    sockopt::set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Has a device receive all frames on the wire for those who take them otherwise than by a [`PacketSocket`], until this is
/// dropped.
#[derive(Debug)]
pub struct Promiscuous {
    _fd: OwnedFd,
}

impl Promiscuous {
    /// For the device `index` of the calling thread's namespace.
    ///
    /// # Errors
    /// As [`PacketSocket::open`].
    pub fn hold(index: IfIndex) -> io::Result<Promiscuous> {
        let fd = open_silent()?;
        join_promiscuous(&fd, index)?;
        Ok(Promiscuous { _fd: fd })
    }
}

/// A socket of no protocol, which receives nothing until it is bound.
fn open_silent() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `socket` takes no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just made `fd` for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for one control message with a `tpacket_auxdata`, aligned as a control message header has to be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

impl Control {
    const EMPTY: Self = Self([0; 64]);
}

/// The control message that gives a frame its mark.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct MarkControl {
    header: libc::cmsghdr,
    mark: u32,
}

impl MarkControl {
    const fn of(mark: u32) -> MarkControl {
        // SAFETY: integers all of them, for which zero is a value.
        let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u32>()) as _;
        (header.cmsg_level, header.cmsg_type) = (libc::SOL_SOCKET, libc::SO_MARK);
        MarkControl { header, mark }
    }
}

fn auxiliary_data(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: `message` has been filled in by recvmsg; its control buffer is alive in the caller, and CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay inside its length.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            let whole = libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) as usize;
            if control.cmsg_level == libc::SOL_PACKET
                && control.cmsg_type == libc::PACKET_AUXDATA
                && control.cmsg_len >= whole
            {
                let data: *const libc::tpacket_auxdata = libc::CMSG_DATA(header).cast();
                return Some(data.read_unaligned());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

fn vlan_of(auxiliary: &libc::tpacket_auxdata) -> Option<VlanTag> {
    if auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let tpid = if auxiliary.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
        auxiliary.tp_vlan_tpid
    } else {
        TPID_8021Q
    };
    Some(VlanTag { tpid, tci: auxiliary.tp_vlan_tci })
}

// Without a virtio-net header the kernel only says that the checksum is partial, not where it is: the port finds that out.
fn checksum_of(auxiliary: Option<&libc::tpacket_auxdata>) -> VnetChecksum {
    match auxiliary.map_or(0, |auxiliary| auxiliary.tp_status) {
        status if status & libc::TP_STATUS_CSUMNOTREADY != 0 => VnetChecksum::Partial { start: 0, offset: 0 },
        status if status & libc::TP_STATUS_CSUM_VALID != 0 => VnetChecksum::Valid,
        _ => VnetChecksum::Complete,
    }
}

/// Beyond the system's limit if we may, else up to it.
fn enlarge(fd: &OwnedFd, forced: c_int, ordinary: c_int, bytes: c_int) -> io::Result<()> {
    sockopt::set(fd, libc::SOL_SOCKET, forced, &bytes)
        .or_else(|_| sockopt::set(fd, libc::SOL_SOCKET, ordinary, &bytes))
}

fn bind(fd: &OwnedFd, address: &libc::sockaddr_ll) -> io::Result<()> {
    // SAFETY: `address` is a `sockaddr_ll` of the length given, which the kernel only reads.
    let result = unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), address_length()) };
    check(result).map(drop)
}

fn link_address(index: Option<IfIndex>) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.map_or(0, IfIndex::as_int),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn address_length() -> socklen_t {
    size_of::<libc::sockaddr_ll>() as socklen_t
}

// SAFETY: `mmsghdr` consists of pointers and integers (with padding in some C libraries), for all of which zero is a value.
const EMPTY_MESSAGE: libc::mmsghdr = unsafe { std::mem::zeroed() };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IfName;
    use crate::netlink::{AdminState, LinkChange, Netlink};
    use crate::poll::{Interest, PollToken, Poller};
    use crate::scratch::Scratch;
    use std::time::Duration;

    fn pair(netlink: &mut Netlink) -> (IfIndex, IfIndex) {
        let [left, right] = ["left", "right"].map(|name| IfName::new(name).unwrap());
        netlink.create_veth(&left, &right).unwrap();
        let [left, right] = [left, right].map(|name| {
            let index = netlink.link_by_name(&name).unwrap().unwrap().index;
            netlink.change(index, &LinkChange::default().admin(AdminState::Up)).unwrap();
            index
        });
        (left, right)
    }

    // The kernel sends its own neighbour discovery through a fresh veth: ours are told by their source address.
    const OURS: [u8; 6] = [2, 0, 0, 0xbe, 0xef, 1];

    fn frame(ether_type: &[u8], length: usize) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0xbe, 0xef, 2];
        frame.extend(OURS);
        frame.extend(ether_type);
        frame.resize(length, 0xa5);
        frame
    }

    fn recv(socket: &PacketSocket) -> (Received, Vec<u8>) {
        let mut poller = Poller::new().unwrap();
        poller.add(socket, PollToken(1), Interest::Read).unwrap();
        let mut events = Vec::new();
        let mut buffer = vec![0; 70_000];
        loop {
            match socket.recv(&mut buffer) {
                Ok(received) if buffer[6..12] == OURS => {
                    return (received, buffer[..received.length].to_vec());
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
                    assert!(!events.is_empty(), "no frame in time");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn frames_to_others_arrive_unchanged() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            for offload in [PacketOffload::IfPossible, PacketOffload::Never] {
                let options = PacketOptions { offload, ..Default::default() };
                let sender = PacketSocket::open(left, options).unwrap();
                let receiver = PacketSocket::open(right, options).unwrap();
                assert_eq!(receiver.has_vnet(), offload == PacketOffload::IfPossible);
                let sent = frame(&[0x88, 0xb5], 1514);
                let pieces = [IoSlice::new(&sent[..20]), IoSlice::new(&sent[20..])];
                assert_eq!(sender.send(&VnetHeader::default(), &pieces).unwrap(), 1514);
                let (received, bytes) = recv(&receiver);
                assert_eq!(bytes, sent);
                assert_eq!((received.vlan, received.truncated, received.outgoing), (None, false, false));
                assert!(received.vnet.is_ok());
            }
        });
    }

    #[test]
    fn vlan_tag_is_reported_beside_the_frame() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            let sender = PacketSocket::open(left, PacketOptions::default()).unwrap();
            let receiver = PacketSocket::open(right, PacketOptions::default()).unwrap();
            for (tpid, tci) in [(0x8100u16, 0x6064u16), (0x88a8, 0x0fff), (0x8100, 0)] {
                let tag = [tpid.to_be_bytes(), tci.to_be_bytes(), [0x88, 0xb5]].concat();
                let sent = frame(&tag, 100);
                sender.send(&VnetHeader::default(), &[IoSlice::new(&sent)]).unwrap();
                let (received, bytes) = recv(&receiver);
                assert_eq!(received.vlan, Some(VlanTag { tpid, tci }));
                assert_eq!(bytes, [&sent[..12], &sent[16..]].concat());
            }
        });
    }

    #[test]
    fn short_buffer_is_said_to_be_short() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            let sender = PacketSocket::open(left, PacketOptions::default()).unwrap();
            let receiver = PacketSocket::open(right, PacketOptions::default()).unwrap();
            let mut poller = Poller::new().unwrap();
            poller.add(&receiver, PollToken(1), Interest::Read).unwrap();
            sender.send(&VnetHeader::default(), &[IoSlice::new(&frame(&[0x88, 0xb5], 1000))]).unwrap();
            let (mut events, mut buffer) = (Vec::new(), [0; 500]);
            loop {
                poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
                let received = receiver.recv(&mut buffer).unwrap();
                if buffer[6..12] == OURS {
                    assert_eq!((received.length, received.truncated), (500, true));
                    break;
                }
            }
        });
    }

    /// What `send_many` and `recv_many` take: a frame behind a header that says nothing.
    fn behind_header(socket: &PacketSocket, frame: &[u8]) -> Vec<u8> {
        [&[0; PACKET_HEADER_LENGTH][..socket.front_length()], frame].concat()
    }

    /// Receives `count` of our frames, several a call.
    fn recv_all(socket: &PacketSocket, count: usize) -> Vec<(Received, Vec<u8>)> {
        let mut poller = Poller::new().unwrap();
        poller.add(socket, PollToken(1), Interest::Read).unwrap();
        let mut all = Vec::new();
        let mut buffers = vec![vec![0; 2000]; FRAMES_MAX];
        let mut received = [Received::EMPTY; FRAMES_MAX];
        while all.len() < count {
            match socket.recv_many(buffers.iter_mut().map(Vec::as_mut_slice), &mut received) {
                Ok(found) => {
                    let front = socket.front_length();
                    let bytes =
                        buffers.iter().zip(received).map(|(b, r)| (r, b[front..][..r.length].to_vec()));
                    all.extend(bytes.take(found).filter(|(_, bytes)| bytes[6..12] == OURS));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut events = Vec::new();
                    poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
                    assert!(!events.is_empty(), "no frame in time");
                }
                Err(error) => panic!("{error}"),
            }
        }
        all
    }

    #[test]
    fn several_a_call_keep_their_order_and_what_is_known_of_each() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            for offload in [PacketOffload::IfPossible, PacketOffload::Never] {
                let options = PacketOptions { offload, ..Default::default() };
                let sender = PacketSocket::open(left, options).unwrap();
                let receiver = PacketSocket::open(right, options).unwrap();
                let plain = |n: usize| frame(&[0x88, 0xb5], 60 + n);
                let tagged = |n: usize| frame(&[0x81, 0, 0, n as u8, 0x88, 0xb5], 64 + n);
                let all: Vec<_> = (0..70).map(|n| if n % 3 == 0 { tagged(n) } else { plain(n) }).collect();
                let sent: Vec<_> = all.iter().map(|frame| behind_header(&sender, frame)).collect();
                let mut done = 0;
                for expected in [32, 32, 6] {
                    let count = sender.send_many(sent[done..].iter().map(Vec::as_slice)).unwrap();
                    assert_eq!(count, expected);
                    done += count;
                }
                assert_eq!(sender.send_many([]).unwrap(), 0);
                for (n, (received, bytes)) in recv_all(&receiver, 70).into_iter().enumerate() {
                    let tag = VlanTag { tpid: 0x8100, tci: n as u16 };
                    assert_eq!(received.vlan, (n % 3 == 0).then_some(tag));
                    assert_eq!(bytes, plain(n));
                    assert_eq!((received.truncated, received.outgoing), (false, false));
                    assert_eq!(received.vnet, Ok(VnetHeader::default()));
                }
            }
        });
    }

    #[test]
    fn headers_belong_to_their_frames() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            let sender = PacketSocket::open(left, PacketOptions::default()).unwrap();
            let receiver = PacketSocket::open(right, PacketOptions::default()).unwrap();
            let header = |n: usize| VnetHeader {
                checksum: VnetChecksum::Partial { start: 20 + n as u16, offset: 6 },
                gso: None,
            };
            let sent: Vec<_> = (0..5)
                .map(|n| [&header(n).encode_short()[..], &frame(&[0x88, 0xb5], 100 + n)].concat())
                .collect();
            assert_eq!(sender.send_many(sent.iter().map(Vec::as_slice)).unwrap(), 5);
            for (n, (received, bytes)) in recv_all(&receiver, 5).into_iter().enumerate() {
                assert_eq!((received.vnet, bytes), (Ok(header(n)), frame(&[0x88, 0xb5], 100 + n)));
            }
        });
    }

    #[test]
    fn error_in_the_middle_is_that_of_its_frame() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            let sender = PacketSocket::open(left, PacketOptions::default()).unwrap();
            let receiver = PacketSocket::open(right, PacketOptions::default()).unwrap();
            let sent = [60, 61, 4000, 62].map(|n| behind_header(&sender, &frame(&[0x88, 0xb5], n)));
            let send = |from: usize| sender.send_many(sent[from..].iter().map(Vec::as_slice));
            assert_eq!(send(0).unwrap(), 2);
            assert_eq!(send(2).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
            assert_eq!(send(3).unwrap(), 1);
            let lengths: Vec<_> = recv_all(&receiver, 3).iter().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(lengths, [60, 61, 62]);
        });
    }

    #[test]
    fn short_buffer_among_others_is_said_to_be_short() {
        Scratch::new().run(|| {
            let (left, right) = pair(&mut Netlink::open().unwrap());
            let sender = PacketSocket::open(left, PacketOptions::default()).unwrap();
            for offload in [PacketOffload::IfPossible, PacketOffload::Never] {
                let options = PacketOptions { offload, ..Default::default() };
                let receiver = PacketSocket::open(right, options).unwrap();
                let sent = behind_header(&sender, &frame(&[0x88, 0xb5], 1000));
                assert_eq!(sender.send_many([&sent[..]; 5]).unwrap(), 5);
                let front = receiver.front_length();
                let rooms = [2000, 500, 2000, 500, 500];
                let mut buffers = rooms.map(|room| vec![0; room + front]);
                let mut poller = Poller::new().unwrap();
                poller.add(&receiver, PollToken(1), Interest::Read).unwrap();
                let mut ours = 0;
                while ours < 5 {
                    let mut events = Vec::new();
                    poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
                    assert!(!events.is_empty(), "no frame in time");
                    let mut received = [Received::EMPTY; 4];
                    let buffers_mut = buffers.iter_mut().map(Vec::as_mut_slice);
                    let count = receiver.recv_many(buffers_mut, &mut received).unwrap();
                    assert!(count <= 4, "no more than there is room to describe");
                    for ((buffer, received), room) in buffers.iter().zip(received).zip(rooms).take(count) {
                        if buffer[front..][6..12] == OURS {
                            assert_eq!((received.length, received.truncated), (room.min(1000), room < 1000));
                            ours += 1;
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn impossible_sends_are_errors() {
        Scratch::new().run(|| {
            let (left, _) = pair(&mut Netlink::open().unwrap());
            let socket = PacketSocket::open(left, PacketOptions::default()).unwrap();
            let plain = VnetHeader::default();
            let long = frame(&[0x88, 0xb5], 4000);
            let error = socket.send(&plain, &[IoSlice::new(&long)]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            let outside =
                VnetHeader { checksum: VnetChecksum::Partial { start: 3000, offset: 6 }, gso: None };
            let error = socket.send(&outside, &[IoSlice::new(&long[..100])]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            let piece = IoSlice::new(&long[..10]);
            let error = socket.send(&plain, &[piece; PIECES_MAX + 1]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        });
    }

    #[test]
    fn down_and_gone_are_told_apart() {
        Scratch::new().run(|| {
            let mut netlink = Netlink::open().unwrap();
            let (left, _) = pair(&mut netlink);
            let socket = PacketSocket::open(left, PacketOptions::default()).unwrap();
            let drain = |socket: &PacketSocket| loop {
                let error = match socket.recv(&mut [0; 2000]) {
                    Ok(_) => continue,
                    Err(error) => error,
                };
                return error.raw_os_error();
            };
            netlink.change(left, &LinkChange::default().admin(AdminState::Down)).unwrap();
            assert_eq!(drain(&socket), Some(libc::ENETDOWN));
            let sent = behind_header(&socket, &frame(&[0x88, 0xb5], 60));
            let error = socket.send_many([&sent[..]; 3]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
            assert!(socket.is_attached().unwrap());
            netlink.change(left, &LinkChange::default().admin(AdminState::Up)).unwrap();
            let sent = frame(&[0x88, 0xb5], 60);
            socket.send(&VnetHeader::default(), &[IoSlice::new(&sent)]).unwrap();
            netlink.delete(left).unwrap();
            let mut buffer = [0; 2000];
            let mut received = [Received::EMPTY];
            let error = loop {
                match socket.recv_many([&mut buffer[..]], &mut received) {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
            assert!(!socket.is_attached().unwrap());
            let error = socket.send(&VnetHeader::default(), &[IoSlice::new(&sent)]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        });
    }

    #[test]
    fn device_is_promiscuous_as_long_as_somebody_wants_it() {
        Scratch::new().run(|| {
            let (left, _) = pair(&mut Netlink::open().unwrap());
            // ip(8) shows how many do.
            let shown = || {
                let arguments = ["-d", "link", "show", "dev", "left"];
                let shown = std::process::Command::new("ip").args(arguments).output().unwrap();
                String::from_utf8(shown.stdout).unwrap()
            };
            assert!(shown().contains(" promiscuity 0 "));
            let held = Promiscuous::hold(left).unwrap();
            assert!(shown().contains(" promiscuity 1 "));
            drop(held);
            assert!(shown().contains(" promiscuity 0 "));
        });
    }

    #[test]
    fn no_such_device() {
        Scratch::new().run(|| {
            let error =
                PacketSocket::open(IfIndex::new(4242).unwrap(), PacketOptions::default()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        });
    }
}
