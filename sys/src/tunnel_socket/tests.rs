use super::*;
use crate::poll::{Interest, PollToken, Poller};
use crate::scratch::{Scratch, in_a_moment};
use std::time::Duration;

const PORT: u16 = 4789;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn shell(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// In a namespace whose loopback takes packets of 1500 bytes and has a second address.
fn on_loopback(work: impl FnOnce() + Send) {
    Scratch::new().run(|| {
        for arguments in [
            "link set lo up mtu 1500",
            "addr add 192.0.2.1/32 dev lo",
            "addr add 2001:db8::1/128 dev lo nodad",
        ] {
            shell(arguments);
        }
        work();
    });
}

fn datagram<'a>(destination: IpAddr, payload: &'a [IoSlice<'a>]) -> Datagram<'a> {
    let source = IpFamily::of(destination).unspecified();
    Datagram { destination, port: PORT, source, tos: 0, ttl: 0, segment_size: None, payload }
}

/// Everything that comes until `enough` bytes have, each with what is known of it.
fn receive(socket: &TunnelSocket, enough: usize) -> Vec<(Received, Vec<u8>)> {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, PollToken(1), Interest::Read).unwrap();
    let mut all: Vec<(Received, Vec<u8>)> = Vec::new();
    let mut ready = Vec::new();
    while all.iter().map(|(r, _)| r.length).sum::<usize>() < enough {
        poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
        assert!(!ready.is_empty(), "nothing came; so far {all:?}");
        let mut space = vec![vec![0u8; 70_000]; RECEIVE_MAX];
        let mut buffers: Vec<_> = space.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let mut received = [Received::EMPTY; RECEIVE_MAX];
        let count = socket.recv(&mut buffers, &mut received).unwrap();
        all.extend(received.into_iter().zip(space).take(count).map(|(r, b)| (r, b[..r.length].to_vec())));
    }
    all
}

/// Who has taken a port keeps it, and the next is taken.
#[test]
fn sources_are_dynamic_ports_that_are_free() {
    on_loopback(|| {
        let taken = std::net::UdpSocket::bind(("0.0.0.0", *SOURCE_PORTS.end())).unwrap();
        let open = |family| TunnelSocket::sender(Carrier::Udp, family).unwrap();
        let senders = [open(IpFamily::V4), open(IpFamily::V4), open(IpFamily::V6)];
        let ports = senders.each_ref().map(|sender| sender.port().unwrap());
        assert_eq!(ports, [65_534, 65_533, 65_535]);
        drop(taken);
        let again = || match open(IpFamily::V4).port().unwrap() {
            65_535 => Ok(()),
            other => Err(other),
        };
        in_a_moment(again).unwrap();
    });
}

#[test]
fn datagrams_arrive_with_their_outer_headers() {
    on_loopback(|| {
        for (here, there) in [("192.0.2.1", "127.0.0.1"), ("2001:db8::1", "::1")] {
            let (here, there) = (ip(here), ip(there));
            let receiver = TunnelSocket::receiver(Carrier::Udp, IpFamily::of(here), PORT).unwrap();
            let sender = TunnelSocket::sender(Carrier::Udp, IpFamily::of(here)).unwrap();
            let port = sender.port().unwrap();
            assert!(port != 0 && receiver.port().unwrap() == PORT);
            let pieces = [IoSlice::new(b"one "), IoSlice::new(b"two")];
            let wanted = Datagram { source: here, tos: 0xb9, ttl: 17, ..datagram(there, &pieces) };
            assert_eq!(sender.send(&[wanted, Datagram { tos: 2, ..wanted }]).unwrap(), 2);
            let all = receive(&receiver, 14);
            assert_eq!(all.len(), 2);
            let expected = Received {
                length: 7,
                truncated: false,
                source: here,
                source_port: port,
                destination: there,
                tos: 0xb9,
                ttl: 17,
                segment_size: None,
            };
            assert_eq!(all[0], (expected, b"one two".to_vec()));
            assert_eq!(all[1].0.tos, 2);
        }
    });
}

#[test]
fn equal_datagrams_travel_as_one() {
    on_loopback(|| {
        for there in ["127.0.0.1", "::1"] {
            let there = ip(there);
            let receiver = TunnelSocket::receiver(Carrier::Udp, IpFamily::of(there), PORT).unwrap();
            let sender = TunnelSocket::sender(Carrier::Udp, IpFamily::of(there)).unwrap();
            let bytes: Vec<u8> = (0..9_500u32).map(|i| (i / 7) as u8).collect();
            let pieces: Vec<IoSlice<'_>> = bytes.chunks(1_000).map(IoSlice::new).collect();
            let joined = Datagram { segment_size: Some(1_000), ttl: 9, ..datagram(there, &pieces) };
            assert_eq!(sender.send(&[joined]).unwrap(), 1);
            let all = receive(&receiver, bytes.len());
            let together: Vec<u8> = all.iter().flat_map(|(_, b)| b.clone()).collect();
            assert_eq!(together, bytes);
            for (received, bytes) in &all {
                assert!(received.segment_size == Some(1_000) || bytes.len() <= 1_000, "{received:?}");
                assert_eq!((received.ttl, received.truncated), (9, false));
            }
            assert!(all.len() < 10, "the kernel joined nothing");
        }
    });
}

#[test]
fn too_long_is_refused_with_the_mtu_or_cut() {
    on_loopback(|| {
        for (there, room) in [("127.0.0.1", 1_472), ("::1", 1_452)] {
            let there = ip(there);
            let receiver = TunnelSocket::receiver(Carrier::Udp, IpFamily::of(there), PORT).unwrap();
            let sender = TunnelSocket::sender(Carrier::Udp, IpFamily::of(there)).unwrap();
            let bytes = [7; 3_000];
            let (fits, long) = ([IoSlice::new(&bytes[..room])], [IoSlice::new(&bytes[..room + 1])]);
            let both = [datagram(there, &fits), datagram(there, &long)];
            assert_eq!(sender.send(&both).unwrap(), 1);
            let error = sender.send(&both[1..]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            // The first attempt, in which the other datagram went, has left a report too.
            let expected = Report { destination: there, errno: libc::EMSGSIZE, mtu: Some(1_500) };
            assert_eq!(sender.take_report().unwrap(), Some(expected));
            while sender.take_report().unwrap().is_some() {}
            sender.set_fragmentation(Fragmentation::Allowed).unwrap();
            assert_eq!(sender.send(&both[1..]).unwrap(), 1);
            assert_eq!(receive(&receiver, 2 * room + 1).len(), 2);
        }
    });
}

#[test]
fn what_icmp_says_is_a_report_and_the_next_datagram_goes() {
    on_loopback(|| {
        let sender = TunnelSocket::sender(Carrier::Udp, IpFamily::V4).unwrap();
        let there = ip("127.0.0.1");
        let pieces = [IoSlice::new(b"nobody listens")];
        assert_eq!(sender.send(&[datagram(there, &pieces)]).unwrap(), 1);
        let error = sender.send(&[datagram(there, &pieces)]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        let report = sender.take_report().unwrap().unwrap();
        assert_eq!(report, Report { destination: there, errno: libc::ECONNREFUSED, mtu: None });
        let receiver = TunnelSocket::receiver(Carrier::Udp, IpFamily::V4, PORT).unwrap();
        assert_eq!(sender.send(&[datagram(there, &pieces)]).unwrap(), 1);
        assert_eq!(receive(&receiver, 1).len(), 1);
    });
}

#[test]
fn senders_receive_nothing() {
    on_loopback(|| {
        let sender = TunnelSocket::sender(Carrier::Udp, IpFamily::V4).unwrap();
        let other = TunnelSocket::sender(Carrier::Udp, IpFamily::V4).unwrap();
        let pieces = [IoSlice::new(b"stray")];
        let stray = Datagram { port: sender.port().unwrap(), ..datagram(ip("127.0.0.1"), &pieces) };
        assert_eq!(other.send(&[stray]).unwrap(), 1);
        let mut byte = [0];
        let received = sender.recv(&mut [IoSliceMut::new(&mut byte)], &mut [Received::EMPTY]);
        assert_eq!(received.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_port_has_one_receiver_and_short_buffers_say_so() {
    on_loopback(|| {
        let receiver = TunnelSocket::receiver(Carrier::Udp, IpFamily::V4, PORT).unwrap();
        let second = TunnelSocket::receiver(Carrier::Udp, IpFamily::V4, PORT).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        let sender = TunnelSocket::sender(Carrier::Udp, IpFamily::V4).unwrap();
        sender.send(&[datagram(ip("127.0.0.1"), &[IoSlice::new(b"1234567")])]).unwrap();
        let mut short = [0; 3];
        let mut received = [Received::EMPTY];
        assert_eq!(receiver.recv(&mut [IoSliceMut::new(&mut short)], &mut received).unwrap(), 1);
        assert!(received[0].truncated);
    });
}

#[test]
fn gre_has_no_ports_and_comes_from_its_header_on() {
    on_loopback(|| {
        for (there, header) in [("127.0.0.1", 20), ("::1", 0)] {
            let there = ip(there);
            let receiver = TunnelSocket::receiver(Carrier::Gre, IpFamily::of(there), 0).unwrap();
            let sender = TunnelSocket::sender(Carrier::Gre, IpFamily::of(there)).unwrap();
            let gre = [0, 0, 0x65, 0x58, 1, 2, 3];
            let pieces = [IoSlice::new(&gre)];
            let wanted = Datagram { port: 0, tos: 0x28, ttl: 33, ..datagram(there, &pieces) };
            assert_eq!(sender.send(&[wanted]).unwrap(), 1);
            let all = receive(&receiver, 1);
            let (received, bytes) = &all[0];
            assert_eq!(bytes[header..], gre);
            let known = (received.source, received.destination, received.tos, received.ttl);
            assert_eq!(known, (there, there, 0x28, 33));
            assert_eq!((received.source_port, receiver.port().unwrap()), (0, 0));
        }
    });
}
