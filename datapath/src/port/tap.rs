//! TAP ports: the netdev lives in a pod (or on the host), its wire ends here.
//!
//! Frames are read straight into pool buffers behind a virtio-net header. Partial checksums and super-frames of up to 64 KB go
//! through untouched from TAP to TAP: whoever receives them in the end does the work, or nobody has to.
//!
//! The device is made in the namespace of the opening thread and moved from there: then it dies with the pod's namespace,
//! instead of keeping it alive.

use super::device::{self, Key, Viewpoint};
use super::{DeviceChange, LinkReport, Port, PortConfigError, PortError, Rx, RxLoss, Tx, vnet};
use crate::drop::Drop;
use packet::{Batch, Frame, FramePool};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use sys::IfName;
use sys::netlink::{AdminState, LinkChange, Netlink};
use sys::netns::{Netns, run_in};
use sys::tap::{self, TapError, TapLifetime, TapOpen, TapQueue, TapQueues};
use sys::vnet::{TAP_HEADER_LENGTH, VnetHeader};

/// How a TAP port is to be opened.
#[derive(Debug)]
pub struct TapConfig<'a> {
    /// Name of the netdev.
    pub name: IfName,
    /// Queues, each with a receiving side; 1 to [`tap::QUEUES_MAX`].
    pub queues: usize,
    /// Whether it must or must not exist.
    pub open: TapOpen,
    /// Whether it outlives this process.
    pub lifetime: TapLifetime,
    /// The namespace it is to be in; `None` for that of the calling thread.
    pub netns: Option<&'a Netns>,
    /// MAC address to give it.
    pub mac: Option<[u8; 6]>,
    /// MTU to give it, in bytes without the Ethernet header.
    pub mtu: Option<u32>,
    /// A text to put on it, by which it is known again after having been moved or renamed.
    pub alias: Option<&'a str>,
    /// Whether to switch it on or off; `None` leaves it as it is, which is off for a new one.
    pub admin: Option<AdminState>,
}

impl TapConfig<'_> {
    /// A persistent device with one queue in this namespace, attached to if it exists, left off if it is new.
    pub const fn new(name: IfName) -> Self {
        TapConfig {
            name,
            queues: 1,
            open: TapOpen::AttachOrCreate,
            lifetime: TapLifetime::Persistent,
            netns: None,
            mac: None,
            mtu: None,
            alias: None,
            admin: None,
        }
    }
}

/// A TAP port.
#[derive(Debug)]
pub struct TapPort {
    first: Arc<TapQueue>,
    others: Vec<Arc<TapQueue>>,
    losses: Vec<Arc<RxLoss>>,
    rx_taken: bool,
    senders: usize,
}

impl TapPort {
    /// Opens the device, changes it as wanted and moves it where it belongs. One that is in its namespace already (left there
    /// by an earlier run) is attached to there.
    ///
    /// # Errors
    /// [`PortConfigError`]; a device made for this is gone again.
    pub fn open(config: &TapConfig<'_>) -> Result<TapPort, PortConfigError> {
        let elsewhere = match config.netns {
            Some(netns) if *netns != Netns::current()? => Some(netns),
            _ => None,
        };
        let attached = match elsewhere {
            Some(netns) if config.open != TapOpen::CreateNew => {
                run_in(netns, || match open_queues(config, TapOpen::Attach) {
                    Err(TapError::Missing { .. }) => Ok(None),
                    opened => opened.map(Some),
                })??
            }
            _ => None,
        };
        let (queues, moving) = match (attached, elsewhere) {
            (Some(queues), _) => (queues, None),
            (None, None) => (open_queues(config, config.open)?, None),
            (None, Some(netns)) => (open_queues(config, config.open)?, Some(netns)),
        };
        let (first, others) = queues;
        let port = TapPort {
            losses: (0..=others.len()).map(|_| Arc::default()).collect(),
            first: Arc::new(first),
            others: others.into_iter().map(Arc::new).collect(),
            rx_taken: false,
            senders: 0,
        };
        port.set_up(config, moving)?;
        port.first.set_lifetime(config.lifetime)?;
        Ok(port)
    }

    fn set_up(&self, config: &TapConfig<'_>, moving: Option<&Netns>) -> Result<(), PortConfigError> {
        let mut change = LinkChange::default();
        change = config.mac.map_or(change, |mac| LinkChange::default().mac(mac));
        if let Some(mtu) = config.mtu {
            change = change.mtu(mtu);
        }
        if let Some(alias) = config.alias {
            change = change.alias(alias);
        }
        if let Some(admin) = config.admin {
            change = change.admin(admin);
        }
        if let Some(netns) = moving {
            change = change.netns(netns);
        }
        let here = self.first.netns()?;
        let name = self.first.current_name()?;
        run_in(&here, || {
            let mut netlink = Netlink::open()?;
            let link = netlink
                .link_by_name(&name)?
                .ok_or_else(|| PortConfigError::NoDevice(config.name.to_string()))?;
            Ok(netlink.change(link.index, &change)?)
        })?
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<TapQueue>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Where the device is and what it is called there.
    fn place(&self) -> Result<(Netns, Key), PortError> {
        let gone = |error| match error {
            TapError::Refused { source, .. } => port_error(source),
            other => PortError::Io(io::Error::other(other)),
        };
        Ok((self.first.netns().map_err(gone)?, Key::Name(self.first.current_name().map_err(gone)?)))
    }
}

/// The first queue, and the others that were asked for.
fn open_queues(config: &TapConfig<'_>, how: TapOpen) -> Result<(TapQueue, Vec<TapQueue>), TapError> {
    let kind = if config.queues > 1 { TapQueues::Multiple } else { TapQueues::Single };
    let first = TapQueue::open(&config.name, kind, how)?;
    let others = (1..config.queues).map(|_| first.open_another()).collect::<Result<_, _>>()?;
    Ok((first, others))
}

impl Port for TapPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        if std::mem::replace(&mut self.rx_taken, true) {
            return Vec::new();
        }
        let side = |(queue, loss): (&Arc<TapQueue>, &Arc<RxLoss>)| -> Box<dyn Rx> {
            Box::new(TapRx { queue: queue.clone(), loss: loss.clone() })
        };
        self.queues().zip(&self.losses).map(side).collect()
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        let queues = self.others.len() + 1;
        let queue = self.queues().nth(self.senders % queues).unwrap_or(&self.first).clone();
        self.senders += 1;
        Ok(Box::new(TapTx { queue, failed: None }))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        let (netns, key) = self.place()?;
        device::report(&netns, key, Viewpoint::Opposite)
    }

    fn change(&mut self, change: DeviceChange) -> Result<(), PortConfigError> {
        let (netns, key) = self.place()?;
        device::change(&netns, key, change)
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        self.losses.clone()
    }

    fn discard(&mut self) -> Result<(), PortError> {
        self.first.set_lifetime(TapLifetime::UntilClosed).map_err(|error| match error {
            TapError::Refused { source, .. } => port_error(source),
            other => PortError::Io(io::Error::other(other)),
        })
    }
}

fn port_error(error: io::Error) -> PortError {
    if tap::is_gone(&error) { PortError::Gone } else { PortError::Io(error) }
}

struct TapRx {
    queue: Arc<TapQueue>,
    loss: Arc<RxLoss>,
}

impl Rx for TapRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        while !out.is_full() {
            let mut frame = pool.take();
            let mut header = [0; TAP_HEADER_LENGTH];
            let room = frame.room_mut();
            let room_len = room.len();
            let read = self.queue.recv_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(room)]);
            let len = match read {
                Ok(count) => count.saturating_sub(TAP_HEADER_LENGTH),
                Err(error) => {
                    pool.give(frame);
                    return match error.kind() {
                        io::ErrorKind::WouldBlock => Ok(()),
                        io::ErrorKind::Interrupted => continue,
                        _ => Err(port_error(error)),
                    };
                }
            };
            // The kernel cuts what does not fit, and does not say so.
            if len >= room_len {
                self.loss.too_long.add(1);
                pool.give(frame);
                continue;
            }
            if frame.set_len(len).is_ok() {
                vnet::apply(&mut frame, VnetHeader::decode(&header, len));
            }
            if let Err(frame) = out.push(frame) {
                pool.give(frame);
            }
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }
}

struct TapTx {
    queue: Arc<TapQueue>,
    failed: Option<PortError>,
}

impl Tx for TapTx {
    fn send(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        let header = match vnet::describe(&frame) {
            Ok(header) => header.encode(),
            Err(reason) => return Err((frame, reason)),
        };
        match self.queue.send(&[IoSlice::new(&header), IoSlice::new(frame.bytes())]) {
            Ok(_) => {
                pool.give(frame);
                Ok(())
            }
            Err(error) => {
                let reason = self.refused(error);
                Err((frame, reason))
            }
        }
    }

    fn flush(&mut self, _: &mut FramePool) -> Result<(), PortError> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

impl TapTx {
    #[cold]
    fn refused(&mut self, error: io::Error) -> Drop {
        if tap::is_gone(&error) {
            self.failed = Some(PortError::Gone);
            return Drop::NoPort;
        }
        super::reason_of(&error)
    }
}
