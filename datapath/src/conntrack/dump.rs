//! What operators see: connections listed in parts, and counted.

use super::connection::{Connection, State};
use super::spec::Alg;
use super::tcp::TcpState;
use super::tuple::{Direction, Tuple, Zone};
use super::{ConnTracker, timeout_of};
use base::Instant;
use packet::wire::PROTO_TCP;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Shards that a part of a listing looks at: with a million connections some 16,000 of them.
pub const DUMP_SHARDS_MAX: usize = 8;
/// Connections after which a part ends before that, at the next border of a shard.
pub const DUMP_PART_MAX: usize = 1000;

/// Where a listing goes on. The default is its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DumpCursor {
    shard: usize,
}

impl DumpCursor {
    /// At this shard.
    pub(super) fn at(shard: usize) -> DumpCursor {
        DumpCursor { shard }
    }

    /// The shards of a part that begins here.
    pub(super) fn shards(self) -> std::ops::Range<usize> {
        self.shard..self.shard + DUMP_SHARDS_MAX
    }

    /// Behind those.
    pub(super) fn behind(self) -> DumpCursor {
        DumpCursor::at(self.shard + DUMP_SHARDS_MAX)
    }
}

/// A connection as it was a moment ago. Its text is in `text`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionRecord {
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
    ) -> (Vec<ConnectionRecord>, Option<DumpCursor>) {
        let config = self.config.load();
        let mut part = Vec::new();
        for shard in from.shards() {
            let wanted = |c: &Connection| zone.is_none_or(|zone| c.zone() == zone);
            let Some(connections) = self.table.connections_of(shard, wanted) else { return (part, None) };
            part.extend(connections.iter().filter_map(|c| {
                let left = c.remaining(timeout_of(c, &config), now);
                (!left.is_zero()).then(|| record(c, left.as_secs() as u32))
            }));
            if part.len() >= DUMP_PART_MAX {
                return (part, Some(DumpCursor::at(shard + 1)));
            }
        }
        (part, Some(from.behind()))
    }

    /// The counts. Looks at every connection, a shard at a time.
    pub fn stats(&self) -> CtStats {
        let mut stats = CtStats { zones: self.quota.zones().into_iter().collect(), ..self.totals() };
        let mut shard = 0;
        while let Some(connections) = self.table.connections_of(shard, |_| true) {
            for connection in connections {
                *stats.protocols.entry(connection.original().protocol()).or_default() += 1;
                if let Some((original, reply)) = tcp_states(&connection) {
                    *stats.tcp_states.entry(TcpState::merged(original, reply)).or_default() += 1;
                }
            }
            shard += 1;
        }
        stats
    }

    /// The counts that need no look at the connections: `protocols`, `tcp_states` and `zones` are empty.
    pub fn totals(&self) -> CtStats {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        CtStats {
            connections: self.quota.total(),
            created: get(&self.counts.created),
            expired: get(&self.counts.expired),
            evicted: get(&self.counts.evicted),
            full: get(&self.counts.full),
            nat_exhausted: get(&self.counts.nat_exhausted),
            invalid: get(&self.counts.invalid),
            ..CtStats::default()
        }
    }

    /// How many tuples each shard holds; a translated connection has two.
    pub fn shard_sizes(&self) -> Vec<usize> {
        self.table.shard_sizes()
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
    (connection.original().protocol() == PROTO_TCP)
        .then(|| (state.tcp(Direction::Original), state.tcp(Direction::Reply)))
}

fn record(connection: &Connection, timeout_secs: u32) -> ConnectionRecord {
    let extra = connection.extra();
    ConnectionRecord {
        original: connection.original(),
        reply: connection.reply(),
        mark: connection.mark(),
        label: connection.label(),
        timeout_secs,
        tcp: tcp_states(connection),
        alg: extra.and_then(|extra| extra.alg),
        parent: extra.and_then(|extra| extra.parent),
        replied: connection.load().has(State::REPLIED),
    }
}
