//! One frame: a buffer with headroom, where its layers begin, and what was left for somebody else to compute.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::key::DpPort;
use crate::tunnel::TunnelProtocol;

/// Room kept free in front of a received frame, so that tunnel headers, VLAN tags and MPLS labels are pushed without a copy:
/// Geneve over IPv6 with every option that can be mapped takes 230 bytes.
pub const HEADROOM: usize = 256;
/// Largest frame in bytes: a 64 KiB segment with its Ethernet header and two VLAN tags.
pub const FRAME_LEN_MAX: usize = 65_535 + 14 + 8;

/// Longest that pushes may make a frame: a super-frame with as much in front of it as the headroom holds.
pub const FRAME_PUSHED_MAX: usize = FRAME_LEN_MAX + HEADROOM;

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

/// Why a frame cannot take the wanted shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The frame would be longer than [`FRAME_PUSHED_MAX`] or than the room behind it.
    TooLong {
        /// The length that was asked for, in bytes.
        wanted: usize,
    },
    /// More bytes were to be removed than the frame has.
    TooShort {
        /// Bytes that were to be removed.
        wanted: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { wanted } => write!(f, "a frame of {wanted} bytes does not fit"),
            FrameError::TooShort { wanted } => write!(f, "the frame has no {wanted} bytes to remove"),
        }
    }
}

impl std::error::Error for FrameError {}

/// A frame from the Ethernet header on. Owns its buffer, which a pool may take back.
///
/// ```text
///  buf  |<----- headroom ----->|<-------- len -------->|<--- room --->|
///       0                      start
/// ```
///
/// A frame is handed from batch to port to queue several times, so it is a pointer; its state is one cache line behind it.
#[derive(Debug)]
pub struct Frame(Box<FrameState>);

/// What a [`Frame`] points to.
#[derive(Debug)]
#[repr(align(64))]
pub struct FrameState {
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
    /// The frame is a tunnel's packet for this host, from its outer Ethernet header on: what counts is inside, and the outer
    /// headers are to be popped before anything else. Set by ports whose device is a tunnel's socket.
    pub encapsulated: Option<TunnelProtocol>,
    /// Segmentation of what is inside a tunnel packet, for when it has left the tunnel; a partial checksum is then the inner
    /// packet's too. The outer packet is one super-packet, which no port can send; [`Segments`](crate::Segments) cuts it.
    pub inner_segmentation: Segmentation,
}

impl Deref for Frame {
    type Target = FrameState;

    #[inline]
    fn deref(&self) -> &FrameState {
        &self.0
    }
}

impl DerefMut for Frame {
    #[inline]
    fn deref_mut(&mut self) -> &mut FrameState {
        &mut self.0
    }
}

impl Frame {
    /// An empty frame in a zeroed buffer of `HEADROOM` and room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Frame {
        Frame(Box::new(FrameState {
            buf: vec![0; HEADROOM + capacity].into_boxed_slice(),
            start: HEADROOM,
            len: 0,
            layers: Layers::default(),
            checksum: Checksum::Unknown,
            segmentation: Segmentation::None,
            in_port: DpPort::NONE,
            encapsulated: None,
            inner_segmentation: Segmentation::None,
        }))
    }

    /// A frame that holds a copy of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Frame {
        let mut frame = Frame::with_capacity(bytes.len());
        frame.append_within_room(bytes);
        frame
    }

    /// The bytes, from the Ethernet header on.
    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "start + len never exceeds the buffer: every method below keeps it so"
    )]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.len]
    }

    /// The bytes, to be changed in place.
    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "start + len never exceeds the buffer: every method below keeps it so"
    )]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let frame = &mut *self.0;
        &mut frame.buf[frame.start..frame.start + frame.len]
    }

    /// The bytes, and the layer offsets to be changed.
    #[inline]
    #[expect(
        clippy::indexing_slicing,
        reason = "start + len never exceeds the buffer: every method below keeps it so"
    )]
    pub(crate) fn bytes_and_layers_mut(&mut self) -> (&[u8], &mut Layers) {
        let frame = &mut *self.0;
        (&frame.buf[frame.start..frame.start + frame.len], &mut frame.layers)
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

    /// Bytes that can be pushed without a copy.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Size of the buffer, headroom included; pools keep buffers of one size only.
    #[inline]
    pub fn buffer_len(&self) -> usize {
        self.buf.len()
    }

    /// Everything from the first byte of the frame to the end of the buffer, to receive into. Follow with [`set_len`](Self::set_len).
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "start never exceeds the buffer")]
    pub fn room_mut(&mut self) -> &mut [u8] {
        let frame = &mut *self.0;
        &mut frame.buf[frame.start..]
    }

    /// As [`room_mut`](Self::room_mut), with `front` bytes more before it, for what a device puts before its frames. Empty if
    /// there is no such headroom.
    #[inline]
    pub fn room_behind_mut(&mut self, front: usize) -> &mut [u8] {
        let frame = &mut *self.0;
        let start = frame.start.checked_sub(front);
        start.and_then(|start| frame.buf.get_mut(start..)).unwrap_or_default()
    }

    /// The `front` bytes before the frame; empty if there is no such headroom.
    #[inline]
    pub fn front(&self, front: usize) -> &[u8] {
        let start = self.start.checked_sub(front);
        start.and_then(|start| self.buf.get(start..self.start)).unwrap_or_default()
    }

    /// Says how many bytes of the room were filled.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the room is smaller; the length is then unchanged.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Result<(), FrameError> {
        if len > self.buf.len() - self.start {
            return Err(FrameError::TooLong { wanted: len });
        }
        self.len = len;
        Ok(())
    }

    /// Cuts the frame to at most `len` bytes. Layers stay as they are: extract again if any may have been cut.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Removes what lies behind the end of the packet ([`Layers::padding`]).
    #[inline]
    pub fn trim_padding(&mut self) {
        self.len = self.packet_end();
        self.layers.padding = 0;
    }

    /// Where the packet ends and padding begins, in bytes from the first byte of the frame.
    #[inline]
    pub fn packet_end(&self) -> usize {
        self.len.saturating_sub(self.layers.padding as usize)
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the room behind the frame does not suffice; the frame is then unchanged.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        if self.append_within_room(bytes) {
            Ok(())
        } else {
            Err(FrameError::TooLong { wanted: self.len + bytes.len() })
        }
    }

    #[inline]
    fn append_within_room(&mut self, bytes: &[u8]) -> bool {
        let end = self.start + self.len;
        let Some(room) = self.buf.get_mut(end..).and_then(|tail| tail.get_mut(..bytes.len())) else {
            return false;
        };
        room.copy_from_slice(bytes);
        self.len += bytes.len();
        true
    }

    /// Adds `count` bytes in front and gives them to be filled (their content is whatever was there). Layer offsets and
    /// [`Checksum::Partial`] go on denoting the bytes they denoted. Copies the frame if the headroom does not suffice.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] beyond [`FRAME_PUSHED_MAX`]; the frame is then unchanged.
    #[inline]
    pub fn push_front(&mut self, count: usize) -> Result<&mut [u8], FrameError> {
        let wanted = self.len.saturating_add(count);
        if wanted > FRAME_PUSHED_MAX {
            return Err(FrameError::TooLong { wanted });
        }
        if count > self.start {
            self.grow_headroom(count);
        }
        self.start -= count;
        self.len += count;
        self.move_offsets(|offset| offset.checked_add(count as u16));
        Ok(self.bytes_mut().get_mut(..count).unwrap_or_default())
    }

    /// Removes `count` bytes in front. Layers that began there are forgotten, as is a partial checksum.
    ///
    /// # Errors
    /// [`FrameError::TooShort`] if there are not so many; the frame is then unchanged.
    #[inline]
    pub fn pull_front(&mut self, count: usize) -> Result<(), FrameError> {
        if count > self.len {
            return Err(FrameError::TooShort { wanted: count });
        }
        self.start += count;
        self.len -= count;
        self.move_offsets(|offset| (offset as usize).checked_sub(count).map(|o| o as u16));
        Ok(())
    }

    /// Empties the frame and forgets all that was known about it; the full headroom is free again.
    #[inline]
    pub fn reset(&mut self) {
        let frame = &mut *self.0;
        frame.start = HEADROOM.min(frame.buf.len());
        frame.len = 0;
        frame.layers = Layers::default();
        frame.checksum = Checksum::Unknown;
        frame.segmentation = Segmentation::None;
        frame.in_port = DpPort::NONE;
        frame.encapsulated = None;
        frame.inner_segmentation = Segmentation::None;
    }

    /// Takes over what is known about another frame with the same bytes.
    #[inline]
    pub(crate) fn copy_metadata(&mut self, other: &Frame) {
        self.layers = other.layers;
        self.checksum = other.checksum;
        self.segmentation = other.segmentation;
        self.in_port = other.in_port;
        self.encapsulated = other.encapsulated;
        self.inner_segmentation = other.inner_segmentation;
    }

    #[cold]
    fn grow_headroom(&mut self, count: usize) {
        let start = HEADROOM + count;
        let tail_len = self.buf.len() - self.start;
        let mut buf = vec![0; start + tail_len].into_boxed_slice();
        if let (Some(to), Some(from)) = (buf.get_mut(start..), self.buf.get(self.start..)) {
            to.copy_from_slice(from);
        }
        self.buf = buf;
        self.start = start;
    }

    #[inline]
    fn move_offsets(&mut self, moved: impl Fn(u16) -> Option<u16>) {
        let layers = &mut self.layers;
        for offset in [&mut layers.l2_5, &mut layers.l3, &mut layers.l4] {
            if *offset != NO_LAYER {
                *offset = moved(*offset).unwrap_or(NO_LAYER);
            }
        }
        if let Checksum::Partial { start, offset } = self.checksum {
            self.checksum =
                moved(start).map_or(Checksum::Unknown, |start| Checksum::Partial { start, offset });
        }
    }
}
