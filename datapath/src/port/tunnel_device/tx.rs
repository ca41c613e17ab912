//! The sending side: outer headers taken off, several frames a call, super-frames as they are.

use super::rx::{VXLAN_LEN, VXLAN_VNI};
use crate::drop::Drop;
use crate::port::batching::FRAMES_MAX;
use crate::port::tunnel_socket::outer::Outer;
use crate::port::{Losses, PortError, Tx, TxLost, reason_of, vnet};
use packet::{Checksum, Frame, FramePool, Segmentation};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sys::errno;
use sys::vnet::PACKET_HEADER_LENGTH;
use sys::vxlan::{TunnelKey, VxlanSender};

/// A frame that waits.
struct Queued {
    /// The inner one, behind its virtio-net header.
    frame: Frame,
    key: TunnelKey,
    /// With its outer headers.
    bytes: u64,
}

/// The sending side of one worker.
pub(super) struct DeviceTx {
    sender: VxlanSender,
    port: u16,
    queue: Vec<Queued>,
    losses: Losses,
    /// Frames that the kernel has taken since losses were last asked for.
    sent: u64,
    /// Packets that the device counts as lost behind us, for one of the workers to report.
    undelivered: Arc<AtomicU64>,
    failed: Option<PortError>,
}

/// Takes the outer headers off a packet of a tunnel at UDP port `port`. What they said, if they are those of a VXLAN packet without
/// extensions.
fn unwrap(frame: &mut Frame, port: u16) -> Option<TunnelKey> {
    let outer = Outer::read(frame.bytes()).filter(|outer| outer.dst_port == port)?;
    let payload = outer.payload();
    let &[VXLAN_VNI, 0, 0, 0, v0, v1, v2, 0] =
        frame.bytes().get(payload.clone())?.first_chunk::<VXLAN_LEN>()?
    else {
        return None;
    };
    let start = payload.start + VXLAN_LEN;
    if frame.inner_segmentation == Segmentation::None {
        // Of one to be cut the outer header has the length of the first segment.
        frame.truncate(payload.end);
    }
    if let Checksum::Partial { start: from, .. } = frame.checksum
        && usize::from(from) < start
    {
        frame.complete_checksum();
    }
    frame.pull_front(start).ok()?;
    frame.segmentation = std::mem::take(&mut frame.inner_segmentation);
    Some(TunnelKey {
        remote: outer.dst,
        local: outer.src,
        vni: u32::from_be_bytes([0, v0, v1, v2]),
        tos: outer.tos,
        ttl: outer.ttl,
        df: outer.df,
        is_checked: outer.is_checked,
    })
}

impl DeviceTx {
    pub fn new(sender: VxlanSender, port: u16, undelivered: Arc<AtomicU64>) -> DeviceTx {
        let queue = Vec::with_capacity(FRAMES_MAX);
        DeviceTx { sender, port, queue, losses: Losses::default(), sent: 0, undelivered, failed: None }
    }

    /// Sends what waits, with one system call if nothing is refused. Whatever is refused, the others are sent all the same.
    fn transmit(&mut self, pool: &mut FramePool) {
        let mut done = 0;
        while let Some(rest) = self.queue.get(done..).filter(|rest| !rest.is_empty()) {
            let frames = rest.iter().map(|queued| (&queued.key, queued.frame.bytes()));
            match self.sender.send(frames) {
                // Never none of several.
                Ok(sent) => {
                    done += sent.max(1);
                    self.sent += sent as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let bytes = rest.first().map_or(0, |queued| queued.bytes);
                    let reason = self.reason(&error);
                    self.losses.add(reason, 1, bytes);
                    done += 1;
                }
            }
        }
        self.queue.drain(..).for_each(|queued| pool.give(queued.frame));
    }

    #[cold]
    fn reason(&mut self, error: &io::Error) -> Drop {
        match error.raw_os_error() {
            Some(errno::ENXIO | errno::ENODEV) => {
                self.failed = Some(PortError::Gone);
                Drop::NoPort
            }
            _ => reason_of(error),
        }
    }
}

impl Tx for DeviceTx {
    fn send(&mut self, mut frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        if frame.segmentation != Segmentation::None {
            return Err((frame, Drop::BadOffload));
        }
        let bytes = frame.len() as u64;
        let Some(key) = unwrap(&mut frame, self.port) else { return Err((frame, Drop::TxError)) };
        let header = match vnet::describe(&frame) {
            Ok(header) => header.encode_short(),
            Err(reason) => return Err((frame, reason)),
        };
        match frame.push_front(PACKET_HEADER_LENGTH) {
            Ok(front) => front.copy_from_slice(&header),
            Err(_) => return Err((frame, Drop::TxTooBig)),
        }
        if self.queue.len() >= FRAMES_MAX {
            self.transmit(pool);
        }
        self.queue.push(Queued { frame, key, bytes });
        Ok(())
    }

    fn cuts_in_tunnels(&self) -> bool {
        true
    }

    fn flush(&mut self, pool: &mut FramePool) -> Result<(), PortError> {
        if !self.queue.is_empty() {
            self.transmit(pool);
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn take_lost(&mut self) -> Option<TxLost> {
        if let Some(lost) = self.losses.take() {
            return Some(lost);
        }
        // Mostly none, and then nothing is written that other workers read. No more than were just sent can be told at a time.
        let sent = std::mem::take(&mut self.sent);
        if self.undelivered.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let less = |all: u64| Some(all.saturating_sub(sent));
        let all = self.undelivered.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let frames = all.unwrap_or_default().min(sent);
        (frames > 0).then_some(TxLost { frames, bytes: 0, reason: Drop::TxError })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::HashSeed;
    use packet::tunnel::{Inherit, TunnelProtocol, TunnelPush, push, push_uncut};
    use packet::{FrameBuilder, PacketKey};

    fn pushed() -> TunnelPush {
        TunnelPush {
            vni: Some(0x12_3456),
            tos: Inherit::Value(0xb8),
            ttl: Inherit::Value(9),
            ..TunnelPush::new(TunnelProtocol::Vxlan, [10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        }
    }

    fn whole(frame: &[u8]) -> Frame {
        let mut pooled = FramePool::new(1).take();
        pooled.append(frame).unwrap();
        PacketKey::default().extract_headers(&mut pooled).unwrap();
        pooled
    }

    #[test]
    fn what_was_pushed_is_taken_off_and_said_beside_the_frame() {
        let inner = FrameBuilder::udp4((1, 1), (2, 2)).payload(&[7; 300]).build();
        let mut frame = whole(&inner);
        push(&mut frame, &pushed(), HashSeed::new(1, 2)).unwrap();
        let key = unwrap(&mut frame, 4789).unwrap();
        assert_eq!(frame.bytes(), &inner[..]);
        assert_eq!((key.remote, key.local), (pushed().dst, pushed().src));
        assert_eq!((key.vni, key.tos, key.ttl), (0x12_3456, 0xb8, 9));
        assert_eq!((key.df, key.is_checked), (true, false));
    }

    #[test]
    fn super_frames_stay_whole() {
        let inner = FrameBuilder::tcp4((1, 1), (2, 2), 0x10).payload(&[7; 3_000]).build();
        let mut frame = whole(&inner);
        frame.checksum = Checksum::Partial { start: 34, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size: 1_000, ecn: false };
        push_uncut(&mut frame, &TunnelPush { csum: true, ..pushed() }, HashSeed::new(1, 2)).unwrap();
        assert!(unwrap(&mut frame, 4789).unwrap().is_checked);
        assert_eq!(frame.bytes(), &inner[..]);
        assert_eq!(frame.checksum, Checksum::Partial { start: 34, offset: 16 });
        assert_eq!(frame.segmentation, Segmentation::TcpV4 { size: 1_000, ecn: false });
    }

    #[test]
    fn what_the_device_cannot_send_is_refused() {
        let inner = FrameBuilder::udp4((1, 1), (2, 2)).payload(&[7; 300]).build();
        let mut frame = whole(&inner);
        push(&mut frame, &pushed(), HashSeed::new(1, 2)).unwrap();
        let good = frame.bytes().to_vec();
        assert!(unwrap(&mut whole(&good), 4790).is_none(), "another port");
        // Behind Ethernet, IPv4 and UDP: flags, a policy, reserved bytes.
        for at in [42, 43, 45, 49] {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            assert!(unwrap(&mut whole(&bad), 4789).is_none(), "byte {at}");
        }
        assert!(unwrap(&mut whole(&inner), 4789).is_none());
    }
}
