//! The ports on real devices: TAPs and veths in namespaces that only these tests know. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy does not see that of the functions they share"
)]

use datapath::port::{
    AfPacketConfig, AfPacketPort, DeviceChange, Port, PortConfigError, PortError, Rx, TapConfig, TapPort, Tx,
    TxLost,
};
use packet::{Batch, Checksum, Frame, FramePool, PacketKey, Segmentation};
use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use sys::ethtool::{TransmitChecksums, set_transmit_checksums};
use sys::netlink::{AdminState, LinkChange, Netlink};
use sys::netns::{Netns, run_in};
use sys::packet_socket::{PacketOffload, PacketOptions, PacketSocket, VlanTag};
use sys::poll::{Interest, PollToken, Poller};
use sys::tap::{TapLifetime, TapOpen};
use sys::vnet::VnetHeader;
use sys::{IfIndex, IfName};

const LONG: Option<Duration> = Some(Duration::from_secs(10));
const ETHERNET_LEN: usize = 14;
const MTU: usize = 1500;

/// An EtherType for local experiments (IEEE 802 clause 9.2.3): the kernel's own chatter does not have it.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

fn unique() -> IfName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    name(&format!("tp{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Runs a test in a namespace of its own, which goes with all its devices when the test ends.
fn in_namespace(test: impl FnOnce() + Send) {
    run_in(&Netns::new_unnamed().unwrap(), test).unwrap();
}

/// Tries for ten seconds. A child that another test is just starting holds a copy of every descriptor until it executes its
/// program, so that a device which was closed may be in use a moment longer.
fn in_a_moment<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let mut poller = Poller::new().unwrap();
    (0..1_000).find_map(|_| {
        let done = attempt();
        if done.is_none() {
            poller.wait(Some(Duration::from_millis(10)), &mut Vec::new()).unwrap();
        }
        done
    })
}

/// Whether a device goes.
fn goes(name: &IfName) -> bool {
    in_a_moment(|| IfIndex::of(name).is_none().then_some(())).is_some()
}

/// Opens a device that was closed.
fn open_again(config: &TapConfig<'_>) -> TapPort {
    in_a_moment(|| TapPort::open(config).ok()).expect("it can be opened again")
}

fn index_of(name: &IfName) -> IfIndex {
    IfIndex::of(name).unwrap_or_else(|| panic!("no {name} here"))
}

fn frame_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0xaa, 2, 2, 0, 0, 0, 0xaa, 1];
    bytes.extend(EXPERIMENTAL);
    bytes.extend((bytes.len()..len).map(|i| i as u8));
    bytes
}

fn open_tap(admin: AdminState) -> (IfName, TapPort) {
    open_tap_with(admin, true)
}

fn open_tap_with(admin: AdminState, io_uring: bool) -> (IfName, TapPort) {
    let name = unique();
    let config = TapConfig {
        open: TapOpen::CreateNew,
        lifetime: TapLifetime::UntilClosed,
        admin: Some(admin),
        io_uring,
        ..TapConfig::new(name)
    };
    (name, TapPort::open(&config).unwrap())
}

fn veth() -> (IfName, IfName) {
    let (near, far) = (unique(), unique());
    let mut netlink = Netlink::open().unwrap();
    netlink.create_veth(&near, &far).unwrap();
    for end in [near, far] {
        netlink.change(index_of(&end), &LinkChange::default().admin(AdminState::Up)).unwrap();
    }
    (near, far)
}

fn wait_for(rx: &dyn Rx) {
    let mut poller = Poller::new().unwrap();
    poller.add(rx.poll_fd().unwrap(), PollToken(1), Interest::Read).unwrap();
    let mut events = Vec::new();
    poller.wait(LONG, &mut events).unwrap();
    assert!(!events.is_empty(), "nothing happened in time");
}

fn is_experimental(frame: &Frame) -> bool {
    frame.bytes()[12..].windows(2).step_by(4).take(3).any(|type_| type_ == EXPERIMENTAL)
}

/// The next received frame of the experimental EtherType, which may stand behind a VLAN tag.
fn next_frame(rx: &mut dyn Rx, pool: &mut FramePool) -> Frame {
    loop {
        let mut batch = Batch::new();
        rx.recv(pool, &mut batch).unwrap();
        for frame in batch.drain() {
            if is_experimental(&frame) {
                return frame;
            }
        }
        wait_for(rx);
    }
}

/// The next frame that the kernel received on a device, by a socket that is no part of the port.
fn next_seen(socket: &PacketSocket) -> (Vec<u8>, Option<VlanTag>) {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, PollToken(1), Interest::Read).unwrap();
    let (mut events, mut buffer) = (Vec::new(), vec![0; 70_000]);
    loop {
        match socket.recv(&mut buffer) {
            Ok(received) if buffer[12..14] == EXPERIMENTAL => {
                return (buffer[..received.length].to_vec(), received.vlan);
            }
            Ok(_) => {}
            Err(_) => {
                poller.wait(LONG, &mut events).unwrap();
                assert!(!events.is_empty(), "nothing happened in time");
            }
        }
    }
}

fn send(tx: &mut dyn Tx, pool: &mut FramePool, bytes: &[u8]) {
    tx.send(Frame::from_bytes(bytes), pool).map_err(|(_, reason)| reason).unwrap();
    tx.flush(pool).unwrap();
}

/// Why each of several equal frames that were taken was not sent.
fn lost(tx: &mut dyn Tx, pool: &mut FramePool, frame: Frame, count: u64) -> datapath::Drop {
    let bytes = frame.len() as u64 * count;
    for _ in 0..count {
        tx.send(pool.copy_of(&frame), pool).map_err(|(_, reason)| reason).unwrap();
    }
    tx.flush(pool).unwrap();
    let lost = tx.take_lost().unwrap();
    assert_eq!((lost.frames, lost.bytes, tx.take_lost()), (count, bytes, None));
    lost.reason
}

#[test]
fn tap_carries_bytes_unchanged() {
    for io_uring in [true, false] {
        in_namespace(|| {
            let (name, mut port) = open_tap_with(AdminState::Up, io_uring);
            let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
            assert!(port.take_rx().is_empty());
            let kernel = PacketSocket::open(index_of(&name), PacketOptions::default()).unwrap();
            let mut pool = FramePool::new(64);
            for len in [14, 60, 61, 1000, ETHERNET_LEN + MTU] {
                let bytes = frame_bytes(len);
                kernel.send(&VnetHeader::default(), &[IoSlice::new(&bytes)]).unwrap();
                let frame = next_frame(&mut *rx, &mut pool);
                assert_eq!(frame.bytes(), bytes);
                assert_eq!((frame.checksum, frame.segmentation), (Checksum::Unknown, Segmentation::None));
                send(&mut *tx, &mut pool, &bytes);
                assert_eq!(next_seen(&kernel), (bytes, None));
            }
            // Several at a time, more than go with one call, keep their order.
            let many = (0..75).map(|n| frame_bytes(60 + n));
            for bytes in many.clone() {
                tx.send(Frame::from_bytes(&bytes), &mut pool).map_err(|(_, reason)| reason).unwrap();
            }
            tx.flush(&mut pool).unwrap();
            assert_eq!(tx.take_lost(), None);
            many.for_each(|bytes| assert_eq!(next_seen(&kernel), (bytes, None)));
        });
    }
}

/// Of many frames only the first two come by themselves, with or without a ring: who has much to say is not taken for one with little.
#[test]
fn full_batch_leaves_the_rest_for_the_next() {
    for (io_uring, sizes) in [(true, &[1, 1, 2, 4, 8, 16, 32][..]), (false, &[1, 1, 32, 32])] {
        in_namespace(|| {
            let (name, mut port) = open_tap_with(AdminState::Up, io_uring);
            let mut rx = port.take_rx().pop().unwrap();
            let kernel = PacketSocket::open(index_of(&name), PacketOptions::default()).unwrap();
            let mut pool = FramePool::new(64);
            let count = Batch::MAX * 2 + 5;
            for i in 0..count {
                kernel.send(&VnetHeader::default(), &[IoSlice::new(&frame_bytes(60 + i))]).unwrap();
            }
            let (mut lens, mut received) = (Vec::new(), Vec::new());
            while lens.len() < count {
                let mut batch = Batch::new();
                rx.recv(&mut pool, &mut batch).unwrap();
                received.push(batch.len());
                if batch.is_empty() {
                    wait_for(&*rx);
                }
                for frame in batch.drain() {
                    if frame.bytes()[12..14] == EXPERIMENTAL {
                        lens.push(frame.len());
                    }
                    pool.give(frame);
                }
            }
            assert_eq!(lens, (60..60 + count).collect::<Vec<_>>());
            assert_eq!(received.get(..sizes.len()), Some(sizes));
            assert!(pool.len() <= Batch::MAX, "buffers are used again");
        });
    }
}

#[test]
fn tap_that_is_down_drops_and_works_again_when_up() {
    for io_uring in [true, false] {
        in_namespace(|| {
            let (name, mut port) = open_tap_with(AdminState::Down, io_uring);
            let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
            let mut pool = FramePool::new(4);
            for count in [1, 3, 40] {
                let frame = Frame::from_bytes(&frame_bytes(60));
                assert_eq!(lost(&mut *tx, &mut pool, frame, count), datapath::Drop::TxDown);
            }
            rx.recv(&mut pool, &mut Batch::new()).unwrap();
            let report = port.link().unwrap();
            assert_eq!((report.admin_up, report.carrier, report.driver.as_str()), (false, false, "tun"));
            port.change(DeviceChange::Admin { up: true }).unwrap();
            port.change(DeviceChange::Mtu(1400)).unwrap();
            port.change(DeviceChange::Mac([2, 0, 0, 0, 0, 7])).unwrap();
            let report = port.link().unwrap();
            assert_eq!((report.admin_up, report.carrier, report.mtu), (true, true, Some(1400)));
            assert_eq!((report.name, report.mac), (name.to_string(), Some([2, 0, 0, 0, 0, 7])));
            send(&mut *tx, &mut pool, &frame_bytes(60));
            assert_eq!(port.link().unwrap().kernel.unwrap().tx_packets, 1);
            assert!(matches!(port.change(DeviceChange::Mtu(1)), Err(PortConfigError::Netlink(_))));
        });
    }
}

#[test]
fn persistent_tap_survives_and_discarded_one_goes() {
    in_namespace(|| {
        let config = TapConfig::new(unique());
        let mut port = TapPort::open(&config).unwrap();
        assert!(matches!(TapPort::open(&config), Err(PortConfigError::Tap(_))), "in use");
        let rx = port.take_rx();
        drop(port);
        assert!(TapPort::open(&config).is_err(), "a side is still in use");
        drop(rx);
        assert!(IfIndex::of(&config.name).is_some());
        let mut again = open_again(&config);
        again.discard().unwrap();
        drop(again);
        assert!(goes(&config.name));
    });
}

#[test]
fn failed_open_leaves_no_device() {
    in_namespace(|| {
        let config = TapConfig { mtu: Some(20), ..TapConfig::new(unique()) };
        assert!(TapPort::open(&config).is_err());
        assert!(goes(&config.name));
    });
}

#[test]
fn tap_in_a_pod_is_found_again_and_dies_with_the_pod() {
    in_namespace(|| {
        let pod = Netns::new_unnamed().unwrap();
        let config = TapConfig { netns: Some(&pod), admin: Some(AdminState::Up), ..TapConfig::new(unique()) };
        let mut port = TapPort::open(&config).unwrap();
        assert!(IfIndex::of(&config.name).is_none(), "moved away");
        assert!(run_in(&pod, || IfIndex::of(&config.name)).unwrap().is_some());
        let report = port.link().unwrap();
        assert!(report.elsewhere && report.admin_up && report.carrier);
        port.change(DeviceChange::Mtu(1300)).unwrap();
        assert_eq!(port.link().unwrap().mtu, Some(1300));
        // The next start of the daemon finds it where it is.
        drop(port);
        let mut port = open_again(&config);
        assert_eq!(port.link().unwrap().mtu, Some(1300));
        port.discard().unwrap();
        drop(port);
        assert!(run_in(&pod, || goes(&config.name)).unwrap());
        // And the pod's end is noticed, with traffic or without.
        let mut port = TapPort::open(&config).unwrap();
        let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
        let mut pool = FramePool::new(4);
        drop(pod);
        wait_for(&*rx);
        loop {
            match rx.recv(&mut pool, &mut Batch::new()) {
                Ok(()) => {}
                Err(error) => break assert!(matches!(error, PortError::Gone), "{error}"),
            }
        }
        tx.send(Frame::from_bytes(&frame_bytes(60)), &mut pool).unwrap();
        assert!(matches!(tx.flush(&mut pool), Err(PortError::Gone)));
        let lost = TxLost { frames: 1, bytes: 60, reason: datapath::Drop::NoPort };
        assert_eq!((tx.take_lost(), tx.take_lost()), (Some(lost), None));
        assert!(matches!(port.link(), Err(PortError::Gone)));
    });
}

#[test]
fn tap_with_several_queues_has_a_side_for_each() {
    in_namespace(|| {
        let config = TapConfig { queues: 3, lifetime: TapLifetime::UntilClosed, ..TapConfig::new(unique()) };
        let mut port = TapPort::open(&config).unwrap();
        assert_eq!(port.take_rx().len(), 3);
        for _ in 0..4 {
            port.new_tx().unwrap();
        }
    });
}

#[test]
fn deleted_tap_is_gone() {
    in_namespace(|| {
        let (name, mut port) = open_tap(AdminState::Up);
        let mut rx = port.take_rx().pop().unwrap();
        Netlink::open().unwrap().delete(index_of(&name)).unwrap();
        wait_for(&*rx);
        let mut pool = FramePool::new(4);
        assert!(matches!(rx.recv(&mut pool, &mut Batch::new()), Err(PortError::Gone)));
    });
}

#[test]
fn af_packet_carries_bytes_and_tags_unchanged() {
    in_namespace(|| {
        for offload in [PacketOffload::IfPossible, PacketOffload::Never] {
            let (near, far) = veth();
            let config = AfPacketConfig { offload, ..AfPacketConfig::new(near) };
            let mut port = AfPacketPort::open(&config).unwrap();
            let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
            let kernel = PacketSocket::open(index_of(&far), PacketOptions::default()).unwrap();
            let mut pool = FramePool::new(4);
            let plain = frame_bytes(ETHERNET_LEN + MTU);
            let tagged = |tags: &[u8]| [&plain[..12], tags, &plain[12..1000]].concat();
            let single = tagged(&[0x81, 0, 0x60, 0x64]);
            let double = tagged(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]);
            for bytes in [&plain, &single, &double] {
                kernel.send(&VnetHeader::default(), &[IoSlice::new(bytes)]).unwrap();
                assert_eq!(next_frame(&mut *rx, &mut pool).bytes(), bytes.as_slice());
            }
            send(&mut *tx, &mut pool, &plain);
            assert_eq!(next_seen(&kernel), (plain.clone(), None));
            send(&mut *tx, &mut pool, &single);
            let tag = VlanTag { tpid: 0x8100, tci: 0x6064 };
            assert_eq!(next_seen(&kernel), ([&single[..12], &single[16..]].concat(), Some(tag)));
            // Too long for the wire and nothing to cut it by.
            let long = Frame::from_bytes(&frame_bytes(5000));
            assert_eq!(lost(&mut *tx, &mut pool, long, 1), datapath::Drop::TxTooBig);
            assert_eq!(port.link().unwrap().driver, "veth");
        }
    });
}

#[test]
fn af_packet_keeps_the_order_of_many_and_knows_when_there_are_no_more() {
    in_namespace(|| {
        for offload in [PacketOffload::IfPossible, PacketOffload::Never] {
            let (near, far) = veth();
            let mut port =
                AfPacketPort::open(&AfPacketConfig { offload, ..AfPacketConfig::new(near) }).unwrap();
            let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
            let kernel = PacketSocket::open(index_of(&far), PacketOptions::default()).unwrap();
            let mut pool = FramePool::new(64);
            let many: Vec<_> = (0..Batch::MAX * 2 + 11).map(|n| frame_bytes(60 + n)).collect();
            for bytes in &many {
                kernel.send(&VnetHeader::default(), &[IoSlice::new(bytes)]).unwrap();
            }
            let (mut received, mut largest) = (Vec::new(), 0);
            while received.len() < many.len() {
                let mut batch = Batch::new();
                rx.recv(&mut pool, &mut batch).unwrap();
                largest = largest.max(batch.len());
                if batch.is_empty() {
                    assert!(rx.is_drained());
                    wait_for(&*rx);
                }
                for frame in batch.drain() {
                    received.extend(is_experimental(&frame).then(|| frame.bytes().to_vec()));
                    pool.give(frame);
                }
            }
            assert_eq!(received, many);
            assert!(largest > 1, "several at a time");
            assert!(pool.len() <= Batch::MAX, "buffers are used again");
            // What is refused is lost alone: in the middle, at the end of what goes with one call, and twice in a row.
            let refused = [10, 31, 32];
            for (n, bytes) in many.iter().enumerate() {
                let bytes = if refused.contains(&n) { &frame_bytes(5000 + n) } else { bytes };
                tx.send(Frame::from_bytes(bytes), &mut pool).map_err(|(_, reason)| reason).unwrap();
            }
            tx.flush(&mut pool).unwrap();
            let lost = TxLost { frames: 3, bytes: 15_073, reason: datapath::Drop::TxTooBig };
            assert_eq!((tx.take_lost(), tx.take_lost()), (Some(lost), None));
            for (n, bytes) in many.iter().enumerate().filter(|(n, _)| !refused.contains(n)) {
                assert_eq!(next_seen(&kernel), (bytes.clone(), None), "{n}");
            }
        }
    });
}

#[test]
fn frame_that_the_kernel_cannot_take_as_it_is_keeps_its_place() {
    in_namespace(|| {
        let (near, far) = veth();
        let mut port = AfPacketPort::open(&AfPacketConfig::new(near)).unwrap();
        let mut tx = port.new_tx().unwrap();
        let kernel = PacketSocket::open(index_of(&far), PacketOptions::default()).unwrap();
        let mut pool = FramePool::new(64);
        for n in 0..5 {
            let mut frame = Frame::from_bytes(&frame_bytes(60 + n));
            if n == 2 {
                frame.checksum = Checksum::Partial { start: 1000, offset: 2 };
            }
            tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
        }
        tx.flush(&mut pool).unwrap();
        assert_eq!(tx.take_lost(), None);
        (0..5).for_each(|n| assert_eq!(next_seen(&kernel), (frame_bytes(60 + n), None)));
    });
}

const SEGMENT_LEN: usize = 1000;

/// A TCP segment of a stream, the `n`th of its length.
fn segment(n: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..SEGMENT_LEN).map(|i| (i * 7 + n) as u8).collect();
    let mut header = etherparse::Ipv4Header::new(
        20 + SEGMENT_LEN as u16,
        64,
        etherparse::IpNumber::TCP,
        [10, 0, 0, 1],
        [10, 0, 0, 2],
    )
    .unwrap();
    header.dont_fragment = true;
    let mut bytes = Vec::new();
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0xaa, 1], [2, 0, 0, 0, 0xaa, 2])
        .ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        .tcp(12345, 80, (n * SEGMENT_LEN) as u32, 1024)
        .ack(7);
    builder.write(&mut bytes, &payload).unwrap();
    bytes
}

/// Sends segments of a stream through a port, and gives what another on the wire's other end receives.
fn send_segments(count: usize, from: PacketOffload, to: PacketOffload) -> Vec<Frame> {
    send_segments_through(veth(), count, from, to)
}

fn send_segments_through(
    (near, far): (IfName, IfName),
    count: usize,
    from: PacketOffload,
    to: PacketOffload,
) -> Vec<Frame> {
    let open =
        |name, offload| AfPacketPort::open(&AfPacketConfig { offload, ..AfPacketConfig::new(name) }).unwrap();
    let (mut near, mut far) = (open(near, from), open(far, to));
    let (mut tx, mut rx) = (near.new_tx().unwrap(), far.take_rx().pop().unwrap());
    let mut pool = FramePool::new(64);
    for n in 0..count {
        let mut frame = pool.take();
        frame.append(&segment(n)).unwrap();
        PacketKey::extract(&mut frame).unwrap();
        tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
    }
    tx.flush(&mut pool).unwrap();
    assert_eq!(tx.take_lost(), None);
    let (mut all, mut payload) = (Vec::new(), 0);
    while payload < count * SEGMENT_LEN {
        let mut batch = Batch::new();
        rx.recv(&mut pool, &mut batch).unwrap();
        if batch.is_empty() {
            wait_for(&*rx);
        }
        for mut frame in batch.drain().filter(|f| f.bytes()[12..14] == [8, 0]) {
            PacketKey::extract(&mut frame).unwrap();
            frame.validate_offload().unwrap();
            payload += frame.len() - HEADERS_LEN;
            all.push(frame);
        }
    }
    all
}

/// Ethernet, IPv4 and TCP.
const HEADERS_LEN: usize = 54;

#[test]
fn segments_of_a_stream_cross_joined_and_are_the_same_when_cut() {
    in_namespace(|| {
        let received = send_segments(100, PacketOffload::IfPossible, PacketOffload::IfPossible);
        let sizes: Vec<_> = received.iter().map(|f| (f.len() - HEADERS_LEN) / SEGMENT_LEN).collect();
        assert_eq!(sizes, [65, 35], "as long as IP allows");
        let mut pool = FramePool::new(64);
        let mut n = 0;
        for frame in received {
            let mut segments = packet::segment::Segments::new(frame).unwrap();
            while let Some(cut) = segments.next_segment(&mut pool) {
                let sent = segment(n);
                // Except for the identification, which means nothing with DF, and is counted by cutting.
                assert_eq!(cut.bytes()[..14], sent[..14]);
                assert_eq!(cut.bytes()[34..], sent[34..], "segment {n}");
                assert!(cut.verify_ipv4_header());
                n += 1;
            }
        }
        assert_eq!(n, 100);
    });
}

#[test]
fn super_frames_for_a_device_that_cannot_cut_them_are_not_lost() {
    in_namespace(|| {
        // The end that is switched on last has its queue at once, not only when the kernel comes round to it.
        let (far, near) = veth();
        set_transmit_checksums(&near, TransmitChecksums::Kernel).unwrap();
        let received =
            send_segments_through((near, far), 100, PacketOffload::IfPossible, PacketOffload::IfPossible);
        assert_eq!(received.len(), 100);
        for (n, frame) in received.iter().enumerate() {
            assert_eq!(frame.bytes()[34..], segment(n)[34..], "segment {n}");
        }
    });
}

#[test]
fn segments_of_a_stream_cross_unchanged_without_virtio_net_header() {
    in_namespace(|| {
        for to in [PacketOffload::IfPossible, PacketOffload::Never] {
            let received = send_segments(100, PacketOffload::Never, to);
            let received: Vec<_> = received.iter().map(|f| f.bytes().to_vec()).collect();
            assert_eq!(received, (0..100).map(segment).collect::<Vec<_>>());
        }
    });
}

#[test]
fn device_without_ethernet_frames_is_refused() {
    in_namespace(|| {
        let name = unique();
        // ip(8) has a mode that makes a device of IP packets.
        let made = std::process::Command::new("ip")
            .args(["tuntap", "add", "dev", name.as_str(), "mode", "tun"])
            .status()
            .unwrap();
        assert!(made.success());
        let error = AfPacketPort::open(&AfPacketConfig::new(name)).unwrap_err();
        assert_eq!(error.to_string(), format!("{name}: not an Ethernet device"));
    });
}

#[test]
fn af_packet_tells_down_from_gone() {
    in_namespace(|| {
        let (near, far) = veth();
        let mut port = AfPacketPort::open(&AfPacketConfig::new(near)).unwrap();
        let (mut rx, mut tx) = (port.take_rx().pop().unwrap(), port.new_tx().unwrap());
        let mut pool = FramePool::new(4);
        let failure = |rx: &mut dyn Rx, pool: &mut FramePool| {
            loop {
                if let Err(error) = rx.recv(pool, &mut Batch::new()) {
                    return error;
                }
                wait_for(rx);
            }
        };
        port.change(DeviceChange::Admin { up: false }).unwrap();
        assert!(matches!(failure(&mut *rx, &mut pool), PortError::Down));
        assert!(!port.link().unwrap().admin_up);
        for count in [1, 3, 40] {
            let frame = Frame::from_bytes(&frame_bytes(60));
            assert_eq!(lost(&mut *tx, &mut pool, frame, count), datapath::Drop::TxDown);
        }
        port.change(DeviceChange::Admin { up: true }).unwrap();
        let kernel = PacketSocket::open(index_of(&far), PacketOptions::default()).unwrap();
        kernel.send(&VnetHeader::default(), &[IoSlice::new(&frame_bytes(99))]).unwrap();
        assert_eq!(next_frame(&mut *rx, &mut pool).len(), 99);
        Netlink::open().unwrap().delete(index_of(&far)).unwrap();
        // Going away includes going down first; both may be seen.
        loop {
            match failure(&mut *rx, &mut pool) {
                PortError::Gone => break,
                PortError::Down => {}
                other => panic!("{other}"),
            }
        }
        for _ in 0..3 {
            tx.send(Frame::from_bytes(&frame_bytes(60)), &mut pool).unwrap();
        }
        assert!(matches!(tx.flush(&mut pool), Err(PortError::Gone)));
        let lost = TxLost { frames: 3, bytes: 180, reason: datapath::Drop::NoPort };
        assert_eq!((tx.take_lost(), tx.take_lost()), (Some(lost), None));
        assert!(matches!(port.link(), Err(PortError::Gone)));
        assert!(matches!(
            AfPacketPort::open(&AfPacketConfig::new(near)),
            Err(PortConfigError::NoDevice(text)) if text == near.to_string()
        ));
    });
}

/// What went over a wire between two ports.
#[derive(Default)]
struct Traffic {
    longest: AtomicUsize,
    segmented: AtomicUsize,
    partial: AtomicUsize,
}

/// A switch of two ports and no rules: what comes in here goes out there, validated as a worker does it.
fn forward(ports: &mut [Box<dyn Port>; 2], traffic: &Traffic, stop: &AtomicBool, poller: &mut Poller) {
    let [mut left, mut right] =
        [0, 1].map(|i| (ports[i].take_rx().pop().unwrap(), ports[i].new_tx().unwrap()));
    for (token, side) in [(0, &left), (1, &right)] {
        poller.add(side.0.poll_fd().unwrap(), PollToken(token), Interest::Read).unwrap();
    }
    let (mut pool, mut batch, mut events) = (FramePool::new(64), Batch::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        poller.wait(LONG, &mut events).unwrap();
        for (rx, tx) in [(&mut left.0, &mut right.1), (&mut right.0, &mut left.1)] {
            rx.recv(&mut pool, &mut batch).unwrap();
            for mut frame in batch.drain() {
                PacketKey::extract(&mut frame).unwrap();
                frame.validate_offload().unwrap();
                traffic.longest.fetch_max(frame.len(), Ordering::Relaxed);
                let is_segmented = frame.segmentation != Segmentation::None;
                traffic.segmented.fetch_add(usize::from(is_segmented), Ordering::Relaxed);
                let is_partial = matches!(frame.checksum, Checksum::Partial { .. });
                traffic.partial.fetch_add(usize::from(is_partial), Ordering::Relaxed);
                if let Err((frame, _)) = tx.send(frame, &mut pool) {
                    pool.give(frame);
                }
            }
            tx.flush(&mut pool).unwrap();
        }
    }
}

fn ipv4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, last).into()
}

fn ipv6(last: u8) -> IpAddr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, last.into()).into()
}

fn set_address(netns: &Netns, name: &IfName, last: u8) {
    run_in(netns, || {
        let mut netlink = Netlink::open().unwrap();
        let index = index_of(name);
        // Duplicate address detection takes a second in which the address is of no use.
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
        netlink.change(index, &LinkChange::default().admin(AdminState::Up)).unwrap();
        netlink.add_address(index, ipv4(last), 24).unwrap();
        netlink.add_address(index, ipv6(last), 64).unwrap();
    })
    .unwrap();
}

fn tap_in(pod: &Netns, last: u8) -> Box<dyn Port> {
    let config = TapConfig {
        netns: Some(pod),
        lifetime: TapLifetime::UntilClosed,
        admin: Some(AdminState::Up),
        ..TapConfig::new(unique())
    };
    let port = TapPort::open(&config).unwrap();
    set_address(pod, &config.name, last);
    Box::new(port)
}

fn veth_into(pod: &Netns, last: u8, offload: PacketOffload) -> Box<dyn Port> {
    let (near, far) = veth();
    let index = index_of(&far);
    Netlink::open().unwrap().change(index, &LinkChange::default().netns(pod)).unwrap();
    set_address(pod, &far, last);
    Box::new(AfPacketPort::open(&AfPacketConfig { offload, ..AfPacketConfig::new(near) }).unwrap())
}

/// Sends `len` bytes from the first pod to the address `to` in the second through the ports, and back again if both directions
/// are wanted; checks every byte.
fn transfer(
    pods: &[Netns; 2],
    ports: &mut [Box<dyn Port>; 2],
    to: IpAddr,
    (len, direction): (usize, Direction),
) -> Traffic {
    let traffic = Traffic::default();
    let stop = AtomicBool::new(false);
    let mut poller = Poller::new().unwrap();
    let waker = poller.waker();
    let data: Vec<u8> = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
    let to = SocketAddr::new(to, 7777);
    let listener = run_in(&pods[1], || TcpListener::bind(to).unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| forward(ports, &traffic, &stop, &mut poller));
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(LONG).unwrap();
            let mut received = vec![0; len];
            stream.read_exact(&mut received).unwrap();
            assert!(received == data, "what arrived is not what was sent");
            if direction == Direction::Both {
                stream.write_all(&received).unwrap();
            }
            // Until the other side has all of it.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
        let client = run_in(&pods[0], || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap();
            stream.set_read_timeout(LONG).unwrap();
            stream.write_all(&data).unwrap();
            if direction == Direction::Both {
                let mut received = vec![0; len];
                stream.read_exact(&mut received).unwrap();
                assert!(received == data, "what came back is not what was sent");
            }
        });
        let served = client.is_ok().then(|| server.join());
        stop.store(true, Ordering::SeqCst);
        waker.wake();
        client.unwrap();
        served.unwrap().unwrap();
    });
    traffic
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    There,
    Both,
}

fn pods() -> [Netns; 2] {
    [Netns::new_unnamed().unwrap(), Netns::new_unnamed().unwrap()]
}

#[test]
fn super_frames_cross_from_tap_to_tap_in_one_piece() {
    for to in [ipv4(2), ipv6(2)] {
        in_namespace(|| {
            let pods = pods();
            let mut ports = [tap_in(&pods[0], 1), tap_in(&pods[1], 2)];
            let traffic = transfer(&pods, &mut ports, to, (8 << 20, Direction::Both));
            assert!(traffic.longest.into_inner() > 10 * MTU);
            assert!(traffic.segmented.into_inner() > 0 && traffic.partial.into_inner() > 0);
        });
    }
}

#[test]
fn super_frames_cross_between_tap_and_veth() {
    in_namespace(|| {
        let pods = pods();
        let mut ports = [tap_in(&pods[0], 1), veth_into(&pods[1], 2, PacketOffload::IfPossible)];
        let traffic = transfer(&pods, &mut ports, ipv4(2), (8 << 20, Direction::Both));
        assert!(traffic.longest.into_inner() > 10 * MTU);
    });
}

#[test]
fn super_frames_cross_between_veths() {
    for to in [ipv4(2), ipv6(2)] {
        in_namespace(|| {
            let pods = pods();
            let mut ports = [1, 2].map(|n| veth_into(&pods[n - 1], n as u8, PacketOffload::IfPossible));
            let traffic = transfer(&pods, &mut ports, to, (8 << 20, Direction::Both));
            assert!(traffic.longest.into_inner() > 10 * MTU);
            assert!(traffic.segmented.into_inner() > 0 && traffic.partial.into_inner() > 0);
        });
    }
}

#[test]
fn super_frames_are_cut_for_a_port_without_virtio_net_header() {
    for to in [ipv4(2), ipv6(2)] {
        in_namespace(|| {
            let pods = pods();
            let mut ports = [tap_in(&pods[0], 1), veth_into(&pods[1], 2, PacketOffload::Never)];
            // Only this way: a veth gives super-frames to a socket that cannot be told how to cut them.
            let traffic = transfer(&pods, &mut ports, to, (4 << 20, Direction::There));
            assert!(traffic.segmented.into_inner() > 0, "there were super-frames to cut");
            let seen = ports[1].link().unwrap().kernel.unwrap();
            assert!(seen.tx_bytes / seen.tx_packets <= (ETHERNET_LEN + MTU) as u64);
        });
    }
}

#[test]
fn checksum_of_a_frame_that_only_claims_to_be_partial_is_refused() {
    for io_uring in [true, false] {
        in_namespace(|| {
            let (_, mut port) = open_tap_with(AdminState::Up, io_uring);
            let mut tx = port.new_tx().unwrap();
            let mut pool = FramePool::new(4);
            let mut frame = Frame::from_bytes(&frame_bytes(60));
            frame.segmentation = Segmentation::UdpL4 { size: 10 };
            assert_eq!(tx.send(frame, &mut pool).unwrap_err().1, datapath::Drop::BadOffload);
            let mut frame = Frame::from_bytes(&frame_bytes(60));
            frame.checksum = Checksum::Partial { start: 1000, offset: 2 };
            assert_eq!(lost(&mut *tx, &mut pool, frame, 1), datapath::Drop::TxError);
            send(&mut *tx, &mut pool, &frame_bytes(60));
        });
    }
}
