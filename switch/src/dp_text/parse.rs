//! Reading a datapath flow key: `in_port(1),eth(src=…,dst=…),eth_type(0x0800),ipv4(src=…,frag=no),tcp(dst=80)`.

use super::{ARP, ETH, Form, ICMP, IPV4, IPV6, ND, PORTS, Part};
use packet::PacketKey;
use packet::key::{FRAG_ANY, FRAG_LATER, VLAN_PRESENT, slot};
use packet::wire::ETHERTYPE_VLAN;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest text that is read.
const TEXT_LEN_MAX: usize = 16_384;
/// Tags that a key can hold.
const TAGS_MAX: usize = 2;

/// What is wrong with the text of a datapath key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DpTextError {
    /// Too long to be one.
    #[error("flow is longer than {TEXT_LEN_MAX} characters")]
    TooLong,
    /// Not of the form `name(…)`.
    #[error("{0}: expected a field such as in_port(1)")]
    NotAField(String),
    /// A parenthesis is not closed.
    #[error("{0}: missing closing parenthesis")]
    Unclosed(String),
    /// A field that is not known.
    #[error("{0}: unknown field")]
    UnknownField(String),
    /// A part that the field does not have.
    #[error("{field}: unknown part {part}")]
    UnknownPart {
        /// The field.
        field: String,
        /// The part.
        part: String,
    },
    /// A value that cannot be read.
    #[error("{field}: bad value {value}")]
    BadValue {
        /// The field or its part.
        field: String,
        /// The value.
        value: String,
    },
    /// More than two tags.
    #[error("more than two VLAN tags")]
    TooManyTags,
}

/// Reads a key; fields that the text leaves out are zero. Masks (`/…`) are read over. `port` gives the number of a port
/// that is named.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_dp_key(text: &str, port: &dyn Fn(&str) -> Option<u32>) -> Result<PacketKey, DpTextError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(DpTextError::TooLong);
    }
    let mut key = PacketKey::default();
    let mut tags = 0;
    let mut has_type = false;
    let mut rest = text.trim().to_owned();
    while !rest.is_empty() {
        let (name, inside, after) = next_field(&rest)?;
        let (name, inside, after) = (name.to_owned(), inside.to_owned(), after.to_owned());
        match &*name {
            // What is encapsulated comes next, before what follows.
            "encap" => {
                rest = format!("{inside},{after}");
                rest = rest.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned();
                continue;
            }
            "eth_type" => {
                let value = number(&name, &inside)? as u16;
                if matches!(value, 0x8100 | 0x88a8)
                    && after.trim_start_matches([',', ' ']).starts_with("vlan(")
                {
                    let place = if tags == 0 { slot::VLAN_TPID } else { slot::VLAN_TPID_INNER };
                    key.set(place, value.into());
                } else {
                    key.set(slot::DL_TYPE, value.into());
                    has_type = true;
                }
            }
            "vlan" => {
                if tags == TAGS_MAX {
                    return Err(DpTextError::TooManyTags);
                }
                read_vlan(&inside, &mut key, tags)?;
                tags += 1;
            }
            _ => read_field(&name, &inside, &mut key, port)?,
        }
        rest = after;
    }
    if !has_type {
        key.set(slot::DL_TYPE, packet::key::DL_TYPE_NONE.into());
    }
    Ok(key)
}

/// Splits `name(inside),after`.
fn next_field(text: &str) -> Result<(&str, &str, &str), DpTextError> {
    let not_a_field = || DpTextError::NotAField(text.chars().take(40).collect());
    let (name, tail) = text.split_once('(').ok_or_else(not_a_field)?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(not_a_field());
    }
    let mut depth = 1usize;
    for (i, c) in tail.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let (inside, after) = tail.split_at(i);
            let after =
                after.trim_start_matches(')').trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            // Only one parenthesis belongs to the field.
            let after = if tail.get(i + 1..).is_some_and(|t| t.starts_with(')')) {
                tail.get(i + 1..)
            } else {
                Some(after)
            };
            return Ok((name, inside, after.unwrap_or_default()));
        }
    }
    Err(DpTextError::Unclosed(name.to_owned()))
}

fn read_field(
    name: &str,
    inside: &str,
    key: &mut PacketKey,
    port: &dyn Fn(&str) -> Option<u32>,
) -> Result<(), DpTextError> {
    match name {
        "in_port" => {
            let named = || port(inside.trim());
            let number = inside.trim().parse::<u32>().ok().or_else(named);
            key.set_in_port(packet::DpPort(number.ok_or_else(|| bad(name, inside))?));
        }
        "recirc_id" => key.set(slot::RECIRC_ID, number(name, inside)?),
        "skb_mark" => key.set(slot::PKT_MARK, number(name, inside)?),
        "dp_hash" => key.set(slot::DP_HASH, number(name, inside)?),
        // No slot, and nothing that a frame could show.
        "skb_priority" | "packet_type" | "ct_state" | "ct_zone" | "ct_mark" | "ct_label" => {}
        "tunnel" => {
            // Flags are no pair, and nothing that a look-up would ask for.
            let pairs = inside.split(",flags(").next().unwrap_or_default();
            for (part, value) in parts(name, pairs)? {
                match part {
                    "tun_id" => key.set(slot::TUN_ID, number(part, value)?),
                    "src" => key.set(slot::TUN_SRC, value_of(part, value, Form::Ipv4)?),
                    "dst" => key.set(slot::TUN_DST, value_of(part, value, Form::Ipv4)?),
                    "ipv6_src" => key.set(slot::TUN_IPV6_SRC, value_of(part, value, Form::Ipv6)?),
                    "ipv6_dst" => key.set(slot::TUN_IPV6_DST, value_of(part, value, Form::Ipv6)?),
                    "tos" => key.set(slot::TUN_TOS, number(part, value)?),
                    "ttl" => key.set(slot::TUN_TTL, number(part, value)?),
                    _ => {}
                }
            }
        }
        "eth" => read_parts(name, inside, ETH, key)?,
        "ipv4" => read_parts(name, inside, IPV4, key)?,
        "ipv6" => read_parts(name, inside, IPV6, key)?,
        "arp" => read_parts(name, inside, ARP, key)?,
        "tcp" | "udp" | "sctp" => read_parts(name, inside, PORTS, key)?,
        "icmp" | "icmpv6" => read_parts(name, inside, ICMP, key)?,
        "nd" => read_parts(name, inside, ND, key)?,
        "tcp_flags" => key.set(slot::TCP_FLAGS, tcp_flags(inside)?),
        "mpls" => {
            let mut lse = 0;
            for (part, value) in parts(name, inside)? {
                let n = number(part, value)?;
                lse |= match part {
                    "label" => (n & 0xf_ffff) << 12,
                    "tc" => (n & 7) << 9,
                    "bos" => (n & 1) << 8,
                    "ttl" => n & 0xff,
                    _ => return Err(unknown_part(name, part)),
                };
            }
            key.set(slot::MPLS_LSE0, lse);
        }
        _ => return Err(DpTextError::UnknownField(name.to_owned())),
    }
    Ok(())
}

fn read_vlan(inside: &str, key: &mut PacketKey, nth: usize) -> Result<(), DpTextError> {
    let (tpid, place) = match nth {
        0 => (slot::VLAN_TPID, slot::VLAN_TCI),
        _ => (slot::VLAN_TPID_INNER, slot::VLAN_TCI_INNER),
    };
    let mut tci = u128::from(VLAN_PRESENT);
    for (part, value) in parts("vlan", inside)? {
        let n = number(part, value)?;
        match part {
            "vid" => tci |= n & 0x0fff,
            "pcp" => tci |= (n & 7) << 13,
            "tci" => tci |= n & 0xefff,
            "cfi" => {}
            _ => return Err(unknown_part("vlan", part)),
        }
    }
    key.set(place, tci);
    if key.get(tpid) == 0 {
        key.set(tpid, ETHERTYPE_VLAN.into());
    }
    Ok(())
}

fn read_parts(name: &str, inside: &str, known: &[Part], key: &mut PacketKey) -> Result<(), DpTextError> {
    for (part, value) in parts(name, inside)? {
        let found = known.iter().find(|(n, ..)| *n == part);
        let (_, place, form) = found.ok_or_else(|| unknown_part(name, part))?;
        key.set(*place, value_of(part, value, *form)?);
    }
    Ok(())
}

/// `part=value` pairs; masks are cut off.
fn parts<'a>(name: &str, inside: &'a str) -> Result<Vec<(&'a str, &'a str)>, DpTextError> {
    let filled = inside.split(',').map(str::trim).filter(|p| !p.is_empty());
    let pair = |p: &'a str| {
        let (part, value) = p.split_once('=').ok_or_else(|| bad(name, p))?;
        Ok((part.trim(), value.split('/').next().unwrap_or_default().trim()))
    };
    filled.map(pair).collect()
}

fn bad(field: &str, value: &str) -> DpTextError {
    DpTextError::BadValue { field: field.to_owned(), value: value.chars().take(40).collect() }
}

fn unknown_part(field: &str, part: &str) -> DpTextError {
    DpTextError::UnknownPart { field: field.to_owned(), part: part.chars().take(40).collect() }
}

fn number(field: &str, value: &str) -> Result<u128, DpTextError> {
    let value = value.split('/').next().unwrap_or_default().trim();
    let parsed = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed.map(u128::from).map_err(|_| bad(field, value))
}

fn value_of(field: &str, value: &str, form: Form) -> Result<u128, DpTextError> {
    match form {
        Form::Decimal | Form::Byte | Form::Hex => number(field, value),
        Form::Ipv4 => value.parse::<Ipv4Addr>().map(|a| u32::from(a).into()).map_err(|_| bad(field, value)),
        Form::Ipv6 => value.parse::<Ipv6Addr>().map(u128::from).map_err(|_| bad(field, value)),
        Form::Mac => mac(value).ok_or_else(|| bad(field, value)),
        Form::Frag => match value {
            "no" => Ok(0),
            "first" => Ok(FRAG_ANY.into()),
            "later" => Ok((FRAG_ANY | FRAG_LATER).into()),
            _ => Err(bad(field, value)),
        },
    }
}

fn mac(text: &str) -> Option<u128> {
    let mut value = 0;
    let mut count = 0;
    for byte in text.split(':') {
        if byte.is_empty() || byte.len() > 2 {
            return None;
        }
        value = value << 8 | u128::from(u8::from_str_radix(byte, 16).ok()?);
        count += 1;
    }
    (count == 6).then_some(value)
}

/// A number, or names joined by `|`, or `+syn-ack`.
fn tcp_flags(inside: &str) -> Result<u128, DpTextError> {
    const NAMES: [&str; 9] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"];
    let text = inside.trim();
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) {
        return number("tcp_flags", text);
    }
    let mut flags = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let off = rest.starts_with('-');
        rest = rest.trim_start_matches(['+', '-', '|']);
        let end = rest.find(['+', '-', '|']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let bit = NAMES.iter().position(|n| *n == name).ok_or_else(|| bad("tcp_flags", name))?;
        if !off {
            flags |= 1 << bit;
        }
        rest = after;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PacketKey, DpTextError> {
        parse_dp_key(text, &|name| (name == "p1").then_some(7))
    }

    #[test]
    fn reads_what_ovs_prints() {
        let key = parse(
            "recirc_id(0),in_port(3),packet_type(ns=0,id=0),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),\
             eth_type(0x8100),vlan(vid=10,pcp=3),encap(eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2/255.0.0.0,\
             proto=6,tos=0x10,ttl=64,frag=no),tcp(src=1,dst=80),tcp_flags(syn|ack))",
        )
        .unwrap();
        assert_eq!(key.in_port().0, 3);
        assert_eq!((key.get(slot::DL_SRC), key.get(slot::DL_DST)), (1, 2));
        assert_eq!((key.get(slot::VLAN_TCI), key.get(slot::VLAN_TPID)), (3 << 13 | 0x1000 | 10, 0x8100));
        assert_eq!((key.dl_type(), key.get(slot::NW_PROTO), key.get(slot::TP_DST)), (0x0800, 6, 80));
        assert_eq!((key.get(slot::NW_DST), key.get(slot::NW_TTL)), (0x0a000002, 64));
        assert_eq!(key.get(slot::TCP_FLAGS), 0x12);
        let named = parse("in_port(p1),eth(),eth_type(0x8847),mpls(label=5,tc=1,ttl=9,bos=1)").unwrap();
        assert_eq!((named.in_port().0, named.get(slot::MPLS_LSE0)), (7, 5 << 12 | 1 << 9 | 0x100 | 9));
        let twice = parse(
            "in_port(1),eth(),eth_type(0x88a8),vlan(vid=1),encap(eth_type(0x8100),vlan(vid=2),encap(eth_type(0x0806),arp(op=1)))",
        )
        .unwrap();
        assert_eq!(
            (twice.get(slot::VLAN_TPID), twice.get(slot::VLAN_TCI_INNER), twice.dl_type()),
            (0x88a8, 0x1002, 0x0806)
        );
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let text = |t: &str| parse(t).unwrap_err().to_string();
        assert_eq!(text("in_port(nowhere)"), "in_port: bad value nowhere");
        assert_eq!(text("in_port(1),foo(2)"), "foo: unknown field");
        assert_eq!(text("in_port(1),ipv4(sauce=1)"), "ipv4: unknown part sauce");
        assert_eq!(text("in_port(1"), "in_port: missing closing parenthesis");
        assert_eq!(text("actions=drop"), "actions=drop: expected a field such as in_port(1)");
        assert_eq!(text("in_port(1),tcp_flags(+syn+fun)"), "tcp_flags: bad value fun");
    }
}
