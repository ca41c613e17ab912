//! Reassembly of IP fragments for connection tracking: a worker offers fragments, and gets a whole packet back once all
//! are there, which after tracking becomes the fragments that it came in.
//!
//! One table a worker, no locks; time is an argument. Fragments meet only if they came in by the same port and are offered
//! at the same place of the same program (RFC 791, RFC 815, RFC 8200 section 4.5). What overlaps is refused, with all of
//! its datagram and for as long as that might have taken (RFC 5722); a first fragment must hold the whole transport header
//! (RFC 1858, RFC 3128, RFC 7112). What is held is bounded in datagrams, fragments and bytes, in total, for each port and
//! for each source address at a port, and who is over a limit loses their own oldest datagram: [`FragmentLimits`].
//!
//! Buffers of a pool have room for super-frames, so what is held is copied to buffers of its own size. This allocates;
//! fragments are not the hit path.
//!
//! Not here: what becomes of refused fragments (Open vSwitch lets them go on as invalid), cutting to an MTU
//! ([`packet::fragment::split`]).

mod datagram;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
mod shares;
mod whole;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::Instant;
use packet::fragment::PACKET_LEN_MAX;
use packet::frame::{FRAME_LEN_MAX, NO_LAYER};
use packet::wire::*;
use packet::{DpPort, Fragment, Frame, FramePool, PacketKey, slot};

use crate::Drop;
use datagram::{Datagram, FragmentKey, Piece};
pub use limits::{FragmentBudget, FragmentLimits};
use shares::Shares;
pub use whole::Whole;

/// Where a fragment is offered; fragments of different places never meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// The port that it came in by, which answers for the memory.
    pub ingress: DpPort,
    /// Zone of connection tracking.
    pub zone: u16,
    /// Which place of which program, such as a recirculation id.
    pub at: u64,
}

/// A receiving side of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Side {
    /// The port.
    pub port: DpPort,
    /// Its number among those of the port.
    pub number: u16,
}

/// Incomplete datagrams on their way to another worker, with the receiving side that they come by. The oldest is first.
#[derive(Debug, Default)]
pub struct Incomplete(Vec<(FragmentKey, Datagram)>);

impl Incomplete {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What became of a fragment.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack for a moment; a box would be an allocation a packet"
)]
pub enum Offered {
    /// It is held until the others come.
    Held,
    /// It was the last that was missing, or no fragment at all.
    Whole(Whole),
    /// It is refused, and here it is again. Others of its datagram may come out of [`Reassembler::expire`] with it.
    Dropped(Frame, Drop),
}

/// Counters of one IP version, in fragments, as `ipf-get-status` of ovs-dpctl(8) shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FragmentCounters {
    /// Held at some time.
    pub accepted: u64,
    /// Became part of a whole packet.
    pub completed: u64,
    /// The others of their datagram did not come in time.
    pub expired: u64,
    /// Refused: too small, or without the whole transport header.
    pub too_small: u64,
    /// Refused: overlapped with one that was held, or came twice.
    pub overlapped: u64,
    /// Held, then given up for another of their datagram, or for a limit.
    pub purged: u64,
    /// Refused: too long, a wrong header, or no room.
    pub refused: u64,
}

/// What a table holds, and has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FragmentStats {
    /// Incomplete datagrams, those given up but not yet forgotten among them.
    pub datagrams: usize,
    /// Fragments held.
    pub fragments: usize,
    /// Bytes of memory, overhead counted.
    pub bytes: usize,
    /// IPv4.
    pub v4: FragmentCounters,
    /// IPv6.
    pub v6: FragmentCounters,
}

/// An incomplete datagram, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldDatagram {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub identification: u32,
    /// IP protocol; 0 for IPv6, where it is not part of what fragments have in common.
    pub protocol: u8,
    /// Where its fragments are offered.
    pub context: Context,
    /// Fragments held.
    pub fragments: usize,
    /// Whether the first is among them.
    pub has_first: bool,
    /// Whether the last is among them.
    pub has_last: bool,
    /// Why it was given up, if it was.
    pub given_up: Option<Drop>,
}

/// Fragments given up that nobody has come for are held at most so many times the limit of fragments; then all are refused.
const GIVEN_UP_FACTOR: usize = 2;

/// The fragments of one worker.
#[derive(Debug)]
pub struct Reassembler {
    limits: FragmentLimits,
    table: BTreeMap<FragmentKey, Datagram>,
    /// By serial number, and so by age.
    ages: BTreeMap<u64, FragmentKey>,
    shares: Shares,
    given_up: VecDeque<(Frame, DpPort, Drop)>,
    /// The side that fragments which are offered now came by.
    side: Option<Side>,
    serial: u64,
    v4: FragmentCounters,
    v6: FragmentCounters,
}

impl Reassembler {
    /// An empty table.
    pub fn new(limits: FragmentLimits) -> Reassembler {
        Reassembler {
            limits,
            table: BTreeMap::new(),
            ages: BTreeMap::new(),
            shares: Shares::default(),
            given_up: VecDeque::new(),
            side: None,
            serial: 0,
            v4: FragmentCounters::default(),
            v6: FragmentCounters::default(),
        }
    }

    /// What is offered from now on came by this side; `None`: by none, such as by command.
    #[inline]
    pub fn receive_from(&mut self, side: Option<Side>) {
        self.side = side;
    }

    /// Takes out what began to come by a side that another worker is going to have: the rest comes there.
    pub fn release(&mut self, side: Side) -> Incomplete {
        let own = self.ages.iter().filter(|(_, id)| self.table.get(id).is_some_and(|d| d.side == Some(side)));
        let serials: Vec<u64> = own.map(|(serial, _)| *serial).collect();
        Incomplete(serials.into_iter().filter_map(|serial| self.remove(serial)).collect())
    }

    /// Takes what another worker released, as far as the limits allow; a datagram of which fragments have come here too stays
    /// in two parts, of which that one is given up. Since ages are in the order of arrival here, a time-out may begin anew.
    pub fn adopt(&mut self, incomplete: Incomplete) {
        for (id, mut datagram) in incomplete.0 {
            let refused = match self.table.contains_key(&id) {
                true => Some(Drop::FragmentTimeout),
                false => self.make_room(&id, datagram.usage).err(),
            };
            if let Some(why) = refused {
                self.purge(id.source.is_ipv4, datagram.ingress, datagram.pieces, why);
                continue;
            }
            let youngest = self.ages.last_key_value().and_then(|(_, id)| self.table.get(id));
            datagram.since = youngest.map_or(datagram.since, |y| y.since.max(datagram.since));
            self.enter(id, datagram);
        }
    }

    /// Takes a fragment whose layers are noted and whose `key` was extracted from it. A frame that is no fragment comes back
    /// as a whole packet. The buffer of a fragment that is held goes back to the pool.
    pub fn offer(
        &mut self,
        frame: Frame,
        key: &PacketKey,
        context: Context,
        pool: &mut FramePool,
        now: Instant,
    ) -> Offered {
        let Some(fragment) = Fragment::of(&frame) else {
            return match key.get(slot::NW_FRAG) {
                0 => Offered::Whole(Whole::uncut(frame, *key)),
                _ => Offered::Dropped(frame, Drop::FragmentMalformed),
            };
        };
        let refused = match check(&frame, &fragment, key, &self.limits) {
            Ok(()) => self.hold(&frame, fragment, key, context, now),
            Err(why) => Err(why),
        };
        let id = match refused {
            Ok(id) => id,
            Err(why) => {
                self.count_refused(fragment.is_ipv4, why);
                return Offered::Dropped(frame, why);
            }
        };
        pool.give(frame);
        if !self.table.get(&id).is_some_and(Datagram::is_complete) {
            return Offered::Held;
        }
        self.complete(&id, &fragment, key, pool)
    }

    /// Hands out what is not to be waited for any longer: fragments whose datagram has timed out at `now` and those given up
    /// since the last call, each with the port that it came in by and the reason. Cheap if there are none; to be called at
    /// each step.
    pub fn expire(&mut self, now: Instant, out: &mut impl FnMut(Frame, DpPort, Drop)) {
        while let Some((serial, since)) = self.oldest()
            && since + self.limits.timeout <= now
        {
            if let Some((id, datagram)) = self.remove(serial) {
                self.counters(id.source.is_ipv4).expired += datagram.pieces.len() as u64;
                for piece in datagram.pieces {
                    out(piece.frame, datagram.ingress, Drop::FragmentTimeout);
                }
            }
        }
        for (frame, port, why) in self.given_up.drain(..) {
            out(frame, port, why);
        }
    }

    /// When [`expire`](Self::expire) has something to hand out, if nothing else happens.
    pub fn next_expiry(&self) -> Option<Instant> {
        if !self.given_up.is_empty() {
            return Some(Instant::ZERO);
        }
        self.oldest().map(|(_, since)| since + self.limits.timeout)
    }

    /// What is held, and has been done.
    pub fn stats(&self) -> FragmentStats {
        let held = self.shares.total();
        FragmentStats {
            datagrams: held.datagrams,
            fragments: held.fragments,
            bytes: held.bytes,
            v4: self.v4,
            v6: self.v6,
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> &FragmentLimits {
        &self.limits
    }

    /// Changes the limits. What is held beyond the new total is given up; the shares of ports and sources take effect when
    /// they next need room. A new time-out holds for what is held already.
    pub fn configure(&mut self, limits: FragmentLimits) {
        self.limits = limits;
        while let Some(serial) = self.shares.surplus(Default::default(), &self.limits) {
            if !self.evict(serial) {
                break;
            }
        }
    }

    /// What is incomplete, in the order of ports and addresses.
    pub fn datagrams(&self) -> impl Iterator<Item = HeldDatagram> {
        self.table.iter().map(|(id, datagram)| {
            let address = |bits: u128| match id.source.is_ipv4 {
                true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
                false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            };
            HeldDatagram {
                src: address(id.source.address),
                dst: address(id.destination),
                identification: id.identification,
                protocol: id.protocol,
                context: Context { ingress: id.source.port, zone: id.zone, at: id.at },
                fragments: datagram.pieces.len(),
                has_first: datagram.pieces.first().is_some_and(|p| p.fragment.offset == 0),
                has_last: datagram.end.is_some(),
                given_up: datagram.given_up,
            }
        })
    }

    /// Stores a copy of a fragment, and gives the datagram that it went to.
    fn hold(
        &mut self,
        frame: &Frame,
        fragment: Fragment,
        key: &PacketKey,
        context: Context,
        now: Instant,
    ) -> Result<FragmentKey, Drop> {
        if self.given_up.len() >= self.limits.total.fragments.saturating_mul(GIVEN_UP_FACTOR) {
            return Err(Drop::FragmentLimit);
        }
        let id = FragmentKey::new(&fragment, key, context);
        let mut more = Piece::usage(frame);
        let place = match self.table.get(&id) {
            Some(datagram) => match datagram.given_up {
                Some(why) => Err(why),
                None if datagram.pieces.len() >= self.limits.per_datagram => Err(Drop::FragmentLimit),
                None => datagram.place_of(frame, &fragment),
            },
            None => {
                more.datagrams = Datagram::USAGE.datagrams;
                more.bytes += Datagram::USAGE.bytes;
                Ok(0)
            }
        };
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                if why != Drop::FragmentDuplicate {
                    self.give_up(&id, why);
                }
                return Err(why);
            }
        };
        self.make_room(&id, more)?;
        let usage = Piece::usage(frame);
        if !self.table.contains_key(&id) {
            self.begin(id, context.ingress, now);
        }
        if let Some(datagram) = self.table.get_mut(&id) {
            datagram.insert(place, Piece::new(frame, fragment));
            datagram.usage.fragments += usage.fragments;
            datagram.usage.bytes += usage.bytes;
            self.shares.charge(id.source, usage);
            self.counters(fragment.is_ipv4).accepted += 1;
        }
        Ok(id)
    }

    fn begin(&mut self, id: FragmentKey, ingress: DpPort, now: Instant) {
        self.enter(id, Datagram::new(self.side, now, ingress));
    }

    /// Puts a datagram into all tables, as the youngest.
    fn enter(&mut self, id: FragmentKey, mut datagram: Datagram) {
        datagram.serial = self.serial;
        self.shares.enter(id.source, self.serial, datagram.usage);
        self.ages.insert(self.serial, id);
        self.serial += 1;
        self.table.insert(id, datagram);
    }

    /// Gives up the oldest datagrams of whoever is over a limit until `more` fits for `id`, which is given up itself if it
    /// alone is too much.
    fn make_room(&mut self, id: &FragmentKey, more: shares::Usage) -> Result<(), Drop> {
        let own = self.table.get(id).map(|datagram| datagram.serial);
        while let Some(serial) = self.shares.victim(id.source, more, &self.limits) {
            let is_own = Some(serial) == own;
            if is_own {
                self.give_up(id, Drop::FragmentLimit);
            }
            if is_own || !self.evict(serial) {
                return Err(Drop::FragmentLimit);
            }
        }
        Ok(())
    }

    /// Gives up all fragments of a datagram, and remembers it so that later ones are refused until it would have timed out.
    fn give_up(&mut self, id: &FragmentKey, why: Drop) {
        let Some(datagram) = self.table.get_mut(id) else { return };
        datagram.given_up.get_or_insert(why);
        let freed = shares::Usage {
            datagrams: 0,
            fragments: datagram.usage.fragments,
            bytes: datagram.usage.bytes.saturating_sub(Datagram::USAGE.bytes),
        };
        datagram.usage = Datagram::USAGE;
        let (ingress, pieces) = (datagram.ingress, std::mem::take(&mut datagram.pieces));
        self.shares.credit(id.source, freed);
        self.purge(id.source.is_ipv4, ingress, pieces, why);
    }

    /// Gives up a datagram for the room that it takes, and forgets it. False if there is none.
    fn evict(&mut self, serial: u64) -> bool {
        let Some((id, datagram)) = self.remove(serial) else { return false };
        self.purge(id.source.is_ipv4, datagram.ingress, datagram.pieces, Drop::FragmentLimit);
        true
    }

    fn purge(&mut self, is_ipv4: bool, ingress: DpPort, pieces: Vec<Piece>, why: Drop) {
        self.counters(is_ipv4).purged += pieces.len() as u64;
        self.given_up.extend(pieces.into_iter().map(|piece| (piece.frame, ingress, why)));
    }

    /// Takes a datagram out of all tables.
    fn remove(&mut self, serial: u64) -> Option<(FragmentKey, Datagram)> {
        let id = self.ages.remove(&serial)?;
        let datagram = self.table.remove(&id)?;
        self.shares.leave(id.source, serial, datagram.usage);
        Some((id, datagram))
    }

    /// Puts a complete datagram together. If that fails its fragments are given up, but for the one that was offered last,
    /// which is dropped.
    fn complete(
        &mut self,
        id: &FragmentKey,
        offered: &Fragment,
        key: &PacketKey,
        pool: &mut FramePool,
    ) -> Offered {
        let serial = self.table.get(id).map_or(shares::NO_SERIAL, |datagram| datagram.serial);
        let Some((_, datagram)) = self.remove(serial) else { return Offered::Held };
        let count = datagram.pieces.len() as u64;
        match Whole::assemble(datagram.pieces, key, pool) {
            Ok(whole) => {
                self.counters(id.source.is_ipv4).completed += count;
                Offered::Whole(whole)
            }
            Err((mut pieces, why)) => {
                let place = pieces.iter().position(|p| p.fragment.offset == offered.offset).unwrap_or(0);
                let last = pieces.remove(place);
                self.counters(id.source.is_ipv4).purged += 1;
                self.purge(id.source.is_ipv4, datagram.ingress, pieces, why);
                Offered::Dropped(last.frame, why)
            }
        }
    }

    fn oldest(&self) -> Option<(u64, Instant)> {
        let (serial, id) = self.ages.first_key_value()?;
        Some((*serial, self.table.get(id)?.since))
    }

    fn counters(&mut self, is_ipv4: bool) -> &mut FragmentCounters {
        if is_ipv4 { &mut self.v4 } else { &mut self.v6 }
    }

    fn count_refused(&mut self, is_ipv4: bool, why: Drop) {
        let counters = self.counters(is_ipv4);
        match why {
            Drop::FragmentTooSmall => counters.too_small += 1,
            Drop::FragmentOverlap | Drop::FragmentDuplicate => counters.overlapped += 1,
            _ => counters.refused += 1,
        }
    }
}

/// Whether a fragment may be held at all, by itself.
fn check(frame: &Frame, fragment: &Fragment, key: &PacketKey, limits: &FragmentLimits) -> Result<(), Drop> {
    let (is_enabled, least) = if fragment.is_ipv4 {
        (limits.is_v4_enabled, limits.min_v4)
    } else {
        (limits.is_v6_enabled, limits.min_v6)
    };
    if !is_enabled {
        return Err(Drop::Fragment);
    }
    let is_odd = fragment.has_more && !fragment.payload_len.is_multiple_of(packet::fragment::FRAGMENT_UNIT);
    if fragment.payload_len == 0 || is_odd || !frame.verify_ipv4_header() {
        return Err(Drop::FragmentMalformed);
    }
    let headers_len = fragment.whole_headers_len();
    let said = headers_len + fragment.end() - if fragment.is_ipv4 { 0 } else { IPV6_LEN };
    if said > PACKET_LEN_MAX || fragment.l3 + headers_len + fragment.end() > FRAME_LEN_MAX {
        return Err(Drop::FragmentTooLong);
    }
    let is_small = fragment.has_more && fragment.packet_len() < least;
    if is_small || cuts_transport(frame, fragment, key) {
        return Err(Drop::FragmentTooSmall);
    }
    Ok(())
}

/// Whether a transport header, by which packets are let through, is not whole in the first fragment (RFC 1858, RFC 3128,
/// RFC 7112): it must be in this one, or end before it.
fn cuts_transport(frame: &Frame, fragment: &Fragment, key: &PacketKey) -> bool {
    let header_len = |protocol: u8| match protocol {
        PROTO_TCP => 20,
        PROTO_SCTP => 12,
        PROTO_UDP => 8,
        PROTO_ICMP if fragment.is_ipv4 => 8,
        PROTO_ICMPV6 if !fragment.is_ipv4 => 8,
        _ => 0,
    };
    if fragment.offset > 0 {
        return fragment.offset < header_len(fragment.protocol);
    }
    // A chain of IPv6 headers that is cut off is not followed at all.
    let is_chain_cut = key.get(slot::NW_FRAG) == 0;
    is_chain_cut || header_len(key.get(slot::NW_PROTO) as u8) > 0 && frame.layers.l4 == NO_LAYER
}
