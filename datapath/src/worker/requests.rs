//! Commands: carried out between batches, never during one.

use super::forward::Pass;
use super::turns::{Account, Pace};
use super::{RxEntry, RxToken, Worker};
use crate::command::{COMMANDS_PER_STEP_MAX, Command, FragmentDump, Reply, WorkerConfig};
use crate::fragments::Side;
use crate::port::RxQueue;
use crate::ports::PortIndex;
use crate::slowpath::SlowPath;
use base::Instant;
use packet::{DpPort, Frame};

/// Whoever asked may have gone away, which is no concern of the worker.
fn answer<T>(reply: &Reply<T>, value: T) {
    let _ = reply.try_send(value);
}

fn answer_if<T>(reply: Option<Reply<T>>, value: T) {
    if let Some(reply) = reply {
        answer(&reply, value);
    }
}

impl<S: SlowPath> Worker<S> {
    /// Carries out waiting commands. Returns how many, and how many frames they brought.
    pub(super) fn carry_out_commands(&mut self, now: Instant) -> (usize, usize) {
        let (mut commands, mut frames) = (0, 0);
        while commands < COMMANDS_PER_STEP_MAX && !self.stopped {
            let Ok(command) = self.commands.try_recv() else { break };
            commands += 1;
            frames += usize::from(matches!(command, Command::Inject { .. } | Command::Execute { .. }));
            self.carry_out(command, now);
        }
        (commands, frames)
    }

    /// Carries out one command at once: for a shell, or a simulator, on the worker's own thread. Frames that it sends are
    /// flushed by the next step.
    pub fn carry_out(&mut self, command: Command, now: Instant) {
        match command {
            Command::AddRx { port, queue, done } => {
                self.add_rx(port, queue);
                answer_if(done, ());
            }
            Command::RemoveRx { port, reply } => {
                let removed = self.remove_receivers(|r| r.port == port);
                answer_if(reply, removed);
            }
            Command::TakeRx { port, number, reply } => {
                self.flush_ports();
                // Only the one that came first: who asks late may have given the number to a new side.
                let first = self.receivers.iter().find(|r| r.port == port && r.queue.number == number);
                let first = first.map(|r| r.token);
                let mut taken = self.remove_receivers(|r| Some(r.token) == first).pop();
                if let Some(queue) = &mut taken {
                    queue.fragments = self.executor.fragments.release(Side { port, number });
                }
                // Who has given up waiting would lose it.
                if let Err(error) = reply.try_send(taken)
                    && let Some(queue) = error.into_inner()
                {
                    self.add_rx(port, queue);
                }
            }
            Command::Adopt { fragments } => self.executor.fragments.adopt(fragments),
            Command::AddTx { port, tx, done } => {
                let index = self.port_index(port);
                self.flush_ports();
                self.executor.ports.set_tx(index, Some(tx));
                answer_if(done, ());
            }
            Command::RemoveTx { port, done } => {
                self.flush_ports();
                if let Some(index) = self.executor.ports.find(port) {
                    self.executor.ports.set_tx(index, None);
                    self.remove_port_if_unused(index);
                }
                answer_if(done, ());
            }
            Command::Flush { reply } => {
                let removed = self.cache.flush();
                answer_if(reply, removed);
            }
            Command::RemoveFlows { which, reply } => {
                let removed = self.cache.remove_some(&*which);
                answer_if(reply, removed);
            }
            Command::DumpFlows { from, reply } => {
                answer(&reply, self.cache.dump(from, &**self.snapshot.load()));
            }
            Command::Fold { done } => {
                self.cache.fold();
                answer_if(done, ());
            }
            Command::Fragments { reply } => {
                let fragments = &self.executor.fragments;
                let dump = FragmentDump {
                    stats: fragments.stats(),
                    datagrams: fragments.datagrams().filter(|d| d.given_up.is_none()).collect(),
                };
                answer(&reply, dump);
            }
            Command::Inject { port, frame } => self.inject(port, frame, None, now),
            Command::Execute { in_port, frame, program } => {
                self.inject(in_port, frame, Some(&program), now);
            }
            Command::Configure(config) => self.configure(config),
            Command::Stop => self.stop(),
        }
    }

    fn configure(&mut self, config: WorkerConfig) {
        self.config = config;
        self.cache.set_limits(config.cache);
        self.executor.ports.set_limits(config.misses);
        self.executor.fragments.configure(config.fragments);
    }

    /// The settings in force.
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    fn stop(&mut self) {
        // The rest of their packets will not come here.
        self.executor.expire_fragments(Instant::from_nanos(u64::MAX));
        self.flush_ports();
        self.cache.flush();
        self.stats.cache.flows.set(0);
        self.stats.fragments_held.set(0);
        self.send_events();
        self.stopped = true;
    }

    fn flush_ports(&mut self) {
        self.executor.ports.flush(&mut self.executor.pool, &mut self.events_pending);
    }

    /// The port's place in the worker's table, made if need be.
    fn port_index(&mut self, port: DpPort) -> PortIndex {
        match self.executor.ports.find(port) {
            Some(index) => index,
            None => {
                let share = self.cache.add_share();
                self.executor.ports.insert(port, share, self.stats.port_added(port))
            }
        }
    }

    fn remove_port_if_unused(&mut self, index: PortIndex) {
        if let Some((port, share)) = self.executor.ports.remove_unused(index) {
            self.cache.remove_share(share);
            self.stats.port_removed(port);
        }
    }

    fn add_rx(&mut self, port: DpPort, mut queue: RxQueue) {
        let index = self.port_index(port);
        self.executor.fragments.adopt(std::mem::take(&mut queue.fragments));
        if let Some(entry) = self.executor.ports.get_mut(index) {
            entry.receivers += 1;
        }
        self.executor.ports.grant_at_least(index, queue.flows);
        let account = Account::new(queue.rx.frame_price());
        let token = RxToken(self.next_token);
        self.next_token += 1;
        self.poll_generation += 1;
        self.receivers.push(RxEntry {
            port,
            index,
            queue,
            token,
            ready: true,
            account,
            resume_at: None,
            reported: false,
            gone: false,
        });
    }

    /// Removes receiving sides, and the cached flows of ports that have none left.
    pub(super) fn remove_receivers(&mut self, which: impl Fn(&RxEntry) -> bool) -> Vec<RxQueue> {
        let mut removed = Vec::new();
        while let Some(at) = self.receivers.iter().position(&which) {
            let mut entry = self.receivers.remove(at);
            self.poll_generation += 1;
            entry.queue.rx.leave_thread();
            let share = self.executor.ports.share(entry.index);
            entry.queue.flows = share.map_or(0, |share| self.cache.share_len(share) as u64);
            removed.push(entry.queue);
            let Some(port) = self.executor.ports.get_mut(entry.index) else { continue };
            port.receivers = port.receivers.saturating_sub(1);
            port.busy = port.busy.saturating_sub(u32::from(entry.account.pace == Pace::Busy));
            if port.receivers == 0 {
                self.cache.flush_share(port.share);
                self.remove_port_if_unused(entry.index);
            }
        }
        removed
    }

    /// Brings in a frame that no port received: through the pipeline, or by a program of its own.
    fn inject(&mut self, port: DpPort, mut frame: Frame, program: Option<&crate::Program>, now: Instant) {
        let index = self.executor.ports.find(port).unwrap_or(PortIndex::PORTLESS);
        if let Some(counters) = self.executor.ports.counters(index) {
            if program.is_none() && index != PortIndex::PORTLESS {
                // As if the port had received it, for whoever looks at the port's counters too.
                counters.rx_packets.add(1);
                counters.rx_bytes.add(frame.len() as u64);
            } else {
                counters.injected.add(1);
            }
        }
        frame.in_port = port;
        self.executor.fragments.receive_from(None);
        let slow = self.snapshot.load();
        let mut pass =
            Pass::new(&**slow, now, &mut self.cache, &mut self.executor, &mut self.room, &self.stats);
        match program {
            Some(program) => pass.execute(program, frame, index),
            None => pass.forward_single(frame, index),
        }
    }
}
