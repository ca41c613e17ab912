//! Ports: where frames come from and go to. The traits; the kinds of port are the submodules.
//!
//! A [`Port`] stays with the thread that opened it, which asks it about its device and changes it. Its receiving sides
//! ([`Rx`]) belong to one worker each; its sending side ([`Tx`]) exists once per worker, so that workers never share one.
//!
//! Frames and bytes are counted by the worker ([`crate::stats`]); a port counts only what was lost before the worker could
//! see it ([`RxLoss`]). None of this waits: a device without room for a frame is a drop.
//!
//! Not here: which ports there are and what they are for.

pub mod af_packet;
pub mod afxdp;
pub mod capture;
pub mod dummy;
pub mod pcap;
pub mod tap;
pub mod tunnel_device;
pub mod tunnel_socket;

mod batching;
mod device;
mod plain;
mod ring;
mod vnet;

use crate::cost;
use crate::drop::Drop;
use crate::fragments::Incomplete;
use base::Counter;
use packet::{Batch, Frame, FramePool};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use thiserror::Error;

pub use af_packet::{AfPacketConfig, AfPacketPort};
pub use afxdp::{AfXdpConfig, AfXdpPort};
pub use dummy::{DummyEnd, DummyPort};
pub use pcap::{PcapConfig, PcapPort, WallClock};
pub use tap::{TapConfig, TapPort};
pub use tunnel_device::{TunnelDeviceConfig, TunnelDevicePort};
pub use tunnel_socket::{TunnelSocketConfig, TunnelSocketPort};

pub use sys::xdp::{XdpMode, XdpOptions, XdpStatistics};

/// What went wrong with a port as a whole. A single frame that cannot be sent is a [`Drop`].
#[derive(Debug, Error)]
pub enum PortError {
    /// The device was deleted or its namespace died. It may come back as a new port.
    #[error("device is gone")]
    Gone,
    /// The device exists but is administratively down. The port is still of use: frames come again when it is up.
    #[error("device is down")]
    Down,
    /// Anything else the kernel said.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Why a port could not be opened or its device not be changed; the text is for people (`Interface:error`).
#[derive(Debug, Error)]
pub enum PortConfigError {
    /// There is no such device.
    #[error("{0}: no such network device")]
    NoDevice(String),
    /// The device carries no Ethernet frames.
    #[error("{0}: not an Ethernet device")]
    NotEthernet(String),
    /// Opening a TAP.
    #[error(transparent)]
    Tap(#[from] sys::tap::TapError),
    /// Asking or changing through netlink.
    #[error(transparent)]
    Netlink(#[from] sys::netlink::NetlinkError),
    /// Finding or entering a network namespace.
    #[error(transparent)]
    Netns(#[from] sys::netns::NetnsError),
    /// Taking the frames of a device by AF_XDP.
    #[error(transparent)]
    Xdp(#[from] sys::xdp::XdpError),
    /// An MTU with which frames do not fit where this kind of port receives them.
    #[error("MTU {mtu} is too large: at most {most} with AF_XDP")]
    MtuTooLong {
        /// The MTU, in bytes without the Ethernet header.
        mtu: u32,
        /// The largest that is possible.
        most: u32,
    },
    /// A name or a UDP port that somebody has; the text says which.
    #[error("{0}")]
    InUse(String),
    /// A capture file.
    #[error("{path}: {reason}")]
    Capture {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another number of queues for a device that was made with room for one.
    #[error("{0}: the device was made for one queue; for more, remove the port and add it anew")]
    OneQueue(String),
    /// This kind of port has nothing of the kind to change.
    #[error("this type of port has no {0}")]
    Unsupported(&'static str),
    /// Anything else the kernel refused.
    #[error("{operation}: {source}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl From<PortError> for PortConfigError {
    fn from(error: PortError) -> Self {
        let source = match error {
            PortError::Io(error) => error,
            other => std::io::Error::other(other),
        };
        PortConfigError::Refused { operation: "port", source }
    }
}

/// The receiving side of a port.
pub trait Rx: Send {
    /// Receives what is there, without waiting: at most what fits `out`. An empty batch means that there is nothing.
    ///
    /// Frames come with the state of checksum and segmentation that the device announced, unchecked: after extraction
    /// `Frame::validate_offload` is to be called. The caller sets `Frame::in_port`.
    ///
    /// # Errors
    /// The port failed as a whole; frames received before the failure are in `out`.
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError>;

    /// Whether the last `recv` found the end of what there was, so that another would find nothing unless more has come. False
    /// also where nobody knows.
    fn is_drained(&self) -> bool {
        false
    }

    /// What moving a frame costs, from its reception to its being sent, in units of [`crate::cost`]. That of a frame's bytes is left
    /// out: turns are not to favour small frames.
    fn frame_price(&self) -> u32 {
        cost::FRAME
    }

    /// A descriptor that polls readable (level-triggered) while there may be something to receive. A port without one never
    /// has anything unless somebody puts it there in the same thread.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Lets go of what only the calling thread can use: another one is going to receive. Nothing that was read may be left
    /// behind.
    fn leave_thread(&mut self) {}
}

/// A receiving side on its way to a worker or back.
pub struct RxQueue {
    /// Tells it from the port's others; 0 for an only one.
    pub number: u16,
    /// The side itself.
    pub rx: Box<dyn Rx>,
    /// What was received from it, by whichever worker had it.
    pub load: Arc<RxLoad>,
    /// Cached flows of the port at the worker that it comes from: as many may be set up anew where it goes.
    pub flows: u64,
    /// Fragments that came by it of packets that are not whole yet.
    pub fragments: Incomplete,
}

impl RxQueue {
    /// A side that nobody has received from.
    pub fn new(number: u16, rx: Box<dyn Rx>) -> RxQueue {
        RxQueue { number, rx, load: Arc::default(), flows: 0, fragments: Incomplete::default() }
    }

    /// The only side of its port.
    pub fn only(rx: Box<dyn Rx>) -> RxQueue {
        RxQueue::new(0, rx)
    }
}

impl std::fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RxQueue")
            .field("number", &self.number)
            .field("load", &self.load)
            .finish_non_exhaustive()
    }
}

/// What was received from one side. Written by the worker that has it; who hands it over hands over the right to write.
#[derive(Debug, Default)]
pub struct RxLoad {
    /// Frames.
    pub frames: Counter,
    /// Their bytes.
    pub bytes: Counter,
}

/// The sending side of a port, one per worker.
pub trait Tx: Send {
    /// Takes a frame for sending. May keep it until `flush`.
    ///
    /// # Errors
    /// The frame and why it was not sent.
    fn send(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)>;

    /// Whether it takes packets of UDP tunnels whose inner frame is still to be cut (`packet::tunnel::push_uncut`). Each such
    /// packet counts as one frame.
    fn cuts_in_tunnels(&self) -> bool {
        false
    }

    /// Sends what is kept; frames go back to the pool.
    ///
    /// # Errors
    /// The port failed as a whole, here or in a `send` since the last call.
    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError>;

    /// Frames that `send` took but that `flush` could not pass on, since this was last asked, for one reason at a time. The
    /// worker asks after each flush until there is nothing more, so that they count as dropped and not as sent. A port whose
    /// `send` decides at once needs none of this.
    fn take_lost(&mut self) -> Option<TxLost> {
        None
    }

    /// Whether the last flush left something for which the device had no room: then the worker flushes again soon, though nothing
    /// more may come to be sent.
    fn has_rest(&self) -> bool {
        false
    }
}

/// Frames that were taken for sending and then not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxLost {
    /// How many.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why.
    pub reason: Drop,
}

/// Frames that a sending side took and then did not send, by reason.
#[derive(Debug, Default)]
struct Losses([Option<TxLost>; 6]);

impl Losses {
    fn add(&mut self, reason: Drop, frames: u64, bytes: u64) {
        let place = self.0.iter_mut().find(|l| l.is_none_or(|l| l.reason == reason));
        let Some(place) = place else { return };
        let lost = place.get_or_insert(TxLost { frames: 0, bytes: 0, reason });
        (lost.frames, lost.bytes) = (lost.frames + frames, lost.bytes + bytes);
    }

    fn take(&mut self) -> Option<TxLost> {
        self.0.iter_mut().find_map(Option::take)
    }
}

/// Why a frame that the kernel refused is dropped.
#[cold]
fn reason_of(error: &std::io::Error) -> Drop {
    match error.raw_os_error() {
        Some(sys::errno::EAGAIN | sys::errno::ENOBUFS | sys::errno::ENOMEM) => Drop::TxFull,
        Some(sys::errno::EMSGSIZE) => Drop::TxTooBig,
        Some(sys::errno::ENETDOWN) => Drop::TxDown,
        _ => Drop::TxError,
    }
}

/// What a device says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkReport {
    /// Its name now, where it is now.
    pub name: String,
    /// The kernel's number for it; `None` where no kernel knows it.
    pub ifindex: Option<u32>,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Longest packet it takes, in bytes without the Ethernet header.
    pub mtu: Option<u32>,
    /// Whether it is switched on.
    pub admin_up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// How often the carrier came or went.
    pub carrier_changes: u64,
    /// Megabits a second.
    pub speed_mbps: Option<u32>,
    /// Whether both ends may send at a time; `None` if not known.
    pub full_duplex: Option<bool>,
    /// Driver of the device: `tun`, `veth` …
    pub driver: String,
    /// How its frames are taken, if that is by AF_XDP.
    pub xdp_mode: Option<XdpMode>,
    /// Whether it lies in another network namespace than this process.
    pub elsewhere: bool,
    /// The kernel's counters, from the switch's point of view: `rx` is what the switch receives.
    pub kernel: Option<KernelCounters>,
}

/// Counters that the kernel keeps for a device, from the switch's point of view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct KernelCounters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_dropped: u64,
    pub rx_errors: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_dropped: u64,
    pub tx_errors: u64,
    pub collisions: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_over_errors: u64,
}

/// Frames that were lost between the device and the batch. Written by the receiving side.
#[derive(Debug, Default)]
pub struct RxLoss {
    /// Longer than a frame can be.
    pub too_long: Counter,
    /// No room for them (in-memory ports; a device's own losses are in [`KernelCounters`]).
    pub overflow: Counter,
    /// The kernel or the file could not give them: damaged, or of a form that has no description.
    pub unreadable: Counter,
}

/// A change to a port's device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceChange {
    /// Switch it on or off.
    Admin {
        /// Whether it shall be on.
        up: bool,
    },
    /// Set the MTU, in bytes without the Ethernet header.
    Mtu(u32),
    /// Set the MAC address.
    Mac([u8; 6]),
    /// Put a text on it, by which it is known again after having been moved or renamed.
    Alias(String),
}

/// A port as its owner sees it. Dropping it does not close its device as long as sides of it are in use.
pub trait Port: Send {
    /// Takes the receiving sides, each for one worker; nothing the second time.
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>>;

    /// Makes a sending side for one more worker.
    ///
    /// # Errors
    /// When out of file descriptors.
    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError>;

    /// How many receiving sides there are or were to be taken.
    fn rx_count(&self) -> usize {
        1
    }

    /// Changes the number of receiving sides, from 1 on. Gives those that are new, whose numbers follow. Of sides that go, the
    /// last ones, nobody may make use any more.
    ///
    /// # Errors
    /// [`PortConfigError`]; the number is then as before.
    fn set_rx_count(&mut self, _count: usize) -> Result<Vec<Box<dyn Rx>>, PortConfigError> {
        Err(PortConfigError::Unsupported("number of queues"))
    }

    /// Asks the device how it is. Costs system calls, and a thread for a device in another namespace.
    ///
    /// # Errors
    /// [`PortError::Gone`] if the device is no more.
    fn link(&mut self) -> Result<LinkReport, PortError>;

    /// Changes the device.
    ///
    /// # Errors
    /// [`PortConfigError`]; the device is then as before.
    fn change(&mut self, change: DeviceChange) -> Result<(), PortConfigError>;

    /// What was lost before a worker saw it.
    fn losses(&self) -> Vec<Arc<RxLoss>>;

    /// What the kernel counts for each queue, from the first on, if frames are taken by AF_XDP.
    fn xdp_statistics(&self) -> Vec<XdpStatistics> {
        Vec::new()
    }

    /// Destinations whose paths were found to take only packets of so many bytes, since this was last asked. Only of ports that
    /// the host routes for.
    fn take_path_mtus(&mut self) -> Vec<(IpAddr, u32)> {
        Vec::new()
    }

    /// Lets a device that this port made vanish once all sides of the port have been dropped. Without this a persistent TAP
    /// stays for the next start.
    ///
    /// # Errors
    /// [`PortError::Gone`] if it has already.
    fn discard(&mut self) -> Result<(), PortError>;
}
