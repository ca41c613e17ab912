//! TAPs with several queues, in namespaces that only these tests know. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; clippy does not see that of the functions they share"
)]

use datapath::port::{Port, PortConfigError, Rx, TapConfig, TapPort};
use packet::{Batch, Frame, FramePool};
use std::io::IoSlice;
use std::time::Duration;
use sys::netlink::{AdminState, LinkChange, Netlink};
use sys::netns::{Netns, run_in};
use sys::packet_socket::PacketSocket;
use sys::poll::{Interest, PollToken, Poller};
use sys::tap::{TapLifetime, TapOpen};
use sys::vnet::VnetHeader;
use sys::{IfIndex, IfName};

/// Flows that the device is sent frames of; enough for two queues or more to get some each.
const FLOWS: u16 = 48;

fn name(text: &str) -> IfName {
    IfName::new(&format!("{text}{:x}", std::process::id())).unwrap()
}

/// Runs a test in a namespace of its own, which goes with all its devices when the test ends.
fn in_namespace(test: impl FnOnce() + Send) {
    run_in(&Netns::new_unnamed().unwrap(), test).unwrap();
}

/// A frame of a flow: UDP over IPv4, from a port of the flow's number.
fn datagram(flow: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 8, 7, 10, 9, 8, 6]);
    frame.extend(flow.to_be_bytes());
    frame.extend([0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

fn flow_of(frame: &[u8]) -> Option<u16> {
    let is_ours = frame.get(26..30)? == [10, 9, 8, 7];
    is_ours.then(|| u16::from_be_bytes([frame[34], frame[35]]))
}

/// Sends one frame of each flow out of the device, from where it is.
fn send_all(netns: &Netns, device: &IfName) {
    run_in(netns, || {
        let index = IfIndex::of(device).unwrap();
        let socket = PacketSocket::open(index, Default::default()).unwrap();
        for flow in 0..FLOWS {
            socket.send(&VnetHeader::default(), &[IoSlice::new(&datagram(flow))]).unwrap();
        }
    })
    .unwrap();
}

/// Receives until every flow has come, and says by which side each did.
fn receive_all(sides: &mut [Box<dyn Rx>]) -> Vec<usize> {
    let mut came = vec![None; FLOWS.into()];
    let (mut pool, mut batch) = (FramePool::new(64), Batch::new());
    let mut poller = Poller::new().unwrap();
    for (n, rx) in sides.iter().enumerate() {
        poller.add(rx.poll_fd().unwrap(), PollToken(n as u64), Interest::Read).unwrap();
    }
    while came.contains(&None) {
        let mut events = Vec::new();
        poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
        assert!(!events.is_empty(), "{came:?} after five seconds");
        for (n, rx) in sides.iter_mut().enumerate() {
            rx.recv(&mut pool, &mut batch).unwrap();
            for frame in batch.drain() {
                if let Some(flow) = flow_of(frame.bytes()) {
                    assert_eq!(came[usize::from(flow)].replace(n), None, "flow {flow} came twice");
                }
                pool.give(frame);
            }
        }
    }
    came.into_iter().flatten().collect()
}

fn up(netns: &Netns, device: &IfName) {
    run_in(netns, || {
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link_by_name(device).unwrap().unwrap();
        netlink.change(link.index, &LinkChange::default().admin(AdminState::Up)).unwrap();
    })
    .unwrap();
}

fn sides_used(came: &[usize]) -> Vec<usize> {
    let mut sides = came.to_vec();
    sides.sort_unstable();
    sides.dedup();
    sides
}

#[test]
fn queues_come_and_go_while_the_device_stays_in_a_pod() {
    in_namespace(|| {
        let pod = Netns::new_unnamed().unwrap();
        let device = name("qa");
        let config = TapConfig {
            queues: 2,
            lifetime: TapLifetime::UntilClosed,
            netns: Some(&pod),
            ..TapConfig::new(device)
        };
        let mut port = TapPort::open(&config).unwrap();
        up(&pod, &device);
        let mut sides = port.take_rx();
        assert_eq!((sides.len(), port.rx_count()), (2, 2));
        send_all(&pod, &device);
        let came = receive_all(&mut sides);
        assert_eq!(sides_used(&came), [0, 1]);
        // The same flows come the same way, whatever is sent to the device meanwhile.
        let (mut tx, mut pool) = (port.new_tx().unwrap(), FramePool::new(4));
        for flow in 0..FLOWS {
            let mut reply = datagram(flow);
            reply[26..34].copy_from_slice(&[10, 9, 8, 6, 10, 9, 8, 7]);
            reply[34..38].copy_from_slice(&[0, 9, flow.to_be_bytes()[0], flow.to_be_bytes()[1]]);
            tx.send(Frame::from_bytes(&reply), &mut pool).unwrap();
            tx.flush(&mut pool).unwrap();
        }
        assert_eq!(tx.take_lost(), None);
        send_all(&pod, &device);
        assert_eq!(receive_all(&mut sides), came);
        // More, and less again, twice; four are more than were asked for at first.
        for _ in 0..2 {
            sides.extend(port.set_rx_count(4).unwrap());
            assert_eq!((sides.len(), port.rx_count()), (4, 4));
            send_all(&pod, &device);
            assert_eq!(sides_used(&receive_all(&mut sides)), [0, 1, 2, 3]);
            sides.truncate(1);
            assert!(port.set_rx_count(1).unwrap().is_empty());
            send_all(&pod, &device);
            assert_eq!(sides_used(&receive_all(&mut sides)), [0]);
        }
        // More than are kept ready: they are opened where the device is.
        sides.extend(port.set_rx_count(11).unwrap());
        assert_eq!((sides.len(), port.losses().len()), (11, 11));
        send_all(&pod, &device);
        receive_all(&mut sides);
    });
}

#[test]
fn a_device_of_one_queue_says_so_and_goes_on() {
    in_namespace(|| {
        let here = Netns::current().unwrap();
        let device = name("qb");
        let mut port = TapPort::open(&TapConfig::new(device)).unwrap();
        assert!(matches!(port.set_rx_count(2), Err(PortConfigError::OneQueue(_))));
        assert!(port.set_rx_count(1).unwrap().is_empty());
        up(&here, &device);
        let mut sides = port.take_rx();
        send_all(&here, &device);
        receive_all(&mut sides);
        drop((port, sides));
        // It is attached to as what it is, also by who would have more, and the other way round.
        let wanted = TapConfig { queues: 3, open: TapOpen::Attach, ..TapConfig::new(device) };
        let mut port = reopened(&wanted);
        assert_eq!((port.rx_count(), port.take_rx().len()), (1, 1));
        let other = name("qc");
        let several = TapConfig { queues: 3, ..TapConfig::new(other) };
        drop(TapPort::open(&several).unwrap());
        let mut port = reopened(&TapConfig::new(other));
        assert_eq!(port.rx_count(), 1);
        assert_eq!(port.set_rx_count(3).unwrap().len(), 2);
        up(&here, &other);
        port.discard().unwrap();
    });
}

/// Opens a device again that was just closed. A child that another test is starting holds a copy of the descriptors until it
/// executes its program.
fn reopened(config: &TapConfig<'_>) -> TapPort {
    let mut poller = Poller::new().unwrap();
    for _ in 0..100 {
        if let Ok(port) = TapPort::open(config) {
            return port;
        }
        poller.wait(Some(Duration::from_millis(10)), &mut Vec::new()).unwrap();
    }
    TapPort::open(config).unwrap()
}

/// A ring belongs to the thread that made it: the next one makes its own, and gets what the first has left.
#[test]
fn a_side_that_has_a_ring_goes_to_another_thread() {
    for io_uring in [true, false] {
        in_namespace(move || {
            let here = Netns::current().unwrap();
            let device = name(if io_uring { "qd" } else { "qe" });
            let config = TapConfig { io_uring, lifetime: TapLifetime::UntilClosed, ..TapConfig::new(device) };
            let mut port = TapPort::open(&config).unwrap();
            up(&here, &device);
            let mut rx = port.take_rx().pop().unwrap();
            for _ in 0..5 {
                send_all(&here, &device);
                // Some of them on this thread, so much that a ring is used.
                let (mut pool, mut batch) = (FramePool::new(64), Batch::new());
                let mut flows = Vec::new();
                while flows.len() < 20 {
                    rx.recv(&mut pool, &mut batch).unwrap();
                    flows.extend(batch.drain().filter_map(|frame| flow_of(frame.bytes())));
                }
                rx.leave_thread();
                let (back, rest) = std::thread::scope(|scope| {
                    let other = scope.spawn(move || {
                        let (mut pool, mut batch) = (FramePool::new(64), Batch::new());
                        let mut flows = Vec::new();
                        loop {
                            rx.recv(&mut pool, &mut batch).unwrap();
                            flows.extend(batch.frames().iter().filter_map(|frame| flow_of(frame.bytes())));
                            if batch.drain().count() == 0 {
                                rx.leave_thread();
                                return (rx, flows);
                            }
                        }
                    });
                    other.join().unwrap()
                });
                rx = back;
                flows.extend(rest);
                assert_eq!(flows, (0..FLOWS).collect::<Vec<_>>());
            }
        });
    }
}
