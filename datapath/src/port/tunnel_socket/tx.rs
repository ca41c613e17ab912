//! The sending side: frames wait until the flush, are sorted by flow, and go several a call; equal ones of a flow as one.
//!
//! Super-frames come whole and are cut here: each segment's headers are made, and the kernel takes the payload from where it lies.

use super::Reports;
use super::outer::Outer;
use crate::drop::Drop;
use crate::port::{Losses, PortError, Tx, TxLost, reason_of};
use packet::{Checksum, Cuts, Frame, FramePool, Segmentation};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use sys::errno;
use sys::tunnel_socket::{
    Carrier, Datagram, Fragmentation, IpFamily, PARTS_MAX, PAYLOAD_MAX, SEGMENTS_MAX, SEND_MAX, SOURCE_PORTS,
    TunnelSocket,
};

const _: () = assert!(SEGMENTS_MAX <= PARTS_MAX);
// Whoever makes the header, the source ports are the same.
const _: () =
    assert!(*SOURCE_PORTS.start() == packet::tunnel::SOURCE_PORT_MIN && *SOURCE_PORTS.end() == u16::MAX);

/// Sockets of a worker for each address family, and so source ports that its packets can have. A power of two.
pub const SOURCES: usize = 16;

/// Frames that wait for the flush at most; two batches.
const QUEUE_MAX: usize = 64;
/// Datagrams to one destination from which on the socket is aimed at it.
const AIM_MIN: usize = 8;
/// Reports taken from a socket at a time.
const REPORTS_MAX: usize = 64;

/// One sending socket.
struct Sender {
    socket: TunnelSocket,
    fragmentation: Fragmentation,
    /// Whether its datagrams get a checksum.
    is_checked: bool,
    /// Whether equal datagrams may go as one; not where the device does no checksums.
    joins: bool,
    /// Where it was aimed at, and whether it sends as wanted there.
    aim: Option<(Aim, bool)>,
}

/// What datagrams have to have in common to be sent to where a socket aims: source, destination with its port, TOS, TTL.
type Aim = (IpAddr, IpAddr, u16, u8, u8);

impl Sender {
    /// Aims the socket at where a datagram goes. Says whether that can be made use of.
    fn aim(&mut self, like: &Datagram<'_>) -> bool {
        let wanted = (like.source, like.destination, like.port, like.tos, like.ttl);
        match self.aim {
            Some((aim, is_good)) if aim == wanted => is_good,
            _ => {
                let is_good = self.socket.aim(like).unwrap_or(false);
                self.aim = Some((wanted, is_good));
                is_good
            }
        }
    }

    /// Makes the socket send as a group of datagrams wants.
    fn prepare(&mut self, group: Group) -> io::Result<()> {
        let wanted = if group.df { Fragmentation::Never } else { Fragmentation::Allowed };
        if self.fragmentation != wanted {
            self.socket.set_fragmentation(wanted)?;
            self.fragmentation = wanted;
        }
        if self.is_checked != group.is_checked {
            self.socket.set_checksums(group.is_checked)?;
            self.is_checked = group.is_checked;
        }
        Ok(())
    }
}

/// A frame that waits.
struct Queued {
    frame: Frame,
    outer: Outer,
    /// How it is to be cut, if it is a super-frame.
    cuts: Option<Cuts>,
    /// Keeps the order within a flow.
    number: usize,
}

impl Queued {
    /// What the socket is chosen by, and told once for all its datagrams.
    fn group(&self) -> Group {
        Group {
            is_v6: self.outer.dst.is_ipv6(),
            source: usize::from(self.outer.src_port) % SOURCES,
            df: self.outer.df,
            is_checked: self.outer.is_checked,
        }
    }

    fn order(&self) -> (Group, u16, IpAddr, usize) {
        (self.group(), self.outer.src_port, self.outer.dst, self.number)
    }

    /// Whether the two can be parts of one datagram.
    fn joins(&self, next: &Queued) -> bool {
        let (a, b) = (&self.outer, &next.outer);
        next.cuts.is_none()
            && (a.src, a.dst, a.dst_port, a.tos, a.ttl) == (b.src, b.dst, b.dst_port, b.tos, b.ttl)
            && a.src_port == b.src_port
    }
}

/// See [`Queued::group`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    is_v6: bool,
    source: usize,
    df: bool,
    is_checked: bool,
}

/// The sockets of one worker.
pub(super) struct TunnelTx {
    senders: [Vec<Sender>; 2],
    is_udp: bool,
    queue: Vec<Queued>,
    /// Room for the headers of segments.
    headers: Vec<u8>,
    losses: Losses,
    reports: Arc<Reports>,
}

fn lose(losses: &mut Losses, reason: Drop, frames: &[Queued]) {
    losses.add(reason, frames.len() as u64, frames.iter().map(|q| q.frame.len() as u64).sum());
}

impl TunnelTx {
    /// Opens the sockets for the families that the host has: first IPv4, then IPv6.
    pub fn open(carrier: Carrier, families: [bool; 2], reports: Arc<Reports>) -> Result<TunnelTx, PortError> {
        let is_udp = carrier == Carrier::Udp;
        let count = if is_udp { SOURCES } else { 1 };
        let open = |family, wanted: bool| -> io::Result<Vec<Sender>> {
            let one = |_| {
                let socket = TunnelSocket::sender(carrier, family)?;
                let fragmentation = Fragmentation::Never;
                Ok(Sender { socket, fragmentation, is_checked: true, joins: is_udp, aim: None })
            };
            (0..if wanted { count } else { 0 }).map(one).collect()
        };
        let [v4, v6] = families;
        let senders = [open(IpFamily::V4, v4)?, open(IpFamily::V6, v6)?];
        let queue = Vec::with_capacity(QUEUE_MAX);
        Ok(TunnelTx { senders, is_udp, queue, headers: Vec::new(), losses: Losses::default(), reports })
    }

    /// Sends all that waits.
    fn transmit(&mut self, pool: &mut FramePool) {
        self.queue.sort_unstable_by_key(Queued::order);
        let mut payloads = [IoSlice::new(&[]); QUEUE_MAX];
        for (payload, queued) in payloads.iter_mut().zip(&self.queue) {
            *payload = IoSlice::new(queued.frame.bytes().get(queued.outer.payload()).unwrap_or(&[]));
        }
        let mut rest = (&self.queue[..], &payloads[..]);
        while let Some(first) = rest.0.first() {
            let group = first.group();
            let len = rest.0.iter().take_while(|q| q.group() == group).count();
            let (frames, frames_after) = rest.0.split_at(len);
            let (pieces, pieces_after) = rest.1.split_at(len.min(rest.1.len()));
            // GRE has one socket, whatever the source.
            let senders = self.senders.get_mut(usize::from(group.is_v6)).map_or(&mut [][..], |s| &mut s[..]);
            let at = group.source.checked_rem(senders.len());
            match at.and_then(|at| senders.get_mut(at)) {
                Some(sender) => {
                    let (reports, losses, headers) = (&*self.reports, &mut self.losses, &mut self.headers);
                    let mut batch = SendBatch { sender, reports, losses, headers };
                    batch.send(frames, pieces, group);
                }
                None => lose(&mut self.losses, Drop::TxError, frames),
            }
            rest = (frames_after, pieces_after);
        }
        for queued in self.queue.drain(..) {
            pool.give(queued.frame);
        }
    }
}

/// Frames of one socket on their way out.
struct SendBatch<'a> {
    sender: &'a mut Sender,
    reports: &'a Reports,
    losses: &'a mut Losses,
    headers: &'a mut Vec<u8>,
}

impl SendBatch<'_> {
    fn send(&mut self, frames: &[Queued], payloads: &[IoSlice<'_>], group: Group) {
        if self.sender.prepare(group).is_err() {
            lose(self.losses, Drop::TxError, frames);
            return;
        }
        let mut at = 0;
        // Up to here frames go one by one, as joined they were refused.
        let mut single_until = 0;
        let mut is_retry = false;
        while at < frames.len() {
            let (Some(frames), Some(payloads)) = (frames.get(at..), payloads.get(at..)) else { return };
            if let Some(Queued { frame, outer, cuts: Some(cuts), .. }) = frames.first() {
                if let Err(reason) = self.send_cut(frame.bytes(), outer, *cuts) {
                    lose(self.losses, reason, frames.get(..1).unwrap_or(frames));
                }
                at += 1;
                continue;
            }
            let joins = self.sender.joins && group.is_checked && at >= single_until;
            let (datagrams, lens, count) = arrange(frames, payloads, joins);
            let first_len = lens.first().copied().unwrap_or(1).max(1);
            match self.sender.socket.send(datagrams.get(..count).unwrap_or(&[])) {
                Ok(sent) if sent > 0 => {
                    if sent < count {
                        // The next was refused, perhaps for what an earlier one met.
                        self.take_reports();
                    }
                    at += lens.iter().take(sent).sum::<usize>().max(1);
                    is_retry = false;
                }
                Ok(_) => {
                    lose(self.losses, Drop::TxError, frames.get(..first_len).unwrap_or(frames));
                    at += first_len;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if first_len > 1 && is_about_joining(&error) => {
                    self.sender.joins &= error.raw_os_error() != Some(errno::EIO);
                    single_until = at + first_len;
                    self.take_reports();
                }
                Err(error) => {
                    let is_full = reason_of(&error) == Drop::TxFull;
                    if self.take_reports() && !is_full && !is_retry {
                        // The error may be an earlier datagram's.
                        is_retry = true;
                        continue;
                    }
                    is_retry = false;
                    let lost = if is_full { frames.len() } else { first_len };
                    lose(self.losses, reason_of(&error), frames.get(..lost).unwrap_or(frames));
                    at += lost;
                }
            }
        }
    }

    /// Sends the segments of a super-frame, as many as possible as one datagram.
    fn send_cut(&mut self, frame: &[u8], outer: &Outer, cuts: Cuts) -> Result<(), Drop> {
        let mut headers = std::mem::take(self.headers);
        let result = self.send_cut_by(&mut headers, frame, outer, cuts);
        *self.headers = headers;
        result
    }

    fn send_cut_by(
        &mut self,
        room: &mut Vec<u8>,
        frame: &[u8],
        outer: &Outer,
        mut cuts: Cuts,
    ) -> Result<(), Drop> {
        let (header_len, payload_at) = (cuts.header_len(), outer.payload().start);
        let segment_len = cuts.segment_len().saturating_sub(payload_at).max(1);
        let most = (PAYLOAD_MAX / segment_len).clamp(1, SEGMENTS_MAX);
        // In parts of about the same size.
        let count = cuts.remaining().div_ceil(cuts.remaining().div_ceil(most).max(1)).max(1);
        room.resize(count * header_len, 0);
        while cuts.remaining() > 0 {
            let mut payloads = [const { 0..0 }; SEGMENTS_MAX];
            let mut made = 0;
            for (payload, headers) in payloads.iter_mut().zip(room.chunks_exact_mut(header_len)) {
                let Some(place) = cuts.next_segment(frame, headers) else { break };
                *payload = place;
                made += 1;
            }
            let mut parts = [[IoSlice::new(&[]); 2]; SEGMENTS_MAX];
            let segments = room.chunks_exact(header_len).zip(&payloads).take(made);
            for (part, (headers, payload)) in parts.iter_mut().zip(segments) {
                *part = [headers.get(payload_at..), frame.get(payload.clone())]
                    .map(|piece| IoSlice::new(piece.unwrap_or_default()));
            }
            self.send_segments(parts.get(..made).unwrap_or_default(), segment_len, outer)?;
            if made == 0 {
                return Err(Drop::BadOffload);
            }
        }
        Ok(())
    }

    /// Sends segments, all of one length, but for the last which may be shorter.
    fn send_segments(
        &mut self,
        segments: &[[IoSlice<'_>; 2]],
        segment_len: usize,
        outer: &Outer,
    ) -> Result<(), Drop> {
        let segment_size = u16::try_from(segment_len).ok().filter(|_| segments.len() > 1);
        let mut datagram = Datagram {
            destination: outer.dst,
            port: outer.dst_port,
            source: outer.src,
            tos: outer.tos,
            ttl: outer.ttl,
            segment_size,
            payload: segments.as_flattened(),
        };
        let mut joins = self.sender.joins && outer.is_checked;
        let (mut at, mut is_retry) = (0, false);
        while at < segments.len() {
            let result = if joins {
                self.sender.socket.send(&[datagram]).map(|_| segments.len())
            } else {
                datagram.segment_size = None;
                let is_aimed = segments.len() >= AIM_MIN && self.sender.aim(&datagram);
                let parts = segments.iter().skip(at).map(|segment| &segment[..]);
                self.sender.socket.send_parts(Some(&datagram).filter(|_| !is_aimed), parts)
            };
            match result {
                Ok(0) => return Err(Drop::TxError),
                Ok(sent) => {
                    at += sent;
                    is_retry = false;
                    if at < segments.len() {
                        self.take_reports();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if joins && is_about_joining(&error) => {
                    joins = false;
                    self.sender.joins &= error.raw_os_error() != Some(errno::EIO);
                    self.take_reports();
                }
                Err(error) => {
                    let reason = reason_of(&error);
                    // The error may be an earlier datagram's.
                    if self.take_reports() && reason != Drop::TxFull && !is_retry {
                        is_retry = true;
                        continue;
                    }
                    return Err(reason);
                }
            }
        }
        Ok(())
    }

    /// Takes in what the socket tells of earlier datagrams. Says whether it told anything.
    #[cold]
    fn take_reports(&self) -> bool {
        for taken in 0..REPORTS_MAX {
            match self.sender.socket.take_report() {
                Ok(Some(report)) => match report.mtu {
                    Some(mtu) => self.reports.note_mtu(report.destination, mtu),
                    None => self.reports.icmp_errors.add(1),
                },
                _ => return taken > 0,
            }
        }
        true
    }
}

/// What the kernel says of several datagrams in one that it would say of none of them, or that only some may deserve.
fn is_about_joining(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(errno::EINVAL | errno::EMSGSIZE | errno::EIO))
}

/// The datagrams that frames make, of how many frames each consists, and how many datagrams there are.
fn arrange<'a>(
    frames: &[Queued],
    payloads: &'a [IoSlice<'a>],
    joins: bool,
) -> ([Datagram<'a>; SEND_MAX], [usize; SEND_MAX], usize) {
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let nothing = Datagram {
        destination: nowhere,
        port: 0,
        source: nowhere,
        tos: 0,
        ttl: 0,
        segment_size: None,
        payload: &[],
    };
    let (mut datagrams, mut lens, mut count) = ([nothing; SEND_MAX], [0; SEND_MAX], 0);
    let (mut frames, mut payloads) = (frames, payloads);
    for (datagram, len) in datagrams.iter_mut().zip(&mut lens) {
        let (Some(first), Some(size)) = (frames.first(), payloads.first().map(|p| p.len())) else { break };
        if first.cuts.is_some() {
            break;
        }
        *len = if joins { run_len(frames, payloads) } else { 1 };
        let (pieces, payloads_after) = payloads.split_at((*len).min(payloads.len()));
        *datagram = Datagram {
            destination: first.outer.dst,
            port: first.outer.dst_port,
            source: first.outer.src,
            tos: first.outer.tos,
            ttl: first.outer.ttl,
            segment_size: u16::try_from(size).ok().filter(|_| *len > 1),
            payload: pieces,
        };
        (frames, payloads) = (frames.get(*len..).unwrap_or(&[]), payloads_after);
        count += 1;
    }
    (datagrams, lens, count)
}

/// How many frames from the first on can go as one datagram: equal in all but the inner frame, of one length, except that the
/// last may be shorter.
fn run_len(frames: &[Queued], payloads: &[IoSlice<'_>]) -> usize {
    let (Some(first), Some(size)) = (frames.first(), payloads.first().map(|p| p.len())) else { return 0 };
    if size == 0 || u16::try_from(size).is_err() {
        return 1;
    }
    let (mut len, mut total) = (1, size);
    for (frame, payload) in frames.iter().zip(payloads).take(SEGMENTS_MAX).skip(1) {
        let next = payload.len();
        if !first.joins(frame) || next > size || next == 0 || total + next > PAYLOAD_MAX {
            break;
        }
        len += 1;
        total += next;
        if next < size {
            break;
        }
    }
    len
}

impl Tx for TunnelTx {
    fn send(&mut self, mut frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        if frame.segmentation != Segmentation::None {
            return Err((frame, Drop::BadOffload));
        }
        if matches!(frame.checksum, Checksum::Partial { .. })
            && frame.inner_segmentation == Segmentation::None
        {
            frame.complete_checksum();
        }
        let mut outer = match Outer::read(frame.bytes()) {
            Some(outer) if (outer.dst_port != 0) == self.is_udp => outer,
            _ => return Err((frame, Drop::TxError)),
        };
        let is_uncut = frame.inner_segmentation != Segmentation::None;
        let cuts = if is_uncut { Cuts::of(&frame) } else { None };
        if is_uncut {
            // What the outer header says is the length of the first segment's packet.
            outer.payload.1 = frame.len() as u32;
            if cuts.is_none() {
                return Err((frame, Drop::BadOffload));
            }
        }
        if self.queue.len() >= QUEUE_MAX {
            self.transmit(pool);
        }
        self.queue.push(Queued { frame, outer, cuts, number: self.queue.len() });
        Ok(())
    }

    fn cuts_in_tunnels(&self) -> bool {
        self.is_udp
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        if !self.queue.is_empty() {
            self.transmit(pool);
        }
        Ok(())
    }

    fn take_lost(&mut self) -> Option<TxLost> {
        self.losses.take()
    }
}
