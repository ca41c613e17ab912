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
        Sum(self.0 + u16::from_be(NativeSum::ZERO.with_bytes(bytes).folded()) as u64)
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

/// Bytes from which on vector registers are worth their setting up and adding up.
const VECTOR_MIN: usize = 128;

/// A sum over words as the machine reads them, which spares a swap for each: the sum does not depend on byte order but for a
/// final one (RFC 1071 section 2), and whether it is all ones does not depend on it at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NativeSum(u64);

impl NativeSum {
    pub const ZERO: NativeSum = NativeSum(0);

    /// Of an IPv4 header without options.
    #[inline]
    pub fn of_header(header: &[u8; 20]) -> NativeSum {
        let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = header;
        NativeSum(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
            .with(u64::from_ne_bytes([i, j, k, l, m, n, o, p]))
            .with(u32::from_ne_bytes([q, r, s, t]) as u64)
    }

    /// Of two IPv4 addresses.
    #[inline]
    pub const fn of_addresses_v4(addresses: &[u8; 8]) -> NativeSum {
        NativeSum(u64::from_ne_bytes(*addresses))
    }

    /// Of two IPv6 addresses.
    #[inline]
    pub fn of_addresses_v6(addresses: &[u8; 32]) -> NativeSum {
        let (words, _) = addresses.as_chunks::<8>();
        words.iter().fold(NativeSum::ZERO, |sum, word| sum.with(u64::from_ne_bytes(*word)))
    }

    /// With a number that stands as two words in network order.
    #[inline]
    #[must_use]
    pub const fn with_number(self, number: u32) -> NativeSum {
        self.with(number.to_be() as u64)
    }

    /// With a carry into the lowest bit, which is worth as much (RFC 1071 section 2).
    #[inline]
    const fn with(self, words: u64) -> NativeSum {
        let (sum, carry) = self.0.overflowing_add(words);
        NativeSum(sum + carry as u64)
    }

    /// With `bytes`, which begin a word; an odd last byte counts as the first of one.
    #[inline]
    #[must_use]
    pub fn with_bytes(self, bytes: &[u8]) -> NativeSum {
        let (mut sum, mut rest) = (self, bytes);
        if bytes.len() >= VECTOR_MIN {
            let (blocks, tail) = bytes.as_chunks::<32>();
            (sum, rest) = (sum.with(sum_of_blocks(blocks)), tail);
        }
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            sum = sum.with(u64::from_ne_bytes(*word));
        }
        let (words, tail) = tail.as_chunks::<4>();
        if let [word] = words {
            sum = sum.with(u32::from_ne_bytes(*word) as u64);
        }
        match *tail {
            [a, b, c] => sum.with(u32::from_ne_bytes([a, b, c, 0]) as u64),
            [a, b] => sum.with(u16::from_ne_bytes([a, b]) as u64),
            [a] => sum.with(u16::from_ne_bytes([a, 0]) as u64),
            _ => sum,
        }
    }

    /// Whether the sum is that of a header, or of a packet with its pseudo header, whose checksum is right.
    #[inline]
    pub const fn is_all_ones(self) -> bool {
        fold(self.0) == 0xffff
    }

    #[inline]
    const fn folded(self) -> u16 {
        fold(self.0)
    }
}

/// In lanes that the compiler can put in vector registers.
fn sum_of_blocks(blocks: &[[u8; 32]]) -> u64 {
    let mut lanes = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u32::from_ne_bytes(*word) as u64;
        }
    }
    lanes.iter().sum()
}

#[inline]
const fn fold(sum: u64) -> u16 {
    // The upper half of a number added to its own halves swapped is the sum of both, with the carry of the lower one.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
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

    /// The same change in 16 bits: applied to whatever, it gives the same.
    #[inline]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    /// What [`folded`](Self::folded) gave.
    #[inline]
    pub const fn from_folded(folded: u16) -> Delta {
        Delta(folded as u64)
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
