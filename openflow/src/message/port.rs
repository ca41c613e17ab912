//! Ports: descriptions, changes, statistics.

use flowtable::OfPort;
use std::time::Duration;

/// Settings of a port: bits of `ofp_port_config` as OpenFlow 1.0 numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortConfig(pub u32);

impl PortConfig {
    /// Administratively down.
    pub const PORT_DOWN: u32 = 1 << 0;
    /// No spanning tree (1.0).
    pub const NO_STP: u32 = 1 << 1;
    /// Drop what it receives.
    pub const NO_RECV: u32 = 1 << 2;
    /// Drop spanning tree frames it receives (1.0).
    pub const NO_RECV_STP: u32 = 1 << 3;
    /// Not a target of FLOOD (1.0).
    pub const NO_FLOOD: u32 = 1 << 4;
    /// Drop what is sent to it.
    pub const NO_FWD: u32 = 1 << 5;
    /// Send no packet-ins for it.
    pub const NO_PACKET_IN: u32 = 1 << 6;
    /// Those that OpenFlow 1.1 and later have too.
    pub const SINCE_1_1: u32 = Self::PORT_DOWN | Self::NO_RECV | Self::NO_FWD | Self::NO_PACKET_IN;

    /// Whether every bit of `flag` is set.
    pub const fn has(self, flag: u32) -> bool {
        self.0 & flag == flag
    }
}

/// State of a port: bits of `ofp_port_state` as OpenFlow 1.3 numbers them, spanning tree bits of 1.0 above.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PortState(pub u32);

impl PortState {
    /// No carrier.
    pub const LINK_DOWN: u32 = 1 << 0;
    /// Blocked (1.1 and later).
    pub const BLOCKED: u32 = 1 << 1;
    /// Good for fast failover (1.1 and later).
    pub const LIVE: u32 = 1 << 2;
    /// Two bits of spanning tree state (1.0).
    pub const STP_MASK: u32 = 3 << 8;
}

/// Link modes: bits of `ofp_port_features` as OpenFlow 1.1 and later number them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LinkModes(pub u32);

impl LinkModes {
    /// 10 Mb/s half duplex.
    pub const HD_10M: u32 = 1 << 0;
    /// 10 Mb/s full duplex.
    pub const FD_10M: u32 = 1 << 1;
    /// 100 Mb/s half duplex.
    pub const HD_100M: u32 = 1 << 2;
    /// 100 Mb/s full duplex.
    pub const FD_100M: u32 = 1 << 3;
    /// 1 Gb/s half duplex.
    pub const HD_1G: u32 = 1 << 4;
    /// 1 Gb/s full duplex.
    pub const FD_1G: u32 = 1 << 5;
    /// 10 Gb/s.
    pub const FD_10G: u32 = 1 << 6;
    /// 40 Gb/s (not in 1.0).
    pub const FD_40G: u32 = 1 << 7;
    /// 100 Gb/s (not in 1.0).
    pub const FD_100G: u32 = 1 << 8;
    /// 1 Tb/s (not in 1.0).
    pub const FD_1T: u32 = 1 << 9;
    /// Another rate (not in 1.0).
    pub const OTHER: u32 = 1 << 10;
    /// Copper.
    pub const COPPER: u32 = 1 << 11;
    /// Fibre.
    pub const FIBER: u32 = 1 << 12;
    /// Negotiates.
    pub const AUTONEG: u32 = 1 << 13;
    /// Pauses.
    pub const PAUSE: u32 = 1 << 14;
    /// Pauses one way.
    pub const PAUSE_ASYM: u32 = 1 << 15;
}

/// A port (`ofp_phy_port`, `ofp_port`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfPortDesc {
    /// Its number.
    pub port: OfPort,
    /// Its MAC address, 48 bits.
    pub hw_addr: u64,
    /// Its name; at most 15 bytes are sent, in OpenFlow 1.4's `ofp_port` too.
    pub name: String,
    /// Settings.
    pub config: PortConfig,
    /// State.
    pub state: PortState,
    /// What the link runs at.
    pub curr: LinkModes,
    /// What it advertises.
    pub advertised: LinkModes,
    /// What it could do.
    pub supported: LinkModes,
    /// What the other end advertises.
    pub peer: LinkModes,
    /// Rate now, kbit/s (1.1 and later).
    pub curr_speed_kbps: u32,
    /// Highest rate, kbit/s (1.1 and later).
    pub max_speed_kbps: u32,
}

/// What happened to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortStatusReason {
    /// It is new.
    Add,
    /// It is gone.
    Delete,
    /// Something about it changed.
    Modify,
}

/// OFPT_PORT_STATUS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortStatusReason,
    /// The port now, or as it last was.
    pub port: OfPortDesc,
}

/// OFPT_PORT_MOD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortMod {
    /// Which port.
    pub port: OfPort,
    /// Its MAC address, as a check.
    pub hw_addr: u64,
    /// Values of the settings in `mask`.
    pub config: PortConfig,
    /// Settings to change.
    pub mask: PortConfig,
    /// Link modes to advertise; none to leave them.
    pub advertise: LinkModes,
}

/// Statistics of a port (`ofp_port_stats`). A counter that is not known is `u64::MAX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfPortStats {
    /// Which port.
    pub port: OfPort,
    /// Frames received.
    pub rx_packets: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped on receipt.
    pub rx_dropped: u64,
    /// Frames dropped on sending.
    pub tx_dropped: u64,
    /// Receive errors, the following three included.
    pub rx_errors: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Misaligned frames.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// Checksum errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
    /// Time since the port was added (1.3 and later; `None` if not known).
    pub duration: Option<Duration>,
}

impl OfPortStats {
    /// Statistics of which nothing is known.
    pub const fn unknown(port: OfPort) -> OfPortStats {
        const NONE: u64 = u64::MAX;
        OfPortStats {
            port,
            rx_packets: NONE,
            tx_packets: NONE,
            rx_bytes: NONE,
            tx_bytes: NONE,
            rx_dropped: NONE,
            tx_dropped: NONE,
            rx_errors: NONE,
            tx_errors: NONE,
            rx_frame_err: NONE,
            rx_over_err: NONE,
            rx_crc_err: NONE,
            collisions: NONE,
            duration: None,
        }
    }
}

/// Description of a queue (`ofp_packet_queue`, `ofp_queue_desc`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueConfig {
    /// Of which port (1.1 and later; else that of the request).
    pub port: OfPort,
    /// Which queue.
    pub queue: u32,
    /// Guaranteed rate in 1/1000 of the port's.
    pub min_rate: Option<u16>,
    /// Highest rate in 1/1000 of the port's.
    pub max_rate: Option<u16>,
}
