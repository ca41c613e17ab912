//! Oracle: what `ovs-appctl` of Debian's Open vSwitch 3.1 answered to the same arguments.

use super::super::route::{KernelAddress, KernelLink, KernelState};
use super::*;
use crate::forwarding::Epoch;
use std::sync::Arc;

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn routes() -> RouteTable {
    let mut routes = RouteTable::new();
    let address =
        |text: &str, prefix_len| KernelAddress { link: 2, address: text.parse().unwrap(), prefix_len };
    routes.set_kernel(&KernelState {
        links: vec![KernelLink { index: 2, name: "veA".to_owned(), mtu: 1_500 }],
        addresses: vec![address("192.168.7.1", 24), address("2001:db8:7::1", 64)],
        routes: Vec::new(),
    });
    routes
}

#[test]
fn route_commands_answer_as_ovs() {
    let mut routes = routes();
    for (args, answer) in [
        ("zz veA", Err("Invalid parameters")),
        ("20.0.3.0/24 veA zz", Err("Invalid pkt_mark or gateway")),
        ("20.0.3.0/24 veA 192.168.7.9 zz", Err("Invalid pkt_mark")),
        ("20.0.3.0/24 veA 192.168.7.9 pkt_mark=zz", Err("Invalid pkt_mark")),
        ("20.0.3.0/24 veA pkt_mark=1 192.168.7.4", Err("Invalid pkt_mark")),
        ("20.0.3.0/24 veA zz pkt_mark=1", Err("Invalid pkt_mark or gateway")),
        ("20.0.3.0/24 veA 2001:db8:7::9", Err("Invalid pkt_mark or gateway")),
        ("192.168.7.0/33 veA", Err("Invalid parameters")),
        ("192.168.7.0/255.255.0.255 veA 192.168.7.3", Err("Invalid parameters")),
        ("20.0.4.4 veA", Err("Error while inserting route.")),
        ("192.168.7.5 veA", Ok("OK")),
        ("192.168.7.0/255.255.255.0 veA 192.168.7.3", Ok("OK")),
        ("0.0.0.0/0 veA 192.168.7.4", Ok("OK")),
        ("2001:db8:7::9 veA pkt_mark=0x10", Ok("OK")),
        ("20.0.2.0/24 veA 192.168.7.9 pkt_mark=77", Ok("OK")),
    ] {
        let expected = answer.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(route_add(&mut routes, &words(args)), expected, "add {args}");
    }
    let shown = route_show(&routes);
    for line in [
        "User: 192.168.7.5/32 dev veA SRC 192.168.7.1",
        "User: 2001:db8:7::9/128 MARK 16 dev veA SRC 2001:db8:7::1",
        "User: 192.168.7.0/24 dev veA GW 192.168.7.3 SRC 192.168.7.1",
        "User: 0.0.0.0/0 dev veA GW 192.168.7.4 SRC 192.168.7.1",
        "User: 20.0.2.0/24 MARK 77 dev veA GW 192.168.7.9 SRC 192.168.7.1",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line} in {shown}");
    }
    for (args, answer) in [
        ("2001:db8:7::9 pkt_mark=16", Ok("src 2001:db8:7::1\ngateway ::\ndev veA\n")),
        ("8.8.8.8", Ok("src 192.168.7.1\ngateway 192.168.7.4\ndev veA\n")),
        ("8.8.8.8 pkt_mark=5", Err("Not found")),
        ("8.8.8.8 foo", Err("Invalid pkt_mark")),
        ("8.8.8.8/24", Err("Invalid parameters")),
        ("xx", Err("Invalid parameters")),
    ] {
        let expected = answer.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(route_lookup(&routes, &words(args)), expected, "lookup {args}");
    }
    for (args, answer) in [
        ("20.0.2.0/24", Err("Not found")),
        ("20.0.2.0/24 zz", Err("Invalid pkt_mark")),
        ("20.0.2.0/24 pkt_mark=77", Ok("OK")),
        ("zz", Err("Invalid parameters")),
        ("192.168.7.9/24", Ok("OK")),
        ("192.168.7.9/24", Err("Not found")),
    ] {
        let expected = answer.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(route_del(&mut routes, &words(args)), expected, "del {args}");
    }
}

#[test]
fn neighbour_commands_answer_as_ovs() {
    let neighbours = Neighbours::new(Arc::new(Epoch::default()));
    let set = |args: &str| neigh_set(&neighbours, &words(args), Instant::ZERO);
    assert_eq!(set("br0 zz aa:bb:cc:00:00:03"), Err("bad IP address".to_owned()));
    assert_eq!(set("br0 1.2.3.4 zz"), Err("bad MAC address".to_owned()));
    for args in [
        "br0 1.2.3.4 aa:bb:cc:00:00:01",
        "br0 2001:0db8:1111:2222:3333:4444:5555:6666 aa:bb:cc:00:00:03",
        "brx 1.2.3.5 aa:bb:cc:00:00:03",
    ] {
        assert_eq!(set(args), Ok("OK".to_owned()), "{args}");
    }
    let expected = "\
IP                                            MAC                 Bridge
==========================================================================
1.2.3.4                                       aa:bb:cc:00:00:01   br0
2001:db8:1111:2222:3333:4444:5555:6666        aa:bb:cc:00:00:03   br0
1.2.3.5                                       aa:bb:cc:00:00:03   brx
";
    assert_eq!(neigh_show(&neighbours), expected);
    let aging = |args: &str| neigh_aging(&neighbours, &words(args));
    assert_eq!(aging(""), Ok("900".to_owned()));
    for bad in ["0", "3601", "zz", "-5"] {
        assert_eq!(aging(bad), Err("bad aging value".to_owned()), "{bad}");
    }
    assert_eq!((aging("60"), aging("")), (Ok("OK".to_owned()), Ok("60".to_owned())));
    assert_eq!(neigh_flush(&neighbours), "OK");
    assert_eq!(neigh_show(&neighbours).lines().count(), 2);
}
