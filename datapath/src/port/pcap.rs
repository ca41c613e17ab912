//! Ports on capture files: received frames come from one (`options:rx_pcap`, classic pcap or pcapng), sent ones go to another
//! (`options:tx_pcap`, classic pcap).
//!
//! The file is read as fast as frames are taken, once; at its end the port is idle. Written frames are complete: checksums
//! filled in, super-frames cut, as a wire would have carried them.

use super::capture::{CaptureError, CaptureReader, CaptureWriter};
use super::{DeviceChange, LinkReport, Port, PortConfigError, PortError, Rx, RxLoss, Tx, plain};
use crate::drop::Drop;
use packet::frame::FRAME_LEN_MAX;
use packet::{Batch, Frame, FramePool};
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sys::poll::Doorbell;

/// Tells the time since 1970-01-01 00:00 UTC for written frames.
pub type WallClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Frames passed over, as too long or not Ethernet, in one call; the rest waits for the next.
const SKIPPED_MAX: usize = 1024;

/// Files of a pcap port.
#[derive(Debug, Default, Clone)]
pub struct PcapConfig {
    /// File to receive from; `None`: nothing is received.
    pub rx: Option<PathBuf>,
    /// File to write what is sent to, made anew; `None`: it is thrown away.
    pub tx: Option<PathBuf>,
}

type Writer = CaptureWriter<BufWriter<File>>;

/// Shared by the sending sides. `None` after a failure: what follows half a record could not be read.
type SharedWriter = Arc<Mutex<Option<Writer>>>;

/// A port on capture files.
pub struct PcapPort {
    report: LinkReport,
    rx: Option<PcapRx>,
    tx: Option<SharedWriter>,
    clock: WallClock,
    loss: Arc<RxLoss>,
}

impl std::fmt::Debug for PcapPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PcapPort").field("report", &self.report).finish_non_exhaustive()
    }
}

impl PcapPort {
    /// Opens the files.
    ///
    /// # Errors
    /// [`PortConfigError::Capture`] names the file and what is wrong with it.
    pub fn open(name: &str, config: &PcapConfig, clock: WallClock) -> Result<PcapPort, PortConfigError> {
        let loss = Arc::<RxLoss>::default();
        let rx = config.rx.as_deref().map(|path| open_rx(path, loss.clone())).transpose()?;
        let tx = config.tx.as_deref().map(open_tx).transpose()?;
        let report = LinkReport {
            name: name.to_owned(),
            admin_up: true,
            carrier: true,
            driver: "pcap".to_owned(),
            ..LinkReport::default()
        };
        Ok(PcapPort { report, rx, tx: tx.map(|writer| Arc::new(Mutex::new(Some(writer)))), clock, loss })
    }
}

fn refused(path: &Path, reason: impl ToString) -> PortConfigError {
    PortConfigError::Capture { path: path.display().to_string(), reason: reason.to_string() }
}

fn open_rx(path: &Path, loss: Arc<RxLoss>) -> Result<PcapRx, PortConfigError> {
    let file = File::open(path).map_err(|error| refused(path, error))?;
    let reader = CaptureReader::new(file).map_err(|error| refused(path, error))?;
    let doorbell = Doorbell::new().map_err(|error| refused(path, error))?;
    // Readable as long as the file has frames.
    doorbell.ring();
    Ok(PcapRx { path: path.to_owned(), reader, doorbell, loss })
}

fn open_tx(path: &Path) -> Result<Writer, PortConfigError> {
    let opened = File::create(path).and_then(|file| CaptureWriter::new(BufWriter::new(file)));
    let mut writer = opened.map_err(|error| refused(path, error))?;
    // So that the file is a capture file from the start, and a full disk is known now.
    writer.flush().map_err(|error| refused(path, error))?;
    Ok(writer)
}

impl Port for PcapPort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        self.rx.take().map(|rx| -> Box<dyn Rx> { Box::new(rx) }).into_iter().collect()
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        Ok(Box::new(PcapTx { writer: self.tx.clone(), clock: self.clock.clone(), failed: None }))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        Ok(self.report.clone())
    }

    fn change(&mut self, change: DeviceChange) -> Result<(), PortConfigError> {
        match change {
            // As with a cable: a device that is down has no link.
            DeviceChange::Admin { up } => (self.report.admin_up, self.report.carrier) = (up, up),
            DeviceChange::Mtu(_) => return Err(PortConfigError::Unsupported("MTU")),
            DeviceChange::Mac(mac) => self.report.mac = Some(mac),
            DeviceChange::Alias(_) => return Err(PortConfigError::Unsupported("alias")),
        }
        Ok(())
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        vec![self.loss.clone()]
    }

    fn discard(&mut self) -> Result<(), PortError> {
        Ok(())
    }
}

struct PcapRx {
    path: PathBuf,
    reader: CaptureReader,
    doorbell: Doorbell,
    loss: Arc<RxLoss>,
}

impl Rx for PcapRx {
    fn recv(&mut self, pool: &mut FramePool, out: &mut Batch) -> Result<(), PortError> {
        for _ in 0..SKIPPED_MAX {
            if out.is_full() {
                return Ok(());
            }
            let mut frame = pool.take();
            let skipped = self.reader.skipped();
            let read = self.reader.read(frame.room_mut());
            self.loss.unreadable.add(self.reader.skipped() - skipped);
            match read {
                Ok(Some((len, _))) if len <= FRAME_LEN_MAX && frame.set_len(len).is_ok() => {
                    if let Err(frame) = out.push(frame) {
                        pool.give(frame);
                    }
                }
                Ok(Some(_)) => {
                    self.loss.too_long.add(1);
                    pool.give(frame);
                }
                Ok(None) => {
                    pool.give(frame);
                    return Ok(self.doorbell.silence()?);
                }
                Err(error) => {
                    pool.give(frame);
                    self.doorbell.silence()?;
                    self.loss.unreadable.add(1);
                    return Err(PortError::Io(self.describe(&error)));
                }
            }
        }
        Ok(())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.doorbell.as_fd())
    }
}

impl PcapRx {
    fn describe(&self, error: &CaptureError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", self.path.display()))
    }
}

struct PcapTx {
    writer: Option<SharedWriter>,
    clock: WallClock,
    failed: Option<io::Error>,
}

impl Tx for PcapTx {
    fn send(&mut self, frame: Frame, pool: &mut FramePool) -> Result<(), (Frame, Drop)> {
        let Some(shared) = &self.writer else {
            pool.give(frame);
            return Ok(());
        };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = shared.as_mut() else { return Err((frame, Drop::TxError)) };
        let now = (self.clock)();
        let mut failure = None;
        let sent = plain::each(frame, pool, |bytes| {
            writer.write(now, bytes).map_err(|error| failure = Some(error)).is_ok()
        });
        if failure.is_some() {
            *shared = None;
            self.failed = failure;
        }
        sent
    }

    fn flush(&mut self, _: &mut FramePool) -> Result<(), PortError> {
        if let Some(error) = self.failed.take() {
            return Err(PortError::Io(error));
        }
        let Some(shared) = &self.writer else { return Ok(()) };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = shared.as_mut().map(CaptureWriter::flush) {
            *shared = None;
            return Err(PortError::Io(error));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::{Checksum, Segmentation};

    struct TempDirectory(PathBuf);

    impl TempDirectory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pcap-port-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl std::ops::Drop for TempDirectory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn clock() -> WallClock {
        Arc::new(|| Duration::new(1_700_000_000, 123_456_000))
    }

    fn port(rx: Option<PathBuf>, tx: Option<PathBuf>) -> PcapPort {
        PcapPort::open("p1", &PcapConfig { rx, tx }, clock()).unwrap()
    }

    /// What tcpdump makes of a file; it checks the checksums.
    fn tcpdump(path: &Path) -> String {
        let output = std::process::Command::new("tcpdump")
            .args(["-r", path.to_str().unwrap(), "-nn", "-S", "-tt", "-vvv"])
            .output()
            .expect("tcpdump is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn what_was_sent_can_be_received_from_the_file() {
        let directory = TempDirectory::new("echo");
        let mut pool = FramePool::new(4);
        let mut tx = port(None, Some(directory.file("a.pcap"))).new_tx().unwrap();
        let sent: Vec<Vec<u8>> = (0..100u8).map(|i| vec![i; 60 + usize::from(i) * 13]).collect();
        for bytes in &sent {
            tx.send(Frame::from_bytes(bytes), &mut pool).unwrap();
        }
        tx.flush(&mut pool).unwrap();
        let mut rx = port(Some(directory.file("a.pcap")), None).take_rx().pop().unwrap();
        let mut got = Vec::new();
        loop {
            let mut batch = Batch::new();
            rx.recv(&mut pool, &mut batch).unwrap();
            if batch.is_empty() {
                break;
            }
            got.extend(batch.drain().map(|frame| frame.bytes().to_vec()));
        }
        assert_eq!(got, sent);
    }

    // Written by hand after RFC 791 and RFC 9293: 10.0.0.1:1000 > 10.0.0.2:80, 3,000 bytes of payload, MSS 1,000, the sum of the
    // pseudo header where the checksum will be.
    fn super_frame() -> Frame {
        let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        bytes.extend([0x45, 0, 0x0b, 0xe0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([3, 0xe8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0x1f, 0xd5, 0, 0]);
        bytes.resize(bytes.len() + 3000, 0x61);
        let mut frame = Frame::from_bytes(&bytes);
        frame.checksum = Checksum::Partial { start: 34, offset: 16 };
        frame.segmentation = Segmentation::TcpV4 { size: 1000, ecn: false };
        frame
    }

    #[test]
    fn super_frames_are_written_as_the_wire_would_carry_them() {
        let directory = TempDirectory::new("gso");
        let mut pool = FramePool::new(4);
        let path = directory.file("a.pcap");
        let mut tx = port(None, Some(path.clone())).new_tx().unwrap();
        let mut frame = super_frame();
        packet::PacketKey::extract(&mut frame).unwrap();
        tx.send(frame, &mut pool).map_err(|(_, reason)| reason).unwrap();
        tx.flush(&mut pool).unwrap();
        let shown = tcpdump(&path);
        assert_eq!(shown.matches("1700000000.123456 IP").count(), 3, "{shown}");
        assert_eq!(shown.matches("(correct)").count(), 3, "{shown}");
        for part in ["seq 1:1001,", "seq 1001:2001,", "seq 2001:3001,"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn end_of_file_is_idle_and_damage_is_one_error() {
        let directory = TempDirectory::new("end");
        let path = directory.file("a.pcap");
        let mut writer = CaptureWriter::new(Vec::new()).unwrap();
        writer.write(Duration::ZERO, &[1; 60]).unwrap();
        writer.write(Duration::ZERO, &[2; 60]).unwrap();
        let whole = writer.into_inner();
        let mut pool = FramePool::new(4);
        for (len, damaged) in [(whole.len(), false), (whole.len() - 30, true)] {
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut port = port(Some(path.clone()), None);
            let mut rx = port.take_rx().pop().unwrap();
            let mut batch = Batch::new();
            let first = rx.recv(&mut pool, &mut batch);
            assert_eq!(first.is_err(), damaged);
            if let Err(error) = first {
                assert!(error.to_string().contains("a.pcap: the file ends"), "{error}");
            }
            assert_eq!(batch.len(), if damaged { 1 } else { 2 });
            batch.drain();
            for _ in 0..2 {
                rx.recv(&mut pool, &mut batch).unwrap();
                assert!(batch.is_empty());
            }
            assert_eq!(port.losses()[0].unreadable.get(), u64::from(damaged));
        }
    }

    #[test]
    fn files_that_are_no_captures_are_refused_by_name() {
        let directory = TempDirectory::new("bad");
        let open = |rx: PathBuf| PcapPort::open("p1", &PcapConfig { rx: Some(rx), tx: None }, clock());
        for (name, contents) in
            [("empty", &b""[..]), ("text", b"hello world, this is no capture file at all")]
        {
            let path = directory.file(name);
            std::fs::write(&path, contents).unwrap();
            let error = open(path).unwrap_err().to_string();
            assert!(error.ends_with(&format!("{name}: not a capture file")), "{error}");
        }
        assert!(open(directory.file("absent")).unwrap_err().to_string().contains("absent"));
        let unwritable = PcapConfig { rx: None, tx: Some(directory.file("no/such/file")) };
        assert!(PcapPort::open("p1", &unwritable, clock()).is_err());
    }

    #[test]
    fn full_disk_is_an_error_and_not_a_garbled_file() {
        let mut pool = FramePool::new(4);
        // Writes to it fail with ENOSPC, the first included.
        let full = PcapConfig { rx: None, tx: Some(PathBuf::from("/dev/full")) };
        assert!(PcapPort::open("p1", &full, clock()).is_err());
        let writer = CaptureWriter::new(BufWriter::new(File::create("/dev/full").unwrap())).unwrap();
        let mut tx =
            PcapTx { writer: Some(Arc::new(Mutex::new(Some(writer)))), clock: clock(), failed: None };
        tx.send(Frame::from_bytes(&[1; 60]), &mut pool).unwrap();
        assert!(tx.flush(&mut pool).is_err());
        assert_eq!(tx.send(Frame::from_bytes(&[1; 60]), &mut pool).unwrap_err().1, Drop::TxError);
    }
}
