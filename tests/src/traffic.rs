//! Traffic between pods by their kernels' stacks, every byte checked.

use crate::{Namespace, wait_for_some};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Bytes of a TCP transfer: enough for super-frames, little enough for a debug build.
pub const TRANSFER: usize = 8 << 20;

/// Longest that a peer may keep another waiting.
const PATIENCE: Duration = Duration::from_secs(20);

/// One pod's address and port, and how another reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// The address that the server listens on.
    pub at: &'a str,
    /// The address and port that the client connects to; `None` for the server's own.
    pub via: Option<SocketAddr>,
    /// The port that the server listens on; 0 for any.
    pub port: u16,
}

impl<'a> Reach<'a> {
    /// The server's own address, at any port.
    pub const fn direct(at: &'a str) -> Reach<'a> {
        Reach { at, via: None, port: 0 }
    }
}

/// A socket of a pod at an address. A child that another test is just starting holds a copy of every descriptor until it executes
/// its program, so that a port which was given up may be in use a moment longer.
pub fn bound<A: Copy + std::fmt::Debug + Sync, T: Send>(
    pod: &Namespace,
    bind: impl Fn(A) -> io::Result<T> + Sync,
    at: A,
) -> T {
    wait_for_some(&format!("{at:?} is free"), || match pod.enter(|| bind(at)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        bound => Some(bound.unwrap_or_else(|error| panic!("{at:?}: {error}"))),
    })
}

/// Sends [`TRANSFER`] bytes from a pod to another over TCP. Gives the client's address as the server saw it.
pub fn transfer(from: &Namespace, to: &Namespace, reach: Reach<'_>) -> SocketAddr {
    let data: Vec<u8> =
        (0..TRANSFER).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let listener = bound(to, TcpListener::bind, (reach.at, reach.port));
    let connect_to = reach.via.unwrap_or_else(|| listener.local_addr().expect("an address"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream =
                from.enter(|| TcpStream::connect_timeout(&connect_to, PATIENCE)).expect("connected");
            stream.set_write_timeout(Some(PATIENCE)).expect("a limit");
            stream.write_all(&data).expect("sent");
        });
        listener.set_nonblocking(true).expect("a listener");
        let (mut stream, client) = wait_for_some("a connection", || listener.accept().ok());
        stream.set_nonblocking(false).expect("a stream");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("received");
        assert!(received == data, "{} of {} bytes, or wrong ones", received.len(), data.len());
        client
    })
}

/// Whether a TCP connection can be opened within a second; nobody need accept it.
pub fn connects(from: &Namespace, to: SocketAddr) -> bool {
    from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(1))).is_ok()
}

/// A datagram there and its answer back. Gives the client's address as the server saw it.
pub fn ask(from: &Namespace, to: &Namespace, reach: Reach<'_>, payload: &[u8]) -> SocketAddr {
    let server = bound(to, UdpSocket::bind, (reach.at, reach.port));
    let send_to = reach.via.unwrap_or_else(|| server.local_addr().expect("an address"));
    let any = if send_to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = from.enter(|| UdpSocket::bind(any)).expect("a client");
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
    }
    client.send_to(payload, send_to).expect("sent");
    let mut buffer = vec![0; 65_536];
    let (len, seen) = server.recv_from(&mut buffer).expect("the server got the datagram");
    assert!(&buffer[..len] == payload, "the datagram arrived as it was sent");
    server.send_to(payload, seen).expect("answered");
    let (len, answered) = client.recv_from(&mut buffer).expect("the client got the answer");
    assert!(&buffer[..len] == payload, "the answer arrived as it was sent");
    assert_eq!(answered, send_to, "the answer came from whom the client had asked");
    seen
}
