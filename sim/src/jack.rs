//! The switch's side of a wire: a port in memory. Production workers hold its [`Rx`] and [`Tx`]; the world fills its inlet
//! and empties its outlet.
//!
//! Unlike `datapath`'s dummy port it tells the [oracle](crate::oracle) of every frame that a worker takes or sends, and it
//! can fail on demand: go down, vanish in the middle of a batch, run out of room, take frames in batches of any size.

use crate::dice::Dice;
use crate::oracle::Oracle;
use datapath::{Drop, PortError, Rx, Tx};
use packet::{Batch, DpPort, Frame, FramePool};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Frames that wait at a port for a worker, unless told otherwise.
pub const INLET_MAX: usize = 4_096;
/// Frames that a port takes between two turns of the world, unless told otherwise.
pub const OUTLET_MAX: usize = 65_536;

/// What is done when the next batch has left the wire but not yet reached the worker.
pub(crate) type OnReceive = Box<dyn FnOnce() + Send>;

/// State of a port's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    Up,
    Down,
    Gone,
}

pub(crate) struct JackState {
    pub inlet: VecDeque<Vec<u8>>,
    pub outlet: VecDeque<Vec<u8>>,
    pub outlet_max: usize,
    pub device: Device,
    /// Vanishes while so many more frames have been sent to it.
    pub vanish_after: Option<u64>,
    pub on_receive: Option<OnReceive>,
    /// Largest packet it takes, in bytes without the Ethernet header and VLAN tags.
    pub mtu: usize,
    /// Frames that workers took.
    pub received: u64,
    /// Frames that it took from workers.
    pub sent: u64,
    dice: Dice,
}

/// A port. Clones are the same port.
#[derive(Clone)]
pub(crate) struct Jack {
    pub port: DpPort,
    state: Arc<Mutex<JackState>>,
    oracle: Oracle,
}

impl Jack {
    pub fn new(port: DpPort, mtu: usize, dice: Dice, oracle: Oracle) -> Jack {
        let state = JackState {
            inlet: VecDeque::new(),
            outlet: VecDeque::new(),
            outlet_max: OUTLET_MAX,
            device: Device::Up,
            vanish_after: None,
            on_receive: None,
            mtu,
            received: 0,
            sent: 0,
            dice,
        };
        Jack { port, state: Arc::new(Mutex::new(state)), oracle }
    }

    pub fn lock(&self) -> MutexGuard<'_, JackState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rx(&self) -> Box<dyn Rx> {
        Box::new(JackRx(self.clone()))
    }

    pub fn tx(&self, worker: usize) -> Box<dyn Tx> {
        self.oracle.attach(worker, self.port);
        Box::new(JackTx { jack: self.clone(), worker, reported: false })
    }

    fn refusal(&self, state: &mut JackState, bytes: &[u8]) -> Option<Drop> {
        if let Some(left) = &mut state.vanish_after {
            if *left == 0 {
                state.device = Device::Gone;
            }
            *left = left.saturating_sub(1);
        }
        match state.device {
            Device::Gone => return Some(Drop::NoPort),
            Device::Down => return Some(Drop::TxDown),
            Device::Up => {}
        }
        if bytes.len() > state.mtu + 14 + 8 {
            return Some(Drop::TxTooBig);
        }
        (state.outlet.len() >= state.outlet_max).then_some(Drop::TxFull)
    }
}

struct JackRx(Jack);

impl Rx for JackRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        let mut state = self.0.lock();
        // The batch before is judged first: by the snapshot that it was handled under.
        self.0.oracle.batch_begins(self.0.port);
        if let Some(hook) = state.on_receive.take() {
            hook();
        }
        match state.device {
            Device::Gone => return Err(PortError::Gone),
            Device::Down => return Err(PortError::Down),
            Device::Up => {}
        }
        // A device gives what it has, which may be one frame or a full batch.
        let most = match state.dice.one_in(4) {
            true => 1 + state.dice.below(Batch::MAX as u64) as usize,
            false => Batch::MAX,
        };
        for _ in 0..most.min(out.room()) {
            let Some(bytes) = state.inlet.pop_front() else { break };
            let mut frame = pool.take();
            if frame.append(&bytes).is_err() {
                pool.give(frame);
                frame = Frame::from_bytes(&bytes);
            }
            state.received += 1;
            self.0.oracle.received(self.0.port, bytes);
            if let Err(frame) = out.push(frame) {
                pool.give(frame);
            }
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct JackTx {
    jack: Jack,
    worker: usize,
    /// Whether the worker has been told that the device is gone.
    reported: bool,
}

impl Tx for JackTx {
    fn send(&mut self, mut frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        frame.complete_checksum();
        let mut state = self.jack.lock();
        let refusal = self.jack.refusal(&mut state, frame.bytes());
        self.jack.oracle.sent(self.jack.port, frame.bytes());
        if let Some(reason) = refusal {
            return Err((frame, reason));
        }
        state.sent += 1;
        state.outlet.push_back(frame.bytes().to_vec());
        pool.give(frame);
        Ok(())
    }

    fn flush(&mut self, _: &mut FramePool) -> Result<(), PortError> {
        match self.jack.lock().device {
            Device::Gone if !std::mem::replace(&mut self.reported, true) => Err(PortError::Gone),
            Device::Down => Err(PortError::Down),
            _ => Ok(()),
        }
    }
}

impl std::ops::Drop for JackTx {
    fn drop(&mut self) {
        self.jack.oracle.detach(self.worker, self.jack.port);
    }
}
