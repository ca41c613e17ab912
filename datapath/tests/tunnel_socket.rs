//! Tunnel ports on sockets, over the loopback device of namespaces that only these tests know. Needs CAP_NET_ADMIN,
//! CAP_NET_RAW and CAP_SYS_ADMIN.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy does not see that of the functions they share"
)]

use base::HashSeed;
use datapath::Drop;
use datapath::port::{DeviceChange, Port, PortConfigError, Rx, Tx, TxLost};
use datapath::port::{TunnelSocketConfig, TunnelSocketPort};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::tunnel::{GeneveMap, TunnelProtocol, TunnelPush, pop, push_uncut};
use packet::{Batch, Checksum, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, Segments, Sum, slot};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;
use sys::IfName;
use sys::alloc_count::CountingAllocator;
use sys::netlink::{AdminState, LinkChange, Netlink};
use sys::netns::{Netns, run_in};
use sys::poll::{Interest, PollToken, Poller};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const PORT: u16 = 4789;
const V4: u32 = 0x7f00_0001;
const V6: u128 = 1;

/// In a namespace whose loopback takes packets of 1500 bytes.
fn on_loopback(test: impl FnOnce() + Send) {
    let work = || {
        // No program is started: for a moment it would have other tests' sockets, whose addresses would then be in use.
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link_by_name(&IfName::new("lo").unwrap()).unwrap().unwrap();
        netlink.change(lo.index, &LinkChange::default().mtu(1_500).admin(AdminState::Up)).unwrap();
        test();
    };
    run_in(&Netns::new_unnamed().unwrap(), work).unwrap();
}

fn open(protocol: TunnelProtocol, port: u16) -> TunnelSocketPort {
    TunnelSocketPort::open(&TunnelSocketConfig { name: "tunnel".to_owned(), protocol, port }).unwrap()
}

/// Both ends of a tunnel in one: what is sent to the loopback address comes in.
struct End {
    port: TunnelSocketPort,
    rx: Vec<Box<dyn Rx>>,
    tx: Box<dyn Tx>,
    pool: FramePool,
}

impl End {
    fn new(protocol: TunnelProtocol) -> End {
        let mut port = open(protocol, PORT);
        let (rx, tx) = (port.take_rx(), port.new_tx().unwrap());
        assert_eq!(rx.len(), 2, "IPv4 and IPv6");
        assert!(port.take_rx().is_empty());
        End { port, rx, tx, pool: FramePool::default() }
    }

    fn send(&mut self, builder: FrameBuilder) {
        let frame = Frame::from_bytes(&builder.build());
        self.tx.send(frame, &mut self.pool).unwrap();
    }

    fn flush(&mut self) -> Vec<TxLost> {
        self.tx.flush(&mut self.pool).unwrap();
        std::iter::from_fn(|| self.tx.take_lost()).collect()
    }

    /// The next `count` frames that come in.
    fn receive(&mut self, count: usize) -> Vec<Frame> {
        let mut poller = Poller::new().unwrap();
        for (rx, token) in self.rx.iter().zip(1..) {
            poller.add(rx.poll_fd().unwrap(), PollToken(token), Interest::Read).unwrap();
        }
        let (mut frames, mut batch) = (Vec::new(), Batch::new());
        loop {
            for rx in &mut self.rx {
                // Until there is nothing: what was received joined is not in the descriptor any more.
                loop {
                    rx.recv(&mut self.pool, &mut batch).unwrap();
                    if batch.is_empty() {
                        break;
                    }
                    frames.extend(batch.drain());
                }
            }
            if frames.len() >= count {
                return frames;
            }
            let mut events = Vec::new();
            poller.wait(Some(Duration::from_secs(10)), &mut events).unwrap();
            assert!(!events.is_empty(), "{} of {count} frames came", frames.len());
        }
    }
}

fn udp4(src_port: u16, payload: &[u8]) -> FrameBuilder {
    FrameBuilder::udp4((V4, src_port), (V4, PORT)).macs(0, 0).payload(payload)
}

fn udp6(src_port: u16, payload: &[u8]) -> FrameBuilder {
    FrameBuilder::udp6((V6, src_port), (V6, PORT)).macs(0, 0).payload(payload)
}

/// The payload of an outer UDP packet whose other headers are as they should be.
fn payload_of(frame: &mut Frame) -> Vec<u8> {
    assert_eq!(frame.encapsulated, Some(TunnelProtocol::Vxlan));
    assert_eq!((frame.checksum, frame.segmentation), (Checksum::Valid, Segmentation::None));
    assert_eq!(frame.bytes()[..12], [0; 12], "Ethernet addresses");
    let key = PacketKey::extract(frame).unwrap();
    assert_eq!((key.get(slot::NW_PROTO), key.get(slot::TP_DST)), (17, PORT.into()));
    frame.bytes()[frame.layers.l4 as usize + 8..].to_vec()
}

/// Content that says which frame of which flow it is.
fn content(flow: u16, number: u32, len: usize) -> Vec<u8> {
    let mut bytes = flow.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|i| (i as u32 ^ number) as u8));
    bytes
}

#[test]
fn outer_headers_cross() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        end.send(udp4(50_000, b"over IPv4").set(slot::NW_TOS, 0xb9).set(slot::NW_TTL, 17));
        end.send(udp6(50_000, b"over IPv6").set(slot::NW_TOS, 0x2a).set(slot::NW_TTL, 18));
        assert_eq!(end.flush(), []);
        let mut seen = BTreeMap::new();
        for mut frame in end.receive(2) {
            let key = PacketKey::extract(&mut frame).unwrap();
            let addresses = match key.dl_type() {
                0x0800 => (key.get(slot::NW_SRC), key.get(slot::NW_DST)),
                _ => (key.get(slot::IPV6_SRC), key.get(slot::IPV6_DST)),
            };
            seen.insert(payload_of(&mut frame), (addresses, key.get(slot::NW_TOS), key.get(slot::NW_TTL)));
        }
        let v4 = u128::from(V4);
        assert_eq!(seen[&b"over IPv4"[..]], ((v4, v4), 0xb9, 17));
        assert_eq!(seen[&b"over IPv6"[..]], ((V6, V6), 0x2a, 18));
    });
}

#[test]
fn many_frames_of_many_flows_all_come_and_each_flow_in_order() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        // Of one length, as bulk transfers are, with a shorter one now and then; both families.
        let len = |n: u32| if n % 11 == 10 { 300 } else { 1_400 };
        for number in 0..60u32 {
            for flow in 0..5u16 {
                let bytes = content(flow, number, len(number));
                let source = 50_000 + flow;
                end.send(if flow % 2 == 0 { udp4(source, &bytes) } else { udp6(source, &bytes) });
            }
        }
        assert_eq!(end.flush(), []);
        let mut next = [0u32; 5];
        for mut frame in end.receive(300) {
            let bytes = payload_of(&mut frame);
            let flow = u16::from_be_bytes([bytes[0], bytes[1]]);
            let number = &mut next[usize::from(flow)];
            assert_eq!(bytes, content(flow, *number, len(*number)), "flow {flow}");
            *number += 1;
        }
        assert_eq!(next, [60; 5]);
        assert_eq!(end.port.losses().iter().map(|l| l.too_long.get() + l.unreadable.get()).sum::<u64>(), 0);
    });
}

/// Payload of a super-frame's segments but the last.
const SIZE: usize = 1_370;

/// A TCP super-frame of the flow from `port`, its first byte being number `seq`, in a tunnel to this host.
fn super_frame(ip: IpAddr, port: u16, seq: u32, payload: &[u8], csum: bool) -> Frame {
    let built = FrameBuilder::tcp4((0x0a00_0001, port), (0x0a00_0002, 80), 0x10).payload(payload).build();
    let mut frame = FramePool::default().take();
    frame.append(&built).unwrap();
    PacketKey::extract(&mut frame).unwrap();
    frame.bytes_mut()[38..42].copy_from_slice(&seq.to_be_bytes());
    let pseudo = Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 6, (20 + payload.len()) as u16);
    frame.bytes_mut()[50..52].copy_from_slice(&pseudo.folded().to_be_bytes());
    frame.checksum = Checksum::Partial { start: 34, offset: 16 };
    frame.segmentation = Segmentation::TcpV4 { size: SIZE as u16, ecn: false };
    let header = TunnelPush { csum, vni: Some(7), ..TunnelPush::new(TunnelProtocol::Vxlan, ip, ip) };
    push_uncut(&mut frame, &header, HashSeed::new(1, 2)).unwrap();
    frame
}

/// Source port, sequence number and payload of a TCP segment, whose checksums have to be right.
fn segment(bytes: &[u8]) -> (u16, u32, Vec<u8>) {
    let parsed = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &parsed.net else { panic!("{parsed:?}") };
    let Some(TransportSlice::Tcp(tcp)) = &parsed.transport else { panic!("{parsed:?}") };
    let ip = ip.header().to_header();
    assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
    let header = tcp.to_header();
    assert_eq!(header.calc_checksum_ipv4(&ip, tcp.payload()), Ok(tcp.checksum()));
    (header.source_port, header.sequence_number, tcp.payload().to_vec())
}

fn stream(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 7) as u8).collect()
}

/// What a plain socket receives of super-frames: every segment in a datagram of its own, or one after the other out of one that
/// the kernel cut.
#[test]
fn super_frames_are_cut_into_datagrams() {
    on_loopback(|| {
        for (ip, csum) in [("127.0.0.1", false), ("127.0.0.1", true), ("::1", true)] {
            let ip: IpAddr = ip.parse().unwrap();
            let peer = UdpSocket::bind((ip, PORT)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // The tunnel's own sockets are bound to another port.
            let mut port = open(TunnelProtocol::Vxlan, PORT + 1);
            let (mut tx, mut pool) = (port.new_tx().unwrap(), FramePool::default());
            let payload = stream(64_000);
            tx.send(super_frame(ip, 1_234, 77, &payload, csum), &mut pool).unwrap();
            tx.flush(&mut pool).unwrap();
            assert_eq!(tx.take_lost(), None);
            let (mut next, mut got) = (77, Vec::new());
            while got.len() < payload.len() {
                let mut bytes = [0; 2_000];
                let len = peer.recv(&mut bytes).unwrap();
                assert_eq!(bytes[..8], [8, 0, 0, 0, 0, 0, 7, 0]);
                let (source, seq, payload) = segment(&bytes[8..len]);
                assert_eq!((source, seq), (1_234, next));
                next += payload.len() as u32;
                got.extend(payload);
                assert!(len == 8 + 54 + SIZE || got.len() == 64_000);
            }
            assert_eq!(got, payload);
        }
    });
}

/// One flow's super-frames to several destinations, from several addresses, with several TOS and TTL, in turn: what a socket was
/// told for the one does not hold for the next.
#[test]
fn each_super_frame_has_outer_headers_of_its_own() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        let ip = |last| IpAddr::from([127, 0, 0, last]);
        // The kernel would choose 127.0.0.1 for a source.
        let ways =
            [(1, 1, 0, 64), (1, 2, 0, 64), (3, 2, 0, 64), (1, 2, 0xb8, 64), (1, 2, 0xb8, 9), (1, 1, 0, 64)];
        for (src, dst, tos, ttl) in ways {
            let mut frame = super_frame(ip(1), 1_000, 0, &stream(30_000), false);
            // Of IPv4 TOS, TTL and the addresses; the header's checksum is the kernel's.
            (frame.bytes_mut()[15], frame.bytes_mut()[22]) = (tos, ttl);
            frame.bytes_mut()[26..34].copy_from_slice(&[127, 0, 0, src, 127, 0, 0, dst]);
            end.tx.send(frame, &mut end.pool).unwrap();
            // Sent now, so that there is an order between destinations.
            assert_eq!(end.flush(), []);
            // What is no super-frame goes the same way.
            end.send(udp4(50_000, b"between").set(slot::NW_TTL, 33).set(slot::NW_TOS, 4));
            assert_eq!(end.flush(), []);
        }
        let (mut seen, mut between, mut bytes) = (Vec::new(), 0, 0);
        while between < ways.len() {
            for mut frame in end.receive(1) {
                let key = PacketKey::extract(&mut frame).unwrap();
                let way = (
                    key.get(slot::NW_SRC) as u8,
                    key.get(slot::NW_DST) as u8,
                    key.get(slot::NW_TOS) as u8,
                    key.get(slot::NW_TTL) as u8,
                );
                if way == (1, 1, 4, 33) {
                    between += 1;
                    continue;
                }
                // Behind Ethernet, IPv4, UDP, VXLAN and the inner headers.
                bytes += frame.len() - (14 + 20 + 8 + 8 + 54);
                if seen.last() != Some(&way) {
                    seen.push(way);
                }
            }
        }
        assert_eq!((seen, bytes), (ways.to_vec(), 30_000 * ways.len()));
    });
}

/// Segments of streams that go through each other, and datagrams that are none, as they come out of the tunnel.
#[test]
fn segments_of_a_stream_come_as_few_frames() {
    on_loopback(|| {
        for csum in [false, true] {
            let mut end = End::new(TunnelProtocol::Vxlan);
            let ip = "127.0.0.1".parse().unwrap();
            let payload = stream(60_000);
            for round in 0..4u32 {
                for flow in [1_000, 2_000] {
                    let frame = super_frame(ip, flow, round * 60_000, &payload, csum);
                    end.tx.send(frame, &mut end.pool).unwrap();
                }
                end.send(udp4(50_000, &content(0, round, 100)));
                assert_eq!(end.flush(), []);
            }
            let (mut next, mut others, mut frames) = (BTreeMap::from([(1_000, 0), (2_000, 0)]), 0, 0);
            while others < 4 || next.values().any(|seq| *seq < 240_000) {
                for mut frame in end.receive(1) {
                    frames += 1;
                    if frame.len() == 142 {
                        assert_eq!(payload_of(&mut frame), content(0, others, 100));
                        others += 1;
                        continue;
                    }
                    assert_eq!(frame.encapsulated.take(), Some(TunnelProtocol::Vxlan));
                    let mut key = PacketKey::default();
                    pop(&mut frame, TunnelProtocol::Vxlan, &mut key, &GeneveMap::default()).unwrap();
                    assert_eq!(key.get(slot::TUN_ID), 7);
                    key.extract_headers(&mut frame).unwrap();
                    frame.validate_offload().unwrap();
                    let mut all = vec![frame.bytes().to_vec()];
                    if frame.segmentation != Segmentation::None {
                        let mut segments = Segments::new(frame).unwrap();
                        let each = || segments.next_segment(&mut end.pool);
                        all = std::iter::from_fn(each).map(|s| s.bytes().to_vec()).collect();
                    }
                    for bytes in all {
                        let (flow, seq, got) = segment(&bytes);
                        let at = next.get_mut(&flow).unwrap();
                        assert_eq!(seq, *at);
                        let from = seq as usize % 60_000;
                        assert_eq!(got, payload[from..from + got.len()]);
                        *at += got.len() as u32;
                    }
                }
            }
            // 352 segments: what the kernel hands over at a time is joined, how much that is is its business.
            assert!(frames < 200, "{frames}");
        }
    });
}

#[test]
fn flows_keep_their_source_port_and_have_several() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        for round in 0..2 {
            for flow in 0..64 {
                end.send(udp4(49_152 + flow, &content(flow, round, 100)));
            }
            assert_eq!(end.flush(), []);
        }
        let mut ports: BTreeMap<u16, BTreeSet<u128>> = BTreeMap::new();
        for mut frame in end.receive(128) {
            let bytes = payload_of(&mut frame);
            let source = PacketKey::extract(&mut frame).unwrap().get(slot::TP_SRC);
            ports.entry(u16::from_be_bytes([bytes[0], bytes[1]])).or_default().insert(source);
        }
        assert!(ports.values().all(|sources| sources.len() == 1), "{ports:?}");
        let all: BTreeSet<u128> = ports.values().flatten().copied().collect();
        assert_eq!(all.len(), 16);
    });
}

#[test]
fn what_is_too_long_is_lost_alone_or_fragmented() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        // Don't Fragment is bit 6 of the byte behind the identification. Over IPv6 nobody fragments.
        let with_df = |builder: FrameBuilder| {
            let mut frame = Frame::from_bytes(&builder.build());
            frame.bytes_mut()[20] |= 0x40;
            frame
        };
        for (number, len) in [(0, 1_000), (1, 2_000), (2, 2_000), (3, 1_000)] {
            let frame = with_df(udp4(50_000, &content(0, number, len)));
            end.tx.send(frame, &mut end.pool).unwrap();
        }
        end.send(udp6(50_000, &content(1, 0, 2_000)));
        let lost = end.flush();
        let headers = (14 + 20 + 8, 14 + 40 + 8);
        let bytes = 2 * (headers.0 + 2_000) + headers.1 + 2_000;
        assert_eq!(lost, [TxLost { frames: 3, bytes, reason: Drop::TxTooBig }]);
        assert_eq!(end.receive(2).len(), 2);
        let paths: Vec<(String, u32)> =
            end.port.take_path_mtus().into_iter().map(|(ip, mtu)| (ip.to_string(), mtu)).collect();
        assert_eq!(paths, [("127.0.0.1".to_owned(), 1_500), ("::1".to_owned(), 1_500)]);
        assert_eq!(end.port.take_path_mtus(), [], "told once");
        end.send(udp4(50_000, &content(0, 4, 2_000)));
        assert_eq!(end.flush(), []);
        assert_eq!(payload_of(&mut end.receive(1)[0]), content(0, 4, 2_000));
    });
}

#[test]
fn peers_that_do_not_listen_cost_others_nothing() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        for number in 0..10 {
            end.send(FrameBuilder::udp4((V4, 50_000), (V4, 9)).macs(0, 0).payload(b"nobody"));
            end.send(udp4(50_000, &content(0, number, 100)));
            assert_eq!(end.flush(), []);
        }
        let mut frames = end.receive(10);
        for (number, frame) in (0..).zip(&mut frames) {
            assert_eq!(payload_of(frame), content(0, number, 100));
        }
        assert!(end.port.icmp_errors() > 0);
        assert_eq!(end.port.link().unwrap().kernel.unwrap().tx_errors, end.port.icmp_errors());
    });
}

#[test]
fn gre_crosses_over_both_families() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Gre);
        let gre = |n: u8| [0x20, 0, 0x65, 0x58, 0, 0, 0, n, 9, 9, 9];
        end.send(FrameBuilder::ipv4(V4, V4, 47).macs(0, 0).set(slot::NW_TTL, 7).payload(&gre(4)));
        end.send(FrameBuilder::ipv6(V6, V6, 47).macs(0, 0).set(slot::NW_TOS, 0x11).payload(&gre(6)));
        assert_eq!(end.flush(), []);
        let mut seen = Vec::new();
        for mut frame in end.receive(2) {
            assert_eq!(frame.encapsulated, Some(TunnelProtocol::Gre));
            let key = PacketKey::extract(&mut frame).unwrap();
            assert_eq!(key.get(slot::NW_PROTO), 47);
            let start = if key.dl_type() == 0x0800 { 34 } else { 54 };
            seen.push((frame.bytes()[start..].to_vec(), key.get(slot::NW_TTL), key.get(slot::NW_TOS)));
        }
        seen.sort();
        assert_eq!(seen, [(gre(4).to_vec(), 7, 0), (gre(6).to_vec(), 64, 0x11)]);
    });
}

#[test]
fn what_is_no_tunnel_packet_is_refused() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        for bytes in [
            Vec::new(),
            vec![0; 14],
            FrameBuilder::arp(1, (1, 1), (2, 2)).build(),
            FrameBuilder::tcp4((V4, 1), (V4, 2), 2).build(),
            FrameBuilder::ipv4(V4, V4, 47).payload(&[0; 20]).build(),
            udp4(1, b"cut off").build()[..45].to_vec(),
        ] {
            let (_, reason) = end.tx.send(Frame::from_bytes(&bytes), &mut end.pool).unwrap_err();
            assert_eq!(reason, Drop::TxError, "{bytes:?}");
        }
        let mut whole = Frame::from_bytes(&udp4(1, &[0; 3_000]).build());
        whole.segmentation = Segmentation::UdpL4 { size: 1_000 };
        assert_eq!(end.tx.send(whole, &mut end.pool).unwrap_err().1, Drop::BadOffload);
        // An address that is not the host's.
        end.send(FrameBuilder::udp4((0x0102_0304, 1), (V4, PORT)).payload(b"spoofed"));
        let lost = end.flush();
        assert_eq!(lost.iter().map(|l| (l.frames, l.reason)).collect::<Vec<_>>(), [(1, Drop::TxError)]);
    });
}

#[test]
fn port_is_opened_once_and_has_no_device() {
    on_loopback(|| {
        let mut port = open(TunnelProtocol::Geneve, 6_081);
        let config =
            TunnelSocketConfig { name: "again".to_owned(), protocol: TunnelProtocol::Geneve, port: 6_081 };
        let again = TunnelSocketPort::open(&config).unwrap_err();
        assert!(again.to_string().contains("in use"), "{again}");
        let change = port.change(DeviceChange::Mtu(1_400));
        assert!(matches!(change, Err(PortConfigError::Unsupported(_))));
        let link = port.link().unwrap();
        assert_eq!((link.name.as_str(), link.admin_up, link.carrier), ("tunnel", true, true));
        port.discard().unwrap();
        drop(port);
        // A child that another test's thread forked meanwhile has the socket too, until it runs its program.
        let (mut poller, mut events) = (Poller::new().unwrap(), Vec::new());
        let opens = |_| {
            poller.wait(Some(Duration::from_millis(1)), &mut events).unwrap();
            TunnelSocketPort::open(&config).is_ok()
        };
        assert!((0..5_000).any(opens), "{}", TunnelSocketPort::open(&config).unwrap_err());
    });
}

#[test]
fn nothing_is_allocated_once_it_runs() {
    on_loopback(|| {
        let mut end = End::new(TunnelProtocol::Vxlan);
        let templates: Vec<Vec<u8>> = (0..64u16)
            .map(|n| {
                let bytes = content(n % 8, n.into(), if n < 50 { 1_400 } else { 200 });
                if n % 2 == 0 { udp4(50_000 + n % 8, &bytes) } else { udp6(50_000 + n % 8, &bytes) }.build()
            })
            .collect();
        let mut batch = Batch::new();
        let mut allocated = u64::MAX;
        for _ in 0..10 {
            let super_frame = super_frame("127.0.0.1".parse().unwrap(), 9, 0, &stream(30_000), true);
            let before = CountingAllocator::count();
            end.tx.send(super_frame, &mut end.pool).unwrap();
            for bytes in &templates {
                let mut frame = end.pool.take();
                frame.append(bytes).unwrap();
                end.tx.send(frame, &mut end.pool).unwrap();
            }
            end.tx.flush(&mut end.pool).unwrap();
            let mut received = 0;
            // The loopback device hands over within the system call.
            for rx in &mut end.rx {
                loop {
                    rx.recv(&mut end.pool, &mut batch).unwrap();
                    if batch.is_empty() {
                        break;
                    }
                    received += batch.len();
                    batch.drain().for_each(|frame| end.pool.give(frame));
                }
            }
            allocated = CountingAllocator::count() - before;
            assert_eq!(received, templates.len() + 1);
        }
        assert!(CountingAllocator::count() > 0, "the counting allocator is in place");
        assert_eq!(allocated, 0);
    });
}

/// The bytes of the next pool frame are not those of the frame before.
#[test]
fn mark_does_not_outlive_the_frame() {
    let mut pool = FramePool::default();
    let mut frame = pool.take();
    frame.encapsulated = Some(TunnelProtocol::Gre);
    pool.give(frame);
    assert_eq!(pool.take().encapsulated, None);
}
