//! What the ports that stand for netdevs have in common: asking and changing the device where it is.

use super::{DeviceChange, KernelCounters, LinkReport, PortConfigError, PortError};
use sys::ethtool::{self, Duplex};
use sys::netlink::{AdminState, Link, LinkChange, LinkStats, Netlink};
use sys::netns::{Netns, run_in};
use sys::{IfIndex, IfName};

/// Whose point of view the kernel's counters are from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Viewpoint {
    /// The device is ours, as it is the kernel's: what it receives we receive.
    Same,
    /// The device is the other end of our wire (TAP): what it receives we have sent.
    Opposite,
}

/// How to find the device.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Name(IfName),
    Index(IfIndex),
}

/// Runs `work` with a netlink socket for `netns`; on another thread if the calling one is elsewhere.
fn within<T: Send>(
    netns: &Netns,
    work: impl FnOnce(&mut Netlink, bool) -> Result<T, PortConfigError> + Send,
) -> Result<T, PortConfigError> {
    if *netns == Netns::current()? {
        work(&mut Netlink::open()?, false)
    } else {
        run_in(netns, || work(&mut Netlink::open()?, true))?
    }
}

fn find(netlink: &mut Netlink, key: Key) -> Result<Link, PortConfigError> {
    let (found, text) = match key {
        Key::Name(name) => (netlink.link_by_name(&name)?, name.to_string()),
        Key::Index(index) => (netlink.link_by_index(index)?, format!("interface {index}")),
    };
    found.ok_or(PortConfigError::NoDevice(text))
}

pub(super) fn report(netns: &Netns, key: Key, viewpoint: Viewpoint) -> Result<LinkReport, PortError> {
    let report = within(netns, |netlink, elsewhere| {
        let link = find(netlink, key)?;
        // Virtual devices need not answer.
        let driver = ethtool::driver(&link.name).unwrap_or_default();
        let wire = ethtool::wire_settings(&link.name).unwrap_or_default();
        Ok(LinkReport {
            name: link.name.to_string(),
            ifindex: Some(link.index.get()),
            mac: link.mac,
            mtu: Some(link.mtu),
            admin_up: link.admin == AdminState::Up,
            carrier: link.carrier,
            carrier_changes: u64::from(link.carrier_changes),
            speed_mbps: wire.speed_mbps,
            full_duplex: wire.duplex.map(|duplex| duplex == Duplex::Full),
            driver: driver.driver,
            xdp_mode: None,
            elsewhere,
            kernel: Some(counters(&link.stats, viewpoint)),
        })
    });
    report.map_err(|error| match error {
        PortConfigError::NoDevice(_) => PortError::Gone,
        other => PortError::Io(std::io::Error::other(other)),
    })
}

pub(super) fn change(netns: &Netns, key: Key, change: DeviceChange) -> Result<(), PortConfigError> {
    within(netns, |netlink, _| {
        let index = find(netlink, key)?.index;
        let wanted = LinkChange::default();
        let wanted = match change {
            DeviceChange::Admin { up: true } => wanted.admin(AdminState::Up),
            DeviceChange::Admin { up: false } => wanted.admin(AdminState::Down),
            DeviceChange::Mtu(mtu) => wanted.mtu(mtu),
            DeviceChange::Mac(mac) => wanted.mac(mac),
            DeviceChange::Alias(text) => wanted.alias(&text),
        };
        Ok(netlink.change(index, &wanted)?)
    })
}

fn counters(stats: &LinkStats, viewpoint: Viewpoint) -> KernelCounters {
    let same = KernelCounters {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        rx_dropped: stats.rx_dropped,
        rx_errors: stats.rx_errors,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        tx_dropped: stats.tx_dropped,
        tx_errors: stats.tx_errors,
        collisions: stats.collisions,
        rx_crc_errors: stats.rx_crc_errors,
        rx_frame_errors: stats.rx_frame_errors,
        rx_over_errors: stats.rx_over_errors,
    };
    match viewpoint {
        Viewpoint::Same => same,
        Viewpoint::Opposite => KernelCounters {
            rx_packets: same.tx_packets,
            rx_bytes: same.tx_bytes,
            rx_dropped: same.tx_dropped,
            rx_errors: same.tx_errors,
            tx_packets: same.rx_packets,
            tx_bytes: same.rx_bytes,
            tx_dropped: same.rx_dropped,
            tx_errors: same.rx_errors,
            ..same
        },
    }
}

/// Finds the netdev of this name in the calling thread's namespace and gives it the MTU and the state that are asked for.
/// `check` has a say in the MTU, also where it stays as it is.
///
/// # Errors
/// [`PortConfigError::NoDevice`], [`PortConfigError::NotEthernet`], what `check` said, or what the kernel refused.
pub(super) fn prepare(
    name: &IfName,
    (mtu, admin): (Option<u32>, Option<AdminState>),
    check: impl FnOnce(u32) -> Result<(), PortConfigError>,
) -> Result<IfIndex, PortConfigError> {
    let mut netlink = Netlink::open()?;
    let missing = || PortConfigError::NoDevice(name.to_string());
    let link = netlink.link_by_name(name)?.ok_or_else(missing)?;
    if link.mac.is_none() {
        return Err(PortConfigError::NotEthernet(name.to_string()));
    }
    check(mtu.unwrap_or(link.mtu))?;
    let mut change = LinkChange::default();
    if let Some(mtu) = mtu {
        change = change.mtu(mtu);
    }
    if let Some(admin) = admin {
        change = change.admin(admin);
    }
    netlink.change(link.index, &change)?;
    Ok(link.index)
}
