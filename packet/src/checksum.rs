//! The internet checksum (RFC 1071), its incremental update (RFC 1624), and pseudo headers.
//!
//! Pure arithmetic on bytes; where checksums stand in a frame is known to `offload` and `rewrite`.

/// A one's complement sum that is still being added to. It is taken over 16-bit words in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Of nothing.
    pub const ZERO: Sum = Sum(0);

    /// Of `bytes`, which begin a word; an odd last byte counts as the high half of one.
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        Sum::ZERO.with_bytes(bytes)
    }

    /// With `bytes`, which begin a word; an odd last byte counts as the high half of one.
    #[inline]
    #[must_use]
    pub fn with_bytes(self, bytes: &[u8]) -> Sum {
        // The sum does not depend on byte order but for a final swap (RFC 1071 section 2), so words are read as the
        // machine likes them, in lanes that the compiler can put in vector registers.
        let mut lanes = [0u64; 8];
        let (blocks, tail) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u32::from_ne_bytes(*word) as u64;
            }
        }
        let (words, tail) = tail.as_chunks::<4>();
        let mut sum: u64 = lanes.iter().sum::<u64>();
        for word in words {
            sum += u32::from_ne_bytes(*word) as u64;
        }
        let (pairs, odd) = tail.as_chunks::<2>();
        for pair in pairs {
            sum += u16::from_ne_bytes(*pair) as u64;
        }
        if let [last] = odd {
            sum += u16::from_ne_bytes([*last, 0]) as u64;
        }
        Sum(self.0 + u16::from_be(fold(sum)) as u64)
    }

    /// With one word.
    #[inline]
    #[must_use]
    pub const fn with(self, word: u16) -> Sum {
        Sum(self.0 + word as u64)
    }

    /// With two words.
    #[inline]
    #[must_use]
    pub const fn with_u32(self, words: u32) -> Sum {
        Sum(self.0 + (words >> 16) as u64 + (words & 0xffff) as u64)
    }

    /// With eight words.
    #[inline]
    #[must_use]
    pub const fn with_u128(self, words: u128) -> Sum {
        let (high, low) = ((words >> 64) as u64, words as u64);
        self.with_u32((high >> 32) as u32)
            .with_u32(high as u32)
            .with_u32((low >> 32) as u32)
            .with_u32(low as u32)
    }

    /// The 16-bit sum, as it stands in the field of a partial checksum.
    #[inline]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The complement, as it stands in a header.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }

    /// Pseudo header of TCP, UDP over IPv4 (RFC 9293 section 3.1). `len` is that of the transport header and payload.
    #[inline]
    pub const fn pseudo_v4(src: u32, dst: u32, protocol: u8, len: u16) -> Sum {
        Sum::ZERO.with_u32(src).with_u32(dst).with(protocol as u16).with(len)
    }

    /// Pseudo header over IPv6 (RFC 8200 section 8.1).
    #[inline]
    pub const fn pseudo_v6(src: u128, dst: u128, protocol: u8, len: u32) -> Sum {
        Sum::ZERO.with_u128(src).with_u128(dst).with(protocol as u16).with_u32(len)
    }
}

#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// By how much a sum changes when covered words change: the sum of the complements of the old and of the new ones
/// (equation 3 of RFC 1624, which has no wrong zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// One word changes.
    #[inline]
    pub const fn of_u16(old: u16, new: u16) -> Delta {
        Delta(!old as u64 + new as u64)
    }

    /// Two words change.
    #[inline]
    pub const fn of_u32(old: u32, new: u32) -> Delta {
        Delta(Sum::ZERO.with_u32(!old).with_u32(new).0)
    }

    /// Eight words change.
    #[inline]
    pub const fn of_u128(old: u128, new: u128) -> Delta {
        Delta(Sum::ZERO.with_u128(!old).with_u128(new).0)
    }

    /// Whole words change.
    #[inline]
    pub fn of_bytes<const N: usize>(old: [u8; N], new: [u8; N]) -> Delta {
        const { assert!(N.is_multiple_of(2)) };
        Delta(Sum::ZERO.with_bytes(&old.map(|b| !b)).with_bytes(&new).0)
    }

    /// Both changes.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Delta) -> Delta {
        Delta(self.0 + other.0)
    }

    /// The changed checksum of a header.
    #[inline]
    pub const fn applied(self, checksum: u16) -> u16 {
        !fold(!checksum as u64 + self.0)
    }

    /// The changed sum in the field of a partial checksum, which is not complemented.
    #[inline]
    pub const fn applied_to_sum(self, sum: u16) -> u16 {
        fold(sum as u64 + self.0)
    }

    /// The changed checksum of a UDP header, where 0 means that there is none: none stays none, and a checksum that comes
    /// out as 0 is written as 0xffff (RFC 768).
    #[inline]
    pub const fn applied_to_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        udp_checksum(self.applied(checksum))
    }
}

/// How UDP writes a checksum: never as 0.
#[inline]
pub const fn udp_checksum(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
