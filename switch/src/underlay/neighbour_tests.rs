use super::*;
use packet::{Frame, FrameBuilder};

fn cache() -> NeighbourCache {
    NeighbourCache::new(Arc::new(Epoch::default()))
}

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

fn mac_of(cache: &NeighbourCache, ip: IpAddr) -> Option<MacAddr> {
    cache.lookup(ip).neighbour.map(|n| n.mac)
}

fn announced_by(builder: FrameBuilder) -> Option<(IpAddr, MacAddr)> {
    announced(&PacketKey::extract(&mut Frame::from_bytes(&builder.build())).unwrap())
}

const MAC: u64 = 0x0200_0000_0005;

#[test]
fn arp_announces_its_sender() {
    let arp = |op, ip| FrameBuilder::arp(op, (MAC, ip), (0x0200_0000_0009, 0x0a00_0009));
    let expected = Some((v4(1), MacAddr(MAC)));
    assert_eq!(announced_by(arp(1, 0x0a00_0001)), expected);
    assert_eq!(announced_by(arp(2, 0x0a00_0001)), expected);
    // A reverse request, probes (RFC 5227 section 2.1.1), and senders that no host can be.
    assert_eq!(announced_by(arp(3, 0x0a00_0001)), None);
    for ip in [0, u32::MAX, 0x7f00_0001, 0xe000_0001] {
        assert_eq!(announced_by(arp(2, ip)), None, "{ip:x}");
    }
    for mac in [0, 0x0100_0000_0001, 0xffff_ffff_ffff] {
        assert_eq!(announced_by(FrameBuilder::arp(2, (mac, 0x0a00_0001), (1, 1))), None, "{mac:x}");
    }
}

fn advert(hops: u128, mac: u64, target: u128) -> FrameBuilder {
    let from = 0xfe80_u128 << 112 | 5;
    FrameBuilder::icmp6(from, from + 1, 136, 0)
        .set(slot::NW_TTL, hops)
        .set(slot::ND_TARGET, target)
        .set(slot::ARP_THA, mac.into())
}

#[test]
fn neighbour_advertisement_announces_its_target() {
    let target = 0x2001_0db8_u128 << 96 | 7;
    assert_eq!(
        announced_by(advert(255, MAC, target)),
        Some((Ipv6Addr::from_bits(target).into(), MacAddr(MAC)))
    );
    assert_eq!(announced_by(advert(254, MAC, target)), None, "routed");
    assert_eq!(announced_by(advert(255, 0, target)), None, "no address");
    assert_eq!(announced_by(advert(255, MAC, 0xff02_u128 << 112 | 1)), None, "multicast target");
    let solicitation = advert(255, MAC, target).set(slot::TP_SRC, 135);
    assert_eq!(announced_by(solicitation), None);
}

#[test]
fn learns_changes_and_ages_by_use() {
    let (cache, s) = (cache(), Instant::from_secs);
    assert!(cache.learn(v4(1), MacAddr(1), s(0)));
    let r1 = cache.revision();
    assert!(!cache.learn(v4(1), MacAddr(1), s(5)), "confirmed");
    assert_eq!(cache.revision(), r1);
    assert!(cache.learn(v4(1), MacAddr(2), s(10)), "moved");
    assert_ne!(cache.revision(), r1);
    assert_eq!(mac_of(&cache, v4(1)), Some(MacAddr(2)));
    assert_eq!(cache.expire(AGING_DEFAULT, s(909)), 0);
    cache.lookup(v4(1)).neighbour.unwrap().credit(1, 64, s(800), 0);
    assert_eq!(cache.expire(AGING_DEFAULT, s(1_699)), 0, "traffic kept it young");
    let before = cache.revision();
    assert_eq!(cache.expire(AGING_DEFAULT, s(1_700)), 1);
    assert_ne!(cache.revision(), before);
    assert_eq!(mac_of(&cache, v4(1)), None);
}

#[test]
fn full_cache_forgets_the_longest_unused() {
    let (cache, ms) = (cache(), Instant::from_millis);
    for n in 0..NEIGHBOURS_MAX as u32 {
        cache.learn(v4(n), MacAddr(n.into()), ms(n.into()));
    }
    cache.lookup(v4(0)).neighbour.unwrap().credit(1, 64, ms(1_000_000), 0);
    cache.learn(v4(1_000_000), MacAddr(1), ms(1_000_001));
    assert_eq!(cache.dump().len(), NEIGHBOURS_MAX);
    assert!(mac_of(&cache, v4(0)).is_some() && mac_of(&cache, v4(1)).is_none());
}

#[test]
fn neighbours_are_asked_for_once_a_second_and_not_without_bound() {
    let (cache, ms) = (cache(), Instant::from_millis);
    assert!(cache.may_solicit(v4(1), ms(0)) && !cache.may_solicit(v4(1), ms(999)));
    assert!(cache.may_solicit(v4(1), ms(1_000)));
    let asked = (2..10_000).filter(|n| cache.may_solicit(v4(*n), ms(1_500))).count();
    assert_eq!(asked, SOLICITED_MAX - 1);
    assert!(!cache.may_solicit(v4(20_000), ms(1_900)));
    assert!(cache.may_solicit(v4(20_000), ms(2_500)), "questions grow old");
    assert!(cache.learn(v4(20_000), MacAddr(1), ms(2_500)));
    assert!(cache.may_solicit(v4(20_000), ms(2_501)), "an answer ends the pause");
}

#[test]
fn every_change_reaches_the_epoch_and_bridges_are_apart() {
    let epoch = Arc::new(Epoch::default());
    let all = Neighbours::new(Arc::clone(&epoch));
    let now = Instant::from_secs(1);
    all.set("br0", v4(1), MacAddr(1), now);
    let (e1, other) = (epoch.get(), all.of("br1"));
    assert!(e1 > 0 && mac_of(&other, v4(1)).is_none() && mac_of(&all.of("br0"), v4(1)).is_some());
    all.expire(Instant::from_secs(900));
    assert_eq!((epoch.get(), all.is_empty()), (e1, false));
    all.set_aging(Duration::from_secs(60));
    all.expire(Instant::from_secs(900));
    assert!(epoch.get() > e1 && all.is_empty());
    let held = all.of("br0");
    all.set("br0", v4(2), MacAddr(2), now);
    assert!(mac_of(&held, v4(2)).is_some(), "the same cache");
    all.forget("br0");
    assert!(mac_of(&held, v4(2)).is_none());
    for n in 0..2 * CACHES_MAX {
        all.set(&format!("none{n}"), v4(1), MacAddr(1), now);
    }
    assert!(all.dump().len() <= CACHES_MAX);
}
