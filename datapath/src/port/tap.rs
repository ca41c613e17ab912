//! TAP ports: the netdev lives in a pod (or on the host), its wire ends here.
//!
//! Frames are read straight into pool buffers behind a virtio-net header. Partial checksums and super-frames of up to 64 KB go
//! through untouched from TAP to TAP: whoever receives them in the end does the work, or nobody has to.
//!
//! A device with several queues has a receiving side for each, and the kernel chooses one for each frame by a hash that is the
//! same for both directions of a flow. Unless the other direction was written to one of these queues: it would then choose that
//! one, and frames of a flow that moves would overtake each other. So what goes out is written to other queues, which are
//! detached. Further ones are kept for when more are wanted: a queue can be attached when the device is in another namespace,
//! while one opened there would keep that namespace alive.
//!
//! The device is made in the namespace of the opening thread and moved from there: then it dies with the pod's namespace,
//! instead of keeping it alive.

use super::batching::{Demand, Outbox, Waiting, keep_filled};
use super::device::{self, Key, Viewpoint};
use super::ring::LazyRing;
use super::{
    DeviceChange, LinkReport, Losses, Port, PortConfigError, PortError, Rx, RxLoss, Tx, TxLost, vnet,
};
use crate::cost;
use crate::drop::Drop;
use packet::{Batch, Frame, FramePool, Segmentation};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use sys::IfName;
use sys::io_ring::REQUESTS_MAX as IO_REQUESTS_MAX;
use sys::netlink::{AdminState, LinkChange, Netlink};
use sys::netns::{Netns, run_in};
use sys::tap::{self, TapAttachment, TapError, TapLifetime, TapOpen, TapQueue, TapQueues};
use sys::vnet::{TAP_HEADER_LENGTH, VnetHeader};

/// Receiving queues that a device which may have several can have without opening more.
const QUEUES_RESERVED: usize = 8;
/// Queues that such a device has for sending, for workers in turn.
const SENDERS: usize = 4;

/// How a TAP port is to be opened.
#[derive(Debug)]
pub struct TapConfig<'a> {
    /// Name of the netdev.
    pub name: IfName,
    /// Queues, each with a receiving side; 1 to [`tap::QUEUES_MAX`]. A device that is there and has room for one gets one.
    pub queues: usize,
    /// Whether a new device has room for more than one queue. Costs the kernel some memory for each queue there could be.
    pub is_multi_queue: bool,
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
    /// Whether to move several frames with one system call, by io_uring, if the kernel has it.
    pub io_uring: bool,
}

impl TapConfig<'_> {
    /// A persistent device with one queue in this namespace, attached to if it exists, left off if it is new.
    pub const fn new(name: IfName) -> Self {
        TapConfig {
            name,
            queues: 1,
            is_multi_queue: false,
            open: TapOpen::AttachOrCreate,
            lifetime: TapLifetime::Persistent,
            netns: None,
            mac: None,
            mtu: None,
            alias: None,
            admin: None,
            io_uring: true,
        }
    }
}

/// A TAP port.
#[derive(Debug)]
pub struct TapPort {
    first: Arc<TapQueue>,
    others: Vec<Arc<TapQueue>>,
    /// Detached queues: those to send by, none if there is only the first, and those for later.
    senders: Vec<Arc<TapQueue>>,
    reserve: Vec<Arc<TapQueue>>,
    senders_given: usize,
    /// Of all queues that there have been.
    losses: Vec<Arc<RxLoss>>,
    rx_taken: bool,
    io_uring: bool,
}

impl TapPort {
    /// Opens the device, changes it as wanted and moves it where it belongs. One that is in its namespace already (left there
    /// by an earlier run) is attached to there; [`TapOpen::Attach`] takes none from anywhere else.
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
                    Err(TapError::Missing { .. }) if config.open != TapOpen::Attach => Ok(None),
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
        let Opened { first, others, senders, reserve } = queues;
        let shared = |queues: Vec<TapQueue>| queues.into_iter().map(Arc::new).collect();
        let port = TapPort {
            losses: (0..=others.len()).map(|_| Arc::default()).collect(),
            first: Arc::new(first),
            others: shared(others),
            senders: shared(senders),
            reserve: shared(reserve),
            senders_given: 0,
            rx_taken: false,
            io_uring: config.io_uring,
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

    fn new_rx(&self, queue: &Arc<TapQueue>, loss: &Arc<RxLoss>) -> Box<dyn Rx> {
        Box::new(TapRx::new(queue.clone(), loss.clone(), self.io_uring))
    }

    /// Attaches one more queue.
    fn add_queue(&mut self) -> Result<(), PortConfigError> {
        let queue = match self.reserve.pop() {
            Some(queue) => {
                if let Err(error) = queue.set_attachment(TapAttachment::Attached) {
                    self.reserve.push(queue);
                    return Err(error.into());
                }
                queue
            }
            None => {
                let first = &self.first;
                Arc::new(run_in(&first.netns()?, || first.open_another())??)
            }
        };
        self.others.push(queue);
        if self.losses.len() <= self.others.len() {
            self.losses.push(Arc::default());
        }
        Ok(())
    }

    /// Detaches the last queue, if it is not the only one.
    fn remove_queue(&mut self) -> Result<(), PortConfigError> {
        if let Some(queue) = self.others.pop() {
            if let Err(error) = queue.set_attachment(TapAttachment::Detached) {
                self.others.push(queue);
                return Err(error.into());
            }
            self.reserve.push(queue);
        }
        Ok(())
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

/// The queues of a device.
struct Opened {
    first: TapQueue,
    /// The others that were asked for.
    others: Vec<TapQueue>,
    /// Detached.
    senders: Vec<TapQueue>,
    /// Detached.
    reserve: Vec<TapQueue>,
}

fn open_queues(config: &TapConfig<'_>, how: TapOpen) -> Result<Opened, TapError> {
    let is_multi_queue = config.is_multi_queue || config.queues > 1;
    let (wanted, other) = match is_multi_queue {
        true => (TapQueues::Multiple, TapQueues::Single),
        false => (TapQueues::Single, TapQueues::Multiple),
    };
    let first = match TapQueue::open(&config.name, wanted, how) {
        // One that is there already is what it was made as.
        Err(error @ TapError::Mismatch { .. }) if how != TapOpen::CreateNew => {
            TapQueue::open(&config.name, other, TapOpen::Attach).map_err(|second| match second {
                TapError::Mismatch { .. } | TapError::Missing { .. } => error,
                other => other,
            })?
        }
        opened => opened?,
    };
    let mut opened = Opened { first, others: Vec::new(), senders: Vec::new(), reserve: Vec::new() };
    if opened.first.queues() == TapQueues::Multiple {
        for _ in 0..SENDERS {
            opened.senders.push(open_detached(&opened.first)?);
        }
        for _ in config.queues..QUEUES_RESERVED {
            opened.reserve.push(open_detached(&opened.first)?);
        }
        for _ in 1..config.queues {
            opened.others.push(opened.first.open_another()?);
        }
    }
    Ok(opened)
}

fn open_detached(first: &TapQueue) -> Result<TapQueue, TapError> {
    let queue = first.open_another()?;
    queue.set_attachment(TapAttachment::Detached)?;
    Ok(queue)
}

impl Port for TapPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        if std::mem::replace(&mut self.rx_taken, true) {
            return Vec::new();
        }
        self.queues().zip(&self.losses).map(|(queue, loss)| self.new_rx(queue, loss)).collect()
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        let turn = self.senders_given % self.senders.len().max(1);
        self.senders_given += 1;
        let queue = self.senders.get(turn).unwrap_or(&self.first).clone();
        Ok(Box::new(TapTx::new(queue, self.io_uring)))
    }

    fn rx_count(&self) -> usize {
        1 + self.others.len()
    }

    fn set_rx_count(&mut self, count: usize) -> Result<Vec<Box<dyn Rx>>, PortConfigError> {
        let before = self.rx_count();
        if count > 1 && self.first.queues() == TapQueues::Single {
            return Err(PortConfigError::OneQueue(self.first.name().to_string()));
        }
        while self.rx_count() < count {
            if let Err(error) = self.add_queue() {
                while self.rx_count() > before {
                    self.remove_queue()?;
                }
                return Err(error);
            }
        }
        while self.rx_count() > count.max(1) {
            self.remove_queue()?;
        }
        Ok(self
            .queues()
            .zip(&self.losses)
            .skip(before)
            .map(|(queue, loss)| self.new_rx(queue, loss))
            .collect())
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

/// Frames that are read one at a time before it shows that there are more than few.
const GLANCES_MAX: usize = 2;

struct TapRx {
    queue: Arc<TapQueue>,
    loss: Arc<RxLoss>,
    ring: LazyRing,
    demand: Demand,
    /// Glances in a row, the last ones, that found a frame each.
    glances: usize,
    /// Frames that are being received into.
    taken: Vec<Frame>,
}

impl TapRx {
    fn new(queue: Arc<TapQueue>, loss: Arc<RxLoss>, io_uring: bool) -> Self {
        TapRx {
            queue,
            loss,
            ring: LazyRing::new(io_uring),
            demand: Demand::new(),
            glances: 0,
            taken: Vec::with_capacity(Batch::MAX),
        }
    }

    /// Puts a frame that was read, `count` bytes with its header, into the batch.
    fn keep(&mut self, mut frame: Frame, count: usize, pool: &mut FramePool, out: &mut Batch) {
        let len = count.saturating_sub(TAP_HEADER_LENGTH);
        // The kernel cuts what does not fit, and does not say so.
        if len >= frame.room_mut().len() {
            self.loss.too_long.add(1);
            return pool.give(frame);
        }
        if frame.set_len(len).is_ok() {
            let header = VnetHeader::decode(frame.front(TAP_HEADER_LENGTH), len);
            vnet::apply(&mut frame, header);
        }
        if let Err(frame) = out.push(frame) {
            pool.give(frame);
        }
    }

    /// One frame by an ordinary read. Whether there was one.
    fn recv_one(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<bool, PortError> {
        let mut frame = pool.take();
        loop {
            match self.queue.recv(frame.room_behind_mut(TAP_HEADER_LENGTH)) {
                Ok(count) => {
                    self.keep(frame, count, pool, out);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    pool.give(frame);
                    self.demand.set_drained(true);
                    let is_empty = error.kind() == io::ErrorKind::WouldBlock;
                    return if is_empty { Ok(false) } else { Err(port_error(error)) };
                }
            }
        }
    }

    /// One frame a system call, until there are no more.
    fn recv_single(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        let (mut found, wanted) = (0, out.room());
        while !out.is_full() && self.recv_one(pool, out)? {
            found += 1;
        }
        self.demand.learn(found, wanted);
        Ok(())
    }

    /// As many frames with one system call as are to be expected. `None` if the ring cannot.
    fn recv_many(&mut self, pool: &mut FramePool, out: &mut Batch) -> Option<Result<(), PortError>> {
        let ring = self.ring.of(&self.queue)?;
        let wanted = self.demand.wanted(out.room());
        self.taken.extend((0..wanted).map(|_| pool.take()));
        let mut taken = std::mem::take(&mut self.taken);
        let results = ring.read(taken.iter_mut().map(|f| f.room_behind_mut(TAP_HEADER_LENGTH)));
        let mut counts = [None; IO_REQUESTS_MAX];
        let mut failure = None;
        match results {
            Ok(results) => {
                for (count, result) in counts.iter_mut().zip(results) {
                    match result {
                        Ok(read) => *count = Some(read),
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        Err(e) => failure = Some(e),
                    }
                }
            }
            Err(error) => failure = Some(error),
        }
        let found = keep_filled(&mut taken, &mut counts, pool);
        for (frame, count) in taken.drain(..).zip(counts.into_iter().flatten()) {
            self.keep(frame, count, pool, out);
        }
        self.taken = taken;
        self.demand.learn(found, wanted);
        match failure {
            None => Some(Ok(())),
            Some(error) if tap::is_gone(&error) => Some(Err(PortError::Gone)),
            // What the ring cannot do, an ordinary read may.
            Some(_) => {
                self.ring.give_up();
                None
            }
        }
    }
}

impl Rx for TapRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        // Where there are few frames, a ring costs them more than it spares, most of all if it is asked in vain. Whether there
        // are more is found out when this one is on its way.
        if self.demand.is_low() && self.glances < GLANCES_MAX {
            self.demand.set_drained(false);
            self.glances = if self.recv_one(pool, out)? { self.glances + 1 } else { 0 };
            return Ok(());
        }
        self.glances = 0;
        match self.recv_many(pool, out) {
            Some(result) => result,
            None => self.recv_single(pool, out),
        }
    }

    fn is_drained(&self) -> bool {
        self.demand.is_drained()
    }

    fn frame_price(&self) -> u32 {
        cost::KERNEL_FRAME
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    // Reads are over when the call that made them returns, so the ring has nothing in it.
    fn leave_thread(&mut self) {
        self.ring.leave_thread();
    }
}

struct TapTx {
    queue: Arc<TapQueue>,
    ring: LazyRing,
    outbox: Outbox,
    losses: Losses,
    failed: Option<PortError>,
}

impl TapTx {
    fn new(queue: Arc<TapQueue>, io_uring: bool) -> Self {
        TapTx {
            queue,
            ring: LazyRing::new(io_uring),
            outbox: Outbox::new(),
            losses: Losses::default(),
            failed: None,
        }
    }

    fn write_out(&mut self, pool: &mut FramePool) {
        self.outbox.put_headers(VnetHeader::encode, &mut self.losses);
        let all = self.outbox.take();
        let mut written = 0;
        if all.len() > 1
            && let Some(ring) = self.ring.of(&self.queue)
        {
            let mut failures = [const { None }; IO_REQUESTS_MAX];
            match ring.write(all.iter().map(|waiting| waiting.frame.bytes())) {
                Ok(results) => {
                    written = all.len();
                    failures.iter_mut().zip(results).for_each(|(f, result)| *f = result.err());
                }
                // None was written, nor will any be this way: before Linux 6.4 a TAP is not for rings.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => self.ring.give_up(),
                // Some may have been written: sending them twice would be worse than losing them.
                Err(_) => {
                    self.ring.give_up();
                    written = all.len();
                    failures = std::array::from_fn(|_| Some(io::ErrorKind::Other.into()));
                }
            }
            for (waiting, failure) in all.iter().zip(failures) {
                if let Some(error) = failure {
                    self.lose(waiting, &error);
                }
            }
        }
        for waiting in all.iter().skip(written) {
            if let Err(error) = self.queue.send(&[IoSlice::new(waiting.frame.bytes())]) {
                self.lose(waiting, &error);
            }
        }
        self.outbox.put_back(all, pool);
    }

    /// Notes that a frame, behind its header, was not written.
    #[cold]
    fn lose(&mut self, waiting: &Waiting, error: &io::Error) {
        let reason = if tap::is_gone(error) {
            self.failed = Some(PortError::Gone);
            Drop::NoPort
        } else if error.raw_os_error() == Some(sys::errno::EIO) {
            // What a TAP says that is down.
            Drop::TxDown
        } else {
            super::reason_of(error)
        };
        let bytes = waiting.frame.len().saturating_sub(TAP_HEADER_LENGTH) as u64;
        self.losses.add(reason, waiting.frames(), bytes);
    }
}

impl Tx for TapTx {
    fn send(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        if frame.segmentation != Segmentation::None
            && let Err(reason) = vnet::describe(&frame)
        {
            return Err((frame, reason));
        }
        self.outbox.add_or_join(frame, pool);
        if self.outbox.is_full() {
            self.write_out(pool);
        }
        Ok(())
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        if !self.outbox.is_empty() {
            self.write_out(pool);
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn take_lost(&mut self) -> Option<TxLost> {
        self.losses.take()
    }
}
