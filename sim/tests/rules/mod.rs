//! A small world of rules and frames, and an interpreter of its own that says where a frame must come out: a naive reading
//! of ovs-actions(7), ovs-fields(7) and ovs-vswitchd.conf.db(5) with no code of the switch in it. Frames are built by
//! etherparse, so bytes and checksums have an outside judge too.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use etherparse::{PacketBuilder, VlanId};
use sim::Dice;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub const TABLES: u8 = 4;
pub const PORTS: u16 = 5;

/// VLANs of a port: `tag`, `trunks`.
#[derive(Clone, Debug)]
pub enum Vlans {
    All,
    Access(u16),
    Trunk(Vec<u16>),
}

impl Vlans {
    pub fn random(d: &mut Dice) -> Vlans {
        match d.below(4) {
            0 => Vlans::Access(d.of(&[5, 6])),
            1 => Vlans::Trunk(d.of(&[vec![5], vec![5, 6], vec![0, 6]])),
            _ => Vlans::All,
        }
    }

    pub fn config(&self) -> switch::vlan::VlanConfig {
        match self {
            Vlans::All => Default::default(),
            Vlans::Access(tag) => switch::vlan::VlanConfig::access(*tag),
            Vlans::Trunk(vids) => switch::vlan::VlanConfig::trunk(vids.iter().copied()),
        }
    }

    fn carries(&self, vid: u16) -> bool {
        match self {
            Vlans::All => true,
            Vlans::Access(tag) => *tag == vid,
            Vlans::Trunk(vids) => vids.contains(&vid),
        }
    }

    /// VLAN of a frame that comes in with this tag; none if it is refused.
    fn admit(&self, tag: Option<u16>) -> Option<u16> {
        match (self, tag) {
            (Vlans::Access(own), None) => Some(*own),
            (Vlans::Access(_), Some(_)) => None,
            (_, tag) => Some(tag.unwrap_or(0)).filter(|v| self.carries(*v)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Udp,
    Tcp,
    /// Not IP at all.
    None,
}

/// A frame, and what the pipeline keeps beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields {
    pub in_port: u16,
    pub src: u64,
    pub dst: u64,
    pub vlan: Option<u16>,
    pub transport: Transport,
    pub nw_src: u32,
    pub nw_dst: u32,
    pub ttl: u8,
    pub tp_src: u16,
    pub tp_dst: u16,
    pub payload: Vec<u8>,
    pub reg0: u32,
}

pub const fn mac(n: u64) -> u64 {
    0x0200_0000_0000 + n
}

fn mac_bytes(mac: u64) -> [u8; 6] {
    mac.to_be_bytes()[2..].try_into().unwrap()
}

fn mac_text(mac: u64) -> String {
    mac_bytes(mac).map(|b| format!("{b:02x}")).join(":")
}

fn ip_text(ip: u32) -> String {
    std::net::Ipv4Addr::from(ip).to_string()
}

const MACS: [u64; 6] = [mac(1), mac(2), mac(3), mac(4), 0xffff_ffff_ffff, 0x0100_5e00_0001];
const VIDS: [Option<u16>; 5] = [None, None, Some(5), Some(6), Some(7)];

impl Fields {
    pub fn random(d: &mut Dice, id: u32) -> Fields {
        Fields {
            in_port: 1 + d.below(PORTS.into()) as u16,
            src: mac(1 + d.below(4)),
            dst: d.of(&MACS),
            vlan: d.of(&VIDS),
            transport: d.of(&[Transport::Udp, Transport::Udp, Transport::Tcp, Transport::None]),
            nw_src: 0x0a00_0000 + d.below(6) as u32,
            nw_dst: 0x0a00_0000 + d.below(6) as u32,
            ttl: d.of(&[2, 64]),
            tp_src: d.below(3) as u16,
            tp_dst: 80 + d.below(4) as u16,
            payload: id.to_be_bytes().into_iter().chain(0..d.below(60) as u8).collect(),
            reg0: 0,
        }
    }

    /// The same but for one field: perhaps one that nothing looks at, perhaps one that something should.
    pub fn vary(&self, d: &mut Dice, id: u32) -> Fields {
        let (mut f, other) = (self.clone(), Fields::random(d, id));
        match d.below(9) {
            0 => f.nw_src = other.nw_src,
            1 | 2 => f.nw_dst = other.nw_dst,
            3 => f.tp_src = other.tp_src,
            4 => f.tp_dst = other.tp_dst,
            5 => f.ttl = other.ttl,
            6 => f.dst = other.dst,
            7 => f.vlan = other.vlan,
            _ => f.src = other.src,
        }
        f.payload = other.payload;
        f
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let (src, dst) = (mac_bytes(self.src), mac_bytes(self.dst));
        let mut out = Vec::new();
        if self.transport == Transport::None {
            out.extend(dst);
            out.extend(src);
            if let Some(vid) = self.vlan {
                out.extend([0x81, 0]);
                out.extend(vid.to_be_bytes());
            }
            out.extend([0x99, 0x99]);
            out.extend(&self.payload);
            return out;
        }
        let (nw_src, nw_dst) = (self.nw_src.to_be_bytes(), self.nw_dst.to_be_bytes());
        let ethernet = PacketBuilder::ethernet2(src, dst);
        let ip = match self.vlan {
            Some(vid) => ethernet.single_vlan(VlanId::try_new(vid).unwrap()).ipv4(nw_src, nw_dst, self.ttl),
            None => ethernet.ipv4(nw_src, nw_dst, self.ttl),
        };
        match self.transport {
            Transport::Udp => ip.udp(self.tp_src, self.tp_dst).write(&mut out, &self.payload).unwrap(),
            _ => ip.tcp(self.tp_src, self.tp_dst, 1, 512).write(&mut out, &self.payload).unwrap(),
        }
        out
    }

    fn is_ip(&self) -> bool {
        self.transport != Transport::None
    }
}

#[derive(Clone, Debug)]
pub enum Condition {
    InPort(u16),
    Src(u64),
    Dst(u64),
    Vlan(Option<u16>),
    AnyVlan,
    Ip,
    NwSrc(u32, u32),
    NwDst(u32, u32),
    Udp,
    Tcp,
    TpDst(u16),
    Reg0(u32),
}

impl Condition {
    fn holds(&self, f: &Fields) -> bool {
        match self {
            Condition::InPort(p) => f.in_port == *p,
            Condition::Src(m) => f.src == *m,
            Condition::Dst(m) => f.dst == *m,
            Condition::Vlan(v) => f.vlan == *v,
            Condition::AnyVlan => f.vlan.is_some(),
            Condition::Ip => f.is_ip(),
            Condition::NwSrc(ip, mask) => f.is_ip() && f.nw_src & mask == *ip,
            Condition::NwDst(ip, mask) => f.is_ip() && f.nw_dst & mask == *ip,
            Condition::Udp => f.transport == Transport::Udp,
            Condition::Tcp => f.transport == Transport::Tcp,
            Condition::TpDst(p) => f.is_ip() && f.tp_dst == *p,
            Condition::Reg0(r) => f.reg0 == *r,
        }
    }

    fn text(&self) -> String {
        match self {
            Condition::InPort(p) => format!("in_port={p}"),
            Condition::Src(m) => format!("dl_src={}", mac_text(*m)),
            Condition::Dst(m) => format!("dl_dst={}", mac_text(*m)),
            Condition::Vlan(Some(v)) => format!("dl_vlan={v}"),
            Condition::Vlan(None) => "vlan_tci=0x0000/0x1fff".to_owned(),
            Condition::AnyVlan => "vlan_tci=0x1000/0x1000".to_owned(),
            Condition::Ip => "ip".to_owned(),
            Condition::NwSrc(ip, mask) => format!("nw_src={}/{}", ip_text(*ip), ip_text(*mask)),
            Condition::NwDst(ip, mask) => format!("nw_dst={}/{}", ip_text(*ip), ip_text(*mask)),
            Condition::Udp => "udp".to_owned(),
            Condition::Tcp => "tcp".to_owned(),
            Condition::TpDst(p) => format!("tp_dst={p}"),
            Condition::Reg0(r) => format!("reg0={r}"),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Action {
    Output(u16),
    Normal,
    Dst(u64),
    NwDst(u32),
    TpDst(u16),
    DecTtl,
    StripVlan,
    Vlan(u16),
    LoadReg0(u32),
    Resubmit(u8),
    Goto(u8),
}

impl Action {
    fn text(&self) -> String {
        match self {
            Action::Output(p) => format!("output:{p}"),
            Action::Normal => "NORMAL".to_owned(),
            Action::Dst(m) => format!("mod_dl_dst:{}", mac_text(*m)),
            Action::NwDst(ip) => format!("mod_nw_dst:{}", ip_text(*ip)),
            Action::TpDst(p) => format!("mod_tp_dst:{p}"),
            Action::DecTtl => "dec_ttl".to_owned(),
            Action::StripVlan => "strip_vlan".to_owned(),
            Action::Vlan(v) => format!("mod_vlan_vid:{v}"),
            Action::LoadReg0(r) => format!("load:{r}->NXM_NX_REG0[]"),
            Action::Resubmit(t) => format!("resubmit(,{t})"),
            Action::Goto(t) => format!("goto_table:{t}"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub conditions: Vec<Condition>,
    pub actions: Vec<Action>,
}

fn some_conditions(d: &mut Dice) -> Vec<Condition> {
    let mut list = Vec::new();
    if d.one_in(3) {
        list.push(Condition::InPort(1 + d.below(PORTS.into()) as u16));
    }
    if d.one_in(4) {
        list.push(Condition::Src(mac(1 + d.below(4))));
    }
    if d.one_in(4) {
        list.push(Condition::Dst(d.of(&MACS)));
    }
    match d.below(6) {
        0 => list.push(Condition::Vlan(d.of(&VIDS))),
        1 => list.push(Condition::AnyVlan),
        _ => {}
    }
    if d.one_in(4) {
        list.push(Condition::Reg0(d.below(3) as u32));
    }
    match d.below(4) {
        0 => {}
        1 => list.push(Condition::Ip),
        n => {
            list.push(if n == 2 { Condition::Udp } else { Condition::Tcp });
            if d.one_in(2) {
                list.push(Condition::TpDst(80 + d.below(4) as u16));
            }
        }
    }
    let is_ip = list.iter().any(|c| matches!(c, Condition::Ip | Condition::Udp | Condition::Tcp));
    if is_ip && d.one_in(2) {
        let mask = d.of(&[0xffff_ffff, 0xffff_fffe, 0xffff_fffc]);
        let ip = (0x0a00_0000 + d.below(6) as u32) & mask;
        list.push(if d.one_in(2) { Condition::NwSrc(ip, mask) } else { Condition::NwDst(ip, mask) });
    }
    list
}

fn some_actions(d: &mut Dice, table: u8, conditions: &[Condition]) -> Vec<Action> {
    let has = |f: fn(&Condition) -> bool| conditions.iter().any(f);
    let is_l4 = has(|c| matches!(c, Condition::Udp | Condition::Tcp));
    let is_ip = is_l4 || has(|c| matches!(c, Condition::Ip));
    // Some actions want to know that there is a tag.
    let tagged = has(|c| matches!(c, Condition::Vlan(Some(_)) | Condition::AnyVlan));
    let mut list = Vec::new();
    for _ in 0..d.below(4) {
        let action = match d.below(14) {
            0..=3 => Action::Output(1 + d.below(u64::from(PORTS) + 1) as u16),
            4 | 5 => Action::Normal,
            6 => Action::Dst(d.of(&MACS)),
            7 if is_ip => Action::NwDst(0x0a00_0000 + d.below(6) as u32),
            8 if is_l4 => Action::TpDst(80 + d.below(4) as u16),
            9 if tagged => Action::StripVlan,
            10 => Action::Vlan(d.of(&[5, 6])),
            11 => Action::LoadReg0(d.below(3) as u32),
            12 if is_ip => Action::DecTtl,
            _ if table + 1 < TABLES => {
                Action::Resubmit(table + 1 + d.below(u64::from(TABLES - table - 1)) as u8)
            }
            _ => Action::Normal,
        };
        // An action list may look for tags only where they can be; one that changes them does it once, first.
        if matches!(action, Action::StripVlan)
            && list.iter().any(|a| matches!(a, Action::StripVlan | Action::Vlan(_)))
        {
            continue;
        }
        // Whether a frame whose TTL has run out goes on is a matter of its own: TTLs here are 2 or more, so once is safe.
        if matches!(action, Action::DecTtl)
            && (table != 0 || list.iter().any(|a| matches!(a, Action::DecTtl)))
        {
            continue;
        }
        list.push(action);
    }
    if table + 1 < TABLES && d.one_in(4) {
        list.push(Action::Goto(table + 1));
    }
    list
}

/// The rules of a bridge and its MAC table, as the model sees them.
pub struct Model {
    /// How many rules a table may have. Few rules leave fields that nothing looks at, many leave none: both have their bugs.
    pub richness: u64,
    /// Table → priority → rule; no two of a table have the same priority.
    pub rules: BTreeMap<(u8, u16), Rule>,
    pub vlans: BTreeMap<u16, Vlans>,
    pub stations: BTreeMap<(u16, u64), u16>,
}

/// What the model says of a frame.
pub struct Verdict {
    /// Port and frame, in order.
    pub outputs: Vec<(u16, Fields)>,
    learned: Vec<((u16, u64), u16)>,
}

impl Model {
    /// No rules and no ports.
    pub fn new(d: &mut Dice) -> Model {
        Model {
            richness: d.of(&[1, 2, 4, 24]),
            rules: BTreeMap::new(),
            vlans: BTreeMap::new(),
            stations: BTreeMap::new(),
        }
    }

    /// A change of the rules, made here; the same in ovs-ofctl's words.
    pub fn change(&mut self, d: &mut Dice) -> Vec<String> {
        let (table, priority) = (d.below(TABLES.into()) as u8, d.below(self.richness) as u16 + 1);
        let mut texts = Vec::new();
        if let Some(old) = self.rules.remove(&(table, priority)) {
            texts.push(format!("delete_strict table={table},priority={priority}{}", conditions_text(&old)));
            if d.one_in(2) {
                return texts;
            }
        }
        let conditions = some_conditions(d);
        let actions = some_actions(d, table, &conditions);
        let rule = Rule { conditions, actions };
        texts.push(rule_text(table, priority, &rule));
        self.rules.insert((table, priority), rule);
        texts
    }

    /// The rule that switches as a switch does where no other matches.
    pub fn add_default(&mut self) -> String {
        let rule = Rule { conditions: Vec::new(), actions: vec![Action::Normal] };
        let text = rule_text(0, 0, &rule);
        self.rules.insert((0, 0), rule);
        text
    }

    fn find(&self, table: u8, f: &Fields) -> Option<&Rule> {
        let of_table = self.rules.range((table, 0)..=(table, u16::MAX)).rev();
        of_table.map(|(_, rule)| rule).find(|r| r.conditions.iter().all(|c| c.holds(f)))
    }

    pub fn judge(&self, frame: &Fields) -> Verdict {
        let mut verdict = Verdict { outputs: Vec::new(), learned: Vec::new() };
        let mut f = frame.clone();
        self.table(0, &mut f, &mut verdict);
        verdict
    }

    /// The frame has been forwarded.
    pub fn learn(&mut self, verdict: &Verdict) {
        self.stations.extend(verdict.learned.iter().copied());
    }

    fn table(&self, table: u8, f: &mut Fields, verdict: &mut Verdict) {
        let Some(rule) = self.find(table, f) else { return };
        for action in &rule.actions {
            match action {
                Action::Output(p) => emit(*p, f, verdict),
                Action::Normal => self.normal(f, verdict),
                Action::Dst(m) => f.dst = *m,
                Action::NwDst(ip) => f.nw_dst = *ip,
                Action::TpDst(p) => f.tp_dst = *p,
                Action::DecTtl => f.ttl -= 1,
                Action::StripVlan => f.vlan = None,
                Action::Vlan(v) => f.vlan = Some(*v),
                Action::LoadReg0(r) => f.reg0 = *r,
                Action::Resubmit(t) | Action::Goto(t) => self.table(*t, f, verdict),
            }
        }
    }

    fn normal(&self, f: &Fields, verdict: &mut Verdict) {
        let Some(vlan) = self.vlans.get(&f.in_port).and_then(|v| v.admit(f.vlan)) else { return };
        verdict.learned.push(((vlan, f.src), f.in_port));
        let is_group = f.dst >> 40 & 1 == 1;
        let seen = verdict.learned.iter().rev().find(|(key, _)| *key == (vlan, f.dst)).map(|(_, port)| *port);
        let known = seen.or_else(|| self.stations.get(&(vlan, f.dst)).copied()).filter(|_| !is_group);
        let targets: Vec<u16> = match known {
            Some(port) => vec![port],
            None => self.vlans.keys().copied().collect(),
        };
        for port in targets {
            let Some(vlans) = self.vlans.get(&port).filter(|v| v.carries(vlan)) else { continue };
            let tag = if matches!(vlans, Vlans::Access(_)) || vlan == 0 { None } else { Some(vlan) };
            emit(port, &Fields { vlan: tag, ..f.clone() }, verdict);
        }
    }
}

/// A frame never goes out where it came in, unless `in_port` is said, nor where there is no port.
fn emit(port: u16, f: &Fields, verdict: &mut Verdict) {
    if port != f.in_port && (1..=PORTS).contains(&port) {
        verdict.outputs.push((port, f.clone()));
    }
}

fn conditions_text(rule: &Rule) -> String {
    rule.conditions.iter().fold(String::new(), |mut text, c| {
        let _ = write!(text, ",{}", c.text());
        text
    })
}

pub fn rule_text(table: u8, priority: u16, rule: &Rule) -> String {
    let actions: Vec<String> = rule.actions.iter().map(Action::text).collect();
    let actions = if actions.is_empty() { "drop".to_owned() } else { actions.join(",") };
    format!("table={table},priority={priority}{},actions={actions}", conditions_text(rule))
}
