//! A VXLAN tunnel port on the kernel's VXLAN device (`vxlan_sys_4789`, as with Open vSwitch's kernel datapath): the kernel makes
//! and takes off outer headers, cuts super-frames late and joins segments early.
//!
//! To workers such a port is as one on sockets ([`tunnel_socket`](super::tunnel_socket)): its frames begin with complete outer
//! headers in both directions. What is sent has them taken off, and what they say is given to the device beside the inner frame;
//! what was received gets them back. So everything that tunnels are configured by works the same, but for what the kernel
//! decides itself: the congestion mark (RFC 3168), the source port, reserved flags.
//!
//! Frames are received by a TAP of ours ([`sys::vxlan`]), whose name is the port's with `tap` for `sys`. Both devices are gone
//! when the port is dropped or the process ends.

mod rx;
mod tx;

use super::tap::{TapConfig, TapPort};
use super::{DeviceChange, KernelCounters, LinkReport, Port, PortConfigError, PortError, Rx, RxLoss, Tx};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sys::netlink::{AdminState, LinkChange, LinkStats, Netlink};
use sys::tap::{TapLifetime, TapOpen};
use sys::vxlan::{VxlanDevice, VxlanError};
use sys::{IfIndex, IfName};

/// The most that a TAP allows, so that what it carries is limited by the path alone.
const TAP_MTU: u32 = 65_521;

/// How a tunnel port on the kernel's VXLAN device is to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelDeviceConfig {
    /// Name of the VXLAN device.
    pub name: IfName,
    /// Name of the TAP behind it.
    pub tap: IfName,
    /// UDP port to receive at and to send to.
    pub port: u16,
    /// Whether to read several frames with one system call, by io_uring, if the kernel has it.
    pub io_uring: bool,
}

/// A tunnel port on a VXLAN device of the calling thread's namespace.
#[derive(Debug)]
pub struct TunnelDevicePort {
    config: TunnelDeviceConfig,
    tap: TapPort,
    tap_index: IfIndex,
    /// For the namespace of both devices.
    netlink: Netlink,
    device: VxlanDevice,
    /// Of the receiving sides.
    loss: Arc<RxLoss>,
    /// What the devices lost, written here.
    device_loss: Arc<RxLoss>,
    seen: Seen,
    undelivered: Arc<AtomicU64>,
}

/// What the devices were last seen to have lost.
#[derive(Debug, Default)]
struct Seen {
    unreadable: u64,
    overflow: u64,
    unsent: u64,
}

impl TunnelDevicePort {
    /// Makes the devices and switches them on.
    ///
    /// # Errors
    /// [`PortConfigError::Refused`] when the kernel cannot (before Linux 6.6, or without VXLAN) or may not (without
    /// `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_BPF`), [`PortConfigError::InUse`] when somebody has a name or the UDP port. Nothing is left of them.
    pub fn open(config: &TunnelDeviceConfig) -> Result<TunnelDevicePort, PortConfigError> {
        let TunnelDeviceConfig { name, port, .. } = config;
        let tap = TapPort::open(&TapConfig {
            open: TapOpen::CreateNew,
            lifetime: TapLifetime::UntilClosed,
            mtu: Some(TAP_MTU),
            io_uring: config.io_uring,
            ..TapConfig::new(config.tap)
        })?;
        let mut netlink = Netlink::open()?;
        let missing = || PortConfigError::NoDevice(config.tap.to_string());
        let tap_index = netlink.link_by_name(&config.tap)?.ok_or_else(missing)?.index;
        netlink.keep_silent(tap_index);
        netlink.change(tap_index, &LinkChange::default().admin(AdminState::Up))?;
        let device = VxlanDevice::create(name, *port, tap_index).map_err(|error| match error {
            error if error.is_in_use() => PortConfigError::InUse(error.to_string()),
            VxlanError::Netlink(error) => error.into(),
            VxlanError::Refused { operation, source } => PortConfigError::Refused { operation, source },
        })?;
        Ok(TunnelDevicePort {
            config: config.clone(),
            tap,
            tap_index,
            netlink,
            device,
            loss: Arc::default(),
            device_loss: Arc::default(),
            seen: Seen::default(),
            undelivered: Arc::default(),
        })
    }

    /// Takes what the devices have lost since the last look into our counters.
    fn account(&mut self, device: &LinkStats, tap: &KernelCounters) {
        let Seen { unreadable, overflow, unsent } = &mut self.seen;
        let since = |seen: &mut u64, now: u64| now.saturating_sub(std::mem::replace(seen, now));
        // Reserved flags, a congestion mark that contradicts the inner packet's, a bad length.
        self.device_loss.unreadable.add(since(unreadable, device.rx_errors));
        self.device_loss.overflow.add(since(overflow, device.rx_dropped + tap.rx_dropped));
        // No route, most of all.
        self.undelivered.fetch_add(since(unsent, device.tx_errors + device.tx_dropped), Ordering::Relaxed);
    }
}

impl Drop for TunnelDevicePort {
    fn drop(&mut self) {
        // At once, so that both names and the UDP port are free: the kernel takes its time to let go of what a ring of a worker's
        // had open. The VXLAN device goes with it. Either may be gone already.
        let _ = self.netlink.delete(self.tap_index);
    }
}

impl Port for TunnelDevicePort {
    fn take_rx(&mut self) -> Vec<Box<dyn Rx>> {
        let wrap = |tap| -> Box<dyn Rx> {
            Box::new(rx::DeviceRx::new(tap, Arc::clone(&self.loss), self.config.port))
        };
        self.tap.take_rx().into_iter().map(wrap).collect()
    }

    fn new_tx(&mut self) -> Result<Box<dyn Tx>, PortError> {
        let sender = self.device.new_sender()?;
        Ok(Box::new(tx::DeviceTx::new(sender, self.config.port, Arc::clone(&self.undelivered))))
    }

    fn link(&mut self) -> Result<LinkReport, PortError> {
        let Some(link) = self.device.link().map_err(io::Error::other)? else {
            // Whoever comes next finds both names free.
            let _ = self.netlink.delete(self.tap_index);
            return Err(PortError::Gone);
        };
        let tap = self.tap.link()?.kernel.unwrap_or_default();
        self.account(&link.stats, &tap);
        let is_up = link.admin == AdminState::Up;
        Ok(LinkReport {
            name: self.config.name.to_string(),
            ifindex: Some(link.index.get()),
            mtu: Some(sys::tunnel_socket::PAYLOAD_MAX as u32),
            admin_up: is_up,
            carrier: is_up,
            driver: "vxlan".to_owned(),
            kernel: Some(KernelCounters {
                rx_packets: link.stats.rx_packets,
                rx_bytes: link.stats.rx_bytes,
                rx_errors: link.stats.rx_errors,
                rx_dropped: link.stats.rx_dropped + tap.rx_dropped,
                tx_packets: link.stats.tx_packets,
                tx_bytes: link.stats.tx_bytes,
                tx_errors: link.stats.tx_errors,
                tx_dropped: link.stats.tx_dropped,
                ..KernelCounters::default()
            }),
            ..LinkReport::default()
        })
    }

    fn change(&mut self, _: DeviceChange) -> Result<(), PortConfigError> {
        Err(PortConfigError::Unsupported("device to change"))
    }

    fn losses(&self) -> Vec<Arc<RxLoss>> {
        vec![Arc::clone(&self.loss), Arc::clone(&self.device_loss)]
    }

    fn discard(&mut self) -> Result<(), PortError> {
        // The devices go in any case.
        Ok(())
    }
}
