//! Which OpenFlow is spoken: the version, and the settings of a connection that change how messages look.

use std::fmt;

/// A version of OpenFlow that this crate reads and writes. 1.1 and 1.2 are only known well enough to be refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OfVersion {
    /// OpenFlow 1.0, with Nicira extensions.
    V10,
    /// OpenFlow 1.3.
    V13,
    /// OpenFlow 1.4.
    V14,
    /// OpenFlow 1.5.
    V15,
}

impl OfVersion {
    /// Every version, the oldest first.
    pub const ALL: [OfVersion; 4] = [OfVersion::V10, OfVersion::V13, OfVersion::V14, OfVersion::V15];

    /// The version byte of message headers.
    pub const fn wire(self) -> u8 {
        match self {
            OfVersion::V10 => 1,
            OfVersion::V13 => 4,
            OfVersion::V14 => 5,
            OfVersion::V15 => 6,
        }
    }

    /// The version with this byte in headers, if it is spoken here.
    pub const fn from_wire(byte: u8) -> Option<OfVersion> {
        match byte {
            1 => Some(OfVersion::V10),
            4 => Some(OfVersion::V13),
            5 => Some(OfVersion::V14),
            6 => Some(OfVersion::V15),
            _ => None,
        }
    }

    /// Name as in `-O` options and the database: `OpenFlow13`.
    pub const fn name(self) -> &'static str {
        match self {
            OfVersion::V10 => "OpenFlow10",
            OfVersion::V13 => "OpenFlow13",
            OfVersion::V14 => "OpenFlow14",
            OfVersion::V15 => "OpenFlow15",
        }
    }

    /// The version with this name.
    pub fn from_name(name: &str) -> Option<OfVersion> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

impl fmt::Display for OfVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of versions: what one side offers in its HELLO (OpenFlow 1.3.5 §7.5.1, `OFPHET_VERSIONBITMAP`).
/// Bit n stands for version byte n, versions that are not spoken here included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OfVersions(pub u32);

impl OfVersions {
    /// Everything this crate speaks.
    pub const ALL: OfVersions = OfVersions(1 << 1 | 1 << 4 | 1 << 5 | 1 << 6);

    /// One version.
    pub const fn only(version: OfVersion) -> OfVersions {
        OfVersions(1 << version.wire())
    }

    /// Those of `list`.
    pub fn of(list: &[OfVersion]) -> OfVersions {
        OfVersions(list.iter().fold(0, |bits, v| bits | 1 << v.wire()))
    }

    /// Whether `version` is in the set.
    pub const fn contains(self, version: OfVersion) -> bool {
        self.0 & 1 << version.wire() != 0
    }

    /// The newest version in both sets that is spoken here.
    pub fn newest_common(self, other: OfVersions) -> Option<OfVersion> {
        OfVersion::ALL.into_iter().rev().find(|v| self.contains(*v) && other.contains(*v))
    }
}

/// How flow messages look in OpenFlow 1.0 (`NXT_SET_FLOW_FORMAT`). Later versions have one format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FlowFormat {
    /// OpenFlow 1.0's fixed match (`NXFF_OPENFLOW10`).
    #[default]
    OpenFlow10,
    /// Nicira's extensible match (`NXFF_NXM`).
    Nxm,
}

/// How packet-ins look (`NXT_SET_PACKET_IN_FORMAT`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PacketInFormat {
    /// The version's own (`NXPIF_STANDARD`).
    #[default]
    Standard,
    /// `NXT_PACKET_IN` (`NXPIF_NXT_PACKET_IN`).
    Nxt,
    /// `NXT_PACKET_IN2` (`NXPIF_NXT_PACKET_IN2`).
    Nxt2,
}

/// What both ends of a connection have agreed on about the form of messages. Argument of encoding and decoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dialect {
    /// The negotiated version.
    pub version: OfVersion,
    /// Flow messages sent in OpenFlow 1.0. Received ones say for themselves what they are.
    pub flow_format: FlowFormat,
    /// Packet-ins sent. Received ones say for themselves what they are.
    pub packet_in_format: PacketInFormat,
    /// Whether the upper half of an OpenFlow 1.0 flow_mod's command is a table number (`NXT_FLOW_MOD_TABLE_ID`).
    pub flow_mod_table_id: bool,
}

impl Dialect {
    /// What holds at the start of a connection.
    pub const fn new(version: OfVersion) -> Dialect {
        Dialect {
            version,
            flow_format: FlowFormat::OpenFlow10,
            packet_in_format: PacketInFormat::Standard,
            flow_mod_table_id: false,
        }
    }
}
