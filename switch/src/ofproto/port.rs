//! Ports over OpenFlow: descriptions, settings that a controller may change, news of changes, counters.

use super::{Answer, ConnId, Outgoing, Request};
use crate::brain::{Brain, BridgeState, DeviceState};
use crate::bridge::{Device, PortConfig as Bits};
use crate::mac::MacAddr;
use crate::tunnel::SharedCounters;
use crate::tunnel::counters::{InterfaceCounters, Way};
use base::Instant;
use flowtable::OfPort;
use openflow::message::{
    AsyncClass, LinkModes, Message, MultipartReply, OfPortDesc, OfPortStats, PortConfig, PortMod, PortState,
    PortStatus, PortStatusReason, QueueConfig, QueueStats,
};
use openflow::{OfError, OfVersion};

/// A port of a bridge, as OpenFlow knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRecord {
    /// Its number.
    pub of_port: OfPort,
    /// Its name.
    pub name: String,
    /// What stands behind it.
    pub device: Device,
    /// What went through it, if it is a patch.
    pub counters: SharedCounters,
    /// Its address.
    pub mac: MacAddr,
    /// Settings that controllers change.
    pub config: Bits,
    /// Its device's state.
    pub state: DeviceState,
    /// When it was added.
    pub since: Instant,
}

/// Counters of a datapath port, summed over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Received frames that were dropped for a reason of the port's (budget, malformed).
    pub rx_dropped: u64,
    /// Failures while receiving.
    pub rx_errors: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device had no room for, or refused because it is down.
    pub tx_dropped: u64,
    /// Frames that the device says it could not send; none says so.
    pub tx_errors: u64,
}

/// Link modes of a speed in Mbit/s, full duplex; what has no mode of its own is `OTHER`.
fn modes(speed_mbps: u32) -> LinkModes {
    LinkModes(match speed_mbps {
        0 => 0,
        10 => LinkModes::FD_10M | LinkModes::COPPER,
        100 => LinkModes::FD_100M | LinkModes::COPPER,
        1_000 => LinkModes::FD_1G | LinkModes::COPPER,
        10_000 => LinkModes::FD_10G | LinkModes::COPPER,
        40_000 => LinkModes::FD_40G | LinkModes::FIBER,
        100_000 => LinkModes::FD_100G | LinkModes::FIBER,
        _ => LinkModes::OTHER,
    })
}

impl From<&InterfaceCounters> for PortCounters {
    fn from(counters: &InterfaceCounters) -> PortCounters {
        let ((rx_packets, rx_bytes), (tx_packets, tx_bytes)) =
            (counters.get(Way::Received), counters.get(Way::Sent));
        PortCounters { rx_packets, rx_bytes, tx_packets, tx_bytes, ..PortCounters::default() }
    }
}

impl PortRecord {
    /// What a patch has counted, as far as workers have folded their counts.
    pub fn counters_of_patch(&self) -> PortCounters {
        PortCounters::from(&*self.counters.0)
    }

    pub(crate) fn desc(&self) -> OfPortDesc {
        let mut config = 0;
        let pairs = [
            (Bits::PORT_DOWN, PortConfig::PORT_DOWN),
            (Bits::NO_RECV, PortConfig::NO_RECV),
            (Bits::NO_FLOOD, PortConfig::NO_FLOOD),
            (Bits::NO_FWD, PortConfig::NO_FWD),
            (Bits::NO_PACKET_IN, PortConfig::NO_PACKET_IN),
        ];
        for (bit, wire) in pairs {
            if self.config.has(bit) {
                config |= wire;
            }
        }
        // A device that somebody took down counts as set down, whoever did it (as in OVS).
        if !self.state.admin_up {
            config |= PortConfig::PORT_DOWN;
        }
        let live = self.state.link_up && config & PortConfig::PORT_DOWN == 0;
        let mut state = if self.state.link_up { 0 } else { PortState::LINK_DOWN };
        if live {
            state |= PortState::LIVE;
        }
        let kbps = self.state.speed_mbps.saturating_mul(1_000);
        OfPortDesc {
            port: self.of_port,
            hw_addr: self.mac.0,
            name: self.name.clone(),
            config: PortConfig(config),
            state: PortState(state),
            curr: modes(self.state.speed_mbps),
            advertised: LinkModes::default(),
            supported: LinkModes::default(),
            peer: LinkModes::default(),
            curr_speed_kbps: kbps,
            max_speed_kbps: kbps,
        }
    }
}

impl Brain {
    pub(super) fn port_descs(&self, bridge: &str) -> Vec<OfPortDesc> {
        self.bridges.get(bridge).map(|b| b.ports.values().map(PortRecord::desc).collect()).unwrap_or_default()
    }

    pub(super) fn port_desc_reply(&mut self, r: &Request<'_>, port: OfPort) -> Answer {
        let mut descs = self.port_descs(&r.bridge);
        if port != OfPort::ANY {
            descs.retain(|d| d.port == port);
        }
        let reply = MultipartReply::PortDesc(descs);
        Ok(vec![Message::MultipartReply { more: false, reply }])
    }

    pub(super) fn check_port_mod(&self, r: &Request<'_>, port_mod: &PortMod) -> Result<(), OfError> {
        let bridge = self.bridge(&r.bridge)?;
        let port = bridge.ports.get(&port_mod.port).ok_or(OfError::PortModFailedBadPort)?;
        if port.mac.0 != port_mod.hw_addr {
            return Err(OfError::PortModFailedBadHwAddr);
        }
        Ok(())
    }

    pub(super) fn port_mod(&mut self, r: &Request<'_>, port_mod: PortMod) -> Answer {
        self.check_port_mod(r, &port_mod)?;
        let bridge = self.bridge_mut(&r.bridge)?;
        let port = bridge.ports.get_mut(&port_mod.port).ok_or(OfError::PortModFailedBadPort)?;
        let before = port.desc();
        let pairs = [
            (PortConfig::PORT_DOWN, Bits::PORT_DOWN),
            (PortConfig::NO_RECV, Bits::NO_RECV),
            (PortConfig::NO_FLOOD, Bits::NO_FLOOD),
            (PortConfig::NO_FWD, Bits::NO_FWD),
            (PortConfig::NO_PACKET_IN, Bits::NO_PACKET_IN),
        ];
        for (wire, bit) in pairs.into_iter().filter(|(wire, _)| port_mod.mask.has(*wire)) {
            port.config = port.config.with(bit, port_mod.config.has(wire));
        }
        if port_mod.mask.has(PortConfig::PORT_DOWN) {
            let up = !port_mod.config.has(PortConfig::PORT_DOWN);
            port.state.admin_up = up;
            let name = port.name.clone();
            self.commands.push(crate::brain::Command::SetAdmin { interface: name, up });
        }
        self.port_changed(&r.bridge, port_mod.port, Some(before), Some(r.conn));
        Ok(vec![])
    }

    /// Makes the snapshot follow a port's record and tells controllers if its description differs from `before`; whoever
    /// asked for the change only from OpenFlow 1.5 on, as in OVS.
    pub(crate) fn port_changed(
        &mut self,
        bridge: &str,
        of_port: OfPort,
        before: Option<OfPortDesc>,
        asked_by: Option<ConnId>,
    ) {
        self.stage_port(bridge, of_port);
        let now = self.bridges.get(bridge).and_then(|b| b.ports.get(&of_port)).map(PortRecord::desc);
        let (reason, port) = match (before, now) {
            (None, Some(now)) => (PortStatusReason::Add, now),
            (Some(before), Some(now)) if before != now => (PortStatusReason::Modify, now),
            (Some(before), None) => (PortStatusReason::Delete, before),
            _ => return,
        };
        let number = match reason {
            PortStatusReason::Add => 0,
            PortStatusReason::Delete => 1,
            PortStatusReason::Modify => 2,
        };
        let message = Message::PortStatus(PortStatus { reason, port });
        for c in self.connections.values() {
            let knows = asked_by == Some(c.id) && c.version < OfVersion::V15;
            if c.bridge == bridge && !knows && c.hears(AsyncClass::PortStatus, number) {
                self.outbox.push((c.id, Outgoing::Unasked(message.clone()).into()));
            }
        }
    }

    /// What a tunnel interface has counted, as far as workers have folded their counts.
    pub fn tunnel_counters(&self, interface: &str) -> PortCounters {
        let published = self.staging.published();
        published
            .tunnels()
            .counters(interface)
            .map_or_else(PortCounters::default, |c| PortCounters::from(&**c))
    }

    fn stats_of(&self, port: &PortRecord, now: Instant) -> OfPortStats {
        let counters = match port.device {
            Device::Datapath(dp) => self.counters.get(&dp).copied().unwrap_or_default(),
            Device::Tunnel { .. } => self.tunnel_counters(&port.name),
            Device::Patch(_) => port.counters_of_patch(),
        };
        OfPortStats {
            rx_packets: counters.rx_packets,
            tx_packets: counters.tx_packets,
            rx_bytes: counters.rx_bytes,
            tx_bytes: counters.tx_bytes,
            rx_dropped: counters.rx_dropped,
            tx_dropped: counters.tx_dropped,
            rx_errors: counters.rx_errors,
            tx_errors: counters.tx_errors,
            rx_frame_err: 0,
            rx_over_err: 0,
            rx_crc_err: 0,
            collisions: 0,
            duration: Some(super::duration(port.since, now)),
            ..OfPortStats::unknown(port.of_port)
        }
    }

    pub(super) fn port_stats(&mut self, r: &Request<'_>, port: OfPort) -> Answer {
        let bridge = self.bridge(&r.bridge)?;
        let stats = match port {
            OfPort::ANY => bridge.ports.values().map(|p| self.stats_of(p, r.now)).collect(),
            // OVS answers an unknown port with an empty reply, not with an error.
            port => bridge.ports.get(&port).map(|p| self.stats_of(p, r.now)).into_iter().collect(),
        };
        Ok(vec![Message::MultipartReply { more: false, reply: MultipartReply::PortStats(stats) }])
    }

    /// No port has queues: asking for all gives none, asking for one is an error.
    pub(super) fn queue_stats(&mut self, r: &Request<'_>, port: OfPort, queue: u32) -> Answer {
        self.check_queue_port(r, port)?;
        if queue != openflow::message::QUEUE_ALL {
            return Err(OfError::QueueOpFailedBadQueue);
        }
        let reply = MultipartReply::Queue(Vec::<QueueStats>::new());
        Ok(vec![Message::MultipartReply { more: false, reply }])
    }

    pub(super) fn queue_desc(&mut self, r: &Request<'_>, port: OfPort) -> Answer {
        self.check_queue_port(r, port)?;
        let reply = MultipartReply::QueueDesc(Vec::<QueueConfig>::new());
        Ok(vec![Message::MultipartReply { more: false, reply }])
    }

    pub(super) fn queue_config(&mut self, r: &Request<'_>, port: OfPort) -> Answer {
        self.check_queue_port(r, port)?;
        Ok(vec![Message::QueueGetConfigReply(port, Vec::new())])
    }

    fn check_queue_port(&self, r: &Request<'_>, port: OfPort) -> Result<(), OfError> {
        let known =
            |b: &BridgeState| port == OfPort::ANY || port == OfPort::ALL || b.ports.contains_key(&port);
        match known(self.bridge(&r.bridge)?) {
            true => Ok(()),
            false => Err(OfError::QueueOpFailedBadPort),
        }
    }
}
