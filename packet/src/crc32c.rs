//! CRC32c, the checksum of SCTP (RFC 9260 appendix A), eight bytes a step.

const POLYNOMIAL: u32 = 0x82f6_3b78;

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index out of range")]
const fn make_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut step = 1;
    while step < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[step - 1][byte];
            tables[step][byte] = before >> 8 ^ tables[0][before as usize & 0xff];
            byte += 1;
        }
        step += 1;
    }
    tables
}

static TABLES: [[u32; 256]; 8] = make_tables();

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte indexes 256 entries")]
fn look_up(table: &[u32; 256], byte: u8) -> u32 {
    table[byte as usize]
}

/// The running state of a CRC32c.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Of no bytes.
    pub const fn new() -> Crc32c {
        Crc32c(u32::MAX)
    }

    /// With further bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Crc32c {
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
        let (chunks, tail) = bytes.as_chunks::<8>();
        let mut crc = self.0;
        for &[a, b, c, d, e, f, g, h] in chunks {
            let [a, b, c, d] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
            crc = look_up(t7, a)
                ^ look_up(t6, b)
                ^ look_up(t5, c)
                ^ look_up(t4, d)
                ^ look_up(t3, e)
                ^ look_up(t2, f)
                ^ look_up(t1, g)
                ^ look_up(t0, h);
        }
        for byte in tail {
            crc = crc >> 8 ^ look_up(t0, crc as u8 ^ byte);
        }
        Crc32c(crc)
    }

    /// The checksum. SCTP writes it with the least significant byte first.
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c::new()
    }
}

/// Checksum of an SCTP packet from its common header on, taking the checksum field for zero.
pub fn sctp(packet: &[u8]) -> u32 {
    let (head, tail) = (packet.get(..8).unwrap_or(packet), packet.get(12..).unwrap_or_default());
    Crc32c::new().with(head).with(&[0; 4]).with(tail).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C and the examples of RFC 3720 appendix B.4.
    #[test]
    fn known_answers() {
        let crc = |bytes: &[u8]| Crc32c::new().with(bytes).finish();
        assert_eq!(crc(b"123456789"), 0xe306_9283);
        assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc(&rising), 0x46dd_794e);
    }

    #[test]
    fn any_split_gives_the_same() {
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 + 11) as u8).collect();
        let whole = Crc32c::new().with(&bytes).finish();
        for at in 0..bytes.len() {
            assert_eq!(Crc32c::new().with(&bytes[..at]).with(&bytes[at..]).finish(), whole);
        }
    }
}
