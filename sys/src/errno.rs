//! The error codes of Linux that callers tell apart, where `std::io::ErrorKind` does not.

pub use libc::{
    EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EBUSY, EEXIST, EINVAL, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENODEV,
    ENOMEM, ENXIO, EPERM,
};
