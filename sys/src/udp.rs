//! What ordinary UDP sockets can do and the standard library does not offer.

use std::io;
use std::os::fd::AsFd;

use libc::c_int;

use crate::sockopt;

/// `UDP_SEGMENT` of `linux/udp.h`.
pub(crate) const UDP_SEGMENT: c_int = 103;

/// Has the kernel cut what is sent by one call into datagrams of so many bytes, the last one shorter: at the device if that can do
/// it, which then gets all as one frame.
///
/// # Errors
/// The kernel does not know it (before 4.18).
pub fn set_segment_size(socket: impl AsFd, bytes: u16) -> io::Result<()> {
    sockopt::set(socket, libc::SOL_UDP, UDP_SEGMENT, &c_int::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn one_call_sends_several_datagrams() {
        let (from, to) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        set_segment_size(&from, 100).unwrap();
        from.send_to(&[7; 250], to.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 1_000];
        assert_eq!([0; 3].map(|_| to.recv(&mut buffer).unwrap()), [100, 100, 50]);
    }
}
