//! The kernel's VXLAN device, one for all tunnels of a UDP port (`external` of ip-link(8)): it makes and takes off the outer
//! headers, cuts super-frames late and joins segments early.
//!
//! Where a frame goes, and where one came from, is said beside it by a [`TunnelKey`]. Two programs attached to the device (tcx,
//! Linux 6.6) see to that. What is to be sent goes by a packet socket, each frame under a mark that is the number of the memory
//! where its key lies; memory and mark are of the sender alone, and the program has read the key when the call that sends returns. What is received gets
//! its key put in front ([`Arrival`]) and is redirected into another device, by which it is read.
//!
//! That other device is also what the VXLAN device is said to lie on, though it has no part in sending: so the kernel removes
//! the VXLAN device with it, and if it is a TAP that nobody else holds, nothing is left of either when the process ends,
//! however it ends.
//!
//! Not here: that other device, and any look into the frames.

mod key;
mod program;
mod slots;

use std::io;
use std::sync::Arc;

use crate::bpf::{Hook, Link};
use crate::interface::{IfIndex, IfName};
use crate::netlink::{self, AdminState, LinkChange, Netlink, NetlinkError, VxlanSpec};
use crate::packet_socket::{FRAMES_MAX, PacketSocket};
use slots::{KeyRange, KeyTable};

pub use key::{Arrival, PREFIX_LEN, TunnelKey};
pub use slots::SENDERS_MAX;

/// The text on the device, for people.
const ALIAS: &str = "VXLAN tunnels of tapestry";

/// Bytes by which the device below has to be able to carry longer packets than the VXLAN device: outer IPv6, UDP, VXLAN and inner
/// Ethernet headers.
const HEADERS_LEN: u32 = 40 + 8 + 8 + 14;

/// The longest packet that received segments are joined to: with its Ethernet header, two VLAN tags, VXLAN, UDP and an IPv4 header
/// around it, it is still one that IPv4 can carry, so whoever reads it can put headers before it again.
pub const JOINED_MAX: u32 = 65_535 - (20 + 8 + 8 + 14 + 8);

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum VxlanError {
    /// Making or changing it.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// One of its programs, or its socket.
    #[error("{operation}: {source}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl VxlanError {
    /// Whether the name or the UDP port belongs to somebody.
    pub fn is_in_use(&self) -> bool {
        let busy = [Some(libc::EEXIST), Some(libc::EADDRINUSE)];
        matches!(self, VxlanError::Netlink(error) if busy.contains(&error.errno()))
    }
}

/// A VXLAN device and its programs. Dropping it deletes the device.
#[derive(Debug)]
pub struct VxlanDevice {
    index: IfIndex,
    /// For the namespace where it is.
    netlink: Netlink,
    links: Vec<Link>,
    keys: Arc<KeyTable>,
    socket: Option<Arc<PacketSocket>>,
}

impl VxlanDevice {
    /// Makes the device `name` in the calling thread's namespace and switches it on: it receives at UDP port `port`, over IPv4 and
    /// IPv6, what is then sent by the device `outlet`.
    ///
    /// # Errors
    /// [`VxlanError`]; nothing is left of it.
    pub fn create(name: &IfName, port: u16, outlet: IfIndex) -> Result<VxlanDevice, VxlanError> {
        let mut netlink = Netlink::open()?;
        let below = netlink.link_by_index(outlet)?;
        let mtu = below.map_or(0, |link| link.mtu).saturating_sub(HEADERS_LEN);
        netlink.create_vxlan(name, &VxlanSpec { port, below: outlet })?;
        let link = netlink.link_by_name(name)?;
        let index = link.map(|link| link.index).ok_or_else(|| refused("vxlan device")(gone()))?;
        let keys = KeyTable::create().map_err(refused("map of tunnel keys"));
        // From here on it is deleted if anything fails.
        let mut device = match keys {
            Ok(keys) => VxlanDevice { index, netlink, links: Vec::new(), keys: Arc::new(keys), socket: None },
            Err(error) => {
                let _ = netlink.delete(index);
                return Err(error);
            }
        };
        device.netlink.keep_silent(index);
        let change = LinkChange::default().mtu(mtu).alias(ALIAS).gro_max(JOINED_MAX + 1);
        device.netlink.change(index, &change)?;
        let ingress = program::ingress(outlet);
        let egress = program::egress(device.keys.map().number());
        for (hook, name, code) in [
            (Hook::TcxIngress, &b"tapestry_vx_in"[..], &ingress[..]),
            (Hook::TcxEgress, &b"tapestry_vx_out"[..], &egress[..]),
        ] {
            let link = Link::attach(hook, index, 0, name, code).map_err(refused("tcx program"))?;
            device.links.push(link);
        }
        let socket = PacketSocket::sender(index).map_err(refused("packet socket"))?;
        device.socket = Some(Arc::new(socket));
        device.netlink.change(index, &LinkChange::default().admin(AdminState::Up))?;
        Ok(device)
    }

    /// One more that can send, for one thread.
    ///
    /// # Errors
    /// If there are [`SENDERS_MAX`] already.
    pub fn new_sender(&self) -> io::Result<VxlanSender> {
        let socket = self.socket.clone().ok_or_else(gone)?;
        Ok(VxlanSender { socket, keys: KeyTable::take_range(&self.keys)? })
    }

    /// The device as it is; `None` when it has been deleted, or one of its programs has been taken off.
    ///
    /// # Errors
    /// [`NetlinkError`].
    pub fn link(&mut self) -> Result<Option<netlink::Link>, NetlinkError> {
        if !self.links.iter().all(|link| link.is_attached().unwrap_or(true)) {
            return Ok(None);
        }
        self.netlink.link_by_index(self.index)
    }
}

impl Drop for VxlanDevice {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.netlink.delete(self.index);
    }
}

fn refused(operation: &'static str) -> impl Fn(io::Error) -> VxlanError {
    move |source| VxlanError::Refused { operation, source }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

/// What one thread sends by. Non-blocking.
#[derive(Debug)]
pub struct VxlanSender {
    socket: Arc<PacketSocket>,
    keys: KeyRange,
}

impl VxlanSender {
    /// Sends frames in order, at most [`FRAMES_MAX`], each where its key says and behind the [`PACKET_HEADER_LENGTH`] bytes of
    /// its virtio-net header. Says how many were sent. What the device does not pass on, for want of a route perhaps, it only
    /// counts.
    ///
    /// # Errors
    /// As [`PacketSocket::send_many`].
    ///
    /// [`PACKET_HEADER_LENGTH`]: crate::vnet::PACKET_HEADER_LENGTH
    pub fn send<'f>(
        &mut self,
        frames: impl IntoIterator<Item = (&'f TunnelKey, &'f [u8])>,
    ) -> io::Result<usize> {
        let keys = &mut self.keys;
        let marked = frames
            .into_iter()
            .take(FRAMES_MAX)
            .enumerate()
            .map(|(at, (key, frame))| (keys.put(at, key), frame));
        self.socket.send_marked(marked)
    }
}

#[cfg(test)]
mod tests;
