//! Putting the headers of a tunnel in front of a frame.

use std::net::IpAddr;
use std::ops::Range;

use base::HashSeed;

use super::ecn::{ECN_MASK, encapsulated};
use super::options::any_critical;
use super::outer::IPV4_DF;
use super::pop::{GENEVE_CRITICAL, GENEVE_OAM, GRE_CHECKSUM, GRE_KEY, VXLAN_GBP, VXLAN_GBP_FLAGS, VXLAN_VNI};
use super::{Inherit, SOURCE_PORT_MIN, TTL_DEFAULT, TunnelError, TunnelProtocol, TunnelPush};
use crate::checksum::Sum;
use crate::frame::{Checksum, Frame, Layers, Segmentation};
use crate::rewrite::{Network, is_fragment, network, put_checksum, transport};
use crate::segment::Cuts;
use crate::wire::*;

/// Length of a UDP header.
const UDP_LEN: usize = 8;

/// By how much the outer IP packet is longer than the packet in an inner frame without VLAN tags, in bytes: 50 for VXLAN
/// over IPv4.
pub fn overhead(push: &TunnelPush) -> usize {
    let inner_ethernet = if push.protocol == TunnelProtocol::Flannel { 0 } else { ETHERNET_LEN };
    network_len(push) + tunnel_len(push) + inner_ethernet
}

/// The longest packet that `frame` could have to fit the tunnel, in bytes with its IP header: what [`too_big`](super::too_big())
/// is to announce. Relies on the layers; counts the frame's VLAN tags.
pub fn inner_mtu(frame: &Frame, push: &TunnelPush) -> u16 {
    let l2_len = match network(frame) {
        _ if push.protocol == TunnelProtocol::Flannel => 0,
        Some((_, l3)) => l3,
        None => ETHERNET_LEN,
    };
    (push.mtu as usize).saturating_sub(network_len(push) + tunnel_len(push) + l2_len) as u16
}

fn network_len(push: &TunnelPush) -> usize {
    if push.dst.is_ipv4() { IPV4_LEN } else { IPV6_LEN }
}

/// Length of what stands between the outer IP header and the inner frame.
fn tunnel_len(push: &TunnelPush) -> usize {
    match push.protocol {
        TunnelProtocol::Vxlan => UDP_LEN + 8,
        TunnelProtocol::Geneve => UDP_LEN + 8 + push.options.len(),
        TunnelProtocol::Gre => 4 + 4 * push.csum as usize + 4 * push.vni.is_some() as usize,
        TunnelProtocol::Flannel => UDP_LEN,
    }
}

/// Pushes outer Ethernet, IP, UDP and tunnel headers in front of a frame whose layers are true. A partial checksum is
/// completed first. Afterwards the layers are forgotten; the caller extracts anew.
///
/// The ECN bits of the outer header are the inner packet's (RFC 6040 section 4.1). The UDP source port, 49152 to 65535,
/// is a hash of the inner flow under `seed`: the same for every packet of a flow, and for every fragment of a packet. The
/// IPv4 identification is 0 where Don't Fragment is set (RFC 6864 section 4.1), else a hash of the inner headers. Allocates
/// nothing as long as the headroom suffices.
///
/// # Errors
/// [`SuperFrame`](TunnelError::SuperFrame): to be segmented first. [`TooBig`](TunnelError::TooBig),
/// [`Addresses`](TunnelError::Addresses), [`NotIpv4`](TunnelError::NotIpv4) and [`Options`](TunnelError::Options). The frame
/// is then unchanged.
pub fn push(frame: &mut Frame, push: &TunnelPush, seed: HashSeed) -> Result<(), TunnelError> {
    if frame.segmentation != Segmentation::None {
        return Err(TunnelError::SuperFrame);
    }
    let header = Header::of(frame, frame.len(), push, seed)?;
    frame.complete_checksum();
    header.put_before(frame)?;
    header.finish_checksum(frame.bytes_mut());
    frame.layers = Layers::default();
    frame.checksum = Checksum::Unknown;
    Ok(())
}

/// As [`push()`], in front of a super-frame, which stays whole: for ports that cut such packets themselves, by
/// [`Cuts`](crate::segment::Cuts). The lengths in the outer headers are those of the first segment's packet. A UDP checksum, if
/// there is to be one, is left to who sends the segments, with the sum of the pseudo header in its field. The layers and the
/// partial checksum go on being the inner packet's; its segmentation becomes the inner one.
///
/// # Errors
/// As [`push()`]; [`TooBig`](TunnelError::TooBig) is about the first segment. [`SuperFrame`](TunnelError::SuperFrame): there is
/// nothing to be cut.
pub fn push_uncut(frame: &mut Frame, push: &TunnelPush, seed: HashSeed) -> Result<(), TunnelError> {
    let cuts = match frame.segmentation {
        Segmentation::None => None,
        _ => Cuts::of(frame),
    };
    let first_len = cuts.ok_or(TunnelError::SuperFrame)?.segment_len();
    let header = Header::of(frame, first_len, push, seed)?;
    header.put_before(frame)?;
    header.leave_checksum(frame.bytes_mut());
    frame.inner_segmentation = std::mem::take(&mut frame.segmentation);
    Ok(())
}

/// What the outer header takes from the frame.
struct Inner {
    tos: u8,
    ttl: u8,
    source_port: u16,
    identification: u16,
}

impl Inner {
    fn of(frame: &Frame, push: &TunnelPush, seed: HashSeed) -> Inner {
        let (tos, ttl) = match network(frame) {
            Some((Network::Ipv4, l3)) => ipv4_tos_and_ttl(frame.bytes(), l3),
            Some((Network::Ipv6, l3)) => ipv6_tos_and_ttl(frame.bytes(), l3),
            _ => None,
        }
        .unwrap_or((0, TTL_DEFAULT));
        let dscp = match push.tos {
            Inherit::Value(tos) => tos,
            Inherit::Inherit => tos,
        };
        let ports = u16::MAX - SOURCE_PORT_MIN;
        Inner {
            tos: dscp & !ECN_MASK | encapsulated(tos),
            ttl: match push.ttl {
                Inherit::Value(ttl) => ttl,
                Inherit::Inherit => ttl,
            },
            source_port: SOURCE_PORT_MIN | flow_hash(frame, seed) as u16 & ports,
            identification: if push.df { 0 } else { header_hash(frame, seed) as u16 },
        }
    }
}

fn ipv4_tos_and_ttl(bytes: &[u8], l3: usize) -> Option<(u8, u8)> {
    Some((*bytes.get(l3 + 1)?, *bytes.get(l3 + 8)?))
}

fn ipv6_tos_and_ttl(bytes: &[u8], l3: usize) -> Option<(u8, u8)> {
    Some(((be16_at(bytes, l3)? >> 4) as u8, *bytes.get(l3 + 7)?))
}

/// Hash of addresses, protocol and ports; of the addresses only in fragments, since later ones have no ports, and of the
/// Ethernet header in what is not IP.
fn flow_hash(frame: &Frame, seed: HashSeed) -> u64 {
    let bytes = frame.bytes();
    let addresses = match network(frame) {
        Some((Network::Ipv4, l3)) => bytes.get(l3 + 12..l3 + 20),
        Some((Network::Ipv6, l3)) => bytes.get(l3 + 8..l3 + 40),
        _ => return seed.hash(words(bytes.get(..ETHERNET_LEN).unwrap_or_default())),
    }
    .unwrap_or_default();
    let flow = match transport(frame) {
        _ if is_fragment(frame) => 0,
        Some((protocol @ (PROTO_TCP | PROTO_UDP | PROTO_SCTP), l4)) => {
            (protocol as u64) << 32 | be32_at(bytes, l4).unwrap_or_default() as u64
        }
        Some((protocol, _)) => (protocol as u64) << 32,
        None => 0,
    };
    seed.hash(words(addresses).chain([flow]))
}

/// Hash of the first headers, which have a field that differs from packet to packet in nearly every protocol.
fn header_hash(frame: &Frame, seed: HashSeed) -> u64 {
    seed.hash(words(frame.bytes().get(..64).unwrap_or(frame.bytes())))
}

/// Bytes as words; the last one filled up with zeros.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | *byte as u64))
}

/// Fills a span of bytes from its beginning. What does not fit is left out, which the sizes above exclude.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        self.put_slice(&value);
    }

    fn put_slice(&mut self, value: &[u8]) {
        if let Some((place, rest)) = std::mem::take(&mut self.0).split_at_mut_checked(value.len()) {
            place.copy_from_slice(value);
            self.0 = rest;
        }
    }
}

/// The headers of one frame.
struct Header<'a> {
    push: &'a TunnelPush,
    inner: Inner,
    is_critical: bool,
    /// Length of the outer IP packet.
    total_len: usize,
    /// What of the frame is sent.
    sent: Range<usize>,
}

impl<'a> Header<'a> {
    /// For a frame of which the first `len` bytes travel in the first packet.
    fn of(
        frame: &Frame,
        len: usize,
        push: &'a TunnelPush,
        seed: HashSeed,
    ) -> Result<Header<'a>, TunnelError> {
        if push.src.is_ipv4() != push.dst.is_ipv4() {
            return Err(TunnelError::Addresses);
        }
        let is_critical = push.protocol == TunnelProtocol::Geneve && any_critical(&push.options)?;
        // Of a frame for flannel the IP packet is sent, of any other all, its padding too.
        let sent = match (push.protocol, network(frame)) {
            (TunnelProtocol::Flannel, Some((Network::Ipv4, l3))) => l3..frame.packet_end(),
            (TunnelProtocol::Flannel, _) => return Err(TunnelError::NotIpv4),
            _ => 0..frame.len(),
        };
        let first_end = sent.end.min(len);
        let total_len = network_len(push) + tunnel_len(push) + first_end.saturating_sub(sent.start);
        if total_len > push.mtu as usize {
            return Err(TunnelError::TooBig);
        }
        Ok(Header { push, inner: Inner::of(frame, push, seed), is_critical, total_len, sent })
    }

    /// Cuts off what is not sent, and puts everything in front but the checksum that covers the payload.
    fn put_before(&self, frame: &mut Frame) -> Result<(), TunnelError> {
        frame.truncate(self.sent.end);
        frame.pull_front(self.sent.start).map_err(|_| TunnelError::NotIpv4)?;
        let header_len = ETHERNET_LEN + network_len(self.push) + tunnel_len(self.push);
        // Cannot fail: the longest frame has room for as much as the headroom holds.
        let space = frame.push_front(header_len).map_err(|_| TunnelError::TooBig)?;
        self.write(&mut Writer(space));
        Ok(())
    }

    fn protocol(&self) -> u8 {
        if self.push.protocol.is_udp() { PROTO_UDP } else { PROTO_GRE }
    }

    /// Length of the outer IP packet without its header.
    fn payload_len(&self) -> u16 {
        (self.total_len - network_len(self.push)) as u16
    }

    /// Everything but the checksum that covers the payload.
    fn write(&self, out: &mut Writer<'_>) {
        out.put(self.push.eth_dst);
        out.put(self.push.eth_src);
        match (self.push.src, self.push.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.write_ipv4(out, src.octets(), dst.octets()),
            (src, dst) => self.write_ipv6(out, ipv6_octets(src), ipv6_octets(dst)),
        }
        if self.push.protocol.is_udp() {
            out.put(self.inner.source_port.to_be_bytes());
            out.put(self.push.dst_port.to_be_bytes());
            out.put(self.payload_len().to_be_bytes());
            out.put([0; 2]);
        }
        match self.push.protocol {
            TunnelProtocol::Vxlan => self.write_vxlan(out),
            TunnelProtocol::Geneve => self.write_geneve(out),
            TunnelProtocol::Gre => self.write_gre(out),
            TunnelProtocol::Flannel => {}
        }
    }

    fn write_ipv4(&self, out: &mut Writer<'_>, src: [u8; 4], dst: [u8; 4]) {
        out.put(ETHERTYPE_IPV4.to_be_bytes());
        let mut header = [0; IPV4_LEN];
        let mut fields = Writer(&mut header);
        fields.put([0x45, self.inner.tos]);
        fields.put((self.total_len as u16).to_be_bytes());
        fields.put(self.inner.identification.to_be_bytes());
        fields.put((if self.push.df { IPV4_DF } else { 0 }).to_be_bytes());
        fields.put([self.inner.ttl, self.protocol(), 0, 0]);
        fields.put(src);
        fields.put(dst);
        let checksum = Sum::of(&header).checksum();
        put_at(&mut header, 10, checksum.to_be_bytes());
        out.put(header);
    }

    fn write_ipv6(&self, out: &mut Writer<'_>, src: [u8; 16], dst: [u8; 16]) {
        out.put(ETHERTYPE_IPV6.to_be_bytes());
        out.put((6 << 28 | (self.inner.tos as u32) << 20).to_be_bytes());
        out.put(self.payload_len().to_be_bytes());
        out.put([self.protocol(), self.inner.ttl]);
        out.put(src);
        out.put(dst);
    }

    fn write_vxlan(&self, out: &mut Writer<'_>) {
        let [g0, g1, policy] = match self.push.gbp {
            Some((id, flags)) => {
                let [g0, g1] = id.to_be_bytes();
                [g0, g1, flags & VXLAN_GBP_FLAGS]
            }
            None => [0; 3],
        };
        out.put([VXLAN_VNI | if self.push.gbp.is_some() { VXLAN_GBP } else { 0 }, policy, g0, g1]);
        out.put(self.vni_word());
    }

    fn write_geneve(&self, out: &mut Writer<'_>) {
        let oam = if self.push.oam { GENEVE_OAM } else { 0 };
        let critical = if self.is_critical { GENEVE_CRITICAL } else { 0 };
        out.put([(self.push.options.len() / 4) as u8, oam | critical]);
        out.put(ETHERTYPE_ETHERNET.to_be_bytes());
        out.put(self.vni_word());
        out.put_slice(&self.push.options);
    }

    /// The VNI and a reserved byte.
    fn vni_word(&self) -> [u8; 4] {
        ((self.push.vni.unwrap_or_default() as u32) << 8).to_be_bytes()
    }

    fn write_gre(&self, out: &mut Writer<'_>) {
        let checksum = if self.push.csum { GRE_CHECKSUM } else { 0 };
        let key = if self.push.vni.is_some() { GRE_KEY } else { 0 };
        out.put((checksum | key).to_be_bytes());
        out.put(ETHERTYPE_ETHERNET.to_be_bytes());
        if self.push.csum {
            out.put([0; 4]);
        }
        if let Some(id) = self.push.vni {
            out.put((id as u32).to_be_bytes());
        }
    }

    /// Sum of the pseudo header of UDP; that of GRE has none.
    fn pseudo_sum(&self, frame: &[u8]) -> Option<Sum> {
        if !self.push.protocol.is_udp() {
            return Some(Sum::ZERO);
        }
        let l3 = ETHERNET_LEN;
        let l4 = l3 + network_len(self.push);
        let addresses = frame.get(if self.push.dst.is_ipv4() { l3 + 12..l4 } else { l3 + 8..l4 })?;
        Some(Sum::of(addresses).with(PROTO_UDP as u16).with(self.payload_len()))
    }

    /// Leaves the checksum of the UDP header to others, if it is wanted.
    fn leave_checksum(&self, frame: &mut [u8]) {
        let at = ETHERNET_LEN + network_len(self.push) + 6;
        if self.push.csum
            && self.push.protocol.is_udp()
            && let Some(sum) = self.pseudo_sum(frame)
        {
            // Not zero, which would say that there is none: the protocol's number is part of it.
            put_at(frame, at, sum.folded().to_be_bytes());
        }
    }

    /// Fills the checksum of the UDP or GRE header of the finished frame, if it is wanted.
    fn finish_checksum(&self, frame: &mut [u8]) {
        let l4 = ETHERNET_LEN + network_len(self.push);
        let (true, Some(start)) = (self.push.csum, self.pseudo_sum(frame)) else { return };
        let offset = if self.push.protocol.is_udp() { 6 } else { 4 };
        let Some(covered) = frame.get_mut(l4..) else { return };
        let checksum = start.with_bytes(covered).checksum();
        put_checksum(covered, offset, self.protocol(), checksum);
    }
}

/// An IPv6 address; an IPv4 one as it is mapped into IPv6, which [`push`] excludes.
fn ipv6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
