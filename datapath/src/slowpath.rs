//! The one seam between the datapath and the brain.
//!
//! A snapshot of the configuration implements [`SlowPath`]. Workers load the newest snapshot once per batch, after having
//! received it, so that a frame sent after a configuration reply is never handled under the configuration before.

use crate::action::{DpAction, Program, UpcallCookie};
use crate::drop::Drop;
use base::Instant;
use flowtable::Mask;
use packet::tunnel::GeneveMap;
use packet::{DpPort, Frame, PacketKey, slot};
use std::sync::{Arc, LazyLock};

/// Something that changes can be told by a number: never goes back, never repeats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub u64);

/// A part of configuration or learned state that has a revision of its own: a table of a bridge, a bucket of a MAC table.
/// The brain numbers them; a number is never used again for something else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(pub u64);

/// What a translation depended on: each domain with the revision it had before the translation read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deps(pub Box<[(Domain, Revision)]>);

/// Identity of a profile's content: two profiles with the same mask have the same id, across publications.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProfileId(pub u32);

/// Every bit of a frame's key that any reachable rule or action may read, for one class of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Identity.
    pub id: ProfileId,
    /// The bits. Always has IN_PORT, RECIRC_ID and DL_TYPE.
    pub mask: Mask<PacketKey>,
    /// The mask's words that are not zero, as (index, bits): what the cache compares and hashes.
    pub words: Box<[(u8, u64)]>,
}

impl Profile {
    /// A profile of this mask.
    pub fn new(id: ProfileId, mask: Mask<PacketKey>) -> Profile {
        let used = mask.0.words().iter().enumerate().filter(|(_, w)| **w != 0);
        let words = used.map(|(i, w)| (i as u8, *w)).collect();
        Profile { id, mask, words }
    }
}

/// Which frames a profile is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameClass {
    /// The ingress port.
    pub port: DpPort,
    /// The EtherType.
    pub dl_type: u16,
    /// Where the pipeline begins.
    pub stage: Stage,
}

impl FrameClass {
    /// Of frames fresh from a port.
    pub const fn fresh(port: DpPort, dl_type: u16) -> FrameClass {
        FrameClass { port, dl_type, stage: Stage::Fresh }
    }

    /// Of frames with this key.
    #[inline]
    pub fn of(key: &PacketKey) -> FrameClass {
        let stage = if key.get(slot::RECIRC_ID) == 0 { Stage::Fresh } else { Stage::Resumed };
        FrameClass { port: key.in_port(), dl_type: key.dl_type(), stage }
    }
}

/// Where in a pipeline a look-up stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// At the start. If frames may be tracked, the profile holds all that tells connections apart.
    Fresh,
    /// At the start, of what the frames of many connections have in common: the profile of [`Stage::Fresh`] without what is
    /// there only to tell connections apart.
    Shared,
    /// After a recirculation.
    Resumed,
}

/// A frame that the cache does not know.
#[derive(Debug)]
pub struct Upcall<'a> {
    /// Its key. `RECIRC_ID` says where in the pipeline to go on.
    pub key: &'a PacketKey,
}

/// Who gets the credit for frames that a cached flow forwarded: OpenFlow rules' counters, MAC entries' ages.
/// Called when a worker folds its counts, never per frame; must be quick and may be called from several workers at once.
pub trait Credit: Send + Sync {
    /// `packets` and `bytes` more, the last of them at `last_seen`. `tcp_flags` are the flags seen, or-ed together.
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16);

    /// Numbers by which it is known: what is credited under the same ones gets the same, so that cached flows can have one
    /// between them. Addresses of what it keeps alive will do; unless said otherwise, its own.
    fn identify(&self, part: &mut dyn FnMut(u64)) {
        part(std::ptr::from_ref(self).addr() as u64);
    }
}

/// All who are credited for a translation's frames, before it is known whether anybody keeps it.
pub trait Creditors {
    /// As [`Credit::credit`].
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16);

    /// The numbers by which what [`Creditors::keep`] gives is known, one after the other.
    fn identify(&self, part: &mut dyn FnMut(u64));

    /// The same to be kept.
    fn keep(&self) -> Box<[Arc<dyn Credit>]>;
}

impl Creditors for Box<[Arc<dyn Credit>]> {
    fn credit(&self, packets: u64, bytes: u64, last_seen: Instant, tcp_flags: u16) {
        self.iter().for_each(|c| c.credit(packets, bytes, last_seen, tcp_flags));
    }

    fn identify(&self, part: &mut dyn FnMut(u64)) {
        self.iter().for_each(|c| c.identify(part));
    }

    fn keep(&self) -> Box<[Arc<dyn Credit>]> {
        self.clone()
    }
}

/// The answer to an [`Upcall`] while it still stands in the room in which it was worked out. Most translations are equal to one
/// that is kept already, or are used once, so nothing is allocated for them.
pub struct Draft<'a, E> {
    /// The program's steps, to be taken out by who keeps them.
    pub steps: &'a mut Vec<DpAction>,
    /// On what that depends.
    pub deps: &'a [(Domain, Revision)],
    /// Who is credited for the frames.
    pub credits: &'a dyn Creditors,
    /// See [`Translation::effects`].
    pub effects: &'a [E],
    /// See [`Translation::cacheable`].
    pub cacheable: bool,
    /// See [`Translation::tables`].
    pub tables: u32,
}

impl<E: Clone> Draft<'_, E> {
    /// The same to be kept.
    pub fn keep(self) -> Translation<E> {
        Translation {
            program: Program { actions: self.steps.drain(..).collect() },
            deps: Deps(self.deps.into()),
            credits: self.credits.keep(),
            effects: self.effects.to_vec(),
            cacheable: self.cacheable,
            tables: self.tables,
        }
    }
}

/// The answer to an [`Upcall`].
pub struct Translation<E> {
    /// What to do with the frame and those like it.
    pub program: Program,
    /// On what that depends.
    pub deps: Deps,
    /// Who is credited for the frames.
    pub credits: Box<[Arc<dyn Credit>]>,
    /// What else must happen because of this frame: MACs learned.
    pub effects: Vec<E>,
    /// Whether the program may be kept for other frames of the flow.
    pub cacheable: bool,
    /// How many tables were asked: what the translation cost ([`crate::cost`]).
    pub tables: u32,
}

/// A snapshot of the brain, as the datapath sees it.
pub trait SlowPath: Send + Sync + 'static {
    /// A side effect of a translation, as a value.
    type Effect: Send;

    /// Room that a worker keeps for translations, so that they need not allocate any. An empty one is cheap to make.
    type Room: Default + Send;

    /// The newest revision of anything. Cheap: one or two atomic loads. A cached flow stamped with it is good as it is.
    fn revision(&self) -> Revision;

    /// The profile for a class of frames; `Err` says why such frames are dropped.
    ///
    /// # Errors
    /// `NoBridge` when no bridge has the port.
    fn profile(&self, class: FrameClass) -> Result<&Profile, Drop>;

    /// Runs the pipeline. Pure: same snapshot, same learned state, same key, same answer; nothing changes.
    fn translate(&self, upcall: &Upcall<'_>) -> Translation<Self::Effect>;

    /// The same in room that is kept from one translation to the next. The answer is lent to `take`.
    fn translate_in<R>(
        &self,
        upcall: &Upcall<'_>,
        _room: &mut Self::Room,
        take: impl FnOnce(Draft<'_, Self::Effect>) -> R,
    ) -> R {
        let Translation { program, deps, credits, effects, cacheable, tables } = self.translate(upcall);
        let mut steps = program.actions.into_vec();
        take(Draft {
            steps: &mut steps,
            deps: &deps.0,
            credits: &credits,
            effects: &effects,
            cacheable,
            tables,
        })
    }

    /// Carries out side effects of a translation.
    fn commit(&self, effects: &[Self::Effect], now: Instant);

    /// Whether nothing that a translation depended on has changed since.
    fn still_valid(&self, deps: &Deps) -> bool;

    /// Which Geneve options stand in which tunnel metadata of a key.
    fn geneve_map(&self) -> &GeneveMap {
        static NONE: LazyLock<GeneveMap> = LazyLock::new(GeneveMap::default);
        &NONE
    }

    /// Takes a copy of a frame for a controller. `frame` is already cut to what was asked for; `total_len` is its full
    /// length. Must not block: a full queue is `Err(Drop::UpcallFull)`.
    ///
    /// # Errors
    /// The reason why the copy was dropped.
    fn punt(
        &self,
        frame: &Frame,
        total_len: usize,
        key: &PacketKey,
        cookie: &UpcallCookie,
    ) -> Result<(), Drop>;
}
