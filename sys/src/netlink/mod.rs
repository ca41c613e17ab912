//! rtnetlink, asked and answered synchronously: links, addresses, routes.
//!
//! The wire format comes from the netlink-packet-route crate, which changes its face often: none of its types leaves this
//! module. Notifications come through [`LinkWatch`], [`RouteWatch`] and [`NetnsWatch`], on sockets of their own.
//!
//! A [`Netlink`] speaks for the namespace it was opened in, whichever thread uses it later.

mod link;
mod netns_watch;
mod route;
mod route_watch;
mod watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute,
    LinkFlags, LinkHeader, LinkInfo, LinkMessage,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::interface::{IfIndex, IfName};
use crate::netns::{Netns, NetnsError, run_in};
use crate::tunnel_socket::SOURCE_PORTS;

pub use link::{AdminState, Link, LinkChange, LinkStats, OperState};
pub use netns_watch::NetnsWatch;
pub use route::{Address, Route, RouteKind, Routing, RoutingTable};
pub use route_watch::RouteWatch;
pub use watch::{LinkEvent, LinkWatch};

/// Room for one answer of the kernel, which fills at most 32 KB of it in a dump.
const RECEIVE_LENGTH: usize = 64 * 1024;

/// How often a dump is asked for again because what it lists changed under it.
const DUMP_ATTEMPTS_MAX: usize = 8;

/// How long the kernel may take for one answer; moving a device takes tens of milliseconds at worst.
const ANSWER_TIMEOUT_SECONDS: i64 = 10;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused the request.
    #[error("{operation}: {source}{}{explanation}", if explanation.is_empty() { "" } else { ": " })]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// The error code.
        source: io::Error,
        /// The kernel's explanation in words, often empty.
        explanation: String,
    },
    /// An answer that cannot be read.
    #[error("{operation}: malformed answer: {reason}")]
    Malformed {
        /// What was asked for.
        operation: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The namespace of the socket cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl NetlinkError {
    /// The error code if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A route to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSpec {
    /// Destination network.
    pub destination: IpAddr,
    /// Length of its prefix in bits; 0 for a default route.
    pub prefix_length: u8,
    /// The next hop, of the same family as the destination; `None` when the network is on the link.
    pub gateway: Option<IpAddr>,
    /// The link to send by; may be left out when the gateway says it.
    pub link: Option<IfIndex>,
}

/// A VXLAN device to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanSpec {
    /// UDP port to receive at.
    pub port: u16,
    /// The link that it is said to lie on, with which it goes.
    pub below: IfIndex,
}

/// A socket to ask the kernel about links, addresses and routes, and to change them.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

type Answer = NetlinkMessage<RouteNetlinkMessage>;

impl Netlink {
    /// A socket for the namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`] when out of descriptors.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Explanations in words, without a copy of the request before them. Old kernels do without.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(RECEIVE_LENGTH) })
    }

    /// A socket for another namespace.
    ///
    /// # Errors
    /// As [`Netlink::open`], and [`NetlinkError::Netns`].
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        run_in(netns, Self::open)?
    }

    /// All links, in the order of their indices.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        self.list_links(LinkMessage::default())
    }

    /// All links of another namespace, without entering it: that takes no `CAP_SYS_ADMIN`, only `CAP_NET_ADMIN` there. None if
    /// the namespace has no number in that of this socket, which one gets when a link is moved there from here (ip-netns(8),
    /// `set`).
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn links_in(&mut self, netns: &Netns) -> Result<Vec<Link>, NetlinkError> {
        let Some(number) = self.number_of(netns)? else { return Ok(Vec::new()) };
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfNetnsId(number));
        self.list_links(message)
    }

    /// The number by which the namespace of this socket knows another.
    fn number_of(&mut self, netns: &Netns) -> Result<Option<i32>, NetlinkError> {
        let operation = "get number of network namespace";
        let fd = u32::try_from(netns.as_fd().as_raw_fd()).map_err(io::Error::other)?;
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(fd));
        let mut number = None;
        self.request(operation, RouteNetlinkMessage::GetNsId(message), NLM_F_ACK, &mut |answer| {
            if let RouteNetlinkMessage::NewNsId(message) = answer {
                number = message.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) => Some(*id),
                    _ => None,
                });
            }
        })?;
        Ok(number.filter(|id| *id >= 0))
    }

    fn list_links(&mut self, wanted: LinkMessage) -> Result<Vec<Link>, NetlinkError> {
        let request = RouteNetlinkMessage::GetLink(wanted);
        let mut links = self.list("list links", &request, |answer| match answer {
            RouteNetlinkMessage::NewLink(message) => link::decode(&message),
            _ => None,
        })?;
        links.sort_by_key(|link: &Link| link.index);
        Ok(links)
    }

    /// Everything of a kind, all of one state.
    fn list<T>(
        &mut self,
        operation: &'static str,
        request: &RouteNetlinkMessage,
        decode: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let mut all = Vec::new();
            if self.dump(operation, request.clone(), &mut |answer| all.extend(decode(answer)))? {
                return Ok(all);
            }
        }
        let source = io::Error::from_raw_os_error(libc::EINTR);
        let explanation = "it keeps changing".to_owned();
        Err(NetlinkError::Refused { operation, source, explanation })
    }

    /// The link called `name`, if there is one.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn link_by_name(&mut self, name: &IfName) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
        self.get_link(message)
    }

    /// The link numbered `index`, if there is one.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn link_by_index(&mut self, index: IfIndex) -> Result<Option<Link>, NetlinkError> {
        self.get_link(message_for(index))
    }

    fn get_link(&mut self, message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
        let operation = "get link";
        let mut found = None;
        let asked =
            self.request(operation, RouteNetlinkMessage::GetLink(message), NLM_F_ACK, &mut |answer| {
                if let RouteNetlinkMessage::NewLink(message) = answer {
                    found = link::decode(&message);
                }
            });
        match asked {
            Ok(()) => Ok(found),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes a link, all in one message: name, state, MTU, MAC, namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`]; a part of the changes may have been made.
    pub fn change(&mut self, index: IfIndex, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        let mut message = message_for(index);
        change.write(&mut message);
        self.command("change link", RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Deletes a link; for one end of a veth pair the other goes too.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`].
    pub fn delete(&mut self, index: IfIndex) -> Result<(), NetlinkError> {
        self.command("delete link", RouteNetlinkMessage::DelLink(message_for(index)), 0)
    }

    /// Makes a veth pair, both ends down and in the namespace of this socket.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with `EEXIST` if a name is taken.
    pub fn create_veth(&mut self, name: &IfName, peer: &IfName) -> Result<(), NetlinkError> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.as_str().to_owned()));
        let data = InfoData::Veth(InfoVeth::Peer(other));
        self.create(name, vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)])
    }

    /// Makes a bridge of the kernel's.
    ///
    /// # Errors
    /// As [`Netlink::create_veth`].
    pub fn create_bridge(&mut self, name: &IfName) -> Result<(), NetlinkError> {
        self.create(name, vec![LinkInfo::Kind(InfoKind::Bridge)])
    }

    /// Makes a VXLAN device that is told of each frame's tunnel beside it (`external`).
    ///
    /// # Errors
    /// As [`Netlink::create_veth`]; `EEXIST` too if another such device has the port, `EOPNOTSUPP` from kernels without VXLAN.
    /// That something else has the port shows when it is switched on, by `EADDRINUSE`.
    pub fn create_vxlan(&mut self, name: &IfName, spec: &VxlanSpec) -> Result<(), NetlinkError> {
        let data = vec![
            InfoVxlan::CollectMetadata(true),
            InfoVxlan::Port(spec.port),
            InfoVxlan::PortRange((*SOURCE_PORTS.start(), *SOURCE_PORTS.end())),
            InfoVxlan::Learning(false),
            InfoVxlan::UDPZeroCsumRX(true),
            InfoVxlan::Link(spec.below.get()),
        ];
        self.create(name, vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))])
    }

    /// Has a link send nothing by itself: no address of IPv6's own making. A kernel without IPv6 has none anyway.
    pub fn keep_silent(&mut self, link: IfIndex) {
        let mut message = message_for(link);
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
        let _ = self.command("change link", RouteNetlinkMessage::SetLink(message), 0);
    }

    fn create(&mut self, name: &IfName, kind: Vec<LinkInfo>) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(kind));
        self.command("create link", RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Gives a link an address with its prefix; having it already is no error.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`].
    pub fn add_address(
        &mut self,
        link: IfIndex,
        address: IpAddr,
        prefix_length: u8,
    ) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix_length;
        message.header.index = link.get();
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        if let IpAddr::V4(address) = address {
            let hosts = u32::MAX.checked_shr(u32::from(prefix_length)).unwrap_or(0);
            if prefix_length < 31 {
                let broadcast = Ipv4Addr::from_bits(address.to_bits() | hosts);
                message.attributes.push(AddressAttribute::Broadcast(broadcast));
            }
        }
        self.command("add address", RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds a route to the main table; having it already is no error.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`].
    pub fn add_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.destination);
        message.header.destination_prefix_length = route.prefix_length;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.header.kind = RouteType::Unicast;
        if route.prefix_length != 0 {
            let network = RouteAddress::from(network(route.destination, route.prefix_length));
            message.attributes.push(RouteAttribute::Destination(network));
        }
        message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message.attributes.extend(route.link.map(|link| RouteAttribute::Oif(link.get())));
        self.command("add route", RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn command(
        &mut self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.request(operation, message, flags | NLM_F_ACK, &mut |_| {})
    }

    /// One request that ends with an acknowledgement.
    fn request(
        &mut self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
        take: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> Result<(), NetlinkError> {
        self.exchange(operation, message, flags, take).map(drop)
    }

    /// One request that ends with `NLMSG_DONE`. Says whether all parts are of one state.
    fn dump(
        &mut self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        take: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> Result<bool, NetlinkError> {
        self.exchange(operation, message, NLM_F_DUMP, take)
    }

    fn exchange(
        &mut self,
        operation: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
        take: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> Result<bool, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut consistent = true;
        loop {
            self.receive(operation)?;
            for part in Parts(&self.buffer) {
                // An answer to an earlier request whose reader gave up.
                if part.sequence != self.sequence {
                    continue;
                }
                consistent &= part.flags & NLM_F_DUMP_INTR == 0;
                match part.kind {
                    PART_ERROR | PART_DONE => return finish(operation, &part).map(|()| consistent),
                    // One link that cannot be read must not hide all others.
                    _ => {
                        if let Ok(answer) = Answer::deserialize(part.bytes)
                            && let NetlinkPayload::InnerMessage(inner) = answer.payload
                        {
                            take(inner);
                        }
                    }
                }
            }
        }
    }

    fn receive(&mut self, operation: &'static str) -> Result<(), NetlinkError> {
        let timeout = Timespec { tv_sec: ANSWER_TIMEOUT_SECONDS, tv_nsec: 0 };
        let ready = rustix::io::retry_on_intr(|| {
            poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout))
        })
        .map_err(io::Error::from)?;
        if ready == 0 {
            return Err(NetlinkError::Socket(io::ErrorKind::TimedOut.into()));
        }
        self.buffer.clear();
        let length = self.socket.recv(&mut self.buffer, libc::MSG_TRUNC)?;
        if length > self.buffer.len() {
            let reason = format!("{length} bytes do not fit into {}", self.buffer.len());
            return Err(NetlinkError::Malformed { operation, reason });
        }
        Ok(())
    }
}

const PART_ERROR: u16 = 2;
const PART_DONE: u16 = 3;

/// `NLMSGERR_ATTR_MSG`: the explanation in words.
const ATTRIBUTE_EXPLANATION: u16 = 1;

/// Length of `struct nlmsghdr`, and of the request's header inside an error message.
const HEADER_LENGTH: usize = 16;

/// One message of a datagram, of which a dump has several.
struct Part<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    bytes: &'a [u8],
}

/// The messages of a datagram. Ends at the first that is not whole.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let &[l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = self.0.first_chunk::<HEADER_LENGTH>()?;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let bytes = self.0.get(..length).filter(|bytes| bytes.len() >= HEADER_LENGTH)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Part {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            bytes,
        })
    }
}

/// Both `NLMSG_ERROR` and `NLMSG_DONE` start with a negated error code; the former then has the request's header, and both
/// may end with attributes.
fn finish(operation: &'static str, part: &Part<'_>) -> Result<(), NetlinkError> {
    let body = part.bytes.get(HEADER_LENGTH..).unwrap_or(&[]);
    let code = body.first_chunk().map_or(0, |&code| i32::from_ne_bytes(code));
    if code == 0 {
        return Ok(());
    }
    let attributes = if part.kind == PART_ERROR { body.get(4 + HEADER_LENGTH..) } else { body.get(4..) };
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    Err(NetlinkError::Refused { operation, source, explanation: explanation(attributes.unwrap_or(&[])) })
}

fn explanation(mut attributes: &[u8]) -> String {
    while let Some(&[l0, l1, k0, k1]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = attributes.get(4..length) else { break };
        if u16::from_ne_bytes([k0, k1]) == ATTRIBUTE_EXPLANATION {
            return String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    String::new()
}

fn message_for(index: IfIndex) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader { index: index.get(), ..LinkHeader::default() };
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The address with the bits outside the prefix cleared, as the kernel wants destinations.
fn network(address: IpAddr, prefix_length: u8) -> IpAddr {
    let prefix = u32::from(prefix_length);
    match address {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into(),
        IpAddr::V6(a) => {
            Ipv6Addr::from_bits(a.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into()
        }
    }
}

// What `change` in `link` needs of the wire format.
fn set_admin(message: &mut LinkMessage, state: AdminState) {
    message.header.change_mask = LinkFlags::Up;
    message.header.flags = match state {
        AdminState::Up => LinkFlags::Up,
        AdminState::Down => LinkFlags::empty(),
    };
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod route_tests;
