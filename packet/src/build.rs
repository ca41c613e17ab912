//! Frames made from their fields: for tests, and for tools that generate a frame from a flow.
//!
//! [`compose`] is the inverse of [`PacketKey::extract`] for keys whose fields go together (a TCP flag only with IP protocol 6,
//! and so on). [`FrameBuilder`] is the same with a payload of one's own and the few fields that no key has.
//!
//! etherparse builds frames too, but neither MPLS nor fragments, ND options or bad ones; it is the judge in tests instead.

use crate::checksum::{Sum, udp_checksum};
use crate::crc32c;
use crate::key::{DL_TYPE_NONE, FRAG_ANY, FRAG_LATER, PacketKey, Slot, VLAN_PRESENT, slot};
use crate::wire::*;

/// A frame with the fields of `key` and `payload_len` bytes (0, 1, 2, …) behind the last header. Lengths and checksums are
/// right. Fields that the headers announced by other fields do not have are ignored.
pub fn compose(key: &PacketKey, payload_len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload_len).map(|i| i as u8).collect();
    FrameBuilder::from_key(*key).payload(&payload).build()
}

/// Makes one frame. Starts from [`tcp4`](Self::tcp4), [`udp4`](Self::udp4), … or any key, and [`set`](Self::set)s
/// further fields.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    key: PacketKey,
    payload: Vec<u8>,
    ipv4_options: Vec<u8>,
    identification: u16,
    tcp: TcpFields,
}

#[derive(Clone, Debug, Default)]
struct TcpFields {
    sequence: u32,
    acknowledgement: u32,
    options: Vec<u8>,
}

impl FrameBuilder {
    /// With the fields of a key, and no payload.
    pub fn from_key(key: PacketKey) -> FrameBuilder {
        FrameBuilder {
            key,
            payload: Vec::new(),
            ipv4_options: Vec::new(),
            identification: 0,
            tcp: TcpFields { sequence: 1, ..TcpFields::default() },
        }
    }

    /// An empty Ethernet frame from 02:00:00:00:00:01 to 02:00:00:00:00:02.
    pub fn ethernet(ethertype: u16) -> FrameBuilder {
        FrameBuilder::from_key(PacketKey::default())
            .set(slot::DL_SRC, 0x0200_0000_0001)
            .set(slot::DL_DST, 0x0200_0000_0002)
            .set(slot::DL_TYPE, ethertype as u128)
    }

    /// An IPv4 packet with TTL 64.
    pub fn ipv4(src: u32, dst: u32, protocol: u8) -> FrameBuilder {
        FrameBuilder::ethernet(ETHERTYPE_IPV4)
            .set(slot::NW_SRC, src as u128)
            .set(slot::NW_DST, dst as u128)
            .set(slot::NW_PROTO, protocol as u128)
            .set(slot::NW_TTL, 64)
    }

    /// An IPv6 packet with hop limit 64.
    pub fn ipv6(src: u128, dst: u128, protocol: u8) -> FrameBuilder {
        FrameBuilder::ethernet(ETHERTYPE_IPV6)
            .set(slot::IPV6_SRC, src)
            .set(slot::IPV6_DST, dst)
            .set(slot::NW_PROTO, protocol as u128)
            .set(slot::NW_TTL, 64)
    }

    /// A TCP segment over IPv4. `flags`: FIN is bit 0.
    pub fn tcp4(src: (u32, u16), dst: (u32, u16), flags: u16) -> FrameBuilder {
        FrameBuilder::ipv4(src.0, dst.0, PROTO_TCP).ports(src.1, dst.1).set(slot::TCP_FLAGS, flags as u128)
    }

    /// A TCP segment over IPv6.
    pub fn tcp6(src: (u128, u16), dst: (u128, u16), flags: u16) -> FrameBuilder {
        FrameBuilder::ipv6(src.0, dst.0, PROTO_TCP).ports(src.1, dst.1).set(slot::TCP_FLAGS, flags as u128)
    }

    /// A UDP datagram over IPv4.
    pub fn udp4(src: (u32, u16), dst: (u32, u16)) -> FrameBuilder {
        FrameBuilder::ipv4(src.0, dst.0, PROTO_UDP).ports(src.1, dst.1)
    }

    /// A UDP datagram over IPv6.
    pub fn udp6(src: (u128, u16), dst: (u128, u16)) -> FrameBuilder {
        FrameBuilder::ipv6(src.0, dst.0, PROTO_UDP).ports(src.1, dst.1)
    }

    /// An ICMP message. What follows type, code and checksum is the payload, after four zero bytes.
    pub fn icmp4(src: u32, dst: u32, kind: u8, code: u8) -> FrameBuilder {
        FrameBuilder::ipv4(src, dst, PROTO_ICMP).ports(kind as u16, code as u16)
    }

    /// An ICMPv6 message with hop limit 255, as neighbour discovery wants it.
    pub fn icmp6(src: u128, dst: u128, kind: u8, code: u8) -> FrameBuilder {
        FrameBuilder::ipv6(src, dst, PROTO_ICMPV6).ports(kind as u16, code as u16).set(slot::NW_TTL, 255)
    }

    /// An ARP message from one address pair to another.
    pub fn arp(operation: u8, sender: (u64, u32), target: (u64, u32)) -> FrameBuilder {
        FrameBuilder::ethernet(ETHERTYPE_ARP)
            .set(slot::DL_SRC, sender.0 as u128)
            .set(slot::NW_PROTO, operation as u128)
            .set(slot::ARP_SHA, sender.0 as u128)
            .set(slot::NW_SRC, sender.1 as u128)
            .set(slot::ARP_THA, target.0 as u128)
            .set(slot::NW_DST, target.1 as u128)
    }

    fn ports(self, src: u16, dst: u16) -> FrameBuilder {
        self.set(slot::TP_SRC, src as u128).set(slot::TP_DST, dst as u128)
    }

    /// Sets any field of the key.
    #[must_use]
    pub fn set(mut self, slot: Slot, value: u128) -> FrameBuilder {
        self.key.set(slot, value);
        self
    }

    /// Sets both Ethernet addresses.
    #[must_use]
    pub fn macs(self, src: u64, dst: u64) -> FrameBuilder {
        self.set(slot::DL_SRC, src as u128).set(slot::DL_DST, dst as u128)
    }

    /// Adds the outer VLAN tag, or, called a second time, the inner one.
    #[must_use]
    pub fn vlan(self, tpid: u16, tci: u16) -> FrameBuilder {
        let tci = (tci | VLAN_PRESENT) as u128;
        if self.key.get(slot::VLAN_TCI) == 0 {
            self.set(slot::VLAN_TPID, tpid as u128).set(slot::VLAN_TCI, tci)
        } else {
            self.set(slot::VLAN_TPID_INNER, tpid as u128).set(slot::VLAN_TCI_INNER, tci)
        }
    }

    /// Sets what follows the last header.
    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> FrameBuilder {
        self.payload = bytes.to_vec();
        self
    }

    /// Sets the IPv4 options; filled up with zeros to a multiple of 4, cut at 40 bytes.
    #[must_use]
    pub fn ipv4_options(mut self, options: &[u8]) -> FrameBuilder {
        self.ipv4_options = options_of(options);
        self
    }

    /// Sets the IPv4 identification, also used in IPv6 fragment headers.
    #[must_use]
    pub fn identification(mut self, identification: u16) -> FrameBuilder {
        self.identification = identification;
        self
    }

    /// Sets TCP sequence and acknowledgement numbers.
    #[must_use]
    pub fn tcp_numbers(mut self, sequence: u32, acknowledgement: u32) -> FrameBuilder {
        (self.tcp.sequence, self.tcp.acknowledgement) = (sequence, acknowledgement);
        self
    }

    /// Sets the TCP options; filled up with zeros to a multiple of 4, cut at 40 bytes.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> FrameBuilder {
        self.tcp.options = options_of(options);
        self
    }

    /// The key as far as it is set.
    pub fn key(&self) -> &PacketKey {
        &self.key
    }

    /// The bytes. A payload that an IP length field cannot hold is cut.
    pub fn build(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.payload.len());
        out.extend(self.bytes::<6>(slot::DL_DST));
        out.extend(self.bytes::<6>(slot::DL_SRC));
        for (tpid, tci) in [(slot::VLAN_TPID, slot::VLAN_TCI), (slot::VLAN_TPID_INNER, slot::VLAN_TCI_INNER)]
        {
            if self.u16(tci) != 0 {
                let tpid = if self.u16(tpid) == 0 { ETHERTYPE_VLAN } else { self.u16(tpid) };
                out.extend(tpid.to_be_bytes());
                out.extend((self.u16(tci) & !VLAN_PRESENT).to_be_bytes());
            }
        }
        self.put_rest(&mut out);
        out
    }

    fn put_rest(&self, out: &mut Vec<u8>) {
        let ethertype = self.key.dl_type();
        if ethertype < ETHERTYPE_MIN {
            // An LLC header that is no SNAP header, of the spanning tree protocol.
            let length = if ethertype == DL_TYPE_NONE || ethertype == 0 {
                3 + self.payload.len()
            } else {
                ethertype as usize
            };
            out.extend((length.min(0x5dc) as u16).to_be_bytes());
            out.extend([0x42, 0x42, 3]);
            out.extend(&self.payload);
            return;
        }
        out.extend(ethertype.to_be_bytes());
        match ethertype {
            ETHERTYPE_IPV4 => self.put_ipv4(out),
            ETHERTYPE_IPV6 => self.put_ipv6(out),
            ETHERTYPE_ARP | ETHERTYPE_RARP => self.put_arp(out),
            ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => self.put_mpls(out),
            _ => out.extend(&self.payload),
        }
    }

    fn put_mpls(&self, out: &mut Vec<u8>) {
        for slot in [slot::MPLS_LSE0, slot::MPLS_LSE1, slot::MPLS_LSE2] {
            let lse = self.key.get(slot) as u32;
            out.extend(lse.to_be_bytes());
            if lse & MPLS_BOS != 0 {
                break;
            }
        }
        out.extend(&self.payload);
    }

    fn put_arp(&self, out: &mut Vec<u8>) {
        out.extend([0, 1, 8, 0, 6, 4, 0]);
        out.extend(self.bytes::<1>(slot::NW_PROTO));
        out.extend(self.bytes::<6>(slot::ARP_SHA));
        out.extend(self.bytes::<4>(slot::NW_SRC));
        out.extend(self.bytes::<6>(slot::ARP_THA));
        out.extend(self.bytes::<4>(slot::NW_DST));
        out.extend(&self.payload);
    }

    fn put_ipv4(&self, out: &mut Vec<u8>) {
        let (src, dst) = (self.key.get(slot::NW_SRC) as u32, self.key.get(slot::NW_DST) as u32);
        let [protocol] = self.bytes::<1>(slot::NW_PROTO);
        let [tos] = self.bytes::<1>(slot::NW_TOS);
        let [ttl] = self.bytes::<1>(slot::NW_TTL);
        let header_len = IPV4_LEN + self.ipv4_options.len();
        let transport = self.transport(protocol, u16::MAX as usize - header_len, |len| {
            Sum::pseudo_v4(src, dst, protocol, len as u16)
        });
        let fragment: u16 = match self.frag() {
            0 => 0,
            FRAG_ANY => 0x2000,
            _ => 0x0001,
        };
        let mut header = vec![0x40 | (header_len / 4) as u8, tos];
        header.extend(((header_len + transport.len()) as u16).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend(fragment.to_be_bytes());
        header.extend([ttl, protocol, 0, 0]);
        header.extend(src.to_be_bytes());
        header.extend(dst.to_be_bytes());
        header.extend(&self.ipv4_options);
        let checksum = Sum::of(&header).checksum();
        put_at(&mut header, 10, checksum.to_be_bytes());
        out.extend(header);
        out.extend(transport);
    }

    fn put_ipv6(&self, out: &mut Vec<u8>) {
        let (src, dst) = (self.key.get(slot::IPV6_SRC), self.key.get(slot::IPV6_DST));
        let [protocol] = self.bytes::<1>(slot::NW_PROTO);
        let frag = self.frag();
        let extension_len = if frag == 0 { 0 } else { 8 };
        let transport = self.transport(protocol, u16::MAX as usize - extension_len, |len| {
            Sum::pseudo_v6(src, dst, protocol, len as u32)
        });
        let first = 6 << 28
            | (self.key.get(slot::NW_TOS) as u32) << 20
            | self.key.get(slot::IPV6_LABEL) as u32 & 0xf_ffff;
        out.extend(first.to_be_bytes());
        out.extend(((extension_len + transport.len()) as u16).to_be_bytes());
        out.push(if frag == 0 { protocol } else { PROTO_FRAGMENT });
        out.extend(self.bytes::<1>(slot::NW_TTL));
        out.extend(src.to_be_bytes());
        out.extend(dst.to_be_bytes());
        if frag != 0 {
            let (next, offset): (u8, u16) =
                if frag & FRAG_LATER != 0 { (PROTO_NONE, 8) } else { (protocol, 1) };
            out.extend([next, 0]);
            out.extend(offset.to_be_bytes());
            out.extend([0, 0]);
            out.extend(self.identification.to_be_bytes());
        }
        out.extend(transport);
    }

    /// Transport header and payload of at most `len_max` bytes. `pseudo` gives the sum of the pseudo header.
    fn transport(&self, protocol: u8, len_max: usize, pseudo: impl Fn(usize) -> Sum) -> Vec<u8> {
        let is_ipv6 = self.key.dl_type() == ETHERTYPE_IPV6;
        let mut out = Vec::new();
        let checksum_at = match protocol {
            _ if self.frag() & FRAG_LATER != 0 => None,
            PROTO_TCP => {
                self.put_tcp(&mut out);
                Some(16)
            }
            PROTO_UDP => {
                self.put_ports(&mut out);
                let len = (8 + self.payload.len()).min(len_max) as u16;
                out.extend(len.to_be_bytes());
                out.extend([0; 2]);
                Some(6)
            }
            PROTO_SCTP => {
                self.put_ports(&mut out);
                out.extend([0; 8]);
                None
            }
            PROTO_ICMP if !is_ipv6 => {
                out.extend([self.u16(slot::TP_SRC) as u8, self.u16(slot::TP_DST) as u8, 0, 0, 0, 0, 0, 0]);
                Some(2)
            }
            PROTO_ICMPV6 if is_ipv6 => {
                self.put_icmpv6(&mut out);
                Some(2)
            }
            _ => None,
        };
        out.extend(&self.payload);
        out.truncate(len_max);
        if let Some(at) = checksum_at {
            let start = if protocol == PROTO_ICMP { Sum::ZERO } else { pseudo(out.len()) };
            let checksum = start.with_bytes(&out).checksum();
            let checksum = if protocol == PROTO_UDP { udp_checksum(checksum) } else { checksum };
            put_at(&mut out, at, checksum.to_be_bytes());
        } else if protocol == PROTO_SCTP && self.frag() & FRAG_LATER == 0 {
            let crc = crc32c::sctp(&out);
            put_at(&mut out, 8, crc.to_le_bytes());
        }
        out
    }

    fn put_ports(&self, out: &mut Vec<u8>) {
        out.extend(self.bytes::<2>(slot::TP_SRC));
        out.extend(self.bytes::<2>(slot::TP_DST));
    }

    fn put_tcp(&self, out: &mut Vec<u8>) {
        self.put_ports(out);
        out.extend(self.tcp.sequence.to_be_bytes());
        out.extend(self.tcp.acknowledgement.to_be_bytes());
        let words = (20 + self.tcp.options.len()) as u16 / 4;
        out.extend((words << 12 | self.u16(slot::TCP_FLAGS) & 0xfff).to_be_bytes());
        out.extend([0xff, 0xff, 0, 0, 0, 0]);
        out.extend(&self.tcp.options);
    }

    fn put_icmpv6(&self, out: &mut Vec<u8>) {
        let (kind, code) = (self.u16(slot::TP_SRC) as u8, self.u16(slot::TP_DST) as u8);
        out.extend([kind, code, 0, 0]);
        if code != 0 || kind != ND_SOLICIT && kind != ND_ADVERT {
            out.extend([0; 4]);
            return;
        }
        out.extend(self.bytes::<4>(slot::ND_RESERVED));
        out.extend(self.key.get(slot::ND_TARGET).to_be_bytes());
        let first = self.key.get(slot::ND_OPTIONS_TYPE) as u8;
        let mut options = [(ND_OPTION_SOURCE, slot::ARP_SHA), (ND_OPTION_TARGET, slot::ARP_THA)];
        if first == ND_OPTION_TARGET {
            options.reverse();
        }
        for (kind, slot) in options {
            if kind == first || self.key.get(slot) != 0 {
                out.extend([kind, 1]);
                out.extend(self.bytes::<6>(slot));
            }
        }
        // The payload is not to be read as options.
        if !self.payload.is_empty() {
            out.extend([0; 8]);
        }
    }

    /// Fragment bits, a later fragment always being a fragment.
    fn frag(&self) -> u8 {
        match self.key.get(slot::NW_FRAG) as u8 & (FRAG_ANY | FRAG_LATER) {
            FRAG_LATER => FRAG_ANY | FRAG_LATER,
            frag => frag,
        }
    }

    fn u16(&self, slot: Slot) -> u16 {
        self.key.get(slot) as u16
    }

    fn bytes<const N: usize>(&self, slot: Slot) -> [u8; N] {
        *self.key.get(slot).to_be_bytes().last_chunk().unwrap_or(&[0; N])
    }
}

/// Options as a header can hold them.
fn options_of(options: &[u8]) -> Vec<u8> {
    let mut options = options.get(..40).unwrap_or(options).to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    options
}
