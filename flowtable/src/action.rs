//! OpenFlow actions and instructions as data. How they look on the wire is `openflow`'s business, how in text `text`'s,
//! what they do `switch`'s.
//!
//! An action that is not listed here is not built: on the wire it is answered with OpenFlow's bad-action error, in text
//! with an error that names it.

use crate::field::FieldId;
use crate::port::OfPort;

/// Number of an OpenFlow table, 0 to 254; 255 stands for "all tables" in requests only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TableId(pub u8);

impl TableId {
    /// "All tables" in requests (`OFPTT_ALL`).
    pub const ALL: TableId = TableId(255);
    /// Number of tables a bridge has.
    pub const COUNT: usize = 255;
}

/// Bits `start` to `start + width - 1` of a field, counted from the least significant: `NXM_NX_REG0[4..7]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubField {
    /// The field.
    pub field: FieldId,
    /// Lowest bit.
    pub start: u16,
    /// Number of bits, at least 1.
    pub width: u16,
}

/// Why a frame is sent to the controller (OpenFlow 1.5.1 §7.4.1, `ofp_packet_in_reason`; 0–2 in OpenFlow 1.0 to 1.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketInReason {
    /// No matching rule (`NO_MATCH`; `TABLE_MISS` since 1.4).
    NoMatch,
    /// An output action (`ACTION`; `APPLY_ACTION` since 1.4).
    Action,
    /// TTL expired (`INVALID_TTL`).
    InvalidTtl,
    /// Output in the action set (`ACTION_SET`, 1.4).
    ActionSet,
    /// Output in a group bucket (`GROUP`, 1.4).
    Group,
    /// Output in a packet-out (`PACKET_OUT`, 1.4).
    PacketOut,
}

/// One action (OpenFlow 1.0 §5.2.4, OpenFlow 1.5.1 §7.2.6, ovs-actions(7)). Values are plain numbers, right-aligned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OfAction {
    /// To a port, real or reserved. `max_len` is used with [`OfPort::CONTROLLER`] only: bytes to send, 0xffff for all.
    Output {
        /// Where to.
        port: OfPort,
        /// Bytes for the controller.
        max_len: u16,
    },
    /// To the port whose number stands in a field (`output:NXM_NX_REG0[0..15]`).
    OutputReg {
        /// Where the port number stands.
        src: SubField,
        /// Bytes for the controller.
        max_len: u16,
    },
    /// To the port, cut to `max_len` bytes (`output(port=N,max_len=M)`).
    OutputTrunc {
        /// Where to.
        port: OfPort,
        /// Bytes kept, at least 14.
        max_len: u32,
    },
    /// To a controller with details (Nicira `controller(...)`).
    Controller {
        /// Bytes to send, 0xffff for all.
        max_len: u16,
        /// Which connections: those that set this id.
        controller_id: u16,
        /// Reason shown in the packet-in.
        reason: PacketInReason,
        /// Opaque bytes returned in the packet-in (NXAST_CONTROLLER2).
        userdata: Vec<u8>,
        /// Whether the pipeline pauses until the controller resumes it (NXAST_CONTROLLER2).
        pause: bool,
    },
    /// To a port's queue (OpenFlow 1.0 `enqueue`). No port has queues yet, so the switch refuses it.
    Enqueue {
        /// The port.
        port: OfPort,
        /// The queue.
        queue: u32,
    },
    /// `mod_vlan_vid`: sets the VID, adding a tag if there is none (OpenFlow 1.0).
    SetVlanVid(u16),
    /// `mod_vlan_pcp`: sets the priority, adding a tag if there is none (OpenFlow 1.0).
    SetVlanPcp(u8),
    /// `strip_vlan`, `pop_vlan`: removes the outer tag if there is one.
    PopVlan,
    /// `push_vlan:TPID`: adds an outer tag with VID and PCP of the present one or 0.
    PushVlan(u16),
    /// `mod_dl_src` (48 bits).
    SetDlSrc(u64),
    /// `mod_dl_dst` (48 bits).
    SetDlDst(u64),
    /// `mod_nw_src`, IPv4.
    SetNwSrc(u32),
    /// `mod_nw_dst`, IPv4.
    SetNwDst(u32),
    /// `mod_nw_tos`: DSCP in the high 6 bits, ECN bits 0.
    SetNwTos(u8),
    /// `mod_nw_ecn`.
    SetNwEcn(u8),
    /// `mod_nw_ttl`.
    SetNwTtl(u8),
    /// `mod_tp_src`.
    SetTpSrc(u16),
    /// `mod_tp_dst`.
    SetTpDst(u16),
    /// `load:VALUE->DST` (NXAST_REG_LOAD).
    Load {
        /// What to store, fitting `dst`.
        value: u128,
        /// Where to.
        dst: SubField,
    },
    /// `set_field:VALUE/MASK->FIELD`; `mask` all ones in the field's width without a mask.
    SetField {
        /// The field.
        field: FieldId,
        /// The value; no bit outside `mask`.
        value: u128,
        /// The bits to write.
        mask: u128,
    },
    /// `move:SRC->DST`, of equal width.
    Move {
        /// From.
        src: SubField,
        /// To.
        dst: SubField,
    },
    /// `push_mpls:ETHERTYPE` (0x8847 or 0x8848).
    PushMpls(u16),
    /// `pop_mpls:ETHERTYPE`: the EtherType of what remains.
    PopMpls(u16),
    /// `set_mpls_label`, 20 bits.
    SetMplsLabel(u32),
    /// `set_mpls_tc`, 3 bits.
    SetMplsTc(u8),
    /// `set_mpls_ttl`.
    SetMplsTtl(u8),
    /// `dec_mpls_ttl`.
    DecMplsTtl,
    /// `dec_ttl`, `dec_ttl(id,...)`: to the controllers with these ids on expiry (empty: id 0).
    DecTtl(Vec<u16>),
    /// `set_tunnel`, `set_tunnel64`.
    SetTunnel(u64),
    /// `resubmit(PORT,TABLE)`: `None` keeps the in_port, or the current table.
    Resubmit {
        /// In_port to pretend while looking up; `None` keeps it.
        port: Option<OfPort>,
        /// Table to look up; `None` is the current one.
        table: Option<TableId>,
    },
    /// `note:HEX`: nothing.
    Note(Vec<u8>),
    /// `exit`: ends the pipeline for the frame.
    Exit,
    /// `write_metadata:VALUE/MASK` (instruction).
    WriteMetadata {
        /// The value.
        value: u64,
        /// Bits to write.
        mask: u64,
    },
    /// `clear_actions` (instruction): empties the action set.
    ClearActions,
    /// `write_actions(...)` (instruction): merges into the action set.
    WriteActions(Vec<OfAction>),
    /// `goto_table:N` (instruction), last in a list.
    GotoTable(TableId),
}
