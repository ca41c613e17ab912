//! Two namespaces joined by a wire, a device in each.

use super::*;
use crate::netlink::Link;
use crate::poll::{Interest, PollToken, Poller};
use crate::scratch::{Scratch, in_a_moment, unique};
use crate::tap::{TapOpen, TapQueue, TapQueues};
use crate::tunnel_socket::{Carrier, IpFamily, TunnelSocket};
use crate::vnet::{TAP_HEADER_LENGTH, VnetChecksum, VnetGso, VnetHeader, VnetSegmentation};
use std::net::IpAddr;
use std::time::Duration;

const PORT: u16 = 4789;

/// One end: a device, and the TAP that it gives what it receives to.
struct End {
    scratch: Scratch,
    tap: TapQueue,
    device: VxlanDevice,
}

fn up(netlink: &mut Netlink, name: &IfName, change: LinkChange<'_>) -> Link {
    let link = netlink.link_by_name(name).unwrap().unwrap();
    netlink.change(link.index, &change.admin(AdminState::Up)).unwrap();
    link
}

fn open_tap(name: &IfName) -> (TapQueue, IfIndex) {
    let tap = TapQueue::open(name, TapQueues::Single, TapOpen::CreateNew).unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_by_name(name).unwrap().unwrap().index;
    netlink.keep_silent(index);
    up(&mut netlink, name, LinkChange::default().mtu(65_521));
    (tap, index)
}

/// Both ends, `10.1.0.1` and `fd01::1`, and `…2`.
fn ends() -> [End; 2] {
    let [a, b] = [Scratch::new(), Scratch::new()];
    let (near, far) = (unique("w"), unique("w"));
    a.run(|| {
        let mut netlink = Netlink::open().unwrap();
        netlink.create_veth(&near, &far).unwrap();
        let index = netlink.link_by_name(&far).unwrap().unwrap().index;
        netlink.change(index, &LinkChange::default().netns(b.netns())).unwrap();
    });
    [(a, near, 1), (b, far, 2)].map(|(scratch, wire, number)| {
        let name = unique("vx");
        let (tap, device) = scratch.run(|| {
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
            let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
            let mut netlink = Netlink::open().unwrap();
            let index = up(&mut netlink, &wire, LinkChange::default()).index;
            for (address, len) in [(format!("10.1.0.{number}"), 24), (format!("fd01::{number}"), 64)] {
                netlink.add_address(index, address.parse().unwrap(), len).unwrap();
            }
            let (tap, outlet) = open_tap(&unique("tp"));
            (tap, VxlanDevice::create(&name, PORT, outlet).unwrap())
        });
        End { scratch, tap, device }
    })
}

fn key(remote: &str, local: &str) -> TunnelKey {
    let (remote, local) = (remote.parse().unwrap(), local.parse().unwrap());
    TunnelKey { remote, local, vni: 77, tos: 0x28, ttl: 9, df: true, is_checked: false }
}

fn is_known(address: IpAddr) -> bool {
    !address.is_unspecified()
}

/// A frame of TCP over IPv4 behind a header for a packet socket; the payload counts.
fn tcp(payload: usize, gso: Option<VnetGso>, tag: &[u8]) -> Vec<u8> {
    let start = (14 + tag.len() + 20) as u16;
    let checksum = VnetChecksum::Partial { start, offset: 16 };
    let gso = gso.map(|gso| VnetGso { header_length: start + 20, ..gso });
    let mut bytes = VnetHeader { checksum, gso }.encode_short().to_vec();
    bytes.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    bytes.extend(tag);
    bytes.extend([8, 0]);
    let [l0, l1] = ((40 + payload) as u16).to_be_bytes();
    bytes.extend([0x45, 0, l0, l1, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend([0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend((0..payload).map(|n| n as u8));
    bytes
}

/// Whether the TAP has something before some time is over.
fn has_some(tap: &TapQueue, time: Duration) -> bool {
    let mut poller = Poller::new().unwrap();
    poller.add(tap, PollToken(1), Interest::Read).unwrap();
    let mut events = Vec::new();
    poller.wait(Some(time), &mut events).unwrap();
    !events.is_empty()
}

/// What the TAP has next: the header, and what is behind it.
fn receive(tap: &TapQueue) -> (VnetHeader, Vec<u8>) {
    assert!(has_some(tap, Duration::from_secs(5)), "nothing came");
    let mut buffer = vec![0; 70_000];
    let length = tap.recv(&mut buffer).unwrap();
    let bytes = buffer[TAP_HEADER_LENGTH..length].to_vec();
    (VnetHeader::decode(&buffer, bytes.len()).unwrap(), bytes)
}

#[test]
fn frames_cross_with_their_keys_super_frames_whole() {
    let [a, b] = ends();
    let mut sender = a.device.new_sender().unwrap();
    let gso = VnetGso { segmentation: VnetSegmentation::Tcp4, ecn: false, size: 1_000, header_length: 0 };
    for (remote, local) in
        [("10.1.0.2", "0.0.0.0"), ("10.1.0.2", "10.1.0.1"), ("fd01::2", "::"), ("fd01::2", "fd01::1")]
    {
        let key = key(remote, local);
        // IPv6 takes its time until an address may be used.
        let first = tcp(10, None, &[]);
        let came = (0..100).any(|_| {
            sender.send([(&key, &first[..])]).unwrap();
            has_some(&b.tap, Duration::from_millis(100))
        });
        assert!(came, "{key:?}");
        while has_some(&b.tap, Duration::from_millis(100)) {
            receive(&b.tap);
        }
        for (payload, gso) in [(100, None), (60_000, Some(gso))] {
            for tag in [&[][..], &[0x81, 0, 0x20, 5]] {
                let frame = tcp(payload, gso, tag);
                assert_eq!(sender.send([(&key, &frame[..])]).unwrap(), 1);
                let (header, bytes) = receive(&b.tap);
                let arrival = Arrival::read(&bytes).unwrap_or_else(|| panic!("{bytes:02x?}"));
                assert!(is_known(arrival.key.remote) && arrival.key.local == key.remote, "{arrival:?}");
                assert_eq!((arrival.key.vni, arrival.key.tos, arrival.key.ttl), (77, 0x28, 9));
                assert_eq!(arrival.tag.as_ref().map_or(&[][..], |tag| &tag[..]), tag);
                // Its length, and what is still to be done to it: as it was sent, but for what stands before it.
                assert_eq!(bytes.len() - PREFIX_LEN, frame.len() - 10);
                let got = &bytes[arrival.prefix_len()..];
                assert_eq!(got[..12], frame[10..22]);
                assert_eq!(got[12..14], [8, 0]);
                assert_eq!(got[got.len() - payload..], frame[frame.len() - payload..]);
                let start = (PREFIX_LEN + 34 + tag.len()) as u16;
                assert_eq!(header.checksum, VnetChecksum::Partial { start, offset: 16 });
                assert_eq!(header.gso.map(|gso| gso.size), gso.map(|gso| gso.size));
            }
        }
    }
}

#[test]
fn what_has_no_mark_of_ours_is_not_sent() {
    let [a, b] = ends();
    let frame = tcp(50, None, &[]);
    let socket = a.scratch.run(|| PacketSocket::sender(a.device.index)).unwrap();
    // The device's program drops it, which the kernel tells, or not, by an error.
    let _ = socket.send_many([&frame[..]]);
    let _ = socket.send_marked([(1_000_000, &frame[..])]);
    let mut sender = a.device.new_sender().unwrap();
    sender.send([(&TunnelKey { vni: 5, ..key("10.1.0.2", "0.0.0.0") }, &frame[..])]).unwrap();
    let (_, bytes) = receive(&b.tap);
    let arrival = Arrival::read(&bytes).unwrap_or_else(|| panic!("{bytes:02x?}"));
    assert_eq!(arrival.key.vni, 5);
    assert!(b.tap.recv(&mut [0; 100]).is_err(), "nothing else");
}

/// RFC 3168: the mark of congestion stays inside, and the outer packet says only that it may be marked.
#[test]
fn kernel_makes_the_congestion_mark() {
    let [a, b] = ends();
    let mut sender = a.device.new_sender().unwrap();
    // Marks are the two lowest bits: what is inside, and so outside.
    for (inside, outside) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
        let mut frame = tcp(50, None, &[]);
        frame[10 + 15] = inside;
        let key = TunnelKey { tos: 0x28 | 3, ..key("10.1.0.2", "0.0.0.0") };
        sender.send([(&key, &frame[..])]).unwrap();
        let (_, bytes) = receive(&b.tap);
        let arrival = Arrival::read(&bytes).unwrap();
        assert_eq!(arrival.key.tos, 0x28 | outside, "{inside}");
        assert_eq!(bytes[PREFIX_LEN + 15], inside);
    }
}

#[test]
fn device_goes_when_dropped_and_with_the_tap() {
    let scratch = Scratch::new();
    scratch.run(|| {
        let exists = |name: &IfName| Netlink::open().unwrap().link_by_name(name).unwrap().is_some();
        let name = unique("vx");
        let (tap, outlet) = open_tap(&unique("tp"));
        let mut device = VxlanDevice::create(&name, PORT, outlet).unwrap();
        assert_eq!(device.link().unwrap().unwrap().alias, ALIAS);
        let again = VxlanDevice::create(&name, PORT, outlet).unwrap_err();
        assert!(again.is_in_use(), "{again}");
        assert!(device.link().unwrap().is_some(), "the first is not touched");
        drop(device);
        assert!(!exists(&name));
        let mut device = VxlanDevice::create(&name, PORT, outlet).unwrap();
        drop(tap);
        in_a_moment(|| (!exists(&name)).then_some(()).ok_or("still there")).unwrap();
        assert!(device.link().unwrap().is_none());
    });
}

#[test]
fn segments_are_joined_to_what_a_tunnel_packet_can_hold() {
    let scratch = Scratch::new();
    scratch.run(|| {
        let name = unique("vx");
        let (_tap, outlet) = open_tap(&unique("tp"));
        let _device = VxlanDevice::create(&name, PORT, outlet).unwrap();
        let show = ["-d", "link", "show", name.as_str()];
        let shown = std::process::Command::new("ip").args(show).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains(&format!(" gro_max_size {} ", JOINED_MAX + 1)), "{shown}");
    });
}

#[test]
fn port_that_a_socket_has_is_refused_and_nothing_is_left() {
    let scratch = Scratch::new();
    scratch.run(|| {
        let _socket = TunnelSocket::receiver(Carrier::Udp, IpFamily::V4, PORT).unwrap();
        let name = unique("vx");
        let (_tap, outlet) = open_tap(&unique("tp"));
        let error = VxlanDevice::create(&name, PORT, outlet).unwrap_err();
        assert!(error.is_in_use(), "{error}");
        assert_eq!(Netlink::open().unwrap().link_by_name(&name).unwrap(), None);
    });
}
