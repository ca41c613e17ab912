//! One frame: a buffer with headroom, where its layers begin, and what was left for somebody else to compute.

use crate::key::DpPort;

/// Room kept free in front of a received frame, so that tunnel headers, VLAN tags and MPLS labels are pushed without a copy.
pub const HEADROOM: usize = 128;
/// Largest frame in bytes: a 64 KiB segment with its Ethernet header and two VLAN tags.
pub const FRAME_LEN_MAX: usize = 65_535 + 14 + 8;

/// Offset of a layer that the frame does not have.
pub const NO_LAYER: u16 = u16::MAX;

/// Where the layers of a frame begin, in bytes from its first byte; [`NO_LAYER`] where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layers {
    /// First MPLS label stack entry.
    pub l2_5: u16,
    /// IPv4, IPv6 or ARP header.
    pub l3: u16,
    /// TCP, UDP, SCTP, ICMP or ICMPv6 header; only where it is whole and not in a later fragment.
    pub l4: u16,
    /// Bytes after the end of the packet (Ethernet padding), not part of any layer.
    pub padding: u16,
}

impl Default for Layers {
    fn default() -> Self {
        Layers { l2_5: NO_LAYER, l3: NO_LAYER, l4: NO_LAYER, padding: 0 }
    }
}

/// What is known about the transport checksum of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// Nothing: it stands in the frame and may be wrong.
    #[default]
    Unknown,
    /// The sender or the kernel vouches for it.
    Valid,
    /// The field holds the sum of the pseudo header only; whoever sends the frame off the host must add the bytes from
    /// `start` to the end and store the complement at `start + offset` (virtio `NEEDS_CSUM`).
    Partial {
        /// Where summing starts, in bytes from the first byte of the frame: the transport header.
        start: u16,
        /// Place of the checksum field after `start`, in bytes.
        offset: u16,
    },
}

/// How a frame longer than the MTU is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Segmentation {
    /// It is not: the frame goes out as it is.
    #[default]
    None,
    /// TCP over IPv4, `size` bytes of payload a segment.
    TcpV4 {
        /// Payload bytes a segment, at least 1.
        size: u16,
        /// CWR is set on the first segment only (the sender negotiated ECN).
        ecn: bool,
    },
    /// TCP over IPv6.
    TcpV6 {
        /// Payload bytes a segment, at least 1.
        size: u16,
        /// See [`Segmentation::TcpV4`].
        ecn: bool,
    },
    /// UDP datagrams of `size` payload bytes each (virtio `GSO_UDP_L4`).
    UdpL4 {
        /// Payload bytes a datagram, at least 1.
        size: u16,
    },
}

/// A frame from the Ethernet header on. Owns its buffer, which a pool may take back.
#[derive(Debug)]
pub struct Frame {
    buf: Box<[u8]>,
    start: usize,
    len: usize,
    /// Layer offsets; kept true by `PacketKey::extract` and by every rewrite.
    pub layers: Layers,
    /// State of the transport checksum.
    pub checksum: Checksum,
    /// Segmentation that is still to be done.
    pub segmentation: Segmentation,
    /// The port that the frame came in on.
    pub in_port: DpPort,
}

impl Frame {
    /// An empty frame in a zeroed buffer of `HEADROOM` and room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Frame {
        Frame {
            buf: vec![0; HEADROOM + capacity].into_boxed_slice(),
            start: HEADROOM,
            len: 0,
            layers: Layers::default(),
            checksum: Checksum::Unknown,
            segmentation: Segmentation::None,
            in_port: DpPort::NONE,
        }
    }

    /// A frame that holds a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Frame {
        let mut frame = Frame::with_capacity(bytes.len());
        frame.buf[HEADROOM..].copy_from_slice(bytes);
        frame.len = bytes.len();
        frame
    }

    /// The bytes, from the Ethernet header on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.len]
    }

    /// The bytes, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.start + self.len]
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame holds no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
