//! AF_XDP ports on veths in namespaces that only these tests know, with a packet socket on the other end. Needs CAP_NET_ADMIN,
//! CAP_BPF and CAP_SYS_ADMIN.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy does not see that of the functions they share"
)]

use base::HashSeed;
use datapath::port::{
    AfPacketConfig, AfPacketPort, AfXdpConfig, AfXdpPort, DeviceChange, Port, PortConfigError, PortError, Rx,
    Tx, TxLost, XdpMode, XdpOptions, afxdp,
};
use packet::tunnel::{GeneveMap, TunnelProtocol, TunnelPush, pop, push};
use packet::{Batch, Checksum, Frame, FrameBuilder, FramePool, PacketKey, Segmentation, Sum};
use std::io::IoSlice;
use std::time::Duration;
use sys::alloc_count::CountingAllocator;
use sys::netlink::{AdminState, LinkChange, Netlink};
use sys::netns::{Netns, run_in};
use sys::packet_socket::{PacketOptions, PacketSocket};
use sys::poll::{Interest, PollToken, Poller};
use sys::vnet::{VnetChecksum, VnetHeader};
use sys::{IfIndex, IfName, xdp};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Source address of what the tests send, which tells it from the kernel's own chatter.
const OURS: [u8; 6] = [2, 0, 0, 0, 0xaa, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0xaa, 2];
/// An EtherType for local experiments (IEEE 802 clause 9.2.3).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
const MODES: [XdpMode; 2] = [XdpMode::Generic, XdpMode::Native];

/// A veth pair in a namespace of its own, which goes with all its devices when the test ends.
fn with_veth(test: impl FnOnce(IfName, IfName) + Send) {
    let work = || {
        let [near, far] = ["near", "far"].map(|name| IfName::new(name).unwrap());
        let mut netlink = Netlink::open().unwrap();
        netlink.create_veth(&near, &far).unwrap();
        for end in [near, far] {
            netlink.change(index_of(&end), &LinkChange::default().admin(AdminState::Up)).unwrap();
        }
        test(near, far);
    };
    run_in(&Netns::new_unnamed().unwrap(), work).unwrap();
}

fn index_of(name: &IfName) -> IfIndex {
    IfIndex::of(name).unwrap_or_else(|| panic!("no {name} here"))
}

fn in_mode(name: IfName, mode: XdpMode) -> AfXdpConfig {
    let xdp = XdpOptions { mode: Some(mode), ..XdpOptions::default() };
    AfXdpConfig { xdp, ..AfXdpConfig::new(name) }
}

fn sides(port: &mut AfXdpPort) -> (Box<dyn Rx>, Box<dyn Tx>) {
    (port.take_rx().pop().unwrap(), port.new_tx().unwrap())
}

fn kernel(name: &IfName) -> PacketSocket {
    PacketSocket::open(index_of(name), PacketOptions::default()).unwrap()
}

fn frame_bytes(len: usize) -> Vec<u8> {
    let mut bytes = [OTHER, OURS].concat();
    bytes.extend(EXPERIMENTAL);
    bytes.extend((bytes.len()..len).map(|i| i as u8));
    bytes
}

fn wait_for(rx: &dyn Rx) {
    let mut poller = Poller::new().unwrap();
    poller.add(rx.poll_fd().unwrap(), PollToken(1), Interest::Read).unwrap();
    let mut events = Vec::new();
    poller.wait(Some(Duration::from_secs(10)), &mut events).unwrap();
    assert!(!events.is_empty(), "nothing happened in time");
}

/// The next `count` of our frames.
fn received(rx: &mut dyn Rx, pool: &mut FramePool, count: usize) -> Vec<Frame> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut batch = Batch::new();
        rx.recv(pool, &mut batch).unwrap();
        if batch.is_empty() {
            assert!(rx.is_drained());
            wait_for(rx);
        }
        for frame in batch.drain() {
            if frame.bytes()[6..12] == OURS {
                all.push(frame);
            } else {
                pool.give(frame);
            }
        }
    }
    all
}

/// Our next frame that the kernel received at the other end, its tag put back.
fn seen(socket: &PacketSocket) -> Vec<u8> {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, PollToken(1), Interest::Read).unwrap();
    let (mut events, mut buffer) = (Vec::new(), vec![0; 70_000]);
    loop {
        match socket.recv(&mut buffer) {
            Ok(received) if buffer[6..12] == OURS => {
                let tag = received.vlan.map(|tag| [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat());
                return [&buffer[..12], &tag.unwrap_or_default(), &buffer[12..received.length]].concat();
            }
            Ok(_) => {}
            Err(_) => {
                poller.wait(Some(Duration::from_secs(10)), &mut events).unwrap();
                assert!(!events.is_empty(), "nothing happened in time");
            }
        }
    }
}

fn send(tx: &mut dyn Tx, pool: &mut FramePool, bytes: &[u8]) {
    tx.send(Frame::from_bytes(bytes), pool).map_err(|(_, reason)| reason).unwrap();
    tx.flush(pool).unwrap();
}

#[test]
fn bytes_tags_and_order_stay_what_they_were() {
    for mode in MODES {
        with_veth(|near, far| {
            let mut port = AfXdpPort::open(&in_mode(near, mode)).unwrap();
            let (mut rx, mut tx) = sides(&mut port);
            assert!(port.take_rx().is_empty());
            let kernel = kernel(&far);
            let mut pool = FramePool::new(64);
            let plain = frame_bytes(1514);
            let tagged = |tags: &[u8]| [&plain[..12], tags, &plain[12..1000]].concat();
            let mut many = vec![
                plain.clone(),
                tagged(&[0x81, 0, 0x60, 0x64]),
                tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]),
            ];
            many.extend((0..Batch::MAX * 2 + 11).map(|n| frame_bytes(14 + n)));
            for bytes in &many {
                kernel.send(&VnetHeader::default(), &[IoSlice::new(bytes)]).unwrap();
            }
            let frames = received(&mut *rx, &mut pool, many.len());
            assert_eq!(frames.iter().map(|f| f.bytes().to_vec()).collect::<Vec<_>>(), many);
            for frame in frames {
                assert_eq!((frame.checksum, frame.segmentation), (Checksum::Unknown, Segmentation::None));
                tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
            }
            tx.flush(&mut pool).unwrap();
            assert_eq!(tx.take_lost(), None);
            many.iter().for_each(|bytes| assert_eq!(seen(&kernel), *bytes));
            let report = port.link().unwrap();
            assert_eq!((report.driver.as_str(), report.xdp_mode), ("veth", Some(mode)));
        });
    }
}

/// A TCP segment of a stream, or a UDP packet, complete.
fn packet_bytes(protocol: etherparse::IpNumber, n: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..1000).map(|i| (i * 7 + n) as u8).collect();
    let ethernet = etherparse::PacketBuilder::ethernet2(OURS, OTHER).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut bytes = Vec::new();
    match protocol {
        etherparse::IpNumber::TCP => {
            ethernet.tcp(12345, 80, (n * 1000) as u32, 1024).ack(7).write(&mut bytes, &payload).unwrap();
        }
        _ => ethernet.udp(12345, 80).write(&mut bytes, &payload).unwrap(),
    }
    bytes
}

/// The sum of the pseudo header, which a kernel that leaves the checksum to the device puts in its place.
fn pseudo_sum(bytes: &[u8]) -> u16 {
    let len = bytes.len() - 34;
    let mut sum: u32 = bytes[26..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    sum += u32::from(bytes[23]) + len as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn checksums_that_the_sender_left_to_its_device_are_completed() {
    for mode in MODES {
        with_veth(|near, far| {
            let mut port = AfXdpPort::open(&in_mode(near, mode)).unwrap();
            let (mut rx, mut tx) = sides(&mut port);
            let kernel = kernel(&far);
            let mut pool = FramePool::new(4);
            for (protocol, offset) in [(etherparse::IpNumber::TCP, 16), (etherparse::IpNumber::UDP, 6)] {
                let complete = packet_bytes(protocol, 3);
                let mut partial = complete.clone();
                let at = 34 + offset as usize;
                partial[at..at + 2].copy_from_slice(&pseudo_sum(&complete).to_be_bytes());
                let header = VnetHeader { checksum: VnetChecksum::Partial { start: 34, offset }, gso: None };
                kernel.send(&header, &[IoSlice::new(&partial)]).unwrap();
                let mut frame = received(&mut *rx, &mut pool, 1).pop().unwrap();
                assert_eq!(frame.bytes(), partial, "as veths pass it on");
                assert_eq!(frame.checksum, Checksum::Partial { start: 34, offset });
                PacketKey::extract(&mut frame).unwrap();
                frame.validate_offload().unwrap();
                tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
                tx.flush(&mut pool).unwrap();
                assert_eq!(seen(&kernel), complete);
                // One that is complete stays what it is.
                kernel.send(&VnetHeader::default(), &[IoSlice::new(&complete)]).unwrap();
                let frame = received(&mut *rx, &mut pool, 1).pop().unwrap();
                assert_eq!((frame.checksum, frame.bytes()), (Checksum::Unknown, &complete[..]));
            }
        });
    }
}

#[test]
fn super_frames_are_cut_in_their_place() {
    with_veth(|near, far| {
        let mut port = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        let mut tx = port.new_tx().unwrap();
        let kernel = kernel(&far);
        let mut pool = FramePool::new(64);
        // Sixty segments in one frame: more than the kernel sends with one call.
        let segments: Vec<_> = (0..60).map(|n| packet_bytes(etherparse::IpNumber::TCP, n)).collect();
        let mut bytes = segments[0].clone();
        segments[1..].iter().for_each(|segment| bytes.extend(&segment[54..]));
        bytes[16..18].copy_from_slice(&(40 + 60_000u16).to_be_bytes());
        let mut frame = Frame::from_bytes(&bytes);
        PacketKey::extract(&mut frame).unwrap();
        frame.checksum = Checksum::Partial { start: 34, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size: 1000, ecn: false };
        let sum = pseudo_sum(&bytes);
        frame.bytes_mut()[50..52].copy_from_slice(&sum.to_be_bytes());
        tx.send(Frame::from_bytes(&frame_bytes(61)), &mut pool).map_err(|(_, reason)| reason).unwrap();
        tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
        tx.send(Frame::from_bytes(&frame_bytes(62)), &mut pool).map_err(|(_, reason)| reason).unwrap();
        tx.flush(&mut pool).unwrap();
        assert_eq!(tx.take_lost(), None);
        assert_eq!(seen(&kernel), frame_bytes(61));
        for (n, segment) in segments.iter().enumerate() {
            let got = seen(&kernel);
            // Behind IPv4's header, whose identification is counted by cutting.
            assert_eq!((&got[..14], &got[34..]), (&segment[..14], &segment[34..]), "segment {n}");
        }
        assert_eq!(seen(&kernel), frame_bytes(62));
        // Without a partial checksum there is nothing to cut by.
        let mut frame = Frame::from_bytes(&bytes);
        frame.segmentation = Segmentation::TcpV4 { size: 1000, ecn: false };
        assert_eq!(tx.send(frame, &mut pool).unwrap_err().1, datapath::Drop::BadOffload);
    });
}

/// What is to be cut inside a tunnel that its sender made comes out in pieces, of packet sockets too, which could tell the kernel
/// of super-frames but not of such.
#[test]
fn super_frames_in_tunnels_are_cut() {
    with_veth(|near, far| {
        let payload: Vec<u8> = (0..30_000u32).map(|i| i as u8).collect();
        let built = FrameBuilder::tcp4((0x0a00_0001, 1), (0x0a00_0002, 2), 0x10).payload(&payload).build();
        let ends = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let header = TunnelPush {
            eth_src: OURS,
            csum: true,
            mtu: 65_535,
            ..TunnelPush::new(TunnelProtocol::Vxlan, ends[0], ends[1])
        };
        let kernel = kernel(&far);
        let mut packet_port = AfPacketPort::open(&AfPacketConfig::new(near)).unwrap();
        let mut xdp_port = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        for mut tx in [packet_port.new_tx().unwrap(), xdp_port.new_tx().unwrap()] {
            let mut frame = Frame::from_bytes(&built);
            let pseudo = Sum::pseudo_v4(0x0a00_0001, 0x0a00_0002, 6, 30_020);
            frame.bytes_mut()[50..52].copy_from_slice(&pseudo.folded().to_be_bytes());
            push(&mut frame, &header, HashSeed::new(1, 2)).unwrap();
            frame.checksum = Checksum::Partial { start: 84, offset: 16 };
            frame.segmentation = Segmentation::TcpV4 { size: 1_000, ecn: false };
            PacketKey::extract(&mut frame).unwrap();
            frame.validate_offload().unwrap();
            let mut pool = FramePool::new(64);
            tx.send(Frame::from_bytes(&frame_bytes(61)), &mut pool).map_err(|(_, reason)| reason).unwrap();
            tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
            tx.flush(&mut pool).unwrap();
            assert_eq!(tx.take_lost(), None);
            assert_eq!(seen(&kernel), frame_bytes(61));
            let mut together = Vec::new();
            while together.len() < payload.len() {
                let mut outer = Frame::from_bytes(&seen(&kernel));
                let mut key = PacketKey::extract(&mut outer).unwrap();
                // Judges the outer checksums.
                pop(&mut outer, TunnelProtocol::Vxlan, &mut key, &GeneveMap::default()).unwrap();
                key.extract_headers(&mut outer).unwrap();
                assert!(outer.verify_checksums());
                together.extend_from_slice(&outer.bytes()[54..]);
            }
            assert!(together == payload);
        }
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    with_veth(|near, far| {
        let mtu = |name: &IfName, mtu| {
            Netlink::open().unwrap().change(index_of(name), &LinkChange::default().mtu(mtu)).unwrap();
        };
        mtu(&near, afxdp::MTU_MAX + 1);
        let too_large = format!("MTU {} is too large: at most 3818 with AF_XDP", afxdp::MTU_MAX + 1);
        let error = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap_err();
        assert_eq!(error.to_string(), too_large);
        let wanted = AfXdpConfig { mtu: Some(9000), ..AfXdpConfig::new(near) };
        let error = AfXdpPort::open(&wanted).unwrap_err();
        assert!(matches!(error, PortConfigError::MtuTooLong { mtu: 9000, .. }));
        // One with which every frame fits: two tags are in it.
        let wanted = AfXdpConfig { mtu: Some(afxdp::MTU_MAX), ..in_mode(near, XdpMode::Generic) };
        let mut port = AfXdpPort::open(&wanted).unwrap();
        assert_eq!(port.change(DeviceChange::Mtu(afxdp::MTU_MAX + 1)).unwrap_err().to_string(), too_large);
        mtu(&far, afxdp::MTU_MAX);
        let (mut rx, mut tx) = sides(&mut port);
        let mut pool = FramePool::new(4);
        let longest = frame_bytes(xdp::FRAME_LEN_MAX);
        let kernel = kernel(&far);
        // As long as a packet socket takes.
        let tagged = [&longest[..12], &[0x81, 0, 0, 7], &longest[12..14 + afxdp::MTU_MAX as usize]].concat();
        kernel.send(&VnetHeader::default(), &[IoSlice::new(&tagged)]).unwrap();
        assert_eq!(received(&mut *rx, &mut pool, 1)[0].bytes(), tagged);
        for _ in 0..2 {
            let long = Frame::from_bytes(&frame_bytes(xdp::FRAME_LEN_MAX + 1));
            tx.send(long, &mut pool).map_err(|(_, reason)| reason).unwrap();
            tx.send(Frame::from_bytes(&frame_bytes(60)), &mut pool).map_err(|(_, reason)| reason).unwrap();
        }
        tx.flush(&mut pool).unwrap();
        let lost = TxLost { frames: 2, bytes: 2 * 3841, reason: datapath::Drop::TxTooBig };
        assert_eq!((tx.take_lost(), tx.take_lost()), (Some(lost), None));
        assert_eq!([seen(&kernel), seen(&kernel)], [frame_bytes(60), frame_bytes(60)]);
    });
}

#[test]
fn device_that_others_have_or_that_does_not_exist_is_refused() {
    with_veth(|near, far| {
        let port = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        let error = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap_err();
        assert_eq!(error.to_string(), "the device has an XDP program already");
        drop(port);
        // Both ends of a wire may be had.
        let _near = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        let _far = AfXdpPort::open(&AfXdpConfig::new(far)).unwrap();
        let nobody = IfName::new("nobody").unwrap();
        assert!(matches!(AfXdpPort::open(&AfXdpConfig::new(nobody)), Err(PortConfigError::NoDevice(_))));
    });
}

#[test]
fn what_nobody_receives_in_time_is_counted() {
    with_veth(|near, far| {
        let mut port = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        let (mut rx, _tx) = sides(&mut port);
        let kernel = kernel(&far);
        let sent = xdp::RX_FRAMES_MAX + 700;
        for _ in 0..sent {
            kernel.send(&VnetHeader::default(), &[IoSlice::new(&frame_bytes(60))]).unwrap();
        }
        let (mut pool, mut ours) = (FramePool::new(64), 0);
        for _ in 0..xdp::RX_FRAMES_MAX / Batch::MAX + 2 {
            let mut batch = Batch::new();
            rx.recv(&mut pool, &mut batch).unwrap();
            for frame in batch.drain() {
                ours += usize::from(frame.bytes()[6..12] == OURS);
                pool.give(frame);
            }
        }
        assert!(rx.is_drained());
        let lost = || port.losses().iter().map(|loss| loss.overflow.get()).sum::<u64>();
        // Among them perhaps some of the kernel's own.
        assert!(lost() >= (sent - ours) as u64 && lost() < (sent - ours + 20) as u64, "{}", lost());
        assert!(sent - ours >= 690);
    });
}

#[test]
fn down_and_gone_are_told_apart() {
    with_veth(|near, far| {
        let mut port = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        let (mut rx, mut tx) = sides(&mut port);
        let mut pool = FramePool::new(64);
        port.change(DeviceChange::Admin { up: false }).unwrap();
        assert!(!port.link().unwrap().admin_up);
        // That the device is down shows when the first is to be sent: that one waits.
        send(&mut *tx, &mut pool, &frame_bytes(60));
        for n in 61..64 {
            send(&mut *tx, &mut pool, &frame_bytes(n));
            let lost = TxLost { frames: 1, bytes: n as u64, reason: datapath::Drop::TxDown };
            assert_eq!((tx.take_lost(), tx.take_lost()), (Some(lost), None));
        }
        port.change(DeviceChange::Admin { up: true }).unwrap();
        let kernel = kernel(&far);
        send(&mut *tx, &mut pool, &frame_bytes(64));
        assert_eq!([seen(&kernel), seen(&kernel)], [frame_bytes(60), frame_bytes(64)]);
        kernel.send(&VnetHeader::default(), &[IoSlice::new(&frame_bytes(99))]).unwrap();
        assert_eq!(received(&mut *rx, &mut pool, 1)[0].len(), 99);
        Netlink::open().unwrap().delete(index_of(&far)).unwrap();
        assert!(matches!(port.link(), Err(PortError::Gone)));
        for _ in 0..3 {
            tx.send(Frame::from_bytes(&frame_bytes(60)), &mut pool).map_err(|(_, reason)| reason).unwrap();
        }
        assert!(matches!(tx.flush(&mut pool), Err(PortError::Gone)));
        let lost = TxLost { frames: 3, bytes: 180, reason: datapath::Drop::NoPort };
        assert_eq!((tx.take_lost(), tx.take_lost()), (Some(lost), None));
        rx.recv(&mut pool, &mut Batch::new()).unwrap();
    });
}

#[test]
fn nothing_is_allocated_once_it_runs() {
    with_veth(|near, far| {
        let mut port = AfXdpPort::open(&AfXdpConfig::new(near)).unwrap();
        let (mut rx, mut tx) = sides(&mut port);
        let kernel = kernel(&far);
        let mut pool = FramePool::new(64);
        let (mut batch, mut counted, mut moved) = (Batch::new(), 0, 0);
        // More than there are chunks for, so that all are used again.
        for round in 0..200 {
            for _ in 0..Batch::MAX {
                kernel.send(&VnetHeader::default(), &[IoSlice::new(&frame_bytes(60))]).unwrap();
            }
            let before = CountingAllocator::count();
            rx.recv(&mut pool, &mut batch).unwrap();
            moved += batch.len();
            for frame in batch.drain() {
                tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
            }
            tx.flush(&mut pool).unwrap();
            if round >= 5 {
                counted += CountingAllocator::count() - before;
            }
        }
        assert!(CountingAllocator::count() > 0, "the counting allocator is in place");
        assert_eq!((counted, tx.take_lost()), (0, None));
        assert!(moved > 190 * Batch::MAX);
    });
}
