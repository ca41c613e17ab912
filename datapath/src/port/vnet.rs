//! Between the virtio-net header that the kernel speaks and what a frame knows of itself.

use crate::drop::Drop;
use packet::{Checksum, Frame, Segmentation};
use sys::vnet::{VnetChecksum, VnetError, VnetGso, VnetHeader, VnetSegmentation};

/// A partial checksum that lies in no frame: `Frame::validate_offload` refuses it, so a frame whose header made no sense ends
/// as the drop that it is, counted where all others are. It begins where it still can be counted when a VLAN tag is put back.
const IMPOSSIBLE: Checksum = Checksum::Partial { start: u16::MAX / 2, offset: u16::MAX };

/// Notes in a received frame what its header says.
pub(super) fn apply(frame: &mut Frame, header: Result<VnetHeader, VnetError>) {
    frame.segmentation = Segmentation::None;
    let Ok(header) = header else {
        frame.checksum = IMPOSSIBLE;
        return;
    };
    frame.checksum = match header.checksum {
        VnetChecksum::Complete => Checksum::Unknown,
        VnetChecksum::Valid => Checksum::Valid,
        VnetChecksum::Partial { start, offset } => Checksum::Partial { start, offset },
    };
    let Some(VnetGso { segmentation, ecn, size, .. }) = header.gso else { return };
    frame.segmentation = match segmentation {
        VnetSegmentation::Tcp4 => Segmentation::TcpV4 { size, ecn },
        VnetSegmentation::Tcp6 => Segmentation::TcpV6 { size, ecn },
        VnetSegmentation::Udp => Segmentation::UdpL4 { size },
        // Never asked for, and nothing behind could cut it.
        VnetSegmentation::UdpFragments => {
            frame.checksum = IMPOSSIBLE;
            Segmentation::None
        }
    };
}

/// The header under which the kernel takes a frame.
///
/// # Errors
/// [`Drop::BadOffload`] for a super-frame without the partial checksum that cutting it needs.
pub(super) fn describe(frame: &Frame) -> Result<VnetHeader, Drop> {
    let (segmentation, size, ecn) = match frame.segmentation {
        Segmentation::None => return Ok(VnetHeader { checksum: checksum(frame), gso: None }),
        Segmentation::TcpV4 { size, ecn } => (VnetSegmentation::Tcp4, size, ecn),
        Segmentation::TcpV6 { size, ecn } => (VnetSegmentation::Tcp6, size, ecn),
        Segmentation::UdpL4 { size } => (VnetSegmentation::Udp, size, false),
    };
    let Checksum::Partial { start, .. } = frame.checksum else { return Err(Drop::BadOffload) };
    let header_length = match segmentation {
        VnetSegmentation::Udp => 8,
        // Data offset in 32-bit words (RFC 9293 section 3.1), in the upper half of the byte.
        _ => frame.bytes().get(usize::from(start) + 12).map_or(0, |byte| u16::from(byte >> 4) * 4),
    };
    let gso = VnetGso { segmentation, ecn, size, header_length: start.saturating_add(header_length) };
    Ok(VnetHeader { checksum: checksum(frame), gso: Some(gso) })
}

// That a checksum is valid is for the receiver's stack to find out: the kernel does not take our word.
fn checksum(frame: &Frame) -> VnetChecksum {
    match frame.checksum {
        Checksum::Unknown | Checksum::Valid => VnetChecksum::Complete,
        Checksum::Partial { start, offset } => VnetChecksum::Partial { start, offset },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(checksum: Checksum, segmentation: Segmentation) -> Frame {
        let mut frame = Frame::from_bytes(&[0x50; 200]);
        (frame.checksum, frame.segmentation) = (checksum, segmentation);
        frame
    }

    #[test]
    fn what_is_described_comes_back() {
        let partial = Checksum::Partial { start: 34, offset: 16 };
        for (checksum, segmentation) in [
            (Checksum::Unknown, Segmentation::None),
            (partial, Segmentation::None),
            (partial, Segmentation::TcpV4 { size: 100, ecn: true }),
            (partial, Segmentation::TcpV6 { size: 100, ecn: false }),
            (Checksum::Partial { start: 34, offset: 6 }, Segmentation::UdpL4 { size: 50 }),
        ] {
            let sent = frame(checksum, segmentation);
            let mut received = frame(Checksum::Valid, Segmentation::None);
            let header = describe(&sent).unwrap().encode();
            apply(&mut received, VnetHeader::decode(&header, 200));
            assert_eq!((received.checksum, received.segmentation), (checksum, segmentation));
        }
    }

    #[test]
    fn header_length_ends_where_the_payload_begins() {
        let header = |segmentation| {
            let described = describe(&frame(Checksum::Partial { start: 34, offset: 16 }, segmentation));
            described.unwrap().gso.unwrap().header_length
        };
        // 0x50 is a TCP header of five words.
        assert_eq!(header(Segmentation::TcpV4 { size: 9, ecn: false }), 54);
        assert_eq!(header(Segmentation::UdpL4 { size: 9 }), 42);
    }

    #[test]
    fn super_frame_without_partial_checksum_is_refused() {
        let cut = frame(Checksum::Valid, Segmentation::UdpL4 { size: 50 });
        assert_eq!(describe(&cut), Err(Drop::BadOffload));
    }

    #[test]
    fn nonsense_is_marked_so_that_validation_drops_it() {
        let mut received = frame(Checksum::Unknown, Segmentation::None);
        apply(&mut received, Err(VnetError::Truncated(3)));
        assert!(received.validate_offload().is_err());
        let fragments =
            VnetGso { segmentation: VnetSegmentation::UdpFragments, ecn: false, size: 100, header_length: 0 };
        apply(&mut received, Ok(VnetHeader { checksum: VnetChecksum::Complete, gso: Some(fragments) }));
        assert!(received.validate_offload().is_err());
        // Also behind a tag that the kernel had taken out, and in the longest frame.
        for length in [60, packet::frame::FRAME_LEN_MAX - 4] {
            let mut received = Frame::from_bytes(&vec![0x50; length]);
            apply(&mut received, Err(VnetError::Truncated(3)));
            received.push_front(4).unwrap();
            assert!(received.validate_offload().is_err(), "{length}");
        }
    }
}
