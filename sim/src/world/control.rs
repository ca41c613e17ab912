//! Changing a world: configuration, rules, faults; in the order in which the daemon does it.

use super::{Actor, Fault, PortSlot, PortSpec, World};
use crate::jack::{Device, Jack};
use crate::ofctl;
use crate::oracle::Checked;
use crate::wire::Lane;
use datapath::{Command, RxQueue};
use flowtable::TableId;
use openflow::message::{Message, Xid};
use openflow::{OfError, OfVersion};
use packet::DpPort;
use std::sync::Arc;
use switch::brain::{DeviceState, OpenDevice};
use switch::config::{
    BridgeConfig, Config, InterfaceConfig, InterfaceKind, PortConfig, RxAffinity, RxQueues,
};
use switch::forwarding::Forwarding;
use switch::mac::MacAddr;
use switch::ofproto::{ConnId, ConnKind, Outgoing};
use switch::plan::{Step, plan};

/// A rule and what it counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleCount {
    /// Its table.
    pub table: TableId,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl World {
    // --- configuration ---

    /// A new bridge: one rule, NORMAL, as a bridge without a controller has.
    pub fn add_bridge(&mut self, name: &str) {
        let bridge = BridgeConfig::new(name);
        self.configure(|config| drop(config.bridges.insert(bridge.name.clone(), bridge)));
    }

    /// A new port of a bridge.
    pub fn add_port(&mut self, bridge: &str, name: &str, spec: PortSpec) {
        let port = port_config(name, InterfaceKind::Dummy, &spec);
        self.specs.insert(name.to_owned(), spec);
        self.edit_bridge(bridge, |b| drop(b.ports.insert(port.name.clone(), port)));
    }

    /// Two new ports that connect two bridges: name and number of each.
    pub fn add_patch(&mut self, one: (&str, &str, u16), other: (&str, &str, u16)) {
        for ((bridge, name, number), (_, peer, _)) in [(one, other), (other, one)] {
            let kind = InterfaceKind::Patch { peer: peer.to_owned() };
            let port = port_config(name, kind, &PortSpec::number(number));
            self.edit_bridge(bridge, |b| drop(b.ports.insert(port.name.clone(), port)));
        }
    }

    /// A port is no longer wanted.
    pub fn remove_port(&mut self, name: &str) {
        self.configure(|config| {
            config.bridges.values_mut().for_each(|b| drop(b.ports.remove(name)));
        });
    }

    /// Changes the settings of a bridge.
    pub fn edit_bridge(&mut self, bridge: &str, edit: impl FnOnce(&mut BridgeConfig)) {
        self.configure(|config| edit(config.bridges.get_mut(bridge).expect("the bridge")));
    }

    /// Changes the configuration and publishes it.
    pub fn configure(&mut self, edit: impl FnOnce(&mut Config)) {
        let mut wanted = self.config.clone();
        edit(&mut wanted);
        let steps = plan(&self.config, &wanted);
        self.config = wanted;
        let mut news = Vec::new();
        for step in steps {
            match step {
                Step::Close { interface, .. } => {
                    if self.close_device(&interface) {
                        news.push((interface, None));
                    }
                }
                Step::CloseSocket(socket) => {
                    if self.close_device(&socket.name()) {
                        news.push((socket.name(), None));
                    }
                }
                Step::OpenSocket(socket, _) => {
                    let open = self.open_device(&socket.name());
                    news.push((socket.name(), Some(open)));
                }
                Step::Open { interface, .. } if interface.kind.is_virtual() => {}
                Step::Open { interface, .. } => {
                    let open = self.open_device(&interface.name);
                    news.push((interface.name, Some(open)));
                }
                Step::RemoveBridge(_) | Step::AddBridge(_) | Step::Change { .. } => {}
            }
        }
        self.brain.configure(&self.config, self.now);
        for (name, open) in news {
            match open {
                Some(device) => self.brain.device_open(&name, device, self.now),
                None => self.brain.device_closed(&name, self.now),
            }
        }
        // Workers go on while the main thread is at it.
        self.maybe_step();
        self.publish();
    }

    fn open_device(&mut self, name: &str) -> OpenDevice {
        let spec = self.specs.get(name).cloned().unwrap_or_default();
        self.port_next += 1;
        let port = DpPort(self.port_next);
        let jack = Jack::new(port, spec.mtu.into(), self.dice.split(), self.oracle.clone());
        let least = |(n, a): &(usize, &Actor)| (a.ports, *n);
        let worker = self.workers.iter().enumerate().min_by_key(least).map_or(0, |(n, _)| n);
        for (n, actor) in self.workers.iter_mut().enumerate() {
            actor.worker.carry_out(Command::AddTx { port, tx: jack.tx(n), done: None }, self.now);
        }
        let actor = &mut self.workers[worker];
        actor.ports += 1;
        actor
            .worker
            .carry_out(Command::AddRx { port, queue: RxQueue::only(jack.rx()), done: None }, self.now);
        let (to_node, to_port) = (Lane::new(self.dice.split()), Lane::new(self.dice.split()));
        self.ports.insert(name.to_owned(), PortSlot { jack, worker, wire: spec.wire, to_node, to_port });
        OpenDevice {
            port,
            mac: MacAddr(0xaa55_aa55_0000 + u64::from(port.0)),
            state: DeviceState { link_up: true, admin_up: true, mtu: spec.mtu.into(), speed_mbps: 10_000 },
        }
    }

    /// Takes a port away from workers; whether it was there.
    pub(super) fn close_device(&mut self, name: &str) -> bool {
        self.collect();
        let Some(slot) = self.ports.remove(name) else { return false };
        let port = slot.jack.port;
        for actor in &mut self.workers {
            actor.worker.carry_out(Command::RemoveRx { port, reply: None }, self.now);
        }
        for actor in &mut self.workers {
            actor.worker.carry_out(Command::RemoveTx { port, done: None }, self.now);
        }
        self.workers[slot.worker].ports -= 1;
        let state = slot.jack.lock();
        self.departed.0 += state.received;
        self.departed.1 += state.sent;
        true
    }

    /// Shows workers the configuration as it stands.
    pub fn publish(&mut self) {
        let newest = self.brain.publish();
        self.store(newest);
    }

    fn store(&mut self, newest: Arc<Forwarding>) {
        if Arc::ptr_eq(&newest, self.snapshot.load().forwarding()) {
            return;
        }
        self.oracle.published(Arc::clone(&newest));
        self.snapshot.store(Arc::new(Checked::new(newest, self.oracle.clone())));
    }

    fn maybe_step(&mut self) {
        if self.dice.one_in(2) {
            self.step_workers(false);
        }
    }

    // --- rules ---

    fn conn(&mut self, bridge: &str) -> ConnId {
        if let Some(conn) = self.conns.get(bridge) {
            return *conn;
        }
        let conn = ConnId(self.conns.len() as u64 + 1);
        self.conns.insert(bridge.to_owned(), conn);
        self.brain.connect(conn, bridge, ConnKind::Service, OfVersion::V14);
        conn
    }

    fn request(&mut self, bridge: &str, message: Message) -> Xid {
        let conn = self.conn(bridge);
        self.xid_next += 1;
        let xid = Xid(self.xid_next);
        self.brain.receive(conn, xid, message, &[], self.now);
        xid
    }

    /// A flow_mod in ovs-ofctl's syntax (see [`ofctl::flow_mod`]). It is in force after the next barrier at the latest.
    ///
    /// # Panics
    /// If that is not a flow.
    pub fn flow_mod(&mut self, bridge: &str, flow: &str) {
        let message = ofctl::flow_mod(flow).unwrap_or_else(|e| panic!("{flow}: {e}"));
        self.request(bridge, message);
    }

    /// Asks for a barrier reply and gives the errors that came before it. What was requested is in force afterwards.
    ///
    /// # Panics
    /// If there is no reply.
    pub fn barrier(&mut self, bridge: &str) -> Vec<OfError> {
        let xid = self.request(bridge, Message::BarrierRequest);
        self.maybe_step();
        self.publish();
        self.take_replies(xid)
    }

    /// The same, but the main thread is so slow that the new snapshot comes out, and the reply after it, only when the
    /// worker of `port` has already asked the port for its next batch. Frames in that batch count as sent after the reply.
    ///
    /// # Panics
    /// If there is no such port, or no reply.
    pub fn barrier_during_receive(&mut self, bridge: &str, port: &str) -> Vec<OfError> {
        let xid = self.request(bridge, Message::BarrierRequest);
        let newest = self.brain.publish();
        let (snapshot, oracle) = (Arc::clone(&self.snapshot), self.oracle.clone());
        let slot = self.ports.get(port).expect("the port");
        slot.jack.lock().on_receive = Some(Box::new(move || {
            if !Arc::ptr_eq(&newest, snapshot.load().forwarding()) {
                oracle.published(Arc::clone(&newest));
                snapshot.store(Arc::new(Checked::new(newest, oracle.clone())));
            }
        }));
        self.take_replies(xid)
    }

    fn take_replies(&mut self, barrier: Xid) -> Vec<OfError> {
        let (mut errors, mut answered) = (Vec::new(), false);
        for (_, outgoing) in self.brain.drain_outbox() {
            match outgoing {
                Outgoing::Error(_, error, _) => errors.push(error),
                Outgoing::Message(xid, Message::BarrierReply) => answered |= xid == barrier,
                _ => {}
            }
        }
        assert!(answered, "no answer to the barrier request");
        errors
    }

    /// Flow_mods and a barrier.
    ///
    /// # Panics
    /// If one of them is refused.
    pub fn flows<T: AsRef<str>>(&mut self, bridge: &str, flows: impl IntoIterator<Item = T>) {
        for flow in flows {
            self.flow_mod(bridge, flow.as_ref());
        }
        assert_eq!(self.barrier(bridge), [], "a flow was refused");
    }

    /// The rules of a bridge, with what they counted up to now.
    ///
    /// # Panics
    /// If there is no such bridge.
    pub fn rules(&mut self, bridge: &str) -> Vec<RuleCount> {
        for actor in &mut self.workers {
            actor.worker.carry_out(Command::Fold { done: None }, self.now);
        }
        let state = self.brain.bridge(bridge).expect("the bridge");
        let rules = state.rules.tables().iter().flat_map(|t| t.rules());
        let count = |r: &flowtable::Rule| RuleCount {
            table: r.table,
            priority: r.priority,
            cookie: r.cookie.0,
            packets: r.stats.packets(),
            bytes: r.stats.bytes(),
        };
        rules.map(|r| count(r)).collect()
    }

    /// Cached flows of all workers.
    pub fn cached_flows(&self) -> u64 {
        self.workers.iter().map(|a| a.peer.stats().cache.flows.get()).sum()
    }

    // --- faults ---

    pub(super) fn carry_out_fault(&mut self, fault: Fault) {
        match fault {
            Fault::WireCut(port) => self.set_wire(&port, false),
            Fault::WireMended(port) => self.set_wire(&port, true),
            Fault::DeviceDown(port) => self.set_device(&port, Device::Down),
            Fault::DeviceUp(port) => self.set_device(&port, Device::Up),
            Fault::Vanish { port, after } => {
                if let Some(slot) = self.ports.get(&port) {
                    slot.jack.lock().vanish_after = Some(after);
                }
            }
            Fault::Return(name) => {
                if self.config.bridges.values().any(|b| b.ports.contains_key(&name)) {
                    if self.close_device(&name) {
                        self.brain.device_closed(&name, self.now);
                    }
                    let open = self.open_device(&name);
                    self.brain.device_open(&name, open, self.now);
                    self.publish();
                }
            }
            Fault::Remove(port) => self.remove_port(&port),
            Fault::HandOver { port, worker } => self.hand_over(&port, worker),
            Fault::Starve { worker, until } => {
                if let Some(actor) = self.workers.get_mut(worker) {
                    actor.starved_until = until;
                }
            }
        }
    }

    fn hand_over(&mut self, name: &str, to: usize) {
        let Some(slot) = self.ports.get_mut(name).filter(|_| to < self.workers.len()) else { return };
        let (reply, answer) = crossbeam_channel::bounded(1);
        let port = slot.jack.port;
        self.workers[slot.worker].worker.carry_out(Command::TakeRx { port, number: 0, reply }, self.now);
        // A worker that has found the device gone has nothing to give.
        let Ok(Some(queue)) = answer.try_recv() else { return };
        self.workers[slot.worker].ports -= 1;
        self.workers[to].ports += 1;
        slot.worker = to;
        self.workers[to].worker.carry_out(Command::AddRx { port, queue, done: None }, self.now);
    }

    fn set_wire(&mut self, port: &str, up: bool) {
        if let Some(slot) = self.ports.get_mut(port) {
            (slot.to_node.up, slot.to_port.up) = (up, up);
        }
    }

    fn set_device(&mut self, port: &str, device: Device) {
        if let Some(slot) = self.ports.get(port) {
            slot.jack.lock().device = device;
        }
    }
}

fn port_config(name: &str, kind: InterfaceKind, spec: &PortSpec) -> PortConfig {
    let interface = InterfaceConfig {
        name: name.to_owned(),
        type_name: "dummy".to_owned(),
        row: name.to_owned(),
        kind,
        ofport_request: spec.ofport,
        mtu_request: None,
        mac: None,
        rx_queues: RxQueues::default(),
        rx_affinity: RxAffinity::default(),
        netns: None,
    };
    PortConfig {
        name: name.to_owned(),
        vlan: spec.vlan.clone(),
        protected: spec.protected,
        interfaces: [(name.to_owned(), interface)].into(),
    }
}
