//! On veth pairs in namespaces of their own: an AF_XDP socket on one end, a packet socket on the other.

use super::*;
use crate::IfName;
use crate::affinity::ThreadId;
use crate::netlink::{AdminState, LinkChange, Netlink};
use crate::packet_socket::{FRAMES_MAX, PacketOffload, PacketOptions, PacketSocket};
use crate::poll::{Interest, PollToken, Poller};
use crate::scratch::{Scratch, in_a_moment};
use crate::vnet::VnetHeader;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::time::Duration;

// The kernel sends its own neighbour discovery through a fresh veth: ours are told by their source address.
const OURS: [u8; 6] = [2, 0, 0, 0xbe, 0xef, 1];

fn pair() -> (IfIndex, IfIndex) {
    let mut netlink = Netlink::open().unwrap();
    let [near, far] = ["near", "far"].map(|name| IfName::new(name).unwrap());
    netlink.create_veth(&near, &far).unwrap();
    let [near, far] = [near, far].map(|name| {
        let index = netlink.link_by_name(&name).unwrap().unwrap().index;
        netlink.change(index, &LinkChange::default().admin(AdminState::Up)).unwrap();
        index
    });
    (near, far)
}

fn kernel(index: IfIndex) -> PacketSocket {
    PacketSocket::open(index, PacketOptions { offload: PacketOffload::Never, ..Default::default() }).unwrap()
}

/// The `n`th of many frames, none like another.
fn frame(n: usize, length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0xbe, 0xef, 2];
    frame.extend(OURS);
    frame.extend([0x88, 0xb5]);
    frame.extend((n as u32).to_be_bytes());
    frame.extend((frame.len()..length).map(|at| (at * 7 + n) as u8));
    frame
}

fn send(socket: &PacketSocket, bytes: &[u8]) {
    assert_eq!(socket.send(&VnetHeader::default(), &[IoSlice::new(bytes)]).unwrap(), bytes.len());
}

fn open(index: IfIndex, mode: Option<XdpMode>) -> (XdpDevice, XdpReceiver, XdpSender) {
    let options = XdpOptions { mode, ..XdpOptions::default() };
    let (device, mut queues) = open_all(index, options);
    let (receiver, sender) = queues.pop().unwrap();
    (device, receiver, sender)
}

/// A child that another test is just starting holds a copy of every descriptor until it executes its program.
fn open_all(index: IfIndex, options: XdpOptions) -> (XdpDevice, Vec<XdpQueue>) {
    open_unoccupied(index, options).unwrap()
}

/// What comes of opening a device when no other has it any more.
fn open_unoccupied(index: IfIndex, options: XdpOptions) -> Result<(XdpDevice, Vec<XdpQueue>), XdpError> {
    let attempt = || match XdpDevice::open(index, options) {
        Err(error @ XdpError::Occupied) => Err(error),
        result => Ok(result),
    };
    in_a_moment(attempt).expect("no program stays on the device")
}

/// Waits for readability; false after a time that is long enough.
fn wait(socket: &impl AsFd) -> bool {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, PollToken(1), Interest::Read).unwrap();
    let mut events = Vec::new();
    poller.wait(Some(Duration::from_secs(5)), &mut events).unwrap();
    !events.is_empty()
}

/// `count` of our frames.
fn recv_ours(receiver: &mut XdpReceiver, count: usize) -> Vec<Vec<u8>> {
    let mut ours = Vec::new();
    let mut buffers = vec![vec![0; FRAME_LEN_MAX]; 32];
    while ours.len() < count {
        let mut lengths = [0; 32];
        let found = receiver.recv_many(buffers.iter_mut().map(Vec::as_mut_slice), &mut lengths);
        let all = buffers.iter().zip(lengths).take(found).map(|(buffer, length)| buffer[..length].to_vec());
        ours.extend(all.filter(|bytes| bytes[6..12] == OURS));
        assert!(found > 0 || wait(receiver), "no frame in time");
    }
    ours
}

/// Our frames that a packet socket sees, until there are `count`.
fn seen(socket: &PacketSocket, count: usize) -> Vec<Vec<u8>> {
    let (mut ours, mut buffer) = (Vec::new(), vec![0; 70_000]);
    while ours.len() < count {
        match socket.recv(&mut buffer) {
            Ok(received) if buffer[6..12] == OURS => ours.push(buffer[..received.length].to_vec()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(wait(socket), "no frame in time");
            }
            Err(error) => panic!("{error}"),
        }
    }
    ours
}

#[test]
fn bytes_and_order_stay_what_they_were_in_both_directions() {
    for mode in [XdpMode::Generic, XdpMode::Native] {
        for use_need_wakeup in [true, false] {
            Scratch::new().run(|| {
                let (near, far) = pair();
                let options = XdpOptions { mode: Some(mode), use_need_wakeup, ..XdpOptions::default() };
                let (device, mut queues) = open_all(near, options);
                let (mut receiver, mut sender) = queues.pop().unwrap();
                assert_eq!((device.mode(), device.is_attached().unwrap()), (mode, true));
                let kernel = kernel(far);
                // Around each ring more than once.
                for round in 0..3 {
                    let all: Vec<_> = (0..1500).map(|n| frame(n + round, 14 + (n + 10) % 1501)).collect();
                    for some in all.chunks(FRAMES_MAX) {
                        some.iter().for_each(|bytes| send(&kernel, bytes));
                        assert_eq!(recv_ours(&mut receiver, some.len()), some);
                        some.iter().for_each(|bytes| sender.push(bytes).unwrap());
                        sender.flush().unwrap();
                        assert_eq!(sender.pending(), 0);
                        assert_eq!(seen(&kernel, some.len()), some);
                    }
                }
                assert_eq!(receiver.watch().statistics().unwrap(), XdpStatistics::default());
            });
        }
    }
}

#[test]
fn fastest_mode_that_works_is_taken() {
    Scratch::new().run(|| {
        let (near, _) = pair();
        // A veth's driver knows XDP and copies.
        assert_eq!(open(near, None).0.mode(), XdpMode::Native);
        let wanted = XdpOptions { mode: Some(XdpMode::NativeWithZeroCopy), ..XdpOptions::default() };
        let error = open_unoccupied(near, wanted).unwrap_err();
        assert!(
            error.to_string().starts_with("no AF_XDP socket on queue 0 in native-with-zerocopy mode: "),
            "{error}"
        );
        // What was tried in vain left nothing behind.
        open(near, Some(XdpMode::Generic));
    });
}

#[test]
fn frames_wait_until_there_is_room_and_none_is_lost_in_silence() {
    Scratch::new().run(|| {
        let (near, far) = pair();
        let (_device, _receiver, mut sender) = open(near, Some(XdpMode::Native));
        let kernel = kernel(far);
        for round in 0..3 {
            let all: Vec<_> = (0..TX_FRAMES_MAX).map(|n| frame(n + round, 60)).collect();
            all.iter().for_each(|bytes| sender.push(bytes).unwrap());
            let error = sender.push(&frame(1, 60)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
            // More than the kernel sends with one call.
            sender.flush().unwrap();
            assert_eq!(seen(&kernel, TX_FRAMES_MAX), all);
        }
    });
}

/// A veth's queue stops when the other end does not keep up, if it has a queueing discipline (Linux 6.16); before, it loses
/// frames. With NAPI in a thread the other end does not.
#[test]
fn what_a_device_has_no_room_for_is_left_and_said_to_be() {
    Scratch::new().run(|| {
        let (near, far) = pair();
        let (_device, _receiver, mut sender) = open(near, Some(XdpMode::Native));
        let (_other_device, mut receiver, _other_sender) = open(far, Some(XdpMode::Native));
        let own = ThreadId::own();
        let cpu = own.cpus().unwrap()[0];
        own.bind(&[cpu]).unwrap();
        // The discipline comes into force when the kernel has noticed the carrier. The thread runs when this one does not.
        let script = format!(
            "set -e; mount -t sysfs sysfs /sys; echo 1 > /sys/class/net/far/threaded; tc qdisc add dev near root pfifo
            until grep -q up /sys/class/net/near/operstate; do sleep 0.01; done
            for thread in $(pgrep napi/far); do taskset -pc {cpu} $thread && chrt -ip 0 $thread || true; done"
        );
        let made = std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).status().unwrap();
        assert!(made.success());
        let mut poller = Poller::new().unwrap();
        for round in 0..5 {
            // Some of the last round's may still be on their way.
            (0..TX_FRAMES_MAX).map_while(|n| sender.push(&frame(n + round, 60)).ok()).for_each(drop);
            for _ in 0..5_000 {
                let is_all = sender.flush().unwrap();
                assert_eq!(is_all, sender.pending() == 0);
                let mut buffers = vec![[0; 60]; TX_FRAMES_MAX];
                let mut lengths = vec![0; TX_FRAMES_MAX];
                receiver.recv_many(buffers.iter_mut().map(|b| &mut b[..]), &mut lengths);
                if is_all {
                    break;
                }
                poller.wait(Some(Duration::from_millis(1)), &mut Vec::new()).unwrap();
            }
            assert_eq!(sender.pending(), 0);
        }
    });
}

#[test]
fn frames_that_cannot_be_sent_are_errors() {
    Scratch::new().run(|| {
        let (near, far) = pair();
        let (_device, _receiver, mut sender) = open(near, None);
        let kernel = kernel(far);
        let error = |sender: &mut XdpSender, length| {
            sender.push(&frame(0, FRAME_LEN_MAX + 1)[..length]).unwrap_err().raw_os_error()
        };
        assert_eq!(error(&mut sender, FRAME_LEN_MAX + 1), Some(libc::EMSGSIZE));
        assert_eq!(error(&mut sender, 13), Some(libc::EINVAL));
        assert_eq!(error(&mut sender, 0), Some(libc::EINVAL));
        // As long as the device allows, and longer: that one the kernel drops.
        for length in [1514, FRAME_LEN_MAX, 14] {
            sender.push(&frame(0, FRAME_LEN_MAX)[..length]).unwrap();
        }
        sender.flush().unwrap();
        let lengths: Vec<_> = seen(&kernel, 2).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1514, 14]);
    });
}

#[test]
fn what_nobody_takes_is_counted() {
    for mode in [XdpMode::Generic, XdpMode::Native] {
        Scratch::new().run(|| {
            let (near, far) = pair();
            let (_device, mut receiver, _sender) = open(near, Some(mode));
            let kernel = kernel(far);
            let sent = RX_FRAMES_MAX + 500;
            (0..sent).for_each(|n| send(&kernel, &frame(n, 60)));
            let mut buffers = vec![vec![0; 60]; RX_FRAMES_MAX + 1];
            let mut lengths = vec![0; RX_FRAMES_MAX + 1];
            assert_eq!(receiver.waiting(), RX_FRAMES_MAX);
            let found = receiver.recv_many(buffers.iter_mut().map(Vec::as_mut_slice), &mut lengths);
            assert_eq!((found, receiver.waiting()), (RX_FRAMES_MAX, 0));
            let ours = buffers[..found].iter().filter(|bytes| bytes[6..12] == OURS).count();
            let lost = receiver.watch().statistics().unwrap();
            // Among them perhaps some of the kernel's own.
            assert!(lost.rx_dropped + lost.rx_ring_full >= (sent - ours) as u64, "{lost:?}");
            send(&kernel, &frame(7, 61));
            assert_eq!(recv_ours(&mut receiver, 1), [frame(7, 61)]);
        });
    }
}

#[test]
fn short_buffer_gets_the_beginning_and_the_whole_length() {
    Scratch::new().run(|| {
        let (near, far) = pair();
        let (_device, mut receiver, _sender) = open(near, None);
        let kernel = kernel(far);
        send(&kernel, &frame(3, 1000));
        let (mut buffer, mut lengths) = ([0; 20], [0]);
        while buffer[6..12] != OURS {
            assert!(wait(&receiver), "no frame in time");
            receiver.recv_many([&mut buffer[..]], &mut lengths);
        }
        assert_eq!((lengths, &buffer[..]), ([1000], &frame(3, 1000)[..20]));
        // No more than there are lengths for.
        (0..3).for_each(|n| send(&kernel, &frame(n, 100)));
        let mut buffers = vec![[0; 100]; 3];
        assert_eq!(receiver.recv_many(buffers.iter_mut().map(|b| &mut b[..]), &mut []), 0);
        assert_eq!(recv_ours(&mut receiver, 3), [0, 1, 2].map(|n| frame(n, 100)));
    });
}

#[test]
fn device_can_be_had_once_until_it_is_let_go() {
    Scratch::new().run(|| {
        let (near, far) = pair();
        let (device, receiver, sender) = open(near, Some(XdpMode::Native));
        let kernel = kernel(far);
        let stack = self::kernel(near);
        for mode in [None, Some(XdpMode::Native), Some(XdpMode::Generic)] {
            let error = XdpDevice::open(near, XdpOptions { mode, ..XdpOptions::default() }).unwrap_err();
            assert_eq!(error.to_string(), "the device has an XDP program already");
        }
        send(&kernel, &frame(1, 60));
        // A socket that is closed is no longer in the map, and the kernel's stack has the frames.
        drop((receiver, sender));
        let mut buffer = vec![0; 70_000];
        let mut next = || loop {
            match stack.recv(&mut buffer) {
                Ok(received) if buffer[6..12] == OURS => break Ok(buffer[..received.length].to_vec()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        let passed = in_a_moment(|| {
            send(&kernel, &frame(2, 60));
            next()
        });
        assert_eq!(passed.unwrap(), frame(2, 60), "the first was ours");
        drop(device);
        send(&kernel, &frame(3, 60));
        // Behind what more of the second there is.
        while seen(&stack, 1) != [frame(3, 60)] {}
        // The queue is free too, if not at once.
        let (_device, mut receiver, _sender) = open(near, Some(XdpMode::Native));
        send(&kernel, &frame(4, 60));
        assert_eq!(recv_ours(&mut receiver, 1), [frame(4, 60)]);
    });
}

#[test]
fn queues_that_do_not_exist_are_refused() {
    Scratch::new().run(|| {
        let (near, _) = pair();
        let open = |queues| {
            let options = XdpOptions { queues, mode: Some(XdpMode::Native), ..XdpOptions::default() };
            XdpDevice::open(near, options).unwrap_err()
        };
        assert!(matches!(open(2), XdpError::Queue { queue: 1, .. }));
        assert!(matches!(open(0), XdpError::Queues(0)));
        assert!(matches!(open(QUEUES_MAX + 1), XdpError::Queues(_)));
        let nobody = IfIndex::new(4242).unwrap();
        assert!(matches!(XdpDevice::open(nobody, XdpOptions::default()), Err(XdpError::Program { .. })));
    });
}

#[test]
fn each_queue_has_its_frames() {
    Scratch::new().run(|| {
        // ip(8) makes veths of several queues.
        let arguments = "link add near up numrxqueues 2 numtxqueues 2 type veth peer name far numrxqueues 2 numtxqueues 2";
        let made = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(made.success());
        let [near, far] = ["near", "far"].map(|name| IfIndex::of(&IfName::new(name).unwrap()).unwrap());
        Netlink::open().unwrap().change(far, &LinkChange::default().admin(AdminState::Up)).unwrap();
        let (_device, mut queues) = open_all(near, XdpOptions { queues: 2, ..XdpOptions::default() });
        let kernel = kernel(far);
        for (n, (_, sender)) in queues.iter_mut().enumerate() {
            sender.push(&frame(n, 60)).unwrap();
            sender.flush().unwrap();
        }
        assert_eq!(seen(&kernel, 2), [frame(0, 60), frame(1, 60)]);
        // What the kernel spreads over the queues arrives once.
        (0..20).for_each(|n| send(&kernel, &frame(n, 60)));
        let mut all = Vec::new();
        let mut poller = Poller::new().unwrap();
        for _ in 0..5000 {
            for (receiver, _) in &mut queues {
                let (mut buffer, mut lengths) = ([0; 2000], [0]);
                while receiver.recv_many([&mut buffer[..]], &mut lengths) == 1 {
                    all.extend((buffer[6..12] == OURS).then(|| buffer[..lengths[0]].to_vec()));
                }
            }
            if all.len() >= 20 {
                break;
            }
            poller.wait(Some(Duration::from_millis(1)), &mut Vec::new()).unwrap();
        }
        all.sort();
        assert_eq!(all, (0..20).map(|n| frame(n, 60)).collect::<Vec<_>>());
    });
}

#[test]
fn down_and_gone_are_told_apart() {
    Scratch::new().run(|| {
        let mut netlink = Netlink::open().unwrap();
        let (near, far) = pair();
        let (device, mut receiver, mut sender) = open(near, None);
        netlink.change(near, &LinkChange::default().admin(AdminState::Down)).unwrap();
        sender.push(&frame(0, 60)).unwrap();
        assert_eq!(sender.flush().unwrap_err().raw_os_error(), Some(libc::ENETDOWN));
        assert!(device.is_attached().unwrap());
        netlink.change(near, &LinkChange::default().admin(AdminState::Up)).unwrap();
        let kernel = kernel(far);
        sender.push(&frame(1, 60)).unwrap();
        sender.flush().unwrap();
        assert_eq!(seen(&kernel, 2), [frame(0, 60), frame(1, 60)]);
        send(&kernel, &frame(2, 60));
        assert_eq!(recv_ours(&mut receiver, 1), [frame(2, 60)]);
        netlink.delete(near).unwrap();
        sender.push(&frame(3, 60)).unwrap();
        assert_eq!(sender.flush().unwrap_err().raw_os_error(), Some(libc::ENXIO));
        assert_eq!(sender.pending(), 1);
        assert!(!device.is_attached().unwrap());
        assert_eq!(receiver.recv_many([&mut [0; 100][..]], &mut [0]), 0);
    });
}
