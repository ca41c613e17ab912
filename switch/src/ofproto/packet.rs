//! Frames to and from controllers.

use super::{Answer, Outgoing, Request};
use crate::brain::{Brain, Command};
use crate::bridge::{Bridge, BridgeId};
use crate::forwarding::{PacketInCause, Punted};
use crate::meter::Meters;
use flowtable::field::FIELDS;
use flowtable::group::Groups;
use flowtable::{FieldId, FlowKey, Match, OfAction, OfPort, PacketInReason, TableId, Words};
use openflow::message::{AsyncClass, Message, PacketIn, PacketOut};
use openflow::{OfError, OfVersion};
use packet::wire::ETHERTYPE_IPV6;
use packet::{Frame, PacketKey};
use std::sync::Arc;

/// Bytes of a frame that fit into an OpenFlow message (65,535) with everything else that it says: frames of segmentation
/// offload can be longer.
const PACKET_IN_DATA_MAX: usize = 64_000;

/// A frame that a worker handed over for controllers.
pub type PacketInEvent = Punted;

/// A frame that a controller wants sent: to be translated with the newest snapshot and executed by a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketOutRequest {
    /// Of this bridge.
    pub bridge: BridgeId,
    /// As if it had come in here; `OfPort::CONTROLLER`, `OfPort::LOCAL` and `OfPort::ANY` are possible.
    pub in_port: OfPort,
    /// What to do with it.
    pub actions: Arc<[OfAction]>,
    /// The frame.
    pub data: Vec<u8>,
}

/// The headers of a frame, matched exactly: actions of a packet-out that do not fit its frame are refused, as those of a rule
/// are that do not fit its match. Of a frame that cannot be read nothing is known.
fn headers(data: &[u8]) -> Match {
    match PacketKey::extract(&mut Frame::from_bytes(data)) {
        Ok(packet) => exactly(&FlowKey { packet, ..FlowKey::default() }),
        Err(_) => Match::any(),
    }
}

fn exactly(flow: &FlowKey) -> Match {
    let mut matching = Match::any();
    FIELDS.iter().for_each(|field| matching.set_exact(field.slot, flow.slot(field.slot)));
    matching
}

fn reason_number(reason: PacketInReason) -> u32 {
    match reason {
        PacketInReason::NoMatch => 0,
        PacketInReason::Action => 1,
        PacketInReason::InvalidTtl => 2,
        PacketInReason::ActionSet => 3,
        PacketInReason::Group => 4,
        PacketInReason::PacketOut => 5,
    }
}

/// What a packet-in says about the frame beside its bytes: in_port, registers, metadata, tunnel and connection, where not zero.
fn metadata(punted: &Punted) -> Match {
    let key = FlowKey { packet: punted.key, pipeline: punted.packet_in.pipeline };
    let mut matching = Match::any();
    matching.set_exact(FieldId::InPort.slot(), u128::from(punted.packet_in.in_port.0));
    let fields = [
        FieldId::Metadata,
        FieldId::TunId,
        FieldId::TunSrc,
        FieldId::TunDst,
        FieldId::TunIpv6Src,
        FieldId::TunIpv6Dst,
        FieldId::TunGbpId,
        FieldId::TunGbpFlags,
        FieldId::TunFlags,
        FieldId::PktMark,
        FieldId::CtState,
        FieldId::CtZone,
        FieldId::CtMark,
        FieldId::CtLabel,
    ];
    let registers = FIELDS.iter().filter(|f| f.name.starts_with("reg")).map(|f| f.id);
    for field in fields.into_iter().chain(registers) {
        let value = key.slot(field.slot());
        if value != 0 {
            matching.set_exact(field.slot(), value);
        }
    }
    if key.slot(FieldId::CtNwProto.slot()) != 0 {
        let (src, dst) = match punted.key.dl_type() {
            ETHERTYPE_IPV6 => (FieldId::CtIpv6Src, FieldId::CtIpv6Dst),
            _ => (FieldId::CtNwSrc, FieldId::CtNwDst),
        };
        // The EtherType is what these need to be matched on.
        for field in [FieldId::EthType, FieldId::CtNwProto, src, dst, FieldId::CtTpSrc, FieldId::CtTpDst] {
            matching.set_exact(field.slot(), key.slot(field.slot()));
        }
    }
    for row in FIELDS.iter() {
        if row.presence().is_some_and(|p| key.slot(p) == 1) {
            row.id.set_condition(&mut matching, key.slot(row.slot), row.slot.ones());
        }
    }
    matching
}

/// Whether a packet-out with these actions of a frame with this `flow` would be taken: by OpenFlow 1.0, which lets old actions
/// pass that do not fit the frame, or, if `is_consistent`, by later versions, which do not.
///
/// # Errors
/// Why not.
pub fn check_packet_out_actions(
    bridge: &Bridge,
    actions: &[OfAction],
    flow: &FlowKey,
    is_consistent: bool,
) -> Result<(), OfError> {
    let there = (bridge.groups(), bridge.meters());
    let version = if is_consistent { OfVersion::V13 } else { OfVersion::V10 };
    super::flow::check_actions(actions, &exactly(flow), TableId::ALL, version, there)
}

/// Whether a packet-out can be carried out, given the groups and meters that there are.
pub(super) fn check_packet_out(
    out: &PacketOut,
    version: OfVersion,
    there: (&Groups, &Meters),
) -> Result<(), OfError> {
    if out.buffer.is_some() {
        return Err(OfError::BadRequestBufferUnknown);
    }
    let in_port = out.in_port();
    let special = [OfPort::CONTROLLER, OfPort::ANY, OfPort::LOCAL];
    if !special.contains(&in_port) && !in_port.is_real() {
        return Err(OfError::BadRequestBadPort);
    }
    super::flow::check_actions(&out.actions, &headers(&out.data), TableId::ALL, version, there)
}

impl Brain {
    /// Hands a frame from the datapath to the controllers that want it.
    pub fn packet_in(&mut self, punted: Punted) {
        let wanted = &punted.packet_in;
        let Some(bridge) = self.bridges.values().find(|b| b.id == wanted.bridge) else { return };
        let name = bridge.config.name.clone();
        let about = metadata(&punted);
        let mut messages = Vec::new();
        for c in self.connections.values().filter(|c| c.bridge == name) {
            // To OpenFlow 1.3 and later a table-miss rule is how misses come about (OpenFlow 1.3.5 §5.4).
            let reason = match wanted.cause {
                PacketInCause::MissRule if c.version >= OfVersion::V13 => PacketInReason::NoMatch,
                _ => wanted.reason,
            };
            let hears = c.hears(AsyncClass::PacketIn, reason_number(reason));
            if c.controller_id != wanted.controller_id || !hears {
                continue;
            }
            // Nothing is buffered in the switch, so a frame goes whole, whatever length was asked for (OpenFlow 1.3.5
            // §A.4.1; OVS does the same).
            let data = punted.bytes.get(..PACKET_IN_DATA_MAX).unwrap_or(&punted.bytes);
            let message = PacketIn {
                reason,
                table: if wanted.table == TableId::ALL { TableId(0) } else { wanted.table },
                cookie: wanted.cookie,
                total_len: u16::try_from(punted.total_len).unwrap_or(u16::MAX),
                metadata: about,
                userdata: wanted.userdata.to_vec(),
                data: data.to_vec(),
            };
            messages.push((c.id, Outgoing::PacketIn(Message::PacketIn(message)).into()));
        }
        self.outbox.extend(messages);
    }

    pub(super) fn packet_out(&mut self, r: &Request<'_>, out: PacketOut) -> Answer {
        let bridge = self.bridge(&r.bridge)?;
        check_packet_out(&out, r.version, (&bridge.groups, &bridge.meters))?;
        self.send_out(bridge.id, out);
        Ok(vec![])
    }

    /// Has a frame sent that was checked.
    pub(super) fn send_out(&mut self, bridge: BridgeId, out: PacketOut) {
        let in_port = out.in_port();
        let request = PacketOutRequest { bridge, in_port, actions: out.actions.into(), data: out.data };
        self.commands.push(Command::PacketOut(request));
    }
}
