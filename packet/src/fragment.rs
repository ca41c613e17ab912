//! IP fragments (RFC 791 section 3.2, RFC 8200 section 4.5): what one says of itself, the headers of the packet it was cut
//! from, and cutting.
//!
//! Pure: one frame in, frames out. Putting fragments together takes memory, limits and time: `datapath::fragments`.

use std::fmt;

use crate::checksum::Delta;
use crate::frame::{Checksum, Frame, FrameError, Segmentation};
use crate::key::PacketKey;
use crate::pool::FramePool;
use crate::rewrite::{Network, network, refresh_ipv4_checksum};
use crate::wire::*;

/// Offsets count in units of so many bytes, so every fragment but the last carries a multiple of it.
pub const FRAGMENT_UNIT: usize = 8;
/// Length of an IPv6 fragment header (RFC 8200 section 4.5).
pub const FRAGMENT_HEADER_LEN: usize = 8;
/// Longest IP packet, IPv6 header not counted: what the 16 bits of its length can say.
pub const PACKET_LEN_MAX: usize = 65_535;

/// Longest IPv4 header.
const IPV4_HEADER_MAX: usize = 60;
/// IPv4 flag "don't fragment", in the word of flags and offset.
const DF: u16 = 0x4000;
/// IPv4 flag "more fragments".
const MF: u16 = 0x2000;
/// IPv4 fragment offset, in [`FRAGMENT_UNIT`]s.
const OFFSET: u16 = 0x1fff;
/// IPv6 fragment offset, in bytes: the reserved bits and M are below.
const OFFSET_V6: u16 = 0xfff8;
/// IPv6 M flag.
const MORE_V6: u16 = 1;

/// What a fragment says of itself: its place in the packet, and where its parts are in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// IPv4, else IPv6.
    pub is_ipv4: bool,
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// IPv4 protocol, or what the IPv6 fragment header names as next; of an IPv6 packet only the first fragment's counts.
    pub protocol: u8,
    /// Place of the first payload byte in the packet's (fragmentable) payload, in bytes; a multiple of [`FRAGMENT_UNIT`].
    pub offset: usize,
    /// Whether this is not the last one.
    pub has_more: bool,
    /// Where the IP header begins, in bytes from the first byte of the frame.
    pub l3: usize,
    /// Where the payload begins, in bytes from the first byte of the frame.
    pub payload: usize,
    /// Length of the payload in bytes, padding of the frame not counted.
    pub payload_len: usize,
    /// IPv6: place of the byte that names the fragment header. Unused for IPv4.
    next_header_at: usize,
}

impl Fragment {
    /// Describes a frame whose layers are noted (see [`PacketKey::extract`]). `None` if it is no fragment; an IPv6 packet
    /// whose fragment header says that it is first and last is none (RFC 6946).
    pub fn of(frame: &Frame) -> Option<Fragment> {
        match network(frame)? {
            (Network::Ipv4, l3) => Fragment::of_ipv4(frame, l3),
            (Network::Ipv6, l3) => Fragment::of_ipv6(frame, l3),
            (Network::Arp, _) => None,
        }
    }

    /// Where the payload ends in that of the packet, in bytes.
    #[inline]
    pub fn end(&self) -> usize {
        self.offset + self.payload_len
    }

    /// Length of the IP packet in the frame, in bytes from its header to the end of its payload.
    #[inline]
    pub fn packet_len(&self) -> usize {
        self.payload + self.payload_len - self.l3
    }

    /// Length of the headers that the packet put together has before its payload, in bytes from its IP header: this
    /// fragment's without the IPv6 fragment header.
    #[inline]
    pub fn whole_headers_len(&self) -> usize {
        self.payload - self.l3 - if self.is_ipv4 { 0 } else { FRAGMENT_HEADER_LEN }
    }

    /// The payload in the frame that this describes.
    #[inline]
    pub fn payload_of<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        frame.bytes().get(self.payload..self.payload + self.payload_len).unwrap_or_default()
    }

    /// Writes the headers of the packet put together, from the Ethernet header on, to the end of the empty frame `whole`:
    /// those of this fragment, which must be the first, without a trace of fragmentation, for `payload_len` bytes to
    /// follow. The IPv4 header checksum is adapted, so a wrong one stays wrong; options are those of the first fragment.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the length does not fit its 16 bits or the headers do not fit `whole`.
    pub fn write_whole_headers(
        &self,
        first: &Frame,
        payload_len: usize,
        whole: &mut Frame,
    ) -> Result<(), FrameError> {
        let headers_len = self.whole_headers_len();
        let said = headers_len + payload_len - if self.is_ipv4 { 0 } else { IPV6_LEN };
        let too_long = FrameError::TooLong { wanted: self.l3 + headers_len + payload_len };
        if said > PACKET_LEN_MAX {
            return Err(too_long);
        }
        let headers = first.bytes().get(..self.l3 + headers_len).ok_or(too_long)?;
        whole.append(headers)?;
        let bytes = whole.bytes_mut();
        let said = said as u16;
        if !self.is_ipv4 {
            put_at(bytes, self.l3 + 4, said.to_be_bytes());
            put_at(bytes, self.next_header_at, [self.protocol]);
            return Ok(());
        }
        let old = |at| be16_at(first.bytes(), self.l3 + at).unwrap_or_default();
        let flags = old(6) & !(MF | OFFSET);
        let delta = Delta::of_u16(old(2), said).and(Delta::of_u16(old(6), flags));
        put_at(bytes, self.l3 + 2, said.to_be_bytes());
        put_at(bytes, self.l3 + 6, flags.to_be_bytes());
        put_at(bytes, self.l3 + 10, delta.applied(old(10)).to_be_bytes());
        Ok(())
    }

    fn of_ipv4(frame: &Frame, l3: usize) -> Option<Fragment> {
        let header = frame.bytes().get(l3..)?.first_chunk::<IPV4_LEN>()?;
        let flags = be16_at(header, 6)?;
        if flags & (MF | OFFSET) == 0 {
            return None;
        }
        let header_len = (header[0] & 15) as usize * 4;
        let total_len = be16_at(header, 2)? as usize;
        let fragment = Fragment {
            is_ipv4: true,
            identification: be16_at(header, 4)? as u32,
            protocol: header[9],
            offset: (flags & OFFSET) as usize * FRAGMENT_UNIT,
            has_more: flags & MF != 0,
            l3,
            payload: l3 + header_len,
            payload_len: total_len.checked_sub(header_len)?,
            next_header_at: 0,
        };
        (l3 + total_len <= frame.len()).then_some(fragment)
    }

    fn of_ipv6(frame: &Frame, l3: usize) -> Option<Fragment> {
        let bytes = frame.bytes();
        let end = l3 + IPV6_LEN + be16_at(bytes, l3 + 4)? as usize;
        let mut chain = Chain::start(l3);
        loop {
            if chain.protocol(bytes)? == PROTO_FRAGMENT {
                let word = be16_at(bytes, chain.at + 2)?;
                if word & (OFFSET_V6 | MORE_V6) != 0 {
                    let payload = chain.at + FRAGMENT_HEADER_LEN;
                    return Some(Fragment {
                        is_ipv4: false,
                        identification: be32_at(bytes, chain.at + 4)?,
                        protocol: *bytes.get(chain.at)?,
                        offset: (word & OFFSET_V6) as usize,
                        has_more: word & MORE_V6 != 0,
                        l3,
                        payload,
                        payload_len: end.min(frame.len()).checked_sub(payload)?,
                        next_header_at: chain.named_at,
                    });
                }
            }
            chain.step(bytes)?;
        }
    }
}

/// A place in the chain of IPv6 extension headers.
#[derive(Clone, Copy)]
struct Chain {
    /// Where the header begins.
    at: usize,
    /// Where the byte is that names it.
    named_at: usize,
}

impl Chain {
    fn start(l3: usize) -> Chain {
        Chain { at: l3 + IPV6_LEN, named_at: l3 + 6 }
    }

    fn protocol(&self, bytes: &[u8]) -> Option<u8> {
        bytes.get(self.named_at).copied()
    }

    /// Passes an extension header; `None` if this is none, or is cut off. Each turn takes at least eight bytes.
    fn step(&mut self, bytes: &[u8]) -> Option<()> {
        let units = *bytes.get(self.at + 1)? as usize;
        let len = match self.protocol(bytes)? {
            PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_DESTINATION => (units + 1) * 8,
            PROTO_AH => (units + 2) * 4,
            PROTO_FRAGMENT => FRAGMENT_HEADER_LEN,
            _ => return None,
        };
        *self = Chain { at: self.at + len, named_at: self.at };
        (self.at <= bytes.len()).then_some(())
    }
}

/// Why a frame is not cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitError {
    /// No IP packet, or one whose headers are not sound.
    NotIp,
    /// IPv4 says "don't fragment": the sender is to be told (ICMP type 3 code 4).
    DontFragment,
    /// An IPv6 packet that has a fragment header already.
    AlreadyFragment,
    /// The MTU leaves no room for eight bytes of payload behind the headers.
    MtuTooSmall,
    /// A super-frame: it must be segmented first (`Segments`).
    Segmentation,
    /// A fragment of a fragment would lie beyond the longest packet.
    TooLong,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SplitError::NotIp => "no IP packet",
            SplitError::DontFragment => "the packet may not be fragmented",
            SplitError::AlreadyFragment => "the packet is a fragment already",
            SplitError::MtuTooSmall => "the MTU leaves no room for payload",
            SplitError::Segmentation => "a super-frame must be segmented first",
            SplitError::TooLong => "a fragment would lie beyond the longest packet",
        })
    }
}

impl std::error::Error for SplitError {}

/// Cuts a packet into fragments of at most `mtu` bytes each, IP header included, and hands them to `out` in the order of
/// their offsets; a packet that fits comes out as a copy. Relies on `frame.layers`.
///
/// The Ethernet header and tags are repeated. IPv4 keeps its identification, and later fragments have only the options
/// that are to be copied (RFC 791 section 3.1); what is a fragment already is cut further. IPv6 gets fragment headers with
/// `identification`, behind what every router reads (RFC 8200 section 4.5). A partial checksum is completed first.
///
/// # Errors
/// See [`SplitError`]; `out` has then been given nothing.
pub fn split(
    frame: &Frame,
    mtu: usize,
    identification: u32,
    pool: &mut FramePool,
    out: impl FnMut(Frame),
) -> Result<(), SplitError> {
    Split { mtu, identification, ignores_df: false }.run(frame, pool, out)
}

/// [`split`], also if IPv4 says "don't fragment": for tunnels that have promised to carry what does not fit. Such a packet
/// loses the flag, and as its own identification need not be unique (RFC 6864 section 4.1) the low 16 bits of
/// `identification` take its place.
///
/// # Errors
/// As [`split`], but for [`SplitError::DontFragment`].
pub fn split_despite_df(
    frame: &Frame,
    mtu: usize,
    identification: u32,
    pool: &mut FramePool,
    out: impl FnMut(Frame),
) -> Result<(), SplitError> {
    Split { mtu, identification, ignores_df: true }.run(frame, pool, out)
}

#[derive(Clone, Copy)]
struct Split {
    mtu: usize,
    identification: u32,
    ignores_df: bool,
}

impl Split {
    fn run(self, frame: &Frame, pool: &mut FramePool, mut out: impl FnMut(Frame)) -> Result<(), SplitError> {
        let (is_ipv4, l3) = match network(frame).ok_or(SplitError::NotIp)? {
            (Network::Ipv4, l3) => (true, l3),
            (Network::Ipv6, l3) => (false, l3),
            (Network::Arp, _) => return Err(SplitError::NotIp),
        };
        if frame.packet_end() <= l3 + self.mtu {
            out(pool.copy_of(frame));
            return Ok(());
        }
        if frame.segmentation != Segmentation::None {
            return Err(SplitError::Segmentation);
        }
        if matches!(frame.checksum, Checksum::Partial { .. }) {
            let mut complete = pool.copy_of(frame);
            complete.complete_checksum();
            let done = self.cut(&complete, is_ipv4, l3, pool, &mut out);
            pool.give(complete);
            return done;
        }
        self.cut(frame, is_ipv4, l3, pool, &mut out)
    }

    fn cut(
        self,
        frame: &Frame,
        is_ipv4: bool,
        l3: usize,
        pool: &mut FramePool,
        out: &mut impl FnMut(Frame),
    ) -> Result<(), SplitError> {
        if is_ipv4 { self.cut_ipv4(frame, l3, pool, out) } else { self.cut_ipv6(frame, l3, pool, out) }
    }

    fn cut_ipv4(
        self,
        frame: &Frame,
        l3: usize,
        pool: &mut FramePool,
        out: &mut impl FnMut(Frame),
    ) -> Result<(), SplitError> {
        let packet = frame.bytes().get(l3..frame.packet_end()).ok_or(SplitError::NotIp)?;
        let header_len = packet.first().map_or(0, |b| (b & 15) as usize * 4);
        let (header, data) = packet.split_at_checked(header_len).ok_or(SplitError::NotIp)?;
        let flags = be16_at(header, 6).ok_or(SplitError::NotIp)?;
        let has_df = flags & DF != 0;
        if has_df && !self.ignores_df {
            return Err(SplitError::DontFragment);
        }
        let base = (flags & OFFSET) as usize * FRAGMENT_UNIT;
        if base + packet.len() > PACKET_LEN_MAX {
            return Err(SplitError::TooLong);
        }
        let (later, later_len) = later_header(header);
        let later = later.get(..later_len).unwrap_or_default();
        let sizes = Sizes::new(data.len(), self.mtu, header_len, later_len)?;
        for size in sizes {
            let head = if size.at == 0 { header } else { later };
            let mut fragment = piece(frame, l3, &[head], size.of(data), pool);
            let bytes = fragment.bytes_mut();
            let mut word = flags & !(DF | OFFSET) | ((base + size.at) / FRAGMENT_UNIT) as u16;
            if !size.is_last {
                word |= MF;
            }
            put_at(bytes, l3 + 2, ((head.len() + size.len) as u16).to_be_bytes());
            put_at(bytes, l3 + 6, word.to_be_bytes());
            if has_df {
                put_at(bytes, l3 + 4, (self.identification as u16).to_be_bytes());
            }
            out(finished(fragment));
        }
        Ok(())
    }

    fn cut_ipv6(
        self,
        frame: &Frame,
        l3: usize,
        pool: &mut FramePool,
        out: &mut impl FnMut(Frame),
    ) -> Result<(), SplitError> {
        let bytes = frame.bytes().get(..frame.packet_end()).ok_or(SplitError::NotIp)?;
        let fork = unfragmentable(bytes, l3)?;
        let next = fork.protocol(bytes).ok_or(SplitError::NotIp)?;
        let (headers, data) = bytes.split_at_checked(fork.at).ok_or(SplitError::NotIp)?;
        let head = headers.get(l3..).ok_or(SplitError::NotIp)?;
        let head_len = head.len() + FRAGMENT_HEADER_LEN;
        for size in Sizes::new(data.len(), self.mtu, head_len, head_len)? {
            let [o0, o1] = (size.at as u16 | u16::from(!size.is_last)).to_be_bytes();
            let [i0, i1, i2, i3] = self.identification.to_be_bytes();
            let header = [next, 0, o0, o1, i0, i1, i2, i3];
            let mut fragment = piece(frame, l3, &[head, &header], size.of(data), pool);
            let bytes = fragment.bytes_mut();
            put_at(bytes, l3 + 4, ((head_len + size.len - IPV6_LEN) as u16).to_be_bytes());
            put_at(bytes, fork.named_at, [PROTO_FRAGMENT]);
            out(finished(fragment));
        }
        Ok(())
    }
}

/// Where the payload is cut.
struct Sizes {
    at: usize,
    end: usize,
    /// Payload bytes of the first fragment, should it not be the last; a multiple of [`FRAGMENT_UNIT`].
    first: usize,
    /// Payload bytes of later ones but the last.
    later: usize,
    /// The same, not rounded down: what the last one may carry.
    last: usize,
}

/// Payload of one fragment.
struct Size {
    at: usize,
    len: usize,
    is_last: bool,
}

impl Size {
    fn of<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        data.get(self.at..self.at + self.len).unwrap_or_default()
    }
}

impl Sizes {
    fn new(end: usize, mtu: usize, first_head: usize, later_head: usize) -> Result<Sizes, SplitError> {
        let whole_units = |head: usize| mtu.saturating_sub(head) & !(FRAGMENT_UNIT - 1);
        let first = whole_units(first_head);
        if first == 0 {
            return Err(SplitError::MtuTooSmall);
        }
        // The header of later ones is never longer.
        Ok(Sizes { at: 0, end, first, later: whole_units(later_head), last: mtu.saturating_sub(later_head) })
    }
}

impl Iterator for Sizes {
    type Item = Size;

    fn next(&mut self) -> Option<Size> {
        let left = self.end.checked_sub(self.at).filter(|left| *left > 0)?;
        let is_last = self.at > 0 && left <= self.last;
        let most = if self.at == 0 { self.first } else { self.later };
        let size = Size { at: self.at, len: if is_last { left } else { most.min(left) }, is_last };
        self.at += size.len;
        Some(size)
    }
}

/// The IPv4 header of fragments after the first, and its length: without the options that only the first has.
fn later_header(header: &[u8]) -> ([u8; IPV4_HEADER_MAX], usize) {
    let mut out = [0; IPV4_HEADER_MAX];
    let (Some(fixed), Some(mut options)) = (header.get(..IPV4_LEN), header.get(IPV4_LEN..)) else {
        return (out, 0);
    };
    if let Some(place) = out.get_mut(..IPV4_LEN) {
        place.copy_from_slice(fixed);
    }
    let mut len = IPV4_LEN;
    while let Some(kind) = options.first().filter(|kind| **kind != 0) {
        // Type 1 is a single byte; the copied flag is the highest bit (RFC 791 section 3.1).
        let option_len = if *kind == 1 { 1 } else { options.get(1).map_or(0, |len| (*len).max(2) as usize) };
        let Some((option, rest)) = options.split_at_checked(option_len).filter(|_| option_len > 0) else {
            break;
        };
        if kind & 0x80 != 0
            && let Some(place) = out.get_mut(len..len + option_len)
        {
            place.copy_from_slice(option);
            len += option_len;
        }
        options = rest;
    }
    // Zeros behind the last option end the list.
    let len = len.next_multiple_of(4).min(header.len());
    if let Some(first) = out.first_mut() {
        *first = 0x40 | (len / 4) as u8;
    }
    (out, len)
}

/// Where the fragment header of a packet has its place: behind the routing header, or else the hop-by-hop options, or else
/// the IPv6 header (RFC 8200 section 4.5).
fn unfragmentable(bytes: &[u8], l3: usize) -> Result<Chain, SplitError> {
    let mut chain = Chain::start(l3);
    let mut fork = chain;
    loop {
        let protocol = chain.protocol(bytes).ok_or(SplitError::NotIp)?;
        match protocol {
            PROTO_FRAGMENT => return Err(SplitError::AlreadyFragment),
            PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_DESTINATION => {
                chain.step(bytes).ok_or(SplitError::NotIp)?;
            }
            _ => return Ok(fork),
        }
        if protocol != PROTO_DESTINATION {
            fork = chain;
        }
    }
}

/// A frame of the headers below IP, `heads` and payload.
fn piece(frame: &Frame, l3: usize, heads: &[&[u8]], data: &[u8], pool: &mut FramePool) -> Frame {
    let below = frame.bytes().get(..l3).unwrap_or_default();
    let mut out = pool.take();
    // No longer than the frame and a fragment header, so there is room.
    for part in [below].iter().chain(heads).chain([&data]) {
        let _ = out.append(part);
    }
    out.in_port = frame.in_port;
    set_llc_length(out.bytes_mut());
    out
}

/// Puts right the length that an 802.3 header has in place of the EtherType.
fn set_llc_length(bytes: &mut [u8]) {
    let mut at = ETHERNET_LEN - 2;
    while be16_at(bytes, at).is_some_and(is_vlan) {
        at += VLAN_LEN;
    }
    if be16_at(bytes, at).is_some_and(|ethertype| ethertype < ETHERTYPE_MIN) {
        let len = (bytes.len() - at - 2) as u16;
        put_at(bytes, at, len.to_be_bytes());
    }
}

/// Notes the layers of a fresh fragment and gives an IPv4 header its checksum.
fn finished(mut fragment: Frame) -> Frame {
    // It has an Ethernet header, so this cannot fail.
    let _ = PacketKey::extract(&mut fragment);
    refresh_ipv4_checksum(&mut fragment);
    fragment
}
