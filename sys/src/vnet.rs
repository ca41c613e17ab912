//! The virtio-net header that TAP devices and packet sockets put before a frame: what is still to be done about its
//! checksum, and how to cut it into segments.
//!
//! Layout: `struct virtio_net_hdr` of virtio 1.2, section 5.1.6. The kernel reads and writes it in the byte order of the
//! machine (no `TUNSETVNETLE`/`TUNSETVNETBE` is used). A TAP is told to use the 12-byte form with `num_buffers`, packet
//! sockets use the 10-byte form without.
//!
//! This module converts and validates; it touches no frame.

/// Length of the header before frames of a TAP queue (with `num_buffers`).
pub const TAP_HEADER_LENGTH: usize = 12;

/// Length of the header before frames of a packet socket.
pub const PACKET_HEADER_LENGTH: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What the sender of a frame did about its transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VnetChecksum {
    /// The checksum in the frame is complete, and nobody has verified it.
    #[default]
    Complete,
    /// The checksum is complete and known to be right (or need not be looked at).
    Valid,
    /// The checksum field holds only the sum of the pseudo-header. To complete it: sum the bytes from `start` to the end of
    /// the packet and store the result at `start + offset`.
    Partial {
        /// First byte of the transport header, counted from the first byte of the frame.
        start: u16,
        /// Place of the checksum field in the transport header, in bytes.
        offset: u16,
    },
}

/// The protocol by whose rules a super-frame is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VnetSegmentation {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4 or IPv6, each segment a datagram of its own (`USO`).
    Udp,
    /// UDP over IPv4 or IPv6 to be cut into IP fragments (the old `UFO`, never asked for here, but a kernel may name it).
    UdpFragments,
}

/// How a super-frame is to be cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnetGso {
    /// By which protocol's rules.
    pub segmentation: VnetSegmentation,
    /// Whether the first segment alone carries the TCP CWR flag (RFC 3168 section 6.1.2).
    pub ecn: bool,
    /// Payload bytes of each segment but the last, never zero.
    pub size: u16,
    /// Bytes of all headers up to the payload; a hint only, 0 if unknown.
    pub header_length: u16,
}

/// A decoded virtio-net header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// State of the transport checksum.
    pub checksum: VnetChecksum,
    /// How to cut the frame; `None` for an ordinary one.
    pub gso: Option<VnetGso>,
}

/// Why a virtio-net header cannot belong to the frame that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VnetError {
    /// Fewer bytes than a header has.
    #[error("virtio-net header of {0} bytes is too short")]
    Truncated(usize),
    /// The checksum field or the start of the summed bytes lies outside the frame.
    #[error("checksum field at {start}+{offset} lies outside a frame of {frame_length} bytes")]
    ChecksumOutside {
        /// `csum_start`.
        start: u16,
        /// `csum_offset`.
        offset: u16,
        /// Bytes of the frame.
        frame_length: usize,
    },
    /// A `gso_type` this program does not know.
    #[error("unknown segmentation type {0:#04x}")]
    UnknownSegmentation(u8),
    /// A segmentation type without a segment size.
    #[error("segmentation type {0:#04x} with a segment size of zero")]
    ZeroSegment(u8),
    /// Segmentation asked for without the partial checksum that cutting relies on.
    #[error("segmentation type {0:#04x} without a partial checksum")]
    SegmentationWithoutChecksum(u8),
    /// The headers are said to be longer than the frame.
    #[error("headers of {header_length} bytes in a frame of {frame_length} bytes")]
    HeaderOutside {
        /// `hdr_len`.
        header_length: u16,
        /// Bytes of the frame.
        frame_length: usize,
    },
}

impl VnetHeader {
    /// Reads the first 10 bytes of `bytes` as the header of a frame of `frame_length` bytes.
    ///
    /// # Errors
    /// [`VnetError`] if the header cannot be true of such a frame; the frame is then to be dropped.
    pub fn decode(bytes: &[u8], frame_length: usize) -> Result<Self, VnetError> {
        let Some(&[flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1]) =
            bytes.first_chunk::<PACKET_HEADER_LENGTH>()
        else {
            return Err(VnetError::Truncated(bytes.len()));
        };
        let checksum = if flags & FLAG_NEEDS_CSUM != 0 {
            partial(u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]), frame_length)?
        } else if flags & FLAG_DATA_VALID != 0 {
            VnetChecksum::Valid
        } else {
            VnetChecksum::Complete
        };
        let header_length = u16::from_ne_bytes([h0, h1]);
        let gso = match gso_type & !GSO_ECN {
            GSO_NONE => None,
            _ if !matches!(checksum, VnetChecksum::Partial { .. }) => {
                return Err(VnetError::SegmentationWithoutChecksum(gso_type));
            }
            _ => Some(segmented(gso_type, u16::from_ne_bytes([s0, s1]), header_length, frame_length)?),
        };
        Ok(Self { checksum, gso })
    }

    /// The 12 bytes that go before a frame written to a TAP. `num_buffers` is zero, as the specification asks of a sender.
    pub fn encode(&self) -> [u8; TAP_HEADER_LENGTH] {
        let (flags, start, offset) = match self.checksum {
            VnetChecksum::Complete => (0, 0, 0),
            VnetChecksum::Valid => (FLAG_DATA_VALID, 0, 0),
            VnetChecksum::Partial { start, offset } => (FLAG_NEEDS_CSUM, start, offset),
        };
        let (gso_type, header_length, size) = match self.gso {
            None => (GSO_NONE, 0, 0),
            Some(gso) => {
                let base = match gso.segmentation {
                    VnetSegmentation::Tcp4 => GSO_TCPV4,
                    VnetSegmentation::Tcp6 => GSO_TCPV6,
                    VnetSegmentation::Udp => GSO_UDP_L4,
                    VnetSegmentation::UdpFragments => GSO_UDP,
                };
                (base | if gso.ecn { GSO_ECN } else { 0 }, gso.header_length, gso.size)
            }
        };
        let ([h0, h1], [s0, s1]) = (header_length.to_ne_bytes(), size.to_ne_bytes());
        let ([c0, c1], [o0, o1]) = (start.to_ne_bytes(), offset.to_ne_bytes());
        [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1, 0, 0]
    }

    /// The 10 bytes that go before a frame sent on a packet socket.
    pub fn encode_short(&self) -> [u8; PACKET_HEADER_LENGTH] {
        let [a, b, c, d, e, f, g, h, i, j, _, _] = self.encode();
        [a, b, c, d, e, f, g, h, i, j]
    }
}

fn partial(start: u16, offset: u16, frame_length: usize) -> Result<VnetChecksum, VnetError> {
    // The field itself has two bytes.
    if usize::from(start) + usize::from(offset) + 2 > frame_length {
        return Err(VnetError::ChecksumOutside { start, offset, frame_length });
    }
    Ok(VnetChecksum::Partial { start, offset })
}

fn segmented(gso_type: u8, size: u16, header_length: u16, frame_length: usize) -> Result<VnetGso, VnetError> {
    let segmentation = match gso_type & !GSO_ECN {
        GSO_TCPV4 => VnetSegmentation::Tcp4,
        GSO_TCPV6 => VnetSegmentation::Tcp6,
        GSO_UDP_L4 => VnetSegmentation::Udp,
        GSO_UDP => VnetSegmentation::UdpFragments,
        _ => return Err(VnetError::UnknownSegmentation(gso_type)),
    };
    if size == 0 {
        return Err(VnetError::ZeroSegment(gso_type));
    }
    if usize::from(header_length) > frame_length {
        return Err(VnetError::HeaderOutside { header_length, frame_length });
    }
    Ok(VnetGso { segmentation, ecn: gso_type & GSO_ECN != 0, size, header_length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Written by hand from virtio 1.2, section 5.1.6, little-endian (all our machines): a TCP/IPv4 super-frame with CWR.
    #[cfg(target_endian = "little")]
    const TCP4: [u8; 12] = [1, 0x81, 54, 0, 0xb4, 0x05, 34, 0, 16, 0, 0, 0];

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_and_writes_a_known_header() {
        let header = VnetHeader {
            checksum: VnetChecksum::Partial { start: 34, offset: 16 },
            gso: Some(VnetGso {
                segmentation: VnetSegmentation::Tcp4,
                ecn: true,
                size: 1460,
                header_length: 54,
            }),
        };
        assert_eq!(VnetHeader::decode(&TCP4, 60_000), Ok(header));
        assert_eq!(header.encode(), TCP4);
        assert_eq!(header.encode_short(), TCP4[..10]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn refuses_impossible_headers() {
        let with = |change: &dyn Fn(&mut [u8; 12])| {
            let mut bytes = TCP4;
            change(&mut bytes);
            VnetHeader::decode(&bytes, 60_000)
        };
        assert_eq!(VnetHeader::decode(&TCP4[..9], 60_000), Err(VnetError::Truncated(9)));
        // The checksum field would end at 34 + 16 + 2.
        assert!(matches!(VnetHeader::decode(&TCP4, 51), Err(VnetError::ChecksumOutside { .. })));
        assert!(matches!(VnetHeader::decode(&TCP4, 53), Err(VnetError::HeaderOutside { .. })));
        assert_eq!(with(&|b| b[0] = 0), Err(VnetError::SegmentationWithoutChecksum(0x81)));
        assert_eq!(with(&|b| b[1] = 2), Err(VnetError::UnknownSegmentation(2)));
        assert_eq!(with(&|b| b[4..6].fill(0)), Err(VnetError::ZeroSegment(0x81)));
    }

    #[test]
    fn zero_header_says_nothing() {
        assert_eq!(VnetHeader::decode(&[0; 12], 60), Ok(VnetHeader::default()));
        assert_eq!(VnetHeader::default().encode(), [0; 12]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_and_what_decodes_is_stable(bytes: [u8; 12], frame_length in 0usize..70_000) {
            if let Ok(header) = VnetHeader::decode(&bytes, frame_length) {
                prop_assert_eq!(VnetHeader::decode(&header.encode(), frame_length), Ok(header));
                if let VnetChecksum::Partial { start, offset } = header.checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame_length);
                }
            }
        }
    }
}
