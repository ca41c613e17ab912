//! In-memory ports (`type=dummy`): a pair of bounded queues instead of a device. Tests, the simulator and
//! `netdev-dummy/receive` put frames in and take them out at the other end, from the same or another thread.
//!
//! Frames pass with all they know of themselves (partial checksums, segmentation), and no bytes are copied.

use super::{DeviceChange, LinkReport, Port, PortConfigError, PortError, Rx, RxLoss, Tx};
use crate::drop::Drop;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use packet::{Batch, Frame, FramePool};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use sys::poll::Doorbell;

/// Frames that wait in each direction unless the port is told otherwise.
pub const QUEUE_LEN_DEFAULT: usize = 1024;
/// The most frames that may be told to wait in each direction.
pub const QUEUE_LEN_MAX: usize = 1 << 16;
/// MTU of a port that has not been given one, in bytes without the Ethernet header.
const MTU_DEFAULT: u32 = 1500;

/// An in-memory port.
#[derive(Debug)]
pub struct DummyPort {
    report: LinkReport,
    incoming: Receiver<Frame>,
    outgoing: Sender<Frame>,
    doorbell: Option<Doorbell>,
    loss: Arc<RxLoss>,
    rx_taken: bool,
}

/// The other end of a [`DummyPort`]: the wire that one holds in one's hands.
#[derive(Debug)]
pub struct DummyEnd {
    into_port: Sender<Frame>,
    out_of_port: Receiver<Frame>,
    doorbell: Option<Doorbell>,
    loss: Arc<RxLoss>,
}

impl DummyPort {
    /// A port and its other end, with room for `queue_len` frames (1 to [`QUEUE_LEN_MAX`]) in each direction. It has no
    /// descriptor to poll: for a worker that runs in the same thread as who injects.
    pub fn new(name: &str, queue_len: usize) -> (DummyPort, DummyEnd) {
        Self::build(name, queue_len, None)
    }

    /// The same with a descriptor, for a worker that sleeps until a frame is injected.
    ///
    /// # Errors
    /// When out of file descriptors.
    pub fn pollable(name: &str, queue_len: usize) -> io::Result<(DummyPort, DummyEnd)> {
        Ok(Self::build(name, queue_len, Some(Doorbell::new()?)))
    }

    fn build(name: &str, queue_len: usize, doorbell: Option<Doorbell>) -> (DummyPort, DummyEnd) {
        let queue_len = queue_len.clamp(1, QUEUE_LEN_MAX);
        let (into_port, incoming) = bounded(queue_len);
        let (outgoing, out_of_port) = bounded(queue_len);
        let report = LinkReport {
            name: name.to_owned(),
            mtu: Some(MTU_DEFAULT),
            admin_up: true,
            carrier: true,
            driver: "dummy".to_owned(),
            ..LinkReport::default()
        };
        let loss = Arc::<RxLoss>::default();
        let port = DummyPort {
            report,
            incoming,
            outgoing,
            doorbell: doorbell.clone(),
            loss: loss.clone(),
            rx_taken: false,
        };
        (port, DummyEnd { into_port, out_of_port, doorbell, loss })
    }
}

impl DummyEnd {
    /// Puts a frame into the port, to be received.
    ///
    /// # Errors
    /// The frame if the queue is full (counted as lost) or the port is gone.
    pub fn inject(&mut self, frame: Frame) -> Result<(), Frame> {
        match self.into_port.try_send(frame) {
            Ok(()) => {
                if let Some(doorbell) = &self.doorbell {
                    doorbell.ring();
                }
                Ok(())
            }
            Err(TrySendError::Full(frame)) => {
                self.loss.overflow.add(1);
                Err(frame)
            }
            Err(TrySendError::Disconnected(frame)) => Err(frame),
        }
    }

    /// Takes the next frame that was sent by the port.
    pub fn collect(&mut self) -> Option<Frame> {
        self.out_of_port.try_recv().ok()
    }

    /// Frames that wait to be collected.
    pub fn waiting(&self) -> usize {
        self.out_of_port.len()
    }

    /// Frames injected that the port has not yet received.
    pub fn backlog(&self) -> usize {
        self.into_port.len()
    }
}

impl Port for DummyPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        if std::mem::replace(&mut self.rx_taken, true) {
            return Vec::new();
        }
        vec![Box::new(DummyRx { incoming: self.incoming.clone(), doorbell: self.doorbell.clone() })]
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        Ok(Box::new(DummyTx { outgoing: self.outgoing.clone(), gone: false }))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        Ok(self.report.clone())
    }

    fn change(&mut self, change: DeviceChange) -> Result<(), PortConfigError> {
        match change {
            DeviceChange::Admin { up } => self.report.admin_up = up,
            DeviceChange::Mtu(mtu) => self.report.mtu = Some(mtu),
            DeviceChange::Mac(mac) => self.report.mac = Some(mac),
            DeviceChange::Alias(_) => return Err(PortConfigError::Unsupported("alias")),
        }
        Ok(())
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        vec![self.loss.clone()]
    }

    fn discard(&mut self) -> Result<(), PortError> {
        Ok(())
    }
}

struct DummyRx {
    incoming: Receiver<Frame>,
    doorbell: Option<Doorbell>,
}

impl Rx for DummyRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        if let Some(doorbell) = &self.doorbell {
            doorbell.silence()?;
        }
        while !out.is_full() {
            match self.incoming.try_recv() {
                Ok(frame) => {
                    if let Err(frame) = out.push(frame) {
                        pool.give(frame);
                    }
                }
                Err(TryRecvError::Empty) => return Ok(()),
                // Nobody holds the other end any more: the wire is cut.
                Err(TryRecvError::Disconnected) => return Err(PortError::Gone),
            }
        }
        match &self.doorbell {
            Some(doorbell) if !self.incoming.is_empty() => doorbell.ring(),
            _ => {}
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.doorbell.as_ref().map(AsFd::as_fd)
    }
}

struct DummyTx {
    outgoing: Sender<Frame>,
    gone: bool,
}

impl Tx for DummyTx {
    fn send(&mut self, frame: Frame, _: &mut FramePool) -> Result<(), (Frame, Drop)> {
        self.outgoing.try_send(frame).map_err(|error| match error {
            TrySendError::Full(frame) => (frame, Drop::TxFull),
            TrySendError::Disconnected(frame) => {
                self.gone = true;
                (frame, Drop::NoPort)
            }
        })
    }

    fn flush(&mut self, _: &mut FramePool) -> Result<(), PortError> {
        if std::mem::take(&mut self.gone) { Err(PortError::Gone) } else { Ok(()) }
    }
}

// A frame sent away takes its buffer with it, so that a test which puts back what it collects keeps the pool whole.

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{Checksum, Segmentation};
    use std::time::Duration;
    use sys::poll::{Interest, PollToken, Poller};

    fn drain(rx: &mut dyn Rx, pool: &mut FramePool) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        rx.recv(pool, &mut batch).unwrap();
        batch.drain().map(|frame| frame.bytes().to_vec()).collect()
    }

    #[test]
    fn frames_pass_both_ways_with_all_they_know() {
        let (mut port, mut end) = DummyPort::new("p1", QUEUE_LEN_DEFAULT);
        let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
        assert!(port.take_rx().is_empty());
        let mut pool = FramePool::new(4);
        let mut sent = Frame::from_bytes(&[7; 60]);
        sent.checksum = Checksum::Partial { start: 34, offset: 16 };
        sent.segmentation = Segmentation::TcpV4 { size: 10, ecn: false };
        end.inject(sent).unwrap();
        let mut batch = Batch::new();
        rx.recv(&mut pool, &mut batch).unwrap();
        let frame = batch.drain().next().unwrap();
        assert_eq!(frame.segmentation, Segmentation::TcpV4 { size: 10, ecn: false });
        tx.send(frame, &mut pool).unwrap();
        tx.flush(&mut pool).unwrap();
        let frame = end.collect().unwrap();
        assert_eq!(frame.checksum, Checksum::Partial { start: 34, offset: 16 });
        assert_eq!(frame.bytes(), [7; 60]);
        assert!(end.collect().is_none());
    }

    #[test]
    fn queues_are_bounded_and_losses_counted() {
        let (mut port, mut end) = DummyPort::new("p1", 2);
        let mut pool = FramePool::new(4);
        for i in 0..2 {
            end.inject(Frame::from_bytes(&[i; 60])).unwrap();
        }
        assert_eq!(end.inject(Frame::from_bytes(&[2; 60])).unwrap_err().bytes(), [2; 60]);
        assert_eq!(port.losses()[0].overflow.get(), 1);
        let mut tx = port.new_tx().unwrap();
        for _ in 0..2 {
            tx.send(Frame::from_bytes(&[1; 60]), &mut pool).unwrap();
        }
        let (frame, reason) = tx.send(Frame::from_bytes(&[9; 60]), &mut pool).unwrap_err();
        assert_eq!((frame.bytes(), reason), (&[9; 60][..], Drop::TxFull));
        assert_eq!((end.waiting(), end.backlog()), (2, 2));
    }

    #[test]
    fn cut_wire_is_a_port_that_is_gone() {
        let (mut port, end) = DummyPort::new("p1", 2);
        let mut pool = FramePool::new(4);
        let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
        drop(end);
        assert!(matches!(rx.recv(&mut pool, &mut Batch::new()), Err(PortError::Gone)));
        assert_eq!(tx.send(Frame::from_bytes(&[1; 60]), &mut pool).unwrap_err().1, Drop::NoPort);
        assert!(matches!(tx.flush(&mut pool), Err(PortError::Gone)));
    }

    #[test]
    fn sleeper_is_woken_and_not_forgotten_after_a_full_batch() {
        let (mut port, mut end) = DummyPort::pollable("p1", 100).unwrap();
        let mut rx = port.take_rx().pop().unwrap();
        let mut pool = FramePool::new(4);
        let mut poller = Poller::new().unwrap();
        poller.add(rx.poll_fd().unwrap(), PollToken(1), Interest::Read).unwrap();
        let mut events = Vec::new();
        let count = Batch::MAX + 3;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..count {
                    end.inject(Frame::from_bytes(&[i as u8; 60])).unwrap();
                }
            });
            let mut got = Vec::new();
            while got.len() < count {
                poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
                assert!(!events.is_empty(), "not woken; {} frames so far", got.len());
                got.extend(drain(&mut *rx, &mut pool));
            }
            assert!(got.iter().enumerate().all(|(i, bytes)| bytes[0] == i as u8));
        });
        poller.wait(Some(Duration::ZERO), &mut events).unwrap();
        assert_eq!(events, []);
    }

    #[test]
    fn link_shows_what_was_changed() {
        let (mut port, _end) = DummyPort::new("p1", 2);
        assert!(port.link().unwrap().admin_up);
        port.change(DeviceChange::Admin { up: false }).unwrap();
        port.change(DeviceChange::Mtu(9000)).unwrap();
        port.change(DeviceChange::Mac([2; 6])).unwrap();
        let report = port.link().unwrap();
        assert_eq!((report.name.as_str(), report.admin_up), ("p1", false));
        assert_eq!((report.mtu, report.mac), (Some(9000), Some([2; 6])));
    }
}
