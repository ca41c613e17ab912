//! From the bytes of a frame to its [`PacketKey`]: one pass over the headers, each read once, every length checked once.
//!
//! What is a field and when it is zero follows ovs-fields(7) and what Open vSwitch does with the same bytes. A header that
//! is cut off or contradicts itself ends the pass: its fields stay zero and the frame is forwarded by what was read before.
//! Only a frame without an Ethernet header is refused.
//!
//! Not here: reassembly, tunnel decapsulation, checks of checksums.

use std::fmt;

use crate::frame::{FRAME_LEN_MAX, Frame, Layers, NO_LAYER};
use crate::key::{DL_TYPE_NONE, FRAG_ANY, FRAG_LATER, PacketKey, Slot, VLAN_PRESENT, slot};
use crate::wire::*;

/// Why a frame cannot be forwarded at all; each is one counted drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Malformed {
    /// Shorter than an Ethernet header.
    TooShort,
    /// Longer than [`FRAME_LEN_MAX`].
    TooLong,
    /// The partial checksum that the sender announced does not lie where the headers have one.
    Checksum,
    /// The segmentation that the sender announced does not fit the headers.
    Segmentation,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::TooShort => "shorter than an Ethernet header",
            Malformed::TooLong => "longer than a frame can be",
            Malformed::Checksum => "partial checksum outside the transport header",
            Malformed::Segmentation => "segmentation that does not fit the headers",
        })
    }
}

impl std::error::Error for Malformed {}

type Words = [u64; PacketKey::WORDS];

const _: () = {
    assert!(slot::DL_DST.shift == 16 && slot::DL_SRC.shift == 16, "addresses are read with what lies behind");
    let (src, dst) = (slot::NW_SRC, slot::NW_DST);
    assert!(src.word == dst.word && src.shift == 32 && dst.shift == 0, "addresses are read at once");
};

impl PacketKey {
    /// Reads the fields of a frame and notes in `frame.layers` where its layers begin. `IN_PORT` is taken from the frame;
    /// fields that are not in the bytes (recirculation, mark, tunnel, connection) are left zero.
    ///
    /// # Errors
    /// [`Malformed::TooShort`] and [`Malformed::TooLong`]; the layers are then cleared.
    #[inline]
    pub fn extract(frame: &mut Frame) -> Result<PacketKey, Malformed> {
        let mut key = PacketKey::default();
        read(frame, key.words_mut())?;
        Ok(key)
    }

    /// [`extract`](Self::extract) in place, which spares a copy of the key, and leaves the metadata that it holds as it is
    /// (the words from [`METADATA_WORD`](Self::METADATA_WORD) on): for frames that are read again, and for arrays of keys
    /// without metadata, one a frame of a batch.
    ///
    /// # Errors
    /// As there; the key then holds nothing of use.
    #[inline]
    pub fn extract_headers(&mut self, frame: &mut Frame) -> Result<(), Malformed> {
        if let Some((headers, _)) = self.words_mut().split_first_chunk_mut::<{ PacketKey::METADATA_WORD }>() {
            *headers = [0; PacketKey::METADATA_WORD];
        }
        read(frame, self.words_mut())
    }
}

/// Reads a frame into words that are zero.
#[inline(always)]
fn read(frame: &mut Frame, words: &mut Words) -> Result<(), Malformed> {
    put(words, slot::IN_PORT, frame.in_port.0 as u64);
    // In place: four offsets that are written one by one and then read as one word to be copied would stall the processor.
    let (bytes, layers) = frame.bytes_and_layers_mut();
    *layers = Layers::default();
    read_ethernet(bytes, words, layers)
}

/// Adds a value to a slot that is still zero.
#[inline(always)]
fn put(words: &mut Words, slot: Slot, value: u64) {
    if let Some(word) = words.get_mut(slot.word as usize) {
        *word |= value << slot.shift;
    }
}

/// Fills a word that is still zero, that of a slot; what it leaves zero may be added.
#[inline(always)]
fn set_word(words: &mut Words, slot: Slot, value: u64) {
    if let Some(word) = words.get_mut(slot.word as usize) {
        *word = value;
    }
}

#[inline(always)]
fn put_128(words: &mut Words, slot: Slot, value: &[u8; 16]) {
    let value = u128::from_be_bytes(*value);
    put(words, Slot::at(slot.word, 0, 64), (value >> 64) as u64);
    put(words, Slot::at(slot.word + 1, 0, 64), value as u64);
}

#[inline(always)]
fn mac(bytes: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = bytes;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[inline(always)]
fn read_ethernet(bytes: &[u8], words: &mut Words, layers: &mut Layers) -> Result<(), Malformed> {
    let Some((h, mut rest)) = bytes.split_first_chunk::<ETHERNET_LEN>() else {
        return Err(Malformed::TooShort);
    };
    if bytes.len() > FRAME_LEN_MAX {
        return Err(Malformed::TooLong);
    }
    // Eight bytes at once: an address stands in the high 48 bits of its word.
    let dst = u64::from_be_bytes([h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]]);
    let src_and_type = u64::from_be_bytes([h[6], h[7], h[8], h[9], h[10], h[11], h[12], h[13]]);
    set_word(words, slot::DL_DST, dst & !0xffff);
    set_word(words, slot::DL_SRC, src_and_type & !0xffff);
    let mut ethertype = src_and_type as u16;
    if is_vlan(ethertype) {
        (ethertype, rest) = read_tags(ethertype, rest, words);
    }
    if ethertype < ETHERTYPE_MIN {
        (ethertype, rest) = read_llc(rest);
    }
    put(words, slot::DL_TYPE, ethertype as u64);
    let at = bytes.len() - rest.len();
    match ethertype {
        ETHERTYPE_IPV4 => read_ipv4(rest, at, words, layers),
        ETHERTYPE_IPV6 => read_ipv6(rest, at, words, layers),
        ETHERTYPE_ARP | ETHERTYPE_RARP => read_arp(rest, at, words, layers),
        ETHERTYPE_MPLS | ETHERTYPE_MPLS_UPSTREAM => read_mpls(rest, at, words, layers),
        _ => {}
    }
    Ok(())
}

/// Up to two tags. A tag that is cut off stays what it is: the EtherType of a frame without tags.
fn read_tags<'a>(tpid: u16, rest: &'a [u8], words: &mut Words) -> (u16, &'a [u8]) {
    let Some((&[t0, t1, e0, e1], rest)) = rest.split_first_chunk() else { return (tpid, rest) };
    put(words, slot::VLAN_TPID, tpid as u64);
    put(words, slot::VLAN_TCI, (u16::from_be_bytes([t0, t1]) | VLAN_PRESENT) as u64);
    let ethertype = u16::from_be_bytes([e0, e1]);
    if !is_vlan(ethertype) {
        return (ethertype, rest);
    }
    let Some((&[t0, t1, e0, e1], rest)) = rest.split_first_chunk() else { return (ethertype, rest) };
    put(words, slot::VLAN_TPID_INNER, ethertype as u64);
    put(words, slot::VLAN_TCI_INNER, (u16::from_be_bytes([t0, t1]) | VLAN_PRESENT) as u64);
    (u16::from_be_bytes([e0, e1]), rest)
}

/// IEEE 802.3: the type of a SNAP header with organisation 0, else [`DL_TYPE_NONE`].
fn read_llc(rest: &[u8]) -> (u16, &[u8]) {
    if let Some((&[0xaa, 0xaa, 3, 0, 0, 0, t0, t1], rest)) = rest.split_first_chunk() {
        let ethertype = u16::from_be_bytes([t0, t1]);
        if ethertype >= ETHERTYPE_MIN {
            return (ethertype, rest);
        }
    }
    (DL_TYPE_NONE, rest)
}

fn read_mpls(data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    let mut rest = data;
    for slot in [slot::MPLS_LSE0, slot::MPLS_LSE1, slot::MPLS_LSE2] {
        let Some((lse, after)) = rest.split_first_chunk() else { return };
        let lse = u32::from_be_bytes(*lse);
        put(words, slot, lse as u64);
        layers.l2_5 = at as u16;
        if lse & MPLS_BOS != 0 {
            return;
        }
        rest = after;
    }
}

/// ARP and RARP for IPv4 over Ethernet (RFC 826).
fn read_arp(data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    let Some(h) = data.first_chunk::<28>() else { return };
    if h[..6] != [0, 1, 8, 0, 6, 4] {
        return;
    }
    layers.l3 = at as u16;
    let operation = u16::from_be_bytes([h[6], h[7]]);
    if operation <= 0xff {
        put(words, slot::NW_PROTO, operation as u64);
    }
    put(words, slot::ARP_SHA, mac([h[8], h[9], h[10], h[11], h[12], h[13]]));
    put(words, slot::NW_SRC, u32::from_be_bytes([h[14], h[15], h[16], h[17]]) as u64);
    put(words, slot::ARP_THA, mac([h[18], h[19], h[20], h[21], h[22], h[23]]));
    put(words, slot::NW_DST, u32::from_be_bytes([h[24], h[25], h[26], h[27]]) as u64);
}

#[inline(always)]
fn read_ipv4(data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    let Some(h) = data.first_chunk::<IPV4_LEN>() else { return };
    let header_len = (h[0] & 15) as usize * 4;
    let total_len = u16::from_be_bytes([h[2], h[3]]) as usize;
    if h[0] >> 4 != 4 || header_len < IPV4_LEN {
        return;
    }
    // Fails if the total length is less than the header's or more than there is.
    let Some(payload) = data.get(header_len..total_len) else { return };
    layers.l3 = at as u16;
    layers.padding = (data.len() - total_len) as u16;
    let frag = fragment_bits(u16::from_be_bytes([h[6], h[7]]));
    if let Some(addresses) = h.last_chunk() {
        // NW_SRC and NW_DST fill a word, in this order.
        set_word(words, slot::NW_SRC, u64::from_be_bytes(*addresses));
    }
    let protocol = h[9];
    put(words, slot::NW_PROTO, protocol as u64);
    put(words, slot::NW_FRAG, frag as u64);
    put(words, slot::NW_TOS, h[1] as u64);
    put(words, slot::NW_TTL, h[8] as u64);
    if frag & FRAG_LATER == 0 {
        let at = at + header_len;
        match protocol {
            PROTO_ICMP => read_icmp(payload, at, words, layers),
            _ => read_ports(protocol, payload, at, words, layers),
        }
    }
}

/// `NW_FRAG` from the IPv4 flags and fragment offset (RFC 791).
#[inline]
fn fragment_bits(flags_and_offset: u16) -> u8 {
    match (flags_and_offset & 0x1fff, flags_and_offset & 0x2000) {
        (0, 0) => 0,
        (0, _) => FRAG_ANY,
        _ => FRAG_ANY | FRAG_LATER,
    }
}

#[inline(always)]
fn read_ipv6(data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    let Some((h, rest)) = data.split_first_chunk::<IPV6_LEN>() else { return };
    if h[0] >> 4 != 6 {
        return;
    }
    let payload_len = u16::from_be_bytes([h[4], h[5]]) as usize;
    let Some(payload) = rest.get(..payload_len) else { return };
    layers.l3 = at as u16;
    layers.padding = (rest.len() - payload_len) as u16;
    let (addresses, _) = h[8..].as_chunks::<16>();
    if let [src, dst] = addresses {
        put_128(words, slot::IPV6_SRC, src);
        put_128(words, slot::IPV6_DST, dst);
    }
    let Some(chain) = Extensions::walk(h[6], payload) else { return };
    let first = u32::from_be_bytes([h[0], h[1], h[2], h[3]]);
    put(words, slot::NW_TOS, (first >> 20 & 0xff) as u64);
    put(words, slot::IPV6_LABEL, (first & 0xf_ffff) as u64);
    put(words, slot::NW_TTL, h[7] as u64);
    put(words, slot::NW_PROTO, chain.protocol as u64);
    put(words, slot::NW_FRAG, chain.frag as u64);
    if chain.frag & FRAG_LATER == 0 {
        let at = at + IPV6_LEN + (payload.len() - chain.rest.len());
        match chain.protocol {
            PROTO_ICMPV6 => read_icmpv6(chain.rest, at, words, layers),
            _ => read_ports(chain.protocol, chain.rest, at, words, layers),
        }
    }
}

/// What lies between an IPv6 header and its payload.
pub(crate) struct Extensions<'a> {
    /// The first protocol that is no extension header; 44 in later fragments, whose chain ends at the fragment header.
    pub protocol: u8,
    /// `NW_FRAG` bits. A fragment header with offset 0 and no more fragments to come is none (RFC 6946).
    pub frag: u8,
    /// Whether a routing header names further stops, so that the checksum covers another destination (RFC 8200 section 8.1).
    pub routed: bool,
    /// What follows the chain.
    pub rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Follows the chain from the `protocol` that the IPv6 header names. `None` if a header is cut off. As long as the
    /// chain may be, each turn takes eight bytes of the frame.
    #[inline]
    pub(crate) fn walk(protocol: u8, payload: &'a [u8]) -> Option<Extensions<'a>> {
        let mut chain = Extensions { protocol, frag: 0, routed: false, rest: payload };
        while chain.step()? {}
        Some(chain)
    }

    /// Passes one header; `Some(false)` at the end of the chain, `None` if the header is cut off.
    #[inline]
    fn step(&mut self) -> Option<bool> {
        let units = match self.protocol {
            PROTO_HOP_BY_HOP | PROTO_ROUTING | PROTO_DESTINATION | PROTO_AH | PROTO_FRAGMENT => {
                self.rest.first_chunk::<8>()?
            }
            _ => return Some(false),
        };
        let &[next, len, offset_high, offset_low, ..] = units;
        let header_len = match self.protocol {
            PROTO_AH => (len as usize + 2) * 4,
            PROTO_FRAGMENT => 8,
            _ => (len as usize + 1) * 8,
        };
        self.rest = self.rest.get(header_len..)?;
        if self.protocol == PROTO_FRAGMENT {
            let offset = u16::from_be_bytes([offset_high, offset_low]);
            if offset & 0xfff8 != 0 {
                self.frag = FRAG_ANY | FRAG_LATER;
                self.protocol = PROTO_FRAGMENT;
                return Some(false);
            }
            if offset != 0 {
                self.frag = FRAG_ANY;
            }
        } else if self.protocol == PROTO_ROUTING && offset_low != 0 {
            self.routed = true;
        }
        self.protocol = next;
        Some(true)
    }
}

/// Notes where the transport header is; false if the place is too far back to be noted.
#[inline(always)]
fn note_transport(at: usize, layers: &mut Layers) -> bool {
    layers.l4 = at.min(NO_LAYER as usize) as u16;
    layers.l4 != NO_LAYER
}

#[inline(always)]
fn read_ports(protocol: u8, data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    let ports = match protocol {
        PROTO_TCP => match data.first_chunk::<20>() {
            // The header with its options must be whole, or an option could hide behind the end.
            Some(h) if (20..=data.len()).contains(&((h[12] >> 4) as usize * 4)) => {
                if at < NO_LAYER as usize {
                    put(words, slot::TCP_FLAGS, (u16::from_be_bytes([h[12], h[13]]) & 0x0fff) as u64);
                }
                [h[0], h[1], h[2], h[3]]
            }
            _ => return,
        },
        PROTO_UDP => match data.first_chunk::<8>() {
            Some(h) => [h[0], h[1], h[2], h[3]],
            None => return,
        },
        PROTO_SCTP => match data.first_chunk::<12>() {
            Some(h) => [h[0], h[1], h[2], h[3]],
            None => return,
        },
        _ => return,
    };
    if note_transport(at, layers) {
        // TP_SRC and TP_DST are neighbours in one word.
        put(words, slot::TP_DST, u32::from_be_bytes(ports) as u64);
    }
}

fn read_icmp(data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    if let Some(&[kind, code, ..]) = data.first_chunk::<8>()
        && note_transport(at, layers)
    {
        put(words, slot::TP_SRC, kind as u64);
        put(words, slot::TP_DST, code as u64);
    }
}

fn read_icmpv6(data: &[u8], at: usize, words: &mut Words, layers: &mut Layers) {
    read_icmp(data, at, words, layers);
    if layers.l4 == NO_LAYER {
        return;
    }
    let Some((&[ND_SOLICIT | ND_ADVERT, 0, _, _, r0, r1, r2, r3], rest)) = data.split_first_chunk() else {
        return;
    };
    put(words, slot::ND_RESERVED, u32::from_be_bytes([r0, r1, r2, r3]) as u64);
    let Some((target, options)) = rest.split_first_chunk::<16>() else { return };
    // An address option given twice makes the message invalid: nothing of it is believed.
    let Some(addresses) = NdAddresses::read(options) else { return };
    put_128(words, slot::ND_TARGET, target);
    put(words, slot::ARP_SHA, mac(addresses.source.map_or([0; 6], |o| o.address)));
    put(words, slot::ARP_THA, mac(addresses.target.map_or([0; 6], |o| o.address)));
    put(words, slot::ND_OPTIONS_TYPE, addresses.first_kind as u64);
}

/// A link-layer address option of a neighbour solicitation or advertisement.
#[derive(Clone, Copy)]
pub(crate) struct NdOption {
    /// Place of the option, in bytes from the first option.
    pub at: usize,
    /// The address.
    pub address: [u8; 6],
}

/// The link-layer address options of a neighbour solicitation or advertisement (RFC 4861 section 4.6.1).
#[derive(Default)]
pub(crate) struct NdAddresses {
    /// Source link-layer address.
    pub source: Option<NdOption>,
    /// Target link-layer address.
    pub target: Option<NdOption>,
    /// Type of the one that comes first; 0 if there is none.
    pub first_kind: u8,
}

impl NdAddresses {
    /// Reads options up to the end, or to one of length 0 or beyond the end. `None` if an address is given twice.
    pub(crate) fn read(options: &[u8]) -> Option<NdAddresses> {
        let mut found = NdAddresses::default();
        let mut rest = options;
        while let Some(&[kind, units, a, b, c, d, e, f]) = rest.first_chunk() {
            let option_len = units as usize * 8;
            let Some(after) = rest.get(option_len..).filter(|_| units != 0) else { break };
            let seen = match kind {
                ND_OPTION_SOURCE => Some(&mut found.source),
                ND_OPTION_TARGET => Some(&mut found.target),
                _ => None,
            };
            if let Some(seen) = seen.filter(|_| units == 1) {
                // A zero address counts as not given.
                if seen.is_some_and(|o| o.address != [0; 6]) {
                    return None;
                }
                *seen = Some(NdOption { at: options.len() - rest.len(), address: [a, b, c, d, e, f] });
                if found.first_kind == 0 {
                    found.first_kind = kind;
                }
            }
            rest = after;
        }
        Some(found)
    }
}
