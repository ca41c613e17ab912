//! `NXT_CT_FLUSH`: an IP protocol and a list of properties, those of a tuple nested (nicira-ext.h; read off ovs-ofctl).

use super::{property, put_property};
use crate::error::OfError;
use crate::message::{CtFlush, CtTuple};
use crate::wire::{Put, Reader};
use std::net::{IpAddr, Ipv6Addr};

/// Properties of the message.
mod part {
    pub const ORIGINAL: u16 = 0;
    pub const REPLY: u16 = 1;
    pub const ZONE: u16 = 2;
}

/// Properties of a tuple.
mod field {
    pub const SRC: u16 = 0;
    pub const DST: u16 = 1;
    pub const SRC_PORT: u16 = 2;
    pub const DST_PORT: u16 = 3;
    pub const ICMP_ID: u16 = 4;
    pub const ICMP_TYPE: u16 = 5;
    pub const ICMP_CODE: u16 = 6;
}

/// Reads the body. A property that is not known would narrow what is flushed, so it is refused; OVS 3.1 passes over it.
pub(crate) fn read(r: &mut Reader<'_>) -> Result<CtFlush, OfError> {
    let mut flush = CtFlush { protocol: r.u8()?, ..CtFlush::default() };
    if r.take(7)?.iter().any(|b| *b != 0) {
        return Err(OfError::NxBadRequestMustBeZero);
    }
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            part::ORIGINAL => flush.original = read_tuple(&mut body)?,
            part::REPLY => flush.reply = read_tuple(&mut body)?,
            // Bodies may come with their padding counted.
            part::ZONE => flush.zone = Some(body.u16()?),
            _ => return Err(OfError::BadPropertyBadType),
        }
    }
    let mut families =
        [flush.original.src, flush.original.dst, flush.reply.src, flush.reply.dst].into_iter().flatten();
    let first = families.next().map(|ip| ip.is_ipv4());
    if families.any(|ip| Some(ip.is_ipv4()) != first) {
        return Err(OfError::BadPropertyBadValue);
    }
    Ok(flush)
}

fn read_tuple(r: &mut Reader<'_>) -> Result<CtTuple, OfError> {
    r.skip(4)?;
    let mut tuple = CtTuple::default();
    while !r.is_empty() {
        let (kind, mut body) = property(r)?;
        match kind {
            field::SRC => tuple.src = read_address(&mut body)?,
            field::DST => tuple.dst = read_address(&mut body)?,
            field::SRC_PORT => tuple.src_port = some(body.u16()?),
            field::DST_PORT => tuple.dst_port = some(body.u16()?),
            field::ICMP_ID => tuple.icmp_id = some(body.u16()?),
            field::ICMP_TYPE => tuple.icmp_type = some(body.u8()?),
            field::ICMP_CODE => tuple.icmp_code = some(body.u8()?),
            _ => return Err(OfError::BadPropertyBadType),
        }
    }
    Ok(tuple)
}

/// 16 bytes, IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2).
fn read_address(r: &mut Reader<'_>) -> Result<Option<IpAddr>, OfError> {
    let address = Ipv6Addr::from_bits(r.number(16)?);
    r.end()?;
    Ok((!address.is_unspecified()).then(|| address.to_canonical()))
}

fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Writes the body.
pub(crate) fn put(out: &mut Vec<u8>, flush: &CtFlush) {
    out.put_u8(flush.protocol);
    out.zeros(7);
    for (kind, tuple) in [(part::ORIGINAL, &flush.original), (part::REPLY, &flush.reply)] {
        if !tuple.is_empty() {
            put_property(out, kind, &tuple_bytes(tuple));
        }
    }
    if let Some(zone) = flush.zone {
        put_property(out, part::ZONE, &zone.to_be_bytes());
    }
}

fn tuple_bytes(tuple: &CtTuple) -> Vec<u8> {
    let mut out = Vec::new();
    // With the property's header they fill 8 bytes; padding is then reckoned as if each list began at 0.
    out.zeros(4);
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let mut put = |kind, data: Option<&[u8]>| {
        if let Some(data) = data {
            put_property(&mut out, kind, data);
        }
    };
    put(field::SRC, tuple.src.map(address).as_ref().map(|b| b.as_slice()));
    put(field::DST, tuple.dst.map(address).as_ref().map(|b| b.as_slice()));
    put(field::SRC_PORT, tuple.src_port.map(u16::to_be_bytes).as_ref().map(|b| b.as_slice()));
    put(field::DST_PORT, tuple.dst_port.map(u16::to_be_bytes).as_ref().map(|b| b.as_slice()));
    put(field::ICMP_ID, tuple.icmp_id.map(u16::to_be_bytes).as_ref().map(|b| b.as_slice()));
    put(field::ICMP_TYPE, tuple.icmp_type.map(u8::to_be_bytes).as_ref().map(|b| b.as_slice()));
    put(field::ICMP_CODE, tuple.icmp_code.map(u8::to_be_bytes).as_ref().map(|b| b.as_slice()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn read_hex(hex: &str) -> Result<CtFlush, OfError> {
        read(&mut Reader::new(&bytes(hex), OfError::BadRequestBadLen))
    }

    /// What ovs-ofctl 3.1 sends, by strace(1).
    #[test]
    fn messages_of_ovs_ofctl_are_read() {
        // ct-flush br0 ct_nw_src=10.0.0.1,ct_nw_proto=17,ct_tp_dst=8 ct_nw_src=10.0.0.2
        let hex = "1100000000000000 0000002800000000 0000001400000000000000000000ffff0a00000100000000 0003000800080000 \
                   0001002000000000 0000001400000000000000000000ffff0a00000200000000";
        let flush = CtFlush {
            protocol: 17,
            original: CtTuple {
                src: Some(IpAddr::from([10, 0, 0, 1])),
                dst_port: Some(8),
                ..CtTuple::default()
            },
            reply: CtTuple { src: Some(IpAddr::from([10, 0, 0, 2])), ..CtTuple::default() },
            zone: None,
        };
        assert_eq!(read_hex(hex), Ok(flush));
        // ct-flush br0 zone=7 ct_ipv6_src=fd00::1,ct_nw_proto=58,icmp_type=128,icmp_id=3,icmp_code=1
        let hex = "3a00000000000000 0000003800000000 00000014fd00000000000000000000000000000100000000 0004000800030000 \
                   0005000580000000 0006000501000000 0001002000000000 0004000800000000 0005000500000000 0006000500000000 \
                   0002000800070000";
        let original = CtTuple {
            src: Some("fd00::1".parse().unwrap()),
            icmp_id: Some(3),
            icmp_type: Some(128),
            icmp_code: Some(1),
            ..CtTuple::default()
        };
        let flush = CtFlush { zone: Some(7), protocol: 58, original, reply: CtTuple::default() };
        assert_eq!(read_hex(hex), Ok(flush));
        assert_eq!(read_hex("0000000000000000"), Ok(CtFlush::default()));
    }

    #[test]
    fn bad_bodies_are_refused() {
        for (hex, error) in [
            ("1100000000000001", OfError::NxBadRequestMustBeZero),
            ("11000000000000", OfError::BadRequestBadLen),
            ("1100000000000000 0002000500050000", OfError::BadPropertyBadLen),
            ("1100000000000000 0009000600050000", OfError::BadPropertyBadType),
            ("1100000000000000 0000000400000000", OfError::BadPropertyBadLen),
            ("1100000000000000 0000001000000000 0009000508000000", OfError::BadPropertyBadType),
            ("1100000000000000 0000001000000000 0002001800070000", OfError::BadPropertyBadLen),
            ("1100000000000000 0000001000000000 000000080a000001", OfError::BadPropertyBadLen),
            (
                "1100000000000000 0000003800000000 0000001400000000000000000000ffff0a00000100000000 \
                 00010014fd00000000000000000000000000000100000000",
                OfError::BadPropertyBadValue,
            ),
        ] {
            assert_eq!(read_hex(hex), Err(error), "{hex}");
        }
    }
}
