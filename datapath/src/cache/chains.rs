//! Where the chains of a profile's flows stand: blocks of fixed size. A chain fills whole cache lines, and an allocator asks half
//! as much again for memory that is so aligned.

use super::Chain;
use std::num::NonZeroU32;

/// Chains of a block.
const BLOCK_CHAINS: usize = 64;

/// Names a flow's chain in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChainSlot(NonZeroU32);

impl ChainSlot {
    /// The block, and the place there.
    #[inline]
    fn split(self) -> (usize, usize) {
        let index = self.0.get() as usize - 1;
        (index / BLOCK_CHAINS, index % BLOCK_CHAINS)
    }
}

#[derive(Default)]
pub(super) struct Chains {
    blocks: Vec<Box<[Option<Chain>; BLOCK_CHAINS]>>,
    free: Vec<ChainSlot>,
    /// Slots that have been used.
    used: u32,
}

impl Chains {
    #[inline]
    pub fn get(&self, slot: ChainSlot) -> Option<&Chain> {
        let (block, place) = slot.split();
        self.blocks.get(block)?.get(place)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, slot: ChainSlot) -> Option<&mut Chain> {
        let (block, place) = slot.split();
        self.blocks.get_mut(block)?.get_mut(place)?.as_mut()
    }

    /// Keeps a chain. `None`, and it is gone, if there are more than can be numbered.
    pub fn insert(&mut self, chain: Chain) -> Option<ChainSlot> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.used = self.used.checked_add(1)?;
                ChainSlot(NonZeroU32::new(self.used)?)
            }
        };
        let (block, place) = slot.split();
        if block == self.blocks.len() {
            self.blocks.push(Box::new([const { None }; BLOCK_CHAINS]));
        }
        *self.blocks.get_mut(block)?.get_mut(place)? = Some(chain);
        Some(slot)
    }

    /// Gives a chain back, and its slot up for another.
    pub fn take(&mut self, slot: ChainSlot) -> Option<Chain> {
        let (block, place) = slot.split();
        let chain = self.blocks.get_mut(block)?.get_mut(place)?.take()?;
        self.free.push(slot);
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use crate::cache::chain::tests::link;

    fn chain() -> Chain {
        Chain::new(&Program::default(), vec![link()]).expect("a link")
    }

    #[test]
    fn a_chain_takes_no_more_than_its_lines() {
        assert_eq!((size_of::<Option<Chain>>(), align_of::<Option<Chain>>()), (128, 64));
        assert_eq!(size_of::<Option<ChainSlot>>(), 4);
    }

    #[test]
    fn slots_are_used_again_and_name_one_chain() {
        let mut chains = Chains::default();
        let slots: Vec<_> = (0..200).map(|_| chains.insert(chain()).expect("room")).collect();
        let places: std::collections::HashSet<_> =
            slots.iter().map(|s| std::ptr::from_ref(chains.get(*s).expect("a chain"))).collect();
        assert_eq!(places.len(), 200);
        for slot in slots.iter().skip(50).take(100) {
            assert!(chains.take(*slot).is_some());
            assert!(chains.get(*slot).is_none() && chains.get_mut(*slot).is_none());
            assert!(chains.take(*slot).is_none(), "once only");
        }
        let again: Vec<_> = (0..100).map(|_| chains.insert(chain()).expect("room")).collect();
        assert!(again.iter().all(|slot| slots[50..150].contains(slot)));
        assert_eq!((chains.used, chains.blocks.len(), chains.free.len()), (200, 4, 0));
        assert!(slots.iter().all(|slot| chains.get(*slot).is_some()));
    }
}
