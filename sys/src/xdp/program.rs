//! The XDP program: five instructions that pass each frame to the socket of its queue, if there is one.

use std::io;
use std::os::fd::BorrowedFd;

use libc::c_int;

use crate::bpf::{Hook, Instruction, Link, Map, MapKind, instruction};
use crate::interface::IfIndex;

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

/// A program on a device, and the map by which it finds the sockets.
#[derive(Debug)]
pub(super) struct Program {
    map: Map,
    link: Link,
}

impl Program {
    /// Puts a program on a device. It passes every frame on to the kernel until it knows sockets.
    pub fn attach(index: IfIndex, placement: Placement, queues: u16) -> io::Result<Program> {
        let map = Map::create(MapKind::Xsk, 4, queues.into(), 0)?;
        let flags = match placement {
            Placement::Generic => FLAGS_GENERIC,
            Placement::Native => FLAGS_NATIVE,
        };
        let link = Link::attach(Hook::Xdp, index, flags, b"tapestry_xsk", &instructions(map.number()))?;
        Ok(Program { map, link })
    }

    /// From now on the frames of a queue go to a socket, until that is closed.
    pub fn redirect(&self, queue: u16, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.map.put_fd(queue.into(), socket)
    }

    /// Whether the program is still on its device.
    pub fn is_attached(&self) -> io::Result<bool> {
        self.link.is_attached()
    }
}
