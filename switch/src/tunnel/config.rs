//! Options of tunnel interfaces, validated: what `options` of an Interface row of a tunnel's type means.
//!
//! Names, defaults and error texts are those of ovs-vswitchd.conf.db(5) and ovs-vswitchd(8). What OVS refuses is refused
//! in its words; what it ignores with a warning is a warning here. A number that is none, or that the header has no room
//! for, is refused too: OVS takes some other number silently.

use super::socket::TunnelSocket;
use packet::DpPort;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// UDP port of VXLAN (RFC 7348 §5).
pub const VXLAN_PORT: u16 = 4_789;
/// UDP port of Geneve (RFC 8926 §3.3).
pub const GENEVE_PORT: u16 = 6_081;
/// UDP port of flannel's UDP backend, the default of its `Port` setting.
pub const FLANNEL_PORT: u16 = 8_285;
/// TTL of outer headers unless `ttl` says otherwise.
pub const TTL_DEFAULT: u8 = 64;

/// Interface types that are tunnels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TunnelKind {
    /// `vxlan` (RFC 7348).
    Vxlan,
    /// `geneve` (RFC 8926).
    Geneve,
    /// `gre` (RFC 2784, RFC 2890), carrying Ethernet.
    Gre,
    /// `ip6gre`: the same, meant for IPv6 outer headers.
    Ip6Gre,
    /// `flannel`: IPv4 packets in UDP without a header of its own, as flannel's UDP backend sends them.
    Flannel,
}

impl TunnelKind {
    /// Every type.
    pub const ALL: [TunnelKind; 5] =
        [TunnelKind::Vxlan, TunnelKind::Geneve, TunnelKind::Gre, TunnelKind::Ip6Gre, TunnelKind::Flannel];

    /// As the `type` column says it.
    pub const fn name(self) -> &'static str {
        match self {
            TunnelKind::Vxlan => "vxlan",
            TunnelKind::Geneve => "geneve",
            TunnelKind::Gre => "gre",
            TunnelKind::Ip6Gre => "ip6gre",
            TunnelKind::Flannel => "flannel",
        }
    }

    /// The type of that name.
    pub fn by_name(name: &str) -> Option<TunnelKind> {
        TunnelKind::ALL.into_iter().find(|k| k.name() == name)
    }

    /// Bits of a key on the wire; 0 where there is none.
    const fn key_bits(self) -> u32 {
        match self {
            TunnelKind::Vxlan | TunnelKind::Geneve => 24,
            TunnelKind::Gre | TunnelKind::Ip6Gre => 32,
            TunnelKind::Flannel => 0,
        }
    }

    const fn port_default(self) -> Option<u16> {
        match self {
            TunnelKind::Vxlan => Some(VXLAN_PORT),
            TunnelKind::Geneve => Some(GENEVE_PORT),
            TunnelKind::Flannel => Some(FLANNEL_PORT),
            TunnelKind::Gre | TunnelKind::Ip6Gre => None,
        }
    }

    /// Options that mean something for this type, beside those of every tunnel.
    const fn own_options(self) -> &'static [&'static str] {
        match self {
            TunnelKind::Vxlan => &["dst_port", "exts"],
            TunnelKind::Geneve | TunnelKind::Flannel => &["dst_port"],
            TunnelKind::Gre | TunnelKind::Ip6Gre => &["seq"],
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const COMMON_OPTIONS: &[&str] = &[
    "remote_ip",
    "local_ip",
    "in_key",
    "out_key",
    "key",
    "csum",
    "tos",
    "ttl",
    "df_default",
    "packet_type",
    "egress_pkt_mark",
];

/// A setting that is given, or left to the flow (`flow`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Setting<T> {
    /// Always this.
    Fixed(T),
    /// What the flow's tunnel fields say.
    Flow,
}

/// `local_ip`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LocalIp {
    /// Packets to this address; sent from it.
    Fixed(IpAddr),
    /// Not given: packets to any address; the route says from which they are sent.
    Any,
    /// `flow`: packets to any address; the flow's tunnel source says from which they are sent.
    Flow,
}

/// An octet of the outer header that is given, or copied from the inner one (`inherit`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Octet {
    /// Always this.
    Fixed(u8),
    /// The inner packet's, if it is one of IP.
    Inherit,
}

/// One tunnel interface.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TunnelConfig {
    /// Its type.
    pub kind: TunnelKind,
    /// `remote_ip`.
    pub remote: Setting<IpAddr>,
    /// `local_ip`.
    pub local: LocalIp,
    /// `in_key`; 0 also stands for none.
    pub in_key: Setting<u64>,
    /// `out_key`; none if it is 0 or not given.
    pub out_key: Setting<Option<u64>>,
    /// `dst_port`, in host order; 0 where there are no ports (GRE).
    pub dst_port: u16,
    /// `csum`.
    pub csum: bool,
    /// `tos`; the ECN bits are 0.
    pub tos: Octet,
    /// `ttl`.
    pub ttl: Octet,
    /// `df_default`.
    pub df: bool,
    /// `exts` has `gbp`: VXLAN carries a group policy.
    pub gbp: bool,
    /// `egress_pkt_mark`.
    pub egress_mark: Option<u32>,
    /// The options as they are given, for people.
    pub options: BTreeMap<String, String>,
}

/// A configuration, and what was ignored in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: TunnelConfig,
    /// What was wrong and does not matter, each a line for the log.
    pub warnings: Vec<String>,
}

/// Options while they are read.
struct Reader<'a> {
    name: &'a str,
    kind: TunnelKind,
    options: &'a BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl TunnelConfig {
    /// Reads the options of interface `name`.
    ///
    /// # Errors
    /// What the interface's `error` column is to say.
    pub fn parse(name: &str, kind: TunnelKind, options: &BTreeMap<String, String>) -> Result<Parsed, String> {
        let mut reader = Reader { name, kind, options, warnings: Vec::new() };
        reader.warn_of_unknown();
        let remote = reader.remote()?;
        let local = reader.local(remote)?;
        reader.packet_type()?;
        let config = TunnelConfig {
            kind,
            remote,
            local,
            in_key: reader.key("in_key")?.unwrap_or(Setting::Fixed(0)),
            out_key: match reader.key("out_key")? {
                None | Some(Setting::Fixed(0)) => Setting::Fixed(None),
                Some(Setting::Fixed(key)) => Setting::Fixed(Some(key)),
                Some(Setting::Flow) => Setting::Flow,
            },
            dst_port: reader.dst_port()?,
            csum: options.get("csum").is_some_and(|v| v == "true"),
            tos: reader.tos(),
            ttl: reader.ttl()?,
            df: options.get("df_default").is_none_or(|v| v == "true"),
            gbp: reader.extensions(),
            egress_mark: match options.get("egress_pkt_mark") {
                None => None,
                Some(text) => Some(reader.number("egress_pkt_mark", text, u32::MAX.into())? as u32),
            },
            options: options.clone(),
        };
        Ok(Parsed { config, warnings: reader.warnings })
    }

    /// What it sends and receives through.
    pub fn socket(&self) -> TunnelSocket {
        TunnelSocket { protocol: self.kind.into(), port: self.dst_port }
    }

    /// Whether outputs look at the flow's tunnel id.
    pub fn reads_key(&self) -> bool {
        self.out_key == Setting::Flow
    }

    /// Whether outputs look at the flow's tunnel addresses.
    pub fn reads_addresses(&self) -> bool {
        self.remote == Setting::Flow || self.local == LocalIp::Flow
    }

    /// As dpif/show has it between parentheses: `vxlan: key=7, remote_ip=10.0.0.2`.
    pub fn describe(&self) -> String {
        let mut text = self.kind.name().to_owned();
        for (n, (key, value)) in self.shown().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{} {key}={value}", if n == 0 { ":" } else { "," });
        }
        text
    }

    /// As ofproto/list-tunnels has it between parentheses; `socket` is the datapath's port that it shares.
    pub fn line(&self, socket: DpPort) -> String {
        let hex = |key: u64| if key == 0 { "0".to_owned() } else { format!("{key:#x}") };
        let octet = |value: Octet| match value {
            Octet::Fixed(value) => value.to_string(),
            Octet::Inherit => "inherit".to_owned(),
        };
        let local = match self.local {
            LocalIp::Fixed(address) => address.to_string(),
            LocalIp::Any => "::".to_owned(),
            LocalIp::Flow => "flow".to_owned(),
        };
        let remote = match self.remote {
            Setting::Fixed(address) => address.to_string(),
            Setting::Flow => "flow".to_owned(),
        };
        let out_key = match self.out_key {
            Setting::Fixed(key) => Setting::Fixed(key.unwrap_or(0)),
            Setting::Flow => Setting::Flow,
        };
        let key = |key: Setting<u64>| match key {
            Setting::Fixed(key) => hex(key),
            Setting::Flow => "flow".to_owned(),
        };
        let mut text = format!(
            "{}: {local}->{remote}, key={}, legacy_l2, dp port={socket}",
            self.kind,
            key(self.in_key)
        );
        if self.in_key != out_key {
            text += &format!(", out_key={}", key(out_key));
        }
        text += &format!(", ttl={}", octet(self.ttl));
        text += &match self.tos {
            Octet::Fixed(0) => String::new(),
            Octet::Fixed(tos) => format!(", tos={tos:#x}"),
            Octet::Inherit => ", tos=inherit".to_owned(),
        };
        text += if self.df { "" } else { ", df=false" };
        text += if self.csum { ", csum=true" } else { "" };
        text
    }

    /// Options by name; a port that is the type's own says nothing.
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let usual = self.kind.port_default() == Some(self.dst_port);
        self.options
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .filter(move |(k, _)| !(*k == "dst_port" && usual))
    }
}

impl Reader<'_> {
    fn get(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    fn warn(&mut self, text: fmt::Arguments<'_>) {
        self.warnings.push(format!("{}: {text}", self.name));
    }

    fn bad(&self, option: &str) -> String {
        format!("{}: bad {} '{option}'", self.name, self.kind)
    }

    fn warn_of_unknown(&mut self) {
        let own = self.kind.own_options();
        let known = |k: &&String| COMMON_OPTIONS.contains(&k.as_str()) || own.contains(&k.as_str());
        for option in self.options.keys().filter(|k| !known(k)) {
            self.warnings.push(format!("{}: unknown {} argument '{option}'", self.name, self.kind));
        }
    }

    fn remote(&self) -> Result<Setting<IpAddr>, String> {
        let missing = format!("{}: {} type requires valid 'remote_ip' argument", self.name, self.kind);
        let Some(text) = self.get("remote_ip") else { return Err(missing) };
        if text == "flow" {
            return Ok(Setting::Flow);
        }
        let Ok(address) = text.parse::<IpAddr>() else {
            return Err(format!("{}\n{missing}", self.bad("remote_ip")));
        };
        if address.is_multicast() {
            return Err(format!("{}: multicast remote_ip={text} not allowed", self.name));
        }
        if address.is_unspecified() {
            return Err(missing);
        }
        Ok(Setting::Fixed(address))
    }

    fn local(&self, remote: Setting<IpAddr>) -> Result<LocalIp, String> {
        let Some(text) = self.get("local_ip") else { return Ok(LocalIp::Any) };
        if text == "flow" {
            return match remote {
                Setting::Flow => Ok(LocalIp::Flow),
                Setting::Fixed(_) => Err(format!(
                    "{}: {} type requires 'remote_ip=flow' with 'local_ip=flow'",
                    self.name, self.kind
                )),
            };
        }
        let address: IpAddr = text.parse().map_err(|_| self.bad("local_ip"))?;
        match remote {
            Setting::Fixed(remote) if remote.is_ipv4() != address.is_ipv4() => {
                Err(format!("{}: 'remote_ip' and 'local_ip' has to be of the same address family", self.name))
            }
            _ if address.is_unspecified() => Ok(LocalIp::Any),
            _ => Ok(LocalIp::Fixed(address)),
        }
    }

    /// Only Ethernet frames are carried (but for flannel, which has no choice either).
    fn packet_type(&self) -> Result<(), String> {
        match self.get("packet_type") {
            None | Some("legacy_l2") => Ok(()),
            Some("legacy_l3") if self.kind == TunnelKind::Flannel => Ok(()),
            Some("legacy_l3") => {
                let name =
                    if self.kind == TunnelKind::Vxlan { "VXLAN (without GPE)" } else { self.kind.name() };
                Err(format!(
                    "{}: legacy_l3 configured on {name} tunnel that cannot carry L3 traffic",
                    self.name
                ))
            }
            Some(other) => Err(format!("{}: unknown packet_type '{other}'", self.name)),
        }
    }

    /// `in_key` or `out_key`, or `key` for both.
    fn key(&self, option: &str) -> Result<Option<Setting<u64>>, String> {
        let Some((option, text)) =
            [option, "key"].into_iter().find_map(|o| self.get(o).map(|text| (o, text)))
        else {
            return Ok(None);
        };
        if text == "flow" {
            return Ok(Some(Setting::Flow));
        }
        let max = (1u64 << self.kind.key_bits()) - 1;
        self.number(option, text, max).map(|key| Some(Setting::Fixed(key)))
    }

    fn number(&self, option: &str, text: &str, max: u64) -> Result<u64, String> {
        parse_number(text).filter(|n| *n <= max).ok_or_else(|| self.bad(option))
    }

    fn dst_port(&mut self) -> Result<u16, String> {
        let Some(default) = self.kind.port_default() else { return Ok(0) };
        match self.get("dst_port") {
            None => Ok(default),
            Some(text) => match self.number("dst_port", text, u16::MAX.into())? {
                0 => Err(self.bad("dst_port")),
                port => Ok(port as u16),
            },
        }
    }

    fn tos(&mut self) -> Octet {
        match self.get("tos").map(str::to_owned) {
            None => Octet::Fixed(0),
            Some(text) if text == "inherit" => Octet::Inherit,
            // The low two bits are ECN's, which always comes from the inner packet (RFC 6040).
            Some(text) => match parse_number(&text).filter(|t| *t <= 0xff && t & 3 == 0) {
                Some(tos) => Octet::Fixed(tos as u8),
                None => {
                    self.warn(format_args!("invalid TOS {text}"));
                    Octet::Fixed(0)
                }
            },
        }
    }

    fn ttl(&self) -> Result<Octet, String> {
        match self.get("ttl") {
            None => Ok(Octet::Fixed(TTL_DEFAULT)),
            Some("inherit") => Ok(Octet::Inherit),
            Some(text) => match self.number("ttl", text, 0xff)? {
                0 => Ok(Octet::Fixed(TTL_DEFAULT)),
                ttl => Ok(Octet::Fixed(ttl as u8)),
            },
        }
    }

    /// Whether `exts` has `gbp`.
    fn extensions(&mut self) -> bool {
        if self.kind != TunnelKind::Vxlan {
            return false;
        }
        let list: Vec<String> =
            self.get("exts").unwrap_or_default().split(',').map(|e| e.trim().to_owned()).collect();
        for unknown in list.iter().filter(|e| !e.is_empty() && *e != "gbp") {
            self.warn(format_args!("unknown extension '{unknown}'"));
        }
        list.iter().any(|e| e == "gbp")
    }
}

/// A decimal or (0x) hexadecimal number.
fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, options: &[(&str, &str)]) -> Result<Parsed, String> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TunnelConfig::parse("t1", TunnelKind::by_name(kind).unwrap(), &options)
    }

    fn config(kind: &str, options: &[(&str, &str)]) -> TunnelConfig {
        let parsed = read(kind, options).unwrap();
        assert_eq!(parsed.warnings, Vec::<String>::new());
        parsed.config
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let vxlan = config("vxlan", &[("remote_ip", "10.0.0.2")]);
        assert_eq!(vxlan.remote, Setting::Fixed("10.0.0.2".parse().unwrap()));
        assert_eq!(
            (vxlan.local, vxlan.in_key, vxlan.out_key),
            (LocalIp::Any, Setting::Fixed(0), Setting::Fixed(None))
        );
        assert_eq!((vxlan.dst_port, vxlan.tos, vxlan.ttl), (4789, Octet::Fixed(0), Octet::Fixed(64)));
        assert!(vxlan.df && !vxlan.csum && !vxlan.gbp);
        assert_eq!(config("geneve", &[("remote_ip", "flow")]).dst_port, 6081);
        assert_eq!(config("flannel", &[("remote_ip", "flow")]).dst_port, 8285);
        assert_eq!(config("gre", &[("remote_ip", "::2")]).dst_port, 0);
    }

    #[test]
    fn every_option_is_read() {
        let c = config(
            "vxlan",
            &[
                ("remote_ip", "fd00::2"),
                ("local_ip", "fd00::1"),
                ("in_key", "0x10"),
                ("out_key", "flow"),
                ("dst_port", "8472"),
                ("csum", "true"),
                ("tos", "0x28"),
                ("ttl", "inherit"),
                ("df_default", "false"),
                ("exts", "gbp"),
                ("egress_pkt_mark", "7"),
            ],
        );
        assert_eq!(c.local, LocalIp::Fixed("fd00::1".parse().unwrap()));
        assert_eq!((c.in_key, c.out_key, c.dst_port), (Setting::Fixed(16), Setting::Flow, 8472));
        assert_eq!((c.tos, c.ttl, c.egress_mark), (Octet::Fixed(0x28), Octet::Inherit, Some(7)));
        assert!(c.csum && !c.df && c.gbp);
        let split = config("vxlan", &[("remote_ip", "1.1.1.1"), ("key", "5"), ("in_key", "6")]);
        assert_eq!((split.in_key, split.out_key), (Setting::Fixed(6), Setting::Fixed(Some(5))));
        let both =
            config("gre", &[("remote_ip", "flow"), ("local_ip", "flow"), ("key", "5"), ("tos", "inherit")]);
        assert_eq!((both.in_key, both.out_key), (Setting::Fixed(5), Setting::Fixed(Some(5))));
        assert_eq!((both.local, both.tos), (LocalIp::Flow, Octet::Inherit));
    }

    /// What ofproto/list-tunnels of Debian's 3.1.0 printed for the same options.
    #[test]
    fn lines_are_those_of_ovs() {
        for (kind, options, expected) in [
            (
                "gre",
                "remote_ip=192.0.2.9 local_ip=192.0.2.1 tos=inherit ttl=12 in_key=3 out_key=4 df_default=false",
                "gre: 192.0.2.1->192.0.2.9, key=0x3, legacy_l2, dp port=7, out_key=0x4, ttl=12, tos=inherit, df=false",
            ),
            (
                "vxlan",
                "remote_ip=fd00::1 egress_pkt_mark=5 exts=gbp dst_port=4790",
                "vxlan: ::->fd00::1, key=0, legacy_l2, dp port=7, ttl=64",
            ),
            (
                "vxlan",
                "remote_ip=192.0.2.2 key=7",
                "vxlan: ::->192.0.2.2, key=0x7, legacy_l2, dp port=7, ttl=64",
            ),
            (
                "geneve",
                "remote_ip=flow key=flow csum=true",
                "geneve: ::->flow, key=flow, legacy_l2, dp port=7, ttl=64, csum=true",
            ),
        ] {
            let options: Vec<(&str, &str)> = options.split(' ').filter_map(|o| o.split_once('=')).collect();
            assert_eq!(config(kind, &options).line(DpPort(7)), expected);
        }
    }

    /// Texts and warnings as ovs-vswitchd 3.1 gives them.
    #[test]
    fn what_ovs_refuses_is_refused_in_its_words() {
        let refused = |options: &[(&str, &str)], text: &str| {
            assert_eq!(read("vxlan", options).unwrap_err(), text, "{options:?}");
        };
        let required = "t1: vxlan type requires valid 'remote_ip' argument";
        refused(&[], required);
        refused(&[("remote_ip", "foo")], &format!("t1: bad vxlan 'remote_ip'\n{required}"));
        refused(&[("remote_ip", "224.0.0.1")], "t1: multicast remote_ip=224.0.0.1 not allowed");
        refused(&[("remote_ip", "ff02::1")], "t1: multicast remote_ip=ff02::1 not allowed");
        refused(
            &[("remote_ip", "1.1.1.1"), ("local_ip", "flow")],
            "t1: vxlan type requires 'remote_ip=flow' with 'local_ip=flow'",
        );
        refused(
            &[("remote_ip", "1.1.1.1"), ("local_ip", "::1")],
            "t1: 'remote_ip' and 'local_ip' has to be of the same address family",
        );
        refused(
            &[("remote_ip", "1.1.1.1"), ("packet_type", "legacy_l3")],
            "t1: legacy_l3 configured on VXLAN (without GPE) tunnel that cannot carry L3 traffic",
        );
        refused(&[("remote_ip", "1.1.1.1"), ("packet_type", "zzz")], "t1: unknown packet_type 'zzz'");
        let warned = |kind: &str, option: (&str, &str), text: &str| {
            let parsed = read(kind, &[("remote_ip", "1.1.1.1"), option]).unwrap();
            assert_eq!(parsed.warnings, [text], "{option:?}");
        };
        warned("vxlan", ("tos", "1"), "t1: invalid TOS 1");
        warned("vxlan", ("tos", "0x104"), "t1: invalid TOS 0x104");
        warned("vxlan", ("exts", "foo"), "t1: unknown extension 'foo'");
        warned("geneve", ("exts", "gbp"), "t1: unknown geneve argument 'exts'");
        warned("gre", ("dst_port", "5"), "t1: unknown gre argument 'dst_port'");
        warned("vxlan", ("colour", "red"), "t1: unknown vxlan argument 'colour'");
    }

    #[test]
    fn numbers_that_are_none_or_do_not_fit_are_refused() {
        for (kind, option, value) in [
            ("vxlan", "key", "abc"),
            ("vxlan", "in_key", "16777216"),
            ("geneve", "out_key", "0x1000000"),
            ("gre", "key", "0x100000000"),
            ("vxlan", "key", "-1"),
            ("vxlan", "key", "+1"),
            ("flannel", "key", "1"),
            ("vxlan", "dst_port", "0"),
            ("vxlan", "dst_port", "65536"),
            ("vxlan", "ttl", "256"),
            ("vxlan", "ttl", "zz"),
            ("vxlan", "local_ip", "bar"),
            ("vxlan", "egress_pkt_mark", "4294967296"),
        ] {
            let error = read(kind, &[("remote_ip", "1.1.1.1"), (option, value)]).unwrap_err();
            assert_eq!(error, format!("t1: bad {kind} '{option}'"), "{option}={value}");
        }
        assert_eq!(
            config("gre", &[("remote_ip", "1.1.1.1"), ("key", "0xffffffff")]).in_key,
            Setting::Fixed(0xffff_ffff)
        );
    }

    /// As dpif/show of ovs-vswitchd 3.1 printed them.
    #[test]
    fn descriptions_read_as_in_ovs() {
        let shown = |kind: &str, options: &[(&str, &str)]| config(kind, options).describe();
        assert_eq!(shown("vxlan", &[("remote_ip", "1.1.1.1")]), "vxlan: remote_ip=1.1.1.1");
        assert_eq!(
            shown("vxlan", &[("remote_ip", "flow"), ("key", "flow"), ("dst_port", "4789")]),
            "vxlan: key=flow, remote_ip=flow"
        );
        assert_eq!(
            shown(
                "vxlan",
                &[("remote_ip", "1.1.1.1"), ("dst_port", "8472"), ("in_key", "5"), ("out_key", "6")]
            ),
            "vxlan: dst_port=8472, in_key=5, out_key=6, remote_ip=1.1.1.1"
        );
        assert_eq!(
            shown("gre", &[("remote_ip", "1.1.1.1"), ("in_key", "5"), ("out_key", "flow")]),
            "gre: in_key=5, out_key=flow, remote_ip=1.1.1.1"
        );
    }
}
