//! Tunnels: outer headers pushed, with all that has to happen before, and popped.

use super::{Executor, Next, Origin};
use crate::action::{DpAction, RecircId};
use crate::drop::Drop;
use crate::ports::PortIndex;
use crate::slowpath::SlowPath;
use packet::tunnel::{self, TunnelError, TunnelProtocol, TunnelPush};
use packet::{DpPort, Frame, PacketKey, Segmentation, Segments};

impl Executor {
    /// Encapsulates a frame and does the rest of the program to what comes out: to each segment of a super-frame.
    pub(super) fn run_in_tunnel<S: SlowPath>(
        &mut self,
        push: &TunnelPush,
        rest: &[DpAction],
        frame: Frame,
        origin: &mut Origin<'_>,
        slow: &S,
    ) -> Option<Next> {
        if frame.segmentation == Segmentation::None {
            return self.run_encapsulated(push, rest, frame, origin, slow);
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
            // No segment is longer than the first: one answer tells the sender all.
            if ends == 0 && self.refuse_too_big(push, &segment, ingress) {
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
        let frame = segments.into_frame();
        if ends == 0 {
            self.drop_frame(frame, ingress, Drop::BadOffload);
            return None;
        }
        self.count_clones(ingress, ends - 1);
        self.pool.give(frame);
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
                TunnelError::TooBig => {
                    self.answer_too_big(push, &frame, ingress);
                    Drop::TunnelTooBig
                }
                TunnelError::Addresses => Drop::NoRoute,
                _ => Drop::Rewrite,
            };
            self.drop_frame(frame, ingress, reason);
            return None;
        }
        // Most programs only output what was pushed; any other step needs to know where the outer layers are, and nothing of
        // what the key said of the inner frame.
        if !matches!(rest, [DpAction::Output(_)]) {
            let (port, id) = (origin.key.in_port(), origin.key.get(packet::slot::RECIRC_ID));
            *origin.key = PacketKey::default();
            if origin.key.extract_headers(&mut frame).is_err() {
                self.drop_frame(frame, ingress, Drop::Rewrite);
                return None;
            }
            origin.key.set_in_port(port);
            origin.key.set(packet::slot::RECIRC_ID, id);
            origin.rewritten = false;
        }
        self.run(rest, frame, origin, slow, None)
    }

    /// Whether a segment does not fit; its sender is then told.
    fn refuse_too_big(&mut self, push: &TunnelPush, segment: &Frame, ingress: PortIndex) -> bool {
        let packet_len = segment.packet_end().saturating_sub(usize::from(segment.layers.l3));
        let too_big = packet_len > usize::from(tunnel::inner_mtu(segment, push));
        if too_big {
            self.answer_too_big(push, segment, ingress);
        }
        too_big
    }

    /// Tells the sender of a packet that it does not fit the tunnel (RFC 1191, RFC 8201).
    fn answer_too_big(&mut self, push: &TunnelPush, frame: &Frame, ingress: PortIndex) {
        let mtu = tunnel::inner_mtu(frame, push);
        if let Some(answer) = tunnel::too_big(frame, mtu, &mut self.pool) {
            // Made here and not received, so it counts as a copy of the frame that it answers.
            self.count_clones(ingress, 1);
            self.output(frame.in_port, answer, ingress);
        }
    }

    /// Decapsulates a frame, which is to be looked up as one fresh from the tunnel's port.
    pub(super) fn pop_tunnel<S: SlowPath>(
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
        origin.key.set_in_port(port);
        Some(Next::Recirculate(frame, RecircId(0)))
    }
}
