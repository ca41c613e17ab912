//! Frames to forward, as bytes.

use packet::{Checksum, Frame, FrameBuilder, PacketKey, Segmentation, slot};

/// Address of the host behind port 1, which sends.
pub const SENDER: u64 = 0x0200_0000_0001;
/// Address of the host behind port 2, which receives.
pub const RECEIVER: u64 = 0x0200_0000_0002;

/// Bytes that a processor's caches have or lack together.
const LINE: usize = 64;

/// Frames in one piece of memory, in the order in which they come, each at the beginning of a cache line, and next to each other:
/// a receiver that has this memory to itself. In vectors of their own they lay wherever the allocator found room, and a
/// benchmark measured that.
#[derive(Clone, Debug)]
pub struct Frames {
    bytes: Box<[u8]>,
    /// Where the first frame begins.
    start: usize,
    /// From the beginning of a frame to that of the next.
    stride: usize,
    lens: Box<[usize]>,
}

impl Frames {
    /// How many.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// One of them.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let start = self.start + at * self.stride;
        self.bytes.get(start..start + self.lens.get(at)?)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// Copies of all.
    pub fn to_vecs(&self) -> Vec<Vec<u8>> {
        self.iter().map(<[u8]>::to_vec).collect()
    }

    /// So many, none longer than `longest`; the first `longest` bytes of those that are. Each is made and put in its place before the
    /// next, so nothing is left to the allocator that others could use: memory is measured with this.
    pub fn from_fn<T: AsRef<[u8]>>(frames: usize, longest: usize, frame: impl FnMut(usize) -> T) -> Frames {
        let stride = longest.next_multiple_of(LINE);
        let mut bytes = vec![0; stride * frames + LINE].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(LINE);
        let mut lens = vec![0; frames].into_boxed_slice();
        for ((frame, len), at) in (0..frames).map(frame).zip(&mut lens).zip((start..).step_by(stride.max(1)))
        {
            let frame = frame.as_ref();
            *len = frame.len().min(longest);
            bytes[at..at + *len].copy_from_slice(&frame[..*len]);
        }
        Frames { bytes, start, stride, lens }
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Frames {
    fn from_iter<I: IntoIterator<Item = T>>(frames: I) -> Frames {
        let frames: Vec<T> = frames.into_iter().collect();
        let longest = frames.iter().map(|frame| frame.as_ref().len()).max().unwrap_or(0);
        Frames::from_fn(frames.len(), longest, |at| &frames[at])
    }
}

/// The kinds of frames that extraction is measured with, by name.
pub fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let (src, dst) = ((0x0a00_0001, 40_000), (0x0a00_0002, 443));
    let (src6, dst6) = ((0xfd00_u128 << 112 | 1, 40_000), (0xfd00_u128 << 112 | 2, 443));
    vec![
        ("tcp4", FrameBuilder::tcp4(src, dst, 0x10).payload(&[0; 6]).build()),
        ("vlan_tcp4", FrameBuilder::tcp4(src, dst, 0x10).vlan(0x8100, 5).payload(&[0; 2]).build()),
        ("udp4", FrameBuilder::udp4(src, dst).payload(&[0; 18]).build()),
        ("tcp6", FrameBuilder::tcp6(src6, dst6, 0x10).build()),
        ("tcp6_extensions", with_extensions(FrameBuilder::tcp6(src6, dst6, 0x10).build())),
        ("arp", FrameBuilder::arp(1, (SENDER, src.0), (0, dst.0)).payload(&[0; 18]).build()),
    ]
}

/// Puts hop-by-hop and destination options of eight bytes each behind the IPv6 header of a frame without tags.
fn with_extensions(mut bytes: Vec<u8>) -> Vec<u8> {
    const IPV6_AT: usize = 14;
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION: u8 = 60;
    // Padding option of four bytes (RFC 8200 section 4.2).
    let pad = [1, 4, 0, 0, 0, 0];
    let next = std::mem::replace(&mut bytes[IPV6_AT + 6], HOP_BY_HOP);
    let payload_len = u16::from_be_bytes([bytes[IPV6_AT + 4], bytes[IPV6_AT + 5]]) + 16;
    bytes[IPV6_AT + 4..IPV6_AT + 6].copy_from_slice(&payload_len.to_be_bytes());
    let chain = [&[DESTINATION, 0][..], &pad, &[next, 0], &pad].concat();
    bytes.splice(IPV6_AT + 40..IPV6_AT + 40, chain);
    bytes
}

/// UDP frames of `len` bytes from the sender to the receiver, one of each of `flows` flows, that differ in source address
/// and port.
pub fn udp_flows(flows: usize, len: usize) -> Vec<Vec<u8>> {
    let frame = |n: usize| {
        let src = (0x0a01_0000 + (n >> 8) as u32, 1024 + (n & 0xff) as u16);
        let payload = vec![0x5a; len.saturating_sub(14 + 20 + 8)];
        FrameBuilder::udp4(src, (0x0a00_0002, 53)).macs(SENDER, RECEIVER).payload(&payload).build()
    };
    (0..flows).map(frame).collect()
}

/// The keys of frames that come in at a port.
pub fn keys_of(frames: &[Vec<u8>], port: packet::DpPort) -> Vec<PacketKey> {
    let key = |bytes: &Vec<u8>| {
        let mut frame = Frame::from_bytes(bytes);
        frame.in_port = port;
        PacketKey::extract(&mut frame).unwrap()
    };
    frames.iter().map(key).collect()
}

/// A TCP super-frame of 64 KiB that is to be cut into segments of `size` bytes of payload, checksum still to be computed.
pub fn super_frame(size: u16) -> Frame {
    let payload = vec![0xa5; 65_535 - 40];
    let bytes = FrameBuilder::tcp4((0x0a00_0001, 40_000), (0x0a00_0002, 443), 0x18).payload(&payload).build();
    let mut frame = Frame::with_capacity(packet::frame::FRAME_LEN_MAX);
    frame.append(&bytes).unwrap();
    frame.checksum = Checksum::Partial { start: 34, offset: 16 };
    frame.segmentation = Segmentation::TcpV4 { size, ecn: false };
    let key = PacketKey::extract(&mut frame).unwrap();
    assert_eq!(key.get(slot::TP_DST), 443);
    frame.validate_offload().unwrap();
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{DpPort, FramePool, Segments};
    use std::collections::HashSet;

    #[test]
    fn every_kind_is_what_its_name_says() {
        for (name, bytes) in kinds() {
            let key = &keys_of(std::slice::from_ref(&bytes), DpPort(1))[0];
            let is_arp = name == "arp";
            assert_eq!(
                key.get(slot::NW_PROTO),
                if is_arp { 1 } else { if name == "udp4" { 17 } else { 6 } },
                "{name}"
            );
            assert_eq!(key.get(slot::TP_DST), if is_arp { 0 } else { 443 }, "{name}");
            assert_eq!(key.get(slot::VLAN_TCI) != 0, name == "vlan_tcp4", "{name}");
        }
    }

    #[test]
    fn flows_differ_and_have_the_length() {
        let frames = udp_flows(1000, 64);
        assert!(frames.iter().all(|f| f.len() == 64));
        assert_eq!(keys_of(&frames, DpPort(1)).into_iter().collect::<HashSet<_>>().len(), 1000);
    }

    #[test]
    fn frames_lie_in_order_each_on_lines_of_its_own() {
        let vecs = vec![vec![1; 60], vec![], vec![3; 65], vec![4; 64]];
        let frames: Frames = vecs.iter().collect();
        assert_eq!((frames.to_vecs(), frames.len(), frames.get(4)), (vecs, 4, None));
        let starts: Vec<_> = frames.iter().map(|f| f.as_ptr().addr()).collect();
        assert!(starts.iter().all(|at| at % LINE == 0) && starts.windows(2).all(|w| w[1] == w[0] + 2 * LINE));
        let none: Frames = Vec::<Vec<u8>>::new().into_iter().collect();
        assert!(none.is_empty() && none.iter().next().is_none());
    }

    #[test]
    fn super_frame_is_cut() {
        let mut segments = Segments::new(super_frame(1448)).unwrap();
        let mut pool = FramePool::new(64);
        let mut made = 0;
        while let Some(segment) = segments.next_segment(&mut pool) {
            made += 1;
            pool.give(segment);
        }
        assert_eq!(made, (65_535usize - 40).div_ceil(1448));
    }
}
