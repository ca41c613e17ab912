use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix::new(ip(address), len.parse().unwrap()).unwrap()
}

fn route(network: &str) -> KernelRoute {
    let (address, len) = network.split_once('/').unwrap();
    KernelRoute {
        destination: ip(address),
        prefix_len: len.parse().unwrap(),
        table: KernelTable::Main,
        kind: KernelRouteKind::Unicast,
        link: Some(2),
        gateway: None,
        source: None,
        metric: 0,
        mtu: None,
    }
}

fn local(address: &str, link: u32) -> KernelRoute {
    let len = if address.contains(':') { 128 } else { 32 };
    KernelRoute {
        table: KernelTable::Local,
        kind: KernelRouteKind::Local,
        link: Some(link),
        ..route(&format!("{address}/{len}"))
    }
}

fn via(network: &str, gateway: &str) -> KernelRoute {
    KernelRoute { gateway: Some(ip(gateway)), ..route(network) }
}

fn address(link: u32, text: &str) -> KernelAddress {
    let (address, len) = text.split_once('/').unwrap();
    KernelAddress { link, address: ip(address), prefix_len: len.parse().unwrap() }
}

/// A host with `lo`, `eth0` (two networks and IPv6) and `br0`.
fn host(routes: &[KernelRoute]) -> KernelState {
    let link = |index, name: &str, mtu| KernelLink { index, name: name.to_owned(), mtu };
    KernelState {
        links: vec![link(1, "lo", 65_536), link(2, "eth0", 1_500), link(3, "br0", 1_450)],
        addresses: vec![
            address(1, "127.0.0.1/8"),
            address(2, "192.168.7.1/24"),
            address(2, "192.168.8.1/24"),
            address(2, "fe80::5/64"),
            address(2, "2001:db8:7::1/64"),
            address(3, "172.16.5.1/24"),
        ],
        routes: routes.to_vec(),
    }
}

fn table(routes: &[KernelRoute]) -> RouteTable {
    let mut table = RouteTable::new();
    table.set_kernel(&host(routes));
    table
}

fn to(table: &RouteTable, dst: &str) -> Option<(String, Option<IpAddr>, IpAddr)> {
    table.lookup(ip(dst)).map(|r| (r.device.to_string(), r.gateway, r.source))
}

fn way(device: &str, gateway: &str, source: &str) -> Option<(String, Option<IpAddr>, IpAddr)> {
    Some((device.to_owned(), (!gateway.is_empty()).then(|| ip(gateway)), ip(source)))
}

#[test]
fn longest_prefix_then_metric() {
    let table = table(&[
        KernelRoute { metric: 20, ..via("10.72.0.0/16", "192.168.7.6") },
        KernelRoute { metric: 10, ..via("10.72.0.0/16", "192.168.7.5") },
        KernelRoute { metric: 30, ..via("10.72.0.0/16", "192.168.7.7") },
        via("0.0.0.0/0", "192.168.7.253"),
        via("10.72.3.0/24", "192.168.8.9"),
        route("192.168.7.0/24"),
    ]);
    assert_eq!(to(&table, "10.72.1.1"), way("eth0", "192.168.7.5", "192.168.7.1"));
    assert_eq!(to(&table, "10.72.3.1"), way("eth0", "192.168.8.9", "192.168.8.1"));
    assert_eq!(to(&table, "192.168.7.77"), way("eth0", "", "192.168.7.1"));
    assert_eq!(to(&table, "8.8.8.8"), way("eth0", "192.168.7.253", "192.168.7.1"));
    assert_eq!(to(&table, "2001:db8::1"), None, "an IPv4 default route is no way for IPv6");
    assert_eq!(table.lookup_marked(ip("8.8.8.8"), 5), None);
}

#[test]
fn local_goes_before_main_goes_before_default() {
    let table = table(&[
        via("0.0.0.0/0", "192.168.7.253"),
        KernelRoute { table: KernelTable::Default, ..via("10.80.0.0/16", "192.168.7.6") },
        KernelRoute {
            table: KernelTable::Local,
            kind: KernelRouteKind::Local,
            link: Some(1),
            ..route("127.0.0.0/8")
        },
        via("127.0.0.0/30", "192.168.7.6"),
        local("192.168.7.1", 2),
    ]);
    assert_eq!(to(&table, "10.80.1.1"), way("eth0", "192.168.7.253", "192.168.7.1"));
    assert_eq!(to(&table, "127.0.0.1"), way("lo", "", "127.0.0.1"));
    assert_eq!(to(&table, "192.168.7.1"), way("eth0", "", "192.168.7.1"));
    assert!(table.lookup(ip("192.168.7.1")).unwrap().local);
    let table =
        self::table(&[KernelRoute { table: KernelTable::Default, ..via("10.80.0.0/16", "192.168.7.6") }]);
    assert_eq!(to(&table, "10.80.1.1"), way("eth0", "192.168.7.6", "192.168.7.1"));
}

#[test]
fn unreachable_is_no_way_and_hides_shorter_prefixes() {
    let table = table(&[
        via("10.0.0.0/8", "192.168.7.6"),
        KernelRoute { kind: KernelRouteKind::Unreachable, link: None, ..route("10.66.0.0/16") },
        KernelRoute { link: Some(99), ..route("10.67.0.0/16") },
    ]);
    assert_eq!(to(&table, "10.66.1.1"), None);
    assert!(to(&table, "10.67.1.1").is_some(), "a route by a device that is gone is none");
    assert_eq!(table.show(), "Route Table:\nCached: 10.0.0.0/8 dev eth0 GW 192.168.7.6 SRC 192.168.7.1\n");
}

#[test]
fn source_is_preferred_then_near_then_of_the_device() {
    let table = table(&[
        KernelRoute { source: Some(ip("192.168.8.1")), ..via("10.1.0.0/16", "192.168.7.6") },
        route("10.2.0.0/16"),
        via("::/0", "fe80::1"),
        route("fe80::/64"),
        via("2001:db8:99::/48", "2001:db8:7::fe"),
        KernelRoute { link: Some(3), ..route("2001:db8:3::/48") },
    ]);
    assert_eq!(to(&table, "10.1.1.1"), way("eth0", "192.168.7.6", "192.168.8.1"));
    assert_eq!(to(&table, "10.2.1.1"), way("eth0", "", "192.168.7.1"));
    assert_eq!(to(&table, "2001:db8:99::5"), way("eth0", "2001:db8:7::fe", "2001:db8:7::1"));
    // A link-local source would not come back from beyond the router.
    assert_eq!(to(&table, "2001:db8:50::5"), way("eth0", "fe80::1", "2001:db8:7::1"));
    assert_eq!(to(&table, "fe80::9"), way("eth0", "", "fe80::5"));
    // The device has no address of the family: another device's.
    assert_eq!(to(&table, "2001:db8:3::5"), way("br0", "", "2001:db8:7::1"));
}

#[test]
fn mtu_is_of_the_route_or_the_device() {
    let mut table = table(&[
        KernelRoute { mtu: Some(1_234), ..via("10.1.0.0/16", "192.168.7.6") },
        via("10.2.0.0/16", "192.168.7.6"),
    ]);
    table.add(prefix("10.3.0.0/16"), 0, "br0", Some(ip("172.16.5.9"))).unwrap();
    let mtu = |t: &RouteTable, dst| t.lookup(ip(dst)).unwrap().mtu;
    assert_eq!((mtu(&table, "10.1.0.1"), mtu(&table, "10.2.0.1")), (Some(1_234), Some(1_500)));
    assert_eq!(mtu(&table, "10.3.0.1"), Some(1_450));
    let mut grown = host(&[]);
    grown.links[2].mtu = 9_000;
    table.set_kernel(&grown);
    assert_eq!((mtu(&table, "10.3.0.1"), table.lookup(ip("10.1.0.1"))), (Some(9_000), None));
}

#[test]
fn path_mtus_bound_those_of_routes_for_ten_minutes() {
    let mut table = table(&[via("0.0.0.0/0", "192.168.7.6"), via("::/0", "2001:db8:7::6")]);
    let at = Instant::from_secs;
    let mtu = |t: &RouteTable, dst| t.mtu_to(ip(dst), t.lookup(ip(dst)).unwrap());
    table.note_path_mtu(ip("10.1.0.1"), 1_400, at(0));
    table.note_path_mtu(ip("10.1.0.2"), 9_000, at(0));
    table.note_path_mtu(ip("10.1.0.3"), 60, at(0));
    table.note_path_mtu(ip("2001:db8::1"), 60, at(100));
    let all = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "2001:db8::1"];
    let mtus = |t: &RouteTable| all.map(|dst| mtu(t, dst).unwrap());
    assert_eq!(mtus(&table), [1_400, 1_500, 552, 1_500, 1_280]);
    let kernel = host(&[via("0.0.0.0/0", "192.168.7.6"), via("::/0", "2001:db8:7::6")]);
    table.set_kernel(&kernel);
    assert_eq!((mtus(&table), table.next_expiry()), ([1_400, 1_500, 552, 1_500, 1_280], Some(at(600))));
    table.expire_paths(at(600));
    assert_eq!((mtus(&table), table.next_expiry()), ([1_500, 1_500, 1_500, 1_500, 1_280], Some(at(700))));
    for n in 0..2 * PATHS_MAX as u32 {
        table.note_path_mtu(std::net::Ipv4Addr::from_bits(n).into(), 1_300, at(0));
    }
    assert_eq!(table.paths.len(), PATHS_MAX);
}

/// What Debian's Open vSwitch 3.1 answered on a host with these addresses and routes.
#[test]
fn user_routes_are_taken_refused_and_preferred_as_by_ovs() {
    let mut table = table(&[via("20.0.1.128/25", "192.168.7.6"), via("20.0.1.200/32", "192.168.7.6")]);
    table.add(prefix("20.0.1.1/24"), 0, "br0", Some(ip("172.16.5.9"))).unwrap();
    assert_eq!(to(&table, "20.0.1.200"), way("br0", "172.16.5.9", "172.16.5.1"));
    assert_eq!(to(&table, "20.0.1.129"), way("br0", "172.16.5.9", "172.16.5.1"));
    for (network, device, gateway) in [
        ("20.0.0.0/24", "br0", None),
        ("20.0.3.0/24", "nobr", None),
        ("2001:db8:5::/48", "br0", Some("2001:db8:7::9")),
    ] {
        let refused = table.add(prefix(network), 0, device, gateway.map(ip));
        assert_eq!(refused, Err(RouteError::NoSource), "{network}");
    }
    table.add(prefix("192.168.7.0/25"), 0, "eth0", None).unwrap();
    table.add(prefix("2001:db8:7:1::/64"), 77, "eth0", Some(ip("2001:db8:7::9"))).unwrap();
    assert_eq!(to(&table, "2001:db8:7:1::1"), None);
    assert!(table.lookup_marked(ip("2001:db8:7:1::1"), 77).is_some());
    let shown = table.show();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "Route Table:",
            "User: 192.168.7.0/25 dev eth0 SRC 192.168.7.1",
            "Cached: 20.0.1.128/25 dev eth0 GW 192.168.7.6 SRC 192.168.7.1",
            "User: 20.0.1.0/24 dev br0 GW 172.16.5.9 SRC 172.16.5.1",
            "Cached: 20.0.1.200/32 dev eth0 GW 192.168.7.6 SRC 192.168.7.1",
            "User: 2001:db8:7:1::/64 MARK 77 dev eth0 GW 2001:db8:7::9 SRC 2001:db8:7::1",
        ]
    );
    assert_eq!(table.remove(prefix("20.0.1.128/25"), 0), Err(RouteError::NotFound));
    assert_eq!(table.remove(prefix("2001:db8:7:1::/64"), 0), Err(RouteError::NotFound));
    table.remove(prefix("20.0.1.77/24"), 0).unwrap();
    assert_eq!(to(&table, "20.0.1.129"), way("eth0", "192.168.7.6", "192.168.7.1"));
}

#[test]
fn user_routes_are_bounded_and_survive_the_kernels() {
    let mut table = table(&[]);
    for n in 0..USER_ROUTES_MAX as u32 {
        let network = Prefix::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 32).unwrap();
        table.add(network, 0, "br0", Some(ip("172.16.5.9"))).unwrap();
    }
    let one_more = table.add(prefix("11.0.0.0/8"), 0, "br0", Some(ip("172.16.5.9")));
    assert_eq!(one_more, Err(RouteError::Full));
    table.set_kernel(&host(&[route("192.168.7.0/24")]));
    assert!(to(&table, "10.0.0.7").is_some() && to(&table, "192.168.7.7").is_some());
}

fn bits(address: IpAddr) -> Vec<bool> {
    let octets = match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    octets.iter().flat_map(|o| (0..8).rev().map(move |b| o >> b & 1 == 1)).collect()
}

/// The slow way: of all routes whose leading bits agree, local before main, then the longest, then the lowest metric.
fn expected(routes: &[KernelRoute], dst: IpAddr) -> Option<&KernelRoute> {
    let dst_bits = bits(dst);
    let agrees = |r: &&KernelRoute| {
        let of = bits(r.destination);
        of.len() == dst_bits.len() && of.iter().zip(&dst_bits).take(r.prefix_len.into()).all(|(a, b)| a == b)
    };
    let rank = |r: &&KernelRoute| {
        let table = match r.table {
            KernelTable::Local => 0,
            KernelTable::Main => 1,
            KernelTable::Default => 2,
        };
        (table, u8::MAX - r.prefix_len, r.metric)
    };
    routes.iter().filter(agrees).min_by_key(rank)
}

/// Addresses from few bits, so that prefixes meet.
fn arbitrary_address() -> impl Strategy<Value = IpAddr> {
    let v4 = (0u32..4, 0u32..4).prop_map(|(a, b)| IpAddr::V4(std::net::Ipv4Addr::from_bits(a << 30 | b)));
    let v6 = (0u128..4, 0u128..4).prop_map(|(a, b)| IpAddr::V6(Ipv6Addr::from_bits(a << 126 | b)));
    prop_oneof![v4, v6]
}

fn arbitrary_route() -> impl Strategy<Value = KernelRoute> {
    let tables = prop_oneof![Just(KernelTable::Local), Just(KernelTable::Main), Just(KernelTable::Default)];
    let kinds = prop_oneof![4 => Just(KernelRouteKind::Unicast), 1 => Just(KernelRouteKind::Unreachable)];
    let lengths = prop_oneof![0u8..=2, 30u8..=32, 126u8..=128];
    (arbitrary_address(), lengths, tables, kinds).prop_map(|(destination, len, table, kind)| KernelRoute {
        destination,
        prefix_len: if destination.is_ipv4() { len.min(32) } else { len },
        table,
        kind,
        source: Some(destination),
        ..route("0.0.0.0/0")
    })
}

proptest! {
    #[test]
    fn answers_as_a_search_through_the_list(
        routes in proptest::collection::vec(arbitrary_route(), 0..24),
        destinations in proptest::collection::vec(arbitrary_address(), 1..16),
    ) {
        // The metric is the place in the list, so that there is one right answer.
        let numbered = routes.into_iter().zip(0..).map(|(r, n)| KernelRoute { metric: n, mtu: Some(n), ..r });
        let routes: Vec<KernelRoute> = numbered.collect();
        let table = table(&routes);
        for dst in destinations {
            let wanted = expected(&routes, dst).filter(|r| r.kind != KernelRouteKind::Unreachable);
            prop_assert_eq!(table.lookup(dst).map(|r| r.mtu), wanted.map(|r| r.mtu), "{}", dst);
        }
    }
}
