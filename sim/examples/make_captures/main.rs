//! Makes the captures that `sim/tests/captures.rs` replays: each session as it is seen at both sides of a translation. All
//! frames, before and after, are built by etherparse from what the RFCs say; nothing of the switch builds one.
//!
//! `cargo run -p sim --example make_captures -- sim/tests/captures`

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a tool for tests")]

mod session;
mod wire;

use etherparse::icmpv4::DestUnreachableHeader;
use session::{Passes, Session, Stops, Tcp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use wire::Side::{Client, Server};
use wire::View;

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// An address of the documentation prefix 2001:db8::/32 (RFC 3849).
const fn v6(network: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
}

const CLIENT: IpAddr = v4(10, 0, 0, 1);
/// What the client is called outside.
const PUBLIC: IpAddr = v4(203, 0, 113, 5);
const SERVER: IpAddr = v4(192, 0, 2, 9);
/// What the server is called inside, where it is a Service.
const SERVICE: IpAddr = v4(198, 51, 100, 21);
const ROUTER: IpAddr = v4(192, 0, 2, 254);
const STRANGER: IpAddr = v4(192, 0, 2, 66);
// The same in IPv6.
const CLIENT6: IpAddr = v6(1, 1);
const PUBLIC6: IpAddr = v6(0xcafe, 0x105);
const SERVER6: IpAddr = v6(2, 9);
const SERVICE6: IpAddr = v6(0xabcd, 0x21);
const STRANGER6: IpAddr = v6(2, 0x66);

/// MSS 1460 and SACK permitted.
const MSS_AND_SACK: [u8; 8] = [2, 4, 5, 0xb4, 4, 2, 1, 1];
/// The same where a gateway that changes lengths forbids SACK (its options, RFC 2018, would tell numbers untranslated).
const MSS_ALONE: [u8; 8] = [2, 4, 5, 0xb4, 1, 1, 1, 1];

/// The client hides behind another address.
fn masqueraded() -> Session {
    Session::new(View { client: CLIENT, server: SERVER }, View { client: PUBLIC, server: SERVER })
}

/// The server hides behind another address.
fn service() -> Session {
    Session::new(View { client: CLIENT, server: SERVICE }, View { client: CLIENT, server: SERVER })
}

/// The client hides behind another address, in IPv6.
fn masqueraded6() -> Session {
    Session::new(View { client: CLIENT6, server: SERVER6 }, View { client: PUBLIC6, server: SERVER6 })
}

/// The server hides behind another address, in IPv6.
fn service6() -> Session {
    Session::new(View { client: CLIENT6, server: SERVICE6 }, View { client: CLIENT6, server: SERVER6 })
}

fn log_in(s: &mut Session) -> Tcp {
    let mut control = Tcp::new((30_000, 21));
    control.syn(s, Client, "new", "S", (&MSS_AND_SACK, &MSS_ALONE));
    control.send(s, Server, "est+rpl", "SA", "");
    control.send(s, Client, "est", "A", "");
    control.send(s, Server, "est+rpl", "PA", "220 ready\r\n");
    control.send(s, Client, "est", "PA", "USER anonymous\r\n");
    control.send(s, Server, "est+rpl", "PA", "331 password\r\n");
    control.send(s, Client, "est", "PA", "PASS guest@\r\n");
    control.send(s, Server, "est+rpl", "PA", "230 welcome\r\n");
    control
}

fn log_out(s: &mut Session, mut control: Tcp) {
    control.send(s, Server, "est+rpl", "PA", "226 done\r\n");
    control.send(s, Client, "est", "PA", "QUIT\r\n");
    control.send(s, Server, "est+rpl", "PA", "221 bye\r\n");
    control.send(s, Server, "est+rpl", "FA", "");
    control.send(s, Client, "est", "FA", "");
    control.send(s, Server, "est+rpl", "A", "");
}

/// Active: the server opens the data connection to port 40000, which `PORT` or `EPRT` names, as each side sees it. `bounce`
/// names an address that is not the client's own.
fn ftp_active(mut session: Session, stranger: IpAddr, bounce: &str, port: (&str, &str)) -> Session {
    let s = &mut session;
    let mut control = log_in(s);
    // A bounce (RFC 2577) opens nothing and stays as it is.
    control.send(s, Client, "est", "PA", bounce);
    s.lone_syn(Server, "new", (40_000, 20), s.outside);
    control.send(s, Server, "est+rpl", "PA", "501 no\r\n");
    control.early(s, Client, "est", "PA", port);
    // The same segment again, as if the first was lost: numbers shift once.
    control.translated(s, Client, "est", "PA", port);
    control.send(s, Server, "est+rpl", "A", "");
    control.send(s, Server, "est+rpl", "PA", "200 port\r\n");
    control.send(s, Client, "est", "PA", "LIST\r\n");
    control.send(s, Server, "est+rpl", "PA", "150 here it comes\r\n");
    // Another port, another host.
    s.lone_syn(Server, "new", (40_001, 20), s.outside);
    s.lone_syn(Server, "new", (40_000, 20), View { server: stranger, ..s.outside });
    let mut data = Tcp::new((40_000, 20));
    data.opens(s, Server, ["new+rel", "est+rel+rpl", "est+rel"]);
    // An expectation is used once.
    s.lone_syn(Server, "new", (40_000, 1_024), s.outside);
    data.send(s, Server, "est+rel", "PA", &"-rw-r--r-- 1 ftp ftp 4096 file\r\n".repeat(20));
    data.send(s, Client, "est+rel+rpl", "A", "");
    data.send(s, Server, "est+rel", "FA", "");
    data.send(s, Client, "est+rel+rpl", "FA", "");
    data.send(s, Server, "est+rel", "A", "");
    log_out(s, control);
    session
}

/// Passive: the client asks by `ask`, and opens the data connection to port 50000, which the reply 227 or 229 names, as each
/// side sees it.
fn ftp_passive(mut session: Session, stranger: IpAddr, ask: &str, told: (&str, &str)) -> Session {
    let s = &mut session;
    let mut control = log_in(s);
    control.send(s, Client, "est", "PA", ask);
    control.translated(s, Server, "est+rpl", "PA", told);
    control.send(s, Client, "est", "PA", "RETR file\r\n");
    s.lone_syn(Client, "new", (30_001, 50_001), s.inside);
    s.lone_syn(Client, "new", (30_001, 50_000), View { server: stranger, ..s.inside });
    let mut data = Tcp::new((30_001, 50_000));
    data.syn(s, Client, "new+rel", "S", (&MSS_AND_SACK, &MSS_AND_SACK));
    data.send(s, Server, "est+rel+rpl", "SA", "");
    data.send(s, Client, "est+rel", "A", "");
    control.send(s, Server, "est+rpl", "PA", "150 here it comes\r\n");
    data.send(s, Server, "est+rel+rpl", "PA", &"contents of a file ".repeat(30));
    data.send(s, Client, "est+rel", "A", "");
    data.send(s, Server, "est+rel+rpl", "FA", "");
    data.send(s, Client, "est+rel", "FA", "");
    data.send(s, Server, "est+rel+rpl", "A", "");
    control.send(s, Client, "est", "A", "");
    log_out(s, control);
    session
}

/// A question, and two answers in fragments: in order, and out of order.
fn dns() -> Session {
    let mut s = masqueraded();
    let question =
        b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x07example\x03com\0\0\x10\0\x01\0\0\x29\x10\0\0\0\0\0\0\0";
    let answer = |n: u8| -> Vec<u8> {
        let head = [0x12, 0x34, 0x81, 0xa0, 0, 1, 0, 12, 0, 0, 0, 0];
        head.into_iter().chain((0..3_700u32).map(|i| (i * 7) as u8 ^ n)).collect()
    };
    let ports = (33_333, 53);
    s.udp(Client, "new", Passes, ports, question);
    // Unanswered, it stays new.
    s.udp(Client, "new", Passes, ports, question);
    s.udp_in_fragments(Server, "est+rpl", ports, &answer(1), &[0, 1, 2]);
    s.udp(Client, "est", Passes, ports, question);
    s.udp_in_fragments(Server, "est+rpl", ports, &answer(2), &[2, 0, 1]);
    // Nobody asked from that port.
    s.udp(Server, "new", Stops, (33_334, 53), b"an answer to nothing");
    s
}

/// Errors: port unreachable with all of the datagram, with 8 bytes of it, and one about a packet that nobody sent.
fn unreachable() -> Session {
    let mut s = masqueraded();
    let ports = (45_000, 33_434);
    let (inside, outside) = s.udp(Client, "new", Passes, ports, b"is anybody there? over");
    let port = || DestUnreachableHeader::Port;
    s.error(SERVER, "rel+rpl", Passes, port(), (&inside, &outside), 1_000);
    s.error(SERVER, "rel+rpl", Passes, port(), (&inside, &outside), 8);
    s.error(ROUTER, "rel+rpl", Passes, DestUnreachableHeader::Host, (&inside, &outside), 8);
    // An error is no answer.
    s.udp(Client, "new", Passes, ports, b"again");
    // Four bytes do not name a connection's length and checksum; an unknown port names none.
    s.error(SERVER, "inv", Stops, port(), (&inside, &outside), 4);
    let (_, unknown) = s.udp(Client, "new", Stops, (45_001, 7), b"refused by policy");
    s.error(SERVER, "inv", Stops, port(), (&unknown, &unknown), 8);
    s
}

/// A segment too long for a link behind the server's side: fragmentation needed, from a router, and smaller segments.
fn path_mtu() -> Session {
    let mut session = masqueraded();
    let s = &mut session;
    let mut web = Tcp::new((40_080, 80));
    web.syn(s, Client, "new", "S", (&MSS_AND_SACK, &MSS_AND_SACK));
    web.send(s, Server, "est+rpl", "SA", "");
    web.send(s, Client, "est", "A", "");
    let long = "POST /".repeat(233);
    let before = web.clone();
    let (inside, outside) = web.translated(s, Client, "est", "PA", (&long, &long));
    let needed = || DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1_300 };
    s.error(ROUTER, "rel+rpl", Passes, needed(), (&inside, &outside), 8);
    // A router that quotes more (RFC 1812 section 4.3.2.3).
    s.error(ROUTER, "rel+rpl", Passes, needed(), (&inside, &outside), 508);
    let mut web = before;
    let (first, second) = long.split_at(1_200);
    web.send(s, Client, "est", "A", first);
    web.send(s, Client, "est", "PA", second);
    web.send(s, Server, "est+rpl", "A", "");
    web.send(s, Server, "est+rpl", "PA", "HTTP/1.1 204 No Content\r\n\r\n");
    session
}

/// The server answers from a port of its own choice.
fn tftp() -> Session {
    let mut s = masqueraded();
    s.udp(Client, "new", Passes, (50_000, 69), b"\0\x01boot.img\0octet\0");
    // To another port of the client.
    s.udp(Server, "new", Stops, (50_001, 40_123), b"\0\x03\0\x01forged");
    let ports = (50_000, 40_123);
    let block = |n: u8, len: usize| [&[0, 3, 0, n][..], &vec![n; len]].concat();
    s.udp(Server, "new+rel", Passes, ports, &block(1, 512));
    s.udp(Client, "est+rel+rpl", Passes, ports, b"\0\x04\0\x01");
    s.udp(Server, "est+rel", Passes, ports, &block(2, 100));
    s.udp(Client, "est+rel+rpl", Passes, ports, b"\0\x04\0\x02");
    // From yet another port, after the expectation was used.
    s.udp(Server, "new", Stops, (50_000, 40_124), &block(3, 100));
    s
}

fn main() {
    let directory = std::env::args().nth(1).expect("the directory to write to");
    let port = ("PORT 10,0,0,1,156,64\r\n", "PORT 203,0,113,5,156,64\r\n");
    let reply = |ip: &str| format!("227 Entering Passive Mode ({ip},195,80).\r\n");
    let (server, service4) = (&reply("192,0,2,9"), &reply("198,51,100,21"));
    // RFC 2428, its addresses as RFC 5952 section 4 has them. Reply 229 names no address, so nothing in it is translated.
    let eprt = ("EPRT |2|2001:db8:1::1|40000|\r\n", "EPRT |2|2001:db8:cafe::105|40000|\r\n");
    let extended = "229 Entering Extended Passive Mode (|||50000|)\r\n";
    let sessions = [
        ("ftp-active", ftp_active(masqueraded(), STRANGER, "PORT 10,0,0,77,156,64\r\n", port)),
        ("ftp-passive", ftp_passive(masqueraded(), STRANGER, "PASV\r\n", (server, server))),
        ("ftp-service", ftp_passive(service(), STRANGER, "PASV\r\n", (service4, server))),
        ("ftp-eprt6", ftp_active(masqueraded6(), STRANGER6, "EPRT |2|2001:db8:1::77|40000|\r\n", eprt)),
        ("ftp-epsv6", ftp_passive(masqueraded6(), STRANGER6, "EPSV\r\n", (extended, extended))),
        ("ftp-service6", ftp_passive(service6(), STRANGER6, "EPSV\r\n", (extended, extended))),
        ("dns-fragments", dns()),
        ("udp-unreachable", unreachable()),
        ("path-mtu", path_mtu()),
        ("tftp", tftp()),
    ];
    for (name, session) in sessions {
        session.write(Path::new(&directory), name);
    }
}
