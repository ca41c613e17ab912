//! Raw frames in and out of a netdev inside a namespace, as a pod that writes its own frames would.

use crate::{DAEMON_WAIT_MAX, Namespace};
use std::io::{ErrorKind, IoSlice};
use std::time::Duration;
use sys::IfName;
use sys::interface::IfIndex;
use sys::packet_socket::{PacketOffload, PacketOptions, PacketSocket, Promiscuity};
use sys::poll::{Interest, PollToken, Poller};
use sys::vnet::VnetHeader;

/// Longest frame that can be received: a super-frame and its headers.
const FRAME_MAX: usize = 70_000;

/// A packet socket on one netdev.
#[derive(Debug)]
pub struct Wire {
    socket: PacketSocket,
    poller: Poller,
}

impl Wire {
    /// Opens one on `device` of `ns`.
    pub fn open(ns: &Namespace, device: &str) -> Wire {
        let socket = ns.enter(|| {
            let name = IfName::new(device).unwrap_or_else(|e| panic!("{device}: {e}"));
            let index = IfIndex::of(&name).unwrap_or_else(|| panic!("{device}: no such device"));
            let options = PacketOptions { promiscuity: Promiscuity::All, offload: PacketOffload::Never };
            PacketSocket::open(index, options).unwrap_or_else(|e| panic!("{device}: {e}"))
        });
        let mut poller = Poller::new().unwrap_or_else(|e| panic!("epoll: {e}"));
        poller.add(&socket, PollToken(0), Interest::Read).unwrap_or_else(|e| panic!("epoll: {e}"));
        Wire { socket, poller }
    }

    /// Sends a frame; waits while there is no room.
    pub fn send(&self, frame: &[u8]) {
        loop {
            let header = VnetHeader { checksum: sys::vnet::VnetChecksum::Complete, gso: None };
            match self.socket.send(&header, &[IoSlice::new(frame)]) {
                Ok(_) => return,
                Err(e) if e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(ENOBUFS) => {
                    std::thread::yield_now();
                }
                Err(e) => panic!("sending {} bytes: {e}", frame.len()),
            }
        }
    }

    /// Tries to send a frame that the kernel may refuse.
    pub fn try_send(&self, frame: &[u8]) -> bool {
        let header = VnetHeader { checksum: sys::vnet::VnetChecksum::Complete, gso: None };
        self.socket.send(&header, &[IoSlice::new(frame)]).is_ok()
    }

    /// The next frame, its outer VLAN tag put back; `None` if none comes for as long as `wait`.
    pub fn receive(&mut self, wait: Duration) -> Option<Vec<u8>> {
        let mut buffer = vec![0; FRAME_MAX];
        let give_up = sys::clock::monotonic() + wait;
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(received) if !received.outgoing => {
                    buffer.truncate(received.length);
                    return Some(match received.vlan {
                        Some(tag) => crate::frames::tagged(&buffer, tag.tpid, tag.tci),
                        None => buffer,
                    });
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let left = give_up.saturating_since(sys::clock::monotonic());
                    if left.is_zero() {
                        return None;
                    }
                    let _ = self.poller.wait(Some(left), &mut Vec::new());
                }
                Err(e) => panic!("receiving: {e}"),
            }
        }
    }

    /// Every frame up to and without the first that is `last`; panics if that does not come. Frames of a port stay in
    /// order, so what is not among them was not sent before `last`.
    pub fn until(&mut self, last: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = vec![];
        loop {
            match self.receive(DAEMON_WAIT_MAX) {
                Some(frame) if frame == last => return frames,
                Some(frame) => frames.push(frame),
                None => panic!("the last frame did not arrive after {} others", frames.len()),
            }
        }
    }
}

/// No room in the device's queue (errno(3)).
const ENOBUFS: i32 = 105;
