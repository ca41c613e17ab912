//! Notifications: which links came, changed and went.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::{Answer, Link, Netlink, NetlinkError, Parts, RECEIVE_LENGTH, link};
use crate::interface::{IfIndex, IfName};
use crate::netns::{Netns, run_in};

/// `RTMGRP_LINK` as a bit mask.
const GROUP_LINK: u32 = 1;

/// Room for notifications that wait for us, in bytes; beyond it the kernel drops them and says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The most datagrams that one [`LinkWatch::read`] takes.
const DATAGRAMS_MAX: usize = 64;

/// Something that happened to links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link that was not there before, made or moved into the namespace.
    Added(Link),
    /// A link that was there, in its new state. Not every event is a difference in what [`Link`] shows.
    Changed(Link),
    /// A link that was deleted or moved to another namespace.
    Removed {
        /// Its number.
        index: IfIndex,
        /// Its last name.
        name: IfName,
    },
    /// Notifications were lost: everything must be read again.
    Resync,
}

/// A non-blocking socket that tells of all changes of links in one namespace.
#[derive(Debug)]
pub struct LinkWatch {
    pub(super) socket: Socket,
    // For looking again after a loss, in the same namespace as `socket`.
    pub(super) netlink: Netlink,
    known: BTreeSet<IfIndex>,
    /// Whether `known` is of before a loss, as links could not be listed since.
    is_stale: bool,
    buffer: Vec<u8>,
}

impl LinkWatch {
    /// Watches the namespace of the calling thread. Changes from now on are told; links that exist are not.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX))?;
        socket.bind(&SocketAddr::new(0, GROUP_LINK))?;
        let netlink = Netlink::open()?;
        let (known, buffer) = (BTreeSet::new(), Vec::with_capacity(RECEIVE_LENGTH));
        let mut watch = Self { socket, netlink, known, is_stale: true, buffer };
        // After the subscription: what comes up in between is told as changed rather than added, but not missed.
        watch.look()?;
        Ok(watch)
    }

    /// Watches another namespace, and so keeps it alive.
    ///
    /// # Errors
    /// As [`LinkWatch::open`], and [`NetlinkError::Netns`].
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        run_in(netns, Self::open)?
    }

    /// Appends what has happened since the last call to `events`; nothing if nothing has. At most 64 datagrams are read:
    /// the descriptor stays readable while more wait. While links cannot be listed, as they keep changing, one that is not new
    /// may be told as added.
    ///
    /// # Errors
    /// [`NetlinkError`], but [`NetlinkError::Refused`]; the watch is of no more use then.
    pub fn read(&mut self, events: &mut Vec<LinkEvent>) -> Result<(), NetlinkError> {
        if self.is_stale {
            self.look()?;
        }
        for _ in 0..DATAGRAMS_MAX {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => self.resync(events)?,
                Ok(_) => self.take(events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.resync(events)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lists the links, later if that is refused now, as while they keep changing. Notifications come in any case.
    fn look(&mut self) -> Result<(), NetlinkError> {
        match self.netlink.links() {
            Ok(links) => {
                self.known = links.into_iter().map(|link| link.index).collect();
                self.is_stale = false;
            }
            Err(NetlinkError::Refused { .. }) => self.is_stale = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn resync(&mut self, events: &mut Vec<LinkEvent>) -> Result<(), NetlinkError> {
        events.push(LinkEvent::Resync);
        self.look()
    }

    fn take(&mut self, events: &mut Vec<LinkEvent>) {
        for part in Parts(&self.buffer) {
            let Ok(message) = Answer::deserialize(part.bytes) else { continue };
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                    let Some(link) = link::decode(&message) else { continue };
                    let new = self.known.insert(link.index);
                    events.push(if new { LinkEvent::Added(link) } else { LinkEvent::Changed(link) });
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                    let Some(link) = link::decode(&message) else { continue };
                    // A kernel bridge also tells of ports that leave it in this way; those links still exist.
                    if u8::from(message.header.interface_family) != 0 {
                        continue;
                    }
                    self.known.remove(&link.index);
                    events.push(LinkEvent::Removed { index: link.index, name: link.name });
                }
                _ => {}
            }
        }
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
