//! What other threads ask of a worker, and what it tells them: messages over bounded channels, answered at a batch boundary.
//!
//! Order matters to whoever publishes configurations: give every worker its [`Tx`] of a new port and wait for the answers,
//! then publish the snapshot that outputs to it; publish the snapshot without a port first, then take its `Tx` away.

use crate::action::Program;
use crate::budget::MissLimits;
use crate::cache::{CacheLimits, DumpCursor, FlowDump};
use crate::fragments::{FragmentLimits, FragmentStats, HeldDatagram, Incomplete};
use crate::port::{PortError, RxQueue, Tx};
use crate::stats::WorkerStats;
use crossbeam_channel::{Sender, TrySendError};
use flowtable::Mask;
use packet::{DpPort, Frame, PacketKey};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Commands that may wait for a worker.
pub const COMMANDS_MAX: usize = 1_024;
/// Commands that a worker carries out in one step.
pub const COMMANDS_PER_STEP_MAX: usize = 64;
/// Events that may wait for the main thread, as a capacity for the channel the shell makes.
pub const EVENTS_MAX: usize = 1_024;

/// Where the answer to a command goes: a channel with room for it. A worker never waits for somebody to take an answer.
pub type Reply<T> = Sender<T>;

/// Says of the key and the mask of a cached flow whether it is meant.
pub type FlowFilter = Arc<dyn Fn(&PacketKey, &Mask<PacketKey>) -> bool + Send + Sync>;

/// Settings of a worker that can change while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerConfig {
    /// Bounds of the flow cache.
    pub cache: CacheLimits,
    /// Limits of flow set-up a port.
    pub misses: MissLimits,
    /// What reassembly may hold.
    pub fragments: FragmentLimits,
}

/// What a worker's reassembly holds, and has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FragmentDump {
    /// Sums.
    pub stats: FragmentStats,
    /// The incomplete datagrams, no more than the limits allow.
    pub datagrams: Vec<HeldDatagram>,
}

/// Something for a worker to do.
pub enum Command {
    /// Receive from this side of the port from now on. A port may have several.
    AddRx {
        /// The port.
        port: DpPort,
        /// Its receiving side.
        queue: RxQueue,
        /// Told when it is done.
        done: Option<Reply<()>>,
    },
    /// Stop receiving from the port; its cached flows go, what they counted is credited.
    RemoveRx {
        /// The port.
        port: DpPort,
        /// Gets the receiving sides, which may be given to another worker.
        reply: Option<Reply<Vec<RxQueue>>>,
    },
    /// Give back one receiving side of the port, for another worker, and with it the fragments that came by it. Every frame received from it is on its way when the
    /// answer comes, so that whoever receives from it next sends behind them.
    TakeRx {
        /// The port.
        port: DpPort,
        /// Which of its receiving sides; of several with this number the one that came first.
        number: u16,
        /// Gets it; `None` if this worker has no such side.
        reply: Reply<Option<RxQueue>>,
    },
    /// Go on with fragments that came to another worker, by a side that is no more.
    Adopt {
        /// What it held.
        fragments: Incomplete,
    },
    /// Send through this to the port from now on; the sending side it had is dropped.
    AddTx {
        /// The port.
        port: DpPort,
        /// The sending side for this worker.
        tx: Box<dyn Tx>,
        /// Told when it is done.
        done: Option<Reply<()>>,
    },
    /// Send no more to the port.
    RemoveTx {
        /// The port.
        port: DpPort,
        /// Told when it is done.
        done: Option<Reply<()>>,
    },
    /// Remove all cached flows; what they counted is credited.
    Flush {
        /// Gets their number.
        reply: Option<Reply<usize>>,
    },
    /// Remove some cached flows; what they counted is credited.
    RemoveFlows {
        /// Which, by key and mask.
        which: FlowFilter,
        /// Gets their number.
        reply: Option<Reply<usize>>,
    },
    /// Show cached flows.
    DumpFlows {
        /// From here on.
        from: DumpCursor,
        /// Gets at most `DUMP_FLOWS_MAX` of them and where to go on.
        reply: Reply<FlowDump>,
    },
    /// Credit now what cached flows have counted: before rules' statistics are shown.
    Fold {
        /// Told when it is done.
        done: Option<Reply<()>>,
    },
    /// Tell what is held of incomplete datagrams.
    Fragments {
        /// Gets it.
        reply: Reply<FragmentDump>,
    },
    /// Forward a frame as if the port had received it.
    Inject {
        /// The port; need not be one of this worker's.
        port: DpPort,
        /// The frame.
        frame: Frame,
    },
    /// Run a program over a frame: a packet-out.
    Execute {
        /// What counts as the ingress port; `NONE` if there is none.
        in_port: DpPort,
        /// The frame.
        frame: Frame,
        /// The program.
        program: Arc<Program>,
    },
    /// Change the settings.
    Configure(WorkerConfig),
    /// Credit and remove all cached flows, flush all ports, and report `Progress::stopped`.
    Stop,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::AddRx { port, queue, .. } => write!(f, "AddRx({port}, {})", queue.number),
            Command::RemoveRx { port, .. } => write!(f, "RemoveRx({port})"),
            Command::TakeRx { port, number, .. } => write!(f, "TakeRx({port}, {number})"),
            Command::Adopt { .. } => f.write_str("Adopt"),
            Command::AddTx { port, .. } => write!(f, "AddTx({port})"),
            Command::RemoveTx { port, .. } => write!(f, "RemoveTx({port})"),
            Command::RemoveFlows { .. } => f.write_str("RemoveFlows"),
            Command::Flush { .. } => f.write_str("Flush"),
            Command::DumpFlows { from, .. } => write!(f, "DumpFlows({from:?})"),
            Command::Fold { .. } => f.write_str("Fold"),
            Command::Fragments { .. } => f.write_str("Fragments"),
            Command::Inject { port, frame } => write!(f, "Inject({port}, {} bytes)", frame.len()),
            Command::Execute { in_port, program, .. } => write!(f, "Execute({in_port}, {program:?})"),
            Command::Configure(config) => write!(f, "Configure({config:?})"),
            Command::Stop => f.write_str("Stop"),
        }
    }
}

/// Something that happened at a worker which the main thread must know.
#[derive(Debug)]
pub enum Event {
    /// Receiving from the port failed. With `PortError::Gone` the receiving side has been dropped; otherwise the worker
    /// tries again from time to time, and the failure is not reported again until it has worked in between.
    RxFailed {
        /// The port.
        port: DpPort,
        /// What failed.
        error: PortError,
    },
    /// Sending to the port failed. With `PortError::Gone` the sending side has been dropped.
    TxFailed {
        /// The port.
        port: DpPort,
        /// What failed.
        error: PortError,
    },
}

/// Why a command did not reach a worker. Unless it was offered, it is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CommandRefused {
    /// Too many are waiting already.
    #[error("too many commands are waiting for the worker")]
    Full,
    /// The worker is no more.
    #[error("the worker has ended")]
    Ended,
}

/// Wakes the thread of a worker that sleeps; the shell knows how.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// A worker as other threads see it.
#[derive(Clone)]
pub struct WorkerPeer {
    commands: Sender<Command>,
    stats: Arc<WorkerStats>,
    wake: Wake,
}

impl WorkerPeer {
    pub(crate) fn new(commands: Sender<Command>, stats: Arc<WorkerStats>, wake: Wake) -> Self {
        WorkerPeer { commands, stats, wake }
    }

    /// Sends a command and wakes the worker. Does not wait.
    ///
    /// # Errors
    /// [`CommandRefused`] if the queue is full or the worker has ended.
    pub fn send(&self, command: Command) -> Result<(), CommandRefused> {
        self.offer(command).map_err(|refused| refused.1)
    }

    /// Sends a command and wakes the worker, as [`Self::send`]; but one that is refused comes back, with what it carries.
    ///
    /// # Errors
    /// The command, and why it was refused.
    pub fn offer(&self, command: Command) -> Result<(), Box<(Command, CommandRefused)>> {
        let sent = self.commands.try_send(command).map_err(|error| {
            Box::new(match error {
                TrySendError::Full(command) => (command, CommandRefused::Full),
                TrySendError::Disconnected(command) => (command, CommandRefused::Ended),
            })
        });
        (self.wake)();
        sent
    }

    /// How many commands wait for it.
    pub fn waiting(&self) -> usize {
        self.commands.len()
    }

    /// What the worker counts.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }
}

impl fmt::Debug for WorkerPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPeer").field("waiting", &self.commands.len()).finish_non_exhaustive()
    }
}
