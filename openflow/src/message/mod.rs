//! OpenFlow messages as data, the same for every version. How they look on the wire is `codec`'s business; what they do
//! is the switch's.
//!
//! A field that some version cannot carry is left out when written to it and reads as its documented default; where that
//! would change what the message means, writing it is an error (`codec::EncodeError`).

mod connection;
mod conntrack;
mod flow;
mod group;
mod meter;
mod monitor;
mod packet;
mod port;
mod statistics;
mod table;

pub use connection::*;
pub use conntrack::*;
pub use flow::*;
pub use group::*;
pub use meter::*;
pub use monitor::*;
pub use packet::*;
pub use port::*;
pub use statistics::*;
pub use table::*;

/// Transaction id: an answer repeats that of its request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Xid(pub u32);

/// One OpenFlow message without its header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Message {
    /// Start of a connection. The session deals with it.
    Hello(Hello),
    /// A refusal.
    Error(ErrorMessage),
    /// Asks for an `EchoReply` with the same bytes. The session answers it.
    EchoRequest(Vec<u8>),
    /// Answer to `EchoRequest`.
    EchoReply(Vec<u8>),
    /// Asks what the switch is.
    FeaturesRequest,
    /// Answer to `FeaturesRequest`.
    FeaturesReply(SwitchFeatures),
    /// Asks for the switch's settings.
    GetConfigRequest,
    /// Answer to `GetConfigRequest`.
    GetConfigReply(SwitchConfig),
    /// Changes the switch's settings.
    SetConfig(SwitchConfig),
    /// A frame for the controller.
    PacketIn(PacketIn),
    /// A frame from the controller.
    PacketOut(PacketOut),
    /// A rule is gone.
    FlowRemoved(FlowRemoved),
    /// A port was added, removed or changed.
    PortStatus(PortStatus),
    /// Changes rules. `OFPT_FLOW_MOD`, `NXT_FLOW_MOD`.
    FlowMod(FlowMod),
    /// Changes groups. `OFPT_GROUP_MOD`, `NXT_GROUP_MOD`.
    GroupMod(flowtable::group::GroupMod),
    /// Changes a port's settings.
    PortMod(PortMod),
    /// Changes a table's settings.
    TableMod(TableMod),
    /// Changes meters (OpenFlow 1.3 and later).
    MeterMod(flowtable::meter::MeterMod),
    /// Asks for an answer after everything before it is done.
    BarrierRequest,
    /// Answer to `BarrierRequest`.
    BarrierReply,
    /// Asks for the queues of a port (OpenFlow 1.0 and 1.3).
    QueueGetConfigRequest(flowtable::OfPort),
    /// Answer to `QueueGetConfigRequest`: the port asked for and its queues.
    QueueGetConfigReply(flowtable::OfPort, Vec<QueueConfig>),
    /// Asks for a role. `OFPT_ROLE_REQUEST`, `NXT_ROLE_REQUEST`.
    RoleRequest(RoleMessage),
    /// Answer to `RoleRequest`.
    RoleReply(RoleMessage),
    /// The switch changed this controller's role (OpenFlow 1.4 and later).
    RoleStatus(RoleStatus),
    /// Chooses asynchronous messages. `OFPT_SET_ASYNC`, `NXT_SET_ASYNC_CONFIG`.
    SetAsync(Vec<AsyncChange>),
    /// Asks which asynchronous messages are chosen (OpenFlow 1.3 and later).
    GetAsyncRequest,
    /// Answer to `GetAsyncRequest`.
    GetAsyncReply(AsyncConfig),
    /// Opens, closes, commits or discards a bundle, or says that it was done.
    BundleControl(BundleControl),
    /// Puts a message into a bundle.
    BundleAdd(BundleAdd),
    /// `NXT_FLOW_MOD_TABLE_ID`: see [`Dialect::flow_mod_table_id`](crate::Dialect::flow_mod_table_id).
    FlowModTableId(bool),
    /// `NXT_SET_FLOW_FORMAT`.
    SetFlowFormat(crate::FlowFormat),
    /// `NXT_SET_PACKET_IN_FORMAT`.
    SetPacketInFormat(crate::PacketInFormat),
    /// `NXT_SET_CONTROLLER_ID`: the id that `controller(id=...)` actions name this connection by.
    SetControllerId(u16),
    /// `NXT_FLOW_AGE`: no effect in OVS since long; refused.
    FlowAge,
    /// Ends a flow monitor. `NXT_FLOW_MONITOR_CANCEL` and ONF's.
    FlowMonitorCancel(u32),
    /// `NXT_FLOW_MONITOR_PAUSED` and ONF's: updates were dropped.
    FlowMonitorPaused,
    /// `NXT_FLOW_MONITOR_RESUMED` and ONF's: updates go on.
    FlowMonitorResumed,
    /// `NXT_CT_FLUSH_ZONE`: forgets the connections of a zone.
    CtFlushZone(u16),
    /// `NXT_CT_FLUSH`: forgets connections by what they are.
    CtFlush(CtFlush),
    /// `NXT_TLV_TABLE_MOD`: changes the map of Geneve options.
    TlvTableMod(TlvTableMod),
    /// `NXT_TLV_TABLE_REQUEST`: asks for the map of Geneve options.
    TlvTableRequest,
    /// Answer to `TlvTableRequest`.
    TlvTableReply(TlvTableReply),
    /// `NXT_RESUME`: a packet that a `controller(pause)` action held goes on. The body is kept undecoded; the switch
    /// answers [`OfError::NxNotSupported`](crate::OfError::NxNotSupported).
    Resume(Vec<u8>),
    /// Asks for statistics or descriptions. `OFPT_STATS_REQUEST` in OpenFlow 1.0.
    MultipartRequest(MultipartRequest),
    /// (A part of) the answer to a `MultipartRequest`.
    MultipartReply {
        /// Whether further parts follow with the same xid. Encoding splits a reply that is too long for one message
        /// by itself, with this flag on all but the last part (which has what is given here).
        more: bool,
        /// What it says.
        reply: MultipartReply,
    },
}

impl Message {
    /// Whether controllers send it to switches; the others are refused by a switch with `OFPBRC_BAD_TYPE`.
    pub fn is_for_switch(&self) -> bool {
        use Message as M;
        !matches!(
            self,
            M::FeaturesReply(_)
                | M::GetConfigReply(_)
                | M::PacketIn(_)
                | M::FlowRemoved(_)
                | M::PortStatus(_)
                | M::BarrierReply
                | M::QueueGetConfigReply(..)
                | M::RoleReply(_)
                | M::RoleStatus(_)
                | M::GetAsyncReply(_)
                | M::FlowMonitorPaused
                | M::FlowMonitorResumed
                | M::TlvTableReply(_)
                | M::MultipartReply { .. }
        )
    }
}
