//! AF_XDP sockets: the frames of an existing netdev, taken from its driver by an XDP program before the kernel's own stack
//! sees them (Documentation/networking/af_xdp.rst of the kernel).
//!
//! [`XdpDevice`] puts the program on the device and takes it off when dropped. Each of its queues has a [`XdpReceiver`] and a
//! [`XdpSender`], which share memory with the kernel (the UMEM): frames are copied out of and into it here, so that no caller
//! holds any of it.
//!
//! The kernel says nothing about checksums, segmentation or a VLAN tag that hardware took out of a frame: there are only bytes.
//!
//! Not here: one UMEM for several devices, frames of several chunks, any look into the frames.

mod program;
mod ring;
mod socket;

use std::fmt;
use std::io;

use crate::errno;
use crate::interface::IfIndex;
use program::{Placement, Program};
use socket::{Unbound, Wakeup, prepare};
pub use socket::{XdpReceiver, XdpSender, XdpStatistics, XdpWatch};

/// Bytes of the UMEM that one frame may take: the most that the kernel allows, a page.
const CHUNK_LEN: usize = 4096;
/// Bytes that the kernel keeps before each received frame (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
/// Longest frame, from its first MAC address on.
pub const FRAME_LEN_MAX: usize = CHUNK_LEN - HEADROOM;
/// Frames of one queue that may wait for us.
pub const RX_FRAMES_MAX: usize = 2048;
/// Frames of one queue that may wait for the device.
pub const TX_FRAMES_MAX: usize = 512;
/// Most queues of a device.
pub const QUEUES_MAX: u16 = 16;

/// Where frames are taken from, from the slowest to the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpMode {
    /// Behind the driver, whatever it is.
    Generic,
    /// In a driver that knows XDP, copied into the UMEM.
    Native,
    /// In a driver that writes into the UMEM and reads from it by itself.
    NativeWithZeroCopy,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            XdpMode::Generic => "generic",
            XdpMode::Native => "native",
            XdpMode::NativeWithZeroCopy => "native-with-zerocopy",
        })
    }
}

impl XdpMode {
    const FASTEST_FIRST: [XdpMode; 3] = [XdpMode::NativeWithZeroCopy, XdpMode::Native, XdpMode::Generic];

    fn placement(self) -> Placement {
        if self == XdpMode::Generic { Placement::Generic } else { Placement::Native }
    }
}

/// How to take the frames of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpOptions {
    /// In which mode; `None` for the fastest that works.
    pub mode: Option<XdpMode>,
    /// Of how many queues, from the first on; 1 to [`QUEUES_MAX`]. Frames of others stay with the kernel.
    pub queues: u16,
    /// Whether the kernel is to say when it wants to be woken, so that it need not be woken in vain.
    pub use_need_wakeup: bool,
}

impl Default for XdpOptions {
    fn default() -> Self {
        XdpOptions { mode: None, queues: 1, use_need_wakeup: true }
    }
}

/// Why frames could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// A number of queues that cannot be.
    #[error("{0} queues, where 1 to {QUEUES_MAX} are possible")]
    Queues(u16),
    /// The device has a program already.
    #[error("the device has an XDP program already")]
    Occupied,
    /// The driver or its settings do not allow the program.
    #[error("no XDP program in {mode} mode: {source}")]
    Program {
        /// The mode that was tried.
        mode: XdpMode,
        /// What the kernel said.
        source: io::Error,
    },
    /// A queue that another AF_XDP socket has.
    #[error("queue {0} has an AF_XDP socket already")]
    QueueOccupied(u16),
    /// The memory of a queue may not be locked.
    #[error("queue {0}: {mib} MiB may not be locked in memory; CAP_IPC_LOCK or a larger RLIMIT_MEMLOCK is needed", mib = socket::UMEM_LEN >> 20)]
    MemoryLimit(u16),
    /// A queue that does not exist, or whose driver cannot do it.
    #[error("no AF_XDP socket on queue {queue} in {mode} mode: {source}")]
    Queue {
        /// The queue.
        queue: u16,
        /// The mode that was tried.
        mode: XdpMode,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The XDP program on a device. Dropping it takes the program off, and the kernel has the frames again.
#[derive(Debug)]
pub struct XdpDevice {
    program: Program,
    mode: XdpMode,
}

/// Both sides of a queue.
pub type XdpQueue = (XdpReceiver, XdpSender);

impl XdpDevice {
    /// Takes the frames of the device `index` of the calling thread's namespace. One queue of the answer for each that was
    /// asked for, in order.
    ///
    /// # Errors
    /// [`XdpError`], of the slowest mode if any would have done; nothing is then left on the device.
    pub fn open(index: IfIndex, options: XdpOptions) -> Result<(XdpDevice, Vec<XdpQueue>), XdpError> {
        if !(1..=QUEUES_MAX).contains(&options.queues) {
            return Err(XdpError::Queues(options.queues));
        }
        let mut outcome = Err(XdpError::Queues(0));
        for mode in XdpMode::FASTEST_FIRST {
            if options.mode.is_none_or(|wanted| wanted == mode) {
                outcome = XdpDevice::open_in(mode, index, options);
                match outcome {
                    Ok(_)
                    | Err(XdpError::Occupied | XdpError::QueueOccupied(_) | XdpError::MemoryLimit(_)) => {
                        break;
                    }
                    Err(_) => {}
                }
            }
        }
        outcome
    }

    fn open_in(
        mode: XdpMode,
        index: IfIndex,
        options: XdpOptions,
    ) -> Result<(XdpDevice, Vec<XdpQueue>), XdpError> {
        let wakeup = if options.use_need_wakeup { Wakeup::IfNeeded } else { Wakeup::Always };
        let because = |queue| {
            move |source: io::Error| match source.raw_os_error() {
                Some(errno::EBUSY) => XdpError::QueueOccupied(queue),
                // Nothing else in the making of a socket gives it.
                Some(errno::ENOBUFS) => XdpError::MemoryLimit(queue),
                _ => XdpError::Queue { queue, mode, source },
            }
        };
        // Before the device is touched, as a program that comes and goes is a change of its features, which the kernel reports.
        let prepared = |queue| prepare(wakeup).map_err(because(queue));
        let unbound: Vec<_> = (0..options.queues).map(prepared).collect::<Result<_, _>>()?;
        let program = Program::attach(index, mode.placement(), options.queues).map_err(|source| {
            match source.raw_os_error() {
                // The latter if it is there in the other placement.
                Some(errno::EBUSY | errno::EEXIST) => XdpError::Occupied,
                _ => XdpError::Program { mode, source },
            }
        })?;
        let bind = |(unbound, queue): (Unbound, u16)| {
            let (receiver, sender) = unbound.bind(index, queue, mode).map_err(because(queue))?;
            program.redirect(queue, receiver.socket()).map_err(because(queue))?;
            Ok((receiver, sender))
        };
        let queues = unbound.into_iter().zip(0..).map(bind).collect::<Result<_, _>>()?;
        Ok((XdpDevice { program, mode }, queues))
    }

    /// The mode that is in use.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Whether the program is still on its device. It is not once the device has gone, or has moved to another namespace.
    ///
    /// # Errors
    /// None that a correct kernel gives.
    pub fn is_attached(&self) -> io::Result<bool> {
        self.program.is_attached()
    }
}

#[cfg(test)]
mod tests;
