//! Frames to and from the controller.

use flowtable::{Match, OfAction, OfPort, PacketInReason, TableId, field::FieldId};

/// OFPT_PACKET_IN, NXT_PACKET_IN, NXT_PACKET_IN2; which one follows from the connection's
/// [`packet_in_format`](crate::Dialect::packet_in_format).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketIn {
    /// Why.
    pub reason: PacketInReason,
    /// Table of the rule that sent it (not in OpenFlow 1.0's format: 0).
    pub table: TableId,
    /// Cookie of the rule that sent it; all ones if there is none (not in OpenFlow 1.0's format).
    pub cookie: u64,
    /// Length of the frame, of which `data` may be the beginning.
    pub total_len: u16,
    /// Ingress port (`slot::IN_PORT`), metadata, registers and tunnel fields that are set. OpenFlow 1.0's format has
    /// only the port.
    pub metadata: Match,
    /// What the `controller` action was given (NXT_PACKET_IN2 only).
    pub userdata: Vec<u8>,
    /// The frame from its Ethernet header on, possibly cut.
    pub data: Vec<u8>,
}

impl PacketIn {
    /// The ingress port, [`OfPort::ANY`] if the message does not tell.
    pub fn in_port(&self) -> OfPort {
        in_port_of(&self.metadata)
    }
}

/// OFPT_PACKET_OUT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketOut {
    /// A buffered frame; `None` if `data` is the frame (the switch buffers nothing).
    pub buffer: Option<u32>,
    /// The pretended ingress port (`slot::IN_PORT`, always set: a real port, LOCAL, CONTROLLER or ANY) and, in
    /// OpenFlow 1.5, pipeline fields.
    pub metadata: Match,
    /// What to do with it.
    pub actions: Vec<OfAction>,
    /// The frame from its Ethernet header on.
    pub data: Vec<u8>,
}

impl PacketOut {
    /// The pretended ingress port.
    pub fn in_port(&self) -> OfPort {
        in_port_of(&self.metadata)
    }
}

fn in_port_of(metadata: &Match) -> OfPort {
    let slot = FieldId::InPort.slot();
    match metadata.get(slot) {
        (value, bits) if bits == slot.ones() => OfPort(value as u32),
        _ => OfPort::ANY,
    }
}
