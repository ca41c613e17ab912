//! Matches as ovs-ofctl prints them: priority, protocol, then fields in Open vSwitch's order.

use super::address::{DisplayIpv4Masked, DisplayIpv6Masked, DisplayMacMasked};
use super::flags::FlagNames;
use super::names::TextStyle;
use super::number::{write_hex, write_port};
use super::value::fragment_name;
use crate::field::{FieldId, Format};
use crate::key::Match;
use crate::port::OfPort;
use packet::key::{Slot, VLAN_PRESENT, slot};
use std::fmt::{self, Write};

/// The priority that rules have if nothing is said, and that is not printed.
pub(crate) const PRIORITY_DEFAULT: u16 = 0x8000;

/// See [`display_match`].
#[derive(Clone, Copy)]
pub struct DisplayMatch<'a> {
    matching: &'a Match,
    priority: u16,
    style: TextStyle<'a>,
}

/// A match as ovs-ofctl prints it, with its priority if that is not 32768: `priority=5,tcp,in_port=1,tp_dst=80`.
pub fn display_match<'a>(matching: &'a Match, priority: u16, style: TextStyle<'a>) -> DisplayMatch<'a> {
    DisplayMatch { matching, priority, style }
}

impl fmt::Display for DisplayMatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = MatchPrinter::new(f, self.matching, self.style);
        if self.priority != PRIORITY_DEFAULT {
            printer.key("priority")?;
            write!(printer.out, "{}", self.priority)?;
        }
        printer.fields()
    }
}

/// What kind of packet a match is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipv4,
    Ipv6,
    Arp,
    Mpls,
    Other,
}

/// Prints conditions with commas between them.
pub(crate) struct MatchPrinter<'a, W> {
    pub(crate) out: &'a mut W,
    matching: &'a Match,
    style: TextStyle<'a>,
    first: bool,
    /// Prints a key: flags stand for themselves.
    whole_key: bool,
}

impl<'a, W: Write> MatchPrinter<'a, W> {
    pub(crate) fn new(out: &'a mut W, matching: &'a Match, style: TextStyle<'a>) -> Self {
        MatchPrinter { out, matching, style, first: true, whole_key: false }
    }

    /// For a key under the mask of the fields that it has.
    pub(crate) fn whole_key(out: &'a mut W, matching: &'a Match, style: TextStyle<'a>) -> Self {
        MatchPrinter { whole_key: true, ..MatchPrinter::new(out, matching, style) }
    }

    fn comma(&mut self) -> fmt::Result {
        if std::mem::take(&mut self.first) { Ok(()) } else { self.out.write_char(',') }
    }

    fn key(&mut self, key: &str) -> fmt::Result {
        self.comma()?;
        write!(self.out, "{key}=")
    }

    fn exact(&self, s: Slot) -> Option<u128> {
        let (value, bits) = self.matching.get(s);
        (bits == s.ones()).then_some(value)
    }

    /// A word without value.
    fn word(&mut self, word: &str) -> fmt::Result {
        self.comma()?;
        self.out.write_str(word)
    }

    /// A decimal number, hexadecimal under a mask.
    fn decimal(&mut self, key: &str, s: Slot) -> fmt::Result {
        let (value, bits) = self.matching.get(s);
        if bits == 0 {
            return Ok(());
        }
        self.key(key)?;
        if bits == s.ones() { write!(self.out, "{value}") } else { write!(self.out, "{value:#x}/{bits:#x}") }
    }

    /// A condition in the field's format, under another name than the field's if need be.
    fn field(&mut self, key: &str, id: FieldId) -> fmt::Result {
        let (value, bits) = self.matching.get(id.slot());
        if bits == 0 {
            return Ok(());
        }
        let exact = bits == id.slot().ones();
        match id.row().format {
            Format::Decimal => return self.decimal(key, id.slot()),
            Format::OfPort => {
                self.key(key)?;
                return write_port(self.out, OfPort(value as u32), &self.style);
            }
            Format::TcpFlags | Format::CtState | Format::TunFlags => {
                self.key(key)?;
                return match FlagNames::of(id.row().format) {
                    Some(flags) if self.whole_key || flags.is_exact(bits) => {
                        flags.write_exact(self.out, value)
                    }
                    Some(flags) => flags.write_masked(self.out, value, bits),
                    None => write_hex(self.out, value),
                };
            }
            _ => self.key(key)?,
        }
        match id.row().format {
            Format::Ethernet => write!(self.out, "{}", DisplayMacMasked(value as u64, bits as u64)),
            Format::Ipv4 => write!(self.out, "{}", DisplayIpv4Masked(value as u32, bits as u32)),
            Format::Ipv6 => write!(self.out, "{}", DisplayIpv6Masked(value, bits)),
            Format::Frag => match fragment_name(value, bits) {
                Some(name) => self.out.write_str(name),
                None => write!(self.out, "{value:#x}/{bits:#x}"),
            },
            _ => {
                write_hex(self.out, value)?;
                if exact { Ok(()) } else { write!(self.out, "/{bits:#x}") }
            }
        }
    }

    fn named(&mut self, ids: &[FieldId]) -> fmt::Result {
        ids.iter().try_for_each(|id| self.field(id.row().name, *id))
    }

    /// Every condition.
    pub(crate) fn fields(&mut self) -> fmt::Result {
        self.named(&[FieldId::PktMark, FieldId::RecircId, FieldId::DpHash, FieldId::ActsetOutput])?;
        self.connection()?;
        let kind = self.protocol()?;
        self.pipeline()?;
        self.field("in_port", FieldId::InPort)?;
        self.vlan(slot::VLAN_TCI, "")?;
        self.vlan(slot::VLAN_TCI_INNER, "1")?;
        self.field("dl_src", FieldId::EthSrc)?;
        self.field("dl_dst", FieldId::EthDst)?;
        if kind == Kind::Other
            && let (dl_type, 0xffff) = self.matching.get(slot::DL_TYPE)
        {
            self.key("dl_type")?;
            write!(self.out, "{dl_type:#06x}")?;
        }
        self.network(kind)?;
        self.transport(kind)
    }

    fn connection(&mut self) -> fmt::Result {
        use FieldId::*;
        self.named(&[CtState])?;
        self.decimal("ct_zone", CtZone.slot())?;
        self.named(&[CtMark, CtLabel, CtNwSrc, CtNwDst, CtIpv6Src, CtIpv6Dst, CtNwProto, CtTpSrc, CtTpDst])
    }

    /// The protocol's name, if it has one.
    fn protocol(&mut self) -> Result<Kind, fmt::Error> {
        let frame = [slot::DL_SRC, slot::DL_DST, slot::DL_TYPE, slot::VLAN_TCI];
        if self.matching.mask().slot(slot::RECIRC_ID) != 0
            && frame.iter().any(|s| self.matching.get(*s).1 != 0)
        {
            self.word("eth")?;
        }
        let proto = self.exact(slot::NW_PROTO);
        let (kind, word) = match self.exact(slot::DL_TYPE) {
            Some(0x0800) => (
                Kind::Ipv4,
                match proto {
                    Some(1) => "icmp",
                    Some(6) => "tcp",
                    Some(17) => "udp",
                    Some(132) => "sctp",
                    _ => "ip",
                },
            ),
            Some(0x86dd) => (
                Kind::Ipv6,
                match proto {
                    Some(58) => "icmp6",
                    Some(6) => "tcp6",
                    Some(17) => "udp6",
                    Some(132) => "sctp6",
                    _ => "ipv6",
                },
            ),
            Some(0x0806) => (Kind::Arp, "arp"),
            Some(0x8035) => (Kind::Arp, "rarp"),
            Some(0x8847) => (Kind::Mpls, "mpls"),
            Some(0x8848) => (Kind::Mpls, "mplsm"),
            _ => return Ok(Kind::Other),
        };
        self.word(word)?;
        Ok(kind)
    }

    fn pipeline(&mut self) -> fmt::Result {
        use FieldId::*;
        self.named(&[Reg0, Reg1, Reg2, Reg3, Reg4, Reg5, Reg6, Reg7])?;
        self.named(&[Reg8, Reg9, Reg10, Reg11, Reg12, Reg13, Reg14, Reg15])?;
        self.named(&[TunId, TunSrc, TunDst, TunIpv6Src, TunIpv6Dst, TunGbpId, TunGbpFlags])?;
        self.decimal("tun_tos", slot::TUN_TOS)?;
        self.decimal("tun_ttl", slot::TUN_TTL)?;
        self.named(&[TunFlags])?;
        for option in [
            TunMetadata0,
            TunMetadata1,
            TunMetadata2,
            TunMetadata3,
            TunMetadata4,
            TunMetadata5,
            TunMetadata6,
            TunMetadata7,
        ] {
            self.option(option)?;
        }
        self.named(&[Metadata])
    }

    /// A field that packets may have or not: its name alone if nothing is asked of its value.
    fn option(&mut self, id: FieldId) -> fmt::Result {
        let row = id.row();
        let is_present = row.presence().is_some_and(|p| self.exact(p) == Some(1));
        if is_present && self.matching.get(row.slot).1 == 0 {
            return self.word(row.name);
        }
        self.field(row.name, id)
    }

    fn vlan(&mut self, s: Slot, suffix: &str) -> fmt::Result {
        let (tci, bits) = self.matching.get(s);
        if bits == 0 {
            return Ok(());
        }
        let present = VLAN_PRESENT as u128;
        let (vid, pcp) = (bits & 0xfff, bits & 0xe000);
        let whole = bits & tci & present != 0 && matches!(vid, 0 | 0xfff) && matches!(pcp, 0 | 0xe000);
        if whole && bits != present {
            if vid != 0 {
                self.comma()?;
                write!(self.out, "dl_vlan{suffix}={}", tci & 0xfff)?;
            }
            if pcp != 0 {
                self.comma()?;
                write!(self.out, "dl_vlan_pcp{suffix}={}", tci >> 13)?;
            }
            return Ok(());
        }
        self.comma()?;
        write!(self.out, "vlan_tci{suffix}={tci:#06x}")?;
        if bits == s.ones() { Ok(()) } else { write!(self.out, "/{bits:#06x}") }
    }

    fn network(&mut self, kind: Kind) -> fmt::Result {
        use FieldId::*;
        let (src, dst) = if kind == Kind::Arp { ("arp_spa", "arp_tpa") } else { ("nw_src", "nw_dst") };
        self.field(src, IpSrc)?;
        self.field(dst, IpDst)?;
        self.named(&[Ipv6Src, Ipv6Dst])?;
        self.label()?;
        let known: &[u128] = match kind {
            Kind::Ipv4 => &[1, 6, 17, 132],
            Kind::Ipv6 => &[58, 6, 17, 132],
            _ => &[],
        };
        if kind == Kind::Arp {
            self.field("arp_op", NwProto)?;
            self.named(&[ArpSha, ArpTha])?;
        } else if !self.exact(slot::NW_PROTO).is_some_and(|p| known.contains(&p)) {
            self.field("nw_proto", NwProto)?;
        }
        let (tos, bits) = self.matching.get(IpDscp.slot());
        if bits != 0 {
            self.key("nw_tos")?;
            write!(self.out, "{}", tos << 2)?;
        }
        self.field("nw_ecn", NwEcn)?;
        self.field("nw_ttl", NwTtl)?;
        self.named(&[MplsLabel, MplsTc, MplsTtl, MplsBos])?;
        for (s, key) in [(slot::MPLS_LSE1, "mpls_lse1"), (slot::MPLS_LSE2, "mpls_lse2")] {
            self.decimal(key, s)?;
        }
        self.field("nw_frag", IpFrag)
    }

    fn label(&mut self) -> fmt::Result {
        let label = FieldId::Ipv6Label.slot();
        let (value, bits) = self.matching.get(label);
        if bits == 0 {
            return Ok(());
        }
        self.key("ipv6_label")?;
        write!(self.out, "{value:#07x}")?;
        if bits == label.ones() { Ok(()) } else { write!(self.out, "/{bits:#07x}") }
    }

    fn transport(&mut self, kind: Kind) -> fmt::Result {
        use FieldId::*;
        let proto = self.exact(slot::NW_PROTO);
        if kind == Kind::Ipv4 && proto == Some(1) || kind == Kind::Ipv6 && proto == Some(58) {
            self.field("icmp_type", IcmpType)?;
            self.field("icmp_code", IcmpCode)?;
        } else {
            self.decimal("tp_src", slot::TP_SRC)?;
            self.decimal("tp_dst", slot::TP_DST)?;
        }
        if kind == Kind::Ipv6 && proto == Some(58) {
            self.named(&[NdTarget])?;
            self.field("nd_sll", NdSll)?;
            self.field("nd_tll", NdTll)?;
            self.named(&[NdReserved, NdOptionsType])?;
        }
        self.field("tcp_flags", TcpFlags)
    }
}
