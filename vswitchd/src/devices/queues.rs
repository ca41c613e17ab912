//! The receiving sides of devices: which worker has which, and how many there are.

use super::{Device, Devices};
use crate::workers::Workers;
use datapath::port::{Rx, RxLoad};
use datapath::{Command, RxQueue};
use std::sync::Arc;
use switch::balance::{self, AutoBalance, History, SideLoad};
use switch::config::{InterfaceConfig, InterfaceKind, RxAffinity, RxQueues};

/// One receiving side of a device.
pub(super) struct Side {
    /// The worker that receives from it, or is going to.
    pub worker: usize,
    /// The side itself while no worker has it: before the snapshot has the port, what it receives would be lost. A dummy has
    /// none, as its frames come by command, to this worker.
    deaf: Option<RxQueue>,
    /// What was received from it, and how much of that was in the last measurement.
    load: Arc<RxLoad>,
    measured: u64,
    /// Time that its worker spent for it, in nanoseconds.
    busy: History,
}

/// A receiving side, for people.
pub struct ShownSide<'a> {
    /// Name of the interface.
    pub interface: &'a str,
    /// Number of the side.
    pub number: u16,
    /// The worker that has it.
    pub worker: usize,
    /// The processor that it is pinned to.
    pub pin: Option<usize>,
    /// Time that its worker spent for it.
    pub busy: &'a History,
}

/// What is known of workers when sides are given to them.
#[derive(Clone)]
pub(super) struct Room {
    /// How many sides each has.
    counts: Vec<usize>,
    /// Which may get more.
    open: Vec<bool>,
}

impl Device {
    /// Takes the receiving sides of a device that was opened.
    pub(super) fn take_sides(&mut self, room: Room) {
        let sides: Vec<Option<Box<dyn Rx>>> = self.port.take_rx().into_iter().map(Some).collect();
        self.add_sides(if sides.is_empty() { vec![None] } else { sides }, room);
    }

    /// Takes new receiving sides, which get the numbers after those that there are.
    fn add_sides(&mut self, sides: Vec<Option<Box<dyn Rx>>>, room: Room) {
        let Room { mut counts, open } = room;
        let mut own = vec![0; counts.len()];
        for side in &self.sides {
            own.get_mut(side.worker).into_iter().for_each(|n| *n += 1);
        }
        for rx in sides {
            let worker = balance::place(&counts, &own, &open);
            [&mut counts, &mut own].into_iter().filter_map(|c| c.get_mut(worker)).for_each(|n| *n += 1);
            let number = u16::try_from(self.sides.len()).unwrap_or(u16::MAX);
            let deaf = rx.map(|rx| RxQueue::new(number, rx));
            let load = deaf.as_ref().map(|queue| Arc::clone(&queue.load)).unwrap_or_default();
            self.sides.push(Side { worker, deaf, load, measured: 0, busy: History::default() });
        }
    }

    /// Makes the number of receiving sides what is wanted. New ones are heard from after the next publication.
    ///
    /// # Errors
    /// What the interface's `error` column is to say; the number is then as before.
    pub(super) fn set_sides(
        &mut self,
        config: &InterfaceConfig,
        room: Room,
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
                // Dropped here, or by a worker that does not answer some time: the kernel gives nothing more to the queue.
                let number = u16::try_from(number).unwrap_or(u16::MAX);
                let _ = workers.take_rx(side.worker, self.dp_port, number);
            }
        }
        let new = self.port.set_rx_count(count).map_err(|error| error.to_string())?;
        self.add_sides(new.into_iter().map(Some).collect(), room);
        Ok(())
    }
}

impl Devices {
    /// Makes the workers so many, at least one. New ones get their share of the receiving sides, those that go give theirs
    /// to the others.
    ///
    /// # Errors
    /// A worker could not be started; there are as many as could be.
    pub fn resize(&mut self, workers: &mut Workers, count: usize) -> anyhow::Result<()> {
        let before = workers.count();
        let mut result = Ok(());
        while workers.count() < count && result.is_ok() {
            result = workers.start_one();
        }
        for worker in before..workers.count() {
            self.give_senders(workers, worker);
        }
        // Pins are respected when it is known where workers run.
        let unpinned = |mut loads: Vec<SideLoad>| {
            loads.iter_mut().for_each(|side| side.pin = None);
            loads
        };
        let loads = unpinned(self.loads(workers));
        if workers.count() > before {
            // They can send before they receive.
            workers.settle();
            self.move_sides(&balance::spread(&loads, workers.count()), workers);
        }
        if count < before {
            self.move_sides(&balance::rehome(&loads, count.max(1)), workers);
            while workers.count() > count.max(1) {
                workers.stop_last();
            }
        }
        result
    }

    /// Gives a new worker a sending side of each device.
    fn give_senders(&mut self, workers: &Workers, worker: usize) {
        // Those on their way out too: they are in the snapshot until they are buried.
        let open = self.slots.values_mut().filter_map(|s| s.device.as_mut());
        for device in open.chain(self.retired.iter_mut().map(|r| &mut r.device)) {
            let port = device.dp_port;
            let given = device.port.new_tx().map_err(|e| e.to_string()).and_then(|tx| {
                workers.send(worker, Command::AddTx { port, tx, done: None }).map_err(|e| e.to_string())
            });
            if let Err(error) = given {
                let name = &device.report.name;
                tracing::error!(target: "netdev", "{name}: worker {worker} cannot send to it: {error}");
            }
        }
    }

    /// What each side costs and where it belongs, in the order of interfaces and numbers.
    fn loads(&self, workers: &Workers) -> Vec<SideLoad> {
        let open = self.slots.values().filter_map(|s| Some((&s.config.rx_affinity, s.device.as_ref()?)));
        let load = |affinity: &RxAffinity, number: u16, side: &Side| SideLoad {
            worker: side.worker,
            load: side.busy.sum(balance::SAMPLES_MAX).unwrap_or(0),
            pin: affinity.get(&number).and_then(|cpu| workers.on_cpu(*cpu)),
        };
        let sides = open.flat_map(|(affinity, device)| {
            (0u16..).zip(&device.sides).map(move |(number, side)| load(affinity, number, side))
        });
        sides.collect()
    }

    /// Takes a measurement: `busy` is how long each worker was busy since the last one.
    pub fn measure(&mut self, busy: &[u64]) {
        let devices = self.slots.values_mut().filter_map(|s| s.device.as_mut());
        let mut sides: Vec<(&mut Side, u64)> = devices.flat_map(|d| &mut d.sides).map(|s| (s, 0)).collect();
        for (side, work) in &mut sides {
            let total = balance::work(side.load.frames.get(), side.load.bytes.get());
            *work = total.saturating_sub(std::mem::replace(&mut side.measured, total));
        }
        for (worker, busy) in busy.iter().enumerate() {
            let mut own: Vec<&mut (&mut Side, u64)> =
                sides.iter_mut().filter(|(s, _)| s.worker == worker).collect();
            let works: Vec<u64> = own.iter().map(|(_, work)| *work).collect();
            for ((side, _), time) in own.iter_mut().zip(balance::apportion(*busy, &works)) {
                side.busy.push(time);
            }
        }
    }

    /// Spreads the receiving sides over the workers by what they cost. How many have moved.
    pub fn rebalance(&mut self, workers: &Workers) -> usize {
        self.follow(&balance::spread(&self.loads(workers), workers.count()), workers)
    }

    /// The same if `auto` finds it worth it; `busy` says how busy each worker is, in percent.
    pub fn rebalance_if_worth(&mut self, auto: &AutoBalance, busy: &[u64], workers: &Workers) -> usize {
        auto.decide(&self.loads(workers), busy).map_or(0, |wanted| self.follow(&wanted, workers))
    }

    fn follow(&mut self, wanted: &[SideLoad], workers: &Workers) -> usize {
        let before = self.loads(workers);
        self.move_sides(wanted, workers);
        before.iter().zip(self.loads(workers)).filter(|(before, now)| before.worker != now.worker).count()
    }

    /// How many receiving sides the device of an interface has; 0 without one.
    pub fn side_count(&self, name: &str) -> usize {
        self.slots.get(name).and_then(|slot| slot.device.as_ref()).map_or(0, |device| device.sides.len())
    }

    /// The receiving sides, by interface and number.
    pub fn shown_sides(&self) -> impl Iterator<Item = ShownSide<'_>> {
        let open =
            self.slots.iter().filter_map(|(name, s)| Some((name, &s.config.rx_affinity, s.device.as_ref()?)));
        open.flat_map(|(name, affinity, device)| {
            (0u16..).zip(&device.sides).map(move |(number, side)| ShownSide {
                interface: name,
                number,
                worker: side.worker,
                pin: affinity.get(&number).copied(),
                busy: &side.busy,
            })
        })
    }

    /// Lets each side be received from by the worker that is wanted; `wanted` is in the order of [`Self::loads`].
    fn move_sides(&mut self, wanted: &[SideLoad], workers: &Workers) {
        let devices = self.slots.values_mut().filter_map(|s| s.device.as_mut());
        let sides = devices.flat_map(|device| {
            let port = device.dp_port;
            (0u16..).zip(&mut device.sides).map(move |(number, side)| (port, number, side))
        });
        for ((port, number, side), wanted) in sides.zip(wanted).filter(|((_, _, s), w)| s.worker != w.worker)
        {
            // One that is deaf goes to its worker when the snapshot has its port.
            let moved = workers.take_rx(side.worker, port, number).and_then(|taken| {
                side.worker = wanted.worker;
                let Some(queue) = taken else { return Ok(()) };
                Ok(workers.send(side.worker, Command::AddRx { port, queue, done: None })?)
            });
            if let Err(error) = moved {
                tracing::error!(target: "netdev", "port {port}: queue {number} has not changed workers: {error}");
            }
        }
    }

    /// What each worker has, and which may have more.
    pub(super) fn room(&self, workers: &Workers) -> Room {
        let loads = self.loads(workers);
        let mut counts = vec![0; workers.count()];
        for side in &loads {
            counts.get_mut(side.worker).into_iter().for_each(|n| *n += 1);
        }
        Room {
            counts,
            open: balance::open_workers(loads.iter().filter_map(|side| side.pin), workers.count()),
        }
    }

    /// Brings pinned sides to their workers, and others away from there.
    fn respect_pins(&mut self, workers: &Workers) {
        let open = self.slots.iter().filter(|(_, s)| s.device.is_some());
        for (name, slot) in open {
            for (queue, cpu) in
                slot.config.rx_affinity.iter().filter(|(_, cpu)| workers.on_cpu(**cpu).is_none())
            {
                // The words of ovs-vswitchd.
                tracing::warn!(
                    target: "dpif_netdev",
                    "Core {cpu:>2} cannot be pinned with port '{name}' rx queue {queue}. Use pmd-cpu-mask to enable a pmd on core {cpu}. An alternative core will be assigned."
                );
            }
        }
        let loads = self.loads(workers);
        let pinned = loads.iter().filter(|side| side.pin.is_some()).count();
        let before = std::mem::replace(&mut self.pinned, pinned);
        if pinned < before {
            // Workers that had none but pinned ones may have others again.
            self.move_sides(&balance::spread(&loads, workers.count()), workers);
        } else if pinned > 0 {
            self.move_sides(&balance::rehome(&loads, workers.count()), workers);
        }
    }

    /// Workers have come or gone, or run elsewhere now.
    pub fn workers_changed(&mut self) {
        self.pins_due = true;
    }

    /// Lets workers receive from new sides of devices, which the snapshot must have by now.
    pub fn listen(&mut self, workers: &Workers) {
        if std::mem::take(&mut self.pins_due) {
            self.respect_pins(workers);
        }
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
