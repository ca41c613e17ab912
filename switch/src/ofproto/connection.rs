//! What the switch remembers of one OpenFlow connection: its role, what it wants to hear of, its open bundles and flow
//! monitors. Bytes, versions and formats are the session's (`openflow`), sockets the daemon's.

use base::Instant;
use flowtable::table::Tables;
use openflow::OfVersion;
use openflow::message::{AsyncClass, AsyncConfig, Audience, BundleFlags, FlowMonitor, Message, Role, Xid};
use std::collections::BTreeMap;
use std::time::Duration;

/// Names a connection for as long as the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnKind {
    /// A controller that the switch was told to connect to. It hears of everything from the start.
    Primary,
    /// Somebody who connected, such as ovs-ofctl. It hears of nothing until it asks (by a `miss_send_len` that is not 0).
    Service,
}

/// Most bundles that a connection may have open at once.
pub const BUNDLES_MAX: usize = 64;
/// Most messages in one bundle.
pub const BUNDLE_MESSAGES_MAX: usize = 65_536;
/// Most memory for the messages in all bundles of a connection, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 256 << 20;
/// How long a bundle may lie untouched (OpenFlow 1.4 §7.3.9; OVS's `bundle-idle-timeout`).
pub const BUNDLE_IDLE_MAX: Duration = Duration::from_secs(10);
/// Most flow monitors of one connection.
pub const MONITORS_MAX: usize = 1_024;
/// Bytes of a frame sent on a table miss unless the controller says otherwise (OpenFlow 1.0 §5.3.2).
pub const MISS_SEND_LEN_DEFAULT: u16 = 128;

/// An open bundle (OpenFlow 1.4 §7.3.9).
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Flags it was opened with.
    pub flags: BundleFlags,
    /// No message may be added any more.
    pub closed: bool,
    /// Its messages, each with what an error about it has to quote.
    pub messages: Vec<(Xid, Message, Vec<u8>)>,
    /// Memory that they take, about, in bytes.
    pub bytes: usize,
    /// When something was last done with it.
    pub touched: Instant,
}

impl Bundle {
    /// A new one.
    pub fn new(flags: BundleFlags, now: Instant) -> Bundle {
        Bundle { flags, closed: false, messages: Vec::new(), bytes: 0, touched: now }
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub struct OfConnection {
    /// Name.
    pub id: ConnId,
    /// The bridge it is about.
    pub bridge: String,
    /// What it is for.
    pub kind: ConnKind,
    /// Version that was negotiated.
    pub version: OfVersion,
    /// Role (OpenFlow 1.3.5 §6.3.5).
    pub role: Role,
    /// What it hears of.
    pub wants: AsyncConfig,
    /// Bytes of a frame sent on a miss; 0 stops misses for connections of kind `Service`.
    pub miss_send_len: u16,
    /// Frames whose TTL expires go to this controller.
    pub invalid_ttl: bool,
    /// Id that `controller(id=N)` names (NXT_SET_CONTROLLER_ID).
    pub controller_id: u16,
    /// Open bundles by id.
    pub bundles: BTreeMap<u32, Bundle>,
    /// Flow monitors by id.
    pub monitors: BTreeMap<u32, FlowMonitor>,
    /// What monitors are behind with, while the connection does not take its messages.
    pub backlog: Option<Backlog>,
}

/// What flow monitors are not told as yet: what the rules of now differ in from those of then. However much happens, that is
/// at most all rules then and all now.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// The rules when they were told of all.
    pub rules: Tables,
    /// Whether they were told that they miss something.
    pub is_paused: bool,
}

impl OfConnection {
    /// A connection whose version has just been negotiated.
    pub fn new(id: ConnId, bridge: &str, kind: ConnKind, version: OfVersion) -> OfConnection {
        OfConnection {
            id,
            bridge: bridge.to_owned(),
            kind,
            version,
            role: Role::Equal,
            wants: AsyncConfig::default(),
            miss_send_len: match kind {
                ConnKind::Primary => MISS_SEND_LEN_DEFAULT,
                ConnKind::Service => 0,
            },
            invalid_ttl: false,
            controller_id: 0,
            bundles: BTreeMap::new(),
            monitors: BTreeMap::new(),
            backlog: None,
        }
    }

    /// Whether it is told of an event of this class with this reason (a bit number).
    pub fn hears(&self, class: AsyncClass, reason: u32) -> bool {
        if self.kind == ConnKind::Service && self.miss_send_len == 0 {
            return false;
        }
        let audience = if self.role == Role::Secondary { Audience::Secondary } else { Audience::Primary };
        // Since 1.3 a controller asks for invalid-TTL frames by the reason; before that by a flag of SET_CONFIG.
        let by_flag = class == AsyncClass::PacketIn && reason == 2 && self.invalid_ttl;
        by_flag || self.wants.reasons(class, audience) & 1 << reason != 0
    }

    /// When its oldest bundle has been left alone for too long.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.bundles.values().map(|b| b.touched + BUNDLE_IDLE_MAX).min()
    }

    /// Whether it may change the switch.
    pub fn may_write(&self) -> bool {
        self.role != Role::Secondary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(kind: ConnKind) -> OfConnection {
        OfConnection::new(ConnId(1), "br0", kind, OfVersion::V10)
    }

    #[test]
    fn service_connections_hear_nothing_until_they_ask() {
        let mut c = conn(ConnKind::Service);
        assert!(!c.hears(AsyncClass::PacketIn, 0));
        c.miss_send_len = 65_535;
        assert!(c.hears(AsyncClass::PacketIn, 0) && c.hears(AsyncClass::PortStatus, 0));
        assert!(!c.hears(AsyncClass::PacketIn, 2), "invalid TTL has to be asked for");
        c.invalid_ttl = true;
        assert!(c.hears(AsyncClass::PacketIn, 2));
    }

    #[test]
    fn secondaries_hear_of_ports_only_and_may_not_write() {
        let mut c = conn(ConnKind::Primary);
        assert!(c.hears(AsyncClass::FlowRemoved, 0) && c.may_write());
        c.role = Role::Secondary;
        assert!(c.hears(AsyncClass::PortStatus, 2));
        assert!(!c.hears(AsyncClass::PacketIn, 1) && !c.hears(AsyncClass::FlowRemoved, 0) && !c.may_write());
    }
}
