//! Socket addresses and control messages as bytes (`struct sockaddr_in`, `struct sockaddr_in6`, cmsg(3)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::c_int;

/// Bytes of a control message's header: its length (`size_t`), level and type.
const HEADER: usize = size_of::<libc::cmsghdr>();
/// Control messages and their headers begin at multiples of this.
const ALIGNMENT: usize = size_of::<usize>();
/// Bytes of a `struct sockaddr_in6`, the longer of the two.
pub(super) const NAME_LENGTH: usize = size_of::<libc::sockaddr_in6>();
/// Bytes of a `struct sockaddr_in`.
const NAME4_LENGTH: usize = size_of::<libc::sockaddr_in>();
/// Room for all control messages of one datagram: an address of at most 40 bytes and three of 24, or an error of 64.
pub(super) const CONTROL_LENGTH: usize = 128;

/// A socket address of either family.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name(pub [u8; NAME_LENGTH]);

impl Name {
    pub const EMPTY: Name = Name([0; NAME_LENGTH]);

    /// The address, and its length for the kernel.
    pub fn new(ip: IpAddr, port: u16) -> (Name, usize) {
        let mut name = Name::EMPTY;
        let family = match ip {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        name.put(0, &(family as u16).to_ne_bytes());
        name.put(2, &port.to_be_bytes());
        match ip {
            IpAddr::V4(ip) => {
                name.put(4, &ip.octets());
                (name, NAME4_LENGTH)
            }
            IpAddr::V6(ip) => {
                name.put(8, &ip.octets());
                (name, NAME_LENGTH)
            }
        }
    }

    /// Address and port; `None` for what the kernel did not fill in.
    pub fn read(&self) -> Option<(IpAddr, u16)> {
        let [f0, f1, p0, p1, rest @ ..] = self.0;
        let port = u16::from_be_bytes([p0, p1]);
        match c_int::from(u16::from_ne_bytes([f0, f1])) {
            libc::AF_INET => Some((Ipv4Addr::from(*rest.first_chunk::<4>()?).into(), port)),
            libc::AF_INET6 => Some((Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?).into(), port)),
            _ => None,
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
}

/// Room for control messages, aligned as they have to be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub [u8; CONTROL_LENGTH]);

impl Control {
    pub const EMPTY: Control = Control([0; CONTROL_LENGTH]);

    /// Puts a message behind the `length` bytes that are there; gives the new length. One that does not fit is left out.
    pub fn push(&mut self, length: usize, level: c_int, kind: c_int, data: &[u8]) -> usize {
        let whole = HEADER + data.len();
        let next = length + whole.next_multiple_of(ALIGNMENT);
        let Some(room) = self.0.get_mut(length..next) else { return length };
        let header = whole.to_ne_bytes().into_iter().chain(level.to_ne_bytes()).chain(kind.to_ne_bytes());
        let bytes = header.chain(data.iter().copied()).chain(std::iter::repeat(0));
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = from;
        }
        next
    }

    /// The messages in the first `length` bytes.
    pub fn messages(&self, length: usize) -> Messages<'_> {
        Messages(self.0.get(..length).unwrap_or(&self.0))
    }
}

/// Level, type and data of each control message. Ends at the first that is not whole.
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (c_int, c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<{ size_of::<usize>() }>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<4>()?;
        let length = usize::from_ne_bytes(*length);
        let data = self.0.get(HEADER..length)?;
        let (level, kind) = (c_int::from_ne_bytes(*level), c_int::from_ne_bytes(*kind));
        self.0 = self.0.get(length.checked_next_multiple_of(ALIGNMENT)?..).unwrap_or(&[]);
        Some((level, kind, data))
    }
}

/// A control message whose data is a C `int`.
pub(super) fn int(data: &[u8]) -> Option<c_int> {
    data.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for text in ["192.0.2.1", "2001:db8::7", "0.0.0.0", "::"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Name::new(ip, 4789).0.read(), Some((ip, 4789)));
        }
        assert_eq!(Name::EMPTY.read(), None);
    }

    #[test]
    fn messages_are_laid_out_as_the_c_library_does() {
        let mut control = Control::EMPTY;
        let first = control.push(0, 1, 2, &[9]);
        // SAFETY: the macro only computes with its argument.
        assert_eq!(first, unsafe { libc::CMSG_SPACE(1) } as usize);
        let second = control.push(first, 3, 4, &7i32.to_ne_bytes());
        let all: Vec<_> = control.messages(second).collect();
        assert_eq!(all, [(1, 2, &[9][..]), (3, 4, &7i32.to_ne_bytes()[..])]);
        assert_eq!(int(all[1].2), Some(7));
        assert_eq!((int(&[1, 2]), control.push(250, 1, 1, &[0])), (None, 250));
    }

    #[test]
    fn damaged_messages_end_the_list() {
        let mut control = Control::EMPTY;
        let length = control.push(0, 1, 2, &[9; 8]);
        for cut in 0..length {
            assert_eq!(control.messages(cut).count(), 0, "{cut}");
        }
        for lie in [0usize, 3, 15, CONTROL_LENGTH + 1, usize::MAX] {
            let mut lying = control;
            lying.0[..8].copy_from_slice(&lie.to_ne_bytes());
            assert_eq!(lying.messages(CONTROL_LENGTH).take(100).count(), 0, "{lie}");
        }
    }
}
