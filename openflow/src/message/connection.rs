//! Messages about the connection and the switch as a whole.

use super::{Message, OfPortDesc, Xid};
use crate::error::{ErrorNumber, OfError};
use crate::version::OfVersions;

/// OFPT_HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Versions offered; without a version bitmap all up to the header's.
    pub versions: OfVersions,
}

/// Which error: one we know, or a number that we do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    /// A known one.
    Known(OfError),
    /// The number of one that this crate has no name for.
    Unknown(ErrorNumber),
}

impl From<OfError> for ErrorCode {
    fn from(error: OfError) -> Self {
        ErrorCode::Known(error)
    }
}

/// OFPT_ERROR (OpenFlow 1.5.1 §7.5.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorMessage {
    /// What is wrong.
    pub code: ErrorCode,
    /// The refused message from its header on, at least 64 bytes of it if it has them; for a failed HELLO a text.
    pub data: Vec<u8>,
}

/// What a switch can do: bits of `ofp_capabilities` of every version, those of one version only in that alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Statistics of rules.
    pub const FLOW_STATS: u32 = 1 << 0;
    /// Statistics of tables.
    pub const TABLE_STATS: u32 = 1 << 1;
    /// Statistics of ports.
    pub const PORT_STATS: u32 = 1 << 2;
    /// Statistics of groups (1.1 and later).
    pub const GROUP_STATS: u32 = 1 << 3;
    /// Reassembles fragments.
    pub const IP_REASM: u32 = 1 << 5;
    /// Statistics of queues.
    pub const QUEUE_STATS: u32 = 1 << 6;
    /// Matches addresses in ARP (1.0).
    pub const ARP_MATCH_IP: u32 = 1 << 7;
    /// Blocks looping ports (1.1 and later).
    pub const PORT_BLOCKED: u32 = 1 << 8;
    /// Bundles (1.4 and later).
    pub const BUNDLES: u32 = 1 << 9;
    /// Flow monitors (1.4 and later).
    pub const FLOW_MONITORING: u32 = 1 << 10;
    /// 802.1D spanning tree (1.0), which has the wire bit of `GROUP_STATS` there.
    pub const STP: u32 = 1 << 31;
}

/// OFPT_FEATURES_REPLY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchFeatures {
    /// The bridge's datapath id.
    pub datapath_id: u64,
    /// Frames that can be buffered; 0 here.
    pub n_buffers: u32,
    /// Number of tables.
    pub n_tables: u8,
    /// Number of this connection among those of one controller; 0 is the main one (1.3 and later).
    pub auxiliary_id: u8,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Supported actions as bits by OpenFlow 1.0 action type (1.0 only).
    pub actions: u32,
    /// Ports (1.0 only; later versions ask with `MultipartRequest::PortDesc`).
    pub ports: Vec<OfPortDesc>,
}

/// What becomes of IP fragments (`ofp_config_flags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FragmentHandling {
    /// Looked up with transport ports 0.
    #[default]
    Normal,
    /// Dropped.
    Drop,
    /// Reassembled.
    Reassemble,
    /// First fragments are looked up with their ports (Nicira).
    NxMatch,
}

/// Settings of OFPT_GET_CONFIG_REPLY and OFPT_SET_CONFIG.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwitchConfig {
    /// What becomes of IP fragments.
    pub fragments: FragmentHandling,
    /// Whether packets with an expired TTL go to the controller (flag of OpenFlow 1.0 to 1.2 only, else false).
    pub invalid_ttl_to_controller: bool,
    /// Bytes of a frame sent to the controller on a table miss; 0xffff for all.
    pub miss_send_len: u16,
}

/// A controller's role (`ofp_controller_role`; the standard's master and slave).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Asks for the present role.
    NoChange,
    /// Full rights, like the others (`other` in Nicira's extension).
    Equal,
    /// Full rights, the only such.
    Primary,
    /// May only read.
    Secondary,
}

/// Role request and reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleMessage {
    /// The role.
    pub role: Role,
    /// Order among primaries (1.2 and later; a reply carries it if there was one). `None` in OpenFlow 1.0.
    pub generation_id: Option<u64>,
}

/// Why the switch changed a role (OpenFlow 1.4 §7.4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleReason {
    /// Another controller asked to be the primary.
    PrimaryRequest,
    /// The configuration changed.
    Config,
    /// Experimenter data.
    Experimenter,
}

/// OFPT_ROLE_STATUS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleStatus {
    /// The new role.
    pub role: Role,
    /// Why.
    pub reason: RoleReason,
    /// Generation id; `None` for undefined.
    pub generation_id: Option<u64>,
}

/// Kinds of messages that a switch sends unasked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AsyncClass {
    /// Packet-ins; bits by reason as OpenFlow 1.4 numbers them.
    PacketIn,
    /// Port status; bits: add, delete, modify.
    PortStatus,
    /// Flow removed; bits by [`FlowRemovedReason`](super::FlowRemovedReason) number.
    FlowRemoved,
    /// Role status (1.4 and later).
    RoleStatus,
    /// Table status (1.4 and later).
    TableStatus,
    /// Forwarded requests (1.4 and later).
    RequestForward,
}

impl AsyncClass {
    /// Every class.
    pub const ALL: [AsyncClass; 6] = [
        AsyncClass::PacketIn,
        AsyncClass::PortStatus,
        AsyncClass::FlowRemoved,
        AsyncClass::RoleStatus,
        AsyncClass::TableStatus,
        AsyncClass::RequestForward,
    ];
}

/// Which role a mask of asynchronous messages is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Audience {
    /// Primary and equal controllers.
    Primary,
    /// Secondary controllers.
    Secondary,
}

/// One changed mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncChange {
    /// Of which messages.
    pub class: AsyncClass,
    /// In which role.
    pub audience: Audience,
    /// Reasons wanted: bit n for the reason numbered n.
    pub reasons: u32,
}

/// All masks of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncConfig {
    primary: [u32; 6],
    secondary: [u32; 6],
}

impl Default for AsyncConfig {
    /// What OVS sets for a new controller: everything that has no `invalid_ttl` to primaries, port status to
    /// secondaries.
    fn default() -> Self {
        let packet_in = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5;
        AsyncConfig {
            primary: [packet_in, 0b111, 0b11_1111, 0b111, 0, 0],
            secondary: [0, 0b111, 0, 0b111, 0, 0],
        }
    }
}

impl AsyncConfig {
    /// Nothing is sent.
    pub const fn none() -> AsyncConfig {
        AsyncConfig { primary: [0; 6], secondary: [0; 6] }
    }

    /// Reasons wanted.
    pub fn reasons(&self, class: AsyncClass, audience: Audience) -> u32 {
        let row = match audience {
            Audience::Primary => &self.primary,
            Audience::Secondary => &self.secondary,
        };
        row.get(class as usize).copied().unwrap_or(0)
    }

    /// Changes masks.
    pub fn apply(&mut self, changes: &[AsyncChange]) {
        for change in changes {
            let row = match change.audience {
                Audience::Primary => &mut self.primary,
                Audience::Secondary => &mut self.secondary,
            };
            if let Some(mask) = row.get_mut(change.class as usize) {
                *mask = change.reasons;
            }
        }
    }

    /// Every mask.
    pub fn changes(&self) -> impl Iterator<Item = AsyncChange> + '_ {
        AsyncClass::ALL.into_iter().flat_map(|class| {
            [Audience::Primary, Audience::Secondary].map(|audience| AsyncChange {
                class,
                audience,
                reasons: self.reasons(class, audience),
            })
        })
    }
}

/// What a bundle control message asks or reports (`ofp_bundle_ctrl_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BundleControlKind {
    /// Open a bundle.
    OpenRequest,
    /// It is open.
    OpenReply,
    /// Close it: no more messages.
    CloseRequest,
    /// It is closed.
    CloseReply,
    /// Apply it.
    CommitRequest,
    /// It is applied.
    CommitReply,
    /// Throw it away.
    DiscardRequest,
    /// It is gone.
    DiscardReply,
}

/// Flags of a bundle: [`BUNDLE_ATOMIC`], [`BUNDLE_ORDERED`].
pub type BundleFlags = u16;
/// All or nothing, for readers of the tables too.
pub const BUNDLE_ATOMIC: BundleFlags = 1;
/// Messages are applied in order.
pub const BUNDLE_ORDERED: BundleFlags = 2;

/// OFPT_BUNDLE_CONTROL; in OpenFlow 1.3 ONF's extension 230.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BundleControl {
    /// The bundle, unique on the connection.
    pub bundle: u32,
    /// What.
    pub kind: BundleControlKind,
    /// How it is to be applied.
    pub flags: BundleFlags,
}

/// OFPT_BUNDLE_ADD_MESSAGE; in OpenFlow 1.3 ONF's extension 230.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleAdd {
    /// The bundle.
    pub bundle: u32,
    /// How it is to be applied.
    pub flags: BundleFlags,
    /// Xid of the message within, by rights that of this one.
    pub xid: Xid,
    /// The message: FLOW_MOD, GROUP_MOD, PORT_MOD, PACKET_OUT.
    pub message: Box<Message>,
    /// The bytes of the message within, as far as an error message quotes them; empty when it is to be sent.
    pub quote: Vec<u8>,
}

/// One Geneve option's place in `tun_metadata`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlvMapping {
    /// `option_class`.
    pub class: u16,
    /// `option_type`.
    pub kind: u8,
    /// Length of the data in bytes: 4 to 124, a multiple of 4.
    pub len: u8,
    /// Index of the `tun_metadata` field.
    pub index: u16,
}

/// What a TLV_TABLE_MOD does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlvTableCommand {
    /// Adds mappings.
    Add,
    /// Removes mappings.
    Delete,
    /// Removes every mapping.
    Clear,
}

/// NXT_TLV_TABLE_MOD.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlvTableMod {
    /// What to do.
    pub command: TlvTableCommand,
    /// With these.
    pub mappings: Vec<TlvMapping>,
}

/// NXT_TLV_TABLE_REPLY.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlvTableReply {
    /// Bytes of option data that all mappings may have together.
    pub max_option_space: u32,
    /// Number of `tun_metadata` fields.
    pub max_fields: u16,
    /// The mappings.
    pub mappings: Vec<TlvMapping>,
}
