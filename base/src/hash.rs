//! A keyed hash over 64-bit words for flow keys: a folded multiply on two chains.
//!
//! Keys are chosen by attackers, so the seed is drawn anew at each start; the hash is not cryptographic.

/// The secret that makes a hash unpredictable; one per process start, from the shell's source of randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed {
    a: u64,
    b: u64,
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Sets a seed of one use apart from the same of another; some digits of pi.
const ROW: u64 = 0x243f_6a88_85a3_08d3;

#[inline]
const fn fold(x: u64, y: u64) -> u64 {
    let wide = (x as u128) * (y as u128);
    (wide as u64) ^ ((wide >> 64) as u64)
}

impl HashSeed {
    /// A seed from 16 random bytes given as two words.
    pub const fn new(a: u64, b: u64) -> Self {
        HashSeed { a: a | 1, b: b ^ MULTIPLIER }
    }

    /// Hash of a sequence of words. The length is part of the hash.
    #[inline]
    pub fn hash(&self, words: impl IntoIterator<Item = u64>) -> u64 {
        let (mut x, mut y, mut n) = (self.a, self.b, 0u64);
        for word in words {
            let folded = fold(x ^ word, MULTIPLIER ^ self.b);
            x = y;
            y = folded.wrapping_add(word.rotate_left(32));
            n += 1;
        }
        fold(x ^ self.b ^ n, y ^ MULTIPLIER) ^ fold(y ^ self.a, x | 1)
    }

    /// Begins the hash of a row of words of which there are always as many.
    #[inline]
    pub fn row(&self) -> RowHash {
        RowHash { secret: self.a ^ ROW, end: self.b ^ MULTIPLIER, hash: self.b }
    }

    /// Hash of a whole row: its words in pairs, a zero beside a last one without a partner.
    #[inline]
    pub fn hash_row(&self, row: &[u64]) -> u64 {
        let (pairs, last) = row.as_chunks::<2>();
        let hash = pairs.iter().fold(self.row(), |hash, [x, y]| hash.pair(*x, *y));
        last.iter().fold(hash, |hash, x| hash.pair(*x, 0)).finish()
    }
}

/// The hash of a row of words, two words a multiplication: half the price of [`HashSeed::hash`]. Rows of different lengths
/// may have the same.
///
/// Each pair is `(x ^ secret) * (y ^ hash so far)` to 128 bits, its halves added without carry. Who does not know the
/// secrets cannot aim: whether two rows meet depends on products of which both factors have a part unknown to them, and words
/// count for nothing only beside one that equals 64 secret bits. Hashes must not be shown. That few rows meet is what
/// tests show, not a proof.
#[derive(Clone, Copy, Debug)]
pub struct RowHash {
    secret: u64,
    end: u64,
    hash: u64,
}

impl RowHash {
    /// Goes on with two words.
    #[inline]
    #[must_use]
    pub const fn pair(self, x: u64, y: u64) -> RowHash {
        RowHash { hash: fold(x ^ self.secret, y ^ self.hash), ..self }
    }

    /// The hash.
    #[inline]
    pub const fn finish(self) -> u64 {
        fold(self.hash ^ self.secret, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn order_length_and_seed_matter() {
        let seed = HashSeed::new(1, 2);
        let h = |w: &[u64]| seed.hash(w.iter().copied());
        assert_ne!(h(&[1, 2]), h(&[2, 1]));
        assert_ne!(h(&[0]), h(&[0, 0]));
        assert_ne!(h(&[5]), HashSeed::new(3, 4).hash([5]));
    }

    /// A grid of addresses and ports, as pods produce it, must spread: no 64-bit collision, and low bits near uniform.
    #[test]
    fn grid_of_flows_spreads() {
        let seed = HashSeed::new(0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
        let mut full = HashSet::new();
        let mut buckets = [0u32; 256];
        for host in 0..256u64 {
            for port in 0..256u64 {
                let h = seed.hash([0x0a00_0000_0000 + host, 0x0800, port << 16 | 80]);
                assert!(full.insert(h), "collision at host {host} port {port}");
                buckets[(h & 0xff) as usize] += 1;
            }
        }
        // 65,536 keys over 256 buckets: mean 256, standard deviation 16; six of those leave ample room.
        assert!(buckets.iter().all(|&n| (160..=352).contains(&n)), "{buckets:?}");
    }

    /// Every bit of every word changes about half of the bits, of an odd and of an even row.
    #[test]
    fn every_bit_of_a_row_matters() {
        let seed = HashSeed::new(0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
        let row = [0x0a00_0001_0a00_0002, 0, 0x0800, u64::MAX, 17 << 56, 1];
        let all = |row: &[u64; 6]| [seed.hash_row(row), seed.hash_row(&[row[0], row[1], row[2]])];
        let before = all(&row);
        for word in 0..6 {
            for bit in 0..64 {
                let mut flipped = row;
                flipped[word] ^= 1 << bit;
                for (kind, (a, b)) in all(&flipped).iter().zip(&before).enumerate() {
                    if kind == 1 && word > 2 {
                        assert_eq!(a, b, "not in the row");
                    } else {
                        // Of 64 fair bits, 32 differ, standard deviation 4; six of those.
                        assert!(
                            (8..=56).contains(&(a ^ b).count_ones()),
                            "word {word}, bit {bit}, kind {kind}"
                        );
                    }
                }
            }
        }
        assert_ne!(seed.hash_row(&[1, 2]), seed.hash_row(&[2, 1]));
        assert_ne!(seed.hash_row(&row), HashSeed::new(3, 4).hash_row(&row));
    }

    /// The grid again, in both parts that the flow cache uses: the low half (as a fraction) and the highest 16 bits.
    #[test]
    fn rows_of_a_grid_spread() {
        for seed in [HashSeed::new(0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321), HashSeed::new(1, 2)] {
            let mut full = HashSet::new();
            let (mut low, mut high) = ([0u32; 256], [0u32; 256]);
            for host in 0..256u64 {
                for port in 0..256u64 {
                    let row = [1u64 << 32, 0x0800, 0, 0x0a00_0000_0000 + host, 17 << 56 | port << 16 | 80, 0];
                    let hash = seed.hash_row(&row);
                    assert!(full.insert(hash), "collision at host {host} port {port}");
                    low[(hash >> 24 & 0xff) as usize] += 1;
                    high[(hash >> 56) as usize] += 1;
                }
            }
            for buckets in [low, high] {
                assert!(buckets.iter().all(|&n| (160..=352).contains(&n)), "{buckets:?}");
            }
        }
    }
}
