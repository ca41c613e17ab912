//! `ct(commit,zone=NXM_NX_REG0[0..15],table=1,nat(src=10.0.0.1-10.0.0.9:1024-2048,random),exec(...),alg=ftp)`.

use super::action_parse::{ActionList, Place};
use super::action_print::display_actions;
use super::error::{Parsed, TextFault, fault};
use super::names::TextStyle;
use super::number::{digits, table};
use super::subfield::{display_subfield, subfield};
use super::token::{Word, Words};
use crate::action::{OfAction, TableId};
use crate::ct::{CtAction, CtAlg, NatAction, NatKind, ZoneSource};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The argument of `ct`.
pub(crate) fn parse(outer: &ActionList<'_>, v: &str) -> Parsed<OfAction> {
    let mut ct = CtAction::default();
    for word in Words::new(v) {
        match word.key {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => match table(word.value)? {
                TableId::ALL => return Err(fault(word.value, TextFault::CtTable(TableId::ALL.0))),
                id => ct.table = Some(id),
            },
            "zone" => ct.zone = zone(word.value)?,
            "alg" => {
                let alg = CtAlg::ALL.into_iter().find(|alg| alg.name() == word.value);
                let unknown = || fault(word.value, TextFault::CtAlg(word.value.to_owned()));
                ct.alg = Some(alg.ok_or_else(unknown)?);
            }
            "nat" => add_nat(&mut ct, word)?,
            "exec" => exec(outer, &mut ct, word.value)?,
            key => return Err(fault(key, TextFault::CtArgument(key.to_owned()))),
        }
    }
    if ct.force && !ct.commit {
        return Err(fault(v, TextFault::ForceWithoutCommit));
    }
    if ct.needs_commit() && !ct.commit {
        return Err(fault(v, TextFault::NeedsCommit));
    }
    Ok(OfAction::Ct(Box::new(ct)))
}

fn zone(v: &str) -> Parsed<ZoneSource> {
    if let Some(number) = digits(v).ok().and_then(|n| u16::try_from(n).ok()) {
        return Ok(ZoneSource::Value(number));
    }
    let src = subfield(v)?;
    if src.width != 16 {
        return Err(fault(v, TextFault::ZoneWidth(src.width)));
    }
    Ok(ZoneSource::Field(src))
}

fn add_nat(ct: &mut CtAction, word: Word<'_>) -> Parsed<()> {
    match ct.nat.replace(nat(word.value)?) {
        None => Ok(()),
        Some(_) => Err(fault(word.key, TextFault::TwoNats)),
    }
}

/// Like ovs-ofctl this takes `nat` here as well as beside `exec`.
fn exec(outer: &ActionList<'_>, ct: &mut CtAction, v: &str) -> Parsed<()> {
    let mut list = outer.inner(v, Place::CtExec)?;
    for word in Words::new(v) {
        if word.key.eq_ignore_ascii_case("nat") {
            add_nat(ct, word)?;
        } else {
            list.word(word)?;
        }
    }
    ct.exec.append(&mut list.actions);
    Ok(())
}

/// The argument of `nat`.
fn nat(v: &str) -> Parsed<NatAction> {
    let mut nat = NatAction::default();
    for word in Words::new(v) {
        match word.key {
            "src" | "dst" => {
                let kind = if word.key == "src" { NatKind::Src } else { NatKind::Dst };
                if nat.kind.replace(kind).is_some() {
                    return Err(fault(word.key, TextFault::NatKinds));
                }
                range(&mut nat, word.value)?;
            }
            "persistent" => nat.persistent = true,
            "hash" => nat.hash = true,
            "random" => nat.random = true,
            key => return Err(fault(key, TextFault::NatKey(key.to_owned()))),
        }
    }
    if nat.kind.is_none() && (nat.persistent || nat.hash || nat.random) {
        return Err(fault(v, TextFault::NatFlags));
    }
    if nat.hash && nat.random {
        return Err(fault(v, TextFault::NatHashAndRandom));
    }
    Ok(nat)
}

/// `FIRST-LAST:PORT-PORT`, of which only the first address is needed; IPv6 addresses in brackets if ports follow.
fn range(nat: &mut NatAction, v: &str) -> Parsed<()> {
    if v.is_empty() {
        return Ok(());
    }
    let invalid = || fault(v, TextFault::NatRange(v.to_owned()));
    let (first, rest) = address(v).ok_or_else(invalid)?;
    let (last, rest) = match rest.strip_prefix('-') {
        Some(rest) => address(rest).map(|(last, rest)| (Some(last), rest)).ok_or_else(invalid)?,
        None => (None, rest),
    };
    let ordered = match (first, last) {
        (IpAddr::V4(a), Some(IpAddr::V4(b))) => a <= b,
        (IpAddr::V6(a), Some(IpAddr::V6(b))) => a <= b,
        (_, None) => true,
        _ => false,
    };
    let (ports, rest) = match rest.strip_prefix(':') {
        Some(rest) => ports(rest).ok_or_else(invalid)?,
        None => (None, rest),
    };
    if !rest.is_empty() {
        let pos = v.len() - rest.len();
        let kind = TextFault::NatGarbage { rest: rest.to_owned(), range: v.to_owned(), pos };
        return Err(fault(rest, kind));
    }
    if first.is_unspecified() {
        // What OVN writes for "keep the address unless it clashes", and ovs-ofctl sends as no address.
        return if last.is_none() && ports.is_none() { Ok(()) } else { Err(invalid()) };
    }
    if !ordered {
        return Err(invalid());
    }
    nat.addresses = Some((first, last.filter(|last| *last != first)));
    nat.ports = ports;
    Ok(())
}

/// An address at the start of a text, and what follows.
fn address(v: &str) -> Option<(IpAddr, &str)> {
    if let Some(inner) = v.strip_prefix('[') {
        let (text, rest) = inner.split_once(']')?;
        return Some((text.parse::<Ipv6Addr>().ok()?.into(), rest));
    }
    let ipv6 = v.split('-').next().is_some_and(|first| first.matches(':').count() > 1);
    let part = |c: char| c.is_ascii_digit() || c == '.' || ipv6 && (c.is_ascii_hexdigit() || c == ':');
    let (text, rest) = v.split_at_checked(v.find(|c| !part(c)).unwrap_or(v.len()))?;
    Some((text.parse().ok()?, rest))
}

type Ports = Option<(u16, Option<u16>)>;

/// Ports at the start of a text, and what follows. Port 0 alone is no port, as with ovs-ofctl.
fn ports(v: &str) -> Option<(Ports, &str)> {
    let (first, rest) = port(v)?;
    let (last, rest) = match rest.strip_prefix('-') {
        Some(rest) => port(rest).map(|(last, rest)| (Some(last), rest))?,
        None => (None, rest),
    };
    match (first, last) {
        (0, None) => Some((None, rest)),
        (0, Some(_)) => None,
        (first, Some(last)) if last < first => None,
        (first, last) => Some((Some((first, last.filter(|last| *last != first))), rest)),
    }
}

fn port(v: &str) -> Option<(u16, &str)> {
    let end = v.find(|c: char| !c.is_ascii_digit()).unwrap_or(v.len());
    let (text, rest) = v.split_at_checked(end)?;
    Some((text.parse().ok()?, rest))
}

/// The action as ovs-ofctl prints it.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, ct: &CtAction, style: TextStyle<'_>) -> fmt::Result {
    let mut parts = Parts { f, first: true };
    parts.f.write_str("ct(")?;
    if ct.commit {
        parts.add(format_args!("commit"))?;
    }
    if ct.force {
        parts.add(format_args!("force"))?;
    }
    if let Some(table) = ct.table {
        parts.add(format_args!("table={}", table.0))?;
    }
    match ct.zone {
        ZoneSource::Value(0) => {}
        ZoneSource::Value(zone) => parts.add(format_args!("zone={zone}"))?,
        ZoneSource::Field(src) => parts.add(format_args!("zone={}", display_subfield(src)))?,
    }
    if let Some(nat) = &ct.nat {
        parts.add(format_args!("{}", DisplayNat(nat)))?;
    }
    if !ct.exec.is_empty() {
        parts.add(format_args!("exec({})", display_actions(&ct.exec, style)))?;
    }
    if let Some(alg) = ct.alg {
        parts.add(format_args!("alg={}", alg.name()))?;
    }
    parts.f.write_str(")")
}

/// Parts with commas between them.
struct Parts<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    first: bool,
}

impl Parts<'_, '_> {
    fn add(&mut self, part: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.first) {
            self.f.write_str(",")?;
        }
        self.f.write_fmt(part)
    }
}

struct DisplayNat<'a>(&'a NatAction);

impl fmt::Display for DisplayNat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nat = self.0;
        let Some(kind) = nat.kind else { return f.write_str("nat") };
        f.write_str(if kind == NatKind::Src { "nat(src" } else { "nat(dst" })?;
        if let Some((first, last)) = nat.addresses {
            let address = |f: &mut fmt::Formatter<'_>, address: IpAddr| match address {
                IpAddr::V6(v6) if nat.ports.is_some() => write!(f, "[{v6}]"),
                address => write!(f, "{address}"),
            };
            f.write_str("=")?;
            address(f, first)?;
            if let Some(last) = last {
                f.write_str("-")?;
                address(f, last)?;
            }
        }
        if let Some((first, last)) = nat.ports {
            write!(f, ":{first}")?;
            if let Some(last) = last {
                write!(f, "-{last}")?;
            }
        }
        for (set, name) in [(nat.persistent, "persistent"), (nat.hash, "hash"), (nat.random, "random")] {
            if set {
                write!(f, ",{name}")?;
            }
        }
        f.write_str(")")
    }
}
