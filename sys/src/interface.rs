//! Names and numbers of network interfaces, validated once at the door.

use std::fmt;
use std::str::FromStr;

use libc::{IFNAMSIZ, c_char};

/// The longest interface name the kernel takes, in bytes (`IFNAMSIZ` less the closing zero byte).
pub const NAME_LENGTH_MAX: usize = IFNAMSIZ - 1;

/// A name that the kernel accepts for an interface: 1 to 15 bytes, no `/`, no `:`, no white space, not `.` or `..`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName {
    // Filled up with zero bytes, and at least the last one is zero.
    bytes: [u8; IFNAMSIZ],
}

/// Why a string is not an interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IfNameError {
    /// No bytes at all.
    #[error("an interface name must not be empty")]
    Empty,
    /// More than [`NAME_LENGTH_MAX`] bytes.
    #[error("interface name {0:?} is longer than {NAME_LENGTH_MAX} bytes")]
    TooLong(String),
    /// A character the kernel refuses, or the names `.` and `..`.
    #[error("interface name {0:?} contains what the kernel does not allow in one")]
    Forbidden(String),
}

impl IfName {
    /// Checks `name` as the kernel's `dev_valid_name` does.
    ///
    /// # Errors
    /// [`IfNameError`] says what is wrong with it.
    pub fn new(name: &str) -> Result<Self, IfNameError> {
        if name.is_empty() {
            return Err(IfNameError::Empty);
        }
        if name.len() > NAME_LENGTH_MAX {
            return Err(IfNameError::TooLong(name.to_owned()));
        }
        let forbidden =
            |byte: u8| matches!(byte, 0 | b'/' | b':' | 0x0b | 0x0c) || byte.is_ascii_whitespace();
        // The kernel's isspace() follows Latin-1, where 0xa0 is a space; a `%` asks it to make up a number.
        if name == "." || name == ".." || name.bytes().any(|b| forbidden(b) || b == 0xa0 || b == b'%') {
            return Err(IfNameError::Forbidden(name.to_owned()));
        }
        let mut bytes = [0; IFNAMSIZ];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Ok(Self { bytes })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let length = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_LENGTH_MAX);
        self.bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// As `struct ifreq` holds it: 16 bytes, closed by at least one zero byte.
    pub(crate) fn as_ifr_name(&self) -> [c_char; IFNAMSIZ] {
        self.bytes.map(|byte| c_char::from_ne_bytes([byte]))
    }

    /// Reads the name field of a `struct ifreq`.
    pub(crate) fn from_ifr_name(name: &[c_char; IFNAMSIZ]) -> Result<Self, IfNameError> {
        let bytes: Vec<u8> =
            name.iter().map(|c| c.to_ne_bytes()).map(|[byte]| byte).take_while(|&byte| byte != 0).collect();
        Self::new(&String::from_utf8_lossy(&bytes))
    }
}

impl FromStr for IfName {
    type Err = IfNameError;
    fn from_str(name: &str) -> Result<Self, IfNameError> {
        Self::new(name)
    }
}

impl TryFrom<&str> for IfName {
    type Error = IfNameError;
    fn try_from(name: &str) -> Result<Self, IfNameError> {
        Self::new(name)
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// The kernel's number of an interface, unique within one network namespace and never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(u32);

impl IfIndex {
    /// An index the kernel named; `None` for zero and for what does not fit the kernel's `int`.
    pub fn new(index: u32) -> Option<Self> {
        (index != 0 && i32::try_from(index).is_ok()).then_some(Self(index))
    }

    /// The index of the interface called `name` in the namespace of the calling thread, if there is one.
    pub fn of(name: &IfName) -> Option<Self> {
        let name = name.as_ifr_name();
        // SAFETY: `name` ends with a zero byte (see `IfName`), and the call only reads it.
        Self::new(unsafe { libc::if_nametoindex(name.as_ptr()) })
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// As the `int` that socket addresses hold.
    pub(crate) fn as_int(self) -> i32 {
        // `new` lets no larger number in.
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_kernel_accepts() {
        for name in ["a", "eth0", "pod-1.100", "fifteen_letters", "é"] {
            assert_eq!(IfName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        assert_eq!(IfName::new(""), Err(IfNameError::Empty));
        assert_eq!(IfName::new("sixteen_letters_"), Err(IfNameError::TooLong("sixteen_letters_".into())));
        for name in [".", "..", "a/b", "a b", "a:b", "tap%d", "a\tb", "a\0b", "a\u{b}b"] {
            assert_eq!(IfName::new(name), Err(IfNameError::Forbidden(name.into())), "{name:?}");
        }
    }

    #[test]
    fn ifreq_form_goes_there_and_back() {
        for name in ["a", "fifteen_letters"] {
            let name = IfName::new(name).unwrap();
            assert_eq!(IfName::from_ifr_name(&name.as_ifr_name()), Ok(name));
        }
    }

    #[test]
    fn loopback_is_the_first_of_any_namespace() {
        let of = |name| IfIndex::of(&IfName::new(name).unwrap());
        crate::scratch::Scratch::new().run(|| {
            assert_eq!(of("lo").map(IfIndex::get), Some(1));
            assert_eq!(of("no-such-link"), None);
        });
    }

    #[test]
    fn index_is_a_positive_int() {
        assert_eq!(IfIndex::new(0), None);
        assert_eq!(IfIndex::new(1).map(IfIndex::get), Some(1));
        assert_eq!(IfIndex::new(u32::MAX), None);
    }
}
