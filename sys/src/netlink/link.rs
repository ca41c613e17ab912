//! What a link is, and what can be changed about it.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State, Stats64,
};

use crate::interface::{IfIndex, IfName};
use crate::netns::Netns;

/// Whether somebody switched a link on (`ip link set up`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    /// Switched on.
    Up,
    /// Switched off.
    Down,
}

/// Whether a link can carry packets (RFC 2863 `ifOperStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not say; as good as up when the link is running.
    Unknown,
    /// It carries packets.
    Up,
    /// It does not.
    Down,
    /// The device below it does not.
    LowerLayerDown,
    /// It waits for something, such as authentication.
    Dormant,
    /// It is being tested.
    Testing,
    /// Parts of it are missing.
    NotPresent,
}

/// Counters of a link since it was made. Names are the kernel's: a TAP's `rx` is what we wrote to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of `struct rtnl_link_stats64`")]
pub struct LinkStats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_missed_errors: u64,
}

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, which it keeps when renamed.
    pub index: IfIndex,
    /// Its name.
    pub name: IfName,
    /// Its MAC address, if it is an Ethernet-like device (or loopback).
    pub mac: Option<[u8; 6]>,
    /// The longest packet it takes, without the Ethernet header, in bytes.
    pub mtu: u32,
    /// Bounds of the MTU as far as the driver names them; 0 for none.
    pub mtu_min: u32,
    /// See `mtu_min`.
    pub mtu_max: u32,
    /// Switched on or off.
    pub admin: AdminState,
    /// Whether it can carry packets.
    pub oper: OperState,
    /// Whether there is a carrier (for a TAP: a queue is open; for a veth: the other end is up).
    pub carrier: bool,
    /// Whether it is promiscuous.
    pub promiscuous: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// What `ip link` calls its type: `tun`, `veth`, `bridge` …; empty for real hardware and loopback.
    pub kind: String,
    /// The bridge or bond it belongs to.
    pub controller: Option<IfIndex>,
    /// Text that somebody has put on it (`ip link set … alias`); empty without.
    pub alias: String,
    /// How often the carrier came or went.
    pub carrier_changes: u32,
    /// Its counters.
    pub stats: LinkStats,
}

impl Link {
    /// Whether packets can pass: switched on, with a carrier, and not known to be down.
    pub fn is_running(&self) -> bool {
        self.admin == AdminState::Up
            && self.carrier
            && matches!(self.oper, OperState::Up | OperState::Unknown)
    }
}

/// Changes to a link that go to the kernel in one message.
#[derive(Debug, Default)]
pub struct LinkChange<'a> {
    admin: Option<AdminState>,
    mtu: Option<u32>,
    mac: Option<[u8; 6]>,
    name: Option<IfName>,
    netns: Option<&'a Netns>,
    queue_length: Option<u32>,
    controller: Option<Option<IfIndex>>,
    alias: Option<String>,
    gro_max: Option<u32>,
}

impl<'a> LinkChange<'a> {
    /// Switch it on or off.
    pub fn admin(self, state: AdminState) -> Self {
        Self { admin: Some(state), ..self }
    }

    /// Set the MTU, in bytes without the Ethernet header.
    pub fn mtu(self, mtu: u32) -> Self {
        Self { mtu: Some(mtu), ..self }
    }

    /// Set the MAC address.
    pub fn mac(self, mac: [u8; 6]) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// Rename it. Kernels before 6.4 or so refuse while it is up.
    pub fn name(self, name: IfName) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Move it to another namespace, where the other changes of this message are made; the link is switched off by this.
    pub fn netns(self, netns: &'a Netns) -> Self {
        Self { netns: Some(netns), ..self }
    }

    /// Set how many packets may wait to be sent (for a TAP: to be read by us).
    pub fn queue_length(self, packets: u32) -> Self {
        Self { queue_length: Some(packets), ..self }
    }

    /// Put a text on it, by which it can be known again whatever it is called and wherever it is moved.
    pub fn alias(self, text: &str) -> Self {
        Self { alias: Some(text.to_owned()), ..self }
    }

    /// Have the kernel join received TCP segments to packets shorter than so many bytes (`gro_max_size` of ip-link(8), of both
    /// families up to 65,536).
    pub fn gro_max(self, bytes: u32) -> Self {
        Self { gro_max: Some(bytes), ..self }
    }

    /// Make it a port of a kernel bridge, or of none.
    pub fn controller(self, controller: Option<IfIndex>) -> Self {
        Self { controller: Some(controller), ..self }
    }

    pub(super) fn write(&self, message: &mut LinkMessage) {
        if let Some(state) = self.admin {
            super::set_admin(message, state);
        }
        let attributes = &mut message.attributes;
        attributes.extend(self.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())));
        attributes.extend(self.name.map(|name| LinkAttribute::IfName(name.as_str().to_owned())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        attributes.extend(self.queue_length.map(LinkAttribute::TxQueueLen));
        attributes.extend(self.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(self.gro_max.map(LinkAttribute::GroMaxSize));
        attributes
            .extend(self.controller.map(|index| LinkAttribute::Controller(index.map_or(0, IfIndex::get))));
    }
}

/// `None` for a message without what every link has, which the kernel does not send.
pub(super) fn decode(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut name = None;
    let mut link = Link {
        index: IfIndex::new(message.header.index)?,
        name: IfName::new("unnamed").ok()?,
        mac: None,
        mtu: 0,
        mtu_min: 0,
        mtu_max: 0,
        admin: if flags.contains(LinkFlags::Up) { AdminState::Up } else { AdminState::Down },
        oper: OperState::Unknown,
        carrier: flags.contains(LinkFlags::LowerUp),
        promiscuous: flags.contains(LinkFlags::Promisc),
        loopback: message.header.link_layer_type == LinkLayerType::Loopback,
        kind: String::new(),
        controller: None,
        alias: String::new(),
        carrier_changes: 0,
        stats: LinkStats::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = IfName::new(text).ok(),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::MinMtu(mtu) => link.mtu_min = *mtu,
            LinkAttribute::MaxMtu(mtu) => link.mtu_max = *mtu,
            LinkAttribute::OperState(state) => link.oper = oper(*state),
            LinkAttribute::Controller(index) => link.controller = IfIndex::new(*index),
            LinkAttribute::IfAlias(text) => link.alias = text.clone(),
            LinkAttribute::CarrierChanges(count) => link.carrier_changes = *count,
            LinkAttribute::Stats64(stats) => link.stats = counters(stats),
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
                link.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    link.name = name?;
    Some(link)
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn oper(state: State) -> OperState {
    match state {
        State::Up => OperState::Up,
        State::Down => OperState::Down,
        State::LowerLayerDown => OperState::LowerLayerDown,
        State::Dormant => OperState::Dormant,
        State::Testing => OperState::Testing,
        State::NotPresent => OperState::NotPresent,
        _ => OperState::Unknown,
    }
}

fn counters(stats: &Stats64) -> LinkStats {
    LinkStats {
        rx_packets: stats.rx_packets,
        tx_packets: stats.tx_packets,
        rx_bytes: stats.rx_bytes,
        tx_bytes: stats.tx_bytes,
        rx_errors: stats.rx_errors,
        tx_errors: stats.tx_errors,
        rx_dropped: stats.rx_dropped,
        tx_dropped: stats.tx_dropped,
        multicast: stats.multicast,
        collisions: stats.collisions,
        rx_over_errors: stats.rx_over_errors,
        rx_crc_errors: stats.rx_crc_errors,
        rx_frame_errors: stats.rx_frame_errors,
        rx_missed_errors: stats.rx_missed_errors,
    }
}
