//! The choice of a translation for a new connection: an address, a port, and what to do when a tuple is taken.
//!
//! The table is the judge of what is free: a candidate is tried by inserting the connection under it, so that two workers
//! cannot choose the same. Tries are few: the packet's own port if it may keep it, some by chance, and then those of the
//! destination's port map; all together at most [`TRIES_MAX`].

use super::ConnTracker;
use super::connection::Connection;
use super::expectation::Target;
use super::spec::{NatKind, NatSpec, PortSelection};
use super::tuple::Tuple;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Most tuples tried for one connection.
const TRIES_MAX: usize = 256;
/// Ports tried by chance before a destination gets a map.
const RANDOM_TRIES: usize = 4;
/// Ranges up to this many ports are simply gone through.
const SMALL_RANGE: u32 = 16;
/// Destination ports tried before the source port is changed instead.
const DESTINATION_PORT_TRIES: u32 = 8;

/// What became of a candidate.
pub(super) enum Attempt {
    /// The connection stands under it.
    Made(Arc<Connection>),
    /// This connection has the reply tuple.
    Taken(Arc<Connection>),
    /// Another connection has the original tuple: no translation helps.
    OriginalTaken,
}

/// A choice under way.
struct Choice<'a, F> {
    tracker: &'a ConnTracker,
    spec: &'a NatSpec,
    original: &'a Tuple,
    attempt: F,
    tries_left: usize,
}

/// Tries translations of `original` until `attempt`, which is given the reply tuple, does not find it taken. `None` if all
/// are, or if the range is of another family.
pub(super) fn choose(
    tracker: &ConnTracker,
    spec: &NatSpec,
    original: &Tuple,
    attempt: impl FnMut(Tuple) -> Attempt,
) -> Option<Attempt> {
    let mut choice = Choice { tracker, spec, original, attempt, tries_left: TRIES_MAX };
    let addresses = choice.addresses()?;
    let start = choice.address_start(&addresses);
    for step in 0..addresses.count {
        if choice.tries_left == 0 {
            break;
        }
        // Most ranges are one address; a division of numbers this long takes its time.
        let offset = if addresses.count == 1 { 0 } else { (start + step) % addresses.count };
        let made = match spec.kind? {
            NatKind::Src => choice.with_source(addresses.first + offset),
            NatKind::Dst => choice.with_destination(addresses.first + offset),
        };
        if made.is_some() {
            return made;
        }
    }
    None
}

/// Whether a foreseen connection goes where its packets say.
pub(super) fn is_plain(original: &Tuple, target: &Target) -> bool {
    let to = (original.src_number(), original.dst_number(), original.dst_port());
    to == (target.src, target.dst, target.dst_port)
}

/// The translation of a foreseen connection: as its control connection's, with another source port if the tuple is taken.
pub(super) fn follow(
    tracker: &ConnTracker,
    original: &Tuple,
    target: &Target,
    attempt: impl FnMut(Tuple) -> Attempt,
) -> Option<Attempt> {
    let spec = NatSpec::apply();
    let mut choice = Choice { tracker, spec: &spec, original, attempt, tries_left: TRIES_MAX };
    let translated = original.with_src(target.src, original.src_port()).with_dst(target.dst, target.dst_port);
    let range = choice.source_ports();
    choice.with_source_port(translated, range)
}

/// A range of addresses as numbers.
struct AddressRange {
    first: u128,
    /// At least 1.
    count: u128,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl<F: FnMut(Tuple) -> Attempt> Choice<'_, F> {
    /// The addresses to choose from; the packet's own if the specification names none or zero.
    fn addresses(&self) -> Option<AddressRange> {
        let own = match self.spec.kind? {
            NatKind::Src => self.original.src_number(),
            NatKind::Dst => self.original.dst_number(),
        };
        let Some(min) = self.spec.min_ip.filter(|ip| !ip.is_unspecified()) else {
            return Some(AddressRange { first: own, count: 1 });
        };
        let max = self.spec.max_ip.unwrap_or(min);
        if min.is_ipv6() != self.original.is_ipv6() || max.is_ipv6() != min.is_ipv6() {
            return None;
        }
        let (first, last) = (number(min), number(max));
        // All of IPv6 would count one more than there are numbers.
        Some(AddressRange { first, count: last.checked_sub(first)?.saturating_add(1) })
    }

    fn address_start(&self, addresses: &AddressRange) -> u128 {
        if addresses.count == 1 {
            return 0;
        }
        let hash = if self.spec.persistent {
            // Of the packet's source alone, and with no secret in it: the same after a restart.
            let src = self.original.src_number();
            base::HashSeed::new(0, 0).hash([(src >> 64) as u64, src as u64])
        } else {
            self.tracker.seed.hash(self.original.words())
        };
        u128::from(hash) % addresses.count
    }

    /// Tries one candidate; `None` if it is taken, or if enough were tried.
    fn attempt(&mut self, translated: Tuple) -> Option<Attempt> {
        match self.attempt_any(translated)? {
            Attempt::Taken(_) => None,
            done => Some(done),
        }
    }

    /// Tries one candidate; `None` if enough were tried.
    fn attempt_any(&mut self, translated: Tuple) -> Option<Attempt> {
        self.tries_left = self.tries_left.checked_sub(1)?;
        Some((self.attempt)(translated.reversed()))
    }

    /// Source translation to one address.
    fn with_source(&mut self, address: u128) -> Option<Attempt> {
        let own = self.original.src_port();
        if !self.original.has_ports() {
            return self.attempt(self.original.with_src(address, own));
        }
        let range = self.source_ports();
        self.with_source_port(self.original.with_src(address, own), range)
    }

    /// Ports that a source may be given. Without a range, those of the kind that its own is of, as OVS has it.
    fn source_ports(&self) -> RangeInclusive<u16> {
        let own = self.original.src_port();
        let range = self.spec.min_port.filter(|_| self.spec.kind == Some(NatKind::Src));
        match (range, own) {
            (Some(min), _) => min..=self.spec.max_port.unwrap_or(min),
            (None, _) if self.original.is_icmp() => 0..=u16::MAX,
            (None, 0..512) => 1..=511,
            (None, 512..1024) => 600..=1023,
            (None, _) => 1024..=u16::MAX,
        }
    }

    /// Tries source ports of `range` on a tuple that is translated but for its source port.
    fn with_source_port(&mut self, translated: Tuple, range: RangeInclusive<u16>) -> Option<Attempt> {
        let (own, address) = (translated.src_port(), translated.src_number());
        let (first, count) = (u32::from(*range.start()), range.len() as u32);
        let with = |port: u32| translated.with_src(address, port as u16);
        let keeps = match self.spec.selection {
            PortSelection::Default => range.contains(&own) || self.spec.min_port.is_none(),
            PortSelection::Hash | PortSelection::Random => self.spec.min_port.is_none(),
        };
        if keeps && let done @ Some(_) = self.attempt(translated) {
            return done;
        }
        let start = match self.spec.selection {
            PortSelection::Hash => self.tracker.seed.hash(self.original.words()) >> 32,
            PortSelection::Default | PortSelection::Random => self.tracker.draw(),
        } as u32;
        if count <= SMALL_RANGE {
            return (0..count).find_map(|step| self.attempt(with(first + (start % count + step) % count)));
        }
        let by_chance = if self.tracker.ports.has_map(&translated.reversed()) { 0 } else { RANDOM_TRIES };
        for step in 0..by_chance {
            let draw = if step == 0 { start } else { self.tracker.draw() as u32 };
            if let done @ Some(_) = self.attempt(with(first + draw % count)) {
                return done;
            }
        }
        self.with_mapped_port(translated, range, (first + start % count) as u16)
    }

    /// Tries the source ports that the map of the destination does not know to be taken.
    fn with_mapped_port(
        &mut self,
        translated: Tuple,
        range: RangeInclusive<u16>,
        start: u16,
    ) -> Option<Attempt> {
        let destination = translated.reversed();
        let mut has_forgotten = false;
        while self.tries_left > 0 {
            let Some(port) = self.tracker.ports.next(&destination, range.clone(), start) else {
                if has_forgotten || !self.tracker.ports.forget(&destination) {
                    return None;
                }
                has_forgotten = true;
                continue;
            };
            let candidate = translated.with_src(translated.src_number(), port);
            match self.attempt_any(candidate)? {
                Attempt::Made(connection) => {
                    self.tracker.ports.hold_for(&connection);
                    return Some(Attempt::Made(connection));
                }
                Attempt::Taken(other) if other.reply() == candidate.reversed() => {
                    // It was given the port by chance, before there was a map, and will give it back.
                    self.tracker.ports.hold_for(&other);
                }
                Attempt::Taken(_) => {}
                Attempt::OriginalTaken => {
                    self.tracker.ports.release(&candidate.reversed());
                    return Some(Attempt::OriginalTaken);
                }
            }
        }
        None
    }

    /// Destination translation to one address: a port of the range, and where the tuples are taken, another source port.
    fn with_destination(&mut self, address: u128) -> Option<Attempt> {
        let own = self.original.dst_port();
        if !self.original.has_ports() {
            return self.attempt(self.original.with_dst(address, own));
        }
        let (first, count) = match self.spec.min_port {
            Some(min) => (u32::from(min), u32::from(self.spec.max_port.unwrap_or(min) - min) + 1),
            None => (u32::from(own), 1),
        };
        let start = match self.spec.selection {
            PortSelection::Random => self.tracker.draw() as u32 % count,
            _ if count == 1 => 0,
            _ => (self.tracker.seed.hash(self.original.words()) >> 32) as u32 % count,
        };
        let original = *self.original;
        let with = |step: u32| original.with_dst(address, (first + (start + step) % count) as u16);
        for step in 0..count.min(DESTINATION_PORT_TRIES) {
            if let done @ Some(_) = self.attempt(with(step)) {
                return done;
            }
        }
        self.with_source_port(with(0), self.source_ports())
    }
}
