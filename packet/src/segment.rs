//! Segmentation in software, for ports whose other side cannot: a super-frame becomes frames that fit the MTU.
//!
//! Rules are those of the kernel's: headers are repeated; lengths, checksums, TCP sequence numbers and the IPv4
//! identification are each segment's own; PSH and FIN stand on the last segment only, CWR on the first only (RFC 3168
//! section 6.1.2). TCP options, timestamps among them, are repeated as they are. Works behind VLAN tags and MPLS labels, and
//! inside a tunnel that the sender made itself.
//!
//! Trusts `Frame::segmentation` and the partial checksum, which [`Frame::validate_offload`] checked at the door.

mod around;

use crate::checksum::{Delta, Sum};
use crate::frame::{Checksum, Frame, Segmentation};
use crate::offload::{SEGMENTS_MAX, transport_header_len};
use crate::pool::FramePool;
use crate::rewrite::put_checksum;
use crate::wire::*;
use around::Around;
use std::ops::Range;

const TCP_FLAGS_AT: usize = 13;
const FIN_PSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// The segments of one frame, made one at a time in buffers of a pool, so that no more memory is in use than the caller
/// holds on to.
#[derive(Debug)]
pub struct Segments {
    frame: Frame,
    cuts: Cuts,
    /// Of a super-frame in a tunnel.
    around: Option<Around>,
}

/// Where a super-frame is to be cut, for who sends headers and payload from different places and so need not copy payload. The
/// frame may be a tunnel's packet whose inner frame is to be cut ([`FrameState::inner_segmentation`]): its outer headers are
/// then repeated as they are.
///
/// [`FrameState::inner_segmentation`]: crate::frame::FrameState::inner_segmentation
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    shape: Shape,
    /// Where the next segment's payload begins; the end of the packet when all were made.
    next: usize,
    /// Number of segments made.
    made: u16,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    is_ipv4: bool,
    protocol: u8,
    l3: usize,
    l4: usize,
    /// Where the payload begins.
    payload: usize,
    /// Where it ends; padding follows.
    end: usize,
    /// Payload bytes a segment.
    size: usize,
    /// Sum of the pseudo header but for its length.
    pseudo: u16,
}

impl Segments {
    /// Prepares to cut `frame`, whose layers are to be true: a super-frame, or a packet of a tunnel that its sender made, with a
    /// super-frame inside ([`inner_segmentation`](crate::frame::FrameState::inner_segmentation)). Each segment then has the
    /// outer headers too, made its own.
    ///
    /// # Errors
    /// The frame itself if it has nothing to be cut, or if its headers do not fit its [`Segmentation`].
    pub fn new(frame: Frame) -> Result<Segments, Frame> {
        let found = match frame.segmentation {
            Segmentation::None => Segments::in_tunnel(&frame).map(|(cuts, around)| (cuts, Some(around))),
            segmentation => Shape::of(&frame, segmentation).map(|shape| (Cuts::along(shape), None)),
        };
        match found {
            Some((cuts, around)) => Ok(Segments { frame, cuts, around }),
            None => Err(frame),
        }
    }

    /// What was announced of the inner packet was not checked at the door, so it is here.
    fn in_tunnel(frame: &Frame) -> Option<(Cuts, Around)> {
        let (protocol, _) = kind(frame.inner_segmentation)?;
        let l3 = around::find_inner(frame, protocol)?;
        let around = Around::of(frame, l3)?;
        let shape = Shape::at(frame, frame.inner_segmentation, l3)?;
        let cuts = Cuts::along(shape);
        let is_sound = cuts.remaining() <= SEGMENTS_MAX && cuts.segment_len() <= around.segment_max();
        is_sound.then_some((cuts, around))
    }

    /// The next segment, with its checksums complete; `None` when all were made.
    pub fn next_segment(&mut self, pool: &mut FramePool) -> Option<Frame> {
        let (shape, bytes) = (self.cuts.shape, self.frame.bytes());
        let (place, payload) = self.cuts.step()?;
        let (headers, payload) = (bytes.get(..shape.payload)?, bytes.get(payload)?);
        let mut segment = pool.take();
        if segment.append(headers).and_then(|()| segment.append(payload)).is_err() {
            pool.give(segment);
            segment = Frame::with_capacity(headers.len() + payload.len());
            segment.append(headers).and_then(|()| segment.append(payload)).ok()?;
        }
        segment.copy_metadata(&self.frame);
        segment.layers.padding = 0;
        segment.segmentation = Segmentation::None;
        segment.checksum = Checksum::Valid;
        let (headers, payload) = segment.bytes_mut().split_at_mut_checked(shape.payload)?;
        shape.finish(headers, payload, place)?;
        if let Some(around) = &self.around {
            around.finish(segment.bytes_mut(), place)?;
            segment.inner_segmentation = Segmentation::None;
        }
        Some(segment)
    }

    /// Number of segments that are still to be made.
    pub fn remaining(&self) -> usize {
        self.cuts.remaining()
    }

    /// The super-frame again, for its buffer.
    pub fn into_frame(self) -> Frame {
        self.frame
    }
}

impl Cuts {
    /// Of a super-frame, or of the super-frame in a tunnel's packet; the layers are then to be the inner frame's. `None` if there
    /// is nothing to be cut, or if the headers do not fit the [`Segmentation`].
    pub fn of(frame: &Frame) -> Option<Cuts> {
        let segmentation = match frame.segmentation {
            Segmentation::None => frame.inner_segmentation,
            segmentation => segmentation,
        };
        Shape::of(frame, segmentation).map(Cuts::along)
    }

    fn along(shape: Shape) -> Cuts {
        Cuts { next: shape.payload, made: 0, shape }
    }

    /// Length of the headers of each segment, from the first byte of the frame on.
    pub fn header_len(&self) -> usize {
        self.shape.payload
    }

    /// Length of the next segment with all its headers; no later one is longer.
    pub fn segment_len(&self) -> usize {
        self.shape.payload + self.shape.size.min(self.shape.end.saturating_sub(self.next))
    }

    /// Number of segments that are still to be made.
    pub fn remaining(&self) -> usize {
        self.shape.end.saturating_sub(self.next).div_ceil(self.shape.size)
    }

    /// Writes the headers of the next segment, with their checksums complete, to `headers`, which is as long as they are. Gives
    /// the place of its payload in `frame`, the frame that the cuts are of. `None` when all were made.
    #[inline]
    pub fn next_segment(&mut self, frame: &[u8], headers: &mut [u8]) -> Option<Range<usize>> {
        let (place, payload) = self.step()?;
        headers.get_mut(..self.shape.payload)?.copy_from_slice(frame.get(..self.shape.payload)?);
        self.shape.finish(headers, frame.get(payload.clone())?, place)?;
        Some(payload)
    }

    fn step(&mut self) -> Option<(Place, Range<usize>)> {
        let shape = self.shape;
        if self.next >= shape.end {
            return None;
        }
        let from = self.next;
        let to = (from + shape.size).min(shape.end);
        let place =
            Place { index: self.made, offset: (from - shape.payload) as u32, is_last: to == shape.end };
        self.next = to;
        self.made = self.made.wrapping_add(1);
        Some((place, from..to))
    }
}

/// Which of the segments one is.
#[derive(Clone, Copy)]
struct Place {
    index: u16,
    /// Payload bytes before it.
    offset: u32,
    is_last: bool,
}

impl Shape {
    fn of(frame: &Frame, segmentation: Segmentation) -> Option<Shape> {
        Shape::at(frame, segmentation, find_network(frame)?)
    }

    /// Of the packet at `l3`.
    fn at(frame: &Frame, segmentation: Segmentation, l3: usize) -> Option<Shape> {
        let (protocol, size) = kind(segmentation)?;
        let Checksum::Partial { start, .. } = frame.checksum else { return None };
        let (bytes, l4) = (frame.bytes(), start as usize);
        let is_ipv4 = match (bytes.get(l3)? >> 4, segmentation) {
            (4, Segmentation::TcpV4 { .. } | Segmentation::UdpL4 { .. }) => true,
            (6, Segmentation::TcpV6 { .. } | Segmentation::UdpL4 { .. }) => false,
            _ => return None,
        };
        let l3_len = if is_ipv4 { (bytes.get(l3)? & 15) as usize * 4 } else { IPV6_LEN };
        let payload = l4 + transport_header_len(bytes, protocol, l4)?;
        // What the IP header says, so that padding is not sent as payload.
        let said = be16_at(bytes, if is_ipv4 { l3 + 2 } else { l3 + 4 })? as usize;
        let end = l3 + said + if is_ipv4 { 0 } else { IPV6_LEN };
        let is_sound =
            size > 0 && l3_len >= IPV4_LEN && l4 >= l3 + l3_len && payload <= end && end <= bytes.len();
        let checksum = be16_at(bytes, l4 + checksum_at(protocol))?;
        let pseudo = Delta::of_u32(end.saturating_sub(l4) as u32, 0).applied_to_sum(checksum);
        is_sound.then_some(Shape { is_ipv4, protocol, l3, l4, payload, end, size, pseudo })
    }

    /// Makes the headers of a segment its own.
    fn finish(&self, headers: &mut [u8], payload: &[u8], place: Place) -> Option<()> {
        let end = headers.len() + payload.len();
        self.finish_transport(headers, end, place)?;
        if self.is_ipv4 {
            finish_ipv4(headers, self.l3, end, place)?;
        } else {
            put_at(headers, self.l3 + 4, ((end - self.l3 - IPV6_LEN) as u16).to_be_bytes());
        }
        let at = self.l4 + checksum_at(self.protocol);
        put_at(headers, at, [0; 2]);
        // Not by the addresses in the header, which need not be those that the sender summed: a routing header names another
        // destination (RFC 8200 section 8.1). The payload begins a word: transport headers are an even number of bytes long.
        let checksum = Sum::ZERO
            .with(self.pseudo)
            .with_u32((end - self.l4) as u32)
            .with_bytes(headers.get(self.l4..)?)
            .with_bytes(payload)
            .checksum();
        put_checksum(headers, at, self.protocol, checksum).then_some(())
    }

    fn finish_transport(&self, headers: &mut [u8], end: usize, place: Place) -> Option<()> {
        if self.protocol == PROTO_UDP {
            let len = (end - self.l4) as u16;
            return put_at(headers, self.l4 + 4, len.to_be_bytes()).then_some(());
        }
        let sequence = be32_at(headers, self.l4 + 4)?.wrapping_add(place.offset);
        put_at(headers, self.l4 + 4, sequence.to_be_bytes());
        let flags = headers.get_mut(self.l4 + TCP_FLAGS_AT)?;
        if !place.is_last {
            *flags &= !FIN_PSH;
        }
        if place.index > 0 {
            *flags &= !CWR;
        }
        Some(())
    }
}

/// IP protocol and payload bytes a segment.
fn kind(segmentation: Segmentation) -> Option<(u8, usize)> {
    match segmentation {
        Segmentation::None => None,
        Segmentation::TcpV4 { size, .. } | Segmentation::TcpV6 { size, .. } => {
            Some((PROTO_TCP, size as usize))
        }
        Segmentation::UdpL4 { size } => Some((PROTO_UDP, size as usize)),
    }
}

/// Makes the IPv4 header at `l3` that of a segment which ends at `end`.
fn finish_ipv4(bytes: &mut [u8], l3: usize, end: usize, place: Place) -> Option<()> {
    let header = bytes.get_mut(l3..)?;
    let header_len = (header.first()? & 15) as usize * 4;
    let header = header.get_mut(..header_len)?;
    let identification = be16_at(header, 4)?.wrapping_add(place.index);
    put_at(header, 2, ((end - l3) as u16).to_be_bytes());
    put_at(header, 4, identification.to_be_bytes());
    put_at(header, 10, [0; 2]);
    let checksum = Sum::of(header).checksum();
    put_at(header, 10, checksum.to_be_bytes()).then_some(())
}

/// Place of the checksum field in a TCP or UDP header.
const fn checksum_at(protocol: u8) -> usize {
    if protocol == PROTO_TCP { 16 } else { 6 }
}

/// Where the IP header is, behind labels and a third VLAN tag too, where extraction does not look.
fn find_network(frame: &Frame) -> Option<usize> {
    if frame.layers.l3 != crate::frame::NO_LAYER {
        return Some(frame.layers.l3 as usize);
    }
    let Checksum::Partial { start, .. } = frame.checksum else { return None };
    let (bytes, start) = (frame.bytes(), start as usize);
    let ethertypes = (ETHERNET_LEN - 2..start).step_by(VLAN_LEN);
    let at = ethertypes.into_iter().find(|at| !be16_at(bytes, *at).is_some_and(is_vlan))?;
    if !is_mpls(be16_at(bytes, at)?) {
        return Some(at + 2);
    }
    let mut labels = (at + 2..start).step_by(MPLS_LEN);
    Some(labels.find(|at| be32_at(bytes, *at).is_some_and(|lse| lse & MPLS_BOS != 0))? + MPLS_LEN)
}
