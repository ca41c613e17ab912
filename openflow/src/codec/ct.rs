//! NXT_CT_FLUSH: a list of properties, of which two are tuples made of properties.

use super::{property, put_property};
use crate::error::OfError;
use crate::message::{CtFlush, CtTuple};
use crate::wire::{Put, Reader, patch_len};
use std::net::{IpAddr, Ipv6Addr};

mod part {
    pub const ORIGINAL: u16 = 0;
    pub const REPLY: u16 = 1;
    pub const ZONE: u16 = 2;
}

mod member {
    pub const SRC: u16 = 0;
    pub const DST: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    pub const ICMP_ID: u16 = 4;
    pub const ICMP_TYPE: u16 = 5;
    pub const ICMP_CODE: u16 = 6;
}

pub(crate) fn read_flush(r: &mut Reader<'_>) -> Result<CtFlush, OfError> {
    let mut flush = CtFlush { protocol: r.u8()?, ..CtFlush::default() };
    if r.take(7)?.iter().any(|b| *b != 0) {
        return Err(OfError::NxBadRequestMustBeZero);
    }
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            part::ORIGINAL => flush.original = Some(read_tuple(&mut body)?),
            part::REPLY => flush.reply = Some(read_tuple(&mut body)?),
            part::ZONE => flush.zone = Some(padded16(&mut body)?),
            _ => return Err(OfError::BadPropertyBadType),
        }
    }
    Ok(flush)
}

/// A number of 16 bits; whether its padding is counted in the property's length is up to the sender.
fn padded16(r: &mut Reader<'_>) -> Result<u16, OfError> {
    let value = r.u16()?;
    r.skip_padding(2);
    r.end()?;
    Ok(value)
}

fn read_tuple(r: &mut Reader<'_>) -> Result<CtTuple, OfError> {
    r.skip(4)?;
    let mut tuple = CtTuple::default();
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            member::SRC => tuple.src = Some(address(&mut body)?),
            member::DST => tuple.dst = Some(address(&mut body)?),
            member::SRC_PORT => tuple.src_port = Some(padded16(&mut body)?),
            member::DST_PORT => tuple.dst_port = Some(padded16(&mut body)?),
            member::ICMP_ID => tuple.icmp_id = Some(padded16(&mut body)?),
            member::ICMP_TYPE => tuple.icmp_type = Some(body.u8()?),
            member::ICMP_CODE => tuple.icmp_code = Some(body.u8()?),
            _ => return Err(OfError::BadPropertyBadType),
        }
    }
    Ok(tuple)
}

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 §2.5.5.2).
fn address(r: &mut Reader<'_>) -> Result<IpAddr, OfError> {
    let address = Ipv6Addr::from(r.number(16)?);
    r.end()?;
    Ok(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
}

pub(crate) fn put_flush(out: &mut Vec<u8>, flush: &CtFlush) {
    out.put_u8(flush.protocol);
    out.zeros(7);
    for (kind, tuple) in [(part::ORIGINAL, &flush.original), (part::REPLY, &flush.reply)] {
        if let Some(tuple) = tuple {
            put_tuple(out, kind, tuple);
        }
    }
    put_number(out, part::ZONE, flush.zone);
}

/// With its padding, as ovs-ofctl writes it.
fn put_number(out: &mut Vec<u8>, kind: u16, value: Option<u16>) {
    if let Some([high, low]) = value.map(u16::to_be_bytes) {
        put_property(out, kind, &[high, low, 0, 0]);
    }
}

fn put_tuple(out: &mut Vec<u8>, kind: u16, tuple: &CtTuple) {
    let start = out.len();
    out.put_u16(kind);
    out.zeros(6);
    for (kind, address) in [(member::SRC, tuple.src), (member::DST, tuple.dst)] {
        let wide = address.map(|a| match a {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        });
        if let Some(wide) = wide {
            put_property(out, kind, &wide.octets());
        }
    }
    put_number(out, member::SRC_PORT, tuple.src_port);
    put_number(out, member::DST_PORT, tuple.dst_port);
    put_number(out, member::ICMP_ID, tuple.icmp_id);
    for (kind, value) in [(member::ICMP_TYPE, tuple.icmp_type), (member::ICMP_CODE, tuple.icmp_code)] {
        if let Some(value) = value {
            put_property(out, kind, &[value]);
        }
    }
    // Seven short properties fit a length of 16 bits.
    let _ = patch_len(out, start, start + 2);
}
