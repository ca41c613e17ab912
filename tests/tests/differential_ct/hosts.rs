//! What hosts say: packets by etherparse, which knows nothing of either switch.

use std::net::IpAddr;

use etherparse::{PacketBuilder, PacketBuilderStep, ip_number};

/// Bytes before the IP header of these frames.
pub const ETHERNET: usize = 14;

/// One end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub ip: IpAddr,
    pub port: u16,
}

/// An address and a port, from text such as `10.0.0.1` and 80.
pub fn end(ip: &str, port: u16) -> End {
    End { ip: ip.parse().unwrap_or_else(|e| panic!("{ip}: {e}")), port }
}

/// The usual two: a client behind port p1 and a server behind p2.
pub fn client() -> End {
    end("10.0.0.1", 1000)
}

/// See [`client`].
pub fn server() -> End {
    end("10.0.0.2", 80)
}

fn ip(from: IpAddr, to: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = etherparse::Ipv4Header::new(0, 64, ip_number::UDP, from.octets(), to.octets());
            // Without "don't fragment", which etherparse sets by itself; the length and protocol are set when it is written.
            let mut header = header.unwrap_or_else(|e| panic!("{e}"));
            header.dont_fragment = false;
            header.identification = 1;
            builder.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// Letters of TCP flags, as tcpdump writes them: S, F, R, P, A (for its dot), U, E, C.
pub fn tcp(from: End, to: End, flags: &str, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp_window(from, to, flags, (seq, ack, 65_535), payload)
}

/// The same with a window: sequence number, acknowledgement, window.
pub fn tcp_window(from: End, to: End, flags: &str, numbers: (u32, u32, u16), payload: &[u8]) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(from.port, to.port, numbers.0, numbers.2);
    header.acknowledgment_number = numbers.1;
    for flag in flags.chars() {
        match flag {
            'S' => header.syn = true,
            'F' => header.fin = true,
            'R' => header.rst = true,
            'P' => header.psh = true,
            'A' => header.ack = true,
            'U' => header.urg = true,
            'E' => header.ece = true,
            'C' => header.cwr = true,
            other => panic!("no TCP flag {other}"),
        }
    }
    let builder = ip(from.ip, to.ip).tcp_header(header);
    let mut out = vec![];
    builder.write(&mut out, payload).unwrap_or_else(|e| panic!("a segment: {e}"));
    out
}

pub fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let builder = ip(from.ip, to.ip).udp(from.port, to.port);
    builder.write(&mut out, payload).unwrap_or_else(|e| panic!("a datagram: {e}"));
    out
}

/// ICMP or ICMPv6 with what stands in the second word: identifier and sequence number, or nothing.
pub fn icmp(from: IpAddr, to: IpAddr, (kind, code): (u8, u8), word: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let builder = ip(from, to);
    let done = match from {
        IpAddr::V4(_) => builder.icmpv4_raw(kind, code, word).write(&mut out, payload),
        IpAddr::V6(_) => builder.icmpv6_raw(kind, code, word).write(&mut out, payload),
    };
    done.unwrap_or_else(|e| panic!("a message: {e}"));
    out
}

/// An error message about a frame, of which `quoted` bytes from its IP header on are in it.
pub fn error(from: IpAddr, to: IpAddr, kind: (u8, u8), about: &[u8], quoted: usize) -> Vec<u8> {
    let packet = &about[ETHERNET..];
    icmp(from, to, kind, [0; 4], &packet[..quoted.min(packet.len())])
}

/// Any IP protocol.
pub fn raw(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    ip(from, to).write(&mut out, protocol.into(), payload).unwrap_or_else(|e| panic!("a packet: {e}"));
    out
}

/// An SCTP packet of one chunk.
pub fn sctp(from: End, to: End, tag: u32, chunk: u8, value: &[u8]) -> Vec<u8> {
    let mut packet =
        [&from.port.to_be_bytes()[..], &to.port.to_be_bytes(), &tag.to_be_bytes(), &[0; 4]].concat();
    packet.extend([chunk, 0]);
    packet.extend((4 + value.len() as u16).to_be_bytes());
    packet.extend(value);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let crc = crc32c(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    raw(from.ip, to.ip, 132, &packet)
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            },
        )
    })
}

/// The frame with a byte changed, counted from its IP header.
pub fn damaged(mut frame: Vec<u8>, at: usize, xor: u8) -> Vec<u8> {
    frame[ETHERNET + at] ^= xor;
    frame
}

/// The frame with its IPv4 packet cut to `len` bytes, which its header says too.
pub fn cut(frame: &[u8], len: usize) -> Vec<u8> {
    let mut out = frame[..ETHERNET + len].to_vec();
    out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(len as u16).to_be_bytes());
    seal(&mut out);
    out
}

/// IPv4 fragments with so many payload bytes each, but the last.
pub fn fragments(frame: &[u8], size: usize, id: u16) -> Vec<Vec<u8>> {
    let (header, payload) = frame[ETHERNET..].split_at(20);
    let pieces = payload.chunks(size);
    let last = pieces.len() - 1;
    let make = |(i, piece): (usize, &[u8])| {
        let mut out = [&frame[..ETHERNET], header, piece].concat();
        let word = (i * size / 8) as u16 | if i < last { 0x2000 } else { 0 };
        out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
        out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&id.to_be_bytes());
        out[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&word.to_be_bytes());
        seal(&mut out);
        out
    };
    pieces.enumerate().map(make).collect()
}

/// Computes the IPv4 header checksum anew.
fn seal(frame: &mut [u8]) {
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let sum: u32 =
        frame[ETHERNET..ETHERNET + 20].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
}
