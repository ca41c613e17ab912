//! Notifications that something which decides about routes has changed.
//!
//! They only say that, and the whole is read again: the kernel does not tell of every IPv4 route that goes with its link or
//! its address, so a picture kept by adding up notifications would come to differ.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::{HEADER_LENGTH, Netlink, NetlinkError, Part, Parts, RECEIVE_LENGTH, Routing, RoutingTable};
use crate::netns::{Netns, run_in};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE` as bit masks
/// (rtnetlink(7)).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// `RTM_NEWROUTE` and `RTM_DELROUTE`.
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;

/// Place of `rtm_table` in `struct rtmsg`.
const TABLE_OFFSET: usize = HEADER_LENGTH + 4;

/// Room for notifications that wait for us, in bytes; beyond it the kernel drops them and says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The most datagrams that one [`RouteWatch::read`] takes.
const DATAGRAMS_MAX: usize = 4_096;

/// A non-blocking socket that becomes readable when links, addresses or routes of one namespace change.
#[derive(Debug)]
pub struct RouteWatch {
    pub(super) socket: Socket,
    netlink: Netlink,
    buffer: Vec<u8>,
}

impl RouteWatch {
    /// Watches the namespace of the calling thread, from now on.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(i32::try_from(RECEIVE_BUFFER).unwrap_or(i32::MAX))?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        Ok(Self { socket, netlink: Netlink::open()?, buffer: Vec::with_capacity(RECEIVE_LENGTH) })
    }

    /// Watches another namespace, and so keeps it alive.
    ///
    /// # Errors
    /// As [`RouteWatch::open`], and [`NetlinkError::Netns`].
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        run_in(netns, Self::open)?
    }

    /// Takes the notifications that wait, at most 4096 datagrams. Says whether one may have changed the answer of
    /// [`RouteWatch::routing`]; also if some were lost.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`]; the watch is of no more use then.
    pub fn read(&mut self) -> Result<bool, NetlinkError> {
        let mut changed = false;
        for _ in 0..DATAGRAMS_MAX {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) => {
                    changed |= length > self.buffer.len() || Parts(&self.buffer).any(|part| matters(&part));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) => return Err(error.into()),
            }
        }
        // More may wait than was read, and whoever waits for an edge is not told of it again.
        Ok(true)
    }

    /// Links, addresses and routes now. What changes after [`RouteWatch::read`] and before this is told again.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn routing(&mut self) -> Result<Routing, NetlinkError> {
        self.netlink.routing()
    }
}

/// Whether it is not about a route in a table that only policy rules ask, as routing daemons fill them.
pub(super) fn matters(part: &Part<'_>) -> bool {
    match part.kind {
        NEW_ROUTE | DELETE_ROUTE => {
            let table = part.bytes.get(TABLE_OFFSET).copied().unwrap_or(0);
            RoutingTable::from_number(table.into()).is_some()
        }
        _ => true,
    }
}

impl AsFd for RouteWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
