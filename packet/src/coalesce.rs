//! Coalescing: TCP segments of a stream that follow one another become one super-frame, for ports whose other side takes
//! those (what the kernel calls generic receive offload). The inverse of `segment`.
//!
//! Segments are joined only if cutting the super-frame gives them again, byte for byte: same headers, consecutive sequence
//! numbers (and identifications, unless DF makes those meaningless: RFC 6864 section 4.1), all of one length but the last. A
//! segment with PSH is the last of its super-frame, as cutting puts PSH on the last. Checksums are verified first, so that a
//! damaged segment does not become a good one. ACKs, SYN, FIN, RST, URG, CWR and IP options are never joined.
//!
//! Which frames wait for each other, and how long, is the port's business.

use crate::checksum::{Delta, Sum};
use crate::frame::{Checksum, Frame, NO_LAYER, Segmentation};
use crate::wire::*;
use std::ops::Range;

/// Place of the sequence number, acknowledgement, data offset, flags, window, checksum and urgent pointer in a TCP
/// header, and of its options (RFC 9293 section 3.1).
const SEQ: usize = 4;
const ACK: usize = 8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const URGENT: usize = 18;
const OPTIONS: usize = 20;

const FLAG_PSH: u8 = 0x08;
const FLAG_ACK: u8 = 0x10;
/// FIN, SYN, RST, URG, CWR.
const FLAGS_ALONE: u8 = 0x01 | 0x02 | 0x04 | 0x20 | 0x80;

/// Longest IP packet.
const PACKET_MAX: usize = 65_535;

/// A frame's part of a TCP stream, if it is one that may be joined with others.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    is_ipv4: bool,
    l3: u16,
    l4: u16,
    payload: u16,
    /// Payload of each segment but the last.
    size: u16,
    /// Number of segments.
    segments: u16,
    /// Sequence number after the last byte.
    next: u32,
    /// Whether more may be joined.
    is_open: bool,
}

/// What came of an attempt to join two frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Joined {
    /// The second is now part of the first.
    Yes,
    /// They belong to different streams.
    OtherStream,
    /// They belong to the same stream, and must stay apart and in order.
    No,
}

impl Run {
    /// Reads the headers of a frame that is a plain TCP segment with payload. `None` for everything else. Needs the frame's
    /// layers, as extraction finds them.
    #[inline]
    pub fn of(frame: &Frame) -> Option<Run> {
        let (l3, l4) = (frame.layers.l3, frame.layers.l4);
        if l3 == NO_LAYER || l4 == NO_LAYER || frame.segmentation != Segmentation::None {
            return None;
        }
        Run::of_segment(frame.bytes(), l3, l4)
    }

    /// As [`Run::of`], of what may be a segment with its IP header at `l3` and its TCP header at `l4`. What lies before belongs
    /// to its headers.
    #[inline]
    pub fn of_segment(bytes: &[u8], l3: u16, l4: u16) -> Option<Run> {
        let (network, transport) = (bytes.get(l3 as usize..)?, bytes.get(l4 as usize..)?);
        let header = network.first_chunk::<IPV4_LEN>()?;
        let is_ipv4 = match header[0] {
            0x45 => {
                let is_fragment = be16_at(header, 6)? & 0x3fff != 0;
                let len = be16_at(header, 2)? as usize;
                if header[9] != PROTO_TCP
                    || is_fragment
                    || len != network.len()
                    || l4.checked_sub(l3) != Some(20)
                {
                    return None;
                }
                true
            }
            version if version >> 4 == 6 => {
                let len = be16_at(header, 4)? as usize + IPV6_LEN;
                if header[6] != PROTO_TCP || len != network.len() || l4.checked_sub(l3) != Some(40) {
                    return None;
                }
                false
            }
            _ => return None,
        };
        let header_len = (transport.get(DATA_OFFSET)? >> 4) as usize * 4;
        let payload_len = transport.len().checked_sub(header_len).filter(|n| *n > 0)?;
        let flags = *transport.get(FLAGS)?;
        if header_len < OPTIONS || flags & FLAGS_ALONE != 0 || flags & FLAG_ACK == 0 {
            return None;
        }
        Some(Run {
            is_ipv4,
            l3,
            l4,
            payload: l4 + header_len as u16,
            size: u16::try_from(payload_len).ok()?,
            segments: 1,
            next: be32_at(transport, SEQ)?.wrapping_add(payload_len as u32),
            is_open: flags & FLAG_PSH == 0,
        })
    }

    /// Number of segments.
    pub fn segments(&self) -> u16 {
        self.segments
    }

    /// Joins `next` to `held`, of which this is the run, if it continues it. `next` is left as it is.
    #[inline]
    pub fn join(&mut self, held: &mut Frame, next: &Frame, next_run: &Run) -> Joined {
        self.join_segment(held, next.bytes(), next.checksum, next_run)
    }

    /// As [`Run::join`], with the bytes of the segment and what is known of its transport checksum.
    #[inline]
    pub fn join_segment(
        &mut self,
        held: &mut Frame,
        next: &[u8],
        checksum: Checksum,
        next_run: &Run,
    ) -> Joined {
        if !self.is_same_stream(held.bytes(), next, next_run) {
            return Joined::OtherStream;
        }
        match self.try_join(held, next, checksum, next_run) {
            Some(()) => Joined::Yes,
            None => Joined::No,
        }
    }

    fn is_same_stream(&self, held: &[u8], next: &[u8], run: &Run) -> bool {
        if (self.is_ipv4, self.l3, self.l4) != (run.is_ipv4, run.l3, run.l4) {
            return false;
        }
        let ports = self.l4 as usize..self.l4 as usize + SEQ;
        let addresses = self.addresses();
        held.get(ports.clone()) == next.get(ports) && held.get(addresses.clone()) == next.get(addresses)
    }

    fn addresses(&self) -> Range<usize> {
        let l3 = self.l3 as usize;
        if self.is_ipv4 { l3 + 12..l3 + 20 } else { l3 + 8..l3 + 40 }
    }

    fn try_join(&mut self, held: &mut Frame, next: &[u8], checksum: Checksum, run: &Run) -> Option<()> {
        let start = next.get(self.l4 as usize..).and_then(|t| be32_at(t, SEQ))?;
        let payload = next.get(run.payload as usize..)?;
        let fits = held.len() - self.l3 as usize + payload.len() <= PACKET_MAX;
        if !self.is_open || start != self.next || run.size > self.size || !fits {
            return None;
        }
        if !self.has_headers_of(held.bytes(), next, run)
            || !run.is_sound(next, checksum)
            || self.segments == 1 && !self.is_sound(held.bytes(), held.checksum)
        {
            return None;
        }
        held.append(payload).ok()?;
        let psh = next.get(self.l4 as usize + FLAGS)? & FLAG_PSH;
        self.segments += 1;
        self.next = run.next;
        self.is_open = run.is_open && run.size == self.size;
        self.finish(held, psh)
    }

    /// Whether the checksums of the segment that this was read from are right. A transport checksum that was vouched for, or that
    /// its sender left to us, is believed.
    fn is_sound(&self, bytes: &[u8], checksum: Checksum) -> bool {
        let (l3, l4) = (self.l3 as usize, self.l4 as usize);
        let is_header_sound =
            !self.is_ipv4 || bytes.get(l3..l3 + IPV4_LEN).is_some_and(|h| Sum::of(h).checksum() == 0);
        let is_segment_sound = || {
            bytes.get(l4..).is_some_and(|segment| {
                self.pseudo_sum(bytes, segment.len()).with_bytes(segment).checksum() == 0
            })
        };
        is_header_sound && (checksum != Checksum::Unknown || is_segment_sound())
    }

    /// Sum of the pseudo header, for a TCP header and payload of `len` bytes.
    fn pseudo_sum(&self, bytes: &[u8], len: usize) -> Sum {
        let addresses = bytes.get(self.addresses()).unwrap_or_default();
        Sum::of(addresses).with(PROTO_TCP.into()).with_u32(len as u32)
    }

    /// Whether all that a super-frame has but once is the same in both.
    fn has_headers_of(&self, held: &[u8], next: &[u8], run: &Run) -> bool {
        let (l3, l4, payload) = (self.l3 as usize, self.l4 as usize, self.payload as usize);
        let same = |from: usize, to: usize| {
            held.get(from..to).zip(next.get(from..to)).is_some_and(|(held, next)| held == next)
        };
        let same_flags = || {
            let flags = |b: &[u8]| b.get(l4 + FLAGS).map(|f| f & !FLAG_PSH);
            flags(held) == flags(next)
        };
        let same_network = || {
            if !self.is_ipv4 {
                return same(l3, l3 + 4) && same(l3 + 6, l3 + 8);
            }
            // DF, and the identification if it has a meaning.
            let is_atomic = held.get(l3 + 6).is_some_and(|b| b & 0x40 != 0);
            let follows = || {
                let id = be16_at(held, l3 + 4).map(|id| id.wrapping_add(self.segments));
                id == be16_at(next, l3 + 4)
            };
            same(l3, l3 + 2) && same(l3 + 6, l3 + 10) && (is_atomic || follows())
        };
        self.payload == run.payload
            && same(0, l3)
            && same_network()
            && same(l4 + ACK, l4 + FLAGS)
            && same_flags()
            && same(l4 + WINDOW, l4 + CHECKSUM)
            && same(l4 + URGENT, payload)
    }

    /// Puts lengths and checksums right after payload was added.
    fn finish(&self, held: &mut Frame, psh: u8) -> Option<()> {
        let (l3, l4) = (self.l3 as usize, self.l4 as usize);
        let packet_len = held.len() - l3;
        let pseudo = self.pseudo_sum(held.bytes(), held.len() - l4).folded();
        let bytes = held.bytes_mut();
        if self.is_ipv4 {
            let (old_len, len) = (be16_at(bytes, l3 + 2)?, packet_len as u16);
            let checksum = Delta::of_u16(old_len, len).applied(be16_at(bytes, l3 + 10)?);
            put_at(bytes, l3 + 2, len.to_be_bytes());
            put_at(bytes, l3 + 10, checksum.to_be_bytes());
        } else {
            put_at(bytes, l3 + 4, ((packet_len - IPV6_LEN) as u16).to_be_bytes());
        }
        put_at(bytes, l4 + CHECKSUM, pseudo.to_be_bytes());
        *bytes.get_mut(l4 + FLAGS)? |= psh;
        held.checksum = Checksum::Partial { start: self.l4, offset: CHECKSUM as u16 };
        held.segmentation = match self.is_ipv4 {
            true => Segmentation::TcpV4 { size: self.size, ecn: false },
            false => Segmentation::TcpV6 { size: self.size, ecn: false },
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PacketKey;
    use crate::pool::FramePool;
    use crate::segment::Segments;
    use proptest::prelude::*;

    const MSS: usize = 100;

    /// A segment as a sender makes it, checksums computed here.
    fn segment(is_ipv6: bool, id: u16, seq: u32, flags: u8, payload: &[u8]) -> Frame {
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let tcp_len = 20 + options.len() + payload.len();
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        let sum = if is_ipv6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 7]);
            bytes.extend((tcp_len as u16).to_be_bytes());
            bytes.extend([6, 64]);
            let (src, dst) = (1u128 << 120 | 1, 1u128 << 120 | 2);
            bytes.extend(src.to_be_bytes());
            bytes.extend(dst.to_be_bytes());
            Sum::pseudo_v6(src, dst, 6, tcp_len as u32)
        } else {
            bytes.extend([8, 0]);
            let mut header = vec![0x45, 0];
            header.extend((20 + tcp_len as u16).to_be_bytes());
            header.extend(id.to_be_bytes());
            header.extend([0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let checksum = Sum::of(&header).checksum();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            bytes.extend(header);
            Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 6, tcp_len as u16)
        };
        let l4 = bytes.len();
        bytes.extend([0x30, 0x39, 0, 80]);
        bytes.extend(seq.to_be_bytes());
        bytes.extend([0, 0, 0, 9, (((20 + options.len()) / 4) << 4) as u8, flags, 1, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(payload);
        let checksum = sum.with_bytes(&bytes[l4..]).checksum();
        bytes[l4 + 16..l4 + 18].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = Frame::from_bytes(&bytes);
        PacketKey::extract(&mut frame).unwrap();
        assert!(frame.verify_transport());
        copy_of(&frame)
    }

    /// A copy with room to grow, as frames of a pool have.
    fn copy_of(frame: &Frame) -> Frame {
        FramePool::new(1).copy_of(frame)
    }

    fn stream(is_ipv6: bool, lens: &[usize], flags_of_last: u8) -> Vec<Frame> {
        let mut seq = 0xffff_ff00u32;
        let mut frames = Vec::new();
        for (n, len) in lens.iter().enumerate() {
            let flags = if n + 1 == lens.len() { flags_of_last } else { FLAG_ACK };
            let payload: Vec<u8> = (0..*len).map(|i| (i * 7 + n) as u8).collect();
            frames.push(segment(is_ipv6, 0xfffe_u16.wrapping_add(n as u16), seq, flags, &payload));
            seq = seq.wrapping_add(*len as u32);
        }
        frames
    }

    /// Joins what can be joined, each frame only with the one before.
    fn join_all<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Vec<Frame> {
        let mut joined: Vec<(Frame, Option<Run>)> = Vec::new();
        for frame in frames {
            let run = Run::of(frame);
            if let (Some((held, Some(held_run))), Some(run)) = (joined.last_mut(), &run)
                && held_run.join(held, frame, run) == Joined::Yes
            {
                continue;
            }
            joined.push((copy_of(frame), run));
        }
        joined.into_iter().map(|(frame, _)| frame).collect()
    }

    fn cut(frame: Frame) -> Vec<Vec<u8>> {
        let mut pool = FramePool::new(4);
        if frame.segmentation == Segmentation::None {
            return vec![frame.bytes().to_vec()];
        }
        let mut segments = Segments::new(frame).unwrap();
        std::iter::from_fn(|| segments.next_segment(&mut pool)).map(|s| s.bytes().to_vec()).collect()
    }

    fn is_refused(first: &Frame, second: &Frame) -> bool {
        join_all([first, second]).len() == 2
    }

    proptest! {
        /// Cutting what was joined gives what there was, whatever the lengths are.
        #[test]
        fn joining_is_undone_by_cutting(
            lens in prop::collection::vec(prop_oneof![Just(MSS), 1..2 * MSS], 1..30),
            psh in any::<bool>(),
            is_ipv6 in any::<bool>(),
        ) {
            let last = if psh { FLAG_ACK | FLAG_PSH } else { FLAG_ACK };
            let frames = stream(is_ipv6, &lens, last);
            let mut joined = join_all(&frames);
            for frame in &mut joined {
                frame.validate_offload().unwrap();
                prop_assert!(frame.verify_ipv4_header());
            }
            let sent: Vec<Vec<u8>> = frames.iter().map(|f| f.bytes().to_vec()).collect();
            prop_assert_eq!(joined.into_iter().flat_map(cut).collect::<Vec<_>>(), sent);
        }
    }

    #[test]
    fn a_long_stream_becomes_few_frames_within_what_ip_can_say() {
        for is_ipv6 in [false, true] {
            let frames = stream(is_ipv6, &[1400; 60], FLAG_ACK | FLAG_PSH);
            let joined = join_all(&frames);
            assert_eq!(joined.len(), 2);
            assert_eq!(joined[0].len() - if is_ipv6 { 86 } else { 66 }, 46 * 1400);
            let size = match joined[1].segmentation {
                Segmentation::TcpV4 { size, ecn: false } | Segmentation::TcpV6 { size, ecn: false } => size,
                other => panic!("{other:?}"),
            };
            assert_eq!(size, 1400);
            // PSH ended up in front, for who cuts it to put on the last.
            assert_eq!(joined[1].bytes()[joined[1].layers.l4 as usize + FLAGS], FLAG_ACK | FLAG_PSH);
        }
    }

    #[test]
    fn a_short_or_pushed_segment_is_the_last() {
        let frames = stream(false, &[MSS, MSS - 1, MSS - 1], FLAG_ACK);
        assert_eq!(join_all(&frames).len(), 2);
        let mut frames = stream(false, &[MSS, MSS], FLAG_ACK | FLAG_PSH);
        let after = 0xffff_ff00u32.wrapping_add(2 * MSS as u32);
        frames.push(segment(false, 0, after, FLAG_ACK, &[1; MSS]));
        assert_eq!(join_all(&frames).len(), 2);
        let longer = stream(false, &[MSS, MSS + 1], FLAG_ACK);
        assert_eq!(join_all(&longer).len(), 2);
    }

    #[test]
    fn what_differs_stays_apart() {
        for is_ipv6 in [false, true] {
            let frames = stream(is_ipv6, &[MSS, MSS], FLAG_ACK);
            let (first, second) = (&frames[0], &frames[1]);
            assert!(!is_refused(first, second));
            let l4 = first.layers.l4 as usize;
            // Any header byte that is not a length, a checksum or the sequence number, with its checksums put right.
            for at in 0..first.len() - MSS {
                let mut other = Frame::from_bytes(second.bytes());
                other.bytes_mut()[at] ^= 0x40;
                if PacketKey::extract(&mut other).is_err() {
                    continue;
                }
                crate::rewrite::refresh_ipv4_checksum(&mut other);
                other.refresh_transport_checksum();
                other.checksum = Checksum::Unknown;
                let is_checksum = (l4 + 16..l4 + 18).contains(&at) || !is_ipv6 && (24..26).contains(&at);
                assert_eq!(is_refused(first, &other), !is_checksum, "byte {at}, IPv6 {is_ipv6}");
            }
        }
    }

    #[test]
    fn flags_that_mean_something_are_never_joined() {
        for flag in 0..8 {
            let flags = FLAG_ACK ^ 1 << flag;
            let frames = stream(false, &[MSS, MSS], flags);
            // PSH on the last may be.
            assert_eq!(is_refused(&frames[0], &frames[1]), flags != FLAG_ACK | FLAG_PSH, "{flags:#x}");
        }
        // Nor if both have them: only PSH in front ends a run, and ECE may stand on all.
        for (flags, is_alone) in
            [(0x11, true), (0x12, true), (0x14, true), (0x30, true), (0x90, true), (0x50, false)]
        {
            let one = segment(false, 1, 0, flags, &[0; MSS]);
            let other = segment(false, 2, MSS as u32, flags, &[0; MSS]);
            assert_eq!(is_refused(&one, &other), is_alone, "{flags:#x}");
        }
    }

    #[test]
    fn damage_is_not_mended() {
        let frames = stream(false, &[MSS, MSS], FLAG_ACK);
        for damaged in [0, 1] {
            let mut pair = [Frame::from_bytes(frames[0].bytes()), Frame::from_bytes(frames[1].bytes())];
            let last = pair[damaged].len() - 1;
            pair[damaged].bytes_mut()[last] ^= 1;
            for frame in &mut pair {
                PacketKey::extract(frame).unwrap();
            }
            assert!(is_refused(&pair[0], &pair[1]));
            let mut pair = [Frame::from_bytes(frames[0].bytes()), Frame::from_bytes(frames[1].bytes())];
            // The IPv4 header checksum.
            pair[damaged].bytes_mut()[24] ^= 1;
            for frame in &mut pair {
                PacketKey::extract(frame).unwrap();
            }
            assert!(is_refused(&pair[0], &pair[1]));
        }
    }

    #[test]
    fn identifications_count_unless_df_says_that_they_do_not() {
        let one = segment(false, 5, 0, FLAG_ACK, &[0; MSS]);
        assert!(!is_refused(&one, &segment(false, 6, MSS as u32, FLAG_ACK, &[0; MSS])));
        assert!(is_refused(&one, &segment(false, 7, MSS as u32, FLAG_ACK, &[0; MSS])));
        let df = |id, seq| {
            let mut frame = segment(false, id, seq, FLAG_ACK, &[0; MSS]);
            frame.bytes_mut()[20] |= 0x40;
            crate::rewrite::refresh_ipv4_checksum(&mut frame);
            frame
        };
        assert!(!is_refused(&df(5, 0), &df(5, MSS as u32)));
    }

    #[test]
    fn other_streams_are_told_from_their_own() {
        let one = segment(false, 1, 0, FLAG_ACK, &[0; MSS]);
        let mut held = copy_of(&one);
        let mut run = Run::of(&held).unwrap();
        let later = segment(false, 3, 2 * MSS as u32, FLAG_ACK, &[0; MSS]);
        assert_eq!(run.join(&mut held, &later, &Run::of(&later).unwrap()), Joined::No);
        let mut other = segment(false, 2, MSS as u32, FLAG_ACK, &[0; MSS]);
        let l4 = other.layers.l4 as usize;
        other.bytes_mut()[l4] ^= 1;
        assert_eq!(run.join(&mut held, &other, &Run::of(&other).unwrap()), Joined::OtherStream);
        assert_eq!(held.bytes(), one.bytes());
    }
}
