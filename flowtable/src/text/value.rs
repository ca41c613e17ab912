//! Values of fields: the formats of the field table, read and printed.

use super::address::{
    AddressFault, DisplayIpv4Masked, DisplayIpv6Masked, DisplayMacMasked, parse_ipv4_masked,
    parse_ipv6_masked, parse_mac_masked,
};
use super::error::{Parsed, TextError, TextFault, fault};
use super::flags::FlagNames;
use super::names::{PortNames, TextStyle};
use super::number::{NumberFault, digits, parse_port, wrapping_u64, write_hex, write_port};
use crate::field::{Field, FieldId, Format, Masking};
use crate::port::OfPort;
use packet::key::{FRAG_ANY, FRAG_LATER};
use std::fmt;

/// A value of a field as actions and matches write it, with its mask, which is all ones without one.
///
/// # Errors
/// If it is no value of the field, or a mask that the field does not have.
pub fn parse_value(field: FieldId, text: &str, names: &dyn PortNames) -> Result<(u128, u128), TextError> {
    let parsed = value(field.row(), text, names).and_then(|(v, mask)| {
        let bits = field.row().value_bits();
        let mask = mask.unwrap_or(bits);
        if (v | mask) & !bits != 0 {
            return Err(not_a_value(field.row(), text));
        }
        Ok((v & mask, mask))
    });
    parsed.map_err(|f| f.within(text))
}

/// "Not a value of the field".
pub(crate) fn not_a_value(row: &'static Field, word: &str) -> super::error::Fault {
    fault(word, TextFault::NotAValue { word: word.to_owned(), field: row.name })
}

/// Value and mask; none without one. A value may have bits that the field does not have, up to its bytes on the wire.
pub(crate) fn value(row: &'static Field, word: &str, names: &dyn PortNames) -> Parsed<(u128, Option<u128>)> {
    let owned = || word.to_owned();
    let full = |(value, mask): (u128, u128), ones: u128| (value, (mask != ones).then_some(mask));
    let parsed = match row.format {
        Format::Decimal | Format::Hex => numbers(row, word)?,
        Format::Ethernet => {
            let (mac, mask) =
                parse_mac_masked(word).ok_or_else(|| fault(word, TextFault::Ethernet(owned())))?;
            full((mac.into(), mask.into()), row.slot.ones())
        }
        Format::Ipv4 => {
            let parsed = parse_ipv4_masked(word).map_err(|e| match e {
                AddressFault::Syntax => fault(word, TextFault::Ipv4(owned())),
                AddressFault::Prefix => fault(word, TextFault::Ipv4Prefix(owned())),
            })?;
            full((parsed.0.into(), parsed.1.into()), row.slot.ones())
        }
        Format::Ipv6 => {
            let parsed = parse_ipv6_masked(word).map_err(|e| match e {
                AddressFault::Syntax => fault(word, TextFault::Ipv6(owned())),
                AddressFault::Prefix => fault(word, TextFault::Ipv6Prefix(owned())),
            })?;
            full(parsed, row.slot.ones())
        }
        Format::OfPort => {
            let port = parse_port(word, names);
            let port =
                port.ok_or_else(|| fault(word, TextFault::FieldPort { word: owned(), field: row.name }))?;
            (port.0.into(), None)
        }
        Format::Frag => {
            let found = FRAGMENTS.iter().find(|(name, _, _)| *name == word);
            let (_, value, mask) = *found.ok_or_else(|| fault(word, TextFault::Fragment(owned())))?;
            (value.into(), Some(mask.into()))
        }
        Format::TcpFlags | Format::CtState | Format::TunFlags => match FlagNames::of(row.format) {
            Some(flags) => flags.parse(word)?,
            None => numbers(row, word)?,
        },
    };
    let masked = parsed.1.is_some_and(|mask| mask != 0 && mask != row.slot.ones());
    if masked && row.masking == Masking::Exact {
        return Err(fault(word, TextFault::Mask { word: owned(), field: row.name }));
    }
    Ok(parsed)
}

const FRAGMENTS: [(&str, u8, u8); 5] = [
    ("no", 0, FRAG_ANY | FRAG_LATER),
    ("yes", FRAG_ANY, FRAG_ANY),
    ("first", FRAG_ANY, FRAG_ANY | FRAG_LATER),
    ("later", FRAG_ANY | FRAG_LATER, FRAG_ANY | FRAG_LATER),
    ("not_later", 0, FRAG_LATER),
];

/// The word for a condition on the fragment bits.
pub(crate) fn fragment_name(value: u128, mask: u128) -> Option<&'static str> {
    let exact = FRAGMENTS
        .iter()
        .find(|(_, v, m)| (*v as u128, *m as u128) == (value, mask))
        .map(|(name, _, _)| *name);
    // Two more masks mean something: not a fragment at all, and one that is not the first.
    exact.or(match (value as u8, mask as u8) {
        (0, FRAG_ANY) => Some("no"),
        (FRAG_LATER, FRAG_LATER) => Some("later"),
        _ => None,
    })
}

fn numbers(row: &'static Field, word: &str) -> Parsed<(u128, Option<u128>)> {
    let (value, mask) = match word.split_once('/') {
        None => (word, None),
        Some((value, mask)) => (value, Some(mask)),
    };
    let number = |part: &str, bad: TextFault| {
        let parsed =
            if part.starts_with(['+', '-']) { wrapping_u64(part).map(u128::from) } else { digits(part) };
        let bits = u32::from(row.value_bytes()) * 8;
        match parsed {
            Ok(n) if bits >= 128 || n >> bits == 0 => Ok(n),
            Ok(_) | Err(NumberFault::Range) => {
                let (word, bytes) = (word.to_owned(), row.value_bytes());
                Err(fault(part, TextFault::TooLarge { word, bytes, field: row.name }))
            }
            Err(NumberFault::Syntax) => Err(fault(part, bad)),
        }
    };
    let bad_value = TextFault::ValueSyntax { word: word.to_owned(), field: row.name };
    let bad_mask = TextFault::MaskSyntax { word: word.to_owned(), field: row.name };
    let value = number(value, bad_value)?;
    Ok((value, mask.map(|m| number(m, bad_mask)).transpose()?))
}

/// A value of a field as `set_field` prints it: `1.2.3.0/24`, `0x5/0xff`, `oam`.
#[derive(Clone, Copy)]
pub struct DisplayValue<'a> {
    field: FieldId,
    value: u128,
    mask: u128,
    style: TextStyle<'a>,
}

/// See [`DisplayValue`]. A mask of all ones is left out.
pub fn display_value(field: FieldId, value: u128, mask: u128, style: TextStyle<'_>) -> DisplayValue<'_> {
    DisplayValue { field, value, mask, style }
}

impl fmt::Display for DisplayValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.field.row();
        let (value, mask) = (self.value, self.mask & row.slot.ones());
        let exact = mask & row.value_bits() == row.value_bits();
        match row.format {
            Format::Ethernet => return DisplayMacMasked(value as u64, mask as u64).fmt(f),
            Format::Ipv4 => return DisplayIpv4Masked(value as u32, mask as u32).fmt(f),
            Format::Ipv6 => return DisplayIpv6Masked(value, mask).fmt(f),
            Format::OfPort => return write_port(f, OfPort(value as u32), &self.style),
            Format::Decimal => write!(f, "{value}")?,
            Format::Frag => match fragment_name(value, mask) {
                Some(name) => return f.write_str(name),
                None => write_hex(f, value)?,
            },
            Format::Hex => write_hex(f, value)?,
            Format::TcpFlags | Format::CtState | Format::TunFlags => match FlagNames::of(row.format) {
                Some(flags) if exact => return flags.write_exact(f, value),
                Some(flags) => return flags.write_masked(f, value, mask),
                None => write_hex(f, value)?,
            },
        }
        if exact { Ok(()) } else { write!(f, "/{mask:#x}") }
    }
}
