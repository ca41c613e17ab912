//! Notifications that a link has changed in some other namespace.
//!
//! The kernel sends them for every namespace that has a number in that of the socket (ip-netns(8), `set`), which one gets when
//! a link is moved there. They say which link only by a number that means nothing here, so none of it is read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::{NetlinkError, RECEIVE_LENGTH};

/// `RTMGRP_LINK` as a bit mask.
const GROUP_LINK: u32 = 1;

/// Room for notifications that wait for us, in bytes. That some were lost says as much as they would.
const RECEIVE_BUFFER: i32 = 1 << 16;

/// The most datagrams that one [`NetnsWatch::read`] takes.
const DATAGRAMS_MAX: usize = 64;

/// A non-blocking socket that becomes readable when a link of this or of a numbered namespace changes.
#[derive(Debug)]
pub struct NetnsWatch {
    socket: Socket,
    buffer: Vec<u8>,
}

impl NetnsWatch {
    /// Watches from the namespace of the calling thread, from now on.
    ///
    /// # Errors
    /// [`NetlinkError`]; needs CAP_NET_BROADCAST.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        socket.set_listen_all_namespaces(true)?;
        socket.bind(&SocketAddr::new(0, GROUP_LINK))?;
        Ok(Self { socket, buffer: Vec::with_capacity(RECEIVE_LENGTH) })
    }

    /// Takes the notifications that wait, at most 64 datagrams. Says whether there were any, or some were lost.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`]; the watch is of no more use then.
    pub fn read(&mut self) -> Result<bool, NetlinkError> {
        let mut changed = false;
        for _ in 0..DATAGRAMS_MAX {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(changed)
    }
}

impl AsFd for NetnsWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
