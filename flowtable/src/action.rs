//! OpenFlow actions and instructions as data. How they look on the wire is `openflow`'s business, how in text `text`'s,
//! what they do `switch`'s.
//!
//! An action that is not listed here is not built: on the wire it is answered with OpenFlow's bad-action error, in text
//! with an error that names it.

use crate::ct::CtAction;
use crate::field::FieldId;
use crate::group::GroupId;
use crate::meter::MeterId;
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
    /// `ct(...)`: to the connection tracker (NXAST_CT).
    Ct(Box<CtAction>),
    /// `ct_clear`: the packet is as if it had not been tracked (NXAST_CT_CLEAR).
    CtClear,
    /// `group:N`: what the group says.
    Group(GroupId),
    /// `meter:N`: an instruction in OpenFlow 1.3 and 1.4, an action in 1.5. Always the first of a list.
    Meter(MeterId),
    /// `clone(...)`: carried out on a copy, pipeline fields and all (NXAST_CLONE).
    Clone(Vec<OfAction>),
    /// `check_pkt_larger(LEN)->DST`: whether the frame is longer (NXAST_CHECK_PKT_LARGER).
    CheckPktLarger {
        /// Bytes, from the Ethernet header on.
        len: u16,
        /// One bit for the answer.
        dst: SubField,
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

/// Most lists of actions within one another, such as `clone(clone(...))`.
pub const NESTING_MAX: usize = 16;

impl OfAction {
    /// The name that ovs-actions(7) gives it.
    pub const fn name(&self) -> &'static str {
        use OfAction as A;
        match self {
            A::Output { .. } | A::OutputTrunc { .. } => "output",
            A::OutputReg { .. } => "output_reg",
            A::Controller { .. } => "controller",
            A::Enqueue { .. } => "enqueue",
            A::SetVlanVid(_) => "mod_vlan_vid",
            A::SetVlanPcp(_) => "mod_vlan_pcp",
            A::PopVlan => "strip_vlan",
            A::PushVlan(_) => "push_vlan",
            A::SetDlSrc(_) => "mod_dl_src",
            A::SetDlDst(_) => "mod_dl_dst",
            A::SetNwSrc(_) => "mod_nw_src",
            A::SetNwDst(_) => "mod_nw_dst",
            A::SetNwTos(_) => "mod_nw_tos",
            A::SetNwEcn(_) => "mod_nw_ecn",
            A::SetNwTtl(_) => "mod_nw_ttl",
            A::SetTpSrc(_) => "mod_tp_src",
            A::SetTpDst(_) => "mod_tp_dst",
            A::Load { .. } | A::SetField { .. } => "set_field",
            A::Move { .. } => "move",
            A::PushMpls(_) => "push_mpls",
            A::PopMpls(_) => "pop_mpls",
            A::SetMplsLabel(_) => "set_mpls_label",
            A::SetMplsTc(_) => "set_mpls_tc",
            A::SetMplsTtl(_) => "set_mpls_ttl",
            A::DecMplsTtl => "dec_mpls_ttl",
            A::DecTtl(_) => "dec_ttl",
            A::SetTunnel(_) => "set_tunnel",
            A::Resubmit { .. } => "resubmit",
            A::Ct(_) => "ct",
            A::CtClear => "ct_clear",
            A::Group(_) => "group",
            A::Meter(_) => "meter",
            A::Clone(_) => "clone",
            A::CheckPktLarger { .. } => "check_pkt_larger",
            A::Note(_) => "note",
            A::Exit => "exit",
            A::WriteMetadata { .. } => "write_metadata",
            A::ClearActions => "clear_actions",
            A::WriteActions(_) => "write_actions",
            A::GotoTable(_) => "goto_table",
        }
    }

    /// Whether it is an instruction in OpenFlow 1.1 and later, which stands in a rule's own list only. Meters are
    /// instructions in some versions only and not counted here.
    pub const fn is_instruction(&self) -> bool {
        use OfAction as A;
        matches!(self, A::WriteMetadata { .. } | A::ClearActions | A::WriteActions(_) | A::GotoTable(_))
    }

    /// The actions within it: of a set, a clone, or what a `ct` executes.
    pub fn inner(&self) -> &[OfAction] {
        match self {
            OfAction::WriteActions(list) | OfAction::Clone(list) => list,
            OfAction::Ct(ct) => &ct.exec,
            _ => &[],
        }
    }
}
