//! The receiving side: several datagrams a call, joined ones taken apart, outer headers put back.

use super::outer::{Outer, ipv4_header_len, prepend};
use crate::cost;
use crate::port::{PortError, Rx, RxLoss};
use packet::tunnel::TunnelProtocol;
use packet::{Batch, Checksum, Frame, FramePool};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use sys::tunnel_socket::{IpFamily, RECEIVE_MAX, Received, TunnelSocket};

/// One receiving socket.
pub(super) struct TunnelRx {
    socket: Arc<TunnelSocket>,
    loss: Arc<RxLoss>,
    protocol: TunnelProtocol,
    port: u16,
    /// Frames that were received into, the next to be delivered last.
    staged: Vec<(Frame, Received)>,
    /// Empty frames to receive into.
    empty: Vec<Frame>,
}

impl TunnelRx {
    pub fn new(
        socket: Arc<TunnelSocket>,
        loss: Arc<RxLoss>,
        protocol: TunnelProtocol,
        port: u16,
    ) -> TunnelRx {
        let (staged, empty) = (Vec::with_capacity(RECEIVE_MAX), Vec::with_capacity(RECEIVE_MAX));
        TunnelRx { socket, loss, protocol, port, staged, empty }
    }

    /// Receives what waits into frames. False if there is nothing.
    fn fill(&mut self, pool: &mut FramePool) -> Result<bool, PortError> {
        while self.empty.len() < RECEIVE_MAX {
            self.empty.push(pool.take());
        }
        let mut buffers: [IoSliceMut<'_>; RECEIVE_MAX] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (buffer, frame) in buffers.iter_mut().zip(&mut self.empty) {
            *buffer = IoSliceMut::new(frame.room_mut());
        }
        let mut received = [Received::EMPTY; RECEIVE_MAX];
        let count = loop {
            match self.socket.recv(&mut buffers, &mut received) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PortError::Io(error)),
            }
        };
        let filled = self.empty.drain(..count).zip(received);
        self.staged.extend(filled);
        self.staged.reverse();
        Ok(count > 0)
    }

    /// Makes the frame the payload: from the GRE header on, or behind the UDP header.
    fn trim(&self, frame: &mut Frame, received: &Received) -> bool {
        if received.truncated || frame.set_len(received.length).is_err() {
            self.loss.too_long.add(1);
            return false;
        }
        if self.protocol.is_udp() || self.socket.family() == IpFamily::V6 {
            return true;
        }
        // Raw IPv4 sockets give the IP header too, whose fields are known already.
        let is_whole = ipv4_header_len(frame.bytes()).is_some_and(|len| frame.pull_front(len).is_ok());
        if !is_whole {
            self.loss.unreadable.add(1);
        }
        is_whole
    }

    /// Puts the outer headers in front of a payload and hands it over.
    fn deliver(&self, mut frame: Frame, received: &Received, pool: &mut FramePool, out: &mut Batch) {
        let outer = Outer {
            src: received.source,
            dst: received.destination,
            tos: received.tos,
            ttl: received.ttl,
            df: false,
            is_checked: true,
            src_port: received.source_port,
            dst_port: self.port,
            payload: (0, 0),
        };
        if !prepend(&mut frame, &outer, self.protocol.is_udp()) {
            self.loss.too_long.add(1);
            pool.give(frame);
            return;
        }
        // The kernel has verified the UDP checksum; GRE's, if there is one, is left to whoever pops the header.
        frame.checksum = if self.protocol.is_udp() { Checksum::Valid } else { Checksum::Unknown };
        frame.encapsulated = Some(self.protocol);
        if let Err(frame) = out.push(frame) {
            pool.give(frame);
        }
    }

    /// Delivers joined datagrams one by one, as many as fit; the rest stays for the next time.
    fn split(
        &mut self,
        mut frame: Frame,
        received: Received,
        size: usize,
        pool: &mut FramePool,
        out: &mut Batch,
    ) {
        while !out.is_full() {
            if frame.len() <= size {
                self.deliver(frame, &received, pool, out);
                return;
            }
            let mut segment = pool.take();
            // Both fit: the room of a pool's frame is as long as what was received.
            let copied = frame.bytes().get(..size).is_some_and(|bytes| segment.append(bytes).is_ok());
            if !copied || frame.pull_front(size).is_err() {
                self.loss.unreadable.add(1);
                pool.give(segment);
                pool.give(frame);
                return;
            }
            self.deliver(segment, &received, pool, out);
        }
        // Its length now is what is left, without the header that a raw socket has.
        let length = frame.len();
        self.staged.push((frame, Received { length, ..received }));
    }
}

impl Rx for TunnelRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        while !out.is_full() {
            let Some((mut frame, received)) = self.staged.pop() else {
                if self.fill(pool)? {
                    continue;
                }
                return Ok(());
            };
            if !self.trim(&mut frame, &received) {
                pool.give(frame);
                continue;
            }
            match received.segment_size {
                Some(size) => self.split(frame, received, size.into(), pool, out),
                None => self.deliver(frame, &received, pool, out),
            }
        }
        Ok(())
    }

    fn frame_price(&self) -> u32 {
        cost::KERNEL_FRAME
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}
