//! Capture files: classic pcap and pcapng read (through pcap-parser), classic pcap written.
//!
//! Classic format: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>; pcapng:
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>. Only frames that begin with an Ethernet header are read
//! and written.

use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Linktype, PcapBlockOwned, PcapError};
use std::io::{self, Read, Write};
use std::time::Duration;
use thiserror::Error;

/// The longest block of a file that is read, in bytes: a capture of a super-frame with many comments.
const BLOCK_LEN_MAX: usize = 1 << 20;
/// Bytes read at a time.
const BUFFER_LEN: usize = 1 << 17;
/// The most interfaces that one pcapng section may describe.
const INTERFACES_MAX: usize = 4096;
/// What a written file says is the longest frame in it.
const SNAP_LEN: u32 = 262_144;

/// Why a capture file cannot be read (on).
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CaptureError {
    /// Neither pcap nor pcapng.
    #[error("not a capture file")]
    Unknown,
    /// The frames have no Ethernet headers.
    #[error("link type {0} is not Ethernet")]
    LinkType(i32),
    /// The file ends inside a frame.
    #[error("the file ends in the middle of a frame")]
    Truncated,
    /// Contents that contradict the format.
    #[error("damaged after {0} bytes")]
    Damaged(usize),
    /// Reading failed.
    #[error("cannot be read")]
    Unreadable,
}

/// A frame of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured<'a> {
    /// When it was captured, since 1970-01-01 00:00 UTC.
    pub time: Duration,
    /// What was kept of it, from the Ethernet header on.
    pub bytes: &'a [u8],
}

/// Reads the frames of a capture file, one after another.
pub struct CaptureReader {
    parser: Box<dyn PcapReaderIterator + Send>,
    /// Units of the fraction in a classic file's time stamps: a second has so many.
    units: u64,
    /// The interfaces of the current pcapng section.
    interfaces: Vec<Interface>,
    skipped: u64,
    finished: bool,
}

#[derive(Clone, Copy)]
struct Interface {
    is_ethernet: bool,
    units: u64,
    offset_seconds: i64,
}

/// What one block of the file came to.
enum Step {
    Frame { len: usize, time: Duration },
    Other,
}

impl std::fmt::Debug for CaptureReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureReader").field("consumed", &self.parser.consumed()).finish_non_exhaustive()
    }
}

impl CaptureReader {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// [`CaptureError::Unknown`] if it is no capture file, an empty one included.
    pub fn new(file: impl Read + Send + 'static) -> Result<CaptureReader, CaptureError> {
        let parser = pcap_parser::create_reader(BUFFER_LEN, file).map_err(|error| match error {
            PcapError::ReadError => CaptureError::Unreadable,
            _ => CaptureError::Unknown,
        })?;
        Ok(CaptureReader { parser, units: 1_000_000, interfaces: Vec::new(), skipped: 0, finished: false })
    }

    /// Frames passed over so far because their interface (pcapng) is not Ethernet.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Reads the next frame into the beginning of `room`, as much of it as fits. Gives its length in the file, which may exceed
    /// that of `room`, and its time; `None` at the end of the file and ever after.
    ///
    /// # Errors
    /// [`CaptureError`]; the file is at its end then.
    pub fn read(&mut self, room: &mut [u8]) -> Result<Option<(usize, Duration)>, CaptureError> {
        while !self.finished {
            let consumed = self.parser.consumed();
            let outcome = match self.parser.next() {
                Ok((used, block)) => {
                    let state = State {
                        units: &mut self.units,
                        interfaces: &mut self.interfaces,
                        skipped: &mut self.skipped,
                    };
                    take(block, state, room).map(|step| Some((used, step)))
                }
                Err(PcapError::Eof) => {
                    self.finished = true;
                    return Ok(None);
                }
                Err(PcapError::Incomplete(_)) => Ok(None),
                Err(PcapError::BufferTooSmall) => Err(CaptureError::Damaged(usize::MAX)),
                Err(PcapError::UnexpectedEof) => Err(CaptureError::Truncated),
                Err(PcapError::ReadError) => Err(CaptureError::Unreadable),
                Err(_) => Err(CaptureError::Damaged(consumed)),
            };
            match outcome {
                Ok(Some((used, step))) => {
                    self.parser.consume(used);
                    if let Step::Frame { len, time } = step {
                        return Ok(Some((len, time)));
                    }
                }
                Ok(None) => self.refill()?,
                Err(CaptureError::Damaged(usize::MAX)) if self.parser.grow(BLOCK_LEN_MAX) => self.refill()?,
                Err(error) => {
                    self.finished = true;
                    return Err(match error {
                        CaptureError::Damaged(_) => CaptureError::Damaged(consumed),
                        error => error,
                    });
                }
            }
        }
        Ok(None)
    }

    fn refill(&mut self) -> Result<(), CaptureError> {
        match self.parser.refill() {
            Ok(()) => Ok(()),
            Err(_) => {
                self.finished = true;
                Err(CaptureError::Unreadable)
            }
        }
    }
}

struct State<'a> {
    units: &'a mut u64,
    interfaces: &'a mut Vec<Interface>,
    skipped: &'a mut u64,
}

fn take(block: PcapBlockOwned<'_>, state: State<'_>, room: &mut [u8]) -> Result<Step, CaptureError> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            if header.network != Linktype::ETHERNET {
                return Err(CaptureError::LinkType(header.network.0));
            }
            *state.units = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            Ok(Step::Other)
        }
        PcapBlockOwned::Legacy(record) => {
            let bytes = record.data.get(..record.caplen as usize).unwrap_or(record.data);
            let time = Duration::from_secs(u64::from(record.ts_sec))
                .saturating_add(fraction(u64::from(record.ts_usec), *state.units));
            Ok(keep(bytes, time, room))
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            state.interfaces.clear();
            Ok(Step::Other)
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            // A file of nothing but descriptions must not take unbounded memory; frames of those beyond are passed over.
            if state.interfaces.len() < INTERFACES_MAX {
                state.interfaces.push(Interface {
                    is_ethernet: interface.linktype == Linktype::ETHERNET,
                    units: interface.ts_resolution().filter(|units| *units != 0).unwrap_or(1_000_000),
                    offset_seconds: interface.if_tsoffset,
                });
            }
            Ok(Step::Other)
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let Some(interface) = interface_of(&state, packet.if_id) else {
                *state.skipped += 1;
                return Ok(Step::Other);
            };
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let seconds = (ticks / interface.units).saturating_add_signed(interface.offset_seconds);
            let time = Duration::from_secs(seconds)
                .saturating_add(fraction(ticks % interface.units, interface.units));
            Ok(keep(packet.packet_data(), time, room))
        }
        // Belongs to the first interface and has no time.
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => match interface_of(&state, 0) {
            Some(_) => Ok(keep(packet.packet_data(), Duration::ZERO, room)),
            None => {
                *state.skipped += 1;
                Ok(Step::Other)
            }
        },
        PcapBlockOwned::NG(_) => Ok(Step::Other),
    }
}

fn interface_of(state: &State<'_>, number: u32) -> Option<Interface> {
    let interface = state.interfaces.get(usize::try_from(number).ok()?).copied();
    interface.filter(|interface| interface.is_ethernet)
}

fn fraction(ticks: u64, units: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(units.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn keep(bytes: &[u8], time: Duration, room: &mut [u8]) -> Step {
    let fits = bytes.len().min(room.len());
    if let (Some(to), Some(from)) = (room.get_mut(..fits), bytes.get(..fits)) {
        to.copy_from_slice(from);
    }
    Step::Frame { len: bytes.len(), time }
}

/// Writes a classic capture file with microsecond time stamps.
#[derive(Debug)]
pub struct CaptureWriter<W: Write> {
    file: W,
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the beginning of a file.
    ///
    /// # Errors
    /// What `file` answers.
    pub fn new(mut file: W) -> io::Result<CaptureWriter<W>> {
        let words: [[u8; 4]; 6] = [
            0xa1b2_c3d4_u32.to_ne_bytes(),
            version(2, 4),
            [0; 4],
            [0; 4],
            SNAP_LEN.to_ne_bytes(),
            1u32.to_ne_bytes(),
        ];
        file.write_all(words.as_flattened())?;
        Ok(CaptureWriter { file })
    }

    /// Adds a frame that was seen at `time` since 1970-01-01 00:00 UTC.
    ///
    /// # Errors
    /// What the file answers; the frame may then be half written.
    pub fn write(&mut self, time: Duration, bytes: &[u8]) -> io::Result<()> {
        // Seconds wrap in 2106: the format has no more bits.
        let seconds = (time.as_secs() & u64::from(u32::MAX)) as u32;
        let kept = bytes.get(..SNAP_LEN as usize).unwrap_or(bytes);
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
        let record: [[u8; 4]; 4] =
            [seconds.to_ne_bytes(), time.subsec_micros().to_ne_bytes(), len(kept), len(bytes)];
        self.file.write_all(record.as_flattened())?;
        self.file.write_all(kept)
    }

    /// Hands buffered bytes on.
    ///
    /// # Errors
    /// What the file answers.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// The file, as far as it was written.
    pub fn into_inner(self) -> W {
        self.file
    }
}

fn version(major: u16, minor: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (major.to_ne_bytes(), minor.to_ne_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(file: Vec<u8>) -> Result<Vec<(Vec<u8>, Duration)>, CaptureError> {
        let mut reader = CaptureReader::new(io::Cursor::new(file))?;
        let mut room = vec![0; 70_000];
        let mut frames = Vec::new();
        while let Some((len, time)) = reader.read(&mut room)? {
            frames.push((room[..len.min(room.len())].to_vec(), time));
        }
        Ok(frames)
    }

    /// A file in either byte order, after the draft's section 4 and 5.
    fn classic(magic: u32, network: u32, big_endian: bool) -> Vec<u8> {
        let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
        let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
        let mut file = word(magic).to_vec();
        file.extend([half(2), half(4)].concat());
        file.extend([word(0), word(0), word(65535), word(network)].concat());
        file.extend([word(10), word(999_999), word(4), word(100)].concat());
        file.extend([1, 2, 3, 4]);
        file
    }

    #[test]
    fn classic_files_in_all_forms() {
        for big_endian in [false, true] {
            let micro = Duration::new(10, 999_999_000);
            assert_eq!(read_all(classic(0xa1b2_c3d4, 1, big_endian)), Ok(vec![(vec![1, 2, 3, 4], micro)]));
            let nano = Duration::new(10, 999_999);
            assert_eq!(read_all(classic(0xa1b2_3c4d, 1, big_endian)), Ok(vec![(vec![1, 2, 3, 4], nano)]));
            // 113: Linux cooked.
            assert_eq!(read_all(classic(0xa1b2_c3d4, 113, big_endian)), Err(CaptureError::LinkType(113)));
        }
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    }

    fn enhanced(interface: u32, ticks: u64, bytes: &[u8]) -> Vec<u8> {
        let len = (bytes.len() as u32).to_le_bytes();
        let (high, low) = ((ticks >> 32) as u32, ticks as u32);
        let words = [interface.to_le_bytes(), high.to_le_bytes(), low.to_le_bytes(), len, len];
        block(6, &[words.as_flattened(), bytes].concat())
    }

    // After the draft's sections 4.1 to 4.4: a section, an Ethernet interface in microseconds, one in nanoseconds (option 9,
    // value 9), one that is not Ethernet; a frame on each, a simple packet, and an unknown block.
    fn next_generation() -> Vec<u8> {
        let section =
            block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
        let interface =
            |link: u8, options: &[u8]| block(1, &[&[link, 0, 0, 0, 0, 0, 4, 0], options].concat());
        [
            section,
            interface(1, &[]),
            interface(1, &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
            interface(113, &[]),
            enhanced(0, 10_000_001, &[1; 61]),
            block(0x0bad_0bad, &[0; 8]),
            enhanced(1, 10_000_000_001, &[2; 62]),
            enhanced(2, 1, &[3; 63]),
            enhanced(7, 1, &[4; 64]),
            block(3, &[&5u32.to_le_bytes()[..], &[5; 5]].concat()),
        ]
        .concat()
    }

    #[test]
    fn pcapng_with_several_interfaces() {
        let frames = read_all(next_generation()).unwrap();
        let expected = vec![
            (vec![1; 61], Duration::new(10, 1000)),
            (vec![2; 62], Duration::new(10, 1)),
            (vec![5; 5], Duration::ZERO),
        ];
        assert_eq!(frames, expected);
        let mut reader = CaptureReader::new(io::Cursor::new(next_generation())).unwrap();
        while reader.read(&mut [0; 100]).unwrap().is_some() {}
        assert_eq!(reader.skipped(), 2);
    }

    #[test]
    fn long_frames_are_told_by_their_length() {
        let mut writer = CaptureWriter::new(Vec::new()).unwrap();
        writer.write(Duration::ZERO, &vec![9; 200_000]).unwrap();
        writer.write(Duration::ZERO, &[8; 60]).unwrap();
        let mut reader = CaptureReader::new(io::Cursor::new(writer.into_inner())).unwrap();
        let mut room = vec![0; 1000];
        assert_eq!(reader.read(&mut room).unwrap().unwrap().0, 200_000);
        assert_eq!(room, [9; 1000]);
        assert_eq!(reader.read(&mut room).unwrap().unwrap().0, 60);
        assert_eq!(reader.read(&mut room), Ok(None));
    }

    #[test]
    fn blocks_beyond_the_limit_end_the_file() {
        let mut file = next_generation();
        file.extend(block(0x0bad_0bad, &vec![0; BLOCK_LEN_MAX + 1]));
        assert!(matches!(read_all(file), Err(CaptureError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn written_frames_are_read(
            frames in prop::collection::vec((0u64..u64::from(u32::MAX), 0u32..1_000_000, prop::collection::vec(any::<u8>(), 0..2000)), 0..50)
        ) {
            let mut writer = CaptureWriter::new(Vec::new()).unwrap();
            let mut expected = Vec::new();
            for (seconds, micros, bytes) in frames {
                let time = Duration::new(seconds, micros * 1000);
                writer.write(time, &bytes).unwrap();
                expected.push((bytes, time));
            }
            prop_assert_eq!(read_all(writer.into_inner()), Ok(expected));
        }

        #[test]
        fn damaged_files_end_without_panic(
            is_classic: bool,
            changes in prop::collection::vec((0usize..600, any::<u8>()), 1..8),
            cut in 0usize..600,
        ) {
            let mut file = if is_classic { classic(0xa1b2_c3d4, 1, false) } else { next_generation() };
            for (at, value) in changes {
                if let Some(byte) = file.get_mut(at) {
                    *byte = value;
                }
            }
            file.truncate(cut.max(4));
            // The oracle: it ends, and never yields more than the file can hold.
            let len = file.len();
            if let Ok(frames) = read_all(file) {
                prop_assert!(frames.iter().map(|(bytes, _)| bytes.len()).sum::<usize>() <= len);
            }
        }
    }
}
