//! A forwarder without a look-up: what comes in at one device goes out at the other. It is the yardstick of the devices, since
//! a switch on the same system calls cannot be faster.
//!
//! `bare_forwarder tap A B` makes two TAPs, `bare_forwarder veth A B` takes two devices that are there, both by the code that the
//! switch opens them with, offloads included. One thread, which sleeps when there is nothing. Says `ready`
//! when both are open. Ends when killed.

use anyhow::{Context as _, Result, bail, ensure};
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use sys::packet_socket::{PacketOptions, PacketSocket};
use sys::poll::{Interest, PollToken, Poller};
use sys::tap::{TapOpen, TapQueue, TapQueues};
use sys::{IfIndex, IfName};

/// A super-frame and its virtio-net header.
const BUFFER_LEN: usize = 1 << 17;
/// Frames read from one device before the other has its turn.
const BUDGET: usize = 64;

enum Device {
    Tap(TapQueue),
    Packet(PacketSocket),
}

impl Device {
    fn open(kind: &str, name: &str) -> Result<Device> {
        let name = IfName::new(name)?;
        Ok(match kind {
            "tap" => Device::Tap(TapQueue::open(&name, TapQueues::Single, TapOpen::CreateNew)?),
            "veth" => {
                let index = IfIndex::of(&name).with_context(|| format!("{name}: no such device"))?;
                let socket = PacketSocket::open(index, PacketOptions::default());
                Device::Packet(socket.with_context(|| name.to_string())?)
            }
            other => bail!("{other}: not a kind of device; tap and veth are"),
        })
    }

    /// Moves one frame; whether there was one. A frame that the other side has no room for is lost, as on a wire.
    fn pass_one(&self, to: &Device, buffer: &mut [u8]) -> std::io::Result<bool> {
        let sent = match (self, to) {
            (Device::Tap(from), Device::Tap(to)) => {
                let length = match from.recv(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    length => length?,
                };
                to.send(&[IoSlice::new(buffer.get(..length).unwrap_or_default())])
            }
            (Device::Packet(from), Device::Packet(to)) => {
                let received = match from.recv(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    received => received?,
                };
                let header = received.vnet.unwrap_or_default();
                to.send(&header, &[IoSlice::new(buffer.get(..received.length).unwrap_or_default())])
            }
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        // A device that is down or full loses the frame; one that is gone shows when it is read.
        let _ = sent;
        Ok(true)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Device::Tap(queue) => queue.as_fd(),
            Device::Packet(socket) => socket.as_fd(),
        }
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, left, right] = words.as_slice() else { bail!("usage: bare_forwarder tap|veth DEVICE DEVICE") };
    ensure!(left != right, "{left}: two devices are needed");
    let devices = [Device::open(kind, left)?, Device::open(kind, right)?];
    let mut poller = Poller::new()?;
    for (device, token) in devices.iter().zip(0..) {
        poller.add(device, PollToken(token), Interest::Read)?;
    }
    println!("ready");
    let mut events = Vec::new();
    let mut buffer = vec![0; BUFFER_LEN];
    let [left, right] = &devices;
    loop {
        poller.wait(None, &mut events)?;
        for event in &events {
            let (from, to) = if event.token == PollToken(0) { (left, right) } else { (right, left) };
            for _ in 0..BUDGET {
                match from.pass_one(to, &mut buffer) {
                    Ok(true) => {}
                    Ok(false) => break,
                    // Going down is told once by a packet socket, and ends nothing.
                    Err(error) if error.kind() == ErrorKind::NetworkDown => break,
                    Err(error) => return Err(error).context("a device is gone"),
                }
            }
        }
    }
}
