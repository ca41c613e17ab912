//! Connection tracking as the daemon steers it: the settings that operators and the database make, and work on the whole
//! table, which is done in parts so that the loop goes on meanwhile.
//!
//! The tracker itself is `datapath`'s. Settings by command last until the daemon ends, as in OVS; the database's come back.

use crate::sockets::{AppctlReply, Sockets};
use crate::unixctl;
use base::Instant;
use datapath::ConnTracker;
use datapath::conntrack::{
    ConnectionRecord, CtConfig, DumpCursor, FlushFilter, LineForm, TcpState, TimeoutPolicyId, Timeouts,
    TupleFilter, Zone,
};
use openflow::message::{CtFlush, CtTuple};
use packet::wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Share of the table that connections without a reply from one ingress port may take,
const EMBRYONIC_SHARE: u32 = 8;
/// though in small tables not less than so many.
const EMBRYONIC_MIN: u32 = 1_024;

/// See the module's text.
pub struct Connections {
    tracker: Arc<ConnTracker>,
    config: CtConfig,
    walks: Vec<(Walk, AppctlReply)>,
}

impl Connections {
    /// For a tracker that was made with the default configuration.
    pub fn new(tracker: Arc<ConnTracker>) -> Connections {
        Connections { tracker, config: CtConfig::default(), walks: Vec::new() }
    }

    /// The tracker.
    pub fn tracker(&self) -> &ConnTracker {
        &self.tracker
    }

    /// The settings in force.
    pub fn config(&self) -> &CtConfig {
        &self.config
    }

    /// Changes settings; in force for the next packet.
    pub fn change(&mut self, change: impl FnOnce(&mut CtConfig)) {
        change(&mut self.config);
        self.tracker.configure(self.config.clone());
    }

    /// Sets how many connections there may be, and with it how many of them may be without a reply.
    pub fn set_connections_max(&mut self, max: u32) {
        self.change(|config| {
            config.connections_max = max;
            config.embryonic_port_max = (max / EMBRYONIC_SHARE).max(EMBRYONIC_MIN);
        });
    }

    /// Makes the zones' timeouts those of the database.
    pub fn set_zone_timeouts(&mut self, zones: &BTreeMap<u16, BTreeMap<String, u32>>) {
        let policies: BTreeMap<TimeoutPolicyId, Timeouts> =
            zones.iter().map(|(zone, named)| (TimeoutPolicyId((*zone).into()), timeouts(named))).collect();
        if policies == self.config.policies {
            return;
        }
        self.change(|config| {
            config.zone_policies =
                zones.keys().map(|zone| (Zone(*zone), TimeoutPolicyId((*zone).into()))).collect();
            config.policies = policies;
        });
    }

    /// Ends connections at once, for OpenFlow: what follows the request relies on it. Returns how many.
    pub fn flush(&self, flush: &CtFlush) -> usize {
        let filter = filter(flush);
        if let Some(tuple) = filter.exact() {
            return usize::from(self.tracker.flush_one(&tuple));
        }
        let (mut ended, mut from) = (0, Some(DumpCursor::default()));
        while let Some(cursor) = from {
            let part = self.tracker.flush_part(&filter, cursor);
            ended += part.0;
            from = part.1;
        }
        ended
    }

    // --- work in parts ---

    /// Begins work for whoever asked.
    pub fn begin(&mut self, walk: Walk, reply: AppctlReply) {
        self.walks.push((walk, reply));
    }

    /// Whether there is work that can go on now.
    pub fn is_due(&self, sockets: &Sockets) -> bool {
        self.walks.iter().any(|(_, reply)| sockets.appctl_has_room(reply))
    }

    /// Does a part of each work that is asked for. Answers of those that have gone are not made.
    pub fn go_on(&mut self, sockets: &mut Sockets, now: Instant) {
        let tracker = Arc::clone(&self.tracker);
        self.walks.retain_mut(|(walk, reply)| match sockets.appctl(reply) {
            None => false,
            Some(session) if session.has_room() => walk.step(&tracker, session, &reply.id, now),
            Some(_) => true,
        });
    }
}

/// Seconds by name; names that mean nothing to the tracker are passed over, as the manual says.
fn timeouts(named: &BTreeMap<String, u32>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for (name, secs) in named {
        timeouts.set_named(name, *secs);
    }
    timeouts
}

/// What a request to flush means to the tracker.
fn filter(flush: &CtFlush) -> FlushFilter {
    FlushFilter {
        zone: flush.zone.map(Zone),
        original: tuple_filter(flush.protocol, &flush.original),
        // The protocol is said once, and is the same both ways but for what there is nothing else to say of.
        reply: if flush.reply.is_empty() {
            TupleFilter::default()
        } else {
            tuple_filter(flush.protocol, &flush.reply)
        },
    }
}

fn tuple_filter(protocol: u8, tuple: &CtTuple) -> TupleFilter {
    TupleFilter {
        src: tuple.src,
        dst: tuple.dst,
        protocol: (protocol != 0).then_some(protocol),
        src_port: tuple.src_port,
        dst_port: tuple.dst_port,
        icmp_id: tuple.icmp_id,
        icmp_type: tuple.icmp_type,
        icmp_code: tuple.icmp_code,
    }
}

/// Work on the connections one after the other.
#[derive(Debug, PartialEq)]
pub struct Walk {
    zone: Option<Zone>,
    from: DumpCursor,
    task: Task,
    begun: bool,
}

#[derive(Debug, PartialEq)]
enum Task {
    List(LineForm),
    Count { verbose: bool, counts: Counts },
    Flush { filter: FlushFilter, ended: usize },
}

impl Walk {
    fn new(zone: Option<u16>, task: Task) -> Walk {
        Walk { zone: zone.map(Zone), from: DumpCursor::default(), task, begun: false }
    }

    /// `dpctl/dump-conntrack`.
    pub fn list(zone: Option<u16>, form: LineForm) -> Walk {
        Walk::new(zone, Task::List(form))
    }

    /// `dpctl/ct-stats-show`.
    pub fn count(zone: Option<u16>, verbose: bool) -> Walk {
        Walk::new(zone, Task::Count { verbose, counts: Counts::default() })
    }

    /// `dpctl/flush-conntrack`.
    pub fn flush(flush: &CtFlush) -> Walk {
        Walk::new(flush.zone, Task::Flush { filter: filter(flush), ended: 0 })
    }

    /// Does a part; false when the answer is complete.
    fn step(
        &mut self,
        tracker: &ConnTracker,
        session: &mut unixctl::Session,
        id: &Value,
        now: Instant,
    ) -> bool {
        let next = match &mut self.task {
            Task::List(form) => {
                if !std::mem::replace(&mut self.begun, true) {
                    session.begin(id);
                }
                let (records, next) = tracker.dump(self.zone, self.from, now);
                session.part(&lines(&records, *form));
                if next.is_none() {
                    session.end();
                }
                next
            }
            Task::Count { verbose, counts } => {
                let (records, next) = tracker.dump(self.zone, self.from, now);
                records.iter().for_each(|record| counts.add(record));
                if next.is_none() {
                    session.reply(id, &Ok(counts.text(*verbose)));
                }
                next
            }
            Task::Flush { filter, ended } => {
                let exact = filter.exact();
                let (n, next) = match &exact {
                    Some(tuple) => (usize::from(tracker.flush_one(tuple)), None),
                    None => tracker.flush_part(filter, self.from),
                };
                *ended += n;
                if next.is_none() {
                    // Who names a connection is told if it is not there.
                    let missing = exact.is_some() && *ended == 0;
                    let text = "ovs-vswitchd: failed to flush conntrack (No such file or directory)";
                    let answer = if missing { Err(text.to_owned()) } else { Ok(String::new()) };
                    session.reply(id, &answer);
                }
                next
            }
        };
        self.from = next.unwrap_or_default();
        next.is_some()
    }
}

fn lines(records: &[ConnectionRecord], form: LineForm) -> String {
    let mut out = String::new();
    for record in records {
        let _ = writeln!(out, "{}", record.line(form));
    }
    out
}

/// Connections by protocol, and by state those of TCP.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    protocols: BTreeMap<u8, u64>,
    tcp_states: BTreeMap<TcpState, u64>,
}

impl Counts {
    fn add(&mut self, record: &ConnectionRecord) {
        *self.protocols.entry(record.original.protocol()).or_default() += 1;
        if let Some((original, reply)) = record.tcp {
            *self.tcp_states.entry(TcpState::merged(original, reply)).or_default() += 1;
        }
    }

    /// As `dpctl/ct-stats-show` prints them; OVS 3.1 has no line for ICMPv6.
    fn text(&self, verbose: bool) -> String {
        const NAMED: [(u8, &str); 5] = [
            (PROTO_TCP, "TCP"),
            (PROTO_UDP, "UDP"),
            (PROTO_SCTP, "SCTP"),
            (PROTO_ICMP, "ICMP"),
            (PROTO_ICMPV6, "ICMPv6"),
        ];
        let total: u64 = self.protocols.values().sum();
        let mut out = format!("Connections Stats:\n    Total: {total}\n");
        let mut others = total;
        for (protocol, name) in NAMED {
            let Some(count) = self.protocols.get(&protocol) else { continue };
            others -= count;
            let _ = writeln!(out, "  {name}: {count}");
            if verbose && protocol == PROTO_TCP {
                out.push_str("    Conn per TCP states:\n");
                for (state, count) in &self.tcp_states {
                    let _ = writeln!(out, "\t  [{state}]={count}");
                }
            }
        }
        if others > 0 {
            let _ = writeln!(out, "  Other: {others}");
        }
        out
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
