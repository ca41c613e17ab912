//! Addresses and their masks: `aa:bb:cc:dd:ee:ff`, `10.0.0.0/8`, `2001:db8::/32`. Masks are printed as prefixes where
//! they are prefixes. The one place for this, also outside flows.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// All ones in an Ethernet address.
pub const MAC_ONES: u64 = 0xffff_ffff_ffff;

/// What is wrong with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressFault {
    /// Not an address or mask.
    Syntax,
    /// More prefix bits than an address has.
    Prefix,
}

/// An Ethernet address of one or two hexadecimal digits a byte.
pub fn parse_mac(text: &str) -> Option<u64> {
    let mut bytes = 0;
    let mut mac = 0;
    for part in text.split(':') {
        bytes += 1;
        if bytes > 6 || part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        mac = mac << 8 | u64::from_str_radix(part, 16).ok()?;
    }
    (bytes == 6).then_some(mac)
}

/// `ADDRESS` or `ADDRESS/MASK`.
pub fn parse_mac_masked(text: &str) -> Option<(u64, u64)> {
    match text.split_once('/') {
        None => Some((parse_mac(text)?, MAC_ONES)),
        Some((mac, mask)) => Some((parse_mac(mac)?, parse_mac(mask)?)),
    }
}

fn prefix_bits(text: &str, max: u32) -> Result<u32, AddressFault> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressFault::Syntax);
    }
    text.parse().ok().filter(|bits| *bits <= max).ok_or(AddressFault::Prefix)
}

/// `a.b.c.d`, `a.b.c.d/bits` or `a.b.c.d/m.m.m.m`: address and mask.
///
/// # Errors
/// What is wrong.
pub fn parse_ipv4_masked(text: &str) -> Result<(u32, u32), AddressFault> {
    let parse = |s: &str| s.parse::<Ipv4Addr>().map(u32::from).map_err(|_| AddressFault::Syntax);
    match text.split_once('/') {
        None => Ok((parse(text)?, u32::MAX)),
        Some((address, mask)) if mask.contains('.') => Ok((parse(address)?, parse(mask)?)),
        Some((address, bits)) => {
            let address = parse(address)?;
            let bits = prefix_bits(bits, 32)?;
            Ok((address, u32::MAX.checked_shl(32 - bits).unwrap_or(0)))
        }
    }
}

/// An IPv6 address, `ADDRESS/bits` or `ADDRESS/ADDRESS`: address and mask.
///
/// # Errors
/// What is wrong.
pub fn parse_ipv6_masked(text: &str) -> Result<(u128, u128), AddressFault> {
    let parse = |s: &str| s.parse::<Ipv6Addr>().map(u128::from).map_err(|_| AddressFault::Syntax);
    match text.split_once('/') {
        None => Ok((parse(text)?, u128::MAX)),
        Some((address, mask)) if mask.contains(':') => Ok((parse(address)?, parse(mask)?)),
        Some((address, bits)) => {
            let address = parse(address)?;
            let bits = prefix_bits(bits, 128)?;
            Ok((address, u128::MAX.checked_shl(128 - bits).unwrap_or(0)))
        }
    }
}

/// `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisplayMac(pub u64);

impl fmt::Display for DisplayMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, _, a, b, c, d, e, g] = self.0.to_be_bytes();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An Ethernet address with its mask, which is left out if it is all ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisplayMacMasked(pub u64, pub u64);

impl fmt::Display for DisplayMacMasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DisplayMac(self.0).fmt(f)?;
        if self.1 & MAC_ONES == MAC_ONES { Ok(()) } else { write!(f, "/{}", DisplayMac(self.1)) }
    }
}

/// An IPv4 address with its mask: nothing, `/bits` or `/m.m.m.m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisplayIpv4Masked(pub u32, pub u32);

impl fmt::Display for DisplayIpv4Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Ipv4Addr::from(self.0))?;
        let bits = self.1.leading_ones();
        match self.1 {
            u32::MAX => Ok(()),
            mask if bits + mask.trailing_zeros() == 32 => write!(f, "/{bits}"),
            mask => write!(f, "/{}", Ipv4Addr::from(mask)),
        }
    }
}

/// An IPv6 address as RFC 5952 writes it, but IPv4-compatible addresses with dots, as the C library does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisplayIpv6(pub u128);

impl fmt::Display for DisplayIpv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >> 32 == 0 && self.0 > 0xffff {
            return write!(f, "::{}", Ipv4Addr::from(self.0 as u32));
        }
        write!(f, "{}", Ipv6Addr::from(self.0))
    }
}

/// An IPv6 address with its mask: nothing, `/bits` or `/ADDRESS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DisplayIpv6Masked(pub u128, pub u128);

impl fmt::Display for DisplayIpv6Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DisplayIpv6(self.0).fmt(f)?;
        let bits = self.1.leading_ones();
        match self.1 {
            u128::MAX => Ok(()),
            mask if bits + mask.trailing_zeros() == 128 => write!(f, "/{bits}"),
            mask => write!(f, "/{}", DisplayIpv6(mask)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        assert_eq!(parse_mac("00:1:02:aB:04:05"), Some(0x000102ab0405));
        for bad in
            ["", "00:01:02:03:04", "00:01:02:03:04:05:06", "00:01:02:03:04:100", "00:01:02:03:04:+5", "x"]
        {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
        assert_eq!(DisplayMacMasked(0x0102_0304_0506, MAC_ONES).to_string(), "01:02:03:04:05:06");
        assert_eq!(DisplayMacMasked(0, 1 << 40).to_string(), "00:00:00:00:00:00/01:00:00:00:00:00");
    }

    #[test]
    fn masks_are_printed_as_prefixes_where_they_are() {
        for text in
            ["1.2.3.4", "0.0.0.0/0", "10.0.0.0/8", "1.2.3.4/31", "10.0.0.1/255.0.0.255", "0.0.0.0/0.0.0.1"]
        {
            let (address, mask) = parse_ipv4_masked(text).unwrap();
            assert_eq!(DisplayIpv4Masked(address, mask).to_string(), text);
        }
        for text in [
            "::",
            "::1",
            "::/0",
            "2001:db8::/32",
            "::ffff:1.2.3.4",
            "::0.1.0.0",
            "fe80::1/ffff::ffff",
            "::/1",
        ] {
            let (address, mask) = parse_ipv6_masked(text).unwrap();
            assert_eq!(DisplayIpv6Masked(address, mask).to_string(), text);
        }
        assert_eq!(parse_ipv4_masked("1.2.3.4/33"), Err(AddressFault::Prefix));
        assert_eq!(parse_ipv4_masked("1.2.3.4/"), Err(AddressFault::Syntax));
        assert_eq!(parse_ipv6_masked("::/129"), Err(AddressFault::Prefix));
        assert_eq!(parse_ipv6_masked("::1/+3"), Err(AddressFault::Syntax));
    }
}
