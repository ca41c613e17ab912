//! Row identifiers, and the source of randomness they are drawn from.
//!
//! This crate never reads a random device: whoever drives it passes an [`Entropy`].

use std::fmt;
use std::str::FromStr;

/// A row's (or server's, or version's) identifier in the notation of RFC 4122.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(u128);

impl Uuid {
    /// The identifier of nothing, which is also the default value of a `uuid` column.
    pub const ZERO: Uuid = Uuid(0);

    /// The identifier with these 128 bits, the most significant printed first.
    pub const fn from_u128(bits: u128) -> Self {
        Uuid(bits)
    }

    /// The 128 bits, the first printed digit most significant.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// A random (version 4) identifier.
    pub fn random(entropy: &mut dyn Entropy) -> Self {
        let bits = entropy.next_u128();
        let bits = (bits & !(0xf << 76)) | (0x4 << 76);
        Uuid((bits & !(0x3 << 62)) | (0x2 << 62))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (b >> 96) as u32,
            (b >> 80) as u16,
            (b >> 64) as u16,
            (b >> 48) as u16,
            b & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string that is not 8-4-4-4-12 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a valid UUID")]
pub struct UuidError(pub String);

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(s: &str) -> Result<Self, UuidError> {
        let bytes = s.as_bytes();
        if bytes.len() != 36 {
            return Err(UuidError(s.to_owned()));
        }
        let mut bits = 0u128;
        for (at, &byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(UuidError(s.to_owned()));
                }
                continue;
            }
            let digit = (byte as char).to_digit(16).ok_or_else(|| UuidError(s.to_owned()))?;
            bits = (bits << 4) | u128::from(digit);
        }
        Ok(Uuid(bits))
    }
}

/// Where random identifiers come from; any `FnMut() -> u128` is one.
pub trait Entropy {
    /// 128 fresh random bits.
    fn next_u128(&mut self) -> u128;
}

impl<F: FnMut() -> u128> Entropy for F {
    fn next_u128(&mut self) -> u128 {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let text = "0123abcd-1111-2222-3333-444444444444";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.as_u128(), 0x0123_abcd_1111_2222_3333_4444_4444_4444);
        assert_eq!("0123ABCD-1111-2222-3333-444444444444".parse::<Uuid>().unwrap(), uuid);
        for bad in ["", "x", "0123abcd-1111-2222-3333-44444444444", "0123abcd11111-2222-3333-444444444444"] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_is_version_4() {
        let mut zeros = || 0u128;
        assert_eq!(Uuid::random(&mut zeros).to_string(), "00000000-0000-4000-8000-000000000000");
        let mut ones = || u128::MAX;
        assert_eq!(Uuid::random(&mut ones).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
