//! What the frame at hand was when it was received, for answers in terms that its sender knows.
//!
//! Mostly the key says that: it is read once, and rewrites of the frame leave it alone. So nothing is kept of a frame before
//! its key is about to say something else, when it is read anew or tracked with translation. Frames that go by one look-up or
//! by a chain without tunnels never come to that.

use packet::key::FRAG_LATER;
use packet::{Frame, PacketKey, rewrite, slot};

/// Headers of the frame at hand. Its copies have them too, and so have the fragments that it completes, which have the same
/// sender.
#[derive(Default)]
pub(crate) struct Received {
    /// Its header fields; the metadata is nobody's.
    key: PacketKey,
    /// [`rewrite::icmp_identifier`].
    identifier: u16,
    is_kept: bool,
}

impl Received {
    /// Another frame is at hand.
    #[inline]
    pub fn forget(&mut self) {
        self.is_kept = false;
    }

    /// To be called with a key that still says what was received if nothing was kept before.
    #[inline]
    pub fn keep(&mut self, key: &PacketKey, frame: &Frame) {
        if !self.is_kept {
            self.is_kept = true;
            let headers = key.words().iter().take(PacketKey::METADATA_WORD);
            self.key.words_mut().iter_mut().zip(headers).for_each(|(to, from)| *to = *from);
            self.identifier = rewrite::icmp_identifier(frame);
        }
    }

    /// The same for a packet put together from fragments. The one at hand may be a later one, which has no ports,
    /// nor, of IPv6, the protocol.
    pub fn keep_whole(&mut self, key: &PacketKey, whole: &Frame) {
        self.keep(key, whole);
        if self.key.get(slot::NW_FRAG) as u8 & FRAG_LATER != 0 {
            for slot in [slot::NW_PROTO, slot::TP_SRC, slot::TP_DST, slot::NW_FRAG] {
                self.key.set(slot, key.get(slot));
            }
            self.identifier = rewrite::icmp_identifier(whole);
        }
    }

    /// Gives a frame the headers that it was received with; `key` is what it was looked up by. False if it has become a packet
    /// of another protocol.
    pub fn restore(&self, frame: &mut Frame, key: &PacketKey) -> bool {
        match self.is_kept {
            true => rewrite::restore(frame, &self.key, self.identifier),
            false => {
                let identifier = rewrite::icmp_identifier(frame);
                rewrite::restore(frame, key, identifier)
            }
        }
    }
}
