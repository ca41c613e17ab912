//! OpenFlow as the switch sees it: a message of a connection in, replies and changes of the bridge out. Versions and bytes
//! are `openflow`'s, sockets the daemon's.
//!
//! Everything here is a method of [`Brain`], split by subject. A request is answered before the next one is looked at, so
//! a barrier has nothing to wait for but the publication that precedes all replies.

mod bundle;
pub mod connection;
mod flow;
mod group;
mod monitor;
mod packet;
mod port;
mod statistics;
mod table;
mod tlv_table;

pub use connection::{ConnId, ConnKind, OfConnection};
pub(crate) use flow::{Removal, normal_rule};
pub use packet::{PacketInEvent, PacketOutRequest, check_packet_out_actions};
pub use port::{PortCounters, PortRecord};

use crate::brain::{Brain, Command};
use crate::bridge::{Bridge, Fragments};
use base::Instant;
use openflow::message::{
    AsyncClass, Capabilities, CtFlush, FragmentHandling, Message, Role, RoleMessage, RoleReason, RoleStatus,
    SwitchConfig, SwitchFeatures, Xid,
};
use openflow::{OfError, OfVersion};

/// Tables that a bridge announces, as OVS does: which keeps table 254 for itself. Here it can be used like the others.
const TABLES_ANNOUNCED: u8 = 254;

/// A span of time as OVS reports it: in whole milliseconds.
pub(crate) fn duration(since: Instant, now: Instant) -> std::time::Duration {
    std::time::Duration::from_millis(
        u64::try_from(now.saturating_since(since).as_millis()).unwrap_or(u64::MAX),
    )
}

/// What goes out on a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// A reply.
    Message(Xid, Message),
    /// A frame for a controller: who does not read may miss it.
    PacketIn(Message),
    /// What else nobody asked for: news of rules, ports and roles. Not to be missed by who reads.
    Unasked(Message),
    /// To who has flow monitors: not to be missed, and bounded, as there are none while [`Brain::monitors_hold`].
    Update(Message),
    /// An error about the request with this id, quoting its first bytes.
    Error(Xid, OfError, Vec<u8>),
}

/// What is in the outbox.
#[derive(Debug)]
pub(crate) enum Waiting {
    Ready(Outgoing),
    /// Its counts are still to be known: frames are forwarded by the rule until workers have a snapshot without it.
    Removal(Removal),
}

impl From<Outgoing> for Waiting {
    fn from(outgoing: Outgoing) -> Waiting {
        Waiting::Ready(outgoing)
    }
}

/// A request on its way through the brain.
pub(crate) struct Request<'a> {
    pub conn: ConnId,
    pub bridge: String,
    pub version: OfVersion,
    pub xid: Xid,
    /// Its bytes, to be quoted.
    pub raw: &'a [u8],
    pub now: Instant,
}

/// Replies of a request, or why it is refused.
pub(crate) type Answer = Result<Vec<Message>, OfError>;

impl Brain {
    /// A connection to `bridge` has negotiated its version.
    pub fn connect(&mut self, conn: ConnId, bridge: &str, kind: ConnKind, version: OfVersion) {
        self.connections.insert(conn, OfConnection::new(conn, bridge, kind, version));
        self.controllers_changed(bridge);
    }

    /// A connection is gone, with everything that it left open.
    pub fn disconnect(&mut self, conn: ConnId) {
        if let Some(old) = self.connections.remove(&conn) {
            self.controllers_changed(&old.bridge);
        }
    }

    /// The connections of a bridge.
    pub fn connections(&self, bridge: &str) -> impl Iterator<Item = &OfConnection> {
        self.connections.values().filter(move |c| c.bridge == bridge)
    }

    /// Handles a message that came in on a connection; `raw` is the message as bytes. Replies are in [`Brain::drain_outbox`].
    pub fn receive(&mut self, conn: ConnId, xid: Xid, message: Message, raw: &[u8], now: Instant) {
        let Some(c) = self.connections.get(&conn) else { return };
        let request = Request { conn, bridge: c.bridge.clone(), version: c.version, xid, raw, now };
        match self.handle(&request, message) {
            Ok(replies) => {
                let replies = replies.into_iter().map(|m| (conn, Outgoing::Message(xid, m).into()));
                self.outbox.extend(replies);
            }
            Err(error) => self.refuse(conn, xid, error, raw),
        }
    }

    pub(crate) fn refuse(&mut self, conn: ConnId, xid: Xid, error: OfError, raw: &[u8]) {
        self.outbox.push((conn, Outgoing::Error(xid, error, raw.to_vec()).into()));
    }

    fn handle(&mut self, r: &Request<'_>, message: Message) -> Answer {
        self.check_role(r, &message)?;
        match message {
            Message::EchoRequest(data) => Ok(vec![Message::EchoReply(data)]),
            Message::BarrierRequest => Ok(vec![Message::BarrierReply]),
            Message::FeaturesRequest => self.features(r),
            Message::GetConfigRequest => self.switch_config(r),
            Message::SetConfig(config) => self.set_switch_config(r, config),
            Message::RoleRequest(role) => self.set_role(r, role),
            Message::SetAsync(changes) => {
                self.connection_mut(r.conn)?.wants.apply(&changes);
                self.controllers_changed(&r.bridge);
                Ok(vec![])
            }
            Message::GetAsyncRequest => Ok(vec![Message::GetAsyncReply(self.connection_mut(r.conn)?.wants)]),
            Message::SetControllerId(id) => {
                self.connection_mut(r.conn)?.controller_id = id;
                Ok(vec![])
            }
            // The session itself follows these; nothing is left for the switch to do.
            Message::FlowModTableId(_) | Message::SetFlowFormat(_) | Message::SetPacketInFormat(_) => {
                Ok(vec![])
            }
            Message::FlowAge => Ok(vec![]),
            Message::FlowMod(flow_mod) => self.flow_mod(r, flow_mod),
            Message::PacketOut(out) => self.packet_out(r, out),
            Message::PortMod(port_mod) => self.port_mod(r, port_mod),
            Message::TableMod(table_mod) => self.table_mod(r, table_mod),
            Message::BundleControl(control) => self.bundle_control(r, control),
            Message::BundleAdd(add) => self.bundle_add(r, add),
            Message::FlowMonitorCancel(id) => self.monitor_cancel(r, id),
            Message::MultipartRequest(request) => self.multipart(r, request),
            Message::QueueGetConfigRequest(port) => self.queue_config(r, port),
            Message::TlvTableRequest => self.tlv_table(r),
            Message::TlvTableMod(change) => self.tlv_table_mod(r, &change),
            Message::GroupMod(group_mod) => self.group_mod(r, group_mod),
            Message::MeterMod(meter_mod) => self.meter_mod(r, &meter_mod),
            // Connections are the datapath's, whichever bridge is asked.
            Message::CtFlushZone(zone) => {
                self.commands
                    .push(Command::FlushConnections(CtFlush { zone: Some(zone), ..CtFlush::default() }));
                Ok(vec![])
            }
            Message::CtFlush(flush) => {
                self.commands.push(Command::FlushConnections(flush));
                Ok(vec![])
            }
            Message::Resume(_) => Err(OfError::NxNotSupported),
            // Replies and announcements make no sense towards a switch; an error or echo reply needs no answer.
            Message::Error(_) | Message::EchoReply(_) | Message::Hello(_) => Ok(vec![]),
            _ => Err(OfError::BadRequestBadType),
        }
    }

    /// Secondary controllers may look but not touch (OpenFlow 1.3.5 §6.3.5).
    fn check_role(&mut self, r: &Request<'_>, message: &Message) -> Result<(), OfError> {
        let changes = matches!(
            message,
            Message::FlowMod(_)
                | Message::PacketOut(_)
                | Message::PortMod(_)
                | Message::TableMod(_)
                | Message::GroupMod(_)
                | Message::MeterMod(_)
                | Message::TlvTableMod(_)
                | Message::CtFlushZone(_)
                | Message::CtFlush(_)
        );
        match changes && !self.connection_mut(r.conn)?.may_write() {
            true => Err(OfError::BadRequestIsSecondary),
            false => Ok(()),
        }
    }

    pub(crate) fn connection_mut(&mut self, conn: ConnId) -> Result<&mut OfConnection, OfError> {
        self.connections.get_mut(&conn).ok_or(OfError::BadRequestUnknown)
    }

    fn features(&mut self, r: &Request<'_>) -> Answer {
        let bridge = self.bridge(&r.bridge)?;
        let mut capabilities =
            Capabilities::FLOW_STATS | Capabilities::TABLE_STATS | Capabilities::PORT_STATS;
        match r.version {
            OfVersion::V10 => capabilities |= Capabilities::QUEUE_STATS | Capabilities::ARP_MATCH_IP,
            OfVersion::V13 => capabilities |= Capabilities::QUEUE_STATS | Capabilities::GROUP_STATS,
            _ => {
                capabilities |= Capabilities::GROUP_STATS
                    | Capabilities::QUEUE_STATS
                    | Capabilities::BUNDLES
                    | Capabilities::FLOW_MONITORING;
            }
        }
        Ok(vec![Message::FeaturesReply(SwitchFeatures {
            datapath_id: bridge.datapath_id,
            n_buffers: 0,
            n_tables: TABLES_ANNOUNCED,
            auxiliary_id: 0,
            capabilities: Capabilities(capabilities),
            // Every standard action of OpenFlow 1.0 but `enqueue`'s queues, which have nothing behind them yet.
            actions: 0x0000_0fff,
            ports: self.port_descs(&r.bridge),
        })])
    }

    fn staging_bridge(&mut self, r: &Request<'_>) -> Result<&mut Bridge, OfError> {
        let id = self.bridge(&r.bridge)?.id;
        self.staging.bridge_mut(id).ok_or(OfError::BadRequestUnknown)
    }

    fn switch_config(&mut self, r: &Request<'_>) -> Answer {
        let fragments = self.staging_bridge(r)?.settings().fragments;
        let c = self.connection_mut(r.conn)?;
        let config = SwitchConfig {
            fragments: match fragments {
                Fragments::Normal => FragmentHandling::Normal,
                Fragments::Drop => FragmentHandling::Drop,
                Fragments::NxMatch => FragmentHandling::NxMatch,
            },
            // Only OpenFlow 1.1 and 1.2 carry the flag here; the codec leaves it out elsewhere.
            invalid_ttl_to_controller: c.invalid_ttl,
            miss_send_len: c.miss_send_len,
        };
        Ok(vec![Message::GetConfigReply(config)])
    }

    fn set_switch_config(&mut self, r: &Request<'_>, config: SwitchConfig) -> Answer {
        let fragments = match config.fragments {
            FragmentHandling::Normal => Fragments::Normal,
            FragmentHandling::Drop => Fragments::Drop,
            FragmentHandling::NxMatch => Fragments::NxMatch,
            FragmentHandling::Reassemble => return Err(OfError::SwitchConfigFailedBadFlags),
        };
        let bridge = self.staging_bridge(r)?;
        if bridge.settings().fragments != fragments {
            bridge.settings_mut().fragments = fragments;
        }
        let c = self.connection_mut(r.conn)?;
        c.miss_send_len = config.miss_send_len;
        c.invalid_ttl = config.invalid_ttl_to_controller;
        self.controllers_changed(&r.bridge);
        Ok(vec![])
    }

    fn set_role(&mut self, r: &Request<'_>, wanted: RoleMessage) -> Answer {
        let latest = self.bridge(&r.bridge)?.generation_id;
        if matches!(wanted.role, Role::Primary | Role::Secondary) {
            if let (Some(new), Some(old)) = (wanted.generation_id, latest)
                // The distance wraps (OpenFlow 1.3.5 §6.3.5): newer means less than half the circle ahead.
                && (new.wrapping_sub(old) as i64) < 0
            {
                return Err(OfError::RoleRequestFailedStale);
            }
            if wanted.generation_id.is_some() {
                self.bridge_mut(&r.bridge)?.generation_id = wanted.generation_id;
            }
        }
        if wanted.role == Role::Primary {
            self.demote_primaries(r);
        }
        let generation_id = self.bridge(&r.bridge)?.generation_id;
        let c = self.connection_mut(r.conn)?;
        if wanted.role != Role::NoChange {
            c.role = wanted.role;
        }
        let role = c.role;
        self.controllers_changed(&r.bridge);
        Ok(vec![Message::RoleReply(RoleMessage { role, generation_id })])
    }

    /// There is one primary: whoever was it becomes secondary, and is told so.
    fn demote_primaries(&mut self, r: &Request<'_>) {
        let generation_id = self.bridge(&r.bridge).ok().and_then(|b| b.generation_id);
        for c in self.connections.values_mut() {
            if c.bridge == r.bridge && c.id != r.conn && c.role == Role::Primary {
                let reason = RoleReason::PrimaryRequest;
                let hears = c.hears(AsyncClass::RoleStatus, 0);
                c.role = Role::Secondary;
                if hears && c.version >= OfVersion::V14 {
                    let status = RoleStatus { role: Role::Secondary, reason, generation_id };
                    self.outbox.push((c.id, Outgoing::Unasked(Message::RoleStatus(status)).into()));
                }
            }
        }
    }
}
