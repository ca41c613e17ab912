//! Where a flow stands, by the hash of its key: a table of cache lines, each with the tags and slot numbers of twelve flows, so
//! that one line tells the slot.
//!
//! A tag is 16 bits of the hash that do not choose the line: eight that are searched for, all of a line at once, and eight
//! beside the slot number. A flow whose line is full stands in the next that is not, and each line that was passed over counts
//! it: a look-up goes on only behind such a line. Hashes are not kept; growing asks for them anew. Equal hashes are the
//! caller's to tell apart: it is asked about every slot whose tag is right.

use super::FlowSlot;
use super::flows::{SLOT, SLOT_BITS};
use sys::prefetch::prefetch;

/// Flows of a line.
const LINE_FLOWS: usize = 12;
/// The searched part of a free place's tag; no flow has it.
const FREE: u8 = 0;
/// A count of flows passed on that can no longer be kept; it stands until the index grows.
const PASSED_MANY: u32 = u32::MAX;
/// A line of the index.
#[derive(Clone)]
#[repr(C, align(64))]
struct Line {
    /// The searched part of eight tags, and of four more.
    low: u64,
    high: u32,
    /// Flows that stand further on because this line was full.
    passed: u32,
    /// The other part of the tag, and the slot.
    entries: [u32; LINE_FLOWS],
}

/// What is looked for in a line.
#[derive(Clone, Copy)]
struct Tag {
    searched: u8,
    beside: u32,
}

impl Tag {
    #[inline]
    fn of(hash: u64) -> Tag {
        Tag { searched: ((hash >> 56) as u8).max(FREE + 1), beside: (hash >> 48) as u32 & 0xff }
    }

    fn entry(self, slot: FlowSlot) -> u32 {
        self.beside << SLOT_BITS | slot & SLOT
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// The top bit of each byte of `bytes` that is `wanted`.
#[inline]
fn bytes_that_are(bytes: u64, wanted: u8) -> u64 {
    let zero_where_wanted = bytes ^ (u64::from(wanted) * ONES);
    !(((zero_where_wanted & !TOPS) + !TOPS) | zero_where_wanted | !TOPS)
}

impl Line {
    const EMPTY: Line = Line { low: 0, high: 0, passed: 0, entries: [0; LINE_FLOWS] };

    /// The first slot with this tag that is the one meant.
    #[inline(always)]
    fn find(&self, tag: Tag, is_meant: impl Fn(FlowSlot) -> bool) -> Option<FlowSlot> {
        let mut found = bytes_that_are(self.low, tag.searched);
        let mut first = 0;
        loop {
            while found != 0 {
                let entry = *self.entries.get(first + found.trailing_zeros() as usize / 8)?;
                if entry >> SLOT_BITS == tag.beside && is_meant(entry & SLOT) {
                    return Some(entry & SLOT);
                }
                found &= found - 1;
            }
            if first > 0 {
                return None;
            }
            first = 8;
            found = bytes_that_are(self.high.into(), tag.searched) & TOPS >> 32;
        }
    }

    /// A free place.
    fn free(&self) -> Option<usize> {
        let low = bytes_that_are(self.low, FREE);
        let high = bytes_that_are(self.high.into(), FREE) & TOPS >> 32;
        match (low, high) {
            (0, 0) => None,
            (0, high) => Some(8 + high.trailing_zeros() as usize / 8),
            (low, _) => Some(low.trailing_zeros() as usize / 8),
        }
    }

    fn searched(&self, place: usize) -> u8 {
        if place < 8 { (self.low >> (place * 8)) as u8 } else { (self.high >> (place * 8 - 64)) as u8 }
    }

    fn set_searched(&mut self, place: usize, tag: u8) {
        if place < 8 {
            self.low = self.low & !(0xff << (place * 8)) | u64::from(tag) << (place * 8);
        } else {
            let shift = place * 8 - 64;
            self.high = self.high & !(0xff << shift) | u32::from(tag) << shift;
        }
    }

    /// The slots of all flows that stand here.
    fn slots(&self) -> impl Iterator<Item = FlowSlot> + '_ {
        let taken = |(place, entry): (usize, &u32)| (self.searched(place) != FREE).then_some(entry & SLOT);
        self.entries.iter().enumerate().filter_map(taken)
    }
}

/// Slots by hash.
#[derive(Default)]
pub(crate) struct Index {
    lines: Vec<Line>,
    len: usize,
}

impl Index {
    /// An empty index that does not grow for so many slots.
    #[cfg(test)]
    pub fn for_many(slots: usize) -> Index {
        Index { lines: vec![Line::EMPTY; slots], len: 0 }
    }

    /// Number of slots in it.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The line where flows of this hash stand, unless it was full.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // The low half of the hash as a fraction of the lines: their number need not be a power of two.
        (((hash & 0xffff_ffff) * self.lines.len() as u64) >> 32) as usize
    }

    fn next(&self, line: usize) -> usize {
        if line + 1 < self.lines.len() { line + 1 } else { 0 }
    }

    /// Has the line fetched where flows of this hash stand.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(self.home(hash)) {
            prefetch(line);
        }
    }

    /// The first slot under this hash that stands in its own line: all but certainly the one meant, if there is one.
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<FlowSlot> {
        self.lines.get(self.home(hash))?.find(Tag::of(hash), |_| true)
    }

    /// The slot under this hash that is the one meant.
    pub fn find(&self, hash: u64, is_meant: impl Fn(FlowSlot) -> bool) -> Option<FlowSlot> {
        let mut at = self.home(hash);
        for _ in 0..self.lines.len() {
            let line = self.lines.get(at)?;
            let found = line.find(Tag::of(hash), &is_meant);
            if found.is_some() || line.passed == 0 {
                return found;
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a slot that is not in the index. `hash_of` tells the hash of one that is.
    pub fn insert(&mut self, hash: u64, slot: FlowSlot, hash_of: impl Fn(FlowSlot) -> u64) {
        // Five sixths full: one of twenty flows does not stand in its own line then.
        if (self.len + 1) * 6 > self.lines.len() * LINE_FLOWS * 5 {
            self.grow(hash_of);
        }
        self.place(hash, slot);
        self.len += 1;
    }

    fn place(&mut self, hash: u64, slot: FlowSlot) {
        let mut at = self.home(hash);
        for _ in 0..self.lines.len() {
            let next = self.next(at);
            let Some(line) = self.lines.get_mut(at) else { return };
            if let Some(place) = line.free()
                && let Some(entry) = line.entries.get_mut(place)
            {
                let tag = Tag::of(hash);
                *entry = tag.entry(slot);
                line.set_searched(place, tag.searched);
                return;
            }
            line.passed = line.passed.saturating_add(1);
            at = next;
        }
    }

    /// Half as many lines more.
    fn grow(&mut self, hash_of: impl Fn(FlowSlot) -> u64) {
        let lines = self.lines.len() + (self.lines.len() / 2).max(1);
        let old = std::mem::replace(&mut self.lines, vec![Line::EMPTY; lines]);
        for line in old {
            line.slots().for_each(|slot| self.place(hash_of(slot), slot));
        }
    }

    /// Takes a slot out.
    pub fn remove(&mut self, hash: u64, slot: FlowSlot) {
        let wanted = Tag::of(hash);
        let home = self.home(hash);
        let mut at = home;
        for _ in 0..self.lines.len() {
            let Some(line) = self.lines.get_mut(at) else { return };
            let is_it = |place: &usize| {
                let entry = line.entries.get(*place).copied();
                line.searched(*place) == wanted.searched && entry == Some(wanted.entry(slot))
            };
            if let Some(place) = (0..LINE_FLOWS).find(is_it) {
                line.set_searched(place, FREE);
                self.len -= 1;
                self.unpass(home, at);
                return;
            }
            if line.passed == 0 {
                return;
            }
            at = self.next(at);
        }
    }

    /// One flow less has been passed on by the lines from `from` until before `to`.
    fn unpass(&mut self, from: usize, to: usize) {
        let mut at = from;
        while at != to {
            if let Some(line) = self.lines.get_mut(at)
                && line.passed != PASSED_MANY
            {
                line.passed = line.passed.saturating_sub(1);
            }
            at = self.next(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::HashSeed;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_line_is_a_cache_line() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
    }

    #[test]
    fn bytes_are_found_and_no_others() {
        for wanted in [0u8, 1, 2, 0x7f, 0x80, 0x81, 0xff] {
            for bytes in [[0, 1, 0, 1, 2, 3, 0x80, 0x81], [1, 0, 0x81, 0x80, 0xff, 0xfe, 0x7f, 0x7e]] {
                let found = bytes_that_are(u64::from_le_bytes(bytes), wanted).to_le_bytes();
                assert_eq!(found, bytes.map(|b| if b == wanted { 0x80 } else { 0 }), "{wanted} in {bytes:?}");
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u32),
        Remove(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0..400u32;
        let step = prop_oneof![3 => key.clone().prop_map(Step::Insert), 2 => key.prop_map(Step::Remove)];
        prop::collection::vec(step, 0..1_500)
    }

    /// Hashes as they are, few different ones as an attacker who knows the seed would have them, equal tags in different
    /// lines, and equal lines under different tags.
    fn hash(kind: u8, key: u32) -> u64 {
        let random = HashSeed::new(3, 4).hash([u64::from(key)]);
        match kind {
            0 => random,
            1 => random % 3 * 0x0001_0001_4000_0001,
            2 => random & 0xffff_ffff,
            _ => random & !0xffff_ffff,
        }
    }

    proptest! {
        /// After any insertions and removals the index has what a map has.
        #[test]
        fn holds_what_a_map_holds(steps in steps(), kind in 0..4u8) {
            let mut index = Index::default();
            let mut map = HashMap::new();
            // Slot numbers are given in order, and never twice: what stands under a stale one would show.
            let mut keys: Vec<u32> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key) if !map.contains_key(&key) => {
                        let slot = keys.len() as FlowSlot;
                        keys.push(key);
                        map.insert(key, slot);
                        index.insert(hash(kind, key), slot, |s| hash(kind, keys[s as usize]));
                    }
                    Step::Remove(key) => {
                        if let Some(slot) = map.remove(&key) {
                            index.remove(hash(kind, key), slot);
                        } else {
                            index.remove(hash(kind, key), SLOT);
                        }
                    }
                    Step::Insert(_) => {}
                }
                prop_assert_eq!(index.len(), map.len());
            }
            for key in 0..400 {
                let found = index.find(hash(kind, key), |s| keys[s as usize] == key);
                prop_assert_eq!(found, map.get(&key).copied(), "key {}", key);
            }
        }
    }

    /// When what was passed on has gone, look-ups stop at the first line again.
    #[test]
    fn lines_forget_what_they_passed_on() {
        let mut index = Index::default();
        let hash = |slot: FlowSlot| u64::from(slot) << 48;
        (1..200).for_each(|slot| index.insert(hash(slot), slot, hash));
        assert!(index.lines.iter().any(|line| line.passed > 0));
        (1..200).for_each(|slot| index.remove(hash(slot), slot));
        assert!(index.lines.iter().all(|line| line.passed == 0 && (line.low, line.high) == (0, 0)));
    }

    /// Nearly all flows stand in their own line, at every size.
    #[test]
    fn few_flows_stand_elsewhere() {
        let mut index = Index::default();
        let hash = |slot: FlowSlot| HashSeed::new(5, 6).hash([u64::from(slot)]);
        for slot in 0..50_000 {
            index.insert(hash(slot), slot, hash);
            if slot % 1_000 == 999 {
                let own = |s: &FlowSlot| {
                    let line = &index.lines[index.home(hash(*s))];
                    line.slots().any(|found| found == *s)
                };
                let elsewhere = (0..=slot).filter(|s| !own(s)).count();
                assert!(elsewhere * 10 < slot as usize, "{elsewhere} of {slot}");
                assert!(
                    index.lines.len() * 64 < slot as usize * 11,
                    "{} lines for {slot}",
                    index.lines.len()
                );
            }
        }
    }
}
