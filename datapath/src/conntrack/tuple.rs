//! What names a connection: zone, protocol, addresses and ports, as one end sends them.

use packet::wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A space of connections of its own: the same tuple in two zones names two connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Zone(pub u16);

/// Which way a packet goes, seen from the packet that made the connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// The other way.
    Reply,
}

impl Direction {
    /// The other one.
    #[inline]
    #[must_use]
    pub const fn opposite(self) -> Direction {
        match self {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        }
    }
}

/// A connection's name in one direction. Five words, so that hashing and comparing are cheap: source address, destination
/// address (an IPv4 address in the low word), and ports, protocol, family and zone in the last.
///
/// ICMP has an identifier in place of the source port, and its type and code in place of the destination port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple([u64; 5]);

/// The fields of a [`Tuple`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TupleFields {
    /// The zone.
    pub zone: Zone,
    /// IP protocol.
    pub protocol: u8,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Source port; ICMP identifier; 0 for protocols without ports.
    pub src_port: u16,
    /// Destination port; ICMP type in the high and code in the low byte; 0 for protocols without ports.
    pub dst_port: u16,
}

/// Bit of the last word of a [`Tuple`] that says IPv6.
const IPV6: u64 = 1 << 16;

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl Tuple {
    /// From its fields.
    pub fn new(fields: TupleFields) -> Tuple {
        let family = if fields.src.is_ipv6() { IPV6 } else { 0 };
        let (src, dst) = (number(fields.src), number(fields.dst));
        let ports = u64::from(fields.src_port) << 48 | u64::from(fields.dst_port) << 32;
        Tuple::from_numbers(src, dst, ports | family, fields.protocol, fields.zone)
    }

    /// From numbers as they stand in a key: addresses, and `ports`, source in the high half.
    #[inline]
    pub(super) fn from_key_fields(addresses: Addresses, ports: u32, protocol: u8, zone: Zone) -> Tuple {
        let family = if addresses.is_ipv6 { IPV6 } else { 0 };
        let ports = u64::from(ports) << 32;
        Tuple::from_numbers(addresses.src, addresses.dst, ports | family, protocol, zone)
    }

    #[inline]
    const fn from_numbers(src: u128, dst: u128, high: u64, protocol: u8, zone: Zone) -> Tuple {
        let last = high | (protocol as u64) << 24 | zone.0 as u64;
        Tuple([(src >> 64) as u64, src as u64, (dst >> 64) as u64, dst as u64, last])
    }

    /// The fields.
    pub fn fields(&self) -> TupleFields {
        TupleFields {
            zone: self.zone(),
            protocol: self.protocol(),
            src: self.address(self.src_number()),
            dst: self.address(self.dst_number()),
            src_port: self.src_port(),
            dst_port: self.dst_port(),
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_ipv6() { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
    }

    /// Source address as a number; an IPv4 address in the low 32 bits.
    #[inline]
    pub const fn src_number(&self) -> u128 {
        let [high, low, ..] = self.0;
        (high as u128) << 64 | low as u128
    }

    /// Destination address as a number.
    #[inline]
    pub const fn dst_number(&self) -> u128 {
        let [_, _, high, low, _] = self.0;
        (high as u128) << 64 | low as u128
    }

    #[inline]
    const fn last(&self) -> u64 {
        let [.., last] = self.0;
        last
    }

    /// Source port or ICMP identifier.
    #[inline]
    pub const fn src_port(&self) -> u16 {
        (self.last() >> 48) as u16
    }

    /// Destination port, or ICMP type and code.
    #[inline]
    pub const fn dst_port(&self) -> u16 {
        (self.last() >> 32) as u16
    }

    /// Source port in the high half, destination port in the low, as in the header.
    #[inline]
    pub(super) const fn ports(&self) -> u32 {
        (self.last() >> 32) as u32
    }

    /// Source and destination as they stand in an IPv4 header, one number; without a meaning for IPv6.
    #[inline]
    pub(super) const fn addresses_v4(&self) -> u64 {
        let [_, src, _, dst, _] = self.0;
        src << 32 | dst
    }

    /// IP protocol.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        (self.last() >> 24) as u8
    }

    /// Whether the addresses are of IPv6.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.last() & IPV6 != 0
    }

    /// The zone.
    #[inline]
    pub const fn zone(&self) -> Zone {
        Zone(self.last() as u16)
    }

    /// Whether the protocol is ICMP or ICMPv6.
    #[inline]
    pub const fn is_icmp(&self) -> bool {
        matches!(self.protocol(), PROTO_ICMP | PROTO_ICMPV6)
    }

    /// Whether the protocol has ports that NAT may change, or an ICMP identifier.
    #[inline]
    pub const fn has_ports(&self) -> bool {
        matches!(self.protocol(), PROTO_TCP | PROTO_UDP | PROTO_SCTP) || self.is_icmp()
    }

    /// The tuple with which the other end answers to this one.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Tuple {
        let [src_high, src_low, dst_high, dst_low, last] = self.0;
        let (src_port, dst_port) = if self.is_icmp() {
            let kind = (self.dst_port() >> 8) as u8;
            let code = self.dst_port() & 0xff;
            let answer = icmp_answer(self.protocol(), kind).unwrap_or(kind);
            (self.src_port(), u16::from(answer) << 8 | code)
        } else {
            (self.dst_port(), self.src_port())
        };
        let last = last & 0xffff_ffff | u64::from(src_port) << 48 | u64::from(dst_port) << 32;
        Tuple([dst_high, dst_low, src_high, src_low, last])
    }

    /// The same for a tuple and its [`reversed`](Self::reversed): what connections are hashed by.
    #[inline]
    pub(super) fn canonical(&self) -> [u64; 5] {
        self.0.min(self.reversed().0)
    }

    /// With another source address and port (or identifier).
    #[must_use]
    pub(super) fn with_src(&self, address: u128, port: u16) -> Tuple {
        let [_, _, dst_high, dst_low, last] = self.0;
        let last = last & !(0xffff << 48) | u64::from(port) << 48;
        Tuple([(address >> 64) as u64, address as u64, dst_high, dst_low, last])
    }

    /// With another destination address and port; ICMP keeps its type and code.
    #[must_use]
    pub(super) fn with_dst(&self, address: u128, port: u16) -> Tuple {
        let [src_high, src_low, _, _, last] = self.0;
        let port = if self.is_icmp() { self.dst_port() } else { port };
        let last = last & !(0xffff << 32) | u64::from(port) << 32;
        Tuple([src_high, src_low, (address >> 64) as u64, address as u64, last])
    }

    /// The words, for hashing.
    #[inline]
    pub(super) const fn words(&self) -> [u64; 5] {
        self.0
    }

    /// From its words.
    #[inline]
    pub(super) const fn from_words(words: [u64; 5]) -> Tuple {
        Tuple(words)
    }

    /// All that a tuple of IPv4 has: its addresses, and the last word, which no tuple of IPv6 has.
    #[inline]
    pub(super) const fn words_v4(&self) -> [u64; 2] {
        [self.addresses_v4(), self.last()]
    }

    /// From what [`words_v4`](Self::words_v4) gives.
    #[inline]
    pub(super) const fn from_words_v4([addresses, last]: [u64; 2]) -> Tuple {
        Tuple([0, addresses >> 32, 0, addresses & u32::MAX as u64, last])
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.fields();
        let (zone, protocol) = (t.zone.0, t.protocol);
        write!(f, "{protocol}:{}:{}>{}:{}@{zone}", t.src, t.src_port, t.dst, t.dst_port)
    }
}

/// Two addresses as they stand in a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Addresses {
    pub is_ipv6: bool,
    pub src: u128,
    pub dst: u128,
}

/// The type of the ICMP message that answers to one of type `kind`; `None` if it is no query and no answer to one.
#[inline]
pub(super) const fn icmp_answer(protocol: u8, kind: u8) -> Option<u8> {
    match (protocol, kind) {
        (PROTO_ICMP, 8) => Some(0),
        (PROTO_ICMP, 0) => Some(8),
        // Timestamp (RFC 792) and information request (deprecated by RFC 6918, tracked by OVS).
        (PROTO_ICMP, 13) => Some(14),
        (PROTO_ICMP, 14) => Some(13),
        (PROTO_ICMP, 15) => Some(16),
        (PROTO_ICMP, 16) => Some(15),
        (PROTO_ICMPV6, 128) => Some(129),
        (PROTO_ICMPV6, 129) => Some(128),
        _ => None,
    }
}

/// Whether an ICMP type asks, so that a message of it may begin a connection.
#[inline]
pub(super) const fn is_icmp_query(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (PROTO_ICMP, 8 | 13 | 15) | (PROTO_ICMPV6, 128))
}

/// A connection to be found by what an operator says of its original direction, as `dpctl/flush-conntrack` takes it: what
/// is `None` is not compared.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TupleFilter {
    /// `ct_nw_src`, `ct_ipv6_src`.
    pub src: Option<IpAddr>,
    /// `ct_nw_dst`, `ct_ipv6_dst`.
    pub dst: Option<IpAddr>,
    /// `ct_nw_proto`.
    pub protocol: Option<u8>,
    /// `ct_tp_src`.
    pub src_port: Option<u16>,
    /// `ct_tp_dst`.
    pub dst_port: Option<u16>,
    /// `icmp_id`.
    pub icmp_id: Option<u16>,
    /// `icmp_type`.
    pub icmp_type: Option<u8>,
    /// `icmp_code`.
    pub icmp_code: Option<u8>,
}

impl TupleFilter {
    /// Whether a tuple of the original direction is meant.
    pub fn matches(&self, tuple: &Tuple) -> bool {
        let t = tuple.fields();
        fn same<T: PartialEq>(wanted: Option<T>, is: T) -> bool {
            wanted.is_none_or(|w| w == is)
        }
        let [icmp_type, icmp_code] = t.dst_port.to_be_bytes();
        let icmp_wanted = self.icmp_id.is_some() || self.icmp_type.is_some() || self.icmp_code.is_some();
        let ports_wanted = self.src_port.is_some() || self.dst_port.is_some();
        let rest = if tuple.is_icmp() {
            !ports_wanted
                && same(self.icmp_id, t.src_port)
                && same(self.icmp_type, icmp_type)
                && same(self.icmp_code, icmp_code)
        } else {
            !icmp_wanted && same(self.src_port, t.src_port) && same(self.dst_port, t.dst_port)
        };
        rest && same(self.src, t.src) && same(self.dst, t.dst) && same(self.protocol, t.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(protocol: u8, src_port: u16, dst_port: u16) -> Tuple {
        let (src, dst) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        Tuple::new(TupleFields { zone: Zone(7), protocol, src, dst, src_port, dst_port })
    }

    #[test]
    fn reversing_twice_gives_the_same_and_once_the_answer() {
        for t in [tuple(6, 1000, 80), tuple(1, 77, 0x0800), tuple(47, 0, 0)] {
            assert_eq!(t.reversed().reversed(), t);
            assert_eq!(t.reversed().canonical(), t.canonical());
        }
        let reply = tuple(6, 1000, 80).reversed().fields();
        assert_eq!((reply.src_port, reply.dst_port, reply.zone), (80, 1000, Zone(7)));
        assert_eq!(reply.src, IpAddr::from([10, 0, 0, 2]));
        let pong = tuple(1, 77, 0x0800).reversed().fields();
        assert_eq!((pong.src_port, pong.dst_port), (77, 0));
    }

    #[test]
    fn fields_survive() {
        let fields = TupleFields {
            zone: Zone(65_535),
            protocol: 132,
            src: "2001:db8::1".parse().unwrap(),
            dst: "2001:db8::ffff:2".parse().unwrap(),
            src_port: 65_535,
            dst_port: 1,
        };
        assert_eq!(Tuple::new(fields).fields(), fields);
        assert_eq!(tuple(17, 9, 10).fields().dst_port, 10);
    }

    #[test]
    fn filters() {
        let t = tuple(6, 1000, 80);
        assert!(TupleFilter::default().matches(&t));
        assert!(TupleFilter { dst_port: Some(80), protocol: Some(6), ..Default::default() }.matches(&t));
        assert!(!TupleFilter { src_port: Some(80), ..Default::default() }.matches(&t));
        assert!(!TupleFilter { icmp_id: Some(1000), ..Default::default() }.matches(&t));
        assert!(TupleFilter { icmp_id: Some(77), ..Default::default() }.matches(&tuple(1, 77, 0x0800)));
    }
}
