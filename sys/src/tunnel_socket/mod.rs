//! Sockets that carry tunnels of the host: UDP (udp(7)), and raw ones for GRE (raw(7)), over IPv4 and IPv6.
//!
//! Datagrams are received and sent several a system call, with what tunnels need of the outer headers: both addresses, the
//! TOS with its congestion mark, the TTL. Equal datagrams that belong together travel as one: the kernel joins them on
//! receipt (`UDP_GRO`) and cuts them on sending (`UDP_SEGMENT`), each 64 KB at most.
//!
//! A UDP socket has one source port, so who wants several opens several senders. Senders receive nothing: a filter drops it
//! in the kernel. Errors that routers or peers report by ICMP belong to earlier datagrams; they come from
//! [`TunnelSocket::take_report`], and the datagram whose sending they disturbed can be sent again.
//!
//! Not here: tunnel headers, and link-local destinations, which would need a link.

mod control;

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_uint};

use crate::sockopt::{self, check};
use crate::udp::UDP_SEGMENT;
use control::{Control, Name, int};

/// The most datagrams (or joined ones) that one [`TunnelSocket::recv`] takes.
pub const RECEIVE_MAX: usize = 32;
/// The most datagrams (or joined ones) that one [`TunnelSocket::send`] takes.
pub const SEND_MAX: usize = 16;
/// The most datagrams that one [`TunnelSocket::send_parts`] takes.
pub const PARTS_MAX: usize = 64;
/// The most segments in one datagram to be cut; kernels before 6.9 allow no more.
pub const SEGMENTS_MAX: usize = 64;
/// The most bytes of UDP payload in one datagram, joined or not, over either family.
pub const PAYLOAD_MAX: usize = 65_507;

/// UDP source ports of tunnels, by sockets and by the kernel's device: the dynamic ports (RFC 6335), as RFC 7348 section 5 and
/// RFC 8926 section 3.3 advise.
pub const SOURCE_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Bytes that may wait in the kernel, each way.
const BUFFER: c_int = 4 << 20;

// `linux/udp.h`; the libc crate has them for one C library only.
const UDP_NO_CHECK6_RX: c_int = 102;
const UDP_GRO: c_int = 104;

/// The protocol in IP that the tunnel uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// UDP.
    Udp,
    /// GRE, IP protocol 47. Its packets have no ports.
    Gre,
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// That of an address.
    pub const fn of(address: IpAddr) -> IpFamily {
        match address {
            IpAddr::V4(_) => IpFamily::V4,
            IpAddr::V6(_) => IpFamily::V6,
        }
    }

    fn unspecified(self) -> IpAddr {
        match self {
            IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
            IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// Whether datagrams longer than the path allows may be cut into fragments by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragmentation {
    /// No: over IPv4 with Don't Fragment. Sending one fails with `EMSGSIZE`.
    Never,
    /// Yes, by the host, and over IPv4 by routers.
    Allowed,
}

/// What is known about a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer. Over raw IPv4 sockets they begin with the IP header.
    pub length: usize,
    /// It was longer than the buffer; it must not be used.
    pub truncated: bool,
    /// Who sent it.
    pub source: IpAddr,
    /// From which UDP port; 0 for GRE.
    pub source_port: u16,
    /// The address it was sent to.
    pub destination: IpAddr,
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// The bytes are several datagrams of this many bytes each, the last perhaps shorter.
    pub segment_size: Option<u16>,
}

impl Received {
    /// Nothing yet.
    pub const EMPTY: Received = Received {
        length: 0,
        truncated: false,
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        source_port: 0,
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        tos: 0,
        ttl: 0,
        segment_size: None,
    };
}

/// A datagram to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Where to; of the socket's family.
    pub destination: IpAddr,
    /// To which UDP port; 0 for GRE.
    pub port: u16,
    /// The address to send from; the unspecified one lets the kernel choose.
    pub source: IpAddr,
    /// TOS or traffic class, with the congestion mark.
    pub tos: u8,
    /// TTL or hop limit; 0 for the host's default.
    pub ttl: u8,
    /// Cut the payload into datagrams of this many bytes each (UDP only).
    pub segment_size: Option<u16>,
    /// The payload in pieces: behind the UDP header, or from the GRE header on.
    pub payload: &'a [IoSlice<'a>],
}

/// What became of an earlier datagram, as the kernel or an ICMP message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Where it was sent to.
    pub destination: IpAddr,
    /// The error code that says what happened: `EMSGSIZE`, `ECONNREFUSED`, `EHOSTUNREACH` …
    pub errno: i32,
    /// With `EMSGSIZE` the longest IP packet that the path takes, in bytes.
    pub mtu: Option<u32>,
}

/// A socket of one family. Non-blocking, closed on exec.
#[derive(Debug)]
pub struct TunnelSocket {
    fd: OwnedFd,
    carrier: Carrier,
    family: IpFamily,
}

impl TunnelSocket {
    /// A socket that receives: for UDP what is sent to `port` at any address of the host, for GRE everything.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody has the port, `EAFNOSUPPORT` without the family, `PermissionDenied` for GRE without
    /// `CAP_NET_RAW`.
    pub fn receiver(carrier: Carrier, family: IpFamily, port: u16) -> io::Result<Self> {
        let socket = Self::open(carrier, family)?;
        let on: c_int = 1;
        match family {
            IpFamily::V4 => {
                for option in [libc::IP_PKTINFO, libc::IP_RECVTOS, libc::IP_RECVTTL] {
                    sockopt::set(&socket.fd, libc::SOL_IP, option, &on)?;
                }
            }
            IpFamily::V6 => {
                for option in [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT] {
                    sockopt::set(&socket.fd, libc::SOL_IPV6, option, &on)?;
                }
            }
        }
        if carrier == Carrier::Udp {
            // Kernels before 5.0 do without; so do we.
            let _ = sockopt::set(&socket.fd, libc::SOL_UDP, UDP_GRO, &on);
            if family == IpFamily::V6 {
                // Tunnels need no checksum over IPv6 (RFC 6935), and some senders leave it out.
                sockopt::set(&socket.fd, libc::SOL_UDP, UDP_NO_CHECK6_RX, &on)?;
            }
            socket.bind(port)?;
        }
        socket.enlarge(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)?;
        Ok(socket)
    }

    /// A socket that sends: for UDP from a port of its own, which the kernel chooses.
    ///
    /// # Errors
    /// As [`TunnelSocket::receiver`].
    pub fn sender(carrier: Carrier, family: IpFamily) -> io::Result<Self> {
        let socket = Self::open(carrier, family)?;
        // First, so that nothing is received meanwhile.
        socket.refuse_everything()?;
        let on: c_int = 1;
        match family {
            IpFamily::V4 => sockopt::set(&socket.fd, libc::SOL_IP, libc::IP_RECVERR, &on)?,
            IpFamily::V6 => sockopt::set(&socket.fd, libc::SOL_IPV6, libc::IPV6_RECVERR, &on)?,
        }
        if carrier == Carrier::Udp {
            socket.bind_source()?;
        }
        socket.set_fragmentation(Fragmentation::Never)?;
        socket.enlarge(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)?;
        Ok(socket)
    }

    fn open(carrier: Carrier, family: IpFamily) -> io::Result<Self> {
        let domain = match family {
            IpFamily::V4 => libc::AF_INET,
            IpFamily::V6 => libc::AF_INET6,
        };
        let (kind, protocol) = match carrier {
            Carrier::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
            Carrier::Gre => (libc::SOCK_RAW, libc::IPPROTO_GRE),
        };
        let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: `socket` takes no pointers.
        let fd = check(unsafe { libc::socket(domain, kind, protocol) })?;
        // SAFETY: the kernel has just made `fd` for us, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Raw sockets are of one family anyway.
        if family == IpFamily::V6 && carrier == Carrier::Udp {
            let on: c_int = 1;
            sockopt::set(&fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, &on)?;
        }
        Ok(Self { fd, carrier, family })
    }

    /// Binds to the highest source port that is free: from the upper end on there are least of those that the kernel gives to
    /// sockets which want any (`ip_local_port_range`).
    fn bind_source(&self) -> io::Result<()> {
        for port in SOURCE_PORTS.rev() {
            match self.bind(port) {
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
                result => return result,
            }
        }
        Err(io::Error::from_raw_os_error(libc::EADDRINUSE))
    }

    fn bind(&self, port: u16) -> io::Result<()> {
        let (name, length) = Name::new(self.family.unspecified(), port);
        // SAFETY: `name` is a socket address of `length` bytes, which the kernel only reads.
        let result = unsafe {
            libc::bind(self.fd.as_raw_fd(), std::ptr::from_ref(&name).cast(), length as libc::socklen_t)
        };
        check(result).map(drop)
    }

    fn enlarge(&self, forced: c_int, ordinary: c_int) -> io::Result<()> {
        sockopt::set(&self.fd, libc::SOL_SOCKET, forced, &BUFFER)
            .or_else(|_| sockopt::set(&self.fd, libc::SOL_SOCKET, ordinary, &BUFFER))
    }

    /// A filter of one instruction, "take nothing".
    fn refuse_everything(&self) -> io::Result<()> {
        let code = (libc::BPF_RET | libc::BPF_K) as u16;
        let mut nothing = libc::sock_filter { code, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: std::ptr::from_mut(&mut nothing) };
        // The kernel copies the program during the call, in which `nothing` is alive.
        sockopt::set(&self.fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// The version of IP.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// The UDP port it is bound to; 0 for GRE.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn port(&self) -> io::Result<u16> {
        let name = self.name()?;
        Ok(match self.carrier {
            Carrier::Udp => name.read().map_or(0, |(_, port)| port),
            Carrier::Gre => 0,
        })
    }

    /// The address that it is bound to.
    fn name(&self) -> io::Result<Name> {
        let mut name = Name::EMPTY;
        let mut length = control::NAME_LENGTH as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `name`, which has as many.
        let result = unsafe {
            libc::getsockname(
                self.fd.as_raw_fd(),
                std::ptr::from_mut(&mut name).cast(),
                std::ptr::from_mut(&mut length),
            )
        };
        check(result)?;
        Ok(name)
    }

    /// Says what is to happen with datagrams that are too long from now on.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn set_fragmentation(&self, fragmentation: Fragmentation) -> io::Result<()> {
        let (level, option) = match self.family {
            IpFamily::V4 => (libc::SOL_IP, libc::IP_MTU_DISCOVER),
            IpFamily::V6 => (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
        };
        // The values are the same for both families.
        let how = match fragmentation {
            Fragmentation::Never => libc::IP_PMTUDISC_DO,
            Fragmentation::Allowed => libc::IP_PMTUDISC_DONT,
        };
        sockopt::set(&self.fd, level, option, &how)
    }

    /// Says whether UDP datagrams over IPv4 get a checksum from now on, as they do at first; without one none can be joined.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn set_checksums(&self, wanted: bool) -> io::Result<()> {
        let off = libc::c_int::from(!wanted);
        sockopt::set(&self.fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, &off)
    }

    /// Reads datagrams, each into a buffer; `received` says what is known about those in front. At most [`RECEIVE_MAX`].
    ///
    /// # Errors
    /// `WouldBlock` when none waits.
    pub fn recv(&self, buffers: &mut [IoSliceMut<'_>], received: &mut [Received]) -> io::Result<usize> {
        let count = buffers.len().min(received.len()).min(RECEIVE_MAX);
        let mut names = [Name::EMPTY; RECEIVE_MAX];
        let mut controls = [Control::EMPTY; RECEIVE_MAX];
        let mut messages = [EMPTY_MESSAGE; RECEIVE_MAX];
        let places = names.iter_mut().zip(&mut controls).zip(buffers.iter_mut());
        for (message, ((name, control), buffer)) in messages.iter_mut().zip(places) {
            let header = &mut message.msg_hdr;
            header.msg_name = name.0.as_mut_ptr().cast();
            header.msg_namelen = control::NAME_LENGTH as libc::socklen_t;
            header.msg_iov = std::ptr::from_mut(buffer).cast();
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = control::CONTROL_LENGTH as _;
        }
        // SAFETY: the first `count` messages each point to a name, a control buffer and a buffer (an `IoSliceMut` is an
        // `iovec`), with their lengths; all of them outlive the call, and no timeout is given.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count as c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let filled = check(result)? as usize;
        let all = messages.iter().zip(names.iter().zip(&controls)).take(filled);
        for (out, (message, (name, control))) in received.iter_mut().zip(all) {
            *out = describe(message, name, control);
        }
        Ok(filled.min(received.len()))
    }

    /// Sends datagrams, at most [`SEND_MAX`], in order. Says how many were sent.
    ///
    /// # Errors
    /// Why the first was not: `WouldBlock` and `ENOBUFS` when there is no room, `EMSGSIZE` if it is too long,
    /// `ENETUNREACH` without a route, `EINVAL` for a source that is not the host's, or what an earlier datagram met, in
    /// which case [`TunnelSocket::take_report`] has something. An error of a later one is that of the next call.
    pub fn send(&self, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
        let mut names = [Name::EMPTY; SEND_MAX];
        let mut controls = [Control::EMPTY; SEND_MAX];
        let mut messages = [EMPTY_MESSAGE; SEND_MAX];
        let places = names.iter_mut().zip(&mut controls).zip(datagrams);
        for (message, ((name, control), datagram)) in messages.iter_mut().zip(places) {
            let (destination, name_length) = Name::new(datagram.destination, datagram.port);
            *name = destination;
            let header = &mut message.msg_hdr;
            header.msg_name = name.0.as_mut_ptr().cast();
            header.msg_namelen = name_length as libc::socklen_t;
            header.msg_iov = datagram.payload.as_ptr().cast_mut().cast();
            header.msg_iovlen = datagram.payload.len() as _;
            header.msg_controllen = instruct(control, datagram) as _;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        // SAFETY: as many messages as there are datagrams, but no more than there are places, each point to a name, a
        // control buffer and the pieces of a payload (an `IoSlice` is an `iovec`), with their lengths; all of them outlive
        // the call. The kernel reads them only, and writes how much it sent into the messages.
        let result = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                datagrams.len().min(SEND_MAX) as c_uint,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        Ok(check(result)? as usize)
    }

    /// Makes [`TunnelSocket::send_parts`] without a datagram send to where `like` goes, with its TOS and TTL. The kernel then does
    /// not look for the route each time. Says whether the source is that of `like`: it is the kernel's choice. Other datagrams
    /// that say where they go and come from are sent as before.
    ///
    /// # Errors
    /// `ENETUNREACH` without a route.
    pub fn aim(&self, like: &Datagram<'_>) -> io::Result<bool> {
        let (level, tos, ttl) = match like.destination {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TOS, libc::IP_TTL),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TCLASS, libc::IPV6_UNICAST_HOPS),
        };
        sockopt::set(&self.fd, level, tos, &c_int::from(like.tos))?;
        // -1 is the host's default.
        let hops = if like.ttl == 0 { -1 } else { c_int::from(like.ttl) };
        sockopt::set(&self.fd, level, ttl, &hops)?;
        let (name, length) = Name::new(like.destination, like.port);
        // SAFETY: `name` is a socket address of `length` bytes, which the kernel only reads.
        let result = unsafe {
            libc::connect(self.fd.as_raw_fd(), std::ptr::from_ref(&name).cast(), length as libc::socklen_t)
        };
        check(result)?;
        Ok(self.name()?.read().is_some_and(|(ip, _)| ip == like.source))
    }

    /// Sends a datagram for each of `parts`, in order: to where `like` goes and as it says, or where [`TunnelSocket::aim`] said, with
    /// the part's pieces for a payload. At most [`PARTS_MAX`]. Says how many were sent.
    ///
    /// # Errors
    /// As [`TunnelSocket::send`].
    pub fn send_parts<'p>(
        &self,
        like: Option<&Datagram<'_>>,
        parts: impl IntoIterator<Item = &'p [IoSlice<'p>]>,
    ) -> io::Result<usize> {
        let (mut name, mut name_length) = (Name::EMPTY, 0);
        let (mut control, mut control_length) = (Control::EMPTY, 0);
        if let Some(like) = like {
            (name, name_length) = Name::new(like.destination, like.port);
            control_length = instruct(&mut control, like);
        }
        let mut messages = [EMPTY_MESSAGE; PARTS_MAX];
        let mut count = 0;
        for (message, part) in messages.iter_mut().zip(parts) {
            let header = &mut message.msg_hdr;
            if name_length > 0 {
                header.msg_name = name.0.as_mut_ptr().cast();
                header.msg_namelen = name_length as libc::socklen_t;
                header.msg_control = control.0.as_mut_ptr().cast();
                header.msg_controllen = control_length as _;
            }
            header.msg_iov = part.as_ptr().cast_mut().cast();
            header.msg_iovlen = part.len() as _;
            count += 1;
        }
        // SAFETY: the first `count` messages each point to the name and the control buffer, if they have them, which they share,
        // and to the pieces of a part (an `IoSlice` is an `iovec`), with their lengths; all of them outlive the call. The kernel reads them only,
        // and writes how much it sent into the messages.
        let result = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        Ok(check(result)? as usize)
    }

    /// What became of an earlier datagram of a sender, if there is news.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn take_report(&self) -> io::Result<Option<Report>> {
        let mut name = Name::EMPTY;
        let mut control = Control::EMPTY;
        let mut message = EMPTY_MESSAGE.msg_hdr;
        message.msg_name = name.0.as_mut_ptr().cast();
        message.msg_namelen = control::NAME_LENGTH as libc::socklen_t;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control::CONTROL_LENGTH as _;
        // SAFETY: `message` points to `name` and `control` with their lengths, and to no room for data; both outlive the call.
        let result = unsafe {
            libc::recvmsg(
                self.fd.as_raw_fd(),
                std::ptr::from_mut(&mut message),
                libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
            )
        };
        match sockopt::check_count(result) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let destination = name.read().map_or(self.family.unspecified(), |(ip, _)| ip);
        let length = message.msg_controllen;
        let report = control.messages(length).find_map(|(level, kind, data)| match (level, kind) {
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                extended_error(data, destination)
            }
            _ => None,
        });
        Ok(Some(report.unwrap_or(Report { destination, errno: 0, mtu: None })))
    }
}

impl AsFd for TunnelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// SAFETY: `mmsghdr` consists of pointers and integers (with padding in some C libraries), for all of which zero is a value.
const EMPTY_MESSAGE: libc::mmsghdr = unsafe { std::mem::zeroed() };

/// Reads a `struct sock_extended_err`: `errno` in its first word, the MTU in its third.
fn extended_error(data: &[u8], destination: IpAddr) -> Option<Report> {
    let errno = int(data)?;
    let word = data.get(8..).and_then(int)?;
    let mtu = u32::try_from(word).ok().filter(|mtu| errno == libc::EMSGSIZE && *mtu > 0);
    Some(Report { destination, errno, mtu })
}

fn describe(message: &libc::mmsghdr, name: &Name, control: &Control) -> Received {
    let (source, source_port) = name.read().unwrap_or((Ipv4Addr::UNSPECIFIED.into(), 0));
    let mut received = Received {
        length: message.msg_len as usize,
        truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        source,
        source_port,
        ..Received::EMPTY
    };
    for (level, kind, data) in control.messages(message.msg_hdr.msg_controllen) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_PKTINFO) => {
                // struct in_pktinfo: interface, local address, address in the header.
                if let Some(address) = data.get(8..).and_then(<[u8]>::first_chunk::<4>) {
                    received.destination = Ipv4Addr::from(*address).into();
                }
            }
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                if let Some(address) = data.first_chunk::<16>() {
                    received.destination = Ipv6Addr::from(*address).into();
                }
            }
            (libc::SOL_IP, libc::IP_TOS) => received.tos = data.first().copied().unwrap_or(0),
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => received.tos = int(data).unwrap_or(0) as u8,
            (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                received.ttl = int(data).unwrap_or(0) as u8;
            }
            (libc::SOL_UDP, UDP_GRO) => {
                received.segment_size =
                    int(data).and_then(|size| u16::try_from(size).ok()).filter(|s| *s > 0);
            }
            _ => {}
        }
    }
    received
}

/// Writes what is to be special about a datagram; gives the length.
fn instruct(control: &mut Control, datagram: &Datagram<'_>) -> usize {
    let tos = c_int::from(datagram.tos).to_ne_bytes();
    let ttl = c_int::from(datagram.ttl).to_ne_bytes();
    let (level, tos_kind, ttl_kind) = match datagram.destination {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TOS, libc::IP_TTL),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT),
    };
    let mut length = match datagram.source {
        source if source.is_unspecified() => 0,
        IpAddr::V4(source) => {
            let mut pktinfo = [0; 12];
            let [_, _, _, _, local @ ..] = &mut pktinfo;
            for (to, from) in local.iter_mut().zip(source.octets()) {
                *to = from;
            }
            control.push(0, libc::SOL_IP, libc::IP_PKTINFO, &pktinfo)
        }
        IpAddr::V6(source) => {
            let mut pktinfo = [0; 20];
            for (to, from) in pktinfo.iter_mut().zip(source.octets()) {
                *to = from;
            }
            control.push(0, libc::SOL_IPV6, libc::IPV6_PKTINFO, &pktinfo)
        }
    };
    length = control.push(length, level, tos_kind, &tos);
    if datagram.ttl != 0 {
        length = control.push(length, level, ttl_kind, &ttl);
    }
    match datagram.segment_size {
        Some(size) => control.push(length, libc::SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes()),
        None => length,
    }
}

#[cfg(test)]
mod tests;
