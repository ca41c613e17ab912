//! OpenFlow port numbers.

use std::fmt;

/// A port number within one bridge, as OpenFlow 1.1 and later write it: 32 bits with the reserved ports at the top.
/// The 16-bit numbers of OpenFlow 1.0 map to and from it (OpenFlow 1.1 §A.2.1; OVS keeps 1.0's limit 0xff00 for real ports).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OfPort(pub u32);

impl OfPort {
    /// Highest number of a real port, in every OpenFlow version (OVS's limit): `ofport_request` goes to 65279.
    pub const MAX: OfPort = OfPort(0xfeff);
    /// "Not set", in the action set output field.
    pub const UNSET: OfPort = OfPort(0xffff_fff7);
    /// The ingress port; the only way to send a frame back where it came from.
    pub const IN_PORT: OfPort = OfPort(0xffff_fff8);
    /// Through the tables, in packet-outs only.
    pub const TABLE: OfPort = OfPort(0xffff_fff9);
    /// Conventional L2 learning switch.
    pub const NORMAL: OfPort = OfPort(0xffff_fffa);
    /// All ports but the ingress and those with flooding disabled.
    pub const FLOOD: OfPort = OfPort(0xffff_fffb);
    /// All ports but the ingress.
    pub const ALL: OfPort = OfPort(0xffff_fffc);
    /// The controller.
    pub const CONTROLLER: OfPort = OfPort(0xffff_fffd);
    /// The bridge's own port.
    pub const LOCAL: OfPort = OfPort(0xffff_fffe);
    /// Any or no port.
    pub const ANY: OfPort = OfPort(0xffff_ffff);

    const RESERVED: [(OfPort, &'static str); 9] = [
        (OfPort::UNSET, "UNSET"),
        (OfPort::IN_PORT, "IN_PORT"),
        (OfPort::TABLE, "TABLE"),
        (OfPort::NORMAL, "NORMAL"),
        (OfPort::FLOOD, "FLOOD"),
        (OfPort::ALL, "ALL"),
        (OfPort::CONTROLLER, "CONTROLLER"),
        (OfPort::LOCAL, "LOCAL"),
        (OfPort::ANY, "ANY"),
    ];

    /// From OpenFlow 1.0's 16 bits: its reserved ports 0xfff7 and up are those of later versions.
    pub const fn from_u16(port: u16) -> OfPort {
        if port >= 0xfff7 { OfPort(0xffff_0000 | port as u32) } else { OfPort(port as u32) }
    }

    /// OpenFlow 1.0's 16 bits, if the port can be written so.
    pub const fn to_u16(self) -> Option<u16> {
        if self.0 < 0xfff7 || self.0 >= 0xffff_fff7 { Some(self.0 as u16) } else { None }
    }

    /// Whether the number denotes a real port of the switch that a device stands behind (LOCAL included).
    pub const fn is_real(self) -> bool {
        self.0 <= OfPort::MAX.0 || self.0 == OfPort::LOCAL.0
    }

    /// Name of a reserved port, as ovs-ofctl(8) prints it.
    pub fn reserved_name(self) -> Option<&'static str> {
        Self::RESERVED.iter().find(|(p, _)| *p == self).map(|(_, name)| *name)
    }

    /// A reserved port by name, in any case (`NONE` is OpenFlow 1.0's name of `ANY`).
    pub fn from_reserved_name(name: &str) -> Option<OfPort> {
        if name.eq_ignore_ascii_case("NONE") {
            return Some(OfPort::ANY);
        }
        Self::RESERVED.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(p, _)| *p)
    }
}

impl fmt::Display for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reserved_name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_and_back() {
        for port in 0..=u16::MAX {
            assert_eq!(OfPort::from_u16(port).to_u16(), Some(port));
        }
        assert_eq!(OfPort::from_u16(0xfffe), OfPort::LOCAL);
        assert_eq!(OfPort(0x10000).to_u16(), None);
    }

    #[test]
    fn names() {
        assert_eq!(OfPort::from_reserved_name("in_port"), Some(OfPort::IN_PORT));
        assert_eq!(OfPort::from_reserved_name("none"), Some(OfPort::ANY));
        assert_eq!(OfPort::from_reserved_name("eth0"), None);
        assert_eq!(OfPort::LOCAL.to_string(), "LOCAL");
        assert_eq!(OfPort(7).to_string(), "7");
    }
}
