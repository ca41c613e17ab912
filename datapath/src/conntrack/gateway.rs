//! The application layer gateways at work: reading what a control connection says, foreseeing what it agrees on, and,
//! where the connection is translated, translating that too.
//!
//! Only what an end says about itself is believed: an announced address must be the one that the end has in the control
//! connection, and an announced port must not be a system port (RFC 2577 section 3), or a client could make the server,
//! or a server the gateway, open ways to others.

use super::connection::Connection;
use super::expectation::Target;
use super::ftp::Announcement;
use super::parse::{Content, Parsed};
use super::pass::Pass;
use super::shift;
use super::spec::Alg;
use super::tcp::{self, Segment};
use super::tftp;
use super::tuple::{Direction, Tuple};
use packet::{Frame, Segmentation};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Ports tried for a data connection that is announced under another.
const PORTS_TRIED_MAX: u16 = 32;
/// Ports below are not opened.
const SYSTEM_PORTS: u16 = 1024;

type Shifts = [shift::Shift; 2];

/// Shifts of a direction's own numbers and of the other's.
fn both(shifts: &mut Shifts, direction: Direction) -> (&mut shift::Shift, &mut shift::Shift) {
    let [original, reply] = shifts;
    match direction {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    }
}

fn shifts_of(connection: &Connection) -> Option<MutexGuard<'_, Shifts>> {
    Some(connection.extra()?.shifts.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The packet with the numbers that the ends mean by it: the acknowledgement as the other end would have it, and the sequence
/// number as the sender wrote it. If the packet was translated by an earlier pass, its acknowledgement is so already.
pub(super) fn unshifted(
    connection: &Connection,
    direction: Direction,
    parsed: &Parsed,
    is_translated: bool,
) -> Parsed {
    let mut parsed = *parsed;
    if let Content::Tcp(segment) = &mut parsed.content
        && let Some(mut shifts) = shifts_of(connection)
    {
        let (own, other) = both(&mut shifts, direction);
        if is_translated {
            segment.seq = own.back(segment.seq);
        } else if segment.flags & tcp::ACK != 0 {
            segment.ack = other.back(segment.ack);
        }
    }
    parsed
}

/// What a gateway is to do with a packet of a control connection.
pub(super) struct Reading<'a> {
    pub connection: &'a Arc<Connection>,
    pub direction: Direction,
    pub parsed: &'a Parsed,
    /// Whether this pass translated the packet.
    pub is_translated: bool,
}

impl Pass<'_> {
    /// Reads a good packet of a connection that has a gateway, after its headers were translated. `None` if the packet would
    /// have to be changed and cannot be.
    pub fn read_control(&self, reading: &Reading<'_>, frame: &mut Frame) -> Option<()> {
        let extra = reading.connection.extra()?;
        match (extra.alg, &reading.parsed.content) {
            (Some(Alg::Ftp), Content::Tcp(segment)) => self.read_ftp(reading, segment, frame),
            (Some(Alg::Tftp), Content::Udp) => {
                self.read_tftp(reading, frame);
                Some(())
            }
            _ => Some(()),
        }
    }

    fn read_tftp(&self, reading: &Reading<'_>, frame: &Frame) {
        let payload = frame.bytes().get(reading.parsed.l4 + 8..frame.packet_end());
        if reading.direction != Direction::Original || !payload.is_some_and(tftp::is_request) {
            return;
        }
        let Reading { connection, is_translated, .. } = *reading;
        let (original, reply) = (&connection.original(), ends_seen(connection, is_translated));
        let target =
            Target { src: original.dst_number(), dst: original.src_number(), dst_port: original.src_port() };
        self.tracker.expectations.open(&reply, connection, target, self.now);
    }

    fn read_ftp(&self, reading: &Reading<'_>, segment: &Segment, frame: &mut Frame) -> Option<()> {
        let Reading { connection, direction, is_translated, .. } = *reading;
        let l4 = reading.parsed.l4;
        if is_translated {
            if segment.flags & tcp::SYN != 0 {
                shift::forbid_sack(frame, l4)?;
            }
            let mut shifts = shifts_of(connection)?;
            let (own, other) = both(&mut shifts, direction);
            if !own.is_none() || !other.is_none() {
                // The acknowledgement in `segment` is unshifted already.
                let ack = if segment.flags & tcp::ACK != 0 { segment.ack } else { 0 };
                shift::set_numbers(frame, l4, own.forth(segment.seq), ack)?;
            }
        }
        if segment.len == 0 || frame.segmentation != Segmentation::None {
            return Some(());
        }
        let header_len = usize::from(frame.bytes().get(l4 + 12)? >> 4) * 4;
        let at = l4 + header_len;
        let payload = frame.bytes().get(at..frame.packet_end())?;
        let said = match direction {
            Direction::Original => Announcement::of_client(payload),
            Direction::Reply => Announcement::of_server(payload),
        };
        let Some(said) = said else { return Some(()) };
        let Some(port) = self.foresee(reading, &said) else { return Some(()) };
        let seen = seen_by_other(connection, direction, is_translated);
        let own = own_address(connection, direction);
        if !is_translated || (seen, port) == (own, said.port) {
            return Some(());
        }
        let text = said.rewritten(seen, port)?;
        self.replace(reading, segment, at + said.place.start..at + said.place.end, &text, frame)
    }

    /// Opens the way for what an end announced; the port that the other end is to be told.
    fn foresee(&self, reading: &Reading<'_>, said: &Announcement) -> Option<u16> {
        let Reading { connection, direction, is_translated, .. } = *reading;
        let own = own_address(connection, direction);
        if said.address.is_some_and(|address| address != own) || said.port < SYSTEM_PORTS {
            return None;
        }
        // The first packet of the data connection comes from the other end, to what it was told.
        let (arrives, leaves) = match direction {
            Direction::Original => (ends_seen(connection, is_translated), connection.original().reversed()),
            Direction::Reply => (connection.original(), ends_seen(connection, is_translated).reversed()),
        };
        let target = Target { src: leaves.src_number(), dst: leaves.dst_number(), dst_port: said.port };
        let tried = if is_translated { PORTS_TRIED_MAX } else { 1 };
        (0..tried).map_while(|step| said.port.checked_add(step)).find(|port| {
            let first = arrives.with_dst(arrives.dst_number(), *port);
            self.tracker.expectations.open(&first, connection, target, self.now)
        })
    }

    /// Replaces the announcement in the frame, and notes by how much the numbers of its sender shift.
    fn replace(
        &self,
        reading: &Reading<'_>,
        segment: &Segment,
        place: Range<usize>,
        text: &str,
        frame: &mut Frame,
    ) -> Option<()> {
        let delta = text.len() as i32 - place.len() as i32;
        shift::splice(frame, place, text.as_bytes())?;
        let mut shifts = shifts_of(reading.connection)?;
        if delta != 0 {
            both(&mut shifts, reading.direction).0.grow(segment.seq, delta);
        }
        Some(())
    }
}

/// The tuple of the reply direction as the other end sends it: untranslated passes leave the original ends in place.
fn ends_seen(connection: &Connection, is_translated: bool) -> Tuple {
    if is_translated { connection.reply() } else { connection.original().reversed() }
}

fn address(tuple: &Tuple, number: u128) -> IpAddr {
    if tuple.is_ipv6() { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}

/// The address that the sender of a direction has for itself.
fn own_address(connection: &Connection, direction: Direction) -> IpAddr {
    let tuple = connection.tuple(direction);
    address(&tuple, tuple.src_number())
}

/// The address by which the other end knows the sender of a direction.
fn seen_by_other(connection: &Connection, direction: Direction, is_translated: bool) -> IpAddr {
    if !is_translated {
        return own_address(connection, direction);
    }
    let tuple = connection.tuple(direction.opposite());
    address(&tuple, tuple.dst_number())
}
