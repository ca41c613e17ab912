//! Ports on an existing netdev (`type=afxdp`): frames are taken from its driver by an XDP program, before the kernel makes
//! packets of them, and shared memory stands where system calls are elsewhere.
//!
//! There are only bytes: no virtio-net header, so super-frames are cut and checksums completed before they are sent; and a VLAN
//! tag that hardware took out of a received frame is lost. Between virtual devices the sender's kernel may have left a checksum
//! to the device, without a word: such frames are known by their bytes, as those are that come out of tunnels
//! ([`Frame::recognise_offload`]). What is inside a tunnel that the sender made itself is not looked at, nor is SCTP.
//!
//! A queue of the device has one ring of frames to be sent. Workers that share it take turns by a lock, once for many frames; the
//! kernel, which sends them within the same system call, lets only one of them at a time do that.
//!
//! The kernel's own stack sees nothing of the frames of the queues that are in use.

use super::batching::Outbox;
use super::device::{self, Key, Viewpoint};
use super::{
    DeviceChange, LinkReport, Losses, Port, PortConfigError, PortError, Rx, RxLoss, Tx, TxLost, plain,
    reason_of,
};
use crate::cost;
use crate::drop::Drop;
use packet::{Batch, Frame, FramePool, PacketKey};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sys::errno;
use sys::ethtool;
use sys::netlink::AdminState;
use sys::netns::Netns;
use sys::packet_socket::Promiscuous;
use sys::xdp::{self, XdpDevice, XdpMode, XdpOptions, XdpReceiver, XdpSender, XdpStatistics, XdpWatch};
use sys::{IfIndex, IfName};

/// Largest MTU with which every frame, with two VLAN tags, fits the memory that it is received into.
pub const MTU_MAX: u32 = (xdp::FRAME_LEN_MAX - 14 - 2 * 4) as u32;

/// Drivers of devices that frames reach as their sender's kernel left them, without ever having been on a wire.
const VIRTUAL_DRIVERS: [&str; 4] = ["veth", "tun", "virtio_net", "netkit"];

/// How a port on an existing netdev is to be opened.
#[derive(Debug)]
pub struct AfXdpConfig {
    /// Name of the netdev, in the namespace of the calling thread.
    pub name: IfName,
    /// How to take its frames.
    pub xdp: XdpOptions,
    /// MTU to give it, in bytes without the Ethernet header; at most [`MTU_MAX`].
    pub mtu: Option<u32>,
    /// Whether to switch it on or off; `None` leaves it as it is.
    pub admin: Option<AdminState>,
}

impl AfXdpConfig {
    /// One queue in the fastest mode that works, switched on, the MTU left as it is.
    pub fn new(name: IfName) -> Self {
        AfXdpConfig { name, xdp: XdpOptions::default(), mtu: None, admin: Some(AdminState::Up) }
    }
}

/// What is held as long as any side is in use.
#[derive(Debug)]
struct Held {
    device: XdpDevice,
    _promiscuous: Promiscuous,
}

/// A port on an existing netdev.
#[derive(Debug)]
pub struct AfXdpPort {
    index: IfIndex,
    // Where the device was, and still is unless the program is no longer on it.
    netns: Netns,
    held: Arc<Held>,
    /// Taken by [`Port::take_rx`].
    receivers: Vec<XdpReceiver>,
    senders: Vec<Arc<Mutex<XdpSender>>>,
    watches: Vec<XdpWatch>,
    losses: Vec<Arc<RxLoss>>,
    /// What the kernel lost; written by whoever owns the port.
    kernel_loss: Arc<RxLoss>,
    senders_given: usize,
    /// Whether received frames may lack checksums that nobody speaks of.
    may_lack_checksums: bool,
}

impl AfXdpPort {
    /// Attaches to the device.
    ///
    /// # Errors
    /// [`PortConfigError::NoDevice`], [`PortConfigError::MtuTooLong`], [`PortConfigError::Xdp`], or what else was refused.
    pub fn open(config: &AfXdpConfig) -> Result<AfXdpPort, PortConfigError> {
        let index = device::prepare(&config.name, (config.mtu, config.admin), check_mtu)?;
        let (device, queues) = XdpDevice::open(index, config.xdp)?;
        let refused = |source| PortConfigError::Refused { operation: "promiscuous mode", source };
        let promiscuous = Promiscuous::hold(index).map_err(refused)?;
        let driver = ethtool::driver(&config.name).unwrap_or_default().driver;
        let (receivers, senders): (Vec<_>, Vec<_>) = queues.into_iter().unzip();
        Ok(AfXdpPort {
            index,
            netns: Netns::current()?,
            may_lack_checksums: device.mode() == XdpMode::Generic
                || VIRTUAL_DRIVERS.contains(&driver.as_str()),
            held: Arc::new(Held { device, _promiscuous: promiscuous }),
            watches: receivers.iter().map(XdpReceiver::watch).collect(),
            losses: receivers.iter().map(|_| Arc::default()).collect(),
            receivers,
            senders: senders.into_iter().map(|sender| Arc::new(Mutex::new(sender))).collect(),
            kernel_loss: Arc::default(),
            senders_given: 0,
        })
    }

    /// Brings [`Self::kernel_loss`] up to date.
    fn count_kernel_losses(&self) {
        let statistics = self.watches.iter().map(|watch| watch.statistics().unwrap_or_default());
        let lost: u64 = statistics.map(|s| s.rx_dropped + s.rx_ring_full).sum();
        self.kernel_loss.overflow.add(lost.saturating_sub(self.kernel_loss.overflow.get()));
    }
}

/// A worker that panicked has taken the process with it.
fn lock(sender: &Mutex<XdpSender>) -> MutexGuard<'_, XdpSender> {
    sender.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_mtu(mtu: u32) -> Result<(), PortConfigError> {
    if mtu > MTU_MAX { Err(PortConfigError::MtuTooLong { mtu, most: MTU_MAX }) } else { Ok(()) }
}

impl Port for AfXdpPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        let receivers = std::mem::take(&mut self.receivers);
        let side = |(receiver, loss): (XdpReceiver, &Arc<RxLoss>)| -> Box<dyn Rx> {
            Box::new(AfXdpRx {
                receiver,
                loss: loss.clone(),
                taken: Vec::with_capacity(Batch::MAX),
                lengths: [0; Batch::MAX],
                is_drained: false,
                may_lack_checksums: self.may_lack_checksums,
                _held: self.held.clone(),
            })
        };
        receivers.into_iter().zip(&self.losses).map(side).collect()
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        let number = self.senders_given % self.senders.len().max(1);
        let sender = self.senders.get(number).ok_or(PortError::Gone)?.clone();
        self.senders_given += 1;
        Ok(Box::new(AfXdpTx {
            sender,
            outbox: Outbox::new(),
            losses: Losses::default(),
            is_down: false,
            has_rest: false,
            failed: None,
            _held: self.held.clone(),
        }))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        if !self.held.device.is_attached()? {
            return Err(PortError::Gone);
        }
        let report = device::report(&self.netns, Key::Index(self.index), Viewpoint::Same)?;
        Ok(LinkReport { xdp_mode: Some(self.held.device.mode()), ..report })
    }

    fn change(&mut self, change: DeviceChange) -> Result<(), PortConfigError> {
        if let DeviceChange::Mtu(mtu) = change {
            check_mtu(mtu)?;
        }
        device::change(&self.netns, Key::Index(self.index), change)
    }

    fn xdp_statistics(&self) -> Vec<XdpStatistics> {
        self.watches.iter().map(|watch| watch.statistics().unwrap_or_default()).collect()
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        self.count_kernel_losses();
        self.losses.iter().chain([&self.kernel_loss]).cloned().collect()
    }

    fn discard(&mut self) -> Result<(), PortError> {
        // The device is not ours.
        Ok(())
    }
}

struct AfXdpRx {
    receiver: XdpReceiver,
    loss: Arc<RxLoss>,
    /// Frames that are being received into.
    taken: Vec<Frame>,
    /// How long they are.
    lengths: [usize; Batch::MAX],
    is_drained: bool,
    may_lack_checksums: bool,
    _held: Arc<Held>,
}

impl Rx for AfXdpRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        let waiting = self.receiver.waiting();
        let wanted = waiting.min(out.room());
        self.taken.extend((0..wanted).map(|_| pool.take()));
        let buffers = self.taken.iter_mut().map(Frame::room_mut);
        let found = self.receiver.recv_many(buffers, &mut self.lengths);
        for (n, mut frame) in self.taken.drain(..).enumerate() {
            let length = self.lengths.get(n).filter(|_| n < found);
            if length.is_none_or(|&length| frame.set_len(length).is_err()) {
                self.loss.too_long.add(u64::from(length.is_some()));
                pool.give(frame);
                continue;
            }
            // A frame that makes no sense is refused where all are that make none.
            if self.may_lack_checksums && PacketKey::extract(&mut frame).is_ok() {
                frame.recognise_offload();
            }
            if let Err(frame) = out.push(frame) {
                pool.give(frame);
            }
        }
        self.is_drained = waiting <= wanted;
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.is_drained
    }

    fn frame_price(&self) -> u32 {
        cost::KERNEL_FRAME
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.receiver.as_fd())
    }
}

struct AfXdpTx {
    sender: Arc<Mutex<XdpSender>>,
    outbox: Outbox,
    losses: Losses,
    /// Whether the device was down the last time, so that it is to be asked before it gets more.
    is_down: bool,
    /// Whether frames wait that the device had no room for.
    has_rest: bool,
    failed: Option<PortError>,
    _held: Arc<Held>,
}

impl Tx for AfXdpTx {
    fn send(&mut self, mut frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        if frame.is_super_frame() {
            // Behind what came before it.
            self.send_out(pool);
            return self.send_cut(frame, pool);
        }
        frame.complete_checksum();
        self.outbox.add(frame);
        if self.outbox.is_full() {
            self.send_out(pool);
        }
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        if self.has_rest && self.outbox.is_empty() {
            let sender = self.sender.clone();
            self.finish(&mut lock(&sender), (0, 0));
        }
        self.send_out(pool);
        self.failed.take().map_or(Ok(()), Err)
    }

    fn take_lost(&mut self) -> Option<TxLost> {
        self.losses.take()
    }

    fn has_rest(&self) -> bool {
        self.has_rest
    }
}

/// Puts a frame with those that are to be sent, if need be once those have been.
fn push(sender: &mut XdpSender, bytes: &[u8]) -> io::Result<()> {
    match sender.push(bytes) {
        Err(error) if error.raw_os_error() == Some(errno::ENOBUFS) => {
            sender.flush()?;
            sender.push(bytes)
        }
        result => result,
    }
}

impl AfXdpTx {
    /// Sends what waits, with one system call if nothing is refused.
    fn send_out(&mut self, pool: &mut FramePool) {
        if self.outbox.is_empty() {
            return;
        }
        let all = self.outbox.take();
        let sender = self.sender.clone();
        let mut sender = lock(&sender);
        let is_ready = self.is_ready(&mut sender);
        // What the kernel is to send: frames, bytes.
        let mut given = (0, 0);
        for waiting in &all {
            let (frames, bytes) = (waiting.frames(), waiting.frame.len() as u64);
            let pushed =
                is_ready.and_then(|()| push(&mut sender, waiting.frame.bytes()).map_err(|e| reason_of(&e)));
            match pushed {
                Ok(()) => given = (given.0 + frames, given.1 + bytes),
                Err(reason) => self.losses.add(reason, frames, bytes),
            }
        }
        if given.0 > 0 {
            self.finish(&mut sender, given);
        }
        drop(sender);
        self.outbox.put_back(all, pool);
    }

    /// Sends a super-frame in pieces.
    fn send_cut(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        let sender = self.sender.clone();
        let mut sender = lock(&sender);
        if let Err(reason) = self.is_ready(&mut sender) {
            return Err((frame, reason));
        }
        let bytes = frame.len() as u64;
        let mut failure = None;
        let sent = plain::each(frame, pool, |bytes| {
            push(&mut sender, bytes).map_err(|error| failure = Some(error)).is_ok()
        });
        // Pieces of what is given back count with it.
        let given = if sent.is_ok() { (1, bytes) } else { (0, 0) };
        self.finish(&mut sender, given);
        sent.map_err(|(frame, reason)| (frame, failure.map_or(reason, |error| reason_of(&error))))
    }

    /// Whether the device may be given more. While it is down it may not: it would send all that when it is up again, which may be
    /// long after it was of any use.
    fn is_ready(&mut self, sender: &mut XdpSender) -> Result<(), Drop> {
        if !self.is_down {
            return Ok(());
        }
        match self.learn(&sender.flush()) {
            None => Ok(()),
            Some(reason) => Err(reason),
        }
    }

    /// Has the kernel send what it was given, so many frames and bytes, which are lost if there is no device any more.
    fn finish(&mut self, sender: &mut XdpSender, (frames, bytes): (u64, u64)) {
        if self.learn(&sender.flush()) == Some(Drop::NoPort) && frames > 0 {
            self.losses.add(Drop::NoPort, frames, bytes);
        }
    }

    /// Why frames were not sent, if they were not.
    fn learn(&mut self, result: &io::Result<bool>) -> Option<Drop> {
        self.is_down = false;
        self.has_rest = matches!(result, Ok(false));
        let error = result.as_ref().err()?;
        match error.raw_os_error() {
            Some(errno::ENXIO | errno::ENODEV) => {
                self.failed = Some(PortError::Gone);
                Some(Drop::NoPort)
            }
            Some(errno::ENETDOWN) => {
                self.is_down = true;
                Some(Drop::TxDown)
            }
            _ => Some(reason_of(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::affinity::ThreadId;
    use sys::netlink::Netlink;
    use sys::netns::run_in;
    use sys::poll::Poller;

    /// As in `sys`, where it is said why this device has no room. Before Linux 6.16 it loses frames instead.
    #[test]
    fn what_the_device_has_no_room_for_goes_with_later_flushes() {
        let work = || {
            let [near, far] = ["near", "far"].map(|name| IfName::new(name).unwrap());
            Netlink::open().unwrap().create_veth(&near, &far).unwrap();
            let xdp = XdpOptions { mode: Some(XdpMode::Native), ..XdpOptions::default() };
            let open = |name| AfXdpPort::open(&AfXdpConfig { xdp, ..AfXdpConfig::new(name) }).unwrap();
            let (mut port, mut other) = (open(near), open(far));
            let own = ThreadId::own();
            let cpu = own.cpus().unwrap()[0];
            own.bind(&[cpu]).unwrap();
            let script = format!(
                "set -e; mount -t sysfs sysfs /sys; echo 1 > /sys/class/net/far/threaded; tc qdisc add dev near root pfifo
                until grep -q up /sys/class/net/near/operstate; do sleep 0.01; done
                for thread in $(pgrep napi/far); do taskset -pc {cpu} $thread && chrt -ip 0 $thread || true; done"
            );
            let made = std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).status();
            assert!(made.unwrap().success());
            let mut tx = port.new_tx().unwrap();
            // All at once, as if by other workers too.
            for _ in 1..xdp::TX_FRAMES_MAX {
                lock(&port.senders[0]).push(&[2; 60]).unwrap();
            }
            let mut pool = FramePool::new(64);
            tx.send(Frame::from_bytes(&[2; 60]), &mut pool).map_err(|(_, reason)| reason).unwrap();
            let (mut poller, mut had_rest) = (Poller::new().unwrap(), false);
            for _ in 0..5_000 {
                tx.flush(&mut pool).unwrap();
                if !tx.has_rest() {
                    break;
                }
                had_rest = true;
                poller.wait(Some(std::time::Duration::from_millis(1)), &mut Vec::new()).unwrap();
            }
            assert_eq!((tx.has_rest(), lock(&port.senders[0]).pending(), tx.take_lost()), (false, 0, None));
            let receiver = &mut other.receivers[0];
            for _ in 0..5_000 {
                if !had_rest || receiver.waiting() >= xdp::TX_FRAMES_MAX {
                    return;
                }
                poller.wait(Some(std::time::Duration::from_millis(1)), &mut Vec::new()).unwrap();
            }
            panic!("{} frames", receiver.waiting());
        };
        run_in(&Netns::new_unnamed().unwrap(), work).unwrap();
    }
}
