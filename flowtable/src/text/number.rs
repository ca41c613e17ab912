//! Numbers and ports.

use super::error::{Fault, Parsed, TextFault, fault};
use super::names::{PortNames, TextStyle};
use crate::action::TableId;
use crate::port::OfPort;
use std::fmt;

/// Digits with C's prefixes (`0x`, `0`), no sign.
pub(crate) fn digits(text: &str) -> Result<u128, NumberFault> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, text.get(2..).unwrap_or("")),
        [b'0', _, ..] => (8, text.get(1..).unwrap_or("")),
        _ => (10, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| (b as char).is_digit(radix)) {
        return Err(NumberFault::Syntax);
    }
    u128::from_str_radix(digits, radix).map_err(|_| NumberFault::Range)
}

/// What is wrong with a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NumberFault {
    Syntax,
    Range,
}

/// A number as C's strtoull reads it: `-1` is all ones.
pub(crate) fn wrapping_u64(text: &str) -> Result<u64, NumberFault> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or("")),
        Some(b'+') => (false, text.get(1..).unwrap_or("")),
        _ => (false, text),
    };
    let value = u64::try_from(digits(magnitude)?).map_err(|_| NumberFault::Range)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// A number of at most `max`, or "invalid WHAT".
pub(crate) fn bounded(word: &str, what: &'static str, max: u64) -> Parsed<u64> {
    let unsigned = word.strip_prefix('+').unwrap_or(word);
    match digits(unsigned) {
        Ok(value) if value <= max as u128 => Ok(value as u64),
        _ => Err(fault(word, TextFault::Number { what, word: word.to_owned() })),
    }
}

/// A 16-bit number, or "invalid WHAT".
pub(crate) fn number16(word: &str, what: &'static str) -> Parsed<u16> {
    bounded(word, what, u16::MAX.into()).map(|v| v as u16)
}

/// An 8-bit number, or "invalid WHAT".
pub(crate) fn number8(word: &str, what: &'static str) -> Parsed<u8> {
    bounded(word, what, u8::MAX.into()).map(|v| v as u8)
}

/// A 64-bit number, or "invalid numeric format".
pub(crate) fn number64(word: &str) -> Parsed<u64> {
    if word.is_empty() {
        return Err(fault(word, TextFault::NoNumber));
    }
    wrapping_u64(word).map_err(|_| fault(word, TextFault::NumberFormat(word.to_owned())))
}

/// A 32-bit number, or "invalid numeric format".
pub(crate) fn number32(word: &str) -> Parsed<u32> {
    let value = number64(word)?;
    u32::try_from(value).map_err(|_| fault(word, TextFault::NumberFormat(word.to_owned())))
}

/// A table's decimal number; 255 is all tables.
pub(crate) fn table(word: &str) -> Parsed<TableId> {
    let number = (!word.starts_with('+')).then(|| word.parse::<u8>().ok()).flatten();
    number.map(TableId).ok_or_else(|| fault(word, TextFault::UnknownTable(word.to_owned())))
}

/// A port: a number, a reserved name in any case, a port's name, or a name in double quotes.
///
/// Numbers 0xff00 to 0xffff are OpenFlow 1.0's reserved ports, 0xffffff00 and up those of later versions; what lies
/// between denotes no port. Quotes are needed around names that look like something else.
pub fn parse_port(word: &str, names: &dyn PortNames) -> Option<OfPort> {
    if let Some(rest) = word.strip_prefix('"') {
        return names.number(&unquote(rest.strip_suffix('"')?)?);
    }
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        return match word.parse().ok()? {
            n @ 0..=0xfeff => Some(OfPort(n)),
            n @ 0xff00..=0xffff => Some(OfPort(0xffff_0000 | n)),
            n @ 0xffff_ff00.. => Some(OfPort(n)),
            _ => None,
        };
    }
    OfPort::from_reserved_name(word).or_else(|| names.number(word))
}

/// Undoes the escapes of a quoted name.
fn unquote(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '"' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// A port as printed: reserved name, name in quotes unless it is a plain word, or number.
pub(crate) fn write_port(f: &mut impl fmt::Write, port: OfPort, style: &TextStyle<'_>) -> fmt::Result {
    if let Some(name) = port.reserved_name() {
        return f.write_str(name);
    }
    let Some(name) = style.names.name(port) else {
        // OpenFlow 1.0's view of reserved numbers without a name, as ovs-ofctl prints them.
        let number = if port.0 >= 0xffff_ff00 { port.0 & 0xffff } else { port.0 };
        return write!(f, "{number}");
    };
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

/// Hexadecimal, but 0 as 0.
pub(crate) fn write_hex(f: &mut impl fmt::Write, value: u128) -> fmt::Result {
    if value == 0 { f.write_char('0') } else { write!(f, "{value:#x}") }
}

/// A cookie or metadata with its optional mask.
pub(crate) fn number64_masked(word: &str) -> Parsed<(u64, Option<u64>)> {
    match word.split_once('/') {
        None => Ok((number64(word)?, None)),
        Some((value, mask)) => Ok((number64(value)?, Some(number64(mask)?))),
    }
}

/// Bytes in hexadecimal with dots between them where one likes.
pub(crate) fn hex_bytes(word: &str, max: usize, bad: TextFault) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    loop {
        match rest {
            [] => return Ok(bytes),
            [b'.', tail @ ..] => rest = tail,
            [high, low, tail @ ..] => {
                let nibble = |b: &u8| (*b as char).to_digit(16).map(|d| d as u8);
                let (Some(high), Some(low)) = (nibble(high), nibble(low)) else {
                    return Err(fault(word, bad));
                };
                if bytes.len() == max {
                    return Err(fault(word, TextFault::TooMany { what: "bytes", max }));
                }
                bytes.push(high << 4 | low);
                rest = tail;
            }
            [_] => return Err(fault(word, bad)),
        }
    }
}

/// `aa.bb.cc`.
pub(crate) fn write_hex_bytes(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    for (i, b) in bytes.iter().enumerate() {
        write!(f, "{}{b:02x}", if i == 0 { "" } else { "." })?;
    }
    Ok(())
}
