//! The error codes of Linux that callers tell apart, where `std::io::ErrorKind` does not.

pub use libc::{
    EAGAIN, EBUSY, EEXIST, EINVAL, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENODEV, ENOMEM, ENXIO, EPERM,
};
