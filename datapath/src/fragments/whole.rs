//! A packet put together, and how it was cut.

use packet::fragment::split_despite_df;
use packet::rewrite::set_slot;
use packet::{Frame, FramePool, PacketKey, Slot, slot};

use super::datagram::Piece;
use crate::Drop;

/// A whole packet: one frame to be inspected and translated, and the fragments that it came in.
#[derive(Debug)]
pub struct Whole {
    frame: Frame,
    key: PacketKey,
    /// In the order of their offsets. None if it came whole.
    pieces: Vec<Piece>,
}

impl Whole {
    /// A packet that came whole.
    pub(super) fn uncut(frame: Frame, key: PacketKey) -> Whole {
        Whole { frame, key, pieces: Vec::new() }
    }

    /// Puts fragments together that are complete and sorted. `key` is that of any of them.
    ///
    /// # Errors
    /// The fragments, and what is wrong: the packet would be too long, or is itself a fragment of another.
    pub(super) fn assemble(
        pieces: Vec<Piece>,
        key: &PacketKey,
        pool: &mut FramePool,
    ) -> Result<Whole, (Vec<Piece>, Drop)> {
        let mut frame = pool.take();
        match join(&pieces, &mut frame, key) {
            Ok(key) => Ok(Whole { frame, key, pieces }),
            Err(why) => {
                pool.give(frame);
                Err((pieces, why))
            }
        }
    }

    /// The packet in one frame, as if it had never been cut: that of the first fragment, with the payload of all. Its layers
    /// are noted. It may be up to [`packet::frame::FRAME_LEN_MAX`] bytes long, whatever an MTU is.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The same, to be changed in place. What is changed below IP, in addresses, TTL, TOS, flow label and payload goes over
    /// to all fragments; of an IPv6 packet the extension headers do not.
    pub fn frame_mut(&mut self) -> &mut Frame {
        &mut self.frame
    }

    /// The key of the whole when it was put together, with the metadata of the fragment that completed it.
    pub fn key(&self) -> &PacketKey {
        &self.key
    }

    /// Number of fragments that it came in; 0 if it came whole.
    pub fn fragments(&self) -> usize {
        self.pieces.len()
    }

    /// The frame, for whoever wants the packet whole.
    pub fn into_frame(self) -> Frame {
        self.frame
    }

    /// Gives the fragments as they came, in the order of their offsets, with all changes that were made to the whole; the
    /// frame itself if it came whole. Sizes, identification, flags and options are each fragment's own. Should the length
    /// have changed after all, the packet is cut anew to the size of the largest fragment.
    pub fn into_fragments(self, pool: &mut FramePool, mut out: impl FnMut(Frame)) {
        let Whole { mut frame, mut pieces, .. } = self;
        if pieces.is_empty() {
            out(frame);
            return;
        }
        frame.complete_checksum();
        match Changes::between(&mut frame, &mut pieces) {
            Some(changes) => {
                for mut piece in pieces {
                    changes.apply(&frame, &mut piece);
                    out(piece.frame);
                }
                pool.give(frame);
            }
            None => cut_anew(frame, &pieces, pool, out),
        }
    }
}

/// Writes the whole into an empty frame, and reads its key.
fn join(pieces: &[Piece], frame: &mut Frame, key: &PacketKey) -> Result<PacketKey, Drop> {
    let Some((first, end)) = pieces.first().zip(pieces.last().map(|p| p.fragment.end())) else {
        return Err(Drop::FragmentMalformed);
    };
    let too_long = |_| Drop::FragmentTooLong;
    first.fragment.write_whole_headers(&first.frame, end, frame).map_err(too_long)?;
    for piece in pieces {
        frame.append(piece.fragment.payload_of(&piece.frame)).map_err(too_long)?;
    }
    frame.in_port = first.frame.in_port;
    let mut whole = *key;
    whole.extract_headers(frame).map_err(|_| Drop::FragmentTooLong)?;
    whole.set(slot::RECIRC_ID, key.get(slot::RECIRC_ID));
    // A fragment within a fragment, or headers that only now turn out to be none.
    if whole.get(slot::NW_FRAG) != 0 || frame.layers.l3 != first.frame.layers.l3 {
        return Err(Drop::FragmentMalformed);
    }
    Ok(whole)
}

fn cut_anew(frame: Frame, pieces: &[Piece], pool: &mut FramePool, mut out: impl FnMut(Frame)) {
    let mtu = pieces.iter().map(|p| p.fragment.packet_len()).max().unwrap_or_default();
    let identification = pieces.first().map_or(0, |p| p.fragment.identification);
    match split_despite_df(&frame, mtu, identification, pool, &mut out) {
        Ok(()) => pool.give(frame),
        // It is no IP packet any more: whoever made something else of it wants it sent.
        Err(_) => out(frame),
    }
}

/// What was done to a whole that has to be done to its fragments.
struct Changes {
    /// Bytes below IP, if they are others now.
    below: Option<usize>,
    /// Value and mask of header fields.
    fields: [Option<(Slot, u128, u128)>; 5],
    /// Where the payload begins in the whole.
    payload: usize,
}

impl Changes {
    /// Compares the whole with the first fragment. `None` if it cannot be cut as it was: its length changed, or it is not
    /// IP any more.
    fn between(frame: &mut Frame, pieces: &mut [Piece]) -> Option<Changes> {
        let end = pieces.last()?.fragment.end();
        let first = pieces.first_mut()?;
        let new = PacketKey::extract(frame).ok()?;
        let old = PacketKey::extract(&mut first.frame).ok()?;
        if new.dl_type() != old.dl_type() {
            return None;
        }
        let l3 = frame.layers.l3 as usize;
        let payload = l3 + first.fragment.whole_headers_len();
        if frame.packet_end() != payload + end {
            return None;
        }
        let below = frame.bytes().get(..l3)? != first.frame.bytes().get(..first.fragment.l3)?;
        let changed = |slot: Slot| {
            let mask = new.get(slot) ^ old.get(slot);
            (mask != 0).then_some((slot, new.get(slot), mask))
        };
        // A TTL may differ from fragment to fragment, so it is written as a whole.
        let ttl = changed(slot::NW_TTL).map(|(slot, value, _)| (slot, value, slot.ones()));
        let fields = if first.fragment.is_ipv4 {
            [changed(slot::NW_SRC), changed(slot::NW_DST), changed(slot::NW_TOS), ttl, None]
        } else {
            let (src, dst) = (changed(slot::IPV6_SRC), changed(slot::IPV6_DST));
            [src, dst, changed(slot::NW_TOS), ttl, changed(slot::IPV6_LABEL)]
        };
        Some(Changes { below: below.then_some(l3), fields, payload })
    }

    fn apply(&self, whole: &Frame, piece: &mut Piece) {
        let Piece { frame, fragment } = piece;
        for (slot, value, mask) in self.fields.iter().flatten() {
            set_slot(frame, *slot, *value, *mask);
        }
        // After the fields: setting those adapts a transport checksum in the first fragment, the whole has the right one.
        let from = self.payload + fragment.offset;
        if let Some(new) = whole.bytes().get(from..from + fragment.payload_len)
            && let Some(old) =
                frame.bytes_mut().get_mut(fragment.payload..fragment.payload + fragment.payload_len)
        {
            old.copy_from_slice(new);
        }
        if let Some(l3) = self.below
            && let Some(below) = whole.bytes().get(..l3)
            && frame.pull_front(fragment.l3).is_ok()
            && let Ok(front) = frame.push_front(l3)
        {
            front.copy_from_slice(below);
            frame.layers.l3 = l3 as u16;
        }
    }
}
