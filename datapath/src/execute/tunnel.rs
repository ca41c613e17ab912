//! Tunnels: outer headers pushed, with all that has to happen before, and popped.

use super::{Executor, Next, Origin};
use crate::action::{DpAction, RecircId};
use crate::drop::Drop;
use crate::ports::PortIndex;
use crate::slowpath::SlowPath;
use packet::tunnel::{self, TunnelError, TunnelProtocol, TunnelPush};
use packet::wire::ETHERTYPE_IPV4;
use packet::{DpPort, Frame, PacketKey, Segmentation, Segments, fragment, slot};

impl Executor {
    /// Encapsulates a frame and does the rest of the program to what comes out: to each segment of a super-frame, unless the port
    /// it goes to cuts it. One that its sender put into a tunnel itself is cut here, since ports cut in one tunnel only.
    pub(super) fn run_in_tunnel<S: SlowPath>(
        &mut self,
        push: &TunnelPush,
        rest: &[DpAction],
        mut frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<Next> {
        if !frame.is_super_frame() {
            return self.run_encapsulated(push, rest, frame, origin, slow);
        }
        let ingress = origin.ingress;
        if let [DpAction::Output(port)] = rest
            && self.ports.cuts_in_tunnels(*port)
            && tunnel::push_uncut(&mut frame, push, self.seed).is_ok()
        {
            self.output(*port, frame, ingress);
            return None;
        }
        let mut segments = match Segments::new(frame) {
            Ok(segments) => segments,
            Err(frame) => {
                self.drop_frame(frame, ingress, Drop::BadOffload);
                return None;
            }
        };
        let mut ends = 0u64;
        while let Some(segment) = segments.next_segment(&mut self.pool) {
            // No segment is longer than the first: one answer tells the sender all.
            if ends == 0 && self.refuse_too_big(push, &segment, origin) {
                self.pool.give(segment);
                self.drop_frame(segments.into_frame(), ingress, Drop::TunnelTooBig);
                return None;
            }
            let mut key = *origin.key;
            let mut own = Origin { held: None, key: &mut key, ..*origin };
            if let Some(Next::Recirculate(frame, id)) =
                self.run_encapsulated(push, rest, segment, &mut own, slow)
            {
                self.wait(frame, key, id, ingress);
            }
            ends += 1;
        }
        self.end_super_frame(segments.into_frame(), ends, ingress);
        None
    }

    fn run_encapsulated<S: SlowPath>(
        &mut self,
        push: &TunnelPush,
        rest: &[DpAction],
        mut frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<Next> {
        let ingress = origin.ingress;
        if let Err(error) = tunnel::push(&mut frame, push, self.seed) {
            let reason = match error {
                TunnelError::TooBig => return self.run_fragmented(push, rest, frame, origin, slow),
                TunnelError::Addresses => Drop::NoRoute,
                _ => Drop::Rewrite,
            };
            self.drop_frame(frame, ingress, reason);
            return None;
        }
        // Most programs only output what was pushed; any other step needs to know where the outer layers are, and nothing of
        // what the key said of the inner frame.
        if !matches!(rest, [DpAction::Output(_)]) {
            let (port, id) = (origin.key.in_port(), origin.key.get(slot::RECIRC_ID));
            self.received.keep(origin.key, &frame);
            // This host's own packet, whose sender is not to be told of another tunnel that it may come to.
            frame.in_port = DpPort::NONE;
            *origin.key = PacketKey::default();
            if origin.key.extract_headers(&mut frame).is_err() {
                self.drop_frame(frame, ingress, Drop::Rewrite);
                return None;
            }
            origin.key.set_in_port(port);
            origin.key.set(slot::RECIRC_ID, id);
            origin.rewritten = false;
        }
        self.run(rest, frame, origin, slow, None)
    }

    /// Encapsulates a packet that does not fit in pieces, if its sender allows that; else tells the sender.
    fn run_fragmented<S: SlowPath>(
        &mut self,
        push: &TunnelPush,
        rest: &[DpAction],
        frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<Next> {
        let ingress = origin.ingress;
        let mtu = usize::from(tunnel::inner_mtu(&frame, push));
        let mut pieces = std::mem::take(&mut self.pieces);
        // Nobody on an IPv6 packet's way may cut it (RFC 8200 section 5).
        let is_ipv4 = origin.key.dl_type() == ETHERTYPE_IPV4;
        if is_ipv4
            && fragment::split(&frame, mtu, 0, &mut self.pool, |f| pieces.push(f)).is_ok()
            && pieces.len() > 1
        {
            self.count_clones(ingress, pieces.len() as u64 - 1);
            self.pool.give(frame);
            for piece in pieces.drain(..) {
                let mut key = *origin.key;
                let mut own = Origin { held: None, key: &mut key, ..*origin };
                if let Some(Next::Recirculate(frame, id)) =
                    self.run_encapsulated(push, rest, piece, &mut own, slow)
                {
                    self.wait(frame, key, id, ingress);
                }
            }
        } else {
            pieces.drain(..).for_each(|piece| self.pool.give(piece));
            self.answer_too_big(push, &frame, origin);
            self.drop_frame(frame, ingress, Drop::TunnelTooBig);
        }
        self.pieces = pieces;
        None
    }

    /// Whether a segment does not fit; its sender is then told.
    fn refuse_too_big(&mut self, push: &TunnelPush, segment: &Frame, origin: &Origin<'_>) -> bool {
        let packet_len = segment.packet_end().saturating_sub(usize::from(segment.layers.l3));
        let too_big = packet_len > usize::from(tunnel::inner_mtu(segment, push));
        if too_big {
            self.answer_too_big(push, segment, origin);
        }
        too_big
    }

    /// Tells the sender of a packet that it does not fit the tunnel (RFC 1191, RFC 8201). The answer is about the packet as it
    /// was sent, and comes from whom it was sent to: another MAC or IP address, port or tag, which the tables gave it on the
    /// way, would be unknown to the sender (RFC 5508 section 4.2 has NATs translate such errors back for that reason).
    ///
    /// A sender behind another tunnel is not told: which tunnel leads to it is for the tables to say, not for a port. Nor is a
    /// controller, which has no port.
    fn answer_too_big(&mut self, push: &TunnelPush, frame: &Frame, origin: &Origin<'_>) {
        let is_from_tunnel = [slot::TUN_SRC, slot::TUN_IPV6_SRC].iter().any(|s| origin.key.get(*s) != 0);
        if is_from_tunnel || frame.in_port == DpPort::NONE {
            return;
        }
        if !self.answers.take(origin.now) {
            return;
        }
        let mtu = tunnel::inner_mtu(frame, push);
        let mut sent = self.pool.copy_of(frame);
        if self.received.restore(&mut sent, origin.key)
            && let Some(answer) = tunnel::too_big(&sent, mtu, &mut self.pool)
        {
            // Made here and not received, so it counts as a copy of the frame that it answers.
            self.count_clones(origin.ingress, 1);
            self.output(frame.in_port, answer, origin.ingress);
        }
        self.pool.give(sent);
    }

    /// Decapsulates a frame, which is to be looked up as one fresh from the tunnel's port. Of a super-frame of outer
    /// datagrams each is decapsulated by itself.
    pub(super) fn leave_tunnel<S: SlowPath>(
        &mut self,
        protocol: TunnelProtocol,
        port: DpPort,
        frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<Next> {
        if !matches!(frame.segmentation, Segmentation::UdpL4 { .. }) {
            return self.pop_tunnel(protocol, port, frame, origin, slow);
        }
        let ingress = origin.ingress;
        let mut segments = match Segments::new(frame) {
            Ok(segments) => segments,
            Err(frame) => {
                self.drop_frame(frame, ingress, Drop::BadOffload);
                return None;
            }
        };
        let mut ends = 0u64;
        while let Some(segment) = segments.next_segment(&mut self.pool) {
            let mut key = *origin.key;
            let mut own = Origin { held: None, key: &mut key, ..*origin };
            if let Some(Next::Recirculate(frame, id)) =
                self.pop_tunnel(protocol, port, segment, &mut own, slow)
            {
                self.wait(frame, key, id, ingress);
            }
            ends += 1;
        }
        self.end_super_frame(segments.into_frame(), ends, ingress);
        None
    }

    /// What is left of a super-frame whose segments have all been handled.
    fn end_super_frame(&mut self, frame: Frame, segments: u64, ingress: PortIndex) {
        if segments == 0 {
            return self.drop_frame(frame, ingress, Drop::BadOffload);
        }
        self.count_clones(ingress, segments - 1);
        self.pool.give(frame);
    }

    /// Decapsulates one packet.
    fn pop_tunnel<S: SlowPath>(
        &mut self,
        protocol: TunnelProtocol,
        port: DpPort,
        mut frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<Next> {
        if tunnel::pop(&mut frame, protocol, origin.key, slow.geneve_map()).is_err() {
            self.drop_frame(frame, origin.ingress, Drop::BadTunnel);
            return None;
        }
        frame.in_port = port;
        if frame.segmentation != Segmentation::None {
            // Read here for its layers, by which the announcement is judged; and again when it is looked up.
            let read = PacketKey::default().extract_headers(&mut frame);
            if read.and_then(|()| frame.validate_offload()).is_err() {
                self.drop_frame(frame, origin.ingress, Drop::BadOffload);
                return None;
            }
        }
        origin.key.set_in_port(port);
        Some(Next::Recirculate(frame, RecircId(0)))
    }
}
