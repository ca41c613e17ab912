//! The receiving side: several datagrams a call, joined ones taken apart, outer headers put back.
//!
//! TCP segments of a stream in datagrams that came together become one super-frame, as on the way into a pod, but before they are
//! looked up: the work of a frame is then done once for many. What is joined is equal in all of its outer and tunnel headers.

use super::outer::{Outer, ipv4_header_len, prepend};
use crate::cost;
use crate::port::batching::{Demand, JOIN_SCAN_MAX};
use crate::port::{PortError, Rx, RxLoss};
use packet::coalesce::{Joined, Run};
use packet::tunnel::TunnelProtocol;
use packet::{Batch, Checksum, Frame, FramePool};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use sys::tunnel_socket::{IpFamily, PAYLOAD_MAX, RECEIVE_MAX, Received, TunnelSocket};

/// One receiving socket.
pub(super) struct TunnelRx {
    socket: Arc<TunnelSocket>,
    loss: Arc<RxLoss>,
    protocol: TunnelProtocol,
    port: u16,
    demand: Demand,
    /// Frames that were received into, the next to be taken last. The first of them may have been taken in part.
    staged: Vec<(Frame, Received)>,
    /// Empty frames to receive into.
    empty: Vec<Frame>,
    /// What is about to be delivered, if no more of its stream comes.
    held: Vec<Held>,
}

/// A datagram, or several in one super-frame.
struct Held {
    /// The payload.
    frame: Frame,
    received: Received,
    run: Option<Run>,
}

impl TunnelRx {
    pub fn new(
        socket: Arc<TunnelSocket>,
        loss: Arc<RxLoss>,
        protocol: TunnelProtocol,
        port: u16,
    ) -> TunnelRx {
        let (staged, empty) = (Vec::with_capacity(RECEIVE_MAX), Vec::with_capacity(RECEIVE_MAX));
        let (held, demand) = (Vec::with_capacity(Batch::MAX), Demand::new());
        TunnelRx { socket, loss, protocol, port, demand, staged, empty, held }
    }

    /// Receives what waits into frames, as much as is to be expected.
    fn fill(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        let wanted = self.demand.wanted(RECEIVE_MAX);
        while self.empty.len() < wanted {
            self.empty.push(pool.take());
        }
        let mut buffers: [IoSliceMut<'_>; RECEIVE_MAX] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        for (buffer, frame) in buffers.iter_mut().zip(self.empty.iter_mut().take(wanted)) {
            *buffer = IoSliceMut::new(frame.room_mut());
        }
        let mut received = [Received::EMPTY; RECEIVE_MAX];
        let count = loop {
            match self.socket.recv(buffers.get_mut(..wanted).unwrap_or_default(), &mut received) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PortError::Io(error)),
            }
        };
        self.demand.learn(count, wanted);
        for (mut frame, received) in self.empty.drain(..count).zip(received) {
            match trim(&mut frame, &received, self.protocol, self.socket.family()) {
                Ok(()) => self.staged.push((frame, received)),
                Err(reason) => {
                    match reason {
                        Unfit::TooLong => self.loss.too_long.add(1),
                        Unfit::Unreadable => self.loss.unreadable.add(1),
                    }
                    pool.give(frame);
                }
            }
        }
        self.staged.reverse();
        Ok(())
    }

    /// Takes a staged frame, one or more datagrams, as far as there is room. Gives back what is left.
    fn take_in(
        &mut self,
        mut frame: Frame,
        received: Received,
        room: usize,
        pool: &mut FramePool,
    ) -> Option<(Frame, Received)> {
        let size = received.segment_size.map_or(usize::MAX, usize::from);
        let mut at = 0;
        while let Some(rest) = frame.bytes().get(at..) {
            let datagram = rest.get(..size).unwrap_or(rest);
            let len = datagram.len();
            let run = self.run_of(datagram);
            if let Some(run) = &run
                && self.join(datagram, &received, run)
            {
                at += len;
            } else if self.held.len() >= room {
                // Cannot fail: `at` is within the frame.
                return frame.pull_front(at).is_ok().then_some((frame, received));
            } else if at == 0 && len == rest.len() {
                self.held.push(Held { frame, received, run });
                return None;
            } else {
                let mut own = pool.take();
                // It fits: the room of a pool's frame is as long as what was received.
                if own.append(datagram).is_ok() {
                    self.held.push(Held { frame: own, received, run });
                } else {
                    self.loss.unreadable.add(1);
                    pool.give(own);
                }
                at += len;
            }
            if at >= frame.len() {
                break;
            }
        }
        pool.give(frame);
        None
    }

    /// A datagram's part of a TCP stream, if its tunnel header is of a kind behind which that is looked for.
    fn run_of(&self, datagram: &[u8]) -> Option<Run> {
        let ethernet = match self.protocol {
            TunnelProtocol::Vxlan => 8,
            // Options are counted in words (RFC 8926 section 3.4).
            TunnelProtocol::Geneve => 8 + 4 * usize::from(datagram.first()? & 0x3f),
            TunnelProtocol::Gre | TunnelProtocol::Flannel => return None,
        };
        let l3 = ethernet + 14;
        let l4 = l3
            + match datagram.get(l3 - 2..l3)? {
                [0x08, 0x00] => 20,
                [0x86, 0xdd] => 40,
                _ => return None,
            };
        Run::of_segment(datagram, l3 as u16, l4 as u16)
    }

    /// Makes a datagram part of the super-frame that waits for more of its stream.
    fn join(&mut self, datagram: &[u8], received: &Received, run: &Run) -> bool {
        for held in self.held.iter_mut().rev().take(JOIN_SCAN_MAX) {
            let Some(held_run) = &mut held.run else { continue };
            // Order is kept nevertheless: what comes behind one that is not alike does not follow the one before that.
            if !is_alike(&held.received, received) || held.frame.len() + datagram.len() > PAYLOAD_MAX {
                continue;
            }
            match held_run.join_segment(&mut held.frame, datagram, Checksum::Unknown, run) {
                Joined::Yes => return true,
                Joined::No => return false,
                Joined::OtherStream => {}
            }
        }
        false
    }

    /// Puts the outer headers in front of a payload and hands it over.
    fn deliver(&self, held: Held, pool: &mut FramePool, out: &mut Batch) {
        let Held { mut frame, received, run } = held;
        let is_joined = run.is_some_and(|run| run.segments() > 1);
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
        if is_joined {
            // Partial, like the checksum.
            frame.inner_segmentation = std::mem::take(&mut frame.segmentation);
        } else {
            // The kernel has verified the UDP checksum; GRE's, if there is one, is left to whoever pops the header.
            frame.checksum = if self.protocol.is_udp() { Checksum::Valid } else { Checksum::Unknown };
        }
        frame.encapsulated = Some(self.protocol);
        if let Err(frame) = out.push(frame) {
            pool.give(frame);
        }
    }
}

/// Why what was received is no payload of a tunnel's.
enum Unfit {
    TooLong,
    Unreadable,
}

/// Makes a frame that was received into the payload: from the GRE header on, or behind the UDP header.
fn trim(
    frame: &mut Frame,
    received: &Received,
    protocol: TunnelProtocol,
    family: IpFamily,
) -> Result<(), Unfit> {
    if received.truncated || frame.set_len(received.length).is_err() {
        return Err(Unfit::TooLong);
    }
    if protocol.is_udp() || family == IpFamily::V6 {
        return Ok(());
    }
    // Raw IPv4 sockets give the IP header too, whose fields are known already.
    let header_len = ipv4_header_len(frame.bytes()).ok_or(Unfit::Unreadable)?;
    frame.pull_front(header_len).map_err(|_| Unfit::Unreadable)
}

/// Whether all that is known of the outer headers of two datagrams is the same.
fn is_alike(a: &Received, b: &Received) -> bool {
    (a.source, a.source_port, a.destination, a.tos, a.ttl)
        == (b.source, b.source_port, b.destination, b.tos, b.ttl)
}

impl Rx for TunnelRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        if self.staged.is_empty() {
            self.fill(pool)?;
        }
        let room = out.room();
        while let Some((frame, received)) = self.staged.pop() {
            if let Some(rest) = self.take_in(frame, received, room, pool) {
                self.staged.push(rest);
                break;
            }
        }
        let mut held = std::mem::take(&mut self.held);
        held.drain(..).for_each(|held| self.deliver(held, pool, out));
        self.held = held;
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.staged.is_empty() && self.demand.is_drained()
    }

    fn frame_price(&self) -> u32 {
        cost::KERNEL_FRAME
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}
