//! What the tracker reads of a frame. From its bytes, not from its key: programs rewrite bytes, and a key that lags behind
//! them would mean a wrong translation.
//!
//! Every length is checked here. What cannot be made sense of is invalid: cut off or lying headers, port 0, wrong checksums,
//! flags that never go together, fragments, ICMP messages that neither ask, answer nor report an error.

use super::tcp::{self, Segment};
use super::tuple::{Addresses, Tuple, Zone, icmp_answer};
use packet::rewrite::{self, Network};
use packet::wire::*;
use packet::{Checksum, Frame, PlainPacket};

/// A packet that the tracker understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parsed {
    /// The packet's own tuple; of an ICMP error, the tuple with which the end that it is about would be answered.
    pub tuple: Tuple,
    pub content: Content,
    /// Where the transport header begins; where the payload of the network header begins if there is none known here.
    pub l4: usize,
}

/// What is in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Tcp(Segment),
    Udp,
    /// A query or an answer of ICMP or ICMPv6, by its type.
    Icmp(u8),
    /// An ICMP or ICMPv6 error about the packet that begins at `inner`.
    Error {
        inner: Inner,
    },
    Other,
}

/// A packet quoted by an ICMP error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Inner {
    /// Where its network header begins in the frame.
    pub l3: usize,
    /// Where its transport header begins.
    pub l4: usize,
    /// Its protocol.
    pub protocol: u8,
}

#[inline]
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[inline]
fn be128(bytes: &[u8], at: usize) -> Option<u128> {
    bytes.get(at..)?.first_chunk().map(|b| u128::from_be_bytes(*b))
}

impl Parsed {
    /// Reads a frame whose layers are known. `None` if it is invalid. A transport checksum found to be right is noted in
    /// the frame, so that a second pass need not sum again.
    #[inline]
    pub fn read(frame: &mut Frame, zone: Zone) -> Option<Parsed> {
        let parsed = match PlainPacket::of(frame) {
            Some(packet) if !packet.has_right_checksums(frame.checksum) => return None,
            Some(packet) => read_plain(&packet, usize::from(frame.layers.l4), zone)?,
            None if !frame.verify_checksums() => return None,
            None => read_packet(frame, zone)?,
        };
        debug_assert_eq!(Some(parsed), read_packet(frame, zone));
        if frame.checksum == Checksum::Unknown && parsed.tuple.has_ports() {
            frame.checksum = Checksum::Valid;
        }
        Some(parsed)
    }

    /// The TCP segment, if it is one.
    #[inline]
    pub fn segment(&self) -> Option<&Segment> {
        match &self.content {
            Content::Tcp(segment) => Some(segment),
            _ => None,
        }
    }

    /// The packet that this one is an ICMP error about.
    #[inline]
    pub fn inner(&self) -> Option<Inner> {
        match self.content {
            Content::Error { inner } => Some(inner),
            _ => None,
        }
    }

    /// Whether the packet may begin a connection.
    pub fn may_begin(&self, loose: bool) -> bool {
        match &self.content {
            Content::Tcp(segment) => tcp::may_begin(segment, loose),
            Content::Icmp(kind) => super::tuple::is_icmp_query(self.tuple.protocol(), *kind),
            Content::Error { .. } => false,
            Content::Udp | Content::Other => true,
        }
    }
}

/// A packet of the kind that most are: as [`read_packet`] reads it.
#[inline]
fn read_plain(packet: &PlainPacket<'_>, l4: usize, zone: Zone) -> Option<Parsed> {
    let (ports, transport) = (packet.ports(), packet.transport());
    let addresses = match (packet.addresses_v4(), packet.addresses_v6()) {
        (Some(both), _) => Addresses { is_ipv6: false, src: (both >> 32).into(), dst: (both as u32).into() },
        (None, both) => both.map(|(src, dst)| Addresses { is_ipv6: true, src, dst })?,
    };
    let content = read_content(packet.protocol(), ports, transport)?;
    let tuple = Tuple::from_key_fields(addresses, ports, packet.protocol(), zone);
    Some(Parsed { tuple, content, l4 })
}

/// What is behind a header that begins with ports.
#[inline]
fn read_content(protocol: u8, ports: u32, transport: &[u8]) -> Option<Content> {
    if ports >> 16 == 0 || ports & 0xffff == 0 {
        return None;
    }
    match protocol {
        PROTO_TCP => read_segment(transport).map(Content::Tcp),
        PROTO_UDP => has_whole_datagram(transport).then_some(Content::Udp),
        _ => Some(Content::Other),
    }
}

/// Whether the length of a UDP header lies within its packet.
#[inline]
pub(super) fn has_whole_datagram(transport: &[u8]) -> bool {
    let Some([_, _, _, _, l0, l1, _, _]) = transport.first_chunk::<8>() else { return false };
    (8..=transport.len()).contains(&usize::from(u16::from_be_bytes([*l0, *l1])))
}

#[inline]
fn read_packet(frame: &Frame, zone: Zone) -> Option<Parsed> {
    let (network, l3) = rewrite::network(frame)?;
    let end = frame.packet_end();
    let bytes = frame.bytes().get(..end)?;
    let header = NetworkHeader::read(bytes, network, l3)?;
    if header.is_fragment {
        return None;
    }
    match header.protocol {
        PROTO_TCP | PROTO_UDP | PROTO_SCTP => {}
        PROTO_ICMP if network == Network::Ipv4 => {}
        PROTO_ICMPV6 if network == Network::Ipv6 => {}
        _ => {
            let tuple = Tuple::from_key_fields(header.addresses, 0, header.protocol, zone);
            return Some(Parsed { tuple, content: Content::Other, l4: header.payload });
        }
    }
    // Where extraction found no whole transport header there is none to be read.
    let (protocol, l4) = rewrite::transport(frame)?;
    if protocol != header.protocol || l4 != header.payload {
        return None;
    }
    let transport = bytes.get(l4..)?;
    if matches!(protocol, PROTO_ICMP | PROTO_ICMPV6) {
        return read_icmp(bytes, l4, &header, zone);
    }
    let ports = be32(transport, 0)?;
    let content = read_content(protocol, ports, transport)?;
    let tuple = Tuple::from_key_fields(header.addresses, ports, protocol, zone);
    Some(Parsed { tuple, content, l4 })
}

/// A TCP header that lies within its packet.
#[inline]
fn read_segment(transport: &[u8]) -> Option<Segment> {
    let h = transport.first_chunk::<20>()?;
    let header_len = usize::from(h[12] >> 4) * 4;
    let options = transport.get(20..header_len)?;
    let flags = h[13];
    let scale = if flags & tcp::SYN != 0 { window_scale(options) } else { None };
    Some(Segment {
        flags: flags & 0x3f,
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        window: u16::from_be_bytes([h[14], h[15]]),
        len: (transport.len() - header_len) as u32,
        scale,
    })
}

/// The window scale option (RFC 7323 section 2.2); nothing of options that contradict themselves.
fn window_scale(options: &[u8]) -> Option<u8> {
    let mut rest = options;
    loop {
        match *rest {
            [0, ..] | [] | [_] => return None,
            [1, ..] => rest = rest.get(1..)?,
            [3, 3, scale, ..] => return Some(scale),
            [_, len, ..] => rest = rest.get(usize::from(len).max(2)..)?,
        }
    }
}

/// The network header of a packet or of one quoted by an ICMP error.
struct NetworkHeader {
    addresses: Addresses,
    protocol: u8,
    /// Where the payload begins in the frame.
    payload: usize,
    is_fragment: bool,
    /// A fragment that has no transport header.
    is_later: bool,
}

impl NetworkHeader {
    #[inline]
    fn read(bytes: &[u8], network: Network, l3: usize) -> Option<NetworkHeader> {
        match network {
            Network::Ipv4 => {
                let h = bytes.get(l3..)?.first_chunk::<IPV4_LEN>()?;
                let header_len = usize::from(h[0] & 15) * 4;
                if h[0] >> 4 != 4 || header_len < IPV4_LEN || l3 + header_len > bytes.len() {
                    return None;
                }
                let fragment = u16::from_be_bytes([h[6], h[7]]);
                Some(NetworkHeader {
                    addresses: Addresses {
                        is_ipv6: false,
                        src: u128::from(be32(h, 12)?),
                        dst: u128::from(be32(h, 16)?),
                    },
                    protocol: h[9],
                    payload: l3 + header_len,
                    is_fragment: fragment & 0x3fff != 0,
                    is_later: fragment & 0x1fff != 0,
                })
            }
            Network::Ipv6 => NetworkHeader::read_ipv6(bytes, l3),
            Network::Arp => None,
        }
    }

    fn read_ipv6(bytes: &[u8], l3: usize) -> Option<NetworkHeader> {
        let h = bytes.get(l3..)?.first_chunk::<IPV6_LEN>()?;
        if h[0] >> 4 != 6 {
            return None;
        }
        let mut header = NetworkHeader {
            addresses: Addresses { is_ipv6: true, src: be128(h, 8)?, dst: be128(h, 24)? },
            protocol: h[6],
            payload: l3 + IPV6_LEN,
            is_fragment: false,
            is_later: false,
        };
        // Each turn takes eight bytes of the frame.
        while header.skip_extension(bytes)? {}
        Some(header)
    }

    /// Passes an extension header; `Some(false)` at the end of the chain, `None` if one is cut off.
    fn skip_extension(&mut self, bytes: &[u8]) -> Option<bool> {
        let is_fragment = self.protocol == PROTO_FRAGMENT;
        let is_extension = matches!(
            self.protocol,
            PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_DESTINATION | PROTO_AH | PROTO_FRAGMENT
        );
        if self.is_later || !is_extension {
            return Some(false);
        }
        let &[next, len, o0, o1, ..] = bytes.get(self.payload..)?.first_chunk::<8>()?;
        let header_len = match self.protocol {
            PROTO_AH => (usize::from(len) + 2) * 4,
            PROTO_FRAGMENT => 8,
            _ => (usize::from(len) + 1) * 8,
        };
        if is_fragment {
            let offset = u16::from_be_bytes([o0, o1]);
            self.is_fragment |= offset & 0xfff9 != 0;
            self.is_later |= offset & 0xfff8 != 0;
        }
        self.payload = self.payload.checked_add(header_len).filter(|at| *at <= bytes.len())?;
        self.protocol = next;
        Some(true)
    }
}

/// Whether an ICMP message reports an error about a packet that it quotes.
fn is_icmp_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
        PROTO_ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        _ => matches!(kind, 1..=4),
    }
}

fn read_icmp(bytes: &[u8], l4: usize, header: &NetworkHeader, zone: Zone) -> Option<Parsed> {
    let &[kind, code, _, _, i0, i1, ..] = bytes.get(l4..)?.first_chunk::<8>()?;
    if is_icmp_error(header.protocol, kind) {
        let (inner, quoted) = read_inner(bytes, l4 + 8, header, zone)?;
        return Some(Parsed { tuple: quoted.reversed(), content: Content::Error { inner }, l4 });
    }
    icmp_answer(header.protocol, kind)?;
    // Queries and answers have no code but 0.
    if code != 0 {
        return None;
    }
    let ports = u32::from_be_bytes([i0, i1, kind, code]);
    let tuple = Tuple::from_key_fields(header.addresses, ports, header.protocol, zone);
    Some(Parsed { tuple, content: Content::Icmp(kind), l4 })
}

/// The packet that an ICMP error quotes: at least eight bytes of its transport header (RFC 792), and from the end that the
/// error goes to.
fn read_inner(bytes: &[u8], l3: usize, outer: &NetworkHeader, zone: Zone) -> Option<(Inner, Tuple)> {
    let network = if outer.addresses.is_ipv6 { Network::Ipv6 } else { Network::Ipv4 };
    let header = NetworkHeader::read(bytes, network, l3)?;
    if header.is_later || header.addresses.src != outer.addresses.dst {
        return None;
    }
    let protocol = header.protocol;
    let inner = Inner { l3, l4: header.payload, protocol };
    let ports = match protocol {
        PROTO_TCP | PROTO_UDP | PROTO_SCTP => {
            let &[s0, s1, d0, d1, ..] = bytes.get(inner.l4..)?.first_chunk::<8>()?;
            let ports = [s0, s1, d0, d1];
            if [s0, s1] == [0; 2] || [d0, d1] == [0; 2] {
                return None;
            }
            u32::from_be_bytes(ports)
        }
        PROTO_ICMP | PROTO_ICMPV6 => {
            if (protocol == PROTO_ICMPV6) != outer.addresses.is_ipv6 {
                return None;
            }
            let &[kind, code, _, _, i0, i1, ..] = bytes.get(inner.l4..)?.first_chunk::<8>()?;
            // No error is sent about an error (RFC 1122 section 3.2.2).
            icmp_answer(protocol, kind)?;
            u32::from_be_bytes([i0, i1, kind, code])
        }
        _ => 0,
    };
    Some((inner, Tuple::from_key_fields(header.addresses, ports, protocol, zone)))
}
