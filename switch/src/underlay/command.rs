//! Routes and neighbours as ovs-appctl shows and changes them: `ovs/route/*` and `tnl/neigh/*`, in the words of OVS.
//!
//! Each takes the arguments behind the command's name, whose number has been checked, and gives the reply or the error.

use super::neighbour::{AGING_MAX, Neighbours};
use super::route::{Prefix, RouteTable};
use crate::mac::MacAddr;
use base::Instant;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The reply, or the error, to a command.
pub type Reply = Result<String, String>;

fn ok() -> Reply {
    Ok("OK".to_owned())
}

/// `ovs/route/add ip_addr/prefix_len out_br_name [gw] [pkt_mark=mark]`.
///
/// # Errors
/// What is wrong with the arguments, or that there is no source address for the route.
pub fn route_add(routes: &mut RouteTable, args: &[String]) -> Reply {
    let (network, device, rest) = match args {
        [network, device, rest @ ..] => (network, device, rest),
        _ => return Err("Invalid parameters".to_owned()),
    };
    let prefix = parse_prefix(network).ok_or("Invalid parameters")?;
    let v4 = prefix.address().is_ipv4();
    let gateway_of = |text: &String| text.parse().ok().filter(|g: &IpAddr| g.is_ipv4() == v4);
    let (gateway, mark) = match rest {
        [] => (None, 0),
        [only] => match (parse_mark(only), gateway_of(only)) {
            (Some(mark), _) => (None, mark),
            (None, Some(gateway)) => (Some(gateway), 0),
            (None, None) => return Err("Invalid pkt_mark or gateway".to_owned()),
        },
        [first, second, ..] => match (parse_mark(first), gateway_of(first)) {
            (None, Some(gateway)) => (Some(gateway), parse_mark(second).ok_or("Invalid pkt_mark")?),
            (Some(_), _) => return Err("Invalid pkt_mark".to_owned()),
            (None, None) => return Err("Invalid pkt_mark or gateway".to_owned()),
        },
    };
    routes.add(prefix, mark, device, gateway).map_err(|e| e.to_string())?;
    ok()
}

/// `ovs/route/del ip_addr/prefix_len [pkt_mark=mark]`.
///
/// # Errors
/// What is wrong with the arguments, or that no such route was added.
pub fn route_del(routes: &mut RouteTable, args: &[String]) -> Reply {
    let prefix = args.first().and_then(|text| parse_prefix(text)).ok_or("Invalid parameters")?;
    let mark = optional_mark(args)?;
    routes.remove(prefix, mark).map_err(|e| e.to_string())?;
    ok()
}

/// `ovs/route/show`.
pub fn route_show(routes: &RouteTable) -> String {
    routes.show()
}

/// `ovs/route/lookup ip_addr [pkt_mark=mark]`.
///
/// # Errors
/// What is wrong with the arguments, or that there is no way.
pub fn route_lookup(routes: &RouteTable, args: &[String]) -> Reply {
    let dst: IpAddr = args.first().and_then(|text| text.parse().ok()).ok_or("Invalid parameters")?;
    let route = routes.lookup_marked(dst, optional_mark(args)?).ok_or("Not found")?;
    let gateway = route.gateway.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    Ok(format!("src {}\ngateway {gateway}\ndev {}\n", route.source, route.device))
}

/// `tnl/neigh/show`, also called `tnl/arp/show`.
pub fn neigh_show(neighbours: &Neighbours) -> String {
    let mut out = format!("{:<46}{:<20}Bridge\n{}\n", "IP", "MAC", "=".repeat(74));
    for (bridge, neighbour) in neighbours.dump() {
        let (ip, mac) = (neighbour.ip.to_string(), neighbour.mac.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{ip:<46}{mac:<20}{bridge}");
    }
    out
}

/// `tnl/neigh/set BRIDGE IP MAC`.
///
/// # Errors
/// An address that is none.
pub fn neigh_set(neighbours: &Neighbours, args: &[String], now: Instant) -> Reply {
    let [bridge, ip, mac, ..] = args else { return Err("bad IP address".to_owned()) };
    let ip = ip.parse().map_err(|_| "bad IP address")?;
    let mac = MacAddr::parse(mac).ok_or("bad MAC address")?;
    neighbours.set(bridge, ip, mac, now);
    ok()
}

/// `tnl/neigh/flush`.
pub fn neigh_flush(neighbours: &Neighbours) -> String {
    neighbours.flush();
    "OK".to_owned()
}

/// `tnl/neigh/aging [SECS]`: 1 to 3600.
///
/// # Errors
/// Another number.
pub fn neigh_aging(neighbours: &Neighbours, args: &[String]) -> Reply {
    let Some(text) = args.first() else { return Ok(neighbours.aging().as_secs().to_string()) };
    match text.parse::<u64>() {
        Ok(seconds) if (1..=AGING_MAX.as_secs()).contains(&seconds) => {
            neighbours.set_aging(Duration::from_secs(seconds));
            ok()
        }
        _ => Err("bad aging value".to_owned()),
    }
}

/// The mark that may stand behind the first argument.
fn optional_mark(args: &[String]) -> Result<u32, String> {
    match args.get(1) {
        None => Ok(0),
        Some(text) => parse_mark(text).ok_or_else(|| "Invalid pkt_mark".to_owned()),
    }
}

/// `pkt_mark=` and a number, decimal or with `0x`.
fn parse_mark(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("pkt_mark=")?;
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        None => None,
    }
}

/// An address with a length, a netmask or nothing behind it, which means all its bits.
fn parse_prefix(text: &str) -> Option<Prefix> {
    let Some((address, length)) = text.split_once('/') else {
        let address: IpAddr = text.parse().ok()?;
        return Prefix::new(address, if address.is_ipv4() { 32 } else { 128 });
    };
    let address = address.parse().ok()?;
    let mask = match address {
        IpAddr::V4(_) => {
            length.parse::<Ipv4Addr>().ok().map(|m| (u128::from(m.to_bits()) << 96, m.to_bits().count_ones()))
        }
        IpAddr::V6(_) => length.parse::<Ipv6Addr>().ok().map(|m| (m.to_bits(), m.to_bits().count_ones())),
    };
    let length = match mask {
        Some((bits, ones)) if bits.leading_ones() == ones => u8::try_from(ones).ok()?,
        Some(_) => return None,
        None if length.bytes().all(|b| b.is_ascii_digit()) => length.parse().ok()?,
        None => return None,
    };
    Prefix::new(address, length)
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
