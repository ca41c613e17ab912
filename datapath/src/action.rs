//! What the datapath does to a frame: straight-line programs that `translate` composed.

use crate::conntrack::CtSpec;
use crate::drop::Drop;
use crate::meter::Meter;
use packet::key::{DpPort, Slot};
use packet::tunnel::{TunnelProtocol, TunnelPush};
use std::any::Any;
use std::sync::Arc;

/// Names a point in a pipeline where translation goes on once the frame has been parsed anew; 0 is the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RecircId(pub u32);

/// What travels with a frame that is handed to the slow path for good (to a controller); its content is the brain's.
pub type UpcallCookie = Arc<dyn Any + Send + Sync>;

/// One step of a program. Steps act on the frame in order; the frame ends with the program.
#[derive(Clone, Debug)]
pub enum DpAction {
    /// Sends a copy of the frame as it is now (the last output sends the frame itself).
    Output(DpPort),
    /// Sends a copy cut to this many bytes.
    OutputTrunc {
        /// Where to.
        port: DpPort,
        /// Bytes kept.
        max_len: u32,
    },
    /// Writes the bits of `mask` of a header field, with checksums; a frame without that header is left alone.
    SetField {
        /// The field: a slot of `PacketKey` that stands on the wire, or frame metadata (`PKT_MARK`).
        slot: Slot,
        /// The value, right-aligned, no bit outside `mask`.
        value: u128,
        /// Bits written.
        mask: u128,
    },
    /// Adds an outer VLAN tag.
    PushVlan {
        /// 0x8100 or 0x88a8.
        tpid: u16,
        /// PCP, DEI and VID; no presence bit.
        tci: u16,
    },
    /// Removes the outer VLAN tag, if there is one.
    PopVlan,
    /// Adds an MPLS label stack entry in front of what is there.
    PushMpls {
        /// The entry: label, TC, bottom-of-stack bit, TTL.
        lse: u32,
        /// New EtherType: 0x8847 or 0x8848.
        ethertype: u16,
    },
    /// Removes the outermost MPLS label stack entry.
    PopMpls {
        /// EtherType of what remains.
        ethertype: u16,
    },
    /// Measures the frame; one beyond the rate is dropped, which ends the program, or remarked.
    Meter(Arc<Meter>),
    /// Hands a copy of the frame to the slow path (`SlowPath::punt`).
    Upcall {
        /// Bytes wanted; `u32::MAX` for all.
        max_len: u32,
        /// What the brain needs to know again when it gets the frame.
        cookie: UpcallCookie,
    },
    /// A pass through the connection tracker: addresses and ports may be translated, the key's connection fields are set.
    Ct(Arc<CtSpec>),
    /// Forgets what the tracker said: the key's connection fields become zero.
    CtClear,
    /// Runs these steps on a copy; what they do to it leaves the frame as it is.
    Clone(Box<[DpAction]>),
    /// Puts the outer headers of a tunnel in front of the frame. A super-frame is segmented first, and what follows is done
    /// to each segment; a packet that does not fit is answered where it came from and dropped (`Drop::TunnelTooBig`).
    PushTunnel(Arc<TunnelPush>),
    /// Strips the outer headers of a tunnel and looks the inner frame up as one from `port`; always last.
    PopTunnel {
        /// Which headers.
        protocol: TunnelProtocol,
        /// The port that frames of the tunnel come in on.
        port: DpPort,
    },
    /// Parses the frame anew and looks it up with this recirculation id; a copy, if more steps follow.
    Recirculate(RecircId),
    /// Counts the frame as dropped for this reason; in an otherwise empty program. A program that outputs nothing and has
    /// no such step ends in `Drop::NoAction`.
    Drop(Drop),
}

/// A composed program. Empty programs are legal: the frame is dropped.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The steps.
    pub actions: Box<[DpAction]>,
}

impl Program {
    /// Whether it does the same as these steps. Two that do may still be told apart: what cannot be compared has to be the same.
    pub(crate) fn is_same(&self, steps: &[DpAction]) -> bool {
        same_steps(&self.actions, steps)
    }
}

fn same_steps(a: &[DpAction], b: &[DpAction]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_step(a, b))
}

fn same_step(a: &DpAction, b: &DpAction) -> bool {
    use DpAction::*;
    match (a, b) {
        (Output(a), Output(b)) => a == b,
        (OutputTrunc { port: a, max_len: m }, OutputTrunc { port: b, max_len: n }) => (a, m) == (b, n),
        (SetField { slot: a, value: v, mask: m }, SetField { slot: b, value: w, mask: n }) => {
            (a, v, m) == (b, w, n)
        }
        (PushVlan { tpid: a, tci: m }, PushVlan { tpid: b, tci: n }) => (a, m) == (b, n),
        (PushMpls { lse: a, ethertype: m }, PushMpls { lse: b, ethertype: n }) => (a, m) == (b, n),
        (PopMpls { ethertype: a }, PopMpls { ethertype: b }) => a == b,
        (Meter(a), Meter(b)) => Arc::ptr_eq(a, b),
        (Upcall { max_len: m, cookie: a }, Upcall { max_len: n, cookie: b }) => m == n && Arc::ptr_eq(a, b),
        (Ct(a), Ct(b)) => a == b,
        (Clone(a), Clone(b)) => same_steps(a, b),
        (PushTunnel(a), PushTunnel(b)) => a == b,
        (PopTunnel { protocol: a, port: m }, PopTunnel { protocol: b, port: n }) => (a, m) == (b, n),
        (Recirculate(a), Recirculate(b)) => a == b,
        (Drop(a), Drop(b)) => a == b,
        (PopVlan, PopVlan) | (CtClear, CtClear) => true,
        _ => false,
    }
}
