//! Actions that hold others, and what goes with them: NXAST_CT, NXAST_NAT within it, NXAST_CLONE, NXAST_CHECK_PKT_LARGER
//! (ovs-actions(7)).

use super::EncodeError;
use super::action::{self, Nesting, nxast};
use super::action_out::Writer;
use super::oxm;
use crate::error::{NICIRA, OfError};
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len};
use flowtable::ct::{is_connection_field, written_field};
use flowtable::{CtAction, CtAlg, NatAction, NatKind, OfAction, SubField, TableId, ZoneSource};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Flags of NXAST_CT.
mod ct_flag {
    pub const COMMIT: u16 = 1;
    pub const FORCE: u16 = 2;
}

/// Flags of NXAST_NAT.
mod nat_flag {
    pub const SRC: u16 = 1;
    pub const DST: u16 = 2;
    pub const PERSISTENT: u16 = 4;
    pub const HASH: u16 = 8;
    pub const RANDOM: u16 = 16;
    pub const ALL: u16 = 31;
}

/// Which parts of a range NXAST_NAT has, in this order.
mod nat_range {
    pub const IPV4_MIN: u16 = 1;
    pub const IPV4_MAX: u16 = 2;
    pub const IPV6_MIN: u16 = 4;
    pub const IPV6_MAX: u16 = 8;
    pub const PORT_MIN: u16 = 16;
    pub const PORT_MAX: u16 = 32;
    pub const ALL: u16 = 63;
}

/// "No table" in NXAST_CT.
const NO_TABLE: u8 = 255;
/// Width of a zone's number.
const ZONE_BITS: u16 = 16;

/// The body of NXAST_CT.
pub(crate) fn read_ct(version: OfVersion, r: &mut Reader<'_>, nesting: Nesting) -> Result<OfAction, OfError> {
    let (flags, zone_src, zone_imm, table) = (r.u16()?, r.take(4)?, r.u16()?, r.u8()?);
    r.skip(3)?;
    let alg = r.u16()?;
    let zone = match zone_src {
        [0, 0, 0, 0] => ZoneSource::Value(zone_imm),
        header => {
            let (start, width) = action::offset_and_width(zone_imm);
            let field = action::field_header(&mut Reader::new(header, OfError::BadActionBadSetLen))?;
            if width != ZONE_BITS {
                return Err(OfError::BadActionBadSetLen);
            }
            ZoneSource::Field(action::sub_field(field, start, width)?)
        }
    };
    let alg = match alg {
        0 => None,
        port => Some(CtAlg::ALL.into_iter().find(|a| a.port() == port).ok_or(OfError::BadActionBadArgument)?),
    };
    let mut ct = CtAction {
        commit: flags & ct_flag::COMMIT != 0,
        force: flags & ct_flag::FORCE != 0,
        zone,
        table: (table != NO_TABLE).then_some(TableId(table)),
        alg,
        nat: None,
        exec: Vec::new(),
    };
    read_ct_nested(version, r, nesting.deeper()?, &mut ct)?;
    if (ct.force || ct.needs_commit()) && !ct.commit {
        return Err(OfError::BadActionBadArgument);
    }
    Ok(OfAction::Ct(Box::new(ct)))
}

/// `nat` and what sets the connection's fields, in any order.
fn read_ct_nested(
    version: OfVersion,
    r: &mut Reader<'_>,
    nesting: Nesting,
    ct: &mut CtAction,
) -> Result<(), OfError> {
    while !r.is_empty() {
        let (kind, len) = action::peek_header(r)?;
        let mut ahead = *r;
        ahead.skip(4)?;
        let nat = kind == action::ofpat::EXPERIMENTER
            && len >= 16
            && ahead.u32()? == NICIRA
            && ahead.u16()? == nxast::NAT;
        if nat {
            let mut body = r.sub(len)?;
            body.skip(10)?;
            if ct.nat.replace(read_nat(&mut body)?).is_some() {
                return Err(OfError::BadActionBadArgument);
            }
            continue;
        }
        let action = action::read_action(version, r, nesting)?;
        match written_field(&action) {
            Some(field) if is_connection_field(field) => ct.exec.push(action),
            _ => return Err(OfError::BadActionBadArgument),
        }
    }
    Ok(())
}

/// The body of NXAST_NAT. Zeros may follow.
fn read_nat(r: &mut Reader<'_>) -> Result<NatAction, OfError> {
    use nat_range as has;
    *r = r.or(OfError::BadActionBadArgument);
    r.skip(2)?;
    let (flags, present) = (r.u16()?, r.u16()?);
    let wrong = Err(OfError::BadActionBadArgument);
    if flags & !nat_flag::ALL != 0 || present & !has::ALL != 0 {
        return wrong;
    }
    let kind = match flags & (nat_flag::SRC | nat_flag::DST) {
        0 => None,
        nat_flag::SRC => Some(NatKind::Src),
        nat_flag::DST => Some(NatKind::Dst),
        _ => return wrong,
    };
    let nat = NatAction {
        kind,
        addresses: None,
        ports: None,
        persistent: flags & nat_flag::PERSISTENT != 0,
        hash: flags & nat_flag::HASH != 0,
        random: flags & nat_flag::RANDOM != 0,
    };
    // Without an end to translate, neither a range nor a way to choose means anything.
    if kind.is_none() && (flags != 0 || present != 0) || nat.hash && nat.random {
        return wrong;
    }
    let v4 = |r: &mut Reader<'_>| r.u32().map(|a| IpAddr::from(Ipv4Addr::from(a)));
    let v6 = |r: &mut Reader<'_>| r.number(16).map(|a| IpAddr::from(Ipv6Addr::from(a)));
    let addresses = match present & (has::IPV4_MIN | has::IPV4_MAX | has::IPV6_MIN | has::IPV6_MAX) {
        0 => None,
        has::IPV4_MIN => Some((v4(r)?, None)),
        has::IPV6_MIN => Some((v6(r)?, None)),
        n if n == has::IPV4_MIN | has::IPV4_MAX => Some((v4(r)?, Some(v4(r)?))),
        n if n == has::IPV6_MIN | has::IPV6_MAX => Some((v6(r)?, Some(v6(r)?))),
        _ => return wrong,
    };
    let ports = match present & (has::PORT_MIN | has::PORT_MAX) {
        0 => None,
        has::PORT_MIN => Some((r.u16()?, None)),
        n if n == has::PORT_MIN | has::PORT_MAX => Some((r.u16()?, Some(r.u16()?))),
        _ => return wrong,
    };
    let addresses_right =
        addresses.is_none_or(|(first, last)| !first.is_unspecified() && last.is_none_or(|l| l >= first));
    let ports_right = ports.is_none_or(|(first, last)| first != 0 && last.is_none_or(|l| l >= first));
    if !addresses_right || !ports_right || ports.is_some() && addresses.is_none() {
        return wrong;
    }
    Ok(NatAction {
        addresses: addresses.map(|(first, last)| (first, last.filter(|l| *l != first))),
        ports: ports.map(|(first, last)| (first, last.filter(|l| *l != first))),
        ..nat
    })
}

/// The body of NXAST_CLONE.
pub(crate) fn read_clone(
    version: OfVersion,
    r: &mut Reader<'_>,
    nesting: Nesting,
) -> Result<OfAction, OfError> {
    r.skip(6)?;
    let list = action::read_list(version, r.rest(), nesting.deeper()?)?;
    // Of instructions only write_metadata has a form as an action, and meters would slow down the clone's frame.
    if list.iter().any(|a| a.is_instruction() || matches!(a, OfAction::Meter(_))) {
        return Err(OfError::BadActionBadArgument);
    }
    Ok(OfAction::Clone(list))
}

/// The body of NXAST_CHECK_PKT_LARGER.
pub(crate) fn read_check_pkt_larger(r: &mut Reader<'_>) -> Result<OfAction, OfError> {
    let (len, bit) = (r.u16()?, r.u16()?);
    let field = action::field_header(r)?;
    let dst = action::writable(action::sub_field(field, bit, 1)?)?;
    action::zeros(r)?;
    if is_connection_field(field) {
        return Err(OfError::BadActionBadSetArgument);
    }
    Ok(OfAction::CheckPktLarger { len, dst })
}

impl Writer<'_> {
    /// Header and `body` of a Nicira action whose body holds actions.
    fn nested(
        &mut self,
        subtype: u16,
        body: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.out.len();
        self.out.put_u16(action::ofpat::EXPERIMENTER);
        self.out.put_u16(0);
        self.out.put_u32(NICIRA);
        self.out.put_u16(subtype);
        body(self)?;
        self.out.pad8(start);
        patch_len(self.out, start, start + 2)?;
        Ok(())
    }

    pub(crate) fn ct(&mut self, ct: &CtAction) -> Result<(), EncodeError> {
        let mut zone_header = vec![0; 4];
        let zone = match ct.zone {
            ZoneSource::Value(zone) => zone,
            ZoneSource::Field(SubField { width, .. }) if width != ZONE_BITS => {
                return Err(EncodeError::Inexpressible("zone of another width than 16 bits"));
            }
            ZoneSource::Field(src) => {
                zone_header.clear();
                let id = super::action_out::nx_id(src.field)?;
                oxm::put_header(&mut zone_header, id, false, src.field.row().wire_bytes as usize);
                if zone_header.len() != 4 {
                    return Err(EncodeError::Inexpressible("zone in an experimenter's field"));
                }
                super::action_out::pack(src)?
            }
        };
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        self.nested(nxast::CT, |w| {
            w.out.put_u16(flag(ct.commit, ct_flag::COMMIT) | flag(ct.force, ct_flag::FORCE));
            w.out.put(&zone_header);
            w.out.put_u16(zone);
            w.out.put_u8(ct.table.map_or(NO_TABLE, |table| table.0));
            w.out.zeros(3);
            w.out.put_u16(ct.alg.map_or(0, CtAlg::port));
            if let Some(nat) = &ct.nat {
                w.nat(nat)?;
            }
            ct.exec.iter().try_for_each(|action| w.action(action))
        })
    }

    fn nat(&mut self, nat: &NatAction) -> Result<(), EncodeError> {
        use nat_range as has;
        let flags = [
            (nat.kind == Some(NatKind::Src), nat_flag::SRC),
            (nat.kind == Some(NatKind::Dst), nat_flag::DST),
            (nat.persistent, nat_flag::PERSISTENT),
            (nat.hash, nat_flag::HASH),
            (nat.random, nat_flag::RANDOM),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit);
        let mut present = 0;
        let mut range = Vec::new();
        if let Some((first, last)) = nat.addresses {
            let (min, max) =
                if first.is_ipv4() { (has::IPV4_MIN, has::IPV4_MAX) } else { (has::IPV6_MIN, has::IPV6_MAX) };
            present |= min | if last.is_some() { max } else { 0 };
            for address in [Some(first), last].into_iter().flatten() {
                match address {
                    IpAddr::V4(v4) => range.put(&v4.octets()),
                    IpAddr::V6(v6) => range.put(&v6.octets()),
                }
            }
        }
        if let Some((first, last)) = nat.ports {
            present |= has::PORT_MIN | if last.is_some() { has::PORT_MAX } else { 0 };
            range.put_u16(first);
            last.iter().for_each(|last| range.put_u16(*last));
        }
        self.nested(nxast::NAT, |w| {
            w.out.zeros(2);
            w.out.put_u16(flags);
            w.out.put_u16(present);
            w.out.put(&range);
            Ok(())
        })
    }

    pub(crate) fn clone_list(&mut self, list: &[OfAction]) -> Result<(), EncodeError> {
        // What the copy is known to be is not known of the frame.
        let before = *self.seen;
        let result = self.nested(nxast::CLONE, |w| {
            w.out.zeros(6);
            list.iter().try_for_each(|action| w.action(action))
        });
        *self.seen = before;
        result
    }

    pub(crate) fn check_pkt_larger(&mut self, len: u16, dst: SubField) -> Result<(), EncodeError> {
        let id = super::action_out::nx_id(dst.field)?;
        self.nested(nxast::CHECK_PKT_LARGER, |w| {
            w.out.put_u16(len);
            w.out.put_u16(dst.start);
            oxm::put_header(w.out, id, false, dst.field.row().wire_bytes as usize);
            w.out.zeros(6);
            Ok(())
        })
    }
}
