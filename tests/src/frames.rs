//! Frames for the suites, written by etherparse, which shares no code with the switch.

use etherparse::PacketBuilder;

/// Bytes of two MAC addresses, behind which tags stand.
const MACS_LEN: usize = 12;

/// A MAC address made for tests: locally administered, told apart by its last byte.
pub fn mac(last: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 0, last]
}

/// A UDP datagram over IPv4.
pub fn udp(src: [u8; 6], dst: [u8; 6], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    udp_between(src, dst, ([10, 0, 0, src[5]], [10, 0, 0, dst[5]]), ports, 64, payload)
}

/// A UDP datagram over IPv4 with everything chosen.
pub fn udp_between(
    src: [u8; 6],
    dst: [u8; 6],
    (from, to): ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(src, dst).ipv4(from, to, ttl).udp(ports.0, ports.1);
    let mut out = Vec::new();
    builder.write(&mut out, payload).unwrap_or_else(|e| panic!("a datagram: {e}"));
    out
}

/// A frame of the EtherType for local experiments (IEEE 802, 0x88b5), which no kernel answers.
pub fn experimental(src: [u8; 6], dst: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut out = [&dst[..], &src[..], &[0x88, 0xb5]].concat();
    out.extend(payload);
    out.resize(out.len().max(60), 0);
    out
}

/// The frame with a VLAN tag pushed.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let mut out = frame.to_vec();
    let tag: Vec<u8> = tpid.to_be_bytes().into_iter().chain(tci.to_be_bytes()).collect();
    out.splice(MACS_LEN..MACS_LEN, tag);
    out
}

/// In hex, as netdev-dummy/receive and packet-out take it.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// From hex; blanks are skipped.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect()
}

/// Frames of a capture file (classic pcap, little endian).
pub fn read_pcap(path: &std::path::Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let word = |at: usize| bytes.get(at..at + 4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
    let magic = word(0).unwrap_or_else(|| panic!("{}: no pcap header", path.display()));
    assert!([0xa1b2_c3d4, 0xa1b2_3c4d].contains(&magic), "{}: magic {magic:x}", path.display());
    let (mut frames, mut at) = (vec![], 24);
    while let (Some(captured), Some(length)) = (word(at + 8), word(at + 12)) {
        assert_eq!(captured, length, "{}: a frame is cut", path.display());
        let Some(frame) = bytes.get(at + 16..at + 16 + captured as usize) else { break };
        frames.push(frame.to_vec());
        at += 16 + captured as usize;
    }
    frames
}

/// Writes frames as a capture file.
pub fn write_pcap(path: &std::path::Path, frames: &[Vec<u8>]) {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 262_144, 1] {
        out.extend(word.to_le_bytes());
    }
    for (i, frame) in frames.iter().enumerate() {
        for word in [i as u32, 0, frame.len() as u32, frame.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    std::fs::write(path, out).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
