//! One pass of a packet that is looked up: from its bytes to its state, its translation and its fields.

use super::connection::{Connection, SEEN_BOTH, SEEN_FIRST, SEEN_SEVERAL, State};
use super::gateway::{self, Reading};
use super::metadata;
use super::parse::{Content, Parsed};
use super::spec::{CtClass, CtSpec, CtState, Tracked};
use super::tcp::{self, Verdict};
use super::tuple::{Direction, Tuple};
use super::{ConnTracker, CtConfig, count, timeout_of};
use crate::drop::Drop;
use base::Instant;
use packet::rewrite::{self, Endpoints, EndsRewrite, Network, Quoted};
use packet::wire::PROTO_TCP;
use packet::{DpPort, Frame, PacketKey, slot};
use std::cell::Cell;
use std::sync::Arc;

/// How much earlier, in coarse units (a second is 60), a visit must be due to be worth a lock.
const REARM_SLACK: i32 = 60;

/// Times that a packet is looked up: again when somebody else was faster.
const LOOK_UPS_MAX: usize = 2;

/// What a pass is done with.
pub(super) struct Pass<'a> {
    pub tracker: &'a ConnTracker,
    pub config: &'a CtConfig,
    pub spec: &'a CtSpec,
    pub origin: DpPort,
    pub now: Instant,
    /// For [`Tracked::changes`].
    pub changes: Cell<u32>,
}

/// A connection that a packet was found to belong to.
struct Found {
    connection: Arc<Connection>,
    direction: Direction,
    /// By its own tuple, not by what an earlier pass noted.
    by_tuple: bool,
}

impl Pass<'_> {
    pub fn run(&self, frame: &mut Frame, key: &mut PacketKey) -> Tracked {
        let before = metadata::state_in_zone(key, self.spec.zone);
        let Some(parsed) = Parsed::read(frame, self.spec.zone) else {
            return self.invalid(None, key);
        };
        let carried = before.only(CtState::SNAT | CtState::DNAT);
        for _ in 0..LOOK_UPS_MAX {
            if let Some(found) = self.look_up(&parsed, key, before)
                && let Some(tracked) = self.existing(&found, &parsed, carried, frame, key)
            {
                return tracked;
            }
            // None if another worker made the connection meanwhile: then it is there to be found.
            if let Some(tracked) = self.begin(&parsed, frame, key) {
                return tracked;
            }
        }
        self.unmade(&parsed, key)
    }

    fn look_up(&self, parsed: &Parsed, key: &PacketKey, before: CtState) -> Option<Found> {
        if !before.any(CtState::SNAT | CtState::DNAT) {
            let (connection, direction) = self.find(&parsed.tuple)?;
            return Some(Found { connection, direction, by_tuple: true });
        }
        // Translated by an earlier pass in this zone, so it no longer bears a tuple of its connection.
        if before.has(CtState::REL) || parsed.tuple.is_icmp() {
            // The fields may name the connection that foresaw this one, and of ICMP do not say which identifier it had. What
            // answers to it bears a tuple still.
            if let Some((connection, answers)) = self.find(&parsed.tuple.reversed()) {
                return Some(Found { connection, direction: answers.opposite(), by_tuple: false });
            }
            if before.has(CtState::REL) {
                return None;
            }
        }
        let original = metadata::original_tuple(key, self.spec.zone, &parsed.tuple)?;
        let (connection, _) = self.find(&original)?;
        let direction = if before.has(CtState::RPL) { Direction::Reply } else { Direction::Original };
        Some(Found { connection, direction, by_tuple: false })
    }

    /// The live connection of a tuple; one whose time is up is ended.
    pub fn find(&self, tuple: &Tuple) -> Option<(Arc<Connection>, Direction)> {
        let table = &self.tracker.table;
        let (connection, direction) = table.find(tuple, table.hash(tuple))?;
        if connection.remaining(timeout_of(&connection, self.config), self.now).is_zero() {
            self.tracker.end(&connection, &self.tracker.counts.expired);
            return None;
        }
        Some((connection, direction))
    }

    /// A packet of a connection. `None` if the connection was ended, and the packet may begin another.
    fn existing(
        &self,
        found: &Found,
        parsed: &Parsed,
        carried: CtState,
        frame: &mut Frame,
        key: &mut PacketKey,
    ) -> Option<Tracked> {
        let Found { connection, direction, by_tuple } = found;
        let is_error = parsed.inner().is_some();
        let counts = &self.tracker.counts;
        // Only for a packet that can take its place: an invalid one ends nothing.
        let turns = self.spec.force && self.spec.commit && *direction == Direction::Reply;
        if turns && parsed.may_begin(self.config.tcp_loose) {
            self.tracker.end(connection, &counts.evicted);
            return None;
        }
        let has_gateway = connection.load().has(State::ALG);
        let unshifted;
        let parsed = if has_gateway {
            let is_translated = carried != CtState::NONE;
            unshifted = gateway::unshifted(connection, *direction, parsed, is_translated);
            &unshifted
        } else {
            parsed
        };
        let bits = match self.update(connection, *direction, parsed) {
            Verdict::Valid if is_error => CtState::REL | reply_bit(*direction),
            Verdict::Valid => established(connection.load(), *direction),
            Verdict::New => CtState::NEW | related_bit(connection.load()),
            Verdict::Reopen => {
                self.tracker.end(connection, &counts.expired);
                return None;
            }
            Verdict::Invalid => return Some(self.invalid(Some(&connection.original()), key)),
        };
        let mut bits = bits | CtState::TRK | carried;
        let translates = self.spec.nat.is_some() && carried == CtState::NONE;
        if translates {
            match translate(connection, *direction, parsed, frame, key) {
                Some(translated) => bits |= translated,
                None => return Some(self.refuse(bits, parsed, key, Drop::Rewrite)),
            }
        }
        // What was translated before was read then.
        if has_gateway && !is_error && carried == CtState::NONE {
            let is_translated = translates && connection.load().has(State::TRANSLATED);
            let reading = Reading { connection, direction: *direction, parsed, is_translated };
            if self.read_control(&reading, frame).is_none() {
                return Some(self.refuse(bits, parsed, key, Drop::Rewrite));
            }
        }
        if !is_error && !connection.load().has(State::RELATED) {
            self.set_metadata(connection);
        }
        // Before mark and label: if another worker changes them now, the class is one that has passed, and nothing is kept for it.
        let revision = connection.revision();
        metadata::describe(connection, bits, key);
        let state = connection.load();
        let holds = *by_tuple && !is_error && !state.has(State::ALG | State::DEAD);
        Some(Tracked {
            class: CtClass::new(bits, revision),
            state: bits,
            hold: (holds && may_hold(connection, state, *direction))
                .then(|| (Arc::clone(connection), *direction)),
            drop: None,
            changes: 0,
        })
    }

    pub fn set_metadata(&self, connection: &Connection) {
        if self.spec.mark.is_some() || self.spec.label.is_some() {
            connection.set_metadata(self.spec.mark, self.spec.label, || self.tracker.next_revision());
        }
    }

    /// Runs the state machine, and notes that time and state went on.
    fn update(&self, connection: &Arc<Connection>, direction: Direction, parsed: &Parsed) -> Verdict {
        let verdict = match &parsed.content {
            // An error neither keeps a connection nor answers for it.
            Content::Error { .. } => return Verdict::Valid,
            Content::Tcp(segment) => tcp::update(connection, direction, segment, self.config.tcp_seq_check),
            Content::Udp | Content::Icmp(_) | Content::Other => {
                see(connection, direction);
                Verdict::Valid
            }
        };
        if matches!(verdict, Verdict::Valid | Verdict::New) {
            if direction == Direction::Reply && verdict == Verdict::Valid {
                self.answered(connection);
            }
            connection.touch(self.now);
            let until = self.now + timeout_of(connection, self.config);
            if connection.armed_after(until) > REARM_SLACK {
                self.tracker.table.rearm(connection, self.now, until);
            }
        }
        verdict
    }

    fn answered(&self, connection: &Connection) {
        if !connection.load().has(State::REPLIED) && connection.set_flag(State::REPLIED) {
            self.tracker.quota.grow_up(connection);
        }
    }

    pub fn invalid(&self, tuple: Option<&Tuple>, key: &mut PacketKey) -> Tracked {
        count(&self.tracker.counts.invalid);
        let state = CtState::INV | CtState::TRK;
        metadata::describe_packet(state, self.spec.zone, tuple, key);
        Tracked { class: CtClass::new(state, 0), state, hold: None, drop: None, changes: 0 }
    }

    /// A packet that must not go on.
    pub fn refuse(&self, state: CtState, parsed: &Parsed, key: &mut PacketKey, why: Drop) -> Tracked {
        metadata::describe_packet(state, self.spec.zone, Some(&parsed.tuple), key);
        Tracked { class: CtClass::new(state, 0), state, hold: None, drop: Some(why), changes: 0 }
    }
}

/// Whether a cached flow may hold a connection: once it is established, and, where there is no state machine, while one
/// end sends and nobody answers, as much of UDP does. The answer changes the class.
#[inline]
pub(super) fn may_hold(connection: &Connection, state: State, direction: Direction) -> bool {
    let one_way = state.seen() == SEEN_SEVERAL
        && direction == Direction::Original
        && connection.original().protocol() != PROTO_TCP;
    state.has(State::REPLIED) || one_way
}

/// Notes a packet of a protocol without a state machine.
fn see(connection: &Connection, direction: Direction) {
    connection.change(|state| {
        let seen = match (direction, state.seen()) {
            (Direction::Reply, _) => SEEN_BOTH,
            (Direction::Original, SEEN_FIRST) => SEEN_SEVERAL,
            (Direction::Original, seen) => seen,
        };
        Some(state.with_seen(seen))
    });
}

fn reply_bit(direction: Direction) -> CtState {
    match direction {
        Direction::Original => CtState::NONE,
        Direction::Reply => CtState::RPL,
    }
}

fn related_bit(state: State) -> CtState {
    if state.has(State::RELATED) { CtState::REL } else { CtState::NONE }
}

/// The bits of a good packet: established once a reply was seen, as ovs-fields(7) has it, and new before.
#[inline]
pub(super) fn established(state: State, direction: Direction) -> CtState {
    let bits = if state.has(State::REPLIED) { CtState::EST } else { CtState::NEW };
    bits | reply_bit(direction) | related_bit(state)
}

/// Translates a packet as its connection is; the bits that say so. `None` if the headers are not there to be written.
pub(super) fn translate(
    connection: &Connection,
    direction: Direction,
    parsed: &Parsed,
    frame: &mut Frame,
    key: &mut PacketKey,
) -> Option<CtState> {
    let state = connection.load();
    let bits = nat_bits(state, direction);
    if state.has(State::TRANSLATED) {
        let target = connection.tuple(direction.opposite()).reversed();
        rewrite_to(&target, parsed, frame, key)?;
    }
    Some(bits)
}

#[inline]
pub(super) fn nat_bits(state: State, direction: Direction) -> CtState {
    let (snat, dnat) = (state.has(State::SNAT), state.has(State::DNAT));
    let (src, dst) = match direction {
        Direction::Original => (snat, dnat),
        Direction::Reply => (dnat, snat),
    };
    let bit = |is_set, bit| if is_set { bit } else { CtState::NONE };
    bit(src, CtState::SNAT) | bit(dst, CtState::DNAT)
}

/// Gives a packet the tuple `target`; an ICMP error becomes one about a packet of the reverse of `target`.
pub(super) fn rewrite_to(
    target: &Tuple,
    parsed: &Parsed,
    frame: &mut Frame,
    key: &mut PacketKey,
) -> Option<()> {
    let ends = endpoints(target);
    if let Some(inner) = parsed.inner() {
        let quoted = Quoted { l3: inner.l3, l4: inner.l4, protocol: inner.protocol };
        let ends = endpoints(&target.reversed());
        rewrite::set_quoted_endpoints(frame, quoted, &ends).then_some(())?;
        return rewrite_error(target, parsed, frame, key);
    }
    if !ends_rewrite(&parsed.tuple, target).is_some_and(|rewrite| rewrite.apply(frame)) {
        rewrite::set_endpoints(frame, &ends).then_some(())?;
    }
    describe_ends(target, key);
    Some(())
}

/// What gives packets with the ends of one tuple those of another, if it can be worked out beforehand.
#[inline]
pub(super) fn ends_rewrite(tuple: &Tuple, target: &Tuple) -> Option<EndsRewrite> {
    let network = if tuple.is_ipv6() { Network::Ipv6 } else { Network::Ipv4 };
    EndsRewrite::new(network, tuple.protocol(), &endpoints(tuple), &endpoints(target))
}

/// Writes the header slots of a packet that was given the tuple `target`.
pub(super) fn describe_ends(target: &Tuple, key: &mut PacketKey) {
    write_addresses(target.is_ipv6(), target.src_number(), target.dst_number(), key);
    if target.has_ports() && !target.is_icmp() {
        key.set(slot::TP_SRC, target.src_port().into());
        key.set(slot::TP_DST, target.dst_port().into());
    }
}

/// The outer addresses of an error: each is translated if that end of the connection is, though it may come from a router
/// between, so that it seems to come from the end that the other one knows.
fn rewrite_error(target: &Tuple, parsed: &Parsed, frame: &mut Frame, key: &mut PacketKey) -> Option<()> {
    let (src_slot, dst_slot) = address_slots(target.is_ipv6());
    let (own_src, own_dst) = outer_addresses(frame)?;
    let chosen = |new: u128, old: u128, own: u128| if new == old { own } else { new };
    let src = chosen(target.src_number(), parsed.tuple.src_number(), own_src);
    let dst = chosen(target.dst_number(), parsed.tuple.dst_number(), own_dst);
    rewrite::set_addresses(frame, src, dst).then_some(())?;
    key.set(src_slot, src);
    key.set(dst_slot, dst);
    Some(())
}

/// Source and destination of a frame's IP header.
fn outer_addresses(frame: &Frame) -> Option<(u128, u128)> {
    let (network, l3) = rewrite::network(frame)?;
    let header = frame.bytes().get(l3..)?;
    match network {
        rewrite::Network::Ipv4 => {
            let address = |at: usize| header.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b).into());
            Some((address(12)?, address(16)?))
        }
        rewrite::Network::Ipv6 => {
            let address = |at: usize| header.get(at..)?.first_chunk().map(|b| u128::from_be_bytes(*b));
            Some((address(8)?, address(24)?))
        }
        rewrite::Network::Arp => None,
    }
}

fn endpoints(tuple: &Tuple) -> Endpoints {
    Endpoints {
        src: tuple.src_number(),
        dst: tuple.dst_number(),
        src_port: tuple.src_port(),
        dst_port: tuple.dst_port(),
    }
}

fn address_slots(is_ipv6: bool) -> (packet::Slot, packet::Slot) {
    if is_ipv6 { (slot::IPV6_SRC, slot::IPV6_DST) } else { (slot::NW_SRC, slot::NW_DST) }
}

fn write_addresses(is_ipv6: bool, src: u128, dst: u128, key: &mut PacketKey) {
    let (src_slot, dst_slot) = address_slots(is_ipv6);
    key.set(src_slot, src);
    key.set(dst_slot, dst);
}
