//! The TCP state machine with window tracking, after Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"
//! (2000), in the form that pf and OVS made of it.
//!
//! Each end has a state, the end of what it has sent, up to where it may send as far as the other end's acknowledgements
//! and windows say, and the largest window it announced. A segment is good if it ends within what its sender may send,
//! begins no further back than a window, and acknowledges neither much more nor much less than the other end has sent. So
//! retransmissions and selective acknowledgements pass, and blind injection does not.
//!
//! Connections whose SYN was not seen are picked up in the middle; their window scales are unknown and taken for the
//! largest.

use super::config::TimeoutKind;
use super::connection::{Connection, State};
use super::tuple::Direction;
use std::fmt;
use std::sync::atomic::Ordering;

/// FIN, SYN, RST, PSH, ACK, URG as they stand in the header (RFC 9293 section 3.1).
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;

/// By how much an acknowledgement may differ from what the other end has sent: the largest unscaled window and a frame.
const ACK_SKEW_MAX: i32 = 0xffff + 1500;
/// Largest window scale (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;

/// State of one end, as OVS names and orders them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum TcpState {
    /// Nothing was seen from this end.
    Closed,
    /// Not used by the tracker; part of the numbering.
    Listen,
    /// It has sent.
    SynSent,
    /// Not used by the tracker.
    SynRecv,
    /// The other end has acknowledged what it sent.
    Established,
    /// Not used by the tracker.
    CloseWait,
    /// Not used by the tracker.
    FinWait1,
    /// It has sent FIN.
    Closing,
    /// Not used by the tracker.
    LastAck,
    /// Its FIN is acknowledged.
    FinWait2,
    /// There was a RST.
    TimeWait,
}

impl TcpState {
    /// All states, in order.
    pub const ALL: [TcpState; 11] = [
        TcpState::Closed,
        TcpState::Listen,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::Established,
        TcpState::CloseWait,
        TcpState::FinWait1,
        TcpState::Closing,
        TcpState::LastAck,
        TcpState::FinWait2,
        TcpState::TimeWait,
    ];

    /// From the low four bits.
    #[inline]
    pub(super) const fn from_bits(bits: u8) -> TcpState {
        match bits & 0xf {
            2 => TcpState::SynSent,
            4 => TcpState::Established,
            7 => TcpState::Closing,
            9 => TcpState::FinWait2,
            10 => TcpState::TimeWait,
            _ => TcpState::Closed,
        }
    }

    /// As `dpctl/dump-conntrack` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            TcpState::Closed => "CLOSED",
            TcpState::Listen => "LISTEN",
            TcpState::SynSent => "SYN_SENT",
            TcpState::SynRecv => "SYN_RECV",
            TcpState::Established => "ESTABLISHED",
            TcpState::CloseWait => "CLOSE_WAIT",
            TcpState::FinWait1 => "FIN_WAIT_1",
            TcpState::Closing => "CLOSING",
            TcpState::LastAck => "LAST_ACK",
            TcpState::FinWait2 => "FIN_WAIT_2",
            TcpState::TimeWait => "TIME_WAIT",
        }
    }

    /// The one state that stands for both ends where only one is shown: the further one, in the terms of Linux's tracker.
    pub fn merged(original: TcpState, reply: TcpState) -> TcpState {
        match original.max(reply) {
            TcpState::FinWait2 => TcpState::TimeWait,
            TcpState::SynRecv => TcpState::Established,
            state => state,
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the tracker reads of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// The low eight flags.
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    /// As in the header, unscaled.
    pub window: u16,
    /// Payload bytes.
    pub len: u32,
    /// The window scale option; only read if SYN is set.
    pub scale: Option<u8>,
}

/// What a segment means to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Part of it.
    Valid,
    /// A repeated SYN: it is still new.
    New,
    /// The connection is over, and this SYN begins another by the same name.
    Reopen,
    /// Not part of it.
    Invalid,
}

/// Whether flags are set that never go together, or none that must be (null, FIN alone, xmas, SYN with FIN or RST).
#[inline]
pub(super) const fn has_impossible_flags(flags: u8) -> bool {
    if flags & SYN != 0 && flags & (FIN | RST) != 0 {
        return true;
    }
    if flags & (SYN | ACK | RST) == 0 {
        return true;
    }
    flags & ACK == 0 && flags & (FIN | PSH | URG) != 0
}

/// Whether a segment may begin a connection: a SYN may, a SYN+ACK may not, and others may if connections are picked up.
pub(super) const fn may_begin(segment: &Segment, loose: bool) -> bool {
    !has_impossible_flags(segment.flags)
        && if segment.flags & SYN != 0 { segment.flags & ACK == 0 } else { loose }
}

const WINDOW_BITS: u32 = 16;
/// The end announced a scale.
const SCALE_KNOWN: u32 = 1 << 20;
/// The end was picked up after it would have announced one.
const SCALE_UNKNOWN: u32 = 1 << 21;

/// Largest window and scale of one end, as a word of [`Connection::windows`].
#[derive(Clone, Copy)]
struct Window(u32);

impl Window {
    const fn new(size: u16, scale: u8, flags: u32) -> Window {
        Window(size as u32 | (scale as u32) << WINDOW_BITS | flags)
    }

    const fn size(self) -> u32 {
        self.0 & 0xffff
    }

    const fn scale(self) -> u8 {
        (self.0 >> WINDOW_BITS & 0xf) as u8
    }

    const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// The scales by which windows of sender and receiver are to be multiplied in this segment.
#[inline]
fn scales(flags: u8, src: Window, dst: Window) -> (u8, u8) {
    if flags & SYN != 0 {
        // Windows of SYN segments are never scaled (RFC 7323 section 2.2).
        (0, 0)
    } else if src.has(SCALE_KNOWN) && dst.has(SCALE_KNOWN) {
        (src.scale(), dst.scale())
    } else if src.has(SCALE_UNKNOWN) && dst.has(SCALE_UNKNOWN) {
        (SCALE_MAX, SCALE_MAX)
    } else {
        (0, 0)
    }
}

/// `a` is at or after `b` in sequence space.
#[inline]
const fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

const fn index(direction: Direction) -> usize {
    match direction {
        Direction::Original => 0,
        Direction::Reply => 1,
    }
}

/// What is known of both ends, seen from the sender of a segment.
#[derive(Clone, Copy)]
struct View<'a> {
    connection: &'a Connection,
    direction: Direction,
    /// End of what the sender has sent.
    src_lo: u32,
    /// Up to where it may send.
    src_hi: u32,
    dst_lo: u32,
    dst_hi: u32,
    src_window: Window,
    dst_window: Window,
    /// Whether the receiver was heard, so that `dst_lo` means something.
    dst_is_heard: bool,
}

impl<'a> View<'a> {
    #[inline]
    fn of(connection: &'a Connection, direction: Direction, state: State) -> View<'a> {
        let [a, b] = &connection.ends;
        let [wa, wb] = &connection.windows;
        let (mine, theirs, my_window, their_window) = match direction {
            Direction::Original => (a, b, wa, wb),
            Direction::Reply => (b, a, wb, wa),
        };
        let (mine, theirs) = (mine.load(Ordering::Relaxed), theirs.load(Ordering::Relaxed));
        View {
            connection,
            direction,
            src_lo: (mine >> 32) as u32,
            dst_hi: mine as u32,
            dst_lo: (theirs >> 32) as u32,
            src_hi: theirs as u32,
            src_window: Window(my_window.load(Ordering::Relaxed)),
            dst_window: Window(their_window.load(Ordering::Relaxed)),
            dst_is_heard: direction == Direction::Reply || state.has(State::REPLIED),
        }
    }

    /// Stores what a segment of this direction changes; only if it changes.
    #[inline]
    fn store(&self, before: &View<'_>) {
        if (self.src_lo, self.dst_hi) != (before.src_lo, before.dst_hi)
            && let Some(word) = self.connection.ends.get(index(self.direction))
        {
            word.store(u64::from(self.src_lo) << 32 | u64::from(self.dst_hi), Ordering::Relaxed);
        }
        if self.src_window.0 != before.src_window.0
            && let Some(word) = self.connection.windows.get(index(self.direction))
        {
            word.store(self.src_window.0, Ordering::Relaxed);
        }
    }

    /// Stores what only the first segment of an end changes in the other end's words.
    fn store_other(&self) {
        let other = index(self.direction.opposite());
        if let Some(word) = self.connection.ends.get(other) {
            let hi = u64::from(self.src_hi);
            let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |w| Some(w & !0xffff_ffff | hi));
        }
        if let Some(word) = self.connection.windows.get(other) {
            word.store(self.dst_window.0, Ordering::Relaxed);
        }
    }

    /// Notes what a good segment shows: what was sent, the largest window, and how far the other end may send.
    #[inline]
    fn learn(&mut self, end: u32, ack: u32, segment: &Segment, src_scale: u8) {
        self.widen(segment.window);
        if !at_or_after(self.src_lo, end) {
            self.src_lo = end;
        }
        let window = u32::from(segment.window) << src_scale;
        // Without an acknowledgement `ack` stands for what the other end has sent, which may be unknown.
        let begins = segment.flags & ACK != 0 && segment.ack == ack || self.dst_is_heard;
        if begins && at_or_after(ack.wrapping_add(window), self.dst_hi) {
            self.dst_hi = ack.wrapping_add(window.max(1));
        }
    }

    #[inline]
    fn widen(&mut self, window: u16) {
        if self.src_window.size() < u32::from(window) {
            self.src_window.0 = self.src_window.0 & !0xffff | u32::from(window);
        }
    }
}

/// The sequence number behind a segment; SYN and FIN count for one each.
#[inline]
fn end_of(segment: &Segment) -> u32 {
    let flags = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
    segment.seq.wrapping_add(segment.len).wrapping_add(flags)
}

/// Sets up both ends for a connection that begins with `segment`.
pub(super) fn begin(connection: &Connection, segment: &Segment) {
    let end = end_of(segment);
    let is_syn = segment.flags & SYN != 0;
    let mut size = segment.window.max(1);
    let (mine, theirs) = match (is_syn, segment.scale) {
        (true, Some(scale)) => {
            let scale = scale.min(SCALE_MAX);
            // As small as if it had been scaled, to be multiplied from now on.
            size = size.div_ceil(1 << scale);
            (Window::new(size, scale, SCALE_KNOWN), Window::new(1, 0, 0))
        }
        (true, None) => (Window::new(size, 0, 0), Window::new(1, 0, 0)),
        (false, _) => (Window::new(size, 0, SCALE_UNKNOWN), Window::new(1, 0, SCALE_UNKNOWN)),
    };
    let [original, reply] = &connection.ends;
    original.store(u64::from(end) << 32 | 1, Ordering::Relaxed);
    reply.store(u64::from(end.wrapping_add(1)), Ordering::Relaxed);
    let [original, reply] = &connection.windows;
    original.store(mine.0, Ordering::Relaxed);
    reply.store(theirs.0, Ordering::Relaxed);
}

/// The state of a connection that begins.
pub(super) const fn first_state() -> u64 {
    State(0).with_tcp(Direction::Original, TcpState::SynSent).0
}

/// Runs one segment through the state machine. `check` says whether windows count.
pub(super) fn update(
    connection: &Connection,
    direction: Direction,
    segment: &Segment,
    check: bool,
) -> Verdict {
    if has_impossible_flags(segment.flags) {
        return Verdict::Invalid;
    }
    let state = connection.load();
    let (src, dst) = (state.tcp(direction), state.tcp(direction.opposite()));
    if segment.flags & (SYN | ACK) == SYN {
        if dst >= TcpState::FinWait2 && src >= TcpState::FinWait2 {
            return Verdict::Reopen;
        }
        if src <= TcpState::SynSent && direction == Direction::Original {
            // Repeated, perhaps with another number: the end's first segment counts anew if nothing was answered.
            if dst == TcpState::Closed {
                begin(connection, segment);
            }
            return Verdict::New;
        }
    }
    let mut view = View::of(connection, direction, state);
    let before = view;
    let (mut src_scale, mut dst_scale) = scales(segment.flags, view.src_window, view.dst_window);
    let mut segment = *segment;
    let end = end_of(&segment);
    let mut skew_counts = true;
    // An end that the other reset before it was heard has a state, but no numbers.
    let is_first = match direction {
        Direction::Original => src < TcpState::SynSent,
        Direction::Reply => !state.has(State::REPLIED),
    };
    if is_first {
        (src_scale, dst_scale) = first_of_end(&mut view, &mut segment, (src_scale, dst_scale));
        view.src_lo = segment.seq;
        let reach = (view.dst_window.size() << dst_scale).max(1);
        if view.src_hi == 1 || at_or_after(end.wrapping_add(reach), view.src_hi) {
            // The end is picked up now: what it acknowledges says nothing yet.
            view.src_hi = end.wrapping_add(reach);
            skew_counts = false;
        }
        view.widen(segment.window);
    }
    let ack = acknowledged(&segment, &view);
    let (mut seq, mut end) = (segment.seq, end);
    if seq == end {
        // A segment without data may come late.
        (seq, end) = (view.src_lo, view.src_lo);
    }
    let skew = if skew_counts { view.dst_lo.wrapping_sub(ack) as i32 } else { 0 };
    let reset_fits = segment.flags & RST == 0 || reset_fits(segment.seq, &view);
    let in_window = fits(&view, (seq, end), skew, (src_scale, dst_scale)) && reset_fits;
    if in_window || !check {
        view.learn(end, ack, &segment, src_scale);
    } else if (dst < TcpState::SynSent || dst >= TcpState::FinWait2 || src >= TcpState::FinWait2)
        && at_or_after(view.src_hi.wrapping_add(ACK_SKEW_MAX as u32), end)
        && at_or_after(seq, view.src_lo.wrapping_sub(ACK_SKEW_MAX as u32))
        && (segment.flags & RST == 0 || reset_fits)
    {
        // Both ends sent SYN at once, or the connection is being torn down: near is good enough.
        view.widen(segment.window);
        if !at_or_after(view.src_lo, end) {
            view.src_lo = end;
        }
    } else {
        return Verdict::Invalid;
    }
    view.store(&before);
    if is_first {
        view.store_other();
    }
    advance(connection, direction, segment.flags);
    Verdict::Valid
}

/// Whether a segment lies where its sender may send, and acknowledges what the other end may have sent.
#[inline]
fn fits(view: &View<'_>, (seq, end): (u32, u32), skew: i32, (src_scale, dst_scale): (u8, u8)) -> bool {
    at_or_after(view.src_hi, end)
        && at_or_after(seq, view.src_lo.wrapping_sub(view.dst_window.size() << dst_scale))
        && skew >= -ACK_SKEW_MAX
        && i64::from(skew) <= i64::from(ACK_SKEW_MAX) << src_scale
}

/// Whether flags are those of data and an acknowledgement and nothing else.
#[inline]
pub(super) const fn is_bare(flags: u8) -> bool {
    flags & (SYN | FIN | RST | ACK) == ACK
}

/// What [`update`] does with a bare segment while both ends are established, which moves no state. False, and nothing
/// changed, if the segment may not be good.
#[inline]
pub(super) fn update_bare(
    connection: &Connection,
    direction: Direction,
    segment: &Segment,
    check: bool,
) -> bool {
    let mut view = View::of(connection, direction, State(State::REPLIED));
    let before = view;
    let scales = scales(segment.flags, view.src_window, view.dst_window);
    let (mut seq, mut end) = (segment.seq, segment.seq.wrapping_add(segment.len));
    if seq == end {
        // A segment without data may come late.
        (seq, end) = (view.src_lo, view.src_lo);
    }
    let skew = view.dst_lo.wrapping_sub(segment.ack) as i32;
    if check && !fits(&view, (seq, end), skew, scales) {
        return false;
    }
    view.learn(end, segment.ack, segment, scales.0);
    view.store(&before);
    true
}

/// The first segment of an end settles the scales of both. Returns those that count for it.
fn first_of_end(view: &mut View<'_>, segment: &mut Segment, scales: (u8, u8)) -> (u8, u8) {
    if segment.flags & SYN == 0 || !view.dst_window.has(SCALE_KNOWN) {
        return scales;
    }
    match segment.scale {
        Some(scale) => {
            let scale = scale.min(SCALE_MAX);
            view.src_window = Window::new(view.src_window.size() as u16, scale, SCALE_KNOWN);
            segment.window = segment.window.div_ceil(1 << scale);
            (scale, view.dst_window.scale())
        }
        None => {
            // Only one end offers to scale, so neither does (RFC 7323 section 2.2).
            let size = view.dst_window.size() << view.dst_window.scale();
            view.dst_window = Window::new(size.min(0xffff) as u16, 0, 0);
            scales
        }
    }
}

/// Whether a RST is exactly where its sender is, give or take one (RFC 5961 section 3.2 asks for the exact place).
fn reset_fits(seq: u32, view: &View<'_>) -> bool {
    seq.wrapping_sub(view.src_lo).wrapping_add(1) <= 2
}

/// What a segment acknowledges; what the other end has sent if it acknowledges nothing.
#[inline]
fn acknowledged(segment: &Segment, view: &View<'_>) -> u32 {
    let none = segment.flags & ACK == 0;
    // A RST that answers a SYN may come without a number.
    let broken = segment.ack == 0 && segment.flags & (ACK | RST) == (ACK | RST);
    if none || broken { view.dst_lo } else { segment.ack }
}

/// Moves the states of both ends.
#[inline]
fn advance(connection: &Connection, direction: Direction, flags: u8) {
    connection.change(|state| {
        let (mut src, mut dst) = (state.tcp(direction), state.tcp(direction.opposite()));
        if src < TcpState::SynSent {
            src = TcpState::SynSent;
        }
        if flags & FIN != 0 && src < TcpState::Closing {
            src = TcpState::Closing;
        }
        if flags & ACK != 0 {
            dst = match dst {
                TcpState::SynSent => TcpState::Established,
                TcpState::Closing => TcpState::FinWait2,
                other => other,
            };
        }
        if flags & RST != 0 {
            (src, dst) = (TcpState::TimeWait, TcpState::TimeWait);
        }
        Some(state.with_tcp(direction, src).with_tcp(direction.opposite(), dst))
    });
}

/// Whether a segment may be tracked by a connection that a cached flow holds: nothing but data and acknowledgements that
/// move no state, so that neither another class nor a shorter timeout can come of it. Of a half-closed connection too.
#[inline]
pub(super) fn is_plain(state: State, direction: Direction, flags: u8) -> bool {
    let (src, dst) = (state.tcp(direction), state.tcp(direction.opposite()));
    flags & (SYN | FIN | RST) == 0
        && matches!(src, TcpState::Established | TcpState::Closing | TcpState::FinWait2)
        && matches!(dst, TcpState::Established | TcpState::FinWait2)
}

/// What a connection waits for.
pub(super) fn timeout_kind(state: State) -> TimeoutKind {
    let (a, b) = (state.tcp(Direction::Original), state.tcp(Direction::Reply));
    let (less, more) = (a.min(b), a.max(b));
    if less >= TcpState::FinWait2 {
        TimeoutKind::TcpClose
    } else if less >= TcpState::Closing {
        TimeoutKind::TcpTimeWait
    } else if b == TcpState::Closed {
        TimeoutKind::TcpSynSent
    } else if less < TcpState::Established {
        TimeoutKind::TcpSynRecv
    } else if more >= TcpState::Closing {
        TimeoutKind::TcpFinWait
    } else {
        TimeoutKind::TcpEstablished
    }
}
