//! Ports on an existing netdev (`type=system`): a veth's near end, a NIC, a VLAN device, through a packet socket.
//!
//! VLAN tags that the kernel took out of received frames are put back. With a virtio-net header super-frames and partial
//! checksums pass as they do on a TAP; where the kernel has none, or refuses a form of segmentation, frames are completed and
//! cut here.
//!
//! Frames are received and sent several a system call. With a virtio-net header TCP segments that follow one another are sent
//! as one super-frame.
//!
//! The kernel's own stack sees the frames of the device too: addresses on it belong on the bridge's local port instead.

use super::batching::{Demand, Outbox, Waiting};
use super::device::{self, Key, Viewpoint};
use super::{
    DeviceChange, LinkReport, Losses, Port, PortConfigError, PortError, Rx, RxLoss, Tx, TxLost, plain,
    reason_of, vnet,
};
use crate::cost;
use crate::drop::Drop;
use packet::{Batch, Frame, FramePool, PacketKey, Segmentation};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use sys::errno;
use sys::netlink::AdminState;
use sys::netns::Netns;
use sys::packet_socket::{PacketOffload, PacketOptions, PacketSocket, Promiscuity, Received, VlanTag};
use sys::vnet::{VnetChecksum, VnetHeader};
use sys::{IfIndex, IfName};

/// Bytes of the two MAC addresses, behind which a VLAN tag stands.
const ADDRESSES_LEN: usize = 12;
/// Bytes of a VLAN tag.
const TAG_LEN: usize = 4;

/// How a port on an existing netdev is to be opened.
#[derive(Debug)]
pub struct AfPacketConfig {
    /// Name of the netdev, in the namespace of the calling thread.
    pub name: IfName,
    /// Whether super-frames may cross it whole.
    pub offload: PacketOffload,
    /// MTU to give it, in bytes without the Ethernet header.
    pub mtu: Option<u32>,
    /// Whether to switch it on or off; `None` leaves it as it is.
    pub admin: Option<AdminState>,
}

impl AfPacketConfig {
    /// With offloads, switched on, the MTU left as it is.
    pub fn new(name: IfName) -> Self {
        AfPacketConfig { name, offload: PacketOffload::IfPossible, mtu: None, admin: Some(AdminState::Up) }
    }
}

/// A port on an existing netdev.
#[derive(Debug)]
pub struct AfPacketPort {
    socket: Arc<PacketSocket>,
    index: IfIndex,
    // Where the device was, and still is unless the socket says that it is gone.
    netns: Netns,
    loss: Arc<RxLoss>,
    rx_taken: bool,
}

impl AfPacketPort {
    /// Attaches to the device.
    ///
    /// # Errors
    /// [`PortConfigError::NoDevice`], or what the kernel refused.
    pub fn open(config: &AfPacketConfig) -> Result<AfPacketPort, PortConfigError> {
        let index = device::prepare(&config.name, (config.mtu, config.admin), |_| Ok(()))?;
        let options = PacketOptions { promiscuity: Promiscuity::All, offload: config.offload };
        let socket = PacketSocket::open(index, options).map_err(|source| match source.raw_os_error() {
            Some(errno::ENODEV | errno::ENXIO) => PortConfigError::NoDevice(config.name.to_string()),
            _ => PortConfigError::Refused { operation: "packet socket", source },
        })?;
        Ok(AfPacketPort {
            socket: Arc::new(socket),
            index,
            netns: Netns::current()?,
            loss: Arc::default(),
            rx_taken: false,
        })
    }
}

impl Port for AfPacketPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        if std::mem::replace(&mut self.rx_taken, true) {
            return Vec::new();
        }
        vec![Box::new(AfPacketRx {
            socket: self.socket.clone(),
            loss: self.loss.clone(),
            demand: Demand::new(),
            taken: Vec::with_capacity(Batch::MAX),
            received: Box::new([Received::EMPTY; Batch::MAX]),
        })]
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        Ok(Box::new(AfPacketTx {
            socket: self.socket.clone(),
            outbox: Outbox::new(),
            losses: Losses::default(),
            failed: None,
        }))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        if !self.socket.is_attached()? {
            return Err(PortError::Gone);
        }
        device::report(&self.netns, Key::Index(self.index), Viewpoint::Same)
    }

    fn change(&mut self, change: DeviceChange) -> Result<(), PortConfigError> {
        device::change(&self.netns, Key::Index(self.index), change)
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        vec![self.loss.clone()]
    }

    fn discard(&mut self) -> Result<(), PortError> {
        // The device is not ours.
        Ok(())
    }
}

struct AfPacketRx {
    socket: Arc<PacketSocket>,
    loss: Arc<RxLoss>,
    demand: Demand,
    /// Frames that are being received into.
    taken: Vec<Frame>,
    /// What is known about them.
    received: Box<[Received; Batch::MAX]>,
}

impl Rx for AfPacketRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        // Again if all were of no use, but not for ever: who polls comes back.
        for _ in 0..Batch::MAX {
            let Err(error) = self.recv_many(pool, out) else {
                if out.is_empty() && !self.demand.is_drained() {
                    continue;
                }
                return Ok(());
            };
            match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::WouldBlock, _) => return Ok(()),
                (io::ErrorKind::Interrupted, _) => {}
                // The kernel has thrown away a frame for which there is no virtio-net header.
                (_, Some(errno::EINVAL)) => self.loss.unreadable.add(1),
                _ => return Err(self.failure(error)),
            }
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.demand.is_drained()
    }

    fn frame_price(&self) -> u32 {
        cost::KERNEL_FRAME
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

impl AfPacketRx {
    /// As many frames with one system call as are to be expected.
    fn recv_many(&mut self, pool: &mut FramePool, out: &mut Batch) -> io::Result<()> {
        let front = self.socket.front_length();
        let wanted = self.demand.wanted(out.room());
        let mut taken = std::mem::take(&mut self.taken);
        taken.extend((0..wanted).map(|_| pool.take()));
        let buffers = taken.iter_mut().map(|frame| frame.room_behind_mut(front));
        let result = self.socket.recv_many(buffers, &mut *self.received);
        let found = *result.as_ref().unwrap_or(&0);
        // From the end, so that frames go back to the pool as they were taken.
        while taken.len() > found
            && let Some(frame) = taken.pop()
        {
            pool.give(frame);
        }
        for (mut frame, received) in taken.drain(..).zip(self.received.iter()) {
            if received.outgoing || !self.keep(&mut frame, received) {
                pool.give(frame);
            } else if let Err(frame) = out.push(frame) {
                pool.give(frame);
            }
        }
        self.taken = taken;
        self.demand.learn(found, wanted);
        result.map(drop)
    }

    /// Makes `frame` what was on the wire. False if that cannot be.
    fn keep(&self, frame: &mut Frame, received: &Received) -> bool {
        if received.truncated || frame.set_len(received.length).is_err() {
            self.loss.too_long.add(1);
            return false;
        }
        if self.socket.has_vnet() {
            vnet::apply(frame, received.vnet);
        } else if !self.complete(frame, received) {
            self.loss.unreadable.add(1);
            return false;
        }
        match received.vlan {
            Some(tag) if !put_tag(frame, tag) => {
                self.loss.too_long.add(1);
                false
            }
            _ => true,
        }
    }

    /// Without a virtio-net header the kernel says only that a checksum is partial, not where.
    #[cold]
    fn complete(&self, frame: &mut Frame, received: &Received) -> bool {
        match received.vnet.map(|header| header.checksum) {
            Ok(VnetChecksum::Partial { .. }) => {
                PacketKey::extract(frame).is_ok() && frame.refresh_transport_checksum()
            }
            _ => true,
        }
    }

    /// A device that went down is no reason to give the port up, one that went away is. The kernel says the same of both.
    #[cold]
    fn failure(&self, error: io::Error) -> PortError {
        match (error.raw_os_error(), self.socket.is_attached()) {
            (Some(errno::ENETDOWN), Ok(true)) => PortError::Down,
            (Some(errno::ENETDOWN | errno::ENODEV | errno::ENXIO), _) => PortError::Gone,
            _ => PortError::Io(error),
        }
    }
}

/// Puts a tag behind the MAC addresses. Offsets that the frame knows go on being true.
fn put_tag(frame: &mut Frame, tag: VlanTag) -> bool {
    if frame.len() < ADDRESSES_LEN || frame.push_front(TAG_LEN).is_err() {
        return false;
    }
    let [t0, t1] = tag.tpid.to_be_bytes();
    let [c0, c1] = tag.tci.to_be_bytes();
    let bytes = frame.bytes_mut();
    bytes.copy_within(TAG_LEN..TAG_LEN + ADDRESSES_LEN, 0);
    match bytes.get_mut(ADDRESSES_LEN..ADDRESSES_LEN + TAG_LEN) {
        Some(place) => {
            place.copy_from_slice(&[t0, t1, c0, c1]);
            true
        }
        None => false,
    }
}

struct AfPacketTx {
    socket: Arc<PacketSocket>,
    outbox: Outbox,
    losses: Losses,
    failed: Option<PortError>,
}

impl Tx for AfPacketTx {
    fn send(&mut self, mut frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        // No header tells the kernel of what is to be cut inside a tunnel.
        if self.socket.has_vnet() && frame.inner_segmentation == Segmentation::None {
            if frame.segmentation != Segmentation::None
                && let Err(reason) = vnet::describe(&frame)
            {
                return Err((frame, reason));
            }
            self.outbox.add_or_join(frame, pool);
        } else if !frame.is_super_frame() {
            frame.complete_checksum();
            self.outbox.add(frame);
        } else {
            // Behind what came before it.
            self.send_out(pool);
            return self.send_plain(frame, pool);
        }
        if self.outbox.is_full() {
            self.send_out(pool);
        }
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        self.send_out(pool);
        self.failed.take().map_or(Ok(()), Err)
    }

    fn take_lost(&mut self) -> Option<TxLost> {
        self.losses.take()
    }
}

impl AfPacketTx {
    /// Sends what waits, with one system call if nothing is refused. Whatever is refused, the others are sent all the same.
    fn send_out(&mut self, pool: &mut FramePool) {
        if self.outbox.is_empty() {
            return;
        }
        if self.socket.has_vnet() {
            self.outbox.put_headers(VnetHeader::encode_short, &mut self.losses);
        }
        let mut all = self.outbox.take();
        let mut done = 0;
        while done < all.len() {
            let frames = all.iter().skip(done).map(|waiting| waiting.frame.bytes());
            match self.socket.send_many(frames) {
                // Never none of several.
                Ok(sent) => done += sent.max(1),
                Err(error) => {
                    let Some(waiting) = all.get_mut(done) else { break };
                    if !self.may_try_again(&waiting.frame, &error) {
                        self.send_refused(waiting, &error, pool);
                        done += 1;
                    }
                }
            }
        }
        self.outbox.put_back(all, pool);
    }

    /// Whether a super-frame was refused for a reason that is now out of the way. True once, or as often as workers notice at a time.
    #[cold]
    fn may_try_again(&self, frame: &Frame, error: &io::Error) -> bool {
        error.raw_os_error() == Some(errno::ENOBUFS)
            && frame.segmentation != Segmentation::None
            && self.socket.use_queue().unwrap_or(false)
    }

    /// Sends a frame in the plain form if it may be its form that the kernel does not take, or notes that it is lost.
    #[cold]
    fn send_refused(&mut self, waiting: &mut Waiting, error: &io::Error, pool: &mut FramePool) {
        let _ = waiting.frame.pull_front(self.socket.front_length());
        let (frames, bytes) = (waiting.frames(), waiting.frame.len() as u64);
        let reason = if error.kind() == io::ErrorKind::InvalidInput {
            let frame = std::mem::replace(&mut waiting.frame, pool.take());
            match self.send_plain(frame, pool) {
                Ok(()) => return,
                Err((frame, reason)) => {
                    pool.give(frame);
                    reason
                }
            }
        } else {
            self.refused(error)
        };
        self.losses.add(reason, frames, bytes);
    }

    /// Completed and cut here.
    #[cold]
    fn send_plain(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        let mut failure = None;
        let sent = plain::each(frame, pool, |bytes| {
            let sent = self.socket.send(&VnetHeader::default(), &[IoSlice::new(bytes)]);
            sent.map(drop).map_err(|error| failure = Some(error)).is_ok()
        });
        sent.map_err(|(frame, reason)| (frame, failure.map_or(reason, |error| self.refused(&error))))
    }

    #[cold]
    fn refused(&mut self, error: &io::Error) -> Drop {
        match error.raw_os_error() {
            Some(errno::ENXIO | errno::ENODEV) => {
                self.failed = Some(PortError::Gone);
                Drop::NoPort
            }
            _ => reason_of(error),
        }
    }
}
