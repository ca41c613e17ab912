//! The two programs of the device, as bpf(2) takes them. In C they would be:
//!
//! ```c
//! int egress(struct __sk_buff *skb)
//! {
//!     __u32 mark = skb->mark;
//!     struct slot *slot = mark ? bpf_map_lookup_elem(&slots, &mark) : NULL;
//!
//!     if (!slot || bpf_skb_set_tunnel_key(skb, &slot->key, sizeof(slot->key), slot->flags))
//!         return TCX_DROP;
//!     skb->mark = 0;                     // it would be the outer packet's, for routes and firewalls
//!     return TCX_PASS;
//! }
//!
//! int ingress(struct __sk_buff *skb)
//! {
//!     struct { __u32 word; struct bpf_tunnel_key key; } prefix = { .word = 4 };
//!
//!     if (bpf_skb_get_tunnel_key(skb, &prefix.key, sizeof(prefix.key), 0)) {
//!         prefix.word = 6;
//!         if (bpf_skb_get_tunnel_key(skb, &prefix.key, sizeof(prefix.key), BPF_F_TUNINFO_IPV6))
//!             return TCX_DROP;
//!     }
//!     prefix.word |= skb->vlan_present << 3;
//!     if (bpf_skb_change_head(skb, sizeof(prefix), 0)
//!         || bpf_skb_store_bytes(skb, 0, &prefix, sizeof(prefix), 0))
//!         return TCX_DROP;
//!     return bpf_redirect(outlet, 0);
//! }
//! ```

use libc::c_int;

use super::key::{FLAG_IPV6, KEY_LEN, PREFIX_LEN, VLAN_BIT};
use crate::bpf::{Instruction, instruction};
use crate::interface::IfIndex;

// Offsets in `struct __sk_buff`.
const SKB_MARK: i16 = 8;
const SKB_VLAN_PRESENT: i16 = 20;

// Helpers (`BPF_FUNC_…`).
const MAP_LOOKUP_ELEM: i32 = 1;
const SKB_STORE_BYTES: i32 = 9;
const SKB_GET_TUNNEL_KEY: i32 = 20;
const SKB_SET_TUNNEL_KEY: i32 = 21;
const REDIRECT: i32 = 23;
const SKB_CHANGE_HEAD: i32 = 43;

const TCX_PASS: i32 = 0;
const TCX_DROP: i32 = 2;

/// Registers: 0 is a call's answer, 1 to 5 its arguments, 6 to 9 outlive it, 10 is the end of the stack.
type Register = u8;

const fn both(destination: Register, source: Register) -> u8 {
    destination | source << 4
}

/// `destination = value`, 64 bits (`BPF_ALU64 | BPF_MOV | BPF_K`).
const fn set(destination: Register, value: i32) -> Instruction {
    instruction(0xb7, both(destination, 0), 0, value)
}

/// `destination = source` (`BPF_ALU64 | BPF_MOV | BPF_X`).
const fn copy(destination: Register, source: Register) -> Instruction {
    instruction(0xbf, both(destination, source), 0, 0)
}

/// `destination += value` (`BPF_ALU64 | BPF_ADD | BPF_K`).
const fn add(destination: Register, value: i32) -> Instruction {
    instruction(0x07, both(destination, 0), 0, value)
}

/// `destination = *(u32 *)(source + offset)` (`BPF_LDX | BPF_MEM | BPF_W`).
const fn load(destination: Register, source: Register, offset: i16) -> Instruction {
    instruction(0x61, both(destination, source), offset, 0)
}

/// `*(u32 *)(destination + offset) = source` (`BPF_STX | BPF_MEM | BPF_W`).
const fn store(destination: Register, offset: i16, source: Register) -> Instruction {
    instruction(0x63, both(destination, source), offset, 0)
}

/// `BPF_JMP | BPF_CALL`.
const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, helper)
}

/// `BPF_JMP | BPF_EXIT`.
const EXIT: Instruction = instruction(0x95, 0, 0, 0);

/// Opcodes of jumps that compare with a number: `BPF_JMP | BPF_JEQ | BPF_K` and `BPF_JNE`.
const IF_ZERO: u8 = 0x15;
const UNLESS_ZERO: u8 = 0x55;

/// A part of a program.
#[derive(Clone, Copy)]
enum Step {
    /// As it is.
    Do(Instruction),
    /// `if (register == 0) return TCX_DROP`.
    DropIfZero(Register),
    /// `if (register != 0) return TCX_DROP`.
    DropUnlessZero(Register),
    /// Leaves out the next so many steps if the register is 0, each of one instruction.
    SkipIfZero(Register, i16),
}

use Step::{Do, DropIfZero, DropUnlessZero, SkipIfZero};

/// The program, with the place that drops behind its steps.
fn assemble(steps: &[Step]) -> Vec<Instruction> {
    let end = steps.len() as i16;
    let jump = |code, register, offset| instruction(code, both(register, 0), offset, 0);
    let mut code: Vec<Instruction> = (0..end)
        .zip(steps)
        .map(|(at, step)| match *step {
            Do(instruction) => instruction,
            DropIfZero(register) => jump(IF_ZERO, register, end - at - 1),
            DropUnlessZero(register) => jump(UNLESS_ZERO, register, end - at - 1),
            SkipIfZero(register, count) => jump(IF_ZERO, register, count),
        })
        .collect();
    code.extend([set(0, TCX_DROP), EXIT]);
    code
}

/// The sending program, for the map in which slots lie.
pub(super) fn egress(slots: c_int) -> Vec<Instruction> {
    assemble(&[
        Do(copy(6, 1)),
        Do(load(1, 6, SKB_MARK)),
        DropIfZero(1),
        Do(store(10, -4, 1)),
        // BPF_LD | BPF_DW | BPF_IMM with BPF_PSEUDO_MAP_FD, in two slots: r1 = the map.
        Do(instruction(0x18, both(1, 1), 0, slots)),
        Do(instruction(0, 0, 0, 0)),
        Do(copy(2, 10)),
        Do(add(2, -4)),
        Do(call(MAP_LOOKUP_ELEM)),
        DropIfZero(0),
        Do(load(4, 0, KEY_LEN as i16)),
        Do(copy(1, 6)),
        Do(copy(2, 0)),
        Do(set(3, KEY_LEN as i32)),
        Do(call(SKB_SET_TUNNEL_KEY)),
        DropUnlessZero(0),
        Do(set(1, 0)),
        Do(store(6, SKB_MARK, 1)),
        Do(set(0, TCX_PASS)),
        Do(EXIT),
    ])
}

/// The receiving program, for the device into which frames go.
pub(super) fn ingress(outlet: IfIndex) -> Vec<Instruction> {
    const PREFIX: i32 = -(PREFIX_LEN as i32);
    assemble(&[
        Do(copy(6, 1)),
        Do(set(7, 4)),
        Do(copy(2, 10)),
        Do(add(2, PREFIX + 4)),
        Do(set(3, KEY_LEN as i32)),
        Do(set(4, 0)),
        Do(call(SKB_GET_TUNNEL_KEY)),
        SkipIfZero(0, 8),
        Do(set(7, 6)),
        Do(copy(1, 6)),
        Do(copy(2, 10)),
        Do(add(2, PREFIX + 4)),
        Do(set(3, KEY_LEN as i32)),
        Do(set(4, FLAG_IPV6 as i32)),
        Do(call(SKB_GET_TUNNEL_KEY)),
        DropUnlessZero(0),
        Do(load(1, 6, SKB_VLAN_PRESENT)),
        SkipIfZero(1, 1),
        // BPF_ALU64 | BPF_OR | BPF_K.
        Do(instruction(0x47, both(7, 0), 0, VLAN_BIT as i32)),
        Do(store(10, PREFIX as i16, 7)),
        Do(copy(1, 6)),
        Do(set(2, PREFIX_LEN as i32)),
        Do(set(3, 0)),
        Do(call(SKB_CHANGE_HEAD)),
        DropUnlessZero(0),
        Do(copy(1, 6)),
        Do(set(2, 0)),
        Do(copy(3, 10)),
        Do(add(3, PREFIX)),
        Do(set(4, PREFIX_LEN as i32)),
        Do(set(5, 0)),
        Do(call(SKB_STORE_BYTES)),
        DropUnlessZero(0),
        Do(set(1, outlet.as_int())),
        Do(set(2, 0)),
        Do(call(REDIRECT)),
        Do(EXIT),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_where_they_should() {
        let code = assemble(&[DropIfZero(3), SkipIfZero(1, 1), Do(EXIT), DropUnlessZero(2), Do(EXIT)]);
        // From behind the jump.
        assert_eq!(code[0], instruction(0x15, 3, 4, 0));
        assert_eq!(code[1], instruction(0x15, 1, 1, 0));
        assert_eq!(code[3], instruction(0x55, 2, 1, 0));
        assert_eq!(code[5..], [instruction(0xb7, 0, 0, 2), EXIT]);
    }
}
