//! The receiving sides of devices: which worker has which, and how many there are.

use super::{Device, Devices};
use crate::workers::Workers;
use datapath::port::Rx;
use datapath::{Command, RxQueue};
use switch::balance;
use switch::config::{InterfaceConfig, InterfaceKind, RxQueues};

/// One receiving side of a device.
pub(super) struct Side {
    /// The worker that receives from it, or is going to.
    pub worker: usize,
    /// The side itself while no worker has it: before the snapshot has the port, what it receives would be lost. A dummy has
    /// none, as its frames come by command, to this worker.
    deaf: Option<RxQueue>,
}

impl Device {
    /// Takes the receiving sides of a device that was opened.
    pub(super) fn take_sides(&mut self, counts: Vec<usize>) {
        let sides: Vec<Option<Box<dyn Rx>>> = self.port.take_rx().into_iter().map(Some).collect();
        self.add_sides(if sides.is_empty() { vec![None] } else { sides }, counts);
    }

    /// Takes new receiving sides, which get the numbers after those that there are. `counts` are the workers' sides.
    fn add_sides(&mut self, sides: Vec<Option<Box<dyn Rx>>>, mut counts: Vec<usize>) {
        let mut own = vec![0; counts.len()];
        for side in &self.sides {
            own.get_mut(side.worker).into_iter().for_each(|n| *n += 1);
        }
        for rx in sides {
            let worker = balance::place(&counts, &own);
            [&mut counts, &mut own].into_iter().filter_map(|c| c.get_mut(worker)).for_each(|n| *n += 1);
            let number = u16::try_from(self.sides.len()).unwrap_or(u16::MAX);
            self.sides.push(Side { worker, deaf: rx.map(|rx| RxQueue::new(number, rx)) });
        }
    }

    /// Makes the number of receiving sides what is wanted. New ones are heard from after the next publication.
    ///
    /// # Errors
    /// What the interface's `error` column is to say; the number is then as before.
    pub(super) fn set_sides(
        &mut self,
        config: &InterfaceConfig,
        counts: Vec<usize>,
        workers: &Workers,
    ) -> Result<(), String> {
        let count = match &config.rx_queues {
            _ if config.kind != InterfaceKind::Tap => return Ok(()),
            RxQueues::Default => 1,
            RxQueues::Count(count) => usize::from(*count),
            RxQueues::Invalid(text) => return Err(text.clone()),
        };
        if count == self.port.rx_count() {
            return Ok(());
        }
        while self.sides.len() > count {
            let number = self.sides.len() - 1;
            if let Some(side) = self.sides.pop().filter(|side| side.deaf.is_none()) {
                // Dropped here: the kernel gives nothing more to the queue.
                workers.take_rx(side.worker, self.dp_port, u16::try_from(number).unwrap_or(u16::MAX));
            }
        }
        let new = self.port.set_rx_count(count).map_err(|error| error.to_string())?;
        self.add_sides(new.into_iter().map(Some).collect(), counts);
        Ok(())
    }
}

impl Devices {
    /// How many receiving sides each of so many workers has.
    pub(super) fn side_counts(&self, workers: usize) -> Vec<usize> {
        let mut counts = vec![0; workers];
        for side in self.slots.values().filter_map(|s| s.device.as_ref()).flat_map(|d| &d.sides) {
            counts.get_mut(side.worker).into_iter().for_each(|n| *n += 1);
        }
        counts
    }

    /// Lets workers receive from new sides of devices, which the snapshot must have by now.
    pub fn listen(&mut self, workers: &Workers) {
        for device in self.slots.values_mut().filter_map(|s| s.device.as_mut()) {
            for side in &mut device.sides {
                let Some(queue) = side.deaf.take() else { continue };
                let listen = Command::AddRx { port: device.dp_port, queue, done: None };
                if let Err(error) = workers.send(side.worker, listen) {
                    tracing::error!(target: "netdev", "{}: nobody receives from it: {error}", device.report.name);
                }
            }
        }
    }
}
