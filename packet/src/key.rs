//! `PacketKey`: everything about a frame that a rule may match or an action may read, as a row of 64-bit words.
//!
//! Words make the three things the flow cache does cheap: mask, compare, hash. Values stand in them as plain numbers
//! (host order), most significant field first, so that a prefix of an address is a run of high bits of its slot.
//! What is mostly looked at together stands together, as the flow cache compares and hashes word by word: ports, protocol and
//! EtherType fill one word, IPv4 addresses another, and each Ethernet address has a part of the tag beside it.
//! A field is a [`Slot`]; what fields are called and how they are written belongs to `flowtable`'s field table.

use std::fmt;

/// A port of the datapath, unique across bridges. Never an OpenFlow port number (`OfPort` in `flowtable`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct DpPort(pub u32);

impl DpPort {
    /// No port: the ingress of frames that came from no port, such as a packet-out from the controller.
    pub const NONE: DpPort = DpPort(u32::MAX);
}

impl fmt::Display for DpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a field lives in a key: a run of bits of one word, or two whole words (128 bits, the high word first).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Index of the (first) word.
    pub word: u8,
    /// Distance of the field's least significant bit from the word's. Zero for 128-bit slots.
    pub shift: u8,
    /// Width in bits: 1 to 64, or 128.
    pub width: u8,
}

impl Slot {
    const fn new(word: u8, shift: u8, width: u8) -> Slot {
        assert!(width == 128 && shift == 0 || width > 0 && shift as u32 + width as u32 <= 64);
        Slot { word, shift, width }
    }

    /// A slot for keys built on top of this one (registers of the pipeline). `shift + width` may not exceed 64 unless
    /// the width is 128 and the shift 0; a constant that breaks this does not compile.
    pub const fn at(word: u8, shift: u8, width: u8) -> Slot {
        Slot::new(word, shift, width)
    }

    /// A part of a slot of at most 64 bits: `width` bits from its bit `start` on, counted from the least significant. A constant
    /// that lies beyond the slot does not compile.
    pub const fn part(self, start: u8, width: u8) -> Slot {
        assert!(self.width <= 64 && start as u32 + width as u32 <= self.width as u32);
        Slot::new(self.word, self.shift + start, width)
    }

    /// All ones in the width of the slot.
    pub const fn ones(self) -> u128 {
        if self.width == 128 { u128::MAX } else { (1u128 << self.width) - 1 }
    }
}

/// Reads a slot from a row of words. Out-of-range words read as zero.
#[inline]
pub fn slot_get(words: &[u64], slot: Slot) -> u128 {
    let first = words.get(slot.word as usize).copied().unwrap_or(0);
    if slot.width == 128 {
        let second = words.get(slot.word as usize + 1).copied().unwrap_or(0);
        (first as u128) << 64 | second as u128
    } else {
        (first >> slot.shift) as u128 & slot.ones()
    }
}

/// Writes a slot in a row of words; bits of `value` beyond the width are ignored, out-of-range words left alone.
#[inline]
pub fn slot_set(words: &mut [u64], slot: Slot, value: u128) {
    if slot.width == 128 {
        if let Some(word) = words.get_mut(slot.word as usize) {
            *word = (value >> 64) as u64;
        }
        if let Some(word) = words.get_mut(slot.word as usize + 1) {
            *word = value as u64;
        }
    } else if let Some(word) = words.get_mut(slot.word as usize) {
        let mask = (slot.ones() as u64) << slot.shift;
        *word = *word & !mask | ((value as u64) << slot.shift) & mask;
    }
}

macro_rules! slots {
    ($($(#[$doc:meta])* $name:ident = $word:expr, $shift:expr, $width:expr;)*) => {
        /// The slots of [`PacketKey`], one constant a field.
        pub mod slot {
            use super::Slot;
            $($(#[$doc])* pub const $name: Slot = Slot::new($word, $shift, $width);)*
            /// Every slot, for tests that no two overlap.
            pub const ALL: &[Slot] = &[$($name),*];
        }
    };
}

slots! {
    /// Ingress [`DpPort`](super::DpPort).
    IN_PORT = 0, 32, 32;
    /// Recirculation id; 0 for a frame fresh from a port.
    RECIRC_ID = 0, 0, 32;
    /// Ethernet destination.
    DL_DST = 1, 16, 48;
    /// Outer VLAN TCI with bit 12 set when the tag is present; 0 without a tag.
    VLAN_TCI = 1, 0, 16;
    /// Ethernet source.
    DL_SRC = 2, 16, 48;
    /// TPID of the outer VLAN tag (0x8100 or 0x88a8); 0 without a tag.
    VLAN_TPID = 2, 0, 16;
    /// IP protocol or final IPv6 next header; for ARP the low 8 bits of the opcode.
    NW_PROTO = 3, 56, 8;
    /// Fragment bits: [`FRAG_ANY`](super::FRAG_ANY), [`FRAG_LATER`](super::FRAG_LATER).
    NW_FRAG = 3, 48, 8;
    /// EtherType after VLAN tags; for 802.3 frames with LLC and no SNAP type, 0x05ff (OpenFlow's OFP_DL_TYPE_NOT_ETH_TYPE).
    DL_TYPE = 3, 32, 16;
    /// TCP/UDP/SCTP source port, or ICMP/ICMPv6 type.
    TP_SRC = 3, 16, 16;
    /// TCP/UDP/SCTP destination port, or ICMP/ICMPv6 code.
    TP_DST = 3, 0, 16;
    /// IPv4 source, or ARP/RARP sender protocol address.
    NW_SRC = 4, 32, 32;
    /// IPv4 destination, or ARP/RARP target protocol address.
    NW_DST = 4, 0, 32;
    /// IPv4 TOS or IPv6 traffic class: DSCP in the high 6 bits, ECN in the low 2.
    NW_TOS = 5, 56, 8;
    /// IPv4 TTL or IPv6 hop limit.
    NW_TTL = 5, 48, 8;
    /// TCP flags, 12 bits: FIN is bit 0, CWR bit 7, NS bit 8.
    TCP_FLAGS = 5, 32, 16;
    /// TPID of the inner VLAN tag; 0 without.
    VLAN_TPID_INNER = 5, 16, 16;
    /// Inner VLAN TCI with bit 12 set when the tag is present.
    VLAN_TCI_INNER = 5, 0, 16;
    /// IPv6 source.
    IPV6_SRC = 6, 0, 128;
    /// IPv6 destination.
    IPV6_DST = 8, 0, 128;
    /// IPv6 flow label, 20 bits.
    IPV6_LABEL = 10, 16, 32;
    /// Type of the (first) ND link-layer option of a neighbour solicitation or advertisement: 1, 2 or 0.
    ND_OPTIONS_TYPE = 10, 0, 8;
    /// Target of an IPv6 neighbour solicitation or advertisement.
    ND_TARGET = 11, 0, 128;
    /// ARP sender hardware address, or ND source link-layer option.
    ARP_SHA = 13, 16, 48;
    /// ARP target hardware address, or ND target link-layer option.
    ARP_THA = 14, 16, 48;
    /// Outermost MPLS label stack entry.
    MPLS_LSE0 = 15, 32, 32;
    /// Second MPLS label stack entry.
    MPLS_LSE1 = 15, 0, 32;
    /// Third MPLS label stack entry.
    MPLS_LSE2 = 16, 32, 32;
    /// Reserved word of a neighbour solicitation or advertisement.
    ND_RESERVED = 16, 0, 32;
    /// Packet mark carried with the frame (not on the wire).
    PKT_MARK = 17, 32, 32;
    /// Datapath hash, for select groups.
    DP_HASH = 17, 0, 32;
    /// Tunnel id (VNI or GRE key).
    TUN_ID = 18, 0, 64;
    /// Outer IPv4 source of the tunnel a frame came from or goes to.
    TUN_SRC = 19, 32, 32;
    /// Outer IPv4 destination.
    TUN_DST = 19, 0, 32;
    /// Outer IPv6 source.
    TUN_IPV6_SRC = 20, 0, 128;
    /// Outer IPv6 destination.
    TUN_IPV6_DST = 22, 0, 128;
    /// Tunnel flags: [`TUN_OAM`](super::TUN_OAM) is what ovs-fields(7) calls `tun_flags`; the further bits
    /// ([`TUN_KEY`](super::TUN_KEY), [`TUN_CSUM`](super::TUN_CSUM), [`TUN_DF`](super::TUN_DF)) no rule can name.
    TUN_FLAGS = 24, 48, 16;
    /// Outer TOS.
    TUN_TOS = 24, 40, 8;
    /// Outer TTL.
    TUN_TTL = 24, 32, 8;
    /// VXLAN group based policy id.
    TUN_GBP_ID = 24, 16, 16;
    /// VXLAN group based policy flags.
    TUN_GBP_FLAGS = 24, 8, 8;
    /// Which of the `TUN_METADATA` slots a Geneve option filled: bit n for slot n.
    TUN_METADATA_PRESENT = 24, 0, 8;
    /// Connection state bits of the last pass through the connection tracker.
    CT_STATE = 25, 32, 32;
    /// Zone of that connection.
    CT_ZONE = 25, 16, 16;
    /// Protocol of the connection's original direction.
    CT_NW_PROTO = 25, 8, 8;
    /// Mark of that connection.
    CT_MARK = 26, 32, 32;
    /// Source port of the original direction.
    CT_TP_SRC = 26, 16, 16;
    /// Destination port of the original direction.
    CT_TP_DST = 26, 0, 16;
    /// Label of that connection.
    CT_LABEL = 27, 0, 128;
    /// IPv4 source of the original direction.
    CT_NW_SRC = 29, 32, 32;
    /// IPv4 destination of the original direction.
    CT_NW_DST = 29, 0, 32;
    /// IPv6 source of the original direction.
    CT_IPV6_SRC = 30, 0, 128;
    /// IPv6 destination of the original direction.
    CT_IPV6_DST = 32, 0, 128;
    /// Value of the Geneve option that is mapped to `tun_metadata0`, right-aligned; zero without it.
    TUN_METADATA0 = 34, 0, 128;
    /// The same of `tun_metadata1`.
    TUN_METADATA1 = 36, 0, 128;
    /// The same of `tun_metadata2`.
    TUN_METADATA2 = 38, 0, 128;
    /// The same of `tun_metadata3`.
    TUN_METADATA3 = 40, 0, 128;
    /// The same of `tun_metadata4`.
    TUN_METADATA4 = 42, 0, 128;
    /// The same of `tun_metadata5`.
    TUN_METADATA5 = 44, 0, 128;
    /// The same of `tun_metadata6`.
    TUN_METADATA6 = 46, 0, 128;
    /// The same of `tun_metadata7`.
    TUN_METADATA7 = 48, 0, 128;
}

/// The slots of the Geneve options, by index.
pub const TUN_METADATA: [Slot; 8] = [
    slot::TUN_METADATA0,
    slot::TUN_METADATA1,
    slot::TUN_METADATA2,
    slot::TUN_METADATA3,
    slot::TUN_METADATA4,
    slot::TUN_METADATA5,
    slot::TUN_METADATA6,
    slot::TUN_METADATA7,
];

/// `TUN_FLAGS` bit: an OAM frame (O bit of Geneve, RFC 8926 section 3.4).
pub const TUN_OAM: u16 = 1;
/// `TUN_FLAGS` bit: the tunnel header has a VNI or key, so that a key of 0 is known from none.
pub const TUN_KEY: u16 = 2;
/// `TUN_FLAGS` bit: the tunnel header (UDP or GRE) has a checksum, which was right.
pub const TUN_CSUM: u16 = 4;
/// `TUN_FLAGS` bit: the outer IPv4 header forbids fragmentation.
pub const TUN_DF: u16 = 8;

/// `NW_FRAG` bit: the packet is a fragment.
pub const FRAG_ANY: u8 = 1;
/// `NW_FRAG` bit: the packet is a fragment other than the first, so it has no transport header.
pub const FRAG_LATER: u8 = 2;
/// The bit of a TCI slot that says that the tag is present (the place of the CFI/DEI bit, as OVS shows it).
pub const VLAN_PRESENT: u16 = 0x1000;
/// EtherType of frames without one (OpenFlow 1.0 §5.2.3, `OFP_DL_TYPE_NOT_ETH_TYPE`).
pub const DL_TYPE_NONE: u16 = 0x05ff;

/// The fields of one frame. Fields that the frame does not have are zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PacketKey {
    words: [u64; PacketKey::WORDS],
}

impl Default for PacketKey {
    fn default() -> Self {
        PacketKey { words: [0; PacketKey::WORDS] }
    }
}

impl fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.words.iter().enumerate().filter(|(_, w)| **w != 0);
        f.debug_map().entries(used.map(|(i, w)| (i, format!("{w:#018x}")))).finish()
    }
}

impl PacketKey {
    /// Length of a key in 64-bit words.
    pub const WORDS: usize = 50;
    /// First of the words whose fields travel with the frame and do not stand in its bytes: mark, tunnel, connection.
    pub const METADATA_WORD: usize = slot::PKT_MARK.word as usize;

    /// The words, for masking, comparing and hashing.
    #[inline]
    pub const fn words(&self) -> &[u64; Self::WORDS] {
        &self.words
    }

    /// The words, to be changed.
    #[inline]
    pub const fn words_mut(&mut self) -> &mut [u64; Self::WORDS] {
        &mut self.words
    }

    /// Value of a field.
    #[inline]
    pub fn get(&self, slot: Slot) -> u128 {
        slot_get(&self.words, slot)
    }

    /// Sets a field; bits of `value` beyond its width are ignored.
    #[inline]
    pub fn set(&mut self, slot: Slot, value: u128) {
        slot_set(&mut self.words, slot, value);
    }

    /// The ingress port.
    #[inline]
    pub fn in_port(&self) -> DpPort {
        DpPort(self.get(slot::IN_PORT) as u32)
    }

    /// Sets the ingress port.
    #[inline]
    pub fn set_in_port(&mut self, port: DpPort) {
        self.set(slot::IN_PORT, port.0 as u128);
    }

    /// The EtherType, see [`slot::DL_TYPE`].
    #[inline]
    pub fn dl_type(&self) -> u16 {
        self.get(slot::DL_TYPE) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_fit() {
        let mut used = [0u64; PacketKey::WORDS];
        for s in slot::ALL {
            let mut ones = PacketKey::default();
            ones.set(*s, u128::MAX);
            assert_eq!(ones.words().iter().map(|w| w.count_ones()).sum::<u32>(), s.width as u32, "{s:?}");
            for (u, w) in used.iter_mut().zip(ones.words()) {
                assert_eq!(*u & w, 0, "{s:?} overlaps another slot");
                *u |= w;
            }
        }
    }

    #[test]
    fn a_part_is_some_bits_of_its_slot() {
        let mut key = PacketKey::default();
        key.set(slot::VLAN_TCI, 0xb123);
        key.set(slot::NW_TOS, 0x2e << 2 | 1);
        assert_eq!((key.get(slot::VLAN_TCI.part(13, 3)), key.get(slot::VLAN_TCI.part(0, 12))), (5, 0x123));
        assert_eq!((key.get(slot::NW_TOS.part(2, 6)), key.get(slot::NW_TOS.part(0, 2))), (0x2e, 1));
        assert_eq!(slot::NW_SRC.part(0, 32), slot::NW_SRC);
    }

    /// A line of the flow cache has room for five words: for what rules on connections look at, and NORMAL.
    #[test]
    fn what_is_looked_at_together_stands_together() {
        use slot::*;
        let words =
            |slots: &[Slot]| slots.iter().map(|s| s.word).collect::<std::collections::BTreeSet<_>>().len();
        let tuple = [IN_PORT, RECIRC_ID, DL_TYPE, NW_FRAG, NW_PROTO, NW_SRC, NW_DST, TP_SRC, TP_DST];
        let ethernet = [DL_SRC, DL_DST, VLAN_TCI, VLAN_TPID];
        assert_eq!((words(&tuple), words(&[&tuple[..], &ethernet].concat())), (3, 5));
    }

    #[test]
    fn set_then_get() {
        for s in slot::ALL {
            let mut key = PacketKey { words: [u64::MAX; PacketKey::WORDS] };
            key.set(*s, 0);
            assert_eq!(key.get(*s), 0);
            key.set(*s, 0xdead_beef_0123_4567_89ab_cdef_5555_aaaa);
            assert_eq!(key.get(*s), 0xdead_beef_0123_4567_89ab_cdef_5555_aaaa & s.ones());
        }
    }
}
