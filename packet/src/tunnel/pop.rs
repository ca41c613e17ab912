//! Checking and stripping the headers of a tunnel.

use std::ops::Range;

use super::ecn::decapsulated;
use super::outer::{Outer, add_flags, inner_tos, set_inner_ecn};
use super::{GeneveMap, TunnelError, TunnelProtocol};
use crate::checksum::Sum;
use crate::frame::{Checksum, Frame, Layers, Segmentation};
use crate::key::{PacketKey, TUN_CSUM, TUN_KEY, TUN_OAM, slot};
use crate::wire::*;

/// The I flag of VXLAN: there is a VNI.
pub(super) const VXLAN_VNI: u8 = 0x08;
/// The G flag of VXLAN: there is a group policy.
pub(super) const VXLAN_GBP: u8 = 0x80;
/// D (do not learn) and A (policy applied), the group policy flags that are defined.
pub(super) const VXLAN_GBP_FLAGS: u8 = 0x48;
/// The O bit of Geneve.
pub(super) const GENEVE_OAM: u8 = 0x80;
/// The C bit of Geneve: some option is critical.
pub(super) const GENEVE_CRITICAL: u8 = 0x40;
/// GRE: a checksum and two reserved bytes follow.
pub(crate) const GRE_CHECKSUM: u16 = 0x8000;
/// GRE: a key follows.
pub(super) const GRE_KEY: u16 = 0x2000;
/// GRE: a sequence number follows.
pub(crate) const GRE_SEQUENCE: u16 = 0x1000;
/// GRE: RFC 2784 section 2.3 has packets with one of these bits dropped (routing and strict source route of RFC 1701).
const GRE_REFUSED: u16 = 0x4c00;
/// GRE: the version.
const GRE_VERSION: u16 = 0x0007;

/// Checks and strips the outer headers of a frame, from its Ethernet header (with at most two VLAN tags) on, and puts what
/// they say in the `TUN_*` slots of `metadata`. All else in `metadata` is cleared: it spoke of the outer frame. The layers
/// are forgotten; the caller extracts anew, and has matched the outer UDP port before.
///
/// `map` says which Geneve options are put in which slot. The inner packet takes over a congestion mark (RFC 6040); a frame
/// without IP in it is let through with or without. A VXLAN group policy is read whenever its G flag is set: the caller
/// clears the slots where the extension is not configured. Sequence numbers of GRE are skipped (RFC 2890 leaves it to the
/// receiver whether order matters). UDP over IPv6 may have no checksum (RFC 6935). Packets of flannel get an Ethernet header
/// with addresses of zero, for the caller to fill in. Ethernet padding behind the outer packet is cut off. Of a packet with
/// segments to be cut inside ([`FrameState::inner_segmentation`](crate::frame::FrameState::inner_segmentation)) the inner
/// frame is a super-frame, whose announcement the caller has to validate.
///
/// # Errors
/// See [`TunnelError`]; `metadata` is then unchanged, and the frame too, but for a partial checksum which was completed.
pub fn pop(
    frame: &mut Frame,
    protocol: TunnelProtocol,
    metadata: &mut PacketKey,
    map: &GeneveMap,
) -> Result<(), TunnelError> {
    if frame.segmentation != Segmentation::None {
        return Err(TunnelError::SuperFrame);
    }
    let outer = Outer::read(frame.bytes())?;
    let is_vouched_for = match frame.checksum {
        Checksum::Valid => true,
        Checksum::Partial { start, .. } if start as usize == outer.payload.start => true,
        // Nobody has filled in the outer checksum of what is still to be cut.
        Checksum::Partial { .. } if frame.inner_segmentation != Segmentation::None => true,
        Checksum::Partial { .. } => {
            // Of the inner packet; the sender's outer checksum counts on its being completed.
            frame.complete_checksum();
            false
        }
        Checksum::Unknown => false,
    };
    let mut key = PacketKey::default();
    let bytes = frame.bytes();
    outer.describe(bytes, &mut key);
    let inner = match protocol {
        TunnelProtocol::Gre => read_gre(bytes, &outer, &mut key)?,
        TunnelProtocol::Vxlan => {
            let payload = read_udp(bytes, &outer, is_vouched_for, &mut key)?;
            read_vxlan(bytes, payload, &mut key)?
        }
        TunnelProtocol::Geneve => {
            let payload = read_udp(bytes, &outer, is_vouched_for, &mut key)?;
            read_geneve(bytes, payload, &mut key, map)?
        }
        TunnelProtocol::Flannel => {
            let payload = read_udp(bytes, &outer, is_vouched_for, &mut key)?;
            read_flannel(bytes, payload)?
        }
    };
    strip(frame, protocol, inner, outer.tos)?;
    *metadata = key;
    Ok(())
}

/// Leaves `inner` of a frame, with the congestion mark of the outer packet.
fn strip(
    frame: &mut Frame,
    protocol: TunnelProtocol,
    inner: Range<usize>,
    outer_tos: u8,
) -> Result<(), TunnelError> {
    let is_bare = protocol == TunnelProtocol::Flannel;
    let bytes = frame.bytes().get(inner.clone()).unwrap_or_default();
    if !is_bare && bytes.len() < ETHERNET_LEN {
        return Err(TunnelError::Length);
    }
    let tos = if is_bare { bytes.get(1).copied() } else { inner_tos(bytes) };
    let ecn = match tos {
        Some(tos) => Some(decapsulated(tos, outer_tos).ok_or(TunnelError::Congestion)?),
        None => None,
    };
    frame.truncate(inner.end);
    frame.pull_front(inner.start).map_err(|_| TunnelError::Length)?;
    if is_bare {
        let header = frame.push_front(ETHERNET_LEN).map_err(|_| TunnelError::Length)?;
        header.fill(0);
        put_at(header, ETHERNET_LEN - 2, ETHERTYPE_IPV4.to_be_bytes());
    }
    frame.layers = Layers::default();
    frame.segmentation = std::mem::take(&mut frame.inner_segmentation);
    if frame.segmentation == Segmentation::None {
        frame.checksum = Checksum::Unknown;
    }
    if let Some(ecn) = ecn {
        set_inner_ecn(frame.bytes_mut(), ecn);
    }
    Ok(())
}

/// Checks a UDP header; where its payload is.
fn read_udp(
    bytes: &[u8],
    outer: &Outer,
    is_vouched_for: bool,
    key: &mut PacketKey,
) -> Result<Range<usize>, TunnelError> {
    if outer.protocol != PROTO_UDP {
        return Err(TunnelError::NotTunnel);
    }
    let datagram = bytes.get(outer.payload.clone()).unwrap_or_default();
    let &[_, _, _, _, l0, l1, c0, c1] = datagram.first_chunk().ok_or(TunnelError::Length)?;
    let len = u16::from_be_bytes([l0, l1]);
    let datagram = datagram.get(..len as usize).filter(|d| d.len() >= 8).ok_or(TunnelError::Length)?;
    if [c0, c1] != [0, 0] {
        if !is_vouched_for && outer.pseudo_sum(bytes, len).with_bytes(datagram).checksum() != 0 {
            return Err(TunnelError::Checksum);
        }
        add_flags(key, TUN_CSUM);
    }
    Ok(outer.payload.start + 8..outer.payload.start + len as usize)
}

/// RFC 7348 section 5. Flags other than I and G, and the reserved bytes, are ignored.
fn read_vxlan(bytes: &[u8], at: Range<usize>, key: &mut PacketKey) -> Result<Range<usize>, TunnelError> {
    let data = bytes.get(at.clone()).unwrap_or_default();
    let &[flags, policy, g0, g1, v0, v1, v2, _] = data.first_chunk().ok_or(TunnelError::Length)?;
    if flags & VXLAN_VNI == 0 {
        return Err(TunnelError::Flags);
    }
    if flags & VXLAN_GBP != 0 {
        key.set(slot::TUN_GBP_ID, u16::from_be_bytes([g0, g1]) as u128);
        key.set(slot::TUN_GBP_FLAGS, (policy & VXLAN_GBP_FLAGS) as u128);
    }
    set_id(key, u32::from_be_bytes([0, v0, v1, v2]));
    Ok(at.start + 8..at.end)
}

/// RFC 8926 section 3.4.
fn read_geneve(
    bytes: &[u8],
    at: Range<usize>,
    key: &mut PacketKey,
    map: &GeneveMap,
) -> Result<Range<usize>, TunnelError> {
    let data = bytes.get(at.clone()).unwrap_or_default();
    let (header, rest) = data.split_first_chunk::<8>().ok_or(TunnelError::Length)?;
    let &[first, flags, p0, p1, v0, v1, v2, _] = header;
    if first >> 6 != 0 {
        return Err(TunnelError::Version);
    }
    let options = rest.get(..(first & 0x3f) as usize * 4).ok_or(TunnelError::Length)?;
    if u16::from_be_bytes([p0, p1]) != ETHERTYPE_ETHERNET {
        return Err(TunnelError::Payload);
    }
    // Read whether or not the C bit announces critical ones: a sender that forgot it must not get them past.
    map.decode(options, key)?;
    set_id(key, u32::from_be_bytes([0, v0, v1, v2]));
    add_flags(key, if flags & GENEVE_OAM != 0 { TUN_OAM } else { 0 });
    Ok(at.start + 8 + options.len()..at.end)
}

/// RFC 2784 section 2, RFC 2890 section 2.
fn read_gre(bytes: &[u8], outer: &Outer, key: &mut PacketKey) -> Result<Range<usize>, TunnelError> {
    if outer.protocol != PROTO_GRE {
        return Err(TunnelError::NotTunnel);
    }
    let packet = bytes.get(outer.payload.clone()).unwrap_or_default();
    let (&[f0, f1, p0, p1], mut rest) = packet.split_first_chunk().ok_or(TunnelError::Length)?;
    let flags = u16::from_be_bytes([f0, f1]);
    if flags & GRE_VERSION != 0 {
        return Err(TunnelError::Version);
    }
    if flags & GRE_REFUSED != 0 {
        return Err(TunnelError::Flags);
    }
    if u16::from_be_bytes([p0, p1]) != ETHERTYPE_ETHERNET {
        return Err(TunnelError::Payload);
    }
    if flags & GRE_CHECKSUM != 0 {
        (_, rest) = rest.split_first_chunk::<4>().ok_or(TunnelError::Length)?;
        if Sum::of(packet).checksum() != 0 {
            return Err(TunnelError::Checksum);
        }
        add_flags(key, TUN_CSUM);
    }
    if flags & GRE_KEY != 0 {
        let (id, after) = rest.split_first_chunk().ok_or(TunnelError::Length)?;
        set_id(key, u32::from_be_bytes(*id));
        rest = after;
    }
    if flags & GRE_SEQUENCE != 0 {
        (_, rest) = rest.split_first_chunk::<4>().ok_or(TunnelError::Length)?;
    }
    Ok(outer.payload.end - rest.len()..outer.payload.end)
}

/// The IPv4 packet that a datagram holds, without what may follow it.
fn read_flannel(bytes: &[u8], at: Range<usize>) -> Result<Range<usize>, TunnelError> {
    let data = bytes.get(at.clone()).unwrap_or_default();
    let header = data.first_chunk::<IPV4_LEN>().ok_or(TunnelError::Length)?;
    let &[first, _, l0, l1, ..] = header;
    if first >> 4 != 4 {
        return Err(TunnelError::Payload);
    }
    let total_len = u16::from_be_bytes([l0, l1]) as usize;
    if (first & 15) < 5 || total_len < (first & 15) as usize * 4 || total_len > data.len() {
        return Err(TunnelError::Length);
    }
    Ok(at.start..at.start + total_len)
}

fn set_id(key: &mut PacketKey, id: u32) {
    key.set(slot::TUN_ID, id as u128);
    add_flags(key, TUN_KEY);
}
