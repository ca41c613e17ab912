//! Nodes and their wires: plugging in, sending, travelling, arriving.

use super::{Node, NodeId, NodeSlot, Occurrence, World};
use crate::host::{Host, HostSpec};
use crate::jack::{Device, INLET_MAX};
use crate::raw::RawHost;
use crate::trace::{FrameEvent, Trace};
use crate::wire::Fate;
use base::Instant;
use packet::DpPort;

impl World {
    /// A host with a TCP/IP stack at a port.
    pub fn add_host(&mut self, port: &str, spec: HostSpec) -> NodeId {
        let host = Host::new(spec, self.dice.roll(), self.now);
        self.add_node(port, Node::Host(Box::new(host)))
    }

    /// A raw host at a port.
    pub fn add_raw(&mut self, port: &str) -> NodeId {
        self.add_node(port, Node::Raw(RawHost::default()))
    }

    fn add_node(&mut self, port: &str, node: Node) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(NodeSlot { node, port: None, wakes_at: None });
        self.plug(id, port);
        id
    }

    /// Plugs a node into a port; whatever was plugged in there is left without.
    pub fn plug(&mut self, node: NodeId, port: &str) {
        for slot in self.nodes.iter_mut().filter(|n| n.port.as_deref() == Some(port)) {
            slot.port = None;
        }
        self.nodes[node.0].port = Some(port.to_owned());
        self.wake(node, self.now);
    }

    /// A host, to give it something to do or to ask it.
    ///
    /// # Panics
    /// If the node is a raw host.
    pub fn host(&mut self, node: NodeId) -> &mut Host {
        self.wake(node, self.now);
        match &mut self.nodes[node.0].node {
            Node::Host(host) => host,
            Node::Raw(_) => panic!("{node:?} is a raw host"),
        }
    }

    /// A raw host, to send from or to see what it got.
    ///
    /// # Panics
    /// If the node is a host with a stack.
    pub fn raw(&mut self, node: NodeId) -> &mut RawHost {
        self.wake(node, self.now);
        match &mut self.nodes[node.0].node {
            Node::Raw(raw) => raw,
            Node::Host(_) => panic!("{node:?} has a stack"),
        }
    }

    pub(super) fn wake(&mut self, node: NodeId, at: Instant) {
        let slot = &mut self.nodes[node.0];
        if slot.wakes_at.is_none_or(|t| at < t) {
            slot.wakes_at = Some(at);
            self.put(at, Occurrence::Wake(node));
        }
    }

    /// Whether every host has done what it was given to do.
    pub fn hosts_done(&self) -> bool {
        self.nodes.iter().all(|n| match &n.node {
            Node::Host(host) => host.is_done(),
            Node::Raw(raw) => raw.waiting() == 0,
        })
    }

    pub(super) fn poll_node(&mut self, node: NodeId) {
        let slot = &mut self.nodes[node.0];
        slot.wakes_at = None;
        let (frames, next) = match &mut slot.node {
            Node::Host(host) => host.poll(self.now),
            Node::Raw(raw) => raw.poll(self.now),
        };
        let port = slot.port.clone();
        if let Some(at) = next {
            self.wake(node, at);
        }
        let Some(port) = port.and_then(|name| self.ports.get_mut(&name)) else { return };
        let (dp_port, mut arriving) = (port.jack.port, Vec::new());
        for bytes in frames {
            self.trace.note(self.now, dp_port, FrameEvent::Sent, &bytes);
            let fate = port.to_port.carry(&port.wire, &bytes, self.now);
            travel(&mut self.trace, self.now, (dp_port, fate), bytes, |at, bytes| arriving.push((at, bytes)));
        }
        for (at, bytes) in arriving {
            self.put(at, Occurrence::ToPort(dp_port, bytes));
        }
    }

    /// A frame has come to the end of a wire at a port.
    pub(super) fn arrive(&mut self, port: DpPort, bytes: Vec<u8>) {
        let slot = self.ports.values().find(|p| p.jack.port == port && p.to_port.up);
        let taken = slot.is_some_and(|p| {
            let mut state = p.jack.lock();
            let room = state.inlet.len() < INLET_MAX && state.device == Device::Up;
            if room {
                self.trace.note(self.now, port, FrameEvent::Arrived, &bytes);
                state.inlet.push_back(bytes.clone());
            }
            room
        });
        if !taken {
            self.trace.note(self.now, port, FrameEvent::Lost, &bytes);
        }
    }

    pub(super) fn deliver(&mut self, node: NodeId, port: DpPort, bytes: Vec<u8>) {
        self.trace.note(self.now, port, FrameEvent::Delivered, &bytes);
        match &mut self.nodes[node.0].node {
            Node::Host(host) => host.deliver(&bytes),
            Node::Raw(raw) => raw.deliver(self.now, bytes),
        }
    }

    /// Puts what workers sent on the wires.
    pub(super) fn collect(&mut self) {
        let mut leaving = Vec::new();
        for (name, port) in &mut self.ports {
            let outlet = std::mem::take(&mut port.jack.lock().outlet);
            if outlet.is_empty() {
                continue;
            }
            let node = self.nodes.iter().position(|n| n.port.as_ref() == Some(name)).map(NodeId);
            let dp_port = port.jack.port;
            for bytes in outlet {
                self.trace.note(self.now, dp_port, FrameEvent::Forwarded, &bytes);
                let fate = port.to_node.carry(&port.wire, &bytes, self.now);
                let Some(node) = node else { continue };
                travel(&mut self.trace, self.now, (dp_port, fate), bytes, |at, bytes| {
                    leaving.push((at, Occurrence::ToNode(node, dp_port, bytes)));
                });
            }
        }
        for (at, what) in leaving {
            self.put(at, what);
        }
    }
}

/// Lets a frame travel as fate has it.
fn travel(
    trace: &mut Trace,
    now: Instant,
    (port, fate): (DpPort, Fate),
    bytes: Vec<u8>,
    mut arrives: impl FnMut(Instant, Vec<u8>),
) {
    match fate {
        Fate::Arrives(at) => arrives(at, bytes),
        Fate::Late(at) => {
            trace.note(now, port, FrameEvent::Delayed, &bytes);
            arrives(at, bytes);
        }
        Fate::Twice(first, second) => {
            trace.note(now, port, FrameEvent::Doubled, &bytes);
            arrives(first, bytes.clone());
            arrives(second, bytes);
        }
        Fate::Lost => trace.note(now, port, FrameEvent::Lost, &bytes),
    }
}
