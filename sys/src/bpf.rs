//! bpf(2): maps, programs assembled here, and the links by which they are on a device. A link goes with its descriptor, and so
//! do program and map, so nothing is left behind even by a process that is killed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

use crate::interface::IfIndex;
use crate::sockopt::check;

// Commands of bpf(2) (linux/bpf.h), where libc has none.
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEM: c_int = 2;
const PROG_LOAD: c_int = 5;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const LINK_CREATE: c_int = 28;

/// Kinds of map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MapKind {
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_XSKMAP`.
    Xsk = 17,
}

/// `BPF_F_MMAPABLE`: an array whose values user space has in its memory.
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// Where a program is put, and with it of which type it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// In a device's receive path, before the kernel's own stack (`BPF_PROG_TYPE_XDP`).
    Xdp,
    /// Behind it, where packets have all that the kernel knows of them (`BPF_PROG_TYPE_SCHED_CLS`, tcx; since Linux 6.6).
    TcxIngress,
    /// Before a device sends.
    TcxEgress,
}

impl Hook {
    const fn program_type(self) -> u32 {
        match self {
            Hook::Xdp => 6,
            Hook::TcxIngress | Hook::TcxEgress => 3,
        }
    }

    const fn attach_type(self) -> u32 {
        match self {
            Hook::Xdp => 37,
            Hook::TcxIngress => 46,
            Hook::TcxEgress => 47,
        }
    }
}

/// `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

pub(crate) const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

// The parts of `union bpf_attr` that belong to the commands above; the kernel takes what is missing at the end for zeros.

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info` of a link on a device, up to what is asked for.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    program_id: u32,
    padding: u32,
    ifindex: u32,
    padding_end: u32,
}

/// A map whose keys are 32-bit numbers from 0 on.
#[derive(Debug)]
pub(crate) struct Map(OwnedFd);

impl Map {
    /// One of `entries` values of `value_len` bytes.
    pub fn create(kind: MapKind, value_len: u32, entries: u32, flags: u32) -> io::Result<Map> {
        let mut attributes = MapCreate {
            map_type: kind as u32,
            key_size: 4,
            value_size: value_len,
            max_entries: entries,
            map_flags: flags,
        };
        // SAFETY: the structure belongs to the command and points to nothing.
        unsafe { make(MAP_CREATE, &mut attributes) }.map(Map)
    }

    /// Puts a descriptor into a map of such ([`MapKind::Xsk`], whose values have 4 bytes).
    pub fn put_fd(&self, key: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        let value = fd.as_raw_fd() as u32;
        let mut update = MapUpdate {
            map: self.0.as_raw_fd() as u32,
            padding: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        // SAFETY: the structure belongs to the command and points to a key and a value of the map's sizes, which outlive the
        // call and are only read.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut update) }.map(drop)
    }

    /// For instructions that name it.
    pub fn number(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

impl std::os::fd::AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A program on a device, until this is dropped.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Loads a program and puts it on the device `index` of the calling thread's namespace. `flags` are the hook's own. Maps that
    /// it names live as long as it.
    pub fn attach(
        hook: Hook,
        index: IfIndex,
        flags: u32,
        name: &[u8],
        code: &[Instruction],
    ) -> io::Result<Link> {
        let license = c"Apache-2.0";
        let mut padded = [0; 16];
        padded.iter_mut().zip(name.iter().take(15)).for_each(|(to, from)| *to = *from);
        let mut load = ProgLoad {
            prog_type: hook.program_type(),
            count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: padded,
            ifindex: 0,
            expected_attach_type: hook.attach_type(),
        };
        // SAFETY: the structure belongs to the command and points to `count` instructions and to a string with its zero, which
        // both outlive the call and are only read.
        let program = unsafe { make(PROG_LOAD, &mut load) }?;
        let mut link = LinkCreate {
            program: program.as_raw_fd() as u32,
            ifindex: index.get(),
            attach_type: hook.attach_type(),
            flags,
        };
        // SAFETY: the structure belongs to the command and points to nothing.
        unsafe { make(LINK_CREATE, &mut link) }.map(Link)
    }

    /// Whether the program is still on its device.
    pub fn is_attached(&self) -> io::Result<bool> {
        let mut info = LinkInfo::default();
        let mut request = GetInfo {
            fd: self.0.as_raw_fd() as u32,
            length: size_of::<LinkInfo>() as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        // SAFETY: the structure belongs to the command and points to `length` bytes that the kernel may write, integers all of
        // them, which outlive the call.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut request) }?;
        Ok(info.ifindex != 0)
    }
}

/// How often a call that was disturbed is made.
const TRIES: u32 = 16;

/// Calls bpf(2).
///
/// # Safety
/// `attributes` must be the part of `union bpf_attr` that belongs to `command`, and what it points to must be as the command
/// wants it for as long as the call takes.
unsafe fn bpf<T>(command: c_int, attributes: &mut T) -> io::Result<c_int> {
    until_undisturbed(|| {
        // SAFETY: the kernel reads and writes at most as many bytes as are said to be there; the rest is this function's contract.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
        check(result as c_int)
    })
}

/// Calls again what ended because something else was to be done by the thread, which it has been by then: the kernel gives up
/// checking a program with EAGAIN when a signal, or work of a ring, is pending.
fn until_undisturbed<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let disturbed =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
    for _ in 1..TRIES {
        match call() {
            Err(error) if disturbed(&error) => {}
            result => return result,
        }
    }
    call()
}

/// The same for commands that make something with a descriptor.
///
/// # Safety
/// As [`bpf`], and `command` must return a new descriptor.
unsafe fn make<T>(command: c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: by this function's contract; the descriptor is new, so nobody else knows it. bpf(2) makes them close-on-exec.
    unsafe { bpf(command, attributes).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disturbed_calls_are_made_again_but_not_for_ever() {
        let times = |failures: u32, errno: c_int| {
            let mut calls = 0;
            let result = until_undisturbed(|| {
                calls += 1;
                if calls > failures { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
            });
            (calls, result.map_err(|e| e.raw_os_error()))
        };
        assert_eq!(times(3, libc::EAGAIN), (4, Ok(())));
        assert_eq!(times(TRIES - 1, libc::EINTR), (TRIES, Ok(())));
        assert_eq!(times(TRIES, libc::EAGAIN), (TRIES, Err(Some(libc::EAGAIN))));
        assert_eq!(times(1, libc::EPERM), (1, Err(Some(libc::EPERM))));
    }

    #[test]
    fn structures_are_laid_out_as_the_kernel_s() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(size_of::<MapCreate>(), 20);
        assert_eq!((size_of::<MapUpdate>(), std::mem::offset_of!(MapUpdate, key)), (32, 8));
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(size_of::<LinkCreate>(), 16);
        assert_eq!(std::mem::offset_of!(LinkInfo, ifindex), 16);
    }
}
