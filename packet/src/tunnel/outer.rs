//! Reading IP headers without a key: the outer ones of a packet to be popped, and the congestion mark of the inner one.

use std::ops::Range;

use super::TunnelError;
use super::ecn::ECN_MASK;
use crate::checksum::{Delta, Sum};
use crate::extract::Extensions;
use crate::key::{PacketKey, TUN_DF, slot};
use crate::wire::*;

/// Flags and offset of an IPv4 header that make it a fragment: More Fragments and the offset (RFC 791).
const IPV4_FRAGMENT: u16 = 0x3fff;
/// Don't Fragment, in the same word.
pub(super) const IPV4_DF: u16 = 0x4000;

/// The EtherType behind at most two VLAN tags, and where what it announces begins.
fn ethertype(bytes: &[u8]) -> Option<(u16, usize)> {
    let mut at = ETHERNET_LEN;
    let mut found = be16_at(bytes, at - 2)?;
    for _ in 0..2 {
        if is_vlan(found) {
            at += VLAN_LEN;
            found = be16_at(bytes, at - 2)?;
        }
    }
    Some((found, at))
}

/// What the outer IP header says, after every check that it can fail.
pub(super) struct Outer {
    /// The source address and, behind it, the destination.
    addresses: Range<usize>,
    /// Protocol of the payload.
    pub protocol: u8,
    /// The payload, without Ethernet padding.
    pub payload: Range<usize>,
    /// TOS or traffic class.
    pub tos: u8,
    ttl: u8,
    df: bool,
}

impl Outer {
    /// Reads the headers of a frame.
    ///
    /// # Errors
    /// [`TunnelError::NotTunnel`] if it is not IP, or an IPv6 packet on its way to further stops;
    /// [`Length`](TunnelError::Length), [`Fragment`](TunnelError::Fragment), [`Checksum`](TunnelError::Checksum).
    pub fn read(bytes: &[u8]) -> Result<Outer, TunnelError> {
        match ethertype(bytes) {
            Some((ETHERTYPE_IPV4, at)) => Outer::read_ipv4(bytes, at),
            Some((ETHERTYPE_IPV6, at)) => Outer::read_ipv6(bytes, at),
            _ => Err(TunnelError::NotTunnel),
        }
    }

    fn read_ipv4(bytes: &[u8], at: usize) -> Result<Outer, TunnelError> {
        let data = bytes.get(at..).unwrap_or_default();
        let fixed = data.first_chunk::<IPV4_LEN>().ok_or(TunnelError::Length)?;
        let &[first, tos, l0, l1, _, _, f0, f1, ttl, protocol, ..] = fixed;
        let header_len = (first & 15) as usize * 4;
        let total_len = u16::from_be_bytes([l0, l1]) as usize;
        if first >> 4 != 4 || header_len < IPV4_LEN || total_len < header_len || total_len > data.len() {
            return Err(TunnelError::Length);
        }
        if data.get(..header_len).is_none_or(|header| Sum::of(header).checksum() != 0) {
            return Err(TunnelError::Checksum);
        }
        let flags_and_offset = u16::from_be_bytes([f0, f1]);
        if flags_and_offset & IPV4_FRAGMENT != 0 {
            return Err(TunnelError::Fragment);
        }
        Ok(Outer {
            addresses: at + 12..at + 20,
            protocol,
            payload: at + header_len..at + total_len,
            tos,
            ttl,
            df: flags_and_offset & IPV4_DF != 0,
        })
    }

    fn read_ipv6(bytes: &[u8], at: usize) -> Result<Outer, TunnelError> {
        let data = bytes.get(at..).unwrap_or_default();
        let (fixed, rest) = data.split_first_chunk::<IPV6_LEN>().ok_or(TunnelError::Length)?;
        let &[first, second, _, _, l0, l1, next, ttl, ..] = fixed;
        let payload = rest.get(..u16::from_be_bytes([l0, l1]) as usize);
        let (6, Some(payload)) = (first >> 4, payload) else { return Err(TunnelError::Length) };
        let chain = Extensions::walk(next, payload).ok_or(TunnelError::Length)?;
        if chain.frag != 0 {
            return Err(TunnelError::Fragment);
        }
        if chain.routed {
            return Err(TunnelError::NotTunnel);
        }
        let end = at + IPV6_LEN + payload.len();
        Ok(Outer {
            addresses: at + 8..at + 40,
            protocol: chain.protocol,
            payload: end - chain.rest.len()..end,
            tos: first << 4 | second >> 4,
            ttl,
            df: false,
        })
    }

    /// Sum of the pseudo header for a payload of `len` bytes.
    pub fn pseudo_sum(&self, bytes: &[u8], len: u16) -> Sum {
        Sum::of(bytes.get(self.addresses.clone()).unwrap_or_default()).with(self.protocol as u16).with(len)
    }

    /// Puts addresses, TOS, TTL and Don't Fragment in their slots.
    pub fn describe(&self, bytes: &[u8], key: &mut PacketKey) {
        let addresses = bytes.get(self.addresses.clone()).unwrap_or_default();
        let (src, dst) = addresses.split_at(addresses.len() / 2);
        if let (Some(src), Some(dst)) = (src.first_chunk(), dst.first_chunk()) {
            key.set(slot::TUN_IPV6_SRC, u128::from_be_bytes(*src));
            key.set(slot::TUN_IPV6_DST, u128::from_be_bytes(*dst));
        } else if let (Some(src), Some(dst)) = (src.first_chunk(), dst.first_chunk()) {
            key.set(slot::TUN_SRC, u32::from_be_bytes(*src) as u128);
            key.set(slot::TUN_DST, u32::from_be_bytes(*dst) as u128);
        }
        key.set(slot::TUN_TOS, self.tos as u128);
        key.set(slot::TUN_TTL, self.ttl as u128);
        add_flags(key, if self.df { TUN_DF } else { 0 });
    }
}

/// Adds bits to `TUN_FLAGS`.
pub(super) fn add_flags(key: &mut PacketKey, flags: u16) {
    key.set(slot::TUN_FLAGS, key.get(slot::TUN_FLAGS) | flags as u128);
}

/// TOS or traffic class of an inner frame; `None` if it is not IP.
pub(super) fn inner_tos(frame: &[u8]) -> Option<u8> {
    let (ethertype, at) = ethertype(frame)?;
    let first = be16_at(frame, at)?;
    match (ethertype, first >> 12) {
        (ETHERTYPE_IPV4, 4) => Some(first as u8),
        (ETHERTYPE_IPV6, 6) => Some((first >> 4) as u8),
        _ => None,
    }
}

/// Writes the ECN bits of the IP packet in an inner frame, and the IPv4 header checksum with it. Nothing if it is not IP.
pub(super) fn set_inner_ecn(frame: &mut [u8], ecn: u8) {
    let Some(((ethertype, at), old)) = inner_tos(frame).and_then(|old| Some((ethertype(frame)?, old))) else {
        return;
    };
    let change = ((old ^ ecn) & ECN_MASK) as u16;
    let Some(word) = be16_at(frame, at).filter(|_| change != 0) else { return };
    if ethertype == ETHERTYPE_IPV6 {
        put_at(frame, at, (word ^ change << 4).to_be_bytes());
        return;
    }
    put_at(frame, at, (word ^ change).to_be_bytes());
    if let Some(checksum) = be16_at(frame, at + 10) {
        put_at(frame, at + 10, Delta::of_u16(word, word ^ change).applied(checksum).to_be_bytes());
    }
}
