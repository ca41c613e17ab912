//! Repeatable noise: numbers, frames and damage to frames from a seed.

use crate::frames;

/// A generator of pseudo-random numbers (xorshift64*), the same on every run.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// From a seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() >> 16) as usize % limit.max(1)
    }

    /// Bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.word() >> 32) as u8).collect()
    }

    /// An address of a single station.
    pub fn mac(&mut self) -> [u8; 6] {
        let bytes = self.word().to_be_bytes();
        [bytes[0] & 0xfe | 2, bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
    }

    /// A frame: rubbish, or one of `good` with some bytes changed, cut or repeated.
    pub fn frame(&mut self, good: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = match self.below(4) {
            0 => {
                let length = 14 + self.below(200);
                self.bytes(length)
            }
            1 => {
                // Rubbish behind a likely EtherType.
                let kinds =
                    [0x0800u16, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x8847, 0x8848, 0x894f, 0x0005, 0x0600];
                let kind = kinds[self.below(kinds.len())];
                let length = self.below(150);
                [&self.mac()[..], &self.mac(), &kind.to_be_bytes(), &self.bytes(length)].concat()
            }
            _ => good[self.below(good.len())].clone(),
        };
        for _ in 0..self.below(4) {
            let at = self.below(frame.len().min(100));
            frame[at] = self.word() as u8;
        }
        match self.below(6) {
            0 => frame.truncate(14 + self.below(frame.len().saturating_sub(14))),
            1 => {
                let tag = frames::tagged(&frame, [0x8100, 0x88a8][self.below(2)], self.word() as u16);
                frame = tag;
            }
            _ => {}
        }
        frame.truncate(1514);
        frame
    }
}
