//! Arguments of the dpctl/ commands, as ovs-dpctl(8) takes them. Pure.
//!
//! Where OVS 3.1 takes what makes no sense (`zone=70000`, `default=5x`, a datapath that is not there), it is refused here,
//! in the words that OVS has for what it does refuse.

use openflow::message::{CtFlush, CtTuple};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of the one datapath: ours, and what OVS calls the one that stands in for the kernel's.
const NAMES: [&str; 4] = ["netdev@ovs-netdev", "ovs-netdev", "system@ovs-system", "ovs-system"];

/// An argument that is not there or not right: OVS's program, words, and the C library's text for `EINVAL`.
pub fn invalid(what: &str) -> String {
    format!("ovs-vswitchd: {what} (Invalid argument)")
}

/// There is no such datapath.
pub fn no_datapath() -> String {
    invalid("datapath not found")
}

/// Something is not there: OVS's program, words, and the C library's text for `ENOENT`.
pub fn no_file(what: &str) -> String {
    format!("ovs-vswitchd: {what} (No such file or directory)")
}

/// Whether this is a name of the datapath.
pub fn is_datapath(word: &str) -> bool {
    NAMES.contains(&word)
}

/// A command's arguments, options apart.
#[derive(Debug, Default, PartialEq)]
pub struct Args<'a> {
    /// `-m`, `--more`.
    pub more: bool,
    /// `--names` or `--no-names`, whichever came last.
    pub names: Option<bool>,
    /// `-s`, `--statistics`.
    pub statistics: bool,
    /// The others, without the datapath's name if that came first.
    pub words: Vec<&'a str>,
}

impl<'a> Args<'a> {
    /// Sorts the options out.
    ///
    /// # Errors
    /// An option that there is not.
    pub fn new(args: &'a [String]) -> Result<Args<'a>, String> {
        let mut out = Args::default();
        for arg in args {
            match arg.strip_prefix('-') {
                None => out.words.push(arg),
                Some(long) if long.starts_with('-') => match long {
                    "-more" => out.more = true,
                    "-statistics" => out.statistics = true,
                    "-names" => out.names = Some(true),
                    "-no-names" => out.names = Some(false),
                    _ => return Err(format!("Unrecognized option {arg}")),
                },
                Some("") => return Err(format!("Unrecognized option {arg}")),
                Some(letters) => {
                    for letter in letters.chars() {
                        match letter {
                            'm' => out.more = true,
                            's' => out.statistics = true,
                            _ => return Err(format!("Unrecognized option {arg}")),
                        }
                    }
                }
            }
        }
        if out.words.first().is_some_and(|word| NAMES.contains(word)) {
            out.words.remove(0);
        }
        Ok(out)
    }

    /// Whether ports are shown by their names: if nothing is said of it, where more is wanted.
    pub fn wants_names(&self) -> bool {
        self.names.unwrap_or(self.more)
    }

    /// Takes `KEY=VALUE` if it comes next.
    pub fn take(&mut self, key: &str) -> Option<&'a str> {
        let value = self.words.first()?.strip_prefix(key)?.strip_prefix('=')?;
        self.words.remove(0);
        Some(value)
    }

    /// Takes `WORD` if it comes next.
    pub fn take_word(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words.remove(0);
        }
        found
    }

    /// Nothing may be left: what is would be the name of a datapath.
    ///
    /// # Errors
    /// Something is.
    pub fn end(&self) -> Result<(), String> {
        if self.words.is_empty() { Ok(()) } else { Err(no_datapath()) }
    }

    /// `[zone=N]` and nothing behind it.
    ///
    /// # Errors
    /// Something else, or no zone.
    pub fn zone(&mut self) -> Result<Option<u16>, String> {
        let zone = self.take("zone").map(|text| match number(text) {
            Some(zone) => Ok(zone),
            None if text.starts_with(|c: char| c.is_ascii_digit()) => Err(invalid("failed to parse zone")),
            None => Err(no_datapath()),
        });
        zone.transpose()
    }
}

/// A number in decimal, or in hexadecimal behind `0x`.
pub fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let value = match text.strip_prefix("0x") {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16)
        }
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse(),
        _ => return None,
    };
    T::try_from(value.ok()?).ok()
}

/// The fields of a list `KEY=VALUE,KEY=VALUE`.
fn fields(text: &str) -> impl Iterator<Item = Result<(&str, &str), String>> {
    text.split([',', ' ']).filter(|field| !field.is_empty()).map(|field| match field.split_once('=') {
        Some((key, value)) if !value.is_empty() => Ok((key, value)),
        other => Err(invalid(&format!("field {} missing value", other.map_or(field, |(key, _)| key)))),
    })
}

/// `zone=N,limit=L`.
///
/// # Errors
/// In OVS's words.
pub fn zone_limit(text: &str) -> Result<(u16, u32), String> {
    let (mut zone, mut limit) = (None, None);
    for field in fields(text) {
        let (key, value) = field?;
        let bad = || invalid(&format!("failed to parse field {key}"));
        match key {
            "zone" => zone = Some(number(value).ok_or_else(bad)?),
            "limit" => limit = Some(number(value).ok_or_else(bad)?),
            _ => return Err(invalid(&format!("invalid zone limit field: {key}"))),
        }
    }
    zone.zip(limit).ok_or_else(|| invalid("failed to parse zone limit"))
}

/// `zone=N[,N]...` that must come last; `None` if nothing came.
///
/// # Errors
/// In OVS's words.
pub fn zones(args: &Args<'_>) -> Result<Option<Vec<u16>>, String> {
    let Some(last) = args.words.last() else { return Ok(None) };
    let list = last.strip_prefix("zone=").ok_or_else(|| invalid(&format!("invalid argument {last}")))?;
    if args.words.len() > 1 {
        return Err(no_datapath());
    }
    let items = list.split([',', ' ']).filter(|item| !item.is_empty());
    let zones: Option<Vec<u16>> = items.map(number).collect();
    zones.filter(|z| !z.is_empty()).ok_or_else(|| invalid("invalid zone")).map(Some)
}

/// `[zone=N] [ct-orig-tuple [ct-reply-tuple]]` of flush-conntrack; an empty tuple stands for none.
///
/// # Errors
/// In OVS's words.
pub fn flush(args: &Args<'_>) -> Result<CtFlush, String> {
    let mut words = args.words.iter();
    let mut flush = CtFlush::default();
    let mut next = words.next();
    if let Some(zone) = next.and_then(|word| word.strip_prefix("zone=")) {
        flush.zone = Some(number(zone).ok_or_else(|| invalid("failed to parse zone"))?);
        next = words.next();
    }
    let mut protocol = None;
    if let Some(text) = next {
        flush.original = tuple(text, &mut protocol)?;
    }
    if let Some(text) = words.next() {
        flush.reply = tuple(text, &mut protocol)?;
    }
    if let Some(more) = words.next() {
        return Err(invalid(&format!("invalid argument {more}")));
    }
    flush.protocol = protocol.unwrap_or(0);
    Ok(flush)
}

/// One tuple. Zero in a field means any value, as in `NXT_CT_FLUSH`. The protocol is that of both tuples.
fn tuple(text: &str, protocol: &mut Option<u8>) -> Result<CtTuple, String> {
    let mut tuple = CtTuple::default();
    for field in fields(text) {
        let (key, value) = field?;
        let bad = || invalid(&format!("failed to parse field {key}"));
        let others = [tuple.src, tuple.dst];
        let address = |is_ipv4: bool| {
            let parsed = match is_ipv4 {
                true => value.parse::<Ipv4Addr>().map(IpAddr::from),
                false => value.parse::<Ipv6Addr>().map(IpAddr::from),
            };
            match others.into_iter().flatten().any(|other| other.is_ipv4() != is_ipv4) {
                true => Err(invalid(&format!("the L3 protocol does not match {value}"))),
                false => parsed.map(Some).map_err(|_| bad()),
            }
        };
        match key {
            "ct_nw_src" => tuple.src = address(true)?,
            "ct_nw_dst" => tuple.dst = address(true)?,
            "ct_ipv6_src" => tuple.src = address(false)?,
            "ct_ipv6_dst" => tuple.dst = address(false)?,
            "ct_nw_proto" => *protocol = Some(number(value).ok_or_else(bad)?),
            "ct_tp_src" => tuple.src_port = Some(number(value).ok_or_else(bad)?),
            "ct_tp_dst" => tuple.dst_port = Some(number(value).ok_or_else(bad)?),
            "icmp_id" => tuple.icmp_id = Some(number(value).ok_or_else(bad)?),
            "icmp_type" => tuple.icmp_type = Some(number(value).ok_or_else(bad)?),
            "icmp_code" => tuple.icmp_code = Some(number(value).ok_or_else(bad)?),
            _ => return Err(invalid(&format!("invalid conntrack tuple field: {key}"))),
        }
    }
    let icmp = tuple.icmp_id.is_some() || tuple.icmp_type.is_some() || tuple.icmp_code.is_some();
    let ports = tuple.src_port.is_some() || tuple.dst_port.is_some();
    match *protocol {
        None | Some(0) if ports => return Err(invalid("port is set without protocol")),
        Some(1 | 58) if ports => return Err(invalid("invalid L4 fields")),
        Some(1 | 58) => {}
        _ if icmp => return Err(invalid("invalid L4 fields")),
        _ => {}
    }
    Ok(without_zeros(tuple))
}

fn without_zeros(tuple: CtTuple) -> CtTuple {
    CtTuple {
        src: tuple.src.filter(|ip| !ip.is_unspecified()),
        dst: tuple.dst.filter(|ip| !ip.is_unspecified()),
        src_port: tuple.src_port.filter(|port| *port != 0),
        dst_port: tuple.dst_port.filter(|port| *port != 0),
        ..tuple
    }
}

#[cfg(test)]
#[path = "dp_tests.rs"]
mod tests;
