//! Random tunnel headers.

use std::net::IpAddr;

use packet::key::TUN_METADATA;
use packet::tunnel::{GeneveMap, GeneveOption, Inherit, TunnelProtocol, TunnelPush};
use packet::{PacketKey, slot};
use proptest::prelude::*;

/// Outer IPv4 addresses.
pub const V4: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2))];
/// Outer IPv6 addresses.
pub const V6: [IpAddr; 2] = [
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
];

/// A header with Ethernet addresses that may be long.
pub fn between(protocol: TunnelProtocol, ends: [IpAddr; 2]) -> TunnelPush {
    TunnelPush {
        eth_src: [2, 0, 0, 0, 0, 0xaa],
        eth_dst: [2, 0, 0, 0, 0, 0xbb],
        mtu: 9000,
        ..TunnelPush::new(protocol, ends[0], ends[1])
    }
}

/// Any header, and the map by which its options are read.
pub fn any_push() -> impl Strategy<Value = (TunnelPush, GeneveMap)> {
    let protocols = prop::sample::select(vec![
        TunnelProtocol::Vxlan,
        TunnelProtocol::Geneve,
        TunnelProtocol::Gre,
        TunnelProtocol::Flannel,
    ]);
    let options = prop::collection::btree_map(0usize..8, (any::<u16>(), 1u8..=4, any::<u128>()), 0..=8);
    let numbers = (any::<Option<u32>>(), any::<u16>(), any::<[u8; 2]>(), any::<Option<u16>>());
    (protocols, any::<bool>(), any::<[bool; 3]>(), numbers, options).prop_map(
        |(protocol, is_ipv6, [df, csum, oam], (vni, dst_port, [tos, ttl], gbp), options)| {
            let mut map = GeneveMap::default();
            let mut key = PacketKey::default();
            for (index, (class, words, value)) in options {
                let option = GeneveOption { class, kind: index as u8 * 36, len: words * 4 };
                map.insert(index, option).expect("a free field");
                key.set(TUN_METADATA[index], value);
                key.set(slot::TUN_METADATA_PRESENT, key.get(slot::TUN_METADATA_PRESENT) | 1 << index);
            }
            let header = TunnelPush {
                df,
                csum,
                oam,
                dst_port,
                tos: Inherit::Value(tos),
                ttl: Inherit::Value(ttl),
                vni: vni.map(u64::from),
                gbp: gbp.map(|id| (id, 0x48)),
                options: map.encode(&key),
                ..between(protocol, if is_ipv6 { V6 } else { V4 })
            };
            (header, map)
        },
    )
}
