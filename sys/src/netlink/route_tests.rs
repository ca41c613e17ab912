use super::tests::{ip, link, name, ready};
use super::*;
use crate::scratch::{Scratch, in_a_moment};

fn host(netlink: &mut Netlink) -> IfIndex {
    for arguments in [
        "link set lo up",
        "link add left type veth peer name right",
        // Nothing is to come later by itself, as link-local addresses do.
        "link set left addrgenmode none",
        "link set right addrgenmode none",
        "addr add 192.168.7.1/24 dev left",
        "addr add 2001:db8:7::1/64 dev left nodad",
        "link set left up",
        "link set right up",
        "route add 10.9.0.0/16 via 192.168.7.254",
        "route add default via 192.168.7.253 metric 55",
        "route add 10.10.0.0/16 via 192.168.7.252 mtu 1234 src 192.168.7.1",
        "route add unreachable 10.66.0.0/16",
        "route add 10.67.0.0/16 nexthop via 192.168.7.9 nexthop via 192.168.7.10",
        "route add 10.80.0.0/16 via 192.168.7.6 table default",
        "route add 10.81.0.0/16 via 192.168.7.6 table 100",
        "route add 10.82.0.0/16 via 192.168.7.6 tos 0x10",
        "-6 route add 2001:db8:99::/48 via 2001:db8:7::fe",
    ] {
        ip(&arguments.split(' ').collect::<Vec<_>>());
    }
    for end in ["left", "right"] {
        // Nor does the kernel's news that it has noticed the carrier.
        in_a_moment(|| (link(netlink, end).oper == OperState::Up).then_some(()).ok_or(end)).unwrap();
    }
    link(netlink, "left").index
}

/// In words of ip(8), without what it says about link-local and temporary matters.
fn line(route: &Route) -> String {
    let mut out = format!("{}/{}", route.destination, route.prefix_length);
    out += &route.gateway.map(|g| format!(" via {g}")).unwrap_or_default();
    out += &route.source.map(|s| format!(" src {s}")).unwrap_or_default();
    out += &route.mtu.map(|m| format!(" mtu {m}")).unwrap_or_default();
    out += &format!(" metric {}", route.metric);
    out
}

#[test]
fn routes_and_addresses_are_those_of_ip() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        let left = host(&mut netlink);
        let routing = netlink.routing().unwrap();
        let of = |table, kind| {
            let of = |r: &&Route| r.table == table && r.kind == kind && r.destination.to_string() != "fe80::";
            let mut lines: Vec<String> = routing.routes.iter().filter(of).map(line).collect();
            lines.retain(|l| !l.starts_with("fe80:"));
            lines
        };
        assert_eq!(
            of(RoutingTable::Main, RouteKind::Unicast),
            [
                "0.0.0.0/0 via 192.168.7.253 metric 55",
                "10.9.0.0/16 via 192.168.7.254 metric 0",
                "10.10.0.0/16 via 192.168.7.252 src 192.168.7.1 mtu 1234 metric 0",
                "10.67.0.0/16 via 192.168.7.9 metric 0",
                "192.168.7.0/24 src 192.168.7.1 metric 0",
                "2001:db8:7::/64 metric 256",
                "2001:db8:99::/48 via 2001:db8:7::fe metric 1024",
            ]
        );
        assert_eq!(of(RoutingTable::Main, RouteKind::Unreachable), ["10.66.0.0/16 metric 0"]);
        assert_eq!(of(RoutingTable::Default, RouteKind::Unicast), ["10.80.0.0/16 via 192.168.7.6 metric 0"]);
        let local = of(RoutingTable::Local, RouteKind::Local);
        for address in ["127.0.0.1/32", "192.168.7.1/32", "::1/128", "2001:db8:7::1/128"] {
            assert!(local.iter().any(|l| l.starts_with(address)), "{address} in {local:?}");
        }
        let all = |r: &Route| r.link == Some(left) || r.kind != RouteKind::Unicast || r.destination.is_ipv6();
        assert!(routing.routes.iter().all(all));
        let addresses: Vec<String> = routing
            .addresses
            .iter()
            .filter(|a| a.link == left)
            .map(|a| format!("{}/{}", a.address, a.prefix_length))
            .filter(|a| !a.starts_with("fe80:"))
            .collect();
        assert_eq!(addresses, ["192.168.7.1/24", "2001:db8:7::1/64"]);
    });
}

#[test]
fn watch_wakes_for_what_matters() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        host(&mut netlink);
        let mut watch = RouteWatch::open().unwrap();
        assert!(!watch.read().unwrap());
        let before = watch.routing().unwrap();
        ip(&["route", "add", "10.90.0.0/16", "via", "192.168.7.6", "table", "100"]);
        ip(&["route", "add", "10.91.0.0/16", "via", "192.168.7.6"]);
        assert!(ready(&watch) && watch.read().unwrap());
        let after = watch.routing().unwrap();
        assert_eq!(after.routes.len(), before.routes.len() + 1);
        ip(&["route", "del", "10.90.0.0/16", "table", "100"]);
        assert!(ready(&watch) && !watch.read().unwrap(), "a table of policy rules is none of ours");
        // Of the routes that go with the address not every one is told.
        ip(&["addr", "del", "192.168.7.1/24", "dev", "left"]);
        assert!(ready(&watch) && watch.read().unwrap());
        let unicast4 = |r: &&Route| r.kind == RouteKind::Unicast && r.destination.is_ipv4();
        assert_eq!(watch.routing().unwrap().routes.iter().filter(unicast4).count(), 0);
    });
}

#[test]
fn lost_notifications_are_a_change() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge(&name("bridge")).unwrap();
        let index = link(&mut netlink, "bridge").index;
        let mut watch = RouteWatch::open().unwrap();
        watch.socket.set_rx_buf_sz(1i32).unwrap();
        for round in 0..200u32 {
            netlink.change(index, &LinkChange::default().mtu(1000 + round)).unwrap();
        }
        assert!(watch.read().unwrap());
        assert!(!watch.read().unwrap());
        assert_eq!(watch.routing().unwrap().links.iter().find(|l| l.index == index).unwrap().mtu, 1199);
        netlink.delete(index).unwrap();
        assert!(ready(&watch) && watch.read().unwrap());
    });
}

#[test]
fn damaged_notifications_do_not_panic() {
    // A header that announces a route and has none.
    let bare = [16u8, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Parts(&bare).count(), 1);
    assert!(!Parts(&bare).any(|part| super::route_watch::matters(&part)));
}
