//! The receiving sides of devices: which worker has which, and how many there are.

use super::{Device, Devices};
use crate::workers::{LateSide, Workers};
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
    /// The side on its way from a worker that does not answer.
    late: Option<LateSide>,
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
            self.sides.push(Side { worker, deaf, late: None, load, measured: 0, busy: History::default() });
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
            let number = u16::try_from(self.sides.len() - 1).unwrap_or(u16::MAX);
            let Some(side) = self.sides.pop().filter(|side| side.deaf.is_none()) else { continue };
            let taken = match side.late {
                Some(late) => late.poll(self.dp_port, number),
                None => workers.take_rx(side.worker, self.dp_port, number),
            };
            match taken {
                Ok(Some(queue)) => self.forgo(queue, workers),
                Ok(None) => {}
                Err(late) => self.leaving.push((number, late)),
            }
        }
        let new = self.port.set_rx_count(count).map_err(|error| error.to_string())?;
        self.add_sides(new.into_iter().map(Some).collect(), room);
        Ok(())
    }

    /// A side that is no more: what else comes of packets that began to come by it comes by others.
    fn forgo(&self, queue: RxQueue, workers: &Workers) {
        let heir = self.sides.first().map_or(0, |side| side.worker);
        if !queue.fragments.is_empty() {
            let _ = workers.send(heir, Command::Adopt { fragments: queue.fragments });
        }
    }

    /// Looks for sides that workers gave back late. Whether one has not come yet.
    fn collect_late(&mut self, workers: &Workers) -> bool {
        let port = self.dp_port;
        for (number, side) in (0u16..).zip(&mut self.sides) {
            match side.late.take().map(|late| late.poll(port, number)) {
                None => {}
                Some(Err(late)) => side.late = Some(late),
                Some(Ok(queue)) => {
                    let name = &self.report.name;
                    tracing::info!(target: "netdev", "{name}: queue {number} has changed workers at last");
                    side.deaf = queue;
                }
            }
        }
        for (number, late) in std::mem::take(&mut self.leaving) {
            match late.poll(port, number) {
                Ok(Some(queue)) => self.forgo(queue, workers),
                Ok(None) => {}
                Err(late) => self.leaving.push((number, late)),
            }
        }
        !self.leaving.is_empty() || self.sides.iter().any(|side| side.late.is_some())
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
                workers.retire_last();
            }
            self.end_retired(workers);
        }
        result
    }

    /// Ends workers that were taken out of the row, unless one has not been asked yet for what it receives from: it would take
    /// that along.
    fn end_retired(&self, workers: &mut Workers) {
        let devices = self.slots.values().filter_map(|s| s.device.as_ref());
        let mut late = devices.flat_map(|device| {
            let sides = device.sides.iter().filter_map(|side| side.late.as_ref());
            sides.chain(device.leaving.iter().map(|(_, late)| late))
        });
        if late.all(LateSide::is_asked) {
            workers.end();
        }
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
            let from = std::mem::replace(&mut side.worker, wanted.worker);
            // One that is deaf goes to its worker when the snapshot has its port, one that is on its way when it has come.
            if side.deaf.is_some() || side.late.is_some() {
                continue;
            }
            match workers.take_rx(from, port, number) {
                Ok(None) => {}
                Ok(Some(queue)) => {
                    side.deaf = workers.give_rx(side.worker, port, queue).err();
                    self.awaits_workers |= side.deaf.is_some();
                }
                Err(late) => {
                    tracing::warn!(
                        target: "netdev",
                        "port {port}: queue {number} changes workers when worker {from} answers"
                    );
                    side.late = Some(late);
                    self.awaits_workers = true;
                }
            }
        }
    }

    /// Moves the first side of an interface.
    #[cfg(test)]
    pub fn move_first_of(&mut self, name: &str, worker: usize, workers: &Workers) {
        let mut wanted = self.loads(workers);
        let sides = self.shown_sides().map(|side| side.interface == name && side.number == 0);
        let moved: Vec<bool> = sides.collect();
        for (side, _) in wanted.iter_mut().zip(moved).filter(|(_, is_moved)| *is_moved) {
            side.worker = worker;
        }
        self.move_sides(&wanted, workers);
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
    pub fn listen(&mut self, workers: &mut Workers) {
        if std::mem::take(&mut self.pins_due) {
            self.respect_pins(workers);
        }
        let mut awaits = false;
        for device in self.slots.values_mut().filter_map(|s| s.device.as_mut()) {
            if self.awaits_workers || !device.leaving.is_empty() {
                awaits |= device.collect_late(workers);
            }
            for side in &mut device.sides {
                let Some(queue) = side.deaf.take() else { continue };
                side.deaf = workers.give_rx(side.worker, device.dp_port, queue).err();
                awaits |= side.deaf.is_some();
            }
        }
        workers.carry_out_owed();
        if workers.is_any_ending() {
            self.end_retired(workers);
        }
        self.awaits_workers = awaits;
    }

    /// Whether [`Self::listen`] is to be called again soon: a worker has not answered.
    pub fn awaits_workers(&self) -> bool {
        self.awaits_workers
    }
}
