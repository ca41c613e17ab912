//! One datagram that is being put together: its fragments in order, and whether they agree.

use base::Instant;
use packet::{DpPort, Fragment, Frame, Layers, PacketKey, slot};

use super::shares::{NO_SERIAL, Source, Usage};
use super::{Context, Side, limits};
use crate::Drop;

/// What fragments must have in common to belong together: what RFC 791 and RFC 8200 say, and the place where they were
/// offered. VLANs and tunnels are part of it, since two of them may use the same addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct FragmentKey {
    pub source: Source,
    pub destination: u128,
    pub identification: u32,
    /// Of IPv4; 0 for IPv6, whose later fragments need not say it (RFC 8200 section 4.5).
    pub protocol: u8,
    pub zone: u16,
    pub at: u64,
    vlans: [u16; 2],
    tunnel: u64,
}

impl FragmentKey {
    pub fn new(fragment: &Fragment, key: &PacketKey, context: Context) -> FragmentKey {
        let (src, dst) =
            if fragment.is_ipv4 { (slot::NW_SRC, slot::NW_DST) } else { (slot::IPV6_SRC, slot::IPV6_DST) };
        let source = Source { port: context.ingress, is_ipv4: fragment.is_ipv4, address: key.get(src) };
        // VID and the bit that says that there is a tag; the priority may differ.
        let vlan = |slot| key.get(slot) as u16 & 0x1fff;
        FragmentKey {
            source,
            destination: key.get(dst),
            identification: fragment.identification,
            protocol: if fragment.is_ipv4 { fragment.protocol } else { 0 },
            zone: context.zone,
            at: context.at,
            vlans: [vlan(slot::VLAN_TCI), vlan(slot::VLAN_TCI_INNER)],
            tunnel: key.get(slot::TUN_ID) as u64,
        }
    }
}

/// A fragment that is held, in a buffer of its own size.
#[derive(Debug)]
pub(super) struct Piece {
    pub frame: Frame,
    pub fragment: Fragment,
}

impl Piece {
    /// Memory that a fragment takes.
    pub fn usage(frame: &Frame) -> Usage {
        Usage { datagrams: 0, fragments: 1, bytes: frame.packet_end() + limits::FRAGMENT_OVERHEAD }
    }

    /// A copy of `frame`, whose own buffer has room for a super-frame, without the padding.
    pub fn new(frame: &Frame, fragment: Fragment) -> Piece {
        let mut copy = Frame::from_bytes(frame.bytes().get(..frame.packet_end()).unwrap_or_default());
        copy.layers = Layers { padding: 0, ..frame.layers };
        copy.in_port = frame.in_port;
        Piece { frame: copy, fragment }
    }
}

/// A datagram that is not complete.
#[derive(Debug)]
pub(super) struct Datagram {
    /// Its number by age in the table; given there.
    pub serial: u64,
    /// The side that its first fragment came by.
    pub side: Option<Side>,
    pub since: Instant,
    pub ingress: DpPort,
    /// Memory that it takes, its fragments counted.
    pub usage: Usage,
    /// Sorted by offset; no two overlap, and none lies beyond `end`.
    pub pieces: Vec<Piece>,
    /// Where the payload ends, from the last fragment.
    pub end: Option<usize>,
    /// Payload bytes held.
    pub received: usize,
    /// Why nothing of it is accepted any more.
    pub given_up: Option<Drop>,
}

impl Datagram {
    /// Memory that a datagram takes without fragments.
    pub const USAGE: Usage = Usage { datagrams: 1, fragments: 0, bytes: limits::DATAGRAM_OVERHEAD };

    pub fn new(side: Option<Side>, since: Instant, ingress: DpPort) -> Datagram {
        Datagram {
            serial: NO_SERIAL,
            side,
            since,
            ingress,
            usage: Datagram::USAGE,
            pieces: Vec::new(),
            end: None,
            received: 0,
            given_up: None,
        }
    }

    /// Where a fragment belongs among those held.
    ///
    /// # Errors
    /// [`Drop::FragmentDuplicate`] if the very same is held already; [`Drop::FragmentOverlap`] if it and one that is held
    /// cannot be of one datagram (RFC 5722, RFC 8200 section 4.5; for IPv4 as well, as RFC 1858 has good reasons for).
    pub fn place_of(&self, frame: &Frame, fragment: &Fragment) -> Result<usize, Drop> {
        let place = self.pieces.partition_point(|p| p.fragment.offset < fragment.offset);
        let same = self.pieces.get(place).filter(|p| {
            let held = &p.fragment;
            (held.offset, held.payload_len, held.has_more)
                == (fragment.offset, fragment.payload_len, fragment.has_more)
        });
        if let Some(held) = same
            && held.fragment.payload_of(&held.frame) == fragment.payload_of(frame)
        {
            return Err(Drop::FragmentDuplicate);
        }
        let before = place.checked_sub(1).and_then(|i| self.pieces.get(i));
        let overlaps_before = before.is_some_and(|p| p.fragment.end() > fragment.offset);
        let overlaps_after = self.pieces.get(place).is_some_and(|p| p.fragment.offset < fragment.end());
        let is_beyond_end = self.end.is_some_and(|end| fragment.end() > end);
        let last = self.pieces.last().map_or(0, |p| p.fragment.end());
        let is_second_end = !fragment.has_more && (self.end.is_some() || last > fragment.end());
        if overlaps_before || overlaps_after || is_beyond_end || is_second_end {
            return Err(Drop::FragmentOverlap);
        }
        Ok(place)
    }

    /// Takes a fragment at the place that [`place_of`](Self::place_of) gave.
    pub fn insert(&mut self, place: usize, piece: Piece) {
        self.received += piece.fragment.payload_len;
        if !piece.fragment.has_more {
            self.end = Some(piece.fragment.end());
        }
        self.pieces.insert(place.min(self.pieces.len()), piece);
    }

    /// Whether all fragments are there: since none overlap, the bytes say it.
    pub fn is_complete(&self) -> bool {
        self.end == Some(self.received)
    }
}
