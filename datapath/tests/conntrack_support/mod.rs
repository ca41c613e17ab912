//! A tracker, a clock, and frames sent through it, each checked by etherparse from scratch afterwards.

#![allow(dead_code, reason = "each suite uses a part")]

use base::{HashSeed, Instant};
use datapath::conntrack::*;
use etherparse::{IpNumber, LaxPacketHeaders, NetHeaders, TransportHeader};
use packet::{Checksum, DpPort, Frame, FrameBuilder, PacketKey, Sum, slot};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub const A: u32 = 0x0a00_0001;
pub const B: u32 = 0x0a00_0002;
pub const N: u32 = 0xc0a8_0001;

pub const NEW: CtState = CtState(0x21);
pub const EST: CtState = CtState(0x22);
pub const EST_RPL: CtState = CtState(0x2a);
pub const INV: CtState = CtState(0x30);

pub const FIN: u16 = 0x01;
pub const SYN: u16 = 0x02;
pub const RST: u16 = 0x04;
pub const PSH_ACK: u16 = 0x18;
pub const SYN_ACK: u16 = 0x12;
pub const FIN_ACK: u16 = 0x11;
pub const RST_ACK: u16 = 0x14;
pub const ACK: u16 = 0x10;

pub struct World {
    pub ct: ConnTracker,
    pub now: Instant,
    pub port: DpPort,
}

pub struct Sent {
    pub tracked: Tracked,
    pub key: PacketKey,
    pub frame: Frame,
}

impl Sent {
    pub fn state(&self) -> CtState {
        self.tracked.state
    }

    /// Source and destination of an IPv4 frame with ports.
    pub fn ends(&self) -> ((u32, u16), (u32, u16)) {
        let get = |slot| self.key.get(slot) as u32;
        let end = |ip, port| (get(ip), get(port) as u16);
        (end(slot::NW_SRC, slot::TP_SRC), end(slot::NW_DST, slot::TP_DST))
    }

    pub fn payload(&self) -> Vec<u8> {
        let headers = LaxPacketHeaders::from_ethernet(self.frame.bytes()).unwrap();
        headers.payload.slice().to_vec()
    }
}

impl World {
    pub fn new() -> World {
        World::with(CtConfig::default())
    }

    pub fn with(config: CtConfig) -> World {
        World {
            ct: ConnTracker::new(HashSeed::new(1, 2), config),
            now: Instant::from_secs(1000),
            port: DpPort(1),
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Ends everything whose time is up.
    pub fn expire(&self) -> usize {
        let mut ended = 0;
        while self.ct.next_expiry().is_some_and(|at| at <= self.now) {
            ended += self.ct.expire(self.now);
        }
        ended
    }

    pub fn send(&self, spec: &CtSpec, builder: &FrameBuilder) -> Sent {
        self.send_frame(spec, Frame::from_bytes(&builder.build()))
    }

    pub fn send_frame(&self, spec: &CtSpec, mut frame: Frame) -> Sent {
        let key = PacketKey::extract(&mut frame).unwrap();
        self.send_again(spec, Sent { tracked: self.nothing(), key, frame })
    }

    fn nothing(&self) -> Tracked {
        Tracked { class: CtClass::default(), state: CtState::NONE, hold: None, drop: None, changes: 0 }
    }

    /// Another pass of the same frame, with what its key holds.
    pub fn send_again(&self, spec: &CtSpec, sent: Sent) -> Sent {
        let Sent { mut key, mut frame, .. } = sent;
        let tracked = self.ct.track(&mut frame, &mut key, spec, self.port, self.now);
        if tracked.state != INV {
            check_frame(&frame, &key);
        }
        assert_eq!(key.get(slot::CT_STATE) as u32, tracked.state.0);
        assert_eq!(tracked.class.state(), tracked.state);
        Sent { tracked, key, frame }
    }

    pub fn state(&self, spec: &CtSpec, builder: &FrameBuilder) -> CtState {
        self.send(spec, builder).tracked.state
    }

    pub fn all(&self) -> Vec<ConnectionRecord> {
        let mut all = Vec::new();
        let mut cursor = Some(DumpCursor::default());
        while let Some(from) = cursor {
            let (part, next) = self.ct.dump(None, from, self.now);
            all.extend(part);
            cursor = next;
        }
        all
    }
}

/// The headers' bytes must say what the key says, and every checksum must be right.
pub fn check_frame(frame: &Frame, key: &PacketKey) {
    let mut completed = Frame::from_bytes(frame.bytes());
    let mut again = PacketKey::extract(&mut completed).unwrap();
    if let Checksum::Partial { .. } = frame.checksum {
        completed.checksum = frame.checksum;
        completed.complete_checksum();
    }
    for slot in slot::ALL.iter().filter(|s| (s.word as usize) < PacketKey::METADATA_WORD) {
        again.set_in_port(key.in_port());
        assert_eq!(again.get(*slot), key.get(*slot), "{slot:?} of {key:?} and {again:?}");
    }
    check_checksums(completed.bytes());
}

/// Every checksum, by etherparse.
pub fn check_checksums(bytes: &[u8]) {
    let headers = LaxPacketHeaders::from_ethernet(bytes).unwrap();
    let payload = headers.payload.slice();
    if let Some(NetHeaders::Ipv4(ip, _)) = &headers.net {
        assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4 header");
    }
    match (&headers.net, &headers.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).unwrap(), "TCP");
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Tcp(tcp))) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).unwrap(), "TCP");
        }
        (Some(NetHeaders::Ipv4(_, _)), Some(TransportHeader::Udp(udp))) if udp.checksum == 0 => {}
        (Some(NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Udp(udp))) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(ip, payload).unwrap(), "UDP");
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Udp(udp))) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, payload).unwrap(), "UDP");
        }
        (_, Some(TransportHeader::Icmpv4(icmp))) => {
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload), "ICMP");
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
            let sum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload).unwrap();
            assert_eq!(icmp.checksum, sum, "ICMPv6");
        }
        (Some(net), None) => {
            let protocol = match net {
                NetHeaders::Ipv4(ip, _) => ip.protocol,
                NetHeaders::Ipv6(ip, _) => ip.next_header,
                NetHeaders::Arp(_) => return,
            };
            if protocol == IpNumber::SCTP {
                let crc = crc32c_bit_by_bit(payload);
                assert_eq!(payload[8..12], crc.to_le_bytes(), "SCTP");
            }
        }
        _ => {}
    }
}

/// CRC32c of an SCTP packet with its checksum field taken for zero, by the definition.
fn crc32c_bit_by_bit(packet: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        crc ^= if (8..12).contains(&at) { 0 } else { u32::from(*byte) };
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

pub fn commit() -> CtSpec {
    CtSpec { commit: true, ..CtSpec::default() }
}

pub fn bare_nat() -> CtSpec {
    CtSpec { nat: Some(NatSpec::apply()), ..CtSpec::default() }
}

pub fn nat(kind: NatKind, ips: (u32, u32), ports: Option<(u16, u16)>) -> CtSpec {
    let ip = |ip| Some(IpAddr::from(Ipv4Addr::from(ip)));
    let ports = (ports.map(|p| p.0), ports.map(|p| p.1));
    let nat = NatSpec::new(kind, (ip(ips.0), ip(ips.1)), ports, PortSelection::Default, false).unwrap();
    CtSpec { commit: true, nat: Some(nat), ..CtSpec::default() }
}

pub fn snat(ip: u32) -> CtSpec {
    nat(NatKind::Src, (ip, ip), None)
}

pub fn dnat(ip: u32, port: u16) -> CtSpec {
    nat(NatKind::Dst, (ip, ip), Some((port, port)))
}

pub fn udp(src: (u32, u16), dst: (u32, u16)) -> FrameBuilder {
    FrameBuilder::udp4(src, dst).payload(b"x")
}

pub fn tcp(src: (u32, u16), dst: (u32, u16), flags: u16, seq: u32, ack: u32) -> FrameBuilder {
    FrameBuilder::tcp4(src, dst, flags).tcp_numbers(seq, ack)
}

/// An ICMP echo request (8) or reply (0).
pub fn echo(src: u32, dst: u32, kind: u8, id: u16) -> Frame {
    icmp(src, dst, kind, 0, u32::from(id) << 16 | 1, b"abcd")
}

/// An ICMP message: `rest` is the second word.
pub fn icmp(src: u32, dst: u32, kind: u8, code: u8, rest: u32, payload: &[u8]) -> Frame {
    with_icmp_rest(FrameBuilder::icmp4(src, dst, kind, code).payload(payload), rest)
}

/// The frame with the second word of its ICMP header set, and the checksum put right by etherparse's arithmetic.
pub fn with_icmp_rest(builder: FrameBuilder, rest: u32) -> Frame {
    let mut bytes = builder.build();
    let mut probe = Frame::from_bytes(&bytes);
    let key = PacketKey::extract(&mut probe).unwrap();
    let l4 = probe.layers.l4 as usize;
    bytes[l4 + 4..l4 + 8].copy_from_slice(&rest.to_be_bytes());
    bytes[l4 + 2..l4 + 4].fill(0);
    let start = if key.dl_type() == 0x86dd {
        let (src, dst) = (key.get(slot::IPV6_SRC), key.get(slot::IPV6_DST));
        Sum::pseudo_v6(src, dst, 58, (bytes.len() - l4) as u32)
    } else {
        Sum::ZERO
    };
    let sum = start.with_bytes(&bytes[l4..]).checksum();
    bytes[l4 + 2..l4 + 4].copy_from_slice(&sum.to_be_bytes());
    Frame::from_bytes(&bytes)
}

/// The frame with its checksum left to be completed, as a guest with checksum offload sends it.
pub fn partial(builder: &FrameBuilder) -> Frame {
    let mut frame = Frame::from_bytes(&builder.build());
    let key = PacketKey::extract(&mut frame).unwrap();
    let (l4, len) = (frame.layers.l4, frame.packet_end() - frame.layers.l4 as usize);
    let protocol = key.get(slot::NW_PROTO) as u8;
    let offset = if protocol == 6 { 16 } else { 6 };
    let sum = if key.dl_type() == 0x0800 {
        let get = |slot| key.get(slot) as u32;
        Sum::pseudo_v4(get(slot::NW_SRC), get(slot::NW_DST), protocol, len as u16)
    } else {
        Sum::pseudo_v6(key.get(slot::IPV6_SRC), key.get(slot::IPV6_DST), protocol, len as u32)
    };
    let at = (l4 + offset) as usize;
    frame.bytes_mut()[at..at + 2].copy_from_slice(&sum.folded().to_be_bytes());
    frame.checksum = Checksum::Partial { start: l4, offset };
    frame
}
