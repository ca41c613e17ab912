//! Entries for fuzzers: what control connections may say, and sequences of packets.

use super::ftp::{Announcement, LINE_MAX};
use super::{
    Alg, ConnTracker, CtConfig, CtSpec, CtState, DumpCursor, NatKind, NatSpec, PortSelection, TupleFilter,
    Zone, tftp,
};
use base::{HashSeed, Instant};
use packet::{DpPort, Frame, FrameBuilder, PacketKey, slot};
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

/// Most steps of one sequence of packets.
const STEPS_MAX: usize = 64;
/// Ports of the ends: two that gateways do not open, and two that they do.
const PORTS: [u16; 4] = [20, 21, 1024, 2048];
/// Last bytes of the ends' addresses; the last is a longer text.
const HOSTS: [u8; 4] = [0, 1, 2, 200];

/// Takes the bytes for a payload of a control connection. Panics if an announcement lies outside it, or if what it is
/// rewritten to is not read as what was written.
#[expect(clippy::panic, reason = "a finding")]
pub fn announcement(data: &[u8]) {
    let _ = tftp::is_request(data);
    for read in [Announcement::of_client, Announcement::of_server] {
        let Some(said) = read(data) else { continue };
        let (Some(before), Some(after)) = (data.get(..said.place.start), data.get(said.place.end..)) else {
            panic!("{:?} in {} bytes", said.place, data.len());
        };
        let address = said.address.unwrap_or(IpAddr::from([203, 0, 113, 255]));
        let Some(text) = said.rewritten(address, 65_535) else { continue };
        let again = [before, text.as_bytes(), after].concat();
        match read(&again) {
            Some(Announcement { address, port: 65_535, .. }) if address == said.address => {}
            // A longer text may push the end of the line beyond what is read of it.
            None if again.iter().position(|b| *b == b'\n') >= Some(LINE_MAX) => {}
            other => panic!("{said:?} became {other:?}"),
        }
    }
}

/// Takes the bytes for steps of eight and frames: which frame, how it is spoiled, what `ct()` asks for, how time goes on.
/// Panics if a good frame is bad afterwards, if an invalid one was changed, or if two connections share a tuple.
#[expect(clippy::panic, reason = "a finding")]
pub fn packets(data: &[u8]) {
    let config = CtConfig { connections_max: 40, embryonic_port_max: 10, ..CtConfig::default() };
    let tracker = ConnTracker::new(HashSeed::new(3, 4), config);
    let mut now = Instant::from_secs(100);
    let mut rest = data;
    for _ in 0..STEPS_MAX {
        let Some((&[what, ends, flags, number, choice, at, with, pause], after)) = rest.split_first_chunk()
        else {
            break;
        };
        let (payload, after) = after.split_at(after.len().min(usize::from(number & 0x3f)));
        rest = after;
        now += Duration::from_millis(u64::from(pause) * u64::from(pause));
        let mut bytes = compose(what, ends, flags, number, payload);
        // One byte in four frames is another.
        let place = bytes.len() * usize::from(at) / 256;
        if what & 0xc0 == 0xc0
            && let Some(byte) = bytes.get_mut(place)
        {
            *byte ^= with;
        }
        let mut frame = Frame::from_bytes(&bytes);
        let Ok(mut key) = PacketKey::extract(&mut frame) else { continue };
        let tracked = tracker.track(
            &mut frame,
            &mut key,
            &spec(choice, what & 7 == 5),
            DpPort(u32::from(ends & 1)),
            now,
        );
        if tracked.state.has(CtState::INV) && frame.bytes() != bytes {
            panic!("an invalid frame was changed");
        }
        if !tracked.state.has(CtState::INV) && tracked.drop.is_none() && !is_sound(&frame) {
            panic!("{:?} with a wrong checksum", tracked.state);
        }
        if pause & 7 == 0 {
            tracker.expire(now);
        }
        if pause == 0xff {
            tracker.flush(None, Some(&TupleFilter::default()));
        }
    }
    check_tuples(&tracker, now);
}

fn is_sound(frame: &Frame) -> bool {
    let mut copy = Frame::from_bytes(frame.bytes());
    PacketKey::extract(&mut copy).is_ok() && copy.verify_transport() && copy.verify_ipv4_header()
}

#[expect(clippy::panic, reason = "a finding")]
fn check_tuples(tracker: &ConnTracker, now: Instant) {
    let mut tuples = HashSet::new();
    let mut cursor = Some(DumpCursor::default());
    while let Some(from) = cursor {
        let (part, next) = tracker.dump(None, from, now);
        cursor = next;
        for connection in part {
            let same = connection.original == connection.reply;
            if !tuples.insert(connection.original) || !same && !tuples.insert(connection.reply) {
                panic!("a tuple twice: {connection}");
            }
        }
    }
}

/// A frame between a few ends.
fn compose(what: u8, ends: u8, flags: u8, number: u8, payload: &[u8]) -> Vec<u8> {
    let address = |n: u8| 0x0a00_0000 + u32::from(host(n));
    let wide = |n: u8| 0x2001_0db8_u128 << 96 | u128::from(host(n));
    let (a, b) = (ends >> 6, ends >> 4);
    let ports = (port(ends >> 2), port(ends));
    let (src, dst) = ((address(a), ports.0), (address(b), ports.1));
    let (seq, ack) = (u32::from(number) * 64, u32::from(number) * 16);
    match what & 7 {
        0 | 1 => {
            let tcp = FrameBuilder::tcp4(src, dst, flags.into()).tcp_numbers(seq, ack).payload(payload);
            tcp.tcp_options(&[3, 3, number & 15, 4, 2, 1]).build()
        }
        2 => FrameBuilder::udp4(src, dst).payload(payload).build(),
        3 => FrameBuilder::icmp4(src.0, dst.0, flags & 15, flags >> 7).payload(payload).build(),
        4 => {
            // An error about a datagram the other way.
            let quoted = FrameBuilder::udp4(dst, src).payload(payload).build();
            let quoted = quoted.get(14..quoted.len() - usize::from(flags & 15)).unwrap_or_default();
            FrameBuilder::icmp4(address(flags), dst.0, 3, 3).payload(quoted).build()
        }
        5 => FrameBuilder::tcp6((wide(a), ports.0), (wide(b), ports.1), flags.into())
            .tcp_numbers(seq, ack)
            .payload(payload)
            .build(),
        6 => FrameBuilder::ipv4(src.0, dst.0, 132)
            .set(slot::TP_SRC, src.1.into())
            .set(slot::TP_DST, dst.1.into())
            .payload(payload)
            .build(),
        _ => payload.to_vec(),
    }
}

fn host(n: u8) -> u8 {
    HOSTS.get(usize::from(n & 3)).copied().unwrap_or_default()
}

fn port(n: u8) -> u16 {
    PORTS.get(usize::from(n & 3)).copied().unwrap_or_default()
}

fn spec(choice: u8, is_ipv6: bool) -> CtSpec {
    let ip = |n: u8| match is_ipv6 {
        true => Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host(n))])),
        false => Some(IpAddr::from([10, 0, 0, host(n)])),
    };
    let kind = if choice & 4 == 0 { NatKind::Src } else { NatKind::Dst };
    let nat = match choice & 3 {
        0 => None,
        1 => Some(NatSpec::apply()),
        2 => NatSpec::new(kind, (ip(choice >> 3), None), (None, None), PortSelection::Default, false).ok(),
        _ => {
            let ports = (Some(port(0)), Some(port(choice >> 3)));
            NatSpec::new(kind, (ip(1), ip(2)), ports, PortSelection::Random, true).ok()
        }
    };
    CtSpec {
        zone: Zone(u16::from(choice >> 7)),
        commit: choice & 3 != 1,
        force: choice & 0x78 == 0x78,
        nat,
        alg: match choice & 0x60 {
            0x20 => Some(Alg::Ftp),
            0x40 => Some(Alg::Tftp),
            _ => None,
        },
        ..CtSpec::default()
    }
}
