//! The FTP and TFTP gateways: two ends that keep the numbers of their own TCP, with the tracker between them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conntrack_support;

use conntrack_support::*;
use datapath::conntrack::*;
use packet::{FrameBuilder, slot};
use std::time::Duration;

const NEW_REL: CtState = CtState(0x25);

fn ftp(spec: CtSpec) -> CtSpec {
    CtSpec { alg: Some(Alg::Ftp), ..spec }
}

/// One end of a TCP connection, as it sees itself and the other.
#[derive(Clone, Copy)]
struct End {
    own: (u32, u16),
    peer: (u32, u16),
    next: u32,
    peer_next: u32,
}

impl End {
    fn segment(&self, flags: u16, payload: &[u8]) -> FrameBuilder {
        tcp(self.own, self.peer, flags, self.next, self.peer_next).payload(payload)
    }

    /// Takes a segment for which it must be the next.
    fn take(&mut self, sent: &Sent) -> Vec<u8> {
        assert!(!sent.state().has(CtState::INV), "{:?}", sent.state());
        assert_eq!(sent.tracked.drop, None);
        assert_eq!(sent.ends(), (self.peer, self.own));
        let bytes = sent.frame.bytes();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(number(38), self.peer_next, "sequence number");
        assert_eq!(number(42), self.next, "acknowledgement number");
        let payload = sent.payload();
        self.peer_next = self.peer_next.wrapping_add(payload.len() as u32);
        payload
    }
}

/// A control connection through `spec`, opened: the client, the server.
fn open(w: &World, spec: &CtSpec, client: (u32, u16), server: (u32, u16), isn: (u32, u32)) -> (End, End) {
    let options = [2, 4, 5, 180, 4, 2, 1, 1];
    let syn = w.send(spec, &tcp(client, server, SYN, isn.0, 0).tcp_options(&options));
    let (seen_client, seen_server) = syn.ends();
    let permits_sack = syn.frame.bytes()[54..62].windows(2).any(|o| o == [4, 2]);
    assert_eq!(permits_sack, syn.ends() == (client, server), "only where numbers may shift");
    let syn_ack = tcp(seen_server, seen_client, SYN_ACK, isn.1, isn.0.wrapping_add(1));
    let back =
        w.send(&CtSpec { nat: spec.nat.as_ref().map(|_| NatSpec::apply()), ..ftp(commit()) }, &syn_ack);
    assert_eq!(back.ends(), (server, client));
    let (next, peer_next) = (isn.0.wrapping_add(1), isn.1.wrapping_add(1));
    (
        End { own: client, peer: server, next, peer_next },
        End { own: seen_server, peer: seen_client, next: peer_next, peer_next: next },
    )
}

/// Sends a line and lets the other end take it and acknowledge.
fn say(w: &World, spec: &CtSpec, from: &mut End, to: &mut End, line: &[u8]) -> Vec<u8> {
    let sent = w.send(spec, &from.segment(PSH_ACK, line));
    assert!(sent.tracked.hold.is_none(), "control connections are always looked at");
    from.next = from.next.wrapping_add(line.len() as u32);
    let heard = to.take(&sent);
    let ack = w.send(spec, &to.segment(ACK, b""));
    from.take(&ack);
    heard
}

#[test]
fn active_and_passive_without_translation() {
    let w = World::new();
    let spec = ftp(commit());
    let (mut client, mut server) = open(&w, &spec, (A, 1), (B, 21), (100, 500));
    let line = b"PORT 10,0,0,1,4,1\r\n";
    assert_eq!(say(&w, &spec, &mut client, &mut server, line), line);
    assert_eq!(w.state(&CtSpec::default(), &tcp((B, 20), (A, 1026), SYN, 7000, 0)), NEW);
    assert_eq!(w.state(&CtSpec::default(), &tcp((B, 20), (A, 1025), SYN, 7000, 0)), NEW_REL);
    let data = w.send(&spec, &tcp((B, 20), (A, 1025), SYN, 7000, 0));
    assert_eq!(data.state(), NEW_REL);
    assert_eq!(data.key.get(slot::CT_TP_DST), 21, "the fields are those of the control connection");
    assert_eq!(w.state(&spec, &tcp((A, 1025), (B, 20), SYN_ACK, 8000, 7001)), CtState(0x2e));
    // Each is foreseen once.
    assert_eq!(w.state(&spec, &tcp((B, 22), (A, 1025), SYN, 7000, 0)), NEW);
    say(&w, &spec, &mut server, &mut client, b"227 Entering Passive Mode (10,0,0,2,8,1)\r\n");
    assert_eq!(w.state(&spec, &tcp((A, 3000), (B, 2049), SYN, 9000, 0)), NEW_REL);
    say(&w, &spec, &mut server, &mut client, b"229 Entering Extended Passive Mode (|||2050|)\r\n");
    assert_eq!(w.state(&spec, &tcp((A, 3001), (B, 2050), SYN, 9000, 0)), NEW_REL);
}

#[test]
fn only_what_an_end_says_of_itself_is_believed() {
    let mut w = World::new();
    let spec = ftp(commit());
    let (mut client, mut server) = open(&w, &spec, (A, 1), (B, 21), (100, 500));
    say(&w, &spec, &mut client, &mut server, b"PORT 10,0,0,9,4,1\r\n");
    say(&w, &spec, &mut client, &mut server, b"PORT 10,0,0,1,0,22\r\n");
    say(&w, &spec, &mut server, &mut client, b"PORT 10,0,0,2,4,1\r\n");
    say(&w, &spec, &mut client, &mut server, b"xPORT 10,0,0,1,4,1\r\n");
    for to in [(A, 1025), (A + 8, 1025), (A, 22), (B, 1025)] {
        assert_eq!(w.state(&CtSpec::default(), &tcp((B, 20), to, SYN, 7000, 0)), NEW, "{to:?}");
    }
    // Nor from somebody else, nor too late.
    say(&w, &spec, &mut client, &mut server, b"PORT 10,0,0,1,4,1\r\n");
    assert_eq!(w.state(&CtSpec::default(), &tcp((B + 1, 20), (A, 1025), SYN, 7000, 0)), NEW);
    assert_eq!(w.state(&CtSpec::default(), &tcp((B, 20), (A, 1025), SYN, 7000, 0)), NEW_REL);
    w.pass(Duration::from_secs(31));
    assert_eq!(w.state(&CtSpec::default(), &tcp((B, 20), (A, 1025), SYN, 7000, 0)), NEW);
    // A client that foresees ever more ends at its limit.
    for port in 0..50 {
        let line = format!("PORT 10,0,0,1,8,{port}\r\n");
        say(&w, &spec, &mut client, &mut server, line.as_bytes());
    }
    let open = (0..50).filter(|port| {
        let syn = tcp((B, 20), (A, 2048 + port), SYN, 7000, 0);
        w.state(&CtSpec::default(), &syn) == NEW_REL
    });
    assert_eq!(open.count(), 8);
}

/// The client behind a translated source, active: the address in the payload is translated, and numbers shift both ways,
/// over the end of sequence space too.
#[test]
fn active_behind_source_translation() {
    for isn in [(100, 500), (u32::MAX - 30, u32::MAX - 10)] {
        let w = World::new();
        let spec = ftp(snat(N));
        let (mut client, mut server) = open(&w, &spec, (A, 1), (B, 21), isn);
        let heard = say(&w, &spec, &mut client, &mut server, b"PORT 10,0,0,1,4,1\r\n");
        assert_eq!(heard, b"PORT 192,168,0,1,4,1\r\n");
        say(&w, &spec, &mut server, &mut client, b"200 ok\r\n");
        let heard = say(&w, &spec, &mut client, &mut server, b"EPRT |1|10.0.0.1|1030|\r\n");
        assert_eq!(heard, b"EPRT |1|192.168.0.1|1030|\r\n");
        // Lost on the way to the server: the same again is changed the same way, and nothing shifts twice.
        let line = b"PORT 10,0,0,1,5,1\r\n";
        let first = w.send(&spec, &client.segment(PSH_ACK, line));
        let again = w.send(&spec, &client.segment(PSH_ACK, line));
        assert_eq!(first.frame.bytes(), again.frame.bytes());
        client.next = client.next.wrapping_add(line.len() as u32);
        assert_eq!(server.take(&again), b"PORT 192,168,0,1,5,1\r\n");
        say(&w, &spec, &mut server, &mut client, b"200 ok\r\n");
        say(&w, &spec, &mut client, &mut server, b"LIST\r\n");
        // The server connects to what it was told, and reaches the client.
        let data = w.send(&spec, &tcp((B, 20), (N, 1025), SYN, 7000, 0));
        assert!(data.state().has(CtState::REL | CtState::NEW | CtState::DNAT), "{:?}", data.state());
        assert_eq!(data.ends(), ((B, 20), (A, 1025)));
        let back = w.send(
            &CtSpec { nat: Some(NatSpec::apply()), ..commit() },
            &tcp((A, 1025), (B, 20), SYN_ACK, 1, 7001),
        );
        assert_eq!(back.ends(), ((N, 1025), (B, 20)));
        assert!(back.state().has(CtState::EST | CtState::REL | CtState::RPL | CtState::SNAT));
    }
}

/// The server behind a translated destination, passive: the client is told the address that it knows, and reaches the port.
#[test]
fn passive_behind_destination_translation() {
    let w = World::new();
    let spec = ftp(dnat(N, 21));
    let (mut client, mut server) = open(&w, &spec, (A, 1), (B, 21), (100, 500));
    assert_eq!(server.own, (N, 21));
    let heard = say(&w, &spec, &mut server, &mut client, b"227 Entering Passive Mode (192,168,0,1,8,1)\r\n");
    assert_eq!(heard, b"227 Entering Passive Mode (10,0,0,2,8,1)\r\n");
    let heard =
        say(&w, &spec, &mut server, &mut client, b"229 Entering Extended Passive Mode (|||2050|)\r\n");
    assert_eq!(heard, b"229 Entering Extended Passive Mode (|||2050|)\r\n");
    for port in [2049, 2050] {
        let data = w.send(&spec, &tcp((A, 3000), (B, port), SYN, 9000, 0));
        assert_eq!(data.ends(), ((A, 3000), (N, port)));
        assert!(data.state().has(CtState::REL | CtState::DNAT));
    }
    say(&w, &spec, &mut client, &mut server, b"QUIT\r\n");
}

/// Two clients behind one address announce the same port: the second is announced under another.
#[test]
fn announced_ports_do_not_clash() {
    let w = World::new();
    let spec = ftp(snat(N));
    let (mut c1, mut s1) = open(&w, &spec, (A, 1), (B, 21), (100, 500));
    let (mut c2, mut s2) = open(&w, &spec, (A + 1, 2), (B, 21), (200, 600));
    assert_eq!(say(&w, &spec, &mut c1, &mut s1, b"PORT 10,0,0,1,4,1\r\n"), b"PORT 192,168,0,1,4,1\r\n");
    assert_eq!(say(&w, &spec, &mut c2, &mut s2, b"PORT 10,0,0,2,4,1\r\n"), b"PORT 192,168,0,1,4,2\r\n");
    let data = w.send(&spec, &tcp((B, 20), (N, 1026), SYN, 7000, 0));
    assert_eq!(data.ends(), ((B, 20), (A + 1, 1025)));
    let data = w.send(&spec, &tcp((B, 20), (N, 1025), SYN, 7000, 0));
    assert_eq!(data.ends(), ((B, 20), (A, 1025)));
}

#[test]
fn tftp_answers_from_any_port() {
    let w = World::new();
    let spec = CtSpec { alg: Some(Alg::Tftp), ..snat(N) };
    let request = FrameBuilder::udp4((A, 3333), (B, 69)).payload(b"\0\x01file\0octet\0");
    assert_eq!(w.send(&spec, &request).ends(), ((N, 3333), (B, 69)));
    let data = FrameBuilder::udp4((B, 4444), (N, 3333)).payload(b"\0\x03\0\x01abc");
    let out = w.send(&CtSpec { nat: Some(NatSpec::apply()), ..commit() }, &data);
    assert!(out.state().has(CtState::NEW | CtState::REL | CtState::DNAT));
    assert_eq!(out.ends(), ((B, 4444), (A, 3333)));
    let ack = FrameBuilder::udp4((A, 3333), (B, 4444)).payload(b"\0\x04\0\x01");
    let out = w.send(&bare_nat(), &ack);
    assert_eq!(out.ends(), ((N, 3333), (B, 4444)));
    assert!(out.state().has(CtState::EST | CtState::REL | CtState::RPL));
}

#[test]
fn related_connections_inherit_mark_and_label() {
    let w = World::new();
    let spec = CtSpec { mark: Some((7, !0)), label: Some((9, u128::MAX)), ..ftp(commit()) };
    let (mut client, mut server) = open(&w, &spec, (A, 1), (B, 21), (100, 500));
    say(&w, &ftp(commit()), &mut client, &mut server, b"PORT 10,0,0,1,4,1\r\n");
    let other = CtSpec { mark: Some((1, !0)), ..commit() };
    for spec in [&CtSpec::default(), &other] {
        let data = w.send(spec, &tcp((B, 20), (A, 1025), SYN, 7000, 0));
        assert_eq!((data.key.get(slot::CT_MARK), data.key.get(slot::CT_LABEL)), (7, 9));
    }
}

/// What was translated belongs to its own connection when it is tracked again in the zone, though its fields name the control
/// connection; and what a control connection says is read once, its numbers shifted once.
#[test]
fn translated_packets_are_known_when_they_are_tracked_again() {
    let w = World::new();
    let spec = ftp(snat(N));
    let again = |spec: &CtSpec, frame: &FrameBuilder| {
        let first = w.send(spec, frame);
        let (state, ends) = (first.state(), first.ends());
        let second = w.send_again(&CtSpec::default(), first);
        assert_eq!((second.state(), second.ends()), (state, ends));
        second
    };
    let (mut client, mut server) = open(&w, &spec, (A, 1), (B, 21), (100, 500));
    let connect = |from: (u32, u16), to: (u32, u16), from_seen: (u32, u16), to_seen: (u32, u16)| {
        let follow = CtSpec { nat: Some(NatSpec::apply()), ..commit() };
        again(&follow, &tcp(from, to, SYN, 7_000_000, 0));
        again(&bare_nat(), &tcp(to_seen, from_seen, SYN_ACK, 8_000_000, 7_000_001));
        again(&bare_nat(), &tcp(from, to, ACK, 7_000_001, 8_000_001));
    };
    say(&w, &spec, &mut client, &mut server, b"PORT 10,0,0,1,4,1\r\n");
    connect((B, 20), (N, 1025), (B, 20), (A, 1025));
    let passive = again(&bare_nat(), &server.segment(PSH_ACK, b"229 Passive (|||2050|)\r\n"));
    server.next += client.take(&passive).len() as u32;
    connect((A, 3000), (B, 2050), (N, 3000), (B, 2050));
    assert_eq!(w.all().len(), 3);
    for record in w.all() {
        assert_eq!(record.tcp, Some((TcpState::Established, TcpState::Established)), "{record:?}");
    }
    // A RST must be exact.
    for (end, flags) in [(&client, ACK), (&server, ACK), (&client, RST_ACK)] {
        again(&bare_nat(), &end.segment(flags, b""));
    }
}
