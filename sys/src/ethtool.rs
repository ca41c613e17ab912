//! What a network driver says of itself and of its wire: the few questions of ethtool(8) whose answers the database shows,
//! and the one setting that decides whether frames come to the other end of a veth complete.

use std::io;
use std::os::fd::AsRawFd;

use libc::c_char;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::interface::IfName;
use crate::sockopt::check;

const GET_SETTINGS: u32 = 0x01;
const GET_DRIVER: u32 = 0x03;
const GET_TRANSMIT_CHECKSUMS: u32 = 0x16;
const SET_TRANSMIT_CHECKSUMS: u32 = 0x17;

/// What the kernel writes where the speed is not known (`SPEED_UNKNOWN`).
const SPEED_UNKNOWN: u32 = u32::MAX;

/// A driver's name and versions; empty where it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriverInfo {
    /// `tun`, `veth`, `virtio_net` …
    pub driver: String,
    /// Version of the driver.
    pub version: String,
    /// Version of the firmware.
    pub firmware: String,
}

/// Whether both ends may send at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplex {
    /// One at a time.
    Half,
    /// Both.
    Full,
}

/// What the wire agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireSettings {
    /// Megabits a second.
    pub speed_mbps: Option<u32>,
    /// Half or full.
    pub duplex: Option<Duplex>,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverRequest {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    rest: [u8; 96],
}

/// `struct ethtool_cmd`.
#[repr(C)]
struct SettingsRequest {
    command: u32,
    supported: u32,
    advertising: u32,
    speed_low: u16,
    duplex: u8,
    port: u8,
    rest: [u8; 12],
    speed_high: u16,
    tail: [u8; 14],
}

/// `struct ethtool_value`.
#[repr(C)]
struct ValueRequest {
    command: u32,
    value: u32,
}

/// Names and versions of the driver of `name`, in the namespace of the calling thread.
///
/// # Errors
/// `ENODEV` if there is no such device, `EOPNOTSUPP` if its driver does not answer.
pub fn driver(name: &IfName) -> io::Result<DriverInfo> {
    let mut request = DriverRequest {
        command: GET_DRIVER,
        driver: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        rest: [0; 96],
    };
    ask(name, &mut request)?;
    Ok(DriverInfo {
        driver: text(&request.driver),
        version: text(&request.version),
        firmware: text(&request.firmware),
    })
}

/// Speed and duplex of `name`, in the namespace of the calling thread.
///
/// # Errors
/// As [`driver`].
pub fn wire_settings(name: &IfName) -> io::Result<WireSettings> {
    let mut request = SettingsRequest {
        command: GET_SETTINGS,
        supported: 0,
        advertising: 0,
        speed_low: 0,
        duplex: 0,
        port: 0,
        rest: [0; 12],
        speed_high: 0,
        tail: [0; 14],
    };
    ask(name, &mut request)?;
    let speed = u32::from(request.speed_high) << 16 | u32::from(request.speed_low);
    let known = speed != 0 && speed != SPEED_UNKNOWN && speed != u32::from(u16::MAX);
    let duplex = match request.duplex {
        0 => Some(Duplex::Half),
        1 => Some(Duplex::Full),
        _ => None,
    };
    Ok(WireSettings { speed_mbps: known.then_some(speed), duplex })
}

/// Who completes the checksums of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransmitChecksums {
    /// The kernel, before the device gets a frame. Super-frames are cut there too, as cutting needs checksums.
    Kernel,
    /// The device. A veth never does: it passes frames on as they are.
    Device,
}

/// Who completes the checksums of what `name` sends, in the namespace of the calling thread.
///
/// # Errors
/// As [`driver`].
pub fn transmit_checksums(name: &IfName) -> io::Result<TransmitChecksums> {
    let mut request = ValueRequest { command: GET_TRANSMIT_CHECKSUMS, value: 0 };
    ask(name, &mut request)?;
    Ok(if request.value == 0 { TransmitChecksums::Kernel } else { TransmitChecksums::Device })
}

/// Says who is to complete the checksums of what `name` sends, in the namespace of the calling thread.
///
/// # Errors
/// As [`driver`], and without `CAP_NET_ADMIN`.
pub fn set_transmit_checksums(name: &IfName, by: TransmitChecksums) -> io::Result<()> {
    let value = u32::from(by == TransmitChecksums::Device);
    ask(name, &mut ValueRequest { command: SET_TRANSMIT_CHECKSUMS, value })
}

fn ask<T>(name: &IfName, request: &mut T) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` consists of integers and a union of integers and a pointer, for all of which zero is a value.
    let mut outer: libc::ifreq = unsafe { std::mem::zeroed() };
    outer.ifr_name = name.as_ifr_name();
    outer.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast::<c_char>();
    // SAFETY: SIOCETHTOOL reads `outer` and, behind its data pointer, reads and writes the structure that belongs to the
    // command in its first word; the callers pass that structure in its full length, and it outlives the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, std::ptr::from_mut(&mut outer)) };
    check(result).map(drop)
}

fn text(bytes: &[u8]) -> String {
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..length).unwrap_or(&[])).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Netlink;
    use crate::scratch::{Scratch, unique};
    use crate::tap::{TapOpen, TapQueue, TapQueues};

    #[test]
    fn structures_are_as_long_as_the_kernel_s() {
        assert_eq!(size_of::<DriverRequest>(), 196);
        assert_eq!(size_of::<SettingsRequest>(), 44);
        assert_eq!(size_of::<ValueRequest>(), 8);
    }

    #[test]
    fn a_veth_can_be_made_to_get_complete_frames() {
        Scratch::new().run(|| {
            let [left, right] = ["left", "right"].map(|name| IfName::new(name).unwrap());
            Netlink::open().unwrap().create_veth(&left, &right).unwrap();
            for by in [TransmitChecksums::Kernel, TransmitChecksums::Device] {
                set_transmit_checksums(&left, by).unwrap();
                assert_eq!(transmit_checksums(&left).unwrap(), by);
                assert_eq!(transmit_checksums(&right).unwrap(), TransmitChecksums::Device);
            }
        });
    }

    #[test]
    fn drivers_name_themselves() {
        Scratch::new().run(|| {
            let tap = unique("tap");
            let _queue = TapQueue::open(&tap, TapQueues::Single, TapOpen::CreateNew).unwrap();
            assert_eq!(driver(&tap).unwrap().driver, "tun");
            assert_eq!(wire_settings(&tap).unwrap().duplex, Some(Duplex::Full));
            let [left, right] = ["left", "right"].map(|name| IfName::new(name).unwrap());
            Netlink::open().unwrap().create_veth(&left, &right).unwrap();
            assert_eq!(driver(&left).unwrap().driver, "veth");
            // veth_get_link_ksettings() says 10 Gbit/s.
            assert_eq!(wire_settings(&left).unwrap().speed_mbps, Some(10_000));
            let error = driver(&IfName::new("absent").unwrap()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        });
    }
}
