//! Where the flows of one profile stand: blocks of fixed size, so that growing neither copies flows nor keeps room for as many
//! again.
//!
//! A slot number is reused after a removal, so it is good only until the cache changes.

use super::CACHE_FLOWS_MAX;
use super::entry::{Flow, FlowRecord};
use sys::prefetch::prefetch;

/// Index of a cached flow in its table.
pub(crate) type FlowSlot = u32;

/// Bits of a slot number, which may share a word with others.
pub(super) const SLOT_BITS: u32 = 24;
/// These bits.
pub(super) const SLOT: FlowSlot = (1 << SLOT_BITS) - 1;

const _: () = assert!(CACHE_FLOWS_MAX <= SLOT + 1, "slot numbers fit");

/// Flows of a block.
const BLOCK_FLOWS: usize = 256;

/// Flows, their records, and what is left over of their keys.
#[derive(Default)]
pub(crate) struct Flows {
    blocks: Vec<Box<[Flow; BLOCK_FLOWS]>>,
    records: Vec<Box<[FlowRecord; BLOCK_FLOWS]>>,
    /// The words of keys that do not fit in the flows, block by block, as many each as the profile has.
    rest: Vec<Box<[u64]>>,
    /// Words of a key beyond those in the flow.
    rest_width: usize,
    len: usize,
    free: Vec<FlowSlot>,
}

/// The block of a slot, and its place there.
#[inline]
fn split(slot: FlowSlot) -> (usize, usize) {
    (slot as usize / BLOCK_FLOWS, slot as usize % BLOCK_FLOWS)
}

/// A block of what stands in free places.
fn block<T: Default>() -> Option<Box<[T; BLOCK_FLOWS]>> {
    let places: Box<[T]> = (0..BLOCK_FLOWS).map(|_| T::default()).collect();
    places.try_into().ok()
}

impl Flows {
    /// For keys that have so many words beyond those in the flow.
    pub fn new(rest_width: usize) -> Flows {
        Flows { rest_width, ..Flows::default() }
    }

    /// Number of slots, free ones included.
    pub fn slots(&self) -> usize {
        self.len
    }

    /// Number of slots that have a flow.
    pub fn in_use(&self) -> usize {
        self.len - self.free.len()
    }

    /// The flow of a slot below `slots`, in use or not.
    #[inline]
    pub fn get(&self, slot: FlowSlot) -> Option<&Flow> {
        let (block, place) = split(slot);
        self.blocks.get(block)?.get(place)
    }

    #[inline]
    pub fn get_mut(&mut self, slot: FlowSlot) -> Option<&mut Flow> {
        let (block, place) = split(slot);
        self.blocks.get_mut(block)?.get_mut(place)
    }

    /// What is recorded of the flow of a slot.
    pub fn record(&self, slot: FlowSlot) -> Option<&FlowRecord> {
        let (block, place) = split(slot);
        self.records.get(block)?.get(place)
    }

    /// A flow and what is recorded of it.
    pub fn with_record_mut(&mut self, slot: FlowSlot) -> Option<(&mut Flow, &mut FlowRecord)> {
        let (block, place) = split(slot);
        Some((self.blocks.get_mut(block)?.get_mut(place)?, self.records.get_mut(block)?.get_mut(place)?))
    }

    /// All flows, and what stands in free places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.blocks.iter_mut().flat_map(|block| block.iter_mut())
    }

    /// The words of a flow's key that do not stand in the flow.
    #[inline]
    pub fn rest(&self, slot: FlowSlot) -> &[u64] {
        let (block, place) = split(slot);
        let first = place * self.rest_width;
        self.rest.get(block).and_then(|words| words.get(first..first + self.rest_width)).unwrap_or(&[])
    }

    /// Has fetched what a flow is compared by.
    #[inline]
    pub fn prefetch(&self, slot: FlowSlot) {
        if let Some(flow) = self.get(slot) {
            prefetch(flow);
        }
        if self.rest_width > 0 {
            let rest = self.rest(slot);
            // What is left of a key is seldom longer than a line, but may lie across two.
            rest.first().into_iter().chain(rest.last()).for_each(prefetch);
        }
    }

    /// Puts a flow into a free slot. `rest` are the words of its key that do not stand in it.
    pub fn insert(&mut self, flow: Flow, record: FlowRecord, rest: impl Iterator<Item = u64>) -> FlowSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len as FlowSlot - 1
        });
        let (block, place) = split(slot);
        if block == self.blocks.len() {
            self.add_block();
        }
        if let Some(to) = self.with_record_mut(slot) {
            (*to.0, *to.1) = (flow, record);
        }
        if let Some(words) = self.rest.get_mut(block) {
            words.iter_mut().skip(place * self.rest_width).zip(rest).for_each(|(to, from)| *to = from);
        }
        slot
    }

    fn add_block(&mut self) {
        self.blocks.extend(block());
        self.records.extend(block());
        if self.rest_width > 0 {
            self.rest.push(vec![0; BLOCK_FLOWS * self.rest_width].into());
        }
    }

    /// Gives a slot up for reuse; its content stays.
    pub fn free(&mut self, slot: FlowSlot) {
        self.free.push(slot);
    }
}
