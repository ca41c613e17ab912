//! Connections ended by an operator: those of a zone, those that a filter means, the one that a tuple names.

use super::ConnTracker;
use super::connection::{Connection, State};
use super::dump::{DUMP_PART_MAX, DumpCursor};
use super::tuple::{Direction, Tuple, TupleFields, TupleFilter, Zone};
use packet::wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_SCTP, PROTO_TCP, PROTO_UDP};

/// Connections to be ended, as `dpctl/flush-conntrack` and `NXT_CT_FLUSH` say it. The default means all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FlushFilter {
    /// Of this zone; `None` for all zones.
    pub zone: Option<Zone>,
    /// What the original direction's packets have.
    pub original: TupleFilter,
    /// What the replies have, before they are translated back.
    pub reply: TupleFilter,
}

impl FlushFilter {
    fn matches(&self, connection: &Connection) -> bool {
        self.zone.is_none_or(|zone| connection.zone() == zone)
            && self.original.matches(&connection.original())
            && self.reply.matches(&connection.reply())
    }

    /// The original tuple that the filter names, if it says all of it and nothing of replies. It is of zone 0 unless a zone
    /// is named.
    pub fn exact(&self) -> Option<Tuple> {
        if self.reply != TupleFilter::default() {
            return None;
        }
        let TupleFilter { src, dst, protocol, src_port, dst_port, icmp_id, icmp_type, icmp_code } =
            self.original;
        let (src, dst, protocol) = (src?, dst?, protocol?);
        let (src_port, dst_port) = match protocol {
            PROTO_TCP | PROTO_UDP | PROTO_SCTP => (src_port?, dst_port?),
            PROTO_ICMP | PROTO_ICMPV6 => (icmp_id?, u16::from_be_bytes([icmp_type?, icmp_code?])),
            _ => (src_port.unwrap_or(0), dst_port.unwrap_or(0)),
        };
        let zone = self.zone.unwrap_or_default();
        (src.is_ipv4() == dst.is_ipv4())
            .then(|| Tuple::new(TupleFields { zone, protocol, src, dst, src_port, dst_port }))
    }
}

impl ConnTracker {
    /// Ends a part of the connections that a filter means, and tells how many and where to go on; `None` at the end.
    pub fn flush_part(&self, filter: &FlushFilter, from: DumpCursor) -> (usize, Option<DumpCursor>) {
        let mut ended = 0;
        for shard in from.shards() {
            let wanted = |c: &Connection| filter.matches(c);
            let Some(connections) = self.table.connections_of(shard, wanted) else { return (ended, None) };
            ended += connections.iter().filter(|c| self.end(c, &self.counts.evicted)).count();
            if ended >= DUMP_PART_MAX {
                return (ended, Some(DumpCursor::at(shard + 1)));
            }
        }
        (ended, Some(from.behind()))
    }

    /// Ends all connections, those of a zone, or those whose original tuple a filter means. Returns how many.
    pub fn flush(&self, zone: Option<Zone>, tuple: Option<&TupleFilter>) -> usize {
        let original = tuple.copied().unwrap_or_default();
        let filter = FlushFilter { zone, original, ..FlushFilter::default() };
        let (mut ended, mut from) = (0, Some(DumpCursor::default()));
        while let Some(cursor) = from {
            let part = self.flush_part(&filter, cursor);
            ended += part.0;
            from = part.1;
        }
        ended
    }

    /// Ends the connection that has this original tuple, or this reply tuple if nothing is translated; false if there is
    /// none.
    pub fn flush_one(&self, tuple: &Tuple) -> bool {
        match self.table.find(tuple, self.table.hash(tuple)) {
            Some((connection, direction))
                if direction == Direction::Original || !connection.load().has(State::TRANSLATED) =>
            {
                self.end(&connection, &self.counts.evicted)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_exact_if_it_leaves_nothing_open() {
        let (src, dst) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let ends = TupleFilter { src, dst, ..TupleFilter::default() };
        let exact = |original| FlushFilter { original, ..FlushFilter::default() }.exact();
        let tcp = TupleFilter { protocol: Some(6), src_port: Some(1), dst_port: Some(2), ..ends };
        let tuple = exact(tcp).expect("a tuple").fields();
        assert_eq!((tuple.zone, tuple.protocol, tuple.src_port, tuple.dst_port), (Zone(0), 6, 1, 2));
        let ping = TupleFilter {
            protocol: Some(1),
            icmp_id: Some(7),
            icmp_type: Some(8),
            icmp_code: Some(0),
            ..ends
        };
        assert_eq!(exact(ping).map(|t| t.fields().dst_port), Some(0x0800));
        assert!(exact(TupleFilter { protocol: Some(47), ..ends }).is_some());
        for open in [
            TupleFilter::default(),
            ends,
            TupleFilter { src: None, ..tcp },
            TupleFilter { dst_port: None, ..tcp },
            TupleFilter { icmp_code: None, ..ping },
            TupleFilter { protocol: None, ..tcp },
            TupleFilter { dst: Some("fd00::1".parse().unwrap()), ..tcp },
        ] {
            assert_eq!(exact(open), None, "{open:?}");
        }
        let with_reply = FlushFilter { original: tcp, reply: ends, zone: None };
        assert_eq!(with_reply.exact(), None);
    }
}
