use super::*;
use crate::poll::{Interest, PollToken, Poller};
use crate::scratch::Scratch;
use std::time::Duration;

pub(super) fn ip(arguments: &[&str]) -> String {
    let output = std::process::Command::new("ip").args(arguments).output().expect("ip(8) is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

pub(super) fn link(netlink: &mut Netlink, text: &str) -> Link {
    netlink.link_by_name(&name(text)).unwrap().unwrap_or_else(|| panic!("no link {text}"))
}

/// Waits until there is something to read.
pub(super) fn ready(watch: &impl std::os::fd::AsFd) -> bool {
    let mut poller = Poller::new().unwrap();
    poller.add(watch, PollToken(1), Interest::Read).unwrap();
    let mut ready = Vec::new();
    poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
    !ready.is_empty()
}

#[test]
fn fresh_namespace_has_a_loopback_only() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let loopback = links.iter().find(|link| link.name == name("lo")).unwrap();
        assert_eq!(loopback.index.get(), 1);
        assert!(loopback.loopback);
        assert_eq!(loopback.admin, AdminState::Down);
        assert_eq!(loopback.mtu, 65536);
        assert_eq!(netlink.link_by_index(loopback.index).unwrap().as_ref(), Some(loopback));
        assert_eq!(netlink.link_by_name(&name("absent")).unwrap(), None);
        assert_eq!(netlink.link_by_index(IfIndex::new(9999).unwrap()).unwrap(), None);
    });
}

#[test]
fn veth_is_made_changed_and_deleted_as_ip_sees_it() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_veth(&name("left"), &name("right")).unwrap();
        let left = link(&mut netlink, "left");
        assert_eq!((left.kind.as_str(), left.admin, left.carrier), ("veth", AdminState::Down, false));
        let change = LinkChange::default()
            .admin(AdminState::Up)
            .mtu(1400)
            .mac([2, 0, 0, 0, 0, 1])
            .name(name("renamed"))
            .queue_length(77);
        netlink.change(left.index, &change).unwrap();
        let right = link(&mut netlink, "right");
        netlink.change(right.index, &LinkChange::default().admin(AdminState::Up)).unwrap();
        let shown = ip(&["-o", "link", "show", "renamed"]);
        for part in ["mtu 1400", "link/ether 02:00:00:00:00:01", "LOWER_UP", "qlen 77"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let left = netlink.link_by_index(left.index).unwrap().unwrap();
        assert_eq!(left.mac, Some([2, 0, 0, 0, 0, 1]));
        assert!(left.is_running());
        netlink.delete(left.index).unwrap();
        assert_eq!(netlink.link_by_name(&name("right")).unwrap(), None);
    });
}

#[test]
fn refusals_carry_code_and_words() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge(&name("bridge")).unwrap();
        assert_eq!(link(&mut netlink, "bridge").kind, "bridge");
        let error = netlink.create_bridge(&name("bridge")).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EEXIST));
        let bridge = link(&mut netlink, "bridge");
        let error = netlink.change(bridge.index, &LinkChange::default().mtu(20)).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(error.to_string().contains("mtu"), "{error}");
        // The socket is still of use.
        assert_eq!(link(&mut netlink, "bridge").mtu, 1500);
    });
}

#[test]
fn addresses_and_routes_as_ip_sees_them() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_veth(&name("a"), &name("b")).unwrap();
        for end in ["a", "b"] {
            let index = link(&mut netlink, end).index;
            netlink.change(index, &LinkChange::default().admin(AdminState::Up)).unwrap();
        }
        let index = link(&mut netlink, "a").index;
        for _ in 0..2 {
            netlink.add_address(index, "10.1.2.3".parse().unwrap(), 24).unwrap();
            netlink.add_address(index, "fd00::3".parse().unwrap(), 64).unwrap();
        }
        let shown = ip(&["-o", "addr", "show", "a"]);
        assert!(shown.contains("inet 10.1.2.3/24 brd 10.1.2.255"), "{shown}");
        assert!(shown.contains("inet6 fd00::3/64"), "{shown}");
        let route = |destination: &str, prefix_length, gateway: Option<&str>| RouteSpec {
            destination: destination.parse().unwrap(),
            prefix_length,
            gateway: gateway.map(|address| address.parse().unwrap()),
            link: Some(index),
        };
        for _ in 0..2 {
            netlink.add_route(&route("0.0.0.0", 0, Some("10.1.2.1"))).unwrap();
            netlink.add_route(&route("192.168.7.9", 16, None)).unwrap();
            netlink.add_route(&route("fd01::7", 48, None)).unwrap();
        }
        let shown = ip(&["route", "show"]);
        assert!(shown.contains("default via 10.1.2.1 dev a"), "{shown}");
        assert!(shown.contains("192.168.0.0/16 dev a"), "{shown}");
        assert!(ip(&["-6", "route", "show"]).contains("fd01::/48 dev a"));
    });
}

#[test]
fn socket_for_another_namespace_and_a_move_in_one_message() {
    let (here, there) = (Scratch::new(), Scratch::new());
    let mut netlink = Netlink::open_in(here.netns()).unwrap();
    let mut other = Netlink::open_in(there.netns()).unwrap();
    netlink.create_veth(&name("a"), &name("b")).unwrap();
    let index = link(&mut netlink, "a").index;
    let change = LinkChange::default()
        .netns(there.netns())
        .name(name("eth0"))
        .mtu(1300)
        .mac([2, 0, 0, 0, 0, 9])
        .admin(AdminState::Up);
    netlink.change(index, &change).unwrap();
    assert_eq!(netlink.link_by_name(&name("a")).unwrap(), None);
    let moved = link(&mut other, "eth0");
    assert_eq!((moved.mtu, moved.mac), (1300, Some([2, 0, 0, 0, 0, 9])));
    assert_eq!(moved.admin, AdminState::Up);
}

#[test]
fn links_of_another_namespace_are_listed_from_outside() {
    let (here, there) = (Scratch::new(), Scratch::new());
    let mut netlink = Netlink::open_in(here.netns()).unwrap();
    assert_eq!(netlink.links_in(there.netns()).unwrap(), [], "it has no number yet");
    netlink.create_veth(&name("a"), &name("b")).unwrap();
    let index = link(&mut netlink, "a").index;
    let change = LinkChange::default().netns(there.netns()).alias("moved");
    netlink.change(index, &change).unwrap();
    let links = netlink.links_in(there.netns()).unwrap();
    assert_eq!(links, Netlink::open_in(there.netns()).unwrap().links().unwrap());
    assert_eq!(links.iter().map(|link| link.alias.as_str()).collect::<Vec<_>>(), ["", "moved"]);
}

fn read_until(watch: &mut LinkWatch, enough: impl Fn(&[LinkEvent]) -> bool) -> Vec<LinkEvent> {
    let mut poller = Poller::new().unwrap();
    poller.add(&*watch, PollToken(1), Interest::Read).unwrap();
    let (mut ready, mut events) = (Vec::new(), Vec::new());
    while !enough(&events) {
        poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
        assert!(!ready.is_empty(), "no notification in time; so far {events:?}");
        watch.read(&mut events).unwrap();
    }
    events
}

#[test]
fn watch_tells_added_changed_removed() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge(&name("old")).unwrap();
        let old = link(&mut netlink, "old");
        let mut watch = LinkWatch::open().unwrap();
        let mut events = Vec::new();
        watch.read(&mut events).unwrap();
        assert_eq!(events, []);
        netlink.change(old.index, &LinkChange::default().mtu(1450)).unwrap();
        let events = read_until(&mut watch, |events| !events.is_empty());
        assert!(matches!(&events[0], LinkEvent::Changed(link) if link.index == old.index), "{events:?}");
        netlink.create_bridge(&name("new")).unwrap();
        let new = link(&mut netlink, "new").index;
        let events = read_until(&mut watch, |events| {
            events.iter().any(|event| matches!(event, LinkEvent::Added(link) if link.index == new))
        });
        let added = events.iter().filter(|event| matches!(event, LinkEvent::Added(_))).count();
        assert_eq!(added, 1, "{events:?}");
        netlink.delete(new).unwrap();
        let gone = LinkEvent::Removed { index: new, name: name("new") };
        read_until(&mut watch, |events| events.contains(&gone));
    });
}

#[test]
fn lost_notifications_ask_for_a_resync() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge(&name("bridge")).unwrap();
        let index = link(&mut netlink, "bridge").index;
        let mut watch = LinkWatch::open().unwrap();
        watch.socket.set_rx_buf_sz(1i32).unwrap();
        for round in 0..200u32 {
            netlink.change(index, &LinkChange::default().mtu(1000 + round)).unwrap();
        }
        let events = read_until(&mut watch, |events| events.contains(&LinkEvent::Resync));
        assert!(events.len() < 200);
        // And it goes on working.
        netlink.delete(index).unwrap();
        read_until(&mut watch, |events| {
            events
                .iter()
                .any(|event| matches!(event, LinkEvent::Removed { index: gone, .. } if *gone == index))
        });
    });
}

/// As while they change all the time.
#[test]
fn links_that_cannot_be_listed_after_a_loss_are_listed_later() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_bridge(&name("bridge")).unwrap();
        let bridge = link(&mut netlink, "bridge").index;
        let mut watch = LinkWatch::open().unwrap();
        watch.socket.set_rx_buf_sz(1i32).unwrap();
        // Its family of that number, if there is one, is not that of links: it refuses the request.
        let refusing = Socket::new(netlink_sys::protocols::NETLINK_GENERIC).unwrap();
        let good = std::mem::replace(&mut watch.netlink.socket, refusing);
        assert!(matches!(watch.netlink.links(), Err(NetlinkError::Refused { .. })));
        for round in 0..200u32 {
            netlink.change(bridge, &LinkChange::default().mtu(1000 + round)).unwrap();
        }
        netlink.create_bridge(&name("missed")).unwrap();
        let missed = link(&mut netlink, "missed").index;
        let is_missed = |event: &LinkEvent, changed: bool| match event {
            LinkEvent::Added(link) => link.index == missed && !changed,
            LinkEvent::Changed(link) => link.index == missed && changed,
            _ => false,
        };
        let mut events = read_until(&mut watch, |events| events.contains(&LinkEvent::Resync));
        watch.read(&mut events).unwrap();
        assert!(!events.iter().any(|event| is_missed(event, false)), "nothing was lost: {events:?}");
        // And it goes on working.
        netlink.delete(bridge).unwrap();
        let gone = LinkEvent::Removed { index: bridge, name: name("bridge") };
        read_until(&mut watch, |events| events.contains(&gone));
        watch.netlink.socket = good;
        netlink.change(missed, &LinkChange::default().mtu(1400)).unwrap();
        let events = read_until(&mut watch, |events| events.iter().any(|event| is_missed(event, true)));
        assert!(!events.iter().any(|event| is_missed(event, false)), "it is not new: {events:?}");
    });
}

/// A device that was moved changes where it is now; whoever moved it hears of that.
#[test]
fn changes_in_other_namespaces_are_heard() {
    let there = Scratch::new();
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_veth(&name("near"), &name("far")).unwrap();
        let far = link(&mut netlink, "far").index;
        netlink.change(far, &LinkChange::default().netns(there.netns())).unwrap();
        let mut watch = NetnsWatch::open().unwrap();
        assert!(!watch.read().unwrap(), "nothing has changed since");
        there.run(|| {
            let mut netlink = Netlink::open().unwrap();
            let far = link(&mut netlink, "far").index;
            netlink.change(far, &LinkChange::default().admin(AdminState::Up)).unwrap();
        });
        assert!(ready(&watch) && watch.read().unwrap());
    });
}

#[test]
fn damaged_answers_do_not_panic() {
    let whole = [20u8, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(Parts(&whole).count(), 1);
    assert!(finish("test", &Parts(&whole).next().unwrap()).is_err());
    for length in 0..whole.len() {
        assert_eq!(Parts(&whole[..length]).count(), 0);
    }
    let mut short = whole;
    short[0] = 3;
    assert_eq!(Parts(&short).count(), 0);
    assert_eq!(explanation(&[3, 0, 1, 0]), "");
    assert_eq!(explanation(&[0, 0, 1, 0, 9]), "");
    assert_eq!(explanation(&[7, 0, 1, 0, b'h', b'i', 0]), "hi");
}
