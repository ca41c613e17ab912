//! VLANs of a port, as the Port table of ovs-vswitchd.conf.db(5) describes them: which VLAN a frame belongs to when it comes
//! in, and which tag it wears when it goes out. NORMAL alone uses them; other outputs send frames as they are.

use packet::key::VLAN_PRESENT;
use packet::wire::{ETHERTYPE_VLAN, ETHERTYPE_VLAN_SERVICE};
use std::fmt;

/// A set of VLAN ids.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet([u64; 64]);

impl VlanSet {
    /// No VLAN.
    pub const fn new() -> VlanSet {
        VlanSet([0; 64])
    }

    /// Adds an id; numbers above 4095 are ignored.
    pub fn insert(&mut self, vid: u16) {
        if let Some(word) = self.0.get_mut(usize::from(vid >> 6)) {
            *word |= 1 << (vid & 63);
        }
    }

    /// Whether an id is in the set.
    pub fn contains(&self, vid: u16) -> bool {
        self.0.get(usize::from(vid >> 6)).is_some_and(|w| w >> (vid & 63) & 1 == 1)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// The ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..4096).filter(|v| self.contains(*v))
    }
}

impl Default for VlanSet {
    fn default() -> Self {
        VlanSet::new()
    }
}

impl FromIterator<u16> for VlanSet {
    fn from_iter<T: IntoIterator<Item = u16>>(vids: T) -> Self {
        let mut set = VlanSet::new();
        vids.into_iter().for_each(|v| set.insert(v));
        set
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Mode of a port (`vlan_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VlanMode {
    /// Carries `tag` alone, untagged.
    Access,
    /// Carries `trunks`, tagged; VLAN 0 untagged.
    #[default]
    Trunk,
    /// As trunk, and untagged frames belong to `tag`, which goes out tagged.
    NativeTagged,
    /// As trunk, and untagged frames belong to `tag`, which goes out untagged.
    NativeUntagged,
    /// Every frame belongs to `tag`, an outer tag that is not there on this port.
    Dot1qTunnel,
}

/// Whether frames of no VLAN wear a tag with VID 0 for its priority (`priority-tags`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PriorityTags {
    /// Never.
    #[default]
    Never,
    /// If the priority is not zero.
    IfNonzero,
    /// If the frame had a tag at all.
    Always,
}

/// VLAN configuration of a port. The default is a trunk of all VLANs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VlanConfig {
    /// Mode.
    pub mode: VlanMode,
    /// The access, native or service VLAN, 0 to 4095; not looked at for trunks.
    pub tag: u16,
    /// VLANs trunked; `None` for all.
    pub trunks: Option<Box<VlanSet>>,
    /// Customer VLANs of a tunnel port; `None` for all.
    pub cvlans: Option<Box<VlanSet>>,
    /// TPID of the service tag of a tunnel port: 0x88a8 or 0x8100.
    pub service_tpid: u16,
    /// Priority tags.
    pub priority_tags: PriorityTags,
}

impl VlanConfig {
    /// An access port of a VLAN.
    pub fn access(tag: u16) -> VlanConfig {
        VlanConfig { mode: VlanMode::Access, tag, ..VlanConfig::default() }
    }

    /// A trunk of these VLANs; of all if there is none.
    pub fn trunk(vids: impl IntoIterator<Item = u16>) -> VlanConfig {
        let set: VlanSet = vids.into_iter().collect();
        VlanConfig { trunks: (!set.is_empty()).then(|| Box::new(set)), ..VlanConfig::default() }
    }

    /// From the columns `vlan_mode`, `tag` and `trunks`. Without a mode, a tag makes an access port.
    pub fn from_columns(
        mode: Option<VlanMode>,
        tag: Option<u16>,
        trunks: impl IntoIterator<Item = u16>,
    ) -> VlanConfig {
        let default = if tag.is_some() { VlanMode::Access } else { VlanMode::Trunk };
        let mode = mode.unwrap_or(default);
        // What a mode does not look at is left out, so that setting it changes nothing.
        match mode {
            VlanMode::Trunk => VlanConfig::trunk(trunks),
            VlanMode::Access => VlanConfig::access(tag.unwrap_or(0)),
            _ => VlanConfig { mode, tag: tag.unwrap_or(0), ..VlanConfig::trunk(trunks) },
        }
    }

    /// Whether frames of a VLAN may pass the port, in either direction.
    pub fn carries(&self, vid: u16) -> bool {
        let trunked = || self.trunks.as_ref().is_none_or(|t| t.contains(vid));
        match self.mode {
            VlanMode::Access | VlanMode::Dot1qTunnel => vid == self.tag,
            VlanMode::Trunk => trunked(),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => vid == self.tag || trunked(),
        }
    }

    /// The tags of a frame inside the bridge, the outermost saying its VLAN, when it comes in on the port.
    ///
    /// # Errors
    /// Why the port does not take the frame.
    pub fn admit(&self, tags: &TagStack) -> Result<TagStack, Refusal> {
        let vid = tags.vid();
        match self.mode {
            VlanMode::Access if vid != 0 => Err(Refusal::TaggedOnAccess { vid }),
            VlanMode::Access => Ok(tags.with_vid(self.tag)),
            VlanMode::Dot1qTunnel => {
                if self.cvlans.as_ref().is_some_and(|c| !c.contains(vid)) {
                    return Err(Refusal::CustomerVlan { vid });
                }
                let customer = self.service_tpid == ETHERTYPE_VLAN;
                let tpid = if customer { ETHERTYPE_VLAN } else { ETHERTYPE_VLAN_SERVICE };
                let pcp = tags.outer().map_or(0, |t| t.tci & 0xe000);
                let mut inside = *tags;
                inside.push(Tag { tpid, tci: pcp | self.tag & 0x0fff });
                Ok(inside)
            }
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => Ok(tags.with_vid(self.tag)),
            _ if !self.carries(vid) => Err(Refusal::NotTrunked { vid }),
            _ => Ok(*tags),
        }
    }

    /// The tags that a frame of this VLAN wears when it goes out on the port, which carries it.
    pub fn dress(&self, tags: &TagStack) -> TagStack {
        let vid = tags.vid();
        let unwraps = match self.mode {
            VlanMode::Access | VlanMode::Dot1qTunnel => true,
            VlanMode::NativeUntagged => vid == self.tag,
            VlanMode::Trunk | VlanMode::NativeTagged => false,
        };
        let mut dressed = *tags;
        if (unwraps || vid == 0)
            && let Some(tag) = dressed.pop()
        {
            let keeps_priority = match self.priority_tags {
                _ if self.mode == VlanMode::Dot1qTunnel => false,
                // A trunk lets the priority of a frame that came with one pass (seen of OVS, against its manual).
                PriorityTags::Never => !unwraps && tag.pcp() != 0,
                PriorityTags::IfNonzero => tag.pcp() != 0,
                PriorityTags::Always => true,
            };
            if keeps_priority {
                dressed.push(Tag { tci: tag.tci & 0xe000, ..tag });
            }
        }
        dressed
    }
}

/// Why a port does not take a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A tag on an access port.
    TaggedOnAccess {
        /// The tag's VID.
        vid: u16,
    },
    /// Not one of the trunked VLANs.
    NotTrunked {
        /// The frame's VLAN.
        vid: u16,
    },
    /// Not one of the customer VLANs of a tunnel port.
    CustomerVlan {
        /// The frame's VLAN.
        vid: u16,
    },
}

/// One VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// 0x8100 or 0x88a8.
    pub tpid: u16,
    /// PCP and VID; the place of the DEI bit is 0.
    pub tci: u16,
}

impl Tag {
    /// The VLAN id.
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The priority.
    pub const fn pcp(self) -> u16 {
        self.tci >> 13
    }

    /// From slots of a key: `None` without the presence bit.
    pub const fn from_key(tpid: u16, tci: u16) -> Option<Tag> {
        // Keys written by hand may leave the TPID out.
        let tpid = if tpid == 0 { ETHERTYPE_VLAN } else { tpid };
        if tci & VLAN_PRESENT == 0 { None } else { Some(Tag { tpid, tci: tci & !VLAN_PRESENT }) }
    }
}

/// Tags that a frame may have, those that actions push included.
pub const TAGS_MAX: usize = 4;

/// The tags of a frame, as far as they are known: a frame may have more below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagStack {
    /// The lowest first.
    tags: [Option<Tag>; TAGS_MAX],
    len: usize,
}

impl TagStack {
    /// From the outermost and the next tag.
    pub fn new(outer: Option<Tag>, inner: Option<Tag>) -> TagStack {
        let mut stack = TagStack::default();
        inner.into_iter().chain(outer).for_each(|t| {
            stack.push(t);
        });
        stack
    }

    /// The outermost tag.
    pub fn outer(&self) -> Option<Tag> {
        self.below_top(1)
    }

    /// The tag under the outermost.
    pub fn inner(&self) -> Option<Tag> {
        self.below_top(2)
    }

    fn below_top(&self, n: usize) -> Option<Tag> {
        self.tags.get(self.len.checked_sub(n)?).copied().flatten()
    }

    /// The VLAN that the outermost tag says; 0 without a tag.
    pub fn vid(&self) -> u16 {
        self.outer().map_or(0, Tag::vid)
    }

    /// Adds a tag outside; `false` if there is no room.
    pub fn push(&mut self, tag: Tag) -> bool {
        let Some(slot) = self.tags.get_mut(self.len) else { return false };
        *slot = Some(tag);
        self.len += 1;
        true
    }

    /// Removes the outermost tag.
    pub fn pop(&mut self) -> Option<Tag> {
        let tag = self.outer()?;
        self.len -= 1;
        if let Some(slot) = self.tags.get_mut(self.len) {
            *slot = None;
        }
        Some(tag)
    }

    /// How to make `wanted` of this: how many tags to pop, and which to push then.
    pub fn steps_to(&self, wanted: &TagStack) -> (usize, impl Iterator<Item = Tag>) {
        let both = self.len.min(wanted.len);
        let common = self.tags.iter().zip(&wanted.tags).take(both).take_while(|(a, b)| a == b).count();
        let wanted = *wanted;
        (self.len - common, wanted.tags.into_iter().take(wanted.len).skip(common).flatten())
    }

    /// With the outermost tag's VID replaced, adding a tag if there is none.
    fn with_vid(&self, vid: u16) -> TagStack {
        let mut stack = *self;
        let tag = stack.pop().unwrap_or(Tag { tpid: ETHERTYPE_VLAN, tci: 0 });
        stack.push(Tag { tci: tag.tci & 0xe000 | vid & 0x0fff, ..tag });
        stack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(vid: u16, pcp: u16) -> TagStack {
        TagStack::new(Some(Tag { tpid: 0x8100, tci: pcp << 13 | vid }), None)
    }

    #[test]
    fn steps_keep_what_is_common() {
        let tag = |vid| Tag { tpid: 0x8100, tci: vid };
        let two = TagStack::new(Some(tag(2)), Some(tag(1)));
        let mut three = two;
        assert!(three.push(tag(3)));
        let steps = |a: &TagStack, b: &TagStack| {
            let (pops, pushes) = a.steps_to(b);
            (pops, pushes.map(Tag::vid).collect::<Vec<_>>())
        };
        assert_eq!(steps(&two, &three), (0, vec![3]));
        assert_eq!(steps(&three, &two), (1, vec![]));
        assert_eq!(steps(&two, &two), (0, vec![]));
        assert_eq!(steps(&three, &tagged(1, 0)), (2, vec![]));
        assert_eq!(steps(&two, &tagged(9, 0)), (2, vec![9]));
        assert!(three.push(tag(4)) && !three.push(tag(5)));
        assert_eq!((three.outer().map(Tag::vid), three.inner().map(Tag::vid)), (Some(4), Some(3)));
    }

    #[test]
    fn access_ports_take_untagged_and_priority_tagged_frames() {
        let port = VlanConfig::access(10);
        assert_eq!(port.admit(&TagStack::default()).map(|t| t.vid()), Ok(10));
        assert_eq!(port.admit(&tagged(0, 5)), Ok(tagged(10, 5)));
        assert_eq!(port.admit(&tagged(10, 0)), Err(Refusal::TaggedOnAccess { vid: 10 }));
        assert_eq!(port.dress(&tagged(10, 5)), TagStack::default());
        let prio = VlanConfig { priority_tags: PriorityTags::IfNonzero, ..port.clone() };
        assert_eq!(
            (prio.dress(&tagged(10, 5)), prio.dress(&tagged(10, 0))),
            (tagged(0, 5), TagStack::default())
        );
        let always = VlanConfig { priority_tags: PriorityTags::Always, ..port };
        assert_eq!(
            (always.dress(&tagged(10, 0)), always.dress(&TagStack::default())),
            (tagged(0, 0), TagStack::default())
        );
    }

    #[test]
    fn trunks_carry_what_they_list() {
        let all = VlanConfig::default();
        let some = VlanConfig::trunk([10, 4095]);
        assert_eq!(
            (all.admit(&tagged(7, 0)), all.admit(&TagStack::default())),
            (Ok(tagged(7, 0)), Ok(TagStack::default()))
        );
        assert_eq!(some.admit(&TagStack::default()), Err(Refusal::NotTrunked { vid: 0 }));
        assert_eq!(some.admit(&tagged(11, 0)), Err(Refusal::NotTrunked { vid: 11 }));
        assert_eq!(some.admit(&tagged(4095, 0)), Ok(tagged(4095, 0)));
        assert_eq!((all.dress(&tagged(7, 1)), all.dress(&tagged(0, 0))), (tagged(7, 1), TagStack::default()));
        assert_eq!(all.dress(&tagged(0, 1)), tagged(0, 1));
    }

    #[test]
    fn native_vlans() {
        for (mode, out) in
            [(VlanMode::NativeTagged, tagged(5, 0)), (VlanMode::NativeUntagged, TagStack::default())]
        {
            let port = VlanConfig::from_columns(Some(mode), Some(5), [6]);
            assert_eq!(port.admit(&TagStack::default()), Ok(tagged(5, 0)));
            assert_eq!(port.admit(&tagged(5, 0)), Ok(tagged(5, 0)));
            assert_eq!(port.admit(&tagged(7, 0)), Err(Refusal::NotTrunked { vid: 7 }));
            assert!(port.carries(5) && port.carries(6) && !port.carries(0));
            assert_eq!((port.dress(&tagged(5, 0)), port.dress(&tagged(6, 0))), (out, tagged(6, 0)));
        }
        assert_eq!(VlanConfig::from_columns(None, Some(3), [4]), VlanConfig::access(3));
        assert_eq!(VlanConfig::from_columns(Some(VlanMode::Trunk), Some(3), [4]), VlanConfig::trunk([4]));
        assert_eq!(VlanConfig::from_columns(None, None, [3]).mode, VlanMode::Trunk);
    }

    #[test]
    fn tunnel_ports_wrap_and_unwrap() {
        let port = VlanConfig {
            mode: VlanMode::Dot1qTunnel,
            tag: 100,
            cvlans: Some(Box::new([7].into_iter().collect())),
            ..VlanConfig::default()
        };
        let inside = port.admit(&tagged(7, 2)).unwrap();
        assert_eq!(inside.outer(), Some(Tag { tpid: 0x88a8, tci: 2 << 13 | 100 }));
        assert_eq!(port.dress(&inside), tagged(7, 2));
        assert_eq!(port.admit(&tagged(8, 0)), Err(Refusal::CustomerVlan { vid: 8 }));
    }
}
