//! Programs as OVS prints datapath actions.

use super::{
    ARP, ETH, Form, Hex, ICMP, IPV4, IPV6, ND, PORTS, Part, PortLabels, mpls_text, network_parts,
    transport_parts, write_value,
};
use crate::forwarding::PacketIn;
use datapath::conntrack::{Alg, CtSpec, NatKind, NatSpec, PortSelection};
use datapath::{DpAction, Program, UpcallCookie};
use flowtable::PacketInReason;
use packet::PacketKey;
use packet::key::{Slot, slot};
use std::fmt;
use std::net::IpAddr;

/// See [`display_program`].
#[derive(Debug)]
pub struct DisplayProgram<'a> {
    program: &'a Program,
    key: &'a PacketKey,
    ports: PortLabels<'a>,
}

impl<'a> DisplayProgram<'a> {
    /// The same with ports written so.
    #[must_use]
    pub fn with_ports(self, ports: PortLabels<'a>) -> Self {
        DisplayProgram { ports, ..self }
    }
}

/// A program as text. The key is that of a frame it was made for: it says which header a field belongs to.
pub fn display_program<'a>(program: &'a Program, key: &'a PacketKey) -> DisplayProgram<'a> {
    DisplayProgram { program, key, ports: PortLabels::default() }
}

/// Headers whose fields one `set(…)` may carry together.
const HEADERS: &[&[Part]] = &[ETH, IPV4, IPV6, ARP, ND, PORTS, ICMP];

impl fmt::Display for DisplayProgram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = step_texts(&self.program.actions, *self.key, self.ports);
        if texts.is_empty() {
            return f.write_str("drop");
        }
        f.write_str(&texts.join(","))
    }
}

fn step_texts(steps: &[DpAction], mut key: PacketKey, ports: PortLabels<'_>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut sets: Vec<(Slot, u128, u128)> = Vec::new();
    for action in steps {
        if let DpAction::SetField { slot, value, mask } = action {
            sets.push((*slot, *value, *mask));
            let rest = key.get(*slot) & !mask;
            key.set(*slot, rest | value);
            continue;
        }
        texts.extend(set_texts(&sets, &key));
        sets.clear();
        match action {
            DpAction::Clone(inner) => {
                texts.push(format!("clone({})", step_texts(inner, key, ports).join(",")))
            }
            // A program that does something has no need to say that it sends nothing.
            DpAction::Drop(_) if !texts.is_empty() => {}
            action => texts.push(action_text(action, ports)),
        }
        follow(action, &mut key);
    }
    texts.extend(set_texts(&sets, &key));
    texts
}

/// Keeps the EtherType true, which tells IPv4 from ARP.
fn follow(action: &DpAction, key: &mut PacketKey) {
    match action {
        DpAction::PushMpls { lse, ethertype } => {
            key.set(slot::DL_TYPE, (*ethertype).into());
            let (first, second) = (key.get(slot::MPLS_LSE0), key.get(slot::MPLS_LSE1));
            key.set(slot::MPLS_LSE2, second);
            key.set(slot::MPLS_LSE1, first);
            key.set(slot::MPLS_LSE0, (*lse).into());
        }
        DpAction::PopMpls { ethertype } => {
            key.set(slot::DL_TYPE, (*ethertype).into());
            let (second, third) = (key.get(slot::MPLS_LSE1), key.get(slot::MPLS_LSE2));
            key.set(slot::MPLS_LSE0, second);
            key.set(slot::MPLS_LSE1, third);
            key.set(slot::MPLS_LSE2, 0);
        }
        _ => {}
    }
}

/// Consecutive writes, those of one header together.
fn set_texts(sets: &[(Slot, u128, u128)], key: &PacketKey) -> Vec<String> {
    let mut texts = Vec::new();
    let dl_type = key.dl_type();
    let transport = transport_parts(dl_type, key.get(slot::NW_PROTO) as u8);
    let headers = [Some(("eth", ETH)), network_parts(dl_type), transport, Some(("nd", ND))];
    let mut left = sets.to_vec();
    for (name, parts) in headers.into_iter().flatten() {
        let mut inner = Vec::new();
        for &(part, place, form) in parts {
            let Some(i) = left.iter().position(|(s, ..)| *s == place) else { continue };
            let (_, value, mask) = left.remove(i);
            let mut text = format!("{part}=");
            let _ = write_value(&mut text, form, place, value, mask);
            inner.push(text);
        }
        if !inner.is_empty() {
            texts.push(format!("set({name}({}))", inner.join(",")));
        }
    }
    texts.extend(left.iter().map(|(place, value, mask)| other_set(*place, *value, *mask, key)));
    texts
}

fn other_set(place: Slot, value: u128, mask: u128, key: &PacketKey) -> String {
    let masked = |name: &str| {
        let tail = if mask == place.ones() { String::new() } else { format!("/{mask:#x}") };
        format!("set({name}({value:#x}{tail}))")
    };
    match place {
        slot::MPLS_LSE0 => format!("set(mpls({}))", mpls_text(key.get(slot::MPLS_LSE0) as u32)),
        slot::PKT_MARK => masked("skb_mark"),
        slot::TUN_ID => format!("set(tunnel(tun_id={}))", Hex(value)),
        slot::TUN_SRC | slot::TUN_DST => {
            let mut text = String::from(if place == slot::TUN_SRC { "src=" } else { "dst=" });
            let _ = write_value(&mut text, Form::Ipv4, place, value, mask);
            format!("set(tunnel({text}))")
        }
        _ => {
            // A header that the frame does not have by its key; shown by the name that the field has anywhere.
            let known = HEADERS.iter().flat_map(|h| h.iter()).find(|(_, s, _)| *s == place);
            let (name, form) = known.map_or(("field", Form::Hex), |(n, _, f)| (*n, *f));
            let mut text = format!("set({name}=");
            let _ = write_value(&mut text, form, place, value, mask);
            text.push(')');
            text
        }
    }
}

fn action_text(action: &DpAction, ports: PortLabels<'_>) -> String {
    match action {
        DpAction::Output(port) => ports.text(*port),
        DpAction::OutputTrunc { port, max_len } => format!("trunc({max_len}),{}", ports.text(*port)),
        // Gathered elsewhere.
        DpAction::SetField { .. } => String::new(),
        DpAction::PushVlan { tpid, tci } => {
            let tpid = if *tpid == 0x8100 { String::new() } else { format!("tpid={tpid:#06x},") };
            format!("push_vlan({tpid}vid={},pcp={})", tci & 0x0fff, tci >> 13)
        }
        DpAction::PopVlan => "pop_vlan".to_owned(),
        DpAction::PushMpls { lse, ethertype } => {
            format!("push_mpls({},eth_type={ethertype:#x})", mpls_text(*lse))
        }
        DpAction::PopMpls { ethertype } => format!("pop_mpls(eth_type={ethertype:#x})"),
        DpAction::Meter(meter) => format!("meter({})", meter.number()),
        DpAction::Upcall { cookie, .. } => upcall_text(cookie),
        DpAction::Ct(spec) => ct_text(spec),
        DpAction::CtClear => "ct_clear".to_owned(),
        // Shown with what it does.
        DpAction::Clone(_) => String::new(),
        DpAction::PushTunnel(push) => super::tunnel::push_text(push),
        DpAction::PopTunnel { port, .. } => format!("tnl_pop({})", ports.text(*port)),
        DpAction::Recirculate(id) => format!("recirc({:#x})", id.0),
        DpAction::Drop(_) => "drop".to_owned(),
    }
}

/// A pass through the tracker, as OVS's datapath action.
fn ct_text(spec: &CtSpec) -> String {
    let mut parts: Vec<String> = Vec::new();
    if spec.commit {
        parts.push(if spec.force { "force_commit" } else { "commit" }.to_owned());
    }
    if spec.zone.0 != 0 {
        parts.push(format!("zone={}", spec.zone.0));
    }
    parts.extend(spec.mark.map(|(value, mask)| format!("mark={value:#x}/{mask:#x}")));
    parts.extend(spec.label.map(|(value, mask)| format!("label={value:#x}/{mask:#x}")));
    parts.extend(spec.alg.map(|alg| match alg {
        Alg::Ftp => "helper=ftp".to_owned(),
        Alg::Tftp => "helper=tftp".to_owned(),
    }));
    parts.extend(spec.nat.as_ref().map(nat_text));
    if parts.is_empty() { "ct".to_owned() } else { format!("ct({})", parts.join(",")) }
}

fn nat_text(nat: &NatSpec) -> String {
    let Some(kind) = nat.kind else { return "nat".to_owned() };
    let mut text = match kind {
        NatKind::Src => "src".to_owned(),
        NatKind::Dst => "dst".to_owned(),
    };
    if let Some(first) = nat.min_ip {
        let ported = nat.min_port.is_some();
        let bracket = |ip: IpAddr| match ip {
            IpAddr::V6(ip) if ported => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        text += &format!("={}", bracket(first));
        if let Some(last) = nat.max_ip.filter(|last| *last != first) {
            text += &format!("-{}", bracket(last));
        }
        if let Some(port) = nat.min_port {
            text += &format!(":{port}");
            if let Some(last) = nat.max_port.filter(|last| *last != port) {
                text += &format!("-{last}");
            }
        }
    }
    text += if nat.persistent { ",persistent" } else { "" };
    text += match nat.selection {
        PortSelection::Default => "",
        PortSelection::Hash => ",hash",
        PortSelection::Random => ",random",
    };
    format!("nat({text})")
}

fn upcall_text(cookie: &UpcallCookie) -> String {
    let Some(p) = cookie.downcast_ref::<PacketIn>() else { return "userspace(pid=0)".to_owned() };
    let reason = match p.reason {
        PacketInReason::NoMatch => 0,
        PacketInReason::Action => 1,
        PacketInReason::InvalidTtl => 2,
        PacketInReason::ActionSet => 3,
        PacketInReason::Group => 4,
        PacketInReason::PacketOut => 5,
    };
    format!(
        "userspace(pid=0,controller(reason={reason},dont_send=0,continuation=0,recirc_id=0,rule_cookie={},\
         controller_id={},max_len={}))",
        Hex(p.cookie.into()),
        p.controller_id,
        p.max_len
    )
}
