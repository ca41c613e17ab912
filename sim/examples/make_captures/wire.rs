//! Packets as one side of the translation sees them, built by etherparse alone.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use std::net::IpAddr;

/// MAC of the client; in both captures.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// MAC of the server, and of the routers before it; in both captures.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// Payload of a fragment that is not the last: an Ethernet MTU less the IPv4 header.
const FRAGMENT_LEN: usize = 1_480;
/// Length of an IPv4 header without options.
const IPV4_LEN: usize = 20;

/// An end of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Behind the translation.
    Client,
    /// In front of it.
    Server,
}

/// Source and destination of a packet.
pub type Ends = (IpAddr, IpAddr);

/// What one side calls the two ends.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub client: IpAddr,
    pub server: IpAddr,
}

impl View {
    /// Source and destination of a packet.
    pub fn ends(&self, from: Side) -> Ends {
        match from {
            Side::Client => (self.client, self.server),
            Side::Server => (self.server, self.client),
        }
    }
}

/// The IP packet without the Ethernet header. Of the numbers between, IPv6 has none.
fn packet(
    ends: Ends,
    protocol: IpNumber,
    identification: u16,
    (offset, has_more, has_df): (usize, bool, bool),
    payload: &[u8],
) -> Vec<u8> {
    let (src, dst) = match ends {
        (IpAddr::V4(src), IpAddr::V4(dst)) => (src.octets(), dst.octets()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                payload_length: payload.len() as u16,
                next_header: protocol,
                hop_limit: 64,
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv6Header::default()
            };
            return [&header.to_bytes()[..], payload].concat();
        }
        _ => panic!("ends of two families: {ends:?}"),
    };
    let mut header = Ipv4Header::new(payload.len() as u16, 64, protocol, src, dst).unwrap();
    header.identification = identification;
    header.dont_fragment = has_df;
    header.more_fragments = has_more;
    header.fragment_offset = IpFragOffset::try_new((offset / 8) as u16).unwrap();
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

/// A packet that is no fragment.
pub fn whole(ends: Ends, protocol: IpNumber, identification: u16, payload: &[u8]) -> Vec<u8> {
    packet(ends, protocol, identification, (0, false, protocol == IpNumber::TCP), payload)
}

/// The frame of a packet.
pub fn frame(from: Side, packet: &[u8]) -> Vec<u8> {
    let (src, dst) = match from {
        Side::Client => (CLIENT_MAC, SERVER_MAC),
        Side::Server => (SERVER_MAC, CLIENT_MAC),
    };
    let ether_type = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&dst[..], &src, &ether_type, packet].concat()
}

/// Cuts a datagram to an Ethernet MTU.
pub fn cut(ends: Ends, identification: u16, datagram: &[u8]) -> Vec<Vec<u8>> {
    let parts = datagram.chunks(FRAGMENT_LEN).enumerate();
    let last = datagram.len().div_ceil(FRAGMENT_LEN) - 1;
    let one =
        |(n, part)| packet(ends, IpNumber::UDP, identification, (n * FRAGMENT_LEN, n < last, false), part);
    parts.map(one).collect()
}

/// A UDP datagram with its checksum, for IPv4.
pub fn datagram(ends: Ends, (sport, dport): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut header = UdpHeader {
        source_port: sport,
        destination_port: dport,
        length: (8 + payload.len()) as u16,
        checksum: 0,
    };
    let (IpAddr::V4(src), IpAddr::V4(dst)) = ends else { panic!("no IPv4: {ends:?}") };
    header.checksum = header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

/// What a TCP segment says beside its ports.
pub struct Segment<'a> {
    /// Letters of the flags: `S`, `A`, `F`, `P`, `R`.
    pub flags: &'a str,
    pub seq: u32,
    pub ack: u32,
    pub options: &'a [u8],
    pub payload: &'a [u8],
}

/// A TCP segment with its checksum.
pub fn segment(ends: Ends, (sport, dport): (u16, u16), segment: &Segment<'_>) -> Vec<u8> {
    let has = |flag| segment.flags.contains(flag);
    let mut header = TcpHeader::new(sport, dport, segment.seq, 65_535);
    (header.syn, header.ack, header.fin) = (has('S'), has('A'), has('F'));
    (header.psh, header.rst) = (has('P'), has('R'));
    header.acknowledgment_number = if header.ack { segment.ack } else { 0 };
    header.set_options_raw(segment.options).unwrap();
    header.checksum = match ends {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), segment.payload).unwrap()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), segment.payload).unwrap()
        }
        _ => panic!("ends of two families: {ends:?}"),
    };
    [&header.to_bytes()[..], segment.payload].concat()
}

/// The part of a packet that an error quotes: the IP header and so many bytes.
pub fn quote(packet: &[u8], bytes: usize) -> &[u8] {
    &packet[..packet.len().min(IPV4_LEN + bytes)]
}
