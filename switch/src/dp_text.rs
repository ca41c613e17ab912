//! The datapath's flows and programs in OVS's syntax (ovs-dpctl(8), "odp" flows): what dpctl/dump-flows and ofproto/trace
//! print, and what ofproto/trace and netdev-dummy/receive read.

mod parse;
mod program;
mod tunnel;

pub use parse::{DpTextError, parse_dp_key};
pub use program::{DisplayProgram, display_program};

use base::{HashSeed, Instant};
use datapath::Program;
use flowtable::Mask;
use packet::key::{FRAG_ANY, FRAG_LATER, Slot, VLAN_PRESENT, slot};
use packet::{DpPort, PacketKey};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::mac::MacAddr;

/// What is known about a cached flow.
#[derive(Clone, Copy, Debug)]
pub struct DpFlow<'a> {
    /// Its key.
    pub key: &'a PacketKey,
    /// The bits of it that count.
    pub mask: &'a Mask<PacketKey>,
    /// What it does.
    pub program: &'a Program,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// When the last packet was seen; none without one.
    pub last_used: Option<Instant>,
    /// TCP flags seen, or-ed together.
    pub tcp_flags: u16,
}

/// How ports of the datapath are written: by their names here, as far as they are known; all others by number.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortLabels<'a>(pub Option<&'a BTreeMap<DpPort, String>>);

impl PortLabels<'_> {
    fn text(self, port: DpPort) -> String {
        self.0.and_then(|names| names.get(&port).cloned()).unwrap_or_else(|| port.to_string())
    }
}

/// What a line says beside key, counters and actions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Detail {
    /// No more.
    #[default]
    Less,
    /// What `dpctl/dump-flows -m` adds: the UFID, and whose the flow is.
    Dpctl,
    /// What `dpif/dump-flows -m` adds: the UFID.
    Dpif,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowStyle<'a> {
    /// How ports are written.
    pub ports: PortLabels<'a>,
    /// What is said beside.
    pub detail: Detail,
}

/// Seeds of [`Ufid`]s: some digits of e. They hide nothing, so that a flow is called the same from run to run.
const UFID_SEEDS: [HashSeed; 2] = [
    HashSeed::new(0xb7e1_5162_8aed_2a6a, 0xbf71_5880_9cf4_f3c7),
    HashSeed::new(0x62e7_160f_38b4_da56, 0xa784_d904_5190_cfef),
];

/// What tells a cached flow from others, by its key and mask (OVS's unique flow identifier). Workers that have the same flow
/// call it the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ufid(u128);

impl Ufid {
    /// That of a flow.
    pub fn of(key: &PacketKey, mask: &Mask<PacketKey>) -> Ufid {
        let words = || key.words().iter().chain(mask.0.words()).copied();
        let [high, low] = UFID_SEEDS.map(|seed| u128::from(seed.hash(words())));
        Ufid(high << 64 | low)
    }

    /// Reads `ufid:` and a UUID.
    pub fn parse(text: &str) -> Option<Ufid> {
        let parts: Vec<&str> = text.strip_prefix("ufid:")?.split('-').collect();
        let is_uuid = parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
            && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
        is_uuid.then(|| u128::from_str_radix(&parts.concat(), 16).ok().map(Ufid))?
    }
}

impl fmt::Display for Ufid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |from: u32, digits: u32| self.0 >> from & ((1 << (digits * 4)) - 1);
        write!(
            f,
            "ufid:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 8),
            part(80, 4),
            part(64, 4),
            part(48, 4),
            part(0, 12)
        )
    }
}

/// One line of dpctl/dump-flows, without line feed.
pub fn flow_line(flow: &DpFlow<'_>, style: FlowStyle<'_>, now: Instant) -> String {
    let mut line = match style.detail {
        Detail::Less => String::new(),
        Detail::Dpctl => format!("{}, ", Ufid::of(flow.key, flow.mask)),
        Detail::Dpif => format!("{} ", Ufid::of(flow.key, flow.mask)),
    };
    line += &key_text(flow.key, flow.mask, style.ports);
    // Writing to a string cannot fail.
    let _ = write!(line, ", packets:{}, bytes:{}, used:", flow.packets, flow.bytes);
    let _ = match flow.last_used.filter(|_| flow.packets > 0) {
        Some(used) => write!(line, "{:.3}s", now.saturating_since(used).as_secs_f64()),
        None => write!(line, "never"),
    };
    if flow.tcp_flags != 0 {
        let letters =
            [(1, 'S'), (0, 'F'), (3, 'P'), (2, 'R'), (5, 'U'), (4, '.'), (6, 'E'), (7, 'C'), (8, 'N')];
        let set = letters.into_iter().filter(|(bit, _)| flow.tcp_flags >> bit & 1 == 1);
        let _ = write!(line, ", flags:{}", set.map(|(_, letter)| letter).collect::<String>());
    }
    if style.detail == Detail::Dpctl {
        line.push_str(", dp:ovs");
    }
    let _ = write!(line, ", actions:{}", display_program(flow.program, flow.key).with_ports(style.ports));
    line
}

/// How a value of a datapath key is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Decimal,
    Byte,
    Hex,
    Mac,
    Ipv4,
    Ipv6,
    Frag,
}

type Part = (&'static str, Slot, Form);

const ETH: &[Part] = &[("src", slot::DL_SRC, Form::Mac), ("dst", slot::DL_DST, Form::Mac)];
const IPV4: &[Part] = &[
    ("src", slot::NW_SRC, Form::Ipv4),
    ("dst", slot::NW_DST, Form::Ipv4),
    ("proto", slot::NW_PROTO, Form::Decimal),
    ("tos", slot::NW_TOS, Form::Hex),
    ("ttl", slot::NW_TTL, Form::Decimal),
    ("frag", slot::NW_FRAG, Form::Frag),
];
const IPV6: &[Part] = &[
    ("src", slot::IPV6_SRC, Form::Ipv6),
    ("dst", slot::IPV6_DST, Form::Ipv6),
    ("label", slot::IPV6_LABEL, Form::Hex),
    ("proto", slot::NW_PROTO, Form::Decimal),
    ("tclass", slot::NW_TOS, Form::Hex),
    ("hlimit", slot::NW_TTL, Form::Decimal),
    ("frag", slot::NW_FRAG, Form::Frag),
];
const ARP: &[Part] = &[
    ("sip", slot::NW_SRC, Form::Ipv4),
    ("tip", slot::NW_DST, Form::Ipv4),
    ("op", slot::NW_PROTO, Form::Decimal),
    ("sha", slot::ARP_SHA, Form::Mac),
    ("tha", slot::ARP_THA, Form::Mac),
];
const PORTS: &[Part] = &[("src", slot::TP_SRC, Form::Decimal), ("dst", slot::TP_DST, Form::Decimal)];
const ICMP: &[Part] = &[("type", slot::TP_SRC, Form::Byte), ("code", slot::TP_DST, Form::Byte)];
const ND: &[Part] = &[
    ("target", slot::ND_TARGET, Form::Ipv6),
    ("sll", slot::ARP_SHA, Form::Mac),
    ("tll", slot::ARP_THA, Form::Mac),
];

/// The headers behind the EtherType, by what the frame is: name in the datapath's syntax and parts.
fn network_parts(dl_type: u16) -> Option<(&'static str, &'static [Part])> {
    match dl_type {
        0x0800 => Some(("ipv4", IPV4)),
        0x86dd => Some(("ipv6", IPV6)),
        0x0806 => Some(("arp", ARP)),
        0x8035 => Some(("arp", ARP)),
        _ => None,
    }
}

fn transport_parts(dl_type: u16, proto: u8) -> Option<(&'static str, &'static [Part])> {
    match (dl_type, proto) {
        (0x0800 | 0x86dd, 6) => Some(("tcp", PORTS)),
        (0x0800 | 0x86dd, 17) => Some(("udp", PORTS)),
        (0x0800 | 0x86dd, 132) => Some(("sctp", PORTS)),
        (0x0800, 1) => Some(("icmp", ICMP)),
        (0x86dd, 58) => Some(("icmpv6", ICMP)),
        _ => None,
    }
}

/// One value with its mask.
fn write_value(out: &mut String, form: Form, place: Slot, value: u128, mask: u128) -> fmt::Result {
    let one = |out: &mut String, v: u128| match form {
        Form::Decimal | Form::Byte => write!(out, "{v}"),
        Form::Hex if v == 0 => write!(out, "0"),
        Form::Hex => write!(out, "{v:#x}"),
        Form::Mac => write!(out, "{}", MacAddr(v as u64)),
        Form::Ipv4 => write!(out, "{}", Ipv4Addr::from(v as u32)),
        Form::Ipv6 => write!(out, "{}", Ipv6Addr::from(v)),
        Form::Frag => out.write_str(match (v as u8 & FRAG_ANY != 0, v as u8 & FRAG_LATER != 0) {
            (_, true) => "later",
            (true, false) => "first",
            (false, false) => "no",
        }),
    };
    one(out, value)?;
    // ICMP's types and codes take half of their slots.
    let whole = if matches!(form, Form::Byte) { 0xff } else { place.ones() };
    if mask & whole == whole || form == Form::Frag {
        return Ok(());
    }
    out.push('/');
    match form {
        Form::Decimal | Form::Byte | Form::Hex => write!(out, "{mask:#x}"),
        _ => one(out, mask),
    }
}

/// `name(part=value/mask,…)` of the parts that count. Nothing if none does.
fn header(name: &str, parts: &[Part], key: &PacketKey, mask: &Mask<PacketKey>) -> Option<String> {
    let mut inner = String::new();
    for &(part, place, form) in parts {
        let bits = mask.0.get(place);
        if bits == 0 {
            continue;
        }
        if !inner.is_empty() {
            inner.push(',');
        }
        let _ = write!(inner, "{part}=");
        let _ = write_value(&mut inner, form, place, key.get(place) & bits, bits);
    }
    (!inner.is_empty()).then(|| format!("{name}({inner})"))
}

/// A key under a mask, as dpctl/dump-flows begins its lines.
pub fn display_dp_key(key: &PacketKey, mask: &Mask<PacketKey>) -> String {
    key_text(key, mask, PortLabels::default())
}

fn key_text(key: &PacketKey, mask: &Mask<PacketKey>, ports: PortLabels<'_>) -> String {
    let mut parts = Vec::new();
    parts.extend(tunnel::key_text(key, mask));
    parts.push(format!("recirc_id({})", Hex(key.get(slot::RECIRC_ID))));
    if mask.0.get(slot::PKT_MARK) != 0 {
        parts.push(format!("skb_mark({})", Hex(key.get(slot::PKT_MARK))));
    }
    parts.push(format!("in_port({})", ports.text(key.in_port())));
    parts.extend(header("eth", ETH, key, mask));
    let mut closing = 0;
    let tags = [(slot::VLAN_TPID, slot::VLAN_TCI), (slot::VLAN_TPID_INNER, slot::VLAN_TCI_INNER)];
    for (tpid, tci) in tags {
        let (tci, bits) = (key.get(tci) as u16, mask.0.get(tci) as u16);
        if tci & VLAN_PRESENT == 0 || bits & VLAN_PRESENT == 0 {
            break;
        }
        parts.push(format!("eth_type({:#06x})", key.get(tpid)));
        let mut vlan = Vec::new();
        if bits & 0x0fff != 0 {
            vlan.push(format!("vid={}", tci & 0x0fff));
        }
        if bits & 0xe000 != 0 {
            vlan.push(format!("pcp={}", tci >> 13));
        }
        parts.push(format!("vlan({})", vlan.join(",")));
        closing += 1;
    }
    let inside = inner_headers(key, mask).join(",");
    let mut text = parts.join(",");
    if closing == 0 {
        let _ = write!(text, ",{inside}");
        return text;
    }
    // Each tag but the innermost encapsulates another eth_type(…),vlan(…).
    let mut nested = inside;
    for _ in 0..closing {
        let vlan = parts.pop().unwrap_or_default();
        let eth_type = parts.pop().unwrap_or_default();
        nested = format!("{eth_type},{vlan},encap({nested})");
    }
    parts.push(nested);
    parts.join(",")
}

fn inner_headers(key: &PacketKey, mask: &Mask<PacketKey>) -> Vec<String> {
    let dl_type = key.dl_type();
    let mut parts = Vec::new();
    if dl_type != packet::key::DL_TYPE_NONE {
        parts.push(format!("eth_type({dl_type:#06x})"));
    }
    if matches!(dl_type, 0x8847 | 0x8848) && mask.0.get(slot::MPLS_LSE0) != 0 {
        parts.push(format!("mpls({})", mpls_text(key.get(slot::MPLS_LSE0) as u32)));
    }
    if let Some((name, fields)) = network_parts(dl_type) {
        parts.extend(header(name, fields, key, mask));
    }
    let proto = key.get(slot::NW_PROTO) as u8;
    let exact_proto = mask.0.get(slot::NW_PROTO) == 0xff;
    let Some((name, fields)) = transport_parts(dl_type, proto).filter(|_| exact_proto) else { return parts };
    parts.extend(header(name, fields, key, mask));
    if name == "tcp" && mask.0.get(slot::TCP_FLAGS) != 0 {
        let (flags, bits) = (key.get(slot::TCP_FLAGS), mask.0.get(slot::TCP_FLAGS) & 0xfff);
        parts.push(if bits == 0xfff {
            format!("tcp_flags({flags:#x})")
        } else {
            format!("tcp_flags({:#x}/{bits:#x})", flags & bits)
        });
    }
    if name == "icmpv6" && matches!(key.get(slot::TP_SRC), 135 | 136) {
        parts.extend(header("nd", ND, key, mask));
    }
    parts
}

/// `label=5,tc=0,ttl=64,bos=1`
fn mpls_text(lse: u32) -> String {
    format!("label={},tc={},ttl={},bos={}", lse >> 12, lse >> 9 & 7, lse & 0xff, lse >> 8 & 1)
}

/// Hexadecimal with 0x, but plain 0 for zero.
struct Hex(u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("0") } else { write!(f, "{:#x}", self.0) }
    }
}
