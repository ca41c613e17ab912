//! How the room of the cache is divided between ingress ports.
//!
//! Half of the room is guaranteed: each port has an equal part of it that nobody else can use. The other half is free for
//! all, up to the limit per port. A port's flows stand in a list of its own, over which eviction runs as a clock.

use super::flows::{SLOT, SLOT_BITS};
use super::{CACHE_PROFILES_MAX, FlowSlot, TableIndex};

/// Names the share of one port.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PortShare(u32);

/// Names a cached flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowRef {
    pub table: TableIndex,
    pub slot: FlowSlot,
}

/// The same in four bytes: the number of the table, then the slot.
#[derive(Clone, Copy)]
struct PackedRef(u32);

const _: () = assert!(CACHE_PROFILES_MAX <= 1 << (32 - SLOT_BITS), "table numbers fit");

impl PackedRef {
    fn pack(flow: FlowRef) -> PackedRef {
        PackedRef(u32::from(flow.table.0) << SLOT_BITS | flow.slot)
    }

    fn unpack(self) -> FlowRef {
        let table = TableIndex((self.0 >> SLOT_BITS) as u16);
        FlowRef { table, slot: self.0 & SLOT }
    }
}

#[derive(Default)]
struct Share {
    flows: Vec<PackedRef>,
    hand: usize,
}

#[derive(Default)]
pub(crate) struct Shares {
    shares: Vec<Option<Share>>,
    /// Number of shares in use.
    count: usize,
    /// Flows that each port may have whatever the others do.
    guaranteed: usize,
    /// Flows beyond the guarantees that may exist.
    common: usize,
    /// Flows beyond the guarantees that exist.
    common_used: usize,
    flows_max: usize,
    per_port_max: usize,
}

impl Shares {
    pub fn set_limits(&mut self, flows: u32, per_port: u32) {
        self.flows_max = flows as usize;
        self.per_port_max = per_port as usize;
        self.divide();
    }

    fn divide(&mut self) {
        self.guaranteed = (self.flows_max / 2 / self.count.max(1)).min(self.per_port_max);
        self.common = self.flows_max - self.guaranteed * self.count;
        let beyond = |s: &Share| s.flows.len().saturating_sub(self.guaranteed);
        self.common_used = self.shares.iter().flatten().map(beyond).sum();
    }

    pub fn add(&mut self) -> PortShare {
        let free = self.shares.iter().position(Option::is_none);
        let i = free.unwrap_or(self.shares.len());
        match self.shares.get_mut(i) {
            Some(share) => *share = Some(Share::default()),
            None => self.shares.push(Some(Share::default())),
        }
        self.count += 1;
        self.divide();
        PortShare(i as u32)
    }

    /// Removes an empty share.
    pub fn remove(&mut self, share: PortShare) {
        if self.shares.get_mut(share.0 as usize).and_then(Option::take).is_some() {
            self.count -= 1;
            self.divide();
        }
    }

    pub fn all(&self) -> impl Iterator<Item = PortShare> + '_ {
        self.shares.iter().enumerate().filter(|(_, s)| s.is_some()).map(|(i, _)| PortShare(i as u32))
    }

    fn get(&self, share: PortShare) -> Option<&Share> {
        self.shares.get(share.0 as usize)?.as_ref()
    }

    /// Number of the port's flows.
    pub fn len(&self, share: PortShare) -> usize {
        self.get(share).map_or(0, |s| s.flows.len())
    }

    /// Whether the port may have one more flow without giving one up.
    pub fn may_grow(&self, share: PortShare) -> bool {
        self.get(share).is_some_and(|s| {
            let len = s.flows.len();
            len < self.guaranteed || len < self.per_port_max && self.common_used < self.common
        })
    }

    /// Whether more is in use than is there to share: after limits were lowered, or a port was added.
    pub fn overcommitted(&self) -> bool {
        self.common_used > self.common
    }

    /// Adds a flow to the port's list; returns its position.
    pub fn push(&mut self, share: PortShare, flow: FlowRef) -> u32 {
        let guaranteed = self.guaranteed;
        let Some(Some(s)) = self.shares.get_mut(share.0 as usize) else { return 0 };
        if s.flows.len() >= guaranteed {
            self.common_used += 1;
        }
        s.flows.push(PackedRef::pack(flow));
        s.flows.len() as u32 - 1
    }

    /// Takes the flow at `position` out of the list; returns the flow that moved there, if one did.
    pub fn take(&mut self, share: PortShare, position: u32) -> Option<FlowRef> {
        let s = self.shares.get_mut(share.0 as usize)?.as_mut()?;
        let position = position as usize;
        if position >= s.flows.len() {
            return None;
        }
        s.flows.swap_remove(position);
        if s.flows.len() >= self.guaranteed {
            self.common_used = self.common_used.saturating_sub(1);
        }
        s.flows.get(position).map(|flow| flow.unpack())
    }

    /// The last flow of the port's list.
    pub fn last(&self, share: PortShare) -> Option<FlowRef> {
        self.get(share)?.flows.last().map(|flow| flow.unpack())
    }

    /// The flow under the clock's hand, which moves on.
    pub fn next_victim(&mut self, share: PortShare) -> Option<FlowRef> {
        let s = self.shares.get_mut(share.0 as usize)?.as_mut()?;
        if s.hand >= s.flows.len() {
            s.hand = 0;
        }
        let flow = s.flows.get(s.hand).map(|flow| flow.unpack());
        s.hand += 1;
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_unpacked_as_they_were() {
        for table in [0, 1, CACHE_PROFILES_MAX as u16 - 1] {
            for slot in [0, 1, SLOT] {
                let flow = FlowRef { table: TableIndex(table), slot };
                assert_eq!(PackedRef::pack(flow).unpack(), flow);
            }
        }
    }
}
