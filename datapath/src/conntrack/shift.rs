//! Sequence numbers of a TCP connection whose payload a gateway has made longer or shorter, and the change itself.
//!
//! From the changed segment on, everything its sender sends is further on by the difference, and what the other end
//! acknowledges is further on too. Both are put right, so that each end sees the numbers it knows. Selective
//! acknowledgements would have to be as well; instead the option that permits them is taken out of the SYNs.

use packet::rewrite::{self, Network};
use packet::wire::*;
use packet::{Checksum, Frame};
use std::ops::Range;

/// How far the sequence numbers of one direction are shifted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Shift {
    /// Sequence number, as sent, of the last segment that was changed; later ones are shifted by `after`.
    at: u32,
    before: i32,
    after: i32,
}

impl Shift {
    fn offset(&self, seq: u32) -> i32 {
        if (seq.wrapping_sub(self.at) as i32) > 0 { self.after } else { self.before }
    }

    /// Whether anything is shifted.
    pub fn is_none(&self) -> bool {
        self.before == 0 && self.after == 0
    }

    /// The number that the receiver knows for one of the sender's.
    pub fn forth(&self, seq: u32) -> u32 {
        seq.wrapping_add_signed(self.offset(seq))
    }

    /// The number that the sender knows for one that the receiver acknowledges.
    pub fn back(&self, ack: u32) -> u32 {
        // An acknowledgement of the changed segment's end lies beyond its beginning in either numbering.
        let unshifted = ack.wrapping_add_signed(-self.after);
        if (unshifted.wrapping_sub(self.at) as i32) > 0 {
            unshifted
        } else {
            ack.wrapping_add_signed(-self.before)
        }
    }

    /// Notes that the segment at `seq` grew by `delta`. The same segment again changes nothing.
    pub fn grow(&mut self, seq: u32, delta: i32) {
        let is_later = (seq.wrapping_sub(self.at) as i32) > 0;
        if self.is_none() && self.at == 0 || is_later {
            self.before = self.after;
            self.after = self.after.wrapping_add(delta);
            self.at = seq;
        }
    }
}

/// Writes sequence and acknowledgement number of the TCP header at `l4`.
pub(super) fn set_numbers(frame: &mut Frame, l4: usize, seq: u32, ack: u32) -> Option<()> {
    let place = frame.bytes_mut().get_mut(l4 + 4..)?.first_chunk_mut::<8>()?;
    let [s0, s1, s2, s3, a0, a1, a2, a3] = *place;
    let old = [u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([a0, a1, a2, a3])];
    if old != [seq, ack] {
        let ([s0, s1, s2, s3], [a0, a1, a2, a3]) = (seq.to_be_bytes(), ack.to_be_bytes());
        *place = [s0, s1, s2, s3, a0, a1, a2, a3];
        resum(frame);
    }
    Some(())
}

/// Replaces the option that permits selective acknowledgements (RFC 2018 section 2) in a SYN by padding.
pub(super) fn forbid_sack(frame: &mut Frame, l4: usize) -> Option<()> {
    let header_len = usize::from(frame.bytes().get(l4 + 12)? >> 4) * 4;
    let options = frame.bytes_mut().get_mut(l4 + 20..l4 + header_len)?;
    let mut at = 0;
    while let Some(kind) = options.get(at).copied().filter(|kind| *kind != 0) {
        let len = if kind == 1 { 1 } else { usize::from(*options.get(at + 1)?).max(2) };
        if kind == 4 {
            options.get_mut(at..at + len)?.fill(1);
            resum(frame);
            return Some(());
        }
        at += len;
    }
    Some(())
}

/// Puts the transport checksum right after a change. A partial one covers the pseudo header alone, which is unchanged.
fn resum(frame: &mut Frame) {
    if !matches!(frame.checksum, Checksum::Partial { .. }) {
        frame.refresh_transport_checksum();
    }
}

/// Replaces bytes of a frame's payload by others, with lengths and checksums. `None`, and the frame unchanged, if it does
/// not fit.
pub(super) fn splice(frame: &mut Frame, place: Range<usize>, text: &[u8]) -> Option<()> {
    let (network, l3) = rewrite::network(frame)?;
    frame.trim_padding();
    let old_len = frame.len();
    let tail_len = old_len.checked_sub(place.end)?;
    let new_len = (place.start + text.len()).checked_add(tail_len)?;
    if place.start > place.end {
        return None;
    }
    let ip_len_at = if network == Network::Ipv4 { l3 + 2 } else { l3 + 4 };
    let ip_len = match network {
        Network::Ipv4 => new_len.checked_sub(l3)?,
        _ => new_len.checked_sub(l3 + IPV6_LEN)?,
    };
    let ip_len = u16::try_from(ip_len).ok()?;
    if new_len > old_len {
        // Into the headroom, for there may be no room behind the frame: what is in front of the place moves.
        let more = new_len - old_len;
        let layers = frame.layers;
        frame.push_front(more).ok()?;
        frame.bytes_mut().copy_within(more..more + place.start, 0);
        frame.layers = layers;
    } else {
        frame.bytes_mut().copy_within(place.end..old_len, place.start + text.len());
    }
    let bytes = frame.bytes_mut();
    bytes.get_mut(place.start..place.start + text.len())?.copy_from_slice(text);
    bytes.get_mut(ip_len_at..)?.first_chunk_mut::<2>()?.copy_from_slice(&ip_len.to_be_bytes());
    frame.truncate(new_len);
    if network == Network::Ipv4 {
        rewrite::refresh_ipv4_checksum(frame);
    }
    frame.refresh_transport_checksum().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two changes: every number goes forth and back to itself, and repeated segments are shifted as they were.
    #[test]
    fn numbers_go_forth_and_back() {
        for start in [1000u32, u32::MAX - 20] {
            let mut shift = Shift::default();
            assert_eq!((shift.forth(start), shift.back(start)), (start, start));
            shift.grow(start, 6);
            shift.grow(start, 6);
            assert_eq!(shift.forth(start), start, "the changed segment begins where it did");
            let next = start.wrapping_add(19);
            assert_eq!(shift.forth(next), next.wrapping_add(6));
            assert_eq!(shift.back(next.wrapping_add(6)), next);
            assert_eq!(shift.back(start), start);
            shift.grow(next, -4);
            assert_eq!(shift.forth(next), next.wrapping_add(6));
            let end = next.wrapping_add(30);
            assert_eq!(shift.forth(end), end.wrapping_add(2));
            assert_eq!(shift.back(end.wrapping_add(2)), end);
        }
    }

    #[test]
    fn splicing_changes_lengths_and_checksums() {
        use packet::{FrameBuilder, PacketKey};
        for text in [&b"x"[..], b"1,2,3,4,5,6", b"100,200,100,200,100,200"] {
            for is_ipv6 in [false, true] {
                let builder = if is_ipv6 {
                    FrameBuilder::tcp6((1, 1000), (2, 21), 0x18)
                } else {
                    FrameBuilder::tcp4((1, 1000), (2, 21), 0x18)
                };
                let mut frame = Frame::from_bytes(&builder.payload(b"PORT 1,1,1,1,1,1\r\n").build());
                PacketKey::extract(&mut frame).unwrap();
                let at = frame.len() - 18 + 5;
                assert_eq!(splice(&mut frame, at..at + 11, text), Some(()));
                let mut again = Frame::from_bytes(frame.bytes());
                PacketKey::extract(&mut again).unwrap();
                assert!(again.verify_transport() && again.verify_ipv4_header());
                assert_eq!(again.layers, frame.layers);
                let expected = [b"PORT ", text, b"\r\n"].concat();
                assert!(again.bytes().ends_with(&expected) && again.layers.padding == 0);
            }
        }
    }
}
