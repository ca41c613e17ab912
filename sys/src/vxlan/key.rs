//! What a program of the device is told of a frame's tunnel, and tells: `struct bpf_tunnel_key` (linux/bpf.h), and a word beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of `struct bpf_tunnel_key`.
pub(super) const KEY_LEN: usize = 44;
/// Bytes that stand before a frame that was received.
pub const PREFIX_LEN: usize = 4 + KEY_LEN;
/// Bytes of a key as it is put for the sending program: the flags of `bpf_skb_set_tunnel_key` are behind it.
pub(super) const SLOT_LEN: usize = KEY_LEN + 4;

// Where the fields are. Numbers and IPv4 addresses are in the machine's order, IPv6 addresses in the network's.
const REMOTE: usize = 4;
const TOS: usize = 20;
const TTL: usize = 21;
const LOCAL: usize = 28;

// BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, BPF_F_DONT_FRAGMENT.
pub(super) const FLAG_IPV6: u32 = 1;
const FLAG_NO_CHECKSUM: u32 = 1 << 1;
const FLAG_DONT_FRAGMENT: u32 = 1 << 2;

/// Set in the first word of what was received if the kernel had taken a VLAN tag out of the frame.
pub(super) const VLAN_BIT: u32 = 8;
/// Where the TAP puts such a tag back: behind what it takes for two MAC addresses.
const TAG_AT: usize = 12;
const TAG_LEN: usize = 4;

/// The outer headers of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelKey {
    /// The other end, of the same family as `local`.
    pub remote: IpAddr,
    /// This end; unspecified to have the kernel choose.
    pub local: IpAddr,
    /// VXLAN network identifier; 24 bits.
    pub vni: u32,
    /// TOS or traffic class. The kernel makes the congestion mark itself.
    pub tos: u8,
    /// TTL or hop limit; 0 for the host's default.
    pub ttl: u8,
    /// Don't Fragment. Of a frame that was received it is not known.
    pub df: bool,
    /// Whether UDP has a checksum. Of a frame that was received it is not known.
    pub is_checked: bool,
}

impl TunnelKey {
    /// For the sending program.
    pub(super) fn encode(&self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        put(&mut bytes, 0, &self.vni.to_ne_bytes());
        put(&mut bytes, TOS, &[self.tos, self.ttl]);
        let mut flags = 0;
        for (at, address) in [(REMOTE, self.remote), (LOCAL, self.local)] {
            match address {
                IpAddr::V4(address) => put(&mut bytes, at, &address.to_bits().to_ne_bytes()),
                IpAddr::V6(address) => {
                    put(&mut bytes, at, &address.octets());
                    flags |= FLAG_IPV6;
                }
            }
        }
        flags |= if self.is_checked { 0 } else { FLAG_NO_CHECKSUM };
        flags |= if self.df { FLAG_DONT_FRAGMENT } else { 0 };
        put(&mut bytes, KEY_LEN, &flags.to_ne_bytes());
        bytes
    }

    fn decode(key: &[u8; KEY_LEN], is_v6: bool) -> TunnelKey {
        let address = |at: usize| {
            let octets: [u8; 16] = std::array::from_fn(|n| key.get(at + n).copied().unwrap_or(0));
            let [a, b, c, d, ..] = octets;
            match is_v6 {
                true => IpAddr::V6(Ipv6Addr::from(octets)),
                false => IpAddr::V4(Ipv4Addr::from_bits(u32::from_ne_bytes([a, b, c, d]))),
            }
        };
        let [v0, v1, v2, v3, ..] = *key;
        TunnelKey {
            remote: address(REMOTE),
            local: address(LOCAL),
            vni: u32::from_ne_bytes([v0, v1, v2, v3]),
            tos: key.get(TOS).copied().unwrap_or(0),
            ttl: key.get(TTL).copied().unwrap_or(0),
            df: false,
            is_checked: false,
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
}

/// What stands before a frame that was received, read from the TAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Where it came from.
    pub key: TunnelKey,
    /// The VLAN tag that belongs behind the frame's MAC addresses, type first; what stands before the frame is then longer by
    /// as much.
    pub tag: Option<[u8; TAG_LEN]>,
}

impl Arrival {
    /// Reads the first bytes of what came from the TAP. `None` if the receiving program has not written them.
    pub fn read(bytes: &[u8]) -> Option<Arrival> {
        let (first, rest) = bytes.split_first_chunk::<4>()?;
        let word = u32::from_ne_bytes(*first);
        let is_v6 = match word & !VLAN_BIT {
            4 => false,
            6 => true,
            _ => return None,
        };
        if word & VLAN_BIT == 0 {
            return Some(Arrival { key: TunnelKey::decode(rest.first_chunk()?, is_v6), tag: None });
        }
        let mut key = [0; KEY_LEN];
        let (before, behind) = rest.split_first_chunk::<{ TAG_AT - 4 }>()?;
        let (tag, behind) = behind.split_first_chunk::<TAG_LEN>()?;
        let behind = behind.get(..KEY_LEN - before.len())?;
        key.iter_mut().zip(before.iter().chain(behind)).for_each(|(to, from)| *to = *from);
        Some(Arrival { key: TunnelKey::decode(&key, is_v6), tag: Some(*tag) })
    }

    /// Bytes before the frame's first MAC address.
    pub const fn prefix_len(&self) -> usize {
        if self.tag.is_some() { PREFIX_LEN + TAG_LEN } else { PREFIX_LEN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(remote: &str, local: &str) -> TunnelKey {
        let (remote, local) = (remote.parse().unwrap(), local.parse().unwrap());
        TunnelKey { remote, local, vni: 0x12_3456, tos: 0xb8, ttl: 9, df: false, is_checked: false }
    }

    /// As the receiving program and the TAP give it.
    fn prefix(key: &TunnelKey, word: u32, tag: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = word.to_ne_bytes().to_vec();
        bytes.extend(&key.encode()[..KEY_LEN]);
        if let Some(tag) = tag {
            bytes.splice(12..12, tag);
        }
        bytes
    }

    #[test]
    fn fields_are_where_the_kernel_has_them() {
        let v4 = TunnelKey { df: true, ..key("10.1.2.3", "10.0.0.9") }.encode();
        assert_eq!(v4[0..4], 0x12_3456u32.to_ne_bytes());
        assert_eq!(v4[4..8], 0x0a01_0203u32.to_ne_bytes());
        assert_eq!((v4[20], v4[21], &v4[22..28]), (0xb8, 9, &[0; 6][..]));
        assert_eq!(v4[28..32], 0x0a00_0009u32.to_ne_bytes());
        assert_eq!(v4[44..48], 6u32.to_ne_bytes());
        let v6 = TunnelKey { is_checked: true, ..key("2001:db8::1", "::") }.encode();
        assert_eq!(v6[4..8], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!((v6[19], &v6[28..44], &v6[44..]), (1, &[0; 16][..], &1u32.to_ne_bytes()[..]));
    }

    #[test]
    fn what_the_program_writes_reads_back() {
        for (key, family) in [(key("10.1.2.3", "10.0.0.9"), 4), (key("2001:db8::1", "fd00::2"), 6)] {
            let arrival = Arrival::read(&prefix(&key, family, None)).unwrap();
            assert_eq!((arrival, arrival.prefix_len()), (Arrival { key, tag: None }, 48));
            let tag = Some([0x81, 0, 0x20, 7]);
            let arrival = Arrival::read(&prefix(&key, family | VLAN_BIT, tag)).unwrap();
            assert_eq!((arrival, arrival.prefix_len()), (Arrival { key, tag }, 52));
        }
    }

    #[test]
    fn anything_else_is_no_arrival() {
        let whole = prefix(&key("10.1.2.3", "10.0.0.9"), 4, None);
        for len in 0..PREFIX_LEN {
            assert_eq!(Arrival::read(&whole[..len]), None, "{len} bytes");
        }
        let tagged = prefix(&key("10.1.2.3", "10.0.0.9"), 4 | VLAN_BIT, Some([1; 4]));
        for len in 0..PREFIX_LEN + 4 {
            assert_eq!(Arrival::read(&tagged[..len]), None, "{len} bytes");
        }
        // A frame that the host's own stack sent into the TAP.
        assert_eq!(Arrival::read(&[0x33; 90]), None);
        assert_eq!(Arrival::read(&[0xff; 90]), None);
    }
}
