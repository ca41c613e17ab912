//! The short way of a packet whose connection a cached flow holds and of which nothing is to be expected but what the last
//! ones did: a plain packet (see [`PlainPacket`]) of a connection whose class is the one that the flow goes on for.
//!
//! What can be worked out before packets come is in a [`Known`]. Of the packet is read what the state machine needs, of the
//! connection one line, or two with windows. Whatever is out of the ordinary (fragments, options, other protocols, flags that
//! move states, wrong checksums or numbers, a connection that changed, closes or is over) is declined before anything is
//! changed, and passes as if this way were not there; what passes here leaves everything as it would have there.

use super::ConnTracker;
use super::connection::{Connection, State};
use super::metadata;
use super::parse::has_whole_datagram;
use super::pass;
use super::spec::{CtClass, CtSpec, CtState};
use super::tcp::{self, Segment};
use super::tuple::Direction;
use base::Instant;
use packet::rewrite::EndsRewrite;
use packet::wire::{PROTO_TCP, PROTO_UDP};
use packet::{Checksum, Frame, PacketKey, PlainPacket};

/// What is known of packets of one direction of a connection that come to one `ct()`. Small, as it stands in a line with what
/// a frame changes.
#[derive(Debug)]
pub(crate) struct Known {
    /// Source and destination, of IPv4 only: those of IPv6 are the connection's.
    addresses: u64,
    ports: u32,
    /// Revision of mark and label that belongs to the class.
    revision: u32,
    /// The connection's flags that do.
    flags: u16,
    direction: Direction,
    protocol: u8,
    is_ipv6: bool,
    /// Whether addresses and ports are written over.
    pub is_rewritten: bool,
}

impl Known {
    /// Of packets that were last found to be of `class`, and what is written over their ends, if anything is. `None` if
    /// they all have to go the long way.
    pub fn new(
        connection: &Connection,
        direction: Direction,
        class: CtClass,
        spec: &CtSpec,
    ) -> Option<(Known, Option<EndsRewrite>)> {
        let tuple = connection.tuple(direction);
        let state = connection.load();
        let writes = spec.mark.is_some() || spec.label.is_some();
        let turns = spec.force && direction == Direction::Reply;
        if writes || turns || spec.zone != tuple.zone() || state.has(State::DEAD | State::ALG) {
            return None;
        }
        let translates = spec.nat.is_some() && state.has(State::SNAT | State::DNAT);
        let nat_bits = if translates { pass::nat_bits(state, direction) } else { CtState::NONE };
        // It may have changed since.
        let bits = CtState::TRK | pass::established(state, direction) | nat_bits;
        if bits != class.state() || !pass::may_hold(connection, state, direction) {
            return None;
        }
        let protocol = tuple.protocol();
        let mut rewrite = None;
        if translates && state.has(State::TRANSLATED) {
            let target = connection.tuple(direction.opposite()).reversed();
            rewrite = Some(pass::ends_rewrite(&tuple, &target)?);
        }
        let known = Known {
            addresses: tuple.addresses_v4(),
            ports: tuple.ports(),
            revision: class.revision(),
            flags: state.class_flags(),
            direction,
            protocol,
            is_ipv6: tuple.is_ipv6(),
            is_rewritten: rewrite.is_some(),
        };
        matches!(protocol, PROTO_TCP | PROTO_UDP).then_some((known, rewrite))
    }

    /// Whether they are segments, which touch the connection's windows too.
    #[inline]
    pub fn is_tcp(&self) -> bool {
        self.protocol == PROTO_TCP
    }

    /// Whether a packet has the ends of the others.
    #[inline]
    fn is_of(&self, packet: &PlainPacket<'_>, connection: &Connection) -> bool {
        let has_addresses = match packet.addresses_v4() {
            Some(addresses) => !self.is_ipv6 && addresses == self.addresses,
            None => {
                let tuple = connection.tuple(self.direction);
                self.is_ipv6 && packet.addresses_v6() == Some((tuple.src_number(), tuple.dst_number()))
            }
        };
        has_addresses && packet.ports() == self.ports && packet.protocol() == self.protocol
    }
}

impl ConnTracker {
    /// [`track_held`](Self::track_held) for a packet that is as the link's others were: true if it is, and then of the class
    /// that was known. Leaves the key alone (see [`describe_known`](Self::describe_known)). If false, nothing was changed.
    #[inline]
    pub(crate) fn track_known(
        &self,
        known: &Known,
        rewrite: &Option<EndsRewrite>,
        connection: &Connection,
        frame: &mut Frame,
        now: Instant,
    ) -> bool {
        let Some(packet) = PlainPacket::of(frame) else { return false };
        let state = connection.load();
        if state.class_flags() != known.flags
            || connection.revision() != known.revision
            || !known.is_of(&packet, connection)
            || self.is_over(connection, now)
            || !packet.has_right_checksums(frame.checksum)
        {
            return false;
        }
        if known.is_tcp() {
            let Some(segment) = bare_segment(packet.transport()) else { return false };
            let check = self.checks_tcp_seq();
            if !state.is_tcp_established() || !tcp::update_bare(connection, known.direction, &segment, check)
            {
                return false;
            }
        } else if !has_whole_datagram(packet.transport()) {
            return false;
        }
        connection.touch(now);
        if frame.checksum == Checksum::Unknown {
            frame.checksum = Checksum::Valid;
        }
        !known.is_rewritten || rewrite.as_ref().is_some_and(|rewrite| rewrite.apply(frame))
    }

    /// Writes the slots of the key that [`track`](Self::track) writes, after a packet has passed the short way.
    pub(crate) fn describe_known(
        &self,
        known: &Known,
        connection: &Connection,
        class: CtClass,
        key: &mut PacketKey,
    ) {
        metadata::describe(connection, class.state(), key);
        if known.is_rewritten {
            pass::describe_ends(&connection.tuple(known.direction.opposite()).reversed(), key);
        }
    }
}

/// A segment that holds nothing but data and an acknowledgement.
#[inline]
fn bare_segment(transport: &[u8]) -> Option<Segment> {
    let h = transport.first_chunk::<20>()?;
    let (header_len, flags) = (usize::from(h[12] >> 4) * 4, h[13] & 0x3f);
    if header_len < h.len() || header_len > transport.len() || !tcp::is_bare(flags) {
        return None;
    }
    Some(Segment {
        flags,
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        window: u16::from_be_bytes([h[14], h[15]]),
        len: (transport.len() - header_len) as u32,
        scale: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{CtConfig, NatKind, NatSpec, PortSelection};
    use super::*;
    use base::HashSeed;
    use packet::{DpPort, FrameBuilder, slot};
    use std::sync::Arc;

    const NOW: Instant = Instant::from_secs(1_000);

    fn frame(builder: &FrameBuilder) -> (Frame, PacketKey) {
        let mut frame = Frame::from_bytes(&builder.clone().payload(b"odd").build());
        let key = PacketKey::extract(&mut frame).expect("a frame");
        (frame, key)
    }

    fn nat(address: [u8; 4]) -> Option<NatSpec> {
        let address = Some(address.into());
        NatSpec::new(NatKind::Src, (address, None), (None, None), PortSelection::Default, false).ok()
    }

    /// A tracker with an answered connection, held in the original direction, and the class of its packets.
    fn held(
        there: &FrameBuilder,
        back: &FrameBuilder,
        commit: &CtSpec,
        spec: &CtSpec,
    ) -> (ConnTracker, Arc<Connection>, CtClass) {
        let tracker = ConnTracker::new(HashSeed::new(1, 2), CtConfig::default());
        let pass = |builder: &FrameBuilder, spec| {
            let (mut frame, mut key) = frame(builder);
            tracker.track(&mut frame, &mut key, spec, DpPort(1), NOW)
        };
        pass(there, commit);
        pass(back, spec);
        let tracked = pass(there, spec);
        let (connection, direction) = tracked.hold.expect("answered");
        assert_eq!(direction, Direction::Original);
        (tracker, connection, tracked.class)
    }

    /// UDP and TCP of both families and translated packets go the short way, and leave frame and key as `track` does.
    #[test]
    fn plain_packets_are_known() {
        let (a, b, n) = (0x0a00_0001, 0x0a00_0002, 0xc000_0209);
        let cases = [
            (FrameBuilder::udp4((a, 5), (b, 6)), FrameBuilder::udp4((b, 6), (a, 5)), None),
            (FrameBuilder::udp6((7, 5), (9, 6)), FrameBuilder::udp6((9, 6), (7, 5)), None),
            (FrameBuilder::tcp4((a, 5), (b, 6), 0x10), FrameBuilder::tcp4((b, 6), (a, 5), 0x10), None),
            (FrameBuilder::tcp6((7, 5), (9, 6), 0x10), FrameBuilder::tcp6((9, 6), (7, 5), 0x10), None),
            (FrameBuilder::udp4((a, 5), (b, 6)), FrameBuilder::udp4((b, 6), (n, 5)), nat([192, 0, 2, 9])),
        ];
        for (there, back, translation) in cases {
            let spec = CtSpec { nat: translation.is_some().then(NatSpec::apply), ..CtSpec::default() };
            let commit = CtSpec { commit: true, nat: translation, ..CtSpec::default() };
            let (tracker, connection, class) = held(&there, &back, &commit, &spec);
            let (known, rewrite) = Known::new(&connection, Direction::Original, class, &spec).expect("plain");
            let ((mut short, mut key), (mut long, mut long_key)) = (frame(&there), frame(&there));
            assert!(tracker.track_known(&known, &rewrite, &connection, &mut short, NOW), "{there:?}");
            tracker.describe_known(&known, &connection, class, &mut key);
            let tracked = tracker.track(&mut long, &mut long_key, &spec, DpPort(1), NOW);
            assert_eq!(tracked.class, class);
            assert_eq!((short.bytes(), key), (long.bytes(), long_key));
            assert_eq!((short.checksum, long.checksum), (Checksum::Valid, Checksum::Valid));
            // Another connection's frame, and the answer, are not known.
            for other in [there.clone().set(slot::TP_SRC, 77), back] {
                let (mut other, _) = frame(&other);
                let before = other.bytes().to_vec();
                assert!(!tracker.track_known(&known, &rewrite, &connection, &mut other, NOW));
                assert_eq!((other.bytes(), other.checksum), (&before[..], Checksum::Unknown));
            }
        }
    }

    #[test]
    fn what_may_do_more_is_not_known() {
        let (there, back) = (FrameBuilder::udp4((1, 5), (2, 6)), FrameBuilder::udp4((2, 6), (1, 5)));
        let spec = CtSpec::default();
        let commit = CtSpec { commit: true, ..CtSpec::default() };
        let (tracker, connection, class) = held(&there, &back, &commit, &spec);
        let known = |direction, class, spec: &CtSpec| Known::new(&connection, direction, class, spec);
        let original = Direction::Original;
        assert!(known(original, class, &spec).is_some());
        assert!(known(Direction::Reply, class, &spec).is_none(), "the class says which way");
        assert!(known(original, class, &CtSpec { mark: Some((1, 1)), ..CtSpec::default() }).is_none());
        assert!(
            known(original, class, &CtSpec { zone: super::super::Zone(9), ..CtSpec::default() }).is_none()
        );
        let (known, rewrite) = known(original, class, &spec).expect("as above");
        let passes = |now| tracker.track_known(&known, &rewrite, &connection, &mut frame(&there).0, now);
        assert!(passes(NOW) && !passes(NOW + std::time::Duration::from_secs(31)), "it is over");
        assert!(connection.set_flag(State::DEAD) && !passes(NOW));
    }
}
