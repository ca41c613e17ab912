//! The receiving side: what the TAP gives, with outer headers made of what the device said about them.

use crate::port::tunnel_socket::outer::{Outer, prepend};
use crate::port::{PortError, Rx, RxLoss};
use packet::tunnel::TunnelProtocol;
use packet::{Batch, Checksum, Frame, FramePool, Segmentation};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use sys::vxlan::{Arrival, PREFIX_LEN};

/// Bytes of a VXLAN header (RFC 7348 section 5) and of a UDP header.
pub(super) const VXLAN_LEN: usize = 8;
/// The I flag: there is a VNI.
pub(super) const VXLAN_VNI: u8 = 0x08;
/// Bytes of the two MAC addresses, and of the VLAN tag that may stand behind them.
const ADDRESSES_LEN: usize = 12;
const TAG_LEN: usize = 4;

/// The receiving side of one queue of the TAP.
pub(super) struct DeviceRx {
    tap: Box<dyn Rx>,
    loss: Arc<RxLoss>,
    port: u16,
    /// As the TAP gave them.
    arrived: Batch,
}

impl DeviceRx {
    pub fn new(tap: Box<dyn Rx>, loss: Arc<RxLoss>, port: u16) -> DeviceRx {
        DeviceRx { tap, loss, port, arrived: Batch::new() }
    }
}

/// Makes what the TAP gave a packet of the tunnel's. False if it is none.
fn restore(frame: &mut Frame, port: u16) -> bool {
    let Some(arrival) = Arrival::read(frame.bytes()) else { return false };
    if frame.pull_front(PREFIX_LEN).is_err() {
        return false;
    }
    if let Some(tag) = arrival.tag {
        // The frame begins with as many bytes of the prefix as the tag has.
        let bytes = frame.bytes_mut();
        if bytes.len() < ADDRESSES_LEN + TAG_LEN {
            return false;
        }
        bytes.copy_within(TAG_LEN..TAG_LEN + ADDRESSES_LEN, 0);
        if let Some(place) = bytes.get_mut(ADDRESSES_LEN..ADDRESSES_LEN + TAG_LEN) {
            place.copy_from_slice(&tag);
        }
    }
    // What its header said makes no sense: behind outer headers nobody would notice.
    if let Checksum::Partial { start, offset } = frame.checksum
        && usize::from(start) + usize::from(offset) + 2 > frame.len()
    {
        return false;
    }
    let key = arrival.key;
    let [_, v0, v1, v2] = key.vni.to_be_bytes();
    let Ok(header) = frame.push_front(VXLAN_LEN) else { return false };
    header.copy_from_slice(&[VXLAN_VNI, 0, 0, 0, v0, v1, v2, 0]);
    let outer = Outer {
        src: key.remote,
        dst: key.local,
        tos: key.tos,
        ttl: key.ttl,
        df: false,
        is_checked: true,
        // The device does not tell it.
        src_port: 0,
        dst_port: port,
        payload: (0, 0),
    };
    if !prepend(frame, &outer, true) {
        return false;
    }
    if frame.segmentation != Segmentation::None {
        // Partial, like the checksum.
        frame.inner_segmentation = std::mem::take(&mut frame.segmentation);
    } else if !matches!(frame.checksum, Checksum::Partial { .. }) {
        // The kernel has verified the UDP checksum.
        frame.checksum = Checksum::Valid;
    }
    frame.encapsulated = Some(TunnelProtocol::Vxlan);
    true
}

impl Rx for DeviceRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        if out.is_full() {
            return Ok(());
        }
        self.arrived.set_limit(out.room());
        let result = self.tap.recv(pool, &mut self.arrived);
        for mut frame in self.arrived.drain() {
            if !restore(&mut frame, self.port) {
                self.loss.unreadable.add(1);
                pool.give(frame);
            } else if let Err(frame) = out.push(frame) {
                pool.give(frame);
            }
        }
        result
    }

    fn is_drained(&self) -> bool {
        self.tap.is_drained()
    }

    fn frame_price(&self) -> u32 {
        self.tap.frame_price()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tap.poll_fd()
    }

    fn leave_thread(&mut self) {
        self.tap.leave_thread();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::tunnel::{GeneveMap, pop};
    use packet::{FrameBuilder, PacketKey, slot};

    /// What the TAP would give: the receiving program's prefix for 10.0.0.2 → 10.0.0.1 and VNI 7, the tag where a TAP puts it.
    fn arrived(inner: &[u8], tag: Option<[u8; 4]>) -> Frame {
        let mut bytes = vec![0; PREFIX_LEN];
        let word: u32 = if tag.is_some() { 4 | 8 } else { 4 };
        for (at, value) in [(0, word), (4, 7), (8, 0x0a00_0002), (32, 0x0a00_0001)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        (bytes[24], bytes[25]) = (0xb8, 60);
        bytes.extend(inner);
        if let Some(tag) = tag {
            bytes.splice(12..12, tag);
        }
        let mut frame = FramePool::new(1).take();
        frame.append(&bytes).unwrap();
        frame
    }

    #[test]
    fn what_was_said_beside_the_frame_is_in_its_outer_headers() {
        let inner = FrameBuilder::udp4((1, 1), (2, 2)).payload(b"hello").build();
        let tagged = FrameBuilder::udp4((1, 1), (2, 2)).vlan(0x8100, 5).payload(b"hello").build();
        let tag: [u8; 4] = tagged[12..16].try_into().unwrap();
        for (expected, tag) in [(&inner, None), (&tagged, Some(tag))] {
            let mut frame = arrived(&inner, tag);
            assert!(restore(&mut frame, 4789));
            assert_eq!(frame.encapsulated, Some(TunnelProtocol::Vxlan));
            let mut key = PacketKey::default();
            pop(&mut frame, TunnelProtocol::Vxlan, &mut key, &GeneveMap::default()).unwrap();
            assert_eq!(frame.bytes(), &expected[..]);
            assert_eq!((key.get(slot::TUN_ID), key.get(slot::TUN_SRC)), (7, 0x0a00_0002));
            assert_eq!((key.get(slot::TUN_DST), key.get(slot::TUN_TTL)), (0x0a00_0001, 60));
        }
    }

    /// The longest packet that the device makes of segments.
    #[test]
    fn what_segments_are_joined_to_fits() {
        let payload = vec![7; sys::vxlan::JOINED_MAX as usize - 40];
        let inner = FrameBuilder::tcp4((1, 1), (2, 2), 0x10).vlan(0x8100, 5).payload(&payload).build();
        let mut frame = arrived(&inner, Some([0x81, 0, 0, 6]));
        frame.checksum = Checksum::Partial { start: (PREFIX_LEN + 4 + 38) as u16, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size: 1_393, ecn: false };
        assert!(restore(&mut frame, 4789));
        let mut key = PacketKey::default();
        pop(&mut frame, TunnelProtocol::Vxlan, &mut key, &GeneveMap::default()).unwrap();
        assert_eq!(frame.len(), inner.len() + 4);
        assert_eq!(frame.checksum, Checksum::Partial { start: 42, offset: 16 });
        let mut inner_key = PacketKey::default();
        inner_key.extract_headers(&mut frame).unwrap();
        assert_eq!(frame.validate_offload(), Ok(()));
        assert_ne!(frame.segmentation, Segmentation::None);
    }

    #[test]
    fn super_frames_stay_whole_and_lies_are_refused() {
        let inner = FrameBuilder::tcp4((1, 1), (2, 2), 0x10).payload(&[7; 3_000]).build();
        let announced = |start: usize| {
            let mut frame = arrived(&inner, None);
            frame.checksum = Checksum::Partial { start: (PREFIX_LEN + start) as u16, offset: 16 };
            frame.segmentation = Segmentation::TcpV4 { size: 1_000, ecn: false };
            frame
        };
        let mut frame = announced(34);
        assert!(restore(&mut frame, 4789));
        assert_eq!(frame.inner_segmentation, Segmentation::TcpV4 { size: 1_000, ecn: false });
        let start = (frame.len() - inner.len() + 34) as u16;
        assert_eq!(frame.checksum, Checksum::Partial { start, offset: 16 });
        assert!(!restore(&mut announced(inner.len() - 17), 4789));
        // A frame of the host's own.
        assert!(!restore(&mut Frame::from_bytes(&[0x33; 90]), 4789));
        for len in 0..PREFIX_LEN + 4 {
            let mut cut = arrived(&inner, Some([0x81, 0, 0, 1]));
            cut.truncate(len);
            assert!(!restore(&mut cut, 4789), "{len} bytes");
        }
    }
}
