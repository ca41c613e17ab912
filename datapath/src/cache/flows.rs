//! Where the flows of one profile stand: blocks of fixed size, so that growing neither copies flows nor keeps room for as many
//! again.
//!
//! A slot number is reused after a removal, so it is good only until the cache changes.

use super::entry::Flow;

/// Index of a cached flow in its table.
pub(crate) type FlowSlot = u32;

/// Flows of a block.
const BLOCK_FLOWS: usize = 256;

/// Flows, and what is left over of their keys.
#[derive(Default)]
pub(crate) struct Flows {
    blocks: Vec<Box<[Flow; BLOCK_FLOWS]>>,
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

    /// The words of a flow's key that do not stand in the flow.
    #[inline]
    pub fn rest(&self, slot: FlowSlot) -> &[u64] {
        let (block, place) = split(slot);
        let first = place * self.rest_width;
        self.rest.get(block).and_then(|words| words.get(first..first + self.rest_width)).unwrap_or(&[])
    }

    /// Puts a flow into a free slot. `rest` are the words of its key that do not stand in it.
    pub fn insert(&mut self, flow: Flow, rest: impl Iterator<Item = u64>) -> FlowSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len as FlowSlot - 1
        });
        let (block, place) = split(slot);
        if block == self.blocks.len() {
            self.add_block();
        }
        if let Some(to) = self.get_mut(slot) {
            *to = flow;
        }
        if let Some(words) = self.rest.get_mut(block) {
            words.iter_mut().skip(place * self.rest_width).zip(rest).for_each(|(to, from)| *to = from);
        }
        slot
    }

    fn add_block(&mut self) {
        let flows: Box<[Flow]> = (0..BLOCK_FLOWS).map(|_| Flow::default()).collect();
        if let Ok(flows) = flows.try_into() {
            self.blocks.push(flows);
        }
        if self.rest_width > 0 {
            self.rest.push(vec![0; BLOCK_FLOWS * self.rest_width].into());
        }
    }

    /// Gives a slot up for reuse; its content stays.
    pub fn free(&mut self, slot: FlowSlot) {
        self.free.push(slot);
    }
}
