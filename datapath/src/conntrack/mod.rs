//! The connection tracker, with NAT: `ct()` of ovs-actions(7) over zones of connections that all workers share.
//!
//! A packet passes in one of three ways. [`ConnTracker::track`] looks its connection up under a leaf lock, runs the state
//! machine, makes the connection if asked to, and translates. [`ConnTracker::track_held`] does the same for a connection
//! that a cached flow holds on to, with atomics alone: no look-up, no lock, no allocation. It declines whatever could change
//! more than windows and time, so all that is rare has one place. `track_known` (`known`) does it in a few instructions for
//! packets that are as the flow's others were, and declines all else.
//!
//! Neighbours: programs carry a [`CtSpec`]; workers call this from `execute`; the brain sees only the connection fields of
//! the key and the [`CtClass`] that its programs are composed under. Not here: reassembly (fragments that arrive are
//! invalid), the wiring of `table=` and of `ct_clear`.
//!
//! States are those of OVS's userspace datapath but for this: `est` is set once a reply was seen, as ovs-fields(7) says, for
//! TCP too; an invalid packet is never translated and has no bit but `inv` and `trk`; a SYN repeated before any answer
//! begins the connection anew; a RST must be exact in every state; where a translation is asked for and none is to be had,
//! the packet is dropped, not sent untranslated; ICMP identifiers are translated; FTP payloads are rewritten.
//!
//! Invariants: a tuple names at most one live connection; a packet is translated rightly or not at all; established
//! connections never give way to new ones; every table and loop has a named limit; no lock nests but the two shards of one
//! insertion.

#![warn(clippy::indexing_slicing)]

mod config;
mod connection;
mod create;
mod dump;
mod expectation;
mod flush;
mod ftp;
#[doc(hidden)]
pub mod fuzz;
mod gateway;
mod known;
mod metadata;
mod names;
mod nat;
mod parse;
mod pass;
mod ports;
mod quota;
mod shift;
mod spec;
mod table;
mod tcp;
mod text;
mod tftp;
mod tuple;

pub use config::{CONNECTIONS_MAX, CtConfig, TIMEOUT_SECS_MAX, TimeoutKind, Timeouts};
pub use connection::Connection;
pub use dump::{ConnectionRecord, CtStats, DumpCursor};
pub use flush::FlushFilter;
pub(crate) use known::Known;
pub use spec::{
    Alg, CtClass, CtSpec, CtState, NatKind, NatSpec, NatSpecError, PortSelection, TimeoutPolicyId, Tracked,
};
pub use tcp::TcpState;
pub use text::{ConnectionLine, LineForm};
pub use tuple::{Direction, Tuple, TupleFields, TupleFilter, Zone};

use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use connection::{State, coarse_span};
use expectation::Expectations;
use packet::{DpPort, Frame, PacketKey};
use parse::Parsed;
use pass::Pass;
use ports::PortMaps;
use quota::Quota;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use table::Table;

/// Most connections visited by one call of [`ConnTracker::expire`].
pub const EXPIRE_VISITS_MAX: usize = 256;

/// All connections of a switch.
#[derive(Debug)]
pub struct ConnTracker {
    table: Table,
    quota: Quota,
    ports: PortMaps,
    expectations: Expectations,
    config: ArcSwap<CtConfig>,
    /// [`CtConfig::tcp_seq_check`], where the hit path finds it without a look at the configuration.
    tcp_seq_check: AtomicBool,
    /// [`CtConfig::least_timeout`] in coarse units: a connection that was idle for less is not over, whatever it waits for.
    least_timeout: AtomicU32,
    seed: HashSeed,
    /// Source of even revisions that no two connections share for a long time.
    revisions: AtomicU32,
    /// Number of draws from the seed.
    draws: AtomicU64,
    counts: Counts,
}

/// What happened so far. Written on the slow path, by any worker.
#[derive(Debug, Default)]
struct Counts {
    created: AtomicU64,
    expired: AtomicU64,
    evicted: AtomicU64,
    full: AtomicU64,
    nat_exhausted: AtomicU64,
    invalid: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl ConnTracker {
    /// An empty tracker. Everything random in it comes from the seed.
    pub fn new(seed: HashSeed, config: CtConfig) -> ConnTracker {
        ConnTracker {
            table: Table::new(seed),
            quota: Quota::new(),
            ports: PortMaps::new(),
            expectations: Expectations::default(),
            tcp_seq_check: AtomicBool::new(config.tcp_seq_check),
            least_timeout: AtomicU32::new(coarse_span(config.least_timeout())),
            config: ArcSwap::from_pointee(config),
            seed,
            revisions: AtomicU32::new(2),
            draws: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    /// Replaces the configuration. Timeouts count for all connections at once; connections over a new limit stay.
    pub fn configure(&self, config: CtConfig) {
        self.tcp_seq_check.store(config.tcp_seq_check, Ordering::Relaxed);
        self.least_timeout.store(coarse_span(config.least_timeout()), Ordering::Relaxed);
        self.config.store(Arc::new(config));
    }

    /// The configuration.
    pub fn config(&self) -> Arc<CtConfig> {
        self.config.load_full()
    }

    /// One pass of a frame through the tracker: finds its connection, or makes one if `spec` commits, runs the state
    /// machine, translates addresses and ports, writes mark and label, and then the `CT_*` slots of `key` and the header
    /// slots that were translated. `origin` is the port that a new connection counts for.
    ///
    /// The layers of the frame must be those that extraction found. A frame that cannot be made sense of is `inv`.
    pub fn track(
        &self,
        frame: &mut Frame,
        key: &mut PacketKey,
        spec: &CtSpec,
        origin: DpPort,
        now: Instant,
    ) -> Tracked {
        let config = self.config.load();
        let pass = Pass { tracker: self, config: &config, spec, origin, now, changes: Cell::new(0) };
        let tracked = pass.run(frame, key);
        Tracked { changes: pass.changes.get(), ..tracked }
    }

    /// [`track`](Self::track) for a packet of a connection that a cached flow holds, with atomics alone. Leaves the `CT_*`
    /// slots alone (see [`describe`](Self::describe)), and writes translated header slots.
    ///
    /// `None` if the connection is dead, or if the packet may do more to it than pass: then nothing was changed, and `track`
    /// must be called.
    #[inline]
    pub fn track_held(
        &self,
        connection: &Connection,
        direction: Direction,
        frame: &mut Frame,
        key: &mut PacketKey,
        spec: &CtSpec,
        now: Instant,
    ) -> Option<CtClass> {
        let state = connection.load();
        if state.has(State::DEAD | State::ALG)
            || !pass::may_hold(connection, state, direction)
            || self.is_over(connection, now)
        {
            return None;
        }
        if spec.force && direction == Direction::Reply || connection.would_change(spec.mark, spec.label) {
            return None;
        }
        let parsed = Parsed::read(frame, spec.zone)?;
        if !connection.names.is(direction, &parsed.tuple) || parsed.inner().is_some() {
            return None;
        }
        if let Some(segment) = parsed.segment() {
            let check = self.checks_tcp_seq();
            if !tcp::is_plain(state, direction, segment.flags)
                || tcp::update(connection, direction, segment, check) != tcp::Verdict::Valid
            {
                return None;
            }
        }
        connection.touch(now);
        let mut bits = CtState::TRK | pass::established(state, direction);
        if spec.nat.is_some() && state.has(State::SNAT | State::DNAT) {
            bits |= pass::translate(connection, direction, &parsed, frame, key)?;
        }
        Some(CtClass::new(bits, connection.revision()))
    }

    /// Writes the `CT_*` slots of a key as [`track`](Self::track) does.
    pub fn describe(
        &self,
        connection: &Connection,
        _direction: Direction,
        class: CtClass,
        key: &mut PacketKey,
    ) {
        metadata::describe(connection, class.state(), key);
    }

    /// `ct_clear`: the packet is untracked.
    pub fn clear(key: &mut PacketKey) {
        metadata::clear(key);
    }

    /// Ends connections whose time is up: at most [`EXPIRE_VISITS_MAX`] visits, none if nothing is due. Returns how many
    /// ended. For any worker, once a step.
    pub fn expire(&self, now: Instant) -> usize {
        if self.table.next_visit().is_none_or(|at| at > now) {
            return 0;
        }
        self.expectations.expire(now);
        let config = self.config.load();
        let ended = self.table.sweep(now, EXPIRE_VISITS_MAX, |connection| {
            let left = connection.remaining(timeout_of(connection, &config), now);
            (!left.is_zero()).then(|| now + left)
        });
        ended.iter().filter(|c| self.end(c, &self.counts.expired)).count()
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.table.next_visit()
    }

    /// Whether the time of a connection is up, though it may not have been ended yet.
    #[inline]
    fn is_over(&self, connection: &Connection, now: Instant) -> bool {
        connection.idle(now) >= self.least_timeout.load(Ordering::Relaxed)
            && connection.remaining(timeout_of(connection, &self.config.load()), now).is_zero()
    }

    #[inline]
    fn checks_tcp_seq(&self) -> bool {
        self.tcp_seq_check.load(Ordering::Relaxed)
    }

    /// Ends a connection and counts why; false if another was faster.
    fn end(&self, connection: &Arc<Connection>, why: &AtomicU64) -> bool {
        if !connection.set_flag(State::DEAD) {
            return false;
        }
        // The table first: a port may be found free only when no tuple has it.
        self.table.remove(connection);
        if connection.load().has(State::SNAT | State::DNAT) {
            self.ports.release(&connection.reply());
        }
        self.quota.release(connection);
        count(why);
        true
    }

    /// An even number that changes.
    fn next_revision(&self) -> u32 {
        self.revisions.fetch_add(2, Ordering::Relaxed)
    }

    /// A number that nobody outside can foresee.
    fn draw(&self) -> u64 {
        self.seed.hash([self.draws.fetch_add(1, Ordering::Relaxed), 0x6e61_7400])
    }
}

/// How long a connection waits in its present state.
#[inline]
fn timeout_of(connection: &Connection, config: &CtConfig) -> std::time::Duration {
    config.timeout(connection.zone(), connection.policy(), connection.timeout_kind())
}
