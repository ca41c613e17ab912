//! Where the flows of one profile stand: blocks of fixed size, so that growing neither copies flows nor keeps room for as many
//! again.
//!
//! A slot number is reused after a removal, so it is good only until the cache changes.

use super::entry::{FLOW_WORDS, Flow};

/// Index of a cached flow in its table.
pub(crate) type FlowSlot = u32;

/// Flows of a block.
const BLOCK_FLOWS: usize = 512;

#[derive(Default)]
struct Block {
    flows: Vec<Flow>,
    /// Words of keys that do not fit in the flows, as many each as the profile has.
    rest: Vec<u64>,
}

/// Flows, and what is left over of their keys.
pub(crate) struct Flows {
    blocks: Vec<Block>,
    /// Words of a key beyond those in the flow.
    rest_width: usize,
    len: usize,
    free: Vec<FlowSlot>,
}

impl Flows {
    /// For keys of `width` words.
    pub fn new(width: usize) -> Flows {
        Flows { blocks: Vec::new(), rest_width: width.saturating_sub(FLOW_WORDS), len: 0, free: Vec::new() }
    }

    /// Number of slots, free ones included.
    pub fn slots(&self) -> usize {
        self.len
    }

    /// Number of slots that have a flow.
    pub fn in_use(&self) -> usize {
        self.len - self.free.len()
    }

    #[inline]
    pub fn get(&self, slot: FlowSlot) -> Option<&Flow> {
        self.blocks.get(slot as usize / BLOCK_FLOWS)?.flows.get(slot as usize % BLOCK_FLOWS)
    }

    #[inline]
    pub fn get_mut(&mut self, slot: FlowSlot) -> Option<&mut Flow> {
        self.blocks.get_mut(slot as usize / BLOCK_FLOWS)?.flows.get_mut(slot as usize % BLOCK_FLOWS)
    }

    /// The words of a flow's key that do not stand in the flow.
    #[inline]
    pub fn rest(&self, slot: FlowSlot) -> &[u64] {
        if self.rest_width == 0 {
            return &[];
        }
        let first = slot as usize % BLOCK_FLOWS * self.rest_width;
        let block = self.blocks.get(slot as usize / BLOCK_FLOWS);
        block.and_then(|b| b.rest.get(first..first + self.rest_width)).unwrap_or(&[])
    }

    /// Puts a flow into a free slot. `rest` are the words of its key that do not stand in it.
    pub fn insert(&mut self, flow: Flow, rest: impl Iterator<Item = u64>) -> FlowSlot {
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.get_mut(slot) {
                *place = flow;
            }
            let first = slot as usize % BLOCK_FLOWS * self.rest_width;
            if let Some(block) = self.blocks.get_mut(slot as usize / BLOCK_FLOWS) {
                block.rest.iter_mut().skip(first).zip(rest).for_each(|(to, from)| *to = from);
            }
            return slot;
        }
        let slot = self.len as FlowSlot;
        if self.len.is_multiple_of(BLOCK_FLOWS) {
            self.blocks.push(Block {
                flows: Vec::with_capacity(BLOCK_FLOWS),
                rest: Vec::with_capacity(BLOCK_FLOWS * self.rest_width),
            });
        }
        if let Some(block) = self.blocks.last_mut() {
            block.flows.push(flow);
            block.rest.extend(rest);
            self.len += 1;
        }
        slot
    }

    /// Gives a slot up for reuse; its content stays.
    pub fn free(&mut self, slot: FlowSlot) {
        self.free.push(slot);
    }
}
