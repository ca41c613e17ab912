//! Flags of a field by name: `+syn-ack` under a mask, `syn|ack` exactly, or a number.

use super::error::{Parsed, TextFault, fault};
use super::number::digits;
use crate::field::Format;
use std::fmt;

/// Names of the bits of a field, and which bits text may speak of.
pub(crate) struct FlagNames {
    /// What the flags are called in messages.
    pub what: &'static str,
    /// From bit 0 up.
    names: &'static [&'static str],
    /// Bits that exist.
    allowed: u128,
}

const TCP: FlagNames = FlagNames {
    what: "TCP",
    names: &["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"],
    allowed: 0xfff,
};
const CT: FlagNames = FlagNames {
    what: "ct_state",
    names: &["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"],
    allowed: 0xff,
};
const TUNNEL: FlagNames = FlagNames { what: "tunnel", names: &["oam"], allowed: 1 };

impl FlagNames {
    /// Of the formats that are flags.
    pub(crate) fn of(format: Format) -> Option<&'static FlagNames> {
        match format {
            Format::TcpFlags => Some(&TCP),
            Format::CtState => Some(&CT),
            Format::TunFlags => Some(&TUNNEL),
            _ => None,
        }
    }

    fn bit(&self, name: &str) -> Option<u128> {
        // Flags without name are printed as `[200]`; ovs-ofctl prints that too, but does not read it.
        let unnamed = || {
            let digits = name.strip_prefix('[')?.strip_suffix(']')?;
            let bit = u128::from_str_radix(digits, 16).ok()?;
            (bit.is_power_of_two() && bit & self.allowed != 0).then_some(bit)
        };
        self.names.iter().position(|n| *n == name).map(|i| 1 << i).or_else(unnamed)
    }

    /// Value and mask; no mask means exactly.
    pub(crate) fn parse(&self, word: &str) -> Parsed<(u128, Option<u128>)> {
        let unknown = |at: &str| fault(at, TextFault::Flag { word: at.to_owned(), what: self.what });
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            let number =
                |s: &str| digits(s).ok().filter(|v| v & !self.allowed == 0).ok_or_else(|| unknown(word));
            return match word.split_once('/') {
                None => Ok((number(word)?, None)),
                // All flags there are is no mask.
                Some((value, mask)) => {
                    let (value, mask) = (number(value)?, number(mask)?);
                    Ok((value, (mask != self.allowed).then_some(mask)))
                }
            };
        }
        if word.starts_with(['+', '-']) {
            let (value, mask) = self.parse_signed(word)?;
            return Ok((value, (mask != self.allowed).then_some(mask)));
        }
        let mut value = 0;
        for name in word.split('|').filter(|n| !n.is_empty()) {
            value |= self.bit(name).ok_or_else(|| unknown(word))?;
        }
        Ok((value, None))
    }

    fn parse_signed(&self, word: &str) -> Parsed<(u128, u128)> {
        let (mut value, mut mask) = (0, 0);
        let mut rest = word;
        while let Some(tail) = rest.strip_prefix(['+', '-']) {
            let end = tail.find(['+', '-']).unwrap_or(tail.len());
            let (name, next) = tail.split_at_checked(end).unwrap_or((tail, ""));
            let bit = self.bit(name);
            let bit =
                bit.ok_or_else(|| fault(tail, TextFault::Flag { word: tail.to_owned(), what: self.what }))?;
            if mask & bit != 0 {
                return Err(fault(name, TextFault::FlagTwice { word: name.to_owned(), what: self.what }));
            }
            mask |= bit;
            value |= if rest.starts_with('+') { bit } else { 0 };
            rest = next;
        }
        Ok((value, mask))
    }

    /// `syn|ack`, or 0.
    pub(crate) fn write_exact(&self, f: &mut impl fmt::Write, value: u128) -> fmt::Result {
        if value == 0 {
            return f.write_char('0');
        }
        let mut first = true;
        self.each_bit(value, |name, bit| {
            if !std::mem::take(&mut first) {
                f.write_char('|')?;
            }
            write_flag(f, name, bit)
        })
    }

    /// `+syn-ack`, bits from the lowest up.
    pub(crate) fn write_masked(&self, f: &mut impl fmt::Write, value: u128, mask: u128) -> fmt::Result {
        self.each_bit(mask, |name, bit| {
            f.write_char(if value & bit != 0 { '+' } else { '-' })?;
            write_flag(f, name, bit)
        })
    }

    fn each_bit(&self, bits: u128, mut f: impl FnMut(Option<&str>, u128) -> fmt::Result) -> fmt::Result {
        for i in (0..128).filter(|i| bits >> i & 1 != 0) {
            f(self.names.get(i).copied(), 1 << i)?;
        }
        Ok(())
    }

    /// Whether a mask asks for every flag, so that the value is printed as an exact one.
    pub(crate) fn is_exact(&self, mask: u128) -> bool {
        // A single flag is always printed with its sign.
        mask & self.allowed == self.allowed && self.names.len() > 1
    }
}

fn write_flag(f: &mut impl fmt::Write, name: Option<&str>, bit: u128) -> fmt::Result {
    match name {
        Some(name) => f.write_str(name),
        None => write!(f, "[{bit:x}]"),
    }
}
