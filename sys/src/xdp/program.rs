//! The XDP program: five instructions that pass each frame to the socket of its queue, if there is one. Assembled here, as
//! bpf(2) takes them; the link by which it is on a device goes with its descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

use crate::interface::IfIndex;
use crate::sockopt::check;

// Commands of bpf(2) and kinds of object (linux/bpf.h), where libc has none.
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEM: c_int = 2;
const PROG_LOAD: c_int = 5;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const LINK_CREATE: c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` (linux/if_link.h).
const FLAGS_GENERIC: u32 = 1 << 1;
const FLAGS_NATIVE: u32 = 1 << 2;

/// Where in a device's receive path a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Behind the driver.
    Generic,
    /// In it.
    Native,
}

/// `struct bpf_insn`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `return bpf_redirect_map(map, context->rx_queue_index, XDP_PASS)`: what has no socket stays with the kernel.
const fn instructions(map: c_int) -> [Instruction; 6] {
    [
        // BPF_LDX | BPF_MEM | BPF_W: r2 = *(u32 *)(r1 + offsetof(struct xdp_md, rx_queue_index)).
        instruction(0x61, 0x12, 16, 0),
        // BPF_LD | BPF_DW | BPF_IMM with BPF_PSEUDO_MAP_FD, in two slots: r1 = map.
        instruction(0x18, 0x11, 0, map),
        instruction(0, 0, 0, 0),
        // BPF_ALU64 | BPF_MOV | BPF_K: r3 = XDP_PASS.
        instruction(0xb7, 0x03, 0, 2),
        // BPF_JMP | BPF_CALL of BPF_FUNC_redirect_map.
        instruction(0x85, 0, 0, 51),
        // BPF_JMP | BPF_EXIT.
        instruction(0x95, 0, 0, 0),
    ]
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

/// `struct bpf_link_info` of an XDP link, up to what is asked for.
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

/// A program on a device, and the map by which it finds the sockets.
#[derive(Debug)]
pub(super) struct Program {
    map: OwnedFd,
    link: OwnedFd,
}

impl Program {
    /// Puts a program on a device. It passes every frame on to the kernel until it knows sockets.
    pub fn attach(index: IfIndex, placement: Placement, queues: u16) -> io::Result<Program> {
        let mut map = MapCreate {
            map_type: MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: queues.into(),
            map_flags: 0,
        };
        // SAFETY: the structure belongs to the command and points to nothing.
        let map = unsafe { make(MAP_CREATE, &mut map) }?;
        let code = instructions(map.as_raw_fd());
        let license = c"Apache-2.0";
        let mut name = [0; 16];
        name[..12].copy_from_slice(b"tapestry_xsk");
        let mut load = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            count: code.len() as u32,
            instructions: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name,
            ifindex: 0,
            expected_attach_type: ATTACH_XDP,
        };
        // SAFETY: the structure belongs to the command and points to `count` instructions and to a string with its zero, which
        // both outlive the call and are only read.
        let program = unsafe { make(PROG_LOAD, &mut load) }?;
        let mut link = LinkCreate {
            program: program.as_raw_fd() as u32,
            ifindex: index.get(),
            attach_type: ATTACH_XDP,
            flags: match placement {
                Placement::Generic => FLAGS_GENERIC,
                Placement::Native => FLAGS_NATIVE,
            },
        };
        // SAFETY: the structure belongs to the command and points to nothing.
        let link = unsafe { make(LINK_CREATE, &mut link) }?;
        Ok(Program { map, link })
    }

    /// From now on the frames of a queue go to a socket, until that is closed.
    pub fn redirect(&self, queue: u16, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (key, value) = (u32::from(queue), socket.as_raw_fd() as u32);
        let mut update = MapUpdate {
            map: self.map.as_raw_fd() as u32,
            padding: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(&value) as u64,
            flags: 0,
        };
        // SAFETY: the structure belongs to the command and points to a key and a value of the map's sizes, which outlive the
        // call and are only read.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut update) }.map(drop)
    }

    /// Whether the program is still on its device.
    pub fn is_attached(&self) -> io::Result<bool> {
        let mut info = LinkInfo::default();
        let mut request = GetInfo {
            fd: self.link.as_raw_fd() as u32,
            length: size_of::<LinkInfo>() as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        // SAFETY: the structure belongs to the command and points to `length` bytes that the kernel may write, integers all of
        // them, which outlive the call.
        unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut request) }?;
        Ok(info.ifindex != 0)
    }
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` must be the part of `union bpf_attr` that belongs to `command`, and what it points to must be as the command
/// wants it for as long as the call takes.
unsafe fn bpf<T>(command: c_int, attributes: &mut T) -> io::Result<c_int> {
    // SAFETY: the kernel reads and writes at most as many bytes as are said to be there; the rest is this function's contract.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    check(result as c_int)
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
    fn structures_are_laid_out_as_the_kernel_s() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(size_of::<MapCreate>(), 20);
        assert_eq!((size_of::<MapUpdate>(), std::mem::offset_of!(MapUpdate, key)), (32, 8));
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(size_of::<LinkCreate>(), 16);
        assert_eq!(std::mem::offset_of!(LinkInfo, ifindex), 16);
    }
}
