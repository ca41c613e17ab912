//! What operators see and do: connections listed in parts, ended by tuple or zone, and counted.

use super::connection::{Connection, State};
use super::spec::Alg;
use super::tcp::TcpState;
use super::tuple::{Direction, Tuple, TupleFilter, Zone};
use super::{ConnTracker, timeout_of};
use base::Instant;
use packet::wire::PROTO_TCP;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Connections after which a part of a listing ends, at the next border of a shard.
pub const DUMP_PART_MAX: usize = 1000;

/// Where a listing goes on. The default is its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DumpCursor {
    shard: usize,
}

/// A connection as it was a moment ago. Its text is in `text`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionInfo {
    /// Name of the original direction, with the zone.
    pub original: Tuple,
    /// Name of the reply direction.
    pub reply: Tuple,
    /// The mark.
    pub mark: u32,
    /// The label.
    pub label: u128,
    /// Whole seconds until it ends if nothing comes.
    pub timeout_secs: u32,
    /// States of the original and the replying end of a TCP connection.
    pub tcp: Option<(TcpState, TcpState)>,
    /// Its gateway.
    pub alg: Option<Alg>,
    /// Original tuple of the connection that foresaw it.
    pub parent: Option<Tuple>,
    /// Whether a reply was seen.
    pub replied: bool,
}

/// Counts of connections, and of what happened to them since the tracker was made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CtStats {
    /// Connections now.
    pub connections: u32,
    /// Connections by IP protocol.
    pub protocols: BTreeMap<u8, u32>,
    /// TCP connections by the state that a listing shows.
    pub tcp_states: BTreeMap<TcpState, u32>,
    /// Connections by zone.
    pub zones: BTreeMap<Zone, u32>,
    /// Connections made.
    pub created: u64,
    /// Connections ended because their time was up or their end was reached.
    pub expired: u64,
    /// Connections ended to make room, by `force`, or by an operator.
    pub evicted: u64,
    /// Packets whose connection was not made because of a limit.
    pub full: u64,
    /// Packets dropped because no translation was free.
    pub nat_exhausted: u64,
    /// Packets found invalid.
    pub invalid: u64,
}

impl ConnTracker {
    /// A part of all connections, or of those of a zone, and where to go on; `None` at the end. `now` is for the time that
    /// each has left. Connections that come or go meanwhile may or may not be listed; others are listed once.
    pub fn dump(
        &self,
        zone: Option<Zone>,
        from: DumpCursor,
        now: Instant,
    ) -> (Vec<ConnectionInfo>, Option<DumpCursor>) {
        let config = self.config.load();
        let mut part = Vec::new();
        let mut shard = from.shard;
        while part.len() < DUMP_PART_MAX {
            let wanted = |c: &Connection| zone.is_none_or(|zone| c.zone() == zone);
            let Some(connections) = self.table.connections_of(shard, wanted) else { return (part, None) };
            part.extend(connections.iter().filter_map(|c| {
                let left = c.remaining(timeout_of(c, &config), now);
                (!left.is_zero()).then(|| record(c, left.as_secs() as u32))
            }));
            shard += 1;
        }
        (part, Some(DumpCursor { shard }))
    }

    /// Ends all connections, those of a zone, or those whose original or reply tuple a filter means. Returns how many.
    pub fn flush(&self, zone: Option<Zone>, tuple: Option<&TupleFilter>) -> usize {
        let wanted = |c: &Connection| {
            zone.is_none_or(|zone| c.zone() == zone) && tuple.is_none_or(|filter| filter.matches(&c.original))
        };
        let mut ended = 0;
        let mut shard = 0;
        while let Some(connections) = self.table.connections_of(shard, wanted) {
            ended += connections.iter().filter(|c| self.end(c, &self.counts.evicted)).count();
            shard += 1;
        }
        ended
    }

    /// The counts. Looks at every connection, a shard at a time.
    pub fn stats(&self) -> CtStats {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = CtStats {
            connections: self.quota.total(),
            zones: self.quota.zones().into_iter().collect(),
            created: get(&self.counts.created),
            expired: get(&self.counts.expired),
            evicted: get(&self.counts.evicted),
            full: get(&self.counts.full),
            nat_exhausted: get(&self.counts.nat_exhausted),
            invalid: get(&self.counts.invalid),
            ..CtStats::default()
        };
        let mut shard = 0;
        while let Some(connections) = self.table.connections_of(shard, |_| true) {
            for connection in connections {
                *stats.protocols.entry(connection.original.protocol()).or_default() += 1;
                if let Some((original, reply)) = tcp_states(&connection) {
                    *stats.tcp_states.entry(TcpState::merged(original, reply)).or_default() += 1;
                }
            }
            shard += 1;
        }
        stats
    }

    /// Connections now, in all zones.
    pub fn connections(&self) -> u32 {
        self.quota.total()
    }

    /// Connections of a zone now.
    pub fn zone_connections(&self, zone: Zone) -> u32 {
        self.quota.zone(zone)
    }
}

fn tcp_states(connection: &Connection) -> Option<(TcpState, TcpState)> {
    let state: State = connection.load();
    (connection.original.protocol() == PROTO_TCP)
        .then(|| (state.tcp(Direction::Original), state.tcp(Direction::Reply)))
}

fn record(connection: &Connection, timeout_secs: u32) -> ConnectionInfo {
    let extra = connection.extra();
    ConnectionInfo {
        original: connection.original,
        reply: connection.reply,
        mark: connection.mark(),
        label: connection.label(),
        timeout_secs,
        tcp: tcp_states(connection),
        alg: extra.and_then(|extra| extra.alg),
        parent: extra.and_then(|extra| extra.parent),
        replied: connection.load().has(State::REPLIED),
    }
}
