//! Controllers that pass packets themselves, as reactive ones do with the first ones of each flow: what they are given must be fit
//! to be sent on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tests::traffic::{self, Reach};
use tests::{Switch, Tools, wait_for};

/// Length of a header of OpenFlow 1.0 (§5.1), whose version is 1.
const HEADER_LEN: usize = 8;
const HELLO: u8 = 0;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
const SET_CONFIG: u8 = 9;
const PACKET_IN: u8 = 10;
const PACKET_OUT: u8 = 13;
/// `OFPP_FLOOD`.
const FLOOD: u16 = 0xfffb;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (HEADER_LEN + body.len()) as u16;
    [&[1, kind][..], &length.to_be_bytes(), &[0; 4], body].concat()
}

/// The packet of a packet-in, to be flooded as if it had come in there once more.
fn flood(packet_in: &[u8]) -> Vec<u8> {
    // Buffer, total length, port, reason, padding; none is buffered.
    let (in_port, packet) = (&packet_in[6..8], &packet_in[10..]);
    assert_eq!(packet_in[..4], [0xff; 4]);
    assert_eq!(usize::from(u16::from_be_bytes([packet_in[4], packet_in[5]])), packet.len(), "whole");
    let action = [[0, 0], [0, 8], FLOOD.to_be_bytes(), [0, 0]].concat();
    message(PACKET_OUT, &[&[0xff; 4][..], in_port, &[0, 8], &action, packet].concat())
}

/// A hub in a controller: floods every packet that the switch does not know what to do with. Until the stream is closed.
fn be_a_hub(mut stream: &UnixStream) {
    let mut header = [0; HEADER_LEN];
    while stream.read_exact(&mut header).is_ok() {
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - HEADER_LEN];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let answer = match header[1] {
            PACKET_IN => flood(&body),
            ECHO_REQUEST => message(ECHO_REPLY, &body),
            _ => continue,
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Pods leave checksums and cutting to their devices, which a controller cannot know.
#[test]
fn pods_talk_through_a_hub_in_a_controller() {
    let switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0 -- set-fail-mode br0 secure");
    switch.run("ovs-ofctl add-flow br0 actions=controller:65535");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    let stream = UnixStream::connect(switch.dir().join("br0.mgmt")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    // A connection of this kind is given packets once it has said how much of them (§5.3.2).
    let config = message(SET_CONFIG, &[0, 0, 0xff, 0xff]);
    (&stream).write_all(&[message(HELLO, &[]), config].concat()).expect("sent");
    std::thread::scope(|scope| {
        scope.spawn(|| be_a_hub(&stream));
        // Also if this fails.
        let _end = Shutdown(&stream);
        wait_for("answers", || a.pings("10.1.0.2"));
        traffic::ask(&a, &b, Reach::direct("10.1.0.2"), &[7; 1_200]);
        traffic::transfer(&b, &a, Reach::direct("10.1.0.1"));
    });
    for (pod, name) in [(&a, "UdpInCsumErrors"), (&b, "TcpInCsumErrors")] {
        let counted = pod.run_ok(&format!("nstat -asz {name}"));
        let count = counted.lines().find(|line| line.starts_with(name)).expect("a counter");
        assert_eq!(count.split_whitespace().nth(1), Some("0"), "{count}");
    }
}

/// Ends a stream when the test is over.
struct Shutdown<'a>(&'a UnixStream);

impl Drop for Shutdown<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}
