//! Where frames go: ports, floods, controllers, other bridges.

use super::{Origin, Outer, PATCHES_MAX, RESUBMITS_MAX, Source, Step, Walk, pipeline_start};
use crate::bridge::{BridgePort, Device, PatchPeer, PortConfig};
use crate::forwarding::{PacketIn, PacketInCause, settings_domain};
use crate::trace::Note;
use crate::tunnel::counters::Way;
use datapath::{DpAction, Drop};
use flowtable::{OfPort, PacketInReason, TableId, Words};
use packet::DpPort;
use packet::key::slot;
use std::sync::Arc;

/// Shortest that a frame may be cut to: its Ethernet header.
const CUT_MIN: u32 = 14;

/// How much of a frame is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All.
    None,
    /// At most this many bytes.
    To(u32),
}

/// A copy for a controller.
pub(super) struct Punt<'u> {
    pub reason: PacketInReason,
    pub table: TableId,
    pub cookie: u64,
    pub controller_id: u16,
    pub max_len: u16,
    pub userdata: &'u [u8],
}

/// Ports that a frame is sent to all of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// All but the ingress.
    All,
    /// Those of them that flood.
    Flood,
}

impl Walk<'_> {
    /// An output action.
    pub(super) fn output(&mut self, port: OfPort, cut: Cut, max_len: u16) -> Step {
        match port {
            OfPort::IN_PORT => return self.send_to_ingress(cut),
            OfPort::NORMAL => self.normal(),
            OfPort::FLOOD => return self.spread(Spread::Flood, cut),
            OfPort::ALL => return self.spread(Spread::All, cut),
            OfPort::TABLE => return self.output_table(),
            OfPort::CONTROLLER => {
                let reason = match (self.origin, self.levels.last().map(|l| l.source)) {
                    (Origin::PacketOut, _) => PacketInReason::PacketOut,
                    (Origin::Port, Some(Source::Set)) => PacketInReason::ActionSet,
                    (Origin::Port, Some(Source::Bucket)) => PacketInReason::Group,
                    (Origin::Port, _) => PacketInReason::Action,
                };
                let (table, cookie) = (self.table(), self.cookie());
                self.punt(Punt { reason, table, cookie, controller_id: 0, max_len, userdata: &[] });
            }
            OfPort::ANY | OfPort::UNSET => {}
            port if port == self.in_port() => {
                self.note(Note::Warn, || "skipping output to input port".to_owned());
                self.why(Drop::NoAction);
            }
            port => return self.send_to_port(port, cut),
        }
        Step::Next
    }

    fn send_to_ingress(&mut self, cut: Cut) -> Step {
        let port = self.in_port();
        self.send_to_port(port, cut)
    }

    /// To one port, whichever it is.
    pub(crate) fn send_to_port(&mut self, port: OfPort, cut: Cut) -> Step {
        let Some(found) = self.bridge.port(port) else {
            self.note(Note::Warn, || "Nonexistent output port".to_owned());
            self.why(Drop::NoEgress);
            return Step::Next;
        };
        if found.config.has(PortConfig::NO_FWD) {
            self.note(Note::Warn, || "OFPPC_NO_FWD set, skipping output".to_owned());
            self.why(Drop::NoAction);
            return Step::Next;
        }
        if found.config.has(PortConfig::PORT_DOWN) {
            self.note(Note::Warn, || "port is down, skipping output".to_owned());
            self.why(Drop::NoEgress);
            return Step::Next;
        }
        match &found.device {
            Device::Datapath(dp) => {
                if !self.send_to_host(found) {
                    self.send_to_datapath(*dp, cut);
                }
            }
            Device::Tunnel { socket, config } => return self.send_to_tunnel(port, *socket, config, cut),
            Device::Patch(Some(peer)) => return self.send_to_peer(found, *peer),
            Device::Patch(None) => self.why(Drop::NoEgress),
        }
        Step::Next
    }

    fn send_to_datapath(&mut self, port: DpPort, cut: Cut) {
        self.commit();
        self.room.out.push(match cut {
            Cut::None => DpAction::Output(port),
            Cut::To(max_len) => DpAction::OutputTrunc { port, max_len: max_len.max(CUT_MIN) },
        });
    }

    fn spread(&mut self, which: Spread, cut: Cut) -> Step {
        let ingress = self.in_port();
        let floods = |c: PortConfig| which == Spread::All || !c.has(PortConfig::NO_FLOOD);
        let ports = self.bridge.ports().filter(|p| p.of_port != ingress && floods(p.config));
        let ports: Vec<OfPort> = ports.map(|p| p.of_port).collect();
        self.why(Drop::NoAction);
        self.send_to_ports(&ports, cut)
    }

    /// To several ports, each with the frame as it is now. Several of them may lead to other bridges.
    pub(crate) fn send_to_ports(&mut self, ports: &[OfPort], cut: Cut) -> Step {
        for port in ports {
            let waiting = self.outer.len();
            let step = self.send_to_port(*port, cut);
            if matches!(step, Step::Entered) && !self.visit(waiting) {
                return Step::Leave;
            }
            if self.failed {
                return Step::Leave;
            }
        }
        Step::Next
    }

    /// Walks through a peer's bridge that was just entered, and back. `false` if there is no way back.
    pub(crate) fn visit(&mut self, waiting: usize) -> bool {
        while self.outer.len() > waiting {
            self.walk_bridge();
            let Some(outer) = self.outer.pop() else { return false };
            self.leave_bridge();
            self.return_to(outer);
        }
        !self.levels.is_empty()
    }

    /// Hands a copy to the controllers.
    pub(super) fn punt(&mut self, punt: Punt<'_>) {
        self.commit();
        self.commit_untracked();
        let packet_in = PacketIn {
            bridge: self.bridge.id(),
            reason: punt.reason,
            cause: match self.levels.last() {
                _ if punt.reason == PacketInReason::NoMatch => PacketInCause::NoRule,
                Some(level) if level.source == Source::MissRule => PacketInCause::MissRule,
                _ => PacketInCause::Action,
            },
            table: punt.table,
            cookie: punt.cookie,
            controller_id: punt.controller_id,
            max_len: punt.max_len,
            userdata: punt.userdata.into(),
            in_port: self.in_port(),
            pipeline: self.flow.pipeline,
        };
        // Nothing is buffered, so controllers get frames whole whatever length they named (OpenFlow 1.3.5 §A.4.1).
        self.room.out.push(DpAction::Upcall { max_len: u32::MAX, cookie: Arc::new(packet_in) });
    }

    /// Through a patch port into another bridge, whose pipeline starts afresh.
    fn send_to_peer(&mut self, patch: &BridgePort, peer: PatchPeer) -> Step {
        let Some(bridge) = self.fwd.bridge(peer.bridge).map(|b| &**b) else {
            self.why(Drop::NoEgress);
            return Step::Next;
        };
        self.depend(settings_domain(bridge.id()), bridge.settings_revision());
        self.resubmits += 1;
        if self.outer.len() >= PATCHES_MAX || self.resubmits > RESUBMITS_MAX {
            self.fail("too many patch ports");
            return Step::Leave;
        }
        let (levels, action_set) = (std::mem::take(&mut self.levels), std::mem::take(&mut self.action_set));
        let before = self.mark();
        self.outer.push(Outer { bridge: self.bridge, before, levels, action_set, in_tunnel: false });
        let interfaces = &mut self.room.others.interfaces;
        interfaces.push((Arc::clone(&patch.counters.0), Way::Sent));
        if let Some(end) = bridge.port(peer.port) {
            interfaces.push((Arc::clone(&end.counters.0), Way::Received));
        }
        self.bridge = bridge;
        self.flow.pipeline = pipeline_start();
        self.flow.set_slot(slot::IN_PORT, peer.port.0.into());
        self.forget_connection();
        self.forget_tunnel();
        if let Some(trace) = &mut self.trace {
            trace.enter_bridge(bridge.name());
        }
        self.ingress();
        Step::Entered
    }

    pub(super) fn leave_bridge(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.leave();
        }
    }
}

impl<'a> Walk<'a> {
    /// Back in a bridge that waited, with the frame as it was there.
    pub(super) fn return_to(&mut self, outer: Outer<'a>) {
        self.bridge = outer.bridge;
        self.levels = outer.levels;
        self.action_set = outer.action_set;
        self.restore(outer.before);
    }
}
