//! Tunnels in the datapath's text: `tnl_push(…)`, `set(tunnel(…))`, `tnl_pop(…)`, and `tunnel(…)` of keys.

use super::{Form, Hex, Part, write_value};
use crate::mac::MacAddr;
use flowtable::Mask;
use packet::PacketKey;
use packet::key::slot;
use packet::tunnel::{Inherit, TunnelProtocol, TunnelPush, overhead};
use std::fmt::Write;
use std::net::IpAddr;

/// Parts of `tunnel(…)` of a key.
const TUNNEL: &[Part] = &[
    ("tun_id", slot::TUN_ID, Form::Hex),
    ("src", slot::TUN_SRC, Form::Ipv4),
    ("dst", slot::TUN_DST, Form::Ipv4),
    ("ipv6_src", slot::TUN_IPV6_SRC, Form::Ipv6),
    ("ipv6_dst", slot::TUN_IPV6_DST, Form::Ipv6),
    ("tos", slot::TUN_TOS, Form::Hex),
    ("ttl", slot::TUN_TTL, Form::Decimal),
];

/// `tunnel(…)` of a key that came out of a tunnel, those of its parts that count.
pub(super) fn key_text(key: &PacketKey, mask: &Mask<PacketKey>) -> Option<String> {
    let counts = |p: &&Part| mask.0.get(p.1) != 0 && key.get(p.1) != 0;
    let texts: Vec<String> = TUNNEL
        .iter()
        .filter(counts)
        .map(|(name, place, form)| {
            let mut text = format!("{name}=");
            let bits = mask.0.get(*place);
            // Writing to a string cannot fail.
            let _ = write_value(&mut text, *form, *place, key.get(*place) & bits, bits);
            text
        })
        .collect();
    (!texts.is_empty()).then(|| format!("tunnel({})", texts.join(",")))
}

/// A header that is pushed: whole, or what the host fills in where it routes.
pub(super) fn push_text(push: &TunnelPush) -> String {
    if push.eth_dst == [0; 6] { set_text(push) } else { header_text(push) }
}

fn octet(value: Inherit<u8>) -> String {
    match value {
        Inherit::Value(value) => value.to_string(),
        Inherit::Inherit => "inherit".to_owned(),
    }
}

fn tos(value: Inherit<u8>) -> String {
    match value {
        Inherit::Value(value) => Hex(value.into()).to_string(),
        Inherit::Inherit => "inherit".to_owned(),
    }
}

fn set_text(push: &TunnelPush) -> String {
    let mut parts = Vec::new();
    parts.extend(push.vni.map(|id| format!("tun_id={}", Hex(id.into()))));
    let names = if push.dst.is_ipv4() { ("src", "dst") } else { ("ipv6_src", "ipv6_dst") };
    parts.push(format!("{}={},{}={}", names.0, push.src, names.1, push.dst));
    if push.tos != Inherit::Value(0) {
        parts.push(format!("tos={}", tos(push.tos)));
    }
    parts.push(format!("ttl={}", octet(push.ttl)));
    if push.protocol.is_udp() {
        parts.push(format!("tp_dst={}", push.dst_port));
    }
    parts.extend(push.gbp.map(|(id, flags)| format!("vxlan(gbp(id={id},flags={}))", Hex(flags.into()))));
    if !push.options.is_empty() {
        parts.push(format!("geneve({})", options_text(&push.options)));
    }
    let flags = [(push.oam, "oam"), (push.df, "df"), (push.csum, "csum"), (push.vni.is_some(), "key")];
    let set: Vec<&str> = flags.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    parts.push(format!("flags({})", set.join("|")));
    format!("set(tunnel({}))", parts.join(","))
}

fn header_text(push: &TunnelPush) -> String {
    // The port types of OVS's datapath interface; flannel's has none.
    let kind = match push.protocol {
        TunnelProtocol::Gre => 3,
        TunnelProtocol::Vxlan => 4,
        TunnelProtocol::Geneve => 5,
        TunnelProtocol::Flannel => 0,
    };
    // Without the inner Ethernet header that the overhead counts, and with the outer one.
    let size = overhead(push) + if push.protocol == TunnelProtocol::Flannel { 14 } else { 0 };
    let mac = MacAddr::from_bytes;
    let ipv4 = push.dst.is_ipv4();
    let mut text = format!(
        "tnl_push(header(size={size},type={kind},eth(dst={},src={},dl_type={}),",
        mac(push.eth_dst),
        mac(push.eth_src),
        if ipv4 { "0x0800" } else { "0x86dd" }
    );
    let proto = if push.protocol.is_udp() { 17 } else { 47 };
    let (tos, ttl) = (tos(push.tos), octet(push.ttl));
    let _ = match (push.src, push.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let frag = if push.df { "0x4000" } else { "0x0" };
            write!(text, "ipv4(src={src},dst={dst},proto={proto},tos={tos},ttl={ttl},frag={frag}),")
        }
        (src, dst) => {
            write!(text, "ipv6(src={src},dst={dst},label=0,proto={proto},tclass={tos},hlimit={ttl}),")
        }
    };
    if push.protocol.is_udp() {
        let checksum = if push.csum { "0xffff" } else { "0x0" };
        let _ = write!(text, "udp(src=0,dst={},csum={checksum}),", push.dst_port);
    }
    let vni = Hex((push.vni.unwrap_or(0) & 0xff_ffff).into());
    let _ = match push.protocol {
        TunnelProtocol::Vxlan => {
            let flags = push
                .gbp
                .map_or(0x0800_0000, |(id, flags)| 0x8800_0000 | u32::from(flags) << 16 | u32::from(id));
            write!(text, "vxlan(flags={flags:#x},vni={vni})")
        }
        TunnelProtocol::Geneve => {
            let oam = if push.oam { "oam," } else { "" };
            let options = match push.options.is_empty() {
                true => String::new(),
                false => format!(",options({})", options_text(&push.options)),
            };
            write!(text, "geneve({oam}vni={vni}{options})")
        }
        TunnelProtocol::Gre => {
            let flags = u16::from(push.csum) << 15 | u16::from(push.vni.is_some()) << 13;
            let csum = if push.csum { ",csum=0x0" } else { "" };
            let key =
                push.vni.map_or(String::new(), |key| format!(",key={}", Hex((key & 0xffff_ffff).into())));
            write!(text, "gre((flags={flags:#x},proto=0x6558){csum}{key})")
        }
        TunnelProtocol::Flannel => write!(text, "flannel()"),
    };
    text.push_str("))");
    text
}

/// `{class=0xffff,type=0x80,len=4,0xa}` and so on.
fn options_text(options: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = options;
    while let Some((&[c0, c1, kind, words], after)) = rest.split_first_chunk() {
        let len = usize::from(words & 0x1f) * 4;
        let Some((value, after)) = after.split_at_checked(len) else { break };
        let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
        let digits = hex.trim_start_matches('0');
        let digits = if digits.is_empty() { "0" } else { digits };
        let class = u16::from_be_bytes([c0, c1]);
        let _ = write!(text, "{{class={class:#x},type={kind:#x},len={len},0x{digits}}}");
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(protocol: TunnelProtocol) -> TunnelPush {
        let (src, dst) = ("1.1.2.88".parse().unwrap(), "1.1.2.92".parse().unwrap());
        TunnelPush {
            eth_src: [0xaa, 0x55, 0xaa, 0x55, 0, 0],
            eth_dst: [0xf8, 0xbc, 0x12, 0x44, 0x34, 0xb6],
            vni: Some(0x7b),
            ..TunnelPush::new(protocol, src, dst)
        }
    }

    /// The headers as ofproto/trace of ovs-vswitchd 3.1 printed them, for the same tunnels.
    #[test]
    fn headers_read_as_in_ovs() {
        let eth = "eth(dst=f8:bc:12:44:34:b6,src=aa:55:aa:55:00:00,dl_type=0x0800)";
        let ip =
            |proto: u8| format!("ipv4(src=1.1.2.88,dst=1.1.2.92,proto={proto},tos=0,ttl=64,frag=0x4000)");
        assert_eq!(
            push_text(&push(TunnelProtocol::Vxlan)),
            format!(
                "tnl_push(header(size=50,type=4,{eth},{},udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x7b)))",
                ip(17)
            )
        );
        assert_eq!(
            push_text(&push(TunnelProtocol::Geneve)),
            format!(
                "tnl_push(header(size=50,type=5,{eth},{},udp(src=0,dst=6081,csum=0x0),geneve(vni=0x7b)))",
                ip(17)
            )
        );
        assert_eq!(
            push_text(&push(TunnelProtocol::Gre)),
            format!(
                "tnl_push(header(size=42,type=3,{eth},{},gre((flags=0x2000,proto=0x6558),key=0x7b)))",
                ip(47)
            )
        );
    }

    #[test]
    fn what_the_host_routes_is_a_set() {
        let routed = TunnelPush { eth_dst: [0; 6], eth_src: [0; 6], ..push(TunnelProtocol::Vxlan) };
        assert_eq!(
            push_text(&routed),
            "set(tunnel(tun_id=0x7b,src=1.1.2.88,dst=1.1.2.92,ttl=64,tp_dst=4789,flags(df|key)))"
        );
    }
}
