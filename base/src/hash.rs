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
}
